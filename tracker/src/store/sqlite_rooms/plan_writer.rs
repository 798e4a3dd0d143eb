//! The writer of a planned change: its edits, its records and their signatures.

use std::time::SystemTime;

use rooms::{MAX_RECORDS, MembershipRecord, RESTORE_EPOCH_STEP, RoomChange, SignedRecord};
use rusqlite::types::ToSql;
use rusqlite::{Transaction, params};
use shared::{Fingerprint, RoomId, UserName};

use super::{RecordStamp, RoomOutcome, RoomResult};
use crate::membership::{MAX_STANDINGS, RoomEdit, RoomMembership, RoomPlan, RoomRefusal, RoomState, StandingKind};
use crate::registry::RoomUpdate;
use crate::store::sqlite_query::{execute, query_value};
use crate::store::unix_ms;

/// The account by which records are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordActor<'a> {
    pub(super) user: &'a UserName,
    /// The records are of the actor's own membership.
    pub(super) is_own: bool,
}

/// Edits the stored room, and signs and stores the records.
pub(super) fn carry_out(
    step: &Transaction<'_>,
    stamp: RecordStamp<'_>,
    state: &RoomState,
    plan: RoomPlan,
    actor: Option<RecordActor<'_>>,
) -> RoomResult {
    let RoomPlan { edits, mut records } = plan;
    if state.record_count + records.len() > MAX_RECORDS {
        match actor {
            Some(_) => return Err(RoomRefusal::TooManyRecords.into()),
            // An account must be removable all the same; members take no more records of this room anyway.
            None => records.clear(),
        }
    }
    let mut update = RoomUpdate::unchanged(state.id, state.epoch, state.head);
    for edit in edits {
        apply_edit(step, stamp.now, state, edit, &mut update)?;
    }
    let mut signed = Vec::with_capacity(records.len());
    for change in records {
        let record = sign(stamp, &update, change)?;
        store_record(step, stamp.now, &record, actor)?;
        (update.epoch, update.head) = (record.record().epoch, record.hash());
        signed.push(record);
    }
    let count = state.record_count + signed.len();
    let row = params![state.id.as_bytes(), count, update.epoch, update.head.as_bytes()];
    step.execute("UPDATE room SET records = ?2, epoch = ?3, head = ?4 WHERE id = ?1", row)?;
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
    step: &Transaction<'_>,
    now: SystemTime,
    record: &SignedRecord,
    actor: Option<RecordActor<'_>>,
) -> RoomResult<()> {
    let MembershipRecord { room, epoch, change, .. } = record.record();
    let (ended, open) = match change {
        RoomChange::Leave { key, cut, .. } | RoomChange::Kick { key, cut, .. } => (Some(key), cut.is_none()),
        _ => (None, false),
    };
    let hash = record.hash();
    let row = params![
        room.as_bytes(),
        epoch,
        hash.as_bytes(),
        record.signed(),
        record.signature(),
        actor.map(|actor| actor.user.as_str()),
        actor.is_some_and(|actor| actor.is_own),
        unix_ms(now),
        ended.map(Fingerprint::as_bytes),
    ];
    execute(step, "INSERT INTO room_record VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", row)?;
    // Remembered until a moderator sets the cut, which is possible once.
    if let Some(key) = ended.filter(|_| open) {
        let row = params![room.as_bytes(), key.as_bytes(), epoch];
        step.execute("INSERT INTO room_open_cut VALUES (?1, ?2, ?3)", row)?;
    }
    Ok(())
}

fn apply_edit(
    step: &Transaction<'_>,
    now: SystemTime,
    state: &RoomState,
    edit: RoomEdit,
    update: &mut RoomUpdate,
) -> RoomResult<()> {
    let id = state.id.as_bytes();
    let execute = |sql: &str, params: &[&dyn ToSql]| step.execute(sql, params);
    match edit {
        RoomEdit::Admit(RoomMembership { user, key, role }) => {
            let insert = "INSERT INTO room_member VALUES (?1, ?2, ?3, ?4,
                (SELECT coalesce(max(position), 0) + 1 FROM room_member WHERE room = ?1))";
            let key = key.as_ref().map(Fingerprint::as_bytes);
            execute(insert, params![id, user.as_str(), key, role as u8])?;
            update.joined.push(user);
        }
        RoomEdit::Dismiss { user } => {
            execute("DELETE FROM room_member WHERE room = ?1 AND user = ?2", params![id, user.as_str()])?;
            update.gone.push(user);
        }
        RoomEdit::SetRole { user, role } => {
            let sql = "UPDATE room_member SET role = ?3 WHERE room = ?1 AND user = ?2";
            execute(sql, params![id, user.as_str(), role as u8])?;
        }
        RoomEdit::SetStanding { user, standing: None } => {
            execute("DELETE FROM room_standing WHERE room = ?1 AND user = ?2", params![id, user.as_str()])?;
        }
        RoomEdit::SetStanding { user, standing: Some(standing) } => {
            make_place_for_standing(step, state.id, &user, standing)?;
            let sql = "INSERT OR REPLACE INTO room_standing VALUES (?1, ?2, ?3, ?4)";
            execute(sql, params![id, user.as_str(), standing as u8, unix_ms(now)])?;
            update.invited.extend((standing == StandingKind::Invited).then_some(user));
        }
        RoomEdit::SetTopic { topic } => {
            execute("UPDATE room SET topic = ?2 WHERE id = ?1", params![id, topic.as_str()])?;
        }
        RoomEdit::CloseCut { key, ended_at } => {
            let sql = "DELETE FROM room_open_cut WHERE room = ?1 AND fingerprint = ?2 AND ended_at = ?3";
            // SQLite has signed integers, and no record an epoch beyond theirs.
            let ended_at = i64::try_from(ended_at).unwrap_or(i64::MAX);
            if execute(sql, params![id, key.as_bytes(), ended_at])? == 0 {
                return Err(RoomRefusal::CutIsSet.into());
            }
        }
        RoomEdit::Delete => {
            // The members stay stored: they may learn of the end.
            execute("UPDATE room SET name = NULL, deleted_ms = ?2 WHERE id = ?1", params![id, unix_ms(now)])?;
            update.is_deleted = true;
        }
    }
    Ok(())
}

fn make_place_for_standing(
    step: &Transaction<'_>,
    room: RoomId,
    user: &UserName,
    standing: StandingKind,
) -> RoomResult<()> {
    let others = "SELECT count(*) FROM room_standing WHERE room = ?1 AND user IS NOT ?2";
    if query_value::<usize>(step, others, params![room.as_bytes(), user.as_str()])? < MAX_STANDINGS {
        return Ok(());
    }
    if standing != StandingKind::Kicked {
        return Err(RoomRefusal::TooManyStandings.into());
    }
    // A kick is never refused for this: the oldest kick or invitation is forgotten.
    let oldest = "DELETE FROM room_standing WHERE room = ?1 AND user =
        (SELECT user FROM room_standing WHERE room = ?1 ORDER BY standing = 2, at_ms LIMIT 1)";
    execute(step, oldest, [room.as_bytes()]).map(drop)
}
