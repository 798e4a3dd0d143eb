//! Files whose names are one on the file system that they go to: each of them arrives, whatever else does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tests::files::{assert_content, names_in, noise, write};
use tests::hostile::{HostilePeer, Offer, Trick};
use tests::progress::wait_for_bytes;
use tests::{Lab, OddMount, Process, User};

const WAYS: [&str; 5] = ["skip-same", "overwrite", "skip", "rename", "fail"];

/// File systems that fold case; those that can't be had here are left out.
fn folding<'a>(lab: &'a Lab) -> impl Iterator<Item = (PathBuf, OddMount)> + 'a {
    let odd = |oddities: &'static [&str]| {
        move |here: &Path| OddMount::odd(here, &lab.empty_folder(format!("behind {}", oddities.len())), oddities)
    };
    let mount = |name: &str, mount: &dyn Fn(&Path) -> Option<OddMount>| {
        let here = lab.empty_folder(name);
        mount(&here).map(|mount| (here, mount))
    };
    [
        mount("exfat", &|here| OddMount::exfat(here)),
        mount("fold", &odd(&["fold"])),
        mount("renumbered", &odd(&["fold", "no-links", "new-inodes"])),
    ]
    .into_iter()
    .flatten()
}

fn bob_shares<'a>(lab: &'a Lab, folder: &str, files: &[(&str, &str)]) -> (User<'a>, Process) {
    let bob = lab.user("bob");
    for (name, content) in files {
        write(lab.join(folder).join(name), content);
    }
    bob.share([lab.join(folder)]);
    let node = bob.serve();
    (bob, node)
}

/// The contents below a folder, with how often each is there.
fn contents(folder: &Path) -> BTreeMap<Vec<u8>, usize> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                *found.entry(fs::read(path).unwrap()).or_default() += 1;
            }
        }
    }
    found
}

#[track_caller]
fn holds_each(folder: &Path, files: &[(&str, &str)]) {
    let mut wanted = BTreeMap::new();
    files.iter().for_each(|(_, content)| *wanted.entry(content.as_bytes().to_vec()).or_default() += 1);
    assert_eq!(contents(folder), wanted, "in {}", folder.display());
}

/// Fetches `asked` in each way into a folder of its own; all of it arrives, and is known again.
fn all_arrive(alice: &User<'_>, here: &Path, asked: &str, files: &[(&str, &str)]) {
    for how in WAYS {
        let here = here.join(how);
        fs::create_dir(&here).unwrap();
        let fetch = |how: &str| {
            let fetch = alice.peer(["--json", "fetch", "bob", asked, "-o"]).arg(&here);
            if how == "skip-same" { fetch.run() } else { fetch.args(["--if-exists", how]).run() }
        };
        fetch(how).exits(0);
        holds_each(&here, files);
        for again in ["skip", "skip-same"] {
            let again = fetch(again);
            assert_eq!(again.exits(0).file_statuses(), vec!["skipped"; files.len()], "after {how}: {again}");
        }
        fetch("overwrite").exits(0);
        holds_each(&here, files);
    }
}

/// FILE.bin, and a larger File.bin: while that comes, progress is told several times.
fn offer(name: &str) -> Offer {
    let size = if name == "FILE.bin" { 3_000_000 } else { 20_000_000 };
    Offer::new(name, noise(u64::from(name.as_bytes()[1]), size))
}

#[test]
fn folders_that_differ_by_case_keep_each_others_files() {
    let files = [
        ("Sub/same.txt", "1"),
        ("sub/same.txt", "22"),
        ("Docs/a", "three"),
        ("docs/a", "four "),
        ("DOCS/deep/b", "5"),
        ("docs/Deep/B", "6"),
    ];
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), bob_shares(&lab, "D2", &files));
    for (here, _mount) in folding(&lab) {
        all_arrive(&alice, &here, "D2/", &files);
    }
}

#[test]
fn a_file_and_a_folder_that_differ_by_case_both_arrive() {
    let files = [("photos", "a file"), ("Photos/p1", "one"), ("PAPERS", "another"), ("papers/p2", "two")];
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), bob_shares(&lab, "mix", &files));
    for (here, _mount) in folding(&lab) {
        all_arrive(&alice, &here, "mix/", &files);
    }
}

