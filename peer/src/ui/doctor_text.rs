//! The doctor's report as text: for each finding a mark, its subject and its words, and below it the command that mends it.

use std::io::IsTerminal;

use localization::tr;
use unicode_width::UnicodeWidthStr;

use super::command_output::CommandOutput;
use super::terminal_size::terminal_size;
use super::text_wrap::wrap_text;
use crate::engine::doctor::{CheckName, DoctorReport, ReportLine, Severity};

/// Narrowest column of subjects.
const SUBJECT_COLUMNS: usize = 10;
/// Narrowest column for words, on however narrow a terminal.
const MIN_TEXT_COLUMNS: usize = 16;
/// Indentation of commands. Little: a command is never broken here, so that it can be pasted.
const COMMAND_INDENT: &str = "    ";

/// The form of the marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReportStyle {
    color: bool,
    unicode: bool,
    /// Words in place of marks, for screen readers and logs.
    in_words: bool,
    /// Columns of the terminal; `None` doesn't break lines.
    columns: Option<usize>,
}

/// Returns the lines of a report for this output.
pub fn doctor_lines(report: &DoctorReport, output: &CommandOutput) -> Vec<String> {
    let theme = output.theme();
    let columns = (std::io::stdout().is_terminal() && !output.is_plain()).then(|| terminal_size().width.into());
    let style = ReportStyle { color: theme.color, unicode: theme.unicode, in_words: output.is_plain(), columns };
    report.lines().iter().flat_map(|line| style.lines(line)).collect()
}

impl ReportStyle {
    fn lines(self, line: &ReportLine) -> Vec<String> {
        let mark = self.mark(line.severity);
        let subject = subject(line.check);
        let subject = format!("{subject}{}", " ".repeat(SUBJECT_COLUMNS.saturating_sub(subject.width())));
        // One column behind the mark, one behind the subject.
        let indent = self.mark_columns() + 1 + subject.width() + 1;
        let rows = match self.columns {
            Some(columns) => wrap_text(&line.text, columns.saturating_sub(indent).max(MIN_TEXT_COLUMNS)),
            // A pipe or a screen reader gets whole lines, which can be searched and read on.
            None => line.text.lines().map(str::to_owned).collect(),
        };
        let mut lines = Vec::with_capacity(rows.len() + 1);
        for (number, row) in rows.iter().enumerate() {
            let head = if number == 0 { format!("{mark} {subject} ") } else { " ".repeat(indent) };
            lines.push(format!("{head}{}", row.trim_end()).trim_end().to_owned());
        }
        if let Some(remedy) = &line.remedy {
            lines.push(format!("{COMMAND_INDENT}{}", self.styled("1", remedy)));
        }
        lines
    }

    fn mark_columns(self) -> usize {
        let longest = || Severity::ALL.iter().map(|one| severity_word(*one).width()).max().unwrap_or_default();
        if self.in_words { longest() } else { 1 }
    }

    fn mark(self, severity: Severity) -> String {
        let (style, glyph) = match (severity, self.unicode) {
            (Severity::Good, true) => ("32", "✓"),
            (Severity::Good, false) => ("32", "+"),
            (Severity::Note, true) => ("2", "·"),
            (Severity::Note, false) => ("2", "-"),
            (Severity::Warning, _) => ("33", "!"),
            (Severity::Problem, true) => ("1;31", "✗"),
            (Severity::Problem, false) => ("1;31", "x"),
        };
        if self.in_words {
            let word = severity_word(severity);
            return format!("{word}{}", " ".repeat(self.mark_columns().saturating_sub(word.width())));
        }
        self.styled(style, glyph)
    }

