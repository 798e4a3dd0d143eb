//! A limit on datagrams to addresses that haven't answered.
//!
//! The dialled peer names its addresses itself and may name those of a victim. So an address gets few datagrams until
//! one arrives from it; QUIC treats the suppressed ones as lost. The datagrams are spaced out, so that a short outage
//! of the path takes only one of them.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | datagrams of one dial to an address that hasn't answered | `DATAGRAMS`, at least `MIN_INTERVAL` apart | not sent |
//! | datagrams to one machine that hasn't answered, over all dials and ports, this machine excepted | `HOST_LIMIT` | not sent |
//! | addresses dialled within `DIAL_TTL` | `ADDRESSES` | the next dial fails |

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::addresses::without_scope;
use super::burst_limit::BurstLimit;

/// Datagrams of one dial to an address that hasn't answered.
const DATAGRAMS: usize = 3;
/// The least time between two of them: quinn sends two probes at once (RFC 9002, section 6.2.4).
const MIN_INTERVAL: Duration = Duration::from_millis(200);
/// The time a dial is remembered: longer than the attempt and its closing packets.
const DIAL_TTL: Duration = Duration::from_secs(20);
/// Datagrams to one machine that hasn't answered: those of two dials, then enough to find a peer that starts anew.
const HOST_LIMIT: BurstLimit = BurstLimit { burst: 6, interval: Duration::from_secs(2) };
/// Addresses remembered at the same time.
const ADDRESSES: usize = 4096;

/// The dialled addresses that haven't answered.
#[derive(Debug, Default)]
pub(super) struct AmplificationLimiter {
    dialled: Mutex<HashMap<SocketAddr, UnansweredDial>>,
    /// The time at which each machine has its full burst again.
    hosts: Mutex<HashMap<IpAddr, Instant>>,
    /// The size of the map, readable without its lock: bulk transfers check it for every burst.
    count: AtomicUsize,
}

/// The datagrams sent to one address.
#[derive(Debug)]
struct UnansweredDial {
    datagrams: usize,
    last_sent: Option<Instant>,
    expires_at: Instant,
}

impl AmplificationLimiter {
    /// Notes a dial; returns false if too many addresses are being dialled.
    pub(super) fn note_dial(&self, address: SocketAddr, now: Instant) -> bool {
        let mut dialled = self.dialled();
        let address = without_scope(address);
        // Expired entries are removed only when the map is full: doing it on each dial would scan the whole map.
        if dialled.len() >= ADDRESSES && !dialled.contains_key(&address) {
            dialled.retain(|_, sent| sent.expires_at > now);
        }
        // Only dialled addresses get an entry, and each dial removes those at rest: the map needs no bound of its own.
        self.hosts().retain(|_, rested_at| *rested_at > now);
        let may = dialled.len() < ADDRESSES || dialled.contains_key(&address);
        if may {
            // A repeated dial starts anew here; what repetition adds up to is bounded by `hosts`.
            dialled.insert(address, UnansweredDial { datagrams: 0, last_sent: None, expires_at: now + DIAL_TTL });
        }
        // Stored under the lock, so that no older count overwrites a newer one.
        self.count.store(dialled.len(), Ordering::Release);
        may
    }

    /// Notes a datagram from an address, which ends its limit.
    pub(super) fn note_received(&self, address: SocketAddr) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut dialled = self.dialled();
            dialled.remove(&without_scope(address));
            self.count.store(dialled.len(), Ordering::Release);
            // The answer proves the machine, whichever of its ports was dialled.
            self.hosts().remove(&without_scope(address).ip());
        }
    }

    /// Returns whether this number of datagrams may be sent now, and counts them if so.
    pub(super) fn may_send(&self, address: SocketAddr, datagrams: usize, now: impl FnOnce() -> Instant) -> bool {
        // Every datagram passes here, and mostly nobody is being dialled: no lock then.
        if self.count.load(Ordering::Acquire) == 0 {
            return true;
        }
        let mut dialled = self.dialled();
        let Some(sent) = dialled.get_mut(&without_scope(address)) else { return true };
        // The clock is read only here: most datagrams go to addresses that aren't being dialled.
        let now = now();
        if sent.expires_at <= now {
            dialled.retain(|_, sent| sent.expires_at > now);
            self.count.store(dialled.len(), Ordering::Release);
            return true;
        }
        let is_apart = sent.last_sent.is_none_or(|last| now >= last + MIN_INTERVAL);
        // The machine's limit comes last, as it takes from the allowance: a refused datagram must cost nothing.
        let may = is_apart
            && sent.datagrams + datagrams <= DATAGRAMS
            && self.may_send_to_host(without_scope(address).ip(), datagrams, now);
        if may {
            sent.datagrams += datagrams;
            sent.last_sent = Some(now);
        }
        may
    }

    /// Undoes the count of datagrams that the kernel didn't take: they are sent again.
    pub(super) fn undo_send(&self, address: SocketAddr, datagrams: usize) {
        if self.count.load(Ordering::Acquire) > 0
            && let Some(sent) = self.dialled().get_mut(&without_scope(address))
        {
            sent.datagrams = sent.datagrams.saturating_sub(datagrams);
            // Otherwise the repeated send would count as too close to the failed one.
            sent.last_sent = None;
            if let Some(rested_at) = self.hosts().get_mut(&without_scope(address).ip()) {
                *rested_at = HOST_LIMIT.give_back(*rested_at, count_of(datagrams));
            }
        }
    }

    /// Whether so many datagrams may go to a machine now; they count.
    fn may_send_to_host(&self, host: IpAddr, datagrams: usize, now: Instant) -> bool {
        // Nobody is flooded from their own machine, and many peers may be on it.
        if host.is_loopback() {
            return true;
        }
        let mut hosts = self.hosts();
        let taken = HOST_LIMIT.try_take(hosts.get(&host).copied(), count_of(datagrams), now);
        if let Some(rested_at) = taken {
            hosts.insert(host, rested_at);
        }
        taken.is_some()
    }

    /// Those that are dialled are locked before.
    fn hosts(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.hosts.lock()
    }

    fn dialled(&self) -> MutexGuard<'_, HashMap<SocketAddr, UnansweredDial>> {
        self.dialled.lock()
    }
}

