//! Several trackers on one PostgreSQL database: the same users, files and events on all, whatever becomes of one of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use certs::Identity;
use postgres_server::PostgresServer;
use serde_json::{Value, json};
use tests::hostile::{PlainSession, Session};
use tests::{Lab, LabOptions, poll_for};

use crate::exercise::run_client;

/// The time in which subscribers of any tracker hear of an event, many times over: the machine is busy.
pub(crate) const EVENT_PATIENCE: Duration = Duration::from_secs(5);

/// Trackers with one key on one database.
pub(crate) fn trackers_on(server: &PostgresServer, count: usize) -> Vec<Lab> {
    trackers_at(&server.address(&server.create_database().unwrap()), count)
}

pub(crate) fn trackers_at(address: &str, count: usize) -> Vec<Lab> {
    trackers_by(&vec![address; count])
}

/// Trackers with one key, each with its own way to the database.
pub(crate) fn trackers_by(addresses: &[&str]) -> Vec<Lab> {
    let mut labs: Vec<Lab> = Vec::new();
    for address in addresses {
        labs.push(tracker_at(address, labs.first()));
    }
    labs
}

/// A tracker on a database, with the key of the first one.
pub(crate) fn tracker_at(address: &str, first: Option<&Lab>) -> Lab {
    let tracker_args = ["--no-mdns", "--rate-limit-logins", "0", "--rate-limit-registrations", "0", "--store", address];
    let tracker_args = tracker_args.map(str::to_owned).to_vec();
    let key_of = first.map(|first| first.join("tracker"));
    Lab::with(LabOptions { tracker_args, restarts: true, key_of, ..LabOptions::default() })
}

/// Somebody with a key.
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) identity: Identity,
}

impl Person {
    pub(crate) fn registered(name: &'static str, lab: &Lab) -> Self {
        let person = Self { name, identity: Identity::generate().unwrap() };
        person.connect(lab).demand(&json!({ "action": "REGISTER", "user": name, "password": "s3nha" }));
        person
    }

    /// Somebody who is about to register.
    pub(crate) fn without_account() -> Self {
        Self { name: "", identity: Identity::generate().unwrap() }
    }

    pub(crate) fn connect(&self, lab: &Lab) -> Session {
        Session::open(lab.address(), &self.identity)
    }

    /// Becomes present at this tracker.
    pub(crate) fn come(&self, lab: &Lab) -> Session {
        let mut session = self.connect(lab);
        session.demand(&json!({ "action": "RESUME", "port": 4000 }));
        session
    }

    pub(crate) fn subscribe(&self, lab: &Lab, since: Option<u64>) -> Session {
        let mut session = self.connect(lab);
        session.demand(&json!({ "action": "RESUME" }));
        session.demand(&json!({ "action": "SUBSCRIBE", "since": since }));
        session
    }
}

/// Returns the next events up to one of this kind and user, with their numbers.
pub(crate) fn events_until(subscriber: &mut Session, kind: &str, user: &str) -> Vec<(u64, String)> {
    let mut events = Vec::new();
    loop {
        let event = subscriber.read();
        let name = event["user"].as_str().unwrap_or_default();
        events.push((event["seq"].as_u64().unwrap(), format!("{} {name}", event["event"].as_str().unwrap())));
        if event["event"] == kind && name == user {
            return events;
        }
    }
}

/// The present users and how many files each shares.
pub(crate) fn listed(person: &Person, lab: &Lab) -> BTreeMap<String, u64> {
    let reply = person.connect(lab).demand(&json!({ "action": "LIST_PEERS" }));
    let peers = reply["peers"].as_array().unwrap().iter();
    peers
        .map(|peer| (peer["user"].as_str().unwrap().to_owned(), peer["files"].as_array().unwrap().len() as u64))
        .collect()
}

/// Waits until all trackers list the same, and returns that.
#[track_caller]
pub(crate) fn agreed(person: &Person, labs: &[Lab]) -> BTreeMap<String, u64> {
    let look = || {
        let lists: Vec<_> = labs.iter().map(|lab| listed(person, lab)).collect();
        lists.windows(2).all(|two| two[0] == two[1]).then(|| lists[0].clone())
    };
    poll_for(EVENT_PATIENCE, look, || format!("{:?}", labs.iter().map(|lab| listed(person, lab)).collect::<Vec<_>>()))
}

