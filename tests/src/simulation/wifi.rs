//! A path like a Wi-Fi: its rate changes, it loses in bursts, and what it repeats comes late.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{FlowPlan, Observation, SAMPLE_INTERVAL, simulate};
use crate::emulator::{Bottleneck, Bursts, Weather};

/// Bytes a second: 50 to 400 Mbit/s.
const RATES: std::ops::Range<f64> = 6.25e6..50e6;
const RATE_INTERVAL: Duration = Duration::from_millis(100);
const QUEUE_BYTES: usize = 500_000;
/// Of the round trip of 5 ms.
const DELAY: Duration = Duration::from_micros(2500);
const BURSTS: Bursts = Bursts { begin: 0.001, end: 0.2, loss: 0.5 };
/// The share of packets that a detour delays.
const REORDERED: f64 = 0.02;

/// Runs one flow; returns what was seen, and the bytes a second that the path lets through, losses taken off.
///
/// # Panics
/// When the connection ends.
pub fn simulate_wifi(plan: &FlowPlan, detour: Duration, time: Duration, seed: u64) -> (Observation, f64) {
    let reordering = if detour.is_zero() { 0.0 } else { REORDERED };
    let bottleneck = |rate: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate")]
        let rate = rate as u64;
        Some(Bottleneck { rate, queue: QUEUE_BYTES })
    };
    let (mut chance, mut rate, mut capacity) = (StdRng::seed_from_u64(seed), RATES.start, 0.0);
    let (bursts, first) = (Some(BURSTS), bottleneck(rate));
    let weather = Weather { bursts, reordering, detour, bottleneck: first, ..Weather::delayed(DELAY) };
    let seen = simulate(std::slice::from_ref(plan), &weather, time, seed, |weather, passed| {
        if passed.as_millis() % RATE_INTERVAL.as_millis() == 0 {
            rate = chance.random_range(RATES);
            weather.bottleneck = bottleneck(rate);
        }
        capacity += rate * SAMPLE_INTERVAL.as_secs_f64();
    });
    let bad_share = BURSTS.begin / (BURSTS.begin + BURSTS.end);
    (seen, capacity / time.as_secs_f64() * (1.0 - bad_share * BURSTS.loss))
}
