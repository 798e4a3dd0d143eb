//! A few rows at the lower end of the conversation that are drawn again and again, while everything above them is the
//! terminal's own: its scrollback, its selection.
//!
//! ratatui's inline viewport does the drawing. What it asks the terminal in the middle of things (its size, where the
//! cursor is) is answered here with what the key reader found out, since only one may read from a terminal.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use ratatui_core::backend::{Backend, ClearType, WindowSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Position, Size};
use ratatui_core::terminal::{Terminal, TerminalOptions, Viewport};
use ratatui_core::text::{Line, Span};

/// The rows at the lower end, and what scrolls by above them.
pub(super) struct InlineScreen<B: Backend> {
    surface: Surface<B>,
    terminal: Terminal<Surface<B>>,
    top: u16,
    height: u16,
    /// Rows that were put above, ever.
    above: u64,
    /// Those before it are no longer where they were put.
    known_from: u64,
    /// Where in the rows the cursor was left.
    cursor: Position,
}

/// A row that was put above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowId(u64);

impl<B: Backend> InlineScreen<B> {
    /// Takes `height` rows from the line that the cursor is in.
    pub(super) fn open(backend: B, size: Size, cursor: Position, height: u16) -> Result<Self, B::Error> {
        let surface = Surface(Rc::new(RefCell::new(Facts { backend, size, cursor })));
        let (terminal, top) = Self::place(&surface, cursor.y, height)?;
        let cursor = Position::ORIGIN;
        Ok(Self { surface, terminal, top, height, above: 0, known_from: 0, cursor })
    }

    pub(super) fn columns(&self) -> u16 {
        self.surface.0.borrow().size.width
    }

    /// Rows of the whole screen.
    pub(super) fn screen_rows(&self) -> u16 {
        self.surface.0.borrow().size.height
    }

