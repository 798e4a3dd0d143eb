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
const LEAST: u32 = 1200;
/// A port that nobody has: its machine says so (RFC 863 gives it to a service that is extinct).
const NOBODYS_PORT: u16 = 9;
/// For a machine to say that nobody has a port.
const ANSWER: Duration = Duration::from_millis(600);
/// Long packets before they are taken for lost.
const LONG_PACKETS: usize = 2;

/// A path that is too narrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NarrowPath {
    /// Already where it begins.
    Here {
        /// The interface's name.
        interface: String,
        /// The bytes that go through it at once.
        mtu: u32,
        /// So many there should be.
        needed: u32,
    },
    /// Somewhere on the way to this address.
    OnTheWay {
        /// Whose address.
        ip: IpAddr,
        /// So many bytes should go through it at once.
        needed: u32,
    },
}

impl fmt::Display for NarrowPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packets of {LEAST} bytes, the least that QUIC needs, don't get through")?;
        match self {
            Self::Here { interface, mtu, needed } => {
                write!(
                    f,
                    " {interface}: its MTU is {mtu} and must be at least {needed} (`ip link set {interface} mtu 1500`)"
                )
            }
            Self::OnTheWay { ip, needed } => {
                write!(
                    f,
                    " to {ip}: shorter ones do, so an interface or switch on the way, or {ip} itself, has an MTU below {needed}"
                )
            }
        }
    }
}

/// The path, if for each of these addresses it is known to be too narrow before anything is sent.
pub(super) fn here(addresses: &[SocketAddr]) -> Option<NarrowPath> {
    let paths: Option<Vec<NarrowPath>> = addresses.iter().map(|address| begins_narrow(address.ip())).collect();
    paths?.into_iter().next()
}

fn begins_narrow(ip: IpAddr) -> Option<NarrowPath> {
    let (ip, needed) = (ip.to_canonical(), needed_for(ip));
    let mtu = sys::route_mtu(ip).filter(|mtu| *mtu < needed)?;
    let source = sys::source_of_route_to((ip, NOBODYS_PORT).into())?;
    let interface = sys::local_addresses().into_iter().find(|local| local.ip == source)?.interface;
    // What a router on the way said of the path counts as well.
    let is_wide = sys::interface_mtu(&interface).is_some_and(|own| own >= needed);
    Some(if is_wide { NarrowPath::OnTheWay { ip, needed } } else { NarrowPath::Here { interface, mtu, needed } })
}

/// The path to `address`, if it is known to be too narrow, or short packets get there and long ones don't.
pub(super) async fn on_the_way(address: Option<SocketAddr>) -> Option<NarrowPath> {
    let address = address?;
    if let Some(narrow) = begins_narrow(address.ip()) {
        return Some(narrow);
    }
    if address.ip().is_loopback() || !is_heard(address, 1).await {
        return None;
    }
    for _ in 0..LONG_PACKETS {
        if is_heard(address, LEAST).await {
            return None;
        }
    }
    Some(NarrowPath::OnTheWay { ip: address.ip(), needed: needed_for(address.ip()) })
}

/// Whether a packet of so many bytes gets to the machine at `address` and its answer back.
async fn is_heard(address: SocketAddr, bytes: u32) -> bool {
    let mut nobody = address;
    nobody.set_port(NOBODYS_PORT);
    let heard = async {
        let socket = whole_packets(nobody.ip()).await?;
        socket.connect(nobody).await?;
        socket.send(&vec![0; bytes as usize]).await?;
        socket.recv(&mut [0; 16]).await
    };
    match tokio::time::timeout(ANSWER, heard).await {
        Ok(Err(why)) => why.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) => true,
        Err(_) => false,
    }
}

/// A socket whose packets are sent whole or not at all, as those of QUIC.
async fn whole_packets(to: IpAddr) -> std::io::Result<UdpSocket> {
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

const fn needed_for(ip: IpAddr) -> u32 {
    const IPV4_AND_UDP: u32 = 28;
    const IPV6_AND_UDP: u32 = 48;
    LEAST + if ip.to_canonical().is_ipv4() { IPV4_AND_UDP } else { IPV6_AND_UDP }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_is_wide() {
        let here: SocketAddr = "127.0.0.1:9".parse().unwrap();
        assert_eq!(super::here(&[here]), None);
        assert_eq!(super::here(&[]), None);
        assert_eq!(on_the_way(Some(here)).await, None);
        assert_eq!(on_the_way(None).await, None);
    }

    #[test]
    fn words() {
        let here =
            NarrowPath::Here { interface: "eth0".to_owned(), mtu: 1100, needed: needed_for([10, 0, 0, 1].into()) };
        assert_eq!(
            here.to_string(),
            "packets of 1200 bytes, the least that QUIC needs, don't get through eth0: its MTU is 1100 and must be at \
             least 1228 (`ip link set eth0 mtu 1500`)"
        );
    }
}
