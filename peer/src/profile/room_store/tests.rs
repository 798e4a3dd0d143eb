//! Whatever happens to a room, a restart finds it as it was.

mod ledger;

use std::collections::HashMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use proptest::prelude::*;
use rooms::{
    HistoryVisibility, LogChange, Membership, MembershipRecord, MessageRun, RESTORE_EPOCH_STEP, Retention, RoomChange,
    RoomLog, VerifyingKey,
};
use shared::room::MessageHash;
use shared::{Fingerprint, RoomId, RoomName, UserName};

use super::{NewRoomMessage, RoomUpdate};
use crate::profile::message_deletion::delete_messages;
use crate::profile::{HistoryQuery, Profile};

const ROOM: RoomId = RoomId::from_bytes([9; 16]);

fn keys(number: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap()
}

fn key(keys: &Ed25519KeyPair) -> VerifyingKey {
    VerifyingKey::from_raw(keys.public_key().as_ref().try_into().unwrap())
}

fn lab() -> RoomName {
    "lab".parse().unwrap()
}

/// A member with a log in memory only.
struct Author {
    keys: Ed25519KeyPair,
    user: UserName,
    log: RoomLog,
    bytes: HashMap<MessageHash, Vec<u8>>,
    backup: Option<RoomLog>,
}

impl Author {
    fn new(number: u8) -> Self {
        let (user, log) = (format!("user{number}").parse().unwrap(), RoomLog::new(ROOM));
        Self { keys: keys(number), user, log, bytes: HashMap::new(), backup: None }
    }

    fn id(&self) -> Fingerprint {
        key(&self.keys).fingerprint()
    }

    fn write(&mut self, members: &Membership, body: &str) -> MessageRun {
        let run = self.log.draft(&key(&self.keys), members, 5, body.to_owned()).sign(&self.keys).unwrap();
        self.log.insert(&run, members, 1);
        for message in run.messages() {
            self.bytes.insert(message.hash(), message.signed().to_vec());
        }
        run
    }
}

/// A profile with a room, and the room as a node has it in memory.
struct Fixture {
    home: tempfile::TempDir,
    profile: Profile,
    tracker: Ed25519KeyPair,
    members: Membership,
    log: RoomLog,
    me: Author,
    others: Vec<Author>,
    now: i64,
}

