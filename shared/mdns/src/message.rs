//! The messages: questions and announcements from packets of anybody, and packets of announcements.

use std::collections::BTreeSet;
use std::net::IpAddr;

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::message_builder::PushError;
use domain::base::record::ParsedRecord;
use domain::base::{Message, MessageBuilder, Name, ParsedName, Rtype, StaticCompressor, ToName, Ttl};
use domain::rdata::{A, Aaaa, Ptr, Srv, Txt};

/// `_vizinho._tcp.local`, as it stands in packets.
const SERVICE_TYPE: &[u8] = b"\x08_vizinho\x04_tcp\x05local\0";
/// `_services._dns-sd._udp.local`, under which all types of services are listed (RFC 6763, 9).
const SERVICE_TYPES: &[u8] = b"\x09_services\x07_dns-sd\x04_udp\x05local\0";
/// The last label of a host.
const DOMAIN: &str = "local";
/// Set in a question: the answer may come by unicast. Set in a record: there are no others of this name and type.
const TOP_BIT: u16 = 0x8000;
/// For how long what depends on addresses is kept (RFC 6762, 10), in seconds.
const HOST_TTL: u32 = 120;
/// For how long everything else is kept, in seconds.
const OTHER_TTL: u32 = 4500;
/// The most that a resolver without multicast is told (RFC 6762, 6.7), in seconds.
const LEGACY_TTL: u32 = 10;
/// Questions of one packet that are looked at.
const MAX_QUESTIONS: usize = 64;
/// Records of one packet that are looked at.
const MAX_RECORDS: usize = 128;
/// Instances of one packet that are looked at.
const MAX_INSTANCES: usize = 8;
/// Addresses of one instance that are looked at.
const MAX_ADDRESSES: usize = 32;

type OwnedName = Name<Vec<u8>>;
type BorrowedName<'a> = ParsedName<&'a [u8]>;

/// A service as it is announced, apart from its addresses.
#[derive(Debug, Clone)]
pub struct Service {
    instance: OwnedName,
    host: OwnedName,
    port: u16,
    text: Vec<u8>,
}

/// Why a service can't be announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name or a text is too long to be announced")]
pub struct InvalidService;

/// What one packet says of one instance of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// What it is called: any text.
    pub instance: String,
    /// What is said of it.
    pub state: AdvertisedState,
}

/// The state of an instance, by what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdvertisedState {
    /// It is there.
    Described(ServiceDetails),
    /// It is there, and the packet doesn't say where.
    Named,
    /// It is gone.
    Withdrawn,
}

/// Where an instance is said to be, and its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDetails {
    /// The port, from 0 up.
    pub port: u16,
    /// Addresses of any kind, at least one.
    pub addresses: Vec<IpAddr>,
    /// The text `v`.
    pub version: Option<String>,
    /// The text `fp`.
    pub fingerprint: Option<String>,
}

/// All that one packet says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Advertisements {
    pub(crate) list: Vec<Advertisement>,
    /// Whether it names more instances than are looked at.
    pub(crate) is_cut_off: bool,
}

/// What an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The type of the service.
    Type,
    /// All records of the service with this place in the list.
    Service(usize),
}

/// Questions that concern us.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) subjects: BTreeSet<Subject>,
    /// Whether all of them may be answered by unicast.
    pub(crate) accepts_unicast: bool,
    /// The first of them.
    pub(crate) first: RepeatedQuestion,
}

/// A question as a resolver without multicast wants to see it in the answer.
#[derive(Debug)]
pub(crate) struct RepeatedQuestion {
    id: u16,
    name: OwnedName,
    kind: Rtype,
}

/// To whom and what for records are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ResponseKind<'a> {
    /// To somebody who knows multicast.
    Announcement,
    /// The same, taken back.
    Goodbye,
    /// To a resolver that doesn't know multicast.
    Legacy(&'a RepeatedQuestion),
}

impl Service {
    /// An instance of this name on a host of this name (without `.local`), with texts.
    ///
    /// # Errors
    /// [`InvalidService`] for a label of more than 63 bytes, or a text of more than 255.
    pub fn new(instance: &str, host: &str, port: u16, properties: &[(&str, &str)]) -> Result<Self, InvalidService> {
        let mut text = Vec::new();
        for (key, value) in properties {
            let entry = format!("{key}={value}");
            text.push(u8::try_from(entry.len()).map_err(|_| InvalidService)?);
            text.extend(entry.into_bytes());
        }
        Txt::from_octets(&text).map_err(|_| InvalidService)?;
        let instance = name_of(instance, SERVICE_TYPE)?;
        // In wire format (RFC 1035, 3.1): `local` has five bytes, and an empty label ends the name.
        let host = name_of(host, &[&[5], DOMAIN.as_bytes(), &[0]].concat())?;
        Ok(Self { instance, host, port, text })
    }
}