#[test]
fn users_files_and_events_are_the_same_on_three_trackers() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let labs = trackers_on(server, 3);
    let (alice, bob) = (Person::registered("alice", &labs[0]), Person::registered("bob", &labs[1]));
    let mut subscribers: Vec<Session> = labs.iter().map(|lab| alice.subscribe(lab, None)).collect();
    let mut at_first = bob.connect(&labs[0]);
    let token = at_first.demand(&json!({ "action": "RESUME", "port": 4000 }))["token"].clone();
    // A token holds at any tracker.
    let files = json!([{ "name": "one.txt", "size": 1, "hash": "h" }, { "name": "two.txt", "size": 2, "hash": "h" }]);
    let share = json!({ "action": "REGISTER_FILES", "user": "bob", "token": token, "files": files });
    bob.connect(&labs[2]).demand(&share);
    let told: Vec<_> = subscribers.iter_mut().map(|one| events_until(one, "files", "bob")).collect();
    assert_eq!(told[0].iter().map(|(_, event)| event.as_str()).collect::<Vec<_>>(), ["online bob", "files bob"]);
    assert_eq!((&told[0], &told[0]), (&told[1], &told[2]), "the same numbers everywhere");
    assert_eq!(agreed(&alice, &labs), BTreeMap::from([("bob".to_owned(), 2)]));
    let found = alice.connect(&labs[1]).demand(&json!({ "action": "FIND", "name": "two" }));
    assert_eq!(found["files"][0]["user"], "bob", "{found}");
    // Elsewhere again: the session at the first tracker ends, and nobody is listed twice.
    let mut elsewhere = bob.come(&labs[1]);
    let told: Vec<_> = subscribers.iter_mut().map(|one| events_until(one, "files", "bob")).collect();
    assert_eq!((&told[0], &told[0]), (&told[1], &told[2]));
    let heartbeat = json!({ "action": "HEARTBEAT" });
    assert_eq!(at_first.ask(&heartbeat)["code"], "not_logged_in");
    elsewhere.demand(&heartbeat);
    // A client without a key, by its address alone.
    let ask = |lab: &Lab, request: Value| PlainSession::open(lab.address()).ask(&request)["code"].clone();
    let login = json!({ "action": "LOGIN", "user": "carol", "password": "0", "port": 4001 });
    assert_eq!(ask(&labs[0], json!({ "action": "REGISTER", "user": "carol", "password": "0" })), "ok");
    assert_eq!(ask(&labs[1], login), "ok");
    assert_eq!(ask(&labs[2], json!({ "action": "REGISTER_FILES", "user": "carol", "files": files })), "ok");
    assert_eq!(agreed(&alice, &labs), BTreeMap::from([("bob".to_owned(), 0), ("carol".to_owned(), 2)]));
    assert_eq!(ask(&labs[0], json!({ "action": "LOGOUT", "user": "carol" })), "ok");
    elsewhere.demand(&json!({ "action": "LOGOUT", "user": "bob" }));
    let told: Vec<_> = subscribers.iter_mut().map(|one| events_until(one, "offline", "bob")).collect();
    assert_eq!((&told[0], &told[0]), (&told[1], &told[2]));
    assert!(agreed(&alice, &labs).is_empty());
    // Whoever moves between trackers misses and repeats nothing.
    let (since, all) = (told[0].first().unwrap().0 - 1, told[0].clone());
    assert_eq!(events_until(&mut alice.subscribe(&labs[2], Some(since)), "offline", "bob"), all);
}

