//! Numbers and times as text for people.

use std::time::Duration;

use jiff::Timestamp;
use localization::{current_language, tr};
use shared::safe_text::safe_line;

pub use crate::engine::size_format::format_size;
pub(super) use crate::engine::size_format::transfer_rate;
pub use crate::engine::source_words::{silent_words, slow_words};
use crate::sys::time_zone;

/// Characters in an excerpt: enough to recognise a text.
const MAX_EXCERPT_CHARS: usize = 40;

/// Returns `1 file`, `2 files`.
pub fn file_count(count: usize) -> String {
    tr!("{n} file" | "{n} files" % count)
}

/// Returns the beginning of a text in quotes, enough to recognise it.
pub fn excerpt(text: &str) -> String {
    let line = safe_line(text);
    let mut beginning: String = line.chars().take(MAX_EXCERPT_CHARS).collect();
    if beginning.len() < line.len() {
        beginning.push('…');
    }
    format!("\"{beginning}\"")
}

/// How long, for people.
pub(super) fn short_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => {
            let tenths = format!("{:.1}", time.as_secs_f64());
            format!("{} s", tenths.replace('.', current_language().decimal_mark().encode_utf8(&mut [0; 4])))
        }
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
    }
}

/// Returns a duration in the largest unit that expresses it exactly.
pub fn exact_duration(ms: i64) -> String {
    let seconds = ms / 1000;
    let unit = [24 * 3600, 3600, 60].into_iter().find(|unit| seconds % unit == 0).unwrap_or(1);
    let count = seconds / unit;
    match unit {
        86_400 => tr!("{n} day" | "{n} days" % count),
        3600 => tr!("{n} hour" | "{n} hours" % count),
        60 => tr!("{n} minute" | "{n} minutes" % count),
        _ => tr!("{n} second" | "{n} seconds" % count),
    }
}

/// Describes a user's presence; `None` is one that the node doesn't know.
pub(super) fn presence_word(online: Option<bool>) -> String {
    match online {
        Some(true) => tr!("presence" => "online"),
        Some(false) => tr!("presence" => "offline"),
        None => tr!("presence" => "not known to be online"),
    }
}

/// Returns the local time of day of a Unix time in milliseconds.
pub fn time_of_day(ms: i64) -> String {
    format_local(ms, "%H:%M:%S")
}

/// Returns the local time of day without seconds.
pub(super) fn hour_and_minute(ms: i64) -> String {
    format_local(ms, "%H:%M")
}

/// Returns the local date and time of day of a Unix time in milliseconds.
pub fn date_and_time(ms: i64) -> String {
    format_local(ms, "%Y-%m-%d %H:%M:%S")
}

/// Returns the local date of a Unix time in seconds.
pub fn date(s: i64) -> String {
    format_local(s.saturating_mul(1000), "%Y-%m-%d")
}

/// Parses an age such as `90s`, `30m`, `12h`, `2d`, `3w` into milliseconds.
///
/// # Errors
/// A message for the user, if the text is no age.
pub fn parse_age(text: &str) -> Result<i64, String> {
    let wrong = || tr!("{text} is not an age: say 30m, 12h, 2d or 3w", text = format_args!("{text:?}"));
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds: i64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        'w' => 7 * 24 * 3600,
        _ => return Err(wrong()),
    };
    // Not more than 32 bits, so that weeks in milliseconds fit in 64.
    let number: u32 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    Ok(i64::from(number) * seconds * 1000)
}

fn format_local(ms: i64, format: &str) -> String {
    // The time may come from another machine's clock and be out of range.
    let moment = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    moment.to_zoned(time_zone()).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use localization::{Language, in_language};

    use super::*;

    #[test]
    fn ages() {
        assert_eq!((parse_age("2d"), parse_age("90s")), (Ok(172_800_000), Ok(90_000)));
        for wrong in ["", "d", "2", "-1d", "2é", "1.5h", "99999999999w"] {
            assert!(parse_age(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1_234_567, "1.23 MB"),
            (12_345_678, "12.3 MB"),
            (9_994_999, "9.99 MB"),
            (9_995_000, "10.0 MB"),
            (20_971_520, "21.0 MB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (999_999_999, "1.00 GB"),
            (1 << 30, "1.07 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(format_size(bytes), text);
            let comma = in_language(Language::Portuguese, || format_size(bytes));
            assert_eq!(comma, text.replace('.', ","));
        }
        assert_eq!(transfer_rate(1_000_000, Duration::from_millis(500)), "2.00 MB/s");
        assert_eq!(short_duration(Duration::from_secs(75)), "1:15 min");
        let short = || short_duration(Duration::from_millis(1234));
        assert_eq!((short(), in_language(Language::Portuguese, short)), ("1.2 s".to_owned(), "1,2 s".to_owned()));
        let exact = [0, 1, 59, 60, 90, 3600, 7200, 86_400, 172_800].map(|seconds| exact_duration(seconds * 1000));
        let texts =
            ["0 days", "1 second", "59 seconds", "1 minute", "90 seconds", "1 hour", "2 hours", "1 day", "2 days"];
        assert_eq!(exact, texts);
        assert_eq!(time_of_day(i64::MAX).len(), 8);
    }
}
