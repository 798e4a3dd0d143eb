//! Shares of the profile with their audiences, and the hashes computed for them.
//!
//! A name is unique within an audience: the same name may be another file for everybody, for a room and for a person.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Params, Row, Transaction, TransactionBehavior, params};
use shared::content::Manifest;
use shared::{ContentHash, FileName, GroupLayout, ZeroRuns};

use super::sql_integer::sql_integer;
use super::{Audience, Profile, ProfileError};
use crate::sys::{FileVersion, VersionChange};

/// A file shared under a name, as it was when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The users who may get it.
    pub audience: Audience,
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

/// The columns that [`ShareRow::read`] reads.
const SHARE_COLUMNS: &str = "name, path, size, mtime_ns, inode, executable, hash, ctime_ns, zeros, audience";
/// The condition for names that start with `?1` and follow `?2`. All names with a prefix sort below the prefix followed by
/// U+10FFFF, the last code point.
pub(super) const NAME_RANGE: &str = "name > ?2 AND name >= ?1 AND name < ?1 || char(1114111)";

impl Profile {
    /// Stores shares, each replacing the one of the same audience and name; all or none.
    pub fn put_shares(&self, shares: &[HashedShare]) -> Result<(), ProfileError> {
        // One transaction: every commit waits for the disk.
        self.in_transaction(TransactionBehavior::Deferred, |transaction| {
            shares.iter().try_for_each(|hashed| insert_share(transaction, hashed))
        })
    }

