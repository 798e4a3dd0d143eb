//! An editable input line: text, cursor, history, and the part that fits on the screen. Pure.
//!
//! The cursor moves by grapheme clusters, the characters as people see them: a letter with its accents, a flag or a
//! family emoji is one each.

use shared::safe_text::safe_line;
use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};
use unicode_width::UnicodeWidthStr;

/// Lines in the history.
const MAX_HISTORY: usize = 100;
/// Bytes in the line; input beyond is dropped. No message has a thousandth of it.
const MAX_LINE_BYTES: usize = 8 << 20;

/// The state of the input line.
#[derive(Debug, Default, Clone)]
pub(super) struct LineEditor {
    text: String,
    /// A byte index, at a cluster boundary.
    cursor: usize,
    /// The text that [`EditCommand::Yank`] inserts.
    cut: String,
    history: Vec<String>,
    /// While the history is browsed: the index of the shown line, counted from the newest, and the draft to return to.
    recalled: Option<(usize, String)>,
}

/// A change to the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EditCommand {
    Insert(String),
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    /// Cuts back to the previous blank (Ctrl-W).
    CutBlankWord,
    CutWordLeft,
    CutWordRight,
    CutToStart,
    CutToEnd,
    /// Inserts the text that was cut last.
    Yank,
    Older,
    Newer,
}

/// The visible part of the line, split at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VisibleText {
    pub(super) before: String,
    pub(super) after: String,
}

impl LineEditor {
    pub(super) fn apply(&mut self, edit: &EditCommand) {
        match edit {
            EditCommand::Insert(text) => self.insert(text),
            EditCommand::Backspace => self.remove(self.left_of(self.cursor), self.cursor),
            EditCommand::Delete => self.remove(self.cursor, self.right_of(self.cursor)),
            EditCommand::Left => self.cursor = self.left_of(self.cursor),
            EditCommand::Right => self.cursor = self.right_of(self.cursor),
            EditCommand::WordLeft => self.cursor = self.word_left(is_word),
            EditCommand::WordRight => self.cursor = self.word_right(),
            EditCommand::Home => self.cursor = 0,
            EditCommand::End => self.cursor = self.text.len(),
            EditCommand::CutBlankWord => self.cut(self.word_left(is_no_blank), self.cursor),
            EditCommand::CutWordLeft => self.cut(self.word_left(is_word), self.cursor),
            EditCommand::CutWordRight => self.cut(self.cursor, self.word_right()),
            EditCommand::CutToStart => self.cut(0, self.cursor),
            EditCommand::CutToEnd => self.cut(self.cursor, self.text.len()),
            EditCommand::Yank => self.insert(&self.cut.clone()),
            EditCommand::Older => self.recall(1),
            EditCommand::Newer => self.recall(-1),
        }
    }

