//! Removal of messages, so that nothing of them stays on the disk.
//!
//! Their bytes are overwritten in place (`secure_delete`), the full-text index is rewritten without them, and the free
//! pages are returned by an incremental vacuum; a database older than that setting is rewritten once. A full vacuum
//! each time would need as much room again as the manifests of all shares, and lock out the node for as long. Finally
//! the log is truncated.
//!
//! The ids of removed messages are kept for half a year: a message whose ack was lost is delivered again, and must not
//! count as new. After that time no sender waits for an ack any more. Those of rooms raise their author's floor instead.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::message_deletion::{delete_messages, recount_conversation};
use super::room_store::{raise_floors, remove_left_rooms};
use super::settings::PUT_SETTING;
use super::{ConversationName, Profile, ProfileError};

/// Messages removed in one transaction; other writers get their turn in between.
const BATCH: usize = 500;
/// Time for which the id of a removed message is kept, from the storing of the message, in milliseconds.
const FORGOTTEN_ID_RETENTION_MS: i64 = 180 * 24 * 3600 * 1000;
/// The setting with the retention time, in milliseconds.
const KEEP_HISTORY_KEY: &str = "keep_history_ms";
/// The value of `PRAGMA auto_vacuum` for incremental mode.
const INCREMENTAL: i64 = 2;
/// The setting that is there while traces of removed messages may still be on the disk.
const RECLAIM_OWED_KEY: &str = "reclaim_owed";

/// Selection of messages to remove. Messages in the outbox never match, nor do those that no other member of their room
/// has yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetQuery {
    /// The conversation; `None` for all.
    pub with: Option<ConversationName>,
    /// Only messages stored before this time, in milliseconds since 1970. `None` for all; the conversation then ends, so
    /// that the user is a stranger again, and a room that the user left is not known any more.
    pub before: Option<i64>,
}

/// The result of a removal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForgetSummary {
    /// The number of removed messages.
    pub messages: usize,
    /// Bytes returned to the disk.
    pub bytes: u64,
}

/// A message to remove, with the columns that its removal needs.
struct ForgottenRow {
    seq: i64,
    peer: String,
    direction: String,
    id: String,
    at: i64,
}

impl ForgottenRow {
    fn is_of_room(&self) -> bool {
        self.peer.starts_with('#')
    }
}

impl Profile {
    /// Removes messages for good. A node that runs has to be told: until then it offers those of rooms to other members.
    ///
    /// # Errors
    /// [`ProfileError`]; messages removed before the error stay removed. The next call removes their traces.
    pub fn forget(&self, what: &ForgetQuery, now_ms: i64) -> Result<ForgetSummary, ProfileError> {
        let before = self.bytes_on_disk();
        let mut messages = 0;
        loop {
            // The lock is taken anew for each batch, so that a node's writes go between.
            let mut writer = self.writer()?;
            // Only while removing: overwriting would slow down all other deletions for nothing.
            self.db_result(writer.pragma_update(None, "secure_delete", true))?;
            let forgotten = self.db_result(forget_batch(&mut writer, what, now_ms));
            // Off before an error is returned: the connection outlives it.
            self.db_result(writer.pragma_update(None, "secure_delete", false))?;
            let forgotten = forgotten?;
            messages += forgotten;
            if forgotten < BATCH {
                break;
            }
        }
        // Owed by an earlier call as well, which could not do it; another process may have taken note of this one's.
        if messages > 0 || self.setting(RECLAIM_OWED_KEY)?.is_some() {
            // After the last batch: neither VACUUM nor a checkpoint runs within a transaction.
            self.db_result(reclaim_space(&*self.writer()?))?;
            self.set_setting(RECLAIM_OWED_KEY, None)?;
        }
        Ok(ForgetSummary { messages, bytes: before.saturating_sub(self.bytes_on_disk()) })
    }

    /// Returns the number of messages that [`Profile::forget`] would remove.
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

