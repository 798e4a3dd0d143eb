//! The plain view: a conversation printed line by line, for screen readers and for terminals that can't move their
//! cursor. Nothing is redrawn, and the kernel's line discipline edits the input. The commands are those of the other
//! views.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::time::Instant;

use localization::tr;
use shared::peer::MessageId;
use shared::safe_text::safe_block;
use tokio::sync::mpsc;

use super::command_output::CommandOutput;
use super::conversation_item::ConversationItem;
use super::human_format::format_size;
use super::input_lines::InputLine;
use super::interrupt_forwarder::InterruptForwarder;
use super::line_editor::EditCommand;
use super::line_view::{LineViewModel, ScrollbackItem};
use super::progress_steps::DownloadSteps;
use super::view::{TerminalView, ViewCommand, ViewUpdate};
use super::view_input::{InputAction, ViewInput};
use crate::engine::chat::ConversationName;
use crate::engine::node_event::{FileTransfer, NodeEvent};
use crate::sys::job_control;

/// Queued actions. A full queue leaves further input in the terminal's buffer.
const MAX_QUEUED_INPUTS: usize = 256;
/// Rows have no width limit: the terminal wraps them.
const UNLIMITED_COLUMNS: usize = 1 << 20;

/// The plain view on a terminal.
pub struct PlainViewTerminal {
    model: LineViewModel,
    output: CommandOutput,
    /// Messages typed here, which the terminal has echoed already.
    echoed: VecDeque<String>,
    /// Own messages in the outbox.
    undelivered: HashSet<MessageId>,
    /// True after the reason for queued messages was printed.
    has_reported_held: bool,
    steps: DownloadSteps,
}

impl PlainViewTerminal {
    /// Opens the view; `lines` is the input, which ends the view with its own end. SIGINT is forwarded as a key.
    pub fn open(
        model: LineViewModel,
        output: CommandOutput,
        lines: mpsc::Receiver<io::Result<InputLine>>,
        interrupts: &InterruptForwarder,
    ) -> io::Result<(Self, mpsc::Receiver<ViewInput>)> {
        let keys = spawn_input_translator(lines, interrupts)?;
        let this = Self {
            model,
            output,
            echoed: VecDeque::new(),
            undelivered: HashSet::new(),
            has_reported_held: false,
            steps: DownloadSteps::default(),
        };
        Ok((this, keys))
    }

    fn print_item(&mut self, item: &ScrollbackItem) -> io::Result<()> {
        match item {
            ScrollbackItem::Item(ConversationItem::Entry(entry))
                if entry.is_mine() && self.is_echoed(entry.text.as_received()) =>
            {
                Ok(())
            }
            ScrollbackItem::Item(ConversationItem::Entry(_)) => {
                let rows = self.model.rows_of(item, UNLIMITED_COLUMNS);
                rows.iter().try_for_each(|row| self.output.print_data(row.line.to_string().trim()))
            }
            ScrollbackItem::Rule(text) | ScrollbackItem::Item(ConversationItem::Note(text)) => {
                self.output.print_data(&safe_block(text))
            }
            ScrollbackItem::Item(ConversationItem::Members(changes)) => {
                self.output.print_data(&safe_block(&changes.words()))
            }
            ScrollbackItem::Item(ConversationItem::Problem(text)) => {
                self.output.print_data(&format!("! {}", safe_block(text)))
            }
            // A printed message can't be changed.
            ScrollbackItem::Mark { .. } => Ok(()),
        }
    }

    /// Returns true if the message was typed here. Earlier echoes are dropped: messages come back in order, so those
    /// were refused.
    fn is_echoed(&mut self, text: &str) -> bool {
        let index = self.echoed.iter().position(|echoed| echoed == text);
        if let Some(place) = index {
            self.echoed.drain(..=place);
        }
        index.is_some()
    }

    fn print_event(&mut self, event: &NodeEvent, now: Instant) -> io::Result<()> {
        match event {
            // A changed key is reported by the model.
            NodeEvent::DeliveryHeld { user, why, frozen: false }
                if *self.model.with() == *user && !std::mem::replace(&mut self.has_reported_held, true) =>
            {
                let why = safe_block(why);
                self.output.print_data(&tr!("{why}: message queued; it is sent when {user} can be reached", why, user))
            }
            NodeEvent::MessageQueued { to, message, .. } if *self.model.with() == *to => {
                self.undelivered.insert(message.id);
                Ok(())
            }
            NodeEvent::MessageStateChanged { to, id, state, .. } if *self.model.with() == *to && !state.is_queued() => {
                let was_waiting = self.undelivered.remove(id) && self.has_reported_held && !state.is_given_up();
                if was_waiting && self.undelivered.is_empty() {
                    self.has_reported_held = false;
                    return self.output.print_data(&tr!("delivered: what was queued for {user}", user = to));
                }
                Ok(())
            }
            NodeEvent::Transfer(transfer) => self.print_step(transfer, now),
            _ => Ok(()),
        }
    }

    /// Prints the progress of a download, in steps.
    fn print_step(&mut self, transfer: &FileTransfer, now: Instant) -> io::Result<()> {
        let FileTransfer { peer, name, size: all, .. } = transfer;
        match self.steps.next_step(transfer, now) {
            Some(percent) => {
                let (name, size) = (shared::names::name_encoding::display_name(name.as_str()), format_size(*all));
                self.output.print_data(&tr!(
                    "{name} from {user}: {percent} % of {size}",
                    name,
                    user = peer,
                    percent,
                    size
                ))
            }
            None => Ok(()),
        }
    }
}

impl TerminalView for PlainViewTerminal {
    fn start(&mut self) -> Vec<ViewCommand> {
        self.model.start()
    }

    fn open_conversation(&self) -> Option<&ConversationName> {
        Some(self.model.with())
    }

    fn handle_input(&mut self, key: &ViewInput, now: Instant) -> io::Result<Vec<ViewCommand>> {
        // Without further input, no question could be answered: leave even while transfers run.
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
        if let ViewUpdate::Event(event) | ViewUpdate::StoredHere(event) = news {
            self.print_event(event, now)?;
        }
        Ok(self.model.handle_update(news, now))
    }

    fn draw(&mut self) -> io::Result<bool> {
        self.model.take_items().iter().try_for_each(|item| self.print_item(item))?;
        Ok(false)
    }

    fn suspend(&mut self) -> io::Result<()> {
        // No shell is left that could continue an orphaned process group.
        if job_control::is_orphaned() { Ok(()) } else { job_control::stop_process() }
    }

    fn close(&mut self) -> io::Result<()> {
        self.draw().map(|_| ())
    }
}

/// Translates each line to the keys that would have typed it.
fn spawn_input_translator(
    mut lines: mpsc::Receiver<io::Result<InputLine>>,
    interrupts: &InterruptForwarder,
) -> io::Result<mpsc::Receiver<ViewInput>> {
    let (keys, receiver) = mpsc::channel(MAX_QUEUED_INPUTS);
    interrupts.forward_to(&keys);
    // The thread is never joined; it ends with the input or the process.
    std::thread::Builder::new().name("lines".to_owned()).spawn(move || {
        while let Some(line) = lines.blocking_recv() {
            let Ok(line) = line else { break };
            let presses = [
                // A line that was too long to be sent is still in the editor.
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
        // After the view has ended, the channel is closed.
        let _ = keys.blocking_send(ViewInput(InputAction::EndOfInput));
    })?;
    Ok(receiver)
}
