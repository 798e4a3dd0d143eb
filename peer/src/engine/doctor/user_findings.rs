//! Findings about one other user: known, present, and reached or not and why.

use std::net::SocketAddr;
use std::time::Duration;

use localization::tr;
use shared::account_name::shell_operand;
use shared::peer::PeerErrorCode;
use shared::{UntrustedText, UserName};

use super::report::{CheckName, Finding, ReportLine, rough_duration};
use crate::engine::ErrorKind;
use crate::net::port_probe::{HostPresence, PortProbeResult};

/// The record of a user in this profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecordFinding {
    Known { user: UserName, is_verified: bool },
    Stranger { user: UserName },
    Blocked { user: UserName },
}

impl Finding for RecordFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::User;
        match self {
            Self::Known { user, is_verified: true } => {
                ReportLine::good(CHECK, "verified", tr!("{user} is known, and the key was compared", user))
            }
            Self::Known { user, is_verified: false } => {
                ReportLine::good(CHECK, "known", tr!("{user} is known, by the key seen first", user))
            }
            Self::Stranger { user } => ReportLine::note(CHECK, "stranger", tr!("{user} was never met from here", user)),
            Self::Blocked { user } => {
                let text = tr!("{user} is blocked here: nothing is sent or taken", user);
                let line = ReportLine::problem(CHECK, "blocked", text).of_kind(ErrorKind::Refused);
                line.with_remedy(format!("peer unblock {}", shell_operand(user)))
            }
        }
    }
}

/// A user's presence at the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PresenceFinding {
    Listed {
        addresses: usize,
    },
    Offline {
        user: UserName,
    },
    /// The tracker's words: an unknown user, another key, a client that can't be reached.
    Refused {
        why: String,
        kind: ErrorKind,
    },
    /// The tracker can't be asked; so many addresses are on record.
    WithoutTracker {
        why: String,
        addresses: usize,
    },
}

impl Finding for PresenceFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Presence;
        match self {
            Self::Listed { addresses } => {
                let text = tr!("online at the tracker, with {n} address"
                    | "online at the tracker, with {n} addresses" % *addresses);
                ReportLine::good(CHECK, "listed", text)
            }
            Self::Offline { user } => {
                let text = tr!("{user} isn't online at the tracker; there, this has to run:", user);
                let line = ReportLine::problem(CHECK, "offline", text).of_kind(ErrorKind::Unavailable);
                line.with_remedy("peer serve".to_owned())
            }
            Self::Refused { why, kind } => ReportLine::problem(CHECK, "refused", why.as_str()).of_kind(*kind),
            Self::WithoutTracker { why, addresses } => {
                let text =
                    tr!("{why}; {n} address is on record" | "{why}; {n} addresses are on record" % *addresses, why);
                ReportLine::problem(CHECK, "no_tracker", text).with_remedy("peer doctor".to_owned())
            }
        }
    }
}

/// The origin of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressOrigin {
    /// The tracker sees the user there.
    Observed,
    /// The user's peer announced it.
    Announced,
    /// It was the user's at the last meeting.
    Recorded,
}

/// The result of a handshake with one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HandshakeOutcome {
    Answered,
    /// Somebody else has the address.
    OtherKey,
    Silent,
    Failed(String),
}

/// One address of a user, and all that came back from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UserAddressFinding {
    pub(super) address: SocketAddr,
    pub(super) origin: AddressOrigin,
    pub(super) handshake: HandshakeOutcome,
    pub(super) took: Duration,
    /// The answer to a single byte, which tells why a handshake got none.
    pub(super) sign: PortProbeResult,
    pub(super) host: HostPresence,
}

/// The reason why a user's address is not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressFault {
    OtherKey,
    /// No program has the port.
    NobodyListens,
    /// The machine is there, and packets to the port vanish.
    PortDropped,
    NoHost,
    NoRoute,
    Forbidden,
    Silent,
    Failed,
}

impl UserAddressFinding {
    /// Returns why there was no link; `None` if there was one.
    pub(super) const fn fault(&self) -> Option<AddressFault> {
        Some(match (&self.handshake, &self.sign, self.host) {
            (HandshakeOutcome::Answered, _, _) => return None,
            (HandshakeOutcome::OtherKey, _, _) => AddressFault::OtherKey,
            (HandshakeOutcome::Failed(_), _, _) => AddressFault::Failed,
            (HandshakeOutcome::Silent, PortProbeResult::Refused, _) => AddressFault::NobodyListens,
            (HandshakeOutcome::Silent, PortProbeResult::NoRoute, _) => AddressFault::NoRoute,
            (HandshakeOutcome::Silent, PortProbeResult::Forbidden, _) => AddressFault::Forbidden,
            // Before `NoHost`, which a firewall of a machine that is there may pretend by its ICMP error.
            (HandshakeOutcome::Silent, _, HostPresence::There) => AddressFault::PortDropped,
            (HandshakeOutcome::Silent, PortProbeResult::NoHost, _) => AddressFault::NoHost,
            (HandshakeOutcome::Silent, _, HostPresence::Absent) => AddressFault::NoHost,
            (HandshakeOutcome::Silent, _, HostPresence::Unknown) => AddressFault::Silent,
        })
    }
}

