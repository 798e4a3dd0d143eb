//! Wishes: searches that wait until somebody shares what they look for, and the files of which they told.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | wishes that wait or are paused | 50 | refused |
//! | wishes that are fulfilled | the last 100 | the oldest is forgotten |
//! | files of which one wish told | 5 of one user, 20 in all | no more is told of those that can't be fetched |

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rusqlite::{Row, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use shared::{ContentHash, FileName, UserName};

use super::{Profile, ProfileError};

/// Wishes that wait or are paused.
pub const MAX_OPEN_WISHES: usize = 50;
/// Wishes that are fulfilled and still listed.
const MAX_FULFILLED: i64 = 100;
/// Files of which one wish tells.
const MAX_TOLD: i64 = 20;
/// Files of one user of which one wish tells.
const MAX_TOLD_OF_USER: i64 = 5;
const COLUMNS: &str = "number, query, user, folder, max_bytes, at, state, found";

/// The state of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WishState {
    /// The running node looks for it.
    Waiting,
    /// Nobody looks for it.
    Paused,
    /// It was told, or fetched.
    Fulfilled,
}

/// A search that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Its number in the profile.
    pub number: i64,
    /// The words, the pattern or the hash, as the user wrote them.
    pub query: String,
    /// The only user whose files count; `None`: everybody's.
    pub user: Option<UserName>,
    /// The folder that takes the file, absolute; `None`: it is only told.
    pub folder: Option<PathBuf>,
    /// The size of a file that is fetched, at most.
    pub max_bytes: u64,
    /// The time of its beginning, in milliseconds since 1970.
    pub at: i64,
    /// Its state.
    pub state: WishState,
    /// The file that fulfilled it.
    pub found: Option<WishMatch>,
}

/// A shared file that a wish looks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WishMatch {
    /// The user who shares it.
    pub by: UserName,
    /// Its shared name.
    pub name: FileName,
    /// Its size in bytes.
    pub size: u64,
    /// Its content.
    pub hash: ContentHash,
}

/// A file of which a wish told: who shares it, its name and its content.
pub type ToldMatch = (UserName, FileName, ContentHash);

impl WishMatch {
    /// Returns the form in which it is remembered.
    pub fn told(&self) -> ToldMatch {
        (self.by.clone(), self.name.clone(), self.hash)
    }
}

impl WishState {
    const ALL: [Self; 3] = [Self::Waiting, Self::Paused, Self::Fulfilled];

    /// Returns the text in the database and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Fulfilled => "fulfilled",
        }
    }
}

