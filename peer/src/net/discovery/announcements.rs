//! The record of announcements, with bounded memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use mdns::{AdvertisedState, Advertisement, BrowseEvent, ServiceDetails};
use shared::Fingerprint;

/// The protocol version announced by compatible trackers.
const VERSION: &str = "1";
/// Keys recorded; a network with more of them has an attacker who invents keys.
pub(super) const MAX_KEYS: usize = 32;
/// Addresses recorded per announcement.
const MAX_ADDRESSES: usize = 8;
/// Announcements recorded per key: an attacker who repeats a key can't displace its true addresses.
const MAX_ANNOUNCEMENTS_PER_KEY: usize = 32;
/// Names recorded without a key.
const MAX_UNRESOLVED_NAMES: usize = 64;

/// The record of all announcements.
#[derive(Debug, Clone)]
pub(super) struct Announcements {
    expected_key: Option<Fingerprint>,
    /// The announcements of each key, in the order of their arrival. Nothing is ever removed.
    keys: BTreeMap<Fingerprint, Vec<HeardAnnouncement>>,
    /// Names of announcements that are not resolved yet.
    unresolved_names: BTreeSet<String>,
    is_cut_off: bool,
    /// True if an announcement was withdrawn.
    has_withdrawal: bool,
}

/// A key and the addresses to probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyCandidate {
    pub(super) fingerprint: Fingerprint,
    /// Addresses with the announced name: the first address of each announcement, then the second ones.
    pub(super) addresses: Vec<(SocketAddr, String)>,
}

/// What one packet added.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HeardAnnouncement {
    name: String,
    /// Those that weren't heard before.
    addresses: Vec<SocketAddr>,
}

/// A parsed announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ParsedAnnouncement {
    fingerprint: Fingerprint,
    /// IPv4 first, link-local addresses last.
    addresses: Vec<SocketAddr>,
}

impl Announcements {
    pub(super) fn new(expected_key: Option<Fingerprint>) -> Self {
        let (keys, unresolved_names) = (BTreeMap::new(), BTreeSet::new());
        Self { expected_key, keys, unresolved_names, is_cut_off: false, has_withdrawal: false }
    }

    pub(super) fn record(&mut self, event: BrowseEvent) {
        let BrowseEvent::Advertised(Advertisement { instance, state }, interface) = event else {
            // What a packet has beyond the part that is looked at may announce another tracker.
            self.is_cut_off = true;
            return;
        };
        match state {
            AdvertisedState::Named => self.record_name(instance),
            AdvertisedState::Described(details) => {
                self.unresolved_names.remove(&instance);
                if let Some(announced) = parse_announcement(&details, interface) {
                    self.record_key(&instance, announced);
                }
            }
            // mDNS isn't authenticated: anybody can withdraw anything, so nothing is removed.
            AdvertisedState::Withdrawn => {
                self.has_withdrawal |= self.is_heard(&instance);
            }
        }
    }

    /// Returns the keys to probe: the expected one, or all.
    pub(super) fn candidates(&self) -> Vec<KeyCandidate> {
        let is_wanted = |key: &Fingerprint| self.expected_key.is_none_or(|wanted| wanted == *key);
        let all = self.keys.iter().filter(|(key, _)| is_wanted(key));
        all.map(|(fingerprint, announcements)| KeyCandidate::new(*fingerprint, announcements)).collect()
    }

    /// Returns the candidates whose key isn't among `known`.
    pub(super) fn new_candidates(&self, known: &[KeyCandidate]) -> Vec<KeyCandidate> {
        let is_new = |one: &KeyCandidate| known.iter().all(|other| other.fingerprint != one.fingerprint);
        self.candidates().into_iter().filter(is_new).collect()
    }

    /// True if entries were dropped.
    pub(super) const fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// True if an announcement was withdrawn or is still unresolved.
    pub(super) fn has_changed(&self) -> bool {
        self.has_withdrawal || !self.unresolved_names.is_empty()
    }

    fn is_heard(&self, name: &str) -> bool {
        self.keys.values().flatten().any(|heard| heard.name == name)
    }

    fn record_name(&mut self, name: String) {
        if self.is_heard(&name) || self.unresolved_names.contains(&name) {
            return;
        }
        if self.unresolved_names.len() < MAX_UNRESOLVED_NAMES {
            self.unresolved_names.insert(name);
        } else {
            self.is_cut_off = true;
        }
    }

