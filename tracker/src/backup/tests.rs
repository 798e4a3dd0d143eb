//! Backups that are made, damaged, and restored into folders with data.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use certs::Identity;
use shared::Fingerprint;
use tempfile::TempDir;

use super::*;
use crate::store::{Account, PresenceStore, SqliteAccountStore};

struct Folder(TempDir);

impl Folder {
    /// A data folder with a key and these accounts.
    fn with(users: &[&str]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.fingerprint();
        let mut store = SqliteAccountStore::open(&folder.path(ACCOUNT_DATABASE)).unwrap();
        for user in users {
            let account = Account { user: user.parse().unwrap(), password_hash: "hash".to_owned(), binding: None };
            store.create(&account).unwrap();
        }
        drop(PresenceStore::open(&folder.path(PRESENCE_DATABASE)).unwrap());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn fingerprint(&self) -> Fingerprint {
        Identity::load_or_create(&self.path(IDENTITY_FOLDER)).unwrap().fingerprint()
    }

    fn users(&self) -> Vec<String> {
        let all = SqliteAccountStore::open(&self.path(ACCOUNT_DATABASE)).unwrap().bindings().unwrap();
        all.into_iter().map(|(user, _)| user.to_string()).collect()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.contains("-wal") && !name.contains("-shm"))
            .collect();
        names.sort();
        names
    }

    fn back_up(&self) -> tempfile::NamedTempFile {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        io::copy(&mut create_backup(self.0.path(), |_| Ok(false)).unwrap(), &mut named).unwrap();
        named
    }
}

fn spoilt(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut named = tempfile::NamedTempFile::new().unwrap();
    named.write_all(bytes).unwrap();
    named
}

#[test]
fn all_of_it_comes_back_and_what_was_there_is_kept() {
    let first = Folder::with(&["alice", "bob"]);
    let backup = first.back_up();
    assert_eq!(first.names(), [IDENTITY_FOLDER, PRESENCE_DATABASE, ACCOUNT_DATABASE], "nothing is left of the drafts");
    let second = Folder::with(&["carol"]);
    let old_key = second.fingerprint();
    let restored = restore(second.0.path(), backup.path()).unwrap();
    assert_eq!((restored.accounts, restored.fingerprint), (2, Some(first.fingerprint())));
    assert_eq!(second.users(), ["alice", "bob"]);
    assert_eq!(second.fingerprint(), first.fingerprint());
    assert_eq!(restored.previous_folder, Some(second.path("before-restore-1")));
    assert_eq!(second.names(), ["before-restore-1", IDENTITY_FOLDER, PRESENCE_DATABASE, ACCOUNT_DATABASE]);
    // The folder that keeps the old state is a data folder of its own.
    let before = second.path("before-restore-1");
    assert_eq!(Identity::load(&before.join(IDENTITY_FOLDER)).unwrap().unwrap().fingerprint(), old_key);
    assert_eq!(SqliteAccountStore::open(&before.join(ACCOUNT_DATABASE)).unwrap().bindings().unwrap().len(), 1);
    let again = restore(second.0.path(), backup.path()).unwrap();
    assert_eq!(again.previous_folder, Some(second.path("before-restore-2")));
}

#[test]
fn a_log_that_was_left_behind_does_not_change_what_is_restored() {
    let folder = Folder::with(&["alice"]);
    let backup = folder.back_up();
    // As after a kill: the log's changes are not in the database yet.
    let mut store = SqliteAccountStore::open(&folder.path(ACCOUNT_DATABASE)).unwrap();
    for n in 0..50 {
        let user = format!("late{n}").parse().unwrap();
        store.create(&Account { user, password_hash: "hash".to_owned(), binding: None }).unwrap();
    }
    let (db, wal) = (folder.path(ACCOUNT_DATABASE), folder.path("tracker.db-wal"));
    let (copy_db, copy_wal) = (fs::read(&db).unwrap(), fs::read(&wal).unwrap());
    drop(store);
    File::create(&db).unwrap().write_all(&copy_db).unwrap();
    File::create(&wal).unwrap().write_all(&copy_wal).unwrap();
    restore(folder.0.path(), backup.path()).unwrap();
    assert_eq!(folder.users(), ["alice"]);
    assert_eq!(
        SqliteAccountStore::open(&folder.path("before-restore-1").join(ACCOUNT_DATABASE))
            .unwrap()
            .bindings()
            .unwrap()
            .len(),
        51
    );
}

