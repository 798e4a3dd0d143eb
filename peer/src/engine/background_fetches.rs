//! Fetches of a view, each on its own thread and runtime so that hashing and disk writes don't delay key presses.

mod fetch_byte_count;
mod fetch_event_translator;
mod fetch_progress;
mod interrupted_fetch;
#[cfg(test)]
mod test_reports;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use localization::tr;
use parking_lot::Mutex;
use shared::UserName;
use shared::names::matching_key;
use shared::names::name_encoding;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::fetch_event_translator::FetchEventTranslator;
pub use self::fetch_progress::{FetchProgress, FetchState, FetchedFile, ProgressLock};
pub use self::interrupted_fetch::InterruptedFetch;
use self::interrupted_fetch::resume_command;
use super::chat::ConversationName;
use super::fetch::{FetchDestination, FetchEvent, FetchRequest, FileOutcome, FileReport, RequestedName, fetch};
use super::node_event::FileTransfer;
use super::progress_publisher::ProgressPublisher;
use super::receipt_delivery::deliver_receipts;
use super::send_intake::ReceiptObserver;
use super::{Error, LocalUser};
use crate::util::TranslatedText;

/// Fetches at the same time; more would only share the same network link.
const MAX_FETCHES: usize = 4;
const SOURCE_TIMEOUT: Duration = Duration::from_secs(90);
/// Time for fetches to store what they have when the view ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// An event of a fetch, or of another job of a view.
#[derive(Debug)]
pub enum BackgroundEvent {
    /// Progress or end of a file's transfer.
    Transfer(FileTransfer),
    /// A line for the user.
    Note(TranslatedText),
    /// A line for the user about a file that is here, with its place on this disk.
    FilePlaced(TranslatedText),
    /// An error for the user.
    Problem(TranslatedText),
    /// The progress of this fetch changed.
    Progress(u64),
    /// The user stopped a fetch; its partial files are kept.
    Interrupted(InterruptedFetch),
    /// Progress or end of the hashing of an offer.
    Hashing(FileTransfer),
    /// The next event is the report of the last file of this fetch: only its connections are left to close.
    AllFilesReported(u64),
    /// The fetch of this number has ended.
    Ended(u64),
}

/// The fetches of one view.
#[derive(Debug)]
pub struct BackgroundFetches {
    me: LocalUser,
    /// The folder into which they fetch.
    folder: PathBuf,
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
    from: ConversationName,
    name: String,
    cancel: CancellationToken,
    /// True if all files were reported, so that stopping the fetch loses nothing.
    is_reported: bool,
}

impl BackgroundFetches {
    /// Returns no fetches yet, which will go into `folder`, and the receiver of their events.
    pub fn new(me: LocalUser, folder: PathBuf) -> (Self, mpsc::UnboundedReceiver<BackgroundEvent>) {
        let (tell, told) = mpsc::unbounded_channel();
        let (alive, all_ended) = mpsc::channel(1);
        let (cancel, threads) = (CancellationToken::new(), Vec::new());
        let (begun, running) = (0, Vec::new());
        (Self { me, folder, cancel, events: tell, started_count: begun, running, threads, alive, all_ended }, told)
    }

