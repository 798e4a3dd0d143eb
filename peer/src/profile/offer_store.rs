//! Offers: files that one user only may fetch.

use std::os::unix::ffi::OsStrExt;

use rusqlite::params;
use shared::{ContentHash, FileName, UserName};

use super::share_store::{SHARE_COLUMNS, ShareRow, encode_zeros};
use super::{HashedFile, HashedShare, Profile, ProfileError, Share, SharePage};

impl Profile {
    /// Stores an offer for `to`, replacing the one of the same name.
    pub fn put_offer(&self, to: &UserName, hashed: &HashedShare) -> Result<(), ProfileError> {
        let HashedShare { share, manifest } = hashed;
        let inserted = self.writer()?.execute(
            "INSERT OR REPLACE INTO offer (peer, name, path, size, mtime_ns, inode, executable, hash, manifest, ctime_ns,
                                           zeros)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                to.as_str(),
                share.name.as_str(),
                share.path.as_os_str().as_bytes(),
                share.version.size.cast_signed(),
                share.version.mtime_ns,
                share.version.inode.cast_signed(),
                share.executable,
                share.hash.as_bytes(),
                manifest.as_bytes(),
                share.version.ctime_ns,
                encode_zeros(&share.zeros),
            ],
        );
        self.db_result(inserted).map(|_| ())
    }

    /// Removes an offer; returns false if there is none.
    pub fn remove_offer(&self, to: &UserName, name: &FileName) -> Result<bool, ProfileError> {
        let removed = self
            .writer()?
            .execute("DELETE FROM offer WHERE peer = ?1 AND name = ?2", params![to.as_str(), name.as_str()]);
        self.db_result(removed).map(|rows| rows > 0)
    }

    /// Returns all offers with their recipients, ordered by both.
    pub fn offers(&self) -> Result<Vec<(UserName, Share)>, ProfileError> {
        self.offers_where("?1 = ''", "")
    }

    /// Returns the offers of this name with their recipients.
    pub fn offers_named(&self, name: &FileName) -> Result<Vec<(UserName, Share)>, ProfileError> {
        self.offers_where("name = ?1", name.as_str())
    }

    /// Returns the offer of this name for `to`.
    pub fn offer(&self, to: &UserName, name: &FileName) -> Result<Option<Share>, ProfileError> {
        Ok(self.offers_named(name)?.into_iter().find(|(user, _)| user == to).map(|(_, share)| share))
    }

    /// Returns the offers for `to` with this content hash.
    pub fn offers_with_hash(&self, to: &UserName, hash: &ContentHash) -> Result<Vec<Share>, ProfileError> {
        let rows: Vec<ShareRow> = {
            let database = self.reader();
            let query = format!("SELECT {SHARE_COLUMNS} FROM offer WHERE hash = ?1 AND peer = ?2");
            let mut query = self.db_result(database.prepare_cached(&query))?;
            let rows = query.query_map(params![hash.as_bytes(), to.as_str()], ShareRow::read);
            self.db_result(self.db_result(rows)?.collect())?
        };
        rows.into_iter().map(|row| self.checked_share(row)).collect()
    }

    /// Returns the stored hashes of an offer for `to` with this content hash.
    pub fn offered_manifest(&self, to: &UserName, hash: &ContentHash) -> Result<Option<HashedFile>, ProfileError> {
        self.hashed_file_where("offer WHERE hash = ?1 AND peer = ?2 LIMIT 1", params![hash.as_bytes(), to.as_str()])
    }

    /// Returns a page as [`Profile::shares_page`] does, with the offers for `to` in place of shares of the same names.
    pub fn shares_page_for(
        &self,
        to: &UserName,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<SharePage, ProfileError> {
        let rows: Vec<ShareRow> = {
            let database = self.reader();
            // `UNION ALL`: `NOT IN` keeps names unique already, and `UNION` would compare whole rows.
            let range = "name > ?2 AND name >= ?1 AND name < ?1 || char(1114111)";
            let mut query = self.db_result(database.prepare_cached(&format!(
                "SELECT {SHARE_COLUMNS} FROM offer WHERE peer = ?4 AND {range}
                 UNION ALL
                 SELECT {SHARE_COLUMNS} FROM share WHERE {range} AND name NOT IN (SELECT name FROM offer WHERE peer = ?4)
                 ORDER BY name LIMIT ?3"
            )))?;
            // One more than asked for tells whether more follow.
            let limit_and_one = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
            let rows = query.query_map(params![prefix, after, limit_and_one, to.as_str()], ShareRow::read);
            self.db_result(self.db_result(rows)?.collect())?
        };
        let more = rows.len() > limit;
        let shares = rows.into_iter().take(limit).map(|row| self.checked_share(row)).collect::<Result<_, _>>()?;
        Ok(SharePage { shares, more })
    }

    fn offers_where(&self, condition: &str, value: &str) -> Result<Vec<(UserName, Share)>, ProfileError> {
        let rows: Vec<(ShareRow, String)> = {
            let database = self.reader();
            let query = format!("SELECT {SHARE_COLUMNS}, peer FROM offer WHERE {condition} ORDER BY peer, name");
            let mut query = self.db_result(database.prepare_cached(&query))?;
            let rows = query.query_map([value], |row| Ok((ShareRow::read(row)?, row.get(9)?)));
            self.db_result(self.db_result(rows)?.collect())?
        };
        rows.into_iter().map(|(row, user)| Ok((self.user_name(&user)?, self.checked_share(row)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use shared::content::Manifest;
    use shared::{GroupLayout, ZeroRuns};

    use super::*;
    use crate::sys::FileVersion;

    fn hashed(name: &str, path: &str) -> HashedShare {
        let layout = GroupLayout::of(3).unwrap();
        let share = Share {
            name: name.parse().unwrap(),
            path: path.into(),
            version: FileVersion { size: 3, mtime_ns: 1, ctime_ns: 1, inode: 1 },
            executable: false,
            hash: ContentHash::of(path.as_bytes()),
            zeros: ZeroRuns::default(),
        };
        HashedShare { share, manifest: Manifest::new(vec![layout.chaining_value(0, b"abc")]) }
    }

    #[test]
    fn an_offer_is_there_for_one_person() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let (bob, carol): (UserName, UserName) = ("bob".parse().unwrap(), "carol".parse().unwrap());
        let offer = hashed("b", "/offered/b");
        profile.put_shares(&[hashed("a", "/a"), hashed("b", "/b"), hashed("c", "/c")]).unwrap();
        profile.put_offer(&bob, &offer).unwrap();
        let hash = offer.share.hash;
        assert_eq!(profile.offer(&bob, &offer.share.name).unwrap().as_ref(), Some(&offer.share));
        assert_eq!(profile.offer(&carol, &offer.share.name).unwrap(), None);
        assert_eq!(
            (
                profile.offers_with_hash(&bob, &hash).unwrap().len(),
                profile.offers_with_hash(&carol, &hash).unwrap().len()
            ),
            (1, 0)
        );
        assert!(profile.offered_manifest(&bob, &hash).unwrap().is_some());
        assert!(profile.offered_manifest(&carol, &hash).unwrap().is_none());
        let paths = |user: &UserName| -> Vec<String> {
            let page = profile.shares_page_for(user, "", "", 9).unwrap();
            page.shares.iter().map(|share| share.path.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(paths(&bob), ["/a", "/offered/b", "/c"]);
        assert_eq!(paths(&carol), ["/a", "/b", "/c"]);
        assert_eq!(profile.shares_page_for(&bob, "", "a", 1).unwrap().shares[0].path.to_str(), Some("/offered/b"));
        assert!(profile.remove_offer(&bob, &offer.share.name).unwrap());
        assert!(!profile.remove_offer(&bob, &offer.share.name).unwrap());
    }
}
