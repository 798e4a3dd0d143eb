//! What is announced and answered on which socket, and when: pure, `now` is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::interfaces::InterfaceAddress;
use crate::message::{ResponseKind, Service, Subject, parse_query, service_response, type_response};
use crate::sockets::{MDNS_PORT, Outgoing, SocketKey};

/// Between two multicast packets with the same records (RFC 6762, 6 and 8.3).
const MULTICAST_INTERVAL: Duration = Duration::from_secs(1);
/// How often something new is said without being asked.
const ANNOUNCEMENTS: u8 = 2;
/// Unicast answers within [`UNICAST_WINDOW`]: whoever asks may have forged whom the answer goes to.
const MAX_UNICAST: u32 = 32;
/// The time in which unicast answers are counted.
const UNICAST_WINDOW: Duration = Duration::from_secs(1);

/// A service and the addresses it is announced with.
#[derive(Debug, Clone)]
pub struct AnnouncedService {
    /// The service.
    pub service: Service,
    /// Its addresses.
    pub addresses: AddressSelection,
}

/// Which addresses of this machine a service can be reached at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSelection {
    /// All of IPv4.
    pub every_v4: bool,
    /// All of IPv6.
    pub every_v6: bool,
    /// Further addresses.
    pub ips: Vec<IpAddr>,
}

/// The state of all that is announced.
#[derive(Debug)]
pub(crate) struct Responder {
    services: Vec<AnnouncedService>,
    sockets: BTreeMap<SocketKey, SocketState>,
    unicast: UnicastAllowance,
}

/// One interface and family.
#[derive(Debug)]
struct SocketState {
    addresses: Vec<InterfaceAddress>,
    schedules: BTreeMap<Subject, Schedule>,
}

/// When the same records are sent next.
#[derive(Debug, Default)]
struct Schedule {
    last: Option<Instant>,
    due: Option<Instant>,
    /// How often they are to be said without being asked.
    announcements: u8,
}

/// Counts unicast answers.
#[derive(Debug, Default)]
struct UnicastAllowance {
    since: Option<Instant>,
    used: u32,
}

impl AddressSelection {
    fn includes(&self, ip: IpAddr) -> bool {
        let is_every = if ip.is_ipv4() { self.every_v4 } else { self.every_v6 };
        is_every || self.ips.contains(&ip)
    }
}

impl Responder {
    pub(crate) fn new(services: Vec<AnnouncedService>) -> Self {
        Self { services, sockets: BTreeMap::new(), unicast: UnicastAllowance::default() }
    }

    /// Takes note of a socket that is new or whose interface has other addresses, and announces everything there.
    pub(crate) fn set_socket(&mut self, key: SocketKey, addresses: &[InterfaceAddress], now: Instant) {
        let services = (0..self.services.len()).map(Subject::Service);
        // A known socket keeps its schedules: what it sent lately still counts for the pace.
        let state = self.sockets.entry(key).or_insert_with(|| {
            let schedules = services.chain([Subject::Type]).map(|subject| (subject, Schedule::default()));
            SocketState { addresses: Vec::new(), schedules: schedules.collect() }
        });
        state.addresses = addresses.to_vec();
        for (_, schedule) in state.schedules.iter_mut().filter(|(subject, _)| **subject != Subject::Type) {
            schedule.announce(now);
        }
    }

    /// Forgets a socket.
    pub(crate) fn remove_socket(&mut self, key: SocketKey) {
        self.sockets.remove(&key);
    }

    /// Takes a packet that came to a socket; gives back what goes to its sender alone.
    pub(crate) fn receive(&mut self, key: SocketKey, source: SocketAddr, packet: &[u8], now: Instant) -> Vec<Outgoing> {
        let services: Vec<&Service> = self.services.iter().map(|one| &one.service).collect();
        let Some(query) = parse_query(packet, &services) else { return Vec::new() };
        let Some(state) = self.sockets.get_mut(&key) else { return Vec::new() };
        // Nobody else's network is sent anything, whatever the sender's address is said to be.
        let is_neighbour = state.addresses.iter().any(|address| address.has_in_network(source.ip().to_canonical()));
        // Whoever asks from another port doesn't listen to the group (RFC 6762, 6.7).
        let is_legacy = source.port() != MDNS_PORT;
        // The allowance comes last: a multicast answer uses none of it.
        let is_unicast = is_neighbour && (is_legacy || query.accepts_unicast) && self.unicast.take(now);
        if !is_unicast {
            // A resolver without multicast wouldn't hear the answer.
            if !is_legacy {
                state.request(&query.subjects, now);
            }
            return Vec::new();
        }
        let kind = if is_legacy { ResponseKind::Legacy(&query.first) } else { ResponseKind::Announcement };
        let state = &*state;
        let packets = query.subjects.iter().filter_map(|subject| packet_of(&self.services, state, *subject, kind));
        packets.map(|packet| Outgoing { socket: key, to: Some(source), packet }).collect()
    }

