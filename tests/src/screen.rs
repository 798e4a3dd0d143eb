//! What a person sees: as much of a terminal as the product's output needs.

use unicode_width::UnicodeWidthChar;

/// The lines of a terminal after some output: those on the screen, and those that were scrolled off it.
#[derive(Debug, Clone)]
pub struct Screen {
    lines: Vec<Vec<Cell>>,
    /// The first line that is on the screen.
    top: usize,
    /// On the screen.
    row: usize,
    column: usize,
    columns: usize,
    rows: usize,
    /// The rows that scroll, both included.
    region: (usize, usize),
    wrapped: usize,
    saved: Option<Box<Screen>>,
    pending: String,
    asked: usize,
    modes: Vec<String>,
    /// Where the cursor was when that was to be remembered.
    remembered: (usize, usize),
    /// Whether what is longer than a row goes on in the next one.
    wraps: bool,
    /// Lines of `lines` that go on in the next one.
    joined: Vec<usize>,
}

/// One character and the accents on it; the second half of a wide one is empty.
type Cell = String;

/// For output that is to be looked at as a whole: nothing is scrolled off.
const ENDLESS: usize = 100_000;

impl Screen {
    /// An empty screen.
    pub fn new(columns: u16, rows: u16) -> Self {
        let rows = usize::from(rows);
        Self {
            lines: Vec::new(),
            top: 0,
            row: 0,
            column: 0,
            columns: columns.into(),
            rows,
            region: (0, rows - 1),
            wrapped: 0,
            saved: None,
            pending: String::new(),
            asked: 0,
            modes: Vec::new(),
            remembered: (0, 0),
            wraps: true,
            joined: Vec::new(),
        }
    }

    /// What is there after `output` on a terminal of that width and without end.
    pub fn after(output: &str, columns: u16) -> Self {
        let mut screen = Self::new(columns, 1);
        screen.rows = ENDLESS;
        screen.region = (0, ENDLESS - 1);
        screen.feed(output);
        screen
    }

