//! Conversations as a whole: unread counts, waiting counts, and blocked users.

use rusqlite::{Transaction, TransactionBehavior, params};
use shared::UserName;

use super::stored_message::CHARGED_BYTES;
use super::{ConversationName, Profile, ProfileError};

/// The number of unread messages of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UnreadCount {
    /// The conversation.
    pub with: ConversationName,
    /// The number of messages.
    pub count: usize,
    /// True if its messages ring no bell.
    pub is_muted: bool,
}

/// The number of messages that wait for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedCount {
    /// The recipient.
    pub user: UserName,
    /// The number of messages.
    pub count: usize,
    /// True if they are held back because the recipient's key changed.
    pub frozen: bool,
}

impl Profile {
    /// Returns everybody met or talked with, and the time of the last message in milliseconds since 1970.
    pub fn known_people(&self) -> Result<Vec<(UserName, Option<i64>)>, ProfileError> {
        // Not `SELECT DISTINCT peer FROM message`: that would scan the whole index.
        let sql = "SELECT user, (SELECT at FROM message WHERE peer = user ORDER BY seq DESC LIMIT 1)
                   FROM (SELECT user FROM friend UNION SELECT peer FROM outbox UNION SELECT peer FROM conversation
                         -- Not who only was written to in vain, and no rooms.
                         WHERE substr(peer, 1, 1) <> '#'
                         AND EXISTS (SELECT 1 FROM message WHERE message.peer = conversation.peer
                                     AND (direction = 'in' OR state NOT IN ('failed', 'dropped'))))";
        let rows: Vec<(String, Option<i64>)> =
            self.query_all(self.message_reader()?, sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.into_iter().map(|(user, last)| Ok((self.user_name(&user)?, last))).collect()
    }

    /// Returns the number of waiting messages for each recipient.
    pub fn queued_counts(&self) -> Result<Vec<QueuedCount>, ProfileError> {
        let rows: Vec<(String, i64, bool)> = self.query_all(
            self.message_reader()?,
            "SELECT outbox.peer, count(*), coalesce(max(frozen), 0) FROM outbox
                 LEFT JOIN conversation ON conversation.peer = outbox.peer GROUP BY outbox.peer",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let count = |(user, count, frozen): (String, i64, bool)| {
            Ok(QueuedCount { user: self.user_name(&user)?, count: usize::try_from(count).unwrap_or(0), frozen })
        };
        rows.into_iter().map(count).collect()
    }

    /// Returns the conversations with unread messages.
    pub fn unread_counts(&self) -> Result<Vec<UnreadCount>, ProfileError> {
        // Those of rooms are counted anew: whoever is blocked changes them.
        let rows: Vec<(String, i64, bool)> = self.query_all(
            self.message_reader()?,
            "SELECT peer, unread AS count, muted FROM conversation WHERE unread > 0
                 UNION ALL
                 SELECT peer, (SELECT count(*) FROM message JOIN room_message USING (seq)
                               WHERE message.peer = conversation.peer AND direction = 'in' AND seq > read_up_to
                               AND void = 0 AND user NOT IN (SELECT user FROM blocked)) AS count, muted
                 -- A range, which the index of the names serves; `$` comes after `#`.
                 FROM conversation WHERE peer >= '#' AND peer < '$' AND count > 0
                 ORDER BY peer",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let unread = |(with, count, is_muted): (String, i64, bool)| {
            let with = with.parse().map_err(|_| self.damaged_error(format!("the conversation {with:?}")))?;
            Ok(UnreadCount { with, count: usize::try_from(count).unwrap_or(0), is_muted })
        };
        rows.into_iter().map(unread).collect()
    }

    /// Marks a conversation as read, up to a place or to its end; returns false if it was read before.
    pub fn mark_read(&self, with: impl Into<ConversationName>, up_to: Option<i64>) -> Result<bool, ProfileError> {
        let with = with.into();
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            // Capped below: a mark beyond the last message would cover messages that arrive later.
            let last: i64 = transaction.query_row("SELECT coalesce(max(seq), 0) FROM message", [], |row| row.get(0))?;
            let up_to = up_to.map_or(last, |up_to| up_to.min(last));
            // The marker never moves back: marks of several views may arrive out of order.
            match &with {
                ConversationName::Person(user) => mark_person_read(transaction, user, up_to),
                ConversationName::Room(_) => mark_room_read(transaction, &with.to_string(), up_to),
            }
        })
    }

    /// Sets whether the messages of a conversation ring no bell and run no hook. Returns false if that was so.
    pub fn set_muted(&self, with: &ConversationName, muted: bool) -> Result<bool, ProfileError> {
        let (writer, peer) = (self.writer()?, with.to_string());
        let changed = if muted {
            // To mute somebody accepts nobody; the members of a room need no acceptance.
            writer.execute(
                "INSERT INTO conversation (peer, accepted, muted) VALUES (?1, ?2, 1)
                 ON CONFLICT (peer) DO UPDATE SET muted = 1 WHERE NOT muted",
                params![peer, with.room().is_some()],
            )
        } else {
            writer.execute("UPDATE conversation SET muted = 0 WHERE peer = ?1 AND muted", [peer])
        };
        self.db_result(changed).map(|rows| rows > 0)
    }

    /// Returns true if the messages of a conversation ring no bell and run no hook.
    pub fn is_muted(&self, with: &ConversationName) -> Result<bool, ProfileError> {
        let ledger = self.message_reader()?;
        let mut query =
            self.db_result(ledger.prepare_cached("SELECT 1 FROM conversation WHERE peer = ?1 AND muted"))?;
        self.db_result(query.exists([with.to_string()]))
    }

    /// Returns the conversations whose messages ring no bell and run no hook, by name.
    pub fn muted(&self) -> Result<Vec<ConversationName>, ProfileError> {
        let names: Vec<String> = {
            let ledger = self.message_reader()?;
            let sql = "SELECT peer FROM conversation WHERE muted ORDER BY peer";
            let mut query = self.db_result(ledger.prepare_cached(sql))?;
            let rows = query.query_map([], |row| row.get(0));
            self.db_result(self.db_result(rows)?.collect())?
        };
        let checked = |name: String| name.parse().map_err(|_| self.damaged_error(format!("the conversation {name:?}")));
        names.into_iter().map(checked).collect()
    }

    /// Blocks `user`; returns false if the user was blocked already.
    pub fn block(&self, user: &UserName, now_s: i64) -> Result<bool, ProfileError> {
        let changed = self.writer()?.execute(
            "INSERT INTO blocked (user, since) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![user.as_str(), now_s],
        );
        self.db_result(changed).map(|rows| rows > 0)
    }

    /// Unblocks `user`; returns false if the user was not blocked.
    pub fn unblock(&self, user: &UserName) -> Result<bool, ProfileError> {
        let changed = self.writer()?.execute("DELETE FROM blocked WHERE user = ?1", [user.as_str()]);
        self.db_result(changed).map(|rows| rows > 0)
    }

    /// Returns whether `user` is blocked.
    pub fn is_blocked(&self, user: &UserName) -> Result<bool, ProfileError> {
        let database = self.reader();
        let mut query = self.db_result(database.prepare_cached("SELECT 1 FROM blocked WHERE user = ?1"))?;
        self.db_result(query.exists([user.as_str()]))
    }

    /// Returns the blocked users.
    pub fn blocked(&self) -> Result<Vec<UserName>, ProfileError> {
        let names: Vec<String> =
            self.query_all(self.reader(), "SELECT user FROM blocked ORDER BY user", [], |row| row.get(0))?;
        names.iter().map(|name| self.user_name(name)).collect()
    }

    /// Parses a user name of the database.
    pub(super) fn user_name(&self, name: &str) -> Result<UserName, ProfileError> {
        name.parse().map_err(|_| self.damaged_error(format!("the user {name:?}")))
    }
}

