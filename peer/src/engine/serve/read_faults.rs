//! The log of files that can't be read: one line a minute for each, however often and by however many it is requested.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | files that are remembered as logged | `REMEMBERED` | all are forgotten, and logged again |

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::safe_text::safe_path;

/// Interval between log lines about one file.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Files that are remembered.
const REMEMBERED: usize = 1024;

/// A log of files that can't be read. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadFaultLog(Arc<Mutex<HashMap<PathBuf, Instant>>>);

impl ReadFaultLog {
    /// Logs that a file can't be read, unless it was logged within the last minute.
    pub(super) fn log(&self, path: &Path, why: impl std::fmt::Display) {
        if self.is_due(path, Instant::now()) {
            tracing::error!("{} can't be read: {why}", safe_path(path));
        }
    }

    fn is_due(&self, path: &Path, now: Instant) -> bool {
        let mut told = self.0.lock();
        if told.get(path).is_some_and(|then| now.saturating_duration_since(*then) < LOG_INTERVAL) {
            return false;
        }
        if told.len() >= REMEMBERED {
            told.clear();
        }
        told.insert(path.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_told_of_once_a_minute() {
        let (log, begin) = (ReadFaultLog::default(), Instant::now());
        let (film, book) = (Path::new("/disk/film"), Path::new("/disk/book"));
        assert!(log.is_due(film, begin) && log.is_due(book, begin));
        assert!(!log.is_due(film, begin + LOG_INTERVAL / 2));
        assert!(log.is_due(film, begin + LOG_INTERVAL));
        assert!((0..2 * REMEMBERED).all(|n| log.is_due(&PathBuf::from(n.to_string()), begin)));
        assert!(log.0.lock().len() <= REMEMBERED);
    }
}
