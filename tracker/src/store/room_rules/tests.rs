//! Rooms on a database of each kind: restores, earlier versions, bounds, and what is forgotten.

use std::time::UNIX_EPOCH;

use certs::Identity;
use rooms::{HistoryVisibility, Membership, RESTORE_EPOCH_STEP, RecordEffect, SignedRecord, VerifyingKey};
use shared::room::RecordHash;
use shared::tracker::room_reply::{RoomMembersReply, SignedRecordText};

use super::*;
use crate::store::test_store::TestStore;
use crate::store::{Account, SqliteAccountStore};

/// A database with accounts that have a key each, and the tracker's key.
struct RoomBase {
    store: TestStore,
    identity: Identity,
    signer: RecordSigner,
    now: SystemTime,
}

fn key(number: u8) -> Fingerprint {
    Fingerprint::from_bytes([number; 32])
}

fn caller(number: u8) -> RoomCaller {
    RoomCaller { user: format!("u{number}").parse().unwrap(), key: Some(key(number)) }
}

fn lab() -> RoomReference {
    RoomReference::Name("lab".parse().unwrap())
}

fn draft(name: &str) -> RoomDraft {
    RoomDraft {
        id: RoomId::from_bytes(rand::random()),
        name: name.parse().unwrap(),
        password_hash: None,
        invite_only: false,
        history: HistoryVisibility::Shared,
    }
}

fn topic(text: &str) -> RequestedChange {
    RequestedChange::SetTopic { topic: text.parse().unwrap() }
}

impl RoomBase {
    /// Runs a test on a database of each kind, with so many accounts.
    fn each(accounts: u8, test: impl Fn(Self)) {
        TestStore::each(|store| test(Self::new(store, accounts)));
    }

    /// As [`RoomBase::each`], for thousands of changes.
    fn each_bulky(accounts: u8, test: impl Fn(Self)) {
        TestStore::each_bulky(|store| test(Self::new(store, accounts)));
    }

    fn new(mut store: TestStore, accounts: u8) -> Self {
        for number in 0..accounts {
            let RoomCaller { user, key } = caller(number);
            store.create(&Account { user, password_hash: "hash".to_owned(), binding: key }, None).unwrap();
        }
        let identity = Identity::generate().unwrap();
        let signer = RecordSigner::new(&identity).unwrap();
        Self { store, identity, signer, now: UNIX_EPOCH + Duration::from_secs(1_700_000_000) }
    }

