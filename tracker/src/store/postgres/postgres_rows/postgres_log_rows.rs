//! The log and the shared presences, for jobs on accounts and for the start of a tracker.

use std::collections::HashMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::UserName;
use shared::tracker::SharedFile;

use super::{PostgresRows, StatementValues, parsed, value};
use crate::catalogue::FileList;
use crate::registry::{KEPT_EVENTS, NodeId, ReplicatedChange, ReplicatedLogin, TokenHash};
use crate::store::store_rows::SharedState;
use crate::store::{AccountStoreError, StoreResult};

/// Pieces of lists that are read at once.
const PIECES_AT_ONCE: i64 = 200;

impl PostgresRows<'_> {
    /// Adds an entry to the log, whose end the transaction has locked.
    pub(super) fn append_entry(&self, changes: &[ReplicatedChange]) -> StoreResult {
        if changes.is_empty() {
            return Ok(());
        }
        // In the same transaction: a tracker that starts then must not restore a presence that is over.
        changes.iter().try_for_each(|change| self.end_presence_of(change))?;
        let texts = changes.iter().map(to_json).collect::<StoreResult<Vec<String>>>()?;
        let next = "UPDATE log_counter SET number = number + 1 RETURNING number";
        let number: i64 = self.query_value(next, &[])?;
        let insert = "INSERT INTO log_entry (number, node, event_before, changes, events)
            SELECT $1, $2, last_event, $3, '{}' FROM log_counter";
        self.execute(insert, &[&number, &self.node.0, &texts])?;
        // A hint: whoever misses it looks each second.
        let notify = "SELECT pg_notify('tracker_log', $1::int8::text) IS NULL";
        self.query_value::<bool>(notify, &[&number]).map(drop)
    }

    /// Deletes the presence that a change of the account ends.
    fn end_presence_of(&self, change: &ReplicatedChange) -> StoreResult {
        let kept: Option<TokenHash> = match change {
            ReplicatedChange::Bound { .. } | ReplicatedChange::Unbound { .. } => None,
            ReplicatedChange::Revoked { kept, .. } => *kept,
            ReplicatedChange::Login(_)
            | ReplicatedChange::End { .. }
            | ReplicatedChange::Files { .. }
            | ReplicatedChange::Held { .. }
            | ReplicatedChange::Adopted { .. }
            | ReplicatedChange::Registered { .. }
            | ReplicatedChange::Room(_) => return Ok(()),
        };
        let Some(user) = change.user() else { return Ok(()) };
        let kept = kept.as_ref().map(|token| token.as_bytes().as_slice());
        let end = "DELETE FROM presence WHERE user_name = $1 AND token IS DISTINCT FROM $2";
        if self.execute(end, &[&user.as_str(), &kept])? > 0 {
            self.execute("DELETE FROM catalogue WHERE user_name = $1", &[&user.as_str()])?;
        }
        Ok(())
    }

    /// Reads what all trackers share besides accounts and rooms.
    pub(super) fn load_shared_state(&self) -> StoreResult<SharedState> {
        let counter = "SELECT number, last_event FROM log_counter";
        let counter = self.query_optional(counter, &[], |row| Ok((value::<i64>(row, 0)?, value::<i64>(row, 1)?)))?;
        let (number, last) = counter.unwrap_or_default();
        let events = "SELECT line FROM log_entry, unnest(events) WITH ORDINALITY AS one (line, place)
            WHERE event_before >= $1 ORDER BY number, place";
        let since = last - i64::try_from(KEPT_EVENTS).unwrap_or(i64::MAX);
        let events = self.query_all(events, &[&since], |row| from_json(&value::<String>(row, 0)?))?;
        let mut lists = self.load_lists()?;
        // By login, so that the registry's order of logins is as on the other trackers.
        let presences = "SELECT login, node FROM presence ORDER BY (login::json ->> 'at_ms')::int8, user_name";
        let presences = self.query_all(presences, &[], |row| {
            let login: ReplicatedLogin = from_json(&value::<String>(row, 0)?)?;
            let files = FileList::from_pieces(lists.remove(&login.user).unwrap_or_default());
            Ok((login, NodeId(value(row, 1)?), files))
        })?;
        Ok(SharedState { number, last_event: last.cast_unsigned(), events, presences })
    }

    fn load_lists(&self) -> StoreResult<HashMap<UserName, Vec<Vec<SharedFile>>>> {
        let (mut lists, mut after) = (HashMap::<UserName, Vec<Vec<SharedFile>>>::new(), (String::new(), Vec::new()));
        loop {
            // By the last key and not by an offset, for which the server would count all rows before it again.
            let some = "SELECT user_name, digest, files FROM catalogue WHERE (user_name, digest) > ($1, $2)
                ORDER BY user_name, digest LIMIT $3";
            let values: StatementValues<'_> = &[&after.0, &after.1, &PIECES_AT_ONCE];
            let rows = self.query_all(some, values, |row| {
                let files: Vec<SharedFile> = from_json(&format!("[{}]", value::<String>(row, 2)?))?;
                Ok((parsed::<UserName>(row, 0)?, value::<Vec<u8>>(row, 1)?, files))
            })?;
            let Some((user, digest, _)) = rows.last() else { return Ok(lists) };
            after = (user.to_string(), digest.clone());
            for (user, _, files) in rows {
                lists.entry(user).or_default().push(files);
            }
        }
    }
}

fn to_json(value: &impl Serialize) -> StoreResult<String> {
    serde_json::to_string(value).map_err(|why| AccountStoreError::Failed(why.to_string()))
}

fn from_json<T: DeserializeOwned>(text: &str) -> StoreResult<T> {
    serde_json::from_str(text).map_err(|why| AccountStoreError::Failed(format!("a stored text: {why}")))
}
