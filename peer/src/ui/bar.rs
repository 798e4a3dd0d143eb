//! A bar on standard error. What it shows is set when it changes, and drawn now and then.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::style::ProgressTracker;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::look::Look;
use super::progress_row::ProgressRow;
use super::rate_meter::RateMeter;

/// A bar beside one that moved so lately waits for its turn.
const LATELY: Duration = Duration::from_secs(3);
/// Between two drawings.
const FRAME: Duration = Duration::from_millis(150);

/// One bar; it is taken away when this is dropped.
#[derive(Debug)]
pub(super) struct Bar {
    bars: MultiProgress,
    shown: ProgressBar,
    facts: Arc<Mutex<Facts>>,
    /// Those that it is shown with, and its number among them.
    member: Option<(BarGroup, u64)>,
}

#[derive(Debug)]
struct Facts {
    label: String,
    bytes: u64,
    size: u64,
    note: &'static str,
    meter: RateMeter,
    /// More came than there was when it began.
    has_moved: bool,
}

/// Bars that stand below each other.
#[derive(Debug, Clone, Default)]
pub(super) struct BarGroup(Arc<Mutex<GroupFacts>>);

#[derive(Debug, Default)]
struct GroupFacts {
    /// When one of them moved last: those beside it that stand still wait for their turn.
    last_move: Option<Instant>,
    /// Their labels, by their numbers: names that are cut are told from each other.
    labels: BTreeMap<u64, String>,
    begun: u64,
}

impl BarGroup {
    /// One of the bars moves.
    pub(super) fn put_move(&self, now: Instant) {
        lock(&self.0).last_move = Some(now);
    }

    fn is_lately(&self, now: Instant) -> bool {
        lock(&self.0).last_move.is_some_and(|last| now.saturating_duration_since(last) < LATELY)
    }

    fn add(&self, label: &str) -> u64 {
        let mut facts = lock(&self.0);
        facts.begun += 1;
        let number = facts.begun;
        facts.labels.insert(number, label.to_owned());
        number
    }

    fn labels(&self) -> Vec<String> {
        lock(&self.0).labels.values().cloned().collect()
    }
}

impl Bar {
    /// A bar that stands for itself.
    pub(super) fn new(bars: &MultiProgress, look: Look, label: &str, size: u64) -> Self {
        Self::put(bars, None, look, label, size, None)
    }

    /// A bar of `group` above `below`, or the last one.
    pub(super) fn among(
        bars: &MultiProgress,
        below: Option<&Self>,
        look: Look,
        label: &str,
        size: u64,
        group: &BarGroup,
    ) -> Self {
        Self::put(bars, below, look, label, size, Some(group.clone()))
    }

    fn put(
        bars: &MultiProgress,
        below: Option<&Self>,
        look: Look,
        label: &str,
        size: u64,
        group: Option<BarGroup>,
    ) -> Self {
        let member = group.as_ref().map(|group| group.add(label));
        let (label, meter) = (label.to_owned(), RateMeter::default());
        let facts = Arc::new(Mutex::new(Facts { label, bytes: 0, size, note: "", meter, has_moved: false }));
        let row = Row { facts: facts.clone(), look, group: group.clone() };
        let style = ProgressStyle::with_template("{row}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(size).with_style(style.with_key("row", row));
        let shown = match below {
            Some(below) => bars.insert_before(&below.shown, bar),
            None => bars.add(bar),
        };
        shown.tick();
        shown.enable_steady_tick(FRAME);
        Self { bars: bars.clone(), shown, facts, member: group.zip(member) }
    }

    /// So many bytes are there; the first time, from before.
    pub(super) fn set_bytes(&self, bytes: u64, now: Instant) {
        let mut facts = lock(&self.facts);
        facts.has_moved |= bytes > facts.bytes;
        facts.bytes = bytes;
        facts.meter.advance(bytes, now);
    }

    /// So many bytes are there, from before: they are no speed.
    pub(super) fn begin_at(&self, bytes: u64, now: Instant) {
        lock(&self.facts).meter = RateMeter::default();
        self.set_bytes(bytes, now);
        lock(&self.facts).has_moved = false;
    }

    /// All that there is to come.
    pub(super) fn set_size(&self, size: u64) {
        lock(&self.facts).size = size;
    }

    pub(super) fn set_label(&self, label: &str) {
        label.clone_into(&mut lock(&self.facts).label);
        if let Some((group, number)) = &self.member {
            lock(&group.0).labels.insert(*number, label.to_owned());
        }
    }

    /// What it does, in a word, while it has no speed.
    pub(super) fn set_note(&self, note: &'static str) {
        lock(&self.facts).note = note;
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some((group, number)) = &self.member {
            lock(&group.0).labels.remove(number);
        }
        self.shown.finish_and_clear();
        self.bars.remove(&self.shown);
    }
}

/// Columns of the terminal; a console that knows of none says 0.
pub(super) fn columns() -> usize {
    crossterm::terminal::size().map_or(80, |(columns, _)| if columns == 0 { 80 } else { columns.into() })
}

/// Rows of the terminal, likewise.
pub(super) fn screen_rows() -> usize {
    crossterm::terminal::size().map_or(24, |(_, rows)| if rows == 0 { 24 } else { rows.into() })
}

#[derive(Clone)]
struct Row {
    facts: Arc<Mutex<Facts>>,
    look: Look,
    group: Option<BarGroup>,
}

impl ProgressTracker for Row {
    fn clone_box(&self) -> Box<dyn ProgressTracker> {
        Box::new(self.clone())
    }

    fn tick(&mut self, _: &ProgressState, _: Instant) {}

    fn reset(&mut self, _: &ProgressState, _: Instant) {}

    fn write(&self, _: &ProgressState, out: &mut dyn Write) {
        let now = Instant::now();
        let Facts { label, bytes, size, note, meter, has_moved } = &*lock(&self.facts);
        let is_idle = note.is_empty() && meter.is_stalled(now) && bytes < size;
        let others_move = self.group.as_ref().map(|group| group.is_lately(now));
        let others = self.group.as_ref().map(BarGroup::labels).unwrap_or_default();
        let note = if is_idle { idle_word(*has_moved, others_move) } else { note };
        let row = ProgressRow { label, others: &others, bytes: *bytes, size: *size, speed: meter.speed(now), note };
        // It is a string that is written to.
        let _ = write!(out, "{}", row.line(self.look, columns()));
    }
}

/// What a bar says that stands still, beside others or alone.
const fn idle_word(has_moved: bool, others_move: Option<bool>) -> &'static str {
    match others_move {
        Some(true) => "waiting",
        Some(false) if !has_moved => "waiting",
        _ => "stalled",
    }
}

fn lock<T>(facts: &Mutex<T>) -> MutexGuard<'_, T> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_turn_has_not_come_is_not_stalled() {
        assert_eq!(idle_word(false, Some(true)), "waiting");
        assert_eq!(idle_word(false, Some(false)), "waiting");
        assert_eq!(idle_word(true, Some(true)), "waiting");
        assert_eq!(idle_word(true, Some(false)), "stalled");
        assert_eq!(idle_word(true, None), "stalled");
        let (last, now) = (BarGroup::default(), Instant::now());
        assert!(!last.is_lately(now));
        last.put_move(now);
        assert!(last.is_lately(now + LATELY / 2) && !last.is_lately(now + LATELY));
    }
}
