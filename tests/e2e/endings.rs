//! However a fetch ends: every file is told of, the summary comes last, and `--retry` fetches what is missing.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::files::{assert_content, assert_same, names_in, noise, write};
use tests::hostile::{HostilePeer, Offer, Trick};
use tests::progress::wait_for_bytes;
use tests::{Lab, Outcome, Tmpfs, User};

/// The statuses and codes of the files, and the code of the summary, which comes last.
#[track_caller]
fn told(outcome: &Outcome) -> (Vec<(String, Value)>, Value) {
    let objects = outcome.json();
    let last = objects.last().unwrap_or_else(|| panic!("nothing was said: {outcome}"));
    assert_eq!(last["type"], "summary", "it comes last: {outcome}");
    let files: Vec<&Value> = objects.iter().filter(|object| object["type"] == "file").collect();
    let total: u64 = ["done", "renamed", "skipped", "failed"].iter().map(|key| last[key].as_u64().unwrap()).sum();
    assert_eq!(total, files.len() as u64, "one object a file: {outcome}");
    let status = |file: &&Value| (file["status"].as_str().unwrap().to_owned(), file["code"].clone());
    (files.iter().map(status).collect(), last["code"].clone())
}

fn failed(code: &str, count: usize) -> Vec<(String, Value)> {
    vec![("failed".to_owned(), json!(code)); count]
}

fn json_fetch(alice: &User<'_>, names: &[&str], output: &Path) -> tests::Invocation {
    alice.peer(["--json", "fetch", "bob", "-o"]).arg(output).args(names)
}

#[test]
fn a_fetch_that_never_began_tells_of_every_name() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("a.bin", 10)]);
    let here = lab.join("created/deep/");
    let offline = json_fetch(&alice, &["a.bin", "b.bin"], &here).run();
    assert_eq!(told(offline.exits(4)), (failed("unavailable", 2), json!("unavailable")));
    let _node = bob.serve();
    let nothing = json_fetch(&alice, &["nothing"], &here).run();
    assert_eq!(told(nothing.exits(5)), (failed("not_shared", 1), json!("not_shared")));
    assert!(!lab.join("created").exists(), "nothing was made before anything was found");
    let one = json_fetch(&alice, &["a.bin", "nothing"], &here).run();
    let (files, code) = told(one.exits(12));
    assert_eq!((files.len(), code), (2, json!("partial")));
    let whole = json_fetch(&alice, &["a.bin"], &here).args(["--share"]).run();
    assert_eq!(told(whole.exits(0)), (vec![("skipped".to_owned(), Value::Null)], Value::Null));
    assert_eq!(whole.object("share")["name"], "a.bin");
}

#[test]
fn without_space_nothing_is_made_and_every_file_is_told_of() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    write(lab.join("tree/film.mkv"), noise(1, 9_000_000));
    write(lab.join("tree/a.txt"), "a");
    lab.empty_folder("tree/empty");
    bob.share([lab.join("tree")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let Some(_mounted) = Tmpfs::mount(&here, "size=8m") else { return };
    let refused = json_fetch(&alice, &["tree/"], &here).run();
    assert_eq!(told(refused.exits(9)), (failed("disk", 2), json!("disk")));
    assert!(names_in(&here).is_empty(), "not even a folder: {refused}");
}

#[test]
fn an_interrupted_fetch_tells_of_every_file_and_goes_on_with_retry() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let film = noise(7, 40_000_000);
    let offers = vec![Offer::new("tree/a.txt", *b"a"), Offer::new("tree/film.mkv", film.clone())];
    let source = HostilePeer::join(&lab, "mallory", offers, Trick::Gate);
    let here = lab.empty_folder("here");
    let fetch =
        || alice.peer(["--json", "fetch", "mallory", "tree/a.txt", "tree/film.mkv", "-j", "1", "-o"]).arg(&here);
    let fetching = fetch().start();
    source.wait_until_stalled(1);
    wait_for_bytes(&fetching, 2 << 20);
    fetching.interrupt();
    let interrupted = fetching.finish();
    let (files, code) = told(interrupted.exits(130));
    assert_eq!(code, "interrupted");
    assert_eq!(files, [("done".to_owned(), Value::Null), ("failed".to_owned(), json!("interrupted"))]);
    assert!(interrupted.object("summary")["bytes_fetched"].as_u64().unwrap() > 1 << 20, "{interrupted}");
    // The same without a word.
    let stalled = source.stalled();
    let killed = alice.peer(["--json", "fetch", "--retry"]).start();
    source.wait_until_stalled(stalled + 1);
    wait_for_bytes(&killed, 1);
    killed.kill();
    killed.finish().exits(137);
    source.open_gate();
    let again = alice.peer(["--json", "fetch", "--retry"]).folder(lab.path()).run();
    assert_eq!(told(again.exits(0)), (vec![("done".to_owned(), Value::Null)], Value::Null));
    assert!(again.object("summary")["bytes_resumed"].as_u64().unwrap() > 1 << 20, "{again}");
    assert_content(here.join("film.mkv"), &film);
    assert_eq!(names_in(&here), ["a.txt", "film.mkv"]);
    alice.peer(["fetch", "--retry"]).run().exits(2).says("nothing to retry");
}

