//! Fetches of a view, each on its own thread and runtime so that hashing and disk writes don't delay key presses.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use shared::UserName;
use shared::names::matching_key;
use shared::names::name_encoding;
use shared::safe_text::{safe_line, safe_path};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::progress_publisher::ProgressPublisher;
use crate::engine::fetch::{
    FetchDestination, FetchEvent, FetchRequest, FileNo, FileOutcome, FileReport, IfExists, RequestedName, SourcePolicy,
    fetch,
};
use crate::engine::node_event::FileTransfer;
use crate::engine::{Error, LocalUser, ShareOrigin};
use crate::ui::{format_size, silent_words, slow_words};
use crate::util::shell_words::shell_quote;

/// Fetches at the same time; more would only share the same network link.
const MAX_FETCHES: usize = 4;
const SOURCE_TIMEOUT: Duration = Duration::from_secs(90);
/// Time for fetches to store what they have when the view ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// An event of a fetch, or of another job of a view.
#[derive(Debug)]
pub(super) enum BackgroundEvent {
    /// Progress or end of a file's transfer.
    Transfer(FileTransfer),
    /// A line for the user.
    Note(String),
    /// An error for the user.
    Problem(String),
    /// The user stopped a fetch; its partial files are kept.
    Interrupted(InterruptedFetch),
    /// Progress or end of the hashing of an offer.
    Hashing(FileTransfer),
    /// The next event is the report of the last file of this fetch: only its connections are left to close.
    AllFilesReported(u64),
    /// The fetch of this number has ended.
    Ended(u64),
}

/// A fetch that the user stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InterruptedFetch {
    /// The user or the room that it fetched from.
    pub(super) from: ShareOrigin,
    /// The names that were asked for, separated by spaces.
    pub(super) name: String,
    /// Verified bytes on disk.
    pub(super) bytes: u64,
    /// Bytes of all files; 0 if not yet known.
    pub(super) size: u64,
}

/// The fetches of one view.
#[derive(Debug)]
pub(super) struct BackgroundFetches {
    me: LocalUser,
    cancel: CancellationToken,
    events: mpsc::UnboundedSender<BackgroundEvent>,
    started_count: u64,
    running: Vec<RunningFetch>,
    threads: Vec<JoinHandle<()>>,
    /// Held as a clone by every thread: `all_ended` closes when the last one has ended.
    alive: mpsc::Sender<Infallible>,
    all_ended: mpsc::Receiver<Infallible>,
}

#[derive(Debug)]
struct RunningFetch {
    number: u64,
    from: ShareOrigin,
    name: String,
    cancel: CancellationToken,
    /// True if all files were reported, so that stopping the fetch loses nothing.
    is_reported: bool,
}

impl BackgroundFetches {
    /// Returns no fetches yet, and the receiver of their events.
    pub(super) fn new(me: LocalUser) -> (Self, mpsc::UnboundedReceiver<BackgroundEvent>) {
        let (tell, told) = mpsc::unbounded_channel();
        let (alive, all_ended) = mpsc::channel(1);
        let (cancel, threads) = (CancellationToken::new(), Vec::new());
        let (begun, running) = (0, Vec::new());
        (Self { me, cancel, events: tell, started_count: begun, running, threads, alive, all_ended }, told)
    }

