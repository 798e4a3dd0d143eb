//! A thread for long work, one job at a time: the runtime's threads stay free for short requests, and only one job
//! at a time needs the memory for a long request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::fair_semaphore::{FairPermit, FairSemaphore, Requester};

/// Jobs that may wait; beyond, the newest of the busiest origin is refused.
const MAX_WAITING: usize = 4096;

/// A thread that runs jobs in order. Dropping it waits for the running job.
#[derive(Debug)]
pub(super) struct WorkerThread {
    permits: Arc<FairSemaphore>,
    jobs: Option<mpsc::Sender<WorkerJob>>,
    thread: Option<JoinHandle<()>>,
}

/// A job that was not done: it panicked, or the tracker stops.
#[derive(Debug, thiserror::Error)]
#[error("a long piece of work was not done")]
pub(super) struct WorkerError;

type WorkerJob = Box<dyn FnOnce() + Send>;

impl WorkerThread {
    /// Starts the thread. Fails when the system has no thread left.
    pub(super) fn start() -> std::io::Result<Self> {
        let (work, waiting) = mpsc::channel::<WorkerJob>();
        let thread = std::thread::Builder::new().name("long work".to_owned()).spawn(move || {
            for work in waiting {
                // A panic drops the job's sender, so that its requester gets `WorkerError`; later jobs are unaffected.
                let _ = catch_unwind(AssertUnwindSafe(work));
            }
        })?;
        Ok(Self { permits: Arc::new(FairSemaphore::new(1, MAX_WAITING, 0)), jobs: Some(work), thread: Some(thread) })
    }

    /// Waits for the permit, with which several jobs may be run in a row. `None` when too many wait.
    pub(super) async fn acquire_permit(&self, requester: Requester) -> Option<FairPermit> {
        self.permits.acquire(requester).await
    }

    /// Runs `work` on the thread. The permit travels with the job: a requester that goes away frees it only when the
    /// job is done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        permit: FairPermit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, FairPermit), WorkerError> {
        let (done, outcome) = oneshot::channel();
        let work = Box::new(move || {
            let made = work();
            // The receiver may be gone; the result and the permit are then dropped here, on this thread.
            let _ = done.send((made, permit));
        });
        self.jobs.as_ref().ok_or(WorkerError)?.send(work).map_err(|_| WorkerError)?;
        outcome.await.map_err(|_| WorkerError)
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        // The channel must be closed first: the thread ends when it has no sender left.
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Requester =
        Requester::Client(crate::rate_limits::ClientOrigin::of(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)));

    #[tokio::test]
    async fn one_after_another_whatever_happens_to_each() {
        let long_work = WorkerThread::start().unwrap();
        let (begin, begun) = mpsc::channel::<()>();
        let permit = long_work.acquire_permit(HERE).await.unwrap();
        let mut abandoned = Box::pin(long_work.run(permit, move || begun.recv().unwrap()));
        assert!(looked_at_once(&mut abandoned).await.is_none());
        drop(abandoned);
        let mut next = Box::pin(long_work.acquire_permit(HERE));
        assert!(looked_at_once(&mut next).await.is_none(), "the first piece is not done");
        begin.send(()).unwrap();
        let permit = next.await.unwrap();
        assert!(long_work.run(permit, || panic!("a fault")).await.is_err());
        let permit = long_work.acquire_permit(HERE).await.unwrap();
        let (made, permit) = long_work.run(permit, || 7).await.unwrap();
        let (made, _) = long_work.run(permit, move || made + 1).await.unwrap();
        assert_eq!(made, 8);
    }

    /// Polls once, and returns the result if there is one.
    async fn looked_at_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
