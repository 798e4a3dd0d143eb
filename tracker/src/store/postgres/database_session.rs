//! Sessions with the primary among the database's servers.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{AsyncMessage, Config};

use super::database_history::{DatabaseHistory, NewestHistory};
use super::postgres_address::PostgresAddress;
use super::postgres_tls::PostgresTls;
use super::server_password::find_password;
use super::store_connect_error::StoreConnectError;
use super::{STATEMENT_LIMIT, STATEMENT_PATIENCE};

/// The time for a connection to one of the servers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The silence after which the system asks whether the other side is there, and the time between questions.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(2));
/// Questions without an answer after which a connection is lost.
const KEEPALIVE_RETRIES: u32 = 3;

/// Opens sessions with whichever of the servers is the primary.
#[derive(Debug)]
pub(super) struct DatabaseConnector {
    address: PostgresAddress,
    newest: NewestHistory,
    /// The place in the address of the server that was the primary the last time: the others may take long to refuse.
    last: AtomicUsize,
}

/// One session. It ends when this is dropped.
#[derive(Debug)]
pub(in crate::store) struct DatabaseSession {
    pub(in crate::store) client: ClientWrapper,
    history: DatabaseHistory,
    /// Warnings that the server sent.
    warnings: Arc<AtomicU64>,
}

impl DatabaseConnector {
    /// Fails with [`StoreConnectError::HistoryFile`].
    pub(super) fn new(address: PostgresAddress) -> Result<Self, StoreConnectError> {
        let newest = NewestHistory::open(address.history_file())?;
        Ok(Self { address, newest, last: AtomicUsize::new(0) })
    }

    pub(super) const fn address(&self) -> &PostgresAddress {
        &self.address
    }

    /// Fails with [`StoreConnectError::Demoted`] if another server is known to be the primary by now.
    pub(super) fn ensure_primary(&self, session: &DatabaseSession) -> Result<(), StoreConnectError> {
        if self.newest.is_newest(session.history) { Ok(()) } else { Err(StoreConnectError::Demoted) }
    }

    /// Connects to the first server that takes changes and is no former primary. Fails with [`StoreConnectError`]: that of the last one.
    pub(super) async fn open(&self) -> Result<DatabaseSession, StoreConnectError> {
        self.open_with(None).await
    }

    /// Connects, and wakes `hint` at each notification and at the session's end. Fails with [`StoreConnectError`].
    pub(super) async fn open_listening(&self, hint: Arc<Notify>) -> Result<DatabaseSession, StoreConnectError> {
        self.open_with(Some(hint)).await
    }

    async fn open_with(&self, hint: Option<Arc<Notify>>) -> Result<DatabaseSession, StoreConnectError> {
        let tls = PostgresTls::new(&self.address)?;
        let servers = self.address.servers();
        let last = self.last.load(Ordering::Relaxed);
        let mut failure = StoreConnectError::Unreachable("the address names no server".to_owned());
        for place in std::iter::once(last).chain((0..servers.len()).filter(|place| *place != last)) {
            let Some(server) = servers.get(place) else { continue };
            let config = session_config(&self.address, server);
            let opened = async {
                let session = DatabaseSession::open(&config, tls.clone(), hint.clone()).await?;
                self.newest.admit(session.history).map(|()| session)
            };
            match Box::pin(opened).await_in(STATEMENT_PATIENCE).await.and_then(|opened| opened) {
                Ok(session) => {
                    self.last.store(place, Ordering::Relaxed);
                    return Ok(session);
                }
                Err(why) => failure = why,
            }
        }
        Err(failure)
    }
}

