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

use super::command_output::CommandOutput;
use super::human_format::format_size;
use super::input_lines::InputLine;
use super::interrupt_forwarder::InterruptForwarder;
use super::line_editor::EditCommand;
use super::line_view::{LineViewModel, ScrollbackItem};
use super::progress_steps::ProgressSteps;
use super::view::{TerminalView, ViewCommand, ViewUpdate};
use super::view_input::{InputAction, ViewInput};
use crate::engine::node_event::{FileTransfer, NodeEvent, TransferDirection, TransferState};
use crate::sys::job_control;

/// Presses that wait to be looked at. Beyond, the terminal waits.
const MAX_QUEUED_INPUTS: usize = 256;
/// Rows are as long as their text: the terminal breaks them.
const UNLIMITED_COLUMNS: usize = 1 << 20;

/// The plain view in a terminal.
pub struct PlainViewTerminal {
    with: UserName,
    model: LineViewModel,
    output: CommandOutput,
    /// What was written here and stands on the screen already.
    echoed: VecDeque<String>,
    /// Messages of which it was said that they wait.
    undelivered: HashSet<MessageId>,
    /// It was said why nothing goes.
    has_reported_held: bool,
    steps: HashMap<FileName, ProgressSteps>,
}

impl PlainViewTerminal {
    /// Shows a conversation in lines; `lines` are what is typed, and end with the input. The terminal makes a signal of
    /// Ctrl-C, which is a key here.
    pub fn open(
        model: LineViewModel,
        with: &UserName,
        output: CommandOutput,
        lines: mpsc::Receiver<io::Result<InputLine>>,
        interrupts: &InterruptForwarder,
    ) -> io::Result<(Self, mpsc::Receiver<ViewInput>)> {
        let keys = spawn_input_translator(lines, interrupts)?;
        let this = Self {
            with: with.clone(),
            model,
            output,
            echoed: VecDeque::new(),
            undelivered: HashSet::new(),
            has_reported_held: false,
            steps: HashMap::new(),
        };
        Ok((this, keys))
    }

    fn print_item(&mut self, item: &ScrollbackItem) -> io::Result<()> {
        match item {
            ScrollbackItem::Entry(entry) if entry.is_mine && self.is_echoed(entry.text.as_received()) => Ok(()),
            ScrollbackItem::Entry(_) => {
                let rows = self.model.rows_of(item, UNLIMITED_COLUMNS);
                rows.iter().try_for_each(|row| self.output.print_data(row.line.to_string().trim()))
            }
            ScrollbackItem::Rule(text) | ScrollbackItem::Note(text) => self.output.print_data(&safe_block(text)),
            ScrollbackItem::Problem(text) => self.output.print_data(&format!("! {}", safe_block(text))),
            // Where the message stands can't be drawn over.
            ScrollbackItem::Mark { .. } => Ok(()),
        }
    }

    /// Tells whether a message was written here; those before it that never came will not come.
    fn is_echoed(&mut self, text: &str) -> bool {
        let index = self.echoed.iter().position(|echoed| echoed == text);
        if let Some(place) = index {
            self.echoed.drain(..=place);
        }
        index.is_some()
    }

    fn print_event(&mut self, event: &NodeEvent, now: Instant) -> io::Result<()> {
        match event {
            // Another reason is told elsewhere: a changed key, above all.
            NodeEvent::DeliveryHeld { user, why, frozen: false }
                if *user == self.with && !std::mem::replace(&mut self.has_reported_held, true) =>
            {
                self.output
                    .print_data(&format!("{}: message queued; it goes when {user} can be reached", safe_block(why)))
            }
            NodeEvent::MessageQueued { to, message, .. } if *to == self.with => {
                self.undelivered.insert(message.id);
                Ok(())
            }
            NodeEvent::MessageStateChanged { to, id, state, .. } if *to == self.with && !state.is_queued() => {
                let was_waiting = self.undelivered.remove(id) && self.has_reported_held && !state.is_given_up();
                if was_waiting && self.undelivered.is_empty() {
                    self.has_reported_held = false;
                    return self.output.print_data(&format!("delivered: what was queued for {to}"));
                }
                Ok(())
            }
            NodeEvent::Transfer(transfer) => self.print_step(transfer, now),
            _ => Ok(()),
        }
    }

