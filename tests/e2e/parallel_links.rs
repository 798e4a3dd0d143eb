//! Fetches over several links to one source: the same bytes come, and it is one fetch for everybody.

use tests::files::assert_same;
use tests::progress::wait_for_bytes;
use tests::{Lab, Process, User};

/// A node with threads of its own for links, at a rate that leaves time to look.
const SERVE: [&str; 5] = ["serve", "--threads", "2", "--limit", "6M"];

fn fetch(user: &User<'_>, output: &std::path::Path) -> Process {
    let fetching =
        user.peer(["-vv", "--json", "fetch", "bob", "film.mkv", "--connections", "3", "-o"]).arg(output).start();
    fetching.wait_for("further link 2 to bob");
    fetching
}

#[test]
fn a_file_comes_over_several_links_and_is_reported_once() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 24_000_000);
    bob.share([&film]);
    let node = bob.peer(SERVE).start();
    node.wait_for("online as bob");
    let there = lab.join("there.mkv");
    fetch(&alice, &there).finish().exits(0);
    assert_same(&film, &there);
    node.wait_for("alice fetched film.mkv (24.0 MB)");
    // Broken off with all links open, and taken up again.
    let resumed = lab.join("resumed.mkv");
    let fetching = fetch(&alice, &resumed);
    wait_for_bytes(&fetching, 8_000_000);
    fetching.interrupt();
    fetching.finish().exits(130);
    node.wait_for("of film.mkv");
    fetch(&alice, &resumed).finish().exits(0);
    assert_same(&film, &resumed);
    node.wait_for_nth("alice fetched", 3);
    node.terminate();
    let said = node.finish().out();
    assert_eq!(said.matches("alice fetched").count(), 3, "one for each fetch: {said}");
}

#[test]
fn a_source_that_comes_back_gets_all_its_links_again() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 24_000_000);
    bob.share([&film]);
    let node = bob.peer(SERVE).start();
    node.wait_for("online as bob");
    let there = lab.join("there.mkv");
    let fetching = fetch(&alice, &there);
    node.kill();
    node.finish();
    let node = bob.peer(SERVE).start();
    fetching.wait_for("further link 4 to bob");
    fetching.finish().exits(0);
    assert_same(&film, &there);
    node.terminate();
}

#[test]
fn a_chat_has_the_source_to_itself_but_for_one_link() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 36_000_000);
    bob.share([&film]);
    let node = bob.peer(SERVE).start();
    node.wait_for("online as bob");
    let hers = alice.serve();
    let there = lab.join("there.mkv");
    let fetching = fetch(&alice, &there);
    alice.peer(["chat", "bob", "hi"]).run().exits(0);
    node.wait_for("alice: hi");
    fetching.wait_for("a downloader of further link 2 has ended");
    fetching.finish().exits(0);
    assert_same(&film, &there);
    hers.terminate();
}
