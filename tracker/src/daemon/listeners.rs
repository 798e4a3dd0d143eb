//! The listening sockets.
//!
//! All requested addresses must be available. Only where the wildcard addresses of both families are requested with one
//! port, as by default, one of them is enough: a machine may lack IPv6, or IPv4.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

use localization::tr;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice, socket, sockopt};
use tokio::net::{TcpListener, TcpSocket};
use tracing::info;

use super::DaemonError;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// Attempts to find a free port that all listeners can have.
const FREE_PORT_TRIES: usize = 16;

/// A listening socket's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListenAddress {
    /// Its address.
    pub(super) address: SocketAddr,
    /// An IPv6 socket that takes IPv4 as well.
    pub(super) is_dual: bool,
}

impl ListenAddress {
    pub(super) fn of(listener: &TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let is_dual = address.is_ipv6() && !sockopt::ipv6_v6only(listener)?;
        Ok(Self { address, is_dual })
    }
}

/// Parses `IP:PORT`. The scope of a link-local address may be an interface's name: `[fe80::1%eth0]:8000`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    match text.parse() {
        Ok(SocketAddr::V6(v6)) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            return Err(missing_scope_message(v6));
        }
        Ok(address) => return Ok(address),
        Err(_) => {}
    }
    scoped(text).ok_or_else(|| {
        tr!(
            "{text} is no address and port of this machine, such as 192.0.2.7:8000, [2001:db8::7]:8000 or [fe80::7%eth0]:8000",
            text = format_args!("{text:?}")
        )
    })
}

/// Listens on all of these addresses.
pub(super) fn listen(wanted: &[SocketAddr]) -> Result<Vec<TcpListener>, DaemonError> {
    let mut tries = 1..FREE_PORT_TRIES;
    loop {
        match listen_once(wanted, bind) {
            // The free port that the first listener got was in use for another one: try with a new one.
            Err(DaemonError::PortInUse(_))
                if wanted.iter().any(|address| address.port() == 0) && tries.next().is_some() => {}
            other => return other,
        }
    }
}

fn listen_once(
    wanted: &[SocketAddr],
    bind: impl Fn(SocketAddr, bool) -> io::Result<TcpListener>,
) -> Result<Vec<TcpListener>, DaemonError> {
    let (mut listeners, mut free_port, mut refused) = (Vec::new(), 0, None);
    for (at, &asked) in wanted.iter().enumerate() {
        // A repeated address would be in use, by this process.
        if wanted[..at].contains(&asked) {
            continue;
        }
        let mut address = asked;
        // Several zeros mean one port, which the first listener finds.
        if asked.port() == 0 {
            address.set_port(free_port);
        }
        let has_partner = is_wildcard(asked) && wanted.iter().any(|other| is_other_family_wildcard(asked, *other));
        match bind(address, has_v4(wanted, asked.port())) {
            Ok(listener) => {
                if asked.port() == 0 {
                    free_port = listener.local_addr()?.port();
                }
                listeners.push(listener);
            }
            // Reported only if no family is left: a machine without IPv6 is no error.
            Err(why) if has_partner && is_family_unavailable(&why) => {
                info!(%address, %why, "not to be had on this machine: the other family of addresses is served");
                refused = refused.or(Some(DaemonError::Listen { address, why }));
            }
            Err(why) if why.kind() == io::ErrorKind::AddrInUse => return Err(DaemonError::PortInUse(address)),
            Err(why) => return Err(DaemonError::Listen { address, why }),
        }
    }
    match refused {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// Binds one address. A wildcard IPv6 socket takes IPv4 as well, whatever the system's default, unless `has_v4`.
fn bind(address: SocketAddr, has_v4: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        sockopt::set_ipv6_v6only(&socket, has_v4)?;
    }
    // Without it, a restart fails while connections of the previous process are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_wildcard(address: SocketAddr) -> bool {
    address.ip().is_unspecified()
}

/// True if both are wildcard addresses, of different families and with one port.
fn is_other_family_wildcard(one: SocketAddr, other: SocketAddr) -> bool {
    is_wildcard(other) && one.is_ipv4() != other.is_ipv4() && one.port() == other.port()
}

fn has_v4(wanted: &[SocketAddr], port: u16) -> bool {
    wanted.iter().any(|address| address.is_ipv4() && address.port() == port)
}

fn is_family_unavailable(why: &io::Error) -> bool {
    let codes = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::PROTONOSUPPORT, Errno::NOPROTOOPT];
    Errno::from_io_error(why).is_some_and(|code| codes.contains(&code))
}

