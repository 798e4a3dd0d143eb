//! What happens in a node, as its views and the other processes of the profile are told.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use shared::peer::ChatMessage;
use shared::{FileName, UserName};
use tokio::sync::broadcast;

use super::Notice;

/// Events kept for a view that is slow; one that falls further behind misses some.
const BACKLOG: usize = 4096;

/// Something that happened in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The node is present at the tracker.
    Online {
        /// As whom.
        user: UserName,
        /// Where others find it.
        address: SocketAddr,
        /// The UDP port that it listens on; another than theirs where a forwarding leads here.
        port: u16,
        /// How many files it shares.
        shares: usize,
    },
    /// The tracker is gone; the node tries again by itself.
    TrackerLost {
        /// Why.
        why: String,
    },
    /// Another number of files is shared than before.
    SharesChanged {
        /// How many now.
        count: usize,
    },
    /// Somebody else came or went.
    Presence {
        /// Who.
        user: UserName,
        /// Whether they are online now.
        online: bool,
    },
    /// A message came and is stored.
    Received {
        /// From whom.
        from: UserName,
        /// What they wrote.
        message: ChatMessage,
    },
    /// A message of ours is stored by the other side.
    Delivered {
        /// To whom.
        to: UserName,
        /// What was written.
        message: ChatMessage,
    },
    /// Somebody fetched a file, or part of one.
    Fetched {
        /// Who.
        by: UserName,
        /// What.
        name: FileName,
        /// Bytes that were sent.
        bytes: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// A caller was turned away.
    Refused {
        /// Where it called from.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// A shared file is no longer what it was.
    Stale {
        /// Which.
        name: FileName,
    },
    /// Something worth saying.
    Notice(Notice),
}

/// Where events go, and where views get them from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Event>);

impl Events {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }

    /// Tells everybody who listens.
    pub fn send(&self, event: Event) {
        // An error means that nobody listens.
        let _ = self.0.send(event);
    }

    /// All events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}
