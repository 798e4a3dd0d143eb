//! Clients of the original exercise: plaintext, one connection for each request or one for all.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::tracker_harness::{RULES, World, codes, files, login, logout, register};
use crate::connection::ConnectionTimeouts;
use crate::registry::PresenceRules;

const LIST: &str = r#"{"action":"LIST_PEERS"}"#;

fn sequence() -> [String; 6] {
    [register("alice"), login("alice"), files("alice", 1), LIST.to_owned(), logout("alice"), LIST.to_owned()]
}

fn check(replies: &[serde_json::Value]) {
    assert_eq!(codes(replies), ["ok"; 6]);
    assert!(replies.iter().all(|reply| reply["status"] == "ok" && reply["message"].is_string()));
    assert_eq!(replies[1]["ttl_s"], 3600);
    assert_eq!(replies[1]["observed_ip"], "127.0.0.1");
    assert_eq!(replies[2]["count"], 1);
    let files = json!([{"name": "file 0.txt", "size": 0, "hash": "abc"}]);
    let alice = json!({"user": "alice", "ip": "127.0.0.1", "port": 6000, "files": files});
    assert_eq!(replies[3]["peers"], json!([alice]));
    assert_eq!(replies[5]["peers"], json!([]));
}

#[tokio::test]
async fn one_connection_for_all() {
    for end in ["", "\n", "\r\n  "] {
        let world = World::new().await;
        let mut conn = world.plain().await;
        let mut replies = Vec::new();
        for request in sequence() {
            replies.push(conn.ask(&(request + end)).await);
        }
        check(&replies);
    }
}

#[tokio::test]
async fn one_connection_for_each_request() {
    for end in ["", "\n"] {
        let world = World::new().await;
        let mut replies = Vec::new();
        for request in sequence() {
            replies.push(world.once(&(request + end)).await);
        }
        check(&replies);
    }
}

#[tokio::test]
async fn pipelined_and_half_closed() {
    let world = World::new().await;
    let mut conn = world.plain().await;
    conn.send(sequence().concat()).await;
    conn.end().await;
    check(&conn.rest().await);
}

#[tokio::test]
async fn byte_by_byte() {
    let world = World::new().await;
    let mut conn = world.plain().await;
    for byte in r#"{"action":"LIST_PEERS","id":{"n":1}}"#.as_bytes() {
        conn.send([*byte]).await;
    }
    assert_eq!(conn.line().await["id"], json!({"n": 1}));
}

