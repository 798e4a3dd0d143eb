//! The view from outside: other peers are asked to probe this machine's UDP port, and the way to them is measured.

use std::net::SocketAddr;
use std::time::Duration;

use rand::seq::SliceRandom;
use shared::peer::{PROBE_CAPABILITY, PeerErrorCode, PeerReply, PeerRequest};
use shared::tracker::ListedPeer;
use shared::{UntrustedText, UserName};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::examination_deadline::ExaminationDeadline;
use super::path_finding::MeasuredPath;
use super::port_finding::{ProberReport, ProberResult};
use crate::engine::peer_lookup::{candidate_from_entry, target_from_record};
use crate::engine::{LocalUser, run_blocking};
use crate::net::endpoint::Endpoint;
use crate::net::link::{self, DialTarget, Link, answer_handshake};
use crate::net::{LinkError, StreamError, is_within_machine, udp_overhead};
use crate::profile::Profile;
use crate::sys;

/// Peers that are asked.
const MAX_PROBERS: usize = 3;
/// Time for a link to a peer.
const DIAL_LIMIT: Duration = Duration::from_millis(2000);
/// Time for the search of the path's MTU.
const MTU_LIMIT: Duration = Duration::from_millis(1500);
/// Time for the answer of a peer that looks.
const LOOK_LIMIT: Duration = Duration::from_secs(4);
/// Time to measure a way by ICMP errors.
pub(super) const WIDTH_LIMIT: Duration = Duration::from_millis(3500);

/// The answers of the peers that were asked.
#[derive(Debug, Default)]
pub(super) struct OutsideProbes {
    pub(super) reports: Vec<ProberReport>,
    pub(super) paths: Vec<MeasuredPath>,
    pub(super) agents: Vec<(UserName, UntrustedText)>,
}

/// The port that is looked at: a running node's, or one that is opened for the while.
#[derive(Debug)]
pub(super) struct ExaminedPort {
    pub(super) number: u16,
    /// Answers probes while no node runs.
    listener: Option<Endpoint>,
}

impl ExaminedPort {
    /// Returns the running node's port, or opens the one that the next node will use. Fails with the reason why no port can
    /// be opened.
    pub(super) fn open(me: &LocalUser) -> Result<Self, String> {
        let last = me.profile.last_port().ok().flatten();
        if let (Ok(true), Some(number)) = (me.profile.is_node_running(), last) {
            return Ok(Self { number, listener: None });
        }
        let opened = last.map(|port| Endpoint::server(&me.identity, port, 0)).and_then(Result::ok);
        let listener = match opened {
            Some(listener) => listener,
            // As a node does: another program may have the port by now.
            None => Endpoint::server(&me.identity, 0, 0).map_err(|why| why.to_string())?,
        };
        let number = listener.port().map_err(|why| why.to_string())?;
        Ok(Self { number, listener: Some(listener) })
    }

    /// Does `work`, and answers probes meanwhile.
    async fn answering<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(listener) = &self.listener else { return work.await };
        let answering = async {
            let mut calls = JoinSet::new();
            while let Some(call) = listener.accept().await {
                calls.spawn(answer_handshake(call));
                // Those that ended are taken out, or the set would grow with each packet of a stranger.
                while calls.try_join_next().is_some() {}
            }
            std::future::pending().await
        };
        tokio::select! {
            done = work => done,
            never = answering => never,
        }
    }

    /// Closes the port, if it was opened for the while.
    pub(super) async fn close(self) {
        if let Some(listener) = self.listener {
            listener.close(PeerErrorCode::Done);
            listener.drain().await;
        }
    }
}

/// Asks some of the users who are present, or without a tracker some who are on record, to look at the port.
pub(super) async fn look_from_outside(
    me: &LocalUser,
    port: &ExaminedPort,
    present: Vec<ListedPeer>,
    local: Option<SocketAddr>,
    deadline: ExaminationDeadline,
) -> OutsideProbes {
    let who = me.clone();
    let targets = run_blocking(move || Ok(choose_probers(&who, present, local))).await.unwrap_or_default();
    let Ok(endpoint) = Endpoint::client(&me.identity, None) else { return OutsideProbes::default() };
    let asking = async {
        let mut asked = JoinSet::new();
        for target in targets {
            let (me, endpoint, number) = (me.user.clone(), endpoint.clone(), port.number);
            asked.spawn(async move { ask_prober(&me, &endpoint, &target, number, deadline).await });
        }
        asked.join_all().await
    };
    let answers = port.answering(asking).await;
    endpoint.close(PeerErrorCode::Done);
    endpoint.drain().await;
    let mut view = OutsideProbes::default();
    for (report, agent, path) in answers {
        view.agents.extend(agent.map(|agent| (report.user.clone(), agent)));
        view.paths.extend(path);
        view.reports.push(report);
    }
    // They come in the order of their answers, and the same answers are to make the same report.
    view.reports.sort_by(|one, other| one.user.cmp(&other.user));
    view
}

/// Chooses whom to ask: known users first, and otherwise anybody, so that the first by name aren't asked by all. Blocking.
fn choose_probers(me: &LocalUser, mut present: Vec<ListedPeer>, local: Option<SocketAddr>) -> Vec<DialTarget> {
    present.shuffle(&mut rand::rng());
    let is_known = |user: &UserName| me.profile.known_user(user).is_ok_and(|known| known.is_some());
    // The sort is stable: among known users, and among the others, the order stays random.
    present.sort_by_key(|entry| !is_known(&entry.user));
    let is_other = |entry: &ListedPeer| entry.user != me.user && !is_blocked(&me.profile, &entry.user);
    let listed = present.iter().filter(|entry| is_other(entry));
    // Without a record: whoever is merely asked to look is not met.
    let targets = listed.filter_map(|entry| candidate_from_entry(me, entry, local).ok());
    let targets: Vec<DialTarget> = targets.take(MAX_PROBERS).collect();
    // If the tracker was reached and lists nobody, nobody else is there to look.
    if !targets.is_empty() || local.is_some() { targets } else { recorded_probers(me) }
}

