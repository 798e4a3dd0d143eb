//! A node's process, as those see it who wait for its replies.

use std::time::Duration;

use localization::tr;
use tokio::time::Instant;

use crate::engine::Error;
use crate::profile::{Profile, ProfileError};
use crate::sys;

/// The process of a node; `pid` is `None` if it can't be determined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProcess {
    pid: Option<u32>,
}

impl NodeProcess {
    /// Silence after which the process is checked for the first time.
    pub(super) const FIRST_CHECK_DELAY: Duration = Duration::from_millis(1500);
    /// Interval between later checks. A process that is stopped at two of them is not stopped for a moment only.
    const CHECK_INTERVAL: Duration = Duration::from_millis(250);

    /// Returns the process with this id.
    pub(super) const fn new(pid: Option<u32>) -> Self {
        Self { pid }
    }

    /// True if it is known to be another process than this one.
    pub fn is_other(&self) -> bool {
        self.pid.is_some_and(|pid| pid != std::process::id())
    }

    /// True if the process is stopped by a signal, and stays so until it gets SIGCONT.
    pub fn is_stopped(&self) -> bool {
        self.pid.is_some_and(sys::is_process_stopped)
    }

    /// Returns the error for a stopped process, with the remedy.
    pub fn stopped_error(&self) -> Error {
        ProfileError::node_stopped(self.pid.unwrap_or_default()).into()
    }

    /// Returns the error for a process that holds the profile and can't be reached.
    pub(super) fn no_socket_error(&self, profile: &Profile) -> Error {
        if self.is_stopped() {
            return self.stopped_error();
        }
        Error::NodeWithoutSocket { pid: self.pid, socket: profile.socket_path() }
    }

    /// Waits for `work` up to `limit`, and checks meanwhile that the process isn't stopped.
    ///
    /// # Errors
    /// [`ProfileError::NodeStopped`], or [`Error::NodeGone`] when `work` takes longer than `limit`.
    pub(super) async fn wait_for<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::pin!(work);
        let (begun, mut was_stopped, mut pause) = (Instant::now(), false, Self::FIRST_CHECK_DELAY);
        loop {
            tokio::select! {
                // A reply that is there counts, however late this task is scheduled.
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(pause) => {}
            }
            let is_stopped = self.is_stopped();
            if is_stopped && was_stopped {
                return Err(self.stopped_error());
            }
            if begun.elapsed() >= limit {
                let seconds = limit.as_secs();
                let why = match self.pid {
                    Some(pid) => tr!("process {pid} doesn't answer within {seconds} s", pid, seconds),
                    None => tr!("doesn't answer within {seconds} s", seconds),
                };
                return Err(Error::NodeGone { why });
            }
            (was_stopped, pause) = (is_stopped, Self::CHECK_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_named() {
        let this = NodeProcess::new(Some(std::process::id()));
        let never = std::future::pending::<Result<(), Error>>();
        let error = this.wait_for(Duration::from_secs(10), never).await.unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()) && error.contains("10 s"), "{error}");
        assert!(matches!(this.wait_for(Duration::ZERO, async { Ok(7) }).await, Ok(7)));
    }
}
