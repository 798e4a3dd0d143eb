//! Probes of announced addresses.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::ServerPin;
use shared::Fingerprint;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::announcements::KeyCandidate;
use super::{AnnouncedTracker, Reachability};

/// Bounds the TCP connection, and again the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Parallel connections.
const MAX_PARALLEL: usize = 64;
/// Bounds all connections together.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(6);

/// The results for one candidate so far.
struct CandidateProgress<'a> {
    candidate: &'a KeyCandidate,
    /// For each address; `None` until its probe has ended.
    results: Vec<Option<Reachability>>,
}

/// An address to probe.
struct ProbeAttempt {
    candidate: usize,
    rank: usize,
}

/// Probes the candidates' addresses. Of each announcement, the first address with the announced key counts; of a candidate
/// without any, the first one that accepts a connection. Candidates take turns, so that none delays another.
pub(super) async fn probe_candidates(candidates: &[KeyCandidate]) -> Vec<AnnouncedTracker> {
    let (deadline, mut running) = (Instant::now() + TOTAL_TIMEOUT, JoinSet::new());
    let mut waiting = interleave_candidates(candidates);
    let mut all: Vec<CandidateProgress<'_>> = candidates.iter().map(CandidateProgress::new).collect();
    loop {
        while running.len() < MAX_PARALLEL
            && let Some(ProbeAttempt { candidate, rank }) = waiting.pop_front()
        {
            let Some((address, key)) = all.get(candidate).and_then(|one| one.target_at(rank)) else { continue };
            running.spawn(async move { (candidate, rank, probe(address, key).await) });
        }
        // Returning drops the set and cancels the probes that can't improve a result.
        if all.iter().all(CandidateProgress::is_decided) {
            break;
        }
        match timeout_at(deadline, running.join_next()).await {
            Ok(Some(Ok((candidate, rank, reachability)))) => {
                if let Some(progress) = all.get_mut(candidate) {
                    progress.record(rank, reachability);
                }
            }
            // A panic costs only this address; the others still decide.
            Ok(Some(Err(why))) => tracing::debug!("an announced address was not looked at: {why}"),
            Ok(None) | Err(_) => break,
        }
    }
    all.iter().filter_map(CandidateProgress::tracker).collect()
}

/// Returns the first address of every candidate, then the second ones.
fn interleave_candidates(candidates: &[KeyCandidate]) -> VecDeque<ProbeAttempt> {
    let longest = candidates.iter().map(|candidate| candidate.addresses.len()).max().unwrap_or(0);
    let of_rank = |rank| (0..candidates.len()).map(move |candidate| ProbeAttempt { candidate, rank });
    let all = (0..longest).flat_map(of_rank);
    all.filter(|attempt| candidates.get(attempt.candidate).is_some_and(|one| attempt.rank < one.addresses.len()))
        .collect()
}

impl<'a> CandidateProgress<'a> {
    fn new(candidate: &'a KeyCandidate) -> Self {
        Self { candidate, results: vec![None; candidate.addresses.len()] }
    }

    /// Returns the address at this rank and the key expected there, unless a better address of its announcement is known.
    fn target_at(&self, rank: usize) -> Option<(SocketAddr, Fingerprint)> {
        let (address, _) = self.candidate.addresses.get(rank)?;
        self.is_needed(rank).then_some((*address, self.candidate.fingerprint))
    }

    fn record(&mut self, rank: usize, reachability: Reachability) {
        if let Some(result) = self.results.get_mut(rank) {
            *result = Some(reachability);
        }
    }

    /// True if the result at this rank can still make a difference: announcements list the better address first.
    fn is_needed(&self, rank: usize) -> bool {
        let name_at = |rank: usize| self.candidate.addresses.get(rank).map(|(_, name)| name);
        (0..rank).all(|better| name_at(better) != name_at(rank) || !self.is_proved(better))
    }

    fn is_proved(&self, rank: usize) -> bool {
        self.results.get(rank) == Some(&Some(Reachability::Proved))
    }

    /// True if no open probe can improve the result.
    fn is_decided(&self) -> bool {
        let open = self.results.iter().enumerate().filter(|(_, result)| result.is_none());
        open.into_iter().all(|(rank, _)| !self.is_needed(rank))
    }

    fn tracker(&self) -> Option<AnnouncedTracker> {
        let ranks = self.results.iter().enumerate();
        let (reachability, rank) = ranks.map(|(rank, result)| (result.unwrap_or(Reachability::Silent), rank)).min()?;
        let (address, name) = self.candidate.addresses.get(rank)?.clone();
        let places = self.candidate.addresses.iter().enumerate();
        // One place of each announcement: its other addresses lead to the same tracker.
        let places = places.filter(|(rank, _)| self.is_proved(*rank) && self.is_needed(*rank));
        let places = places.map(|(_, (address, _))| *address).collect();
        Some(AnnouncedTracker { fingerprint: self.candidate.fingerprint, address, places, name, reachability })
    }
}

