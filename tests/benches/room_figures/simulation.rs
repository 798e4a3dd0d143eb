//! 200 members with simulated links between them.

use std::time::Duration;

use peer::engine::rooms::room_simulation::{RoomSimulation, SimulationOptions};

use super::{median, millis, verdict};

const MEMBERS: usize = 200;
const MESSAGES: usize = 50;
/// The delays of links in a building, and of some over a bad wireless network.
const LINK_DELAYS: [(u64, u64); 2] = [(1, 5), (1, 50)];
const MAX_DELAY: Duration = Duration::from_millis(500);
/// Bytes that a member may send for a message: a tenth of a megabyte would be a storm.
const MAX_BYTES: u64 = 20_000;
const SETTLING: Duration = Duration::from_secs(10);
const REPLIES: Duration = Duration::from_secs(5);

pub(crate) fn run() {
    for link_delay in LINK_DELAYS {
        measure(link_delay);
    }
}

fn measure((least, most): (u64, u64)) {
    let home = tempfile::tempdir().unwrap();
    let link_delay = (Duration::from_millis(least), Duration::from_millis(most));
    let options = SimulationOptions { members: MEMBERS, seed: 1, link_delay, step_time: None };
    let mut simulation = RoomSimulation::new(options, home.path()).unwrap();
    simulation.pass(SETTLING);
    let mut delays = Vec::new();
    simulation.take_traffic();
    for number in 0..MESSAGES {
        simulation.write(number * 37 % MEMBERS, "as long as what people say to each other on a usual day");
        let limit = Duration::from_secs(120);
        delays.push(simulation.pass_until_all_hold(number + 1, limit).expect("all have it in the end"));
        simulation.pass(Duration::from_millis(500));
    }
    simulation.pass(REPLIES);
    let traffic = simulation.take_traffic();
    assert_eq!(simulation.faults(), [""; 0]);
    let frames = traffic.iter().map(|sent| sent.frames).sum::<u64>() as f64 / (MEMBERS * MESSAGES) as f64;
    let most_bytes = traffic.iter().map(|sent| sent.bytes).max().unwrap() / MESSAGES as u64;
    let (middle, worst) = (median(&mut delays), *delays.last().unwrap());
    println!(
        "{MEMBERS} members, links of {least} to {most} ms: {MESSAGES} messages until all have them: median {:.0} ms, worst {:.0} ms (at most {} ms: {})",
        millis(middle),
        millis(worst),
        MAX_DELAY.as_millis(),
        verdict(middle <= MAX_DELAY)
    );
    let links = (0..MEMBERS).map(|member| simulation.link_count(member)).max().unwrap();
    println!(
        "at most {links} links each; each member sends {frames:.1} frames a message, the busiest {most_bytes} bytes (at most {MAX_BYTES}: {})",
        verdict(most_bytes <= MAX_BYTES)
    );
}