    /// Returns the retention time of the history in milliseconds; `None` keeps everything.
    pub fn history_retention_ms(&self) -> Result<Option<i64>, ProfileError> {
        Ok(self.setting(KEEP_HISTORY_KEY)?.and_then(|text| text.parse().ok()).filter(|kept: &i64| *kept > 0))
    }

    /// Sets the retention time of the history.
    pub fn set_history_retention_ms(&self, kept_ms: Option<i64>) -> Result<(), ProfileError> {
        self.set_setting(KEEP_HISTORY_KEY, kept_ms.map(|kept| kept.to_string()).as_deref())
    }

    fn bytes_on_disk(&self) -> u64 {
        let path = self.home().join(super::DATABASE_FILE);
        let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        // The log counts as well: until a checkpoint, removed text may lie there.
        size(&path) + size(&path.with_extension("db-wal"))
    }
}

impl ForgetQuery {
    /// Returns the SQL condition with the values of `?1` (conversation, empty for all) and `?2` (time).
    fn sql(&self) -> (&'static str, String, i64) {
        let conditions = "(?1 = '' OR peer = ?1) AND at < ?2 AND seq NOT IN (SELECT seq FROM outbox)
            AND NOT (state = 'waiting' AND void = 0 AND EXISTS (
                SELECT 1 FROM room_message JOIN room ON room.number = room_message.room
                WHERE room_message.seq = message.seq AND room.joined))";
        let with = self.with.as_ref().map(ToString::to_string).unwrap_or_default();
        (conditions, with, self.before.unwrap_or(i64::MAX))
    }

    /// True if the conversation ends.
    const fn is_whole_conversation(&self) -> bool {
        self.with.is_some() && self.before.is_none()
    }
}

/// Removes one batch in a transaction; returns the number of messages.
fn forget_batch(writer: &mut Connection, what: &ForgetQuery, now_ms: i64) -> rusqlite::Result<usize> {
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let rows = select_batch(&transaction, what)?;
    // Before they are deleted: the floors are made from them.
    raise_floors(&transaction, rows.iter().filter(|row| row.is_of_room()).map(|row| row.seq))?;
    delete_messages(&transaction, rows.iter().map(|row| row.seq))?;
    if !rows.is_empty() {
        // A full disk or a kill may keep this call from what follows the last batch.
        transaction.execute(PUT_SETTING, [RECLAIM_OWED_KEY, "1"])?;
    }
    for row in rows.iter().filter(|row| !row.is_of_room()) {
        // An older id would be deleted right away by the statement below.
        if row.at > now_ms.saturating_sub(FORGOTTEN_ID_RETENTION_MS) {
            transaction
                .prepare_cached("INSERT OR IGNORE INTO forgotten (peer, direction, id, at) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![row.peer, row.direction, row.id, row.at])?;
        }
    }
    transaction.execute("DELETE FROM forgotten WHERE at <= ?1", [now_ms.saturating_sub(FORGOTTEN_ID_RETENTION_MS)])?;
    let mut peers: Vec<&str> = rows.iter().filter(|row| !row.is_of_room()).map(|row| row.peer.as_str()).collect();
    peers.sort_unstable();
    peers.dedup();
    for peer in peers {
        recount_conversation(&transaction, peer)?;
    }
    if let (true, Some(with)) = (what.is_whole_conversation(), &what.with) {
        // Rooms first: a conversation whose room is known doesn't end.
        if let Some(room) = with.room() {
            remove_left_rooms(&transaction, room)?;
        }
        end_conversation(&transaction, with)?;
    }
    transaction.commit()?;
    Ok(rows.len())
}

fn select_batch(transaction: &Transaction<'_>, what: &ForgetQuery) -> rusqlite::Result<Vec<ForgottenRow>> {
    let (conditions, peer, before) = what.sql();
    let mut query = transaction.prepare(&format!(
        "SELECT seq, peer, direction, id, at FROM message WHERE {conditions} ORDER BY seq LIMIT ?3"
    ))?;
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let rows = query.query_map(params![peer, before, limit], |row| {
        let (seq, peer, direction) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(ForgottenRow { seq, peer, direction, id: row.get(3)?, at: row.get(4)? })
    })?;
    rows.collect()
}

/// Ends a conversation without messages, unless it is frozen or that of a known room; a stranger's quota then starts anew.
fn end_conversation(transaction: &Transaction<'_>, with: &ConversationName) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM conversation WHERE peer = ?1 AND frozen = 0 AND (muted = 0 OR substr(peer, 1, 1) = '#')
         AND NOT EXISTS (SELECT 1 FROM message WHERE peer = ?1)
         AND NOT EXISTS (SELECT 1 FROM room WHERE '#' || name = ?1)",
        [with.to_string()],
    )?;
    // Who was muted stays so: to forget what somebody wrote is no wish to hear them.
    let stranger = "UPDATE conversation SET accepted = 0, request_count = 0, request_bytes = 0 WHERE peer = ?1
                    AND muted AND frozen = 0 AND NOT EXISTS (SELECT 1 FROM message WHERE peer = ?1)";
    match with {
        ConversationName::Person(user) => transaction.execute(stranger, [user.as_str()]).map(drop),
        ConversationName::Room(_) => Ok(()),
    }
}