fn missing_scope_message(address: SocketAddrV6) -> String {
    let (ip, port) = (address.ip(), address.port());
    // Each line of Linux's table begins with the address and ends with the interface's name.
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let all: Vec<(Ipv6Addr, &str)> = table
        .lines()
        .filter_map(|line| {
            let bits = u128::from_str_radix(line.split_whitespace().next()?, 16).ok()?;
            Some((Ipv6Addr::from_bits(bits), line.split_whitespace().last()?))
        })
        .collect();
    let own = all.iter().find(|(one, _)| one == ip);
    let name = own.or_else(|| all.iter().find(|(one, _)| one.is_unicast_link_local())).map_or("eth0", |(_, name)| name);
    tr!("{ip} needs the interface it is on: write [{ip}%{name}]:{port}", ip, name, port)
}

/// Formats an address for people, the scope of a link-local one as an interface's name.
pub(super) fn display_address(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            let name = any_socket().and_then(|any| netdevice::index_to_name(any, v6.scope_id()).ok());
            name.map_or_else(|| v6.to_string(), |name| format!("[{}%{name}]:{}", v6.ip(), v6.port()))
        }
        address => address.to_string(),
    }
}

fn any_socket() -> Option<OwnedFd> {
    // The kernel answers questions about interfaces on a socket, of whatever family.
    let any = |family| socket(family, SocketType::DGRAM, None);
    any(AddressFamily::INET).or_else(|_| any(AddressFamily::INET6)).ok()
}

fn scoped(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.strip_prefix('[')?.split_once("]:")?;
    let (ip, interface) = host.split_once('%')?;
    let (ip, port): (Ipv6Addr, u16) = (ip.parse().ok()?, port.parse().ok()?);
    // Names first: an interface may have a number as its name.
    let by_number = || interface.parse().ok();
    let scope = netdevice::name_to_index(any_socket()?, interface).ok().or_else(by_number)?;
    Some(SocketAddrV6::new(ip, port, 0, scope).into())
}

/// True if other machines can reach this address.
pub(super) fn is_reachable_by_others(ip: IpAddr) -> bool {
    // A dual-stack socket shows 127.0.0.1 under a mapped address.
    !ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| address(text).unwrap()).collect()
    }

    #[tokio::test]
    async fn both_families_have_one_port() {
        let listeners = listen(&addresses(&["0.0.0.0:0", "[::]:0", "0.0.0.0:0"])).unwrap();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0), "{ports:?}");
        assert!(listeners.iter().all(|listener| !ListenAddress::of(listener).unwrap().is_dual));
        let taken = addresses(&[&format!("0.0.0.0:{}", ports[0])]);
        assert!(matches!(listen(&taken), Err(DaemonError::PortInUse(address)) if address == taken[0]));
    }

    #[tokio::test]
    async fn of_both_families_one_is_enough() {
        let only = |is_had: fn(&SocketAddr) -> bool| {
            move |address: SocketAddr, has_v4| {
                if is_had(&address) { bind(address, has_v4) } else { Err(Errno::AFNOSUPPORT.into()) }
            }
        };
        let both = addresses(&["0.0.0.0:0", "[::]:0"]);
        for is_had in [SocketAddr::is_ipv4, SocketAddr::is_ipv6] {
            let listeners = listen_once(&both, only(is_had)).unwrap();
            assert_eq!(listeners.len(), 1);
            assert!(is_had(&listeners[0].local_addr().unwrap()));
        }
        assert!(matches!(listen_once(&both, only(|_| false)), Err(DaemonError::Listen { .. })));
        // One family requested alone must be available.
        let refused = listen_once(&both[1..], only(SocketAddr::is_ipv4));
        assert!(matches!(refused, Err(DaemonError::Listen { .. })));
    }

    #[tokio::test]
    async fn what_can_t_be_had_is_told() {
        for wrong in [&["192.0.2.7:0"][..], &["127.0.0.1:0", "192.0.2.7:0"]] {
            let wanted = addresses(wrong);
            let refused = listen(&wanted);
            assert!(
                matches!(refused, Err(DaemonError::Listen { address, .. }) if address.ip() == wanted[wanted.len() - 1].ip())
            );
        }
    }

    #[test]
    fn a_scope_may_be_a_name_or_a_number() {
        assert_eq!(address("[fe80::1%lo]:8000"), address("[fe80::1%1]:8000"));
        assert_eq!(display_address(address("[fe80::1%1]:8000").unwrap()), "[fe80::1%lo]:8000");
        assert_eq!(display_address(address("[2001:db8::1]:8000").unwrap()), "[2001:db8::1]:8000");
        let unclear = address("[fe80::1]:8100").unwrap_err();
        assert!(unclear.contains("write [fe80::1%") && unclear.ends_with("]:8100"), "{unclear}");
        for wrong in ["", "8000", "localhost:8000", "[fe80::1%nosuchdevice]:8000", "10.0.0.1", "fe80::1%lo:8000"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