    fn record_key(&mut self, name: &str, ParsedAnnouncement { fingerprint, addresses }: ParsedAnnouncement) {
        let is_wanted = self.expected_key == Some(fingerprint);
        // The expected key always finds a place, so a flood of invented keys can't hide it.
        if !is_wanted && self.keys.len() >= MAX_KEYS && !self.keys.contains_key(&fingerprint) {
            self.is_cut_off = true;
            return;
        }
        let announcements = self.keys.entry(fingerprint).or_default();
        // Each packet counts by itself, under a known name as well: mDNS delivers addresses in parts, and whoever uses
        // the name of another must not displace that one's.
        let is_new = |address: &SocketAddr| announcements.iter().all(|heard| !heard.addresses.contains(address));
        let addresses: Vec<SocketAddr> = addresses.into_iter().filter(is_new).collect();
        let adds_something = !addresses.is_empty() || announcements.iter().all(|heard| heard.name != name);
        if announcements.len() < MAX_ANNOUNCEMENTS_PER_KEY && adds_something {
            announcements.push(HeardAnnouncement { name: name.to_owned(), addresses });
        }
    }
}

impl KeyCandidate {
    fn new(fingerprint: Fingerprint, announcements: &[HeardAnnouncement]) -> Self {
        // By rank: false addresses in one announcement then don't delay the true one of another.
        let of_rank = |rank: usize| {
            let of_one = move |heard: &HeardAnnouncement| Some((*heard.addresses.get(rank)?, heard.name.clone()));
            announcements.iter().filter_map(of_one)
        };
        Self { fingerprint, addresses: (0..MAX_ADDRESSES).flat_map(of_rank).collect() }
    }
}

/// Parses an announcement heard on the interface with this index. `None` if it announces no tracker of a compatible
/// version.
fn parse_announcement(details: &ServiceDetails, interface: u32) -> Option<ParsedAnnouncement> {
    let ServiceDetails { port, addresses, version, fingerprint } = details;
    if version.as_deref() != Some(VERSION) || *port == 0 {
        return None;
    }
    let fingerprint = fingerprint.as_ref()?.parse().ok()?;
    let mut addresses: Vec<SocketAddr> =
        addresses.iter().filter_map(|ip| usable_address(*ip, interface, *port)).collect();
    sort_addresses(&mut addresses);
    // Cut after sorting, so that link-local addresses go first.
    addresses.truncate(MAX_ADDRESSES);
    (!addresses.is_empty()).then_some(ParsedAnnouncement { fingerprint, addresses })
}

