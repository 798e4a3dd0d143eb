//! What is known of a path: bytes delivered a second, the least round trip, the queue, the losses.
//!
//! Time is cut into rounds: one ends when a packet that was sent after its beginning is acknowledged, so that it lasts a
//! round trip. The delivery rate is the bytes of a round over its duration; acknowledgements that come in bunches don't
//! distort that.

use std::time::{Duration, Instant};

use super::as_f64;

/// Rounds whose highest rate counts.
const RATE_ROUNDS: usize = 10;
/// Batches of acknowledgements whose least round trip tells the queue.
const QUEUE_SAMPLES: usize = 8;
/// The time after which the least round trip is forgotten unless it was seen again: routes change.
const MIN_RTT_LIFETIME: Duration = Duration::from_secs(5);
/// The delay from which there is a queue: a quarter of the least round trip within these bounds. Less is the noise of
/// timers and of sending in bursts.
const QUEUE_DELAY: std::ops::RangeInclusive<Duration> = Duration::from_micros(500)..=Duration::from_millis(5);
/// Packets that must have been sent in a round before its losses say something.
const MIN_ROUND_PACKETS: u64 = 20;

/// A round that is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PathRound {
    /// Bytes delivered a second.
    pub(super) rate: f64,
    /// True if the application had less to send than the window allowed.
    pub(super) is_app_limited: bool,
}

/// The model of one path.
#[derive(Debug, Clone)]
pub(super) struct PathModel {
    round_begun: Instant,
    /// Bytes acknowledged and lost in this round.
    delivered: u64,
    lost: u64,
    is_app_limited: bool,
    last_loss_share: f64,
    rates: [f64; RATE_ROUNDS],
    next_rate: usize,
    min_rtt: Option<Duration>,
    min_rtt_at: Instant,
    /// The least round trip since `min_rtt_at`, without that one.
    next_min_rtt: Option<Duration>,
    recent_rtts: [Option<Duration>; QUEUE_SAMPLES],
    next_recent: usize,
    /// The least round trip in the batch of acknowledgements that is handled.
    batch_rtt: Option<Duration>,
}

impl PathModel {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            round_begun: now,
            delivered: 0,
            lost: 0,
            is_app_limited: false,
            last_loss_share: 0.0,
            rates: [0.0; RATE_ROUNDS],
            next_rate: 0,
            min_rtt: None,
            min_rtt_at: now,
            next_min_rtt: None,
            recent_rtts: [None; QUEUE_SAMPLES],
            next_recent: 0,
            batch_rtt: None,
        }
    }

    /// Records an acknowledged packet; returns true if the round is over.
    pub(super) fn record_ack(&mut self, now: Instant, sent: Instant, bytes: u64, is_app_limited: bool) -> bool {
        self.delivered = self.delivered.saturating_add(bytes);
        self.is_app_limited |= is_app_limited;
        let rtt = now.saturating_duration_since(sent);
        self.batch_rtt = Some(self.batch_rtt.map_or(rtt, |least| least.min(rtt)));
        sent >= self.round_begun
    }

    /// Ends a batch of acknowledgements that arrived together.
    pub(super) fn end_batch(&mut self, now: Instant) {
        let Some(rtt) = self.batch_rtt.take() else { return };
        if let Some(place) = self.recent_rtts.get_mut(self.next_recent) {
            *place = Some(rtt);
        }
        self.next_recent = (self.next_recent + 1) % QUEUE_SAMPLES;
        // One just as short counts as seen again, or the least of a steady path would be forgotten every few seconds.
        if self.min_rtt.is_none_or(|least| rtt <= least) {
            (self.min_rtt, self.min_rtt_at, self.next_min_rtt) = (Some(rtt), now, None);
        } else {
            self.next_min_rtt = Some(self.next_min_rtt.map_or(rtt, |least| least.min(rtt)));
        }
    }

    /// Records lost bytes.
    pub(super) const fn record_loss(&mut self, bytes: u64) {
        self.lost = self.lost.saturating_add(bytes);
    }

    /// Ends a round and begins the next.
    pub(super) fn end_round(&mut self, now: Instant) -> PathRound {
        // A round may end within one step of the clock, and must not have an infinite rate.
        let duration = now.saturating_duration_since(self.round_begun).max(Duration::from_micros(1));
        let rate = as_f64(self.delivered) / duration.as_secs_f64();
        let end = PathRound { rate, is_app_limited: self.is_app_limited };
        // A rate that the application held back is a lower bound.
        if !end.is_app_limited || rate > self.rate() {
            if let Some(place) = self.rates.get_mut(self.next_rate) {
                *place = rate;
            }
            self.next_rate = (self.next_rate + 1) % RATE_ROUNDS;
        }
        self.last_loss_share = share(self.lost, self.delivered);
        if now.saturating_duration_since(self.min_rtt_at) > MIN_RTT_LIFETIME {
            (self.min_rtt, self.min_rtt_at, self.next_min_rtt) = (self.next_min_rtt.or(self.min_rtt), now, None);
        }
        (self.round_begun, self.delivered, self.lost, self.is_app_limited) = (now, 0, 0, false);
        end
    }

    /// Returns the highest delivery rate of the last rounds, in bytes a second.
    pub(super) fn rate(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// Returns the least round trip.
    pub(super) const fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt
    }

    /// Returns the bytes that the path holds without a queue.
    pub(super) fn pipe(&self) -> f64 {
        self.rate() * self.min_rtt.unwrap_or_default().as_secs_f64()
    }

    /// Returns the pipe times `factor`, and what a queue too short to be noticed holds.
    pub(super) fn pipe_with_slack(&self, factor: f64) -> f64 {
        self.pipe() * factor + self.rate() * QUEUE_DELAY.start().as_secs_f64()
    }

    /// True if the last packets found no queue, or if too little is known.
    pub(super) fn is_queue_empty(&self) -> bool {
        let Some(least) = self.min_rtt else { return true };
        // `None` sorts first: until all are there, nothing is known.
        let recent = self.recent_rtts.iter().copied().min().flatten();
        let limit = (least / 4).clamp(*QUEUE_DELAY.start(), *QUEUE_DELAY.end());
        recent.is_none_or(|recent| recent.saturating_sub(least) <= limit)
    }

    /// Returns the share of lost bytes: of this round, or of the last one as long as this one is too young.
    pub(super) fn loss_share(&self, mtu: u64) -> f64 {
        let is_young = self.lost + self.delivered <= MIN_ROUND_PACKETS * mtu;
        if is_young { self.last_loss_share } else { share(self.lost, self.delivered) }
    }
}

