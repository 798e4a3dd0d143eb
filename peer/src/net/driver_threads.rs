//! Threads that drive an endpoint's connections, on machines with the cores for it.
//!
//! quinn drives each connection by one task, which encrypts and sends its packets and decrypts those that came. On a node's
//! only thread, all connections together are as fast as one core. With threads of their own, each connection may use a
//! core; the node's thread keeps the socket's receiving side and the requests.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | threads of an endpoint | as many as it was given, started with its first connection | connections share them in turn |

use std::cell::Cell;
use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

use crate::util::RuntimeThread;

/// Fewer cores have no room for further threads: the kernel's work and the other side's, on the same machine, fill them.
const MIN_CORES: usize = 4;
/// A fifth thread would wait for the one that receives.
const MAX_THREADS: usize = 4;

thread_local! {
    /// The place of this thread among those of its endpoint, from 1; 0 on any other.
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

/// The threads of one endpoint.
#[derive(Debug, Default)]
pub(super) struct DriverThreads {
    count: usize,
    started: OnceLock<Vec<RuntimeThread>>,
    next: AtomicUsize,
}

/// Returns the threads that pay for links on this machine: half of its cores from four on, at most four; else none.
pub fn threads_for_this_machine() -> usize {
    threads_for_cores(std::thread::available_parallelism().map_or(1, usize::from))
}

fn threads_for_cores(cores: usize) -> usize {
    if cores < MIN_CORES { 0 } else { (cores / 2).min(MAX_THREADS) }
}

/// Returns the place of the calling thread among those of its endpoint, from 1; 0 for a thread that isn't one of them.
pub(super) fn current_place() -> usize {
    PLACE.get()
}

impl DriverThreads {
    /// Returns `count` threads, none of which runs yet.
    pub(super) fn new(count: usize) -> Self {
        Self { count, ..Self::default() }
    }

    /// Returns how many there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Returns the thread whose turn it is to take a task; `None` if there is none.
    pub(super) fn next(&self) -> Option<&Handle> {
        let threads = self.started.get_or_init(|| (1..=self.count).map_while(start_thread).collect());
        let turn = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(threads.len())?;
        threads.get(turn).map(RuntimeThread::handle)
    }

    /// Runs what `work` makes on each thread that was started, one after another.
    pub(super) async fn run_on_each<F: Future<Output = ()> + Send + 'static>(&self, work: impl Fn() -> F) {
        for thread in self.started.get().into_iter().flatten() {
            // Fails only where the thread's runtime has ended, and all its tasks with it.
            let _ = thread.handle().spawn(work()).await;
        }
    }
}

fn start_thread(place: usize) -> Option<RuntimeThread> {
    let thread = RuntimeThread::start("links").inspect_err(|why| tracing::info!("one thread less for links: {why}"));
    let thread = thread.ok()?;
    // The first task of the thread, so that each later one finds the place.
    drop(thread.handle().spawn(async move { PLACE.set(place) }));
    Some(thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_cores_have_no_threads_of_their_own() {
        assert_eq!([1, 2, 3, 4, 6, 8, 64].map(threads_for_cores), [0, 0, 0, 2, 3, 4, 4]);
    }

    #[tokio::test]
    async fn tasks_take_turns_on_threads_that_know_their_place() {
        let threads = DriverThreads::new(2);
        assert_eq!(current_place(), 0);
        let mut places = Vec::new();
        for _ in 0..4 {
            places.push(threads.next().unwrap().spawn(async { current_place() }).await.unwrap());
        }
        assert_eq!(places, [1, 2, 1, 2]);
        assert!(DriverThreads::default().next().is_none());
    }
}
