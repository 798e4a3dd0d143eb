//! The open streams of conversations, within their bounds. A stream holds a connection, of which others need some.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::address_limits::GuestAddress;
use crate::engine::guest_links::GuestSession;

/// Streams in all, of one address, and of one guest: browsers open six connections to a server, for all their windows.
const MAX_STREAMS: usize = 128;
const MAX_STREAMS_PER_ADDRESS: usize = 32;
const MAX_STREAMS_PER_GUEST: usize = 3;

/// The guest whose stream it is: by link and session, all programs of a link together.
type StreamOwner = (i64, Option<GuestSession>);

/// The open streams of a server. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct ChatStreamSlots(Arc<Mutex<Vec<RunningChatStream>>>);

#[derive(Debug)]
struct RunningChatStream {
    owner: StreamOwner,
    address: GuestAddress,
    superseded: CancellationToken,
}

/// The right to a stream, until it is dropped.
#[derive(Debug)]
pub(super) struct ChatStreamSlot {
    slots: ChatStreamSlots,
    /// Cancelled when a newer stream of the same guest has its place.
    pub(super) superseded: CancellationToken,
}

impl ChatStreamSlots {
    /// Takes a place; `None` if there is none. A guest who has all its places gives up the oldest.
    pub(super) fn take(&self, owner: StreamOwner, address: GuestAddress) -> Option<ChatStreamSlot> {
        let mut open = self.0.lock();
        let own = open.iter().filter(|stream| stream.owner == owner).count();
        if own >= MAX_STREAMS_PER_GUEST {
            // The oldest comes first.
            let oldest = open.iter().position(|stream| stream.owner == owner)?;
            open.remove(oldest).superseded.cancel();
        }
        let of_address = open.iter().filter(|stream| stream.address == address).count();
        if open.len() >= MAX_STREAMS || of_address >= MAX_STREAMS_PER_ADDRESS {
            return None;
        }
        let superseded = CancellationToken::new();
        open.push(RunningChatStream { owner, address, superseded: superseded.clone() });
        Some(ChatStreamSlot { slots: self.clone(), superseded })
    }
}

impl Drop for ChatStreamSlot {
    fn drop(&mut self) {
        // Marked, so that this one is found among those of the same guest.
        self.superseded.cancel();
        self.slots.0.lock().retain(|stream| !stream.superseded.is_cancelled());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> GuestAddress {
        GuestAddress::of(format!("10.0.0.{number}").parse().unwrap())
    }

    #[test]
    fn the_newest_streams_of_a_guest_and_a_share_for_each_address() {
        let slots = ChatStreamSlots::default();
        let take = |link, number| slots.take((link, None), address(number));
        let first: Vec<_> = (0..4).map(|_| take(1, 1).unwrap()).collect();
        assert_eq!(
            first.iter().map(|slot| slot.superseded.is_cancelled()).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        let many: Vec<_> = (2..100).map_while(|link| take(link, 1)).collect();
        assert_eq!(many.len(), 32 - 3);
        let all: Vec<_> =
            (0..400).map_while(|link| take(100 + link, 2 + usize::try_from(link).unwrap() / 32)).collect();
        assert_eq!(all.len(), 128 - 32);
        assert!(take(1, 9).is_some(), "its own oldest makes room");
        drop((first, many, all));
        assert!(slots.0.lock().is_empty());
    }
}
