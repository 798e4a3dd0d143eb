//! The sockets: one for each interface and family, each in the group of multicast DNS there.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tracing::debug;

use crate::interfaces::{InterfaceAddress, interfaces};

/// The port of multicast DNS.
pub(crate) const MDNS_PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// How often it is looked which interfaces there are.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// Hops that packets begin with, by which somebody can tell that they passed no router.
const HOPS: u32 = 255;
/// The largest packet (RFC 6762, 17).
const MAX_PACKET: usize = 9000;
/// Packets that are taken from one socket in a row.
const MAX_PACKETS_IN_A_ROW: usize = 64;

/// A socket, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SocketKey {
    pub(crate) interface: u32,
    pub(crate) family: Family,
}

/// The versions of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) socket: SocketKey,
    /// Whom it is for; everybody, if nobody is named.
    pub(crate) to: Option<SocketAddr>,
    pub(crate) packet: Vec<u8>,
}

/// What became of the sockets of an interface.
#[derive(Debug)]
pub(crate) enum SocketChange {
    /// It is new, or its interface has other addresses.
    Updated(SocketKey, Vec<InterfaceAddress>),
    /// It is gone.
    Removed(SocketKey),
}

/// All sockets.
#[derive(Debug)]
pub(crate) struct Sockets {
    open: BTreeMap<SocketKey, InterfaceSocket>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct InterfaceSocket {
    socket: UdpSocket,
    group: SocketAddr,
    addresses: Vec<InterfaceAddress>,
}

/// Ends what listens to its signal when it is dropped.
#[derive(Debug)]
pub struct StopHandle(#[expect(dead_code, reason = "that it is closed is the signal")] UnixStream);

/// Tells when the handle is gone.
#[derive(Debug)]
pub struct StopSignal(UnixStream);

/// Makes a signal and the handle that gives it.
///
/// # Errors
/// When the system has no descriptor left.
pub fn stop_pair() -> io::Result<(StopHandle, StopSignal)> {
    let (handle, signal) = UnixStream::pair()?;
    Ok((StopHandle(handle), StopSignal(signal)))
}

impl Sockets {
    /// Sockets on all interfaces of now; none of them is no error.
    pub(crate) fn open() -> io::Result<(Self, Vec<SocketChange>)> {
        let mut sockets = Self { open: BTreeMap::new(), buffer: vec![0; MAX_PACKET] };
        let mut failure = None;
        let changes = sockets.update(interfaces()?, &mut failure);
        match failure {
            Some(why) if sockets.open.is_empty() => Err(why),
            _ => Ok((sockets, changes)),
        }
    }

    /// Looks which interfaces there are.
    pub(crate) fn refresh(&mut self) -> Vec<SocketChange> {
        match interfaces() {
            Ok(interfaces) => self.update(interfaces, &mut None),
            Err(why) => {
                debug!(%why, "the interfaces of this machine are unknown");
                Vec::new()
            }
        }
    }

    fn update(
        &mut self,
        interfaces: BTreeMap<u32, Vec<InterfaceAddress>>,
        failure: &mut Option<io::Error>,
    ) -> Vec<SocketChange> {
        let wanted = wanted_sockets(interfaces);
        let gone: Vec<SocketKey> = self.open.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        self.open.retain(|key, _| wanted.contains_key(key));
        let mut changes: Vec<SocketChange> = gone.into_iter().map(SocketChange::Removed).collect();
        for (key, addresses) in wanted {
            if let Some(socket) = self.open.get_mut(&key) {
                if socket.addresses == addresses {
                    continue;
                }
                socket.addresses.clone_from(&addresses);
            } else {
                match InterfaceSocket::open(key, addresses.clone()) {
                    Ok(socket) => drop(self.open.insert(key, socket)),
                    Err(why) => {
                        // The others are used all the same.
                        debug!(?key, %why, "an interface can't be listened to");
                        failure.get_or_insert(why);
                        continue;
                    }
                }
            }
            changes.push(SocketChange::Updated(key, addresses));
        }
        changes
    }

    /// Waits for packets, no longer than this; `false` as soon as it is to end.
    pub(crate) fn wait(&self, stop: &StopSignal, timeout: Duration) -> bool {
        let sockets = self.open.values().map(|one| PollFd::new(&one.socket, PollFlags::IN));
        let mut polled: Vec<PollFd<'_>> = std::iter::once(PollFd::new(&stop.0, PollFlags::IN)).chain(sockets).collect();
        let timeout = Timespec::try_from(timeout).ok();
        // Nothing but a signal of the system ends it early: the loop around it comes again.
        let _ = poll(&mut polled, timeout.as_ref());
        polled.first().is_some_and(|stop| stop.revents().is_empty())
    }

    /// Hands on packets that are there, of each socket in turn.
    pub(crate) fn receive(&mut self, mut handle: impl FnMut(SocketKey, SocketAddr, &[u8])) {
        for (key, InterfaceSocket { socket, .. }) in &self.open {
            for _ in 0..MAX_PACKETS_IN_A_ROW {
                // The socket doesn't block, so that no packet is an error, too.
                let Ok((length, source)) = socket.recv_from(&mut self.buffer) else { break };
                handle(*key, source, self.buffer.get(..length).unwrap_or_default());
            }
        }
    }

    pub(crate) fn send(&self, Outgoing { socket: key, to, packet }: &Outgoing) {
        let Some(InterfaceSocket { socket, group, .. }) = self.open.get(key) else { return };
        // An interface that is going away fails first: the next look forgets it.
        if let Err(why) = socket.send_to(packet, to.unwrap_or(*group)) {
            debug!(?key, %why, "a packet was not sent");
        }
    }

    pub(crate) fn keys(&self) -> Vec<SocketKey> {
        self.open.keys().copied().collect()
    }
}

/// A socket for each family of which an interface has an address, with all addresses of the interface.
fn wanted_sockets(interfaces: BTreeMap<u32, Vec<InterfaceAddress>>) -> BTreeMap<SocketKey, Vec<InterfaceAddress>> {
    let mut wanted = BTreeMap::new();
    for (interface, addresses) in interfaces {
        for address in &addresses {
            let family = if address.ip.is_ipv4() { Family::V4 } else { Family::V6 };
            wanted.entry(SocketKey { interface, family }).or_insert_with(|| addresses.clone());
        }
    }
    wanted
}

impl InterfaceSocket {
    fn open(key: SocketKey, addresses: Vec<InterfaceAddress>) -> io::Result<Self> {
        let SocketKey { interface, family } = key;
        let (socket, group) = match family {
            Family::V4 => {
                let own = addresses.iter().find_map(|address| match address.ip {
                    IpAddr::V4(ip) => Some(ip),
                    IpAddr::V6(_) => None,
                });
                open_v4(interface, own.unwrap_or(Ipv4Addr::UNSPECIFIED))?
            }
            Family::V6 => open_v6(interface)?,
        };
        socket.set_nonblocking(true)?;
        Ok(Self { socket: socket.into(), group, addresses })
    }
}

fn open_v4(interface: u32, own: Ipv4Addr) -> io::Result<(Socket, SocketAddr)> {
    let socket = shared_socket(Domain::IPV4)?;
    // Else it would hear what comes to any interface.
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v4(false)?;
    let group = SocketAddr::from(SocketAddrV4::new(GROUP_V4, MDNS_PORT));
    socket.bind(&group.into())?;
    socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(interface))?;
    // By its number, as two interfaces may have the same address.
    #[cfg(target_os = "linux")]
    rustix::net::sockopt::set_ip_multicast_if_with_ifindex(&socket, &GROUP_V4, &own, interface)?;
    #[cfg(not(target_os = "linux"))]
    socket.set_multicast_if_v4(&own)?;
    socket.set_multicast_ttl_v4(HOPS)?;
    socket.set_ttl_v4(HOPS)?;
    Ok((socket, group))
}

fn open_v6(interface: u32) -> io::Result<(Socket, SocketAddr)> {
    let socket = shared_socket(Domain::IPV6)?;
    // IPv4 has sockets of its own.
    socket.set_only_v6(true)?;
    #[cfg(target_os = "linux")]
    socket.set_multicast_all_v6(false)?;
    let group = SocketAddr::from(SocketAddrV6::new(GROUP_V6, MDNS_PORT, 0, interface));
    socket.bind(&group.into())?;
    socket.join_multicast_v6(&GROUP_V6, interface)?;
    socket.set_multicast_if_v6(interface)?;
    socket.set_multicast_hops_v6(HOPS)?;
    socket.set_unicast_hops_v6(HOPS)?;
    Ok((socket, group))
}

/// A socket whose port other programs of this machine may have as well.
fn shared_socket(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_as_soon_as_the_handle_is_gone() {
        let sockets = Sockets { open: BTreeMap::new(), buffer: Vec::new() };
        let (handle, signal) = stop_pair().unwrap();
        assert!(sockets.wait(&signal, Duration::ZERO));
        drop(handle);
        assert!(!sockets.wait(&signal, Duration::from_secs(3600)));
    }

    #[test]
    fn each_family_of_an_interface_has_a_socket_that_knows_all_its_addresses() {
        let address = |ip: &str| InterfaceAddress { ip: ip.parse().unwrap(), prefix_len: 24 };
        let both = vec![address("10.0.0.1"), address("10.0.1.1"), address("fe80::1")];
        let wanted = wanted_sockets([(2, both.clone()), (5, vec![address("fe80::1")])].into());
        let key = |interface, family| SocketKey { interface, family };
        let expected = [(key(2, Family::V4), both.clone()), (key(2, Family::V6), both)];
        assert_eq!(wanted, expected.into_iter().chain([(key(5, Family::V6), vec![address("fe80::1")])]).collect());
    }
}