impl Finding for UserAddressFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Address;
        let (address, time) = (self.address, rough_duration(self.took));
        let address = match self.origin {
            AddressOrigin::Observed => address.to_string(),
            AddressOrigin::Announced => tr!("{address} (announced)", address),
            AddressOrigin::Recorded => tr!("{address} (on record)", address),
        };
        let Some(fault) = self.fault() else {
            return ReportLine::good(CHECK, "answers", tr!("{address} answers after {time}", address, time));
        };
        let (code, text) = match fault {
            AddressFault::OtherKey => {
                ("other_key", tr!("{address}: somebody else answers after {time}", address, time))
            }
            AddressFault::NobodyListens => ("nobody_listens", tr!("{address}: no program has this port", address)),
            AddressFault::PortDropped => {
                ("dropped", tr!("{address}: machine there, port silent for {time}", address, time))
            }
            AddressFault::NoHost => ("no_host", tr!("{address}: no machine has this address now", address)),
            AddressFault::NoRoute => ("no_route", tr!("{address}: this machine has no way to it", address)),
            AddressFault::Forbidden => ("forbidden", tr!("{address}: a firewall of this machine forbids it", address)),
            AddressFault::Silent => ("silent", tr!("{address}: no answer within {time}", address, time)),
            AddressFault::Failed => match &self.handshake {
                HandshakeOutcome::Failed(why) => ("failed", format!("{address}: {why}")),
                _ => ("failed", address),
            },
        };
        ReportLine::note(CHECK, code, text)
    }
}

/// The link to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkFinding {
    Linked {
        user: UserName,
        agent: UntrustedText,
        round_trip: Duration,
    },
    /// An address answers, and the peer behind it refuses.
    Refused {
        user: UserName,
        code: PeerErrorCode,
        words: UntrustedText,
    },
    /// An address answers, and the link failed nevertheless.
    Failed {
        why: String,
    },
    /// No address answers.
    Unreached {
        user: UserName,
        fault: Option<(AddressFault, SocketAddr)>,
    },
}

impl LinkFinding {
    /// Returns the finding for addresses of which none answered: that of the likeliest counts most.
    pub(super) fn unreached(user: UserName, addresses: &[UserAddressFinding]) -> Self {
        // What a machine or this one said tells more than silence, and its own address more than one it announced.
        let rank = |one: &&UserAddressFinding| {
            (one.origin == AddressOrigin::Announced, one.fault() == Some(AddressFault::Silent))
        };
        let likeliest = addresses.iter().min_by_key(rank);
        Self::Unreached { user, fault: likeliest.and_then(|one| Some((one.fault()?, one.address))) }
    }
}

impl Finding for LinkFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Link;
        match self {
            Self::Linked { user, agent, round_trip } => {
                let agent: String = agent.safe_line().chars().take(32).collect();
                let time = rough_duration(*round_trip);
                let text = tr!("{user} welcomes you ({agent}); {time} there and back", user, agent, time);
                ReportLine::good(CHECK, "linked", text)
            }
            Self::Refused { user, code, words } => {
                let words = if words.is_empty() { code.to_string() } else { words.to_string() };
                let text = tr!("{user}'s peer answers and refuses: {why}", user, why = words);
                ReportLine::problem(CHECK, "refused", text).of_kind(ErrorKind::Refused)
            }
            Self::Failed { why } => ReportLine::problem(CHECK, "failed", why.as_str()),
            Self::Unreached { user, fault: None } => {
                ReportLine::problem(CHECK, "no_address", tr!("no address of {user} is known", user))
            }
            Self::Unreached { user, fault: Some((fault, address)) } => fault_line(user, *fault, *address),
        }
    }
}

