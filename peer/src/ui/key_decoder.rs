//! Decoder of a terminal's input. Pure.
//!
//! No byte is lost because of another: the parsers of crossterm and termina discard their whole buffer when a byte
//! doesn't fit, and with it the Enter behind a letter that isn't UTF-8. Here such a byte ends the sequence that was
//! begun and is then decoded by itself.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | a sequence | [`MAX_SEQUENCE_BYTES`] bytes | the sequence is dropped, the rest is text |
//! | a paste | [`MAX_PASTE_BYTES`] bytes | the rest is dropped, up to its end |

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::charset::Charset;

/// The longest sequence; terminals send at most some twenty bytes.
const MAX_SEQUENCE_BYTES: usize = 64;
/// The largest paste; many times the size of a message.
const MAX_PASTE_BYTES: usize = 8 << 20;
/// The sequence that ends a bracketed paste.
const PASTE_END: &[u8] = b"\x1b[201~";

/// A unit of decoded input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DecodedInput {
    /// Consecutive letters of one read.
    Text(String),
    Key(KeyEvent),
    /// A bracketed paste.
    Paste(String),
    /// A cursor position report: column and row, from 0.
    Cursor(u16, u16),
    /// Undecodable bytes; replacement characters stand for them in the text before.
    Unreadable,
}

/// The state of the decoder.
#[derive(Debug)]
pub(super) struct KeyDecoder {
    charset: Charset,
    state: DecoderState,
    /// The bytes of an incomplete letter.
    partial_char: Vec<u8>,
    text: String,
    unreadable: bool,
    decoded: Vec<DecodedInput>,
}

#[derive(Debug)]
enum DecoderState {
    Text,
    /// After ESC.
    Escape,
    /// After `ESC [`: parameters so far.
    Csi(Vec<u8>),
    /// After `ESC [ [`, as the Linux console begins function keys.
    LinuxConsole,
    /// After `ESC O`.
    Ss3,
    /// The number of bytes left in an X10 mouse report.
    Mouse(u8),
    Paste(Vec<u8>),
}

impl KeyDecoder {
    /// Creates a decoder; bytes that aren't UTF-8 are decoded in `charset`.
    pub(super) fn new(charset: Charset) -> Self {
        let (partial_char, text, decoded) = (Vec::new(), String::new(), Vec::new());
        Self { charset, state: DecoderState::Text, partial_char, text, unreadable: false, decoded }
    }

