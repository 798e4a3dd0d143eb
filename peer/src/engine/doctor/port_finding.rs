//! The finding about this machine's UDP port, as others see it.

use std::net::IpAddr;

use localization::tr;
use shared::account_name::shell_operand;
use shared::{UntrustedText, UserName};

use super::network_findings::allow_command;
use super::report::{CheckName, Finding, ReportLine, short_list};
use crate::sys::FirewallManager;

/// Names in one line.
const MAX_NAMED: usize = 3;

/// The result of one peer that was asked to look from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProberResult {
    /// It reached the port at this address.
    Reached(IpAddr),
    /// It sent packets to this address, and nothing came back.
    Unreached(IpAddr),
    /// It looked less than a minute ago, in its own words.
    Later(UntrustedText),
    /// Its version can't look.
    TooOld,
    /// It was reached, and didn't look.
    Unanswered,
    /// No time was left to reach it.
    Untried,
    /// It can't be reached.
    Absent,
}

/// A peer that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProberReport {
    pub(super) user: UserName,
    pub(super) result: ProberResult,
}

/// The UDP port of this machine, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortFinding {
    pub(super) port: u16,
    pub(super) reports: Vec<ProberReport>,
    pub(super) firewall: Option<FirewallManager>,
    pub(super) has_ipv6: bool,
    /// The reason why the port can't be opened at all.
    pub(super) obstacle: Option<String>,
}

impl PortFinding {
    /// Returns true if a peer reached the port, false if none did that looked; `None` if none looked.
    pub(super) fn is_reached(&self) -> Option<bool> {
        let has = |is_wanted: fn(&ProberResult) -> bool| self.reports.iter().any(|one| is_wanted(&one.result));
        // One peer that gets through proves that the port is open; the others may be hindered on their own way.
        if has(|result| matches!(result, ProberResult::Reached(_))) {
            return Some(true);
        }
        has(|result| matches!(result, ProberResult::Unreached(_))).then_some(false)
    }

    fn names(&self, is_wanted: fn(&ProberResult) -> bool) -> Vec<String> {
        self.reports.iter().filter(|one| is_wanted(&one.result)).map(|one| one.user.to_string()).collect()
    }

    fn unjudged_line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Port;
        let later = self.reports.iter().find_map(|one| match &one.result {
            ProberResult::Later(words) => Some((&one.user, words)),
            _ => None,
        });
        if let Some((user, words)) = later {
            return ReportLine::note(CHECK, "later", tr!("{user} looks again later: {why}", user, why = words));
        }
        let old = self.names(|result| matches!(result, ProberResult::TooOld));
        let absent = self.names(|result| matches!(result, ProberResult::Absent));
        let port = self.port;
        if !old.is_empty() {
            let list = short_list(&old, MAX_NAMED);
            let text = tr!("{port}: nobody here can look from outside ({list} is older)", port, list);
            return ReportLine::note(CHECK, "nobody_can_look", text);
        }
        // One link is enough to know that UDP gets through.
        let unanswered = self.names(|result| matches!(result, ProberResult::Unanswered));
        if !unanswered.is_empty() {
            let list = short_list(&unanswered, MAX_NAMED);
            let text = tr!("{port}: nobody looked from outside ({list} was reached and gave no answer)", port, list);
            return ReportLine::note(CHECK, "nobody_looked", text);
        }
        let is_any_untried = self.reports.iter().any(|one| matches!(one.result, ProberResult::Untried));
        match absent.as_slice() {
            [] | [_] if is_any_untried => {
                let text = tr!("{port}: nobody looked from outside: the time was up", port);
                ReportLine::note(CHECK, "nobody_looked", text)
            }
            [] => {
                let text = tr!("{port}: nobody else is online who could look from outside", port);
                ReportLine::note(CHECK, "nobody_online", text)
            }
            // A single one may have left a moment ago; several that are silent have one cause between.
            [one] => {
                let operand = self.reports.first().map(|one| shell_operand(&one.user).into_owned()).unwrap_or_default();
                let text = tr!("{user} doesn't answer over UDP; look into it:", user = one);
                ReportLine::warning(CHECK, "no_answer", text).with_remedy(format!("peer doctor {operand}"))
            }
            several => {
                let text = tr!(
                    "none of {list} answers over UDP: a firewall, or a network that keeps its clients apart",
                    list = short_list(several, MAX_NAMED)
                );
                ReportLine::problem(CHECK, "udp_blocked", text)
            }
        }
    }
}

