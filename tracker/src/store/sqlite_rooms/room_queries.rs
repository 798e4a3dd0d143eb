//! What is read of rooms.

use rooms::{HistoryVisibility, MemberRole};
use rusqlite::types::ToSql;
use rusqlite::{Connection, Row, params};
use shared::limits::{MAX_ROOM_RECORDS_PER_REPLY, MAX_ROOMS_PER_REPLY};
use shared::room::RecordHash;
use shared::tracker::room_reply::{ListedRole, ListedRoom, RoomListReply, RoomMembersReply, SignedRecordText};
use shared::tracker::room_request::RoomReference;
use shared::{Fingerprint, RoomId, RoomName, UserName};

use super::{RoomCaller, RoomResult};
use crate::membership::{RoomMembership, RoomRefusal, RoomState, RoomSubject, StandingKind};
use crate::registry::RoomUpdate;
use crate::store::AccountStoreError;
use crate::store::sqlite_query::{parsed, query_all, query_optional, query_value};

/// Returns a page of rooms by name, as `user` sees them; `None` is the administrator.
pub(crate) fn list(
    db: &Connection,
    user: Option<&UserName>,
    cursor: Option<&RoomName>,
    limit: usize,
) -> RoomResult<RoomListReply> {
    let limit = limit.clamp(1, MAX_ROOMS_PER_REPLY);
    // Of two owners the one without a key is shown: the founder, who has the greater rights.
    let sql = "SELECT id, name, topic, password_hash IS NOT NULL, invite_only, shares_history,
            (SELECT count(*) FROM room_member WHERE room = id AND fingerprint IS NOT NULL),
            (SELECT count(*) FROM room_member WHERE room = id AND fingerprint IS NULL),
            (SELECT user FROM room_member WHERE room = id AND role = 2 ORDER BY fingerprint IS NOT NULL LIMIT 1),
            (SELECT role FROM room_member WHERE room = id AND user = ?1),
            EXISTS (SELECT 1 FROM room_standing WHERE room = id AND user = ?1 AND standing = 0)
        FROM room WHERE name IS NOT NULL AND (?2 IS NULL OR name > ?2) ORDER BY name LIMIT ?3";
    let entry = |row: &Row<'_>| {
        Ok(ListedRoom {
            id: RoomId::from_bytes(row.get(0)?),
            name: parsed(row, 1)?,
            topic: parsed(row, 2)?,
            password: row.get(3)?,
            invite_only: row.get(4)?,
            history: row.get(5)?,
            members: row.get(6)?,
            keyless: row.get(7)?,
            owner: parsed(row, 8)?,
            role: row.get::<_, Option<u8>>(9)?.map(|role| match role_of(role) {
                MemberRole::Member => ListedRole::Member,
                MemberRole::Moderator => ListedRole::Moderator,
                MemberRole::Owner => ListedRole::Owner,
            }),
            invited: row.get(10)?,
        })
    };
    // One more than shown tells whether there is a next page.
    let rows = params![user.map(UserName::as_str), cursor.map(RoomName::as_str), limit + 1];
    let mut rooms = query_all(db, sql, rows, entry)?;
    let next = if rooms.len() > limit { rooms.get(limit - 1).map(|room| room.name.clone()) } else { None };
    rooms.truncate(limit);
    Ok(RoomListReply { rooms, next })
}

/// Returns the names of all rooms.
pub(crate) fn names(db: &Connection) -> RoomResult<Vec<RoomName>> {
    query_all(db, "SELECT name FROM room WHERE name IS NOT NULL ORDER BY name", [], |row| parsed(row, 0))
}

/// Returns the members of a room, the owner first. Those of a room that takes invitations are for its members only.
pub(crate) fn member_names(db: &Connection, name: &RoomName, asking: &[UserName]) -> RoomResult<Vec<UserName>> {
    let state = require(db, &RoomReference::Name(name.clone()))?;
    if state.invite_only && !asking.iter().any(|user| state.member(user).is_some()) {
        return Err(RoomRefusal::NotAMember.into());
    }
    Ok(state.names_owner_first())
}

/// Returns the records that the caller lacks and may have.
pub(crate) fn records(
    db: &Connection,
    reference: &RoomReference,
    caller: &RoomCaller,
    after: &[RecordHash],
) -> RoomResult<RoomMembersReply> {
    ensure_caller(db, caller)?;
    let id = find_id(db, reference)?.ok_or(RoomRefusal::NoSuchRoom)?;
    let key = caller.key.as_ref().map(Fingerprint::as_bytes);
    let member = "SELECT EXISTS (SELECT 1 FROM room_member WHERE room = ?1 AND user = ?2 AND fingerprint IS ?3)";
    let is_member = query_value::<bool>(db, member, params![id.as_bytes(), caller.user.as_str(), key])?;
    // One who went may have everything up to the end of the membership, that record included.
    let limit = if is_member {
        i64::MAX
    } else {
        let ended = "SELECT max(epoch) FROM room_record WHERE room = ?1 AND ended = ?2";
        query_value::<Option<i64>>(db, ended, params![id.as_bytes(), key])?.ok_or(RoomRefusal::NotAMember)?
    };
    let mut from = 0;
    for hash in after {
        let epoch = "SELECT max(epoch) FROM room_record WHERE room = ?1 AND hash = ?2 AND epoch <= ?3";
        let found = query_value::<Option<i64>>(db, epoch, params![id.as_bytes(), hash.as_bytes(), limit])?;
        from = found.unwrap_or(0).max(from);
    }
    let page = "SELECT signed, signature FROM room_record WHERE room = ?1 AND epoch > ?2 AND epoch <= ?3
                ORDER BY epoch LIMIT ?4";
    let rows = params![id.as_bytes(), from, limit, MAX_ROOM_RECORDS_PER_REPLY + 1];
    let text = |row: &Row<'_>| Ok(SignedRecordText { signed: row.get(0)?, signature: row.get(1)? });
    let mut records = query_all(db, page, rows, text)?;
    let more = records.len() > MAX_ROOM_RECORDS_PER_REPLY;
    records.truncate(MAX_ROOM_RECORDS_PER_REPLY);
    let newest = "SELECT epoch, hash FROM room_record WHERE room = ?1 AND epoch <= ?2 ORDER BY epoch DESC LIMIT 1";
    let columns = |row: &Row<'_>| Ok((row.get::<_, u64>(0)?, RecordHash::from_bytes(row.get(1)?)));
    let (epoch, head) = db.prepare_cached(newest)?.query_row(params![id.as_bytes(), limit], columns)?;
    let keyless = if is_member && !more {
        let sql = "SELECT user FROM room_member WHERE room = ?1 AND fingerprint IS NULL ORDER BY position";
        query_all(db, sql, [id.as_bytes()], |row| parsed(row, 0))?
    } else {
        Vec::new()
    };
    Ok(RoomMembersReply { id, epoch, head, records, more, keyless })
}