    /// Puts lines above, for good. They must be no wider than the screen.
    pub(super) fn insert(&mut self, lines: &[Line<'_>]) -> Result<RowId, B::Error> {
        let first = RowId(self.above);
        // More than the screen holds in one go would be drawn beyond its end.
        let most = usize::from(self.screen_rows().saturating_sub(self.height).max(1));
        for some in lines.chunks(most) {
            let rows = u16::try_from(some.len()).unwrap_or(u16::MAX);
            self.terminal.insert_before(rows, |buffer| {
                let area = buffer.area;
                for (y, line) in (area.y..).zip(some) {
                    buffer.set_line(area.x, y, line, area.width);
                }
            })?;
            let lowest = self.screen_rows().saturating_sub(self.height);
            self.top = self.top.saturating_add(rows).min(lowest);
            self.above += u64::from(rows);
        }
        Ok(first)
    }

    /// Draws over the beginning of a row that was put above; false when it is no longer on the screen.
    pub(super) fn patch(&mut self, row: RowId, span: &Span<'_>) -> Result<bool, B::Error> {
        let back = self.above.saturating_sub(row.0);
        if row.0 < self.known_from || back > u64::from(self.top) {
            return Ok(false);
        }
        let y = self.top - u16::try_from(back).unwrap_or(self.top);
        let cells: Vec<Cell> = span.styled_graphemes(span.style).map(|cluster| styled(&cluster)).collect();
        let at = (0..self.columns()).zip(&cells).map(|(x, cell)| (x, y, cell));
        self.surface.draw(at)?;
        self.surface.set_cursor_position(self.on_screen(self.cursor))?;
        Ok(true)
    }

    /// Draws the rows, as many as there are, with the cursor at `cursor` among them.
    pub(super) fn draw(&mut self, rows: &[Line<'_>], cursor: Position) -> Result<(), B::Error> {
        let height = u16::try_from(rows.len()).unwrap_or(u16::MAX).clamp(1, self.screen_rows().max(1));
        if height != self.height {
            let top = self.top;
            self.surface.set_cursor_position(Position::new(0, top))?;
            self.surface.clear_region(ClearType::AfterCursor)?;
            self.take(top, height)?;
        }
        self.terminal.draw(|frame| {
            let area = frame.area();
            for (y, line) in (area.top()..area.bottom()).zip(rows) {
                frame.buffer_mut().set_line(area.x, y, line, area.width);
            }
            let (x, y) = (cursor.x.min(area.width.saturating_sub(1)), cursor.y.min(area.height.saturating_sub(1)));
            frame.set_cursor_position(Position::new(area.x + x, area.y + y));
        })?;
        self.cursor = cursor;
        Ok(())
    }

    /// The terminal has another size now, and the cursor is there; unknown where it can't tell.
    pub(super) fn resized(&mut self, size: Size, cursor: Option<Position>) -> Result<(), B::Error> {
        let old = std::mem::replace(&mut self.surface.0.borrow_mut().size, size);
        let at = cursor.unwrap_or_else(|| Position::new(self.cursor.x, self.top.min(size.height.saturating_sub(1))));
        // The rows were drawn from the cursor's line on. A terminal that wraps again what has become too long for it has
        // put the cursor further down.
        let wrapped = if self.cursor.x >= size.width && at.x == self.cursor.x % size.width.max(1) {
            self.cursor.x / size.width.max(1)
        } else {
            0
        };
        let top = at.y.saturating_sub(self.cursor.y + wrapped);
        if old.width != size.width {
            self.known_from = self.above;
        }
        self.surface.set_cursor_position(Position::new(0, top))?;
        self.surface.clear_region(ClearType::AfterCursor)?;
        self.take(top, self.height.min(size.height.max(1)))
    }

    /// Somebody else has written to the terminal: begins again below.
    pub(super) fn begin_again(&mut self, size: Size, cursor: Option<Position>) -> Result<(), B::Error> {
        self.surface.0.borrow_mut().size = size;
        self.known_from = self.above;
        let bottom = Position::new(1, size.height.saturating_sub(1));
        let at = cursor.unwrap_or(bottom);
        self.surface.set_cursor_position(at)?;
        let mut top = at.y;
        if at.x > 0 {
            self.surface.append_lines(1)?;
            top = (top + 1).min(size.height.saturating_sub(1));
        }
        self.take(top, self.height)
    }

    /// Takes the rows away; the cursor is left where they began.
    pub(super) fn close(&mut self) -> Result<(), B::Error> {
        self.surface.set_cursor_position(Position::new(0, self.top))?;
        self.surface.clear_region(ClearType::AfterCursor)?;
        self.surface.show_cursor()
    }

    fn take(&mut self, top: u16, height: u16) -> Result<(), B::Error> {
        (self.terminal, self.top) = Self::place(&self.surface, top, height)?;
        self.height = height;
        Ok(())
    }

    /// A viewport whose first row is `top`, or further up where the screen ends.
    fn place(surface: &Surface<B>, top: u16, height: u16) -> Result<(Terminal<Surface<B>>, u16), B::Error> {
        let mut backend = surface.clone();
        let rows = backend.size()?.height;
        let at = Position::new(0, top.min(rows.saturating_sub(1)));
        backend.set_cursor_position(at)?;
        let terminal = Terminal::with_options(backend, TerminalOptions { viewport: Viewport::Inline(height) })?;
        Ok((terminal, at.y.min(rows.saturating_sub(height))))
    }

    const fn on_screen(&self, cursor: Position) -> Position {
        Position::new(cursor.x, self.top + cursor.y)
    }
}

fn styled(cluster: &ratatui_core::text::StyledGrapheme<'_>) -> Cell {
    let mut cell = Cell::default();
    cell.set_symbol(cluster.symbol).set_style(cluster.style);
    cell
}

/// A backend that several terminals may draw to one after another, and that asks nothing.
struct Surface<B>(Rc<RefCell<Facts<B>>>);

struct Facts<B> {
    backend: B,
    size: Size,
    cursor: Position,
}

impl<B> Clone for Surface<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Backend> Backend for Surface<B> {
    type Error = B::Error;

    fn draw<'a, I>(&mut self, content: I) -> Result<(), B::Error>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        self.0.borrow_mut().backend.draw(content)
    }

    fn append_lines(&mut self, n: u16) -> Result<(), B::Error> {
        self.0.borrow_mut().backend.append_lines(n)
    }

    fn hide_cursor(&mut self) -> Result<(), B::Error> {
        self.0.borrow_mut().backend.hide_cursor()
    }

    fn show_cursor(&mut self) -> Result<(), B::Error> {
        self.0.borrow_mut().backend.show_cursor()
    }

    fn get_cursor_position(&mut self) -> Result<Position, B::Error> {
        Ok(self.0.borrow().cursor)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> Result<(), B::Error> {
        let position = position.into();
        let mut facts = self.0.borrow_mut();
        facts.cursor = position;
        facts.backend.set_cursor_position(position)
    }

    fn clear(&mut self) -> Result<(), B::Error> {
        self.0.borrow_mut().backend.clear()
    }

    fn clear_region(&mut self, region: ClearType) -> Result<(), B::Error> {
        self.0.borrow_mut().backend.clear_region(region)
    }

    fn size(&self) -> Result<Size, B::Error> {
        Ok(self.0.borrow().size)
    }

    fn window_size(&mut self) -> Result<WindowSize, B::Error> {
        self.0.borrow_mut().backend.window_size()
    }

    fn flush(&mut self) -> Result<(), B::Error> {
        self.0.borrow_mut().backend.flush()
    }

    fn scroll_region_up(&mut self, region: Range<u16>, lines: u16) -> Result<(), B::Error> {
        self.0.borrow_mut().backend.scroll_region_up(region, lines)
    }

    fn scroll_region_down(&mut self, region: Range<u16>, lines: u16) -> Result<(), B::Error> {
        self.0.borrow_mut().backend.scroll_region_down(region, lines)
    }
}

#[cfg(test)]
mod tests {
    use ratatui_core::backend::TestBackend;

    use super::*;

    type Inline = InlineScreen<TestBackend>;

    fn open(columns: u16, rows: u16, at: u16, height: u16) -> Inline {
        let mut backend = TestBackend::new(columns, rows);
        backend.set_cursor_position(Position::new(0, at)).unwrap();
        Inline::open(backend, Size::new(columns, rows), Position::new(0, at), height).unwrap()
    }

    fn lines(texts: &[&str]) -> Vec<Line<'static>> {
        texts.iter().map(|text| Line::raw((*text).to_owned())).collect()
    }

    fn draw(screen: &mut Inline, rows: &[&str]) {
        screen.draw(&lines(rows), Position::new(2, 0)).unwrap();
    }

    fn assert_screen(screen: &Inline, rows: &[&str]) {
        screen.surface.0.borrow().backend.assert_buffer_lines(rows.iter().copied());
    }

    fn scrollback(screen: &Inline) -> Vec<String> {
        let facts = screen.surface.0.borrow();
        let buffer = facts.backend.scrollback();
        let row = |y| (0..buffer.area.width).map(move |x| buffer[(x, y)].symbol()).collect::<String>();
        (0..buffer.area.height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn what_is_said_goes_into_the_scrollback() {
        let mut screen = open(8, 4, 0, 2);
        draw(&mut screen, &["> ", "bob"]);
        assert_screen(&screen, &[">       ", "bob     ", "        ", "        "]);
        screen.insert(&lines(&["one"])).unwrap();
        assert_screen(&screen, &["one     ", ">       ", "bob     ", "        "]);
        screen.insert(&lines(&["two", "three", "four", "five", "six", "seven"])).unwrap();
        draw(&mut screen, &["> ", "bob"]);
        assert_screen(&screen, &["six     ", "seven   ", ">       ", "bob     "]);
        assert_eq!(scrollback(&screen), ["one", "two", "three", "four", "five"]);
    }

    #[test]
    fn rows_come_and_go() {
        let mut screen = open(8, 5, 0, 2);
        draw(&mut screen, &["> ", "bob"]);
        screen.insert(&lines(&["1", "2", "3", "4"])).unwrap();
        draw(&mut screen, &["> ", "a.bin", "b.bin", "bob"]);
        assert_screen(&screen, &["4       ", ">       ", "a.bin   ", "b.bin   ", "bob     "]);
        assert_eq!(scrollback(&screen), ["1", "2", "3"]);
        draw(&mut screen, &["> ", "bob"]);
        screen.insert(&lines(&["5"])).unwrap();
        assert_screen(&screen, &["4       ", "5       ", ">       ", "bob     ", "        "]);
    }

    #[test]
    fn a_row_above_is_drawn_over_while_it_can_be_seen() {
        let mut screen = open(8, 4, 2, 2);
        draw(&mut screen, &["> ", "bob"]);
        let row = screen.insert(&lines(&["… hi"])).unwrap();
        screen.insert(&lines(&["more"])).unwrap();
        assert!(screen.patch(row, &Span::raw("✓")).unwrap());
        assert_screen(&screen, &["✓ hi    ", "more    ", ">       ", "bob     "]);
        screen.insert(&lines(&["again"])).unwrap();
        assert!(!screen.patch(row, &Span::raw("!")).unwrap());
        assert_screen(&screen, &["more    ", "again   ", ">       ", "bob     "]);
    }

    #[test]
    fn another_size_leaves_what_is_above_alone() {
        let mut screen = open(8, 4, 2, 2);
        draw(&mut screen, &["> ", "bob"]);
        let row = screen.insert(&lines(&["… hi"])).unwrap();
        // Two more rows below; then narrower.
        screen.surface.0.borrow_mut().backend.resize(8, 6);
        screen.resized(Size::new(8, 6), Some(Position::new(2, 2))).unwrap();
        draw(&mut screen, &["> ", "bob"]);
        assert_screen(&screen, &["        ", "… hi    ", ">       ", "bob     ", "        ", "        "]);
        assert!(screen.patch(row, &Span::raw("✓")).unwrap());
        screen.surface.0.borrow_mut().backend.resize(4, 6);
        screen.resized(Size::new(4, 6), Some(Position::new(2, 2))).unwrap();
        draw(&mut screen, &["> ", "bob"]);
        assert!(!screen.patch(row, &Span::raw("!")).unwrap(), "after a reflow nobody knows where it is");
    }

    #[test]
    fn a_terminal_of_one_row_is_survived() {
        let mut screen = open(4, 1, 0, 3);
        draw(&mut screen, &["> ", "a", "b"]);
        screen.insert(&lines(&["one", "two"])).unwrap();
        draw(&mut screen, &["> ", "a", "b"]);
        assert_screen(&screen, &[">   "]);
    }
}
