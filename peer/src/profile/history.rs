//! History queries: pages of a conversation, and full-text search.

use rusqlite::params_from_iter;
use rusqlite::types::Value;
use unicode_width::UnicodeWidthChar;

use super::stored_message::MessageRow;
use super::{ConversationName, Profile, ProfileError, StoredMessage};

/// A selection of messages: the last ones, or the earliest, that match all conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HistoryQuery {
    /// The conversation; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<ConversationName>,
    /// Words that the text contains, regardless of case and accents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// The earliest time of storing, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// The place of the message before which messages are wanted: in a room those that precede it in the room's order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// The place after which messages are wanted, in the order of arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// True for unread messages of others only.
    #[serde(default)]
    pub unread: bool,
    /// The largest number of messages.
    pub limit: usize,
    /// True if the earliest ones are wanted when there are more, instead of the last.
    #[serde(default)]
    pub earliest: bool,
}

impl HistoryQuery {
    /// Selects the last `limit` messages.
    pub fn last(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Selects the last `limit` messages of a conversation.
    pub fn with(conversation: impl Into<ConversationName>, limit: usize) -> Self {
        Self { with: Some(conversation.into()), ..Self::last(limit) }
    }
}

impl Profile {
    /// Returns the selected messages: those of a room in its order, others as they arrived. Those of a room's blocked
    /// members are left out, and those that are void.
    pub fn history(&self, query: &HistoryQuery) -> Result<Vec<StoredMessage>, ProfileError> {
        let (sql, values) = query.sql();
        let mut rows: Vec<MessageRow> =
            self.query_all(self.message_reader()?, &sql, params_from_iter(values), MessageRow::read)?;
        // The last messages are read newest first, so that the limit cuts off the oldest.
        if !query.earliest {
            rows.reverse();
        }
        rows.into_iter().map(|row| self.checked_message(row)).collect()
    }
}

impl HistoryQuery {
    fn sql(&self) -> (String, Vec<Value>) {
        // The message may be gone since its page was read: then before the one that was stored after it.
        const BEFORE_IN_ROOM: &str = "message.place < coalesce(
            (SELECT place FROM message WHERE seq = ?),
            (SELECT place FROM message WHERE seq > ? AND peer = $with AND place IS NOT NULL ORDER BY seq LIMIT 1),
            x'FF')";
        let is_room = self.with.as_ref().is_some_and(|with| with.room().is_some());
        let mut conditions = vec![
            "message.void = 0".to_owned(),
            "(room_message.user IS NULL OR room_message.user NOT IN (SELECT user FROM blocked))".to_owned(),
        ];
        let mut values: Vec<Value> = Vec::new();
        // Values are bound, never part of the SQL text, so that the statement can be cached.
        let mut condition = |text: &str, value: Value| {
            values.push(value);
            // The conversation is the first value, if there is one.
            conditions.push(text.replace('?', &format!("?{}", values.len())).replace("$with", "?1"));
        };
        if let Some(with) = &self.with {
            condition("message.peer = ?", with.to_string().into());
        }
        if let Some(words) = &self.search {
            let (indexed, others): (Vec<&str>, Vec<&str>) = words.split_whitespace().partition(|word| is_indexed(word));
            if !indexed.is_empty() || others.is_empty() {
                condition(
                    "message.seq IN (SELECT rowid FROM message_words WHERE message_words MATCH ?)",
                    fts_query(&indexed).into(),
                );
            }
            // A scan of all texts, for the few words that the index can't find.
            for word in others {
                condition("message.text LIKE '%' || ? || '%' ESCAPE '\\'", like_pattern(word).into());
            }
        }
        if let Some(since) = self.since {
            condition("message.at >= ?", since.into());
        }
        if let Some(before) = self.before {
            condition(if is_room { BEFORE_IN_ROOM } else { "message.seq < ?" }, before.into());
        }
        if let Some(after) = self.after {
            condition("message.seq > ?", after.into());
        }
        if self.unread {
            conditions.push(
                "message.direction = 'in' AND message.seq > coalesce(
                     (SELECT read_up_to FROM conversation WHERE conversation.peer = message.peer), 0)"
                    .to_owned(),
            );
        }
        values.push(i64::try_from(self.limit).unwrap_or(i64::MAX).into());
        // Named, so that the index by place is used, which has only those of rooms.
        let order_column = if is_room { "message.place" } else { "message.seq" };
        if is_room {
            conditions.push("message.place IS NOT NULL".to_owned());
        }
        let conditions = conditions.join(" AND ");
        let (columns, tables) = (MessageRow::COLUMNS, MessageRow::TABLES);
        let limit = values.len();
        let order = if self.earliest { "ASC" } else { "DESC" };
        (
            format!("SELECT {columns} FROM {tables} WHERE {conditions} ORDER BY {order_column} {order} LIMIT ?{limit}"),
            values,
        )
    }
}

/// Quotes words for the full-text index, so that none of them is an operator.
fn fts_query(words: &[&str]) -> String {
    // FTS5 reads a C string: a NUL would end it within the quotes, which is a syntax error.
    let quoted = |word: &&str| format!("\"{}\"*", word.replace('"', "\"\"").replace('\0', " "));
    let question = words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    // An empty query is a syntax error; an empty phrase is valid and matches nothing.
    if question.is_empty() { "\"\"".to_owned() } else { question }
}

