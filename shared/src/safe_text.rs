//! Filters that make text from other machines safe for a terminal.
//!
//! A name, a message or an error from the other side may carry escape sequences that move the cursor, change the
//! clipboard or the title, carriage returns that overwrite printed text, C1 controls that some terminals read as
//! escapes, bidi overrides that show text backwards (CVE-2021-42574), and invisible characters that make two names look
//! alike. Each of them is shown by a visible stand-in. Only combining marks beyond four on one character are left out.
//!
//! | destination | filter |
//! |---|---|
//! | a sentence of this program, an error, the log | [`crate::UntrustedText`], [`crate::FileName::display`] and [`safe_path`]; the wrapped text has no other `Display` |
//! | a conversation, a list | [`safe_line`], [`safe_block`], before the text is broken into rows |
//! | standard output and standard error | [`safe_styled`] as the last step for everything: of escape sequences, only those that set colours and weights pass |
//! | JSON for programs | [`safe_json`]: escapes, so that the JSON means the same |

mod combining_marks;

use std::borrow::Cow;
use std::path::Path;

use self::combining_marks::is_combining_mark;

/// Most combining marks kept on one character. More would be drawn over the neighbouring lines.
const MAX_MARKS: usize = 4;
/// Most joiners kept in one emoji. The longest in use, a kiss of two people, has three.
const MAX_JOINERS: usize = 4;

/// Returns `text` as one line that can't leave its line or change the look of its neighbours.
pub fn safe_line(text: &str) -> Cow<'_, str> {
    sanitize(text, false)
}

/// Returns `text` filtered as by [`safe_line`], with its line breaks and tabs kept.
pub fn safe_block(text: &str) -> Cow<'_, str> {
    sanitize(text, true)
}

/// Returns `path` filtered as by [`safe_line`]. Bytes that aren't UTF-8 become U+FFFD.
pub fn safe_path(path: impl AsRef<Path>) -> String {
    safe_line(&path.as_ref().to_string_lossy()).into_owned()
}

/// Returns `text` filtered as by [`safe_block`], with escape sequences for colours and weights kept. It is the last
/// filter before a terminal, where this program's own text may be dim or red.
pub fn safe_styled(text: &str) -> Cow<'_, str> {
    // Most text has no styles, and may then be returned without a copy.
    if !text.contains('\u{1b}') {
        return safe_block(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&safe_block(&rest[..at]));
        let style = style_at(&rest[at..]);
        // Without its escape, the rest of a sequence is ordinary text.
        let taken = style.unwrap_or("\u{1b}");
        out.push_str(style.unwrap_or("␛"));
        rest = &rest[at + taken.len()..];
    }
    out.push_str(&safe_block(rest));
    Cow::Owned(out)
}

/// Returns the `ESC [ … m` at the start of `text`, if there is one.
fn style_at(text: &str) -> Option<&str> {
    let codes = text.strip_prefix("\u{1b}[")?;
    // Digits and semicolons only: after other parameter bytes, `m` has other effects than colours.
    let end = codes.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    codes[end..].starts_with('m').then(|| &text[..2 + end + 1])
}