    fn styled(self, style: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn severity_word(severity: Severity) -> String {
    match severity {
        Severity::Good => tr!("doctor" => "ok:"),
        Severity::Note => tr!("doctor" => "note:"),
        Severity::Warning => tr!("doctor" => "warning:"),
        Severity::Problem => tr!("doctor" => "problem:"),
    }
}

/// Returns the subject of a finding in one word; it has at most [`SUBJECT_COLUMNS`] columns in every language.
fn subject(check: CheckName) -> String {
    match check {
        CheckName::Account => tr!("doctor" => "account"),
        CheckName::Disk => tr!("doctor" => "disk"),
        CheckName::Node => tr!("doctor" => "peer"),
        CheckName::Tracker => tr!("doctor" => "tracker"),
        CheckName::Discovery => tr!("doctor" => "mdns"),
        CheckName::Clock => tr!("doctor" => "clock"),
        CheckName::Port => tr!("doctor" => "udp port"),
        CheckName::Packets => tr!("doctor" => "packets"),
        CheckName::Offload => tr!("doctor" => "offload"),
        CheckName::Buffer => tr!("doctor" => "buffer"),
        CheckName::Firewall => tr!("doctor" => "firewall"),
        CheckName::Addresses => tr!("doctor" => "addresses"),
        CheckName::Interfaces => tr!("doctor" => "interfaces"),
        CheckName::Vpn => tr!("doctor" => "vpn"),
        CheckName::Containers => tr!("doctor" => "containers"),
        CheckName::Versions => tr!("doctor" => "versions"),
        CheckName::User => tr!("doctor" => "user"),
        CheckName::Presence => tr!("doctor" => "presence"),
        CheckName::Address => tr!("doctor" => "address"),
        CheckName::Link => tr!("doctor" => "link"),
        CheckName::Outbox => tr!("doctor" => "outbox"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: ReportStyle = ReportStyle { color: false, unicode: true, in_words: false, columns: None };

    fn line(severity: Severity, remedy: Option<&str>) -> ReportLine {
        let text = "bob can't reach 10.0.0.1:40000: this machine's firewall drops the packets:";
        ReportLine::sample(CheckName::Port, severity, text, remedy)
    }

    #[test]
    fn a_command_is_never_broken() {
        let command = "sudo iptables -I INPUT -p udp --dport 40000 -j ACCEPT && sudo ip6tables -I INPUT -p udp --dport 40000 -j ACCEPT";
        for columns in [20, 40, 80] {
            let style = ReportStyle { columns: Some(columns), ..PLAIN };
            let lines = style.lines(&line(Severity::Problem, Some(command)));
            assert_eq!(lines.last().unwrap().trim(), command);
            let words = &lines[..lines.len() - 1];
            assert!(words.iter().all(|row| row.width() <= columns.max(29)), "{words:#?}");
            assert!(words[0].starts_with("✗ udp port   bob can't"), "{words:#?}");
        }
    }

    #[test]
    fn marks_are_legible_without_colour_and_without_unicode() {
        let marks = |style: ReportStyle| -> Vec<String> { Severity::ALL.iter().map(|one| style.mark(*one)).collect() };
        assert_eq!(marks(PLAIN), ["✓", "·", "!", "✗"]);
        assert_eq!(marks(ReportStyle { unicode: false, ..PLAIN }), ["+", "-", "!", "x"]);
        let words = marks(ReportStyle { in_words: true, ..PLAIN });
        assert_eq!(words, ["ok:     ", "note:   ", "warning:", "problem:"]);
        assert!(marks(ReportStyle { color: true, ..PLAIN })[3].starts_with("\u{1b}[1;31m"));
    }

    #[test]
    fn programs_and_people_read_the_same_subjects() {
        for check in CheckName::ALL {
            assert_eq!(subject(*check), check.as_str());
            assert!(subject(*check).width() <= SUBJECT_COLUMNS);
        }
        for severity in Severity::ALL {
            assert_eq!(severity_word(*severity), format!("{}:", severity.as_str()));
        }
    }

    #[test]
    fn without_a_terminal_a_finding_is_one_line() {
        let lines = PLAIN.lines(&line(Severity::Good, None));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("drops the packets:"), "{lines:?}");
    }
}