    /// Fetches a file, a folder or a pattern into the working folder. Fails with [`Error::Usage`] if [`MAX_FETCHES`]
    /// run already; an I/O error if no thread can be started.
    pub(super) fn start(&mut self, from: &UserName, name: &str) -> Result<(), Error> {
        if self.running.len() >= MAX_FETCHES {
            return Err(Error::Usage(format!("{MAX_FETCHES} downloads are running: wait for one, or /stop one")));
        }
        let request = FetchRequest {
            from: from.clone().into(),
            names: vec![RequestedName::for_text(name)],
            destination: FetchDestination::Folder(PathBuf::from(".")),
            if_exists: IfExists::SkipSame,
            streams: 2,
            sources: SourcePolicy::Everybody,
            limit: None,
            source_timeout: SOURCE_TIMEOUT,
            folder_times: Vec::new(),
            arrived: Vec::new(),
        };
        // A child token: one fetch can be stopped alone, and all of them together.
        let (me, cancel, tell) = (self.me.clone(), self.cancel.child_token(), self.events.clone());
        let alive = self.alive.clone();
        self.started_count += 1;
        let number = self.started_count;
        let (from, name, is_all_told) = (request.from.clone(), name.to_owned(), false);
        let running = RunningFetch { number, from, name, cancel: cancel.clone(), is_reported: is_all_told };
        let thread = std::thread::Builder::new().name("fetch".to_owned()).spawn(move || {
            let ending = FetchEndGuard(number, tell.clone());
            let last_word = run_fetch(number, &me, &request, &cancel, &tell);
            // `Ended` first: a user who reads the reason may leave at once, and must not be warned.
            drop(ending);
            if let Some(last_word) = last_word {
                // The view is gone when nobody listens.
                let _ = tell.send(last_word);
            }
            // Last, so that `shut_down` has every event in its channel when the threads have ended.
            drop(alive);
        })?;
        // A view may run for weeks: forget the threads that have ended.
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread);
        self.running.push(running);
        Ok(())
    }

    /// Stops the fetch of `name`, or the only one from that user. Fails with [`Error::Usage`] if there is none, or more
    /// than one and no name.
    pub(super) fn stop(&self, from: &UserName, name: Option<&str>) -> Result<(), Error> {
        // Names that look alike on the screen mean the same fetch.
        let key = name.map(matching_key);
        let is_named = |running: &RunningFetch| key.as_ref().is_none_or(|key| matching_key(&running.name) == *key);
        let is_meant = |running: &&RunningFetch| running.from.user() == Some(from) && is_named(running);
        let meant: Vec<&RunningFetch> = self.running.iter().filter(is_meant).collect();
        match (&meant[..], name) {
            ([], Some(name)) => {
                Err(Error::Usage(format!("{} is not being downloaded here", name_encoding::display_name(name))))
            }
            ([], None) => Err(Error::Usage(format!("nothing is being downloaded from {from} here"))),
            ([_, _, ..], None) => {
                let names: Vec<_> = meant.iter().map(|one| name_encoding::display_name(&one.name)).collect();
                Err(Error::Usage(format!("which one? /stop NAME: {}", names.join(", "))))
            }
            (meant, _) => {
                meant.iter().for_each(|one| one.cancel.cancel());
                Ok(())
            }
        }
    }

    /// Returns the number of fetches that would lose something if they ended now.
    pub(super) fn unfinished_count(&self) -> usize {
        self.running.iter().filter(|running| !running.is_reported).count()
    }

    /// Returns a sender for events of other jobs of the view.
    pub(super) fn event_sender(&self) -> mpsc::UnboundedSender<BackgroundEvent> {
        self.events.clone()
    }

    /// Marks a fetch whose files were all reported.
    pub(super) fn mark_reported(&mut self, number: u64) {
        let told = self.running.iter_mut().filter(|running| running.number == number);
        told.for_each(|running| running.is_reported = true);
    }

    /// Removes a fetch that has ended.
    pub(super) fn remove(&mut self, number: u64) {
        self.running.retain(|running| running.number != number);
    }

    /// Stops all fetches; partial files are kept.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Stops all fetches and waits up to [`SHUTDOWN_TIMEOUT`] until their files are stored. Returns lines for the user.
    pub(super) async fn shut_down(self, told: &mut mpsc::UnboundedReceiver<BackgroundEvent>) -> Vec<String> {
        let Self { cancel, threads, alive, mut all_ended, mut running, .. } = self;
        cancel.cancel();
        // A disk that doesn't answer must not hold the terminal: threads that hang are left behind.
        drop(alive);
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, all_ended.recv()).await.is_ok() {
            // All threads have dropped `alive`, so that no join blocks.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
        let mut said = Vec::new();
        while let Ok(told) = told.try_recv() {
            match told {
                BackgroundEvent::Interrupted(broken_off) => said.push(broken_off.exit_notice()),
                BackgroundEvent::Note(text) | BackgroundEvent::Problem(text) => said.push(text),
                BackgroundEvent::Ended(number) => running.retain(|one| one.number != number),
                BackgroundEvent::Transfer(_) | BackgroundEvent::Hashing(_) | BackgroundEvent::AllFilesReported(_) => {}
            }
        }
        // Those still in the list have not reported their end: at least name the command that resumes them.
        said.extend(running.iter().map(|one| format!("`{}` resumes it", resume_command(&one.from, &one.name))));
        said
    }

    /// Stops all fetches without waiting. Returns lines for the user.
    pub(super) fn abandon(self) -> Vec<String> {
        self.cancel.cancel();
        self.running.iter().map(|one| format!("`{}` resumes it", resume_command(&one.from, &one.name))).collect()
    }
}

