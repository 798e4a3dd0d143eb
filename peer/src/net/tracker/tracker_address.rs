//! A tracker's address: its spellings, and the socket addresses to try.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;
use std::time::Duration;

use localization::tr;
use shared::limits::TRACKER_PORT;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::ipv4_number::parse_ipv4_number;
use crate::net::happy_eyeballs::{first_success, interleave_families};
use crate::sys::{self, LocalAddress};
use crate::util::TranslatedText;

/// Bounds name resolution, and each connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between attempts at two addresses (RFC 8305, section 5).
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried, at most.
const MAX_RESOLVED_ADDRESSES: usize = 8;

/// Places of one tracker's address, at most.
const MAX_PLACES: usize = 8;

/// A tracker's address: `HOST` or `HOST:PORT`; the default port is 8000. Several of them, with commas between them, are
/// trackers that share their accounts and their key: whichever answers first is as good as the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerAddress {
    /// At least one; the first is preferred.
    places: Vec<TrackerPlace>,
}

/// One place at which a tracker may be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TrackerPlace {
    host: TrackerHost,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TrackerHost {
    Ip(IpAddr),
    /// A link-local address, which needs an interface of this machine.
    LinkLocal {
        ip: Ipv6Addr,
        interface: String,
    },
    Name(String),
}

impl FromStr for TrackerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut places: Vec<TrackerPlace> = Vec::new();
        for one in text.split(',') {
            let place = one.trim_matches(' ').parse()?;
            if !places.contains(&place) {
                places.push(place);
            }
        }
        if places.len() > MAX_PLACES {
            return Err(tr!("{text} names more than {most} trackers", text, most = MAX_PLACES));
        }
        Ok(Self { places })
    }
}

impl FromStr for TrackerPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || tr!("{text} is not HOST or HOST:PORT", text = format_args!("{text:?}"));
        if let Some(rest) = text.strip_prefix('[') {
            let (inside, behind) = rest.split_once(']').ok_or_else(wrong)?;
            // Some programs print `[fe80::1]%eth0`.
            let (zone, port) = match behind.split_once(':') {
                Some((zone, port)) => (zone, parse_port(port).ok_or_else(wrong)?),
                None => (behind, TRACKER_PORT),
            };
            if !zone.is_empty() && (!zone.starts_with('%') || inside.contains('%')) {
                return Err(wrong());
            }
            let host = parse_ip(&format!("{inside}{zone}")).ok_or_else(wrong)??;
            return Ok(Self { host, port });
        }
        // Interface names contain no colon, so a colon behind `%` begins the port.
        let zone = text.find('%').unwrap_or(text.len());
        if let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| host.len() > zone) {
            let host = parse_ip(host).ok_or_else(wrong)??;
            return Ok(Self { host, port: parse_port(port).ok_or_else(wrong)? });
        }
        if let Some(host) = parse_ip(text) {
            let host = host?;
            // `fe80::1:8000` is a valid address, and also one with a port: ask instead of guessing.
            if let Some(before) = text.strip_suffix(":8000").filter(|before| parse_ip(before).is_some()) {
                return Err(tr!(
                    "{text} can be read in two ways: write [{before}]:8000 or [{text}]:8000",
                    text,
                    before
                ));
            }
            return Ok(Self { host, port: TRACKER_PORT });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, parse_port(port).ok_or_else(wrong)?),
            None => (text, TRACKER_PORT),
        };
        // An IPv6 address with a port needs brackets.
        if let Some(host) = parse_ip(host).filter(|_| !host.contains(':')) {
            return Ok(Self { host: host?, port });
        }
        if let Some(ip) = parse_ipv4_number(host) {
            return Ok(Self { host: TrackerHost::Ip(canonical_ip(ip.into())), port });
        }
        let is_plausible =
            !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
        // Names compare without case, and the tracker's key is on record under this text.
        if is_plausible { Ok(Self { host: TrackerHost::Name(host.to_ascii_lowercase()), port }) } else { Err(wrong()) }
    }
}

fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

