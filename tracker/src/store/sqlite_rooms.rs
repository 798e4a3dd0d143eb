//! The statements of rooms. They run within a transaction of the account database: a change, its records and their
//! signatures are stored together.

mod plan_writer;
mod room_queries;
mod room_schema;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use rooms::{HistoryVisibility, MemberRole, RoomChange, SignedRecord};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use shared::room::RecordHash;
use shared::tracker::room_reply::{RoomChangeReply, SignedRecordText};
use shared::tracker::room_request::{RequestedChange, RoomCut, RoomReference};
use shared::{Fingerprint, RoomId, RoomName, UserName};

use super::sqlite_query::{query_all, query_value};
use super::{AccountStoreError, StoreResult, unix_ms};
use crate::membership::{
    Admission, CHANGES_PERIOD, DELETED_ROOM_LIFETIME, MAX_CHANGES, MAX_DELETED_ROOMS, MAX_NEW_ROOMS, MAX_OWN_CHANGES,
    MAX_ROOMS, MAX_ROOMS_PER_USER, NEW_ROOMS_PERIOD, RecordSigner, RoomPlan, RoomRefusal, RoomState, RoomSubject,
    check_new_name,
};
use crate::registry::RoomUpdate;
use plan_writer::{RecordActor, carry_out};
pub(super) use room_queries::{all_members, list, member_names, names, records};
use room_queries::{ensure_caller, require, subject};
pub(super) use room_schema::create_tables;

/// The setting that holds the fingerprint of the key that signed the records.
const SIGNER_SETTING: &str = "signer";
/// The setting that is there from a restore until the records of it are made.
const RESTORED_SETTING: &str = "restored";

/// The account that acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomCaller {
    /// The account.
    pub user: UserName,
    /// The key by which it was authenticated; `None` for a client of the exercise.
    pub key: Option<Fingerprint>,
}

/// A room to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomDraft {
    /// The random id.
    pub id: RoomId,
    /// The name.
    pub name: RoomName,
    /// The password's hash, a PHC string.
    pub password_hash: Option<String>,
    /// Joining takes an invitation.
    pub invite_only: bool,
    /// The messages that a new member may read.
    pub history: HistoryVisibility,
}

/// A room that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomOutcome {
    /// The change of its members, for those who are told.
    pub update: RoomUpdate,
    /// The records that were made.
    pub records: Vec<SignedRecord>,
}

/// The condition of a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequirement {
    /// The room.
    pub id: RoomId,
    /// The hash of the password that the joiner needs; `None` if it needs none.
    pub password_hash: Option<String>,
}

/// The signer and the time of a change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordStamp<'a> {
    pub(crate) signer: Option<&'a RecordSigner>,
    pub(crate) now: SystemTime,
}

type RoomResult<T = RoomOutcome> = StoreResult<T>;

impl AsRef<[Self]> for RoomOutcome {
    fn as_ref(&self) -> &[Self] {
        std::slice::from_ref(self)
    }
}

impl RoomOutcome {
    /// Returns the reply with the records that were made.
    pub fn into_reply(self) -> RoomChangeReply {
        let Self { update: RoomUpdate { id, epoch, head, .. }, records } = self;
        let text = |record: &SignedRecord| SignedRecordText {
            signed: record.signed().to_vec(),
            signature: *record.signature(),
        };
        RoomChangeReply { id, epoch, head, records: records.iter().map(text).collect() }
    }
}

