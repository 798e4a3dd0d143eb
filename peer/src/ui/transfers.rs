//! Files on their way, as bars. Pure.

use std::time::{Duration, Instant};

use ratatui_core::text::{Line, Span};
use shared::UserName;
use shared::names::stand_in;

use super::look::Look;
use super::progress_row::ProgressRow;
use super::rate_meter::RateMeter;
use super::text::size;
use super::wrap::{cut, cut_middle};
use crate::engine::event::{Course, Event, Transfer, TransferState};

/// A transfer that nobody told anything about for so long is over: its process was killed.
const SILENT: Duration = Duration::from_secs(60);
/// Ended transfers that are kept to look at.
const KEPT: usize = 50;

/// The transfers that are known.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    running: Vec<Moving>,
    ended: Vec<Transfer>,
    /// When something was told last, also that time went by.
    now: Option<Instant>,
}

#[derive(Debug)]
struct Moving {
    transfer: Transfer,
    /// It is being hashed to be offered, and doesn't go anywhere yet.
    is_hashed: bool,
    meter: RateMeter,
    heard: Instant,
}

impl Transfers {
    /// Takes what the event tells of a transfer, if it does.
    pub(super) fn hear(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Transfer(told) => self.take(told, now),
            Event::Fetched { by, name, bytes, size } => {
                let state = if bytes >= size { TransferState::Done } else { TransferState::Failed };
                let (peer, name, direction) = (by.clone(), name.clone(), Course::Up);
                self.take(&Transfer { peer, name, direction, bytes: *bytes, size: *size, state }, now);
            }
            _ => {}
        }
    }

    fn take(&mut self, told: &Transfer, now: Instant) {
        self.now = Some(now);
        let place = self.running.iter().position(|moving| !moving.is_hashed && is_same(&moving.transfer, told));
        match (told.state, place) {
            (TransferState::Running, Some(place)) => self.running[place].advance(told, now),
            (TransferState::Running, None) => {
                self.running.push(Moving::new(told, false, now));
            }
            (TransferState::Done | TransferState::Failed, place) => {
                if let Some(place) = place {
                    self.running.remove(place);
                }
                self.ended.push(told.clone());
                if self.ended.len() > KEPT {
                    self.ended.remove(0);
                }
            }
        }
    }

    /// Takes how far a file is hashed that is to be offered.
    pub(super) fn hash(&mut self, told: &Transfer, now: Instant) {
        let place = self.running.iter().position(|moving| moving.is_hashed && is_same(&moving.transfer, told));
        match (told.state, place) {
            (TransferState::Running, Some(place)) => self.running[place].advance(told, now),
            (TransferState::Running, None) => self.running.push(Moving::new(told, true, now)),
            (_, Some(place)) => drop(self.running.remove(place)),
            (_, None) => {}
        }
    }

    /// Forgets those that nothing was heard of; true when there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        self.now = Some(now);
        let before = self.running.len();
        self.running.retain(|moving| now.saturating_duration_since(moving.heard) < SILENT);
        before != self.running.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.running.is_empty() && self.ended.is_empty()
    }

    /// How many are on their way.
    pub(super) const fn running(&self) -> usize {
        self.running.len()
    }

    /// A row each for what is on its way, at most `most`; what is left out is counted in the last one.
    pub(super) fn rows(&self, look: Look, columns: usize, most: usize) -> Vec<Line<'static>> {
        let shown = if self.running.len() > most { most.saturating_sub(1) } else { self.running.len() };
        let shown_ones = self.running.iter().take(shown);
        let labels: Vec<String> = shown_ones.clone().map(|moving| moving.label(look, columns)).collect();
        let row = |(moving, label): (&Moving, &String)| moving.row(label, &labels, look, columns, self.now);
        let mut rows: Vec<Line<'static>> = shown_ones.zip(&labels).map(row).collect();
        if shown < self.running.len() && most > 0 {
            let more = format!("  and {} more on their way", self.running.len() - shown);
            rows.push(Line::styled(cut(&more, columns, look.ellipsis()), look.dim()));
        }
        rows
    }

    /// A row each for those that ended, the last one first.
    pub(super) fn ended_rows(&self, look: Look, columns: usize) -> Vec<Line<'static>> {
        self.ended.iter().rev().map(|transfer| ended_row(transfer, look, columns)).collect()
    }
}

impl Moving {
    fn new(told: &Transfer, is_hashed: bool, now: Instant) -> Self {
        let mut meter = RateMeter::default();
        meter.advance(told.bytes, now);
        Self { transfer: told.clone(), is_hashed, meter, heard: now }
    }

    fn advance(&mut self, told: &Transfer, now: Instant) {
        self.transfer = told.clone();
        self.heard = now;
        self.meter.advance(told.bytes, now);
    }

    fn label(&self, look: Look, columns: usize) -> String {
        let Transfer { peer, name, direction, .. } = &self.transfer;
        if self.is_hashed {
            format!("hashing {} for {peer}", stand_in::shown(name.as_str()))
        } else {
            label(name.as_str(), peer, *direction, look, columns)
        }
    }

    fn row(&self, label: &str, others: &[String], look: Look, columns: usize, now: Option<Instant>) -> Line<'static> {
        let Transfer { bytes, size, .. } = &self.transfer;
        let now = now.unwrap_or(self.heard);
        let note = if self.meter.is_stalled(now) { "stalled" } else { "" };
        let row = ProgressRow { label, others, bytes: *bytes, size: *size, speed: self.meter.speed(now), note };
        row.line(look, columns)
    }
}

