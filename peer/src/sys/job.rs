//! Job control: a process that gives its terminal back to the shell for a while.

use std::io;

use rustix::process::{Signal, getpgid, getpgrp, getpid, getppid, getsid, kill_process};

/// The signal that asks a process to stop, as a terminal sends it for Ctrl-Z.
pub const STOP: i32 = Signal::TSTP.as_raw();
/// The signal that lets it go on.
pub const GO_ON: i32 = Signal::CONT.as_raw();

/// Stops this process; returns when it goes on.
///
/// # Errors
/// As the system says.
pub fn stop() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::STOP)?)
}

/// Whether there is no shell that could let this process go on after it stopped: whoever started it is in another
/// session, or in its own group.
pub fn is_orphaned() -> bool {
    let session = getsid(None).ok();
    getppid().is_none_or(|parent| getsid(Some(parent)).ok() != session || getpgid(Some(parent)).ok() == Some(getpgrp()))
}

/// Lets this process look at its terminal's size, as if that had changed.
///
/// # Errors
/// As the system says.
pub fn look_at_size() -> io::Result<()> {
    Ok(kill_process(getpid(), Signal::WINCH)?)
}
