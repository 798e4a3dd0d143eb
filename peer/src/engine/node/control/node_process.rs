//! The process of a node, as those see it who wait for it.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Error;
use crate::profile::{Profile, ProfileError};
use crate::sys;

/// A node's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProcess {
    pid: Option<u32>,
}

impl NodeProcess {
    /// How long nothing may come before the process is looked at.
    pub(super) const FIRST_CHECK_DELAY: Duration = Duration::from_millis(1500);
    /// Between two looks at it after that. What is stopped at two of them is not stopped for a moment only.
    const CHECK_INTERVAL: Duration = Duration::from_millis(250);

    /// The process with this number, if it is known.
    pub(super) const fn new(pid: Option<u32>) -> Self {
        Self { pid }
    }

    /// Whether it was stopped and goes on only when it is told to.
    pub fn is_stopped(&self) -> bool {
        self.pid.is_some_and(sys::is_process_stopped)
    }

    /// That it was stopped, and what to do about it.
    pub fn stopped_error(&self) -> Error {
        ProfileError::node_stopped(self.pid.unwrap_or_default()).into()
    }

    /// That it holds the profile and can't be reached.
    pub(super) fn no_socket_error(&self, profile: &Profile) -> Error {
        if self.is_stopped() {
            return self.stopped_error();
        }
        Error::NodeWithoutSocket { pid: self.pid, socket: profile.socket_path() }
    }

    /// Waits for something from it, and looks whether it is stopped when nothing comes.
    ///
    /// # Errors
    /// [`ProfileError::NodeStopped`], or [`Error::NodeGone`] when it takes longer than `patience`.
    pub(super) async fn wait_for<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::pin!(work);
        let (begun, mut was_stopped, mut pause) = (Instant::now(), false, Self::FIRST_CHECK_DELAY);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(pause) => {}
            }
            let is_stopped = self.is_stopped();
            if is_stopped && was_stopped {
                return Err(self.stopped_error());
            }
            if begun.elapsed() >= limit {
                let process = self.pid.map(|pid| format!("process {pid} ")).unwrap_or_default();
                return Err(Error::NodeGone { why: format!("{process}doesn't answer within {} s", limit.as_secs()) });
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
