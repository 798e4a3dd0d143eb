//! The doctor: what is broken on purpose is named, with the line that mends it, and nothing else is.
//!
//! Only root can make the machines of some of these; elsewhere they say so and are done.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::files::names_in;
use tests::hostile::{Caller, Ending, HostilePeer, Trick};
use tests::{Host, Invocation, Lab, LabOptions, Network, Outcome, Process, User};

/// A tracker, and alice and bob who are online, each on a machine of their own.
struct Scene {
    // Dropped first: its processes end before their network does.
    nodes: Vec<Process>,
    lab: Lab,
    network: Network,
    tracker: Host,
    alice: Host,
    bob: Host,
}

const V4: [&str; 3] = ["10.77.0.9/24", "10.77.0.1/24", "10.77.0.2/24"];
const V6: [&str; 3] = ["fd77::9/64", "fd77::1/64", "fd77::2/64"];

const ALICES_PORT: &str = "40001";
const BOBS_PORT: &str = "40002";

fn scene([tracker, alice, bob]: [&str; 3]) -> Option<Scene> {
    let mut network = Network::make()?;
    let ip: IpAddr = tracker.split('/').next().unwrap().parse().unwrap();
    let tracker = network.host("tracker", &[tracker]);
    let (alice, bob) = (network.host("alice", &[alice]), network.host("bob", &[bob]));
    let lab = Lab::with(LabOptions { place: Some((tracker.clone(), ip)), ..LabOptions::default() });
    let mut scene = Scene { nodes: Vec::new(), lab, network, tracker, alice, bob };
    for (user, port) in [("alice", ALICES_PORT), ("bob", BOBS_PORT)] {
        let node = scene.user(user).registered().peer(["serve", "--port", port]).start();
        node.wait_for(&format!("online as {user} at "));
        scene.nodes.push(node);
    }
    Some(scene)
}

impl Scene {
    fn user(&self, name: &str) -> User<'_> {
        self.lab.stranger_on(if name == "bob" { &self.bob } else { &self.alice }, name)
    }

    fn tracker_port(&self) -> u16 {
        self.lab.address().rsplit_once(':').unwrap().1.parse().unwrap()
    }

    fn doctor(&self, user: &str, args: &[&str]) -> Examined {
        let began = Instant::now();
        let outcome = self.user(user).peer(["--json", "doctor"]).args(args).run();
        // It takes 5 s at most by itself; a machine with much to do needs longer to begin it.
        assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}: {outcome}", began.elapsed());
        println!("{:?}", began.elapsed());
        Examined(outcome)
    }
}

/// The outcome of an examination.
struct Examined(Outcome);

impl Examined {
    #[track_caller]
    fn exits(&self, code: i32) -> &Self {
        self.0.exits(code);
        self
    }

    #[track_caller]
    fn check(&self, name: &str) -> Value {
        let of_name = |object: &Value| object["type"] == "check" && object["check"] == name;
        self.0.json().into_iter().find(of_name).unwrap_or_else(|| panic!("no check {name}: {}", self.0))
    }

    /// Demands this finding.
    #[track_caller]
    fn finds(&self, name: &str, state: &str, code: &str) -> &Self {
        let check = self.check(name);
        assert_eq!((&check["state"], &check["code"]), (&json!(state), &json!(code)), "{check}: {}", self.0);
        self
    }

    /// Demands that these checks have problems, and no others.
    #[track_caller]
    fn blames(&self, names: &[&str]) -> &Self {
        let broken = |object: &Value| object["type"] == "check" && object["state"] == "problem";
        let found: Vec<String> = self
            .0
            .json()
            .iter()
            .filter(|object| broken(object))
            .map(|one| one["check"].as_str().unwrap().into())
            .collect();
        assert_eq!(found, names, "{}", self.0);
        assert_eq!(self.0.object("doctor")["problems"], names.len());
        self
    }