    /// Returns the multicast packets whose time has come.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Outgoing> {
        let mut packets = Vec::new();
        for (key, state) in &mut self.sockets {
            let due = state.schedules.iter_mut().filter_map(|(subject, one)| one.take_due(now).then_some(*subject));
            let due: Vec<Subject> = due.collect();
            packets.extend(all_packets(&self.services, *key, state, &due, ResponseKind::Announcement));
        }
        packets
    }

    /// Returns when there is something to send next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.sockets.values().flat_map(|state| state.schedules.values()).filter_map(|schedule| schedule.due).min()
    }

    /// Returns what takes everything back that was announced.
    pub(crate) fn goodbye(&self) -> Vec<Outgoing> {
        let all: Vec<Subject> = (0..self.services.len()).map(Subject::Service).collect();
        let sockets = self.sockets.iter();
        sockets.flat_map(|(key, state)| all_packets(&self.services, *key, state, &all, ResponseKind::Goodbye)).collect()
    }
}

fn all_packets(
    services: &[AnnouncedService],
    socket: SocketKey,
    state: &SocketState,
    subjects: &[Subject],
    kind: ResponseKind<'_>,
) -> Vec<Outgoing> {
    let packets = subjects.iter().filter_map(|subject| packet_of(services, state, *subject, kind));
    packets.map(|packet| Outgoing { socket, to: None, packet }).collect()
}

/// The packet about a subject; `None` where nothing of it can be reached over this interface.
fn packet_of(
    services: &[AnnouncedService],
    state: &SocketState,
    subject: Subject,
    kind: ResponseKind<'_>,
) -> Option<Vec<u8>> {
    let Subject::Service(place) = subject else {
        let is_reachable = services.iter().any(|one| !state.addresses_of(one).is_empty());
        return if is_reachable { type_response(kind) } else { None };
    };
    let announced = services.get(place)?;
    let addresses = state.addresses_of(announced);
    if addresses.is_empty() { None } else { service_response(&announced.service, &addresses, kind) }
}

impl SocketState {
    /// The addresses of a service on this interface.
    fn addresses_of(&self, AnnouncedService { addresses, .. }: &AnnouncedService) -> Vec<IpAddr> {
        self.addresses.iter().map(|address| address.ip).filter(|ip| addresses.includes(*ip)).collect()
    }

    fn request(&mut self, subjects: &BTreeSet<Subject>, now: Instant) {
        for subject in subjects {
            if let Some(schedule) = self.schedules.get_mut(subject) {
                schedule.request(now);
            }
        }
    }
}

impl Schedule {
    fn announce(&mut self, now: Instant) {
        self.announcements = ANNOUNCEMENTS;
        self.request(now);
    }

    /// Sends as soon as may be.
    fn request(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| now.max(last + MULTICAST_INTERVAL));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.last = Some(now);
            self.announcements = self.announcements.saturating_sub(1);
            self.due = (self.announcements > 0).then(|| now + MULTICAST_INTERVAL);
        }
        is_due
    }
}

