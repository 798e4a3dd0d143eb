//! A child process: what it says is kept, awaited and shown when a test fails.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{Outcome, PATIENCE, poll_until, read_available};

/// A running process. Dropping it kills it and returns when it is gone, with what it had locked.
pub struct Process {
    what: String,
    handle: OwnedFd,
    pid: u32,
    watch: Arc<Watch>,
    stdin: Option<Box<dyn Write + Send>>,
}

/// What is known of a process, and a bell that rings at every change.
#[derive(Default)]
struct Watch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Streams that may still bring something.
    open: usize,
    status: Option<ExitStatus>,
}

/// Which stream a reader reads.
#[derive(Clone, Copy)]
enum Which {
    Stdout,
    Stderr,
}

impl Process {
    /// Watches a child whose output streams, if it has any, were made pipes.
    pub(crate) fn watch(what: String, mut child: Child) -> Self {
        let stdin = child.stdin.take().map(|stdin| Box::new(stdin) as Box<dyn Write + Send>);
        let stdout = child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
        let stderr = child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
        Self::watch_streams(what, child, stdin, stdout, stderr)
    }

    /// Watches a child that talks through something else.
    pub(crate) fn watch_streams(
        what: String,
        mut child: Child,
        stdin: Option<Box<dyn Write + Send>>,
        stdout: Option<Box<dyn Read + Send>>,
        stderr: Option<Box<dyn Read + Send>>,
    ) -> Self {
        let pid = child.id();
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("the child is there");
        let watch = Arc::new(Watch::default());
        for (which, stream) in [(Which::Stdout, stdout), (Which::Stderr, stderr)] {
            if let Some(stream) = stream {
                watch.lock().open += 1;
                let watch = watch.clone();
                std::thread::spawn(move || watch.read(which, stream));
            }
        }
        let waiter = watch.clone();
        std::thread::spawn(move || {
            let status = child.wait().expect("a child can be waited for");
            waiter.lock().status = Some(status);
            waiter.changed.notify_all();
        });
        Self { what, handle, pid, watch, stdin }
    }