    #[track_caller]
    fn remedy(&self, name: &str) -> String {
        self.check(name)["remedy"].as_str().unwrap_or_else(|| panic!("{name} has no remedy: {}", self.0)).to_owned()
    }
}

#[test]
fn where_all_is_well_it_says_so() {
    let Some(scene) = scene(V4) else { return };
    let examined = scene.doctor("alice", &[]);
    examined.exits(0).blames(&[]).finds("tracker", "ok", "reached").finds("udp_port", "ok", "reached");
    examined.finds("mdns", "ok", "announced").finds("clock", "ok", "agrees").finds("packets", "ok", "whole");
    examined.finds("account", "ok", "sound").finds("peer", "ok", "online").finds("versions", "ok", "same");
    examined.finds("addresses", "ok", "ipv4_only").finds("offload", "ok", "segments");
    assert_eq!(examined.check("udp_port")["text"], format!("bob reaches 10.77.0.1:{ALICES_PORT}"));
    let of_bob = scene.doctor("alice", &["bob"]);
    of_bob.exits(0).blames(&[]).finds("presence", "ok", "listed").finds("address", "ok", "answers");
    of_bob.finds("link", "ok", "linked").finds("packets", "ok", "whole");
    // Within the minute bob looks for nobody at this address.
    scene.doctor("alice", &[]).exits(0).finds("udp_port", "note", "later");
}

#[test]
fn the_report_fits_one_screen() {
    let Some(scene) = scene(V4) else { return };
    for (columns, rows) in [(80, 24), (40, 60)] {
        for (language, account, end) in [
            ("C.UTF-8", "✓ account", "nothing wrong was found"),
            ("pt_BR.UTF-8", "✓ conta", "nada de errado foi encontrado"),
        ] {
            let terminal = scene.user("alice").peer(["doctor"]).env("LANG", language).in_terminal(columns, rows);
            terminal.wait_for(end);
            let (outcome, screen) = terminal.finish();
            outcome.exits(0);
            let text = screen.visible();
            assert!(text.contains(account) && text.contains("✓ tracker"), "{text}");
        }
    }
    let plain = scene.user("alice").peer(["--plain", "doctor"]).run();
    plain.exits(0).is_plain().prints("ok:      tracker ").says("nothing wrong was found");
    let ascii = scene.user("alice").peer(["doctor"]).env("LANG", "C").run();
    ascii.exits(0).is_plain().prints("+ tracker ");
    assert!(ascii.out().lines().count() <= 22, "{ascii}");
}

#[test]
fn without_a_node_the_port_of_the_next_one_is_looked_at() {
    let Some(mut scene) = scene(V4) else { return };
    let node = scene.nodes.remove(0);
    node.terminate();
    node.finish();
    let examined = scene.doctor("alice", &[]);
    examined.exits(0).finds("peer", "note", "not_running").finds("udp_port", "ok", "reached");
    assert_eq!(examined.check("udp_port")["text"], format!("bob reaches 10.77.0.1:{ALICES_PORT}"));
}

