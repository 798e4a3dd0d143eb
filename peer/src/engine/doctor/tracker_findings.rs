//! Findings about the tracker: reachable or not and why, announced, its clock.

use std::time::Duration;

use localization::tr;
use shared::UserName;
use shared::account_name::shell_operand;

use super::report::{CheckName, Finding, ReportLine, rough_duration};
use crate::engine::ErrorKind;

/// Difference of the clocks that nobody notices, and difference from which on the times of messages confuse people.
const SMALL_DIFFERENCE: Duration = Duration::from_secs(5);
const LARGE_DIFFERENCE: Duration = Duration::from_secs(60);

/// The reason why the tracker isn't reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TrackerFault {
    /// Its name has no address.
    NameUnknown(String),
    /// Its machine refuses connections to the port.
    Refused,
    /// Its machine is there, and connections to the port get no answer.
    PortDropped,
    NoHost,
    /// This machine has no way to such an address.
    NoRoute,
    /// A firewall of this machine forbids it.
    Forbidden,
    /// Nothing answers, and nothing tells why.
    Silent,
    /// The port takes connections, and TLS gets no answer.
    TlsSilent,
    /// An error in its own words: another key, no tracker, a refusal.
    Other {
        why: String,
        kind: ErrorKind,
    },
}

/// The connection to the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TrackerFinding {
    Reached {
        address: String,
        took: Duration,
    },
    Unreached {
        address: String,
        /// TCP port.
        port: u16,
        is_ipv6: bool,
        fault: TrackerFault,
    },
    /// None was ever used here, and none was given.
    NotChosen,
}

impl Finding for TrackerFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Tracker;
        match self {
            Self::Reached { address, took } => {
                let text = tr!("{address} answers by TCP and TLS after {time}", address, time = rough_duration(*took));
                ReportLine::good(CHECK, "reached", text)
            }
            Self::NotChosen => ReportLine::note(CHECK, "not_chosen", tr!("none is known yet on this machine")),
            Self::Unreached { address, port, is_ipv6, fault } => fault_line(address, *port, *is_ipv6, fault),
        }
    }
}

fn fault_line(address: &str, port: u16, is_ipv6: bool, fault: &TrackerFault) -> ReportLine {
    let (code, text, remedy) = match fault {
        TrackerFault::NameUnknown(why) => ("name_unknown", format!("{address}: {why}"), None),
        TrackerFault::Refused => {
            let text = tr!(
                "{address}: the machine refuses TCP port {port}: no tracker runs there; on that machine:",
                address,
                port
            );
            ("refused", text, Some("tracker".to_owned()))
        }
        TrackerFault::PortDropped => {
            let text = tr!(
                "{address}: the machine is there, but TCP port {port} is silent: a firewall drops it; on that machine:",
                address,
                port
            );
            ("tcp_blocked", text, Some(format!("sudo ufw allow {port}/tcp")))
        }
        TrackerFault::NoHost => ("no_host", tr!("{address}: no machine has this address now", address), None),
        TrackerFault::NoRoute => {
            let family = if is_ipv6 { "IPv6" } else { "IPv4" };
            let text =
                tr!("{address}: this machine has no way to it: no {family} address, or no route", address, family);
            // Without options, `ip route` shows IPv4 only.
            ("no_route", text, Some("ip route".to_owned()).filter(|_| !is_ipv6))
        }
        TrackerFault::Forbidden => {
            let text = tr!("{address}: a firewall of this machine forbids TCP port {port}", address, port);
            ("forbidden", text, None)
        }
        TrackerFault::Silent => {
            let text =
                tr!("{address}: no answer: machine or network off, or a firewall drops TCP port {port}", address, port);
            ("silent", text, None)
        }
        TrackerFault::TlsSilent => {
            let text =
                tr!("{address} takes TCP connections, but TLS gets no answer: stopped, or packets get lost", address);
            ("tls_silent", text, None)
        }
        TrackerFault::Other { why, kind } => {
            return ReportLine::problem(CheckName::Tracker, "error", why.as_str()).of_kind(*kind);
        }
    };
    ReportLine::problem(CheckName::Tracker, code, text).with_remedy(remedy)
}

/// The tracker's announcement on the local network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DiscoveryFinding {
    Announced {
        address: String,
    },
    /// The account's tracker is announced, and reached only at another address than the one on record.
    Elsewhere {
        address: String,
        user: UserName,
    },
    /// No tracker is known here, and these are announced.
    Found {
        addresses: Vec<String>,
    },
    NotAnnounced,
    Impossible(String),
    /// By `--no-mdns`.
    Skipped,
}

