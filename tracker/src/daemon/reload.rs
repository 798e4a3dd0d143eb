//! SIGHUP: the settings are brought together again, and what can change in a running tracker changes.

use std::ffi::OsString;
use std::sync::Arc;

use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use super::{Config, LogLevel, Settings, affordable};
use crate::server::Places;
use crate::service::Service;

/// What can change.
pub(super) struct Live {
    pub(super) service: Arc<Service>,
    pub(super) places: Arc<Places>,
    pub(super) log_level: LogLevel,
}

impl Live {
    /// Follows each SIGHUP.
    pub(super) async fn follow(self, mut hangup: Signal, mut config: Config, command_line: Vec<OsString>) {
        while hangup.recv().await.is_some() {
            match Settings::resolve(&command_line) {
                Ok(settings) => config = self.apply(&settings, &config).unwrap_or(config),
                Err(why) => error!(why = %why.to_string().trim(), "SIGHUP: the configuration stays as it was"),
            }
        }
    }

    fn apply(&self, settings: &Settings, old: &Config) -> Option<Config> {
        let new = settings.args.to_config()?;
        (self.log_level)(settings.args.log_level());
        self.service.set_policy(new.policy());
        self.places.set_limits(affordable(new.max_connections), new.per_address);
        let fixed = |config: &Config| (config.listen, config.data_folder.clone(), config.metrics, config.mdns);
        if fixed(&new) != fixed(old) {
            warn!("SIGHUP: listen, data-dir, metrics and no-mdns change only with a restart");
        }
        info!("SIGHUP: the configuration was read again");
        Some(new)
    }
}
