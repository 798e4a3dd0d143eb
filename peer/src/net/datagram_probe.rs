//! Single datagrams to other machines, without a word of any protocol: the ICMP errors that come back tell of the way there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

/// The discard service's port (RFC 863), closed practically everywhere: the machine answers with an ICMP error.
pub(super) const DISCARD_PORT: u16 = 9;

/// Returns the address of a closed port of the machine at `address`.
pub(super) const fn closed_port_of(mut address: SocketAddr) -> SocketAddr {
    address.set_port(DISCARD_PORT);
    address
}

/// Sends one datagram and waits for an answer. Fails with the ICMP error that comes instead, "port unreachable" as
/// [`io::ErrorKind::ConnectionRefused`]; or if this machine can't send it.
pub(super) async fn probe_with_datagram(to: SocketAddr, payload: &[u8]) -> io::Result<()> {
    // A socket of its own each time, so that a late error doesn't answer for another datagram.
    let socket = unfragmented_socket(to.ip()).await?;
    // Connected: only then the kernel reports ICMP errors (ip(7)).
    socket.connect(to).await?;
    socket.send(payload).await?;
    socket.recv(&mut [0; 16]).await.map(|_| ())
}

/// Returns a socket whose packets are never fragmented, like QUIC's.
async fn unfragmented_socket(to: IpAddr) -> io::Result<UdpSocket> {
    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    };
    if to.is_ipv4() {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        // `PROBE` sets DF and ignores the kernel's path MTU, so that a long packet is really sent.
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
        Ok(socket)
    } else {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await?;
        set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
        Ok(socket)
    }
}
