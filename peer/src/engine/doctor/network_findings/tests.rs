//! Machines with several interfaces, and what is found about them.

use super::super::report::Severity;
use super::*;
use crate::sys::FilterChain;

fn local(ip: &str, interface: &str, kind: InterfaceKind) -> LocalAddress {
    let (ip, prefix) = ip.split_once('/').unwrap();
    LocalAddress {
        ip: ip.parse().unwrap(),
        prefix_len: prefix.parse().unwrap(),
        interface: interface.to_owned(),
        index: interface.bytes().map(u32::from).sum(),
        kind,
        is_permanent: true,
        is_running: true,
    }
}

fn card(ip: &str, interface: &str) -> LocalAddress {
    local(ip, interface, InterfaceKind::Ordinary)
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn families_are_told() {
    let of = |all: &[LocalAddress]| AddressFinding::of(all).line();
    let (v4, v6) = (card("10.0.0.1/24", "eth0"), card("fd00::1/64", "eth0"));
    let both = of(&[v4.clone(), v6.clone(), card("fe80::1/64", "eth0")]);
    assert_eq!((both.code, &*both.text), ("both_families", "10.0.0.1 (eth0), fd00::1 (eth0)"));
    assert_eq!(of(std::slice::from_ref(&v4)).text, "10.0.0.1 (eth0); no IPv6");
    let only = of(std::slice::from_ref(&v6));
    assert_eq!((only.code, &*only.text, only.severity), ("ipv6_only", "IPv6 only: fd00::1 (eth0)", Severity::Note));
    let unplugged = LocalAddress { is_running: false, ..card("10.1.0.1/24", "eth1") };
    assert_eq!(of(&[v4, unplugged.clone()]).text, "10.0.0.1 (eth0); no IPv6; no carrier on eth1");
    let none = of(&[unplugged, local("127.0.0.1/8", "lo", InterfaceKind::Loopback)]);
    assert_eq!((none.code, none.severity), ("none", Severity::Problem));
}

#[test]
fn several_interfaces_are_named_and_two_in_one_network_are_a_trap() {
    let (one, other) = (card("10.0.0.1/24", "eth0"), card("10.1.0.1/24", "eth1"));
    assert_eq!(InterfaceFinding::of(std::slice::from_ref(&one), None), None);
    let several = InterfaceFinding::of(&[one.clone(), other], ip("10.0.0.1")).unwrap().line();
    assert_eq!((several.code, &*several.text), ("several", "several: eth0, eth1; to the tracker by eth0"));
    let twice = InterfaceFinding::of(&[one.clone(), card("10.0.0.2/24", "eth1")], None).unwrap().line();
    assert_eq!((twice.code, twice.severity), ("overlapping", Severity::Warning));
    let bridge = local("172.17.0.1/16", "docker0", InterfaceKind::Internal);
    assert_eq!(InterfaceFinding::of(&[one, bridge], None), None, "a bridge is no card");
}

#[test]
fn a_vpn_that_takes_the_local_network_along_is_named() {
    let all = [card("10.0.0.1/24", "eth0"), local("10.8.0.2/24", "tun0", InterfaceKind::Tunnel)];
    let of = |route| TunnelFinding::of(&all, ip("10.0.0.9"), route).unwrap().line();
    assert_eq!((of(ip("10.0.0.1")).code, of(ip("10.8.0.2")).code), ("beside", "diverted"));
    // A tracker behind the VPN is reached through it.
    assert_eq!(TunnelFinding::of(&all, ip("192.168.9.9"), ip("10.8.0.2")).unwrap().line().code, "beside");
    assert_eq!(TunnelFinding::of(&all[..1], None, None), None);
}

#[test]
fn a_bridge_that_hides_the_tracker_is_a_problem() {
    let all = [card("10.0.0.1/24", "eth0"), local("172.17.0.1/16", "docker0", InterfaceKind::Internal)];
    let of = |tracker| ContainerFinding::of(&all, tracker).unwrap().line();
    assert_eq!(of(ip("10.0.0.9")).text, "docker0 (172.17.0.1): reaches only this machine");
    assert_eq!((of(ip("172.17.5.5")).code, of(ip("172.17.5.5")).severity), ("hiding", Severity::Problem));
    assert_eq!(of(ip("172.17.0.1")).code, "inner", "a tracker on this machine");
    assert_eq!(ContainerFinding::of(&all[..1], None), None);
}

#[test]
fn each_firewall_has_its_command() {
    let chain = FilterChain { family: "inet".into(), table: "filter".into(), name: "input".into() };
    let of = |manager, has_ipv6| allow_command(&manager, 40_000, has_ipv6);
    assert_eq!(of(FirewallManager::Ufw, true), "sudo ufw allow 40000/udp");
    let firewalld = "sudo firewall-cmd --permanent --add-port=40000/udp && sudo firewall-cmd --reload";
    assert_eq!(of(FirewallManager::Firewalld, true), firewalld);
    let nftables = "sudo nft insert rule inet filter input udp dport 40000 accept";
    assert_eq!(of(FirewallManager::Nftables(chain), true), nftables);
    let rule = "-I INPUT -p udp --dport 40000 -j ACCEPT";
    assert_eq!(of(FirewallManager::Iptables, false), format!("sudo iptables {rule}"));
    assert_eq!(of(FirewallManager::Iptables, true), format!("sudo iptables {rule} && sudo ip6tables {rule}"));
}

#[test]
fn a_firewall_is_judged_by_what_comes_through() {
    let of = |is_reached| {
        FirewallFinding { manager: Some(FirewallManager::Ufw), port: 40_000, is_reached, has_ipv6: false }.line()
    };
    assert_eq!((of(Some(true)).code, of(Some(true)).severity), ("passes", Severity::Good));
    assert_eq!((of(Some(false)).code, of(Some(false)).remedy), ("in_charge", None));
    assert_eq!(of(None).remedy.as_deref(), Some("sudo ufw allow 40000/udp"));
    let none = FirewallFinding { manager: None, port: 1, is_reached: Some(false), has_ipv6: false }.line();
    assert_eq!(none.code, "none");
}

#[test]
fn a_small_buffer_has_its_sysctl_line() {
    let of = |receive_buffer| SocketAbilities { receive_buffer, wanted_buffer: 4 << 20, send_segments: 64 };
    assert_eq!(BufferFinding(of(8 << 20)).line().severity, Severity::Good);
    let small = BufferFinding(of(425_984)).line();
    assert_eq!(small.remedy.as_deref(), Some("sudo sysctl -w net.core.rmem_max=4194304"));
    assert_eq!(OffloadFinding(of(1)).line().code, "segments");
    let none = SocketAbilities { send_segments: 1, ..of(1) };
    assert_eq!(OffloadFinding(none).line().code, "none");
}
