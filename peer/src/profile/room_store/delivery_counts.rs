//! How far each member of a room is known to have this user's messages.
//!
//! One number a member says it for all of them, for a member has the messages of a chain up to the newest that it has.
//! A message counts as delivered when one member has it: that one passes it on, and the author may go. Those that nobody
//! has yet are all that a room has of an outbox.

use rooms::Membership;
use rusqlite::{Transaction, TransactionBehavior, params};
use shared::{Fingerprint, RoomId};

use super::room_number;
use crate::profile::stored_message::MessageRow;
use crate::profile::{MessageState, Profile, ProfileError, StoredMessage};

/// The members who are known to have a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeliveryCount {
    /// The number of other members who have it.
    pub count: usize,
    /// The number of other members.
    pub of: usize,
}

impl DeliveryCount {
    /// True if all other members have it.
    pub const fn is_complete(self) -> bool {
        self.count >= self.of
    }
}

impl Profile {
    /// Returns this user's messages that no other member has yet, oldest first. They are sent by a node that reaches one.
    pub fn undelivered_room_messages(&self) -> Result<Vec<StoredMessage>, ProfileError> {
        let rows: Vec<MessageRow> = {
            let ledger = self.message_reader()?;
            // `$` follows `#` in ASCII: all rooms' conversations are one range of the index.
            let mut query = self.db_result(ledger.prepare_cached(&format!(
                "SELECT {} FROM {} WHERE message.peer >= '#' AND message.peer < '$' AND message.state = ?1
                 AND message.void = 0 AND room.joined ORDER BY message.seq",
                MessageRow::COLUMNS,
                MessageRow::TABLES
            )))?;
            let rows = query.query_map([MessageState::Waiting.as_str()], MessageRow::read);
            self.db_result(self.db_result(rows)?.collect())?
        };
        rows.into_iter().map(|row| self.checked_message(row)).collect()
    }

    /// Returns how far each member is known to have the messages of `author`, an own key.
    pub fn room_deliveries(&self, room: RoomId, author: &Fingerprint) -> Result<Vec<(Fingerprint, u64)>, ProfileError> {
        let reader = self.message_reader()?;
        let mut query = self.db_result(reader.prepare_cached(
            "SELECT member, room_delivery.number FROM room_delivery JOIN room ON room.number = room_delivery.room
             WHERE room.id = ?1 AND author = ?2",
        ))?;
        let rows = query.query_map(params![room.as_bytes(), author.as_bytes()], |row| {
            Ok((Fingerprint::from_bytes(row.get(0)?), u64::from_be_bytes(row.get(1)?)))
        });
        self.db_result(self.db_result(rows)?.collect())
    }

    /// Records that a present member of the room has the messages of `author`, an own key, up to a number. Returns false
    /// if that was known.
    pub fn record_room_delivery(
        &self,
        room: RoomId,
        author: &Fingerprint,
        member: &Fingerprint,
        number: u64,
    ) -> Result<bool, ProfileError> {
        let mut writer = self.writer()?;
        let transaction = self.db_result(writer.transaction_with_behavior(TransactionBehavior::Immediate))?;
        let changed = self.db_result(record(&transaction, room, author, member, number))?;
        self.db_result(transaction.commit())?;
        Ok(changed)
    }
}

fn record(
    transaction: &Transaction<'_>,
    room: RoomId,
    author: &Fingerprint,
    member: &Fingerprint,
    number: u64,
) -> rusqlite::Result<bool> {
    let Some((room, _)) = room_number(transaction, room)? else { return Ok(false) };
    // Big-endian, because SQLite compares blobs byte by byte.
    let number = number.to_be_bytes();
    let before: Vec<u8> = transaction
        // An empty blob sorts before every number, so that the first report reaches back to the first message.
        .prepare_cached("SELECT coalesce(max(number), x'') FROM room_delivery WHERE room = ?1 AND author = ?2")?
        .query_row(params![room, author.as_bytes()], |row| row.get(0))?;
    let changed = transaction
        .prepare_cached(
            "INSERT INTO room_delivery (room, author, member, number) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (room, author, member) DO UPDATE SET number = ?4 WHERE number < ?4",
        )?
        .execute(params![room, author.as_bytes(), member.as_bytes(), number])?;
    if number.as_slice() > before.as_slice() {
        // Only what nobody had before can be waiting.
        transaction
            .prepare_cached(
                "UPDATE message SET state = ?5 WHERE state = ?6 AND seq IN (
                     SELECT seq FROM room_message WHERE room = ?1 AND author = ?2 AND number > ?3 AND number <= ?4)",
            )?
            .execute(params![
                room,
                author.as_bytes(),
                before,
                number,
                MessageState::Stored.as_str(),
                MessageState::Waiting.as_str()
            ])?;
    }
    Ok(changed > 0)
}

/// Forgets what members have who aren't present any more: marks count present ones.
pub(super) fn forget_deliveries_to_others(
    transaction: &Transaction<'_>,
    room: i64,
    members: &Membership,
) -> rusqlite::Result<()> {
    let known: Vec<[u8; 32]> = transaction
        .prepare_cached("SELECT DISTINCT member FROM room_delivery WHERE room = ?1")?
        .query_map([room], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for member in known {
        if !members.members().contains_key(&Fingerprint::from_bytes(member)) {
            transaction
                .prepare_cached("DELETE FROM room_delivery WHERE room = ?1 AND member = ?2")?
                .execute(params![room, member])?;
        }
    }
    Ok(())
}
