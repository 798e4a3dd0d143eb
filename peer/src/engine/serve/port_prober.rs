//! Probes of other peers' UDP ports, which they ask for (see "probe" in [`shared::peer`]).
//!
//! A prober must be no tool for scanning or flooding: it sends to the address from which the asking peer's link comes and
//! to no other, a handshake that only the asking peer's key completes, and tells that peer alone whether it did.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | probes for one user, and of one address | 1 a minute | refused with [`PeerErrorCode::Busy`] |
//! | probes under way | 4 | refused with [`PeerErrorCode::Busy`] |
//! | users and addresses remembered, for a minute each | 1,024 | refused with [`PeerErrorCode::Busy`] |
//! | time of a probe | [`PROBE_SECONDS`] | it counts as unanswered |
//! | ports | [`MIN_PEER_PORT`] and above | refused with [`PeerErrorCode::Limit`] |

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::Identity;
use parking_lot::Mutex;
use shared::UserName;
use shared::limits::MIN_PEER_PORT;
use shared::peer::{PROBE_SECONDS, PeerErrorCode, PeerReply};
use tokio::sync::Semaphore;

use super::request_refusal::RequestRefusal;
use crate::net::endpoint::Endpoint;
use crate::net::link::{Link, probe_address};

/// Time between two probes for one user, and of one address.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);
/// Probes under way at the same time.
const MAX_PROBES: usize = 4;
/// Users, and addresses, that are remembered.
const MAX_REMEMBERED: usize = 1024;

/// The prober of a node.
#[derive(Debug)]
pub(super) struct PortProber {
    limiter: Mutex<ProbeLimiter>,
    permits: Semaphore,
}

/// The limits by user and by address. No clock: `now` is an argument.
#[derive(Debug, Default)]
struct ProbeLimiter {
    users: HashMap<UserName, Instant>,
    /// Single addresses also of IPv6, whose networks of 2^64 addresses are shared by all machines of a local network.
    addresses: HashMap<IpAddr, Instant>,
}

impl PortProber {
    pub(super) fn new() -> Self {
        Self { limiter: Mutex::default(), permits: Semaphore::new(MAX_PROBES) }
    }

    /// Probes `port` of the peer at the other end of `link`, from a new socket.
    ///
    /// # Errors
    /// The refusal to send.
    pub(super) async fn probe(
        &self,
        identity: &Arc<Identity>,
        link: &Link,
        port: u16,
    ) -> Result<PeerReply, RequestRefusal> {
        if port < MIN_PEER_PORT {
            return Err((PeerErrorCode::Limit, format!("ports below {MIN_PEER_PORT} are not probed")));
        }
        // Before the limit, which a refusal for want of a permit must not use up.
        let Ok(_permit) = self.permits.try_acquire() else {
            return Err((PeerErrorCode::Busy, "too many probes are under way: try again in a few seconds".to_owned()));
        };
        let address = with_port(link.scoped_address(), port);
        if let Err(wait) = self.limiter.lock().admit(link.user(), address.ip(), Instant::now()) {
            // A part of a second is told as a whole one: 0 would read as no wait.
            let seconds = wait.as_secs().max(1);
            return Err((PeerErrorCode::Busy, format!("one probe a minute: try again in {seconds} s")));
        }
        let failed = |why: &dyn std::fmt::Display| {
            tracing::info!("a probe can't be sent: {why}");
            (PeerErrorCode::Internal, "the probe can't be sent".to_owned())
        };
        // A socket of its own: the node's own port has packets in both directions already.
        let endpoint = Endpoint::client(identity, None).map_err(|why| failed(&why))?;
        let probed = probe_address(&endpoint, address, link.fingerprint(), Duration::from_secs(PROBE_SECONDS)).await;
        endpoint.close(PeerErrorCode::Done);
        endpoint.drain().await;
        let took = probed.inspect_err(|why| tracing::debug!("{} is not reached at {address}: {why}", link.user())).ok();
        let ms = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        Ok(PeerReply::Probe { ip: address.ip().to_canonical(), port, answered: took.is_some(), ms })
    }
}

/// Returns the address with another port and still its interface.
const fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

impl ProbeLimiter {
    /// Admits a probe and counts it, or returns how long to wait.
    fn admit(&mut self, user: &UserName, ip: IpAddr, now: Instant) -> Result<(), Duration> {
        // Else a machine would count twice: by its IPv4 address, and by the mapped one.
        let ip = ip.to_canonical();
        forget_old(&mut self.users, now);
        forget_old(&mut self.addresses, now);
        let last = [self.users.get(user), self.addresses.get(&ip)].into_iter().flatten().max();
        if let Some(last) = last {
            return Err(PROBE_INTERVAL.saturating_sub(now.saturating_duration_since(*last)));
        }
        // Nothing recent is forgotten to make room, or many callers together would undo the interval.
        if self.users.len() >= MAX_REMEMBERED || self.addresses.len() >= MAX_REMEMBERED {
            return Err(PROBE_INTERVAL);
        }
        self.users.insert(user.clone(), now);
        self.addresses.insert(ip, now);
        Ok(())
    }
}

fn forget_old<K: Hash + Eq>(probed: &mut HashMap<K, Instant>, now: Instant) {
    probed.retain(|_, last| now.saturating_duration_since(*last) < PROBE_INTERVAL);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_user_and_each_address_is_probed_once_a_minute() {
        let (mut limiter, begun) = (ProbeLimiter::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(limiter.admit(&user("alice"), ip("10.0.0.1"), at(0)), Ok(()));
        let wait = Err(Duration::from_secs(50));
        assert_eq!(limiter.admit(&user("alice"), ip("10.0.0.1"), at(10)), wait);
        assert_eq!(limiter.admit(&user("alice"), ip("10.0.0.2"), at(10)), wait, "from another address");
        assert_eq!(limiter.admit(&user("mallory"), ip("10.0.0.1"), at(10)), wait, "of an accomplice");
        assert_eq!(limiter.admit(&user("mallory"), ip("::ffff:10.0.0.1"), at(10)), wait, "spelt otherwise");
        assert_eq!(limiter.admit(&user("bob"), ip("10.0.0.3"), at(10)), Ok(()));
        assert_eq!(limiter.admit(&user("alice"), ip("10.0.0.1"), at(60)), Ok(()));
    }

    #[test]
    fn machines_of_one_network_of_the_sixth_version_are_several() {
        let (mut limiter, now) = (ProbeLimiter::default(), Instant::now());
        assert_eq!(limiter.admit(&user("alice"), ip("fd00::1"), now), Ok(()));
        assert_eq!(limiter.admit(&user("bob"), ip("fd00::2"), now), Ok(()));
        assert!(limiter.admit(&user("carol"), ip("fd00::2"), now).is_err());
    }

    #[test]
    fn a_crowd_takes_a_bounded_memory_and_is_forgotten() {
        let (mut limiter, now) = (ProbeLimiter::default(), Instant::now());
        for number in 0..2 * MAX_REMEMBERED {
            let address = IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).unwrap()));
            let admitted = limiter.admit(&user(&format!("u{number}")), address, now);
            assert_eq!(admitted.is_ok(), number < MAX_REMEMBERED, "{number}");
        }
        assert_eq!(limiter.users.len(), MAX_REMEMBERED);
        assert_eq!(limiter.admit(&user("late"), ip("192.168.0.1"), now + PROBE_INTERVAL), Ok(()));
        assert_eq!((limiter.users.len(), limiter.addresses.len()), (1, 1));
    }
}
