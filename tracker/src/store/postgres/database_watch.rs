//! The session by which this process is one of the database's trackers, and the look at it each second.

use std::sync::Arc;
use std::time::Duration;

use shared::Fingerprint;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use super::database_link::DatabaseLink;
use super::database_session::{AwaitInTime, DatabaseConnector, DatabaseSession};
use super::log_epoch::begin_epoch;
use super::node_lease::{BootTime, NODE_LEASE};
use super::postgres_schema;
use super::store_connect_error::StoreConnectError;
use super::{MAX_BACKOFF, MIN_BACKOFF, STATEMENT_PATIENCE, WATCH_INTERVAL};
use crate::registry::{KEPT_EVENTS, NodeId};

/// Shared by the sessions of all trackers; one of the version before, which had a database for itself, holds it alone:
/// "vizinho" and the number of the use.
const TRACKER_LOCK: i64 = 0x0076_697a_696e_6802;
/// The time to wait for the lock: a tracker that was killed a moment ago may still hold it.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// The time between two attempts to take the lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);
/// The oldest server that has all that is used here.
const MIN_SERVER_VERSION: i32 = 130_000;
/// Tokens of changes are kept for so many seconds; a lost COMMIT is looked up within a few.
const TOKEN_SECONDS: f64 = 600.0;
/// The changes of the log are kept for so many seconds: a tracker that hears nothing for longer starts again.
const LOG_SECONDS: f64 = 600.0;
/// Entries of the log that are kept for their events.
const MAX_LOG_ENTRIES: i64 = 100_000;
/// Looks after which old tokens are deleted.
const LOOKS_BEFORE_CLEANING: u32 = 60;

/// Connects, brings the schema up to date, and takes a number for this run. Fails with [`StoreConnectError`].
pub(super) async fn open(
    connector: &DatabaseConnector,
) -> Result<(DatabaseSession, NodeId, BootTime), StoreConnectError> {
    let mut session = connector.open().await?;
    check_server(&session).await?;
    postgres_schema::migrate(&mut session.client).await?;
    take_lock(&session).await?;
    let (node, sent) = register_node(&session, connector.address().session_name()).await?;
    begin_epoch(&session, node).await?;
    Ok((session, node, sent))
}

/// Looks at the database and renews the lease as long as the store lives: notices when the database goes, and when it is
/// back.
pub(super) async fn watch_database(link: Arc<DatabaseLink>, mut session: DatabaseSession) {
    loop {
        let why = look_until_trouble(&link, &session).await;
        link.set_down(&why.to_english());
        // First ended, so that the server gives the lock back.
        drop(session);
        session = reconnect(&link).await;
    }
}

async fn look_until_trouble(link: &DatabaseLink, session: &DatabaseSession) -> StoreConnectError {
    let mut looks = 0;
    loop {
        // Either way it is time for a look: an alarm only brings it forward.
        let _ = timeout(WATCH_INTERVAL, link.alarm()).await;
        if let Err(why) = look(link, session).await {
            return why;
        }
        looks += 1;
        if looks % LOOKS_BEFORE_CLEANING == 0 {
            clean(session).await;
        }
    }
}

/// Renews the lease, as another run if others took this one for dead.
async fn look(link: &DatabaseLink, session: &DatabaseSession) -> Result<(), StoreConnectError> {
    link.connector().ensure_primary(session)?;
    let sent = BootTime::now();
    let renew = "UPDATE tracker_node SET lease_until = now() + make_interval(secs => $2) WHERE node = $1";
    let (node, lease) = (link.node().0, NODE_LEASE.as_secs_f64());
    let renewed = session.client.execute(renew, &[&node, &lease]).await_in(STATEMENT_PATIENCE).await??;
    if renewed > 0 {
        link.lease().record(sent);
        return Ok(());
    }
    link.lease().forget();
    let (node, sent) = register_node(session, link.address().session_name()).await?;
    warn!("other trackers took this one for dead: it goes on, and its users may have to log in again");
    link.set_node(node);
    link.lease().record(sent);
    Ok(())
}

/// Takes a number for this run, and its lease.
async fn register_node(session: &DatabaseSession, name: &str) -> Result<(NodeId, BootTime), StoreConnectError> {
    let sent = BootTime::now();
    let register = "WITH run AS (UPDATE tracker_instance SET incarnation = incarnation + 1 RETURNING incarnation)
        INSERT INTO tracker_node (node, name, lease_until, settled, held)
        SELECT incarnation, $1, now() + make_interval(secs => $2), number, '{}' FROM run, log_counter RETURNING node";
    let lease = NODE_LEASE.as_secs_f64();
    let row = session.client.query_one(register, &[&name, &lease]).await_in(STATEMENT_PATIENCE).await??;
    Ok((NodeId(row.get(0)), sent))
}