#[test]
fn a_blocked_udp_port_is_named() {
    let Some(scene) = scene(V4) else { return };
    scene.network.block(&scene.alice, "eth0", "udp", ALICES_PORT.parse().unwrap());
    let examined = scene.doctor("alice", &[]);
    examined.exits(7).blames(&["udp_port"]).finds("udp_port", "problem", "udp_blocked");
    let text = examined.check("udp_port")["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with(&format!("bob can't reach 10.77.0.1:{ALICES_PORT}: ")), "{text}");
    // From the other side, too, and told from a machine that isn't there.
    let of_alice = scene.doctor("bob", &["alice"]);
    of_alice.exits(7).blames(&["link"]).finds("link", "problem", "udp_blocked").finds("address", "note", "dropped");
    assert_eq!(of_alice.remedy("link"), "peer doctor");
}

#[test]
fn a_blocked_tcp_port_is_named() {
    let Some(scene) = scene(V4) else { return };
    let port = scene.tracker_port();
    scene.network.block(&scene.tracker, "eth0", "tcp", port);
    let examined = scene.doctor("alice", &[]);
    examined.exits(7).blames(&["tracker"]).finds("tracker", "problem", "tcp_blocked");
    assert_eq!(examined.remedy("tracker"), format!("sudo ufw allow {port}/tcp"));
}

#[test]
fn a_tracker_that_ended_is_told_from_a_machine_that_is_gone() {
    let Some(scene) = scene(V4) else { return };
    scene.lab.kill_tracker();
    scene.doctor("alice", &[]).exits(7).finds("tracker", "problem", "refused");
    scene.network.set_cable(&scene.tracker, "eth0", false);
    scene.alice.ip("neigh flush all");
    scene.doctor("alice", &[]).exits(7).finds("tracker", "problem", "no_host");
}

#[test]
fn a_black_hole_for_long_packets_is_named_with_a_size_that_gets_through() {
    let Some(scene) = scene(V4) else { return };
    scene.network.set_mtu_unseen(&scene.alice, "eth0", 1_300);
    let examined = scene.doctor("alice", &[]);
    examined.exits(0).blames(&[]).finds("packets", "warning", "black_hole");
    let remedy = examined.remedy("packets");
    let mtu =
        remedy.strip_prefix("sudo ip link set mtu ").and_then(|rest| rest.strip_suffix(" dev eth0")).expect(&remedy);
    let mtu: u32 = mtu.parse().unwrap();
    assert!((1_228..=1_300).contains(&mtu), "{remedy}");
    scene.doctor("alice", &["bob"]).exits(0).finds("packets", "warning", "black_hole");
    scene.alice.ip(&format!("link set mtu {mtu} dev eth0"));
    scene.doctor("alice", &["bob"]).exits(0).finds("packets", "ok", "whole");
}

#[test]
fn a_way_too_narrow_for_quic_is_named() {
    let Some(scene) = scene(V4) else { return };
    scene.network.set_mtu_unseen(&scene.bob, "eth0", 1_100);
    let of_bob = scene.doctor("alice", &["bob"]);
    of_bob.exits(7).finds("packets", "problem", "path_too_narrow");
    scene.network.set_mtu(&scene.alice, "eth0", 1_100);
    let here = scene.doctor("alice", &[]);
    here.exits(7).finds("packets", "problem", "interface_too_narrow");
    assert_eq!(here.remedy("packets"), "sudo ip link set mtu 1500 dev eth0");
}

#[test]
fn several_interfaces_tunnels_and_bridges_are_told_apart() {
    let Some(scene) = scene(V4) else { return };
    scene.network.plug(&scene.alice, "eth1", &["10.78.0.1/24"]);
    scene.alice.ip("link add docker0 type bridge");
    scene.alice.ip("link set docker0 up");
    scene.alice.ip("addr add 172.17.0.1/16 dev docker0");
    let examined = scene.doctor("alice", &[]);
    examined.exits(0).finds("interfaces", "note", "several").finds("containers", "note", "inner");
    assert_eq!(examined.check("interfaces")["text"], "several: eth0, eth1; to the tracker by eth0");
    scene.network.plug(&scene.alice, "eth2", &["10.77.0.7/24"]);
    scene.alice.ip("addr add 10.77.0.200/29 dev docker0");
    let trap = scene.doctor("alice", &[]);
    trap.exits(0).finds("interfaces", "warning", "overlapping");
}

#[test]
fn a_machine_with_ipv6_only_works_and_says_why_an_ipv4_tracker_does_not() {
    let Some(scene) = scene(V6) else { return };
    let examined = scene.doctor("alice", &[]);
    examined.exits(0).blames(&[]).finds("addresses", "note", "ipv6_only").finds("udp_port", "ok", "reached");
    examined.finds("packets", "ok", "whole").finds("tracker", "ok", "reached");
    assert_eq!(examined.check("udp_port")["text"], format!("bob reaches [fd77::1]:{ALICES_PORT}"));
    scene.doctor("alice", &["bob"]).exits(0).finds("link", "ok", "linked");
    let elsewhere = scene.doctor("alice", &["--tracker", "10.77.0.9:8000"]);
    elsewhere.exits(7).finds("tracker", "problem", "no_route");
}

#[test]
fn a_user_who_is_gone_is_told_from_one_whose_program_ended() {
    let Some(mut scene) = scene(V4) else { return };
    let node = scene.nodes.remove(1);
    node.kill();
    node.finish();
    // Within the tracker's lease.
    let ended = scene.doctor("alice", &["bob"]);
    ended.exits(7).finds("link", "problem", "nobody_listens");
    let bob = scene.user("bob");
    let again = bob.serve();
    again.terminate();
    again.finish();
    let offline = scene.doctor("alice", &["bob"]);
    offline.exits(4).finds("presence", "problem", "offline");
    scene.doctor("alice", &["nobody"]).exits(4).finds("presence", "problem", "refused");
    scene.doctor("alice", &["alice"]).exits(2);
}

#[test]
fn an_older_peer_cannot_look_from_outside() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _old = HostilePeer::join(&lab, "old", Vec::new(), Trick::Honest);
    let examined = Examined(alice.peer(["--json", "doctor", "--no-mdns"]).run());
    examined.exits(0).finds("udp_port", "note", "nobody_can_look").finds("mdns", "note", "skipped");
    let text = examined.check("udp_port")["text"].as_str().unwrap().to_owned();
    assert!(text.contains("nobody here can look from outside (old is older)"), "{text}");
}

