//! Who may send files at once, and for how long.
//!
//! A place goes to the user that holds the fewest, in turn. Whoever has one keeps it while nobody waits; while somebody does,
//! it is given back by those who take less than a pace, by those who hold more than others, and after a turn by everybody.
//! What was not written by then is read again when it has a place again: whoever waits keeps nothing in memory.
//!
//! What is under way to somebody grows with what they took: one that acknowledges nothing has little of it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | files that are sent at once | 48, of them 16 to one user | those who wait, in turn |
//! | small files beside them | 32, of them 4 to one user | the same |
//! | requests for data of one user that are answered at once, with or without a place | 24 | one after another |
//! | pace below which a place is given back while others wait | 512 KiB a second, over half a second | |
//! | time that a place is kept while others wait | 2 s | |
//! | bytes that a link was sent and did not acknowledge | 128 KiB and half of what it took, its part of 32 MiB (64 KiB at least), 8 MiB | the next piece waits |
//! | time in which one piece is taken, with a place | 60 s, or 30 s in which nothing moves over its link | the stream is given up |

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use shared::UserName;
use tokio::time::Instant;

use crate::engine::fair_places::{FairPlace, FairPlaces, PlaceBounds};
use crate::net::link::FIRST_SEND_WINDOW;

const LARGE: PlaceBounds = PlaceBounds { total: 48, per_key: 16 };
const SMALL: PlaceBounds = PlaceBounds { total: 32, per_key: 4 };
/// From so many on, pieces are small.
const MANY: usize = 8;
/// How often a pace is looked at.
const WINDOW: Duration = Duration::from_millis(500);
/// How long a place is kept while somebody waits for it.
const TURN: Duration = Duration::from_secs(2);
/// Bytes a second that somebody takes who uses a place.
const PACE: u64 = 512 * 1024;
/// What all links that files are sent over may have unacknowledged.
const UNACKNOWLEDGED: u64 = 32 << 20;
const UNACKNOWLEDGED_LEAST: u64 = 64 * 1024;

/// The places.
#[derive(Debug)]
pub(super) struct UploadPlaces {
    large: FairPlaces<UserName>,
    small: FairPlaces<UserName>,
    /// Links over which data was asked for that is not sent yet, and how often that was.
    links: AtomicUsize,
    requests: AtomicUsize,
}

/// Held as long as a request for data over a link is answered.
#[derive(Debug)]
pub(super) struct SendingLink<'a> {
    places: &'a UploadPlaces,
    /// Those of the link.
    requests: &'a AtomicUsize,
}

/// One stream's way to a place: held, or given back for now.
#[derive(Debug)]
pub(super) struct UploadTurn<'a> {
    places: &'a FairPlaces<UserName>,
    user: &'a UserName,
    held: Option<HeldPlace>,
    is_for_small: bool,
    /// Bytes that the other side took.
    moved: AtomicU64,
}

#[derive(Debug)]
struct HeldPlace {
    place: FairPlace<UserName>,
    since: Instant,
    /// The pace is measured from here on.
    window: Instant,
    moved_before: u64,
}

/// How the others stand while one has a place. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rivals {
    /// Places that this user holds.
    own: usize,
    /// Places that the poorest other user holds who waits.
    poorest: Option<usize>,
    /// Whether more of this user's files wait.
    own_wait: bool,
}

impl UploadPlaces {
    pub(super) fn new() -> Self {
        let (large, small) = (FairPlaces::new(LARGE), FairPlaces::new(SMALL));
        Self { large, small, links: AtomicUsize::new(0), requests: AtomicUsize::new(0) }
    }

    /// A place for a file of any size, if one is free.
    pub(super) fn now<'a>(&'a self, user: &'a UserName) -> Option<UploadTurn<'a>> {
        self.large.try_take(user).map(|place| UploadTurn::new(&self.large, user, place))
    }

    /// Waits for a place for a large file.
    pub(super) async fn large<'a>(&'a self, user: &'a UserName) -> UploadTurn<'a> {
        UploadTurn::new(&self.large, user, self.large.take(user).await)
    }

