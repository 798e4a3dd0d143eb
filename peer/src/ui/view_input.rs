//! Keys, mapped to the actions of a view.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use localization::tr;
use tokio::sync::mpsc;

use super::charset::{Charset, locale};
use super::key_decoder::{DecodedInput, KeyDecoder};
use super::line_editor::EditCommand;
use crate::sys::KeyboardReader;

/// Queued actions; a run of text counts as one. A full queue leaves further input in the terminal's buffer.
const MAX_QUEUED_INPUTS: usize = 256;
/// Bytes per read.
const READ_BYTES: usize = 4096;
/// Bytes that follow ESC within this time belong to its sequence; long enough for a slow connection.
pub(super) const ESCAPE_TIMEOUT: Duration = Duration::from_millis(50);
/// After this time without an answer, the terminal counts as one that doesn't report its cursor.
const CURSOR_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests a cursor position report (DSR 6).
const CURSOR_QUERY: &[u8] = b"\x1b[6n";

/// Returns the message for the first [`InputAction::Unreadable`].
pub(super) fn unreadable_notice() -> String {
    tr!(
        "what was typed is not UTF-8 (shown as {sign}): set the terminal's encoding to UTF-8, nothing else is understood",
        sign = '\u{fffd}'
    )
}

/// An action of the user, for [`TerminalView::handle_input`](super::TerminalView::handle_input).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewInput(pub(super) InputAction);

impl ViewInput {
    /// True for Ctrl-C.
    pub fn is_interrupt(&self) -> bool {
        self.0 == InputAction::Interrupt
    }

    /// True for Ctrl-C and Ctrl-D, which leave a view.
    pub fn is_exit(&self) -> bool {
        matches!(self.0, InputAction::Interrupt | InputAction::EndOfInput)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InputAction {
    Edit(EditCommand),
    Submit,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    EndOfInput,
    /// Ctrl-Z.
    Suspend,
    // Ctrl-L.
    Redraw,
    /// Ctrl-R.
    Reload,
    Tab,
    BackTab,
    Escape,
    PageUp,
    PageDown,
    /// F1.
    Help,
    /// A bracketed paste.
    Paste(String),
    /// The terminal's size has or may have changed. Holds the cursor's column and row, if the terminal reports them.
    Resized(Option<(u16, u16)>),
    /// Input that isn't text in the terminal's charset; replacement characters stand for it.
    Unreadable,
}

/// Starts the key reader on a thread of its own. With `tracks_cursor` it asks for the cursor's position now and after
/// every change of size.
///
/// # Errors
/// Without a controlling terminal, or if no thread can be started.
pub(super) fn spawn_key_reader(tracks_cursor: bool) -> io::Result<mpsc::Receiver<ViewInput>> {
    let keyboard = KeyboardReader::open()?;
    let (keys, receiver) = mpsc::channel(MAX_QUEUED_INPUTS);
    let reader = KeyReader {
        keyboard,
        decoder: KeyDecoder::new(Charset::of_locale(&locale())),
        keys,
        cursor: CursorQuery::new(tracks_cursor),
    };
    // The thread is never joined: it is the only reader of the terminal and ends with the process.
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        if let Err(why) = reader.run() {
            tracing::debug!("the terminal is gone: {why}");
        }
    })?;
    Ok(receiver)
}

struct KeyReader {
    keyboard: KeyboardReader,
    decoder: KeyDecoder,
    keys: mpsc::Sender<ViewInput>,
    cursor: CursorQuery,
}

/// The state of cursor position reports.
#[derive(Debug)]
enum CursorQuery {
    /// Not needed, or the terminal doesn't answer.
    Disabled,
    Answered,
    /// The number of unanswered queries, and the deadline of the last one.
    Pending(usize, Instant),
}

impl CursorQuery {
    const fn new(matters: bool) -> Self {
        if matters { Self::Answered } else { Self::Disabled }
    }
}

