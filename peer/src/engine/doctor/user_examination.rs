//! The examination of the way to one other user: presence, every address by itself, the link.

use std::time::Duration;

use localization::tr;
use shared::UserName;
use shared::peer::PeerErrorCode;
use shared::tracker::{ListPeersReply, ListPeersRequest, ListedPeer, TrackerRequest};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::examination_deadline::ExaminationDeadline;
use super::outside_probes::{WIDTH_LIMIT, measure_link, narrow_path, path_to};
use super::path_finding::{MeasuredPath, PathFinding};
use super::report::DoctorReport;
use super::user_findings::{
    AddressOrigin, HandshakeOutcome, LinkFinding, OutboxFinding, PresenceFinding, RecordFinding, UserAddressFinding,
};
use crate::engine::peer_lookup::{TrackerClient, absence_error, candidate_from_entry, target_from_record};
use crate::engine::{Error, LocalUser, run_blocking};
use crate::net::endpoint::Endpoint;
use crate::net::link::{self, DialTarget, Link, probe_address};
use crate::net::path_measurement::measure_path;
use crate::net::port_probe::{probe_host, probe_udp_port};
use crate::net::{LinkError, TrackerError};

/// Time for the tracker to say where the user is.
const TRACKER_LIMIT: Duration = Duration::from_millis(1300);
/// Time for a handshake, and for a link.
const HANDSHAKE_LIMIT: Duration = Duration::from_millis(2500);
/// Time for a sign of a machine.
const SIGN_LIMIT: Duration = Duration::from_millis(900);

/// The user's addresses, and how they became known.
struct UserLookup {
    presence: PresenceFinding,
    target: Option<DialTarget>,
    is_recorded: bool,
}

/// Examines the way to `user`. Fails with [`Error::Internal`], or [`Error::Profile`] if the profile can't be read.
pub async fn examine_user(me: &LocalUser, user: &UserName) -> Result<DoctorReport, Error> {
    let deadline = ExaminationDeadline::begin();
    let (profile, whom) = (me.profile.clone(), user.clone());
    let (record, waiting) = run_blocking(move || {
        let waiting =
            profile.queued_counts()?.into_iter().find(|queued| queued.user == whom).map_or(0, |queued| queued.count);
        let record = if profile.is_blocked(&whom)? {
            RecordFinding::Blocked { user: whom }
        } else if let Some(known) = profile.known_user(&whom)? {
            RecordFinding::Known { user: whom, is_verified: known.verified }
        } else {
            RecordFinding::Stranger { user: whom }
        };
        Ok((record, waiting))
    })
    .await?;
    let mut report = DoctorReport::default();
    report.push(&record);
    let UserLookup { presence, target, is_recorded } = find_user(me, user, deadline).await?;
    report.push(&presence);
    if let Some(target) = target {
        examine_target(me, &target, is_recorded, deadline, &mut report).await?;
    }
    if waiting > 0 {
        report.push(&OutboxFinding { waiting });
    }
    Ok(report)
}

/// Asks the tracker where the user is; without it, and for one who is offline, the record tells.
async fn find_user(me: &LocalUser, user: &UserName, deadline: ExaminationDeadline) -> Result<UserLookup, Error> {
    let asked = timeout(deadline.within(TRACKER_LIMIT), ask_tracker(me, user)).await;
    let (presence, target) = match asked {
        Ok(Ok((entry, local))) => {
            let (who, entry) = (me.clone(), entry);
            match run_blocking(move || candidate_from_entry(&who, &entry, local)).await {
                Ok(target) => (PresenceFinding::Listed { addresses: target.addresses.len() }, Some(target)),
                Err(error) => (refused(&error), None),
            }
        }
        Ok(Err(Error::Offline(user))) => (PresenceFinding::Offline { user }, None),
        // Only a tracker out of reach leaves the word to the record: a refusal is its answer.
        Ok(Err(Error::Tracker(error @ TrackerError::Unreachable { .. }))) => {
            return recorded_user(me, user, error.to_string()).await;
        }
        Ok(Err(error)) => (refused(&error), None),
        Err(_) => {
            let why = tr!("the tracker {address} doesn't answer in time", address = me.tracker);
            return recorded_user(me, user, why).await;
        }
    };
    Ok(UserLookup { presence, target, is_recorded: false })
}

fn refused(error: &Error) -> PresenceFinding {
    PresenceFinding::Refused { why: error.to_string(), kind: error.kind() }
}

async fn recorded_user(me: &LocalUser, user: &UserName, why: String) -> Result<UserLookup, Error> {
    let (profile, whom) = (me.profile.clone(), user.clone());
    let record = run_blocking(move || Ok(profile.known_user(&whom)?)).await?;
    let target = record.filter(|record| !record.addresses.is_empty()).map(target_from_record);
    let addresses = target.as_ref().map_or(0, |target| target.addresses.len());
    Ok(UserLookup { presence: PresenceFinding::WithoutTracker { why, addresses }, target, is_recorded: true })
}

