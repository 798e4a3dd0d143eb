//! The test vectors of the documentation, made anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use shared::RoomId;

use crate::{
    HistoryVisibility, Membership, MembershipRecord, MessageRun, RoomChange, RoomLog, SignedRecord, UnverifiedRun,
    VerifyingKey,
};

const TIME: u64 = 1_700_000_000_000;

/// The values of the documentation, by name.
fn documented() -> BTreeMap<&'static str, String> {
    let table = include_str!("test_vectors.md").split("```text\n").nth(1).unwrap();
    let mut values: BTreeMap<&str, String> = BTreeMap::new();
    let mut last = "";
    for line in table.lines().take_while(|line| *line != "```") {
        let mut words = line.split_whitespace();
        if !line.starts_with(' ') {
            last = words.next().unwrap();
            values.insert(last, String::new());
        }
        values.get_mut(last).unwrap().extend(words);
    }
    values
}

#[derive(Default)]
struct Vectors(BTreeMap<&'static str, String>);

impl Vectors {
    fn put(&mut self, name: &'static str, bytes: &[u8]) {
        self.put_text(
            name,
            &bytes.iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").unwrap();
                text
            }),
        );
    }

    fn put_text(&mut self, name: &'static str, value: &impl ToString) {
        assert!(self.0.insert(name, value.to_string()).is_none(), "{name}");
    }

    fn key(
        &mut self,
        [seed_name, key_name, fingerprint_name]: [&'static str; 3],
        seed: u8,
    ) -> (Ed25519KeyPair, VerifyingKey) {
        let keys = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = VerifyingKey::from_raw(keys.public_key().as_ref().try_into().unwrap());
        self.put(seed_name, &[seed; 32]);
        self.put(key_name, &key.to_spki());
        self.put_text(fingerprint_name, &key.fingerprint());
        (keys, key)
    }

    fn message(&mut self, [signed, signature, hash, depth]: [&'static str; 4], run: &MessageRun) {
        let message = &run.messages()[0];
        self.put(signed, message.signed());
        self.put(signature, &run.signature());
        self.put_text(hash, &message.hash());
        self.put_text(depth, &message.depth());
    }
}

#[test]
fn the_documented_test_vectors_are_those_of_this_code() {
    let mut vectors = Vectors::default();
    let (tracker, tracker_key) = vectors.key(["tracker.seed", "tracker.key", "tracker.fingerprint"], 1);
    let (alice, alice_key) = vectors.key(["alice.seed", "alice.key", "alice.fingerprint"], 2);
    let (bob, bob_key) = vectors.key(["bob.seed", "bob.key", "bob.fingerprint"], 3);
    let mut members = Membership::new(RoomId::from_bytes([9; 16]));
    let create = RoomChange::Create { room_name: "lab".parse().unwrap(), history: HistoryVisibility::Shared };
    let join = |user: &str, key: VerifyingKey| RoomChange::Join { user: user.parse().unwrap(), key: key.fingerprint() };
    let names = [
        ["record1.signed", "record1.signature", "record1.hash"],
        ["record2.signed", "record2.signature", "record2.hash"],
        ["record3.signed", "record3.signature", "record3.hash"],
    ];
    let changes = [create, join("alice", alice_key), join("bob", bob_key)];
    for (place, ([signed, signature, hash], change)) in (0..).zip(names.into_iter().zip(changes)) {
        let (room, previous) = (members.room(), members.head());
        let record = MembershipRecord { room, epoch: place + 1, previous, time: TIME + place, change }.sign(&tracker);
        vectors.put(signed, record.signed());
        vectors.put(signature, record.signature());
        vectors.put_text(hash, &record.hash());
        let verified = SignedRecord::verify(record.signed(), record.signature(), &tracker_key).unwrap();
        members.insert(verified).unwrap();
    }
    let mut log = RoomLog::new(members.room());
    vectors.put_text("room.digest_without_messages", &log.digest(&members));
    let mut runs = Vec::new();
    let posts = [
        (["alice1.signed", "alice1.signature", "alice1.hash", "alice1.depth"], &alice, alice_key, 1_000, "olá"),
        (["bob1.signed", "bob1.signature", "bob1.hash", "bob1.depth"], &bob, bob_key, 500, "hi"),
        (["alice2.signed", "alice2.signature", "alice2.hash", "alice2.depth"], &alice, alice_key, 2_000, ""),
    ];
    for (names, keys, key, delay, body) in posts {
        let run = log.draft(&key, &members, TIME + delay, body.to_owned()).sign(keys).unwrap();
        vectors.message(names, &run);
        assert_eq!(log.insert(&run, &members, 0).refusal, None);
        runs.push(run);
    }
    let in_order: Vec<_> = log.ordered().map(|(hash, _)| *hash).collect();
    assert_eq!(in_order, runs.iter().map(|run| run.messages()[0].hash()).collect::<Vec<_>>());
    let both = [&runs[0], &runs[2]].map(|run| run.messages()[0].clone()).to_vec();
    let long = MessageRun::proven(alice_key, both, runs[2].signature());
    for (name, run) in [("alice.run", &long), ("bob.run", &runs[1])] {
        vectors.put(name, &run.encode());
        assert_eq!(UnverifiedRun::parse(&run.encode()).unwrap().verify(&members).as_ref(), Ok(run));
    }
    for (name, key) in [("alice.digest", alice_key), ("bob.digest", bob_key)] {
        let page = log.vector_page(None);
        let entry = page.iter().find(|entry| entry.author == key.fingerprint()).unwrap();
        vectors.put(name, &entry.digest);
    }
    vectors.put_text("room.digest", &log.digest(&members));
    assert_eq!(documented(), vectors.0);
}
