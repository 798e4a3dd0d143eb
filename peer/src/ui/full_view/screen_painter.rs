//! Screen frames, written to the terminal as differences.
//!
//! A row that has, or had, a cluster of several code points (a flag, a family, a Devanagari syllable) is rewritten
//! completely: terminals differ in the width of such clusters, and leftovers would stay beside the new text.

use std::io::{self, Write};
use std::sync::Arc;

use ratatui_core::backend::Backend;
use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::layout::{Position, Rect, Size};
use ratatui_crossterm::CrosstermBackend;
use unicode_width::UnicodeWidthStr;

/// The contents of the whole screen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ScreenFrame {
    pub(super) cells: Buffer,
    pub(super) links: Vec<PlacedHyperlink>,
    /// `None` hides the cursor.
    pub(super) cursor: Option<Position>,
}

/// The part of a hyperlink in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlacedHyperlink {
    pub(super) row: u16,
    /// The first column and the one after the last.
    pub(super) columns: (u16, u16),
    pub(super) target: Arc<str>,
}

impl ScreenFrame {
    /// Creates an empty frame.
    pub(super) fn new(size: Size) -> Self {
        let area = Rect::new(0, 0, size.width, size.height);
        Self { cells: Buffer::empty(area), links: Vec::new(), cursor: None }
    }

    pub(super) const fn area(&self) -> Rect {
        self.cells.area
    }

    /// Returns the cells that are drawn; the cells covered by a wide character are left out.
    fn row(&self, y: u16) -> Vec<(u16, &Cell)> {
        let area = self.area();
        let mut row = Vec::with_capacity(area.width.into());
        let mut x = area.left();
        while x < area.right() {
            let cell = &self.cells[(x, y)];
            row.push((x, cell));
            // At least one: a symbol without width would hold the loop for ever.
            x += u16::try_from(cell.symbol().width()).unwrap_or(1).max(1);
        }
        row
    }

    fn links_in(&self, y: u16) -> Vec<&PlacedHyperlink> {
        self.links.iter().filter(|link| link.row == y).collect()
    }

    fn link_at(&self, x: u16, y: u16) -> Option<&Arc<str>> {
        let is_in = |link: &&PlacedHyperlink| link.row == y && (link.columns.0..link.columns.1).contains(&x);
        self.links.iter().find(is_in).map(|link| &link.target)
    }
}

/// Writes frames to a terminal.
#[derive(Debug)]
pub(super) struct ScreenPainter<W: Write> {
    out: W,
    backend: CrosstermBackend<W>,
    /// The frame on the terminal; `None` if unknown.
    last_frame: Option<ScreenFrame>,
}

impl<W: Write + Clone> ScreenPainter<W> {
    /// Creates a painter that knows nothing of the screen.
    pub(super) fn new(out: W) -> Self {
        Self { backend: CrosstermBackend::new(out.clone()), out, last_frame: None }
    }

    /// Forgets the screen's contents, after other output: the next frame is written completely.
    pub(super) fn forget(&mut self) {
        self.last_frame = None;
    }

    /// Writes the difference to the last frame.
    pub(super) fn paint(&mut self, picture: ScreenFrame) -> io::Result<()> {
        // Taken out: after a failed write the screen is unknown, and the next frame is written completely.
        let shown = self.last_frame.take().filter(|shown| shown.area() == picture.area());
        if shown.as_ref() == Some(&picture) {
            self.last_frame = shown;
            return Ok(());
        }
        // The cursor would be seen jumping between the changed cells.
        self.backend.hide_cursor()?;
        if shown.is_none() {
            self.out.write_all(b"\x1b[0m\x1b[2J")?;
        }
        let before = shown.unwrap_or_else(|| ScreenFrame::new(picture.area().as_size()));
        for y in picture.area().top()..picture.area().bottom() {
            self.paint_row(&before, &picture, y)?;
        }
        if let Some(cursor) = picture.cursor {
            self.backend.set_cursor_position(cursor)?;
            self.backend.show_cursor()?;
        }
        self.last_frame = Some(picture);
        Ok(())
    }

