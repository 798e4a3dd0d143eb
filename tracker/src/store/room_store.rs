//! Rooms behind the account store's interface.

use rusqlite::Transaction;
use shared::room::RecordHash;
use shared::tracker::room_reply::{RoomListReply, RoomMembersReply};
use shared::tracker::room_request::{RequestedChange, RoomCut, RoomReference};
use shared::{RoomId, RoomName, UserName};

use super::sqlite_rooms::{self, JoinRequirement, RecordStamp, RoomCaller, RoomDraft, RoomOutcome};
use super::{AccountStore, SqliteAccountStore, StoreResult, stamp};
use crate::fair_semaphore::Requester;
use crate::registry::RoomUpdate;

/// The methods on rooms. Beside the errors of all methods they fail with [`super::AccountStoreError::Room`], and with
/// [`super::AccountStoreError::Changed`] when the caller's account or the room's password was changed meanwhile.
#[expect(clippy::missing_errors_doc, reason = "the errors that are common to all methods are described above")]
impl AccountStore {
    /// Brings the records up to date with the tracker's key and with a restore. To be called once, at the start.
    pub async fn prepare_rooms(&self, requester: Requester) -> StoreResult {
        self.commit_room(requester, sqlite_rooms::prepare).await
    }

    /// Returns the newest record and all members of each room.
    pub async fn room_members(&self, requester: Requester) -> StoreResult<Vec<RoomUpdate>> {
        self.thread.read(requester, |accounts| sqlite_rooms::all_members(accounts.database())).await
    }

    /// Makes a room that the caller owns.
    pub async fn create_room(
        &self,
        requester: Requester,
        caller: RoomCaller,
        draft: RoomDraft,
    ) -> StoreResult<RoomOutcome> {
        self.commit_room(requester, move |step, stamp| sqlite_rooms::create(step, stamp, &caller, &draft)).await
    }

    /// Returns what the caller needs to join.
    pub async fn join_requirement(
        &self,
        requester: Requester,
        caller: RoomCaller,
        room: RoomReference,
    ) -> StoreResult<JoinRequirement> {
        self.thread
            .read(requester, move |accounts| sqlite_rooms::join_requirement(accounts.database(), &room, &caller))
            .await
    }

    /// Makes the caller a member. `proven` is the hash of the password that the caller knew, if it needed one.
    pub async fn join_room(
        &self,
        requester: Requester,
        caller: RoomCaller,
        room: RoomId,
        proven: Option<String>,
    ) -> StoreResult<RoomOutcome> {
        let join = move |step: &Transaction<'_>, stamp: RecordStamp<'_>| {
            sqlite_rooms::join(step, stamp, &caller, room, proven.as_deref())
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
        self.commit_room(requester, move |step, stamp| sqlite_rooms::leave(step, stamp, &caller, &room, cut)).await
    }

    /// Carries out a change by a member.
    pub async fn change_room(
        &self,
        requester: Requester,
        caller: RoomCaller,
        room: RoomReference,
        change: RequestedChange,
    ) -> StoreResult<RoomOutcome> {
        let change = move |step: &Transaction<'_>, stamp: RecordStamp<'_>| {
            sqlite_rooms::change(step, stamp, &caller, &room, &change)
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
        let set = move |step: &Transaction<'_>, _: RecordStamp<'_>| {
            let hash = password_hash.as_ref().map(Option::as_deref);
            sqlite_rooms::set_entry(step, &caller, &room, hash, invite_only)
        };
        self.commit_room(requester, set).await
    }

    /// Ends a room for the administrator.
    pub async fn delete_room(&self, requester: Requester, name: RoomName) -> StoreResult<RoomOutcome> {
        self.commit_room(requester, move |step, stamp| sqlite_rooms::delete(step, stamp, &name)).await
    }

    /// Returns a page of rooms by name, as `user` sees them; `None` is the administrator.
    pub async fn list_rooms(
        &self,
        requester: Requester,
        user: Option<UserName>,
        cursor: Option<RoomName>,
        limit: usize,
    ) -> StoreResult<RoomListReply> {
        let list = move |accounts: &mut SqliteAccountStore| {
            sqlite_rooms::list(accounts.database(), user.as_ref(), cursor.as_ref(), limit)
        };
        self.thread.read(requester, list).await
    }

    /// Returns the names of all rooms in order.
    pub async fn room_names(&self, requester: Requester) -> StoreResult<Vec<RoomName>> {
        self.thread.read(requester, |accounts| sqlite_rooms::names(accounts.database())).await
    }

    /// Returns the members of a room, the owner first; of a room that takes invitations only if one of `asking` is a
    /// member.
    pub async fn room_member_names(
        &self,
        requester: Requester,
        name: RoomName,
        asking: Vec<UserName>,
    ) -> StoreResult<Vec<UserName>> {
        self.thread
            .read(requester, move |accounts| sqlite_rooms::member_names(accounts.database(), &name, &asking))
            .await
    }

    /// Returns the records that the caller lacks and may have.
    pub async fn room_records(
        &self,
        requester: Requester,
        caller: RoomCaller,
        room: RoomReference,
        after: Vec<RecordHash>,
    ) -> StoreResult<RoomMembersReply> {
        let read =
            move |accounts: &mut SqliteAccountStore| sqlite_rooms::records(accounts.database(), &room, &caller, &after);
        self.thread.read(requester, read).await
    }

    async fn commit_room<T: Send + 'static>(
        &self,
        requester: Requester,
        change: impl FnOnce(&Transaction<'_>, RecordStamp<'_>) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let signer = self.signer.clone();
        let commit =
            move |accounts: &mut SqliteAccountStore| accounts.in_transaction(|step| change(step, stamp(&signer)));
        self.thread.commit(requester, commit).await
    }
}
