//! The report of an examination: one line for each finding.

use std::time::Duration;

use localization::tr;
use serde::{Deserialize, Serialize};
use shared::text_enum;

use crate::engine::{Error, ErrorKind};

text_enum! {
    /// The severity of a finding, from best to worst.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Severity {
        /// It works.
        #[serde(rename = "ok")]
        Good = "ok",
        /// A fact that may explain something.
        Note = "note",
        /// It works, and not as well as it could.
        Warning = "warning",
        /// It doesn't work.
        Problem = "problem",
    }
}

text_enum! {
    /// The subject of a finding.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum CheckName {
        Account = "account",
        Disk = "disk",
        Node = "peer",
        Tracker = "tracker",
        Discovery = "mdns",
        Clock = "clock",
        Port = "udp port",
        Packets = "packets",
        Offload = "offload",
        Buffer = "buffer",
        Firewall = "firewall",
        Addresses = "addresses",
        Interfaces = "interfaces",
        Vpn = "vpn",
        Containers = "containers",
        Versions = "versions",
        User = "user",
        Presence = "presence",
        Address = "address",
        Link = "link",
        Outbox = "outbox",
    }
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// The subject.
    pub check: CheckName,
    /// The finding's name for programs; it never changes its meaning.
    pub code: &'static str,
    /// The severity.
    pub severity: Severity,
    /// The finding, for people. Safe to print.
    pub text: String,
    /// A command that mends it.
    pub remedy: Option<String>,
    /// The kind of error if it is a problem, which decides the exit code.
    kind: ErrorKind,
}

/// A finding, which becomes one line.
pub(super) trait Finding {
    /// Returns the line.
    fn line(&self) -> ReportLine;
}

/// The lines of an examination, in the order in which they are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DoctorReport {
    lines: Vec<ReportLine>,
}

impl ReportLine {
    pub(super) fn new(check: CheckName, code: &'static str, severity: Severity, text: impl Into<String>) -> Self {
        Self { check, code, severity, text: text.into(), remedy: None, kind: ErrorKind::Network }
    }

    /// Returns a line for the tests of what is shown.
    #[cfg(test)]
    pub(crate) fn sample(check: CheckName, severity: Severity, text: &str, remedy: Option<&str>) -> Self {
        Self::new(check, "sample", severity, text).with_remedy(remedy.map(str::to_owned))
    }

    pub(super) fn good(check: CheckName, code: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, code, Severity::Good, text)
    }

    pub(super) fn note(check: CheckName, code: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, code, Severity::Note, text)
    }

    pub(super) fn warning(check: CheckName, code: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, code, Severity::Warning, text)
    }

    /// Returns the line of a problem of the network; [`ReportLine::of_kind`] makes it one of another kind.
    pub(super) fn problem(check: CheckName, code: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, code, Severity::Problem, text)
    }

    pub(super) fn of_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    pub(super) fn with_remedy(self, remedy: impl Into<Option<String>>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

impl DoctorReport {
    pub(super) fn push(&mut self, finding: &impl Finding) {
        self.lines.push(finding.line());
    }

    /// Returns the lines.
    pub fn lines(&self) -> &[ReportLine] {
        &self.lines
    }

    /// Returns the number of findings of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.lines.iter().filter(|line| line.severity == severity).count()
    }

    /// Returns the error that the examination ends with, if anything doesn't work: of the kind that all problems have in
    /// common, or [`ErrorKind::Partial`].
    pub fn failure(&self) -> Option<Error> {
        let mut kinds = self.lines.iter().filter(|line| line.severity == Severity::Problem).map(|line| line.kind);
        let first = kinds.next()?;
        let kind = if kinds.all(|kind| kind == first) { first } else { ErrorKind::Partial };
        Some(Error::Relayed { kind, message: self.summary() })
    }

    /// Returns the numbers of problems and warnings as text.
    pub fn summary(&self) -> String {
        let (problems, warnings) = (self.count(Severity::Problem), self.count(Severity::Warning));
        let counts = [
            (problems > 0).then(|| tr!("{n} problem" | "{n} problems" % problems)),
            (warnings > 0).then(|| tr!("{n} warning" | "{n} warnings" % warnings)),
        ];
        let counts: Vec<String> = counts.into_iter().flatten().collect();
        if counts.is_empty() { tr!("nothing wrong was found") } else { counts.join(", ") }
    }
}

/// Returns a duration in its largest unit.
pub(super) fn rough_duration(time: Duration) -> String {
    match time.as_secs() {
        0 if time.as_millis() < 1000 => format!("{} ms", time.as_millis()),
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => tr!("{n} day" | "{n} days" % seconds / 86_400),
    }
}

/// Joins texts, at most `most` of them; the others are counted.
pub(super) fn short_list(texts: &[String], most: usize) -> String {
    let shown = texts.iter().take(most).cloned().collect::<Vec<_>>().join(", ");
    match texts.len().saturating_sub(most) {
        0 => shown,
        more => tr!("{list} and {count} more", list = shown, count = more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: Vec<ReportLine>) -> DoctorReport {
        DoctorReport { lines }
    }

    #[test]
    fn the_exit_code_is_that_of_what_is_broken() {
        let (good, warning) =
            (ReportLine::good(CheckName::Disk, "sound", "x"), ReportLine::warning(CheckName::Buffer, "small", "x"));
        let problem = |kind| ReportLine::problem(CheckName::Tracker, "gone", "x").of_kind(kind);
        let ended = |lines: Vec<ReportLine>| report(lines).failure().map(|error| (error.kind(), error.to_string()));
        assert_eq!(ended(vec![good.clone(), warning.clone()]), None);
        let (network, disk) = (problem(ErrorKind::Network), problem(ErrorKind::Disk));
        assert_eq!(ended(vec![network.clone(), warning]), Some((ErrorKind::Network, "1 problem, 1 warning".into())));
        assert_eq!(ended(vec![network.clone(), network.clone()]), Some((ErrorKind::Network, "2 problems".into())));
        assert_eq!(ended(vec![network, good, disk]), Some((ErrorKind::Partial, "2 problems".into())));
        assert_eq!(report(Vec::new()).summary(), "nothing wrong was found");
    }

    #[test]
    fn durations_and_lists() {
        let told = [0, 999, 1000, 119_000, 120_000, 7_199_000, 7_200_000, 172_800_000];
        let words = ["0 ms", "999 ms", "1 s", "119 s", "2 min", "119 min", "2 h", "2 days"];
        assert_eq!(told.map(|ms| rough_duration(Duration::from_millis(ms))), words);
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!((short_list(&names, 3), short_list(&names, 1)), ("a, b, c".into(), "a and 2 more".into()));
    }
}
