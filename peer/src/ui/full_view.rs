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
mod painter;
mod talk;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Instant;

use shared::UserName;
use tokio::sync::mpsc;

pub use model::FullView;

use self::painter::{Painter, Picture};
use super::keys::{self, Key, Press};
use super::output;
use super::raw::{Kind, Pen, RawTerminal, size};
use super::view::{News, View, Wish};

/// The full view in a terminal.
pub struct FullTerminal {
    model: FullView,
    painter: Painter<Pen>,
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
        let painter = Painter::new(pen.clone());
        let keys = keys::read(false)?;
        Ok((Self { model, painter, pen, away: false, raw }, keys))
    }
}

impl FullTerminal {
    /// Takes the terminal again, unless others have it.
    fn come_back(&mut self) -> io::Result<()> {
        self.away = !self.raw.retake()?;
        self.painter.forget();
        Ok(())
    }
}

impl View for FullTerminal {
    fn begin(&mut self) -> Vec<Wish> {
        self.model.begin()
    }

    fn open(&self) -> Option<&UserName> {
        self.model.open()
    }

    fn key(&mut self, key: &Key, now: Instant) -> io::Result<Vec<Wish>> {
        match &key.0 {
            Press::Redraw => {
                self.painter.forget();
                Ok(Vec::new())
            }
            // Drawing looks at the size by itself.
            Press::Resized(_) => Ok(Vec::new()),
            press => Ok(self.model.press(press, now)),
        }
    }

    fn news(&mut self, news: &News, now: Instant) -> io::Result<Vec<Wish>> {
        match news {
            News::Resumed => {
                self.come_back()?;
                Ok(Vec::new())
            }
            news => {
                // A shell brings a process to the front that was running behind it without a signal.
                if self.away && matches!(news, News::Tick) {
                    self.come_back()?;
                }
                Ok(self.model.news(news, now))
            }
        }
    }

    fn draw(&mut self) -> io::Result<bool> {
        if self.away {
            return Ok(false);
        }
        for line in output::take_held() {
            self.model.news(&News::Note(line), Instant::now());
        }
        let size = size();
        self.model.fit(size);
        let mut picture = Picture::new(size);
        draw::draw(&self.model, &mut picture);
        self.painter.paint(picture)?;
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
