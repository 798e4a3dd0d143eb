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

use super::messages::FLOOR;
use super::{PUT_SETTING, Profile, ProfileError};

/// Messages that are forgotten with one write to the disk: others have their turn in between.
const BATCH: usize = 500;
/// How long the id of a message that was forgotten is kept after the message was stored, in milliseconds.
const IDS_KEPT_MS: i64 = 180 * 24 * 3600 * 1000;
/// The setting that says how long history is kept, in milliseconds.
const KEEP: &str = "keep_history_ms";
/// The number by which SQLite says that a database gives room back piece by piece.
const INCREMENTAL: i64 = 2;

/// Messages to forget. What waits to be delivered is no history yet, and stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forget {
    /// Those of the conversation with this person; of all when there is nobody.
    pub with: Option<UserName>,
    /// Those that were stored before this time, milliseconds since 1970; of any time when there is none, and then the
    /// person is one with whom there was no conversation.
    pub before: Option<i64>,
}

/// What was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many messages.
    pub messages: usize,
    /// Bytes of the disk that were given back.
    pub bytes: u64,
}

/// A message that is to be forgotten.
struct Row {
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
    pub fn forget(&self, what: &Forget, now_ms: i64) -> Result<Forgotten, ProfileError> {
        let before = self.bytes_on_disk();
        let mut messages = 0;
        loop {
            // Taken anew for each batch: a node's own writes go between.
            let mut writer = self.writer()?;
            self.sql(writer.pragma_update(None, "secure_delete", true))?;
            let forgotten = self.sql(forget_some(&mut writer, what, now_ms));
            self.sql(writer.pragma_update(None, "secure_delete", false))?;
            let forgotten = forgotten?;
            messages += forgotten;
            if forgotten < BATCH {
                break;
            }
        }
        if messages > 0 {
            self.sql(give_back(&*self.writer()?))?;
        }
        Ok(Forgotten { messages, bytes: before.saturating_sub(self.bytes_on_disk()) })
    }

    /// Counts what [`Profile::forget`] would forget.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn count_forgettable(&self, what: &Forget) -> Result<usize, ProfileError> {
        let (conditions, peer, before) = what.sql();
        let ledger = self.ledger()?;
        let count = ledger.query_row(
            &format!("SELECT count(*) FROM message WHERE {conditions}"),
            params![peer, before],
            |row| row.get::<_, i64>(0),
        );
        self.sql(count).map(|count| usize::try_from(count).unwrap_or(0))
    }

    /// Returns how long history is kept, milliseconds; `None`: for ever.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn keeps_history(&self) -> Result<Option<i64>, ProfileError> {
        Ok(self.setting(KEEP)?.and_then(|text| text.parse().ok()).filter(|kept: &i64| *kept > 0))
    }

    /// Records how long history is kept.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn set_keeps_history(&self, kept_ms: Option<i64>) -> Result<(), ProfileError> {
        self.set_setting(KEEP, kept_ms.map(|kept| kept.to_string()).as_deref())
    }

    fn bytes_on_disk(&self) -> u64 {
        let path = self.home().join(super::DATABASE);
        let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        size(&path) + size(&path.with_extension("db-wal"))
    }
}

