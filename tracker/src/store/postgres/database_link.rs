//! The connections to the database, and whether it is there.

use std::sync::Arc;

use deadpool::Runtime;
use deadpool::managed::{Object, Pool, PoolError};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use super::database_session::{DatabaseConnector, DatabaseSession, SessionManager};
use super::node_lease::NodeLease;
use super::postgres_address::PostgresAddress;
use super::statement_failure::StatementFailure;
use super::store_connect_error::StoreConnectError;
use super::{MAX_CONNECTIONS, STATEMENT_PATIENCE};
use crate::registry::NodeId;
use crate::store::store_health::StoreHealth;
use crate::store::{AccountStoreError, StoreResult};

/// The link to the database, shared by the jobs and the watch.
#[derive(Debug)]
pub(super) struct DatabaseLink {
    connector: Arc<DatabaseConnector>,
    /// The number of this run, which changes when another tracker took it for dead.
    node: watch::Sender<NodeId>,
    lease: NodeLease,
    runtime: Handle,
    /// Replaced after each outage: connections of before may be half dead.
    pool: Mutex<Pool<SessionManager>>,
    /// The reason why the database can't be used at the moment.
    outage: Mutex<Option<String>>,
    /// Wakes the watch when a job lost its connection.
    alarm: Notify,
    /// This process missed changes that are no longer kept.
    outdated: watch::Sender<bool>,
    health: StoreHealth,
}

/// A connection in use. It is closed when this is dropped, unless it is given back.
#[derive(Debug)]
pub(super) struct PooledConnection(Option<Object<SessionManager>>);

impl DatabaseLink {
    pub(super) fn new(
        connector: Arc<DatabaseConnector>,
        node: NodeId,
        runtime: Handle,
    ) -> Result<Self, StoreConnectError> {
        Ok(Self {
            pool: Mutex::new(new_pool(&connector)?),
            connector,
            node: watch::Sender::new(node),
            lease: NodeLease::default(),
            runtime,
            outage: Mutex::default(),
            alarm: Notify::new(),
            outdated: watch::Sender::new(false),
            health: StoreHealth::default(),
        })
    }

    pub(super) fn address(&self) -> &PostgresAddress {
        self.connector.address()
    }

    /// Returns what opens sessions outside of the pool.
    pub(super) const fn connector(&self) -> &Arc<DatabaseConnector> {
        &self.connector
    }

    /// Returns the number of this run.
    pub(super) fn node(&self) -> NodeId {
        *self.node.borrow()
    }

    /// Watches the number of this run.
    pub(super) fn watch_node(&self) -> watch::Receiver<NodeId> {
        self.node.subscribe()
    }

    /// Goes on as another run.
    pub(super) fn set_node(&self, node: NodeId) {
        self.node.send_replace(node);
    }

    /// Returns the lease by which this run claims its users.
    pub(super) const fn lease(&self) -> &NodeLease {
        &self.lease
    }

    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) const fn health(&self) -> &StoreHealth {
        &self.health
    }

    pub(super) fn outage(&self) -> Option<String> {
        self.outage.lock().clone()
    }

    /// Refuses work while the database is known to be away.
    pub(super) fn ensure_up(&self) -> StoreResult {
        match self.outage() {
            Some(why) => Err(AccountStoreError::Unreachable(why)),
            None => Ok(()),
        }
    }

    /// Waits in this thread for a connection. Jobs have a turn each, so that one is free.
    pub(super) fn connection(&self) -> Result<PooledConnection, StatementFailure> {
        // A clone, so that the lock isn't held while this thread waits.
        let pool = self.pool.lock().clone();
        match self.runtime.block_on(timeout(STATEMENT_PATIENCE, pool.get())) {
            Ok(Ok(connection)) => Ok(PooledConnection(Some(connection))),
            Ok(Err(PoolError::Backend(why))) => Err(StatementFailure::ConnectionLost(why.to_english())),
            Ok(Err(why)) => Err(StatementFailure::ConnectionLost(why.to_string())),
            Err(_) => Err(StatementFailure::silence()),
        }
    }

    /// Lets the watch look at the database now.
    pub(super) fn raise_alarm(&self) {
        // `notify_one` is remembered: an alarm during a look leads to another one.
        self.alarm.notify_one();
    }

    /// Waits until a job lost its connection.
    pub(super) async fn alarm(&self) {
        self.alarm.notified().await;
    }

    pub(super) fn set_down(&self, why: &str) {
        let mut outage = self.outage.lock();
        // Once for each reason: attempts to reach it again fail with the same one.
        if outage.as_deref() != Some(why) {
            warn!(database = %self.address(), %why, "the database can't be used: accounts and rooms can't be changed");
        }
        *outage = Some(why.to_owned());
        drop(outage);
        // Jobs that wait for a connection then fail at once.
        self.pool.lock().close();
        self.health.record_reachable(false);
    }

    /// Takes up work again. Fails with [`StoreConnectError`].
    pub(super) fn set_up(&self) -> Result<(), StoreConnectError> {
        // Before the outage is over: no job may get the pool that was closed.
        *self.pool.lock() = new_pool(&self.connector)?;
        *self.outage.lock() = None;
        self.health.record_reachable(true);
        info!(database = %self.address(), "the database is back");
        Ok(())
    }

    /// Reports that this process can't go on with what it knows.
    pub(super) fn report_outdated(&self) {
        self.set_down("this tracker has missed too much");
        self.outdated.send_replace(true);
    }

    pub(super) fn watch_outdated(&self) -> watch::Receiver<bool> {
        self.outdated.subscribe()
    }
}

impl PooledConnection {
    /// Returns the session; `None` after the connection was given back.
    pub(super) fn session(&self) -> Option<&DatabaseSession> {
        self.0.as_deref()
    }

    /// Gives the connection back to the pool. It must have no transaction.
    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        // Not to the pool: after a panic or a failure a transaction may be open on it.
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

fn new_pool(connector: &Arc<DatabaseConnector>) -> Result<Pool<SessionManager>, StoreConnectError> {
    Pool::builder(SessionManager(Arc::clone(connector)))
        .max_size(MAX_CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|why| StoreConnectError::Failed(why.to_string()))
}
