//! Message requests: messages of strangers, whom the user neither wrote to nor accepted, and their quotas.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | messages of one stranger, read or not | 100, and 1 MiB | refused until the stranger is accepted |
//! | bytes of all strangers together, without blocked ones | 16 MiB, the last 4 MiB of it only for strangers with less than 4 KiB | the same; first words replace all that whoever left most has left ([`super::request_eviction`]) |
//!
//! A message counts its text, the name of its offer or send, and 1 KiB of overhead. The reserve is for first contacts:
//! however many accounts one person creates to fill the rest, others can still introduce themselves.

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use shared::UserName;
use shared::limits::{
    FIRST_CONTACT_RESERVE_BYTES, MAX_BYTES_OF_STRANGERS, MAX_BYTES_PER_STRANGER, MAX_FIRST_CONTACT_BYTES,
    MAX_MESSAGES_PER_STRANGER, MESSAGE_OVERHEAD_BYTES,
};
use shared::peer::ChatMessage;

use super::request_eviction::evict_largest_request;
use super::sql_integer::sql_integer;
use super::stored_message::charged_bytes;
use super::{Profile, ProfileError};

/// The status of a conversation, as its quota depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConversationStatus {
    /// The user wrote in it, or accepted it.
    Accepted,
    /// Neither; holds the number of stored messages.
    Request(usize),
}

/// The used quota of one stranger and of all strangers. No I/O.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RequestQuota {
    pub(super) count: usize,
    pub(super) bytes: usize,
    pub(super) total_bytes: usize,
}

impl RequestQuota {
    /// Loads the quota of `from`; `None` if accepted.
    pub(super) fn load(transaction: &Transaction<'_>, from: &UserName) -> rusqlite::Result<Option<Self>> {
        let mut query = transaction
            .prepare_cached("SELECT accepted, request_count, request_bytes FROM conversation WHERE peer = ?1")?;
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        // No row: a stranger who never wrote.
        let (is_accepted, count, bytes) = query.query_row([from.as_str()], read).optional()?.unwrap_or_default();
        if is_accepted {
            return Ok(None);
        }
        // Blocked strangers don't count: blocking the one who fills the quota makes room at once.
        let mut sum = transaction.prepare_cached(
            "SELECT coalesce(sum(request_bytes), 0) FROM conversation
             WHERE accepted = 0 AND peer NOT IN (SELECT user FROM blocked)",
        )?;
        let of_all: i64 = sum.query_row([], |row| row.get(0))?;
        let size = |number: i64| usize::try_from(number).unwrap_or(0);
        Ok(Some(Self { count: size(count), bytes: size(bytes), total_bytes: size(of_all) }))
    }

    /// True if a message fits the quotas.
    pub(super) fn can_admit(&self, message: &ChatMessage) -> bool {
        let cost = Self::cost(message);
        let theirs = self.bytes + cost;
        // The reserve is open only for a stranger's first few KiB.
        let bound = if theirs <= MAX_FIRST_CONTACT_BYTES {
            MAX_BYTES_OF_STRANGERS
        } else {
            MAX_BYTES_OF_STRANGERS - FIRST_CONTACT_RESERVE_BYTES
        };
        // A stranger's first message fits `MAX_BYTES_PER_STRANGER` even at the greatest length.
        self.count < MAX_MESSAGES_PER_STRANGER && theirs <= MAX_BYTES_PER_STRANGER && self.total_bytes + cost <= bound
    }

    /// Makes room for first words. Returns whether there is room for the message now.
    pub(super) fn make_space(
        &mut self,
        transaction: &Transaction<'_>,
        from: &UserName,
        message: &ChatMessage,
    ) -> rusqlite::Result<bool> {
        let theirs = self.bytes + Self::cost(message);
        // Each turn leaves one stranger with nothing, so this ends.
        while theirs <= MAX_FIRST_CONTACT_BYTES && self.count < MAX_MESSAGES_PER_STRANGER && !self.can_admit(message) {
            let Some(freed) = evict_largest_request(transaction, from, theirs)? else { break };
            self.total_bytes = self.total_bytes.saturating_sub(freed);
        }
        Ok(self.can_admit(message))
    }

    /// Counts a stored message.
    pub(super) fn add(&mut self, message: &ChatMessage) {
        let cost = Self::cost(message);
        self.count += 1;
        self.bytes += cost;
        self.total_bytes += cost;
    }

    /// Stores the quota used by `from`.
    pub(super) fn store(&self, transaction: &Transaction<'_>, from: &UserName) -> rusqlite::Result<()> {
        let mut update = transaction
            .prepare_cached("UPDATE conversation SET request_count = ?2, request_bytes = ?3 WHERE peer = ?1")?;
        update.execute(params![from.as_str(), sql_integer(self.count), sql_integer(self.bytes)]).map(|_| ())
    }

    fn cost(message: &ChatMessage) -> usize {
        charged_bytes(message) + MESSAGE_OVERHEAD_BYTES
    }
}

/// Marks the conversation with `peer` as accepted; returns false if it was.
pub(super) fn accept(transaction: &Transaction<'_>, peer: &UserName) -> rusqlite::Result<bool> {
    let mut accept = transaction.prepare_cached(
        "INSERT INTO conversation (peer, accepted) VALUES (?1, 1)
         ON CONFLICT (peer) DO UPDATE SET accepted = 1, request_count = 0, request_bytes = 0 WHERE accepted = 0",
    )?;
    accept.execute([peer.as_str()]).map(|rows| rows > 0)
}

