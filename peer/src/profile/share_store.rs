//! Shares of the profile, and the hashes computed for them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Params, Row, params};
use shared::content::Manifest;
use shared::{ContentHash, FileName, GroupLayout, ZeroRuns};

use super::{Profile, ProfileError};
use crate::sys::{FileVersion, VersionChange};

/// A file shared under a name, as it was when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The shared name.
    pub name: FileName,
    /// The file's absolute path.
    pub path: PathBuf,
    /// The version that was hashed.
    pub version: FileVersion,
    /// True if its owner may execute it.
    pub executable: bool,
    /// The BLAKE3 hash of the content.
    pub hash: ContentHash,
    /// The groups known to hold only zeros.
    pub zeros: ZeroRuns,
}

/// The result of hashing one version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedFile {
    /// The version that was hashed.
    pub version: FileVersion,
    /// The BLAKE3 hash of the content.
    pub hash: ContentHash,
    /// The chaining values of the groups.
    pub manifest: Manifest,
    /// The groups that hold only zeros.
    pub zeros: ZeroRuns,
}

/// A share with its manifest, as hashing returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedShare {
    /// The share to store.
    pub share: Share,
    /// The chaining values of the groups.
    pub manifest: Manifest,
}

/// A page of shares in the order of their names.
#[derive(Debug)]
pub struct SharePage {
    /// The shares of this page.
    pub shares: Vec<Share>,
    /// True if more follow.
    pub more: bool,
}

pub(super) const SHARE_COLUMNS: &str = "name, path, size, mtime_ns, inode, executable, hash, ctime_ns, zeros";

