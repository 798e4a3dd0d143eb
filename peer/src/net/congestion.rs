//! Congestion control: CUBIC (RFC 9438) that tells packets lost by chance from those that a full queue dropped.
//!
//! CUBIC takes every loss for congestion. On a path that loses one packet in a hundred whatever is sent, as Wi-Fi does, it
//! never gets its window open: 1 Gbit/s with a round trip of 20 ms is left at a hundredth of its rate. This controller
//! reduces its window only at a loss for which its own sending is a likely reason. It knows two things more than CUBIC:
//! what the path delivers a second, and the least round trip; together, the bytes that the path holds without a queue, the
//! *pipe* (`path_model`).
//!
//! ```text
//!                    a packet is lost
//!                           │
//!   is the window larger than the pipe, or are round trips longer than the least one, or is a fifth lost?
//!          │ no                                   │ yes
//!          ▼                                      ▼
//!   nothing: it was chance              congestion: the window is reduced to 70 %, as by CUBIC,
//!                                       but not below the pipe (TCP Westwood)
//! ```
//!
//! | state | window |
//! |---|---|
//! | startup | doubles each round trip, through losses by chance, until round trips grow (as HyStart++, RFC 9406) or three round trips bring no quarter more (as BBR) |
//! | steady | CUBIC's curve; with an empty queue for eight round trips a quarter more each, since capacity has grown |
//! | probe | half of the pipe for one round trip, at a loss half a second after startup and then ever less often: a queue that never empties, its own or another's, hides the least round trip |
//!
//! Beside a CUBIC flow the queue is seldom empty, so that losses are congestion for both and each gets its share. Where
//! the model is wrong, after a change of the route for instance, it errs towards congestion, and the rest is CUBIC.
//!
//! Sources: RFC 9438; RFC 9406; S. Mascolo et al., "TCP Westwood: Bandwidth estimation for enhanced transport over wireless
//! links" (MobiCom 2001); N. Cardwell et al., "BBR Congestion Control" (draft-ietf-ccwg-bbr), for startup's plateau and
//! the probe.
//!
//! Pure: the time is an argument. A simulation in virtual time (`tests/benches/congestion.rs`) shows what it does on lossy,
//! shared and changing paths.

mod cubic_curve;
mod path_model;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use self::cubic_curve::{BETA, CubicCurve};
use self::path_model::PathModel;

/// On a network a packet is lost after so many later ones arrived, or after so many round trips. Wi-Fi delivers packets that
/// it had to repeat milliseconds after their successors: with 3 packets and 9/8, as usual, each of them would be sent twice.
pub const REORDERED_PACKETS: u32 = 128;
/// See [`REORDERED_PACKETS`].
pub const REORDERED_ROUND_TRIPS: f32 = 2.0;

/// The window may be larger than the pipe by this factor before a loss is taken for congestion.
const PIPE_SLACK: f64 = 1.25;
/// The share of lost bytes that is congestion in any case.
const MAX_CHANCE_LOSS: f64 = 0.2;
/// Growth of the delivery rate in a round trip of startup, and the round trips without it after which startup ends.
const STARTUP_GROWTH: f64 = 1.25;
const STARTUP_ROUNDS: u32 = 3;
/// Round trips with an empty queue after which capacity has grown.
const CALM_ROUNDS: u32 = 8;
/// The time to the first probe, and the longest between two.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// Builds a controller for each connection.
#[derive(Debug, Clone)]
pub struct LossTolerantCubicConfig {
    /// The window at first, in bytes.
    pub initial_window: u64,
}

impl ControllerFactory for LossTolerantCubicConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(LossTolerantCubic::new(self.initial_window, current_mtu, now))
    }
}

/// The controller of one connection.
#[derive(Debug, Clone)]
pub struct LossTolerantCubic {
    initial_window: u64,
    mtu: u64,
    window: u64,
    model: PathModel,
    curve: CubicCurve,
    /// `None` after startup.
    startup: Option<StartupPlateau>,
    /// Packets sent until then belong to a reduction that was made already.
    reduced_at: Option<Instant>,
    calm_rounds: u32,
    probe: Option<QueueProbe>,
    probed_at: Instant,
    probe_interval: Duration,
}

