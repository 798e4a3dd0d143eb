//! A door and those who want more than is theirs.

use serde_json::json;
use tests::door::{Door, is_online, password_of};
use tests::page::{self, Page};
use tests::{Lab, files};

#[test]
fn whoever_guesses_passwords_waits() {
    let lab = Lab::start();
    let door = Door::open(&lab, &[]);
    let ana = door.new_user("ana");
    // An account that isn't there is answered as a wrong password.
    let (wrong, unknown) = (door.try_log_in("ana", "wrong", None), door.try_log_in("nobody", "wrong", None));
    assert_eq!(wrong.fails(403), unknown.fails(403));
    // Right ones between them don't count.
    for _ in 0..4 {
        door.log_in("ana");
    }
    for n in 0..18 {
        assert_eq!(door.try_log_in("ana", &format!("guess {n}"), None).fails(403)["code"], "wrong_password");
    }
    let limited = door.try_log_in("ana", "one more", None);
    limited.fails(429);
    assert!((1..=30).contains(&limited.field("retry-after").parse::<u64>().unwrap()), "{limited:?}");
    door.try_log_in("ana", &password_of("ana"), None).fails(429);
    // Who is in stays in.
    ana.get("/users");
}

#[test]
fn half_a_session_is_none() {
    let lab = Lab::start();
    let door = Door::open(&lab, &[]);
    let (ana, bob) = (door.new_user("ana"), door.new_user("bob"));
    let (cookie, secret) = (("Cookie", ana.cookie.clone()), ("Page-Secret", ana.secret.clone()));
    let mixed = [("Cookie", ana.cookie.clone()), ("Page-Secret", bob.secret.clone())];
    for fields in [vec![], vec![cookie], vec![secret], mixed.to_vec()] {
        for (method, path) in [("GET", "/session"), ("GET", "/users"), ("GET", "/events"), ("DELETE", "/session")] {
            let answer = page::send(door.port, method, &format!("/api/v1{path}"), &fields, None);
            answer.fails(401);
            assert_eq!(answer.json()["mode"], "door");
        }
    }
    // A page of another site can't even ask.
    let foreign = [("Origin", "http://evil.example".to_owned())];
    let body = json!({ "user": "ana", "password": password_of("ana") });
    for path in ["/session", "/accounts"] {
        page::send(door.port, "POST", &format!("/api/v1{path}"), &foreign, Some(&body)).fails(403);
    }
    let rebound = [("Host", "evil.example".to_owned())];
    page::send(door.port, "POST", "/api/v1/session", &rebound, Some(&body)).fails(421);
    // After logout nothing of it works.
    assert_eq!(ana.call("DELETE", "/session", None).status, 204);
    ana.call("GET", "/users", None).fails(401);
    bob.get("/users");
}

#[test]
fn nobody_reaches_what_is_another_s() {
    let lab = Lab::start();
    let carol = lab.user("carol");
    let film = lab.file("film.mkv", 300_000);
    carol.share([&film]);
    let _node = carol.serve();
    let door = Door::open(&lab, &[]);
    let (ana, bob) = (door.new_user("ana"), door.new_user("bob"));
    let mut events = ana.events(None);
    let number = ana.post("/fetches", &json!({ "from": "carol", "name": "film.mkv" }))["number"].as_u64().unwrap();
    // Where the door's machine keeps it is its operator's matter.
    let place = door.home.to_string_lossy();
    let done = loop {
        let event = events.next_event().data;
        assert!(!event.to_string().contains(&*place), "{event}");
        if event["type"] == "fetch" && event["number"] == number && event["state"] != "running" {
            break event;
        }
    };
    assert_eq!((&done["state"], &done["files"][0]["path"]), (&json!("done"), &json!(null)));
    let listed = ana.get("/fetches").to_string();
    assert!(listed.contains("film.mkv") && !listed.contains(&*place), "{listed}");
    // Bob's fetches are his own, whatever their numbers.
    assert_eq!(bob.get("/fetches")["fetches"], json!([]));
    bob.call("POST", "/tickets", Some(&json!({ "fetch": number, "file": "film.mkv" }))).fails(404);
    let ticket = ana.post("/tickets", &json!({ "fetch": number, "file": "film.mkv" }))["path"].clone();
    let ticket = ticket.as_str().unwrap();
    let his = [("Cookie", bob.cookie.clone())];
    assert!(page::send(door.port, "GET", ticket, &his, None).status >= 400);
    // The same drop of two users is two drops.
    let path = format!("/uploads/{}/secret.txt", "a".repeat(32));
    assert_eq!(ana.put(&path, b"ana's own", None).status, 201);
    assert_eq!(bob.get(&path), json!({ "offset": 0, "complete": false }));
    assert!(bob.call("POST", &format!("/uploads/{}/share", "a".repeat(32)), Some(&json!({}))).status >= 400);
    assert_eq!(bob.get("/shares")["shares"], json!([]));
    // Messages, too.
    ana.post("/conversations/carol/messages", &json!({ "text": "for carol alone" }));
    assert_eq!(bob.get("/conversations/carol/messages")["messages"], json!([]));
}

