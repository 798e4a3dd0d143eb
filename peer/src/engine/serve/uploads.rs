//! Sending files over one link, and telling who got what.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | names of files that were described over a link | 64 | the oldest is forgotten: a file that is asked for by its content alone is told of under any of its names |

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::peer::{Answer, Code, ZEROS};
use shared::{ContentHash, FileName, UserName, ZeroRuns};

use super::deliveries::{Delivered, Deliveries, SentFile, UnfinishedFiles};
use super::gate::{Entry, Gate, Lane};
use super::reading::{OpenShare, ReadFailure};
use crate::engine::event::{Course, Event, Events, Transfer, TransferState};
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{Sender, within};

/// How long the other side may take nothing.
const SILENCE: Duration = Duration::from_secs(30);
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
    entry: Entry,
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
    /// Over `link`; `unfinished` is what was left by earlier ones.
    pub(super) fn new(link: &Link, events: Events, gate: Arc<Gate>, unfinished: Arc<UnfinishedFiles>) -> Self {
        let (user, knows_zeros) = (link.user().clone(), link.knows(ZEROS));
        let lane = gate.lane(&user);
        let entry = Entry::new(gate.clone(), lane.clone());
        let sent = Mutex::new(Deliveries::new(user.clone(), unfinished));
        let (moved, described) = (AtomicU64::new(0), Mutex::default());
        Self { user, knows_zeros, events, gate, lane, entry, moved, sent, described }
    }

    /// To whom.
    pub(super) const fn user(&self) -> &UserName {
        &self.user
    }

    /// Sends the header and the groups, as far as they can be read.
    pub(super) async fn send(&self, sender: &mut Sender, open: OpenShare) -> Result<Option<Interruption>, StreamError> {
        let OpenShare { name, hash, layout, zeros, groups, bytes: total, mut pieces, .. } = open;
        let (file, zeros) = (SentFile { name, hash }, if self.knows_zeros { zeros } else { ZeroRuns::default() });
        let before = self.sent().begin(&file, &layout, &zeros);
        let header = Answer::Data { bytes: total };
        let (mut outcome, mut bytes, mut failure) = (Ok(()), 0, None);
        let mut told = Instant::now();
        let moved = |bytes: usize| {
            self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
        };
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => {
                    let begins = bytes == 0;
                    bytes += piece.len() as u64;
                    self.gate.pass(&self.lane, piece.len(), piece.len() as u64 == total).await;
                    outcome = if begins {
                        self.patiently(sender.frame_and_bulk(&header, piece, moved)).await
                    } else {
                        self.patiently(sender.bulk(piece, moved)).await
                    };
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

    /// Bytes of the pieces that files are read and sent in.
    pub(super) fn piece_bytes(&self) -> u64 {
        self.gate.piece_bytes()
    }

    /// Its ways to a place among what is sent at once.
    pub(super) const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Waits for a write as long as anything moves over the link: its streams wait for each other before a slow network.
    /// But one that never reads must not keep its place.
    pub(super) async fn patiently<T>(
        &self,
        write: impl Future<Output = Result<T, StreamError>>,
    ) -> Result<T, StreamError> {
        let mut write = pin!(write);
        loop {
            let before = self.moved.load(Ordering::Relaxed);
            match within(SILENCE, async { Ok(write.as_mut().await) }).await {
                Err(StreamError::Timeout(_)) if self.moved.load(Ordering::Relaxed) != before => {}
                written => return written?,
            }
        }
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
            self.events.send(Event::Fetched { by: self.user.clone(), name, bytes, size });
        }
    }

    fn sent(&self) -> MutexGuard<'_, Deliveries> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
