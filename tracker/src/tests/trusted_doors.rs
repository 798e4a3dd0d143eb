//! Doors: trusted gateways for many people.

use std::num::NonZeroU32;

use certs::Identity;
use serde_json::json;

use super::tracker_harness::{Conn, POLICY, World, codes, files, login, logout, register};
use crate::connection::ConnectionTimeouts;
use crate::rate_limits::RateSettings;
use crate::service::ServicePolicy;

/// A tracker with a door and low limits for one address.
async fn world() -> (World, Identity) {
    let door = Identity::generate().unwrap();
    let rates = RateSettings { logins: NonZeroU32::new(4), registrations: NonZeroU32::new(2) };
    let policy = ServicePolicy { rates, trusted_doors: vec![door.fingerprint()], ..POLICY };
    (World::with_policy(policy, ConnectionTimeouts::default(), 100).await, door)
}

fn forwarded(person: &str) -> String {
    json!({ "action": "FORWARDED", "for": person }).to_string()
}

async fn through(world: &World, door: &Identity, person: &str) -> Conn {
    let mut conn = world.tls(Some(door)).await;
    assert_eq!(conn.code(&forwarded(person)).await, "ok");
    conn
}

#[tokio::test]
async fn a_class_behind_a_door_is_counted_one_by_one() {
    let (world, door) = world().await;
    for n in 0..40 {
        let (user, mut conn) = (format!("student{n}x"), through(&world, &door, &format!("session {n}")).await);
        assert_eq!(conn.code(&register(&user)).await, "ok", "{user}");
        assert_eq!(conn.code(&login(&user)).await, "ok", "{user}");
    }
    // The same number from one address is refused.
    let mut alone = world.tls(Some(&door)).await;
    let mut refused = Vec::new();
    for n in 0..40 {
        refused.push(alone.ask(&register(&format!("other{n}x"))).await);
    }
    assert!(codes(&refused).contains(&"rate_limited"), "{refused:?}");
}

#[tokio::test]
async fn one_of_them_who_guesses_stops_nobody_else() {
    let (world, door) = world().await;
    let mut bob = through(&world, &door, "bob's browser").await;
    assert_eq!(bob.code(&register("bob")).await, "ok");
    let mut mallory = through(&world, &door, "mallory's browser").await;
    let wrong = login("bob").replace("s3nha", "wrong");
    let mut guesses = Vec::new();
    for _ in 0..20 {
        guesses.push(mallory.ask(&wrong).await);
    }
    assert!(codes(&guesses).contains(&"rate_limited"), "{guesses:?}");
    assert_eq!(bob.code(&login("bob")).await, "ok");
}

#[tokio::test]
async fn an_address_that_is_everybody_s_speaks_for_nobody() {
    let (world, door) = world().await;
    let mut bob = through(&world, &door, "bob").await;
    assert_eq!(bob.code(&register("bob")).await, "ok");
    assert_eq!(bob.code(&login("bob")).await, "ok");
    let mut mallory = through(&world, &door, "mallory").await;
    assert_eq!(mallory.code(&files("bob", 1)).await, "not_logged_in");
    assert_eq!(mallory.code(&logout("bob")).await, "not_logged_in");
    assert_eq!(world.once(&logout("bob")).await["code"], "not_logged_in");
    // Another connection of the same person counts like one from the same address.
    assert_eq!(through(&world, &door, "bob").await.code(&files("bob", 1)).await, "ok");
}

