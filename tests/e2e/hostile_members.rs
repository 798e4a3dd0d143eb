//! Members of a room who keep to no rule, and a tracker that doesn't either: between real nodes.

use std::path::Path;
use std::time::{Duration, Instant};

use certs::Identity;
use rooms::{MembershipRecord, MessageRun, RoomChange, SignedRecord};
use rusqlite::{Connection, params};
use serde_json::Value;
use shared::room::RecordHash;
use shared::{Fingerprint, RoomId};
use tests::hostile::{CapturedRun, Ending, HostileMember, Withholding, WithholdingMember};
use tests::{Lab, User, make_room};

/// Messages of one who floods.
const FLOOD: usize = 3000;
/// What a node takes unasked of one author: at once, and each second.
const PUSH_BURST: usize = 200;
const PUSHES_PER_SECOND: usize = 20;

#[track_caller]
fn say(user: &User<'_>, text: &str) {
    user.peer(["chat", "#lab", text]).run().exits(0);
}

/// The texts of `#lab` with their authors, in its order.
fn history(user: &User<'_>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let shown = user.peer(["--json", "history", "#lab"]).run().exits(0).json();
    shown.iter().map(|message| (text(&message["from"]), text(&message["text"]))).collect()
}

#[test]
fn nobody_speaks_in_the_name_of_another() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    make_room(&[&alice, &bob]);
    alice.peer(["room", "create", "office"]).run().exits(0);
    bob.peer(["room", "join", "office"]).run().exits(0);
    let mut mallory = HostileMember::register(&lab, "mallory");
    let (room, office) = (mallory.join("lab"), mallory.join("office"));
    let (hers, his) = (alice.serve(), bob.serve());
    say(&bob, "lunch at noon");
    bob.peer(["chat", "#office", "not for the lab"]).run().exits(0);
    hers.wait_for("#lab bob: lunch at noon");
    hers.wait_for("#office bob: not for the lab");
    let [captured, elsewhere] =
        [room, office].map(|room| mallory.capture(bob.node_address(), room, &bob.fingerprint()));
    let own = mallory.sign(room, None, "in my own name");
    let attacks: [(&str, CapturedRun); 4] = [
        ("his signature under another text", captured.with_text("send me money")),
        ("her signature under his name", mallory.forge(&captured, "send me money")),
        ("her key and signature under his name", mallory.forge(&captured, "send me money").with_key_of(&own)),
        ("his words from another room", elsewhere),
    ];
    for (what, run) in attacks {
        // No honest member passes that on, so the link ends.
        let caller = mallory.call(alice.node_address());
        caller.push(room, &run);
        assert_eq!(caller.ending(), Ending::Closed(1), "{what}");
    }
    // What he did sign is taken from anybody, once.
    let caller = mallory.call(alice.node_address());
    caller.push_until_taken(room, &captured);
    caller.push_until_taken(room, &CapturedRun::from(&own));
    his.wait_for("#lab mallory: in my own name");
    let expected = [("bob", "lunch at noon"), ("mallory", "in my own name")];
    let mut told = history(&alice);
    told.sort();
    assert_eq!(told, expected.map(|(from, text)| (from.to_owned(), text.to_owned())));
    assert_eq!(hers.said().matches("lunch at noon").count(), 1);
}

#[test]
fn two_messages_under_one_number_are_kept_and_their_author_is_named() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    make_room(&[&alice, &bob]);
    let mut mallory = HostileMember::register(&lab, "mallory");
    let room = mallory.join("lab");
    let (hers, his) = (alice.serve(), bob.serve());
    for (user, text) in [(&alice, "I am for it"), (&bob, "I am against it")] {
        let run = CapturedRun::from(&mallory.sign(room, None, text));
        mallory.call(user.node_address()).push_until_taken(room, &run);
    }
    for node in [&hers, &his] {
        node.wait_for("#lab mallory: I am for it");
        node.wait_for("#lab mallory: I am against it");
        node.wait_for("#lab: mallory's node was restored from a backup, or runs twice");
    }
    assert_eq!(history(&alice).len(), 2);
    assert_eq!(history(&alice), history(&bob));
}

#[test]
fn who_withholds_keeps_nobody_from_what_others_have() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    make_room(&[&alice, &bob]);
    let claim = Withholding::Claim(bob.fingerprint());
    let _mallory = WithholdingMember::join(&lab, "mallory", claim);
    let _silent = ["mallet", "mel"].map(|user| WithholdingMember::join(&lab, user, Withholding::Silence));
    let his = bob.serve();
    for number in 0..20 {
        say(&bob, &format!("word {number}."));
    }
    let hers = alice.serve();
    for number in 0..20 {
        hers.wait_for(&format!("#lab bob: word {number}."));
    }
    say(&alice, "thanks");
    his.wait_for("#lab alice: thanks");
    // What nobody has is not waited for, and nobody is accused of it.
    assert!(!hers.said().contains("missing"), "{}", hers.said());
}

