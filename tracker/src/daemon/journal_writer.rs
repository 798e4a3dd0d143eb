//! Log records for the system's journal, each with its priority.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

/// Returns true if standard error goes to the journal. The service manager names the stream by device and inode
/// (systemd.exec(5)): a redirection inherits the variable, too.
pub fn is_stderr_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let facts = rustix::fs::fstat(io::stderr()).ok();
    named.zip(facts).is_some_and(|(named, facts)| named == format!("{}:{}", facts.st_dev, facts.st_ino))
}

/// Writers of log records on standard error with `<N>` in front, from which the journal takes their priority.
#[derive(Debug, Clone, Copy)]
pub struct JournalWriter;

/// The writer of one record, which the formatter writes in one piece.
#[derive(Debug)]
pub struct JournalRecordWriter(u8);

impl<'a> MakeWriter<'a> for JournalWriter {
    type Writer = JournalRecordWriter;

    fn make_writer(&'a self) -> JournalRecordWriter {
        JournalRecordWriter(priority(tracing::Level::INFO))
    }

    fn make_writer_for(&'a self, record: &tracing::Metadata<'_>) -> JournalRecordWriter {
        JournalRecordWriter(priority(*record.level()))
    }
}

impl Write for JournalRecordWriter {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        // In one piece, so that no other thread's record comes in between.
        let line = [format!("<{}>", self.0).as_bytes(), record].concat();
        io::stderr().write_all(&line).map(|()| record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the level in the numbers of syslog.
const fn priority(level: tracing::Level) -> u8 {
    match level {
        tracing::Level::ERROR => 3,
        tracing::Level::WARN => 4,
        tracing::Level::INFO => 6,
        tracing::Level::DEBUG | tracing::Level::TRACE => 7,
    }
}