/// Returns JSON of the same meaning without raw characters that a terminal or a reader could misinterpret: DEL, C1
/// controls, bidi controls and invisible characters. In valid JSON they occur in strings only, where an escape may
/// replace them.
pub fn safe_json(json: String) -> String {
    // Controls below U+0020 are escapes in the strings of valid JSON already (RFC 8259, section 7).
    let is_raw = |c: char| c == '\u{7f}' || is_invisible(c) || is_bidi_control(c);
    // Nearly all JSON is ASCII; one pass over its bytes avoids decoding it.
    if json.bytes().all(|byte| byte < 0x7f) || !json.chars().any(is_raw) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_raw(c) {
            // JSON writes characters above U+FFFF as surrogate pairs (RFC 8259, section 7).
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// Returns true for characters that change the direction of the text around them.
pub fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn sanitize(text: &str, keep_breaks: bool) -> Cow<'_, str> {
    // Printable ASCII needs no filter and no allocation.
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut before = JoinContext::default();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // At the end of the text, a blank: an invisible character has no effect before it.
        let next = chars.peek().copied().unwrap_or(' ');
        let marks = if is_combining_mark(c) { before.marks + 1 } else { 0 };
        match c {
            '\n' | '\t' if keep_breaks => out.push(c),
            // The block Control Pictures has the control characters in order.
            '\u{0}'..='\u{1f}' => push_control_picture(&mut out, 0x2400 + u32::from(c)),
            // The picture of DEL stands apart from the others in that block.
            '\u{7f}' => out.push('\u{2421}'),
            // Before the invisible characters, to which joiners and style selectors belong as well.
            NON_JOINER | JOINER if before.can_join(c, next) => out.push(c),
            // A style selector is a combining mark as well, so it counts towards their bound.
            TEXT_STYLE | EMOJI_STYLE if marks <= MAX_MARKS && before.can_be_styled(next) => out.push(c),
            _ if is_invisible(c) || is_bidi_control(c) => {
                push_code(&mut out, c);
                // The code shown in its place is ordinary text, to which no later joiner or style applies.
                before = JoinContext::default();
                continue;
            }
            // A mark that is left out must not change the context, or filtering the result again would give another
            // text.
            _ if marks > MAX_MARKS => continue,
            _ => out.push(c),
        }
        before.advance(c, marks);
    }
    Cow::Owned(out)
}

const NON_JOINER: char = '\u{200c}';
const JOINER: char = '\u{200d}';
const TEXT_STYLE: char = '\u{fe0e}';
const EMOJI_STYLE: char = '\u{fe0f}';
const KEYCAP: char = '\u{20e3}';

/// The part of the preceding text that decides whether an invisible character has an effect.
#[derive(Debug, Default, Clone, Copy)]
struct JoinContext {
    last: CharClass,
    /// Number of marks on the last base character, joiners between them not counted.
    marks: usize,
    /// Number of joiners in the current emoji.
    joins: usize,
}

/// The class of a character with regard to an invisible one that follows it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum CharClass {
    #[default]
    Other,
    /// An emoji or a part of one.
    Pictograph,
    /// A style selector.
    Styled,
    /// A digit or another character that a keycap emoji begins with.
    Key,
    /// A letter whose shape depends on its neighbours, or a mark on one.
    Joining,
    Joiner,
}

impl JoinContext {
    /// Returns true if a joiner before `next` has an effect.
    fn can_join(self, joiner: char, next: char) -> bool {
        // Before a mark that is left out, the joiner would stand alone.
        if self.marks >= MAX_MARKS && is_combining_mark(next) {
            return false;
        }
        match self.last {
            CharClass::Pictograph | CharClass::Styled => {
                joiner == JOINER && is_pictograph(next) && self.joins < MAX_JOINERS
            }
            CharClass::Joining => is_joining(next),
            CharClass::Other | CharClass::Key | CharClass::Joiner => false,
        }
    }

    /// Returns true if a style selector before `next` has an effect.
    const fn can_be_styled(self, next: char) -> bool {
        matches!(self.last, CharClass::Pictograph) || (matches!(self.last, CharClass::Key) && next == KEYCAP)
    }

    /// Updates the context with `c`, which is the `marks`-th mark on its base character (0 for a base character).
    fn advance(&mut self, c: char, marks: usize) {
        let is_tone = matches!(c, '\u{1f3fb}'..='\u{1f3ff}');
        let kind = match c {
            JOINER | NON_JOINER => CharClass::Joiner,
            TEXT_STYLE | EMOJI_STYLE => CharClass::Styled,
            '0'..='9' | '#' | '*' => CharClass::Key,
            _ if is_pictograph(c) => CharClass::Pictograph,
            _ if is_joining(c) => CharClass::Joining,
            _ => CharClass::Other,
        };
        self.joins = match kind {
            CharClass::Joiner => self.joins + 1,
            // A skin tone belongs to the emoji before it; any other emoji without a joiner begins a new one.
            CharClass::Pictograph if is_tone || self.last == CharClass::Joiner => self.joins,
            // A style selector or a joiner continues the emoji; its joiners keep counting.
            CharClass::Styled => self.joins,
            _ => 0,
        };
        // A joiner begins no new character: marks behind it are drawn over those before it.
        let marks = if kind == CharClass::Joiner { self.marks } else { marks };
        (self.last, self.marks) = (kind, marks);
    }
}

