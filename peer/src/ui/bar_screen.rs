//! The rows that bars are drawn in, on standard error. A terminal that becomes narrower breaks rows that are there already
//! into several: all of them are taken away at the next drawing.
//!
//! Each row is a line of its own, and the cursor waits at the beginning of the last one. Terminals keep it at that character
//! when they break lines, so that the rows above it can be counted whatever its column was.

use std::fmt::Write as _;
use std::io::{self, Write};

use indicatif::{ProgressDrawTarget, TermLike};
use parking_lot::{Mutex, MutexGuard};
use unicode_width::UnicodeWidthStr;

use super::terminal_size::terminal_size;
use super::text_wrap::truncate;

/// Drawings a second, at most.
const DRAWINGS: u8 = 20;
/// Kinds of terminals that cut rows off where others break them (`TERM`).
const CUTTING: [&str; 5] = ["linux", "st", "vt100", "vt220", "screen"];

/// Returns where bars are drawn on standard error.
pub(super) fn bars_on_terminal() -> ProgressDrawTarget {
    let rows = BarRows { breaks: breaks_rows(|name| std::env::var(name).ok()), ..BarRows::default() };
    ProgressDrawTarget::term_like_with_hz(Box::new(BarScreen(Mutex::new(rows))), DRAWINGS)
}

/// Tells whether the terminal breaks rows that are longer than it is wide by now.
fn breaks_rows(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_cutting = |term: String| {
        // tmux calls itself `screen`, too, and breaks rows where GNU screen cuts them: its variable tells.
        let is_in_tmux = term.starts_with("screen") && variable("TMUX").is_some();
        !is_in_tmux
            && CUTTING
                .iter()
                // `screen-256color` and `screen.linux` are of such a kind, `stterm` is not.
                .any(|kind| term.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.'])))
    };
    // That one is xterm itself, and not one of those that say that they are like it.
    variable("XTERM_VERSION").is_none() && !variable("TERM").is_some_and(is_cutting)
}

/// The rows that are there, and what is to be drawn. Pure.
#[derive(Debug, Default)]
struct BarRows {
    breaks: bool,
    /// Cells that each row on the screen has.
    drawn: Vec<usize>,
    /// The texts that were written since: a row and what fills it up, in turn.
    written: Vec<String>,
}

impl BarRows {
    /// Returns what replaces the rows that are there by those that were written.
    fn draw(&mut self, columns: usize) -> String {
        let heights: Vec<usize> = self.drawn.iter().map(|cells| self.height(*cells, columns)).collect();
        let all: usize = heights.iter().sum();
        // The cursor waits in the last row: only those above it are gone up.
        let above = all - heights.last().copied().unwrap_or(0);
        let mut out = String::from("\r");
        move_by(&mut out, above, 'A');
        // One by one: what is cleared from the top of the screen to its end at once, tmux keeps to be scrolled back to.
        for row in 0..all {
            move_by(&mut out, usize::from(row > 0), 'B');
            out.push_str("\u{1b}[2K");
        }
        move_by(&mut out, all.saturating_sub(1), 'A');
        // Every second one: indicatif writes blanks to the end of the terminal behind each row.
        let rows: Vec<String> = self.written.drain(..).step_by(2).map(|row| truncate(&row, columns, "…")).collect();
        out.push_str(&rows.join("\r\n"));
        out.push('\r');
        self.drawn = rows.iter().map(|row| row.width()).collect();
        out
    }

    /// Rows of the screen that so many cells take now.
    fn height(&self, cells: usize, columns: usize) -> usize {
        if self.breaks { cells.div_ceil(columns.max(1)).max(1) } else { 1 }
    }
}

/// Moves the cursor up or down.
fn move_by(out: &mut String, rows: usize, direction: char) {
    if rows > 0 {
        // It is a string that is written to.
        let _ = write!(out, "\u{1b}[{rows}{direction}");
    }
}

/// The terminal as `indicatif` sees it. It counts rows by itself, and not what became of them: where it moves before it
/// writes doesn't matter.
#[derive(Debug)]
struct BarScreen(Mutex<BarRows>);

impl BarScreen {
    fn rows(&self) -> MutexGuard<'_, BarRows> {
        self.0.lock()
    }
}

impl TermLike for BarScreen {
    fn width(&self) -> u16 {
        terminal_size().width
    }

