//! Folders that are followed: a copy that stays in step, and loses nothing.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::files::{assert_content, names_in, noise, write};
use tests::hostile::{HostilePeer, Offer, Trick};
use tests::{Lab, Process, User, earlier, make_room, poll_for, poll_until};

use crate::watching::mount;

/// Begins to follow with these options, in a process of its own.
#[track_caller]
fn follow(alice: &User<'_>, folder: &str, into: &Path, options: &[&str]) -> Process {
    let process = alice.peer(["fetch", "bob", folder, "--follow", "-o"]).arg(into).args(options).start();
    process.wait_for("`peer follows end ");
    process
}

/// What `peer follows` lists.
fn listed(alice: &User<'_>) -> Vec<Value> {
    alice.peer(["--json", "follows"]).run().exits(0).json()
}

/// Waits until a follow has this state.
#[track_caller]
fn wait_for_state(alice: &User<'_>, number: usize, state: &str) -> Value {
    let now = || listed(alice).into_iter().find(|follow| follow["number"] == number);
    poll_until(|| now().filter(|follow| follow["state"] == state), || format!("{:?} instead of {state}", now()))
}

/// The visible files below a folder, by their paths there.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, above: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().into_owned();
            // It may go while it is looked at.
            let Ok(kind) = entry.file_type() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let path = if above.is_empty() { name } else { format!("{above}/{name}") };
            if kind.is_dir() {
                walk(&entry.path(), &path, found);
            } else if let Ok(content) = fs::read(entry.path()) {
                found.insert(path, content);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, "", &mut found);
    found
}

/// Waits until a copy has the files of the folder, and no others.
#[track_caller]
fn wait_until_same(folder: &Path, copy: &Path) {
    wait_until_same_within(Duration::from_secs(30), folder, copy);
}

#[track_caller]
fn wait_until_same_within(patience: Duration, folder: &Path, copy: &Path) {
    let difference = || {
        let (wanted, got) = (tree(folder), tree(copy));
        let missing: Vec<_> = wanted.iter().filter(|(name, content)| got.get(*name) != Some(content)).collect();
        let missing: Vec<_> = missing.into_iter().map(|(name, _)| name.clone()).take(5).collect();
        let surplus: Vec<_> = got.keys().filter(|name| !wanted.contains_key(*name)).take(5).cloned().collect();
        (!missing.is_empty() || !surplus.is_empty()).then(|| format!("missing {missing:?}, too many {surplus:?}"))
    };
    poll_for(patience, || difference().is_none().then_some(()), || difference().unwrap_or_default());
}

#[track_caller]
fn wait_for_content(path: &Path, content: &str) {
    let now = || fs::read_to_string(path).ok();
    poll_until(|| (now().as_deref() == Some(content)).then_some(()), || format!("{} is {:?}", path.display(), now()));
}

/// The files in the trash of a copy, by their paths below the day.
fn trashed(copy: &Path) -> Vec<String> {
    let trash = copy.join(".vizinho-trash");
    let Ok(days) = fs::read_dir(&trash) else { return Vec::new() };
    days.flat_map(|day| tree(&day.unwrap().path()).into_keys()).collect()
}