/// Returns true for characters that take part in joined or styled emoji.
const fn is_pictograph(c: char) -> bool {
    matches!(c,
        '\u{a9}' | '\u{ae}' | '\u{203c}' | '\u{2049}' | '\u{2122}' | '\u{2139}' | '\u{2194}'..='\u{21aa}'
        | '\u{231a}'..='\u{23ff}' | '\u{24c2}' | '\u{25aa}'..='\u{27bf}' | '\u{2934}' | '\u{2935}'
        | '\u{2b05}'..='\u{2b55}' | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}' | '\u{1f000}'..='\u{1faff}')
}

/// Returns true for characters of scripts in which a joiner decides a letter's shape: Arabic and related scripts, and
/// the Indic, Burmese and Khmer ones.
const fn is_joining(c: char) -> bool {
    let is_in_script = matches!(c,
        '\u{0620}'..='\u{06ff}' | '\u{0710}'..='\u{077f}' | '\u{07ca}'..='\u{08ff}' | '\u{0900}'..='\u{0dff}'
        | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17d3}' | '\u{1820}'..='\u{18aa}' | '\u{a840}'..='\u{a873}'
        | '\u{a8e0}'..='\u{a8ff}');
    // The range of Khmer has two invisible vowels, beside which a joiner could hide.
    is_in_script && !is_invisible(c)
}

/// Appends the visible symbol for a control character, from the block Control Pictures (U+2400).
fn push_control_picture(out: &mut String, code: u32) {
    // Each control character has a picture, so the replacement is never seen.
    out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
}

fn push_code(out: &mut String, c: char) {
    out.push_str(&format!("<U+{:04X}>", u32::from(c)));
}