fn count_of(datagrams: usize) -> u32 {
    u32::try_from(datagrams).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_that_does_not_answer_gets_three_datagrams_however_often_it_is_tried() {
        let (unanswered, mut now, victim) = (AmplificationLimiter::default(), Instant::now(), at("10.0.0.9:5000"));
        assert!(unanswered.note_dial(victim, now));
        let mut sent = 0;
        for _ in 0..190 {
            sent += usize::from(unanswered.may_send(victim, 1, || now));
            sent += usize::from(unanswered.may_send(victim, 1, || now));
            now += Duration::from_millis(100);
        }
        assert_eq!(sent, DATAGRAMS);
        assert!(unanswered.may_send(at("10.0.0.8:5000"), 40, || now), "somebody else");
        assert!(unanswered.note_dial(victim, now));
        assert!(!unanswered.may_send(victim, DATAGRAMS + 1, || now), "segments are datagrams");
        assert!(unanswered.may_send(victim, 1, || now));
    }

    #[test]
    fn a_machine_that_does_not_answer_gets_few_datagrams_over_however_many_ports() {
        let (unanswered, began) = (AmplificationLimiter::default(), Instant::now());
        let sent_to = |host: &str, seconds: u64| {
            let mut sent = 0;
            for ms in (0..seconds * 1000).step_by(100) {
                let now = began + Duration::from_millis(ms);
                for port in 9000..9392 {
                    let address = at(&format!("{host}:{port}"));
                    if ms % 5000 == 0 {
                        assert!(unanswered.note_dial(address, now));
                    }
                    sent += usize::from(unanswered.may_send(address, 1, || now));
                }
            }
            sent
        };
        assert_eq!(sent_to("10.66.0.3", 20), 6 + 9);
        assert!(sent_to("127.0.0.1", 5) > 392, "this machine itself");
        // Of one that answers nothing is held back.
        let address = at("10.66.0.4:9000");
        (9000..9010).for_each(|port| assert!(unanswered.note_dial(at(&format!("10.66.0.4:{port}")), began)));
        let one_each =
            || (9000..9010).filter(|port| unanswered.may_send(at(&format!("10.66.0.4:{port}")), 1, || began));
        assert_eq!(one_each().count(), 6);
        unanswered.note_received(address);
        assert_eq!(one_each().count(), 1 + 4, "one that answered, and four that had none");
    }

    #[test]
    fn whoever_answers_gets_all_there_is() {
        let (unanswered, now) = (AmplificationLimiter::default(), Instant::now());
        let mapped = at("[::ffff:10.0.0.9]:5000");
        assert!(unanswered.note_dial(mapped, now) && unanswered.note_dial(at("[fe80::9%3]:5000"), now));
        assert!(unanswered.may_send(mapped, 1, || now) && !unanswered.may_send(mapped, 1, || now));
        unanswered.note_received(at("10.0.0.9:5000"));
        assert!((0..100).all(|_| unanswered.may_send(mapped, 64, || now)));
        unanswered.note_received(at("[fe80::9%3]:5000"));
        assert_eq!(unanswered.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_the_system_did_not_take_counts_for_nothing() {
        let (unanswered, now, address) = (AmplificationLimiter::default(), Instant::now(), at("10.0.0.9:5000"));
        unanswered.note_dial(address, now);
        for _ in 0..10 {
            assert!(unanswered.may_send(address, 1, || now));
            unanswered.undo_send(address, 1);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let (unanswered, now) = (AmplificationLimiter::default(), Instant::now());
        let address = |n: u32| SocketAddr::new((0x0a00_0000 + n).to_be_bytes().into(), 5000);
        let dialled = (0..10_000).filter(|n| unanswered.note_dial(address(*n), now)).count();
        assert_eq!(dialled, ADDRESSES);
        assert!(unanswered.note_dial(address(0), now) && !unanswered.note_dial(address(9999), now));
        let later = now + DIAL_TTL;
        assert!(unanswered.note_dial(address(9999), later));
        assert!(unanswered.may_send(address(0), 100, || later));
        assert_eq!(unanswered.count.load(Ordering::Relaxed), 1);
    }
}