/// The name of one label and a wire-format rest.
fn name_of(label: &str, rest: &[u8]) -> Result<OwnedName, InvalidService> {
    let length = u8::try_from(label.len()).map_err(|_| InvalidService)?;
    Name::from_octets([&[length], label.as_bytes(), rest].concat()).map_err(|_| InvalidService)
}

/// The question for all instances of the service.
pub(crate) fn service_query() -> Option<Vec<u8>> {
    let mut query = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).ok()?.question();
    query.push((Name::from_slice(SERVICE_TYPE).ok()?, Rtype::PTR, Class::IN)).ok()?;
    Some(query.finish().into_target())
}

/// What a packet asks of these services; `None` when it is no query, or asks nothing of them.
pub(crate) fn parse_query(packet: &[u8], services: &[&Service]) -> Option<Query> {
    let message = Message::from_slice(packet).ok()?;
    let header = message.header();
    // Other opcodes and response codes are silently ignored (RFC 6762, 18.3 and 18.11).
    if header.qr() || header.opcode() != Opcode::QUERY || header.rcode() != Rcode::NOERROR {
        return None;
    }
    let mut found: Option<Query> = None;
    // What comes after a part that isn't understood can't be found.
    for question in message.question().take(MAX_QUESTIONS).map_while(Result::ok) {
        let (name, kind, class) = (question.qname(), question.qtype(), question.qclass().to_int());
        let subjects = subjects_of(name, kind, services);
        if subjects.is_empty() || ![Class::IN.to_int(), Class::ANY.to_int()].contains(&(class & !TOP_BIT)) {
            continue;
        }
        let accepts_unicast = class & TOP_BIT != 0;
        let query = found.get_or_insert_with(|| Query {
            subjects: BTreeSet::new(),
            accepts_unicast,
            first: RepeatedQuestion { id: header.id(), name: name.to_vec(), kind },
        });
        query.subjects.extend(subjects);
        query.accepts_unicast &= accepts_unicast;
    }
    found
}

fn subjects_of(name: &BorrowedName<'_>, kind: Rtype, services: &[&Service]) -> Vec<Subject> {
    let is_for = |kinds: &[Rtype]| kind == Rtype::ANY || kinds.contains(&kind);
    if is_name(name, SERVICE_TYPES) {
        return if is_for(&[Rtype::PTR]) { vec![Subject::Type] } else { Vec::new() };
    }
    let is_any_instance = is_for(&[Rtype::PTR]) && is_name(name, SERVICE_TYPE);
    let is_asked = |service: &Service| {
        is_any_instance
            || is_for(&[Rtype::SRV, Rtype::TXT]) && name.name_eq(&service.instance)
            || is_for(&[Rtype::A, Rtype::AAAA]) && name.name_eq(&service.host)
    };
    let asked = services.iter().enumerate().filter(|(_, service)| is_asked(service));
    asked.map(|(place, _)| Subject::Service(place)).collect()
}

fn is_name(name: &BorrowedName<'_>, wire: &[u8]) -> bool {
    Name::from_slice(wire).is_ok_and(|other| name.name_eq(other))
}

/// The packet that says which type the service is of.
pub(crate) fn type_response(kind: ResponseKind<'_>) -> Option<Vec<u8>> {
    let (types, service) = (Name::from_slice(SERVICE_TYPES).ok()?, Name::from_slice(SERVICE_TYPE).ok()?);
    respond(kind, |answers| answers.push((types, Class::IN, kind.ttl(OTHER_TTL), Ptr::new(service))))
}

