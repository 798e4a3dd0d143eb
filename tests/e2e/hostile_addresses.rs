//! Somebody who says that he is found where others are: whoever dials him hardly troubles them.

use std::net::{SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use certs::Identity;
use serde_json::{Value, json};
use shared::ContentHash;
use tests::hostile::{Caller, Crowd, Session};
use tests::{Lab, LabOptions};

/// Datagrams that an address may get before it answers.
const DATAGRAMS: usize = 3;

/// Listed sources that are dialled at once.
const DIALS_AT_ONCE: usize = 8;
/// Time for which a dial to somebody who says nothing holds its place at least: half a second, less what its first
/// datagram may come later than it begins.
const PLACE_DURATION: Duration = Duration::from_millis(250);

/// Somebody's socket, who is nobody's peer.
struct Bystander(UdpSocket);

impl Bystander {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// What came until now.
    fn got(&self) -> usize {
        std::iter::from_fn(|| self.0.recv(&mut [0; 2048]).ok()).count()
    }
}

/// Makes mallory present, who names these addresses; gives back the session that keeps her so, and what is listed.
fn present(lab: &Lab, identity: &Identity, port: u16, addresses: &[String]) -> (Session, Value) {
    let mut session = Session::open(lab.address(), identity);
    session.demand(&json!({ "action": "RESUME", "port": port, "addresses": addresses }));
    let listed = session.demand(&json!({ "action": "LIST_PEERS", "user": "mallory" }));
    let addresses = listed["peers"][0]["addresses"].clone();
    (session, addresses)
}

#[test]
fn whoever_dials_a_hostile_user_hardly_troubles_others() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let mallory = Caller::register(&lab, "mallory");
    let bystanders: Vec<Bystander> = (0..6).map(|_| Bystander::new()).collect();
    let mut named: Vec<String> = bystanders[1..].iter().map(|one| one.address().to_string()).collect();
    named.extend(["192.0.2.7:5000", "[2001:db8::7]:5000", "127.0.0.1:53"].map(str::to_owned));
    let (_session, listed) = present(&lab, &mallory, bystanders[0].address().port(), &named);
    assert_eq!(listed, json!(named[..5]));

    let here = lab.empty_folder("here");
    let runs: Vec<_> = (0..2).map(|_| alice.fetch("mallory", ["x"], &here).start()).collect();
    let dials = runs.len();
    for run in runs {
        run.finish().exits(7);
    }
    for (n, bystander) in bystanders.iter().enumerate() {
        let got = bystander.got();
        assert!((1..=DATAGRAMS * dials).contains(&got), "{got} datagrams at address {n}");
    }
}

#[test]
fn few_listed_sources_are_dialled_at_once_and_only_who_answers_goes_on_record() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let film = lab.file("film.mkv", 24_000_000);
    let _nodes = [&bob, &carol].map(|user| {
        user.share([&film]);
        let node = user.peer(["serve", "--limit", "2M"]).start();
        node.wait_for("online as");
        node
    });
    let content = std::fs::read(&film).unwrap();
    let entry = json!({ "name": "film.mkv", "size": content.len(), "hash": ContentHash::of(&content) });
    let sybils: Vec<(Session, Bystander)> = Crowd::register(&lab, (0..12).map(|number| format!("syb{number}")))
        .into_iter()
        .map(|(user, identity)| {
            let bystander = Bystander::new();
            let (mut session, _) = present(&lab, &identity, bystander.address().port(), &[]);
            session.demand(&json!({ "action": "REGISTER_FILES", "user": user, "files": [entry] }));
            (session, bystander)
        })
        .collect();

    let fetch = alice.fetch("bob", ["film.mkv"], &lab.empty_folder("here")).start();
    let mut dialled: Vec<Option<Instant>> = vec![None; sybils.len()];
    let (mut looked, mut longest_gap) = (Instant::now(), Duration::ZERO);
    while fetch.is_running() {
        longest_gap = longest_gap.max(looked.elapsed());
        looked = Instant::now();
        for ((_, bystander), first) in sybils.iter().zip(&mut dialled) {
            if bystander.got() > 0 {
                first.get_or_insert_with(Instant::now);
            }
        }
        // Bystanders tell nobody what comes: how late a look may be is counted above.
        sleep(Duration::from_millis(20));
    }
    let outcome = fetch.finish();
    outcome.exits(0).says("first contact with bob").says("first contact with carol");
    assert!(!outcome.err().contains("syb"), "{outcome}");
    let mut dialled: Vec<Instant> = dialled.into_iter().flatten().collect();
    dialled.sort();
    assert!(dialled.len() >= DIALS_AT_ONCE, "{} were dialled", dialled.len());
    // A datagram is seen late by the time between two looks at most.
    for (earlier, later) in dialled.iter().zip(dialled.iter().skip(DIALS_AT_ONCE)) {
        assert!(*later + longest_gap >= *earlier + PLACE_DURATION, "more than {DIALS_AT_ONCE} were dialled at once");
    }
}

#[test]
fn addresses_beyond_the_local_network_are_the_administrator_s_to_allow() {
    let named = ["192.0.2.7:5000".to_owned(), "198.51.100.7:5000".to_owned(), "192.0.2.7:443".to_owned()];
    let allowed = vec!["--allow-announce".to_owned(), "192.0.2.0/24".to_owned()];
    for (tracker_args, expected) in [(Vec::new(), json!([])), (allowed, json!(["192.0.2.7:5000"]))] {
        let lab = Lab::with(LabOptions { tracker_args, ..LabOptions::default() });
        let mallory = Caller::register(&lab, "mallory");
        let (_session, listed) = present(&lab, &mallory, 5000, &named);
        assert_eq!(listed, expected);
        let bob = lab.user("bob");
        let node = bob.peer(["serve", "--announce", "192.0.2.7:5000"]).start();
        node.wait_for("online as bob at 192.0.2.7:5000");
        let is_told = bob.peer(["list", "bob", "--json"]).run().exits(0).out().contains("192.0.2.7:5000");
        assert_eq!(is_told, expected != json!([]));
        if !is_told {
            node.wait_for("the tracker does not tell others of 192.0.2.7:5000");
        }
    }
}
