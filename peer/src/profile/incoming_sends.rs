//! Sends of others that wait for a decision, and the receipts that are on their way to their senders.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | sends of one user that wait | 100 | the oldest is forgotten; its message stays |
//! | sends that wait in all | 1,000 | the oldest of the user with most is forgotten; of accepted users only if no stranger's waits |
//! | receipts on their way to one user | 1,000, for 14 days | the oldest is forgotten |

use rusqlite::{Transaction, TransactionBehavior, params};
use shared::UserName;
use shared::peer::{FileSend, MessageId, SendReceipt};

use super::{Profile, ProfileError};

/// Sends of one user, and of all users, that may wait.
const MAX_WAITING: (i64, i64) = (100, 1000);
/// Receipts on their way to one user.
const MAX_RECEIPTS: i64 = 1000;
/// Time after which a receipt is given up, in milliseconds: the sender is gone.
const RECEIPT_TTL_MS: i64 = 14 * 24 * 3600 * 1000;

/// A send of somebody else that waits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IncomingSend {
    /// The sender.
    pub from: UserName,
    /// The message that announced it.
    pub id: MessageId,
    /// What is sent.
    pub send: FileSend,
    /// The time of its arrival, in milliseconds since 1970.
    pub at: i64,
}

/// A receipt on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedReceipt {
    /// Its number in the profile.
    pub number: i64,
    /// The receipt.
    pub receipt: SendReceipt,
}

/// Stores a send that has just arrived.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    from: &UserName,
    id: MessageId,
    send: &FileSend,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let text = serde_json::to_string(send).unwrap_or_default();
    transaction.execute(
        "INSERT OR IGNORE INTO incoming_send (peer, id, send, at) VALUES (?1, ?2, ?3, ?4)",
        params![from.as_str(), id.to_string(), text, now_ms],
    )?;
    // `LIMIT -1` is none: SQLite takes an OFFSET only after a LIMIT.
    let (of_one, of_all) = MAX_WAITING;
    transaction.execute(
        "DELETE FROM incoming_send WHERE peer = ?1 AND id IN
             (SELECT id FROM incoming_send WHERE peer = ?1 ORDER BY at DESC, id LIMIT -1 OFFSET ?2)",
        params![from.as_str(), of_one],
    )?;
    while transaction.query_row("SELECT count(*) FROM incoming_send", [], |row| row.get::<_, i64>(0))? > of_all {
        evict_one(transaction)?;
    }
    Ok(())
}

/// Forgets the oldest send of the user with most of them, a stranger if there is one: whatever strangers send, what
/// friends sent still waits.
fn evict_one(transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM incoming_send WHERE (peer, id) IN (
             SELECT peer, id FROM incoming_send WHERE peer = (
                 SELECT waiting.peer FROM incoming_send AS waiting
                 LEFT JOIN conversation ON conversation.peer = waiting.peer
                 GROUP BY waiting.peer
                 ORDER BY coalesce(conversation.accepted, 0), count(*) DESC, min(waiting.at), waiting.peer LIMIT 1
             ) ORDER BY at, id LIMIT 1)",
        [],
    )
}

