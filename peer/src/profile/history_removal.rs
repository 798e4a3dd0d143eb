//! Forgetting what was said, so that it is gone from the disk.
//!
//! Its bytes are overwritten where they were (`secure_delete`), the index of words is written anew without them, and the
//! pages they leave are given back: by an incremental vacuum, for which a database made before there was one is written
//! anew once. A full vacuum each time would take as much room again as all shares' manifests do, and lock out the node for
//! as long. At last the log is cut off.
//!
//! The id of what is forgotten is kept, for a message may be delivered again whose acknowledgement was lost: it is not
//! new then. It is kept for half a year, by when nobody waits for an acknowledgement any more.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use shared::UserName;

use super::message_store::SEQ_FLOOR_KEY;
use super::{PUT_SETTING, Profile, ProfileError};

/// Messages that are forgotten with one write to the disk: others have their turn in between.
const BATCH: usize = 500;
/// How long the id of a message that was forgotten is kept after the message was stored, in milliseconds.
const FORGOTTEN_ID_RETENTION_MS: i64 = 180 * 24 * 3600 * 1000;
/// The setting that says how long history is kept, in milliseconds.
const KEEP_HISTORY_KEY: &str = "keep_history_ms";
/// The number by which SQLite says that a database gives room back piece by piece.
const INCREMENTAL: i64 = 2;

/// Messages to forget. What waits to be delivered is no history yet, and stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetQuery {
    /// Those of the conversation with this person; of all when there is nobody.
    pub with: Option<UserName>,
    /// Those that were stored before this time, milliseconds since 1970; of any time when there is none, and then the
    /// person is one with whom there was no conversation.
    pub before: Option<i64>,
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForgetSummary {
    /// How many messages.
    pub messages: usize,
    /// Bytes of the disk that were given back.
    pub bytes: u64,
}

/// A message that is to be forgotten.
struct ForgottenRow {
    seq: i64,
    peer: String,
    direction: String,
    id: String,
    text: String,
    at: i64,
}

impl Profile {
    /// Forgets messages for good.
    ///
    /// # Errors
    /// [`ProfileError`]; what was forgotten before stays so.
    pub fn forget(&self, what: &ForgetQuery, now_ms: i64) -> Result<ForgetSummary, ProfileError> {
        let before = self.bytes_on_disk();
        let mut messages = 0;
        loop {
            // Taken anew for each batch: a node's own writes go between.
            let mut writer = self.writer()?;
            self.db_result(writer.pragma_update(None, "secure_delete", true))?;
            let forgotten = self.db_result(forget_batch(&mut writer, what, now_ms));
            self.db_result(writer.pragma_update(None, "secure_delete", false))?;
            let forgotten = forgotten?;
            messages += forgotten;
            if forgotten < BATCH {
                break;
            }
        }
        if messages > 0 {
            self.db_result(reclaim_space(&*self.writer()?))?;
        }
        Ok(ForgetSummary { messages, bytes: before.saturating_sub(self.bytes_on_disk()) })
    }

    /// Counts what [`Profile::forget`] would forget.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn count_forgettable(&self, what: &ForgetQuery) -> Result<usize, ProfileError> {
        let (conditions, peer, before) = what.sql();
        let ledger = self.message_reader()?;
        let count = ledger.query_row(
            &format!("SELECT count(*) FROM message WHERE {conditions}"),
            params![peer, before],
            |row| row.get::<_, i64>(0),
        );
        self.db_result(count).map(|count| usize::try_from(count).unwrap_or(0))
    }

    /// Returns how long history is kept, milliseconds; `None`: for ever.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn history_retention_ms(&self) -> Result<Option<i64>, ProfileError> {
        Ok(self.setting(KEEP_HISTORY_KEY)?.and_then(|text| text.parse().ok()).filter(|kept: &i64| *kept > 0))
    }

    /// Records how long history is kept.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn set_history_retention_ms(&self, kept_ms: Option<i64>) -> Result<(), ProfileError> {
        self.set_setting(KEEP_HISTORY_KEY, kept_ms.map(|kept| kept.to_string()).as_deref())
    }

    fn bytes_on_disk(&self) -> u64 {
        let path = self.home().join(super::DATABASE_FILE);
        let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        size(&path) + size(&path.with_extension("db-wal"))
    }
}