/// Parses an IP address, with its interface if it is link-local; `None` if the text is no IP address.
fn parse_ip(text: &str) -> Option<Result<TrackerHost, String>> {
    let (ip, zone) = match text.split_once('%') {
        Some((ip, zone)) => (ip.parse().ok()?, Some(zone)),
        None => (text.parse::<IpAddr>().ok()?, None),
    };
    match (ip, zone) {
        (IpAddr::V6(v6), zone) if v6.is_unicast_link_local() => Some(parse_link_local(v6, zone)),
        (_, Some(_)) => None,
        (ip, None) => Some(Ok(TrackerHost::Ip(canonical_ip(ip)))),
    }
}

/// The one of an address's spellings under which it is on record: a key that is known there must be found.
fn canonical_ip(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        // Where the system connects to instead.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn parse_link_local(ip: Ipv6Addr, zone: Option<&str>) -> Result<TrackerHost, String> {
    // RFC 6874 writes `%` as `%25` in URLs.
    let zone = zone.map(|zone| zone.strip_prefix("25").filter(|rest| !rest.is_empty()).unwrap_or(zone));
    let is_name = |zone: &&str| {
        let may_stand = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
        // Linux interface names have at most 15 bytes (IFNAMSIZ).
        !zone.is_empty() && zone.len() < 16 && zone.chars().all(may_stand)
    };
    match zone.filter(is_name) {
        Some(zone) => {
            // Kept by name: an interface that is created again gets another number.
            let by_number = zone.parse().ok().and_then(sys::interface_name);
            Ok(TrackerHost::LinkLocal { ip, interface: by_number.unwrap_or_else(|| zone.to_owned()) })
        }
        None => Err(missing_interface_message(ip)),
    }
}

/// Returns a link-local address on the given interface, then on the other interfaces that have link-local addresses.
fn scoped_addresses(address: SocketAddrV6, named: Option<u32>, local: &[LocalAddress]) -> Vec<SocketAddr> {
    let others = sys::link_local_interfaces(local).into_iter().map(|(index, _)| index);
    let scopes = named.into_iter().chain(others.filter(|index| Some(*index) != named));
    let on = |scope| SocketAddr::from(SocketAddrV6::new(*address.ip(), address.port(), 0, scope));
    scopes.map(on).take(MAX_RESOLVED_ADDRESSES).collect()
}

fn missing_interface_message(ip: Ipv6Addr) -> String {
    let local = sys::local_addresses();
    let interfaces = sys::link_local_interfaces(&local);
    match interfaces.first() {
        Some((_, first)) => {
            let names: Vec<&str> = interfaces.iter().map(|(_, name)| *name).collect();
            tr!(
                "{ip} needs the interface it is reached on: write {ip}%{first} (here: {all})",
                ip,
                first,
                all = names.join(", ")
            )
        }
        None => tr!("{ip} needs the interface it is reached on, and none here has such an address", ip),
    }
}

impl From<SocketAddr> for TrackerAddress {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() != 0 => {
                let number = || v6.scope_id().to_string();
                TrackerHost::LinkLocal {
                    ip: *v6.ip(),
                    interface: sys::interface_name(v6.scope_id()).unwrap_or_else(number),
                }
            }
            address => TrackerHost::Ip(canonical_ip(address.ip())),
        };
        Self { places: vec![TrackerPlace { host, port: address.port() }] }
    }
}

