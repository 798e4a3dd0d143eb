//! Presence across restarts, after an ordered end and after a kill.

use std::time::Duration;

use certs::Identity;
use serde_json::Value;

use super::tracker_harness::{RULES, World, files, login, logout, register};
use crate::connection::ConnectionTimeouts;
use crate::registry::PresenceRules;

async fn listed(world: &World) -> Value {
    world.once(r#"{"action":"LIST_PEERS"}"#).await["peers"].take()
}

#[tokio::test]
async fn everybody_is_listed_as_before_and_tokens_stay_good() {
    for killed in [false, true] {
        let world = World::new().await;
        let identity = Identity::generate().unwrap();
        let mut bob = world.tls(Some(&identity)).await;
        assert_eq!(bob.code(&register("bob")).await, "ok");
        let token = bob.ask(r#"{"action":"RESUME","port":7000,"addresses":["10.0.0.9"]}"#).await["token"].take();
        assert_eq!(bob.code(&files("bob", 300)).await, "ok");
        for user in ["alice", "carol", "dave"] {
            world.once(&register(user)).await;
            world.once(&login(user)).await;
            world.once(&files(user, 2)).await;
        }
        world.once(&logout("carol")).await;
        let before = listed(&world).await;
        assert_eq!(before.as_array().unwrap().len(), 3);
        if killed {
            // Within two seconds of the change it is stored.
            tokio::time::sleep(Duration::from_millis(2000)).await;
        }
        let world = world.restarted(killed).await;
        assert_eq!(listed(&world).await, before);
        let heartbeat = format!(r#"{{"action":"HEARTBEAT","token":{token}}}"#);
        assert_eq!(world.tls(Some(&identity)).await.ask(&heartbeat).await["ttl_s"], 90);
        assert_eq!(world.once(&heartbeat).await["code"], "tls_required");
        assert_eq!(world.once(&logout("alice")).await["code"], "ok");
        let again = world.tls(Some(&identity)).await.ask(r#"{"action":"RESUME"}"#).await;
        assert_eq!(again["user"], "bob");
        let world = world.restarted(false).await;
        assert_eq!(world.users().await, ["bob", "dave"]);
    }
}

#[tokio::test]
async fn a_presence_that_ran_out_meanwhile_is_gone() {
    let rules = PresenceRules { legacy_lease: Duration::from_millis(300), ..RULES };
    let world = World::with(rules, ConnectionTimeouts::default(), 100).await;
    world.once(&register("bob")).await;
    world.once(&login("bob")).await;
    world.service.store_presence().await;
    let world = world.restarted(true).await;
    world.until_users(&[]).await;
}

#[tokio::test]
async fn subscribers_of_an_earlier_process_are_told_to_begin_anew() {
    let world = World::new().await;
    let identity = Identity::generate().unwrap();
    let mut bob = world.tls(Some(&identity)).await;
    assert_eq!(bob.code(&register("bob")).await, "ok");
    assert_eq!(bob.code(r#"{"action":"RESUME","port":7000}"#).await, "ok");
    let seq = bob.ask(r#"{"action":"SUBSCRIBE"}"#).await["seq"].as_u64().unwrap();
    let world = world.restarted(false).await;
    let mut bob = world.tls(Some(&identity)).await;
    bob.ask(&format!(r#"{{"action":"SUBSCRIBE","since":{seq}}}"#)).await;
    assert_eq!(bob.line().await["event"], "resync");
}