#[test]
fn a_file_in_the_way_of_a_folder_is_named_and_the_rest_arrives() {
    let files = [("photos/p1", "one"), ("PHOTOS", "a file"), ("other/o", "two")];
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), bob_shares(&lab, "mix", &files));
    for (here, _mount) in folding(&lab) {
        alice.fetch("bob", ["mix/PHOTOS"], &here.join("mix/")).run().exits(0);
        let in_the_way = here.join("mix/PHOTOS").display().to_string();
        let all = alice.fetch("bob", ["mix/"], &here).run();
        all.exits(12).says(&format!("{in_the_way} is in the way of a folder of that name"));
        holds_each(&here, &files[1..]);
        // Alone, it is a destination that exists.
        alice.fetch("bob", ["mix/photos/"], &here.join("mix")).run().exits(10).says("is in the way");
    }
}

#[test]
fn to_skip_means_that_very_name() {
    let files = [("README", "1"), ("Readme", "22"), ("readme", "333"), ("a_b", "4444"), ("a:b", "55555")];
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), bob_shares(&lab, "odd", &files));
    for (here, _mount) in folding(&lab) {
        for first in ["odd/README", "odd/readme", "odd/a_b", "odd/a:b"] {
            let here = here.join(first.replace(['/', ':'], "-") + if first == "odd/README" { "1" } else { "2" });
            let into = here.join("odd/");
            alice.fetch("bob", [first], &into).run().exits(0);
            alice.peer(["fetch", "bob", "odd/", "--if-exists", "skip", "-o"]).arg(&here).run().exits(0);
            holds_each(&here, &files);
        }
        // What the user has under that name is left as it is.
        let mine = here.join("mine");
        write(mine.join("odd/README"), "mine");
        alice.peer(["fetch", "bob", "odd/", "--if-exists", "skip", "-o"]).arg(&mine).run().exits(0);
        let mut left = files;
        left[0].1 = "mine";
        holds_each(&mine, &left);
    }
}

#[test]
fn what_an_interrupted_fetch_put_in_place_stays() {
    for how in ["overwrite", "skip", "fail"] {
        let lab = Lab::start();
        let alice = lab.user("alice");
        let names = ["FILE.bin", "File.bin"];
        let offers = names.map(offer);
        let contents_wanted: Vec<Vec<u8>> = offers.iter().map(|offer| offer.content().to_vec()).collect();
        let source = HostilePeer::join(&lab, "mallory", offers.into(), Trick::Gate);
        let Some((here, _mount)) = folding(&lab).next() else { return };
        let interrupted = alice
            .peer(["--json", "fetch", "mallory", "-j", "1", "--if-exists", how, "-o"])
            .arg(&here)
            .args(names)
            .start();
        source.wait_until_stalled(1);
        interrupted.wait_for(r#""status":"done""#);
        wait_for_bytes(&interrupted, 3_000_001);
        interrupted.interrupt();
        interrupted.finish().exits(130);
        let left = names_in(&here);
        assert!(left.iter().any(|name| name.ends_with(".part")), "{left:?}");
        source.open_gate();
        let retried = alice.peer(["--json", "fetch", "--retry"]).run();
        assert!(retried.exits(0).object("summary")["bytes_resumed"].as_u64().unwrap() > 0, "{how}: {retried}");
        let found = contents(&here);
        assert_eq!(found.len(), 2, "{how}: {:?}", names_in(&here));
        assert!(contents_wanted.iter().all(|content| found.contains_key(content)), "{how}: {:?}", names_in(&here));
    }
}

#[test]
fn parts_of_names_that_differ_by_case_are_gone_on_with() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let names = ["FILE.bin", "File.bin"];
    let offers = names.map(offer);
    let content = offers[1].content().to_vec();
    let source = HostilePeer::join(&lab, "mallory", offers.into(), Trick::Gate);
    let here = lab.empty_folder("here");
    let fetching = alice.peer(["--json", "fetch", "mallory", "-j", "1", "-o"]).arg(&here).args(names).start();
    source.wait_until_stalled(1);
    fetching.wait_for(r#""status":"done""#);
    wait_for_bytes(&fetching, 3_000_001);
    fetching.interrupt();
    fetching.finish().exits(130);
    source.open_gate();
    // In a run that knows of no other name.
    let alone = alice.peer(["--json", "fetch", "mallory", "File.bin", "-o"]).arg(&here).run();
    assert!(alone.exits(0).object("summary")["bytes_resumed"].as_u64().unwrap() > 0, "{alone}");
    assert_eq!(names_in(&here), names);
    assert_content(here.join("File.bin"), &content);
}
