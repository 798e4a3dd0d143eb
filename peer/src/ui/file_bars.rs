//! The bars of files on their way: for those that come, as many as there is room for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use shared::names::name_encoding;

use super::progress_bar::{ByteProgressBar, LastActivity, terminal_rows};
use super::theme::TerminalTheme;
use crate::engine::fetch::FileNo;

/// Files that have a bar of their own at once.
const MAX_BARS: usize = 8;
/// Rows of the terminal that are left to what scrolls by.
const RESERVED_ROWS: usize = 3;
/// Of more files than these, only those have a bar that take a while to come: small ones go by too fast to be looked at.
const MAX_FEW_FILES: usize = 20;
/// A file that takes so long from its first byte on is worth a bar.
const MIN_BAR_AGE: Duration = Duration::from_millis(200);
/// Between two looks at who could have a bar.
const FILL_INTERVAL: Duration = Duration::from_millis(100);

/// Files that are begun and not finished, and the bars that some of them have.
#[derive(Debug)]
pub(super) struct FileBars {
    bars: MultiProgress,
    theme: TerminalTheme,
    active: HashMap<FileNo, ActiveFile>,
    /// How many of them have a bar: there may be a hundred thousand to look through.
    bar_count: usize,
    /// Files that were begun, ever.
    started_count: usize,
    is_many: bool,
    /// Said behind each name.
    suffix: String,
    last_activity: LastActivity,
    last_fill: Instant,
}

#[derive(Debug)]
struct ActiveFile {
    /// Files are shown in the order in which they were begun.
    number: usize,
    name: String,
    size: u64,
    bytes: u64,
    /// When the first of it came.
    first_byte_at: Option<Instant>,
    bar: Option<ByteProgressBar>,
}

impl FileBars {
    /// None yet.
    pub(super) fn new(bars: &MultiProgress, theme: TerminalTheme) -> Self {
        let (active, suffix) = (HashMap::new(), String::new());
        let (bar_count, started_count, is_many, last_activity) = (0, 0, false, LastActivity::default());
        Self {
            bars: bars.clone(),
            theme,
            active,
            bar_count,
            started_count,
            is_many,
            suffix,
            last_activity,
            last_fill: Instant::now(),
        }
    }

    /// So many files will come in all.
    pub(super) const fn set_file_count(&mut self, files: usize) {
        self.is_many = files > MAX_FEW_FILES;
    }

    /// A file is begun, with so many bytes from before.
    pub(super) fn start(&mut self, file: FileNo, name: &str, size: u64, bytes: u64, total: Option<&ByteProgressBar>) {
        let active = self.activate(file, name, size);
        (active.bytes, active.first_byte_at) = (bytes, None);
        if let Some(bar) = self.ensure_bar(file, total) {
            bar.set_note("");
            bar.reset_to(bytes, Instant::now());
        }
    }

    /// So many bytes of a file that is there already were looked at.
    pub(super) fn check(&mut self, file: FileNo, name: &str, size: u64, bytes: u64, total: Option<&ByteProgressBar>) {
        self.activate(file, name, size);
        if let Some(bar) = self.ensure_bar(file, total) {
            bar.set_note("verifying");
            bar.set_bytes(bytes, Instant::now());
        }
    }

    /// Bytes of a file came.
    pub(super) fn advance(&mut self, file: FileNo, bytes: u64, total: Option<&ByteProgressBar>) {
        let Some(active) = self.active.get_mut(&file) else { return };
        self.last_activity.record(Instant::now());
        active.bytes += bytes;
        active.first_byte_at.get_or_insert_with(Instant::now);
        // Not done before it is durable and has its name.
        let (bytes, is_all) = (active.bytes, active.bytes >= active.size);
        if let Some(bar) = self.ensure_bar(file, total) {
            bar.set_bytes(bytes, Instant::now());
            bar.set_note(if is_all { "verified" } else { "" });
        }
    }

    /// A file is here, or is not to be had; its bar goes to another one.
    pub(super) fn end(&mut self, file: FileNo, total: Option<&ByteProgressBar>) {
        let ended = self.active.remove(&file);
        self.bar_count -= usize::from(ended.is_some_and(|ended| ended.bar.is_some()));
        if !self.is_many {
            self.fill(total);
        }
    }

    /// Takes all bars away.
    pub(super) fn clear(&mut self) {
        self.active.clear();
        self.bar_count = 0;
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

    /// The bar of a file. When there are as many as may be, one whose file doesn't move makes room for one whose file does.
    fn ensure_bar(&mut self, file: FileNo, total: Option<&ByteProgressBar>) -> Option<&ByteProgressBar> {
        let active = self.active.get(&file)?;
        if active.bar.is_none() {
            let moves = active.first_byte_at.is_some();
            if self.is_many && active.first_byte_at.is_none_or(|began| began.elapsed() < MIN_BAR_AGE) {
                return None;
            }
            let most = MAX_BARS.min(terminal_rows().saturating_sub(RESERVED_ROWS)).max(1);
            if self.bar_count >= most {
                // Of many, none has a bar that doesn't move.
                if !moves || self.is_many {
                    return None;
                }
                let idle =
                    self.active.values_mut().filter(|other| other.bar.is_some() && other.first_byte_at.is_none());
                idle.max_by_key(|other| other.number)?.bar = None;
                self.bar_count -= 1;
            }
            let active = self.active.get_mut(&file)?;
            let label = format!("{}{}", active.name, self.suffix);
            let bar =
                ByteProgressBar::new_in_group(&self.bars, total, self.theme, &label, active.size, &self.last_activity);
            bar.reset_to(active.bytes, Instant::now());
            active.bar = Some(bar);
            self.bar_count += 1;
        }
        self.active.get(&file)?.bar.as_ref()
    }

    /// Gives bars to files that have none, as far as there is room: those first that move, and were begun first.
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
