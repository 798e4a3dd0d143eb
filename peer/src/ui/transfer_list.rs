//! Running and ended transfers as rows. Pure.

use std::time::{Duration, Instant};

use localization::tr;
use ratatui_core::text::{Line, Span};
use shared::UserName;
use shared::names::name_encoding;

use super::human_format::format_size;
use super::progress_bar::BarNote;
use super::progress_row::ProgressRow;
use super::rate_meter::RateMeter;
use super::text_wrap::{truncate, truncate_middle};
use super::theme::TerminalTheme;
use crate::engine::node_event::{FileTransfer, NodeEvent, TransferDirection, TransferState};

/// Without an event for this long, a transfer counts as over: its process was killed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Ended transfers kept for the transfers pane.
const MAX_ENDED: usize = 50;

/// The known transfers.
#[derive(Debug, Default)]
pub(super) struct TransferList {
    running: Vec<RunningTransfer>,
    ended: Vec<FileTransfer>,
    /// The time of the last event or tick; rates are computed for it.
    last_update: Option<Instant>,
}

#[derive(Debug)]
struct RunningTransfer {
    transfer: FileTransfer,
    /// A file being hashed to be offered; nothing is transferred yet.
    is_hashing: bool,
    meter: RateMeter,
    last_update: Instant,
}

impl TransferList {
    /// Updates a transfer, if the event concerns one.
    pub(super) fn handle_event(&mut self, event: &NodeEvent, now: Instant) {
        match event {
            NodeEvent::Transfer(told) => self.update(told, now),
            // The end of an upload comes as this event, not as a `Transfer`.
            NodeEvent::Fetched { by, name, bytes, size } => {
                let state = if bytes >= size { TransferState::Done } else { TransferState::Failed };
                let (peer, name, direction) = (by.clone(), name.clone(), TransferDirection::Up);
                self.update(&FileTransfer { peer, name, direction, bytes: *bytes, size: *size, state }, now);
            }
            _ => {}
        }
    }

    fn update(&mut self, told: &FileTransfer, now: Instant) {
        self.last_update = Some(now);
        // A file may be hashed for somebody who fetches one of the same name.
        let index = self.running.iter().position(|moving| !moving.is_hashing && is_same(&moving.transfer, told));
        match (told.state, index) {
            (TransferState::Running, Some(place)) => self.running[place].advance(told, now),
            (TransferState::Running, None) => {
                self.running.push(RunningTransfer::new(told, false, now));
            }
            (TransferState::Done | TransferState::Failed, place) => {
                if let Some(place) = place {
                    self.running.remove(place);
                }
                self.ended.push(told.clone());
                if self.ended.len() > MAX_ENDED {
                    // The oldest: what ended last is what the user looks for.
                    self.ended.remove(0);
                }
            }
        }
    }

    /// Updates the progress of hashing a file that is to be offered.
    pub(super) fn update_hashing(&mut self, told: &FileTransfer, now: Instant) {
        let index = self.running.iter().position(|moving| moving.is_hashing && is_same(&moving.transfer, told));
        match (told.state, index) {
            (TransferState::Running, Some(place)) => self.running[place].advance(told, now),
            (TransferState::Running, None) => self.running.push(RunningTransfer::new(told, true, now)),
            // Not among those that ended: nothing was transferred.
            (_, Some(place)) => drop(self.running.remove(place)),
            (_, None) => {}
        }
    }

