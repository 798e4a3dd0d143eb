//! A PostgreSQL server of its own for tests: a folder, a socket, and an end with the process that started it.
//!
//! ```text
//! test process ─ pipe ─► sh ─► postgres, as an unprivileged user
//!      its end closes the pipe ─► sh ends the server by its number, and removes the folder
//! ```
//!
//! The server syncs nothing, unless that is what a measurement is about: what it wrote outlives its processes, but not the
//! machine.

use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The user that the server takes for its administrator.
const ADMINISTRATOR: &str = "administrator";
/// The user that trackers use, without special rights.
const USER: &str = "tracker";
/// The user of the machine as which the server runs where the test is run by root.
const SERVER_USER: &str = "postgres";
/// The longest time to wait for a server.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// Ends the server when its input ends, and removes the folder unless it is told to keep it.
const KEEPER: &str = r#"folder=$1; shift; "$@" >>"$folder/log" 2>&1 & pid=$!; echo $pid; read -r word
kill -QUIT $pid 2>/dev/null; kill -CONT $pid 2>/dev/null; wait $pid; [ "$word" = keep ] || rm -rf "$folder""#;

/// A server.
#[derive(Debug)]
pub struct PostgresServer {
    folder: PathBuf,
    programs: PathBuf,
    keeper: Child,
    pid: Pid,
    is_synced: bool,
    databases: AtomicU32,
}

impl PostgresServer {
    /// Starts a server; `None` where PostgreSQL isn't installed.
    ///
    /// # Errors
    /// When it is installed and doesn't start.
    pub fn start() -> io::Result<Option<Self>> {
        Self::start_with(false)
    }

    /// The same for measurements: each commit waits for the disk.
    ///
    /// # Errors
    /// When it is installed and doesn't start.
    pub fn start_synced() -> io::Result<Option<Self>> {
        Self::start_with(true)
    }

    fn start_with(is_synced: bool) -> io::Result<Option<Self>> {
        let Some(programs) = find_programs() else { return Ok(None) };
        let folder = new_folder()?;
        let data = folder.join("data");
        let mut make = unprivileged(&programs.join("initdb"));
        make.arg("-D").arg(&data).args(["--no-sync", "-A", "trust", "-U", ADMINISTRATOR, "-E", "UTF8", "--locale=C"]);
        succeed(&mut make)?;
        let (keeper, pid) = run(&programs, &folder, is_synced)?;
        let server = Self { folder, programs, keeper, pid, is_synced, databases: AtomicU32::new(0) };
        server.wait_until_ready()?;
        server.administrate("postgres", &format!("CREATE ROLE {USER} LOGIN"))?;
        Ok(Some(server))
    }