impl DatabaseSession {
    async fn open(config: &Config, tls: PostgresTls, hint: Option<Arc<Notify>>) -> Result<Self, StoreConnectError> {
        let (client, mut connection) = config.connect(tls).await?;
        let warnings = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&warnings);
        #[expect(clippy::disallowed_methods, reason = "the client's wrapper owns the task, and ends it")]
        let driver = tokio::spawn(async move {
            // Its end is noticed by the statements.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    AsyncMessage::Notice(notice) if notice.severity() == "WARNING" => {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    // What it says is read from the tables: a notification may be lost, or be one of many.
                    AsyncMessage::Notification(_) => hint.iter().for_each(|hint| hint.notify_one()),
                    _ => {}
                }
            }
            // At the end as well: whoever waits for a notification is to find the session gone.
            hint.iter().for_each(|hint| hint.notify_one());
        });
        let history = DatabaseHistory::of(&client).await?;
        Ok(Self { client: ClientWrapper::new(client, driver), history, warnings })
    }

    /// Returns the history of its server, which stays the same as long as the session.
    pub(super) const fn history(&self) -> DatabaseHistory {
        self.history
    }

    /// Commits the transaction. Fails with [`CommitError`].
    ///
    /// A standby that is waited for and not heard is told by a warning: the server then says that it has committed, but a
    /// promotion of the standby may undo that.
    pub(super) async fn commit(&self) -> Result<(), CommitError> {
        let before = self.warnings.load(Ordering::Relaxed);
        match timeout(STATEMENT_PATIENCE, self.client.batch_execute("COMMIT")).await {
            Ok(Ok(())) if self.warnings.load(Ordering::Relaxed) == before => Ok(()),
            Ok(Ok(())) => Err(CommitError::Warned),
            Ok(Err(why)) => Err(CommitError::Failed(why)),
            Err(_) => Err(CommitError::Silent),
        }
    }
}

/// The reason why it isn't certain that a transaction is committed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    #[error("no standby confirmed a COMMIT")]
    Warned,
    #[error("{}", super::statement_failure::with_causes(.0))]
    Failed(tokio_postgres::Error),
    #[error("the database doesn't answer a COMMIT")]
    Silent,
}

impl From<CommitError> for StoreConnectError {
    fn from(error: CommitError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl Deref for DatabaseSession {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

/// Makes the sessions of a pool.
#[derive(Debug)]
pub(super) struct SessionManager(pub(super) Arc<DatabaseConnector>);

impl Manager for SessionManager {
    type Type = DatabaseSession;
    type Error = StoreConnectError;

    async fn create(&self) -> Result<DatabaseSession, StoreConnectError> {
        self.0.open().await
    }

    async fn recycle(&self, session: &mut DatabaseSession, _: &Metrics) -> RecycleResult<StoreConnectError> {
        if session.client.is_closed() {
            return Err(RecycleError::message("it is closed"));
        }
        // A former primary still takes changes, which nobody else would ever see.
        self.0.ensure_primary(session).map_err(RecycleError::Backend)
    }
}

/// A future with a limit of time.
pub(super) trait AwaitInTime: Future + Sized {
    /// Waits so long at most. Fails with [`StoreConnectError::Unreachable`].
    async fn await_in(self, patience: Duration) -> Result<Self::Output, StoreConnectError> {
        let silent = |_| StoreConnectError::Unreachable("the database doesn't answer".to_owned());
        timeout(patience, self).await.map_err(silent)
    }
}

impl<F: Future> AwaitInTime for F {}

/// Returns the configuration of a session with one server, with the password as it is found now.
fn session_config(address: &PostgresAddress, server: &Config) -> Config {
    let mut config = server.clone();
    let settings = [
        format!("-c statement_timeout={}", STATEMENT_LIMIT.as_millis()),
        format!("-c lock_timeout={}", STATEMENT_LIMIT.as_millis()),
        // A tracker that is gone without a word holds locks no longer than that.
        format!("-c idle_in_transaction_session_timeout={}", 3 * STATEMENT_LIMIT.as_millis()),
        format!("-c tcp_keepalives_idle={}", KEEPALIVE.0.as_secs()),
        format!("-c tcp_keepalives_interval={}", KEEPALIVE.1.as_secs()),
        format!("-c tcp_keepalives_count={KEEPALIVE_RETRIES}"),
        // The scan of a small table would conflict with every change of it.
        "-c enable_seqscan=off".to_owned(),
        // A table without an index then seems so expensive to the server that it would compile each statement.
        "-c jit=off".to_owned(),
        "-c client_min_messages=warning".to_owned(),
    ];
    let given = server.get_options().unwrap_or_default();
    config
        .options(format!("{given} {}", settings.join(" ")).trim())
        .application_name(address.session_name())
        // A standby has nothing that a tracker could do there.
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(KEEPALIVE.0)
        .keepalives_interval(KEEPALIVE.1)
        .keepalives_retries(KEEPALIVE_RETRIES);
    if let Some(password) = find_password(address, server) {
        config.password(password);
    }
    config
}