impl TrackerAddress {
    /// True if one of the places is also one of the other address's.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.places.iter().any(|place| other.places.contains(place))
    }

    /// Returns the default address on this machine.
    pub fn on_this_machine() -> Self {
        SocketAddr::from((Ipv4Addr::LOCALHOST, TRACKER_PORT)).into()
    }

    /// True if something listens at the address.
    pub async fn is_listening(&self) -> bool {
        let Ok(addresses) = self.resolve(false).await else { return false };
        let connected = first_success(&addresses, ATTEMPT_DELAY, |address| async move {
            tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.map_err(|_| ())?.map_err(|_| ())
        });
        connected.await.is_ok()
    }

    /// True if there are trackers at several places; those of a name count that has `resolved` to several machines.
    pub(super) fn has_several(&self, resolved: &[SocketAddr]) -> bool {
        // One machine has an address of each family, and a link-local one on each of its interfaces.
        let count = |is_v4| {
            let ips = resolved.iter().map(|address| address.ip().to_canonical()).filter(|ip| ip.is_ipv4() == is_v4);
            ips.collect::<BTreeSet<IpAddr>>().len()
        };
        self.places.len() > 1 || count(true) > 1 || count(false) > 1
    }

    /// Returns the address with further places, at which the same tracker was found just now; `None` if it has them all.
    /// If there are too many, the first of those go that were not found.
    pub fn with_places(&self, found: &[SocketAddr]) -> Option<Self> {
        let found: Vec<TrackerPlace> =
            found.iter().take(MAX_PLACES).flat_map(|address| Self::from(*address).places).collect();
        let mut places = self.places.clone();
        for place in &found {
            if !places.contains(place) {
                places.push(place.clone());
            }
        }
        while places.len() > MAX_PLACES {
            let gone = places.iter().position(|place| !found.contains(place))?;
            places.remove(gone);
        }
        (places != self.places).then_some(Self { places })
    }

    /// True for a host name, whose addresses the user didn't write.
    pub(super) fn is_name(&self) -> bool {
        self.places.iter().any(|place| matches!(place.host, TrackerHost::Name(_)))
    }

    /// Returns the addresses that are tried, for a look at each of them. Fails with the reason as text for people.
    pub async fn candidates(&self) -> Result<Vec<SocketAddr>, String> {
        self.resolve(true).await.map_err(|why| why.to_string())
    }

    /// Returns the addresses to try, the likeliest first, at least one: those of all places. Fails with the reason as text
    /// for people, if no place has one.
    pub(super) async fn resolve(&self, is_known: bool) -> Result<Vec<SocketAddr>, TranslatedText> {
        let mut resolving = JoinSet::new();
        for (number, place) in self.places.iter().cloned().enumerate() {
            // Side by side: a name that nobody knows must not hold up the others.
            resolving.spawn(async move { (number, place.resolve(is_known).await) });
        }
        let mut resolved = resolving.join_all().await;
        // They end in any order, and the first place is the preferred one.
        resolved.sort_by_key(|(number, _)| *number);
        let (mut addresses, mut failure) = (Vec::new(), None);
        for (_, place) in resolved {
            match place {
                Ok(some) => addresses.extend(some),
                Err(why) => failure = failure.or(Some(why)),
            }
        }
        match failure {
            Some(why) if addresses.is_empty() => Err(why),
            _ => Ok(addresses),
        }
    }
}

impl TrackerPlace {
    /// Returns the addresses to try, the likeliest first, at least one. If the tracker's key `is_known`, a link-local
    /// address is tried on other interfaces, too: a machine that moves from cable to wireless reaches the same tracker
    /// on another one. Fails with the reason as text for people, if there are none.
    async fn resolve(&self, is_known: bool) -> Result<Vec<SocketAddr>, TranslatedText> {
        match &self.host {
            TrackerHost::Ip(ip) => Ok(vec![SocketAddr::new(*ip, self.port)]),
            TrackerHost::LinkLocal { ip, interface } => {
                let named = sys::interface_index(interface);
                // Without a known key, whoever answers on another interface would be taken for the tracker.
                let local = if is_known { sys::local_addresses() } else { Vec::new() };
                match scoped_addresses(SocketAddrV6::new(*ip, self.port, 0, 0), named, &local) {
                    none if none.is_empty() => Err(TranslatedText::new(|| {
                        let advice = missing_interface_message(*ip);
                        tr!("there is no interface {interface}; {advice}", interface, advice)
                    })),
                    some => Ok(some),
                }
            }
            TrackerHost::Name(name) => {
                let resolved =
                    tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((name.as_str(), self.port))).await;
                let late = || tr!("its name is not resolved within {seconds} s", seconds = CONNECT_TIMEOUT.as_secs());
                let resolved = resolved.map_err(|_| TranslatedText::new(late))?;
                let local = sys::local_addresses();
                let resolved =
                    resolved.map_err(|why| TranslatedText::new(|| sys::plain_message(&why)))?.flat_map(|address| {
                        match address {
                            // Host files and DNS carry no interfaces.
                            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
                                scoped_addresses(v6, None, &local)
                            }
                            address => vec![address],
                        }
                    });
                let mut addresses = interleave_families(resolved);
                // Cut after the interleaving, so that both families stay.
                addresses.truncate(MAX_RESOLVED_ADDRESSES);
                if addresses.is_empty() {
                    Err(TranslatedText::new(|| tr!("its name has no address")))
                } else {
                    Ok(addresses)
                }
            }
        }
    }
}

