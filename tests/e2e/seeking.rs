//! Others who have the same are looked for as long as there is something to fetch, and so are those that were named.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tests::files::{assert_same, names_in, write};
use tests::progress::wait_for_bytes;
use tests::{Lab, Outcome, Process, User};

const SIZE: usize = 12_000_000;

/// Online, and slow enough that something can happen meanwhile.
fn serve_slowly(user: &User<'_>, limit: &str) -> Process {
    let node = user.peer(["serve", "--limit", limit]).start();
    node.wait_for("online as");
    node
}

/// What somebody sent of all files together.
fn bytes_from(outcome: &Outcome, user: &str) -> u64 {
    let files = outcome.json();
    let sources = files.iter().filter_map(|line| line["sources"].as_array()).flatten();
    sources.filter(|source| source["user"] == user).map(|source| source["bytes"].as_u64().unwrap()).sum()
}

fn fetching(alice: &User<'_>, args: &[&str], here: &Path) -> Process {
    alice.peer(["--json", "fetch", "bob", "film.mkv"]).args(args).arg("-o").arg(here).start()
}

#[test]
fn whoever_comes_later_is_asked_as_well() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let film = lab.file("film.mkv", 2 * SIZE);
    bob.share([&film]);
    carol.share([&film]);
    let _bobs = serve_slowly(&bob, "1M");
    let here = lab.empty_folder("here");
    let fetching = fetching(&alice, &[], &here);
    wait_for_bytes(&fetching, 1);
    let _carols = carol.serve();
    fetching.wait_for("carol has the same and is asked as well");
    let outcome = fetching.finish();
    outcome.exits(0);
    assert!(bytes_from(&outcome, "carol") > bytes_from(&outcome, "bob") / 4, "{outcome}");
    assert_same(here.join("film.mkv"), &film);
}

#[test]
fn when_a_source_is_lost_others_are_looked_for_at_once() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    carol.share([&film]);
    let bobs = serve_slowly(&bob, "1M");
    let here = lab.empty_folder("here");
    let fetching = fetching(&alice, &["--patience", "0"], &here);
    wait_for_bytes(&fetching, 1);
    let _carols = carol.serve();
    bobs.terminate();
    fetching.finish().exits(0);
    assert_same(here.join("film.mkv"), &film);
}

#[test]
fn small_files_of_a_folder_come_from_others_too() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    for number in 0..17 {
        lab.file(format!("tree/large {number:02}"), 300_000);
    }
    for number in 0..20 {
        lab.file(format!("tree/small {number:02}"), 100_000 + number);
    }
    bob.share([lab.join("tree")]);
    carol.share((0..20).map(|number| lab.join(format!("tree/small {number:02}"))));
    let _nodes = [serve_slowly(&bob, "1M"), carol.serve()];
    let here = lab.empty_folder("here");
    let outcome = alice.peer(["--json", "fetch", "bob", "tree/", "-o"]).arg(&here).run();
    outcome.exits(0);
    assert!(bytes_from(&outcome, "carol") > 500_000, "{outcome}");
}

