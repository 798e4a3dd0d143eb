//! The service manager's protocols (systemd): socket activation, notifications and the watchdog.

use std::future::pending;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, warn};

use crate::service::TrackerService;

/// Takes the listening sockets that the service manager passed, if any.
pub(super) fn activated_listeners() -> std::io::Result<Vec<StdListener>> {
    let mut sockets = ListenFd::from_env();
    let mut listeners = Vec::new();
    for at in 0..sockets.len() {
        if let Some(listener) = sockets.take_tcp_listener(at)? {
            // Tokio needs it, and not every service manager sets it.
            listener.set_nonblocking(true)?;
            listeners.push(listener);
        }
    }
    Ok(listeners)
}

/// Notifies that the tracker is ready.
pub(super) fn notify_ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Notifies that the tracker stops.
pub(super) fn notify_stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Feeds the watchdog as long as the registry and the account store's thread respond. Never returns.
pub(super) async fn feed_watchdog(service: Arc<TrackerService>) {
    match sd_notify::watchdog_enabled() {
        // A third of the timeout: one late notification doesn't restart the tracker.
        Some(patience) => notify_while_alive(&service, patience / 3, || notify(&[NotifyState::Watchdog])).await,
        None => pending().await,
    }
}

async fn notify_while_alive(service: &TrackerService, every: Duration, say_well: impl Fn()) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(every, service.is_alive()).await {
            Ok(true) => say_well(),
            Ok(false) => error!("the account store's thread is gone: the service manager will start the tracker anew"),
            Err(_) => warn!(after = ?every, "the account store doesn't answer"),
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(states) {
        warn!(%why, "the service manager can't be told");
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::store::{AccountStore, PresenceStore, SqliteAccountStore};
    use crate::tests::POLICY;

    #[tokio::test]
    async fn nothing_is_well_while_the_account_store_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = AccountStore::start(SqliteAccountStore::open(&folder.path().join("db")).unwrap(), None).unwrap();
        let memory = PresenceStore::open(&folder.path().join("presence.db")).unwrap();
        let service = TrackerService::start(POLICY, accounts, memory).await.unwrap();
        let (well, mut heard) = watch::channel(());
        let feeding = notify_while_alive(&service, Duration::from_millis(20), || well.send_replace(()));
        let watched = async {
            heard.changed().await.unwrap();
            // Another writer holds the file, which blocks the store as a disk that never finishes a sync would.
            let other = rusqlite::Connection::open(folder.path().join("db")).unwrap();
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            let (user, password) = ("bob".parse().unwrap(), shared::tracker::Password::new("x").unwrap());
            let quiet = async {
                // Until the change reaches the store, the tracker counts as alive.
                while timeout(Duration::from_millis(300), heard.changed()).await.is_ok() {}
                other.execute_batch("COMMIT").unwrap();
            };
            let (added, ()) = tokio::join!(service.add_account(&user, &password), quiet);
            added.unwrap();
            heard.changed().await.unwrap();
        };
        tokio::select! {
            () = feeding => {}
            () = watched => {}
        }
    }
}
