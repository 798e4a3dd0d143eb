//! Filter mode of `peer chat`: each input line is sent as a message, each received message is printed.
//!
//! Each line gets its message id when it is read. If the node ends, messages without a reply are sent to the next node
//! under the same id, so that they are stored once.

mod unsent_messages;

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal;

use localization::tr;
use serde_json::json;
use shared::UserName;
use shared::peer::{ChatMessage, MessageId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::common_words::message_state_words;
use super::super::context::CommandContext;
use super::super::message_delivery::{WAIT_NOTICE_DELAY, note_queued, note_waiting};
use super::super::missed_messages::{MissedMessage, UndeliveredMessages};
use crate::engine::chat::{self, HistoryQuery, MessageDirection, MessageState, StoredMessage};
use crate::engine::node::{FlushReport, NodeApi, NodeHandle, NodeLifetime};
use crate::engine::node_connection;
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, ErrorKind, LocalUser, run_blocking};
use crate::ui::{InputLine, excerpt, message_lines, spawn_line_reader};
use crate::util::TranslatedText;

/// Messages sent to the node before the first of them is answered.
const MAX_IN_FLIGHT: usize = 64;

/// The acts that the node was asked for, with their outcomes.
type NodeAnswers = JoinSet<NodeAnswer>;

/// The answer of the node to one act.
enum NodeAnswer {
    /// To the message of this number.
    Message(u64, Result<(), Error>),
    /// To the delivery of everything at the end.
    Flush(Result<FlushReport, Error>),
    /// To a read mark.
    ReadMark(Result<(), Error>),
}

/// The lines of standard input.
type InputLineReceiver = mpsc::Receiver<std::io::Result<InputLine>>;

/// Runs until the input has ended and its messages were stored or tried.
pub(super) async fn run(context: &CommandContext, me: &LocalUser, user: &UserName, now: bool) -> Result<(), Error> {
    let mut input = spawn_line_reader()?;
    // Everything after this place is printed, even if it arrives before there is a node to report it.
    let last = read_history(me, HistoryQuery::with(user, 1)).await?.last().map_or(0, |stored| stored.seq);
    let node = node_connection::open_node(&context.cancel, me, NodeLifetime::Command).await?;
    if std::io::stdin().is_terminal() {
        context.output.note(&tr!("talking to {user}: each line is a message, Ctrl-D leaves", user));
    }
    ChatFilter::new(context, me, user, now, last).run(node, &mut input).await
}

/// Makes a message of an input line.
///
/// # Errors
/// [`Error::Usage`] with an excerpt of the line, which alone is rejected.
fn parse_message(line: &InputLine) -> Result<ChatMessage, Error> {
    let composed = match line.has_replacements {
        true => Err(Error::Usage(tr!("it is not UTF-8"))),
        false => chat::compose(&line.text),
    };
    let text = excerpt(&line.text);
    composed.map_err(|why| Error::Usage(tr!("a line was not sent ({text}): {why}", text, why)))
}

/// State of the filter, kept across nodes.
struct ChatFilter<'a> {
    context: &'a CommandContext,
    me: &'a LocalUser,
    user: &'a UserName,
    now: bool,
    is_input_open: bool,
    has_sent: bool,
    /// The place in the history of the last message printed, or present at the start.
    last_seq: i64,
    /// Messages that a node ended without storing for certain; they are sent before the next line.
    resend: VecDeque<ChatMessage>,
    /// Sent messages without an answer yet, by number.
    in_flight: BTreeMap<u64, ChatMessage>,
    sent_count: u64,
    /// Messages whose outcome was not yet printed.
    undelivered: UndeliveredMessages,
    is_flushing: bool,
    failure: Option<Error>,
}

impl<'a> ChatFilter<'a> {
    fn new(context: &'a CommandContext, me: &'a LocalUser, user: &'a UserName, now: bool, last_seq: i64) -> Self {
        Self {
            context,
            me,
            user,
            now,
            is_input_open: true,
            has_sent: false,
            last_seq,
            resend: VecDeque::new(),
            in_flight: BTreeMap::new(),
            sent_count: 0,
            undelivered: UndeliveredMessages::default(),
            is_flushing: false,
            failure: None,
        }
    }

    async fn run(mut self, mut node: NodeHandle, input: &mut InputLineReceiver) -> Result<(), Error> {
        loop {
            let flushed = match self.relay(&node, input).await {
                Err(ended @ Error::NodeGone { .. }) => {
                    node = self.switch_node(node, ended, input).await?;
                    continue;
                }
                Err(Error::Interrupted) => Err(self.handle_interrupt().await),
                flushed => flushed,
            };
            // First: if this process ran the node, its error is the reason for the other one.
            node.close().await?;
            return self.finish(flushed?);
        }
    }

