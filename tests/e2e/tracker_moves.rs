//! Peers that know several trackers of one database, and move when their own fails them, however it does.

use std::thread::sleep;
use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use serde_json::{Value, json};
use tests::{CuttingProxy, DatabaseProxy, Invocation, Lab, Process, User, binaries, poll_for};

use crate::tracker_cluster::{Person, events_until, is_long, trackers_at, trackers_by};

/// The time within which peers leave a tracker that says nothing any more.
const SILENCE_PATIENCE: Duration = Duration::from_secs(15);
/// What a busy machine takes longer.
const SLACK: Duration = Duration::from_secs(3);

/// Returns how many nodes hear the events of this tracker.
fn subscribers(lab: &Lab) -> u64 {
    let status = Invocation::new(binaries::binary("tracker"), lab.path()).args(["status", "--json", "--data-dir"]);
    let status: Value = serde_json::from_slice(&status.arg(lab.join("tracker")).run().stdout).unwrap();
    status["subscribers"].as_u64().unwrap()
}

/// Waits until so many nodes more have come to this tracker, and returns how long each of them took.
#[track_caller]
fn wait_for_moves(lab: &Lab, before: u64, count: usize) -> Vec<Duration> {
    let (began, mut moved) = (Instant::now(), Vec::new());
    let look = || {
        while (moved.len() as u64) < subscribers(lab).saturating_sub(before) {
            moved.push(began.elapsed());
        }
        (moved.len() >= count).then(|| moved.clone())
    };
    let moved = poll_for(Duration::from_secs(60), look, || "they never come".to_owned());
    println!("moved within {moved:?}");
    moved
}

/// Starts the node of somebody who knows trackers at these addresses.
#[track_caller]
fn serve_at(user: &User<'_>, addresses: &[&str]) -> Process {
    let node = user.peer(["serve", "--tracker", &addresses.join(",")]).start();
    node.wait_for(&format!("online as {} at ", user.name()));
    node
}

#[test]
fn peers_leave_a_tracker_that_is_frozen_and_one_whose_network_is_gone() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let labs = trackers_at(&server.address(&database), 3);
    let wire = CuttingProxy::start(labs[1].address().parse().unwrap(), Vec::new());
    let through_wire = format!("127.0.0.1:{}", wire.port());
    let (bob, carol) = (labs[2].user("bob"), labs[2].user("carol"));
    let _nodes = (
        serve_at(&bob, &[labs[0].address(), labs[2].address()]),
        serve_at(&carol, &[&through_wire, labs[2].address()]),
    );
    let mut subscriber = Person::registered("dave", &labs[2]).subscribe(&labs[2], None);
    let before = subscribers(&labs[2]);
    let frozen = labs[0].take_tracker();
    frozen.freeze();
    wire.mute();
    let moved = wait_for_moves(&labs[2], before, 2);
    assert!(moved.iter().all(|after| *after < SILENCE_PATIENCE + SLACK), "{moved:?}");
    frozen.thaw();
    // Nobody was told that they were gone.
    let erin = Person::registered("erin", &labs[2]);
    let _present = erin.come(&labs[2]);
    let told = events_until(&mut subscriber, "online", "erin");
    assert!(told.iter().all(|(_, event)| !event.starts_with("offline")), "{told:?}");
}

