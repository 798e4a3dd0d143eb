//! Several trackers on a database with a synchronous standby: whatever was acknowledged is there after a promotion.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use serde_json::json;
use tests::hostile::Session;
use tests::{Lab, poll_for};

use crate::tracker_cluster::{EVENT_PATIENCE, Person, agreed, has_come, is_long, listed, trackers_at};

/// The time in which all trackers serve again after a promotion, many times over.
const AT_MOST: Duration = Duration::from_secs(30);

/// What one client was told.
#[derive(Debug, Default)]
struct Acknowledged {
    /// The accounts that were made.
    accounts: BTreeSet<String>,
    /// The rooms that were made.
    rooms: BTreeSet<String>,
    /// Whether the client is present; `None` if the tracker said that it doesn't know.
    is_present: Option<bool>,
}

/// Comes, goes, registers others and makes rooms until it is told to stop; repeats with the same key what is `busy`.
fn change_things(lab: &Lab, person: &Person, stop: &AtomicBool) -> Acknowledged {
    let mut told = Acknowledged { is_present: Some(false), ..Acknowledged::default() };
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut session = person.connect(lab);
        for (request, becomes) in [
            (json!({ "action": "RESUME", "port": 4000 }), true),
            (json!({ "action": "LOGOUT", "user": person.name }), false),
        ] {
            match session.ask(&request)["code"].as_str().unwrap() {
                "ok" => told.is_present = Some(becomes),
                "rate_limited" => {}
                _ => told.is_present = None,
            }
        }
        let room = format!("{}-{number}", person.name);
        let key = format!("{:032x}", rand::random::<u128>());
        let create = json!({ "action": "ROOM_CREATE", "room": room, "idempotency_key": key });
        if is_granted(lab, person, &create, stop) {
            told.rooms.insert(room);
        }
        let name = format!("{}x{number}", person.name);
        let key = format!("{:032x}", rand::random::<u128>());
        let register = json!({ "action": "REGISTER", "user": name, "password": "p", "idempotency_key": key });
        if is_granted(lab, &Person::without_account(), &register, stop) {
            told.accounts.insert(name);
        }
    }
    told
}

/// Asks until the answer is certain, or it is time to stop. A name that is taken would be one's own.
fn is_granted(lab: &Lab, person: &Person, request: &serde_json::Value, stop: &AtomicBool) -> bool {
    loop {
        let reply = person.connect(lab).ask(request);
        match reply["code"].as_str().unwrap() {
            "ok" => return true,
            "busy" if !stop.load(Ordering::Relaxed) => std::thread::sleep(Duration::from_millis(50)),
            "busy" | "rate_limited" => return false,
            other => panic!("{other}: {reply} to {request}"),
        }
    }
}

