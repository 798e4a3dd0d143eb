//! Follows: folders of other users of which copies are kept in step, and the files of each copy as they were put there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use localization::in_english;
use rusqlite::{OptionalExtension, Row, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use shared::{ContentHash, FileName, Fingerprint, UserName, text_enum};

use super::{Profile, ProfileError};
use crate::util::TranslatedText;

text_enum! {
    /// The state of a follow, apart from a pause.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum FollowState {
        /// Its user was not reached yet, or isn't now.
        Waiting = "waiting",
        /// Files are coming.
        Fetching = "fetching",
        /// The copy is as the folder was when it was compared last.
        InStep = "in_step",
        /// Some files could not be fetched or placed.
        Incomplete = "incomplete",
        /// So much was removed that the user is asked; all else goes on.
        NeedsConfirmation = "needs_confirmation",
        /// Something here keeps it from going on.
        Held = "held",
        /// The followed user's key changed: it is over until the user resumes it.
        KeyChanged = "key_changed",
    }
}

text_enum! {
    /// The user's word on a removal that was asked about.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum RemovalConsent {
        /// Not asked for.
        Unasked = "unasked",
        /// The user is asked.
        Asked = "asked",
        /// The user agreed.
        Given = "given",
    }
}

/// A follow that is about to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFollow {
    /// The followed user.
    pub user: UserName,
    /// The user's key; `None` if the user was never met.
    pub fingerprint: Option<Fingerprint>,
    /// The folder's shared name; `None` for all that the user shares.
    pub folder: Option<FileName>,
    /// The folder that holds the copy: absolute, without links.
    pub root: PathBuf,
    /// True if files that the user removed are removed here as well.
    pub deletes: bool,
}

/// A folder of another user of which a copy is kept in step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// Its number in the profile, which no other follow ever had.
    pub number: i64,
    /// What is followed, and where to.
    pub of: NewFollow,
    /// True if the user paused it.
    pub is_paused: bool,
    /// Its state, as the node that runs or ran saw it.
    pub status: FollowStatus,
    /// The time from which recent removals are counted, in milliseconds since 1970.
    pub removals_since: i64,
    /// The number of recent removals.
    pub removals: usize,
}

/// The state of a follow in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowStatus {
    /// The state.
    pub state: FollowState,
    /// Files that come, that failed, or that are to be removed.
    pub count: usize,
    /// The reason of a state that isn't well; else empty. The record has it in English.
    pub why: TranslatedText,
    /// The time of the last comparison after which the copy was in step, in milliseconds since 1970.
    pub in_step_at: Option<i64>,
}

/// The record of one file of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowRecord {
    /// The file that is there; `None` if none was placed yet.
    pub file: Option<RecordedFile>,
    /// The content that is about to be placed.
    pub pending: Option<ContentHash>,
    /// The user's word on its removal.
    pub consent: RemovalConsent,
}

/// A file of a copy, as it was when it was placed or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedFile {
    /// Its size in bytes.
    pub size: u64,
    /// Its modification time, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Its content hash.
    pub hash: ContentHash,
    /// True if the follow placed it; false if it was there, with the same content.
    pub is_placed: bool,
}

const FOLLOW_COLUMNS: &str = "number, user, fingerprint, folder, root, deletes, is_paused, state, count, why, in_step_at, \
                              removals_since, removals";

/// A row of the table, unchecked.
struct FollowRow {
    number: i64,
    user: String,
    fingerprint: Option<String>,
    folder: String,
    root: Vec<u8>,
    deletes: bool,
    is_paused: bool,
    state: String,
    count: i64,
    why: String,
    in_step_at: Option<i64>,
    removals_since: i64,
    removals: i64,
}

impl FollowRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            user: row.get(1)?,
            fingerprint: row.get(2)?,
            folder: row.get(3)?,
            root: row.get(4)?,
            deletes: row.get(5)?,
            is_paused: row.get(6)?,
            state: row.get(7)?,
            count: row.get(8)?,
            why: row.get(9)?,
            in_step_at: row.get(10)?,
            removals_since: row.get(11)?,
            removals: row.get(12)?,
        })
    }
}

/// A row of a follow's files, unchecked.
type FileRow = (String, Option<i64>, Option<i64>, Option<Vec<u8>>, bool, Option<Vec<u8>>, String);

