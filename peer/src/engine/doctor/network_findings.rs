//! Findings about this machine's network: addresses, interfaces, tunnels, bridges, the socket, the firewall.

use std::collections::BTreeMap;
use std::net::IpAddr;

use localization::tr;

use super::report::{CheckName, Finding, ReportLine, short_list};
use crate::engine::size_format::format_size;
use crate::net::addresses::is_link_local;
use crate::net::socket_abilities::SocketAbilities;
use crate::sys::{FirewallManager, InterfaceKind, LocalAddress};

/// Addresses that are named in a line.
const MAX_NAMED: usize = 3;

/// The addresses by which others on the local network reach this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AddressFinding {
    /// Each with its interface.
    v4: Vec<String>,
    v6: Vec<String>,
    /// Interfaces with addresses and without a carrier.
    unplugged: Vec<String>,
}

impl AddressFinding {
    pub(super) fn of(local: &[LocalAddress]) -> Self {
        let mut found = Self::default();
        let ordinary = |one: &&LocalAddress| one.kind == InterfaceKind::Ordinary && !one.ip.is_loopback();
        for one in local.iter().filter(ordinary) {
            if !one.is_running {
                if !found.unplugged.contains(&one.interface) {
                    found.unplugged.push(one.interface.clone());
                }
                continue;
            }
            let text = format!("{} ({})", one.ip, one.interface);
            match one.ip {
                IpAddr::V4(_) => found.v4.push(text),
                // Each interface has a link-local one, which says nothing; temporary ones change.
                IpAddr::V6(v6) if v6.is_unicast_link_local() || !one.is_permanent => {}
                IpAddr::V6(_) => found.v6.push(text),
            }
        }
        found
    }
}

impl Finding for AddressFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Addresses;
        let all: Vec<String> = self.v4.iter().chain(&self.v6).cloned().collect();
        let list = short_list(&all, MAX_NAMED);
        let text = match (self.v4.is_empty(), self.v6.is_empty()) {
            (true, true) => tr!("this machine is on no network: no address on a cable or in a Wi-Fi"),
            (true, false) => tr!("IPv6 only: {list}", list),
            (false, true) => tr!("{list}; no IPv6", list),
            (false, false) => list,
        };
        let unplugged = short_list(&self.unplugged, MAX_NAMED);
        let unplugged = (!self.unplugged.is_empty()).then(|| tr!("no carrier on {list}", list = unplugged));
        let text = [text].into_iter().chain(unplugged).collect::<Vec<_>>().join("; ");
        match (self.v4.is_empty(), self.v6.is_empty()) {
            (true, true) => ReportLine::problem(CHECK, "none", text).with_remedy("ip address".to_owned()),
            (true, false) => ReportLine::note(CHECK, "ipv6_only", text),
            (false, true) => ReportLine::good(CHECK, "ipv4_only", text),
            (false, false) => ReportLine::good(CHECK, "both_families", text),
        }
    }
}

/// Several network cards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InterfaceFinding {
    interfaces: Vec<String>,
    /// The one by which the tracker is reached.
    to_tracker: Option<String>,
    /// Two that are in one network.
    overlapping: Option<(String, String)>,
}

impl InterfaceFinding {
    /// Returns the finding; `None` unless there are several. `route` is this machine's address on the way to the tracker.
    pub(super) fn of(local: &[LocalAddress], route: Option<IpAddr>) -> Option<Self> {
        let is_card =
            |one: &&LocalAddress| one.kind == InterfaceKind::Ordinary && one.is_running && !is_link_local(one.ip);
        let cards: Vec<&LocalAddress> = local.iter().filter(is_card).collect();
        let by_name: BTreeMap<&str, &LocalAddress> = cards.iter().map(|one| (&*one.interface, *one)).collect();
        if by_name.len() < 2 {
            return None;
        }
        let to_tracker = cards.iter().find(|one| Some(one.ip) == route).map(|one| one.interface.clone());
        let overlap = cards.iter().flat_map(|one| cards.iter().map(move |other| (one, other))).find(|(one, other)| {
            // Of networks of unequal size the smaller one wins (longest prefix), which is never in doubt.
            // Each pair once; two addresses of one interface aren't in each other's way.
            one.index < other.index && one.prefix_len == other.prefix_len && one.has_in_network(other.ip)
        });
        let overlapping = overlap.map(|(one, other)| (one.interface.clone(), other.interface.clone()));
        Some(Self { interfaces: by_name.into_keys().map(str::to_owned).collect(), to_tracker, overlapping })
    }
}

