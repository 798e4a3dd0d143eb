//! Dialer of links: races a peer's addresses, pins its key and exchanges hello and welcome.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::ServerPin;
use localization::tr;
use quinn::VarInt;
use shared::limits::MAX_AGENT_BYTES;
use shared::peer::{Hello, PeerErrorCode, PeerReply, PeerRequest};
use shared::{Fingerprint, UntrustedText, UserName};
use tokio::time::Instant;

use super::{HANDSHAKE_TIMEOUT, Link, LinkPeer, known_capabilities, own_hello};
use crate::net::endpoint::Endpoint;
use crate::net::happy_eyeballs::first_success;
use crate::net::path_mtu::{self, PathMtuProblem};
use crate::net::stream::{StreamPriority, with_timeout};
use crate::net::{LinkError, StreamError};

/// Time between two attempts at different addresses of a peer; the first to succeed wins (RFC 8305).
const ATTEMPT_DELAY: Duration = Duration::from_millis(150);
/// Time without any answer after which the path's MTU is probed.
const MTU_PROBE_DELAY: Duration = Duration::from_secs(2);

/// The peer to dial and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialTarget {
    pub user: UserName,
    /// The key that the peer must have.
    pub fingerprint: Fingerprint,
    /// The likeliest first.
    pub addresses: Vec<SocketAddr>,
    /// The address that the tracker observed. The others were announced by the peer and may belong to other machines.
    pub observed: Option<SocketAddr>,
}

/// Dials all addresses of `target`, with staggered starts, and sends a hello on the first connection with the right
/// key. Fails with [`LinkError::OtherKey`] if another key answers at the address that the tracker observed and none has
/// the right key; otherwise with what a peer said, with [`LinkError::NoAnswer`] or [`LinkError::MtuTooSmall`] if an address
/// was silent, or with the reason why no address could be tried to the end.
pub async fn dial(
    endpoint: &Endpoint,
    target: &DialTarget,
    me: &UserName,
    capabilities: &[&str],
) -> Result<Link, LinkError> {
    let connection = race_addresses(endpoint, target).await?;
    let (user, fingerprint) = (target.user.clone(), target.fingerprint);
    let peer = LinkPeer { user, fingerprint, agent: UntrustedText::default(), capabilities: Vec::new() };
    // A node serves and never downloads over its own links; fetches have endpoints that don't accept.
    let takes_bulk = !endpoint.accepts();
    // A provisional link carries the hello; the capabilities come with the welcome.
    let mut link = Link { connection, peer: Arc::new(peer), is_outbound: true, takes_bulk, activity: Arc::default() };
    let greeted = with_timeout(HANDSHAKE_TIMEOUT, exchange_hello(&link, own_hello(me.clone(), capabilities))).await;
    match greeted {
        Ok((agent, capabilities)) => {
            let (user, fingerprint) = (target.user.clone(), target.fingerprint);
            link.peer = Arc::new(LinkPeer { user, fingerprint, agent, capabilities });
            Ok(link)
        }
        Err(error) => {
            link.close(PeerErrorCode::Protocol);
            Err(match error {
                StreamError::Link(error) => error,
                StreamError::Refused { code, message } => LinkError::Refused { code, message },
                StreamError::Timeout(within) => {
                    LinkError::NoAnswer { addresses: silent_addresses(target, &[]), within }
                }
                other => LinkError::Protocol(other.to_string()),
            })
        }
    }
}

async fn race_addresses(endpoint: &Endpoint, target: &DialTarget) -> Result<quinn::Connection, LinkError> {
    // Known without sending anything, so the user needn't wait for the time-out.
    if let Some(narrow) = path_mtu::local_problem(&target.addresses) {
        return Err(LinkError::MtuTooSmall(narrow));
    }
    let attempts = first_success(&target.addresses, ATTEMPT_DELAY, |address| {
        let (endpoint, expected) = (endpoint.clone(), target.fingerprint);
        async move { connect_pinned(&endpoint, address, expected, HANDSHAKE_TIMEOUT).await }
    });
    let mut narrow = None;
    // Runs beside the attempts, so that the cause is known by the time they fail.
    let mtu_probe = async {
        tokio::time::sleep(MTU_PROBE_DELAY).await;
        narrow = path_mtu::probe_path(target.observed).await;
        // The probe never ends the race: it only leaves its finding behind.
        std::future::pending().await
    };
    let raced = tokio::select! {
        raced = attempts => raced,
        never = mtu_probe => never,
    };
    raced.map_err(|failures| dial_error(target, endpoint.identity().fingerprint(), failures, narrow))
}

