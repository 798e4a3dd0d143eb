//! Conversations with guests of links: who wrote in each, what was written, and what the user has read.
//!
//! Their bounds are those of [`super::guest_chat_bounds`]. All of it goes with the link.

use rusqlite::{OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use shared::UntrustedText;
use shared::peer::MessageId;

use super::guest_chat_bounds::{GuestChatBound, UsedSpace, charged_space, reached_bound};
use super::guest_name::{GuestIdentity, GuestName};
use super::sql_integer::sql_integer;
use super::{Profile, ProfileError};

const MESSAGE_COLUMNS: &str = "seq, is_answer, at, text";

/// A message between a guest and the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestMessage {
    /// Its place among all messages with guests of the profile.
    pub seq: i64,
    /// True if the user wrote it.
    #[serde(rename = "answer")]
    pub is_answer: bool,
    /// The time of its storing, in milliseconds since 1970.
    #[serde(rename = "ts")]
    pub at: i64,
    /// The text.
    pub text: UntrustedText,
}

/// A message with the conversation in which it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestPost {
    /// The guest.
    #[serde(flatten)]
    pub who: GuestIdentity,
    /// The message.
    #[serde(flatten)]
    pub message: GuestMessage,
    /// True for the first message of the guest.
    #[serde(rename = "first")]
    pub is_first: bool,
    /// True if the user has answered this guest before.
    #[serde(rename = "answered")]
    pub is_answered: bool,
}

/// A conversation with a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestConversation {
    /// The guest.
    pub who: GuestIdentity,
    /// The network from which the guest wrote first.
    pub network: String,
    /// True if the user answered.
    pub is_answered: bool,
    /// The number of messages of the guest that the user hasn't read.
    pub unread: usize,
    /// The last message.
    pub last: GuestMessage,
}

/// A message of a guest that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewGuestMessage<'a> {
    /// The guest's session, hashed.
    pub session: &'a [u8],
    /// The network from which it comes.
    pub network: &'a str,
    /// The name that the guest gives itself; `None` leaves that of before.
    pub name: Option<&'a GuestName>,
    /// The id by which a repeated request is known.
    pub id: Option<MessageId>,
    /// The text.
    pub text: &'a str,
    /// The time, in milliseconds since 1970.
    pub at: i64,
}

/// The outcome of the storing of a guest's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestMessageOutcome {
    /// It is stored.
    Stored(GuestPost),
    /// It was stored before, by an earlier request.
    Known(GuestPost),
    /// It is not stored.
    Refused(GuestChatBound),
    /// The link is gone, or takes no messages.
    NoChat,
}