impl ForgetQuery {
    /// The condition, of which `?1` is the person and `?2` the time.
    fn sql(&self) -> (&'static str, &str, i64) {
        let conditions = "(?1 = '' OR peer = ?1) AND at < ?2 AND seq NOT IN (SELECT seq FROM outbox)";
        (conditions, self.with.as_ref().map_or("", UserName::as_str), self.before.unwrap_or(i64::MAX))
    }

    /// Whether the person is to be a stranger again.
    const fn is_whole_conversation(&self) -> bool {
        self.with.is_some() && self.before.is_none()
    }
}

/// Forgets as much as goes with one write to the disk; tells how many messages that were.
fn forget_batch(writer: &mut Connection, what: &ForgetQuery, now_ms: i64) -> rusqlite::Result<usize> {
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let rows = select_batch(&transaction, what)?;
    for row in &rows {
        // The index of words holds no text of its own: it has to be told what it knew.
        transaction
            .prepare_cached("INSERT INTO message_words (message_words, rowid, text) VALUES ('delete', ?1, ?2)")?
            .execute(params![row.seq, row.text])?;
        transaction.prepare_cached("DELETE FROM message WHERE seq = ?1")?.execute([row.seq])?;
        if row.at > now_ms.saturating_sub(FORGOTTEN_ID_RETENTION_MS) {
            transaction
                .prepare_cached("INSERT OR IGNORE INTO forgotten (peer, direction, id, at) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![row.peer, row.direction, row.id, row.at])?;
        }
    }
    transaction.execute("DELETE FROM forgotten WHERE at <= ?1", [now_ms.saturating_sub(FORGOTTEN_ID_RETENTION_MS)])?;
    if let Some(last) = rows.iter().map(|row| row.seq).max() {
        raise_seq_floor(&transaction, last)?;
    }
    let mut peers: Vec<&str> = rows.iter().map(|row| row.peer.as_str()).collect();
    peers.sort_unstable();
    peers.dedup();
    for peer in peers {
        recount_conversation(&transaction, peer)?;
    }
    if let (true, Some(with)) = (what.is_whole_conversation(), &what.with) {
        end_conversation(&transaction, with)?;
    }
    transaction.commit()?;
    Ok(rows.len())
}

fn select_batch(transaction: &Transaction<'_>, what: &ForgetQuery) -> rusqlite::Result<Vec<ForgottenRow>> {
    let (conditions, peer, before) = what.sql();
    let mut query = transaction.prepare(&format!(
        "SELECT seq, peer, direction, id, text, at FROM message WHERE {conditions} ORDER BY seq LIMIT ?3"
    ))?;
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let rows = query.query_map(params![peer, before, limit], |row| {
        let (seq, peer, direction) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(ForgottenRow { seq, peer, direction, id: row.get(3)?, text: row.get(4)?, at: row.get(5)? })
    })?;
    rows.collect()
}

/// Whoever reads on from a place would overlook a message that is given the same one.
pub(super) fn raise_seq_floor(transaction: &Transaction<'_>, last: i64) -> rusqlite::Result<()> {
    let floor: Option<String> = transaction
        .query_row("SELECT value FROM setting WHERE key = ?1", [SEQ_FLOOR_KEY], |row| row.get(0))
        .optional()?;
    let floor = floor.and_then(|text| text.parse().ok()).unwrap_or(0).max(last);
    transaction.execute(PUT_SETTING, [SEQ_FLOOR_KEY, &floor.to_string()]).map(|_| ())
}

/// What is unread, and what is kept of a request, is less now.
fn recount_conversation(transaction: &Transaction<'_>, peer: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE conversation SET
                 unread = (SELECT count(*) FROM message WHERE peer = ?1 AND direction = 'in' AND seq > read_up_to),
                 unread_bytes = (SELECT coalesce(sum(octet_length(text)), 0) FROM message
                                 WHERE peer = ?1 AND direction = 'in' AND seq > read_up_to),
                 request_count = CASE accepted WHEN 1 THEN 0 ELSE
                     (SELECT count(*) FROM message WHERE peer = ?1 AND direction = 'in') END,
                 request_bytes = CASE accepted WHEN 1 THEN 0 ELSE
                     (SELECT coalesce(sum(octet_length(text) + coalesce(octet_length(offer), 0) + ?2), 0) FROM message
                      WHERE peer = ?1 AND direction = 'in') END
             WHERE peer = ?1",
        )?
        .execute(params![peer, super::message_store::to_i64(shared::limits::MESSAGE_OVERHEAD_BYTES)])
        .map(|_| ())
}

