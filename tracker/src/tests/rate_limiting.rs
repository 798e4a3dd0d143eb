//! Guessing and flooding, and bystanders who do neither.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use certs::Identity;
use tokio::task::JoinSet;

use super::tracker_harness::{POLICY, World, login, register};
use crate::connection::ConnectionTimeouts;
use crate::rate_limits::RateSettings;
use crate::service::{RegistrationMode, ServicePolicy};

fn strict() -> ServicePolicy {
    ServicePolicy { rates: RateSettings { logins: NonZeroU32::new(4), registrations: NonZeroU32::new(2) }, ..POLICY }
}

fn wrong(user: &str) -> String {
    login(user).replace("s3nha", "wrong")
}

#[tokio::test]
async fn guesses_are_limited_where_they_come_from_and_nowhere_else() {
    let world = World::with_policy(strict(), ConnectionTimeouts::default(), 100).await;
    let mut here = world.plain().await;
    for user in ["alice", "bob"] {
        assert_eq!(here.code(&register(user)).await, "ok");
    }
    for _ in 0..15 {
        assert_eq!(here.code(&login("bob")).await, "ok");
    }
    for _ in 0..10 {
        assert_eq!(here.code(&wrong("bob")).await, "auth_failed");
    }
    let refused = here.ask(&wrong("bob")).await;
    assert_eq!(refused["code"], "rate_limited");
    assert!((1..=15_000).contains(&refused["retry_after_ms"].as_u64().unwrap()), "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains(" s; the tracker's --rate-limit-logins says"), "{message}");
    let passwd = r#"{"action":"PASSWD","user":"bob","password":"s3nha","new_password":"x"}"#;
    assert_eq!(here.code(passwd).await, "rate_limited");
    assert_eq!(here.code(&login("alice")).await, "ok");
    let mut there = world.plain_from([127, 0, 0, 2]).await;
    assert_eq!(there.code(&login("bob")).await, "ok");
}

#[tokio::test]
async fn a_class_behind_one_address_goes_on_while_one_of_it_guesses() {
    let world = World::with_policy(strict(), ConnectionTimeouts::default(), 100).await;
    let mut conn = world.plain().await;
    for user in ["alice", "bob", "carol"] {
        conn.code(&register(user)).await;
    }
    for guess in 0..60 {
        let code = conn.code(&wrong(&format!("u{}", guess % 20))).await;
        assert_eq!(code, "auth_failed", "{guess}");
    }
    for user in ["alice", "bob", "carol"] {
        assert_eq!(world.once(&login(user)).await["code"], "ok");
    }
}

#[tokio::test]
async fn many_guesses_at_once_win_nothing() {
    let world = World::with_policy(strict(), ConnectionTimeouts::default(), 100).await;
    world.once(&register("bob")).await;
    let mut guesses = JoinSet::new();
    for _ in 0..40 {
        let mut conn = world.plain().await;
        guesses.spawn(async move { conn.code(&wrong("bob")).await });
    }
    let codes = guesses.join_all().await;
    let looked_at = codes.iter().filter(|code| *code == "auth_failed").count();
    assert!((10..=11).contains(&looked_at), "{codes:?}");
    assert_eq!(codes.iter().filter(|code| *code == "rate_limited").count(), 40 - looked_at);
}

#[tokio::test]
async fn registrations_are_limited_by_address() {
    let world = World::with_policy(strict(), ConnectionTimeouts::default(), 100).await;
    let mut here = world.plain().await;
    for n in 0..10 {
        assert_eq!(here.code(&register(&format!("u{n}"))).await, "ok");
    }
    assert_eq!(here.code(&register("more")).await, "rate_limited");
    assert_eq!(world.plain_from([127, 0, 0, 2]).await.code(&register("other")).await, "ok");
}

#[tokio::test]
async fn a_user_who_resumes_without_end_is_told_of_at_a_pace() {
    let world = World::with_policy(POLICY, ConnectionTimeouts::default(), 100).await;
    let identity = Identity::generate().unwrap();
    let mut subscriber = world.tls(Some(&identity)).await;
    assert_eq!(subscriber.code(&register("bob")).await, "ok");
    assert_eq!(subscriber.code(r#"{"action":"SUBSCRIBE"}"#).await, "ok");
    let mut restless = world.tls(Some(&identity)).await;
    let mut codes = std::collections::BTreeMap::<String, usize>::new();
    for n in 0..4000 {
        let code = restless.code(&format!(r#"{{"action":"RESUME","port":{}}}"#, 1000 + n)).await;
        *codes.entry(code.clone()).or_default() += 1;
        if code == "rate_limited" {
            break;
        }
    }
    assert!(codes["ok"] >= 2000 && codes["ok"] < 4000 && codes["rate_limited"] == 1, "{codes:?}");
    let last = 1000 + codes["ok"] - 1;
    let mut events = 1;
    while subscriber.line().await["port"] != last {
        events += 1;
    }
    assert!(events < 500, "{events}");
}

#[tokio::test]
async fn whoever_is_refused_again_and_again_waits() {
    let world = World::with_policy(POLICY, ConnectionTimeouts::default(), 100).await;
    let mut conn = world.plain().await;
    conn.send("{}".repeat(103)).await;
    let began = Instant::now();
    for _ in 0..103 {
        assert_eq!(conn.line().await["code"], "bad_request");
    }
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn closed_registration_says_so() {
    let policy = ServicePolicy { registration: RegistrationMode::Closed, ..POLICY };
    let world = World::with_policy(policy, ConnectionTimeouts::default(), 100).await;
    assert_eq!(world.once(&register("bob")).await["code"], "forbidden");
    assert_eq!(world.once(&login("bob")).await["code"], "auth_failed");
}
