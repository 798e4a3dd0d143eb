//! Origins: the units by which limits count clients.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shared::{Fingerprint, Ipv6Network};

/// The text of a person behind a door begins so.
const PERSON_PREFIX: &str = "person ";

/// The origin of a client: its address, or a person behind a door.
///
/// On a local network all IPv6 addresses share a network of 2^64, so each address counts by itself. One machine may
/// take as many of them as it likes, so the network counts as well, with wider limits.
///
/// A door is a machine through which many people connect and that the administrator trusts to name them: each person
/// counts as if with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientOrigin(OriginKind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum OriginKind {
    Address(IpAddr),
    Person(PersonHash),
}

/// A person behind a door: the hash of the door's key and of the name that the door gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct PersonHash([u8; 16]);

impl ClientOrigin {
    /// Returns the origin of an address; an IPv4-mapped address counts as IPv4.
    pub const fn of(ip: IpAddr) -> Self {
        Self(OriginKind::Address(ip.to_canonical()))
    }

    /// Returns the origin of the person whom the door with this key names.
    pub fn behind(door: Fingerprint, person: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("vizinho 2026 person behind a door v1");
        // The key's length is fixed: no other door and name give the same bytes.
        hasher.update(door.as_bytes()).update(person.as_bytes());
        let mut hash = [0; 16];
        hasher.finalize_xof().fill(&mut hash);
        Self(OriginKind::Person(PersonHash(hash)))
    }

    /// True for this machine itself, where proxies and forwarders connect from.
    pub const fn is_loopback(self) -> bool {
        matches!(self.0, OriginKind::Address(ip) if ip.is_loopback())
    }

    /// Returns the IPv4 network (/24); `None` for loopback, IPv6 and persons.
    pub(super) const fn ipv4_network(self) -> Option<Ipv4Network> {
        match self.0 {
            OriginKind::Address(IpAddr::V4(v4)) if !v4.is_loopback() => Some(Ipv4Network(v4.to_bits() >> 8)),
            OriginKind::Address(_) | OriginKind::Person(_) => None,
        }
    }

    /// Returns the IPv6 network (/64); `None` for loopback, IPv4 and persons.
    pub fn network(self) -> Option<Ipv6Network> {
        match self.0 {
            OriginKind::Address(ip) => Ipv6Network::of(ip),
            OriginKind::Person(_) => None,
        }
    }
}

impl From<IpAddr> for ClientOrigin {
    fn from(ip: IpAddr) -> Self {
        Self::of(ip)
    }
}

impl fmt::Display for ClientOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            OriginKind::Address(ip) => write!(f, "{ip}"),
            OriginKind::Person(PersonHash(hash)) => write!(f, "{PERSON_PREFIX}{:032x}", u128::from_be_bytes(hash)),
        }
    }
}

/// The error of parsing a [`ClientOrigin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an address nor a person behind a door")]
pub struct ParseOriginError;

impl FromStr for ClientOrigin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(PERSON_PREFIX) {
            Some(hash) => {
                let hash = shared::hex::decode(hash).map_err(|_| ParseOriginError)?;
                Ok(Self(OriginKind::Person(PersonHash(hash))))
            }
            None => text.parse().map(Self::of).map_err(|_| ParseOriginError),
        }
    }
}

impl Serialize for ClientOrigin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClientOrigin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An IPv4 network of 256 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ipv4Network(u32);

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> ClientOrigin {
        ClientOrigin::of(text.parse().unwrap())
    }

    #[test]
    fn neighbours_are_two_addresses_of_one_network() {
        let (one, other) = (origin("2001:db8::1:2:3:4"), origin("2001:db8::5"));
        assert_ne!(one, other);
        assert_eq!(one.network(), other.network());
        assert_ne!(one.network(), origin("2001:db8:0:1::5").network());
        assert_ne!(origin("fe80::1"), origin("fe80::2"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
        assert_eq!((origin("10.0.0.1").network(), origin("::1").network()), (None, None));
    }

    #[test]
    fn people_behind_doors_are_told_apart() {
        let (one, other) = (Fingerprint::from_bytes([1; 32]), Fingerprint::from_bytes([2; 32]));
        assert_eq!(ClientOrigin::behind(one, "ana"), ClientOrigin::behind(one, "ana"));
        assert_ne!(ClientOrigin::behind(one, "ana"), ClientOrigin::behind(one, "bia"));
        assert_ne!(ClientOrigin::behind(one, "ana"), ClientOrigin::behind(other, "ana"));
        assert_ne!(ClientOrigin::behind(one, "10.0.0.1"), origin("10.0.0.1"));
        assert_eq!(ClientOrigin::behind(one, "2001:db8::5").network(), None);
        for origin in [ClientOrigin::behind(one, "ana"), origin("10.0.0.1"), origin("fe80::1")] {
            assert_eq!(origin.to_string().parse(), Ok(origin));
        }
        assert_eq!("person 12".parse::<ClientOrigin>(), Err(ParseOriginError));
    }
}