    /// Its number.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns how many mebibytes of it are in memory.
    ///
    /// # Panics
    /// When it has ended.
    pub fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
    }

    /// Waits until it has said `text`, on either stream, and gives back that line.
    ///
    /// # Panics
    /// When it ends without, or nothing comes for too long.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_for_nth(text, 1)
    }

    /// Waits until it has said `text` `times` times, on either stream, and gives back the last of those lines.
    ///
    /// # Panics
    /// When it ends without, or nothing comes for too long.
    #[track_caller]
    pub fn wait_for_nth(&self, text: &str, times: usize) -> String {
        self.wait_until(&format!("{text:?} (time {times})"), |said| {
            said.lines().filter(|line| line.contains(text)).nth(times - 1).map(str::to_owned)
        })
    }

    /// Waits until `found` finds something in what was said so far, standard output before standard error.
    ///
    /// # Panics
    /// When it ends without, or nothing comes for too long.
    #[track_caller]
    pub fn wait_until<T>(&self, wanted: &str, mut found: impl FnMut(&str) -> Option<T>) -> T {
        // A line that isn't whole yet may be read again when it is.
        self.wait_for_change(wanted, |state| found(&state.said()))
    }

    /// The same of something that is known elsewhere and changes when something is said.
    ///
    /// # Panics
    /// When it ends without, or nothing comes for too long.
    #[track_caller]
    pub(crate) fn wait_until_elsewhere<T>(&self, wanted: &str, mut found: impl FnMut() -> Option<T>) -> T {
        self.wait_for_change(wanted, |_| found())
    }

    #[track_caller]
    fn wait_for_change<T>(&self, wanted: &str, mut found: impl FnMut(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.watch.lock();
        loop {
            if let Some(found) = found(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.is_over() {
                let why = if left.is_zero() { "did not come in time" } else { "can't come any more" };
                let (said, status) = (state.said(), state.status);
                drop(state);
                let threads = self.threads();
                panic!("{wanted} {why}\n$ {}\n-- {status:?}, said so far\n{said}\n{threads}", self.what);
            }
            state = self.watch.wait(state, left);
        }
    }

    /// Everything it has said so far, standard output before standard error.
    pub fn said(&self) -> String {
        self.watch.lock().said()
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.watch.lock().status.is_none()
    }

    /// What its threads are doing, a line each: for a test that waited in vain.
    pub(crate) fn threads(&self) -> String {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid));
        let Ok(threads) = std::fs::read_dir(tasks) else { return "-- it is gone".to_owned() };
        let read = |thread: &Path, name| std::fs::read_to_string(thread.join(name)).unwrap_or_default();
        let line = |thread: &Path| {
            let status = read(thread, "status");
            let state = status.lines().find(|line| line.starts_with("State:")).unwrap_or_default().to_owned();
            let (name, syscall) = (read(thread, "comm"), read(thread, "syscall"));
            format!("{} {state} in {} {}\n", name.trim(), read(thread, "wchan"), syscall.trim())
        };
        let lines: String = threads.flatten().map(|thread| line(&thread.path())).collect();
        format!("-- its threads\n{lines}")
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// When that is closed.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        if let Err(why) = stdin.write_all(bytes.as_ref()).and_then(|()| stdin.flush()) {
            panic!("it doesn't read its standard input: {why}\n$ {}\n-- said so far\n{}", self.what, self.said());
        }
    }

    /// Writes to its standard input from a thread of its own, then ends it: it may read slowly, or not at all.
    pub(crate) fn feed(&mut self, bytes: Vec<u8>) {
        if let Some(mut stdin) = self.stdin.take() {
            std::thread::spawn(move || {
                // One that doesn't read it all is no fault of the test.
                let _ = stdin.write_all(&bytes);
            });
        }
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Any signal.
    pub fn send(&self, signal: Signal) {
        self.signal(signal);
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// SIGSTOP: it is there and says nothing more. Returns when its last thread has stopped; on a busy machine the others may
    /// go on for a while after the first.
    ///
    /// # Panics
    /// When that doesn't happen.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        poll_until(|| self.running_threads().is_empty().then_some(()), || format!("{:?} run", self.running_threads()));
    }

    /// The threads that are neither stopped nor gone.
    fn running_threads(&self) -> Vec<PathBuf> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let runs = |thread: &PathBuf| {
            // The state comes after the name, which may hold anything.
            let stat = std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['T', 't', 'Z', 'X']))
        };
        threads.map(|thread| thread.path()).filter(runs).collect()
    }

    /// The nice values of its threads.
    pub fn niceness(&self) -> Vec<i32> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
        // The 19th field, of which the third is the first after the name (proc_pid_stat(5)).
        let nice = |stat: String| stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok();
        stats.filter_map(nice).collect()
    }

    /// SIGCONT, after [`Process::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When that doesn't come.
    #[track_caller]
    pub fn finish(self) -> Outcome {
        self.finish_within(PATIENCE)
    }

    /// Waits for its end, at most that long.
    ///
    /// # Panics
    /// When that doesn't come.
    #[track_caller]
    pub fn finish_within(mut self, patience: Duration) -> Outcome {
        self.stdin = None;
        let deadline = Instant::now() + patience;
        let mut state = self.watch.lock();
        loop {
            if let (Some(status), 0) = (state.status, state.open) {
                let (stdout, stderr) = (std::mem::take(&mut state.stdout), std::mem::take(&mut state.stderr));
                return Outcome::new(self.what.clone(), status, stdout, stderr);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let said = state.said();
                drop(state);
                let threads = self.threads();
                panic!("it did not end within {patience:?}\n$ {}\n-- said so far\n{said}\n{threads}", self.what);
            }
            state = self.watch.wait(state, left);
        }
    }

    fn signal(&self, signal: Signal) {
        // It may have ended meanwhile; the handle makes sure that nobody else is meant.
        let _ = pidfd_send_signal(&self.handle, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.watch.lock();
        while state.status.is_none() && Instant::now() < deadline {
            state = self.watch.wait(state, PATIENCE);
        }
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn read(&self, which: Which, mut stream: Box<dyn Read + Send>) {
        let mut buffer = vec![0; 64 * 1024];
        // A terminal's end is an error (EIO) when nobody has it open on the other side.
        while let Ok(len @ 1..) = read_available(&mut stream, &mut buffer) {
            let mut state = self.lock();
            match which {
                Which::Stdout => state.stdout.extend_from_slice(&buffer[..len]),
                Which::Stderr => state.stderr.extend_from_slice(&buffer[..len]),
            }
            self.changed.notify_all();
        }
        self.lock().open -= 1;
        self.changed.notify_all();
    }
}

impl State {
    fn said(&self) -> String {
        let mut said = String::from_utf8_lossy(&self.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&self.stderr));
        said
    }

    const fn is_over(&self) -> bool {
        self.status.is_some() && self.open == 0
    }
}
