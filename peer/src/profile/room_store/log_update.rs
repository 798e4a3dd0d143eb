//! Storing what came of a step of a room's log.

use rooms::{LogChange, Membership, MessageRun, RoomLog, RoomMessage};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use shared::Fingerprint;
use shared::room::{MessageHash, RecordHash};

use super::byte_limits::{room_byte_limit, trim_history};
use super::delivery_counts::forget_deliveries_to_others;
use super::floor_encoding::encode_floor;
use super::{conversation_key, room_number};
use crate::profile::message_deletion::next_seq;
use crate::profile::sql_integer::sql_integer;
use crate::profile::{MessageDirection, MessageState, Profile, ProfileError};

/// A room's records and log after a step, with what the step brought.
#[derive(Debug, Clone, Copy)]
pub struct RoomUpdate<'a> {
    /// The records.
    pub members: &'a Membership,
    /// The log.
    pub log: &'a RoomLog,
    /// This user's key.
    pub me: Fingerprint,
    /// The runs that were offered to the log, each with its proof; what the log didn't take of them is not stored.
    pub runs: &'a [MessageRun],
    /// The messages that went, as each call of the log named them.
    pub changes: &'a [LogChange],
}

/// A message that the user didn't see before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRoomMessage {
    /// Its hash.
    pub hash: MessageHash,
    /// The place among all messages of this profile, in the order of arrival.
    pub seq: i64,
    /// True if it comes before one that the user has seen.
    pub is_late: bool,
}

/// The places behind which new messages go. Loaded once for all messages of an update.
struct ConversationEnd {
    next_seq: i64,
    /// The last message in the room's order that the user has seen.
    read_place: Vec<u8>,
}

/// The names of a room in the database.
struct RoomKey {
    number: i64,
    conversation: String,
}

impl Profile {
    /// Stores a step of a room's log in one transaction: records first, then messages and floors. After it returns they
    /// are on the disk, so an own message is stored by it before it is sent. Returns the messages that are new, or count
    /// again, in the order of their runs; of a room that isn't known nothing is stored.
    ///
    /// # Errors
    /// [`ProfileError`]; then nothing is stored, and the caller loads the room again.
    pub fn store_room_update(&self, update: &RoomUpdate<'_>, now_ms: i64) -> Result<Vec<NewRoomMessage>, ProfileError> {
        let mut writer = self.writer()?;
        let transaction = self.db_result(writer.transaction_with_behavior(TransactionBehavior::Immediate))?;
        let new = self.db_result(apply(&transaction, update, now_ms))?;
        self.db_result(transaction.commit())?;
        Ok(new)
    }
}

fn apply(transaction: &Transaction<'_>, update: &RoomUpdate<'_>, now_ms: i64) -> rusqlite::Result<Vec<NewRoomMessage>> {
    let Some((number, name)) = room_number(transaction, update.members.room())? else { return Ok(Vec::new()) };
    let room = RoomKey { number, conversation: conversation_key(&name) };
    store_records(transaction, &room, update)?;
    let mut floors: Vec<Fingerprint> =
        update.runs.iter().filter_map(|run| run.messages().first()).map(RoomMessage::author).collect();
    for hash in update.changes.iter().flat_map(|change| &change.void) {
        // Within one update a message may be void and then count again.
        if update.log.info(hash).is_none() {
            hide_void(transaction, room.number, hash)?;
        }
    }
    for hash in update.changes.iter().flat_map(|change| &change.pruned) {
        let erased = erase_signed(transaction, room.number, hash)?;
        floors.extend(erased.map(|(_, author)| author));
    }
    floors.sort_unstable();
    floors.dedup();
    for author in floors {
        store_author(transaction, &room, update.log, &author)?;
    }
    let mut new = Vec::new();
    if !update.runs.is_empty() {
        let mut end = ConversationEnd::load(transaction, &room)?;
        for message in update.runs.iter().flat_map(MessageRun::messages) {
            new.extend(store_message(transaction, &room, update, message, &mut end, now_ms)?);
        }
    }
    if !new.is_empty() {
        trim_history(transaction, room.number, room_byte_limit(transaction)?)?;
    }
    Ok(new)
}