    /// Returns the server that all tests of this process share; `None` where PostgreSQL isn't installed.
    ///
    /// # Panics
    /// When it doesn't start.
    #[expect(clippy::panic, reason = "a test says by a panic what is wrong")]
    pub fn shared() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<PostgresServer>> = OnceLock::new();
        let start = || Self::start().unwrap_or_else(|why| panic!("PostgreSQL doesn't start: {why}"));
        SERVER.get_or_init(start).as_ref()
    }

    /// Makes an empty database, and returns its name.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self) -> io::Result<String> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.administrate("postgres", &format!("CREATE DATABASE {name} OWNER {USER} STRATEGY file_copy"))?;
        Ok(name)
    }

    /// Returns the address of a database, for trackers.
    pub fn address(&self, database: &str) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://{USER}@{folder}/{database}")
    }

    /// Returns the address of a database of which each of the servers has a copy, for trackers.
    pub fn address_of_all(servers: &[&Self], database: &str) -> String {
        let hosts: Vec<String> =
            servers.iter().map(|server| server.folder.display().to_string().replace('/', "%2F")).collect();
        format!("postgres://{USER}@{}/{database}", hosts.join(","))
    }

    /// Starts a standby that copies all that is committed here, after a moment.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start_standby(&self) -> io::Result<Self> {
        let folder = new_folder()?;
        let mut copy = unprivileged(&self.programs.join("pg_basebackup"));
        copy.args(["-U", ADMINISTRATOR, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-h"]).arg(&self.folder);
        succeed(copy.arg("-D").arg(folder.join("data")))?;
        let (keeper, pid) = run(&self.programs, &folder, self.is_synced)?;
        let programs = self.programs.clone();
        let standby = Self { folder, programs, keeper, pid, is_synced: self.is_synced, databases: AtomicU32::new(0) };
        standby.wait_until_ready()?;
        Ok(standby)
    }

    /// Makes each commit wait until a standby has it, or not.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn wait_for_standby(&self, is_waiting: bool) -> io::Result<()> {
        let standbys = if is_waiting { "*" } else { "" };
        self.administrate("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{standbys}'"))?;
        self.administrate("postgres", "SELECT pg_reload_conf()")?;
        self.wait_for("SHOW synchronous_standby_names", standbys)
    }

    /// Stops to copy what its primary commits.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn detach(&self) -> io::Result<()> {
        self.administrate("postgres", "ALTER SYSTEM SET primary_conninfo = ''")?;
        self.administrate("postgres", "SELECT pg_reload_conf()")?;
        self.wait_for("SELECT count(*) FROM pg_stat_wal_receiver", "0")
    }

    /// Makes a standby a primary.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn promote(&self) -> io::Result<()> {
        self.administrate("postgres", "SELECT pg_promote()").map(drop)
    }

    fn wait_for(&self, sql: &str, wanted: &str) -> io::Result<()> {
        let began = Instant::now();
        while self.administrate("postgres", sql)? != wanted {
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("{sql} never says {wanted:?}")));
            }
            std::thread::sleep(INTERVAL);
        }
        Ok(())
    }

    /// Returns the folder of the server's socket.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// Runs statements as the administrator, and returns what they print.
    ///
    /// # Errors
    /// When one fails.
    pub fn administrate(&self, database: &str, sql: &str) -> io::Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", ADMINISTRATOR, "-h"]);
        let out = succeed(command.arg(&self.folder).args(["-d", database, "-c", sql]))?;
        Ok(out.trim().to_owned())
    }

    /// Kills the server's first process, as kill -9 does: the others end by themselves.
    ///
    /// # Errors
    /// When it runs no more.
    pub fn kill(&self) -> io::Result<()> {
        Ok(kill_process(self.pid, Signal::KILL)?)
    }

    /// Starts the server again after [`PostgresServer::kill`], and waits until it is ready.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn restart(&mut self) -> io::Result<()> {
        self.release_keeper()?;
        let began = Instant::now();
        loop {
            // Refused while processes of the one before still end.
            (self.keeper, self.pid) = run(&self.programs, &self.folder, self.is_synced)?;
            match self.wait_until_ready() {
                Err(why) if began.elapsed() > PATIENCE => return Err(why),
                Err(_) => self.release_keeper()?,
                ready => return ready,
            }
        }
    }

    /// Stops all its processes where they are.
    ///
    /// # Errors
    /// When the first one can't be stopped.
    pub fn freeze(&self) -> io::Result<()> {
        // The first one first: it makes no more.
        kill_process(self.pid, Signal::STOP)?;
        for child in self.children()? {
            // It may have ended by itself.
            let _ = kill_process(child, Signal::STOP);
        }
        Ok(())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When the first one can't be woken.
    pub fn thaw(&self) -> io::Result<()> {
        for child in self.children()? {
            let _ = kill_process(child, Signal::CONT);
        }
        Ok(kill_process(self.pid, Signal::CONT)?)
    }

    fn release_keeper(&mut self) -> io::Result<()> {
        if let Some(mut input) = self.keeper.stdin.take() {
            input.write_all(b"keep\n")?;
        }
        self.keeper.wait().map(drop)
    }

    fn children(&self) -> io::Result<Vec<Pid>> {
        let own = format!("PPid:\t{}", self.pid.as_raw_nonzero());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else { continue };
            // It may have ended since.
            let status = std::fs::read_to_string(Path::new("/proc").join(&name).join("status")).unwrap_or_default();
            found.extend(status.lines().any(|line| line == own).then_some(pid));
        }
        Ok(found)
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        let began = Instant::now();
        loop {
            match self.administrate("postgres", "SELECT 1") {
                Ok(_) => return Ok(()),
                Err(why) if began.elapsed() > PATIENCE || !self.is_running() => {
                    let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                    return Err(io::Error::other(format!("{why}\n{log}")));
                }
                Err(_) => std::thread::sleep(INTERVAL),
            }
        }
    }

    fn is_running(&self) -> bool {
        // Ended ones stay in the list as zombies until their keeper goes.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // A frozen one would not hear of its end.
        let _ = self.thaw();
        // The keeper does the rest.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Makes a folder for a server, which its keeper removes.
fn new_folder() -> io::Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix("vz-pg-").permissions(Permissions::from_mode(0o755)).tempdir()?.keep();
    if is_root() {
        succeed(Command::new("chown").arg(SERVER_USER).arg(&folder))?;
    }
    Ok(folder)
}

/// Starts the server and its keeper. Returns the keeper and the number of the server's first process.
fn run(programs: &Path, folder: &Path, is_synced: bool) -> io::Result<(Child, Pid)> {
    const SETTINGS: [&str; 7] = [
        "listen_addresses=",
        "shared_buffers=32MB",
        "max_connections=200",
        "autovacuum_naptime=5min",
        "max_wal_size=256MB",
        "lc_messages=C",
        "log_min_messages=fatal",
    ];
    let server = unprivileged(&programs.join("postgres"));
    let mut keeper = Command::new("sh");
    keeper.args(["-c", KEEPER, "sh"]).arg(folder).arg(server.get_program()).args(server.get_args());
    keeper.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
    let unsynced = if is_synced { &[][..] } else { &["fsync=off", "full_page_writes=off"] };
    for setting in SETTINGS.iter().chain(unsynced) {
        keeper.args(["-c", setting]);
    }
    let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(output) = keeper.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    let pid = line.trim().parse().ok().and_then(Pid::from_raw);
    Ok((keeper, pid.ok_or_else(|| io::Error::other("the server has no number"))?))
}

/// Returns a command that runs without root's rights, which the server refuses.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", SERVER_USER, "--regid", SERVER_USER, "--clear-groups"]).arg(program);
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the folder of the newest installed server.
fn find_programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            let programs = entry.path().join("bin");
            programs.join("initdb").exists().then_some((version, programs))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, programs)| programs)
}

fn succeed(command: &mut Command) -> io::Result<String> {
    let done = command.stdin(Stdio::null()).output()?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(io::Error::other(format!("{:?}: {}", command.get_program(), String::from_utf8_lossy(&done.stderr))))
}