    /// Decodes bytes and returns everything complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<DecodedInput> {
        bytes.iter().for_each(|byte| self.decode_byte(*byte));
        self.flush_text();
        std::mem::take(&mut self.decoded)
    }

    /// True if a pause would decide what the last bytes mean. A paste has an explicit end, and the rest of a UTF-8
    /// letter comes as soon as the connection delivers it.
    pub(super) fn has_pending(&self) -> bool {
        self.is_char_complete() || !matches!(self.state, DecoderState::Text | DecoderState::Paste(_))
    }

    /// True if the incomplete letter is a single byte of the charset unless more follows at once.
    fn is_char_complete(&self) -> bool {
        !self.partial_char.is_empty() && self.charset != Charset::Utf8
    }

    /// Ends the pending sequence after a pause: ESC alone is the Escape key.
    pub(super) fn flush_pending(&mut self) -> Vec<DecodedInput> {
        if self.is_char_complete() {
            self.flush_partial_char();
        }
        match std::mem::replace(&mut self.state, DecoderState::Text) {
            DecoderState::Escape => self.push_key(KeyCode::Esc, KeyModifiers::NONE),
            // A paste has an end sequence, however slowly it arrives.
            paste @ DecoderState::Paste(_) => self.state = paste,
            DecoderState::Text
            | DecoderState::Csi(_)
            | DecoderState::LinuxConsole
            | DecoderState::Ss3
            | DecoderState::Mouse(_) => {}
        }
        self.flush_text();
        std::mem::take(&mut self.decoded)
    }

    fn decode_byte(&mut self, byte: u8) {
        match std::mem::replace(&mut self.state, DecoderState::Text) {
            DecoderState::Text => self.decode_text(byte),
            DecoderState::Escape => self.decode_escape(byte),
            DecoderState::Csi(parameters) => self.decode_csi(parameters, byte),
            // F1 to F5 there (terminfo `linux`).
            DecoderState::LinuxConsole => match byte {
                b'A'..=b'E' => self.push_key(KeyCode::F(byte - b'A' + 1), KeyModifiers::NONE),
                _ => self.decode_text(byte),
            },
            DecoderState::Ss3 => self.decode_ss3(byte),
            DecoderState::Mouse(1) => {}
            DecoderState::Mouse(left) => self.state = DecoderState::Mouse(left - 1),
            DecoderState::Paste(text) => self.decode_paste(text, byte),
        }
    }

    fn decode_text(&mut self, byte: u8) {
        match byte {
            0x1b => {
                self.flush_partial_char();
                self.state = DecoderState::Escape;
            }
            0..0x20 | 0x7f => {
                self.flush_partial_char();
                self.push_control_key(byte, KeyModifiers::NONE);
            }
            b' '..=b'~' if self.partial_char.is_empty() => self.text.push(char::from(byte)),
            _ => {
                self.partial_char.push(byte);
                self.decode_partial_char();
            }
        }
    }

    /// Moves complete letters to the text, and decodes bytes that can't begin a letter.
    fn decode_partial_char(&mut self) {
        while !self.partial_char.is_empty() {
            match std::str::from_utf8(&self.partial_char) {
                Ok(letter) => {
                    self.text.push_str(letter);
                    self.partial_char.clear();
                }
                Err(why) if why.valid_up_to() > 0 => {
                    let rest = self.partial_char.split_off(why.valid_up_to());
                    let whole = std::mem::replace(&mut self.partial_char, rest);
                    self.text.push_str(&String::from_utf8_lossy(&whole));
                }
                Err(why) => match why.error_len() {
                    Some(wrong) => self.push_undecodable(wrong),
                    // The letter may go on with the next byte.
                    None => return,
                },
            }
        }
    }

    /// Ends an incomplete letter.
    fn flush_partial_char(&mut self) {
        while !self.partial_char.is_empty() {
            self.push_undecodable(self.partial_char.len());
        }
    }

    /// Takes `wrong` bytes that aren't UTF-8.
    fn push_undecodable(&mut self, wrong: usize) {
        let rest = self.partial_char.split_off(wrong.clamp(1, self.partial_char.len()));
        let wrong = std::mem::replace(&mut self.partial_char, rest);
        match self.charset.decode(&wrong) {
            Some(text) => self.text.push_str(&text),
            None => {
                self.text.push(char::REPLACEMENT_CHARACTER);
                self.unreadable = true;
            }
        }
    }

    fn flush_text(&mut self) {
        if !self.text.is_empty() {
            self.decoded.push(DecodedInput::Text(std::mem::take(&mut self.text)));
        }
        if std::mem::take(&mut self.unreadable) {
            self.decoded.push(DecodedInput::Unreadable);
        }
    }

    fn decode_escape(&mut self, byte: u8) {
        match byte {
            b'[' => self.state = DecoderState::Csi(Vec::new()),
            b'O' => self.state = DecoderState::Ss3,
            0x1b => {
                self.push_key(KeyCode::Esc, KeyModifiers::NONE);
                self.state = DecoderState::Escape;
            }
            // Alt is sent as an ESC prefix.
            0..0x20 | 0x7f => self.push_control_key(byte, KeyModifiers::ALT),
            b' '..=b'~' => self.push_key(KeyCode::Char(char::from(byte)), KeyModifiers::ALT),
            // A letter with Alt that has no meaning here: Escape, followed by the letter.
            _ => {
                self.push_key(KeyCode::Esc, KeyModifiers::NONE);
                self.decode_text(byte);
            }
        }
    }

    fn decode_csi(&mut self, mut parameters: Vec<u8>, byte: u8) {
        match byte {
            b' '..=b'?' if parameters.len() < MAX_SEQUENCE_BYTES => {
                parameters.push(byte);
                self.state = DecoderState::Csi(parameters);
            }
            b'[' if parameters.is_empty() => self.state = DecoderState::LinuxConsole,
            // X10 mouse reports have three raw bytes after the final one; they must not become text.
            b'M' if parameters.is_empty() => self.state = DecoderState::Mouse(3),
            b'@'..=b'~' => self.dispatch_csi(&parameters, byte),
            _ => self.decode_text(byte),
        }
    }

    fn dispatch_csi(&mut self, parameters: &[u8], last: u8) {
        let numbers = numbers(parameters);
        let number = |place: usize| numbers.get(place).copied();
        let held = modifiers(number(1));
        match (last, number(0)) {
            (b'~', Some(200)) => {
                self.flush_text();
                self.state = DecoderState::Paste(Vec::new());
            }
            // xterm's modifyOtherKeys.
            (b'~', Some(27)) => self.push_coded_key(number(2), held),
            (b'~', Some(code)) => {
                if let Some(key) = numbered_key(code) {
                    self.push_key(key, held);
                }
            }
            // The kitty keyboard protocol. Releases, event type 3, are ignored.
            (b'u', code)
                if !parameters.split(|byte| *byte == b';').nth(1).is_some_and(|held| held.ends_with(b":3")) =>
            {
                self.push_coded_key(code, held);
            }
            (b'R', Some(row)) if !parameters.starts_with(b"?") => {
                self.flush_text();
                let column = number(1).unwrap_or(1);
                self.decoded.push(DecodedInput::Cursor(column.saturating_sub(1), row.saturating_sub(1)));
            }
            (b'Z', _) => self.push_key(KeyCode::BackTab, KeyModifiers::NONE),
            _ => {
                if let Some(key) = named_key(last) {
                    self.push_key(key, held);
                }
            }
        }
    }

    fn decode_ss3(&mut self, byte: u8) {
        match byte {
            b'M' => self.push_key(KeyCode::Enter, KeyModifiers::NONE),
            b'I' => self.push_key(KeyCode::Tab, KeyModifiers::NONE),
            // The keypad's digits and signs, in application mode.
            b'j'..=b'y' => self.text.push(char::from(byte - 0x40)),
            b'X' => self.text.push('='),
            _ => match named_key(byte) {
                Some(key) => self.push_key(key, KeyModifiers::NONE),
                None => self.decode_text(byte),
            },
        }
    }

    fn decode_paste(&mut self, mut text: Vec<u8>, byte: u8) {
        text.push(byte);
        if text.ends_with(PASTE_END) {
            text.truncate(text.len() - PASTE_END.len());
            text.truncate(MAX_PASTE_BYTES);
            // The truncation may have cut a letter in half.
            let paste = self.charset.decode_lossy(&text);
            self.unreadable |= paste.contains(char::REPLACEMENT_CHARACTER);
            self.flush_text();
            self.decoded.push(DecodedInput::Paste(paste));
            return;
        }
        if text.len() > MAX_PASTE_BYTES + 2 * PASTE_END.len() {
            // Keeps the last bytes, which may be the beginning of the end sequence.
            text.drain(MAX_PASTE_BYTES..text.len() - PASTE_END.len());
        }
        self.state = DecoderState::Paste(text);
    }

    fn push_key(&mut self, code: KeyCode, held: KeyModifiers) {
        self.flush_text();
        self.decoded.push(DecodedInput::Key(KeyEvent::new(code, held)));
    }

    fn push_control_key(&mut self, byte: u8, held: KeyModifiers) {
        match byte {
            b'\r' => self.push_key(KeyCode::Enter, held),
            b'\t' => self.push_key(KeyCode::Tab, held),
            0x7f => self.push_key(KeyCode::Backspace, held),
            // Terminals send Ctrl-Space as NUL.
            0 => self.push_key(KeyCode::Char(' '), held | KeyModifiers::CONTROL),
            letter @ 1..=0x1a => self.push_key(KeyCode::Char(char::from(letter + 0x60)), held | KeyModifiers::CONTROL),
            other => self.push_key(KeyCode::Char(char::from(other + 0x40)), held | KeyModifiers::CONTROL),
        }
    }

    /// Pushes a key that was sent as its code point.
    fn push_coded_key(&mut self, code: Option<u16>, held: KeyModifiers) {
        let Some(letter) = code.and_then(|code| char::from_u32(code.into())) else { return };
        match letter {
            '\u{1b}' => self.push_key(KeyCode::Esc, held),
            '\u{0}'..'\u{20}' | '\u{7f}' => self.push_control_key(u8::try_from(letter).unwrap_or(0), held),
            // kitty encodes keys without text (keypad, media, modifiers) in the private use area.
            '\u{e000}'..='\u{f8ff}' => {}
            _ if held.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
                self.push_key(KeyCode::Char(letter), held);
            }
            // kitty reports the unshifted code point.
            _ if held.contains(KeyModifiers::SHIFT) => self.text.extend(letter.to_uppercase()),
            _ => self.text.push(letter),
        }
    }
}