#[test]
fn a_name_has_one_owner_whatever_trackers_it_is_asked_from() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let labs = trackers_on(server, 3);
    let names = if is_long() { 334 } else { 12 };
    let winners: Vec<Vec<bool>> = std::thread::scope(|scope| {
        let ask = |lab: &Lab| {
            let address = lab.address().to_owned();
            move || (0..names).map(|number| has_registered(&address, &format!("n{number}"))).collect()
        };
        let threads: Vec<_> = labs.iter().map(|lab| scope.spawn(ask(lab))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for number in 0..names {
        assert_eq!(winners.iter().filter(|won| won[number]).count(), 1, "{number}: {winners:?}");
    }
}

fn has_registered(address: &str, user: &str) -> bool {
    let reply = PlainSession::open(address).ask(&json!({ "action": "REGISTER", "user": user, "password": "0" }));
    assert!(reply["code"] == "ok" || reply["code"] == "user_exists", "{reply}");
    reply["code"] == "ok"
}

pub(crate) fn is_long() -> bool {
    std::env::var_os("VIZINHO_LONG").is_some()
}

#[test]
fn users_of_a_tracker_that_ends_come_back_elsewhere_or_are_gone_for_all() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let mut labs = trackers_on(server, 2);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| Person::registered(name, &labs[1]));
    let mut subscriber = alice.subscribe(&labs[1], None);
    let _at_first = (bob.come(&labs[0]), carol.come(&labs[0]));
    assert_eq!(events_until(&mut subscriber, "online", "carol").len(), 2);
    if is_long() {
        // Its lease of 8 s has to run out.
        labs[0].kill_tracker();
    } else {
        let process = labs[0].take_tracker();
        process.terminate();
        process.finish().exits(0);
    }
    let ended = Instant::now();
    assert_eq!(agreed(&alice, &labs[1..]).len(), 2, "they have a while to come back");
    let mut of_bob = bob.come(&labs[1]);
    let told = events_until(&mut subscriber, "offline", "carol");
    assert!(told.iter().all(|(_, event)| !event.ends_with("bob") || event == "moved bob"), "{told:?}");
    assert!(ended.elapsed() > Duration::from_secs(5), "{:?}", ended.elapsed());
    assert!(ended.elapsed() < Duration::from_secs(if is_long() { 30 } else { 15 }), "{:?}", ended.elapsed());
    of_bob.demand(&json!({ "action": "HEARTBEAT" }));
    labs[0].start_tracker();
    assert_eq!(agreed(&alice, &labs), BTreeMap::from([("bob".to_owned(), 0)]));
}

