//! A conversation in lines, for a terminal that is read aloud or can't move its cursor: each thing is said once, nothing is
//! drawn again, and the system edits the line. The commands are those of the other views.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::time::Instant;

use shared::FileName;
use shared::UserName;
use shared::peer::MessageId;
use shared::safe_text::safe_block;
use tokio::sync::mpsc;

use super::input_lines::InputLine;
use super::interrupts::Interrupts;
use super::keys::{Key, Press};
use super::line_editor::Edit;
use super::line_view::{Item, LineView};
use super::output::Output;
use super::steps::Steps;
use super::text::size;
use super::view::{News, View, Wish};
use crate::engine::event::{Course, Event, Transfer, TransferState};
use crate::sys::job;

/// Presses that wait to be looked at. Beyond, the terminal waits.
const AHEAD: usize = 256;
/// Rows are as long as their text: the terminal breaks them.
const COLUMNS: usize = 1 << 20;

/// The plain view in a terminal.
pub struct PlainTerminal {
    with: UserName,
    model: LineView,
    output: Output,
    /// What was written here and stands on the screen already.
    echoed: VecDeque<String>,
    /// Messages of which it was said that they wait.
    waiting: HashSet<MessageId>,
    /// It was said why nothing goes.
    is_held: bool,
    steps: HashMap<FileName, Steps>,
}

impl PlainTerminal {
    /// Shows a conversation in lines; `lines` are what is typed, and end with the input. The terminal makes a signal of
    /// Ctrl-C, which is a key here.
    pub fn open(
        model: LineView,
        with: &UserName,
        output: Output,
        lines: mpsc::Receiver<io::Result<InputLine>>,
        interrupts: &Interrupts,
    ) -> io::Result<(Self, mpsc::Receiver<Key>)> {
        let keys = typed(lines, interrupts)?;
        let this = Self {
            with: with.clone(),
            model,
            output,
            echoed: VecDeque::new(),
            waiting: HashSet::new(),
            is_held: false,
            steps: HashMap::new(),
        };
        Ok((this, keys))
    }

    fn put(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::Entry(entry) if entry.mine && self.is_echoed(entry.text.as_received()) => Ok(()),
            Item::Entry(_) => {
                let rows = self.model.rows_of(item, COLUMNS);
                rows.iter().try_for_each(|row| self.output.data(row.line.to_string().trim()))
            }
            Item::Rule(text) | Item::Note(text) => self.output.data(&safe_block(text)),
            Item::Problem(text) => self.output.data(&format!("! {}", safe_block(text))),
            // Where the message stands can't be drawn over.
            Item::Mark { .. } => Ok(()),
        }
    }

    /// Tells whether a message was written here; those before it that never came will not come.
    fn is_echoed(&mut self, text: &str) -> bool {
        let place = self.echoed.iter().position(|echoed| echoed == text);
        if let Some(place) = place {
            self.echoed.drain(..=place);
        }
        place.is_some()
    }

    fn hear(&mut self, event: &Event, now: Instant) -> io::Result<()> {
        match event {
            // Another reason is told elsewhere: a changed key, above all.
            Event::Held { user, why, frozen: false }
                if *user == self.with && !std::mem::replace(&mut self.is_held, true) =>
            {
                self.output.data(&format!("{}: message queued; it goes when {user} can be reached", safe_block(why)))
            }
            Event::Said { to, message, .. } if *to == self.with => {
                self.waiting.insert(message.id);
                Ok(())
            }
            Event::State { to, id, state, .. } if *to == self.with && !state.is_open() => {
                let was_waiting = self.waiting.remove(id) && self.is_held && !state.is_given_up();
                if was_waiting && self.waiting.is_empty() {
                    self.is_held = false;
                    return self.output.data(&format!("delivered: what was queued for {to}"));
                }
                Ok(())
            }
            Event::Transfer(transfer) => self.step(transfer, now),
            _ => Ok(()),
        }
    }

    /// Tells how far a file is, now and then.
    fn step(&mut self, transfer: &Transfer, now: Instant) -> io::Result<()> {
        let Transfer { peer, name, direction, bytes, size: all, state } = transfer;
        if *direction != Course::Down || *state != TransferState::Running {
            self.steps.remove(name);
            return Ok(());
        }
        let steps = self.steps.entry(name.clone()).or_insert_with(|| Steps::new(now));
        match steps.reach(*bytes, *all, now) {
            Some(percent) => {
                let shown = shared::names::stand_in::shown(name.as_str());
                self.output.data(&format!("{shown} from {peer}: {percent} % of {}", size(*all)))
            }
            None => Ok(()),
        }
    }
}

impl View for PlainTerminal {
    fn begin(&mut self) -> Vec<Wish> {
        self.model.begin()
    }

    fn open(&self) -> Option<&UserName> {
        Some(self.model.with())
    }

    fn key(&mut self, key: &Key, now: Instant) -> io::Result<Vec<Wish>> {
        // The input has ended: nothing could be answered any more.
        let is_over = key.0 == Press::EndOfInput;
        let wishes = if is_over { vec![Wish::Leave] } else { self.model.press(&key.0, now) };
        for wish in &wishes {
            if let Wish::Say { text, .. } = wish {
                self.echoed.push_back(text.clone());
            }
        }
        Ok(wishes)
    }

    fn news(&mut self, news: &News, now: Instant) -> io::Result<Vec<Wish>> {
        if let News::Event(event) = news {
            self.hear(event, now)?;
        }
        Ok(self.model.news(news, now))
    }

    fn draw(&mut self) -> io::Result<bool> {
        self.model.take_items().iter().try_for_each(|item| self.put(item))?;
        Ok(false)
    }

    fn suspend(&mut self) -> io::Result<()> {
        if job::is_orphaned() { Ok(()) } else { job::stop() }
    }

    fn close(&mut self) -> io::Result<()> {
        self.draw().map(|_| ())
    }
}

/// Turns lines into what pressing their letters would be.
fn typed(mut lines: mpsc::Receiver<io::Result<InputLine>>, interrupts: &Interrupts) -> io::Result<mpsc::Receiver<Key>> {
    let (keys, receiver) = mpsc::channel(AHEAD);
    interrupts.become_keys(&keys);
    // It ends with the input or with the process.
    std::thread::Builder::new().name("lines".to_owned()).spawn(move || {
        while let Some(line) = lines.blocking_recv() {
            let Ok(line) = line else { break };
            let presses = [
                // What was too long to be sent stays in the line otherwise.
                Press::Edit(Edit::End),
                Press::Edit(Edit::CutToStart),
                Press::Edit(Edit::Insert(line.text)),
                Press::Submit,
            ];
            let told = line.has_marks.then_some(Press::Unreadable);
            if told.into_iter().chain(presses).any(|press| keys.blocking_send(Key(press)).is_err()) {
                return;
            }
        }
        // Nobody listens any more when the view was left otherwise.
        let _ = keys.blocking_send(Key(Press::EndOfInput));
    })?;
    Ok(receiver)
}
