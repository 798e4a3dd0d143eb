//! Pages of others, and programs beside the page: what they can't do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tests::Lab;
use tests::page::{self, Page};

#[test]
fn only_the_page_itself_gets_in() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let (web, page) = Page::start(&alice, &[]);
    let port = page.port;
    // The cookie alone, which another server on this machine can be sent; the secret alone; wrong ones.
    let cookie = ("Cookie", page.cookie.clone());
    let secret = ("Page-Secret", page.secret.clone());
    let name = page.cookie.split('=').next().unwrap();
    for fields in [
        vec![],
        vec![cookie.clone()],
        vec![secret.clone()],
        vec![cookie.clone(), ("Page-Secret", String::new())],
        vec![cookie.clone(), ("Page-Secret", "0".repeat(32))],
        vec![("Cookie", format!("{name}=00")), secret.clone()],
        vec![("Cookie", page.cookie.replace("vizinho_page", "vizinho_other")), secret.clone()],
    ] {
        for (method, path) in
            [("GET", "/session"), ("GET", "/users"), ("GET", "/events"), ("POST", "/fetches"), ("PUT", "/uploads/x/y")]
        {
            page::send(port, method, &format!("/api/v1{path}"), &fields, None).fails(401);
        }
    }
    // A token works once. Guesses open nothing.
    let address = Page::address(&web);
    let token = address.rsplit('=').next().unwrap().to_owned();
    for token in [&token, "", "0", &"0".repeat(32), "\u{1b}[2J"] {
        page::send(port, "POST", "/api/v1/session", &[], Some(&json!({ "token": token }))).fails(401);
    }
    page::send(port, "GET", "/d/00/x", &[cookie], None).fails(404);
    // The file has another token, is the user's alone, and names no script.
    let file = alice.home().join("web-open.html");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let fresh = text.split("#open=").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(fresh != token && !text.contains("<script"));
    let other = Page::open(&format!("http://127.0.0.1:{port}/#open={fresh}"));
    assert!(std::fs::read_to_string(&file).unwrap().contains("#open=") && other.secret != page.secret);
    // Secrets of two sessions don't mix, and logging out ends one alone.
    let mixed = vec![("Cookie", page.cookie.clone()), ("Page-Secret", other.secret.clone())];
    page::send(port, "GET", "/api/v1/session", &mixed, None).fails(401);
    let mut events = other.events(None);
    events.next_event();
    assert_eq!(other.call("DELETE", "/session", None).status, 204);
    events.wait_for("session_ended", |_| true);
    assert!(events.try_next().is_none());
    other.call("GET", "/session", None).fails(401);
    page.get("/session");
    web.interrupt();
    web.finish().exits(130);
    assert!(!file.exists());
}

