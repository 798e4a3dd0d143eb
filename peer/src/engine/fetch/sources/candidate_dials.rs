//! The order in which sources that the tracker lists are dialled, how many dials run at once, and when one that failed
//! is repeated.
//!
//! Whoever makes accounts can have any number of them listed, with addresses at which nobody answers. So known sources
//! come first, origins (an IPv4 address, an IPv6 network) take turns, and a dial that isn't answered soon gives its place
//! to the next one while it goes on.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | dials younger than [`PLACE_DURATION`] | [`MAX_YOUNG_DIALS`] | the others wait in order |
//! | all dials | [`MAX_DIALS`] | the same |
//! | dials of a user who can't be asked | [`FIRST_PAUSE`] apart, up to [`LONGEST_PAUSE`] | searches at intervals skip them |

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use shared::{Ipv6Network, UserName};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::util::Backoff;

/// Dials that hold a place at once. Nothing but the tracker's list is known of most of them, and the addresses are what
/// their users say.
const MAX_YOUNG_DIALS: usize = 8;
/// The time for which a dial holds a place: on a local network whoever is there has answered by then.
const PLACE_DURATION: Duration = Duration::from_millis(500);
/// Dials at once, those included that gave up their places.
const MAX_DIALS: usize = 64;

/// The pause before a user who couldn't be asked is dialled again, and the longest that it grows to.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// The facts by which the dials of sources are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DialPriority {
    /// The user's key is on record: a link was opened before.
    pub(super) is_known: bool,
    /// The address from which the tracker sees the user.
    pub(super) seen_at: IpAddr,
}

/// The places for dials of one search.
#[derive(Debug)]
pub(super) struct DialPlaces {
    young: Semaphore,
    all: Semaphore,
}

/// Users who couldn't be asked, and the time until which each is left alone.
#[derive(Debug, Default)]
pub(super) struct DialPauses(HashMap<UserName, (Backoff, Instant)>);

#[derive(PartialEq, Eq, Hash)]
enum SourceOrigin {
    Address(IpAddr),
    Network(Ipv6Network),
}

/// Returns the candidates in the order in which they are dialled: known ones first, origins in turn.
pub(super) fn in_dial_order<T>(candidates: Vec<(DialPriority, T)>) -> Vec<T> {
    let mut turns: HashMap<SourceOrigin, usize> = HashMap::new();
    let mut ordered: Vec<_> = Vec::with_capacity(candidates.len());
    // Known ones are looked at first, so that no stranger behind the same address takes a turn from them.
    let (known, strangers): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|(priority, _)| priority.is_known);
    for (DialPriority { is_known, seen_at }, candidate) in known.into_iter().chain(strangers) {
        let turn = turns.entry(SourceOrigin::of(seen_at)).or_default();
        ordered.push(((!is_known, *turn), candidate));
        *turn += 1;
    }
    ordered.sort_by_key(|(rank, _)| *rank);
    ordered.into_iter().map(|(_, candidate)| candidate).collect()
}

impl DialPlaces {
    pub(super) fn new() -> Self {
        Self { young: Semaphore::new(MAX_YOUNG_DIALS), all: Semaphore::new(MAX_DIALS) }
    }

    /// Waits for a place and then for `dial`. Places are given in the order of the calls.
    pub(super) async fn dial<T>(&self, dial: impl Future<Output = T>) -> T {
        // Neither semaphore is ever closed.
        let _held_to_the_end = self.all.acquire().await;
        // Behind the other: no place is held by one who may not dial yet.
        let place = self.young.acquire().await;
        let mut dial = pin!(dial);
        if let Ok(dialled) = timeout(PLACE_DURATION, &mut dial).await {
            return dialled;
        }
        drop(place);
        dial.await
    }
}

impl DialPauses {
    /// Begins the pause of a user, longer than the one before.
    pub(super) fn begin(&mut self, user: UserName, now: Instant) {
        let new = || (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), now);
        let (pauses, until) = self.0.entry(user).or_insert_with(new);
        *until = now + pauses.next_delay();
    }

    /// Forgets the failures of a user who answered.
    pub(super) fn end(&mut self, user: &UserName) {
        self.0.remove(user);
    }

    /// Returns the users who are left alone now.
    pub(super) fn paused_users(&self, now: Instant) -> HashSet<UserName> {
        self.0.iter().filter(|(_, (_, until))| now < *until).map(|(user, _)| user.clone()).collect()
    }
}

impl SourceOrigin {
    fn of(ip: IpAddr) -> Self {
        Ipv6Network::of(ip).map_or_else(|| Self::Address(ip.to_canonical()), Self::Network)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    fn order(candidates: &[(bool, &str)]) -> Vec<usize> {
        let numbered = candidates.iter().enumerate().map(|(number, (is_known, seen_at))| {
            (DialPriority { is_known: *is_known, seen_at: seen_at.parse().unwrap() }, number)
        });
        in_dial_order(numbered.collect())
    }

    #[test]
    fn known_sources_come_first_and_origins_take_turns() {
        let sybils = [(false, "10.0.0.66"); 3];
        assert_eq!(order(&[&sybils[..], &[(false, "10.0.0.7")]].concat()), [0, 3, 1, 2]);
        assert_eq!(order(&[&sybils[..], &[(true, "10.0.0.66")]].concat()), [3, 0, 1, 2]);
        let network = [(false, "fd00::1"), (false, "fd00::2"), (false, "fd00:0:0:1::1"), (false, "::ffff:10.0.0.66")];
        assert_eq!(order(&[&sybils[..1], &network[..]].concat()), [0, 1, 3, 2, 4]);
        assert_eq!(order(&[(true, "10.0.0.1"), (false, "10.0.0.2"), (true, "10.0.0.1")]), [0, 2, 1]);
    }

    #[test]
    fn whoever_fails_again_is_left_alone_for_longer() {
        let (mut pauses, user, begun): (_, UserName, _) =
            (DialPauses::default(), "bob".parse().unwrap(), Instant::now());
        // At each search of every 15 seconds, as long as one is due.
        let mut dials = Vec::new();
        for search in 0..80 {
            let now = begun + FIRST_PAUSE * search;
            if !pauses.paused_users(now).contains(&user) {
                dials.push(search);
                pauses.begin(user.clone(), now);
            }
        }
        assert_eq!(dials, [0, 1, 3, 7, 15, 31, 51, 71]);
        pauses.end(&user);
        assert!(pauses.paused_users(begun + FIRST_PAUSE * 80).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_answer_holds_no_place() {
        let (places, begun) = (Arc::new(DialPlaces::new()), Instant::now());
        let mut dials = JoinSet::new();
        for number in 0..=24 {
            let places = Arc::clone(&places);
            dials.spawn(async move {
                let answers_after = Duration::from_millis(if number == 24 { 20 } else { 5000 });
                places.dial(async { tokio::time::sleep(answers_after).await }).await;
                number
            });
        }
        assert_eq!(dials.join_next().await.unwrap().unwrap(), 24);
        assert!(begun.elapsed() < 3 * PLACE_DURATION + Duration::from_millis(100), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn dials_under_way_are_bounded() {
        let (places, begun) = (Arc::new(DialPlaces::new()), Instant::now());
        let mut dials = JoinSet::new();
        for _ in 0..=MAX_DIALS {
            let places = Arc::clone(&places);
            dials.spawn(async move {
                // The time begins with the dial, and not while it waits.
                places.dial(async { tokio::time::sleep(Duration::from_secs(3600)).await }).await;
            });
        }
        while dials.join_next().await.is_some() {}
        assert!(begun.elapsed() >= Duration::from_secs(7200), "one had to wait");
    }
}
