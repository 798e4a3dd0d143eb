//! Fetches that go on beside a conversation, each on a thread and a runtime of its own.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use shared::UserName;
use shared::names::matching_key;
use shared::names::stand_in;
use shared::safe_text::{safe_line, safe_path};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::telling::Telling;
use crate::engine::event::Transfer;
use crate::engine::fetch::{Asked, Destination, FetchEvent, FileNo, IfExists, Report, Request, Sources, Status, fetch};
use crate::engine::{Error, Me, words};
use crate::ui::{silent_words, size, slow_words};

/// At once; more would only share the same wire.
const FETCHES: usize = 4;
const PATIENCE: Duration = Duration::from_secs(90);
/// For what was fetched to be put away when the view ends.
const PUT_AWAY: Duration = Duration::from_secs(2);

/// What is told of the fetches, and of what else is done beside a view.
#[derive(Debug)]
pub(super) enum FromFetch {
    /// A file is on its way, or was.
    Transfer(Transfer),
    /// Something worth a line.
    Note(String),
    /// Something that went wrong.
    Problem(String),
    /// A fetch was broken off; what it has is kept.
    BrokenOff(BrokenOff),
    /// A file is hashed to be offered, or no longer.
    Hashing(Transfer),
    /// What comes next tells of the last file of the fetch of this number: then it only takes leave of its sources.
    AllTold(u64),
    /// The fetch of this number has ended.
    Ended(u64),
}

/// A fetch that was broken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BrokenOff {
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
    me: Me,
    cancel: CancellationToken,
    tell: mpsc::UnboundedSender<FromFetch>,
    begun: u64,
    running: Vec<Running>,
    threads: Vec<JoinHandle<()>>,
    /// Every thread has one of these for as long as it goes on.
    alive: mpsc::Sender<Infallible>,
    all_ended: mpsc::Receiver<Infallible>,
}

#[derive(Debug)]
struct Running {
    number: u64,
    from: UserName,
    name: String,
    cancel: CancellationToken,
    /// Nothing is lost with it any more.
    is_all_told: bool,
}

impl BackgroundFetches {
    /// None yet; what is told comes through the receiver.
    pub(super) fn new(me: Me) -> (Self, mpsc::UnboundedReceiver<FromFetch>) {
        let (tell, told) = mpsc::unbounded_channel();
        let (alive, all_ended) = mpsc::channel(1);
        let (cancel, threads) = (CancellationToken::new(), Vec::new());
        let (begun, running) = (0, Vec::new());
        (Self { me, cancel, tell, begun, running, threads, alive, all_ended }, told)
    }