    fn height(&self) -> u16 {
        terminal_size().height
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, _: &str) -> io::Result<()> {
        // Only for bars at the bottom of a screen of their own.
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.rows().written.push(text.to_owned());
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut rows = self.rows();
        if rows.drawn.is_empty() && rows.written.is_empty() {
            return Ok(());
        }
        let out = rows.draw(terminal_size().width.into());
        let mut err = io::stderr().lock();
        err.write_all(out.as_bytes())?;
        err.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that breaks its lines anew when it gets another width: lines without an end, and where the cursor is in
    /// them.
    struct Reflowing {
        lines: Vec<String>,
        line: usize,
        columns: usize,
    }

    impl Reflowing {
        fn height(&self, line: &str) -> usize {
            line.chars().count().div_ceil(self.columns).max(1)
        }

        /// Takes what `BarRows` draws. The cursor is at the beginning of a row whenever it moves or clears.
        fn feed(&mut self, output: &str) {
            let mut rows: Vec<(usize, usize)> = Vec::new();
            for (number, line) in self.lines.iter().enumerate() {
                rows.extend((0..self.height(line)).map(|row| (number, row)));
            }
            let mut at = rows.iter().position(|row| *row == (self.line, 0)).unwrap();
            let mut cleared = vec![false; rows.len()];
            let mut rest = output.strip_prefix('\r').unwrap();
            while let Some((command, after)) =
                rest.strip_prefix("\u{1b}[").and_then(|rest| rest.split_at_checked(rest.find(char::is_alphabetic)? + 1))
            {
                match command.split_at(command.len() - 1) {
                    (up, "A") => at -= up.parse::<usize>().unwrap(),
                    (down, "B") => at += down.parse::<usize>().unwrap(),
                    ("2", "K") => cleared[at] = true,
                    other => panic!("{other:?}"),
                }
                rest = after;
            }
            // Nothing is cleared above or below what is to be, nor in the middle of a line.
            let (line, row) = rows[at];
            assert_eq!(row, 0, "it ends in the middle of a line: {:?}", self.lines);
            let is_below = |index: usize| index >= at;
            assert!((0..rows.len()).all(|index| cleared[index] == is_below(index) || output == "\r"), "{cleared:?}");
            self.lines.truncate(line);
            self.lines.extend(rest.strip_suffix('\r').unwrap().split("\r\n").map(str::to_owned));
            self.line = self.lines.len() - 1;
        }
    }

    fn written(rows: &[&str]) -> Vec<String> {
        rows.iter().flat_map(|row| [(*row).to_owned(), " ".to_owned()]).collect()
    }

    #[test]
    fn rows_that_were_broken_are_all_taken_away() {
        let (one, two) = ("film.mkv".to_owned() + &"-".repeat(72), "total".to_owned() + &"-".repeat(75));
        let mut rows = BarRows { breaks: true, ..BarRows::default() };
        let mut terminal = Reflowing { lines: vec!["a note".to_owned(), String::new()], line: 1, columns: 80 };
        rows.written = written(&[&one]);
        terminal.feed(&rows.draw(80).replacen('\r', "\r\u{1b}[2K", 1));
        for columns in [80, 40, 33, 7, 80, 100, 20, 1, 80] {
            terminal.columns = columns;
            rows.written = written(&[&one, &two]);
            terminal.feed(&rows.draw(columns));
            assert_eq!(terminal.lines.len(), 3, "at {columns}: {:?}", terminal.lines);
            assert_eq!(terminal.lines[0], "a note");
        }
        terminal.columns = 30;
        terminal.feed(&rows.draw(30));
        assert_eq!(terminal.lines, ["a note", ""]);
    }

    #[test]
    fn rows_that_were_cut_off_are_one_each() {
        let mut rows = BarRows { breaks: false, ..BarRows::default() };
        rows.written = written(&[&"-".repeat(80), &"-".repeat(80)]);
        assert!(rows.draw(80).starts_with("\r--"));
        rows.written = written(&["-", "-"]);
        let cleared = "\u{1b}[1A\u{1b}[2K\u{1b}[1B\u{1b}[2K\u{1b}[1A";
        assert_eq!(rows.draw(20), format!("\r{cleared}-\r\n-\r"));
    }

    #[test]
    fn what_a_terminal_does_is_known_by_its_name() {
        let breaks = |set: &[(&str, &str)]| {
            breaks_rows(|name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(breaks(&[("TERM", "xterm-256color")]) && breaks(&[("TERM", "xterm-kitty")]) && breaks(&[]));
        assert!(breaks(&[("TERM", "screen-256color"), ("TMUX", "/tmp/tmux-0/default,1,0")]));
        for term in ["linux", "st-256color", "screen", "screen.xterm-256color", "vt100"] {
            assert!(!breaks(&[("TERM", term)]), "{term}");
        }
        assert!(!breaks(&[("TERM", "xterm"), ("XTERM_VERSION", "XTerm(390)")]));
    }
}
