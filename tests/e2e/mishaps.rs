//! What happens to files, folders, disks and sources while a fetch is under way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use tests::files::{assert_content, assert_same, names_in, noise, write};
use tests::hostile::{HostilePeer, Offer, Trick};
use tests::progress::wait_for_bytes;
use tests::{Invocation, Lab, Outcome, Process, Tmpfs, User};

const SIZE: usize = 6_000_000;
/// How many seconds nobody is there; 60 for a longer look.
const GONE: &str = "VIZINHO_TEST_GONE_SECONDS";

/// Alice fetches from bob, slowly enough that something can happen meanwhile.
struct Scene<'a> {
    alice: User<'a>,
    bob: User<'a>,
    film: PathBuf,
    here: PathBuf,
    node: Process,
}

fn scene(lab: &Lab) -> Scene<'_> {
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    let node = serve_slowly(&bob);
    Scene { alice, bob, film, here: lab.empty_folder("here"), node }
}

fn serve_slowly(user: &User<'_>) -> Process {
    let node = user.peer(["serve", "--limit", "4M"]).start();
    node.wait_for("online as");
    node
}

impl Scene<'_> {
    fn fetch(&self) -> Invocation {
        self.alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&self.here)
    }

    /// Begins a fetch and lets something happen in the middle.
    #[track_caller]
    fn meanwhile(&self, happens: impl FnOnce()) -> Outcome {
        let fetching = self.fetch().start();
        wait_for_bytes(&fetching, 1 << 20);
        happens();
        fetching.finish()
    }

    #[track_caller]
    fn is_whole(&self) {
        assert_same(self.here.join("film.mkv"), &self.film);
        assert_eq!(names_in(&self.here), ["film.mkv"]);
    }
}

/// What becomes of a file that is being sent.
type Replace = fn(&PathBuf);

#[test]
fn a_shared_file_that_is_replaced_is_never_mixed_with_the_old_one() {
    let replace: [(&str, Replace); 4] = [
        ("another in its place", |film| {
            let new = write(film.with_extension("new"), noise(77, SIZE));
            fs::rename(new, film).unwrap();
        }),
        ("written over", |film| drop(write(film, noise(77, SIZE)))),
        ("cut short", |film| drop(write(film, noise(77, 3_000_000)))),
        ("gone", |film| fs::remove_file(film).unwrap()),
    ];
    for (what, replace) in replace {
        let lab = Lab::start();
        let scene = scene(&lab);
        // At one moment for the node: a file that is half written is a version of its own, which it may describe and send.
        let outcome = scene.meanwhile(|| {
            scene.node.freeze();
            replace(&scene.film);
            scene.node.thaw();
        });
        // It isn't the source's lie.
        assert!(!outcome.err().contains("fetching nothing more from"), "{what}: {outcome}");
        if scene.film.exists() {
            // Waits for bob to have hashed the new one.
            outcome.exits(0);
            scene.is_whole();
            let (summary, file) = (outcome.object("summary"), outcome.object("file"));
            let size = fs::metadata(&scene.film).unwrap().len();
            for told in [summary, file] {
                assert_eq!(told["bytes_resumed"], 0, "{what}: nothing was there before: {outcome}");
                assert!(told["bytes_fetched"].as_u64().unwrap() > size, "{what}: both versions count: {outcome}");
            }
        } else {
            outcome.exits(5);
            assert!(!scene.here.join("film.mkv").exists(), "{what}: {outcome}");
        }
    }
}

#[test]
fn what_was_kept_of_another_version_is_removed_and_said() {
    let lab = Lab::start();
    let scene = scene(&lab);
    let fetching = scene.fetch().start();
    wait_for_bytes(&fetching, 1 << 20);
    fetching.kill();
    fetching.finish();
    assert_eq!(names_in(&scene.here).len(), 2, "a part and its state");
    write(&scene.film, noise(78, SIZE));
    let plain = scene.alice.peer(["fetch", "bob", "film.mkv", "-o"]).arg(&scene.here).run();
    plain.exits(0).says("what was kept of it is removed");
    scene.is_whole();
}

#[test]
fn a_destination_that_becomes_a_link_leads_nowhere() {
    let lab = Lab::start();
    let scene = scene(&lab);
    let (moved, outside) = (lab.join("moved"), lab.empty_folder("outside"));
    let outcome = scene.meanwhile(|| {
        fs::rename(&scene.here, &moved).unwrap();
        symlink(&outside, &scene.here).unwrap();
    });
    assert!(names_in(&outside).is_empty(), "{outcome}");
    outcome.exits(0);
    assert_same(moved.join("film.mkv"), &scene.film);
    assert_eq!(names_in(&moved), ["film.mkv"]);
}

