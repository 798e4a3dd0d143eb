//! Settings of the profile: the account and what commands and the node remember.

use rusqlite::{OptionalExtension, TransactionBehavior};
use shared::UserName;

use super::{Profile, ProfileError};

pub(super) const PUT_SETTING: &str =
    "INSERT INTO setting (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";

/// Who this profile is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileAccount {
    /// The account's name.
    pub user: UserName,
    /// The tracker it is registered with, `HOST:PORT`.
    pub tracker: String,
}

impl Profile {
    /// Returns the account of the profile, if it ever registered or logged in.
    pub fn account(&self) -> Result<Option<ProfileAccount>, ProfileError> {
        let (Some(user), Some(tracker)) = (self.setting("user")?, self.setting("tracker")?) else { return Ok(None) };
        let user = user.parse().map_err(|_| self.damaged_error(format!("the account {user:?}")))?;
        Ok(Some(ProfileAccount { user, tracker }))
    }

    /// Records the account of the profile.
    pub fn set_account(&self, account: &ProfileAccount) -> Result<(), ProfileError> {
        // Both or none: a user without a tracker is no account.
        self.in_transaction(TransactionBehavior::Deferred, |transaction| {
            for (key, value) in [("user", account.user.as_str()), ("tracker", &account.tracker)] {
                transaction.execute(PUT_SETTING, [key, value])?;
            }
            Ok(())
        })
    }

    /// Removes the account; the identity stays.
    pub fn clear_account(&self) -> Result<(), ProfileError> {
        // The tracker's setting stays: it is the default of the next login.
        self.set_setting("user", None)
    }

    /// Returns the tracker used last, if any.
    pub fn last_tracker(&self) -> Result<Option<String>, ProfileError> {
        self.setting("tracker")
    }

    /// Returns the UDP port that the node had last; using it again keeps addresses valid that other peers remember.
    pub fn last_port(&self) -> Result<Option<u16>, ProfileError> {
        Ok(self.setting("port")?.and_then(|text| text.parse().ok()))
    }

    /// Records the node's UDP port.
    pub fn set_last_port(&self, port: u16) -> Result<(), ProfileError> {
        self.set_setting("port", Some(&port.to_string()))
    }

    /// Returns the TCP port at which links were served last; using it again keeps those that were given away.
    pub fn last_link_port(&self) -> Result<Option<u16>, ProfileError> {
        Ok(self.setting("link_port")?.and_then(|text| text.parse().ok()))
    }

    /// Records the TCP port of links.
    pub fn set_last_link_port(&self, port: u16) -> Result<(), ProfileError> {
        self.set_setting("link_port", Some(&port.to_string()))
    }

    /// Returns the TCP port at which the page was served last; using it again keeps bookmarks valid.
    pub fn last_page_port(&self) -> Result<Option<u16>, ProfileError> {
        Ok(self.setting("page_port")?.and_then(|text| text.parse().ok()))
    }

    /// Records the TCP port of the page.
    pub fn set_last_page_port(&self, port: u16) -> Result<(), ProfileError> {
        self.set_setting("page_port", Some(&port.to_string()))
    }

    /// Returns the record of the last incomplete fetch, as the fetch wrote it.
    pub fn last_failed_fetch(&self) -> Result<Option<String>, ProfileError> {
        self.setting("failed_fetch")
    }

    /// Records an incomplete fetch, or removes the record.
    pub fn set_last_failed_fetch(&self, what: Option<&str>) -> Result<(), ProfileError> {
        // The common case writes nothing, and so never waits for the database.
        if what.is_none() && self.setting("failed_fetch")?.is_none() {
            return Ok(());
        }
        self.set_setting("failed_fetch", what)
    }

    /// Returns the program that runs for every received message, and its arguments.
    pub fn message_hook(&self) -> Result<Option<Vec<String>>, ProfileError> {
        let damaged = |text: &String| self.damaged_error(format!("the hook {text:?}"));
        let hook = self.setting("hook")?;
        hook.map(|text| serde_json::from_str(&text).map_err(|_| damaged(&text))).transpose()
    }

    /// Sets the program that runs for every received message; `None` for none.
    pub fn set_message_hook(&self, argv: Option<&[String]>) -> Result<(), ProfileError> {
        let text = argv.map(|argv| serde_json::Value::from(argv).to_string());
        self.set_setting("hook", text.as_deref())
    }

    /// Returns whether a terminal rings when a message arrives; on unless turned off.
    pub fn is_bell_enabled(&self) -> Result<bool, ProfileError> {
        Ok(self.setting("bell")?.as_deref() != Some("off"))
    }

    /// Sets whether a terminal rings when a message arrives.
    pub fn set_bell_enabled(&self, rings: bool) -> Result<(), ProfileError> {
        self.set_setting("bell", Some(if rings { "on" } else { "off" }))
    }

    /// Returns whether the desktop tells of messages: as set, else unless a program runs for each, which may tell itself.
    pub fn is_desktop_notified(&self) -> Result<bool, ProfileError> {
        match self.setting("desktop")?.as_deref() {
            Some(set) => Ok(set != "off"),
            None => Ok(self.message_hook()?.is_none()),
        }
    }

    /// Sets whether the desktop tells of messages.
    pub fn set_desktop_notified(&self, tells: bool) -> Result<(), ProfileError> {
        self.set_setting("desktop", Some(if tells { "on" } else { "off" }))
    }

    pub(super) fn setting(&self, key: &str) -> Result<Option<String>, ProfileError> {
        let database = self.reader();
        let mut query = self.db_result(database.prepare_cached("SELECT value FROM setting WHERE key = ?1"))?;
        self.db_result(query.query_row([key], |row| row.get(0)).optional())
    }

    pub(super) fn set_setting(&self, key: &str, value: Option<&str>) -> Result<(), ProfileError> {
        let writer = self.writer()?;
        let changed = match value {
            Some(value) => writer.execute(PUT_SETTING, [key, value]),
            None => writer.execute("DELETE FROM setting WHERE key = ?1", [key]),
        };
        self.db_result(changed).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("p")).unwrap();
        assert_eq!(profile.account().unwrap(), None);
        let account = ProfileAccount { user: "alice".parse().unwrap(), tracker: "10.0.0.1:8000".into() };
        profile.set_account(&account).unwrap();
        drop(profile);
        let profile = Profile::open(&home.path().join("p")).unwrap();
        assert_eq!(profile.account().unwrap(), Some(account));
        profile.clear_account().unwrap();
        assert_eq!(profile.account().unwrap(), None);
        assert_eq!(profile.last_tracker().unwrap().as_deref(), Some("10.0.0.1:8000"));
    }
}