impl Profile {
    /// Stores a message of a guest.
    pub fn add_guest_message(&self, link: i64, new: NewGuestMessage<'_>) -> Result<GuestMessageOutcome, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let has_chat = transaction.prepare_cached("SELECT 1 FROM guest_link WHERE number = ?1 AND has_chat")?.exists([link])?;
            if !has_chat {
                return Ok(GuestMessageOutcome::NoChat);
            }
            let known = "SELECT guest, is_answered, messages, bytes FROM guest_conversation WHERE link = ?1 AND session = ?2";
            let read = |row: &Row<'_>| {
                let used = UsedSpace { count: row.get(2)?, bytes: row.get(3)? };
                Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, used))
            };
            let known = transaction.query_row(known, params![link, new.session], read).optional()?;
            // Before the bounds: a repeated request is answered as the first, even if that took the last room.
            if let (Some((guest, is_answered, _)), Some(id)) = (&known, new.id)
                && let Some(message) = message_with_id(transaction, link, *guest, id)?
            {
                let who = identity(transaction, link, *guest)?;
                let post = GuestPost { who, message, is_first: false, is_answered: *is_answered };
                return Ok(GuestMessageOutcome::Known(post));
            }
            let cost = charged_space(new.text);
            let used = known.map(|(_, answered, used)| (answered, used));
            if let Some(bound) = reached_bound(transaction, (link, new.network), used, cost)? {
                return Ok(GuestMessageOutcome::Refused(bound));
            }
            let (guest, is_answered) = match known {
                Some((guest, is_answered, _)) => (guest, is_answered),
                None => (begin_conversation(transaction, link, &new)?, false),
            };
            if let Some(name) = new.name {
                let rename = "UPDATE guest_conversation SET name = ?3 WHERE link = ?1 AND guest = ?2";
                transaction.execute(rename, params![link, guest, name.as_str()])?;
            }
            let message = insert_message(transaction, (link, guest), new.id, false, new.at, new.text)?;
            transaction.execute(
                "UPDATE guest_conversation SET messages = messages + 1, bytes = bytes + ?3 WHERE link = ?1 AND guest = ?2",
                params![link, guest, cost],
            )?;
            let who = identity(transaction, link, guest)?;
            Ok(GuestMessageOutcome::Stored(GuestPost { who, message, is_first: known.is_none(), is_answered }))
        })
    }

    /// Stores an answer of the user, who has read the conversation by then; `None` if there is no such conversation.
    pub fn add_guest_answer(
        &self,
        (link, guest): (i64, i64),
        text: &str,
        at: i64,
    ) -> Result<Option<GuestPost>, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let is_there = "UPDATE guest_conversation SET is_answered = 1 WHERE link = ?1 AND guest = ?2";
            if transaction.execute(is_there, params![link, guest])? == 0 {
                return Ok(None);
            }
            let message = insert_message(transaction, (link, guest), None, true, at, text)?;
            mark_read(transaction, (link, guest), message.seq)?;
            let who = identity(transaction, link, guest)?;
            Ok(Some(GuestPost { who, message, is_first: false, is_answered: true }))
        })
    }

    /// Returns the first `limit` messages of a conversation after a place, the oldest first.
    pub fn guest_messages(
        &self,
        (link, guest): (i64, i64),
        after: i64,
        limit: usize,
    ) -> Result<Vec<GuestMessage>, ProfileError> {
        let sql = format!(
            "SELECT {MESSAGE_COLUMNS} FROM guest_message WHERE link = ?1 AND guest = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4"
        );
        self.query_all(self.reader(), &sql, params![link, guest, after, sql_integer(limit)], read_message)
    }

    /// Returns the last messages of a conversation after a place, the oldest first: `limit` at most, and about
    /// `max_bytes` of text.
    pub fn latest_guest_messages(
        &self,
        (link, guest): (i64, i64),
        after: i64,
        (limit, max_bytes): (usize, usize),
    ) -> Result<Vec<GuestMessage>, ProfileError> {
        // Counted there, so that what is left out is never in memory.
        let sql = format!(
            "SELECT {MESSAGE_COLUMNS} FROM (
                 SELECT *, sum(octet_length(text)) OVER (ORDER BY seq DESC) - octet_length(text) AS later_bytes
                 FROM guest_message WHERE link = ?1 AND guest = ?2 AND seq > ?3 ORDER BY seq DESC LIMIT ?4
             ) WHERE later_bytes < ?5 ORDER BY seq"
        );
        let values = params![link, guest, after, sql_integer(limit), sql_integer(max_bytes)];
        self.query_all(self.reader(), &sql, values, read_message)
    }

    /// Returns the number and the name of the guest with this session, hashed; `None` if it never wrote.
    pub fn guest_by_session(&self, link: i64, session: &[u8]) -> Result<Option<GuestIdentity>, ProfileError> {
        let sql = "SELECT guest, name FROM guest_conversation WHERE link = ?1 AND session = ?2";
        let read = |row: &Row<'_>| Ok(GuestIdentity { link, guest: row.get(0)?, name: read_name(row, 1)? });
        let found = self.reader().query_row(sql, params![link, session], read).optional();
        self.db_result(found)
    }

    /// Returns the conversations of a link, in the order in which they began.
    pub fn guest_conversations(&self, link: i64) -> Result<Vec<GuestConversation>, ProfileError> {
        let sql = "SELECT talk.guest, talk.name, talk.network, talk.is_answered,
                 (SELECT count(*) FROM guest_message AS unread WHERE unread.link = talk.link AND unread.guest = talk.guest
                      AND NOT unread.is_answer AND unread.seq > talk.read_up_to),
                 last.seq, last.is_answer, last.at, last.text
             FROM guest_conversation AS talk
             JOIN guest_message AS last ON last.seq =
                 (SELECT max(seq) FROM guest_message WHERE link = talk.link AND guest = talk.guest)
             WHERE talk.link = ?1 ORDER BY talk.guest";
        self.query_all(self.reader(), sql, [link], |row| {
            Ok(GuestConversation {
                who: GuestIdentity { link, guest: row.get(0)?, name: read_name(row, 1)? },
                network: row.get(2)?,
                is_answered: row.get(3)?,
                unread: usize::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
                last: GuestMessage {
                    seq: row.get(5)?,
                    is_answer: row.get(6)?,
                    at: row.get(7)?,
                    text: row.get::<_, String>(8)?.into(),
                },
            })
        })
    }

    /// Returns the place of the last message with any guest of a link; 0 if there is none.
    pub fn last_guest_message(&self, link: i64) -> Result<i64, ProfileError> {
        let sql = "SELECT coalesce(max(seq), 0) FROM guest_message WHERE link = ?1";
        let found = self.reader().query_row(sql, [link], |row| row.get(0));
        self.db_result(found)
    }

    /// Returns the number of messages of guests that the user hasn't read, of all links.
    pub fn unread_guest_messages(&self) -> Result<usize, ProfileError> {
        let sql = "SELECT count(*) FROM guest_conversation AS talk JOIN guest_message AS unread
                 ON unread.link = talk.link AND unread.guest = talk.guest AND unread.seq > talk.read_up_to
             WHERE NOT unread.is_answer";
        let found = self.reader().query_row(sql, [], |row| row.get::<_, i64>(0));
        self.db_result(found).map(|count| usize::try_from(count).unwrap_or(0))
    }

    /// Marks the messages of a conversation up to a place as read.
    pub fn mark_guest_read(&self, conversation: (i64, i64), up_to: i64) -> Result<(), ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| mark_read(transaction, conversation, up_to))
    }
}

