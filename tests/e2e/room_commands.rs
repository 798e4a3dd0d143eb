//! `peer room` and `peer rooms` at the real tracker: what each person sees, the exercise's client beside them.

use serde_json::{Value, json};
use tests::files::write;
use tests::hostile::{Caller, HostileTracker, PlainSession, Session};
use tests::{Lab, Outcome, User};

fn room(user: &User<'_>, words: &[&str]) -> Outcome {
    user.peer(["room"]).args(words).run()
}

/// The names and roles that `peer room members` tells, in its order.
fn roles(user: &User<'_>, room: &str) -> Vec<(String, String)> {
    let listed = user.peer(["--json", "room", "members", room]).run();
    listed.exits(0);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    listed.json().iter().map(|member| (text(&member["user"]), text(&member["role"]))).collect()
}

fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(user, role)| ((*user).to_owned(), (*role).to_owned())).collect()
}

#[test]
fn the_life_of_a_room() {
    let lab = Lab::start();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| lab.user(name));
    bob.peer(["rooms"]).run().exits(0).says("there are no rooms: `peer room create NAME`");
    let made = room(&alice, &["create", "lab", "--topic", "Fridays at ten"]);
    made.exits(0).prints_exactly("").says("made #lab: everybody can join").says("the last 30 days").says("'#lab'");
    room(&bob, &["create", "LAB"]).exits(6).says("there is a room #LAB already; `peer room join LAB`");
    // Both spellings, and any case of letters.
    room(&bob, &["join", "#LAB"]).exits(0).says("joined #lab: 2 members, owner alice").says("the last 30 days");
    room(&bob, &["join", "lab"]).exits(0).says("you are in #lab already");
    room(&carol, &["join", "lab"]).exits(0);
    room(&alice, &["moderator", "lab", "BOB"]).exits(0).says("bob is a moderator of #lab now");
    assert_eq!(roles(&carol, "lab"), named(&[("alice", "owner"), ("bob", "moderator"), ("carol", "member")]));
    let _serving = carol.serve();
    let members = room(&bob, &["members", "lab"]);
    members.exits(0).prints_exactly("alice  owner\nbob    moderator  (you)\ncarol             online\n");
    room(&carol, &["topic", "lab"]).exits(0).prints_exactly("Fridays at ten\n");
    room(&bob, &["topic", "lab", "Mondays", "at", "nine"]).exits(0).says("is now: Mondays at nine");
    let mine = carol.peer(["rooms"]).run();
    mine.exits(0).prints_exactly("#lab  member           3 members  Mondays at nine\n");
    room(&bob, &["topic", "lab", ""]).exits(0).says("#lab has no topic now");
    room(&alice, &["owner", "lab", "carol"]).exits(0).says("carol owns #lab now, and you are a moderator");
    // The moderator who is there longest follows.
    room(&carol, &["leave", "lab"]).exits(0).says("left #lab; alice owns it now");
    room(&carol, &["members", "lab"]).exits(6).says("you are not in #lab: `peer room join lab`");
    room(&alice, &["moderator", "lab", "bob", "--remove"]).exits(0).says("no longer");
    room(&alice, &["leave", "lab"]).exits(0).says("bob owns it now");
    room(&bob, &["delete", "lab"]).exits(2).says("`peer room delete lab --yes`");
    room(&bob, &["delete", "lab", "--yes"]).exits(0).says("deleted #lab");
    room(&bob, &["join", "lab"]).exits(4).says("there is no room #lab: `peer rooms` shows all");
    room(&bob, &["create", "lab", "--history", "none"])
        .exits(0)
        .says("only messages that are written after they joined");
    room(&bob, &["leave", "lab"]).exits(0).says("nobody is left, so it is gone");
}

#[test]
fn a_password_is_asked_for_and_an_invitation_stands_for_it() {
    let lab = Lab::start();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| lab.user(name));
    let secret = write(lab.join("lab.txt"), "s3nha\n");
    alice.peer(["room", "create", "lab", "--password-file"]).arg(&secret).run().exits(0).says("its password");
    room(&bob, &["join", "lab"]).exits(2).says("use --password-file FILE");
    bob.peer(["room", "join", "lab", "--password-file", "-"]).stdin("wrong\n").run().exits(3).says("ask alice");
    let mut typed = bob.peer(["room", "join", "lab"]).in_terminal(80, 12);
    typed.wait_for("Password of #lab:");
    typed.wait_until_secret();
    typed.press("s3nha\r");
    let (outcome, screen) = typed.finish();
    outcome.exits(0);
    assert!(screen.text().contains("joined #lab") && !screen.text().contains("s3nha"), "{}", screen.text());
    room(&alice, &["invite", "lab", "carol"]).exits(0).says("invited carol: `peer room join lab` there");
    carol.peer(["rooms"]).run().exits(0).prints("you can join");
    room(&carol, &["join", "lab"]).exits(0);
    room(&carol, &["leave", "lab"]).exits(0);
    room(&bob, &["passwd", "lab", "--remove"]).exits(6).says("only the room's owner").says("`peer room members lab`");
    let mut typed = alice.peer(["room", "passwd", "lab"]).in_terminal(80, 12);
    for (label, answer) in [("New password of #lab:", "outra\r"), ("Repeat the password:", "outra\r")] {
        typed.wait_for(label);
        typed.wait_until_secret();
        typed.press(answer);
    }
    typed.finish().0.exits(0);
    let join = |password: &str| carol.peer(["room", "join", "lab", "--password-file", "-"]).stdin(password).run();
    join("s3nha").exits(3);
    // The password alone is not enough any more; then nothing is needed.
    room(&alice, &["passwd", "lab", "--invite-only", "yes"]).exits(0).says("only people who are invited");
    join("outra").exits(6).says("takes an invitation").says("ask alice");
    room(&alice, &["passwd", "lab", "--remove", "--invite-only", "no"]).exits(0).says("everybody can join");
    room(&carol, &["join", "lab"]).exits(0);
    for words in [["create", "x", "--password", "s3nha"], ["join", "lab", "--password", "s3nha"]] {
        room(&carol, &words).exits(2);
    }
}