    /// Fetches a file, a folder or a pattern into the working folder.
    ///
    /// # Errors
    /// When enough is fetched already, or there are no threads.
    pub(super) fn start(&mut self, from: &UserName, name: &str) -> Result<(), Error> {
        if self.running.len() >= FETCHES {
            return Err(Error::Usage(format!("{FETCHES} fetches are on their way: wait for one of them")));
        }
        let request = Request {
            from: from.clone(),
            names: vec![Asked::for_text(name)],
            destination: Destination::Folder(PathBuf::from(".")),
            if_exists: IfExists::SkipSame,
            streams: 2,
            sources: Sources::Everybody,
            limit: None,
            patience: PATIENCE,
            folder_times: Vec::new(),
            arrived: Vec::new(),
        };
        let (me, cancel, tell) = (self.me.clone(), self.cancel.child_token(), self.tell.clone());
        let alive = self.alive.clone();
        self.begun += 1;
        let number = self.begun;
        let (from, name, is_all_told) = (from.clone(), name.to_owned(), false);
        let running = Running { number, from, name, cancel: cancel.clone(), is_all_told };
        let thread = std::thread::Builder::new().name("fetch".to_owned()).spawn(move || {
            let ending = Ending(number, tell.clone());
            let last_word = run(number, &me, &request, &cancel, &tell);
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
        let is_named = |running: &Running| key.as_ref().is_none_or(|key| matching_key(&running.name) == *key);
        let is_meant = |running: &&Running| running.from == *from && is_named(running);
        let meant: Vec<&Running> = self.running.iter().filter(is_meant).collect();
        match (&meant[..], name) {
            ([], Some(name)) => Err(Error::Usage(format!("{} is not being fetched here", stand_in::shown(name)))),
            ([], None) => Err(Error::Usage(format!("nothing is being fetched from {from} here"))),
            ([_, _, ..], None) => {
                let names: Vec<_> = meant.iter().map(|one| stand_in::shown(&one.name)).collect();
                Err(Error::Usage(format!("which one? /stop NAME: {}", names.join(", "))))
            }
            (meant, _) => {
                meant.iter().for_each(|one| one.cancel.cancel());
                Ok(())
            }
        }
    }

    /// How many would lose something if they ended now.
    pub(super) fn running(&self) -> usize {
        self.running.iter().filter(|running| !running.is_all_told).count()
    }

    /// Where else something is told that is done beside the view.
    pub(super) fn teller(&self) -> mpsc::UnboundedSender<FromFetch> {
        self.tell.clone()
    }

    /// All files of one of them were told of.
    pub(super) fn all_told(&mut self, number: u64) {
        let told = self.running.iter_mut().filter(|running| running.number == number);
        told.for_each(|running| running.is_all_told = true);
    }

    /// One of them has ended.
    pub(super) fn ended(&mut self, number: u64) {
        self.running.retain(|running| running.number != number);
    }

    /// Breaks all of them off; parts are kept.
    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Breaks them off, and waits until what they have is put away; not for ever. Tells what was broken off.
    pub(super) async fn end(self, told: &mut mpsc::UnboundedReceiver<FromFetch>) -> Vec<String> {
        let Self { cancel, threads, alive, mut all_ended, mut running, .. } = self;
        cancel.cancel();
        drop(alive);
        if tokio::time::timeout(PUT_AWAY, all_ended.recv()).await.is_ok() {
            // They have nothing left to do.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
        let mut said = Vec::new();
        while let Ok(told) = told.try_recv() {
            match told {
                FromFetch::BrokenOff(broken_off) => said.push(broken_off.afterwards()),
                FromFetch::Note(text) | FromFetch::Problem(text) => said.push(text),
                FromFetch::Ended(number) => running.retain(|one| one.number != number),
                FromFetch::Transfer(_) | FromFetch::Hashing(_) | FromFetch::AllTold(_) => {}
            }
        }
        said.extend(running.iter().map(|one| format!("`{}` goes on with what is kept", again(&one.from, &one.name))));
        said
    }

    /// What can be said of them when nothing is waited for.
    pub(super) fn give_up(self) -> Vec<String> {
        self.cancel.cancel();
        self.running.iter().map(|one| format!("`{}` goes on with what is kept", again(&one.from, &one.name))).collect()
    }
}

/// Tells that a fetch has ended, even if its thread failed.
struct Ending(u64, mpsc::UnboundedSender<FromFetch>);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.1.send(FromFetch::Ended(self.0));
    }
}

/// Fetches; gives back what is to be said of its end.
fn run(
    number: u64,
    me: &Me,
    request: &Request,
    cancel: &CancellationToken,
    tell: &mpsc::UnboundedSender<FromFetch>,
) -> Option<FromFetch> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(FromFetch::Problem(error.to_string())),
    };
    let telling = Telling::new(&request.from);
    let mut words = Words { number, tell: tell.clone(), files: None, sizes: HashMap::new(), bytes: 0, size: 0 };
    let mut told = false;
    let mut report = |event: FetchEvent<'_>| {
        telling.take(&event);
        words.take(&event);
        told |= matches!(event, FetchEvent::Finished { report: Report { status: Status::Failed(_), .. }, .. });
    };
    let hears = async |transfers: Vec<Transfer>| {
        // The view is gone when nobody listens.
        transfers.into_iter().for_each(|transfer| drop(tell.send(FromFetch::Transfer(transfer))));
    };
    let ended = runtime.block_on(telling.during(hears, fetch(me, request, &mut report, cancel)));
    match ended.error {
        // What went wrong with one of several was told when it did.
        Some(Error::Partial { .. }) | None => None,
        Some(Error::Interrupted) => Some(FromFetch::BrokenOff(words.broken_off(request))),
        Some(error) if told => {
            tracing::debug!("{error}");
            None
        }
        Some(error) => Some(FromFetch::Problem(error.to_string())),
    }
}

/// Says what a person should read of what a fetch reports.
struct Words {
    /// The fetch's.
    number: u64,
    /// Files that were not told of; nothing while it isn't known how many there are.
    files: Option<usize>,
    tell: mpsc::UnboundedSender<FromFetch>,
    /// Of the files on their way, what is still to come.
    sizes: HashMap<FileNo, u64>,
    /// Verified bytes, of all files.
    bytes: u64,
    size: u64,
}

