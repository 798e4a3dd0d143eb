//! Finding a tracker that nobody named, on a network of its own. Only root can make one.

use std::time::Duration;

use tests::files::write;
use tests::hostile::{Announcement, HostileResponder};
use tests::{Host, Invocation, Lab, Network, Process, binaries};

/// A network with this machine on it.
pub(crate) struct Scene {
    // Dropped first: its processes end before their network does.
    pub(crate) lab: Lab,
    pub(crate) network: Network,
    pub(crate) here: Host,
}

impl Scene {
    pub(crate) fn make() -> Option<Self> {
        Self::at("10.79.0.1/24")
    }

    pub(crate) fn at(address: &str) -> Option<Self> {
        let mut network = Network::make()?;
        let here = network.host("here", &[address]);
        Some(Self { lab: Lab::without_tracker(), network, here })
    }

    pub(crate) fn tracker(&mut self, name: &str, address: &str, args: &[&str]) -> (Process, String) {
        let args: Vec<&str> = ["--listen", "0.0.0.0:8000"].into_iter().chain(args.iter().copied()).collect();
        self.tracker_with(name, &format!("{address}/24"), &args)
    }

    pub(crate) fn tracker_with(&mut self, name: &str, address: &str, args: &[&str]) -> (Process, String) {
        let host = self.network.host(name, &[address]);
        let tracker = Invocation::new(binaries::binary("tracker"), self.lab.path());
        let tracker = tracker.arg("--data-dir").arg(self.lab.join(name)).args(args);
        let process = tracker.on(&host).start();
        process.wait_for("tracker listening on");
        let fingerprint = process.wait_for("fingerprint ");
        (process, fingerprint.trim_start_matches("fingerprint ").to_owned())
    }

    /// A run of `peer` with a profile of this name that knows no tracker.
    pub(crate) fn peer(&self, profile: &str, args: &[&str]) -> Invocation {
        let peer = Invocation::new(binaries::binary("peer"), self.lab.path());
        peer.env("VIZINHO_HOME", self.lab.join(profile)).env("VIZINHO_ACCEPT_NEW", "1").args(args)
    }

    pub(crate) fn register(&self, user: &str, more: &[&str]) -> Invocation {
        let password = write(self.lab.join("password"), "secret\n");
        self.peer(user, more).args(["register", user, "--password-file"]).arg(password).on(&self.here)
    }
}

/// Two announcements, in turn: one of another version whose texts would change the terminal, and one that puts a false key
/// on the address of the tracker.
fn lies(number: usize) -> Vec<u8> {
    let odd = Announcement { instance: "\u{1b}[2Jgone".to_owned(), ..Announcement::new("\u{1b}[31m", "10.79.0.66") };
    let odd = Announcement { version: "\u{1b}]0;x\u{7}".to_owned(), ..odd };
    let false_key = Announcement::new("ab".repeat(32), "10.79.0.2");
    [odd.packet(), vec![0xff; 40], false_key.packet()][number % 3].clone()
}

#[test]
fn the_one_tracker_of_a_network_is_found_and_pinned() {
    let Some(mut scene) = Scene::make() else { return };
    scene.register("early", &[]).run().exits(7).says("no tracker was found on this network within 2 s");
    let (_tracker, fingerprint) = scene.tracker("tracker", "10.79.0.2", &[]);
    let found = scene.register("alice", &[]).run();
    found.exits(0).says("looking for one on this network").says("10.79.0.2:8000").says(&fingerprint).is_plain();
    // From here on it is known.
    let who = scene.peer("alice", &["--json", "whoami"]).on(&scene.here).run();
    assert_eq!(who.exits(0).object("account")["tracker"], "10.79.0.2:8000");
    scene.peer("alice", &["list"]).on(&scene.here).run().exits(0);
    scene.peer("alice", &["trust", "--the-tracker"]).on(&scene.here).run().exits(0).prints(&fingerprint);
    // Whoever doesn't want to listen doesn't hear it, and whoever doesn't want to be found isn't.
    let deaf = scene.register("bob", &["--no-mdns"]).run();
    deaf.exits(7).says("127.0.0.1:8000");
    assert!(!deaf.err().contains("looking for"), "{deaf}");
}

