//! The program around the server: arguments, the data folder, signals, what is printed.

mod args;
mod commands;
mod config_reload;
mod data_folder;
mod listeners;
mod mdns_announcement;
mod metrics_server;
mod ready_message;
mod service_manager;
mod settings;
mod tracker_identity;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certs::{FileLossDetector, IdentityError, SecretStorageError, TlsError};
use rustix::process::{Resource, getrlimit, setrlimit};
use shared::Fingerprint;
use shared::limits::{LEASE_AFTER_DISCONNECT, LEASE_DURATION};
use shared::safe_text::safe_path;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};

use crate::accounts::{AccountDatabaseError, AccountStoreError, AccountStoreHandle};
use crate::admin::{self, AdminContext};
use crate::backup::PRESENCE_DATABASE;
use crate::connection::{ConnectionTimeouts, MemoryQuota};
use crate::connection_slots::{ConnectionSlots, PerAddressLimits};
use crate::presence_store::{PresenceStore, PresenceStoreError};
use crate::rate_limits::RateSettings;
use crate::registry::{AddressBlock, PresenceRules};
use crate::server::{self, ServerContext};
use crate::service::{RegistrationMode, ServicePolicy, ServiceStartError, TrackerService};

pub use args::{ExportKind, LogFormat, LostPart, TrackerArgs, TrackerCommand, UserCommand};
pub use commands::{CommandError, run_command as command};
pub use data_folder::DataFolderError;
pub use settings::{SettingsError, TrackerSettings};

use config_reload::ConfigReloader;
use data_folder::DataFolder;
use listeners::ListenAddress;
use mdns_announcement::MdnsAnnouncement;

/// Changes how much is logged, and in what form.
pub type LogSetter = Box<dyn Fn(LevelFilter, LogFormat) + Send + Sync>;

/// File descriptors that are not connections: the database, the log, the runtime, refusals.
const RESERVED_DESCRIPTORS: u64 = 128;

/// How often the account store is tried again after a change could not be stored.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// How often the tracker looks whether its lock's file and its account database are still there.
const FOLDER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What the daemon runs with, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonConfig {
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
    pub per_address: PerAddressLimits,
    /// How often somebody may try.
    pub rates: RateSettings,
    /// Who may make an account.
    pub registration: RegistrationMode,
    /// Keys of machines through which many people come and that tell them apart.
    pub trusted_doors: Vec<Fingerprint>,
    /// Addresses beyond the local network that may be passed on.
    pub announceable: Vec<AddressBlock>,
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
    KeyFolder(SecretStorageError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The account database.
    #[error(transparent)]
    Accounts(#[from] AccountDatabaseError),
    /// The accounts in it.
    #[error(transparent)]
    Store(#[from] AccountStoreError),
    /// The account database went while the tracker ran.
    #[error(
        "the account database {0} was removed or replaced while the tracker ran: put back a copy of it (`tracker restore \
         FILE`), or begin without accounts with `tracker new accounts`"
    )]
    AccountsLost(PathBuf),
    /// The memory of who was present.
    #[error("{0}; check the data folder's permissions and the space on its disk")]
    PresenceStore(#[from] PresenceStoreError),
    /// The service could not begin.
    #[error(transparent)]
    Start(#[from] ServiceStartError),
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
    pub const fn is_disk_failure(&self) -> bool {
        matches!(self, Self::AccountsLost(_))
    }
}

impl From<IdentityError> for DaemonError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Storage(
                why @ (SecretStorageError::NoPermissions { .. } | SecretStorageError::Io { .. }),
            ) => Self::KeyFolder(why),
            other => Self::Identity(other),
        }
    }
}

