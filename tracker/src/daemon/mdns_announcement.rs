//! The announcement of the tracker on the local network, by mDNS as `_vizinho._tcp.local.`.
//!
//! TXT: `v` is the protocol's version, `fp` the fingerprint of the tracker's certificate. Both are hints without proof:
//! a peer pins the key that it chose. Several trackers of one database have one key: each has a name of its own, by which
//! peers tell them apart. Nothing waits for the announcement, and its failure doesn't stop the tracker.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mdns::{AddressSelection, AnnouncedService, Announcer, InvalidService, MAX_SERVICES, Service};
use shared::Fingerprint;
use tracing::{debug, info};

use super::listeners::{self, ListenAddress};

/// The protocol's version in the TXT record.
const PROTOCOL_VERSION: &str = "1";

/// A running announcement, to be ended with [`MdnsAnnouncement::end`].
pub(super) struct MdnsAnnouncement(Announcer);

/// The part of the name that tells a tracker from others.
pub(super) enum OwnMark {
    /// The fingerprint does.
    Fingerprint,
    /// Others have the same key: a mark of the machine and the data folder.
    Instance(String),
}

impl OwnMark {
    /// Returns the mark of one of several trackers, the same at each start.
    pub(super) fn of_instance(data_folder: &Path) -> Self {
        let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
        // Copies of a virtual machine have one id, but hardly one name.
        let name = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
        let folder = data_folder.canonicalize().unwrap_or_else(|_| data_folder.to_owned());
        let parts = [machine.as_slice(), &name, folder.as_os_str().as_bytes()];
        Self::Instance(blake3::hash(&parts.join(&0)).to_hex().chars().take(4).collect())
    }

    fn name(&self, fingerprint: &str) -> String {
        let start = |digits| fingerprint.get(..digits).unwrap_or_default();
        match self {
            Self::Fingerprint => start(12).to_owned(),
            // No longer than what peers show of a name.
            Self::Instance(mark) => format!("{}-{mark}", start(8)),
        }
    }
}

/// A service with what it is called.
struct NamedService {
    name: String,
    port: u16,
    service: AnnouncedService,
}

impl MdnsAnnouncement {
    /// Announces a tracker that other machines can reach; `None` for one on loopback, or on failure.
    pub(super) fn begin(reachable: &[ListenAddress], fingerprint: Fingerprint, own: &OwnMark) -> Option<Self> {
        let places = addresses_by_port(reachable);
        if places.is_empty() {
            return None;
        }
        let started = services_of(places, fingerprint, own).map_err(|why| why.to_string()).and_then(|services| {
            let announced = services.iter().map(|one| one.service.clone()).collect();
            Ok((Announcer::start(announced).map_err(|why| why.to_string())?, services))
        });
        match started {
            Ok((announcer, services)) => {
                for NamedService { name, port, .. } in services {
                    info!(name, port, "announced on the local network");
                }
                Some(Self(announcer))
            }
            Err(why) => {
                // Not fatal: users can still name the tracker's address.
                info!(why, "not announced on the local network");
                None
            }
        }
    }

    /// Sends the goodbye, which removes the tracker from others' caches.
    pub(super) fn end(self) {
        self.0.end();
        debug!("no longer announced");
    }
}

/// Which addresses others can reach on which port.
fn addresses_by_port(reachable: &[ListenAddress]) -> BTreeMap<u16, AddressSelection> {
    let mut places: BTreeMap<u16, AddressSelection> = BTreeMap::new();
    for ListenAddress { address, is_dual } in
        reachable.iter().filter(|one| listeners::is_reachable_by_others(one.address.ip()))
    {
        let place = places.entry(address.port()).or_default();
        match address.ip() {
            ip if !ip.is_unspecified() => place.ips.push(ip.to_canonical()),
            IpAddr::V4(_) => place.every_v4 = true,
            IpAddr::V6(_) => {
                place.every_v6 = true;
                // A dual-stack socket takes IPv4 as well.
                place.every_v4 |= is_dual;
            }
        }
    }
    places
}

/// The services of one tracker: what it listens on, and nothing else.
fn services_of(
    places: BTreeMap<u16, AddressSelection>,
    fingerprint: Fingerprint,
    own: &OwnMark,
) -> Result<Vec<NamedService>, InvalidService> {
    let fingerprint = fingerprint.to_string();
    let short = own.name(&fingerprint);
    let properties = [("v", PROTOCOL_VERSION), ("fp", fingerprint.as_str())];
    let named = |(place, (port, addresses)): (usize, (u16, AddressSelection))| {
        // A second port is a service of its own, on a host of its own: each host's addresses are told as a whole.
        let number = if place == 0 { String::new() } else { format!("-{port}") };
        let (name, host) = (format!("Vizinho tracker {short}{number}"), format!("vizinho-{short}{number}"));
        let service = Service::new(&name, &host, port, &properties)?;
        Ok(NamedService { name, port, service: AnnouncedService { service, addresses } })
    };
    // Whoever listens on more ports is found all the same.
    places.into_iter().take(MAX_SERVICES).enumerate().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_of_this_machine_alone_is_not_announced() {
        let all = ["127.0.0.1:8000", "[::1]:8000", "[::ffff:127.0.0.1]:8000"].map(|address| at(address, false));
        assert!(MdnsAnnouncement::begin(&all, Fingerprint::from_bytes([1; 32]), &OwnMark::Fingerprint).is_none());
    }

    #[test]
    fn trackers_of_one_key_have_names_of_their_own() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let name = |own: &OwnMark| {
            let places = addresses_by_port(&[at("0.0.0.0:8000", false)]);
            services_of(places, Fingerprint::from_bytes([0xab; 32]), own).unwrap()[0].name.clone()
        };
        assert_eq!(name(&OwnMark::Fingerprint), "Vizinho tracker abababababab");
        let [one, other] = [0, 1].map(|n| name(&OwnMark::of_instance(folders[n].path())));
        assert!(one.starts_with("Vizinho tracker abababab-") && one != other, "{one} {other}");
        assert_eq!(one, name(&OwnMark::of_instance(folders[0].path())));
        assert!(one.len() <= 32, "{one}");
    }

    fn at(address: &str, is_dual: bool) -> ListenAddress {
        ListenAddress { address: address.parse().unwrap(), is_dual }
    }

    #[test]
    fn what_is_announced_is_what_is_listened_on() {
        let place = |every_v4, every_v6, ips: &[&str]| AddressSelection {
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
