//! The parts of a Markdown page that these tests read.

use std::path::{Path, PathBuf};

/// One page.
pub(crate) struct Page {
    /// The path relative to the repository.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A fenced block.
pub(crate) struct Block {
    /// The number of the first line inside the block.
    pub(crate) line: usize,
    /// The text after the opening fence, such as `sh elsewhere`.
    pub(crate) info: String,
    pub(crate) text: String,
}

/// The folder of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the repository")
}

/// Every page of the documentation: the Markdown files of the top folder and of docs/.
pub(crate) fn pages() -> Vec<Page> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "docs/decisions"] {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(root().join(folder))
            .unwrap_or_else(|error| panic!("{folder}: {error}"))
            .map(|entry| entry.expect("a readable folder").path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
            .collect();
        paths.sort();
        pages.extend(paths.into_iter().map(|path| Page {
            text: std::fs::read_to_string(&path).expect("a readable page"),
            path: path.strip_prefix(root()).expect("a path in the repository").to_owned(),
        }));
    }
    pages
}

impl Page {
    /// The fenced blocks.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut open) = (Vec::new(), None::<Block>);
        for (index, line) in self.text.lines().enumerate() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(info), None) => {
                    open = Some(Block { line: index + 2, info: info.to_owned(), text: String::new() });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.path.display());
        blocks
    }

    /// The lines outside fenced blocks, with their numbers.
    pub(crate) fn prose(&self) -> Vec<(usize, &str)> {
        let mut inside = false;
        let mut prose = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            if line.starts_with("```") {
                inside = !inside;
            } else if !inside {
                prose.push((index + 1, line));
            }
        }
        prose
    }

    /// The texts between backticks, each with its line number.
    pub(crate) fn code(&self) -> Vec<(usize, &str)> {
        self.prose()
            .into_iter()
            .flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |span| (number, span)))
            .collect()
    }

    /// The lines of `sh` blocks (continued lines joined) and the texts between backticks, each with its line number.
    pub(crate) fn commands(&self) -> Vec<(usize, String)> {
        let mut commands: Vec<(usize, String)> =
            self.code().into_iter().map(|(number, span)| (number, span.to_owned())).collect();
        for block in self.blocks().iter().filter(|block| block.info.split(' ').next() == Some("sh")) {
            for (index, line) in block.text.replace("\\\n", " ").lines().enumerate() {
                let line = line.split(" #").next().unwrap_or_default();
                commands.push((block.line + index, line.to_owned()));
            }
        }
        commands
    }

    /// The targets of the links and pictures that lead to files of the repository, each with its line number.
    pub(crate) fn links(&self) -> Vec<(usize, &str)> {
        self.prose()
            .into_iter()
            .flat_map(|(number, line)| line.split("](").skip(1).map(move |rest| (number, rest)))
            .filter_map(|(number, rest)| Some((number, rest.split(')').next()?)))
            .filter(|(_, target)| !target.starts_with("http"))
            .collect()
    }

    /// The names that GitHub gives the headings in links.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let anchor = |heading: &str| {
            let kept = heading.to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.collect::<String>().replace(' ', "-")
        };
        let headings = self.prose().into_iter().filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
    }
}