impl Profile {
    /// Stores a wish that begins, whose number and state don't count; returns its number, or `None` if too many are not
    /// fulfilled.
    pub fn add_wish(&self, wish: &Wish) -> Result<Option<i64>, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let open = "SELECT count(*) FROM wish WHERE state <> 'fulfilled'";
            let open: i64 = transaction.query_row(open, [], |row| row.get(0))?;
            if usize::try_from(open).is_ok_and(|open| open >= MAX_OPEN_WISHES) {
                return Ok(None);
            }
            transaction.execute(
                "INSERT INTO wish (query, user, folder, max_bytes, at, state) VALUES (?1, ?2, ?3, ?4, ?5, 'waiting')",
                params![
                    wish.query,
                    wish.user.as_ref().map(UserName::as_str),
                    wish.folder.as_ref().map(|folder| folder.as_os_str().as_bytes()),
                    i64::try_from(wish.max_bytes).unwrap_or(i64::MAX),
                    wish.at,
                ],
            )?;
            Ok(Some(transaction.last_insert_rowid()))
        })
    }

    /// Returns all wishes, the oldest first.
    pub fn wishes(&self) -> Result<Vec<Wish>, ProfileError> {
        let sql = format!("SELECT {COLUMNS} FROM wish ORDER BY number");
        let rows = self.query_all(self.reader(), &sql, [], WishRow::read)?;
        rows.into_iter().map(|row| self.checked_wish(row)).collect()
    }

    /// Pauses a wish, or has it wait again, which a fulfilled one can as well; false if that was so already, or there is
    /// no such wish. A wish that waits anew may tell of as many files as before.
    pub fn set_wish_paused(&self, number: i64, paused: bool) -> Result<bool, ProfileError> {
        let state = if paused { WishState::Paused } else { WishState::Waiting };
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let changed = transaction.execute(
                // A fulfilled one can be resumed, which counts against the bound again, but not paused.
                "UPDATE wish SET state = ?2, found = NULL WHERE number = ?1 AND state <> ?2
                     AND (?2 = 'waiting' OR state = 'waiting')
                     AND (state <> 'fulfilled' OR (SELECT count(*) FROM wish WHERE state <> 'fulfilled') < ?3)",
                params![number, state.as_str(), i64::try_from(MAX_OPEN_WISHES).unwrap_or(i64::MAX)],
            )?;
            if changed > 0 && !paused {
                // It begins anew: one that told of all it may, in all or of one user, would stay silent for good.
                transaction.execute(
                    "DELETE FROM wish_match WHERE wish = ?1
                         AND ((SELECT count(*) FROM wish_match WHERE wish = ?1) >= ?2 OR user IN
                             (SELECT user FROM wish_match WHERE wish = ?1 GROUP BY user HAVING count(*) >= ?3))",
                    params![number, MAX_TOLD, MAX_TOLD_OF_USER],
                )?;
            }
            Ok(changed > 0)
        })
    }

    /// Records that a wish that waits is fulfilled, and told of that file; false if it doesn't wait any more.
    pub fn fulfil_wish(&self, number: i64, found: &WishMatch) -> Result<bool, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let changed = transaction.execute(
                "UPDATE wish SET state = 'fulfilled', found = ?2 WHERE number = ?1 AND state = 'waiting'",
                params![number, serde_json::to_string(found).unwrap_or_default()],
            )?;
            if changed > 0 {
                transaction.execute(
                    "INSERT OR IGNORE INTO wish_match (wish, user, name, hash) VALUES (?1, ?2, ?3, ?4)",
                    params![number, found.by.as_str(), found.name.as_str(), found.hash.as_bytes()],
                )?;
            }
            transaction.execute(
                "DELETE FROM wish WHERE number IN
                     (SELECT number FROM wish WHERE state = 'fulfilled' ORDER BY number DESC LIMIT -1 OFFSET ?1)",
                [MAX_FULFILLED],
            )?;
            transaction.execute("DELETE FROM wish_match WHERE wish NOT IN (SELECT number FROM wish)", [])?;
            Ok(changed > 0)
        })
    }

    /// Forgets a wish; false if there is none.
    pub fn remove_wish(&self, number: i64) -> Result<bool, ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            transaction.execute("DELETE FROM wish_match WHERE wish = ?1", [number])?;
            Ok(transaction.execute("DELETE FROM wish WHERE number = ?1", [number])? > 0)
        })
    }

    /// Records that a wish told of a file; false if it did before, or told of too many.
    pub fn add_wish_match(&self, number: i64, told: &WishMatch) -> Result<bool, ProfileError> {
        // One statement: the wish may have been removed meanwhile, and two searches may tell at once.
        let changed = self.writer()?.execute(
            "INSERT OR IGNORE INTO wish_match (wish, user, name, hash)
             SELECT ?1, ?2, ?3, ?4 WHERE (SELECT count(*) FROM wish_match WHERE wish = ?1) < ?5
                 AND (SELECT count(*) FROM wish_match WHERE wish = ?1 AND user = ?2) < ?6
                 AND EXISTS (SELECT 1 FROM wish WHERE number = ?1)",
            params![number, told.by.as_str(), told.name.as_str(), told.hash.as_bytes(), MAX_TOLD, MAX_TOLD_OF_USER],
        );
        self.db_result(changed).map(|rows| rows > 0)
    }

    /// Returns the files of which a wish told.
    pub fn told_wish_matches(&self, number: i64) -> Result<HashSet<ToldMatch>, ProfileError> {
        let sql = "SELECT user, name, hash FROM wish_match WHERE wish = ?1";
        let rows: Vec<(String, String, Vec<u8>)> =
            self.query_all(self.reader(), sql, [number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let damaged = || self.damaged_error(format!("a file of the wish {number}"));
        let check = |(user, name, hash): (String, String, Vec<u8>)| {
            let hash: [u8; 32] = hash.try_into().map_err(|_| damaged())?;
            Ok((self.user_name(&user)?, name.parse().map_err(|_| damaged())?, ContentHash::from_bytes(hash)))
        };
        rows.into_iter().map(check).collect()
    }

    fn checked_wish(&self, row: WishRow) -> Result<Wish, ProfileError> {
        let damaged = || self.damaged_error(format!("the wish {}", row.number));
        Ok(Wish {
            number: row.number,
            user: row.user.as_deref().map(|user| self.user_name(user)).transpose()?,
            folder: row.folder.as_deref().map(|folder| PathBuf::from(OsStr::from_bytes(folder))),
            max_bytes: row.max_bytes.cast_unsigned(),
            at: row.at,
            state: WishState::ALL.into_iter().find(|state| state.as_str() == row.state).ok_or_else(damaged)?,
            found: row.found.as_deref().map(serde_json::from_str).transpose().map_err(|_| damaged())?,
            query: row.query,
        })
    }
}

struct WishRow {
    number: i64,
    query: String,
    user: Option<String>,
    folder: Option<Vec<u8>>,
    max_bytes: i64,
    at: i64,
    state: String,
    found: Option<String>,
}

impl WishRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            query: row.get(1)?,
            user: row.get(2)?,
            folder: row.get(3)?,
            max_bytes: row.get(4)?,
            at: row.get(5)?,
            state: row.get(6)?,
            found: row.get(7)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(query: &str) -> Wish {
        Wish {
            number: 0,
            query: query.to_owned(),
            user: Some("bob".parse().unwrap()),
            folder: Some(OsStr::from_bytes(b"/from \xff bob").into()),
            max_bytes: 10,
            at: 5,
            state: WishState::Waiting,
            found: None,
        }
    }

    fn file(number: usize) -> WishMatch {
        let name = format!("debian-{number}.iso").parse().unwrap();
        WishMatch { by: "bob".parse().unwrap(), name, size: 3, hash: ContentHash::of(b"iso") }
    }

    #[test]
    fn a_wish_waits_until_it_is_fulfilled_and_can_wait_again() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let number = profile.add_wish(&wish("debian*.iso")).unwrap().unwrap();
        let is_told = |wish, number| profile.told_wish_matches(wish).unwrap().contains(&file(number).told());
        assert_eq!(profile.wishes().unwrap(), [Wish { number, ..wish("debian*.iso") }]);
        assert!(profile.set_wish_paused(number, true).unwrap() && !profile.set_wish_paused(number, true).unwrap());
        assert!(!profile.fulfil_wish(number, &file(1)).unwrap(), "a paused one isn't");
        assert!(profile.set_wish_paused(number, false).unwrap());
        assert!(profile.add_wish_match(number, &file(1)).unwrap());
        assert!(!profile.add_wish_match(number, &file(1)).unwrap(), "a file is told once");
        assert!(is_told(number, 1));
        assert!(profile.fulfil_wish(number, &file(1)).unwrap() && !profile.fulfil_wish(number, &file(2)).unwrap());
        let fulfilled = &profile.wishes().unwrap()[0];
        assert_eq!((fulfilled.state, fulfilled.found.as_ref()), (WishState::Fulfilled, Some(&file(1))));
        assert!(!profile.set_wish_paused(number, true).unwrap(), "one that is over can't be paused");
        assert!(profile.set_wish_paused(number, false).unwrap());
        assert!(is_told(number, 1), "what was told stays told");
        assert!(profile.fulfil_wish(number, &file(2)).unwrap() && is_told(number, 2));
        assert!(profile.remove_wish(number).unwrap() && !profile.remove_wish(number).unwrap());
        assert!(!is_told(number, 1));
        assert!(!profile.add_wish_match(number, &file(1)).unwrap(), "it is gone");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let first = profile.add_wish(&wish("a")).unwrap().unwrap();
        let of = |user: &str, number| WishMatch { by: user.parse().unwrap(), ..file(number) };
        for user in ["bob", "carol", "dora", "eve"] {
            for number in 0..5 {
                assert!(profile.add_wish_match(first, &of(user, number)).unwrap());
            }
            assert!(!profile.add_wish_match(first, &of(user, 5)).unwrap(), "nobody takes the room of others");
        }
        assert!(!profile.add_wish_match(first, &of("zoe", 0)).unwrap());
        profile.set_wish_paused(first, true).unwrap();
        profile.set_wish_paused(first, false).unwrap();
        assert!(profile.add_wish_match(first, &of("zoe", 0)).unwrap(), "it tells again after it was resumed");
        for number in 0..5 {
            assert!(profile.add_wish_match(first, &of("bob", number)).unwrap());
        }
        profile.set_wish_paused(first, true).unwrap();
        profile.set_wish_paused(first, false).unwrap();
        assert!(profile.add_wish_match(first, &of("bob", 5)).unwrap(), "and of one user as well");
        assert!(!profile.add_wish_match(first, &of("zoe", 0)).unwrap(), "of others it told already");
        for _ in 1..MAX_OPEN_WISHES {
            assert!(profile.add_wish(&wish("a")).unwrap().is_some());
        }
        assert_eq!(profile.add_wish(&wish("a")).unwrap(), None);
        profile.fulfil_wish(first, &file(1)).unwrap();
        profile.add_wish(&wish("a")).unwrap().unwrap();
        assert!(!profile.set_wish_paused(first, false).unwrap(), "there are too many");
        for _ in 0..=MAX_FULFILLED {
            let last = profile.wishes().unwrap().last().unwrap().number;
            profile.fulfil_wish(last, &file(1)).unwrap();
            profile.add_wish(&wish("a")).unwrap().unwrap();
        }
        let kept = profile.wishes().unwrap();
        assert_eq!(kept.len(), MAX_OPEN_WISHES + usize::try_from(MAX_FULFILLED).unwrap());
    }
}
