//! Shared files to which something happens while they are shared: what is no change stops nobody, what is one is said.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tests::files::{assert_content, assert_same, names_in, noise, write};
use tests::progress::wait_for_bytes;
use tests::{Lab, OddMount, Outcome, Process, User};

const SIZE: usize = 6_000_000;

/// Alice fetches from bob, slowly enough that something can happen meanwhile.
struct Scene<'a> {
    alice: User<'a>,
    bob: User<'a>,
    file: PathBuf,
    here: PathBuf,
    node: Process,
}

fn scene(lab: &Lab) -> Scene<'_> {
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("app.log", SIZE);
    bob.share([&file]);
    let node = bob.peer(["serve", "--limit", "4M"]).start();
    node.wait_for("online as");
    Scene { alice, bob, file, here: lab.empty_folder("here"), node }
}

/// Does something again and again while something else is done.
fn repeatedly<T>(pause: Duration, mut act: impl FnMut(u64) + Send, meanwhile: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut times = 0;
            while !done.load(Ordering::Relaxed) {
                act(times);
                times += 1;
                // The pace of the changes is the caller's.
                std::thread::sleep(pause);
            }
        });
        // Also when it fails, or nothing ever ends.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        done.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|failure| std::panic::resume_unwind(failure))
    })
}

impl Scene<'_> {
    fn fetch(&self) -> Outcome {
        self.alice.fetch("bob", ["app.log"], &self.here).run()
    }

    /// Bob and alice hear nothing of a change.
    #[track_caller]
    fn is_undisturbed(&self, outcome: &Outcome) {
        outcome.exits(0);
        assert!(!outcome.err().contains("changed") && !outcome.err().contains("anew"), "{outcome}");
        assert!(!self.node.said().contains("hashed again"), "{}", self.node.said());
        let shares = self.bob.peer(["shares"]).run();
        assert!(!shares.exits(0).out().contains("changed"), "{shares}");
    }
}

#[test]
fn a_new_mode_or_link_is_no_change() {
    let lab = Lab::start();
    let scene = scene(&lab);
    let link = lab.join("link");
    let touch = |times: u64| {
        fs::set_permissions(&scene.file, Permissions::from_mode(if times.is_multiple_of(2) { 0o640 } else { 0o644 }))
            .unwrap();
        let _ = fs::remove_file(&link);
        fs::hard_link(&scene.file, &link).unwrap();
    };
    let outcome = repeatedly(Duration::from_millis(50), touch, || scene.fetch());
    scene.is_undisturbed(&outcome);
    assert_same(scene.here.join("app.log"), &scene.file);
    assert_eq!(names_in(&scene.here), ["app.log"]);
}

#[test]
fn an_inode_of_its_own_is_no_change() {
    let lab = Lab::start();
    let scene = scene(&lab);
    let time = fs::metadata(&scene.file).unwrap().modified().unwrap();
    let replace = |_| {
        // As rsync does it, with its times kept.
        let copy = lab.join("copy");
        fs::copy(&scene.file, &copy).unwrap();
        File::options().write(true).open(&copy).unwrap().set_modified(time).unwrap();
        fs::rename(&copy, &scene.file).unwrap();
    };
    let outcome = repeatedly(Duration::from_millis(200), replace, || scene.fetch());
    scene.is_undisturbed(&outcome);
    assert_same(scene.here.join("app.log"), &scene.file);
}

#[test]
fn another_time_alone_stops_nobody() {
    let lab = Lab::start();
    let scene = scene(&lab);
    let file = File::options().write(true).open(&scene.file).unwrap();
    let touch = |_| file.set_modified(std::time::SystemTime::now()).unwrap();
    let outcome = repeatedly(Duration::from_millis(50), touch, || scene.fetch());
    outcome.exits(0);
    assert!(!outcome.err().contains("anew"), "{outcome}");
    assert_same(scene.here.join("app.log"), &scene.file);
}