impl fmt::Display for TrackerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, place) in self.places.iter().enumerate() {
            f.write_str(if number > 0 { "," } else { "" })?;
            place.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for TrackerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            TrackerHost::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, port)),
            TrackerHost::LinkLocal { ip, interface } => write!(f, "[{ip}%{interface}]:{port}"),
            TrackerHost::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn several_places_are_one_address() {
        let several: TrackerAddress = "10.0.0.1, TRACKER.lan:9000,10.0.0.1:8000".parse().unwrap();
        assert_eq!(several.to_string(), "10.0.0.1:8000,tracker.lan:9000");
        assert_eq!(several.to_string().parse(), Ok(several.clone()));
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        assert!(several.overlaps(&one) && one.overlaps(&several) && !several.overlaps(&other));
        for wrong in ["a,", ",a", "a,,b", "a, b c", "1,2,3,4,5,6,7,8,9"] {
            assert!(wrong.parse::<TrackerAddress>().is_err(), "{wrong:?}");
        }
        // A name that nobody knows doesn't keep the peer from the others.
        let some: TrackerAddress = "no-such-name.invalid,10.0.0.1,[::1]:9000".parse().unwrap();
        let addresses = some.resolve(false).await.unwrap();
        assert_eq!(addresses, ["10.0.0.1:8000".parse().unwrap(), "[::1]:9000".parse().unwrap()]);
        let none: TrackerAddress = "no-such-name.invalid,none-either.invalid".parse().unwrap();
        assert!(none.resolve(false).await.is_err());
    }

    #[test]
    fn places_that_are_found_join_those_that_are_known() {
        let known: TrackerAddress = "10.0.0.1,tracker.lan".parse().unwrap();
        let found = |numbers: &[u8]| -> Vec<SocketAddr> {
            numbers.iter().map(|n| SocketAddr::from(([10, 0, 0, *n], 8000))).collect()
        };
        let joined = |address: &TrackerAddress, numbers: &[u8]| {
            address.with_places(&found(numbers)).map(|all| all.to_string().replace(":8000", "").replace("10.0.0.", ""))
        };
        assert_eq!(joined(&known, &[1]), None);
        assert_eq!(joined(&known, &[2, 1, 2]), Some("1,tracker.lan,2".to_owned()));
        let full = known.with_places(&found(&[2, 3, 4, 5, 6, 7])).unwrap();
        assert_eq!(joined(&full, &[1, 2]), None);
        assert_eq!(joined(&full, &[1, 8, 9]), Some("1,3,4,5,6,7,8,9".to_owned()));
        let many: Vec<u8> = (100..200).collect();
        assert_eq!(joined(&full, &many), Some("100,101,102,103,104,105,106,107".to_owned()));
    }

    #[test]
    fn several_machines_are_told_from_one_with_several_addresses() {
        let has_several = |text: &str, resolved: &[&str]| {
            let resolved: Vec<SocketAddr> = resolved.iter().map(|address| address.parse().unwrap()).collect();
            text.parse::<TrackerAddress>().unwrap().has_several(&resolved)
        };
        assert!(!has_several("localhost", &["127.0.0.1:8000", "[::1]:8000"]));
        assert!(!has_several("tracker.lan", &["[fe80::1%2]:8000", "[fe80::1%3]:8000"]));
        assert!(has_several("trackers.lan", &["10.0.0.1:8000", "10.0.0.2:8000"]));
        assert!(has_several("10.0.0.1,[fd00::1]", &["10.0.0.1:8000", "[fd00::1]:8000"]));
    }

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("tracker.lan", "tracker.lan:8000"),
            ("10.0.0.1", "10.0.0.1:8000"),
            ("10.0.0.1:9000", "10.0.0.1:9000"),
            ("::1", "[::1]:8000"),
            ("[::1]:9000", "[::1]:9000"),
            ("[::1]", "[::1]:8000"),
            ("fd00::1", "[fd00::1]:8000"),
            ("fe80::1%eth7", "[fe80::1%eth7]:8000"),
            ("fe80::1%eth7:9000", "[fe80::1%eth7]:9000"),
            ("[fe80::1%eth7]", "[fe80::1%eth7]:8000"),
            ("[fe80::1%eth7]:9000", "[fe80::1%eth7]:9000"),
            ("[fe80::1]%eth7", "[fe80::1%eth7]:8000"),
            ("[fe80::1]%eth7:9000", "[fe80::1%eth7]:9000"),
            ("[fe80::1%25br-0.7]:9000", "[fe80::1%br-0.7]:9000"),
            ("FE80::0:1%enp0s31f6", "[fe80::1%enp0s31f6]:8000"),
        ] {
            let address: TrackerAddress = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse::<TrackerAddress>().as_ref(), Ok(&address), "{shown}");
        }
        for wrong in [
            "",
            ":8000",
            "host:0",
            "host:99999",
            "host:port",
            "a b",
            "http://x",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[host]:8000",
            "10.0.0.1%eth0",
            "fd00::1%eth0",
            "[fe80::1%eth0]%eth0",
            "fe80::1%a/b",
        ] {
            assert!(wrong.parse::<TrackerAddress>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn one_address_has_one_spelling() {
        let spellings =
            ["10.66.0.1", "[::ffff:10.66.0.1]:8000", "::ffff:a42:1", "0x0a420001:8000", "10.66.1", "172097537"];
        for text in spellings {
            assert_eq!(text.parse::<TrackerAddress>().unwrap().to_string(), "10.66.0.1:8000", "{text}");
        }
        for (text, shown) in [
            ("Tracker.LAN", "tracker.lan:8000"),
            ("0.0.0.0:9000", "127.0.0.1:9000"),
            ("0", "127.0.0.1:8000"),
            ("[::]:9000", "[::1]:9000"),
            ("[::ffff:0.0.0.0]", "127.0.0.1:8000"),
        ] {
            assert_eq!(text.parse::<TrackerAddress>().unwrap().to_string(), shown, "{text}");
        }
        let mapped: SocketAddr = "[::ffff:10.66.0.1]:8000".parse().unwrap();
        assert_eq!(TrackerAddress::from(mapped).to_string(), "10.66.0.1:8000");
    }

    #[test]
    fn a_link_local_address_needs_its_interface() {
        for text in ["fe80::1", "[fe80::1]", "[fe80::1]:9000", "fe80::1%", "[fe80::1%]:9000"] {
            let why = text.parse::<TrackerAddress>().unwrap_err();
            assert!(why.starts_with("fe80::1 needs the interface"), "{text}: {why}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_asked_about() {
        let why = "fd00::1:8000".parse::<TrackerAddress>().unwrap_err();
        assert!(why.contains("[fd00::1]:8000 or [fd00::1:8000]:8000"), "{why}");
        // Without brackets, no other reading is possible.
        assert_eq!("1:2:3:4:5:6:7:8000".parse::<TrackerAddress>().unwrap().to_string(), "[1:2:3:4:5:6:7:8000]:8000");
    }

    #[test]
    fn a_link_local_address_is_tried_on_all_interfaces_the_named_one_first() {
        let local = |index, ip: &str| LocalAddress {
            ip: ip.parse().unwrap(),
            prefix_len: 64,
            interface: format!("if{index}"),
            index,
            kind: sys::InterfaceKind::Ordinary,
            is_permanent: true,
            is_running: true,
        };
        let all = [local(2, "fe80::1"), local(3, "10.0.0.1"), local(4, "fe80::1")];
        let texts = |named, local: &[LocalAddress]| {
            let address = "[fe80::9]:8000".parse().unwrap();
            scoped_addresses(address, named, local).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(texts(Some(4), &all), ["[fe80::9%4]:8000", "[fe80::9%2]:8000"]);
        // The named interface is gone.
        assert_eq!(texts(None, &all), ["[fe80::9%2]:8000", "[fe80::9%4]:8000"]);
        assert_eq!(texts(Some(4), &[]), ["[fe80::9%4]:8000"]);
        assert!(texts(None, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn never_panics_and_shows_what_can_be_read(text: String) {
            if let Ok(address) = text.parse::<TrackerAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
