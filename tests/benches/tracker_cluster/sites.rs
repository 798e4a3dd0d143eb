//! The trackers that are compared: one with its own store, and three on one database. Both know the same accounts.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use postgres_server::PostgresServer;
use rusqlite::Connection;
use tests::{Invocation, Lab, LabOptions, binaries};

use crate::crowd::Person;

/// Trackers of a cluster.
const TRACKERS: usize = 3;
/// Accounts that one statement inserts.
const ROWS_AT_ONCE: usize = 500;

/// One tracker, or several on one database.
pub(crate) struct Site {
    pub(crate) labs: Vec<Lab>,
    /// The name of the database; empty for a tracker with its own store.
    pub(crate) database: String,
}

impl Site {
    /// A tracker with its own store, which knows these people.
    pub(crate) fn embedded(people: &[Rc<Person>]) -> Self {
        let mut lab = Lab::with(options(&[], None));
        stop(&lab);
        let mut accounts = Connection::open(lab.join("tracker/tracker.db")).unwrap();
        let step = accounts.transaction().unwrap();
        for person in people {
            let row = (&person.name, "no password", person.key.as_slice());
            step.execute("INSERT INTO account VALUES (?1, ?2, ?3)", row).unwrap();
        }
        step.commit().unwrap();
        drop(accounts);
        lab.start_tracker();
        Self { labs: vec![lab], database: String::new() }
    }

    /// Three trackers on a database of this server.
    pub(crate) fn cluster(server: &PostgresServer, people: &[Rc<Person>]) -> Self {
        let database = server.create_database().unwrap();
        let store = ["--store", &server.address(&database)].map(str::to_owned);
        // The first one makes the schema.
        let mut labs = vec![Lab::with(options(&store, None))];
        stop(&labs[0]);
        for some in people.chunks(ROWS_AT_ONCE) {
            server.administrate(&database, &insertion(some)).unwrap();
        }
        server.administrate(&database, "ANALYZE").unwrap();
        labs[0].start_tracker();
        for _ in 1..TRACKERS {
            let key_of = labs[0].join("tracker");
            labs.push(Lab::with(options(&store, Some(&key_of))));
        }
        Self { labs, database }
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.labs.iter().map(|lab| lab.address().parse().unwrap()).collect()
    }

    /// The processes' memory, in MiB.
    pub(crate) fn memory(&self) -> Vec<u64> {
        let of = |lab: &Lab| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", lab.tracker_pid())).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
        };
        self.labs.iter().map(of).collect()
    }

    /// What the first one says that all users' files take, in MiB.
    pub(crate) fn catalogue(&self) -> u64 {
        let lab = &self.labs[0];
        let status = Invocation::new(binaries::binary("tracker"), lab.path());
        let status = status.args(["status", "--json", "--data-dir"]).arg(lab.join("tracker")).run();
        let status: serde_json::Value = serde_json::from_str(&status.exits(0).out()).unwrap();
        status["catalogue_bytes"].as_u64().unwrap() >> 20
    }
}

fn options(store: &[String], key_of: Option<&Path>) -> LabOptions {
    let args = ["--no-mdns", "--rate-limit-logins", "0", "--rate-limit-registrations", "0", "--log", "warn"];
    let tracker_args = args.iter().map(|arg| (*arg).to_owned()).chain(store.iter().cloned()).collect();
    LabOptions { tracker_args, restarts: true, key_of: key_of.map(Path::to_owned), ..LabOptions::default() }
}

fn stop(lab: &Lab) {
    let tracker = lab.take_tracker();
    tracker.terminate();
    tracker.finish().exits(0);
}

fn insertion(people: &[Rc<Person>]) -> String {
    let mut sql = "INSERT INTO account (user_name, password_hash, fingerprint) VALUES ".to_owned();
    for (number, Person { name, key, .. }) in people.iter().map(AsRef::as_ref).enumerate() {
        let comma = if number > 0 { ", " } else { "" };
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(sql, "{comma}('{name}', 'no password', decode('{key}', 'hex'))").unwrap();
    }
    sql
}
