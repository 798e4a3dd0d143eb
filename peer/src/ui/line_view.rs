//! A conversation whose past is the terminal's own: what is said goes into the scrollback, a few rows stay below.
//!
//! ```text
//! ✓ 14:03:07 you: lunch?                          above: the terminal's, to scroll and to select; a mark is drawn
//!   14:03:09 bob: at one                          over while its row can be seen
//! > see you th█                                   below: the line being written,
//! ↓ menu.pdf from bob  ━━━━━━───── 52%  11 MB/s   what is on its way, what Tab found, what is asked,
//! ● bob online · 1 waiting · carol 2 unread       how things stand
//! ```

mod late;
mod model;
mod status;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Instant;

use ratatui_core::layout::Position;
use ratatui_core::text::Span;
use shared::UserName;
use tokio::sync::mpsc;

pub use model::LineView;

pub(super) use self::model::Item;
use super::inline::{InlineScreen, RowId};
use super::keys::{self, Key, Press};
use super::look::Mark;
use super::output;
use super::raw::{Kind, Pen, RawTerminal, ask_for_place, size};
use super::view::{News, View, Wish};

/// Messages that are put above with one picture: no key waits for more.
const AT_ONCE: usize = 25;

/// The line view in a terminal.
pub struct LineTerminal {
    model: LineView,
    screen: InlineScreen<Pen>,
    pen: Pen,
    place: Place,
    raw: RawTerminal,
}

/// Whether it is known where things are on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Known,
    /// Somebody else wrote to the terminal: a place is found when the terminal tells where the cursor is.
    Lost,
    /// The terminal is the shell's.
    Away,
}

impl LineTerminal {
    /// Takes the terminal.
    ///
    /// # Errors
    /// As the terminal says.
    pub fn open(model: LineView) -> io::Result<(Self, mpsc::Receiver<Key>)> {
        let raw = RawTerminal::enter(Kind::Inline)?;
        let pen = Pen::default();
        let screen = InlineScreen::new(pen.clone(), size());
        let keys = keys::read(true)?;
        Ok((Self { model, screen, pen, place: Place::Lost, raw }, keys))
    }

    /// Takes the terminal again, unless others have it.
    fn come_back(&mut self) -> io::Result<()> {
        if self.raw.retake()? {
            self.place = Place::Lost;
        }
        Ok(())
    }

    fn put_above(&mut self, items: Vec<Item>) -> io::Result<()> {
        let columns = usize::from(self.screen.size().width);
        let mut late = Vec::new();
        for item in items {
            match item {
                Item::Mark { mark, row, ts } => {
                    let span = Span::styled(self.model.look().mark(mark), self.model.look().mark_style(mark));
                    let is_seen = row.is_some_and(|row| self.screen.patch(row, &span).unwrap_or(false));
                    if !is_seen && mark == Mark::Stored {
                        late.push(ts);
                    }
                }
                item => {
                    let row: RowId = self.screen.insert(&self.model.rows_of(&item, columns))?;
                    if let Item::Entry(entry) = item {
                        self.model.placed(entry.id, row);
                    }
                }
            }
        }
        if let Some(note) = self.model.late_note(&late) {
            self.screen.insert(&self.model.rows_of(&note, columns))?;
        }
        Ok(())
    }
}

impl View for LineTerminal {
    fn begin(&mut self) -> Vec<Wish> {
        self.model.begin()
    }

    fn open(&self) -> Option<&UserName> {
        Some(self.model.with())
    }

    fn key(&mut self, key: &Key, now: Instant) -> io::Result<Vec<Wish>> {
        match &key.0 {
            Press::Resized(cursor) => {
                let cursor = cursor.map(|(x, y)| Position::new(x, y));
                match self.place {
                    Place::Known => self.screen.resized(size(), cursor)?,
                    Place::Lost => self.screen.begin_again(size(), cursor)?,
                    Place::Away => return Ok(Vec::new()),
                }
                self.place = Place::Known;
                Ok(Vec::new())
            }
            Press::Redraw => ask_for_place().map(|()| Vec::new()),
            press => Ok(self.model.press(press, now)),
        }
    }

    fn news(&mut self, news: &News, now: Instant) -> io::Result<Vec<Wish>> {
        match news {
            News::Resumed => {
                self.place = Place::Away;
                self.come_back()?;
                Ok(Vec::new())
            }
            News::Tick if self.place == Place::Away => {
                // A shell brings a process to the front that was running behind it without a signal.
                self.come_back()?;
                Ok(self.model.news(news, now))
            }
            news => Ok(self.model.news(news, now)),
        }
    }

    fn draw(&mut self) -> io::Result<bool> {
        // With another size, the key reader is about to tell where everything is now.
        let known = self.screen.size();
        if self.place != Place::Known || size() != known {
            return Ok(false);
        }
        for line in output::take_held() {
            self.model.news(&News::Note(line), Instant::now());
        }
        let items = self.model.take_some(AT_ONCE);
        self.put_above(items)?;
        let (written, below) = self.model.below(known.width.into(), known.height.into());
        self.screen.draw(self.model.look().bold(), written, below)?;
        self.pen.put()?;
        Ok(self.model.has_items())
    }

    fn suspend(&mut self) -> io::Result<()> {
        if !RawTerminal::may_suspend() {
            return Ok(());
        }
        self.screen.close()?;
        self.pen.put()?;
        self.place = Place::Away;
        self.raw.suspend()
    }

    fn close(&mut self) -> io::Result<()> {
        if self.place == Place::Known {
            let items = self.model.take_items();
            self.put_above(items)?;
            self.screen.close()?;
        }
        self.pen.put()
    }
}
