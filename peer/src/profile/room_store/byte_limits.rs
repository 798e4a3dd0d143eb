//! The bounds of rooms in bytes and age.

use rooms::Retention;
use rusqlite::{Connection, Transaction, params};
use shared::RoomId;

use crate::profile::message_deletion::delete_messages;
use crate::profile::sql_integer::sql_integer;
use crate::profile::{Profile, ProfileError};

/// Most signed bytes of a room.
const MAX_ROOM_BYTES: u64 = 64 << 20;
/// Most signed bytes of all rooms.
const MAX_PROFILE_BYTES: u64 = 512 << 20;
/// Longest time for which a message is passed on, from its receipt, in milliseconds.
const MAX_AGE_MS: i64 = 30 * 24 * 3600 * 1000;
/// Messages that are removed between two looks at whose turn it is.
const BATCH: usize = 64;

impl Profile {
    /// Returns how much the log of any room may keep now.
    pub fn room_retention(&self) -> Result<Retention, ProfileError> {
        // Who keeps no history of that age passes none on either.
        let age = self.history_retention_ms()?.unwrap_or(MAX_AGE_MS).min(MAX_AGE_MS);
        let bytes = self.db_result(room_byte_limit(&*self.message_reader()?))?;
        Ok(Retention { age: age.unsigned_abs(), bytes })
    }

    /// Returns the bytes that the messages of a room take, those that are only in the history included.
    pub fn room_bytes(&self, id: RoomId) -> Result<u64, ProfileError> {
        let reader = self.message_reader()?;
        let bytes =
            reader.query_row("SELECT coalesce(max(bytes), 0) FROM room WHERE id = ?1", [id.as_bytes()], |row| {
                row.get::<_, i64>(0)
            });
        self.db_result(bytes).map(|bytes| u64::try_from(bytes).unwrap_or(0))
    }
}

/// Returns the bytes that each room may have now.
pub(super) fn room_byte_limit(connection: &Connection) -> rusqlite::Result<u64> {
    let mut query = connection.prepare_cached("SELECT bytes FROM room")?;
    let sizes: Vec<u64> = query
        .query_map([], |row| Ok(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0)))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(fair_limit(sizes, MAX_PROFILE_BYTES).min(MAX_ROOM_BYTES))
}

/// Returns the greatest size to which every larger room can be reduced so that all of them fit into `total`.
fn fair_limit(mut sizes: Vec<u64>, total: u64) -> u64 {
    sizes.sort_unstable();
    let mut rest = total;
    for (index, size) in sizes.iter().enumerate() {
        let share = rest / (sizes.len() - index) as u64;
        if *size > share {
            return share;
        }
        // What it leaves of its share is divided among the larger ones.
        rest -= size;
    }
    u64::MAX
}

/// Removes messages that aren't passed on any more until the room has at most `limit` bytes, or has none of them: the
/// oldest of the author with most bytes, so that a flood costs the flooder his own messages.
pub(super) fn trim_history(transaction: &Transaction<'_>, room: i64, limit: u64) -> rusqlite::Result<()> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    loop {
        let bytes: i64 = transaction
            .prepare_cached("SELECT bytes FROM room WHERE number = ?1")?
            .query_row([room], |row| row.get(0))?;
        if bytes <= limit {
            return Ok(());
        }
        let oldest: Vec<(i64, i64)> = transaction
            .prepare_cached(
                "SELECT seq, bytes FROM room_message WHERE room = ?1 AND head IS NULL AND author = (
                     SELECT author FROM room_author WHERE room = ?1 AND EXISTS (
                         SELECT 1 FROM room_message WHERE room_message.room = ?1 AND head IS NULL
                         AND room_message.author = room_author.author)
                     ORDER BY bytes DESC LIMIT 1)
                 ORDER BY number LIMIT ?2",
            )?
            .query_map(params![room, sql_integer(BATCH)], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        // What is left is passed on, and for the log to prune.
        if oldest.is_empty() {
            return Ok(());
        }
        let mut excess = bytes - limit;
        let mut removed = Vec::new();
        for (seq, bytes) in oldest {
            if excess <= 0 {
                break;
            }
            excess -= bytes;
            removed.push(seq);
        }
        delete_messages(transaction, removed)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn larger_rooms_give_way_to_smaller_ones(
            sizes in proptest::collection::vec(0_u64..1000, 0..20),
            total in 0_u64..5000,
        ) {
            let limit = fair_limit(sizes.clone(), total);
            let kept: u64 = sizes.iter().map(|size| (*size).min(limit)).sum();
            prop_assert!(kept <= total);
            // Nobody is cut for nothing.
            prop_assert!(limit == u64::MAX || kept + sizes.len() as u64 > total);
        }
    }
}
