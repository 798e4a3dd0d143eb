//! Slots for uploads: they bound the files that are sent at once, and go round between users.
//!
//! A free slot goes to the waiting user that holds the fewest, in turn. Its holder keeps it while nobody waits. While
//! somebody does, it is given back by those who take less than a minimum rate, by those who hold more than others, and
//! after a turn by everybody. The piece that is being written goes on; only the next one waits for a slot.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | large files that are sent at once | 48, of them 16 to one user | they wait for a slot, in turn |
//! | small files in addition | 32, of them 4 to one user | the same |
//! | requests of one user for data that are handled at once, with or without a slot | 24 | one after another |
//! | rate below which a slot is given back while others wait | 512 KiB a second, over half a second | |
//! | time that a slot is kept while others wait | 2 s | |
//! | bytes that are sent and not yet acknowledged | `TOTAL_SEND_WINDOW` over all links, in equal parts, but `MIN_SEND_WINDOW` for each; of a link that took nothing yet, `FIRST_SEND_WINDOW` | the next piece waits |
//! | time in which a piece is taken | 60 s, or 30 s in which nothing moves over its link | the stream is given up |

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use shared::UserName;
use tokio::time::Instant;

use crate::engine::fair_slots::{FairSlot, FairSlotBounds, FairSlots};
use crate::net::link::FIRST_SEND_WINDOW;

const LARGE: FairSlotBounds = FairSlotBounds { total: 48, per_key: 16 };
const SMALL: FairSlotBounds = FairSlotBounds { total: 32, per_key: 4 };
/// Number of large files beyond which pieces are small.
const CROWDED_FILES: usize = 8;
/// Time over which a rate is measured.
const RATE_WINDOW: Duration = Duration::from_millis(500);
/// Time that a slot is kept while somebody waits for it.
const TURN: Duration = Duration::from_secs(2);
/// Bytes a second below which a holder doesn't make use of its slot.
const MIN_RATE: u64 = 512 * 1024;
/// Bytes that all uploading links together may have unacknowledged.
const TOTAL_SEND_WINDOW: u64 = 32 << 20;
const MIN_SEND_WINDOW: u64 = 64 * 1024;

/// The slots for large and for small files.
#[derive(Debug)]
pub(super) struct UploadSlots {
    large: FairSlots<UserName>,
    small: FairSlots<UserName>,
    /// Links over which data was asked for that is not sent yet, and how often that was.
    links: AtomicUsize,
    requests: AtomicUsize,
}

/// Held as long as a request for data over a link is answered.
#[derive(Debug)]
pub(super) struct SendingLink<'a> {
    slots: &'a UploadSlots,
    /// Those of the link.
    requests: &'a AtomicUsize,
}

/// A stream's slot: held, or given back for now.
#[derive(Debug)]
pub(super) struct UploadSlot<'a> {
    slots: &'a FairSlots<UserName>,
    user: &'a UserName,
    held: Option<HeldUploadSlot>,
    is_for_small: bool,
    /// Bytes that the other side took.
    bytes_moved: AtomicU64,
}

#[derive(Debug)]
struct HeldUploadSlot {
    slot: FairSlot<UserName>,
    since: Instant,
    /// Start of the current rate measurement.
    window_start: Instant,
    moved_before: u64,
}

/// The demand for slots while a user holds one. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SlotContention {
    /// Slots that this user holds.
    own: usize,
    /// The fewest slots that another waiting user holds; `None` if no other user waits.
    fewest_held_by_waiting: Option<usize>,
    /// True if more files of this user wait.
    has_own_waiting: bool,
}

impl UploadSlots {
    pub(super) fn new() -> Self {
        let (large, small) = (FairSlots::new(LARGE), FairSlots::new(SMALL));
        Self { large, small, links: AtomicUsize::new(0), requests: AtomicUsize::new(0) }
    }

    /// Returns a slot for a file of any size, if one is free.
    pub(super) fn try_acquire_large<'a>(&'a self, user: &'a UserName) -> Option<UploadSlot<'a>> {
        self.large.try_acquire(user).map(|slot| UploadSlot::new(&self.large, user, slot))
    }

    /// Waits for a slot for a large file.
    pub(super) async fn acquire_large<'a>(&'a self, user: &'a UserName) -> UploadSlot<'a> {
        UploadSlot::new(&self.large, user, self.large.acquire(user).await)
    }