    /// Tells how far a file is, now and then.
    fn print_step(&mut self, transfer: &FileTransfer, now: Instant) -> io::Result<()> {
        let FileTransfer { peer, name, direction, bytes, size: all, state } = transfer;
        if *direction != TransferDirection::Down || *state != TransferState::Running {
            self.steps.remove(name);
            return Ok(());
        }
        let steps = self.steps.entry(name.clone()).or_insert_with(|| ProgressSteps::new(now));
        match steps.next_step(*bytes, *all, now) {
            Some(percent) => {
                let shown = shared::names::name_encoding::display_name(name.as_str());
                self.output.print_data(&format!("{shown} from {peer}: {percent} % of {}", format_size(*all)))
            }
            None => Ok(()),
        }
    }
}

impl TerminalView for PlainViewTerminal {
    fn start(&mut self) -> Vec<ViewCommand> {
        self.model.start()
    }

    fn open_conversation(&self) -> Option<&UserName> {
        Some(self.model.with())
    }

    fn handle_input(&mut self, key: &ViewInput, now: Instant) -> io::Result<Vec<ViewCommand>> {
        // The input has ended: nothing could be answered any more.
        let is_over = key.0 == InputAction::EndOfInput;
        let wishes = if is_over { vec![ViewCommand::Leave] } else { self.model.handle_input(&key.0, now) };
        for wish in &wishes {
            if let ViewCommand::Send { text, .. } = wish {
                self.echoed.push_back(text.clone());
            }
        }
        Ok(wishes)
    }

    fn handle_update(&mut self, news: &ViewUpdate, now: Instant) -> io::Result<Vec<ViewCommand>> {
        if let ViewUpdate::Event(event) = news {
            self.print_event(event, now)?;
        }
        Ok(self.model.handle_update(news, now))
    }

    fn draw(&mut self) -> io::Result<bool> {
        self.model.take_items().iter().try_for_each(|item| self.print_item(item))?;
        Ok(false)
    }

    fn suspend(&mut self) -> io::Result<()> {
        if job_control::is_orphaned() { Ok(()) } else { job_control::stop_process() }
    }

    fn close(&mut self) -> io::Result<()> {
        self.draw().map(|_| ())
    }
}

/// Turns lines into what pressing their letters would be.
fn spawn_input_translator(
    mut lines: mpsc::Receiver<io::Result<InputLine>>,
    interrupts: &InterruptForwarder,
) -> io::Result<mpsc::Receiver<ViewInput>> {
    let (keys, receiver) = mpsc::channel(MAX_QUEUED_INPUTS);
    interrupts.forward_to(&keys);
    // It ends with the input or with the process.
    std::thread::Builder::new().name("lines".to_owned()).spawn(move || {
        while let Some(line) = lines.blocking_recv() {
            let Ok(line) = line else { break };
            let presses = [
                // What was too long to be sent stays in the line otherwise.
                InputAction::Edit(EditCommand::End),
                InputAction::Edit(EditCommand::CutToStart),
                InputAction::Edit(EditCommand::Insert(line.text)),
                InputAction::Submit,
            ];
            let told = line.has_replacements.then_some(InputAction::Unreadable);
            if told.into_iter().chain(presses).any(|press| keys.blocking_send(ViewInput(press)).is_err()) {
                return;
            }
        }
        // Nobody listens any more when the view was left otherwise.
        let _ = keys.blocking_send(ViewInput(InputAction::EndOfInput));
    })?;
    Ok(receiver)
}
