//! Tests of the documentation: the commands of its pages run, and the files, functions, commands and messages that its
//! pages name exist.
//!
//! The blocks of a page that are marked `sh` run in order, in one shell, against a running service. A block marked
//! `sh elsewhere` needs something that a test does not have (a cluster, a GPU, minutes of building), so only the names
//! in it are checked.

mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use page::{Block, pages, root};
use tests::{Service, program};

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_pages_runs() {
    for page in pages() {
        let blocks: Vec<Block> = page.blocks().into_iter().filter(|block| block.info == "sh").collect();
        if blocks.is_empty() {
            continue;
        }
        let service = Service::start().await;
        let home = service.home().join("user");
        let share = home.join(".local/share");
        std::fs::create_dir_all(&share).expect("a home for the user");
        std::os::unix::fs::symlink(service.home(), share.join("lamina")).expect("a link to the service");
        for name in ["examples", "deploy"] {
            std::os::unix::fs::symlink(root().join(name), home.join(name)).expect("a link to the repository");
        }
        let mut script = String::from("set -euo pipefail\ntrap 'echo \"the block at line $block failed\"' ERR\n");
        for block in &blocks {
            // The page names the default address. The service of this test has another port.
            let text = block.text.replace("http://localhost:8642", service.url());
            script.push_str(&format!("block={}\n{text}", block.line));
        }
        let programs = program("lamina").parent().expect("a folder").to_owned();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let output = tokio::process::Command::new("bash")
            .args(["-c", &script])
            .current_dir(&home)
            .env("HOME", &home)
            .env("PATH", path)
            .env_remove("XDG_DATA_HOME")
            .stdin(Stdio::null())
            .output()
            .await
            .expect("bash starts");
        let end = |bytes: &[u8]| String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(2000)..]).into_owned();
        let (out, err) = (end(&output.stdout), end(&output.stderr));
        assert!(
            output.status.success(),
            "the commands of {} failed with {}:\n{out}\n{err}",
            page.path.display(),
            output.status
        );
    }
}

#[test]
fn every_local_link_leads_to_an_existing_file_or_heading() {
    let pages = pages();
    for page in &pages {
        let folder = page.path.parent().expect("a page lies in a folder");
        for (line, target) in page.links() {
            let at = format!("{}, line {line}: {target}", page.path.display());
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.path.clone() } else { resolved(&folder.join(file)) };
            assert!(root().join(&path).exists(), "{at}: there is no such file");
            let wanted = pages.iter().find(|page| page.path == path);
            assert!(
                anchor.is_empty() || wanted.is_some_and(|page| page.anchors().iter().any(|found| found == anchor)),
                "{at}: there is no such heading"
            );
        }
    }
}

/// A path such as `api/src/router.rs` names a file or folder. `api/src/router.rs::routes` names an item that the file
/// defines.
#[test]
fn every_file_and_function_that_a_page_names_exists() {
    let tops = ["api/", "scheduler/", "trainer/", "migrations/", "deploy/", "tests/", "docs/", "examples/", ".ci/"];
    for page in pages() {
        for (line, span) in page.code() {
            if !tops.iter().any(|top| span.starts_with(top)) || span.contains([' ', '*', '{']) {
                continue;
            }
            let at = format!("{}, line {line}: `{span}`", page.path.display());
            let (file, name) = span.split_once("::").unwrap_or((span, ""));
            let path = root().join(file);
            assert!(path.exists(), "{at}: there is no such file");
            if !name.is_empty() {
                let source = std::fs::read_to_string(&path).expect("a readable file");
                assert!(defines(&source, name), "{at}: the file defines no `{name}`");
            }
        }
    }
}

#[test]
fn every_make_target_that_a_page_names_exists() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("a Makefile");
    let targets: BTreeSet<&str> =
        makefile.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
    for page in pages() {
        for (line, command) in page.commands() {
            if let Some(rest) = command.strip_prefix("make ") {
                let target = rest.split_whitespace().next().unwrap_or_default();
                assert!(
                    targets.contains(target),
                    "{}, line {line}: the Makefile has no target {target}",
                    page.path.display()
                );
            }
        }
    }
}

#[test]
fn every_subcommand_and_flag_that_a_page_names_exists() {
    let mut helps = BTreeMap::new();
    for page in pages() {
        for (line, command) in page.commands() {
            for (name, arguments) in calls(&command) {
                let at = format!("{}, line {line}: {command}", page.path.display());
                let depth = if matches!(arguments.first().copied(), Some("data" | "token")) { 2 } else { 1 };
                let subcommand: Vec<&str> =
                    arguments.iter().copied().take_while(|word| !word.starts_with('-')).take(depth).collect();
                let key = format!("{name} {}", subcommand.join(" "));
                let help = helps.entry(key).or_insert_with(|| help(name, &subcommand));
                let help = help.as_ref().unwrap_or_else(|| panic!("{at}: there is no such command"));
                for flag in arguments.iter().filter(|word| word.starts_with("--")) {
                    let flag = flag.split('=').next().unwrap_or_default();
                    assert!(help.contains(flag), "{at}: the command has no option {flag}");
                }
            }
        }
    }
}

