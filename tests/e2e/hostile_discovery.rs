//! A machine on the network that announces itself, and others, as trackers: it gets nobody's password. Only root can make
//! such a network.
//!
//! In each case the real tracker is there, and somebody who has its key reaches it through all of it.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tests::hostile::{Announcement, HostileResponder, HostileTracker};
use tests::{Invocation, Outcome, Process};

use crate::discovery::Scene;

/// Between two packets of the attack.
const PACE: Duration = Duration::from_millis(4);
/// As fast as one sender gets on.
const FLOOD_PACE: Duration = Duration::from_micros(20);
/// What a tracker or a newcomer may have in memory.
const MAX_MIB: u64 = 64;
/// Between two looks at the memory.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Packets of a flood, 8 KiB each: several times the memory that is allowed.
const FLOOD_PACKETS: usize = 40_000;
const TRACKER: &str = "10.79.0.2";
const ROGUE: &str = "10.79.0.66";

/// A real tracker, and a machine that takes passwords.
struct Attack {
    // The rogue listens in the scene's network.
    rogue: HostileTracker,
    tracker: Process,
    key: String,
    scene: Scene,
    rogue_address: String,
}

impl Attack {
    fn make(tracker_args: &[&str]) -> Option<Self> {
        Self::at(["10.79.0.1/24", "10.79.0.2/24", "10.79.0.66/24"], tracker_args)
    }

    fn at([ours, trackers, rogues]: [&str; 3], tracker_args: &[&str]) -> Option<Self> {
        let mut scene = Scene::at(ours)?;
        let (tracker, key) = scene.tracker_with("tracker", trackers, tracker_args);
        let host = scene.network.host("rogue", &[rogues]);
        let rogue_address = rogues.split('/').next().unwrap_or_default().to_owned();
        let any = if rogues.contains(':') { "[::]:8000" } else { "0.0.0.0:8000" };
        let listener = host.within(|| TcpListener::bind(any).expect("nobody else is there"));
        let rogue = HostileTracker::with_tls_on(listener, |_| {
            format!("{}\n", json!({ "status": "ok", "code": "ok", "message": "fine" })).into_bytes()
        });
        Some(Self { rogue, tracker, key, scene, rogue_address })
    }

    /// Begins to say what `script` has, from the rogue's machine.
    fn begin(&self, script: impl FnMut(usize) -> Option<Vec<u8>> + Send + 'static) -> HostileResponder {
        let host = self.scene.network.host_called("rogue").expect("it was made");
        HostileResponder::begin(&host, &self.rogue_address, PACE, script)
    }

    /// The rogue, as it announces itself.
    fn itself(&self) -> Announcement {
        Announcement::new(self.rogue.fingerprint(), &self.rogue_address)
    }

    /// Somebody new, who takes whatever answers.
    fn careless(&self, user: &str) -> Outcome {
        self.scene.register(user, &[]).run()
    }

    /// Somebody new in a terminal.
    fn asked(&self, user: &str) -> Invocation {
        self.scene.register(user, &[]).env("VIZINHO_ACCEPT_NEW", "0")
    }

    /// Somebody new who has the key of the real tracker comes to it, and nobody sent the rogue anything.
    #[track_caller]
    fn ends_well(&self) {
        let sure = self.scene.register("sure", &["--tracker-key", &self.key]).run();
        sure.exits(0);
        let who = self.scene.peer("sure", &["trust", "--the-tracker"]).on(&self.scene.here).run();
        who.exits(0).prints(&format!("{} confirmed", self.key));
        self.rogue.got_no_password();
    }
}

/// A key that nobody has.
fn made_up(number: usize) -> String {
    format!("{number:064x}")
}

/// At an address of the network where nobody is.
fn dead(number: usize) -> Announcement {
    Announcement::new(made_up(number), &format!("10.79.0.{}", 100 + number % 100))
}

#[test]
fn made_up_keys_do_not_make_the_rogue_the_only_one() {
    let Some(attack) = Attack::make(&[]) else { return };
    let itself = attack.itself().packet();
    let _flood =
        attack.begin(move |number| Some(if number % 32 == 31 { itself.clone() } else { dead(number % 32).packet() }));
    let careless = attack.careless("careless");
    careless.exits(2).says("say which one").says(&format!("--tracker {ROGUE}:8000 --tracker-key")).is_plain();
    attack.ends_well();
    // Whoever pastes the line of the tracker needs no luck with what is on the list.
    let mut terminal = attack.asked("pasting").in_terminal(40, 30);
    terminal.wait_for("or paste its line]");
    terminal.press(&format!("peer register NAME --tracker {TRACKER}:8000 --tracker-key {}\r", attack.key));
    terminal.finish().0.exits(0);
    attack.rogue.got_no_password();
}

#[test]
fn more_keys_than_are_kept_and_keys_that_change_are_never_chosen_from() {
    let Some(attack) = Attack::make(&["--no-mdns"]) else { return };
    let itself = attack.itself().packet();
    // Each packet has another key; only the rogue answers.
    let _flood = attack.begin(move |number| Some(if number % 8 == 0 { itself.clone() } else { dead(number).packet() }));
    attack.careless("careless").exits(2).says("more than 32 trackers are announced").is_plain();
    let mut terminal = attack.asked("asked").in_terminal(80, 40);
    terminal.wait_for("or paste its line]");
    terminal.press("\u{4}");
    terminal.finish().0.exits(2);
    attack.rogue.got_no_password();
    let named = attack.scene.register("named", &["--tracker", TRACKER, "--tracker-key", &attack.key]).run();
    named.exits(0);
}

