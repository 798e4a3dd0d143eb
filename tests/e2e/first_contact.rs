//! The first contact with a tracker: a password goes to a key that somebody confirmed, and to no other.

use serde_json::json;
use tests::hostile::HostileTracker;
use tests::{Invocation, Lab, Terminal, User, earlier};

/// Somebody who poses as a tracker, and agrees to everything.
fn rogue() -> HostileTracker {
    HostileTracker::with_tls(|_| {
        let reply = json!({ "status": "ok", "code": "ok", "message": "fine", "token": "00".repeat(32), "ttl_s": 90, "seq": 0,
                            "observed_ip": "127.0.0.1", "user": "alice", "peers": [], "total": 0, "count": 0 });
        format!("{reply}\n").into_bytes()
    })
}

fn register(user: &User<'_>, more: &[&str]) -> Invocation {
    user.cautious_peer(more).args(["register", user.name(), "--password-file"]).arg(user.password_file())
}

/// Waits for the question, which is asked at 40 columns.
fn asked(run: Invocation) -> Terminal {
    let terminal = run.in_terminal(40, 24);
    terminal.wait_for("[yes/no/paste it]");
    terminal
}

#[test]
fn where_nobody_can_be_asked_a_flag_is_needed() {
    let lab = Lab::without_tracker();
    let (alice, rogue) = (lab.stranger("alice"), rogue());
    let (address, key) = (rogue.address(), rogue.fingerprint());
    let refused = register(&alice, &["--tracker", &address]).run();
    refused.exits(2).says("first contact").says(key).says("--accept-new").is_plain();
    refused.says(&format!("peer register alice --tracker {address} --tracker-key {key}"));
    let for_programs = register(&alice, &["--tracker", &address, "--json"]).run();
    let error = for_programs.exits(2).object("error");
    assert_eq!(
        (&error["code"], &error["fingerprint"], &error["tracker"]),
        (&json!("usage"), &json!(key), &json!(address))
    );
    for flag in ["--tracker-key", "--accept-new"] {
        assert!(error["message"].as_str().unwrap().contains(flag), "{error}");
    }
    for quiet in ["--no-input", "--json"] {
        let (outcome, _) = register(&alice, &["--tracker", &address, quiet]).in_terminal(80, 24).finish();
        outcome.exits(2);
    }
    let login = alice.cautious_peer(["--tracker", &address, "login", "alice", "--password-file"]);
    login.arg(alice.password_file()).run().exits(2).says("peer login alice --tracker");
    assert_eq!(rogue.requests(), [json!(null); 0], "nothing was sent");
    // Nothing of it is on record either.
    alice.peer(["--tracker", &address, "trust", "--the-tracker"]).run().exits(0).prints("not contacted yet");
    register(&alice, &["--tracker", &address, "--accept-new"]).run().exits(0).says("remembering its key");
}

#[test]
fn a_wrong_key_is_exit_11_and_nothing_is_sent() {
    let lab = Lab::start();
    let (alice, rogue) = (lab.stranger("alice"), rogue());
    let right = lab.tracker_key();
    let given = register(&alice, &["--tracker", &rogue.address(), "--tracker-key", &right]).run();
    given.exits(11).says(&right).says(rogue.fingerprint()).says("Nothing was sent").is_plain();
    register(&alice, &["--tracker", &rogue.address()]).env("VIZINHO_TRACKER_KEY", &right).run().exits(11);
    // It counts before the consent to any.
    register(&alice, &["--tracker", &rogue.address(), "--accept-new", "--tracker-key", &right]).run().exits(11);
    alice.peer(["--tracker", &rogue.address(), "--tracker-key", &right, "trust", "--the-tracker"]).run().exits(0);
    assert_eq!(rogue.requests(), [json!(null); 0]);

    register(&alice, &[]).env("VIZINHO_TRACKER_KEY", &right).run().exits(0);
    alice.cautious_peer(["trust", "--the-tracker"]).run().exits(0).prints(&format!("{right} confirmed"));
    // One that is confirmed is replaced by a decision and not by an option.
    let other = alice.cautious_peer(["list", "--tracker-key", rogue.fingerprint()]).run();
    other.exits(11).says(&format!("peer trust --the-tracker --replace {}", rogue.fingerprint()));
    // Every command demands it.
    alice.cautious_peer(["list", "--tracker", &rogue.address(), "--tracker-key", &right]).run().exits(11);
    alice.cautious_peer(["list", "--tracker-key", &right]).run().exits(0);
    assert_eq!(rogue.requests(), [json!(null); 0]);
}

