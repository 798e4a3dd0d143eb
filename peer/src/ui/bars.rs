//! Bars for fetching; off a terminal, one line a file.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use serde_json::json;
use shared::names::numbered;
use shared::safe_text::safe_line;
use shared::{FileName, UserName};

use super::Output;
use super::bar_style::{begin_here, done_style, style};
use super::json::{file_json, summary_json};
use super::output::BarsOnTerminal;
use super::text::{duration, files, rate, size};
use crate::engine::Error;
use crate::engine::fetch::{FetchEvent, FileNo, Report, Status, Summary};

/// Files that have a bar of their own at once.
const BARS: usize = 8;
/// Above this many files, finished bars don't stay.
const KEPT: usize = 20;
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// A rate is told of what took longer.
const WORTH_A_RATE: Duration = Duration::from_millis(100);

/// Shows a fetch.
#[derive(Debug)]
pub struct FetchBars {
    output: Output,
    alone: bool,
    /// Failures that are told only if they turn out not to be the only thing to tell.
    held: Vec<String>,
    multi: MultiProgress,
    terminal: Option<BarsOnTerminal>,
    /// Until it is known what there is to fetch.
    spinner: Option<ProgressBar>,
    total: Option<ProgressBar>,
    bars: HashMap<FileNo, ProgressBar>,
    /// Those of which something came. Before, there is no speed to speak of.
    moving: HashSet<Option<FileNo>>,
    /// Who is being fetched from.
    sources: Vec<UserName>,
    files: usize,
    bytes: u64,
    done_bytes: u64,
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
        let target = if output.is_animated() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let begun = Instant::now();
        let multi = MultiProgress::with_draw_target(target);
        Self {
            output: output.clone(),
            alone,
            held: Vec::new(),
            terminal: output.is_animated().then(|| BarsOnTerminal::new(&multi)),
            multi,
            spinner: None,
            total: None,
            bars: HashMap::new(),
            moving: HashSet::new(),
            sources: Vec::new(),
            files: 0,
            bytes: 0,
            done_bytes: 0,
            checked: None,
            broken_off: 0,
            begun,
            told: begun,
            failure: None,
        }
    }

    /// Takes an event.
    pub fn show(&mut self, event: &FetchEvent<'_>) {
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
                self.line(&format!("{user} is gone ({}); calling again, Ctrl-C keeps what is here", safe_line(why)));
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
            FetchEvent::Verified { file, bytes } => self.advance(Some(*file), *bytes),
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
        if let Some(total) = self.total.take() {
            total.finish_and_clear();
        }
        for bar in self.spinner.take().into_iter().chain(self.bars.drain().map(|(_, bar)| bar)) {
            bar.finish_and_clear();
        }
        // What is told from here on comes below the bars that stay.
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
            let bar = self.bar(file, name, bytes);
            if let Some(bar) = bar {
                bar.set_message("verifying");
                bar.set_position(done);
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
        self.advance(None, resumed);
        if let Some(bar) = self.bar(file, name, bytes) {
            bar.set_message(if resumed > 0 { "resuming" } else { "fetching" });
            bar.set_position(resumed);
            begin_here(&bar);
        }
    }

    /// The bar of a file; none when enough others have one, or nothing is animated.
    fn bar(&mut self, file: FileNo, name: &str, bytes: u64) -> Option<ProgressBar> {
        if !self.bars.contains_key(&file) && self.output.is_animated() && self.bars.len() < BARS {
            let bar = ProgressBar::new(bytes).with_style(style(false));
            let bar = match &self.total {
                Some(total) => self.multi.insert_before(total, bar),
                None => self.multi.add(bar),
            };
            bar.set_prefix(safe_line(name).into_owned());
            self.bars.insert(file, bar);
        }
        self.bars.get(&file).cloned()
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
        let names: Vec<&str> = self.sources.iter().map(UserName::as_str).collect();
        let message = if names.is_empty() { "waiting".to_owned() } else { format!("from {}", names.join(", ")) };
        match (&self.total, self.bars.values().next()) {
            (Some(bar), _) | (None, Some(bar)) => bar.set_message(message),
            (None, None) => {}
        }
    }

    fn resolved(&mut self, files: usize, bytes: u64) {
        self.files = files;
        self.bytes = bytes;
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        if self.output.is_animated() && files > 1 {
            let total = self.multi.add(ProgressBar::new(bytes).with_style(style(true)));
            total.set_prefix(format!("total, {files} files"));
            self.total = Some(total);
            self.name_sources();
        }
    }

    fn changed(&mut self, file: FileNo, name: &FileName, bytes: u64) {
        self.line(&format!("{} changed at its source meanwhile: fetching it anew", safe_line(name.as_str())));
        self.done_bytes = self.done_bytes.saturating_sub(bytes);
        if let Some(total) = &self.total {
            total.set_position(self.done_bytes);
        }
        if let Some(bar) = self.bars.remove(&file) {
            bar.finish_and_clear();
        }
    }

    /// Bytes of a file came, or some were there already.
    fn advance(&mut self, file: Option<FileNo>, bytes: u64) {
        self.done_bytes += bytes;
        if let Some(total) = &self.total {
            total.inc(bytes);
            if bytes > 0 && (file.is_none() || self.moving.insert(None)) {
                begin_here(total);
            }
        }
        if let Some((no, bar)) = file.and_then(|file| self.bars.get_key_value(&file)) {
            bar.inc(bytes);
            if self.moving.insert(Some(*no)) {
                begin_here(bar);
            }
            if bar.length() == Some(bar.position()) {
                // Not done before it is durable and has its name.
                bar.set_message("verified");
            } else if self.total.is_some() {
                bar.set_message("fetching");
            } else {
                self.name_sources();
            }
        }
        // What is resumed is told at once: it may be all there is to tell for a while.
        if self.output.is_json() && (self.told.elapsed() >= PROGRESS_EVERY || file.is_none() && bytes > 0) {
            self.told = Instant::now();
            let (bytes, total, files) = (self.done_bytes, self.bytes, self.files);
            self.object("progress", &json!({ "phase": "fetching", "bytes": bytes, "total": total, "files": files }));
        }
    }

    fn finished(&mut self, file: Option<FileNo>, report: &Report) {
        let bar = file.and_then(|file| self.bars.remove(&file));
        if file.is_some() {
            self.moving.remove(&file);
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
            Status::BrokenOff(_) => {
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                }
                return;
            }
            Status::Failed(error) => {
                if let Some(bar) = bar {
                    bar.finish_and_clear();
                }
                let line = format!("{name}: {error}");
                if self.alone && self.files <= 1 {
                    self.held.push(line);
                    return;
                }
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
        match bar {
            Some(bar) if self.files <= KEPT && matches!(report.status, Status::Done(_) | Status::Streamed) => {
                bar.set_style(done_style());
                bar.finish_with_message("done");
            }
            Some(bar) => {
                bar.finish_and_clear();
                if !matches!(report.status, Status::Done(_)) {
                    self.line(&line);
                }
            }
            None if self.output.is_animated() && matches!(report.status, Status::Done(_)) => {}
            None => self.line(&line),
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
