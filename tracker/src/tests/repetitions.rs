//! Requests that are repeated because nobody heard the reply.

use certs::Identity;
use serde_json::{Value, json};

use super::tls_clients::RESUME;
use super::tracker_harness::{World, login};

const KEY: &str = "000102030405060708090a0b0c0d0e0f";
const OTHER_KEY: &str = "ff0102030405060708090a0b0c0d0e0f";

fn registration(password: &str, key: Option<&str>) -> String {
    json!({ "action": "REGISTER", "user": "bob", "password": password, "idempotency_key": key }).to_string()
}

/// Asks over a connection of its own, as after a lost one.
async fn code(world: &World, identity: Option<&Identity>, request: &str) -> Value {
    match identity {
        Some(_) => world.tls(identity).await.ask(request).await["code"].clone(),
        None => world.once(request).await["code"].clone(),
    }
}

#[tokio::test]
async fn a_repeated_registration_gets_the_same_reply_and_another_one_doesn_t() {
    let world = World::new().await;
    let (bob, mallory) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let first = registration("s3nha", Some(KEY));
    assert_eq!(code(&world, Some(&bob), &first).await, "ok");
    assert_eq!(code(&world, Some(&bob), &first).await, "ok");
    for other in [registration("s3nha", Some(OTHER_KEY)), registration("s3nha", None), registration("x", Some(KEY))] {
        assert_eq!(code(&world, Some(&bob), &other).await, "user_exists", "{other}");
    }
    assert_eq!(code(&world, Some(&mallory), &first).await, "user_exists");
    assert_eq!(code(&world, None, &first).await, "user_exists");
    assert_eq!(code(&world, Some(&bob), &registration("s3nha", Some("short"))).await, "bad_request");
    assert_eq!(code(&world, Some(&bob), RESUME).await, "ok");
}

#[tokio::test]
async fn a_repeated_change_of_a_password_is_no_wrong_guess() {
    let world = World::new().await;
    let bob = Identity::generate().unwrap();
    code(&world, Some(&bob), &registration("s3nha", None)).await;
    let change = |key: Option<&str>| {
        let (old, new) = ("s3nha", "nova");
        json!({ "action": "PASSWD", "user": "bob", "password": old, "new_password": new, "idempotency_key": key })
            .to_string()
    };
    for (request, expected) in
        [(change(Some(KEY)), "ok"), (change(Some(KEY)), "ok"), (change(Some(OTHER_KEY)), "auth_failed")]
    {
        assert_eq!(code(&world, Some(&bob), &request).await, expected, "{request}");
    }
    assert_eq!(code(&world, Some(&bob), &change(None)).await, "auth_failed");
    assert_eq!(code(&world, Some(&bob), &login("bob").replace("s3nha", "nova")).await, "ok");
}

#[tokio::test]
async fn a_room_is_made_once_however_often_the_request_is_repeated() {
    let world = World::new().await;
    let (bob, carol) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    code(&world, Some(&bob), &registration("s3nha", None)).await;
    code(&world, Some(&carol), &registration("s3nha", None).replace("bob", "carol")).await;
    let create = |room: &str, key: Option<&str>| {
        json!({ "action": "ROOM_CREATE", "room": room, "password": "p", "idempotency_key": key }).to_string()
    };
    let made = world.tls(Some(&bob)).await.ask(&create("lab", Some(KEY))).await;
    assert_eq!(made["code"], "ok", "{made}");
    let again = world.tls(Some(&bob)).await.ask(&create("lab", Some(KEY))).await;
    assert_eq!(again["code"], "ok", "{again}");
    assert_eq!((&again["id"], &again["epoch"], &again["head"]), (&made["id"], &made["epoch"], &made["head"]));
    assert_eq!(code(&world, Some(&bob), &create("lab", Some(OTHER_KEY))).await, "user_exists");
    assert_eq!(code(&world, Some(&bob), &create("lab", None)).await, "user_exists");
    assert_eq!(code(&world, Some(&carol), &create("lab", Some(KEY))).await, "user_exists");
    let rooms = world.tls(Some(&bob)).await.ask(r#"{"action":"ROOM_LIST"}"#).await;
    assert_eq!(rooms["rooms"].as_array().unwrap().len(), 1, "{rooms}");
}
