//! A progress row, the same for bars on standard error and for the views. Pure.

use std::time::Duration;

use localization::tr;
use ratatui_core::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::human_format::{format_size, short_duration, transfer_rate};
use super::rate_meter::MeasuredRate;
use super::text_wrap::{truncate, truncate_distinct};
use super::theme::TerminalTheme;

/// The widths from which amounts, bar with time left, and rate are shown.
const AMOUNTS_MIN_COLUMNS: usize = 100;
const BAR_MIN_COLUMNS: usize = 60;
const RATE_MIN_COLUMNS: usize = 40;
/// The longest time left that is shown: 99:59:59 hours.
const MAX_TIME_LEFT: Duration = Duration::from_secs(359_999);

/// The values of a progress row.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProgressRow<'a> {
    /// The name, truncated in the middle if necessary.
    pub(super) label: &'a str,
    /// The names in the rows beside it, from which it is to be told.
    pub(super) others: &'a [String],
    pub(super) bytes: u64,
    pub(super) size: u64,
    pub(super) rate: Option<MeasuredRate>,
    /// The word shown while there is no rate.
    pub(super) note: &'a str,
}

impl ProgressRow<'_> {
    /// Returns the row, at most `columns` wide.
    pub(super) fn line(&self, theme: TerminalTheme, columns: usize) -> Line<'static> {
        let percent = u128::from(self.bytes) * 100 / u128::from(self.size).max(1);
        let mut right = String::new();
        if columns >= AMOUNTS_MIN_COLUMNS {
            let (bytes, size) = (format_size(self.bytes), format_size(self.size));
            let amounts =
                tr!("{bytes} of {size}", bytes = format_args!("{bytes:>8}"), size = format_args!("{size:>8}"));
            right.push_str(&format!(" {amounts}"));
        }
        right.push_str(&format!(" {:>3}%", percent.min(100)));
        if columns >= RATE_MIN_COLUMNS {
            let speed = self.rate.map_or_else(|| self.note.to_owned(), |speed| transfer_rate(speed.bytes, speed.time));
            right.push_str(&format!(" {speed:>10}"));
        }
        if columns >= BAR_MIN_COLUMNS {
            right.push_str(&format!(" {:>9}", self.time_left().unwrap_or_default()));
        }
        let right = if right.width() > columns { truncate(right.trim_start(), columns, "") } else { right };
        let left = columns - right.width();
        let bar = if columns >= BAR_MIN_COLUMNS { left / 3 } else { 0 };
        let room = left.saturating_sub(bar + usize::from(bar > 0));
        let name = truncate_distinct(self.label, self.others.iter().map(String::as_str), room, theme.ellipsis());
        let gap = " ".repeat(left.saturating_sub(name.width() + bar));
        // In 128 bits: cells times bytes may overflow 64.
        let full = u128::try_from(bar).unwrap_or(0) * u128::from(self.bytes) / u128::from(self.size).max(1);
        let full = usize::try_from(full).unwrap_or(bar).min(bar);
        let (done, open) = theme.bar();
        Line::from(vec![
            Span::raw(name),
            Span::raw(gap),
            Span::styled(done.repeat(full), theme.good()),
            Span::styled(open.repeat(bar - full), theme.dim()),
            Span::raw(right),
        ])
    }

    fn time_left(&self) -> Option<String> {
        let speed = self.rate.filter(|speed| speed.bytes > 0)?;
        // In 128 bits: bytes times microseconds may overflow 64.
        let left = u128::from(self.size.saturating_sub(self.bytes));
        let micros = left * speed.time.as_micros() / u128::from(speed.bytes);
        let left = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        Some(short_duration(left.min(MAX_TIME_LEFT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: TerminalTheme = TerminalTheme { color: false, unicode: true };

    #[test]
    fn rows_fit_and_say_the_most_important() {
        let speed = Some(MeasuredRate { bytes: 20_000_000, time: Duration::from_secs(2) });
        let row = ProgressRow {
            label: "a long name of a song.flac",
            others: &[],
            bytes: 20_971_520,
            size: 104_857_600,
            rate: speed,
            note: "",
        };
        let text = |columns| row.line(LOOK, columns).to_string();
        assert_eq!(text(20), "a long n…g.flac  20%");
        assert_eq!(text(40), "a long name of a…ng.flac  20%  10.0 MB/s");
        assert_eq!(text(70), "a long name of a song.flac    ━━────────────  20%  10.0 MB/s     8.4 s");
        assert!(text(120).contains("  21.0 MB of   105 MB  20%  10.0 MB/s     8.4 s"), "{}", text(120));
        let stalled = ProgressRow { rate: None, note: "stalled", ..row };
        assert!(stalled.line(LOOK, 70).to_string().ends_with("  20%    stalled          "));
        let others = ["a long name of that song.flac".to_owned()];
        let (one, other) = (ProgressRow { others: &others, ..row }, ProgressRow { label: &others[0], ..row });
        assert_eq!(one.line(LOOK, 20).to_string(), "…a song.flac     20%");
        assert_eq!(other.line(LOOK, 20).to_string(), "a long n…g.flac  20%");
        for columns in 0..220 {
            assert!(text(columns).width() <= columns.max(1), "{columns}: {}", text(columns));
            assert!(columns < 4 || text(columns).contains("20%"), "{columns}: {}", text(columns));
        }
    }
}
