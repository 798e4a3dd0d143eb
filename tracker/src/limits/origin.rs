//! Where a client is.

use std::net::{IpAddr, Ipv6Addr};

/// Where a client is: its address, and the IPv6 network of which it may have any number of addresses.
///
/// On a local network everybody is in the same network of 2^64 addresses, so that each address counts alone; and one
/// machine may take as many of them as it likes, so that all of them together count as well, with a wider bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    address: IpAddr,
}

impl Origin {
    /// The address, however it was written.
    pub const fn of(ip: IpAddr) -> Self {
        Self { address: ip.to_canonical() }
    }

    /// The address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The IPv6 network, unless it is this machine itself.
    pub fn network(self) -> Option<Network> {
        match self.address {
            IpAddr::V6(v6) if !v6.is_loopback() => Some(Network(v6.to_bits() >> 64 << 64)),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }
}

/// An IPv6 network of 2^64 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(u128);

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/64", Ipv6Addr::from_bits(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    #[test]
    fn neighbours_are_two_addresses_of_one_network() {
        let (one, other) = (origin("2001:db8::1:2:3:4"), origin("2001:db8::5"));
        assert_ne!(one, other);
        assert_eq!(one.network(), other.network());
        assert_ne!(one.network(), origin("2001:db8:0:1::5").network());
        assert_eq!(one.network().unwrap().to_string(), "2001:db8::/64");
        assert_ne!(origin("fe80::1"), origin("fe80::2"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
        assert_eq!((origin("10.0.0.1").network(), origin("::1").network()), (None, None));
    }
}
