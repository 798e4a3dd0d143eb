//! Rules by which sends of a user are accepted unasked, and what was accepted by them lately.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rusqlite::{TransactionBehavior, params};
use shared::peer::MessageId;
use shared::{Fingerprint, UserName};

use super::{Profile, ProfileError};

/// The time for which accepted sends are remembered, in milliseconds. The quotas of a rule count this time.
pub const ACCEPT_WINDOW_MS: i64 = 24 * 3600 * 1000;

/// The decision to accept what a user sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptRule {
    /// The sender.
    pub user: UserName,
    /// The sender's key when it was decided: with any other key the rule is over.
    pub fingerprint: Fingerprint,
    /// The folder that takes the files, absolute.
    pub folder: PathBuf,
    /// Bytes within 24 hours.
    pub max_bytes: u64,
    /// The time of the decision, in milliseconds since 1970.
    pub since: i64,
    /// True if what the user sends waits until the rule is resumed.
    pub is_paused: bool,
}

/// A send that was accepted by a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedSend {
    /// The message that announced it.
    pub id: MessageId,
    /// The time, in milliseconds since 1970.
    pub at: i64,
    /// Number of files.
    pub files: u32,
    /// Their bytes.
    pub bytes: u64,
}

/// The columns of a rule, unchecked.
type AcceptRuleRow = (String, String, Vec<u8>, i64, i64, bool);

impl Profile {
    /// Stores a rule, in place of an earlier one for the same user.
    pub fn put_accept_rule(&self, rule: &AcceptRule) -> Result<(), ProfileError> {
        let changed = self.writer()?.execute(
            "INSERT OR REPLACE INTO accept_rule (user, fingerprint, folder, max_bytes, since, is_paused)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                rule.user.as_str(),
                rule.fingerprint.to_string(),
                rule.folder.as_os_str().as_bytes(),
                i64::try_from(rule.max_bytes).unwrap_or(i64::MAX),
                rule.since,
                rule.is_paused
            ],
        );
        self.db_result(changed).map(|_| ())
    }

    /// Pauses the rule for a user, or resumes it; false if that was so already, or there is none.
    pub fn set_accept_paused(&self, user: &UserName, paused: bool) -> Result<bool, ProfileError> {
        let changed = self.writer()?.execute(
            "UPDATE accept_rule SET is_paused = ?2 WHERE user = ?1 AND is_paused <> ?2",
            params![user.as_str(), paused],
        );
        self.db_result(changed).map(|rows| rows > 0)
    }

    /// Removes the rule for a user; false if there was none.
    pub fn remove_accept_rule(&self, user: &UserName) -> Result<bool, ProfileError> {
        let changed = self.writer()?.execute("DELETE FROM accept_rule WHERE user = ?1", [user.as_str()]);
        self.db_result(changed).map(|rows| rows > 0)
    }

    /// Returns all rules, ordered by user.
    pub fn accept_rules(&self) -> Result<Vec<AcceptRule>, ProfileError> {
        // It names the value all the same: rusqlite refuses one that the statement doesn't use.
        self.accept_rules_where("?1 IS NULL", None)
    }

    /// Returns the rule for a user, whatever the user's present key is.
    pub fn accept_rule(&self, user: &UserName) -> Result<Option<AcceptRule>, ProfileError> {
        Ok(self.accept_rules_where("user = ?1", Some(user))?.pop())
    }

    /// Records that a send is accepted by a rule; once, however often it is tried.
    pub fn add_accepted_send(&self, user: &UserName, accepted: &AcceptedSend) -> Result<(), ProfileError> {
        self.in_transaction(TransactionBehavior::Immediate, |transaction| {
            let old = accepted.at.saturating_sub(ACCEPT_WINDOW_MS);
            // Here alone the table grows, so here it is trimmed to what the quotas count.
            transaction.execute("DELETE FROM accepted_send WHERE at <= ?1", [old])?;
            let bytes = i64::try_from(accepted.bytes).unwrap_or(i64::MAX);
            transaction.execute(
                "INSERT OR IGNORE INTO accepted_send (user, id, at, files, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![user.as_str(), accepted.id.to_string(), accepted.at, accepted.files, bytes],
            )?;
            Ok(())
        })
    }

    /// Returns what was accepted of a user by a rule lately.
    pub fn accepted_sends(&self, user: &UserName) -> Result<Vec<AcceptedSend>, ProfileError> {
        let sql = "SELECT id, at, files, bytes FROM accepted_send WHERE user = ?1 ORDER BY at, id";
        let rows = self.query_all(self.reader(), sql, [user.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        let damaged = |id: &str| self.damaged_error(format!("the accepted send {id:?}"));
        let check = |(id, at, files, bytes): (String, i64, u32, i64)| {
            let bytes = bytes.cast_unsigned();
            Ok(AcceptedSend { id: id.parse().map_err(|_| damaged(&id))?, at, files, bytes })
        };
        rows.into_iter().map(check).collect()
    }

    fn accept_rules_where(&self, condition: &str, user: Option<&UserName>) -> Result<Vec<AcceptRule>, ProfileError> {
        let columns = "user, fingerprint, folder, max_bytes, since, is_paused";
        let sql = format!("SELECT {columns} FROM accept_rule WHERE {condition} ORDER BY user");
        let rows = self.query_all(self.reader(), &sql, [user.map(UserName::as_str)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })?;
        let check = |(user, fingerprint, folder, max_bytes, since, is_paused): AcceptRuleRow| {
            let damaged = || self.damaged_error(format!("the rule for {user:?}"));
            Ok(AcceptRule {
                fingerprint: fingerprint.parse().map_err(|_| damaged())?,
                user: self.user_name(&user)?,
                folder: PathBuf::from(OsStr::from_bytes(&folder)),
                max_bytes: max_bytes.cast_unsigned(),
                since,
                is_paused,
            })
        };
        rows.into_iter().map(check).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_replaced_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        let rule = |byte, max_bytes| AcceptRule {
            user: bob.clone(),
            fingerprint: Fingerprint::from_bytes([byte; 32]),
            folder: OsStr::from_bytes(b"/from \xff bob").into(),
            max_bytes,
            since: 5,
            is_paused: false,
        };
        profile.put_accept_rule(&rule(1, 10)).unwrap();
        profile.put_accept_rule(&rule(2, 20)).unwrap();
        assert_eq!(profile.accept_rule(&bob).unwrap(), Some(rule(2, 20)));
        assert_eq!(profile.accept_rules().unwrap(), [rule(2, 20)]);
        assert!(profile.set_accept_paused(&bob, true).unwrap() && !profile.set_accept_paused(&bob, true).unwrap());
        assert!(profile.accept_rule(&bob).unwrap().unwrap().is_paused);
        assert!(profile.remove_accept_rule(&bob).unwrap() && !profile.remove_accept_rule(&bob).unwrap());
        assert_eq!(profile.accept_rule(&bob).unwrap(), None);
    }

    #[test]
    fn a_send_counts_once_and_for_a_day() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        let one = |byte, at| AcceptedSend { id: MessageId::from_bytes([byte; 16]), at, files: 2, bytes: 7 };
        profile.add_accepted_send(&bob, &one(1, 1)).unwrap();
        profile.add_accepted_send(&bob, &one(1, 9)).unwrap();
        assert_eq!(profile.accepted_sends(&bob).unwrap(), [one(1, 1)]);
        profile.add_accepted_send(&bob, &one(2, ACCEPT_WINDOW_MS + 1)).unwrap();
        assert_eq!(profile.accepted_sends(&bob).unwrap(), [one(2, ACCEPT_WINDOW_MS + 1)]);
    }
}