impl KeyReader {
    fn run(mut self) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        // The view's first position; `Answered` is also the initial state.
        if matches!(self.cursor, CursorQuery::Answered) {
            self.query_cursor()?;
        }
        loop {
            let soon = self.decoder.has_pending().then_some(ESCAPE_TIMEOUT);
            let told = match self.cursor {
                CursorQuery::Pending(_, until) => Some(until.saturating_duration_since(Instant::now())),
                CursorQuery::Disabled | CursorQuery::Answered => None,
            };
            // Without a deadline the thread sleeps until there is input or a resize.
            let at_most = soon.into_iter().chain(told).min();
            let looked = self.keyboard.poll_input(&mut buffer, at_most)?;
            let typed = match looked.read {
                // Nothing followed an ESC in time: it was the key itself, not the beginning of a sequence.
                0 if !looked.is_resized && self.decoder.has_pending() => self.decoder.flush_pending(),
                read => self.decoder.feed(&buffer[..read]),
            };
            for typed in typed {
                if !self.send(typed) {
                    return Ok(());
                }
            }
            if looked.is_resized {
                match self.cursor {
                    CursorQuery::Disabled if !self.send_action(InputAction::Resized(None)) => return Ok(()),
                    CursorQuery::Disabled => {}
                    CursorQuery::Answered | CursorQuery::Pending(..) => self.query_cursor()?,
                }
            }
            // Terminals that never answer (some serial consoles) get `Resized(None)`: the view then places
            // itself at the bottom.
            if matches!(self.cursor, CursorQuery::Pending(_, until) if Instant::now() >= until) {
                self.cursor = CursorQuery::Disabled;
                if !self.send_action(InputAction::Resized(None)) {
                    return Ok(());
                }
            }
        }
    }

    /// Requests the cursor's position; the report arrives among the keys.
    fn query_cursor(&mut self) -> io::Result<()> {
        let before = if let CursorQuery::Pending(before, _) = self.cursor { before } else { 0 };
        self.cursor = CursorQuery::Pending(before + 1, Instant::now() + CURSOR_TIMEOUT);
        // A frame is written under the same lock, so that this never falls into one.
        let mut out = io::stdout().lock();
        out.write_all(CURSOR_QUERY).and_then(|()| out.flush())
    }

    fn send(&mut self, typed: DecodedInput) -> bool {
        let press = match typed {
            DecodedInput::Cursor(column, row) => match self.cursor {
                // The answer to a query before the last resize: the position is outdated.
                CursorQuery::Pending(questions @ 2.., until) => {
                    self.cursor = CursorQuery::Pending(questions - 1, until);
                    return true;
                }
                CursorQuery::Pending(..) => {
                    self.cursor = CursorQuery::Answered;
                    Some(InputAction::Resized(Some((column, row))))
                }
                // Nobody asked: a modified F3 has the same form in some terminals.
                CursorQuery::Disabled | CursorQuery::Answered => None,
            },
            typed => input_action(typed),
        };
        press.is_none_or(|press| self.send_action(press))
    }

    /// Returns false if the view no longer listens.
    fn send_action(&self, press: InputAction) -> bool {
        self.keys.blocking_send(ViewInput(press)).is_ok()
    }
}

/// Maps decoded input to an action; `None` if it has no meaning for a view.
pub(super) fn input_action(typed: DecodedInput) -> Option<InputAction> {
    match typed {
        DecodedInput::Text(text) => Some(InputAction::Edit(EditCommand::Insert(text))),
        DecodedInput::Key(key) => key_action(key),
        DecodedInput::Paste(text) => Some(InputAction::Paste(normalize_line_ends(&text))),
        DecodedInput::Unreadable => Some(InputAction::Unreadable),
        // The key reader handles reports before.
        DecodedInput::Cursor(..) => None,
    }
}