/// Runs until SIGTERM or SIGINT. SIGHUP brings the settings together again from `command_line`.
///
/// # Errors
/// [`DaemonError`].
pub fn run(settings: TrackerSettings, command_line: Vec<OsString>, set_log: LogSetter) -> Result<(), DaemonError> {
    let config = settings.args.to_config().ok_or(DaemonError::NoFolder)?;
    let activated = service_manager::activated_listeners()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config, activated, settings, command_line, set_log));
    // A hash that nobody waits for any more is not worth waiting for either.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn serve(
    config: DaemonConfig,
    activated: Vec<std::net::TcpListener>,
    settings: TrackerSettings,
    command_line: Vec<OsString>,
    set_log: LogSetter,
) -> Result<(), DaemonError> {
    // Before anything is printed, so that whoever saw the ready line may end us in good order.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let hangup = signal(SignalKind::hangup())?;
    let places = Arc::new(ConnectionSlots::new(affordable_connections(config.max_connections), config.per_address));
    let folder = DataFolder::lock(&config.data_folder)?;
    folder.prepare()?;
    // The accounts before the key: a key without accounts then shows that they were lost.
    let store = folder.open_accounts()?;
    let place = store.file_place();
    let identity = tracker_identity::open_identity(&config.data_folder, &store)?;
    let accounts = AccountStoreHandle::start(store)?;
    let memory = PresenceStore::open(&config.data_folder.join(PRESENCE_DATABASE))?;
    let listeners = if activated.is_empty() {
        listeners::listen(&config.listen)?
    } else {
        activated.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?
    };
    let reachable = listeners.iter().map(ListenAddress::of).collect::<io::Result<Vec<_>>>()?;
    let addresses: Vec<SocketAddr> = reachable.iter().map(|reachable| reachable.address).collect();
    let fingerprint = identity.fingerprint();
    let service = Arc::new(TrackerService::start(config.policy(), accounts, memory).await?);
    let mut side_tasks = JoinSet::new();
    if let Some(address) = config.metrics {
        let listener = TcpListener::bind(address).await.map_err(|why| DaemonError::Metrics { address, why })?;
        info!(address = %listener.local_addr()?, "metrics");
        side_tasks.spawn(metrics_server::serve(listener, Arc::clone(&service)));
    }
    let control = AdminContext {
        service: Arc::clone(&service),
        data_folder: config.data_folder.clone(),
        addresses: addresses.clone(),
        fingerprint,
    };
    match admin::serve(control) {
        Ok(answers) => drop(side_tasks.spawn(answers)),
        Err(why) => warn!(%why, "there is no socket for the administrator"),
    }
    let live = ConfigReloader { service: Arc::clone(&service), slots: Arc::clone(&places), set_log };
    side_tasks.spawn(live.run_on_hangup(hangup, settings, command_line));
    side_tasks.spawn(service_manager::feed_watchdog(Arc::clone(&service)));
    side_tasks.spawn(probe_periodically(Arc::clone(&service)));
    let tls = Arc::new(certs::tracker_server_config(&identity)?);
    let patience = ConnectionTimeouts::default();
    let tracker =
        ServerContext { service, tls, timeouts: patience, memory_quota: Arc::new(MemoryQuota::new()), slots: places };
    report_ready(&addresses, fingerprint, &config.data_folder);
    let announcement = if config.mdns { MdnsAnnouncement::begin(&reachable, fingerprint) } else { None };
    let mut lost = None;
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: closing"),
            _ = interrupt.recv() => info!("SIGINT: closing"),
            path = watch_folder(&folder, &place) => lost = Some(path),
        }
        service_manager::notify_stopping();
    };
    server::serve(listeners.into(), tracker, shutdown).await;
    side_tasks.shutdown().await;
    if let Some(announcement) = announcement {
        announcement.end();
    }
    lost.map_or(Ok(()), |path| Err(DaemonError::AccountsLost(path)))
}

impl DaemonConfig {
    fn policy(&self) -> ServicePolicy {
        let rules = PresenceRules {
            lease: LEASE_DURATION,
            grace: LEASE_AFTER_DISCONNECT,
            legacy_lease: self.legacy_ttl,
            legacy_auth: self.legacy_auth,
            catalogue_bytes: self.catalogue_bytes,
        };
        let (doors, announced) = (self.trusted_doors.clone(), self.announceable.clone());
        ServicePolicy {
            rules,
            rates: self.rates,
            registration: self.registration,
            trusted_doors: doors,
            announceable: announced,
        }
    }
}

/// Puts the lock's file back when somebody removes it. Ends when the account database is gone, which can't be put back;
/// one that is away for a moment only (a backup, a file system that is mounted anew) is waited for.
async fn watch_folder(folder: &DataFolder, accounts: &FileLossDetector) -> PathBuf {
    let mut ticks = interval(FOLDER_CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_lost = false;
    loop {
        ticks.tick().await;
        let is_lost = accounts.is_lost();
        if is_lost && was_lost {
            return accounts.path().to_owned();
        }
        was_lost = is_lost;
        folder.maintain_lock();
    }
}

/// After trouble with the disk notices by itself when it is over, though nobody asks for a change.
async fn probe_periodically(service: Arc<TrackerService>) {
    let mut ticks = interval(PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.probe_accounts().await;
    }
}

/// Says to everybody who waits for it that the tracker is ready. A closed standard output is nobody's error.
fn report_ready(addresses: &[SocketAddr], fingerprint: Fingerprint, data_folder: &Path) {
    if let Err(why) = ready_message::print(addresses, &fingerprint)
        && why.kind() != io::ErrorKind::BrokenPipe
    {
        warn!(%why, "standard output can't be written");
    }
    let addresses: Vec<String> = addresses.iter().map(|address| listeners::display_address(*address)).collect();
    let addresses = addresses.join(", ");
    service_manager::notify_ready(&format!("listening on {addresses}"));
    info!(%addresses, %fingerprint, data_folder = %safe_path(data_folder), "ready");
}

/// As many connections as asked for, if the system gives that many descriptors; else as many as it gives.
fn affordable_connections(wanted: usize) -> usize {
    let needed = (wanted as u64).saturating_add(RESERVED_DESCRIPTORS);
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
    let affordable = usize::try_from(granted.saturating_sub(RESERVED_DESCRIPTORS)).unwrap_or(wanted).max(16);
    warn!(wanted, affordable, "the limit on open files (ulimit -n) allows fewer connections than --max-connections");
    affordable
}
