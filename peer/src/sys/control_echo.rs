//! Suppression of the terminal's `^C` echo.

use std::io::stderr;

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcgetpgrp, tcsetattr};

/// A guard that keeps the terminal on standard error from showing `^C` until it is dropped.
#[derive(Debug)]
pub struct ControlEchoGuard;

impl ControlEchoGuard {
    /// Suppresses the echo. Returns `None` if nothing had to be changed, or the process is in the background.
    pub fn suppress() -> Option<Self> {
        set_control_echo(false).then_some(Self)
    }
}

impl Drop for ControlEchoGuard {
    fn drop(&mut self) {
        set_control_echo(true);
    }
}

/// Sets the echo of control keys; true if that changed it. Does nothing in the background, where the terminal would
/// stop this process for trying (SIGTTOU).
fn set_control_echo(shown: bool) -> bool {
    // Standard error, since standard input and output may be pipes.
    let err = stderr();
    let in_front = tcgetpgrp(&err).is_ok_and(|group| group == getpgrp());
    let Some(mut modes) = tcgetattr(&err).ok().filter(|_| in_front) else { return false };
    if modes.local_modes.contains(LocalModes::ECHOCTL) == shown {
        return false;
    }
    modes.local_modes.set(LocalModes::ECHOCTL, shown);
    tcsetattr(&err, OptionalActions::Now, &modes).is_ok()
}
