//! Progress of a fetch: bars on a terminal, otherwise one line per file, or NDJSON.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use localization::tr;
use serde_json::json;
use shared::names::name_encoding;
use shared::safe_text::safe_line;
use shared::{FileName, UserName};

use super::CommandOutput;
use super::bar_screen::bars_on_terminal;
use super::command_output::TerminalBarsGuard;
use super::fetch_text::{done_line, event_line, renamed_line, skipped_line, summary_parts, version_line};
use super::file_bars::FileBars;
use super::human_format::format_size;
use super::json::{file_json, summary_json};
use super::progress_bar::{BarNote, ByteProgressBar};
use super::progress_steps::ProgressSteps;
use super::terminal_size::terminal_size;
use crate::engine::Error;
use crate::engine::chat::ConversationName;
use crate::engine::fetch::{FetchEvent, FetchSummary, FileNo, FileOutcome, FileReport, Slowdown};

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// The width from which sources are named on a bar.
const SOURCES_MIN_COLUMNS: usize = 60;

/// The progress display of a fetch.
#[derive(Debug)]
pub struct FetchBars {
    output: CommandOutput,
    is_single: bool,
    /// Failures shown only if the summary has other files to report; alone, the failure is the command's error.
    deferred_failures: Vec<String>,
    // The bars end before what they are drawn on does.
    total: Option<ByteProgressBar>,
    file_bars: Option<FileBars>,
    multi: MultiProgress,
    terminal: Option<TerminalBarsGuard>,
    /// Shown until the number of files is known.
    spinner: Option<ProgressBar>,
    /// The users that serve this fetch now.
    sources: Vec<UserName>,
    files: usize,
    finished_files: usize,
    bytes: u64,
    done_bytes: u64,
    steps: ProgressSteps,
    /// Lines about finished files, printed in batches.
    lines: Vec<String>,
    lines_printed: Instant,
    /// The name of the local file being verified, and the number of its bytes hashed so far.
    verifying: Option<(String, u64)>,
    /// Files left unfinished because the whole fetch ended early.
    unfinished_files: usize,
    started: Instant,
    last_progress: Instant,
    failure: Option<std::io::Error>,
}

impl FetchBars {
    /// Creates a display that shows nothing yet. If `is_single`, the failure of the only file is the command's own
    /// error, which the command prints.
    pub fn new(output: &CommandOutput, is_single: bool) -> Self {
        let target = if output.is_animated() { bars_on_terminal() } else { ProgressDrawTarget::hidden() };
        let started = Instant::now();
        let multi = MultiProgress::with_draw_target(target);
        Self {
            output: output.clone(),
            is_single,
            deferred_failures: Vec::new(),
            total: None,
            file_bars: output.is_animated().then(|| FileBars::new(&multi, output.theme())),
            terminal: output.is_animated().then(|| TerminalBarsGuard::new(&multi)),
            multi,
            spinner: None,
            sources: Vec::new(),
            files: 0,
            finished_files: 0,
            bytes: 0,
            done_bytes: 0,
            steps: ProgressSteps::new(started),
            lines: Vec::new(),
            lines_printed: started,
            verifying: None,
            unfinished_files: 0,
            started,
            last_progress: started,
            failure: None,
        }
    }