#[test]
fn the_profile_is_examined_with_the_line_that_mends_it() {
    let lab = Lab::start();
    let stranger = lab.stranger("carol");
    let examined = |user: &User<'_>| Examined(user.peer(["--json", "doctor", "--no-mdns"]).run());
    let none = examined(&stranger);
    none.exits(3).blames(&["account"]).finds("account", "problem", "missing");
    assert_eq!(none.remedy("account"), "peer register NAME");
    assert!(!stranger.home().exists(), "nothing is made");
    let alice = lab.user("alice");
    let before = names_in(alice.home());
    examined(&alice).exits(0).finds("account", "ok", "sound").finds("udp_port", "note", "nobody_online");
    let mode = |mode: u32| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(alice.home(), permissions).unwrap();
    };
    mode(0o777);
    let open = examined(&alice);
    open.exits(9).blames(&["account"]);
    let remedy = open.remedy("account");
    let mended = Invocation::new("bash", lab.path()).args(["-c", &remedy]).run();
    mended.exits(0);
    mode(0o700);
    examined(&alice).exits(0);
    assert_eq!(names_in(alice.home()), before, "it leaves nothing behind");
    alice.peer(["logout"]).run().exits(0);
    let gone = examined(&alice);
    gone.exits(3).finds("account", "problem", "missing");
    assert_eq!(gone.remedy("account"), "peer login NAME");
}

#[test]
fn a_damaged_database_is_found() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let path = alice.home().join("profile.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // The header and the schema's first page are whole.
    let from = bytes.len() - 2 * 4096;
    bytes[from..].fill(0x55);
    tests::files::write(&path, &bytes);
    let found = Examined(alice.peer(["--json", "doctor", "--no-mdns"]).run());
    found.exits(9).finds("account", "problem", "unusable");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is left as it is");
}

#[test]
fn a_clock_that_is_wrong_is_named() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let run = alice.peer(["--json", "doctor", "--no-mdns"]);
    let Some(run) = run.at_time("2031-07-16 09:10:11") else { return };
    let examined = Examined(run.run());
    examined.exits(0).finds("clock", "warning", "wrong");
    assert_eq!(examined.remedy("clock"), "sudo timedatectl set-ntp true");
    assert!(examined.check("clock")["text"].as_str().unwrap().contains(" days ahead of the tracker's"));
}