impl Finding for InterfaceFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Interfaces;
        let list = short_list(&self.interfaces, MAX_NAMED);
        if let Some((one, other)) = &self.overlapping {
            let text = tr!("{one} and {other} are in one network: packets may leave by the wrong one", one, other);
            return ReportLine::warning(CHECK, "overlapping", text);
        }
        let text = match &self.to_tracker {
            Some(interface) => tr!("several: {list}; to the tracker by {interface}", list, interface),
            None => tr!("several: {list}", list),
        };
        ReportLine::note(CHECK, "several", text)
    }
}

/// Tunnels of VPNs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TunnelFinding {
    tunnels: Vec<String>,
    /// The tunnel and the card, where the first takes packets to a tracker that is in the network of the second.
    diverted: Option<(String, String)>,
}

impl TunnelFinding {
    /// Returns the finding; `None` without a tunnel.
    pub(super) fn of(local: &[LocalAddress], tracker: Option<IpAddr>, route: Option<IpAddr>) -> Option<Self> {
        let tunnels: Vec<&LocalAddress> = local.iter().filter(|one| one.kind == InterfaceKind::Tunnel).collect();
        let taking = tunnels.iter().find(|one| Some(one.ip) == route);
        let direct = local.iter().find(|one| {
            one.kind == InterfaceKind::Ordinary && one.is_running && tracker.is_some_and(|ip| one.has_in_network(ip))
        });
        let diverted = taking.zip(direct).map(|(tunnel, card)| (tunnel.interface.clone(), card.interface.clone()));
        let mut names: Vec<String> = tunnels.iter().map(|one| one.interface.clone()).collect();
        // A tunnel may have addresses of both families.
        names.sort();
        names.dedup();
        (!names.is_empty()).then_some(Self { tunnels: names, diverted })
    }
}

impl Finding for TunnelFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Vpn;
        match &self.diverted {
            Some((tunnel, card)) => {
                let text = tr!(
                    "{tunnel} takes the packets to the tracker, which is in {card}'s own network: let the VPN leave the local network alone",
                    tunnel,
                    card
                );
                ReportLine::warning(CHECK, "diverted", text)
            }
            None => {
                let list = short_list(&self.tunnels, MAX_NAMED);
                let text = tr!("{list}: packets to the local network pass it by", list);
                ReportLine::note(CHECK, "beside", text)
            }
        }
    }
}

/// Bridges between this machine and its own containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerFinding {
    bridges: Vec<String>,
    /// The bridge that has the tracker's address in its network.
    hiding: Option<String>,
}

impl ContainerFinding {
    /// Returns the finding; `None` without a bridge.
    pub(super) fn of(local: &[LocalAddress], tracker: Option<IpAddr>) -> Option<Self> {
        let inner = |one: &&LocalAddress| one.kind == InterfaceKind::Internal && !is_link_local(one.ip);
        let bridges: Vec<&LocalAddress> = local.iter().filter(inner).collect();
        // A tracker on this machine is reached whatever bridge has its address.
        let is_own = |ip: IpAddr| local.iter().any(|one| one.ip == ip);
        let hides = |one: &&&LocalAddress| tracker.is_some_and(|ip| one.has_in_network(ip) && !is_own(ip));
        let hiding = bridges.iter().find(hides).map(|one| one.interface.clone());
        let texts = bridges.iter().map(|one| format!("{} ({})", one.interface, one.ip)).collect::<Vec<_>>();
        (!texts.is_empty()).then_some(Self { bridges: texts, hiding })
    }
}

impl Finding for ContainerFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Containers;
        match &self.hiding {
            Some(bridge) => {
                let text = tr!(
                    "{bridge} has the tracker's address in its network: packets to the tracker go to containers; give {bridge} another network",
                    bridge
                );
                ReportLine::problem(CHECK, "hiding", text)
            }
            None => {
                let text = tr!("{list}: reaches only this machine", list = short_list(&self.bridges, 2));
                ReportLine::note(CHECK, "inner", text)
            }
        }
    }
}

