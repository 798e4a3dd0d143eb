//! Folders that are shared as a whole, which a node keeps in step with the disk; the names below them that the user
//! stopped sharing; and the file systems that are mounted below them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, TransactionBehavior, params};
use shared::FileName;

use super::share_store::insert_share;
use super::{Audience, HashedShare, Profile, ProfileError};

/// The condition for names of the audience `?1` at or below `?2`: those below sort between `?2/` and `?20`, the character
/// behind the slash, which is a range of a primary key.
pub(super) const AT_OR_BELOW: &str = "audience = ?1 AND (name = ?2 OR name > ?2 || '/' AND name < ?2 || '0')";

/// A folder that is shared with all that is and will be in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShareRoot {
    /// The users who may get its files.
    pub audience: Audience,
    /// The shared name, first component of the names of its files.
    pub name: FileName,
    /// The absolute path, without symbolic links.
    pub path: PathBuf,
}

/// Names below shared folders, each with all that is below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameSubtrees(BTreeSet<String>);

impl ShareRoot {
    /// Returns the path of a share with this name, if the name is that of the root or one below it.
    pub fn path_of(&self, name: &FileName) -> Option<PathBuf> {
        if *name == self.name {
            return Some(self.path.clone());
        }
        let mut path = self.path.clone();
        for component in name.strip_folder(self.name.as_str())?.components() {
            path.push(OsStr::from_bytes(&shared::names::name_encoding::decode_component(component)));
        }
        Some(path)
    }

    /// Returns the name of what lies at this path relative to the root; `None` if no share can have it.
    pub fn name_of(&self, relative: &Path) -> Option<FileName> {
        if relative.as_os_str().is_empty() {
            return Some(self.name.clone());
        }
        let below = FileName::from_raw(relative.as_os_str().as_bytes()).ok()?;
        // Parsed once more: together the two may be too long for a name.
        format!("{}/{}", self.name.as_str(), below.as_str()).parse().ok()
    }
}

impl NameSubtrees {
    /// Returns true if the name is one of these or lies below one.
    pub fn cover(&self, name: &str) -> bool {
        let above = name.match_indices('/').map(|(slash, _)| &name[..slash]);
        !self.0.is_empty() && (self.0.contains(name) || above.into_iter().any(|folder| self.0.contains(folder)))
    }

    /// Adds a name.
    pub fn insert(&mut self, name: String) {
        self.0.insert(name);
    }

    /// Iterates over the names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl FromIterator<String> for NameSubtrees {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Self {
        Self(names.into_iter().collect())
    }
}

impl Profile {
    /// Stores folders that are shared as a whole. What the user stopped sharing below them is shared again.
    pub fn put_share_roots(&self, roots: &[ShareRoot]) -> Result<(), ProfileError> {
        self.in_transaction(TransactionBehavior::Deferred, |transaction| {
            for ShareRoot { audience, name, path } in roots {
                let (audience, name) = (audience.to_string(), name.as_str());
                let insert = "INSERT OR IGNORE INTO share_root (audience, name, path) VALUES (?1, ?2, ?3)";
                transaction.execute(insert, params![audience, name, path.as_os_str().as_bytes()])?;
                let forget = format!("DELETE FROM share_exclusion WHERE {AT_OR_BELOW}");
                transaction.execute(&forget, params![audience, name])?;
            }
            Ok(())
        })
    }

    /// Returns the folders that are shared as a whole.
    pub fn share_roots(&self) -> Result<Vec<ShareRoot>, ProfileError> {
        let query = "SELECT audience, name, path FROM share_root ORDER BY audience, name, path";
        let rows: Vec<(String, String, Vec<u8>)> =
            self.query_all(self.reader(), query, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let root = |(audience, name, path): (String, String, Vec<u8>)| {
            let audience = self.checked_audience(&audience)?;
            let named = name.parse();
            let name = named.map_err(|_| self.damaged_error(format!("the shared folder {name:?}")))?;
            Ok(ShareRoot { audience, name, path: OsStr::from_bytes(&path).into() })
        };
        rows.into_iter().map(root).collect()
    }

    /// Removes the shares with these names and below them, and stops sharing folders of these names as a whole; in
    /// folders above them that are shared as a whole, they are left out from now on. All or none.
    pub fn exclude_names<'a>(
        &self,
        audience: &Audience,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), ProfileError> {
        let audience = audience.to_string();
        self.in_transaction(TransactionBehavior::Deferred, |transaction| {
            for name in names {
                let values = params![audience, name];
                // Exclusions below it go as well: that of the name itself covers them.
                for table in ["share", "share_root", "share_exclusion", "share_mount"] {
                    transaction.execute(&format!("DELETE FROM {table} WHERE {AT_OR_BELOW}"), values)?;
                }
                // Outside of all shared folders nothing would bring the name back, so there is nothing to remember.
                let exclude = "INSERT OR IGNORE INTO share_exclusion (audience, name)
                     SELECT ?1, ?2 WHERE EXISTS (
                         SELECT 1 FROM share_root WHERE audience = ?1 AND substr(?2, 1, length(name) + 1) = name || '/'
                     )";
                transaction.execute(exclude, values)?;
            }
            Ok(())
        })
    }

    /// Returns the names below a root that the user stopped sharing.
    pub fn exclusions(&self, root: &ShareRoot) -> Result<NameSubtrees, ProfileError> {
        self.names_below("share_exclusion", &root.audience, root.name.as_str())
    }