    async fn relay(&mut self, node: &NodeApi, input: &mut InputLineReceiver) -> Result<FlushReport, Error> {
        // Watch before reading the history, so that no message falls between the two.
        let mut events = node.watch(Some(self.user)).await?;
        let node = &node.without_timeout();
        let mut answers = JoinSet::new();
        self.catch_up(node, &mut answers).await?;
        let mut is_patient = true;
        loop {
            // With `--now` one at a time: an interruption then leaves at most one message in doubt.
            let ahead = if self.now { 1 } else { MAX_IN_FLIGHT };
            while self.in_flight.len() < ahead
                && let Some(message) = self.resend.pop_front()
            {
                self.send(node, &mut answers, message);
            }
            if !self.is_input_open && self.in_flight.is_empty() && !self.is_flushing {
                // An empty input is a script's mistake more often than a wish.
                if !self.has_sent {
                    return Err(Error::Usage(tr!("the message is empty")));
                }
                self.is_flushing = true;
                let (node, user) = (node.clone(), self.user.clone());
                answers.spawn(async move { NodeAnswer::Flush(node.flush(&user).await) });
            }
            // While the input is open a quiet tracker is no news; at its end the user waits for the exit.
            let is_waiting = is_patient && !self.is_input_open;
            tokio::select! {
                () = self.context.cancel.cancelled() => return Err(Error::Interrupted),
                line = input.recv(), if self.is_input_open && self.in_flight.len() < ahead => {
                    match line.transpose()? {
                        Some(line) => self.handle_line(node, &mut answers, &line)?,
                        None => self.is_input_open = false,
                    }
                }
                Some(answer) = next_answer(&mut answers) => {
                    // Events that precede an answer are handled first.
                    while let Some(event) = events.next_buffered() {
                        self.handle_event(event, node, &mut answers).await?;
                    }
                    match answer? {
                        NodeAnswer::Flush(flushed) => {
                            // The read marks of what was printed last.
                            while answers.join_next().await.is_some() {}
                            return flushed;
                        }
                        NodeAnswer::Message(number, stored) => self.handle_answer(number, stored)?,
                        NodeAnswer::ReadMark(Err(ended @ Error::NodeGone { .. })) => return Err(ended),
                        // Without the mark the message stays unread, and no more is lost.
                        NodeAnswer::ReadMark(_) => {}
                    }
                }
                event = events.next() => match event {
                    Some(event) => self.handle_event(event, node, &mut answers).await?,
                    None => return Err(Error::NodeGone { why: tr!("it ended") }),
                },
                () = tokio::time::sleep(WAIT_NOTICE_DELAY), if is_waiting => {
                    is_patient = false;
                    note_waiting(self.context, self.user);
                }
            }
        }
    }

    fn handle_line(&mut self, node: &NodeApi, answers: &mut NodeAnswers, line: &InputLine) -> Result<(), Error> {
        if line.text.trim().is_empty() {
            return Ok(());
        }
        self.has_sent = true;
        match parse_message(line) {
            Ok(message) => self.send(node, answers, message),
            Err(error) => {
                // Only this line is lost: the others are still sent.
                self.context.output.warning(&error.to_string());
                self.failure.get_or_insert(error);
            }
        }
        Ok(())
    }

    /// Gives a message to the node, which takes them in this order.
    fn send(&mut self, node: &NodeApi, answers: &mut NodeAnswers, message: ChatMessage) {
        self.sent_count += 1;
        let (number, now) = (self.sent_count, self.now);
        // Nothing is stored at the places up to the last one any more.
        self.undelivered.add(message.id, self.last_seq + 1);
        self.in_flight.insert(number, message.clone());
        let (node, to) = (node.clone(), self.user.clone());
        // Tasks of this runtime begin in the order of their spawning, and with it messages are stored in order.
        answers.spawn(async move {
            let taken = match now {
                true => node.deliver(&to, message, true).await.map(|_| ()),
                false => node.queue_message(&to, message).await.map(|_| ()),
            };
            NodeAnswer::Message(number, taken)
        });
    }

    fn handle_answer(&mut self, number: u64, stored: Result<(), Error>) -> Result<(), Error> {
        // Without an answer it stays in flight: the next node gets it again.
        if let Err(ended @ Error::NodeGone { .. }) = stored {
            return Err(ended);
        }
        if let Some(message) = self.in_flight.remove(&number)
            && stored.is_err()
        {
            // It was never stored, so no event about its outcome will follow.
            self.undelivered.settle(message.id);
        }
        stored
    }