#[test]
fn new_changed_renamed_and_removed_files_are_followed_within_seconds() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let photos = lab.empty_folder("photos");
    write(photos.join("a.txt"), "a");
    write(photos.join("sub/b.txt"), "b");
    write(photos.join("sub/c.txt"), "c");
    bob.share([&photos]);
    let _his = bob.serve();
    let outside = write(lab.join("here/other.txt"), "not theirs");
    let shown = follow(&alice, "photos/", &lab.join("here"), &["--delete"]);
    let copy = lab.join("here/photos");
    shown.wait_for("bob's photos/ is in step: 3 came");
    wait_until_same(&photos, &copy);

    let begun = Instant::now();
    write(photos.join("sub/new.bin"), noise(3, 3_000_000));
    shown.wait_for("photos/sub/new.bin (3.00 MB) came");
    println!("new: {:?}", begun.elapsed());
    let begun = Instant::now();
    write(photos.join("a.txt"), "another a");
    shown.wait_for("photos/a.txt (9 B) came in a new version");
    println!("changed: {:?}", begun.elapsed());
    let begun = Instant::now();
    fs::rename(photos.join("sub"), photos.join("moved")).unwrap();
    shown.wait_for("photos/sub/new.bin is photos/moved/new.bin now");
    println!("renamed: {:?}", begun.elapsed());
    let begun = Instant::now();
    fs::remove_file(photos.join("moved/b.txt")).unwrap();
    shown.wait_for("photos/moved/b.txt was removed");
    println!("removed: {:?}", begun.elapsed());
    wait_until_same(&photos, &copy);
    assert!(!copy.join("sub").exists(), "an empty folder stays");
    assert_eq!(trashed(&copy), ["moved/b.txt"]);
    fs::create_dir(photos.join("empty")).unwrap();
    write(photos.join("last"), "one");
    shown.wait_for("photos/last (3 B) came");
    poll_until(|| copy.join("empty").is_dir().then_some(()), || "an empty folder never comes".to_owned());

    let state = wait_for_state(&alice, 1, "in_step");
    assert_eq!((&state["user"], &state["folder"], &state["delete"]), (&json!("bob"), &json!("photos/"), &json!(true)));
    assert!(state["in_step_at"].is_i64() && state["into"] == copy.canonicalize().unwrap().to_str().unwrap());
    shown.interrupt();
    shown.finish().exits(130).says("`peer follows end 1` ends it");
    assert_content(outside, b"not theirs");
}

#[test]
fn without_delete_nothing_is_removed_and_a_follow_can_rest_and_end() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let photos = lab.empty_folder("photos");
    write(photos.join("a"), "a");
    bob.share([&photos]);
    let (_his, hers) = (bob.serve(), alice.serve());
    let shown = follow(&alice, "photos", &lab.join("here"), &[]);
    shown.wait_for("photos/a (1 B) came");
    shown.interrupt();
    // The node goes on with it.
    shown.finish().exits(130).says("the folder of bob is followed on");
    let copy = lab.join("here/photos");
    write(photos.join("b"), "b");
    wait_for_content(&copy.join("b"), "b");
    hers.wait_for_nth("bob's photos/ is in step: 1 came", 2);
    fs::remove_file(photos.join("a")).unwrap();
    write(photos.join("c"), "c");
    wait_for_content(&copy.join("c"), "c");
    hers.wait_for_nth("bob's photos/ is in step: 1 came", 3);
    assert_eq!(tree(&copy).into_keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    alice.peer(["follows", "pause", "1"]).run().exits(0).says("`peer follows resume 1`");
    hers.wait_for("bob's photos/ is paused");
    assert_eq!(listed(&alice)[0]["state"], "paused");
    write(photos.join("d"), "d");
    alice.peer(["follows", "resume", "1"]).run().exits(0);
    wait_for_content(&copy.join("d"), "d");
    alice.peer(["follows"]).run().exits(0).prints("1  bob  photos/  in ");
    alice.peer(["follows", "end", "1"]).run().exits(0).says("the copy stays in ");
    hers.wait_for("bob's photos/ is followed no more");
    alice.peer(["follows"]).run().exits(0).says("nothing is followed");
    alice.peer(["follows", "end", "1"]).run().exits(2).says("there is no follow 1");
    assert_eq!(tree(&copy).len(), 4);
    assert!(!copy.join(".vizinho-follow").exists());
}