/// Each heading of the third level on the page is a message. In it, `…` stands for a part that varies.
#[test]
fn every_message_of_the_troubleshooting_page_is_in_the_sources() {
    let mut sources = String::new();
    for folder in ["api/src", "api/dashboard/src", "scheduler", "trainer", "deploy"] {
        read_sources(&root().join(folder), &mut sources);
    }
    let page = pages().into_iter().find(|page| page.path == Path::new("docs/troubleshooting.md"));
    let page = page.expect("a troubleshooting page");
    let mut messages = 0;
    for (line, heading) in page.prose().into_iter().filter(|(_, line)| line.starts_with("### ")) {
        let message = heading.trim_start_matches("### ").trim_matches('`');
        for part in message.split('…').map(str::trim).filter(|part| part.len() > 3) {
            assert!(sources.contains(part), "docs/troubleshooting.md, line {line}: no source contains {part:?}");
        }
        messages += 1;
    }
    assert!(messages > 20, "the test found only {messages} messages");
}

#[test]
fn the_page_of_jobs_names_every_schedule() {
    let page = std::fs::read_to_string(root().join("docs/jobs.md")).expect("the page");
    let row = page.lines().find(|line| line.starts_with("| `layer_drop.schedule`")).expect("the row of the schedule");
    for schedule in recipe::Schedule::ALL {
        assert!(row.contains(&format!("`{}`", schedule.name())), "docs/jobs.md does not name {}", schedule.name());
    }
}

#[test]
fn the_crates_depend_on_each_other_as_the_architecture_page_says() {
    let folders = [
        ("agent", "scheduler/agent"),
        ("api", "api"),
        ("images", "trainer/images"),
        ("protocol", "scheduler/protocol"),
        ("recipe", "trainer/recipe"),
        ("report", "scheduler/report"),
        ("scheduler", "scheduler"),
        ("texts", "trainer/texts"),
        ("trainer", "trainer"),
    ];
    let mut actual = BTreeMap::new();
    for (name, folder) in folders {
        let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let section =
            manifest.split("[dependencies]\n").nth(1).unwrap_or_default().split("\n[").next().unwrap_or_default();
        let needed: BTreeSet<&str> = section.lines().filter_map(|line| line.split(['.', ' ']).next()).collect();
        let ours: Vec<&str> = folders.map(|(name, _)| name).into_iter().filter(|name| needed.contains(name)).collect();
        if !ours.is_empty() {
            actual.insert(name.to_owned(), ours.join(", "));
        }
    }
    let page = std::fs::read_to_string(root().join("docs/architecture.md")).expect("the page");
    let drawn = page.lines().filter_map(|line| line.split_once("-->"));
    let drawn: BTreeMap<String, String> =
        drawn.map(|(name, needs)| (name.trim().to_owned(), needs.trim().to_owned())).collect();
    assert_eq!(drawn, actual, "docs/architecture.md (left) differs from the manifests (right)");
}

/// Whether a Rust, SQL, C++ or TypeScript source defines `name`. If `name` is `Type::method`, only the method is looked
/// for.
fn defines(source: &str, name: &str) -> bool {
    let name = name.rsplit("::").next().unwrap_or(name);
    let words =
        ["fn", "struct", "enum", "trait", "const", "static", "type", "mod", "table", "function", "macro_rules!"];
    let is_boundary = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    words.iter().any(|word| {
        let wanted = format!("{word} {name}");
        source.match_indices(&wanted).any(|(at, _)| is_boundary(source[at + wanted.len()..].chars().next()))
    })
}

/// The calls of `lamina` and `lamina-trainer` in a line of shell: name of the program, arguments.
fn calls(command: &str) -> Vec<(&'static str, Vec<&str>)> {
    let words: Vec<&str> = command.split_whitespace().map(|word| word.trim_start_matches("$(")).collect();
    let mut calls = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let starts = index == 0 || words[index - 1].ends_with(['|', ';', '&', '=']) || words[index - 1].contains('=');
        let Some(name) = ["lamina", "lamina-trainer"].into_iter().find(|name| name == word) else { continue };
        if starts {
            let rest = words[index + 1..].iter().take_while(|word| !matches!(**word, "|" | "&&" | ";" | "&" | ">"));
            calls.push((name, rest.map(|word| word.trim_end_matches([')', ';'])).collect()));
        }
    }
    calls
}

/// The help text of a subcommand; `None` if the program has no such subcommand.
fn help(name: &str, subcommand: &[&str]) -> Option<String> {
    let output = Command::new(program(name)).args(subcommand).arg("--help").output().expect("the program starts");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Appends every source below `folder` to `sources`. A string that continues on the next line is joined.
fn read_sources(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path
            .extension()
            .is_some_and(|ending| ["rs", "sh", "ts", "svelte"].iter().any(|known| ending == *known))
        {
            let text = std::fs::read_to_string(&path).expect("a readable source");
            for line in text.lines() {
                match line.strip_suffix('\\') {
                    Some(line) => sources.push_str(line.trim_start()),
                    None => {
                        sources.push_str(line.trim_start());
                        sources.push('\n');
                    }
                }
            }
        }
    }
}

/// The path with `.` and `..` resolved.
fn resolved(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => assert!(resolved.pop(), "{} leaves the repository", path.display()),
            std::path::Component::CurDir => {}
            other => resolved.push(other),
        }
    }
    resolved
}
