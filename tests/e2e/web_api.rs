//! The page's API: what a browser does with `peer web`, beside terminals.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;

use serde_json::{Value, json};
use shared::ContentHash;
use tests::files::{self, assert_content, assert_same};
use tests::page::{self, Page};
use tests::{Lab, Tmpfs, poll_until};

#[test]
fn a_page_and_terminals_share_one_conversation() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    let (_web, page) = Page::start(&alice, &[]);
    let session = page.get("/session");
    assert_eq!((&session["user"], &session["mode"]), (&json!("alice"), &json!("local")));
    assert_eq!(session["fingerprint"], alice.fingerprint());
    let mut events = page.events(None);
    assert_eq!(events.next_event().data["connected"], true);

    let sent = page.post("/conversations/bob/messages", &json!({ "text": "olá", "id": "0".repeat(31) + "a" }));
    assert_eq!((&sent["message"]["text"], &sent["message"]["from"]), (&json!("olá"), &json!("alice")));
    his.wait_for("alice: olá");
    let said = events.wait_for("message", |event| event["text"] == "olá").data;
    assert_eq!(said["seq"], sent["message"]["seq"]);
    events.wait_for("ack", |event| event["id"] == said["id"] && event["state"] == "stored");
    // The same id again is the same message.
    page.post("/conversations/bob/messages", &json!({ "text": "olá", "id": "0".repeat(31) + "a" }));

    bob.peer(["chat", "alice", "tudo bem?"]).run().exits(0);
    let heard = events.wait_for("message", |event| event["from"] == "bob").data;
    assert_eq!((&heard["text"], heard["at"].as_i64() > Some(1_600_000_000_000)), (&json!("tudo bem?"), true));
    let users = page.get("/users");
    let him = users["users"].as_array().unwrap().iter().find(|user| user["user"] == "bob").unwrap();
    assert_eq!((&him["unread"], &him["online"]), (&json!(1), &json!(true)));
    let history = page.get("/conversations/bob/messages");
    let texts: Vec<&Value> = history["messages"].as_array().unwrap().iter().map(|message| &message["text"]).collect();
    assert_eq!(texts, ["olá", "tudo bem?"]);
    assert_eq!(history["messages"][1]["at"], heard["at"]);
    let seq = heard["seq"].as_i64().unwrap();
    let before = page.get(&format!("/conversations/bob/messages?before={seq}&limit=5"));
    assert_eq!(before["messages"].as_array().unwrap().len(), 1);
    assert_eq!(page.get("/conversations/bob/messages?search=bem")["messages"][0]["id"], heard["id"]);

    page.post("/conversations/bob/read", &json!({ "up_to": seq }));
    events.wait_for("read", |event| event["with"] == "bob");
    alice.peer(["--json", "inbox"]).run().exits(0).prints_exactly("");
    page.post("/conversations/bob/typing", &json!({}));
    page.post("/conversations/bob/mute", &json!({ "muted": true }));
    alice.peer(["mute"]).run().prints_exactly("bob\n");
    assert_eq!(page.get("/settings")["muted"], json!(["bob"]));
    assert_eq!(page.post("/users/lookup", &json!({ "user": "bbo" })), json!({ "exists": false, "similar": ["bob"] }));
    assert_eq!(page.post("/users/bob/block", &json!({})), json!({ "changed": true }));
    assert_eq!(page.post("/users/bob/unblock", &json!({})), json!({ "changed": true }));
}

#[test]
fn a_stream_goes_on_where_it_was() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _his = bob.serve();
    let (_web, page) = Page::start(&alice, &[]);
    let mut first = page.events(None);
    let begin = first.next_event().id.unwrap();
    for text in ["one", "two", "three"] {
        page.post("/conversations/bob/messages", &json!({ "text": text }));
    }
    let one = first.wait_for("message", |event| event["text"] == "one");
    let three = first.wait_for("message", |event| event["text"] == "three");
    drop(first);
    // From the first message on: everything once, in order.
    let mut again = page.events(one.id);
    assert_eq!(again.next_event().data["type"], "node");
    let mut last = one.id.unwrap();
    loop {
        let event = again.next_event();
        assert_eq!(event.id, Some(last + 1));
        last += 1;
        if event == three {
            break;
        }
    }
    assert!(begin < one.id.unwrap());
    for unknown in [0, 5, u64::MAX] {
        let mut stream = page.events(Some(unknown));
        stream.next_event();
        let event = stream.next_event();
        assert_eq!((event.data["type"].as_str(), event.id >= three.id), (Some("resync"), true));
    }
}

