//! The tracker's place on the local network, told by mDNS as `_vizinho._tcp.local.`.
//!
//! TXT: `v` is the protocol's version, `fp` the fingerprint of the tracker's certificate. A hint and no proof: whoever
//! believes it pins what it chose. Nothing waits for it, and no fault of it stops the tracker.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mdns_sd::{ServiceDaemon, ServiceInfo};
use shared::Fingerprint;
use tracing::{debug, info};

/// The service's type.
const SERVICE: &str = "_vizinho._tcp.local.";
/// The protocol's version.
const VERSION: &str = "1";
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_millis(250);

/// Announced as long as this lives.
pub(super) struct Announcement {
    daemon: ServiceDaemon,
    name: String,
}

impl Announcement {
    /// Announces a tracker that others can reach; `None` for one that only this machine can, or when it fails.
    pub(super) fn begin(address: SocketAddr, fingerprint: Fingerprint) -> Option<Self> {
        if address.ip().to_canonical().is_loopback() {
            return None;
        }
        // The library counts milliseconds since 1970, and panics where there are none.
        if SystemTime::now() < UNIX_EPOCH {
            info!(why = "this machine's clock is before 1970", "not announced on the local network");
            return None;
        }
        match announce(address, fingerprint) {
            Ok(announcement) => Some(announcement),
            Err(why) => {
                info!(%why, "not announced on the local network");
                None
            }
        }
    }

    /// Says goodbye.
    pub(super) fn end(self) {
        let unregistered = self.daemon.unregister(&self.name).map(|answer| answer.recv_timeout(GOODBYE));
        let ended = self.daemon.shutdown().map(|answer| answer.recv_timeout(GOODBYE));
        debug!(goodbye = unregistered.is_ok(), ended = ended.is_ok(), "no longer announced");
    }
}

fn announce(address: SocketAddr, fingerprint: Fingerprint) -> Result<Announcement, mdns_sd::Error> {
    let daemon = ServiceDaemon::new()?;
    let fingerprint = fingerprint.to_string();
    // Two trackers on one network are told apart by their keys.
    let short = fingerprint.get(..12).unwrap_or_default();
    let (instance, host) = (format!("Vizinho tracker {short}"), format!("vizinho-{short}.local."));
    let properties = [("v", VERSION), ("fp", fingerprint.as_str())];
    let everywhere = address.ip().is_unspecified();
    let ips: &[IpAddr] = if everywhere { &[] } else { &[address.ip()] };
    let service = ServiceInfo::new(SERVICE, &instance, &host, ips, address.port(), &properties[..])?;
    let service = if everywhere { service.enable_addr_auto() } else { service };
    let name = service.get_fullname().to_owned();
    daemon.register(service)?;
    info!(name, "announced on the local network");
    Ok(Announcement { daemon, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_of_this_machine_alone_is_not_announced() {
        for address in ["127.0.0.1:8000", "[::1]:8000", "[::ffff:127.0.0.1]:8000"] {
            let announcement = Announcement::begin(address.parse().unwrap(), Fingerprint::from_bytes([1; 32]));
            assert!(announcement.is_none());
        }
    }
}
