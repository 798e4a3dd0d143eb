//! Partial shares: files that are shared while they are being fetched.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{Row, params};
use shared::{ContentHash, FileName, GroupLayout};

use super::{Audience, Profile, ProfileError};

/// A partial file whose verified groups are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartialShare {
    /// The users who may get it.
    pub audience: Audience,
    /// The shared name.
    pub name: FileName,
    /// The absolute path of the partial file.
    pub path: PathBuf,
    /// The groups of the whole file.
    pub layout: GroupLayout,
    /// The modification time at the source, in seconds since 1970.
    pub mtime: i64,
    /// True if the source's owner may execute it.
    pub executable: bool,
    /// The BLAKE3 hash of the whole file.
    pub hash: ContentHash,
}

impl Profile {
    /// Stores a partial share, replacing the one of the same path.
    pub fn put_partial(&self, partial: &PartialShare) -> Result<(), ProfileError> {
        // A resumed fetch shares the same partial file again.
        let inserted = self.writer()?.execute(
            "INSERT OR REPLACE INTO partial (part, name, size, mtime, executable, hash, audience)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                partial.path.as_os_str().as_bytes(),
                partial.name.as_str(),
                partial.layout.size().cast_signed(),
                partial.mtime,
                partial.executable,
                partial.hash.as_bytes(),
                partial.audience.to_string(),
            ],
        );
        self.db_result(inserted).map(|_| ())
    }

    /// Removes the partial share at this path; returns false if there is none.
    pub fn remove_partial(&self, part: &Path) -> Result<bool, ProfileError> {
        let removed = self.writer()?.execute("DELETE FROM partial WHERE part = ?1", [part.as_os_str().as_bytes()]);
        self.db_result(removed).map(|rows| rows > 0)
    }

    /// Returns all partial shares, ordered by name.
    pub fn partials(&self) -> Result<Vec<PartialShare>, ProfileError> {
        // The condition names ?1 all the same: rusqlite refuses a value that the statement doesn't use.
        self.partials_where("?1 = ''", "")
    }

    /// Returns the partial shares of this name.
    pub fn partials_named(&self, name: &FileName) -> Result<Vec<PartialShare>, ProfileError> {
        self.partials_where("name = ?1", name.as_str())
    }

    /// Returns the partial shares of the file with this content hash.
    pub fn partials_with_hash(&self, hash: &ContentHash) -> Result<Vec<PartialShare>, ProfileError> {
        self.partials_where("hash = ?1", hash.as_bytes())
    }

    fn partials_where(&self, condition: &str, value: impl rusqlite::ToSql) -> Result<Vec<PartialShare>, ProfileError> {
        // Ordered by name: the registration at the tracker skips neighbours of the same name.
        let query = format!(
            "SELECT part, name, size, mtime, executable, hash, audience FROM partial WHERE {condition}
             ORDER BY name, part"
        );
        let rows: Vec<PartialRow> = self.query_all(self.reader(), &query, [value], PartialRow::read)?;
        rows.into_iter().map(|row| self.checked_partial(row)).collect()
    }

    fn checked_partial(&self, row: PartialRow) -> Result<PartialShare, ProfileError> {
        let damaged = |what: &str| self.damaged_error(format!("the part {:?} ({what})", row.path));
        Ok(PartialShare {
            audience: self.checked_audience(&row.audience)?,
            name: row.name.parse().map_err(|_| damaged("name"))?,
            layout: GroupLayout::of(row.size).ok_or_else(|| damaged("size"))?,
            path: row.path,
            mtime: row.mtime,
            executable: row.executable,
            hash: ContentHash::from_bytes(row.hash),
        })
    }
}

struct PartialRow {
    audience: String,
    path: PathBuf,
    name: String,
    size: u64,
    mtime: i64,
    executable: bool,
    hash: [u8; 32],
}

impl PartialRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let part: Vec<u8> = row.get(0)?;
        Ok(Self {
            audience: row.get(6)?,
            path: PathBuf::from(OsStr::from_bytes(&part)),
            name: row.get(1)?,
            size: row.get::<_, i64>(2)?.cast_unsigned(),
            mtime: row.get(3)?,
            executable: row.get(4)?,
            hash: row.get(5)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_name_and_hash_until_they_are_taken_out() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let partial = |name: &str| PartialShare {
            audience: if name == "b" { Audience::Person("bob".parse().unwrap()) } else { Audience::Everybody },
            name: name.parse().unwrap(),
            path: format!("/data/.{name}.part").into(),
            layout: GroupLayout::of(5 << 20).unwrap(),
            mtime: -5,
            executable: name == "b",
            hash: ContentHash::of(name.as_bytes()),
        };
        let [a, b] = ["a", "b"].map(partial);
        for one in [&b, &a, &b] {
            profile.put_partial(one).unwrap();
        }
        assert_eq!(profile.partials().unwrap(), [a.clone(), b.clone()]);
        assert_eq!(profile.partials_named(&b.name).unwrap(), std::slice::from_ref(&b));
        assert_eq!(profile.partials_with_hash(&a.hash).unwrap(), std::slice::from_ref(&a));
        assert!(profile.remove_partial(&a.path).unwrap());
        assert!(!profile.remove_partial(&a.path).unwrap());
        assert_eq!(profile.partials().unwrap(), [b]);
    }
}
