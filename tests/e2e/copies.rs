//! Files of the same content under several names: each is there in the end, and the content came once.

use std::fs;

use tests::Lab;
use tests::files::{assert_same, names_in, write};

const SIZE: usize = 3_000_000;

#[test]
fn a_content_with_several_names_comes_once() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let one = lab.file("docs/one.bin", SIZE);
    fs::hard_link(&one, lab.join("docs/linked.bin")).unwrap();
    fs::create_dir(lab.join("docs/sub")).unwrap();
    fs::copy(&one, lab.join("docs/sub/copied.bin")).unwrap();
    // Of one group, and smaller than is worth the while.
    for name in ["docs/small", "docs/sub/small"] {
        write(lab.join(name), vec![7; 200_000]);
    }
    for name in ["docs/tiny", "docs/sub/tiny"] {
        write(lab.join(name), "tiny");
    }
    bob.share([lab.join("docs")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let fetched = alice.peer(["--json", "fetch", "bob", "docs/", "-o"]).arg(&here).run();
    let summary = fetched.exits(0).object("summary");
    assert_eq!(summary["bytes_fetched"], SIZE + 200_000 + 2 * "tiny".len(), "{fetched}");
    assert_eq!((&summary["bytes_resumed"], &summary["done"]), (&0.into(), &7.into()), "{fetched}");
    let docs = here.join("docs");
    for name in ["one.bin", "linked.bin", "sub/copied.bin", "small", "sub/small", "tiny", "sub/tiny"] {
        assert_same(docs.join(name), lab.join("docs").join(name));
    }
    assert_eq!(names_in(&docs), ["linked.bin", "one.bin", "small", "sub", "tiny"]);
    // Files of their own: to write into one changes no other.
    write(docs.join("one.bin"), "other");
    assert_same(docs.join("linked.bin"), &one);
}

#[test]
fn a_copy_is_fetched_when_the_first_of_them_is_not_put_in_place() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let one = lab.file("docs/one.bin", SIZE);
    fs::copy(&one, lab.join("docs/two.bin")).unwrap();
    bob.share([lab.join("docs")]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    // Somebody else's part of the first: it can't be written to.
    let hash = shared::ContentHash::of(&fs::read(&one).unwrap()).to_string();
    fs::create_dir_all(here.join(format!("docs/.one.bin.{}.part", &hash[..8]))).unwrap();
    alice.fetch("bob", ["docs/"], &here).run().exits(12).says("one.bin");
    assert_same(here.join("docs/two.bin"), &one);
}