#[test]
fn whoever_is_named_is_asked_whatever_the_tracker_knows() {
    let lab = Lab::start();
    let (alice, bob, carol, dave) = (lab.user("alice"), lab.user("bob"), lab.user("carol"), lab.user("dave"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    let _nodes = [serve_slowly(&bob, "3M"), carol.serve(), dave.serve()];
    // Only alice may get it, so the tracker isn't told.
    carol.peer(["offer", "alice"]).arg(&film).run();
    let here = lab.empty_folder("here");
    let from = "carol,dave,erin,frank";
    let _frank = lab.user("frank");
    let outcome = alice.peer(["--json", "fetch", "bob", "film.mkv", "--only", "--from", from, "-o"]).arg(&here).run();
    outcome.exits(0).says("dave is not asked").says("erin is not asked").says("frank is not asked");
    assert!(bytes_from(&outcome, "carol") > 0, "{outcome}");
    assert_same(here.join("film.mkv"), &film);
}

#[test]
fn whoever_is_named_and_is_not_there_is_said_however_little_is_fetched() {
    let lab = Lab::start();
    let (alice, bob, _carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    bob.share([write(lab.join("a.txt"), "a")]);
    let _node = bob.serve();
    for options in [&["--from", "nobody,carol"][..], &["--only", "--from", "nobody,carol"]] {
        let here = lab.join(format!("here{}", options.len()));
        let outcome = alice.peer(["fetch", "bob", "a.txt", "-o"]).arg(&here).args(options).run();
        outcome.exits(0).says("nobody is not asked").says("carol is not asked");
    }
}

#[test]
fn whoever_is_named_and_has_another_key_stops_everything() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    bob.share([lab.file("film.mkv", SIZE)]);
    let _bobs = serve_slowly(&bob, "1M");
    {
        let _carols = carol.serve();
        alice.peer(["files", "carol"]).run().exits(0);
    }
    let other = lab.stranger("new-machine");
    other.peer(["login", "carol", "--rebind", "--password-file"]).arg(carol.password_file()).run().exits(0);
    let others = other.peer(["serve"]).start();
    others.wait_for("online as carol");
    let here = lab.empty_folder("here");
    let fetching = fetching(&alice, &["--from", "carol"], &here);
    fetching.finish().exits(11).says("the identity of carol changed");
    assert!(!names_in(&here).contains(&"film.mkv".to_owned()));
}

#[test]
fn a_stream_whose_source_is_gone_goes_on_from_another() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    carol.share([&film]);
    let bobs = serve_slowly(&bob, "2M");
    let _carols = serve_slowly(&carol, "4M");
    let here = lab.empty_folder("here");
    let copy = write(here.join("copy"), b"");
    let script = format!(r#"exec "$@" > '{}'"#, copy.display());
    let streaming = alice.peer(["fetch", "bob", "film.mkv", "-o", "-"]).through_shell(&script).start();
    // Some of it is there.
    while fs::metadata(&copy).unwrap().len() < 1 << 20 {
        assert!(streaming.is_running());
        std::thread::yield_now();
    }
    bobs.kill();
    streaming.finish().exits(0).says("carol has the same and is asked as well");
    assert_same(&copy, &film);
}

#[test]
fn a_stream_comes_in_order_from_everybody_who_has_it() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    carol.share([&film]);
    let _bobs = serve_slowly(&bob, "2M");
    let carols = serve_slowly(&carol, "2M");
    let copy = lab.empty_folder("here").join("copy");
    let script = format!(r#"exec "$@" > '{}'"#, copy.display());
    let outcome = alice.peer(["fetch", "bob", "film.mkv", "-o", "-"]).through_shell(&script).run();
    outcome.exits(0).says("carol has the same and is asked as well");
    assert_same(&copy, &film);
    // Half of it, more or less: "alice fetched part of film.mkv (5.70 of 12.0 MB)".
    let told = carols.wait_for("of 12.0 MB)");
    let megabytes: f64 = told.split_once('(').unwrap().1.split_once(' ').unwrap().0.parse().unwrap();
    assert!((3.0..9.0).contains(&megabytes), "{told}");
}

#[test]
fn standard_output_gets_all_that_was_named_or_nothing() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share(["one", "two"].map(|name| write(lab.join(name), name)));
    let _node = bob.serve();
    let outcome = alice.peer(["fetch", "bob", "one", "missing", "two", "-o", "-"]).run();
    outcome.exits(12).prints_exactly("").says("missing");
    alice.peer(["fetch", "bob", "one", "two", "-o", "-"]).run().exits(0).prints_exactly("onetwo");
}

#[test]
fn what_was_begun_goes_on_from_others_while_its_owner_is_gone() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let film = lab.file("film.mkv", SIZE);
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    File::options().write(true).open(&film).unwrap().set_modified(time).unwrap();
    fs::set_permissions(&film, fs::Permissions::from_mode(0o755)).unwrap();
    bob.share([&film]);
    carol.share([&film]);
    let bobs = serve_slowly(&bob, "4M");
    let here = lab.empty_folder("here");
    let begun = fetching(&alice, &[], &here);
    wait_for_bytes(&begun, 1 << 20);
    begun.kill();
    begun.finish();
    bobs.terminate();
    bobs.finish();
    let again = || alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&here).run();
    again().exits(4).says("bob is offline");
    assert_eq!(names_in(&here).len(), 2, "what is there is kept");
    let _carols = carol.serve();
    let outcome = again();
    outcome.exits(0).says("bob is not asked").says("resuming at");
    assert!(bytes_from(&outcome, "carol") > 0, "{outcome}");
    assert_same(here.join("film.mkv"), &film);
    assert_eq!(names_in(&here), ["film.mkv"]);
    let metadata = fs::metadata(here.join("film.mkv")).unwrap();
    assert_eq!((metadata.modified().unwrap(), metadata.mode() & 0o111), (time, 0o111), "as they are at bob's");
}