/// The kernel's buffer for received packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BufferFinding(pub(super) SocketAbilities);

impl Finding for BufferFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Buffer;
        let SocketAbilities { receive_buffer, wanted_buffer, .. } = self.0;
        let granted = format_size(u64::try_from(receive_buffer).unwrap_or(u64::MAX));
        if !self.0.is_buffer_small() {
            return ReportLine::good(CHECK, "large", tr!("{size} for received packets", size = granted));
        }
        let text = tr!("{size} for received packets: fast senders overrun it", size = granted);
        let remedy = format!("sudo sysctl -w net.core.rmem_max={wanted_buffer}");
        ReportLine::warning(CHECK, "small", text).with_remedy(remedy)
    }
}

/// Segmentation offload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffloadFinding(pub(super) SocketAbilities);

impl Finding for OffloadFinding {
    fn line(&self) -> ReportLine {
        match self.0.send_segments {
            0 | 1 => {
                let text = tr!("none: each packet takes a system call of its own, four times the work");
                ReportLine::note(CheckName::Offload, "none", text)
            }
            many => {
                let text = tr!("the kernel takes {count} packets at once (GSO)", count = many);
                ReportLine::good(CheckName::Offload, "segments", text)
            }
        }
    }
}

/// The firewall of this machine, and the port that others have to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FirewallFinding {
    pub(super) manager: Option<FirewallManager>,
    pub(super) port: u16,
    /// True if a peer outside reached the port, false if it didn't; `None` if none looked.
    pub(super) is_reached: Option<bool>,
    pub(super) has_ipv6: bool,
}

impl Finding for FirewallFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Firewall;
        let Some(manager) = &self.manager else {
            return ReportLine::good(CHECK, "none", tr!("none found on this machine"));
        };
        let (name, port) = (manager_name(manager), self.port);
        match self.is_reached {
            Some(true) => {
                let text = tr!("{name} is in charge and lets UDP port {port} in", name, port);
                ReportLine::good(CHECK, "passes", text)
            }
            // The line of the port has the remedy.
            Some(false) => ReportLine::note(CHECK, "in_charge", tr!("{name} is in charge", name)),
            None => {
                let text = tr!("{name} is in charge; if others can't reach UDP port {port}:", name, port);
                ReportLine::note(CHECK, "in_charge", text).with_remedy(allow_command(manager, port, self.has_ipv6))
            }
        }
    }
}

const fn manager_name(manager: &FirewallManager) -> &'static str {
    match manager {
        FirewallManager::Ufw => "ufw",
        FirewallManager::Firewalld => "firewalld",
        FirewallManager::Nftables(_) => "nftables",
        FirewallManager::Iptables => "iptables",
    }
}

/// Returns the command that lets UDP packets to a port in.
pub(super) fn allow_command(manager: &FirewallManager, port: u16, has_ipv6: bool) -> String {
    match manager {
        FirewallManager::Ufw => format!("sudo ufw allow {port}/udp"),
        FirewallManager::Firewalld => {
            // `--permanent` alone changes only what is loaded at the next start.
            format!("sudo firewall-cmd --permanent --add-port={port}/udp && sudo firewall-cmd --reload")
        }
        FirewallManager::Nftables(chain) => {
            let (family, table, name) = (&chain.family, &chain.table, &chain.name);
            // Inserted, not added: behind a rule that drops, it would never be reached.
            format!("sudo nft insert rule {family} {table} {name} udp dport {port} accept")
        }
        FirewallManager::Iptables => {
            let rule = format!("-I INPUT -p udp --dport {port} -j ACCEPT");
            let of_v6 = if has_ipv6 { format!(" && sudo ip6tables {rule}") } else { String::new() };
            format!("sudo iptables {rule}{of_v6}")
        }
    }
}

/// True if any interface has an IPv6 address by which others reach this machine.
pub(super) fn has_ipv6(local: &[LocalAddress]) -> bool {
    local.iter().any(|one| one.ip.is_ipv6() && one.kind != InterfaceKind::Loopback && !is_link_local(one.ip))
}

#[cfg(test)]
mod tests;