/// Returns the free space to the disk and removes traces from the index, the free pages and the log.
fn reclaim_space(writer: &Connection) -> rusqlite::Result<()> {
    writer.pragma_update(None, "secure_delete", true)?;
    // The index's old pages hold the words of removed messages.
    let given_back = optimize(writer);
    writer.pragma_update(None, "secure_delete", false)?;
    given_back?;
    // Truncates as far as no reader uses the log at this moment; the next writer reuses the rest.
    writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn optimize(writer: &Connection) -> rusqlite::Result<()> {
    writer.execute("INSERT INTO message_words (message_words) VALUES ('optimize')", [])?;
    if writer.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))? == INCREMENTAL {
        // The statement returns a row for each page and stops when the rows are not read to the end.
        let mut vacuum = writer.prepare("PRAGMA incremental_vacuum")?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        return Ok(());
    }
    // Made by an old release: the mode takes effect with a full vacuum only, once.
    writer.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    writer.execute_batch("VACUUM")
}

#[cfg(test)]
mod tests {
    use shared::UserName;
    use shared::peer::{ChatMessage, MessageId};

    use super::*;
    use crate::profile::{ConversationStatus, HistoryQuery, StoreOutcome};

    fn message(number: u32, text: &str) -> ChatMessage {
        let id = MessageId::from_bytes(u128::from(number).to_be_bytes());
        ChatMessage { id, ts: 0, text: text.into(), offer: None, send: None }
    }

    fn bob() -> UserName {
        "bob".parse().unwrap()
    }

    fn texts(profile: &Profile) -> Vec<String> {
        let all = profile.history(&HistoryQuery::last(usize::MAX)).unwrap();
        all.into_iter().map(|stored| stored.message.text.into_received()).collect()
    }

    fn with(user: &UserName) -> ForgetQuery {
        ForgetQuery { with: Some(user.into()), before: None }
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
        assert!(sizes.iter().sum::<u64>() < 500_000, "{sizes:?}");
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
    fn what_an_interrupted_removal_left_goes_with_the_next() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let all: Vec<_> = (0..300).map(|no| message(no, &"secretword ".repeat(700))).collect();
        assert!(profile.accept(&bob()).unwrap());
        profile.store_incoming(&bob(), &all, 1).unwrap();
        // As if the first call had been killed behind its last batch.
        forget_batch(&mut profile.writer().unwrap(), &with(&bob()), 2).unwrap();
        let size = || profile.bytes_on_disk();
        let before = size();
        assert_eq!(profile.forget(&with(&bob()), 3).unwrap().messages, 0);
        assert!(size() < 500_000 && before > 2_000_000, "{before} {}", size());
        assert_eq!(profile.setting(RECLAIM_OWED_KEY).unwrap(), None);
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
            assert!(
                profile.forget(&ForgetQuery { with: Some(bob().into()), before: Some(9) }, 2).unwrap().bytes
                    > 4_000_000
            );
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