    /// Handles an event.
    pub fn handle_event(&mut self, event: &FetchEvent<'_>) {
        // Any event may print the waiting batch, as the last file of a batch may be followed by a long one.
        if self.lines_printed.elapsed() >= PROGRESS_INTERVAL {
            self.print_lines();
        }
        if let Some(bars) = &mut self.file_bars {
            bars.tick(self.total.as_ref());
        }
        match event {
            FetchEvent::Connecting { from } => self.connecting(from),
            FetchEvent::SourceConnected { user }
            | FetchEvent::SourceJoined { user }
            | FetchEvent::SourceReturned { user } => self.add_source(user),
            FetchEvent::VersionChosen { name, owner, others } => self.version_chosen(name, owner, others),
            FetchEvent::SourceLost { user, .. } => self.remove_source(user),
            FetchEvent::SourceUnavailable { user, why } => {
                self.output.warning(&tr!("{user} is not asked: {why}", user, why = safe_line(why)));
            }
            FetchEvent::SourceBanned { user, why } => {
                self.remove_source(user);
                let line = tr!("{user} {why}: fetching nothing more from {user}", user, why = safe_line(why));
                self.output.warning(&line);
            }
            FetchEvent::Silent { user, time } => {
                self.source_object(user, "silent", json!({ "seconds": time.as_secs() }));
            }
            FetchEvent::Slow { user, slowdown: Slowdown { rate, before }, .. } => {
                self.source_object(user, "slow", json!({ "bytes_per_s": rate, "bytes_per_s_before": before }));
            }
            FetchEvent::CollidingNames { one, other } => self.report_collision(one, other),
            FetchEvent::Paused { file, bytes } => self.paused(*file, *bytes),
            FetchEvent::Checking { file, name, size, bytes } => self.checking(*file, name.as_str(), *size, *bytes),
            FetchEvent::Resolved { files, bytes } => self.resolved(*files, *bytes),
            FetchEvent::Started { file, name, size, resumed, .. } => {
                self.started(*file, name.as_str(), *size, *resumed);
            }
            FetchEvent::Verified { file, bytes } => self.verified(*file, *bytes),
            FetchEvent::Finished { file, report } => self.finished(*file, report),
            FetchEvent::AwaitingRehash { .. }
            | FetchEvent::AwaitingReader { .. }
            | FetchEvent::OutdatedRemoved { .. }
            | FetchEvent::ContentChanged { .. }
            | FetchEvent::Opened { .. } => {}
        }
        if let Some(line) = event_line(event) {
            self.print_line(&line);
        }
    }

    /// Removes the bars and prints the summary; `error` is the error of the whole fetch. Fails with the I/O error of
    /// standard output, from here or from an earlier event.
    pub fn end(mut self, summary: &FetchSummary, error: Option<&Error>) -> std::io::Result<()> {
        self.clear();
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.output.is_json() {
            self.output.defer_object("summary", summary_json(summary, error, self.started.elapsed()));
            return Ok(());
        }
        // Whoever closed the pipe wants no summary either.
        if error.is_some_and(Error::is_closed_pipe) {
            return Ok(());
        }
        for line in self.deferred_failures.iter().filter(|_| summary.total() > 1) {
            self.output.error(line);
        }
        let parts = summary_parts(summary, self.unfinished_files, self.started.elapsed());
        if !parts.is_empty() {
            self.output.note(&parts.join("; "));
        }
        Ok(())
    }

    /// Tells programs how a source stands.
    fn source_object(&mut self, user: &UserName, state: &str, mut fields: serde_json::Value) {
        if self.output.is_json() {
            (fields["user"], fields["state"]) = (json!(user), json!(state));
            self.print_object("source", &fields);
        }
    }

    /// Takes the bars away.
    pub fn clear(&mut self) {
        self.print_lines();
        if let Some(bars) = &mut self.file_bars {
            bars.clear();
        }
        self.total = None;
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        // From here on, lines may be printed where the bars were.
        self.terminal = None;
    }

    /// Returns the number of verified bytes, and of all bytes.
    pub const fn progress(&self) -> (u64, u64) {
        (self.done_bytes, self.bytes)
    }

    fn connecting(&mut self, from: &ConversationName) {
        self.sources.extend(from.person().cloned());
        if self.output.is_animated() {
            let spinner = self.multi.add(ProgressBar::new_spinner());
            spinner.set_message(tr!("connecting to {user}", user = from));
            spinner.enable_steady_tick(PROGRESS_INTERVAL);
            self.spinner = Some(spinner);
        }
    }

    fn version_chosen(&mut self, name: &FileName, owner: &UserName, others: &[UserName]) {
        if self.output.is_json() {
            return self.print_object("version", &json!({ "name": name, "user": owner, "others": others }));
        }
        self.print_line(&version_line(name, owner, others));
    }