impl Words {
    fn take(&mut self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Resolved { files, bytes } => (self.files, self.size) = (Some(*files), *bytes),
            FetchEvent::Started { file, size, resumed, .. } => {
                self.sizes.insert(*file, size.saturating_sub(*resumed));
                self.bytes += resumed;
            }
            FetchEvent::Verified { file, bytes } => {
                let Some(left) = self.sizes.get_mut(file) else { return };
                *left = left.saturating_sub(*bytes);
                self.bytes += bytes;
            }
            FetchEvent::Finished { file, report } => {
                let left = file.and_then(|file| self.sizes.remove(&file)).unwrap_or(report.size);
                self.bytes += if matches!(report.status, Status::Failed(_) | Status::BrokenOff(_)) { 0 } else { left };
                self.files = self.files.map(|files| files.saturating_sub(1));
                // Whoever reads of the last one may leave at once.
                if self.files.is_none_or(|files| files == 0) {
                    self.send(FromFetch::AllTold(self.number));
                }
                self.finished(report);
            }
            FetchEvent::Waiting { name } => {
                self.note(format!("{} changed at the source and is being hashed again there", stand_in::shown(name)));
            }
            FetchEvent::Joined { user } => self.note(format!("{user} has the same and is asked as well")),
            FetchEvent::NotAsked { user, why } => self.note(format!("{user} is not asked: {}", safe_line(why))),
            FetchEvent::Lost { user, why } => self.note(format!("{user} went offline ({}); retrying", safe_line(why))),
            FetchEvent::Silent { user, time } => self.note(format!("{}; retrying", silent_words(user, *time))),
            FetchEvent::Slow { user, slowdown, seeks } => self.note(slow_words(user, *slowdown, *seeks)),
            FetchEvent::Back { user } => self.note(format!("{user} is back")),
            FetchEvent::Banned { user, why } => {
                let what = format!("{user} {}: nothing more is taken from {user}", safe_line(why));
                self.send(FromFetch::Problem(what));
            }
            FetchEvent::Connecting { .. }
            | FetchEvent::Checking { .. }
            | FetchEvent::Opened { .. }
            | FetchEvent::Paused { .. }
            | FetchEvent::Changed { .. }
            | FetchEvent::AwaitsReader { .. }
            | FetchEvent::Outdated { .. }
            | FetchEvent::Alike { .. } => {}
        }
    }

    fn broken_off(&self, request: &Request) -> BrokenOff {
        let names: Vec<&str> = request.names.iter().map(|asked| asked.text.as_str()).collect();
        BrokenOff { from: request.from.clone(), name: names.join(" "), bytes: self.bytes, size: self.size }
    }

    fn finished(&self, report: &Report) {
        let name = stand_in::shown(&report.name).into_owned();
        let bytes = size(report.size);
        match &report.status {
            Status::Done(path) => self.note(format!("{name}: {bytes} fetched and verified, in {}", shown(path))),
            Status::Renamed(path) => {
                self.note(format!("{name}: {bytes} fetched and verified, in {} (the name was taken)", shown(path)));
            }
            Status::Skipped(path) => self.note(format!("{name} is there already: {}", shown(path))),
            Status::Streamed => {}
            // What is told of the whole fetch says it.
            Status::BrokenOff(_) => {}
            Status::Failed(error) => self.send(FromFetch::Problem(format!("{name}: {error}"))),
        }
    }

    fn note(&self, text: String) {
        self.send(FromFetch::Note(text));
    }

    fn send(&self, told: FromFetch) {
        // The view is gone when nobody listens.
        let _ = self.tell.send(told);
    }
}

impl BrokenOff {
    /// While the view goes on.
    pub(super) fn in_view(&self) -> String {
        let name = stand_in::shown(&self.name);
        format!("{name}: stopped, {}; /get {name} resumes it", self.kept())
    }

    /// When the view is over.
    pub(super) fn afterwards(&self) -> String {
        format!("{}: {}; `{}` goes on with it", stand_in::shown(&self.name), self.kept(), again(&self.from, &self.name))
    }

    fn kept(&self) -> String {
        match u128::from(self.bytes) * 100 / u128::from(self.size.max(1)) {
            0 if self.bytes == 0 => "nothing of it was here yet".to_owned(),
            percent => format!("{percent} % kept"),
        }
    }
}

/// The command that goes on.
fn again(from: &UserName, name: &str) -> String {
    safe_line(&format!("peer fetch {}", words(&[from.as_str(), name]))).into_owned()
}

fn shown(path: &Path) -> String {
    safe_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_said_and_how_to_go_on() {
        let broken =
            |name: &str, bytes, size| BrokenOff { from: "bob".parse().unwrap(), name: name.to_owned(), bytes, size };
        let big = broken("share/big.bin", 12, 100);
        assert_eq!(big.in_view(), "share/big.bin: stopped, 12 % kept; /get share/big.bin resumes it");
        assert_eq!(big.afterwards(), "share/big.bin: 12 % kept; `peer fetch bob share/big.bin` goes on with it");
        let odd = broken("it's $(mine)", 0, 0).afterwards();
        assert!(odd.ends_with(r"`peer fetch bob 'it'\''s $(mine)'` goes on with it"), "{odd}");
        assert!(odd.contains("nothing of it was here yet"));
    }
}
