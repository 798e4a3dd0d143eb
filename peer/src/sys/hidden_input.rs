//! A terminal that doesn't show what is typed.

use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};

use super::job;

/// How the terminal was, while it is hidden what is typed.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The fate of what was typed before it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypedAhead {
    /// It was meant for something else.
    Dropped,
    /// It is the answer to a question that follows another one at once.
    Kept,
}

/// Throws away what was typed and not read.
///
/// # Errors
/// As the terminal says.
pub fn drop_typed_ahead() -> io::Result<()> {
    Ok(tcflush(job::terminal()?, QueueSelector::IFlush)?)
}

/// What is typed isn't shown, and comes key by key, until this is dropped.
#[derive(Debug)]
pub struct HiddenInput(());

impl HiddenInput {
    /// Begins. What was typed before, and shown, is thrown away or kept.
    ///
    /// # Errors
    /// As the terminal says.
    pub fn begin(typed_ahead: TypedAhead) -> io::Result<Self> {
        let terminal = job::terminal()?;
        let modes = tcgetattr(&terminal)?;
        let mut hidden = modes.clone();
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(modes);
        let when = match typed_ahead {
            TypedAhead::Dropped => OptionalActions::Flush,
            TypedAhead::Kept => OptionalActions::Now,
        };
        tcsetattr(&terminal, when, &hidden)?;
        Ok(Self(()))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        show_input();
    }
}

/// Shows again what is typed, if that was hidden.
pub fn show_input() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    // In the background it would stop this process; the shell has put its terminal in order by then.
    if let (Some(modes), Ok(terminal)) = (before, job::terminal())
        && !job::is_others(&terminal, true)
    {
        let _ = tcsetattr(&terminal, OptionalActions::Now, &modes);
    }
}
