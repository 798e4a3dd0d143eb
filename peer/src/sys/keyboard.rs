//! Input from a terminal: bytes, and changes of its size.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use signal_hook::low_level::pipe;

use super::job_control;

/// Interval between checks of a terminal that another process group uses.
const BACKGROUND_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The keyboard of a terminal.
#[derive(Debug)]
pub struct KeyboardReader {
    terminal: File,
    resized: UnixStream,
}

/// The result of one wait for input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyboardPoll {
    /// Number of bytes read into the buffer.
    pub read: usize,
    /// True if the terminal's size may have changed.
    pub is_resized: bool,
}

impl KeyboardReader {
    /// Opens the terminal of this process. Fails with the system's error if there is no terminal.
    pub fn open() -> io::Result<Self> {
        let (resized, tell) = UnixStream::pair()?;
        resized.set_nonblocking(true)?;
        // The signal handler writes to it, and must not block when it is full.
        tell.set_nonblocking(true)?;
        pipe::register(Signal::WINCH.as_raw(), tell)?;
        Ok(Self { terminal: job_control::open_terminal()?, resized })
    }

    /// Waits for bytes or a change of size, at most `at_most`. Reads nothing while another process group has the
    /// terminal. Fails with the terminal's error; [`ErrorKind::UnexpectedEof`] when it is gone.
    pub fn poll_input(&mut self, buffer: &mut [u8], at_most: Option<Duration>) -> io::Result<KeyboardPoll> {
        let timeout = at_most.map(|time| Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut ready = [PollFd::new(&self.terminal, PollFlags::IN), PollFd::new(&self.resized, PollFlags::IN)];
        match poll(&mut ready, timeout.as_ref()) {
            Ok(_) => {}
            // Returned to the caller, which may have to act on the signal.
            Err(Errno::INTR) => return Ok(KeyboardPoll { read: 0, is_resized: false }),
            Err(why) => return Err(why.into()),
        }
        let (has_bytes, is_resized) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
        if is_resized {
            // Several changes since the last call count as one.
            let mut told = [0; 64];
            while matches!(self.resized.read(&mut told), Ok(1..)) {}
        }
        if !has_bytes {
            return Ok(KeyboardPoll { read: 0, is_resized });
        }
        // A read from the background would stop this process (SIGTTIN).
        if job_control::is_controlled_by_others(&self.terminal, true) {
            // The bytes stay readable, so `poll` alone would return at once again and again.
            std::thread::sleep(BACKGROUND_POLL_INTERVAL);
            return Ok(KeyboardPoll { read: 0, is_resized });
        }
        match self.terminal.read(buffer) {
            // In raw mode, no key produces an end of file: the terminal is gone.
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => Ok(KeyboardPoll { read, is_resized }),
            Err(why) if matches!(why.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                Ok(KeyboardPoll { read: 0, is_resized })
            }
            Err(why) => Err(why),
        }
    }
}
