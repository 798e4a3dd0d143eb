//! The terminal while a view has it: raw, and given back however the process ends.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crossterm::cursor::Show;
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::terminal::{self, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use ratatui_core::layout::Size;

use super::command_output;
use crate::sys::{job_control, restore_echo};

/// Which screen of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScreenKind {
    /// The one with the scrollback.
    Inline,
    /// The other one.
    Alternate,
}

/// Raw mode for as long as it lives.
#[derive(Debug)]
pub(super) struct RawTerminal {
    kind: ScreenKind,
}

/// Whether a view has the terminal now.
static IS_VIEW_ACTIVE: AtomicBool = AtomicBool::new(false);
/// Whether that is the other screen.
static IS_ALTERNATE_SCREEN: AtomicBool = AtomicBool::new(false);

impl RawTerminal {
    /// Enters raw mode. What others print on standard error is held back until it is left.
    ///
    /// # Errors
    /// As the terminal says.
    pub(super) fn enter(kind: ScreenKind) -> io::Result<Self> {
        let this = Self { kind };
        this.acquire()?;
        command_output::hold_stderr();
        let view = std::thread::current().id();
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().id() == view {
                leave_raw_mode(kind);
                previous(panic);
            } else {
                // The view goes on; whoever owns that thread tells what became of it.
                command_output::write_stderr_line(&panic.to_string());
            }
        }));
        Ok(this)
    }

    /// Takes the terminal again, whatever happened to it meanwhile; false while others have it.
    ///
    /// # Errors
    /// As the terminal says.
    pub(super) fn reacquire(&self) -> io::Result<bool> {
        if job_control::is_in_background() {
            return Ok(false);
        }
        // Raw mode is remembered as a fact: it has to be left to be entered.
        terminal::disable_raw_mode()?;
        self.acquire()?;
        command_output::hold_stderr();
        request_cursor_position()?;
        Ok(true)
    }

    /// Whether there is a shell that could let us go on after we stopped.
    pub(super) fn can_suspend() -> bool {
        !job_control::is_orphaned()
    }

    /// Gives the terminal back and stops this process; returns when it goes on.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn suspend(&self) -> io::Result<()> {
        leave_raw_mode(self.kind);
        job_control::stop_process()
    }

    fn acquire(&self) -> io::Result<()> {
        terminal::enable_raw_mode()?;
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

/// Lets the key reader find out where the cursor is: it comes as a change of size.
pub(super) fn request_cursor_position() -> io::Result<()> {
    job_control::raise_resize_signal()
}

/// The terminal's size. Consoles that know of none say 0: that is no size but the usual one, until they say more.
pub(super) fn terminal_size() -> Size {
    let or = |size: u16, usual: u16| if size == 0 { usual } else { size };
    terminal::size().map_or(Size::new(80, 24), |(columns, rows)| Size::new(or(columns, 80), or(rows, 24)))
}

/// Gives the terminal back in whatever state it is, for a process that is about to end without a word.
pub fn restore_terminal() {
    if job_control::is_in_background() {
        // Others have the terminal and set it as they need it: to touch it would stop this process instead.
        IS_VIEW_ACTIVE.store(false, Ordering::SeqCst);
        return;
    }
    restore_echo();
    if IS_VIEW_ACTIVE.load(Ordering::SeqCst) && !IS_ALTERNATE_SCREEN.load(Ordering::SeqCst) {
        // The line being written and what is below it.
        let _ = io::stdout().write_all(b"\r\x1b[J");
    }
    if IS_ALTERNATE_SCREEN.load(Ordering::SeqCst) {
        leave_raw_mode(ScreenKind::Alternate);
    } else {
        leave_raw_mode(ScreenKind::Inline);
    }
}

fn leave_raw_mode(kind: ScreenKind) {
    // Once: to leave the other screen again would put the cursor where it was before, over what was printed since.
    if !IS_VIEW_ACTIVE.swap(false, Ordering::SeqCst) {
        return;
    }
    if job_control::is_in_background() {
        // Others have the terminal and set it as they need it: to touch it would stop this process instead.
        command_output::release_stderr();
        return;
    }
    let mut out = io::stdout();
    if kind == ScreenKind::Alternate {
        let _ = queue!(out, LeaveAlternateScreen);
    }
    let _ = execute!(out, DisableBracketedPaste, EnableLineWrap, Show);
    let _ = terminal::disable_raw_mode();
    let _ = out.flush();
    command_output::release_stderr();
}

/// Collects what is drawn until it is put on the terminal in one piece: nothing else can get in between.
#[derive(Debug, Clone, Default)]
pub(super) struct TerminalBuffer(std::sync::Arc<Mutex<Vec<u8>>>);

impl TerminalBuffer {
    /// Puts it on the terminal.
    ///
    /// # Errors
    /// As the terminal says.
    pub(super) fn write_out(&self) -> io::Result<()> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        // Past standard output's own buffer, which would write the whole lines first and the row being written after them.
        let put = out.flush().and_then(|()| File::from(out.as_fd().try_clone_to_owned()?).write_all(&drawn));
        drawn.clear();
        job_control::clear_stopped();
        put
    }
}

impl Write for TerminalBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
