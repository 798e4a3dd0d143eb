//! Tests of the synchronisation of shared folders with a real disk.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use proptest::prelude::*;
use shared::ContentHash;

use super::*;
use crate::profile::ShareRoot;

const ALL: Audience = Audience::Everybody;

/// A profile with one folder that is shared as a whole.
struct Scene {
    _home: tempfile::TempDir,
    docs: PathBuf,
    profile: Profile,
    root: ShareRoot,
    mounts: HashSet<PathBuf>,
    /// Bytes hashed so far.
    hashed: u64,
}

impl Scene {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let docs = home.path().canonicalize().unwrap().join("docs");
        fs::create_dir(&docs).unwrap();
        let profile = Profile::open(&home.path().join("profile")).unwrap();
        let root = ShareRoot { audience: ALL, name: "docs".parse().unwrap(), path: docs.clone() };
        profile.put_share_roots(std::slice::from_ref(&root)).unwrap();
        Self { _home: home, docs, profile, root, mounts: HashSet::new(), hashed: 0 }
    }

    /// Writes a file that nobody is taken to be writing.
    fn put(&self, path: &str, content: &str) {
        let path = self.docs.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::create(&path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(1)).unwrap();
    }

    /// Compares the scope, and hashes what that asks for.
    fn sync(&mut self, scope: &SyncScope) -> SyncReport {
        let (private, mounts) = (PrivateData::of(&self.profile), || self.mounts.clone());
        let sync = FolderSync::new(&self.profile, &private, &self.root, &mounts).unwrap();
        let mut report = sync.run(scope, &mut |_| false).unwrap();
        self.hashed += report.to_hash.iter().map(|job| job.version.size).sum::<u64>();
        let hashed =
            run_hash_jobs(&self.profile, &private, &self.root, &report.to_hash, &Mutex::new(()), &|| false).unwrap();
        report.has_changed |= hashed.stored > 0;
        report
    }

    fn sync_parts(&mut self, parts: &[&str]) -> SyncReport {
        let parts = parts.iter().map(|part| (PathBuf::from(part), WritePatience::Wait)).collect();
        self.sync(&SyncScope::Parts(parts))
    }

    fn shares(&self) -> BTreeMap<String, ContentHash> {
        let mut shares = BTreeMap::new();
        for_each_share(&self.profile, &ALL, "", |share| {
            shares.insert(share.name.as_str().to_owned(), share.hash);
        })
        .unwrap();
        shares
    }

    fn names(&self) -> Vec<String> {
        self.shares().into_keys().collect()
    }

    fn empty_folders(&self) -> Vec<String> {
        let folders = self.profile.empty_folders_page(&[ALL], "", "", 99).unwrap();
        folders.iter().map(|name| name.as_str().to_owned()).collect()
    }
}

#[test]
fn what_comes_changes_and_goes_is_followed_part_by_part() {
    let mut scene = Scene::new();
    scene.put("a.txt", "a");
    scene.put("sub/b.txt", "b");
    assert!(scene.sync(&SyncScope::Whole).has_changed);
    assert_eq!(scene.names(), ["docs/a.txt", "docs/sub/b.txt"]);
    assert!(!scene.sync(&SyncScope::Whole).has_changed);
    scene.put("new.txt", "n");
    scene.put("sub/deep/c.txt", "c");
    scene.put("a.txt", "changed");
    let report = scene.sync_parts(&["a.txt", "new.txt", "sub/deep", "sub/deep/c.txt", "nothing"]);
    assert!(report.has_changed && report.stale.is_empty(), "it only became longer: {report:?}");
    assert_eq!(scene.names(), ["docs/a.txt", "docs/new.txt", "docs/sub/b.txt", "docs/sub/deep/c.txt"]);
    assert_eq!(scene.shares()["docs/a.txt"], ContentHash::of(b"changed"));
    scene.put("a.txt", "other");
    assert_eq!(scene.sync_parts(&["a.txt"]).stale.len(), 1);
    fs::remove_dir_all(scene.docs.join("sub/deep")).unwrap();
    fs::remove_file(scene.docs.join("new.txt")).unwrap();
    assert!(scene.sync_parts(&["sub/deep", "new.txt"]).has_changed);
    assert_eq!(scene.names(), ["docs/a.txt", "docs/sub/b.txt"]);
    // A file in the place of a folder, and the other way round.
    fs::remove_dir_all(scene.docs.join("sub")).unwrap();
    scene.put("sub", "file");
    scene.sync_parts(&["sub"]);
    assert_eq!(scene.names(), ["docs/a.txt", "docs/sub"]);
    fs::remove_file(scene.docs.join("sub")).unwrap();
    scene.put("sub/x", "x");
    scene.sync_parts(&["sub"]);
    assert_eq!(scene.names(), ["docs/a.txt", "docs/sub/x"]);
}

