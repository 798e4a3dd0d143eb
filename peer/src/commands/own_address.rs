//! The address of this machine that others are told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::net::addresses::is_link_local;
use crate::net::tracker::TrackerAddress;
use crate::sys::{LocalAddress, local_addresses, route_source};

/// An address that nobody has (RFC 5737): the way to it is the default route.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Returns the address at which browsers most likely reach this machine: the one towards the tracker, else the one towards
/// the rest of the world, else any; the loopback if there is no other.
pub(super) async fn own_address(tracker: &TrackerAddress) -> IpAddr {
    let tracker = tracker.candidates().await.unwrap_or_default();
    let others = tracker.into_iter().chain([SocketAddr::new(ELSEWHERE, 9)]);
    let towards = first_reachable(others.filter_map(route_source));
    towards.or_else(|| best_address(&local_addresses())).unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// Returns the first address that leads here from elsewhere: that towards a tracker of this machine may be the loopback.
fn first_reachable(mut sources: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
    sources.find(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

fn best_address(local: &[LocalAddress]) -> Option<IpAddr> {
    let is_usable = |local: &&LocalAddress| local.is_running && !local.ip.is_loopback() && !is_link_local(local.ip);
    // IPv4 first: it is easier to type.
    local.iter().filter(is_usable).min_by_key(|local| (local.kind, local.ip.is_ipv6())).map(|local| local.ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_tracker_on_this_machine_leads_nobody_here() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let sources = ["127.0.0.1", "::1", "0.0.0.0", "192.0.2.7", "192.0.2.8"].map(ip);
        assert_eq!(first_reachable(sources.into_iter()), Some(ip("192.0.2.7")));
        assert_eq!(first_reachable([ip("127.0.0.1")].into_iter()), None);
    }
}
