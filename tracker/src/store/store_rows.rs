//! The rows of accounts and rooms: one method a statement.
//!
//! The rules are in [`super::account_rules`] and [`super::room_rules`], once for all databases. A rule runs in one
//! transaction and sees no change of another one, as if each ran alone; what it returns as an error is undone whole.

use std::time::SystemTime;

use rooms::{MemberRole, Signature};
use shared::room::RecordHash;
use shared::tracker::TrackerEventKind;
use shared::tracker::room_reply::{ListedRoom, SignedRecordText};
use shared::tracker::room_request::RoomReference;
use shared::{Fingerprint, RoomId, RoomName, RoomTopic, UserName};

use super::room_values::RoomDraft;
use super::{Account, StoreResult};
use crate::catalogue::FileList;
use crate::membership::{RoomMembership, RoomState, RoomSubject, StandingKind};
use crate::registry::{FormerKey, NodeId, ReplicatedChange, ReplicatedLogin, RoomUpdate};

/// All rows, in one transaction or without one for a single reading statement.
pub(super) trait StoreRows: AccountRows + RoomRows {
    /// Returns the time of the transaction, by the clock that all users of the database share.
    fn now(&self) -> SystemTime;

    /// Writes a row as it is, so that a commit shows whether the database can be written.
    fn touch(&self) -> StoreResult;

    /// Adds changes to the log that all trackers of the database read, with those that they make to presence.
    fn append_to_log(&self, changes: Vec<ReplicatedChange>) -> StoreResult;

    /// Returns what the trackers of the database share besides accounts and rooms; `None` where there is only one.
    fn shared_state(&self) -> StoreResult<Option<SharedState>>;
}

/// What several trackers share besides accounts and rooms, as of one moment.
#[derive(Debug, Default)]
pub struct SharedState {
    /// The number of the last entry of the log.
    pub number: i64,
    /// The number of the last event.
    pub last_event: u64,
    /// The last events that are kept, in order.
    pub events: Vec<TrackerEventKind>,
    /// All presences, the earliest login first: each with the run that holds it and its files.
    pub presences: Vec<(ReplicatedLogin, NodeId, FileList)>,
}

impl SharedState {
    /// Returns the number before that of the first event that is kept.
    pub fn event_before_kept(&self) -> u64 {
        self.last_event.saturating_sub(self.events.len() as u64)
    }
}

/// The rows of accounts, of the claims on names, and of replaced keys.
pub(super) trait AccountRows {
    fn find_account(&self, user: &UserName) -> StoreResult<Option<Account>>;

    fn bindings(&self) -> StoreResult<Vec<(UserName, Option<Fingerprint>)>>;

    fn password_hashes(&self) -> StoreResult<Vec<(UserName, String)>>;

    fn count_accounts(&self) -> StoreResult<usize>;

    fn names_ignoring_case(&self, user: &UserName) -> StoreResult<Vec<UserName>>;

    /// Fails with [`super::AccountStoreError::NameTaken`] and [`super::AccountStoreError::KeyTaken`].
    fn insert_account(&self, account: &Account) -> StoreResult;

    /// Returns whether there was such an account.
    fn delete_account(&self, user: &UserName) -> StoreResult<bool>;

    /// Returns whether there is such an account.
    fn set_password_hash(&self, user: &UserName, hash: &str) -> StoreResult<bool>;

    /// Returns whether there is such an account. Fails with [`super::AccountStoreError::KeyTaken`].
    fn set_binding(&self, user: &UserName, key: Option<Fingerprint>) -> StoreResult<bool>;

    /// Returns the account that has one of these claims, the first in their order.
    fn claim_holder(&self, claims: &[i64]) -> StoreResult<Option<UserName>>;

    /// Inserts the claims that nobody has, in this order.
    fn insert_free_claims(&self, claims: &[(i64, &UserName)]) -> StoreResult;

    /// Deletes those of the claims that the account has.
    fn delete_claims(&self, user: &UserName, claims: &[i64]) -> StoreResult;

