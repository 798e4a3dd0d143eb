//! Bytes of a terminal as what they mean. Pure.
//!
//! No byte can cost another one: the parsers of crossterm and termina throw away all that they hold when a byte doesn't
//! fit, and with it the Enter behind a letter that isn't UTF-8. Here a byte that doesn't fit ends what was begun, and is
//! then looked at by itself.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | a sequence | [`SEQUENCE`] bytes | it is given up, what follows is text |
//! | a paste | [`PASTE`] bytes | the rest is left out, up to its end |

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::charset::Charset;

/// Longest sequence; those of terminals have at most some twenty bytes.
const SEQUENCE: usize = 64;
/// Largest paste that is kept: many times what a message may have.
const PASTE: usize = 8 << 20;
/// What ends a paste.
const PASTED: &[u8] = b"\x1b[201~";

/// What the terminal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Typed {
    /// Letters, as many as came together.
    Text(String),
    Key(KeyEvent),
    /// Text that came in one piece.
    Paste(String),
    /// The cursor is in this column and row, from 0.
    Cursor(u16, u16),
    /// Bytes came that are no text here; marks stand for them.
    Unreadable,
}

/// Decodes what comes, byte by byte.
#[derive(Debug)]
pub(super) struct KeyDecoder {
    charset: Charset,
    state: State,
    /// The beginning of a letter.
    letter: Vec<u8>,
    text: String,
    unreadable: bool,
    typed: Vec<Typed>,
}

#[derive(Debug)]
enum State {
    Text,
    /// After ESC.
    Escape,
    /// After `ESC [`: parameters so far.
    Sequence(Vec<u8>),
    /// After `ESC [ [`, as the Linux console begins function keys.
    Console,
    /// After `ESC O`.
    Single,
    /// So many bytes of an old report of the mouse are still to come.
    Mouse(u8),
    Paste(Vec<u8>),
}

impl KeyDecoder {
    /// Nothing came yet; what isn't UTF-8 is in this charset.
    pub(super) fn new(charset: Charset) -> Self {
        let (letter, text, typed) = (Vec::new(), String::new(), Vec::new());
        Self { charset, state: State::Text, letter, text, unreadable: false, typed }
    }

