//! Names that were shared and are no more, because their files were removed or their user stopped sharing them: others who
//! keep a copy are told of them. And the marks by which others learn that the shares changed.
//!
//! A name that is shared again is no longer removed, which a trigger of the schema sees to.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | remembered names | 100,000 | the oldest are forgotten: whoever did not hear of them keeps its copy |

use rusqlite::{TransactionBehavior, params};
use shared::FileName;

use super::sql_integer::sql_integer;
use super::{Audience, Profile, ProfileError};

const MAX_REMEMBERED: usize = 100_000;

impl Profile {
    /// Removes the shares of this audience with these names, and remembers that they were removed at `now`, milliseconds
    /// since 1970; returns how many there were. A name that was not shared is remembered as well: its share may have been
    /// removed a moment before.
    pub fn remove_gone_shares<'a>(
        &self,
        audience: &Audience,
        names: impl IntoIterator<Item = &'a FileName>,
        now: i64,
    ) -> Result<usize, ProfileError> {
        let names: Vec<&FileName> = names.into_iter().collect();
        // No transaction for nothing: another process may have the lock for writing.
        if names.is_empty() {
            return Ok(0);
        }
        let audience = audience.to_string();
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let mut removed = 0;
            for name in names {
                let values = [audience.as_str(), name.as_str()];
                removed += transaction
                    .prepare_cached("DELETE FROM share WHERE audience = ?1 AND name = ?2")?
                    .execute(values)?;
                let remember = "INSERT OR REPLACE INTO removed_share (audience, name, at) VALUES (?1, ?2, ?3)";
                transaction.prepare_cached(remember)?.execute(params![audience, name.as_str(), now])?;
            }
            let count: i64 = transaction.query_row("SELECT count(*) FROM removed_share", [], |row| row.get(0))?;
            let excess = count - sql_integer(MAX_REMEMBERED);
            if excess > 0 {
                transaction.execute(
                    "DELETE FROM removed_share WHERE (audience, name) IN
                     (SELECT audience, name FROM removed_share ORDER BY at LIMIT ?1)",
                    [excess],
                )?;
            }
            Ok(removed)
        })
    }

    /// Returns those of the names that were removed from one of these audiences. Another of them may have the name still.
    pub fn removed_shares(&self, audiences: &[Audience], names: &[FileName]) -> Result<Vec<FileName>, ProfileError> {
        let audiences: Vec<String> = audiences.iter().map(Audience::to_string).collect();
        let database = self.reader();
        let query = "SELECT 1 FROM removed_share WHERE audience = ?1 AND name = ?2";
        let mut query = self.db_result(database.prepare_cached(query))?;
        let mut removed = Vec::new();
        for name in names {
            for audience in &audiences {
                if self.db_result(query.exists([audience.as_str(), name.as_str()]))? {
                    removed.push(name.clone());
                    break;
                }
            }
        }
        Ok(removed)
    }

    /// Returns a text that differs whenever the shares or removed names of these audiences differ.
    pub fn share_mark(&self, audiences: &[Audience]) -> Result<String, ProfileError> {
        let mut hasher = blake3::Hasher::new();
        for audience in audiences {
            let audience = audience.to_string();
            let query = "SELECT number FROM share_change WHERE audience = ?1";
            let found: Vec<i64> = self.query_all(self.reader(), query, [&audience], |row| row.get(0))?;
            hasher.update(audience.as_bytes());
            // No name has a NUL, so it ends one beyond doubt.
            hasher.update(&[0]);
            hasher.update(&found.first().copied().unwrap_or_default().to_be_bytes());
        }
        // Short, and without the numbers: how much is shared with others is nobody's business.
        Ok(hasher.finalize().to_hex().as_str().chars().take(32).collect())
    }
}

#[cfg(test)]
mod tests {
    use shared::content::Manifest;
    use shared::{ContentHash, GroupLayout, ZeroRuns};

    use super::*;
    use crate::profile::{HashedShare, Share};
    use crate::sys::FileVersion;

    const ALL: Audience = Audience::Everybody;

    fn share(audience: &Audience, name: &str) -> HashedShare {
        let hash = ContentHash::of(b"x");
        HashedShare {
            share: Share {
                audience: audience.clone(),
                name: name.parse().unwrap(),
                path: format!("/{name}").into(),
                version: FileVersion { size: 1, mtime_ns: 1, ctime_ns: 1, inode: 1 },
                executable: false,
                hash,
                zeros: ZeroRuns::default(),
            },
            manifest: Manifest::new(vec![GroupLayout::of(1).unwrap().chaining_value(0, b"x")]),
        }
    }

    #[test]
    fn a_removed_name_is_told_until_it_is_shared_again() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob = Audience::Person("bob".parse().unwrap());
        let asked: [FileName; 4] = ["d/a", "d/b", "d/c", "d/never"].map(|name| name.parse().unwrap());
        let names = |audiences: &[Audience]| {
            let removed = profile.removed_shares(audiences, &asked).unwrap();
            removed.into_iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        profile.put_shares(&[share(&ALL, "d/a"), share(&ALL, "d/b"), share(&bob, "d/c")]).unwrap();
        let [a, c]: [FileName; 2] = ["d/a", "d/c"].map(|name| name.parse().unwrap());
        let before = profile.share_mark(&[ALL]).unwrap();
        assert_eq!(profile.remove_gone_shares(&bob, [&c], 5).unwrap(), 1);
        assert_eq!(profile.share_mark(&[ALL]).unwrap(), before, "what others may see tells nothing");
        assert_eq!(profile.remove_gone_shares(&ALL, [&a], 5).unwrap(), 1);
        let removed = profile.share_mark(&[ALL]).unwrap();
        assert_ne!(removed, before);
        assert_eq!(names(&[ALL]), ["d/a"]);
        assert_eq!(names(&[ALL, bob.clone()]), ["d/a", "d/c"]);
        // It has no share any more, and its removal is to be told all the same.
        assert_eq!(profile.audiences().unwrap(), [ALL, bob.clone()]);
        profile.put_shares(&[share(&ALL, "d/a")]).unwrap();
        assert!(names(&[ALL]).is_empty());
        assert_ne!(profile.share_mark(&[ALL]).unwrap(), removed);
    }
}
