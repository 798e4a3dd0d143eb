//! Sessions with the server.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Config};

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

/// One session outside of the pool. It ends when this is dropped.
#[derive(Debug)]
pub(in crate::store) struct DatabaseSession {
    pub(in crate::store) client: Client,
    _driver: JoinSet<()>,
}

impl DatabaseSession {
    /// Connects. Fails with [`StoreConnectError`].
    pub(super) async fn open(address: &PostgresAddress) -> Result<Self, StoreConnectError> {
        let (config, tls) = (session_config(address), PostgresTls::new(address)?);
        let (client, connection) = Box::pin(config.connect(tls).await_in(STATEMENT_PATIENCE)).await??;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its end is noticed by the statements.
            let _ = connection.await;
        });
        Ok(Self { client, _driver: driver })
    }

    /// Connects, and wakes `hint` at each notification and at the session's end. Fails with [`StoreConnectError`].
    pub(super) async fn open_listening(
        address: &PostgresAddress,
        hint: Arc<Notify>,
    ) -> Result<Self, StoreConnectError> {
        let (config, tls) = (session_config(address), PostgresTls::new(address)?);
        let (client, mut connection) = Box::pin(config.connect(tls).await_in(STATEMENT_PATIENCE)).await??;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                // What it says is read from the tables: a notification may be lost, or be one of many.
                if matches!(message, AsyncMessage::Notification(_)) {
                    hint.notify_one();
                }
            }
            hint.notify_one();
        });
        Ok(Self { client, _driver: driver })
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

/// Returns the configuration of a session, with the password as it is found now.
pub(super) fn session_config(address: &PostgresAddress) -> Config {
    let mut config = address.config.clone();
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
    let given = address.config.get_options().unwrap_or_default();
    config
        .options(format!("{given} {}", settings.join(" ")).trim())
        .application_name(address.session_name())
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(KEEPALIVE.0)
        .keepalives_interval(KEEPALIVE.1)
        .keepalives_retries(KEEPALIVE_RETRIES);
    if let Some(password) = find_password(address) {
        config.password(password);
    }
    config
}