fn share(lost: u64, delivered: u64) -> f64 {
    as_f64(lost) / as_f64((lost + delivered).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Acknowledges `packets` of 1,000 bytes, sent a millisecond apart from `begin`, each after `rtt`.
    fn deliver(model: &mut PathModel, begin: Instant, packets: u32, rtt: Duration) -> Vec<PathRound> {
        let mut ends = Vec::new();
        for number in 0..packets {
            let sent = begin + MS * number;
            if model.record_ack(sent + rtt, sent, 1000, false) {
                ends.push(model.end_round(sent + rtt));
            }
            model.end_batch(sent + rtt);
        }
        ends
    }

    #[test]
    fn rate_and_least_round_trip_make_the_pipe() {
        let begin = Instant::now();
        let mut model = PathModel::new(begin);
        let ends = deliver(&mut model, begin, 200, 20 * MS);
        assert_eq!(model.min_rtt(), Some(20 * MS));
        // A packet a millisecond: a megabyte a second, of which 20 kB are under way.
        assert!((model.rate() - 1e6).abs() < 1e5 && (model.pipe() - 20_000.0).abs() < 2000.0, "{}", model.rate());
        assert!((8..=11).contains(&ends.len()), "a round lasts a round trip: {}", ends.len());
        assert!(model.is_queue_empty());
        deliver(&mut model, begin + 200 * MS, 7, 40 * MS);
        assert!(model.is_queue_empty(), "one of the last eight was as fast as ever");
        deliver(&mut model, begin + 210 * MS, 1, 40 * MS);
        assert!(!model.is_queue_empty());
    }

    #[test]
    fn a_least_round_trip_that_is_never_seen_again_is_forgotten() {
        let begin = Instant::now();
        let mut model = PathModel::new(begin);
        deliver(&mut model, begin, 100, 20 * MS);
        deliver(&mut model, begin + 100 * MS, 6000, 30 * MS);
        assert_eq!(model.min_rtt(), Some(30 * MS));
    }

    #[test]
    fn a_rate_that_the_application_held_back_lowers_nothing() {
        let begin = Instant::now();
        let mut model = PathModel::new(begin);
        deliver(&mut model, begin, 100, 10 * MS);
        let rate = model.rate();
        for second in 1..30 {
            let sent = begin + Duration::from_secs(second);
            assert!(model.record_ack(sent + 10 * MS, sent, 1000, true));
            assert!(model.end_round(sent + 10 * MS).is_app_limited);
        }
        assert!((model.rate() - rate).abs() < 1.0);
    }

    #[test]
    fn losses_are_a_share_of_the_round() {
        let begin = Instant::now();
        let mut model = PathModel::new(begin);
        model.record_loss(1000);
        assert!(model.loss_share(1000) < 1e-9, "one packet says nothing");
        for _ in 0..39 {
            assert!(!model.record_ack(begin, begin - MS, 1000, false), "all are of one round");
        }
        assert!((model.loss_share(1000) - 0.025).abs() < 1e-9);
        model.end_round(begin + MS);
        assert!((model.loss_share(1000) - 0.025).abs() < 1e-9, "the new round is too young");
    }
}
