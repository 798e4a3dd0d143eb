use super::*;

/// None of these accounts is in a room, so nothing is signed.
const UNSIGNED: RecordStamp<'_> = RecordStamp { signer: None, now: UNIX_EPOCH };

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
fn what_was_stored_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let (alice, bob) = (account("alice", None), account("bob", Some(key(1))));
    {
        let mut store = SqliteAccountStore::open(&path).unwrap();
        store.create(&alice, None).unwrap();
        store.create(&bob, None).unwrap();
    }
    let mut store = SqliteAccountStore::open(&path).unwrap();
    assert_eq!(store.find(&alice.user).unwrap(), Some(alice.clone()));
    assert_eq!(store.find(&"Bob".parse().unwrap()).unwrap(), None);
    assert_eq!(store.bindings().unwrap(), [(alice.user, None), (bob.user, Some(key(1)))]);
    let level: u32 = store.db.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
    let mode: String = store.db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!((level, mode.as_str()), (2, "wal"));
}

#[test]
fn nothing_is_written_to_a_file_that_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut store = SqliteAccountStore::open(&path).unwrap();
    let bob = account("bob", None);
    store.create(&bob, None).unwrap();
    std::fs::remove_file(&path).unwrap();
    lost(&store.create(&account("eve", None), None));
    lost(&store.set_password(&bob.user, &bob.password_hash, "new"));
    lost(&store.reset_password(&bob.user, "new"));
    lost(&store.bind(&bob.user, None, key(1), UNSIGNED));
    lost(&store.unbind(&bob.user, UNSIGNED));
    lost(&store.remove(&bob.user, UNSIGNED));
    lost(&store.probe());
    assert_eq!(store.find(&bob.user).unwrap(), Some(bob));
    assert!(!path.exists());
}

#[test]
fn names_and_keys_are_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
    store.create(&account("bob", Some(key(1))), None).unwrap();
    store.create(&account("eve", None), None).unwrap();
    let eve: UserName = "eve".parse().unwrap();
    assert!(matches!(store.create(&account("bob", None), None), Err(AccountStoreError::NameTaken(_))));
    assert!(matches!(store.create(&account("mallory", Some(key(1))), None), Err(AccountStoreError::KeyTaken)));
    assert!(matches!(store.bind(&eve, None, key(1), UNSIGNED), Err(AccountStoreError::KeyTaken)));
    store.bind(&eve, None, key(2), UNSIGNED).unwrap();
    assert!(matches!(store.bind(&eve, None, key(3), UNSIGNED), Err(AccountStoreError::Changed)));
    let former = FormerKey { fingerprint: key(2), user: eve.clone(), since: UNIX_EPOCH + Duration::from_secs(7) };
    store.bind(&eve, Some(&former), key(3), UNSIGNED).unwrap();
    assert_eq!(store.former_keys().unwrap(), [former]);
    assert!(matches!(store.set_password(&eve, "other", "new"), Err(AccountStoreError::Changed)));
    store.set_password(&eve, "hash of eve", "new").unwrap();
    let found = store.find(&eve).unwrap().unwrap();
    assert_eq!((found.password_hash.as_str(), found.binding), ("new", Some(key(3))));
}

#[test]
fn a_write_that_is_repeated_changes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
    let (bob, now) = (account("bob", None), UNIX_EPOCH + Duration::from_secs(7));
    let former = FormerKey { fingerprint: key(1), user: bob.user.clone(), since: now };
    for _ in 0..2 {
        store.create(&bob, Some(now)).unwrap();
    }
    let other = Account { password_hash: "another salt".to_owned(), ..bob.clone() };
    assert!(matches!(store.create(&other, None), Err(AccountStoreError::NameTaken(_))));
    for _ in 0..2 {
        store.set_password(&bob.user, &bob.password_hash, "new").unwrap();
        store.mark_used(&bob.user).unwrap();
    }
    store.bind(&bob.user, None, key(1), UNSIGNED).unwrap();
    for _ in 0..2 {
        store.bind(&bob.user, Some(&former), key(2), UNSIGNED).unwrap();
    }
    assert_eq!((store.count().unwrap(), store.former_keys().unwrap()), (1, vec![former]));
    assert_eq!(store.find(&bob.user).unwrap().unwrap().binding, Some(key(2)));
    assert_eq!(store.unused().unwrap(), []);
    for _ in 0..2 {
        store.unbind(&bob.user, UNSIGNED).unwrap();
    }
}