    /// Fetches a file, a folder or a pattern. Returns its progress.
    ///
    /// # Errors
    /// [`Error::Usage`] if `MAX_FETCHES` run already; an I/O error if no thread can be started.
    pub fn start(&mut self, from: &ConversationName, name: &str) -> Result<ProgressLock, Error> {
        if self.running.len() >= MAX_FETCHES {
            return Err(Error::Usage(tr!(
                "{count} downloads are running: wait for one, or /stop one",
                count = MAX_FETCHES
            )));
        }
        let (names, destination) = (vec![RequestedName::for_text(name)], FetchDestination::Folder(self.folder.clone()));
        let request = FetchRequest::new(from.clone(), names, destination, SOURCE_TIMEOUT);
        // A child token: one fetch can be stopped alone, and all of them together.
        let (me, cancel, tell) = (self.me.clone(), self.cancel.child_token(), self.events.clone());
        let alive = self.alive.clone();
        self.started_count += 1;
        let number = self.started_count;
        let (from, name, is_all_told) = (request.from.clone(), name.to_owned(), false);
        let progress: ProgressLock = Arc::new(Mutex::new(FetchProgress::new(number, from.clone(), name.clone())));
        let shown = progress.clone();
        let running = RunningFetch { number, from, name, cancel: cancel.clone(), is_reported: is_all_told };
        let thread = std::thread::Builder::new().name("fetch".to_owned()).spawn(move || {
            // A guard, so that the view hears of the end even of a fetch that panics.
            let ending = FetchEndGuard(number, tell.clone());
            let FetchEnd { last_word, receipts } = run_fetch(&shown, &me, &request, &cancel, &tell);
            // `Ended` first: a user who reads the reason may leave at once, and must not be warned.
            drop(ending);
            if let Some(last_word) = last_word {
                // The view is gone when nobody listens.
                let _ = tell.send(last_word);
            }
            // After the end: a sender who doesn't answer must not hold one of the few places.
            if let Some((runtime, senders)) = receipts {
                runtime.block_on(deliver_receipts(&me, senders));
            }
            // Last, so that `shut_down` has every event in its channel when the threads have ended.
            drop(alive);
        })?;
        // A view may run for weeks: forget the threads that have ended.
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread);
        self.running.push(running);
        Ok(progress)
    }

    /// Stops the fetch of a number; returns false if it doesn't run.
    pub fn stop_number(&self, number: u64) -> bool {
        let running = self.running.iter().find(|running| running.number == number);
        running.inspect(|running| running.cancel.cancel()).is_some()
    }

    /// Stops the fetch of `name`, or the only one from there. Fails with [`Error::Usage`] if there is none, or more
    /// than one and no name.
    pub fn stop(&self, from: &ConversationName, name: Option<&str>) -> Result<(), Error> {
        // Names that look alike on the screen mean the same fetch.
        let key = name.map(matching_key);
        let is_named = |running: &RunningFetch| key.as_ref().is_none_or(|key| matching_key(&running.name) == *key);
        let is_meant = |running: &&RunningFetch| running.from == *from && is_named(running);
        let meant: Vec<&RunningFetch> = self.running.iter().filter(is_meant).collect();
        match (&meant[..], name) {
            ([], Some(name)) => {
                let name = name_encoding::display_name(name);
                Err(Error::Usage(tr!("{name} is not being downloaded here", name)))
            }
            ([], None) => Err(Error::Usage(tr!("nothing is being downloaded from {from} here", from))),
            ([_, _, ..], None) => {
                let names: Vec<_> = meant.iter().map(|one| name_encoding::display_name(&one.name)).collect();
                Err(Error::Usage(tr!("which one? /stop NAME: {names}", names = names.join(", "))))
            }
            (meant, _) => {
                meant.iter().for_each(|one| one.cancel.cancel());
                Ok(())
            }
        }
    }

    /// Returns the number of fetches that would lose something if they ended now.
    pub fn unfinished_count(&self) -> usize {
        self.running.iter().filter(|running| !running.is_reported).count()
    }

    /// Returns a sender for events of other jobs of the view.
    pub fn event_sender(&self) -> mpsc::UnboundedSender<BackgroundEvent> {
        self.events.clone()
    }

    /// Marks a fetch whose files were all reported.
    pub fn mark_reported(&mut self, number: u64) {
        mark_reported(&mut self.running, number);
    }

    /// Removes a fetch that has ended.
    pub fn remove(&mut self, number: u64) {
        self.running.retain(|running| running.number != number);
    }

    /// Stops all fetches; partial files are kept.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Stops all fetches and waits up to `SHUTDOWN_TIMEOUT` until their files are stored. Returns lines for the user.
    pub async fn shut_down(self, told: &mut mpsc::UnboundedReceiver<BackgroundEvent>) -> Vec<String> {
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
                BackgroundEvent::Note(text) | BackgroundEvent::FilePlaced(text) | BackgroundEvent::Problem(text) => {
                    said.push(text.to_string());
                }
                BackgroundEvent::Ended(number) => running.retain(|one| one.number != number),
                BackgroundEvent::AllFilesReported(number) => mark_reported(&mut running, number),
                BackgroundEvent::Transfer(_) | BackgroundEvent::Hashing(_) | BackgroundEvent::Progress(_) => {}
            }
        }
        // Those still in the list have not reported their end: at least name the command that resumes them.
        said.extend(resume_hints(&running));
        said
    }

    /// Stops all fetches without waiting. Returns lines for the user.
    pub fn abandon(self) -> Vec<String> {
        self.cancel.cancel();
        resume_hints(&self.running).collect()
    }
}

impl RunningFetch {
    fn resume_hint(&self) -> String {
        tr!("`{command}` resumes it", command = resume_command(&self.from, &self.name))
    }
}

fn mark_reported(running: &mut [RunningFetch], number: u64) {
    let told = running.iter_mut().filter(|running| running.number == number);
    told.for_each(|running| running.is_reported = true);
}

