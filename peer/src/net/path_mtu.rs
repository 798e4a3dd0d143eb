//! Paths that are too narrow for QUIC, whose least packet has 1,200 bytes (RFC 9000, section 14).
//!
//! Such a packet vanishes without a word, so that whoever is behind such a path seems to be gone. An interface of this
//! machine says how much it takes. Of the rest of the path nobody tells: there, a machine that answers a short packet for
//! a port that nobody has, and doesn't answer a long one, is behind a path that is too narrow.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::sys;

/// The least packet of QUIC, without the headers of IP and UDP.
const MIN_QUIC_PAYLOAD: u32 = 1200;
/// A port that nobody has: its machine says so (RFC 863 gives it to a service that is extinct).
const DISCARD_PORT: u16 = 9;
/// For a machine to say that nobody has a port.
const PROBE_TIMEOUT: Duration = Duration::from_millis(600);
/// Long packets before they are taken for lost.
const LONG_PROBES: usize = 2;

/// A path that is too narrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMtuProblem {
    /// Already where it begins.
    LocalInterface {
        /// The interface's name.
        interface: String,
        /// The bytes that go through it at once.
        mtu: u32,
        /// So many there should be.
        needed: u32,
    },
    /// Somewhere on the way to this address.
    AlongPath {
        /// Whose address.
        ip: IpAddr,
        /// So many bytes should go through it at once.
        needed: u32,
    },
}

impl fmt::Display for PathMtuProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packets of {MIN_QUIC_PAYLOAD} bytes, the least that QUIC needs, don't get through")?;
        match self {
            Self::LocalInterface { interface, mtu, needed } => {
                write!(
                    f,
                    " {interface}: its MTU is {mtu} and must be at least {needed} (`ip link set {interface} mtu 1500`)"
                )
            }
            Self::AlongPath { ip, needed } => {
                write!(
                    f,
                    " to {ip}: shorter ones do, so an interface or switch on the way, or {ip} itself, has an MTU below {needed}"
                )
            }
        }
    }
}

/// The path, if for each of these addresses it is known to be too narrow before anything is sent.
pub(super) fn local_problem(addresses: &[SocketAddr]) -> Option<PathMtuProblem> {
    let paths: Option<Vec<PathMtuProblem>> = addresses.iter().map(|address| first_hop_problem(address.ip())).collect();
    paths?.into_iter().next()
}

fn first_hop_problem(ip: IpAddr) -> Option<PathMtuProblem> {
    let (ip, needed) = (ip.to_canonical(), needed_mtu(ip));
    let mtu = sys::route_mtu(ip).filter(|mtu| *mtu < needed)?;
    let source = sys::route_source((ip, DISCARD_PORT).into())?;
    let interface = sys::local_addresses().into_iter().find(|local| local.ip == source)?.interface;
    // What a router on the way said of the path counts as well.
    let is_wide = sys::interface_mtu(&interface).is_some_and(|own| own >= needed);
    Some(if is_wide {
        PathMtuProblem::AlongPath { ip, needed }
    } else {
        PathMtuProblem::LocalInterface { interface, mtu, needed }
    })
}

/// The path to `address`, if it is known to be too narrow, or short packets get there and long ones don't.
pub(super) async fn probe_path(address: Option<SocketAddr>) -> Option<PathMtuProblem> {
    let address = address?;
    if let Some(narrow) = first_hop_problem(address.ip()) {
        return Some(narrow);
    }
    if address.ip().is_loopback() || !is_probe_answered(address, 1).await {
        return None;
    }
    for _ in 0..LONG_PROBES {
        if is_probe_answered(address, MIN_QUIC_PAYLOAD).await {
            return None;
        }
    }
    Some(PathMtuProblem::AlongPath { ip: address.ip(), needed: needed_mtu(address.ip()) })
}

/// Whether a packet of so many bytes gets to the machine at `address` and its answer back.
async fn is_probe_answered(address: SocketAddr, bytes: u32) -> bool {
    let mut nobody = address;
    nobody.set_port(DISCARD_PORT);
    let heard = async {
        let socket = unfragmented_socket(nobody.ip()).await?;
        socket.connect(nobody).await?;
        socket.send(&vec![0; bytes as usize]).await?;
        socket.recv(&mut [0; 16]).await
    };
    match tokio::time::timeout(PROBE_TIMEOUT, heard).await {
        Ok(Err(why)) => why.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) => true,
        Err(_) => false,
    }
}

/// A socket whose packets are sent whole or not at all, as those of QUIC.
async fn unfragmented_socket(to: IpAddr) -> std::io::Result<UdpSocket> {
    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    };
    if to.is_ipv4() {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
        Ok(socket)
    } else {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await?;
        set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
        Ok(socket)
    }
}

const fn needed_mtu(ip: IpAddr) -> u32 {
    const IPV4_AND_UDP: u32 = 28;
    const IPV6_AND_UDP: u32 = 48;
    MIN_QUIC_PAYLOAD + if ip.to_canonical().is_ipv4() { IPV4_AND_UDP } else { IPV6_AND_UDP }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_is_wide() {
        let here: SocketAddr = "127.0.0.1:9".parse().unwrap();
        assert_eq!(local_problem(&[here]), None);
        assert_eq!(local_problem(&[]), None);
        assert_eq!(probe_path(Some(here)).await, None);
        assert_eq!(probe_path(None).await, None);
    }

    #[test]
    fn words() {
        let here = PathMtuProblem::LocalInterface {
            interface: "eth0".to_owned(),
            mtu: 1100,
            needed: needed_mtu([10, 0, 0, 1].into()),
        };
        assert_eq!(
            here.to_string(),
            "packets of 1200 bytes, the least that QUIC needs, don't get through eth0: its MTU is 1100 and must be at \
             least 1228 (`ip link set eth0 mtu 1500`)"
        );
    }
}
