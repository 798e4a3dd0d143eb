//! What rooms cost, and how fast they are:
//!
//!     cargo bench -p tests --bench room_figures               all of it, about five minutes
//!     cargo bench -p tests --bench room_figures -- backlog    only what has this in its name
//!
//! * processes: 24 nodes in one room on this machine. The time from the line that asks one of them to send a message
//!   until the other 23 have printed it, and the processor time of the author's node and program for it.
//! * simulation: 200 members, each with a registry, a profile and a machine of its own, over simulated links. The time
//!   until all have a message, and what each sends for it.
//! * backlog: the time in which a newcomer gets 20,000 messages, and the memory that it takes on both sides.
//! * direct: the round trip of a private message beside a busy room, against the same two without. Idle and busy take
//!   turns, so that a machine that grows slower doesn't look like a difference.
//!
//! Goals are of medians. All of them include the disk; `TMPDIR=/dev/shm` leaves it out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and what can't be done must stop it, loudly"
)]

mod backlog;
mod direct;
mod printed_lines;
mod process_usage;
mod processes;
mod simulation;

use std::time::Duration;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let benches: [(&str, fn()); 4] = [
        ("processes", processes::run),
        ("simulation", simulation::run),
        ("backlog", backlog::run),
        ("direct", direct::run),
    ];
    for (name, bench) in benches {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            println!("\n== {name}");
            bench();
        }
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