/// Completes a handshake with `key` at `address` within `timeout`, and hangs up before a hello. Returns the time that the
/// handshake took. Fails with [`LinkError::OtherKey`], [`LinkError::NoAnswer`], or the reason why it ended.
pub async fn probe_address(
    endpoint: &Endpoint,
    address: SocketAddr,
    key: Fingerprint,
    timeout: Duration,
) -> Result<Duration, LinkError> {
    let begun = Instant::now();
    let connection = connect_pinned(endpoint, address, key, timeout).await?;
    let took = begun.elapsed();
    connection.close(VarInt::from_u32(PeerErrorCode::Done.into()), b"");
    Ok(took)
}

async fn connect_pinned(
    endpoint: &Endpoint,
    address: SocketAddr,
    expected: Fingerprint,
    timeout: Duration,
) -> Result<quinn::Connection, LinkError> {
    let pin = ServerPin::expecting(expected);
    let connected = tokio::time::timeout(timeout, endpoint.connect(address, &pin)?).await;
    // TLS reports a refused certificate as any other failure; the pin knows which key was presented.
    match (connected, pin.mismatch()) {
        (Ok(Ok(connection)), _) => Ok(connection),
        (_, Some(presented)) => Err(LinkError::OtherKey { address, expected, presented }),
        (Ok(Err(error)), None) => Err(error.into()),
        (Err(_), None) => Err(LinkError::NoAnswer { addresses: address.to_string(), within: timeout }),
    }
}

/// Returns the error for failures at all addresses; `own` is this machine's key.
fn dial_error(
    target: &DialTarget,
    own: Fingerprint,
    failures: Vec<(SocketAddr, LinkError)>,
    narrow: Option<PathMtuProblem>,
) -> LinkError {
    let is_silent = failures.iter().any(|(_, failure)| matches!(failure, LinkError::NoAnswer { .. }));
    let mut worst: Option<LinkError> = None;
    let mut elsewhere = Vec::new();
    for (address, failure) in failures {
        match failure {
            // This machine itself, or another machine at an address that was only announced: neither says
            // anything about the peer that was dialled.
            LinkError::OtherKey { presented, .. } if presented == own || Some(address) != target.observed => {
                elsewhere.push(address);
            }
            failure if worst.as_ref().is_none_or(|told| failure_rank(&failure) > failure_rank(told)) => {
                worst = Some(failure);
            }
            _ => {}
        }
    }
    // Silence is reported once for all addresses, so beside it only stronger failures are returned by themselves.
    if let Some(told) = worst.filter(|told| failure_rank(told) > 1 || !is_silent) {
        return told;
    }
    match narrow {
        Some(narrow) => LinkError::MtuTooSmall(narrow),
        None => no_answer(target, &elsewhere),
    }
}

/// Ranks failures by what they say about the peer; the highest is reported.
const fn failure_rank(error: &LinkError) -> u8 {
    match error {
        LinkError::OtherKey { .. } => 3,
        LinkError::Refused { .. } | LinkError::Protocol(_) => 2,
        LinkError::NoAnswer { .. } | LinkError::MtuTooSmall(_) | LinkError::Lost(_) => 1,
        LinkError::Local(_) => 0,
    }
}

/// Returns the error for a peer without an answer; `elsewhere` are the addresses of other machines.
fn no_answer(target: &DialTarget, elsewhere: &[SocketAddr]) -> LinkError {
    let mut addresses = silent_addresses(target, elsewhere);
    if !elsewhere.is_empty() {
        let texts: Vec<_> = elsewhere.iter().map(ToString::to_string).collect();
        addresses = tr!("{addresses} (somebody else has {others})", addresses, others = texts.join(", "));
    }
    LinkError::NoAnswer { addresses, within: HANDSHAKE_TIMEOUT }
}

/// Returns the silent addresses as text.
fn silent_addresses(target: &DialTarget, elsewhere: &[SocketAddr]) -> String {
    let silent = target.addresses.iter().filter(|address| !elsewhere.contains(address));
    let texts: Vec<_> = silent.map(ToString::to_string).collect();
    if texts.is_empty() { tr!("{user} (no known address)", user = target.user) } else { texts.join(", ") }
}

