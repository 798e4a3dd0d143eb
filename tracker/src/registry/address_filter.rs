//! A filter for the addresses that a client claims: other peers will send packets to them.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | addresses of one user | 8 | refused by the request's parser |
//! | targets | the local network (private, link-local, shared by a carrier), the address that the tracker sees and its IPv6 network, blocks of `--allow-announce` | dropped |
//! | ports | [`MIN_PEER_PORT`] and above | dropped |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use shared::limits::MIN_PEER_PORT;

use crate::rate_limits::ClientOrigin;

/// A block of addresses: `192.0.2.0/24`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressBlock {
    /// The first address, IPv4 in its IPv6-mapped form.
    first: u128,
    /// The length of the common prefix, in bits of the IPv6 form.
    prefix: u32,
}

/// A text that is no block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address and no network, such as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.7")]
pub struct ParseAddressBlockError;

/// Returns the claimed addresses that others may dial: no multicast, broadcast, unspecified or foreign loopback
/// address, and none beyond the local network except in `allowed`.
///
/// `from` is the address of the client's socket; only a client on this machine may claim loopback.
pub fn dialable_addresses(claimed: &[SocketAddr], from: IpAddr, allowed: &[AddressBlock]) -> Vec<SocketAddr> {
    let mut useful = Vec::with_capacity(claimed.len());
    for address in claimed {
        // An IPv4-mapped address must not evade the rules for IPv4.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if is_dialable(address, from, allowed) && !useful.contains(&address) {
            useful.push(address);
        }
    }
    useful
}

fn is_dialable(address: SocketAddr, from: IpAddr, allowed: &[AddressBlock]) -> bool {
    let ip = address.ip();
    // 0.0.0.0/8 is "this network" (RFC 1122): Linux dials 0.0.0.0 as the machine itself.
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0);
    let foreign_loopback = ip.is_loopback() && !from.is_loopback();
    let is_of_one_machine = !ip.is_unspecified() && !ip.is_multicast() && !broadcast && !foreign_loopback;
    let is_allowed = || allowed.iter().any(|block| block.contains(ip));
    address.port() >= MIN_PEER_PORT && is_of_one_machine && (is_near(ip, from) || is_allowed())
}

/// True if the address is loopback, on a local network, or at the client's own origin or IPv6 network.
fn is_near(ip: IpAddr, from: IpAddr) -> bool {
    let (here, there) = (ClientOrigin::of(from), ClientOrigin::of(ip));
    let is_seen = here == there || here.network().is_some_and(|network| there.network() == Some(network));
    let is_local = match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || is_shared_by_carrier(v4),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unique_local(),
    };
    // Loopback is refused before unless the client itself is on this machine.
    ip.is_loopback() || is_local || is_seen
}

/// True for 100.64.0.0/10 (RFC 6598), which overlay networks use as well.
const fn is_shared_by_carrier(ip: Ipv4Addr) -> bool {
    ip.to_bits() >> 22 == 0x6440_0000 >> 22
}

impl AddressBlock {
    fn contains(self, ip: IpAddr) -> bool {
        has_common_prefix(self.first, mapped(ip), self.prefix)
    }
}

impl FromStr for AddressBlock {
    type Err = ParseAddressBlockError;

    fn from_str(text: &str) -> Result<Self, ParseAddressBlockError> {
        let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip: IpAddr = ip.trim().parse().map_err(|_| ParseAddressBlockError)?;
        let bits = if ip.is_ipv4() { Ipv4Addr::BITS } else { Ipv6Addr::BITS };
        let prefix = prefix.map_or(Ok(bits), |text| text.trim().parse().map_err(|_| ParseAddressBlockError))?;
        if prefix > bits {
            return Err(ParseAddressBlockError);
        }
        // In the mapped form, 96 common bits stand before an IPv4 address.
        Ok(Self { first: mapped(ip), prefix: Ipv6Addr::BITS - bits + prefix })
    }
}

