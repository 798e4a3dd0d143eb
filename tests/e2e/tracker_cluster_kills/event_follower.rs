//! Somebody who follows the events, and goes on at another tracker whenever one ends.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tests::hostile::Session;

use crate::tracker_cluster::Person;

/// The wait before another tracker is tried.
const RETRY: Duration = Duration::from_millis(50);

/// The events that a follower saw, by their numbers.
#[derive(Clone, Default)]
pub(super) struct FollowedEvents(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    lines: BTreeMap<u64, Value>,
    moves: usize,
}

pub(super) struct EventFollower<'a> {
    person: &'a Person,
    addresses: &'a [String],
    chance: StdRng,
    events: FollowedEvents,
    /// The number of the last event.
    last: Option<u64>,
}

impl<'a> EventFollower<'a> {
    pub(super) fn new(person: &'a Person, addresses: &'a [String], chance: StdRng, events: FollowedEvents) -> Self {
        Self { person, addresses, chance, events, last: None }
    }

    /// Follows until an event comes after `is_told`.
    pub(super) fn follow(mut self, is_told: &AtomicBool) {
        while !is_told.load(Ordering::Relaxed) {
            let address = &self.addresses[self.chance.random_range(0..self.addresses.len())];
            if let Ok(mut session) = self.subscribe(address) {
                while self.next(&mut session).is_ok() && !is_told.load(Ordering::Relaxed) {}
                self.events.0.lock().unwrap().moves += 1;
            }
            std::thread::sleep(RETRY);
        }
    }

    fn subscribe(&mut self, address: &str) -> io::Result<Session> {
        let mut session = Session::try_open(address, &self.person.identity)?;
        for request in [json!({ "action": "RESUME" }), json!({ "action": "SUBSCRIBE", "since": self.last })] {
            let reply = session.try_ask(&request)?;
            if reply["code"] == "busy" {
                return Err(io::Error::other("busy"));
            }
            assert_eq!(reply["code"], "ok", "{request}: {reply}");
            if request["action"] == "SUBSCRIBE" {
                let from = reply["seq"].as_u64().unwrap();
                assert_eq!(from, *self.last.get_or_insert(from), "it goes on where it was: {reply}");
            }
        }
        Ok(session)
    }

    fn next(&mut self, session: &mut Session) -> io::Result<()> {
        let event = session.try_read()?;
        // Those of rooms have no numbers of their own.
        if event["event"] == "room" {
            return Ok(());
        }
        let number = event["seq"].as_u64().unwrap();
        assert_eq!(Some(number), self.last.map(|last| last + 1), "{}: {event}", self.person.name);
        self.last = Some(number);
        self.events.0.lock().unwrap().lines.insert(number, event);
        Ok(())
    }
}

impl FollowedEvents {
    pub(super) fn lines(&self) -> BTreeMap<u64, Value> {
        self.0.lock().unwrap().lines.clone()
    }

    pub(super) fn moves(&self) -> usize {
        self.0.lock().unwrap().moves
    }

    /// Returns who is present with how many files, as far as it was told.
    pub(super) fn fold(&self, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, u64> {
        let mut present = BTreeMap::new();
        for event in self.0.lock().unwrap().lines.values() {
            let Some(user) = event["user"].as_str().filter(|user| is_wanted(user)) else { continue };
            match event["event"].as_str().unwrap() {
                "online" | "moved" => drop(present.entry(user.to_owned()).or_insert(0)),
                "files" => drop(present.insert(user.to_owned(), event["count"].as_u64().unwrap())),
                "offline" => drop(present.remove(user)),
                _ => {}
            }
        }
        present
    }

    /// Returns the last events in words.
    pub(super) fn tail(&self) -> String {
        self.0.lock().unwrap().lines.values().rev().take(40).map(|event| format!("\n{event}")).collect()
    }
}
