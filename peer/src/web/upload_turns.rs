//! Turns of uploads: one request at a time writes a part, and the newest has it. A phone that slept leaves a connection
//! behind which nobody speaks any more.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as TurnLock, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

/// The running uploads by their key. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct UploadTurns(Arc<Mutex<HashMap<[u8; 32], TurnQueue>>>);

#[derive(Debug, Default)]
struct TurnQueue {
    lock: Arc<TurnLock<()>>,
    newest: CancellationToken,
    waiting: usize,
}

/// The right to write a part, until it is dropped.
#[derive(Debug)]
pub(super) struct UploadTurn {
    turns: UploadTurns,
    key: [u8; 32],
    /// Cancelled when another request takes the part over.
    pub(super) superseded: CancellationToken,
    guard: Option<OwnedMutexGuard<()>>,
}

impl UploadTurns {
    /// Takes the part over from the request that has it, when that has written its last bytes.
    pub(super) async fn take(&self, key: [u8; 32]) -> UploadTurn {
        let (lock, superseded) = {
            let mut queues = self.0.lock();
            let queue = queues.entry(key).or_default();
            queue.newest.cancel();
            queue.newest = CancellationToken::new();
            queue.waiting += 1;
            (queue.lock.clone(), queue.newest.clone())
        };
        // Before the wait, so that a request that is dropped while it waits is counted out as well.
        let mut turn = UploadTurn { turns: self.clone(), key, superseded, guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for UploadTurn {
    fn drop(&mut self) {
        // First: a queue that went while its lock is held would let another request write beside this one.
        self.guard = None;
        let mut queues = self.turns.0.lock();
        if let Some(queue) = queues.get_mut(&self.key) {
            queue.waiting -= 1;
            if queue.waiting == 0 {
                queues.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_request_has_the_part() {
        let turns = UploadTurns::default();
        let (first, other) = (turns.take([1; 32]).await, turns.take([2; 32]).await);
        let mut second = Box::pin(turns.take([1; 32]));
        assert!(futures_pending(&mut second).await);
        assert!(first.superseded.is_cancelled() && !other.superseded.is_cancelled());
        drop(first);
        let second = second.await;
        assert!(!second.superseded.is_cancelled());
        drop((second, other));
        assert!(turns.0.lock().is_empty());
    }

    async fn futures_pending<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> bool {
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }
}