/// Returns the address, unless it is a loopback address (of another machine), stands for many machines, or is
/// link-local without an interface.
fn usable_address(ip: IpAddr, interface: u32, port: u16) -> Option<SocketAddr> {
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

fn sort_addresses(addresses: &mut Vec<SocketAddr>) {
    let is_last = |address: &SocketAddr| matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local());
    addresses.sort_unstable_by_key(|address| (is_last(address), *address));
    addresses.dedup();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> String {
        Fingerprint::from_bytes([n; 32]).to_string()
    }

    fn details(ips: &[&str], version: &str, fingerprint: &str) -> ServiceDetails {
        let addresses = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let (version, fingerprint) = (Some(version.to_owned()), Some(fingerprint.to_owned()));
        ServiceDetails { port: 8000, addresses, version, fingerprint }
    }

    fn parsed(ips: &[&str], version: &str, fingerprint: &str) -> Option<ParsedAnnouncement> {
        parse_announcement(&details(ips, version, fingerprint), 0)
    }

    fn heard_of(instance: &str, state: AdvertisedState) -> BrowseEvent {
        BrowseEvent::Advertised(Advertisement { instance: instance.to_owned(), state }, 0)
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
        let good = details(&["10.0.0.7"], "1", &key(1));
        assert_eq!(parse_announcement(&ServiceDetails { port: 0, ..good.clone() }, 2), None);
        assert_eq!(parse_announcement(&ServiceDetails { version: None, ..good.clone() }, 2), None);
        assert_eq!(parse_announcement(&ServiceDetails { fingerprint: None, ..good }, 2), None);
    }

    #[test]
    fn link_local_addresses_are_of_use_with_their_interface_and_last() {
        let announced = details(&["fe80::1", "fd00::1", "10.0.0.7"], "1", &key(1));
        let shown = |interface| -> Vec<String> {
            let found = parse_announcement(&announced, interface).unwrap();
            found.addresses.iter().map(ToString::to_string).collect()
        };
        assert_eq!(shown(3), ["10.0.0.7:8000", "[fd00::1]:8000", "[fe80::1%3]:8000"]);
        assert_eq!(shown(0), ["10.0.0.7:8000", "[fd00::1]:8000"]);
    }

    #[test]
    fn each_key_is_one_tracker_and_a_flood_of_them_is_cut_off() {
        let mut heard = Announcements::new(None);
        for n in 0..=u8::MAX {
            let ip = format!("10.0.0.{n}");
            heard.record_key(&format!("{n}"), parsed(&[&ip], "1", &key(n)).unwrap());
            assert_eq!(heard.is_cut_off(), usize::from(n) >= MAX_KEYS, "{n}");
        }
        assert_eq!(heard.candidates().len(), MAX_KEYS);
        let count = |heard: &Announcements| heard.keys[&Fingerprint::from_bytes([0; 32])].len();
        heard.record_key("0", parsed(&["10.0.0.0"], "1", &key(0)).unwrap());
        assert_eq!(count(&heard), 1, "it adds nothing");
        for n in 0..=u8::MAX {
            heard.record_key("one", parsed(&[&format!("10.1.0.{n}")], "1", &key(0)).unwrap());
        }
        assert_eq!(count(&heard), MAX_ANNOUNCEMENTS_PER_KEY);
    }

    #[test]
    fn the_wanted_key_is_heard_through_any_flood() {
        let wanted = Fingerprint::from_bytes([200; 32]);
        let mut heard = Announcements::new(Some(wanted));
        for n in 0..=u8::MAX {
            heard.record_key(&format!("{n}"), parsed(&["10.0.0.7"], "1", &key(n)).unwrap());
        }
        assert_eq!(heard.candidates().iter().map(|one| one.fingerprint).collect::<Vec<_>>(), [wanted]);
    }

    #[test]
    fn whoever_repeats_a_key_does_not_crowd_out_the_addresses_it_has() {
        let mut heard = Announcements::new(None);
        let many: Vec<String> = (0..50).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        heard.record_key("false", parsed(&many, "1", &key(1)).unwrap());
        heard.record_key("true", parsed(&["10.1.0.1"], "1", &key(1)).unwrap());
        let [candidate] = &heard.candidates()[..] else { panic!("{heard:?}") };
        let place = |address: &str, name: &str| (address.parse().unwrap(), name.to_owned());
        assert_eq!(candidate.addresses[..2], [place("10.0.0.0:8000", "false"), place("10.1.0.1:8000", "true")]);
    }

    #[test]
    fn whoever_uses_the_name_of_a_tracker_does_not_displace_its_addresses() {
        let many: Vec<String> = (0..8).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (many, own) = (parsed(&many, "1", &key(1)).unwrap(), parsed(&["192.168.0.1"], "1", &key(1)).unwrap());
        for announced in [[&many, &own], [&own, &many]] {
            let mut heard = Announcements::new(None);
            announced.iter().for_each(|one| heard.record_key("lab", (*one).clone()));
            let [candidate] = &heard.candidates()[..] else { panic!("{heard:?}") };
            let place = candidate.addresses.iter().position(|(address, _)| *address == own.addresses[0]);
            assert!(place.is_some_and(|place| place < 2), "{candidate:?}");
        }
    }

    #[test]
    fn what_is_told_in_part_or_taken_back_is_no_settled_list() {
        let mut heard = Announcements::new(None);
        heard.record(heard_of("one", AdvertisedState::Named));
        assert!(heard.has_changed(), "its key wasn't heard");
        heard.record(heard_of("one", AdvertisedState::Described(details(&["10.0.0.7"], "1", &key(1)))));
        heard.record(heard_of("one", AdvertisedState::Named));
        assert!(!heard.has_changed());
        heard.record(heard_of("unheard of", AdvertisedState::Withdrawn));
        assert!(!heard.has_changed());
        heard.record(heard_of("one", AdvertisedState::Withdrawn));
        assert!(heard.has_changed());
        assert_eq!(heard.candidates().len(), 1, "it may be there all the same");
        for n in 0..=MAX_UNRESOLVED_NAMES {
            assert!(!heard.is_cut_off());
            heard.record(heard_of(&format!("bare {n}"), AdvertisedState::Named));
        }
        assert!(heard.is_cut_off());
        let mut heard = Announcements::new(None);
        heard.record(BrowseEvent::CutOff);
        assert!(heard.is_cut_off());
    }

    #[test]
    fn who_comes_later_is_told_apart() {
        let mut heard = Announcements::new(None);
        heard.record_key("one", parsed(&["10.0.0.7"], "1", &key(1)).unwrap());
        let first = heard.candidates();
        assert_eq!(heard.new_candidates(&first), []);
        heard.record_key("two", parsed(&["10.0.0.7"], "1", &key(2)).unwrap());
        let late: Vec<Fingerprint> = heard.new_candidates(&first).iter().map(|one| one.fingerprint).collect();
        assert_eq!(late, [Fingerprint::from_bytes([2; 32])]);
    }

    proptest! {
        #[test]
        fn never_panics(port: u16, addresses: Vec<IpAddr>, interface: u32, version: Option<String>, fingerprint: Option<String>) {
            let found = parse_announcement(&ServiceDetails { port, addresses, version, fingerprint }, interface);
            prop_assert!(found.is_none_or(|found| found.addresses.len() <= MAX_ADDRESSES));
        }
    }
}
