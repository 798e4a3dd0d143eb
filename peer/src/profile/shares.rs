//! What this profile offers, and the hashes that were computed for it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Row, params};
use shared::content::Manifest;
use shared::{ContentHash, FileName, Layout};

use super::{Profile, ProfileError};
use crate::sys::FileId;

/// A file that is offered under a name, as it was when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The name it is offered under.
    pub name: FileName,
    /// Where it is, absolute.
    pub path: PathBuf,
    /// Which version of it was hashed.
    pub id: FileId,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// BLAKE3 of its content.
    pub hash: ContentHash,
}

/// A share as it comes from being hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedShare {
    /// The share.
    pub share: Share,
    /// The chaining values of its groups.
    pub manifest: Manifest,
}

/// Some shares in the order of their names.
#[derive(Debug)]
pub struct SharePage {
    /// The shares.
    pub shares: Vec<Share>,
    /// Whether there are more behind the last.
    pub more: bool,
}

pub(super) const COLUMNS: &str = "name, path, size, mtime_ns, inode, executable, hash, ctime_ns";

impl Profile {
    /// Offers these files, each in place of what had its name before; all or none.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn put_shares(&self, shares: &[HashedShare]) -> Result<(), ProfileError> {
        let mut writer = self.writer()?;
        let transaction = self.sql(writer.transaction())?;
        {
            let mut insert = self.sql(transaction.prepare_cached(
                "INSERT OR REPLACE INTO share (name, path, size, mtime_ns, inode, executable, hash, manifest, ctime_ns)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            ))?;
            for HashedShare { share, manifest } in shares {
                self.sql(insert.execute(params![
                    share.name.as_str(),
                    share.path.as_os_str().as_bytes(),
                    share.id.size.cast_signed(),
                    share.id.mtime_ns,
                    share.id.inode.cast_signed(),
                    share.executable,
                    share.hash.as_bytes(),
                    manifest.as_bytes(),
                    share.id.ctime_ns,
                ]))?;
            }
        }
        self.sql(transaction.commit())
    }

    /// Offers no longer what has one of these names; tells how many there were.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn remove_shares<'a>(&self, names: impl IntoIterator<Item = &'a FileName>) -> Result<usize, ProfileError> {
        let mut writer = self.writer()?;
        let transaction = self.sql(writer.transaction())?;
        let mut removed = 0;
        for name in names {
            removed += self.sql(transaction.execute("DELETE FROM share WHERE name = ?1", [name.as_str()]))?;
        }
        self.sql(transaction.commit())?;
        Ok(removed)
    }

    /// What is offered under this name.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn share(&self, name: &FileName) -> Result<Option<Share>, ProfileError> {
        self.one_share("name = ?1", name.as_str())
    }

    /// The files that are offered with this content; of many only some.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn shares_with_hash(&self, hash: &ContentHash) -> Result<Vec<Share>, ProfileError> {
        let rows: Vec<RawShare> = {
            let database = self.database();
            let query = format!("SELECT {COLUMNS} FROM share WHERE hash = ?1 LIMIT 16");
            let mut query = self.sql(database.prepare_cached(&query))?;
            let rows = query.query_map([hash.as_bytes()], RawShare::read);
            self.sql(self.sql(rows)?.collect())?
        };
        rows.into_iter().map(|row| self.checked(row)).collect()
    }

    /// The layout and the manifest of a file that is offered with this content, if any is.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn manifest(&self, hash: &ContentHash) -> Result<Option<(Layout, Manifest)>, ProfileError> {
        self.one_manifest("hash = ?1 LIMIT 1", hash.as_bytes())
            .map(|found| found.map(|(layout, _, manifest)| (layout, manifest)))
    }

    /// What was computed for this version of this file, under whatever name.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn hashed_before(&self, path: &Path, id: FileId) -> Result<Option<(ContentHash, Manifest)>, ProfileError> {
        let path = path.as_os_str().as_bytes();
        let share = self.one_share("path = ?1 LIMIT 1", path)?.filter(|share| share.id == id);
        let Some(share) = share else { return Ok(None) };
        let found = self.one_manifest("path = ?1 LIMIT 1", path)?;
        Ok(found.filter(|(_, hash, _)| *hash == share.hash).map(|(_, hash, manifest)| (hash, manifest)))
    }

    /// Up to `limit` shares whose names start with `prefix` and come after `after`.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn shares_page(&self, prefix: &str, after: &str, limit: usize) -> Result<SharePage, ProfileError> {
        let database = self.database();
        let mut query = self.sql(database.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM share
             WHERE name > ?2 AND name >= ?1 AND name < ?1 || char(1114111) ORDER BY name LIMIT ?3"
        )))?;
        let limit_and_one = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        let rows = query.query_map(params![prefix, after, limit_and_one], RawShare::read);
        let rows: Vec<RawShare> = self.sql(self.sql(rows)?.collect())?;
        let more = rows.len() > limit;
        let shares = rows.into_iter().take(limit).map(|row| self.checked(row)).collect::<Result<_, _>>()?;
        Ok(SharePage { shares, more })
    }

    /// How many files are offered.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn share_count(&self) -> Result<usize, ProfileError> {
        let count = self.database().query_row("SELECT count(*) FROM share", [], |row| row.get::<_, i64>(0));
        self.sql(count).map(|count| usize::try_from(count).unwrap_or(0))
    }

    fn one_share(&self, condition: &str, value: impl rusqlite::ToSql) -> Result<Option<Share>, ProfileError> {
        let row = {
            let database = self.database();
            let mut query =
                self.sql(database.prepare_cached(&format!("SELECT {COLUMNS} FROM share WHERE {condition}")))?;
            let row = query.query_row([value], RawShare::read);
            self.sql(row.optional())?
        };
        row.map(|row| self.checked(row)).transpose()
    }

    fn one_manifest(
        &self,
        condition: &str,
        value: impl rusqlite::ToSql,
    ) -> Result<Option<(Layout, ContentHash, Manifest)>, ProfileError> {
        let row: Option<(i64, [u8; 32], Vec<u8>)> = {
            let database = self.database();
            let query = format!("SELECT size, hash, manifest FROM share WHERE {condition}");
            let mut query = self.sql(database.prepare_cached(&query))?;
            let row = query.query_row([value], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
            self.sql(row.optional())?
        };
        let Some((size, hash, manifest)) = row else { return Ok(None) };
        let hash = ContentHash::from_bytes(hash);
        let damaged = || self.damaged(format!("the manifest of {hash}"));
        let layout = Layout::of(size.cast_unsigned()).ok_or_else(damaged)?;
        let manifest = Manifest::from_bytes(&layout, &manifest).ok_or_else(damaged)?;
        Ok(Some((layout, hash, manifest)))
    }

    pub(super) fn checked(&self, row: RawShare) -> Result<Share, ProfileError> {
        let damaged = |what: &str| self.damaged(format!("the share {:?} ({what})", row.name));
        Layout::of(row.id.size).ok_or_else(|| damaged("size"))?;
        Ok(Share {
            name: row.name.parse().map_err(|_| damaged("name"))?,
            path: row.path,
            id: row.id,
            executable: row.executable,
            hash: ContentHash::from_bytes(row.hash),
        })
    }
}

