//! A fetch that was broken off goes on where it was, whatever broke it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tests::files::{assert_content, assert_same, names_in, noise, write};
use tests::hostile::{HostilePeer, Offer, Trick};
use tests::progress::{verified_bytes, wait_for_bytes};
use tests::{Invocation, Lab, Outcome, Process, User};

/// Mallory, who keeps the end of a film back until she is told, and alice, who wants it.
struct Scene<'a> {
    alice: User<'a>,
    source: HostilePeer,
    content: Vec<u8>,
    here: PathBuf,
}

fn scene(lab: &Lab, size: usize) -> Scene<'_> {
    let alice = lab.user("alice");
    let content = noise(size as u64, size);
    let source = HostilePeer::join(lab, "mallory", vec![Offer::new("film.mkv", content.clone())], Trick::Gate);
    Scene { alice, source, content, here: lab.empty_folder("here") }
}

impl Scene<'_> {
    fn fetch(&self) -> Invocation {
        self.alice.peer(["--json", "fetch", "mallory", "film.mkv", "-j", "1", "-o"]).arg(&self.here)
    }

    /// A fetch that has some of it and gets no further.
    #[track_caller]
    fn begin(&self) -> Process {
        let stalled = self.source.stalled();
        let fetching = self.fetch().start();
        self.source.wait_until_stalled(stalled + 1);
        wait_for_bytes(&fetching, 1);
        fetching
    }

    /// The same, and then it is killed.
    #[track_caller]
    fn begin_and_kill(&self) {
        let fetching = self.begin();
        fetching.kill();
        fetching.finish().exits(137);
    }

    /// What an earlier fetch left whose name ends like this.
    #[track_caller]
    fn left(&self, ending: &str) -> PathBuf {
        let name = names_in(&self.here).into_iter().find(|name| name.ends_with(ending));
        self.here.join(name.unwrap_or_else(|| panic!("a {ending} is kept")))
    }

    /// It is there, and nothing else is.
    #[track_caller]
    fn is_whole(&self) {
        assert_content(self.here.join("film.mkv"), &self.content);
        assert_eq!(names_in(&self.here), ["film.mkv"]);
    }
}

fn resumed(outcome: &Outcome) -> u64 {
    outcome.exits(0).object("summary")["bytes_resumed"].as_u64().unwrap()
}

#[test]
fn a_killed_fetch_resumes() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    const SIZE: usize = 200_000_000;
    let film = lab.file("film.mkv", SIZE);
    bob.share([&film]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let fetch = || alice.peer(["--json", "fetch", "bob", "film.mkv", "-o"]).arg(&here);
    // Killed at points that nobody chose: whenever a report comes that is further than the last time.
    let mut reached = 0;
    for _ in 0..3 {
        let fetching = fetch().start();
        let got_there = fetching.wait_until("progress, or the end of it", |said| {
            let bytes = verified_bytes(said);
            if bytes > reached { Some(bytes) } else { said.contains(r#""type":"summary""#).then_some(0) }
        });
        fetching.kill();
        let killed = fetching.finish();
        if got_there == 0 || killed.code == 0 {
            break;
        }
        killed.exits(137);
        assert!(!here.join("film.mkv").exists(), "what isn't whole has no name");
        reached = got_there;
    }
    assert!(reached > 0, "it was killed at least once");
    if !here.join("film.mkv").exists() {
        let last = fetch().run();
        assert!(resumed(&last) > 0, "{last}");
    }
    assert_same(here.join("film.mkv"), &film);
    assert_eq!(names_in(&here), ["film.mkv"]);
}

#[test]
fn what_was_kept_is_fetched_only_once() {
    let lab = Lab::start();
    let scene = scene(&lab, 40_000_000);
    scene.begin_and_kill();
    scene.source.open_gate();
    let again = scene.fetch().run();
    let kept = resumed(&again);
    assert!(kept >= 1 << 20, "{again}");
    scene.is_whole();
    let sent = u64::try_from(scene.source.bytes_sent_to_the_last()).unwrap();
    assert_eq!(sent + kept, 40_000_000, "what was there was not sent again");
}

#[test]
fn damage_to_what_was_kept_is_found() {
    let lab = Lab::start();
    let scene = scene(&lab, 20_000_000);
    scene.begin_and_kill();
    let part = scene.left(".part");
    let mut damaged = fs::read(&part).unwrap();
    damaged.iter_mut().step_by(1000).for_each(|byte| *byte ^= 1);
    write(&part, damaged);
    scene.source.open_gate();
    let again = scene.fetch().run();
    assert_eq!(resumed(&again), 0, "nothing of it was right any more: {again}");
    scene.is_whole();
}

#[test]
fn two_fetches_of_the_same_file_do_not_mix() {
    let lab = Lab::start();
    let scene = scene(&lab, 20_000_000);
    let first = scene.begin();
    let second = scene.alice.fetch("mallory", ["film.mkv"], &scene.here).run();
    second.exits(10).says("by another process");
    scene.source.open_gate();
    first.finish().exits(0);
    scene.is_whole();
}

#[test]
fn two_fetches_started_together_end_well() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 9_000_000);
    bob.share([&film]);
    let _node = bob.serve();
    let here = lab.empty_folder("here");
    let both = [(); 2].map(|()| alice.fetch("bob", ["film.mkv"], &here).start());
    let codes = both.map(|fetch| fetch.finish().code);
    assert!(codes.contains(&0) && codes.iter().all(|code| matches!(code, 0 | 10)), "{codes:?}");
    for name in names_in(&here) {
        assert_same(here.join(name), &film);
    }
}

