//! The terminal in raw mode: keys as what they mean.

use std::io::{self, Write};

use crossterm::event::{self, Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::{event::DisableBracketedPaste, event::EnableBracketedPaste, execute, terminal};
use tokio::sync::mpsc;

use super::line_editor::Edit;

/// What the user did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub(super) Meaning);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    Edit(Edit),
    Submit,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    EndOfInput,
    Redraw,
}

/// Raw mode for as long as it lives; given back however the process ends, a panic included.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Enters raw mode and starts reading keys.
    ///
    /// # Errors
    /// As the terminal says.
    pub fn enter() -> io::Result<(Self, mpsc::Receiver<Key>)> {
        terminal::enable_raw_mode()?;
        let guard = Self(());
        execute!(io::stdout(), EnableBracketedPaste)?;
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            previous(panic);
        }));
        let (keys, receiver) = mpsc::channel(64);
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            // It ends with the process: a blocked read of a terminal can't be called off.
            while let Ok(event) = event::read() {
                if let Some(meaning) = meaning(event)
                    && keys.blocking_send(Key(meaning)).is_err()
                {
                    return;
                }
            }
        })?;
        Ok((guard, receiver))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        leave();
    }
}

fn leave() {
    let mut out = io::stdout();
    let _ = execute!(out, DisableBracketedPaste);
    let _ = terminal::disable_raw_mode();
    let _ = out.flush();
}

fn meaning(event: TerminalEvent) -> Option<Meaning> {
    match event {
        TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => key_meaning(key),
        TerminalEvent::Paste(text) => {
            Some(Meaning::Edit(Edit::Insert(text.replace("\r\n", "\n").replace('\r', "\n").replace('\t', "    "))))
        }
        TerminalEvent::Resize(..) => Some(Meaning::Redraw),
        _ => None,
    }
}

fn key_meaning(key: KeyEvent) -> Option<Meaning> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    let edit = match key.code {
        KeyCode::Char('c') if control => return Some(Meaning::Interrupt),
        KeyCode::Char('d') if control => return Some(Meaning::EndOfInput),
        KeyCode::Char('l') if control => return Some(Meaning::Redraw),
        KeyCode::Enter => return Some(Meaning::Submit),
        KeyCode::Char('j' | 'm') if control => return Some(Meaning::Submit),
        KeyCode::Char('a') if control => Edit::Home,
        KeyCode::Char('e') if control => Edit::End,
        KeyCode::Char('b') if control => Edit::Left,
        KeyCode::Char('f') if control => Edit::Right,
        KeyCode::Char('h') if control => Edit::Backspace,
        KeyCode::Char('w') if control => Edit::KillWord,
        KeyCode::Char('u') if control => Edit::KillToStart,
        KeyCode::Char('k') if control => Edit::KillToEnd,
        KeyCode::Char('p') if control => Edit::Older,
        KeyCode::Char('n') if control => Edit::Newer,
        KeyCode::Char('b') if alt => Edit::WordLeft,
        KeyCode::Char('f') if alt => Edit::WordRight,
        KeyCode::Backspace if alt => Edit::KillWord,
        KeyCode::Left if control || alt => Edit::WordLeft,
        KeyCode::Right if control || alt => Edit::WordRight,
        KeyCode::Char(c) if !control && !alt => Edit::Insert(c.to_string()),
        KeyCode::Tab => Edit::Insert("    ".to_owned()),
        KeyCode::Backspace => Edit::Backspace,
        KeyCode::Delete => Edit::Delete,
        KeyCode::Left => Edit::Left,
        KeyCode::Right => Edit::Right,
        KeyCode::Home => Edit::Home,
        KeyCode::End => Edit::End,
        KeyCode::Up => Edit::Older,
        KeyCode::Down => Edit::Newer,
        _ => return None,
    };
    Some(Meaning::Edit(edit))
}
