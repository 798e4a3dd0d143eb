//! The address of this machine that goes into a link.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::engine::LocalUser;
use crate::sys::{LocalAddress, local_addresses, route_source};

/// An address that nobody has (RFC 5737): the way to it is the default route.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Returns the address at which guests most likely reach this machine: the one towards the tracker, else the one towards
/// the rest of the world, else any; the loopback if there is no other.
pub(super) async fn own_address(me: &LocalUser) -> IpAddr {
    let tracker = me.tracker.candidates().await.unwrap_or_default();
    let others = tracker.into_iter().chain([SocketAddr::new(ELSEWHERE, 9)]);
    let towards = others.filter_map(route_source).find(|ip| !ip.is_loopback() && !ip.is_unspecified());
    towards.or_else(|| best_address(&local_addresses())).unwrap_or(Ipv4Addr::LOCALHOST.into())
}

fn best_address(local: &[LocalAddress]) -> Option<IpAddr> {
    let is_usable = |local: &&LocalAddress| local.is_running && !local.ip.is_loopback() && !is_link_local(local.ip);
    // IPv4 first: it is easier to type.
    local.iter().filter(is_usable).min_by_key(|local| (local.kind, local.ip.is_ipv6())).map(|local| local.ip)
}

const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