    /// Returns the line, adds it to the history and clears it.
    pub(super) fn take_line(&mut self) -> String {
        let line = std::mem::take(&mut self.text);
        self.cursor = 0;
        self.recalled = None;
        // A line that was sent twice in a row would take two steps to pass.
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
            if self.history.len() > MAX_HISTORY {
                self.history.remove(0);
            }
        }
        line
    }

    /// Cuts the whole line, so that Yank can restore it.
    pub(super) fn clear(&mut self) {
        self.cut(0, self.text.len());
        self.recalled = None;
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns the text before the cursor.
    pub(super) fn before_cursor(&self) -> &str {
        &self.text[..self.cursor]
    }

    /// Replaces the text between the byte `from` and the cursor.
    pub(super) fn replace_before_cursor(&mut self, from: usize, text: &str) {
        if self.text.is_char_boundary(from) && from <= self.cursor {
            self.remove(from, self.cursor);
            self.insert(text);
        }
    }

    /// Returns the part around the cursor that fits in `columns` cells.
    pub(super) fn visible_text(&self, columns: usize) -> VisibleText {
        // A wide character needs two cells.
        let columns = columns.max(2);
        let (mut before, mut after) = (Vec::new(), String::new());
        let mut used = 0;
        // One cell is reserved for the cursor.
        for cluster in self.text[..self.cursor].graphemes(true).rev() {
            let drawn = render_cluster(cluster);
            if used + drawn.width() >= columns {
                break;
            }
            used += drawn.width();
            before.push(drawn);
        }
        for cluster in self.text[self.cursor..].graphemes(true) {
            let drawn = render_cluster(cluster);
            if used + drawn.width() >= columns {
                break;
            }
            used += drawn.width();
            after.push_str(&drawn);
        }
        VisibleText { before: before.into_iter().rev().collect(), after }
    }

    fn insert(&mut self, text: &str) {
        // A paste keeps its line ends and tabs; other control characters mean nothing in a message.
        let mut new: String = text.chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control()).collect();
        new.truncate(new.floor_char_boundary(MAX_LINE_BYTES.saturating_sub(self.text.len())));
        self.text.insert_str(self.cursor, &new);
        self.cursor += new.len();
        // A combining mark joins the letter before it, and may be joined by what follows: the cursor moves to
        // the next boundary.
        self.cursor = self.boundary_from(self.cursor);
    }

    fn cut(&mut self, from: usize, to: usize) {
        // An empty cut keeps the previous text for Yank.
        if from < to {
            self.text[from..to].clone_into(&mut self.cut);
        }
        self.remove(from, to);
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.text.replace_range(from..to, "");
        // Letters that met may be one cluster now, inside of which the cursor can't stand.
        self.cursor = self.boundary_from(from);
    }

    fn boundary_from(&self, at: usize) -> usize {
        let is_boundary = GraphemeCursor::new(at, self.text.len(), true).is_boundary(&self.text, 0).unwrap_or(true);
        if is_boundary { at } else { self.right_of(at) }
    }

    fn left_of(&self, at: usize) -> usize {
        self.text[..at].graphemes(true).next_back().map_or(0, |cluster| at - cluster.len())
    }

    fn right_of(&self, at: usize) -> usize {
        let next = GraphemeCursor::new(at, self.text.len(), true).next_boundary(&self.text, 0);
        next.ok().flatten().unwrap_or(self.text.len())
    }

    fn word_left(&self, belongs: impl Fn(&str) -> bool) -> usize {
        let mut at = self.cursor;
        let mut inside = false;
        for cluster in self.text[..self.cursor].graphemes(true).rev() {
            let here = belongs(cluster);
            if inside && !here {
                break;
            }
            inside |= here;
            at -= cluster.len();
        }
        at
    }

    fn word_right(&self) -> usize {
        let mut at = self.cursor;
        let mut inside = false;
        for cluster in self.text[self.cursor..].graphemes(true) {
            let here = is_word(cluster);
            if inside && !here {
                break;
            }
            inside |= here;
            at += cluster.len();
        }
        at
    }

    fn recall(&mut self, step: isize) {
        let (now, draft) = match self.recalled.take() {
            Some((now, draft)) => (Some(now), draft),
            None => (None, self.text.clone()),
        };
        // Index -1 stands for the draft.
        let next = now.map_or(-1, usize::cast_signed) + step;
        if next < 0 {
            self.text = draft;
        } else {
            let next = next.cast_unsigned().min(self.history.len().saturating_sub(1));
            match self.history.iter().rev().nth(next) {
                Some(line) => {
                    self.text.clone_from(line);
                    self.recalled = Some((next, draft));
                }
                None => self.text = draft,
            }
        }
        self.cursor = self.text.len();
    }
}

fn is_word(cluster: &str) -> bool {
    cluster.starts_with(char::is_alphanumeric)
}

fn is_no_blank(cluster: &str) -> bool {
    !cluster.starts_with(char::is_whitespace)
}

