//! The rules of rooms, the same for every database. Each runs in one transaction: a change, its records and their
//! signatures are stored together.

mod plan_writer;
mod room_reading;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use rooms::{MemberRole, RoomChange};
use shared::tracker::room_request::{RequestedChange, RoomCut, RoomReference};
use shared::{Fingerprint, RoomId, RoomName, UserName};

use super::room_values::{NO_RECORD, RoomCaller, RoomDraft, RoomOutcome};
use super::store_rows::{RecordCause, StoreRows, UnsignedRecord};
use super::{AccountStoreError, StoreResult, unix_ms};
use crate::membership::{
    CHANGES_PERIOD, DELETED_ROOM_LIFETIME, MAX_CHANGES, MAX_DELETED_ROOMS, MAX_NEW_ROOMS, MAX_OWN_CHANGES, MAX_ROOMS,
    MAX_ROOMS_PER_USER, NEW_ROOMS_PERIOD, RecordSigner, RoomPlan, RoomRefusal, RoomState, RoomSubject, check_new_name,
};
use crate::registry::RoomUpdate;
use plan_writer::carry_out;
pub(super) use room_reading::{all_members, join_requirement, list, member_names, records};
use room_reading::{ensure_caller, joiner, require};

/// The setting that holds the fingerprint of the key that signed the records.
const SIGNER_SETTING: &str = "signer";
/// The setting that is there from a restore until the records of it are made.
pub(super) const RESTORED_SETTING: &str = "restored";
/// Records that are signed anew at a time.
const SIGNING_BATCH: usize = 500;

/// The signer and the time of a change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordStamp<'a> {
    pub(crate) signer: Option<&'a RecordSigner>,
    pub(crate) now: SystemTime,
}

type RoomResult<T = RoomOutcome> = StoreResult<T>;

/// Makes a room that the caller owns.
pub(super) fn create(
    rows: &dyn StoreRows,
    stamp: RecordStamp<'_>,
    caller: &RoomCaller,
    draft: &RoomDraft,
) -> RoomResult {
    ensure_caller(rows, caller)?;
    check_new_name(&draft.name)?;
    if let Some(made) = rows.load_room(draft.id)? {
        // Of the same name: this very request, repeated. Its user's own, or else nobody could have its id.
        let is_it = made.name == draft.name && made.member(&caller.user).is_some();
        let nothing = RoomPlan { edits: Vec::new(), records: Vec::new() };
        return if is_it { carry_out(rows, stamp, &made, nothing, None) } else { Err(AccountStoreError::Changed) };
    }
    // Here and not on a timer: only new rooms let the number of deleted ones grow.
    forget_deleted(rows, stamp.now)?;
    if rows.is_room_name_taken(&draft.name)? {
        return Err(RoomRefusal::NameTaken(draft.name.clone()).into());
    }
    if rows.count_rooms()? >= MAX_ROOMS {
        return Err(RoomRefusal::TooManyRooms.into());
    }
    ensure_place_for_room(rows, &caller.user)?;
    let since = unix_ms(stamp.now) - millis(NEW_ROOMS_PERIOD);
    ensure_pace(&rows.room_creations(&caller.user, since, MAX_NEW_ROOMS)?, MAX_NEW_ROOMS, since)?;
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
        head: NO_RECORD,
    };
    rows.insert_room(draft, &caller.user, unix_ms(stamp.now))?;
    let creator = RoomSubject { user: caller.user.clone(), key: caller.key, standing: None };
    let plan = RoomPlan::create(&draft.name, draft.history, &creator);
    carry_out(rows, stamp, &empty, plan, Some(RecordCause { user: &caller.user, is_own: true }))
}

