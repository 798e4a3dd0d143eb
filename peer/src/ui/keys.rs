//! Keys as what they mean.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tokio::sync::mpsc;

use super::charset::{Charset, locale};
use super::key_decoder::{KeyDecoder, Typed};
use super::line_editor::Edit;
use crate::sys::Keyboard;

/// Presses that wait to be looked at; text counts as one, however much came at once. Beyond, the terminal waits.
const AHEAD: usize = 256;
/// Bytes that are read at once.
const AT_ONCE: usize = 4096;
/// What follows ESC sooner belongs to it: also over a slow line.
pub(super) const SOON: Duration = Duration::from_millis(50);
/// A terminal that didn't tell by then where its cursor is never does.
const TELLS: Duration = Duration::from_secs(2);
/// Asks the terminal where its cursor is.
const ASK: &[u8] = b"\x1b[6n";

/// What a view says once of [`Press::Unreadable`].
pub(super) const UNREADABLE: &str =
    "what was typed is not UTF-8 (shown as \u{fffd}): set the terminal's encoding to UTF-8, nothing else is understood";

/// What the user did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub(super) Press);

impl Key {
    /// Whether it is Ctrl-C.
    pub fn is_interrupt(&self) -> bool {
        self.0 == Press::Interrupt
    }

    /// Whether it is Ctrl-C or Ctrl-D, which leave a view.
    pub fn leaves(&self) -> bool {
        matches!(self.0, Press::Interrupt | Press::EndOfInput)
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
    /// The terminal has another size, or may have; the cursor is in this column and row, unless that isn't known.
    Resized(Option<(u16, u16)>),
    /// Bytes came that are no text; marks stand for them.
    Unreadable,
}

/// Starts to read keys on a thread of its own; `placed`, it is told where the cursor is: now, and with each change of size.
///
/// # Errors
/// When there is no terminal, or no thread to be had.
pub(super) fn read(placed: bool) -> io::Result<mpsc::Receiver<Key>> {
    let keyboard = Keyboard::open()?;
    let (keys, receiver) = mpsc::channel(AHEAD);
    let reader =
        Reader { keyboard, decoder: KeyDecoder::new(Charset::of_locale(&locale())), keys, place: Place::new(placed) };
    // It ends with the process: nothing else may read from the terminal meanwhile.
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        if let Err(why) = reader.run() {
            tracing::debug!("the terminal is gone: {why}");
        }
    })?;
    Ok(receiver)
}

struct Reader {
    keyboard: Keyboard,
    decoder: KeyDecoder,
    keys: mpsc::Sender<Key>,
    place: Place,
}

/// What is known of the cursor's place.
#[derive(Debug)]
enum Place {
    /// It doesn't matter, or the terminal doesn't tell.
    NotAsked,
    Known,
    /// So many questions are on their way, the last one until then.
    Asked(usize, Instant),
}

impl Place {
    const fn new(matters: bool) -> Self {
        if matters { Self::Known } else { Self::NotAsked }
    }
}

impl Reader {
    fn run(mut self) -> io::Result<()> {
        let mut buffer = [0; AT_ONCE];
        if matches!(self.place, Place::Known) {
            self.ask()?;
        }
        loop {
            let soon = self.decoder.is_waiting().then_some(SOON);
            let told = match self.place {
                Place::Asked(_, until) => Some(until.saturating_duration_since(Instant::now())),
                Place::NotAsked | Place::Known => None,
            };
            let at_most = soon.into_iter().chain(told).min();
            let looked = self.keyboard.look(&mut buffer, at_most)?;
            let typed = match looked.read {
                0 if !looked.is_resized && self.decoder.is_waiting() => self.decoder.give_up(),
                read => self.decoder.feed(&buffer[..read]),
            };
            for typed in typed {
                if !self.send(typed) {
                    return Ok(());
                }
            }
            if looked.is_resized {
                match self.place {
                    Place::NotAsked if !self.press(Press::Resized(None)) => return Ok(()),
                    Place::NotAsked => {}
                    Place::Known | Place::Asked(..) => self.ask()?,
                }
            }
            if matches!(self.place, Place::Asked(_, until) if Instant::now() >= until) {
                self.place = Place::NotAsked;
                if !self.press(Press::Resized(None)) {
                    return Ok(());
                }
            }
        }
    }

    /// The answer comes among the keys.
    fn ask(&mut self) -> io::Result<()> {
        let before = if let Place::Asked(before, _) = self.place { before } else { 0 };
        self.place = Place::Asked(before + 1, Instant::now() + TELLS);
        let mut out = io::stdout().lock();
        out.write_all(ASK).and_then(|()| out.flush())
    }

    fn send(&mut self, typed: Typed) -> bool {
        let press = match typed {
            Typed::Cursor(column, row) => match self.place {
                // The size changed again since: where the cursor was then doesn't matter.
                Place::Asked(questions @ 2.., until) => {
                    self.place = Place::Asked(questions - 1, until);
                    return true;
                }
                Place::Asked(..) => {
                    self.place = Place::Known;
                    Some(Press::Resized(Some((column, row))))
                }
                Place::NotAsked | Place::Known => None,
            },
            typed => press(typed),
        };
        press.is_none_or(|press| self.press(press))
    }

    /// False when nobody listens any more.
    fn press(&self, press: Press) -> bool {
        self.keys.blocking_send(Key(press)).is_ok()
    }
}

/// What is meant by what was typed, if anything.
pub(super) fn press(typed: Typed) -> Option<Press> {
    match typed {
        Typed::Text(text) => Some(Press::Edit(Edit::Insert(text))),
        Typed::Key(key) => key_press(key),
        Typed::Paste(text) => Some(Press::Paste(plain(&text))),
        Typed::Unreadable => Some(Press::Unreadable),
        Typed::Cursor(..) => None,
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