/// The packet with all records of a service that has these addresses.
pub(crate) fn service_response(service: &Service, addresses: &[IpAddr], kind: ResponseKind<'_>) -> Option<Vec<u8>> {
    let Service { instance, host, port, text } = service;
    let (unique, ours, others) = (kind.unique_class(), kind.ttl(HOST_TTL), kind.ttl(OTHER_TTL));
    let (service_type, text) = (Name::from_slice(SERVICE_TYPE).ok()?, Txt::from_octets(text).ok()?);
    respond(kind, |answers| {
        answers.push((service_type, Class::IN, others, Ptr::new(instance)))?;
        answers.push((instance, unique, ours, Srv::new(0, 0, *port, host)))?;
        answers.push((instance, unique, others, text))?;
        addresses.iter().try_for_each(|ip| match ip {
            IpAddr::V4(ip) => answers.push((host, unique, ours, A::new(*ip))),
            IpAddr::V6(ip) => answers.push((host, unique, ours, Aaaa::new(*ip))),
        })
    })
}

type Answers = domain::base::message_builder::AnswerBuilder<StaticCompressor<Vec<u8>>>;

fn respond(kind: ResponseKind<'_>, write: impl FnOnce(&mut Answers) -> Result<(), PushError>) -> Option<Vec<u8>> {
    let mut message = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).ok()?;
    message.header_mut().set_qr(true);
    // Responses are always authoritative (RFC 6762, 18.4).
    message.header_mut().set_aa(true);
    let mut questions = message.question();
    if let ResponseKind::Legacy(RepeatedQuestion { id, name, kind }) = kind {
        // A resolver without multicast knows the answer by its own id and question (RFC 6762, 6.7).
        questions.header_mut().set_id(*id);
        questions.push((name, *kind, Class::IN)).ok()?;
    }
    let mut answers = questions.answer();
    write(&mut answers).ok()?;
    Some(answers.finish().into_target())
}

impl ResponseKind<'_> {
    fn ttl(self, usual: u32) -> Ttl {
        Ttl::from_secs(match self {
            ResponseKind::Announcement => usual,
            // A TTL of 0 is a goodbye (RFC 6762, 10.1).
            ResponseKind::Goodbye => 0,
            ResponseKind::Legacy(_) => usual.min(LEGACY_TTL),
        })
    }

    /// The class of records that nobody else has.
    fn unique_class(self) -> Class {
        match self {
            ResponseKind::Announcement | ResponseKind::Goodbye => Class::from_int(Class::IN.to_int() | TOP_BIT),
            // In such an answer the bit has no meaning, and must not be set (RFC 6762, 6.7).
            ResponseKind::Legacy(_) => Class::IN,
        }
    }
}

/// What a packet says of instances of the service; nothing when it is no response.
pub(crate) fn parse_response(packet: &[u8]) -> Advertisements {
    read_response(packet).unwrap_or_default()
}

fn read_response(packet: &[u8]) -> Option<Advertisements> {
    let message = Message::from_slice(packet).ok()?;
    let header = message.header();
    // As for queries (RFC 6762, 18.3 and 18.11).
    if !header.qr() || header.opcode() != Opcode::QUERY || header.rcode() != Rcode::NOERROR {
        return None;
    }
    let (_, answers, _, additional) = message.sections().ok()?;
    let all = answers.map_while(Result::ok).chain(additional.map_while(Result::ok)).take(MAX_RECORDS);
    let records: Vec<ParsedRecord<'_, [u8]>> =
        all.filter(|record| record.class().to_int() & !TOP_BIT == Class::IN.to_int()).collect();
    let mut instances = records.iter().filter_map(instance_of);
    let list = instances.by_ref().take(MAX_INSTANCES).map(|(name, ttl)| advertisement(&name, ttl, &records)).collect();
    Some(Advertisements { list, is_cut_off: instances.next().is_some() })
}

/// The instance that a record lists, and for how long.
fn instance_of<'a>(record: &ParsedRecord<'a, [u8]>) -> Option<(BorrowedName<'a>, Ttl)> {
    if record.rtype() != Rtype::PTR || !is_name(&record.owner(), SERVICE_TYPE) {
        return None;
    }
    let pointer = record.to_record::<Ptr<BorrowedName<'a>>>().ok()??;
    let name = *pointer.data().ptrdname();
    // One label before the type, and the root.
    let is_instance = name.label_count() == 5 && name.ends_with(&Name::from_octets(SERVICE_TYPE).ok()?);
    is_instance.then(|| (name, pointer.ttl()))
}

fn advertisement<'a>(name: &BorrowedName<'a>, ttl: Ttl, records: &[ParsedRecord<'a, [u8]>]) -> Advertisement {
    let instance = String::from_utf8_lossy(name.first().as_slice()).into_owned();
    let state = if ttl == Ttl::ZERO {
        AdvertisedState::Withdrawn
    } else {
        details(name, records).map_or(AdvertisedState::Named, AdvertisedState::Described)
    };
    Advertisement { instance, state }
}

