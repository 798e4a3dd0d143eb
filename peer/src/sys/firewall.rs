//! Recognition of this machine's firewall: which program manages it, and into which chain an exception goes.
//!
//! The rules themselves are readable for root alone. For everybody else the managers' settings tell: `ufw.conf` and
//! `nftables.conf` are readable, `firewalld` is a process, and services have links in systemd's folders.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

/// Time for `nft` to list its rules.
const LIST_TIMEOUT: Duration = Duration::from_secs(1);
/// Folders with links to the services that systemd starts.
const WANTS_FOLDERS: [&str; 2] =
    ["/etc/systemd/system/multi-user.target.wants", "/etc/systemd/system/sysinit.target.wants"];

/// A program that manages the packet filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirewallManager {
    Ufw,
    Firewalld,
    /// Rules of `nft`, with the chain that sees incoming packets.
    Nftables(FilterChain),
    Iptables,
}

/// A chain of nftables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterChain {
    pub family: String,
    pub table: String,
    pub name: String,
}

/// The evidence that firewalls leave in the system.
#[derive(Debug, Clone, Default)]
struct FirewallEvidence {
    /// The text of ufw's settings.
    ufw_conf: String,
    has_firewalld: bool,
    /// The rules as JSON, where they may be read.
    ruleset: Option<Value>,
    /// The rules that the service loads, as text, if it is enabled.
    nftables_conf: Option<String>,
    has_iptables_service: bool,
}

/// Returns the firewall in charge; `None` if none is found.
pub async fn active_firewall() -> Option<FirewallManager> {
    let evidence =
        FirewallEvidence { ruleset: list_ruleset().await, ..tokio::task::spawn_blocking(read_evidence).await.ok()? };
    recognize(&evidence)
}

fn read_evidence() -> FirewallEvidence {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let is_enabled = |service: &str| WANTS_FOLDERS.iter().any(|folder| Path::new(folder).join(service).exists());
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_firewalld = |process: &std::fs::DirEntry| {
        std::fs::read_to_string(process.path().join("comm")).is_ok_and(|name| name.trim() == "firewalld")
    };
    FirewallEvidence {
        ufw_conf: read("/etc/ufw/ufw.conf").unwrap_or_default(),
        has_firewalld: processes.into_iter().any(|process| is_firewalld(&process)),
        ruleset: None,
        nftables_conf: is_enabled("nftables.service").then(|| read("/etc/nftables.conf").unwrap_or_default()),
        has_iptables_service: is_enabled("iptables.service") || is_enabled("netfilter-persistent.service"),
    }
}

async fn list_ruleset() -> Option<Value> {
    let mut command = Command::new("nft");
    command.args(["-j", "list", "ruleset"]).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIST_TIMEOUT, command.output()).await.ok()?.ok()?;
    serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
}

/// Recognizes the manager. The front ends come first: an exception of theirs outlasts their next reload.
fn recognize(evidence: &FirewallEvidence) -> Option<FirewallManager> {
    // Shells read this file, so that the value may stand in quotes.
    let is_on = |line: &str| line.trim().to_ascii_lowercase().replace(['"', '\''], "") == "enabled=yes";
    if evidence.ufw_conf.lines().any(is_on) {
        return Some(FirewallManager::Ufw);
    }
    if evidence.has_firewalld {
        return Some(FirewallManager::Firewalld);
    }
    if let Some(ruleset) = &evidence.ruleset {
        // The rules themselves are better evidence than settings.
        return filtering_chain(ruleset).map(manager_of_chain);
    }
    if let Some(text) = &evidence.nftables_conf {
        return configured_chain(text).map(manager_of_chain);
    }
    evidence.has_iptables_service.then_some(FirewallManager::Iptables)
}

/// Returns the manager of a chain: `iptables` keeps its rules in tables of these names (iptables-nft(8)).
fn manager_of_chain(chain: FilterChain) -> FirewallManager {
    if chain.name == "INPUT" && matches!(&*chain.family, "ip" | "ip6") {
        FirewallManager::Iptables
    } else {
        FirewallManager::Nftables(chain)
    }
}

/// Returns the first chain for incoming packets that drops some: by its policy, or by a rule in its table.
fn filtering_chain(ruleset: &Value) -> Option<FilterChain> {
    let entries = ruleset["nftables"].as_array()?;
    let drops = |table: &Value| {
        let rules = entries.iter().filter_map(|entry| entry.get("rule"));
        // Of the whole table: the chain at the hook may only jump to others.
        let of_table = rules.filter(|rule| rule["table"] == table["table"] && rule["family"] == table["family"]);
        of_table
            .filter_map(|rule| rule["expr"].as_array())
            .flatten()
            .any(|verdict| verdict.get("drop").is_some() || verdict.get("reject").is_some())
    };
    let chains = entries.iter().filter_map(|entry| entry.get("chain"));
    let mut inputs = chains.filter(|chain| chain["hook"] == "input" && chain["type"] == "filter");
    let chain = inputs.find(|chain| chain["policy"] == "drop" || drops(chain))?;
    let text = |key: &str| chain[key].as_str().filter(|text| is_identifier(text)).map(str::to_owned);
    Some(FilterChain { family: text("family")?, table: text("table")?, name: text("name")? })
}