#[test]
fn a_log_that_grows_is_fetched_as_it_was_when_it_was_asked_for() {
    let lab = Lab::start();
    let scene = scene(&lab);
    let append = |file: &Path, line: &str| File::options().append(true).open(file).unwrap().write_all(line.as_bytes());
    append(&scene.file, "before\n").unwrap();
    let grow = |times: u64| append(&scene.file, &format!("line {times}\n")).unwrap();
    let (outcome, streamed) = repeatedly(Duration::from_millis(20), grow, || {
        let streamed = scene.alice.peer(["fetch", "bob", "app.log", "-o", "-"]).start();
        (scene.fetch(), streamed.finish())
    });
    outcome.exits(0);
    assert!(!outcome.err().contains("anew"), "{outcome}");
    streamed.exits(0);
    let now = fs::read(&scene.file).unwrap();
    for got in [fs::read(scene.here.join("app.log")).unwrap(), streamed.stdout] {
        assert!(got.len() >= SIZE + "before\n".len() && now.starts_with(&got), "{} of {}", got.len(), now.len());
    }
    // What was described is still there, so that there is nothing to tell.
    assert!(!scene.node.said().contains("hashed again"), "{}", scene.node.said());
    // Once it rests, nothing is missing.
    let last = scene.alice.peer(["fetch", "bob", "app.log", "--if-exists", "overwrite", "-o"]).arg(&scene.here).run();
    last.exits(0);
    assert_same(scene.here.join("app.log"), &scene.file);
}

#[test]
fn a_file_that_is_another_all_the_time_is_given_up_and_named() {
    let rename = |file: &Path, times: u64| {
        let new = write(file.with_extension("new"), noise(times + 1, SIZE));
        fs::rename(new, file).unwrap();
    };
    let in_place = |file: &Path, times: u64| {
        let file = File::options().write(true).open(file).unwrap();
        file.write_all_at(&noise(times + 1, 3_000_000), 1_500_000).unwrap();
    };
    let lab = Lab::start();
    let scene = scene(&lab);
    for (what, act) in [("renamed over", &rename as &(dyn Fn(&Path, u64) + Sync)), ("written over", &in_place)] {
        let outcome = repeatedly(Duration::from_millis(300), |times| act(&scene.file, times), || scene.fetch());
        assert_eq!(outcome.code, 8, "{what}: {outcome}");
        outcome.says("app.log").says("nobody writes to it");
        assert!(!outcome.err().contains("fetching nothing more from"), "it is no lie: {what}: {outcome}");
        assert!(!scene.here.join("app.log").exists(), "{what}");
    }
    scene.bob.share([&scene.file]);
    let streamed = scene.alice.peer(["fetch", "bob", "app.log", "-o", "-"]).start();
    streamed.wait_until("some of it", |said| (said.len() > 100_000).then_some(()));
    rename(&scene.file, 7);
    streamed.finish().exits(8).says("changed").says("run the same command again");
    scene.fetch().exits(0);
    assert_same(scene.here.join("app.log"), &scene.file);
}

#[test]
fn what_cannot_be_read_any_more_is_no_change() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can take files away from those who run as somebody else");
        return;
    }
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let file = lab.file("a.bin", SIZE);
    bob.share([&file]);
    let node = bob.peer(["serve", "--limit", "4M"]).unprivileged().start();
    node.wait_for("online as bob");
    let here = lab.empty_folder("here");
    let fetching = alice.peer(["--json", "fetch", "bob", "a.bin", "-o"]).arg(&here).start();
    wait_for_bytes(&fetching, 1 << 20);
    fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    fetching.finish().exits(7).says("bob can't send a.bin").says("permission denied");
    node.wait_for(&format!("{} can't be read", file.display()));
    assert!(!node.said().contains("hashed again"), "{}", node.said());
    alice.fetch("bob", ["a.bin"], &here).run().exits(7).says("permission denied");
    // Somebody else has it as well.
    carol.share([write(lab.join("carols/a.bin"), fs::read(&file).unwrap())]);
    let _carols = carol.serve();
    alice.fetch("bob", ["a.bin"], &here).run().exits(0);
    assert_same(here.join("a.bin"), &file);
    node.interrupt();
    node.finish().exits(130);
}