#[test]
fn whoever_may_not_is_told_who_may() {
    let lab = Lab::start();
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| lab.user(name));
    room(&alice, &["create", "lab"]).exits(0);
    room(&bob, &["kick", "lab", "alice"]).exits(6).says("you are not in #lab: `peer room join lab`");
    room(&alice, &["kick", "office", "bob"]).exits(4).says("there is no room #office");
    for user in [&bob, &carol, &dave] {
        room(user, &["join", "lab"]).exits(0);
    }
    for words in [
        &["kick", "lab", "carol"][..],
        &["ban", "lab", "carol"],
        &["invite", "lab", "erin"],
        &["topic", "lab", "x"],
        &["moderator", "lab", "carol"],
        &["owner", "lab", "carol"],
        &["delete", "lab", "--yes"],
    ] {
        room(&bob, words).exits(6).says("#lab: only the room's owner").says("`peer room members lab` shows who is who");
    }
    room(&alice, &["moderator", "lab", "bob"]).exits(0);
    room(&bob, &["kick", "lab", "alice"]).exits(6).says("alice owns the room");
    room(&bob, &["kick", "lab", "erin"]).exits(4).says("erin is not a member").says("`peer room members lab`");
    room(&alice, &["invite", "lab", "erin"]).exits(4).says("there is no user erin");
    // Two who are there and one who isn't.
    let some = room(&bob, &["kick", "lab", "carol", "erin", "dave"]);
    some.exits(12).says("kicked carol").says("erin is not a member").says("kicked dave").says("1 of 3 failed");
    room(&carol, &["join", "lab"]).exits(6).says("takes an invitation").says("ask alice, who owns it");
    room(&bob, &["ban", "lab", "dave"]).exits(0).says("`peer room unban lab dave`");
    room(&dave, &["join", "lab"]).exits(6).says("you are banned");
    room(&bob, &["invite", "lab", "dave"]).exits(6).says("unban dave first");
    room(&bob, &["unban", "lab", "dave"]).exits(0);
    room(&dave, &["join", "lab"]).exits(0);
    room(&bob, &["invite", "lab", "carol"]).exits(0);
    room(&carol, &["join", "lab"]).exits(0);
    assert_eq!(
        roles(&dave, "lab"),
        named(&[("alice", "owner"), ("bob", "moderator"), ("carol", "member"), ("dave", "member")])
    );
}

#[test]
fn programs_get_objects() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let object = |user: &User<'_>, words: &[&str], kind: &str| {
        let outcome = user.peer(["--json", "-q"]).args(words).run();
        outcome.exits(0).object(kind)
    };
    let made = object(&alice, &["room", "create", "lab", "--invite-only", "--history", "none"], "room");
    assert_eq!((&made["kind"], &made["room"], &made["history"]), (&json!("created"), &json!("lab"), &json!(false)));
    let invited = object(&alice, &["room", "invite", "lab", "bob"], "room");
    assert_eq!((&invited["kind"], &invited["user"]), (&json!("invited"), &json!("bob")));
    let listed = object(&bob, &["rooms"], "listed_room");
    let fields = ["room", "owner", "members", "invite_only", "invited", "role"].map(|field| listed[field].clone());
    assert_eq!(json!(fields), json!(["lab", "alice", 1, true, true, null]));
    let joined = object(&bob, &["room", "join", "lab"], "room");
    assert_eq!((&joined["kind"], &joined["user"], &joined["id"]), (&json!("joined"), &json!("bob"), &made["id"]));
    let members = alice.peer(["--json", "room", "members", "lab"]).run();
    let keys: Vec<Value> = members.exits(0).json().iter().map(|member| member["fingerprint"].clone()).collect();
    assert_eq!(json!(keys), json!([alice.fingerprint(), bob.fingerprint()]));
    let left = object(&alice, &["room", "leave", "lab"], "room");
    assert_eq!((&left["kind"], &left["owner"]), (&json!("left"), &json!("bob")));
    let refused = alice.peer(["--json", "room", "join", "lab"]).run();
    assert_eq!(refused.exits(6).object("error")["code"], "refused");
}