    fn set_lapse(&self, user: &UserName, lapses_ms: i64) -> StoreResult;

    /// Returns the time at which an unused account lapses.
    fn lapse_of(&self, user: &UserName) -> StoreResult<Option<i64>>;

    fn delete_lapse(&self, user: &UserName) -> StoreResult;

    fn unused_accounts(&self) -> StoreResult<Vec<UserName>>;

    /// Returns the accounts that lapsed until then, the longest lapsed first.
    fn lapsed_accounts(&self, until_ms: i64, at_most: usize) -> StoreResult<Vec<UserName>>;

    /// Returns all replaced keys, the latest last.
    fn former_keys(&self) -> StoreResult<Vec<FormerKey>>;

    fn set_former_key(&self, former: &FormerKey) -> StoreResult;

    /// Deletes the oldest replaced keys beyond a number.
    fn trim_former_keys(&self, kept: usize) -> StoreResult;

    fn delete_former_keys(&self, user: &UserName) -> StoreResult;
}

/// The rows of rooms, their members and their records.
pub(super) trait RoomRows {
    /// Returns the id of a room, even of a deleted one that is named by its id.
    fn find_room_id(&self, reference: &RoomReference) -> StoreResult<Option<RoomId>>;

    /// Returns a room that isn't deleted.
    fn load_room(&self, room: RoomId) -> StoreResult<Option<RoomState>>;

    /// Returns an account with its standing in a room.
    fn room_subject(&self, room: RoomId, user: &UserName) -> StoreResult<Option<RoomSubject>>;

    fn is_room_name_taken(&self, name: &RoomName) -> StoreResult<bool>;

    fn count_rooms(&self) -> StoreResult<usize>;

    fn count_rooms_of(&self, user: &UserName) -> StoreResult<usize>;

    /// Returns the times after `since_ms` at which an account made rooms, the latest first.
    fn room_creations(&self, creator: &UserName, since_ms: i64, at_most: usize) -> StoreResult<Vec<i64>>;

    /// Returns the times after `since_ms` of records that an account caused in a room, the latest first.
    fn record_times(
        &self,
        room: RoomId,
        causer: RecordCause<'_>,
        since_ms: i64,
        at_most: usize,
    ) -> StoreResult<Vec<i64>>;

    fn insert_room(&self, draft: &RoomDraft, creator: &UserName, created_ms: i64) -> StoreResult;

    fn set_room_entry(&self, room: RoomId, password_hash: Option<&str>, invite_only: bool) -> StoreResult;

    fn set_room_head(&self, room: RoomId, records: usize, epoch: u64, head: RecordHash) -> StoreResult;

    fn set_room_topic(&self, room: RoomId, topic: &RoomTopic) -> StoreResult;

    fn mark_room_deleted(&self, room: RoomId, deleted_ms: i64) -> StoreResult;

    /// Returns the rooms of which an account is a member by another key than `kept`.
    fn rooms_of(&self, user: &UserName, kept: Option<Fingerprint>) -> StoreResult<Vec<RoomId>>;

    /// Deletes all standings and memberships of an account.
    fn delete_memberships(&self, user: &UserName) -> StoreResult;

    /// Returns the rooms that were deleted until `until_ms`, and the oldest deleted ones beyond a number.
    fn outdated_rooms(&self, until_ms: i64, kept: usize) -> StoreResult<Vec<RoomId>>;

    /// Deletes all rows of a room.
    fn delete_room_rows(&self, room: RoomId) -> StoreResult;

    fn admit_member(&self, room: RoomId, member: &RoomMembership) -> StoreResult;

    fn dismiss_member(&self, room: RoomId, user: &UserName) -> StoreResult;

    fn set_member_role(&self, room: RoomId, user: &UserName, role: MemberRole) -> StoreResult;

    fn delete_standing(&self, room: RoomId, user: &UserName) -> StoreResult;

