//! Bars for fetching; off a terminal, one line a file.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use serde_json::json;
use shared::names::numbered;
use shared::safe_text::safe_line;
use shared::{FileName, UserName};

use super::Output;
use super::bar::{Bar, columns, screen_rows};
use super::json::{file_json, summary_json};
use super::output::BarsOnTerminal;
use super::steps::Steps;
use super::text::{duration, files, rate, size};
use crate::engine::Error;
use crate::engine::fetch::{FetchEvent, FileNo, Report, Status, Summary};

/// Files that have a bar of their own at once.
const BARS: usize = 8;
/// Of more files than these, only those have a bar that take a while: small ones go by too fast to be looked at.
const FEW: usize = 20;
/// A file that takes so long is worth a bar.
const WORTH_A_BAR: Duration = Duration::from_millis(200);
/// Rows of the terminal that are left to what scrolls by.
const SCROLLS: usize = 3;
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// A rate is told of what took longer.
const WORTH_A_RATE: Duration = Duration::from_millis(100);
/// From so many columns on it is said from whom files come.
const NAMES_SOURCES: usize = 60;

/// Shows a fetch.
#[derive(Debug)]
pub struct FetchBars {
    output: Output,
    alone: bool,
    /// Failures that are told only if they turn out not to be the only thing to tell.
    held: Vec<String>,
    // The bars end before what they are drawn on does.
    total: Option<Bar>,
    active: HashMap<FileNo, Active>,
    multi: MultiProgress,
    terminal: Option<BarsOnTerminal>,
    /// Until it is known what there is to fetch.
    spinner: Option<ProgressBar>,
    /// Files that were begun, ever.
    begun_files: usize,
    /// Who is being fetched from.
    sources: Vec<UserName>,
    files: usize,
    finished_files: usize,
    bytes: u64,
    done_bytes: u64,
    steps: Steps,
    /// Lines of files that are here, to be told together.
    lines: Vec<String>,
    lines_told: Instant,
    /// When bars were given out last.
    filled: Instant,
    /// What is being looked at of what is there already: its name, and how many of its bytes were hashed.
    checked: Option<(String, u64)>,
    /// Files that are not there because all of it ended early.
    broken_off: usize,
    begun: Instant,
    told: Instant,
    failure: Option<std::io::Error>,
}

/// A file that is begun and not finished.
#[derive(Debug)]
struct Active {
    /// Files are shown in the order in which they were begun.
    number: usize,
    name: String,
    size: u64,
    bytes: u64,
    /// Something of it came.
    moves: bool,
    begun: Instant,
    bar: Option<Bar>,
}

impl FetchBars {
    /// Nothing is shown yet. The failure of what is `alone` is the command's own error, and told by it.
    pub fn new(output: &Output, alone: bool) -> Self {
        let target = if output.is_animated() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let begun = Instant::now();
        let multi = MultiProgress::with_draw_target(target);
        Self {
            output: output.clone(),
            alone,
            held: Vec::new(),
            total: None,
            active: HashMap::new(),
            terminal: output.is_animated().then(|| BarsOnTerminal::new(&multi)),
            multi,
            spinner: None,
            begun_files: 0,
            sources: Vec::new(),
            files: 0,
            finished_files: 0,
            bytes: 0,
            done_bytes: 0,
            steps: Steps::new(begun),
            lines: Vec::new(),
            lines_told: begun,
            filled: begun,
            checked: None,
            broken_off: 0,
            begun,
            told: begun,
            failure: None,
        }
    }

