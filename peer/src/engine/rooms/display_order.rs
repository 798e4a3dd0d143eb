//! The order in which new messages are shown. Pure.
//!
//! A message waits for those that it names, up to [`GAP_PATIENCE_MS`].

use std::collections::HashMap;

use rooms::RoomLog;
use shared::room::MessageHash;

use crate::engine::room_values::RoomPost;

/// Time for which a message waits for those that it names, in milliseconds.
const GAP_PATIENCE_MS: u64 = 10_000;

/// The messages of a room that are stored and not shown yet.
#[derive(Debug, Default)]
pub(super) struct DisplayOrder {
    held: HashMap<MessageHash, RoomPost>,
}

impl DisplayOrder {
    /// Adds messages.
    pub(super) fn extend(&mut self, posts: impl IntoIterator<Item = RoomPost>) {
        self.held.extend(posts.into_iter().map(|post| (post.id, post)));
    }

    /// Returns true if messages wait.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes out the messages that are to be shown now, in the room's order. Those that are gone from the log are dropped.
    pub(super) fn take_ready(&mut self, log: &RoomLog, now: u64) -> Vec<RoomPost> {
        self.held.retain(|hash, _| log.info(hash).is_some());
        let ready = |hash: &MessageHash| !log.is_waiting(hash, GAP_PATIENCE_MS, now);
        let mut shown: Vec<RoomPost> = self.held.extract_if(|hash, _| ready(hash)).map(|(_, post)| post).collect();
        // The map gives them in any order.
        shown.sort_by_cached_key(|post| {
            log.info(&post.id).map(|info| (info.depth, info.time, info.author, info.number, post.id))
        });
        shown
    }
}
