//! Networks of addresses, by which both sides bound what one machine may take.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// An IPv6 network of 2^64 addresses (/64), of which one machine may have any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv6Network(u128);

impl Ipv6Network {
    /// Returns the network of an address; `None` for loopback and IPv4, mapped or not.
    pub const fn of(ip: IpAddr) -> Option<Self> {
        // A dual-stack socket shows an IPv4 client under a mapped address.
        match ip.to_canonical() {
            IpAddr::V6(v6) if !v6.is_loopback() => Some(Self(v6.to_bits() >> 64 << 64)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }
}

impl fmt::Display for Ipv6Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/64", Ipv6Addr::from_bits(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_in_one_network() {
        let network = |text: &str| Ipv6Network::of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1:2:3:4"), network("2001:db8::5"));
        assert_ne!(network("2001:db8::5"), network("2001:db8:0:1::5"));
        assert_eq!(network("2001:db8::5").unwrap().to_string(), "2001:db8::/64");
        assert_eq!(["10.0.0.1", "::1", "::ffff:10.0.0.1"].map(network), [None; 3]);
    }
}
