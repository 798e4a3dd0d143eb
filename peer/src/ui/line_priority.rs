//! The priority of a line on standard error, for the system's journal.

/// How urgent a line is, in the numbers of syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinePriority {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

impl LinePriority {
    /// Returns the text as the journal takes it: each of its lines with its priority in front.
    pub(super) fn mark(self, text: &str) -> String {
        // The journal takes each line for a record of its own (sd-daemon(3)).
        let marked: Vec<String> = text.lines().map(|line| format!("<{}>{line}", self as u8)).collect();
        marked.join("\n")
    }
}

impl From<&tracing::Level> for LinePriority {
    fn from(level: &tracing::Level) -> Self {
        match *level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warning,
            tracing::Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_priority() {
        assert_eq!(LinePriority::Warning.mark("a\nb"), "<4>a\n<4>b");
        assert_eq!(LinePriority::from(&tracing::Level::TRACE), LinePriority::Debug);
    }
}