#[test]
fn where_the_tracker_is_silent_the_rogue_is_shown_and_asked_about() {
    let Some(attack) = Attack::make(&["--no-mdns"]) else { return };
    let itself = attack.itself().packet();
    let _alone = attack.begin(move |_| Some(itself.clone()));
    let (rows, rogue) = (attack.rogue.fingerprint().get(..16).unwrap().to_owned(), attack.rogue.fingerprint());
    let unasked = attack.asked("unasked").run();
    unasked.exits(2).says(rogue).says("--tracker-key").says("--accept-new").is_plain();
    let mut terminal = attack.asked("asked").in_terminal(40, 24);
    let screen = terminal.wait_for("[yes/no/paste it]").text();
    assert!(screen.contains(&format!("{ROGUE}:8000")) && screen.contains(&rows), "{screen}");
    terminal.press(&format!("{}\r", attack.key));
    terminal.finish().0.exits(11);
    // With the key, nobody else is taken.
    attack.scene.register("sure", &["--tracker-key", &attack.key]).run().exits(7);
    attack.rogue.got_no_password();
}

#[test]
fn one_key_at_many_addresses_is_one_tracker_and_its_own_address_is_found() {
    let Some(attack) = Attack::make(&[]) else { return };
    let (key, own) = (attack.key.clone(), attack.rogue_address.clone());
    // The tracker's key, at the rogue's address and at others.
    let _flood = attack.begin(move |number| {
        let address = if number % 20 == 0 { own.clone() } else { format!("10.79.0.{}", 100 + number % 20) };
        let instance = format!("tracker number {}", number % 20);
        Some(Announcement { instance, ..Announcement::new(key.clone(), &address) }.packet())
    });
    attack.careless("careless").exits(0).says(&format!("at {TRACKER}:8000"));
    attack.ends_well();
}

#[test]
fn a_rogue_at_the_tracker_s_address_or_name_is_another_tracker() {
    let Some(attack) = Attack::make(&[]) else { return };
    let mut elsewhere = attack.itself();
    elsewhere.addresses = vec![TRACKER.parse().unwrap()];
    let short = &attack.key[..12];
    // It also takes back what the tracker says, and says it otherwise.
    let same_name = Announcement { instance: format!("Vizinho tracker {short}"), ..attack.itself() };
    let goodbye = Announcement { ttl: 0, ..Announcement::new(attack.key.clone(), TRACKER) };
    let packets = [elsewhere.packet(), same_name.packet(), goodbye.packet()];
    let _flood = attack.begin(move |number| packets.get(number % 8).cloned());
    let careless = attack.careless("careless");
    assert!([2, 7, 11].contains(&careless.code), "{careless}");
    attack.ends_well();
}

#[test]
fn with_the_sixth_version_it_is_the_same() {
    let places = ["fd79::1/64", "fd79::2/64", "fd79::66/64"];
    let Some(attack) = Attack::at(places, &[]) else { return };
    let itself = attack.itself().packet();
    let _flood = attack.begin(move |number| {
        let dead = || Announcement::new(made_up(number % 20), &format!("fd79::{:x}", 0x100 + number % 20));
        Some(if number % 20 == 19 { itself.clone() } else { dead().packet() })
    });
    let careless = attack.careless("careless");
    careless.exits(2).says("say which one").says("[fd79::66]:8000 --tracker-key").says(&attack.key).is_plain();
    attack.ends_well();
}

/// Texts of instances that are listed nowhere, and, every eighth time, whole announcements; all for a day and more. `sent`
/// counts.
fn flood(sent: Arc<AtomicUsize>) -> impl FnMut(usize) -> Option<Vec<u8>> + Send + 'static {
    move |number| {
        sent.store(number, Ordering::Relaxed);
        let instance = format!("flood {number}");
        let one = Announcement { instance, ttl: 100_000, ..dead(number) };
        Some(if number % 8 == 7 { one.packet() } else { one.bare_text() })
    }
}

#[test]
fn a_flood_of_responses_takes_no_memory_of_tracker_or_newcomer_and_hides_nobody() {
    let Some(attack) = Attack::make(&[]) else { return };
    let sent = Arc::new(AtomicUsize::new(0));
    let host = attack.scene.network.host_called("rogue").unwrap();
    let _flood = HostileResponder::begin(&host, ROGUE, FLOOD_PACE, flood(Arc::clone(&sent)));
    attack.scene.register("beside", &["--tracker-key", &attack.key]).run().exits(0);
    while sent.load(Ordering::Relaxed) < FLOOD_PACKETS {
        assert!(attack.tracker.resident_mib() < MAX_MIB, "{} MiB", attack.tracker.resident_mib());
        // The memory is looked at all through the flood.
        std::thread::sleep(POLL_INTERVAL);
    }
    // At the question, all that a newcomer heard has been heard.
    let mut terminal = attack.asked("asked").in_terminal(80, 40);
    terminal.wait_for("or paste its line]");
    let newcomer = terminal.process().resident_mib();
    assert!(newcomer < MAX_MIB, "{newcomer} MiB");
    terminal.press("\u{4}");
    terminal.finish().0.exits(2);
    assert!(attack.tracker.resident_mib() < MAX_MIB, "{} MiB", attack.tracker.resident_mib());
    attack.ends_well();
}
