//! The announcement of the tracker on the local network, by mDNS as `_vizinho._tcp.local.`.
//!
//! TXT: `v` is the protocol's version, `fp` the fingerprint of the tracker's certificate. Both are hints without
//! proof: a peer pins the key that it chose. Nothing waits for the announcement, and its failure doesn't stop the
//! tracker.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};
use shared::Fingerprint;
use tracing::{debug, info};

use super::listeners::{self, ListenAddress};

/// The DNS-SD service type.
const SERVICE_TYPE: &str = "_vizinho._tcp.local.";
/// The protocol's version in the TXT record.
const PROTOCOL_VERSION: &str = "1";
/// The time for the goodbye packets.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(250);

/// A running announcement, to be ended with [`MdnsAnnouncement::end`].
pub(super) struct MdnsAnnouncement {
    daemon: ServiceDaemon,
    names: Vec<String>,
}

/// The addresses announced with one port: those that the tracker listens on, and no others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct AnnouncedAddresses {
    /// All addresses of this family are announced.
    every_v4: bool,
    every_v6: bool,
    /// Further addresses.
    ips: Vec<IpAddr>,
}

impl MdnsAnnouncement {
    /// Announces a tracker that other machines can reach; `None` for one on loopback, or on failure.
    pub(super) fn begin(reachable: &[ListenAddress], fingerprint: Fingerprint) -> Option<Self> {
        let places = addresses_by_port(reachable);
        if places.is_empty() {
            return None;
        }
        // The library counts milliseconds since 1970, and panics if the clock is earlier.
        if SystemTime::now() < UNIX_EPOCH {
            info!(why = "this machine's clock is before 1970", "not announced on the local network");
            return None;
        }
        match register_services(places, fingerprint) {
            Ok(announcement) => Some(announcement),
            Err(why) => {
                info!(%why, "not announced on the local network");
                None
            }
        }
    }

    /// Sends the goodbye, which removes the tracker from others' caches.
    pub(super) fn end(self) {
        let begun: Vec<_> = self.names.iter().filter_map(|name| self.daemon.unregister(name).ok()).collect();
        let unregistered = begun.iter().filter(|answer| answer.recv_timeout(GOODBYE_TIMEOUT).is_ok()).count();
        let ended = self.daemon.shutdown().map(|answer| answer.recv_timeout(GOODBYE_TIMEOUT));
        debug!(unregistered, ended = ended.is_ok(), "no longer announced");
    }
}

/// Groups the addresses that other machines can reach by port.
fn addresses_by_port(reachable: &[ListenAddress]) -> BTreeMap<u16, AnnouncedAddresses> {
    let mut places: BTreeMap<u16, AnnouncedAddresses> = BTreeMap::new();
    for ListenAddress { address, is_dual } in
        reachable.iter().filter(|one| listeners::is_reachable_by_others(one.address.ip()))
    {
        let place = places.entry(address.port()).or_default();
        match address.ip() {
            ip if !ip.is_unspecified() => place.ips.push(ip.to_canonical()),
            IpAddr::V4(_) => place.every_v4 = true,
            IpAddr::V6(_) => {
                place.every_v6 = true;
                place.every_v4 |= is_dual;
            }
        }
    }
    places
}

fn register_services(
    places: BTreeMap<u16, AnnouncedAddresses>,
    fingerprint: Fingerprint,
) -> Result<MdnsAnnouncement, mdns_sd::Error> {
    let daemon = ServiceDaemon::new()?;
    let fingerprint = fingerprint.to_string();
    // The fingerprint makes the names of several trackers on one network distinct.
    let short = fingerprint.get(..12).unwrap_or_default();
    let properties = [("v", PROTOCOL_VERSION), ("fp", fingerprint.as_str())];
    let mut names = Vec::new();
    for (port, AnnouncedAddresses { every_v4, every_v6, ips }) in places {
        // Each port has a host name of its own, as a host's addresses are announced as a whole.
        let number = if names.is_empty() { String::new() } else { format!("-{port}") };
        let (instance, host) = (format!("Vizinho tracker {short}{number}"), format!("vizinho-{short}{number}.local."));
        let mut service = ServiceInfo::new(SERVICE_TYPE, &instance, &host, ips.as_slice(), port, &properties[..])?;
        match (every_v4, every_v6) {
            (true, true) => service = service.enable_addr_auto(),
            (true, false) => {
                service.set_interfaces(vec![IfKind::IPv4]);
                service = service.enable_addr_auto();
            }
            (false, true) => {
                service.set_interfaces(vec![IfKind::IPv6]);
                service = service.enable_addr_auto();
            }
            (false, false) => {}
        }
        let name = service.get_fullname().to_owned();
        daemon.register(service)?;
        info!(name, port, "announced on the local network");
        names.push(name);
    }
    Ok(MdnsAnnouncement { daemon, names })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_of_this_machine_alone_is_not_announced() {
        let all = ["127.0.0.1:8000", "[::1]:8000", "[::ffff:127.0.0.1]:8000"].map(|address| at(address, false));
        assert!(MdnsAnnouncement::begin(&all, Fingerprint::from_bytes([1; 32])).is_none());
    }

    fn at(address: &str, is_dual: bool) -> ListenAddress {
        ListenAddress { address: address.parse().unwrap(), is_dual }
    }

    #[test]
    fn what_is_announced_is_what_is_listened_on() {
        let place = |every_v4, every_v6, ips: &[&str]| AnnouncedAddresses {
            every_v4,
            every_v6,
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        };
        for (listened, expected) in [
            (&[at("0.0.0.0:8000", false)][..], vec![(8000, place(true, false, &[]))]),
            (&[at("[::]:8000", false)], vec![(8000, place(false, true, &[]))]),
            (&[at("[::]:8000", true)], vec![(8000, place(true, true, &[]))]),
            (&[at("0.0.0.0:8000", false), at("[::]:8000", false)], vec![(8000, place(true, true, &[]))]),
            (
                &[at("10.0.0.1:8000", false), at("127.0.0.1:8000", false), at("[fe80::1%2]:8001", false)],
                vec![(8000, place(false, false, &["10.0.0.1"])), (8001, place(false, false, &["fe80::1"]))],
            ),
            (&[at("0.0.0.0:8000", false), at("[fd00::1]:8000", false)], vec![(8000, place(true, false, &["fd00::1"]))]),
            (&[at("127.0.0.1:8000", false)], vec![]),
        ] {
            assert_eq!(addresses_by_port(listened), expected.into_iter().collect(), "{listened:?}");
        }
    }
}
