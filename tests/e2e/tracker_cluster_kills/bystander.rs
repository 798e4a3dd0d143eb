//! Somebody who does all kinds of things at whichever tracker is there, and writes down what is granted.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use certs::Identity;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tests::PATIENCE;
use tests::hostile::Session;

use crate::tracker_cluster::{EVENT_PATIENCE, Person, is_long};

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(25);
/// Rooms and accounts that one of them makes.
const ROOMS: usize = 10;

/// An account that somebody asked for.
pub(super) struct AskedAccount {
    pub(super) name: String,
    pub(super) identity: Identity,
    pub(super) is_granted: bool,
}

/// All that was granted.
pub(super) struct Grants {
    pub(super) user: &'static str,
    /// The shared files; `None` for somebody who is not present.
    pub(super) files: Option<u64>,
    /// `None`: the last answer about it was lost.
    pub(super) is_member: Option<bool>,
    pub(super) rooms: BTreeSet<String>,
    pub(super) accounts: Vec<AskedAccount>,
    pub(super) granted: usize,
    pub(super) moves: usize,
}

pub(super) struct Bystander<'a> {
    person: &'a Person,
    addresses: &'a [String],
    chance: StdRng,
    session: Option<Session>,
    /// False: the last answer about presence or files was lost.
    is_certain: bool,
    asked_rooms: usize,
    grants: Grants,
}

impl<'a> Bystander<'a> {
    pub(super) fn new(person: &'a Person, addresses: &'a [String], chance: StdRng) -> Self {
        let (rooms, accounts) = (BTreeSet::new(), Vec::new());
        let grants =
            Grants { user: person.name, files: None, is_member: Some(false), rooms, accounts, granted: 0, moves: 0 };
        Self { person, addresses, chance, session: None, is_certain: true, asked_rooms: 0, grants }
    }

