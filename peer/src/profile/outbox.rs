//! Outbox: messages that wait for delivery, and the clock by which they expire.

use std::time::Duration;

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use shared::UserName;
use shared::peer::MessageId;

use super::outgoing_sends;
use super::steady_clock::{CLOCK_KEY, load_steady_clock};
use super::stored_message::MessageRow;
use super::{MessageState, Profile, ProfileError, StoredMessage};

/// A message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct QueuedMessage {
    /// The message itself.
    pub stored: StoredMessage,
    /// The time of storing by the clock of [`Profile::outbox_now`], in milliseconds.
    pub since: i64,
    /// True if it is held back because the recipient's key changed.
    pub frozen: bool,
}

impl Profile {
    /// Returns up to `limit` messages that wait for `to`, after the place `after`, in the order of writing.
    pub fn queued_for(&self, to: &UserName, after: i64, limit: usize) -> Result<Vec<StoredMessage>, ProfileError> {
        let waiting = self.queued_where("outbox.peer = ?1 AND outbox.seq > ?2", to.as_str(), after, limit)?;
        Ok(waiting.into_iter().map(|waiting| waiting.stored).collect())
    }

    /// Returns the whole outbox, oldest message first.
    pub fn outbox(&self) -> Result<Vec<QueuedMessage>, ProfileError> {
        self.queued_where("?1 = '' AND outbox.seq > ?2", "", 0, usize::MAX)
    }

    /// Returns the users for whom messages wait.
    pub fn queued_recipients(&self) -> Result<Vec<UserName>, ProfileError> {
        let names: Vec<String> =
            self.query_all(self.message_reader()?, "SELECT DISTINCT peer FROM outbox ORDER BY peer", [], |row| {
                row.get(0)
            })?;
        names.iter().map(|name| self.user_name(name)).collect()
    }

    /// Returns the state of a message of ours to `to`; `None` if there is no such message.
    pub fn outgoing_state(&self, to: &UserName, id: MessageId) -> Result<Option<MessageState>, ProfileError> {
        let state: Option<String> = {
            let ledger = self.message_reader()?;
            let mut query = self.db_result(
                ledger.prepare_cached("SELECT state FROM message WHERE peer = ?1 AND direction = 'out' AND id = ?2"),
            )?;
            self.db_result(query.query_row([to.as_str(), &id.to_string()], |row| row.get(0)).optional())?
        };
        let damaged = |state: &String| self.damaged_error(format!("the state {state:?}"));
        state.map(|state| MessageState::parse(&state).ok_or_else(|| damaged(&state))).transpose()
    }

    /// Returns a message of ours to `to`; `None` if there is no such message.
    pub fn outgoing_message(&self, to: &UserName, id: MessageId) -> Result<Option<StoredMessage>, ProfileError> {
        let row = {
            let ledger = self.message_reader()?;
            let mut query = self.db_result(ledger.prepare_cached(&format!(
                "SELECT {} FROM {} WHERE message.peer = ?1 AND message.direction = 'out' AND message.id = ?2",
                MessageRow::COLUMNS,
                MessageRow::TABLES
            )))?;
            self.db_result(query.query_row([to.as_str(), &id.to_string()], MessageRow::read).optional())?
        };
        row.map(|row| self.checked_message(row)).transpose()
    }

    /// Records the outcomes of messages that wait for `to`, in one transaction; messages that no longer wait stay as
    /// they are. Returns the changed ones.
    ///
    /// # Errors
    /// [`ProfileError`]; then none is changed.
    pub fn record_delivery_states(
        &self,
        to: &UserName,
        outcomes: &[(MessageId, MessageState)],
    ) -> Result<Vec<(MessageId, MessageState)>, ProfileError> {
        // Deferred suffices: a write comes first, so no snapshot can be out of date at it.
        self.in_transaction(TransactionBehavior::Deferred, |transaction| {
            let mut changed = Vec::with_capacity(outcomes.len());
            for (id, state) in outcomes {
                if record_state(transaction, to, *id, *state)? {
                    changed.push((*id, *state));
                }
            }
            Ok(changed)
        })
    }

    /// Returns the outbox's time in milliseconds, when this machine's clock says `now_ms`.
    pub fn outbox_now(&self, now_ms: i64) -> Result<i64, ProfileError> {
        let ledger = self.message_reader()?;
        // Only read, so that the outbox can be looked at while another process writes.
        self.db_result(load_steady_clock(&ledger, now_ms)).map(|clock| clock.advance(now_ms, Duration::ZERO).now_ms())
    }

