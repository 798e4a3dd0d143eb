//! A thread with a runtime of its own.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A thread that runs the tasks that are spawned on it, one at a time. It ends when this is dropped, and its tasks with it.
#[derive(Debug)]
pub struct RuntimeThread {
    handle: Handle,
    _running: DropGuard,
}

impl RuntimeThread {
    /// Starts a thread of this name. Fails with the system's error.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        // The runtime is dropped on its own thread, which may wait for a task in the middle of a turn.
        thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Self { handle, _running: stop.drop_guard() })
    }

    /// Returns the handle that spawns tasks on the thread.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn tasks_run_on_the_thread_and_end_with_it() {
        let thread = RuntimeThread::start("test").unwrap();
        let id = || async { thread::current().id() };
        let (one, other) = (thread.handle().spawn(id()).await.unwrap(), thread.handle().spawn(id()).await.unwrap());
        assert!(one == other && one != thread::current().id());
        let (held, dropped) = oneshot::channel::<()>();
        let endless = thread.handle().spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        drop(thread);
        assert!(dropped.await.is_err() && endless.await.unwrap_err().is_cancelled());
    }
}