#[test]
fn pages_of_other_sites_and_other_names_are_refused() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let (_web, page) = Page::start(&alice, &[]);
    let with = |method: &str, path: &str, more: &[(&'static str, &str)]| {
        let mut fields = page.fields();
        fields.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        page::send(page.port, method, path, &fields, None)
    };
    // DNS rebinding: the browser calls this machine by a name of the attacker's.
    for host in ["evil.example", "evil.example:8445", "127.0.0.1.evil.example", "", "[::1"] {
        for path in ["/", "/api/v1/session", "/api/v1/openapi.json"] {
            with("GET", path, &[("Host", host)]).fails(421);
        }
    }
    let own = format!("http://127.0.0.1:{}", page.port);
    for (origin, site) in [
        ("http://evil.example", "cross-site"),
        ("http://127.0.0.1:1", "same-site"),
        ("null", "cross-site"),
        (&*own.replace("http", "https"), "same-site"),
    ] {
        let fields = [("Origin", origin), ("Sec-Fetch-Site", site)];
        with("POST", "/api/v1/users/bob/block", &fields).fails(403);
        with("GET", "/api/v1/users", &fields).fails(403);
        with("POST", "/api/v1/users/bob/block", &fields[..1]).fails(403);
    }
    let fields = [("Origin", &*own), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(with("POST", "/api/v1/users/bob/block", &fields).status, 200);
    // A form can't say that it is JSON.
    let mut fields = page.fields();
    fields.push(("Content-Type", "text/plain".to_owned()));
    page::send(page.port, "POST", "/api/v1/fetches", &fields, Some(&json!({ "from": "bob", "name": "x" }))).fails(400);
    let index = page::send(page.port, "GET", "/", &[], None);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(index.field(name), value, "{}", index.head);
    }
    let policy = index.field("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(index.field("access-control-allow-origin"), "");
}

#[test]
fn malformed_requests_get_an_error_that_says_so() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let (web, page) = Page::start(&alice, &[]);
    let changes = [
        ("POST", "/fetches"),
        ("POST", "/tickets"),
        ("POST", "/users/lookup"),
        ("POST", "/conversations/bob/messages"),
        ("POST", "/conversations/bob/mute"),
        ("POST", "/rooms"),
        ("POST", "/rooms/lab/invite"),
        ("POST", "/rooms/lab/topic"),
        ("PUT", "/settings"),
        ("POST", "/uploads/00112233445566778899aabbccddeeff/send"),
        ("POST", "/session"),
    ];
    let wrong_json = prop_oneof![
        // No JSON, or none that is an object.
        proptest::collection::vec(any::<u8>(), 1..200).prop_filter("no JSON", |bytes| {
            serde_json::from_slice::<Value>(bytes).map_or(true, |value| !value.is_object())
        }),
        // An object whose every field has the wrong type.
        prop_oneof![Just(json!(null)), Just(json!([[]])), Just(json!({"a": {}})), Just(json!(1.5e300))].prop_map(
            |value| {
                let keys = [
                    "from", "name", "fetch", "file", "user", "text", "muted", "topic", "bell", "to", "token", "desktop",
                ];
                let fields: serde_json::Map<_, _> = keys.iter().map(|key| ((*key).to_owned(), value.clone())).collect();
                Value::Object(fields).to_string().into_bytes()
            }
        ),
    ];
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    runner
        .run(&(0..changes.len(), wrong_json), |(which, body)| {
            let (method, path) = changes[which];
            let mut fields = page.fields();
            fields.push(("Content-Type", "application/json".to_owned()));
            let answer = page::send_bytes(page.port, method, &format!("/api/v1{path}"), &fields, Some(&body));
            // `null` leaves an optional field out: of settings, all are.
            let is_noop = path == "/settings" && answer.status == 200;
            prop_assert!(is_noop || (400..500).contains(&answer.status), "{} {}: {:?}", method, path, answer);
            prop_assert!(is_noop || answer.json()["error"]["message"].is_string());
            Ok(())
        })
        .unwrap();
    let names = proptest::string::string_regex("[a-z%#\\.0-9A-F]{0,40}").unwrap();
    runner
        .run(&(0..6_usize, names), |(which, name)| {
            let path = [
                format!("/conversations/{name}/messages"),
                format!("/files/{name}"),
                format!("/fetches/{name}"),
                format!("/uploads/{name}/{name}"),
                format!("/users/{name}/accept"),
                format!("/{name}"),
            ][which]
                .clone();
            let answer = page.call(["GET", "DELETE"][which % 2], &path, None);
            prop_assert!(answer.status < 500 || answer.status == 503, "{}: {:?}", path, answer);
            Ok(())
        })
        .unwrap();
    let huge = json!({ "text": "a".repeat(70_000) });
    page.call("POST", "/conversations/bob/messages", Some(&huge)).fails(413);
    page.call("PATCH", "/users", None).fails(405);
    page.call("GET", "/none", None).fails(404);
    let path = "/uploads/00112233445566778899aabbccddeeff";
    for name in ["..%2Fx", ".hidden", "a%2F..%2Fb", "a%00b", "%2Fetc"] {
        page.put(&format!("{path}/{name}"), b"x", None).fails(400);
    }
    page.put("/uploads/short/x", b"x", None).fails(400);
    assert!(web.is_running() && !web.said().contains("panicked"), "{}", web.said());
    page.get("/session");
}

#[test]
fn hostile_words_stay_words() {
    let lab = Lab::start();
    let (alice, mallory) = (lab.user("alice"), lab.user("mallory"));
    let (_web, page) = Page::start(&alice, &[]);
    alice.accept(["mallory"]);
    let mut events = page.events(None);
    let words = "</script><img src=x onerror=alert(1)>\u{1b}[2J\u{202e}\ndata: {\"type\":\"forged\"}\n\nid: 1";
    mallory.peer(["chat", "alice", words]).run().exits(0);
    let heard = events.wait_for("message", |event| event["from"] == "mallory").data;
    let text = heard["text"].as_str().unwrap();
    assert!(text.contains("<img src=x") && text.contains("forged"), "{text:?}");
    let stored = page.get("/conversations/mallory/messages")["messages"][0].clone();
    assert_eq!((&stored["text"], &stored["from"]), (&heard["text"], &json!("mallory")));
}

#[test]
fn a_slow_browser_delays_nobody() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.accept(["alice"]);
    let his = bob.serve();
    let (_web, page) = Page::start(&alice, &[]);
    // It opens a stream and never reads.
    let mut deaf = TcpStream::connect(("127.0.0.1", page.port)).unwrap();
    let fields: String = page.fields().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(deaf, "GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{fields}\r\n", page.port).unwrap();
    let mut first = [0; 12];
    deaf.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let mut events = page.events(None);
    let text = "a".repeat(12_000);
    for number in 0..300 {
        page.post("/conversations/bob/messages", &json!({ "text": format!("{number} {text}") }));
    }
    his.wait_for("alice: 299 a");
    events.wait_for("message", |event| event["text"].as_str().is_some_and(|text| text.starts_with("299 ")));
    // Half a request, and one that never ends: others are answered.
    let mut half = TcpStream::connect(("127.0.0.1", page.port)).unwrap();
    half.write_all(b"POST /api/v1/fetches HTTP/1.1\r\nHost: 127").unwrap();
    page.get("/session");
}