    fn report_collision(&mut self, one: &str, other: &str) {
        if self.output.is_json() {
            return self.print_object("collision", &json!({ "one": one, "other": other }));
        }
        let (one, other) = (safe_line(one), safe_line(other));
        self.print_line(&tr!("{one} and {other} differ only by case or spelling of accents", one, other));
    }

    /// Shows the verification of a local file: on its bar, or beside the spinner if the file has none yet.
    fn checking(&mut self, file: Option<FileNo>, name: &str, bytes: u64, hashed: u64) {
        // The event counts bytes since the last one; another name starts from 0.
        let before = self.verifying.take().filter(|(checked, _)| checked == name);
        let is_new = before.is_none();
        let done = before.map_or(0, |(_, done)| done) + hashed;
        self.verifying = Some((name.to_owned(), done));
        let shown = name_encoding::display_name(name);
        if self.output.is_json() {
            if self.last_progress.elapsed() >= PROGRESS_INTERVAL {
                self.last_progress = Instant::now();
                let progress = json!({ "phase": "verifying", "name": name, "bytes": done, "total": bytes });
                self.print_object("progress", &progress);
            }
        } else if !self.output.is_animated() {
            if is_new {
                self.print_line(&tr!("{name}: verifying what is there…", name = shown));
            }
        } else if let (Some(file), Some(bars)) = (file, &mut self.file_bars) {
            bars.check(file, name, bytes, done, self.total.as_ref());
        } else if let Some(spinner) = &self.spinner {
            let (done, size) = (format_size(done), format_size(bytes));
            spinner.set_message(tr!("verifying {name}, {bytes} of {size}", name = shown, bytes = done, size));
        }
    }

    fn started(&mut self, file: FileNo, name: &str, bytes: u64, resumed: u64) {
        if resumed > 0 {
            let percent = resumed * 100 / bytes.max(1);
            let name = name_encoding::display_name(name);
            self.print_line(&tr!("{name}: resuming at {percent} %", name, percent));
        }
        if let Some(bars) = &mut self.file_bars {
            bars.start(file, name, bytes, resumed, self.total.as_ref());
        }
        self.advance(resumed, true);
    }

    fn total_label(&self) -> String {
        let (done, files) = (self.finished_files, self.files);
        match self.shown_sources() {
            Some(users) => tr!("total, {done} of {files} files from {users}", done, files, users),
            None => tr!("total, {done} of {files} files", done, files),
        }
    }

    /// Returns the names of the sources, for a bar that is wide enough.
    fn shown_sources(&self) -> Option<String> {
        if self.sources.is_empty() || usize::from(terminal_size().width) < SOURCES_MIN_COLUMNS {
            return None;
        }
        let names: Vec<&str> = self.sources.iter().map(UserName::as_str).collect();
        Some(names.join(", "))
    }

    fn add_source(&mut self, user: &UserName) {
        if !self.sources.contains(user) {
            self.sources.push(user.clone());
        }
        self.update_source_label();
    }

    fn remove_source(&mut self, user: &UserName) {
        self.sources.retain(|source| source != user);
        self.update_source_label();
    }

    /// Shows the sources on the total's bar, or on the bar of the only file.
    fn update_source_label(&mut self) {
        let (sources, note) = (self.shown_sources(), self.sources.is_empty().then_some(BarNote::Waiting));
        match (&self.total, &mut self.file_bars) {
            (Some(total), _) => {
                total.set_label(&self.total_label());
                total.set_note(note);
            }
            (None, Some(bars)) => bars.describe(sources, note),
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
            bars.set_file_count(files);
        }
        if self.output.is_animated() && files > 1 {
            let total = ByteProgressBar::new(&self.multi, self.output.theme(), &self.total_label(), bytes);
            total.reset_to(0, Instant::now());
            self.total = Some(total);
        }
        self.update_source_label();
    }

    fn paused(&mut self, file: FileNo, bytes: u64) {
        // What was left is counted anew when the file goes on.
        self.done_bytes = self.done_bytes.saturating_sub(bytes);
        if let Some(total) = &self.total {
            total.reset_to(self.done_bytes, Instant::now());
        }
        if let Some(bars) = &mut self.file_bars {
            bars.end(file, self.total.as_ref());
        }
    }