fn ended_row(transfer: &Transfer, look: Look, columns: usize) -> Line<'static> {
    let (sign, style) = match transfer.state {
        TransferState::Failed => ("!", look.problem()),
        TransferState::Done | TransferState::Running => (if look.unicode { "✓" } else { "+" }, look.good()),
    };
    let Transfer { peer, name, direction, bytes, .. } = transfer;
    let text = format!("{} ({})", label(name.as_str(), peer, *direction, look, columns), size(*bytes));
    Line::from(vec![
        Span::styled(sign, style),
        Span::styled(format!(" {}", cut_middle(&text, columns.saturating_sub(2), look.ellipsis())), look.dim()),
    ])
}

fn label(name: &str, peer: &UserName, direction: Course, look: Look, columns: usize) -> String {
    let arrow = match (direction, look.unicode) {
        (Course::Down, true) => "↓",
        (Course::Up, true) => "↑",
        (Course::Down, false) => "<",
        (Course::Up, false) => ">",
    };
    let name = stand_in::shown(name);
    let word = if direction == Course::Down { "from" } else { "to" };
    if columns >= 60 { format!("{arrow} {name} {word} {peer}") } else { format!("{arrow} {name}") }
}

fn is_same(one: &Transfer, other: &Transfer) -> bool {
    one.peer == other.peer && one.name == other.name && one.direction == other.direction
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    const LOOK: Look = Look { color: false, unicode: true };

    fn told(name: &str, bytes: u64, state: TransferState) -> Transfer {
        let (peer, name) = ("bob".parse().unwrap(), name.parse().unwrap());
        Transfer { peer, name, direction: Course::Down, bytes, size: 100_000_000, state }
    }

    fn text(rows: &[Line<'_>]) -> Vec<String> {
        rows.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_bar_moves_and_ends() {
        let begun = Instant::now();
        let mut transfers = Transfers::default();
        transfers.take(&told("film.mkv", 0, TransferState::Running), begun);
        transfers.take(&told("film.mkv", 20_000_000, TransferState::Running), begun + Duration::from_secs(2));
        let rows = text(&transfers.rows(LOOK, 70, 4));
        assert_eq!(rows, ["↓ film.mkv from bob           ━━────────────  20%  10.0 MB/s     8.0 s"]);
        for columns in 8..100 {
            for row in text(&transfers.rows(LOOK, columns, 4)) {
                assert!(row.width() <= columns, "{columns}: {row}");
            }
        }
        transfers.take(&told("film.mkv", 100_000_000, TransferState::Done), begun + Duration::from_secs(9));
        assert_eq!(transfers.running(), 0);
        assert_eq!(text(&transfers.ended_rows(LOOK, 40)), ["✓ ↓ film.mkv (100 MB)"]);
    }

    #[test]
    fn what_is_hashed_is_told_from_what_goes_out() {
        let now = Instant::now();
        let mut transfers = Transfers::default();
        let up = Transfer { direction: Course::Up, ..told("film.mkv", 25_000_000, TransferState::Running) };
        transfers.take(&up, now);
        transfers.hash(&up, now);
        assert!(text(&transfers.rows(LOOK, 70, 4))[1].starts_with("hashing film.mkv for bob"));
        transfers.hash(&Transfer { state: TransferState::Done, ..up }, now);
        assert_eq!((transfers.running(), transfers.ended_rows(LOOK, 70).len()), (1, 0));
    }

    #[test]
    fn an_upload_ends_when_it_was_fetched() {
        let now = Instant::now();
        let mut transfers = Transfers::default();
        let up = Transfer { direction: Course::Up, ..told("film.mkv", 5, TransferState::Running) };
        transfers.hear(&Event::Transfer(up.clone()), now);
        assert_eq!(transfers.running(), 1);
        transfers.hear(&Event::Fetched { by: up.peer, name: up.name, bytes: up.size, size: up.size }, now);
        assert_eq!(transfers.running(), 0);
        assert_eq!(text(&transfers.ended_rows(LOOK, 40)), ["✓ ↑ film.mkv (100 MB)"]);
    }

    #[test]
    fn what_stalls_shows_no_speed() {
        let begun = Instant::now();
        let mut transfers = Transfers::default();
        for second in 0..5 {
            transfers.take(&told("a", second * 1_000_000, TransferState::Running), begun + Duration::from_secs(second));
        }
        let row = |transfers: &Transfers| text(&transfers.rows(LOOK, 60, 1)).concat();
        assert!(row(&transfers).contains("1.00 MB/s"), "{}", row(&transfers));
        transfers.expire(begun + Duration::from_secs(9));
        assert!(row(&transfers).contains("stalled") && !row(&transfers).contains("/s"), "{}", row(&transfers));
    }

    #[test]
    fn too_many_are_counted_and_the_silent_forgotten() {
        let begun = Instant::now();
        let mut transfers = Transfers::default();
        for name in ["a", "b", "c", "d"] {
            transfers.take(&told(name, 1, TransferState::Running), begun);
        }
        assert_eq!(
            text(&transfers.rows(LOOK, 30, 3)),
            ["↓ a                         0%", "↓ b                         0%", "  and 2 more on their way"]
        );
        assert!(!transfers.expire(begun + SILENT / 2));
        assert!(transfers.expire(begun + SILENT));
        assert!(transfers.rows(LOOK, 30, 3).is_empty());
    }
}