fn details<'a>(name: &BorrowedName<'a>, records: &[ParsedRecord<'a, [u8]>]) -> Option<ServiceDetails> {
    let of = |owner: BorrowedName<'a>, kind: Rtype| {
        move |record: &&ParsedRecord<'a, [u8]>| record.rtype() == kind && record.owner().name_eq(&owner)
    };
    let location = records.iter().find(of(*name, Rtype::SRV))?.to_record::<Srv<BorrowedName<'a>>>().ok()??;
    let text = records.iter().find(of(*name, Rtype::TXT))?.to_record::<Txt<&[u8]>>().ok()??;
    let (host, port) = (*location.data().target(), location.data().port());
    let v4 = |record: &ParsedRecord<'a, [u8]>| Some(IpAddr::V4(record.to_record::<A>().ok()??.data().addr()));
    let v6 = |record: &ParsedRecord<'a, [u8]>| Some(IpAddr::V6(record.to_record::<Aaaa>().ok()??.data().addr()));
    let v4 = records.iter().filter(of(host, Rtype::A)).filter_map(v4);
    let addresses: Vec<IpAddr> =
        v4.chain(records.iter().filter(of(host, Rtype::AAAA)).filter_map(v6)).take(MAX_ADDRESSES).collect();
    let (version, fingerprint) = (property(text.data(), "v"), property(text.data(), "fp"));
    (!addresses.is_empty()).then_some(ServiceDetails { port, addresses, version, fingerprint })
}