#[test]
fn a_rename_costs_no_hashing() {
    let mut scene = Scene::new();
    for number in 0..20 {
        scene.put(&format!("films/{number}"), &format!("film {number}"));
    }
    scene.sync(&SyncScope::Whole);
    let (before, hashed) = (scene.shares(), scene.hashed);
    fs::rename(scene.docs.join("films/3"), scene.docs.join("three")).unwrap();
    scene.sync_parts(&["films/3", "three"]);
    assert_eq!(scene.shares()["docs/three"], before["docs/films/3"]);
    fs::rename(scene.docs.join("films"), scene.docs.join("movies")).unwrap();
    scene.sync_parts(&["films", "movies"]);
    fs::rename(scene.docs.join("movies"), scene.docs.join("pictures")).unwrap();
    scene.sync(&SyncScope::Whole);
    assert_eq!((scene.shares().len(), scene.hashed), (20, hashed));
    assert_eq!(scene.shares()["docs/pictures/7"], before["docs/films/7"]);
}

#[test]
fn a_file_that_is_being_written_is_left_for_later() {
    let mut scene = Scene::new();
    scene.put("a", "a");
    File::options().append(true).open(scene.docs.join("a")).unwrap().write_all(b"more").unwrap();
    let report = scene.sync(&SyncScope::Whole);
    assert_eq!((report.unsettled, scene.names().len()), (vec![PathBuf::from("a")], 0));
    scene.sync(&SyncScope::Parts(BTreeMap::from([("a".into(), WritePatience::Over)])));
    assert_eq!(scene.names(), ["docs/a"]);
}

#[test]
fn hidden_files_links_and_what_lies_behind_them_stay_out() {
    let mut scene = Scene::new();
    scene.put("sub/a", "a");
    scene.put(".git/config", "x");
    fs::create_dir(scene.docs.parent().unwrap().join("outside")).unwrap();
    scene.put("../outside/a", "secret");
    scene.sync(&SyncScope::Whole);
    assert_eq!(scene.names(), ["docs/sub/a"]);
    fs::rename(scene.docs.join("sub"), scene.docs.join("gone")).unwrap();
    symlink(scene.docs.parent().unwrap().join("outside"), scene.docs.join("sub")).unwrap();
    scene.sync_parts(&["sub/a", ".git/config", "gone"]);
    assert_eq!(scene.names(), ["docs/gone/a"]);
    scene.sync_parts(&["sub"]);
    assert_eq!(scene.names(), ["docs/gone/a"]);
}

#[test]
fn a_folder_that_is_not_there_has_not_lost_its_files() {
    let mut scene = Scene::new();
    scene.put("a", "a");
    scene.put("usb/b", "b");
    scene.put("closed/c", "c");
    scene.mounts.insert(scene.docs.join("usb"));
    scene.sync(&SyncScope::Whole);
    assert_eq!(scene.names().len(), 3);
    let (away, docs) = (scene.docs.with_extension("away"), scene.docs.clone());
    // The folder of the disk is empty once the disk is unplugged; or it is gone as well.
    scene.mounts.clear();
    fs::rename(docs.join("usb"), &away).unwrap();
    for _ in 0..2 {
        assert!(!scene.sync(&SyncScope::Whole).has_changed);
        assert!(!scene.sync_parts(&["usb"]).has_changed);
        let _ = fs::create_dir(docs.join("usb"));
    }
    assert_eq!(scene.names().len(), 3);
    scene.mounts.insert(docs.join("usb"));
    fs::remove_dir(docs.join("usb")).unwrap();
    fs::rename(&away, docs.join("usb")).unwrap();
    assert!(!scene.sync(&SyncScope::Whole).has_changed);
    // Emptied while its disk is there.
    fs::remove_file(docs.join("usb/b")).unwrap();
    scene.sync_parts(&["usb/b"]);
    assert_eq!(scene.names(), ["docs/a", "docs/closed/c"]);
    assert_eq!(scene.empty_folders(), ["docs/usb"]);
    // The whole folder.
    fs::rename(&docs, &away).unwrap();
    for scope in [SyncScope::Whole, SyncScope::Parts(BTreeMap::from([("a".into(), WritePatience::Wait)]))] {
        let report = scene.sync(&scope);
        assert!(!report.is_available && !report.has_changed);
    }
    assert_eq!(scene.names().len(), 2);
    fs::rename(&away, &docs).unwrap();
    assert!(scene.sync(&SyncScope::Whole).is_available);
}

