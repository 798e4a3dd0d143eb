//! The lines that say that the tracker is ready, with the command for making an account.
//!
//! The command has the tracker's key: whoever pastes it is asked nothing, and sends the password to no other tracker. A
//! terminal also shows it as a QR code, and the key in rows that are easy to compare with those that `peer` shows.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use if_addrs::{IfAddr, Interface};
use localization::tr;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use rustix::termios::tcgetwinsize;
use shared::Fingerprint;

use super::listeners;

/// Black on white, whatever the terminal's colours: many cameras can't read inverted codes.
const BLACK_ON_WHITE: &str = "\u{1b}[30;107m";
const USUAL_COLORS: &str = "\u{1b}[0m";

/// Returns the command for making an account at the tracker that listens on these addresses.
pub(super) fn register_command(listening: &[SocketAddr], fingerprint: &str) -> String {
    let address = listeners::display_address(best_address(listening, &if_addrs::get_if_addrs().unwrap_or_default()));
    format!("peer register NAME --tracker {address} --tracker-key {fingerprint}")
}

/// Prints that the tracker is ready.
pub(super) fn print(listening: &[SocketAddr], fingerprint: &Fingerprint) -> io::Result<()> {
    let command = register_command(listening, &fingerprint.to_string());
    let mut stdout = io::stdout().lock();
    let columns = terminal_columns();
    // Printed first, so that it doesn't push the lines for people off the screen.
    if let Some(code) = columns.and_then(|columns| qr_code(&command, columns)) {
        writeln!(stdout, "{code}")?;
    }
    for address in listening {
        // Programs wait for these two lines, so they are the same in each language.
        writeln!(stdout, "tracker listening on {}", listeners::display_address(*address))?;
    }
    writeln!(stdout, "fingerprint {fingerprint}")?;
    writeln!(stdout, "{}\n  {command}", tr!("on each person's machine, with their name for NAME:"))?;
    if columns.is_some() {
        writeln!(stdout, "{}\n{}", tr!("the key as peer shows it to whoever has no such line:"), rows(fingerprint))?;
    }
    stdout.flush()
}

/// Returns the width of the terminal on standard output, if it is one that can draw.
fn terminal_columns() -> Option<usize> {
    let stdout = io::stdout();
    // The QR code can't do without colours.
    let draws = !arguments::is_color_forbidden() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    let columns = || tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
    if draws && stdout.is_terminal() { columns() } else { None }
}

/// Formats the key in two rows of two groups.
fn rows(fingerprint: &Fingerprint) -> String {
    let text = fingerprint.to_string();
    let quarters: Vec<&str> = (0..4).filter_map(|quarter| text.get(quarter * 16..(quarter + 1) * 16)).collect();
    quarters.chunks(2).map(|row| format!("  {}", row.join(" "))).collect::<Vec<_>>().join("\n")
}

/// Draws a QR code of the text; `None` if it is wider than the terminal.
fn qr_code(text: &str, columns: usize) -> Option<String> {
    // The lowest correction makes the smallest code, which has to fit the terminal.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let drawn = code.render::<Dense1x2>().build();
    let is_whole = drawn.lines().all(|line| line.chars().count() <= columns);
    let colored = |line: &str| format!("{BLACK_ON_WHITE}{line}{USUAL_COLORS}");
    is_whole.then(|| drawn.lines().map(colored).collect::<Vec<_>>().join("\n"))
}

