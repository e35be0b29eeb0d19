//! What the program writes for people. Everything that it prints passes here, which a lint of this crate ensures.
//!
//! * A reader that closes the pipe (`lamina trials | head -1`) is no error. Writing then fails with [`Closed`], at which
//!   the program ends without a message.
//! * Names, logs and messages come from others. What would move the cursor, or set the terminal in another state, is
//!   replaced by a visible mark.
//! * A table may be as wide as the terminal. A pipe or a file has no width, so that no word and no id is cut off there.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};
use console::Term;
use serde_json::Value;

/// Nobody reads the output any more.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output has closed it")]
pub(crate) struct Closed;

/// Writes lines to standard output.
pub(crate) fn say(text: impl Display) -> Result<()> {
    write(&mut io::stdout().lock(), &text.to_string(), console::colors_enabled())
}

/// Writes JSON to standard output. Characters that a terminal would act on are escaped, so the value stays the same.
pub(crate) fn say_json(value: &Value) -> Result<()> {
    let escape = |c: char| match is_active(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    };
    say(format!("{value:#}").chars().map(escape).collect::<String>())
}

/// Writes lines about the work to standard error.
pub(crate) fn note(text: impl Display) -> Result<()> {
    write(&mut io::stderr().lock(), &text.to_string(), console::colors_enabled_stderr())
}

/// Like [`say`], for work that goes on whether or not somebody reads about it.
pub(crate) fn announce(text: impl Display) {
    let _ = say(text);
}

/// Like [`note`], for work that goes on whether or not somebody reads about it.
pub(crate) fn mention(text: impl Display) {
    let _ = note(text);
}

fn write(out: &mut impl Write, text: &str, styled: bool) -> Result<()> {
    // One write for all lines, so that the output of two processes does not mix within a table.
    let text = format!("{}\n", guarded(text, styled));
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        written => written.context("cannot write the output"),
    }
}

/// The width of the terminal on standard output, but at least 80 columns: tables do not fit fewer. A pipe or a file has
/// no limit.
pub(crate) fn width() -> usize {
    Term::stdout().size_checked().map_or(usize::MAX, |(_, columns)| usize::from(columns).max(80))
}

/// One line of text without anything that a terminal would act on. Widths can be measured in it.
pub(crate) fn printable(text: &str) -> String {
    let plain = console::strip_ansi_codes(text);
    plain.chars().map(|c| if c.is_whitespace() { ' ' } else { visible(c) }).collect()
}

/// What stands in place of a character that a terminal would act on.
const MARK: char = '\u{fffd}';

fn visible(c: char) -> char {
    if is_active(c) { MARK } else { c }
}

/// True for control characters other than those of text, and for characters that reorder the text around them.
fn is_active(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    }
}

/// The sequences with which this program sets text off: bold, dim, and the end of both.
const STYLES: [&str; 3] = ["\u{1b}[1m", "\u{1b}[2m", "\u{1b}[0m"];

/// The text without anything that a terminal would act on, except this program's own styles if `styled`.
fn guarded(text: &str, styled: bool) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return text.into();
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        let style = STYLES.iter().find(|style| styled && rest.starts_with(**style));
        let length = style.map_or(c.len_utf8(), |style| style.len());
        match style {
            Some(style) => out.push_str(style),
            None => out.push(visible(c)),
        }
        rest = &rest[length..];
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_act_on_the_terminal() {
        let hostile = "a\u{1b}]0;title\u{7}b\u{1b}[2Jc\u{9b}2Jd\u{8}e\u{202e}f\rg";
        assert_eq!(printable(hostile), "abcd\u{fffd}e\u{fffd}f g");
        let written = guarded(hostile, true);
        assert!(!written.contains(is_active) && written.starts_with('a') && written.ends_with('g'), "{written:?}");
        assert_eq!(guarded("naïve 名前 🚀\n\tx", true), "naïve 名前 🚀\n\tx");
    }

    #[test]
    fn only_this_programs_own_styles_are_written_and_only_where_styles_are_wanted() {
        assert_eq!(guarded("\u{1b}[1mreport\u{1b}[0m", true), "\u{1b}[1mreport\u{1b}[0m");
        assert_eq!(guarded("\u{1b}[1mreport\u{1b}[0m", false), "\u{fffd}[1mreport\u{fffd}[0m");
        assert_eq!(guarded("\u{1b}[8mhidden", true), "\u{fffd}[8mhidden");
    }

    #[test]
    fn a_reader_that_has_gone_is_told_from_other_errors() {
        struct Fails(ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(write(&mut Fails(ErrorKind::BrokenPipe), "x", false).unwrap_err().is::<Closed>());
        let full = write(&mut Fails(ErrorKind::StorageFull), "x", false).unwrap_err();
        assert!(!full.is::<Closed>() && full.to_string() == "cannot write the output");
    }
}
