//! Folders of the shares: their modification times, and the empty ones.

use rusqlite::params;
use shared::FileName;

use super::{Profile, ProfileError};

/// The condition for the folder `?1` and those below it: `substr` instead of LIKE, as names may hold `%` and `_`.
const AT_OR_BELOW: &str = "name = ?1 OR substr(name, 1, length(?1) + 1) = ?1 || '/'";

/// A folder with shared files, or an empty one that is shared itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFolder {
    /// The shared name.
    pub name: FileName,
    /// The modification time, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// True if no shared file or folder lies in it, so that its own entry is the only trace of it.
    pub is_empty: bool,
}

impl Profile {
    /// Stores these folders as they are now.
    pub fn put_folders(&self, folders: &[SharedFolder]) -> Result<(), ProfileError> {
        let mut writer = self.writer()?;
        let transaction = self.db_result(writer.transaction())?;
        for SharedFolder { name, mtime_ns, is_empty: empty } in folders {
            let mut put =
                self.db_result(transaction.prepare_cached("INSERT OR REPLACE INTO folder VALUES (?1, ?2, ?3)"))?;
            self.db_result(put.execute(params![name.as_str(), mtime_ns, empty]))?;
        }
        self.db_result(transaction.commit())
    }

    /// Returns true if `folder` or one below it is empty.
    pub fn has_empty_folder(&self, folder: &str) -> Result<bool, ProfileError> {
        let database = self.reader();
        let query = format!("SELECT 1 FROM folder WHERE empty AND ({AT_OR_BELOW})");
        let mut query = self.db_result(database.prepare_cached(&query))?;
        self.db_result(query.exists([folder]))
    }

    /// Removes `folder` and those below it.
    pub fn remove_folders(&self, folder: &str) -> Result<(), ProfileError> {
        let writer = self.writer()?;
        let mut remove = self.db_result(writer.prepare_cached(&format!("DELETE FROM folder WHERE {AT_OR_BELOW}")))?;
        self.db_result(remove.execute([folder]).map(|_| ()))
    }

    /// Returns up to `limit` empty folders whose names start with `prefix` and follow `after`.
    pub fn empty_folders_page(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<FileName>, ProfileError> {
        let found = self.folders_page("empty", prefix, after, limit)?;
        Ok(found.into_iter().map(|(name, _)| name).collect())
    }

    /// Returns up to `limit` folders with known times whose names start with `prefix` and follow `after`, with their
    /// modification times in nanoseconds since 1970.
    pub fn folder_times_page(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(FileName, i64)>, ProfileError> {
        let found = self.folders_page("mtime_ns IS NOT NULL", prefix, after, limit)?;
        Ok(found.into_iter().map(|(name, time)| (name, time.unwrap_or_default())).collect())
    }

    fn folders_page(
        &self,
        condition: &'static str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(FileName, Option<i64>)>, ProfileError> {
        let database = self.reader();
        // All names with the prefix sort below the prefix followed by U+10FFFF, the last code point.
        let mut query = self.db_result(database.prepare_cached(&format!(
            "SELECT name, mtime_ns FROM folder
             WHERE name > ?2 AND name >= ?1 AND name < ?1 || char(1114111) AND {condition} ORDER BY name LIMIT ?3",
        )))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = query.query_map(params![prefix, after, limit], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
        let rows: Vec<(String, Option<i64>)> = self.db_result(self.db_result(rows)?.collect())?;
        let named = |(name, time): (String, _)| match name.parse() {
            Ok(name) => Ok((name, time)),
            Err(_) => Err(self.damaged_error(format!("the folder {name:?}"))),
        };
        rows.into_iter().map(named).collect()
    }
}