    /// Takes further output; a sequence that isn't whole yet waits for the rest.
    pub fn feed(&mut self, output: &str) {
        let mut text = std::mem::take(&mut self.pending);
        text.push_str(output);
        let mut rest = text.as_str();
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            if c != '\u{1b}' {
                self.character(c);
                rest = after;
                continue;
            }
            match self.escape(after) {
                Some(after) => rest = after,
                None => {
                    rest.clone_into(&mut self.pending);
                    return;
                }
            }
        }
    }

    /// Another size: nothing is wrapped again, as in xterm.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let rows = usize::from(rows);
        if self.row >= rows {
            self.top += self.row + 1 - rows;
            self.row = rows - 1;
        }
        (self.columns, self.rows, self.region) = (columns.into(), rows, (0, rows - 1));
        self.column = self.column.min(self.columns - 1);
        let (columns, top) = (self.columns, self.top);
        for line in self.lines.iter_mut().skip(top) {
            line.truncate(columns);
        }
    }

    /// The text, one line each, without blanks at the ends; with what was scrolled off.
    pub fn text(&self) -> String {
        let lines: Vec<String> = (0..self.lines.len()).map(|row| self.line(row)).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// The same, where lines that the terminal itself broke are whole: as a person copies them.
    pub fn copied(&self) -> String {
        let mut text = String::new();
        for row in 0..self.lines.len() {
            text.push_str(&self.line(row));
            if !self.joined.contains(&row) {
                text.push('\n');
            }
        }
        text
    }

    /// The text that is on the screen now.
    pub fn visible(&self) -> String {
        let lines: Vec<String> = (self.top..self.lines.len()).map(|row| self.line(row)).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// The lines that aren't empty, with what was scrolled off.
    pub fn lines(&self) -> Vec<String> {
        (0..self.lines.len()).map(|row| self.line(row)).filter(|line| !line.is_empty()).collect()
    }

    /// The line that the cursor is in.
    pub fn cursor_line(&self) -> String {
        self.line(self.top + self.row)
    }

    /// The column that the cursor is in, from 0.
    pub const fn cursor_column(&self) -> usize {
        self.column
    }

    /// The row of the screen that the cursor is in, from 0.
    pub const fn cursor_row(&self) -> usize {
        self.row
    }

    /// How often a line was longer than the screen is wide.
    pub const fn wrapped(&self) -> usize {
        self.wrapped
    }

    /// Whether it shows the alternate screen.
    pub const fn is_alternate(&self) -> bool {
        self.saved.is_some()
    }

    /// Whether a private mode, such as `2004` for bracketed paste, is set.
    pub fn has_mode(&self, mode: &str) -> bool {
        self.modes.iter().any(|set| set == mode)
    }

    /// How often the place of the cursor was asked for since the last time this was.
    pub fn take_questions(&mut self) -> usize {
        std::mem::take(&mut self.asked)
    }

    fn line(&self, row: usize) -> String {
        self.lines.get(row).map(|line| line.concat().trim_end().to_owned()).unwrap_or_default()
    }

    fn character(&mut self, c: char) {
        match c {
            '\r' => self.column = 0,
            '\n' => self.line_feed(),
            '\u{8}' => self.column = self.column.saturating_sub(1),
            c if c.is_control() => {}
            c => self.put(c),
        }
    }

    fn put(&mut self, c: char) {
        let width = c.width().unwrap_or(0);
        if width == 0 {
            let column = self.column.saturating_sub(1);
            if let Some(cell) = self.here().get_mut(column) {
                cell.push(c);
            }
            return;
        }
        if self.column + width > self.columns && !self.wraps {
            self.column = self.columns - width.min(self.columns);
        } else if self.column + width > self.columns {
            self.wrapped += 1;
            self.joined.push(self.top + self.row);
            self.column = 0;
            self.line_feed();
        }
        let column = self.column;
        let line = self.here();
        if line.len() < column + width {
            line.resize(column + width, " ".to_owned());
        }
        line[column] = c.to_string();
        for half in &mut line[column + 1..column + width] {
            half.clear();
        }
        self.column += width;
    }

    fn here(&mut self) -> &mut Vec<Cell> {
        let row = self.top + self.row;
        if self.lines.len() <= row {
            self.lines.resize(row + 1, Vec::new());
        }
        &mut self.lines[row]
    }

    fn line_feed(&mut self) {
        if self.row == self.region.1 {
            self.scroll_up(1);
        } else {
            self.row = (self.row + 1).min(self.rows - 1);
        }
    }

    /// What leaves a region that begins at the top goes into the scrollback, as in most terminals.
    fn scroll_up(&mut self, lines: usize) {
        let (first, last) = self.region;
        for _ in 0..lines {
            let end = self.top + last + 1;
            if self.lines.len() < end {
                self.lines.resize(end, Vec::new());
            }
            self.lines.insert(end, Vec::new());
            if first == 0 && self.saved.is_none() {
                self.top += 1;
            } else {
                self.lines.remove(self.top + first);
            }
        }
    }

    fn scroll_down(&mut self, lines: usize) {
        let (first, last) = self.region;
        for _ in 0..lines {
            let end = self.top + last + 1;
            if self.lines.len() < end {
                self.lines.resize(end, Vec::new());
            }
            self.lines.remove(end - 1);
            self.lines.insert(self.top + first, Vec::new());
        }
    }

    /// What follows an escape; the rest, or nothing when it isn't whole.
    fn escape<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        let kind = text.chars().next()?;
        let text = &text[kind.len_utf8()..];
        match kind {
            '[' => {
                let end = text.find(|c: char| ('\u{40}'..='\u{7e}').contains(&c))?;
                self.control(&text[..end], text[end..].chars().next()?);
                Some(&text[end + 1..])
            }
            // An operating system command, up to its end, which is written in one of two ways.
            ']' => {
                let end = text.find(['\u{7}', '\u{1b}'])?;
                let rest = &text[end..];
                if rest == "\u{1b}" { None } else { Some(rest.strip_prefix("\u{1b}\\").unwrap_or(&rest[1..])) }
            }
            '7' => {
                self.remembered = (self.row, self.column);
                Some(text)
            }
            '8' => {
                (self.row, self.column) = self.remembered;
                Some(text)
            }
            _ => Some(text),
        }
    }

    fn control(&mut self, parameters: &str, last: char) {
        if let Some(mode) = parameters.strip_prefix('?') {
            return self.mode(mode, last == 'h');
        }
        let numbers: Vec<usize> = parameters.split(';').map(|number| number.parse().unwrap_or(0)).collect();
        let number = |place: usize| numbers.get(place).copied().unwrap_or(0);
        let count = number(0).max(1);
        let bottom = self.rows - 1;
        match last {
            'A' => self.row = self.row.saturating_sub(count),
            'B' => self.row = (self.row + count).min(bottom),
            'C' => self.column = (self.column + count).min(self.columns - 1),
            'D' => self.column = self.column.saturating_sub(count),
            'G' => self.column = count - 1,
            'H' => {
                self.row = (count - 1).min(bottom);
                self.column = (number(1).max(1) - 1).min(self.columns - 1);
            }
            'J' => self.erase_screen(number(0)),
            'K' => self.erase_line(number(0)),
            'S' => self.scroll_up(count),
            'T' => self.scroll_down(count),
            'r' => {
                let end = if number(1) == 0 { self.rows } else { number(1) };
                self.region = (count - 1, (end - 1).min(bottom));
                (self.row, self.column) = (0, 0);
            }
            'n' if number(0) == 6 => self.asked += 1,
            _ => {}
        }
    }

    fn mode(&mut self, mode: &str, on: bool) {
        self.modes.retain(|set| set != mode);
        if on {
            self.modes.push(mode.to_owned());
        }
        match (mode, on) {
            ("7", on) => self.wraps = on,
            ("1049", true) if self.saved.is_none() => {
                let (columns, rows) = (self.columns, self.rows);
                let modes = self.modes.clone();
                let before = std::mem::replace(self, Self::new(1, 1));
                (self.columns, self.rows, self.region, self.modes) = (columns, rows, (0, rows - 1), modes);
                self.saved = Some(Box::new(before));
            }
            ("1049", false) => {
                if let Some(before) = self.saved.take() {
                    let (columns, rows, modes) = (self.columns, self.rows, self.modes.clone());
                    *self = *before;
                    self.modes = modes;
                    if (self.columns, self.rows) != (columns, rows) {
                        self.resize(
                            u16::try_from(columns).unwrap_or(u16::MAX),
                            u16::try_from(rows).unwrap_or(u16::MAX),
                        );
                    }
                }
            }
            _ => {}
        }
    }

    fn erase_screen(&mut self, how: usize) {
        match how {
            0 => {
                self.erase_line(0);
                self.lines.truncate(self.top + self.row + 1);
            }
            1 => {
                for row in 0..self.row {
                    if let Some(line) = self.lines.get_mut(self.top + row) {
                        line.clear();
                    }
                }
                self.erase_line(1);
            }
            _ => self.lines.truncate(self.top),
        }
    }

    fn erase_line(&mut self, how: usize) {
        let (row, column) = (self.top + self.row, self.column);
        if let Some(line) = self.lines.get_mut(row) {
            match how {
                0 => line.truncate(column),
                1 => line.iter_mut().take(column + 1).for_each(|cell| " ".clone_into(cell)),
                _ => line.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_drawn_again() {
        let screen = Screen::after("> hel\r\u{1b}[2Kbob: hi\r\n> hel\u{1b}[6G", 20);
        assert_eq!(screen.lines(), ["bob: hi", "> hel"]);
        assert_eq!((screen.cursor_line().as_str(), screen.cursor_column()), ("> hel", 5));
        assert_eq!(screen.wrapped(), 0);
    }

    #[test]
    fn colours_and_titles_are_not_text() {
        let screen = Screen::after("\u{1b}[1;31merror:\u{1b}[0m x\u{1b}]0;title\u{7}\u{1b}[?25l", 80);
        assert_eq!(screen.text(), "error: x");
    }

    #[test]
    fn what_is_too_long_is_noticed() {
        assert_eq!(Screen::after("12345", 5).wrapped(), 0);
        let screen = Screen::after("123456", 5);
        assert_eq!((screen.wrapped(), screen.lines()), (1, vec!["12345".to_owned(), "6".to_owned()]));
    }

    #[test]
    fn bars_are_taken_away() {
        let screen = Screen::after("a 1%\r\nb 2%\u{1b}[1A\r\u{1b}[0Jdone\r\n", 20);
        assert_eq!(screen.lines(), ["done"]);
    }

    #[test]
    fn a_region_scrolls_into_the_scrollback() {
        let mut screen = Screen::new(10, 4);
        screen.feed("one\r\ntwo\r\nthree\r\n> \u{1b}[1;3r\u{1b}[1S\u{1b}[r\u{1b}[3;1Hfour\u{1b}[4;3H");
        assert_eq!(screen.text(), "one\ntwo\nthree\nfour\n>");
        assert_eq!(screen.visible(), "two\nthree\nfour\n>");
        assert_eq!((screen.cursor_row(), screen.cursor_column()), (3, 2));
    }

    #[test]
    fn sequences_may_come_in_pieces() {
        let mut screen = Screen::new(20, 4);
        for c in "a\u{1b}[31mb\u{1b}]0;t\u{7}c\u{1b}[6n日e\u{301}".chars() {
            screen.feed(&c.to_string());
        }
        assert_eq!((screen.text().as_str(), screen.cursor_column(), screen.take_questions()), ("abc日e\u{301}", 6, 1));
    }

    #[test]
    fn the_other_screen_leaves_nothing() {
        let mut screen = Screen::new(10, 3);
        screen.feed("before\u{1b}[?1049h\u{1b}[2J\u{1b}[1;1Hinside");
        assert_eq!((screen.visible().as_str(), screen.is_alternate()), ("inside", true));
        screen.feed("\u{1b}[?1049l");
        assert_eq!((screen.text().as_str(), screen.is_alternate()), ("before", false));
    }
}