#[test]
fn names_lead_nowhere_else() {
    let lab = Lab::start();
    let door = Door::open(&lab, &[]);
    let before = files::names_in(&door.home);
    for name in [
        "..",
        ".",
        "../operator",
        "a/b",
        "a\\b",
        "~identity",
        "~lock",
        "~new-1",
        "=ana",
        "\u{202e}ana",
        "",
        " ",
        "a\0b",
    ] {
        for path in ["/session", "/accounts"] {
            let answer = door.post(path, &json!({ "user": name, "password": "x" }));
            assert!((400..500).contains(&answer.status), "{name:?} {answer:?}");
        }
    }
    for body in ["", "{", "[]", "null", "[\"ana\",\"x\"]", r#"{"user":1,"password":2}"#, r#"{"user":"ana"}"#] {
        let fields = [("Content-Type", "application/json".to_owned())];
        for path in ["/session", "/accounts"] {
            let answer = page::send_bytes(door.port, "POST", &format!("/api/v1{path}"), &fields, Some(body.as_bytes()));
            assert_eq!(answer.status, 400, "{body} {answer:?}");
        }
    }
    let long = json!({ "user": "ana", "password": "x".repeat(1025) });
    door.post("/accounts", &long).fails(400);
    door.post("/session", &json!({ "user": "ana", "password": "x", "consent": "everything" })).fails(400);
    assert_eq!(files::names_in(&door.home), before);
    // What the tracker takes for one name is one, and nothing of the attempt stays.
    let _ana = door.new_user("ana");
    for name in ["Ana", "a.na", "-ana"] {
        assert!(door.post("/accounts", &json!({ "user": name, "password": "x" })).status >= 400, "{name}");
    }
    let taken = door.post("/accounts", &json!({ "user": "ana", "password": "other" }));
    assert_eq!(taken.fails(409)["code"], "user_exists");
    let mut names = files::names_in(door.home.join("door"));
    names.retain(|name| !name.starts_with("~l") && !name.starts_with("~i"));
    assert_eq!(names, ["ana"]);
    door.log_in("ana").get("/users");
}

#[test]
fn what_was_somebody_else_s_stays_theirs() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let _node = bob.serve();
    let door = Door::open(&lab, &[]);
    let ana = door.new_user("ana");
    ana.post("/conversations/bob/messages", &json!({ "text": "between us" }));
    // The administrator removes the account, and another person takes the name.
    lab.tracker_invocation(lab.address()).args(["user", "remove", "ana"]).run().exits(0);
    tests::poll_until(
        || (ana.call("GET", "/users", None).status == 401).then_some(()),
        || "the session stays".to_owned(),
    );
    let next = door.post("/accounts", &json!({ "user": "ana", "password": "another person" }));
    assert_eq!(next.status, 201, "{next:?}");
    let page: Page = Door::page(door.port, &door.try_log_in("ana", "another person", None));
    assert_eq!(page.get("/conversations/bob/messages")["messages"], json!([]));
    assert!(door.account("~ana-1").exists());
}

#[test]
fn the_next_one_of_a_name_never_sits_at_a_seat_that_rests() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let _node = bob.serve();
    let door = Door::open(&lab, &["--stay-online", "1s"]);
    let ana = door.new_user("ana");
    let fingerprint = ana.get("/session")["fingerprint"].clone();
    ana.post("/conversations/bob/messages", &json!({ "text": "between us" }));
    // Her seat rests, so that nobody tells it of the end of the account.
    tests::poll_until(|| (!is_online(&bob, "ana")).then_some(()), || "ana stays online".to_owned());
    lab.tracker_invocation(lab.address()).args(["user", "remove", "ana"]).run().exits(0);
    let next = door.post("/accounts", &json!({ "user": "ana", "password": "another person" }));
    assert_eq!(next.status, 201, "{next:?}");
    // At the same browser, which still has her cookie.
    let body = json!({ "user": "ana", "password": "another person" });
    let login = page::send(door.port, "POST", "/api/v1/session", &[("Cookie", ana.cookie.clone())], Some(&body));
    let page: Page = Door::page(door.port, &login);
    assert_ne!(page.cookie, ana.cookie);
    assert_ne!(page.get("/session")["fingerprint"], fingerprint);
    assert_eq!(page.get("/conversations/bob/messages")["messages"], json!([]));
    ana.call("GET", "/conversations/bob/messages", None).fails(401);
}
