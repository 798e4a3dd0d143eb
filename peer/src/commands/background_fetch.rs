//! Fetches that go on beside a conversation, each on a thread and a runtime of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use shared::safe_text::safe_line;
use shared::{FileName, UserName};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::event::{Course, Transfer, TransferState};
use crate::engine::fetch::{Destination, FetchEvent, FileNo, IfExists, Report, Request, Sources, Status, fetch};
use crate::engine::{Error, Me};
use crate::ui::size;

/// At once; more would only share the same wire.
const FETCHES: usize = 4;
/// How often a transfer is told while it goes on.
const TOLD_EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(90);

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
}

impl BackgroundFetches {
    /// None yet; what is told comes through the receiver.
    pub(super) fn new(me: Me) -> (Self, mpsc::UnboundedReceiver<FromFetch>) {
        let (tell, told) = mpsc::unbounded_channel();
        (Self { me, cancel: CancellationToken::new(), tell, running: 0 }, told)
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
        std::thread::Builder::new().name("fetch".to_owned()).spawn(move || {
            let ended = Ending(tell.clone());
            if let Err(error) = run(&me, &request, &cancel, tell.clone()) {
                // The view is gone when nobody listens.
                let _ = tell.send(FromFetch::Problem(error.to_string()));
            }
            drop(ended);
        })?;
        self.running += 1;
        Ok(())
    }

    /// One of them has ended.
    pub(super) const fn ended(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Whether any goes on.
    pub(super) const fn is_idle(&self) -> bool {
        self.running == 0
    }

    /// Breaks all of them off; parts are kept.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
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
    tell: mpsc::UnboundedSender<FromFetch>,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut teller = Teller { from: request.from.clone(), tell, files: HashMap::new() };
    let ended = runtime.block_on(fetch(me, request, &mut |event| teller.take(&event), cancel))?;
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

/// Turns what a fetch reports into what is told.
struct Teller {
    from: UserName,
    tell: mpsc::UnboundedSender<FromFetch>,
    files: HashMap<FileNo, Known>,
}

struct Known {
    name: FileName,
    size: u64,
    bytes: u64,
    told: Instant,
}

impl Teller {
    fn take(&mut self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Started { file, name, size, resumed } => {
                let known = Known { name: (*name).clone(), size: *size, bytes: *resumed, told: Instant::now() };
                self.transfer(&known, TransferState::Running);
                self.files.insert(*file, known);
            }
            FetchEvent::Verified { file, bytes } => self.advance(*file, *bytes),
            FetchEvent::Finished { file, report } => self.finished(*file, report),
            FetchEvent::Waiting { name } => {
                self.note(format!("{} changed at the source and is being hashed again there", safe_line(name)));
            }
            FetchEvent::Joined { user } => self.note(format!("{user} has the same and is asked as well")),
            FetchEvent::Lost { user, why } => self.note(format!("{user} is gone ({}); calling again", safe_line(why))),
            FetchEvent::Back { user } => self.note(format!("{user} is back")),
            FetchEvent::Banned { user, why } => {
                let what = format!("{user} {}: nothing more is taken from {user}", safe_line(why));
                self.send(FromFetch::Problem(what));
            }
            FetchEvent::Connecting { .. } | FetchEvent::Resolved { .. } | FetchEvent::Alike { .. } => {}
        }
    }

    fn advance(&mut self, file: FileNo, bytes: u64) {
        let Some(known) = self.files.get_mut(&file) else { return };
        known.bytes += bytes;
        if known.told.elapsed() >= TOLD_EVERY {
            known.told = Instant::now();
            let told = transfer(&self.from, known, TransferState::Running);
            self.send(FromFetch::Transfer(told));
        }
    }

    fn finished(&mut self, file: Option<FileNo>, report: &Report) {
        let known = file.and_then(|file| self.files.remove(&file));
        let is_here = !matches!(report.status, Status::Failed(_));
        if let Some(known) = known {
            let known = if is_here { Known { bytes: known.size, ..known } } else { known };
            self.transfer(&known, if is_here { TransferState::Done } else { TransferState::Failed });
        }
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

    fn transfer(&self, known: &Known, state: TransferState) {
        self.send(FromFetch::Transfer(transfer(&self.from, known, state)));
    }

    fn note(&self, text: String) {
        self.send(FromFetch::Note(text));
    }

    fn send(&self, told: FromFetch) {
        // The view is gone when nobody listens.
        let _ = self.tell.send(told);
    }
}

fn transfer(from: &UserName, known: &Known, state: TransferState) -> Transfer {
    Transfer {
        peer: from.clone(),
        name: known.name.clone(),
        direction: Course::Down,
        bytes: known.bytes,
        size: known.size,
        state,
    }
}

fn shown(path: &Path) -> String {
    safe_line(&path.to_string_lossy()).into_owned()
}