    /// Takes an event.
    pub fn show(&mut self, event: &FetchEvent<'_>) {
        if self.lines_told.elapsed() >= PROGRESS_EVERY {
            self.tell_lines();
        }
        if self.output.is_animated() && self.filled.elapsed() >= PROGRESS_EVERY {
            self.fill();
        }
        match event {
            FetchEvent::Connecting { user } => self.connecting(user),
            FetchEvent::Waiting { name } => {
                self.line(&format!("{} changed at the source and is being hashed again there…", safe_line(name)));
            }
            FetchEvent::Joined { user } => {
                self.come(user);
                self.line(&format!("{user} has the same and is asked as well"));
            }
            FetchEvent::NotAsked { user, why } => {
                self.output.warning(&format!("{user} is not asked: {}", safe_line(why)));
            }
            FetchEvent::Outdated { name } => {
                let name = safe_line(name.as_str());
                self.line(&format!("{name} changed at its source since: what was kept of it is removed"));
            }
            FetchEvent::Changed { file, name, bytes } => self.changed(*file, name, *bytes),
            FetchEvent::Lost { user, why } => {
                self.go(user);
                self.line(&format!(
                    "{user} went offline ({}); retrying (Ctrl-C stops, nothing is lost)",
                    safe_line(why)
                ));
            }
            FetchEvent::Back { user } => {
                self.come(user);
                self.line(&format!("{user} is back"));
            }
            FetchEvent::Banned { user, why } => {
                self.go(user);
                let line = format!("{user} {}: nothing more is taken from {user}", safe_line(why));
                self.output.warning(&line);
            }
            FetchEvent::Alike { one, other } => self.alike(one, other),
            FetchEvent::Checking { file, name, size, bytes } => self.checking(*file, name.as_str(), *size, *bytes),
            FetchEvent::Resolved { files, bytes } => self.resolved(*files, *bytes),
            FetchEvent::Started { file, name, size, resumed } => self.started(*file, name.as_str(), *size, *resumed),
            FetchEvent::Opened { .. } => {}
            FetchEvent::Verified { file, bytes } => self.verified(*file, *bytes),
            FetchEvent::Finished { file, report } => self.finished(*file, report),
        }
    }

    /// Ends the bars and sums up; `error` is what went wrong with all of it.
    ///
    /// # Errors
    /// What standard output said meanwhile.
    pub fn end(mut self, summary: &Summary, error: Option<&Error>) -> std::io::Result<()> {
        self.clear();
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.output.is_json() {
            self.output.object_at_the_end("summary", summary_json(summary, error, self.begun.elapsed()));
            return Ok(());
        }
        if error.is_some_and(Error::is_closed_pipe) {
            return Ok(());
        }
        for line in self.held.iter().filter(|_| summary.total() > 1) {
            self.output.error(line);
        }
        let parts = self.sum_up(summary);
        if !parts.is_empty() {
            self.output.note(&parts.join("; "));
        }
        Ok(())
    }

    fn sum_up(&self, summary: &Summary) -> Vec<String> {
        let mut parts = Vec::new();
        let fetched = summary.done + summary.renamed;
        if fetched > 0 {
            let elapsed = self.begun.elapsed();
            let (amount, time) = (size(summary.placed_fetched), duration(elapsed));
            // Of less, the rate would be that of saying hello.
            let speed = if elapsed < WORTH_A_RATE {
                String::new()
            } else {
                format!(" ({})", rate(summary.placed_fetched, elapsed))
            };
            parts.push(format!("{} fetched and verified, {amount} in {time}{speed}", files(fetched)));
            if summary.placed_resumed > 0 {
                parts.push(format!("{} from before", size(summary.placed_resumed)));
            }
        }
        if summary.renamed > 0 {
            parts.push(format!("{} renamed", files(summary.renamed)));
        }
        if summary.skipped > 0 {
            parts.push(format!("{} there already", files(summary.skipped)));
        }
        match summary.folders {
            0 => {}
            1 => parts.push("1 empty folder".to_owned()),
            folders => parts.push(format!("{folders} empty folders")),
        }
        let failed = summary.failed.saturating_sub(self.broken_off);
        if failed > 0 && summary.total() > 1 {
            parts.push(format!("{} failed", files(failed)));
        }
        if self.broken_off > 0 && !parts.is_empty() {
            parts.push(format!("{} not fetched", files(self.broken_off)));
        }
        parts
    }

