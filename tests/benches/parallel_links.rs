//! What several links to one source bring:
//!
//!     cargo bench -p tests --bench parallel_links              both paths, about a minute
//!     cargo bench -p tests --bench parallel_links -- loopback  only what has this in its name
//!
//! A file goes from one peer to another over one, two and four links, in turns. On fewer than four cores the rates say only
//! what further links cost, since the two peers fill the cores with one. So the processor time of each kind of thread is
//! measured as well: on a machine with a core for each thread, a fetch takes as long as its busiest thread works. That is the
//! last figure, an upper bound; disks and cables have their own. `TMPDIR=/dev/shm` leaves the disk out.
//!
//! * loopback;
//! * cable: each peer in a namespace of its own, joined by veth pairs at an MTU of 1500; needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and what can't be done must stop it, loudly"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::{Lab, LabOptions, Network, Process, User};

const SIZE: usize = 1 << 30;
const ROUNDS: usize = 5;
const LINKS: [usize; 3] = [1, 2, 4];
/// Between two looks at the threads of a fetch: what they do after the last look isn't counted.
const LOOK: Duration = Duration::from_millis(2);

/// Seconds of processor time by thread: number and name.
type ThreadTimes = BTreeMap<(u32, String), f64>;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores; {} MiB, medians of {ROUNDS} rounds", SIZE >> 20);
    for (name, path) in [("loopback", loopback as fn(&str)), ("cable", cable)] {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            path(name);
        }
    }
}

fn loopback(name: &str) {
    let lab = Lab::start();
    measure(name, &lab, &lab.user("alice"), &lab.user("bob"));
}

fn cable(name: &str) {
    let Some(mut network) = Network::make() else { return };
    let ip: IpAddr = "10.77.0.9".parse().unwrap();
    let place = Some((network.host("tracker", &["10.77.0.9/24"]), ip));
    let (alice, bob) = (network.host("alice", &["10.77.0.1/24"]), network.host("bob", &["10.77.0.2/24"]));
    let lab = Lab::with(LabOptions { place, ..LabOptions::default() });
    measure(name, &lab, &lab.user_on(&alice, "alice"), &lab.user_on(&bob, "bob"));
}

fn measure(name: &str, lab: &Lab, alice: &User<'_>, bob: &User<'_>) {
    bob.share([lab.file("film.mkv", SIZE)]);
    let node = bob.peer(["serve", "--threads", "4"]).start();
    node.wait_for("online as bob");
    let mut runs: BTreeMap<usize, Vec<(f64, ThreadTimes)>> = BTreeMap::new();
    for round in 0..=ROUNDS {
        for links in LINKS {
            let run = fetch(&node, alice, &lab.empty_folder("here"), links);
            // The first round touches the memory that all others use.
            if round > 0 {
                runs.entry(links).or_default().push(run);
            }
        }
    }
    let mut with_one = None;
    for (links, mut runs) in runs {
        runs.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let (seconds, threads) = runs.swap_remove(runs.len() / 2);
        let rate = SIZE as f64 / 1e6 / seconds;
        let ratio = rate / *with_one.get_or_insert(rate);
        let busiest = threads.values().copied().fold(0.0, f64::max);
        println!(
            "{name:9} {links} links {rate:6.0} MB/s {ratio:5.2} x, bound {:6.0} MB/s",
            SIZE as f64 / 1e6 / busiest
        );
        let mut by_name: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
        for ((_, name), seconds) in threads.iter().filter(|(_, seconds)| **seconds > 0.01) {
            let (count, sum) = by_name.entry(name).or_default();
            (*count, *sum) = (*count + 1, *sum + seconds);
        }
        let told: Vec<String> =
            by_name.iter().map(|(name, (count, seconds))| format!("{count} {name} {seconds:.2}")).collect();
        println!("          seconds of threads: {}", told.join(", "));
    }
}

/// Fetches the file once; returns the seconds that it took and those that each thread worked.
fn fetch(node: &Process, alice: &User<'_>, into: &Path, links: usize) -> (f64, ThreadTimes) {
    let before = thread_times(node.pid(), "node");
    let begun = Instant::now();
    let fetching =
        alice.peer(["fetch", "bob", "film.mkv", "--connections", &links.to_string(), "-o"]).arg(into).start();
    let mut threads = ThreadTimes::new();
    while fetching.is_running() {
        threads.extend(thread_times(fetching.pid(), "fetch"));
        std::thread::sleep(LOOK);
    }
    let seconds = begun.elapsed().as_secs_f64();
    fetching.finish().exits(0);
    for (thread, after) in thread_times(node.pid(), "node") {
        let seconds = after - before.get(&thread).copied().unwrap_or_default();
        threads.insert(thread, seconds);
    }
    std::fs::remove_dir_all(into).unwrap();
    (seconds, threads)
}

/// Returns the processor times of a process' threads, whose names begin with `of`.
fn thread_times(pid: u32, of: &str) -> ThreadTimes {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = tasks.filter_map(|task| {
        let number = task.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        // Nanoseconds on a processor come first (Documentation/scheduler/sched-stats.rst).
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanos: f64 = stat.split_whitespace().next()?.parse().ok()?;
        Some(((number, format!("{of}/{}", name.trim())), nanos / 1e9))
    });
    times.collect()
}