/// True if the index can find the word by its beginning. Its words are letters and digits between spaces and
/// punctuation, which scripts without spaces and emoji don't have.
fn is_indexed(word: &str) -> bool {
    word.chars().any(char::is_alphanumeric) && !word.chars().any(|c| c.width() == Some(2))
}

/// Escapes a word for `LIKE`.
fn like_pattern(word: &str) -> String {
    let mut like = String::with_capacity(word.len());
    for c in word.chars() {
        if matches!(c, '%' | '_' | '\\') {
            like.push('\\');
        }
        like.push(c);
    }
    like
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::UserName;
    use shared::peer::{ChatMessage, MessageId};

    use super::*;

    fn with_messages(texts: &[(&str, &str)]) -> (tempfile::TempDir, Profile) {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        for (number, (peer, text)) in (1..).zip(texts) {
            let id = MessageId::from_bytes([number; 16]);
            let message = ChatMessage { id, ts: 0, text: (*text).into(), offer: None, send: None };
            profile.store_incoming(&peer.parse().unwrap(), &[message], i64::from(number) * 10).unwrap();
        }
        (home, profile)
    }

    fn texts(profile: &Profile, query: &HistoryQuery) -> Vec<String> {
        profile.history(query).unwrap().into_iter().map(|stored| stored.message.text.into_received()).collect()
    }

    #[test]
    fn words_are_found_whatever_their_accents_and_case() {
        let (_home, profile) =
            with_messages(&[("bob", "O Orçamento está pronto"), ("carol", "orcamento?"), ("bob", "nada")]);
        let search = |with: Option<&str>, words: &str| {
            let with = with.map(|with| with.parse().unwrap());
            texts(&profile, &HistoryQuery { with, search: Some(words.to_owned()), ..HistoryQuery::last(10) })
        };
        assert_eq!(search(None, "orçamento"), ["O Orçamento está pronto", "orcamento?"]);
        assert_eq!(search(Some("bob"), "ORCAMENTO"), ["O Orçamento está pronto"]);
        assert_eq!(search(None, "pronto orçamento"), ["O Orçamento está pronto"]);
        assert_eq!(search(None, "pronto nada"), Vec::<String>::new());
        assert_eq!(search(None, "orc est"), ["O Orçamento está pronto"]);
        assert_eq!(search(None, "amento"), Vec::<String>::new());
    }

    #[test]
    fn words_without_blanks_between_them_and_pictures_are_found_anywhere() {
        let (_home, profile) =
            with_messages(&[("bob", "明日は会議です"), ("bob", "party 🎉🎂"), ("bob", "100%"), ("bob", "회의 끝")]);
        let search =
            |words: &str| texts(&profile, &HistoryQuery { search: Some(words.to_owned()), ..HistoryQuery::last(10) });
        assert_eq!(search("会議"), ["明日は会議です"]);
        assert_eq!(search("🎂 par"), ["party 🎉🎂"]);
        assert_eq!(search("의"), ["회의 끝"]);
        assert_eq!(search("%"), ["100%"]);
        assert_eq!(search("_"), Vec::<String>::new());
    }

    #[test]
    fn pages_come_oldest_first() {
        let (_home, profile) = with_messages(&[("bob", "1"), ("carol", "2"), ("bob", "3"), ("bob", "4")]);
        let bob: UserName = "bob".parse().unwrap();
        assert_eq!(texts(&profile, &HistoryQuery::with(&bob, 2)), ["3", "4"]);
        assert_eq!(texts(&profile, &HistoryQuery { before: Some(4), ..HistoryQuery::with(&bob, 2) }), ["1", "3"]);
        assert_eq!(texts(&profile, &HistoryQuery { since: Some(20), ..HistoryQuery::last(9) }), ["2", "3", "4"]);
        assert_eq!(texts(&profile, &HistoryQuery { after: Some(2), ..HistoryQuery::last(9) }), ["3", "4"]);
        let earliest = HistoryQuery { after: Some(1), earliest: true, ..HistoryQuery::with(&bob, 1) };
        assert_eq!(texts(&profile, &earliest), ["3"]);
        profile.mark_read(&bob, Some(3)).unwrap();
        assert_eq!(texts(&profile, &HistoryQuery { unread: true, ..HistoryQuery::last(9) }), ["2", "4"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_search_is_an_error(words: String) {
            let (_home, profile) = with_messages(&[("bob", "nothing")]);
            profile.history(&HistoryQuery { search: Some(words), ..HistoryQuery::last(9) }).unwrap();
        }
    }

    #[test]
    fn the_words_of_the_index_language_are_words() {
        let (_home, profile) = with_messages(&[("bob", "this AND that OR NEAR(x)")]);
        for words in ["AND", "OR", "NEAR(x)", "text:this", "\"", "*", "-", "^", "this)", "'; DROP TABLE message"] {
            profile.history(&HistoryQuery { search: Some(words.to_owned()), ..HistoryQuery::last(9) }).unwrap();
        }
        assert_eq!(texts(&profile, &HistoryQuery { search: Some("and".into()), ..HistoryQuery::last(9) }).len(), 1);
    }
}
