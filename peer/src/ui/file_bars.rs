//! The bars of files on their way: for those that come, as many as there is room for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use shared::names::stand_in;

use super::bar::{Bar, BarGroup, screen_rows};
use super::look::Look;
use crate::engine::fetch::FileNo;

/// Files that have a bar of their own at once.
const BARS: usize = 8;
/// Rows of the terminal that are left to what scrolls by.
const SCROLLS: usize = 3;
/// Of more files than these, only those have a bar that take a while to come: small ones go by too fast to be looked at.
const FEW: usize = 20;
/// A file that takes so long from its first byte on is worth a bar.
const WORTH_A_BAR: Duration = Duration::from_millis(200);
/// Between two looks at who could have a bar.
const FILL: Duration = Duration::from_millis(100);

/// Files that are begun and not finished, and the bars that some of them have.
#[derive(Debug)]
pub(super) struct FileBars {
    bars: MultiProgress,
    look: Look,
    active: HashMap<FileNo, Active>,
    /// How many of them have a bar: there may be a hundred thousand to look through.
    shown: usize,
    /// Files that were begun, ever.
    begun: usize,
    is_many: bool,
    /// Said behind each name.
    suffix: String,
    group: BarGroup,
    filled: Instant,
}

#[derive(Debug)]
struct Active {
    /// Files are shown in the order in which they were begun.
    number: usize,
    name: String,
    size: u64,
    bytes: u64,
    /// When the first of it came.
    moves: Option<Instant>,
    bar: Option<Bar>,
}

impl FileBars {
    /// None yet.
    pub(super) fn new(bars: &MultiProgress, look: Look) -> Self {
        let (active, suffix) = (HashMap::new(), String::new());
        let (shown, begun, is_many, group) = (0, 0, false, BarGroup::default());
        Self { bars: bars.clone(), look, active, shown, begun, is_many, suffix, group, filled: Instant::now() }
    }

    /// So many files will come in all.
    pub(super) const fn expect(&mut self, files: usize) {
        self.is_many = files > FEW;
    }

    /// A file is begun, with so many bytes from before.
    pub(super) fn start(&mut self, file: FileNo, name: &str, size: u64, bytes: u64, total: Option<&Bar>) {
        let active = self.activate(file, name, size);
        (active.bytes, active.moves) = (bytes, None);
        if let Some(bar) = self.bar(file, total) {
            bar.set_note("");
            bar.begin_at(bytes, Instant::now());
        }
    }

    /// So many bytes of a file that is there already were looked at.
    pub(super) fn check(&mut self, file: FileNo, name: &str, size: u64, bytes: u64, total: Option<&Bar>) {
        self.activate(file, name, size);
        if let Some(bar) = self.bar(file, total) {
            bar.set_note("verifying");
            bar.set_bytes(bytes, Instant::now());
        }
    }

    /// Bytes of a file came.
    pub(super) fn advance(&mut self, file: FileNo, bytes: u64, total: Option<&Bar>) {
        let Some(active) = self.active.get_mut(&file) else { return };
        self.group.put_move(Instant::now());
        active.bytes += bytes;
        active.moves.get_or_insert_with(Instant::now);
        // Not done before it is durable and has its name.
        let (bytes, is_all) = (active.bytes, active.bytes >= active.size);
        if let Some(bar) = self.bar(file, total) {
            bar.set_bytes(bytes, Instant::now());
            bar.set_note(if is_all { "verified" } else { "" });
        }
    }

    /// A file is here, or is not to be had; its bar goes to another one.
    pub(super) fn end(&mut self, file: FileNo, total: Option<&Bar>) {
        let ended = self.active.remove(&file);
        self.shown -= usize::from(ended.is_some_and(|ended| ended.bar.is_some()));
        if !self.is_many {
            self.fill(total);
        }
    }

    /// Takes all bars away.
    pub(super) fn clear(&mut self) {
        self.active.clear();
        self.shown = 0;
    }

    /// Says this behind each name, and what they wait for.
    pub(super) fn describe(&mut self, suffix: &str, note: &'static str) {
        suffix.clone_into(&mut self.suffix);
        for active in self.active.values() {
            if let Some(bar) = &active.bar {
                bar.set_label(&format!("{}{suffix}", active.name));
                bar.set_note(note);
            }
        }
    }

    /// Time went by: files that take longer than thought have a bar now.
    pub(super) fn tick(&mut self, total: Option<&Bar>) {
        if self.filled.elapsed() >= FILL {
            self.fill(total);
        }
    }

    fn activate(&mut self, file: FileNo, name: &str, size: u64) -> &mut Active {
        let number = self.begun;
        self.active.entry(file).or_insert_with(|| {
            self.begun += 1;
            let name = stand_in::shown(name).into_owned();
            Active { number, name, size, bytes: 0, moves: None, bar: None }
        })
    }

    /// The bar of a file. When there are as many as may be, one whose file doesn't move makes room for one whose file does.
    fn bar(&mut self, file: FileNo, total: Option<&Bar>) -> Option<&Bar> {
        let active = self.active.get(&file)?;
        if active.bar.is_none() {
            let moves = active.moves.is_some();
            if self.is_many && active.moves.is_none_or(|began| began.elapsed() < WORTH_A_BAR) {
                return None;
            }
            let most = BARS.min(screen_rows().saturating_sub(SCROLLS)).max(1);
            if self.shown >= most {
                // Of many, none has a bar that doesn't move.
                if !moves || self.is_many {
                    return None;
                }
                let idle = self.active.values_mut().filter(|other| other.bar.is_some() && other.moves.is_none());
                idle.max_by_key(|other| other.number)?.bar = None;
                self.shown -= 1;
            }
            let active = self.active.get_mut(&file)?;
            let label = format!("{}{}", active.name, self.suffix);
            let bar = Bar::among(&self.bars, total, self.look, &label, active.size, &self.group);
            bar.begin_at(active.bytes, Instant::now());
            active.bar = Some(bar);
            self.shown += 1;
        }
        self.active.get(&file)?.bar.as_ref()
    }

    /// Gives bars to files that have none, as far as there is room: those first that move, and were begun first.
    fn fill(&mut self, total: Option<&Bar>) {
        self.filled = Instant::now();
        let may_have = |active: &Active| active.bar.is_none() && (!self.is_many || active.moves.is_some());
        let without = self.active.iter().filter(|(_, active)| may_have(active));
        let mut waiting: Vec<(bool, usize, FileNo)> =
            without.map(|(file, active)| (active.moves.is_none(), active.number, *file)).collect();
        waiting.sort_unstable();
        for (_, _, file) in waiting {
            self.bar(file, total);
        }
    }
}
