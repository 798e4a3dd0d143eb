//! kill -9 at moments that chance picks, again and again.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::Lab;
use tests::emulator::{Bottleneck, Relay, Weather};
use tests::files::{assert_same, names_in};
use tests::progress::verified_bytes;

/// How often; more for a longer look.
const KILLS: &str = "VIZINHO_TEST_KILLS";
const SEED: &str = "VIZINHO_TEST_SEED";
const SIZE: usize = 48_000_000;
const RATE: u64 = 40_000_000;
/// What may have been sent and not been kept, for one kill: of two streams a group each that isn't whole, the groups
/// that wait for the writer, and what was on its way.
const IN_FLIGHT: usize = 2 * (1 << 20) + 4 * (1 << 20) + 1_000_000;
/// Handshakes, questions, manifests, headers of packets, and what a path repeats that lost nothing.
const OVERHEAD: f64 = 1.03;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn killed_anywhere_it_goes_on_from_there() {
    let (kills, seed) = (number(KILLS, 10), number(SEED, 20_260_102));
    println!("the same moments again: {SEED}={seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    // A narrow way: time to be killed in, and all that is sent passes there.
    let bottleneck = Some(Bottleneck { rate: RATE, queue: 500_000 });
    let relay = Relay::open(&Weather { bottleneck, ..Weather::delayed(Duration::from_millis(1)) }, seed);
    let _node = bob.serve_behind(&relay, &[]);
    let here = lab.empty_folder("here");
    let fetch = || alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&here);

    let (mut killed, mut wholes, mut reached) = (0, 0, 0);
    while killed < kills {
        let fetching = fetch().start();
        // Not awaited, on purpose: any moment will do, before the first byte and behind the last one too.
        std::thread::sleep(Duration::from_millis(chance.random_range(0..600)));
        fetching.kill();
        let ended = fetching.finish();
        match ended.code {
            137 => {
                killed += 1;
                let told = verified_bytes(&ended.out());
                assert!(told == 0 || told >= reached, "{told} of the {reached} that were there, seed {seed}: {ended}");
                reached = reached.max(told);
            }
            _ => {
                ended.exits(0);
            }
        }
        if here.join("film.mkv").exists() {
            assert_same(here.join("film.mkv"), &film);
            std::fs::remove_file(here.join("film.mkv")).unwrap();
            (wholes, reached) = (wholes + 1, 0);
        }
    }
    fetch().run().exits(0);
    assert_same(here.join("film.mkv"), &film);
    assert_eq!(names_in(&here), ["film.mkv"], "seed {seed}");
    wholes += 1;

    let sent = relay.bytes_delivered();
    let needed = f64::from(u32::try_from(wholes * SIZE).unwrap()) * OVERHEAD;
    let again = sent.saturating_sub(wholes * SIZE) / usize::try_from(kills).unwrap();
    println!("{kills} kills, {wholes} whole files; sent again for each kill, with all overhead: {again} bytes");
    let allowed = needed + f64::from(u32::try_from(killed).unwrap()) * f64::from(u32::try_from(IN_FLIGHT).unwrap());
    assert!(f64::from(u32::try_from(sent).unwrap()) <= allowed, "{sent} bytes sent, {allowed} allowed, seed {seed}");
}
