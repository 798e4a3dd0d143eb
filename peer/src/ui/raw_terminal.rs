//! The terminal while a view has it: raw mode, restored however the process ends.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::Show;
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::terminal::{self, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use parking_lot::Mutex;

use super::{LinePriority, command_output};
use crate::sys::{job_control, restore_echo};

/// A terminal's screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScreenKind {
    /// The main screen, which has the scrollback.
    Inline,
    /// The alternate screen.
    Alternate,
}

/// A guard of raw mode: dropping it restores the terminal.
#[derive(Debug)]
pub(super) struct RawTerminal {
    kind: ScreenKind,
}

/// True while a view has the terminal.
// Static, because a panic hook and the end by a signal have no view at hand.
static IS_VIEW_ACTIVE: AtomicBool = AtomicBool::new(false);
/// True if that view uses the alternate screen.
static IS_ALTERNATE_SCREEN: AtomicBool = AtomicBool::new(false);

impl RawTerminal {
    /// Enters raw mode and holds lines for standard error until it is left.
    pub(super) fn enter(kind: ScreenKind) -> io::Result<Self> {
        // The guard first: a failure on the way restores the terminal.
        let this = Self { kind };
        this.acquire()?;
        command_output::hold_stderr();
        let view = std::thread::current().id();
        let previous = std::panic::take_hook();
        // A panic message printed in raw mode would be lost in the view: the hook restores the terminal first.
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().id() == view {
                leave_raw_mode(kind);
                previous(panic);
            } else {
                // Another thread panicked: the view goes on, and the owner of that thread reports the failure.
                command_output::write_stderr_line(LinePriority::Error, &panic.to_string());
            }
        }));
        Ok(this)
    }

    /// Takes the terminal again after a stop; returns false while this process is in the background.
    pub(super) fn reacquire(&self) -> io::Result<bool> {
        if job_control::is_in_background() {
            return Ok(false);
        }
        // crossterm remembers that raw mode is on and ignores a second call, although the shell has reset it.
        terminal::disable_raw_mode()?;
        self.acquire()?;
        command_output::hold_stderr();
        // The shell has moved the cursor.
        request_cursor_position()?;
        Ok(true)
    }

    /// True if a shell exists that can continue this process after a stop.
    pub(super) fn can_suspend() -> bool {
        !job_control::is_orphaned()
    }

    /// Restores the terminal and stops this process; returns when it is continued. Fails with the error of the system
    /// call.
    pub(super) fn suspend(&self) -> io::Result<()> {
        leave_raw_mode(self.kind);
        job_control::stop_process()
    }

    fn acquire(&self) -> io::Result<()> {
        terminal::enable_raw_mode()?;
        // The kind first: whoever sees an active view reads it next.
        IS_ALTERNATE_SCREEN.store(self.kind == ScreenKind::Alternate, Ordering::SeqCst);
        IS_VIEW_ACTIVE.store(true, Ordering::SeqCst);
        let mut out = io::stdout();
        if self.kind == ScreenKind::Alternate {
            queue!(out, EnterAlternateScreen)?;
        }
        execute!(out, EnableBracketedPaste)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        leave_raw_mode(self.kind);
    }
}

/// Has the key reader report the cursor's position, as a change of size.
pub(super) fn request_cursor_position() -> io::Result<()> {
    job_control::raise_resize_signal()
}

/// Restores the terminal from any state, for a process that is about to exit.
pub fn restore_terminal() {
    if job_control::is_in_background() {
        // Another process has the terminal; a change of its settings from the background would stop this one (SIGTTOU).
        IS_VIEW_ACTIVE.store(false, Ordering::SeqCst);
        return;
    }
    // The process may end inside a password prompt.
    restore_echo();
    if IS_VIEW_ACTIVE.load(Ordering::SeqCst) && !IS_ALTERNATE_SCREEN.load(Ordering::SeqCst) {
        // Clears the line being written and the rows below it.
        let _ = io::stdout().write_all(b"\r\x1b[J");
    }
    if IS_ALTERNATE_SCREEN.load(Ordering::SeqCst) {
        leave_raw_mode(ScreenKind::Alternate);
    } else {
        leave_raw_mode(ScreenKind::Inline);
    }
}

fn leave_raw_mode(kind: ScreenKind) {
    // Only once: leaving the alternate screen again would restore an old cursor position, over later output.
    if !IS_VIEW_ACTIVE.swap(false, Ordering::SeqCst) {
        return;
    }
    if job_control::is_in_background() {
        // Another process has the terminal; a change of its settings from the background would stop this one (SIGTTOU).
        command_output::release_stderr();
        return;
    }
    // Each step is tried, and none can be reported: the terminal may be what failed.
    let mut out = io::stdout();
    if kind == ScreenKind::Alternate {
        let _ = queue!(out, LeaveAlternateScreen);
    }
    let _ = execute!(out, DisableBracketedPaste, EnableLineWrap, Show);
    let _ = terminal::disable_raw_mode();
    let _ = out.flush();
    command_output::release_stderr();
}

/// A buffer for drawing. A frame reaches the terminal in one write, so that no other output gets in between.
#[derive(Debug, Clone, Default)]
pub(super) struct TerminalBuffer(std::sync::Arc<Mutex<Vec<u8>>>);

impl TerminalBuffer {
    /// Writes the buffered frame to the terminal.
    pub(super) fn write_out(&self) -> io::Result<()> {
        let mut drawn = self.0.lock();
        if drawn.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        // Bypasses standard output's line buffer, which would write whole lines first and the last, partial row later.
        let put = out.flush().and_then(|()| File::from(out.as_fd().try_clone_to_owned()?).write_all(&drawn));
        // After a failure as well: how much of it arrived is unknown.
        drawn.clear();
        job_control::clear_stopped();
        put
    }
}

impl Write for TerminalBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
