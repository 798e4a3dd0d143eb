//! Known trackers: their keys, addresses, and the trust in each key.
//!
//! A tracker is known by its key: one key at three addresses is one tracker.
//!
//! | trust | origin of the key | sent there |
//! |---|---|---|
//! | [`TrackerKeyTrust::Seen`] | shown at a first contact, checked by nobody | no secrets |
//! | [`TrackerKeyTrust::Confirmed`] | confirmed by the user or an option, or an account's password went there before trust was recorded | secrets as well |
//!
//! An address has one key; a tracker that shows another key there is refused.

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior};
use shared::Fingerprint;

use super::{Profile, ProfileError};

/// The trust in a tracker's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackerKeyTrust {
    /// Shown at a first contact.
    Seen,
    /// Confirmed by the user or an option.
    Confirmed,
}

/// A tracker on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownTracker {
    /// The tracker's key.
    pub fingerprint: Fingerprint,
    /// The trust in that key.
    pub trust: TrackerKeyTrust,
}

const PUT_ADDRESS: &str = "INSERT INTO tracker_address (address, fingerprint) VALUES (?1, ?2)
    ON CONFLICT (address) DO UPDATE SET fingerprint = ?2";
const PUT_SEEN: &str = "INSERT INTO tracker_key (fingerprint, confirmed) VALUES (?1, 0) ON CONFLICT DO NOTHING";
const PUT_CONFIRMED: &str = "INSERT INTO tracker_key (fingerprint, confirmed) VALUES (?1, 1)
    ON CONFLICT (fingerprint) DO UPDATE SET confirmed = 1";
/// A key without an address was replaced, and must not be trusted at any other address.
const FORGET_REPLACED: &str =
    "DELETE FROM tracker_key WHERE fingerprint NOT IN (SELECT fingerprint FROM tracker_address)";

impl TrackerKeyTrust {
    const fn from_confirmed(is_confirmed: bool) -> Self {
        if is_confirmed { Self::Confirmed } else { Self::Seen }
    }
}