impl Profile {
    /// Stores shares, each replacing the one of the same name; all or none.
    pub fn put_shares(&self, shares: &[HashedShare]) -> Result<(), ProfileError> {
        let mut writer = self.writer()?;
        // One transaction: every commit waits for the disk.
        let transaction = self.db_result(writer.transaction())?;
        {
            let mut insert = self.db_result(transaction.prepare_cached(
                "INSERT OR REPLACE INTO share (name, path, size, mtime_ns, inode, executable, hash, manifest, ctime_ns, zeros)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            ))?;
            for HashedShare { share, manifest } in shares {
                self.db_result(insert.execute(params![
                    share.name.as_str(),
                    share.path.as_os_str().as_bytes(),
                    // SQLite has no unsigned integers: the bits are kept and cast back when they are read.
                    share.version.size.cast_signed(),
                    share.version.mtime_ns,
                    share.version.inode.cast_signed(),
                    share.executable,
                    share.hash.as_bytes(),
                    manifest.as_bytes(),
                    share.version.ctime_ns,
                    encode_zeros(&share.zeros),
                ]))?;
            }
        }
        self.db_result(transaction.commit())
    }

    /// Removes the shares of these names; returns how many there were.
    pub fn remove_shares<'a>(&self, names: impl IntoIterator<Item = &'a FileName>) -> Result<usize, ProfileError> {
        let mut writer = self.writer()?;
        let transaction = self.db_result(writer.transaction())?;
        let mut removed = 0;
        for name in names {
            removed += self.db_result(transaction.execute("DELETE FROM share WHERE name = ?1", [name.as_str()]))?;
        }
        self.db_result(transaction.commit())?;
        Ok(removed)
    }

    /// Returns the share of this name.
    pub fn share(&self, name: &FileName) -> Result<Option<Share>, ProfileError> {
        self.share_where("name = ?1", name.as_str())
    }

    /// Returns up to `limit` shares with this content hash, after the row `after`, each with its row number.
    pub fn shares_with_hash(
        &self,
        hash: &ContentHash,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Share)>, ProfileError> {
        let rows: Vec<(i64, ShareRow)> = {
            let database = self.reader();
            // Ordered by row, as the index on hashes is: no sorting.
            let query = format!(
                "SELECT {SHARE_COLUMNS}, rowid FROM share WHERE hash = ?1 AND rowid > ?2 ORDER BY rowid LIMIT ?3"
            );
            let mut query = self.db_result(database.prepare_cached(&query))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows =
                query.query_map(params![hash.as_bytes(), after, limit], |row| Ok((row.get(9)?, ShareRow::read(row)?)));
            self.db_result(self.db_result(rows)?.collect())?
        };
        rows.into_iter().map(|(number, row)| Ok((number, self.checked_share(row)?))).collect()
    }

    /// Returns the stored hashes of a share with this content hash.
    pub fn hashed_file(&self, hash: &ContentHash) -> Result<Option<HashedFile>, ProfileError> {
        self.hashed_file_where("share WHERE hash = ?1 LIMIT 1", [hash.as_bytes()])
    }

    /// Returns the stored hashes of a file at this path, under any name, unless its content may have changed since. If
    /// only other metadata differ, the content is compared when it is sent.
    pub fn hashed_file_at(&self, path: &Path, id: FileVersion) -> Result<Option<HashedFile>, ProfileError> {
        let path = path.as_os_str().as_bytes();
        let found = self.hashed_file_where("share WHERE path = ?1 LIMIT 1", [path])?;
        Ok(found.filter(|known| known.version.change_to(&id) != VersionChange::Content))
    }

    /// Returns up to 8 shares with this inode, size and modification time, at any path.
    pub fn shares_with_version(&self, id: FileVersion) -> Result<Vec<Share>, ProfileError> {
        // Collected before the rows are checked, so that the shared connection is free again.
        let rows: Vec<ShareRow> = {
            let database = self.reader();
            let query =
                format!("SELECT {SHARE_COLUMNS} FROM share WHERE inode = ?1 AND size = ?2 AND mtime_ns = ?3 LIMIT 8");
            let mut query = self.db_result(database.prepare_cached(&query))?;
            let rows =
                query.query_map(params![id.inode.cast_signed(), id.size.cast_signed(), id.mtime_ns], ShareRow::read);
            self.db_result(self.db_result(rows)?.collect())?
        };
        rows.into_iter().map(|row| self.checked_share(row)).collect()
    }

    /// Records new metadata of files whose content turned out to be unchanged, each by its name and hash.
    pub fn record_versions<'a>(
        &self,
        versions: impl IntoIterator<Item = (&'a FileName, &'a ContentHash, FileVersion)>,
    ) -> Result<(), ProfileError> {
        let mut writer = self.writer()?;
        let transaction = self.db_result(writer.transaction())?;
        // The hash in the condition leaves a share alone that was replaced in the meantime.
        for (name, hash, id) in versions {
            for table in ["share", "offer"] {
                let update = format!(
                    "UPDATE {table} SET mtime_ns = ?1, ctime_ns = ?2, inode = ?3
                     WHERE name = ?4 AND hash = ?5 AND size = ?6"
                );
                let (inode, size) = (id.inode.cast_signed(), id.size.cast_signed());
                let values = params![id.mtime_ns, id.ctime_ns, inode, name.as_str(), hash.as_bytes(), size];
                self.db_result(self.db_result(transaction.prepare_cached(&update))?.execute(values))?;
            }
        }
        self.db_result(transaction.commit())
    }

    /// Returns up to `limit` shares whose names start with `prefix` and follow `after`.
    pub fn shares_page(&self, prefix: &str, after: &str, limit: usize) -> Result<SharePage, ProfileError> {
        // All names with the prefix sort below the prefix followed by U+10FFFF, the last code point.
        let database = self.reader();
        let mut query = self.db_result(database.prepare_cached(&format!(
            "SELECT {SHARE_COLUMNS} FROM share
             WHERE name > ?2 AND name >= ?1 AND name < ?1 || char(1114111) ORDER BY name LIMIT ?3"
        )))?;
        // One more than asked for tells whether more follow.
        let limit_and_one = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        let rows = query.query_map(params![prefix, after, limit_and_one], ShareRow::read);
        let rows: Vec<ShareRow> = self.db_result(self.db_result(rows)?.collect())?;
        let more = rows.len() > limit;
        let shares = rows.into_iter().take(limit).map(|row| self.checked_share(row)).collect::<Result<_, _>>()?;
        Ok(SharePage { shares, more })
    }

