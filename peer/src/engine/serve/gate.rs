//! Limits and fairness between the peers that are served.
//!
//! Each piece that is sent passes two locks, both first come, first served: that of its peer and that of the node. So
//! every peer waits at the node's lock with one piece at most, whatever the number of its streams and links, and the
//! node's bytes go round between the peers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use shared::UserName;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::engine::rate::{Bucket, pause};
use crate::engine::talk::{BESIDE_TALK, Talk};

/// Bytes a second that may be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// To all peers together.
    pub total: Option<u64>,
    /// To each of them.
    pub per_peer: Option<u64>,
}

/// Files that are sent at once, to all peers together.
const PLACES: usize = 32;
/// And to one peer; the others are for the others.
const PLACES_PER_PEER: usize = 8;
/// Beside them each link has a place of its own, so that none is silent for what others fetch; as long as they last.
const PLACES_OF_LINKS: usize = 96;
/// Small files that are sent to one peer at once while none of its places is free.
const SMALL_PER_PEER: usize = 4;
const PIECE_BYTES: u64 = 256 * 1024;
const MIN_PIECE_BYTES: u64 = 1024;
/// While people talk: what is sent in a moment that no message would notice.
const PIECE_BYTES_BESIDE_TALK: u64 = 64 * 1024;

/// Where every piece passes before it is sent.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    total: Option<tokio::sync::Mutex<Bucket>>,
    talk: Talk,
    beside_talk: tokio::sync::Mutex<Bucket>,
    peers: Mutex<HashMap<UserName, Arc<Lane>>>,
    places: Arc<Semaphore>,
    places_of_links: Arc<Semaphore>,
}

/// One peer's way through the gate.
#[derive(Debug)]
pub(super) struct Lane {
    bucket: tokio::sync::Mutex<Option<Bucket>>,
    /// Of the pieces of large files, only one waits at the bucket.
    turn: tokio::sync::Mutex<()>,
    places: Arc<Semaphore>,
    small: Semaphore,
}

/// One link's ways to a place.
#[derive(Debug)]
pub(super) struct Entry {
    gate: Arc<Gate>,
    lane: Arc<Lane>,
    own: Arc<Semaphore>,
}

/// A place among what is sent at once; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held, not looked at")] [OwnedSemaphorePermit; 2]);

impl Gate {
    pub(super) fn new(limits: Limits, talk: Talk) -> Self {
        let total = limits.total.map(|total| tokio::sync::Mutex::new(Bucket::new(total, now())));
        let beside_talk = tokio::sync::Mutex::new(Bucket::smooth(BESIDE_TALK, now()));
        let places = Arc::new(Semaphore::new(PLACES));
        let places_of_links = Arc::new(Semaphore::new(PLACES_OF_LINKS));
        Self { limits, total, talk, beside_talk, peers: Mutex::default(), places, places_of_links }
    }

    /// The way of a peer, the same for all its links.
    pub(super) fn lane(&self, user: &UserName) -> Arc<Lane> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // Lanes that no link uses any more go.
        peers.retain(|_, lane| Arc::strong_count(lane) > 1);
        let new = || {
            let bucket = self.limits.per_peer.map(|limit| Bucket::new(limit, now()));
            Arc::new(Lane {
                bucket: tokio::sync::Mutex::new(bucket),
                turn: tokio::sync::Mutex::default(),
                places: Arc::new(Semaphore::new(PLACES_PER_PEER)),
                small: Semaphore::new(SMALL_PER_PEER),
            })
        };
        peers.entry(user.clone()).or_insert_with(new).clone()
    }

    /// Bytes of the pieces that pass: small enough that a tight limit doesn't look like silence.
    pub(super) fn piece_bytes(&self) -> u64 {
        let tightest = [self.limits.total, self.limits.per_peer].into_iter().flatten().min();
        let most = if self.talk.is_on() { PIECE_BYTES_BESIDE_TALK } else { PIECE_BYTES };
        tightest.map_or(most, |limit| (limit / 10).clamp(MIN_PIECE_BYTES, most))
    }

    /// Waits until `bytes` may be sent to the peer of `lane`; all of a small file passes before the pieces of large ones.
    pub(super) async fn pass(&self, lane: &Lane, bytes: usize, is_all: bool) {
        let beside_talk = self.talk.is_on();
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

impl Entry {
    /// The ways of one more link to the peer of `lane`.
    pub(super) fn new(gate: Arc<Gate>, lane: Arc<Lane>) -> Self {
        Self { gate, lane, own: Arc::new(Semaphore::new(1)) }
    }

    /// A place, if one is free.
    pub(super) fn place_now(&self) -> Option<Place> {
        let now = |[first, second]: [&Arc<Semaphore>; 2]| {
            Some(Place([first.clone().try_acquire_owned().ok()?, second.clone().try_acquire_owned().ok()?]))
        };
        now(self.own()).or_else(|| now(self.common()))
    }

    /// Waits for a place. None of them is ever closed, so there always is one.
    pub(super) async fn place(&self) -> Option<Place> {
        let wait = async |[first, second]: [&Arc<Semaphore>; 2]| {
            Some(Place([first.clone().acquire_owned().await.ok()?, second.clone().acquire_owned().await.ok()?]))
        };
        tokio::select! {
            biased;
            place = wait(self.own()) => place,
            place = wait(self.common()) => place,
        }
    }

    /// Waits until one more small file may be sent to this peer.
    pub(super) async fn small(&self) -> Option<SemaphorePermit<'_>> {
        self.lane.small.acquire().await.ok()
    }

    fn own(&self) -> [&Arc<Semaphore>; 2] {
        [&self.own, &self.gate.places_of_links]
    }

    fn common(&self) -> [&Arc<Semaphore>; 2] {
        [&self.lane.places, &self.gate.places]
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_people_talk_files_have_a_rate() {
        const PIECE: usize = 1_000_000;
        let talk = Talk::default();
        let gate = Gate::new(Limits::default(), talk.clone());
        let lane = gate.lane(&"alice".parse().unwrap());
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

    #[tokio::test]
    async fn whatever_others_send_a_link_has_a_place() {
        let gate = Arc::new(Gate::new(Limits::default(), Talk::default()));
        let mut held = Vec::new();
        let mut fill = |user: &str| {
            let entry = Entry::new(gate.clone(), gate.lane(&user.parse().unwrap()));
            let places: Vec<Place> = std::iter::from_fn(|| entry.place_now()).collect();
            let count = places.len();
            held.push((entry, places));
            count
        };
        assert_eq!(["alice", "alice", "bob", "carol", "dave", "erin"].map(&mut fill), [9, 1, 9, 9, 9, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_with_many_streams_gets_no_more_than_one_with_few() {
        let gate = Arc::new(Gate::new(Limits { total: Some(1_000_000), per_peer: None }, Talk::default()));
        let mut streams = tokio::task::JoinSet::new();
        for (user, count) in [("alice", 8), ("carol", 1)] {
            for _ in 0..count {
                let (gate, user) = (gate.clone(), user.parse::<UserName>().unwrap());
                let lane = gate.lane(&user);
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
