//! Looks at the tracker: its TCP port, TLS and key, its clock, its announcement, and who is present.

use std::net::SocketAddr;
use std::time::Duration;

use localization::tr;
use shared::UntrustedText;
use shared::tracker::{AnnouncedPresence, ListPeersReply, ListPeersRequest, ListedPeer, LoginReply, TrackerRequest};
use tokio::time::{Instant, timeout};

use super::examination_deadline::ExaminationDeadline;
use super::tracker_findings::{ClockFinding, DiscoveryFinding, TrackerFault, TrackerFinding};
use crate::engine::{Error, ErrorKind, LocalUser, now_ms};
use crate::net::TrackerError;
use crate::net::discovery::{DiscoveryResult, Reachability, discover_trackers};
use crate::net::port_probe::{HostPresence, PortProbeResult, probe_host, probe_tcp_port};
use crate::net::tracker::{TrackerAddress, TrackerConnection};

/// Time for a connection. Longer than the kernel looks for a machine that isn't there, which is 3 s.
const CONNECT_LIMIT: Duration = Duration::from_millis(3400);
/// Time for a sign of the tracker's machine.
const HOST_LIMIT: Duration = Duration::from_millis(800);
/// Time for a reply.
const REPLY_LIMIT: Duration = Duration::from_millis(1500);
/// Users of the tracker's list that are looked at.
const MAX_LISTED: usize = 200;

/// The tracker, as far as it was reached.
#[derive(Debug)]
pub(super) struct TrackerExamination {
    pub(super) finding: TrackerFinding,
    pub(super) clock: Option<ClockFinding>,
    pub(super) version: Option<UntrustedText>,
    /// The tracker's address, also if it wasn't reached.
    pub(super) remote: Option<SocketAddr>,
    /// This machine's end of the connection.
    pub(super) local: Option<SocketAddr>,
    /// Users who are present.
    pub(super) present: Vec<ListedPeer>,
}

impl TrackerExamination {
    fn unreached(me: &LocalUser, remote: Option<SocketAddr>, fault: TrackerFault) -> Self {
        let (address, port) = (me.tracker.to_string(), remote.map_or(0, |remote| remote.port()));
        let is_ipv6 = remote.is_some_and(|remote| remote.is_ipv6());
        Self {
            finding: TrackerFinding::Unreached { address, port, is_ipv6, fault },
            clock: None,
            version: None,
            remote,
            local: None,
            present: Vec::new(),
        }
    }
}