fn fault_line(user: &UserName, fault: AddressFault, address: SocketAddr) -> ReportLine {
    let (ip, port) = (address.ip(), address.port());
    let there = Some("peer doctor".to_owned());
    let (code, text, remedy) = match fault {
        AddressFault::PortDropped => {
            let text = tr!(
                "{user}'s machine {ip} is there, but UDP port {port} is silent: a firewall there or between drops the packets; \
                 on {user}'s machine, this names the command:",
                user,
                ip,
                port
            );
            ("udp_blocked", text, there)
        }
        AddressFault::NobodyListens => {
            let text = tr!(
                "{user}'s machine {ip} has nothing at UDP port {port}: the app there has ended; it runs by:",
                user,
                ip,
                port
            );
            ("nobody_listens", text, Some("peer serve".to_owned()))
        }
        AddressFault::NoHost => {
            let text = tr!("no machine at {ip}: {user}'s is off, asleep or in another network", ip, user);
            ("no_host", text, None)
        }
        AddressFault::NoRoute => ("no_route", tr!("this machine has no way to {ip}; look here:", ip), there),
        AddressFault::Forbidden => {
            let text = tr!("a firewall of this machine forbids packets to {ip} UDP port {port}", ip, port);
            ("forbidden", text, there)
        }
        AddressFault::OtherKey => {
            let text = tr!(
                "somebody else answers at {address}: {user}'s address went to another machine, or somebody poses as {user}",
                address,
                user
            );
            return ReportLine::problem(CheckName::Link, "other_key", text).of_kind(ErrorKind::IdentityChanged);
        }
        AddressFault::Silent | AddressFault::Failed => {
            let text = tr!(
                "nothing comes back from {address}: {user}'s machine is off, in another network, or behind a firewall; on \
                 {user}'s machine, this tells:",
                address,
                user
            );
            ("silent", text, there)
        }
    };
    ReportLine::problem(CheckName::Link, code, text).with_remedy(remedy)
}

/// Messages that wait for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutboxFinding {
    pub(super) waiting: usize,
}

impl Finding for OutboxFinding {
    fn line(&self) -> ReportLine {
        let text =
            tr!("{n} message waits here to be delivered" | "{n} messages wait here to be delivered" % self.waiting);
        ReportLine::note(CheckName::Outbox, "waiting", text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Severity;
    use super::*;

    fn found(address: &str, origin: AddressOrigin, sign: PortProbeResult, host: HostPresence) -> UserAddressFinding {
        let (handshake, took) = (HandshakeOutcome::Silent, Duration::from_secs(3));
        UserAddressFinding { address: address.parse().unwrap(), origin, handshake, took, sign, host }
    }

    fn line(addresses: &[UserAddressFinding]) -> ReportLine {
        LinkFinding::unreached("bob".parse().unwrap(), addresses).line()
    }

    #[test]
    fn what_came_back_tells_who_is_at_fault() {
        let of = |sign, host| line(&[found("10.0.0.2:4000", AddressOrigin::Observed, sign, host)]).code;
        assert_eq!(of(PortProbeResult::Silent, HostPresence::There), "udp_blocked");
        assert_eq!(of(PortProbeResult::NoHost, HostPresence::There), "udp_blocked", "a firewall that rejects");
        assert_eq!(of(PortProbeResult::Refused, HostPresence::There), "nobody_listens");
        assert_eq!(of(PortProbeResult::NoHost, HostPresence::Absent), "no_host");
        assert_eq!(of(PortProbeResult::Silent, HostPresence::Absent), "no_host");
        assert_eq!(of(PortProbeResult::NoRoute, HostPresence::Absent), "no_route");
        assert_eq!(of(PortProbeResult::Silent, HostPresence::Unknown), "silent");
        assert_eq!(line(&[]).code, "no_address");
    }

    #[test]
    fn the_address_that_the_tracker_saw_counts_more_than_announced_ones() {
        let bridge = found("172.17.0.1:4000", AddressOrigin::Announced, PortProbeResult::Refused, HostPresence::There);
        let own = found("10.0.0.2:4000", AddressOrigin::Observed, PortProbeResult::Silent, HostPresence::There);
        let told = line(&[bridge, own]);
        assert_eq!((told.code, told.severity), ("udp_blocked", Severity::Problem));
        assert!(told.text.contains("10.0.0.2") && told.remedy.as_deref() == Some("peer doctor"), "{told:?}");
    }

    #[test]
    fn every_address_has_its_line() {
        let mut one = found("10.0.0.2:4000", AddressOrigin::Observed, PortProbeResult::Silent, HostPresence::Unknown);
        assert_eq!(one.line().text, "10.0.0.2:4000: no answer within 3 s");
        one.handshake = HandshakeOutcome::Answered;
        one.took = Duration::from_millis(2);
        assert_eq!(one.line(), ReportLine::good(CheckName::Address, "answers", "10.0.0.2:4000 answers after 2 ms"));
        one.handshake = HandshakeOutcome::OtherKey;
        assert_eq!((one.line().code, one.line().severity), ("other_key", Severity::Note));
    }

    #[test]
    fn words_of_others_move_no_cursor() {
        let linked = LinkFinding::Linked {
            user: "bob".parse().unwrap(),
            agent: "\u{1b}[2Jx".into(),
            round_trip: Duration::from_millis(1),
        };
        let refused = LinkFinding::Refused {
            user: "bob".parse().unwrap(),
            code: PeerErrorCode::Busy,
            words: "\u{1b}[2J\nlater".into(),
        };
        for line in [linked.line(), refused.line()] {
            assert!(!line.text.contains(['\u{1b}', '\n']), "{line:?}");
        }
    }
}