impl Finding for DiscoveryFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Discovery;
        match self {
            Self::Announced { address } => {
                ReportLine::good(CHECK, "announced", tr!("the tracker is announced here, at {address}", address))
            }
            Self::Elsewhere { address, user } => {
                let remedy = format!("peer login --tracker {address} {}", shell_operand(user));
                let text = tr!("the tracker is at {address} now:", address);
                ReportLine::warning(CHECK, "moved", text).with_remedy(remedy)
            }
            Self::Found { addresses } => {
                let text = tr!("announced here: {list}", list = super::report::short_list(addresses, 2));
                ReportLine::good(CHECK, "found", text)
            }
            Self::NotAnnounced => {
                let text = tr!("the tracker isn't announced on this network: name it with --tracker");
                ReportLine::note(CHECK, "not_announced", text)
            }
            Self::Impossible(why) => ReportLine::warning(CHECK, "impossible", why.as_str()),
            Self::Skipped => ReportLine::note(CHECK, "skipped", tr!("not listened to (--no-mdns)")),
        }
    }
}

/// The clock of this machine against that of the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClockFinding {
    Compared {
        /// Milliseconds by which this machine's clock is ahead.
        ahead_ms: i64,
        /// Milliseconds that the comparison may be wrong by: half the round trip.
        slack_ms: i64,
    },
    /// The tracker is of a version that doesn't tell its time.
    Untold,
}

impl ClockFinding {
    /// Compares the tracker's clock with ours before the request and after its reply; all in milliseconds since 1970.
    pub(super) fn compare(before_ms: i64, theirs_ms: i64, after_ms: i64) -> Self {
        let slack_ms = after_ms.saturating_sub(before_ms).max(0) / 2;
        Self::Compared { ahead_ms: before_ms.saturating_add(slack_ms).saturating_sub(theirs_ms), slack_ms }
    }
}

impl Finding for ClockFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Clock;
        let Self::Compared { ahead_ms, slack_ms } = self else {
            let text = tr!("the tracker doesn't tell its time: it is an older version");
            return ReportLine::note(CHECK, "untold", text);
        };
        // Only what exceeds the error is certain: a slow reply must not look like a wrong clock.
        let certain = ahead_ms.unsigned_abs().saturating_sub(slack_ms.unsigned_abs());
        let (difference, certain) = (Duration::from_millis(ahead_ms.unsigned_abs()), Duration::from_millis(certain));
        if certain < SMALL_DIFFERENCE {
            return ReportLine::good(CHECK, "agrees", tr!("agrees with the tracker's"));
        }
        let (is_ahead, time) = (*ahead_ms > 0, rough_duration(difference));
        if certain < LARGE_DIFFERENCE {
            let text = match is_ahead {
                true => tr!("{time} ahead of the tracker's", time),
                false => tr!("{time} behind the tracker's", time),
            };
            return ReportLine::note(CHECK, "differs", text);
        }
        let text = match is_ahead {
            true => tr!("{time} ahead of the tracker's: times of messages are wrong, here or there", time),
            false => tr!("{time} behind the tracker's: times of messages are wrong, here or there", time),
        };
        ReportLine::warning(CHECK, "wrong", text).with_remedy("sudo timedatectl set-ntp true".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Severity;
    use super::*;

    #[test]
    fn clocks_are_compared_in_the_middle_of_the_round_trip() {
        let severity = |before, theirs, after| ClockFinding::compare(before, theirs, after).line().severity;
        assert_eq!(severity(1000, 1010, 1020), Severity::Good);
        // A slow answer says little.
        assert_eq!(severity(0, 9_000, 10_000), Severity::Good);
        assert_eq!(severity(20_000, 0, 20_000), Severity::Note);
        let ahead = ClockFinding::compare(3_600_000, 0, 3_600_010).line();
        assert_eq!((ahead.severity, ahead.text.starts_with("60 min ahead of")), (Severity::Warning, true), "{ahead:?}");
        let behind = ClockFinding::compare(0, 3_600_000 * 24 * 365, 0).line();
        assert!(behind.text.starts_with("365 days behind the tracker's") && behind.remedy.is_some(), "{behind:?}");
        assert_eq!(severity(i64::MIN, i64::MAX, i64::MAX), Severity::Warning);
        assert_eq!(ClockFinding::Untold.line().severity, Severity::Note);
    }

    #[test]
    fn a_blocked_port_is_told_from_a_tracker_that_is_not_there() {
        let line = |fault| {
            let address = "10.0.0.9:8000".to_owned();
            TrackerFinding::Unreached { address, port: 8000, is_ipv6: false, fault }.line()
        };
        let blocked = line(TrackerFault::PortDropped);
        assert_eq!((blocked.code, blocked.remedy.as_deref()), ("tcp_blocked", Some("sudo ufw allow 8000/tcp")));
        assert_eq!(line(TrackerFault::Refused).remedy.as_deref(), Some("tracker"));
        assert_eq!(line(TrackerFault::NoRoute).code, "no_route");
        let other = TrackerFault::Other { why: "x".into(), kind: ErrorKind::IdentityChanged };
        let mut report = super::super::report::DoctorReport::default();
        report.push(&TrackerFinding::Unreached { address: String::new(), port: 1, is_ipv6: true, fault: other });
        assert_eq!(report.failure().unwrap().kind(), ErrorKind::IdentityChanged);
    }
}