/// Makes the caller a member. `proven` is the hash of the room's password that the caller knew.
pub(super) fn join(
    rows: &dyn StoreRows,
    stamp: RecordStamp<'_>,
    caller: &RoomCaller,
    id: RoomId,
    proven: Option<&str>,
) -> RoomResult {
    ensure_caller(rows, caller)?;
    let state = require(rows, &RoomReference::Id(id))?;
    let joiner = joiner(rows, &state, caller)?;
    // The password may have been changed since it was checked.
    let has_password = proven.is_some() && proven == state.password_hash.as_deref();
    if proven.is_some() && !has_password {
        return Err(AccountStoreError::Changed);
    }
    let plan = state.join(&joiner, has_password)?;
    let cause = RecordCause { user: &caller.user, is_own: true };
    // A member who asks again takes no further place.
    if !plan.edits.is_empty() {
        ensure_place_for_room(rows, &caller.user)?;
        ensure_change_pace(rows, stamp, id, cause, MAX_OWN_CHANGES)?;
    }
    carry_out(rows, stamp, &state, plan, Some(cause))
}

/// Ends the caller's membership.
pub(super) fn leave(
    rows: &dyn StoreRows,
    stamp: RecordStamp<'_>,
    caller: &RoomCaller,
    reference: &RoomReference,
    cut: Option<RoomCut>,
) -> RoomResult {
    ensure_caller(rows, caller)?;
    let state = require(rows, reference)?;
    let plan = state.leave(&caller.user, cut)?;
    carry_out(rows, stamp, &state, plan, Some(RecordCause { user: &caller.user, is_own: true }))
}

/// Carries out a change by a member.
pub(super) fn change(
    rows: &dyn StoreRows,
    stamp: RecordStamp<'_>,
    caller: &RoomCaller,
    reference: &RoomReference,
    change: &RequestedChange,
) -> RoomResult {
    ensure_caller(rows, caller)?;
    let state = require(rows, reference)?;
    let subject = match change {
        RequestedChange::Invite { user } | RequestedChange::Ban { user, .. } | RequestedChange::Unban { user } => {
            rows.room_subject(state.id, user)?
        }
        _ => None,
    };
    let plan = state.change(&caller.user, change, subject.as_ref())?;
    let cause = RecordCause { user: &caller.user, is_own: false };
    // The pace is counted by records.
    if !plan.records.is_empty() {
        ensure_change_pace(rows, stamp, state.id, cause, MAX_CHANGES)?;
    }
    carry_out(rows, stamp, &state, plan, Some(cause))
}

/// Sets the password's hash (`Some(None)`: none any more) and whether joining takes an invitation.
pub(super) fn set_entry(
    rows: &dyn StoreRows,
    caller: &RoomCaller,
    reference: &RoomReference,
    password_hash: Option<Option<&str>>,
    invite_only: Option<bool>,
) -> RoomResult {
    ensure_caller(rows, caller)?;
    let state = require(rows, reference)?;
    match state.rights(&caller.user) {
        Some(MemberRole::Owner) => {}
        Some(_) => return Err(RoomRefusal::NeedsOwner.into()),
        None => return Err(RoomRefusal::NotAMember.into()),
    }
    let hash = password_hash.map_or(state.password_hash.as_deref(), |hash| hash);
    rows.set_room_entry(state.id, hash, invite_only.unwrap_or(state.invite_only))?;
    Ok(RoomOutcome { update: RoomUpdate::unchanged(state.id, state.epoch, state.head), records: Vec::new() })
}

/// Ends a room for the administrator.
pub(super) fn delete(rows: &dyn StoreRows, stamp: RecordStamp<'_>, name: &RoomName) -> RoomResult {
    let state = require(rows, &RoomReference::Name(name.clone()))?;
    carry_out(rows, stamp, &state, RoomState::delete(), None)
}

/// Ends all memberships of an account, except those of the key `kept`.
pub(super) fn end_memberships(
    rows: &dyn StoreRows,
    stamp: RecordStamp<'_>,
    user: &UserName,
    kept: Option<Fingerprint>,
) -> RoomResult<Vec<RoomOutcome>> {
    let end = |id| {
        let state = require(rows, &RoomReference::Id(id))?;
        let plan = state.leave(user, None)?;
        // By nobody: what the tracker does itself counts for no member's pace.
        carry_out(rows, stamp, &state, plan, None)
    };
    rows.rooms_of(user, kept)?.into_iter().map(end).collect()
}

