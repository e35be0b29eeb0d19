//! The text of an error, for logs and for the messages that agents and servers send.

use std::error::Error;

/// The error and its causes in one line, joined by `": "`. A cause that the text so far already quotes is left out.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    fn chain(texts: &[&'static str]) -> Link {
        let (text, causes) = texts.split_first().unwrap();
        Link { text, source: (!causes.is_empty()).then(|| Box::new(chain(causes))) }
    }

    #[test]
    fn every_cause_is_written_unless_the_text_already_quotes_it() {
        assert_eq!(error_chain(&chain(&["cannot start"])), "cannot start");
        assert_eq!(error_chain(&chain(&["cannot start", "no file", "a: b"])), "cannot start: no file: a: b");
        assert_eq!(
            error_chain(&chain(&["no answer: timed out", "timed out", "broken"])),
            "no answer: timed out: broken"
        );
    }
}
