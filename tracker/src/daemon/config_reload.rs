//! Reloading on SIGHUP: the settings are resolved anew, and those that can change in a running tracker are applied.

use std::ffi::OsString;
use std::sync::Arc;

use localization::in_english;
use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use super::{DaemonConfig, LogSetter, TrackerSettings, affordable_connections};
use crate::connection_slots::ConnectionSlots;
use crate::service::TrackerService;

/// Keys that change only with a restart: they concern things that are opened once. All others change at once.
const RESTART_ONLY_KEYS: [&str; 6] = ["data-dir", "lang", "listen", "metrics", "no-mdns", "store"];

/// The parts of the tracker that a reload changes.
pub(super) struct ConfigReloader {
    pub(super) service: Arc<TrackerService>,
    pub(super) slots: Arc<ConnectionSlots>,
    pub(super) set_log: LogSetter,
}

impl ConfigReloader {
    /// Reloads at each SIGHUP.
    pub(super) async fn run_on_hangup(
        self,
        mut hangup: Signal,
        begun_with: TrackerSettings,
        command_line: Vec<OsString>,
    ) {
        let mut current = begun_with.values();
        while hangup.recv().await.is_some() {
            // What is wrong goes to the log.
            match in_english(|| TrackerSettings::resolve(&command_line).map_err(|why| why.to_string())) {
                Ok(new) => {
                    let (now, later) = changed_keys(&current, &new.values(), &begun_with.values());
                    self.apply(&new, &now, &later);
                    // Changes are reported against the last reload, those that need a restart against the start.
                    current = new.values();
                }
                Err(why) => error!(why = %why.trim(), "SIGHUP: the configuration stays as it was"),
            }
        }
    }

    fn apply(&self, new: &TrackerSettings, now: &[String], later: &[String]) {
        let Some(config) = new.args.to_config() else { return };
        self.service.set_policy(config.policy());
        // Without `..`, so that the compiler asks for a decision about each new field.
        let DaemonConfig {
            max_connections,
            per_address,
            // Of things that are opened once.
            listen: _,
            data_folder: _,
            metrics: _,
            mdns: _,
            // In the policy.
            legacy_ttl: _,
            legacy_auth: _,
            rates: _,
            registration: _,
            trusted_doors: _,
            announceable: _,
            catalogue_bytes: _,
        } = config;
        self.slots.set_limits(affordable_connections(max_connections), per_address);
        (self.set_log)(new.args.log_level(), new.args.log_format());
        if !later.is_empty() {
            warn!(keys = later.join(", "), "SIGHUP: these change only with a restart");
        }
        info!(changed = now.join(", "), "SIGHUP: the configuration was read again");
    }
}

/// A key and its value as text.
type SettingValue = (String, Option<String>);

/// Returns the keys whose values change now, and those that differ from the start and need a restart.
fn changed_keys(old: &[SettingValue], new: &[SettingValue], begun_with: &[SettingValue]) -> (Vec<String>, Vec<String>) {
    let differing = |from: &[SettingValue], with_a_restart: bool| {
        let keys = new.iter().filter(|value| !from.contains(value)).map(|(key, _)| key.clone());
        keys.filter(|key| RESTART_ONLY_KEYS.contains(&key.as_str()) == with_a_restart).collect()
    };
    (differing(old, false), differing(begun_with, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(words: &[&str]) -> TrackerSettings {
        let all: Vec<OsString> = ["tracker"].iter().chain(words).map(OsString::from).collect();
        TrackerSettings::resolve(&all).unwrap()
    }

    #[test]
    fn every_key_changes_at_once_or_is_said_to_need_a_restart() {
        // Another value than the default for every key there is.
        let other = |key: &str| match key {
            "listen" | "metrics" => format!("--{key}=127.0.0.1:1"),
            "registration" => format!("--{key}=closed"),
            "trusted-door" => format!("--{key}={}", "ab".repeat(32)),
            "allow-announce" => format!("--{key}=192.0.2.0/24"),
            "log" => format!("--{key}=error"),
            "log-format" => format!("--{key}=json"),
            "store" => format!("--{key}=postgres://t@h/v"),
            "data-dir" => format!("--{key}=elsewhere"),
            "lang" => format!("--{key}=pt-BR"),
            "no-legacy-auth" | "no-mdns" => format!("--{key}"),
            _ => format!("--{key}=7"),
        };
        let before = settings(&[]);
        for (key, _) in before.values() {
            let after = settings(&[&other(&key)]);
            let (now, later) = changed_keys(&before.values(), &after.values(), &before.values());
            if RESTART_ONLY_KEYS.contains(&key.as_str()) {
                assert_eq!((now, later), (vec![], vec![key]));
                continue;
            }
            assert_eq!((now, later), (vec![key.clone()], vec![]));
            // One of the keys that `apply` handles: all of `DaemonConfig` except those for a restart, and the log.
            let (before, after) = (&before.args, &after.args);
            let in_force = before.to_config() != after.to_config()
                || before.log_level() != after.log_level()
                || before.log_format() != after.log_format();
            assert!(in_force, "{key} does nothing");
        }
    }

    #[test]
    fn what_needs_a_restart_is_said_until_it_is_as_it_was() {
        let (begun, other) = (settings(&[]).values(), settings(&["--listen=127.0.0.1:1"]).values());
        assert_eq!(changed_keys(&other, &other, &begun), (vec![], vec!["listen".to_owned()]));
        assert_eq!(changed_keys(&other, &begun, &begun), (vec![], vec![]));
    }
}