/// Returns the address at which others reach the tracker: a configured one if possible, else one of this machine, else
/// loopback.
fn best_address(listening: &[SocketAddr], interfaces: &[Interface]) -> SocketAddr {
    let is_everywhere = |address: &&SocketAddr| address.ip().is_unspecified();
    let named =
        || listening.iter().find(|address| !is_everywhere(address) && listeners::is_reachable_by_others(address.ip()));
    let own = || {
        // IPv4 first: it is easier to type.
        let everywhere = listening.iter().filter(is_everywhere);
        let ips = everywhere.filter_map(|any| Some(SocketAddr::new(own_ip(any.ip(), interfaces)?, any.port())));
        ips.min_by_key(SocketAddr::is_ipv6)
    };
    let here = || listening.iter().find(|address| !is_everywhere(address)).copied();
    let loopback = || SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listening.first().map_or(0, SocketAddr::port));
    named().copied().or_else(own).or_else(here).unwrap_or_else(loopback)
}

/// Returns this machine's address of the same family as `any`: that of the default route, else the first one.
fn own_ip(any: IpAddr, interfaces: &[Interface]) -> Option<IpAddr> {
    // A link-local address may change, or needs a scope that other machines name differently.
    let is_lasting = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    let others =
        interfaces.iter().filter(|interface| !interface.is_loopback()).map(|interface| match &interface.addr {
            IfAddr::V4(v4) => IpAddr::V4(v4.ip),
            IfAddr::V6(v6) => IpAddr::V6(v6.ip),
        });
    let mut usable = others.filter(|ip| ip.is_ipv4() == any.is_ipv4() && is_lasting(ip));
    source_of_default_route(any).filter(|ip| listeners::is_reachable_by_others(*ip)).or_else(|| usable.next())
}

/// Returns the source address of the default route. Connecting a UDP socket sends nothing.
fn source_of_default_route(any: IpAddr) -> Option<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): only the default route leads to them.
    let far: IpAddr = if any.is_ipv4() {
        Ipv4Addr::new(198, 51, 100, 1).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use if_addrs::{IfOperStatus, Ifv4Addr};

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_named_address_comes_before_one_of_this_machine() {
        for (listening, expected) in [
            (&["10.0.0.2:8000"][..], "10.0.0.2:8000"),
            (&["127.0.0.1:8000", "10.0.0.2:9000"], "10.0.0.2:9000"),
            (&["127.0.0.1:8000"], "127.0.0.1:8000"),
            (&["[::1]:8000"], "[::1]:8000"),
        ] {
            assert_eq!(best_address(&addresses(listening), &[]), expected.parse().unwrap(), "{listening:?}");
        }
        let port = best_address(&addresses(&["0.0.0.0:8000", "[::]:8000"]), &[]).port();
        assert_eq!(port, 8000);
    }

    #[test]
    fn an_interface_serves_where_there_is_no_default_route() {
        let interface = |ip: &str| {
            let (ip, netmask) = (ip.parse().unwrap(), Ipv4Addr::new(255, 255, 255, 0));
            let addr = IfAddr::V4(Ifv4Addr { ip, netmask, prefixlen: 24, broadcast: None });
            let (name, index, oper_status) = ("eth0".to_owned(), Some(2), IfOperStatus::Up);
            Interface { name, addr, index, oper_status, is_p2p: false }
        };
        let found = own_ip(Ipv4Addr::UNSPECIFIED.into(), &["127.0.0.1", "169.254.1.1", "10.0.0.7"].map(interface));
        let expected = source_of_default_route(Ipv4Addr::UNSPECIFIED.into()).unwrap_or_else(|| [10, 0, 0, 7].into());
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn a_code_is_drawn_where_its_lines_are_whole() {
        let command = register_command(&addresses(&["192.168.100.200:8000"]), &"ab".repeat(32));
        let drawn = qr_code(&command, 80).unwrap();
        let widths: Vec<usize> = drawn
            .lines()
            .map(|line| line.trim_start_matches(BLACK_ON_WHITE).trim_end_matches(USUAL_COLORS).chars().count())
            .collect();
        assert!(widths.iter().all(|width| *width == widths[0] && *width <= 60), "{widths:?}");
        assert!(widths.len() <= 30, "{}", widths.len());
        assert_eq!(qr_code(&command, widths[0] - 1), None);
    }
}
