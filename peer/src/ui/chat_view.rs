//! A conversation in a terminal: what is said scrolls by above, the line being written stays below undisturbed.

use std::io::{self, Write};

use crossterm::cursor::MoveToColumn;
use crossterm::style::Print;
use crossterm::terminal::{self, Clear, ClearType};
use crossterm::{QueueableCommand, queue};
use shared::UserName;
use shared::peer::ChatMessage;
use shared::safe_text::safe_line;

use super::Output;
use super::events::{event_line, timed_message};
use super::keys::{Key, Meaning};
use super::line_editor::LineEditor;
use crate::engine::chat::{Direction, StoredMessage};
use crate::engine::event::Event;

const PROMPT: &str = "> ";

/// The view of one conversation.
#[derive(Debug)]
pub struct ChatView {
    output: Output,
    with: UserName,
    editor: LineEditor,
}

/// What the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// To go on writing.
    Nothing,
    /// To say this.
    Say(String),
    /// To leave.
    Leave,
    /// To break off.
    Interrupt,
}

impl ChatView {
    /// Shows what was said before, and an empty line to write on.
    ///
    /// # Errors
    /// As the terminal says.
    pub fn open(output: &Output, with: &UserName, before: &[StoredMessage]) -> io::Result<Self> {
        let view = Self { output: output.clone(), with: with.clone(), editor: LineEditor::default() };
        for StoredMessage { direction, message, .. } in before {
            let from = if *direction == Direction::In { with.as_str() } else { "you" };
            view.print(&output.dim(&timed_message(message.ts, from, &message.text)))?;
        }
        view.print(&output.dim(&format!("talking to {with}; Ctrl-D leaves")))?;
        Ok(view)
    }

    /// Takes a key.
    ///
    /// # Errors
    /// As the terminal says.
    pub fn key(&mut self, key: &Key) -> io::Result<Wish> {
        let wish = match &key.0 {
            Meaning::Edit(edit) => {
                self.editor.apply(edit);
                Wish::Nothing
            }
            Meaning::Submit => match self.editor.take() {
                line if line.trim().is_empty() => Wish::Nothing,
                line if line.trim() == "/quit" => Wish::Leave,
                line => Wish::Say(line),
            },
            Meaning::Interrupt => Wish::Interrupt,
            Meaning::EndOfInput if self.editor.is_empty() => Wish::Leave,
            Meaning::EndOfInput | Meaning::Redraw => Wish::Nothing,
        };
        self.redraw()?;
        Ok(wish)
    }

    /// Takes an event; what doesn't concern this conversation is left out, except for news of the other one.
    ///
    /// # Errors
    /// As the terminal says.
    pub fn event(&self, event: &Event) -> io::Result<()> {
        match event {
            Event::Received { from, message, .. } if *from == self.with => {
                self.message(&self.output.bold(self.with.as_str()), message)
            }
            Event::Said { to, message, .. } if *to == self.with => self.message("you", message),
            Event::Received { from, .. } => self.print(&self.output.dim(&format!("({from} wrote to you)"))),
            Event::Presence { user, .. } | Event::Held { user, .. } if *user == self.with => self.note(event),
            Event::State { to, .. } if *to == self.with => self.note(event),
            Event::Fetched { by, .. } if *by == self.with => self.note(event),
            Event::TrackerLost { .. } | Event::Notice(_) => self.note(event),
            _ => Ok(()),
        }
    }

    /// Says that something went wrong.
    ///
    /// # Errors
    /// As the terminal says.
    pub fn problem(&self, what: &str) -> io::Result<()> {
        self.print(&format!("! {}", safe_line(what)))
    }

    /// Leaves the terminal as a shell wants it.
    ///
    /// # Errors
    /// As the terminal says.
    pub fn close(self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        queue!(out, MoveToColumn(0), Clear(ClearType::CurrentLine))?;
        out.flush()
    }

    fn note(&self, event: &Event) -> io::Result<()> {
        event_line(event).map_or(Ok(()), |line| self.print(&self.output.dim(&line)))
    }

    fn message(&self, from: &str, message: &ChatMessage) -> io::Result<()> {
        // `from` may carry our own colour; only the text is the other one's.
        let line = timed_message(message.ts, "", &message.text);
        self.print(&line.replacen(" : ", &format!(" {from}: "), 1))
    }

    /// Puts lines above the input line and draws that again.
    fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        queue!(out, MoveToColumn(0), Clear(ClearType::FromCursorDown))?;
        for line in text.split('\n') {
            queue!(out, Print(line), Print("\r\n"))?;
        }
        self.draw_input(&mut out)?;
        out.flush()
    }

    fn redraw(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        queue!(out, MoveToColumn(0), Clear(ClearType::CurrentLine))?;
        self.draw_input(&mut out)?;
        out.flush()
    }

    fn draw_input(&self, out: &mut impl QueueableCommand) -> io::Result<()> {
        let columns = terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let (shown, cursor) = self.editor.view(columns.saturating_sub(PROMPT.len()));
        let column = u16::try_from(PROMPT.len() + cursor).unwrap_or(u16::MAX);
        out.queue(Print(PROMPT))?.queue(Print(shown))?.queue(MoveToColumn(column))?;
        Ok(())
    }
}