/// Sends the hello and returns the other side's agent and capabilities.
async fn exchange_hello(link: &Link, hello: Hello) -> Result<(UntrustedText, Vec<String>), StreamError> {
    let (sender, mut receiver) = link.open_stream(&PeerRequest::Hello(hello), StreamPriority::Request).await?;
    sender.finish();
    match receiver.next_answer().await? {
        // The name in the welcome isn't read: the pinned key tells who answers.
        PeerReply::Welcome(welcome) => {
            // Kept as long as the link: only what an honest side sends.
            let agent = if welcome.agent.len() <= MAX_AGENT_BYTES { welcome.agent } else { UntrustedText::default() };
            Ok((agent, known_capabilities(welcome.capabilities)))
        }
        _ => Err(StreamError::Unexpected("a welcome was due")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBSERVED: &str = "10.0.0.2:4";
    const NAMED: &str = "172.17.0.1:4";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn key(byte: u8) -> Fingerprint {
        Fingerprint::from_bytes([byte; 32])
    }

    fn target() -> DialTarget {
        let (user, fingerprint) = ("bob".parse().unwrap(), key(1));
        DialTarget { user, fingerprint, addresses: vec![at(OBSERVED), at(NAMED)], observed: Some(at(OBSERVED)) }
    }

    fn silent(text: &str) -> (SocketAddr, LinkError) {
        (at(text), LinkError::NoAnswer { addresses: text.to_owned(), within: HANDSHAKE_TIMEOUT })
    }

    fn other(text: &str, presented: Fingerprint) -> (SocketAddr, LinkError) {
        (at(text), LinkError::OtherKey { address: at(text), expected: key(1), presented })
    }

    fn told(failures: Vec<(SocketAddr, LinkError)>) -> LinkError {
        dial_error(&target(), key(9), failures, None)
    }

    #[test]
    fn somebody_else_at_a_named_address_is_no_answer() {
        let error = told(vec![silent(OBSERVED), other(NAMED, key(2))]);
        assert!(matches!(error, LinkError::NoAnswer { .. }), "{error}");
        assert_eq!(error.to_string(), "no answer from 10.0.0.2:4 (somebody else has 172.17.0.1:4) within 5 s");
    }

    #[test]
    fn this_machine_is_nobody() {
        let error = told(vec![other(OBSERVED, key(9)), silent(NAMED)]);
        assert!(matches!(error, LinkError::NoAnswer { .. }), "{error}");
    }

    #[test]
    fn somebody_else_where_the_tracker_saw_them_is_told() {
        for failures in [
            vec![other(OBSERVED, key(2)), other(NAMED, key(3))],
            vec![silent(NAMED), other(OBSERVED, key(2))],
            vec![(at(NAMED), LinkError::Protocol("x".to_owned())), other(OBSERVED, key(2))],
        ] {
            let error = told(failures);
            assert!(matches!(error, LinkError::OtherKey { presented, .. } if presented == key(2)), "{error}");
        }
    }

    #[test]
    fn where_nobody_was_silent_the_reason_is_told() {
        let (lost, local) = (|| LinkError::Lost("refused".to_owned()), || LinkError::Local("too many".to_owned()));
        let error = told(vec![(at(OBSERVED), local()), (at(NAMED), lost())]);
        assert!(matches!(error, LinkError::Lost(_)), "{error}");
        let error = told(vec![(at(OBSERVED), local()), other(NAMED, key(2))]);
        assert!(matches!(error, LinkError::Local(_)), "{error}");
        for reason in [lost(), local()] {
            let error = told(vec![(at(OBSERVED), reason), silent(NAMED)]);
            assert!(matches!(error, LinkError::NoAnswer { .. }), "{error}");
        }
    }

    #[test]
    fn what_was_said_counts_more_than_silence() {
        let refused = || LinkError::Refused { code: PeerErrorCode::Busy, message: "later".into() };
        let error = told(vec![(at(OBSERVED), refused()), silent(NAMED), other(NAMED, key(2))]);
        assert!(matches!(error, LinkError::Refused { .. }), "{error}");
        let narrow = PathMtuProblem::AlongPath { ip: at(OBSERVED).ip(), needed: 1228 };
        let error = dial_error(&target(), key(9), vec![silent(OBSERVED), silent(NAMED)], Some(narrow.clone()));
        assert!(matches!(error, LinkError::MtuTooSmall(told) if told == narrow));
        let error = dial_error(&target(), key(9), vec![(at(OBSERVED), refused())], Some(narrow));
        assert!(matches!(error, LinkError::Refused { .. }), "{error}");
    }
}