/// Forgets everything about an account that is removed: a later account of that name inherits nothing.
pub(super) fn forget_user(
    rows: &dyn StoreRows,
    stamp: RecordStamp<'_>,
    user: &UserName,
) -> RoomResult<Vec<RoomOutcome>> {
    let ended = end_memberships(rows, stamp, user, None)?;
    // What is left are memberships of rooms that were deleted.
    rows.delete_memberships(user)?;
    Ok(ended)
}

/// Brings the records up to date with the tracker's key and with a restore.
pub(super) fn prepare(rows: &dyn StoreRows, stamp: RecordStamp<'_>) -> RoomResult<()> {
    // Without a signer there are no rooms.
    let Some(signer) = stamp.signer else { return Ok(()) };
    let fingerprint = signer.fingerprint();
    if rows.room_setting(SIGNER_SETTING)?.as_deref() != Some(fingerprint.as_bytes()) {
        // Members verify records with the tracker's present key: signatures of an earlier one prove nothing to them.
        sign_all(rows, signer)?;
        rows.set_room_setting(SIGNER_SETTING, fingerprint.as_bytes())?;
    }
    // Members may have records from after the backup. This one tells them that those are void.
    if rows.delete_room_setting(RESTORED_SETTING)? {
        for RoomUpdate { id, .. } in rows.room_heads()? {
            let state = require(rows, &RoomReference::Id(id))?;
            let plan = RoomPlan { edits: Vec::new(), records: vec![RoomChange::Restore] };
            carry_out(rows, stamp, &state, plan, None)?;
        }
    }
    Ok(())
}

/// Signs all records anew. A record's hash doesn't cover its signature, so the chains stay as they are.
fn sign_all(rows: &dyn StoreRows, signer: &RecordSigner) -> RoomResult<()> {
    let mut after = None;
    loop {
        let some = rows.records_to_sign(after, SIGNING_BATCH)?;
        let Some(last) = some.last() else { return Ok(()) };
        after = Some((last.room, last.epoch));
        let sign = |record: &UnsignedRecord| (record.room, record.epoch, signer.sign_bytes(&record.signed));
        rows.set_signatures(&some.iter().map(sign).collect::<Vec<_>>())?;
    }
}

/// Forgets rooms that were deleted long ago, and the oldest of too many.
fn forget_deleted(rows: &dyn StoreRows, now: SystemTime) -> RoomResult<()> {
    let outdated = rows.outdated_rooms(unix_ms(now) - millis(DELETED_ROOM_LIFETIME), MAX_DELETED_ROOMS)?;
    outdated.into_iter().try_for_each(|room| rows.delete_room_rows(room))
}

fn ensure_place_for_room(rows: &dyn StoreRows, user: &UserName) -> RoomResult<()> {
    if rows.count_rooms_of(user)? >= MAX_ROOMS_PER_USER {
        return Err(RoomRefusal::TooManyOwnRooms.into());
    }
    Ok(())
}

/// Refuses a further change of a room while too many are by the same account.
fn ensure_change_pace(
    rows: &dyn StoreRows,
    stamp: RecordStamp<'_>,
    room: RoomId,
    cause: RecordCause<'_>,
    most: usize,
) -> RoomResult<()> {
    let since = unix_ms(stamp.now) - millis(CHANGES_PERIOD);
    ensure_pace(&rows.record_times(room, cause, since, most)?, most, since)
}

/// Refuses one more of what happened at these times, the latest first, all after `since`: `most` of them are allowed.
fn ensure_pace(times: &[i64], most: usize, since: i64) -> RoomResult<()> {
    match times.get(most - 1) {
        Some(oldest) => {
            // One more is allowed as soon as this one is as old as the period.
            let wait = Duration::from_millis(u64::try_from(oldest - since).unwrap_or_default());
            Err(RoomRefusal::TooOften { wait }.into())
        }
        None => Ok(()),
    }
}

fn millis(period: Duration) -> i64 {
    i64::try_from(period.as_millis()).unwrap_or(i64::MAX)
}
