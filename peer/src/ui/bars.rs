//! Bars for fetching and for hashing; off a terminal, one line a file.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use shared::safe_text::safe_line;
use shared::{FileName, UserName};

use super::Output;
use super::json::file_json;
use super::output::BarsOnTerminal;
use super::text::{duration, files, rate, size};
use crate::engine::fetch::{FetchEvent, FileNo, Report, Status, Summary};
use crate::engine::share::ShareEvent;

/// Files that have a bar of their own at once.
const BARS: usize = 8;
/// Above this many files, finished bars don't stay.
const KEPT: usize = 20;
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

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
    /// Who is being fetched from.
    sources: Vec<UserName>,
    files: usize,
    bytes: u64,
    done_bytes: u64,
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
            sources: Vec::new(),
            files: 0,
            bytes: 0,
            done_bytes: 0,
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
            FetchEvent::Alike { one, other } => {
                let (one, other) = (safe_line(one), safe_line(other));
                self.line(&format!("{one} and {other} differ only by case or spelling of accents"));
            }
            FetchEvent::Resolved { files, bytes } => self.resolved(*files, *bytes),
            FetchEvent::Started { file, name, size: bytes, resumed } => {
                if *resumed > 0 {
                    let percent = resumed * 100 / (*bytes).max(1);
                    self.line(&format!("{}: resuming at {percent} %", safe_line(name.as_str())));
                }
                self.advance(None, *resumed);
                if self.output.is_animated() && self.bars.len() < BARS {
                    let bar = ProgressBar::new(*bytes).with_style(style(false));
                    let bar = match &self.total {
                        Some(total) => self.multi.insert_before(total, bar),
                        None => self.multi.add(bar),
                    };
                    bar.set_prefix(safe_line(name.as_str()).into_owned());
                    bar.set_position(*resumed);
                    bar.set_message(if *resumed > 0 { "resuming" } else { "fetching" });
                    self.bars.insert(*file, bar);
                }
            }
            FetchEvent::Outdated { name } => {
                let name = safe_line(name.as_str());
                self.line(&format!("{name} changed at its source since: what was kept of it is removed"));
            }
            FetchEvent::Opened { .. } => {}
            FetchEvent::Changed { file, name, bytes } => self.changed(*file, name, *bytes),
            FetchEvent::Verified { file, bytes } => self.advance(Some(*file), *bytes),
            FetchEvent::Finished { file, report } => self.finished(*file, report),
        }
    }

    /// Ends the bars and sums up.
    ///
    /// # Errors
    /// What standard output said meanwhile.
    pub fn end(mut self, summary: &Summary) -> std::io::Result<()> {
        self.clear();
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.output.is_json() {
            return self.output.object(
                "summary",
                &json!({
                    "done": summary.done,
                    "skipped": summary.skipped,
                    "failed": summary.failed,
                    "bytes_fetched": summary.bytes_fetched,
                    "bytes_resumed": summary.bytes_resumed,
                    "seconds": self.begun.elapsed().as_secs_f64(),
                }),
            );
        }
        let total = summary.done + summary.skipped + summary.failed;
        for line in self.held.iter().filter(|_| total > 1) {
            self.output.error(line);
        }
        let elapsed = self.begun.elapsed();
        let mut parts = Vec::new();
        if summary.done > 0 {
            let fetched = summary.bytes_fetched;
            let (amount, speed) = (size(fetched), rate(fetched, elapsed));
            parts.push(format!(
                "{} fetched and verified, {amount} in {} ({speed})",
                files(summary.done),
                duration(elapsed)
            ));
        }
        if summary.skipped > 0 {
            parts.push(format!("{} there already", files(summary.skipped)));
        }
        if summary.failed > 0 && total > 1 {
            parts.push(format!("{} failed", files(summary.failed)));
        }
        if !parts.is_empty() {
            self.output.note(&parts.join("; "));
        }
        Ok(())
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

    fn advance(&mut self, file: Option<FileNo>, bytes: u64) {
        self.done_bytes += bytes;
        if let Some(total) = &self.total {
            total.inc(bytes);
        }
        if let Some(bar) = file.and_then(|file| self.bars.get(&file)) {
            bar.inc(bytes);
            if bar.length() == Some(bar.position()) {
                // Not done before it is durable and has its name.
                bar.set_message("verified");
            } else if self.total.is_some() {
                bar.set_message("fetching");
            } else {
                self.name_sources();
            }
        }
        if self.output.is_json() && self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            self.object("progress", &json!({ "bytes": self.done_bytes, "total": self.bytes, "files": self.files }));
        }
    }

    fn finished(&mut self, file: Option<FileNo>, report: &Report) {
        let bar = file.and_then(|file| self.bars.remove(&file));
        if self.output.is_json() {
            return self.object("file", &file_json(report));
        }
        let name = safe_line(&report.name);
        let line = match &report.status {
            // Whoever reads standard output had enough.
            Status::Failed(error) if error.is_closed_pipe() => return,
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
            Status::Done(path) => format!("{} ({})", safe_line(&path.to_string_lossy()), size(report.size)),
            Status::Renamed(path) => {
                let path = path.to_string_lossy();
                format!("{} ({}; the name {name} was taken)", safe_line(&path), size(report.size))
            }
            Status::Skipped(path) => format!("{} is there already", safe_line(&path.to_string_lossy())),
            Status::Streamed => format!("{name} ({})", size(report.size)),
        };
        match bar {
            Some(bar) if self.files <= KEPT && matches!(report.status, Status::Done(_) | Status::Streamed) => {
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

/// Shows files being hashed.
#[derive(Debug)]
pub struct ShareBar {
    output: Output,
    bar: ProgressBar,
}

impl ShareBar {
    /// Nothing is shown yet.
    pub fn new(output: &Output) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden()).with_style(style(false));
        Self { output: output.clone(), bar }
    }

    /// Takes an event.
    ///
    /// # Errors
    /// As standard output says.
    pub fn show(&mut self, event: &ShareEvent<'_>) -> std::io::Result<()> {
        match event {
            ShareEvent::Found { to_hash, .. } => {
                if self.output.is_animated() && *to_hash > 0 {
                    self.bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                self.bar.set_length(*to_hash);
            }
            ShareEvent::Hashing { name, .. } => self.bar.set_prefix(safe_line(name.as_str()).into_owned()),
            ShareEvent::Hashed(bytes) => self.bar.inc(*bytes),
            ShareEvent::Shared { share, .. } if self.output.is_json() => {
                let (name, hash) = (share.name.as_str(), share.hash.to_string());
                self.output.object("share", &json!({ "name": name, "size": share.id.size, "hash": hash }))?;
            }
            ShareEvent::Shared { .. } => {}
            ShareEvent::Skipped { path, why } => {
                let line = format!("not shared: {}: {}", safe_line(&path.to_string_lossy()), safe_line(why));
                self.bar.suspend(|| self.output.note(&line));
            }
        }
        Ok(())
    }

    /// Takes the bar away.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// What fits the terminal's width, down to 20 columns.
fn style(is_total: bool) -> ProgressStyle {
    let columns = crossterm::terminal::size().map_or(80, |(columns, _)| columns);
    let template = match columns {
        110.. => {
            "{prefix:30!} {wide_bar} {decimal_bytes:>10}/{decimal_total_bytes:>10} {decimal_bytes_per_sec:>13} {eta:>5} {msg:16!}"
        }
        70.. => "{prefix:18!} {wide_bar} {percent:>3}% {decimal_bytes_per_sec:>13} {eta:>4} {msg:14!}",
        60.. => "{prefix:20!} {wide_bar} {percent:>3}% {decimal_bytes_per_sec:>13} {eta:>4}",
        40.. => "{prefix:14!} {percent:>3}% {decimal_bytes_per_sec:>12} {eta:>4}",
        20.. => "{prefix:12!} {percent:>3}%",
        _ => "{percent:>3}%",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars(if is_total { "=> " } else { "━╸ " })
}
