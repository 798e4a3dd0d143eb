//! Upload rate limits and fairness between peers.
//!
//! Each piece passes two locks, both first come, first served: its peer's and the node's. So every peer waits at the
//! node's lock with at most one piece, however many streams and links it has, and the node's rate is shared round-robin
//! between peers.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::UserName;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::upload_slots::UploadSlots;
use crate::engine::bulk_rate::BulkRateLimiter;
use crate::engine::chat_activity::PeerChatActivity;
use crate::util::rate_limit::{TokenBucket, sleep_if_positive};

/// Upload rate limits, in bytes a second; `None` for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadLimits {
    /// The limit for all peers together.
    pub total: Option<u64>,
    /// The limit for each peer.
    pub per_peer: Option<u64>,
}

const PIECE_BYTES: u64 = 256 * 1024;
const MIN_PIECE_BYTES: u64 = 1024;
/// Small files that are opened together have so many pieces: each time, a thread is woken and the rights are looked up.
const BATCH_PIECES: u64 = 4;
/// Piece size during chat, small enough not to delay a message noticeably, and during many uploads, to bound their
/// memory.
const SMALL_PIECE_BYTES: u64 = 64 * 1024;
/// Requests for data of one peer that are handled at once.
const MAX_REQUESTS_PER_USER: usize = 24;

/// The scheduler that every piece passes before it is sent.
#[derive(Debug)]
pub(super) struct UploadScheduler {
    limits: UploadLimits,
    total: Option<tokio::sync::Mutex<TokenBucket>>,
    during_chat: BulkRateLimiter,
    throttles: Mutex<HashMap<UserName, Arc<UserThrottle>>>,
    slots: UploadSlots,
}

/// The rate limit and request quota of one peer.
#[derive(Debug)]
pub(super) struct UserThrottle {
    chat_activity: PeerChatActivity,
    bucket: tokio::sync::Mutex<Option<TokenBucket>>,
    /// Lets only one piece of a large file wait at the bucket, so that small files overtake the others.
    turn: tokio::sync::Mutex<()>,
    /// Permits for requests that are handled at once.
    requests: Semaphore,
}

impl UploadScheduler {
    pub(super) fn new(limits: UploadLimits) -> Self {
        let total = limits.total.map(|total| tokio::sync::Mutex::new(TokenBucket::new(total, now())));
        Self {
            limits,
            total,
            during_chat: BulkRateLimiter::default(),
            throttles: Mutex::default(),
            slots: UploadSlots::new(),
        }
    }

    /// Returns the throttle of a peer, the same for all its links. `chat_activity` says when uploads make room.
    pub(super) fn throttle_for(&self, user: &UserName, chat_activity: PeerChatActivity) -> Arc<UserThrottle> {
        let mut peers = self.throttles.lock();
        // Throttles that no link holds any more are dropped.
        peers.retain(|_, lane| Arc::strong_count(lane) > 1);
        let new = || {
            let bucket = self.limits.per_peer.map(|limit| TokenBucket::new(limit, now()));
            Arc::new(UserThrottle {
                chat_activity,
                bucket: tokio::sync::Mutex::new(bucket),
                turn: tokio::sync::Mutex::default(),
                requests: Semaphore::new(MAX_REQUESTS_PER_USER),
            })
        };
        peers.entry(user.clone()).or_insert_with(new).clone()
    }

    /// Returns the bytes that a link may have in flight while its user is to hear of messages in time.
    pub(super) fn window_during_chat(&self) -> u32 {
        self.during_chat.window()
    }

    /// Returns the slots of all uploads.
    pub(super) const fn slots(&self) -> &UploadSlots {
        &self.slots
    }

    /// Returns the size of this peer's pieces: small enough that a tight limit doesn't look like a stalled link.
    pub(super) fn piece_bytes(&self, throttle: &UserThrottle) -> u64 {
        let tightest = [self.limits.total, self.limits.per_peer].into_iter().flatten().min();
        let is_tight = throttle.chat_activity.is_active() || self.slots.is_crowded();
        let most = if is_tight { SMALL_PIECE_BYTES } else { PIECE_BYTES };
        tightest.map_or(most, |limit| (limit / 10).clamp(MIN_PIECE_BYTES, most))
    }