/// Makes a room that the caller owns.
pub(super) fn create(
    step: &Transaction<'_>,
    stamp: RecordStamp<'_>,
    caller: &RoomCaller,
    draft: &RoomDraft,
) -> RoomResult {
    ensure_caller(step, caller)?;
    check_new_name(&draft.name)?;
    // Here and not on a timer: only new rooms let the number of deleted ones grow.
    forget_deleted(step, stamp.now)?;
    let taken = "SELECT EXISTS (SELECT 1 FROM room WHERE name = ?1)";
    if query_value::<bool>(step, taken, [draft.name.as_str()])? {
        return Err(RoomRefusal::NameTaken(draft.name.clone()).into());
    }
    if query_value::<usize>(step, "SELECT count(*) FROM room WHERE name IS NOT NULL", [])? >= MAX_ROOMS {
        return Err(RoomRefusal::TooManyRooms.into());
    }
    ensure_place_for_room(step, &caller.user)?;
    let since = unix_ms(stamp.now) - millis(NEW_ROOMS_PERIOD);
    let made = "SELECT created_ms FROM room WHERE creator = ?1 AND created_ms > ?2 ORDER BY created_ms DESC";
    ensure_pace(step, made, params![caller.user.as_str(), since], MAX_NEW_ROOMS, since)?;
    let empty = RoomState {
        id: draft.id,
        name: draft.name.clone(),
        topic: Default::default(),
        history: draft.history,
        invite_only: draft.invite_only,
        password_hash: draft.password_hash.clone(),
        members: Vec::new(),
        record_count: 0,
        epoch: 0,
        head: RecordHash::from_bytes([0; 32]),
    };
    let RoomDraft { id, name, password_hash, invite_only, history } = draft;
    let row = params![
        id.as_bytes(),
        name.as_str(),
        caller.user.as_str(),
        unix_ms(stamp.now),
        password_hash,
        invite_only,
        *history == HistoryVisibility::Shared,
        empty.head.as_bytes(),
    ];
    let insert = "INSERT INTO room
        (id, name, topic, creator, created_ms, password_hash, invite_only, shares_history, records, epoch, head)
        VALUES (?1, ?2, '', ?3, ?4, ?5, ?6, ?7, 0, 0, ?8)";
    step.execute(insert, row)?;
    let creator = RoomSubject { user: caller.user.clone(), key: caller.key, standing: None };
    let plan = RoomPlan::create(name, *history, &creator);
    carry_out(step, stamp, &empty, plan, Some(RecordActor { user: &caller.user, is_own: true }))
}

/// Returns what the caller needs to join.
pub(super) fn join_requirement(
    db: &Connection,
    reference: &RoomReference,
    caller: &RoomCaller,
) -> RoomResult<JoinRequirement> {
    let state = require(db, reference)?;
    let admission = state.admission(&joiner(db, &state, caller)?)?;
    let needs_password = admission == Admission::WithPassword;
    Ok(JoinRequirement { id: state.id, password_hash: state.password_hash.filter(|_| needs_password) })
}

/// Makes the caller a member. `proven` is the hash of the room's password that the caller knew.
pub(super) fn join(
    step: &Transaction<'_>,
    stamp: RecordStamp<'_>,
    caller: &RoomCaller,
    id: RoomId,
    proven: Option<&str>,
) -> RoomResult {
    ensure_caller(step, caller)?;
    let state = require(step, &RoomReference::Id(id))?;
    let joiner = joiner(step, &state, caller)?;
    // The password may have been changed since it was checked.
    let has_password = proven.is_some() && proven == state.password_hash.as_deref();
    if proven.is_some() && !has_password {
        return Err(AccountStoreError::Changed);
    }
    let plan = state.join(&joiner, has_password)?;
    // A member who asks again takes no further place.
    if !plan.edits.is_empty() {
        ensure_place_for_room(step, &caller.user)?;
        let (user, since) = (&caller.user, unix_ms(stamp.now) - millis(CHANGES_PERIOD));
        let own = "SELECT at_ms FROM room_record WHERE room = ?1 AND actor = ?2 AND is_own AND at_ms > ?3
                   ORDER BY at_ms DESC";
        ensure_pace(step, own, params![id.as_bytes(), user.as_str(), since], MAX_OWN_CHANGES, since)?;
    }
    carry_out(step, stamp, &state, plan, Some(RecordActor { user: &caller.user, is_own: true }))
}

/// Ends the caller's membership.
pub(super) fn leave(
    step: &Transaction<'_>,
    stamp: RecordStamp<'_>,
    caller: &RoomCaller,
    reference: &RoomReference,
    cut: Option<RoomCut>,
) -> RoomResult {
    ensure_caller(step, caller)?;
    let state = require(step, reference)?;
    let plan = state.leave(&caller.user, cut)?;
    carry_out(step, stamp, &state, plan, Some(RecordActor { user: &caller.user, is_own: true }))
}

