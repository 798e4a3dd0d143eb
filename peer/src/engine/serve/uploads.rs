//! Sending files over one link, and telling who got what.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::peer::{Answer, Code};
use shared::{ContentHash, FileName, UserName};

use super::gate::{Entry, Gate, Lane};
use super::reading::{OpenShare, ReadFailure};
use crate::engine::event::{Course, Event, Events, Transfer, TransferState};
use crate::net::StreamError;
use crate::net::stream::{Sender, within};

/// How long the other side may take nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// How often it is told how far a file is.
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// What one link was sent so far.
#[derive(Debug)]
pub(super) struct Uploads {
    user: UserName,
    events: Events,
    gate: Arc<Gate>,
    lane: Arc<Lane>,
    entry: Entry,
    /// Bytes of pieces that are on their way, on all streams.
    moved: AtomicU64,
    sent: Mutex<HashMap<ContentHash, Sent>>,
}

/// A file of which something can't be sent.
#[derive(Debug)]
pub(super) struct Interruption {
    pub(super) failure: ReadFailure,
    /// Whether the other side got the header already, so that only the stream's reset can tell.
    pub(super) answered: bool,
}

#[derive(Debug)]
struct Sent {
    name: FileName,
    bytes: u64,
    size: u64,
}

impl Uploads {
    pub(super) fn new(user: UserName, events: Events, gate: Arc<Gate>) -> Self {
        let lane = gate.lane(&user);
        let entry = Entry::new(gate.clone(), lane.clone());
        Self { user, events, gate, lane, entry, moved: AtomicU64::new(0), sent: Mutex::default() }
    }

    /// To whom.
    pub(super) const fn user(&self) -> &UserName {
        &self.user
    }

    /// Sends the header and the groups, as far as they can be read.
    pub(super) async fn send(&self, sender: &mut Sender, open: OpenShare) -> Result<Option<Interruption>, StreamError> {
        let OpenShare { name, hash, layout, bytes: total, mut pieces, .. } = open;
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
                self.tell(hash, &name, bytes, layout.size());
            }
        }
        if total == 0 && outcome.is_ok() && failure.is_none() {
            outcome = self.patiently(sender.frame(&header)).await;
        }
        self.count(hash, name, bytes, layout.size());
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

    /// Tells of the files that were begun and not finished over this link.
    pub(super) fn report_partial(&self) {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner));
        for Sent { name, bytes, size } in sent.into_values() {
            self.events.send(Event::Fetched { by: self.user.clone(), name, bytes, size });
        }
    }

    /// Tells how far a file is, with what was sent of it before.
    fn tell(&self, hash: ContentHash, name: &FileName, bytes: u64, size: u64) {
        let before = self.sent.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).map_or(0, |sent| sent.bytes);
        let (peer, name, bytes) = (self.user.clone(), name.clone(), before + bytes);
        let (direction, state) = (Course::Up, TransferState::Running);
        self.events.send(Event::Transfer(Transfer { peer, name, direction, bytes, size, state }));
    }

    fn count(&self, hash: ContentHash, name: FileName, bytes: u64, size: u64) {
        let mut all = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = all.entry(hash).or_insert(Sent { name, bytes: 0, size });
        sent.bytes += bytes;
        if sent.bytes >= size
            && let Some(Sent { name, bytes, size }) = all.remove(&hash)
        {
            self.events.send(Event::Fetched { by: self.user.clone(), name, bytes, size });
        }
    }
}
