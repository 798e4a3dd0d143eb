//! Threads that many nodes of one process share, each node on one of them.
//!
//! A node alone in its process has a thread and a runtime of its own. Of a hundred nodes each would also have ten threads
//! that wait for work with the disk: measured, 0.5 MiB of stacks a node. Here those are shared, too. Each thread has a
//! runtime of one thread: on the path of bulk data it is faster than one of several, and a node's tasks stay together.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | threads | one a processor, at most `MAX_WORKERS` | nodes take turns |
//! | threads that wait for the disk, of one of these | `MAX_BLOCKING_THREADS` | work waits |

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::engine::Error;

/// Threads of a pool.
const MAX_WORKERS: usize = 4;
/// Threads for work that blocks, of one worker. A node with followed folders keeps one of them for itself.
const MAX_BLOCKING_THREADS: usize = 128;
/// Time without work after which such a thread ends.
const BLOCKING_THREAD_IDLE_TIME: Duration = Duration::from_secs(2);
/// Time for work on other threads to end with the pool.
const POOL_END_TIMEOUT: Duration = Duration::from_secs(1);

/// The work of a node, made on the thread that runs it.
type NodeWork = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Threads for nodes. Cheap to clone; they end with the last clone and the last node.
#[derive(Clone)]
pub struct NodePool(Arc<PoolWorkers>);

struct PoolWorkers {
    workers: Vec<mpsc::UnboundedSender<NodeWork>>,
    next: AtomicUsize,
}

impl NodePool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system's error if a thread can't be started.
    pub fn start() -> Result<Self, Error> {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = (0..processors.min(MAX_WORKERS)).map(|_| start_worker()).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(PoolWorkers { workers, next: AtomicUsize::new(0) })))
    }

    /// Runs what `work` makes on one of the threads. A thread that failed drops it.
    pub(super) fn spawn<F: Future<Output = ()> + 'static>(&self, work: impl FnOnce() -> F + Send + 'static) {
        let PoolWorkers { workers, next } = &*self.0;
        let turn = next.fetch_add(1, Ordering::Relaxed) % workers.len().max(1);
        if let Some(worker) = workers.get(turn) {
            // The caller learns of the failure by the channels that `work` holds.
            let _ = worker.send(Box::new(move || Box::pin(work())));
        }
    }
}

fn start_worker() -> Result<mpsc::UnboundedSender<NodeWork>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_THREAD_IDLE_TIME)
        .build()?;
    let (sender, mut queue) = mpsc::unbounded_channel::<NodeWork>();
    std::thread::Builder::new().name("nodes".to_owned()).spawn(move || {
        let nodes = LocalSet::new();
        nodes.block_on(&runtime, async {
            while let Some(work) = queue.recv().await {
                // A panic ends this node alone; its handle finds its channel closed.
                tokio::task::spawn_local(work());
            }
        });
        // Nodes whose handles are still held end in order.
        runtime.block_on(nodes);
        runtime.shutdown_timeout(POOL_END_TIMEOUT);
    })?;
    Ok(sender)
}

impl std::fmt::Debug for NodePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodePool").field("workers", &self.0.workers.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_spread_and_a_panic_harms_no_other() {
        let pool = NodePool::start().unwrap();
        let (sender, mut threads) = mpsc::unbounded_channel();
        for _ in 0..2 * MAX_WORKERS {
            let sender = sender.clone();
            pool.spawn(move || async move {
                sender.send(std::thread::current().id()).unwrap();
            });
        }
        pool.spawn(|| async { assert!(std::hint::black_box(false), "a fault of one node") });
        let mut seen = std::collections::HashSet::new();
        for _ in 0..2 * MAX_WORKERS {
            seen.insert(threads.recv().await.unwrap());
        }
        assert_eq!(seen.len(), pool.0.workers.len());
        for _ in 0..MAX_WORKERS {
            let sender = sender.clone();
            pool.spawn(move || async move {
                tokio::task::spawn_blocking(move || sender.send(std::thread::current().id()).unwrap()).await.unwrap();
            });
            assert!(threads.recv().await.is_some());
        }
    }
}
