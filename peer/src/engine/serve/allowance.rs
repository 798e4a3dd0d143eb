//! What each user may have here at once, over all their links.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | streams of one user that are served | 48, and one more for each of their links | the next one is served when another has ended |
//! | memory of frames | [`crate::net::frame_receiver`] | |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use shared::UserName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::net::frame_receiver::FrameAllowance;

const STREAMS_PER_USER: usize = 48;

/// The allowances of those who have links.
#[derive(Debug, Default)]
pub(super) struct UserAllowances(Mutex<HashMap<UserName, Arc<UserAllowance>>>);

/// What one user may have.
#[derive(Debug)]
pub(super) struct UserAllowance {
    pub(super) frames: FrameAllowance,
    streams: Arc<Semaphore>,
}

/// Held as long as a stream is served.
#[derive(Debug)]
pub(super) struct StreamPermit(#[expect(dead_code, reason = "held, not looked at")] Option<OwnedSemaphorePermit>);

impl UserAllowances {
    /// The allowance of a user, the same for all their links.
    pub(super) fn of(&self, user: &UserName) -> Arc<UserAllowance> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that no link uses any more go.
        users.retain(|_, allowance| Arc::strong_count(allowance) > 1);
        let new = || {
            let streams = Arc::new(Semaphore::new(STREAMS_PER_USER));
            Arc::new(UserAllowance { frames: FrameAllowance::of_user(), streams })
        };
        users.entry(user.clone()).or_insert_with(new).clone()
    }
}

impl StreamPermit {
    /// That of a stream that never was.
    pub(super) const fn none() -> Self {
        Self(None)
    }
}

impl UserAllowance {
    /// Waits until one more stream may be served.
    pub(super) async fn stream(&self) -> StreamPermit {
        // It is never closed.
        StreamPermit(self.streams.clone().acquire_owned().await.ok())
    }
}
