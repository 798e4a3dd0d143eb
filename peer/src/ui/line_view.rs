//! The line view: one conversation whose messages go into the terminal's scrollback, with a few live rows below.
//!
//! ```text
//! ✓ 14:03:07 you: lunch?                          scrollback: scrolled and selected by the terminal; a delivery mark
//!   14:03:09 bob: at one                          is updated in place while its row is still on the screen
//! > see you th█                                   live rows: the line being written,
//! ↓ menu.pdf from bob  ━━━━━━───── 52%  11 MB/s   running transfers, completions, questions,
//! ● bob online · 1 waiting · carol 2 unread       the status line
//! ```

mod catch_up_buffer;
#[cfg(test)]
mod catch_up_tests;
mod line_view_model;
mod shown_messages;
mod status_line;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Instant;

use ratatui_core::layout::Position;
use tokio::sync::mpsc;

pub use line_view_model::LineViewModel;

pub(super) use self::line_view_model::ScrollbackItem;
use super::command_output;
use super::conversation_item::ConversationItem;
use super::inline_screen::{InlineScreen, ScrollbackRowId};
use super::message_entry::{is_wide, mark_span};
use super::raw_terminal::{RawTerminal, ScreenKind, TerminalBuffer, request_cursor_position};
use super::terminal_size::terminal_size;
use super::theme::DeliveryMark;
use super::view::{TerminalView, ViewCommand, ViewUpdate};
use super::view_input::{self, InputAction, ViewInput};
use crate::engine::chat::ConversationName;

/// Messages printed per frame. Keys are handled between frames, so a long history doesn't delay them.
const MAX_ITEMS_PER_FRAME: usize = 25;

/// The line view in a terminal.
pub struct LineViewTerminal {
    model: LineViewModel,
    screen: InlineScreen<TerminalBuffer>,
    buffer: TerminalBuffer,
    screen_state: ScreenState,
    raw: RawTerminal,
}

/// The view's knowledge of its position on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScreenState {
    Known,
    /// Unknown, because another process wrote to the terminal; the next cursor report tells the position.
    Lost,
    /// The shell has the terminal.
    Suspended,
}

impl LineViewTerminal {
    /// Takes the terminal and starts the key reader.
    pub fn open(model: LineViewModel) -> io::Result<(Self, mpsc::Receiver<ViewInput>)> {
        let raw = RawTerminal::enter(ScreenKind::Inline)?;
        let pen = TerminalBuffer::default();
        let screen = InlineScreen::new(pen.clone(), terminal_size());
        // The live rows begin below the shell's output, and only the terminal knows where that ends.
        let keys = view_input::spawn_key_reader(true)?;
        Ok((Self { model, screen, buffer: pen, screen_state: ScreenState::Lost, raw }, keys))
    }

    /// Takes the terminal back, unless this process is in the background.
    fn retake_terminal(&mut self) -> io::Result<Vec<ViewCommand>> {
        if !self.raw.reacquire()? {
            self.model.suspend();
            return Ok(Vec::new());
        }
        self.screen_state = ScreenState::Lost;
        Ok(self.model.resume())
    }

    fn insert_items(&mut self, items: Vec<ScrollbackItem>) -> io::Result<()> {
        let columns = usize::from(self.screen.size().width);
        let mut late = Vec::new();
        for item in items {
            match item {
                ScrollbackItem::Mark { mark, row, ts, cells } => {
                    let cells = if is_wide(columns) { cells } else { 1 };
                    let span = mark_span(mark, cells, self.model.look());
                    // It goes to a buffer, which takes everything: the terminal gets it with the frame.
                    let is_seen = row.is_some_and(|row| self.screen.patch(row, &span).unwrap_or(false));
                    // The mark's row has left the screen, so delivery is reported by a note instead.
                    if !is_seen && mark == DeliveryMark::Stored {
                        late.push(ts);
                    }
                }
                item => {
                    let row: ScrollbackRowId = self.screen.insert(&self.model.rows_of(&item, columns))?;
                    if let ScrollbackItem::Item(ConversationItem::Entry(entry)) = item {
                        self.model.set_row(entry.id, row);
                    }
                }
            }
        }
        if let Some(note) = self.model.delivered_note(&late) {
            self.screen.insert(&self.model.rows_of(&note, columns))?;
        }
        Ok(())
    }
}

impl TerminalView for LineViewTerminal {
    fn start(&mut self) -> Vec<ViewCommand> {
        self.model.start()
    }

    fn open_conversation(&self) -> Option<&ConversationName> {
        self.model.open_conversation()
    }

    fn handle_input(&mut self, key: &ViewInput, now: Instant) -> io::Result<Vec<ViewCommand>> {
        match &key.0 {
            InputAction::Resized(cursor) => {
                let cursor = cursor.map(|(x, y)| Position::new(x, y));
                match self.screen_state {
                    ScreenState::Known => self.screen.resized(terminal_size(), cursor)?,
                    ScreenState::Lost => self.screen.restart(terminal_size(), cursor)?,
                    ScreenState::Suspended => return Ok(Vec::new()),
                }
                self.screen_state = ScreenState::Known;
                Ok(Vec::new())
            }
            // The cursor's position comes back as `Resized`, which restores the live rows.
            InputAction::Redraw => request_cursor_position().map(|()| Vec::new()),
            press => Ok(self.model.handle_input(press, now)),
        }
    }

    fn handle_update(&mut self, news: &ViewUpdate, now: Instant) -> io::Result<Vec<ViewCommand>> {
        match news {
            ViewUpdate::Resumed => {
                self.screen_state = ScreenState::Suspended;
                self.retake_terminal()
            }
            ViewUpdate::Tick if self.screen_state == ScreenState::Suspended => {
                // A shell that moves a background process to the foreground sends no signal, so every tick
                // checks.
                let mut wishes = self.retake_terminal()?;
                wishes.extend(self.model.handle_update(news, now));
                Ok(wishes)
            }
            news => Ok(self.model.handle_update(news, now)),
        }
    }

    fn draw(&mut self) -> io::Result<bool> {
        // The size has changed: the key reader is about to report the cursor, and nothing can be placed
        // before that.
        let known = self.screen.size();
        if self.screen_state != ScreenState::Known || terminal_size() != known {
            return Ok(false);
        }
        // The lines of other threads, such as the log's, appear as notes.
        for line in command_output::take_held_lines() {
            self.model.handle_update(&ViewUpdate::Note(line), Instant::now());
        }
        let items = self.model.take_first_items(MAX_ITEMS_PER_FRAME);
        self.insert_items(items)?;
        let (written, below) = self.model.rows_below(known.width.into(), known.height.into());
        self.screen.draw(self.model.look().bold(), written, below)?;
        self.buffer.write_out()?;
        Ok(self.model.has_items())
    }

    fn suspend(&mut self) -> io::Result<()> {
        if !RawTerminal::can_suspend() {
            return Ok(());
        }
        self.screen.close()?;
        self.buffer.write_out()?;
        self.screen_state = ScreenState::Suspended;
        self.model.suspend();
        self.raw.suspend()
    }

    // Where the live rows are is only known in `Known`; clearing them otherwise could erase others' output.
    fn close(&mut self) -> io::Result<()> {
        if self.screen_state == ScreenState::Known {
            let items = self.model.take_items();
            self.insert_items(items)?;
            self.screen.close()?;
        }
        self.buffer.write_out()
    }
}