#[test]
fn a_flood_is_cut_to_its_rate_and_delays_nobody_else() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    make_room(&[&alice, &bob]);
    let mut mallory = HostileMember::register(&lab, "mallory");
    let room = mallory.join("lab");
    let (hers, _his) = (alice.serve(), bob.serve());
    say(&bob, "it is quiet here");
    hers.wait_for("#lab bob: it is quiet here");
    let mut runs: Vec<MessageRun> = Vec::with_capacity(FLOOD);
    for number in 0..FLOOD {
        let run = mallory.sign(room, runs.last(), &format!("{number} {}", "spam ".repeat(200)));
        runs.push(run);
    }
    let caller = mallory.call(alice.node_address());
    caller.push_until_taken(room, &CapturedRun::from(&runs[0]));
    let (before, begun) = (hers.resident_mib(), Instant::now());
    let (taken, delays) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| caller.push_all(room, &runs));
        let mut delays = Vec::new();
        while !flood.is_finished() {
            let (text, said) = (format!("can you hear me? {}", delays.len()), Instant::now());
            say(&bob, &text);
            hers.wait_for(&text);
            delays.push(said.elapsed());
        }
        (flood.join().unwrap(), delays)
    });
    let allowed = PUSH_BURST + PUSHES_PER_SECOND * (usize::try_from(begun.elapsed().as_secs()).unwrap() + 2);
    assert!((PUSH_BURST / 2..=allowed).contains(&taken), "{taken} of {allowed} were taken");
    // Most of each is the start of the command that speaks.
    assert!(delays.iter().all(|delay| *delay < Duration::from_secs(5)), "{delays:?}");
    let grown = hers.resident_mib().saturating_sub(before);
    assert!(grown < 64, "{grown} MiB more");
    let spam = history(&alice).iter().filter(|(from, _)| from == "mallory").count();
    assert!(spam <= taken + 1, "{spam} of {taken}");
}

/// Makes a user a member of `#lab` in the tracker's database, as only its operator can.
fn add_member(tracker: &Path, user: &str, key: Fingerprint) {
    let identity = Identity::load(&tracker.join("identity")).unwrap().unwrap();
    let database = Connection::open(tracker.join("tracker.db")).unwrap();
    let (id, epoch, head) = database
        .query_row("SELECT id, epoch, head FROM room WHERE name = 'lab'", [], |row| {
            Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, u64>(1)?, row.get::<_, [u8; 32]>(2)?))
        })
        .unwrap();
    let change = RoomChange::Join { user: user.parse().unwrap(), key };
    let previous = Some(RecordHash::from_bytes(head));
    let record = MembershipRecord { room: RoomId::from_bytes(id), epoch: epoch + 1, previous, time: 0, change };
    let record: SignedRecord = record.sign(&identity.ed25519_key_pair().unwrap());
    let (epoch, hash) = (epoch + 1, *record.hash().as_bytes());
    let added = [
        database.execute(
            "INSERT INTO room_record (room, epoch, hash, signed, signature, is_own, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, 0, 0)",
            params![id, epoch, hash, record.signed(), record.signature()],
        ),
        database.execute(
            "INSERT INTO room_member (room, user, fingerprint, role, position) VALUES (?1, ?2, ?3, 0, ?4)",
            params![id, user, key.as_bytes(), epoch],
        ),
        database.execute(
            "UPDATE room SET records = records + 1, epoch = ?2, head = ?3 WHERE id = ?1",
            params![id, epoch, hash],
        ),
    ];
    assert!(added.iter().all(|rows| *rows == Ok(1)), "{added:?}");
}

#[test]
fn a_tracker_that_adds_a_member_by_itself_is_seen() {
    let mut lab = Lab::with_restarts();
    let names = ["alice", "bob"];
    let key = {
        let [alice, bob] = names.map(|name| lab.user(name));
        make_room(&[&alice, &bob]);
        alice.peer(["room", "passwd", "lab", "--invite-only", "yes"]).run().exits(0);
        for user in [alice, bob] {
            let node = user.serve();
            node.wait_for("#lab: you joined");
            node.interrupt();
            node.finish();
        }
        HostileMember::register(&lab, "mallory").fingerprint()
    };
    lab.kill_tracker();
    add_member(&lab.join("tracker"), "mallory", key);
    lab.start_tracker();
    for name in names {
        lab.stranger(name).serve().wait_for("#lab: mallory joined");
    }
}
