//! The writer of a planned change: its edits, its records and their signatures.

use std::time::SystemTime;

use rooms::{MAX_RECORDS, MembershipRecord, RESTORE_EPOCH_STEP, RoomChange, SignedRecord};
use shared::{RoomId, UserName};

use super::{RecordStamp, RoomResult};
use crate::membership::{MAX_STANDINGS, RoomEdit, RoomPlan, RoomRefusal, RoomState, StandingKind};
use crate::registry::RoomUpdate;
use crate::store::room_values::RoomOutcome;
use crate::store::store_rows::{RecordCause, RecordRow, StoreRows};
use crate::store::unix_ms;

/// Edits the stored room, and signs and stores the records.
pub(super) fn carry_out(
    rows: &dyn StoreRows,
    stamp: RecordStamp<'_>,
    state: &RoomState,
    plan: RoomPlan,
    cause: Option<RecordCause<'_>>,
) -> RoomResult {
    let RoomPlan { edits, mut records } = plan;
    if state.record_count + records.len() > MAX_RECORDS {
        match cause {
            Some(_) => return Err(RoomRefusal::TooManyRecords.into()),
            // An account must be removable all the same; members take no more records of this room anyway.
            None => records.clear(),
        }
    }
    let mut update = RoomUpdate::unchanged(state.id, state.epoch, state.head);
    for edit in edits {
        apply_edit(rows, stamp.now, state, edit, &mut update)?;
    }
    let mut signed = Vec::with_capacity(records.len());
    for change in records {
        // One after the other: each record names the hash of the one before it.
        let record = sign(stamp, &update, change)?;
        store_record(rows, stamp.now, &record, cause)?;
        (update.epoch, update.head) = (record.record().epoch, record.hash());
        signed.push(record);
    }
    rows.set_room_head(state.id, state.record_count + signed.len(), update.epoch, update.head)?;
    Ok(RoomOutcome { update, records: signed })
}

fn sign(stamp: RecordStamp<'_>, newest: &RoomUpdate, change: RoomChange) -> RoomResult<SignedRecord> {
    let signer = stamp.signer.ok_or(RoomRefusal::NoSigningKey)?;
    let epoch_step = if change == RoomChange::Restore { RESTORE_EPOCH_STEP } else { 1 };
    let record = MembershipRecord {
        room: newest.id,
        epoch: newest.epoch + epoch_step,
        // Before the first record, the stored head is zeros and names nothing.
        previous: (newest.epoch > 0).then_some(newest.head),
        time: u64::try_from(unix_ms(stamp.now)).unwrap_or_default(),
        change,
    };
    Ok(signer.sign(record))
}

fn store_record(
    rows: &dyn StoreRows,
    now: SystemTime,
    record: &SignedRecord,
    cause: Option<RecordCause<'_>>,
) -> RoomResult<()> {
    let MembershipRecord { room, epoch, change, .. } = record.record();
    let (ended, open) = match change {
        RoomChange::Leave { key, cut, .. } | RoomChange::Kick { key, cut, .. } => (Some(*key), cut.is_none()),
        _ => (None, false),
    };
    rows.insert_record(&RecordRow {
        room: *room,
        epoch: *epoch,
        hash: record.hash(),
        signed: record.signed(),
        signature: record.signature(),
        cause,
        at_ms: unix_ms(now),
        ended,
    })?;
    // Remembered until a moderator sets the cut, which is possible once.
    match ended.filter(|_| open) {
        Some(key) => rows.insert_open_cut(*room, key, *epoch),
        None => Ok(()),
    }
}

fn apply_edit(
    rows: &dyn StoreRows,
    now: SystemTime,
    state: &RoomState,
    edit: RoomEdit,
    update: &mut RoomUpdate,
) -> RoomResult<()> {
    match edit {
        RoomEdit::Admit(member) => {
            rows.admit_member(state.id, &member)?;
            update.joined.push(member.user);
        }
        RoomEdit::Dismiss { user } => {
            rows.dismiss_member(state.id, &user)?;
            update.gone.push(user);
        }
        RoomEdit::SetRole { user, role } => rows.set_member_role(state.id, &user, role)?,
        RoomEdit::SetStanding { user, standing: None } => rows.delete_standing(state.id, &user)?,
        RoomEdit::SetStanding { user, standing: Some(standing) } => {
            make_place_for_standing(rows, state.id, &user, standing)?;
            rows.set_standing(state.id, &user, standing, unix_ms(now))?;
            update.invited.extend((standing == StandingKind::Invited).then_some(user));
        }
        RoomEdit::SetTopic { topic } => rows.set_room_topic(state.id, &topic)?,
        RoomEdit::CloseCut { key, ended_at } => {
            if !rows.close_cut(state.id, key, ended_at)? {
                return Err(RoomRefusal::CutIsSet.into());
            }
        }
        RoomEdit::Delete => {
            // The members stay stored: they may learn of the end.
            rows.mark_room_deleted(state.id, unix_ms(now))?;
            update.is_deleted = true;
        }
    }
    Ok(())
}

fn make_place_for_standing(
    rows: &dyn StoreRows,
    room: RoomId,
    user: &UserName,
    standing: StandingKind,
) -> RoomResult<()> {
    if rows.count_other_standings(room, user)? < MAX_STANDINGS {
        return Ok(());
    }
    if standing != StandingKind::Kicked {
        return Err(RoomRefusal::TooManyStandings.into());
    }
    // A kick is never refused for this: the oldest kick or invitation is forgotten.
    rows.delete_oldest_standing(room)
}
