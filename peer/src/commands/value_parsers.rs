//! Parsers of argument values that several commands have.

use std::ffi::OsString;
use std::ops::RangeInclusive;

use localization::tr;
use shared::limits::MAX_ROOM_TOPIC_BYTES;
use shared::{FileName, RoomName, RoomTopic};

use crate::ui::parse_age;

pub(super) fn count(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Parses a rate such as `500k`, `10M`, `10 MB/s`, `1.5 MiB` or `80 Mbit/s`; in bytes a second, with decimal prefixes.
pub(super) fn parse_rate(text: &str) -> Result<u64, String> {
    let wrong = || {
        tr!(
            "{text} is not a rate: say 500k, 10M, 10 MB/s or 1G (bytes a second), or 80 Mbit/s",
            text = format_args!("{text:?}")
        )
    };
    let text = text.trim();
    // A decimal comma is accepted as well.
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',')).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let number: f64 = digits.replace(',', ".").parse().map_err(|_| wrong())?;
    let unit: String = unit.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
    let (unit, bits) = match unit.strip_suffix("/s").unwrap_or(&unit) {
        unit if unit.ends_with("bps") => (unit.trim_end_matches("bps"), 8.0),
        unit if unit.ends_with("bit") => (unit.trim_end_matches("bit"), 8.0),
        unit => (unit.strip_suffix('b').unwrap_or(unit), 1.0),
    };
    let scale = match unit {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "ki" => 1024.0,
        "mi" => 1_048_576.0,
        "gi" => 1_073_741_824.0,
        _ => return Err(wrong()),
    };
    let rate = number * scale / bits;
    // NaN is out of range as well.
    if !(1000.0..=1e12).contains(&rate) {
        return Err(tr!("{text} is out of range: from 1k to 1000G bytes a second", text));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, as just checked")]
    Ok(rate as u64)
}

/// Parses a size such as `500M`, `2G` or `1.5 GiB`; in bytes, with decimal prefixes.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let is_rate = text.to_ascii_lowercase().contains("bit") || text.contains("/s") || text.contains("ps");
    let size = if is_rate { Err(String::new()) } else { parse_rate(text) };
    size.map_err(|_| {
        tr!("{text} is not a size: say 500M, 2G or 1.5 GiB, from 1k to 1000G", text = format_args!("{text:?}"))
    })
}

/// Parses a time such as `30m` or `7d`, in milliseconds; one beyond the bounds is refused with these words.
pub(super) fn parse_time_within(
    text: &str,
    bounds: RangeInclusive<i64>,
    refusal: impl FnOnce() -> String,
) -> Result<i64, String> {
    let no_time = |_| tr!("{text} is no time: say 30m, 2h or 7d", text = format_args!("{text:?}"));
    let time = parse_age(text).map_err(no_time)?;
    if bounds.contains(&time) { Ok(time) } else { Err(refusal()) }
}

/// Parses a file name; one that isn't valid as it is gets its escaped form.
pub(super) fn parse_file_name(text: &str) -> Result<FileName, String> {
    text.parse().or_else(|_| FileName::from_raw(text.as_bytes())).map_err(|why| why.to_string())
}

/// Parses a room's name, with or without the mark that views show in front of it.
pub(super) fn parse_room_name(text: &str) -> Result<RoomName, String> {
    let rule = |_| {
        tr!(
            "{text} is not a room's name: 1 to 32 of A-Z a-z 0-9 _ . - such as lab or '#lab'",
            text = format_args!("{text:?}")
        )
    };
    text.strip_prefix('#').unwrap_or(text).parse().map_err(rule)
}

/// Parses a room's topic.
pub(super) fn parse_room_topic(text: &str) -> Result<RoomTopic, String> {
    text.trim().parse().map_err(|_| tr!("a topic is one line of at most {limit} bytes", limit = MAX_ROOM_TOPIC_BYTES))
}

/// Converts a name, folder or pattern; bytes that aren't UTF-8 are escaped as on the wire.
pub(super) fn parse_share_pattern(text: OsString) -> String {
    // The slash marks a folder and is no part of the name: escaping must not touch it.
    text.into_string().unwrap_or_else(|text| {
        let raw = text.as_encoded_bytes();
        let end = if raw.ends_with(b"/") { "/" } else { "" };
        let name = FileName::from_raw(raw.strip_suffix(b"/").unwrap_or(raw));
        name.map_or_else(|_| text.to_string_lossy().into_owned(), |name| format!("{}{end}", name.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_not_utf_8_are_asked_for_as_they_travel() {
        use std::os::unix::ffi::OsStringExt;
        let text = |raw: &[u8]| parse_share_pattern(OsString::from_vec(raw.to_vec()));
        assert_eq!(text("caf\u{e9}/".as_bytes()), "caf\u{e9}/");
        assert_eq!(text(b"caf\xe9/"), "caf␛E9␛/");
        assert_eq!(text(b"*\xff?.txt"), "*␛FF␛?.txt");
    }

    #[test]
    fn rooms_are_typed_with_their_mark_or_without() {
        assert_eq!(parse_room_name("lab"), parse_room_name("#lab"));
        for wrong in ["", "#", "##lab", "a b", "\u{1b}[2J"] {
            let why = parse_room_name(wrong).unwrap_err();
            assert!(why.contains("is not a room's name") && !why.contains('\u{1b}'), "{why:?}");
        }
        assert_eq!(parse_room_topic(" olá ").unwrap().as_str(), "olá");
        assert!(parse_room_topic("a\nb").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!((parse_size("2G"), parse_size("1.5 GiB")), (Ok(2_000_000_000), Ok(1_610_612_736)));
        for wrong in ["", "2", "80 Mbit", "10 MB/s", "10Mbps", "-1G", "10T"] {
            assert!(parse_size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(parse_rate("10M"), Ok(10_000_000));
        assert_eq!(parse_rate("1.5k"), Ok(1500));
        for text in
            ["10MB", "10 MB/s", "10mb", "10MB/s", "10m", "10.0M", "10,0 M", " 10M ", "80 Mbit/s", "80Mbps", "80 mbit"]
        {
            assert_eq!(parse_rate(text), Ok(10_000_000), "{text:?}");
        }
        assert_eq!(
            (parse_rate("10MiB"), parse_rate("1.5M"), parse_rate("64 KiB/s")),
            (Ok(10_485_760), Ok(1_500_000), Ok(65_536))
        );
        for wrong in
            ["", "M", "10X", "-1k", "0", "1", "NaN", "1e99G", "10 M B s", "1.2.3M", "M10", "10MB/m", "inf", "10T"]
        {
            assert!(parse_rate(wrong).is_err(), "{wrong:?}");
        }
    }
}
