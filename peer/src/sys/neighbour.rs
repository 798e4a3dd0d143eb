//! The kernel's table of neighbours: which addresses of the local network answer ARP or neighbour discovery.

use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Time for `ip` to print the table.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(500);

/// The state of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// It answered within the last half minute.
    Reachable,
    /// It answered earlier, and may be gone.
    Unconfirmed,
    /// It doesn't answer.
    Failed,
}

/// Returns the state of the neighbour with this address; `None` if there is none, or the system doesn't tell.
pub async fn neighbour_state(ip: IpAddr) -> Option<NeighbourState> {
    // iproute2 and not a netlink socket of our own: a missing answer only makes a finding less exact.
    let ip = ip.to_canonical().to_string();
    let mut command = Command::new("ip");
    command.args(["neigh", "show", "to", &ip]).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LOOKUP_TIMEOUT, command.output()).await.ok()?.ok()?;
    parse_neighbours(&String::from_utf8_lossy(&output.stdout))
}

/// Returns the best state of the neighbours that `ip neigh` lists: one address may be known on several interfaces.
fn parse_neighbours(text: &str) -> Option<NeighbourState> {
    let state = |line: &str| match line.split_whitespace().next_back()? {
        "REACHABLE" => Some(NeighbourState::Reachable),
        "STALE" | "DELAY" | "PROBE" | "PERMANENT" | "NOARP" => Some(NeighbourState::Unconfirmed),
        "FAILED" | "INCOMPLETE" => Some(NeighbourState::Failed),
        _ => None,
    };
    text.lines().filter_map(state).min_by_key(|state| match state {
        NeighbourState::Reachable => 0,
        NeighbourState::Unconfirmed => 1,
        NeighbourState::Failed => 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let line = |state: &str| format!("10.0.0.2 dev eth0 lladdr 02:00:00:00:00:01 {state} \n");
        for (state, expected) in [
            ("REACHABLE", Some(NeighbourState::Reachable)),
            ("STALE", Some(NeighbourState::Unconfirmed)),
            ("FAILED", Some(NeighbourState::Failed)),
            ("rubbish", None),
        ] {
            assert_eq!(parse_neighbours(&line(state)), expected, "{state}");
        }
        assert_eq!(parse_neighbours(&(line("FAILED") + &line("REACHABLE"))), Some(NeighbourState::Reachable));
        assert_eq!(parse_neighbours(""), None);
    }
}