#[test]
fn accounts_that_were_never_used_lapse_and_free_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
    let after = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let [alice, bob, eve, zoe] = ["alice", "bob", "eve", "zoe"].map(|user| account(user, None));
    store.create(&alice, None).unwrap();
    store.create(&bob, Some(after(10))).unwrap();
    store.create(&eve, Some(after(9))).unwrap();
    store.create(&zoe, Some(after(8))).unwrap();
    store.mark_used(&zoe.user).unwrap();
    assert_eq!(store.unused().unwrap(), [bob.user.clone(), eve.user.clone()]);
    assert_eq!(store.lapsed(after(8), 9).unwrap(), []);
    assert_eq!(store.lapsed(after(10), 9).unwrap(), [eve.user.clone(), bob.user.clone()]);
    assert_eq!(store.lapsed(after(10), 1).unwrap(), std::slice::from_ref(&eve.user));
    for kept in [&alice, &zoe, &bob] {
        assert!(matches!(store.remove_lapsed(&kept.user, after(9), UNSIGNED), Err(AccountStoreError::NoAccount)));
    }
    store.remove_lapsed(&eve.user, after(9), UNSIGNED).unwrap();
    assert_eq!((store.find(&eve.user).unwrap(), store.count().unwrap()), (None, 3));
    store.create(&account("EVE", None), None).unwrap();
}

#[test]
fn accounts_of_version_5_have_a_year_to_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut store = SqliteAccountStore::open(&path).unwrap();
    let bob = account("bob", None);
    store.create(&bob, None).unwrap();
    drop(store);
    let old = Connection::open(&path).unwrap();
    old.execute_batch(WITHOUT_ROOMS).unwrap();
    old.execute_batch("DROP TABLE unused_account; PRAGMA user_version = 5;").unwrap();
    drop(old);
    let mut store = SqliteAccountStore::open(&path).unwrap();
    let after_days = |days: u64| SystemTime::now() + Duration::from_secs(days * 86_400);
    assert_eq!(store.lapsed(after_days(364), 9).unwrap(), []);
    assert_eq!(store.lapsed(after_days(366), 9).unwrap(), [bob.user]);
}

#[test]
fn an_account_claims_what_can_be_taken_for_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
    let is_like = |store: &mut SqliteAccountStore, wanted: &str, taken: &str| {
        let created = store.create(&account(wanted, None), None);
        let is_like = matches!(&created, Err(AccountStoreError::NameLike { taken: it, .. }) if it.as_str() == taken);
        assert!(is_like, "{wanted}: {created:?}");
        assert_eq!(store.find(&wanted.parse().unwrap()).unwrap(), None);
    };
    store.create(&account("bob", Some(key(1))), None).unwrap();
    for other in ["BOB", "Bob", "b0b", "bob.", "b-o-b"] {
        is_like(&mut store, other, "bob");
    }
    store.create(&account("alice", None), None).unwrap();
    is_like(&mut store, "a11ce", "alice");
    // An account that was refused for its key claims nothing.
    assert!(matches!(store.create(&account("carol", Some(key(1))), None), Err(AccountStoreError::KeyTaken)));
    store.create(&account("CAROL", None), None).unwrap();
    assert_eq!(store.names_ignoring_case(&"BOB".parse().unwrap()).unwrap(), ["bob".parse().unwrap()]);
    assert_eq!(store.names_ignoring_case(&"b0b".parse().unwrap()).unwrap(), []);
    store.remove(&"bob".parse().unwrap(), UNSIGNED).unwrap();
    store.create(&account("B0B", None), None).unwrap();
    is_like(&mut store, "bob", "B0B");
}