/// Sends [`BackgroundEvent::Ended`] when dropped, even if the thread panics.
struct FetchEndGuard(u64, mpsc::UnboundedSender<BackgroundEvent>);

impl Drop for FetchEndGuard {
    fn drop(&mut self) {
        let _ = self.1.send(BackgroundEvent::Ended(self.0));
    }
}

/// Runs a fetch to its end; returns the event to send after it, if any.
fn run_fetch(
    number: u64,
    me: &LocalUser,
    request: &FetchRequest,
    cancel: &CancellationToken,
    tell: &mpsc::UnboundedSender<BackgroundEvent>,
) -> Option<BackgroundEvent> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(BackgroundEvent::Problem(error.to_string())),
    };
    let telling = ProgressPublisher::new();
    let mut words = FetchEventTranslator::new(number, tell.clone());
    let mut told = false;
    let mut report = |event: FetchEvent<'_>| {
        telling.handle_event(&event);
        words.handle_event(&event);
        told |=
            matches!(event, FetchEvent::Finished { report: FileReport { outcome: FileOutcome::Failed(_), .. }, .. });
    };
    let hears = async |transfers: Vec<FileTransfer>| {
        // The view is gone when nobody listens.
        transfers.into_iter().for_each(|transfer| drop(tell.send(BackgroundEvent::Transfer(transfer))));
    };
    let ended = runtime.block_on(telling.publish_during(hears, fetch(me, request, &mut report, cancel)));
    match ended.error {
        // Each failed file was reported when it failed.
        Some(Error::SomeFailed { .. }) | None => None,
        Some(Error::Interrupted) => Some(BackgroundEvent::Interrupted(words.broken_off(request))),
        // The same error was already shown for the file that it failed.
        Some(error) if told => {
            tracing::debug!("{error}");
            None
        }
        Some(error) => Some(BackgroundEvent::Problem(error.to_string())),
    }
}

/// Translates fetch events into lines for the user.
struct FetchEventTranslator {
    /// The number of the fetch.
    number: u64,
    /// Files without a report; `None` until their number is known.
    unreported_files: Option<usize>,
    events: mpsc::UnboundedSender<BackgroundEvent>,
    running: HashMap<FileNo, RunningFile>,
    /// Files that changed at the source and were not started again yet.
    paused: HashSet<FileNo>,
    /// Verified bytes of all files.
    bytes: u64,
    /// The sizes of all files but the paused ones.
    size: u64,
}

/// Byte counts of a file that was started.
struct RunningFile {
    size: u64,
    missing: u64,
}