    /// Stores shares of a root, each replacing the one of the same name, if the root is still shared as a whole and the
    /// name isn't excluded; all or none. Returns the number of those stored.
    pub fn put_root_shares(&self, root: &ShareRoot, shares: &[HashedShare]) -> Result<usize, ProfileError> {
        let (audience, name) = (root.audience.to_string(), root.name.as_str());
        // Immediate: another process may stop the sharing between the look and the write.
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let values = params![audience, name, root.path.as_os_str().as_bytes()];
            let is_root = "SELECT 1 FROM share_root WHERE audience = ?1 AND name = ?2 AND path = ?3";
            if transaction.query_row(is_root, values, |_| Ok(())).optional()?.is_none() {
                return Ok(0);
            }
            let excluded: NameSubtrees = {
                let query = format!("SELECT name FROM share_exclusion WHERE {AT_OR_BELOW}");
                let mut query = transaction.prepare_cached(&query)?;
                query.query_map(params![audience, name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
            };
            let mut stored = 0;
            for hashed in shares.iter().filter(|hashed| !excluded.cover(hashed.share.name.as_str())) {
                insert_share(transaction, hashed)?;
                stored += 1;
            }
            Ok(stored)
        })
    }

    /// Records which folders at or below this one are mount points.
    pub fn put_share_mounts(
        &self,
        audience: &Audience,
        folder: &str,
        mounts: &NameSubtrees,
    ) -> Result<(), ProfileError> {
        // Mostly nothing changed: no write then, which may wait for another process.
        if self.names_below("share_mount", audience, folder)? == *mounts {
            return Ok(());
        }
        let audience = audience.to_string();
        self.in_transaction(TransactionBehavior::Deferred, |transaction| {
            let remove = format!("DELETE FROM share_mount WHERE {AT_OR_BELOW}");
            transaction.execute(&remove, params![audience, folder])?;
            for name in mounts.names() {
                let insert = "INSERT INTO share_mount (audience, name) VALUES (?1, ?2)";
                transaction.execute(insert, params![audience, name])?;
            }
            Ok(())
        })
    }

    /// Returns the folders at or below this one that were mount points when they were looked at last.
    pub fn share_mounts(&self, audience: &Audience, folder: &str) -> Result<NameSubtrees, ProfileError> {
        self.names_below("share_mount", audience, folder)
    }

    /// Returns true if a share or a folder lies below this one.
    pub fn has_shares_below(&self, audience: &Audience, folder: &str) -> Result<bool, ProfileError> {
        // By the primary keys of both tables, as `AT_OR_BELOW` explains.
        let query =
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM share WHERE audience = ?1 AND name > ?2 || '/' AND name < ?2 || '0')
             OR EXISTS (SELECT 1 FROM folder WHERE audience = ?1 AND name > ?2 || '/' AND name < ?2 || '0')";
        let database = self.reader();
        let mut query = self.db_result(database.prepare_cached(query))?;
        let found = query.query_row(params![audience.to_string(), folder], |_| Ok(())).optional();
        self.db_result(found).map(|found| found.is_some())
    }

    fn names_below(
        &self,
        table: &'static str,
        audience: &Audience,
        folder: &str,
    ) -> Result<NameSubtrees, ProfileError> {
        let query = format!("SELECT name FROM {table} WHERE {AT_OR_BELOW}");
        let names = self.query_all(self.reader(), &query, params![audience.to_string(), folder], |row| row.get(0))?;
        Ok(names.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Audience = Audience::Everybody;

    #[test]
    fn what_is_excluded_below_a_root_stays_so_until_the_root_is_shared_again() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let root = |name: &str, path: &str| ShareRoot { audience: ALL, name: name.parse().unwrap(), path: path.into() };
        let (docs, other) = (root("docs", "/a/docs"), root("docs2", "/b"));
        profile.put_share_roots(&[docs.clone(), other.clone()]).unwrap();
        profile.exclude_names(&ALL, ["docs/sub", "docs/a%", "elsewhere/x"]).unwrap();
        let excluded = profile.exclusions(&docs).unwrap();
        assert_eq!(excluded.names().collect::<Vec<_>>(), ["docs/a%", "docs/sub"]);
        assert!(excluded.cover("docs/sub/x/y") && excluded.cover("docs/sub") && excluded.cover("docs/a%"));
        assert!(!excluded.cover("docs/subs") && !excluded.cover("docs") && !excluded.cover("docs/a"));
        assert_eq!(profile.exclusions(&other).unwrap(), NameSubtrees::default());
        profile.put_share_roots(std::slice::from_ref(&docs)).unwrap();
        assert_eq!(profile.exclusions(&docs).unwrap(), NameSubtrees::default());
        profile.exclude_names(&ALL, ["docs/sub"]).unwrap();
        profile.exclude_names(&ALL, ["docs"]).unwrap();
        assert_eq!(profile.share_roots().unwrap(), [other]);
        assert_eq!(profile.exclusions(&docs).unwrap(), NameSubtrees::default());
    }

    #[test]
    fn names_and_paths_of_a_root_lead_to_each_other() {
        let root = ShareRoot { audience: ALL, name: "my/docs".parse().unwrap(), path: "/a".into() };
        for (relative, name) in [("", "my/docs"), ("b/c", "my/docs/b/c"), ("new\nline", "my/docs/new␛0A␛line")] {
            let named = root.name_of(Path::new(relative)).unwrap();
            assert_eq!(named.as_str(), name);
            assert_eq!(root.path_of(&named).unwrap(), Path::new("/a").join(relative));
        }
        assert_eq!(root.path_of(&"my/docs2/b".parse().unwrap()), None);
    }

    #[test]
    fn mounts_are_replaced_below_a_folder() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<NameSubtrees>();
        profile.put_share_mounts(&ALL, "docs", &names(&["docs", "docs/a/usb"])).unwrap();
        profile.put_share_mounts(&ALL, "docs/a", &names(&["docs/a/b"])).unwrap();
        assert_eq!(profile.share_mounts(&ALL, "docs").unwrap(), names(&["docs", "docs/a/b"]));
    }
}