#[test]
fn what_was_changed_here_is_kept_as_mine() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let photos = lab.empty_folder("photos");
    for name in ["report.txt", "gone.txt", "deleted.txt", "found.txt"] {
        write(photos.join(name), "bob's");
    }
    bob.share([&photos]);
    let _his = bob.serve();
    let copy = lab.join("here/photos");
    // There before: the same content is taken as it is, another is the user's own.
    write(copy.join("found.txt"), "bob's");
    write(copy.join("report.txt"), "older");
    let shown = follow(&alice, "photos/", &lab.join("here"), &["--delete"]);
    shown.wait_for("photos/report.txt was changed here: your version is kept as photos/report (mine).txt");
    shown.wait_for("is in step");
    wait_for_content(&copy.join("report.txt"), "bob's");
    assert_content(copy.join("report (mine).txt"), b"older");
    // Changed here: it stays until there is a new version, and longer if it is only removed there.
    write(copy.join("report.txt"), "mine again");
    write(copy.join("gone.txt"), "mine, too");
    fs::remove_file(copy.join("deleted.txt")).unwrap();
    write(photos.join("news"), "1");
    shown.wait_for("photos/news (1 B) came");
    assert_content(copy.join("report.txt"), b"mine again");
    assert!(!copy.join("deleted.txt").exists(), "what was removed here stays away");
    write(photos.join("report.txt"), "bob's second");
    write(photos.join("deleted.txt"), "bob's second");
    fs::remove_file(photos.join("gone.txt")).unwrap();
    shown.wait_for("your version is kept as photos/report (mine 2).txt");
    wait_for_content(&copy.join("deleted.txt"), "bob's second");
    wait_for_content(&copy.join("report.txt"), "bob's second");
    // What was there before the follow is not its own.
    fs::remove_file(photos.join("found.txt")).unwrap();
    write(photos.join("news"), "22");
    shown.wait_for("photos/news (2 B) came in a new version");
    let wanted =
        ["deleted.txt", "found.txt", "gone.txt", "news", "report (mine 2).txt", "report (mine).txt", "report.txt"];
    assert_eq!(tree(&copy).into_keys().collect::<Vec<_>>(), wanted);
    assert_content(copy.join("report (mine 2).txt"), b"mine again");
    assert_content(copy.join("gone.txt"), b"mine, too");
    assert!(trashed(&copy).is_empty());
}

#[test]
fn much_that_is_removed_is_asked_about() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let photos = lab.empty_folder("photos");
    for number in 0..12 {
        write(photos.join(format!("sub/{number}")), number.to_string());
    }
    bob.share([&photos]);
    let (_his, hers) = (bob.serve(), alice.serve());
    let shown = follow(&alice, "photos/", &lab.join("here"), &["--delete"]);
    let copy = lab.join("here/photos");
    shown.wait_for("is in step: 12 came");
    (0..9).for_each(|number| fs::remove_file(photos.join(format!("sub/{number}"))).unwrap());
    // However many looks his node takes for them: what goes before the question is at most half.
    hers.wait_for("they stay here until `peer follows confirm 1`");
    let asked = || listed(&alice)[0].clone();
    let is_all = |follow: &Value| {
        follow["state"] == "needs_confirmation" && follow["count"].as_u64().unwrap() + trashed(&copy).len() as u64 == 9
    };
    poll_until(|| is_all(&asked()).then_some(()), || format!("{:?}, {:?}", asked(), trashed(&copy)));
    assert!(tree(&copy).len() >= 6);
    alice.peer(["follows"]).run().exits(0).prints("needs confirmation: ").says("`peer follows confirm 1` removes sub/");
    // All else goes on.
    write(photos.join("new"), "new");
    wait_for_content(&copy.join("new"), "new");
    // What comes back is asked about no more.
    write(photos.join("sub/0"), "back");
    wait_for_content(&copy.join("sub/0"), "back");
    alice.peer(["follows", "confirm", "1"]).run().exits(0).says("files go to .vizinho-trash in ");
    wait_until_same(&photos, &copy);
    wait_for_state(&alice, 1, "in_step");
    assert_eq!(trashed(&copy).iter().filter(|name| *name != "sub/0").count(), 8);
    alice.peer(["follows", "confirm", "1"]).run().exits(2).says("nothing of the follow 1 waits");
}

#[test]
fn a_disk_that_is_away_on_either_side_removes_nothing() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let photos = lab.empty_folder("photos");
    write(photos.join("a"), "a");
    write(lab.join("disk/film"), "film");
    let (disk, usb) = (lab.join("disk"), lab.empty_folder("photos/usb"));
    let has_mounts = mount("mount", &[OsStr::new("--bind"), disk.as_os_str(), usb.as_os_str()]);
    bob.share([&photos]);
    let _his = bob.serve();
    let shown = follow(&alice, "photos/", &lab.join("here"), &["--delete"]);
    let copy = lab.join("here/photos");
    shown.wait_for("is in step");
    if has_mounts {
        assert!(mount("umount", &[OsStr::new("-l"), usb.as_os_str()]));
        write(photos.join("b"), "b");
        wait_for_content(&copy.join("b"), "b");
        assert_content(copy.join("usb/film"), b"film");
    }
    // The whole folder goes, and comes back.
    fs::rename(&photos, lab.join("elsewhere")).unwrap();
    poll_until(
        || {
            let files = bob.peer(["--json", "files", "bob"]).run();
            (!files.out().contains("photos/a")).then_some(())
        },
        || "it is listed for ever".to_owned(),
    );
    fs::rename(lab.join("elsewhere"), &photos).unwrap();
    write(photos.join("c"), "c");
    wait_for_content(&copy.join("c"), "c");
    assert_content(copy.join("a"), b"a");
    assert!(trashed(&copy).is_empty());
    // Here, too: nothing is fetched into the place of a disk that is away.
    fs::rename(&copy, lab.join("unplugged")).unwrap();
    write(photos.join("d"), "d");
    let held = wait_for_state(&alice, 1, "held");
    assert!(held["why"].as_str().unwrap().contains("is its disk mounted?"), "{held}");
    fs::create_dir(&copy).unwrap();
    write(photos.join("e"), "e");
    shown.wait_for("can't go on: ");
    assert!(names_in(&copy).is_empty(), "{:?}", names_in(&copy));
    fs::remove_dir(&copy).unwrap();
    fs::rename(lab.join("unplugged"), &copy).unwrap();
    alice.peer(["follows", "resume", "1"]).run().exits(0);
    wait_for_content(&copy.join("e"), "e");
    wait_for_content(&copy.join("d"), "d");
}

