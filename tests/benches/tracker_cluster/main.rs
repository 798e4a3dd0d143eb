//! What three trackers on one PostgreSQL database can bear, beside one tracker with its own store in the same run:
//!
//!     cargo bench -p tests --bench tracker_cluster            all of it, about four minutes
//!     cargo bench -p tests --bench tracker_cluster -- find    only what has this in its name
//!
//! * events: from the request at one tracker until each of 5,000 subscribers of all three has read the event;
//! * logins: RESUME by certificate, which needs no Argon2, on kept connections and each with a connection of its own;
//! * lists: LIST_PEERS of 1,000 peers with ten files each;
//! * find: FIND among 10^6 files;
//! * files: REGISTER_FILES of 100,000 files, and a change of one of them;
//! * heartbeats: what 20,000 heartbeats in 30 s cost the database, beside 30 s without any;
//! * moves: the time in which a `peer serve` is at another tracker after a kill -9 of its own.
//!
//! The database syncs each commit to the disk, `TMPDIR=/dev/shm` leaves that out. All of it, clients included, shares the
//! cores of this machine: three trackers do the work of three where one does that of one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and what can't be done must stop it, loudly"
)]

#[path = "../tracker_load/clients.rs"]
mod clients;
mod crowd;
mod events;
mod files;
mod find;
mod heartbeats;
mod lists;
mod logins;
mod moves;
mod sites;

use std::time::Duration;

use postgres_server::PostgresServer;

/// The time for which one rate is measured.
const TIME: Duration = Duration::from_secs(3);

/// A measurement with databases of this server.
type Bench = fn(&PostgresServer);

fn main() {
    let Some(server) = PostgresServer::start_synced().unwrap() else {
        return println!("PostgreSQL is not installed: nothing is measured");
    };
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let benches: [(&str, Bench); 7] = [
        ("events", events::run),
        ("logins", logins::run),
        ("lists", lists::run),
        ("find", find::run),
        ("files", files::run),
        ("heartbeats", heartbeats::run),
        ("moves", moves::run),
    ];
    for (name, bench) in benches {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            println!("\n== {name}");
            bench(&server);
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

/// The percentile of some times, in milliseconds.
fn percentile(times: &mut [Duration], part: usize) -> f64 {
    times.sort_unstable();
    times.get((times.len() * part / 100).min(times.len() - 1)).copied().unwrap_or_default().as_secs_f64() * 1000.0
}
