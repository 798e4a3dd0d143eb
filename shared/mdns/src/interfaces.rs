//! The interfaces of this machine over which others can be reached.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use if_addrs::{IfAddr, get_if_addrs};

/// Interfaces that are used; a machine with more has them for its own containers.
const MAX_INTERFACES: usize = 32;
/// Addresses of one interface that are used.
const MAX_ADDRESSES: usize = 16;

/// An address of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InterfaceAddress {
    pub(crate) ip: IpAddr,
    /// The bits of it that its network has in common.
    pub(crate) prefix_len: u8,
}

impl InterfaceAddress {
    /// Returns true if `ip` is in the network behind this address.
    pub(crate) fn has_in_network(&self, ip: IpAddr) -> bool {
        is_same_network(self.ip, ip, self.prefix_len)
    }
}

/// Returns true if two addresses have their first `prefix_len` bits in common.
pub fn is_same_network(one: IpAddr, other: IpAddr, prefix_len: u8) -> bool {
    let common_bits = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => return false,
    };
    common_bits >= u32::from(prefix_len)
}

/// The interfaces that are up, with their addresses: IPv4 first, link-local ones last.
pub(crate) fn interfaces() -> io::Result<BTreeMap<u32, Vec<InterfaceAddress>>> {
    let mut all: BTreeMap<u32, Vec<InterfaceAddress>> = BTreeMap::new();
    for one in get_if_addrs()?.into_iter().filter(|one| !one.is_loopback() && one.is_oper_up()) {
        let prefix_len = match &one.addr {
            IfAddr::V4(v4) => v4.prefixlen,
            IfAddr::V6(v6) => v6.prefixlen,
        };
        // Without its number, no socket can be bound to an interface.
        if let Some(index) = one.index {
            all.entry(index).or_default().push(InterfaceAddress { ip: one.ip(), prefix_len });
        }
    }
    for addresses in all.values_mut() {
        let is_last = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        addresses.sort_unstable_by_key(|address| (is_last(address.ip), *address));
        addresses.truncate(MAX_ADDRESSES);
    }
    Ok(all.into_iter().take(MAX_INTERFACES).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_what_its_prefix_says() {
        let address = |ip: &str, prefix_len| InterfaceAddress { ip: ip.parse().unwrap(), prefix_len };
        for (own, prefix_len, other, expected) in [
            ("172.17.0.1", 16, "172.17.200.3", true),
            ("172.17.0.1", 16, "172.18.0.1", false),
            ("10.0.0.1", 24, "10.0.0.200", true),
            ("10.0.0.1", 24, "10.0.1.1", false),
            ("10.0.0.1", 32, "10.0.0.1", true),
            ("10.0.0.1", 0, "1.2.3.4", true),
            ("fe80::1", 64, "fe80::2", true),
            ("fe80::1", 64, "fd00::2", false),
            ("10.0.0.1", 0, "::1", false),
        ] {
            assert_eq!(address(own, prefix_len).has_in_network(other.parse().unwrap()), expected, "{own} {other}");
        }
    }
}