/// Returns the first chain for incoming packets in a file of nftables' rules.
fn configured_chain(text: &str) -> Option<FilterChain> {
    let code: Vec<&str> = text.lines().map(|line| line.split('#').next().unwrap_or_default()).collect();
    let spaced = code.join("\n").replace('{', " { ").replace(';', " ; ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (mut table, mut chain) = (None, None);
    for (position, word) in words.iter().enumerate() {
        let after = |count: usize| words.get(position + count).copied().unwrap_or_default();
        match *word {
            // Without a family, a table is one of IPv4 (nft(8)).
            "table" if after(2) == "{" => table = Some(("ip", after(1))),
            "table" if after(3) == "{" => table = Some((after(1), after(2))),
            "chain" if after(2) == "{" => chain = Some(after(1)),
            "hook" if after(1) == "input" => {
                let (family, name) = table.filter(|(family, name)| is_identifier(family) && is_identifier(name))?;
                let chain = chain.filter(|chain| is_identifier(chain))?;
                return Some(FilterChain { family: family.into(), table: name.into(), name: chain.into() });
            }
            _ => {}
        }
    }
    None
}

/// True for a name that a shell takes as it is: it becomes part of a command to paste.
fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chain(family: &str, table: &str, name: &str) -> FilterChain {
        FilterChain { family: family.into(), table: table.into(), name: name.into() }
    }

    fn ruleset(policy: &str, name: &str, rule: &Value) -> Value {
        json!({ "nftables": [
            { "metainfo": { "version": "1.0.6" } },
            { "table": { "family": "inet", "name": "guard" } },
            { "chain": { "family": "inet", "table": "guard", "name": "out", "type": "filter", "hook": "output", "policy": "drop" } },
            { "chain": { "family": "inet", "table": "guard", "name": name, "type": "filter", "hook": "input", "policy": policy } },
            { "rule": { "family": "inet", "table": "guard", "chain": name, "expr": [{ "match": {} }, rule] } },
        ]})
    }

    #[test]
    fn front_ends_come_before_their_rules() {
        let rules = Some(ruleset("drop", "ufw-before", &json!({ "accept": null })));
        let ufw =
            FirewallEvidence { ufw_conf: "# ufw\nENABLED=yes\n".into(), ruleset: rules.clone(), ..Default::default() };
        assert_eq!(recognize(&ufw), Some(FirewallManager::Ufw));
        let off = FirewallEvidence { ufw_conf: "#ENABLED=yes\nENABLED=no\n".into(), ..Default::default() };
        assert_eq!(recognize(&off), None);
        let firewalld = FirewallEvidence { has_firewalld: true, ruleset: rules, ..Default::default() };
        assert_eq!(recognize(&firewalld), Some(FirewallManager::Firewalld));
    }

    #[test]
    fn a_chain_counts_if_it_drops_something() {
        let recognized = |rules: Value| recognize(&FirewallEvidence { ruleset: Some(rules), ..Default::default() });
        let guard = Some(FirewallManager::Nftables(chain("inet", "guard", "in")));
        let accept = json!({ "accept": null });
        assert_eq!(recognized(ruleset("drop", "in", &accept)), guard);
        assert_eq!(recognized(ruleset("accept", "in", &json!({ "drop": null }))), guard);
        assert_eq!(recognized(ruleset("accept", "in", &json!({ "reject": { "type": "icmpx" } }))), guard);
        assert_eq!(recognized(ruleset("accept", "in", &accept)), None);
        assert_eq!(recognized(ruleset("drop", "in; rm -rf", &accept)), None, "never part of a command");
        assert_eq!(recognized(json!({ "nftables": [] })), None);
        assert_eq!(recognized(json!([1, "x"])), None);
    }

    #[test]
    fn rules_of_iptables_are_changed_by_iptables() {
        let rules = json!({ "nftables": [
            { "chain": { "family": "ip", "table": "filter", "name": "INPUT", "type": "filter", "hook": "input", "policy": "drop" } },
        ]});
        let evidence = FirewallEvidence { ruleset: Some(rules), ..Default::default() };
        assert_eq!(recognize(&evidence), Some(FirewallManager::Iptables));
        let service = FirewallEvidence { has_iptables_service: true, ..Default::default() };
        assert_eq!(recognize(&service), Some(FirewallManager::Iptables));
    }

    #[test]
    fn the_chain_of_a_settings_file_is_found() {
        let text = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n\tchain output { type filter hook output priority 0; }\n\
                    \tchain input {\n\t\t# hook input\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n";
        assert_eq!(configured_chain(text), Some(chain("inet", "filter", "input")));
        assert_eq!(
            configured_chain("table x{chain y{type filter hook input priority 0;}}"),
            Some(chain("ip", "x", "y"))
        );
        for none in
            ["", "table", "hook input", "table $(x) { chain y { hook input", "table inet filter { chain forward {"]
        {
            assert_eq!(configured_chain(none), None, "{none}");
        }
        let loaded = FirewallEvidence { nftables_conf: Some(text.into()), ..Default::default() };
        assert_eq!(recognize(&loaded), Some(FirewallManager::Nftables(chain("inet", "filter", "input"))));
        let empty = FirewallEvidence { nftables_conf: Some(String::new()), ..Default::default() };
        assert_eq!(recognize(&empty), None);
    }
}