#[test]
fn a_disk_that_fails_is_no_change_and_another_source_helps() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    let (behind, mounted) = (lab.empty_folder("behind"), lab.empty_folder("mounted"));
    let Some(_mount) = OddMount::odd(&mounted, &behind, &["broken"]) else { return };
    let file = write(behind.join("a.bin"), noise(1, SIZE));
    bob.share([mounted.join("a.bin")]);
    let node = bob.serve();
    write(lab.join("behind.broken"), "");
    let here = lab.empty_folder("here");
    alice.fetch("bob", ["a.bin"], &here).run().exits(7).says("bob can't send a.bin");
    node.wait_for(&format!("{} can't be read", mounted.join("a.bin").display()));
    assert!(!node.said().contains("hashed again"), "{}", node.said());
    carol.share([write(lab.join("carols/a.bin"), fs::read(&file).unwrap())]);
    let _carols = carol.serve();
    alice.fetch("bob", ["a.bin"], &here).run().exits(0);
    assert_same(here.join("a.bin"), &file);
}

#[test]
fn a_file_system_that_numbers_its_files_anew_changes_nothing() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (behind, mounted) = (lab.empty_folder("behind"), lab.empty_folder("mounted"));
    let Some(_mount) = OddMount::odd(&mounted, &behind, &["new-inodes"]) else { return };
    for name in ["docs/a.bin", "docs/b.txt", "docs/c.txt"] {
        write(behind.join(name), noise(1, if name.ends_with("bin") { SIZE } else { 5000 }));
    }
    bob.share([mounted.join("docs")]);
    bob.share([mounted.join("docs")]).says("already hashed");
    let node = bob.serve();
    let here = lab.empty_folder("here");
    let fetched = alice.fetch("bob", ["docs/"], &here).run();
    fetched.exits(0);
    assert!(!fetched.err().contains("changed"), "{fetched}");
    assert!(!node.said().contains("hashed again"), "{}", node.said());
    assert!(!bob.peer(["shares"]).run().exits(0).out().contains("changed"));
    assert_same(here.join("docs/a.bin"), behind.join("docs/a.bin"));
}

#[test]
fn a_node_that_is_short_of_descriptors_sends_later() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.file("a.bin", SIZE);
    bob.share([&file]);
    // So many that it gets online, and few more.
    let node = bob.peer(["serve", "--limit", "20M"]).through_shell(r#"ulimit -n 36; exec "$@""#).start();
    node.wait_for("online as bob");
    let fetches: Vec<(PathBuf, Process)> = (0..6)
        .map(|no| {
            let here = lab.empty_folder(format!("here{no}"));
            let fetch = alice.fetch("bob", ["a.bin"], &here).start();
            (here, fetch)
        })
        .collect();
    for (here, fetch) in fetches {
        let outcome = fetch.finish();
        outcome.exits(0);
        assert!(!outcome.err().contains("changed"), "{outcome}");
        assert_same(here.join("a.bin"), &file);
    }
}

#[test]
fn files_whose_size_is_a_lie_are_refused() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let refused = bob.peer(["share", "/proc/cpuinfo"]).run();
    refused.exits(12).says("copy it, and share the copy");
    assert_eq!(bob.peer(["shares"]).run().exits(0).out(), "");
}

#[test]
fn holes_are_not_sent() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let image = lab.join("disk.img");
    let file = File::create(&image).unwrap();
    file.set_len(200_000_000).unwrap();
    file.write_all_at(&noise(1, 2_500_000), 50_000_000).unwrap();
    file.write_all_at(b"end", 199_999_990).unwrap();
    bob.share([&image]);
    let node = bob.peer(["serve", "--limit", "8M"]).start();
    node.wait_for("online as bob");
    let here = lab.empty_folder("here");
    let fetched = alice.peer(["--json", "fetch", "bob", "disk.img", "-o"]).arg(&here).run();
    let summary = fetched.exits(0).object("summary");
    assert!(summary["bytes_fetched"].as_u64().unwrap() < 6_000_000, "{fetched}");
    let content = fs::read(&image).unwrap();
    assert_content(here.join("disk.img"), &content);
    let streamed = alice.peer(["fetch", "bob", "disk.img", "-o", "-"]).run();
    streamed.exits(0);
    assert!(streamed.stdout == content, "what was streamed is something else");
    // A chmod doesn't make the holes data.
    fs::set_permissions(&image, Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(here.join("disk.img")).unwrap();
    alice.fetch("bob", ["disk.img"], &here).run().exits(0);
    assert_content(here.join("disk.img"), &content);
}
