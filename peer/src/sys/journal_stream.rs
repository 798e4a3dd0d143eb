//! Recognition of the system's journal behind standard error.

use std::os::fd::AsFd;
use std::sync::OnceLock;

/// Returns true if standard error goes to the journal, which takes a line's priority from a `<N>` in front of it. The
/// service manager names the stream by device and inode (systemd.exec(5)): a redirection inherits the variable, too.
pub fn is_stderr_journal() -> bool {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    *IS_JOURNAL.get_or_init(|| {
        let named = std::env::var("JOURNAL_STREAM").ok();
        let facts = rustix::fs::fstat(std::io::stderr().as_fd()).ok();
        named.zip(facts).is_some_and(|(named, facts)| named == format!("{}:{}", facts.st_dev, facts.st_ino))
    })
}