#[test]
fn what_an_older_peer_lists_no_more_stays() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let offers = ["a", "b", "c"].map(|name| Offer::new(&format!("photos/{name}"), name.repeat(5)));
    let mut bob = HostilePeer::join(&lab, "bob", offers.to_vec(), Trick::Honest);
    bob.list_only(&["photos/a", "photos/b"]);
    let shown = follow(&alice, "photos/", &lab.join("here"), &["--delete"]);
    shown.wait_for("is in step: 2 came");
    // The tracker's word is all that tells of it.
    bob.list_only(&["photos/b", "photos/c"]);
    shown.wait_for("photos/c (5 B) came");
    assert_eq!(tree(&lab.join("here/photos")).into_keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn an_earlier_version_is_followed_and_removes_nothing() {
    let Some(earlier) = earlier::binaries() else { return };
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.stranger("bob").with_binaries(earlier).registered());
    let photos = lab.empty_folder("photos");
    write(photos.join("a"), "a");
    write(photos.join("b"), "b");
    bob.share([&photos]);
    let _his = bob.serve();
    let shown = follow(&alice, "photos/", &lab.join("here"), &["--delete"]);
    shown.wait_for("is in step: 2 came");
    write(photos.join("c"), "c");
    bob.share([&photos]);
    bob.peer(["unshare", "photos/a"]).run().exits(0);
    shown.wait_for("photos/c (1 B) came");
    assert_eq!(tree(&lab.join("here/photos")).into_keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn a_changed_key_and_a_block_end_what_is_fetched() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let photos = lab.empty_folder("photos");
    write(photos.join("a"), "a");
    bob.share([&photos]);
    let his = bob.serve();
    let shown = follow(&alice, "photos/", &lab.join("here"), &["--delete"]);
    shown.wait_for("is in step");
    alice.peer(["block", "bob"]).run().exits(0);
    shown.wait_for("you block bob: `peer unblock bob` lets it go on");
    assert_eq!(wait_for_state(&alice, 1, "held")["user"], "bob");
    write(photos.join("b"), "b");
    alice.peer(["unblock", "bob"]).run().exits(0);
    wait_for_content(&lab.join("here/photos/b"), "b");

    his.interrupt();
    his.finish();
    let new = lab.stranger("new bob");
    new.peer(["login", "bob", "--rebind", "--password-file"]).arg(bob.password_file()).run().exits(0);
    write(photos.join("c"), "false");
    new.share([&photos]);
    let online = new.peer(["serve"]).start();
    online.wait_for("online as bob at ");
    shown.finish().exits(11).says("the identity of bob changed").says("`peer follows resume 1` goes on");
    assert_eq!(wait_for_state(&alice, 1, "key_changed")["user"], "bob");
    assert!(!lab.join("here/photos/c").exists());
    let key = new.fingerprint();
    alice.peer(["trust", "bob", "--replace", &key, "--yes"]).run().exits(0);
    let _hers = alice.serve();
    alice.peer(["follows", "resume", "1"]).run().exits(0);
    wait_for_content(&lab.join("here/photos/c"), "false");
}

#[test]
fn a_folder_is_found_in_another_normal_form_and_as_soon_as_it_is_shared() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _his = bob.serve();
    let shown = follow(&alice, "cr\u{ea}pes/", &lab.join("here"), &[]);
    shown.wait_for("bob doesn't share cr\u{ea}pes/");
    let folder = lab.empty_folder("cre\u{302}pes");
    write(folder.join("recipe"), "eggs");
    bob.share([&folder]);
    shown.wait_for("recipe (4 B) came");
    assert_eq!(listed(&alice)[0]["folder"], "cre\u{302}pes/");
    wait_for_content(&lab.join("here/cr\u{ea}pes/recipe"), "eggs");
}

