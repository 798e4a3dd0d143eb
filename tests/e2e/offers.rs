//! Files for one person, and people who get nothing.

use serde_json::json;
use tests::files::assert_same;
use tests::{Lab, User};

#[test]
fn an_offer_is_for_one_person_until_it_is_withdrawn() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let (hers, his) = (alice.serve(), bob.serve());
    let file = lab.file("my plan.pdf", 3_000_000);
    alice
        .peer(["offer", "bob"])
        .arg(&file)
        .run()
        .exits(0)
        .says("offered my plan.pdf (3.00 MB) to bob; keep `peer serve` running");
    his.wait_for("alice: offers my plan.pdf (3.00 MB): peer fetch alice 'my plan.pdf'");
    alice.peer(["offer"]).run().exits(0).prints("bob").prints("my plan.pdf");
    let line = bob.peer(["--json", "history", "alice"]).run().object("message");
    assert_eq!((&line["offer"]["name"], &line["offer"]["size"]), (&json!("my plan.pdf"), &json!(3_000_000)));

    let here = lab.empty_folder("here");
    carol.peer(["files", "alice"]).run().exits(0).prints_exactly("");
    let secret = carol.fetch("alice", ["my plan.pdf"], &here).run();
    let unknown = carol.fetch("alice", ["no such.pdf"], &here).run();
    let same = |text: &str| text.replace("no such.pdf", "my plan.pdf");
    assert_eq!((secret.code, secret.err()), (5, same(&unknown.err())), "an offer is as unknown as what is not there");
    bob.peer(["files", "alice"]).run().exits(0).prints("my plan.pdf");
    bob.fetch("alice", ["my plan.pdf"], &here).run().exits(0);
    assert_same(here.join("my plan.pdf"), &file);
    // Nobody finds it at the tracker either.
    let listed = carol.peer(["--json", "list"]).run();
    assert!(listed.json().iter().all(|peer| peer["files"] == json!(0)), "{listed}");

    alice.peer(["offer", "bob", "--withdraw", "my plan.pdf"]).run().exits(0);
    bob.fetch("alice", ["my plan.pdf"], &lab.empty_folder("there")).run().exits(5);
    alice
        .peer(["offer", "bob", "--withdraw", "my plan.pdf"])
        .run()
        .exits(2)
        .says("you didn't offer my plan.pdf to bob");
    alice.peer(["offer", "bob", "no-such-file"]).run().exits(2).says("no such file");
    drop(hers);
}

#[test]
fn an_offer_that_was_not_told_yet_is_withdrawn_whole() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("plan.pdf", 3000);
    alice.peer(["offer", "bob"]).arg(&file).run().exits(0).says("bob is offline");
    alice.peer(["chat", "bob", "something else"]).run().exits(0);
    alice.peer(["offer", "bob", "--withdraw", "plan.pdf"]).run().exits(0);
    let (_hers, his) = (alice.serve(), bob.serve());
    his.wait_for("alice: something else");
    assert!(!his.said().contains("plan.pdf"), "{}", his.said());
}

#[test]
fn an_offer_waits_for_somebody_absent_and_follows_its_file() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("a.bin", 1000);
    alice.peer(["offer", "bob"]).arg(&file).run().exits(0).says("message queued");
    let (_hers, his) = (alice.serve(), bob.serve());
    his.wait_for("alice: offers a.bin");
    tests::files::write(&file, vec![7; 5000]);
    let here = lab.empty_folder("here");
    // It is hashed again when it is asked for.
    let fetched = || (bob.fetch("alice", ["a.bin"], &here).run().code == 0).then_some(());
    tests::poll_until(fetched, || "the changed file never comes".to_owned());
    assert_same(here.join("a.bin"), &file);
}

#[test]
fn somebody_who_is_blocked_is_refused() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("a.txt", 10)]);
    let his = bob.serve();
    let hers = alice.serve();
    alice.peer(["chat", "bob", "still friends"]).run().exits(0);
    bob.peer(["block", "alice"]).run().exits(0);
    bob.peer(["block"]).run().exits(0).prints_exactly("alice\n");
    let here = lab.empty_folder("here");
    alice.peer(["chat", "bob", "why?"]).run().exits(6).says("refused");
    alice.fetch("bob", ["a.txt"], &here).run().exits(6).says("refused");
    alice.peer(["offer", "bob"]).arg(lab.file("b.txt", 10)).run().exits(6).says("refused");
    hers.interrupt();
    hers.finish().exits(130);
    // Nor by herself, without a node.
    alice.peer(["chat", "bob", "why?"]).run().exits(6).says("refused");
    assert!(!his.said().contains("why?"));
    // Nor over a link that he dialled himself.
    let hers = alice.serve();
    bob.peer(["chat", "alice", "because"]).run().exits(0);
    alice.peer(["chat", "bob", "why?"]).run().exits(6).says("refused");
    assert!(!his.said().contains("why?"));
    bob.peer(["unblock", "alice"]).run().exits(0);
    bob.peer(["unblock", "alice"]).run().exits(2);
    alice.peer(["chat", "bob", "friends again"]).run().exits(0);
    his.wait_for("alice: friends again");
    alice.fetch("bob", ["a.txt"], &here).run().exits(0);
    drop(hers);
}

