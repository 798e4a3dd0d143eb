//! Answering other peers: one task a stream, all of them owned by the link they came over.

mod allowance;
mod copy_search;
mod deliveries;
mod delivery_digest;
mod gate;
mod gone_paths;
mod library;
mod opening;
mod part;
mod pieces;
mod read_faults;
mod reading;
mod stale;
mod upload_places;
mod uploads;
mod versions;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use shared::UserName;
use shared::peer::{Answer, Ask, Code, EMPTY_PAGES, OWNER_ONLY, ZEROS};
use tokio::task::JoinSet;

use allowance::{StreamPermit, UserAllowance, UserAllowances};
use deliveries::UnfinishedFiles;
use delivery_digest::{DeliveryDigest, UntoldDeliveries};
use gate::Gate;
pub use gate::Limits;
pub use library::Library;
use library::{Refusal, refused};
use opening::Get;
use reading::{OpenShare, ReadFailure};
pub use stale::{StaleReason, StaleShares};
use upload_places::UploadTurn;
use uploads::{Interruption, Uploads};
pub use versions::{ProvedVersion, ProvedVersions};

use super::chat::Intake;
use super::event::{Event, Events};
use super::fair_places::{FairPlaces, PlaceBounds};
use super::{Me, chat};
use crate::net::frame_receiver::FrameReceiver;
use crate::net::link::Link;
use crate::net::stream::{Priority, Sender, is_breach};
use crate::net::{LinkError, StreamError};

/// Looks at the profile and the disk that others make this side take: one that hangs keeps a thread.
const LOOKS: PlaceBounds = PlaceBounds { total: 64, per_key: 4 };
/// Requests of one stream that are looked at together.
const ASKS_AT_ONCE: usize = 32;

/// What serving needs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Who serves.
    pub me: Me,
    /// What is offered.
    pub library: Arc<Library>,
    /// Where events go.
    pub events: Events,
    intake: Arc<Intake>,
    gate: Arc<Gate>,
    unfinished: Arc<UnfinishedFiles>,
    digest: Arc<Mutex<DeliveryDigest>>,
    allowances: Arc<UserAllowances>,
    looks: FairPlaces<UserName>,
}

impl Serving {
    /// Serves what `library` offers within `limits`.
    pub fn new(me: Me, library: Library, events: Events, limits: Limits) -> Self {
        let gate = Arc::new(Gate::new(limits));
        let (intake, unfinished) = (Arc::default(), Arc::default());
        let (digest, allowances) = (Arc::default(), Arc::default());
        let (library, looks) = (Arc::new(library), FairPlaces::new(LOOKS));
        Self { me, library, events, intake, gate, unfinished, digest, allowances, looks }
    }

    /// Tells of the files that somebody fetched and there was no line about. To be called now and then.
    pub fn tell_untold(&self) {
        let untold = self.digest.lock().unwrap_or_else(PoisonError::into_inner).take_untold();
        for UntoldDeliveries { by, count, bytes } in untold {
            self.events.send(Event::FetchedMore { by, count, bytes });
        }
    }
}

/// Serves a link until it ends, and tells why it did.
pub async fn serve_link(link: Link, serving: Serving) -> LinkError {
    let uploads = Arc::new(Uploads::new(&link, &serving));
    let allowance = serving.allowances.of(link.user());
    let mut streams = JoinSet::new();
    let talk = serving.events.talk_with(link.user());
    let mut talking = false;
    let ended = loop {
        tokio::select! {
            () = talk.wait_until(!talking) => {
                talking = !talking;
                link.make_room(talking);
            }
            (permit, accepted) = accept(&link, &allowance) => match accepted {
                Ok((sender, receiver)) => {
                    let (link, serving, uploads) = (link.clone(), serving.clone(), uploads.clone());
                    let allowance = allowance.clone();
                    link.note_streams(true);
                    streams.spawn(async move {
                        let _permit = permit;
                        serve_stream(&link, &serving, &uploads, &allowance, sender, receiver).await
                    });
                }
                Err(ended) => break ended,
            },
            Some(finished) = streams.join_next() => {
                link.note_streams(!streams.is_empty());
                match finished {
                    Ok(Err(error)) if is_breach(&error) => {
                        tracing::info!("{}: {error}", link.user());
                        link.close(Code::Protocol);
                    }
                    Ok(Err(error)) => tracing::debug!("{}: a stream ended: {error}", link.user()),
                    Ok(Ok(())) => {}
                    Err(failure) => tracing::error!("{}: a stream's task failed: {failure}", link.user()),
                }
            }
        }
    };
    streams.shutdown().await;
    uploads.report_partial();
    ended
}