/// Carries out a change by a member.
pub(super) fn change(
    step: &Transaction<'_>,
    stamp: RecordStamp<'_>,
    caller: &RoomCaller,
    reference: &RoomReference,
    change: &RequestedChange,
) -> RoomResult {
    ensure_caller(step, caller)?;
    let state = require(step, reference)?;
    let subject = match change {
        RequestedChange::Invite { user } | RequestedChange::Ban { user, .. } | RequestedChange::Unban { user } => {
            subject(step, state.id, user)?
        }
        _ => None,
    };
    let plan = state.change(&caller.user, change, subject.as_ref())?;
    let (user, since) = (&caller.user, unix_ms(stamp.now) - millis(CHANGES_PERIOD));
    // The pace is counted by records.
    if !plan.records.is_empty() {
        let by_user = "SELECT at_ms FROM room_record WHERE room = ?1 AND actor = ?2 AND NOT is_own AND at_ms > ?3
                       ORDER BY at_ms DESC";
        ensure_pace(step, by_user, params![state.id.as_bytes(), user.as_str(), since], MAX_CHANGES, since)?;
    }
    carry_out(step, stamp, &state, plan, Some(RecordActor { user, is_own: false }))
}

/// Sets the password's hash (`Some(None)`: none any more) and whether joining takes an invitation.
pub(super) fn set_entry(
    step: &Transaction<'_>,
    caller: &RoomCaller,
    reference: &RoomReference,
    password_hash: Option<Option<&str>>,
    invite_only: Option<bool>,
) -> RoomResult {
    ensure_caller(step, caller)?;
    let state = require(step, reference)?;
    match state.rights(&caller.user) {
        Some(MemberRole::Owner) => {}
        Some(_) => return Err(RoomRefusal::NeedsOwner.into()),
        None => return Err(RoomRefusal::NotAMember.into()),
    }
    let hash = password_hash.map_or(state.password_hash.as_deref(), |hash| hash);
    let invite_only = invite_only.unwrap_or(state.invite_only);
    let update = "UPDATE room SET password_hash = ?2, invite_only = ?3 WHERE id = ?1";
    step.execute(update, params![state.id.as_bytes(), hash, invite_only])?;
    Ok(RoomOutcome { update: RoomUpdate::unchanged(state.id, state.epoch, state.head), records: Vec::new() })
}

/// Ends a room for the administrator.
pub(super) fn delete(step: &Transaction<'_>, stamp: RecordStamp<'_>, name: &RoomName) -> RoomResult {
    let state = require(step, &RoomReference::Name(name.clone()))?;
    carry_out(step, stamp, &state, RoomState::delete(), None)
}

/// Ends all memberships of an account, except those of the key `kept`.
pub(super) fn end_memberships(
    step: &Transaction<'_>,
    stamp: RecordStamp<'_>,
    user: &UserName,
    kept: Option<Fingerprint>,
) -> RoomResult<Vec<RoomOutcome>> {
    let of_user = "SELECT room FROM room_member JOIN room ON room.id = room_member.room
                   WHERE user = ?1 AND name IS NOT NULL AND (?2 IS NULL OR fingerprint IS NOT ?2)";
    let kept = kept.as_ref().map(Fingerprint::as_bytes);
    let ids = query_all(step, of_user, params![user.as_str(), kept], |row| row.get(0).map(RoomId::from_bytes))?;
    let end = |id| {
        let state = require(step, &RoomReference::Id(id))?;
        let plan = state.leave(user, None)?;
        // By nobody: what the tracker does itself counts for no member's pace.
        carry_out(step, stamp, &state, plan, None)
    };
    ids.into_iter().map(end).collect()
}

/// Forgets everything about an account that is removed: a later account of that name inherits nothing.
pub(super) fn forget_user(
    step: &Transaction<'_>,
    stamp: RecordStamp<'_>,
    user: &UserName,
) -> RoomResult<Vec<RoomOutcome>> {
    let ended = end_memberships(step, stamp, user, None)?;
    // What is left are memberships of rooms that were deleted.
    for delete in ["DELETE FROM room_standing WHERE user = ?1", "DELETE FROM room_member WHERE user = ?1"] {
        step.execute(delete, [user.as_str()])?;
    }
    Ok(ended)
}