/// Connects to the tracker, and asks for its clock and who is present. If that fails, single looks at its ports tell why.
pub(super) async fn examine_tracker(me: &LocalUser, deadline: ExaminationDeadline) -> TrackerExamination {
    let begun = Instant::now();
    // At the same time: the looks at the ports take as long as a connection that fails.
    let signs = read_signs(&me.tracker, deadline);
    let connecting = timeout(deadline.within(CONNECT_LIMIT), me.connect_tracker());
    tokio::pin!(signs, connecting);
    let mut seen = None;
    let connected = loop {
        tokio::select! {
            connected = &mut connecting => break connected,
            signs = &mut signs, if seen.is_none() => seen = Some(signs),
        }
    };
    let error = match connected {
        Ok(Ok(connection)) => return question_tracker(me, connection, begun.elapsed(), deadline).await,
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    // Whoever refuses or shows another key was reached: looks at the ports could tell nothing more.
    if let Some(error) = error.filter(|error| !matches!(error, Error::Tracker(TrackerError::Unreachable { .. }))) {
        return TrackerExamination::unreached(me, None, other_fault(&error));
    }
    let signs = match seen {
        Some(signs) => signs,
        None => signs.await,
    };
    match signs {
        Ok((address, sign, host)) => TrackerExamination::unreached(me, Some(address), fault_of(&sign, host)),
        Err(why) => TrackerExamination::unreached(me, None, TrackerFault::NameUnknown(why)),
    }
}

/// Looks at the TCP port and the machine behind the tracker's likeliest address. Fails with the reason why it has none.
async fn read_signs(
    tracker: &TrackerAddress,
    deadline: ExaminationDeadline,
) -> Result<(SocketAddr, PortProbeResult, HostPresence), String> {
    let resolved = timeout(deadline.within(CONNECT_LIMIT), tracker.candidates()).await;
    let late = |_| tr!("its name is not resolved within {seconds} s", seconds = CONNECT_LIMIT.as_secs());
    let addresses = resolved.map_err(late)??;
    let address = *addresses.first().ok_or_else(|| tr!("its name has no address"))?;
    let (port_limit, host_limit) = (deadline.within(CONNECT_LIMIT), deadline.within(HOST_LIMIT));
    let (sign, host) = tokio::join!(probe_tcp_port(address, port_limit), probe_host(address, host_limit));
    Ok((address, sign, host))
}

fn fault_of(sign: &PortProbeResult, host: HostPresence) -> TrackerFault {
    match (sign, host) {
        (PortProbeResult::Answered(_), _) => TrackerFault::TlsSilent,
        (PortProbeResult::Refused, _) => TrackerFault::Refused,
        (PortProbeResult::NoRoute, _) => TrackerFault::NoRoute,
        (PortProbeResult::Forbidden, _) => TrackerFault::Forbidden,
        // A firewall may answer with the ICMP error of a machine that is absent.
        (PortProbeResult::NoHost | PortProbeResult::Silent, HostPresence::There) => TrackerFault::PortDropped,
        (PortProbeResult::NoHost, _) | (PortProbeResult::Silent, HostPresence::Absent) => TrackerFault::NoHost,
        (PortProbeResult::Silent, HostPresence::Unknown) => TrackerFault::Silent,
        (PortProbeResult::Failed(why), _) => TrackerFault::Other { why: why.clone(), kind: ErrorKind::Network },
    }
}

fn other_fault(error: &Error) -> TrackerFault {
    TrackerFault::Other { why: error.to_string(), kind: error.kind() }
}

async fn question_tracker(
    me: &LocalUser,
    mut connection: TrackerConnection,
    took: Duration,
    deadline: ExaminationDeadline,
) -> TrackerExamination {
    let (remote, local) = (Some(connection.remote()), Some(connection.local()));
    let before = now_ms();
    // Without a port, RESUME only authenticates: the presence of a running node stays.
    let resume = TrackerRequest::Resume(AnnouncedPresence::default());
    let reply = match connection.call_within::<LoginReply>(deadline.within(REPLY_LIMIT), &resume).await {
        Ok(reply) => reply,
        Err(TrackerError::Refused { refusal, .. })
            if refusal.code == shared::tracker::TrackerErrorCode::NotLoggedIn =>
        {
            let error = Error::signed_out(me.user.clone(), refusal);
            return TrackerExamination { local, ..TrackerExamination::unreached(me, remote, other_fault(&error)) };
        }
        Err(TrackerError::Unreachable { .. }) => {
            let fault = TrackerFault::TlsSilent;
            return TrackerExamination { local, ..TrackerExamination::unreached(me, remote, fault) };
        }
        Err(error) => {
            let fault = other_fault(&error.into());
            return TrackerExamination { local, ..TrackerExamination::unreached(me, remote, fault) };
        }
    };
    let after = now_ms();
    if let Err(error) = me.check_key_owner(&reply.user) {
        return TrackerExamination { local, ..TrackerExamination::unreached(me, remote, other_fault(&error)) };
    }
    let theirs = reply.now_ms.map(|theirs| i64::try_from(theirs).unwrap_or(i64::MAX));
    let clock = theirs.map_or(ClockFinding::Untold, |theirs| ClockFinding::compare(before, theirs, after));
    let wanted = ListPeersRequest { with_files: Some(false), limit: Some(MAX_LISTED), ..ListPeersRequest::default() };
    let (limit, wanted) = (deadline.within(REPLY_LIMIT), TrackerRequest::ListPeers(wanted));
    let listed = connection.call_within::<ListPeersReply>(limit, &wanted).await;
    let present = listed.map_or_else(|_| Vec::new(), |listed| listed.peers.into_iter().take(MAX_LISTED).collect());
    TrackerExamination {
        finding: TrackerFinding::Reached { address: me.tracker.to_string(), took },
        clock: Some(clock),
        version: reply.version,
        remote,
        local,
        present,
    }
}

/// What mDNS told within the time.
#[derive(Debug)]
pub(super) enum DiscoveryOutcome {
    Skipped,
    Impossible(String),
    Heard(DiscoveryResult),
}

/// Listens for announcements of trackers, of the account's own if its key is on record.
pub(super) async fn listen_for_announcements(
    me: Option<&LocalUser>,
    is_skipped: bool,
    limit: Duration,
) -> DiscoveryOutcome {
    if is_skipped {
        return DiscoveryOutcome::Skipped;
    }
    let known = me.and_then(|me| me.profile.tracker_at(&me.tracker.to_string()).ok().flatten());
    match timeout(limit, discover_trackers(known.map(|known| known.fingerprint))).await {
        Ok(Ok(heard)) => DiscoveryOutcome::Heard(heard),
        Ok(Err(why)) => DiscoveryOutcome::Impossible(why.to_string()),
        Err(_) => DiscoveryOutcome::Impossible(tr!("an announced tracker doesn't answer in time")),
    }
}

/// Judges the announcements, now that it is known whether the tracker is reached.
pub(super) fn judge_announcements(
    heard: DiscoveryOutcome,
    me: Option<&LocalUser>,
    is_reached: bool,
) -> DiscoveryFinding {
    let heard = match heard {
        DiscoveryOutcome::Skipped => return DiscoveryFinding::Skipped,
        DiscoveryOutcome::Impossible(why) => return DiscoveryFinding::Impossible(why),
        DiscoveryOutcome::Heard(heard) => heard,
    };
    // Anybody can announce anything: only who proved to have the announced key counts.
    let mut proved = heard.trackers.iter().filter(|one| one.reachability == Reachability::Proved);
    let shown = |address: SocketAddr| TrackerAddress::from(address).to_string();
    let Some(me) = me else {
        let addresses: Vec<String> = proved.map(|one| shown(one.address)).collect();
        return if addresses.is_empty() {
            DiscoveryFinding::NotAnnounced
        } else {
            DiscoveryFinding::Found { addresses }
        };
    };
    match proved.next() {
        None => DiscoveryFinding::NotAnnounced,
        Some(one) if is_reached => DiscoveryFinding::Announced { address: shown(one.address) },
        Some(one) => DiscoveryFinding::Elsewhere { address: shown(one.address), user: me.user.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_judged_by_whether_the_machine_is_there() {
        let fault = |sign, host| fault_of(&sign, host);
        assert_eq!(fault(PortProbeResult::Silent, HostPresence::There), TrackerFault::PortDropped);
        assert_eq!(
            fault(PortProbeResult::NoHost, HostPresence::There),
            TrackerFault::PortDropped,
            "a firewall that rejects"
        );
        assert_eq!(fault(PortProbeResult::Silent, HostPresence::Absent), TrackerFault::NoHost);
        assert_eq!(fault(PortProbeResult::Silent, HostPresence::Unknown), TrackerFault::Silent);
        assert_eq!(fault(PortProbeResult::Answered(Duration::ZERO), HostPresence::Unknown), TrackerFault::TlsSilent);
        assert_eq!(fault(PortProbeResult::NoRoute, HostPresence::Absent), TrackerFault::NoRoute);
    }
}