    /// Returns the bytes of small files of this peer that are read together.
    pub(super) fn batch_bytes(&self, throttle: &UserThrottle) -> u64 {
        match self.piece_bytes(throttle) {
            PIECE_BYTES => PIECE_BYTES * BATCH_PIECES,
            // Little memory or a tight limit: what waits for its turn is as little as can be.
            smaller => smaller,
        }
    }

    /// Waits until `bytes` may be sent to this peer. A small file as a whole (`is_all`) overtakes the pieces of large
    /// ones.
    pub(super) async fn wait_to_send(&self, throttle: &UserThrottle, bytes: usize, is_all: bool) {
        let is_chat_active = throttle.chat_activity.is_active();
        if self.limits == UploadLimits::default() && !is_chat_active {
            // The usual case takes no lock.
            return;
        }
        let _turn = if is_all { None } else { Some(throttle.turn.lock().await) };
        // The locks are held during the sleeps: tokio's mutexes are first come, first served, which makes it
        // fair.
        let mut own = throttle.bucket.lock().await;
        if is_chat_active {
            self.during_chat.acquire(bytes).await;
        }
        if let Some(total) = &self.total {
            let mut total = total.lock().await;
            let wait = total.consume(bytes, now());
            sleep_if_positive(wait).await;
        }
        if let Some(own) = own.as_mut() {
            let wait = own.consume(bytes, now());
            sleep_if_positive(wait).await;
        }
    }
}

impl UserThrottle {
    /// Waits until one more request for data may be handled.
    pub(super) async fn acquire_request(&self) -> Option<SemaphorePermit<'_>> {
        self.requests.acquire().await.ok()
    }
}

fn now() -> std::time::Instant {
    // Tokio's clock, so that tests can pause it.
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::chat_activity::ChatActivity;

    #[tokio::test(start_paused = true)]
    async fn while_people_talk_files_have_a_rate() {
        const PIECE: usize = 1_000_000;
        let talk = ChatActivity::default();
        let gate = UploadScheduler::new(UploadLimits::default());
        let lane =
            gate.throttle_for(&"alice".parse().unwrap(), PeerChatActivity::new(talk.clone(), ChatActivity::default()));
        let begin = Instant::now();
        let pieces = async |count: usize| {
            for _ in 0..count {
                gate.wait_to_send(&lane, PIECE, false).await;
            }
        };
        pieces(1000).await;
        assert_eq!(begin.elapsed(), std::time::Duration::ZERO, "nobody talks");
        talk.record_activity();
        pieces(100).await;
        // At the least rate it would be two seconds; here nothing is late, and the rate grows.
        assert!((0.5..=2.1).contains(&begin.elapsed().as_secs_f64()), "{:?}", begin.elapsed());
        talk.wait_for(false).await;
        let silent = Instant::now();
        pieces(1000).await;
        assert_eq!(silent.elapsed(), std::time::Duration::ZERO, "they fell silent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_with_many_streams_gets_no_more_than_one_with_few() {
        let gate = Arc::new(UploadScheduler::new(UploadLimits { total: Some(1_000_000), per_peer: None }));
        let mut streams = tokio::task::JoinSet::new();
        for (user, count) in [("alice", 8), ("carol", 1)] {
            for _ in 0..count {
                let (gate, user) = (gate.clone(), user.parse::<UserName>().unwrap());
                let lane =
                    gate.throttle_for(&user, PeerChatActivity::new(ChatActivity::default(), ChatActivity::default()));
                streams.spawn(async move {
                    let mut sent = 0_usize;
                    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), async {
                        loop {
                            gate.wait_to_send(&lane, 10_000, false).await;
                            sent += 10_000;
                            tokio::task::yield_now().await;
                        }
                    })
                    .await;
                    (user, sent)
                });
            }
        }
        let mut sent: HashMap<UserName, usize> = HashMap::new();
        while let Some(Ok((user, bytes))) = streams.join_next().await {
            *sent.entry(user).or_default() += bytes;
        }
        let (alice, carol) = (sent["alice"], sent["carol"]);
        assert!(alice > 0 && carol > 0 && alice < carol * 2 && carol < alice * 2, "{alice} and {carol}");
    }
}