#[test]
fn an_interrupted_fetch_says_how_to_go_on() {
    let lab = Lab::start();
    let scene = scene(&lab, 20_000_000);
    let interrupted = scene.begin();
    interrupted.interrupt();
    interrupted.finish().exits(130).says("run it again to resume");
    assert!(!scene.here.join("film.mkv").exists());
    let stalled = scene.source.stalled();
    let fetch = || scene.alice.fetch("mallory", ["film.mkv"], &scene.here);
    let terminated = fetch().start();
    scene.source.wait_until_stalled(stalled + 1);
    terminated.terminate();
    terminated.finish().exits(143);
    scene.source.open_gate();
    fetch().run().exits(0).says("resuming at");
    scene.is_whole();
}

/// What somebody does to what a killed fetch left; `precious` is a file that is nobody's business.
struct Tampering {
    what: &'static str,
    left: &'static str,
    act: fn(left: &Path, precious: &Path),
    /// The exit code of the next fetch: either all is well in the end, or it is not touched.
    code: i32,
}

const TAMPERINGS: [Tampering; 16] = [
    Tampering { what: "cut in the header", left: ".state", act: |left, _| set_len(left, 20), code: 0 },
    Tampering { what: "cut behind it", left: ".state", act: |left, _| set_len(left, 41), code: 0 },
    Tampering { what: "emptied", left: ".state", act: |left, _| set_len(left, 0), code: 0 },
    Tampering { what: "too long", left: ".state", act: |left, _| set_len(left, 1 << 30), code: 0 },
    Tampering { what: "all there", left: ".state", act: |left, _| fill_behind(left, 40, 1), code: 0 },
    Tampering { what: "rubbish", left: ".state", act: |left, _| fill_behind(left, 0, 0xff), code: 0 },
    Tampering { what: "gone", left: ".state", act: |left, _| fs::remove_file(left).unwrap(), code: 0 },
    Tampering { what: "a link", left: ".state", act: replace_by_link, code: 0 },
    Tampering { what: "a second name of another file", left: ".state", act: replace_by_hard_link, code: 0 },
    Tampering { what: "a folder", left: ".state", act: replace_by_folder, code: 0 },
    Tampering { what: "cut", left: ".part", act: |left, _| set_len(left, 1_500_000), code: 0 },
    Tampering { what: "too long", left: ".part", act: |left, _| set_len(left, 1 << 30), code: 0 },
    Tampering { what: "gone", left: ".part", act: |left, _| fs::remove_file(left).unwrap(), code: 0 },
    Tampering { what: "a link", left: ".part", act: replace_by_link, code: 9 },
    Tampering { what: "a second name of another file", left: ".part", act: replace_by_hard_link, code: 9 },
    Tampering { what: "a folder", left: ".part", act: replace_by_folder, code: 9 },
];

#[test]
fn whatever_was_done_to_what_was_kept_spoils_nothing() {
    for Tampering { what, left, act, code } in TAMPERINGS {
        let lab = Lab::start();
        let precious = write(lab.join("precious"), "nobody's business");
        let scene = scene(&lab, 10_000_000);
        scene.begin_and_kill();
        let place = scene.left(left);
        act(&place, &precious);
        scene.source.open_gate();
        let outcome = scene.fetch().run();
        assert_eq!(outcome.code, code, "{left} {what}: {outcome}");
        outcome.is_plain();
        assert_content(&precious, b"nobody's business");
        if code == 0 {
            if place.is_dir() {
                // It isn't ours to remove.
                fs::remove_dir_all(place).unwrap();
            }
            scene.is_whole();
        } else {
            assert!(!scene.here.join("film.mkv").exists(), "{left} {what}");
        }
    }
}

#[test]
fn a_whole_file_that_only_lacks_its_name_is_not_fetched_again() {
    let lab = Lab::start();
    let scene = scene(&lab, 20_000_000);
    scene.begin_and_kill();
    // As a kill leaves it between the last group and the name. The gate stays shut.
    write(scene.left(".part"), &scene.content);
    fs::remove_file(scene.left(".state")).unwrap();
    assert_eq!(resumed(&scene.fetch().run()), 20_000_000);
    scene.is_whole();
}

#[test]
fn what_somebody_else_left_is_not_gone_on_with() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give files away");
        return;
    }
    let lab = Lab::start();
    let scene = scene(&lab, 20_000_000);
    scene.begin_and_kill();
    std::os::unix::fs::chown(scene.left(".part"), Some(65_534), None).unwrap();
    scene.source.open_gate();
    scene.fetch().run().exits(9).says("somebody else can write to it");
    fs::remove_file(scene.left(".part")).unwrap();
    scene.fetch().run().exits(0);
    scene.is_whole();
}

fn set_len(path: &Path, len: u64) {
    File::options().write(true).open(path).and_then(|file| file.set_len(len)).unwrap();
}

fn fill_behind(path: &Path, start: usize, byte: u8) {
    let mut content = fs::read(path).unwrap();
    content[start..].fill(byte);
    write(path, content);
}

fn replace_by_link(left: &Path, precious: &Path) {
    fs::remove_file(left).unwrap();
    symlink(precious, left).unwrap();
}

fn replace_by_hard_link(left: &Path, precious: &Path) {
    fs::remove_file(left).unwrap();
    fs::hard_link(precious, left).unwrap();
}

fn replace_by_folder(left: &Path, _: &Path) {
    fs::remove_file(left).unwrap();
    write(left.join("inside"), "x");
}
