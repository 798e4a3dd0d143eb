//! Keys as what they mean.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor;
use crossterm::event::{self, Event as TerminalEvent, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::line_editor::Edit;

/// What the user did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub(super) Press);

impl Key {
    /// Whether it is Ctrl-C.
    pub fn is_interrupt(&self) -> bool {
        self.0 == Press::Interrupt
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Press {
    Edit(Edit),
    Submit,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    EndOfInput,
    /// Ctrl-Z.
    Suspend,
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
    /// Text that came in one piece.
    Paste(String),
    /// The terminal has another size, or may have; the cursor is in this column and row.
    Resized(Option<(u16, u16)>),
}

/// Whether the terminal tells where its cursor is; one that doesn't is not asked again, since asking takes two seconds.
static TELLS: AtomicBool = AtomicBool::new(true);

/// Where the cursor is, if the terminal tells. Not to be asked while another thread reads keys.
pub(super) fn cursor_position() -> Option<(u16, u16)> {
    if !TELLS.load(Ordering::Relaxed) {
        return None;
    }
    let position = cursor::position().ok();
    TELLS.store(position.is_some(), Ordering::Relaxed);
    position
}

/// Starts to read keys on a thread of its own; `placed` is whether it matters where the cursor is.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn read(placed: bool) -> io::Result<mpsc::Receiver<Key>> {
    let (keys, receiver) = mpsc::channel(256);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        // It ends with the process: a blocked read of a terminal can't be called off.
        while let Ok(event) = event::read() {
            if let Some(press) = press(event, placed)
                && keys.blocking_send(Key(press)).is_err()
            {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn press(event: TerminalEvent, placed: bool) -> Option<Press> {
    match event {
        TerminalEvent::Key(key) if key.kind != KeyEventKind::Release => key_press(key),
        TerminalEvent::Paste(text) => Some(Press::Paste(plain(&text))),
        TerminalEvent::Resize(..) => Some(Press::Resized(if placed { cursor_position() } else { None })),
        _ => None,
    }
}

/// Pasted text with plain line ends.
fn plain(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn key_press(key: KeyEvent) -> Option<Press> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    Some(match key.code {
        KeyCode::Char(c) if control => return control_press(c),
        KeyCode::Char(c) if alt => return alt_press(c),
        KeyCode::Char(c) => Press::Edit(Edit::Insert(c.to_string())),
        KeyCode::Enter => Press::Submit,
        KeyCode::Tab => Press::Tab,
        KeyCode::BackTab => Press::BackTab,
        KeyCode::Esc => Press::Escape,
        KeyCode::PageUp => Press::PageUp,
        KeyCode::PageDown => Press::PageDown,
        KeyCode::F(1) => Press::Help,
        KeyCode::Backspace if alt || control => Press::Edit(Edit::CutWordLeft),
        KeyCode::Backspace => Press::Edit(Edit::Backspace),
        KeyCode::Delete if alt || control => Press::Edit(Edit::CutWordRight),
        KeyCode::Delete => Press::Edit(Edit::Delete),
        KeyCode::Left if control || alt => Press::Edit(Edit::WordLeft),
        KeyCode::Right if control || alt => Press::Edit(Edit::WordRight),
        KeyCode::Left => Press::Edit(Edit::Left),
        KeyCode::Right => Press::Edit(Edit::Right),
        KeyCode::Home => Press::Edit(Edit::Home),
        KeyCode::End => Press::Edit(Edit::End),
        KeyCode::Up => Press::Edit(Edit::Older),
        KeyCode::Down => Press::Edit(Edit::Newer),
        _ => return None,
    })
}

fn control_press(c: char) -> Option<Press> {
    Some(Press::Edit(match c {
        'c' => return Some(Press::Interrupt),
        'd' => return Some(Press::EndOfInput),
        'z' => return Some(Press::Suspend),
        'l' => return Some(Press::Redraw),
        'r' => return Some(Press::Reload),
        'j' | 'm' => return Some(Press::Submit),
        'i' => return Some(Press::Tab),
        'a' => Edit::Home,
        'e' => Edit::End,
        'b' => Edit::Left,
        'f' => Edit::Right,
        'h' => Edit::Backspace,
        'w' => Edit::CutBlankWord,
        'u' => Edit::CutToStart,
        'k' => Edit::CutToEnd,
        'y' => Edit::Yank,
        'p' => Edit::Older,
        'n' => Edit::Newer,
        _ => return None,
    }))
}

fn alt_press(c: char) -> Option<Press> {
    Some(Press::Edit(match c {
        'b' => Edit::WordLeft,
        'f' => Edit::WordRight,
        'd' => Edit::CutWordRight,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean() {
        let of = |code, modifiers| key_press(KeyEvent::new(code, modifiers));
        let edit = |edit| Some(Press::Edit(edit));
        assert_eq!(of(KeyCode::Char('w'), KeyModifiers::CONTROL), edit(Edit::CutBlankWord));
        assert_eq!(of(KeyCode::Char('b'), KeyModifiers::ALT), edit(Edit::WordLeft));
        assert_eq!(of(KeyCode::Char('É'), KeyModifiers::SHIFT), edit(Edit::Insert("É".to_owned())));
        assert_eq!(of(KeyCode::Char('z'), KeyModifiers::CONTROL), Some(Press::Suspend));
        assert_eq!(of(KeyCode::Char('q'), KeyModifiers::ALT), None);
        assert_eq!(plain("a\r\nb\rc\td"), "a\nb\nc\td");
    }
}