/// Converts all line ends to `\n`.
// Terminals send a carriage return for a line end inside a bracketed paste.
fn normalize_line_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn key_action(key: KeyEvent) -> Option<InputAction> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    Some(match key.code {
        KeyCode::Char(c) if control => return control_action(c),
        KeyCode::Char(c) if alt => return alt_action(c),
        KeyCode::Char(c) => InputAction::Edit(EditCommand::Insert(c.to_string())),
        KeyCode::Enter => InputAction::Submit,
        KeyCode::Tab => InputAction::Tab,
        KeyCode::BackTab => InputAction::BackTab,
        KeyCode::Esc => InputAction::Escape,
        KeyCode::PageUp => InputAction::PageUp,
        KeyCode::PageDown => InputAction::PageDown,
        KeyCode::F(1) => InputAction::Help,
        KeyCode::Backspace if alt || control => InputAction::Edit(EditCommand::CutWordLeft),
        KeyCode::Backspace => InputAction::Edit(EditCommand::Backspace),
        KeyCode::Delete if alt || control => InputAction::Edit(EditCommand::CutWordRight),
        KeyCode::Delete => InputAction::Edit(EditCommand::Delete),
        KeyCode::Left if control || alt => InputAction::Edit(EditCommand::WordLeft),
        KeyCode::Right if control || alt => InputAction::Edit(EditCommand::WordRight),
        KeyCode::Left => InputAction::Edit(EditCommand::Left),
        KeyCode::Right => InputAction::Edit(EditCommand::Right),
        KeyCode::Home => InputAction::Edit(EditCommand::Home),
        KeyCode::End => InputAction::Edit(EditCommand::End),
        KeyCode::Up => InputAction::Edit(EditCommand::Older),
        KeyCode::Down => InputAction::Edit(EditCommand::Newer),
        _ => return None,
    })
}

fn control_action(c: char) -> Option<InputAction> {
    Some(InputAction::Edit(match c {
        'c' => return Some(InputAction::Interrupt),
        'd' => return Some(InputAction::EndOfInput),
        'z' => return Some(InputAction::Suspend),
        'l' => return Some(InputAction::Redraw),
        'r' => return Some(InputAction::Reload),
        // Legacy encodings can't tell Ctrl-J and Ctrl-M from Enter, nor Ctrl-I from Tab; newer ones can, and
        // mean the same.
        'j' | 'm' => return Some(InputAction::Submit),
        'i' => return Some(InputAction::Tab),
        'a' => EditCommand::Home,
        'e' => EditCommand::End,
        'b' => EditCommand::Left,
        'f' => EditCommand::Right,
        'h' => EditCommand::Backspace,
        // As in a shell: up to a blank, while Alt-Backspace stops at punctuation as well.
        'w' => EditCommand::CutBlankWord,
        'u' => EditCommand::CutToStart,
        'k' => EditCommand::CutToEnd,
        'y' => EditCommand::Yank,
        'p' => EditCommand::Older,
        'n' => EditCommand::Newer,
        _ => return None,
    }))
}

fn alt_action(c: char) -> Option<InputAction> {
    Some(InputAction::Edit(match c {
        'b' => EditCommand::WordLeft,
        'f' => EditCommand::WordRight,
        'd' => EditCommand::CutWordRight,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean() {
        let of = |code, modifiers| key_action(KeyEvent::new(code, modifiers));
        let edit = |edit| Some(InputAction::Edit(edit));
        assert_eq!(of(KeyCode::Char('w'), KeyModifiers::CONTROL), edit(EditCommand::CutBlankWord));
        assert_eq!(of(KeyCode::Char('b'), KeyModifiers::ALT), edit(EditCommand::WordLeft));
        assert_eq!(of(KeyCode::Char('É'), KeyModifiers::SHIFT), edit(EditCommand::Insert("É".to_owned())));
        assert_eq!(of(KeyCode::Char('z'), KeyModifiers::CONTROL), Some(InputAction::Suspend));
        assert_eq!(of(KeyCode::Char('q'), KeyModifiers::ALT), None);
        assert_eq!(normalize_line_ends("a\r\nb\rc\td"), "a\nb\nc\td");
    }
}
