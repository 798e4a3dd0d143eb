//! Hostile and unlucky clients, too many connections, and the shutdown.

use std::time::Duration;

use certs::Identity;
use tokio::time::Instant;

use super::tls_clients::registered;
use super::tracker_harness::{RULES, World, codes, files, login, register};
use crate::connection::{ConnectionTimeouts, MemoryQuota};
use crate::registry::PresenceRules;

const LIST: &str = r#"{"action":"LIST_PEERS"}"#;

#[tokio::test]
async fn what_is_not_json_gets_one_line_and_the_end() {
    let world = World::new().await;
    for (bytes, expected) in [
        ("GET / HTTP/1.1\r\n\r\n".repeat(5000), vec!["bad_json"]),
        ("[1]".to_owned(), vec!["bad_json"]),
        (format!("{LIST}{LIST}?"), vec!["ok", "ok", "bad_json"]),
        (format!(r#"{{"a":1]{LIST}"#), vec!["bad_json", "ok"]),
        (format!(r#"{LIST} {{"action":"#), vec!["ok", "bad_json"]),
        (r#"{"action":"DANCE"}{"action":7}{}"#.to_owned(), vec!["unknown_action", "bad_request", "bad_request"]),
        ("{\"a\":".repeat(20), vec!["too_large"]),
        (" \r\n\t".to_owned(), vec![]),
        (String::new(), vec![]),
    ] {
        let mut conn = world.plain().await;
        conn.send(&bytes).await;
        conn.end().await;
        assert_eq!(codes(&conn.rest().await), expected, "{bytes:.40}");
    }
    // Invalid UTF-8 costs the request, but not the connection.
    let mut conn = world.plain().await;
    conn.send(b"{\"user\":\"\xff\"}").await;
    assert_eq!(conn.line().await["code"], "bad_json");
    assert_eq!(conn.code(LIST).await, "ok");
}

#[tokio::test]
async fn long_requests_need_a_login() {
    let world = World::with(PresenceRules { legacy_auth: false, ..RULES }, ConnectionTimeouts::default(), 100).await;
    world.once(&register("bob")).await;
    let mut conn = world.plain().await;
    assert_eq!(conn.code(&login("bob")).await, "ok");
    assert_eq!(conn.ask(&files("bob", 20_000)).await["count"], 20_000);
    let listed = conn.ask(&LIST.replacen('{', r#"{"with_files":true,"#, 1)).await;
    assert_eq!(listed["peers"][0]["files"].as_array().unwrap().len(), 20_000);
    let listed = conn.ask(LIST).await;
    assert!(listed.to_string().len() < 4096 && listed["peers"][0]["file_count"] == 20_000);
    let mut stranger = world.plain().await;
    stranger.send(&files("bob", 1000)).await;
    assert_eq!(codes(&stranger.rest().await), ["too_large"]);
}

#[tokio::test]
async fn a_client_of_the_exercise_may_bring_a_long_list_on_a_connection_of_its_own() {
    let world = World::new().await;
    world.once(&register("bob")).await;
    world.once(&login("bob")).await;
    assert_eq!(world.once(&files("bob", 5000)).await["count"], 5000);
}

#[tokio::test]
async fn long_requests_that_never_end_leave_room_for_others_or_are_told_to_come_back() {
    let patience = ConnectionTimeouts { memory_wait: Duration::from_millis(300), ..ConnectionTimeouts::default() };
    // Ten pieces of 64 KiB.
    let world = World::with_quota(MemoryQuota::with_bounds(10, 10), patience).await;
    world.once(&register("bob")).await;
    let (mut hoarder, mut honest) = (world.plain().await, world.plain().await);
    assert_eq!(hoarder.code(&login("bob")).await, "ok");
    let hoard = format!(r#"{{"action":"REGISTER_FILES","files":"{}"#, "x".repeat(450_000));
    hoarder.send(&hoard).await;
    assert_eq!(honest.code(LIST).await, "ok");
    let long = files("bob", 4000);
    assert!(long.len() > 130_000);
    honest.send(&long).await;
    let refused = honest.line().await;
    assert_eq!(refused["code"], "busy", "{refused}");
    assert!(refused["retry_after_ms"].is_u64());
    // Only the request is refused; the connection stays.
    assert_eq!(honest.code(LIST).await, "ok");
    drop(hoarder);
    world.once(&login("bob")).await;
    assert_eq!(world.once(&long).await["count"], 4000);
    // Memory of requests that were read is free again, though their connections stay.
    for _ in 0..20 {
        let mut silent = world.plain().await;
        assert_eq!(silent.code(&login("bob")).await, "ok");
        assert_eq!(silent.ask(&long).await["count"], 4000);
    }
}

#[tokio::test]
async fn a_long_request_that_stops_gives_way_to_another() {
    let world = World::with_quota(MemoryQuota::with_bounds(10, 10), ConnectionTimeouts::default()).await;
    world.once(&register("bob")).await;
    let (mut hoarder, mut honest) = (world.plain().await, world.plain().await);
    assert_eq!(hoarder.code(&login("bob")).await, "ok");
    hoarder.send(&format!(r#"{{"action":"REGISTER_FILES","files":"{}"#, "x".repeat(450_000))).await;
    assert_eq!(honest.code(LIST).await, "ok");
    assert_eq!(honest.ask(&files("bob", 4000)).await["count"], 4000);
    assert_eq!(hoarder.line().await["code"], "busy");
    hoarder.send(&format!(r#"{}"}}"#, "x".repeat(450_000))).await;
    assert_eq!(hoarder.code(LIST).await, "ok");
}

#[tokio::test]
async fn connections_that_hold_all_places_give_way() {
    let world = World::with(RULES, ConnectionTimeouts::default(), 20).await;
    world.once(&register("bob")).await;
    let mut logged_in = world.plain_from([127, 0, 0, 2]).await;
    assert_eq!(logged_in.code(&login("bob")).await, "ok");
    let mut hoard = Vec::new();
    for _ in 0..19 {
        let mut conn = world.plain_from([127, 0, 0, 2]).await;
        conn.send(" ").await;
        hoard.push(conn);
    }
    let mut newcomers = Vec::new();
    for n in 0..8 {
        let mut newcomer = world.plain_from([127, 0, 1, n]).await;
        assert_eq!(newcomer.code(LIST).await, "ok");
        newcomers.push(newcomer);
    }
    for conn in &mut newcomers {
        assert_eq!(conn.code(LIST).await, "ok");
    }
    assert_eq!(logged_in.code(LIST).await, "ok");
    until_closed(&world, "made_way", 8).await;
}

#[tokio::test]
async fn an_account_that_is_on_all_places_keeps_few() {
    let world = World::with(RULES, ConnectionTimeouts::default(), 20).await;
    let (identity, mut first) = registered(&world, "bob").await;
    assert_eq!(first.code(r#"{"action":"RESUME"}"#).await, "ok");
    let mut hoard = vec![first];
    for _ in 1..20 {
        let mut conn = world.tls(Some(&identity)).await;
        assert_eq!(conn.code(r#"{"action":"RESUME"}"#).await, "ok");
        hoard.push(conn);
    }
    for n in 0..4 {
        let mut newcomer = world.plain_from([127, 0, 1, n]).await;
        assert_eq!(newcomer.code(LIST).await, "ok");
        hoard.push(newcomer);
    }
    until_closed(&world, "made_way", 4).await;
    assert_eq!(hoard[0].code(r#"{"action":"RESUME"}"#).await, "ok", "the first ones are kept");
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let short = Duration::from_millis(100);
    let patience =
        ConnectionTimeouts { handshake: short, request: short, idle: short, ..ConnectionTimeouts::default() };
    let world = World::with(RULES, patience, 100).await;
    let mut silent = world.plain().await;
    assert!(silent.rest().await.is_empty());
    let mut dripping = world.plain().await;
    dripping.send(r#"{"action":"#).await;
    assert_eq!(codes(&dripping.rest().await), ["bad_request"]);
    let mut idle = world.plain().await;
    assert_eq!(idle.code(LIST).await, "ok");
    assert!(idle.rest().await.is_empty());
    let mut half_a_handshake = world.plain().await;
    half_a_handshake.send([0x16, 3, 1]).await;
    assert!(half_a_handshake.rest().await.is_empty());
    for reason in ["silent", "slow_request", "quiet", "slow_handshake"] {
        until_closed(&world, reason, 1).await;
    }
}

#[tokio::test]
async fn who_connects_first_and_asks_their_user_afterwards_is_waited_for() {
    let short = Duration::from_millis(50);
    let patience = ConnectionTimeouts {
        handshake: short,
        request: short,
        memory_wait: short,
        stalled_write: short,
        ..ConnectionTimeouts::default()
    };
    assert!(patience.idle >= Duration::from_secs(600));
    let world = World::with(RULES, patience, 100).await;
    let mut thoughtful = world.plain().await;
    tokio::time::sleep(4 * short).await;
    assert_eq!(thoughtful.code(&register("bob")).await, "ok");
    tokio::time::sleep(4 * short).await;
    assert_eq!(thoughtful.code(&login("bob")).await, "ok");
}

#[tokio::test]
async fn those_who_never_said_anything_make_way() {
    let world = World::with(RULES, ConnectionTimeouts::default(), 20).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(world.plain_from([127, 0, 0, 2]).await);
    }
    for n in 0..9 {
        let mut newcomer = world.plain_from([127, 0, 1, n]).await;
        assert_eq!(newcomer.code(LIST).await, "ok");
        silent.push(newcomer);
    }
    until_closed(&world, "made_way", 9).await;
}

/// Waits until this number of connections ended for this reason.
async fn until_closed(world: &World, reason: &str, count: usize) {
    let line = format!(r#"tracker_closed_total{{reason="{reason}"}} {count}"#);
    let started = Instant::now();
    while !world.service.metrics().to_openmetrics(world.service.snapshot()).contains(&line) {
        assert!(started.elapsed() < Duration::from_secs(10), "{line}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_let_go() {
    let patience = ConnectionTimeouts { stalled_write: Duration::from_millis(200), ..ConnectionTimeouts::default() };
    let world = World::with(RULES, patience, 2).await;
    world.once(&register("bob")).await;
    let mut greedy = world.plain().await;
    assert_eq!(greedy.code(&login("bob")).await, "ok");
    assert_eq!(greedy.ask(&files("bob", 2000)).await["count"], 2000);
    greedy.send(LIST.repeat(400)).await;
    let started = Instant::now();
    while world.plain().await.code(LIST).await == "ok" && started.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until_closed(&world, "unread", 1).await;
    drop(greedy);
    assert_eq!(world.users().await, ["bob"]);
}

#[tokio::test]
async fn over_the_cap_it_is_busy_and_then_free_again() {
    let world = World::with(RULES, ConnectionTimeouts::default(), 2).await;
    let (mut one, mut two) = (world.plain().await, world.plain().await);
    assert_eq!(one.code(LIST).await, "ok");
    assert_eq!(two.code(LIST).await, "ok");
    let refused = world.plain().await.rest().await;
    assert_eq!(codes(&refused), ["busy"]);
    assert!(refused[0]["retry_after_ms"].is_u64());
    drop(one);
    let started = Instant::now();
    while codes(&[world.once(LIST).await]) != ["ok"] {
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(two.code(LIST).await, "ok");
}

#[tokio::test]
async fn who_was_let_in_just_before_a_stop_is_answered() {
    let mut world = World::new().await;
    let mut silent = world.plain().await;
    let started = Instant::now();
    while world.service.metrics().connections.get() == 0 {
        assert!(started.elapsed() < Duration::from_secs(10));
        tokio::task::yield_now().await;
    }
    world.begin_stop();
    // The other clients got their reasons.
    tokio::time::sleep(Duration::from_millis(20)).await;
    silent.send(LIST).await;
    assert_eq!(codes(&silent.rest().await), ["ok"]);
    world.stopped().await;
}

#[tokio::test]
async fn a_stop_answers_what_came_before_it() {
    let mut world = World::new().await;
    let identity = Identity::generate().unwrap();
    let (mut idle, mut secure, mut asking) =
        (world.plain().await, world.tls(Some(&identity)).await, world.plain().await);
    assert_eq!(idle.code(LIST).await, "ok");
    assert_eq!(secure.code(LIST).await, "ok");
    assert_eq!(asking.code(LIST).await, "ok");
    asking.send(format!("{}{LIST}", register("bob"))).await;
    let started = Instant::now();
    world.begin_stop();
    assert_eq!(codes(&asking.rest().await), ["ok", "ok"]);
    assert!(idle.rest().await.is_empty() && secure.rest().await.is_empty());
    drop((idle, secure, asking));
    world.stopped().await;
    assert!(started.elapsed() < Duration::from_secs(5));
}
