//! Trackers that tell of themselves on the local network (mDNS/DNS-SD, `_vizinho._tcp.local.`).
//!
//! Anybody on the network can announce anything: what is heard is a hint. Of an announcement only its addresses, port,
//! protocol version (TXT `v`) and fingerprint (TXT `fp`) are looked at, and only once they are parsed; its names are
//! never shown. Whoever believes one demands that fingerprint of the tracker's certificate.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent};
use shared::Fingerprint;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::tracker::TrackerAddress;

/// The service's type.
const SERVICE: &str = "_vizinho._tcp.local.";
/// The protocol's version.
const VERSION: &str = "1";
/// How long is listened; somebody who answers sooner than all others wins nothing by it.
pub const LISTEN_FOR: Duration = Duration::from_secs(2);
/// Trackers that are taken note of; a network with more has somebody who makes them up.
const MOST_TRACKERS: usize = 32;
/// Addresses of one tracker that are taken note of.
const MOST_ADDRESSES: usize = 8;
/// For an announced address to take a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// A tracker as it was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The key its certificate is said to have.
    pub fingerprint: Fingerprint,
    /// Where it is said to listen: IPv4 first.
    pub addresses: Vec<SocketAddr>,
}

/// Why nothing can be heard.
#[derive(Debug, thiserror::Error)]
#[error("the local network can't be listened to: {0}")]
pub struct DiscoveryError(String);

/// All trackers that are announced within [`LISTEN_FOR`], each key once, ordered by address.
///
/// # Errors
/// [`DiscoveryError`].
pub async fn announced_trackers() -> Result<Vec<Announced>, DiscoveryError> {
    let heard = tokio::task::spawn_blocking(|| listen(Instant::now() + LISTEN_FOR)).await;
    heard.map_err(|why| DiscoveryError(why.to_string()))?
}

impl Announced {
    /// The first of its addresses that takes a connection; `None` when none does.
    pub async fn reachable_address(&self) -> Option<TrackerAddress> {
        let mut attempts = JoinSet::new();
        for (rank, address) in self.addresses.iter().copied().enumerate() {
            attempts.spawn(async move {
                let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
                matches!(connected, Ok(Ok(_))).then_some((rank, address))
            });
        }
        let reachable = attempts.join_all().await.into_iter().flatten().min();
        reachable.map(|(_, address)| address.into())
    }
}

fn listen(until: Instant) -> Result<Vec<Announced>, DiscoveryError> {
    let failed = |why: mdns_sd::Error| DiscoveryError(why.to_string());
    let daemon = ServiceDaemon::new().map_err(failed)?;
    let events = daemon.browse(SERVICE).map_err(failed)?;
    let mut trackers = Vec::new();
    while let Ok(event) = events.recv_deadline(until) {
        if let ServiceEvent::ServiceResolved(service) = event
            && let Some(announced) = announced(&service)
        {
            note(&mut trackers, announced);
        }
    }
    // It ends by itself when nobody holds it any more; asked, it does so now.
    let _ = daemon.shutdown();
    trackers.sort_by(|one, other| one.addresses.cmp(&other.addresses));
    Ok(trackers)
}

fn announced(service: &ResolvedService) -> Option<Announced> {
    let ips = service.get_addresses().iter().map(mdns_sd::ScopedIp::to_ip_addr);
    let text = |key| service.get_property_val_str(key);
    parse(service.get_port(), ips, text("v"), text("fp"))
}

/// What an announcement comes to; `None` when it is none of a tracker that this peer can talk to.
fn parse(
    port: u16,
    ips: impl Iterator<Item = IpAddr>,
    version: Option<&str>,
    fingerprint: Option<&str>,
) -> Option<Announced> {
    if version != Some(VERSION) || port == 0 {
        return None;
    }
    let fingerprint = fingerprint?.parse().ok()?;
    let usable = ips.map(|ip| ip.to_canonical()).filter(|ip| is_usable(*ip));
    let mut addresses: Vec<SocketAddr> = usable.map(|ip| SocketAddr::new(ip, port)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    (!addresses.is_empty()).then_some(Announced { fingerprint, addresses })
}

/// Nobody else's loopback, nothing that is many machines at once, nothing that means another thing on each interface.
const fn is_usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local()),
    }
}

fn note(trackers: &mut Vec<Announced>, new: Announced) {
    let has_room = trackers.len() < MOST_TRACKERS;
    match trackers.iter_mut().find(|known| known.fingerprint == new.fingerprint) {
        Some(known) => {
            known.addresses.extend(new.addresses);
            known.addresses.sort_unstable();
            known.addresses.dedup();
            known.addresses.truncate(MOST_ADDRESSES);
        }
        None if has_room => trackers.push(new),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> String {
        Fingerprint::from_bytes([n; 32]).to_string()
    }

    fn parsed(ips: &[&str], version: &str, fingerprint: &str) -> Option<Announced> {
        parse(8000, ips.iter().map(|ip| ip.parse().unwrap()), Some(version), Some(fingerprint))
    }

    #[test]
    fn only_what_can_be_used_of_an_announcement_is() {
        let found = parsed(&["2001:db8::1", "10.0.0.7", "127.0.0.1", "fe80::1", "224.0.0.1"], "1", &key(1)).unwrap();
        let shown: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.7:8000", "[2001:db8::1]:8000"]);
        for (ips, version, fingerprint) in [
            (&["127.0.0.1", "::1", "0.0.0.0", "255.255.255.255", "::ffff:127.0.0.1"][..], "1", key(1)),
            (&["10.0.0.7"], "2", key(1)),
            (&["10.0.0.7"], "1", "\u{1b}[2J".to_owned()),
            (&["10.0.0.7"], "1", key(1)[1..].to_owned()),
            (&[], "1", key(1)),
        ] {
            assert_eq!(parsed(ips, version, &fingerprint), None, "{ips:?} {version} {fingerprint}");
        }
        assert_eq!(parse(0, ["10.0.0.7".parse().unwrap()].into_iter(), Some("1"), Some(&key(1))), None);
        assert_eq!(parse(8000, ["10.0.0.7".parse().unwrap()].into_iter(), None, None), None);
    }

    #[test]
    fn each_key_is_one_tracker_and_a_flood_of_them_is_cut_off() {
        let mut trackers = Vec::new();
        for n in 0..=u8::MAX {
            let ip = format!("10.0.0.{n}");
            note(&mut trackers, parsed(&[&ip], "1", &key(0)).unwrap());
            note(&mut trackers, parsed(&[&ip], "1", &key(n)).unwrap());
        }
        assert_eq!((trackers.len(), trackers[0].addresses.len()), (MOST_TRACKERS, MOST_ADDRESSES));
    }

    proptest! {
        #[test]
        fn never_panics(port: u16, ips: Vec<IpAddr>, version: Option<String>, fingerprint: Option<String>) {
            let found = parse(port, ips.into_iter(), version.as_deref(), fingerprint.as_deref());
            prop_assert!(found.is_none_or(|found| found.addresses.len() <= MOST_ADDRESSES));
        }
    }
}
