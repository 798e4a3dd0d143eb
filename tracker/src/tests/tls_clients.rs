//! Our own clients: TLS, certificates, bindings, events.

use std::time::Duration;

use certs::Identity;
use serde_json::{Value, json};
use shared::tracker::FeatureSet;

use super::tracker_harness::{Conn, RULES, World, files, login, logout, register};
use crate::connection::ConnectionTimeouts;
use crate::registry::PresenceRules;

pub(super) const RESUME: &str = r#"{"action":"RESUME","port":7000}"#;
const HEARTBEAT: &str = r#"{"action":"HEARTBEAT"}"#;

pub(super) async fn registered(world: &World, user: &str) -> (Identity, Conn) {
    let identity = Identity::generate().unwrap();
    let mut conn = world.tls(Some(&identity)).await;
    assert_eq!(conn.code(&register(user)).await, "ok");
    (identity, conn)
}

pub(super) fn event(line: &Value) -> (&str, &str) {
    (line["event"].as_str().unwrap(), line["user"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_registration_with_a_certificate_binds_it() {
    let world = World::new().await;
    let (identity, mut conn) = registered(&world, "bob").await;
    let reply = conn.ask(RESUME).await;
    assert_eq!((reply["user"].as_str(), reply["ttl_s"].as_u64()), (Some("bob"), Some(90)));
    let listed = conn.ask(r#"{"action":"LIST_PEERS"}"#).await["peers"][0].take();
    assert_eq!(listed["fingerprint"], identity.fingerprint().to_string());
    assert_eq!(listed["port"], 7000);
    let listed = world.once(r#"{"action":"LIST_PEERS"}"#).await["peers"][0].take();
    assert_eq!(listed, serde_json::json!({"user": "bob", "ip": "127.0.0.1", "port": 7000}));

    assert_eq!(world.once(&login("bob")).await["code"], "tls_required");
    let wrong = login("bob").replace("s3nha", "wrong");
    assert_eq!(world.once(&wrong).await["code"], "auth_failed");
    assert_eq!(world.once(&files("bob", 1)).await["code"], "tls_required");
    assert_eq!(world.once(&logout("bob")).await["code"], "tls_required");
    let passwd = r#"{"action":"PASSWD","user":"bob","password":"s3nha","new_password":"x"}"#;
    assert_eq!(world.once(passwd).await["code"], "tls_required");
    assert_eq!(world.tls(None).await.code(&login("bob")).await, "key_mismatch");
    assert_eq!(world.users().await, ["bob"]);
}

#[tokio::test]
async fn features_are_listed_over_tls_and_in_plaintext_to_those_who_list_theirs() {
    let world = World::new().await;
    let (identity, mut conn) = registered(&world, "bob").await;
    let ours = serde_json::to_value(FeatureSet::all()).unwrap();
    for request in [RESUME, r#"{"action":"RESUME","features":["warp"]}"#, r#"{"action":"SUBSCRIBE"}"#] {
        assert_eq!(conn.ask(request).await["features"], ours, "{request}");
    }
    assert_eq!(world.tls(Some(&identity)).await.ask(&login("bob")).await["features"], ours);
    world.once(&register("student")).await;
    assert_eq!(world.once(&login("student")).await["features"], Value::Null);
    let asking = login("student").replacen('{', r#"{"features":[],"#, 1);
    assert_eq!(world.once(&asking).await["features"], ours);
}

#[tokio::test]
async fn a_login_with_a_certificate_binds_an_account_of_the_exercise() {
    let world = World::new().await;
    world.once(&register("bob")).await;
    world.once(&login("bob")).await;
    assert_eq!(world.tls(None).await.code(&login("bob")).await, "ok");
    let identity = Identity::generate().unwrap();
    let mut conn = world.tls(Some(&identity)).await;
    assert_eq!(conn.code(RESUME).await, "not_logged_in");
    assert_eq!(conn.code(&login("bob")).await, "ok");
    assert_eq!(world.once(&login("bob")).await["code"], "tls_required");
    assert_eq!(conn.code(HEARTBEAT).await, "ok");
    assert_eq!(conn.code(&register("bob2")).await, "key_mismatch");
}

#[tokio::test]
async fn another_certificate_needs_the_password_and_the_word() {
    let world = World::new().await;
    let (_, mut old) = registered(&world, "bob").await;
    assert_eq!(old.code(RESUME).await, "ok");
    let (_, mut watcher) = registered(&world, "alice").await;
    assert_eq!(watcher.code(r#"{"action":"SUBSCRIBE"}"#).await, "ok");
    let new = Identity::generate().unwrap();
    let mut conn = world.tls(Some(&new)).await;
    let rebind = login("bob").replacen('{', r#"{"rebind":true,"#, 1);
    assert_eq!(conn.code(&login("bob")).await, "key_mismatch");
    assert_eq!(conn.code(&rebind.replace("s3nha", "wrong")).await, "auth_failed");
    assert_eq!(conn.code(&rebind).await, "ok");
    let (offline, changed, online) = (watcher.line().await, watcher.line().await, watcher.line().await);
    assert_eq!(event(&offline), ("offline", "bob"));
    assert_eq!(event(&changed), ("key_changed", "bob"));
    assert_eq!(changed["fingerprint"], new.fingerprint().to_string());
    assert_eq!(event(&online), ("online", "bob"));
    assert!(old.rest().await.is_empty());
    assert_eq!(watcher.code(&rebind).await, "key_mismatch");
}

#[tokio::test]
async fn a_newer_session_replaces_the_older_one() {
    let world = World::new().await;
    let (identity, mut old) = registered(&world, "bob").await;
    assert_eq!(old.code(RESUME).await, "ok");
    let mut new = world.tls(Some(&identity)).await;
    let attached = new.ask(r#"{"action":"RESUME"}"#).await;
    assert_eq!(attached["user"], "bob");
    assert_eq!(old.code(HEARTBEAT).await, "ok");
    assert_eq!(new.code(HEARTBEAT).await, "not_logged_in");
    assert_eq!(new.ask(&files("bob", 3)).await["count"], 3);
    assert_eq!(new.ask(r#"{"action":"RESUME"}"#).await["token"], attached["token"]);
    assert_eq!(new.code(RESUME).await, "ok");
    let reply = old.ask(HEARTBEAT).await;
    assert_eq!(reply["code"], "not_logged_in");
    assert!(reply["message"].as_str().unwrap().contains("replaced"));
    assert_eq!(new.code(HEARTBEAT).await, "ok");
}

#[tokio::test]
async fn a_dropped_connection_ends_presence_after_the_grace() {
    let world =
        World::with(PresenceRules { grace: Duration::from_millis(200), ..RULES }, ConnectionTimeouts::default(), 100)
            .await;
    let (_, mut conn) = registered(&world, "bob").await;
    assert_eq!(conn.code(RESUME).await, "ok");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.users().await, ["bob"]);
    drop(conn);
    world.until_users(&[]).await;
}

#[tokio::test]
async fn events_arrive_between_replies_and_can_be_continued() {
    let world = World::new().await;
    let (identity, mut watcher) = registered(&world, "alice").await;
    let (_, mut bob) = registered(&world, "bob").await;
    let seq = watcher.ask(r#"{"action":"SUBSCRIBE"}"#).await["seq"].as_u64().unwrap();
    bob.ask(RESUME).await;
    bob.ask(&files("bob", 2)).await;
    let (online, shared) = (watcher.line().await, watcher.line().await);
    assert_eq!((event(&online), online["seq"].as_u64()), (("online", "bob"), Some(seq + 1)));
    assert_eq!((event(&shared), shared["count"].as_u64()), (("files", "bob"), Some(2)));
    assert_eq!(watcher.ask(r#"{"action":"WHOIS","user":"bob"}"#).await["online"], true);
    bob.ask(&logout("bob")).await;
    assert_eq!(event(&watcher.line().await), ("offline", "bob"));

    let mut again = world.tls(Some(&identity)).await;
    let reply = again.ask(&format!(r#"{{"action":"SUBSCRIBE","since":{seq}}}"#)).await;
    assert_eq!(reply["seq"].as_u64(), Some(seq));
    for name in ["online", "files", "offline"] {
        assert_eq!(event(&again.line().await), (name, "bob"));
    }
    for since in [0, seq + 1000] {
        let mut lost = world.tls(Some(&identity)).await;
        let reply = lost.ask(&format!(r#"{{"action":"SUBSCRIBE","since":{since}}}"#)).await;
        let resync = lost.line().await;
        assert_eq!((event(&resync).0, &resync["seq"]), ("resync", &reply["seq"]));
        assert_eq!(reply["seq"].as_u64(), Some(seq + 3));
    }
}

#[tokio::test]
async fn whois_tells_bindings_to_those_who_have_one() {
    let world = World::new().await;
    let (identity, mut conn) = registered(&world, "bob").await;
    world.once(&register("legacy")).await;
    let key = identity.fingerprint();
    let by_key = conn.ask(&format!(r#"{{"action":"WHOIS","fingerprint":"{key}"}}"#)).await;
    assert_eq!((by_key["user"].as_str(), by_key["online"].as_bool()), (Some("bob"), Some(false)));
    let by_user = conn.ask(r#"{"action":"WHOIS","user":"bob"}"#).await;
    assert_eq!(by_user["fingerprint"], key.to_string());
    assert_eq!(conn.code(r#"{"action":"WHOIS","user":"legacy"}"#).await, "not_found");
    assert_eq!(conn.code(r#"{"action":"WHOIS","user":"nobody"}"#).await, "not_found");
    // Clients that announce the feature find accounts without a key as well.
    let legacy = r#"{"action":"WHOIS","features":["keyless_users"],"user":"legacy"}"#;
    let found = conn.ask(legacy).await;
    assert_eq!((&found["user"], &found["online"]), (&json!("legacy"), &json!(false)), "{found}");
    assert_eq!(found.get("fingerprint"), None);
    world.once(&login("legacy")).await;
    assert_eq!(conn.ask(&legacy.replace("\"user\":\"legacy", "\"like\":\"LEGACY")).await["online"], true);
    assert_eq!(conn.code(&legacy.replace("\"legacy\"", "\"nobody\"")).await, "not_found");
    let stranger = Identity::generate().unwrap();
    for identity in [None, Some(&stranger)] {
        let mut conn = world.tls(identity).await;
        assert_eq!(conn.code(r#"{"action":"WHOIS","user":"bob"}"#).await, "not_logged_in");
        assert_eq!(conn.code(r#"{"action":"SUBSCRIBE"}"#).await, "not_logged_in");
    }
}

#[tokio::test]
async fn files_are_found_by_those_who_are_bound() {
    let world = World::new().await;
    let (_, mut alice) = registered(&world, "alice").await;
    let (_, mut bob) = registered(&world, "bob").await;
    for (conn, user) in [(&mut alice, "alice"), (&mut bob, "bob")] {
        assert_eq!(conn.code(RESUME).await, "ok");
        assert_eq!(conn.code(&files(user, 300)).await, "ok");
    }
    let one = alice.ask(r#"{"action":"FIND","name":"FILE 7"}"#).await;
    assert_eq!((one["files"].as_array().unwrap().len(), &one["next"]), (22, &Value::Null));
    assert_eq!(one["files"][0]["user"], "alice");
    let all = alice.ask(r#"{"action":"FIND","hash":"abc","limit":1000}"#).await;
    assert_eq!((all["files"].as_array().unwrap().len(), &all["next"]), (600, &Value::Null));
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let page = bob.ask(&format!(r#"{{"action":"FIND","name":"txt","limit":150{cursor}}}"#)).await;
        count += page["files"].as_array().unwrap().len();
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!(r#","cursor":"{next}""#);
    }
    assert_eq!(count, 600);
    assert_eq!(alice.ask(r#"{"action":"FIND","name":"nothing"}"#).await["files"], serde_json::json!([]));
    let find = r#"{"action":"FIND","name":"file"}"#;
    assert_eq!(world.once(find).await["code"], "tls_required");
    assert_eq!(world.tls(None).await.code(find).await, "not_logged_in");
}