/// Makes the stored chain of records equal to that of the update.
fn store_records(transaction: &Transaction<'_>, room: &RoomKey, update: &RoomUpdate<'_>) -> rusqlite::Result<()> {
    let records = update.members.records();
    let (mut stored, mut equal) = (None, 0);
    {
        // Newest first: almost always it is the newest one that both have.
        let mut query = transaction
            .prepare_cached("SELECT position, hash FROM room_record WHERE room = ?1 ORDER BY position DESC")?;
        let mut rows = query.query([room.number])?;
        while let Some(row) = rows.next()? {
            let position = usize::try_from(row.get::<_, i64>(0)?).unwrap_or(usize::MAX);
            stored.get_or_insert(position.saturating_add(1));
            let hash = RecordHash::from_bytes(row.get(1)?);
            if records.get(position).is_some_and(|record| record.hash() == hash) {
                equal = position + 1;
                break;
            }
        }
    }
    if equal == records.len() && stored.unwrap_or(0) == equal {
        return Ok(());
    }
    transaction
        .prepare_cached("DELETE FROM room_record WHERE room = ?1 AND position >= ?2")?
        .execute(params![room.number, sql_integer(equal)])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO room_record (room, position, hash, signed, signature) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (position, record) in records.iter().enumerate().skip(equal) {
        let hash = record.hash();
        let row = params![room.number, sql_integer(position), hash.as_bytes(), record.signed(), record.signature()];
        insert.execute(row)?;
    }
    let members = update.members.members();
    let is_member = members.contains_key(&update.me);
    transaction.prepare_cached("UPDATE room SET joined = ?2, others = ?3 WHERE number = ?1")?.execute(params![
        room.number,
        is_member && !update.members.is_deleted(),
        sql_integer(members.len() - usize::from(is_member)),
    ])?;
    forget_deliveries_to_others(transaction, room.number, update.members)
}

/// Stores the author's key, and the floor if it grew.
fn store_author(
    transaction: &Transaction<'_>,
    room: &RoomKey,
    log: &RoomLog,
    author: &Fingerprint,
) -> rusqlite::Result<()> {
    let Some((key, floor)) = log.author(author) else { return Ok(()) };
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO room_author (room, author, key, floor, floor_contents) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (room, author) DO UPDATE SET floor = ?4, floor_contents = ?5 WHERE floor < ?4",
    )?;
    let row = params![
        room.number,
        author.as_bytes(),
        key.to_spki(),
        floor.number.to_be_bytes(),
        encode_floor(&floor.contents)
    ];
    upsert.execute(row).map(|_| ())
}

/// Stores a message that is in the log, and its signature if it has one. Returns it if it is new or counts again.
fn store_message(
    transaction: &Transaction<'_>,
    room: &RoomKey,
    update: &RoomUpdate<'_>,
    message: &RoomMessage,
    end: &mut ConversationEnd,
    now_ms: i64,
) -> rusqlite::Result<Option<NewRoomMessage>> {
    let (hash, author) = (message.hash(), message.author());
    let Some(info) = update.log.info(&hash) else { return Ok(None) };
    let text = message.content().body.as_str();
    // The text ends the signed bytes.
    let head = &message.signed()[..message.signed().len() - text.len()];
    let known = transaction
        .prepare_cached(
            "UPDATE room_message SET signature = coalesce(signature, ?3), head = ?4 WHERE room = ?1 AND hash = ?2
             RETURNING seq, late",
        )?
        .query_row(params![room.number, hash.as_bytes(), info.signature, head], |row| {
            Ok(NewRoomMessage { hash, seq: row.get(0)?, is_late: row.get(1)? })
        })
        .optional()?;
    if let Some(known) = known {
        let was_void = transaction
            // It counts from its second receipt, as in the log.
            .prepare_cached("UPDATE message SET void = 0, at = ?2 WHERE seq = ?1 AND void = 1")?
            .execute(params![known.seq, now_ms])?;
        return Ok((was_void > 0).then_some(known));
    }
    let Some(user) = update.members.user(&author) else { return Ok(None) };
    let place = order_place(room.number, message);
    let (direction, state) = if author == update.me {
        (MessageDirection::Out, MessageState::Waiting)
    } else {
        (MessageDirection::In, MessageState::Received)
    };
    let (seq, is_late) = (end.next_seq, place < end.read_place);
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO message (seq, peer, direction, id, ts, text, state, at, place)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            seq,
            room.conversation,
            direction.as_str(),
            hash.short().to_string(),
            i64::try_from(info.time).unwrap_or(i64::MAX),
            text,
            state.as_str(),
            now_ms,
            place
        ])?;
    if inserted == 0 {
        // Two hashes of the same first half: somebody did 2^64 of them for that, and loses one message.
        return Ok(None);
    }
    transaction
        .prepare_cached(
            "INSERT INTO room_message (seq, room, hash, author, user, number, bytes, late, head, signature)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            seq,
            room.number,
            hash.as_bytes(),
            author.as_bytes(),
            user.as_str(),
            info.number.to_be_bytes(),
            sql_integer(message.signed().len()),
            is_late,
            head,
            info.signature
        ])?;
    end.next_seq += 1;
    if direction == MessageDirection::Out {
        // An own message was seen when it was written.
        end.raise_read_place(transaction, room, place)?;
    }
    Ok(Some(NewRoomMessage { hash, seq, is_late }))
}

