//! Congestion control on bad and shared paths, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use peer::net::congestion::{LossTolerantCubicConfig, REORDERED_PACKETS, REORDERED_ROUND_TRIPS};
use tests::emulator::{Bottleneck, Weather};
use tests::simulation::{FlowPlan, simulate, wifi};

/// 100 Mbit/s, with a round trip of 20 ms and a queue of as much.
const RATE: u64 = 12_500_000;
const QUEUE: usize = 250_000;

fn product(begin: Duration) -> FlowPlan {
    let congestion = Arc::new(LossTolerantCubicConfig { initial_window: 256 * 1024 });
    FlowPlan { congestion, begin, thresholds: (REORDERED_PACKETS, REORDERED_ROUND_TRIPS) }
}

fn cubic() -> FlowPlan {
    let congestion = Arc::new(quinn::congestion::CubicConfig::default());
    FlowPlan { congestion, begin: Duration::ZERO, thresholds: (3, 1.125) }
}

fn path() -> Weather {
    let bottleneck = Some(Bottleneck { rate: RATE, queue: QUEUE });
    Weather { bottleneck, ..Weather::delayed(Duration::from_millis(10)) }
}

#[test]
fn losses_by_chance_cost_little_more_than_what_is_lost() {
    let rate = |plan: FlowPlan, loss| {
        simulate(&[plan], &Weather { loss, ..path() }, Duration::from_secs(4), 1, |_, _| {}).rate(0, 1.0)
    };
    let without = rate(product(Duration::ZERO), 0.0);
    assert!(without > 0.9 * RATE as f64, "{without}");
    for (loss, least) in [(0.001, 0.97), (0.01, 0.85), (0.05, 0.6)] {
        let ratio = rate(product(Duration::ZERO), loss) / without;
        assert!(ratio >= least, "{loss}: {ratio:.2}");
    }
    // The path is bad enough to tell one from the other.
    assert!(rate(cubic(), 0.01) < 0.4 * without);
}

#[test]
fn a_shared_queue_is_shared() {
    for (name, plans) in [
        ("beside CUBIC", [product(Duration::ZERO), cubic()]),
        ("beside another that came before", [product(Duration::from_secs(1)), product(Duration::ZERO)]),
    ] {
        let seen = simulate(&plans, &path(), Duration::from_secs(16), 1, |_, _| {});
        let (own, others) = (seen.rate(0, 0.5), seen.rate(1, 0.5));
        let share = own / (own + others);
        assert!((0.25..=0.7).contains(&share), "{name}: {share:.2}");
        assert!(own + others > 0.9 * RATE as f64, "{name}");
        assert!(seen.mean_queue_delay() <= Duration::from_millis(25), "{name}: {:?}", seen.mean_queue_delay());
    }
}

#[test]
fn wifi_is_used_although_it_changes_and_loses_and_reorders() {
    for detour in [Duration::ZERO, Duration::from_millis(5)] {
        let (seen, passes) = wifi::simulate_wifi(&product(Duration::ZERO), detour, Duration::from_secs(4), 1);
        let ratio = seen.rate(0, 1.0) / passes;
        assert!(ratio >= 0.8, "{detour:?}: {ratio:.2}");
    }
}

#[test]
fn a_short_queue_is_filled_without_a_flood_of_losses() {
    let bottleneck = Some(Bottleneck { rate: RATE, queue: 32_000 });
    let weather = Weather { bottleneck, ..Weather::delayed(Duration::from_micros(150)) };
    let seen = simulate(&[product(Duration::ZERO)], &weather, Duration::from_secs(3), 1, |_, _| {});
    assert!(seen.rate(0, 1.0) > 0.9 * RATE as f64, "{}", seen.rate(0, 1.0));
}
