//! The rows of rooms in PostgreSQL.
//!
//! Names of rooms are compared without regard to the case of ASCII letters, as `lower` does it in the collation "C".

use rooms::{HistoryVisibility, MemberRole, Signature};
use shared::room::RecordHash;
use shared::tracker::room_reply::{ListedRoom, SignedRecordText};
use shared::tracker::room_request::RoomReference;
use shared::{Fingerprint, RoomId, RoomName, RoomTopic, UserName};
use tokio_postgres::Row;

use super::{PostgresRows, array, count, key_in, limit, parsed, value};
use crate::membership::{RoomMembership, RoomState, RoomSubject, StandingKind};
use crate::registry::RoomUpdate;
use crate::store::StoreResult;
use crate::store::room_values::{NO_RECORD, RoomDraft};
use crate::store::store_rows::{RecordCause, RecordRow, RoomRows, UnsignedRecord};
use crate::store::stored_role::{listed_role, role_of, standing_of};

impl RoomRows for PostgresRows<'_> {
    fn find_room_id(&self, reference: &RoomReference) -> StoreResult<Option<RoomId>> {
        let id = |row: &Row| array(row, 0).map(RoomId::from_bytes);
        match reference {
            RoomReference::Name(name) => {
                self.query_optional("SELECT id FROM room WHERE lower(name) = $1", &[&lower(name)], id)
            }
            RoomReference::Id(room) => self.query_optional("SELECT id FROM room WHERE id = $1", &[&bytes(room)], id),
        }
    }

    fn load_room(&self, room: RoomId) -> StoreResult<Option<RoomState>> {
        let sql = "SELECT name, topic, shares_history, invite_only, password_hash, records, epoch, head
            FROM room WHERE id = $1 AND name IS NOT NULL";
        let read = |row: &Row| {
            let shares_history: bool = value(row, 2)?;
            Ok(RoomState {
                id: room,
                name: parsed(row, 0)?,
                topic: parsed(row, 1)?,
                history: if shares_history { HistoryVisibility::Shared } else { HistoryVisibility::Joined },
                invite_only: value(row, 3)?,
                password_hash: value(row, 4)?,
                members: Vec::new(),
                record_count: count(value(row, 5)?),
                epoch: epoch_of(value(row, 6)?),
                head: RecordHash::from_bytes(array(row, 7)?),
            })
        };
        let Some(state) = self.query_optional(sql, &[&bytes(&room)], read)? else { return Ok(None) };
        let sql = "SELECT user_name, fingerprint, role FROM room_member WHERE room = $1 ORDER BY position";
        let members = self.query_all(sql, &[&bytes(&room)], |row| {
            Ok(RoomMembership { user: parsed(row, 0)?, key: key_in(row, 1)?, role: role_of(value(row, 2)?) })
        })?;
        Ok(Some(RoomState { members, ..state }))
    }

    fn room_subject(&self, room: RoomId, user: &UserName) -> StoreResult<Option<RoomSubject>> {
        let sql = "SELECT fingerprint, standing FROM account
            LEFT JOIN room_standing ON room_standing.room = $2 AND room_standing.user_name = account.user_name
            WHERE account.user_name = $1";
        self.query_optional(sql, &[&user.as_str(), &bytes(&room)], |row| {
            let standing = value::<Option<i16>>(row, 1)?.map(standing_of);
            Ok(RoomSubject { user: user.clone(), key: key_in(row, 0)?, standing })
        })
    }

    fn is_room_name_taken(&self, name: &RoomName) -> StoreResult<bool> {
        self.query_value("SELECT EXISTS (SELECT 1 FROM room WHERE lower(name) = $1)", &[&lower(name)])
    }

    fn count_rooms(&self) -> StoreResult<usize> {
        self.query_value("SELECT count(*) FROM room WHERE name IS NOT NULL", &[]).map(count)
    }

    fn count_rooms_of(&self, user: &UserName) -> StoreResult<usize> {
        let sql = "SELECT count(*) FROM room_member JOIN room ON room.id = room_member.room
            WHERE user_name = $1 AND name IS NOT NULL";
        self.query_value(sql, &[&user.as_str()]).map(count)
    }

    fn room_creations(&self, creator: &UserName, since_ms: i64, at_most: usize) -> StoreResult<Vec<i64>> {
        let sql =
            "SELECT created_ms FROM room WHERE creator = $1 AND created_ms > $2 ORDER BY created_ms DESC LIMIT $3";
        self.query_all(sql, &[&creator.as_str(), &since_ms, &limit(at_most)], |row| value(row, 0))
    }

    fn record_times(&self, room: RoomId, by: RecordCause<'_>, since_ms: i64, at_most: usize) -> StoreResult<Vec<i64>> {
        let sql = "SELECT at_ms FROM room_record WHERE room = $1 AND actor = $2 AND is_own = $3 AND at_ms > $4
            ORDER BY at_ms DESC LIMIT $5";
        let values: super::StatementValues<'_> =
            &[&bytes(&room), &by.user.as_str(), &by.is_own, &since_ms, &limit(at_most)];
        self.query_all(sql, values, |row| value(row, 0))
    }

    fn insert_room(&self, draft: &RoomDraft, creator: &UserName, created_ms: i64) -> StoreResult {
        let RoomDraft { id, name, password_hash, invite_only, history } = draft;
        let insert = "INSERT INTO room
            (id, name, topic, creator, created_ms, password_hash, invite_only, shares_history, records, epoch, head)
            VALUES ($1, $2, '', $3, $4, $5, $6, $7, 0, 0, $8)";
        let shares_history = *history == HistoryVisibility::Shared;
        let (creator, head) = (creator.as_str(), &NO_RECORD.as_bytes()[..]);
        let values: super::StatementValues<'_> =
            &[&bytes(id), &name.as_str(), &creator, &created_ms, password_hash, invite_only, &shares_history, &head];
        self.execute(insert, values).map(drop)
    }

    fn set_room_entry(&self, room: RoomId, password_hash: Option<&str>, invite_only: bool) -> StoreResult {
        let update = "UPDATE room SET password_hash = $2, invite_only = $3 WHERE id = $1";
        self.execute(update, &[&bytes(&room), &password_hash, &invite_only]).map(drop)
    }

    fn set_room_head(&self, room: RoomId, records: usize, epoch: u64, head: RecordHash) -> StoreResult {
        let update = "UPDATE room SET records = $2, epoch = $3, head = $4 WHERE id = $1";
        let head = &head.as_bytes()[..];
        self.execute(update, &[&bytes(&room), &limit(records), &stored_epoch(epoch), &head]).map(drop)
    }

    fn set_room_topic(&self, room: RoomId, topic: &RoomTopic) -> StoreResult {
        self.execute("UPDATE room SET topic = $2 WHERE id = $1", &[&bytes(&room), &topic.as_str()]).map(drop)
    }

    fn mark_room_deleted(&self, room: RoomId, deleted_ms: i64) -> StoreResult {
        let update = "UPDATE room SET name = NULL, deleted_ms = $2 WHERE id = $1";
        self.execute(update, &[&bytes(&room), &deleted_ms]).map(drop)
    }

    fn rooms_of(&self, user: &UserName, kept: Option<Fingerprint>) -> StoreResult<Vec<RoomId>> {
        let sql = "SELECT room FROM room_member JOIN room ON room.id = room_member.room
            WHERE user_name = $1 AND name IS NOT NULL AND ($2::bytea IS NULL OR fingerprint IS DISTINCT FROM $2)
            ORDER BY room";
        let kept = kept.as_ref().map(|key| &key.as_bytes()[..]);
        self.query_all(sql, &[&user.as_str(), &kept], |row| array(row, 0).map(RoomId::from_bytes))
    }

    fn delete_memberships(&self, user: &UserName) -> StoreResult {
        for delete in ["DELETE FROM room_standing WHERE user_name = $1", "DELETE FROM room_member WHERE user_name = $1"]
        {
            self.execute(delete, &[&user.as_str()])?;
        }
        Ok(())
    }

    fn outdated_rooms(&self, until_ms: i64, kept: usize) -> StoreResult<Vec<RoomId>> {
        let sql = "SELECT id FROM room WHERE deleted_ms <= $1
            UNION SELECT id FROM
                (SELECT id FROM room WHERE deleted_ms IS NOT NULL ORDER BY deleted_ms DESC OFFSET $2) AS oldest";
        self.query_all(sql, &[&until_ms, &limit(kept)], |row| array(row, 0).map(RoomId::from_bytes))
    }

    fn delete_room_rows(&self, room: RoomId) -> StoreResult {
        for delete in [
            "DELETE FROM room_member WHERE room = $1",
            "DELETE FROM room_standing WHERE room = $1",
            "DELETE FROM room_record WHERE room = $1",
            "DELETE FROM room_open_cut WHERE room = $1",
            "DELETE FROM room WHERE id = $1",
        ] {
            self.execute(delete, &[&bytes(&room)])?;
        }
        Ok(())
    }

    fn admit_member(&self, room: RoomId, member: &RoomMembership) -> StoreResult {
        let RoomMembership { user, key, role } = member;
        let insert = "INSERT INTO room_member (room, user_name, fingerprint, role, position) VALUES ($1, $2, $3, $4,
            (SELECT coalesce(max(position), 0) + 1 FROM room_member WHERE room = $1))";
        let key = key.as_ref().map(|key| &key.as_bytes()[..]);
        self.execute(insert, &[&bytes(&room), &user.as_str(), &key, &(*role as i16)]).map(drop)
    }

    fn dismiss_member(&self, room: RoomId, user: &UserName) -> StoreResult {
        let delete = "DELETE FROM room_member WHERE room = $1 AND user_name = $2";
        self.execute(delete, &[&bytes(&room), &user.as_str()]).map(drop)
    }

    fn set_member_role(&self, room: RoomId, user: &UserName, role: MemberRole) -> StoreResult {
        let update = "UPDATE room_member SET role = $3 WHERE room = $1 AND user_name = $2";
        self.execute(update, &[&bytes(&room), &user.as_str(), &(role as i16)]).map(drop)
    }

    fn delete_standing(&self, room: RoomId, user: &UserName) -> StoreResult {
        let delete = "DELETE FROM room_standing WHERE room = $1 AND user_name = $2";
        self.execute(delete, &[&bytes(&room), &user.as_str()]).map(drop)
    }

    fn set_standing(&self, room: RoomId, user: &UserName, standing: StandingKind, at_ms: i64) -> StoreResult {
        let insert = "INSERT INTO room_standing (room, user_name, standing, at_ms) VALUES ($1, $2, $3, $4)
            ON CONFLICT (room, user_name) DO UPDATE SET standing = excluded.standing, at_ms = excluded.at_ms";
        self.execute(insert, &[&bytes(&room), &user.as_str(), &(standing as i16), &at_ms]).map(drop)
    }

    fn count_other_standings(&self, room: RoomId, user: &UserName) -> StoreResult<usize> {
        let others = "SELECT count(*) FROM room_standing WHERE room = $1 AND user_name <> $2";
        self.query_value(others, &[&bytes(&room), &user.as_str()]).map(count)
    }

    fn delete_oldest_standing(&self, room: RoomId) -> StoreResult {
        // Bans come last: false is before true.
        let oldest = "DELETE FROM room_standing WHERE room = $1 AND user_name =
            (SELECT user_name FROM room_standing WHERE room = $1 ORDER BY standing = 2, at_ms, user_name LIMIT 1)";
        self.execute(oldest, &[&bytes(&room)]).map(drop)
    }

    fn insert_record(&self, record: &RecordRow<'_>) -> StoreResult {
        let insert = "INSERT INTO room_record (room, epoch, hash, signed, signature, actor, is_own, at_ms, ended)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let values: super::StatementValues<'_> = &[
            &bytes(&record.room),
            &stored_epoch(record.epoch),
            &&record.hash.as_bytes()[..],
            &record.signed,
            &&record.signature[..],
            &record.cause.map(|cause| cause.user.as_str()),
            &record.cause.is_some_and(|cause| cause.is_own),
            &record.at_ms,
            &record.ended.as_ref().map(|key| &key.as_bytes()[..]),
        ];
        self.execute(insert, values).map(drop)
    }

    fn insert_open_cut(&self, room: RoomId, key: Fingerprint, ended_at: u64) -> StoreResult {
        let insert = "INSERT INTO room_open_cut (room, fingerprint, ended_at) VALUES ($1, $2, $3)";
        self.execute(insert, &[&bytes(&room), &&key.as_bytes()[..], &stored_epoch(ended_at)]).map(drop)
    }

    fn close_cut(&self, room: RoomId, key: Fingerprint, ended_at: u64) -> StoreResult<bool> {
        let delete = "DELETE FROM room_open_cut WHERE room = $1 AND fingerprint = $2 AND ended_at = $3";
        Ok(self.execute(delete, &[&bytes(&room), &&key.as_bytes()[..], &stored_epoch(ended_at)])? > 0)
    }

    fn records_to_sign(&self, after: Option<(RoomId, u64)>, at_most: usize) -> StoreResult<Vec<UnsignedRecord>> {
        // Epochs begin with 1, so this is before every record.
        let (room, epoch) = after.unwrap_or((RoomId::from_bytes([0; 16]), 0));
        let sql = "SELECT room, epoch, signed FROM room_record WHERE (room, epoch) > ($1, $2)
            ORDER BY room, epoch LIMIT $3";
        self.query_all(sql, &[&bytes(&room), &stored_epoch(epoch), &limit(at_most)], |row| {
            let room = RoomId::from_bytes(array(row, 0)?);
            Ok(UnsignedRecord { room, epoch: epoch_of(value(row, 1)?), signed: value(row, 2)? })
        })
    }

    fn set_signatures(&self, signatures: &[(RoomId, u64, Signature)]) -> StoreResult {
        let update = "UPDATE room_record SET signature = new.signature
            FROM unnest($1::bytea[], $2::int8[], $3::bytea[]) AS new (room, epoch, signature)
            WHERE room_record.room = new.room AND room_record.epoch = new.epoch";
        let rooms: Vec<&[u8]> = signatures.iter().map(|(room, ..)| bytes(room)).collect();
        let epochs: Vec<i64> = signatures.iter().map(|(_, epoch, _)| stored_epoch(*epoch)).collect();
        let texts: Vec<&[u8]> = signatures.iter().map(|(.., signature)| &signature[..]).collect();
        self.execute(update, &[&rooms, &epochs, &texts]).map(drop)
    }

    fn room_setting(&self, name: &str) -> StoreResult<Option<Vec<u8>>> {
        self.query_optional("SELECT value FROM room_setting WHERE name = $1", &[&name], |row| value(row, 0))
    }

    fn set_room_setting(&self, name: &str, value: &[u8]) -> StoreResult {
        let insert = "INSERT INTO room_setting (name, value) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.execute(insert, &[&name, &value]).map(drop)
    }

    fn delete_room_setting(&self, name: &str) -> StoreResult<bool> {
        Ok(self.execute("DELETE FROM room_setting WHERE name = $1", &[&name])? > 0)
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
                (SELECT user_name FROM room_member WHERE room = id AND role = 2
                    ORDER BY fingerprint IS NOT NULL LIMIT 1),
                (SELECT role FROM room_member WHERE room = id AND user_name = $1),
                EXISTS (SELECT 1 FROM room_standing WHERE room = id AND user_name = $1 AND standing = 0)
            FROM room WHERE name IS NOT NULL AND ($2::text IS NULL OR lower(name) > $2)
            ORDER BY lower(name) LIMIT $3";
        let values: super::StatementValues<'_> = &[&user.map(UserName::as_str), &after.map(lower), &limit(at_most)];
        self.query_all(sql, values, |row| {
            Ok(ListedRoom {
                id: RoomId::from_bytes(array(row, 0)?),
                name: parsed(row, 1)?,
                topic: parsed(row, 2)?,
                password: value(row, 3)?,
                invite_only: value(row, 4)?,
                history: value(row, 5)?,
                members: count(value(row, 6)?),
                keyless: count(value(row, 7)?),
                owner: parsed(row, 8)?,
                role: value::<Option<i16>>(row, 9)?.map(|role| listed_role(role_of(role))),
                invited: value(row, 10)?,
            })
        })
    }

    fn room_names(&self) -> StoreResult<Vec<RoomName>> {
        self.query_all("SELECT name FROM room WHERE name IS NOT NULL ORDER BY lower(name)", &[], |row| parsed(row, 0))
    }

    fn is_room_member(&self, room: RoomId, user: &UserName, key: Option<Fingerprint>) -> StoreResult<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM room_member
            WHERE room = $1 AND user_name = $2 AND fingerprint IS NOT DISTINCT FROM $3)";
        let key = key.as_ref().map(|key| &key.as_bytes()[..]);
        self.query_value(sql, &[&bytes(&room), &user.as_str(), &key])
    }

    fn membership_end(&self, room: RoomId, key: Option<Fingerprint>) -> StoreResult<Option<i64>> {
        let sql = "SELECT max(epoch) FROM room_record WHERE room = $1 AND ended = $2";
        let key = key.as_ref().map(|key| &key.as_bytes()[..]);
        self.query_value(sql, &[&bytes(&room), &key])
    }

    fn record_epoch(&self, room: RoomId, hash: RecordHash, limit: i64) -> StoreResult<Option<i64>> {
        let sql = "SELECT max(epoch) FROM room_record WHERE room = $1 AND hash = $2 AND epoch <= $3";
        self.query_value(sql, &[&bytes(&room), &&hash.as_bytes()[..], &limit])
    }

    fn record_page(&self, room: RoomId, after: i64, until: i64, at_most: usize) -> StoreResult<Vec<SignedRecordText>> {
        let sql = "SELECT signed, signature FROM room_record WHERE room = $1 AND epoch > $2 AND epoch <= $3
            ORDER BY epoch LIMIT $4";
        self.query_all(sql, &[&bytes(&room), &after, &until, &limit(at_most)], |row| {
            Ok(SignedRecordText { signed: value(row, 0)?, signature: array(row, 1)? })
        })
    }

    fn newest_record(&self, room: RoomId, limit: i64) -> StoreResult<Option<(u64, RecordHash)>> {
        let sql = "SELECT epoch, hash FROM room_record WHERE room = $1 AND epoch <= $2 ORDER BY epoch DESC LIMIT 1";
        self.query_optional(sql, &[&bytes(&room), &limit], |row| {
            Ok((epoch_of(value(row, 0)?), RecordHash::from_bytes(array(row, 1)?)))
        })
    }

    fn keyless_members(&self, room: RoomId) -> StoreResult<Vec<UserName>> {
        let sql = "SELECT user_name FROM room_member WHERE room = $1 AND fingerprint IS NULL ORDER BY position";
        self.query_all(sql, &[&bytes(&room)], |row| parsed(row, 0))
    }

    fn room_heads(&self) -> StoreResult<Vec<RoomUpdate>> {
        self.query_all("SELECT id, epoch, head FROM room WHERE name IS NOT NULL ORDER BY id", &[], |row| {
            let (id, head) = (RoomId::from_bytes(array(row, 0)?), RecordHash::from_bytes(array(row, 2)?));
            Ok(RoomUpdate::unchanged(id, epoch_of(value(row, 1)?), head))
        })
    }

    fn room_users(&self, room: RoomId) -> StoreResult<Vec<UserName>> {
        let sql = "SELECT user_name FROM room_member WHERE room = $1 ORDER BY user_name";
        self.query_all(sql, &[&bytes(&room)], |row| parsed(row, 0))
    }
}

fn bytes(room: &RoomId) -> &[u8] {
    room.as_bytes()
}

fn lower(name: &RoomName) -> String {
    name.as_str().to_ascii_lowercase()
}

/// Returns an epoch as databases hold it: they have signed integers, and no record an epoch beyond theirs.
fn stored_epoch(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

fn epoch_of(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}
