//! Trackers that tell of themselves on the local network (mDNS/DNS-SD, `_vizinho._tcp.local.`).
//!
//! Anybody on the network can announce anything: what is heard is a hint. Of an announcement only its addresses, port,
//! protocol version (TXT `v`) and fingerprint (TXT `fp`) are looked at, and only once they are parsed; its names are
//! never shown. Whoever believes one demands that fingerprint of the tracker's certificate.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use certs::ServerPin;
use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent};
use shared::Fingerprint;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tracker::TrackerAddress;

/// The service's type.
const SERVICE: &str = "_vizinho._tcp.local.";
/// The protocol's version.
const VERSION: &str = "1";
/// How long is listened; somebody who answers sooner than all others wins nothing by it.
pub const LISTEN_FOR: Duration = Duration::from_secs(2);
/// Trackers that are taken note of; a network with more has somebody who makes them up.
const MOST_TRACKERS: usize = 32;
/// Addresses of one announcement that are taken note of.
const MOST_ADDRESSES: usize = 8;
/// Announcements of one key that are taken note of: whoever repeats another's key can't crowd out its addresses.
const MOST_OF_ONE_KEY: usize = 32;
/// For an announced address to take a connection, and to show the key.
const CONNECT: Duration = Duration::from_secs(2);

/// A tracker as it was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The key its certificate is said to have.
    pub fingerprint: Fingerprint,
    /// Where it is said to listen: IPv4 first, link-local addresses last.
    pub addresses: Vec<SocketAddr>,
}

/// What was heard of one key, by the names of the announcements.
struct Heard {
    fingerprint: Fingerprint,
    announcements: BTreeMap<String, Vec<SocketAddr>>,
}

/// What came of an attempt to reach an address; the better comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    /// It has the key.
    Proved,
    /// It takes connections.
    Open,
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
    /// The first of its addresses at which somebody has its key; if nobody has, the first that takes a connection;
    /// `None` when none does.
    pub async fn reachable_address(&self) -> Option<TrackerAddress> {
        let (mut attempts, key) = (JoinSet::new(), self.fingerprint);
        for (rank, address) in self.addresses.iter().copied().enumerate() {
            attempts.spawn(async move { reach(address, key).await.map(|reached| (reached, rank, address)) });
        }
        let mut best = None;
        while let Some(attempt) = attempts.join_next().await {
            match attempt.ok().flatten() {
                // Nothing better will come: whoever else is silent need not be waited for.
                Some((Reached::Proved, 0, address)) => return Some(address.into()),
                Some(reached) if best.is_none_or(|best| reached < best) => best = Some(reached),
                _ => {}
            }
        }
        best.map(|(_, _, address)| address.into())
    }
}

async fn reach(address: SocketAddr, key: Fingerprint) -> Option<Reached> {
    let tcp = timeout(CONNECT, TcpStream::connect(address)).await.ok()?.ok()?;
    let config = certs::tracker_client(None, &ServerPin::exactly(key)).ok()?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(certs::server_name(), tcp);
    let shaken = timeout(CONNECT, handshake).await;
    Some(if matches!(shaken, Ok(Ok(_))) { Reached::Proved } else { Reached::Open })
}

fn listen(until: Instant) -> Result<Vec<Announced>, DiscoveryError> {
    // The library counts milliseconds since 1970, and panics where there are none.
    if SystemTime::now() < UNIX_EPOCH {
        return Err(DiscoveryError("this machine's clock is before 1970".to_owned()));
    }
    let failed = |why: mdns_sd::Error| DiscoveryError(why.to_string());
    let daemon = ServiceDaemon::new().map_err(failed)?;
    let events = daemon.browse(SERVICE).map_err(failed)?;
    let mut trackers = Vec::new();
    while let Ok(event) = events.recv_deadline(until) {
        if let ServiceEvent::ServiceResolved(service) = event
            && let Some(announced) = announced(&service)
        {
            note(&mut trackers, service.get_fullname(), announced);
        }
    }
    // It ends by itself when nobody holds it any more; asked, it does so now.
    let _ = daemon.shutdown();
    let mut trackers: Vec<Announced> = trackers.into_iter().map(Heard::together).collect();
    trackers.sort_by(|one, other| one.addresses.cmp(&other.addresses));
    Ok(trackers)
}

fn announced(service: &ResolvedService) -> Option<Announced> {
    let ips = service.get_addresses().iter().map(|ip| match ip {
        mdns_sd::ScopedIp::V6(v6) => (ip.to_ip_addr(), v6.scope_id().index),
        ip => (ip.to_ip_addr(), 0),
    });
    let text = |key| service.get_property_val_str(key);
    parse(service.get_port(), ips, text("v"), text("fp"))
}

/// What an announcement comes to, of addresses with the numbers of the interfaces on which they were heard; `None` when
/// it is none of a tracker that this peer can talk to.
fn parse(
    port: u16,
    ips: impl Iterator<Item = (IpAddr, u32)>,
    version: Option<&str>,
    fingerprint: Option<&str>,
) -> Option<Announced> {
    if version != Some(VERSION) || port == 0 {
        return None;
    }
    let fingerprint = fingerprint?.parse().ok()?;
    let mut addresses: Vec<SocketAddr> = ips.filter_map(|(ip, interface)| usable(ip, interface, port)).collect();
    put_in_order(&mut addresses);
    addresses.truncate(MOST_ADDRESSES);
    (!addresses.is_empty()).then_some(Announced { fingerprint, addresses })
}

