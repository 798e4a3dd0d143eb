//! What congestion control makes of bad paths, in virtual time:
//!
//!     cargo bench -p tests --bench congestion [-- [--rate MBIT] [--seconds N]]
//!
//! One table for the product's control, and the same for quinn's CUBIC and BBR beside it: random losses, the share beside
//! a CUBIC flow and beside itself, a path like Wi-Fi, a LAN with short queues. Packets of 1,452 bytes, a round trip of 20
//! ms, and a queue of one bandwidth-delay product unless said otherwise. The figures are exact but for connection ids and
//! keys: run to run they differ by a few per cent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and what can't be done must stop it, loudly"
)]

use std::sync::Arc;
use std::time::Duration;

use tests::emulator::{Bottleneck, Weather};
use tests::simulation::{FlowPlan, Observation, simulate, wifi};

const SEED: u64 = 20_260_101;
const INITIAL_WINDOW: u64 = 256 * 1024;

struct Options {
    /// Bytes a second.
    rate: u64,
    time: Duration,
}

fn main() {
    let options = read_options();
    for control in ["product", "CUBIC", "BBR"] {
        println!("{control}:");
        show_losses(control, &options);
        show_shares(control, &options);
        show_wifi(control, &options);
        show_short_queues(control, &options);
    }
}

fn read_options() -> Options {
    let mut options = Options { rate: 125_000_000, time: Duration::from_secs(5) };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut number = || arguments.next().and_then(|value| value.parse::<u64>().ok()).expect("a number");
        match name.as_str() {
            "--rate" => options.rate = number() * 125_000,
            "--seconds" => options.time = Duration::from_secs(number()),
            // Cargo's own.
            "--bench" => {}
            other => panic!("{other}?"),
        }
    }
    options
}

fn plan(control: &str, begin: Duration) -> FlowPlan {
    match control {
        "CUBIC" => {
            let mut cubic = quinn::congestion::CubicConfig::default();
            cubic.initial_window(INITIAL_WINDOW);
            FlowPlan { congestion: Arc::new(cubic), begin, thresholds: (3, 1.125) }
        }
        "BBR" => {
            let mut bbr = quinn::congestion::BbrConfig::default();
            bbr.initial_window(INITIAL_WINDOW);
            FlowPlan { congestion: Arc::new(bbr), begin, thresholds: (3, 1.125) }
        }
        _ => FlowPlan { begin, ..product() },
    }
}

fn product() -> FlowPlan {
    use peer::net::congestion::{LossTolerantCubicConfig, REORDERED_PACKETS, REORDERED_ROUND_TRIPS};
    let congestion = Arc::new(LossTolerantCubicConfig { initial_window: INITIAL_WINDOW });
    FlowPlan { congestion, begin: Duration::ZERO, thresholds: (REORDERED_PACKETS, REORDERED_ROUND_TRIPS) }
}

fn path(rate: u64, round_trip: Duration) -> Weather {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a queue is a few megabytes")]
    let queue = (rate as f64 * round_trip.as_secs_f64()) as usize;
    Weather { bottleneck: Some(Bottleneck { rate, queue }), ..Weather::delayed(round_trip / 2) }
}

fn queue_words(seen: &Observation) -> String {
    let mut sorted = seen.queue_delay.clone();
    sorted.sort_unstable();
    let late = sorted[sorted.len() * 99 / 100];
    format!("queue {:.1} ms, 99 % below {:.1}", seen.mean_queue_delay().as_secs_f64() * 1e3, late.as_secs_f64() * 1e3)
}

fn show_losses(control: &str, Options { rate, time }: &Options) {
    let mut without = None;
    for loss in [0.0, 0.001, 0.01, 0.05] {
        let weather = Weather { loss, ..path(*rate, Duration::from_millis(20)) };
        let seen = simulate(&[plan(control, Duration::ZERO)], &weather, *time, SEED, |_, _| {});
        let reached = seen.rate(0, 1.0) / 1e6;
        let ratio = reached / *without.get_or_insert(reached);
        println!(
            "  {:4.1} % lost: {reached:6.1} MB/s, {ratio:.2} of the rate without; {}",
            loss * 100.0,
            queue_words(&seen)
        );
    }
}

fn show_shares(control: &str, Options { rate, time }: &Options) {
    for round_trip in [1, 5, 20, 40].map(Duration::from_millis) {
        for (other, late) in [("CUBIC", 0), ("CUBIC", 2), (control, 2)] {
            let flows = [plan(control, Duration::from_secs(late)), plan(other, Duration::ZERO)];
            let seen = simulate(&flows, &path(*rate, round_trip), *time * 4, SEED, |_, _| {});
            let (own, others) = (seen.rate(0, 0.5), seen.rate(1, 0.5));
            println!(
                "  beside {other}, {late} s later, {round_trip:?}: {:.2} of {:.1} MB/s; {}",
                own / (own + others),
                (own + others) / 1e6,
                queue_words(&seen)
            );
        }
    }
}

fn show_wifi(control: &str, Options { time, .. }: &Options) {
    for detour in [Duration::ZERO, Duration::from_millis(5)] {
        let (seen, passes) = wifi::simulate_wifi(&plan(control, Duration::ZERO), detour, *time * 2, SEED);
        println!(
            "  Wi-Fi, reordering up to {detour:?}: {:.2} of the {:.1} MB/s that get through; {}",
            seen.rate(0, 1.0) / passes,
            passes / 1e6,
            queue_words(&seen)
        );
    }
}

fn show_short_queues(control: &str, Options { rate, time }: &Options) {
    for queue in [64 << 10, 256 << 10] {
        let weather = Weather {
            bottleneck: Some(Bottleneck { rate: *rate, queue }),
            ..Weather::delayed(Duration::from_micros(150))
        };
        let seen = simulate(&[plan(control, Duration::ZERO)], &weather, *time, SEED, |_, _| {});
        println!("  LAN, queue of {} kB: {:.1} MB/s; {}", queue >> 10, seen.rate(0, 1.0) / 1e6, queue_words(&seen));
    }
}
