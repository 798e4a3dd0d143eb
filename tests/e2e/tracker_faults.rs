//! The tracker killed at random moments, and on a disk that is full: whatever it said yes to is there afterwards.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tests::{Invocation, Lab, LabOptions, PATIENCE, Process, binaries, poll_until};

/// How often the tracker is killed, unless `VIZINHO_KILLS` says how often.
const KILLS: usize = 6;
/// Clients that work until the tracker is gone.
const CLIENTS: usize = 4;

/// A connection without TLS.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn ask(&mut self, request: &Value) -> io::Result<Value> {
        self.0.get_mut().write_all(request.to_string().as_bytes())?;
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line).expect("a whole line of JSON"))
    }

    fn code(&mut self, request: &Value) -> io::Result<String> {
        Ok(self.ask(request)?["code"].as_str().expect("a code").to_owned())
    }
}

fn login(user: &str, password: &str) -> Value {
    json!({ "action": "LOGIN", "user": user, "password": password, "port": 4000 })
}

fn register(user: &str) -> Value {
    json!({ "action": "REGISTER", "user": user, "password": "0" })
}

fn share(user: &str, token: &Value, names: &[&str]) -> Value {
    let files: Vec<Value> = names.iter().map(|name| json!({ "name": name, "size": 1, "hash": "h" })).collect();
    json!({ "action": "REGISTER_FILES", "user": user, "token": token, "files": files })
}

/// An account that was said to be there, and the passwords of which one must be its own: the last that was said to be
/// set, and one that was asked for and not answered.
struct Account {
    user: String,
    passwords: Vec<String>,
}

/// Changes the passwords of the accounts there are, then makes more, logs in and shares, until the tracker is gone.
fn work(address: &str, name: &str, accounts: &mut Vec<Account>) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    for account in accounts.iter_mut() {
        let (old, new) = (account.passwords[0].clone(), format!("of {name}"));
        account.passwords.push(new.clone());
        let passwd = json!({ "action": "PASSWD", "user": account.user, "password": old, "new_password": new });
        assert_eq!(client.code(&passwd)?, "ok");
        account.passwords = vec![new];
    }
    for number in 0.. {
        let user = format!("{name}.{number}");
        assert_eq!(client.code(&register(&user))?, "ok");
        accounts.push(Account { user: user.clone(), passwords: vec!["0".to_owned()] });
        let reply = client.ask(&login(&user, "0"))?;
        assert_eq!(reply["code"], "ok", "{reply}");
        assert_eq!(client.code(&share(&user, &reply["token"], &["a", "b"]))?, "ok");
    }
    Ok(())
}

