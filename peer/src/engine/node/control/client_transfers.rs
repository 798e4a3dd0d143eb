//! The transfers that a client of the local socket reports.

use std::collections::HashMap;

use shared::{FileName, UserName};

use crate::engine::event_bus::EventBus;
use crate::engine::node_event::{FileTransfer, NodeEvent, TransferDirection, TransferState};

/// Running transfers that are tracked for one client; further ones aren't reported as failed if it vanishes.
const MAX_TRACKED_TRANSFERS: usize = 256;

/// The running transfers of one client. Dropping it reports them as failed.
#[derive(Debug)]
pub(super) struct ClientTransfers {
    events: EventBus,
    running: HashMap<(UserName, FileName, TransferDirection), FileTransfer>,
}

impl ClientTransfers {
    pub(super) fn new(events: EventBus) -> Self {
        Self { events, running: HashMap::new() }
    }

    /// Passes a client's report on as an event, with its byte count capped at the file's size.
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
