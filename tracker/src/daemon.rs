//! The program around the server: arguments, the data folder, signals, what is printed.

mod announcement;
mod args;
mod commands;
mod data_folder;
mod http;
mod identity;
mod listeners;
mod manager;
mod ready_lines;
mod reload;
mod settings;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certs::{FilePlace, IdentityError, StorageError, TlsError};
use rustix::process::{Resource, getrlimit, setrlimit};
use shared::Fingerprint;
use shared::limits::{LEASE, LEASE_AFTER_DROP};
use shared::safe_text::safe_path;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};

use crate::accounts::{Accounts, OpenError, StoreError};
use crate::admin::{self, Control};
use crate::backup::PRESENCE;
use crate::connection::{Budget, Patience};
use crate::limits::Rates;
use crate::memory::{Memory, MemoryError};
use crate::places::{PerAddress, Places};
use crate::registry::{AddressBlock, Rules};
use crate::server::{self, Tracker};
use crate::service::{Policy, Registration, Service, StartError};

pub use args::{Args, Command, Export, LogFormat, Part, UserCommand};
pub use commands::{CommandError, run as command};
pub use data_folder::DataFolderError;
pub use settings::{Settings, SettingsError};

use announcement::Announcement;
use data_folder::DataFolder;
use listeners::Reachable;
use reload::Live;

/// Changes how much is logged, and in what form.
pub type SetLog = Box<dyn Fn(LevelFilter, LogFormat) + Send + Sync>;

/// File descriptors that are not connections: the database, the log, the runtime, refusals.
const OTHER_DESCRIPTORS: u64 = 128;

/// How often the account store is tried again after a change could not be stored.
const PROBE_EVERY: Duration = Duration::from_secs(3);

/// How often the tracker looks whether its lock's file and its account database are still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the daemon runs with, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Where everything that lasts is kept.
    pub data_folder: PathBuf,
    /// Presence of a client of the exercise without a request.
    pub legacy_ttl: Duration,
    /// Whether an IP address may speak for an account without a certificate.
    pub legacy_auth: bool,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Most connections from one address at a time.
    pub per_address: PerAddress,
    /// How often somebody may try.
    pub rates: Rates,
    /// Who may make an account.
    pub registration: Registration,
    /// Keys of machines through which many people come and that tell them apart.
    pub doors: Vec<Fingerprint>,
    /// Addresses beyond the local network that may be passed on.
    pub announced: Vec<AddressBlock>,
    /// About how much memory all shared files' entries may take.
    pub catalogue_bytes: usize,
    /// Where to serve metrics.
    pub metrics: Option<SocketAddr>,
    /// Whether to announce the tracker on the local network.
    pub mdns: bool,
}

/// Why the daemon doesn't run. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Nowhere to keep anything.
    #[error("there is no home folder to keep the accounts in: choose a folder with --data-dir")]
    NoFolder,
    /// The data folder.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// The tracker's key.
    #[error(transparent)]
    Identity(IdentityError),
    /// The tracker's key can't be kept there.
    #[error("{0}; choose another folder with --data-dir")]
    KeyFolder(StorageError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The account database.
    #[error(transparent)]
    Accounts(#[from] OpenError),
    /// The accounts in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The account database went while the tracker ran.
    #[error(
        "the account database {0} was removed or replaced while the tracker ran: put back a copy of it (`tracker restore \
         FILE`), or begin without accounts with `tracker new accounts`"
    )]
    AccountsLost(PathBuf),
    /// The memory of who was present.
    #[error("{0}; check the data folder's permissions and the space on its disk")]
    Memory(#[from] MemoryError),
    /// The service could not begin.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Somebody else listens there.
    #[error("can't listen on {0}: the port is in use; stop the program that uses it, or choose another with --listen")]
    PortInUse(SocketAddr),
    /// Can't listen there at all.
    #[error("can't listen on {address}: {why}; choose an address of this machine and a free port with --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        why: io::Error,
    },
    /// Metrics can't be served there.
    #[error("can't serve metrics on {address}: {why}; choose another address with --metrics")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        why: io::Error,
    },
    /// The system refuses a thread, a signal handler or the like.
    #[error("the system refuses what the tracker needs: {0}")]
    System(#[from] io::Error),
}

impl DaemonError {
    /// Whether what is on the disk went.
    pub const fn is_disk(&self) -> bool {
        matches!(self, Self::AccountsLost(_))
    }
}

impl From<IdentityError> for DaemonError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Storage(why @ (StorageError::NoPermissions { .. } | StorageError::Io { .. })) => {
                Self::KeyFolder(why)
            }
            other => Self::Identity(other),
        }
    }
}

