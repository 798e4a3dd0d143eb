//! What a client of the local socket tells of its transfers.

use std::collections::HashMap;

use shared::{FileName, UserName};

use crate::engine::node_event::{EventBus, FileTransfer, NodeEvent, TransferDirection, TransferState};

/// Files of one client that are on their way; of more than these, it isn't said when the client vanishes.
const MAX_TRACKED_TRANSFERS: usize = 256;

/// The transfers of one client. When that is gone, so are they.
#[derive(Debug)]
pub(super) struct ClientTransfers {
    events: EventBus,
    running: HashMap<(UserName, FileName, TransferDirection), FileTransfer>,
}

impl ClientTransfers {
    /// None yet.
    pub(super) fn new(events: EventBus) -> Self {
        Self { events, running: HashMap::new() }
    }

    /// Passes on what the client says, as far as it can be true.
    pub(super) fn record(&mut self, transfer: FileTransfer) {
        let told = FileTransfer { bytes: transfer.bytes.min(transfer.size), ..transfer };
        let key = (told.peer.clone(), told.name.clone(), told.direction);
        if told.state != TransferState::Running {
            self.running.remove(&key);
        } else if self.running.len() < MAX_TRACKED_TRANSFERS || self.running.contains_key(&key) {
            self.running.insert(key, told.clone());
        }
        self.events.send(NodeEvent::Transfer(told));
    }
}

impl Drop for ClientTransfers {
    fn drop(&mut self) {
        for (_, transfer) in self.running.drain() {
            self.events.send(NodeEvent::Transfer(FileTransfer { state: TransferState::Failed, ..transfer }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_that_vanished_was_fetching_has_failed() {
        let events = EventBus::new();
        let mut heard = events.subscribe();
        let mut reported = ClientTransfers::new(events);
        let told = |name: &str, bytes, state| {
            let (peer, name) = ("bob".parse().unwrap(), name.parse().unwrap());
            FileTransfer { peer, name, direction: TransferDirection::Down, bytes, size: 10, state }
        };
        reported.record(told("a", 3, TransferState::Running));
        reported.record(told("b", 4000, TransferState::Running));
        reported.record(told("a", 10, TransferState::Done));
        drop(reported);
        let mut next = || heard.try_recv().unwrap();
        assert_eq!(next(), NodeEvent::Transfer(told("a", 3, TransferState::Running)));
        assert_eq!(next(), NodeEvent::Transfer(told("b", 10, TransferState::Running)), "no more than all of it");
        assert_eq!(next(), NodeEvent::Transfer(told("a", 10, TransferState::Done)));
        assert_eq!(next(), NodeEvent::Transfer(told("b", 10, TransferState::Failed)));
        assert!(heard.try_recv().is_err());
    }
}