impl Fixture {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let tracker = keys(200);
        profile.add_room(ROOM, &lab(), key(&tracker)).unwrap();
        let (members, log) = (Membership::new(ROOM), RoomLog::new(ROOM));
        let (me, others) = (Author::new(1), vec![Author::new(2), Author::new(3)]);
        let mut room = Self { home, profile, tracker, members, log, me, others, now: 1 };
        room.change(RoomChange::Create { room_name: lab(), history: HistoryVisibility::Shared });
        let join = |author: &Author| RoomChange::Join { user: author.user.clone(), key: author.id() };
        let joins: Vec<RoomChange> = std::iter::once(&room.me).chain(&room.others).map(join).collect();
        joins.into_iter().for_each(|change| room.change(change));
        room
    }

    fn change(&mut self, change: RoomChange) {
        let step = if change == RoomChange::Restore { RESTORE_EPOCH_STEP } else { 1 };
        let (epoch, previous) = (self.members.epoch() + step, self.members.head());
        let record = MembershipRecord { room: ROOM, epoch, previous, time: 0, change };
        self.members.insert(record.sign(&self.tracker)).unwrap();
        let change = self.log.apply_membership(&self.members);
        for author in &mut self.others {
            author.log.apply_membership(&self.members);
        }
        self.store(&[], &[change]);
    }

    fn store(&self, runs: &[MessageRun], changes: &[LogChange]) -> Vec<NewRoomMessage> {
        let (members, log, me) = (&self.members, &self.log, self.me.id());
        self.profile.store_room_update(&RoomUpdate { members, log, me, runs, changes }, self.now).unwrap()
    }

    fn take(&mut self, run: MessageRun) -> Vec<NewRoomMessage> {
        self.now += 1;
        let change = self.log.insert(&run, &self.members, self.now.unsigned_abs());
        self.store(&[run], &[change])
    }

    fn write(&mut self, body: &str) -> MessageHash {
        let draft = self.log.draft(&key(&self.me.keys), &self.members, 5, body.to_owned());
        let run = draft.sign(&self.me.keys).unwrap();
        let hash = run.messages()[0].hash();
        self.take(run);
        hash
    }

    /// Receives all that another member has of his own messages.
    fn pull(&mut self, author: usize) {
        loop {
            self.now += 1;
            let other = &self.others[author];
            let request = self.log.request(other.id(), &self.members);
            let reply = other.log.runs(&request, 0, |hash| other.bytes.get(hash).cloned());
            let now = self.now.unsigned_abs();
            let changes: Vec<LogChange> = reply
                .runs
                .iter()
                .map(|run| match reply.leads_to_cut {
                    true => self.log.insert_toward_cut(run, &self.members, now),
                    false => self.log.insert(run, &self.members, now),
                })
                .collect();
            self.store(&reply.runs, &changes);
            if changes.iter().all(|change| change.stored.is_empty()) {
                return;
            }
        }
    }

    fn prune(&mut self, retention: Retention) {
        let change = self.log.prune(retention, self.now.unsigned_abs());
        self.store(&[], &[change]);
    }

    /// Asserts that a restart finds the room as it is in memory, and that the ledger shows what counts.
    fn check(&mut self) {
        let profile = Profile::open(self.home.path()).unwrap();
        let loaded = profile.load_room(ROOM).unwrap().unwrap();
        assert_eq!(loaded.members.records(), self.members.records());
        assert!(loaded.log.ordered().eq(self.log.ordered()));
        assert_eq!(loaded.log.digest(&loaded.members), self.log.digest(&self.members));
        for author in std::iter::once(&self.me).chain(&self.others) {
            assert_eq!(loaded.log.author(&author.id()), self.log.author(&author.id()));
        }
        for (hash, info) in self.log.ordered() {
            let signed = profile.signed_room_message(ROOM, hash).unwrap().unwrap();
            assert_eq!((signed.len() as u64, blake3::hash(&signed).as_bytes()), (info.bytes, hash.as_bytes()));
        }
        // Pruned messages are shown among those that are kept.
        let kept: Vec<MessageHash> = self.log.ordered().map(|(hash, _)| *hash).collect();
        let shown: Vec<MessageHash> = self.shown().into_iter().filter(|hash| self.log.info(hash).is_some()).collect();
        assert_eq!(shown, kept);
        let counted = self.number("SELECT coalesce(sum(bytes), 0) FROM room_message");
        assert_eq!(counted, self.number("SELECT bytes FROM room"));
        assert_eq!(counted, self.number("SELECT coalesce(sum(bytes), 0) FROM room_author"));
        (self.members, self.log) = (loaded.members, loaded.log);
    }

    fn shown(&self) -> Vec<MessageHash> {
        let reader = self.profile.message_reader().unwrap();
        let query = "SELECT hash FROM message JOIN room_message USING (seq) WHERE void = 0 ORDER BY place";
        let mut query = reader.prepare(query).unwrap();
        let rows = query.query_map([], |row| Ok(MessageHash::from_bytes(row.get(0)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn number(&self, query: &str) -> i64 {
        self.profile.message_reader().unwrap().query_row(query, [], |row| row.get(0)).unwrap()
    }

    fn live(&mut self, event: u8, author: usize) {
        let id = self.others[author].id();
        let user = self.others[author].user.clone();
        let is_member = self.members.members().contains_key(&id);
        match event {
            0..=3 => {
                let members = self.members.clone();
                let run = self.others[author].write(&members, &format!("{event}"));
                if event == 0 {
                    self.take(run);
                }
            }
            4..=6 => self.pull(author),
            7 => drop(self.write("mine")),
            8 if is_member => {
                let cut = (author == 0).then(|| self.log.cut(&id));
                self.change(RoomChange::Kick { user, key: id, by: self.me.user.clone(), cut });
            }
            8 => {
                for (key, ended_at) in self.members.open_cuts() {
                    let cut = self.log.cut(&key);
                    self.change(RoomChange::SetCut { key, ended_at, cut });
                }
                self.change(RoomChange::Join { user, key: id });
            }
            9 => self.others[author].backup = Some(self.others[author].log.clone()),
            10 => {
                // Forks the chain of an author who goes on.
                if let Some(mut log) = self.others[author].backup.clone() {
                    log.apply_membership(&self.members);
                    self.others[author].log = log;
                }
            }
            11 => self.prune(Retention { age: u64::MAX, bytes: 1500 }),
            12 => self.prune(Retention { age: 30, bytes: u64::MAX }),
            _ => self.check(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_restart_finds_the_room_as_it_was(events in proptest::collection::vec((0_u8..14, 0_usize..2), 1..60)) {
        let mut room = Fixture::new();
        for (event, author) in events {
            room.live(event, author);
        }
        room.check();
    }
}

#[test]
fn what_fails_leaves_neither_half() {
    let mut room = Fixture::new();
    let before = room.write("before");
    let members = room.members.clone();
    let run = room.others[0].write(&members, "in vain");
    // The last write of the transaction fails.
    let database = rusqlite::Connection::open(room.home.path().join("profile.db")).unwrap();
    database
        .execute_batch("CREATE TRIGGER fails BEFORE INSERT ON room_message BEGIN SELECT RAISE(ABORT, 'no'); END")
        .unwrap();
    let change = room.log.insert(&run, &room.members, 2);
    let me = room.me.id();
    let (runs, changes) = ([run.clone()], [change]);
    let update = RoomUpdate { members: &room.members, log: &room.log, me, runs: &runs, changes: &changes };
    assert!(room.profile.store_room_update(&update, 2).is_err());
    let loaded = room.profile.load_room(ROOM).unwrap().unwrap();
    assert_eq!(loaded.log.ordered().map(|(hash, _)| *hash).collect::<Vec<_>>(), [before]);
    assert_eq!(room.number("SELECT count(*) FROM message"), 1);
    database.execute_batch("DROP TRIGGER fails").unwrap();
    room.log = loaded.log;
    assert_eq!(room.take(run).len(), 1);
    room.check();
}

#[test]
fn what_is_void_is_hidden_and_comes_back() {
    let mut room = Fixture::new();
    let members = room.members.clone();
    let runs = ["one", "two"].map(|body| room.others[0].write(&members, body));
    for run in &runs {
        assert_eq!(room.take(run.clone()).len(), 1);
    }
    let change = LogChange { void: runs.iter().map(|run| run.messages()[0].hash()).collect(), ..LogChange::default() };
    let kept = std::mem::replace(&mut room.log, RoomLog::new(ROOM));
    room.store(&[], &[change]);
    assert!(room.shown().is_empty());
    room.log = room.profile.load_room(ROOM).unwrap().unwrap().log;
    assert_eq!(room.log.ordered().count(), 0);
    let again = room.take(runs[0].clone());
    assert_eq!(again.iter().map(|new| (new.seq, new.is_late)).collect::<Vec<_>>(), [(1, false)]);
    assert_eq!(room.take(runs[0].clone()), [], "it is known");
    room.take(runs[1].clone());
    assert!(room.log.ordered().map(|(hash, _)| hash).eq(kept.ordered().map(|(hash, _)| hash)));
    room.check();
}

#[test]
fn what_comes_before_own_words_is_late() {
    let mut room = Fixture::new();
    let members = room.members.clone();
    let early = room.others[0].write(&members, "early");
    let late = room.others[1].write(&members, "late");
    assert!(!room.take(early)[0].is_late);
    room.write("an answer");
    assert!(room.take(late)[0].is_late);
    room.check();
}

#[test]
fn a_page_ends_before_its_message_even_if_that_one_is_gone() {
    let mut room = Fixture::new();
    for body in ["one", "two", "three", "four"] {
        room.write(body);
    }
    let mut writer = room.profile.writer().unwrap();
    let transaction = writer.transaction().unwrap();
    delete_messages(&transaction, [3, 4]).unwrap();
    transaction.commit().unwrap();
    drop(writer);
    room.write("five");
    let texts = |before| {
        let query = HistoryQuery { before: Some(before), ..HistoryQuery::with(lab(), 9) };
        let page = room.profile.history(&query).unwrap().into_iter();
        page.map(|stored| stored.message.text.into_received()).collect::<Vec<_>>()
    };
    assert_eq!(texts(2), ["one"]);
    assert_eq!(texts(3), ["one", "two"]);
    assert_eq!(texts(5), ["one", "two"]);
    assert_eq!(texts(6), ["one", "two", "five"], "whatever came after it is gone as well");
}

#[test]
fn the_room_is_a_member_s_until_he_goes() {
    let mut room = Fixture::new();
    let known = room.profile.room_named(&lab()).unwrap().unwrap();
    assert!(known.is_member && !known.is_muted && known.tracker == key(&room.tracker));
    assert!(
        room.profile.set_muted(&lab().into(), true).unwrap() && !room.profile.set_muted(&lab().into(), true).unwrap()
    );
    let (user, id) = (room.me.user.clone(), room.me.id());
    room.change(RoomChange::Leave { user, key: id, cut: Some(room.log.cut(&id)) });
    let known = room.profile.rooms().unwrap();
    assert!(known.len() == 1 && !known[0].is_member && known[0].is_muted);
    // A later room of the name is the one that is meant.
    let second = RoomId::from_bytes([8; 16]);
    room.profile.add_room(second, &lab(), key(&room.tracker)).unwrap();
    assert_eq!(room.profile.room_named(&lab()).unwrap().unwrap().id, second);
    assert!(room.profile.load_room(RoomId::from_bytes([7; 16])).unwrap().is_none());
}

#[test]
fn a_restored_tracker_voids_no_record_on_the_disk_only() {
    let mut room = Fixture::new();
    let backup = room.members.clone();
    room.change(RoomChange::Topic { topic: "late".parse().unwrap() });
    room.change(RoomChange::Topic { topic: "later".parse().unwrap() });
    let record = MembershipRecord {
        room: ROOM,
        epoch: backup.epoch() + RESTORE_EPOCH_STEP,
        previous: backup.head(),
        time: 1,
        change: RoomChange::Restore,
    };
    room.members.insert(record.sign(&room.tracker)).unwrap();
    room.store(&[], &[]);
    assert_eq!(room.members.records().len(), backup.records().len() + 1);
    room.check();
}

#[test]
fn deliveries_are_counted_by_number() {
    let mut room = Fixture::new();
    for body in ["one", "two"] {
        room.write(body);
    }
    let (me, bob, carol) = (room.me.id(), room.others[0].id(), room.others[1].id());
    let waiting = || room.number("SELECT count(*) FROM message WHERE state = 'waiting'");
    assert_eq!(waiting(), 2);
    let record = |member: &Fingerprint, number| room.profile.record_room_delivery(ROOM, &me, member, number).unwrap();
    assert!(record(&bob, 1) && !record(&bob, 1));
    assert_eq!(waiting(), 1);
    assert!(record(&carol, 2));
    assert_eq!(waiting(), 0);
    assert!(!record(&carol, 1));
    let counted = || room.number("SELECT count(*) FROM room_delivery");
    assert_eq!((counted(), room.number("SELECT others FROM room")), (2, 2));
    let (user, by) = (room.others[1].user.clone(), room.me.user.clone());
    let cut = Some(room.log.cut(&carol));
    room.change(RoomChange::Kick { user, key: carol, by, cut });
    assert_eq!((room.number("SELECT count(*) FROM room_delivery"), room.number("SELECT others FROM room")), (1, 1));
}

#[test]
fn a_flood_costs_the_flooder_his_history() {
    let mut room = Fixture::new();
    let members = room.members.clone();
    let kept = room.others[0].write(&members, "kept");
    room.take(kept);
    for _ in 0..100 {
        room.others[1].write(&members, &"x".repeat(500));
    }
    room.pull(1);
    room.prune(Retention { age: 1, bytes: u64::MAX });
    room.prune(Retention { age: 0, bytes: 0 });
    assert_eq!((room.log.ordered().count(), room.shown().len()), (0, 101), "pruned, and still in the history");
    let mut writer = room.profile.writer().unwrap();
    let transaction = writer.transaction().unwrap();
    super::byte_limits::trim_history(&transaction, 1, 5000).unwrap();
    transaction.commit().unwrap();
    drop(writer);
    assert!(room.profile.room_bytes(ROOM).unwrap() <= 5000);
    assert_eq!(room.number("SELECT count(*) FROM message WHERE text = 'kept'"), 1);
    assert!(room.shown().len() > 5);
    room.check();
}
