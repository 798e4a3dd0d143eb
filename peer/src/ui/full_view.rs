//! The full view: users, one conversation, the user's files and all transfers, on the alternate screen.
//!
//! ```text
//!  [People]            bob                                  bob's files
//! ▸● bob               ✓ 14:03:07 you: lunch?                  2.1 MB  menu.pdf
//!  ● carol  2            14:03:09 bob: at one                 30.0 MB  film.mkv
//!  ○ dave              > see you th█
//!  ↓ film.mkv from bob  ━━━━━━━━─────────── 52%  11.0 MB/s     3.1 s
//!  Tab: next pane  Enter: talk  ?: help  Ctrl-D: leave
//! ```

mod conversation_pane;
mod full_view_model;
mod help_page;
#[cfg(test)]
mod history_tests;
mod page_merging;
mod pane_layout;
mod renderer;
mod screen_painter;
#[cfg(test)]
mod tests;
mod view_overlay;

use std::io;
use std::time::Instant;

use tokio::sync::mpsc;

pub use full_view_model::FullViewModel;

use self::screen_painter::{ScreenFrame, ScreenPainter};
use super::command_output;
use super::raw_terminal::{RawTerminal, ScreenKind, TerminalBuffer};
use super::terminal_size::terminal_size;
use super::view::{TerminalView, ViewCommand, ViewUpdate};
use super::view_input::{self, InputAction, ViewInput};
use crate::engine::chat::ConversationName;

/// The full view in a terminal.
pub struct FullViewTerminal {
    model: FullViewModel,
    painter: ScreenPainter<TerminalBuffer>,
    buffer: TerminalBuffer,
    is_suspended: bool,
    raw: RawTerminal,
}

impl FullViewTerminal {
    /// Takes the terminal and starts the key reader.
    pub fn open(mut model: FullViewModel) -> io::Result<(Self, mpsc::Receiver<ViewInput>)> {
        model.resize(terminal_size());
        let raw = RawTerminal::enter(ScreenKind::Alternate)?;
        let pen = TerminalBuffer::default();
        let painter = ScreenPainter::new(pen.clone());
        // Frames are drawn at absolute positions, so the cursor's doesn't matter.
        let keys = view_input::spawn_key_reader(false)?;
        Ok((Self { model, painter, buffer: pen, is_suspended: false, raw }, keys))
    }
}

impl FullViewTerminal {
    /// Takes the terminal back, unless this process is in the background.
    fn retake_terminal(&mut self) -> io::Result<Vec<ViewCommand>> {
        self.is_suspended = !self.raw.reacquire()?;
        self.painter.forget();
        if self.is_suspended {
            self.model.suspend();
            return Ok(Vec::new());
        }
        Ok(self.model.resume())
    }
}

impl TerminalView for FullViewTerminal {
    fn start(&mut self) -> Vec<ViewCommand> {
        self.model.start()
    }

    fn open_conversation(&self) -> Option<&ConversationName> {
        self.model.open_conversation()
    }

    fn handle_input(&mut self, key: &ViewInput, now: Instant) -> io::Result<Vec<ViewCommand>> {
        match &key.0 {
            InputAction::Redraw => {
                self.painter.forget();
                Ok(Vec::new())
            }
            // `draw` reads the terminal's size every time.
            InputAction::Resized(_) => Ok(Vec::new()),
            press => Ok(self.model.handle_input(press, now)),
        }
    }

    fn handle_update(&mut self, news: &ViewUpdate, now: Instant) -> io::Result<Vec<ViewCommand>> {
        match news {
            ViewUpdate::Resumed => self.retake_terminal(),
            news => {
                let mut wishes = Vec::new();
                // A shell that moves a background process to the foreground sends no signal, so every tick
                // checks.
                if self.is_suspended && matches!(news, ViewUpdate::Tick) {
                    wishes = self.retake_terminal()?;
                }
                wishes.extend(self.model.handle_update(news, now));
                Ok(wishes)
            }
        }
    }

    fn draw(&mut self) -> io::Result<bool> {
        if self.is_suspended {
            return Ok(false);
        }
        // The lines of other threads, such as the log's, appear as notes.
        for line in command_output::take_held_lines() {
            self.model.handle_update(&ViewUpdate::Note(line), Instant::now());
        }
        let size = terminal_size();
        // Also clamps the scroll positions, on which drawing relies.
        self.model.resize(size);
        let mut picture = ScreenFrame::new(size);
        renderer::draw(&self.model, &mut picture);
        self.painter.paint(picture)?;
        self.buffer.write_out()?;
        Ok(false)
    }

    fn suspend(&mut self) -> io::Result<()> {
        if !RawTerminal::can_suspend() {
            return Ok(());
        }
        self.is_suspended = true;
        self.model.suspend();
        self.raw.suspend()
    }

    fn close(&mut self) -> io::Result<()> {
        self.buffer.write_out()
    }
}
