//! Fetches that go on beside a conversation, each on a thread and a runtime of its own.

use std::collections::HashMap;
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

use super::progress_publisher::ProgressPublisher;
use crate::engine::fetch::{
    FetchDestination, FetchEvent, FetchRequest, FileNo, FileOutcome, FileReport, IfExists, RequestedName, SourcePolicy,
    fetch,
};
use crate::engine::node_event::FileTransfer;
use crate::engine::{Error, LocalUser, shell_quote};
use crate::ui::format_size;

/// At once; more would only share the same wire.
const MAX_FETCHES: usize = 4;
const SOURCE_TIMEOUT: Duration = Duration::from_secs(90);
/// For what was fetched to be put away when the view ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// What is told of the fetches, and of what else is done beside a view.
#[derive(Debug)]
pub(super) enum BackgroundEvent {
    /// A file is on its way, or was.
    Transfer(FileTransfer),
    /// Something worth a line.
    Note(String),
    /// Something that went wrong.
    Problem(String),
    /// A fetch was broken off; what it has is kept.
    Interrupted(InterruptedFetch),
    /// A file is hashed to be offered, or no longer.
    Hashing(FileTransfer),
    /// What comes next tells of the last file of the fetch of this number: then it only takes leave of its sources.
    AllFilesReported(u64),
    /// The fetch of this number has ended.
    Ended(u64),
}

/// A fetch that was broken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InterruptedFetch {
    /// From whom.
    pub(super) from: UserName,
    /// What was asked for.
    pub(super) name: String,
    /// Bytes that are here.
    pub(super) bytes: u64,
    /// All of its bytes; nothing when that isn't known yet.
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
    /// Every thread has one of these for as long as it goes on.
    alive: mpsc::Sender<Infallible>,
    all_ended: mpsc::Receiver<Infallible>,
}

#[derive(Debug)]
struct RunningFetch {
    number: u64,
    from: UserName,
    name: String,
    cancel: CancellationToken,
    /// Nothing is lost with it any more.
    is_reported: bool,
}

impl BackgroundFetches {
    /// None yet; what is told comes through the receiver.
    pub(super) fn new(me: LocalUser) -> (Self, mpsc::UnboundedReceiver<BackgroundEvent>) {
        let (tell, told) = mpsc::unbounded_channel();
        let (alive, all_ended) = mpsc::channel(1);
        let (cancel, threads) = (CancellationToken::new(), Vec::new());
        let (begun, running) = (0, Vec::new());
        (Self { me, cancel, events: tell, started_count: begun, running, threads, alive, all_ended }, told)
    }

    /// Fetches a file, a folder or a pattern into the working folder.
    ///
    /// # Errors
    /// When enough is fetched already, or there are no threads.
    pub(super) fn start(&mut self, from: &UserName, name: &str) -> Result<(), Error> {
        if self.running.len() >= MAX_FETCHES {
            return Err(Error::Usage(format!("{MAX_FETCHES} fetches are on their way: wait for one of them")));
        }
        let request = FetchRequest {
            from: from.clone(),
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
        let (me, cancel, tell) = (self.me.clone(), self.cancel.child_token(), self.events.clone());
        let alive = self.alive.clone();
        self.started_count += 1;
        let number = self.started_count;
        let (from, name, is_all_told) = (from.clone(), name.to_owned(), false);
        let running = RunningFetch { number, from, name, cancel: cancel.clone(), is_reported: is_all_told };
        let thread = std::thread::Builder::new().name("fetch".to_owned()).spawn(move || {
            let ending = FetchEndGuard(number, tell.clone());
            let last_word = run_fetch(number, &me, &request, &cancel, &tell);
            // Whoever reads why it has ended may leave at once, and is not to be told that it goes on.
            drop(ending);
            if let Some(last_word) = last_word {
                // The view is gone when nobody listens.
                let _ = tell.send(last_word);
            }
            drop(alive);
        })?;
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread);
        self.running.push(running);
        Ok(())
    }

