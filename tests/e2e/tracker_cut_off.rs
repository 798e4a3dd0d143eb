//! One of several trackers is cut off from their database, and from nothing else: its users are taken over, it claims
//! nothing meanwhile, and it comes back by itself.

use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use serde_json::{Value, json};
use tests::hostile::Session;
use tests::{DatabaseProxy, poll_for};

use crate::tracker_cluster::{Person, agreed, events_until, has_come, is_long, tracker_at};

/// The length of a tracker's lease at its database.
const LEASE: Duration = Duration::from_secs(8);
/// The time in which a tracker is back, many times over: the machine is busy.
const RETURN: Duration = Duration::from_secs(30);

/// Asks until the tracker no longer answers for this user. Returns when it did for the last time.
fn last_answer(session: &mut Session, request: &Value) -> Instant {
    let mut last = Instant::now();
    loop {
        let asked = Instant::now();
        let reply = session.ask(request);
        match reply["code"].as_str().unwrap() {
            "ok" => last = asked,
            "busy" => {
                assert!(reply["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{reply}");
                return last;
            }
            _ => panic!("{reply}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_tracker_without_its_database_leaves_its_users_to_others_and_comes_back() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let (database, proxy) = (server.create_database().unwrap(), DatabaseProxy::start(server));
    let first = tracker_at(&proxy.address(server, &database), None);
    let others = [(); 2].map(|()| tracker_at(&server.address(&database), Some(&first)));
    let mut labs = vec![first];
    labs.extend(others);
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| Person::registered(name, &labs[0]));
    let mut subscribers: Vec<Session> = labs.iter().map(|lab| alice.subscribe(lab, None)).collect();
    let (mut of_bob, mut of_carol) = (bob.come(&labs[0]), carol.come(&labs[0]));
    let mut told: Vec<_> = subscribers.iter_mut().map(|one| events_until(one, "online", "carol")).collect();

    proxy.set_cut(true);
    let cut = Instant::now();
    // The others don't wait for it.
    let mut of_dave = dave.come(&labs[2]);
    told[1].extend(events_until(&mut subscribers[1], "online", "dave"));
    assert!(cut.elapsed() < LEASE, "{:?}", cut.elapsed());
    let heartbeat = json!({ "action": "HEARTBEAT" });
    let last = last_answer(&mut of_bob, &heartbeat);
    println!("it claims its users for {:?} after the cut", last.duration_since(cut));
    assert!(last.duration_since(cut) < LEASE, "{:?}", last.duration_since(cut));
    // Nothing else is a wrong yes either; what is known is still told.
    for request in [json!({ "action": "RESUME", "port": 4000 }), json!({ "action": "LOGOUT", "user": "bob" })] {
        let reply = bob.connect(&labs[0]).ask(&request);
        assert_ne!(reply["code"], "ok", "{request}: {reply}");
    }
    assert!(alice.connect(&labs[0]).demand(&json!({ "action": "LIST_PEERS" }))["total"].as_u64() >= Some(2));
    let mut elsewhere = bob.come(&labs[1]);
    elsewhere.demand(
        &json!({ "action": "REGISTER_FILES", "user": "bob", "files": [{ "name": "f", "size": 1, "hash": "h" }] }),
    );
    if is_long() {
        // Nobody hears of carol for the rest of the lease and the grace.
        told[1].extend(events_until(&mut subscribers[1], "offline", "carol"));
        println!("its users are gone {:?} after the cut", cut.elapsed());
    }
    assert_eq!(of_bob.ask(&heartbeat)["code"], "busy");

    proxy.set_cut(false);
    let mended = Instant::now();
    poll_for(RETURN, || has_come(&carol, &labs[0]).then_some(()), || "it never comes back".to_owned());
    println!("it serves again {:?} after the way was mended", mended.elapsed());
    // The session that another tracker replaced is none here either.
    assert_eq!(of_bob.ask(&heartbeat)["code"], "not_logged_in");
    // The one that was replaced here a moment ago.
    assert_eq!(of_carol.ask(&heartbeat)["code"], "not_logged_in");
    elsewhere.demand(&heartbeat);
    of_dave.demand(&heartbeat);
    let mut now = carol.come(&labs[0]);
    let present = agreed(&alice, &labs);
    assert_eq!(
        present.iter().map(|(user, files)| (user.as_str(), *files)).collect::<Vec<_>>(),
        [("bob", 1), ("carol", 0), ("dave", 0)]
    );
    // Its subscriber missed nothing: all saw the same up to a mark, and nobody that bob was away.
    now.demand(&json!({ "action": "LOGOUT", "user": "carol" }));
    of_dave.demand(&json!({ "action": "LOGOUT", "user": "dave" }));
    for (told, subscriber) in told.iter_mut().zip(&mut subscribers) {
        told.extend(events_until(subscriber, "offline", "dave"));
    }
    assert_eq!((&told[0], &told[0]), (&told[1], &told[2]));
    assert!(told[0].windows(2).all(|two| two[1].0 == two[0].0 + 1), "{:?}", told[0]);
    assert!(told[0].iter().all(|(_, event)| event != "offline bob"), "{:?}", told[0]);
}
