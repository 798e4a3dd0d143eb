//! Findings about the size of packets on the way to others.

use std::net::IpAddr;

use localization::tr;

use super::report::{CheckName, Finding, ReportLine, short_list};
use crate::net::needed_mtu;
use crate::util::shell_words::shell_quote;

/// The largest packets on the way to somebody, in bytes with the headers of IP and UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MeasuredPath {
    /// The tracker, or a user.
    pub(super) to: String,
    pub(super) ip: IpAddr,
    /// The largest that this machine sends.
    pub(super) sent: u32,
    /// The largest that arrived.
    pub(super) arrived: u32,
    /// The interface on the way.
    pub(super) interface: Option<String>,
    /// The MTU of that interface.
    pub(super) interface_mtu: Option<u32>,
}

impl MeasuredPath {
    /// Bytes by which the search for the largest packet may be wrong: QUIC ends it when it is that close.
    const TOLERANCE: u32 = 24;

    const fn is_too_narrow(&self) -> bool {
        self.arrived < needed_mtu(self.ip) || self.sent < needed_mtu(self.ip)
    }

    /// True if not even this machine's own interface takes the packets that QUIC needs.
    pub(super) fn is_first_hop_narrow(&self) -> bool {
        self.interface_mtu.is_some_and(|mtu| mtu < needed_mtu(self.ip))
    }

    const fn is_narrow(&self) -> bool {
        self.arrived.saturating_add(Self::TOLERANCE) < self.sent
    }

    fn set_mtu(&self, mtu: u32) -> Option<String> {
        let interface = self.interface.as_deref()?;
        Some(format!("sudo ip link set mtu {mtu} dev {}", shell_quote(&[interface])))
    }
}

/// The size of packets that others get from this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathFinding(Vec<MeasuredPath>);

impl PathFinding {
    /// Returns the finding about measured ways; the narrowest is told.
    pub(super) fn of(paths: Vec<MeasuredPath>) -> Self {
        Self(paths)
    }
}

impl Finding for PathFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Packets;
        const USUAL_MTU: u32 = 1500;
        let rank = |path: &&MeasuredPath| (!path.is_too_narrow(), !path.is_narrow(), path.arrived);
        let Some(worst) = self.0.iter().min_by_key(rank) else {
            let text = tr!("their size isn't known: nobody answered who could tell");
            return ReportLine::note(CHECK, "unmeasured", text);
        };
        let (to, arrived, sent) = (&worst.to, worst.arrived, worst.sent);
        let needed = needed_mtu(worst.ip);
        if worst.is_too_narrow() {
            // A route's MTU includes what was learnt about the rest of the way; the interface's own is the one to change.
            if let Some(mtu) = worst.interface_mtu.filter(|mtu| *mtu < needed) {
                let interface = worst.interface.as_deref().unwrap_or_default();
                let text = tr!("{interface} takes {mtu} bytes, and QUIC needs {needed}:", interface, mtu, needed);
                return ReportLine::problem(CHECK, "interface_too_narrow", text).with_remedy(worst.set_mtu(USUAL_MTU));
            }
            let text = tr!(
                "packets of {needed} bytes, the least that QUIC needs, don't reach {to}: some interface or switch on the \
                 way has a smaller MTU",
                needed,
                to
            );
            return ReportLine::problem(CHECK, "path_too_narrow", text);
        }
        if worst.is_narrow() {
            let text = tr!(
                "above about {arrived} bytes they vanish on the way to {to}, and up to {sent} are sent:",
                arrived,
                to,
                sent
            );
            return ReportLine::warning(CHECK, "black_hole", text).with_remedy(worst.set_mtu(arrived));
        }
        let mut names: Vec<String> = Vec::new();
        for path in &self.0 {
            if !names.contains(&path.to) {
                names.push(path.to.clone());
            }
        }
        ReportLine::good(CHECK, "whole", tr!("{arrived} bytes reach {names}", arrived, names = short_list(&names, 3)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Severity;
    use super::*;

    fn path(to: &str, sent: u32, arrived: u32) -> MeasuredPath {
        let (interface, interface_mtu) = (Some("eth0".to_owned()), Some(1500));
        MeasuredPath { to: to.to_owned(), ip: [10, 0, 0, 1].into(), sent, arrived, interface, interface_mtu }
    }

    fn line(paths: Vec<MeasuredPath>) -> ReportLine {
        PathFinding::of(paths).line()
    }

    #[test]
    fn the_narrowest_way_is_told() {
        let whole = line(vec![path("the tracker", 1500, 1500), path("bob", 1500, 1480)]);
        assert_eq!((whole.code, &*whole.text), ("whole", "1480 bytes reach the tracker, bob"));
        let hole = line(vec![path("bob", 1500, 1500), path("the tracker", 1500, 1280)]);
        assert_eq!((hole.code, hole.severity), ("black_hole", Severity::Warning));
        assert!(hole.text.contains("1280 bytes they vanish on the way to the tracker"), "{hole:?}");
        assert_eq!(hole.remedy.as_deref(), Some("sudo ip link set mtu 1280 dev eth0"));
        assert_eq!(line(Vec::new()).code, "unmeasured");
    }

    #[test]
    fn a_way_too_narrow_for_quic_is_a_problem_and_blames_the_right_place() {
        let along = line(vec![path("bob", 1500, 68)]);
        assert_eq!((along.code, along.remedy), ("path_too_narrow", None));
        let here = MeasuredPath { interface_mtu: Some(1100), ..path("bob", 1100, 1100) };
        let here = line(vec![here]);
        assert_eq!(here.code, "interface_too_narrow");
        assert_eq!(here.remedy.as_deref(), Some("sudo ip link set mtu 1500 dev eth0"));
    }

    #[test]
    fn an_odd_interface_breaks_no_command() {
        let odd = MeasuredPath { interface: Some("a b;$(x)".to_owned()), ..path("bob", 1500, 1280) };
        assert_eq!(line(vec![odd]).remedy.as_deref(), Some("sudo ip link set mtu 1280 dev 'a b;$(x)'"));
    }
}
