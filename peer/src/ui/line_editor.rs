//! One line of input: text, a cursor, and what of it fits the screen. Pure.

use unicode_width::UnicodeWidthChar;

/// Lines that Up and Down go through.
const HISTORY: usize = 100;

/// The line being written.
#[derive(Debug, Default, Clone)]
pub(super) struct LineEditor {
    text: Vec<char>,
    /// Between characters; never before one that is drawn on the one before it.
    cursor: usize,
    history: Vec<String>,
    /// Which line of the history is shown, counted from the newest, and the line that was being written before.
    recalled: Option<(usize, Vec<char>)>,
}

/// A change to the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    Insert(String),
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    KillWord,
    KillToStart,
    KillToEnd,
    Older,
    Newer,
}

impl LineEditor {
    pub(super) fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Insert(text) => {
                let new: Vec<char> = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
                let len = new.len();
                self.text.splice(self.cursor..self.cursor, new);
                self.cursor += len;
            }
            Edit::Backspace => self.remove(self.left_of(self.cursor), self.cursor),
            Edit::Delete => self.remove(self.cursor, self.right_of(self.cursor)),
            Edit::Left => self.cursor = self.left_of(self.cursor),
            Edit::Right => self.cursor = self.right_of(self.cursor),
            Edit::WordLeft => self.cursor = self.word_left(),
            Edit::WordRight => self.cursor = self.word_right(),
            Edit::Home => self.cursor = 0,
            Edit::End => self.cursor = self.text.len(),
            Edit::KillWord => self.remove(self.word_left(), self.cursor),
            Edit::KillToStart => self.remove(0, self.cursor),
            Edit::KillToEnd => self.remove(self.cursor, self.text.len()),
            Edit::Older => self.recall(1),
            Edit::Newer => self.recall(-1),
        }
    }

    /// The line, which is then empty; it goes into the history.
    pub(super) fn take(&mut self) -> String {
        let line: String = self.text.drain(..).collect();
        self.cursor = 0;
        self.recalled = None;
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
            if self.history.len() > HISTORY {
                self.history.remove(0);
            }
        }
        line
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// What to draw in `columns` cells, and in which cell the cursor is: the part of the line around the cursor.
    pub(super) fn view(&self, columns: usize) -> (String, usize) {
        let columns = columns.max(2);
        let mut start = self.cursor;
        let mut before = 0;
        // One cell stays free for the cursor itself.
        while start > 0 && before + width(self.text[start - 1]) < columns {
            start -= 1;
            before += width(self.text[start]);
        }
        let mut shown = String::new();
        let mut used = 0;
        for c in &self.text[start..] {
            if used + width(*c) > columns.saturating_sub(1) {
                break;
            }
            used += width(*c);
            shown.push(if *c == '\n' { '␊' } else { *c });
        }
        (shown, before)
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.text.drain(from..to);
        self.cursor = from;
    }

    fn left_of(&self, at: usize) -> usize {
        let mut at = at.saturating_sub(1);
        while at > 0 && width(self.text[at]) == 0 {
            at -= 1;
        }
        at
    }

    fn right_of(&self, at: usize) -> usize {
        let mut at = (at + 1).min(self.text.len());
        while at < self.text.len() && width(self.text[at]) == 0 {
            at += 1;
        }
        at
    }

    fn word_left(&self) -> usize {
        let is_word = |at: usize| self.text[at].is_alphanumeric();
        let mut at = self.cursor;
        while at > 0 && !is_word(at - 1) {
            at -= 1;
        }
        while at > 0 && is_word(at - 1) {
            at -= 1;
        }
        at
    }

    fn word_right(&self) -> usize {
        let is_word = |at: usize| self.text[at].is_alphanumeric();
        let mut at = self.cursor;
        while at < self.text.len() && !is_word(at) {
            at += 1;
        }
        while at < self.text.len() && is_word(at) {
            at += 1;
        }
        at
    }

    fn recall(&mut self, step: isize) {
        let (now, draft) = match self.recalled.take() {
            Some((now, draft)) => (Some(now), draft),
            None => (None, self.text.clone()),
        };
        let next = now.map_or(-1, usize::cast_signed) + step;
        if next < 0 {
            self.text = draft;
        } else {
            let next = next.cast_unsigned().min(self.history.len().saturating_sub(1));
            match self.history.iter().rev().nth(next) {
                Some(line) => {
                    self.text = line.chars().collect();
                    self.recalled = Some((next, draft));
                }
                None => self.text = draft,
            }
        }
        self.cursor = self.text.len();
    }
}

fn width(c: char) -> usize {
    if c == '\n' { 1 } else { c.width().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn editor(text: &str) -> LineEditor {
        let mut editor = LineEditor::default();
        editor.apply(&Edit::Insert(text.into()));
        editor
    }

    fn text(editor: &LineEditor) -> String {
        editor.text.iter().collect()
    }

    #[test]
    fn words_and_kills() {
        let mut line = editor("one two  three");
        line.apply(&Edit::WordLeft);
        line.apply(&Edit::KillWord);
        assert_eq!(text(&line), "one three");
        line.apply(&Edit::KillToEnd);
        assert_eq!(text(&line), "one ");
        line.apply(&Edit::Home);
        line.apply(&Edit::WordRight);
        line.apply(&Edit::KillToStart);
        assert_eq!(text(&line), " ");
    }

    #[test]
    fn combining_characters_go_with_their_base() {
        let mut line = editor("ae\u{301}b");
        line.apply(&Edit::Left);
        line.apply(&Edit::Backspace);
        assert_eq!(text(&line), "ab");
    }

    #[test]
    fn wide_characters_are_two_cells() {
        let line = editor("日本語");
        assert_eq!(line.view(20), ("日本語".to_owned(), 6));
        assert_eq!(line.view(6), ("本語".to_owned(), 4));
    }

    #[test]
    fn history_keeps_the_draft() {
        let mut line = editor("first");
        line.take();
        line.apply(&Edit::Insert("draft".into()));
        line.apply(&Edit::Older);
        assert_eq!(text(&line), "first");
        line.apply(&Edit::Older);
        assert_eq!(text(&line), "first");
        line.apply(&Edit::Newer);
        assert_eq!(text(&line), "draft");
    }

    fn edits() -> impl Strategy<Value = Edit> {
        prop_oneof![
            "\\PC{0,6}".prop_map(Edit::Insert),
            Just(Edit::Backspace),
            Just(Edit::Delete),
            Just(Edit::Left),
            Just(Edit::Right),
            Just(Edit::WordLeft),
            Just(Edit::WordRight),
            Just(Edit::Home),
            Just(Edit::KillWord),
            Just(Edit::KillToStart),
            Just(Edit::KillToEnd),
            Just(Edit::Older),
            Just(Edit::Newer),
        ]
    }

    proptest! {
        #[test]
        fn the_view_always_fits(edits in proptest::collection::vec(edits(), 0..40), columns in 2_usize..40) {
            let mut line = LineEditor::default();
            for edit in &edits {
                line.apply(edit);
                prop_assert!(line.cursor <= line.text.len());
                let (shown, cursor) = line.view(columns);
                let used: usize = shown.chars().map(width).sum();
                prop_assert!(used <= columns && cursor < columns, "{shown:?} {cursor} in {columns}");
            }
        }
    }
}
