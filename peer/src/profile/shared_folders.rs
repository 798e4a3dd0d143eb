//! Folders of the shares: their modification times, and the empty ones. As a share, a folder has an audience.

use std::collections::BTreeMap;

use rusqlite::{TransactionBehavior, params};
use shared::FileName;

use super::share_roots::AT_OR_BELOW;
use super::share_store::NAME_RANGE;
use super::sql_integer::sql_integer;
use super::{Audience, Profile, ProfileError};

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
    /// Stores these folders of an audience as they are now.
    pub fn put_folders(&self, audience: &Audience, folders: &[SharedFolder]) -> Result<(), ProfileError> {
        self.replace_folders(audience, [], folders)
    }

    /// Replaces the folders at and below each of these names by others, all or none.
    pub fn replace_folders<'a>(
        &self,
        audience: &Audience,
        names: impl IntoIterator<Item = &'a str>,
        folders: &[SharedFolder],
    ) -> Result<(), ProfileError> {
        let audience = audience.to_string();
        // Deferred suffices where the first statement writes: no read lock has to be upgraded.
        self.in_transaction(TransactionBehavior::Deferred, |transaction| {
            let remove = format!("DELETE FROM folder WHERE {AT_OR_BELOW}");
            for name in names {
                transaction.prepare_cached(&remove)?.execute(params![audience, name])?;
            }
            for SharedFolder { name, mtime_ns, is_empty: empty } in folders {
                let insert = "INSERT OR REPLACE INTO folder (audience, name, mtime_ns, empty) VALUES (?1, ?2, ?3, ?4)";
                transaction.prepare_cached(insert)?.execute(params![audience, name.as_str(), mtime_ns, empty])?;
            }
            Ok(())
        })
    }

    /// Returns true if `folder` or one below it is empty.
    pub fn has_empty_folder(&self, audience: &Audience, folder: &str) -> Result<bool, ProfileError> {
        let database = self.reader();
        let query = format!("SELECT 1 FROM folder WHERE empty AND {AT_OR_BELOW}");
        let mut query = self.db_result(database.prepare_cached(&query))?;
        self.db_result(query.exists(params![audience.to_string(), folder]))
    }

    /// Removes `folder` and those below it.
    pub fn remove_folders(&self, audience: &Audience, folder: &str) -> Result<(), ProfileError> {
        let writer = self.writer()?;
        let mut remove = self.db_result(writer.prepare_cached(&format!("DELETE FROM folder WHERE {AT_OR_BELOW}")))?;
        self.db_result(remove.execute(params![audience.to_string(), folder]).map(|_| ()))
    }

    /// Returns up to `limit` empty folders of these audiences whose names start with `prefix` and follow `after`.
    pub fn empty_folders_page(
        &self,
        audiences: &[Audience],
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<FileName>, ProfileError> {
        let found = self.folders_page("empty", audiences, prefix, after, limit)?;
        Ok(found.into_iter().map(|(name, _)| name).collect())
    }

    /// Returns up to `limit` folders with known times whose names start with `prefix` and follow `after`, with their
    /// modification times in nanoseconds since 1970.
    pub fn folder_times_page(
        &self,
        audiences: &[Audience],
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(FileName, i64)>, ProfileError> {
        let found = self.folders_page("mtime_ns IS NOT NULL", audiences, prefix, after, limit)?;
        Ok(found.into_iter().map(|(name, time)| (name, time.unwrap_or_default())).collect())
    }

    /// Returns a page of folders, each name once: for the first of the audiences that has it.
    fn folders_page(
        &self,
        condition: &'static str,
        audiences: &[Audience],
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(FileName, Option<i64>)>, ProfileError> {
        let mut folders = BTreeMap::new();
        for audience in audiences {
            let values = params![prefix, after, audience.to_string(), sql_integer(limit)];
            let rows: Vec<(String, Option<i64>)> = self.query_all(
                self.reader(),
                &format!(
                    "SELECT name, mtime_ns FROM folder WHERE audience = ?3 AND {NAME_RANGE} AND {condition}
                     ORDER BY name LIMIT ?4",
                ),
                values,
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            // The audiences come most exact first, so the first one that has a name decides.
            for (name, time) in rows {
                folders.entry(name).or_insert(time);
            }
        }
        let named = |(name, time): (String, _)| match name.parse() {
            Ok(name) => Ok((name, time)),
            Err(_) => Err(self.damaged_error(format!("the folder {name:?}"))),
        };
        // Behind the limit, names of some audience may be missing: they are for the next page.
        folders.into_iter().take(limit).map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_belong_to_an_audience() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let (all, bob) = (Audience::Everybody, Audience::Person("bob".parse().unwrap()));
        let folder = |name: &str, mtime_ns, is_empty| SharedFolder { name: name.parse().unwrap(), mtime_ns, is_empty };
        profile.put_folders(&all, &[folder("a", 1, false), folder("a/b", 2, true), folder("c", 3, true)]).unwrap();
        profile.put_folders(&bob, &[folder("a/b", 4, true), folder("b", 5, true)]).unwrap();
        let times = |audiences: &[Audience], after: &str, limit| -> Vec<(String, i64)> {
            let page = profile.folder_times_page(audiences, "", after, limit).unwrap();
            page.into_iter().map(|(name, time)| (name.as_str().to_owned(), time)).collect()
        };
        let named = |folders: &[(&str, i64)]| -> Vec<(String, i64)> {
            folders.iter().map(|(name, time)| ((*name).to_owned(), *time)).collect()
        };
        let both = [bob.clone(), all.clone()];
        assert_eq!(times(&both, "", 9), named(&[("a", 1), ("a/b", 4), ("b", 5), ("c", 3)]));
        assert_eq!(times(&both, "a", 2), named(&[("a/b", 4), ("b", 5)]));
        assert_eq!(times(std::slice::from_ref(&all), "a", 9), named(&[("a/b", 2), ("c", 3)]));
        assert_eq!(profile.empty_folders_page(&both, "a", "", 9).unwrap().len(), 1);
        assert!(profile.has_empty_folder(&bob, "b").unwrap() && !profile.has_empty_folder(&all, "b").unwrap());
        profile.remove_folders(&all, "a").unwrap();
        assert_eq!(times(&both, "", 9), named(&[("a/b", 4), ("b", 5), ("c", 3)]));
    }
}
