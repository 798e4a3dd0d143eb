//! Files of a room: every member gets them, from each other; nobody else learns of them.

use serde_json::{Value, json};
use tests::files::assert_same;
use tests::hostile::{Caller, Ending, Session};
use tests::{Lab, Outcome, Process, User, make_room, poll_until};

const SIZE: usize = 12_000_000;

/// Runs a command until its outcome is the wanted one: members learn of each other, and of who went, a moment later.
#[track_caller]
fn until(wanted: &str, run: impl Fn() -> Outcome, is_wanted: impl Fn(&Outcome) -> bool) -> Outcome {
    poll_until(|| Some(run()).filter(&is_wanted), || format!("never {wanted}: {}", run()))
}

/// Waits until `user` sees this name among the files of `#lab`.
fn sees(user: &User<'_>, name: &str) -> Outcome {
    let files = || user.peer(["files", "#lab"]).run();
    until("listed", files, |listed| listed.is_success() && listed.out().contains(name))
}

fn serve_slowly(user: &User<'_>) -> Process {
    let node = user.peer(["serve", "--limit", "4M"]).start();
    node.wait_for("online as");
    node
}

/// The users who sent some of the only file.
fn senders(outcome: &Outcome) -> Vec<String> {
    let file = outcome.object("file");
    let sources = file["sources"].as_array().unwrap().iter();
    let sent = sources.filter(|source| source["bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    let mut users: Vec<String> = sent.map(|source| source["user"].as_str().unwrap().to_owned()).collect();
    users.sort();
    users
}

fn contains(reply: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(reply).contains(text)
}

fn hash_of(user: &User<'_>, name: &str) -> String {
    let shares = user.peer(["--json", "shares"]).run().exits(0).json();
    let share = shares.iter().find(|share| share["name"] == json!(name)).unwrap();
    share["hash"].as_str().unwrap().to_owned()
}

#[test]
fn every_member_fetches_and_several_at_once_from_each_other() {
    let lab = Lab::start();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| lab.user(name));
    make_room(&[&alice, &bob, &carol]);
    let slides = lab.file("slides.pdf", SIZE);
    bob.peer(["share", "--room", "#LAB"]).arg(&slides).run().exits(0).says("1 file shared");
    bob.peer(["shares"]).run().exits(0).prints("slides.pdf  (#lab only)");
    let _nodes = [alice.serve(), serve_slowly(&bob), serve_slowly(&carol)];
    sees(&alice, "slides.pdf").prints("bob").prints("12.0 MB");
    sees(&carol, "slides.pdf");
    carol.peer(["files", "#lab", "nothing"]).run().exits(5).says("nobody of #lab who is online shares nothing with it");
    let [hers, his] = ["hers", "his"].map(|name| lab.empty_folder(name));
    carol.peer(["fetch", "#lab", "slides.pdf", "--share", "-o"]).arg(&hers).run().exits(0);
    assert_same(hers.join("slides.pdf"), &slides);
    let shared = carol.peer(["--json", "shares"]).run().exits(0).object("share");
    assert_eq!((&shared["audience"], &shared["room"], &shared["open"]), (&json!("room"), &json!("lab"), &json!(true)));
    // From both at once, whoever is the first.
    let both =
        || alice.peer(["--json", "fetch", "#lab", "slides.pdf", "--if-exists", "overwrite", "-o"]).arg(&his).run();
    let from = until("from both", both, |fetched| fetched.is_success() && senders(fetched).len() == 2);
    assert_eq!(senders(&from), ["bob", "carol"]);
    assert_same(his.join("slides.pdf"), &slides);
    // Without --share it stays hers alone, and a member is a person, too.
    alice.peer(["shares"]).run().exits(0).prints_exactly("");
    alice.fetch("bob", ["slides.pdf"], &lab.empty_folder("there")).run().exits(0);
    // What a person doesn't share with everybody isn't everybody's here either.
    let again = alice.peer(["fetch", "bob", "slides.pdf", "--share", "-o"]).arg(lab.empty_folder("again")).run();
    again.exits(0).says("slides.pdf is not for everybody, and not shared again");
    alice.peer(["shares"]).run().exits(0).prints_exactly("");
    alice.fetch("#lab", ["nothing"], &his).run().exits(5).says("nobody of #lab");
    alice.fetch("#office", ["slides.pdf"], &his).run().exits(4).says("there is no room #office");
}

#[test]
fn a_stranger_learns_neither_a_name_nor_that_a_hash_exists() {
    let lab = Lab::start();
    let [alice, bob, mallory] = ["alice", "bob", "mallory"].map(|name| lab.user(name));
    make_room(&[&alice, &bob]);
    let folder = lab.join("docs");
    lab.file("docs/slides.pdf", SIZE);
    std::fs::create_dir(folder.join("empty")).unwrap();
    bob.peer(["share", "--room", "lab"]).arg(&folder).run().exits(0);
    let _nodes = [alice.serve(), bob.serve()];
    sees(&alice, "docs/slides.pdf");
    let here = lab.empty_folder("here");
    mallory.peer(["files", "bob"]).run().exits(0).prints_exactly("").says("bob shares nothing");
    let secret = mallory.fetch("bob", ["docs/slides.pdf"], &here).run();
    let unknown = mallory.fetch("bob", ["docs/nothing.pdf"], &here).run();
    assert_eq!((secret.code, secret.err().replace("slides", "nothing")), (5, unknown.err()));
    mallory.peer(["files", "#lab"]).run().exits(6).says("you are not in #lab");
    mallory.fetch("#lab", ["docs/slides.pdf"], &here).run().exits(6).says("you are not in #lab");
    let share = ["share", "--room", "lab"];
    mallory.peer(share).arg(lab.file("x", 5)).run().exits(6).says("you are not in #lab");
    // Nor from the tracker.
    mallory.peer(["find", "slides"]).run().exits(5);
    let listed = mallory.peer(["--json", "list"]).run().exits(0).json();
    assert!(listed.iter().all(|peer| peer["files"] == json!(0)), "{listed:?}");

    // Nor below the protocol: what is there and what isn't are answered alike.
    let identity = Caller::register(&lab, "mallet");
    let caller = Caller::dial(bob.node_address(), &identity);
    assert!(matches!(caller.hello("mallet"), Ending::Answer(welcome) if welcome["t"] == "welcome"));
    let (hash, nothing) = (hash_of(&bob, "docs/slides.pdf"), "ab".repeat(32));
    let room =
        Session::open(lab.address(), &identity).demand(&json!({ "action": "ROOM_LIST" }))["rooms"][0]["id"].take();
    assert!(room.is_string());
    // Nor who is in which room: that of others is answered like one that nobody ever made.
    let answer = |room: &Value| {
        let files = json!({ "t": "files", "room": room });
        let is_final = |reply: Vec<u8>| Some(reply).filter(|reply| !contains(reply, "\"code\":5"));
        poll_until(|| caller.exchange(&files).and_then(is_final), || "the tracker is asked for ever".to_owned())
    };
    assert_eq!(answer(&room), answer(&json!("ab".repeat(16))));
    for room in [Value::Null, room] {
        let questions = |name: &str, hash: &str| {
            [
                json!({ "t": "files", "room": room }),
                json!({ "t": "folders", "room": room }),
                json!({ "t": "folder_times", "room": room }),
                json!({ "t": "stat", "name": name, "room": room }),
                json!({ "t": "manifest", "hash": hash }),
                json!({ "t": "have", "hash": hash }),
                json!({ "t": "get", "hash": hash, "ranges": [[0, 1]], "name": name }),
            ]
        };
        let asked = questions("docs/slides.pdf", &hash).into_iter().zip(questions("docs/nothing.pdf", &nothing));
        for (question, other) in asked {
            assert_eq!(caller.exchange(&question), caller.exchange(&other), "{question}");
        }
    }
    // A member with a client that knows no files of rooms gets those for everybody only.
    Session::open(lab.address(), &identity).demand(&json!({ "action": "ROOM_JOIN", "room": "lab" }));
    let listed = caller.ask(&json!({ "t": "files" }));
    assert!(matches!(&listed, Ending::Answer(list) if list["files"] == json!([])), "{listed:?}");
}

#[test]
fn a_newcomer_gets_the_files_at_once() {
    let lab = Lab::start();
    let [alice, bob] = ["alice", "bob"].map(|name| lab.user(name));
    make_room(&[&alice]);
    alice.peer(["share", "--room", "lab"]).arg(lab.file("slides.pdf", 3000)).run().exits(0);
    let _hers = alice.serve();
    for number in 0..5 {
        // Whoever joined a moment ago is asked about, not turned away, and never shown an empty room.
        bob.peer(["room", "join", "lab"]).run().exits(0);
        bob.peer(["files", "#lab"]).run().exits(0).prints("slides.pdf");
        bob.fetch("#lab", ["slides.pdf"], &lab.empty_folder(format!("his{number}"))).run().exits(0);
        bob.peer(["room", "leave", "lab"]).run().exits(0);
    }
}

#[test]
fn leaving_without_a_node_closes_at_once() {
    let lab = Lab::start();
    let [alice, bob] = ["alice", "bob"].map(|name| lab.user(name));
    make_room(&[&alice, &bob]);
    bob.peer(["share", "--room", "lab"]).arg(lab.file("slides.pdf", 3000)).run().exits(0);
    bob.peer(["shares"]).run().exits(0).prints("slides.pdf  (#lab only)");
    bob.peer(["room", "leave", "lab"]).run().exits(0);
    bob.peer(["shares"]).run().exits(0).prints("slides.pdf  (#lab only, and open to nobody)");
}

#[test]
fn a_public_twin_stays_public() {
    let lab = Lab::start();
    let [alice, bob, mallory] = ["alice", "bob", "mallory"].map(|name| lab.user(name));
    make_room(&[&alice, &bob]);
    let slides = lab.file("desk/slides.pdf", SIZE);
    bob.peer(["share", "--room", "lab"]).arg(&slides).run().exits(0);
    bob.peer(["share", "--as", "twin.pdf"]).arg(&slides).run().exits(0).says("already hashed");
    let _nodes = [alice.serve(), bob.serve()];
    sees(&alice, "slides.pdf");
    let here = lab.empty_folder("here");
    mallory.fetch("bob", ["twin.pdf"], &here).run().exits(0);
    assert_same(here.join("twin.pdf"), &slides);
    mallory.fetch("bob", ["slides.pdf"], &here).run().exits(5);
    // The name stays the room's, and the content everybody's, whichever goes.
    bob.peer(["unshare", "slides.pdf"])
        .run()
        .exits(2)
        .says("slides.pdf is shared with #lab only: `peer unshare --room lab");
    bob.peer(["unshare", "twin.pdf"]).run().exits(0);
    mallory.fetch("bob", ["twin.pdf"], &lab.empty_folder("there")).run().exits(5);
    alice.fetch("#lab", ["slides.pdf"], &lab.empty_folder("hers")).run().exits(0);
    bob.peer(["unshare", "slides.pdf", "--room", "lab"]).run().exits(0).says("stopped sharing 1 file: slides.pdf");
    alice.fetch("bob", ["slides.pdf"], &lab.empty_folder("nothing")).run().exits(5);
}

#[test]
fn who_was_sent_away_gets_nothing_and_leaving_closes() {
    let lab = Lab::start();
    let [alice, bob, dave] = ["alice", "bob", "dave"].map(|name| lab.user(name));
    make_room(&[&alice, &bob, &dave]);
    bob.peer(["share", "--room", "lab"]).arg(lab.file("slides.pdf", 3000)).run().exits(0);
    let _nodes = [alice.serve(), bob.serve()];
    sees(&dave, "slides.pdf");
    dave.peer(["files", "bob"]).run().exits(0).prints("slides.pdf");
    alice.peer(["room", "kick", "lab", "dave"]).run().exits(0);
    dave.peer(["files", "#lab"]).run().exits(6).says("you are not in #lab");
    let files_of_bob = |user: &User<'_>| user.peer(["files", "bob"]).run();
    until("closed", || files_of_bob(&dave), |listed| listed.is_success() && listed.out().is_empty());
    dave.fetch("bob", ["slides.pdf"], &lab.empty_folder("his")).run().exits(5);
    files_of_bob(&alice).exits(0).prints("slides.pdf");
    bob.peer(["room", "leave", "lab"]).run().exits(0);
    until("closed", || files_of_bob(&alice), |listed| listed.is_success() && listed.out().is_empty());
    let shares = || bob.peer(["shares"]).run();
    until("told", shares, |listed| listed.out().contains("slides.pdf  (#lab only, and open to nobody)"))
        .says("you are not in #lab any more")
        .says("`peer unshare NAME --room lab`");
    bob.peer(["unshare", "slides.pdf", "--room", "lab"]).run().exits(0);
    bob.peer(["shares"]).run().exits(0).prints_exactly("");
}

#[test]
fn names_of_several_members_come_in_one_fetch_and_the_newest_counts() {
    let lab = Lab::start();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| lab.user(name));
    make_room(&[&alice, &bob, &carol]);
    let share = |user: &User<'_>, path: &str, size: usize| {
        let file = lab.file(path, size);
        user.peer(["share", "--room", "lab"]).arg(&file).run().exits(0);
        file
    };
    let (plan, old) = (share(&bob, "desk-bob/plan.txt", 3000), share(&bob, "desk-bob/notes.txt", 1000));
    let (photo, new) = (share(&carol, "desk-carol/photo.jpg", 2_000_000), share(&carol, "desk-carol/notes.txt", 2000));
    let before = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::open(&old).unwrap().set_modified(before).unwrap();
    bob.peer(["share", "--room", "lab"]).arg(&old).run().exits(0);
    let _nodes = [bob.serve(), carol.serve()];
    sees(&alice, "plan.txt");
    sees(&alice, "photo.jpg");
    let here = lab.empty_folder("here");
    let all = alice.fetch("#lab", ["/"], &here).run();
    all.exits(0).says("notes.txt is not the same everywhere: carol's is the newest").says("`peer fetch bob …`");
    assert_same(here.join("plan.txt"), plan);
    assert_same(here.join("photo.jpg"), photo);
    assert_same(here.join("notes.txt"), new);
    let there = lab.empty_folder("there");
    alice.fetch("bob", ["notes.txt"], &there).run().exits(0);
    assert_same(there.join("notes.txt"), old);
}