#[tokio::test]
async fn the_door_s_key_is_nobody_s_account() {
    let (world, door) = world().await;
    let mut bob = through(&world, &door, "bob").await;
    assert_eq!(bob.code(&register("bob")).await, "ok");
    let listed = bob.ask(&login("bob")).await;
    assert_eq!(listed["code"], "ok");
    let entry = bob.ask(r#"{"action":"LIST_PEERS"}"#).await["peers"][0].take();
    assert_eq!((&entry["fingerprint"], &entry["ip"]), (&json!(null), &json!("127.0.0.1")));
}

#[tokio::test]
async fn only_a_door_names_people_and_only_once() {
    let (world, door) = world().await;
    let stranger = Identity::generate().unwrap();
    assert_eq!(world.once(&forwarded("ana")).await["code"], "tls_required");
    assert_eq!(world.tls(None).await.code(&forwarded("ana")).await, "not_logged_in");
    assert_eq!(world.tls(Some(&stranger)).await.code(&forwarded("ana")).await, "forbidden");
    let mut conn = through(&world, &door, "ana").await;
    assert_eq!(conn.code(&forwarded("bia")).await, "not_logged_in");
    let mut own = world.tls(Some(&door)).await;
    assert_eq!(own.code(&register("gatekeeper")).await, "ok");
    assert_eq!(own.code(r#"{"action":"RESUME"}"#).await, "ok");
    assert_eq!(own.code(&forwarded("ana")).await, "forbidden");
}

/// Connects with a key of the person's own.
async fn through_with_key(world: &World, door: &Identity, person: &str, own: &Identity) -> Conn {
    let mut conn = world.tls_with_proof(person, own, door, person).await;
    assert_eq!(conn.line().await["code"], "ok");
    conn
}

#[tokio::test]
async fn a_person_with_a_key_keeps_it_and_is_counted_alone() {
    let (world, door) = world().await;
    let mut keys = Vec::new();
    for n in 0..30 {
        let (user, own) = (format!("student{n}x"), Identity::generate().unwrap());
        let mut conn = through_with_key(&world, &door, &format!("browser {n}"), &own).await;
        assert_eq!(conn.code(&register(&user)).await, "ok", "{user}");
        keys.push((user, own));
    }
    let mut all = Vec::new();
    for (user, own) in &keys {
        let mut conn = through_with_key(&world, &door, user, own).await;
        let resumed = conn.ask(r#"{"action":"RESUME","port":4433,"addresses":["10.1.2.3:4433","8.8.8.8:4433"]}"#).await;
        assert_eq!((&resumed["code"], &resumed["user"]), (&json!("ok"), &json!(user)));
        all.push(conn);
    }
    let listed = all[0].ask(r#"{"action":"LIST_PEERS","user":"student7x"}"#).await["peers"][0].take();
    assert_eq!(listed["fingerprint"], json!(keys[7].1.fingerprint()));
    assert_eq!((&listed["ip"], &listed["addresses"]), (&json!("127.0.0.1"), &json!(["10.1.2.3:4433"])));
    // Bound: another key needs `rebind`, from a door as from anywhere, and nothing in plaintext.
    let other = Identity::generate().unwrap();
    let mut conn = through_with_key(&world, &door, "student7x", &other).await;
    assert_eq!(conn.code(&login("student7x")).await, "key_mismatch");
    assert_eq!(world.once(&login("student7x")).await["code"], "tls_required");
}

#[tokio::test]
async fn a_door_s_signature_is_for_one_connection_and_one_name() {
    let (world, door) = world().await;
    let (own, stranger) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    // Another name than the one that is signed, and a door that nobody trusts.
    for (signer, signed) in [(&door, "bob"), (&stranger, "ana")] {
        let mut conn = world.tls_with_proof("ana", &own, signer, signed).await;
        assert_eq!(conn.line().await["code"], "forbidden", "{signed}");
        // It goes on as what it is: a connection from this address.
        assert_eq!(conn.code(r#"{"action":"LIST_PEERS"}"#).await, "ok");
    }
    // Of another connection.
    let mut conn = through_with_key(&world, &door, "ana", &own).await;
    let (key, signature) = ("ab".repeat(32), "cd".repeat(64));
    let replayed = json!({ "action": "FORWARDED", "for": "bia", "key": key, "signature": signature }).to_string();
    assert_eq!(conn.code(&replayed).await, "forbidden");
    assert_eq!(world.tls(Some(&own)).await.code(&replayed).await, "forbidden");
    assert_eq!(world.once(&replayed).await["code"], "forbidden");
    // Named twice, with a signature that is right.
    let mut twice = world.tls_with_proof("ana", &own, &door, "ana").await;
    assert_eq!(twice.line().await["code"], "ok");
    assert_eq!(twice.code(&forwarded("bia")).await, "forbidden");
}
