//! Detection of paths too narrow for QUIC, which needs packets of 1,200 bytes (RFC 9000, section 14).
//!
//! Such packets vanish without an error, so a peer behind such a path seems to be gone. The MTU of a local interface
//! is known. The rest of the path has to be probed: if the machine answers a short packet to a closed port, but no
//! long one, the path is too narrow.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use localization::tr;

use super::datagram_probe::{DISCARD_PORT, closed_port_of, probe_with_datagram};
use crate::sys;

/// QUIC's smallest maximum packet size, without the headers of IP and UDP.
const MIN_QUIC_PAYLOAD: u32 = 1200;
/// The least MTU of a route that stays within the machine.
const LOOPBACK_ROUTE_MTU: u32 = 32_768;
/// Time for the ICMP error to arrive.
const PROBE_TIMEOUT: Duration = Duration::from_millis(600);
/// Long packets sent before they count as dropped.
const LONG_PROBES: usize = 2;

/// A path that is too narrow for QUIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMtuProblem {
    /// The local interface is too narrow.
    LocalInterface {
        interface: String,
        /// In bytes.
        mtu: u32,
        /// The smallest sufficient MTU, in bytes.
        needed: u32,
    },
    /// A link on the way to the address is too narrow.
    AlongPath {
        /// The peer's address.
        ip: IpAddr,
        /// The smallest sufficient MTU, in bytes.
        needed: u32,
    },
}

impl fmt::Display for PathMtuProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::LocalInterface { interface, mtu, needed } => tr!(
                "packets of {bytes} bytes, the least that QUIC needs, don't get through {interface}: its MTU is {mtu} and \
                 must be at least {needed} (`ip link set {interface} mtu 1500`)",
                bytes = MIN_QUIC_PAYLOAD,
                interface,
                mtu,
                needed
            ),
            Self::AlongPath { ip, needed } => tr!(
                "packets of {bytes} bytes, the least that QUIC needs, don't get through to {ip}: shorter ones do, so an \
                 interface or switch on the way, or {ip} itself, has an MTU below {needed}",
                bytes = MIN_QUIC_PAYLOAD,
                ip,
                needed
            ),
        };
        f.write_str(&text)
    }
}

/// Returns the problem, if every address is known to be unreachable for QUIC before anything is sent.
pub(super) fn local_problem(addresses: &[SocketAddr]) -> Option<PathMtuProblem> {
    let paths: Option<Vec<PathMtuProblem>> = addresses.iter().map(|address| first_hop_problem(address.ip())).collect();
    // One wide path is enough to dial: the collection is `None` then.
    paths?.into_iter().next()
}

fn first_hop_problem(ip: IpAddr) -> Option<PathMtuProblem> {
    let (ip, needed) = (ip.to_canonical(), needed_mtu(ip));
    let mtu = sys::route_mtu(ip).filter(|mtu| *mtu < needed)?;
    let source = sys::route_source((ip, DISCARD_PORT).into())?;
    let interface = sys::local_addresses().into_iter().find(|local| local.ip == source)?.interface;
    // The route's MTU includes what a router on the way has reported; then the interface itself is wide enough.
    let is_wide = sys::interface_mtu(&interface).is_some_and(|own| own >= needed);
    Some(if is_wide {
        PathMtuProblem::AlongPath { ip, needed }
    } else {
        PathMtuProblem::LocalInterface { interface, mtu, needed }
    })
}

/// Probes the path to `address`; returns the problem, if it is known or if short packets are answered and long ones
/// aren't.
pub(super) async fn probe_path(address: Option<SocketAddr>) -> Option<PathMtuProblem> {
    let address = address?;
    if let Some(narrow) = first_hop_problem(address.ip()) {
        return Some(narrow);
    }
    // Without an answer to a short packet, the missing answer to a long one proves nothing.
    if address.ip().is_loopback() || !is_probe_answered(address, 1).await {
        return None;
    }
    // A single long packet may be lost by chance.
    for _ in 0..LONG_PROBES {
        if is_probe_answered(address, MIN_QUIC_PAYLOAD).await {
            return None;
        }
    }
    Some(PathMtuProblem::AlongPath { ip: address.ip(), needed: needed_mtu(address.ip()) })
}

/// True if the machine at `address` answers a packet of `bytes` bytes to a closed port.
async fn is_probe_answered(address: SocketAddr, bytes: u32) -> bool {
    let payload = vec![0; bytes as usize];
    match tokio::time::timeout(PROBE_TIMEOUT, probe_with_datagram(closed_port_of(address), &payload)).await {
        Ok(Err(why)) => why.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(Ok(())) => true,
        Err(_) => false,
    }
}

/// Returns the smallest MTU with which QUIC works to `ip`, in bytes.
pub const fn needed_mtu(ip: IpAddr) -> u32 {
    MIN_QUIC_PAYLOAD + udp_overhead(ip)
}

/// Returns the bytes of the headers of IP and UDP.
pub const fn udp_overhead(ip: IpAddr) -> u32 {
    // 20 and 40 bytes without options, and 8 of UDP.
    const IPV4_AND_UDP: u32 = 28;
    const IPV6_AND_UDP: u32 = 48;
    if ip.to_canonical().is_ipv4() { IPV4_AND_UDP } else { IPV6_AND_UDP }
}

/// Returns true if packets to `ip` stay within this machine; `mtu` is that of the route. A machine's own LAN address is
/// routed over loopback and has its MTU.
pub const fn is_within_machine(ip: IpAddr, mtu: u32) -> bool {
    ip.to_canonical().is_loopback() || mtu >= LOOPBACK_ROUTE_MTU
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