#[test]
fn another_spelling_of_a_known_address_is_no_first_contact() {
    let lab = Lab::with_restarts();
    let alice = lab.user("alice");
    lab.kill_tracker();
    let rogue = HostileTracker::with_tls_at(lab.address(), |_| b"{}\n".to_vec());
    let port = lab.address().rsplit(':').next().unwrap();
    for host in ["[::ffff:127.0.0.1]", "0x7f000001", "127.1", "0.0.0.0", "localhost"] {
        let place = format!("{host}:{port}");
        let login = alice.cautious_peer(["--tracker", &place, "--accept-new", "login", "alice", "--password-file"]);
        login.arg(alice.password_file()).run().exits(11).says(rogue.fingerprint()).is_plain();
    }
    assert_eq!(rogue.requests(), [json!(null); 0], "nothing was sent");
}

#[test]
fn in_a_terminal_the_key_is_shown_and_asked_about_once() {
    let lab = Lab::start();
    let key = lab.tracker_key();
    let quarters: Vec<&str> = (0..4).map(|quarter| &key[quarter * 16..][..16]).collect();

    let yes = lab.stranger("yes");
    let mut terminal = asked(register(&yes, &[]));
    let shown = terminal.screen().text();
    assert!(shown.contains(lab.address()), "{shown}");
    for row in quarters.chunks(2) {
        assert!(shown.contains(&row.join(" ")), "{shown}");
    }
    terminal.press("perhaps\r");
    terminal.wait_for("answer yes or no");
    terminal.press("yes\r");
    terminal.finish().0.exits(0);
    let again = yes.cautious_peer(["login", "yes", "--password-file"]).arg(yes.password_file());
    let (outcome, screen) = again.in_terminal(80, 24).finish();
    outcome.exits(0);
    assert!(!screen.text().contains("First contact"), "{}", screen.text());

    let pasted = lab.stranger("pasted");
    let mut terminal = asked(register(&pasted, &[]));
    terminal.press(&format!("peer register NAME --tracker 10.0.0.2:8000 --tracker-key {key}\r"));
    terminal.finish().0.exits(0);
}

#[test]
fn whoever_says_no_or_knows_another_key_sends_nothing() {
    let lab = Lab::start();
    let rogue = rogue();
    let right = lab.tracker_key();
    for (name, answer, said) in [
        ("no", "no\r", "was not trusted"),
        ("end", "\u{4}", "was not trusted"),
        ("paste", &*format!("{right}\r"), "Nothing was sent"),
    ] {
        let user = lab.stranger(name);
        let mut terminal = asked(register(&user, &["--tracker", &rogue.address()]));
        terminal.press(answer);
        let (outcome, screen) = terminal.finish();
        outcome.exits(11);
        let joined = screen.text().replace('\n', "");
        assert!(joined.contains(said), "{}", screen.text());
        // The key that was declined stands in nobody's way.
        register(&user, &["--tracker-key", &right]).run().exits(0);
    }
    assert_eq!(rogue.requests(), [json!(null); 0]);
}

