//! Trackers of one database that are killed at random moments while people come, go, share files, make accounts and rooms,
//! and follow the events: nothing that was granted is lost, and everybody sees the same.

mod bystander;
mod event_follower;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use certs::Identity;
use postgres_server::PostgresServer;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tests::hostile::Session;
use tests::{Lab, poll_for};

use crate::tracker_cluster::{Person, agreed, is_long, trackers_on};
use bystander::{Bystander, Grants};
use event_follower::{EventFollower, FollowedEvents};

const SEED: &str = "VIZINHO_TEST_SEED";
const KILLS: &str = "VIZINHO_TEST_KILLS";
const TRACKERS: usize = 3;
const PEOPLE: [&str; 6] = ["bob", "carol", "dave", "erin", "frank", "grace"];
const FOLLOWERS: [&str; 3] = ["walter", "xavier", "yvonne"];
/// The longest time until all is told: a dead tracker's lease, the look at it, and the pace of one user's events.
const SETTLING: Duration = Duration::from_secs(60);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn killed_at_random_moments_trackers_lose_nothing_that_was_granted() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let (kills, seed) = (number(KILLS, if is_long() { 100 } else { 3 }), number(SEED, 20_261_128));
    println!("the same moments again, as far as the machine has its part in them: {SEED}={seed}");
    let mut labs = trackers_on(server, TRACKERS);
    let addresses: Vec<String> = labs.iter().map(|lab| lab.address().to_owned()).collect();
    let alice = Person::registered("alice", &labs[0]);
    alice.connect(&labs[0]).demand(&json!({ "action": "ROOM_CREATE", "room": "lab" }));
    let register = |name: &'static str| Person::registered(name, &labs[0]);
    let (people, followers) = (PEOPLE.map(register), FOLLOWERS.map(register));
    let chance = |number: usize| StdRng::seed_from_u64(seed.wrapping_mul(1000) + number as u64);
    let (stop, is_told) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let addresses = &addresses;
        let events: Vec<FollowedEvents> = followers.iter().map(|_| FollowedEvents::default()).collect();
        for (number, (person, events)) in followers.iter().zip(&events).enumerate() {
            let follower = EventFollower::new(person, addresses, chance(100 + number), events.clone());
            let is_told = &is_told;
            scope.spawn(move || follower.follow(is_told));
        }
        let busy: Vec<_> = people
            .iter()
            .enumerate()
            .map(|(number, person)| {
                let (stop, bystander) = (&stop, Bystander::new(person, addresses, chance(number)));
                scope.spawn(move || bystander.live(stop))
            })
            .collect();
        kill_trackers(&mut labs, kills, chance(999));
        stop.store(true, Ordering::Relaxed);
        // Their connections stay open with what they return: so they stay present.
        let (grants, _open): (Vec<Grants>, Vec<Option<Session>>) =
            busy.into_iter().map(|one| one.join().unwrap()).unzip();
        println!("{} granted, {} moves", sum(&grants, |one| one.granted), sum(&grants, |one| one.moves));
        let present: BTreeMap<String, u64> =
            grants.iter().filter_map(|one| Some((one.user.to_owned(), one.files?))).collect();
        assert_eq!(agreed(&alice, &labs), present, "who is present, by the last reply that each of them got");
        assert_everybody_is_listed_once(&alice, &labs);
        assert_rooms(&labs, &people, &grants);
        assert_accounts(&labs, &grants);
        assert_events(&events, &present);
        is_told.store(true, Ordering::Relaxed);
        // They look at that when they hear something.
        alice.come(&labs[0]).demand(&json!({ "action": "LOGOUT", "user": "alice" }));
    });
}

fn sum(grants: &[Grants], of: fn(&Grants) -> usize) -> usize {
    grants.iter().map(of).sum()
}

