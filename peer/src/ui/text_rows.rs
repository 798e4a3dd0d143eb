//! Text laid out in rows, with long words that the terminal joins again when they are copied, and with hyperlinks.
//! Pure.

use std::sync::Arc;

use ratatui_core::style::Style;
use ratatui_core::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::hyperlinks::{HyperlinkMatch, find_hyperlinks};
use super::text_wrap::split_pieces;

/// With fewer columns, words are not joined across rows.
const MIN_JOIN_COLUMNS: usize = 8;
/// The room that text needs behind its head; with less, it begins in the next row.
const MIN_TEXT_COLUMNS: usize = 4;

/// A row of a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TextRow {
    pub(super) line: Line<'static>,
    /// True if the row is full and its last word continues at the beginning of the next row. The terminal has to break
    /// it itself (no line end is written), so that it knows both rows as one word.
    pub(super) continues: bool,
    pub(super) links: Vec<RowHyperlink>,
}

/// A hyperlink's part in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowHyperlink {
    /// The first cell and the one after the last.
    pub(super) cells: (usize, usize),
    /// Printable ASCII.
    pub(super) target: Arc<str>,
}

/// The rules for breaking text into rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrapOptions {
    pub(super) columns: usize,
    /// The column at which rows after the first begin.
    pub(super) indent: usize,
    /// True if the rows go to the scrollback, where the terminal itself may break a word longer than a row.
    pub(super) joins_words: bool,
}

impl From<Line<'static>> for TextRow {
    fn from(line: Line<'static>) -> Self {
        Self { line, continues: false, links: Vec::new() }
    }
}

/// Lays out `text`, whose line breaks are kept. The first row begins behind `head`. Further rows are indented, except
/// those that only contain the rest of a word.
pub(super) fn layout_rows(head: Vec<Span<'static>>, text: &str, style: Style, wrapping: WrapOptions) -> Vec<TextRow> {
    let columns = wrapping.columns.max(2);
    // Two cells are left for a wide character.
    let indent = wrapping.indent.min(columns - 2);
    let mut rows = RowLayout {
        columns,
        indent,
        joins_words: wrapping.joins_words,
        style,
        done: Vec::new(),
        row: OpenRow::after_head(head),
    };
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 || (rows.row.used + MIN_TEXT_COLUMNS > columns && rows.row.used > indent && !line.is_empty()) {
            rows.end_row(false);
        }
        // Links are detected before the text is broken: a row may end inside a link.
        let links = find_hyperlinks(line);
        let mut at = 0;
        for piece in split_pieces(line) {
            rows.push_piece(piece, &links_within(piece, at, &links));
            at += piece.len();
        }
    }
    rows.end_row(false);
    rows.done
}

struct RowLayout {
    columns: usize,
    indent: usize,
    joins_words: bool,
    style: Style,
    done: Vec<TextRow>,
    row: OpenRow,
}

/// The row being filled.
#[derive(Default)]
struct OpenRow {
    head: Vec<Span<'static>>,
    text: String,
    links: Vec<RowHyperlink>,
    used: usize,
    /// True behind the end of a joined word: nothing more goes into this row. A row without indentation then has no
    /// blanks, so that it can't pass for a message.
    is_closed: bool,
}

impl OpenRow {
    fn after_head(head: Vec<Span<'static>>) -> Self {
        let used = head.iter().map(Span::width).sum();
        Self { head, used, ..Self::default() }
    }

    fn push(&mut self, text: &str, link: Option<&Arc<str>>) {
        let end = self.used + text.width();
        if let Some(target) = link {
            // The pieces of a link are joined, so that the terminal treats them as one.
            match self.links.last_mut().filter(|last| last.cells.1 == self.used && last.target == *target) {
                Some(last) => last.cells.1 = end,
                None => self.links.push(RowHyperlink { cells: (self.used, end), target: target.clone() }),
            }
        }
        self.text.push_str(text);
        self.used = end;
    }
}

impl RowLayout {
    fn end_row(&mut self, goes_on: bool) {
        let begin = if goes_on || self.indent == 0 { Vec::new() } else { vec![Span::raw(" ".repeat(self.indent))] };
        let OpenRow { mut head, text, links, .. } = std::mem::replace(&mut self.row, OpenRow::after_head(begin));
        head.push(Span::styled(text, self.style));
        self.done.push(TextRow { line: Line::from(head), continues: goes_on, links });
    }

    fn push_piece(&mut self, piece: &str, links: &[HyperlinkMatch]) {
        let width = piece.width();
        let is_blank = piece.trim().is_empty();
        if self.row.is_closed || self.row.used + width > self.columns {
            if is_blank {
                // The blank at which a line is broken is dropped.
                return self.end_row(false);
            }
            if self.row.is_closed {
                self.end_row(false);
            }
        }
        if self.row.used + width > self.columns && width > self.columns - self.indent {
            return self.push_long_word(piece, links);
        }
        if self.row.used + width > self.columns {
            self.end_row(false);
        }
        let mut done = 0;
        for HyperlinkMatch { range, target } in links {
            self.row.push(&piece[done..range.start], None);
            self.row.push(&piece[range.clone()], Some(target));
            done = range.end;
        }
        self.row.push(&piece[done..], None);
    }

