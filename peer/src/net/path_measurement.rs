//! Measurement of the largest packet that reaches a machine, by the ICMP errors of a closed port.
//!
//! Packets that are longer than some link on the way takes vanish there; the sender is to be told by ICMP, and often isn't.
//! QUIC finds the largest packet by itself, TCP doesn't by default: it hangs at the first long reply.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::datagram_probe::{closed_port_of, probe_with_datagram};
use super::path_mtu::{is_within_machine, needed_mtu, udp_overhead};
use crate::sys;

/// Time for an answer; a packet without one is sent a second time, as a single one may be lost by chance.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);
const ATTEMPTS: usize = 2;
/// Time in which Linux has one more ICMP error for the same host, after six at once (`net.ipv4.icmp_ratelimit`).
const ERROR_INTERVAL: Duration = Duration::from_millis(1100);
/// MTUs that occur: IPv6's least, tunnels, mobile networks, PPPoE, Ethernet, jumbo frames. Fewer than the ICMP errors
/// that Linux sends at once (`net.ipv4.icmp_ratelimit`).
const USUAL_MTUS: [u32; 5] = [1280, 1380, 1420, 1492, 1500];
/// Smallest MTU that IPv4 allows.
const MIN_IP_MTU: u32 = 68;

/// The largest packets on the way to a machine, in bytes with the headers of IP and UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathWidth {
    /// The largest that this machine would send.
    pub route_mtu: u32,
    /// The largest that arrived, among those that were tried.
    pub arrived: u32,
}

impl PathWidth {
    /// True if packets vanish that this machine sends.
    pub const fn is_narrow(&self) -> bool {
        self.arrived < self.route_mtu
    }
}

/// Measures the way to the machine at `address`. `None` if it doesn't answer at all, or is this machine.
pub async fn measure_path(address: SocketAddr) -> Option<PathWidth> {
    let ip = address.ip().to_canonical();
    let route_mtu = sys::route_mtu(ip).filter(|mtu| !is_within_machine(ip, *mtu))?;
    let least = needed_mtu(ip).min(route_mtu);
    let arrived = largest_arrived(address, &[MIN_IP_MTU, least, route_mtu]).await?;
    if arrived < route_mtu {
        // Who was asked a moment ago may have no errors left, which looks the same.
        sleep(ERROR_INTERVAL).await;
        if is_answered(address, route_mtu).await {
            return Some(PathWidth { route_mtu, arrived: route_mtu });
        }
    }
    // Below what QUIC needs, the exact size doesn't matter: no link is possible.
    if arrived >= route_mtu || arrived < least {
        return Some(PathWidth { route_mtu, arrived });
    }
    let between: Vec<u32> = USUAL_MTUS.into_iter().filter(|mtu| *mtu > least && *mtu < route_mtu).collect();
    let arrived = largest_arrived(address, &between).await.unwrap_or(arrived);
    Some(PathWidth { route_mtu, arrived })
}

/// Returns the largest of these packets that is answered.
async fn largest_arrived(address: SocketAddr, mtus: &[u32]) -> Option<u32> {
    // All at the same time: one after the other, silent ones would take half a second each.
    let mut probes = JoinSet::new();
    for mtu in mtus.iter().copied() {
        probes.spawn(async move { (is_answered(address, mtu).await, mtu) });
    }
    let answered = probes.join_all().await;
    answered.into_iter().filter(|(is_answered, _)| *is_answered).map(|(_, mtu)| mtu).max()
}

async fn is_answered(address: SocketAddr, mtu: u32) -> bool {
    let payload = vec![0; mtu.saturating_sub(udp_overhead(address.ip())).max(1) as usize];
    for _ in 0..ATTEMPTS {
        match timeout(ANSWER_TIMEOUT, probe_with_datagram(closed_port_of(address), &payload)).await {
            Ok(Ok(())) => return true,
            Ok(Err(why)) if why.kind() == std::io::ErrorKind::ConnectionRefused => return true,
            // Refused by this machine (no route, or EMSGSIZE): a second attempt fails alike.
            Ok(Err(_)) => return false,
            Err(_) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_machine_is_no_path() {
        assert_eq!(measure_path("127.0.0.1:9".parse().unwrap()).await, None);
    }

    #[test]
    fn a_path_is_narrow_if_less_arrives_than_is_sent() {
        assert!(PathWidth { route_mtu: 1500, arrived: 1492 }.is_narrow());
        assert!(!PathWidth { route_mtu: 1280, arrived: 1280 }.is_narrow());
    }
}
