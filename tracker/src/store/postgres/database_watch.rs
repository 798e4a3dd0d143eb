//! The session that holds the database for this process, and the look at it each second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::database_link::{DatabaseGrant, DatabaseLink};
use super::database_session::{AwaitInTime, DatabaseSession};
use super::postgres_address::PostgresAddress;
use super::postgres_schema;
use super::store_connect_error::StoreConnectError;
use super::{MAX_BACKOFF, MIN_BACKOFF, STATEMENT_PATIENCE, WATCH_INTERVAL};

/// Held by the session of the one tracker: "vizinho" and the number of the use.
const TRACKER_LOCK: i64 = 0x0076_697a_696e_6802;
/// The time to wait for the lock: a tracker that was killed a moment ago may still hold it.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// The time between two attempts to take the lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);
/// The oldest server that has all that is used here.
const MIN_SERVER_VERSION: i32 = 130_000;
/// Tokens of changes are kept for so many seconds; a lost COMMIT is looked up within a few.
const TOKEN_SECONDS: f64 = 600.0;
/// Looks after which old tokens are deleted.
const LOOKS_BEFORE_CLEANING: u32 = 60;

/// The reason why a look at the database ended.
enum WatchEnd {
    Trouble(String),
    TakenOver,
}

/// Connects, brings the schema up to date, and takes the database for this process. Fails with [`StoreConnectError`].
pub(super) async fn open(address: &PostgresAddress) -> Result<(DatabaseSession, DatabaseGrant), StoreConnectError> {
    let mut session = DatabaseSession::open(address).await?;
    check_server(&session).await?;
    postgres_schema::migrate(&mut session.client).await?;
    take_lock(&session).await?;
    let take = "UPDATE tracker_instance SET incarnation = incarnation + 1 RETURNING incarnation";
    let incarnation = session.client.query_one(take, &[]).await_in(STATEMENT_PATIENCE).await??.get(0);
    Ok((session, DatabaseGrant { incarnation }))
}

/// Looks at the database until another tracker has it: notices when it goes, and takes it again when it is back.
pub(super) async fn watch_database(link: Arc<DatabaseLink>, mut session: DatabaseSession) {
    loop {
        match look_until_trouble(&link, &session).await {
            WatchEnd::Trouble(why) => link.set_down(&why),
            WatchEnd::TakenOver => return link.report_takeover(String::new()),
        }
        // First ended, so that the server gives the lock back.
        drop(session);
        session = match reconnect(&link).await {
            Ok(session) => session,
            Err(by) => return link.report_takeover(by),
        };
    }
}

async fn look_until_trouble(link: &DatabaseLink, session: &DatabaseSession) -> WatchEnd {
    let mut looks = 0;
    loop {
        let _ = timeout(WATCH_INTERVAL, link.alarm()).await;
        match look(link, session).await {
            Ok(true) => {}
            Ok(false) => return WatchEnd::TakenOver,
            Err(why) => return WatchEnd::Trouble(why.to_english()),
        }
        looks += 1;
        if looks % LOOKS_BEFORE_CLEANING == 0 {
            let old = "DELETE FROM change_token WHERE made < now() - make_interval(secs => $1)";
            // What is left is deleted the next time.
            let _ = timeout(STATEMENT_PATIENCE, session.client.execute(old, &[&TOKEN_SECONDS])).await;
        }
    }
}

/// Returns whether this process still has the database.
async fn look(link: &DatabaseLink, session: &DatabaseSession) -> Result<bool, StoreConnectError> {
    let number = "SELECT incarnation, pg_is_in_recovery() FROM tracker_instance";
    let row = session.client.query_one(number, &[]).await_in(STATEMENT_PATIENCE).await??;
    if row.get(1) {
        return Err(StoreConnectError::Unreachable("the server is a standby".to_owned()));
    }
    Ok(row.get::<_, i64>(0) == link.grant().incarnation)
}

/// Tries to reach the database until that succeeds, less and less often. Fails with the other tracker, in words, when
/// one had it meanwhile: what this process knows is out of date.
async fn reconnect(link: &DatabaseLink) -> Result<DatabaseSession, String> {
    let mut backoff = MIN_BACKOFF;
    loop {
        sleep(backoff).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
        let attempt = async {
            let session = DatabaseSession::open(link.address()).await?;
            end_former_sessions(link, &session).await?;
            take_lock(&session).await?;
            let is_ours = look(link, &session).await?;
            Ok::<_, StoreConnectError>((session, is_ours))
        };
        match attempt.await {
            Ok((session, true)) => match link.set_up() {
                Ok(()) => return Ok(session),
                Err(why) => link.set_down(&why.to_english()),
            },
            Ok((_, false)) => return Err(String::new()),
            // The other one may end without having taken the number: then it is this one's again.
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
        let lock = session.client.query_one("SELECT pg_try_advisory_lock($1)", &[&TRACKER_LOCK]);
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
