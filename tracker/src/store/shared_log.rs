//! What several trackers of one database share: its state at a tracker's start, and the changes of accounts and rooms that
//! all of them hear of.

use shared::{Fingerprint, UserName};

use super::postgres::ReplicatedLog;
use super::room_rules;
use super::room_values::RoomOutcome;
use super::store_backend::StoreBackend;
use super::store_rows::{SharedState, StoreRows};
use super::{AccountStore, StoreResult};
use crate::fair_semaphore::Requester;
use crate::registry::{FormerKey, ReplicatedChange, RoomUpdate};

/// All that a tracker has to know at its start.
#[derive(Debug)]
pub struct InitialState {
    /// All accounts with their bindings.
    pub bindings: Vec<(UserName, Option<Fingerprint>)>,
    /// The replaced keys, the latest last.
    pub former_keys: Vec<FormerKey>,
    /// The accounts that nobody used yet.
    pub unused: Vec<UserName>,
    /// The newest record and all members of each room.
    pub rooms: Vec<RoomUpdate>,
    /// What several trackers share besides.
    pub shared: Option<SharedState>,
}

#[expect(clippy::missing_errors_doc, reason = "the errors that are common to all methods are described at the others")]
impl AccountStore {
    /// Returns all that a tracker has to know at its start, as of one moment.
    pub async fn initial_state(&self, requester: Requester) -> StoreResult<InitialState> {
        let read = |rows: &dyn StoreRows| {
            Ok(InitialState {
                bindings: rows.bindings()?,
                former_keys: rows.former_keys()?,
                unused: rows.unused_accounts()?,
                rooms: room_rules::all_members(rows)?,
                shared: rows.shared_state()?,
            })
        };
        self.backend.read_snapshot(requester, read).await
    }

    /// Returns the log of the changes that several trackers share; `None` for an embedded store.
    pub fn replicated_log(&self) -> Option<ReplicatedLog> {
        match &self.backend {
            StoreBackend::Sqlite(_) => None,
            StoreBackend::Postgres(database) => Some(database.log()),
        }
    }
}

/// Adds to the log that an account is no longer bound, and what became of its rooms.
pub(super) fn log_unbinding(
    rows: &dyn StoreRows,
    user: &UserName,
    outcomes: Vec<RoomOutcome>,
) -> StoreResult<Vec<RoomOutcome>> {
    let unbound = ReplicatedChange::Unbound { user: user.clone() };
    rows.append_to_log(std::iter::once(unbound).chain(room_changes(&outcomes)).collect())?;
    Ok(outcomes)
}

/// Returns the changes of rooms as all trackers hear of them.
pub(super) fn room_changes(outcomes: &[RoomOutcome]) -> impl Iterator<Item = ReplicatedChange> {
    outcomes.iter().map(|outcome| ReplicatedChange::Room(outcome.update.clone()))
}