#[test]
fn what_is_offered_to_nobody_is_neither_offered_nor_told() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let file = lab.file("a.txt", 10);
    let looks_untouched = || {
        alice.peer(["offer"]).run().exits(0).prints_exactly("");
        alice.peer(["history"]).run().exits(0).prints_exactly("");
        alice.peer(["outbox"]).run().exits(0).prints_exactly("");
    };
    for through_node in [false, true] {
        let _node = through_node.then(|| alice.serve());
        alice.peer(["offer", "nobody"]).arg(&file).run().exits(4).says("there is no user \"nobody\"");
        alice.peer(["chat", "nobody", "hello?"]).run().exits(4).says("there is no user \"nobody\"");
        for lines in ["one\n", "one\ntwo\n"] {
            alice.peer(["chat", "nobody"]).stdin(lines).run().exits(4).says("there is no user \"nobody\"");
            let told = alice.peer(["--json", "chat", "nobody"]).stdin(lines).run();
            assert_eq!(told.exits(4).object("error")["code"], json!("unavailable"), "{told}");
        }
        looks_untouched();
    }
}

#[test]
fn what_could_not_go_to_somebody_never_met_leaves_nothing() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let file = lab.file("f", 10);
    lab.kill_tracker();
    alice.peer(["chat", "bob", "hi"]).run().exits(7);
    alice.peer(["offer", "bob"]).arg(&file).run().exits(7);
    alice.peer(["history", "bob"]).run().exits(0).prints_exactly("");
    alice.peer(["outbox"]).run().exits(0).prints_exactly("");
    alice.peer(["offer"]).run().exits(0).prints_exactly("");
}

#[test]
fn an_offer_to_somebody_who_is_blocked_says_so() {
    let lab = Lab::start();
    let (alice, _carol) = (lab.user("alice"), lab.user("carol"));
    let file = lab.file("f", 10);
    alice.peer(["block", "carol"]).run().exits(0);
    alice.peer(["offer", "carol"]).arg(&file).run().says("you block carol").says("`peer unblock carol`");
    alice.peer(["unblock", "carol"]).run().exits(0);
    let offered = alice.peer(["offer", "carol"]).arg(&file).run();
    assert!(!offered.err().contains("you block"), "{offered}");
}

#[test]
fn an_offer_whose_message_is_taken_out_is_none() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), lab.user("bob"));
    for through_node in [false, true] {
        let _node = through_node.then(|| alice.serve());
        alice.peer(["offer", "bob"]).arg(lab.file("f", 10)).run().exits(0).says("queued");
        let waiting = alice.peer(["--json", "outbox"]).run().object("outbox");
        let taken = alice.peer(["outbox", "drop", waiting["id"].as_str().unwrap()]).run();
        taken.exits(0).says("dropped the message to bob: it is not sent, and its offer is withdrawn");
        alice.peer(["offer"]).run().exits(0).prints_exactly("");
    }
}

#[test]
fn no_tracker_is_asked_who_else_has_what_is_offered() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    // Long enough for others to be found, if they were looked for.
    let plan = lab.file("plan.pdf", 12_000_000);
    carol.peer(["share", "--as", "twin.pdf"]).arg(&plan).run().exits(0);
    let slow = |user: &User<'_>| {
        let node = user.peer(["serve", "--limit", "4M"]).start();
        node.wait_for("online as");
        node
    };
    let _nodes = [slow(&bob), slow(&carol)];
    bob.peer(["offer", "alice"]).arg(&plan).run().exits(0);
    let here = lab.empty_folder("here");
    let fetched = alice.peer(["--json", "fetch", "bob", "plan.pdf", "-o"]).arg(&here).run();
    let sources = fetched.exits(0).object("file")["sources"].take();
    assert_eq!(sources.as_array().unwrap().len(), 1, "{sources}");
    assert_same(here.join("plan.pdf"), &plan);
}