    /// Advances and stores the outbox's clock; `ran` is the time that this process ran since its last call.
    pub fn advance_outbox_clock(&self, now_ms: i64, ran: Duration) -> Result<i64, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let clock = load_steady_clock(transaction, now_ms)?.advance(now_ms, ran);
            transaction.execute(
                "INSERT INTO setting (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                [CLOCK_KEY, &clock.to_string()],
            )?;
            Ok(clock.now_ms())
        })
    }

    /// Expires messages that have waited since before `before`, and returns them. A message with a start after `now_ms`
    /// was stored by another clock: it is set to `now_ms`. Both are times of [`Profile::outbox_now`].
    pub fn expire_outbox(&self, before: i64, now_ms: i64) -> Result<Vec<StoredMessage>, ProfileError> {
        let late = self.outbox()?.into_iter().filter(|waiting| waiting.since < before);
        self.expire_messages(late.map(|waiting| waiting.stored).collect(), now_ms)
    }

    /// Expires those of the messages that still wait, and returns them: others have got an outcome since they were read.
    fn expire_messages(&self, late: Vec<StoredMessage>, now_ms: i64) -> Result<Vec<StoredMessage>, ProfileError> {
        // Deferred suffices: a write comes first.
        self.in_transaction(TransactionBehavior::Deferred, |transaction| {
            // Without this, a message from a wrong future date would wait for years.
            transaction.execute("UPDATE outbox SET since = ?1 WHERE since > ?1", [now_ms])?;
            let mut expired = Vec::with_capacity(late.len());
            for stored in late {
                if record_state(transaction, &stored.peer, stored.message.id, MessageState::Expired)? {
                    expired.push(StoredMessage { state: MessageState::Expired, ..stored });
                }
            }
            Ok(expired)
        })
    }

    /// Records whether messages for `user` are held back because the key changed; false if that was recorded already.
    pub fn set_frozen(&self, user: &UserName, frozen: bool) -> Result<bool, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| set_frozen_in(transaction, user, frozen))
    }

    fn queued_where(
        &self,
        condition: &str,
        peer: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<QueuedMessage>, ProfileError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<(MessageRow, i64, bool)> = self.query_all(
            self.message_reader()?,
            &format!(
                "SELECT {}, outbox.since, coalesce(conversation.frozen, 0) FROM outbox
                 JOIN {} LEFT JOIN conversation ON conversation.peer = outbox.peer
                 WHERE message.seq = outbox.seq AND {condition} ORDER BY outbox.seq LIMIT ?3",
                MessageRow::COLUMNS,
                MessageRow::TABLES
            ),
            params![peer, after, limit],
            |row| {
                Ok((MessageRow::read(row)?, row.get(MessageRow::COLUMN_COUNT)?, row.get(MessageRow::COLUMN_COUNT + 1)?))
            },
        )?;
        let check = |(row, since, frozen)| Ok(QueuedMessage { stored: self.checked_message(row)?, since, frozen });
        rows.into_iter().map(check).collect()
    }
}

