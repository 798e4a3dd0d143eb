//! Limits and fairness between the peers that are served.
//!
//! Each piece that is sent passes two locks, both first come, first served: that of its peer and that of the node. So
//! every peer waits at the node's lock with one piece at most, whatever the number of its streams and links, and the
//! node's bytes go round between the peers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use shared::UserName;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::upload_places::UploadPlaces;
use crate::engine::rate::{Bucket, pause};
use crate::engine::talk::{BESIDE_TALK, TalkWith};

/// Bytes a second that may be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// To all peers together.
    pub total: Option<u64>,
    /// To each of them.
    pub per_peer: Option<u64>,
}

const PIECE_BYTES: u64 = 256 * 1024;
const MIN_PIECE_BYTES: u64 = 1024;
/// While people talk: what is sent in a moment that no message would notice. And while there are many files, so that all of
/// them together take little memory.
const SMALL_PIECE_BYTES: u64 = 64 * 1024;
/// Requests for data of one peer that are answered at once.
const REQUESTS_PER_PEER: usize = 24;

/// Where every piece passes before it is sent.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    total: Option<tokio::sync::Mutex<Bucket>>,
    beside_talk: tokio::sync::Mutex<Bucket>,
    peers: Mutex<HashMap<UserName, Arc<Lane>>>,
    places: UploadPlaces,
}

/// One peer's way through the gate.
#[derive(Debug)]
pub(super) struct Lane {
    talk: TalkWith,
    bucket: tokio::sync::Mutex<Option<Bucket>>,
    /// Of the pieces of large files, only one waits at the bucket.
    turn: tokio::sync::Mutex<()>,
    /// Requests that are answered at once.
    requests: Semaphore,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        let total = limits.total.map(|total| tokio::sync::Mutex::new(Bucket::new(total, now())));
        let beside_talk = tokio::sync::Mutex::new(Bucket::smooth(BESIDE_TALK, now()));
        Self { limits, total, beside_talk, peers: Mutex::default(), places: UploadPlaces::new() }
    }

    /// The way of a peer, the same for all its links, on which `talk` says when room is to be made.
    pub(super) fn lane(&self, user: &UserName, talk: TalkWith) -> Arc<Lane> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // Lanes that no link uses any more go.
        peers.retain(|_, lane| Arc::strong_count(lane) > 1);
        let new = || {
            let bucket = self.limits.per_peer.map(|limit| Bucket::new(limit, now()));
            Arc::new(Lane {
                talk,
                bucket: tokio::sync::Mutex::new(bucket),
                turn: tokio::sync::Mutex::default(),
                requests: Semaphore::new(REQUESTS_PER_PEER),
            })
        };
        peers.entry(user.clone()).or_insert_with(new).clone()
    }

    /// The places of those who are sent files.
    pub(super) const fn places(&self) -> &UploadPlaces {
        &self.places
    }

    /// Bytes of the pieces that pass on a lane: small enough that a tight limit doesn't look like silence.
    pub(super) fn piece_bytes(&self, lane: &Lane) -> u64 {
        let tightest = [self.limits.total, self.limits.per_peer].into_iter().flatten().min();
        let is_tight = lane.talk.is_on() || self.places.are_many();
        let most = if is_tight { SMALL_PIECE_BYTES } else { PIECE_BYTES };
        tightest.map_or(most, |limit| (limit / 10).clamp(MIN_PIECE_BYTES, most))
    }

    /// Waits until `bytes` may be sent to the peer of `lane`; all of a small file passes before the pieces of large ones.
    pub(super) async fn pass(&self, lane: &Lane, bytes: usize, is_all: bool) {
        let beside_talk = lane.talk.is_on();
        if self.limits == Limits::default() && !beside_talk {
            return;
        }
        let _turn = if is_all { None } else { Some(lane.turn.lock().await) };
        let mut own = lane.bucket.lock().await;
        if beside_talk {
            let mut pace = self.beside_talk.lock().await;
            let wait = pace.take(bytes, now());
            pause(wait).await;
        }
        if let Some(total) = &self.total {
            let mut total = total.lock().await;
            let wait = total.take(bytes, now());
            pause(wait).await;
        }
        if let Some(own) = own.as_mut() {
            let wait = own.take(bytes, now());
            pause(wait).await;
        }
    }
}

impl Lane {
    /// Waits until one more request for data may be answered.
    pub(super) async fn request(&self) -> Option<SemaphorePermit<'_>> {
        self.requests.acquire().await.ok()
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::talk::Talk;

    #[tokio::test(start_paused = true)]
    async fn while_people_talk_files_have_a_rate() {
        const PIECE: usize = 1_000_000;
        let talk = Talk::default();
        let gate = Gate::new(Limits::default());
        let lane = gate.lane(&"alice".parse().unwrap(), TalkWith::new(talk.clone(), Talk::default()));
        let begin = Instant::now();
        let pieces = async |count: usize| {
            for _ in 0..count {
                gate.pass(&lane, PIECE, false).await;
            }
        };
        pieces(1000).await;
        assert_eq!(begin.elapsed(), std::time::Duration::ZERO, "nobody talks");
        talk.stir();
        let in_two_seconds = usize::try_from(BESIDE_TALK).unwrap() * 2 / PIECE;
        pieces(in_two_seconds).await;
        assert!((1.8..=2.1).contains(&begin.elapsed().as_secs_f64()), "{:?}", begin.elapsed());
        talk.wait_until(false).await;
        let silent = Instant::now();
        pieces(1000).await;
        assert_eq!(silent.elapsed(), std::time::Duration::ZERO, "they fell silent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_with_many_streams_gets_no_more_than_one_with_few() {
        let gate = Arc::new(Gate::new(Limits { total: Some(1_000_000), per_peer: None }));
        let mut streams = tokio::task::JoinSet::new();
        for (user, count) in [("alice", 8), ("carol", 1)] {
            for _ in 0..count {
                let (gate, user) = (gate.clone(), user.parse::<UserName>().unwrap());
                let lane = gate.lane(&user, TalkWith::new(Talk::default(), Talk::default()));
                streams.spawn(async move {
                    let mut sent = 0_usize;
                    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), async {
                        loop {
                            gate.pass(&lane, 10_000, false).await;
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
