//! The examination of this machine: all probes at the same time, and their findings in order.

use std::time::Duration;

use localization::tr;
use tokio::time::timeout;

use super::account_examination::{ExaminationRequest, examine_node, load_account, look_for_damage, measure_disk};
use super::account_findings::VersionFinding;
use super::examination_deadline::ExaminationDeadline;
use super::network_findings::{
    AddressFinding, BufferFinding, ContainerFinding, FirewallFinding, InterfaceFinding, OffloadFinding, TunnelFinding,
    has_ipv6,
};
use super::outside_probes::{ExaminedPort, OutsideProbes, WIDTH_LIMIT, look_from_outside, path_to};
use super::path_finding::{MeasuredPath, PathFinding};
use super::port_finding::PortFinding;
use super::report::DoctorReport;
use super::tracker_examination::{
    DiscoveryOutcome, TrackerExamination, examine_tracker, judge_announcements, listen_for_announcements,
};
use super::tracker_findings::TrackerFinding;
use crate::engine::{Error, LocalUser, run_blocking};
use crate::net::path_measurement::measure_path;
use crate::net::socket_abilities::probe_socket;
use crate::sys::{self, FirewallManager, LocalAddress};

/// Time to hear announcements and to prove them.
const DISCOVERY_LIMIT: Duration = Duration::from_millis(4500);
/// Time to recognize the firewall.
const FIREWALL_LIMIT: Duration = Duration::from_millis(1500);

/// The network as other peers and the tracker see it.
struct NetworkExamination {
    tracker: TrackerExamination,
    port: Result<u16, String>,
    outside: OutsideProbes,
}

/// Examines this machine. Fails with [`Error::Internal`] only.
pub async fn examine(request: ExaminationRequest) -> Result<DoctorReport, Error> {
    let deadline = ExaminationDeadline::begin();
    let loading = request.clone();
    let (me, mut account) = run_blocking(move || Ok(load_account(&loading))).await?;
    let profile = me.as_ref().map(|me| me.profile.clone());
    let home = request.home.clone();
    let on_disk = run_blocking(move || Ok((profile.as_ref().and_then(look_for_damage), measure_disk(&home))));
    let node = async {
        match &me {
            Some(me) => Some(examine_node(&me.profile).await),
            None => None,
        }
    };
    let network = async {
        match &me {
            Some(me) => Some(examine_network(me, deadline).await),
            None => None,
        }
    };
    let firewall = async { timeout(deadline.within(FIREWALL_LIMIT), sys::active_firewall()).await.ok().flatten() };
    let announcements = listen_for_announcements(me.as_ref(), request.no_mdns, deadline.within(DISCOVERY_LIMIT));
    // Boxed: the future of the examination would contain both, which are large.
    let (on_disk, node, network, firewall, announcements) =
        tokio::join!(on_disk, node, Box::pin(network), firewall, Box::pin(announcements));
    let (damage, disk) = on_disk?;
    // The account has one line, and damage matters more than who else can read it.
    if let Some(damage) = damage {
        account = damage;
    }
    let mut report = DoctorReport::default();
    report.push(&account);
    disk.iter().for_each(|disk| report.push(disk));
    let mut versions = VersionFinding::default();
    if let Some((node, version)) = node {
        report.push(&node);
        versions.node = version;
    }
    add_tracker(&mut report, me.as_ref(), network.as_ref(), announcements);
    if let Some(network) = &network {
        versions.tracker = network.tracker.version.clone();
        versions.peers = network.outside.agents.clone();
    }
    add_network(&mut report, network.as_ref(), firewall);
    report.push(&versions);
    Ok(report)
}

async fn examine_network(me: &LocalUser, deadline: ExaminationDeadline) -> NetworkExamination {
    let mut tracker = examine_tracker(me, deadline).await;
    let (present, local) = (std::mem::take(&mut tracker.present), tracker.local);
    let outside = async {
        match ExaminedPort::open(me) {
            Ok(port) => {
                let view = look_from_outside(me, &port, present, local, deadline).await;
                let number = port.number;
                port.close().await;
                (Ok(number), view)
            }
            Err(why) => (Err(why), OutsideProbes::default()),
        }
    };
    let to_tracker = measure_tracker(&tracker, deadline);
    let ((port, mut view), to_tracker) = tokio::join!(Box::pin(outside), to_tracker);
    // In front, as a line names only the first few.
    view.paths.splice(0..0, to_tracker);
    NetworkExamination { tracker, port, outside: view }
}

/// Measures the way to the tracker, if its machine answers.
async fn measure_tracker(tracker: &TrackerExamination, deadline: ExaminationDeadline) -> Option<MeasuredPath> {
    let remote = tracker.remote?;
    let width = timeout(deadline.within(WIDTH_LIMIT), measure_path(remote)).await.ok()??;
    let path = path_to(&tr!("the tracker"), remote)?;
    Some(MeasuredPath { sent: width.route_mtu, arrived: width.arrived, ..path })
}

fn add_tracker(
    report: &mut DoctorReport,
    me: Option<&LocalUser>,
    network: Option<&NetworkExamination>,
    announcements: DiscoveryOutcome,
) {
    let is_reached = network.is_some_and(|network| matches!(network.tracker.finding, TrackerFinding::Reached { .. }));
    match network {
        Some(network) => report.push(&network.tracker.finding),
        None => report.push(&TrackerFinding::NotChosen),
    }
    report.push(&judge_announcements(announcements, me, is_reached));
    if let Some(clock) = network.and_then(|network| network.tracker.clock.as_ref()) {
        report.push(clock);
    }
}

fn add_network(report: &mut DoctorReport, network: Option<&NetworkExamination>, firewall: Option<FirewallManager>) {
    let local: Vec<LocalAddress> = sys::local_addresses();
    let has_ipv6 = has_ipv6(&local);
    if let Some(network) = network {
        let (port, obstacle) = match &network.port {
            Ok(port) => (*port, None),
            Err(why) => (0, Some(why.clone())),
        };
        let reports = network.outside.reports.clone();
        let finding = PortFinding { port, reports, firewall: firewall.clone(), has_ipv6, obstacle };
        report.push(&finding);
        report.push(&PathFinding::of(network.outside.paths.clone()));
        let is_reached = finding.is_reached();
        report.push(&FirewallFinding { manager: firewall, port, is_reached, has_ipv6 });
    }
    let remote = network.and_then(|network| network.tracker.remote);
    let (tracker, route) = (remote.map(|remote| remote.ip().to_canonical()), remote.and_then(sys::route_source));
    report.push(&AddressFinding::of(&local));
    InterfaceFinding::of(&local, route).iter().for_each(|finding| report.push(finding));
    TunnelFinding::of(&local, tracker, route).iter().for_each(|finding| report.push(finding));
    ContainerFinding::of(&local, tracker).iter().for_each(|finding| report.push(finding));
    if let Ok(abilities) = probe_socket() {
        report.push(&BufferFinding(abilities));
        report.push(&OffloadFinding(abilities));
    }
}