#[test]
fn a_folder_below_the_destination_that_becomes_a_link_leads_nowhere() {
    let lab = Lab::start();
    let scene = scene(&lab);
    scene.bob.share([write(lab.join("docs/film.mkv"), noise(5, SIZE)).parent().unwrap()]);
    let (moved, outside) = (lab.join("moved"), lab.empty_folder("outside"));
    let fetching = scene.alice.peer(["--json", "fetch", "bob", "docs/", "-o"]).arg(&scene.here).start();
    wait_for_bytes(&fetching, 1 << 20);
    fs::rename(scene.here.join("docs"), &moved).unwrap();
    symlink(&outside, scene.here.join("docs")).unwrap();
    let outcome = fetching.finish();
    assert!(names_in(&outside).is_empty(), "{outcome}");
    outcome.exits(0);
    assert_content(moved.join("film.mkv"), &noise(5, SIZE));
}

#[test]
fn what_is_summed_up_after_an_interruption_is_what_is_there() {
    let lab = Lab::start();
    let scene = scene(&lab);
    scene.bob.share([write(lab.join("small.txt"), "small")]);
    let fetching = scene.alice.peer(["fetch", "bob", "small.txt", "film.mkv", "-o"]).arg(&scene.here).start();
    let has_part = || {
        let state = names_in(&scene.here).into_iter().find(|name| name.ends_with(".state"));
        let state = state.and_then(|name| fs::read(scene.here.join(name)).ok()).unwrap_or_default();
        // A flag for each of its six groups, behind everything else.
        let flags = &state[state.len().saturating_sub(6)..];
        flags.contains(&1) && flags.contains(&0)
    };
    while !(scene.here.join("small.txt").exists() && has_part()) {
        assert!(fetching.is_running());
        std::thread::yield_now();
    }
    fetching.interrupt();
    let outcome = fetching.finish();
    outcome.exits(130).says("1 file fetched and verified, 5 B in").says("run it again to resume");
}

#[test]
fn a_destination_that_is_removed_is_said() {
    let lab = Lab::start();
    let scene = scene(&lab);
    let outcome = scene.meanwhile(|| fs::remove_dir_all(&scene.here).unwrap());
    outcome.exits(9).says("the folder was removed").is_plain();
    assert!(!scene.here.exists());
    fs::create_dir(&scene.here).unwrap();
    scene.fetch().run().exits(0);
    scene.is_whole();
}

#[test]
fn a_disk_that_others_fill_up_meanwhile_is_gone_on_with_when_there_is_space() {
    let lab = Lab::start();
    let scene = scene(&lab);
    let Some(_mounted) = Tmpfs::mount(&scene.here, "size=8m") else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    let other = scene.here.join("other");
    let outcome = scene.meanwhile(|| {
        // To the last byte: the system says when that is.
        let _ = fs::File::create(&other).and_then(|mut file| std::io::copy(&mut std::io::repeat(1), &mut file));
    });
    if outcome.code != 0 {
        outcome.exits(9).is_plain();
        assert!(!scene.here.join("film.mkv").exists());
        scene.fetch().run().exits(9).says("free some space");
        fs::remove_file(&other).unwrap();
        let again = scene.fetch().run();
        assert!(again.exits(0).object("summary")["bytes_resumed"].as_u64().unwrap() >= 1 << 20, "{again}");
    } else {
        // The space was taken before the others came.
        fs::remove_file(&other).unwrap();
    }
    scene.is_whole();
}

#[test]
fn sources_that_are_all_gone_for_a_while_are_waited_for() {
    let seconds = std::env::var(GONE).ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let lab = Lab::start();
    let scene = scene(&lab);
    let carol = lab.user("carol");
    carol.share([&scene.film]);
    let carols = serve_slowly(&carol);
    let Scene { alice, bob, film, here, node } = scene;
    let fetching = alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&here).start();
    wait_for_bytes(&fetching, 1 << 20);
    for node in [node, carols] {
        node.kill();
        node.finish().exits(137);
    }
    // The absence is what is tried.
    std::thread::sleep(Duration::from_secs(seconds));
    assert!(fetching.is_running(), "it waits: {}", fetching.said());
    let _back = [serve_slowly(&carol), serve_slowly(&bob)];
    let outcome = fetching.finish();
    assert_eq!(outcome.exits(0).object("summary")["bytes_fetched"], SIZE);
    assert_same(here.join("film.mkv"), &film);
    assert_eq!(names_in(&here), ["film.mkv"]);
}

#[test]
fn a_source_that_sends_nothing_over_a_link_that_is_there_is_not_called_offline() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let offers = vec![Offer::new("film.mkv", noise(3, SIZE))];
    let source = HostilePeer::join(&lab, "mallory", offers, Trick::Gate);
    let here = lab.empty_folder("here");
    let fetching = alice.peer(["--json", "fetch", "mallory", "film.mkv", "-o"]).arg(&here).start();
    source.wait_until_stalled(1);
    fetching.wait_for("mallory is still connected, but sent next to nothing for 15 s");
    source.open_gate();
    let outcome = fetching.finish();
    outcome.exits(0).says("mallory is back");
    assert!(!outcome.err().contains("offline"), "{outcome}");
    assert_eq!(outcome.object("source")["state"], "silent");
}
