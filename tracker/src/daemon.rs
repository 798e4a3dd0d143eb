//! The program around the server: arguments, the data folder, signals, what is printed.

mod args;
mod data_folder;

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certs::{Identity, IdentityError, TlsError};
use rustix::process::{Resource, getrlimit, setrlimit};
use shared::Fingerprint;
use shared::limits::{LEASE, LEASE_AFTER_DROP};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::accounts::{Accounts, OpenError, SqliteStore};
use crate::connection::Patience;
use crate::limits::Rates;
use crate::memory::{Memory, MemoryError};
use crate::registry::Rules;
use crate::server::{self, PerAddress, Tracker};
use crate::service::{Policy, Registration, Service, StartError};

pub use args::Args;
pub use data_folder::DataFolderError;

/// File descriptors that are not connections: the database, the log, the runtime, refusals.
const OTHER_DESCRIPTORS: u64 = 128;

/// What the daemon runs with, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
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
    /// About how much memory all shared files' entries may take.
    pub catalogue_bytes: usize,
}

/// Why the daemon doesn't run. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The data folder.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// The tracker's key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The account database.
    #[error(transparent)]
    Accounts(#[from] OpenError),
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
    /// The system refuses a thread, a signal handler or the like.
    #[error("the system refuses what the tracker needs: {0}")]
    System(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError`].
pub fn run(config: Config) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config));
    // A hash that nobody waits for any more is not worth waiting for either.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn serve(config: Config) -> Result<(), DaemonError> {
    // Before anything is printed, so that whoever saw the ready line may end us in good order.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let max_connections = affordable(config.max_connections);
    let _lock: File = data_folder::open_and_lock(&config.data_folder)?;
    let identity = Identity::load_or_create(&config.data_folder.join("identity"))?;
    let accounts = Accounts::start(SqliteStore::open(&config.data_folder.join(data_folder::DATABASE))?)?;
    let memory = Memory::open(&config.data_folder.join(data_folder::PRESENCE))?;
    let listener = listen(config.listen).await?;
    let service = Arc::new(Service::start(config.policy(), accounts, memory).await?);
    let tls = Arc::new(certs::tracker_server(&identity)?);
    let patience = Patience::default();
    let idle_logged_in = patience.idle.max(config.legacy_ttl);
    let patience = Patience { idle_logged_in, ..patience };
    let tracker = Tracker { service, tls, patience, max_connections, per_address: config.per_address };
    announce(listener.local_addr()?, identity.fingerprint(), &config.data_folder);
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: closing"),
            _ = interrupt.recv() => info!("SIGINT: closing"),
        }
    };
    server::serve(listener, tracker, shutdown).await;
    Ok(())
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
        Policy { rules, rates: self.rates, registration: self.registration }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(address).await.map_err(|why| match why.kind() {
        io::ErrorKind::AddrInUse => DaemonError::PortInUse(address),
        _ => DaemonError::Listen { address, why },
    })
}

/// The lines that say the tracker is ready. A closed standard output is nobody's error.
fn announce(address: SocketAddr, fingerprint: Fingerprint, data_folder: &Path) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "tracker listening on {address}\nfingerprint {fingerprint}");
    let _ = stdout.flush();
    info!(%address, %fingerprint, data_folder = %data_folder.display(), "ready");
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