#[test]
fn a_journal_that_was_left_behind_does_not_change_what_is_restored() {
    let folder = Folder::with(&["alice"]);
    let backup = folder.back_up();
    let path = folder.path(ACCOUNT_DATABASE);
    let db = Connection::open(&path).unwrap();
    // As on a file system that can't have a write-ahead log.
    db.query_row("PRAGMA journal_mode = TRUNCATE", [], |row| row.get::<_, String>(0)).unwrap();
    for n in 0..50 {
        db.execute("INSERT INTO account VALUES (?1, hex(randomblob(999)), NULL)", [format!("late{n}")]).unwrap();
    }
    // The cache is too small for the transaction, so that it is in the file before it is committed.
    db.pragma_update(None, "cache_size", 1).unwrap();
    db.execute_batch("BEGIN; UPDATE account SET password_hash = hex(randomblob(999))").unwrap();
    let journal = folder.path("tracker.db-journal");
    let (cut_off, begun_with) = (fs::read(&path).unwrap(), fs::read(&journal).unwrap());
    drop(db);
    // As after a kill within the transaction.
    File::create(&path).unwrap().write_all(&cut_off).unwrap();
    File::create(&journal).unwrap().write_all(&begun_with).unwrap();
    restore(folder.0.path(), backup.path()).unwrap();
    assert_eq!(folder.users(), ["alice"]);
    let before = SqliteAccountStore::open(&folder.path("before-restore-1").join(ACCOUNT_DATABASE)).unwrap();
    assert_eq!(before.bindings().unwrap().len(), 51, "the journal went with its database");
}

#[test]
fn what_is_not_a_whole_backup_changes_nothing() {
    let source = Folder::with(&["alice", "bob"]);
    let bytes = fs::read(source.back_up().path()).unwrap();
    let mut folder = Folder::with(&["carol"]);
    let before = (folder.names(), folder.fingerprint());
    let refused = |bytes: &[u8]| restore(folder.0.path(), spoilt(bytes).path()).unwrap_err().to_string();
    assert!(refused(b"").contains("not a tracker's backup"));
    assert!(
        refused(b"something else, and longer than what tells a database from an archive").contains("not a tracker's")
    );
    assert!(refused(b"SQLite format 3\0 and so on").contains("damaged"));
    for length in [511, 512, 1500, 4000, bytes.len() / 2, bytes.len() - 2 * 512 - 8192] {
        let why = refused(&bytes[..length]);
        assert!(why.contains("damaged") || why.contains("not a tracker's"), "{length}: {why}");
    }
    assert_eq!((folder.names(), folder.fingerprint()), before);
    for position in (600..bytes.len() - 1024).step_by(997) {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1;
        // Padding and times in headers mean nothing; a backup that is restored has its original content.
        if let Ok(restored) = restore(folder.0.path(), spoilt(&flipped).path()) {
            assert_eq!((restored.accounts, restored.fingerprint), (2, Some(source.fingerprint())), "{position}");
            assert_eq!(folder.users(), ["alice", "bob"]);
            folder = Folder::with(&["carol"]);
            continue;
        }
        assert_eq!(folder.names(), before.0, "{position}");
        assert_eq!(folder.users(), ["carol"]);
    }
}

#[test]
fn a_plain_copy_of_the_accounts_leaves_the_key() {
    let source = Folder::with(&["alice"]);
    let folder = Folder::with(&["carol"]);
    let key = folder.fingerprint();
    let restored = restore(folder.0.path(), &source.path(ACCOUNT_DATABASE)).unwrap();
    assert_eq!((restored.accounts, restored.fingerprint), (1, None));
    assert_eq!((folder.users(), folder.fingerprint()), (vec!["alice".to_owned()], key));
}

#[test]
fn the_log_of_a_plain_database_is_part_of_it() {
    let source = Folder::with(&["alice"]);
    let folder = Folder::with(&["carol"]);
    let mut store = SqliteAccountStore::open(&source.path(ACCOUNT_DATABASE)).unwrap();
    let bob = Account { user: "bob".parse().unwrap(), password_hash: "hash".to_owned(), binding: None };
    store.create(&bob).unwrap();
    // As after a kill: what was written last is in the log alone.
    let killed = Folder(tempfile::tempdir().unwrap());
    for suffix in ["", "-wal"] {
        let name = format!("{ACCOUNT_DATABASE}{suffix}");
        fs::copy(source.path(&name), killed.path(&name)).unwrap();
    }
    let link = folder.path("link");
    std::os::unix::fs::symlink(killed.path(ACCOUNT_DATABASE), &link).unwrap();
    assert_eq!(restore(folder.0.path(), &link).unwrap().accounts, 2);
    assert_eq!(folder.users(), ["alice", "bob"]);
}

