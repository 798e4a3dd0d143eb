//! Sending files over one link, and telling who got what.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | names of files that were described over a link | 64 | the oldest is forgotten: a file that is asked for by its content alone is told of under any of its names |

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::peer::{Answer, Code, ZEROS};
use shared::{ContentHash, FileName, UserName, ZeroRuns};
use tokio::sync::SemaphorePermit;

use super::Serving;
use super::deliveries::{Delivered, Deliveries, SentFile};
use super::delivery_digest::DeliveryDigest;
use super::gate::{Gate, Lane};
use super::reading::{OpenShare, ReadAhead, ReadFailure};
use super::upload_places::{UploadPlaces, UploadTurn};
use crate::engine::event::{Course, Event, Events, Transfer, TransferState};
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{Sender, within};

/// How long the other side may take nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// And how long it may take over one piece, whatever moves beside it.
const PIECE_TIME: Duration = Duration::from_secs(60);
/// How often it is looked whether others wait.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is told how far a file is.
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// Names of files that were described, by their contents.
const DESCRIBED: usize = 64;

/// What one link was sent so far.
#[derive(Debug)]
pub(super) struct Uploads {
    user: UserName,
    /// Whether the other side leaves out groups of zeros.
    knows_zeros: bool,
    events: Events,
    gate: Arc<Gate>,
    lane: Arc<Lane>,
    link: Link,
    digest: Arc<Mutex<DeliveryDigest>>,
    /// Bytes of pieces that are on their way, on all streams.
    moved: AtomicU64,
    sent: Mutex<Deliveries>,
    /// The files that were described, the latest last.
    described: Mutex<VecDeque<SentFile>>,
}

/// A file of which something can't be sent.
#[derive(Debug)]
pub(super) struct Interruption {
    pub(super) failure: ReadFailure,
    /// Whether the other side got the header already, so that only the stream's reset can tell.
    pub(super) answered: bool,
}

impl Uploads {
    /// Over `link`.
    pub(super) fn new(link: &Link, serving: &Serving) -> Self {
        let (user, knows_zeros) = (link.user().clone(), link.knows(ZEROS));
        let (events, gate, digest) = (serving.events.clone(), serving.gate.clone(), serving.digest.clone());
        let (lane, link) = (gate.lane(&user, serving.events.talk_with(&user)), link.clone());
        let sent = Mutex::new(Deliveries::new(user.clone(), serving.unfinished.clone()));
        let (moved, described) = (AtomicU64::new(0), Mutex::default());
        Self { user, knows_zeros, events, gate, lane, link, digest, moved, sent, described }
    }

    /// To whom.
    pub(super) const fn user(&self) -> &UserName {
        &self.user
    }