async fn probe(address: SocketAddr, key: Fingerprint) -> Reachability {
    let Ok(Ok(tcp)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await else { return Reachability::Silent };
    // Without the user's certificate: anybody can announce a tracker, and must not learn who is looking.
    let Ok(config) = certs::tracker_client_config(None, &ServerPin::expecting(key)) else {
        return Reachability::Silent;
    };
    let handshake = TlsConnector::from(Arc::new(config)).connect(certs::placeholder_server_name(), tcp);
    let shaken = timeout(CONNECT_TIMEOUT, handshake).await;
    // With the pin, the handshake succeeds only for the announced key.
    if matches!(shaken, Ok(Ok(_))) { Reachability::Proved } else { Reachability::Unproved }
}

#[cfg(test)]
mod tests {
    use certs::Identity;

    use super::*;

    /// Serves TLS handshakes with the certificate of `identity`.
    async fn listener(identity: Identity) -> (SocketAddr, JoinSet<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(certs::tracker_server_config(&identity).unwrap()));
        let mut server = JoinSet::new();
        server.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = tls.accept(stream).await;
            }
        });
        (address, server)
    }

    fn candidate(fingerprint: Fingerprint, addresses: &[SocketAddr]) -> KeyCandidate {
        KeyCandidate {
            fingerprint,
            addresses: addresses.iter().map(|address| (*address, address.to_string())).collect(),
        }
    }

    #[tokio::test]
    async fn whoever_has_the_key_is_taken_before_whoever_only_answers() {
        let identity = Identity::generate().unwrap();
        let fingerprint = identity.fingerprint();
        let (wrong, _one) = listener(Identity::generate().unwrap()).await;
        let (right, _other) = listener(identity).await;
        for addresses in [[wrong, right], [right, wrong]] {
            let found = probe_candidates(&[candidate(fingerprint, &addresses)]).await;
            let name = right.to_string();
            assert_eq!(
                found,
                [AnnouncedTracker {
                    fingerprint,
                    address: right,
                    places: vec![right],
                    name,
                    reachability: Reachability::Proved
                }]
            );
        }
        let found = probe_candidates(&[candidate(fingerprint, &[wrong])]).await;
        assert_eq!((found[0].address, found[0].reachability), (wrong, Reachability::Unproved));
    }

    #[tokio::test]
    async fn many_addresses_of_one_key_keep_nobody_else_waiting() {
        let (right, _server) = {
            let identity = Identity::generate().unwrap();
            let fingerprint = identity.fingerprint();
            let (address, server) = listener(identity).await;
            (candidate(fingerprint, &[address]), server)
        };
        // Documentation addresses (RFC 5737), which lead nowhere.
        let dead: Vec<SocketAddr> = (1..=255).map(|n| SocketAddr::from(([192, 0, 2, n], 9))).collect();
        let many = candidate(Fingerprint::from_bytes([1; 32]), &dead);
        let attempts: Vec<(usize, usize)> =
            interleave_candidates(&[many, right]).iter().map(|attempt| (attempt.candidate, attempt.rank)).collect();
        assert_eq!(attempts[..3], [(0, 0), (1, 0), (0, 1)]);
        assert_eq!(attempts.len(), 256);
    }

    #[test]
    fn a_better_address_is_waited_for_and_a_worse_one_is_not() {
        let places: Vec<SocketAddr> = (1..=3).map(|n| SocketAddr::from(([192, 0, 2, n], 9))).collect();
        let mut candidate = candidate(Fingerprint::from_bytes([1; 32]), &places);
        candidate.addresses.iter_mut().for_each(|(_, name)| "one".clone_into(name));
        let mut progress = CandidateProgress::new(&candidate);
        progress.record(1, Reachability::Proved);
        assert!(!progress.is_decided(), "the first may have it, too");
        progress.record(0, Reachability::Unproved);
        assert!(progress.is_decided());
        assert_eq!(progress.tracker().unwrap().address, places[1]);
    }

    #[test]
    fn each_announcement_of_a_key_is_a_place() {
        let places: Vec<SocketAddr> = (1..=6).map(|n| SocketAddr::from(([192, 0, 2, n], 9))).collect();
        let mut candidate = candidate(Fingerprint::from_bytes([1; 32]), &places);
        for ((_, name), own) in candidate.addresses.iter_mut().zip(["a", "b", "c", "a", "b", "c"]) {
            own.clone_into(name);
        }
        let mut progress = CandidateProgress::new(&candidate);
        progress.record(1, Reachability::Proved);
        assert!(progress.target_at(4).is_none(), "that one is found already");
        for (rank, result) in [(0, Reachability::Silent), (2, Reachability::Unproved), (3, Reachability::Proved)] {
            assert!(!progress.is_decided());
            progress.record(rank, result);
        }
        assert!(!progress.is_decided());
        progress.record(5, Reachability::Proved);
        assert!(progress.is_decided());
        let tracker = progress.tracker().unwrap();
        assert_eq!((tracker.address, tracker.reachability), (places[1], Reachability::Proved));
        assert_eq!(tracker.places, [places[1], places[3], places[5]]);
    }
}
