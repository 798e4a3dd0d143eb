//! The beginning of a new epoch of the log, on a server with another history than that in which the log was written.

use tracing::warn;

use super::STATEMENT_PATIENCE;
use super::database_history::{DatabaseHistory, EPOCH_GAP};
use super::database_session::{AwaitInTime, DatabaseSession};
use super::store_connect_error::StoreConnectError;
use crate::registry::NodeId;

/// Begins an epoch if the log is of another history than the session's server. Fails with [`StoreConnectError`].
pub(super) async fn begin_epoch(session: &DatabaseSession, node: NodeId) -> Result<(), StoreConnectError> {
    let DatabaseHistory { system, timeline } = session.history();
    let select = "SELECT system_id, timeline FROM log_counter WHERE (system_id, timeline) = ($1, $2)";
    let known = session.query_opt(select, &[&system, &timeline]).await_in(STATEMENT_PATIENCE).await??;
    if known.is_some() {
        return Ok(());
    }
    session.batch_execute("BEGIN").await_in(STATEMENT_PATIENCE).await??;
    // Another tracker may be faster: then nothing is left to do. The first history of all leaves nothing out.
    let advance = "UPDATE log_counter AS new SET system_id = $1, timeline = $2,
            number = new.number + CASE WHEN old.system_id IS NULL THEN 0 ELSE 1 + $3::int8 END,
            last_event = new.last_event + CASE WHEN old.system_id IS NULL THEN 0 ELSE $3::int8 END
        FROM (SELECT * FROM log_counter FOR UPDATE) AS old
        WHERE (old.system_id, old.timeline) IS DISTINCT FROM ($1, $2)
        RETURNING old.number, new.number, new.last_event";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&system, &timeline, &EPOCH_GAP];
    if let Some(row) = session.query_opt(advance, &values).await_in(STATEMENT_PATIENCE).await?? {
        let (before, number, last_event): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        if number > before {
            warn!(timeline, last_entry = before, "a standby was promoted: events go on with higher numbers");
            let insert = "INSERT INTO log_entry (number, node, event_before, changes, events, follows)
                VALUES ($1, $2, $3, '{}', '{}', $4)";
            session.execute(insert, &[&number, &node.0, &last_event, &before]).await_in(STATEMENT_PATIENCE).await??;
            let notify = "SELECT pg_notify('tracker_log', $1::int8::text)";
            session.query_one(notify, &[&number]).await_in(STATEMENT_PATIENCE).await??;
        }
    }
    Ok(session.commit().await?)
}
