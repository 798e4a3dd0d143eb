//! A tracker of its own, and users with profiles of their own, in one temporary folder.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use postgres_server::PostgresServer;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::emulator::Relay;
use crate::{Host, Invocation, Outcome, Process, binaries, files, poll_until};

/// A temporary folder with a tracker in it. All of it goes when it is dropped.
pub struct Lab {
    // Dropped before the folder that it writes to.
    tracker: Mutex<Option<Process>>,
    address: String,
    options: LabOptions,
    folder: TempDir,
}

/// What is special about a lab.
#[derive(Debug, Clone, Default)]
pub struct LabOptions {
    /// Further arguments of the tracker.
    pub tracker_args: Vec<String>,
    /// The tracker will be started again on its port, so that has to be one that no other program is given.
    pub restarts: bool,
    /// The machine on which the tracker runs and its address there; this one, on loopback, by default.
    pub place: Option<(Host, IpAddr)>,
    /// A folder with the tracker's binary, where it is not this version's.
    pub binaries: Option<PathBuf>,
    /// The folder of another tracker, whose key this one is to have.
    pub key_of: Option<PathBuf>,
}

/// Set for a run in which the trackers keep what they know in PostgreSQL.
pub const POSTGRES_RUN: &str = "VIZINHO_TEST_POSTGRES";

/// The ports that links and the page take if they are free: held, so that no test is given what another one had.
static USUAL_PORTS: LazyLock<Vec<TcpListener>> =
    LazyLock::new(|| [8444, 8445].into_iter().filter_map(|port| TcpListener::bind(("::", port)).ok()).collect());

/// Somebody with a profile.
pub struct User<'a> {
    lab: &'a Lab,
    name: String,
    home: PathBuf,
    host: Option<Host>,
    program: PathBuf,
}