#[test]
fn older_accounts_keep_their_names_and_claim_what_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../fixtures/accounts_of_version_1.sql")).unwrap();
    drop(old);
    let mut store = SqliteAccountStore::open(&path).unwrap();
    let all: Vec<String> = store.bindings().unwrap().into_iter().map(|(user, _)| user.to_string()).collect();
    assert_eq!(all, ["--help", "-x", "..", "BOB", "Bob", "alice", "b0b", "bob"]);
    assert_eq!(store.find(&"-x".parse().unwrap()).unwrap().unwrap().password_hash, "hash of -x");
    let like_bob = store.names_ignoring_case(&"bOb".parse().unwrap()).unwrap();
    assert_eq!(like_bob.iter().map(UserName::as_str).collect::<Vec<_>>(), ["BOB", "Bob", "bob"]);
    let refused = |store: &mut SqliteAccountStore| {
        let created = store.create(&account("boB", None), None);
        assert!(matches!(created, Err(AccountStoreError::NameLike { .. })), "{created:?}");
    };
    // The name stays claimed by the remaining accounts, whichever is removed.
    for user in ["BOB", "bob", "Bob", "b0b"] {
        refused(&mut store);
        store.remove(&user.parse().unwrap(), UNSIGNED).unwrap();
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
    let mut store = SqliteAccountStore::open(&path).unwrap();
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
    let mut store = SqliteAccountStore::open(&path).unwrap();
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
    let mut store = SqliteAccountStore::open(&path).unwrap();
    store.create(&account("bob", None), None).unwrap();
    drop(store);
    // Both are older than claims; the later one has them.
    set_text_claims(
        &path,
        "INSERT INTO account VALUES ('b0b', 'hash of b0b', NULL);
        INSERT INTO name_claim VALUES ('case', 'bob', 'bob'), ('look', 'bob', 'bob'), ('case', 'b0b', 'b0b');
        PRAGMA user_version = 4;",
    );
    let mut store = SqliteAccountStore::open(&path).unwrap();
    let taken = |store: &mut SqliteAccountStore, wanted: &str| match store.create(&account(wanted, None), None) {
        Err(AccountStoreError::NameLike { taken, .. }) => taken.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!((taken(&mut store, "b.o.b"), taken(&mut store, "B0B")), ("bob".to_owned(), "b0b".to_owned()));
    store.remove(&"bob".parse().unwrap(), UNSIGNED).unwrap();
    assert_eq!(taken(&mut store, "b.o.b"), "b0b");
    assert_eq!(SqliteAccountStore::check_backup(&path).unwrap(), 1);
}

#[test]
fn an_account_takes_little_of_the_disk_whatever_its_name_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut store = SqliteAccountStore::open(&path).unwrap();
    store.db.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let empty: i64 = store.db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let mut created = 0;
    // Names with as many readings as there can be.
    for number in 0..2000_u32 {
        let letters: String = (0..11).map(|bit| if number >> bit & 1 == 1 { 'x' } else { 'y' }).collect();
        let user = format!("1I1I1I1I1I1I1I1I1I1I{letters}");
        let password_hash = "h".repeat(97);
        store.create(&Account { user: user.parse().unwrap(), password_hash, binding: None }, None).unwrap();
        created += 1;
    }
    let pages: i64 = store.db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    assert_eq!(store.count().unwrap(), created);
    let each = (pages - empty) * 4096 / 2000;
    assert!(each <= 3072, "{each} bytes an account");
}

#[test]
fn keys_whose_place_others_took_are_remembered_for_as_long_as_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut store = SqliteAccountStore::open(&path).unwrap();
    let bob: UserName = "bob".parse().unwrap();
    store.create(&account("bob", None), None).unwrap();
    let former = |n: u16| {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        let since = UNIX_EPOCH + Duration::from_millis(1_000_000 + u64::from(n));
        FormerKey { fingerprint: Fingerprint::from_bytes(bytes), user: bob.clone(), since }
    };
    let replace = |store: &mut SqliteAccountStore, n: u16| {
        store.bind(&bob, Some(&former(n)), former(n + 1).fingerprint, UNSIGNED).unwrap();
    };
    store.bind(&bob, None, former(1).fingerprint, UNSIGNED).unwrap();
    replace(&mut store, 1);
    replace(&mut store, 2);
    drop(store);
    let mut store = SqliteAccountStore::open(&path).unwrap();
    assert_eq!(store.former_keys().unwrap(), [former(1), former(2)]);
    let all = u16::try_from(FORMER_KEYS).unwrap();
    store.db.execute_batch("PRAGMA synchronous = OFF").unwrap();
    (3..=all + 2).for_each(|n| replace(&mut store, n));
    let kept = store.former_keys().unwrap();
    assert_eq!((kept.len(), &kept[0], kept.last()), (FORMER_KEYS, &former(3), Some(&former(all + 2))));
    store.remove(&bob, UNSIGNED).unwrap();
    assert_eq!(store.former_keys().unwrap(), []);
}

#[test]
fn what_an_administrator_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
    let (bob, eve): (UserName, UserName) = ("bob".parse().unwrap(), "eve".parse().unwrap());
    store.create(&account("bob", Some(key(1))), None).unwrap();
    let unbound = store.unbind(&eve, UNSIGNED).map(drop);
    let removed = store.remove(&eve, UNSIGNED).map(drop);
    for missing in [store.reset_password(&eve, "x"), unbound, removed] {
        assert!(matches!(missing, Err(AccountStoreError::NoAccount)));
    }
    store.reset_password(&bob, "new").unwrap();
    store.unbind(&bob, UNSIGNED).unwrap();
    assert_eq!(store.password_hashes().unwrap(), [(bob.clone(), "new".to_owned())]);
    store.remove(&bob, UNSIGNED).unwrap();
    assert_eq!(store.bindings().unwrap(), []);
}

#[test]
fn a_probe_is_written_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let log = || folder.path().join("db-wal").metadata().unwrap().len();
    let mut store = SqliteAccountStore::open(&path).unwrap();
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
    drop(SqliteAccountStore::open(&newer).unwrap());
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 9).unwrap();
    assert!(matches!(SqliteAccountStore::open(&newer), Err(AccountDatabaseError::TooNew { found: 9, known: 7, .. })));
    assert!(matches!(
        SqliteAccountStore::open(&folder.path().join("no/db")),
        Err(AccountDatabaseError::Unusable { .. })
    ));
}
