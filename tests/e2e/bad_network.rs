//! A fetch over a network that loses, delays, damages and disappears. Each test prints the seed of its chances.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use certs::Identity;
use serde_json::json;
use tests::emulator::{Bottleneck, Bursts, Relay, Way, Weather};
use tests::files::{assert_same, names_in};
use tests::hostile::Session;
use tests::progress::{follow, longest_pause, wait_for_bytes};
use tests::{Invocation, Lab, Outcome, Process, User};

const MS: Duration = Duration::from_millis(1);
/// Another one, for other chances.
const SEED: &str = "VIZINHO_TEST_SEED";

/// Alice, and bob behind a bad network with a film.
struct Scene<'a> {
    alice: User<'a>,
    relay: Relay,
    film: PathBuf,
    here: PathBuf,
    node: Process,
}

fn scene<'a>(lab: &'a Lab, weather: &Weather, size: usize) -> Scene<'a> {
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", size);
    bob.share([&film]);
    let relay = Relay::open(weather, seed());
    let node = bob.serve_behind(&relay, &[]);
    Scene { alice, relay, film, here: lab.empty_folder("here"), node }
}

fn seed() -> u64 {
    let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or(20_260_101);
    println!("the same chances again: {SEED}={seed}");
    seed
}

impl Scene<'_> {
    fn fetch(&self) -> Invocation {
        self.alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&self.here)
    }

    /// What was fetched is right, and all of it came through the relay.
    #[track_caller]
    fn is_right(&self, outcome: &Outcome) {
        outcome.exits(0);
        assert_same(self.here.join("film.mkv"), &self.film);
        assert_eq!(names_in(&self.here), ["film.mkv"]);
        let size = std::fs::metadata(&self.film).unwrap().len();
        assert!(self.relay.bytes_delivered() as u64 >= size, "it came by another way: {outcome}");
    }
}

#[test]
fn a_node_behind_a_forwarding_is_found_nowhere_else() {
    let lab = Lab::start();
    let scene = scene(&lab, &Weather::default(), 10);
    let mut tracker = Session::open(lab.address(), &Identity::generate().unwrap());
    let known = tracker.demand(&json!({ "action": "LIST_PEERS", "user": "bob" }));
    let [bob] = known["peers"].as_array().unwrap().as_slice() else { panic!("{known}") };
    assert_eq!((&bob["ip"], &bob["port"]), (&json!("127.0.0.1"), &json!(scene.relay.port())));
    assert!(bob["addresses"].as_array().is_none_or(Vec::is_empty), "{bob}");
    scene.node.wait_for(&format!("online as bob at 127.0.0.1:{}, which has to lead to UDP port ", scene.relay.port()));
    scene.is_right(&scene.fetch().run());
}

#[test]
fn one_percent_is_lost() {
    let lab = Lab::start();
    let scene = scene(&lab, &Weather { loss: 0.01, ..Weather::delayed(10 * MS) }, 20_000_000);
    scene.is_right(&scene.fetch().run());
    assert!(scene.relay.counts(Way::Down).lost > 0);
}

#[test]
fn every_fifth_is_lost_and_many_are_overtaken_on_a_way_of_half_a_second() {
    let lab = Lab::start();
    let weather =
        Weather { jitter: 20 * MS, loss: 0.2, reordering: 0.1, detour: 40 * MS, ..Weather::delayed(230 * MS) };
    let scene = scene(&lab, &weather, 400_000);
    // A handshake may lose too many packets in a row; whoever tries again goes on where that ended.
    let tries = (0..2).map(|_| scene.fetch().run());
    let fetched = tries.into_iter().find(Outcome::is_success).unwrap_or_else(|| scene.fetch().run());
    scene.is_right(&fetched);
}

#[test]
fn losses_come_in_bursts() {
    let lab = Lab::start();
    let bursts = Bursts { begin: 0.01, end: 0.2, loss: 0.9 };
    let scene = scene(&lab, &Weather { bursts: Some(bursts), ..Weather::delayed(5 * MS) }, 10_000_000);
    scene.is_right(&scene.fetch().run());
}

#[test]
fn bits_are_flipped() {
    let lab = Lab::start();
    let scene = scene(&lab, &Weather { corruption: 0.03, ..Weather::delayed(2 * MS) }, 10_000_000);
    scene.is_right(&scene.fetch().run());
    assert!(scene.relay.counts(Way::Down).corrupted > 0);
}

#[test]
fn much_arrives_twice_and_out_of_order() {
    let lab = Lab::start();
    let weather = Weather { duplication: 0.3, reordering: 0.2, detour: 5 * MS, ..Weather::delayed(2 * MS) };
    let scene = scene(&lab, &weather, 20_000_000);
    scene.is_right(&scene.fetch().run());
}