#[tokio::test]
async fn wrong_passwords_and_taken_names() {
    let world = World::new().await;
    let mut conn = world.plain().await;
    assert_eq!(conn.code(&register("bob")).await, "ok");
    assert_eq!(conn.code(&register("bob")).await, "user_exists");
    let wrong = conn.ask(r#"{"action":"LOGIN","user":"bob","password":"wrong"}"#).await;
    let unknown = conn.ask(r#"{"action":"LOGIN","user":"eve","password":"wrong"}"#).await;
    assert_eq!(wrong["code"], "auth_failed");
    assert_eq!(wrong, unknown);
    let passwd = r#"{"action":"PASSWD","user":"bob","password":"s3nha","new_password":"new"}"#;
    assert_eq!(conn.code(passwd).await, "ok");
    assert_eq!(conn.code(passwd).await, "auth_failed");
    assert_eq!(conn.code(&login("bob")).await, "auth_failed");
    assert_eq!(conn.code(r#"{"action":"LOGIN","user":"bob","password":"new"}"#).await, "ok");
}

#[tokio::test]
async fn of_many_who_register_one_name_exactly_one_wins() {
    let world = World::new().await;
    let mut attempts = JoinSet::new();
    for _ in 0..8 {
        let mut conn = world.plain().await;
        attempts.spawn(async move { conn.code(&register("bob")).await });
    }
    let codes = attempts.join_all().await;
    assert_eq!(codes.iter().filter(|code| *code == "ok").count(), 1);
    assert_eq!(codes.iter().filter(|code| *code == "user_exists").count(), 7);
}

#[tokio::test]
async fn without_the_address_a_token_or_the_password_is_needed() {
    let world = World::with(PresenceRules { legacy_auth: false, ..RULES }, ConnectionTimeouts::default(), 100).await;
    world.once(&register("bob")).await;
    let token = world.once(&login("bob")).await["token"].as_str().unwrap().to_owned();
    let with = |key: &str, value: &str| files("bob", 2).replacen('{', &format!(r#"{{"{key}":"{value}","#), 1);
    assert_eq!(world.once(&files("bob", 2)).await["code"], "not_logged_in");
    assert_eq!(world.once(&with("token", &"0".repeat(64))).await["code"], "not_logged_in");
    assert_eq!(world.once(&with("password", "wrong")).await["code"], "auth_failed");
    assert_eq!(world.once(&with("token", &token)).await["count"], 2);
    assert_eq!(world.once(&with("password", "s3nha")).await["count"], 2);
    let heartbeat = format!(r#"{{"action":"HEARTBEAT","token":"{token}"}}"#);
    assert_eq!(world.once(&heartbeat).await["ttl_s"], 3600);
    assert_eq!(world.once(&logout("bob")).await["code"], "not_logged_in");
    assert_eq!(world.users().await, ["bob"]);
    assert_eq!(world.once(&logout("bob").replacen('{', r#"{"password":"s3nha","#, 1)).await["message"], "goodbye, bob");
    assert_eq!(world.once(&with("password", "s3nha")).await["code"], "not_logged_in");
    assert_eq!(world.once(&heartbeat).await["code"], "not_logged_in");
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let world = World::with(PresenceRules { legacy_auth: false, ..RULES }, ConnectionTimeouts::default(), 100).await;
    let (mut alice, mut bob) = (world.plain().await, world.plain().await);
    for (conn, user) in [(&mut alice, "alice"), (&mut bob, "bob")] {
        assert_eq!(conn.code(&register(user)).await, "ok");
        assert_eq!(conn.code(&login(user)).await, "ok");
    }
    assert_eq!(alice.code(&logout("bob")).await, "forbidden");
    assert_eq!(alice.code(&files("bob", 1)).await, "forbidden");
    assert_eq!(bob.code(&logout("bob")).await, "ok");
    assert_eq!(bob.code(&logout("bob")).await, "not_logged_in");
    assert_eq!(world.users().await, ["alice"]);
}

#[tokio::test]
async fn behind_one_address_a_connection_speaks_only_for_whom_it_logged_in_as() {
    let world = World::new().await;
    for user in ["alice", "bob"] {
        world.once(&register(user)).await;
    }
    world.once(&login("bob")).await;
    let mut alice = world.plain().await;
    assert_eq!(alice.code(&login("alice")).await, "ok");
    for _ in 0..2 {
        assert_eq!(alice.code(&files("bob", 1)).await, "forbidden");
        assert_eq!(alice.code(&logout("bob")).await, "forbidden");
        // The second round comes after this logout.
        assert_ne!(alice.code(&logout("alice")).await, "forbidden");
    }
    assert_eq!(world.users().await, ["bob"]);
    // The password is a proof of its own, and so is a login.
    assert_eq!(alice.code(&files("bob", 1).replacen('{', r#"{"password":"s3nha","#, 1)).await, "ok");
    assert_eq!(alice.code(&login("bob")).await, "ok");
    assert_eq!(alice.code(&files("bob", 2)).await, "ok");
    // One connection for each request still works.
    assert_eq!(world.once(&files("bob", 1)).await["code"], "ok");
    assert_eq!(world.once(&logout("bob")).await["code"], "ok");
}

#[tokio::test]
async fn names_that_can_t_be_used_come_with_one_that_can() {
    let world = World::new().await;
    world.once(&register("bob")).await;
    for (name, code, offered) in [
        ("João", "invalid_user", "use Joao"),
        ("Maria Silva", "invalid_user", "use Maria.Silva"),
        ("ana@ufx.br", "invalid_user", "use ana"),
        ("--help", "invalid_user", "use help"),
        ("a..b", "invalid_user", "use a.b"),
        ("李雷", "invalid_user", "letters from a to z"),
        ("bob", "user_exists", "the name bob is taken"),
        ("BOB", "user_exists", "taken for bob"),
        ("b0b", "user_exists", "taken for bob"),
        ("b.ob", "user_exists", "taken for bob"),
    ] {
        let reply = world.once(&register(name)).await;
        let message = reply["message"].as_str().unwrap();
        assert!(reply["code"] == code && message.contains(offered), "{name}: {reply}");
    }
    // The suggested name is free.
    for name in ["Joao", "Lara", "aluno1"] {
        assert_eq!(world.once(&register(name)).await["code"], "ok");
    }
    for (name, code, offered) in [
        ("João", "invalid_user", "use Joao2, for example"),
        ("Joao", "user_exists", "choose another, for example Joao2, or log in as Joao"),
        ("JOAO", "user_exists", "taken for Joao, which is somebody's: choose another, for example JOAO2"),
        ("Iara", "user_exists", "taken for Lara, which is somebody's: choose another, for example iara"),
        ("aluno1", "user_exists", "for example aluno1-2"),
    ] {
        let reply = world.once(&register(name)).await;
        assert!(reply["code"] == code && reply["message"].as_str().unwrap().contains(offered), "{name}: {reply}");
    }
    assert_eq!(world.once(&register("Joao2")).await["code"], "ok");
    assert!(world.once(&register("João")).await["message"].as_str().unwrap().contains("use Joao3"));
    // Logging in is exact.
    assert_eq!(world.once(&login("BOB")).await["code"], "auth_failed");
    assert_eq!(world.once(&login("bob")).await["code"], "ok");
}

#[tokio::test]
async fn presence_ends_when_its_time_has_come() {
    let rules = PresenceRules { legacy_lease: Duration::from_millis(300), ..RULES };
    let world = World::with(rules, ConnectionTimeouts::default(), 100).await;
    world.once(&register("bob")).await;
    world.once(&login("bob")).await;
    assert_eq!(world.users().await, ["bob"]);
    world.until_users(&[]).await;
    assert_eq!(world.once(&files("bob", 1)).await["code"], "not_logged_in");
}

#[tokio::test]
async fn actions_of_ours_are_not_for_plaintext() {
    let world = World::new().await;
    let mut conn = world.plain().await;
    for request in
        [r#"{"action":"RESUME","port":1}"#, r#"{"action":"SUBSCRIBE"}"#, r#"{"action":"WHOIS","user":"bob"}"#]
    {
        assert_eq!(conn.code(request).await, "tls_required");
    }
    assert_eq!(conn.code(r#"{"action":"HEARTBEAT"}"#).await, "not_logged_in");
}