/// The search for the end of startup by the delivery rate.
#[derive(Debug, Clone, Default)]
struct StartupPlateau {
    best_rate: f64,
    rounds: u32,
}

/// A round trip with half the pipe.
#[derive(Debug, Clone)]
struct QueueProbe {
    begun: Instant,
    /// The window after it, if it finds no shorter round trip.
    restored: u64,
    min_rtt: Option<Duration>,
}

impl LossTolerantCubic {
    fn new(initial_window: u64, mtu: u16, now: Instant) -> Self {
        Self {
            initial_window,
            mtu: mtu.into(),
            window: initial_window,
            model: PathModel::new(now),
            curve: CubicCurve::default(),
            startup: Some(StartupPlateau::default()),
            reduced_at: None,
            calm_rounds: 0,
            probe: None,
            probed_at: now,
            probe_interval: PROBE_INTERVAL,
        }
    }

    /// Sets the window, which holds two packets at least (RFC 9002, section 7.2).
    fn set_window(&mut self, bytes: f64) {
        self.window = to_bytes(bytes).max(2 * self.mtu);
    }

    fn handle_round_end(&mut self, now: Instant) {
        let round = self.model.end_round(now);
        self.calm_rounds = if self.model.is_queue_empty() { self.calm_rounds.saturating_add(1) } else { 0 };
        // What the application held back says nothing about the path.
        if round.is_app_limited {
            return;
        }
        let Some(plateau) = &mut self.startup else { return };
        if round.rate > plateau.best_rate * STARTUP_GROWTH {
            *plateau = StartupPlateau { best_rate: round.rate, rounds: 0 };
        } else {
            plateau.rounds += 1;
            if plateau.rounds >= STARTUP_ROUNDS {
                self.leave_startup();
            }
        }
    }

    fn leave_startup(&mut self) {
        self.startup = None;
        self.curve.restart(self.window);
    }

    /// Ends a probe whose round trip is over; returns false if none did.
    fn end_probe(&mut self, now: Instant, sent: Instant) -> bool {
        let Some(probe) = self.probe.take_if(|probe| sent > probe.begun) else { return false };
        let found_shorter = match (self.model.min_rtt(), probe.min_rtt) {
            (Some(after), Some(before)) => after < before - before / 16,
            _ => false,
        };
        if found_shorter {
            // There was a queue all the time, so the loss was congestion after all. Where it was taken for that already, the
            // window is reduced a second time, to 49 %: by a least round trip that was too long the pipe was overrated,
            // and with it the window from which the first reduction began.
            self.probe_interval = PROBE_INTERVAL;
            self.curve.reduce(probe.restored, to_bytes(as_f64(probe.restored) * BETA), self.mtu, now);
            self.set_window((as_f64(probe.restored) * BETA).max(as_f64(self.window)));
        } else {
            self.probe_interval = (self.probe_interval * 2).min(MAX_PROBE_INTERVAL);
            self.window = self.window.max(probe.restored);
        }
        true
    }

    fn begin_probe(&mut self, now: Instant, is_congestion: bool) {
        let mut restored = self.window;
        if is_congestion {
            restored = to_bytes(as_f64(self.window) * BETA);
            self.curve.reduce(self.window, restored, self.mtu, now);
            self.calm_rounds = 0;
        }
        self.probe = Some(QueueProbe { begun: now, restored, min_rtt: self.model.min_rtt() });
        self.probed_at = now;
        // Until the probe's round trip is over, acknowledgements must not widen the window, nor losses narrow it.
        self.reduced_at = Some(now);
        self.set_window(as_f64(self.window).min(self.model.pipe()) / 2.0);
    }

    fn reduce(&mut self, now: Instant) {
        let window = as_f64(self.window);
        // The pipe may be larger than the window, which a loss must never raise.
        let kept = (window * BETA).max(self.model.pipe().min(window));
        self.probe = None;
        self.calm_rounds = 0;
        self.reduced_at = Some(now);
        if self.startup.take().is_some() {
            self.set_window(kept);
            self.curve.restart(self.window);
        } else {
            let before = self.window;
            self.set_window(kept);
            self.curve.reduce(before, self.window, self.mtu, now);
        }
    }