impl ConversationEnd {
    /// Makes the conversation known to the ledger, and returns its end.
    fn load(transaction: &Transaction<'_>, room: &RoomKey) -> rusqlite::Result<Self> {
        // `DO NOTHING` would return no row for a conversation that is there.
        let read_place = transaction
            .prepare_cached(
                "INSERT INTO conversation (peer, accepted) VALUES (?1, 1)
                 ON CONFLICT (peer) DO UPDATE SET accepted = 1 RETURNING coalesce(read_place, x'')",
            )?
            .query_row([&room.conversation], |row| row.get(0))?;
        Ok(Self { next_seq: next_seq(transaction)?, read_place })
    }

    fn raise_read_place(
        &mut self,
        transaction: &Transaction<'_>,
        room: &RoomKey,
        place: Vec<u8>,
    ) -> rusqlite::Result<()> {
        if place > self.read_place {
            transaction
                .prepare_cached("UPDATE conversation SET read_place = ?2 WHERE peer = ?1")?
                .execute(params![room.conversation, place])?;
            self.read_place = place;
        }
        Ok(())
    }
}

/// Takes a message from what is passed on, and hides it.
pub(super) fn hide_void(transaction: &Transaction<'_>, room: i64, hash: &MessageHash) -> rusqlite::Result<()> {
    let Some((seq, _)) = erase_signed(transaction, room, hash)? else { return Ok(()) };
    transaction.prepare_cached("UPDATE message SET void = 1 WHERE seq = ?1")?.execute([seq]).map(|_| ())
}

/// Takes a message from what is passed on. Returns its place and its author.
fn erase_signed(
    transaction: &Transaction<'_>,
    room: i64,
    hash: &MessageHash,
) -> rusqlite::Result<Option<(i64, Fingerprint)>> {
    transaction
        .prepare_cached(
            "UPDATE room_message SET head = NULL, signature = NULL WHERE room = ?1 AND hash = ?2
             RETURNING seq, author",
        )?
        .query_row(params![room, hash.as_bytes()], |row| Ok((row.get(0)?, Fingerprint::from_bytes(row.get(1)?))))
        .optional()
}

/// Returns the bytes by which the messages of a conversation are sorted: as [`RoomLog::ordered`] does, and those of a
/// later room of the same name behind.
fn order_place(room: i64, message: &RoomMessage) -> Vec<u8> {
    let content = message.content();
    // Big-endian throughout: the index compares the bytes one by one.
    let mut place = Vec::with_capacity(96);
    place.extend_from_slice(&room.to_be_bytes());
    place.extend_from_slice(&message.depth().to_be_bytes());
    place.extend_from_slice(&content.time.to_be_bytes());
    place.extend_from_slice(message.author().as_bytes());
    place.extend_from_slice(&content.number.to_be_bytes());
    place.extend_from_slice(message.hash().as_bytes());
    place
}
