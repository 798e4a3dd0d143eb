//! A progress bar on standard error. Its state is set at any time and drawn by a timer.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::style::ProgressTracker;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use localization::tr;
use parking_lot::{Mutex, MutexGuard};

use super::progress_row::ProgressRow;
use super::rate_meter::RateMeter;
use super::terminal_size::terminal_size;
use super::theme::TerminalTheme;

/// Time after a group's last progress during which a bar without progress counts as waiting, not as stalled.
const ACTIVITY_WINDOW: Duration = Duration::from_secs(3);
/// Time between two drawings.
const FRAME_INTERVAL: Duration = Duration::from_millis(150);

/// A progress bar; dropping it removes it from the terminal.
#[derive(Debug)]
pub(super) struct ByteProgressBar {
    bars: MultiProgress,
    widget: ProgressBar,
    state: Arc<Mutex<BarState>>,
    /// Those that it is shown with, and its number among them.
    member: Option<(BarGroup, u64)>,
}

#[derive(Debug)]
struct BarState {
    label: String,
    bytes: u64,
    size: u64,
    note: Option<BarNote>,
    meter: RateMeter,
    /// True if bytes were added since the last reset.
    has_moved: bool,
}

/// The word on a bar while it has no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BarNote {
    /// A local file is read.
    Verifying,
    /// All is there; the file is not yet in its place.
    Verified,
    /// Its turn has not come, or nobody has it now.
    Waiting,
    Stalled,
}

impl BarNote {
    /// Returns the word; it has at most 10 columns in every language.
    pub(super) fn word(self) -> String {
        match self {
            Self::Verifying => tr!("bar" => "verifying"),
            Self::Verified => tr!("bar" => "verified"),
            Self::Waiting => tr!("bar" => "waiting"),
            Self::Stalled => tr!("bar" => "stalled"),
        }
    }
}

/// Time of the last progress in a group of bars. Streams share the sender's queue, so one idle bar beside others is
/// normal.
#[derive(Debug, Clone, Default)]
pub(super) struct BarGroup(Arc<Mutex<GroupFacts>>);

#[derive(Debug, Default)]
struct GroupFacts {
    /// When one of them moved last: those beside it that stand still wait for their turn.
    last_activity: Option<Instant>,
    /// Their labels, by their numbers: names that are cut are told from each other.
    labels: BTreeMap<u64, String>,
    begun: u64,
}

impl BarGroup {
    /// One of the bars moves.
    pub(super) fn put_move(&self, now: Instant) {
        lock(&self.0).last_activity = Some(now);
    }

    fn is_recent(&self, now: Instant) -> bool {
        lock(&self.0).last_activity.is_some_and(|last| now.saturating_duration_since(last) < ACTIVITY_WINDOW)
    }

    fn add(&self, label: &str) -> u64 {
        let mut facts = lock(&self.0);
        // Numbers are never reused: a bar that goes must not take the label of a later one with it.
        facts.begun += 1;
        let number = facts.begun;
        facts.labels.insert(number, label.to_owned());
        number
    }

    fn labels(&self) -> Vec<String> {
        lock(&self.0).labels.values().cloned().collect()
    }
}

impl ByteProgressBar {
    /// Creates a bar outside any group.
    pub(super) fn new(bars: &MultiProgress, theme: TerminalTheme, label: &str, size: u64) -> Self {
        Self::record(bars, None, theme, label, size, None)
    }

    /// Creates a bar above `below`, or at the end. `last_move` is shared by the bars of its group.
    pub(super) fn new_in_group(
        bars: &MultiProgress,
        below: Option<&Self>,
        theme: TerminalTheme,
        label: &str,
        size: u64,
        group: &BarGroup,
    ) -> Self {
        Self::record(bars, below, theme, label, size, Some(group.clone()))
    }

