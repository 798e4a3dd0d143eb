//! Ranges of a response (RFC 9110, section 14): which bytes a request gets. No I/O.

use std::ops::Range;

use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::http_text::{header_text, set_field};

/// The part of a representation that a request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RangeAnswer {
    /// All of it: no range was asked for, or one that may be ignored.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Nothing of it is in the range.
    Unsatisfiable,
}

impl RangeAnswer {
    /// Returns the status of a response of `size` bytes and the range that it has, and sets its fields; `None` without
    /// any.
    pub(super) fn response_range(self, size: u64, fields: &mut HeaderMap) -> (StatusCode, Option<Range<u64>>) {
        let (status, range) = match self {
            Self::Whole => (StatusCode::OK, 0..size),
            Self::Part(range) => {
                let bytes = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                set_field(fields, CONTENT_RANGE, bytes);
                (StatusCode::PARTIAL_CONTENT, range)
            }
            Self::Unsatisfiable => {
                set_field(fields, CONTENT_RANGE, format!("bytes */{size}"));
                return (StatusCode::RANGE_NOT_SATISFIABLE, None);
            }
        };
        set_field(fields, CONTENT_LENGTH, (range.end - range.start).to_string());
        (status, Some(range))
    }
}

/// Returns the `Range` of a request; it means something with GET alone (RFC 9110, 14.2).
pub(super) fn asked_range<'a>(method: &Method, headers: &'a HeaderMap) -> Option<&'a str> {
    header_text(headers, &RANGE).filter(|_| method == Method::GET)
}

/// Returns the part of `size` bytes with this entity tag that a request gets, from its `Range` and `If-Range`.
///
/// Several ranges at once are answered by all of it, which section 14.2 allows and download managers understand.
pub(super) fn answer_range(range: Option<&str>, if_range: Option<&str>, tag: &str, size: u64) -> RangeAnswer {
    // A date proves less than the hash, and is never equal to it.
    if if_range.is_some_and(|condition| condition.trim() != tag) {
        return RangeAnswer::Whole;
    }
    // What isn't understood, such as several ranges, is ignored (RFC 9110, 14.2).
    range.and_then(|range| parse_range(range, size)).unwrap_or(RangeAnswer::Whole)
}

/// Returns the answer to one range of bytes; `None` for anything else.
fn parse_range(text: &str, size: u64) -> Option<RangeAnswer> {
    let (unit, spec) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let length = parse_position(last)?;
        let start = size.saturating_sub(length);
        // `bytes=-0` asks for nothing, which is not satisfiable (RFC 9110, 14.1.2).
        return Some(if start < size { RangeAnswer::Part(start..size) } else { RangeAnswer::Unsatisfiable });
    }
    let first = parse_position(first)?;
    let last = if last.is_empty() { u64::MAX } else { parse_position(last)? };
    // Invalid (RFC 9110, 14.1.1), and ignored as what isn't understood.
    if last < first {
        return None;
    }
    Some(if first < size {
        RangeAnswer::Part(first..last.saturating_add(1).min(size))
    } else {
        RangeAnswer::Unsatisfiable
    })
}

/// Parses digits; a number beyond 64 bits is as good as the largest.
fn parse_position(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Returns where a body of `length` bytes begins in its file, and the size of the file; `None` if its `Content-Range` is
/// wrong.
pub(super) fn uploaded_range(content_range: Option<&HeaderValue>, length: u64) -> Option<(u64, u64)> {
    let Some(range) = content_range else { return Some((0, length)) };
    let (range, size) = range.to_str().ok().and_then(parse_content_range)?;
    (range.end - range.start == length).then_some((range.start, size))
}

/// Parses the `Content-Range` of an upload, `bytes FIRST-LAST/TOTAL`: the bytes that the body has, and the total.
fn parse_content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total) = (exact(first)?, exact(last)?, exact(total)?);
    // No overflow: the last byte lies below the total.
    (first <= last && last < total).then(|| (first..last + 1, total))
}