    /// Advances a file by verified bytes.
    fn verified(&mut self, file: FileNo, bytes: u64) {
        if let Some(bars) = &mut self.file_bars {
            bars.advance(file, bytes, self.total.as_ref());
        }
        self.advance(bytes, false);
    }

    /// Advances the total; `were_there` marks bytes that are not part of the rate.
    fn advance(&mut self, bytes: u64, were_there: bool) {
        self.done_bytes += bytes;
        if let Some(total) = &self.total {
            let now = Instant::now();
            if were_there { total.reset_to(self.done_bytes, now) } else { total.set_bytes(self.done_bytes, now) }
        }
        if self.output.is_stepwise()
            && let Some(percent) = self.steps.next_step(self.done_bytes, self.bytes, Instant::now())
        {
            // The lines of finished files come first: the step counts them.
            self.print_lines();
            let (bytes, size) = (format_size(self.done_bytes), format_size(self.bytes));
            self.print_line(&if self.files > 1 {
                let (done, files) = (self.finished_files, self.files);
                tr!("{percent} %: {bytes} of {size}, {done} of {files} files", percent, bytes, size, done, files)
            } else {
                tr!("{percent} %: {bytes} of {size}", percent, bytes, size)
            });
        }
        // Resumed bytes are reported at once: on a slow connection, no other report may follow for a while.
        if self.output.is_json() && (self.last_progress.elapsed() >= PROGRESS_INTERVAL || were_there && bytes > 0) {
            self.last_progress = Instant::now();
            let (bytes, total, files) = (self.done_bytes, self.bytes, self.files);
            self.print_object(
                "progress",
                &json!({ "phase": "fetching", "bytes": bytes, "total": total, "files": files }),
            );
        }
    }

    fn finished(&mut self, file: Option<FileNo>, report: &FileReport) {
        if let (Some(file), Some(bars)) = (file, &mut self.file_bars) {
            bars.end(file, self.total.as_ref());
        }
        self.finished_files += 1;
        if let Some(total) = &self.total {
            total.set_label(&self.total_label());
        }
        self.unfinished_files += usize::from(matches!(report.outcome, FileOutcome::Aborted(_)));
        if self.output.is_json() {
            return self.print_object("file", &file_json(report));
        }
        let name = name_encoding::display_name(&report.name);
        let line = match &report.outcome {
            // A closed pipe means that the reader of standard output had enough.
            FileOutcome::Failed(error) if error.is_closed_pipe() => return,
            // Reported once for all files, by the error of the fetch.
            FileOutcome::Aborted(_) => return,
            FileOutcome::Failed(error) => {
                let line = format!("{name}: {error}");
                // A single file's failure is the command's error; printing it here would repeat it.
                if self.is_single && self.files <= 1 {
                    self.deferred_failures.push(line);
                    return;
                }
                // Files that ended before this one stand above it.
                self.print_lines();
                return self.output.error(&line);
            }
            FileOutcome::Done(path) => done_line(path, report.size),
            FileOutcome::Renamed(path) => renamed_line(path, &name, report.size),
            FileOutcome::Skipped(path) => skipped_line(path),
            FileOutcome::Streamed => format!("{name} ({})", format_size(report.size)),
        };
        // With thousands of small files, each line would make all bars be redrawn: lines are batched.
        self.lines.push(line);
        if !self.output.is_animated() || self.lines_printed.elapsed() >= PROGRESS_INTERVAL {
            self.print_lines();
        }
    }

    /// Prints the batched lines above the bars.
    fn print_lines(&mut self) {
        if !self.lines.is_empty() {
            self.output.note(&std::mem::take(&mut self.lines).join("\n"));
            self.lines_printed = Instant::now();
        }
    }

    fn print_line(&self, line: &str) {
        self.output.note(line);
    }

    fn print_object(&mut self, kind: &str, fields: &serde_json::Value) {
        // Events can't fail, so the first error is kept for `end`.
        if self.failure.is_none()
            && let Err(why) = self.output.print_object(kind, fields)
        {
            self.failure = Some(why);
        }
    }
}