    /// Removes transfers without recent events; returns true if there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        self.last_update = Some(now);
        let before = self.running.len();
        self.running.retain(|moving| now.saturating_duration_since(moving.last_update) < IDLE_TIMEOUT);
        before != self.running.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.running.is_empty() && self.ended.is_empty()
    }

    pub(super) const fn running_count(&self) -> usize {
        self.running.len()
    }

    /// Returns a row per running transfer, at most `most`; the last row counts the transfers without one.
    pub(super) fn rows(&self, theme: TerminalTheme, columns: usize, most: usize) -> Vec<Line<'static>> {
        let shown = if self.running.len() > most { most.saturating_sub(1) } else { self.running.len() };
        let shown_ones = self.running.iter().take(shown);
        let labels: Vec<String> = shown_ones.clone().map(|moving| moving.label(theme, columns)).collect();
        let row =
            |(moving, label): (&RunningTransfer, &String)| moving.row(label, &labels, theme, columns, self.last_update);
        let mut rows: Vec<Line<'static>> = shown_ones.zip(&labels).map(row).collect();
        if shown < self.running.len() && most > 0 {
            let more = format!("  {}", tr!("and {count} more on their way", count = self.running.len() - shown));
            rows.push(Line::styled(truncate(&more, columns, theme.ellipsis()), theme.dim()));
        }
        rows
    }

    /// Returns a row per ended transfer, the latest first.
    pub(super) fn ended_rows(&self, theme: TerminalTheme, columns: usize) -> Vec<Line<'static>> {
        self.ended.iter().rev().map(|transfer| ended_row(transfer, theme, columns)).collect()
    }
}

impl RunningTransfer {
    fn new(told: &FileTransfer, is_hashing: bool, now: Instant) -> Self {
        let mut meter = RateMeter::default();
        meter.advance(told.bytes, now);
        Self { transfer: told.clone(), is_hashing, meter, last_update: now }
    }

    fn advance(&mut self, told: &FileTransfer, now: Instant) {
        self.transfer = told.clone();
        self.last_update = now;
        self.meter.advance(told.bytes, now);
    }

    fn label(&self, theme: TerminalTheme, columns: usize) -> String {
        let FileTransfer { peer, name, direction, .. } = &self.transfer;
        if self.is_hashing {
            tr!("hashing {name} for {user}", name = name_encoding::display_name(name.as_str()), user = peer)
        } else {
            label(name.as_str(), peer, *direction, theme, columns)
        }
    }

    fn row(
        &self,
        label: &str,
        others: &[String],
        look: TerminalTheme,
        columns: usize,
        now: Option<Instant>,
    ) -> Line<'static> {
        let FileTransfer { bytes, size, .. } = &self.transfer;
        let now = now.unwrap_or(self.last_update);
        let note = if self.meter.is_stalled(now) { BarNote::Stalled.word() } else { String::new() };
        let row = ProgressRow { label, others, bytes: *bytes, size: *size, rate: self.meter.rate(now), note: &note };
        row.line(look, columns)
    }
}

fn ended_row(transfer: &FileTransfer, theme: TerminalTheme, columns: usize) -> Line<'static> {
    let (sign, style) = match transfer.state {
        TransferState::Failed => ("!", theme.problem()),
        TransferState::Done | TransferState::Running => (if theme.unicode { "✓" } else { "+" }, theme.good()),
    };
    let FileTransfer { peer, name, direction, bytes, .. } = transfer;
    let text = format!("{} ({})", label(name.as_str(), peer, *direction, theme, columns), format_size(*bytes));
    Line::from(vec![
        Span::styled(sign, style),
        Span::styled(format!(" {}", truncate_middle(&text, columns.saturating_sub(2), theme.ellipsis())), theme.dim()),
    ])
}

fn label(name: &str, peer: &UserName, direction: TransferDirection, theme: TerminalTheme, columns: usize) -> String {
    let arrow = match (direction, theme.unicode) {
        (TransferDirection::Down, true) => "↓",
        (TransferDirection::Up, true) => "↑",
        (TransferDirection::Down, false) => "<",
        (TransferDirection::Up, false) => ">",
    };
    let name = name_encoding::display_name(name);
    match direction {
        _ if columns < 60 => format!("{arrow} {name}"),
        TransferDirection::Down => tr!("{arrow} {name} from {user}", arrow, name, user = peer),
        TransferDirection::Up => tr!("{arrow} {name} to {user}", arrow, name, user = peer),
    }
}