async fn accept(link: &Link, allowance: &UserAllowance) -> (StreamPermit, Result<(Sender, FrameReceiver), LinkError>) {
    // Whoever ends the link is heard whether there is one or not.
    let permit = tokio::select! {
        permit = allowance.stream() => permit,
        ended = link.closed() => return (StreamPermit::none(), Err(ended)),
    };
    (permit, link.accept(&allowance.frames).await)
}

async fn serve_stream(
    link: &Link,
    serving: &Serving,
    uploads: &Uploads,
    allowance: &UserAllowance,
    mut sender: Sender,
    mut receiver: FrameReceiver,
) -> Result<(), StreamError> {
    let Some(first) = receiver.frame().await? else { return Ok(()) };
    if matches!(first, Ask::Chat {}) {
        link.note_chat();
        sender.set_priority(Priority::Chat);
        let receive = chat::receive(link.user(), &serving.me, &serving.intake, &serving.events, sender, receiver);
        return Box::pin(receive).await;
    }
    let mut asks = VecDeque::from([first]);
    loop {
        // Those that are here already: many small files then cost few trips to the disk's threads.
        while asks.len() < ASKS_AT_ONCE
            && let Ok(Some(ask)) = receiver.frame_here()
        {
            asks.push_back(ask);
        }
        // Apart: a stream over which nothing is asked yet is to take little memory.
        let answered = match take_gets(&mut asks, uploads) {
            gets if gets.is_empty() => match asks.pop_front() {
                Some(ask) => Box::pin(answer(serving, link, uploads, allowance, &mut sender, ask)).await,
                None => break,
            },
            gets => Box::pin(send_files(serving, uploads, &mut sender, gets)).await,
        };
        match answered {
            // The code tells the other side what became of the file.
            Err(StreamError::Reset(code)) => {
                sender.reset(code);
                return Ok(());
            }
            answered => answered?,
        }
        if asks.is_empty() {
            asks.extend(receiver.frame().await?);
        }
    }
    sender.finish();
    Ok(())
}

/// The requests for data at the front.
fn take_gets(asks: &mut VecDeque<Ask>, uploads: &Uploads) -> VecDeque<Get> {
    let mut gets = VecDeque::new();
    while matches!(asks.front(), Some(Ask::Get { .. })) {
        if let Some(Ask::Get { hash, ranges, name }) = asks.pop_front() {
            let name = name.or_else(|| uploads.described(&hash));
            gets.push_back(Get { hash, name, groups: ranges });
        }
    }
    gets
}

async fn send_files(
    serving: &Serving,
    uploads: &Uploads,
    sender: &mut Sender,
    mut gets: VecDeque<Get>,
) -> Result<(), StreamError> {
    let _request = uploads.request().await;
    while !gets.is_empty() {
        // Without a place: a disk that hangs keeps none.
        let (opened, rest) = open(serving, uploads, gets).await?;
        gets = rest;
        let mut opened: VecDeque<_> = opened.into();
        let mut turn = None;
        while let Some(next) = opened.pop_front() {
            match next {
                Ok(mut open) => {
                    let mut has_turn = take_turn(uploads, turn.take(), &mut open, &mut opened).await;
                    send_file(&serving.library, uploads, sender, open, &mut has_turn).await?;
                    turn = Some(has_turn);
                }
                // Nor may one that reads no answer keep a place.
                Err(refusal) => {
                    turn = None;
                    uploads.patiently(refuse(sender, refusal)).await?;
                }
            }
        }
    }
    Ok(())
}

/// The turn that an opened file has, the one before it if that will do. Files that are read in one piece don't wait behind
/// large ones; those that wait keep nothing in memory.
async fn take_turn<'a>(
    uploads: &'a Uploads,
    before: Option<UploadTurn<'a>>,
    open: &mut OpenShare,
    behind: &mut VecDeque<Result<OpenShare, Refusal>>,
) -> UploadTurn<'a> {
    let is_small = open.pieces.is_one_piece();
    if let Some(turn) = before.filter(|turn| is_small || !turn.is_for_small()) {
        return turn;
    }
    let (places, user) = (uploads.places(), uploads.user());
    if let Some(turn) = places.now(user) {
        return turn;
    }
    open.pieces.park(0).await;
    for behind in behind.iter_mut().flatten() {
        behind.pieces.park(0).await;
    }
    if is_small { places.small(user).await } else { places.large(user).await }
}

