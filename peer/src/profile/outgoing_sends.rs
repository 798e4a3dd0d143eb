//! Sends of this profile's user: to whom, what, and what became of each.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | sends that are not over | 1,000 | refused |
//! | sends that are over | the last 100 | the oldest is forgotten |

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{Row, Transaction, TransactionBehavior, params};
use shared::UserName;
use shared::peer::{FileSend, MessageId, ReceiptOutcome};

use super::{Audience, Profile, ProfileError};

/// Sends that are not over.
const MAX_OPEN_SENDS: usize = 1000;
/// Sends that are over and still listed.
const MAX_SETTLED: i64 = 100;
const COLUMNS: &str = "number, audience, id, send, path, is_copy, keeps_shares, at, state, is_paused, announced_at";

/// What became of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SendState {
    /// Offered, and not received yet.
    Waiting,
    /// Received, by everybody to whom it was sent.
    Done,
    /// Declined.
    Declined,
    /// Ended by the sender.
    Ended,
    /// Its message could not be delivered.
    Failed,
}

/// A send of this profile's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingSend {
    /// Its number in the profile.
    pub number: i64,
    /// To whom.
    pub audience: Audience,
    /// The message that announces it; `None` for one to a room.
    pub id: Option<MessageId>,
    /// What is sent.
    pub send: FileSend,
    /// The file or folder on this machine.
    pub path: PathBuf,
    /// The path is a copy of a stream.
    pub is_copy: bool,
    /// True if the shares were there before.
    pub keeps_shares: bool,
    /// The time of its beginning, in milliseconds since 1970.
    pub at: i64,
    /// What became of it.
    pub state: SendState,
    /// True if nobody may fetch it until it is resumed.
    pub is_paused: bool,
    /// The time when the room was told of it; `None` if it wasn't yet, and for one to a person.
    pub announced_at: Option<i64>,
}

/// The fields of a send that begins.
#[derive(Debug, Clone, Copy)]
pub struct NewSend<'a> {
    /// To whom.
    pub audience: &'a Audience,
    /// The message that will announce it.
    pub id: Option<MessageId>,
    /// What is sent.
    pub send: &'a FileSend,
    /// The file or folder on this machine.
    pub path: &'a Path,
    /// The path is a copy of a stream.
    pub is_copy: bool,
    /// True if the shares were there before.
    pub keeps_shares: bool,
}

impl SendState {
    const ALL: [Self; 5] = [Self::Waiting, Self::Done, Self::Declined, Self::Ended, Self::Failed];