    fn run<T>(&mut self, change: impl Fn(&dyn StoreRows, RecordStamp<'_>) -> RoomResult<T>) -> RoomResult<T> {
        let stamp = RecordStamp { signer: Some(&self.signer), now: self.now };
        self.store.commit(|rows| change(rows, stamp))
    }

    fn create(&mut self, number: u8, name: &str) -> RoomResult {
        let draft = draft(name);
        self.run(|rows, stamp| create(rows, stamp, &caller(number), &draft))
    }

    fn join(&mut self, number: u8, id: RoomId) -> RoomResult {
        self.run(|rows, stamp| join(rows, stamp, &caller(number), id, None))
    }

    fn change(&mut self, number: u8, wanted: &RequestedChange) -> RoomResult {
        self.run(|rows, stamp| change(rows, stamp, &caller(number), &lab(), wanted))
    }

    fn records(&mut self, number: u8, reference: &RoomReference, after: &[RecordHash]) -> RoomResult<RoomMembersReply> {
        self.run(|rows, _| records(rows, reference, &caller(number), after))
    }

    fn verified(&self, record: &SignedRecordText) -> SignedRecord {
        let pair = self.identity.ed25519_key_pair().unwrap();
        let raw = aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref().try_into().unwrap();
        SignedRecord::verify(&record.signed, &record.signature, &VerifyingKey::from_raw(raw)).unwrap()
    }
}

fn refusal<T: std::fmt::Debug>(done: RoomResult<T>) -> RoomRefusal {
    match done {
        Err(AccountStoreError::Room(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_restored_database_voids_what_came_after_its_backup() {
    let mut base = RoomBase::new(TestStore::new_sqlite(), 2);
    let id = base.create(0, "lab").unwrap().update.id;
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup");
    base.store.sqlite().database().execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    base.join(1, id).unwrap();
    let known = base.records(0, &lab(), &[]).unwrap();
    assert_eq!((known.epoch, known.records.len()), (3, 3));
    let mut members = Membership::new(id);
    for record in &known.records {
        members.insert(base.verified(record)).unwrap();
    }

    assert_eq!(SqliteAccountStore::check_backup(&backup).unwrap(), 2);
    base.store = TestStore::open(&backup);
    for _ in 0..2 {
        // The second time nothing is left to do.
        base.run(prepare).unwrap();
    }
    let news = base.records(0, &lab(), &members.locator()).unwrap();
    assert_eq!((news.epoch, news.records.len()), (2 + RESTORE_EPOCH_STEP, 1));
    assert_eq!(members.insert(base.verified(&news.records[0])), Ok(RecordEffect::Restored(1)));
    assert_eq!((members.members().len(), members.head()), (1, Some(news.head)));
    // Who joined since then has to join again.
    assert_eq!(refusal(base.records(1, &lab(), &[])), RoomRefusal::NotAMember);
    assert_eq!(base.join(1, id).unwrap().update.epoch, news.epoch + 1);
}

#[test]
fn a_database_of_an_earlier_version_gets_rooms() {
    let mut base = RoomBase::new(TestStore::new_sqlite(), 1);
    base.store
        .sqlite()
        .database()
        .execute_batch(
            "DROP TABLE room; DROP TABLE room_member; DROP TABLE room_standing; DROP TABLE room_record;
             DROP TABLE room_open_cut; DROP TABLE room_setting; PRAGMA user_version = 6;",
        )
        .unwrap();
    base.store = base.store.reopened();
    base.run(prepare).unwrap();
    assert_eq!(base.run(|rows, _| rows.room_names()).unwrap(), []);
    base.create(0, "lab").unwrap();
    assert_eq!(base.run(|rows, _| all_members(rows)).unwrap().len(), 1);
}

#[test]
fn a_deleted_room_is_found_by_its_members_for_a_while() {
    RoomBase::each(3, |mut base| {
        let id = base.create(0, "lab").unwrap().update.id;
        base.join(1, id).unwrap();
        assert!(base.change(0, &RequestedChange::Delete).unwrap().update.is_deleted);
        assert_eq!(refusal(base.change(0, &topic("x"))), RoomRefusal::NoSuchRoom);
        let by_id = RoomReference::Id(id);
        assert_eq!(base.records(1, &by_id, &[]).unwrap().records.len(), 4);
        assert_eq!(refusal(base.records(2, &by_id, &[])), RoomRefusal::NotAMember);
        assert_eq!(refusal(base.join(2, id)), RoomRefusal::NoSuchRoom);
        let other = base.create(0, "lab").unwrap().update.id;
        assert_ne!(other, id);
        base.now += DELETED_ROOM_LIFETIME;
        base.create(1, "lab2").unwrap();
        assert_eq!(refusal(base.records(1, &by_id, &[])), RoomRefusal::NoSuchRoom);
        assert!(base.records(0, &lab(), &[]).is_ok());
    });
}

#[test]
fn rooms_and_changes_have_a_pace() {
    RoomBase::each(2, |mut base| {
        let id = base.create(0, "lab").unwrap().update.id;
        for number in 1..MAX_NEW_ROOMS {
            base.create(0, &format!("r{number}")).unwrap();
        }
        assert_eq!(refusal(base.create(0, "more")), RoomRefusal::TooOften { wait: NEW_ROOMS_PERIOD });
        base.create(1, "more").unwrap();
        base.now += NEW_ROOMS_PERIOD;
        base.create(0, "one-more").unwrap();
        for number in 0..MAX_CHANGES {
            base.change(0, &topic(&number.to_string())).unwrap();
        }
        assert_eq!(refusal(base.change(0, &topic("x"))), RoomRefusal::TooOften { wait: CHANGES_PERIOD });
        // Nothing is recorded where nothing changes, and a kick without a record is none of these.
        base.change(0, &topic(&(MAX_CHANGES - 1).to_string())).unwrap();
        for _ in 0..MAX_OWN_CHANGES / 2 {
            base.join(1, id).unwrap();
            base.run(|rows, stamp| leave(rows, stamp, &caller(1), &lab(), None)).unwrap();
        }
        assert_eq!(refusal(base.join(1, id)), RoomRefusal::TooOften { wait: CHANGES_PERIOD });
        base.now += CHANGES_PERIOD;
        base.join(1, id).unwrap();
    });
}

#[test]
fn a_tracker_has_so_many_rooms_and_an_account_is_in_so_many() {
    RoomBase::each_bulky(101, |mut base| {
        for number in 0..100 {
            for room in 0..10 {
                base.create(number, &format!("r{number}-{room}")).unwrap();
            }
        }
        for number in 0..9000 {
            assert_eq!(refusal(base.create(100, &format!("flood{number}"))), RoomRefusal::TooManyRooms);
        }
        assert_eq!(base.run(|rows, _| rows.room_names()).unwrap().len(), MAX_ROOMS);
        for number in 0..10 {
            for room in 0..10 {
                let name = RoomReference::Name(format!("r{number}-{room}").parse().unwrap());
                let id = base.run(|rows, _| join_requirement(rows, &name, &caller(100))).unwrap().id;
                base.join(100, id).unwrap();
            }
        }
        let name = RoomReference::Name("r99-0".parse().unwrap());
        let id = base.run(|rows, _| join_requirement(rows, &name, &caller(100))).unwrap().id;
        assert_eq!(refusal(base.join(100, id)), RoomRefusal::TooManyOwnRooms);
        // Its end in all of them is one transaction.
        let ended = base.run(|rows, stamp| end_memberships(rows, stamp, &caller(100).user, None)).unwrap();
        assert_eq!(ended.len(), 100);
    });
}

#[test]
fn an_account_that_changed_meanwhile_does_nothing() {
    RoomBase::each(1, |mut base| {
        let bare = RoomCaller { key: None, ..caller(0) };
        let (draft, stranger) = (draft("lab"), RoomCaller { user: "stranger".parse().unwrap(), key: None });
        for caller in [bare, stranger, RoomCaller { key: Some(key(9)), ..caller(0) }] {
            let made = base.run(|rows, stamp| create(rows, stamp, &caller, &draft));
            assert!(matches!(made, Err(AccountStoreError::Changed)), "{made:?}");
        }
        let unsigned = RecordStamp { signer: None, now: base.now };
        let made = base.store.commit(|rows| create(rows, unsigned, &caller(0), &draft));
        assert_eq!(refusal(made), RoomRefusal::NoSigningKey);
        assert_eq!(base.run(|rows, _| rows.room_names()).unwrap(), [], "a change that fails leaves nothing behind");
    });
}

#[test]
fn long_chains_come_in_pages() {
    RoomBase::each(1, |mut base| {
        let id = base.create(0, "lab").unwrap().update.id;
        for number in 0..300 {
            base.now += Duration::from_secs(1000);
            base.change(0, &topic(&number.to_string())).unwrap();
        }
        let (mut members, mut pages) = (Membership::new(id), 0);
        loop {
            let page = base.records(0, &lab(), &members.locator()).unwrap();
            pages += 1;
            for record in &page.records {
                members.insert(base.verified(record)).unwrap();
            }
            if !page.more {
                assert_eq!((members.epoch(), members.head()), (page.epoch, Some(page.head)));
                break;
            }
        }
        assert_eq!((pages, members.epoch()), (2, 302));
    });
}