/// Nobody else's loopback, nothing that is many machines at once, and link-local addresses only together with their
/// interface.
fn usable(ip: IpAddr, interface: u32, port: u16) -> Option<SocketAddr> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let is_of_one = !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast());
            is_of_one.then(|| (ip, port).into())
        }
        IpAddr::V6(ip) if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() => None,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            (interface != 0).then(|| SocketAddrV6::new(ip, port, 0, interface).into())
        }
        IpAddr::V6(ip) => Some((ip, port).into()),
    }
}

fn put_in_order(addresses: &mut Vec<SocketAddr>) {
    let is_last = |address: &SocketAddr| matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local());
    addresses.sort_unstable_by_key(|address| (is_last(address), *address));
    addresses.dedup();
}

fn note(trackers: &mut Vec<Heard>, name: &str, new: Announced) {
    let has_room = trackers.len() < MOST_TRACKERS;
    let Announced { fingerprint, addresses } = new;
    match trackers.iter_mut().find(|known| known.fingerprint == fingerprint) {
        Some(known) => {
            let announcements = &mut known.announcements;
            if announcements.len() < MOST_OF_ONE_KEY || announcements.contains_key(name) {
                let known = announcements.entry(name.to_owned()).or_default();
                known.extend(addresses);
                put_in_order(known);
                known.truncate(MOST_ADDRESSES);
            }
        }
        None if has_room => {
            trackers.push(Heard { fingerprint, announcements: BTreeMap::from([(name.to_owned(), addresses)]) });
        }
        None => {}
    }
}

impl Heard {
    fn together(self) -> Announced {
        let mut addresses: Vec<SocketAddr> = self.announcements.into_values().flatten().collect();
        put_in_order(&mut addresses);
        Announced { fingerprint: self.fingerprint, addresses }
    }
}

#[cfg(test)]
mod tests {
    use certs::Identity;
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> String {
        Fingerprint::from_bytes([n; 32]).to_string()
    }

    fn parsed(ips: &[&str], version: &str, fingerprint: &str) -> Option<Announced> {
        parse(8000, ips.iter().map(|ip| (ip.parse().unwrap(), 0)), Some(version), Some(fingerprint))
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
        assert_eq!(parse(0, [([10, 0, 0, 7].into(), 2)].into_iter(), Some("1"), Some(&key(1))), None);
        assert_eq!(parse(8000, [([10, 0, 0, 7].into(), 2)].into_iter(), None, None), None);
    }

    #[test]
    fn link_local_addresses_are_of_use_with_their_interface_and_last() {
        let ips = [("fe80::1", 3), ("fd00::1", 3), ("fe80::2", 0), ("10.0.0.7", 3)];
        let ips = ips.map(|(ip, interface)| (ip.parse().unwrap(), interface));
        let found = parse(8000, ips.into_iter(), Some("1"), Some(&key(1))).unwrap();
        let shown: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.7:8000", "[fd00::1]:8000", "[fe80::1%3]:8000"]);
    }

    #[test]
    fn each_key_is_one_tracker_and_a_flood_of_them_is_cut_off() {
        let mut trackers = Vec::new();
        for n in 0..=u8::MAX {
            let ip = format!("10.0.0.{n}");
            note(&mut trackers, "one", parsed(&[&ip], "1", &key(0)).unwrap());
            note(&mut trackers, &format!("{n}"), parsed(&[&ip], "1", &key(n)).unwrap());
        }
        assert_eq!(trackers.len(), MOST_TRACKERS);
        assert_eq!(trackers[0].announcements.len(), 2);
        assert_eq!(trackers[0].announcements["one"].len(), MOST_ADDRESSES);
        for n in 0..=u8::MAX {
            note(&mut trackers, &format!("another {n}"), parsed(&["10.0.0.7"], "1", &key(0)).unwrap());
        }
        assert_eq!(trackers[0].announcements.len(), MOST_OF_ONE_KEY);
    }

    #[test]
    fn whoever_repeats_a_key_does_not_crowd_out_the_addresses_it_has() {
        let mut trackers = Vec::new();
        let many: Vec<String> = (0..50).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        note(&mut trackers, "false", parsed(&many, "1", &key(1)).unwrap());
        note(&mut trackers, "true", parsed(&["10.1.0.1"], "1", &key(1)).unwrap());
        let heard = trackers.pop().unwrap().together();
        assert!(heard.addresses.contains(&"10.1.0.1:8000".parse().unwrap()), "{heard:?}");
    }

    /// One tracker's end of a handshake, or somebody who takes the connection and has another key.
    async fn listener(identity: Identity) -> (SocketAddr, JoinSet<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(certs::tracker_server(&identity).unwrap()));
        let mut server = JoinSet::new();
        server.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = tls.accept(stream).await;
            }
        });
        (address, server)
    }

    #[tokio::test]
    async fn whoever_has_the_key_is_taken_before_whoever_only_answers() {
        let identity = Identity::generate().unwrap();
        let fingerprint = identity.fingerprint();
        let (wrong, _one) = listener(Identity::generate().unwrap()).await;
        let (right, _other) = listener(identity).await;
        for addresses in [vec![wrong, right], vec![right, wrong]] {
            let announced = Announced { fingerprint, addresses };
            assert_eq!(announced.reachable_address().await, Some(right.into()));
        }
        let only_wrong = Announced { fingerprint, addresses: vec![wrong] };
        assert_eq!(only_wrong.reachable_address().await, Some(wrong.into()));
    }

    proptest! {
        #[test]
        fn never_panics(port: u16, ips: Vec<(IpAddr, u32)>, version: Option<String>, fingerprint: Option<String>) {
            let found = parse(port, ips.into_iter(), version.as_deref(), fingerprint.as_deref());
            prop_assert!(found.is_none_or(|found| found.addresses.len() <= MOST_ADDRESSES));
        }
    }
}
