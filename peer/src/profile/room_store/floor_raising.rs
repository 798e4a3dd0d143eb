//! Removal of a room's messages from what is passed on, by the user's wish.

use std::collections::BTreeMap;

use rooms::{Predecessor, RoomMessage};
use rusqlite::{OptionalExtension, Transaction, params};
use shared::RoomName;

use super::floor_encoding::encode_floor;
use super::room_loading::join_signed;

/// Raises the floors of the authors of messages that are about to be removed, so that they aren't received again. What is
/// below a floor isn't passed on any more.
pub(in crate::profile) fn raise_floors(
    transaction: &Transaction<'_>,
    seqs: impl IntoIterator<Item = i64>,
) -> rusqlite::Result<()> {
    let mut newest: BTreeMap<(i64, [u8; 32]), [u8; 8]> = BTreeMap::new();
    {
        // A void message says nothing of the chain: its author may go on below it.
        let mut query = transaction
            .prepare_cached("SELECT room, author, number FROM room_message WHERE seq = ?1 AND head IS NOT NULL")?;
        for seq in seqs {
            let found = query.query_row([seq], |row| Ok(((row.get(0)?, row.get(1)?), row.get::<_, [u8; 8]>(2)?)));
            if let Some((author, number)) = found.optional()? {
                let floor = newest.entry(author).or_default();
                *floor = number.max(*floor);
            }
        }
    }
    for ((room, author), number) in newest {
        let contents = contents_of(transaction, room, author, number)?;
        transaction
            .prepare_cached(
                "UPDATE room_author SET floor = ?3, floor_contents = ?4 WHERE room = ?1 AND author = ?2 AND floor < ?3",
            )?
            .execute(params![room, author, number, encode_floor(&contents)])?;
        // The log takes nothing up to its floor any more, so nothing of it may be passed on either.
        transaction
            .prepare_cached(
                "UPDATE room_message SET head = NULL, signature = NULL
                 WHERE room = ?1 AND author = ?2 AND number <= ?3 AND head IS NOT NULL",
            )?
            .execute(params![room, author, number])?;
    }
    Ok(())
}

/// Returns the messages of one number by which their successors are judged.
fn contents_of(
    transaction: &Transaction<'_>,
    room: i64,
    author: [u8; 32],
    number: [u8; 8],
) -> rusqlite::Result<Vec<Predecessor>> {
    let mut query = transaction.prepare_cached(
        "SELECT head, text FROM room_message JOIN message USING (seq)
         WHERE room = ?1 AND author = ?2 AND number = ?3 AND head IS NOT NULL",
    )?;
    let signed: Vec<Vec<u8>> = query
        .query_map(params![room, author, number], |row| {
            Ok(join_signed(row.get(0)?, row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let messages = signed.iter().filter_map(|signed| RoomMessage::parse(signed).ok());
    let content = |message: RoomMessage| Predecessor {
        hash: message.hash(),
        depth: message.depth(),
        epoch: message.content().epoch,
    };
    Ok(messages.map(content).collect())
}

/// Removes the rooms of a name that the user left and of which no message is kept.
pub(in crate::profile) fn remove_left_rooms(transaction: &Transaction<'_>, name: &RoomName) -> rusqlite::Result<()> {
    let left: Vec<i64> = transaction
        .prepare_cached(
            "SELECT number FROM room WHERE name = ?1 AND NOT joined
             AND NOT EXISTS (SELECT 1 FROM room_message WHERE room_message.room = room.number)",
        )?
        .query_map([name.as_str()], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for number in left {
        for table in ["room_record", "room_author", "room_delivery"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE room = ?1"), [number])?;
        }
        transaction.execute("DELETE FROM room WHERE number = ?1", [number])?;
    }
    Ok(())
}