#[test]
fn names_and_topics_steer_no_terminal() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    for name in ["\u{1b}[31mlab", "a/b", "lab\n", "", "\u{202e}lab"] {
        room(&alice, &["create", name]).exits(2).is_plain();
    }
    // Usable as names of rooms that exist, but not of new ones.
    room(&alice, &["create", "..lab"]).exits(2).says("begins with a letter or a digit");
    room(&alice, &["create", "lab", "--topic", "a\nb"]).exits(2).says("one line");
    let missing = room(&alice, &["join"]);
    missing.exits(2).says("a shell takes #lab for a comment");
    let identity = Caller::register(&lab, "mallory");
    let mut mallory = Session::open(lab.address(), &identity);
    mallory.demand(&json!({ "action": "ROOM_CREATE", "room": "lab" }));
    mallory.demand(&json!({ "action": "ROOM_TOPIC", "room": "lab", "topic": "\u{202e}olá \u{200b}\u{2066}x" }));
    alice.peer(["rooms"]).run().exits(0).prints("#lab").is_plain();
    room(&alice, &["join", "lab"]).exits(0).is_plain();
    room(&alice, &["topic", "lab"]).exits(0).prints("olá").is_plain();
}

#[test]
fn a_tracker_that_lies_about_rooms_is_not_believed() {
    let lab = Lab::without_tracker();
    let entry = |name: &str, topic: &str| {
        json!({ "id": "01".repeat(16), "name": name, "topic": topic, "owner": "bob", "members": 1, "history": true,
                "role": "member" })
    };
    let answers = [
        (vec![entry("\u{1b}[2J", "")], 7, "is not a Vizinho tracker"),
        (vec![entry("lab", "\u{1b}]0;x\u{7}")], 7, "is not a Vizinho tracker"),
        (vec![entry("lab", "")], 8, "the tracker's records of #lab are not in order"),
    ];
    for (rooms, code, told) in answers {
        let tracker = HostileTracker::with_tls(move |request| {
            let fields = match request["action"].as_str().unwrap() {
                "ROOM_LIST" => json!({ "rooms": rooms }),
                "ROOM_MEMBERS" => {
                    let record = json!({ "signed": "00", "signature": "00".repeat(64) });
                    let (id, head) = ("01".repeat(16), "02".repeat(32));
                    json!({ "id": id, "epoch": 1, "head": head, "records": [record], "more": false })
                }
                _ => json!({}),
            };
            let mut reply = json!({ "status": "ok", "code": "ok", "message": "" });
            reply.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            format!("{reply}\n").into_bytes()
        });
        let address = tracker.address();
        let alice = lab.stranger(&format!("alice{code}{}", told.len()));
        let register = alice.peer(["--tracker", &address, "register", "alice", "--password-file"]);
        register.arg(alice.password_file()).run().exits(0);
        let asked = alice.peer(["--tracker", &address, "room", "members", "lab"]).run();
        asked.exits(code).says(told).is_plain();
    }
}

#[test]
fn the_exercise_s_client_is_in_the_same_room() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let mut student = PlainSession::open(lab.address());
    student.demand(&json!({ "action": "REGISTER", "user": "ana", "password": "x" }));
    student.demand(&json!({ "action": "LOGIN", "user": "ana", "password": "x", "port": 5000 }));
    room(&alice, &["create", "sala"]).exits(0);
    let joined = student.ask(&json!({ "cmd": "JOIN_ROOM", "room": "sala", "user": "ana" }));
    assert_eq!(joined["status"], "OK", "{joined}");
    room(&bob, &["join", "sala"]).exits(0).says("3 members");
    let members = room(&alice, &["members", "sala"]);
    members.exits(0).prints("ana               online (an old client: no messages)\n");
    room(&alice, &["moderator", "sala", "ana"]).exits(6).says("has no key");
    room(&alice, &["kick", "sala", "ana"]).exits(0);
    assert_eq!(roles(&bob, "sala"), named(&[("alice", "owner"), ("bob", "member")]));
    // And a room of hers, which she owns beside the first of us.
    student.ask(&json!({ "cmd": "CREATE_ROOM", "room": "turma", "user": "ana", "senha": "abc" }));
    bob.peer(["room", "join", "turma", "--password-file", "-"]).stdin("abc").run().exits(0).says("owner ana");
    room(&bob, &["kick", "turma", "ana"]).exits(6).says("ana owns the room");
    student.ask(&json!({ "cmd": "KICK_MEMBER", "room": "turma", "admin": "ana", "member": "bob" }));
    room(&bob, &["members", "turma"]).exits(6).says("you are not in #turma");
}
