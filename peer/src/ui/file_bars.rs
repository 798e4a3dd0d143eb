//! Bars of single files: for those that make progress, as many as there is room for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use localization::tr;
use shared::names::name_encoding;

use super::progress_bar::{BarGroup, BarNote, ByteProgressBar};
use super::terminal_size::terminal_size;
use super::theme::TerminalTheme;
use crate::engine::fetch::FileNo;

/// Files with a bar at the same time, at most.
const MAX_BARS: usize = 8;
/// Terminal rows left free for printed lines.
const RESERVED_ROWS: usize = 3;
/// Beyond this number of files, only slow ones get a bar: a small file's bar vanishes before it can be read, and
/// drawing one for each made a fetch of a thousand files take a fifth longer.
const MAX_FEW_FILES: usize = 20;
/// A file whose first byte is older than this is slow.
const MIN_BAR_AGE: Duration = Duration::from_millis(200);
/// Time between two searches for files that could get a bar.
const FILL_INTERVAL: Duration = Duration::from_millis(100);

/// The unfinished files, and the bars of some of them.
#[derive(Debug)]
pub(super) struct FileBars {
    bars: MultiProgress,
    theme: TerminalTheme,
    active: HashMap<FileNo, ActiveFile>,
    /// The number of files with a bar; kept because counting would scan up to a hundred thousand files.
    bar_count: usize,
    /// Files started so far.
    started_count: usize,
    is_many: bool,
    /// The users behind each name, if they are shown.
    sources: Option<String>,
    group: BarGroup,
    last_fill: Instant,
}

#[derive(Debug)]
struct ActiveFile {
    /// The order of start, in which bars are given.
    number: usize,
    name: String,
    size: u64,
    bytes: u64,
    /// Time of the first byte in this run; `None` while nothing arrives.
    first_byte_at: Option<Instant>,
    bar: Option<ByteProgressBar>,
}

impl FileBars {
    /// Creates a set without bars.
    pub(super) fn new(bars: &MultiProgress, theme: TerminalTheme) -> Self {
        let (active, sources) = (HashMap::new(), None);
        let (bar_count, started_count, is_many, group) = (0, 0, false, BarGroup::default());
        Self {
            bars: bars.clone(),
            theme,
            active,
            bar_count,
            started_count,
            is_many,
            sources,
            group,
            last_fill: Instant::now(),
        }
    }

    /// Sets the total number of files.
    pub(super) const fn set_file_count(&mut self, files: usize) {
        self.is_many = files > MAX_FEW_FILES;
    }

    /// Starts a file; `bytes` of it are there from an earlier run.
    pub(super) fn start(&mut self, file: FileNo, name: &str, size: u64, bytes: u64, total: Option<&ByteProgressBar>) {
        let active = self.activate(file, name, size);
        (active.bytes, active.first_byte_at) = (bytes, None);
        if let Some(bar) = self.ensure_bar(file, total) {
            bar.set_note(None);
            bar.reset_to(bytes, Instant::now());
        }
    }

    /// Shows that `bytes` of a local file were verified.
    pub(super) fn check(&mut self, file: FileNo, name: &str, size: u64, bytes: u64, total: Option<&ByteProgressBar>) {
        self.activate(file, name, size);
        if let Some(bar) = self.ensure_bar(file, total) {
            bar.set_note(Some(BarNote::Verifying));
            bar.set_bytes(bytes, Instant::now());
        }
    }

    /// Advances a file.
    pub(super) fn advance(&mut self, file: FileNo, bytes: u64, total: Option<&ByteProgressBar>) {
        let Some(active) = self.active.get_mut(&file) else { return };
        // Also for a file without a bar: the idle bars then wait for their turn, and don't stall.
        self.group.put_move(Instant::now());
        active.bytes += bytes;
        active.first_byte_at.get_or_insert_with(Instant::now);
        // A complete file is only done once it is durable and has its name.
        let (bytes, is_all) = (active.bytes, active.bytes >= active.size);
        if let Some(bar) = self.ensure_bar(file, total) {
            bar.set_bytes(bytes, Instant::now());
            bar.set_note(is_all.then_some(BarNote::Verified));
        }
    }

