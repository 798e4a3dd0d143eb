//! Findings about this profile: account, disk, node, versions.

use std::net::SocketAddr;
use std::path::PathBuf;

use localization::tr;
use shared::safe_text::safe_path;
use shared::{UntrustedText, UserName};

use super::report::{CheckName, Finding, ReportLine};
use crate::engine::ErrorKind;
use crate::engine::size_format::format_size;
use crate::util::shell_words::single_quoted;

/// Free space below which a profile can hardly be written, and below which a fetch soon fails.
const LEAST_FREE: u64 = 16 << 20;
const LITTLE_FREE: u64 = 1 << 30;

/// The account and the database of the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AccountFinding {
    Sound {
        user: UserName,
        home: PathBuf,
    },
    /// Others on this machine can read the messages.
    Exposed {
        home: PathBuf,
        mode: u32,
    },
    /// Nothing can be written, because the disk is mounted read-only.
    ReadOnly {
        home: PathBuf,
    },
    /// There is no profile, or nobody is logged in.
    Missing {
        has_profile: bool,
    },
    Unusable {
        why: String,
        remedy: Option<String>,
        kind: ErrorKind,
    },
}

impl Finding for AccountFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Account;
        match self {
            Self::Sound { user, home } => {
                ReportLine::good(CHECK, "sound", tr!("{user}, in {path}", user, path = safe_path(home)))
            }
            Self::Exposed { home, mode } => {
                let (path, mode) = (safe_path(home), format!("{mode:o}"));
                let text = tr!("others on this machine can read {path} (mode {mode})", path, mode);
                let remedy = format!("chmod 700 {}", single_quoted(&safe_path(home)));
                ReportLine::warning(CHECK, "exposed", text).with_remedy(remedy)
            }
            Self::ReadOnly { home } => {
                let path = safe_path(home);
                let text = tr!("the disk of {path} is mounted read-only: nothing can be stored", path);
                ReportLine::problem(CHECK, "read_only", text).of_kind(ErrorKind::Disk)
            }
            Self::Missing { has_profile } => {
                let (text, remedy) = match has_profile {
                    true => (tr!("nobody is logged in on this machine"), tr!("peer login NAME")),
                    false => (tr!("there is no account on this machine"), tr!("peer register NAME")),
                };
                let line = ReportLine::problem(CHECK, "missing", text).of_kind(ErrorKind::NotLoggedIn);
                line.with_remedy(remedy)
            }
            Self::Unusable { why, remedy, kind } => {
                ReportLine::problem(CHECK, "unusable", why.as_str()).of_kind(*kind).with_remedy(remedy.clone())
            }
        }
    }
}

/// The room on the profile's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DiskFinding {
    pub(super) home: PathBuf,
    /// Bytes that may still be written.
    pub(super) bytes: u64,
    /// False if no further file can be created.
    pub(super) has_inodes: bool,
}

impl Finding for DiskFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Disk;
        let (free, home) = (format_size(self.bytes), safe_path(&self.home));
        if self.bytes < LEAST_FREE || !self.has_inodes {
            let text = if self.has_inodes {
                tr!("full: {free} left for {path}", free, path = home)
            } else {
                tr!("no further file can be made in {path}: the disk is out of inodes", path = home)
            };
            return ReportLine::problem(CHECK, "full", text).of_kind(ErrorKind::Disk);
        }
        if self.bytes < LITTLE_FREE {
            return ReportLine::warning(CHECK, "nearly_full", tr!("only {free} left for {path}", free, path = home));
        }
        ReportLine::good(CHECK, "roomy", tr!("{free} free", free))
    }
}

/// The running node of the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeFinding {
    Online {
        address: SocketAddr,
        pid: u32,
    },
    /// It runs, and waits for the tracker.
    Waiting {
        pid: u32,
    },
    /// Another machine has the account's presence.
    Displaced {
        pid: u32,
    },
    NotRunning,
    Unusable {
        why: String,
        kind: ErrorKind,
    },
}

impl Finding for NodeFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Node;
        match self {
            Self::Online { address, pid } => {
                ReportLine::good(CHECK, "online", tr!("online at {address} (process {pid})", address, pid))
            }
            Self::Waiting { pid } => {
                ReportLine::warning(CHECK, "waiting", tr!("process {pid} runs and waits for the tracker", pid))
            }
            Self::Displaced { pid } => {
                let text = tr!("process {pid} runs, and a copy of this account is online elsewhere", pid);
                ReportLine::warning(CHECK, "displaced", text).with_remedy("peer serve".to_owned())
            }
            Self::NotRunning => {
                let text = tr!("not running: others can't reach you; they can while this runs:");
                ReportLine::note(CHECK, "not_running", text).with_remedy("peer serve".to_owned())
            }
            Self::Unusable { why, kind } => ReportLine::problem(CHECK, "unusable", why.as_str()).of_kind(*kind),
        }
    }
}