    /// Returns the number of shares.
    pub fn share_count(&self) -> Result<usize, ProfileError> {
        let count = self.reader().query_row("SELECT count(*) FROM share", [], |row| row.get::<_, i64>(0));
        self.db_result(count).map(|count| usize::try_from(count).unwrap_or(0))
    }

    fn share_where(&self, condition: &str, value: impl rusqlite::ToSql) -> Result<Option<Share>, ProfileError> {
        let row = {
            let database = self.reader();
            let mut query = self
                .db_result(database.prepare_cached(&format!("SELECT {SHARE_COLUMNS} FROM share WHERE {condition}")))?;
            let row = query.query_row([value], ShareRow::read);
            self.db_result(row.optional())?
        };
        row.map(|row| self.checked_share(row)).transpose()
    }

    /// Returns the stored hashes of a file in a table; `place` is the table with its condition.
    pub(super) fn hashed_file_where(
        &self,
        place: &str,
        values: impl Params,
    ) -> Result<Option<HashedFile>, ProfileError> {
        let row: Option<HashedFileRow> = {
            let database = self.reader();
            let query = format!("SELECT size, mtime_ns, ctime_ns, inode, hash, manifest, zeros FROM {place}");
            let mut query = self.db_result(database.prepare_cached(&query))?;
            let row = query.query_row(values, |row| {
                let id = FileVersion {
                    size: row.get::<_, i64>(0)?.cast_unsigned(),
                    mtime_ns: row.get(1)?,
                    ctime_ns: row.get(2)?,
                    inode: row.get::<_, i64>(3)?.cast_unsigned(),
                };
                Ok((id, row.get(4)?, row.get(5)?, row.get(6)?))
            });
            self.db_result(row.optional())?
        };
        let Some((id, hash, manifest, zeros)) = row else { return Ok(None) };
        let hash = ContentHash::from_bytes(hash);
        let damaged = || self.damaged_error(format!("the manifest of {hash}"));
        let layout = GroupLayout::of(id.size).ok_or_else(damaged)?;
        // The manifest's length has to fit the size: a damaged row must not reach other peers.
        let manifest = Manifest::from_bytes(&layout, &manifest).ok_or_else(damaged)?;
        Ok(Some(HashedFile { version: id, hash, manifest, zeros: decode_zeros(&layout, zeros.as_deref()) }))
    }

    pub(super) fn checked_share(&self, row: ShareRow) -> Result<Share, ProfileError> {
        let damaged = |what: &str| self.damaged_error(format!("the share {:?} ({what})", row.name));
        let layout = GroupLayout::of(row.version.size).ok_or_else(|| damaged("size"))?;
        Ok(Share {
            zeros: decode_zeros(&layout, row.zeros.as_deref()),
            name: row.name.parse().map_err(|_| damaged("name"))?,
            path: row.path,
            version: row.version,
            executable: row.executable,
            hash: ContentHash::from_bytes(row.hash),
        })
    }
}

pub(super) struct ShareRow {
    name: String,
    path: PathBuf,
    version: FileVersion,
    executable: bool,
    hash: [u8; 32],
    zeros: Option<Vec<u8>>,
}

/// The version, hash, manifest and zero groups of a file.
type HashedFileRow = (FileVersion, [u8; 32], Vec<u8>, Option<Vec<u8>>);

/// Encodes runs of zeros; `None` for the many files without any.
pub(super) fn encode_zeros(zeros: &ZeroRuns) -> Option<Vec<u8>> {
    Some(zeros.to_bytes()).filter(|bytes| !bytes.is_empty())
}