#[test]
fn retry_fetches_the_last_fetch_and_no_older_one() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("old.txt", 10), lab.file("new.txt", 10)]);
    let node = bob.serve();
    let (old, new) = (lab.empty_folder("old"), lab.empty_folder("new"));
    alice.fetch("bob", ["old.txt", "missing"], &old).run().exits(12);
    node.interrupt();
    node.finish();
    alice.fetch("bob", ["new.txt"], &new).run().exits(4);
    let _node = bob.serve();
    alice.peer(["fetch", "--retry"]).run().exits(0);
    assert_eq!((names_in(&old), names_in(&new)), (vec!["old.txt".to_owned()], vec!["new.txt".to_owned()]));
    alice.peer(["fetch", "--retry"]).run().exits(2);
}

#[test]
fn retry_keeps_the_policy_and_the_places() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    for name in ["docs/a.txt", "docs/sub/b.txt", "docs/sub/c.txt"] {
        write(lab.join(name), name);
    }
    bob.share([lab.join("docs")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    for policy in ["overwrite", "skip", "rename"] {
        let _ = fs::remove_dir_all(&here);
        write(here.join("docs/a.txt"), "mine");
        write(here.join("docs/sub"), "in the way");
        let first = json_fetch(&alice, &["docs/"], &here).args(["--if-exists", policy]).run();
        first.exits(12);
        let mut there = names_in(here.join("docs"));
        fs::remove_file(here.join("docs/sub")).unwrap();
        let again = alice.peer(["--json", "fetch", "--retry", "-j", "1", "--limit", "1G"]).run();
        assert_eq!(told(again.exits(0)).0, vec![("done".to_owned(), Value::Null); 2], "{policy}");
        assert_same(here.join("docs/sub/b.txt"), lab.join("docs/sub/b.txt"));
        there.sort();
        assert_eq!(names_in(here.join("docs")), there, "{policy}: what was there or left on purpose stays as it is");
    }
}

#[test]
fn retry_of_a_stream_has_the_stream_s_guards() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("film.mkv", 20_000_000)]);
    let _node = bob.serve();
    let closed = r#"set -o pipefail; "$@" | head -c 1000 >/dev/null"#;
    alice.peer(["fetch", "bob", "film.mkv", "-o", "-"]).through_shell(closed).run().exits(0);
    alice.peer(["fetch", "--retry"]).run().exits(2).says("nothing to retry");
    alice.peer(["fetch", "bob", "film.mkv", "later.txt", "-o", "-"]).run().exits(12);
    let json = alice.peer(["--json", "fetch", "--retry"]).run();
    assert_eq!(json.exits(2).object("error")["code"], "usage");
    let (outcome, screen) = alice.peer(["fetch", "--retry"]).in_terminal(80, 24).finish();
    assert!(screen.text().contains("is a terminal"), "{}", screen.text());
    outcome.exits(2);
    bob.share([write(lab.join("later.txt"), "later")]);
    let again = alice.peer(["fetch", "--retry"]).run();
    let whole = [fs::read(lab.join("film.mkv")).unwrap(), b"later".to_vec()].concat();
    assert!(again.exits(0).stdout == whole, "all of it, in order");
    alice.peer(["fetch", "--retry", "-o", "x"]).run().exits(2);
}

#[test]
fn a_destination_that_is_not_text_is_remembered() {
    use std::os::unix::ffi::OsStrExt;
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("one.txt", 10)]);
    let _node = bob.serve();
    let here = lab.join(std::ffi::OsStr::from_bytes(b"bad-\xff/"));
    alice.fetch("bob", ["one.txt", "two.txt"], &here).run().exits(12).says("1 file failed");
    bob.share([lab.file("two.txt", 10)]);
    alice.peer(["fetch", "--retry"]).run().exits(0);
    assert_eq!(names_in(&here), ["one.txt", "two.txt"]);
}

#[test]
fn what_a_list_says_wrongly_fails_alone() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let offers = vec![Offer::new("docs/good.txt", *b"good")];
    let right = |name: &str| {
        let hash = shared::ContentHash::of(b"good");
        json!({ "name": name, "size": 4, "hash": hash, "group_size": 1 << 20, "mtime": 0 })
    };
    let mut wrong = right("docs/wrong.txt");
    wrong["group_size"] = json!(7);
    let list = json!([right("docs/../escaped"), right("docs/good.txt"), { "nothing": 1 }, wrong]);
    let _source = HostilePeer::join(&lab, "mallory", offers, Trick::List(list));
    let here = lab.empty_folder("here");
    let fetched = alice.peer(["--json", "fetch", "--patience", "0", "mallory", "docs/", "-o"]).arg(&here).run();
    let (files, code) = told(fetched.exits(12));
    assert_eq!(code, "partial");
    assert_eq!(files.iter().filter(|file| file.0 == "failed" && file.1 == "integrity").count(), 3, "{fetched}");
    assert_content(here.join("docs/good.txt"), b"good");
}
