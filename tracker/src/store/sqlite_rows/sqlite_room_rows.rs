//! The rows of rooms in SQLite.

use rooms::{HistoryVisibility, MemberRole, Signature};
use rusqlite::types::ToSql;
use rusqlite::{Row, params};
use shared::room::RecordHash;
use shared::tracker::room_reply::{ListedRoom, SignedRecordText};
use shared::tracker::room_request::RoomReference;
use shared::{Fingerprint, RoomId, RoomName, RoomTopic, UserName};

use super::{SqliteRows, key_in};
use crate::membership::{RoomMembership, RoomState, RoomSubject, StandingKind};
use crate::registry::RoomUpdate;
use crate::store::StoreResult;
use crate::store::room_values::{NO_RECORD, RoomDraft};
use crate::store::sqlite_query::{execute, parsed, query_all, query_optional, query_value};
use crate::store::store_rows::{RecordCause, RecordRow, RoomRows, UnsignedRecord};
use crate::store::stored_role::{listed_role, role_of, standing_of};

impl RoomRows for SqliteRows<'_> {
    fn find_room_id(&self, reference: &RoomReference) -> StoreResult<Option<RoomId>> {
        let (sql, value): (_, &dyn ToSql) = match reference {
            RoomReference::Name(name) => ("SELECT id FROM room WHERE name = ?1", &name.as_str()),
            RoomReference::Id(id) => ("SELECT id FROM room WHERE id = ?1", id.as_bytes()),
        };
        query_optional(self.0, sql, [value], |row| row.get(0).map(RoomId::from_bytes))
    }

    fn load_room(&self, room: RoomId) -> StoreResult<Option<RoomState>> {
        let sql = "SELECT name, topic, shares_history, invite_only, password_hash, records, epoch, head
            FROM room WHERE id = ?1 AND name IS NOT NULL";
        let read = |row: &Row<'_>| {
            let shares_history: bool = row.get(2)?;
            Ok(RoomState {
                id: room,
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
        let Some(state) = query_optional(self.0, sql, [room.as_bytes()], read)? else { return Ok(None) };
        let sql = "SELECT user, fingerprint, role FROM room_member WHERE room = ?1 ORDER BY position";
        let member = |row: &Row<'_>| {
            Ok(RoomMembership { user: parsed(row, 0)?, key: key_in(row, 1)?, role: role_of(row.get(2)?) })
        };
        let members = query_all(self.0, sql, [room.as_bytes()], member)?;
        Ok(Some(RoomState { members, ..state }))
    }

    fn room_subject(&self, room: RoomId, user: &UserName) -> StoreResult<Option<RoomSubject>> {
        let sql = "SELECT fingerprint, (SELECT standing FROM room_standing WHERE room = ?2 AND room_standing.user = ?1)
            FROM account WHERE user = ?1";
        let read = |row: &Row<'_>| {
            let standing = row.get::<_, Option<i16>>(1)?.map(standing_of);
            Ok(RoomSubject { user: user.clone(), key: key_in(row, 0)?, standing })
        };
        query_optional(self.0, sql, params![user.as_str(), room.as_bytes()], read)
    }

    fn is_room_name_taken(&self, name: &RoomName) -> StoreResult<bool> {
        query_value(self.0, "SELECT EXISTS (SELECT 1 FROM room WHERE name = ?1)", [name.as_str()])
    }

    fn count_rooms(&self) -> StoreResult<usize> {
        query_value(self.0, "SELECT count(*) FROM room WHERE name IS NOT NULL", [])
    }

    fn count_rooms_of(&self, user: &UserName) -> StoreResult<usize> {
        let sql = "SELECT count(*) FROM room_member JOIN room ON room.id = room_member.room
            WHERE user = ?1 AND name IS NOT NULL";
        query_value(self.0, sql, [user.as_str()])
    }

    fn room_creations(&self, creator: &UserName, since_ms: i64, at_most: usize) -> StoreResult<Vec<i64>> {
        let sql =
            "SELECT created_ms FROM room WHERE creator = ?1 AND created_ms > ?2 ORDER BY created_ms DESC LIMIT ?3";
        query_all(self.0, sql, params![creator.as_str(), since_ms, at_most], |row| row.get(0))
    }

    fn record_times(&self, room: RoomId, by: RecordCause<'_>, since_ms: i64, at_most: usize) -> StoreResult<Vec<i64>> {
        let sql = "SELECT at_ms FROM room_record WHERE room = ?1 AND actor = ?2 AND is_own = ?3 AND at_ms > ?4
            ORDER BY at_ms DESC LIMIT ?5";
        let row = params![room.as_bytes(), by.user.as_str(), by.is_own, since_ms, at_most];
        query_all(self.0, sql, row, |row| row.get(0))
    }

    fn insert_room(&self, draft: &RoomDraft, creator: &UserName, created_ms: i64) -> StoreResult {
        let RoomDraft { id, name, password_hash, invite_only, history } = draft;
        let row = params![
            id.as_bytes(),
            name.as_str(),
            creator.as_str(),
            created_ms,
            password_hash,
            invite_only,
            *history == HistoryVisibility::Shared,
            NO_RECORD.as_bytes(),
        ];
        let insert = "INSERT INTO room
            (id, name, topic, creator, created_ms, password_hash, invite_only, shares_history, records, epoch, head)
            VALUES (?1, ?2, '', ?3, ?4, ?5, ?6, ?7, 0, 0, ?8)";
        execute(self.0, insert, row).map(drop)
    }

    fn set_room_entry(&self, room: RoomId, password_hash: Option<&str>, invite_only: bool) -> StoreResult {
        let update = "UPDATE room SET password_hash = ?2, invite_only = ?3 WHERE id = ?1";
        execute(self.0, update, params![room.as_bytes(), password_hash, invite_only]).map(drop)
    }

    fn set_room_head(&self, room: RoomId, records: usize, epoch: u64, head: RecordHash) -> StoreResult {
        let update = "UPDATE room SET records = ?2, epoch = ?3, head = ?4 WHERE id = ?1";
        execute(self.0, update, params![room.as_bytes(), records, epoch, head.as_bytes()]).map(drop)
    }

    fn set_room_topic(&self, room: RoomId, topic: &RoomTopic) -> StoreResult {
        execute(self.0, "UPDATE room SET topic = ?2 WHERE id = ?1", params![room.as_bytes(), topic.as_str()]).map(drop)
    }

    fn mark_room_deleted(&self, room: RoomId, deleted_ms: i64) -> StoreResult {
        let update = "UPDATE room SET name = NULL, deleted_ms = ?2 WHERE id = ?1";
        execute(self.0, update, params![room.as_bytes(), deleted_ms]).map(drop)
    }

    fn rooms_of(&self, user: &UserName, kept: Option<Fingerprint>) -> StoreResult<Vec<RoomId>> {
        let sql = "SELECT room FROM room_member JOIN room ON room.id = room_member.room
            WHERE user = ?1 AND name IS NOT NULL AND (?2 IS NULL OR fingerprint IS NOT ?2) ORDER BY room";
        let row = params![user.as_str(), kept.as_ref().map(Fingerprint::as_bytes)];
        query_all(self.0, sql, row, |row| row.get(0).map(RoomId::from_bytes))
    }

    fn delete_memberships(&self, user: &UserName) -> StoreResult {
        for delete in ["DELETE FROM room_standing WHERE user = ?1", "DELETE FROM room_member WHERE user = ?1"] {
            execute(self.0, delete, [user.as_str()])?;
        }
        Ok(())
    }

    fn outdated_rooms(&self, until_ms: i64, kept: usize) -> StoreResult<Vec<RoomId>> {
        let sql = "SELECT id FROM room WHERE deleted_ms <= ?1
            UNION SELECT id FROM
                (SELECT id FROM room WHERE deleted_ms IS NOT NULL ORDER BY deleted_ms DESC LIMIT -1 OFFSET ?2)";
        query_all(self.0, sql, params![until_ms, kept], |row| row.get(0).map(RoomId::from_bytes))
    }

    fn delete_room_rows(&self, room: RoomId) -> StoreResult {
        for delete in [
            "DELETE FROM room_member WHERE room = ?1",
            "DELETE FROM room_standing WHERE room = ?1",
            "DELETE FROM room_record WHERE room = ?1",
            "DELETE FROM room_open_cut WHERE room = ?1",
            "DELETE FROM room WHERE id = ?1",
        ] {
            execute(self.0, delete, [room.as_bytes()])?;
        }
        Ok(())
    }

    fn admit_member(&self, room: RoomId, member: &RoomMembership) -> StoreResult {
        let RoomMembership { user, key, role } = member;
        let insert = "INSERT INTO room_member VALUES (?1, ?2, ?3, ?4,
            (SELECT coalesce(max(position), 0) + 1 FROM room_member WHERE room = ?1))";
        let key = key.as_ref().map(Fingerprint::as_bytes);
        execute(self.0, insert, params![room.as_bytes(), user.as_str(), key, *role as i16]).map(drop)
    }

    fn dismiss_member(&self, room: RoomId, user: &UserName) -> StoreResult {
        let delete = "DELETE FROM room_member WHERE room = ?1 AND user = ?2";
        execute(self.0, delete, params![room.as_bytes(), user.as_str()]).map(drop)
    }

    fn set_member_role(&self, room: RoomId, user: &UserName, role: MemberRole) -> StoreResult {
        let update = "UPDATE room_member SET role = ?3 WHERE room = ?1 AND user = ?2";
        execute(self.0, update, params![room.as_bytes(), user.as_str(), role as i16]).map(drop)
    }

    fn delete_standing(&self, room: RoomId, user: &UserName) -> StoreResult {
        let delete = "DELETE FROM room_standing WHERE room = ?1 AND user = ?2";
        execute(self.0, delete, params![room.as_bytes(), user.as_str()]).map(drop)
    }

    fn set_standing(&self, room: RoomId, user: &UserName, standing: StandingKind, at_ms: i64) -> StoreResult {
        let insert = "INSERT OR REPLACE INTO room_standing VALUES (?1, ?2, ?3, ?4)";
        execute(self.0, insert, params![room.as_bytes(), user.as_str(), standing as i16, at_ms]).map(drop)
    }

    fn count_other_standings(&self, room: RoomId, user: &UserName) -> StoreResult<usize> {
        let others = "SELECT count(*) FROM room_standing WHERE room = ?1 AND user <> ?2";
        query_value(self.0, others, params![room.as_bytes(), user.as_str()])
    }

    fn delete_oldest_standing(&self, room: RoomId) -> StoreResult {
        // Bans come last: false is before true.
        let oldest = "DELETE FROM room_standing WHERE room = ?1 AND user =
            (SELECT user FROM room_standing WHERE room = ?1 ORDER BY standing = 2, at_ms LIMIT 1)";
        execute(self.0, oldest, [room.as_bytes()]).map(drop)
    }

    fn insert_record(&self, record: &RecordRow<'_>) -> StoreResult {
        let row = params![
            record.room.as_bytes(),
            record.epoch,
            record.hash.as_bytes(),
            record.signed,
            record.signature,
            record.cause.map(|cause| cause.user.as_str()),
            record.cause.is_some_and(|cause| cause.is_own),
            record.at_ms,
            record.ended.as_ref().map(Fingerprint::as_bytes),
        ];
        execute(self.0, "INSERT INTO room_record VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)", row).map(drop)
    }

    fn insert_open_cut(&self, room: RoomId, key: Fingerprint, ended_at: u64) -> StoreResult {
        let row = params![room.as_bytes(), key.as_bytes(), ended_at];
        execute(self.0, "INSERT INTO room_open_cut VALUES (?1, ?2, ?3)", row).map(drop)
    }

    fn close_cut(&self, room: RoomId, key: Fingerprint, ended_at: u64) -> StoreResult<bool> {
        let delete = "DELETE FROM room_open_cut WHERE room = ?1 AND fingerprint = ?2 AND ended_at = ?3";
        // Databases have signed integers, and no record an epoch beyond theirs.
        let ended_at = i64::try_from(ended_at).unwrap_or(i64::MAX);
        Ok(execute(self.0, delete, params![room.as_bytes(), key.as_bytes(), ended_at])? > 0)
    }

    fn records_to_sign(&self, after: Option<(RoomId, u64)>, at_most: usize) -> StoreResult<Vec<UnsignedRecord>> {
        // Epochs begin with 1, so this is before every record.
        let (room, epoch) = after.unwrap_or((RoomId::from_bytes([0; 16]), 0));
        let sql = "SELECT room, epoch, signed FROM room_record WHERE (room, epoch) > (?1, ?2)
            ORDER BY room, epoch LIMIT ?3";
        query_all(self.0, sql, params![room.as_bytes(), epoch, at_most], |row| {
            Ok(UnsignedRecord { room: RoomId::from_bytes(row.get(0)?), epoch: row.get(1)?, signed: row.get(2)? })
        })
    }

    fn set_signatures(&self, signatures: &[(RoomId, u64, Signature)]) -> StoreResult {
        let mut update =
            self.0.prepare_cached("UPDATE room_record SET signature = ?3 WHERE room = ?1 AND epoch = ?2")?;
        for (room, epoch, signature) in signatures {
            update.execute(params![room.as_bytes(), epoch, signature])?;
        }
        Ok(())
    }

    fn room_setting(&self, name: &str) -> StoreResult<Option<Vec<u8>>> {
        query_optional(self.0, "SELECT value FROM room_setting WHERE name = ?1", [name], |row| row.get(0))
    }

    fn set_room_setting(&self, name: &str, value: &[u8]) -> StoreResult {
        execute(self.0, "INSERT OR REPLACE INTO room_setting VALUES (?1, ?2)", params![name, value]).map(drop)
    }

    fn delete_room_setting(&self, name: &str) -> StoreResult<bool> {
        Ok(execute(self.0, "DELETE FROM room_setting WHERE name = ?1", [name])? > 0)
    }

    fn room_page(
        &self,
        user: Option<&UserName>,
        after: Option<&RoomName>,
        at_most: usize,
    ) -> StoreResult<Vec<ListedRoom>> {
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
                role: row.get::<_, Option<i16>>(9)?.map(|role| listed_role(role_of(role))),
                invited: row.get(10)?,
            })
        };
        query_all(self.0, sql, params![user.map(UserName::as_str), after.map(RoomName::as_str), at_most], entry)
    }

    fn room_names(&self) -> StoreResult<Vec<RoomName>> {
        query_all(self.0, "SELECT name FROM room WHERE name IS NOT NULL ORDER BY name", [], |row| parsed(row, 0))
    }

    fn is_room_member(&self, room: RoomId, user: &UserName, key: Option<Fingerprint>) -> StoreResult<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM room_member WHERE room = ?1 AND user = ?2 AND fingerprint IS ?3)";
        let key = key.as_ref().map(Fingerprint::as_bytes);
        query_value(self.0, sql, params![room.as_bytes(), user.as_str(), key])
    }

    fn membership_end(&self, room: RoomId, key: Option<Fingerprint>) -> StoreResult<Option<i64>> {
        let sql = "SELECT max(epoch) FROM room_record WHERE room = ?1 AND ended = ?2";
        query_value(self.0, sql, params![room.as_bytes(), key.as_ref().map(Fingerprint::as_bytes)])
    }

    fn record_epoch(&self, room: RoomId, hash: RecordHash, limit: i64) -> StoreResult<Option<i64>> {
        let sql = "SELECT max(epoch) FROM room_record WHERE room = ?1 AND hash = ?2 AND epoch <= ?3";
        query_value(self.0, sql, params![room.as_bytes(), hash.as_bytes(), limit])
    }

    fn record_page(&self, room: RoomId, after: i64, limit: i64, at_most: usize) -> StoreResult<Vec<SignedRecordText>> {
        let sql = "SELECT signed, signature FROM room_record WHERE room = ?1 AND epoch > ?2 AND epoch <= ?3
            ORDER BY epoch LIMIT ?4";
        let text = |row: &Row<'_>| Ok(SignedRecordText { signed: row.get(0)?, signature: row.get(1)? });
        query_all(self.0, sql, params![room.as_bytes(), after, limit, at_most], text)
    }

    fn newest_record(&self, room: RoomId, limit: i64) -> StoreResult<Option<(u64, RecordHash)>> {
        let sql = "SELECT epoch, hash FROM room_record WHERE room = ?1 AND epoch <= ?2 ORDER BY epoch DESC LIMIT 1";
        let columns = |row: &Row<'_>| Ok((row.get(0)?, RecordHash::from_bytes(row.get(1)?)));
        query_optional(self.0, sql, params![room.as_bytes(), limit], columns)
    }

    fn keyless_members(&self, room: RoomId) -> StoreResult<Vec<UserName>> {
        let sql = "SELECT user FROM room_member WHERE room = ?1 AND fingerprint IS NULL ORDER BY position";
        query_all(self.0, sql, [room.as_bytes()], |row| parsed(row, 0))
    }

    fn room_heads(&self) -> StoreResult<Vec<RoomUpdate>> {
        let update = |row: &Row<'_>| {
            let (id, head) = (RoomId::from_bytes(row.get(0)?), RecordHash::from_bytes(row.get(2)?));
            Ok(RoomUpdate::unchanged(id, row.get(1)?, head))
        };
        query_all(self.0, "SELECT id, epoch, head FROM room WHERE name IS NOT NULL", [], update)
    }

    fn room_users(&self, room: RoomId) -> StoreResult<Vec<UserName>> {
        query_all(self.0, "SELECT user FROM room_member WHERE room = ?1", [room.as_bytes()], |row| parsed(row, 0))
    }
}