    fn paint_row(&mut self, before: &ScreenFrame, picture: &ScreenFrame, y: u16) -> io::Result<()> {
        let (old, new) = (before.row(y), picture.row(y));
        let has_same_links = before.links_in(y) == picture.links_in(y);
        if old == new && has_same_links {
            return Ok(());
        }
        let is_whole = !has_same_links || old.iter().chain(&new).any(|(_, cell)| is_multi_char(cell));
        if is_whole {
            // The style is reset first, as terminals erase with the current background colour.
            write!(self.out, "\x1b[{};1H\x1b[0m\x1b[2K", y + 1)?;
        }
        let blank = Cell::default();
        let is_changed = |x: u16, cell: &Cell| match is_whole {
            true => *cell != blank,
            // A cell that was covered by a wide character has no old contents: it is always written.
            false => old.iter().find(|(at, _)| *at == x).is_none_or(|(_, before)| *before != cell),
        };
        let mut link: Option<&Arc<str>> = None;
        let mut run: Vec<(u16, u16, &Cell)> = Vec::new();
        for (x, cell) in new.into_iter().filter(|(x, cell)| is_changed(*x, cell)) {
            let here = picture.link_at(x, y);
            // Behind a multi-code-point cluster the cursor's column is unknown; a new run begins with an
            // explicit position.
            if here != link || run.last().is_some_and(|(_, _, last)| is_multi_char(last)) {
                self.draw_run(&mut run)?;
            }
            if here != link {
                self.set_hyperlink(here)?;
                link = here;
            }
            run.push((x, y, cell));
        }
        self.draw_run(&mut run)?;
        // A link that stays open would go on in whatever is written next.
        if link.is_some() { self.set_hyperlink(None) } else { Ok(()) }
    }

    fn draw_run(&mut self, run: &mut Vec<(u16, u16, &Cell)>) -> io::Result<()> {
        if run.is_empty() { Ok(()) } else { self.backend.draw(run.drain(..)) }
    }

    /// Begins a hyperlink (OSC 8) or ends it. The id, a hash of the target, joins the parts of one link in several
    /// rows.
    fn set_hyperlink(&mut self, link: Option<&Arc<str>>) -> io::Result<()> {
        match link {
            Some(target) => {
                // A hash (djb2) is the same in every frame, which a counter wouldn't be.
                let id = target.bytes().fold(5381_u32, |id, byte| id.wrapping_mul(33) ^ u32::from(byte));
                write!(self.out, "\x1b]8;id={id:08x};{target}\x1b\\")
            }
            None => self.out.write_all(b"\x1b]8;;\x1b\\"),
        }
    }
}

fn is_multi_char(cell: &Cell) -> bool {
    cell.symbol().chars().nth(1).is_some()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use ratatui_core::style::Style;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Paper(Rc<RefCell<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn picture(rows: &[&str]) -> ScreenFrame {
        let mut picture = ScreenFrame::new(Size::new(20, 3));
        for (y, row) in (0..).zip(rows) {
            picture.cells.set_string(0, y, row, Style::new());
        }
        picture
    }

    struct World {
        painter: ScreenPainter<Paper>,
        paper: Paper,
        terminal: vt100::Parser,
    }

    impl World {
        fn new() -> Self {
            let paper = Paper::default();
            Self { painter: ScreenPainter::new(paper.clone()), paper, terminal: vt100::Parser::new(3, 20, 0) }
        }

        /// Returns the bytes written to the terminal.
        fn paint(&mut self, picture: ScreenFrame) -> String {
            self.painter.paint(picture).unwrap();
            let bytes = std::mem::take(&mut *self.paper.0.borrow_mut());
            self.terminal.process(&bytes);
            String::from_utf8(bytes).unwrap()
        }

        fn rows(&self) -> Vec<String> {
            self.terminal.screen().rows(0, 20).map(|row| row.trim_end().to_owned()).collect()
        }
    }

    #[test]
    fn only_what_changed_is_put() {
        let mut world = World::new();
        world.paint(picture(&["hello", "日本x", "bob"]));
        assert_eq!(world.rows(), ["hello", "日本x", "bob"]);
        let put = world.paint(picture(&["hello", "日本y", "bob"]));
        assert!(put.contains('y') && !put.contains("hello") && !put.contains('日'), "{put:?}");
        world.paint(picture(&["", "abcdef", ""]));
        assert_eq!(world.rows(), ["", "abcdef", ""]);
    }

    #[test]
    fn a_row_with_letters_of_several_parts_is_put_whole() {
        let mut world = World::new();
        world.paint(picture(&["> नमस्ते🇧🇷x", "bob"]));
        let put = world.paint(picture(&["> नy", "bob"]));
        assert!(put.contains("\u{1b}[2K") && !put.contains("bob"), "{put:?}");
        assert_eq!(world.rows()[..2], ["> नy", "bob"]);
    }

    #[test]
    fn links_are_opened_and_closed() {
        let mut world = World::new();
        let mut linked = picture(&["see http://ex.org ok"]);
        let target: Arc<str> = "http://ex.org".into();
        linked.links.push(PlacedHyperlink { row: 0, columns: (4, 17), target });
        let put = world.paint(linked.clone());
        let (open, close) = (put.find(";http://ex.org\u{1b}\\").unwrap(), put.find("\u{1b}]8;;\u{1b}\\").unwrap());
        assert!(put[open + 8..close].contains("http://ex.org") && put[close..].contains("ok"), "{put:?}");
        assert!(!world.paint(linked).contains("ex.org"), "once");
    }
}