impl UnicastAllowance {
    fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= UNICAST_WINDOW) {
            *self = Self { since: Some(now), used: 0 };
        }
        self.used = self.used.saturating_add(1);
        self.used <= MAX_UNICAST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{AdvertisedState, parse_response, service_query};
    use crate::sockets::Family;

    const HERE: SocketKey = SocketKey { interface: 2, family: Family::V4 };
    const THERE: SocketKey = SocketKey { interface: 3, family: Family::V6 };

    fn networks(texts: &[(&str, u8)]) -> Vec<InterfaceAddress> {
        texts
            .iter()
            .map(|(ip, prefix_len)| InterfaceAddress { ip: ip.parse().unwrap(), prefix_len: *prefix_len })
            .collect()
    }

    fn service(name: &str, addresses: AddressSelection) -> AnnouncedService {
        AnnouncedService { service: Service::new(name, name, 8000, &[("v", "1")]).unwrap(), addresses }
    }

    fn responder(now: Instant) -> Responder {
        let every = AddressSelection { every_v4: true, every_v6: true, ips: Vec::new() };
        let mut responder = Responder::new(vec![service("one", every)]);
        responder.set_socket(HERE, &networks(&[("10.0.0.1", 24)]), now);
        responder
    }

    /// One that has announced everything already.
    fn settled(begin: Instant) -> (Responder, Instant) {
        let mut responder = responder(begin);
        responder.take_due(begin);
        responder.take_due(begin + MULTICAST_INTERVAL);
        (responder, begin + 10 * MULTICAST_INTERVAL)
    }

    fn addresses_in(packet: &Outgoing) -> Vec<String> {
        let heard = parse_response(&packet.packet).list.remove(0);
        let AdvertisedState::Described(details) = heard.state else { panic!("{heard:?}") };
        details.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_is_announced_twice_and_once_more_after_a_change() {
        let begin = Instant::now();
        let mut responder = responder(begin);
        for (second, expected) in [(0, 1), (0, 0), (1, 1), (2, 0), (3, 0)] {
            assert_eq!(responder.take_due(begin + second * MULTICAST_INTERVAL).len(), expected, "{second}");
        }
        assert_eq!(responder.next_due(), None);
        let later = begin + 60 * MULTICAST_INTERVAL;
        responder.set_socket(THERE, &networks(&[("10.1.0.1", 24), ("fe80::1", 64)]), later);
        let sent = responder.take_due(later);
        assert_eq!(sent.iter().map(|one| (one.socket, one.to)).collect::<Vec<_>>(), [(THERE, None)]);
        assert_eq!(addresses_in(&sent[0]), ["10.1.0.1", "fe80::1"]);
        responder.remove_socket(THERE);
        assert_eq!(responder.next_due(), None);
    }

    #[test]
    fn a_flood_of_questions_is_answered_once_a_second_and_nobody_is_forgotten() {
        let (mut responder, begin) = settled(Instant::now());
        let packet = service_query().unwrap();
        let mut sent = Vec::new();
        for tick in 0..=3000 {
            let now = begin + Duration::from_millis(tick);
            assert_eq!(responder.receive(HERE, "10.0.0.9:5353".parse().unwrap(), &packet, now), []);
            sent.extend(responder.take_due(now).iter().map(|_| tick));
        }
        assert_eq!(sent, [0, 1000, 2000, 3000]);
        // Who asks within that second is answered at its end.
        let now = begin + Duration::from_millis(3500);
        responder.receive(HERE, "10.0.0.9:5353".parse().unwrap(), &packet, now);
        assert_eq!(responder.next_due(), Some(begin + Duration::from_secs(4)));
    }

    #[test]
    fn unicast_goes_to_neighbours_only_and_has_a_bound() {
        let (mut responder, now) = settled(Instant::now());
        let mut packet = service_query().unwrap();
        let legacy = |responder: &mut Responder, source: &str, packet: &[u8]| {
            responder.receive(HERE, source.parse().unwrap(), packet, now).len()
        };
        assert_eq!(legacy(&mut responder, "192.0.2.1:1234", &packet), 0);
        assert_eq!(responder.next_due(), None, "and nobody else is told for it");
        for count in 0..2 * MAX_UNICAST {
            let expected = usize::from(count < MAX_UNICAST);
            assert_eq!(legacy(&mut responder, "10.0.0.9:1234", &packet), expected, "{count}");
        }
        // Somebody who would take both is answered by multicast then.
        let class = packet.len() - 2;
        packet[class] |= 0x80;
        assert_eq!(legacy(&mut responder, "10.0.0.9:5353", &packet), 0);
        assert_eq!(responder.next_due(), Some(now));
    }

    #[test]
    fn each_interface_hears_the_addresses_that_it_has_and_that_are_listened_on() {
        let now = Instant::now();
        let only_v6 = AddressSelection { every_v6: true, ..AddressSelection::default() };
        let one = AddressSelection { ips: vec!["10.1.0.1".parse().unwrap()], ..AddressSelection::default() };
        let mut responder = Responder::new(vec![service("six", only_v6), service("one", one)]);
        responder.set_socket(HERE, &networks(&[("10.0.0.1", 24), ("fe80::1", 64)]), now);
        let sent = responder.take_due(now);
        assert_eq!(sent.iter().map(addresses_in).collect::<Vec<_>>(), [["fe80::1"]]);
        responder.set_socket(THERE, &networks(&[("10.1.0.1", 24)]), now);
        let sent = responder.take_due(now);
        assert_eq!(sent.iter().map(addresses_in).collect::<Vec<_>>(), [["10.1.0.1"]]);
        let gone: Vec<AdvertisedState> =
            responder.goodbye().iter().map(|one| parse_response(&one.packet).list.remove(0).state).collect();
        assert_eq!(gone, [AdvertisedState::Withdrawn, AdvertisedState::Withdrawn]);
    }
}