/// Returns the newest record and the members of each room.
pub(crate) fn all_members(db: &Connection) -> RoomResult<Vec<RoomUpdate>> {
    let sql = "SELECT id, epoch, head FROM room WHERE name IS NOT NULL";
    let update = |row: &Row<'_>| {
        let (id, head) = (RoomId::from_bytes(row.get(0)?), RecordHash::from_bytes(row.get(2)?));
        Ok(RoomUpdate::unchanged(id, row.get(1)?, head))
    };
    let mut rooms = query_all(db, sql, [], update)?;
    for room in &mut rooms {
        let sql = "SELECT user FROM room_member WHERE room = ?1";
        room.joined = query_all(db, sql, [room.id.as_bytes()], |row| parsed(row, 0))?;
    }
    Ok(rooms)
}

/// Refuses a caller whose account was removed or bound otherwise since it was authenticated.
pub(super) fn ensure_caller(db: &Connection, caller: &RoomCaller) -> RoomResult<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM account WHERE user = ?1 AND fingerprint IS ?2)";
    let key = caller.key.as_ref().map(Fingerprint::as_bytes);
    if query_value::<bool>(db, sql, params![caller.user.as_str(), key])? {
        Ok(())
    } else {
        Err(AccountStoreError::Changed)
    }
}

/// Returns an account with its standing in a room; `None` if there is no such account.
pub(super) fn subject(db: &Connection, room: RoomId, user: &UserName) -> RoomResult<Option<RoomSubject>> {
    let sql = "SELECT fingerprint, (SELECT standing FROM room_standing WHERE room = ?2 AND room_standing.user = ?1)
               FROM account WHERE user = ?1";
    let read = |row: &Row<'_>| {
        let standing = row.get::<_, Option<u8>>(1)?.map(|standing| match standing {
            0 => StandingKind::Invited,
            1 => StandingKind::Kicked,
            _ => StandingKind::Banned,
        });
        let key = row.get::<_, Option<[u8; 32]>>(0)?.map(Fingerprint::from_bytes);
        Ok(RoomSubject { user: user.clone(), key, standing })
    };
    query_optional(db, sql, params![user.as_str(), room.as_bytes()], read)
}

fn find_id(db: &Connection, reference: &RoomReference) -> RoomResult<Option<RoomId>> {
    let (sql, value): (_, &dyn ToSql) = match reference {
        RoomReference::Name(name) => ("SELECT id FROM room WHERE name = ?1", &name.as_str()),
        RoomReference::Id(id) => ("SELECT id FROM room WHERE id = ?1", id.as_bytes()),
    };
    query_optional(db, sql, [value], |row| row.get(0).map(RoomId::from_bytes))
}

/// Returns a room that isn't deleted.
pub(super) fn require(db: &Connection, reference: &RoomReference) -> RoomResult<RoomState> {
    let id = find_id(db, reference)?.ok_or(RoomRefusal::NoSuchRoom)?;
    let sql = "SELECT name, topic, shares_history, invite_only, password_hash, records, epoch, head
               FROM room WHERE id = ?1 AND name IS NOT NULL";
    let read = |row: &Row<'_>| {
        let shares_history: bool = row.get(2)?;
        Ok(RoomState {
            id,
            name: parsed(row, 0)?,
            topic: parsed(row, 1)?,
            history: if shares_history { HistoryVisibility::Shared } else { HistoryVisibility::Joined },
            invite_only: row.get(3)?,
            password_hash: row.get(4)?,
            members: Vec::new(),
            record_count: row.get(5)?,
            epoch: row.get(6)?,
            head: RecordHash::from_bytes(row.get(7)?),
        })
    };
    let state = query_optional(db, sql, [id.as_bytes()], read)?.ok_or(RoomRefusal::NoSuchRoom)?;
    let sql = "SELECT user, fingerprint, role FROM room_member WHERE room = ?1 ORDER BY position";
    let member = |row: &Row<'_>| {
        let key = row.get::<_, Option<[u8; 32]>>(1)?.map(Fingerprint::from_bytes);
        Ok(RoomMembership { user: parsed(row, 0)?, key, role: role_of(row.get(2)?) })
    };
    let members = query_all(db, sql, [id.as_bytes()], member)?;
    Ok(RoomState { members, ..state })
}

const fn role_of(stored: u8) -> MemberRole {
    match stored {
        0 => MemberRole::Member,
        1 => MemberRole::Moderator,
        _ => MemberRole::Owner,
    }
}