#[test]
fn a_fetched_file_gets_into_the_browser_once() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film ç.bin", 3_000_000);
    bob.share([&film]).exits(0);
    let _his = bob.serve();
    let inbox = lab.empty_folder("inbox");
    let (_web, page) = Page::start(&alice, &["--folder", inbox.to_str().unwrap()]);
    let mut events = page.events(None);
    let listed = page.get("/files/bob");
    assert_eq!((&listed["files"][0]["name"], &listed["files"][0]["size"]), (&json!("film ç.bin"), &json!(3_000_000)));
    let found = poll_until(
        || Some(page.get("/files?search=film")).filter(|found| found["files"] != json!([])),
        || "the tracker finds it".to_owned(),
    );
    assert_eq!(found["files"][0]["user"], "bob");
    let number = page.post("/fetches", &json!({ "from": "bob", "name": "film ç.bin" }))["number"].as_u64().unwrap();
    let done = events.wait_for("fetch", |event| event["number"] == number && event["state"] != "running").data;
    assert_eq!((&done["state"], &done["bytes"], &done["size"]), (&json!("done"), &json!(3_000_000), &json!(3_000_000)));
    assert_eq!(page.get("/fetches")["fetches"][0], {
        let mut object = done.clone();
        object.as_object_mut().unwrap().retain(|key, _| !matches!(&**key, "v" | "type"));
        object
    });
    assert_same(inbox.join("film ç.bin"), &film);

    let ticket = || {
        let path = page.post("/tickets", &json!({ "fetch": number, "file": "film ç.bin" }))["path"].clone();
        path.as_str().unwrap().to_owned()
    };
    let get = |path: &str, more: &[(&str, String)]| {
        let mut fields = vec![("Cookie", page.cookie.clone())];
        fields.extend_from_slice(more);
        page::send(page.port, "GET", path, &fields, None)
    };
    let path = ticket();
    let whole = get(&path, &[]);
    let content = fs::read(&film).unwrap();
    assert!(whole.status == 200 && whole.body == content);
    let tag = format!("\"{}\"", ContentHash::of(&content));
    assert_eq!((whole.field("etag"), whole.field("x-content-type-options")), (&*tag, "nosniff"));
    assert!(whole.field("content-disposition").starts_with("attachment; filename=\"film _.bin\""), "{}", whole.head);
    get(&path, &[]).fails(404);
    // A download that broke off goes on.
    let range = |tag: &str| vec![("Range", "bytes=2999990-".to_owned()), ("If-Range", tag.to_owned())];
    let rest = get(&path, &range(&tag));
    assert!(rest.status == 206 && rest.body == content[2_999_990..], "{}", rest.head);
    get(&path, &range("\"other\"")).fails(404);
    page::send(page.port, "GET", &ticket(), &[], None).fails(401);
    page.call("POST", "/tickets", Some(&json!({ "fetch": number, "file": "other" }))).fails(404);
    let gone = ticket();
    fs::remove_file(inbox.join("film ç.bin")).unwrap();
    get(&gone, &[]).fails(410);

    page.post("/fetches", &json!({ "from": "bob", "name": "none.bin" }));
    let failed = events.wait_for("fetch", |event| event["name"] == "none.bin" && event["state"] == "failed").data;
    assert!(failed["why"].as_str().unwrap().contains("none.bin"), "{failed}");
}

