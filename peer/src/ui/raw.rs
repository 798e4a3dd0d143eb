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

use super::output;
use crate::sys::{job, show_input};

/// Which screen of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The one with the scrollback.
    Inline,
    /// The other one.
    Alternate,
}

/// Raw mode for as long as it lives.
#[derive(Debug)]
pub(super) struct RawTerminal {
    kind: Kind,
}

/// Whether a view has the terminal now.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Whether that is the other screen.
static ALTERNATE: AtomicBool = AtomicBool::new(false);

impl RawTerminal {
    /// Enters raw mode. What others print on standard error is held back until it is left.
    ///
    /// # Errors
    /// As the terminal says.
    pub(super) fn enter(kind: Kind) -> io::Result<Self> {
        let this = Self { kind };
        this.take()?;
        output::hold();
        let view = std::thread::current().id();
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().id() == view {
                leave(kind);
                previous(panic);
            } else {
                // The view goes on; whoever owns that thread tells what became of it.
                output::tell(&panic.to_string());
            }
        }));
        Ok(this)
    }

    /// Takes the terminal again, whatever happened to it meanwhile; false while others have it.
    ///
    /// # Errors
    /// As the terminal says.
    pub(super) fn retake(&self) -> io::Result<bool> {
        if job::is_in_background() {
            return Ok(false);
        }
        // Raw mode is remembered as a fact: it has to be left to be entered.
        terminal::disable_raw_mode()?;
        self.take()?;
        output::hold();
        ask_for_place()?;
        Ok(true)
    }

    /// Whether there is a shell that could let us go on after we stopped.
    pub(super) fn may_suspend() -> bool {
        !job::is_orphaned()
    }

    /// Gives the terminal back and stops this process; returns when it goes on.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn suspend(&self) -> io::Result<()> {
        leave(self.kind);
        job::stop()
    }

    fn take(&self) -> io::Result<()> {
        terminal::enable_raw_mode()?;
        ALTERNATE.store(self.kind == Kind::Alternate, Ordering::SeqCst);
        TAKEN.store(true, Ordering::SeqCst);
        let mut out = io::stdout();
        if self.kind == Kind::Alternate {
            queue!(out, EnterAlternateScreen)?;
        }
        execute!(out, EnableBracketedPaste)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        leave(self.kind);
    }
}

/// Lets the key reader find out where the cursor is: it comes as a change of size.
pub(super) fn ask_for_place() -> io::Result<()> {
    job::look_at_size()
}

/// The terminal's size. Consoles that know of none say 0: that is no size but the usual one, until they say more.
pub(super) fn size() -> Size {
    let or = |size: u16, usual: u16| if size == 0 { usual } else { size };
    terminal::size().map_or(Size::new(80, 24), |(columns, rows)| Size::new(or(columns, 80), or(rows, 24)))
}

/// Gives the terminal back in whatever state it is, for a process that is about to end without a word.
pub fn give_back() {
    if job::is_in_background() {
        // Others have the terminal and set it as they need it: to touch it would stop this process instead.
        TAKEN.store(false, Ordering::SeqCst);
        return;
    }
    show_input();
    if TAKEN.load(Ordering::SeqCst) && !ALTERNATE.load(Ordering::SeqCst) {
        // The line being written and what is below it.
        let _ = io::stdout().write_all(b"\r\x1b[J");
    }
    if ALTERNATE.load(Ordering::SeqCst) { leave(Kind::Alternate) } else { leave(Kind::Inline) }
}

fn leave(kind: Kind) {
    // Once: to leave the other screen again would put the cursor where it was before, over what was printed since.
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    if job::is_in_background() {
        // Others have the terminal and set it as they need it: to touch it would stop this process instead.
        output::release();
        return;
    }
    let mut out = io::stdout();
    if kind == Kind::Alternate {
        let _ = queue!(out, LeaveAlternateScreen);
    }
    let _ = execute!(out, DisableBracketedPaste, EnableLineWrap, Show);
    let _ = terminal::disable_raw_mode();
    let _ = out.flush();
    output::release();
}

/// Collects what is drawn until it is put on the terminal in one piece: nothing else can get in between.
#[derive(Debug, Clone, Default)]
pub(super) struct Pen(std::sync::Arc<Mutex<Vec<u8>>>);

impl Pen {
    /// Puts it on the terminal.
    ///
    /// # Errors
    /// As the terminal says.
    pub(super) fn put(&self) -> io::Result<()> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        // Past standard output's own buffer, which would write the whole lines first and the row being written after them.
        let put = out.flush().and_then(|()| File::from(out.as_fd().try_clone_to_owned()?).write_all(&drawn));
        drawn.clear();
        job::goes_on();
        put
    }
}

impl Write for Pen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
