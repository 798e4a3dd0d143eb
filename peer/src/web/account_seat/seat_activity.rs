//! The use of a seat: whether a browser is there, and for how long none was.
//!
//! The seat of the local page stays awake. At a door a seat rests when no browser has been there for a while: its node leaves
//! the tracker, and comes back with the next call. How many are awake at a time is bounded.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// The time that a call waits for the seat's node to come back.
const WAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time after which another seat is asked to make place.
const PRESSURE_INTERVAL: Duration = Duration::from_millis(500);

/// The bounds of seats that rest.
#[derive(Debug, Clone)]
pub(in crate::web) struct RestRules {
    /// The time after the last use after which a seat rests.
    pub(in crate::web) after: Duration,
    /// One permit for each seat that is awake.
    pub(in crate::web) awake: Arc<Semaphore>,
    /// Told when a seat finds no permit, and again until it has one.
    pub(in crate::web) pressure: Arc<Notify>,
}

/// The use of one seat.
#[derive(Debug)]
pub(in crate::web) struct SeatActivity {
    /// `None` for a seat that never rests.
    rules: Option<RestRules>,
    usage: watch::Sender<SeatUsage>,
    /// Held while the seat is awake.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

#[derive(Debug, Clone, Copy)]
struct SeatUsage {
    last: Instant,
    /// Counts the uses: two may be at one time.
    count: u64,
    streams: usize,
    is_awake: bool,
    /// Somebody else needs the place, and nobody has used it since.
    is_evicted: bool,
}

/// A stream of events that is open at a seat.
#[derive(Debug)]
pub(in crate::web) struct OpenStream(Arc<SeatActivity>);

impl RestRules {
    /// Waits for a place among the awake; `None` if there are none any more. Cancel-safe.
    pub(in crate::web) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let waiting = self.awake.clone().acquire_owned();
        tokio::pin!(waiting);
        let mut asks = interval(PRESSURE_INTERVAL);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // While a place is free, nobody has to rest for it.
                biased;
                permit = &mut waiting => return permit.ok(),
                // Again and again: whoever was asked may have got work at that moment, or two waited at once.
                _ = asks.tick() => self.pressure.notify_one(),
            }
        }
    }
}

impl SeatActivity {
    /// Returns the activity of a seat that never rests.
    pub(in crate::web) fn always_awake() -> Arc<Self> {
        Arc::new(Self::new(None, None))
    }

    /// Returns the activity of a seat that is awake, by this permit of the rules.
    pub(in crate::web) fn resting(rules: RestRules, permit: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self::new(Some(rules), Some(permit)))
    }

    fn new(rules: Option<RestRules>, permit: Option<OwnedSemaphorePermit>) -> Self {
        let usage = SeatUsage { last: Instant::now(), count: 0, streams: 0, is_awake: true, is_evicted: false };
        Self { rules, usage: watch::Sender::new(usage), permit: Mutex::new(permit) }
    }

    /// Records that the seat is used.
    pub(in crate::web) fn touch(&self) {
        self.usage.send_modify(|usage| {
            usage.last = Instant::now();
            usage.count += 1;
            usage.is_evicted = false;
        });
    }

    /// Records a call, and waits until the seat is awake. Returns false if that takes too long: there is no place, or no
    /// tracker.
    pub(in crate::web) async fn call(&self) -> bool {
        self.touch();
        let mut usage = self.usage.subscribe();
        // The sender lives as long as `self`.
        timeout(WAKE_TIMEOUT, usage.wait_for(|usage| usage.is_awake)).await.is_ok()
    }

    /// Records a stream that stays open until it is dropped.
    pub(in crate::web) fn open_stream(self: &Arc<Self>) -> OpenStream {
        self.usage.send_modify(|usage| {
            usage.streams += 1;
            usage.is_evicted = false;
        });
        OpenStream(self.clone())
    }

    /// Waits until the seat may rest: unused for long enough, or unused and its place needed. Cancel-safe.
    pub(in crate::web) async fn unused(&self) {
        let Some(RestRules { after, .. }) = self.rules else { return std::future::pending().await };
        let mut changes = self.usage.subscribe();
        loop {
            let usage = *changes.borrow_and_update();
            if usage.is_evicted {
                return;
            }
            tokio::select! {
                Ok(()) = changes.changed() => {}
                () = sleep_until(usage.last + after), if usage.streams == 0 => return,
            }
        }
    }

    /// Returns how long the seat has been unused, if no browser is there, and it is awake and not about to rest.
    pub(in crate::web) fn idle_time(&self) -> Option<Duration> {
        let usage = *self.usage.borrow();
        (usage.streams == 0 && usage.is_awake && !usage.is_evicted).then(|| usage.last.elapsed())
    }

    /// True if the seat rests.
    pub(in crate::web) fn is_resting(&self) -> bool {
        !self.usage.borrow().is_awake
    }

    /// Asks the seat to rest now, unless a browser is there.
    pub(in crate::web) fn evict(&self) {
        self.usage.send_modify(|usage| usage.is_evicted = usage.streams == 0 && usage.is_awake);
    }

    /// Begins the rest: the seat's node is about to end. The place is free for another one after that.
    pub(in crate::web) fn begin_rest(&self) -> RestingSeat {
        let mut since = 0;
        self.usage.send_modify(|usage| {
            (usage.is_awake, usage.is_evicted) = (false, false);
            // At the same moment: a use after it has to wake the seat.
            since = usage.count;
        });
        RestingSeat { since, permit: self.permit.lock().take() }
    }

    /// Waits for the next use after the rest began, and for a place among the awake.
    pub(in crate::web) async fn wanted(&self, rest: RestingSeat) {
        let RestingSeat { since, permit } = rest;
        // The node has ended by now.
        drop(permit);
        let mut usage = self.usage.subscribe();
        let _ = usage.wait_for(|usage| usage.count > since || usage.streams > 0).await;
        let Some(rules) = &self.rules else { return };
        let permit = rules.place().await;
        *self.permit.lock() = permit;
    }

    /// Ends the rest: the seat's node is there again.
    pub(in crate::web) fn end_rest(&self) {
        self.usage.send_modify(|usage| usage.is_awake = true);
    }
}