/// Returns users whose addresses are on record, for the time when the tracker can't be asked. Blocking.
fn recorded_probers(me: &LocalUser) -> Vec<DialTarget> {
    let known = me.profile.known_people().unwrap_or_default();
    let others = known.into_iter().map(|(user, _)| user).filter(|user| *user != me.user);
    let records =
        others.filter(|user| !is_blocked(&me.profile, user)).filter_map(|user| me.profile.known_user(&user).ok()?);
    records.filter(|record| !record.addresses.is_empty()).map(target_from_record).take(MAX_PROBERS).collect()
}

fn is_blocked(profile: &Profile, user: &UserName) -> bool {
    // In doubt yes: somebody who is blocked hears nothing from this side.
    profile.is_blocked(user).unwrap_or(true)
}

async fn ask_prober(
    me: &UserName,
    endpoint: &Endpoint,
    target: &DialTarget,
    port: u16,
    deadline: ExaminationDeadline,
) -> (ProberReport, Option<UntrustedText>, Option<MeasuredPath>) {
    let user = target.user.clone();
    let dial_limit = deadline.within(DIAL_LIMIT);
    let dialed = timeout(dial_limit, link::dial(endpoint, target, me, &[])).await;
    let Ok(Ok(link)) = dialed else {
        let path = match dialed {
            Ok(Err(LinkError::MtuTooSmall(_))) => {
                target.addresses.first().and_then(|address| narrow_path(&user, *address))
            }
            _ => None,
        };
        // Of one who had no time to answer, nothing is known.
        let is_late = dialed.is_err() && dial_limit < DIAL_LIMIT;
        let result = if is_late { ProberResult::Untried } else { ProberResult::Absent };
        return (ProberReport { user, result }, None, path);
    };
    let looks = async {
        if !link.has_capability(PROBE_CAPABILITY) {
            return ProberResult::TooOld;
        }
        match timeout(deadline.within(LOOK_LIMIT), link.request(&PeerRequest::Probe { port })).await {
            Ok(answer) => result_of(answer, link.user()),
            Err(_) => ProberResult::Unanswered,
        }
    };
    let (result, path) = tokio::join!(looks, measure_link(&link, deadline));
    let agent = link.agent().clone();
    link.close(PeerErrorCode::Done);
    (ProberReport { user, result }, Some(agent), path)
}

fn result_of(answer: Result<PeerReply, StreamError>, prober: &UserName) -> ProberResult {
    match answer {
        Ok(PeerReply::Probe { ip, answered: true, .. }) => ProberResult::Reached(ip.to_canonical()),
        Ok(PeerReply::Probe { ip, .. }) => ProberResult::Unreached(ip.to_canonical()),
        Err(StreamError::Refused { code: PeerErrorCode::Busy, message }) => ProberResult::Later(message),
        Ok(_) => ProberResult::TooOld,
        Err(error) => {
            // There was a link: whatever came of the request says nothing of the way.
            tracing::info!("{prober} doesn't look: {error}");
            ProberResult::Unanswered
        }
    }
}

/// Measures the largest packets on the way to a link's other side; `None` within this machine, and if the time is too short
/// to find them.
pub(super) async fn measure_link(link: &Link, deadline: ExaminationDeadline) -> Option<MeasuredPath> {
    let path = narrow_path(link.user(), link.address())?;
    let overhead = udp_overhead(path.ip);
    let wanted = u16::try_from(path.sent.saturating_sub(overhead)).unwrap_or(u16::MAX);
    let limit = deadline.within(MTU_LIMIT);
    let payload = link.measure_payload(wanted, limit).await;
    if payload < wanted && limit < MTU_LIMIT {
        return None;
    }
    Some(MeasuredPath { arrived: u32::from(payload).saturating_add(overhead).min(path.sent), ..path })
}

/// Returns a path on which nothing arrived yet; `None` within this machine.
pub(super) fn narrow_path(user: &UserName, address: SocketAddr) -> Option<MeasuredPath> {
    path_to(&user.to_string(), address)
}

/// Returns a path to `address` on which nothing arrived yet; `None` within this machine.
pub(super) fn path_to(to: &str, address: SocketAddr) -> Option<MeasuredPath> {
    let ip = address.ip().to_canonical();
    let sent = sys::route_mtu(ip).filter(|mtu| !is_within_machine(ip, *mtu))?;
    let source = sys::route_source(SocketAddr::new(ip, address.port()));
    let local = sys::local_addresses().into_iter().find(|local| Some(local.ip) == source);
    let interface = local.map(|local| local.interface);
    let interface_mtu = interface.as_deref().and_then(sys::interface_mtu);
    Some(MeasuredPath { to: to.to_owned(), ip, sent, arrived: 0, interface, interface_mtu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_linked_and_refuses_is_not_absent() {
        let refused = |code| {
            let answer = Err(StreamError::Refused { code, message: "not now".into() });
            result_of(answer, &"bob".parse().unwrap())
        };
        assert_eq!(refused(PeerErrorCode::Busy), ProberResult::Later("not now".into()));
        for code in [PeerErrorCode::Limit, PeerErrorCode::Internal] {
            assert_eq!(refused(code), ProberResult::Unanswered);
        }
    }
}