impl Profile {
    /// Accepts the messages of `user`; returns false if they were accepted already.
    pub fn accept(&self, user: &UserName) -> Result<bool, ProfileError> {
        self.in_transaction(TransactionBehavior::Deferred, |transaction| accept(transaction, user))
    }

    /// Returns the status of the conversation with `user`.
    pub fn conversation_status(&self, user: &UserName) -> Result<ConversationStatus, ProfileError> {
        let ledger = self.message_reader()?;
        let mut query =
            self.db_result(ledger.prepare_cached("SELECT accepted, request_count FROM conversation WHERE peer = ?1"))?;
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?));
        let (is_accepted, count) =
            self.db_result(query.query_row([user.as_str()], read).optional())?.unwrap_or_default();
        Ok(if is_accepted {
            ConversationStatus::Accepted
        } else {
            ConversationStatus::Request(usize::try_from(count).unwrap_or(0))
        })
    }

    /// Returns the strangers with pending requests who are not blocked.
    pub fn message_requests(&self) -> Result<Vec<UserName>, ProfileError> {
        let names: Vec<String> = self.query_all(
            self.message_reader()?,
            "SELECT peer FROM conversation WHERE accepted = 0 AND request_count > 0
                 AND peer NOT IN (SELECT user FROM blocked) ORDER BY peer",
            [],
            |row| row.get(0),
        )?;
        names.iter().map(|name| self.user_name(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use shared::peer::MessageId;

    use super::*;
    use crate::profile::StoreOutcome;

    fn message(number: u128, bytes: usize) -> ChatMessage {
        let (id, text) = (MessageId::from_bytes(number.to_be_bytes()), "x".repeat(bytes).into());
        ChatMessage { id, ts: 0, text, offer: None, send: None }
    }

    fn user(number: usize) -> UserName {
        format!("user{number}").parse().unwrap()
    }

    /// Returns how many of `count` messages of somebody are kept.
    fn kept(profile: &Profile, from: &UserName, count: u128, bytes: usize) -> usize {
        let all: Vec<ChatMessage> = (0..count).map(|number| message(number, bytes)).collect();
        let kept = profile.store_incoming(from, &all, 1).unwrap();
        let is_kept = |kept: &&StoreOutcome| matches!(kept, StoreOutcome::New(_));
        let count = kept.iter().filter(is_kept).count();
        let is_refused = kept.last() == Some(&StoreOutcome::StrangerQuotaFull);
        assert!(is_refused || kept.len() == all.len(), "{:?}", kept.last());
        count
    }

    #[test]
    fn a_stranger_leaves_a_hundred_messages_or_a_mebibyte_read_or_not() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        assert_eq!(kept(&profile, &user(1), 200, 5), 100);
        assert_eq!(kept(&profile, &user(2), 200, 16 << 10), 60);
        profile.mark_read(user(1), None).unwrap();
        assert_eq!(kept(&profile, &user(1), 200, 5), 0, "what is known is no news, and what isn't finds no room");
        assert_eq!(profile.message_requests().unwrap(), [user(1), user(2)]);

        assert_eq!(profile.conversation_status(&user(1)).unwrap(), ConversationStatus::Request(100));
        assert!(profile.accept(&user(1)).unwrap() && !profile.accept(&user(1)).unwrap());
        assert_eq!(profile.conversation_status(&user(1)).unwrap(), ConversationStatus::Accepted);
        assert_eq!(kept(&profile, &user(1), 200, 5), 100, "the rest");
        // A recipient is accepted, even if nothing of theirs is stored yet.
        profile.store_outgoing(&user(3), &message(1, 5), 1).unwrap();
        assert_eq!(kept(&profile, &user(3), 200, 5), 200);
        profile.block(&user(2), 1).unwrap();
        assert_eq!(profile.message_requests().unwrap(), []);
    }

    #[test]
    fn many_accounts_together_leave_no_more_than_sixteen_mebibytes_and_take_nobody_the_first_word() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let greedy: usize = (0..40).map(|number| kept(&profile, &user(number), 100, 16 << 10)).sum();
        let size = (16 << 10) + MESSAGE_OVERHEAD_BYTES;
        assert_eq!(greedy, (MAX_BYTES_OF_STRANGERS - FIRST_CONTACT_RESERVE_BYTES) / size, "all of them together");
        // Those who only say who they are.
        let modest = |number: usize| kept(&profile, &user(number), 2, 500) == 2;
        assert!((100..200).all(modest));
        assert_eq!(kept(&profile, &user(300), 10, 500), 2, "and no more than that");
        // One that is blocked or accepted makes room.
        profile.block(&user(0), 1).unwrap();
        assert!(kept(&profile, &user(301), 10, 16 << 10) == 10);
    }

    #[test]
    fn first_words_are_bounded_as_well() {
        let quota = |bytes, of_all| RequestQuota { count: 0, bytes, total_bytes: of_all };
        assert!(quota(0, 0).can_admit(&message(1, 16 << 10)));
        assert!(quota(0, MAX_BYTES_OF_STRANGERS - 2048).can_admit(&message(1, 1000)));
        assert!(!quota(0, MAX_BYTES_OF_STRANGERS).can_admit(&message(1, 1)));
        assert!(
            !quota(0, MAX_BYTES_OF_STRANGERS - FIRST_CONTACT_RESERVE_BYTES)
                .can_admit(&message(1, MAX_FIRST_CONTACT_BYTES))
        );
        assert!(
            !quota(MAX_FIRST_CONTACT_BYTES, MAX_BYTES_OF_STRANGERS - FIRST_CONTACT_RESERVE_BYTES)
                .can_admit(&message(1, 1))
        );
    }
}