impl Profile {
    /// Returns the sends that wait, of one user or of all, the oldest first.
    pub fn incoming_sends(&self, from: Option<&UserName>) -> Result<Vec<IncomingSend>, ProfileError> {
        let sql = "SELECT peer, id, send, at FROM incoming_send WHERE ?1 IS NULL OR peer = ?1 ORDER BY at, peer, id";
        let rows = self.query_all(self.reader(), sql, [from.map(UserName::as_str)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        let check = |(peer, id, send, at): (String, String, String, i64)| {
            let damaged = || self.damaged_error(format!("the send {id:?} of {peer:?}"));
            let (from, send) = (self.user_name(&peer)?, serde_json::from_str(&send).map_err(|_| damaged())?);
            Ok(IncomingSend { from, id: id.parse().map_err(|_| damaged())?, send, at })
        };
        rows.into_iter().map(check).collect()
    }

    /// Queues a receipt, and forgets the send that it is about; false if no such send waits.
    pub fn settle_incoming_send(
        &self,
        from: &UserName,
        id: MessageId,
        receipt: &SendReceipt,
        now_ms: i64,
    ) -> Result<bool, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let values = [from.as_str(), &id.to_string()];
            let settled = transaction.execute("DELETE FROM incoming_send WHERE peer = ?1 AND id = ?2", values)?;
            if settled > 0 {
                // Only for what waited: a second answer could contradict the one on its way.
                queue_receipt(transaction, from, receipt, now_ms)?;
            }
            Ok(settled > 0)
        })
    }

    /// Queues a receipt about what was sent to a room.
    pub fn queue_room_receipt(&self, to: &UserName, receipt: &SendReceipt, now_ms: i64) -> Result<(), ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            queue_receipt(transaction, to, receipt, now_ms)
        })
    }

    /// Returns the receipts on their way to a user, the oldest first.
    pub fn queued_receipts(&self, to: &UserName) -> Result<Vec<QueuedReceipt>, ProfileError> {
        let sql = "SELECT number, receipt FROM receipt WHERE peer = ?1 ORDER BY number";
        let rows = self.query_all(self.reader(), sql, [to.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let damaged = |number| self.damaged_error(format!("the receipt {number}"));
        let check = |(number, text): (i64, String)| {
            Ok(QueuedReceipt { number, receipt: serde_json::from_str(&text).map_err(|_| damaged(number))? })
        };
        rows.into_iter().map(check).collect()
    }

    /// Returns the users for whom receipts are on their way.
    pub fn receipt_recipients(&self) -> Result<Vec<UserName>, ProfileError> {
        let sql = "SELECT DISTINCT peer FROM receipt ORDER BY peer";
        let names = self.query_all(self.reader(), sql, [], |row| row.get::<_, String>(0))?;
        names.iter().map(|name| self.user_name(name)).collect()
    }

    /// Removes receipts that have arrived, or are not wanted.
    pub fn remove_receipts(&self, numbers: &[i64]) -> Result<(), ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let mut delete = transaction.prepare_cached("DELETE FROM receipt WHERE number = ?1")?;
            numbers.iter().try_for_each(|number| delete.execute([number]).map(|_| ()))
        })
    }
}

