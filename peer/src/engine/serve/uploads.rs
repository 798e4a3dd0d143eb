//! Sending files over one link, and telling who got what.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::peer::{Answer, Code};
use shared::{ContentHash, FileName, UserName};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::OpenShare;
use super::gate::{Gate, Lane};
use crate::engine::event::{Event, Events};
use crate::net::StreamError;
use crate::net::stream::{Sender, within};

/// How long the other side may take nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// Pieces read ahead of the network.
const READ_AHEAD: usize = 3;

/// What one link was sent so far.
#[derive(Debug)]
pub(super) struct Uploads {
    user: UserName,
    events: Events,
    gate: Arc<Gate>,
    lane: Arc<Lane>,
    sent: Mutex<HashMap<ContentHash, Sent>>,
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
        Self { user, events, gate, lane, sent: Mutex::default() }
    }

    /// Sends the header and the groups. What fails in the middle is told by the stream's reset.
    pub(super) async fn send(&self, sender: &mut Sender, open: OpenShare) -> Result<(), StreamError> {
        sender.frame(&Answer::Data { bytes: open.bytes }).await?;
        let (hash, name, size, total) = (open.share.hash, open.share.name.clone(), open.layout.size(), open.bytes);
        let (pieces, mut ready) = mpsc::channel(READ_AHEAD);
        let piece_bytes = self.gate.piece_bytes();
        let reader = tokio::task::spawn_blocking(move || {
            let mut open = open;
            loop {
                let piece = open.read(piece_bytes).transpose();
                let last = !matches!(piece, Some(Ok(_)));
                if piece.is_some_and(|piece| pieces.blocking_send(piece).is_err()) || last {
                    return;
                }
            }
        });
        let mut outcome = Ok(());
        let mut bytes = 0;
        while let Some(piece) = ready.recv().await {
            outcome = match piece {
                Ok(piece) => {
                    bytes += piece.len() as u64;
                    self.gate.pass(&self.lane, piece.len()).await;
                    // One that never reads must not keep the slot.
                    within(SILENCE, sender.bulk(piece)).await
                }
                Err(code) => Err(StreamError::Reset(code)),
            };
            if outcome.is_err() {
                break;
            }
        }
        drop(ready);
        self.count(hash, name, bytes, size);
        if reader.await.is_err() || (outcome.is_ok() && bytes != total) {
            return Err(StreamError::Reset(Code::Internal));
        }
        outcome
    }

    /// Waits until one more file may be sent to this peer.
    pub(super) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.lane.slot().await
    }

    /// Tells of the files that were begun and not finished over this link.
    pub(super) fn report_partial(&self) {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner));
        for Sent { name, bytes, size } in sent.into_values() {
            self.events.send(Event::Fetched { by: self.user.clone(), name, bytes, size });
        }
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
