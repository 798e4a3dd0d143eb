//! The rules of accounts, on a database of each kind.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::store::test_store::TestStore;

fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n; 32])
}

fn account(user: &str, binding: Option<Fingerprint>) -> Account {
    Account { user: user.parse().unwrap(), password_hash: format!("hash of {user}"), binding }
}

#[test]
fn what_was_stored_is_there_after_opening_again() {
    TestStore::each(|mut store| {
        let (alice, bob) = (account("alice", None), account("bob", Some(key(1))));
        store.create(&alice, None).unwrap();
        store.create(&bob, None).unwrap();
        let store = store.reopened();
        assert_eq!(store.find(&alice.user).unwrap(), Some(alice.clone()));
        assert_eq!(store.find(&"Bob".parse().unwrap()).unwrap(), None);
        assert_eq!(store.bindings().unwrap(), [(alice.user, None), (bob.user, Some(key(1)))]);
    });
}

#[test]
fn names_and_keys_are_taken_once() {
    TestStore::each(|mut store| {
        store.create(&account("bob", Some(key(1))), None).unwrap();
        store.create(&account("eve", None), None).unwrap();
        let eve: UserName = "eve".parse().unwrap();
        assert!(matches!(store.create(&account("bob", None), None), Err(AccountStoreError::NameTaken(_))));
        assert!(matches!(store.create(&account("mallory", Some(key(1))), None), Err(AccountStoreError::KeyTaken)));
        assert!(matches!(store.bind(&eve, None, key(1)), Err(AccountStoreError::KeyTaken)));
        store.bind(&eve, None, key(2)).unwrap();
        assert!(matches!(store.bind(&eve, None, key(3)), Err(AccountStoreError::Changed)));
        let former = FormerKey { fingerprint: key(2), user: eve.clone(), since: UNIX_EPOCH + Duration::from_secs(7) };
        store.bind(&eve, Some(&former), key(3)).unwrap();
        assert_eq!(store.former_keys().unwrap(), [former]);
        assert!(matches!(store.set_password(&eve, "other", "new"), Err(AccountStoreError::Changed)));
        store.set_password(&eve, "hash of eve", "new").unwrap();
        let found = store.find(&eve).unwrap().unwrap();
        assert_eq!((found.password_hash.as_str(), found.binding), ("new", Some(key(3))));
    });
}

#[test]
fn a_write_that_is_repeated_changes_nothing_more() {
    TestStore::each(|mut store| {
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
        store.bind(&bob.user, None, key(1)).unwrap();
        for _ in 0..2 {
            store.bind(&bob.user, Some(&former), key(2)).unwrap();
        }
        assert_eq!((store.count().unwrap(), store.former_keys().unwrap()), (1, vec![former]));
        assert_eq!(store.find(&bob.user).unwrap().unwrap().binding, Some(key(2)));
        assert_eq!(store.unused().unwrap(), []);
        for _ in 0..2 {
            store.unbind(&bob.user).unwrap();
        }
    });
}

#[test]
fn accounts_that_were_never_used_lapse_and_free_their_names() {
    TestStore::each(|mut store| {
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
            assert!(matches!(store.remove_lapsed(&kept.user, after(9)), Err(AccountStoreError::NoAccount)));
        }
        store.remove_lapsed(&eve.user, after(9)).unwrap();
        assert_eq!((store.find(&eve.user).unwrap(), store.count().unwrap()), (None, 3));
        store.create(&account("EVE", None), None).unwrap();
    });
}

#[test]
fn an_account_claims_what_can_be_taken_for_its_name() {
    TestStore::each(|mut store| {
        let is_like = |store: &mut TestStore, wanted: &str, taken: &str| {
            let created = store.create(&account(wanted, None), None);
            let is_like =
                matches!(&created, Err(AccountStoreError::NameLike { taken: it, .. }) if it.as_str() == taken);
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
        store.remove(&"bob".parse().unwrap()).unwrap();
        store.create(&account("B0B", None), None).unwrap();
        is_like(&mut store, "bob", "B0B");
    });
}

#[test]
fn keys_whose_place_others_took_are_remembered_for_as_long_as_there_is_room() {
    TestStore::each_bulky(|mut store| {
        let bob: UserName = "bob".parse().unwrap();
        store.create(&account("bob", None), None).unwrap();
        let former = |n: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            let since = UNIX_EPOCH + Duration::from_millis(1_000_000 + u64::from(n));
            FormerKey { fingerprint: Fingerprint::from_bytes(bytes), user: bob.clone(), since }
        };
        let replace = |store: &mut TestStore, n: u16| {
            store.bind(&bob, Some(&former(n)), former(n + 1).fingerprint).unwrap();
        };
        store.bind(&bob, None, former(1).fingerprint).unwrap();
        replace(&mut store, 1);
        replace(&mut store, 2);
        let mut store = store.reopened();
        assert_eq!(store.former_keys().unwrap(), [former(1), former(2)]);
        let all = u16::try_from(FORMER_KEYS).unwrap();
        store.forget_safety();
        (3..=all + 2).for_each(|n| replace(&mut store, n));
        let kept = store.former_keys().unwrap();
        assert_eq!((kept.len(), &kept[0], kept.last()), (FORMER_KEYS, &former(3), Some(&former(all + 2))));
        store.remove(&bob).unwrap();
        assert_eq!(store.former_keys().unwrap(), []);
    });
}

#[test]
fn what_an_administrator_does() {
    TestStore::each(|mut store| {
        let (bob, eve): (UserName, UserName) = ("bob".parse().unwrap(), "eve".parse().unwrap());
        store.create(&account("bob", Some(key(1))), None).unwrap();
        let unbound = store.unbind(&eve).map(drop);
        let removed = store.remove(&eve).map(drop);
        for missing in [store.reset_password(&eve, "x"), unbound, removed] {
            assert!(matches!(missing, Err(AccountStoreError::NoAccount)));
        }
        store.reset_password(&bob, "new").unwrap();
        store.unbind(&bob).unwrap();
        assert_eq!(store.password_hashes().unwrap(), [(bob.clone(), "new".to_owned())]);
        store.remove(&bob).unwrap();
        assert_eq!(store.bindings().unwrap(), []);
    });
}