impl Forget {
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
fn forget_some(writer: &mut Connection, what: &Forget, now_ms: i64) -> rusqlite::Result<usize> {
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let rows = some_of(&transaction, what)?;
    for row in &rows {
        // The index of words holds no text of its own: it has to be told what it knew.
        transaction
            .prepare_cached("INSERT INTO message_words (message_words, rowid, text) VALUES ('delete', ?1, ?2)")?
            .execute(params![row.seq, row.text])?;
        transaction.prepare_cached("DELETE FROM message WHERE seq = ?1")?.execute([row.seq])?;
        if row.at > now_ms.saturating_sub(IDS_KEPT_MS) {
            transaction
                .prepare_cached("INSERT OR IGNORE INTO forgotten (peer, direction, id, at) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![row.peer, row.direction, row.id, row.at])?;
        }
    }
    transaction.execute("DELETE FROM forgotten WHERE at <= ?1", [now_ms.saturating_sub(IDS_KEPT_MS)])?;
    if let Some(last) = rows.iter().map(|row| row.seq).max() {
        raise_floor(&transaction, last)?;
    }
    let mut peers: Vec<&str> = rows.iter().map(|row| row.peer.as_str()).collect();
    peers.sort_unstable();
    peers.dedup();
    for peer in peers {
        count_again(&transaction, peer)?;
    }
    if let (true, Some(with)) = (what.is_whole_conversation(), &what.with) {
        end_conversation(&transaction, with)?;
    }
    transaction.commit()?;
    Ok(rows.len())
}

fn some_of(transaction: &Transaction<'_>, what: &Forget) -> rusqlite::Result<Vec<Row>> {
    let (conditions, peer, before) = what.sql();
    let mut query = transaction.prepare(&format!(
        "SELECT seq, peer, direction, id, text, at FROM message WHERE {conditions} ORDER BY seq LIMIT ?3"
    ))?;
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let rows = query.query_map(params![peer, before, limit], |row| {
        let (seq, peer, direction) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Row { seq, peer, direction, id: row.get(3)?, text: row.get(4)?, at: row.get(5)? })
    })?;
    rows.collect()
}

/// Whoever reads on from a place would overlook a message that is given the same one.
pub(super) fn raise_floor(transaction: &Transaction<'_>, last: i64) -> rusqlite::Result<()> {
    let floor: Option<String> =
        transaction.query_row("SELECT value FROM setting WHERE key = ?1", [FLOOR], |row| row.get(0)).optional()?;
    let floor = floor.and_then(|text| text.parse().ok()).unwrap_or(0).max(last);
    transaction.execute(PUT_SETTING, [FLOOR, &floor.to_string()]).map(|_| ())
}

/// What is unread, and what is kept of a request, is less now.
fn count_again(transaction: &Transaction<'_>, peer: &str) -> rusqlite::Result<()> {
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
        .execute(params![peer, super::messages::to_i64(shared::limits::REQUEST_MESSAGE_BYTES)])
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
fn give_back(writer: &Connection) -> rusqlite::Result<()> {
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
    use crate::profile::{HistoryQuery, Kept, Standing};

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

    fn with(user: &UserName) -> Forget {
        Forget { with: Some(user.clone()), before: None }
    }

    #[test]
    fn what_is_forgotten_is_gone_from_the_disk() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let carol: UserName = "carol".parse().unwrap();
        assert!([bob(), carol.clone()].iter().all(|user| profile.accept(user).unwrap()));
        let all: Vec<_> =
            (0..900).map(|no| message(no, &format!("xylophone{no} {}", "secretword ".repeat(700)))).collect();
        profile.store_theirs(&bob(), &all, 1).unwrap();
        profile.store_theirs(&carol, &[message(1, "carols own words")], 1).unwrap();
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
        profile.check(std::time::Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn what_is_delivered_again_is_not_new() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let (one, two) = (message(1, "one"), message(2, "two"));
        assert_eq!(profile.store_theirs(&bob(), std::slice::from_ref(&one), 5).unwrap(), [Kept::New(1)]);
        profile.store_ours(&bob(), &two, 5).unwrap();
        profile.settle(&bob(), &[(two.id, crate::profile::MessageState::Stored)]).unwrap();
        assert_eq!(profile.standing(&bob()).unwrap(), Standing::Accepted);
        assert_eq!(profile.forget(&with(&bob()), 6).unwrap().messages, 2);
        assert_eq!(profile.standing(&bob()).unwrap(), Standing::Request(0), "a stranger again");
        assert_eq!(
            profile.store_theirs(&bob(), &[one.clone(), message(3, "three")], 7).unwrap(),
            [Kept::Before, Kept::New(3)]
        );
        assert_eq!(profile.store_ours(&bob(), &two, 7).unwrap(), Kept::Before);
        assert_eq!(texts(&profile), ["three"]);
        // Half a year later nobody waits for an acknowledgement any more.
        profile.forget(&with(&bob()), IDS_KEPT_MS + 8).unwrap();
        let left =
            profile.ledger().unwrap().query_row("SELECT count(*) FROM forgotten", [], |row| row.get::<_, i64>(0));
        assert_eq!(left.unwrap(), 0);
    }

    #[test]
    fn what_is_older_goes_and_what_waits_stays() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let mallory: UserName = "mallory".parse().unwrap();
        profile.store_theirs(&mallory, &[message(1, "old"), message(2, "old as well")], 10).unwrap();
        profile.store_theirs(&mallory, &[message(3, "new")], 30).unwrap();
        profile.store_ours(&bob(), &message(4, "it waits"), 10).unwrap();
        let older = Forget { with: None, before: Some(20) };
        assert_eq!(profile.count_forgettable(&older).unwrap(), 2);
        assert_eq!(profile.forget(&older, 40).unwrap().messages, 2);
        assert_eq!(texts(&profile), ["new", "it waits"]);
        assert_eq!(profile.standing(&mallory).unwrap(), Standing::Request(1), "there is room again");
        assert_eq!(profile.unread().unwrap()[0].count, 1);
        assert_eq!(profile.outbox().unwrap().len(), 1);
        assert_eq!(profile.forget(&with(&bob()), 40).unwrap().messages, 0);
        assert_eq!(profile.standing(&bob()).unwrap(), Standing::Accepted);
        // No place is given twice.
        assert_eq!(profile.forget(&with(&mallory), 40).unwrap().messages, 1);
        assert_eq!(profile.store_theirs(&mallory, &[message(5, "newer")], 50).unwrap(), [Kept::New(5)]);
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
            profile.store_theirs(&bob(), &all, 1).unwrap();
            assert!(profile.forget(&Forget { with: Some(bob()), before: Some(9) }, 2).unwrap().bytes > 4_000_000);
            assert!(std::fs::metadata(&path).unwrap().len() < 400_000);
        }
    }

    #[test]
    fn how_long_history_is_kept_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        assert_eq!(profile.keeps_history().unwrap(), None);
        profile.set_keeps_history(Some(5)).unwrap();
        assert_eq!(profile.keeps_history().unwrap(), Some(5));
        profile.set_keeps_history(None).unwrap();
        assert_eq!(profile.keeps_history().unwrap(), None);
    }
}