#[test]
fn an_error_of_connecting_names_the_doctor() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let bob = lab.user("bob");
    let node = bob.serve();
    node.freeze();
    alice.peer(["files", "bob"]).run().exits(7).says("; `peer doctor bob` looks into it");
    node.thaw();
    lab.kill_tracker();
    alice.peer(["list"]).run().exits(7).says("; `peer doctor` looks into it");
}

#[test]
fn a_prober_is_no_tool_for_scanning() {
    const LIMIT: u64 = 8;
    const BUSY: u64 = 5;
    let lab = Lab::start();
    let bob = lab.user("bob");
    let node = bob.serve();
    let mallory = Caller::register(&lab, "mallory");
    let caller = Caller::dial(bob.node_address(), &mallory);
    let Ending::Answer(welcome) = caller.hello("mallory") else { panic!("a welcome was due") };
    assert!(welcome["capabilities"].as_array().unwrap().contains(&json!("probe/1")), "{welcome}");
    let ask = |port: u16| match caller.ask(&json!({ "t": "probe", "port": port, "ip": "192.0.2.1", "host": "other" })) {
        Ending::Answer(answer) => answer,
        other => panic!("an answer was due: {other:?}"),
    };
    assert_eq!(ask(1023)["code"], LIMIT);
    // Bob's own port answers, but not with mallory's key: that isn't told from silence. Another address can't be named.
    let answer = ask(bob.node_address().port());
    assert_eq!(
        answer,
        json!({ "t": "probe", "ip": "127.0.0.1", "port": bob.node_address().port(), "answered": false })
    );
    assert_eq!(ask(40_000)["code"], BUSY, "once a minute");
    // Nor through a second account at the same address.
    let accomplice = Caller::register(&lab, "accomplice");
    let caller = Caller::dial(bob.node_address(), &accomplice);
    assert!(matches!(caller.hello("accomplice"), Ending::Answer(_)));
    let Ending::Answer(answer) = caller.ask(&json!({ "t": "probe", "port": 40_000 })) else {
        panic!("an answer was due")
    };
    assert_eq!(answer["code"], BUSY);
    assert!(node.is_running());
}

#[test]
fn a_firewall_of_this_machine_is_named_and_its_line_mends_it() {
    let Some(scene) = scene(V4) else { return };
    let shell = |line: &str| Invocation::new("bash", scene.lab.path()).args(["-c", line]).on(&scene.alice).run();
    let rules = "add table inet guard
        add chain inet guard input { type filter hook input priority 0; policy drop; }
        add rule inet guard input ct state established,related accept
        add rule inet guard input iifname lo accept
        add rule inet guard input meta l4proto { tcp, icmp } accept";
    if shell(&format!("nft '{rules}'")).code != 0 {
        println!("skipped: there is no nft here, or the kernel has no nftables");
        return;
    }
    let blocked = scene.doctor("alice", &[]);
    blocked.exits(7).blames(&["udp_port"]).finds("udp_port", "problem", "udp_blocked");
    blocked.finds("firewall", "note", "in_charge");
    let remedy = blocked.remedy("udp_port");
    assert_eq!(remedy, format!("sudo nft insert rule inet guard input udp dport {ALICES_PORT} accept"));
    shell(remedy.strip_prefix("sudo ").unwrap()).exits(0);
    // Bob looks once a minute; carol hasn't yet.
    let carol = scene.lab.stranger_on(&scene.tracker, "carol").registered();
    let _node = carol.serve();
    let mended = scene.doctor("alice", &[]);
    mended.exits(0).finds("udp_port", "ok", "reached").finds("firewall", "ok", "passes");
}
