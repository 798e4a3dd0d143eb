use std::time::{Duration, SystemTime};

use shared::{Fingerprint, UserName};

use super::*;
use crate::store::Account;
use crate::store::test_store::TestStore;

fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n; 32])
}

/// Takes away what version 7 added.
const WITHOUT_ROOMS: &str = "DROP TABLE room; DROP TABLE room_member; DROP TABLE room_standing;
    DROP TABLE room_record; DROP TABLE room_open_cut; DROP TABLE room_setting;";

fn lost<T: std::fmt::Debug>(done: &Result<T, AccountStoreError>) {
    assert!(matches!(done, Err(AccountStoreError::Lost(_))), "{done:?}");
}

fn account(user: &str, binding: Option<Fingerprint>) -> Account {
    Account { user: user.parse().unwrap(), password_hash: format!("hash of {user}"), binding }
}

#[test]
fn every_commit_is_synced() {
    let mut store = TestStore::new_sqlite();
    let db = &store.sqlite().db;
    let level: u32 = db.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
    let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!((level, mode.as_str()), (2, "wal"));
}

#[test]
fn nothing_is_written_to_a_file_that_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut store = TestStore::open(&path);
    let bob = account("bob", None);
    store.create(&bob, None).unwrap();
    std::fs::remove_file(&path).unwrap();
    lost(&store.create(&account("eve", None), None));
    lost(&store.set_password(&bob.user, &bob.password_hash, "new"));
    lost(&store.reset_password(&bob.user, "new"));
    lost(&store.bind(&bob.user, None, key(1)));
    lost(&store.unbind(&bob.user));
    lost(&store.remove(&bob.user));
    lost(&store.probe());
    assert_eq!(store.find(&bob.user).unwrap(), Some(bob));
    assert!(!path.exists());
}

#[test]
fn accounts_of_version_5_have_a_year_to_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut store = TestStore::open(&path);
    let bob = account("bob", None);
    store.create(&bob, None).unwrap();
    drop(store);
    let old = Connection::open(&path).unwrap();
    old.execute_batch(WITHOUT_ROOMS).unwrap();
    old.execute_batch("DROP TABLE unused_account; PRAGMA user_version = 5;").unwrap();
    drop(old);
    let store = TestStore::open(&path);
    let after_days = |days: u64| SystemTime::now() + Duration::from_secs(days * 86_400);
    assert_eq!(store.lapsed(after_days(364), 9).unwrap(), []);
    assert_eq!(store.lapsed(after_days(366), 9).unwrap(), [bob.user]);
}

#[test]
fn older_accounts_keep_their_names_and_claim_what_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../fixtures/accounts_of_version_1.sql")).unwrap();
    drop(old);
    let mut store = TestStore::open(&path);
    let all: Vec<String> = store.bindings().unwrap().into_iter().map(|(user, _)| user.to_string()).collect();
    assert_eq!(all, ["--help", "-x", "..", "BOB", "Bob", "alice", "b0b", "bob"]);
    assert_eq!(store.find(&"-x".parse().unwrap()).unwrap().unwrap().password_hash, "hash of -x");
    let like_bob = store.names_ignoring_case(&"bOb".parse().unwrap()).unwrap();
    assert_eq!(like_bob.iter().map(UserName::as_str).collect::<Vec<_>>(), ["BOB", "Bob", "bob"]);
    let refused = |store: &mut TestStore| {
        let created = store.create(&account("boB", None), None);
        assert!(matches!(created, Err(AccountStoreError::NameLike { .. })), "{created:?}");
    };
    // The name stays claimed by the remaining accounts, whichever is removed.
    for user in ["BOB", "bob", "Bob", "b0b"] {
        refused(&mut store);
        store.remove(&user.parse().unwrap()).unwrap();
    }
    store.create(&account("boB", None), None).unwrap();
    store.create(&account("x", None), None).unwrap_err();
    assert_eq!(SqliteAccountStore::check_backup(&path).unwrap(), 5);
}

/// Sets a database back to the table of claims whose keys are texts, and runs `rows` on it.
fn set_text_claims(path: &Path, rows: &str) {
    let old = Connection::open(path).unwrap();
    old.execute_batch(WITHOUT_ROOMS).unwrap();
    old.execute_batch(
        "DROP TABLE name_claim;
        DROP TABLE unused_account;
        CREATE TABLE name_claim (kind TEXT NOT NULL, key TEXT NOT NULL, user TEXT NOT NULL, PRIMARY KEY (kind, key))
            STRICT, WITHOUT ROWID;
        CREATE INDEX name_claim_user ON name_claim (user);",
    )
    .unwrap();
    old.execute_batch(rows).unwrap();
}