#[test]
fn a_disk_that_goes_while_it_is_looked_at_takes_nothing_along() {
    let scene = Scene::new();
    scene.put("usb/a", "a");
    let (private, docs) = (PrivateData::of(&scene.profile), scene.docs.clone());
    let mounts = RefCell::new(HashSet::from([docs.join("usb")]));
    let sync = |watch: &mut dyn FnMut(&Path) -> bool| {
        let find = || mounts.borrow().clone();
        let sync = FolderSync::new(&scene.profile, &private, &scene.root, &find).unwrap();
        sync.run(&SyncScope::Whole, watch).unwrap()
    };
    let report = sync(&mut |_| false);
    let hashed = run_hash_jobs(&scene.profile, &private, &scene.root, &report.to_hash, &Mutex::new(()), &|| false);
    assert_eq!(hashed.unwrap().stored, 1);
    // Its folder is there and empty, and the system says so only afterwards.
    let _ = sync(&mut |folder| {
        let is_usb = folder == docs.join("usb") && docs.join("usb/a").exists();
        if is_usb {
            fs::remove_file(docs.join("usb/a")).unwrap();
            mounts.borrow_mut().clear();
        }
        is_usb
    });
    assert_eq!(scene.names(), ["docs/usb/a"]);
    // The whole folder, in the middle of a look.
    let away = docs.with_extension("away");
    let report = sync(&mut |_| fs::rename(&docs, &away).is_ok());
    assert!(!report.is_available && !report.has_changed);
    assert_eq!(scene.names(), ["docs/usb/a"]);
}