#[test]
fn peers_leave_a_tracker_that_is_cut_off_from_the_database_and_do_not_run_to_and_fro() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let direct = server.address(&database);
    let way = DatabaseProxy::start(server);
    let labs = trackers_by(&[&way.address(server, &database), &direct]);
    let names = if is_long() { &["u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8"][..] } else { &["u1", "u2", "u3"] };
    let late = labs[1].user("late");
    let users: Vec<User<'_>> = names.iter().map(|name| labs[1].user(name)).collect();
    let nodes: Vec<Process> =
        users.iter().map(|user| serve_at(user, &[labs[0].address(), labs[1].address()])).collect();
    let mut subscriber = Person::registered("dave", &labs[1]).subscribe(&labs[1], None);
    let before = subscribers(&labs[1]);
    for round in 0..if is_long() { 3 } else { 1 } {
        way.set_closed(true);
        if round == 0 {
            let moved = wait_for_moves(&labs[1], before, names.len());
            // Their tracker's lease runs for 8 s.
            assert!(moved.iter().all(|after| *after < SILENCE_PATIENCE + SLACK), "{moved:?}");
            // Whoever comes now is taken by the other one at once.
            let began = Instant::now();
            drop(serve_at(&late, &[labs[0].address(), labs[1].address()]));
            println!("begun within {:?}", began.elapsed());
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        } else {
            sleep(Duration::from_secs(20));
        }
        way.set_closed(false);
        sleep(Duration::from_secs(if is_long() { 20 } else { 1 }));
    }
    let erin = Person::registered("erin", &labs[1]);
    let _present = erin.come(&labs[1]);
    let told = events_until(&mut subscriber, "online", "erin");
    for name in names {
        let of_one: Vec<_> = told.iter().filter(|(_, event)| event.ends_with(&format!(" {name}"))).collect();
        assert!(of_one.iter().all(|(_, event)| event.starts_with("moved") || event.starts_with("files")), "{told:?}");
        assert!(of_one.iter().filter(|(_, event)| event.starts_with("moved")).count() <= 1, "{told:?}");
    }
    // They never were without a tracker, so that nobody had to be told.
    for node in &nodes {
        assert!(!node.said().contains("trying again"), "{}", node.said());
    }
}

#[test]
fn a_peer_stays_with_its_tracker_while_the_database_is_away_for_all() {
    let Some(mut server) = PostgresServer::start().unwrap() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let labs = trackers_at(&server.address(&database), 2);
    let (alice, bob) = (labs[0].user("alice"), labs[0].user("bob"));
    let his = serve_at(&bob, &[labs[0].address(), labs[1].address()]);
    alice.peer(["chat", "bob", "we meet"]).run().exits(0);
    server.kill().unwrap();
    his.wait_for("trying again");
    // Who is online is listed and found meanwhile.
    alice.peer(["list"]).run().exits(0).prints("bob");
    alice.peer(["chat", "bob", "without a database", "--now"]).run().exits(0);
    his.wait_for("without a database");
    server.restart().unwrap();
    his.wait_for_nth("online as bob at ", 2);
    assert_eq!(subscribers(&labs[0]) + subscribers(&labs[1]), 1);
}

/// The users of whom a program was told, with what.
fn presences_told(program: &Process) -> Vec<(String, bool)> {
    let events = program.said();
    let events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events
        .filter(|event| event["type"] == "presence")
        .map(|event| (event["user"].as_str().unwrap().to_owned(), event["online"].as_bool().unwrap()))
        .collect()
}

#[test]
fn whoever_listens_through_a_move_hears_everything_once_and_in_order() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let mut labs = trackers_at(&server.address(&server.create_database().unwrap()), 2);
    let both = format!("{},{}", labs[0].address(), labs[1].address());
    let names = ["v0", "v1", "v2", "v3", "v4", "v5"];
    let people = names.map(|name| Person::registered(name, &labs[1]));
    let witness = Person::registered("witness", &labs[1]);
    let mut events = labs[1].user("alice").peer(["events", "--tracker", &both]).open_stdin().start();
    poll_for(Duration::from_secs(30), || (subscribers(&labs[0]) > 0).then_some(()), || events.said());
    let mut expected = Vec::new();
    for round in 0..if is_long() { 6 } else { 2 } {
        let (dying, other) = (round % 2, 1 - round % 2);
        let mut unmoved = witness.subscribe(&labs[other], None);
        labs[dying].kill_tracker();
        // Right in the gap, and while it comes back.
        for person in &people {
            person.come(&labs[other]).demand(&json!({ "action": "LOGOUT", "user": person.name }));
            sleep(Duration::from_millis(300));
        }
        for (_, event) in events_until(&mut unmoved, "offline", "v5") {
            let (kind, user) = event.split_once(' ').unwrap();
            expected.extend(matches!(kind, "online" | "offline").then(|| (user.to_owned(), kind == "online")));
        }
        poll_for(
            Duration::from_secs(30),
            || (presences_told(&events).len() >= expected.len()).then_some(()),
            || format!("{}\n{:?}\n{expected:?}", events.said(), presences_told(&events)),
        );
        labs[dying].start_tracker();
    }
    assert_eq!(presences_told(&events), expected);
    events.close_stdin();
}