#[test]
fn another_format_is_left_to_the_tracker_that_made_it() {
    let folder = Folder::with(&[]);
    let refused = |format: u32| {
        let manifest = format!(r#"{{"vizinho_tracker_backup":{format},"tracker":"x","parts":{{}}}}"#);
        let mut header = tar::Header::new_gnu();
        header.set_size(manifest.len() as u64);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, "manifest.json", manifest.as_bytes()).unwrap();
        restore(folder.0.path(), spoilt(&archive.into_inner().unwrap()).path()).unwrap_err().to_string()
    };
    for (format, told) in [(0, "an older tracker made it (format 0"), (2, "a newer tracker made it (format 2")] {
        let why = refused(format);
        assert!(why.contains(told), "{why}");
    }
}

#[test]
fn newer_ones_are_left_to_newer_trackers() {
    let source = Folder::with(&["alice"]);
    let db = Connection::open(source.path(ACCOUNT_DATABASE)).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let folder = Folder::with(&[]);
    let why = restore(folder.0.path(), source.back_up().path()).unwrap_err().to_string();
    assert!(why.contains("newer tracker"), "{why}");
}

#[test]
fn wherever_a_restoration_was_cut_off_it_is_finished() {
    let source = Folder::with(&["alice"]);
    let backup = source.back_up();
    // Each state is one step further; the first is the point of no return.
    for step in 0..6 {
        let folder = Folder::with(&["carol", "dave"]);
        let other = Folder::with(&[]);
        restore(other.0.path(), backup.path()).unwrap();
        let ready = folder.path("restore.ready");
        fs::create_dir_all(ready.join("old")).unwrap();
        for name in [ACCOUNT_DATABASE, PRESENCE_DATABASE, IDENTITY_FOLDER] {
            fs::rename(other.path(name), ready.join(name)).unwrap();
        }
        let moves = [
            (folder.path(ACCOUNT_DATABASE), ready.join("old").join(ACCOUNT_DATABASE)),
            (ready.join(ACCOUNT_DATABASE), folder.path(ACCOUNT_DATABASE)),
            (folder.path(PRESENCE_DATABASE), ready.join("old").join(PRESENCE_DATABASE)),
            (ready.join(PRESENCE_DATABASE), folder.path(PRESENCE_DATABASE)),
            (folder.path(IDENTITY_FOLDER), ready.join("old").join(IDENTITY_FOLDER)),
            (ready.join(IDENTITY_FOLDER), folder.path(IDENTITY_FOLDER)),
        ];
        for (from, to) in moves.iter().take(step) {
            fs::rename(from, to).unwrap();
        }
        assert_eq!(finish_interrupted(folder.0.path()).unwrap(), Some(folder.path("before-restore-1")));
        assert_eq!((folder.users(), folder.fingerprint()), (vec!["alice".to_owned()], source.fingerprint()));
        let before = SqliteAccountStore::open(&folder.path("before-restore-1").join(ACCOUNT_DATABASE))
            .unwrap()
            .bindings()
            .unwrap();
        assert_eq!(before.len(), 2, "step {step}");
        assert_eq!(finish_interrupted(folder.0.path()).unwrap(), None);
    }
}

#[test]
fn empty_journals_of_the_restored_databases_do_not_stop_a_restoration() {
    let (source, folder) = (Folder::with(&["alice"]), Folder::with(&["carol"]));
    let ready = folder.path("restore.ready");
    fs::create_dir(&ready).unwrap();
    for name in [ACCOUNT_DATABASE, PRESENCE_DATABASE] {
        fs::copy(source.path(name), ready.join(name)).unwrap();
        // As on a file system that can't have a write-ahead log.
        drop(File::create(ready.join(format!("{name}-journal"))).unwrap());
    }
    assert_eq!(finish_interrupted(folder.0.path()).unwrap(), Some(folder.path("before-restore-1")));
    assert_eq!(folder.users(), ["alice"]);
    assert!(!ready.exists());
}

#[test]
fn leftovers_are_swept() {
    let folder = Folder::with(&["alice"]);
    fs::create_dir_all(folder.path("backup-abc.tmp").join("x")).unwrap();
    fs::create_dir_all(folder.path("restore.tmp")).unwrap();
    drop(File::create(folder.path("backup-0123456789abcdef.tmp")).unwrap());
    remove_leftovers(folder.0.path()).unwrap();
    assert_eq!(folder.names(), [IDENTITY_FOLDER, PRESENCE_DATABASE, ACCOUNT_DATABASE]);
}
