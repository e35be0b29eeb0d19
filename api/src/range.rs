//! The `Range` header (RFC 9110, section 14): a single range of bytes is honoured, anything else is ignored.

use std::ops::Range;

use crate::error::Error;

/// The range of bytes to send out of `length`, or `None` for all of them (no header, several ranges, another unit).
///
/// # Errors
/// `range_not_satisfiable` when the range starts past the end.
pub(crate) fn parse(header: Option<&str>, length: u64) -> Result<Option<Range<u64>>, Error> {
    let Some((first, last)) = header.and_then(bounds) else { return Ok(None) };
    let range = match (first, last) {
        (Some(first), Some(last)) if first > last => return Ok(None),
        (Some(first), last) => first..last.map_or(length, |last| last.saturating_add(1).min(length)),
        // `bytes=-N`: the last N bytes.
        (None, Some(count)) => length.saturating_sub(count)..length,
        (None, None) => return Ok(None),
    };
    if range.start >= range.end { Err(Error::RangeNotSatisfiable { length }) } else { Ok(Some(range)) }
}

/// First and last byte of `bytes=first-last`; each may be absent.
fn bounds(header: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (first, last) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
    Some((number(first)?, number(last)?))
}

/// `Some(None)` for an empty text, `None` for a text that is not a number.
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_range_is_honoured() {
        let ranged = |header| parse(Some(header), 10).unwrap();
        assert_eq!(ranged("bytes=0-0"), Some(0..1));
        assert_eq!(ranged("bytes=3-5"), Some(3..6));
        assert_eq!(ranged("bytes=3-"), Some(3..10));
        assert_eq!(ranged("bytes=3-99"), Some(3..10));
        assert_eq!(ranged("bytes=-4"), Some(6..10));
        assert_eq!(ranged("bytes=-99"), Some(0..10));
        assert_eq!(ranged("bytes=3-18446744073709551615"), Some(3..10));
    }

    #[test]
    fn a_header_that_is_not_a_single_range_of_bytes_is_ignored() {
        for header in
            ["", "bytes", "bytes=", "bytes=-", "bytes=5-3", "bytes=0-1,3-4", "lines=1-2", "bytes=+1-2", "bytes=a-b"]
        {
            assert!(matches!(parse(Some(header), 10), Ok(None)), "{header:?}");
        }
        assert!(matches!(parse(None, 10), Ok(None)));
    }

    #[test]
    fn a_range_past_the_end_is_refused() {
        for (header, length) in [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)] {
            let refused = parse(Some(header), length);
            assert!(matches!(refused, Err(Error::RangeNotSatisfiable { length: l }) if l == length), "{header:?}");
        }
    }
}