/// Returns a cluster as it is drawn; invisible characters become visible.
fn render_cluster(cluster: &str) -> String {
    if cluster == "\t" {
        return "    ".to_owned();
    }
    let safe = safe_line(cluster);
    // A cluster without width would be invisible, and the cursor would not seem to move over it.
    if safe.width() == 0 {
        format!("<U+{:04X}>", cluster.chars().next().map_or(0, u32::from))
    } else {
        safe.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn editor(text: &str) -> LineEditor {
        let mut editor = LineEditor::default();
        editor.apply(&EditCommand::Insert(text.into()));
        editor
    }

    fn shown(line: &LineEditor, columns: usize) -> (String, usize) {
        let VisibleText { before, after } = line.visible_text(columns);
        let cursor = before.width();
        (before + &after, cursor)
    }

    #[test]
    fn words_and_cuts() {
        let mut line = editor("one two  three");
        line.apply(&EditCommand::WordLeft);
        line.apply(&EditCommand::CutWordLeft);
        assert_eq!(line.text(), "one three");
        line.apply(&EditCommand::CutToEnd);
        assert_eq!(line.text(), "one ");
        line.apply(&EditCommand::Yank);
        assert_eq!(line.text(), "one three");
        line.apply(&EditCommand::Home);
        line.apply(&EditCommand::WordRight);
        line.apply(&EditCommand::CutToStart);
        assert_eq!(line.text(), " three");
        line.apply(&EditCommand::CutWordRight);
        assert_eq!(line.text(), "");
    }

    #[test]
    fn a_blank_word_is_a_whole_path() {
        let mut line = editor("/offer docs/a-b.pdf");
        line.apply(&EditCommand::CutBlankWord);
        assert_eq!(line.text(), "/offer ");
        let mut line = editor("/offer docs/a-b.pdf");
        line.apply(&EditCommand::CutWordLeft);
        assert_eq!(line.text(), "/offer docs/a-b.");
    }

    #[test]
    fn what_people_see_as_one_character_is_one() {
        for one in ["e\u{301}", "👩\u{200d}👩\u{200d}👧", "🇧🇷", "👋🏽", "が"] {
            let mut line = editor(&format!("a{one}b"));
            line.apply(&EditCommand::Left);
            line.apply(&EditCommand::Backspace);
            assert_eq!(line.text(), "ab", "{one}");
        }
        let mut accent = editor("e");
        accent.apply(&EditCommand::Insert("\u{301}".into()));
        assert_eq!(accent.text(), "e\u{301}");
        accent.apply(&EditCommand::Home);
        accent.apply(&EditCommand::Delete);
        assert_eq!(accent.text(), "");
    }

    #[test]
    fn wide_characters_are_two_cells() {
        let line = editor("日本語");
        assert_eq!(shown(&line, 20), ("日本語".to_owned(), 6));
        assert_eq!(shown(&line, 6), ("本語".to_owned(), 4));
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let line = editor("a\u{202e}b\nc\u{200b}");
        assert_eq!(line.visible_text(80).before, "a<U+202E>b␊c<U+200B>");
    }

    #[test]
    fn history_keeps_the_draft() {
        let mut line = editor("first");
        line.take_line();
        line.apply(&EditCommand::Insert("draft".into()));
        line.apply(&EditCommand::Older);
        assert_eq!(line.text(), "first");
        line.apply(&EditCommand::Older);
        assert_eq!(line.text(), "first");
        line.apply(&EditCommand::Newer);
        assert_eq!(line.text(), "draft");
    }

    #[test]
    fn completion_takes_the_place_of_a_word() {
        let mut line = editor("/offer re now");
        for _ in 0..4 {
            line.apply(&EditCommand::Left);
        }
        assert_eq!(line.before_cursor(), "/offer re");
        line.replace_before_cursor("/offer ".len(), "report.pdf");
        assert_eq!((line.text(), line.before_cursor()), ("/offer report.pdf now", "/offer report.pdf"));
    }

    fn edits() -> impl Strategy<Value = EditCommand> {
        let some = ["e", "\u{301}", "日", "👩", "\u{200d}", "👧", "🇧", "🇷", " ", "\n", "\u{202e}", "\r", "x y"];
        prop_oneof![
            "\\PC{0,6}".prop_map(EditCommand::Insert),
            proptest::sample::select(some.to_vec()).prop_map(|text| EditCommand::Insert(text.to_owned())),
            proptest::sample::select(vec![
                EditCommand::Backspace,
                EditCommand::Delete,
                EditCommand::Left,
                EditCommand::Right,
                EditCommand::WordLeft,
                EditCommand::WordRight,
                EditCommand::Home,
                EditCommand::CutBlankWord,
                EditCommand::CutWordLeft,
                EditCommand::CutWordRight,
                EditCommand::CutToEnd,
                EditCommand::Yank,
                EditCommand::Older,
                EditCommand::Newer,
            ]),
        ]
    }

    proptest! {
        #[test]
        fn the_view_always_fits(edits in proptest::collection::vec(edits(), 0..40), columns in 2_usize..40) {
            let mut line = LineEditor::default();
            for edit in &edits {
                line.apply(edit);
                let at_boundary = line.cursor == line.text.len()
                    || line.text.grapheme_indices(true).any(|(at, _)| at == line.cursor);
                prop_assert!(at_boundary, "{line:?}");
                let (text, cursor) = shown(&line, columns);
                prop_assert!(text.width() <= columns && cursor < columns, "{text:?} {cursor} in {columns}");
                prop_assert!(!text.chars().any(char::is_control));
            }
        }
    }
}
