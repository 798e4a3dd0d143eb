//! Waiting for a file descriptor when none is free.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::sys::{is_too_many_open_files, open_files_limit, open_regular};

/// Time to wait for a file descriptor: those in use become free when a few groups were sent.
const DESCRIPTOR_TIMEOUT: Duration = Duration::from_secs(5);
const DESCRIPTOR_RETRY_DELAY: Duration = Duration::from_millis(20);
/// Interval between log lines about a lack of descriptors.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// An opener of files that waits for a descriptor, and logs now and then that there are too few. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct DescriptorWait {
    /// Time of the last log line.
    last_logged: Arc<Mutex<Option<Instant>>>,
}

impl DescriptorWait {
    /// Opens a file, and waits if there is no free descriptor.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        let until = Instant::now() + DESCRIPTOR_TIMEOUT;
        loop {
            match open_regular(path) {
                Err(why) if is_too_many_open_files(&why) => {
                    self.log_shortage(&why);
                    if Instant::now() >= until {
                        return Err(why);
                    }
                    // Runs on a blocking thread, so that only this request waits.
                    std::thread::sleep(DESCRIPTOR_RETRY_DELAY);
                }
                opened => return opened,
            }
        }
    }

    fn log_shortage(&self, why: &io::Error) {
        let mut last_logged = self.last_logged.lock();
        if last_logged.is_none_or(|told| told.elapsed() >= LOG_INTERVAL) {
            *last_logged = Some(Instant::now());
            let limit = open_files_limit().map_or_else(String::new, |limit| format!(" ({limit} at once)"));
            tracing::warn!("no more files can be opened{limit}, those who fetch wait: {why}; `ulimit -n` says more");
        }
    }
}