    /// Waits for a place for small files.
    pub(super) async fn small<'a>(&'a self, user: &'a UserName) -> UploadTurn<'a> {
        UploadTurn { is_for_small: true, ..UploadTurn::new(&self.small, user, self.small.take(user).await) }
    }

    /// Counts a link among those that are sent data while one of its `requests` is answered.
    pub(super) fn sending<'a>(&'a self, requests: &'a AtomicUsize) -> SendingLink<'a> {
        if requests.fetch_add(1, Ordering::Relaxed) == 0 {
            self.links.fetch_add(1, Ordering::Relaxed);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        SendingLink { places: self, requests }
    }

    /// Whether so many files are to be sent at once that each has little in memory.
    pub(super) fn are_many(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > MANY
    }

    /// What a link may have unacknowledged now that so much was written to it. Of one that acknowledges nothing, no more than
    /// twice the first window was written.
    pub(super) fn send_window(&self, written: u64) -> u64 {
        let links = u64::try_from(self.links.load(Ordering::Relaxed)).unwrap_or(u64::MAX).max(1);
        (FIRST_SEND_WINDOW + written / 2).min((UNACKNOWLEDGED / links).max(UNACKNOWLEDGED_LEAST))
    }
}

impl Drop for SendingLink<'_> {
    fn drop(&mut self) {
        if self.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.places.links.fetch_sub(1, Ordering::Relaxed);
        }
        self.places.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<'a> UploadTurn<'a> {
    fn new(places: &'a FairPlaces<UserName>, user: &'a UserName, place: FairPlace<UserName>) -> Self {
        Self { places, user, held: Some(HeldPlace::new(place, 0)), is_for_small: false, moved: AtomicU64::new(0) }
    }

    /// Counts what the other side took.
    pub(super) fn note_moved(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether only small files may be sent with it.
    pub(super) const fn is_for_small(&self) -> bool {
        self.is_for_small
    }

    /// Gives the place back.
    pub(super) fn give_back(&mut self) {
        self.held = None;
    }

    /// Gives the place back if others are to have it; true if it did.
    pub(super) fn yields(&mut self) -> bool {
        let moved = self.moved.load(Ordering::Relaxed);
        let is_due = self.held.as_mut().is_some_and(|held| held.is_due(moved, Instant::now()));
        if is_due {
            self.held = None;
        }
        is_due
    }

    /// Waits for a place unless it has one.
    pub(super) async fn regain(&mut self) {
        if self.held.is_none() {
            let place = self.places.take(self.user).await;
            self.held = Some(HeldPlace::new(place, self.moved.load(Ordering::Relaxed)));
        }
    }
}

impl HeldPlace {
    fn new(place: FairPlace<UserName>, moved_before: u64) -> Self {
        let now = Instant::now();
        Self { place, since: now, window: now, moved_before }
    }

    fn is_due(&mut self, moved: u64, now: Instant) -> bool {
        let measured = now.duration_since(self.window);
        if measured < WINDOW {
            return false;
        }
        let (own, poorest, own_wait) = (self.place.held(), self.place.poorest_waiting(), self.place.own_wait());
        let bytes = moved - self.moved_before;
        (self.window, self.moved_before) = (now, moved);
        must_yield(Rivals { own, poorest, own_wait }, bytes, measured, now.duration_since(self.since))
    }
}

fn must_yield(rivals: Rivals, bytes: u64, measured: Duration, held_for: Duration) -> bool {
    let had_its_turn = held_for >= TURN;
    let Some(poorest) = rivals.poorest else {
        return rivals.own_wait && had_its_turn;
    };
    let is_rich = rivals.own > poorest + 1;
    let is_slow = u128::from(bytes) * 1_000_000 < u128::from(PACE) * measured.as_micros();
    is_rich || is_slow || (had_its_turn && rivals.own > poorest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    #[test]
    fn those_yield_who_are_slow_or_rich_or_had_their_turn() {
        let half = Duration::from_millis(500);
        let (fast, slow) = (PACE, PACE / 4);
        let alone = Rivals { own: 16, poorest: None, own_wait: false };
        assert!(!must_yield(alone, 0, half, TURN * 100));
        let own_wait = Rivals { own_wait: true, ..alone };
        assert!(!must_yield(own_wait, 0, half, TURN / 2) && must_yield(own_wait, fast, half, TURN));
        let rivals = |own, poorest| Rivals { own, poorest: Some(poorest), own_wait: false };
        assert!(must_yield(rivals(1, 1), slow, half, half) && !must_yield(rivals(1, 1), fast, half, TURN * 9));
        assert!(must_yield(rivals(2, 0), fast, half, half));
        assert!(!must_yield(rivals(1, 0), fast, half, half) && must_yield(rivals(1, 0), fast, half, TURN));
    }

    #[test]
    fn what_is_unacknowledged_is_shared_out() {
        let places = UploadPlaces::new();
        assert_eq!(places.send_window(1 << 30), UNACKNOWLEDGED);
        let links: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
        let mut requests: Vec<_> = links[..40].iter().flat_map(|link| [link; 4]).map(|l| places.sending(l)).collect();
        assert_eq!(places.send_window(1 << 30), UNACKNOWLEDGED / 40);
        requests.extend(links.iter().map(|link| places.sending(link)));
        assert_eq!(places.send_window(1 << 30), UNACKNOWLEDGED_LEAST);
        drop(requests);
        assert_eq!(places.send_window(1 << 30), UNACKNOWLEDGED);
    }

    #[test]
    fn a_link_that_acknowledges_nothing_is_sent_little() {
        let (places, mut written) = (UploadPlaces::new(), 0);
        // Each time, the window is filled.
        for _ in 0..100 {
            written = places.send_window(written);
        }
        assert!((FIRST_SEND_WINDOW..=2 * FIRST_SEND_WINDOW).contains(&written), "{written}");
        // One that takes all of it has the whole window soon.
        let rounds = (0..).take_while(|_| {
            let window = places.send_window(written);
            written += window;
            window < UNACKNOWLEDGED
        });
        assert!(rounds.count() < 20);
    }

    #[test]
    fn files_are_many_when_more_than_eight_are_asked_for() {
        let (places, link) = (UploadPlaces::new(), AtomicUsize::new(0));
        let mut requests: Vec<_> = (0..=MANY).map(|_| places.sending(&link)).collect();
        assert!(places.are_many());
        requests.pop();
        assert!(!places.are_many());
    }

    /// Slow readers of many accounts, and one that takes what it gets: it never waits for longer than a window.
    #[tokio::test(start_paused = true)]
    async fn slow_readers_of_many_accounts_keep_nobody_waiting() {
        let places = std::sync::Arc::new(UploadPlaces::new());
        let mut slow = tokio::task::JoinSet::new();
        for number in 0..40 {
            for _ in 0..16 {
                let places = places.clone();
                slow.spawn(async move {
                    let user = user(&format!("sybil{number}"));
                    let mut turn = places.large(&user).await;
                    loop {
                        turn.regain().await;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        turn.note_moved(1);
                        turn.yields();
                    }
                });
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let alice = user("alice");
        let begun = Instant::now();
        let mut turn = places.large(&alice).await;
        for _ in 0..50 {
            turn.regain().await;
            turn.note_moved(1 << 20);
            tokio::time::sleep(Duration::from_millis(100)).await;
            turn.yields();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?} for five seconds' work", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn all_links_of_one_user_have_a_turn() {
        let places = std::sync::Arc::new(UploadPlaces::new());
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let places = places.clone();
            streams.spawn(async move {
                let alice = user("alice");
                let (mut turn, mut longest) = (places.large(&alice).await, Duration::ZERO);
                for _ in 0..100 {
                    let waits = Instant::now();
                    turn.regain().await;
                    longest = longest.max(waits.elapsed());
                    turn.note_moved(1 << 20);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    turn.yields();
                }
                longest
            });
        }
        while let Some(longest) = streams.join_next().await {
            assert!(longest.unwrap() < Duration::from_secs(4), "no link is silent for long");
        }
    }
}
