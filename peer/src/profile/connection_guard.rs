//! A connection to the database, locked by one thread.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rusqlite::Connection;

use super::lock_wait::DatabaseUse;

/// A locked connection. While it is held, the thread's waits are for its database.
#[derive(Debug)]
pub(super) struct ConnectionGuard<'a> {
    connection: MutexGuard<'a, Connection>,
    _used: DatabaseUse,
}

impl<'a> ConnectionGuard<'a> {
    /// Locks a connection to the database at `path`.
    pub(super) fn lock(connection: &'a Mutex<Connection>, path: &Arc<Path>) -> Self {
        // A panic in another thread leaves no open transaction: rusqlite rolls back on drop.
        Self { connection: connection.lock(), _used: DatabaseUse::begin(path.clone()) }
    }
}

impl Deref for ConnectionGuard<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for ConnectionGuard<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}
