//! Events to many subscribers, some of which don't read them.

use std::time::Duration;

use certs::Identity;
use shared::tracker::SessionToken;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::tracker_harness::{Conn, RULES, World, register};
use crate::connection::ConnectionTimeouts;
use crate::rate_limits::ClientOrigin;
use crate::registry::{AuthenticatedLogin, KEPT_EVENTS, LoginTime};

const SUBSCRIBERS: usize = 300;

/// A world with one bound account, whose certificate may subscribe on as many connections as it likes.
async fn world() -> (World, Identity) {
    let world = World::with(RULES, ConnectionTimeouts::default(), SUBSCRIBERS + 10).await;
    let identity = Identity::generate().unwrap();
    assert_eq!(world.tls(Some(&identity)).await.code(&register("watcher")).await, "ok");
    (world, identity)
}

async fn subscriber(world: &World, identity: &Identity) -> Conn {
    let mut conn = world.tls(Some(identity)).await;
    assert_eq!(conn.code(r#"{"action":"SUBSCRIBE"}"#).await, "ok");
    conn
}

/// Makes `count` events.
fn stir(world: &World, count: usize) {
    let first = world.service.with_registry(|registry, _| registry.last_event());
    for n in 0..count {
        world.service.with_registry(|registry, now| {
            // Slow enough that no events are merged.
            let user = format!("visitor-{:020}", first + n as u64 / 2).parse().unwrap();
            if n % 2 == 1 {
                registry.logout(&user);
                return;
            }
            let token = SessionToken::from_bytes(rand::random());
            let place = (first + n as u64) / 500;
            let ip = [10, 0, u8::try_from(place % 250).unwrap(), 1].into();
            // Long lines fill the sockets' buffers sooner.
            let addresses = vec!["[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap(); 16];
            let at = LoginTime::at_unix_ms(0);
            let arrival = AuthenticatedLogin {
                user,
                ip,
                from: ClientOrigin::of(ip),
                port: None,
                addresses,
                token: token.into(),
                binding: None,
                at,
            };
            registry.login(arrival, now).unwrap();
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_reaches_hundreds_at_once() {
    let (world, identity) = world().await;
    let mut readers = JoinSet::new();
    // One of them never reads.
    let mut silent = subscriber(&world, &identity).await;
    for _ in 0..SUBSCRIBERS {
        let mut conn = subscriber(&world, &identity).await;
        readers.spawn(async move {
            let event = conn.line().await;
            assert_eq!(event["event"], "online");
            Instant::now()
        });
    }
    let began = Instant::now();
    stir(&world, 1);
    let last = readers.join_all().await.into_iter().max().unwrap();
    let took = last.duration_since(began);
    println!("one event to {SUBSCRIBERS} subscribers over TLS: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(silent.line().await["event"], "online");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_doesn_t_read_misses_events_and_holds_up_nobody() {
    let (world, identity) = world().await;
    let (mut silent, mut reader) = (subscriber(&world, &identity).await, subscriber(&world, &identity).await);
    let piece = KEPT_EVENTS / 4;
    let mut seen = None;
    // Far more than the sockets' buffers hold.
    for _ in 0..24 {
        stir(&world, piece);
        for _ in 0..piece {
            let event = reader.line().await;
            let seq = event["seq"].as_u64().unwrap();
            assert!(seen.is_none_or(|seen| seq == seen + 1) && event["event"] != "resync", "{seen:?} {event}");
            seen = Some(seq);
        }
    }
    let last = seen.unwrap();
    let mut before = 0;
    loop {
        let event = silent.line().await;
        let seq = event["seq"].as_u64().unwrap();
        if event["event"] == "resync" {
            assert!(seq > before + 1);
            let metrics = world.service.metrics();
            assert_eq!((metrics.resyncs.get(), metrics.events_dropped.get()), (1, seq - before));
            before = seq;
            break;
        }
        assert!(before == 0 || seq == before + 1);
        before = seq;
    }
    while before < last {
        let event = silent.line().await;
        assert_eq!(event["seq"], before + 1);
        before += 1;
    }
    stir(&world, 1);
    assert_eq!(silent.line().await["seq"], last + 1);
}
