//! The MTU of the route to an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Returns the MTU of the route to `ip` in bytes. Sends nothing.
pub fn route_mtu(ip: IpAddr) -> Option<u32> {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Connecting looks up the route and sends nothing; the port is arbitrary.
    socket.connect((ip, 9)).ok()?;
    let mtu =
        if ip.is_ipv4() { rustix::net::sockopt::ip_mtu(&socket) } else { rustix::net::sockopt::ipv6_mtu(&socket) };
    mtu.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_a_large_mtu() {
        assert!(route_mtu(Ipv4Addr::LOCALHOST.into()).unwrap() >= 16_384);
    }
}
