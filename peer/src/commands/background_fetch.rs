//! Fetches that go on beside a conversation, each on a thread and a runtime of its own.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use shared::UserName;
use shared::safe_text::safe_line;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::telling::Telling;
use crate::engine::event::Transfer;
use crate::engine::fetch::{Destination, FetchEvent, IfExists, Report, Request, Sources, Status, fetch};
use crate::engine::{Error, Me};
use crate::ui::size;

/// At once; more would only share the same wire.
const FETCHES: usize = 4;
const PATIENCE: Duration = Duration::from_secs(90);
/// For what was fetched to be put away when the view ends.
const PUT_AWAY: Duration = Duration::from_secs(2);

/// What is told of the fetches.
#[derive(Debug)]
pub(super) enum FromFetch {
    /// A file is on its way, or was.
    Transfer(Transfer),
    /// Something worth a line.
    Note(String),
    /// Something that went wrong.
    Problem(String),
    /// A fetch has ended.
    Ended,
}

/// The fetches of one view.
#[derive(Debug)]
pub(super) struct BackgroundFetches {
    me: Me,
    cancel: CancellationToken,
    tell: mpsc::UnboundedSender<FromFetch>,
    running: usize,
    threads: Vec<JoinHandle<()>>,
    /// Every thread has one of these for as long as it goes on.
    alive: mpsc::Sender<Infallible>,
    all_ended: mpsc::Receiver<Infallible>,
}

impl BackgroundFetches {
    /// None yet; what is told comes through the receiver.
    pub(super) fn new(me: Me) -> (Self, mpsc::UnboundedReceiver<FromFetch>) {
        let (tell, told) = mpsc::unbounded_channel();
        let (alive, all_ended) = mpsc::channel(1);
        let (cancel, threads) = (CancellationToken::new(), Vec::new());
        (Self { me, cancel, tell, running: 0, threads, alive, all_ended }, told)
    }

    /// Fetches a file, a folder or a pattern into the working folder.
    ///
    /// # Errors
    /// When enough is fetched already, or there are no threads.
    pub(super) fn start(&mut self, from: &UserName, name: &str) -> Result<(), Error> {
        if self.running >= FETCHES {
            return Err(Error::Usage(format!("{FETCHES} fetches are on their way: wait for one of them")));
        }
        let request = Request {
            from: from.clone(),
            names: vec![name.to_owned()],
            destination: Destination::Folder(PathBuf::from(".")),
            if_exists: IfExists::SkipSame,
            streams: 2,
            sources: Sources::Everybody,
            limit: None,
            patience: PATIENCE,
        };
        let (me, cancel, tell) = (self.me.clone(), self.cancel.clone(), self.tell.clone());
        let alive = self.alive.clone();
        let thread = std::thread::Builder::new().name("fetch".to_owned()).spawn(move || {
            let ended = Ending(tell.clone());
            if let Err(error) = run(&me, &request, &cancel, &tell) {
                // The view is gone when nobody listens.
                let _ = tell.send(FromFetch::Problem(error.to_string()));
            }
            drop((ended, alive));
        })?;
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread);
        self.running += 1;
        Ok(())
    }

    /// One of them has ended.
    pub(super) const fn ended(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Breaks all of them off; parts are kept.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Breaks them off, and waits until what they have is put away; not for ever.
    pub(super) async fn end(self) {
        let Self { cancel, threads, alive, mut all_ended, .. } = self;
        cancel.cancel();
        drop(alive);
        if tokio::time::timeout(PUT_AWAY, all_ended.recv()).await.is_ok() {
            // They have nothing left to do.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
    }
}

/// Tells that a fetch has ended, even if its thread failed.
struct Ending(mpsc::UnboundedSender<FromFetch>);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.send(FromFetch::Ended);
    }
}

fn run(
    me: &Me,
    request: &Request,
    cancel: &CancellationToken,
    tell: &mpsc::UnboundedSender<FromFetch>,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (telling, words) = (Telling::new(&request.from), Words(tell.clone()));
    let mut report = |event: FetchEvent<'_>| {
        telling.take(&event);
        words.take(&event);
    };
    let hears = async |transfers: Vec<Transfer>| {
        // The view is gone when nobody listens.
        transfers.into_iter().for_each(|transfer| drop(tell.send(FromFetch::Transfer(transfer))));
    };
    let ended = runtime.block_on(telling.during(hears, fetch(me, request, &mut report, cancel)))?;
    match ended.error {
        // What went wrong with one of several was told when it did.
        Some(Error::Partial { .. }) | None => Ok(()),
        Some(error) if ended.summary.failed == 1 => {
            tracing::debug!("{error}");
            Ok(())
        }
        Some(error) => Err(error),
    }
}

/// Says what a person should read of what a fetch reports.
struct Words(mpsc::UnboundedSender<FromFetch>);

impl Words {
    fn take(&self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Finished { report, .. } => self.finished(report),
            FetchEvent::Waiting { name } => {
                self.note(format!("{} changed at the source and is being hashed again there", safe_line(name)));
            }
            FetchEvent::Joined { user } => self.note(format!("{user} has the same and is asked as well")),
            FetchEvent::NotAsked { user, why } => self.note(format!("{user} is not asked: {}", safe_line(why))),
            FetchEvent::Lost { user, why } => self.note(format!("{user} is gone ({}); calling again", safe_line(why))),
            FetchEvent::Back { user } => self.note(format!("{user} is back")),
            FetchEvent::Banned { user, why } => {
                let what = format!("{user} {}: nothing more is taken from {user}", safe_line(why));
                self.send(FromFetch::Problem(what));
            }
            FetchEvent::Connecting { .. }
            | FetchEvent::Resolved { .. }
            | FetchEvent::Started { .. }
            | FetchEvent::Opened { .. }
            | FetchEvent::Changed { .. }
            | FetchEvent::Outdated { .. }
            | FetchEvent::Verified { .. }
            | FetchEvent::Alike { .. } => {}
        }
    }

    fn finished(&self, report: &Report) {
        let name = safe_line(&report.name).into_owned();
        let bytes = size(report.size);
        match &report.status {
            Status::Done(path) => self.note(format!("{name}: {bytes} fetched and verified, in {}", shown(path))),
            Status::Renamed(path) => {
                self.note(format!("{name}: {bytes} fetched and verified, in {} (the name was taken)", shown(path)));
            }
            Status::Skipped(path) => self.note(format!("{name} is there already: {}", shown(path))),
            Status::Streamed => {}
            Status::Failed(Error::Interrupted) => self.note(format!("{name}: broken off; /get goes on with it")),
            Status::Failed(error) => self.send(FromFetch::Problem(format!("{name}: {error}"))),
        }
    }

    fn note(&self, text: String) {
        self.send(FromFetch::Note(text));
    }

    fn send(&self, told: FromFetch) {
        // The view is gone when nobody listens.
        let _ = self.0.send(told);
    }
}

fn shown(path: &Path) -> String {
    safe_line(&path.to_string_lossy()).into_owned()
}