/// Brings the records up to date with the tracker's key and with a restore.
pub(super) fn prepare(step: &Transaction<'_>, stamp: RecordStamp<'_>) -> RoomResult<()> {
    // Without a signer there are no rooms.
    let Some(signer) = stamp.signer else { return Ok(()) };
    let known = step
        .query_row("SELECT value FROM room_setting WHERE name = ?1", [SIGNER_SETTING], |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    let fingerprint = signer.fingerprint();
    if known.as_deref() != Some(fingerprint.as_bytes()) {
        // Members verify records with the tracker's present key: signatures of an earlier one prove nothing to them.
        sign_all(step, signer)?;
        let setting = params![SIGNER_SETTING, fingerprint.as_bytes()];
        step.execute("INSERT OR REPLACE INTO room_setting VALUES (?1, ?2)", setting)?;
    }
    // Members may have records from after the backup. This one tells them that those are void.
    if step.execute("DELETE FROM room_setting WHERE name = ?1", [RESTORED_SETTING])? > 0 {
        for RoomUpdate { id, .. } in all_members(step)? {
            let state = require(step, &RoomReference::Id(id))?;
            let plan = RoomPlan { edits: Vec::new(), records: vec![RoomChange::Restore] };
            carry_out(step, stamp, &state, plan, None)?;
        }
    }
    Ok(())
}

/// Notes that this database comes from a backup: records that were signed after it are void.
pub(super) fn mark_restored(db: &Connection) -> rusqlite::Result<()> {
    db.execute("INSERT OR REPLACE INTO room_setting VALUES (?1, x'01')", [RESTORED_SETTING]).map(drop)
}

/// Signs all records anew. A record's hash doesn't cover its signature, so the chains stay as they are.
fn sign_all(step: &Transaction<'_>, signer: &RecordSigner) -> RoomResult<()> {
    let mut query = step.prepare("SELECT room, epoch FROM room_record")?;
    let mut update = step.prepare("UPDATE room_record SET signature = ?3 WHERE room = ?1 AND epoch = ?2")?;
    // Collected first: the statement that reads must not meet the rows that the other one changes.
    let all = query
        .query_map([], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, i64>(1)?)))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)?;
    let mut signed = step.prepare("SELECT signed FROM room_record WHERE room = ?1 AND epoch = ?2")?;
    for (room, epoch) in all {
        let bytes: Vec<u8> = signed.query_row(params![room, epoch], |row| row.get(0))?;
        update.execute(params![room, epoch, signer.sign_bytes(&bytes)])?;
    }
    Ok(())
}

/// Forgets rooms that were deleted long ago, and the oldest of too many.
fn forget_deleted(step: &Transaction<'_>, now: SystemTime) -> RoomResult<()> {
    let old = "SELECT id FROM room WHERE deleted_ms <= ?1
        UNION SELECT id FROM (SELECT id FROM room WHERE deleted_ms IS NOT NULL ORDER BY deleted_ms DESC LIMIT -1 OFFSET ?2)";
    let rows = params![unix_ms(now) - millis(DELETED_ROOM_LIFETIME), MAX_DELETED_ROOMS];
    let ids = query_all(step, old, rows, |row| row.get::<_, [u8; 16]>(0))?;
    for id in ids {
        for delete in [
            "DELETE FROM room_member WHERE room = ?1",
            "DELETE FROM room_standing WHERE room = ?1",
            "DELETE FROM room_record WHERE room = ?1",
            "DELETE FROM room_open_cut WHERE room = ?1",
            "DELETE FROM room WHERE id = ?1",
        ] {
            step.execute(delete, [id])?;
        }
    }
    Ok(())
}

fn ensure_place_for_room(db: &Connection, user: &UserName) -> RoomResult<()> {
    let sql = "SELECT count(*) FROM room_member JOIN room ON room.id = room_member.room
               WHERE user = ?1 AND name IS NOT NULL";
    if query_value::<usize>(db, sql, [user.as_str()])? >= MAX_ROOMS_PER_USER {
        return Err(RoomRefusal::TooManyOwnRooms.into());
    }
    Ok(())
}

/// Refuses one more of what `sql` selects, the latest first, all after `since`: `most` of them are allowed.
fn ensure_pace(db: &Connection, sql: &str, params: impl rusqlite::Params, most: usize, since: i64) -> RoomResult<()> {
    let times = query_all(db, sql, params, |row| row.get::<_, i64>(0))?;
    match times.get(most - 1) {
        Some(oldest) => {
            // One more is allowed as soon as this one is as old as the period.
            let wait = Duration::from_millis(u64::try_from(oldest - since).unwrap_or_default());
            Err(RoomRefusal::TooOften { wait }.into())
        }
        None => Ok(()),
    }
}

fn joiner(db: &Connection, state: &RoomState, caller: &RoomCaller) -> RoomResult<RoomSubject> {
    subject(db, state.id, &caller.user)?.ok_or(AccountStoreError::Changed)
}

fn millis(period: Duration) -> i64 {
    i64::try_from(period.as_millis()).unwrap_or(i64::MAX)
}
