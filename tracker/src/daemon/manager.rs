//! The service manager: sockets that it opened, and what it wants to be told (systemd's protocols).

use std::future::pending;
use std::net::TcpListener as StdListener;
use std::sync::Arc;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tracing::warn;

use crate::service::Service;

/// The listening socket that the service manager handed over, if it did.
pub(super) fn activated_listener() -> std::io::Result<Option<StdListener>> {
    let mut sockets = ListenFd::from_env();
    let listener = sockets.take_tcp_listener(0)?;
    if let Some(listener) = &listener {
        listener.set_nonblocking(true)?;
    }
    Ok(listener)
}

/// Ready to serve.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// About to end.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says in time that all is well, as long as the registry answers. Never ends.
pub(super) async fn feed_watchdog(service: Arc<Service>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return pending().await };
    let mut ticks = tokio::time::interval(patience / 3);
    loop {
        ticks.tick().await;
        service.expire();
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(states) {
        warn!(%why, "the service manager can't be told");
    }
}
