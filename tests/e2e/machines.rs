//! Peers on machines of their own: real interfaces, addresses that change, cables that are pulled.
//!
//! Only root can make such machines; elsewhere each test says so and is done.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tests::files::{assert_same, names_in};
use tests::progress::{follow, longest_pause, wait_for_bytes};
use tests::{Host, Invocation, Lab, LabOptions, Network, Process, User};

/// A tracker, bob with a film, and alice, each on a machine of their own.
struct Scene {
    lab: Lab,
    network: Network,
    alice: Host,
    bob: Host,
    film: PathBuf,
    here: PathBuf,
}

/// Addresses of the tracker, bob and alice.
type Addresses = [&'static str; 3];

const V4: Addresses = ["10.77.0.9/24", "10.77.0.2/24", "10.77.0.1/24"];
const V6: Addresses = ["fd77::9/64", "fd77::2/64", "fd77::1/64"];

fn scene([tracker, bob, alice]: Addresses, size: usize) -> Option<Scene> {
    let mut network = Network::make()?;
    let ip: IpAddr = tracker.split('/').next().unwrap().parse().unwrap();
    let place = Some((network.host("tracker", &[tracker]), ip));
    let (bob, alice) = (network.host("bob", &[bob]), network.host("alice", &[alice]));
    let lab = Lab::with(LabOptions { place, ..LabOptions::default() });
    let (film, here) = (lab.file("film.mkv", size), lab.empty_folder("here"));
    Some(Scene { lab, network, alice, bob, film, here })
}

impl Scene {
    /// Bob is online, and sends at most this much a second.
    fn serve(&self, limit: &str) -> Process {
        let bob = self.lab.user_on(&self.bob, "bob");
        bob.share([&self.film]);
        let node = bob.peer(["serve", "--limit", limit]).start();
        node.wait_for("online as bob at ");
        node
    }

    fn alice(&self) -> User<'_> {
        self.lab.user_on(&self.alice, "alice")
    }

    fn fetch(&self, alice: &User<'_>) -> Invocation {
        alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&self.here)
    }

    #[track_caller]
    fn is_right(&self) {
        assert_same(self.here.join("film.mkv"), &self.film);
        assert_eq!(names_in(&self.here), ["film.mkv"]);
    }

    /// Alice fetches, `happens` happens in the middle, and she is never without progress for longer than `at_most`.
    #[track_caller]
    fn goes_on_within(&self, at_most: Duration, happens: impl FnOnce(&Self)) {
        let _node = self.serve("8M");
        let alice = self.alice();
        let fetching = self.fetch(&alice).start();
        wait_for_bytes(&fetching, 8_000_000);
        let moment = Instant::now();
        happens(self);
        // From before it: what the change itself takes counts as well.
        let steps = follow(&fetching, moment);
        let outcome = fetching.finish();
        outcome.exits(0);
        self.is_right();
        let pause = longest_pause(&steps);
        println!("the longest pause: {pause:?}");
        assert!(pause <= at_most, "it stood still for {pause:?}: {outcome}");
    }
}

/// How long a move may keep a transfer waiting.
const MOVED: Duration = Duration::from_secs(3);

#[test]
fn a_new_address_on_the_same_cable() {
    let Some(scene) = scene(V4, 24_000_000) else { return };
    scene.goes_on_within(MOVED, |scene| {
        scene.alice.ip("addr del 10.77.0.1/24 dev eth0");
        scene.alice.add_address("eth0", "10.77.0.3/24");
    });
}

#[test]
fn from_one_network_card_to_another() {
    let Some(scene) = scene(V4, 24_000_000) else { return };
    scene.goes_on_within(MOVED, |scene| {
        scene.network.plug(&scene.alice, "eth1", &["10.77.0.3/24"]);
        scene.alice.ip("link set eth0 down");
    });
}

#[test]
fn the_cable_first_then_another() {
    let Some(scene) = scene(V4, 24_000_000) else { return };
    // Nothing at all for a second: counted from when there is something again, the same holds.
    scene.goes_on_within(MOVED + Duration::from_secs(1), |scene| {
        scene.alice.ip("link set eth0 down");
        std::thread::sleep(Duration::from_secs(1));
        scene.network.plug(&scene.alice, "eth1", &["10.77.0.3/24"]);
    });
}

#[test]
fn a_new_address_of_the_sixth_version() {
    let Some(scene) = scene(V6, 24_000_000) else { return };
    scene.goes_on_within(MOVED, |scene| {
        scene.alice.ip("addr del fd77::1/64 dev eth0");
        scene.alice.add_address("eth0", "fd77::3/64");
    });
}

#[test]
fn frames_of_any_length() {
    for mtu in [1_280, 1_500, 9_000] {
        let Some(scene) = scene(V4, 10_000_000) else { return };
        scene.network.set_mtu(&scene.alice, "eth0", mtu);
        scene.network.set_mtu(&scene.bob, "eth0", mtu);
        let _node = scene.serve("1G");
        let alice = scene.alice();
        scene.fetch(&alice).run().exits(0);
        scene.is_right();
    }
}

#[test]
fn a_way_that_is_narrower_than_both_ends_know() {
    let Some(scene) = scene(V4, 10_000_000) else { return };
    scene.network.set_mtu_unseen(&scene.alice, "eth0", 1_300);
    let _node = scene.serve("1G");
    let alice = scene.alice();
    scene.fetch(&alice).run().exits(0);
    scene.is_right();
}

#[test]
fn a_way_that_becomes_narrower() {
    let Some(scene) = scene(V4, 24_000_000) else { return };
    scene.goes_on_within(Duration::from_secs(3), |scene| scene.network.set_mtu_unseen(&scene.alice, "eth0", 1_300));
}
