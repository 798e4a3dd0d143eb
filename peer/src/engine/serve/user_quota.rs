//! What each user may have here at once, over all their links.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | streams of one user that are served | 48, and one more for each of their links | the next one is served when another has ended |
//! | answers of one user that are looked up or written, those with data apart | 4, of them 1 page of a list | one after another |
//! | memory of frames | [`crate::net::frame_receiver`] | |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use shared::UserName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::net::frame_receiver::FrameQuota;

const STREAMS_PER_USER: usize = 48;
const ANSWERS_PER_USER: usize = 4;
const LISTS_PER_USER: usize = 1;

/// The allowances of those who have links.
#[derive(Debug, Default)]
pub(super) struct UserQuotas(Mutex<HashMap<UserName, Arc<UserQuota>>>);

/// What one user may have.
#[derive(Debug)]
pub(super) struct UserQuota {
    pub(super) frames: FrameQuota,
    streams: Arc<Semaphore>,
    answers: Semaphore,
    lists: Semaphore,
}

/// Held as long as a stream is served.
#[derive(Debug)]
pub(super) struct StreamPermit(#[expect(dead_code, reason = "held, not looked at")] Option<OwnedSemaphorePermit>);

impl UserQuotas {
    /// The allowance of a user, the same for all their links.
    pub(super) fn for_user(&self, user: &UserName) -> Arc<UserQuota> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that no link uses any more go.
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
    /// That of a stream that never was.
    pub(super) const fn placeholder() -> Self {
        Self(None)
    }
}

impl UserQuota {
    /// Waits until one more stream may be served.
    pub(super) async fn acquire_stream(&self) -> StreamPermit {
        // It is never closed.
        StreamPermit(self.streams.clone().acquire_owned().await.ok())
    }

    /// Waits until one more question may be answered, perhaps with a page of a list.
    pub(super) async fn acquire_answer(&self, is_list: bool) -> [Option<SemaphorePermit<'_>>; 2] {
        // First the one of which there are fewer: those that wait for it keep nothing else.
        let list = if is_list { self.lists.acquire().await.ok() } else { None };
        [list, self.answers.acquire().await.ok()]
    }
}