impl Profile {
    /// Stores a follow, paused, and returns its number.
    pub fn add_follow(&self, follow: &NewFollow) -> Result<i64, ProfileError> {
        let NewFollow { user, fingerprint, folder, root, deletes } = follow;
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            transaction.execute(
                // Paused: whoever begins it watches the node first, or the node's first news of it would be missed.
                "INSERT INTO follow (user, fingerprint, folder, root, deletes, state, is_paused)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)",
                params![
                    user.as_str(),
                    fingerprint.map(|key| key.to_string()),
                    folder.as_ref().map_or("", FileName::as_str),
                    root.as_os_str().as_bytes(),
                    deletes,
                    FollowState::Waiting.as_str(),
                ],
            )?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Returns all follows in the order of their numbers.
    pub fn follows(&self) -> Result<Vec<Follow>, ProfileError> {
        // The condition names ?1 all the same: rusqlite refuses a value that the statement doesn't use.
        self.follows_where("?1 IS NULL", None)
    }

    /// Returns the follow of this number.
    pub fn follow(&self, number: i64) -> Result<Option<Follow>, ProfileError> {
        Ok(self.follows_where("number = ?1", Some(number))?.pop())
    }

    /// Removes a follow and the records of its files; false if there was none. The files stay.
    pub fn remove_follow(&self, number: i64) -> Result<bool, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            transaction.execute("DELETE FROM follow_file WHERE follow = ?1", [number])?;
            Ok(transaction.execute("DELETE FROM follow WHERE number = ?1", [number])? > 0)
        })
    }

    /// Pauses a follow, or has it go on.
    pub fn set_follow_paused(&self, number: i64, is_paused: bool) -> Result<(), ProfileError> {
        self.update_follow("UPDATE follow SET is_paused = ?2 WHERE number = ?1", params![number, is_paused])
    }

    /// Sets whether files that the followed user removed are removed here as well.
    pub fn set_follow_deletes(&self, number: i64, deletes: bool) -> Result<(), ProfileError> {
        self.update_follow("UPDATE follow SET deletes = ?2 WHERE number = ?1", params![number, deletes])
    }

    /// Sets the key with which alone a follow goes on.
    pub fn set_follow_key(&self, number: i64, key: &Fingerprint) -> Result<(), ProfileError> {
        let values = params![number, key.to_string()];
        self.update_follow("UPDATE follow SET fingerprint = ?2 WHERE number = ?1", values)
    }

    /// Sets the name of the followed folder: its user spells it so.
    pub fn set_follow_folder(&self, number: i64, folder: &FileName) -> Result<(), ProfileError> {
        let values = params![number, folder.as_str()];
        self.update_follow("UPDATE follow SET folder = ?2 WHERE number = ?1", values)
    }

    /// Records the state of a follow.
    pub fn set_follow_status(&self, number: i64, status: &FollowStatus) -> Result<(), ProfileError> {
        let FollowStatus { state, count, why, in_step_at } = status;
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        // Whoever reads it may run in another language than the node, and translates it then.
        let why = in_english(|| why.to_string());
        self.update_follow(
            "UPDATE follow SET state = ?2, count = ?3, why = ?4, in_step_at = ?5 WHERE number = ?1",
            params![number, state.as_str(), count, why, in_step_at],
        )
    }

    /// Records the number of recent removals, and since when they are counted.
    pub fn set_follow_removals(&self, number: i64, since: i64, removals: usize) -> Result<(), ProfileError> {
        let removals = i64::try_from(removals).unwrap_or(i64::MAX);
        self.update_follow(
            "UPDATE follow SET removals_since = ?2, removals = ?3 WHERE number = ?1",
            params![number, since, removals],
        )
    }

    /// Records that the user agrees to the removals about which was asked; returns their number.
    pub fn confirm_follow_removals(&self, number: i64) -> Result<usize, ProfileError> {
        let [asked, given] = [RemovalConsent::Asked, RemovalConsent::Given].map(RemovalConsent::as_str);
        let changed = self.writer()?.execute(
            "UPDATE follow_file SET consent = ?3 WHERE follow = ?1 AND consent = ?2",
            params![number, asked, given],
        );
        self.db_result(changed)
    }

    /// Returns the names about whose removal the user is asked, in order.
    pub fn asked_follow_removals(&self, number: i64) -> Result<Vec<FileName>, ProfileError> {
        let query = "SELECT name FROM follow_file WHERE follow = ?1 AND consent = ?2 ORDER BY name";
        let asked = RemovalConsent::Asked.as_str();
        let names: Vec<String> = self.query_all(self.reader(), query, params![number, asked], |row| row.get(0))?;
        names.into_iter().map(|name| self.followed_name(&name)).collect()
    }

    /// Returns the records of a follow's files, by their names below the folder.
    pub fn follow_records(&self, number: i64) -> Result<BTreeMap<FileName, FollowRecord>, ProfileError> {
        let query = "SELECT name, size, mtime_ns, hash, is_placed, pending, consent FROM follow_file WHERE follow = ?1";
        let rows: Vec<FileRow> = self.query_all(self.reader(), query, [number], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
        })?;
        rows.into_iter().map(|row| self.checked_record(row)).collect()
    }

    /// Stores or, without a record, removes the records of these files; all or none. Does nothing for a follow that was
    /// removed meanwhile.
    pub fn put_follow_records<'a>(
        &self,
        number: i64,
        records: impl IntoIterator<Item = (&'a FileName, Option<&'a FollowRecord>)>,
    ) -> Result<(), ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let exists = "SELECT 1 FROM follow WHERE number = ?1";
            if transaction.query_row(exists, [number], |_| Ok(())).optional()?.is_none() {
                return Ok(());
            }
            for (name, record) in records {
                let Some(FollowRecord { file, pending, consent }) = record else {
                    let remove = "DELETE FROM follow_file WHERE follow = ?1 AND name = ?2";
                    transaction.prepare_cached(remove)?.execute(params![number, name.as_str()])?;
                    continue;
                };
                let insert = "INSERT OR REPLACE INTO follow_file
                    (follow, name, size, mtime_ns, hash, is_placed, pending, consent)
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
                transaction.prepare_cached(insert)?.execute(params![
                    number,
                    name.as_str(),
                    file.map(|file| file.size.cast_signed()),
                    file.map(|file| file.mtime_ns),
                    file.as_ref().map(|file| file.hash.as_bytes()),
                    file.is_some_and(|file| file.is_placed),
                    pending.as_ref().map(ContentHash::as_bytes),
                    consent.as_str(),
                ])?;
            }
            Ok(())
        })
    }

    /// Removes the records of all files of a follow: it begins anew.
    pub fn clear_follow_records(&self, number: i64) -> Result<(), ProfileError> {
        self.update_follow("DELETE FROM follow_file WHERE follow = ?1", [number])
    }

    fn update_follow(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), ProfileError> {
        let changed = self.writer()?.execute(sql, values);
        self.db_result(changed).map(|_| ())
    }

    fn follows_where(&self, condition: &str, number: Option<i64>) -> Result<Vec<Follow>, ProfileError> {
        let query = format!("SELECT {FOLLOW_COLUMNS} FROM follow WHERE {condition} ORDER BY number");
        let rows = self.query_all(self.reader(), &query, [number], FollowRow::read)?;
        rows.into_iter().map(|row| self.checked_follow(row)).collect()
    }

    fn checked_follow(&self, row: FollowRow) -> Result<Follow, ProfileError> {
        let damaged = || self.damaged_error(format!("the follow {}", row.number));
        let of = NewFollow {
            fingerprint: row.fingerprint.map(|key| key.parse().map_err(|_| damaged())).transpose()?,
            folder: Some(row.folder.as_str())
                .filter(|folder| !folder.is_empty())
                .map(|folder| self.followed_name(folder))
                .transpose()?,
            root: OsStr::from_bytes(&row.root).into(),
            deletes: row.deletes,
            user: self.user_name(&row.user)?,
        };
        let count = |number: i64| usize::try_from(number).unwrap_or(0);
        let status = FollowStatus {
            state: FollowState::from_text(&row.state).ok_or_else(damaged)?,
            count: count(row.count),
            why: row.why.into(),
            in_step_at: row.in_step_at,
        };
        let (number, is_paused, removals_since) = (row.number, row.is_paused, row.removals_since);
        Ok(Follow { number, of, is_paused, status, removals_since, removals: count(row.removals) })
    }

    fn checked_record(&self, row: FileRow) -> Result<(FileName, FollowRecord), ProfileError> {
        let (name, size, mtime_ns, hash, is_placed, pending, consent) = row;
        let damaged = || self.damaged_error(format!("the followed file {name:?}"));
        let parse = |bytes: Vec<u8>| bytes.try_into().map(ContentHash::from_bytes).map_err(|_| damaged());
        let file = match (size, mtime_ns, hash) {
            (Some(size), Some(mtime_ns), Some(hash)) => {
                Some(RecordedFile { size: size.cast_unsigned(), mtime_ns, hash: parse(hash)?, is_placed })
            }
            _ => None,
        };
        let consent = RemovalConsent::from_text(&consent).ok_or_else(damaged)?;
        let record = FollowRecord { file, pending: pending.map(parse).transpose()?, consent };
        Ok((self.followed_name(&name)?, record))
    }

    fn followed_name(&self, name: &str) -> Result<FileName, ProfileError> {
        name.parse().map_err(|_| self.damaged_error(format!("the followed name {name:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(folder: Option<&str>) -> NewFollow {
        NewFollow {
            user: "bob".parse().unwrap(),
            fingerprint: None,
            folder: folder.map(|folder| folder.parse().unwrap()),
            root: OsStr::from_bytes(b"/copy \xff").into(),
            deletes: true,
        }
    }

    #[test]
    fn a_follow_is_stored_changed_and_removed_with_its_files() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let first = profile.add_follow(&new(Some("photos"))).unwrap();
        let second = profile.add_follow(&new(None)).unwrap();
        assert_eq!(profile.follow(first).unwrap().unwrap().of, new(Some("photos")));
        let key = Fingerprint::from_bytes([7; 32]);
        profile.set_follow_key(second, &key).unwrap();
        assert!(
            profile.follow(first).unwrap().unwrap().is_paused,
            "a node that runs must not begin it before its caller"
        );
        profile.set_follow_paused(first, false).unwrap();
        let status =
            FollowStatus { state: FollowState::Incomplete, count: 3, why: "disk full".into(), in_step_at: Some(9) };
        profile.set_follow_status(second, &status).unwrap();
        profile.set_follow_removals(second, 5, 6).unwrap();
        let stored = profile.follow(second).unwrap().unwrap();
        assert_eq!((stored.of.fingerprint, stored.is_paused, stored.status), (Some(key), true, status));
        assert_eq!((stored.removals_since, stored.removals, stored.of.folder), (5, 6, None));
        let hash = ContentHash::of(b"x");
        let file = RecordedFile { size: 1, mtime_ns: -5, hash, is_placed: true };
        let records: Vec<(FileName, FollowRecord)> = [
            ("a", FollowRecord { file: Some(file), pending: None, consent: RemovalConsent::Asked }),
            ("b/c", FollowRecord { file: None, pending: Some(hash), consent: RemovalConsent::Unasked }),
        ]
        .map(|(name, record)| (name.parse().unwrap(), record))
        .into();
        profile.put_follow_records(first, records.iter().map(|(name, record)| (name, Some(record)))).unwrap();
        assert_eq!(profile.follow_records(first).unwrap(), records.iter().cloned().collect());
        assert!(profile.follow_records(second).unwrap().is_empty());
        assert_eq!(profile.asked_follow_removals(first).unwrap(), [records[0].0.clone()]);
        assert_eq!(profile.confirm_follow_removals(first).unwrap(), 1);
        assert_eq!(profile.confirm_follow_removals(first).unwrap(), 0);
        profile.put_follow_records(first, [(&records[0].0, None)]).unwrap();
        assert_eq!(profile.follow_records(first).unwrap().len(), 1);
        assert!(profile.remove_follow(first).unwrap() && !profile.remove_follow(first).unwrap());
        profile.put_follow_records(first, records.iter().map(|(name, record)| (name, Some(record)))).unwrap();
        assert!(profile.follow_records(first).unwrap().is_empty(), "nothing comes back");
        assert_eq!(profile.add_follow(&new(Some("other"))).unwrap(), second + 1);
    }
}