impl Profile {
    /// Returns the tracker at `address`.
    pub fn tracker_at(&self, address: &str) -> Result<Option<KnownTracker>, ProfileError> {
        let database = self.reader();
        let query = "SELECT fingerprint, confirmed FROM tracker_address JOIN tracker_key USING (fingerprint)
            WHERE address = ?1";
        let mut query = self.db_result(database.prepare_cached(query))?;
        let found = query.query_row([address], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).optional();
        let Some((text, is_confirmed)) = self.db_result(found)? else { return Ok(None) };
        let damaged = |_| self.damaged_error(format!("the tracker's fingerprint {text:?}"));
        let fingerprint = text.parse().map_err(damaged)?;
        Ok(Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::from_confirmed(is_confirmed) }))
    }

    /// Returns all recorded addresses, as they were written, with their trackers. Confirmed keys come first.
    pub fn known_trackers(&self) -> Result<Vec<(String, KnownTracker)>, ProfileError> {
        let database = self.reader();
        let query = "SELECT address, fingerprint, confirmed FROM tracker_address JOIN tracker_key USING (fingerprint)
            ORDER BY confirmed DESC, address";
        let mut query = self.db_result(database.prepare_cached(query))?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?)));
        let rows = self.db_result(rows)?.map(|row| {
            let (address, text, is_confirmed) = self.db_result(row)?;
            let damaged = |_| self.damaged_error(format!("the tracker's fingerprint {text:?}"));
            let fingerprint = text.parse().map_err(damaged)?;
            Ok((address, KnownTracker { fingerprint, trust: TrackerKeyTrust::from_confirmed(is_confirmed) }))
        });
        rows.collect()
    }

    /// Returns the trust in a tracker's key, if the key is on record.
    pub fn tracker_key_trust(&self, key: &Fingerprint) -> Result<Option<TrackerKeyTrust>, ProfileError> {
        let database = self.reader();
        let mut query =
            self.db_result(database.prepare_cached("SELECT confirmed FROM tracker_key WHERE fingerprint = ?1"))?;
        let found = query.query_row([key.to_string()], |row| row.get(0)).optional();
        Ok(self.db_result(found)?.map(TrackerKeyTrust::from_confirmed))
    }

    /// Records the key of the tracker at `address`. A confirmed key stays confirmed.
    pub fn record_tracker(&self, address: &str, key: &Fingerprint) -> Result<(), ProfileError> {
        self.change_trackers(|transaction| {
            let key = key.to_string();
            // The key first: the address refers to it.
            transaction.execute(PUT_SEEN, [&key])?;
            transaction.execute(PUT_ADDRESS, [address, &key])
        })
    }

    /// Records the key of the tracker at `address` as confirmed.
    pub fn confirm_tracker(&self, address: &str, key: &Fingerprint) -> Result<(), ProfileError> {
        self.change_trackers(|transaction| {
            let key = key.to_string();
            transaction.execute(PUT_CONFIRMED, [&key])?;
            transaction.execute(PUT_ADDRESS, [address, &key])
        })
    }

    /// Replaces the key of the tracker at `address`, at all addresses of that tracker. The new key is confirmed.
    pub fn replace_tracker_key(&self, address: &str, key: &Fingerprint) -> Result<(), ProfileError> {
        self.change_trackers(|transaction| {
            let key = key.to_string();
            transaction.execute(PUT_CONFIRMED, [&key])?;
            transaction.execute(
                "UPDATE tracker_address SET fingerprint = ?2
                 WHERE fingerprint = (SELECT fingerprint FROM tracker_address WHERE address = ?1)",
                [address, &key],
            )?;
            // An address without a record was not part of the update.
            transaction.execute(PUT_ADDRESS, [address, &key])
        })
    }

    fn change_trackers(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<usize>,
    ) -> Result<(), ProfileError> {
        // Deferred suffices: each begins with a write, so no snapshot that was read first is out of date by then.
        self.in_transaction(TransactionBehavior::Deferred, |transaction| {
            change(transaction)?;
            transaction.execute(FORGET_REPLACED, [])?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Fingerprint = Fingerprint::from_bytes([1; 32]);
    const OTHER: Fingerprint = Fingerprint::from_bytes([2; 32]);

    fn profile() -> (tempfile::TempDir, Profile) {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        (home, profile)
    }

    fn known(fingerprint: Fingerprint, standing: TrackerKeyTrust) -> Option<KnownTracker> {
        Some(KnownTracker { fingerprint, trust: standing })
    }

    #[test]
    fn a_key_is_seen_until_it_is_confirmed_and_stays_so() {
        let (_home, profile) = profile();
        assert_eq!(profile.tracker_at("10.0.0.1:8000").unwrap(), None);
        profile.record_tracker("10.0.0.1:8000", &ONE).unwrap();
        assert_eq!(profile.tracker_at("10.0.0.1:8000").unwrap(), known(ONE, TrackerKeyTrust::Seen));
        profile.confirm_tracker("10.0.0.1:8000", &ONE).unwrap();
        profile.record_tracker("10.0.0.1:8000", &ONE).unwrap();
        assert_eq!(profile.tracker_at("10.0.0.1:8000").unwrap(), known(ONE, TrackerKeyTrust::Confirmed));
        assert_eq!(profile.tracker_key_trust(&OTHER).unwrap(), None);
    }

    #[test]
    fn one_key_at_several_addresses_is_one_tracker() {
        let (_home, profile) = profile();
        profile.record_tracker("10.0.0.1:8000", &ONE).unwrap();
        profile.record_tracker("tracker.lan:8000", &ONE).unwrap();
        profile.confirm_tracker("[fd00::1]:8000", &ONE).unwrap();
        for address in ["10.0.0.1:8000", "tracker.lan:8000", "[fd00::1]:8000"] {
            assert_eq!(profile.tracker_at(address).unwrap(), known(ONE, TrackerKeyTrust::Confirmed));
        }
        profile.replace_tracker_key("tracker.lan:8000", &OTHER).unwrap();
        for address in ["10.0.0.1:8000", "tracker.lan:8000", "[fd00::1]:8000"] {
            assert_eq!(profile.tracker_at(address).unwrap(), known(OTHER, TrackerKeyTrust::Confirmed));
        }
        // The replaced key is trusted nowhere.
        assert_eq!(profile.tracker_key_trust(&ONE).unwrap(), None);
    }

    #[test]
    fn a_key_may_be_replaced_where_none_was() {
        let (_home, profile) = profile();
        profile.replace_tracker_key("10.0.0.1:8000", &ONE).unwrap();
        profile.replace_tracker_key("10.0.0.1:8000", &ONE).unwrap();
        assert_eq!(profile.tracker_at("10.0.0.1:8000").unwrap(), known(ONE, TrackerKeyTrust::Confirmed));
    }
}
