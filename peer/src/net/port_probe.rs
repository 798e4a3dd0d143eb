//! Looks at single ports of other machines, without a word of any protocol: what comes back tells who drops the packets.
//!
//! | what comes back | what it means |
//! |---|---|
//! | an answer | a program has the port |
//! | "refused" (TCP reset, ICMP port unreachable) | the machine is there, and no program has the port |
//! | "no such host" (ARP or neighbour discovery failed, ICMP host unreachable) | no machine has the address |
//! | "no route" | this machine has no way to such an address |
//! | "forbidden" | a firewall of this machine drops what goes out |
//! | nothing | a firewall drops it, or nothing is there |

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::datagram_probe::{closed_port_of, probe_with_datagram};
use crate::sys::{self, NeighbourState};

/// The result of a look at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortProbeResult {
    /// Something answered, after this time.
    Answered(Duration),
    /// The machine says that no program has the port.
    Refused,
    /// No machine has the address.
    NoHost,
    /// There is no route to the address.
    NoRoute,
    /// This machine's firewall forbids it.
    Forbidden,
    /// Nothing came back in time.
    Silent,
    /// Any other failure, in the system's words.
    Failed(String),
}

/// The evidence about a machine that doesn't answer at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPresence {
    /// It answers otherwise, so that something drops the packets to the port.
    There,
    /// No machine has the address.
    Absent,
    /// Nothing is known.
    Unknown,
}

/// Connects to a TCP port and hangs up.
pub async fn probe_tcp_port(address: SocketAddr, within: Duration) -> PortProbeResult {
    let begun = Instant::now();
    match timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(_)) => PortProbeResult::Answered(begun.elapsed()),
        Ok(Err(why)) => sign_of(&why),
        Err(_) => PortProbeResult::Silent,
    }
}

/// Sends one byte to a UDP port, which no protocol of ours answers: only "refused" and the like come back.
pub async fn probe_udp_port(address: SocketAddr, within: Duration) -> PortProbeResult {
    let begun = Instant::now();
    match timeout(within, probe_with_datagram(address, &[0])).await {
        Ok(Ok(())) => PortProbeResult::Answered(begun.elapsed()),
        Ok(Err(why)) => sign_of(&why),
        Err(_) => PortProbeResult::Silent,
    }
}

/// Looks whether a machine is there at all, by a port that is closed practically everywhere and by the neighbour table.
pub async fn probe_host(address: SocketAddr, within: Duration) -> HostPresence {
    match probe_udp_port(closed_port_of(address), within).await {
        PortProbeResult::Answered(_) | PortProbeResult::Refused => HostPresence::There,
        PortProbeResult::NoHost | PortProbeResult::NoRoute => HostPresence::Absent,
        // A firewall that drops everything doesn't drop ARP.
        PortProbeResult::Silent | PortProbeResult::Forbidden | PortProbeResult::Failed(_) => {
            neighbour_presence(address.ip()).await
        }
    }
}

async fn neighbour_presence(ip: IpAddr) -> HostPresence {
    match sys::neighbour_state(ip).await {
        Some(NeighbourState::Reachable) => HostPresence::There,
        Some(NeighbourState::Failed) => HostPresence::Absent,
        Some(NeighbourState::Unconfirmed) | None => HostPresence::Unknown,
    }
}

fn sign_of(why: &io::Error) -> PortProbeResult {
    match why.kind() {
        io::ErrorKind::ConnectionRefused => PortProbeResult::Refused,
        io::ErrorKind::HostUnreachable => PortProbeResult::NoHost,
        // IPv6 without a usable source address fails with EADDRNOTAVAIL instead of ENETUNREACH.
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => PortProbeResult::NoRoute,
        // Netfilter's verdict on an outgoing packet reaches the sender as EPERM.
        io::ErrorKind::PermissionDenied => PortProbeResult::Forbidden,
        // The kernel gave up first (`tcp_syn_retries`, tcp(7)).
        io::ErrorKind::TimedOut => PortProbeResult::Silent,
        _ => PortProbeResult::Failed(sys::plain_message(why)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;

    const SOON: Duration = Duration::from_secs(2);

    #[tokio::test]
    async fn open_and_closed_ports_of_this_machine_are_told_apart() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        assert!(matches!(probe_tcp_port(open, SOON).await, PortProbeResult::Answered(_)));
        drop(listener);
        assert_eq!(probe_tcp_port(open, SOON).await, PortProbeResult::Refused);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let taken = socket.local_addr().unwrap();
        assert_eq!(probe_udp_port(taken, Duration::from_millis(50)).await, PortProbeResult::Silent);
        drop(socket);
        assert_eq!(probe_udp_port(taken, SOON).await, PortProbeResult::Refused);
        assert_eq!(probe_host(taken, SOON).await, HostPresence::There);
    }
}