    fn set_standing(&self, room: RoomId, user: &UserName, standing: StandingKind, at_ms: i64) -> StoreResult;

    /// Returns the number of standings of others than `user`.
    fn count_other_standings(&self, room: RoomId, user: &UserName) -> StoreResult<usize>;

    /// Deletes the oldest kick or invitation, or else the oldest ban.
    fn delete_oldest_standing(&self, room: RoomId) -> StoreResult;

    fn insert_record(&self, record: &RecordRow<'_>) -> StoreResult;

    /// Remembers the end of a membership whose cut may be set later.
    fn insert_open_cut(&self, room: RoomId, key: Fingerprint, ended_at: u64) -> StoreResult;

    /// Returns whether the cut was open.
    fn close_cut(&self, room: RoomId, key: Fingerprint, ended_at: u64) -> StoreResult<bool>;

    /// Returns the next records after one, of all rooms, by room and epoch.
    fn records_to_sign(&self, after: Option<(RoomId, u64)>, at_most: usize) -> StoreResult<Vec<UnsignedRecord>>;

    fn set_signatures(&self, signatures: &[(RoomId, u64, Signature)]) -> StoreResult;

    fn room_setting(&self, name: &str) -> StoreResult<Option<Vec<u8>>>;

    fn set_room_setting(&self, name: &str, value: &[u8]) -> StoreResult;

    /// Returns whether there was such a setting.
    fn delete_room_setting(&self, name: &str) -> StoreResult<bool>;

    /// Returns rooms by name, as `user` sees them; `None` is the administrator.
    fn room_page(
        &self,
        user: Option<&UserName>,
        after: Option<&RoomName>,
        at_most: usize,
    ) -> StoreResult<Vec<ListedRoom>>;

    /// Returns the names of all rooms in order.
    fn room_names(&self) -> StoreResult<Vec<RoomName>>;

    fn is_room_member(&self, room: RoomId, user: &UserName, key: Option<Fingerprint>) -> StoreResult<bool>;

    /// Returns the epoch at which the last membership of a key ended.
    fn membership_end(&self, room: RoomId, key: Option<Fingerprint>) -> StoreResult<Option<i64>>;

    /// Returns the epoch of a record, if that is not after `limit`.
    fn record_epoch(&self, room: RoomId, hash: RecordHash, limit: i64) -> StoreResult<Option<i64>>;

    /// Returns the records after `after` until `limit`.
    fn record_page(&self, room: RoomId, after: i64, limit: i64, at_most: usize) -> StoreResult<Vec<SignedRecordText>>;

    /// Returns epoch and hash of the newest record until `limit`.
    fn newest_record(&self, room: RoomId, limit: i64) -> StoreResult<Option<(u64, RecordHash)>>;

    /// Returns the members without a key, in the order of their joins.
    fn keyless_members(&self, room: RoomId) -> StoreResult<Vec<UserName>>;

    /// Returns the newest record of each room, without its members.
    fn room_heads(&self) -> StoreResult<Vec<RoomUpdate>>;

    fn room_users(&self, room: RoomId) -> StoreResult<Vec<UserName>>;
}

/// The account by which records are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordCause<'a> {
    pub(super) user: &'a UserName,
    /// The records are of the account's own membership.
    pub(super) is_own: bool,
}

/// A record to be stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordRow<'a> {
    pub(super) room: RoomId,
    pub(super) epoch: u64,
    pub(super) hash: RecordHash,
    pub(super) signed: &'a [u8],
    pub(super) signature: &'a Signature,
    /// The account that caused it; `None` for the tracker itself.
    pub(super) cause: Option<RecordCause<'a>>,
    pub(super) at_ms: i64,
    /// The key whose membership it ended.
    pub(super) ended: Option<Fingerprint>,
}

/// A stored record whose signature is to be made anew.
#[derive(Debug, Clone)]
pub(super) struct UnsignedRecord {
    pub(super) room: RoomId,
    pub(super) epoch: u64,
    pub(super) signed: Vec<u8>,
}