/// Decodes runs of zeros. They only save work, so unreadable ones count as none.
fn decode_zeros(layout: &GroupLayout, bytes: Option<&[u8]>) -> ZeroRuns {
    bytes.and_then(|bytes| ZeroRuns::from_bytes(layout, bytes)).unwrap_or_default()
}

impl ShareRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let path: Vec<u8> = row.get(1)?;
        Ok(Self {
            name: row.get(0)?,
            path: PathBuf::from(OsStr::from_bytes(&path)),
            version: FileVersion {
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
        let layout = GroupLayout::of(3).unwrap();
        let share = Share {
            name: name.parse().unwrap(),
            path: format!("/data/{name}").into(),
            version: FileVersion { size: 3, mtime_ns: -5, ctime_ns: 7, inode: u64::MAX },
            executable: name == "b",
            hash: ContentHash::of(name.as_bytes()),
            zeros: ZeroRuns::default(),
        };
        HashedShare { share, manifest: Manifest::new(vec![layout.chaining_value(0, b"abc")]) }
    }

    #[test]
    fn groups_of_zeros_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let mut hashed = share("image");
        hashed.share.version.size = 5 << 20;
        hashed.share.zeros = ZeroRuns::from_groups([0, 1, 4]);
        hashed.manifest = Manifest::new(vec![[1; 32]; 5]);
        profile.put_shares(std::slice::from_ref(&hashed)).unwrap();
        let Share { name, hash, zeros, .. } = &hashed.share;
        assert_eq!(profile.share(name).unwrap().unwrap(), hashed.share);
        assert_eq!(&profile.hashed_file(hash).unwrap().unwrap().zeros, zeros);
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
        assert_eq!(profile.hashed_file(&all[2].hash).unwrap().unwrap().manifest, hashed[2].manifest);
        let recorded = HashedFile {
            version: all[3].version,
            hash: all[3].hash,
            manifest: hashed[3].manifest.clone(),
            zeros: ZeroRuns::default(),
        };
        // A new mode or a new inode is no new content.
        for same in [all[3].version, FileVersion { ctime_ns: 8, inode: 1, ..all[3].version }] {
            assert_eq!(profile.hashed_file_at(&all[3].path, same).unwrap().as_ref(), Some(&recorded));
        }
        for newer in [FileVersion { mtime_ns: -4, ..all[3].version }, FileVersion { size: 4, ..all[3].version }] {
            assert_eq!(profile.hashed_file_at(&all[3].path, newer).unwrap(), None);
        }
        assert_eq!(profile.shares_with_version(all[3].version).unwrap().len(), 5);
        assert_eq!(profile.shares_with_version(FileVersion { inode: 1, ..all[3].version }).unwrap(), []);

        let now = FileVersion { mtime_ns: 1, ctime_ns: 9, inode: 5, ..all[3].version };
        profile.record_versions([(&all[3].name, &all[3].hash, now), (&all[2].name, &all[3].hash, now)]).unwrap();
        let ids = [3, 2].map(|no: usize| profile.share(&all[no].name).unwrap().unwrap().version);
        assert_eq!(ids, [now, all[2].version], "one of them has another content by now");
        profile.record_versions([(&all[3].name, &all[3].hash, all[3].version)]).unwrap();

        let page = profile.shares_page("a_", "", 1).unwrap();
        assert_eq!((page.shares[0].name.as_str(), page.more), ("a_c/d", true));
        let page = profile.shares_page("a_", "a_c/d", 1).unwrap();
        assert_eq!((page.shares[0].name.as_str(), page.more), ("a_c/é", false));
        assert_eq!(profile.shares_page("", "", 99).unwrap().shares.len(), 5);
        assert_eq!(profile.remove_shares([&all[0].name, &all[0].name]).unwrap(), 1);
    }
}
