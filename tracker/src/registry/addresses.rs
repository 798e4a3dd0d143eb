//! Which of the addresses that a client claims may be passed on.

use std::net::{IpAddr, SocketAddr};

/// The claimed addresses that others could dial: nothing that reaches many, nobody, or the dialler itself.
///
/// `from` is where the client's socket came from; only a client of this machine may name loopback.
pub fn useful_addresses(claimed: &[SocketAddr], from: IpAddr) -> Vec<SocketAddr> {
    let mut useful = Vec::with_capacity(claimed.len());
    for address in claimed {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if is_useful(address, from) && !useful.contains(&address) {
            useful.push(address);
        }
    }
    useful
}

fn is_useful(address: SocketAddr, from: IpAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0);
    let foreign_loopback = ip.is_loopback() && !from.is_loopback();
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast && !foreign_loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(claimed: &[&str], from: &str) -> Vec<String> {
        let claimed: Vec<SocketAddr> = claimed.iter().map(|text| text.parse().unwrap()).collect();
        useful_addresses(&claimed, from.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_nobody_can_dial_is_dropped() {
        let useless = [
            "224.0.0.251:5353",
            "255.255.255.255:9",
            "0.0.0.0:9",
            "0.1.2.3:9",
            "[::]:9",
            "[ff02::1]:9",
            "10.0.0.1:0",
            "[::ffff:224.0.0.1]:9",
            "[::ffff:0.0.0.0]:9",
        ];
        assert!(kept(&useless, "127.0.0.1").is_empty());
        assert_eq!(kept(&["10.0.0.5:9", "[fe80::1]:9", "10.0.0.5:9"], "10.0.0.9"), ["10.0.0.5:9", "[fe80::1]:9"]);
    }

    #[test]
    fn loopback_only_for_a_client_of_this_machine() {
        let loopback = ["127.0.0.1:9", "[::1]:9", "[::ffff:127.0.0.2]:9"];
        assert_eq!(kept(&loopback, "127.0.0.1"), ["127.0.0.1:9", "[::1]:9", "127.0.0.2:9"]);
        assert!(kept(&loopback, "10.0.0.9").is_empty());
    }
}
