//! The live rows at the bottom of the terminal, redrawn in place. Everything above them belongs to the terminal:
//! scrollback, selection, wrapping of long words.
//!
//! Nothing here queries the terminal, since only the key reader may read from it: the key reader reports the cursor's
//! position, and the caller passes it on. Rows are always written from their first column. The cursor behind the
//! written text is placed by the terminal (save, restore), because terminals differ in the width of flags and of
//! Devanagari syllables.

use std::io::{self, Write};

use ratatui_core::layout::{Position, Size};
use ratatui_core::style::Style;
use ratatui_core::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::ansi_writer;
use super::composer::{DraftLine, PROMPT};
use super::text_rows::TextRow;

/// DECSC and DECRC: save and restore the cursor.
const SAVE: &str = "\u{1b}7";
const RESTORE: &str = "\u{1b}8";
/// DECAWM off and on. A row that is wider than computed here must not run into the next one.
const NO_WRAP: &str = "\u{1b}[?7l";
const WRAP: &str = "\u{1b}[?7h";
const TO_END_OF_ROW: &str = "\u{1b}[K";
const TO_END_OF_SCREEN: &str = "\u{1b}[J";
const SHOW_CURSOR: &str = "\u{1b}[?25h";

/// The live rows, and the bookkeeping of the scrollback above them.
#[derive(Debug)]
pub(super) struct InlineScreen<W> {
    out: W,
    size: Size,
    /// The screen row of the line being written, which is the first live row.
    draft_row: u16,
    /// The live rows on the screen; `None` if they have to be drawn again.
    drawn: Option<DrawnRows>,
    /// Rows written to the scrollback so far.
    inserted_rows: u64,
    /// Scrollback rows before this number may have moved, so they can't be patched.
    first_known_row: u64,
}

#[derive(Debug)]
struct DrawnRows {
    draft: DraftLine,
    below: Vec<Line<'static>>,
}

/// The number of a scrollback row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScrollbackRowId(u64);

impl<W: Write> InlineScreen<W> {
    /// Creates a screen of unknown position: call [`InlineScreen::restart`] before the first drawing.
    pub(super) const fn new(out: W, size: Size) -> Self {
        Self { out, size, draft_row: 0, drawn: None, inserted_rows: 0, first_known_row: 0 }
    }

    pub(super) const fn size(&self) -> Size {
        self.size
    }

    /// Writes rows to the scrollback. The live rows are erased and have to be drawn again.
    pub(super) fn insert(&mut self, rows: &[TextRow]) -> io::Result<ScrollbackRowId> {
        let first = ScrollbackRowId(self.inserted_rows);
        if rows.is_empty() {
            return Ok(first);
        }
        self.clear()?;
        for row in rows {
            ansi_writer::write_line(&mut self.out, &row.line, self.size.width.into())?;
            // A continued row is wrapped by the terminal, which then treats both rows as one line when it is copied.
            if !row.continues {
                self.out.write_all(b"\r\n")?;
            }
        }
        let count = u16::try_from(rows.len()).unwrap_or(u16::MAX);
        // At the bottom the terminal scrolls and the row stays the same.
        self.draft_row = self.draft_row.saturating_add(count).min(self.last_row());
        self.inserted_rows += u64::try_from(rows.len()).unwrap_or(0);
        Ok(first)
    }

    /// Overwrites the beginning of a scrollback row; returns false if it has left the screen.
    pub(super) fn patch(&mut self, row: ScrollbackRowId, span: &Span<'_>) -> io::Result<bool> {
        let back = self.inserted_rows.saturating_sub(row.0);
        if row.0 < self.first_known_row || back > u64::from(self.draft_row) {
            return Ok(false);
        }
        let y = self.draft_row - u16::try_from(back).unwrap_or(self.draft_row);
        self.out.write_all(SAVE.as_bytes())?;
        self.move_to_row(y)?;
        ansi_writer::write_styled(&mut self.out, &span.content, span.style)?;
        self.out.write_all(RESTORE.as_bytes())?;
        Ok(true)
    }