#[test]
fn what_was_only_seen_gets_no_password() {
    let lab = Lab::start();
    let (alice, rogue) = (lab.user("alice"), rogue());
    // Any command may meet a tracker; that makes it no place for a password.
    let address = rogue.address();
    alice.cautious_peer(["--tracker", &address, "list"]).run().exits(0).says("first contact with the tracker");
    let seen = alice.cautious_peer(["--tracker", &address, "trust", "--the-tracker"]).run();
    seen.exits(0).prints(rogue.fingerprint()).prints("not confirmed");
    let password = alice.password_file();
    let login = alice.cautious_peer(["--tracker", &address, "login", "alice", "--password-file"]).arg(&password);
    login.run().exits(2).says(rogue.fingerprint());
    let both = tests::files::write(lab.join("both"), "password of alice\nanother one\n");
    let change = || alice.cautious_peer(["--tracker", &address, "passwd", "--password-file"]).arg(&both);
    change().run().exits(2);
    // Neither does a node that is present there.
    let node = alice.cautious_peer(["--tracker", &address, "serve"]).start();
    node.wait_for("online as alice");
    change().run().exits(2).says(rogue.fingerprint());
    alice.cautious_peer(["passwd", "--password-file"]).arg(&both).run().exits(2).says(rogue.fingerprint());
    rogue.got_no_password();
    // Confirmed meanwhile, the node's connection will do.
    let replace = alice.cautious_peer(["--tracker", &address, "trust", "--the-tracker", "--yes", "--replace"]);
    replace.arg(rogue.fingerprint()).run().exits(0);
    change().run().exits(0);
    node.interrupt();
    node.finish().exits(130);
}

#[test]
fn one_key_at_several_addresses_is_one_tracker() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let port = lab.address().rsplit(':').next().unwrap();
    let elsewhere = format!("localhost:{port}");
    let login = alice.cautious_peer(["--tracker", &elsewhere, "login", "alice", "--password-file"]);
    let outcome = login.arg(alice.password_file()).run();
    assert!(!outcome.exits(0).err().contains("first contact"), "{outcome}");
    // A key that is replaced is replaced at all of them.
    let new = "ab".repeat(32);
    alice.cautious_peer(["trust", "--the-tracker", "--yes", "--replace", &new]).run().exits(0);
    let trust = alice.cautious_peer(["--tracker", &elsewhere, "trust", "--the-tracker"]).run();
    trust.exits(0).prints(&format!("{new} confirmed"));
    alice.cautious_peer(["--tracker", &elsewhere, "list"]).run().exits(11);
}

#[test]
fn the_tracker_of_an_earlier_profile_is_confirmed() {
    let lab = Lab::without_tracker();
    let alice = lab.stranger("alice");
    earlier::copy("alice", alice.home());
    let home = rusqlite::Connection::open(alice.home().join("profile.db")).unwrap();
    let address: String =
        home.query_row("SELECT value FROM setting WHERE key = 'tracker'", [], |row| row.get(0)).unwrap();
    let pin = format!("SELECT value FROM setting WHERE key = 'tracker_pin {address}'");
    let key: String = home.query_row(&pin, [], |row| row.get(0)).unwrap();
    drop(home);
    let trust = alice.cautious_peer(["--json", "--tracker", &address, "trust", "--the-tracker"]).run();
    let trust = trust.exits(0).object("trust");
    assert_eq!((&trust["fingerprint"], &trust["confirmed"]), (&json!(key), &json!(true)));
}

#[test]
fn the_tracker_prints_the_line_and_a_code_where_that_fits() {
    let lab = Lab::start();
    let tracker = lab.take_tracker();
    let line = tracker.wait_for("peer register NAME ").trim().to_owned();
    assert!(!tracker.said().contains('\u{2588}'), "a log is no place for a code: {}", tracker.said());
    let alice = lab.stranger("alice");
    let words = line.split(' ').skip(1).map(|word| if word == "NAME" { "alice" } else { word });
    let pasted = alice.cautious_peer(words).arg("--password-file").arg(alice.password_file());
    pasted.env("VIZINHO_TRACKER", "127.0.0.1:1").run().exits(0);
    lab.tracker_invocation(lab.address()).arg("status").run().exits(0).prints(&line);
    drop(tracker);

    let key = &line[line.len() - 64..];
    let second_row = format!("{} {}", &key[32..48], &key[48..]);
    for (columns, fits) in [(80, true), (40, false)] {
        let mut terminal = lab.tracker_invocation("127.0.0.1:0").in_terminal(columns, 50);
        terminal.wait_for(&second_row);
        terminal.press("\u{3}");
        let (outcome, screen) = terminal.finish();
        outcome.exits(0);
        assert_eq!(screen.text().contains('\u{2588}'), fits, "{}", screen.text());
    }
}
