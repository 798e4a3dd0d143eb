//! The addresses of this machine to announce, and the order in which a peer's addresses are dialled.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | addresses announced | [`MAX_ADDRESSES_PER_USER`] | the likeliest are announced |
//! | interfaces on which a link-local address of unknown interface is dialled | `SCOPES` | the likeliest are used |
//! | addresses of one peer that are dialled | `MAX_DIALED` | the likeliest are dialled |
//! | ports that are dialled | [`MIN_PEER_PORT`] and above; those below belong to other services | not dialled |

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use shared::limits::{MAX_ADDRESSES_PER_USER, MIN_PEER_PORT};

use crate::sys::{InterfaceKind, LocalAddress, link_local_interfaces};

/// Interfaces on which a link-local address is tried if nothing tells the right one.
const SCOPES: usize = 4;
/// Addresses of one peer that are dialled.
const MAX_DIALED: usize = 16;

/// Returns the addresses to announce for `port`. The one of the route to the tracker comes first, then those of
/// network cards, of tunnels, and of bridges to this machine's own containers.
///
/// Within an interface, permanent addresses come first and the families alternate. A link-local address is left out if
/// its interface has any other address, or is an inner bridge.
pub fn announced_addresses(local: &[LocalAddress], route: IpAddr, port: u16) -> Vec<SocketAddr> {
    let is_announced = |one: &&LocalAddress| {
        let has_better = || {
            let is_better = |other: &LocalAddress| other.index == one.index && !is_link_local(other.ip);
            one.kind == InterfaceKind::Internal || local.iter().any(is_better)
        };
        one.kind != InterfaceKind::Loopback && !one.ip.is_loopback() && !(is_link_local(one.ip) && has_better())
    };
    let mut all: Vec<&LocalAddress> = local.iter().filter(is_announced).collect();
    // The sort is stable: among permanent addresses, the system's order stays.
    all.sort_by_key(|one| !one.is_permanent);
    let mut ranked: Vec<_> = Vec::with_capacity(all.len());
    for (position, one) in all.iter().enumerate() {
        let same = |other: &&&LocalAddress| other.index == one.index && other.ip.is_ipv4() == one.ip.is_ipv4();
        let before = all.iter().take(position).filter(same).count();
        let is_route = one.ip == route;
        // `before` makes interfaces take turns: many addresses of one card don't crowd out another card.
        ranked.push(((!is_route, is_link_local(one.ip), one.kind, before, one.ip.is_ipv6()), one.ip));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for (_, ip) in ranked {
        let address = SocketAddr::new(ip, port);
        // Linux allows one address on several interfaces, as unnumbered tunnels have it.
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.truncate(MAX_ADDRESSES_PER_USER);
    addresses
}

/// Returns the addresses by which others reach this machine. Inner bridges come and go with every container, and the
/// order is only a hint, so changes of neither are worth telling others.
pub fn reachable_addresses(announced: &[SocketAddr], local: &[LocalAddress]) -> BTreeSet<SocketAddr> {
    let is_inner = |ip: IpAddr| local.iter().any(|one| one.kind == InterfaceKind::Internal && one.ip == ip);
    announced.iter().copied().filter(|address| !is_inner(address.ip())).collect()
}

/// Returns the interfaces with a carrier, and their addresses, by which this machine reaches others. After a change,
/// packets already sent may never be answered.
pub fn outbound_interfaces(local: &[LocalAddress]) -> BTreeSet<(u32, IpAddr)> {
    let is_way = |one: &&LocalAddress| {
        // Linux keeps the addresses of an interface whose cable is unplugged, but nothing leaves by it.
        one.is_running
            && !matches!(one.kind, InterfaceKind::Internal | InterfaceKind::Loopback)
            && !one.ip.is_loopback()
    };
    local.iter().filter(is_way).map(|one| (one.index, one.ip)).collect()
}

/// Returns the addresses at which a peer may be: first the one that the tracker observed, then the announced ones.
pub fn dial_candidates(ip: IpAddr, port: Option<u16>, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = port.map(|port| SocketAddr::new(ip, port)).into_iter().collect();
    for address in addresses {
        if !all.contains(address) {
            all.push(*address);
        }
    }
    all
}

/// Returns the addresses of a peer in the order in which they are dialled: the one that the tracker observed, then the
/// announced ones. Addresses that this machine also has, and those behind its own inner bridges, come last: they lead
/// to this machine.
///
/// A link-local address is dialled on the interface of `local_end`, the local address of the connection on which the
/// addresses were received. Without one, it is dialled on every interface with link-local addresses.
pub fn dial_order(addresses: &[SocketAddr], local: &[LocalAddress], local_end: Option<SocketAddr>) -> Vec<SocketAddr> {
    let scopes = link_local_scopes(local, local_end);
    let mut all: Vec<SocketAddr> = Vec::new();
    let mut push = |address: SocketAddr| {
        if !all.contains(&address) {
            all.push(address);
        }
    };
    let observed = addresses.first().copied();
    // A peer chooses its addresses, and must not aim this machine's packets at other services.
    let dialable = addresses.iter().copied().filter(|address| address.port() >= MIN_PEER_PORT);
    let (last, first): (Vec<SocketAddr>, Vec<SocketAddr>) =
        dialable.partition(|address| Some(*address) != observed && is_own_address(address.ip(), local));
    for address in first.into_iter().chain(last) {
        // The observed address may be this machine's own: two users of one machine.
        match address {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
                scopes.iter().for_each(|scope| push(SocketAddrV6::new(*v6.ip(), v6.port(), 0, *scope).into()));
            }
            _ => push(address),
        }
    }
    // Cut only now: interfaces multiply the link-local addresses, which a bound on the peer's list would not see.
    all.truncate(MAX_DIALED);
    all
}

/// Returns the address without its interface, which means nothing to other machines.
pub const fn without_scope(address: SocketAddr) -> SocketAddr {
    // A dual-stack socket reports IPv4 as `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2), which has to compare equal.
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_own_address(ip: IpAddr, local: &[LocalAddress]) -> bool {
    ip.is_loopback()
        || local.iter().any(|one| one.ip == ip || (one.kind == InterfaceKind::Internal && one.has_in_network(ip)))
}

fn link_local_scopes(local: &[LocalAddress], local_end: Option<SocketAddr>) -> Vec<u32> {
    let of_interface = match local_end {
        Some(SocketAddr::V6(v6)) if v6.scope_id() != 0 => Some(v6.scope_id()),
        Some(near) => local
            .iter()
            .find(|one| one.kind != InterfaceKind::Loopback && one.ip == near.ip().to_canonical())
            .map(|one| one.index),
        None => None,
    };
    let all = link_local_interfaces(local);
    // The connection may run over an interface without link-local addresses, which can't reach the peer's.
    match of_interface.filter(|index| all.iter().any(|(other, _)| other == index)) {
        Some(index) => vec![index],
        None => all.into_iter().map(|(index, _)| index).take(SCOPES).collect(),
    }
}

/// True for an address without meaning beyond its interface; in IPv4, the one a machine assigns itself without DHCP.
pub const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn local(ip: &str, index: u32, kind: InterfaceKind) -> LocalAddress {
        let (ip, prefix) = ip.split_once('/').unwrap_or((ip, "64"));
        let (ip, prefix) = (ip.parse().unwrap(), prefix.parse().unwrap());
        LocalAddress {
            ip,
            prefix_len: prefix,
            interface: format!("if{index}"),
            index,
            kind,
            is_permanent: true,
            is_running: true,
        }
    }

    fn machine() -> Vec<LocalAddress> {
        vec![
            local("127.0.0.1/8", 1, InterfaceKind::Loopback),
            local("::1/128", 1, InterfaceKind::Loopback),
            local("172.17.0.1/16", 3, InterfaceKind::Internal),
            local("192.168.122.1/24", 4, InterfaceKind::Internal),
            local("10.8.0.2/24", 5, InterfaceKind::Tunnel),
            local("10.0.0.7/24", 2, InterfaceKind::Ordinary),
            local("fe80::7", 2, InterfaceKind::Ordinary),
            local("fd00::7", 2, InterfaceKind::Ordinary),
            local("192.168.1.7/24", 6, InterfaceKind::Ordinary),
        ]
    }

    fn texts(addresses: &[SocketAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    fn parsed(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn candidates_are_not_repeated() {
        let named = ["10.0.0.2:7".parse().unwrap(), "10.0.0.1:7".parse().unwrap()];
        let all = dial_candidates([10, 0, 0, 1].into(), Some(7), &named);
        assert_eq!(all, ["10.0.0.1:7".parse().unwrap(), "10.0.0.2:7".parse().unwrap()]);
    }

    #[test]
    fn the_likeliest_are_announced_first() {
        let announced = announced_addresses(&machine(), "192.168.1.7".parse().unwrap(), 9);
        let expected = ["192.168.1.7:9", "10.0.0.7:9", "[fd00::7]:9", "10.8.0.2:9", "172.17.0.1:9", "192.168.122.1:9"];
        assert_eq!(texts(&announced), expected);
    }

    #[test]
    fn containers_that_come_and_go_change_no_address() {
        let (before, route) = (machine(), "10.0.0.7".parse().unwrap());
        let announce = |local: &[LocalAddress]| reachable_addresses(&announced_addresses(local, route, 9), local);
        // A container's end of its veth pair; the kernel lists interfaces in any order.
        let mut now = machine();
        now.push(local("fe80::42", 9, InterfaceKind::Internal));
        now.rotate_left(4);
        assert_eq!(announce(&before), announce(&now));
        assert_eq!(outbound_interfaces(&before), outbound_interfaces(&now));
        assert!(!announced_addresses(&now, route, 9).iter().any(|address| address.to_string() == "[fe80::42]:9"));
        now.retain(|one| one.index != 3);
        now.push(local("172.18.0.1/16", 10, InterfaceKind::Internal));
        assert_eq!(announce(&before), announce(&now));
        now.push(local("192.168.7.7/24", 11, InterfaceKind::Ordinary));
        assert_ne!(announce(&before), announce(&now));
        assert_ne!(outbound_interfaces(&before), outbound_interfaces(&now));
    }

    #[test]
    fn an_interface_without_a_carrier_is_no_way_out() {
        let with = machine();
        let mut without = machine();
        without.iter_mut().filter(|one| one.index == 2).for_each(|one| one.is_running = false);
        assert_ne!(outbound_interfaces(&with), outbound_interfaces(&without));
    }

    #[test]
    fn twelve_addresses_of_one_card_do_not_crowd_out_another_card() {
        let mut all: Vec<LocalAddress> =
            (1..=12).map(|n| local(&format!("fd00::{n}"), 2, InterfaceKind::Ordinary)).collect();
        all[0].is_permanent = false;
        all.extend(machine());
        let announced = texts(&announced_addresses(&all, "fd00::5".parse().unwrap(), 9));
        assert_eq!(announced.len(), MAX_ADDRESSES_PER_USER);
        assert_eq!(announced[..4], ["[fd00::5]:9", "10.0.0.7:9", "192.168.1.7:9", "[fd00::2]:9"]);
        assert!(!announced.contains(&"[fd00::1]:9".to_owned()), "one that goes soon: {announced:?}");
    }

    #[test]
    fn a_link_local_address_is_announced_where_there_is_no_other() {
        let alone = [local("fe80::7", 2, InterfaceKind::Ordinary), local("127.0.0.1/8", 1, InterfaceKind::Loopback)];
        assert_eq!(texts(&announced_addresses(&alone, "127.0.0.1".parse().unwrap(), 9)), ["[fe80::7]:9"]);
        let v4 = [local("169.254.3.4/16", 2, InterfaceKind::Ordinary)];
        assert_eq!(texts(&announced_addresses(&v4, "127.0.0.1".parse().unwrap(), 9)), ["169.254.3.4:9"]);
    }

    #[test]
    fn what_leads_here_is_dialled_last() {
        let theirs = parsed(&[
            "10.0.0.9:4000",
            "172.17.0.1:4000",
            "10.0.0.7:4000",
            "172.17.0.5:4000",
            "[fd00::9]:4000",
            "10.0.0.9:4000",
        ]);
        let order = ["10.0.0.9:4000", "[fd00::9]:4000", "172.17.0.1:4000", "10.0.0.7:4000", "172.17.0.5:4000"];
        assert_eq!(texts(&dial_order(&theirs, &machine(), None)), order);
        // Another user on this machine.
        let here = parsed(&["10.0.0.7:4000", "172.17.0.1:4000"]);
        assert_eq!(dial_order(&here, &machine(), None), here);
    }

    #[test]
    fn ports_of_services_are_not_dialled() {
        let theirs = parsed(&["10.0.0.9:53", "10.0.0.9:1023", "10.0.0.9:1024"]);
        assert_eq!(texts(&dial_order(&theirs, &machine(), None)), ["10.0.0.9:1024"]);
    }

    #[test]
    fn link_local_addresses_get_an_interface() {
        let two = [
            local("fe80::7", 2, InterfaceKind::Ordinary),
            local("10.0.0.7/24", 2, InterfaceKind::Ordinary),
            local("fe80::7", 3, InterfaceKind::Internal),
            local("fe80::7", 4, InterfaceKind::Ordinary),
            local("127.0.0.1/8", 1, InterfaceKind::Loopback),
        ];
        let theirs = parsed(&["[fe80::9]:4000"]);
        let near = |text: &str| Some(text.parse().unwrap());
        assert_eq!(texts(&dial_order(&theirs, &two, near("[fe80::7%4]:8000"))), ["[fe80::9%4]:4000"]);
        assert_eq!(texts(&dial_order(&theirs, &two, near("10.0.0.7:5"))), ["[fe80::9%2]:4000"]);
        let all = ["[fe80::9%2]:4000", "[fe80::9%4]:4000", "[fe80::9%3]:4000"];
        assert_eq!(texts(&dial_order(&theirs, &two, near("127.0.0.1:5"))), all);
        assert_eq!(texts(&dial_order(&theirs, &two, None)), all);
        assert!(dial_order(&theirs, &[], None).is_empty());
    }

    proptest! {
        #[test]
        fn bounded_and_each_once(ips: Vec<IpAddr>, addresses: Vec<SocketAddr>) {
            let mut all: Vec<LocalAddress> = ips.iter().map(|ip| local(&ip.to_string(), 2, InterfaceKind::Ordinary)).collect();
            all.extend(machine());
            let announced = announced_addresses(&all, [10, 0, 0, 7].into(), 9);
            prop_assert!(announced.len() <= MAX_ADDRESSES_PER_USER);
            let dialled = dial_order(&addresses, &all, None);
            prop_assert!(dialled.len() <= MAX_DIALED);
            for list in [announced, dialled] {
                let distinct: BTreeSet<_> = list.iter().collect();
                prop_assert_eq!(distinct.len(), list.len());
            }
        }
    }
}