#[test]
fn accounts_of_version_3_claim_what_looks_like_them_now() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut store = TestStore::open(&path);
    store.create(&account("vl-2", None), None).unwrap();
    store.create(&account("mary", None), None).unwrap();
    drop(store);
    // Claims as schema version 3 made them.
    set_text_claims(
        &path,
        "INSERT INTO name_claim VALUES ('case', 'vl-2', 'vl-2'), ('case', 'mary', 'mary');
        INSERT INTO name_claim VALUES ('look', 'vl2', 'vl-2'), ('look', 'mary', 'mary');
        PRAGMA user_version = 3;",
    );
    let mut store = TestStore::open(&path);
    for (wanted, taken) in [("v1-2", "vl-2"), ("rnary", "mary"), ("MARY", "mary")] {
        let created = store.create(&account(wanted, None), None);
        assert!(
            matches!(&created, Err(AccountStoreError::NameLike { taken: it, .. }) if it.as_str() == taken),
            "{created:?}"
        );
    }
    store.create(&account("bob", None), None).unwrap();
}

#[test]
fn the_claims_of_version_4_stay_with_those_who_had_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut store = TestStore::open(&path);
    store.create(&account("bob", None), None).unwrap();
    drop(store);
    // Both are older than claims; the later one has them.
    set_text_claims(
        &path,
        "INSERT INTO account VALUES ('b0b', 'hash of b0b', NULL);
        INSERT INTO name_claim VALUES ('case', 'bob', 'bob'), ('look', 'bob', 'bob'), ('case', 'b0b', 'b0b');
        PRAGMA user_version = 4;",
    );
    let mut store = TestStore::open(&path);
    let taken = |store: &mut TestStore, wanted: &str| match store.create(&account(wanted, None), None) {
        Err(AccountStoreError::NameLike { taken, .. }) => taken.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!((taken(&mut store, "b.o.b"), taken(&mut store, "B0B")), ("bob".to_owned(), "b0b".to_owned()));
    store.remove(&"bob".parse().unwrap()).unwrap();
    assert_eq!(taken(&mut store, "b.o.b"), "b0b");
    assert_eq!(SqliteAccountStore::check_backup(&path).unwrap(), 1);
}

#[test]
fn an_account_takes_little_of_the_disk_whatever_its_name_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut store = TestStore::open(&path);
    store.sqlite().db.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let empty: i64 = store.sqlite().db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let mut created = 0;
    // Names with as many readings as there can be.
    for number in 0..2000_u32 {
        let letters: String = (0..11).map(|bit| if number >> bit & 1 == 1 { 'x' } else { 'y' }).collect();
        let user = format!("1I1I1I1I1I1I1I1I1I1I{letters}");
        let password_hash = "h".repeat(97);
        store.create(&Account { user: user.parse().unwrap(), password_hash, binding: None }, None).unwrap();
        created += 1;
    }
    let pages: i64 = store.sqlite().db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    assert_eq!(store.count().unwrap(), created);
    let each = (pages - empty) * 4096 / 2000;
    assert!(each <= 3072, "{each} bytes an account");
}

#[test]
fn a_probe_is_written_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let log = || folder.path().join("db-wal").metadata().unwrap().len();
    let mut store = TestStore::open(&path);
    store.create(&account("bob", None), None).unwrap();
    let before = log();
    store.probe().unwrap();
    assert!(log() > before);
    assert_eq!(SqliteAccountStore::check_backup(&path).unwrap(), 1);
}

#[test]
fn files_that_can_t_be_used_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    std::fs::File::create(&path).and_then(|mut file| std::io::Write::write_all(&mut file, &[7; 8192])).unwrap();
    assert!(matches!(SqliteAccountStore::open(&path), Err(AccountDatabaseError::Damaged { .. })));
    let newer = folder.path().join("newer");
    drop(TestStore::open(&newer));
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 9).unwrap();
    assert!(matches!(SqliteAccountStore::open(&newer), Err(AccountDatabaseError::TooNew { found: 9, known: 7, .. })));
    assert!(matches!(
        SqliteAccountStore::open(&folder.path().join("no/db")),
        Err(AccountDatabaseError::Unusable { .. })
    ));
}
