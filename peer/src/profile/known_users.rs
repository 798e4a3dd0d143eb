//! Known users: the pinned key of each, and their last addresses.

use std::net::SocketAddr;

use rusqlite::{OptionalExtension, TransactionBehavior};
use shared::{Fingerprint, UserName};

use super::outbox::set_frozen_in;
use super::{Profile, ProfileError};

/// A user met before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownUser {
    /// The account's name.
    pub user: UserName,
    /// The pinned key.
    pub fingerprint: Fingerprint,
    /// The time of the first meeting, in seconds since 1970.
    pub first_seen: i64,
    /// True if the key was verified outside the program.
    pub verified: bool,
    /// The last known addresses, the likeliest first.
    pub addresses: Vec<SocketAddr>,
}

/// The result of comparing a key with the pinned one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyComparison {
    /// No key was pinned; this one is from now on.
    First,
    /// The pinned key.
    Known,
    /// Another key than the pinned one, which stays.
    Changed {
        /// The pinned key.
        recorded: Fingerprint,
    },
}

impl Profile {
    /// Compares a user's key with the pinned one, or pins it at the first meeting.
    pub fn compare_or_pin_key(
        &self,
        user: &UserName,
        fingerprint: Fingerprint,
        now_s: i64,
    ) -> Result<KeyComparison, ProfileError> {
        // Nearly always the key is on record: no write then, which may wait for another process.
        if let Some(friend) = self.known_user(user)? {
            let known = friend.fingerprint == fingerprint;
            return Ok(if known {
                KeyComparison::Known
            } else {
                KeyComparison::Changed { recorded: friend.fingerprint }
            });
        }
        let inserted = self.db_result(self.writer()?.execute(
            "INSERT INTO friend (user, fingerprint, first_seen) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            (user.as_str(), fingerprint.to_string(), now_s),
        ))?;
        // Another process may have pinned a key in between: compare with that one.
        if inserted == 1 { Ok(KeyComparison::First) } else { self.compare_or_pin_key(user, fingerprint, now_s) }
    }

    /// Pins `fingerprint` as the key of `user`, in place of any other.
    pub fn trust(
        &self,
        user: &UserName,
        fingerprint: Fingerprint,
        verified: bool,
        now_s: i64,
    ) -> Result<(), ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            transaction.execute(
                "INSERT INTO friend (user, fingerprint, first_seen, verified) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (user) DO UPDATE SET fingerprint = ?2, verified = ?4",
                (user.as_str(), fingerprint.to_string(), now_s, verified),
            )?;
            // Messages held back because of the change may go to the new key. Together: a trusted key with held messages
            // would have nothing left that lets them go.
            set_frozen_in(transaction, user, false).map(|_| ())
        })
    }

    /// Returns the record of `user`.
    pub fn known_user(&self, user: &UserName) -> Result<Option<KnownUser>, ProfileError> {
        self.known_user_where("user = ?1", user.as_str())
    }

    /// Returns whether this profile's user ever wrote to `user`.
    pub fn has_written_to(&self, user: &UserName) -> Result<bool, ProfileError> {
        let database = self.reader();
        let query = "SELECT EXISTS (SELECT 1 FROM message WHERE peer = ?1 AND direction = 'out')";
        let written = self.db_result(database.prepare_cached(query))?.query_row([user.as_str()], |row| row.get(0));
        self.db_result(written)
    }

    /// Returns the known user with this key.
    pub fn known_user_with_key(&self, fingerprint: &Fingerprint) -> Result<Option<KnownUser>, ProfileError> {
        self.known_user_where("fingerprint = ?1", &fingerprint.to_string())
    }

    /// Returns the user with this pinned key, if it is anybody other than `user`.
    pub fn owner_of_key(&self, key: &Fingerprint, user: &UserName) -> Result<Option<UserName>, ProfileError> {
        let owner: Option<String> = {
            let database = self.reader();
            let mut query = self.db_result(
                database.prepare_cached("SELECT user FROM friend WHERE fingerprint = ?1 AND user <> ?2 ORDER BY user"),
            )?;
            let owner = query.query_row([&key.to_string(), user.as_str()], |row| row.get(0));
            self.db_result(owner.optional())?
        };
        owner.map(|owner| self.user_name(&owner)).transpose()
    }

    /// Records the addresses of a user, for the time when the tracker can't be asked.
    pub fn remember_addresses(&self, user: &UserName, addresses: &[SocketAddr]) -> Result<(), ProfileError> {
        // Unchanged addresses cost no write, which may wait for the disk or another process.
        if self.known_user(user)?.is_none_or(|friend| friend.addresses == addresses) || self.is_read_only() {
            return Ok(());
        }
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let changed = self
            .writer()?
            .execute("UPDATE friend SET addresses = ?2 WHERE user = ?1", (user.as_str(), texts.join(" ")));
        self.db_result(changed).map(|_| ())
    }

    fn known_user_where(&self, condition: &str, value: &str) -> Result<Option<KnownUser>, ProfileError> {
        let query = format!("SELECT user, fingerprint, first_seen, verified, addresses FROM friend WHERE {condition}");
        let row = {
            let database = self.reader();
            let mut query = self.db_result(database.prepare_cached(&query))?;
            let row = query.query_row([value], |row| {
                let (user, fingerprint): (String, String) = (row.get(0)?, row.get(1)?);
                let addresses: String = row.get(4)?;
                Ok((user, fingerprint, row.get(2)?, row.get(3)?, addresses))
            });
            self.db_result(row.optional())?
        };
        let Some((user, fingerprint, first_seen, verified, addresses)) = row else { return Ok(None) };
        let damaged = || self.damaged_error(format!("the friend {user:?}"));
        Ok(Some(KnownUser {
            user: user.parse().map_err(|_| damaged())?,
            fingerprint: fingerprint.parse().map_err(|_| damaged())?,
            first_seen,
            verified,
            // An address in a format of a later release is left out: it is only a hint.
            addresses: addresses.split_whitespace().filter_map(|text| text.parse().ok()).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_stays_until_it_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        let (one, two) = (Fingerprint::from_bytes([1; 32]), Fingerprint::from_bytes([2; 32]));
        assert_eq!(profile.compare_or_pin_key(&bob, one, 5).unwrap(), KeyComparison::First);
        assert_eq!(profile.compare_or_pin_key(&bob, one, 6).unwrap(), KeyComparison::Known);
        assert_eq!(profile.compare_or_pin_key(&bob, two, 7).unwrap(), KeyComparison::Changed { recorded: one });
        assert_eq!(profile.known_user(&bob).unwrap().unwrap().fingerprint, one);
        profile.trust(&bob, two, true, 8).unwrap();
        let friend = profile.known_user_with_key(&two).unwrap().unwrap();
        assert_eq!((friend.user, friend.verified, friend.first_seen), (bob.clone(), true, 5));
        assert_eq!(profile.known_user_with_key(&one).unwrap(), None);
        let carol: UserName = "carol".parse().unwrap();
        assert_eq!(profile.owner_of_key(&two, &carol).unwrap(), Some(bob.clone()));
        assert_eq!(profile.owner_of_key(&two, &bob).unwrap(), None);
        assert_eq!(profile.owner_of_key(&one, &carol).unwrap(), None);
        let addresses = ["10.0.0.1:5".parse().unwrap(), "[::1]:6".parse().unwrap()];
        profile.remember_addresses(&bob, &addresses).unwrap();
        assert_eq!(profile.known_user(&bob).unwrap().unwrap().addresses, addresses);
    }
}