/// Everything that the clients were told until the tracker was killed; they begin with some of the accounts there are.
fn work_until_killed(lab: &Lab, round: usize, after: Duration, known: &mut Vec<Account>) -> Vec<Account> {
    std::thread::scope(|scope| {
        let mut client = |number: usize| {
            let mut accounts: Vec<Account> = known.pop().into_iter().collect();
            move || {
                let ended = work(lab.address(), &format!("u{round}.{number}"), &mut accounts);
                assert!(ended.is_err(), "they only end with the tracker");
                accounts
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(client(number))).collect();
        // The moment is what this is about: anywhere in the middle.
        std::thread::sleep(after);
        lab.kill_tracker();
        clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client that only ends with the tracker"))
            .collect()
    })
}

fn is_whole(data: &Path) {
    const SCRIPT: &str = "import sqlite3, sys
for name in ('tracker.db', 'presence.db'):
    print(*sqlite3.connect(f'{sys.argv[1]}/{name}').execute('PRAGMA integrity_check').fetchone())";
    let checked = Command::new("python3").args(["-c", SCRIPT]).arg(data).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "ok\nok\n", "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn whatever_was_answered_with_ok_outlives_kills_at_random_moments() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let kills = number("VIZINHO_KILLS").map_or(KILLS, |kills| usize::try_from(kills).unwrap());
    let seed = number("VIZINHO_KILL_SEED").unwrap_or_else(rand::random);
    println!("VIZINHO_KILL_SEED={seed}");
    let mut moments = StdRng::seed_from_u64(seed);
    let no_limits = ["--rate-limit-logins", "0", "--rate-limit-registrations", "0", "--log", "error"];
    let tracker_args = no_limits.map(str::to_owned).into();
    let mut lab = Lab::with(LabOptions { tracker_args, restarts: true, ..LabOptions::default() });
    drop(lab.user("bob"));
    let node = lab.stranger("bob").serve();
    let mut client = Client::connect(lab.address()).unwrap();
    assert_eq!(client.code(&register("old")).unwrap(), "ok");
    let token = client.ask(&login("old", "0")).unwrap()["token"].clone();
    assert_eq!(client.code(&share("old", &token, &["kept"])).unwrap(), "ok");
    lab.wait_until_remembered("old", 1);

    let mut all = Vec::new();
    for round in 1..=kills {
        let mut accounts =
            work_until_killed(&lab, round, Duration::from_micros(moments.random_range(0..600_000)), &mut all);
        is_whole(&lab.join("tracker"));
        lab.start_tracker();
        let mut client = Client::connect(lab.address()).unwrap();
        for Account { user, passwords } in &mut accounts {
            passwords.retain(|password| client.code(&login(user, password)).unwrap() == "ok");
            assert_eq!(passwords.len(), 1, "round {round}, seed {seed}: {user}");
        }
        let old = client.ask(&json!({ "action": "LIST_PEERS", "user": "old" })).unwrap();
        assert_eq!(old["peers"][0]["files"][0]["name"], "kept", "round {round}, seed {seed}: {old}");
        assert_eq!(client.code(&json!({ "action": "HEARTBEAT", "token": token })).unwrap(), "ok");
        node.wait_for_nth("online as bob at ", round + 1);
        // The oldest first in turn.
        all.splice(0..0, accounts);
    }
    let mut client = Client::connect(lab.address()).unwrap();
    let changed = all.iter().filter(|account| account.passwords[0] != "0").count();
    println!("{kills} kills: {} accounts, {changed} of them with another password", all.len());
    for Account { user, passwords } in all {
        assert_eq!(client.code(&login(&user, &passwords[0])).unwrap(), "ok", "at the end, seed {seed}: {user}");
    }
}

/// A file system of its own, of this many bytes; gone when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and a word about it, where nothing may be mounted.
    fn mount(at: PathBuf, size: usize) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(&at).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(at)),
            _ => {
                println!("skipped: nothing can be mounted here");
                None
            }
        }
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.0.join("ballast")).unwrap();
        while ballast.write_all(&[0; 4096]).is_ok() {}
        while ballast.write_all(&[0]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn start(folder: &Path, data: &Path) -> (Process, String) {
    let tracker = Invocation::new(binaries::binary("tracker"), folder);
    let process = tracker.args(["--listen", "127.0.0.1:0", "--metrics", "0", "--data-dir"]).arg(data).start();
    let line = process.wait_for("tracker listening on ");
    (process, line.trim_start_matches("tracker listening on ").to_owned())
}

/// The status and the text that the tracker answers to those who watch it.
fn watched(process: &Process, path: &str) -> String {
    let line = process.wait_for("metrics");
    let (_, address) = line.split_once("address=").expect("where the metrics are");
    let mut stream = TcpStream::connect(address.trim()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn wait_for_health(process: &Process, status: u16) -> String {
    let health = || watched(process, "/healthz");
    poll_until(|| Some(health()).filter(|health| health.starts_with(&format!("HTTP/1.1 {status}"))), health)
}

#[test]
fn a_full_disk_is_told_harms_nothing_and_is_over_when_there_is_room() {
    let lab = Lab::without_tracker();
    let Some(disk) = SmallDisk::mount(lab.join("disk"), 2 << 20) else { return };
    let data = disk.0.join("data");
    let (process, address) = start(lab.path(), &data);
    let mut client = Client::connect(&address).unwrap();
    assert_eq!(client.code(&register("before")).unwrap(), "ok");
    disk.fill();
    // What is written fits into what the database has already, until it doesn't.
    let mut made = vec!["before".to_owned()];
    let refused = (0..200).map(|number| format!("during{number}")).find(|user| {
        let reply = client.ask(&register(user)).unwrap();
        match reply["code"].as_str().unwrap() {
            "ok" => {
                made.push(user.clone());
                false
            }
            code => {
                assert_eq!(code, "busy", "{reply}");
                assert!(reply["message"].as_str().unwrap().contains("disk is full"), "{reply}");
                true
            }
        }
    });
    let refused = refused.expect("a full disk can't take two hundred accounts");
    assert!(wait_for_health(&process, 503).contains("can't be changed: the tracker's disk is full"));
    assert!(watched(&process, "/metrics").contains("tracker_store_failing{store=\"accounts\"} 1"));
    let backup = Invocation::new(binaries::binary("tracker"), lab.path());
    backup.args(["backup", "copy.tar", "--data-dir"]).arg(&data).run().exits(1).says("full").is_plain();
    // Everything that needs no room goes on, being present included.
    assert_eq!(client.code(&login("before", "0")).unwrap(), "ok");
    assert_eq!(client.code(&share("before", &Value::Null, &["a"])).unwrap(), "ok");
    let passwd = json!({ "action": "PASSWD", "user": "before", "password": "0", "new_password": "1" });
    let changed = client.code(&passwd).unwrap() == "ok";
    assert_eq!(client.code(&login(&refused, "0")).unwrap(), "auth_failed", "nothing is half there");
    process.wait_for("the disk with the accounts is full");
    process.wait_for("trying again each second");

    disk.make_room();
    // By itself: nobody asked for a change since.
    wait_for_health(&process, 200);
    assert!(watched(&process, "/metrics").contains("tracker_store_failing{store=\"accounts\"} 0"));
    assert_eq!(client.code(&register("after")).unwrap(), "ok");
    assert_eq!(client.code(&register(&refused)).unwrap(), "ok");
    process.wait_for("who is present can be stored again");
    process.kill();
    process.finish().exits(137);
    is_whole(&data);
    let (_process, address) = start(lab.path(), &data);
    let mut client = Client::connect(&address).unwrap();
    let listed = client.ask(&json!({ "action": "LIST_PEERS" })).unwrap();
    assert_eq!(listed["peers"][0]["files"][0]["name"], "a", "{listed}");
    made.extend(["after".to_owned(), refused]);
    for user in made {
        let password = if user == "before" && changed { "1" } else { "0" };
        assert_eq!(client.code(&login(&user, password)).unwrap(), "ok", "{user}");
    }
}

#[test]
fn a_tracker_that_finds_no_room_to_begin_says_so() {
    let lab = Lab::without_tracker();
    let Some(disk) = SmallDisk::mount(lab.join("disk"), 1 << 20) else { return };
    disk.fill();
    let began = Instant::now();
    let tracker = Invocation::new(binaries::binary("tracker"), lab.path());
    let outcome = tracker.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(disk.0.join("data")).run();
    outcome.exits(1).says("space").is_plain();
    assert!(began.elapsed() < PATIENCE);
    disk.make_room();
    drop(start(lab.path(), &disk.0.join("data")));
}

#[test]
fn accounts_that_are_removed_end_the_tracker_and_none_are_made() {
    let lab = Lab::start();
    drop(lab.user("alice"));
    let data = lab.join("tracker");
    let mut client = Client::connect(lab.address()).unwrap();
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(data.join(format!("tracker.db{ending}")));
    }
    // Until it ends it says no.
    match client.ask(&register("bob")) {
        Ok(reply) => {
            assert_eq!(reply["code"], "busy", "{reply}");
            assert!(reply["message"].as_str().unwrap().contains("lost its accounts"), "{reply}");
        }
        Err(why) => assert_eq!(why.kind(), io::ErrorKind::UnexpectedEof, "{why}"),
    }
    lab.take_tracker().finish().exits(9).says("tracker.db was removed or replaced").says("tracker restore");
    for _ in 0..2 {
        let again = lab.tracker_invocation("127.0.0.1:0").run();
        again.exits(1).says("tracker.db is missing, but identity/identity.pem is there").is_plain();
    }
    for (removed, there) in [("identity", "presence.db"), ("presence.db", "")] {
        let path = data.join(removed);
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        if !there.is_empty() {
            lab.tracker_invocation("127.0.0.1:0").run().exits(1).says(&format!("missing, but {there} is there"));
        }
    }
    for content in ["", "\n"] {
        tests::files::write(data.join("tracker.db"), content);
        lab.tracker_invocation("127.0.0.1:0").run().exits(1).says("tracker.db is empty").says("tracker new accounts");
    }
    let tracker = Invocation::new(binaries::binary("tracker"), lab.path());
    tracker.args(["new", "accounts", "--data-dir"]).arg(&data).run().exits(0);
    lab.tracker_invocation("127.0.0.1:0").start().wait_for("tracker listening on ");
}

#[test]
fn who_asks_a_tracker_that_is_stopped_is_told_so() {
    let lab = Lab::start();
    let process = lab.take_tracker();
    process.freeze();
    for command in [&["status"][..], &["user", "list"], &["export", "peers"], &["backup", "copy.tar"]] {
        let tracker = Invocation::new(binaries::binary("tracker"), lab.path());
        let told = tracker.args(command).arg("--data-dir").arg(lab.join("tracker")).run();
        told.exits(1).says(&format!("process {} holds the data folder", process.pid())).says("is stopped").is_plain();
        told.says(&format!("`kill -CONT {}`", process.pid()));
    }
    process.thaw();
    let tracker = Invocation::new(binaries::binary("tracker"), lab.path());
    tracker.args(["status", "--data-dir"]).arg(lab.join("tracker")).run().exits(0);
}