    async fn handle_event(&mut self, event: NodeEvent, node: &NodeApi, answers: &mut NodeAnswers) -> Result<(), Error> {
        match event {
            // `catch_up` may have printed it before its event came.
            NodeEvent::Received { from, message, seq, at } if from == *self.user && seq > self.last_seq => {
                let (direction, state) = (MessageDirection::In, MessageState::Received);
                self.print_received(
                    StoredMessage { seq, peer: from, direction, message, state, at, room: None },
                    node,
                    answers,
                )?;
            }
            // Print missed messages before the next one: its read mark covers everything before it.
            NodeEvent::EventsMissed { .. } => self.catch_up(node, answers).await?,
            NodeEvent::MessageStateChanged { to, id, state, why, kind } if to == *self.user && !state.is_queued() => {
                self.handle_settled(id, state, why, kind)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_settled(
        &mut self,
        id: MessageId,
        state: MessageState,
        why: Option<TranslatedText>,
        kind: Option<ErrorKind>,
    ) -> Result<(), Error> {
        // Not one of another process, and not one whose outcome `catch_up` found before its event came.
        if self.undelivered.settle(id) { self.report_outcome(id, state, why, kind) } else { Ok(()) }
    }

    fn report_outcome(
        &mut self,
        id: MessageId,
        state: MessageState,
        why: Option<TranslatedText>,
        kind: Option<ErrorKind>,
    ) -> Result<(), Error> {
        if self.context.output.is_json() {
            let ack = json!({ "to": self.user, "peer": self.user, "id": id, "state": state, "why": why });
            self.context.output.print_object("ack", &ack)?;
        }
        if let (true, Some(why)) = (state.is_given_up(), why) {
            let message = why.to_string();
            self.failure.get_or_insert(Error::Relayed { kind: kind.unwrap_or(ErrorKind::Refused), message });
        }
        Ok(())
    }

    /// Prints from the history the messages and outcomes whose events were missed.
    async fn catch_up(&mut self, node: &NodeApi, answers: &mut NodeAnswers) -> Result<(), Error> {
        let with = Some(self.user.clone().into());
        for missed in self.undelivered.read_missed(&self.me.profile, with, self.last_seq).await? {
            match missed {
                MissedMessage::New(stored) if stored.direction == MessageDirection::In => {
                    self.print_received(stored, node, answers)?;
                }
                MissedMessage::New(_) => {}
                MissedMessage::Settled(StoredMessage { message, state, .. }) => {
                    // Another node has no news of it.
                    self.resend.retain(|unsent| unsent.id != message.id);
                    // The history has no reason.
                    let text = excerpt(message.text.as_received());
                    let words =
                        || tr!("a line was not sent ({text}): {why}", text = &text, why = message_state_words(state));
                    let why = state.is_given_up().then(|| TranslatedText::new(words));
                    let kind = (state == MessageState::Expired).then_some(ErrorKind::Unavailable);
                    self.report_outcome(message.id, state, why, kind)?;
                }
            }
        }
        Ok(())
    }

    fn print_received(
        &mut self,
        stored: StoredMessage,
        node: &NodeApi,
        answers: &mut NodeAnswers,
    ) -> Result<(), Error> {
        self.last_seq = stored.seq;
        if self.context.output.is_json() {
            self.context
                .output
                .print_object("message", &crate::engine::event_json::message_json(&stored, self.user))?;
        } else {
            self.context.output.print_data(&message_lines(&stored.message.text))?;
        }
        // Only now: what could not be printed stays unread.
        let node = node.clone();
        answers.spawn(async move { NodeAnswer::ReadMark(node.mark_read(&stored.peer, Some(stored.seq)).await) });
        Ok(())
    }

    fn finish(self, flushed: FlushReport) -> Result<(), Error> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if let Some(why) = flushed.why {
            note_queued(self.context, self.user, &why);
        }
        Ok(())
    }
}

/// Waits for the next answer; `None` while nothing is asked.
async fn next_answer(answers: &mut NodeAnswers) -> Option<Result<NodeAnswer, Error>> {
    Some(answers.join_next().await?.map_err(|failure| Error::Internal(failure.to_string())))
}

async fn read_history(me: &LocalUser, query: HistoryQuery) -> Result<Vec<StoredMessage>, Error> {
    let profile = me.profile.clone();
    run_blocking(move || Ok(profile.history(&query)?)).await
}