impl FetchEventTranslator {
    fn new(number: u64, events: mpsc::UnboundedSender<BackgroundEvent>) -> Self {
        Self {
            number,
            unreported_files: None,
            events,
            running: HashMap::new(),
            paused: HashSet::new(),
            bytes: 0,
            size: 0,
        }
    }

    fn handle_event(&mut self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Resolved { files, bytes } => (self.unreported_files, self.size) = (Some(*files), *bytes),
            FetchEvent::Started { file, size, resumed, .. } => {
                if self.paused.remove(file) {
                    self.size += size;
                }
                self.running.insert(*file, RunningFile { size: *size, missing: size.saturating_sub(*resumed) });
                self.bytes += resumed;
            }
            FetchEvent::Paused { file, bytes } => {
                // Counted anew when the file is started again, perhaps with another size.
                self.bytes = self.bytes.saturating_sub(*bytes);
                if let Some(running) = self.running.remove(file) {
                    self.size = self.size.saturating_sub(running.size);
                    self.paused.insert(*file);
                }
            }
            FetchEvent::Verified { file, bytes } => {
                let Some(running) = self.running.get_mut(file) else { return };
                running.missing = running.missing.saturating_sub(*bytes);
                self.bytes += bytes;
            }
            FetchEvent::Finished { file, report } => {
                if file.is_some_and(|file| self.paused.remove(&file)) {
                    self.size += report.size;
                }
                let running = file.and_then(|file| self.running.remove(&file));
                let left = running.map_or(report.size, |running| running.missing);
                // A skipped file was never `Started` or `Verified`: its size is added here.
                self.bytes +=
                    if matches!(report.outcome, FileOutcome::Failed(_) | FileOutcome::Aborted(_)) { 0 } else { left };
                self.unreported_files = self.unreported_files.map(|files| files.saturating_sub(1));
                // Before the report: a user who reads it may leave at once, and must not be warned.
                if self.unreported_files.is_none_or(|files| files == 0) {
                    self.send(BackgroundEvent::AllFilesReported(self.number));
                }
                self.finished(report);
            }
            FetchEvent::AwaitingRehash { name } => {
                self.note(format!(
                    "{} changed or grew at the source and is being hashed again there",
                    name_encoding::display_name(name)
                ));
            }
            FetchEvent::SourceJoined { user } => self.note(format!("{user} has the same and is asked as well")),
            FetchEvent::SourceUnavailable { user, why } => {
                self.note(format!("{user} is not asked: {}", safe_line(why)));
            }
            FetchEvent::SourceLost { user, why } => {
                self.note(format!("{user} went offline ({}); retrying", safe_line(why)));
            }
            FetchEvent::Silent { user, time } => self.note(format!("{}; retrying", silent_words(user, *time))),
            FetchEvent::Slow { user, slowdown, seeks } => self.note(slow_words(user, *slowdown, *seeks)),
            FetchEvent::SourceReturned { user } => self.note(format!("{user} is back")),
            FetchEvent::SourceBanned { user, why } => {
                let what = format!("{user} {}: fetching nothing more from {user}", safe_line(why));
                self.send(BackgroundEvent::Problem(what));
            }
            FetchEvent::Connecting { .. }
            | FetchEvent::SourceConnected { .. }
            | FetchEvent::VersionChosen { .. }
            | FetchEvent::Checking { .. }
            | FetchEvent::Opened { .. }
            | FetchEvent::ContentChanged { .. }
            | FetchEvent::AwaitingReader { .. }
            | FetchEvent::OutdatedRemoved { .. }
            | FetchEvent::CollidingNames { .. } => {}
        }
    }

    fn broken_off(&self, request: &FetchRequest) -> InterruptedFetch {
        let names: Vec<&str> = request.names.iter().map(|asked| asked.text.as_str()).collect();
        InterruptedFetch { from: request.from.clone(), name: names.join(" "), bytes: self.bytes, size: self.size }
    }

    fn finished(&self, report: &FileReport) {
        let name = name_encoding::display_name(&report.name).into_owned();
        let bytes = format_size(report.size);
        match &report.outcome {
            FileOutcome::Done(path) => {
                self.note(format!("{name}: {bytes} fetched and verified, in {}", path_text(path)));
            }
            FileOutcome::Renamed(path) => {
                self.note(format!("{name}: {bytes} fetched and verified, in {} (the name was taken)", path_text(path)));
            }
            FileOutcome::Skipped(path) => self.note(format!("{name} exists already: {}", path_text(path))),
            FileOutcome::Streamed => {}
            // The event at the end of the fetch says it once for all files.
            FileOutcome::Aborted(_) => {}
            FileOutcome::Failed(error) => self.send(BackgroundEvent::Problem(format!("{name}: {error}"))),
        }
    }

    fn note(&self, text: String) {
        self.send(BackgroundEvent::Note(text));
    }

    fn send(&self, told: BackgroundEvent) {
        // The view is gone when nobody listens.
        let _ = self.events.send(told);
    }
}