/// A seat whose node ends. It keeps its place until then.
#[derive(Debug)]
pub(in crate::web) struct RestingSeat {
    /// The number of uses when it began.
    since: u64,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.usage.send_modify(|usage| {
            // A stream is a use until its end: the time without use counts from here.
            usage.streams -= 1;
            usage.last = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn rules(awake: &Arc<Semaphore>) -> RestRules {
        RestRules { after: 10 * MINUTE, awake: awake.clone(), pressure: Arc::default() }
    }

    fn seat(awake: &Arc<Semaphore>) -> Arc<SeatActivity> {
        let permit = awake.clone().try_acquire_owned().unwrap();
        SeatActivity::resting(rules(awake), permit)
    }

    #[tokio::test(start_paused = true)]
    async fn a_seat_rests_ten_minutes_after_the_last_browser_left() {
        let awake = Arc::new(Semaphore::new(1));
        let seat = seat(&awake);
        let stream = seat.open_stream();
        assert!(timeout(60 * MINUTE, seat.unused()).await.is_err(), "a browser is there");
        drop(stream);
        assert!(timeout(9 * MINUTE, seat.unused()).await.is_err() && seat.call().await);
        assert!(timeout(9 * MINUTE, seat.unused()).await.is_err(), "a call counts as well");
        assert!(timeout(2 * MINUTE, seat.unused()).await.is_ok());
        let rest = seat.begin_rest();
        assert!(seat.is_resting() && seat.idle_time().is_none() && awake.available_permits() == 0);
        let woken = async {
            seat.wanted(rest).await;
            seat.end_rest();
        };
        let (woken, called) = tokio::join!(timeout(MINUTE, woken), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(awake.available_permits(), 1);
            seat.call().await
        });
        assert!(woken.is_ok() && called && !seat.is_resting() && awake.available_permits() == 0);
        drop(seat);
        assert_eq!(awake.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_finds_no_place_is_told_so_and_an_evicted_seat_makes_one() {
        let awake = Arc::new(Semaphore::new(1));
        let (first, rules) = (seat(&awake), rules(&awake));
        let pressure = rules.pressure.clone();
        let second = Arc::new(SeatActivity::new(Some(rules), None));
        let rest = second.begin_rest();
        let wake = async {
            second.wanted(rest).await;
            second.end_rest();
        };
        tokio::pin!(wake);
        tokio::select! {
            () = &mut wake => panic!("there is no place"),
            called = second.call() => assert!(!called),
        }
        assert!(timeout(MINUTE, pressure.notified()).await.is_ok());
        let stream = first.open_stream();
        first.evict();
        assert!(timeout(MINUTE, first.unused()).await.is_err(), "a browser is there");
        drop(stream);
        first.evict();
        assert!(first.idle_time().is_none(), "the next one who waits has another seat rest");
        first.touch();
        assert!(timeout(MINUTE, first.unused()).await.is_err() && first.idle_time().is_some(), "it got work");
        first.evict();
        assert!(timeout(MINUTE, first.unused()).await.is_ok());
        drop(first.begin_rest());
        wake.await;
        assert!(second.call().await);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_place_asks_until_there_is_one() {
        let awake = Arc::new(Semaphore::new(1));
        let (taken, rules) = (awake.clone().try_acquire_owned().unwrap(), rules(&awake));
        let asked = async {
            for _ in 0..3 {
                rules.pressure.notified().await;
            }
            drop(taken);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            permit = timeout(MINUTE, rules.place()) => assert!(permit.unwrap().is_some()),
            () = asked => {}
        }
        assert!(timeout(MINUTE, rules.place()).await.is_ok());
        assert!(timeout(MINUTE, rules.pressure.notified()).await.is_err(), "a free place needs nobody to rest");
    }

    #[tokio::test(start_paused = true)]
    async fn the_local_seat_never_rests() {
        let seat = SeatActivity::always_awake();
        assert!(timeout(1000 * MINUTE, seat.unused()).await.is_err() && seat.call().await);
    }
}