    /// Breaks one of them off: that of `name`, or the only one.
    ///
    /// # Errors
    /// When there is none, or more than one and no name.
    pub(super) fn stop(&self, from: &UserName, name: Option<&str>) -> Result<(), Error> {
        let key = name.map(matching_key);
        let is_named = |running: &RunningFetch| key.as_ref().is_none_or(|key| matching_key(&running.name) == *key);
        let is_meant = |running: &&RunningFetch| running.from == *from && is_named(running);
        let meant: Vec<&RunningFetch> = self.running.iter().filter(is_meant).collect();
        match (&meant[..], name) {
            ([], Some(name)) => {
                Err(Error::Usage(format!("{} is not being fetched here", name_encoding::display_name(name))))
            }
            ([], None) => Err(Error::Usage(format!("nothing is being fetched from {from} here"))),
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

    /// How many would lose something if they ended now.
    pub(super) fn unfinished_count(&self) -> usize {
        self.running.iter().filter(|running| !running.is_reported).count()
    }

    /// Where else something is told that is done beside the view.
    pub(super) fn event_sender(&self) -> mpsc::UnboundedSender<BackgroundEvent> {
        self.events.clone()
    }

    /// All files of one of them were told of.
    pub(super) fn mark_reported(&mut self, number: u64) {
        let told = self.running.iter_mut().filter(|running| running.number == number);
        told.for_each(|running| running.is_reported = true);
    }

    /// One of them has ended.
    pub(super) fn remove(&mut self, number: u64) {
        self.running.retain(|running| running.number != number);
    }

    /// Breaks all of them off; parts are kept.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Breaks them off, and waits until what they have is put away; not for ever. Tells what was broken off.
    pub(super) async fn shut_down(self, told: &mut mpsc::UnboundedReceiver<BackgroundEvent>) -> Vec<String> {
        let Self { cancel, threads, alive, mut all_ended, mut running, .. } = self;
        cancel.cancel();
        drop(alive);
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, all_ended.recv()).await.is_ok() {
            // They have nothing left to do.
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
        said.extend(
            running.iter().map(|one| format!("`{}` goes on with what is kept", resume_command(&one.from, &one.name))),
        );
        said
    }

    /// What can be said of them when nothing is waited for.
    pub(super) fn abandon(self) -> Vec<String> {
        self.cancel.cancel();
        self.running
            .iter()
            .map(|one| format!("`{}` goes on with what is kept", resume_command(&one.from, &one.name)))
            .collect()
    }
}

/// Tells that a fetch has ended, even if its thread failed.
struct FetchEndGuard(u64, mpsc::UnboundedSender<BackgroundEvent>);

impl Drop for FetchEndGuard {
    fn drop(&mut self) {
        let _ = self.1.send(BackgroundEvent::Ended(self.0));
    }
}

/// Fetches; gives back what is to be said of its end.
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
    let telling = ProgressPublisher::new(&request.from);
    let mut words = FetchEventTranslator {
        number,
        events: tell.clone(),
        unreported_files: None,
        remaining_bytes: HashMap::new(),
        bytes: 0,
        size: 0,
    };
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
        // What went wrong with one of several was told when it did.
        Some(Error::SomeFailed { .. }) | None => None,
        Some(Error::Interrupted) => Some(BackgroundEvent::Interrupted(words.broken_off(request))),
        Some(error) if told => {
            tracing::debug!("{error}");
            None
        }
        Some(error) => Some(BackgroundEvent::Problem(error.to_string())),
    }
}

/// Says what a person should read of what a fetch reports.
struct FetchEventTranslator {
    /// The fetch's.
    number: u64,
    /// Files that were not told of; nothing while it isn't known how many there are.
    unreported_files: Option<usize>,
    events: mpsc::UnboundedSender<BackgroundEvent>,
    /// Of the files on their way, what is still to come.
    remaining_bytes: HashMap<FileNo, u64>,
    /// Verified bytes, of all files.
    bytes: u64,
    size: u64,
}

impl FetchEventTranslator {
    fn handle_event(&mut self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Resolved { files, bytes } => (self.unreported_files, self.size) = (Some(*files), *bytes),
            FetchEvent::Started { file, size, resumed, .. } => {
                self.remaining_bytes.insert(*file, size.saturating_sub(*resumed));
                self.bytes += resumed;
            }
            FetchEvent::Verified { file, bytes } => {
                let Some(left) = self.remaining_bytes.get_mut(file) else { return };
                *left = left.saturating_sub(*bytes);
                self.bytes += bytes;
            }
            FetchEvent::Finished { file, report } => {
                let left = file.and_then(|file| self.remaining_bytes.remove(&file)).unwrap_or(report.size);
                self.bytes +=
                    if matches!(report.outcome, FileOutcome::Failed(_) | FileOutcome::Aborted(_)) { 0 } else { left };
                self.unreported_files = self.unreported_files.map(|files| files.saturating_sub(1));
                // Whoever reads of the last one may leave at once.
                if self.unreported_files.is_none_or(|files| files == 0) {
                    self.send(BackgroundEvent::AllFilesReported(self.number));
                }
                self.finished(report);
            }
            FetchEvent::AwaitingRehash { name } => {
                self.note(format!(
                    "{} changed at the source and is being hashed again there",
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
            FetchEvent::SourceReturned { user } => self.note(format!("{user} is back")),
            FetchEvent::SourceBanned { user, why } => {
                let what = format!("{user} {}: nothing more is taken from {user}", safe_line(why));
                self.send(BackgroundEvent::Problem(what));
            }
            FetchEvent::Connecting { .. }
            | FetchEvent::Checking { .. }
            | FetchEvent::Opened { .. }
            | FetchEvent::Paused { .. }
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
            FileOutcome::Skipped(path) => self.note(format!("{name} is there already: {}", path_text(path))),
            FileOutcome::Streamed => {}
            // What is told of the whole fetch says it.
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
    /// While the view goes on.
    pub(super) fn view_notice(&self) -> String {
        let name = name_encoding::display_name(&self.name);
        format!("{name}: stopped, {}; /get {name} resumes it", self.kept_share())
    }

    /// When the view is over.
    pub(super) fn exit_notice(&self) -> String {
        format!(
            "{}: {}; `{}` goes on with it",
            name_encoding::display_name(&self.name),
            self.kept_share(),
            resume_command(&self.from, &self.name)
        )
    }

    fn kept_share(&self) -> String {
        match u128::from(self.bytes) * 100 / u128::from(self.size.max(1)) {
            0 if self.bytes == 0 => "nothing of it was here yet".to_owned(),
            percent => format!("{percent} % kept"),
        }
    }
}

/// The command that goes on.
fn resume_command(from: &UserName, name: &str) -> String {
    safe_line(&format!("peer fetch {}", shell_quote(&[from.as_str(), name]))).into_owned()
}

fn path_text(path: &Path) -> String {
    safe_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(big.exit_notice(), "share/big.bin: 12 % kept; `peer fetch bob share/big.bin` goes on with it");
        let odd = broken("it's $(mine)", 0, 0).exit_notice();
        assert!(odd.ends_with(r"`peer fetch bob 'it'\''s $(mine)'` goes on with it"), "{odd}");
        assert!(odd.contains("nothing of it was here yet"));
    }
}