pub(super) struct RawShare {
    name: String,
    path: PathBuf,
    id: FileId,
    executable: bool,
    hash: [u8; 32],
}

impl RawShare {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let path: Vec<u8> = row.get(1)?;
        Ok(Self {
            name: row.get(0)?,
            path: PathBuf::from(OsStr::from_bytes(&path)),
            id: FileId {
                size: row.get::<_, i64>(2)?.cast_unsigned(),
                mtime_ns: row.get(3)?,
                ctime_ns: row.get(7)?,
                inode: row.get::<_, i64>(4)?.cast_unsigned(),
            },
            executable: row.get(5)?,
            hash: row.get(6)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(name: &str) -> HashedShare {
        let layout = Layout::of(3).unwrap();
        let share = Share {
            name: name.parse().unwrap(),
            path: format!("/data/{name}").into(),
            id: FileId { size: 3, mtime_ns: -5, ctime_ns: 7, inode: u64::MAX },
            executable: name == "b",
            hash: ContentHash::of(name.as_bytes()),
        };
        HashedShare { share, manifest: Manifest::new(vec![layout.value_of(0, b"abc")]) }
    }

    #[test]
    fn shares_are_found_by_name_hash_and_path() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let hashed = ["a%b", "a_c/é", "a_c/d", "ab", "b"].map(share);
        profile.put_shares(&hashed).unwrap();
        profile.put_shares(&hashed[..1]).unwrap();
        let all = hashed.clone().map(|hashed| hashed.share);
        assert_eq!(profile.share_count().unwrap(), 5);
        assert_eq!(profile.share(&all[1].name).unwrap().as_ref(), Some(&all[1]));
        assert_eq!(profile.shares_with_hash(&all[2].hash).unwrap(), [all[2].clone()]);
        assert_eq!(profile.manifest(&all[2].hash).unwrap().unwrap().1, hashed[2].manifest);
        let known = profile.hashed_before(&all[3].path, all[3].id).unwrap();
        assert_eq!(known, Some((all[3].hash, hashed[3].manifest.clone())));
        for newer in [FileId { mtime_ns: -4, ..all[3].id }, FileId { ctime_ns: 8, ..all[3].id }] {
            assert_eq!(profile.hashed_before(&all[3].path, newer).unwrap(), None);
        }

        let page = profile.shares_page("a_", "", 1).unwrap();
        assert_eq!((page.shares[0].name.as_str(), page.more), ("a_c/d", true));
        let page = profile.shares_page("a_", "a_c/d", 1).unwrap();
        assert_eq!((page.shares[0].name.as_str(), page.more), ("a_c/é", false));
        assert_eq!(profile.shares_page("", "", 99).unwrap().shares.len(), 5);
        assert_eq!(profile.remove_shares([&all[0].name, &all[0].name]).unwrap(), 1);
    }
}