#[test]
fn by_default_a_tracker_is_found_on_a_network_of_either_family() {
    for (ours, theirs) in [("10.79.0.1/24", "10.79.0.2/24"), ("fd79::1/64", "fd79::2/64")] {
        let Some(mut scene) = Scene::at(ours) else { return };
        let (tracker, fingerprint) = scene.tracker_with("tracker", theirs, &[]);
        tracker.wait_for("tracker listening on 0.0.0.0:8000");
        tracker.wait_for("tracker listening on [::]:8000");
        let found = scene.register("alice", &[]).run();
        found.exits(0).says("looking for one on this network").says(&fingerprint);
        scene.peer("alice", &["list"]).on(&scene.here).run().exits(0);
    }
}

#[test]
fn of_several_trackers_somebody_chooses() {
    let Some(mut scene) = Scene::make() else { return };
    let (_one, first) = scene.tracker("one", "10.79.0.2", &[]);
    let (_two, second) = scene.tracker("two", "10.79.0.3", &[]);
    let (_hidden, _) = scene.tracker("hidden", "10.79.0.4", &["--no-mdns"]);
    let undecided = scene.register("alice", &[]).run();
    undecided.exits(2).says("there are 2 trackers on this network");
    undecided.says("  \"Vizinho tracker ");
    undecided.says(&format!("    peer register alice --tracker 10.79.0.2:8000 --tracker-key {first}\n"));
    undecided.says(&format!("    peer register alice --tracker 10.79.0.3:8000 --tracker-key {second}\n"));

    let mut terminal = scene.register("alice", &[]).in_terminal(120, 24);
    terminal.wait_for("Which one? [1-2,");
    terminal.press("2\r");
    let (outcome, screen) = terminal.finish();
    outcome.exits(0);
    assert!(screen.text().contains("10.79.0.3:8000"), "{}", screen.text());
    let mut terminal = scene.register("bob", &[]).in_terminal(40, 24);
    terminal.wait_for("Which one? [1-2,");
    terminal.press("3\r");
    terminal.wait_for("a number from 1 to 2");
    terminal.press("\u{4}");
    let (outcome, screen) = terminal.finish();
    outcome.exits(2);
    assert!(screen.text().replace('\n', "").contains("no tracker was chosen"), "{}", screen.text());
}

#[test]
fn a_false_announcement_is_found_out_and_harmless() {
    let Some(mut scene) = Scene::make() else { return };
    let (_tracker, fingerprint) = scene.tracker("tracker", "10.79.0.2", &["--no-mdns"]);
    let liar = scene.network.host("liar", &["10.79.0.66/24"]);
    let _liar = HostileResponder::begin(&liar, "10.79.0.66", Duration::from_millis(20), |number| Some(lies(number)));
    let fooled = scene.register("alice", &[]).run();
    fooled
        .exits(11)
        .says("doesn't have the key that is announced")
        .says(&"ab".repeat(32))
        .says(&fingerprint)
        .is_plain();
    // Nothing of it is kept.
    let named = scene.register("alice", &["--tracker", "10.79.0.2"]).run();
    named.exits(0).says("first contact").says(&fingerprint);
}

#[test]
fn before_1970_a_tracker_is_found_as_at_any_time() {
    let Some(mut scene) = Scene::make() else { return };
    let host = scene.network.host("tracker", &["10.79.0.2/24"]);
    let tracker = Invocation::new(binaries::binary("tracker"), scene.lab.path());
    let tracker = tracker.args(["--listen", "0.0.0.0:8000", "--data-dir"]).arg(scene.lab.join("tracker"));
    let Some(tracker) = tracker.on(&host).at_time("1969-12-31 23:00:00") else { return };
    let tracker = tracker.start();
    tracker.wait_for("tracker listening on");
    let found = scene.register("alice", &[]).at_time("1969-12-31 23:00:00").unwrap().run();
    found.exits(0).says("10.79.0.2:8000").is_plain();
    tracker.interrupt();
    let ended = tracker.finish();
    assert!(!ended.err().contains("panicked"), "{ended}");
}

#[test]
fn a_tracker_is_found_on_an_interface_that_comes_later() {
    let Some(mut scene) = Scene::make() else { return };
    let host = scene.network.host("tracker", &[]);
    let tracker = Invocation::new(binaries::binary("tracker"), scene.lab.path());
    let tracker = tracker.args(["--listen", "0.0.0.0:8000", "--data-dir"]).arg(scene.lab.join("tracker"));
    let tracker = tracker.on(&host).start();
    tracker.wait_for("announced on the local network");
    scene.network.plug(&host, "eth1", &["10.79.0.2/24"]);
    // Interfaces are looked at every few seconds.
    let found = (0..8).map(|_| scene.register("alice", &[]).run()).find(|run| run.code == 0);
    found.expect("it is found").says("10.79.0.2:8000");
}
