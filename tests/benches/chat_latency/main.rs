//! How late a message is while the same two peers move files to each other, as fast as they can and both ways:
//!
//!     cargo bench -p tests --bench chat_latency                 all of it, about a minute
//!     cargo bench -p tests --bench chat_latency -- bottleneck   only what has this in its name
//!
//! Alice writes, bob's answer comes back, then alice writes again. Measured as programs see it that talk to their nodes
//! through `peer events`: from the line that asks for a message to the line that says it is stored at the other side
//! (`acked`), and to the line with the answer (`answered`, two messages). Both include the disk: two writes for
//! each message at its author's and one at its receiver's, each of which waits until it is durable. `TMPDIR=/dev/shm` leaves the
//! disk out.
//!
//! Files come by `peer fetch`, which has a process and a connection of its own; so this is chat with the bulk on
//! another connection, between the same two nodes. Idle and loaded take turns, so that a machine that grows slower
//! doesn't look like a difference.
//!
//! * loopback;
//! * cable: each peer in a namespace of its own, joined by veth pairs at an MTU of 1500;
//! * gigabit: the same, where 1 Gbit/s reaches each peer and 10 ms of data can wait before that;
//! * bottleneck: the same, where 100 Mbit/s reach each peer and 100 ms of data can wait before that.
//!
//! Files move alone for a while as well: what is left of that beside a chat is the last figure. All but the first path
//! need root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench prints, and what can't be done must stop it, loudly"
)]

mod bulk;
mod figures;
mod talk;

use std::net::IpAddr;
use std::time::Duration;

use tests::{Host, Lab, LabOptions, Network, User};

use self::bulk::Bulk;
use self::figures::{Goal, Series, print_head, print_row};
use self::talk::Talk;

/// How long messages go to and fro before it is the other's turn, and how often each has its turn.
const TURN: Duration = Duration::from_secs(3);
const TURNS: usize = 3;
/// The narrow paths: bits a second.
const GIGABIT: u64 = 1_000_000_000;
const BOTTLENECK: u64 = 100_000_000;
/// Bytes that can wait: 10 and 100 ms of those.
const QUEUE: usize = 1_250_000;

type Path = (&'static str, fn(&str));
const PATHS: [Path; 4] = [("loopback", loopback), ("cable", cable), ("gigabit", gigabit), ("bottleneck", bottleneck)];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    print_head();
    for (name, path) in PATHS {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            path(name);
        }
    }
}

fn loopback(name: &str) {
    let lab = Lab::start();
    measure(name, &lab, &lab.user("alice"), &lab.user("bob"), Goal::Ratio(2.0));
}

fn cable(name: &str) {
    with_machines(name, Goal::Ratio(2.0), |_, _| true);
}

fn gigabit(name: &str) {
    with_machines(name, Goal::Ratio(2.0), |network, host| network.narrow(host, "eth0", GIGABIT, QUEUE));
}

fn bottleneck(name: &str) {
    let goal = Goal::Above(Duration::from_millis(20));
    with_machines(name, goal, |network, host| network.narrow(host, "eth0", BOTTLENECK, QUEUE));
}

fn with_machines(name: &str, goal: Goal, prepare: impl Fn(&Network, &Host) -> bool) {
    let Some(mut network) = Network::make() else { return };
    let ip: IpAddr = "10.77.0.9".parse().unwrap();
    let place = Some((network.host("tracker", &["10.77.0.9/24"]), ip));
    let (alice, bob) = (network.host("alice", &["10.77.0.1/24"]), network.host("bob", &["10.77.0.2/24"]));
    if ![&alice, &bob].into_iter().all(|host| prepare(&network, host)) {
        return;
    }
    let lab = Lab::with(LabOptions { place, ..LabOptions::default() });
    measure(name, &lab, &lab.user_on(&alice, "alice"), &lab.user_on(&bob, "bob"), goal);
}

fn measure(name: &str, lab: &Lab, alice: &User<'_>, bob: &User<'_>, goal: Goal) {
    for user in [alice, bob] {
        user.share([bulk::file(lab, user)]);
    }
    let _nodes = [alice.serve(), bob.serve()];
    let mut talk = Talk::begin(alice, bob);
    let (mut idle, mut loaded) = (Series::default(), Series::default());
    // The first messages open what later ones use.
    talk.go_on_for(Duration::from_millis(300), &mut Series::default());
    let (mut alone, mut beside) = (0, 0);
    for _ in 0..TURNS {
        talk.go_on_for(TURN, &mut idle);
        let bulk = Bulk::begin(lab, [(alice, bob), (bob, alice)]);
        talk.go_on_for(TURN, &mut loaded);
        beside += bulk.end();
        // Three seconds after its last message, a chat is over.
        std::thread::sleep(Duration::from_secs(4));
        let bulk = Bulk::begin(lab, [(alice, bob), (bob, alice)]);
        std::thread::sleep(TURN);
        alone += bulk.end();
    }
    let rate = |bytes: u64| bytes as f64 / 1e6 / (TURN * u32::try_from(TURNS).unwrap()).as_secs_f64();
    print_row(name, &mut idle, &mut loaded, goal, [rate(beside), rate(alone)]);
}