/// With whom nothing is left that was said, and for whom nothing waits, there was no conversation.
fn end_conversation(transaction: &Transaction<'_>, with: &UserName) -> rusqlite::Result<()> {
    transaction
        .execute(
            "DELETE FROM conversation WHERE peer = ?1 AND frozen = 0
             AND NOT EXISTS (SELECT 1 FROM message WHERE peer = ?1)",
            [with.as_str()],
        )
        .map(|_| ())
}

/// Gives back the room of what was forgotten, with no trace of it in the index, the free pages and the log.
fn reclaim_space(writer: &Connection) -> rusqlite::Result<()> {
    writer.pragma_update(None, "secure_delete", true)?;
    let given_back = optimize(writer);
    writer.pragma_update(None, "secure_delete", false)?;
    given_back?;
    // As far as nobody reads from it at this moment; the next one to write goes on with that.
    writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn optimize(writer: &Connection) -> rusqlite::Result<()> {
    writer.execute("INSERT INTO message_words (message_words) VALUES ('optimize')", [])?;
    if writer.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))? == INCREMENTAL {
        // It gives a row for each page, and ends with the last of them.
        let mut vacuum = writer.prepare("PRAGMA incremental_vacuum")?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        return Ok(());
    }
    writer.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    writer.execute_batch("VACUUM")
}

#[cfg(test)]
mod tests {
    use shared::peer::{ChatMessage, MessageId};

    use super::*;
    use crate::profile::{ConversationStatus, HistoryQuery, StoreOutcome};

    fn message(number: u32, text: &str) -> ChatMessage {
        let id = MessageId::from_bytes(u128::from(number).to_be_bytes());
        ChatMessage { id, ts: 0, text: text.into(), offer: None, room: None }
    }

    fn bob() -> UserName {
        "bob".parse().unwrap()
    }

    fn texts(profile: &Profile) -> Vec<String> {
        let all = profile.history(&HistoryQuery::last(usize::MAX)).unwrap();
        all.into_iter().map(|stored| stored.message.text.into_received()).collect()
    }

    fn with(user: &UserName) -> ForgetQuery {
        ForgetQuery { with: Some(user.clone()), before: None }
    }

    #[test]
    fn what_is_forgotten_is_gone_from_the_disk() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let carol: UserName = "carol".parse().unwrap();
        assert!([bob(), carol.clone()].iter().all(|user| profile.accept(user).unwrap()));
        let all: Vec<_> =
            (0..900).map(|no| message(no, &format!("xylophone{no} {}", "secretword ".repeat(700)))).collect();
        profile.store_incoming(&bob(), &all, 1).unwrap();
        profile.store_incoming(&carol, &[message(1, "carols own words")], 1).unwrap();
        let forgotten = profile.forget(&with(&bob()), 2).unwrap();
        assert_eq!(forgotten.messages, 900);
        assert!(forgotten.bytes > 7_000_000, "{} bytes were given back", forgotten.bytes);
        let path = home.path().join("profile.db");
        let sizes =
            ["db", "db-wal"].map(|end| std::fs::metadata(path.with_extension(end)).map_or(0, |file| file.len()));
        assert!(sizes.iter().sum::<u64>() < 300_000, "{sizes:?}");
        for end in ["db", "db-wal"] {
            let bytes = std::fs::read(path.with_extension(end)).unwrap_or_default();
            for word in [b"secretword".as_slice(), b"xylophone", b"ylophone8"] {
                assert!(!bytes.windows(word.len()).any(|found| found == word), "{end}");
            }
        }
        assert_eq!(texts(&profile), ["carols own words"]);
        let words = HistoryQuery { search: Some("secretword".into()), ..HistoryQuery::last(9) };
        assert!(profile.history(&words).unwrap().is_empty());
        profile.check_integrity(std::time::Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn what_is_delivered_again_is_not_new() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let (one, two) = (message(1, "one"), message(2, "two"));
        assert_eq!(profile.store_incoming(&bob(), std::slice::from_ref(&one), 5).unwrap(), [StoreOutcome::New(1)]);
        profile.store_outgoing(&bob(), &two, 5).unwrap();
        profile.record_delivery_states(&bob(), &[(two.id, crate::profile::MessageState::Stored)]).unwrap();
        assert_eq!(profile.conversation_status(&bob()).unwrap(), ConversationStatus::Accepted);
        assert_eq!(profile.forget(&with(&bob()), 6).unwrap().messages, 2);
        assert_eq!(profile.conversation_status(&bob()).unwrap(), ConversationStatus::Request(0), "a stranger again");
        assert_eq!(
            profile.store_incoming(&bob(), &[one.clone(), message(3, "three")], 7).unwrap(),
            [StoreOutcome::Duplicate, StoreOutcome::New(3)]
        );
        assert_eq!(profile.store_outgoing(&bob(), &two, 7).unwrap(), StoreOutcome::Duplicate);
        assert_eq!(texts(&profile), ["three"]);
        // Half a year later nobody waits for an acknowledgement any more.
        profile.forget(&with(&bob()), FORGOTTEN_ID_RETENTION_MS + 8).unwrap();
        let left = profile
            .message_reader()
            .unwrap()
            .query_row("SELECT count(*) FROM forgotten", [], |row| row.get::<_, i64>(0));
        assert_eq!(left.unwrap(), 0);
    }