    /// Returns whether a loss has its likely reason in what this connection sends. `lost` is 0 for a mark of ECN.
    fn is_congestion(&self, lost: u64) -> bool {
        // In startup the window is far ahead of what was delivered, and only round trips tell.
        let is_over = self.startup.is_none() && as_f64(self.window) > self.model.pipe_with_slack(PIPE_SLACK);
        lost == 0 || is_over || !self.model.is_queue_empty() || self.model.loss_share(self.mtu) > MAX_CHANCE_LOSS
    }

    /// Returns whether packets sent at that time were sent before the last reduction.
    fn is_before_reduction(&self, sent: Instant) -> bool {
        self.reduced_at.is_some_and(|reduced| sent <= reduced)
    }
}

impl Controller for LossTolerantCubic {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        if self.model.record_ack(now, sent, bytes, app_limited) {
            self.handle_round_end(now);
        }
        // A window that the application leaves unused must not grow (RFC 9002, section 7.8).
        if self.end_probe(now, sent) || app_limited || self.is_before_reduction(sent) {
            return;
        }
        if self.startup.is_some() {
            // Slow start: growth by what was acknowledged doubles the window in a round trip (RFC 9002, section 7.3.1).
            self.window = self.window.saturating_add(bytes);
        } else if self.calm_rounds >= CALM_ROUNDS
            && self.model.is_queue_empty()
            && as_f64(self.window) < 2.0 * self.model.pipe()
        {
            self.window = self.window.saturating_add(bytes / 4);
            self.curve.restart(self.window);
        } else {
            self.window = self.window.saturating_add(self.curve.growth(self.window, bytes, self.mtu, rtt.get(), now));
        }
    }

    fn on_end_acks(&mut self, now: Instant, _in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        self.model.end_batch(now);
        if self.startup.is_some() && !self.model.is_queue_empty() {
            self.leave_startup();
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.model.record_loss(lost_bytes);
        if is_persistent_congestion {
            // Nothing arrives any more: what was known of the path doesn't hold (RFC 9002, section 7.6).
            *self = Self { window: 2 * self.mtu, mtu: self.mtu, ..Self::new(self.initial_window, 0, now) };
            return;
        }
        if self.is_before_reduction(sent) {
            return;
        }
        let is_congestion = self.is_congestion(lost_bytes);
        if self.startup.is_none() && now.saturating_duration_since(self.probed_at) > self.probe_interval {
            self.begin_probe(now, is_congestion);
        } else if is_congestion {
            self.reduce(now);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.window = self.window.max(2 * self.mtu);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window;
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[expect(clippy::cast_precision_loss, reason = "windows are far below 2^53")]
const fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "windows are positive, and a cast saturates"
)]
const fn to_bytes(bytes: f64) -> u64 {
    bytes as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Returns the percentage of the window that a probe at a loss leaves, on a path with these least round trips before and
    /// during it.
    fn left_by_probe(is_congestion: bool, rtt_before: Duration, rtt_during: Duration) -> u64 {
        let begin = Instant::now();
        let mut controller = LossTolerantCubic::new(1_000_000, 1000, begin);
        controller.leave_startup();
        let deliver = |controller: &mut LossTolerantCubic, sent: Instant, rtt: Duration| {
            controller.model.record_ack(sent + rtt, sent, 1000, false);
            controller.model.end_batch(sent + rtt);
        };
        deliver(&mut controller, begin, rtt_before);
        let probed = begin + 100 * MS;
        controller.begin_probe(probed, is_congestion);
        let sent = probed + MS;
        deliver(&mut controller, sent, rtt_during);
        assert!(controller.end_probe(sent + rtt_during, sent));
        (controller.window + 5_000) / 10_000
    }

    #[test]
    fn a_probe_that_finds_a_queue_reduces_once_more_than_its_loss() {
        let without_queue = [false, true].map(|is_congestion| left_by_probe(is_congestion, 20 * MS, 20 * MS));
        assert_eq!(without_queue, [100, 70]);
        let with_queue = [false, true].map(|is_congestion| left_by_probe(is_congestion, 20 * MS, 10 * MS));
        assert_eq!(with_queue, [70, 49]);
    }
}
