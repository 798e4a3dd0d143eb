//! The daemon around the server: arguments, the data folder, signals and output.

mod account_opening;
mod args;
mod commands;
mod config_reload;
mod data_folder;
mod journal_writer;
mod listeners;
mod mdns_announcement;
mod metrics_server;
mod ready_message;
mod service_manager;
mod settings;
mod tracker_identity;
mod translations;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::{IdentityError, SecretStorageError, TlsError};
use localization::{Language, current_language, in_language, set_language, tr};
use rustix::process::{Resource, getrlimit, setrlimit};
use shared::Fingerprint;
use shared::limits::{LEASE_AFTER_DISCONNECT, LEASE_DURATION};
use shared::safe_text::safe_path;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};

use crate::admin::{self, AdminContext};
use crate::backup::{ACCOUNT_DATABASE, PRESENCE_DATABASE};
use crate::connection::{ConnectionTimeouts, MemoryQuota};
use crate::connection_slots::{ConnectionSlots, PerAddressLimits};
use crate::rate_limits::RateSettings;
use crate::registry::{AddressBlock, PresenceRules};
use crate::server::{self, ServerContext};
use crate::service::{RegistrationMode, ServicePolicy, ServiceStartError, TrackerService};
use crate::store::{
    AccountDatabaseError, AccountStoreError, PostgresAddress, PostgresAddressError, PresenceStore, PresenceStoreError,
    StoreConnectError,
};

pub use self::journal_writer::{JournalRecordWriter, JournalWriter, is_stderr_journal};
pub use args::{ExportKind, LogFormat, LostPart, RoomCommand, TrackerArgs, TrackerCommand, UserCommand};
pub use commands::{CommandError, run_command as command};
pub use data_folder::DataFolderError;
pub use settings::{SettingsError, TrackerSettings};
pub use translations::{language_of, translations, use_translations};

use account_opening::OpenedAccounts;
use config_reload::ConfigReloader;
use data_folder::DataFolder;
use listeners::ListenAddress;
use mdns_announcement::{MdnsAnnouncement, OwnMark};

/// Changes the log's level and format.
pub type LogSetter = Box<dyn Fn(LevelFilter, LogFormat) + Send + Sync>;

/// File descriptors besides those of connections: database, log, runtime, refused connections.
const RESERVED_DESCRIPTORS: u64 = 128;

/// The interval at which the account store is tried again after a failed change.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// The interval at which accounts that lapsed are removed.
const LAPSE_INTERVAL: Duration = Duration::from_secs(60);

/// The daemon's configuration, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonConfig {
    /// The addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// The folder of the lock, the key and the databases.
    pub data_folder: PathBuf,
    /// Time for which a client of the exercise stays present without a request.
    pub legacy_ttl: Duration,
    /// The IP address that logged in may speak for an account without a certificate.
    pub legacy_auth: bool,
    /// The limit of connections in total.
    pub max_connections: usize,
    /// The limits of connections from one address.
    pub per_address: PerAddressLimits,
    /// The rate limits.
    pub rates: RateSettings,
    /// The people who may make accounts.
    pub registration: RegistrationMode,
    /// Keys of trusted gateways that name the person of each connection.
    pub trusted_doors: Vec<Fingerprint>,
    /// Addresses beyond the local network that may be passed on to peers.
    pub announceable: Vec<AddressBlock>,
    /// Memory that all users' lists of files may take, about.
    pub catalogue_bytes: usize,
    /// The address of the metrics server; `None`: no metrics.
    pub metrics: Option<SocketAddr>,
    /// Announce the tracker on the local network.
    pub mdns: bool,
}

/// The reason why the daemon can't run. Every message says what to do.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum DaemonError {
    #[error("{}", tr!("there is no home folder to keep the accounts in: choose a folder with --data-dir"))]
    NoFolder,
    /// The data folder can't be used.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// The tracker's key is missing or damaged.
    #[error(transparent)]
    Identity(IdentityError),
    #[error("{}", tr!("{why}; choose another folder with --data-dir", why = .0))]
    KeyFolder(SecretStorageError),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The account database can't be opened.
    #[error(transparent)]
    Accounts(#[from] AccountDatabaseError),
    /// The accounts can't be read.
    #[error(transparent)]
    Store(#[from] AccountStoreError),
    #[error("{}", tr!(
        "the account database {path} was removed or replaced while the tracker ran: put back a copy of it (`tracker restore \
         FILE`), or begin without accounts with `tracker new accounts`",
        path = safe_path(.0)
    ))]
    AccountsLost(PathBuf),
    #[error("{}", tr!("a fault in the tracker ended it, so start it again: {why}", why = .0))]
    TaskPanicked(#[from] JoinError),
    #[error("{}", tr!("the database {address} can't be used: {why}", address, why))]
    Database { address: String, why: StoreConnectError },
    /// The address of the database is wrong.
    #[error(transparent)]
    StoreAddress(#[from] PostgresAddressError),
    #[error("{}", tr!(
        "the database {address} is empty, and the data folder {folder} has accounts: copy them with \
         `tracker migrate --from {folder} --to ADDRESS`, or move {database} away",
        address,
        folder = safe_path(.folder),
        database = safe_path(.folder.join(ACCOUNT_DATABASE))
    ))]
    AccountsElsewhere { folder: PathBuf, address: String },
    #[error("{}", tr!(
        "what this tracker knew of the database {address} is out of date: it missed more changes than are kept there, or \
         read some that a promoted standby lacks; start it again",
        address = .0
    ))]
    Outdated(String),
    #[error("{}", tr!("{why}; check the data folder's permissions and the space on its disk", why = .0))]
    PresenceStore(#[from] PresenceStoreError),
    /// The service can't start.
    #[error(transparent)]
    Start(#[from] ServiceStartError),
    #[error("{}", tr!(
        "can't listen on {address}: the port is in use; stop the program that uses it, or choose another with --listen",
        address = .0
    ))]
    PortInUse(SocketAddr),
    #[error("{}", tr!(
        "can't listen on {address}: {why}; choose an address of this machine and a free port with --listen",
        address,
        why
    ))]
    Listen { address: SocketAddr, why: io::Error },
    #[error("{}", tr!("can't serve metrics on {address}: {why}; choose another address with --metrics", address, why))]
    Metrics { address: SocketAddr, why: io::Error },
    #[error("{}", tr!("the system refuses what the tracker needs: {why}", why = .0))]
    System(#[from] io::Error),
}