impl Lab {
    /// Starts a tracker and waits until it listens.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(LabOptions::default())
    }

    /// The same for a test that stops the tracker and starts it again.
    #[track_caller]
    pub fn with_restarts() -> Self {
        Self::with(LabOptions { restarts: true, ..LabOptions::default() })
    }

    /// The same with options.
    ///
    /// # Panics
    /// When the tracker doesn't start.
    #[track_caller]
    pub fn with(options: LabOptions) -> Self {
        let mut lab = Self::without_tracker();
        let port = if options.restarts { quiet_port() } else { 0 };
        let ip = options.place.as_ref().map_or(Ipv4Addr::LOCALHOST.into(), |(_, ip)| *ip);
        if let Some(other) = &options.key_of {
            let key = lab.join("tracker/identity");
            std::fs::create_dir_all(&key).expect("a folder for the key");
            std::fs::set_permissions(&key, PermissionsExt::from_mode(0o700)).expect("a folder of its own");
            std::fs::copy(other.join("identity/identity.pem"), key.join("identity.pem")).expect("a copied key");
        }
        lab.options = options.with_usual_store();
        lab.address = SocketAddr::new(ip, port).to_string();
        lab.start_tracker();
        lab
    }

    /// Only the folder, for a test that brings a tracker of another kind.
    ///
    /// # Panics
    /// When there is no place for temporary folders.
    pub fn without_tracker() -> Self {
        LazyLock::force(&USUAL_PORTS);
        // Short: a profile's socket has at most 108 bytes for its path.
        // Open to read: some runs are somebody else's.
        let open = PermissionsExt::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("vz-").permissions(open).tempdir().expect("a temporary folder");
        let (tracker, options) = (Mutex::new(None), LabOptions::default());
        Self { tracker, address: "127.0.0.1:1".to_owned(), options, folder }
    }

    /// Starts the tracker, again after [`Lab::kill_tracker`], and waits until it listens.
    ///
    /// # Panics
    /// When it doesn't start.
    #[track_caller]
    pub fn start_tracker(&mut self) {
        let process = self.tracker_invocation(&self.address).start();
        let line = process.wait_for("tracker listening on ");
        self.address = line.trim_start_matches("tracker listening on ").to_owned();
        *self.tracker.lock().unwrap() = Some(process);
    }

    /// A tracker with this lab's data, which is to listen there.
    pub fn tracker_invocation(&self, address: &str) -> Invocation {
        let program = match &self.options.binaries {
            Some(folder) => folder.join("tracker"),
            None => binaries::binary("tracker"),
        };
        let tracker = Invocation::new(program, self.path())
            .args(["--listen", address, "--data-dir"])
            .arg(self.path().join("tracker"))
            .args(&self.options.tracker_args)
            // As its unit has it.
            .env("MALLOC_ARENA_MAX", "2")
            .env("MALLOC_MMAP_THRESHOLD_", "131072");
        match &self.options.place {
            Some((host, _)) => tracker.on(host),
            None => tracker,
        }
    }

    /// kill -9, in the middle of whatever it does.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn kill_tracker(&self) {
        let tracker = self.take_tracker();
        tracker.kill();
        tracker.finish().exits(137);
    }

    /// The tracker's process; from here on the caller's.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn take_tracker(&self) -> Process {
        self.tracker.lock().unwrap().take().expect("the tracker runs")
    }

    /// Waits until the tracker has stored that the user is present and shares so many files.
    ///
    /// # Panics
    /// When it never does.
    pub fn wait_until_remembered(&self, user: &str, files: u64) {
        const COUNT: &str =
            "SELECT coalesce(sum((length(files) - length(replace(files, '\"name\":', ''))) / 7), 0) FROM";
        let stored = || match self.database() {
            Some((server, database)) => {
                let counted = server.administrate(database, &format!("{COUNT} catalogue WHERE user_name = '{user}'"));
                counted.ok().and_then(|count| count.parse::<i64>().ok())
            }
            None => {
                let path = self.join("tracker/presence.db");
                let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
                database.query_row(&format!("{COUNT} list WHERE user = ?1"), [user], |row| row.get(0)).ok()
            }
        };
        let is_stored = || (stored().and_then(|stored| u64::try_from(stored).ok()) == Some(files)).then_some(());
        poll_until(is_stored, || format!("{files} files of {user} are never stored, but {:?}", stored()));
    }

    /// The server and the name of the tracker's database, if it has one of the server that all share.
    fn database(&self) -> Option<(&'static PostgresServer, &str)> {
        let store = self.options.tracker_args.iter().skip_while(|arg| *arg != "--store").nth(1)?;
        Some((PostgresServer::shared()?, store.rsplit('/').next()?))
    }

    /// The process number of the tracker.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn tracker_pid(&self) -> u32 {
        self.tracker.lock().unwrap().as_ref().expect("the tracker runs").pid()
    }

    /// Where the tracker listens, `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The tracker's key.
    ///
    /// # Panics
    /// When there is no tracker.
    #[track_caller]
    pub fn tracker_key(&self) -> String {
        let tracker = self.tracker.lock().unwrap();
        let line = tracker.as_ref().expect("the tracker runs").wait_for("fingerprint ");
        line.trim_start_matches("fingerprint ").to_owned()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path().join(path)
    }

    /// Makes a file of `size` bytes of noise in the folder.
    pub fn file(&self, path: impl AsRef<Path>, size: usize) -> PathBuf {
        let seed =
            path.as_ref().to_string_lossy().bytes().fold(7, |seed: u64, byte| seed * 31 % 65_521 + u64::from(byte));
        files::write(self.join(path), files::noise(seed, size))
    }

    /// Makes an empty folder in the folder.
    ///
    /// # Panics
    /// When the disk doesn't want to.
    pub fn empty_folder(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.join(path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Changes the database of a profile behind its back.
    ///
    /// # Panics
    /// When the database doesn't want to.
    pub fn sqlite(&self, home: &Path, sql: &str) {
        let database = Connection::open(home.join("profile.db")).expect("a database");
        database.execute_batch(sql).expect("it does what it is told");
    }

    /// Registers somebody and gives them a profile.
    #[track_caller]
    pub fn user(&self, name: &str) -> User<'_> {
        self.stranger(name).registered()
    }

    /// The same for somebody on another machine.
    #[track_caller]
    pub fn user_on(&self, host: &Host, name: &str) -> User<'_> {
        self.stranger_on(host, name).registered()
    }

    /// The same for somebody on another machine, not registered.
    pub fn stranger_on(&self, host: &Host, name: &str) -> User<'_> {
        User { host: Some(host.clone()), ..self.stranger(name) }
    }

    /// Gives somebody a profile and does not register them.
    pub fn stranger(&self, name: &str) -> User<'_> {
        let home = self.join(name);
        let password = files::write(self.join(format!("{name}.password")), format!("password of {name}\n"));
        std::fs::set_permissions(password, Permissions::from_mode(0o600)).expect("the file is ours");
        User { lab: self, name: name.to_owned(), home, host: None, program: binaries::binary("peer") }
    }
}

