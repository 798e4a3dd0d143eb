//! Bars for fetching; off a terminal, one line a file.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use serde_json::json;
use shared::UserName;
use shared::names::numbered;
use shared::names::stand_in;
use shared::safe_text::{safe_line, safe_path};

use super::Output;
use super::bar::{Bar, columns};
use super::bar_screen::bars_on_terminal;
use super::file_bars::FileBars;
use super::json::{file_json, summary_json};
use super::output::BarsOnTerminal;
use super::steps::Steps;
use super::text::{duration, files, rate, silent_words, size, slow_words};
use crate::engine::Error;
use crate::engine::fetch::{FetchEvent, FileNo, Report, Slowdown, Status, Summary};

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
    file_bars: Option<FileBars>,
    multi: MultiProgress,
    terminal: Option<BarsOnTerminal>,
    /// Until it is known what there is to fetch.
    spinner: Option<ProgressBar>,
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
    /// What is being looked at of what is there already: its name, and how many of its bytes were hashed.
    checked: Option<(String, u64)>,
    /// Files that are not there because all of it ended early.
    broken_off: usize,
    begun: Instant,
    told: Instant,
    failure: Option<std::io::Error>,
}

impl FetchBars {
    /// Nothing is shown yet. The failure of what is `alone` is the command's own error, and told by it.
    pub fn new(output: &Output, alone: bool) -> Self {
        let target = if output.is_animated() { bars_on_terminal() } else { ProgressDrawTarget::hidden() };
        let begun = Instant::now();
        let multi = MultiProgress::with_draw_target(target);
        Self {
            output: output.clone(),
            alone,
            held: Vec::new(),
            total: None,
            file_bars: output.is_animated().then(|| FileBars::new(&multi, output.look())),
            terminal: output.is_animated().then(|| BarsOnTerminal::new(&multi)),
            multi,
            spinner: None,
            sources: Vec::new(),
            files: 0,
            finished_files: 0,
            bytes: 0,
            done_bytes: 0,
            steps: Steps::new(begun),
            lines: Vec::new(),
            lines_told: begun,
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
        if let Some(bars) = &mut self.file_bars {
            bars.tick(self.total.as_ref());
        }
        match event {
            FetchEvent::Connecting { user } => self.connecting(user),
            FetchEvent::Waiting { name } => {
                self.line(&format!("{} changed at the source and is being hashed again there…", stand_in::shown(name)));
            }
            FetchEvent::AwaitsReader { path } => {
                let path = path.to_string_lossy();
                self.line(&format!("waiting for a reader of {} (Ctrl-C ends)", safe_line(&path)));
            }
            FetchEvent::Joined { user } => {
                self.come(user);
                self.line(&format!("{user} has the same and is asked as well"));
            }
            FetchEvent::NotAsked { user, why } => {
                self.output.warning(&format!("{user} is not asked: {}", safe_line(why)));
            }
            FetchEvent::Outdated { name } => {
                let name = stand_in::shown(name.as_str());
                self.line(&format!("{name} changed at its source since: what was kept of it is removed"));
            }
            FetchEvent::Paused { file, bytes } => self.paused(*file, *bytes),
            FetchEvent::Changed { name } => {
                let name = stand_in::shown(name.as_str());
                self.line(&format!("{name} changed at its source meanwhile: fetching it anew"));
            }
            FetchEvent::Lost { user, why } => {
                self.go(user);
                self.line(&format!(
                    "{user} went offline ({}); retrying (Ctrl-C stops, nothing is lost)",
                    safe_line(why)
                ));
            }
            FetchEvent::Silent { user, time } => {
                self.source_object(user, "silent", json!({ "seconds": time.as_secs() }));
                self.line(&format!("{}; retrying (Ctrl-C stops, nothing is lost)", silent_words(user, *time)));
            }
            FetchEvent::Slow { user, slowdown, seeks } => {
                let Slowdown { rate, before } = slowdown;
                self.source_object(user, "slow", json!({ "bytes_per_s": rate, "bytes_per_s_before": before }));
                self.line(&slow_words(user, *slowdown, *seeks));
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

    /// Tells programs how a source stands.
    fn source_object(&mut self, user: &UserName, state: &str, mut fields: serde_json::Value) {
        if self.output.is_json() {
            (fields["user"], fields["state"]) = (json!(user), json!(state));
            self.object("source", &fields);
        }
    }

    /// Takes the bars away.
    pub fn clear(&mut self) {
        self.tell_lines();
        if let Some(bars) = &mut self.file_bars {
            bars.clear();
        }
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
        let shown = stand_in::shown(name);
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
        } else if let (Some(file), Some(bars)) = (file, &mut self.file_bars) {
            bars.check(file, name, bytes, done, self.total.as_ref());
        } else if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("verifying {shown}, {} of {}", size(done), size(bytes)));
        }
    }

    fn started(&mut self, file: FileNo, name: &str, bytes: u64, resumed: u64) {
        if resumed > 0 {
            let percent = resumed * 100 / bytes.max(1);
            self.line(&format!("{}: resuming at {percent} %", stand_in::shown(name)));
        }
        if let Some(bars) = &mut self.file_bars {
            bars.start(file, name, bytes, resumed, self.total.as_ref());
        }
        self.advance(resumed, true);
    }

    fn total_label(&self) -> String {
        let from = if columns() < NAMES_SOURCES { String::new() } else { from(&self.sources) };
        format!("total, {} of {} files{from}", self.finished_files, self.files)
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
    fn name_sources(&mut self) {
        let note = if self.sources.is_empty() { "waiting" } else { "" };
        match (&self.total, &mut self.file_bars) {
            (Some(total), _) => {
                total.set_label(&self.total_label());
                total.set_note(note);
            }
            (None, Some(bars)) => {
                let suffix = if columns() < NAMES_SOURCES { String::new() } else { from(&self.sources) };
                bars.describe(&suffix, note);
            }
            (None, None) => {}
        }
    }

    fn resolved(&mut self, files: usize, bytes: u64) {
        self.files = files;
        self.bytes = bytes;
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        if let Some(bars) = &mut self.file_bars {
            bars.expect(files);
        }
        if self.output.is_animated() && files > 1 {
            let total = Bar::new(&self.multi, self.output.look(), &self.total_label(), bytes);
            total.begin_at(0, Instant::now());
            self.total = Some(total);
        }
        self.name_sources();
    }

    fn paused(&mut self, file: FileNo, bytes: u64) {
        self.done_bytes = self.done_bytes.saturating_sub(bytes);
        if let Some(total) = &self.total {
            total.begin_at(self.done_bytes, Instant::now());
        }
        if let Some(bars) = &mut self.file_bars {
            bars.end(file, self.total.as_ref());
        }
    }

    /// Bytes of a file came.
    fn verified(&mut self, file: FileNo, bytes: u64) {
        if let Some(bars) = &mut self.file_bars {
            bars.advance(file, bytes, self.total.as_ref());
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
        if let (Some(file), Some(bars)) = (file, &mut self.file_bars) {
            bars.end(file, self.total.as_ref());
        }
        self.finished_files += 1;
        if let Some(total) = &self.total {
            total.set_label(&self.total_label());
        }
        self.broken_off += usize::from(matches!(report.status, Status::BrokenOff(_)));
        if self.output.is_json() {
            return self.object("file", &file_json(report));
        }
        let name = stand_in::shown(&report.name);
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

/// From whom files come, behind a name.
fn from(sources: &[UserName]) -> String {
    let names: Vec<&str> = sources.iter().map(UserName::as_str).collect();
    if names.is_empty() { String::new() } else { format!(" from {}", names.join(", ")) }
}

/// A path as people write it.
fn shown(path: &Path) -> String {
    let path = path.strip_prefix(".").unwrap_or(path);
    safe_path(path)
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