fn queue_receipt(
    transaction: &Transaction<'_>,
    to: &UserName,
    receipt: &SendReceipt,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let text = serde_json::to_string(receipt).unwrap_or_default();
    transaction.execute(
        "INSERT OR IGNORE INTO receipt (peer, receipt, at) VALUES (?1, ?2, ?3)",
        params![to.as_str(), text, now_ms],
    )?;
    transaction.execute("DELETE FROM receipt WHERE at < ?1", [now_ms.saturating_sub(RECEIPT_TTL_MS)])?;
    transaction.execute(
        "DELETE FROM receipt WHERE peer = ?1 AND number IN
             (SELECT number FROM receipt WHERE peer = ?1 ORDER BY number DESC LIMIT -1 OFFSET ?2)",
        params![to.as_str(), MAX_RECEIPTS],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use shared::ContentHash;
    use shared::peer::{ChatMessage, ReceiptOutcome, SendKind};

    use super::*;

    fn message(number: u32) -> ChatMessage {
        let hash = ContentHash::of(&number.to_be_bytes());
        let (name, size) = (format!("file {number}").parse().unwrap(), u64::from(number));
        let send = FileSend { name, kind: SendKind::File, files: 1, size, hash };
        let id = MessageId::from_bytes(u128::from(number).to_be_bytes());
        ChatMessage { id, ts: 0, text: "x".into(), offer: None, send: Some(send) }
    }

    #[test]
    fn what_waits_is_bounded_and_settled_once() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let [bob, carol]: [UserName; 2] = ["bob", "carol"].map(|name| name.parse().unwrap());
        assert_eq!([&bob, &carol].map(|user| profile.accept(user).unwrap()), [true, true]);
        for number in 0..150 {
            profile.store_incoming(&bob, &[message(number)], i64::from(number)).unwrap();
        }
        profile.store_incoming(&carol, &[message(1)], 5).unwrap();
        let waiting = profile.incoming_sends(Some(&bob)).unwrap();
        assert_eq!((waiting.len(), waiting[0].at), (100, 50), "the oldest went first");
        assert_eq!(profile.incoming_sends(None).unwrap().len(), 101);
        // A message that comes again is no new send.
        let IncomingSend { id, send, .. } = waiting[0].clone();
        let receipt = SendReceipt { id: Some(id), room: None, hash: send.hash, outcome: ReceiptOutcome::Done };
        assert!(profile.settle_incoming_send(&bob, id, &receipt, 1).unwrap());
        profile.store_incoming(&bob, &[message(50)], 1).unwrap();
        assert!(!profile.settle_incoming_send(&bob, id, &receipt, 1).unwrap());
        assert_eq!(profile.receipt_recipients().unwrap(), std::slice::from_ref(&bob));
        let queued = profile.queued_receipts(&bob).unwrap();
        assert_eq!(queued.iter().map(|one| &one.receipt).collect::<Vec<_>>(), [&receipt]);
        profile.remove_receipts(&[queued[0].number]).unwrap();
        assert_eq!(profile.receipt_recipients().unwrap(), []);
        // The message itself keeps what was sent.
        let kept = profile.history(&crate::profile::HistoryQuery::last(1)).unwrap();
        assert_eq!(kept[0].message.send, message(1).send);
    }

    #[test]
    fn strangers_push_out_only_their_own() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let [bob, shy, friend]: [UserName; 3] = ["bob", "shy", "friend"].map(|name| name.parse().unwrap());
        assert!(profile.accept(&bob).unwrap());
        profile.store_incoming(&bob, &[message(0)], 1).unwrap();
        profile.store_incoming(&shy, &[message(0)], 2).unwrap();
        let waiting = |from: Option<&UserName>| profile.incoming_sends(from).unwrap().len();
        let all: Vec<ChatMessage> = (0..100).map(message).collect();
        for number in 0..11 {
            profile.store_incoming(&format!("stranger{number}").parse().unwrap(), &all, 3).unwrap();
        }
        assert_eq!((waiting(None), waiting(Some(&bob)), waiting(Some(&shy))), (1000, 1, 1));
        // With nobody but accepted ones a stranger finds no place, and a friend that of who has most.
        for number in 0..11 {
            assert!(profile.accept(&format!("stranger{number}").parse().unwrap()).unwrap());
        }
        profile.store_incoming(&"new".parse().unwrap(), &[message(0)], 4).unwrap();
        assert_eq!((waiting(None), waiting(Some(&shy)) + waiting(Some(&"new".parse().unwrap()))), (1000, 1));
        assert!(profile.accept(&friend).unwrap());
        profile.store_incoming(&friend, &all[..9], 5).unwrap();
        assert_eq!((waiting(None), waiting(Some(&bob)), waiting(Some(&friend))), (1000, 1, 9));
    }

    #[test]
    fn a_receipt_that_nobody_takes_is_given_up() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        let room = Some(shared::RoomId::from_bytes([1; 16]));
        let receipt = |byte| SendReceipt {
            id: None,
            room,
            hash: ContentHash::from_bytes([byte; 32]),
            outcome: ReceiptOutcome::Done,
        };
        profile.queue_room_receipt(&bob, &receipt(1), 1).unwrap();
        profile.queue_room_receipt(&bob, &receipt(1), 2).unwrap();
        assert_eq!(profile.queued_receipts(&bob).unwrap().len(), 1);
        profile.queue_room_receipt(&bob, &receipt(2), RECEIPT_TTL_MS + 2).unwrap();
        let left = profile.queued_receipts(&bob).unwrap();
        assert_eq!(left.iter().map(|one| &one.receipt).collect::<Vec<_>>(), [&receipt(2)]);
    }
}
