//! Rooms behind the account store's interface.

use shared::room::RecordHash;
use shared::tracker::room_reply::{RoomListReply, RoomMembersReply};
use shared::tracker::room_request::{RequestedChange, RoomCut, RoomReference};
use shared::{RoomId, RoomName, UserName};

use super::room_rules::{self, RecordStamp};
use super::room_values::{JoinRequirement, RoomCaller, RoomDraft, RoomOutcome};
use super::shared_log::room_changes;
use super::store_rows::StoreRows;
use super::{AccountStore, StoreResult, stamp};
use crate::fair_semaphore::Requester;
use crate::registry::RoomUpdate;

/// The methods on rooms. Beside the errors of all methods they fail with [`super::AccountStoreError::Room`], and with
/// [`super::AccountStoreError::Changed`] when the caller's account or the room's password was changed meanwhile.
#[expect(clippy::missing_errors_doc, reason = "the errors that are common to all methods are described above")]
impl AccountStore {
    /// Brings the records up to date with the tracker's key and with a restore. To be called once, at the start.
    pub async fn prepare_rooms(&self, requester: Requester) -> StoreResult {
        let signer = self.signer.clone();
        let prepare = move |rows: &dyn StoreRows| room_rules::prepare(rows, stamp(rows, &signer));
        self.backend.commit(requester, prepare).await
    }

    /// Returns the newest record and all members of each room.
    pub async fn room_members(&self, requester: Requester) -> StoreResult<Vec<RoomUpdate>> {
        self.backend.read_snapshot(requester, room_rules::all_members).await
    }

    /// Makes a room that the caller owns.
    pub async fn create_room(
        &self,
        requester: Requester,
        caller: RoomCaller,
        draft: RoomDraft,
    ) -> StoreResult<RoomOutcome> {
        self.commit_room(requester, move |rows, stamp| room_rules::create(rows, stamp, &caller, &draft)).await
    }

    /// Returns what the caller needs to join.
    pub async fn join_requirement(
        &self,
        requester: Requester,
        caller: RoomCaller,
        room: RoomReference,
    ) -> StoreResult<JoinRequirement> {
        self.backend.read_snapshot(requester, move |rows| room_rules::join_requirement(rows, &room, &caller)).await
    }

    /// Makes the caller a member. `proven` is the hash of the password that the caller knew, if it needed one.
    pub async fn join_room(
        &self,
        requester: Requester,
        caller: RoomCaller,
        room: RoomId,
        proven: Option<String>,
    ) -> StoreResult<RoomOutcome> {
        let join = move |rows: &dyn StoreRows, stamp: RecordStamp<'_>| {
            room_rules::join(rows, stamp, &caller, room, proven.as_deref())
        };
        self.commit_room(requester, join).await
    }

    /// Ends the caller's membership.
    pub async fn leave_room(
        &self,
        requester: Requester,
        caller: RoomCaller,
        room: RoomReference,
        cut: Option<RoomCut>,
    ) -> StoreResult<RoomOutcome> {
        self.commit_room(requester, move |rows, stamp| room_rules::leave(rows, stamp, &caller, &room, cut)).await
    }

    /// Carries out a change by a member.
    pub async fn change_room(
        &self,
        requester: Requester,
        caller: RoomCaller,
        room: RoomReference,
        change: RequestedChange,
    ) -> StoreResult<RoomOutcome> {
        let change = move |rows: &dyn StoreRows, stamp: RecordStamp<'_>| {
            room_rules::change(rows, stamp, &caller, &room, &change)
        };
        self.commit_room(requester, change).await
    }

    /// Sets the hash of a room's password (`Some(None)`: none any more) and whether joining takes an invitation.
    pub async fn set_room_entry(
        &self,
        requester: Requester,
        caller: RoomCaller,
        room: RoomReference,
        password_hash: Option<Option<String>>,
        invite_only: Option<bool>,
    ) -> StoreResult<RoomOutcome> {
        let set = move |rows: &dyn StoreRows, _: RecordStamp<'_>| {
            let hash = password_hash.as_ref().map(Option::as_deref);
            room_rules::set_entry(rows, &caller, &room, hash, invite_only)
        };
        self.commit_room(requester, set).await
    }

    /// Ends a room for the administrator.
    pub async fn delete_room(&self, requester: Requester, name: RoomName) -> StoreResult<RoomOutcome> {
        self.commit_room(requester, move |rows, stamp| room_rules::delete(rows, stamp, &name)).await
    }

    /// Returns a page of rooms by name, as `user` sees them; `None` is the administrator.
    pub async fn list_rooms(
        &self,
        requester: Requester,
        user: Option<UserName>,
        cursor: Option<RoomName>,
        limit: usize,
    ) -> StoreResult<RoomListReply> {
        let list = move |rows: &dyn StoreRows| room_rules::list(rows, user.as_ref(), cursor.as_ref(), limit);
        self.backend.read_snapshot(requester, list).await
    }

    /// Returns the names of all rooms in order.
    pub async fn room_names(&self, requester: Requester) -> StoreResult<Vec<RoomName>> {
        self.backend.read_snapshot(requester, |rows| rows.room_names()).await
    }

    /// Returns the members of a room, the owner first; of a room that takes invitations only if one of `asking` is a
    /// member.
    pub async fn room_member_names(
        &self,
        requester: Requester,
        name: RoomName,
        asking: Vec<UserName>,
    ) -> StoreResult<Vec<UserName>> {
        self.backend.read_snapshot(requester, move |rows| room_rules::member_names(rows, &name, &asking)).await
    }

    /// Returns the records that the caller lacks and may have.
    pub async fn room_records(
        &self,
        requester: Requester,
        caller: RoomCaller,
        room: RoomReference,
        after: Vec<RecordHash>,
    ) -> StoreResult<RoomMembersReply> {
        let read = move |rows: &dyn StoreRows| room_rules::records(rows, &room, &caller, &after);
        self.backend.read_snapshot(requester, read).await
    }

    async fn commit_room<T: AsRef<[RoomOutcome]> + Send + 'static>(
        &self,
        requester: Requester,
        change: impl Fn(&dyn StoreRows, RecordStamp<'_>) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let signer = self.signer.clone();
        let change = move |rows: &dyn StoreRows| {
            let outcomes = change(rows, stamp(rows, &signer))?;
            rows.append_to_log(room_changes(outcomes.as_ref()).collect())?;
            Ok(outcomes)
        };
        self.backend.commit_logged(requester, change).await
    }
}
