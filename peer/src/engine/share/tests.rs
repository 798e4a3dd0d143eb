//! Tests of sharing real files from real folders.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;

use shared::ContentHash;

use super::*;

const ALL: Audience = Audience::Everybody;

struct Home {
    _folder: tempfile::TempDir,
    data: PathBuf,
    profile: Profile,
}

fn home() -> Home {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir_all(data.join("docs/sub")).unwrap();
    let profile = Profile::open(&folder.path().join("profile")).unwrap();
    Home { _folder: folder, data, profile }
}

fn put(path: &Path, content: &[u8]) {
    io::Write::write_all(&mut File::create(path).unwrap(), content).unwrap();
}

fn names(profile: &Profile) -> Vec<String> {
    let mut names = Vec::new();
    for_each_share(profile, &ALL, "", |share| names.push(share.name.as_str().to_owned())).unwrap();
    names
}

fn quiet(_: ShareEvent<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Returns the number of omissions by reason.
fn left_out(summary: &ShareSummary) -> Vec<(&'static str, usize)> {
    summary.omissions.by_reason().into_iter().map(|(reason, group)| (reason.as_str(), group.count)).collect()
}

#[test]
fn folders_are_walked_without_hidden_files_and_links() {
    let home = home();
    put(&home.data.join("docs/a.txt"), b"a");
    put(&home.data.join("docs/sub/b.txt"), b"");
    put(&home.data.join("docs/.hidden"), b"x");
    put(&home.data.join("docs/new\nline"), b"x");
    put(&home.data.join("docs/\u{202e}fdp"), b"x");
    put(&home.data.join(".named"), b"x");
    symlink(home.data.join(".named"), home.data.join("docs/link")).unwrap();
    symlink(&home.data, home.data.join("docs/sub/loop")).unwrap();
    let paths = [home.data.join("docs"), home.data.join(".named")];
    let summary = share(&home.profile, &ALL, &paths, None, &mut quiet).unwrap();
    assert_eq!(names(&home.profile), [".named", "docs/a.txt", "docs/new␛0A␛line", "docs/sub/b.txt"]);
    assert_eq!((summary.shared, summary.bytes), (4, 3));
    assert_eq!(left_out(&summary), [("hidden", 1), ("link", 2), ("name", 1)]);
    assert_eq!(summary.omissions.failure_count(), 1, "hidden files and links are left out by design");
}

#[test]
fn a_link_that_is_named_is_followed_under_its_own_name() {
    let home = home();
    put(&home.data.join("docs/a.txt"), b"a");
    symlink(home.data.join("docs"), home.data.join("Documents")).unwrap();
    symlink(home.data.join("docs/a.txt"), home.data.join("letter")).unwrap();
    symlink(home.data.join("nowhere"), home.data.join("broken")).unwrap();
    let paths = ["Documents", "letter", "broken"].map(|name| home.data.join(name));
    let summary = share(&home.profile, &ALL, &paths, None, &mut quiet).unwrap();
    assert_eq!(names(&home.profile), ["Documents/a.txt", "letter"]);
    assert_eq!(left_out(&summary), [("missing", 1)]);
    let with_slash = home.data.join("Documents/");
    assert_eq!(share(&home.profile, &ALL, &[with_slash], None, &mut quiet).unwrap().unchanged, 1);
    assert_eq!(names(&home.profile), ["Documents/a.txt", "letter"]);
}

#[test]
fn private_files_are_never_shared_by_whatever_way() {
    let home = home();
    let root = home.data.parent().unwrap();
    home.profile.identity().unwrap();
    let other = Profile::open(&root.join("data/other")).unwrap();
    other.identity().unwrap();
    let key = root.join("profile/identity/identity.pem");
    fs::hard_link(&key, home.data.join("docs/hard")).unwrap();
    put(&home.data.join("docs/copy"), &fs::read(&key).unwrap());
    put(&home.data.join("docs/a"), b"a");
    put(&home.data.join("docs/.a.01234567.part"), b"a");
    symlink(&key, home.data.join("link")).unwrap();
    let summary =
        share(&home.profile, &ALL, &[home.data.clone(), root.to_owned()], Some(&"all".parse().unwrap()), &mut quiet);
    let summary = summary.unwrap();
    assert_eq!(names(&home.profile), ["all/data/docs/a", "all/docs/a"]);
    assert_eq!(summary.omissions.failure_count(), 0);
    for named in [key, home.data.join("link"), home.data.join("other/profile.db"), home.data.join("docs/hard")] {
        let summary = share(&home.profile, &ALL, std::slice::from_ref(&named), None, &mut quiet).unwrap();
        assert_eq!((summary.shared, left_out(&summary)), (0, vec![("private", 1)]), "{named:?}");
        let offered = hash_path(&home.profile, &ALL, &named, None, &mut ignore_progress);
        assert!(offered.is_err(), "{named:?}");
    }
    for named in ["docs/copy", "docs/.a.01234567.part"].map(|name| home.data.join(name)) {
        let file = vec![(named.clone(), "x".parse().unwrap())];
        assert_eq!(left_out(&share_files(&home.profile, &ALL, file, &mut quiet).unwrap()), [("private", 1)]);
        assert!(hash_path(&home.profile, &ALL, &named, None, &mut ignore_progress).is_err());
    }
    assert_eq!(names(&home.profile), ["all/data/docs/a", "all/docs/a"]);
}

#[test]
fn a_folder_of_which_nothing_is_shared_is_an_empty_one() {
    let home = home();
    for folder in ["docs/hidden", "docs/links", "docs/nothing", "docs/refused", "docs/full", "docs/deep/deeper"] {
        fs::create_dir_all(home.data.join(folder)).unwrap();
    }
    put(&home.data.join("docs/hidden/.x"), b"x");
    put(&home.data.join("docs/refused/\u{202e}fdp"), b"x");
    put(&home.data.join("docs/full/x"), b"x");
    symlink("/etc/passwd", home.data.join("docs/links/link")).unwrap();
    let summary = share(&home.profile, &ALL, &[home.data.join("docs")], None, &mut quiet).unwrap();
    assert_eq!((names(&home.profile), summary.omissions.failure_count()), (vec!["docs/full/x".to_owned()], 1));
    let folders = home.profile.empty_folders_page(&[ALL], "", "", 99).unwrap();
    let folders: Vec<&str> = folders.iter().map(FileName::as_str).collect();
    assert_eq!(folders, ["docs/deep/deeper", "docs/hidden", "docs/links", "docs/nothing", "docs/refused", "docs/sub"]);
}

#[test]
fn files_are_shared_under_the_names_they_are_given() {
    let home = home();
    put(&home.data.join("docs/a"), b"1");
    put(&home.data.join("docs/sub/a"), b"2");
    let named = |path: &str, name: &str| (home.data.join(path), name.parse().unwrap());
    let both = vec![named("docs/a", "tree/a"), named("docs/sub/a", "tree/sub/a"), named("docs/nothing", "x")];
    let summary = share_files(&home.profile, &ALL, both, &mut quiet).unwrap();
    assert_eq!((summary.shared, summary.omissions.failure_count()), (2, 1));
    assert_eq!(names(&home.profile), ["tree/a", "tree/sub/a"]);
}

#[test]
fn what_did_not_change_is_not_hashed_again() {
    let home = home();
    let path = home.data.join("a");
    put(&path, &vec![1; 3 << 20]);
    let hashed_bytes = |profile: &Profile| {
        let mut bytes = 0;
        share(profile, &ALL, std::slice::from_ref(&path), None, &mut |event| {
            if let ShareEvent::Hashed(some) = event {
                bytes += some;
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        bytes
    };
    assert_eq!(hashed_bytes(&home.profile), 3 << 20);
    assert_eq!(hashed_bytes(&home.profile), 0);
    put(&path, b"other");
    assert_eq!(hashed_bytes(&home.profile), 5);
    let stored = home.profile.share(&ALL, &"a".parse().unwrap()).unwrap().unwrap();
    assert_eq!(stored.hash, ContentHash::of(b"other"));
}

#[test]
fn a_name_is_not_taken_over_by_another_file() {
    let home = home();
    put(&home.data.join("docs/x"), b"one");
    put(&home.data.join("docs/sub/x"), b"two");
    share(&home.profile, &ALL, &[home.data.join("docs/x")], None, &mut quiet).unwrap();
    let again = share(&home.profile, &ALL, &[home.data.join("docs/sub/x")], None, &mut quiet).unwrap();
    assert_eq!((again.shared, left_out(&again)), (0, vec![("name_taken", 1)]));
    let renamed = "y".parse().unwrap();
    let again = share(&home.profile, &ALL, &[home.data.join("docs/sub/x")], Some(&renamed), &mut quiet).unwrap();
    assert_eq!((again.shared, names(&home.profile)), (1, vec!["x".to_owned(), "y".to_owned()]));
}

#[test]
fn a_changed_share_is_noticed_and_refreshed() {
    let home = home();
    let path = home.data.join("a");
    put(&path, b"one");
    share(&home.profile, &ALL, std::slice::from_ref(&path), None, &mut quiet).unwrap();
    let before = home.profile.share(&ALL, &"a".parse().unwrap()).unwrap().unwrap();
    assert_eq!(freshness(&before), ShareFreshness::Fresh);
    put(&path, b"three");
    assert_eq!(freshness(&before), ShareFreshness::Changed { grown: true });
    assert_eq!(refresh(&home.profile, &before, &mut ignore_progress).unwrap(), RefreshOutcome::Done);
    let now = || home.profile.share(&ALL, &"a".parse().unwrap()).unwrap().unwrap();
    let after = now();
    assert_eq!(after.hash, ContentHash::of(b"three"));
    fs::remove_file(&path).unwrap();
    assert_eq!(freshness(&after), ShareFreshness::Missing);
    assert_eq!(refresh(&home.profile, &after, &mut ignore_progress).unwrap(), RefreshOutcome::Gone);
    assert_eq!(freshness(&after), ShareFreshness::Missing);
    put(&path, b"other");
    assert_eq!(refresh(&home.profile, &after, &mut ignore_progress).unwrap(), RefreshOutcome::Done);
    assert_eq!(now().hash, ContentHash::of(b"other"));
}

fn hashed_bytes(profile: &Profile, path: &Path) -> u64 {
    let mut bytes = 0;
    share(profile, &ALL, &[path.to_owned()], None, &mut |event| {
        if let ShareEvent::Hashed(some) = event {
            bytes += some;
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    bytes
}

#[test]
fn what_was_hashed_before_an_interruption_is_shared() {
    let home = home();
    for name in ["a", "b", "c"] {
        put(&home.data.join("docs").join(name), &vec![name.as_bytes()[0]; 3 << 20]);
    }
    let mut bytes = 0;
    // In the middle of the second file.
    let summary = share(&home.profile, &ALL, &[home.data.join("docs")], None, &mut |event| {
        if let ShareEvent::Hashed(some) = event {
            bytes += some;
        }
        if bytes > 4 << 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!((summary.shared, summary.interrupted_total), (1, Some(3)));
    assert!(summary.omissions.is_empty());
    assert_eq!(names(&home.profile).len(), 1);
    let again = share(&home.profile, &ALL, &[home.data.join("docs")], None, &mut quiet).unwrap();
    assert_eq!((again.shared, again.unchanged, again.interrupted_total), (3, 1, None));
}

#[test]
fn what_has_its_size_and_time_set_back_is_hashed_again() {
    let home = home();
    let path = home.data.join("a");
    put(&path, &vec![1; 3 << 20]);
    assert_eq!(hashed_bytes(&home.profile, &path), 3 << 20);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut content = vec![1; 3 << 20];
    // Neither at the beginning nor at the end.
    content[(3 << 19) + 1] = 2;
    put(&path, &content);
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(hashed_bytes(&home.profile, &path), 3 << 20);
    let stored = home.profile.share(&ALL, &"a".parse().unwrap()).unwrap().unwrap();
    assert_eq!(stored.hash, ContentHash::of(&content));
    assert_eq!(hashed_bytes(&home.profile, &path), 0);
}

#[test]
fn another_mode_name_or_inode_costs_one_look() {
    let home = home();
    let docs = home.data.join("docs");
    let (one, two) = (docs.join("one"), docs.join("two"));
    put(&one, &vec![1; 3 << 20]);
    put(&docs.join("other"), &vec![2; 2 << 20]);
    fs::hard_link(&one, &two).unwrap();
    assert_eq!(hashed_bytes(&home.profile, &docs), 5 << 20, "one file by two names is hashed once");
    fs::set_permissions(&one, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::hard_link(&one, docs.join("three")).unwrap();
    fs::rename(&two, docs.join("sub/moved")).unwrap();
    assert_eq!(hashed_bytes(&home.profile, &docs), 3 << 20, "the file whose mode is another, once by all its names");
    assert_eq!(hashed_bytes(&home.profile, &docs), 0);
    fs::rename(docs.join("other"), docs.join("renamed")).unwrap();
    assert_eq!(hashed_bytes(&home.profile, &docs), 0);
    fs::rename(docs.join("renamed"), docs.join("other")).unwrap();
    let moved = home.data.join("moved");
    fs::rename(&docs, &moved).unwrap();
    assert_eq!(hashed_bytes(&home.profile, &moved), 0);
    // As a backup that is played back.
    let (saved, copy) = (moved.join("saved"), home.data.join("copy"));
    put(&saved, &vec![4; 2 << 20]);
    assert_eq!(hashed_bytes(&home.profile, &moved), 2 << 20);
    fs::copy(&saved, &copy).unwrap();
    let time = fs::metadata(&saved).unwrap().modified().unwrap();
    File::options().write(true).open(&copy).unwrap().set_modified(time).unwrap();
    fs::rename(&copy, &saved).unwrap();
    let before = home.profile.share(&ALL, &"moved/saved".parse().unwrap()).unwrap().unwrap();
    assert_eq!(freshness(&before), ShareFreshness::Touched);
    assert_eq!(hashed_bytes(&home.profile, &moved), 2 << 20);
    assert_eq!(hashed_bytes(&home.profile, &moved), 0);
    // Another file with a name that was another's.
    put(&moved.join("one"), &vec![3; 3 << 20]);
    assert_eq!(hashed_bytes(&home.profile, &moved), 3 << 20);
}

#[test]
fn unshare_finds_names_in_another_normal_form_and_as_they_are_shown() {
    let home = home();
    for name in ["docs/cafe\u{301}", "Sa\u{303}o/a", "Sa\u{303}o/b", "docs/a\nb"] {
        fs::create_dir_all(home.data.join(name).parent().unwrap()).unwrap();
        put(&home.data.join(name), name.as_bytes());
    }
    share(&home.profile, &ALL, &["docs", "Sa\u{303}o"].map(|name| home.data.join(name)), None, &mut quiet).unwrap();
    for (text, left) in [("docs/caf\u{e9}", 3), ("S\u{e3}o/", 1), ("docs/a␊b", 0)] {
        unshare(&home.profile, &ALL, &[text.to_owned()]).unwrap();
        assert_eq!(names(&home.profile).len(), left, "{text}");
    }
}

#[test]
fn a_text_that_names_nothing_leaves_all_as_it_was() {
    let home = home();
    put(&home.data.join("docs/a"), b"a");
    fs::create_dir_all(home.data.join("docs/empty")).unwrap();
    share(&home.profile, &ALL, &[home.data.join("docs")], None, &mut quiet).unwrap();
    let folders = || home.profile.folder_times_page(&[ALL], "", "", 9).unwrap().len();
    let before = folders();
    assert!(before > 1, "the empty folder is one");
    assert!(unshare(&home.profile, &ALL, &["docs/empty".into(), "docs/".into(), "nothing".into()]).is_err());
    assert_eq!((names(&home.profile).len(), folders()), (1, before));
    unshare(&home.profile, &ALL, &["docs/empty".into(), "docs/".into()]).unwrap();
    assert_eq!((names(&home.profile).len(), folders()), (0, 0));
}

#[test]
fn unshare_by_name_folder_and_path() {
    let home = home();
    for name in ["docs/a", "docs/b", "docs/sub/c", "docs/sub/d"] {
        put(&home.data.join(name), name.as_bytes());
    }
    share(&home.profile, &ALL, &[home.data.join("docs")], None, &mut quiet).unwrap();
    unshare(&home.profile, &ALL, &["docs/a".into(), "docs/sub/".into()]).unwrap();
    assert_eq!(names(&home.profile), ["docs/b"]);
    assert!(unshare(&home.profile, &ALL, &["nothing".into()]).is_err());
    unshare(&home.profile, &ALL, &[home.data.join("docs/b").to_string_lossy().into_owned()]).unwrap();
    assert!(names(&home.profile).is_empty());
}