    /// Does one thing after another until `stop`, and then until it is certain whether it is present. Returns the open
    /// connection as well: its end would be the end of the presence.
    pub(super) fn live(mut self, stop: &AtomicBool) -> (Grants, Option<Session>) {
        let began = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            self.act();
            std::thread::sleep(PAUSE);
        }
        let stopped = Instant::now();
        while !self.is_certain || self.session.is_none() {
            assert!(stopped.elapsed() < PATIENCE, "{} is never answered", self.person.name);
            // Whoever moved comes again as a node does, so the session is one that holds the presence.
            if self.is_ready() && !self.is_certain {
                self.come();
            }
            std::thread::sleep(PAUSE);
        }
        assert!(self.grants.granted > 0, "nothing in {:?}", began.elapsed());
        (self.grants, self.session)
    }

    fn act(&mut self) {
        let accounts = if is_long() { 60 } else { 6 };
        if !self.is_ready() {
            return;
        }
        match self.chance.random_range(0..100) {
            0..4 => self.come(),
            4..7 => self.leave(),
            7..13 => self.change_membership(),
            13..15 if self.asked_rooms < ROOMS => self.make_room(),
            15..20 if self.grants.accounts.len() < accounts => self.ask_for_account(),
            20..40 => self.beat(),
            _ if self.is_certain && self.grants.files.is_some() => self.share(),
            _ => self.come(),
        }
    }

    /// Has a connection, a new one if the last one is lost: there, all is as it was granted elsewhere.
    fn is_ready(&mut self) -> bool {
        if self.session.is_some() {
            return true;
        }
        let Ok(session) = Session::try_open(self.any_address(), &self.person.identity) else { return false };
        self.session = Some(session);
        self.grants.moves += 1;
        let reply = self.ask(&json!({ "action": "RESUME" }));
        if reply["code"] != "ok" {
            assert!(is_unavailable(&reply), "{reply}");
            self.session = None;
            return false;
        }
        if self.is_certain {
            self.check_presence();
        }
        // A node does the same: from here on its presence is at this tracker.
        if self.session.is_some() && self.grants.files.is_some() {
            self.come();
        }
        self.session.is_some()
    }

    /// Looks whether this tracker lists what another one granted.
    fn check_presence(&mut self) {
        let (user, began) = (self.person.name, Instant::now());
        loop {
            let reply = self.ask(&json!({ "action": "LIST_PEERS", "user": user }));
            if is_unavailable(&reply) {
                return;
            }
            let listed =
                reply["peers"].as_array().unwrap().first().map(|one| one["files"].as_array().unwrap().len() as u64);
            if listed == self.grants.files {
                return;
            }
            assert!(began.elapsed() < EVENT_PATIENCE, "{user} was granted {:?}: {reply}", self.grants.files);
            std::thread::sleep(PAUSE);
        }
    }

    fn come(&mut self) {
        self.change_presence(&json!({ "action": "RESUME", "port": 4000 }), Some(0));
    }

    fn leave(&mut self) {
        self.change_presence(&json!({ "action": "LOGOUT", "user": self.person.name }), None);
        // A connection that logged out authenticates nobody.
        self.session = None;
    }

    fn share(&mut self) {
        let count = self.chance.random_range(0..5_u64);
        let files: Vec<Value> = (0..count)
            .map(|number| json!({ "name": format!("f{number}"), "size": number, "hash": self.chance.random::<u32>().to_string() }))
            .collect();
        let request = json!({ "action": "REGISTER_FILES", "user": self.person.name, "files": files });
        self.change_presence(&request, Some(count));
    }

    fn change_presence(&mut self, request: &Value, files: Option<u64>) {
        let reply = self.ask(request);
        match reply["code"].as_str() {
            Some("ok") => (self.grants.files, self.is_certain) = (files, true),
            Some("rate_limited") => {}
            _ => {
                assert!(is_unavailable(&reply), "{request} of {}: {reply}", self.person.name);
                self.is_certain = false;
            }
        }
    }

    fn beat(&mut self) {
        let reply = self.ask(&json!({ "action": "HEARTBEAT" }));
        let is_present = self.is_certain && self.grants.files.is_some();
        assert!(!is_present || reply["code"] == "ok" || is_unavailable(&reply), "{}: {reply}", self.person.name);
    }

    fn change_membership(&mut self) {
        let joins = !self.grants.is_member.unwrap_or_else(|| self.chance.random());
        let action = if joins { "ROOM_JOIN" } else { "ROOM_LEAVE" };
        let reply = self.ask(&json!({ "action": action, "room": "lab" }));
        self.grants.is_member = match reply["code"].as_str() {
            Some("ok") => Some(joins),
            Some("rate_limited") => self.grants.is_member,
            // Whether an answer that was lost had made it so already.
            Some("bad_request" | "forbidden" | "not_found") if self.grants.is_member.is_none() => None,
            _ => {
                assert!(is_unavailable(&reply), "{action} of {}: {reply}", self.person.name);
                None
            }
        };
    }

    fn make_room(&mut self) {
        let name = format!("{}-{}", self.person.name, self.asked_rooms);
        self.asked_rooms += 1;
        let reply = self.ask(&json!({ "action": "ROOM_CREATE", "room": name }));
        if reply["code"] == "ok" {
            self.grants.rooms.insert(name);
        } else {
            assert!(is_unavailable(&reply) || reply["code"] == "rate_limited", "{name}: {reply}");
        }
    }

    /// Asks for a name that the others ask for as well.
    fn ask_for_account(&mut self) {
        let name = format!("n{}", self.grants.accounts.len());
        let identity = Identity::generate().unwrap();
        let request = json!({ "action": "REGISTER", "user": name, "password": "0" });
        let address = self.any_address().to_owned();
        let asked = Session::try_open(&address, &identity).and_then(|mut session| session.try_ask(&request));
        let reply = asked.unwrap_or(Value::Null);
        let is_granted = reply["code"] == "ok";
        assert!(is_granted || reply["code"] == "user_exists" || is_unavailable(&reply), "{name}: {reply}");
        self.grants.granted += usize::from(is_granted);
        self.grants.accounts.push(AskedAccount { name, identity, is_granted });
    }

    fn any_address(&mut self) -> &'a str {
        &self.addresses[self.chance.random_range(0..self.addresses.len())]
    }

    /// Returns the reply; null, and no connection any more, if none comes.
    fn ask(&mut self, request: &Value) -> Value {
        let asked = match &mut self.session {
            Some(session) => session.try_ask(request),
            None => Err(io::Error::other("there is no connection")),
        };
        let Ok(reply) = asked else {
            self.session = None;
            return Value::Null;
        };
        self.grants.granted += usize::from(reply["code"] == "ok" && request["action"] != "LIST_PEERS");
        reply
    }
}

/// True if the tracker is gone, or says that it doesn't know.
fn is_unavailable(reply: &Value) -> bool {
    reply.is_null() || reply["code"] == "busy" && reply["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0)
}
