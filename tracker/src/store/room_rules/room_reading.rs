//! What is read of rooms.

use shared::RoomName;
use shared::UserName;
use shared::limits::{MAX_ROOM_RECORDS_PER_REPLY, MAX_ROOMS_PER_REPLY};
use shared::room::RecordHash;
use shared::tracker::room_reply::{RoomListReply, RoomMembersReply};
use shared::tracker::room_request::RoomReference;

use super::RoomResult;
use crate::membership::{Admission, RoomRefusal, RoomState, RoomSubject};
use crate::registry::RoomUpdate;
use crate::store::AccountStoreError;
use crate::store::room_values::{JoinRequirement, RoomCaller};
use crate::store::store_rows::StoreRows;

/// Returns a page of rooms by name, as `user` sees them; `None` is the administrator.
pub(in crate::store) fn list(
    rows: &dyn StoreRows,
    user: Option<&UserName>,
    cursor: Option<&RoomName>,
    limit: usize,
) -> RoomResult<RoomListReply> {
    let limit = limit.clamp(1, MAX_ROOMS_PER_REPLY);
    // One more than shown tells whether there is a next page.
    let mut rooms = rows.room_page(user, cursor, limit + 1)?;
    let next = if rooms.len() > limit { rooms.get(limit - 1).map(|room| room.name.clone()) } else { None };
    rooms.truncate(limit);
    Ok(RoomListReply { rooms, next })
}

/// Returns the members of a room, the owner first. Those of a room that takes invitations are for its members only.
pub(in crate::store) fn member_names(
    rows: &dyn StoreRows,
    name: &RoomName,
    asking: &[UserName],
) -> RoomResult<Vec<UserName>> {
    let state = require(rows, &RoomReference::Name(name.clone()))?;
    if state.invite_only && !asking.iter().any(|user| state.member(user).is_some()) {
        return Err(RoomRefusal::NotAMember.into());
    }
    Ok(state.names_owner_first())
}

/// Returns what the caller needs to join.
pub(in crate::store) fn join_requirement(
    rows: &dyn StoreRows,
    reference: &RoomReference,
    caller: &RoomCaller,
) -> RoomResult<JoinRequirement> {
    let state = require(rows, reference)?;
    let admission = state.admission(&joiner(rows, &state, caller)?)?;
    let needs_password = admission == Admission::WithPassword;
    Ok(JoinRequirement { id: state.id, password_hash: state.password_hash.filter(|_| needs_password) })
}

/// Returns the records that the caller lacks and may have.
pub(in crate::store) fn records(
    rows: &dyn StoreRows,
    reference: &RoomReference,
    caller: &RoomCaller,
    after: &[RecordHash],
) -> RoomResult<RoomMembersReply> {
    ensure_caller(rows, caller)?;
    let id = rows.find_room_id(reference)?.ok_or(RoomRefusal::NoSuchRoom)?;
    let is_member = rows.is_room_member(id, &caller.user, caller.key)?;
    // One who went may have everything up to the end of the membership, that record included.
    let limit =
        if is_member { i64::MAX } else { rows.membership_end(id, caller.key)?.ok_or(RoomRefusal::NotAMember)? };
    let mut from = 0;
    for hash in after {
        // They come in any order, and some may be void since a restore: the newest that is here counts.
        from = rows.record_epoch(id, *hash, limit)?.unwrap_or(0).max(from);
    }
    let mut records = rows.record_page(id, from, limit, MAX_ROOM_RECORDS_PER_REPLY + 1)?;
    let more = records.len() > MAX_ROOM_RECORDS_PER_REPLY;
    records.truncate(MAX_ROOM_RECORDS_PER_REPLY);
    let missing = || AccountStoreError::Failed("a room has no record".to_owned());
    let (epoch, head) = rows.newest_record(id, limit)?.ok_or_else(missing)?;
    // They are in no record, so members are told of them apart, once with the last page.
    let keyless = if is_member && !more { rows.keyless_members(id)? } else { Vec::new() };
    Ok(RoomMembersReply { id, epoch, head, records, more, keyless })
}

/// Returns the newest record and the members of each room.
pub(in crate::store) fn all_members(rows: &dyn StoreRows) -> RoomResult<Vec<RoomUpdate>> {
    let mut rooms = rows.room_heads()?;
    for room in &mut rooms {
        room.joined = rows.room_users(room.id)?;
    }
    Ok(rooms)
}

/// Refuses a caller whose account was removed or bound otherwise since it was authenticated.
pub(super) fn ensure_caller(rows: &dyn StoreRows, caller: &RoomCaller) -> RoomResult<()> {
    match rows.find_account(&caller.user)? {
        Some(account) if account.binding == caller.key => Ok(()),
        _ => Err(AccountStoreError::Changed),
    }
}

/// Returns the caller with its standing in the room.
pub(super) fn joiner(rows: &dyn StoreRows, state: &RoomState, caller: &RoomCaller) -> RoomResult<RoomSubject> {
    rows.room_subject(state.id, &caller.user)?.ok_or(AccountStoreError::Changed)
}

/// Returns a room that isn't deleted.
pub(super) fn require(rows: &dyn StoreRows, reference: &RoomReference) -> RoomResult<RoomState> {
    let id = rows.find_room_id(reference)?.ok_or(RoomRefusal::NoSuchRoom)?;
    Ok(rows.load_room(id)?.ok_or(RoomRefusal::NoSuchRoom)?)
}
