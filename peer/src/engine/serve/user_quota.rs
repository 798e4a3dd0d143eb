//! Quotas of each user over all their links.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | streams of one user that are served | 48; a link that waits for its next stream holds one of them | the next one is accepted when another has ended |
//! | answers of one user that are looked up or written, without those that carry file data | 4, of them 1 page of a list | one after another |
//! | memory of frames | [`crate::net::frame_receiver`] | |

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::UserName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::net::frame_receiver::FrameQuota;

const STREAMS_PER_USER: usize = 48;
const ANSWERS_PER_USER: usize = 4;
const LISTS_PER_USER: usize = 1;

/// The quotas of all users who have links.
#[derive(Debug, Default)]
pub(super) struct UserQuotas(Mutex<HashMap<UserName, Arc<UserQuota>>>);

/// The quota of one user.
#[derive(Debug)]
pub(super) struct UserQuota {
    pub(super) frames: FrameQuota,
    streams: Arc<Semaphore>,
    answers: Semaphore,
    lists: Semaphore,
}

/// A permit for one stream, held while it is served.
#[derive(Debug)]
pub(super) struct StreamPermit(#[expect(dead_code, reason = "held, not looked at")] Option<OwnedSemaphorePermit>);

impl UserQuotas {
    /// Returns the quota of a user, the same for all their links.
    pub(super) fn for_user(&self, user: &UserName) -> Arc<UserQuota> {
        let mut users = self.0.lock();
        // Quotas that no link holds any more are dropped.
        users.retain(|_, allowance| Arc::strong_count(allowance) > 1);
        let new = || {
            let streams = Arc::new(Semaphore::new(STREAMS_PER_USER));
            let (answers, lists) = (Semaphore::new(ANSWERS_PER_USER), Semaphore::new(LISTS_PER_USER));
            Arc::new(UserQuota { frames: FrameQuota::for_user(), streams, answers, lists })
        };
        users.entry(user.clone()).or_insert_with(new).clone()
    }
}

impl StreamPermit {
    /// Returns the permit of a stream that was not accepted.
    pub(super) const fn placeholder() -> Self {
        Self(None)
    }
}

impl UserQuota {
    /// Waits until one more stream may be served.
    pub(super) async fn acquire_stream(&self) -> StreamPermit {
        // The semaphore is never closed, so `ok` hides no error.
        StreamPermit(self.streams.clone().acquire_owned().await.ok())
    }

    /// Waits until one more answer may be prepared. A page of a list needs a second permit.
    pub(super) async fn acquire_answer(&self, is_list: bool) -> [Option<SemaphorePermit<'_>>; 2] {
        // The scarcer permit first, so that those who wait for it hold nothing else.
        let list = if is_list { self.lists.acquire().await.ok() } else { None };
        [list, self.answers.acquire().await.ok()]
    }
}