    fn record(
        bars: &MultiProgress,
        below: Option<&Self>,
        theme: TerminalTheme,
        label: &str,
        size: u64,
        group: Option<BarGroup>,
    ) -> Self {
        let member = group.as_ref().map(|group| group.add(label));
        let (label, meter) = (label.to_owned(), RateMeter::default());
        let state = Arc::new(Mutex::new(BarState { label, bytes: 0, size, note: None, meter, has_moved: false }));
        let row = BarRenderer { state: state.clone(), theme, group: group.clone() };
        let style = ProgressStyle::with_template("{row}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(size).with_style(style.with_key("row", row));
        let widget = match below {
            Some(below) => bars.insert_before(&below.widget, bar),
            None => bars.add(bar),
        };
        // Drawn at once; the timer's first tick comes an interval later.
        widget.tick();
        widget.enable_steady_tick(FRAME_INTERVAL);
        Self { bars: bars.clone(), widget, state, member: group.zip(member) }
    }

    /// Sets the number of bytes; a first call sets the meter's start.
    pub(super) fn set_bytes(&self, bytes: u64, now: Instant) {
        let mut facts = lock(&self.state);
        facts.has_moved |= bytes > facts.bytes;
        facts.bytes = bytes;
        facts.meter.advance(bytes, now);
    }

    /// Sets the number of bytes without counting the difference towards the rate.
    pub(super) fn reset_to(&self, bytes: u64, now: Instant) {
        lock(&self.state).meter = RateMeter::default();
        self.set_bytes(bytes, now);
        lock(&self.state).has_moved = false;
    }

    /// Sets the total number of bytes.
    pub(super) fn set_size(&self, size: u64) {
        lock(&self.state).size = size;
    }

    pub(super) fn set_label(&self, label: &str) {
        label.clone_into(&mut lock(&self.state).label);
        if let Some((group, number)) = &self.member {
            lock(&group.0).labels.insert(*number, label.to_owned());
        }
    }

    /// Sets the word shown while there is no rate.
    pub(super) fn set_note(&self, note: Option<BarNote>) {
        lock(&self.state).note = note;
    }
}

impl Drop for ByteProgressBar {
    fn drop(&mut self) {
        if let Some((group, number)) = &self.member {
            lock(&group.0).labels.remove(number);
        }
        self.widget.finish_and_clear();
        self.bars.remove(&self.widget);
    }
}

#[derive(Clone)]
struct BarRenderer {
    state: Arc<Mutex<BarState>>,
    theme: TerminalTheme,
    group: Option<BarGroup>,
}

impl ProgressTracker for BarRenderer {
    fn clone_box(&self) -> Box<dyn ProgressTracker> {
        Box::new(self.clone())
    }

    fn tick(&mut self, _: &ProgressState, _: Instant) {}

    fn reset(&mut self, _: &ProgressState, _: Instant) {}

    fn write(&self, _: &ProgressState, out: &mut dyn Write) {
        let now = Instant::now();
        let BarState { label, bytes, size, note, meter, has_moved } = &*lock(&self.state);
        let is_idle = note.is_none() && meter.is_stalled(now) && bytes < size;
        let others_move = self.group.as_ref().map(|group| group.is_recent(now));
        let others = self.group.as_ref().map(BarGroup::labels).unwrap_or_default();
        let note = if is_idle { Some(idle_note(*has_moved, others_move)) } else { *note };
        let note = note.map_or_else(String::new, BarNote::word);
        let row =
            ProgressRow { label, others: &others, bytes: *bytes, size: *size, rate: meter.rate(now), note: &note };
        // It is a string that is written to.
        let _ = write!(out, "{}", row.line(self.theme, terminal_size().width.into()));
    }
}

/// Returns the note of a bar without progress; `others_move` is `None` outside a group.
const fn idle_note(has_moved: bool, others_move: Option<bool>) -> BarNote {
    match others_move {
        Some(true) => BarNote::Waiting,
        // Nothing moves, but what never began may only wait for its turn.
        Some(false) if !has_moved => BarNote::Waiting,
        _ => BarNote::Stalled,
    }
}

fn lock<T>(facts: &Mutex<T>) -> MutexGuard<'_, T> {
    facts.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_turn_has_not_come_is_not_stalled() {
        assert_eq!(idle_note(false, Some(true)), BarNote::Waiting);
        assert_eq!(idle_note(false, Some(false)), BarNote::Waiting);
        assert_eq!(idle_note(true, Some(true)), BarNote::Waiting);
        assert_eq!(idle_note(true, Some(false)), BarNote::Stalled);
        assert_eq!(idle_note(true, None), BarNote::Stalled);
        let (last, now) = (BarGroup::default(), Instant::now());
        assert!(!last.is_recent(now));
        last.put_move(now);
        assert!(last.is_recent(now + ACTIVITY_WINDOW / 2) && !last.is_recent(now + ACTIVITY_WINDOW));
    }
}