    /// Waits for a slot for small files.
    pub(super) async fn acquire_small<'a>(&'a self, user: &'a UserName) -> UploadSlot<'a> {
        UploadSlot { is_for_small: true, ..UploadSlot::new(&self.small, user, self.small.acquire(user).await) }
    }

    /// Counts a link among those that are sent data while one of its `requests` is answered.
    pub(super) fn sending<'a>(&'a self, requests: &'a AtomicUsize) -> SendingLink<'a> {
        if requests.fetch_add(1, Ordering::Relaxed) == 0 {
            self.links.fetch_add(1, Ordering::Relaxed);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        SendingLink { slots: self, requests }
    }

    /// True if so many files are sent at once that each gets little memory.
    pub(super) fn is_crowded(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > CROWDED_FILES
    }

    /// What a link may have unacknowledged now that so much was written to it. Of one that acknowledges nothing, no more than
    /// twice the first window was written.
    pub(super) fn send_window(&self, written: u64) -> u64 {
        let links = u64::try_from(self.links.load(Ordering::Relaxed)).unwrap_or(u64::MAX).max(1);
        (FIRST_SEND_WINDOW + written / 2).min((TOTAL_SEND_WINDOW / links).max(MIN_SEND_WINDOW))
    }
}

impl Drop for SendingLink<'_> {
    fn drop(&mut self) {
        if self.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.slots.links.fetch_sub(1, Ordering::Relaxed);
        }
        self.slots.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<'a> UploadSlot<'a> {
    fn new(slots: &'a FairSlots<UserName>, user: &'a UserName, slot: FairSlot<UserName>) -> Self {
        Self {
            slots,
            user,
            held: Some(HeldUploadSlot::new(slot, 0)),
            is_for_small: false,
            bytes_moved: AtomicU64::new(0),
        }
    }

    /// Counts bytes that the other side took.
    pub(super) fn note_moved(&self, bytes: usize) {
        self.bytes_moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether only small files may be sent with it.
    pub(super) const fn is_for_small(&self) -> bool {
        self.is_for_small
    }

    /// Gives the slot back.
    pub(super) fn give_back(&mut self) {
        self.held = None;
    }

    /// Gives the slot back if others are to have it; true if it did.
    pub(super) fn yield_if_due(&mut self) -> bool {
        let moved = self.bytes_moved.load(Ordering::Relaxed);
        let is_due = self.held.as_mut().is_some_and(|held| held.is_due(moved, Instant::now()));
        if is_due {
            self.held = None;
        }
        is_due
    }

    /// Waits for a slot unless this one is held.
    pub(super) async fn reacquire(&mut self) {
        if self.held.is_none() {
            let slot = self.slots.acquire(self.user).await;
            self.held = Some(HeldUploadSlot::new(slot, self.bytes_moved.load(Ordering::Relaxed)));
        }
    }
}

impl HeldUploadSlot {
    fn new(slot: FairSlot<UserName>, moved_before: u64) -> Self {
        let now = Instant::now();
        Self { slot, since: now, window_start: now, moved_before }
    }

    fn is_due(&mut self, moved: u64, now: Instant) -> bool {
        let measured = now.duration_since(self.window_start);
        // A shorter measurement would take the pause between two pieces for slowness.
        if measured < RATE_WINDOW {
            return false;
        }
        let (own, fewest_held_by_waiting, has_own_waiting) =
            (self.slot.held(), self.slot.fewest_held_by_waiting(), self.slot.has_own_waiting());
        let bytes = moved - self.moved_before;
        (self.window_start, self.moved_before) = (now, moved);
        must_yield(
            SlotContention { own, fewest_held_by_waiting, has_own_waiting },
            bytes,
            measured,
            now.duration_since(self.since),
        )
    }
}

fn must_yield(rivals: SlotContention, bytes: u64, measured: Duration, held_for: Duration) -> bool {
    let had_its_turn = held_for >= TURN;
    let Some(poorest) = rivals.fewest_held_by_waiting else {
        // Only files of the same user wait: they take turns whatever their rates.
        return rivals.has_own_waiting && had_its_turn;
    };
    // More than one slot apart: else two users would pass a slot to and fro.
    let is_rich = rivals.own > poorest + 1;
    let is_slow = u128::from(bytes) * 1_000_000 < u128::from(MIN_RATE) * measured.as_micros();
    // Users with equally many slots keep them: an exchange would only cost read-ahead.
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
        let (fast, slow) = (MIN_RATE, MIN_RATE / 4);
        let alone = SlotContention { own: 16, fewest_held_by_waiting: None, has_own_waiting: false };
        assert!(!must_yield(alone, 0, half, TURN * 100));
        let own_wait = SlotContention { has_own_waiting: true, ..alone };
        assert!(!must_yield(own_wait, 0, half, TURN / 2) && must_yield(own_wait, fast, half, TURN));
        let rivals =
            |own, poorest| SlotContention { own, fewest_held_by_waiting: Some(poorest), has_own_waiting: false };
        assert!(must_yield(rivals(1, 1), slow, half, half) && !must_yield(rivals(1, 1), fast, half, TURN * 9));
        assert!(must_yield(rivals(2, 0), fast, half, half));
        assert!(!must_yield(rivals(1, 0), fast, half, half) && must_yield(rivals(1, 0), fast, half, TURN));
    }

    #[test]
    fn what_is_unacknowledged_is_shared_out() {
        let slots = UploadSlots::new();
        assert_eq!(slots.send_window(1 << 30), TOTAL_SEND_WINDOW);
        let links: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
        let mut requests: Vec<_> = links[..40].iter().flat_map(|link| [link; 4]).map(|l| slots.sending(l)).collect();
        assert_eq!(slots.send_window(1 << 30), TOTAL_SEND_WINDOW / 40);
        requests.extend(links.iter().map(|link| slots.sending(link)));
        assert_eq!(slots.send_window(1 << 30), MIN_SEND_WINDOW);
        drop(requests);
        assert_eq!(slots.send_window(1 << 30), TOTAL_SEND_WINDOW);
    }

    #[test]
    fn a_link_that_acknowledges_nothing_is_sent_little() {
        let (slots, mut written) = (UploadSlots::new(), 0);
        // Each time, the window is filled.
        for _ in 0..100 {
            written = slots.send_window(written);
        }
        assert!((FIRST_SEND_WINDOW..=2 * FIRST_SEND_WINDOW).contains(&written), "{written}");
        // One that takes all of it has the whole window soon.
        let rounds = (0..).take_while(|_| {
            let window = slots.send_window(written);
            written += window;
            window < TOTAL_SEND_WINDOW
        });
        assert!(rounds.count() < 20);
    }

    #[test]
    fn files_are_many_when_more_than_eight_are_asked_for() {
        let (slots, link) = (UploadSlots::new(), AtomicUsize::new(0));
        let mut requests: Vec<_> = (0..=CROWDED_FILES).map(|_| slots.sending(&link)).collect();
        assert!(slots.is_crowded());
        requests.pop();
        assert!(!slots.is_crowded());
    }

    /// Slow readers of many accounts, and one that takes what it gets: it never waits for longer than a window.
    #[tokio::test(start_paused = true)]
    async fn slow_readers_of_many_accounts_keep_nobody_waiting() {
        let slots = std::sync::Arc::new(UploadSlots::new());
        let mut slow = tokio::task::JoinSet::new();
        for number in 0..40 {
            for _ in 0..16 {
                let slots = slots.clone();
                slow.spawn(async move {
                    let user = user(&format!("sybil{number}"));
                    let mut slot = slots.acquire_large(&user).await;
                    loop {
                        slot.reacquire().await;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        slot.note_moved(1);
                        slot.yield_if_due();
                    }
                });
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let alice = user("alice");
        let begun = Instant::now();
        let mut slot = slots.acquire_large(&alice).await;
        for _ in 0..50 {
            slot.reacquire().await;
            slot.note_moved(1 << 20);
            tokio::time::sleep(Duration::from_millis(100)).await;
            slot.yield_if_due();
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?} for five seconds' work", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn all_links_of_one_user_have_a_turn() {
        let slots = std::sync::Arc::new(UploadSlots::new());
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let slots = slots.clone();
            streams.spawn(async move {
                let alice = user("alice");
                let (mut slot, mut longest) = (slots.acquire_large(&alice).await, Duration::ZERO);
                for _ in 0..100 {
                    let waits = Instant::now();
                    slot.reacquire().await;
                    longest = longest.max(waits.elapsed());
                    slot.note_moved(1 << 20);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    slot.yield_if_due();
                }
                longest
            });
        }
        while let Some(longest) = streams.join_next().await {
            assert!(longest.unwrap() < Duration::from_secs(4), "no link is silent for long");
        }
    }
}
