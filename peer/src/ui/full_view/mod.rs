//! Everybody at once, on a screen of its own: people, the conversation with one of them, their files, what is on its way.
//!
//! ```text
//!  [People]            bob                                  bob's files
//! ▸● bob               ✓ 14:03:07 you: lunch?                  2.1 MB  menu.pdf
//!  ● carol  2            14:03:09 bob: at one                 30.0 MB  film.mkv
//!  ○ dave              > see you th█
//!  ↓ film.mkv from bob  ━━━━━━━━─────────── 52%  11.0 MB/s     3.1 s
//!  Tab: next pane  Enter: talk  ?: help  Ctrl-D: leave
//! ```

mod draw;
mod model;
mod talk;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Instant;

use ratatui_core::backend::{Backend, ClearType};
use ratatui_core::terminal::Terminal;
use tokio::sync::mpsc;

pub use model::FullView;

use super::keys::{self, Key, Press};
use super::output;
use super::raw::{Kind, Pen, RawTerminal, Screen, size};
use super::view::{News, View, Wish};

/// The full view in a terminal.
pub struct FullTerminal {
    model: FullView,
    terminal: Terminal<Screen>,
    pen: Pen,
    away: bool,
    raw: RawTerminal,
}

impl FullTerminal {
    /// Takes the terminal.
    ///
    /// # Errors
    /// As the terminal says.
    pub fn open(mut model: FullView) -> io::Result<(Self, mpsc::Receiver<Key>)> {
        model.fit(size());
        let raw = RawTerminal::enter(Kind::Alternate)?;
        let pen = Pen::default();
        let terminal = empty_screen(&pen)?;
        let keys = keys::read(false)?;
        Ok((Self { model, terminal, pen, away: false, raw }, keys))
    }
}

/// An empty screen to draw on. A terminal's own way to clear asks where the cursor is, which only the key reader may.
fn empty_screen(pen: &Pen) -> io::Result<Terminal<Screen>> {
    let mut screen = Screen::new(pen.clone());
    screen.clear_region(ClearType::All)?;
    Terminal::new(screen)
}

impl View for FullTerminal {
    fn begin(&mut self) -> Vec<Wish> {
        self.model.begin()
    }

    fn key(&mut self, key: &Key, now: Instant) -> io::Result<Vec<Wish>> {
        match &key.0 {
            Press::Redraw => {
                self.terminal = empty_screen(&self.pen)?;
                Ok(Vec::new())
            }
            // Drawing looks at the size by itself.
            Press::Resized(_) => Ok(Vec::new()),
            press => Ok(self.model.press(press, now)),
        }
    }

    fn news(&mut self, news: &News, now: Instant) -> io::Result<Vec<Wish>> {
        if matches!(news, News::Resumed) {
            self.away = false;
            self.raw.retake()?;
            self.terminal = empty_screen(&self.pen)?;
            return Ok(Vec::new());
        }
        Ok(self.model.news(news, now))
    }

    fn draw(&mut self) -> io::Result<bool> {
        if self.away {
            return Ok(false);
        }
        for line in output::take_held() {
            self.model.news(&News::Note(line), Instant::now());
        }
        self.model.fit(size());
        let model = &self.model;
        self.terminal.draw(|frame| {
            let area = frame.area();
            if let Some(cursor) = draw::draw(model, frame.buffer_mut(), area) {
                frame.set_cursor_position(cursor);
            }
        })?;
        self.pen.put()?;
        Ok(false)
    }

    fn suspend(&mut self) -> io::Result<()> {
        if !RawTerminal::may_suspend() {
            return Ok(());
        }
        self.away = true;
        self.raw.suspend()
    }

    fn close(&mut self) -> io::Result<()> {
        self.pen.put()
    }
}