#[test]
fn what_can_not_be_followed_is_refused() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), lab.user("bob"));
    let refused = |args: &[&str], words: &str| {
        alice.peer(["fetch"]).args(args).run().exits(2).says(words);
    };
    refused(&["#lab", "photos/", "--follow"], "name the user and not the room");
    refused(&["bob", "a/", "b/", "--follow"], "--follow takes one folder");
    refused(&["bob", "*.jpg", "--follow"], "and no pattern");
    refused(&["bob", "photos/", "--delete"], "--follow");
    refused(&["bob", "photos/", "--follow", "--if-exists", "skip"], "cannot be used with");
    refused(&["alice", "photos/", "--follow"], "alice is you");
    refused(&["bob", "/", "--follow", "-o", "alice"], "it belongs to an account's folder");
    refused(&["bob", "/", "--follow", "-o", "."], "it is your home folder");
    let shown = follow(&alice, "photos/", &lab.join("here"), &[]);
    shown.wait_for("waits for bob");
    refused(&["bob", "other/", "--follow", "-o", "here/photos"], "belongs to the follow 1");
    for number in 2..=8 {
        let process = follow(&alice, &format!("f{number}/"), &lab.join("here"), &[]);
        process.interrupt();
        process.finish().exits(130);
    }
    let many = alice.peer(["fetch", "bob", "f9/", "--follow", "-o", "here"]).run();
    many.exits(6).says("8 folders of bob are followed already");
}

#[test]
fn links_lead_nowhere() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let photos = lab.empty_folder("photos");
    write(photos.join("sub/a"), "a");
    write(photos.join("b"), "b");
    bob.share([&photos]);
    let _his = bob.serve();
    let outside = lab.empty_folder("outside");
    write(outside.join("b"), "outside");
    let copy = lab.empty_folder("here/photos");
    std::os::unix::fs::symlink(&outside, copy.join("sub")).unwrap();
    std::os::unix::fs::symlink(outside.join("b"), copy.join("b")).unwrap();
    let shown = follow(&alice, "photos/", &lab.join("here"), &["--delete"]);
    shown.wait_for("is in step but for 2 files");
    fs::remove_file(photos.join("b")).unwrap();
    write(photos.join("c"), "c");
    shown.wait_for("photos/c (1 B) came");
    assert_eq!(tree(&outside).into_iter().collect::<Vec<_>>(), [("b".to_owned(), b"outside".to_vec())]);
    assert!(copy.join("b").is_symlink() && copy.join("sub").is_symlink());
    // What is in the way goes, and all comes.
    fs::remove_file(copy.join("sub")).unwrap();
    write(photos.join("d"), "d");
    wait_for_content(&copy.join("sub/a"), "a");
}

#[test]
fn what_is_shared_with_a_room_is_followed_by_its_members_alone() {
    let lab = Lab::start();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| lab.user(name));
    make_room(&[&bob, &alice]);
    let _nodes = [bob.serve(), alice.serve(), carol.serve()];
    let photos = lab.empty_folder("photos");
    write(photos.join("a"), "a");
    bob.peer(["share", "--room", "lab"]).arg(&photos).run().exits(0);
    let (hers, carols) = (lab.join("hers"), lab.join("carols"));
    let shown = follow(&alice, "photos/", &hers, &["--delete"]);
    let other = follow(&carol, "photos/", &carols, &["--delete"]);
    shown.wait_for("photos/a (1 B) came");
    other.wait_for("bob's photos/ waits for bob: bob doesn't share photos/: see `peer files bob`");
    // The tracker knows nothing of it: his node tells.
    let begun = Instant::now();
    write(photos.join("b"), "b");
    shown.wait_for("photos/b (1 B) came");
    println!("new: {:?}", begun.elapsed());
    fs::remove_file(photos.join("a")).unwrap();
    shown.wait_for("photos/a was removed");
    assert!(tree(&carols).is_empty() && !other.said().contains("photos/a"), "{}", other.said());
}