impl LabOptions {
    /// Gives the tracker a database of its own if this run is about that.
    fn with_usual_store(mut self) -> Self {
        let is_wanted = std::env::var_os(POSTGRES_RUN).is_some();
        // An earlier version may know none, and another machine may not reach it.
        let is_possible = self.binaries.is_none() && !self.tracker_args.iter().any(|arg| arg == "--store");
        if let Some(server) = PostgresServer::shared().filter(|_| is_wanted && is_possible) {
            let database = server.create_database().expect("a database");
            self.tracker_args.extend(["--store".to_owned(), server.address(&database)]);
        }
        self
    }
}

impl User<'_> {
    /// The same person with another `peer`: that in `folder`.
    #[must_use]
    pub fn with_binaries(self, folder: &Path) -> Self {
        Self { program: folder.join("peer"), ..self }
    }

    /// Makes the account.
    #[must_use]
    #[track_caller]
    pub fn registered(self) -> Self {
        self.peer(["register", &self.name, "--password-file"]).arg(self.password_file()).run().exits(0);
        self
    }

    /// The account's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The profile's folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A file with the account's password.
    pub fn password_file(&self) -> PathBuf {
        self.lab.join(format!("{}.password", self.name))
    }

    /// A run of `peer` with this profile.
    pub fn peer(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Invocation {
        let peer = Invocation::new(&self.program, self.lab.path())
            .env("VIZINHO_HOME", &self.home)
            .env("VIZINHO_TRACKER", self.lab.address())
            // Nobody is there to be asked. What is tested about first contacts takes it back.
            .env("VIZINHO_ACCEPT_NEW", "1")
            .args(args);
        // Last: what is run there is the whole of it.
        match &self.host {
            Some(host) => peer.on(host),
            None => peer,
        }
    }

    /// A run of `peer` in which the first contact with a tracker is asked about.
    pub fn cautious_peer(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Invocation {
        self.peer(args).env("VIZINHO_ACCEPT_NEW", "0")
    }

    /// Takes messages of these as of people with whom one talks.
    #[track_caller]
    pub fn accept<'a>(&self, users: impl IntoIterator<Item = &'a str>) {
        for user in users {
            self.peer(["inbox", "--accept", user]).run().exits(0);
        }
    }

    /// Shares files and folders.
    #[track_caller]
    pub fn share(&self, paths: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        let shared = self.peer(["share", "--"]).args(paths).run();
        shared.exits(0);
        shared
    }

    /// Starts `peer serve` and waits until it is online.
    #[track_caller]
    pub fn serve(&self) -> Process {
        let process = self.peer(["serve"]).start();
        process.wait_for(&format!("online as {} at ", self.name));
        process
    }

    /// Starts `peer serve` so that it is found at the relay and nowhere else, and waits until it is online.
    ///
    /// # Panics
    /// When it doesn't say at which port it listens.
    #[track_caller]
    pub fn serve_behind(&self, relay: &Relay, args: &[&str]) -> Process {
        let process = self.peer(["serve", "--announce"]).arg(relay.port().to_string()).args(args).start();
        let line = process.wait_for(&format!("online as {} at ", self.name));
        let port = line.split("UDP port ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        relay.lead_to(port.unwrap_or_else(|| panic!("no port in {line:?}")));
        process
    }

    /// Fetches into a folder.
    pub fn fetch<'a>(&self, from: &str, names: impl IntoIterator<Item = &'a str>, output: &Path) -> Invocation {
        self.peer(["fetch", from, "-o"]).arg(output).arg("--").args(names)
    }

    /// The account's key, as `peer whoami` has it.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn fingerprint(&self) -> String {
        let who = self.peer(["--json", "whoami"]).run();
        who.exits(0).object("account")["fingerprint"].as_str().expect("a key").to_owned()
    }

    /// Where the running node listens, as `peer whoami` has it.
    ///
    /// # Panics
    /// When it isn't online.
    #[track_caller]
    pub fn node_address(&self) -> SocketAddr {
        let who = self.peer(["--json", "whoami"]).run();
        let address = who.exits(0).object("account")["address"].as_str().expect("it is online").to_owned();
        address.parse().expect("an address")
    }
}

/// A port that is free now and that the system gives to nobody who doesn't ask for it by number.
fn quiet_port() -> u16 {
    // Below where Linux picks ports for those who don't care (32768 and up); different for each process and test.
    let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    let mut candidates = (0..5000).map(|step| 20_000 + u16::try_from((start + step * 7) % 12_000).unwrap_or(0));
    candidates.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("a free port")
}