    /// Draws the line being written and as many rows below it as fit.
    pub(super) fn draw(&mut self, prompt: Style, written: DraftLine, below: Vec<Line<'static>>) -> io::Result<()> {
        let mut below = below;
        below.truncate(self.last_row().into());
        let height = u16::try_from(below.len()).unwrap_or(0) + 1;
        let had = self.drawn.as_ref().map_or(0, |drawn| u16::try_from(drawn.below.len()).unwrap_or(0) + 1);
        self.make_room(height)?;
        let before = self.drawn.take();
        let is_same_line = before.as_ref().is_some_and(|before| before.draft == written);
        let is_same = |number: usize, row: &Line<'_>| {
            before.as_ref().and_then(|before| before.below.get(number)).is_some_and(|before| before == row)
        };
        // Without a change nothing is written, so a frame costs nothing while the view is idle.
        if is_same_line && had == height && below.iter().enumerate().all(|(number, row)| is_same(number, row)) {
            self.drawn = before;
            return Ok(());
        }
        self.out.write_all(NO_WRAP.as_bytes())?;
        // An unchanged line isn't rewritten, so the cursor only has to return to it.
        if is_same_line {
            self.out.write_all(SAVE.as_bytes())?;
        } else {
            self.move_to_row(self.draft_row)?;
            self.out.write_all(TO_END_OF_ROW.as_bytes())?;
            // A terminal with two columns or less has no room for the prompt.
            if self.size.width > 2 {
                ansi_writer::write_styled(&mut self.out, PROMPT, prompt)?;
            }
            write!(self.out, "{}{SAVE}{}", written.before, written.after)?;
        }
        for (y, (number, row)) in (self.draft_row + 1..).zip(below.iter().enumerate()) {
            if !is_same(number, row) {
                self.move_to_row(y)?;
                self.out.write_all(TO_END_OF_ROW.as_bytes())?;
                ansi_writer::write_line(&mut self.out, row, self.size.width.into())?;
            }
        }
        if had > height {
            self.move_to_row(self.draft_row + height)?;
            self.out.write_all(TO_END_OF_SCREEN.as_bytes())?;
        }
        write!(self.out, "{WRAP}{RESTORE}")?;
        self.drawn = Some(DrawnRows { draft: written, below });
        Ok(())
    }

    /// Adapts to a new terminal size. `cursor` is `None` if the terminal doesn't report it.
    pub(super) fn resized(&mut self, size: Size, cursor: Option<Position>) -> io::Result<()> {
        let old = std::mem::replace(&mut self.size, size);
        let written = self.drawn.as_ref().map_or(0, |drawn| PROMPT.width() + drawn.draft.before.width());
        let written = u16::try_from(written).unwrap_or(u16::MAX);
        let at = cursor.unwrap_or_else(|| Position::new(written, self.draft_row.min(self.last_row())));
        // A terminal that rewraps the line being written has moved the cursor down by the rows it added.
        let columns = size.width.max(1);
        let wrapped = if written >= columns && at.x == written % columns { written / columns } else { 0 };
        self.draft_row = at.y.saturating_sub(wrapped).min(self.last_row());
        // With another width, everything above may have been rewrapped.
        if old.width != size.width {
            self.first_known_row = self.inserted_rows;
        }
        self.clear()
    }

    /// Begins anew below the cursor, after other output or on an unknown screen.
    pub(super) fn restart(&mut self, size: Size, cursor: Option<Position>) -> io::Result<()> {
        self.size = size;
        self.first_known_row = self.inserted_rows;
        self.drawn = None;
        // Without a report, only below the last row there is certainly nothing.
        let at = cursor.unwrap_or_else(|| Position::new(1, self.last_row()));
        self.draft_row = at.y.min(self.last_row());
        if at.x > 0 {
            self.move_to_row(self.draft_row)?;
            self.out.write_all(b"\r\n")?;
            self.draft_row = (self.draft_row + 1).min(self.last_row());
        }
        Ok(())
    }

    /// Erases the live rows and leaves the cursor where they began.
    pub(super) fn close(&mut self) -> io::Result<()> {
        self.clear()?;
        self.out.write_all(SHOW_CURSOR.as_bytes())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.drawn = None;
        self.move_to_row(self.draft_row)?;
        self.out.write_all(TO_END_OF_SCREEN.as_bytes())
    }

    /// Scrolls up until `height` rows fit from the line being written on.
    fn make_room(&mut self, height: u16) -> io::Result<()> {
        let missing = (self.draft_row + height).saturating_sub(self.size.height.max(1));
        if missing > 0 {
            self.move_to_row(self.last_row())?;
            // A line feed in the last row scrolls; the rows at the top enter the scrollback.
            self.out.write_all("\n".repeat(missing.into()).as_bytes())?;
            // The live rows moved up with the rest.
            self.draft_row = self.draft_row.saturating_sub(missing);
        }
        Ok(())
    }

    fn move_to_row(&mut self, row: u16) -> io::Result<()> {
        write!(self.out, "\u{1b}[{};1H", u32::from(row) + 1)
    }

    fn last_row(&self) -> u16 {
        self.size.height.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that wraps, joins and scrolls.
    struct World {
        screen: InlineScreen<Vec<u8>>,
        terminal: vt100::Parser,
    }

    impl World {
        fn open(columns: u16, rows: u16, at: u16) -> Self {
            let mut terminal = vt100::Parser::new(rows, columns, 100);
            terminal.process("\r\n".repeat(at.into()).as_bytes());
            let mut screen = InlineScreen::new(Vec::new(), Size::new(columns, rows));
            screen.restart(Size::new(columns, rows), Some(Position::new(0, at))).unwrap();
            Self { screen, terminal }
        }

        fn show(&mut self) {
            self.terminal.process(&std::mem::take(&mut self.screen.out));
        }

        fn draw(&mut self, written: &str, below: &[&str]) {
            let written = DraftLine { before: written.to_owned(), after: String::new() };
            let below = below.iter().map(|text| Line::raw((*text).to_owned())).collect();
            self.screen.draw(Style::new(), written, below).unwrap();
            self.show();
        }

        fn insert(&mut self, texts: &[&str]) -> ScrollbackRowId {
            let rows: Vec<TextRow> = texts.iter().map(|text| Line::raw((*text).to_owned()).into()).collect();
            let row = self.screen.insert(&rows).unwrap();
            self.show();
            row
        }

        fn patch(&mut self, row: ScrollbackRowId, text: &str) -> bool {
            let is_there = self.screen.patch(row, &Span::raw(text.to_owned())).unwrap();
            self.show();
            is_there
        }

        fn resize(&mut self, columns: u16, rows: u16) {
            self.terminal.screen_mut().set_size(rows, columns);
            let (y, x) = self.terminal.screen().cursor_position();
            self.screen.resized(Size::new(columns, rows), Some(Position::new(x, y))).unwrap();
            self.show();
        }

        fn rows(&self) -> Vec<String> {
            let columns = self.terminal.screen().size().1;
            self.terminal.screen().rows(0, columns).map(|row| row.trim_end().to_owned()).collect()
        }

        fn all(&mut self) -> Vec<String> {
            let height = self.terminal.screen().size().0;
            let mut above = Vec::new();
            for back in (1..=100).rev() {
                self.terminal.screen_mut().set_scrollback(back);
                if self.terminal.screen().scrollback() == back {
                    above.push(self.rows()[0].clone());
                }
            }
            self.terminal.screen_mut().set_scrollback(0);
            let rows = self.rows();
            assert_eq!(rows.len(), usize::from(height));
            above.into_iter().chain(rows).collect()
        }
    }

    #[test]
    fn what_is_said_goes_into_the_scrollback() {
        let mut world = World::open(8, 4, 0);
        world.draw("", &["bob"]);
        assert_eq!(world.rows(), [">", "bob", "", ""]);
        world.insert(&["one"]);
        world.draw("", &["bob"]);
        assert_eq!(world.rows(), ["one", ">", "bob", ""]);
        world.insert(&["two", "three", "four", "five", "six", "seven"]);
        world.draw("hi", &["bob"]);
        assert_eq!(world.all(), ["one", "two", "three", "four", "five", "six", "seven", "> hi", "bob"]);
        assert_eq!(world.terminal.screen().cursor_position(), (2, 4));
    }

    #[test]
    fn rows_come_and_go() {
        let mut world = World::open(8, 5, 0);
        world.draw("", &["bob"]);
        world.insert(&["1", "2", "3", "4"]);
        world.draw("", &["a.bin", "b.bin", "bob"]);
        assert_eq!(world.all(), ["1", "2", "3", "4", ">", "a.bin", "b.bin", "bob"]);
        world.draw("", &["bob"]);
        world.insert(&["5"]);
        world.draw("", &["bob"]);
        assert_eq!(world.rows(), ["4", "5", ">", "bob", ""]);
    }

    #[test]
    fn a_row_above_is_drawn_over_while_it_can_be_seen() {
        let mut world = World::open(8, 4, 2);
        world.draw("x", &["bob"]);
        let row = world.insert(&["… hi"]);
        world.insert(&["more"]);
        world.draw("x", &["bob"]);
        assert!(world.patch(row, "✓"));
        assert_eq!(world.rows(), ["✓ hi", "more", "> x", "bob"]);
        assert_eq!(world.terminal.screen().cursor_position(), (2, 3));
        world.insert(&["again"]);
        world.draw("x", &["bob"]);
        assert!(!world.patch(row, "!"));
        assert_eq!(world.rows(), ["more", "again", "> x", "bob"]);
    }

    #[test]
    fn a_long_word_is_one_to_the_terminal() {
        let mut world = World::open(10, 6, 0);
        let wrapping = super::super::text_rows::WrapOptions { columns: 10, indent: 2, joins_words: true };
        let link = "see http://example.org/x now";
        let rows = super::super::text_rows::layout_rows(vec![Span::raw("b: ")], link, Style::new(), wrapping);
        world.screen.insert(&rows).unwrap();
        world.draw("", &["bob"]);
        assert_eq!(world.rows(), ["b: see htt", "p://exampl", "e.org/x", "  now", ">", "bob"]);
        assert!(world.terminal.screen().contents().starts_with("b: see http://example.org/x\n  now\n"));
    }

    #[test]
    fn what_is_wider_than_thought_leaves_nothing() {
        let mut world = World::open(12, 3, 0);
        world.draw("नमस्तेनमस्ते", &["bob"]);
        world.draw("न", &["bob"]);
        world.draw("ny", &["bob"]);
        assert_eq!(world.rows(), ["> ny", "bob", ""]);
        assert_eq!(world.terminal.screen().cursor_position(), (0, 4));
    }

    #[test]
    fn another_size_leaves_what_is_above_alone() {
        let mut world = World::open(8, 4, 2);
        world.draw("", &["bob"]);
        let row = world.insert(&["… hi"]);
        world.draw("", &["bob"]);
        world.resize(8, 6);
        world.draw("", &["bob"]);
        assert!(world.rows().contains(&"… hi".to_owned()) && world.rows().contains(&"bob".to_owned()));
        assert!(world.patch(row, "✓"));
        world.resize(4, 6);
        world.draw("", &["bob"]);
        assert!(!world.patch(row, "!"), "after a reflow nobody knows where it is");
        assert_eq!(world.rows().iter().filter(|row| *row == "bob").count(), 1);
    }

    #[test]
    fn the_smallest_terminals_are_survived() {
        for (columns, rows) in [(4, 1), (1, 1), (1, 3), (2, 2), (20, 2)] {
            let mut world = World::open(columns, rows, 0);
            world.draw("", &["a", "b"]);
            world.insert(&["one", "two"]);
            world.draw("x", &["a", "b"]);
            assert!(world.terminal.screen().cursor_position().0 < rows);
        }
    }
}