    /// Takes bytes; returns what is whole.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Typed> {
        bytes.iter().for_each(|byte| self.take(*byte));
        self.end_text();
        std::mem::take(&mut self.typed)
    }

    /// Returns whether something was begun that time decides about: a paste has its end, and the rest of a letter in
    /// UTF-8 comes whenever the line brings it.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_letter_over() || !matches!(self.state, State::Text | State::Paste(_))
    }

    /// Returns whether a letter that was begun is one of a single byte unless more comes at once.
    fn is_letter_over(&self) -> bool {
        !self.letter.is_empty() && self.charset != Charset::Utf8
    }

    /// Nothing followed for a while: what was begun is all there is.
    pub(super) fn give_up(&mut self) -> Vec<Typed> {
        if self.is_letter_over() {
            self.end_letter();
        }
        match std::mem::replace(&mut self.state, State::Text) {
            State::Escape => self.press(KeyCode::Esc, KeyModifiers::NONE),
            paste @ State::Paste(_) => self.state = paste,
            State::Text | State::Sequence(_) | State::Console | State::Single | State::Mouse(_) => {}
        }
        self.end_text();
        std::mem::take(&mut self.typed)
    }

    fn take(&mut self, byte: u8) {
        match std::mem::replace(&mut self.state, State::Text) {
            State::Text => self.take_text(byte),
            State::Escape => self.take_escape(byte),
            State::Sequence(parameters) => self.take_sequence(parameters, byte),
            State::Console => match byte {
                b'A'..=b'E' => self.press(KeyCode::F(byte - b'A' + 1), KeyModifiers::NONE),
                _ => self.take_text(byte),
            },
            State::Single => self.take_single(byte),
            State::Mouse(1) => {}
            State::Mouse(left) => self.state = State::Mouse(left - 1),
            State::Paste(text) => self.take_paste(text, byte),
        }
    }

    fn take_text(&mut self, byte: u8) {
        match byte {
            0x1b => {
                self.end_letter();
                self.state = State::Escape;
            }
            0..0x20 | 0x7f => {
                self.end_letter();
                self.press_control(byte, KeyModifiers::NONE);
            }
            b' '..=b'~' if self.letter.is_empty() => self.text.push(char::from(byte)),
            _ => {
                self.letter.push(byte);
                self.join_letter();
            }
        }
    }

    /// Takes letters that are whole out of what was begun, and marks what can't be the beginning of one.
    fn join_letter(&mut self) {
        while !self.letter.is_empty() {
            match std::str::from_utf8(&self.letter) {
                Ok(letter) => {
                    self.text.push_str(letter);
                    self.letter.clear();
                }
                Err(why) if why.valid_up_to() > 0 => {
                    let rest = self.letter.split_off(why.valid_up_to());
                    let whole = std::mem::replace(&mut self.letter, rest);
                    self.text.push_str(&String::from_utf8_lossy(&whole));
                }
                Err(why) => match why.error_len() {
                    Some(wrong) => self.mark(wrong),
                    None => return,
                },
            }
        }
    }

    /// No more of a letter comes.
    fn end_letter(&mut self) {
        while !self.letter.is_empty() {
            self.mark(self.letter.len());
        }
    }

    /// So many bytes are no UTF-8.
    fn mark(&mut self, wrong: usize) {
        let rest = self.letter.split_off(wrong.clamp(1, self.letter.len()));
        let wrong = std::mem::replace(&mut self.letter, rest);
        match self.charset.decode(&wrong) {
            Some(text) => self.text.push_str(&text),
            None => {
                self.text.push(char::REPLACEMENT_CHARACTER);
                self.unreadable = true;
            }
        }
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            self.typed.push(Typed::Text(std::mem::take(&mut self.text)));
        }
        if std::mem::take(&mut self.unreadable) {
            self.typed.push(Typed::Unreadable);
        }
    }

    fn take_escape(&mut self, byte: u8) {
        match byte {
            b'[' => self.state = State::Sequence(Vec::new()),
            b'O' => self.state = State::Single,
            0x1b => {
                self.press(KeyCode::Esc, KeyModifiers::NONE);
                self.state = State::Escape;
            }
            0..0x20 | 0x7f => self.press_control(byte, KeyModifiers::ALT),
            b' '..=b'~' => self.press(KeyCode::Char(char::from(byte)), KeyModifiers::ALT),
            // A letter that no command is on: Escape, and then the letter.
            _ => {
                self.press(KeyCode::Esc, KeyModifiers::NONE);
                self.take_text(byte);
            }
        }
    }

    fn take_sequence(&mut self, mut parameters: Vec<u8>, byte: u8) {
        match byte {
            b' '..=b'?' if parameters.len() < SEQUENCE => {
                parameters.push(byte);
                self.state = State::Sequence(parameters);
            }
            b'[' if parameters.is_empty() => self.state = State::Console,
            b'M' if parameters.is_empty() => self.state = State::Mouse(3),
            b'@'..=b'~' => self.end_sequence(&parameters, byte),
            _ => self.take_text(byte),
        }
    }

    fn end_sequence(&mut self, parameters: &[u8], last: u8) {
        let numbers = numbers(parameters);
        let number = |place: usize| numbers.get(place).copied();
        let held = modifiers(number(1));
        match (last, number(0)) {
            (b'~', Some(200)) => {
                self.end_text();
                self.state = State::Paste(Vec::new());
            }
            // modifyOtherKeys of xterm.
            (b'~', Some(27)) => self.press_coded(number(2), held),
            (b'~', Some(code)) => {
                if let Some(key) = numbered_key(code) {
                    self.press(key, held);
                }
            }
            // The protocol of kitty. Of a release, which is its third kind of event, nothing is made.
            (b'u', code)
                if !parameters.split(|byte| *byte == b';').nth(1).is_some_and(|held| held.ends_with(b":3")) =>
            {
                self.press_coded(code, held);
            }
            (b'R', Some(row)) if !parameters.starts_with(b"?") => {
                self.end_text();
                let column = number(1).unwrap_or(1);
                self.typed.push(Typed::Cursor(column.saturating_sub(1), row.saturating_sub(1)));
            }
            (b'Z', _) => self.press(KeyCode::BackTab, KeyModifiers::NONE),
            _ => {
                if let Some(key) = named_key(last) {
                    self.press(key, held);
                }
            }
        }
    }

    fn take_single(&mut self, byte: u8) {
        match byte {
            b'M' => self.press(KeyCode::Enter, KeyModifiers::NONE),
            b'I' => self.press(KeyCode::Tab, KeyModifiers::NONE),
            // The digits and signs of a keypad.
            b'j'..=b'y' => self.text.push(char::from(byte - 0x40)),
            b'X' => self.text.push('='),
            _ => match named_key(byte) {
                Some(key) => self.press(key, KeyModifiers::NONE),
                None => self.take_text(byte),
            },
        }
    }

    fn take_paste(&mut self, mut text: Vec<u8>, byte: u8) {
        text.push(byte);
        if text.ends_with(PASTED) {
            text.truncate(text.len() - PASTED.len());
            text.truncate(PASTE);
            // Where it was cut there may be half a letter.
            let paste = self.charset.decode_lossy(&text);
            self.unreadable |= paste.contains(char::REPLACEMENT_CHARACTER);
            self.end_text();
            self.typed.push(Typed::Paste(paste));
            return;
        }
        if text.len() > PASTE + 2 * PASTED.len() {
            // What is left out, but for what may be the beginning of its end.
            text.drain(PASTE..text.len() - PASTED.len());
        }
        self.state = State::Paste(text);
    }

    fn press(&mut self, code: KeyCode, held: KeyModifiers) {
        self.end_text();
        self.typed.push(Typed::Key(KeyEvent::new(code, held)));
    }

    fn press_control(&mut self, byte: u8, held: KeyModifiers) {
        match byte {
            b'\r' => self.press(KeyCode::Enter, held),
            b'\t' => self.press(KeyCode::Tab, held),
            0x7f => self.press(KeyCode::Backspace, held),
            0 => self.press(KeyCode::Char(' '), held | KeyModifiers::CONTROL),
            letter @ 1..=0x1a => self.press(KeyCode::Char(char::from(letter + 0x60)), held | KeyModifiers::CONTROL),
            other => self.press(KeyCode::Char(char::from(other + 0x40)), held | KeyModifiers::CONTROL),
        }
    }

    /// A key that came as the number of its letter.
    fn press_coded(&mut self, code: Option<u16>, held: KeyModifiers) {
        let Some(letter) = code.and_then(|code| char::from_u32(code.into())) else { return };
        match letter {
            '\u{1b}' => self.press(KeyCode::Esc, held),
            '\u{0}'..'\u{20}' | '\u{7f}' => self.press_control(u8::try_from(letter).unwrap_or(0), held),
            // The private area has keys that type nothing.
            '\u{e000}'..='\u{f8ff}' => {}
            _ if held.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => self.press(KeyCode::Char(letter), held),
            _ if held.contains(KeyModifiers::SHIFT) => self.text.extend(letter.to_uppercase()),
            _ => self.text.push(letter),
        }
    }
}

