//! Rooms: their membership records, and their messages as they are passed on to other members.
//!
//! A message of a room is stored twice over: as a row of the ledger, which is what the user sees, and as signed bytes,
//! which other members may ask for. Both share the text, which ends the signed bytes. [`RoomUpdate`] writes what came
//! of one step of the room's log, in one transaction, and [`Profile::load_room`] rebuilds records and log from that.
//!
//! * A message that is pruned is no longer passed on, and stays in the history.
//! * A message that is void is hidden, and comes back if it counts again.
//! * A message that is removed from the history raises its author's floor, so that it isn't received again.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | messages of a room that are passed on | 30 days from their receipt, or as long as the history is kept | pruned |
//! | messages of a room, pruned ones included | 64 MiB of signed bytes | pruned ones go first, then the log is pruned; always the oldest of the author with most bytes |
//! | messages of all rooms | 512 MiB | the same in the largest rooms, down to an equal size |
//! | records of a room | 65,536, kept by [`rooms::Membership`] | refused |
//! | rooms | those that the user joined; the tracker bounds the rooms of a user | |

mod byte_limits;
mod delivery_counts;
mod floor_encoding;
mod floor_raising;
mod log_update;
mod room_loading;

use rooms::VerifyingKey;
use rusqlite::{Connection, OptionalExtension, Row, params};
use shared::{RoomId, RoomName};

use super::{Profile, ProfileError};

pub use delivery_counts::DeliveryCount;
pub(super) use floor_raising::{raise_floors, remove_left_rooms};
pub use log_update::{NewRoomMessage, RoomUpdate};
pub use room_loading::LoadedRoom;

/// A room that the user is or was a member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRoom {
    /// The random id, by which a room differs from an earlier one of the same name.
    pub id: RoomId,
    /// The name.
    pub name: RoomName,
    /// The key that signs its records.
    pub tracker: VerifyingKey,
    /// False after the user left, and after the room was deleted.
    pub is_member: bool,
    /// True if its messages ring no bell.
    pub is_muted: bool,
}

/// The columns of a [`KnownRoom`].
const ROOM_COLUMNS: &str = "room.id, room.name, room.tracker, room.joined, coalesce(
    (SELECT muted FROM conversation WHERE conversation.peer = '#' || room.name), 0)";

impl Profile {
    /// Records a room that the user made or joined, and the key that signs its records from now on.
    pub fn add_room(&self, id: RoomId, name: &RoomName, tracker: VerifyingKey) -> Result<(), ProfileError> {
        // One that was left and is joined again keeps its row: its messages belong to its number.
        let changed = self.writer()?.execute(
            "INSERT INTO room (id, name, tracker, joined) VALUES (?1, ?2, ?3, 1)
             ON CONFLICT (id) DO UPDATE SET tracker = ?3, joined = 1",
            params![id.as_bytes(), name.as_str(), tracker.to_spki()],
        );
        self.db_result(changed).map(|_| ())
    }

    /// Records the end of a membership before its record is known here.
    pub fn record_departure(&self, id: RoomId) -> Result<(), ProfileError> {
        let changed = self.writer()?.execute("UPDATE room SET joined = 0 WHERE id = ?1", [id.as_bytes()]);
        self.db_result(changed).map(|_| ())
    }

    /// Returns all rooms that the user is or was a member of, by name; of several with one name the newest last.
    pub fn rooms(&self) -> Result<Vec<KnownRoom>, ProfileError> {
        let rows: Vec<RoomRow> = {
            let reader = self.reader();
            let query = format!("SELECT {ROOM_COLUMNS} FROM room ORDER BY name, number");
            let mut query = self.db_result(reader.prepare_cached(&query))?;
            let rows = query.query_map([], RoomRow::read);
            self.db_result(self.db_result(rows)?.collect())?
        };
        rows.into_iter().map(|row| self.checked_room(&row)).collect()
    }

    /// Returns the room of this name of which the user is a member, or else the newest of which he was one. No two rooms
    /// of a tracker have names that differ in case alone, so case doesn't count.
    pub fn room_named(&self, name: &RoomName) -> Result<Option<KnownRoom>, ProfileError> {
        let row = {
            let reader = self.reader();
            let query = format!(
                // Rooms of different trackers may differ in case alone: the spelling that was asked for comes first.
                "SELECT {ROOM_COLUMNS} FROM room WHERE name = ?1 COLLATE NOCASE
                     ORDER BY name = ?1 DESC, joined DESC, number DESC LIMIT 1"
            );
            let mut query = self.db_result(reader.prepare_cached(&query))?;
            self.db_result(query.query_row([name.as_str()], RoomRow::read).optional())?
        };
        row.map(|row| self.checked_room(&row)).transpose()
    }

    fn checked_room(&self, row: &RoomRow) -> Result<KnownRoom, ProfileError> {
        let damaged = || self.damaged_error(format!("the room {:?}", row.name));
        Ok(KnownRoom {
            id: RoomId::from_bytes(row.id),
            name: row.name.parse().map_err(|_| damaged())?,
            tracker: VerifyingKey::from_spki(&row.tracker).ok_or_else(damaged)?,
            is_member: row.is_member,
            is_muted: row.is_muted,
        })
    }
}

/// A row with the columns of [`ROOM_COLUMNS`].
struct RoomRow {
    id: [u8; 16],
    name: String,
    tracker: Vec<u8>,
    is_member: bool,
    is_muted: bool,
}

impl RoomRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            tracker: row.get(2)?,
            is_member: row.get(3)?,
            is_muted: row.get(4)?,
        })
    }
}

/// Returns the text by which the ledger knows the conversation of rooms of this name. No user has such a name.
fn conversation_key(name: &str) -> String {
    format!("#{name}")
}

/// Returns the number under which the database knows a room, and its name.
fn room_number(connection: &Connection, id: RoomId) -> rusqlite::Result<Option<(i64, String)>> {
    let mut query = connection.prepare_cached("SELECT number, name FROM room WHERE id = ?1")?;
    query.query_row([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

#[cfg(test)]
mod tests;
