//! Makes the files of MRPC. The licence of its data does not allow GLUE to publish the task's three files, so they are
//! made from the original files and GLUE's list of the pairs in dev.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const TEST_HEADER: &str = "index\t#1 ID\t#2 ID\t#1 String\t#2 String";

/// Writes `train.tsv`, `dev.tsv` and `test.tsv` to `into`, with copies of the files that they are made from.
pub(super) fn assemble(train: &Path, test: &Path, dev_ids: &Path, into: &Path) -> Result<()> {
    let [train_text, test_text, ids_text] = [read(train)?, read(test)?, read(dev_ids)?];
    let dev: HashSet<(&str, &str)> = ids_text.lines().filter_map(|line| line.trim().split_once('\t')).collect();
    ensure!(!dev.is_empty(), "{} lists no pairs", dev_ids.display());

    let mut lines = train_text.lines();
    // The header keeps its byte-order mark, as in the official files.
    let header = lines.next().context("the training file is empty")?;
    let (mut train_rows, mut dev_rows) = (vec![header.to_owned()], vec![header.to_owned()]);
    for (number, line) in lines.enumerate() {
        let fields = fields(line).with_context(|| format!("{}, line {}", train.display(), number + 2))?;
        let rows = if dev.contains(&(fields[1], fields[2])) { &mut dev_rows } else { &mut train_rows };
        rows.push(fields.join("\t"));
    }
    let mut test_rows = vec![TEST_HEADER.to_owned()];
    for (number, line) in test_text.lines().skip(1).enumerate() {
        let fields = fields(line).with_context(|| format!("{}, line {}", test.display(), number + 2))?;
        test_rows.push(format!("{number}\t{}", fields[1..].join("\t")));
    }
    for (name, rows) in [("train.tsv", train_rows), ("dev.tsv", dev_rows), ("test.tsv", test_rows)] {
        fs::write(into.join(name), rows.join("\n") + "\n")?;
    }
    for (name, text) in
        [("msr_paraphrase_train.txt", train_text), ("msr_paraphrase_test.txt", test_text), ("dev_ids.tsv", ids_text)]
    {
        fs::write(into.join(name), text)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {} as UTF-8 text", path.display()))
}

/// The fields of a line: label, two ids, two sentences.
fn fields(line: &str) -> Result<[&str; 5]> {
    let fields: Vec<&str> = line.trim().split('\t').collect();
    let found = fields.len();
    fields.try_into().map_err(|_| anyhow::anyhow!("the line has {found} fields, not 5"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listed_pairs_become_dev_and_the_test_set_loses_its_labels() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        let header = "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String";
        let train = write("train", &format!("{header}\r\n1\t10\t11\ta \"b\tc\r\n0\t12\t13\td\te\r\n"));
        let test = write("test", &format!("{header}\n1\t20\t21\tf\tg\n"));
        let ids = write("ids", "12\t13\n");
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        assemble(&train, &test, &ids, &out).unwrap();
        let made = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(made("train.tsv"), format!("{header}\n1\t10\t11\ta \"b\tc\n"));
        assert_eq!(made("dev.tsv"), format!("{header}\n0\t12\t13\td\te\n"));
        assert_eq!(made("test.tsv"), "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t20\t21\tf\tg\n");
    }

    #[test]
    fn the_error_about_a_broken_line_has_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "header\n1\t2\t3\n").unwrap();
        let error = assemble(&path, &path, &path, folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains("line 2: the line has 3 fields, not 5"), "{error:#}");
    }
}
