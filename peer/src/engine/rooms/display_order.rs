//! The order in which new messages are shown. Pure.
//!
//! A message waits for those that it names, up to [`GAP_PATIENCE`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rooms::RoomLog;
use shared::room::{MessageHash, ShortHash};

use crate::engine::room_values::RoomPost;

/// Time for which a message waits for those that it names.
const GAP_PATIENCE: Duration = Duration::from_secs(10);

/// The messages of a room that are stored and not shown yet.
#[derive(Debug, Default)]
pub(super) struct DisplayOrder {
    held: HashMap<MessageHash, RoomPost>,
    /// Since when messages are waited for. The first time stays, for as long as one is missing: each message that names
    /// it anew would put off the end of the wait.
    missing: HashMap<ShortHash, Instant>,
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
    pub(super) fn take_ready(&mut self, log: &RoomLog, now: Instant) -> Vec<RoomPost> {
        let Self { held, missing } = self;
        held.retain(|hash, _| log.info(hash).is_some());
        missing.retain(|hash, _| log.is_missing(hash));
        let mut is_ready = |hash: &MessageHash| {
            let since = log.missing_names(hash).map(|missed| *missing.entry(missed).or_insert(now));
            // The newest decides, so all are looked at.
            since.max().is_none_or(|newest| now.duration_since(newest) >= GAP_PATIENCE)
        };
        let mut shown: Vec<RoomPost> = held.extract_if(|hash, _| is_ready(hash)).map(|(_, post)| post).collect();
        // The map gives them in any order.
        shown.sort_by_cached_key(|post| {
            log.info(&post.id).map(|info| (info.depth, info.time, info.author, info.number, post.id))
        });
        shown
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use rooms::{HistoryVisibility, Membership, MembershipRecord, MessageRun, RoomChange, VerifyingKey};
    use shared::RoomId;

    use super::*;

    const ROOM: RoomId = RoomId::from_bytes([7; 16]);

    fn keys(seed: u8) -> (Ed25519KeyPair, VerifyingKey) {
        let keys = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = VerifyingKey::from_raw(keys.public_key().as_ref().try_into().unwrap());
        (keys, key)
    }

    fn members() -> Membership {
        let (tracker, _) = keys(99);
        let mut members = Membership::new(ROOM);
        let join =
            |seed: u8| RoomChange::Join { user: format!("u{seed}").parse().unwrap(), key: keys(seed).1.fingerprint() };
        let create = RoomChange::Create { room_name: "lab".parse().unwrap(), history: HistoryVisibility::Shared };
        for (change, epoch) in [create, join(1), join(2)].into_iter().zip(1..) {
            let record = MembershipRecord { room: ROOM, epoch, previous: members.head(), time: 0, change };
            members.insert(record.sign(&tracker)).unwrap();
        }
        members
    }

    fn post(run: &MessageRun) -> RoomPost {
        let message = run.messages().last().unwrap();
        RoomPost {
            room: "lab".parse().unwrap(),
            room_id: ROOM,
            from: "u1".parse().unwrap(),
            id: message.hash(),
            seq: 1,
            ts: 0,
            at: 0,
            text: message.content().body.clone().into(),
            late: false,
            mentions_me: false,
        }
    }

    #[test]
    fn a_message_waits_for_what_it_names_and_not_for_ever() {
        let (members, mut wide, mut log) = (members(), RoomLog::new(ROOM), RoomLog::new(ROOM));
        let mut write = |seed: u8, body: &str| {
            let (signer, key) = keys(seed);
            let run = wide.draft(&key, &members, 0, body.to_owned()).sign(&signer).unwrap();
            wide.insert(&run, &members, 0);
            run
        };
        let [named, naming, next] = [(1, "named"), (2, "naming"), (2, "next")].map(|(seed, body)| write(seed, body));
        let (mut display, start) = (DisplayOrder::default(), Instant::now());
        // The machine's time of day says nothing: it may be set back meanwhile.
        log.insert(&naming, &members, u64::MAX);
        display.extend([post(&naming)]);
        let texts = |posts: Vec<RoomPost>| -> Vec<String> {
            posts.into_iter().map(|post| post.text.as_received().to_owned()).collect()
        };
        let almost = start + GAP_PATIENCE - Duration::from_millis(1);
        assert!(display.take_ready(&log, start).is_empty() && display.take_ready(&log, almost).is_empty());
        assert_eq!(texts(display.take_ready(&log, start + GAP_PATIENCE)), ["naming"]);
        log.insert(&next, &members, 0);
        log.insert(&named, &members, 0);
        display.extend([post(&next), post(&named)]);
        assert_eq!(texts(display.take_ready(&log, start + GAP_PATIENCE)), ["named", "next"]);
        assert!(display.missing.is_empty() && !display.is_waiting());
    }
}
