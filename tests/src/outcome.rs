//! How a run ended, and what a test demands of it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use serde_json::Value;

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command line, for messages.
    pub what: String,
    /// The exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Outcome {
    pub(crate) fn new(what: String, status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Self { what, code: code.expect("a process ends by itself or by a signal"), stdout, stderr }
    }

    /// Demands this exit code.
    ///
    /// # Panics
    /// When it was another.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "the exit code is wrong: {self}");
        self
    }

    /// True if it exited with 0.
    pub fn is_success(&self) -> bool {
        self.code == 0
    }

    /// Demands success of a fetch with `--json` and returns what became of its files, sorted.
    ///
    /// # Panics
    /// When it failed, or told of a file without saying what became of it.
    #[track_caller]
    pub fn file_statuses(&self) -> Vec<String> {
        let files = self.exits(0).json().into_iter().filter(|object| object["type"] == "file");
        let mut statuses: Vec<String> = files.map(|file| file["status"].as_str().unwrap().to_owned()).collect();
        statuses.sort();
        statuses
    }

    /// Demands that standard error has this text.
    ///
    /// # Panics
    /// When it doesn't.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(String::from_utf8_lossy(&self.stderr).contains(text), "standard error lacks {text:?}: {self}");
        self
    }

    /// Demands that standard output has this text.
    ///
    /// # Panics
    /// When it doesn't.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Self {
        assert!(self.out().contains(text), "standard output lacks {text:?}: {self}");
        self
    }

    /// Demands that standard output is exactly this.
    ///
    /// # Panics
    /// When it is something else.
    #[track_caller]
    pub fn prints_exactly(&self, text: &str) -> &Self {
        assert_eq!(self.out(), text, "standard output is something else: {self}");
        self
    }

    /// Demands that neither stream has a byte that could steer a terminal, line ends and tabs apart.
    ///
    /// # Panics
    /// When one does.
    #[track_caller]
    pub fn is_plain(&self) -> &Self {
        for (name, text) in [("output", self.out()), ("error", self.err())] {
            let found = text.chars().find(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || is_bidi(*c));
            assert_eq!(found, None, "standard {name} has {found:?}: {self}");
        }
        self
    }

    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text, without the notices that only a loaded machine makes a command give.
    pub fn err(&self) -> String {
        let is_notice = |line: &str| line.contains("waiting for the tracker") && line.trim_end().ends_with("to answer");
        String::from_utf8_lossy(&self.stderr).split_inclusive('\n').filter(|line| !is_notice(line)).collect()
    }

    /// Standard output as NDJSON: every line an object of version 1 with a type.
    ///
    /// # Panics
    /// When a line is anything else.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{line:?}: {why}: {self}"));
            assert_eq!(value["v"], 1, "{line:?} has no version: {self}");
            assert!(value["type"].is_string(), "{line:?} has no type: {self}");
            value
        };
        self.out().lines().map(parse).collect()
    }

    /// The one NDJSON object of this type.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[track_caller]
    pub fn object(&self, kind: &str) -> Value {
        let mut found: Vec<Value> = self.json().into_iter().filter(|value| value["type"] == kind).collect();
        assert_eq!(found.len(), 1, "one object of type {kind:?} was due: {self}");
        found.remove(0)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(8000)]).into_owned();
        let (out, err) = (shown(&self.stdout), shown(&self.stderr));
        write!(f, "\n$ {}\n-- exit {}\n-- stdout\n{out}\n-- stderr\n{err}", self.what, self.code)
    }
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}