#[test]
fn a_dropped_file_is_shared_and_sent() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    let (_web, page) = Page::start(&alice, &[]);
    let mut events = page.events(None);
    let (drop, content) = ("0123456789abcdef0123456789abcdef", files::noise(3, 300_000));
    let path = format!("/uploads/{drop}/photos%2Fç%20ã.bin");
    assert_eq!(page.get(&path), json!({ "offset": 0, "complete": false }));
    let part = page.put(&path, &content[..100_000], Some((0, 300_000)));
    assert_eq!((part.status, part.json()), (202, json!({ "offset": 100_000 })));
    assert_eq!(page.get(&path)["offset"], 100_000);
    page.call("POST", &format!("/uploads/{drop}/share"), Some(&json!({}))).fails(409);
    let wrong = page.put(&path, &content[200_000..], Some((200_000, 300_000)));
    wrong.fails(409);
    assert_eq!(wrong.json()["offset"], 100_000);
    assert_eq!(page.put(&path, &content[100_000..], Some((100_000, 300_000))).status, 201);
    assert_eq!(page.get(&path), json!({ "offset": 300_000, "complete": true }));
    // Once it is here, nothing replaces it.
    assert_eq!(page.put(&path, b"other", None).status, 201);
    // A file that is cancelled holds the others up no longer, even one whose bytes still come.
    let cancelled = format!("/uploads/{drop}/other%2Ffilm.bin");
    let mut running = page.begin_put(&cancelled, 300_000);
    running.write_all(&content[..100_000]).unwrap();
    poll_until(
        || (alice.home().join("uploads").join(drop).join("other").exists()).then_some(()),
        || "nothing arrives".to_owned(),
    );
    page.call("POST", &format!("/uploads/{drop}/share"), Some(&json!({}))).fails(409);
    for _ in 0..2 {
        assert_eq!(page.call("DELETE", &cancelled, None).status, 204);
    }
    page.post(&format!("/uploads/{drop}/share"), &json!({}));
    let done = events.wait_for("drop", |event| event["state"] != "running").data;
    assert_eq!((&done["state"], &done["drop"]), (&json!("done"), &json!(drop)), "{done}");
    let inbox = lab.empty_folder("inbox");
    bob.fetch("alice", ["photos/ç ã.bin"], &inbox).run().exits(0);
    let fetched = files::names_in(&inbox);
    assert!(fetched.iter().any(|name| name.contains("bin") || name == "photos"), "{fetched:?}");
    assert_eq!(page.get("/shares")["shares"][0]["name"], "photos/ç ã.bin");
    let gone = page.call("DELETE", "/shares/photos%2Fç%20ã.bin", None);
    assert_eq!(gone.status, 204, "{gone:?}");
    assert_eq!(page.get("/shares")["shares"], json!([]));
    assert!(!alice.home().join("uploads").join(drop).exists(), "its bytes are free again");

    let drop = "f".repeat(32);
    page.put(&format!("/uploads/{drop}/note.txt"), b"words", None);
    page.post(&format!("/uploads/{drop}/send"), &json!({ "to": "bob", "text": "for you" }));
    let done = events.wait_for("drop", |event| event["drop"] == *drop && event["state"] != "running").data;
    assert_eq!(done["state"], "done", "{done}");
    his.wait_for("alice: for you");
    let sends = page.get("/sends");
    assert_eq!((&sends["sends"][0]["to"], &sends["sends"][0]["state"]), (&json!("bob"), &json!("waiting")));
    let number = sends["sends"][0]["number"].as_i64().unwrap();
    assert_eq!(page.post(&format!("/sends/{number}/pause"), &json!({})), json!({ "changed": true }));
    assert_eq!(page.post(&format!("/sends/{number}/resume"), &json!({})), json!({ "changed": true }));
    bob.fetch("alice", ["note.txt"], &inbox).run().exits(0);
    assert_content(inbox.join("note.txt"), b"words");
    events.wait_for("receipt", |event| event["from"] == "bob" && event["outcome"] == "done");
}