    /// Lays out a word that is longer than a row.
    fn push_long_word(&mut self, piece: &str, links: &[HyperlinkMatch]) {
        let joins = self.joins_words && self.columns >= MIN_JOIN_COLUMNS && piece.graphemes(true).all(is_joinable);
        // Begun on a full row, the word would be joined to the text before it.
        if joins && self.row.used >= self.columns {
            self.end_row(false);
        }
        for (at, cluster) in piece.grapheme_indices(true) {
            // A row that continues a word begins at column 0, any other one behind the indentation.
            let is_begun =
                self.row.used > if self.done.last().is_some_and(|row| row.continues) { 0 } else { self.indent };
            if self.row.used + cluster.width() > self.columns && (is_begun || self.row.used > 0 && joins) {
                self.end_row(joins);
            }
            let target = links.iter().find(|link| link.range.contains(&at)).map(|link| &link.target);
            self.row.push(cluster, target);
        }
        self.row.is_closed = joins;
    }
}

/// Returns the parts of links inside a piece of text that begins at the byte `at`.
fn links_within(piece: &str, at: usize, links: &[HyperlinkMatch]) -> Vec<HyperlinkMatch> {
    let end = at + piece.len();
    let part = |link: &HyperlinkMatch| {
        let range = link.range.start.max(at) - at..link.range.end.min(end).max(at) - at;
        HyperlinkMatch { range, target: link.target.clone() }
    };
    links.iter().filter(|link| link.range.start < end && link.range.end > at).map(part).collect()
}

/// True for clusters of width 1 without combining marks: every terminal wraps them at the same column. Blanks and
/// lookalikes don't count, so that a joined row can't pass for several words.
fn is_joinable(cluster: &str) -> bool {
    cluster.width() == 1 && cluster.chars().all(|c| c.is_ascii_graphic() || c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrapped(head: &str, text: &str, columns: usize, indent: usize, joins: bool) -> Vec<TextRow> {
        layout_rows(
            vec![Span::raw(head.to_owned())],
            text,
            Style::new(),
            WrapOptions { columns, indent, joins_words: joins },
        )
    }

    fn texts(rows: &[TextRow]) -> Vec<String> {
        rows.iter().map(|row| format!("{}{}", row.line, if row.continues { "\\" } else { "" })).collect()
    }

    #[test]
    fn further_rows_are_set_in() {
        let rows = wrapped("bob: ", "one two three four\nfive", 12, 2, true);
        assert_eq!(texts(&rows), ["bob: one two", "  three four", "  five"]);
        let rows = wrapped("a very long name: ", "hi there", 20, 4, true);
        assert_eq!(texts(&rows), ["a very long name: ", "    hi there"]);
    }

    #[test]
    fn a_long_word_goes_from_edge_to_edge_and_stands_alone_at_its_end() {
        let rows = wrapped("bob: ", "see http://example.org/abcdefgh now", 16, 4, true);
        assert_eq!(texts(&rows), ["bob: see http://\\", "example.org/abcd\\", "efgh", "    now"]);
        let rows = wrapped("bob: ", "see http://example.org/abcdefgh now", 16, 4, false);
        assert_eq!(texts(&rows), ["bob: see http://", "    example.org/", "    abcdefgh now"]);
        // Characters that look like blanks, or whose width differs between terminals, are not joined.
        let rows = wrapped("bob: ", &"⠀".repeat(20), 16, 4, true);
        assert!(rows.iter().all(|row| !row.continues), "{:?}", texts(&rows));
    }

    #[test]
    fn links_are_known_in_every_row() {
        let rows = wrapped("", "(http://ex.org/é;x).", 10, 0, false);
        assert_eq!(texts(&rows), ["(http://ex", ".org/é;x)."]);
        let target: Arc<str> = "http://ex.org/%C3%A9;x".into();
        assert_eq!(rows[0].links, [RowHyperlink { cells: (1, 10), target: target.clone() }]);
        assert_eq!(rows[1].links, [RowHyperlink { cells: (0, 8), target }]);
        assert!(wrapped("", "no link: example.org", 40, 0, false)[0].links.is_empty());
        // The text may be broken between any two of these letters.
        for joins in [false, true] {
            let rows = wrapped("", "見て https://a.example/日本語/kkk です", 10, 0, joins);
            let target = "https://a.example/%E6%97%A5%E6%9C%AC%E8%AA%9E/kkk";
            let links: Vec<&RowHyperlink> = rows.iter().flat_map(|row| &row.links).collect();
            assert!(links.len() > 2 && links.iter().all(|link| *link.target == *target), "{links:?}");
        }
    }

    proptest! {
        #[test]
        fn every_row_fits_and_nothing_but_blanks_is_lost(
            text in "([a-z/:.]{0,30}|\\PC| |\n){0,12}", columns in 2_usize..40, indent in 0_usize..12, joins: bool,
        ) {
            let rows = wrapped("x: ", &text, columns, indent, joins);
            let mut before = false;
            for row in &rows {
                let width = row.line.width();
                let shown = row.line.to_string();
                prop_assert!(width <= columns.max(3) || shown.trim_start().graphemes(true).count() == 1, "{shown:?} in {columns}");
                prop_assert!(!row.continues || width == columns, "{shown:?} in {columns}");
                prop_assert!(!before || !shown.contains(' '), "nothing stands behind the end of a word: {shown:?}");
                before = row.continues;
            }
            let seen = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            let all: String = rows.iter().map(|row| row.line.to_string()).collect();
            prop_assert_eq!(seen(&all), seen(&format!("x: {text}")));
        }
    }
}
