//! Staggered connection attempts to several addresses of one host (RFC 8305, "happy eyeballs").

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;

/// An address, and the time that those before it have for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DialAttempt {
    pub(super) address: SocketAddr,
    pub(super) delay: Duration,
}

/// Tries `addresses` in order and returns the first success; attempts still under way are cancelled.
///
/// Each attempt begins when the one before has failed or has taken `delay`.
///
/// # Errors
/// The failure of each address, in the order of the addresses.
pub(super) async fn first_success<T, E, F>(
    addresses: &[SocketAddr],
    delay: Duration,
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, Vec<(SocketAddr, E)>>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let all: Vec<DialAttempt> = addresses.iter().map(|address| DialAttempt { address: *address, delay }).collect();
    first_success_of(&all, attempt).await
}

/// Does the same with a delay for each address; that of the first doesn't count.
///
/// # Errors
/// As [`first_success`].
pub(super) async fn first_success_of<T, E, F>(
    all: &[DialAttempt],
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, Vec<(SocketAddr, E)>>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    let mut failures = Vec::with_capacity(all.len());
    let mut left = all.iter().copied().enumerate().peekable();
    let mut waiting = left.next();
    loop {
        if let Some((position, DialAttempt { address, .. })) = waiting.take() {
            let attempt = attempt(address);
            attempts.spawn(async move { (position, address, attempt.await) });
        }
        let delay = left.peek().map(|(_, next)| next.delay);
        tokio::select! {
            ended = attempts.join_next() => match ended {
                // Returning drops the join set, which aborts the other attempts.
                Some(Ok((_, _, Ok(success)))) => return Ok(success),
                Some(Ok((place, address, Err(why)))) => {
                    failures.push((place, address, why));
                    waiting = left.next();
                }
                // A panic in an attempt says nothing about its address.
                Some(Err(_)) => waiting = left.next(),
                // Each failure begins the next attempt: without any that runs, no address is left.
                None => break,
            },
            // `select!` builds the sleep even where its condition forbids it, so the delay needs a value.
            () = tokio::time::sleep(delay.unwrap_or_default()), if delay.is_some() => waiting = left.next(),
        }
    }
    failures.sort_by_key(|(place, ..)| *place);
    Err(failures.into_iter().map(|(_, address, why)| (address, why)).collect())
}

/// Returns the addresses with alternating families, beginning with the first one's: a family without connectivity then
/// delays every second attempt only.
pub(super) fn interleave_families(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    let is_first_v4 = all.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = all.into_iter().partition(|address| address.is_ipv4() == is_first_v4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        turns.extend(first.next());
        turns.extend(second.next());
    }
    turns
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const STAGGER: Duration = Duration::from_millis(250);

    fn parsed(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let all = parsed(&["[fd00::1]:1", "[fd00::2]:1", "[fd00::1]:1", "[fd00::3]:1", "10.0.0.1:1"]);
        assert_eq!(interleave_families(all), parsed(&["[fd00::1]:1", "10.0.0.1:1", "[fd00::2]:1", "[fd00::3]:1"]));
        assert!(interleave_families([]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_one_costs_one_turn() {
        let began = Instant::now();
        let addresses = parsed(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let won = first_success::<_, (), _>(&addresses, STAGGER, |address| async move {
            if address.port() == 1 && address.ip().to_string() == "10.0.0.2" {
                return Ok(address);
            }
            std::future::pending().await
        });
        assert_eq!(won.await.unwrap(), addresses[1]);
        assert_eq!(began.elapsed(), STAGGER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_one_waits_for_those_before_it_unless_they_fail() {
        let addresses = parsed(&["10.0.0.1:1", "10.0.0.2:1"]);
        let late = Duration::from_secs(2);
        let all: Vec<DialAttempt> =
            addresses.iter().map(|address| DialAttempt { address: *address, delay: late }).collect();
        for (fails_after, began_after) in [(Duration::from_secs(9), late), (STAGGER, STAGGER)] {
            let began = Instant::now();
            let won = first_success_of(&all, |address| async move {
                if address.ip().to_string() == "10.0.0.2" {
                    return Ok(());
                }
                tokio::time::sleep(fails_after).await;
                Err(())
            });
            won.await.unwrap();
            assert_eq!(began.elapsed(), began_after);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_costs_nothing_and_all_are_named() {
        let began = Instant::now();
        let addresses = parsed(&["10.0.0.1:1", "10.0.0.2:1"]);
        let lost =
            first_success::<(), _, _>(&addresses, STAGGER, |address| async move { Err(address.ip().to_string()) });
        let failures = lost.await.unwrap_err();
        assert_eq!(began.elapsed(), Duration::ZERO);
        let named: Vec<_> = addresses.iter().map(|address| (*address, address.ip().to_string())).collect();
        assert_eq!(failures, named);
        assert!(first_success::<(), (), _>(&[], STAGGER, |_| async { Ok(()) }).await.unwrap_err().is_empty());
    }
}
