//! The copy on a real disk.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A folder outside of which nothing may change, with a copy in it.
struct CopyBed {
    home: tempfile::TempDir,
    folder: FollowedFolder,
}

impl CopyBed {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().canonicalize().unwrap().join("copy");
        assert!(FollowedFolder::create(&path).unwrap() && !FollowedFolder::create(&path).unwrap());
        Self { folder: FollowedFolder::open(&path).unwrap(), home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("copy").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        write_file(&self.path(name), content);
    }

    /// Places a content as if it had been fetched.
    fn place(&mut self, at: &str, content: &str, replaces: Option<FileStamp>) -> Result<PlacedCopy, Error> {
        write_file(&self.folder.staging_path().join("staged"), content);
        let placed = self.folder.place(&name(at), "staged", replaces);
        self.folder.sync().unwrap();
        placed
    }
}

fn write_file(path: &Path, content: &str) {
    io::Write::write_all(&mut fs::File::create(path).unwrap(), content.as_bytes()).unwrap();
}

fn name(text: &str) -> FileName {
    text.parse().unwrap()
}

fn record(stamp: FileStamp, content: &str) -> RecordedFile {
    let hash = ContentHash::of(content.as_bytes());
    RecordedFile { size: stamp.size, mtime_ns: stamp.mtime_ns, hash, is_placed: true }
}

#[test]
fn a_file_is_placed_and_replaced_and_what_is_not_known_is_kept() {
    let mut bed = CopyBed::new();
    let first = bed.place("sub/a.txt", "one", None).unwrap();
    assert_eq!((bed.read("sub/a.txt"), first.kept), ("one".to_owned(), None));
    let second = bed.place("sub/a.txt", "second", Some(first.stamp)).unwrap();
    assert_eq!((bed.read("sub/a.txt"), second.kept), ("second".to_owned(), None));
    // Not the one that it may replace, by whatever race.
    let third = bed.place("sub/a.txt", "third", Some(first.stamp)).unwrap();
    assert_eq!((bed.read("sub/a.txt"), third.kept), ("third".to_owned(), Some(name("sub/a (mine).txt"))));
    let fourth = bed.place("sub/a.txt", "fourth", None).unwrap();
    assert_eq!(fourth.kept, Some(name("sub/a (mine 2).txt")));
    assert_eq!(
        (bed.read("sub/a (mine).txt"), bed.read("sub/a (mine 2).txt")),
        ("second".to_owned(), "third".to_owned())
    );
    assert!(bed.folder.staging.names().unwrap().is_empty());
}

#[test]
fn what_is_removed_goes_to_the_trash_unless_it_changed() {
    let mut bed = CopyBed::new();
    let placed = bed.place("a/b/c", "one", None).unwrap();
    let other = bed.place("a/other", "two", None).unwrap();
    let file = record(placed.stamp, "one");
    assert!(!bed.folder.remove(&name("a/b/c"), &record(placed.stamp, "two"), "2026-01-01").unwrap(), "another content");
    bed.write("a/other", "changed");
    assert!(!bed.folder.remove(&name("a/other"), &record(other.stamp, "two"), "2026-01-01").unwrap());
    assert!(bed.folder.remove(&name("a/b/c"), &file, "2026-01-01").unwrap());
    assert_eq!(bed.read(".vizinho-trash/2026-01-01/a/b/c"), "one");
    assert!(!bed.path("a/b").exists() && bed.path("a").exists(), "only what is empty goes");
    let again = bed.place("a/b/c", "one", None).unwrap();
    assert!(bed.folder.remove(&name("a/b/c"), &record(again.stamp, "one"), "2026-01-01").unwrap());
    assert_eq!(bed.read(".vizinho-trash/2026-01-01/a/b/c (1)"), "one");
    assert!(!bed.folder.remove(&name("a/b/c"), &file, "2026-01-01").unwrap(), "nothing is there");
    symlink(bed.home.path(), bed.path(".vizinho-trash/2025-12-24")).unwrap();
    bed.write(".vizinho-trash/notes", "the user's");
    bed.folder.clear_trash("2026-01-31".parse().unwrap());
    assert!(bed.path(".vizinho-trash/2026-01-01").exists(), "30 days");
    bed.folder.clear_trash("2026-02-01".parse().unwrap());
    assert!(!bed.path(".vizinho-trash/2026-01-01").exists());
    assert_eq!(bed.read(".vizinho-trash/notes"), "the user's");
    assert!(bed.path("a/other").exists(), "no link is followed");
}

#[test]
fn a_file_is_renamed_and_replaces_nothing() {
    let mut bed = CopyBed::new();
    let placed = bed.place("old/a", "one", None).unwrap();
    bed.write("taken", "mine");
    assert!(!bed.folder.rename(&name("old/a"), &name("taken"), &record(placed.stamp, "one")).unwrap());
    assert!(bed.folder.rename(&name("old/a"), &name("new/b"), &record(placed.stamp, "one")).unwrap());
    assert_eq!((bed.read("new/b"), bed.read("taken")), ("one".to_owned(), "mine".to_owned()));
    assert!(!bed.path("old").exists());
}

#[test]
fn links_and_folders_in_the_way_stay() {
    let mut bed = CopyBed::new();
    let outside = tempfile::tempdir().unwrap();
    write_file(&outside.path().join("a"), "outside");
    symlink(outside.path(), bed.path("sub")).unwrap();
    symlink(outside.path().join("a"), bed.path("link")).unwrap();
    bed.write("folder/inside", "x");
    for at in ["sub/a", "link", "folder", "folder/inside/deeper"] {
        assert!(bed.place(at, "new", None).is_err(), "{at}");
    }
    assert_eq!(bed.folder.look(&name("link")).unwrap(), LocalEntry::Other);
    assert_eq!(bed.folder.look(&name("sub/a")).unwrap(), LocalEntry::Missing);
    let stamp = FileStamp { size: 7, mtime_ns: 0 };
    assert!(!bed.folder.remove(&name("sub/a"), &record(stamp, "outside"), "2026-01-01").unwrap());
    assert_eq!(fs::read_to_string(outside.path().join("a")).unwrap(), "outside");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn the_place_of_a_disk_that_is_away_is_no_copy() {
    let bed = CopyBed::new();
    let path = bed.path("");
    fs::remove_dir(bed.path(STAGING)).unwrap();
    assert!(FollowedFolder::open(&path).is_err());
    fs::remove_dir(&path).unwrap();
    let error = FollowedFolder::open(&path).unwrap_err().to_string();
    assert!(error.contains("is its disk mounted?"), "{error}");
    assert!(!path.exists());
}

#[test]
fn what_was_put_aside_is_not_lost() {
    let bed = CopyBed::new();
    for left in ["0123-4567", "0123-4567.old", ".0123.part"] {
        write_file(&bed.folder.staging_path().join(left), left);
    }
    bed.folder.clear_staging();
    assert_eq!(bed.folder.staging.names().unwrap(), [".0123.part"], "it is resumed");
    assert_eq!(bed.read(&format!("{TRASH}/{}/0123-4567.old", today())), "0123-4567.old");
    let path = bed.path("");
    bed.folder.dissolve();
    assert!(!path.join(STAGING).exists());
}

#[test]
fn any_number_of_folders_is_synchronised() {
    let mut bed = CopyBed::new();
    // More than a process may have open, as a rule.
    for number in 0..1200 {
        fs::create_dir(bed.path(&format!("folder{number}"))).unwrap();
        bed.folder.note_changed(&name(&format!("folder{number}/file")));
    }
    bed.folder.sync().unwrap();
    assert!(bed.folder.changed.is_empty());
}