    /// Returns the text in the database and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Declined => "declined",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

impl From<ReceiptOutcome> for SendState {
    fn from(outcome: ReceiptOutcome) -> Self {
        match outcome {
            ReceiptOutcome::Done => Self::Done,
            ReceiptOutcome::Declined => Self::Declined,
        }
    }
}

/// Records that the message of a send will not be delivered.
pub(super) fn fail(transaction: &Transaction<'_>, id: MessageId) -> rusqlite::Result<()> {
    // Only one that waits: a message may be given up after its send was answered or ended.
    let mut update =
        transaction.prepare_cached("UPDATE outgoing_send SET state = 'failed' WHERE id = ?1 AND state = 'waiting'")?;
    update.execute([id.to_string()]).map(|_| ())
}

impl Profile {
    /// Stores a send that begins; returns its number, or `None` if too many are not over.
    pub fn add_send(&self, new: NewSend<'_>, now_ms: i64) -> Result<Option<i64>, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let open = "SELECT count(*) FROM outgoing_send WHERE state = 'waiting'";
            let open: i64 = transaction.query_row(open, [], |row| row.get(0))?;
            if usize::try_from(open).is_ok_and(|open| open >= MAX_OPEN_SENDS) {
                return Ok(None);
            }
            let NewSend { audience, id, send, path, is_copy, keeps_shares } = new;
            transaction.execute(
                "INSERT INTO outgoing_send (audience, id, send, path, is_copy, keeps_shares, at, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'waiting')",
                params![
                    audience.to_string(),
                    id.map(|id| id.to_string()),
                    serde_json::to_string(send).unwrap_or_default(),
                    path.as_os_str().as_bytes(),
                    is_copy,
                    keeps_shares,
                    now_ms,
                ],
            )?;
            let number = transaction.last_insert_rowid();
            // Only cleared ones: before that the row is all that leads to the shares and the copy.
            transaction.execute(
                "DELETE FROM outgoing_send WHERE number IN
                     (SELECT number FROM outgoing_send WHERE is_cleared ORDER BY number DESC LIMIT -1 OFFSET ?1)",
                [MAX_SETTLED],
            )?;
            let orphans = "DELETE FROM room_receipt WHERE number NOT IN (SELECT number FROM outgoing_send)";
            transaction.execute(orphans, [])?;
            Ok(Some(number))
        })
    }

    /// Returns all sends, the oldest first.
    pub fn sends(&self) -> Result<Vec<OutgoingSend>, ProfileError> {
        // The condition names ?1 all the same: rusqlite refuses a value that the statement doesn't use.
        self.sends_where("?1 IS NULL", None)
    }

    /// Returns a send by its number.
    pub fn send(&self, number: i64) -> Result<Option<OutgoingSend>, ProfileError> {
        Ok(self.sends_where("number = ?1", Some(number))?.pop())
    }

    /// Returns the sends that are over and whose shares have not been looked after.
    pub fn uncleared_sends(&self) -> Result<Vec<OutgoingSend>, ProfileError> {
        self.sends_where("?1 IS NULL AND is_cleared = 0 AND state <> 'waiting'", None)
    }

    /// Records that nothing is left of a send that is over.
    pub fn mark_send_cleared(&self, number: i64) -> Result<(), ProfileError> {
        let changed = self.writer()?.execute("UPDATE outgoing_send SET is_cleared = 1 WHERE number = ?1", [number]);
        self.db_result(changed).map(|_| ())
    }

    /// Records that the room was told of a send at `now_ms`; the first time counts.
    pub fn mark_send_announced(&self, number: i64, now_ms: i64) -> Result<(), ProfileError> {
        let changed = self.writer()?.execute(
            "UPDATE outgoing_send SET announced_at = ?2 WHERE number = ?1 AND announced_at IS NULL",
            [number, now_ms],
        );
        self.db_result(changed).map(|_| ())
    }

    /// Records what became of a send that waits; false if it doesn't wait any more.
    pub fn settle_send(&self, number: i64, state: SendState) -> Result<bool, ProfileError> {
        let changed = self.writer()?.execute(
            // A receipt may come while the user ends the send: the first word stays.
            "UPDATE outgoing_send SET state = ?2 WHERE number = ?1 AND state = 'waiting'",
            params![number, state.as_str()],
        );
        self.db_result(changed).map(|rows| rows > 0)
    }

    /// Records what a member made of a send to a room; the first word counts. False if there was one.
    pub fn add_room_receipt(
        &self,
        number: i64,
        user: &UserName,
        outcome: ReceiptOutcome,
    ) -> Result<bool, ProfileError> {
        let changed = self.writer()?.execute(
            "INSERT OR IGNORE INTO room_receipt (number, user, outcome) VALUES (?1, ?2, ?3)",
            params![number, user.as_str(), SendState::from(outcome).as_str()],
        );
        self.db_result(changed).map(|rows| rows > 0)
    }

    /// Returns how many members have a send to a room, and how many declined it.
    pub fn room_receipt_counts(&self, number: i64) -> Result<(usize, usize), ProfileError> {
        let query = "SELECT count(*) FILTER (WHERE outcome = 'done'), count(*) FILTER (WHERE outcome <> 'done')
                     FROM room_receipt WHERE number = ?1";
        let database = self.reader();
        let counts = database.query_row(query, [number], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        let (done, declined) = self.db_result(counts)?;
        Ok((usize::try_from(done).unwrap_or(0), usize::try_from(declined).unwrap_or(0)))
    }

    fn sends_where(&self, condition: &str, value: Option<i64>) -> Result<Vec<OutgoingSend>, ProfileError> {
        let sql = format!("SELECT {COLUMNS} FROM outgoing_send WHERE {condition} ORDER BY number");
        let rows = self.query_all(self.reader(), &sql, [value], SendRow::read)?;
        rows.iter().map(|row| self.checked_send(row)).collect()
    }

    fn checked_send(&self, row: &SendRow) -> Result<OutgoingSend, ProfileError> {
        let damaged = || self.damaged_error(format!("the send {}", row.number));
        Ok(OutgoingSend {
            number: row.number,
            audience: self.checked_audience(&row.audience)?,
            id: row.id.as_deref().map(str::parse).transpose().map_err(|_| damaged())?,
            send: serde_json::from_str(&row.send).map_err(|_| damaged())?,
            path: PathBuf::from(OsStr::from_bytes(&row.path)),
            is_copy: row.is_copy,
            keeps_shares: row.keeps_shares,
            at: row.at,
            state: SendState::ALL.into_iter().find(|state| state.as_str() == row.state).ok_or_else(damaged)?,
            is_paused: row.is_paused,
            announced_at: row.announced_at,
        })
    }
}