fn exact(text: &str) -> Option<u64> {
    text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Returns whether a header that lists entity tags names this one, or all. A weak tag counts for `If-None-Match`.
pub(super) fn names_tag(list: &str, tag: &str) -> bool {
    list.split(',').map(str::trim).any(|listed| listed == "*" || listed.strip_prefix("W/").unwrap_or(listed) == tag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(range: &str, size: u64) -> RangeAnswer {
        answer_range(Some(range), None, "\"t\"", size)
    }

    #[test]
    fn every_edge() {
        let part = |start, end| RangeAnswer::Part(start..end);
        for (range, size, expected) in [
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=0-9", 10, part(0, 10)),
            ("bytes=0-10", 10, part(0, 10)),
            ("bytes=9-", 10, part(9, 10)),
            ("bytes=10-", 10, RangeAnswer::Unsatisfiable),
            ("bytes=10-11", 10, RangeAnswer::Unsatisfiable),
            ("bytes=-1", 10, part(9, 10)),
            ("bytes=-10", 10, part(0, 10)),
            ("bytes=-11", 10, part(0, 10)),
            ("bytes=-0", 10, RangeAnswer::Unsatisfiable),
            ("bytes=-5", 0, RangeAnswer::Unsatisfiable),
            ("bytes=0-", 0, RangeAnswer::Unsatisfiable),
            ("bytes=0-18446744073709551615", 10, part(0, 10)),
            ("bytes=5-99999999999999999999999", 10, part(5, 10)),
            ("bytes=99999999999999999999999-", 10, RangeAnswer::Unsatisfiable),
            ("Bytes = 1 - 2 ", 10, part(1, 3)),
        ] {
            assert_eq!(answer(range, size), expected, "{range} of {size}");
        }
        for ignored in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=+1-2",
            "lines=0-1",
            "bytes=0-1,3-4",
            "bytes=1-2-3",
            "bytes=0x1-2",
            "bytes=１-２",
        ] {
            assert_eq!(answer(ignored, 10), RangeAnswer::Whole, "{ignored:?}");
        }
    }

    #[test]
    fn a_condition_that_does_not_hold_gives_the_whole() {
        for (condition, expected) in [
            ("\"t\"", RangeAnswer::Part(1..2)),
            (" \"t\" ", RangeAnswer::Part(1..2)),
            ("\"u\"", RangeAnswer::Whole),
            ("W/\"t\"", RangeAnswer::Whole),
            ("Fri, 27 Nov 2026 16:00:00 GMT", RangeAnswer::Whole),
        ] {
            assert_eq!(answer_range(Some("bytes=1-1"), Some(condition), "\"t\"", 10), expected, "{condition}");
        }
        assert!(names_tag("\"a\", W/\"t\"", "\"t\"") && names_tag("*", "\"t\"") && !names_tag("\"a\", t", "\"t\""));
    }

    #[test]
    fn a_look_has_no_range() {
        let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-0"))]);
        assert_eq!(asked_range(&Method::GET, &headers), Some("bytes=0-0"));
        assert_eq!(asked_range(&Method::HEAD, &headers), None);
    }

    #[test]
    fn content_ranges() {
        assert_eq!(parse_content_range("bytes 0-0/1"), Some((0..1, 1)));
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5..10, 10)));
        for wrong in [
            "bytes 0-1/1",
            "bytes 1-0/5",
            "bytes */5",
            "bytes 0-1/*",
            "bytes=0-1/2",
            "bytes 0-1",
            "0-1/2",
            "bytes -1/2",
            "bytes 0-18446744073709551615/18446744073709551615",
            "bytes 0-99999999999999999999/9",
        ] {
            assert_eq!(parse_content_range(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_within_and_is_what_was_asked_for(first: u64, last: u64, size: u64, suffix in 0_u8..3) {
            let range = match suffix {
                0 => format!("bytes={first}-{last}"),
                1 => format!("bytes={first}-"),
                _ => format!("bytes=-{last}"),
            };
            match answer(&range, size) {
                RangeAnswer::Part(part) => {
                    prop_assert!(part.start < part.end && part.end <= size);
                    match suffix {
                        0 => prop_assert!(part.start == first && (part.end == size || part.end == last + 1)),
                        1 => prop_assert!(part.start == first && part.end == size),
                        _ => prop_assert!(part.end == size && part.end - part.start == last.min(size)),
                    }
                }
                RangeAnswer::Unsatisfiable => {
                    let is_beyond = if suffix == 2 { last == 0 || size == 0 } else { first >= size };
                    prop_assert!(is_beyond);
                }
                RangeAnswer::Whole => prop_assert!(suffix == 0 && last < first),
            }
        }

        #[test]
        fn nothing_panics(range: String, condition: String, size: u64) {
            answer_range(Some(&range), Some(&condition), "\"t\"", size);
            parse_content_range(&range);
        }
    }
}