/// Kills trackers, one or two at a time, each after a while that chance picks, and starts them again.
fn kill_trackers(labs: &mut [Lab], kills: u64, mut chance: StdRng) {
    let mut killed = 0;
    while killed < kills {
        std::thread::sleep(Duration::from_millis(chance.random_range(0..800)));
        let first = chance.random_range(0..labs.len());
        let second = (first + 1) % labs.len();
        let victims = if killed + 1 < kills && chance.random_bool(0.2) { vec![first, second] } else { vec![first] };
        for victim in &victims {
            labs[*victim].kill_tracker();
            std::thread::sleep(Duration::from_millis(chance.random_range(0..100)));
            killed += 1;
        }
        std::thread::sleep(Duration::from_millis(chance.random_range(0..300)));
        victims.into_iter().for_each(|victim| labs[victim].start_tracker());
    }
}

fn assert_everybody_is_listed_once(alice: &Person, labs: &[Lab]) {
    for lab in labs {
        let reply = alice.connect(lab).demand(&json!({ "action": "LIST_PEERS" }));
        let names: Vec<&str> =
            reply["peers"].as_array().unwrap().iter().map(|one| one["user"].as_str().unwrap()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}

fn assert_rooms(labs: &[Lab], people: &[Person], grants: &[Grants]) {
    for lab in labs {
        for (person, granted) in people.iter().zip(grants) {
            let rooms = person.connect(lab).demand(&json!({ "action": "ROOM_LIST" }));
            let rooms = rooms["rooms"].as_array().unwrap();
            let owned = |name: &String| rooms.iter().any(|room| room["name"] == **name && room["owner"] == person.name);
            assert!(granted.rooms.iter().all(owned), "{:?} of {} are in {rooms:?}", granted.rooms, person.name);
            let common = rooms.iter().find(|room| room["name"] == "lab").unwrap();
            if let Some(is_member) = granted.is_member {
                assert_eq!(common.get("role").is_some(), is_member, "{}: {common}", person.name);
            }
        }
    }
}

/// No name has two owners, and each who was granted one has it, at each tracker.
fn assert_accounts(labs: &[Lab], grants: &[Grants]) {
    let mut owners: BTreeMap<&str, Vec<&Identity>> = BTreeMap::new();
    let mut granted = 0;
    for account in grants.iter().flat_map(|one| &one.accounts) {
        let has = |lab: &Lab| {
            let reply = Session::open(lab.address(), &account.identity).ask(&json!({ "action": "RESUME" }));
            assert!(reply["code"] == "ok" || !account.is_granted, "{}: {reply}", account.name);
            reply["code"] == "ok"
        };
        let by_tracker: Vec<bool> = labs.iter().map(has).collect();
        assert!(by_tracker.windows(2).all(|two| two[0] == two[1]), "{}: {by_tracker:?}", account.name);
        granted += usize::from(account.is_granted);
        if by_tracker[0] {
            owners.entry(&account.name).or_default().push(&account.identity);
        }
    }
    println!("{granted} accounts granted, {} there", owners.len());
    assert!(owners.values().all(|owners| owners.len() == 1), "{owners:?}");
}

/// All followers saw the same, and what they saw comes to what is listed.
fn assert_events(all: &[FollowedEvents], present: &BTreeMap<String, u64>) {
    let told = |events: &FollowedEvents| events.fold(|user| PEOPLE.contains(&user));
    poll_for(
        SETTLING,
        || all.iter().all(|events| told(events) == *present).then_some(()),
        || {
            format!(
                "{present:?} are present, told is {:?}: {}",
                all.iter().map(told).collect::<Vec<_>>(),
                all[0].tail()
            )
        },
    );
    let lines: Vec<BTreeMap<u64, Value>> = all.iter().map(FollowedEvents::lines).collect();
    for others in &lines[1..] {
        let common = |some: &BTreeMap<u64, Value>, others: &BTreeMap<u64, Value>| {
            some.iter()
                .filter(|(number, _)| others.contains_key(number))
                .map(|(_, line)| line.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(common(&lines[0], others), common(others, &lines[0]));
    }
    println!("{} events, {} moves of followers", lines[0].len(), all.iter().map(FollowedEvents::moves).sum::<usize>());
}