#[test]
fn a_disk_that_fills_up_under_an_upload_loses_nothing() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let uploads = alice.home().join("uploads");
    fs::create_dir_all(&uploads).unwrap();
    // A gibibyte stays free.
    let Some(_disk) = Tmpfs::mount(&uploads, "size=1100m,mode=0700") else {
        println!("skipped: a small disk, which only root may mount");
        return;
    };
    let (_web, page) = Page::start(&alice, &[]);
    let (path, content) = (format!("/uploads/{}/film.bin", "a".repeat(32)), files::noise(3, 8_000_000));
    let mut upload = page.begin_put(&path, content.len());
    upload.write_all(&content[..4_000_000]).unwrap();
    let here = || page.get(&path)["offset"].as_u64().unwrap();
    poll_until(|| (here() > 0).then_some(()), || "nothing arrives".to_owned());
    // Another program takes the rest of the disk.
    let filler = uploads.join("filler");
    let (mut file, block) = (File::create(&filler).unwrap(), vec![7; 1 << 20]);
    while file.write(&block).is_ok() {}
    drop(file);
    // It may be refused before all is sent.
    let _ = upload.write_all(&content[4_000_000..]);
    assert_eq!(page::read_answer(upload).fails(507)["code"], "disk");
    let kept = here();
    assert!((1..8_000_000).contains(&kept), "{kept}");
    page.put(&path, &content[kept as usize..], Some((kept, 8_000_000))).fails(507);
    assert_eq!(here(), kept, "a refusal takes nothing away");
    fs::remove_file(&filler).unwrap();
    assert_eq!(page.put(&path, &content[kept as usize..], Some((kept, 8_000_000))).status, 201);
    assert_content(uploads.join("a".repeat(32)).join("film.bin"), &content);
}

#[test]
fn rooms_are_made_joined_and_changed() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _his = bob.serve();
    let (_web, page) = Page::start(&alice, &[]);
    let mut events = page.events(None);
    let made = page.call("POST", "/rooms", Some(&json!({ "name": "lab", "topic": "Fridays", "password": "secret" })));
    assert_eq!(made.status, 201, "{made:?}");
    page.call("POST", "/rooms", Some(&json!({ "name": "lab" }))).fails(409);
    assert_eq!(page.get("/rooms/directory")["rooms"][0]["password"], true);
    let room = poll_until(
        || page.get("/rooms")["rooms"].as_array().unwrap().first().filter(|room| room["topic"] == "Fridays").cloned(),
        || "the room is there".to_owned(),
    );
    assert_eq!((&room["room"], &room["role"]), (&json!("lab"), &json!("owner")));
    page.post("/rooms/lab/invite", &json!({ "user": "bob" }));
    bob.peer(["room", "join", "lab"]).run().exits(0);
    events.wait_for("room", |event| event["kind"] == "joined" && event["user"] == "bob");
    page.post("/conversations/%23lab/messages", &json!({ "text": "hello, room" }));
    events.wait_for("message", |event| event["room"] == "lab" && event["text"] == "hello, room");
    bob.peer(["chat", "#lab", "hello, alice"]).run().exits(0);
    let heard = events.wait_for("message", |event| event["from"] == "bob").data;
    assert_eq!(heard["peer"], "#lab");
    let texts = page.get("/conversations/%23lab/messages");
    assert_eq!(texts["messages"].as_array().unwrap().len(), 2);
    page.post("/rooms/lab/topic", &json!({ "topic": "Mondays" }));
    events.wait_for("room", |event| event["kind"] == "topic");
    page.post("/rooms/lab/role", &json!({ "user": "bob", "role": "moderator" }));
    page.post("/rooms/lab/kick", &json!({ "user": "bob" }));
    events.wait_for("room", |event| event["kind"] == "kicked");
    page.call("POST", "/rooms/lab/role", Some(&json!({ "user": "bob", "role": "king" }))).fails(400);
    page.call("POST", "/rooms/none/topic", Some(&json!({ "topic": "x" }))).fails(404);
    page.post("/rooms/lab/leave", &json!({}));
}