#[test]
fn long_datagrams_vanish_from_the_middle_on() {
    let lab = Lab::start();
    let bottleneck = Some(Bottleneck { rate: 20_000_000, queue: 500_000 });
    let scene = scene(&lab, &Weather { bottleneck, ..Weather::default() }, 30_000_000);
    let fetching = scene.fetch().start();
    wait_for_bytes(&fetching, 5_000_000);
    let changed = Instant::now();
    scene.relay.change_both(|weather| weather.mtu = Some(1_400));
    let steps = follow(&fetching, changed);
    scene.is_right(&fetching.finish());
    assert!(scene.relay.counts(Way::Down).swallowed > 0);
    let pause = longest_pause(&steps);
    assert!(pause < Duration::from_secs(5), "it stood still for {pause:?}");
}

#[test]
fn nothing_gets_through_for_a_while() {
    let lab = Lab::start();
    let bottleneck = Some(Bottleneck { rate: 10_000_000, queue: 300_000 });
    let scene = scene(&lab, &Weather { bottleneck, ..Weather::delayed(MS) }, 30_000_000);
    let fetching = scene.fetch().start();
    wait_for_bytes(&fetching, 5_000_000);
    scene.relay.change_both(|weather| weather.blackout = true);
    // The silence is what is tried: shorter than a link lasts.
    std::thread::sleep(Duration::from_secs(3));
    let back = Instant::now();
    scene.relay.change_both(|weather| weather.blackout = false);
    let steps = follow(&fetching, back);
    scene.is_right(&fetching.finish());
    let pause = longest_pause(&steps);
    assert!(pause < Duration::from_secs(5), "it stood still for {pause:?}");
}

#[test]
fn nothing_gets_through_for_longer_than_a_link_lasts() {
    let lab = Lab::start();
    let bottleneck = Some(Bottleneck { rate: 10_000_000, queue: 300_000 });
    let scene = scene(&lab, &Weather { bottleneck, ..Weather::delayed(MS) }, 20_000_000);
    let fetching = scene.fetch().start();
    wait_for_bytes(&fetching, 5_000_000);
    scene.relay.change_both(|weather| weather.blackout = true);
    // Ten seconds of silence, and the link is given up; nobody tells either side.
    std::thread::sleep(Duration::from_secs(12));
    assert!(fetching.is_running(), "it waits: {}", fetching.said());
    let back = Instant::now();
    scene.relay.change_both(|weather| weather.blackout = false);
    let steps = follow(&fetching, back);
    let outcome = fetching.finish();
    scene.is_right(&outcome);
    outcome.says("bob went offline").says("bob is back");
    let pause = longest_pause(&steps);
    assert!(pause < Duration::from_secs(12), "it stood still for {pause:?}");
}

#[test]
fn the_address_changes_under_way() {
    let lab = Lab::start();
    let bottleneck = Some(Bottleneck { rate: 10_000_000, queue: 300_000 });
    let scene = scene(&lab, &Weather { bottleneck, ..Weather::delayed(MS) }, 30_000_000);
    let fetching = scene.fetch().start();
    wait_for_bytes(&fetching, 5_000_000);
    let moved = Instant::now();
    scene.relay.move_callers();
    let steps = follow(&fetching, moved);
    scene.is_right(&fetching.finish());
    let pause = longest_pause(&steps);
    assert!(pause < Duration::from_secs(3), "it stood still for {pause:?}");
}

#[test]
fn a_path_that_becomes_a_crawl_is_named_once() {
    let lab = Lab::start();
    let fast = Bottleneck { rate: 8_000_000, queue: 300_000 };
    let crawl = Bottleneck { rate: 30_000, queue: 30_000 };
    let scene = scene(&lab, &Weather { bottleneck: Some(fast), ..Weather::delayed(MS) }, 30_000_000);
    let fetching = scene.fetch().start();
    wait_for_bytes(&fetching, 10_000_000);
    scene.relay.change_both(|weather| weather.bottleneck = Some(crawl));
    fetching.wait_for("bob became slow: ");
    fetching.wait_for("; others who have it are looked for");
    scene.relay.change_both(|weather| weather.bottleneck = Some(fast));
    let outcome = fetching.finish();
    scene.is_right(&outcome);
    assert_eq!(outcome.err().matches("became slow").count(), 1, "{outcome}");
    assert!(!outcome.err().contains("offline"), "{outcome}");
    let told = outcome.object("source");
    assert_eq!((&told["user"], &told["state"]), (&json!("bob"), &json!("slow")));
    assert!(told["bytes_per_s"].as_u64() < told["bytes_per_s_before"].as_u64(), "{told}");
}