/// Removes all conversations of a link.
pub(super) fn remove_guest_chat(transaction: &Transaction<'_>, link: i64) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM guest_message WHERE link = ?1", [link])?;
    transaction.execute("DELETE FROM guest_conversation WHERE link = ?1", [link]).map(|_| ())
}

/// Makes a conversation; returns the guest's number.
fn begin_conversation(transaction: &Transaction<'_>, link: i64, new: &NewGuestMessage<'_>) -> rusqlite::Result<i64> {
    transaction.query_row(
        // Conversations go only with their link, so that no guest's number is given twice.
        "INSERT INTO guest_conversation (link, guest, session, network)
         VALUES (?1, (SELECT coalesce(max(guest), 0) + 1 FROM guest_conversation WHERE link = ?1), ?2, ?3) RETURNING guest",
        params![link, new.session, new.network],
        |row| row.get(0),
    )
}

fn insert_message(
    transaction: &Transaction<'_>,
    (link, guest): (i64, i64),
    id: Option<MessageId>,
    is_answer: bool,
    at: i64,
    text: &str,
) -> rusqlite::Result<GuestMessage> {
    transaction.execute(
        "INSERT INTO guest_message (link, guest, id, is_answer, at, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![link, guest, id.map(|id| id.to_string()), is_answer, at, text],
    )?;
    Ok(GuestMessage { seq: transaction.last_insert_rowid(), is_answer, at, text: text.into() })
}

fn mark_read(transaction: &Transaction<'_>, (link, guest): (i64, i64), up_to: i64) -> rusqlite::Result<()> {
    // `max`: two terminals may show one conversation, and the slower one must not make messages unread again.
    let mark = "UPDATE guest_conversation SET read_up_to = max(read_up_to, ?3) WHERE link = ?1 AND guest = ?2";
    transaction.execute(mark, params![link, guest, up_to]).map(|_| ())
}

fn message_with_id(
    transaction: &Transaction<'_>,
    link: i64,
    guest: i64,
    id: MessageId,
) -> rusqlite::Result<Option<GuestMessage>> {
    let sql = format!("SELECT {MESSAGE_COLUMNS} FROM guest_message WHERE link = ?1 AND guest = ?2 AND id = ?3");
    transaction.query_row(&sql, params![link, guest, id.to_string()], read_message).optional()
}