impl Finding for PortFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Port;
        let port = self.port;
        if let Some(why) = &self.obstacle {
            return ReportLine::problem(CHECK, "not_opened", why.as_str());
        }
        let Some(is_reached) = self.is_reached() else { return self.unjudged_line() };
        let ip = self.reports.iter().find_map(|one| match (&one.result, is_reached) {
            (ProberResult::Reached(ip), true) | (ProberResult::Unreached(ip), false) => Some(*ip),
            _ => None,
        });
        let place = ip.map_or_else(|| port.to_string(), |ip| std::net::SocketAddr::new(ip, port).to_string());
        let reached = self.names(|result| matches!(result, ProberResult::Reached(_)));
        let unreached = self.names(|result| matches!(result, ProberResult::Unreached(_)));
        if is_reached && unreached.is_empty() {
            let text = tr!("{list} reaches {address}", list = short_list(&reached, MAX_NAMED), address = place);
            return ReportLine::good(CHECK, "reached", text);
        }
        let remedy = self.firewall.as_ref().map(|manager| allow_command(manager, port, self.has_ipv6));
        let unreached = short_list(&unreached, MAX_NAMED);
        if is_reached {
            let reached = short_list(&reached, MAX_NAMED);
            let text = tr!(
                "{reached} reaches {address}, {unreached} doesn't: something between drops the packets",
                reached,
                address = place,
                unreached
            );
            return ReportLine::warning(CHECK, "partly_reached", text).with_remedy(remedy);
        }
        let text = match self.firewall {
            Some(_) => tr!(
                "{list} can't reach {address}: this machine's firewall drops the packets:",
                list = unreached,
                address = place
            ),
            None => tr!(
                "{list} can't reach {address}: something drops the packets: a firewall here or between, or a Wi-Fi that keeps its clients apart",
                list = unreached,
                address = place
            ),
        };
        ReportLine::problem(CHECK, "udp_blocked", text).with_remedy(remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Severity;
    use super::*;

    fn line(words: &[(&str, ProberResult)], firewall: Option<FirewallManager>) -> ReportLine {
        let report = |(user, result): &(&str, ProberResult)| ProberReport {
            user: user.parse().unwrap(),
            result: result.clone(),
        };
        let reports = words.iter().map(report).collect();
        PortFinding { port: 40_000, reports, firewall, has_ipv6: false, obstacle: None }.line()
    }

    fn reached() -> ProberResult {
        ProberResult::Reached([10, 0, 0, 1].into())
    }

    fn unreached() -> ProberResult {
        ProberResult::Unreached([10, 0, 0, 1].into())
    }

    #[test]
    fn a_blocked_port_is_named_with_the_command_of_the_firewall_in_charge() {
        let blocked = line(&[("bob", unreached())], Some(FirewallManager::Ufw));
        assert_eq!((blocked.code, blocked.severity), ("udp_blocked", Severity::Problem));
        assert_eq!(blocked.text, "bob can't reach 10.0.0.1:40000: this machine's firewall drops the packets:");
        assert_eq!(blocked.remedy.as_deref(), Some("sudo ufw allow 40000/udp"));
        let unknown = line(&[("bob", unreached())], None);
        assert_eq!((unknown.code, unknown.remedy), ("udp_blocked", None));
    }

    #[test]
    fn one_who_gets_through_proves_the_port_and_one_who_does_not_is_told() {
        let open = line(&[("bob", reached()), ("old", ProberResult::TooOld)], Some(FirewallManager::Ufw));
        assert_eq!((open.code, &*open.text), ("reached", "bob reaches 10.0.0.1:40000"));
        assert_eq!(line(&[("bob", reached()), ("carol", unreached())], None).code, "partly_reached");
    }

    #[test]
    fn without_a_prober_nothing_is_claimed() {
        assert_eq!(line(&[], None).code, "nobody_online");
        let old = line(&[("old", ProberResult::TooOld)], None);
        assert_eq!((old.severity, old.text.contains("nobody here can look from outside")), (Severity::Note, true));
        assert_eq!(line(&[("bob", ProberResult::Later("one a minute".into()))], None).code, "later");
        let one = line(&[("bob", ProberResult::Absent)], None);
        assert_eq!((one.severity, one.remedy.as_deref()), (Severity::Warning, Some("peer doctor bob")));
        let two = line(&[("bob", ProberResult::Absent), ("carol", ProberResult::Absent)], None);
        assert_eq!(two.severity, Severity::Problem);
        for other in [ProberResult::Unanswered, ProberResult::Absent] {
            let linked = line(&[("bob", ProberResult::Unanswered), ("carol", other)], None);
            assert_eq!((linked.code, linked.severity), ("nobody_looked", Severity::Note));
        }
    }
}