    #[test]
    fn what_is_older_goes_and_what_waits_stays() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let mallory: UserName = "mallory".parse().unwrap();
        profile.store_incoming(&mallory, &[message(1, "old"), message(2, "old as well")], 10).unwrap();
        profile.store_incoming(&mallory, &[message(3, "new")], 30).unwrap();
        profile.store_outgoing(&bob(), &message(4, "it waits"), 10).unwrap();
        let older = ForgetQuery { with: None, before: Some(20) };
        assert_eq!(profile.count_forgettable(&older).unwrap(), 2);
        assert_eq!(profile.forget(&older, 40).unwrap().messages, 2);
        assert_eq!(texts(&profile), ["new", "it waits"]);
        assert_eq!(
            profile.conversation_status(&mallory).unwrap(),
            ConversationStatus::Request(1),
            "there is room again"
        );
        assert_eq!(profile.unread_counts().unwrap()[0].count, 1);
        assert_eq!(profile.outbox().unwrap().len(), 1);
        assert_eq!(profile.forget(&with(&bob()), 40).unwrap().messages, 0);
        assert_eq!(profile.conversation_status(&bob()).unwrap(), ConversationStatus::Accepted);
        // No place is given twice.
        assert_eq!(profile.forget(&with(&mallory), 40).unwrap().messages, 1);
        assert_eq!(profile.store_incoming(&mallory, &[message(5, "newer")], 50).unwrap(), [StoreOutcome::New(5)]);
    }

    #[test]
    fn a_database_of_before_gives_its_room_back_too() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("profile.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch("PRAGMA auto_vacuum = NONE; PRAGMA journal_mode = WAL; CREATE TABLE t (x); DROP TABLE t")
            .unwrap();
        drop(old);
        let profile = Profile::open(home.path()).unwrap();
        profile.accept(&bob()).unwrap();
        for round in 0..2 {
            let all: Vec<_> = (0..300).map(|no| message(round * 1000 + no, &"word ".repeat(3000))).collect();
            profile.store_incoming(&bob(), &all, 1).unwrap();
            assert!(profile.forget(&ForgetQuery { with: Some(bob()), before: Some(9) }, 2).unwrap().bytes > 4_000_000);
            assert!(std::fs::metadata(&path).unwrap().len() < 400_000);
        }
    }

    #[test]
    fn how_long_history_is_kept_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        assert_eq!(profile.history_retention_ms().unwrap(), None);
        profile.set_history_retention_ms(Some(5)).unwrap();
        assert_eq!(profile.history_retention_ms().unwrap(), Some(5));
        profile.set_history_retention_ms(None).unwrap();
        assert_eq!(profile.history_retention_ms().unwrap(), None);
    }
}