    /// Sends the header and the groups, as far as they can be read, while `turn` lets it.
    pub(super) async fn send(
        &self,
        sender: &mut Sender,
        open: OpenShare,
        turn: &mut UploadTurn<'_>,
    ) -> Result<Option<Interruption>, StreamError> {
        let OpenShare { name, hash, layout, zeros, groups, bytes: total, mut pieces, .. } = open;
        let (file, zeros) = (SentFile { name, hash }, if self.knows_zeros { zeros } else { ZeroRuns::default() });
        let before = self.sent().begin(&file, &layout, &zeros);
        let header = Answer::Data { bytes: total };
        let (mut outcome, mut bytes, mut failure) = (Ok(()), 0, None);
        let mut told = Instant::now();
        loop {
            if turn.yields() {
                pieces.park().await;
            }
            turn.regain().await;
            self.link.share_send_window(self.gate.places().send_window(u64::MAX));
            let Some(piece) = pieces.next().await else { break };
            match piece {
                Ok(piece) => {
                    let begins = bytes == 0;
                    bytes += piece.len() as u64;
                    self.gate.pass(&self.lane, piece.len(), piece.len() as u64 == total).await;
                    let header = begins.then_some(&header);
                    outcome = self.write(sender, header, piece, turn, &mut pieces).await;
                }
                Err(why) => failure = Some(Interruption { failure: why, answered: bytes > 0 }),
            }
            if outcome.is_err() || failure.is_some() {
                break;
            }
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                self.tell(&file.name, before.saturating_add(bytes).min(layout.size()), layout.size());
            }
        }
        if total == 0 && outcome.is_ok() && failure.is_none() {
            outcome = self.patiently(sender.frame(&header)).await;
        }
        let complete = self.sent().end(&file, &layout, &groups, bytes);
        self.tell_sent(complete);
        let is_short = outcome.is_ok() && failure.is_none() && bytes != total;
        if !pieces.end().await || is_short {
            return Err(StreamError::Reset(Code::Internal));
        }
        outcome.map(|()| failure)
    }

    /// Writes one piece, behind the header if that is due. Others may have the place meanwhile; nothing is read then.
    async fn write(
        &self,
        sender: &mut Sender,
        header: Option<&Answer>,
        piece: Bytes,
        turn: &mut UploadTurn<'_>,
        pieces: &mut ReadAhead,
    ) -> Result<(), StreamError> {
        // One that is slow beside others is seen from outside of the write.
        let taken = AtomicUsize::new(0);
        let moved = |bytes: usize| {
            self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
            taken.fetch_add(bytes, Ordering::Relaxed);
        };
        let write = async {
            match header {
                Some(header) => sender.frame_and_bulk(header, piece, moved).await,
                None => sender.bulk(piece, moved).await,
            }
        };
        let mut write = pin!(self.patiently(write));
        loop {
            let written = tokio::time::timeout(LOOK, write.as_mut()).await;
            turn.note_moved(taken.swap(0, Ordering::Relaxed));
            if let Ok(written) = written {
                return written;
            }
            if turn.yields() {
                pieces.park().await;
            }
        }
    }

    /// Bytes of the pieces that files are read and sent in.
    pub(super) fn piece_bytes(&self) -> u64 {
        self.gate.piece_bytes(&self.lane)
    }

    /// The places of those who are sent files.
    pub(super) fn places(&self) -> &UploadPlaces {
        self.gate.places()
    }

    /// Waits until one more request for data of this user may be answered.
    pub(super) async fn request(&self) -> Option<SemaphorePermit<'_>> {
        self.lane.request().await
    }

    /// Waits for a write as long as anything moves over the link: its streams wait for each other before a slow network.
    /// But one that never reads must not keep what it holds, nor one that reads next to nothing.
    pub(super) async fn patiently<T>(
        &self,
        write: impl Future<Output = Result<T, StreamError>>,
    ) -> Result<T, StreamError> {
        let mut write = pin!(write);
        let begun = Instant::now();
        loop {
            let before = self.moved.load(Ordering::Relaxed);
            match within(SILENCE, async { Ok(write.as_mut().await) }).await {
                Err(StreamError::Timeout(_))
                    if self.moved.load(Ordering::Relaxed) != before && begun.elapsed() < PIECE_TIME => {}
                written => return written?,
            }
        }
    }

    /// Counts bytes of an answer that are on their way.
    pub(super) fn note_moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Remembers the name by which a file was described: whoever asks for its content next wants that one.
    pub(super) fn describe(&self, name: FileName, hash: ContentHash) {
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        described.retain(|file| file.hash != hash);
        if described.len() >= DESCRIBED {
            described.pop_front();
        }
        described.push_back(SentFile { name, hash });
    }

    /// The name by which the file with this content was described last.
    pub(super) fn described(&self, hash: &ContentHash) -> Option<FileName> {
        let described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        described.iter().find(|file| file.hash == *hash).map(|file| file.name.clone())
    }

    /// Tells of the files that were begun and not finished over this link.
    pub(super) fn report_partial(&self) {
        let unfinished = self.sent().close();
        self.tell_sent(unfinished);
    }

    /// Tells how far a file is.
    fn tell(&self, name: &FileName, bytes: u64, size: u64) {
        let (peer, name) = (self.user.clone(), name.clone());
        let (direction, state) = (Course::Up, TransferState::Running);
        self.events.send(Event::Transfer(Transfer { peer, name, direction, bytes, size, state }));
    }

    fn tell_sent(&self, files: impl IntoIterator<Item = Delivered>) {
        for Delivered { name, bytes, size } in files {
            let mut digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
            if !digest.note(&self.user, bytes, Instant::now().into()) {
                continue;
            }
            drop(digest);
            self.events.send(Event::Fetched { by: self.user.clone(), name, bytes, size });
        }
    }

    fn sent(&self) -> MutexGuard<'_, Deliveries> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
