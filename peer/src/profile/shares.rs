//! What this profile offers, and the hashes that were computed for it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Params, Row, params};
use shared::content::Manifest;
use shared::{ContentHash, FileName, Layout, ZeroRuns};

use super::{Profile, ProfileError};
use crate::sys::{FileId, VersionChange};

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
    /// Its groups that hold nothing but zeros, as far as they are known.
    pub zeros: ZeroRuns,
}

/// What was computed for one version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHash {
    /// Which version.
    pub id: FileId,
    /// BLAKE3 of its content.
    pub hash: ContentHash,
    /// The chaining values of its groups.
    pub manifest: Manifest,
    /// Its groups that hold nothing but zeros.
    pub zeros: ZeroRuns,
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

pub(super) const COLUMNS: &str = "name, path, size, mtime_ns, inode, executable, hash, ctime_ns, zeros";

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
                "INSERT OR REPLACE INTO share (name, path, size, mtime_ns, inode, executable, hash, manifest, ctime_ns, zeros)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
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
                    stored_zeros(&share.zeros),
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

    /// Up to `limit` files that are offered with this content, behind the row `after`, each with its row.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn shares_with_hash(
        &self,
        hash: &ContentHash,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Share)>, ProfileError> {
        let rows: Vec<(i64, RawShare)> = {
            let database = self.database();
            // By row: the index of hashes has them in that order.
            let query =
                format!("SELECT {COLUMNS}, rowid FROM share WHERE hash = ?1 AND rowid > ?2 ORDER BY rowid LIMIT ?3");
            let mut query = self.sql(database.prepare_cached(&query))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows =
                query.query_map(params![hash.as_bytes(), after, limit], |row| Ok((row.get(9)?, RawShare::read(row)?)));
            self.sql(self.sql(rows)?.collect())?
        };
        rows.into_iter().map(|(number, row)| Ok((number, self.checked(row)?))).collect()
    }

    /// What was computed for a file that is offered with this content, if any is.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn manifest(&self, hash: &ContentHash) -> Result<Option<FileHash>, ProfileError> {
        self.one_hash("share WHERE hash = ?1 LIMIT 1", [hash.as_bytes()])
    }

    /// What was computed for this file, under whatever name, unless its content may be another since: what is sent is
    /// compared where anything else of its metadata differs.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn hashed_before(&self, path: &Path, id: FileId) -> Result<Option<FileHash>, ProfileError> {
        let path = path.as_os_str().as_bytes();
        let found = self.one_hash("share WHERE path = ?1 LIMIT 1", [path])?;
        Ok(found.filter(|known| known.id.change_to(&id) != VersionChange::Content))
    }

    /// The files that are offered with this inode, size and modification time, wherever; of many only some.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn shares_like(&self, id: FileId) -> Result<Vec<Share>, ProfileError> {
        let rows: Vec<RawShare> = {
            let database = self.database();
            let query = format!("SELECT {COLUMNS} FROM share WHERE inode = ?1 AND size = ?2 AND mtime_ns = ?3 LIMIT 8");
            let mut query = self.sql(database.prepare_cached(&query))?;
            let rows =
                query.query_map(params![id.inode.cast_signed(), id.size.cast_signed(), id.mtime_ns], RawShare::read);
            self.sql(self.sql(rows)?.collect())?
        };
        rows.into_iter().map(|row| self.checked(row)).collect()
    }

    /// Records these metadata for files whose content turned out to be what was hashed, each by its name and its hash.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn record_versions<'a>(
        &self,
        versions: impl IntoIterator<Item = (&'a FileName, &'a ContentHash, FileId)>,
    ) -> Result<(), ProfileError> {
        let mut writer = self.writer()?;
        let transaction = self.sql(writer.transaction())?;
        for (name, hash, id) in versions {
            for table in ["share", "offer"] {
                let update = format!(
                    "UPDATE {table} SET mtime_ns = ?1, ctime_ns = ?2, inode = ?3
                     WHERE name = ?4 AND hash = ?5 AND size = ?6"
                );
                let (inode, size) = (id.inode.cast_signed(), id.size.cast_signed());
                let values = params![id.mtime_ns, id.ctime_ns, inode, name.as_str(), hash.as_bytes(), size];
                self.sql(self.sql(transaction.prepare_cached(&update))?.execute(values))?;
            }
        }
        self.sql(transaction.commit())
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

    /// What was computed for a file of a table, which `place` says with its condition.
    pub(super) fn one_hash(&self, place: &str, values: impl Params) -> Result<Option<FileHash>, ProfileError> {
        let row: Option<HashRow> = {
            let database = self.database();
            let query = format!("SELECT size, mtime_ns, ctime_ns, inode, hash, manifest, zeros FROM {place}");
            let mut query = self.sql(database.prepare_cached(&query))?;
            let row = query.query_row(values, |row| {
                let id = FileId {
                    size: row.get::<_, i64>(0)?.cast_unsigned(),
                    mtime_ns: row.get(1)?,
                    ctime_ns: row.get(2)?,
                    inode: row.get::<_, i64>(3)?.cast_unsigned(),
                };
                Ok((id, row.get(4)?, row.get(5)?, row.get(6)?))
            });
            self.sql(row.optional())?
        };
        let Some((id, hash, manifest, zeros)) = row else { return Ok(None) };
        let hash = ContentHash::from_bytes(hash);
        let damaged = || self.damaged(format!("the manifest of {hash}"));
        let layout = Layout::of(id.size).ok_or_else(damaged)?;
        let manifest = Manifest::from_bytes(&layout, &manifest).ok_or_else(damaged)?;
        Ok(Some(FileHash { id, hash, manifest, zeros: read_zeros(&layout, zeros.as_deref()) }))
    }

    pub(super) fn checked(&self, row: RawShare) -> Result<Share, ProfileError> {
        let damaged = |what: &str| self.damaged(format!("the share {:?} ({what})", row.name));
        let layout = Layout::of(row.id.size).ok_or_else(|| damaged("size"))?;
        Ok(Share {
            zeros: read_zeros(&layout, row.zeros.as_deref()),
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
    zeros: Option<Vec<u8>>,
}

/// A version, its hash, its manifest, and its groups of zeros.
type HashRow = (FileId, [u8; 32], Vec<u8>, Option<Vec<u8>>);

/// Nothing for the many files that have none.
pub(super) fn stored_zeros(zeros: &ZeroRuns) -> Option<Vec<u8>> {
    Some(zeros.to_bytes()).filter(|bytes| !bytes.is_empty())
}

/// They only save work: what can't be read is none.
fn read_zeros(layout: &Layout, bytes: Option<&[u8]>) -> ZeroRuns {
    bytes.and_then(|bytes| ZeroRuns::from_bytes(layout, bytes)).unwrap_or_default()
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
            zeros: row.get(8)?,
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
            zeros: ZeroRuns::default(),
        };
        HashedShare { share, manifest: Manifest::new(vec![layout.value_of(0, b"abc")]) }
    }

    #[test]
    fn groups_of_zeros_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let mut hashed = share("image");
        hashed.share.id.size = 5 << 20;
        hashed.share.zeros = ZeroRuns::of([0, 1, 4]);
        hashed.manifest = Manifest::new(vec![[1; 32]; 5]);
        profile.put_shares(std::slice::from_ref(&hashed)).unwrap();
        let Share { name, hash, zeros, .. } = &hashed.share;
        assert_eq!(profile.share(name).unwrap().unwrap(), hashed.share);
        assert_eq!(&profile.manifest(hash).unwrap().unwrap().zeros, zeros);
        let bob = "bob".parse().unwrap();
        profile.put_offer(&bob, &hashed).unwrap();
        assert_eq!(profile.offer(&bob, name).unwrap().unwrap(), hashed.share);
        assert_eq!(&profile.offered_manifest(&bob, hash).unwrap().unwrap().zeros, zeros);
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
        let found = profile.shares_with_hash(&all[2].hash, 0, 9).unwrap();
        assert_eq!(found.iter().map(|(_, share)| share).collect::<Vec<_>>(), [&all[2]]);
        assert_eq!(profile.shares_with_hash(&all[2].hash, found[0].0, 9).unwrap(), []);
        assert_eq!(profile.manifest(&all[2].hash).unwrap().unwrap().manifest, hashed[2].manifest);
        let recorded = FileHash {
            id: all[3].id,
            hash: all[3].hash,
            manifest: hashed[3].manifest.clone(),
            zeros: ZeroRuns::default(),
        };
        // A new mode or a new inode is no new content.
        for same in [all[3].id, FileId { ctime_ns: 8, inode: 1, ..all[3].id }] {
            assert_eq!(profile.hashed_before(&all[3].path, same).unwrap().as_ref(), Some(&recorded));
        }
        for newer in [FileId { mtime_ns: -4, ..all[3].id }, FileId { size: 4, ..all[3].id }] {
            assert_eq!(profile.hashed_before(&all[3].path, newer).unwrap(), None);
        }
        assert_eq!(profile.shares_like(all[3].id).unwrap().len(), 5);
        assert_eq!(profile.shares_like(FileId { inode: 1, ..all[3].id }).unwrap(), []);

        let now = FileId { mtime_ns: 1, ctime_ns: 9, inode: 5, ..all[3].id };
        profile.record_versions([(&all[3].name, &all[3].hash, now), (&all[2].name, &all[3].hash, now)]).unwrap();
        let ids = [3, 2].map(|no: usize| profile.share(&all[no].name).unwrap().unwrap().id);
        assert_eq!(ids, [now, all[2].id], "one of them has another content by now");
        profile.record_versions([(&all[3].name, &all[3].hash, all[3].id)]).unwrap();

        let page = profile.shares_page("a_", "", 1).unwrap();
        assert_eq!((page.shares[0].name.as_str(), page.more), ("a_c/d", true));
        let page = profile.shares_page("a_", "a_c/d", 1).unwrap();
        assert_eq!((page.shares[0].name.as_str(), page.more), ("a_c/é", false));
        assert_eq!(profile.shares_page("", "", 99).unwrap().shares.len(), 5);
        assert_eq!(profile.remove_shares([&all[0].name, &all[0].name]).unwrap(), 1);
    }
}