/// Runs until SIGTERM or SIGINT. SIGHUP brings the settings together again from `command_line`.
///
/// # Errors
/// [`DaemonError`].
pub fn run(settings: Settings, command_line: Vec<OsString>, set_log: SetLog) -> Result<(), DaemonError> {
    let config = settings.args.to_config().ok_or(DaemonError::NoFolder)?;
    let activated = manager::activated_listeners()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config, activated, settings, command_line, set_log));
    // A hash that nobody waits for any more is not worth waiting for either.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn serve(
    config: Config,
    activated: Vec<std::net::TcpListener>,
    settings: Settings,
    command_line: Vec<OsString>,
    set_log: SetLog,
) -> Result<(), DaemonError> {
    // Before anything is printed, so that whoever saw the ready line may end us in good order.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let hangup = signal(SignalKind::hangup())?;
    let places = Arc::new(Places::new(affordable(config.max_connections), config.per_address));
    let folder = DataFolder::lock(&config.data_folder)?;
    folder.prepare()?;
    // The accounts before the key: a key without accounts then shows that they were lost.
    let store = folder.open_accounts()?;
    let place = store.place();
    let identity = identity::open(&config.data_folder, &store)?;
    let accounts = Accounts::start(store)?;
    let memory = Memory::open(&config.data_folder.join(PRESENCE))?;
    let listeners = if activated.is_empty() {
        listeners::listen(&config.listen)?
    } else {
        activated.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?
    };
    let reachable = listeners.iter().map(Reachable::of).collect::<io::Result<Vec<_>>>()?;
    let addresses: Vec<SocketAddr> = reachable.iter().map(|reachable| reachable.address).collect();
    let fingerprint = identity.fingerprint();
    let service = Arc::new(Service::start(config.policy(), accounts, memory).await?);
    let mut beside = JoinSet::new();
    if let Some(address) = config.metrics {
        let listener = TcpListener::bind(address).await.map_err(|why| DaemonError::Metrics { address, why })?;
        info!(address = %listener.local_addr()?, "metrics");
        beside.spawn(http::serve(listener, Arc::clone(&service)));
    }
    let control = Control {
        service: Arc::clone(&service),
        data_folder: config.data_folder.clone(),
        addresses: addresses.clone(),
        fingerprint,
    };
    match admin::serve(control) {
        Ok(answers) => drop(beside.spawn(answers)),
        Err(why) => warn!(%why, "there is no socket for the administrator"),
    }
    let live = Live { service: Arc::clone(&service), places: Arc::clone(&places), set_log };
    beside.spawn(live.follow(hangup, settings, command_line));
    beside.spawn(manager::feed_watchdog(Arc::clone(&service)));
    beside.spawn(probe_in_time(Arc::clone(&service)));
    let tls = Arc::new(certs::tracker_server(&identity)?);
    let patience = Patience::default();
    let tracker = Tracker { service, tls, patience, budget: Arc::new(Budget::new()), places };
    announce(&addresses, fingerprint, &config.data_folder);
    let announcement = if config.mdns { Announcement::begin(&reachable, fingerprint) } else { None };
    let mut lost = None;
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: closing"),
            _ = interrupt.recv() => info!("SIGINT: closing"),
            path = watch_folder(&folder, &place) => lost = Some(path),
        }
        manager::stopping();
    };
    server::serve(listeners.into(), tracker, shutdown).await;
    beside.shutdown().await;
    if let Some(announcement) = announcement {
        announcement.end();
    }
    lost.map_or(Ok(()), |path| Err(DaemonError::AccountsLost(path)))
}

impl Config {
    fn policy(&self) -> Policy {
        let rules = Rules {
            lease: LEASE,
            grace: LEASE_AFTER_DROP,
            legacy_lease: self.legacy_ttl,
            legacy_auth: self.legacy_auth,
            catalogue_bytes: self.catalogue_bytes,
        };
        let (doors, announced) = (self.doors.clone(), self.announced.clone());
        Policy { rules, rates: self.rates, registration: self.registration, doors, announced }
    }
}

/// Puts the lock's file back when somebody removes it. Ends when the account database is gone, which can't be put back;
/// one that is away for a moment only (a backup, a file system that is mounted anew) is waited for.
async fn watch_folder(folder: &DataFolder, accounts: &FilePlace) -> PathBuf {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_lost = false;
    loop {
        ticks.tick().await;
        let is_lost = accounts.is_lost();
        if is_lost && was_lost {
            return accounts.path().to_owned();
        }
        was_lost = is_lost;
        folder.keep_lock();
    }
}

/// After trouble with the disk notices by itself when it is over, though nobody asks for a change.
async fn probe_in_time(service: Arc<Service>) {
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.probe_accounts().await;
    }
}

/// Says to everybody who waits for it that the tracker is ready. A closed standard output is nobody's error.
fn announce(addresses: &[SocketAddr], fingerprint: Fingerprint, data_folder: &Path) {
    if let Err(why) = ready_lines::print(addresses, &fingerprint)
        && why.kind() != io::ErrorKind::BrokenPipe
    {
        warn!(%why, "standard output can't be written");
    }
    let addresses: Vec<String> = addresses.iter().map(|address| listeners::shown(*address)).collect();
    let addresses = addresses.join(", ");
    manager::ready(&format!("listening on {addresses}"));
    info!(%addresses, %fingerprint, data_folder = %safe_path(data_folder), "ready");
}

/// As many connections as asked for, if the system gives that many descriptors; else as many as it gives.
fn affordable(wanted: usize) -> usize {
    let needed = (wanted as u64).saturating_add(OTHER_DESCRIPTORS);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
        // What counts is what is granted, read again below.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let granted = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if granted >= needed {
        return wanted;
    }
    let affordable = usize::try_from(granted.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(wanted).max(16);
    warn!(wanted, affordable, "the limit on open files (ulimit -n) allows fewer connections than --max-connections");
    affordable
}