impl InterruptedFetch {
    /// Returns the line for a view that stays open.
    pub(super) fn view_notice(&self) -> String {
        let name = name_encoding::display_name(&self.name);
        format!("{name}: stopped, {}; /get {name} resumes it", self.kept_share())
    }

    /// Returns the line for a view that has ended.
    pub(super) fn exit_notice(&self) -> String {
        format!(
            "{}: {}; `{}` resumes it",
            name_encoding::display_name(&self.name),
            self.kept_share(),
            resume_command(&self.from, &self.name)
        )
    }

    fn kept_share(&self) -> String {
        // In 128 bits: the product of a large size overflows 64.
        match u128::from(self.bytes) * 100 / u128::from(self.size.max(1)) {
            0 if self.bytes == 0 => "nothing was downloaded yet".to_owned(),
            percent => format!("{percent} % kept"),
        }
    }
}

/// Returns the command line that resumes a fetch.
fn resume_command(from: &ShareOrigin, name: &str) -> String {
    safe_line(&format!("peer fetch {}", shell_quote(&[&from.to_string(), name]))).into_owned()
}

fn path_text(path: &Path) -> String {
    safe_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_started_again_counts_once() {
        let mut words = FetchEventTranslator::new(1, mpsc::unbounded_channel().0);
        let (owner, name) = ("bob".parse().unwrap(), "film.mkv".parse().unwrap());
        let started = |size, resumed| FetchEvent::Started { file: 0, owner: &owner, name: &name, size, resumed };
        words.handle_event(&FetchEvent::Resolved { files: 2, bytes: 150 });
        words.handle_event(&started(100, 10));
        words.handle_event(&FetchEvent::Verified { file: 0, bytes: 20 });
        words.handle_event(&FetchEvent::Paused { file: 0, bytes: 30 });
        assert_eq!((words.bytes, words.size), (0, 50));
        words.handle_event(&started(200, 0));
        words.handle_event(&FetchEvent::Verified { file: 0, bytes: 70 });
        assert_eq!((words.bytes, words.size), (70, 250));
    }

    #[test]
    fn what_is_kept_is_said_and_how_to_go_on() {
        let broken = |name: &str, bytes, size| InterruptedFetch {
            from: "bob".parse().unwrap(),
            name: name.to_owned(),
            bytes,
            size,
        };
        let big = broken("share/big.bin", 12, 100);
        assert_eq!(big.view_notice(), "share/big.bin: stopped, 12 % kept; /get share/big.bin resumes it");
        assert_eq!(big.exit_notice(), "share/big.bin: 12 % kept; `peer fetch bob share/big.bin` resumes it");
        let odd = broken("it's $(mine)", 0, 0).exit_notice();
        assert!(odd.ends_with(r"`peer fetch bob 'it'\''s $(mine)'` resumes it"), "{odd}");
        assert!(odd.contains("nothing was downloaded yet"));
    }
}
