//! The real binary as a service: readiness, watchdog, a socket handed over, SIGHUP, the administrator's commands.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says by a panic what is wrong, and in words what it lacks"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const TRACKER: &str = env!("CARGO_BIN_EXE_tracker");

/// Far longer than any test needs, and short enough to wait for one that hangs.
const AT_MOST: Duration = Duration::from_secs(20);

struct Daemon {
    child: Child,
    address: SocketAddr,
    fingerprint: String,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, stderr) = (Arc::new(Mutex::new(String::new())), BufReader::new(child.stderr.take().unwrap()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *kept.lock().unwrap() += &format!("{line}\n");
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let ready = lines.next().unwrap();
        let address = ready.strip_prefix("tracker listening on ").unwrap().parse().unwrap();
        let fingerprint = lines.next().unwrap().strip_prefix("fingerprint ").unwrap().to_owned();
        Self { child, address, fingerprint, log }
    }

    /// Waits for a line of the log that contains all of these words, and returns it.
    fn logged(&self, parts: &[&str]) -> String {
        let began = Instant::now();
        loop {
            let log = self.log.lock().unwrap().clone();
            if let Some(line) = log.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
                return line.to_owned();
            }
            assert!(began.elapsed() < AT_MOST, "{parts:?} not in\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn on(folder: &Path) -> Self {
        let mut command = Command::new(TRACKER);
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(folder);
        Self::start(command)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ask(&self, request: &str) -> String {
        ask(self.address, request)
    }

    fn end(mut self) {
        self.signal(Signal::TERM);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(AT_MOST)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    // No half-close: HTTP marks the end by itself, and takes a half-close for a client that went away.
    if request.starts_with('{') {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn tracker(folder: &Path, words: &[&str]) -> Output {
    Command::new(TRACKER).args(words).arg("--data-dir").arg(folder).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_service_manager_is_told() {
    let folder = TempDir::new().unwrap();
    let told = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    told.set_read_timeout(Some(AT_MOST)).unwrap();
    let mut command = Command::new(TRACKER);
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
    command.env("NOTIFY_SOCKET", folder.path().join("notify")).env("WATCHDOG_USEC", "150000");
    let daemon = Daemon::start(command);
    let mut buffer = [0; 1024];
    let mut next = || {
        let count = told.recv(&mut buffer).unwrap();
        text(&buffer[..count]).to_owned()
    };
    let mut seen = String::new();
    while !(seen.contains("READY=1") && seen.matches("WATCHDOG=1").count() >= 3) {
        seen += &next();
    }
    daemon.signal(Signal::TERM);
    while !seen.contains("STOPPING=1") {
        seen += &next();
    }
    daemon.end();
}

#[test]
fn a_socket_that_was_handed_over_is_used_and_refuses_nobody_meanwhile() {
    let folder = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = || {
        let mut command = Command::new("sh");
        let script = r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@""#;
        command.args(["-c", script, TRACKER, "--listen", "127.0.0.1:1", "--data-dir"]).arg(folder.path());
        command.stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())));
        Daemon::start(command)
    };
    let first = start();
    assert_eq!(first.address, address);
    first.end();
    let waiting = std::thread::spawn(move || ask(address, r#"{"action":"LIST_PEERS"}"#));
    std::thread::sleep(Duration::from_millis(50));
    let second = start();
    assert!(waiting.join().unwrap().contains(r#""status":"ok""#));
    second.end();
}

/// Starts a shell in a network namespace of its own, with loopback; `None` where namespaces are not available.
fn in_a_network_of_its_own(script: &str) -> Option<Command> {
    let can = Command::new("unshare").args(["--net", "true"]).output().is_ok_and(|done| done.status.success());
    if !can {
        println!("skipped: it needs a network namespace");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &format!("ip link set lo up && {script} && exec \"$0\" \"$@\""), TRACKER]);
    Some(command)
}

#[test]
fn it_listens_on_both_families_of_addresses_or_on_the_one_there_is() {
    let folder = TempDir::new().unwrap();
    let sysctl = |name: &str| format!("echo 1 > /proc/sys/net/ipv6/{name}");
    for (script, words, expected) in [
        ("true".to_owned(), "0.0.0.0:0,[::]:0", &["127.0.0.1", "[::1]"][..]),
        (sysctl("conf/all/disable_ipv6"), "0.0.0.0:0,[::]:0", &["127.0.0.1"]),
        (sysctl("bindv6only"), "0.0.0.0:0,[::]:0", &["127.0.0.1", "[::1]"]),
        // One socket for both families, whatever the system's default.
        (sysctl("bindv6only"), "[::]:0", &["[::1]", "127.0.0.1"]),
        ("true".to_owned(), "127.0.0.1:0,[::1]:0", &["127.0.0.1", "[::1]"]),
    ] {
        let Some(mut command) = in_a_network_of_its_own(&script) else { return };
        command.args(["--no-mdns", "--listen", words, "--data-dir"]).arg(folder.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said: Vec<String> = lines.by_ref().take_while(|line| !line.starts_with("fingerprint ")).collect();
        let ports: Vec<&str> = said.iter().map(|line| line.rsplit_once(':').unwrap().1).collect();
        assert!(ports.iter().all(|port| *port == ports[0]), "{said:?}");
        assert_eq!(said.len(), words.split(',').count(), "{said:?}");
        for host in expected {
            let ask = format!(
                "exec 3<>/dev/tcp/{}/{} && printf '{{\"action\":\"LIST_PEERS\"}}' >&3 && head -n1 <&3",
                host.trim_matches(['[', ']']),
                ports[0]
            );
            let pid = child.id().to_string();
            let asked = Command::new("nsenter").args(["--net", "--target", &pid, "bash", "-c", &ask]).output().unwrap();
            assert!(text(&asked.stdout).contains(r#""status":"ok""#), "{words} at {host}: {asked:?}");
        }
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn accounts_are_administered_while_it_runs() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let refused = tracker(path, &["status"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("no tracker runs"));
    let daemon = Daemon::on(path);
    let made = tracker(path, &["user", "add", "bob"]);
    assert!(made.status.success());
    let login =
        format!(r#"{{"action":"LOGIN","user":"bob","password":"{}","port":4000}}"#, text(&made.stdout).trim_end());
    assert!(daemon.ask(&login).contains(r#""status":"ok""#));
    let listed = tracker(path, &["user", "list"]);
    assert_eq!(text(&listed.stdout).split_whitespace().collect::<Vec<_>>(), ["bob", "online", "-"]);
    let status: serde_json::Value = serde_json::from_slice(&tracker(path, &["status", "--json"]).stdout).unwrap();
    assert_eq!((&status["online"], &status["address"]), (&1.into(), &daemon.address.to_string().into()));
    let copy = path.join("copy.db");
    assert!(tracker(path, &["backup", copy.to_str().unwrap()]).status.success());
    let again = tracker(path, &["backup", copy.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("copy.db exists: move it away"), "{}", text(&again.stderr));
    assert!(tracker(path, &["user", "remove", "bob"]).status.success());
    assert_eq!(tracker(path, &["user", "remove", "bob"]).status.code(), Some(1));
    assert!(daemon.ask(&login).contains("auth_failed"));
    daemon.end();
}

/// Waits until the condition is true.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < AT_MOST, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_socket_and_a_lock_that_somebody_removes_are_put_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let daemon = Daemon::on(path);
    let (socket, lock) = (path.join("control.sock"), path.join("lock"));
    let second = || tracker(path, &["--listen", "127.0.0.1:0"]);
    std::fs::remove_file(&socket).unwrap();
    std::fs::remove_file(&lock).unwrap();
    // The socket stays private, and a request waits until the socket is back.
    let refused = second();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("another tracker"), "{}", text(&refused.stderr));
    let asked = tracker(path, &["status"]);
    assert!(asked.status.success(), "{}", text(&asked.stderr));
    until("the lock", || lock.exists());
    daemon.logged(&["socket", "put back"]);
    daemon.logged(&["lock", "put back"]);
    let refused = second();
    assert!(text(&refused.stderr).contains(&format!("(process {})", daemon.child.id())), "{}", text(&refused.stderr));
    // Another file in its place is replaced as well.
    std::fs::remove_file(&socket).unwrap();
    drop(std::fs::File::create(&socket).unwrap());
    until("the socket", || tracker(path, &["status"]).status.success());
    daemon.end();
}

#[test]
fn a_folder_that_can_t_hold_the_socket_has_it_elsewhere_or_says_so() {
    let folder = TempDir::new().unwrap();
    let (path, runtime) = (&folder.path().join("data"), &folder.path().join("runtime"));
    // A folder that isn't empty can't be removed, so there is no socket.
    std::fs::create_dir_all(path.join("control.sock/full")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let command = |words: &[&str]| {
        let mut command = Command::new(TRACKER);
        command.args(words).arg("--data-dir").arg(path).env("XDG_RUNTIME_DIR", runtime);
        command
    };
    let daemon = Daemon::start(command(&["--listen", "127.0.0.1:0"]));
    let asked = command(&["status"]).output().unwrap();
    assert_eq!(asked.status.code(), Some(1));
    let started = command(&["--listen", "127.0.0.1:0"]).output().unwrap();
    // The two don't contradict each other.
    for said in [text(&asked.stderr), text(&started.stderr)] {
        assert!(said.contains(&format!("tracker (process {})", daemon.child.id())), "{said}");
    }
    daemon.end();
    std::fs::create_dir(runtime).unwrap();
    let daemon = Daemon::start(command(&["--listen", "127.0.0.1:0"]));
    let asked = command(&["status"]).output().unwrap();
    assert!(asked.status.success(), "{}", text(&asked.stderr));
    daemon.end();
    assert_eq!(runtime.read_dir().unwrap().count(), 0);
}

#[test]
fn a_key_or_accounts_that_are_gone_are_never_made_anew_by_themselves() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let (key, database) = (path.join("identity/identity.pem"), path.join("tracker.db"));
    let start = || tracker(path, &["--listen", "127.0.0.1:0"]);
    let stops = |parts: &[&str]| {
        let refused = start();
        assert_eq!(refused.status.code(), Some(1));
        let said = text(&refused.stderr);
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} not in {said}");
    };
    // Without accounts there is nothing to lose.
    Daemon::on(path).end();
    std::fs::remove_file(&key).unwrap();
    let daemon = Daemon::on(path);
    assert!(daemon.ask(&register(0)).contains(r#""status":"ok""#));
    let fingerprint = daemon.fingerprint.clone();
    daemon.end();
    let pem = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    stops(&["identity.pem is missing", "put back a copy", "tracker new key"]);
    assert!(!key.exists());
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .unwrap()
            .write_all(bytes)
            .unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(&key, b"");
    stops(&["identity.pem is empty"]);
    write(&key, &pem[..200]);
    stops(&["identity.pem is damaged", "in the middle of the certificate"]);
    write(&key, &pem);
    let accounts = std::fs::read(&database).unwrap();
    for ending in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(path.join(format!("tracker.db{ending}")));
    }
    stops(&["tracker.db is missing", "put back a copy", "tracker new accounts"]);
    write(&database, b"");
    stops(&["tracker.db is empty"]);
    write(&database, &accounts);
    write(&path.join("presence.db"), b"");
    let daemon = Daemon::on(path);
    assert_eq!(daemon.fingerprint, fingerprint);
    daemon.logged(&["presence.db", "forgotten"]);
    // Refused while a tracker runs, and where nothing is lost.
    assert!(text(&tracker(path, &["new", "key"]).stderr).contains("stop it first"));
    daemon.end();
    assert!(text(&tracker(path, &["new", "key"]).stderr).contains("identity.pem is there"));
    assert!(text(&tracker(path, &["new", "accounts"]).stderr).contains("tracker.db is there"));
    let misspelled = tracker(&path.join("misspelled"), &["new", "key"]);
    assert!(text(&misspelled.stderr).contains("there is no folder") && !path.join("misspelled").exists());
    write(&key, &pem[..200]);
    let made = tracker(path, &["new", "key"]);
    assert!(made.status.success() && path.join("identity/identity.pem.damaged-1").exists(), "{}", text(&made.stderr));
    std::fs::remove_file(&database).unwrap();
    assert!(tracker(path, &["new", "accounts"]).status.success());
    let daemon = Daemon::on(path);
    assert!(text(&made.stdout).contains(&daemon.fingerprint) && daemon.fingerprint != fingerprint);
    assert_eq!(users(path), 0);
    daemon.end();
}

#[test]
fn what_can_t_be_printed_is_an_error() {
    let folder = TempDir::new().unwrap();
    let daemon = Daemon::on(folder.path());
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for words in
        [&["--help"][..], &["--version"], &["user", "--help"], &["status"], &["user", "add", "bob"], &["config"]]
    {
        let mut command = Command::new(TRACKER);
        command.args(words);
        if !words.iter().any(|word| word.starts_with("--")) {
            command.arg("--data-dir").arg(folder.path());
        }
        let printed = command.stdout(full()).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(printed.status.code(), Some(9), "{words:?}");
        assert!(text(&printed.stderr).starts_with("tracker: can't write to standard output: "), "{words:?}");
    }
    let closed = Command::new("sh").args(["-c", r#""$0" --help | true"#, TRACKER]).output().unwrap();
    assert!(closed.status.success() && closed.stderr.is_empty());
    daemon.end();
}

fn register(n: usize) -> String {
    format!(r#"{{"action":"REGISTER","user":"u{n}","password":"x"}}"#)
}

fn users(folder: &Path) -> usize {
    text(&tracker(folder, &["user", "list"]).stdout).lines().count()
}

#[test]
fn what_is_restored_is_what_was_backed_up_key_and_sessions_too() {
    let folder = TempDir::new().unwrap();
    let (path, other) = (&folder.path().join("data"), &folder.path().join("another"));
    let copy = folder.path().join("copy.tar");
    let words = |command: &'static str| [command, copy.to_str().unwrap()];
    let daemon = Daemon::on(path);
    let login = r#"{"action":"LOGIN","user":"u0","password":"x","port":4000}"#;
    (0..3).for_each(|n| assert!(daemon.ask(&register(n)).contains(r#""status":"ok""#)));
    assert!(daemon.ask(login).contains(r#""status":"ok""#));
    assert!(tracker(path, &words("backup")).status.success());
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    (3..20).for_each(|n| assert!(daemon.ask(&register(n)).contains(r#""status":"ok""#)));
    // Nothing is restored while the tracker runs; after a kill, with a log of later changes, everything is.
    let refused = tracker(path, &words("restore"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("stop it first"), "{}", text(&refused.stderr));
    let fingerprint = daemon.fingerprint.clone();
    daemon.signal(Signal::KILL);
    drop(daemon);
    assert!(path.join("tracker.db-wal").metadata().unwrap().len() > 0);
    for folder in [path, other] {
        let restored = tracker(folder, &words("restore"));
        assert!(restored.status.success(), "{}", text(&restored.stderr));
        assert!(text(&restored.stdout).starts_with("restored: 3 accounts, the key with the fingerprint "));
        assert_eq!(text(&restored.stdout).contains("before-restore-1"), folder == path);
        let daemon = Daemon::on(folder);
        assert_eq!(daemon.fingerprint, fingerprint);
        assert_eq!(users(folder), 3);
        assert!(daemon.ask(r#"{"action":"LIST_PEERS"}"#).contains(r#""user":"u0""#));
        daemon.end();
    }
    // The complete state before the first restoration is kept.
    let daemon = Daemon::on(&path.join("before-restore-1"));
    assert_eq!(users(&path.join("before-restore-1")), 20);
    daemon.end();
    for wrong in ["/nowhere/at/all", "/proc/self/exe", "/dev/null"] {
        let refused = tracker(path, &["restore", wrong]);
        assert_eq!(refused.status.code(), Some(1), "{wrong}");
        assert!(text(&refused.stderr).contains(wrong), "{}", text(&refused.stderr));
    }
    let daemon = Daemon::on(path);
    assert_eq!((users(path), &daemon.fingerprint), (3, &fingerprint));
    daemon.end();
}

#[test]
fn a_backup_that_can_t_be_written_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let data = &folder.path().join("data");
    let daemon = Daemon::on(data);
    assert!(daemon.ask(&register(0)).contains(r#""status":"ok""#));
    let nowhere = tracker(data, &["backup", "/nowhere/at/all"]);
    assert!(text(&nowhere.stderr).contains("/nowhere/at/all"), "{}", text(&nowhere.stderr));
    // Above the limit of a file's size: the copy ends in the middle, as on a full disk.
    let copy = folder.path().join("copy.tar");
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -f 8; trap '' XFSZ; exec "$0" "$@""#, TRACKER, "backup"]).arg(&copy);
    let failed = command.arg("--data-dir").arg(data).output().unwrap();
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(text(&failed.stderr).contains("copy.tar"), "{}", text(&failed.stderr));
    let names = |folder: &Path| -> Vec<String> {
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(folder.path()), ["data"]);
    assert!(!names(data).iter().any(|name| name.contains("tmp")), "{:?}", names(data));
    assert!(tracker(data, &["backup", copy.to_str().unwrap()]).status.success());
    daemon.signal(Signal::KILL);
    drop(daemon);
    std::fs::create_dir(data.join("backup-interrupted.tmp")).unwrap();
    Daemon::on(data).end();
    assert!(!data.join("backup-interrupted.tmp").exists());
}

#[test]
fn sighup_reads_the_configuration_again() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("tracker.toml");
    let write = |content: &str| std::fs::File::create(&config).unwrap().write_all(content.as_bytes()).unwrap();
    write("registration = 'open'");
    let mut command = Command::new(TRACKER);
    command
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .arg("--config")
        .arg(&config);
    let daemon = Daemon::start(command);
    let code = |n: usize| {
        let reply = daemon.ask(&format!(r#"{{"action":"REGISTER","user":"u{n}","password":"x"}}"#));
        serde_json::from_str::<serde_json::Value>(&reply).unwrap()["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code(0), "ok");
    for (content, expected) in [("registration = 'closed'", "forbidden"), ("registration = ", "forbidden"), ("", "ok")]
    {
        write(content);
        daemon.signal(Signal::HUP);
        let last = (1..100).map(|n| {
            std::thread::sleep(Duration::from_millis(20));
            code(n + content.len() * 100)
        });
        assert!(last.take(20).any(|code| code == expected), "{content}");
    }
    daemon.end();
}

#[test]
fn sighup_changes_every_key_or_says_that_it_needs_a_restart() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("tracker.toml");
    let write = |content: &str| std::fs::File::create(&config).unwrap().write_all(content.as_bytes()).unwrap();
    let data = format!("data-dir = {:?}\n", folder.path().join("data"));
    write(&format!("{data}listen = '127.0.0.1:0'\n"));
    let mut command = Command::new(TRACKER);
    command.arg("--config").arg(&config);
    let daemon = Daemon::start(command);
    let legacy = r#"{"action":"LOGIN","user":"u1","password":"x","port":4000}"#;
    assert!(daemon.ask(&register(1)).contains(r#""status":"ok""#));
    assert!(daemon.ask(legacy).contains(r#""ttl_s":3600"#));
    write(&format!(
        "{data}listen = '127.0.0.1:1'\nmetrics = 9\nno-mdns = true\nlegacy-ttl = 77\nlog-format = 'json'\n"
    ));
    daemon.signal(Signal::HUP);
    // The log has the new format already.
    let line = daemon.logged(&["{", "change only with a restart"]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["keys"], "listen, metrics, no-mdns");
    daemon.logged(&["{", r#""changed":"legacy-ttl, log-format""#]);
    assert!(daemon.ask(legacy).contains(r#""ttl_s":77"#));
    daemon.end();
}

#[test]
fn metrics_and_health_are_served() {
    let folder = TempDir::new().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(TRACKER);
    command.args(["--listen", "127.0.0.1:0", "--metrics", &free.to_string(), "--data-dir"]).arg(folder.path());
    let daemon = Daemon::start(command);
    daemon.ask(r#"{"action":"LIST_PEERS"}"#);
    let get = |path: &str| ask(free, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    assert!(get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(get("/metrics").contains(r#"tracker_requests_total{action="LIST_PEERS",code="ok"} 1"#));
    assert!(get("/").starts_with("HTTP/1.1 404"));
    daemon.end();
}