/// Makes this key that of all trackers of the database, unless others run with another one.
pub(super) async fn claim_identity(
    session: &DatabaseSession,
    node: NodeId,
    fingerprint: Fingerprint,
) -> Result<(), StoreConnectError> {
    let (client, own) = (&session.client, fingerprint.as_bytes().as_slice());
    // One at a time: two that start together would both find none.
    let lock = "BEGIN; LOCK TABLE tracker_identity IN EXCLUSIVE MODE";
    client.batch_execute(lock).await_in(STATEMENT_PATIENCE).await??;
    let others = "SELECT count(*) FROM tracker_identity WHERE fingerprint <> $1
        AND EXISTS (SELECT FROM tracker_node WHERE node <> $2 AND lease_until > now())";
    let others: i64 = client.query_one(others, &[&own, &node.0]).await_in(STATEMENT_PATIENCE).await??.get(0);
    if others > 0 {
        return Err(StoreConnectError::OtherKey);
    }
    // No tracker with another key is alive, so none relies on the one of before.
    client.execute("DELETE FROM tracker_identity", &[]).await_in(STATEMENT_PATIENCE).await??;
    client.execute("INSERT INTO tracker_identity VALUES ($1)", &[&own]).await_in(STATEMENT_PATIENCE).await??;
    Ok(client.batch_execute("COMMIT").await_in(STATEMENT_PATIENCE).await??)
}

/// Deletes what nobody needs any more. What is left is deleted the next time.
pub(super) async fn clean(session: &DatabaseSession) {
    let tokens = "DELETE FROM change_token WHERE made < now() - make_interval(secs => $1)";
    let _ = timeout(STATEMENT_PATIENCE, session.client.execute(tokens, &[&TOKEN_SECONDS])).await;
    // Entries of trackers that are gone are needed until their users are taken over.
    let changes = "WITH old AS (
            SELECT max(number) AS number FROM log_entry WHERE made < now() - make_interval(secs => $1)
                AND number < (SELECT coalesce(min(settled), 0) FROM tracker_node)
        ), done AS (
            UPDATE log_counter SET forgotten = old.number FROM old WHERE old.number > forgotten
        )
        UPDATE log_entry SET changes = '{}' FROM old WHERE log_entry.number <= old.number AND changes <> '{}'";
    let _ = timeout(STATEMENT_PATIENCE, session.client.execute(changes, &[&LOG_SECONDS])).await;
    // Without their changes they stay for their events, which a tracker that starts has to know.
    let entries = "DELETE FROM log_entry USING log_counter WHERE log_entry.number <= forgotten
        AND (event_before < last_event - $1 OR log_entry.number < log_counter.number - $2)";
    let kept_events = i64::try_from(2 * KEPT_EVENTS).unwrap_or(i64::MAX);
    let _ = timeout(STATEMENT_PATIENCE, session.client.execute(entries, &[&kept_events, &MAX_LOG_ENTRIES])).await;
}

/// Tries to reach the database until that succeeds, less and less often.
async fn reconnect(link: &DatabaseLink) -> DatabaseSession {
    let mut backoff = MIN_BACKOFF;
    loop {
        sleep(backoff).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
        let attempt = async {
            let session = link.connector().open().await?;
            end_former_sessions(link, &session).await?;
            take_lock(&session).await?;
            // The lease may be over by now: jobs go on only under a number that is in force.
            look(link, &session).await?;
            begin_epoch(&session, link.node()).await?;
            link.set_up()?;
            Ok::<_, StoreConnectError>(session)
        };
        match attempt.await {
            Ok(session) => return session,
            Err(why) => link.set_down(&why.to_english()),
        }
    }
}

async fn check_server(session: &DatabaseSession) -> Result<(), StoreConnectError> {
    let about = "SELECT current_setting('server_version_num')::int4, current_setting('server_encoding')";
    let row = session.client.query_one(about, &[]).await_in(STATEMENT_PATIENCE).await??;
    let (version, encoding): (i32, String) = (row.get(0), row.get(1));
    if version < MIN_SERVER_VERSION {
        return Err(StoreConnectError::OldServer { found: version / 10_000, needed: MIN_SERVER_VERSION / 10_000 });
    }
    if encoding != "UTF8" {
        return Err(StoreConnectError::NoDatabase(format!("the database's encoding is {encoding}")));
    }
    Ok(())
}

async fn take_lock(session: &DatabaseSession) -> Result<(), StoreConnectError> {
    let began = Instant::now();
    loop {
        // Tried, not waited for: the limit of the session would end the wait, and not say who holds the lock.
        let lock = session.client.query_one("SELECT pg_try_advisory_lock_shared($1)", &[&TRACKER_LOCK]);
        if lock.await_in(STATEMENT_PATIENCE).await??.get(0) {
            return Ok(());
        }
        if began.elapsed() > LOCK_PATIENCE {
            return Err(StoreConnectError::InUse { by: holder(session).await });
        }
        sleep(LOCK_INTERVAL).await;
    }
}

/// Ends sessions of this store that the server still takes for alive, and that would hold the lock.
async fn end_former_sessions(link: &DatabaseLink, session: &DatabaseSession) -> Result<(), StoreConnectError> {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
        AND application_name = $1 AND usename = current_user AND datname = current_database()";
    let ended = session.client.query(end, &[&link.address().session_name()]).await_in(STATEMENT_PATIENCE).await??;
    debug!(sessions = ended.len(), "former sessions ended");
    Ok(())
}

/// Returns the session that holds the lock, in words.
async fn holder(session: &DatabaseSession) -> String {
    let sql = "SELECT application_name, coalesce(host(client_addr), '') FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND (classid::int8 << 32 | objid::int8) = $1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let found = timeout(STATEMENT_PATIENCE, session.client.query_opt(sql, &[&TRACKER_LOCK])).await;
    match found {
        Ok(Ok(Some(row))) => {
            let (name, place): (String, String) = (row.get(0), row.get(1));
            let place = if place.is_empty() { "on its own machine".to_owned() } else { format!("at {place}") };
            format!(" ({name} {place})")
        }
        _ => String::new(),
    }
}