impl DaemonError {
    /// True if data on the disk was lost.
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

/// Runs until SIGTERM or SIGINT. SIGHUP resolves the settings anew from `command_line`. Fails with [`DaemonError`] when
/// the tracker can't start, or when its account database disappears.
pub fn run(settings: TrackerSettings, command_line: Vec<OsString>, set_log: LogSetter) -> Result<(), DaemonError> {
    let config = settings.args.to_config().ok_or(DaemonError::NoFolder)?;
    let store = settings.args.store()?;
    // Before the runtime has threads: it takes the sockets out of the environment, which they share.
    let activated = service_manager::activated_listeners()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config, store, activated, settings, command_line, set_log));
    // Password hashes that nobody waits for are not awaited long.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn serve(
    config: DaemonConfig,
    store: Option<PostgresAddress>,
    activated: Vec<std::net::TcpListener>,
    settings: TrackerSettings,
    command_line: Vec<OsString>,
    set_log: LogSetter,
) -> Result<(), DaemonError> {
    // Before the ready line is printed: whoever reads it may send SIGTERM at once and expects an ordered shutdown.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let hangup = signal(SignalKind::hangup())?;
    // No more slots than descriptors: a connection without a descriptor could not even be refused.
    let slots = Arc::new(ConnectionSlots::new(affordable_connections(config.max_connections), config.per_address));
    let is_shared = store.is_some();
    // Before anything in it is opened or repaired: another tracker may be using it.
    let folder = DataFolder::lock(&config.data_folder)?;
    let OpenedAccounts { accounts, identity, mut guard } = OpenedAccounts::open(&folder, store.as_ref()).await?;
    let memory = PresenceStore::open(&config.data_folder.join(PRESENCE_DATABASE))?;
    let listeners = if activated.is_empty() {
        listeners::listen(&config.listen)?
    } else {
        activated.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?
    };
    let reachable = listeners.iter().map(ListenAddress::of).collect::<io::Result<Vec<_>>>()?;
    let addresses: Vec<SocketAddr> = reachable.iter().map(|reachable| reachable.address).collect();
    let fingerprint = identity.fingerprint();
    let language = current_language();
    // From here on texts go to clients, to the administrator's commands and to the log.
    set_language(Language::English);
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
        // Clients are served without it.
        Err(why) => warn!(%why, "there is no socket for the administrator"),
    }
    let live = ConfigReloader { service: Arc::clone(&service), slots: Arc::clone(&slots), set_log };
    side_tasks.spawn(live.run_on_hangup(hangup, settings, command_line));
    side_tasks.spawn(service_manager::feed_watchdog(Arc::clone(&service)));
    side_tasks.spawn(probe_periodically(Arc::clone(&service)));
    side_tasks.spawn(remove_lapsed_periodically(Arc::clone(&service)));
    let tls = Arc::new(certs::tracker_server_config(&identity)?);
    let tracker = ServerContext {
        service: Arc::clone(&service),
        tls,
        timeouts: ConnectionTimeouts::default(),
        memory_quota: Arc::new(MemoryQuota::new()),
        slots,
    };
    in_language(language, || report_ready(&addresses, fingerprint, &config.data_folder));
    // Announced last: peers connect as soon as they see it.
    let own = if is_shared { OwnMark::of_instance(&config.data_folder) } else { OwnMark::Fingerprint };
    let announcement = if config.mdns { MdnsAnnouncement::begin(&reachable, fingerprint, &own) } else { None };
    let mut failure = None;
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: closing"),
            _ = interrupt.recv() => info!("SIGINT: closing"),
            why = guard.watch(&folder) => failure = Some(why),
            // Such as the watchdog's: nobody would miss it before it is needed.
            why = server::first_panic(&mut side_tasks) => failure = Some(why.into()),
        }
        service_manager::notify_stopping();
    };
    let served = server::serve(listeners.into(), tracker, shutdown).await;
    side_tasks.shutdown().await;
    // Before the runtime ends, by which the jobs of a database run.
    service.finish_changes().await;
    if let Some(announcement) = announcement {
        announcement.end();
    }
    failure.map_or_else(|| served.map_err(DaemonError::from), Err)
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

/// Tries the account store after failed changes, so that a recovered disk is noticed without a client's request.
async fn probe_periodically(service: Arc<TrackerService>) {
    let mut ticks = interval(PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.probe_accounts().await;
    }
}

/// Removes accounts that were never used.
async fn remove_lapsed_periodically(service: Arc<TrackerService>) {
    let mut ticks = interval(LAPSE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.remove_lapsed_accounts(SystemTime::now()).await;
    }
}

/// Announces that the tracker is ready. A closed standard output is no error.
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

/// Returns the number of connections for which the system grants descriptors, at most `wanted`.
fn affordable_connections(wanted: usize) -> usize {
    let needed = (wanted as u64).saturating_add(RESERVED_DESCRIPTORS);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
        // Only the limit that is granted matters; it is read again below.
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