    /// Removes the shares of this audience with these names; returns how many there were.
    pub fn remove_shares<'a>(
        &self,
        audience: &Audience,
        names: impl IntoIterator<Item = &'a FileName>,
    ) -> Result<usize, ProfileError> {
        let audience = audience.to_string();
        self.in_transaction(TransactionBehavior::Deferred, |transaction| {
            let mut removed = 0;
            for name in names {
                let values = [audience.as_str(), name.as_str()];
                removed += transaction.execute("DELETE FROM share WHERE audience = ?1 AND name = ?2", values)?;
            }
            Ok(removed)
        })
    }

    /// Returns the audiences of all shares, folders, partial files and removed names, in order.
    pub fn audiences(&self) -> Result<Vec<Audience>, ProfileError> {
        // By one look at the indices for each: `DISTINCT` would read them whole. One statement, as each takes and
        // releases the database's locks, and this is asked with each request of a peer.
        const EACH: &str = "
            WITH RECURSIVE each (audience) AS (
                SELECT min(least) FROM (
                    SELECT min(audience) AS least FROM share
                    UNION ALL SELECT min(audience) FROM folder
                    UNION ALL SELECT min(audience) FROM partial
                    UNION ALL SELECT min(audience) FROM removed_share
                )
                UNION ALL
                SELECT (
                    SELECT min(least) FROM (
                        SELECT min(audience) AS least FROM share WHERE audience > each.audience
                        UNION ALL SELECT min(audience) FROM folder WHERE audience > each.audience
                        UNION ALL SELECT min(audience) FROM partial WHERE audience > each.audience
                        UNION ALL SELECT min(audience) FROM removed_share WHERE audience > each.audience
                    )
                ) FROM each
                WHERE each.audience IS NOT NULL
            )
            SELECT audience FROM each WHERE audience IS NOT NULL";
        let texts: Vec<String> = self.query_all(self.reader(), EACH, [], |row| row.get(0))?;
        let audiences: Result<BTreeSet<Audience>, ProfileError> =
            texts.iter().map(|text| self.checked_audience(text)).collect();
        Ok(audiences?.into_iter().collect())
    }

    /// Returns the share of this audience and name.
    pub fn share(&self, audience: &Audience, name: &FileName) -> Result<Option<Share>, ProfileError> {
        let values = [audience.to_string(), name.as_str().to_owned()];
        Ok(self.shares_where("audience = ?1 AND name = ?2", values)?.pop())
    }

    /// Returns the shares of this name, whatever their audience.
    pub fn shares_named(&self, name: &FileName) -> Result<Vec<Share>, ProfileError> {
        // In two parts: the index by name has no shares for everybody, which are found by audience and name.
        let mut shares = self.shares_where("audience <> '' AND name = ?1", [name.as_str()])?;
        shares.extend(self.share(&Audience::Everybody, name)?);
        Ok(shares)
    }

    /// Returns up to `limit` shares of this audience with this content hash, after the row `after`, each with its row
    /// number.
    pub fn shares_with_hash(
        &self,
        audience: &Audience,
        hash: &ContentHash,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Share)>, ProfileError> {
        // Ordered by row, as the index on hashes is: no sorting.
        let query = format!(
            "SELECT {SHARE_COLUMNS}, rowid FROM share WHERE hash = ?1 AND audience = ?4 AND rowid > ?2
             ORDER BY rowid LIMIT ?3"
        );
        let values = params![hash.as_bytes(), after, sql_integer(limit), audience.to_string()];
        let rows: Vec<(i64, ShareRow)> =
            self.query_all(self.reader(), &query, values, |row| Ok((row.get(10)?, ShareRow::read(row)?)))?;
        rows.into_iter().map(|(number, row)| Ok((number, self.checked_share(row)?))).collect()
    }

    /// Returns the stored hashes of a file with this content hash, whatever its audience.
    pub fn hashed_file(&self, hash: &ContentHash) -> Result<Option<HashedFile>, ProfileError> {
        self.hashed_file_where("hash = ?1", [hash.as_bytes()])
    }

    /// Returns the stored hashes of a file at this path, under any name, unless its content may have changed since. If
    /// only other metadata differ, the content is compared when it is sent.
    pub fn hashed_file_at(&self, path: &Path, id: FileVersion) -> Result<Option<HashedFile>, ProfileError> {
        // By its size and time as well: shares of other audiences may hold an earlier version.
        let values = params![path.as_os_str().as_bytes(), id.size.cast_signed(), id.mtime_ns];
        let found = self.hashed_file_where("path = ?1 AND size = ?2 AND mtime_ns = ?3", values)?;
        Ok(found.filter(|known| known.version.change_to(&id) != VersionChange::Content))
    }

    /// Returns up to 8 shares with this inode, size and modification time, at any path.
    pub fn shares_with_version(&self, id: FileVersion) -> Result<Vec<Share>, ProfileError> {
        let values = params![id.inode.cast_signed(), id.size.cast_signed(), id.mtime_ns];
        self.shares_where("inode = ?1 AND size = ?2 AND mtime_ns = ?3 LIMIT 8", values)
    }

    /// Records new metadata of files whose content turned out to be unchanged, each by its audience, name and hash.
    pub fn record_versions<'a>(
        &self,
        versions: impl IntoIterator<Item = (&'a Audience, &'a FileName, &'a ContentHash, FileVersion)>,
    ) -> Result<(), ProfileError> {
        self.in_transaction(TransactionBehavior::Deferred, |transaction| {
            // The hash in the condition leaves a share alone that was replaced in the meantime.
            let update = "UPDATE share SET mtime_ns = ?1, ctime_ns = ?2, inode = ?3
                      WHERE audience = ?4 AND name = ?5 AND hash = ?6 AND size = ?7";
            for (audience, name, hash, id) in versions {
                let (inode, size) = (id.inode.cast_signed(), id.size.cast_signed());
                let (audience, name) = (audience.to_string(), name.as_str());
                let values = params![id.mtime_ns, id.ctime_ns, inode, audience, name, hash.as_bytes(), size];
                transaction.prepare_cached(update)?.execute(values)?;
            }
            Ok(())
        })
    }

    /// Returns up to `limit` shares of this audience whose names start with `prefix` and follow `after`.
    pub fn shares_page(
        &self,
        audience: &Audience,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<SharePage, ProfileError> {
        self.shares_page_of(std::slice::from_ref(audience), prefix, after, limit)
    }

    /// Returns a page as [`Profile::shares_page`] does, of several audiences. Each name is there once: for the first of
    /// the audiences that has it.
    pub fn shares_page_of(
        &self,
        audiences: &[Audience],
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<SharePage, ProfileError> {
        // One more than asked for tells whether more follow.
        let limit_and_one = sql_integer(limit.saturating_add(1));
        let condition = format!("{NAME_RANGE} AND audience = ?3 ORDER BY name LIMIT ?4");
        let mut shares = BTreeMap::new();
        for audience in audiences {
            let values = params![prefix, after, audience.to_string(), limit_and_one];
            for share in self.shares_where(&condition, values)? {
                shares.entry(share.name.clone()).or_insert(share);
            }
        }
        let more = shares.len() > limit;
        Ok(SharePage { shares: shares.into_values().take(limit).collect(), more })
    }

    /// Returns the number of shares for everybody or a room.
    pub fn share_count(&self) -> Result<usize, ProfileError> {
        // Offers aren't counted: there are few, and each names its person.
        let query = "SELECT count(*) FROM share WHERE audience = '' OR audience >= '#' AND audience < '$'";
        let count = self.reader().query_row(query, [], |row| row.get::<_, i64>(0));
        self.db_result(count).map(|count| usize::try_from(count).unwrap_or(0))
    }

    /// Parses an audience of the database.
    pub(super) fn checked_audience(&self, text: &str) -> Result<Audience, ProfileError> {
        text.parse().map_err(|_| self.damaged_error(format!("the audience {text:?}")))
    }

    fn shares_where(&self, condition: &str, values: impl Params) -> Result<Vec<Share>, ProfileError> {
        // Collected before the rows are checked, so that the shared connection is free again.
        let query = format!("SELECT {SHARE_COLUMNS} FROM share WHERE {condition}");
        let rows: Vec<ShareRow> = self.query_all(self.reader(), &query, values, ShareRow::read)?;
        rows.into_iter().map(|row| self.checked_share(row)).collect()
    }

    fn hashed_file_where(&self, condition: &str, values: impl Params) -> Result<Option<HashedFile>, ProfileError> {
        let row: Option<HashedFileRow> = {
            let database = self.reader();
            let query = format!(
                "SELECT size, mtime_ns, ctime_ns, inode, hash, manifest, zeros FROM share WHERE {condition} LIMIT 1"
            );
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

    fn checked_share(&self, row: ShareRow) -> Result<Share, ProfileError> {
        let damaged = |what: &str| self.damaged_error(format!("the share {:?} ({what})", row.name));
        let layout = GroupLayout::of(row.version.size).ok_or_else(|| damaged("size"))?;
        Ok(Share {
            audience: self.checked_audience(&row.audience)?,
            zeros: decode_zeros(&layout, row.zeros.as_deref()),
            name: row.name.parse().map_err(|_| damaged("name"))?,
            path: row.path,
            version: row.version,
            executable: row.executable,
            hash: ContentHash::from_bytes(row.hash),
        })
    }
}

/// Stores a share in a transaction that the caller commits.
pub(super) fn insert_share(
    transaction: &Transaction<'_>,
    HashedShare { share, manifest }: &HashedShare,
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT OR REPLACE INTO share (audience, name, path, size, mtime_ns, inode, executable, hash, manifest,
                                       ctime_ns, zeros)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    insert.execute(params![
        share.audience.to_string(),
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
    ])?;
    Ok(())
}

struct ShareRow {
    audience: String,
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
fn encode_zeros(zeros: &ZeroRuns) -> Option<Vec<u8>> {
    Some(zeros.to_bytes()).filter(|bytes| !bytes.is_empty())
}

/// Decodes runs of zeros. They only save work, so unreadable ones count as none.
fn decode_zeros(layout: &GroupLayout, bytes: Option<&[u8]>) -> ZeroRuns {
    bytes.and_then(|bytes| ZeroRuns::from_bytes(layout, bytes)).unwrap_or_default()
}

impl ShareRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let path: Vec<u8> = row.get(1)?;
        Ok(Self {
            audience: row.get(9)?,
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

    const ALL: Audience = Audience::Everybody;

    fn share(name: &str) -> HashedShare {
        let layout = GroupLayout::of(3).unwrap();
        let share = Share {
            audience: ALL,
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
        assert_eq!(profile.share(&ALL, name).unwrap().unwrap(), hashed.share);
        assert_eq!(&profile.hashed_file(hash).unwrap().unwrap().zeros, zeros);
    }

    #[test]
    fn each_audience_has_its_own_names() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob = Audience::Person("bob".parse().unwrap());
        let [lab, office] = [1, 2].map(|byte| Audience::Room(shared::RoomId::from_bytes([byte; 16])));
        let of = |audience: &Audience, name: &str| {
            let mut hashed = share(name);
            hashed.share.path = format!("/{audience}/{name}").into();
            hashed.share.audience = audience.clone();
            hashed
        };
        assert_eq!(profile.audiences().unwrap(), []);
        let shares = [of(&ALL, "a"), of(&ALL, "b"), of(&ALL, "d"), of(&lab, "b"), of(&lab, "c"), of(&bob, "b")];
        profile.put_shares(&shares).unwrap();
        assert_eq!(profile.audiences().unwrap(), [ALL, lab.clone(), bob.clone()]);
        let paused = Audience::Paused(7);
        profile.put_shares(&[of(&paused, "p")]).unwrap();
        assert_eq!(profile.share_count().unwrap(), 5, "without the offer and the paused send");
        profile.remove_shares(&paused, &["p".parse().unwrap()]).unwrap();
        let b = "b".parse().unwrap();
        for audience in [&ALL, &lab, &bob] {
            assert_eq!(profile.share(audience, &b).unwrap().unwrap(), of(audience, "b").share);
            let found = profile.shares_with_hash(audience, &of(audience, "b").share.hash, 0, 9).unwrap();
            assert_eq!(found.len(), 1);
        }
        assert_eq!(profile.share(&office, &b).unwrap(), None);
        assert_eq!(profile.shares_named(&b).unwrap().len(), 3);
        let paths = |audiences: &[Audience], after: &str, limit| {
            let page = profile.shares_page_of(audiences, "", after, limit).unwrap();
            let paths = page.shares.iter().map(|share| share.path.to_string_lossy().into_owned());
            (paths.collect::<Vec<_>>(), page.more)
        };
        let (room, person) = (format!("/{lab}"), "/@bob");
        let all = [bob.clone(), lab.clone(), ALL];
        assert_eq!(paths(&all, "", 9).0, ["//a", &format!("{person}/b"), &format!("{room}/c"), "//d"]);
        assert_eq!(paths(&all, "a", 1), (vec![format!("{person}/b")], true));
        assert_eq!(paths(&[lab.clone(), ALL], "a", 2), (vec![format!("{room}/b"), format!("{room}/c")], true));
        assert_eq!(paths(&[ALL], "b", 9), (vec!["//d".to_owned()], false));
        assert_eq!(paths(&[], "", 9).0, [""; 0]);
        let id = FileVersion { mtime_ns: 9, ..shares[0].share.version };
        profile.record_versions([(&lab, &b, &shares[3].share.hash, id)]).unwrap();
        assert_eq!(profile.share(&lab, &b).unwrap().unwrap().version, id);
        assert_eq!(profile.share(&ALL, &b).unwrap().unwrap().version, shares[1].share.version);
        assert_eq!(profile.remove_shares(&lab, [&b]).unwrap(), 1);
        assert_eq!(profile.remove_shares(&lab, [&b]).unwrap(), 0);
        assert_eq!(profile.shares_named(&b).unwrap().len(), 2);
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
        assert_eq!(profile.share(&ALL, &all[1].name).unwrap().as_ref(), Some(&all[1]));
        let found = profile.shares_with_hash(&ALL, &all[2].hash, 0, 9).unwrap();
        assert_eq!(found.iter().map(|(_, share)| share).collect::<Vec<_>>(), [&all[2]]);
        assert_eq!(profile.shares_with_hash(&ALL, &all[2].hash, found[0].0, 9).unwrap(), []);
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
        profile
            .record_versions([(&ALL, &all[3].name, &all[3].hash, now), (&ALL, &all[2].name, &all[3].hash, now)])
            .unwrap();
        let ids = [3, 2].map(|no: usize| profile.share(&ALL, &all[no].name).unwrap().unwrap().version);
        assert_eq!(ids, [now, all[2].version], "one of them has another content by now");
        profile.record_versions([(&ALL, &all[3].name, &all[3].hash, all[3].version)]).unwrap();

        let page = profile.shares_page(&ALL, "a_", "", 1).unwrap();
        assert_eq!((page.shares[0].name.as_str(), page.more), ("a_c/d", true));
        let page = profile.shares_page(&ALL, "a_", "a_c/d", 1).unwrap();
        assert_eq!((page.shares[0].name.as_str(), page.more), ("a_c/é", false));
        assert_eq!(profile.shares_page(&ALL, "", "", 99).unwrap().shares.len(), 5);
        assert_eq!(profile.remove_shares(&ALL, [&all[0].name, &all[0].name]).unwrap(), 1);
    }
}
