//! What a person sees: as much of a terminal as the product's output needs.

/// The lines on a screen that never scrolls away, after some output.
#[derive(Debug, Clone, Default)]
pub struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    columns: usize,
    wrapped: usize,
}

impl Screen {
    /// What is there after `output` on a terminal of that width.
    pub fn after(output: &str, columns: u16) -> Self {
        let mut screen = Self { columns: usize::from(columns), ..Self::default() };
        let mut rest = output.chars();
        while let Some(c) = rest.next() {
            match c {
                '\u{1b}' => screen.escape(&mut rest),
                '\r' => screen.column = 0,
                '\n' => screen.row += 1,
                '\u{8}' => screen.column = screen.column.saturating_sub(1),
                c if c.is_control() => {}
                c => screen.put(c),
            }
        }
        screen
    }

    /// The text, one line each, without blanks at the ends.
    pub fn text(&self) -> String {
        let lines: Vec<String> = (0..self.lines.len()).map(|row| self.line(row)).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// The lines that aren't empty.
    pub fn lines(&self) -> Vec<String> {
        (0..self.lines.len()).map(|row| self.line(row)).filter(|line| !line.is_empty()).collect()
    }

    /// The line that the cursor is in.
    pub fn cursor_line(&self) -> String {
        self.line(self.row)
    }

    /// The column that the cursor is in, from 0.
    pub const fn cursor_column(&self) -> usize {
        self.column
    }

    /// How often a line was longer than the screen is wide.
    pub const fn wrapped(&self) -> usize {
        self.wrapped
    }

    fn line(&self, row: usize) -> String {
        self.lines.get(row).map(|line| line.iter().collect::<String>().trim_end().to_owned()).unwrap_or_default()
    }

    fn put(&mut self, c: char) {
        if self.column >= self.columns {
            self.wrapped += 1;
            self.row += 1;
            self.column = 0;
        }
        if self.lines.len() <= self.row {
            self.lines.resize(self.row + 1, Vec::new());
        }
        let line = &mut self.lines[self.row];
        if line.len() <= self.column {
            line.resize(self.column + 1, ' ');
        }
        line[self.column] = c;
        self.column += 1;
    }

    fn escape(&mut self, rest: &mut std::str::Chars<'_>) {
        match rest.next() {
            Some('[') => {}
            // An operating system command, up to its end.
            Some(']') => return while !matches!(rest.next(), None | Some('\u{7}')) {},
            _ => return,
        }
        let mut parameter = String::new();
        let last = loop {
            match rest.next() {
                Some(c @ '\u{40}'..='\u{7e}') => break c,
                Some(c) => parameter.push(c),
                None => return,
            }
        };
        let number: usize = parameter.parse().unwrap_or(0);
        match last {
            'A' => self.row = self.row.saturating_sub(number.max(1)),
            'B' => self.row += number.max(1),
            'C' => self.column += number.max(1),
            'D' => self.column = self.column.saturating_sub(number.max(1)),
            'G' => self.column = number.max(1) - 1,
            'J' if number == 0 => {
                self.erase_line(0);
                self.lines.truncate(self.row + 1);
            }
            'K' => self.erase_line(number),
            _ => {}
        }
    }

    fn erase_line(&mut self, how: usize) {
        if let Some(line) = self.lines.get_mut(self.row) {
            match how {
                0 => line.truncate(self.column),
                1 => line.iter_mut().take(self.column + 1).for_each(|c| *c = ' '),
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
}
