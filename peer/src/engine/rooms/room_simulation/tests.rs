use std::collections::BTreeSet;

use super::*;

/// Nothing takes that long, in simulated time.
const PATIENCE: Duration = Duration::from_secs(300);

fn options(members: usize, seed: u64) -> SimulationOptions {
    let link_delay = (Duration::from_millis(1), Duration::from_millis(50));
    SimulationOptions { members, seed, link_delay, step_time: Some(Duration::from_millis(2)) }
}

/// Returns the messages of the running members among `of` once they are the same.
fn settle(simulation: &mut RoomSimulation, of: impl Fn(usize) -> bool, seed: u64) -> Vec<MessageHash> {
    let mut rest = PATIENCE;
    loop {
        let running = (0..simulation.options.members).filter(|member| of(*member) && simulation.is_running(*member));
        let orders: Vec<Vec<MessageHash>> = running.map(|member| simulation.order(member)).collect();
        if orders.iter().all(|order| *order == orders[0]) {
            return orders.into_iter().next().unwrap_or_default();
        }
        let lengths: Vec<usize> = orders.iter().map(Vec::len).collect();
        assert!(!rest.is_zero(), "seed {seed}: the members don't agree: {lengths:?}");
        let step = Duration::from_secs(1).min(rest);
        simulation.pass(step);
        rest -= step;
    }
}

#[test]
fn a_message_reaches_a_large_room_at_once_and_without_a_storm() {
    const MEMBERS: usize = 40;
    const MESSAGES: usize = 5;
    let home = tempfile::tempdir().unwrap();
    let mut simulation = RoomSimulation::new(options(MEMBERS, 1), home.path()).unwrap();
    simulation.pass(Duration::from_secs(10));
    assert!((0..MEMBERS).all(|member| (1..=8).contains(&simulation.link_count(member))));
    simulation.take_traffic();
    for number in 0..MESSAGES {
        simulation.write(number * 7 % MEMBERS, "hello");
        let time = simulation.pass_until_all_hold(number + 1, PATIENCE).unwrap();
        assert!(time <= Duration::from_millis(500), "{time:?}");
    }
    simulation.pass(Duration::from_secs(10));
    let traffic = simulation.take_traffic();
    // To each link once and an answer, and what little is compared.
    let most = traffic.iter().map(|sent| sent.frames).max().unwrap();
    assert!(most <= 2 * 8 * MESSAGES as u64 + 16, "{most}");
    assert_eq!(simulation.faults(), [""; 0]);
}

/// Lives through partitions, broken links, crashes and messages, as chance has it.
fn live_one_fate(seed: u64) {
    const MEMBERS: usize = 22;
    let home = tempfile::tempdir().unwrap();
    let mut simulation = RoomSimulation::new(options(MEMBERS, seed), home.path()).unwrap();
    let mut chance = ChanceSequence(!seed);
    let mut below = move |limit: usize| usize::try_from(chance.next_value() % limit as u64).unwrap();
    let (mut written, mut sides) = (BTreeSet::new(), 1);
    let side_of = |number: usize| usize::from(blake3_byte(seed, number)) % 2;
    for step in 0..60 {
        let member = below(MEMBERS);
        match below(10) {
            0..=3 if simulation.is_running(member) => {
                simulation.write(member, &format!("{step}"));
                simulation.pass(Duration::from_millis(5));
                written.extend(simulation.order(member));
            }
            4 if simulation.is_running(member) => simulation.crash(member),
            4 | 5 => {
                if !simulation.is_running(member) {
                    simulation.restart(member).unwrap();
                }
            }
            6 => simulation.break_link(member, below(MEMBERS)),
            7 => {
                sides = 3 - sides;
                simulation.part(|number| if sides == 2 { side_of(number) } else { 0 });
            }
            _ => simulation.pass(Duration::from_millis(below(3000) as u64)),
        }
    }
    for side in 0..sides {
        // Members that reach each other agree, whoever else is away.
        settle(&mut simulation, |member| sides == 1 || side_of(member) == side, seed);
    }
    simulation.part(|_| 0);
    for member in 0..MEMBERS {
        if !simulation.is_running(member) {
            simulation.restart(member).unwrap();
        }
    }
    let order = settle(&mut simulation, |_| true, seed);
    let held: BTreeSet<MessageHash> = order.iter().copied().collect();
    assert_eq!(held.len(), order.len(), "seed {seed}: a message twice");
    assert!(written.is_subset(&held), "seed {seed}: {} messages are lost", written.difference(&held).count());
    assert_eq!(simulation.faults(), [""; 0], "seed {seed}");
}

/// Returns a byte that depends on both.
fn blake3_byte(seed: u64, number: usize) -> u8 {
    let mut bytes = seed.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    blake3::hash(&bytes).as_bytes()[0]
}

#[test]
fn members_that_reach_each_other_agree_whatever_links_do() {
    let fates = if std::env::var_os("VIZINHO_LONG").is_some() { 200 } else { 3 };
    let base = std::env::var("VIZINHO_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in base..base + fates {
        live_one_fate(seed);
    }
}