/// Returns the parameters, separated by semicolons; of subparameters only the first. Invalid ones count as 0.
fn numbers(parameters: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(parameters);
    let number = |part: &str| part.split(':').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    if text.is_empty() { Vec::new() } else { text.split(';').map(number).collect() }
}

fn modifiers(held: Option<u16>) -> KeyModifiers {
    // The parameter is the modifiers' bit set plus 1.
    let bits = held.unwrap_or(1).saturating_sub(1);
    let names = [(1, KeyModifiers::SHIFT), (2, KeyModifiers::ALT), (4, KeyModifiers::CONTROL)];
    names.into_iter().filter(|(bit, _)| bits & bit != 0).fold(KeyModifiers::NONE, |all, (_, name)| all | name)
}

const fn numbered_key(code: u16) -> Option<KeyCode> {
    Some(match code {
        // 1 and 4 come from xterm and the Linux console, 7 and 8 from rxvt.
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

    fn typed(bytes: &[u8]) -> Vec<DecodedInput> {
        let mut decoder = KeyDecoder::new(Charset::Utf8);
        let mut typed = decoder.feed(bytes);
        typed.extend(decoder.flush_pending());
        typed
    }

    fn text(text: &str) -> DecodedInput {
        DecodedInput::Text(text.to_owned())
    }

    fn key(code: KeyCode) -> DecodedInput {
        DecodedInput::Key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn held(code: KeyCode, held: KeyModifiers) -> DecodedInput {
        DecodedInput::Key(KeyEvent::new(code, held))
    }

    #[test]
    fn bytes_that_are_no_text_cost_nothing_else() {
        let enter = || key(KeyCode::Enter);
        let mark = || DecodedInput::Unreadable;
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
            assert!(!decoder.has_pending());
            typed.extend(decoder.flush_pending());
            typed.iter().for_each(|one| match one {
                DecodedInput::Text(text) => all.push_str(text),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(all, "gap é ção 😀");
        let mut decoder = KeyDecoder::new(Charset::Latin1);
        assert_eq!(decoder.feed(b"\xe9"), []);
        assert!(decoder.has_pending());
        assert_eq!(decoder.flush_pending(), [text("é")]);
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
        assert_eq!(typed(b"\x1b[12;40R"), [DecodedInput::Cursor(39, 11)]);
        // Ignored reports: mouse, focus, the terminal's attributes.
        assert_eq!(typed(b"\x1b[M !!\x1b[<0;3;4M\x1b[I\x1b[?62;c\x1b[99~x"), [text("x")]);
    }

    #[test]
    fn a_paste_is_one_piece() {
        let paste = |text: &str| DecodedInput::Paste(text.to_owned());
        assert_eq!(typed(b"\x1b[200~a\r\x1b[Ab\x1b[201~c"), [paste("a\r\x1b[Ab"), text("c")]);
        assert_eq!(
            typed(b"\x1b[200~\xe9\x1b[201~\r"),
            [DecodedInput::Unreadable, paste("\u{fffd}"), key(KeyCode::Enter)]
        );
        let mut large = b"\x1b[200~".to_vec();
        large.resize(MAX_PASTE_BYTES + 100_000, b'x');
        large.extend_from_slice(PASTE_END);
        large.extend_from_slice(b"\r");
        let typed = typed(&large);
        assert!(
            matches!(&typed[..], [DecodedInput::Paste(text), DecodedInput::Key(_)] if text.len() == MAX_PASTE_BYTES)
        );
    }

    #[test]
    fn a_sequence_that_does_not_end_is_given_up() {
        assert_eq!(typed(b"\x1b["), []);
        let mut endless = b"\x1b[".to_vec();
        endless.resize(1000, b'1');
        assert!(matches!(&typed(&endless)[..], [DecodedInput::Text(rest)] if rest.len() > 900));
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
                typed.extend(decoder.flush_pending());
                typed.extend(decoder.feed(PASTE_END));
                typed.extend(decoder.feed(b"ok\r"));
                prop_assert_eq!(&typed[typed.len() - 2..], &[text("ok"), key(KeyCode::Enter)]);
            }
            // The text may be split elsewhere.
            let joined = |typed: &[DecodedInput]| typed.iter().fold(String::new(), |all, one| match one {
                DecodedInput::Text(text) => all + text,
                DecodedInput::Unreadable => all,
                other => format!("{all}{other:?}"),
            });
            prop_assert_eq!(joined(&all), joined(&parts));
        }
    }
}
