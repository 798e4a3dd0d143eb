//! Finding a tracker that nobody named, on a network of its own. Only root can make one.

use std::path::PathBuf;

use tests::files::write;
use tests::{Host, Invocation, Lab, Network, Process, binaries};

struct Scene {
    // Dropped first: its processes end before their network does.
    lab: Lab,
    network: Network,
    here: Host,
}

impl Scene {
    fn make() -> Option<Self> {
        Self::at("10.79.0.1/24")
    }

    fn at(address: &str) -> Option<Self> {
        let mut network = Network::make()?;
        let here = network.host("here", &[address]);
        Some(Self { lab: Lab::without_tracker(), network, here })
    }

    fn tracker(&mut self, name: &str, address: &str, args: &[&str]) -> (Process, String) {
        let args: Vec<&str> = ["--listen", "0.0.0.0:8000"].into_iter().chain(args.iter().copied()).collect();
        self.tracker_with(name, &format!("{address}/24"), &args)
    }

    fn tracker_with(&mut self, name: &str, address: &str, args: &[&str]) -> (Process, String) {
        let host = self.network.host(name, &[address]);
        let tracker = Invocation::new(binaries::binary("tracker"), self.lab.path());
        let tracker = tracker.arg("--data-dir").arg(self.lab.join(name)).args(args);
        let process = tracker.on(&host).start();
        process.wait_for("tracker listening on");
        let fingerprint = process.wait_for("fingerprint ");
        (process, fingerprint.trim_start_matches("fingerprint ").to_owned())
    }

    /// A run of `peer` with a profile of this name that knows no tracker.
    fn peer(&self, profile: &str, args: &[&str]) -> Invocation {
        let peer = Invocation::new(binaries::binary("peer"), self.lab.path());
        peer.env("VIZINHO_HOME", self.lab.join(profile)).env("VIZINHO_ACCEPT_NEW", "1").args(args)
    }

    fn register(&self, user: &str, more: &[&str]) -> Invocation {
        let password = write(self.lab.join("password"), "secret\n");
        self.peer(user, more).args(["register", user, "--password-file"]).arg(password).on(&self.here)
    }

    /// Somebody on the network who says these things to whoever asks.
    fn liar(&mut self, script: &str) -> (Process, PathBuf) {
        let host = self.network.host("liar", &["10.79.0.66/24"]);
        let path = write(self.lab.join("liar.py"), script);
        let liar = Invocation::new("python3", self.lab.path()).arg(&path).on(&host).start();
        liar.wait_for("lying");
        (liar, path)
    }
}

/// Answers each question on the network with three announcements: one of another version whose texts would change the
/// terminal, one that is no announcement at all, and one that puts a false key on the address `10.79.0.2`.
const LIES: &str = r#"
import socket, struct
def name(text): return b"".join(bytes([len(part)]) + part for part in text) + b"\0"
service = [b"_vizinho", b"_tcp", b"local"]
def record(owner, kind, data): return name(owner) + struct.pack(">HHIH", kind, 1, 120, len(data)) + data
def announcement(instance, version, key, address):
    full, host = [instance] + service, [instance[:8], b"local"]
    text = lambda pair: bytes([len(pair)]) + pair
    answers = [record(service, 12, name(full)),
               record(full, 33, struct.pack(">HHH", 0, 0, 8000) + name(host)),
               record(full, 16, text(b"v=" + version) + text(b"fp=" + key)),
               record(host, 1, socket.inet_aton(address))]
    return struct.pack(">HHHHHH", 0, 0x8400, 0, len(answers), 0, 0) + b"".join(answers)
lies = [announcement(b"\x1b[2Jgone", b"\x1b]0;x\x07", b"\x1b[31m" * 10, "10.79.0.66"), b"\xff" * 40,
        announcement(b"false", b"1", b"ab" * 32, "10.79.0.2")]
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", 5353))
group = socket.inet_aton("224.0.0.251")
listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + socket.inet_aton("10.79.0.66"))
listener.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.79.0.66"))
listener.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
print("lying", flush=True)
while True:
    question, _ = listener.recvfrom(9000)
    if not question[2] & 0x80:
        for lie in lies: listener.sendto(lie, ("224.0.0.251", 5353))
"#;

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
    undecided.says(&format!("peer --tracker 10.79.0.2:8000 register alice   (key {first})"));
    undecided.says(&format!("peer --tracker 10.79.0.3:8000 register alice   (key {second})"));

    let mut terminal = scene.register("alice", &[]).in_terminal(120, 24);
    terminal.wait_for("Which one? [1-2]");
    terminal.press("2\r");
    let (outcome, screen) = terminal.finish();
    outcome.exits(0);
    assert!(screen.text().contains("10.79.0.3:8000"), "{}", screen.text());
    let mut terminal = scene.register("bob", &[]).in_terminal(120, 24);
    terminal.wait_for("Which one? [1-2]");
    terminal.press("3\r");
    let (outcome, screen) = terminal.finish();
    outcome.exits(2);
    assert!(screen.text().contains("no tracker was chosen"), "{}", screen.text());
}

#[test]
fn a_false_announcement_is_found_out_and_harmless() {
    let Some(mut scene) = Scene::make() else { return };
    let (_tracker, fingerprint) = scene.tracker("tracker", "10.79.0.2", &["--no-mdns"]);
    let _liar = scene.liar(LIES);
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
fn before_1970_nobody_is_found_and_nothing_breaks() {
    let Some(mut scene) = Scene::make() else { return };
    let host = scene.network.host("tracker", &["10.79.0.2/24"]);
    let tracker = Invocation::new(binaries::binary("tracker"), scene.lab.path());
    let tracker = tracker.args(["--listen", "0.0.0.0:8000", "--data-dir"]).arg(scene.lab.join("tracker"));
    let Some(tracker) = tracker.on(&host).at_time("1969-12-31 23:00:00") else { return };
    let tracker = tracker.start();
    tracker.wait_for("tracker listening on");
    tracker.wait_for("not announced on the local network");
    let unheard = scene.register("alice", &[]).at_time("1969-12-31 23:00:00").unwrap().run();
    unheard.exits(7).says("no tracker was found on this network").says("clock").is_plain();
    scene.register("alice", &["--tracker", "10.79.0.2"]).run().exits(0);
    tracker.interrupt();
    let ended = tracker.finish();
    assert!(!ended.err().contains("panicked"), "{ended}");
}