fn is_same(one: &FileTransfer, other: &FileTransfer) -> bool {
    one.peer == other.peer && one.name == other.name && one.direction == other.direction
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    const LOOK: TerminalTheme = TerminalTheme { color: false, unicode: true };

    fn told(name: &str, bytes: u64, state: TransferState) -> FileTransfer {
        let (peer, name) = ("bob".parse().unwrap(), name.parse().unwrap());
        FileTransfer { peer, name, direction: TransferDirection::Down, bytes, size: 100_000_000, state }
    }

    fn text(rows: &[Line<'_>]) -> Vec<String> {
        rows.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_bar_moves_and_ends() {
        let begun = Instant::now();
        let mut transfers = TransferList::default();
        transfers.update(&told("film.mkv", 0, TransferState::Running), begun);
        transfers.update(&told("film.mkv", 20_000_000, TransferState::Running), begun + Duration::from_secs(2));
        let rows = text(&transfers.rows(LOOK, 70, 4));
        assert_eq!(rows, ["↓ film.mkv from bob           ━━────────────  20%  10.0 MB/s     8.0 s"]);
        for columns in 8..100 {
            for row in text(&transfers.rows(LOOK, columns, 4)) {
                assert!(row.width() <= columns, "{columns}: {row}");
            }
        }
        transfers.update(&told("film.mkv", 100_000_000, TransferState::Done), begun + Duration::from_secs(9));
        assert_eq!(transfers.running_count(), 0);
        assert_eq!(text(&transfers.ended_rows(LOOK, 40)), ["✓ ↓ film.mkv (100 MB)"]);
    }

    #[test]
    fn what_is_hashed_is_told_from_what_goes_out() {
        let now = Instant::now();
        let mut transfers = TransferList::default();
        let up =
            FileTransfer { direction: TransferDirection::Up, ..told("film.mkv", 25_000_000, TransferState::Running) };
        transfers.update(&up, now);
        transfers.update_hashing(&up, now);
        assert!(text(&transfers.rows(LOOK, 70, 4))[1].starts_with("hashing film.mkv for bob"));
        transfers.update_hashing(&FileTransfer { state: TransferState::Done, ..up }, now);
        assert_eq!((transfers.running_count(), transfers.ended_rows(LOOK, 70).len()), (1, 0));
    }

    #[test]
    fn an_upload_ends_when_it_was_fetched() {
        let now = Instant::now();
        let mut transfers = TransferList::default();
        let up = FileTransfer { direction: TransferDirection::Up, ..told("film.mkv", 5, TransferState::Running) };
        transfers.handle_event(&NodeEvent::Transfer(up.clone()), now);
        assert_eq!(transfers.running_count(), 1);
        transfers.handle_event(&NodeEvent::Fetched { by: up.peer, name: up.name, bytes: up.size, size: up.size }, now);
        assert_eq!(transfers.running_count(), 0);
        assert_eq!(text(&transfers.ended_rows(LOOK, 40)), ["✓ ↑ film.mkv (100 MB)"]);
    }

    #[test]
    fn what_stalls_shows_no_speed() {
        let begun = Instant::now();
        let mut transfers = TransferList::default();
        for second in 0..5 {
            transfers
                .update(&told("a", second * 1_000_000, TransferState::Running), begun + Duration::from_secs(second));
        }
        let row = |transfers: &TransferList| text(&transfers.rows(LOOK, 60, 1)).concat();
        assert!(row(&transfers).contains("1.00 MB/s"), "{}", row(&transfers));
        transfers.expire(begun + Duration::from_secs(9));
        assert!(row(&transfers).contains("stalled") && !row(&transfers).contains("/s"), "{}", row(&transfers));
    }

    #[test]
    fn too_many_are_counted_and_the_silent_forgotten() {
        let begun = Instant::now();
        let mut transfers = TransferList::default();
        for name in ["a", "b", "c", "d"] {
            transfers.update(&told(name, 1, TransferState::Running), begun);
        }
        assert_eq!(
            text(&transfers.rows(LOOK, 30, 3)),
            ["↓ a                         0%", "↓ b                         0%", "  and 2 more on their way"]
        );
        assert!(!transfers.expire(begun + IDLE_TIMEOUT / 2));
        assert!(transfers.expire(begun + IDLE_TIMEOUT));
        assert!(transfers.rows(LOOK, 30, 3).is_empty());
    }
}
