//! The administrator's changes of accounts, as connected clients see them.

use shared::tracker::Password;

use super::tls_clients::{RESUME, event, registered};
use super::tracker_harness::{Conn, World, login, register};

const SUBSCRIBE: &str = r#"{"action":"SUBSCRIBE"}"#;

/// A subscriber whose account nobody changes.
async fn watcher(world: &World) -> Conn {
    let (_, mut watcher) = registered(world, "alice").await;
    assert_eq!(watcher.code(SUBSCRIBE).await, "ok");
    watcher
}

#[tokio::test]
async fn whoever_is_unbound_is_disconnected_and_everybody_hears_of_it() {
    let world = World::new().await;
    let mut watcher = watcher(&world).await;
    let (identity, mut present) = registered(&world, "bob").await;
    assert_eq!(present.code(RESUME).await, "ok");
    let mut listening = world.tls(Some(&identity)).await;
    assert_eq!(listening.code(SUBSCRIBE).await, "ok");
    world.service.unbind_account(&"bob".parse().unwrap()).await.unwrap();
    let told = [watcher.line().await, watcher.line().await, watcher.line().await];
    assert_eq!(told.each_ref().map(event), [("online", "bob"), ("offline", "bob"), ("key_changed", "bob")]);
    assert!(told[2]["fingerprint"].is_null() && told[2].as_object().unwrap().contains_key("fingerprint"));
    assert!(present.rest().await.is_empty());
    // Events before the expected one still hold.
    assert!(listening.rest().await.iter().all(|line| line["event"] != "resync"));
    let mut again = world.tls(Some(&identity)).await;
    assert_eq!(again.code(RESUME).await, "not_logged_in");
    assert_eq!(again.code(SUBSCRIBE).await, "not_logged_in");
    assert_eq!(again.code(&login("bob")).await, "ok");
    assert_eq!(again.code(SUBSCRIBE).await, "ok");
    assert_eq!(event(&watcher.line().await), ("online", "bob"));
}

#[tokio::test]
async fn whoever_is_removed_is_disconnected() {
    let world = World::new().await;
    let mut watcher = watcher(&world).await;
    let (_, mut bound) = registered(&world, "bob").await;
    assert_eq!(bound.code(RESUME).await, "ok");
    let mut plain = world.plain().await;
    assert_eq!(plain.code(&register("carol")).await, "ok");
    assert_eq!(plain.code(&login("carol")).await, "ok");
    for name in ["bob", "carol"] {
        world.service.remove_account(&name.parse().unwrap()).await.unwrap();
    }
    assert!(bound.rest().await.is_empty());
    assert!(plain.rest().await.is_empty());
    assert_eq!(world.once(&login("carol")).await["code"], "auth_failed");
    let mut told = Vec::new();
    while told.len() < 5 {
        let line = watcher.line().await;
        told.push(format!("{} {}", line["event"].as_str().unwrap(), line["user"].as_str().unwrap()));
    }
    assert_eq!(told, ["online bob", "online carol", "offline bob", "key_changed bob", "offline carol"]);
}

#[tokio::test]
async fn a_reset_password_ends_what_the_old_one_began_and_leaves_the_certificate_good() {
    let world = World::new().await;
    let (identity, mut present) = registered(&world, "bob").await;
    let token = present.ask(RESUME).await["token"].as_str().unwrap().to_owned();
    let other = Password::new("something else").unwrap();
    world.service.reset_password(&"bob".parse().unwrap(), &other).await.unwrap();
    assert!(present.rest().await.is_empty());
    let mut again = world.tls(Some(&identity)).await;
    assert_eq!(again.code(&format!(r#"{{"action":"HEARTBEAT","token":"{token}"}}"#)).await, "not_logged_in");
    assert_eq!(again.code(&login("bob")).await, "auth_failed");
    assert_eq!(again.code(RESUME).await, "ok");
}

#[tokio::test]
async fn a_login_that_is_under_way_meanwhile_counts_no_more() {
    let world = World::new().await;
    let mut conn = world.plain().await;
    assert_eq!(conn.code(&register("bob")).await, "ok");
    let bob = "bob".parse().unwrap();
    let remove = async {
        // The password is being checked now.
        while world.service.snapshot().hashes == 0 {
            tokio::task::yield_now().await;
        }
        world.service.remove_account(&bob).await.unwrap();
    };
    let request = login("bob");
    let (code, ()) = tokio::join!(conn.code(&request), remove);
    assert_eq!(code, "busy");
    assert!(world.users().await.is_empty());
}

const PASSWD: &str = r#"{"action":"PASSWD","user":"bob","password":"s3nha","new_password":"new"}"#;

#[tokio::test]
async fn another_password_ends_all_sessions_but_the_one_that_asked() {
    let world = World::new().await;
    let (identity, mut asking) = registered(&world, "bob").await;
    let token = asking.ask(RESUME).await["token"].take();
    assert_eq!(asking.code(SUBSCRIBE).await, "ok");
    let mut other = world.tls(Some(&identity)).await;
    let stolen = other.ask(r#"{"action":"RESUME"}"#).await["token"].take();
    let mut listening = world.tls(Some(&identity)).await;
    assert_eq!(listening.code(SUBSCRIBE).await, "ok");
    asking.send(PASSWD).await;
    let reply = loop {
        let line = asking.line().await;
        if line["event"].is_null() {
            break line;
        }
    };
    assert_eq!(reply["code"], "ok");
    assert!(other.rest().await.is_empty());
    assert!(listening.rest().await.iter().all(|line| line["event"] == "online"));
    // The connection that asked stays present with the same token, and still gets events.
    assert_eq!(asking.code(r#"{"action":"HEARTBEAT"}"#).await, "ok");
    assert_eq!(world.users().await, ["bob"]);
    let mut third = world.tls(Some(&identity)).await;
    let heartbeat = |token| format!(r#"{{"action":"HEARTBEAT","token":{token}}}"#);
    assert_eq!(third.code(&heartbeat(stolen)).await, "not_logged_in");
    assert_eq!(third.code(&heartbeat(token)).await, "ok");
    registered(&world, "carol").await.1.code(RESUME).await;
    assert_eq!(event(&asking.line().await), ("online", "carol"));
    assert_eq!(third.code(&login("bob")).await, "auth_failed");
}

#[tokio::test]
async fn another_password_asked_for_by_somebody_without_a_session_ends_all() {
    let world = World::new().await;
    world.once(&register("bob")).await;
    let mut present = world.plain().await;
    assert_eq!(present.code(&login("bob")).await, "ok");
    assert_eq!(world.once(&PASSWD.replace("s3nha", "wrong")).await["code"], "auth_failed");
    assert_eq!(world.users().await, ["bob"]);
    assert_eq!(world.once(PASSWD).await["code"], "ok");
    assert!(present.rest().await.is_empty());
    assert!(world.users().await.is_empty());
    assert_eq!(world.once(&login("bob").replace("s3nha", "new")).await["code"], "ok");
}
