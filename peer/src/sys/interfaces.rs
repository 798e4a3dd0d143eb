//! The network interfaces of this machine and their addresses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use mdns::is_same_network;

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAddress {
    pub ip: IpAddr,
    /// Number of leading bits that its network has in common.
    pub prefix_len: u8,
    pub interface: String,
    /// Index of its interface, which is the scope of its link-local addresses.
    pub index: u32,
    pub kind: InterfaceKind,
    /// False for a temporary address that IPv6 replaces every few hours (RFC 8981), and for a deprecated or tentative
    /// one.
    pub is_permanent: bool,
    /// True if its interface has a carrier, so that packets leave it.
    pub is_running: bool,
}

/// The kinds of interfaces, ordered by the likelihood of other machines of the network behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InterfaceKind {
    /// A network card, or a bridge with one in it.
    Ordinary,
    /// A tunnel, such as that of a VPN.
    Tunnel,
    /// A bridge between this machine and its own containers or virtual machines, or a port of a bridge. Many machines
    /// have one with the same addresses.
    Internal,
    /// The loopback interface, which reaches only this machine.
    Loopback,
}

/// Returns the addresses of this machine; none if the system doesn't tell.
pub fn local_addresses() -> Vec<LocalAddress> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let (mut kinds, passing) = (HashMap::new(), transient_addresses());
    let local = |one: if_addrs::Interface| {
        // IPv4-mapped IPv6 addresses become IPv4 addresses.
        let ip = one.ip().to_canonical();
        let is_loopback = one.is_loopback();
        // Once for each interface, which may have many addresses: the kind is read from several files.
        let kind = *kinds
            .entry(one.name.clone())
            .or_insert_with(|| if is_loopback { InterfaceKind::Loopback } else { kind_of(&one.name) });
        let prefix = match &one.addr {
            if_addrs::IfAddr::V4(v4) => v4.prefixlen,
            if_addrs::IfAddr::V6(v6) => v6.prefixlen,
        };
        // As a scope, 0 stands for no interface.
        let (index, is_lasting, is_running) = (one.index.unwrap_or(0), !passing.contains(&ip), one.is_oper_up());
        LocalAddress { ip, prefix_len: prefix, interface: one.name, index, kind, is_permanent: is_lasting, is_running }
    };
    all.into_iter().map(local).collect()
}

impl LocalAddress {
    /// Returns true if `ip` is in the network of this address.
    pub fn has_in_network(&self, ip: IpAddr) -> bool {
        is_same_network(self.ip, ip, self.prefix_len)
    }
}

/// Returns the source address of packets to `address` by the current routes. Sends nothing.
pub fn route_source(address: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Connecting a UDP socket looks up the route and sends nothing (connect(2)).
    socket.connect(address).ok()?;
    Some(socket.local_addr().ok()?.ip().to_canonical())
}

/// Returns the index of an interface, given by name or as a decimal index.
pub fn interface_index(name: &str) -> Option<u32> {
    let by_number = || name.parse().ok().filter(|index| interface_name(*index).is_some());
    // The name first: to the kernel, digits alone are a valid name.
    rustix::net::netdevice::name_to_index(any_socket()?, name).ok().or_else(by_number)
}

/// Returns the name of the interface with this index.
pub fn interface_name(index: u32) -> Option<String> {
    rustix::net::netdevice::index_to_name(any_socket()?, index).ok()
}

/// Returns the MTU of an interface in bytes, if the system tells it.
pub fn interface_mtu(name: &str) -> Option<u32> {
    std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("mtu")).ok()?.trim().parse().ok()
}

/// Returns the index and name of interfaces with link-local IPv6 addresses, ordered by kind.
pub fn link_local_interfaces(local: &[LocalAddress]) -> Vec<(u32, &str)> {
    let has_one = |one: &&LocalAddress| {
        one.kind != InterfaceKind::Loopback && matches!(one.ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
    };
    // A set, because an interface has one entry for each address.
    let found: BTreeSet<_> = local.iter().filter(has_one).map(|one| (one.kind, one.index, &*one.interface)).collect();
    found.into_iter().map(|(_, index, name)| (index, name)).collect()
}

fn any_socket() -> Option<UdpSocket> {
    // The ioctls accept any socket; a machine may lack one of both address families.
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).or_else(|_| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))).ok()
}

#[cfg(target_os = "linux")]
fn kind_of(interface: &str) -> InterfaceKind {
    kind_in(Path::new("/sys/class/net"), interface)
}

#[cfg(not(target_os = "linux"))]
fn kind_of(interface: &str) -> InterfaceKind {
    kind_by_name(interface)
}