/// The versions of the programs that work together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct VersionFinding {
    /// The running node's version and process, if one runs.
    pub(super) node: Option<(String, u32)>,
    pub(super) tracker: Option<UntrustedText>,
    /// The programs of other users, in their own words.
    pub(super) peers: Vec<(UserName, UntrustedText)>,
}

impl VersionFinding {
    const OWN: &'static str = env!("CARGO_PKG_VERSION");
    /// Others who are named.
    const MAX_NAMED: usize = 2;

    fn differing(&self) -> Vec<String> {
        let tracker = self.tracker.iter().filter(|version| version.as_received() != Self::OWN);
        let mut all: Vec<String> =
            tracker.map(|version| tr!("the tracker {version}", version = brief(version))).collect();
        let own = format!("vizinho/{}", Self::OWN);
        let peers = self.peers.iter().filter(|(_, agent)| agent.as_received() != own && !agent.is_empty());
        all.extend(peers.map(|(user, agent)| format!("{user} {}", brief(agent))));
        all
    }
}

impl Finding for VersionFinding {
    fn line(&self) -> ReportLine {
        const CHECK: CheckName = CheckName::Versions;
        let own = Self::OWN;
        if let Some((version, pid)) = self.node.as_ref().filter(|(version, _)| version != own) {
            let text = if version.is_empty() {
                tr!("process {pid} still runs an older version, and this is {own}: begin it again", pid, own)
            } else {
                tr!("process {pid} still runs {version}, and this is {own}: begin it again", pid, version, own)
            };
            return ReportLine::warning(CHECK, "old_node", text).with_remedy(format!("kill {pid} && peer serve"));
        }
        let others = self.differing();
        if others.is_empty() {
            return ReportLine::good(CHECK, "same", own);
        }
        let list = super::report::short_list(&others, Self::MAX_NAMED);
        let text = tr!("{own} here; others: {list}", own, list);
        ReportLine::note(CHECK, "different", text)
    }
}

/// Returns the beginning of another program's version.
fn brief(version: &UntrustedText) -> String {
    const MAX_CHARS: usize = 24;
    version.safe_line().chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::super::report::Severity;
    use super::*;

    #[test]
    fn a_profile_that_is_open_to_others_is_closed_by_its_remedy() {
        let line = AccountFinding::Exposed { home: "/home/it's me".into(), mode: 0o755 }.line();
        assert_eq!(line.remedy.as_deref(), Some(r"chmod 700 '/home/it'\''s me'"));
        assert_eq!(line.severity, Severity::Warning);
    }

    #[test]
    fn the_disk_is_judged_by_what_is_left() {
        let of = |bytes, has_inodes| DiskFinding { home: "/h".into(), bytes, has_inodes }.line();
        assert_eq!(of(5 << 30, true).severity, Severity::Good);
        assert_eq!(of(500 << 20, true).code, "nearly_full");
        assert_eq!(of(1 << 20, true).code, "full");
        assert!(of(5 << 30, false).text.contains("inodes"));
    }

    #[test]
    fn versions_that_differ_are_told_and_an_old_node_is_to_be_ended() {
        let own = VersionFinding::OWN;
        let agent = format!("vizinho/{own}");
        let mut finding = VersionFinding {
            node: Some((own.to_owned(), 7)),
            tracker: Some(own.into()),
            peers: vec![("bob".parse().unwrap(), agent.as_str().into())],
        };
        assert_eq!(finding.line(), ReportLine::good(CheckName::Versions, "same", own));
        finding.peers.push(("eve".parse().unwrap(), "\u{1b}[2J evil".into()));
        finding.tracker = Some("0.0.9".into());
        let told = finding.line();
        assert_eq!(told.severity, Severity::Note);
        assert!(told.text.ends_with("; others: the tracker 0.0.9, eve ␛[2J evil"), "{}", told.text);
        assert!(!told.text.contains('\u{1b}'));
        finding.node = Some((String::new(), 7));
        assert_eq!(finding.line().remedy.as_deref(), Some("kill 7 && peer serve"));
    }
}