/// Reads all events up to the mark, as any number of resyncs and numbers that only grow.
fn numbers_until_mark(subscriber: &mut Session) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let event = subscriber.read();
        numbers.push(event["seq"].as_u64().unwrap());
        if event["event"] == "offline" && event["user"] == "mark" {
            return numbers;
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_primary_dies_and_its_standby_takes_over() {
    for _ in 0..if is_long() { 10 } else { 1 } {
        let Some(primary) = PostgresServer::start().unwrap() else {
            return println!("PostgreSQL is not installed: nothing is tested");
        };
        let database = primary.create_database().unwrap();
        let standby = primary.start_standby().unwrap();
        primary.wait_for_standby(true).unwrap();
        let labs = trackers_at(&PostgresServer::address_of_all(&[&primary, &standby], &database), 3);
        let mark = Person::registered("mark", &labs[0]);
        let people: Vec<Person> =
            ["u1", "u2", "u3"].into_iter().zip(&labs).map(|(name, lab)| Person::registered(name, lab)).collect();
        let mut subscribers: Vec<Session> = labs.iter().map(|lab| mark.subscribe(lab, None)).collect();
        let stop = AtomicBool::new(false);
        let told = std::thread::scope(|scope| {
            let workers: Vec<_> = people
                .iter()
                .zip(&labs)
                .map(|(person, lab)| scope.spawn(|| change_things(lab, person, &stop)))
                .collect();
            std::thread::sleep(Duration::from_millis(rand::random_range(500..1500)));
            primary.kill().unwrap();
            standby.promote().unwrap();
            let promoted = Instant::now();
            poll_for(
                AT_MOST,
                || labs.iter().all(|lab| has_come(&mark, lab)).then_some(()),
                || "the trackers never serve again".to_owned(),
            );
            println!("served again after {:?}", promoted.elapsed());
            stop.store(true, Ordering::Relaxed);
            workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        });
        let present = agreed(&mark, &labs);
        let rooms = mark.connect(&labs[0]).demand(&json!({ "action": "ROOM_LIST", "limit": 100 }));
        let rooms: BTreeSet<&str> =
            rooms["rooms"].as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap()).collect();
        for (person, acknowledged) in people.iter().zip(&told) {
            println!("{}: {} accounts, {} rooms", person.name, acknowledged.accounts.len(), acknowledged.rooms.len());
            assert!(!acknowledged.accounts.is_empty() && !acknowledged.rooms.is_empty(), "{acknowledged:?}");
            if let Some(is_present) = acknowledged.is_present {
                assert_eq!(present.contains_key(person.name), is_present, "{}: {present:?}", person.name);
            }
            for room in &acknowledged.rooms {
                assert!(rooms.contains(room.as_str()), "{room} is lost: {rooms:?}");
            }
            for account in &acknowledged.accounts {
                let known = mark.connect(&labs[1]).ask(&json!({ "action": "WHOIS", "user": account }));
                assert_eq!(known["code"], "ok", "{account} is lost: {known}");
            }
        }
        // Numbers only grow, at every tracker, across the promotion.
        mark.come(&labs[2]).demand(&json!({ "action": "LOGOUT", "user": "mark" }));
        for subscriber in &mut subscribers {
            let numbers = numbers_until_mark(subscriber);
            assert!(numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");
            assert!(numbers.last().unwrap() - numbers[0] > 1 << 20, "a new epoch: {numbers:?}");
        }
        let lists: Vec<BTreeMap<String, u64>> = labs.iter().map(|lab| listed(&mark, lab)).collect();
        assert!(lists.windows(2).all(|two| two[0] == two[1]), "{lists:?}");
    }
}

#[test]
fn trackers_that_read_what_a_promotion_lost_begin_anew() {
    let Some(primary) = PostgresServer::start().unwrap() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = primary.create_database().unwrap();
    let standby = primary.start_standby().unwrap();
    let mut labs = trackers_at(&PostgresServer::address_of_all(&[&primary, &standby], &database), 2);
    let alice = Person::registered("alice", &labs[0]);
    primary.wait_for_standby(true).unwrap();
    let _kept = Person::registered("kept", &labs[0]);
    primary.wait_for_standby(false).unwrap();
    standby.detach().unwrap();
    let lost = Person::registered("lost", &labs[0]);
    let _present = lost.come(&labs[1]);
    assert!(agreed(&alice, &labs).contains_key("lost"));
    primary.kill().unwrap();
    standby.promote().unwrap();
    // Each ends, with a code by which a service manager starts it again.
    for lab in &mut labs {
        let ended = lab.take_tracker().finish();
        ended.exits(1).says("out of date");
        lab.start_tracker();
    }
    let whois = |user: &str| alice.connect(&labs[1]).ask(&json!({ "action": "WHOIS", "user": user }))["code"].clone();
    poll_for(EVENT_PATIENCE, || (whois("kept") == "ok").then_some(()), || "never back".to_owned());
    assert_eq!(whois("lost"), "not_found");
    assert!(agreed(&alice, &labs).is_empty());
}
