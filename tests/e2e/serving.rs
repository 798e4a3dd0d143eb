//! What a peer that serves finds of what it shares, and what it says of those who fetch it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use tests::files::{assert_same, names_in, write};
use tests::progress::wait_for_bytes;
use tests::{Lab, Tmpfs};

/// More than are looked at together.
const COPIES: usize = 150;

#[test]
fn copies_that_are_gone_hide_none_that_is_there() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for number in 0..COPIES {
        write(lab.join(format!("lic/p{number}/LICENSE")), "MIT licence text");
    }
    bob.share([lab.join("lic")]);
    fs::rename(lab.join("lic"), lab.join("licences")).unwrap();
    bob.share([lab.join("licences")]);
    let his = bob.serve();
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["licences/"], &here).run().exits(0);
    assert_eq!(names_in(here.join("licences")).len(), COPIES);
    assert_same(here.join("licences/p1/LICENSE"), lab.join("licences/p1/LICENSE"));
    assert_eq!(his.said().matches("alice fetched licences/p7/LICENSE").count(), 1, "{}", his.said());

    let is_kept = |number: usize| number == COPIES - 1;
    for number in (0..COPIES).filter(|number| !is_kept(*number)) {
        fs::remove_file(lab.join(format!("licences/p{number}/LICENSE"))).unwrap();
    }
    let there = lab.empty_folder("there");
    let last = format!("licences/p{}/LICENSE", COPIES - 1);
    alice.fetch("bob", [last.as_str()], &there).run().exits(0);
    alice.fetch("bob", ["licences/p7/LICENSE"], &there).run().exits(5).says("bob doesn't share licences/p7/LICENSE");
}

#[test]
fn a_file_is_told_by_the_name_it_was_asked_for() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let names = ["zz-public.txt", "bb-public.txt", "aa-offered.txt", "zz-empty", "aa-empty"];
    for name in names {
        write(lab.join(name), if name.ends_with("empty") { "" } else { "same\n" });
    }
    bob.share([lab.join("zz-public.txt"), lab.join("bb-public.txt"), lab.join("zz-empty"), lab.join("aa-empty")]);
    let his = bob.serve();
    let mut events = bob.peer(["events"]).open_stdin().start();
    events.write("{\"type\":\"read\",\"from\":\"nobody\",\"ref\":1}\n");
    events.wait_for("\"type\":\"done\"");
    bob.peer(["offer", "alice"]).arg(lab.join("aa-offered.txt")).run().exits(0);
    for name in names {
        alice.fetch("bob", [name], &lab.empty_folder(format!("of {name}"))).run().exits(0);
        his.wait_for(&format!("alice fetched {name} ("));
        events.wait_until("the upload is told", |said| {
            let of_it = |line: &&str| line.contains("\"up\"") && line.contains(&format!("\"{name}\""));
            said.lines().find(of_it).map(|_| ())
        });
    }
    assert_eq!(his.said().matches("alice fetched").count(), names.len(), "{}", his.said());
}

#[test]
fn a_fetch_that_was_broken_off_and_resumed_is_told_as_whole() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let big = lab.file("big", 12_000_000);
    bob.share([&big]);
    let his = bob.peer(["serve", "--limit", "4M"]).start();
    his.wait_for("online as");
    let here = lab.empty_folder("here");
    let fetching = alice.peer(["--json", "fetch", "bob", "big", "-o"]).arg(&here).start();
    wait_for_bytes(&fetching, 1);
    fetching.interrupt();
    fetching.finish().exits(130);
    his.wait_for("alice fetched part of big (");
    alice.fetch("bob", ["big"], &here).run().exits(0);
    his.wait_for("alice fetched big (12.0 MB)");
    assert_eq!(his.said().matches("fetched part of").count(), 1, "{}", his.said());
}

#[test]
fn a_file_that_is_no_longer_shared_did_not_change() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (big, other) = (lab.file("big", 12_000_000), lab.file("other", 12_000_000));
    bob.share([&big, &other]);
    let his = bob.peer(["serve", "--limit", "4M"]).start();
    his.wait_for("online as");
    for (name, is_deleted) in [("big", true), ("other", false)] {
        let here = lab.empty_folder(format!("here {name}"));
        let fetching = alice.peer(["--json", "fetch", "bob", name, "-o"]).arg(&here).start();
        wait_for_bytes(&fetching, 1);
        if is_deleted {
            fs::remove_file(&big).unwrap();
        } else {
            bob.peer(["unshare", name]).run().exits(0);
        }
        let ended = fetching.finish();
        let said = ended.exits(5).object("file")["message"].as_str().unwrap_or_default().to_owned();
        assert!(said.starts_with(&format!("bob doesn't share {name} any more; ")), "{ended}");
        assert!(said.contains(" MB are kept in ") && said.contains(".part: delete it"), "{ended}");
        assert!(!ended.err().contains("changed"), "{ended}");
    }
}

#[test]
fn an_offer_whose_file_is_gone_is_listed_as_such() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let (_alice, plan) = (lab.user("alice"), lab.file("my plan.pdf", 3000));
    bob.peer(["offer", "alice"]).arg(&plan).run().exits(0);
    fs::remove_file(&plan).unwrap();
    let listed = bob.peer(["offer"]).run();
    listed.exits(0).prints("my plan.pdf  (not there)").says("`peer offer alice --withdraw 'my plan.pdf'` withdraws");
    assert_eq!(bob.peer(["--json", "offer"]).run().object("offer")["there"], false);
}

#[test]
fn a_full_disk_is_named_as_whose_it_is() {
    let lab = Lab::start();
    let (alice, eve) = (lab.user("alice"), lab.stranger("eve"));
    fs::create_dir_all(eve.home()).unwrap();
    let Some(_disk) = Tmpfs::mount(eve.home(), "size=3m,mode=700") else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    let eve = eve.registered();
    let hers = eve.serve();
    fill(&eve.home().join("filling"));
    let said = alice.peer(["chat", "eve", "hi"]).run();
    said.says("eve's disk is full");
    assert!(!said.err().contains("this side"), "{said}");
    hers.wait_for("was turned away: the account's database");
}

#[test]
fn a_file_of_its_owner_alone_arrives_as_one() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    // Small, of several groups, and a copy of one that everybody may read.
    let files =
        [("key", 300, 0o600), ("read only", 300_001, 0o400), ("tool", 3_000_000, 0o700), ("open", 3_000_000, 0o644)];
    for (name, size, mode) in files {
        let path = lab.join("papers").join(name);
        write(&path, tests::files::noise(size as u64, size));
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    bob.share([lab.join("papers")]);
    let _his = bob.serve();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let here = lab.empty_folder("here");
    let open = mode(&write(lab.join("fresh"), "as the umask has it"));
    alice.fetch("bob", ["papers/"], &here).run().exits(0);
    let arrived = files.map(|(name, ..)| mode(&here.join("papers").join(name)));
    assert_eq!(arrived, [0o600, 0o600, 0o700, open]);
    // As it is now, without being hashed again.
    fs::set_permissions(lab.join("papers/open"), Permissions::from_mode(0o600)).unwrap();
    alice.fetch("bob", ["papers/open"], &lab.empty_folder("there")).run().exits(0);
    assert_eq!(mode(&lab.join("there/open")), 0o600);
}

/// Leaves nothing free on a disk.
fn fill(file: &std::path::Path) {
    use std::io::Write;
    let mut file = fs::File::create(file).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    while file.write_all(&[1]).is_ok() {}
}
