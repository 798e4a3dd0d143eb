//! Bounds of what comes from a tracker, and the events that wait while a reply is awaited. Pure.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | an event | 64 KiB | the connection ends |
//! | events that wait while a reply is awaited | 10,000, and 4 MiB of text | the connection ends |
//! | a reply | 4 MiB: pages end after 256 KiB and one entry | the connection ends |
//! | a reply with all files of one user | 32 MiB: 100,000 files | the connection ends |
//! | users and files in one reply ([`shared::limits`]) | 10,000 and 100,000 | the connection ends |
//! | time for a whole reply | 30 s, however many bytes come meanwhile | the connection ends |

use std::collections::VecDeque;

use shared::limits::{MAX_CATALOGUE_REPLY_BYTES, MAX_REPLY_BYTES};
use shared::tracker::{ListPeersRequest, TrackerEvent, TrackerRequest};

/// Longest line that is taken where nothing was asked.
pub(super) const MAX_EVENT_BYTES: usize = 64 * 1024;
const MAX_WAITING_EVENTS: usize = 10_000;
const MAX_WAITING_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Events that came before a reply.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    events: VecDeque<(TrackerEvent, usize)>,
    bytes: usize,
}

/// More events than are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

impl EventQueue {
    /// Keeps an event that took so many bytes. Fails with [`TooMuch`], of events or of their bytes.
    pub(super) fn push(&mut self, event: TrackerEvent, bytes: usize) -> Result<(), TooMuch> {
        let has_room = bytes <= MAX_EVENT_BYTES
            && self.events.len() < MAX_WAITING_EVENTS
            && self.bytes + bytes <= MAX_WAITING_EVENT_BYTES;
        if !has_room {
            return Err(TooMuch);
        }
        self.bytes += bytes;
        self.events.push_back((event, bytes));
        Ok(())
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<TrackerEvent> {
        let (event, bytes) = self.events.pop_front()?;
        self.bytes -= bytes;
        Some(event)
    }
}

/// Returns how long the reply to a request may be.
pub(super) const fn reply_limit(request: &TrackerRequest) -> usize {
    match request {
        // What one user shares has no pages.
        TrackerRequest::ListPeers(ListPeersRequest {
            user: Some(_),
            name: None,
            hash: None,
            with_files: None | Some(true),
            ..
        }) => MAX_CATALOGUE_REPLY_BYTES,
        _ => MAX_REPLY_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use shared::tracker::TrackerEventKind;

    use super::*;

    #[test]
    fn events_wait_in_bounds() {
        let event = |seq| TrackerEvent { seq, kind: TrackerEventKind::Resync {} };
        let filled = |bytes| {
            let mut queue = EventQueue::default();
            let kept = (0..20_000).take_while(|seq| queue.push(event(*seq), bytes).is_ok()).count();
            assert_eq!(queue.pop(), (kept > 0).then(|| event(0)));
            assert_eq!(queue.push(event(0), bytes).is_ok(), kept > 0);
            kept
        };
        assert_eq!((filled(30), filled(64 * 1024), filled(64 * 1024 + 1)), (10_000, 64, 0));
    }

    #[test]
    fn only_all_files_of_one_user_are_long() {
        let one = || ListPeersRequest { user: Some("bob".parse().unwrap()), ..ListPeersRequest::default() };
        let limit = |request: ListPeersRequest| reply_limit(&TrackerRequest::ListPeers(request));
        assert_eq!(limit(one()), MAX_CATALOGUE_REPLY_BYTES);
        assert_eq!(limit(ListPeersRequest { with_files: Some(false), ..one() }), MAX_REPLY_BYTES);
        assert_eq!(limit(ListPeersRequest::default()), MAX_REPLY_BYTES);
    }
}
