//! Callers that use what QUIC allows below its streams: they acknowledge nothing, or say that they are elsewhere now.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tests::emulator::{Relay, Way, Weather};
use tests::files::assert_same;
use tests::hostile::{Caller, Crowd, Ending};
use tests::{Lab, LabOptions, Process, User};

/// Mebibytes that an attack may cost.
const ATTACK_MIB: u64 = 64;
/// Bytes of a packet on loopback; elsewhere it fits the network.
const PACKET: u64 = 32_000;

struct Scene<'a> {
    bob: User<'a>,
    node: Process,
    relay: Relay,
    /// Asks for all of a large file.
    all_of_it: Value,
}

/// Bob shares a large file behind a relay.
fn scene(lab: &Lab) -> Scene<'_> {
    let bob = lab.user("bob");
    bob.share([lab.file("large.bin", 30_000_000)]);
    let node = bob.serve();
    let caller = Caller::dial(bob.node_address(), &Caller::register(lab, "asks"));
    caller.hello("asks");
    let Ending::Answer(stat) = caller.ask(&json!({ "t": "stat", "name": "large.bin" })) else {
        panic!("a stat was due")
    };
    let relay = Relay::open(&Weather::default(), 7);
    relay.lead_to(bob.node_address().port());
    let all_of_it = json!({ "t": "get", "hash": stat["hash"], "ranges": [[0, 28]] });
    Scene { bob, node, relay, all_of_it }
}

impl Scene<'_> {
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.relay.port()).into()
    }
}

/// Attack: eight accounts ask for a large file on as many links and streams as they may, would take all of it, and acknowledge
/// nothing. Beside it: a fetch and a message. Bound: 64 MiB, also when others come after those that fell silent.
#[test]
fn links_that_acknowledge_nothing_take_little() {
    let tracker_args = ["--rate-limit-registrations", "0"].map(str::to_owned).into();
    let lab = Lab::with(LabOptions { tracker_args, ..LabOptions::default() });
    let scene = scene(&lab);
    let alice = lab.user("alice");
    let serves_alice = |place: &str| {
        let here = lab.empty_folder(place);
        alice.fetch("bob", ["large.bin"], &here).run().exits(0);
        assert_same(here.join("large.bin"), lab.join("large.bin"));
        alice.peer(["chat", "--now", "bob", place]).run().exits(0);
    };
    serves_alice("before");
    let before = scene.node.resident_mib();
    let rounds = if std::env::var_os("VIZINHO_LONG").is_some() { 4 } else { 1 };
    for round in 0..rounds {
        let accounts = Crowd::register(&lab, (0..8).map(|number| format!("silent{round}-{number}")));
        let mut crowd = Crowd::new().taking(8 << 20);
        for account in &accounts {
            crowd.call(scene.address(), account, 13);
        }
        assert!(crowd.open_links() > 50, "{} links", crowd.open_links());
        scene.relay.change(Way::Down, |weather| weather.blackout = true);
        crowd.ask_and_read_nothing(&scene.all_of_it, 4);
        serves_alice(&format!("meanwhile{round}"));
        let during = scene.node.resident_mib();
        assert!(during < before + ATTACK_MIB, "{before} and then {during} MiB");
        // Links over which nothing comes end, and what they took is there for the next.
        scene.relay.change(Way::Up, |weather| weather.blackout = true);
        crowd.wait_for_open_links(0);
        scene.relay.change_both(|weather| weather.blackout = false);
    }
    serves_alice("afterwards");
}

/// Attack: in the middle of a fetch, packets come from another address, which never asked for anything and says nothing.
/// Bound: three times as many bytes go there as came from there, and a packet.
#[test]
fn an_address_that_only_seems_to_be_a_caller_s_is_sent_little() {
    let lab = Lab::start();
    let scene = scene(&lab);
    let mallory = Crowd::register(&lab, ["mallory".to_owned()]).remove(0);
    let mut crowd = Crowd::new().taking(8 << 20);
    assert_eq!(crowd.call(scene.address(), &mallory, 1).len(), 1);
    for round in 0..3 {
        // Nothing comes back from where the packets seem to be from.
        scene.relay.change(Way::Down, |weather| weather.blackout = true);
        scene.relay.move_callers();
        crowd.ask_and_read_nothing(&scene.all_of_it, 1);
        // So long the address is tried.
        std::thread::sleep(Duration::from_secs(1));
        let (came, went) = scene.relay.bytes_at_ports();
        assert!(came > 0 && went <= came * 3 + PACKET, "round {round}: {went} bytes for {came}");
        scene.relay.change(Way::Down, |weather| weather.blackout = false);
    }
    drop(crowd);
    let alice = lab.user("alice");
    alice.fetch("bob", ["large.bin"], &lab.empty_folder("here")).run().exits(0);
    assert!(scene.node.is_running() && scene.bob.node_address().port() > 0);
}
