//! Sending files over one link, and telling who got what.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | names of files that were described over a link | 64 | the oldest is forgotten: a file that is asked for by its content alone is told of under any of its names |
//! | what waits for a place, or for a disk that hangs | nothing in memory, and no place | |

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
use super::reading::{OpenShare, Read, ReadAhead, ReadFailure};
use super::upload_places::{SendingLink, UploadPlaces, UploadTurn};
use crate::engine::event::{Course, Event, Events, Transfer, TransferState};
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{COPIED_BYTES, Sender, within};

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
    /// Requests for data that are answered.
    requests: AtomicUsize,
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

/// How long a piece has been waited for, as long as it had a place.
#[derive(Debug, Default)]
struct PiecePatience {
    /// Since a piece was taken.
    piece: Duration,
    /// Since anything moved over the link.
    silence: Duration,
    moved: u64,
}

impl Uploads {
    /// Over `link`.
    pub(super) fn new(link: &Link, serving: &Serving) -> Self {
        let (user, knows_zeros) = (link.user().clone(), link.knows(ZEROS));
        let (events, gate, digest) = (serving.events.clone(), serving.gate.clone(), serving.digest.clone());
        let (lane, link) = (gate.lane(&user, serving.events.talk_with(&user)), link.clone());
        let sent = Mutex::new(Deliveries::new(user.clone(), serving.unfinished.clone()));
        let (moved, requests, described) = (AtomicU64::new(0), AtomicUsize::new(0), Mutex::default());
        Self { user, knows_zeros, events, gate, lane, link, digest, moved, requests, sent, described }
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
        // What is so small goes together with its header.
        let is_tiny = total <= COPIED_BYTES as u64 && pieces.is_one_piece();
        let (mut bytes, mut failure) = (0, None);
        let mut outcome = Ok(());
        if !is_tiny {
            outcome = self.beside_others(sender.frame(&header), turn, &mut pieces).await;
        }
        let (mut told, mut patience) = (Instant::now(), PiecePatience::default());
        while outcome.is_ok() {
            if turn.yields() {
                pieces.park(0).await;
            }
            turn.regain().await;
            if !is_tiny {
                pieces.set_piece_bytes(self.piece_bytes());
            }
            self.share_send_window();
            let Some(piece) = self.next_piece(&mut pieces, turn).await else { break };
            match piece {
                Ok(piece) if is_tiny => {
                    bytes += piece.len() as u64;
                    self.gate.pass(&self.lane, piece.len(), true).await;
                    let write = sender.frame_and_bulk(&header, piece, |count| self.note_moved(count));
                    outcome = self.beside_others(write, turn, &mut pieces).await;
                }
                Ok(piece) => {
                    let len = piece.len() as u64;
                    self.gate.pass(&self.lane, piece.len(), len == total).await;
                    match self.write(sender, piece, turn, &mut patience).await {
                        Ok(left) => {
                            bytes += len - left;
                            if left > 0 {
                                pieces.park(left).await;
                            }
                        }
                        Err(error) => outcome = Err(error),
                    }
                }
                Err(why) => {
                    failure = Some(Interruption { failure: why, answered: !is_tiny || bytes > 0 });
                    break;
                }
            }
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                self.tell(&file.name, before.saturating_add(bytes).min(layout.size()), layout.size());
            }
        }
        if total == 0 && outcome.is_ok() && failure.is_none() {
            outcome = self.beside_others(sender.frame(&header), turn, &mut pieces).await;
        }
        let complete = self.sent().end(&file, &layout, &groups, bytes);
        self.tell_sent(complete);
        let is_short = outcome.is_ok() && failure.is_none() && bytes != total;
        if !ended(pieces, turn).await || is_short {
            return Err(StreamError::Reset(Code::Internal));
        }
        outcome.map(|()| failure)
    }

    /// Waits for the write of a header, or of a file that goes with it. Whoever doesn't take it keeps no place, and nothing of
    /// what is behind it in memory, once others are to have the place.
    async fn beside_others(
        &self,
        write: impl Future<Output = Result<(), StreamError>>,
        turn: &mut UploadTurn<'_>,
        pieces: &mut ReadAhead,
    ) -> Result<(), StreamError> {
        let mut write = pin!(self.patiently(write));
        loop {
            match tokio::time::timeout(LOOK, write.as_mut()).await {
                Ok(written) => return written,
                Err(_) if turn.yields() => pieces.park(0).await,
                Err(_) => {}
            }
        }
    }

    /// The next piece. Others may have the place while the disk takes its time.
    async fn next_piece(&self, pieces: &mut ReadAhead, turn: &mut UploadTurn<'_>) -> Option<Read> {
        let piece = loop {
            match tokio::time::timeout(LOOK, pieces.next()).await {
                Ok(piece) => break piece,
                Err(_) => drop(turn.yields()),
            }
        };
        turn.regain().await;
        piece
    }

    /// Writes a piece for as long as it has its turn; gives back how many bytes at its end were not written.
    async fn write(
        &self,
        sender: &mut Sender,
        piece: Bytes,
        turn: &mut UploadTurn<'_>,
        patience: &mut PiecePatience,
    ) -> Result<u64, StreamError> {
        let mut left = piece;
        loop {
            let (begun, before) = (Instant::now(), left.len());
            // Where many files are sent, what one reader doesn't acknowledge keeps nothing else.
            let is_copied = self.gate.places().are_many();
            let write = async {
                while !left.is_empty() {
                    sender.some_bulk(&mut left, is_copied).await?;
                }
                Ok(())
            };
            let written: Result<(), StreamError> = tokio::time::timeout(LOOK, write).await.unwrap_or(Ok(()));
            let taken = before - left.len();
            self.note_moved(taken);
            turn.note_moved(taken);
            written?;
            if left.is_empty() {
                patience.renew();
                return Ok(0);
            }
            patience.wait(begun.elapsed(), self.moved.load(Ordering::Relaxed))?;
            self.share_send_window();
            if turn.yields() {
                return Ok(left.len() as u64);
            }
        }
    }

    /// Lets as much be under way over the link as is due to it.
    fn share_send_window(&self) {
        self.link.share_send_window(self.gate.places().send_window(self.moved.load(Ordering::Relaxed)));
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
    pub(super) async fn request(&self) -> (Option<SemaphorePermit<'_>>, SendingLink<'_>) {
        (self.lane.request().await, self.gate.places().sending(&self.requests))
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

impl PiecePatience {
    /// A piece was taken.
    fn renew(&mut self) {
        *self = Self::default();
    }

    /// So long it was waited, and so much has moved over the link until now.
    fn wait(&mut self, time: Duration, moved: u64) -> Result<(), StreamError> {
        self.piece += time;
        self.silence = if moved == self.moved { self.silence + time } else { Duration::ZERO };
        self.moved = moved;
        if self.silence >= SILENCE {
            return Err(StreamError::Timeout(SILENCE));
        }
        if self.piece >= PIECE_TIME { Err(StreamError::Timeout(PIECE_TIME)) } else { Ok(()) }
    }
}

/// Waits until nothing is read any more; others have the place if the disk takes its time. False when the reader failed.
async fn ended(pieces: ReadAhead, turn: &mut UploadTurn<'_>) -> bool {
    let mut ended = pin!(pieces.end());
    match tokio::time::timeout(LOOK, ended.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            turn.give_back();
            ended.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_nothing_or_next_to_nothing_is_given_up() {
        let second = Duration::from_secs(1);
        let waits = |takes: u64| {
            let (mut patience, mut moved) = (PiecePatience::default(), 0);
            (0..).find(|_| {
                moved += takes;
                patience.wait(second, moved).is_err()
            })
        };
        assert_eq!((waits(0), waits(1)), (Some(29), Some(59)));
        let mut patience = PiecePatience::default();
        for _ in 0..100 {
            assert!(patience.wait(second * 20, 0).is_ok());
            patience.renew();
        }
    }
}