/// A source of chance that can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Creates, changes, renames and removes files at random.
fn change(folder: &Path, times: usize, chance: &mut Chance) {
    for _ in 0..times {
        let files: Vec<String> = tree(folder).into_keys().collect();
        let new = folder.join(format!("d{}/f{}", chance.below(4), chance.below(12)));
        match chance.below(10) {
            6 | 7 if !files.is_empty() => {
                let from = folder.join(&files[chance.below(files.len())]);
                fs::create_dir_all(new.parent().unwrap()).unwrap();
                fs::rename(from, new).unwrap();
            }
            8 if files.len() > 20 => fs::remove_file(folder.join(&files[chance.below(files.len())])).unwrap(),
            _ => {
                // Now and then one that takes a while, so that it is broken off.
                let size = if chance.below(8) == 0 { 4_000_000 } else { chance.below(60_000) };
                write(new, noise(chance.0, size));
            }
        }
    }
}

#[test]
fn through_restarts_of_both_sides_a_copy_ends_equal() {
    let is_long = std::env::var_os("VIZINHO_LONG").is_some();
    let seed = std::env::var("VIZINHO_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut chance = Chance(seed);
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (photos, copy): (PathBuf, PathBuf) = (lab.empty_folder("photos"), lab.join("here/photos"));
    change(&photos, 40, &mut chance);
    bob.share([&photos]);
    let outside = lab.empty_folder("here");
    write(outside.join("beside"), "beside");
    let (mut his, mut hers) = (Some(bob.serve()), Some(alice.serve()));
    let shown = follow(&alice, "photos/", &outside, &["--delete"]);
    shown.wait_for("to come");
    shown.interrupt();
    shown.finish();
    for round in 0..if is_long { 10 } else { 3 } {
        change(&photos, 15, &mut chance);
        // Each side in turn, in the middle of it or after, with and without a word.
        let is_hard = chance.below(2) == 0;
        for (node, user) in [(&mut his, &bob), (&mut hers, &alice)] {
            let process = node.take().unwrap();
            if is_hard {
                process.kill();
            } else {
                process.interrupt();
            }
            process.finish();
            change(&photos, 10, &mut chance);
            *node = Some(user.serve());
        }
        println!("round {round}: {} files", tree(&photos).len());
    }
    let is_settled = || {
        let follow = &listed(&alice)[0];
        if follow["state"] == "needs_confirmation" {
            alice.peer(["follows", "confirm", "1"]).run();
        }
        (tree(&photos) == tree(&copy)).then_some(())
    };
    poll_for(Duration::from_secs(if is_long { 120 } else { 60 }), is_settled, || {
        format!("seed {seed}: {:?}\n{:?}\n{:?}", listed(&alice), tree(&photos).keys(), tree(&copy).keys())
    });
    wait_for_state(&alice, 1, "in_step");
    assert_eq!(tree(&outside).into_keys().filter(|name| !name.starts_with("photos/")).collect::<Vec<_>>(), ["beside"]);
    assert_eq!(names_in(&outside), ["beside", "photos"]);
    // Nothing is left of what was on its way.
    let staging = names_in(copy.join(".vizinho-follow"));
    assert!(staging.iter().all(|name| name.starts_with('.')), "{staging:?}");
}

#[test]
fn events_tell_programs_of_a_copy() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let photos = lab.empty_folder("photos");
    write(photos.join("a"), "a");
    bob.share([&photos]);
    let (_his, _hers) = (bob.serve(), alice.serve());
    let mut events = alice.peer(["events"]).open_stdin().start();
    // One that has not found the node yet would miss what comes first.
    events.write("{\"type\":\"read\",\"from\":\"nobody\",\"ref\":1}\n");
    events.wait_for("\"type\":\"done\"");
    let shown = alice.peer(["--json", "fetch", "bob", "photos/", "--follow", "-o", "here"]).start();

    for process in [&events, &shown] {
        let line = process.wait_until("a file that came", |said| {
            said.lines().find(|line| line.contains(r#""change":"fetched""#)).map(str::to_owned)
        });
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&object["v"], &object["user"], &object["name"]), (&json!(1), &json!("bob"), &json!("a")));
    }
    shown.wait_for(r#""type":"follow""#);
}