/// Numbers between semicolons; of those with parts, the first. What is none counts as left out.
fn numbers(parameters: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(parameters);
    let number = |part: &str| part.split(':').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    if text.is_empty() { Vec::new() } else { text.split(';').map(number).collect() }
}

fn modifiers(held: Option<u16>) -> KeyModifiers {
    let bits = held.unwrap_or(1).saturating_sub(1);
    let names = [(1, KeyModifiers::SHIFT), (2, KeyModifiers::ALT), (4, KeyModifiers::CONTROL)];
    names.into_iter().filter(|(bit, _)| bits & bit != 0).fold(KeyModifiers::NONE, |all, (_, name)| all | name)
}

const fn numbered_key(code: u16) -> Option<KeyCode> {
    Some(match code {
        1 | 7 => KeyCode::Home,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        11 => KeyCode::F(1),
        _ => return None,
    })
}

const fn named_key(last: u8) -> Option<KeyCode> {
    Some(match last {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        b'P' => KeyCode::F(1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(bytes: &[u8]) -> Vec<Typed> {
        let mut decoder = KeyDecoder::new(Charset::Utf8);
        let mut typed = decoder.feed(bytes);
        typed.extend(decoder.give_up());
        typed
    }

    fn text(text: &str) -> Typed {
        Typed::Text(text.to_owned())
    }

    fn key(code: KeyCode) -> Typed {
        Typed::Key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn held(code: KeyCode, held: KeyModifiers) -> Typed {
        Typed::Key(KeyEvent::new(code, held))
    }

    #[test]
    fn bytes_that_are_no_text_cost_nothing_else() {
        let enter = || key(KeyCode::Enter);
        let mark = || Typed::Unreadable;
        let wanted = [text("abc\u{fffd}"), mark(), enter(), text("xyz"), enter()];
        assert_eq!(typed(b"abc\xc3\rxyz\r"), wanted);
        assert_eq!(typed(b"ol\xe1 mundo\r"), [text("ol\u{fffd} mundo"), mark(), enter()]);
        assert_eq!(typed(b"\xe9\xe9\xe9t\xe9\r"), [text("\u{fffd}\u{fffd}\u{fffd}t\u{fffd}"), mark(), enter()]);
        assert_eq!(typed(b"\xf0\x9f\r"), [text("\u{fffd}"), mark(), enter()]);
        assert_eq!(typed(b"\xe9\x1b[A"), [text("\u{fffd}"), mark(), key(KeyCode::Up)]);
        assert_eq!(typed("olá\r".as_bytes()), [text("olá"), enter()]);
    }

    #[test]
    fn a_letter_is_whole_however_slowly_its_bytes_come() {
        let mut decoder = KeyDecoder::new(Charset::Utf8);
        let mut all = String::new();
        for byte in "gap é ção 😀".bytes() {
            let mut typed = decoder.feed(&[byte]);
            assert!(!decoder.is_waiting());
            typed.extend(decoder.give_up());
            typed.iter().for_each(|one| match one {
                Typed::Text(text) => all.push_str(text),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(all, "gap é ção 😀");
        let mut decoder = KeyDecoder::new(Charset::Latin1);
        assert_eq!(decoder.feed(b"\xe9"), []);
        assert!(decoder.is_waiting());
        assert_eq!(decoder.give_up(), [text("é")]);
    }

    #[test]
    fn another_charset_is_read_where_it_is_no_utf8() {
        let mut decoder = KeyDecoder::new(Charset::Latin1);
        assert_eq!(decoder.feed(b"ol\xe1 mundo \xc3\xa9\r"), [text("olá mundo é"), key(KeyCode::Enter)]);
        let mut decoder = KeyDecoder::new(Charset::Latin9);
        assert_eq!(decoder.feed(b"5 \xa4\r"), [text("5 €"), key(KeyCode::Enter)]);
    }

    #[test]
    fn keys_of_terminals() {
        assert_eq!(typed(b"\x1b"), [key(KeyCode::Esc)]);
        assert_eq!(typed(b"\x1b\x1b[A"), [key(KeyCode::Esc), key(KeyCode::Up)]);
        assert_eq!(typed(b"\x1bb"), [held(KeyCode::Char('b'), KeyModifiers::ALT)]);
        assert_eq!(typed(b"\x1b\x7f"), [held(KeyCode::Backspace, KeyModifiers::ALT)]);
        assert_eq!(typed(b"\x1bOA\x1bOP\x1b[[A"), [key(KeyCode::Up), key(KeyCode::F(1)), key(KeyCode::F(1))]);
        assert_eq!(typed(b"\x1b[1;5D\x1b[3~"), [held(KeyCode::Left, KeyModifiers::CONTROL), key(KeyCode::Delete)]);
        assert_eq!(typed(b"\x1b[Z\t"), [key(KeyCode::BackTab), key(KeyCode::Tab)]);
        let control = |letter| held(KeyCode::Char(letter), KeyModifiers::CONTROL);
        assert_eq!(
            typed(b"\x03\x04\x1b[99;5u\x1b[27;5;119~"),
            [control('c'), control('d'), control('c'), control('w')]
        );
        assert_eq!(typed(b"\x1b[97u\x1b[97;1:3u\x1b[13u"), [text("a"), key(KeyCode::Enter)]);
        assert_eq!(typed(b"\x1b[12;40R"), [Typed::Cursor(39, 11)]);
        // What nothing is made of: the mouse, the focus, what a terminal says of itself.
        assert_eq!(typed(b"\x1b[M !!\x1b[<0;3;4M\x1b[I\x1b[?62;c\x1b[99~x"), [text("x")]);
    }

    #[test]
    fn a_paste_is_one_piece() {
        let paste = |text: &str| Typed::Paste(text.to_owned());
        assert_eq!(typed(b"\x1b[200~a\r\x1b[Ab\x1b[201~c"), [paste("a\r\x1b[Ab"), text("c")]);
        assert_eq!(typed(b"\x1b[200~\xe9\x1b[201~\r"), [Typed::Unreadable, paste("\u{fffd}"), key(KeyCode::Enter)]);
        let mut large = b"\x1b[200~".to_vec();
        large.resize(PASTE + 100_000, b'x');
        large.extend_from_slice(PASTED);
        large.extend_from_slice(b"\r");
        let typed = typed(&large);
        assert!(matches!(&typed[..], [Typed::Paste(text), Typed::Key(_)] if text.len() == PASTE));
    }

    #[test]
    fn a_sequence_that_does_not_end_is_given_up() {
        assert_eq!(typed(b"\x1b["), []);
        let mut endless = b"\x1b[".to_vec();
        endless.resize(1000, b'1');
        assert!(matches!(&typed(&endless)[..], [Typed::Text(rest)] if rest.len() > 900));
        assert_eq!(typed(b"\x1b[12\r"), [key(KeyCode::Enter)]);
    }

    proptest! {
        #[test]
        fn whatever_comes_what_follows_a_pause_is_read(bytes: Vec<u8>, at in 0_usize..64) {
            let mut whole = KeyDecoder::new(Charset::Utf8);
            let mut all = whole.feed(&bytes);
            let mut parted = KeyDecoder::new(Charset::Utf8);
            let (one, other) = bytes.split_at(at.min(bytes.len()));
            let mut parts = parted.feed(one);
            parts.extend(parted.feed(other));
            for (decoder, typed) in [(&mut whole, &mut all), (&mut parted, &mut parts)] {
                typed.extend(decoder.give_up());
                typed.extend(decoder.feed(PASTED));
                typed.extend(decoder.feed(b"ok\r"));
                prop_assert_eq!(&typed[typed.len() - 2..], &[text("ok"), key(KeyCode::Enter)]);
            }
            // Text may be in other pieces.
            let joined = |typed: &[Typed]| typed.iter().fold(String::new(), |all, one| match one {
                Typed::Text(text) => all + text,
                Typed::Unreadable => all,
                other => format!("{all}{other:?}"),
            });
            prop_assert_eq!(joined(&all), joined(&parts));
        }
    }
}