/// Returns true for C1 controls, format characters and blank fillers, which show nothing by themselves.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{034f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_text_is_untouched() {
        for text in ["", "report.pdf", "olá, orçamento", "日本語", "👩‍👩‍👧 família", "e\u{301}"] {
            assert_eq!(safe_line(text), text);
        }
        // Emoji of several parts, with a tone, with a style, with a key; words of Persian, Hindi, Thai and Korean.
        for text in ["👩🏽‍❤️‍💋‍👨🏿", "🏳️‍🌈 ❤️ ☎︎", "1️⃣ #️⃣", "🏃‍♀️", "می‌خواهم", "क्‍ष", "น้ำ", "한국어 한"]
        {
            assert_eq!(safe_line(text), text);
        }
    }

    #[test]
    fn clipboard_escape_is_shown() {
        assert_eq!(safe_line("\u{1b}]52;c;cm0gLXJm\u{7}"), "␛]52;c;cm0gLXJm␇");
    }

    #[test]
    fn carriage_return_cannot_forge_a_line() {
        assert_eq!(safe_line("bob: hi\rcarol: send me money"), "bob: hi␍carol: send me money");
        assert_eq!(safe_block("bob: hi\rcarol"), "bob: hi␍carol");
    }

    #[test]
    fn newline_leaves_a_block_only() {
        assert_eq!(safe_line("a\nb\tc"), "a␊b␉c");
        assert_eq!(safe_block("a\nb\tc"), "a\nb\tc");
    }

    #[test]
    fn c1_csi_is_shown() {
        assert_eq!(safe_line("\u{9b}31m"), "<U+009B>31m");
    }

    #[test]
    fn bidi_override_cannot_hide_an_extension() {
        assert_eq!(safe_line("\u{202e}fdp.exe"), "<U+202E>fdp.exe");
    }

    #[test]
    fn invisible_twins_are_told_apart() {
        assert_eq!(safe_line("bo\u{200b}b"), "bo<U+200B>b");
        assert_eq!(safe_line("bo\u{200d}b"), "bo<U+200D>b");
        assert_eq!(safe_line("bob\u{e0061}"), "bob<U+E0061>");
    }

    #[test]
    fn combining_towers_are_cut() {
        for mark in ['\u{300}', '\u{e47}', '\u{5b0}', '\u{94d}', '\u{20dd}', '\u{1161}', '\u{1f3fd}', '\u{10a0f}'] {
            let tower = format!("a{}", mark.to_string().repeat(3000));
            assert_eq!(safe_line(&tower).chars().count(), 1 + MAX_MARKS, "{mark:?}");
        }
        let joined = safe_line(&format!("\u{915}{}", "\u{94d}\u{200d}".repeat(3000))).into_owned();
        let cut = safe_line("\u{1f3fd}\u{e47}\u{e47}\u{1f3fd}\u{200d}\u{1f3fd}").into_owned();
        assert_eq!(safe_line(&cut), cut, "no joiner stands before a mark that is left out");
        // A joiner that is shown by its code is a character of its own, which may have marks again.
        let towers = joined.split('>').map(|tower| tower.matches('\u{94d}').count());
        assert_eq!(towers.max(), Some(MAX_MARKS), "{joined}");
    }

    #[test]
    fn a_style_does_not_make_a_tower_taller() {
        assert_eq!(safe_line("\u{94d}\u{94d}🏽🏽\u{fe0e}"), "\u{94d}\u{94d}🏽🏽<U+FE0E>");
    }

    #[test]
    fn what_is_cut_off_a_tower_joins_nothing() {
        let once = safe_line("a\u{300}\u{300}\u{300}\u{300}🏽\u{200d}👩").into_owned();
        assert_eq!(once, "a\u{300}\u{300}\u{300}\u{300}<U+200D>👩");
        assert_eq!(safe_line(&once), once);
    }

    #[test]
    fn joiners_that_join_nothing_are_shown() {
        assert_eq!(safe_line("relat\u{f3}\u{200d}rio.pdf"), "relató<U+200D>rio.pdf");
        assert_eq!(safe_line("ol\u{e1}\u{200c}"), "olá<U+200C>");
        assert_eq!(safe_line("👩\u{200d}\u{200d}👩"), "👩<U+200D><U+200D>👩");
        assert_eq!(safe_line("👩\u{200c}👩"), "👩<U+200C>👩");
        assert_eq!(safe_line("\u{645}\u{200c}\u{200c}\u{645}"), "\u{645}<U+200C><U+200C>\u{645}");
    }

    #[test]
    fn an_emoji_without_end_is_cut() {
        for part in ["👩", "👩🏽", "❤\u{fe0f}"] {
            let endless = vec![part; 500].join("\u{200d}");
            let shown = safe_line(&endless);
            assert_eq!(shown.matches('\u{200d}').count(), 500 / (MAX_JOINERS + 1) * MAX_JOINERS, "{part}");
        }
    }

    #[test]
    fn styles_that_style_nothing_are_shown() {
        assert_eq!(safe_line("a\u{fe01}b\u{fe0f}"), "a<U+FE01>b<U+FE0F>");
        assert_eq!(safe_line("❤\u{fe0f}\u{fe0f}"), "❤\u{fe0f}<U+FE0F>");
        assert_eq!(safe_line("1\u{fe0f}"), "1<U+FE0F>");
    }

    #[test]
    fn formats_of_music_and_shorthand_are_shown() {
        assert_eq!(safe_line("\u{1d173}\u{1bca0}\u{180f}"), "<U+1D173><U+1BCA0><U+180F>");
    }

    #[test]
    fn only_styles_get_past_the_last_word() {
        assert_eq!(
            safe_styled("\u{1b}[2mat noon\u{1b}[0m bob: hi\n  there"),
            "\u{1b}[2mat noon\u{1b}[0m bob: hi\n  there"
        );
        assert_eq!(safe_styled("\u{1b}[1;31merror:\u{1b}[0m\rno"), "\u{1b}[1;31merror:\u{1b}[0m␍no");
        for (text, shown) in [
            ("\u{1b}[2J", "␛[2J"),
            ("\u{1b}[1A\u{1b}[2K", "␛[1A␛[2K"),
            ("\u{1b}]52;c;eA==\u{7}", "␛]52;c;eA==␇"),
            ("\u{1b}\u{1b}[m", "␛\u{1b}[m"),
            ("\u{1b}[1;", "␛[1;"),
            ("\u{1b}", "␛"),
            ("\u{9b}1m", "<U+009B>1m"),
        ] {
            assert_eq!(safe_styled(text), shown, "{text:?}");
        }
    }

    #[test]
    fn json_means_the_same() {
        let text = "é 日 👩‍👩‍👧 \u{7f}\u{9b}31m \u{202e}fdp \u{2028}\u{e0061} \"\\\n";
        let json = safe_json(serde_json::to_string(text).unwrap());
        assert!(!json.chars().any(|c| c.is_control() || is_bidi_control(c) || is_invisible(c)), "{json}");
        assert!(json.contains("é 日") && json.contains("\\u009b31m \\u202efdp"), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    proptest! {
        #[test]
        fn every_json_means_the_same(text: String, key: String) {
            let value = serde_json::json!({ key: [text] });
            let json = safe_json(value.to_string());
            prop_assert!(!json.chars().any(|c| c.is_control() || is_bidi_control(c)));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        }

        #[test]
        fn whatever_is_written_moves_nothing(text in "([\u{1b}\\[;0-9mJA\r\n]|.){0,40}") {
            let out = safe_styled(&text).into_owned();
            let without_styles = out.split('\u{1b}').enumerate().all(|(at, part)| {
                at == 0 || style_at(&format!("\u{1b}{part}")).is_some()
            });
            prop_assert!(without_styles, "{out:?}");
            prop_assert!(!out.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\u{1b}')), "{out:?}");
            prop_assert_eq!(safe_styled(&out), out.as_str(), "once is enough");
        }

        #[test]
        fn nothing_dangerous_is_left(text: String) {
            let line = safe_line(&text);
            prop_assert!(!line.chars().any(|c| c.is_control() || is_bidi_control(c)));
            let block = safe_block(&text);
            prop_assert!(!block.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || is_bidi_control(c)));
        }

        #[test]
        fn no_invisible_character_stands_alone(
            text in "[a\u{e1}1👩❤🏽\u{200c}\u{200d}\u{fe0e}\u{fe0f}\u{fe01}\u{645}\u{915}\u{94d}\u{300}\u{e47}\u{20e3}]{0,40}"
        ) {
            let line = safe_line(&text);
            prop_assert_eq!(safe_line(&line), line.clone(), "once is enough");
            let chars: Vec<char> = line.chars().collect();
            for three in chars.windows(3) {
                let (before, c, after) = (three[0], three[1], three[2]);
                let joins = (is_pictograph(before) || before == EMOJI_STYLE || before == TEXT_STYLE) && is_pictograph(after)
                    || is_joining(before) && is_joining(after);
                prop_assert!(!matches!(c, JOINER | NON_JOINER) || joins, "{line:?}");
                let styles = is_pictograph(before) || after == KEYCAP;
                prop_assert!(!matches!(c, TEXT_STYLE | EMOJI_STYLE) || styles, "{line:?}");
            }
            let hidden = |c: &char| matches!(*c, JOINER | NON_JOINER | '\u{fe01}');
            prop_assert!(!chars.first().is_some_and(hidden) && !chars.last().is_some_and(hidden), "{line:?}");
            // Joiners have no width: what they stand between is drawn in one place all the same.
            let drawn: Vec<char> = chars.iter().copied().filter(|c| !matches!(*c, JOINER | NON_JOINER)).collect();
            for run in drawn.windows(MAX_MARKS + 1) {
                prop_assert!(!run.iter().all(|c| is_combining_mark(*c)), "{line:?}");
            }
        }
    }
}