async fn open(
    serving: &Serving,
    uploads: &Uploads,
    gets: VecDeque<Get>,
) -> Result<(Vec<Result<OpenShare, Refusal>>, VecDeque<Get>), StreamError> {
    let _look = serving.looks.take(uploads.user()).await;
    serving.library.open(uploads.user(), gets, uploads.piece_bytes()).await.map_err(StreamError::Reset)
}

async fn send_file(
    library: &Library,
    uploads: &Uploads,
    sender: &mut Sender,
    open: OpenShare,
    turn: &mut UploadTurn<'_>,
) -> Result<(), StreamError> {
    sender.set_priority(Priority::Bulk);
    let share = open.is_whole.then(|| open.name.clone());
    let sent = uploads.send(sender, open, turn).await?;
    let Some(Interruption { failure, answered }) = sent else { return Ok(()) };
    if let (Some(name), ReadFailure::Changed) = (share, &failure) {
        library.report_changed(name);
    }
    if answered {
        Err(StreamError::Reset(failure.code()))
    } else {
        refuse(sender, (failure.code(), failure.message())).await
    }
}

async fn refuse(sender: &mut Sender, (code, message): Refusal) -> Result<(), StreamError> {
    sender.frame(&Answer::Error { code, message: message.into() }).await
}

/// Answers whatever isn't about data.
async fn answer(
    serving: &Serving,
    link: &Link,
    uploads: &Uploads,
    allowance: &UserAllowance,
    sender: &mut Sender,
    ask: Ask,
) -> Result<(), StreamError> {
    let user = link.user();
    let in_words = |answer: Answer| {
        let answer = if link.knows(ZEROS) { answer } else { answer.without_zeros() };
        if link.knows(OWNER_ONLY) { answer } else { answer.without_owner_only() }
    };
    // Until the answer is taken: who reads none has few of them here.
    let _answer = allowance.answer(is_about_lists(&ask)).await;
    let answered = {
        let _look = serving.looks.take(user).await;
        look_up(serving, link, uploads, ask).await?
    };
    match answered {
        Ok((answer, bytes)) if bytes.is_empty() => uploads.patiently(sender.frame(&in_words(answer))).await,
        Ok((answer, bytes)) => {
            uploads.patiently(sender.frame_and_bulk(&in_words(answer), bytes, |count| uploads.note_moved(count))).await
        }
        Err(refusal) => uploads.patiently(refuse(sender, refusal)).await,
    }
}

/// Whether a question makes this side go through many shares.
const fn is_about_lists(ask: &Ask) -> bool {
    matches!(ask, Ask::Files { .. } | Ask::Folders { .. } | Ask::FolderTimes { .. })
}

/// The answer to a question, and the bytes behind it.
async fn look_up(
    serving: &Serving,
    link: &Link,
    uploads: &Uploads,
    ask: Ask,
) -> Result<Result<(Answer, Bytes), Refusal>, StreamError> {
    let (user, library) = (link.user(), &serving.library);
    // Also over a link that was dialled here, and however long ago.
    if serving.me.profile.is_blocked(user).unwrap_or(true) {
        return Ok(Err(refused()));
    }
    let alone = |answer: Result<Answer, Refusal>| answer.map(|answer| (answer, Bytes::new()));
    Ok(match ask {
        Ask::Files { prefix, cursor } => {
            let reads_empty_pages = link.knows(EMPTY_PAGES);
            let (prefix, cursor) = (prefix.unwrap_or_default(), cursor.unwrap_or_default());
            alone(library.list(user, prefix, cursor, reads_empty_pages).await)
        }
        Ask::Folders { prefix, cursor } => {
            alone(library.folders(prefix.unwrap_or_default(), cursor.unwrap_or_default()).await)
        }
        Ask::FolderTimes { prefix, cursor } => {
            alone(library.folder_times(prefix.unwrap_or_default(), cursor.unwrap_or_default()).await)
        }
        Ask::Stat { name } => {
            let answer = library.stat(user, name).await;
            if let Ok(Answer::Stat(stat)) = &answer {
                uploads.describe(stat.name.clone(), stat.hash);
            }
            alone(answer)
        }
        Ask::Manifest { hash } => library.manifest(user, hash, uploads.described(&hash)).await,
        Ask::Have { hash } => library.have(user, hash, uploads.described(&hash)).await,
        Ask::Hello(_) | Ask::Chat {} | Ask::Get { .. } => {
            return Err(StreamError::Unexpected("a request was due"));
        }
        Ask::Unknown => Err((Code::Protocol, format!("{} doesn't know that request", serving.me.user))),
    })
}