/// Returns the commands that resume the fetches which lost something.
fn resume_hints(running: &[RunningFetch]) -> impl Iterator<Item = String> {
    running.iter().filter(|running| !running.is_reported).map(RunningFetch::resume_hint)
}

/// What is left to do when a fetch is over.
struct FetchEnd {
    /// The event to send after [`BackgroundEvent::Ended`].
    last_word: Option<BackgroundEvent>,
    /// The users who are told that something of theirs arrived.
    receipts: Option<(Runtime, Vec<UserName>)>,
}

/// Sends [`BackgroundEvent::Ended`] when dropped, even if the thread panics.
struct FetchEndGuard(u64, mpsc::UnboundedSender<BackgroundEvent>);

impl Drop for FetchEndGuard {
    fn drop(&mut self) {
        let _ = self.1.send(BackgroundEvent::Ended(self.0));
    }
}

/// Runs a fetch to its end.
fn run_fetch(
    progress: &ProgressLock,
    me: &LocalUser,
    request: &FetchRequest,
    cancel: &CancellationToken,
    tell: &mpsc::UnboundedSender<BackgroundEvent>,
) -> FetchEnd {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return FetchEnd { last_word: Some(BackgroundEvent::Problem(TranslatedText::of(&error))), receipts: None };
        }
    };
    let number = progress.lock().number;
    let telling = ProgressPublisher::for_fetch();
    let mut words = FetchEventTranslator::new(number, tell.clone());
    let mut told = false;
    let mut receipts = ReceiptObserver::default();
    let mut report = |event: FetchEvent<'_>| {
        receipts.handle_event(&event);
        telling.handle_event(&event);
        if progress.lock().handle_event(&event, Instant::now()) {
            // The view is gone when nobody listens.
            let _ = tell.send(BackgroundEvent::Progress(number));
        }
        words.handle_event(&event);
        told |=
            matches!(event, FetchEvent::Finished { report: FileReport { outcome: FileOutcome::Failed(_), .. }, .. });
    };
    let hears = async |transfers: Vec<FileTransfer>| {
        // The view is gone when nobody listens.
        transfers.into_iter().for_each(|transfer| drop(tell.send(BackgroundEvent::Transfer(transfer))));
    };
    let ended = runtime.block_on(telling.publish_during(hears, fetch(me, request, &mut report, cancel)));
    progress.lock().end(ended.error.as_ref());
    let _ = tell.send(BackgroundEvent::Progress(number));
    // Stored now: whoever leaves the view before they are delivered has the node deliver them.
    let settled = receipts.settle(&me.profile, &request.from, &request.names);
    let senders = settled.inspect_err(|why| tracing::error!("the sender is not told that it arrived: {why}"));
    let receipts = senders.ok().filter(|senders| !senders.is_empty()).map(|senders| (runtime, senders));
    let last_word = match ended.error {
        // Each failed file was reported when it failed.
        Some(Error::SomeFailed { .. }) | None => None,
        Some(Error::Interrupted) => Some(BackgroundEvent::Interrupted(progress.lock().interruption(request))),
        // The same error was already shown for the file that it failed.
        Some(error) if told => {
            tracing::debug!("{error}");
            None
        }
        Some(error) => Some(BackgroundEvent::Problem(TranslatedText::of(&error))),
    };
    FetchEnd { last_word, receipts }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::profile::Profile;

    fn fetches(home: &Path) -> (BackgroundFetches, mpsc::UnboundedReceiver<BackgroundEvent>) {
        let profile = Profile::open(home).unwrap();
        let identity = Arc::new(certs::Identity::generate().unwrap());
        let me = LocalUser::without_tracker(profile, identity, "ana".parse().unwrap());
        BackgroundFetches::new(me, home.join("downloads"))
    }

    #[tokio::test]
    async fn a_fetch_whose_files_are_here_is_not_to_be_resumed() {
        let home = tempfile::tempdir().unwrap();
        let begin = |name: &str, number| RunningFetch {
            number,
            from: "bob".parse().unwrap(),
            name: name.to_owned(),
            cancel: CancellationToken::new(),
            is_reported: false,
        };
        let (mut fetches, mut told) = fetches(home.path());
        fetches.running = vec![begin("half.iso", 1), begin("told.iso", 2), begin("heard.iso", 3)];
        fetches.mark_reported(2);
        fetches.events.send(BackgroundEvent::AllFilesReported(3)).unwrap();
        let said = fetches.shut_down(&mut told).await;
        assert_eq!(said, ["`peer fetch bob half.iso` resumes it"]);
    }
}
