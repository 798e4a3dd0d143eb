//! The rebuilding of a room's records and log, and the reading of signed bytes.

use rooms::{Floor, LogChange, LogLoader, Membership, RoomLog, RoomMessage, Signature, SignedRecord, VerifyingKey};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use shared::RoomId;
use shared::room::MessageHash;

use super::floor_encoding::decode_floor;
use super::log_update::hide_void;
use super::room_number;
use crate::profile::{DATABASE_FILE, Profile, ProfileError};

/// The state of a room as it was stored.
#[derive(Debug, Clone)]
pub struct LoadedRoom {
    /// The records.
    pub members: Membership,
    /// The log, without the bytes of its messages.
    pub log: RoomLog,
}

/// A reason why a room can't be loaded.
enum LoadingFault {
    Database(rusqlite::Error),
    Damaged(&'static str),
}

impl From<rusqlite::Error> for LoadingFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl Profile {
    /// Rebuilds the records and the log of a room; `None` if the room isn't known.
    pub fn load_room(&self, id: RoomId) -> Result<Option<LoadedRoom>, ProfileError> {
        let loaded = {
            let reader = self.message_reader()?;
            let Some((number, _)) = self.db_result(room_number(&reader, id))? else { return Ok(None) };
            load_records(&reader, id, number).and_then(|members| {
                let (log, change) = load_log(&reader, number, &members)?;
                Ok((LoadedRoom { members, log }, change))
            })
        };
        let (room, change) = loaded.map_err(|fault| match fault {
            LoadingFault::Database(source) => ProfileError::from_sqlite(&self.home().join(DATABASE_FILE), source),
            LoadingFault::Damaged(what) => self.damaged_error(format!("{what} of the room {id}")),
        })?;
        if !change.void.is_empty() {
            // A crash between two transactions left messages that later records void.
            self.hide_void_messages(id, &change.void)?;
        }
        Ok(Some(room))
    }

    fn hide_void_messages(&self, id: RoomId, void: &[MessageHash]) -> Result<(), ProfileError> {
        let mut writer = self.writer()?;
        let transaction = self.db_result(writer.transaction_with_behavior(TransactionBehavior::Immediate))?;
        if let Some((room, _)) = self.db_result(room_number(&transaction, id))? {
            let hidden = void.iter().try_for_each(|hash| hide_void(&transaction, room, hash));
            self.db_result(hidden)?;
        }
        self.db_result(transaction.commit())
    }

    /// Returns the signed bytes of a message that is passed on.
    pub fn signed_room_message(&self, room: RoomId, hash: &MessageHash) -> Result<Option<Vec<u8>>, ProfileError> {
        let reader = self.message_reader()?;
        let mut query = self.db_result(reader.prepare_cached(
            "SELECT head, text FROM room JOIN room_message ON room_message.room = room.number
             JOIN message ON message.seq = room_message.seq WHERE room.id = ?1 AND hash = ?2 AND head IS NOT NULL",
        ))?;
        let signed = query.query_row(params![room.as_bytes(), hash.as_bytes()], |row| {
            Ok(join_signed(row.get(0)?, row.get_ref(1)?.as_bytes()?))
        });
        self.db_result(signed.optional())
    }
}

fn load_records(connection: &Connection, id: RoomId, room: i64) -> Result<Membership, LoadingFault> {
    let mut members = Membership::new(id);
    let mut query =
        connection.prepare_cached("SELECT signed, signature FROM room_record WHERE room = ?1 ORDER BY position")?;
    let mut rows = query.query([room])?;
    while let Some(row) = rows.next()? {
        let (signed, signature): (Vec<u8>, Signature) = (row.get(0)?, row.get(1)?);
        let record = SignedRecord::from_storage(&signed, &signature).map_err(|_| LoadingFault::Damaged("a record"))?;
        members.insert(record).map_err(|_| LoadingFault::Damaged("a record"))?;
    }
    Ok(members)
}

fn load_log(connection: &Connection, room: i64, members: &Membership) -> Result<(RoomLog, LogChange), LoadingFault> {
    let mut loader = LogLoader::new(members);
    let mut query = connection.prepare_cached("SELECT key, floor, floor_contents FROM room_author WHERE room = ?1")?;
    let mut rows = query.query([room])?;
    while let Some(row) = rows.next()? {
        let (key, floor, contents): (Vec<u8>, [u8; 8], Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let damaged = LoadingFault::Damaged("an author");
        let (Some(key), Some(contents)) = (VerifyingKey::from_spki(&key), decode_floor(&contents)) else {
            return Err(damaged);
        };
        loader.author(key, Floor { number: u64::from_be_bytes(floor), contents });
    }
    let mut query = connection.prepare_cached(
        "SELECT head, text, signature, at FROM room_message JOIN message USING (seq)
         WHERE room = ?1 AND head IS NOT NULL ORDER BY author, number",
    )?;
    let mut rows = query.query([room])?;
    // One after another: a room's messages together may be larger than all else that the node keeps in memory.
    while let Some(row) = rows.next()? {
        let signed = join_signed(row.get(0)?, row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?);
        let message = RoomMessage::parse(&signed).map_err(|_| LoadingFault::Damaged("a message"))?;
        let received = u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0);
        loader.message(&message, row.get(2)?, received);
    }
    Ok(loader.finish())
}

/// Joins the two parts in which signed bytes are stored.
pub(super) fn join_signed(mut head: Vec<u8>, text: &[u8]) -> Vec<u8> {
    head.extend_from_slice(text);
    head
}
