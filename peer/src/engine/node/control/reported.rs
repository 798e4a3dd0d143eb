//! What a client of the local socket tells of its transfers.

use std::collections::HashMap;

use shared::{FileName, UserName};

use crate::engine::event::{Course, Event, Events, Transfer, TransferState};

/// Files of one client that are on their way; of more than these, it isn't said when the client vanishes.
const FOLLOWED: usize = 256;

/// The transfers of one client. When that is gone, so are they.
#[derive(Debug)]
pub(super) struct Reported {
    events: Events,
    running: HashMap<(UserName, FileName, Course), Transfer>,
}

impl Reported {
    /// None yet.
    pub(super) fn new(events: Events) -> Self {
        Self { events, running: HashMap::new() }
    }

    /// Passes on what the client says, as far as it can be true.
    pub(super) fn take(&mut self, told: Transfer) {
        let told = Transfer { bytes: told.bytes.min(told.size), ..told };
        let key = (told.peer.clone(), told.name.clone(), told.direction);
        if told.state != TransferState::Running {
            self.running.remove(&key);
        } else if self.running.len() < FOLLOWED || self.running.contains_key(&key) {
            self.running.insert(key, told.clone());
        }
        self.events.send(Event::Transfer(told));
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        for (_, told) in self.running.drain() {
            self.events.send(Event::Transfer(Transfer { state: TransferState::Failed, ..told }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_that_vanished_was_fetching_has_failed() {
        let events = Events::new();
        let mut heard = events.subscribe();
        let mut reported = Reported::new(events);
        let told = |name: &str, bytes, state| {
            let (peer, name) = ("bob".parse().unwrap(), name.parse().unwrap());
            Transfer { peer, name, direction: Course::Down, bytes, size: 10, state }
        };
        reported.take(told("a", 3, TransferState::Running));
        reported.take(told("b", 4000, TransferState::Running));
        reported.take(told("a", 10, TransferState::Done));
        drop(reported);
        let mut next = || heard.try_recv().unwrap();
        assert_eq!(next(), Event::Transfer(told("a", 3, TransferState::Running)));
        assert_eq!(next(), Event::Transfer(told("b", 10, TransferState::Running)), "no more than all of it");
        assert_eq!(next(), Event::Transfer(told("a", 10, TransferState::Done)));
        assert_eq!(next(), Event::Transfer(told("b", 10, TransferState::Failed)));
        assert!(heard.try_recv().is_err());
    }
}