fn mark_person_read(transaction: &Transaction<'_>, user: &UserName, up_to: i64) -> rusqlite::Result<bool> {
    // Counted, not set to 0: what arrives while the reader looks comes after the mark.
    let changed = transaction.execute(
        &format!(
            "UPDATE conversation SET
                 read_up_to = max(read_up_to, ?2),
                 unread = (SELECT count(*) FROM message WHERE peer = ?1 AND direction = 'in'
                           AND seq > max(conversation.read_up_to, ?2)),
                 unread_bytes = (SELECT coalesce(sum({CHARGED_BYTES}), 0) FROM message
                                 WHERE peer = ?1 AND direction = 'in' AND seq > max(conversation.read_up_to, ?2))
             WHERE peer = ?1 AND unread > 0"
        ),
        params![user.as_str(), up_to],
    )?;
    Ok(changed > 0)
}

/// Marks rooms of one name as read. What comes later, and before one of these in the room's order, is late.
fn mark_room_read(transaction: &Transaction<'_>, conversation: &str, up_to: i64) -> rusqlite::Result<bool> {
    let changed = transaction.execute(
        "UPDATE conversation SET
             read_up_to = ?2,
             read_place = (SELECT max(place) FROM (
                 SELECT place FROM message WHERE peer = ?1 AND seq > read_up_to AND seq <= ?2
                 UNION ALL SELECT read_place))
         WHERE peer = ?1 AND EXISTS (
             SELECT 1 FROM message WHERE peer = ?1 AND direction = 'in' AND seq > read_up_to AND seq <= ?2)",
        params![conversation, up_to],
    )?;
    Ok(changed > 0)
}