    /// Takes the bars away.
    pub fn clear(&mut self) {
        self.tell_lines();
        self.active.clear();
        self.total = None;
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        // What is told from here on comes where the bars were.
        self.terminal = None;
    }

    /// Verified bytes so far, of all.
    pub const fn progress(&self) -> (u64, u64) {
        (self.done_bytes, self.bytes)
    }

    fn connecting(&mut self, user: &UserName) {
        self.sources.push(user.clone());
        if self.output.is_animated() {
            let spinner = self.multi.add(ProgressBar::new_spinner());
            spinner.set_message(format!("connecting to {user}"));
            spinner.enable_steady_tick(PROGRESS_EVERY);
            self.spinner = Some(spinner);
        }
    }

    fn alike(&mut self, one: &str, other: &str) {
        if self.output.is_json() {
            return self.object("collision", &json!({ "one": one, "other": other }));
        }
        let (one, other) = (safe_line(one), safe_line(other));
        self.line(&format!("{one} and {other} differ only by case or spelling of accents"));
    }

    /// What is there already is hashed: on the bar of the file, or before there is one, beside the spinner.
    fn checking(&mut self, file: Option<FileNo>, name: &str, bytes: u64, hashed: u64) {
        let before = self.checked.take().filter(|(checked, _)| checked == name);
        let is_new = before.is_none();
        let done = before.map_or(0, |(_, done)| done) + hashed;
        self.checked = Some((name.to_owned(), done));
        let shown = safe_line(name);
        if self.output.is_json() {
            if self.told.elapsed() >= PROGRESS_EVERY {
                self.told = Instant::now();
                let progress = json!({ "phase": "verifying", "name": name, "bytes": done, "total": bytes });
                self.object("progress", &progress);
            }
        } else if !self.output.is_animated() {
            if is_new {
                self.line(&format!("{shown}: verifying what is there…"));
            }
        } else if let Some(file) = file {
            self.activate(file, name, bytes);
            if let Some(bar) = self.bar(file) {
                bar.set_note("verifying");
                bar.set_bytes(done, Instant::now());
            }
        } else if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("verifying {shown}, {} of {}", size(done), size(bytes)));
        }
    }

    fn started(&mut self, file: FileNo, name: &str, bytes: u64, resumed: u64) {
        if resumed > 0 {
            let percent = resumed * 100 / bytes.max(1);
            self.line(&format!("{}: resuming at {percent} %", safe_line(name)));
        }
        self.activate(file, name, bytes);
        if let Some(active) = self.active.get_mut(&file) {
            (active.bytes, active.moves) = (resumed, false);
        }
        if let Some(bar) = self.bar(file) {
            bar.set_note("");
            bar.begin_at(resumed, Instant::now());
        }
        self.advance(resumed, true);
    }

    fn activate(&mut self, file: FileNo, name: &str, size: u64) {
        let number = self.begun_files;
        let name = safe_line(name).into_owned();
        self.active.entry(file).or_insert_with(|| {
            self.begun_files += 1;
            Active { number, name, size, bytes: 0, moves: false, begun: Instant::now(), bar: None }
        });
    }

    /// The bar of a file. When there are as many as may be, one whose file doesn't move makes room for one whose file does.
    fn bar(&mut self, file: FileNo) -> Option<&Bar> {
        let active = self.active.get(&file).filter(|_| self.output.is_animated())?;
        if active.bar.is_none() {
            if self.files > FEW && active.begun.elapsed() < WORTH_A_BAR {
                return None;
            }
            let most = BARS.min(screen_rows().saturating_sub(SCROLLS)).max(1);
            if self.active.values().filter(|active| active.bar.is_some()).count() >= most {
                let moves = active.moves;
                let idle = self.active.values_mut().filter(|other| other.bar.is_some() && !other.moves && moves);
                idle.max_by_key(|other| other.number)?.bar = None;
            }
            let label = self.label(&self.active.get(&file)?.name);
            let active = self.active.get(&file)?;
            let bar = Bar::new(&self.multi, self.total.as_ref(), self.output.look(), &label, active.size);
            bar.begin_at(active.bytes, Instant::now());
            self.active.get_mut(&file)?.bar = Some(bar);
        }
        self.active.get(&file)?.bar.as_ref()
    }

    /// Gives bars to files that have none, as far as there is room: those first that move, and were begun first.
    fn fill(&mut self) {
        self.filled = Instant::now();
        let mut waiting: Vec<(bool, usize, FileNo)> = self
            .active
            .iter()
            .filter(|(_, active)| active.bar.is_none())
            .map(|(file, active)| (!active.moves, active.number, *file))
            .collect();
        waiting.sort_unstable();
        for (_, _, file) in waiting {
            if self.bar(file).is_none() {
                break;
            }
        }
    }

    /// The name of a file, or of all of them, and from whom it comes.
    fn label(&self, name: &str) -> String {
        if self.files > 1 || columns() < NAMES_SOURCES { name.to_owned() } else { format!("{name}{}", self.from()) }
    }

    fn total_label(&self) -> String {
        let from = if columns() < NAMES_SOURCES { String::new() } else { self.from() };
        format!("total, {} of {} files{from}", self.finished_files, self.files)
    }

    fn from(&self) -> String {
        let names: Vec<&str> = self.sources.iter().map(UserName::as_str).collect();
        if names.is_empty() { String::new() } else { format!(" from {}", names.join(", ")) }
    }

    fn come(&mut self, user: &UserName) {
        if !self.sources.contains(user) {
            self.sources.push(user.clone());
        }
        self.name_sources();
    }

    fn go(&mut self, user: &UserName) {
        self.sources.retain(|source| source != user);
        self.name_sources();
    }

    /// On the total, or on the bar of the only file.
    fn name_sources(&self) {
        let note = if self.sources.is_empty() { "waiting" } else { "" };
        if let Some(total) = &self.total {
            total.set_label(&self.total_label());
            total.set_note(note);
            return;
        }
        for active in self.active.values() {
            if let Some(bar) = &active.bar {
                bar.set_label(&self.label(&active.name));
                bar.set_note(note);
            }
        }
    }

    fn resolved(&mut self, files: usize, bytes: u64) {
        self.files = files;
        self.bytes = bytes;
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        if self.output.is_animated() && files > 1 {
            let total = Bar::new(&self.multi, None, self.output.look(), &self.total_label(), bytes);
            total.begin_at(0, Instant::now());
            self.total = Some(total);
        }
    }

    fn changed(&mut self, file: FileNo, name: &FileName, bytes: u64) {
        self.line(&format!("{} changed at its source meanwhile: fetching it anew", safe_line(name.as_str())));
        self.done_bytes = self.done_bytes.saturating_sub(bytes);
        if let Some(total) = &self.total {
            total.begin_at(self.done_bytes, Instant::now());
        }
        self.active.remove(&file);
    }

    /// Bytes of a file came.
    fn verified(&mut self, file: FileNo, bytes: u64) {
        if let Some(active) = self.active.get_mut(&file) {
            active.bytes += bytes;
            active.moves = true;
            // Not done before it is durable and has its name.
            let (now, is_all) = (active.bytes, active.bytes >= active.size);
            if let Some(bar) = self.bar(file) {
                bar.set_bytes(now, Instant::now());
                bar.set_note(if is_all { "verified" } else { "" });
            }
        }
        self.advance(bytes, false);
    }

    /// Bytes came, or were there before.
    fn advance(&mut self, bytes: u64, were_there: bool) {
        self.done_bytes += bytes;
        if let Some(total) = &self.total {
            let now = Instant::now();
            if were_there { total.begin_at(self.done_bytes, now) } else { total.set_bytes(self.done_bytes, now) }
        }
        if self.output.is_stepwise()
            && let Some(percent) = self.steps.reach(self.done_bytes, self.bytes, Instant::now())
        {
            self.tell_lines();
            let done = if self.files > 1 {
                format!(", {} of {} files", self.finished_files, self.files)
            } else {
                String::new()
            };
            self.line(&format!("{percent} %: {} of {}{done}", size(self.done_bytes), size(self.bytes)));
        }
        // What is resumed is told at once: it may be all there is to tell for a while.
        if self.output.is_json() && (self.told.elapsed() >= PROGRESS_EVERY || were_there && bytes > 0) {
            self.told = Instant::now();
            let (bytes, total, files) = (self.done_bytes, self.bytes, self.files);
            self.object("progress", &json!({ "phase": "fetching", "bytes": bytes, "total": total, "files": files }));
        }
    }

    fn finished(&mut self, file: Option<FileNo>, report: &Report) {
        if let Some(file) = file {
            self.active.remove(&file);
            if self.output.is_animated() && self.files <= FEW {
                self.fill();
            }
        }
        self.finished_files += 1;
        if let Some(total) = &self.total {
            total.set_label(&self.total_label());
        }
        self.broken_off += usize::from(matches!(report.status, Status::BrokenOff(_)));
        if self.output.is_json() {
            return self.object("file", &file_json(report));
        }
        let name = safe_line(&report.name);
        let line = match &report.status {
            // Whoever reads standard output had enough.
            Status::Failed(error) if error.is_closed_pipe() => return,
            // Told once, for all of them.
            Status::BrokenOff(_) => return,
            Status::Failed(error) => {
                let line = format!("{name}: {error}");
                if self.alone && self.files <= 1 {
                    self.held.push(line);
                    return;
                }
                self.tell_lines();
                return self.output.error(&line);
            }
            Status::Done(path) => format!("{} ({})", shown(path), size(report.size)),
            Status::Renamed(path) => {
                let why = match unnumbered(path) {
                    Some(taken) => format!("{} was taken", safe_line(&taken)),
                    None => format!("{name} can't be used here"),
                };
                format!("{} ({}; the name {why})", shown(path), size(report.size))
            }
            Status::Skipped(path) => format!("{} is there already", shown(path)),
            Status::Streamed => format!("{name} ({})", size(report.size)),
        };
        // A thousand small files are drawn around a few times, not a thousand times.
        self.lines.push(line);
        if !self.output.is_animated() || self.lines_told.elapsed() >= PROGRESS_EVERY {
            self.tell_lines();
        }
    }

    /// Tells which files are here, above the bars.
    fn tell_lines(&mut self) {
        if !self.lines.is_empty() {
            self.output.note(&std::mem::take(&mut self.lines).join("\n"));
            self.lines_told = Instant::now();
        }
    }

    fn line(&self, line: &str) {
        self.output.note(line);
    }

    fn object(&mut self, kind: &str, fields: &serde_json::Value) {
        if self.failure.is_none()
            && let Err(why) = self.output.object(kind, fields)
        {
            self.failure = Some(why);
        }
    }
}

/// A path as people write it.
fn shown(path: &Path) -> String {
    let path = path.strip_prefix(".").unwrap_or(path);
    safe_line(&path.to_string_lossy()).into_owned()
}

/// The name that `path` has a number for, because something else has it.
fn unnumbered(path: &Path) -> Option<String> {
    let given = path.file_name().and_then(OsStr::to_str)?;
    let at = given.rfind(" (")?;
    let (digits, rest) = given[at + 2..].split_once(')')?;
    let wanted = format!("{}{rest}", &given[..at]);
    (numbered(&wanted, digits.parse().ok()?) == given).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_which_name_was_taken() {
        let taken = |path: &str| unnumbered(Path::new(path));
        assert_eq!(taken("a/r (1).pdf").as_deref(), Some("r.pdf"));
        assert_eq!(taken("x (2) (10)").as_deref(), Some("x (2)"));
        assert_eq!(taken("a/r.pdf"), None);
        assert_eq!(taken("r (one).pdf"), None);
    }
}