fn identity(transaction: &Transaction<'_>, link: i64, guest: i64) -> rusqlite::Result<GuestIdentity> {
    let sql = "SELECT name FROM guest_conversation WHERE link = ?1 AND guest = ?2";
    let name = transaction.query_row(sql, params![link, guest], |row| read_name(row, 0))?;
    Ok(GuestIdentity { link, guest, name })
}

fn read_message(row: &Row<'_>) -> rusqlite::Result<GuestMessage> {
    let text: String = row.get(3)?;
    Ok(GuestMessage { seq: row.get(0)?, is_answer: row.get(1)?, at: row.get(2)?, text: text.into() })
}

/// Reads a name; one that an earlier version took and this one doesn't is none.
fn read_name(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<GuestName>> {
    Ok(row.get::<_, Option<String>>(column)?.and_then(|name| name.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::NewGuestLink;

    struct Case {
        profile: Profile,
        link: i64,
        _home: tempfile::TempDir,
    }

    fn link(profile: &Profile, id: &str, has_chat: bool) -> i64 {
        let new = NewGuestLink {
            id,
            nonce: b"nonce",
            token_hash: id.as_bytes(),
            folder: None,
            max_bytes: 100,
            is_once: false,
            has_chat,
            made_at: 1,
            expires_at: 1000,
            pid: None,
        };
        profile.add_guest_link(new, &[]).unwrap().unwrap()
    }

    fn case() -> Case {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let link = link(&profile, "abc", true);
        Case { profile, link, _home: home }
    }

    impl Case {
        fn post(&self, session: &str, network: &str, text: &str) -> GuestMessageOutcome {
            let new = NewGuestMessage { session: session.as_bytes(), network, name: None, id: None, text, at: 5 };
            self.profile.add_guest_message(self.link, new).unwrap()
        }

        /// Posts until that is refused, `limit` times at most; returns how many were stored, and the bound.
        fn fill(&self, session: &str, network: &str, text: &str, limit: usize) -> (usize, Option<GuestChatBound>) {
            for count in 0..limit {
                if let GuestMessageOutcome::Refused(bound) = self.post(session, network, text) {
                    return (count, Some(bound));
                }
            }
            (limit, None)
        }
    }

    fn stored(outcome: GuestMessageOutcome) -> GuestPost {
        match outcome {
            GuestMessageOutcome::Stored(post) => post,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_session_is_a_conversation_that_goes_with_its_link() {
        let case = case();
        let first = stored(case.post("s1", "n", "olá"));
        let other = stored(case.post("s2", "n", "hi"));
        let again = stored(case.post("s1", "n", "?"));
        assert_eq!((first.who.guest, other.who.guest, again.who.guest), (1, 2, 1));
        assert_eq!((first.is_first, again.is_first, again.is_answered), (true, false, false));
        let messages = |guest| case.profile.guest_messages((case.link, guest), 0, 10).unwrap();
        assert_eq!(messages(1), [first.message.clone(), again.message.clone()]);
        assert_eq!(messages(2), [other.message]);
        let latest = |limits| case.profile.latest_guest_messages((case.link, 1), 0, limits).unwrap();
        assert_eq!(messages(1), latest((9, 9)));
        assert_eq!((latest((1, 99)), latest((9, 1))), (vec![again.message.clone()], vec![again.message.clone()]));
        let after_first = case.profile.guest_messages((case.link, 1), first.message.seq, 9).unwrap();
        assert_eq!(after_first, std::slice::from_ref(&again.message));
        let unread =
            || case.profile.guest_conversations(case.link).unwrap().iter().map(|talk| talk.unread).collect::<Vec<_>>();
        assert_eq!((unread(), case.profile.unread_guest_messages().unwrap()), (vec![2, 1], 3));
        case.profile.mark_guest_read((case.link, 1), first.message.seq).unwrap();
        assert_eq!(unread(), [1, 1]);
        let answer = case.profile.add_guest_answer((case.link, 1), "oi", 6).unwrap().unwrap();
        assert_eq!((answer.message.is_answer, unread()), (true, vec![0, 1]));
        assert!(stored(case.post("s1", "n", "!")).is_answered);
        assert_eq!(case.profile.add_guest_answer((case.link, 3), "oi", 6).unwrap(), None);
        assert_eq!(case.profile.last_guest_message(case.link).unwrap(), answer.message.seq + 1);

        assert!(case.profile.remove_guest_link(case.link).unwrap());
        assert_eq!((messages(1), case.profile.guest_conversations(case.link).unwrap().len()), (vec![], 0));
        assert_eq!(case.post("s1", "n", "x"), GuestMessageOutcome::NoChat);
        let without = link(&case.profile, "abd", false);
        let new = NewGuestMessage { session: b"s", network: "n", name: None, id: None, text: "x", at: 5 };
        assert_eq!(case.profile.add_guest_message(without, new).unwrap(), GuestMessageOutcome::NoChat);
    }

    #[test]
    fn a_repeated_request_is_stored_once_and_the_last_name_counts() {
        let case = case();
        let ana: GuestName = "Ana".parse().unwrap();
        let id = Some(MessageId::from_bytes([7; 16]));
        let new = NewGuestMessage { session: b"s", network: "n", name: Some(&ana), id, text: "olá", at: 5 };
        let first = stored(case.profile.add_guest_message(case.link, new).unwrap());
        assert_eq!(first.who.name, Some(ana.clone()));
        let GuestMessageOutcome::Known(again) = case.profile.add_guest_message(case.link, new).unwrap() else {
            panic!()
        };
        assert_eq!(again.message, first.message);
        // Another guest may have the same id: it knows nothing of this one.
        stored(case.profile.add_guest_message(case.link, NewGuestMessage { session: b"t", ..new }).unwrap());
        assert_eq!(stored(case.post("s", "n", "more")).who.name, Some(ana.clone()), "it stays");
        let bia: GuestName = "Bia".parse().unwrap();
        let renamed = NewGuestMessage { name: Some(&bia), id: None, ..new };
        assert_eq!(stored(case.profile.add_guest_message(case.link, renamed).unwrap()).who.name, Some(bia.clone()));
        let known = case.profile.guest_by_session(case.link, b"s").unwrap().unwrap();
        assert_eq!((known.guest, known.name), (1, Some(bia)));
        assert_eq!(case.profile.guest_by_session(case.link, b"u").unwrap(), None);
    }

    #[test]
    fn what_guests_leave_is_bounded_for_each_and_for_all() {
        use GuestChatBound::{Conversations, Full, Unanswered};
        let case = case();
        assert_eq!(case.fill("s", "n", "x", 200), (100, Some(Unanswered)));
        case.profile.add_guest_answer((case.link, 1), "go on", 6).unwrap().unwrap();
        assert_eq!(case.fill("s", "n", "x", 2000), (900, Some(Full)));
        let long = "x".repeat(16 << 10);
        assert_eq!(case.fill("t", "n", &long, 100), (30, Some(Unanswered)), "512 KiB");
        // One network has its share, whatever sessions it makes.
        let by_one: usize = (0..10).map(|number| case.fill(&format!("u{number}"), "n", &long, 100).0).sum();
        assert!((150..160).contains(&by_one), "{by_one}");
        assert_eq!(case.fill("u9", "n", &long, 1).1, Some(Full));
        stored(case.post("v", "other", &long));
        // And its number of conversations.
        let made = (0..100)
            .filter(|number| matches!(case.post(&format!("w{number}"), "third", "x"), GuestMessageOutcome::Stored(_)));
        assert_eq!(made.count(), 64);
        assert_eq!(case.post("w99", "third", "x"), GuestMessageOutcome::Refused(Conversations));
        // All networks together.
        let before = case.profile.guest_conversations(case.link).unwrap().len();
        let made = (0..600).filter(|number| {
            matches!(
                case.post(&format!("y{number}"), &format!("n{}", number / 60), "x"),
                GuestMessageOutcome::Stored(_)
            )
        });
        assert_eq!(made.count(), 500 - before);
    }
}