#[test]
fn a_page_outlives_its_node() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let his = bob.serve();
    let node = alice.serve();
    let (web, page) = Page::start(&alice, &[]);
    let mut events = page.events(None);
    node.interrupt();
    node.finish().exits(130);
    events.wait_for("node", |event| event["connected"] == false);
    let status = page.call("GET", "/users", None);
    assert!(status.status == 200 || status.fails(503)["code"] == "network");
    let _again = alice.serve();
    events.wait_for("node", |event| event["connected"] == true);
    events.wait_for("resync", |_| true);
    page.post("/conversations/bob/messages", &json!({ "text": "after all" }));
    his.wait_for("alice: after all");
    web.interrupt();
    web.finish().exits(130);
}

#[test]
fn the_document_describes_every_answer() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = lab.user("bob");
    let (_web, page) = Page::start(&alice, &[]);
    let mut events = page.events(None);
    page.post("/conversations/bob/messages", &json!({ "text": "olá" }));
    page.post("/rooms", &json!({ "name": "lab" }));
    let drop = "a".repeat(32);
    page.put(&format!("/uploads/{drop}/x.txt"), b"x", None);
    page.post(&format!("/uploads/{drop}/share"), &json!({}));
    events.wait_for("drop", |event| event["state"] == "done");
    poll_until(|| Some(()).filter(|()| page.get("/rooms")["rooms"] != json!([])), || "the room is there".to_owned());
    let document = page::send(page.port, "GET", "/api/v1/openapi.json", &[], None).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{document}");
    let paths: BTreeSet<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert!(paths.len() > 30, "{paths:?}");
    for path in
        ["/session", "/users", "/rooms", "/rooms/directory", "/shares", "/fetches", "/sends", "/settings", "/files"]
    {
        let schema = &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        let query = if path == "/files" { "?search=x" } else { "" };
        assert_fits(&page.get(&format!("{path}{query}")), schema, &document, path);
    }
    let messages = "/conversations/{name}/messages";
    let schema = &document["paths"][messages]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    assert_fits(&page.get("/conversations/bob/messages"), schema, &document, messages);
    for (path, operations) in document["paths"].as_object().unwrap() {
        // Only where there are accounts.
        if path == "/accounts" {
            continue;
        }
        let parts = path.split('/').map(|part| if part.starts_with('{') { "1" } else { part });
        let real = parts.collect::<Vec<_>>().join("/");
        let refused = page.call("PATCH", &real, None);
        refused.fails(405);
        let allowed: BTreeSet<String> = refused
            .field("allow")
            .to_lowercase()
            .split(',')
            .map(|method| method.trim().to_owned())
            .filter(|method| method != "head")
            .collect();
        let mut described: BTreeSet<String> = operations.as_object().unwrap().keys().cloned().collect();
        // A dropped file may be called like that.
        if path.ends_with("/share") || path.ends_with("/send") {
            described.extend(["get", "put", "delete"].map(str::to_owned));
        }
        assert_eq!(allowed, described, "{path}");
    }
    let error = page.call("POST", "/fetches", Some(&json!({ "from": 1 })));
    let schema = &document["paths"]["/fetches"]["post"]["responses"]["400"]["content"]["application/json"]["schema"];
    assert_fits(&error.json(), schema, &document, "an error");
}

/// Asserts that a value fits a schema, as far as ours go: types, properties, required ones, items, references.
fn assert_fits(value: &Value, schema: &Value, document: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let found = document.pointer(reference.trim_start_matches('#')).expect("the reference leads somewhere");
        return assert_fits(value, found, document, place);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        other => panic!("{place}: a schema without a type: {other}"),
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(types.contains(&is), "{place}: {value} is no {types:?}");
    for item in value.as_array().into_iter().flatten() {
        assert_fits(item, &schema["items"], document, &format!("{place}[]"));
    }
    if let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(object.contains_key(required), "{place}: {required} is missing in {value}");
        }
        for (key, value) in object {
            let schema = properties.get(key).unwrap_or_else(|| panic!("{place}: {key} is not described"));
            assert_fits(value, schema, document, &format!("{place}.{key}"));
        }
    }
}