/// Logs in and out, and writes down what was granted, until it is told to stop. The state is `None` when the tracker said
/// that it doesn't know.
fn come_and_go(lab: &Lab, person: &Person, stop: &AtomicBool) -> (usize, Option<bool>) {
    let (mut granted, mut is_present) = (0, Some(false));
    while !stop.load(Ordering::Relaxed) {
        let mut session = person.connect(lab);
        let (come, go) =
            (json!({ "action": "RESUME", "port": 4000 }), json!({ "action": "LOGOUT", "user": person.name }));
        for (request, becomes) in [(come, true), (go, false)] {
            let reply = session.ask(&request);
            match reply["code"].as_str().unwrap() {
                "ok" => (granted, is_present) = (granted + 1, Some(becomes)),
                "busy" => {
                    assert!(reply["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{reply}");
                    is_present = None;
                }
                "rate_limited" => {}
                other => panic!("{other}: {reply}"),
            }
            if reply["code"] != "ok" {
                // A rate that is used up, or a database that is away.
                std::thread::sleep(Duration::from_millis(20));
                break;
            }
        }
    }
    (granted, is_present)
}

#[test]
fn a_killed_database_makes_no_reply_wrong_and_trackers_agree_afterwards() {
    let Some(mut server) = PostgresServer::start().unwrap() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let labs = trackers_on(&server, 2);
    let alice = Person::registered("alice", &labs[0]);
    let names = ["u1", "u2", "u3", "u4"];
    let people: Vec<Person> =
        names.iter().zip(labs.iter().cycle()).map(|(n, lab)| Person::registered(n, lab)).collect();
    for _ in 0..if is_long() { 10 } else { 1 } {
        let mut subscribers: Vec<Session> = labs.iter().map(|lab| alice.subscribe(lab, None)).collect();
        let stop = AtomicBool::new(false);
        let (ends, restarted) = std::thread::scope(|scope| {
            let workers: Vec<_> = people
                .iter()
                .zip(labs.iter().cycle())
                .map(|(person, lab)| scope.spawn(|| come_and_go(lab, person, &stop)))
                .collect();
            std::thread::sleep(Duration::from_millis(rand::random_range(300..700)));
            server.kill().unwrap();
            server.restart().unwrap();
            let restarted = Instant::now();
            // Both trackers serve again.
            poll_for(
                Duration::from_secs(15),
                || labs.iter().all(|lab| has_come(&alice, lab)).then_some(()),
                || "the trackers never serve again".to_owned(),
            );
            let restarted = restarted.elapsed();
            stop.store(true, Ordering::Relaxed);
            let ends: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
            (ends, restarted)
        });
        println!(
            "{} granted, served again after {restarted:?}",
            ends.iter().map(|(granted, _)| granted).sum::<usize>()
        );
        let present = agreed(&alice, &labs);
        for (person, (_, is_present)) in people.iter().zip(&ends) {
            if let Some(is_present) = is_present {
                assert_eq!(present.contains_key(person.name), *is_present, "{}: {present:?}", person.name);
            }
        }
        // Each subscriber saw all events, in one order: the last one is a mark.
        alice.come(&labs[0]).demand(&json!({ "action": "LOGOUT", "user": "alice" }));
        let told: Vec<_> = subscribers.iter_mut().map(|one| events_until(one, "offline", "alice")).collect();
        let numbers: Vec<u64> = told[0].iter().map(|(number, _)| *number).collect();
        assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{told:?}");
        let common = told[1].iter().filter(|one| numbers.contains(&one.0));
        assert!(common.eq(told[0].iter().filter(|one| told[1].iter().any(|other| other.0 == one.0))), "{told:?}");
    }
}

pub(crate) fn has_come(person: &Person, lab: &Lab) -> bool {
    person.connect(lab).ask(&json!({ "action": "RESUME", "port": 4000 }))["code"] == "ok"
}

#[test]
fn a_frozen_tracker_says_nothing_of_users_whom_others_took_over() {
    if !is_long() {
        return println!("with VIZINHO_LONG: it takes 30 s");
    }
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let labs = trackers_on(server, 2);
    let (alice, bob) = (Person::registered("alice", &labs[1]), Person::registered("bob", &labs[0]));
    let mut subscriber = alice.subscribe(&labs[1], None);
    let mut of_bob = bob.come(&labs[0]);
    let first = labs[0].take_tracker();
    first.freeze();
    events_until(&mut subscriber, "offline", "bob");
    first.thaw();
    let reply = of_bob.ask(&json!({ "action": "HEARTBEAT" }));
    assert_ne!(reply["code"], "ok", "{reply}");
    poll_for(Duration::from_secs(15), || has_come(&bob, &labs[0]).then_some(()), || "never back".to_owned());
    assert_eq!(agreed(&alice, &labs), BTreeMap::from([("bob".to_owned(), 0)]));
}

#[test]
fn a_peer_that_knows_two_trackers_moves_when_its_own_dies_and_nobody_notices() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let labs = trackers_at(&server.address(&database), 2);
    let both = format!("{},{}", labs[0].address(), labs[1].address());
    let (alice, bob) = (labs[1].user("alice"), labs[0].user("bob"));
    bob.accept(["alice"]);
    let node = bob.peer(["serve", "--tracker", &both]).start();
    node.wait_for("online as bob at ");
    let holder = || server.administrate(&database, "SELECT node FROM presence WHERE user_name = 'bob'").unwrap();
    let before = holder();
    let mut subscriber = Person::registered("carol", &labs[1]).subscribe(&labs[1], None);
    labs[0].kill_tracker();
    let killed = Instant::now();
    poll_for(
        Duration::from_secs(10),
        || (holder() != before).then_some(()),
        || format!("bob is held by {} for ever", holder()),
    );
    println!("moved within {:?}", killed.elapsed());
    // 1 s and a bit, and more on a busy machine.
    assert!(killed.elapsed() < Duration::from_secs(6), "{:?}", killed.elapsed());
    // Nobody is told: bob is where he was.
    let dave = Person::registered("dave", &labs[1]);
    let _present = dave.come(&labs[1]);
    assert_eq!(events_until(&mut subscriber, "online", "dave").len(), 1);
    alice.peer(["chat", "bob", "still there?"]).run().exits(0);
    node.wait_for("still there?");
    // Known under one of the two addresses, the tracker is no stranger under both.
    let known = alice.cautious_peer(["list", "--tracker", &both]).run();
    known.exits(0).prints("bob");
}

#[test]
fn the_exercise_s_own_client_works_at_any_tracker() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let labs = trackers_on(server, 3);
    for (number, (lab, style)) in labs.iter().zip(["one", "each+newline", "pipelined"]).enumerate() {
        run_client(lab, &format!("student{number}"), style);
    }
}