async fn ask_tracker(me: &LocalUser, user: &UserName) -> Result<(ListedPeer, Option<std::net::SocketAddr>), Error> {
    let mut tracker = me.connect_tracker().await?;
    let only = ListPeersRequest { user: Some(user.clone()), with_files: Some(false), ..ListPeersRequest::default() };
    let listed: ListPeersReply = tracker.call(&TrackerRequest::ListPeers(only)).await?;
    match listed.peers.into_iter().find(|entry| entry.user == *user) {
        Some(entry) => Ok((entry, TrackerClient::local_address(&tracker))),
        None => Err(absence_error(&mut tracker, user).await),
    }
}

async fn examine_target(
    me: &LocalUser,
    target: &DialTarget,
    is_recorded: bool,
    deadline: ExaminationDeadline,
    report: &mut DoctorReport,
) -> Result<(), Error> {
    let endpoint = Endpoint::client(&me.identity, None).map_err(|why| Error::link(&target.user, why))?;
    let linking = timeout(deadline.within(HANDSHAKE_LIMIT), link::dial(&endpoint, target, &me.user, &[]));
    let first = target.observed.or_else(|| target.addresses.first().copied());
    let width = async {
        match first {
            Some(address) => timeout(deadline.within(WIDTH_LIMIT), measure_path(address)).await.ok().flatten(),
            None => None,
        }
    };
    let trying = try_addresses(&endpoint, target, is_recorded, deadline);
    // Measured as soon as it is there: the looks by ICMP errors take as long as the handshakes.
    let linking = async {
        let linked = linking.await;
        let path = match &linked {
            Ok(Ok(link)) => measure_link(link, deadline).await,
            _ => None,
        };
        (linked, path)
    };
    let (addresses, (linked, path), width) = tokio::join!(trying, linking, width);
    addresses.iter().for_each(|address| report.push(address));
    let user = target.user.clone();
    let link = match linked {
        Ok(Ok(link)) => {
            let finding = linked_finding(&link);
            link.close(PeerErrorCode::Done);
            finding
        }
        Ok(Err(LinkError::Refused { code, message })) => LinkFinding::Refused { user, code, words: message },
        Ok(Err(error)) if addresses.iter().any(|one| one.fault().is_none()) => {
            LinkFinding::Failed { why: error.to_string() }
        }
        Ok(Err(_)) | Err(_) => LinkFinding::unreached(user, &addresses),
    };
    report.push(&link);
    // Without a link, the ICMP errors of a closed port may tell.
    let by_icmp = || {
        let (address, width) = first.zip(width)?;
        let path = path_to(&target.user.to_string(), address)?;
        Some(MeasuredPath { sent: width.route_mtu, arrived: width.arrived, ..path })
    };
    let narrow_here =
        || first.and_then(|address| narrow_path(&target.user, address)).filter(MeasuredPath::is_first_hop_narrow);
    if let Some(path) = path.or_else(by_icmp).or_else(narrow_here) {
        report.push(&PathFinding::of(vec![path]));
    }
    endpoint.close(PeerErrorCode::Done);
    endpoint.drain().await;
    Ok(())
}

fn linked_finding(link: &Link) -> LinkFinding {
    LinkFinding::Linked { user: link.user().clone(), agent: link.agent().clone(), round_trip: link.round_trip() }
}

/// Tries each address by itself, all at the same time.
async fn try_addresses(
    endpoint: &Endpoint,
    target: &DialTarget,
    is_recorded: bool,
    deadline: ExaminationDeadline,
) -> Vec<UserAddressFinding> {
    let mut tries = JoinSet::new();
    let (handshake_limit, sign_limit) = (deadline.within(HANDSHAKE_LIMIT), deadline.within(SIGN_LIMIT));
    for (position, address) in target.addresses.iter().copied().enumerate() {
        let origin = match Some(address) == target.observed {
            true => AddressOrigin::Observed,
            false if is_recorded => AddressOrigin::Recorded,
            false => AddressOrigin::Announced,
        };
        let (endpoint, key) = (endpoint.clone(), target.fingerprint);
        tries.spawn(async move {
            let begun = Instant::now();
            let handshake = async {
                let answered = probe_address(&endpoint, address, key, handshake_limit).await;
                (answered, begun.elapsed())
            };
            // An answered handshake needs no signs, but they run beside it: together they would take too long.
            let ((answered, elapsed), sign, host) =
                tokio::join!(handshake, probe_udp_port(address, sign_limit), probe_host(address, sign_limit));
            let (took, handshake) = match answered {
                Ok(took) => (took, HandshakeOutcome::Answered),
                Err(LinkError::OtherKey { .. }) => (elapsed, HandshakeOutcome::OtherKey),
                Err(LinkError::NoAnswer { .. } | LinkError::Lost(_)) => (elapsed, HandshakeOutcome::Silent),
                Err(error) => (elapsed, HandshakeOutcome::Failed(error.to_string())),
            };
            (position, UserAddressFinding { address, origin, handshake, took, sign, host })
        });
    }
    let mut all = tries.join_all().await;
    all.sort_by_key(|(position, _)| *position);
    all.into_iter().map(|(_, finding)| finding).collect()
}
