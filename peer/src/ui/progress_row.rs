//! How far something is, as one row: the same for a fetch, for what is hashed, and in the views. Pure.

use std::time::Duration;

use ratatui_core::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::look::Look;
use super::rate_meter::Speed;
use super::text::{duration, rate, size};
use super::wrap::{cut, cut_apart};

/// From so many columns on there is room for the amounts, for the time left and a bar, for the speed.
const AMOUNTS: usize = 100;
const BAR: usize = 60;
const SPEED: usize = 40;
/// The longest time left that is told.
const LONGEST: Duration = Duration::from_secs(359_999);

/// How far something is.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProgressRow<'a> {
    /// Its name, cut in the middle where there is no room for it.
    pub(super) label: &'a str,
    /// The names in the rows beside it, from which it is to be told.
    pub(super) others: &'a [String],
    pub(super) bytes: u64,
    pub(super) size: u64,
    pub(super) speed: Option<Speed>,
    /// What it does, in a word, where there is no speed to tell.
    pub(super) note: &'a str,
}

impl ProgressRow<'_> {
    /// The row, at most so wide.
    pub(super) fn line(&self, look: Look, columns: usize) -> Line<'static> {
        let percent = u128::from(self.bytes) * 100 / u128::from(self.size).max(1);
        let mut right = String::new();
        if columns >= AMOUNTS {
            right.push_str(&format!(" {:>8} of {:>8}", size(self.bytes), size(self.size)));
        }
        right.push_str(&format!(" {:>3}%", percent.min(100)));
        if columns >= SPEED {
            let speed = self.speed.map_or_else(|| self.note.to_owned(), |speed| rate(speed.bytes, speed.time));
            right.push_str(&format!(" {speed:>10}"));
        }
        if columns >= BAR {
            right.push_str(&format!(" {:>9}", self.time_left().unwrap_or_default()));
        }
        let right = if right.width() > columns { cut(right.trim_start(), columns, "") } else { right };
        let left = columns - right.width();
        let bar = if columns >= BAR { left / 3 } else { 0 };
        let room = left.saturating_sub(bar + usize::from(bar > 0));
        let name = cut_apart(self.label, self.others.iter().map(String::as_str), room, look.ellipsis());
        let gap = " ".repeat(left.saturating_sub(name.width() + bar));
        let full = u128::try_from(bar).unwrap_or(0) * u128::from(self.bytes) / u128::from(self.size).max(1);
        let full = usize::try_from(full).unwrap_or(bar).min(bar);
        let (done, open) = look.bar();
        Line::from(vec![
            Span::raw(name),
            Span::raw(gap),
            Span::styled(done.repeat(full), look.good()),
            Span::styled(open.repeat(bar - full), look.dim()),
            Span::raw(right),
        ])
    }

    fn time_left(&self) -> Option<String> {
        let speed = self.speed.filter(|speed| speed.bytes > 0)?;
        let left = u128::from(self.size.saturating_sub(self.bytes));
        let micros = left * speed.time.as_micros() / u128::from(speed.bytes);
        let left = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        Some(duration(left.min(LONGEST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look { color: false, unicode: true };

    #[test]
    fn rows_fit_and_say_the_most_important() {
        let speed = Some(Speed { bytes: 20_000_000, time: Duration::from_secs(2) });
        let row = ProgressRow {
            label: "a long name of a song.flac",
            others: &[],
            bytes: 20_971_520,
            size: 104_857_600,
            speed,
            note: "",
        };
        let text = |columns| row.line(LOOK, columns).to_string();
        assert_eq!(text(20), "a long n…g.flac  20%");
        assert_eq!(text(40), "a long name of a…ng.flac  20%  10.0 MB/s");
        assert_eq!(text(70), "a long name of a song.flac    ━━────────────  20%  10.0 MB/s     8.4 s");
        assert!(text(120).contains("  21.0 MB of   105 MB  20%  10.0 MB/s     8.4 s"), "{}", text(120));
        let stalled = ProgressRow { speed: None, note: "stalled", ..row };
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