const fn mapped(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn has_common_prefix(one: u128, other: u128, bits: u32) -> bool {
    // A prefix of 0 bits would shift by 128, which `checked_shr` refuses: everything matches it.
    (one ^ other).checked_shr(Ipv6Addr::BITS - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(claimed: &[&str], from: &str) -> Vec<String> {
        kept_with(claimed, from, &[])
    }

    fn kept_with(claimed: &[&str], from: &str, allowed: &[&str]) -> Vec<String> {
        let claimed: Vec<SocketAddr> = claimed.iter().map(|text| text.parse().unwrap()).collect();
        let allowed: Vec<AddressBlock> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        dialable_addresses(&claimed, from.parse().unwrap(), &allowed).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_nobody_can_dial_is_dropped() {
        let useless = [
            "224.0.0.251:5353",
            "255.255.255.255:9999",
            "0.0.0.0:9999",
            "0.1.2.3:9999",
            "[::]:9999",
            "[ff02::1]:9999",
            "10.0.0.1:0",
            "[::ffff:224.0.0.1]:9999",
            "[::ffff:0.0.0.0]:9999",
        ];
        assert!(kept(&useless, "127.0.0.1").is_empty());
        assert!(kept_with(&useless, "127.0.0.1", &["0.0.0.0/0", "::/0"]).is_empty());
        let near = ["10.0.0.5:9999", "[fe80::1]:9999", "10.0.0.5:9999"];
        assert_eq!(kept(&near, "10.0.0.9"), ["10.0.0.5:9999", "[fe80::1]:9999"]);
    }

    #[test]
    fn loopback_only_for_a_client_of_this_machine() {
        let loopback = ["127.0.0.1:9999", "[::1]:9999", "[::ffff:127.0.0.2]:9999"];
        assert_eq!(kept(&loopback, "127.0.0.1"), ["127.0.0.1:9999", "[::1]:9999", "127.0.0.2:9999"]);
        assert!(kept(&loopback, "10.0.0.9").is_empty());
    }

    #[test]
    fn nobody_is_sent_to_machines_beyond_the_local_network() {
        let foreign = [
            "192.0.2.7:5000",
            "8.8.8.8:4000",
            "[2001:db8::7]:4000",
            "100.128.0.1:4000",
            "172.32.0.1:4000",
            "11.0.0.1:4000",
        ];
        assert!(kept(&foreign, "10.0.0.9").is_empty());
        assert!(kept(&foreign, "127.0.0.1").is_empty());
        let local =
            ["192.168.7.7:4000", "172.31.0.1:4000", "169.254.3.4:4000", "100.64.0.1:4000", "100.127.255.255:4000"];
        assert_eq!(kept(&local, "10.0.0.9"), local);
        assert_eq!(kept(&["[fd00::1]:4000", "[fe80::9]:4000"], "10.0.0.9").len(), 2);
    }

    #[test]
    fn where_the_tracker_sees_somebody_may_be_anywhere() {
        assert_eq!(kept(&["192.0.2.7:5000", "192.0.2.8:5000"], "192.0.2.7"), ["192.0.2.7:5000"]);
        let neighbours = ["[2001:db8::1:2]:5000", "[2001:db8:0:1::2]:5000"];
        assert_eq!(kept(&neighbours, "2001:db8::7"), ["[2001:db8::1:2]:5000"]);
    }

    #[test]
    fn the_administrator_allows_more() {
        let forwardings = ["192.0.2.7:5000", "192.0.3.7:5000", "[2001:db8::7]:5000", "[2001:db9::7]:5000"];
        let allowed = ["192.0.2.0/24", "2001:db8::/32"];
        assert_eq!(kept_with(&forwardings, "10.0.0.9", &allowed), ["192.0.2.7:5000", "[2001:db8::7]:5000"]);
        assert_eq!(kept_with(&forwardings, "10.0.0.9", &["192.0.3.7"]), ["192.0.3.7:5000"]);
        assert_eq!(kept_with(&forwardings, "10.0.0.9", &["::/0"]), forwardings);
    }

    #[test]
    fn ports_of_services_are_nobody_s() {
        assert_eq!(kept(&["10.0.0.5:53", "10.0.0.5:1023", "10.0.0.5:1024"], "10.0.0.5"), ["10.0.0.5:1024"]);
        assert!(kept_with(&["10.0.0.5:123"], "10.0.0.5", &["0.0.0.0/0"]).is_empty());
    }

    #[test]
    fn blocks_of_addresses() {
        for wrong in ["", "192.0.2.0/33", "192.0.2/24", "::/129", "192.0.2.0/", "192.0.2.0/-1", "host/8", "1.2.3.4/8/8"]
        {
            assert_eq!(wrong.parse::<AddressBlock>(), Err(ParseAddressBlockError), "{wrong}");
        }
        let all: AddressBlock = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains([8, 8, 8, 8].into()) && !all.contains("2001:db8::1".parse().unwrap()));
    }
}