#[cfg(test)]
mod tests {
    use shared::peer::{ChatMessage, MessageId};

    use super::super::{ConversationStatus, ForgetQuery, MessageState};
    use super::*;

    fn message(byte: u8) -> ChatMessage {
        ChatMessage { id: MessageId::from_bytes([byte; 16]), ts: 0, text: "olá".into(), offer: None, send: None }
    }

    #[test]
    fn what_is_read_stays_read_and_what_comes_is_not() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        let unread = || profile.unread_counts().unwrap().iter().map(|unread| unread.count).sum::<usize>();
        assert!(!profile.mark_read(&bob, None).unwrap());
        profile.store_incoming(&bob, &[message(1), message(2), message(3)], 0).unwrap();
        assert_eq!(unread(), 3);
        assert!(profile.mark_read(&bob, Some(2)).unwrap());
        assert_eq!(unread(), 1);
        // An older marker takes nothing back.
        profile.mark_read(&bob, Some(1)).unwrap();
        assert_eq!(unread(), 1);
        profile.mark_read(&bob, None).unwrap();
        assert_eq!(unread(), 0);
        profile.store_incoming(&bob, &[message(4)], 0).unwrap();
        assert_eq!(unread(), 1);
    }

    #[test]
    fn whoever_was_met_or_talked_with_is_known() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let [bob, carol, dave] = ["bob", "carol", "dave"].map(|name| name.parse::<UserName>().unwrap());
        profile.store_outgoing(&bob, &message(1), 5).unwrap();
        profile.record_delivery_states(&bob, &[(message(1).id, MessageState::Stored)]).unwrap();
        profile.store_incoming(&carol, &[message(2)], 7).unwrap();
        profile.compare_or_pin_key(&dave, shared::Fingerprint::from_bytes([1; 32]), 1).unwrap();
        assert_eq!(profile.known_people().unwrap(), [(bob, Some(5)), (carol, Some(7)), (dave, None)]);
    }

    #[test]
    fn whoever_was_written_to_in_vain_is_no_acquaintance() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let id = MessageId::from_bytes([1; 16]);
        let message = ChatMessage { id, ts: 0, text: "hello?".into(), offer: None, send: None };
        let bbo: UserName = "bbo".parse().unwrap();
        profile.store_outgoing(&bbo, &message, 0).unwrap();
        assert_eq!(profile.known_people().unwrap().len(), 1);
        profile.record_delivery_states(&bbo, &[(id, MessageState::Failed)]).unwrap();
        assert_eq!(profile.known_people().unwrap(), []);
    }

    #[test]
    fn blocked_until_unblocked() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        assert!(!profile.is_blocked(&bob).unwrap());
        assert!(profile.block(&bob, 5).unwrap() && !profile.block(&bob, 6).unwrap());
        assert!(profile.is_blocked(&bob).unwrap());
        assert_eq!(profile.blocked().unwrap(), std::slice::from_ref(&bob));
        assert!(profile.unblock(&bob).unwrap() && !profile.is_blocked(&bob).unwrap());
    }

    #[test]
    fn what_is_muted_stays_so_and_is_not_accepted_by_that() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let (bob, lab): (ConversationName, ConversationName) = ("bob".parse().unwrap(), "#lab".parse().unwrap());
        let user = bob.person().unwrap();
        assert!(!profile.is_muted(&bob).unwrap() && !profile.set_muted(&bob, false).unwrap());
        assert!(profile.set_muted(&bob, true).unwrap() && !profile.set_muted(&bob, true).unwrap());
        profile.set_muted(&lab, true).unwrap();
        assert_eq!(profile.muted().unwrap(), [lab.clone(), bob.clone()]);
        assert_eq!(profile.conversation_status(user).unwrap(), ConversationStatus::Request(0));
        profile.store_incoming(user, &[message(1)], 0).unwrap();
        assert!(profile.unread_counts().unwrap()[0].is_muted);
        profile.accept(user).unwrap();
        profile.forget(&ForgetQuery { with: Some(bob.clone()), before: None }, 1).unwrap();
        assert_eq!(profile.conversation_status(user).unwrap(), ConversationStatus::Request(0), "a stranger again");
        assert!(profile.is_muted(&bob).unwrap());
        assert!(profile.set_muted(&bob, false).unwrap() && profile.set_muted(&lab, false).unwrap());
        assert!(profile.muted().unwrap().is_empty());
    }
}
