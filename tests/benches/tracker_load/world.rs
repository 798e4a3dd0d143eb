//! Trackers with as many peers as wanted, without waiting for as many passwords to be hashed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tests::{Invocation, Lab, LabOptions, binaries};

use crate::clients::{ask_well, plain};
use crate::on_one_thread;

pub(crate) const PASSWORD: &str = "s3nha";

/// A tracker with present peers of ten files each.
pub(crate) struct World {
    lab: Lab,
}

impl World {
    /// `peers` users `peerNNNNN`; all have the same password.
    pub(crate) fn with(peers: usize) -> Self {
        let mut lab = Lab::with(LabOptions { restarts: true, ..LabOptions::default() });
        let address = lab.address().parse().unwrap();
        on_one_thread(async {
            let register = format!(r#"{{"action":"REGISTER","user":"template","password":"{PASSWORD}"}}"#);
            ask_well(&mut plain(address).await, &register).await;
        });
        let tracker = lab.take_tracker();
        tracker.terminate();
        tracker.finish().exits(0);
        fill(&lab.join("tracker"), peers);
        lab.start_tracker();
        let world = Self { lab };
        assert_eq!(on_one_thread(world.present()), peers);
        world
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.lab.address().parse().unwrap()
    }

    /// Memory that the tracker's process holds, in KiB.
    pub(crate) fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.lab.tracker_pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What it says that all users' files take, in KiB.
    pub(crate) fn catalogue(&self) -> f64 {
        let status = Invocation::new(binaries::binary("tracker"), self.path());
        let status = status.args(["status", "--json", "--data-dir"]).arg(self.lab.join("tracker")).run();
        let status: serde_json::Value = serde_json::from_str(&status.exits(0).out()).unwrap();
        status["catalogue_bytes"].as_f64().unwrap() / 1024.0
    }

    pub(crate) fn path(&self) -> &Path {
        self.lab.path()
    }

    async fn present(&self) -> usize {
        let count = r#"{"action":"LIST_PEERS","limit":1,"with_files":false}"#;
        let reply = ask_well(&mut plain(self.address()).await, count).await;
        usize::try_from(reply["total"].as_u64().unwrap()).unwrap()
    }
}

/// Writes accounts and presence into the databases of a tracker that doesn't run.
fn fill(data: &Path, peers: usize) {
    const SCRIPT: &str = r#"
import sqlite3, sys, time, json, os, hashlib
folder, peers = sys.argv[1], int(sys.argv[2])
accounts, presence = sqlite3.connect(folder + "/tracker.db"), sqlite3.connect(folder + "/presence.db")
(hashed,) = accounts.execute("SELECT password_hash FROM account WHERE user = 'template'").fetchone()
until = int(time.time() * 1000) + 3600_000
for number in range(peers):
    user = f"peer{number:05}"
    accounts.execute("INSERT INTO account VALUES (?, ?, NULL)", (user, hashed))
    entry = {"user": user, "ip": "10.0.0.1", "port": 40000, "addresses": [], "fingerprint": None, "files": []}
    files = [{"name": f"folder {number}/file {i}.dat", "size": 1000 * i, "hash": hashlib.sha256(b"%d %d" % (number, i)).hexdigest()} for i in range(10)]
    presence.execute("INSERT INTO presence (user, token, until_ms, entry) VALUES (?, ?, ?, ?)", (user, os.urandom(32), until, json.dumps(entry)))
    presence.execute("INSERT INTO list VALUES (?, x'', ?)", (user, ",".join(map(json.dumps, files))))
accounts.commit(), presence.commit()
"#;
    let filled = Command::new("python3").args(["-c", SCRIPT]).arg(data).arg(peers.to_string()).status().unwrap();
    assert!(filled.success());
}
