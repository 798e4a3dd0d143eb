//! How fast a file comes over a path of 1 Gbit/s and 20 ms there and back that loses datagrams:
//!
//!     cargo bench -p tests --bench bad_path
//!
//! Real processes, and between them the tests' own relay, on loopback with its packets of 32,000 bytes. The losses are
//! random, each by itself; the same chances each time. One line a share of losses: the median of three fetches, and its
//! ratio to the rate without losses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and what can't be done must stop it, loudly"
)]

use std::time::{Duration, Instant};

use tests::Lab;
use tests::emulator::{Bottleneck, Relay, Weather};
use tests::files::assert_same;

const SIZE: usize = 32 << 20;
const RATE: u64 = 125_000_000;
/// 20 ms of it.
const QUEUE: usize = 2_500_000;
const DELAY: Duration = Duration::from_millis(10);
const ROUNDS: usize = 3;
const SEED: u64 = 20_260_101;

fn main() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    println!("{:>7} {:>8} {:>8}   of the rate without", "lost", "seconds", "MB/s");
    let mut without = None;
    for loss in [0.0, 0.0001, 0.001, 0.01] {
        let bottleneck = Some(Bottleneck { rate: RATE, queue: QUEUE });
        let weather = Weather { loss, bottleneck, ..Weather::delayed(DELAY) };
        let relay = Relay::open(&weather, SEED);
        let node = bob.serve_behind(&relay, &[]);
        let mut times: Vec<f64> = (0..ROUNDS)
            .map(|round| {
                let here = lab.empty_folder(format!("{loss}-{round}"));
                let begin = Instant::now();
                alice.fetch("bob", ["film.mkv"], &here).run().exits(0);
                let time = begin.elapsed().as_secs_f64();
                assert_same(here.join("film.mkv"), &film);
                time
            })
            .collect();
        node.interrupt();
        node.finish();
        times.sort_by(f64::total_cmp);
        let time = times[ROUNDS / 2];
        let rate = SIZE as f64 / 1e6 / time;
        let ratio = rate / *without.get_or_insert(rate);
        println!("{:>6.2}% {time:>8.2} {rate:>8.1}   {ratio:.2}", loss * 100.0);
    }
}
