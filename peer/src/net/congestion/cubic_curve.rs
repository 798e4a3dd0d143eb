//! The curve along which CUBIC's window grows (RFC 9438, sections 4.1 to 4.4).

use std::time::{Duration, Instant};

use super::{as_f64, to_bytes};

/// The share of the window that is kept at congestion.
pub(super) const BETA: f64 = 0.7;
/// The steepness of the curve, in packets a second cubed.
const C: f64 = 0.4;
/// The window grows by no more than this factor within a round trip.
const MAX_GROWTH: f64 = 1.5;

/// The curve since the last reduction.
#[derive(Debug, Clone, Default)]
pub(super) struct CubicCurve {
    /// Its beginning; `None` until the window grows by it.
    begun: Option<Instant>,
    /// The window at which it is flat, in bytes, and the time until then in seconds.
    plateau: f64,
    time_to_plateau: f64,
    /// Growth that is less than a byte so far.
    fraction: f64,
}

impl CubicCurve {
    /// Begins at its plateau, from where it first grows slowly.
    pub(super) fn restart(&mut self, window: u64) {
        *self = Self { plateau: as_f64(window), ..Self::default() };
    }

    /// Begins with a reduction of the window from `before` to `after` bytes.
    pub(super) fn reduce(&mut self, before: u64, after: u64, mtu: u64, now: Instant) {
        let (window, kept) = (as_f64(before), as_f64(after));
        // Reduced before it was where it had been: another flow needs room (section 4.7).
        let plateau = if window < self.plateau { window * (1.0 + BETA) / 2.0 } else { window };
        let time_to_plateau = ((plateau - kept).max(0.0) / as_f64(mtu) / C).cbrt();
        *self = Self { begun: Some(now), plateau, time_to_plateau, fraction: 0.0 };
    }

    /// Returns the bytes by which the window grows when `acked` bytes are acknowledged.
    pub(super) fn growth(&mut self, window: u64, acked: u64, mtu: u64, rtt: Duration, now: Instant) -> u64 {
        let (mtu, rtt, window) = (as_f64(mtu), rtt.as_secs_f64().max(1e-6), as_f64(window));
        let time = now.saturating_duration_since(*self.begun.get_or_insert(now)).as_secs_f64();
        let cubic = self.plateau + C * (time + rtt - self.time_to_plateau).powi(3) * mtu;
        // As fast as Reno would, at least: on short round trips it is the faster one (section 4.3).
        let reno = self.plateau * BETA + 3.0 * (1.0 - BETA) / (1.0 + BETA) * (time / rtt) * mtu;
        let target = cubic.max(reno).min(window * MAX_GROWTH);
        self.fraction += (target - window).max(0.0) / window * as_f64(acked);
        let whole = self.fraction.floor();
        self.fraction -= whole;
        to_bytes(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1000;
    const RTT: Duration = Duration::from_millis(100);

    /// Returns the window after each of these round trips, in which all of it is acknowledged.
    fn windows(curve: &mut CubicCurve, mut window: u64, begin: Instant, rounds: u32) -> Vec<u64> {
        let round = |number| {
            window += curve.growth(window, window, MTU, RTT, begin + RTT * number);
            window
        };
        (0..rounds).map(round).collect()
    }

    #[test]
    fn it_returns_to_the_plateau_and_stays_there_for_a_while() {
        let (mut curve, now) = (CubicCurve::default(), Instant::now());
        curve.reduce(1_000_000, 700_000, MTU, now);
        // cbrt(300 packets / 0.4) = 9.1 s.
        let windows = windows(&mut curve, 700_000, now, 150);
        assert!(windows.is_sorted());
        assert!((980_000..=1_000_000).contains(&windows[80]), "{}", windows[80]);
        assert!(windows[100] - windows[80] < 20_000, "{} {}", windows[80], windows[100]);
        assert!(windows[149] > 1_050_000, "{}", windows[149]);
    }

    #[test]
    fn a_second_reduction_below_the_plateau_leaves_room() {
        let (mut curve, now) = (CubicCurve::default(), Instant::now());
        curve.reduce(1_000_000, 700_000, MTU, now);
        curve.reduce(800_000, 560_000, MTU, now);
        assert!((curve.plateau - 680_000.0).abs() < 1.0);
    }

    #[test]
    fn short_round_trips_grow_as_with_reno() {
        let (mut curve, now, rtt) = (CubicCurve::default(), Instant::now(), Duration::from_millis(1));
        curve.reduce(20_000, 14_000, MTU, now);
        let mut window = 14_000;
        for round in 0..100 {
            window += curve.growth(window, window, MTU, rtt, now + rtt * round);
        }
        // 0.53 packets a round trip.
        assert!((60_000..=70_000).contains(&window), "{window}");
    }

    #[test]
    fn it_never_leaps() {
        let (mut curve, now) = (CubicCurve::default(), Instant::now());
        curve.restart(10_000);
        assert_eq!(curve.growth(10_000, 10_000, MTU, RTT, now), 0);
        assert!(curve.growth(10_000, 10_000, MTU, RTT, now + Duration::from_secs(1_000_000)) <= 5_000);
    }
}