/// The first text of this key, if it is a text.
fn property(text: &Txt<&[u8]>, key: &str) -> Option<String> {
    let value = |entry: &[u8]| {
        let (found, value) = entry.split_at_checked(key.len())?;
        let value = value.strip_prefix(b"=")?;
        // Keys have no case, and of several with one key only the first counts (RFC 6763, 6.4).
        found.eq_ignore_ascii_case(key.as_bytes()).then(|| String::from_utf8(value.to_vec()).ok())
    };
    text.iter_charstrs().find_map(|entry| value(entry.as_slice()))?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(name: &str) -> Service {
        Service::new(&format!("Vizinho tracker {name}"), name, 8000, &[("v", "1"), ("fp", "ab12")]).unwrap()
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn question(name: &[u8], kind: u16, class: u16) -> Vec<u8> {
        [name, &kind.to_be_bytes(), &class.to_be_bytes()].concat()
    }

    fn query(questions: &[Vec<u8>]) -> Vec<u8> {
        let count = u16::try_from(questions.len()).unwrap();
        let header: Vec<u8> = [7, 0, count, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect();
        [header, questions.concat()].concat()
    }

    fn subjects(packet: &[u8], services: &[&Service]) -> Vec<Subject> {
        parse_query(packet, services).map(|query| query.subjects.into_iter().collect()).unwrap_or_default()
    }

    #[test]
    fn what_is_announced_is_what_is_heard() {
        let all = addresses(&["10.0.0.7", "192.168.0.7", "fd00::1", "fe80::1"]);
        let packet = service_response(&service("one"), &all, ResponseKind::Announcement).unwrap();
        let Advertisements { list, is_cut_off } = parse_response(&packet);
        let details = ServiceDetails {
            port: 8000,
            addresses: all.clone(),
            version: Some("1".to_owned()),
            fingerprint: Some("ab12".to_owned()),
        };
        let instance = "Vizinho tracker one".to_owned();
        assert_eq!(list, [Advertisement { instance: instance.clone(), state: AdvertisedState::Described(details) }]);
        assert!(!is_cut_off);
        let goodbye = service_response(&service("one"), &all, ResponseKind::Goodbye).unwrap();
        assert_eq!(parse_response(&goodbye).list, [Advertisement { instance, state: AdvertisedState::Withdrawn }]);
    }

    #[test]
    fn the_bytes_of_question_and_announcement_are_those_of_the_rfc() {
        let header =
            |counts: [u16; 5]| -> Vec<u8> { std::iter::once(0).chain(counts).flat_map(u16::to_be_bytes).collect() };
        let asked = [header([0, 1, 0, 0, 0]), question(SERVICE_TYPE, 12, 1)].concat();
        assert_eq!(service_query().unwrap(), asked);
        let host = Service::new("x", "h", 8000, &[("v", "1")]).unwrap();
        let record = |owner: &[u8], kind: u16, class: u16, ttl: u32, data: &[u8]| {
            let (kind, class, length) =
                (kind.to_be_bytes(), class.to_be_bytes(), [0, u8::try_from(data.len()).unwrap()]);
            [owner, &kind, &class, &ttl.to_be_bytes(), &length, data].concat()
        };
        // Names stand whole once, and are pointed to after that.
        let expected = [
            header([0x8400, 0, 4, 0, 0]),
            record(SERVICE_TYPE, 12, 1, 4500, b"\x01x\xc0\x0c"),
            record(b"\xc0\x2b", 33, 0x8001, 120, b"\0\0\0\0\x1f\x40\x01h\x05local\0"),
            record(b"\xc0\x2b", 16, 0x8001, 4500, b"\x03v=1"),
        ]
        .concat();
        let packet = service_response(&host, &addresses(&["10.0.0.7"]), ResponseKind::Announcement).unwrap();
        assert_eq!(packet[..expected.len()], expected);
        assert_eq!(packet[packet.len() - 14..], *b"\0\x01\x80\x01\0\0\0\x78\0\x04\x0a\0\0\x07");
    }

    #[test]
    fn each_question_is_about_its_records() {
        let (one, two) = (service("one"), service("two"));
        let all = [&one, &two];
        let upper = SERVICE_TYPE.to_ascii_uppercase();
        for (name, kind, class, expected) in [
            (SERVICE_TYPE, 12, 1, vec![Subject::Service(0), Subject::Service(1)]),
            (&upper, 255, 0x8001, vec![Subject::Service(0), Subject::Service(1)]),
            (SERVICE_TYPE, 12, 255, vec![Subject::Service(0), Subject::Service(1)]),
            (SERVICE_TYPE, 33, 1, vec![]),
            (SERVICE_TYPE, 12, 3, vec![]),
            (SERVICE_TYPES, 12, 1, vec![Subject::Type]),
            (two.instance.as_slice(), 33, 1, vec![Subject::Service(1)]),
            (two.instance.as_slice(), 16, 1, vec![Subject::Service(1)]),
            (two.instance.as_slice(), 12, 1, vec![]),
            (one.host.as_slice(), 28, 1, vec![Subject::Service(0)]),
            (one.host.as_slice(), 33, 1, vec![]),
            (b"\x05other\x05local\0", 255, 1, vec![]),
        ] {
            assert_eq!(subjects(&query(&[question(name, kind, class)]), &all), expected, "{name:?} {kind} {class}");
        }
        // Among others, and an answer of somebody else.
        let among = query(&[question(b"\x01a\0", 65, 1), question(SERVICE_TYPE, 12, 1)]);
        assert_eq!(subjects(&among, &[&one]), [Subject::Service(0)]);
        let mut answer = query(&[question(SERVICE_TYPE, 12, 1)]);
        answer[2] = 0x84;
        assert_eq!(subjects(&answer, &all), []);
    }

    #[test]
    fn by_unicast_is_answered_only_what_all_questions_allow() {
        let one = service("one");
        let asked = |classes: &[u16]| {
            let questions: Vec<Vec<u8>> = classes.iter().map(|class| question(SERVICE_TYPE, 12, *class)).collect();
            parse_query(&query(&questions), &[&one]).unwrap().accepts_unicast
        };
        assert!(asked(&[0x8001, 0x8001]));
        assert!(!asked(&[0x8001, 1]) && !asked(&[1, 0x8001]));
    }

    #[test]
    fn a_resolver_without_multicast_sees_its_question_again() {
        let one = service("one");
        let asked = parse_query(&query(&[question(SERVICE_TYPE, 12, 0x8001)]), &[&one]).unwrap();
        let all = addresses(&["10.0.0.7"]);
        let packet = service_response(&one, &all, ResponseKind::Legacy(&asked.first)).unwrap();
        let echoed = [&[0, 7, 0x84, 0, 0, 1, 0, 4, 0, 0, 0, 0][..], &question(SERVICE_TYPE, 12, 1)].concat();
        assert_eq!(packet[..echoed.len()], echoed);
        assert_eq!(parse_response(&packet).list.len(), 1);
        let message = Message::from_slice(&packet).unwrap();
        for record in message.answer().unwrap().map(Result::unwrap) {
            assert!(record.class() == Class::IN && record.ttl() <= Ttl::from_secs(LEGACY_TTL));
        }
    }

    #[test]
    fn a_packet_without_the_rest_names_an_instance_and_nothing_more() {
        let whole = service_response(&service("one"), &[], ResponseKind::Announcement).unwrap();
        let heard = parse_response(&whole).list;
        assert_eq!(heard[0].state, AdvertisedState::Named);
        assert_eq!(parse_response(&type_response(ResponseKind::Announcement).unwrap()), Advertisements::default());
        assert_eq!(parse_response(&service_query().unwrap()), Advertisements::default());
    }

    #[test]
    fn no_more_instances_are_looked_at_than_the_bound() {
        let record = |n: u8| [SERVICE_TYPE, b"\0\x0c\0\x01\0\0\0\x78\0\x04\x01", &[n], b"\xc0\x0c"].concat();
        let packet = |count: u8| {
            let header: Vec<u8> = [0, 0x8400, 0, count.into(), 0, 0].into_iter().flat_map(u16::to_be_bytes).collect();
            [header, (0..count).flat_map(record).collect()].concat()
        };
        let bound = u8::try_from(MAX_INSTANCES).unwrap();
        for (count, expected, is_cut_off) in [(1, 1, false), (bound, bound, false), (bound + 1, bound, true)] {
            let heard = parse_response(&packet(count));
            assert_eq!((heard.list.len(), heard.is_cut_off), (usize::from(expected), is_cut_off), "{count}");
        }
    }

    #[test]
    fn names_and_texts_that_fit_no_packet_are_refused() {
        let long = "x".repeat(64);
        assert!(Service::new(&long, "h", 1, &[]).is_err() && Service::new("x", &long, 1, &[]).is_err());
        assert!(Service::new("x", "h", 1, &[("k", &"v".repeat(254))]).is_err());
        assert!(Service::new(&long[1..], &long[1..], 1, &[("k", &"v".repeat(253))]).is_ok());
    }

    /// A packet that looks like one: a header, and records that are partly true.
    fn plausible() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(SERVICE_TYPE.to_vec()),
            Just(SERVICE_TYPES.to_vec()),
            Just(b"\xc0\x0c".to_vec()),
            (0..4_u8, any::<u8>()).prop_map(|(high, low)| vec![0xc0 | high, low]),
            prop::sample::select(vec![1_u16, 12, 16, 28, 33, 255]).prop_map(|kind| kind.to_be_bytes().to_vec()),
            Just(b"\0\x0c\0\x01\0\0\0\x78\0\x04\x01a\xc0\x0c".to_vec()),
            Just(b"\0\x21\x80\x01\0\0\0\x78\0\x08\0\0\0\0\x1f\x40\xc0\x0c".to_vec()),
            Just(b"\0\x10\x80\x01\0\0\0\x78\0\x04\x03v=1".to_vec()),
            Just(b"\0\x01\x80\x01\0\0\0\x78\0\x04\x0a\0\0\x07".to_vec()),
            prop::collection::vec(any::<u8>(), 0..24),
        ];
        let flags = prop::sample::select(vec![0_u16, 0x8400]);
        let counts = prop::array::uniform4(0..20_u16);
        (flags, counts, prop::collection::vec(piece, 0..60)).prop_map(|(flags, counts, pieces)| {
            let header: Vec<u8> = [0, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect();
            [header, pieces.concat()].concat()
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_within_the_bounds(
            packet in prop_oneof![prop::collection::vec(any::<u8>(), 0..9000), plausible()],
        ) {
            let (one, two) = (service("one"), service("two"));
            if let Some(query) = parse_query(&packet, &[&one, &two]) {
                prop_assert!(query.subjects.len() <= 3);
                let answer = service_response(&one, &[], ResponseKind::Legacy(&query.first)).unwrap();
                prop_assert!(answer.len() < 600);
            }
            let heard = parse_response(&packet);
            prop_assert!(heard.list.len() <= MAX_INSTANCES);
            for Advertisement { instance, state } in heard.list {
                prop_assert!(instance.len() <= 63 * 3);
                if let AdvertisedState::Described(details) = state {
                    prop_assert!((1..=MAX_ADDRESSES).contains(&details.addresses.len()));
                    let texts = [details.version, details.fingerprint];
                    prop_assert!(texts.iter().flatten().all(|text| text.len() < 256));
                }
            }
        }
    }
}