/// Determines the kind of an interface from the folder of all interfaces (`/sys/class/net`).
fn kind_in(all: &Path, interface: &str) -> InterfaceKind {
    let has = |name: &str, file: &str| all.join(name).join(file).exists();
    if has(interface, "tun_flags") {
        return InterfaceKind::Tunnel;
    }
    // A bridge takes over what its ports receive, so an address of a port itself is unreachable.
    if has(interface, "brport") {
        return InterfaceKind::Internal;
    }
    let uevent = std::fs::read_to_string(all.join(interface).join("uevent")).unwrap_or_default();
    // WireGuard has no tun_flags: it isn't a tun device.
    if uevent.lines().any(|line| line == "DEVTYPE=wireguard") {
        return InterfaceKind::Tunnel;
    }
    if has(interface, "bridge") {
        let members = std::fs::read_dir(all.join(interface).join("brif")).into_iter().flatten().flatten();
        let names = members.filter_map(|member| member.file_name().into_string().ok());
        // Containers are attached by veth and virtual machines by tap; neither has a device.
        let mut real = names.filter(|name| has(name, "device") || has(name, "bonding"));
        return if real.next().is_some() { InterfaceKind::Ordinary } else { InterfaceKind::Internal };
    }
    kind_by_name(interface)
}

/// Determines the kind of an interface from the names that programs give to their interfaces.
fn kind_by_name(interface: &str) -> InterfaceKind {
    let begins = |names: &[&str]| names.iter().any(|name| interface.starts_with(name));
    if begins(&["tun", "tap", "wg", "utun", "ppp"]) {
        InterfaceKind::Tunnel
    } else if begins(&["docker", "virbr", "vboxnet", "vmnet", "lxcbr", "lxdbr", "podman", "cni", "br-"]) {
        InterfaceKind::Internal
    } else {
        InterfaceKind::Ordinary
    }
}

/// Returns the IPv6 addresses that are temporary, deprecated, tentative or duplicate.
fn transient_addresses() -> HashSet<IpAddr> {
    std::fs::read_to_string("/proc/net/if_inet6").map(|text| parse_transient_addresses(&text)).unwrap_or_default()
}

fn parse_transient_addresses(table: &str) -> HashSet<IpAddr> {
    // Flags of linux/if_addr.h (IFA_F_*).
    const TEMPORARY: u32 = 0x01;
    const DUPLICATE: u32 = 0x08;
    const DEPRECATED: u32 = 0x20;
    const TENTATIVE: u32 = 0x40;
    let passing = |line: &str| {
        let mut fields = line.split_whitespace();
        let ip = u128::from_str_radix(fields.next()?, 16).ok()?;
        // Behind the index, the length of the prefix and the scope.
        let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
        let is_passing = flags & (TEMPORARY | DUPLICATE | DEPRECATED | TENTATIVE) != 0;
        is_passing.then(|| IpAddr::from(Ipv6Addr::from_bits(ip)))
    };
    table.lines().filter_map(passing).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn loopback_is_there() {
        let all = local_addresses();
        let loopback = all.iter().find(|one| one.ip == IpAddr::from(Ipv4Addr::LOCALHOST)).unwrap();
        assert_eq!(loopback.kind, InterfaceKind::Loopback);
        assert_eq!(interface_index(&loopback.interface), Some(loopback.index));
        assert_eq!(interface_index(&loopback.index.to_string()), Some(loopback.index));
        assert_eq!(interface_name(loopback.index).as_deref(), Some(&*loopback.interface));
        assert_eq!(interface_index("no such interface"), None);
        assert_eq!(route_source((loopback.ip, 9).into()), Some(loopback.ip));
    }

    #[test]
    fn kinds() {
        let all = tempfile::tempdir().unwrap();
        let make = |path: &str| fs::create_dir_all(all.path().join(path)).unwrap();
        for path in ["eth0/device", "docker0/bridge", "docker0/brif/veth1", "veth1", "br0/bridge", "br0/brif/eth0"] {
            make(path);
        }
        for path in ["empty/bridge", "vpn/x", "wlan0", "veth2/brport"] {
            make(path);
        }
        let uevent = "DEVTYPE=wireguard\nINTERFACE=vpn\n";
        fs::File::create(all.path().join("vpn/uevent")).unwrap().write_all(uevent.as_bytes()).unwrap();
        make("some/tun_flags");
        for (interface, kind) in [
            ("eth0", InterfaceKind::Ordinary),
            ("wlan0", InterfaceKind::Ordinary),
            ("br0", InterfaceKind::Ordinary),
            ("docker0", InterfaceKind::Internal),
            ("veth2", InterfaceKind::Internal),
            ("empty", InterfaceKind::Internal),
            ("vpn", InterfaceKind::Tunnel),
            ("some", InterfaceKind::Tunnel),
            ("virbr0", InterfaceKind::Internal),
            ("tun0", InterfaceKind::Tunnel),
        ] {
            assert_eq!(kind_in(all.path(), interface), kind, "{interface}");
        }
    }

    #[test]
    fn temporary_addresses_are_known() {
        let table = "fd000000000000000000000000000001 02 40 00 80     eth0\n\
                     fd0000000000000000000000000000aa 02 40 00 01     eth0\n\
                     fd0000000000000000000000000000bb 02 40 00 20     eth0\nrubbish\n\n";
        let passing = parse_transient_addresses(table);
        assert_eq!(passing, HashSet::from(["fd00::aa".parse().unwrap(), "fd00::bb".parse().unwrap()]));
    }
}
