//! This module checks file names from elsewhere before they become paths here.

use std::path::{Path, PathBuf};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error(
        "{0:?} is not a plain file name: such a name has 1 to 255 ASCII letters, digits, '.', '_' or '-', and does not \
         start with '.'"
    )]
    NotPlain(String),
    #[error(
        "{0:?} is not a path inside a folder: its parts, joined by '/', must not be empty, '.' or '..', and must not \
         contain a backslash or a control character"
    )]
    NotInside(String),
}

/// Returns the name of a file of a checkpoint or of predictions, if it is a plain one. Lamina itself chooses these
/// names, so a narrow rule is enough.
pub(crate) fn plain_name(name: &str) -> Result<&str, NameError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(allowed) {
        Ok(name)
    } else {
        Err(NameError::NotPlain(name.to_owned()))
    }
}

/// Returns the path of a dataset's file or a checkpoint's folder in `folder`. People choose the names of dataset files,
/// so every script is accepted. A path is refused if one of its parts has a special meaning, even if it would lead back
/// into the folder, or if it has a character that is not safe everywhere.
pub(crate) fn path_inside(folder: &Path, path: &str) -> Result<PathBuf, NameError> {
    let refused = |part: &str| matches!(part, "" | "." | "..") || part.contains(|c: char| c == '\\' || c.is_control());
    if path.split('/').any(refused) {
        return Err(NameError::NotInside(path.to_owned()));
    }
    Ok(folder.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Component;

    #[test]
    fn plain_names_are_accepted() {
        for good in ["model.safetensors", "vocab.txt", "optimizer-0_1.safetensors"] {
            assert_eq!(plain_name(good), Ok(good));
        }
    }

    #[test]
    fn dataset_paths_may_have_folders_and_letters_of_any_script() {
        for good in ["train.tsv", "CoLA/train.tsv", "a b/c.txt.xz", "日本語.txt", "..a", "a..", "wiki-00.txt"] {
            assert_eq!(path_inside(Path::new("/data"), good), Ok(Path::new("/data").join(good)));
        }
    }

    macro_rules! refused {
        ($($name:ident: $path:expr;)+) => {$(
            #[test]
            fn $name() {
                assert_eq!(plain_name($path), Err(NameError::NotPlain($path.into())));
                assert_eq!(path_inside(Path::new("/data"), $path), Err(NameError::NotInside($path.into())));
            }
        )+};
    }

    refused! {
        an_empty_name_is_refused: "";
        the_parent_is_refused: "..";
        the_folder_itself_is_refused: ".";
        a_way_up_is_refused: "../token";
        a_way_up_in_the_middle_is_refused: "CoLA/../../token";
        a_way_up_at_the_end_is_refused: "CoLA/..";
        an_absolute_path_is_refused: "/etc/passwd";
        a_doubled_slash_is_refused: "CoLA//train.tsv";
        a_trailing_slash_is_refused: "CoLA/";
        a_backslash_is_refused: "..\\token";
        a_drive_with_backslash_is_refused: "C:\\token";
        a_nul_is_refused: "train.tsv\0.txt";
        a_line_break_is_refused: "train\n.tsv";
    }

    macro_rules! harmless_in_a_dataset {
        ($($name:ident: $path:expr;)+) => {$(
            #[test]
            fn $name() {
                assert_eq!(plain_name($path), Err(NameError::NotPlain($path.into())));
                let path = path_inside(Path::new("/data"), $path).unwrap();
                assert!(path.strip_prefix("/data").unwrap().components().all(|c| matches!(c, Component::Normal(_))));
            }
        )+};
    }

    harmless_in_a_dataset! {
        a_percent_encoded_way_up_is_a_literal_name: "%2e%2e%2ftoken";
        a_doubly_encoded_way_up_is_a_literal_name: "%252e%252e%252ftoken";
        an_overlong_slash_is_a_literal_name: "..%c0%aftoken";
        full_width_dots_are_a_literal_name: "．．／token";
        a_division_slash_is_a_literal_name: "..∕token";
        a_tilde_is_a_literal_name: "~/token";
    }
}