#[test]
fn a_folder_that_cannot_be_read_has_not_lost_its_files() {
    if rustix::process::geteuid().is_root() {
        // Nothing is closed to root; a test with the real programs does it as another user.
        return;
    }
    let mut scene = Scene::new();
    scene.put("closed/c", "c");
    scene.sync(&SyncScope::Whole);
    fs::set_permissions(scene.docs.join("closed"), PermissionsExt::from_mode(0o000)).unwrap();
    scene.sync(&SyncScope::Whole);
    fs::set_permissions(scene.docs.join("closed"), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(scene.names(), ["docs/closed/c"]);
}

#[test]
fn what_the_user_took_out_stays_out_until_the_folder_is_shared_again() {
    let mut scene = Scene::new();
    for name in ["a", "b", "sub/c", "sub/d"] {
        scene.put(name, name);
    }
    scene.sync(&SyncScope::Whole);
    let path = scene.docs.join("sub").to_string_lossy().into_owned();
    unshare(&scene.profile, &ALL, &["docs/a".to_owned(), path]).unwrap();
    scene.put("sub/e", "e");
    scene.sync(&SyncScope::Whole);
    scene.sync_parts(&["a", "sub/e", "sub"]);
    assert_eq!(scene.names(), ["docs/b"]);
    let left_out = survey_omissions(&scene.profile, &PrivateData::of(&scene.profile)).unwrap().by_reason();
    assert_eq!(left_out[&OmissionReason::Unshared].count, 4);
    share(&scene.profile, &ALL, &[scene.docs.clone()], None, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(scene.names().len(), 5);
    unshare(&scene.profile, &ALL, &["docs/".to_owned()]).unwrap();
    assert_eq!((scene.names().len(), scene.profile.share_roots().unwrap().len()), (0, 0));
    // A look that began before that stores nothing any more.
    assert!(!scene.sync(&SyncScope::Whole).has_changed);
}

#[test]
fn files_that_go_while_they_are_hashed_are_not_stored() {
    let mut scene = Scene::new();
    scene.put("a", "a");
    scene.put("b", "b");
    let private = PrivateData::of(&scene.profile);
    let sync = FolderSync::new(&scene.profile, &private, &scene.root, &HashSet::new).unwrap();
    let report = sync.run(&SyncScope::Whole, &mut |_| false).unwrap();
    // Hashed, and gone or another when it is their turn to be stored.
    let order = Mutex::new(());
    let held = order.lock();
    let hashed = std::thread::scope(|scope| {
        let run = || run_hash_jobs(&scene.profile, &private, &scene.root, &report.to_hash, &order, &|| false);
        let running = scope.spawn(run);
        // Whether it has read them by now or not, neither may be stored as it was.
        fs::remove_file(scene.docs.join("a")).unwrap();
        drop(held);
        running.join().unwrap().unwrap()
    });
    assert_eq!((hashed.stored, scene.names()), (1, vec!["docs/b".to_owned()]));
    scene.sync(&SyncScope::Whole);
}

#[test]
fn a_file_that_becomes_a_secret_is_shared_no_more() {
    let mut scene = Scene::new();
    scene.profile.identity().unwrap();
    scene.put("a", "a");
    scene.sync(&SyncScope::Whole);
    let key = fs::read_to_string(scene.profile.home().join("identity/identity.pem")).unwrap();
    scene.put("a", &format!("{}{key}", "x".repeat(100_000)));
    assert!(scene.sync(&SyncScope::Whole).has_changed);
    assert_eq!(scene.names(), [""; 0]);
}

#[test]
fn a_folder_is_empty_until_there_is_a_share_in_it() {
    let mut scene = Scene::new();
    fs::create_dir_all(scene.docs.join("sub/deep")).unwrap();
    scene.sync(&SyncScope::Whole);
    assert_eq!(scene.empty_folders(), ["docs/sub/deep"]);
    scene.put("sub/deep/a", "a");
    scene.sync_parts(&["sub/deep/a"]);
    assert_eq!(scene.empty_folders(), [""; 0]);
    fs::remove_file(scene.docs.join("sub/deep/a")).unwrap();
    scene.sync_parts(&["sub/deep/a"]);
    assert_eq!(scene.empty_folders(), ["docs/sub/deep"]);
    fs::remove_dir(scene.docs.join("sub/deep")).unwrap();
    scene.sync_parts(&["sub/deep"]);
    assert_eq!(scene.empty_folders(), ["docs/sub"]);
}

/// A change of the tree.
#[derive(Debug, Clone)]
enum TreeChange {
    Write(u8, u8),
    Remove(u8),
    Rename(u8, u8),
}

fn tree_changes() -> impl Strategy<Value = Vec<TreeChange>> {
    let path = 0_u8..12;
    let change = prop_oneof![
        (path.clone(), 0_u8..3).prop_map(|(path, content)| TreeChange::Write(path, content)),
        path.clone().prop_map(TreeChange::Remove),
        (path.clone(), path).prop_map(|(from, to)| TreeChange::Rename(from, to)),
    ];
    proptest::collection::vec(change, 1..25)
}

/// Returns one of 12 paths, of which some are folders of others.
fn tree_path(number: u8) -> &'static str {
    ["a", "b", "a/a", "a/b", "b/a", "b/b", "a/a/a", "c", ".h", "a/.h", "c/é", "b/a/x"][usize::from(number)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happens to a tree: a look at the paths that changed is as good as one at all of it.
    #[test]
    fn parts_lead_to_the_same_as_the_whole(rounds in proptest::collection::vec(tree_changes(), 1..4)) {
        let mut scene = Scene::new();
        scene.sync(&SyncScope::Whole);
        for changes in rounds {
            let mut touched = BTreeMap::new();
            for change in changes {
                let paths = apply(&scene, &change);
                touched.extend(paths.into_iter().map(|path| (PathBuf::from(path), WritePatience::Over)));
            }
            scene.sync(&SyncScope::Parts(touched));
            let (by_parts, empty) = (scene.shares(), scene.empty_folders());
            let whole = scene.sync(&SyncScope::Whole);
            prop_assert!(!whole.has_changed, "{:?} instead of {:?}", by_parts, scene.shares());
            prop_assert_eq!(empty, scene.empty_folders());
            for (name, hash) in by_parts {
                let content = fs::read(scene.root.path_of(&name.parse().unwrap()).unwrap()).unwrap();
                prop_assert_eq!(hash, ContentHash::of(&content));
            }
        }
    }
}

/// Does what can be done of a change; returns the paths that the system would report.
fn apply(scene: &Scene, change: &TreeChange) -> Vec<&'static str> {
    let at = |number: u8| scene.docs.join(tree_path(number));
    match change {
        TreeChange::Write(path, content) => {
            let is_free = |path: &Path| path.parent().is_none_or(Path::is_dir) && !path.is_dir();
            let (text, place) = (tree_path(*path), at(*path));
            if *content == 0 {
                let _ = fs::create_dir(&place);
            } else if is_free(&place) {
                scene.put(text, &"x".repeat(usize::from(*content)));
            }
            vec![text]
        }
        TreeChange::Remove(path) => {
            let place = at(*path);
            let _ = if place.is_dir() { fs::remove_dir_all(&place) } else { fs::remove_file(&place) };
            vec![tree_path(*path)]
        }
        TreeChange::Rename(from, to) => {
            let _ = fs::rename(at(*from), at(*to));
            vec![tree_path(*from), tree_path(*to)]
        }
    }
}