struct SendRow {
    number: i64,
    audience: String,
    id: Option<String>,
    send: String,
    path: Vec<u8>,
    is_copy: bool,
    keeps_shares: bool,
    at: i64,
    state: String,
    is_paused: bool,
    announced_at: Option<i64>,
}

impl SendRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            audience: row.get(1)?,
            id: row.get(2)?,
            send: row.get(3)?,
            path: row.get(4)?,
            is_copy: row.get(5)?,
            keeps_shares: row.get(6)?,
            at: row.get(7)?,
            state: row.get(8)?,
            is_paused: row.get(9)?,
            announced_at: row.get(10)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::ContentHash;
    use shared::peer::{ChatMessage, SendKind};

    use super::*;
    use crate::profile::MessageState;

    fn file() -> FileSend {
        let (name, hash) = ("plan.pdf".parse().unwrap(), ContentHash::of(b"plan"));
        FileSend { name, kind: SendKind::File, files: 1, size: 4, hash }
    }

    fn add(profile: &Profile, audience: &Audience, id: Option<MessageId>) -> Option<i64> {
        let (send, path) = (file(), Path::new("/data/plan.pdf"));
        profile.add_send(NewSend { audience, id, send: &send, path, is_copy: false, keeps_shares: true }, 7).unwrap()
    }

    #[test]
    fn a_send_is_over_once() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob = Audience::Person("bob".parse().unwrap());
        let id = MessageId::from_bytes([1; 16]);
        let number = add(&profile, &bob, Some(id)).unwrap();
        let stored = profile.send(number).unwrap().unwrap();
        assert_eq!(
            (stored.id, stored.send, stored.state, stored.keeps_shares),
            (Some(id), file(), SendState::Waiting, true)
        );
        assert!(profile.settle_send(number, SendState::Declined).unwrap());
        assert!(!profile.settle_send(number, SendState::Done).unwrap(), "the first word counts");
        assert_eq!(profile.uncleared_sends().unwrap().len(), 1);
        profile.mark_send_cleared(number).unwrap();
        assert_eq!(profile.uncleared_sends().unwrap(), []);
        assert_eq!(profile.sends().unwrap()[0].state, SendState::Declined);
    }

    #[test]
    fn a_send_whose_message_is_given_up_has_failed() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        for (byte, retracted) in [(1, false), (2, true)] {
            let id = MessageId::from_bytes([byte; 16]);
            let message = ChatMessage { id, ts: 0, text: "x".into(), offer: None, send: Some(file()) };
            profile.store_outgoing(&bob, &message, 1).unwrap();
            let number = add(&profile, &Audience::Person(bob.clone()), Some(id)).unwrap();
            if retracted {
                profile.retract_messages(&bob, &[id]).unwrap();
            } else {
                profile.record_delivery_states(&bob, &[(id, MessageState::Sent)]).unwrap();
                assert_eq!(profile.send(number).unwrap().unwrap().state, SendState::Waiting);
                profile.record_delivery_states(&bob, &[(id, MessageState::Dropped)]).unwrap();
            }
            assert_eq!(profile.send(number).unwrap().unwrap().state, SendState::Failed);
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let room = Audience::Room(shared::RoomId::from_bytes([1; 16]));
        let (bob, carol): (UserName, UserName) = ("bob".parse().unwrap(), "carol".parse().unwrap());
        let first = add(&profile, &room, None).unwrap();
        assert_eq!(profile.send(first).unwrap().unwrap().announced_at, None, "nobody was told yet");
        for now in [8, 9] {
            profile.mark_send_announced(first, now).unwrap();
        }
        assert_eq!(profile.send(first).unwrap().unwrap().announced_at, Some(8));
        assert!(profile.add_room_receipt(first, &bob, ReceiptOutcome::Done).unwrap());
        assert!(!profile.add_room_receipt(first, &bob, ReceiptOutcome::Declined).unwrap());
        assert!(profile.add_room_receipt(first, &carol, ReceiptOutcome::Declined).unwrap());
        assert_eq!(profile.room_receipt_counts(first).unwrap(), (1, 1));
        for _ in 0..=MAX_SETTLED {
            let number = add(&profile, &room, None).unwrap();
            profile.settle_send(number, SendState::Done).unwrap();
            profile.mark_send_cleared(number).unwrap();
        }
        add(&profile, &room, None).unwrap();
        let kept = profile.sends().unwrap();
        assert_eq!((kept.len(), kept[0].number), (102, first), "what is not over stays");
    }
}
