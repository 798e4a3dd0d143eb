//! What the terminal shows of control keys.

use std::io::stderr;

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcgetpgrp, tcsetattr};

/// The terminal on standard error doesn't show `^C` until this is dropped.
#[derive(Debug)]
pub struct ControlEchoGuard;

impl ControlEchoGuard {
    /// Begins; `None` where nothing has to be changed or may be.
    pub fn suppress() -> Option<Self> {
        set_control_echo(false).then_some(Self)
    }
}

impl Drop for ControlEchoGuard {
    fn drop(&mut self) {
        set_control_echo(true);
    }
}

/// Whether something was changed. A process in the background would be stopped for trying.
fn set_control_echo(shown: bool) -> bool {
    let err = stderr();
    let in_front = tcgetpgrp(&err).is_ok_and(|group| group == getpgrp());
    let Some(mut modes) = tcgetattr(&err).ok().filter(|_| in_front) else { return false };
    if modes.local_modes.contains(LocalModes::ECHOCTL) == shown {
        return false;
    }
    modes.local_modes.set(LocalModes::ECHOCTL, shown);
    tcsetattr(&err, OptionalActions::Now, &modes).is_ok()
}