/// Records the outcome of a message in the outbox. Returns false if it isn't there, or had the state already.
fn record_state(
    transaction: &Transaction<'_>,
    to: &UserName,
    id: MessageId,
    state: MessageState,
) -> rusqlite::Result<bool> {
    // Only what is still in the outbox: another process may have delivered or dropped it already.
    let mut update = transaction.prepare_cached(
        "UPDATE message SET state = ?3 WHERE peer = ?1 AND direction = 'out' AND id = ?2 AND state <> ?3
         AND seq IN (SELECT seq FROM outbox) RETURNING seq",
    )?;
    let values = params![to.as_str(), id.to_string(), state.as_str()];
    let found = update.query_map(values, |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
    let Some(seq) = found.first() else { return Ok(false) };
    // A message marked `Sent` stays: only an outcome takes it out, so that a lost ack leads to another delivery.
    if !state.is_queued() {
        transaction.prepare_cached("DELETE FROM outbox WHERE seq = ?1")?.execute([seq])?;
    }
    // Nobody learnt of what it announced, so nobody will answer.
    if state.is_given_up() {
        outgoing_sends::fail(transaction, id)?;
    }
    Ok(true)
}

/// Sets in a transaction whether messages to a user are held back; returns false if that changes nothing.
pub(super) fn set_frozen_in(transaction: &Transaction<'_>, user: &UserName, frozen: bool) -> rusqlite::Result<bool> {
    let change = if frozen {
        "INSERT INTO conversation (peer, frozen) VALUES (?1, 1)
         ON CONFLICT (peer) DO UPDATE SET frozen = 1 WHERE frozen = 0"
    } else {
        // Without a row nothing is held back.
        "UPDATE conversation SET frozen = 0 WHERE peer = ?1 AND frozen <> 0"
    };
    transaction.execute(change, [user.as_str()]).map(|rows| rows > 0)
}

#[cfg(test)]
mod tests {
    use shared::peer::ChatMessage;

    use super::*;

    fn id(byte: u8) -> MessageId {
        MessageId::from_bytes([byte; 16])
    }

    #[test]
    fn what_waits_is_settled_once() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        for byte in 1..=4 {
            let message = ChatMessage { id: id(byte), ts: 0, text: byte.to_string().into(), offer: None, send: None };
            profile.store_outgoing(&bob, &message, i64::from(byte)).unwrap();
        }
        let waiting = |after| -> Vec<String> {
            profile
                .queued_for(&bob, after, 9)
                .unwrap()
                .into_iter()
                .map(|stored| stored.message.text.into_received())
                .collect()
        };
        let (sent, stored) = (MessageState::Sent, MessageState::Stored);
        assert_eq!(
            profile.record_delivery_states(&bob, &[(id(1), sent), (id(1), sent), (id(2), stored)]).unwrap().len(),
            2
        );
        assert_eq!(waiting(0), ["1", "3", "4"]);
        assert_eq!(profile.record_delivery_states(&bob, &[(id(2), sent), (id(9), stored)]).unwrap(), []);
        assert_eq!(profile.queued_recipients().unwrap(), std::slice::from_ref(&bob));

        assert!(profile.set_frozen(&bob, true).unwrap() && !profile.set_frozen(&bob, true).unwrap());
        assert!(!profile.set_frozen(&"nobody".parse().unwrap(), false).unwrap(), "nothing was held back");
        assert!(profile.outbox().unwrap().iter().all(|waiting| waiting.frozen));

        // 4 was written by a clock that was in the future; now it is 3.
        let expired = profile.expire_outbox(3, 3).unwrap();
        assert_eq!(expired.iter().map(|stored| stored.message.id).collect::<Vec<_>>(), [id(1)]);
        assert_eq!(profile.outbox().unwrap().iter().map(|waiting| waiting.since).collect::<Vec<_>>(), [3, 3]);
        assert_eq!(waiting(3), ["4"]);
    }

    #[test]
    fn what_was_delivered_meanwhile_does_not_expire() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        for byte in 1..=2 {
            let message = ChatMessage { id: id(byte), ts: 0, text: "hi".into(), offer: None, send: None };
            profile.store_outgoing(&bob, &message, 1).unwrap();
        }
        let late = profile.queued_for(&bob, 0, 9).unwrap();
        profile.record_delivery_states(&bob, &[(id(1), MessageState::Stored)]).unwrap();
        let expired = profile.expire_messages(late, 9).unwrap();
        let expired: Vec<_> = expired.iter().map(|stored| (stored.message.id, stored.state)).collect();
        assert_eq!(expired, [(id(2), MessageState::Expired)]);
        assert_eq!(profile.outgoing_state(&bob, id(1)).unwrap(), Some(MessageState::Stored));
    }

    #[test]
    fn a_clock_that_jumps_gives_nothing_up_and_keeps_the_order() {
        const DAY: i64 = 24 * 3_600_000;
        let home = tempfile::tempdir().unwrap();
        let bob: UserName = "bob".parse().unwrap();
        let at = 20_000 * DAY;
        // As a node that starts with this clock: it looks, and gives up what has waited for 14 days.
        let start = |machine: i64| {
            let profile = Profile::open(home.path()).unwrap();
            let now = profile.advance_outbox_clock(machine, Duration::ZERO).unwrap();
            profile.expire_outbox(now - 14 * DAY, now).unwrap().len()
        };
        // In the order of their writing, whatever the clock says meanwhile.
        for (byte, machine) in [(1, at), (2, at + 20 * DAY), (3, 5), (4, at + 1), (5, at + 9_999 * DAY), (6, at + 2)] {
            assert_eq!(start(machine), 0, "{byte}");
            let profile = Profile::open(home.path()).unwrap();
            let message = ChatMessage { id: id(byte), ts: 0, text: byte.to_string().into(), offer: None, send: None };
            profile.store_outgoing(&bob, &message, machine).unwrap();
        }
        let waiting = || Profile::open(home.path()).unwrap().queued_for(&bob, 0, 9).unwrap();
        let texts: Vec<String> = waiting().into_iter().map(|stored| stored.message.text.into_received()).collect();
        assert_eq!(texts, ["1", "2", "3", "4", "5", "6"]);
        // Two weeks of a clock that is right, a day at a time, are the end of all of them.
        let given_up: usize = (1..=16).map(|day| start(at + 3 + day * DAY)).sum();
        assert_eq!(given_up, 6);
        assert_eq!(waiting(), []);
    }
}
