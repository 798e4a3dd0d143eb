//! The folders of what this profile offers: their times, and which of them have nothing in them.

use rusqlite::params;
use shared::FileName;

use super::{Profile, ProfileError};

/// A folder of which something is offered, or which is itself all that there is to offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFolder {
    /// The name it is offered under.
    pub name: FileName,
    /// Last modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// No name of a file or of another folder tells of it.
    pub is_empty: bool,
}

impl Profile {
    /// Remembers these folders as they are now.
    ///
    /// # Errors
    /// [`ProfileError`].
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

    /// Forgets `folder` and those below it; tells how many of them had nothing in them.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn remove_folders(&self, folder: &str) -> Result<usize, ProfileError> {
        let below = format!("{folder}/");
        let writer = self.writer()?;
        let mut remove = self.db_result(writer.prepare_cached(
            "DELETE FROM folder WHERE name = ?1 OR substr(name, 1, length(?2)) = ?2 RETURNING empty",
        ))?;
        let removed = remove.query_map([folder, below.as_str()], |row| row.get::<_, bool>(0));
        let removed: Vec<bool> = self.db_result(self.db_result(removed)?.collect())?;
        Ok(removed.into_iter().filter(|empty| *empty).count())
    }

    /// Up to `limit` folders with nothing in them whose names start with `prefix` and come after `after`.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn empty_folders_page(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<FileName>, ProfileError> {
        let found = self.folders_page("empty", prefix, after, limit)?;
        Ok(found.into_iter().map(|(name, _)| name).collect())
    }

    /// Up to `limit` folders whose times are known, whose names start with `prefix` and come after `after`; with their
    /// last modification, nanoseconds since 1970.
    ///
    /// # Errors
    /// [`ProfileError`].
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
