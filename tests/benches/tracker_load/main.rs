//! What a tracker can bear, each figure as a ratio to something else on the same machine in the same run:
//!
//!     cargo bench -p tests --bench tracker_load            all of it, about two minutes
//!     cargo bench -p tests --bench tracker_load -- storm   only what has this in its name
//!
//! * requests a second over kept connections, against redis-server's GET of a value as long as the reply (measured by
//!   redis-benchmark, and by the client that measures the tracker), and against a threading server in Python that
//!   answers from memory as the exercise's did;
//! * memory of held connections and of present peers;
//! * how long one event takes to reach every subscriber;
//! * the latency of LIST_PEERS while passwords are being guessed;
//! * the same while somebody changes a very long list, and memory against what is accounted of such lists;
//! * accounts in SQLite beside accounts in PostgreSQL, where that is installed.
//!
//! Needs redis-server, redis-benchmark, openssl and python3.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and what can't be done must stop it, loudly"
)]

mod clients;
mod held;
mod hostile;
mod requests;
mod rivals;
mod stores;
mod storm;
mod world;

use std::time::Duration;

/// How long one rate is measured.
const TIME: Duration = Duration::from_secs(3);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    let benches: [(&str, fn()); 7] = [
        ("requests", requests::run),
        ("memory of peers", held::peers),
        ("memory of connections", held::connections),
        ("fan-out", held::fan_out),
        ("stores", stores::run),
        ("storm", storm::run),
        ("hostile catalogue", hostile::run),
    ];
    for (name, bench) in benches {
        if is_wanted(name) {
            println!("\n== {name}");
            bench();
        }
    }
}

/// One thread's worth of clients: the machine's other cores are for those who are measured.
fn on_one_thread<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}