    /// Ends a file; another file may get its bar.
    pub(super) fn end(&mut self, file: FileNo, total: Option<&ByteProgressBar>) {
        let ended = self.active.remove(&file);
        self.bar_count -= usize::from(ended.is_some_and(|ended| ended.bar.is_some()));
        // With many files, `tick` fills the free bar: sorting all files for each finished one would take
        // quadratic time.
        if !self.is_many {
            self.fill(total);
        }
    }

    /// Removes all bars.
    pub(super) fn clear(&mut self) {
        self.active.clear();
        self.bar_count = 0;
    }

    /// Sets the users behind each name, and the note of each bar.
    pub(super) fn describe(&mut self, sources: Option<String>, note: Option<BarNote>) {
        self.sources = sources;
        for active in self.active.values() {
            if let Some(bar) = &active.bar {
                bar.set_label(&bar_label(&active.name, self.sources.as_deref()));
                bar.set_note(note);
            }
        }
    }

    /// Gives bars to files that have become slow.
    pub(super) fn tick(&mut self, total: Option<&ByteProgressBar>) {
        if self.last_fill.elapsed() >= FILL_INTERVAL {
            self.fill(total);
        }
    }

    fn activate(&mut self, file: FileNo, name: &str, size: u64) -> &mut ActiveFile {
        let number = self.started_count;
        self.active.entry(file).or_insert_with(|| {
            self.started_count += 1;
            let name = name_encoding::display_name(name).into_owned();
            ActiveFile { number, name, size, bytes: 0, first_byte_at: None, bar: None }
        })
    }

    /// Returns the file's bar. If all bars are in use, a file that makes progress takes the bar of one that doesn't.
    fn ensure_bar(&mut self, file: FileNo, total: Option<&ByteProgressBar>) -> Option<&ByteProgressBar> {
        let active = self.active.get(&file)?;
        if active.bar.is_none() {
            let moves = active.first_byte_at.is_some();
            if self.is_many && active.first_byte_at.is_none_or(|began| began.elapsed() < MIN_BAR_AGE) {
                return None;
            }
            let most = MAX_BARS.min(usize::from(terminal_size().height).saturating_sub(RESERVED_ROWS)).max(1);
            if self.bar_count >= most {
                // Among many files, only those that make progress have a bar, so no bar can be taken.
                if !moves || self.is_many {
                    return None;
                }
                // Bars are given in order of start, so of the idle files the one started last loses its bar.
                let idle =
                    self.active.values_mut().filter(|other| other.bar.is_some() && other.first_byte_at.is_none());
                idle.max_by_key(|other| other.number)?.bar = None;
                self.bar_count -= 1;
            }
            let active = self.active.get_mut(&file)?;
            let label = bar_label(&active.name, self.sources.as_deref());
            let bar = ByteProgressBar::new_in_group(&self.bars, total, self.theme, &label, active.size, &self.group);
            bar.reset_to(active.bytes, Instant::now());
            active.bar = Some(bar);
            self.bar_count += 1;
        }
        self.active.get(&file)?.bar.as_ref()
    }

    /// Gives free bars to files without one: first those that make progress, then in order of start.
    fn fill(&mut self, total: Option<&ByteProgressBar>) {
        self.last_fill = Instant::now();
        let may_have = |active: &ActiveFile| active.bar.is_none() && (!self.is_many || active.first_byte_at.is_some());
        let without = self.active.iter().filter(|(_, active)| may_have(active));
        let mut waiting: Vec<(bool, usize, FileNo)> =
            without.map(|(file, active)| (active.first_byte_at.is_none(), active.number, *file)).collect();
        waiting.sort_unstable();
        for (_, _, file) in waiting {
            self.ensure_bar(file, total);
        }
    }
}

fn bar_label(name: &str, sources: Option<&str>) -> String {
    match sources {
        Some(users) => tr!("{name} from {users}", name, users),
        None => name.to_owned(),
    }
}
