//! The command `peer events`: prints all events as NDJSON, and takes commands as NDJSON.
//!
//! Every output line is an object of version 1 with a `type`:
//!
//! | type | fields |
//! |---|---|
//! | `message` | `id`, `peer`, `from`, `ts`, `text`, `state`: `received`, or `waiting` for one of ours. In a room also `room`, `room_id`, `late?`: it belongs before messages that were printed, `mentions_me?`; `peer` is `#` and the room's name, `id` has 64 digits |
//! | `room` | `room`, `room_id`, `kind`, and the fields of that kind: `joined`, `left` (`user`), `kicked` (`user`, `by`), `invited`, `role` (`user`, `role`), `topic` (`topic`), `deleted`, `restored`, `contradicted`, `equivocation` (`user`, `number`), `gap` (`user`), `void` (`id`), `delivered` (`id`, `count`, `of`: so many other members have our message) |
//! | `offer` | the same, and `offer`: `name`, `size`, `hash` of a file that its receiver may fetch; or `send`: `name`, `kind` (`file`, `folder`), `files`, `size`, `hash` of what its author sends and wants a receipt for |
//! | `request` | `from`: a stranger wants to talk; little is kept of them until they are accepted. Printed at the start for each pending request, and after a stranger's first message |
//! | `guest_message` | `link`, `guest`, `name?`, `seq`, `ts`, `text`, `answer`: a guest of a link of `peer link --chat` wrote, or with `answer` we did; `first`: it is the guest's first one; `answered`: we have answered this guest. Those of before are printed by `peer --json link chat` |
//! | `ack` | `peer`, `id`, `state`: the outcome of one of our messages (`sent`, `stored`, `failed`, `expired`, `dropped`); `why?` |
//! | `presence` | `user`, `online` |
//! | `tracker` | `reachable`, `why?`: printed at each change; while the tracker can't be reached nobody's presence is known; `elsewhere?`: `ip`, `since?` of a copy of this profile that is online in our place |
//! | `transfer` | `peer`, `name`, `direction` (`up`, `down`), `bytes`, `size`, `state` (`running`, `done`, `failed`) |
//! | `receipt` | `from`, `number`, `name`, `hash`, `outcome` (`done`, `declined`): what became of something that we sent |
//! | `accepted` | `from`, `name`, `size`, `folder`: something that was sent to us is in that folder, by a rule of `peer accept` |
//! | `wish` | `number`, `query`, `file` (`by`, `name`, `size`, `hash`), `others`, `fetched`, `why`?: somebody shares what we wished for; with `fetched` it is being fetched, and with `why` it isn't although the wish says so |
//! | `wish_fetched` | `number`, `query`, `file`, `folder`: a wished file is in that folder |
//! | `follow_change` | `number`, `user`, `folder?`, `change` (`fetched`: `name`, `size`, `again?`; `moved`: `from`, `name`; `removed`: `name`; `kept`: `name`, `kept_as`; `failed`: `name`, `why`; `state`: `state`, `count`, `why?`, `totals`; `paused`; `ended`): what `peer follows` lists changed |
//! | `done` | `ref`: the command with this `ref` was done; `id?` of the message that it created. In the order of the commands |
//! | `error` | `code`, `message`; `ref?` of the command; `line` if the line is no command |
//!
//! `peer chat`, `peer history` and `peer inbox` print messages in the same fields. Of one of ours in a room, `count` and `of`
//! tell there how many of the other members have it.
//!
//! Every input line is a command; `ref` may be any value and comes back:
//!
//! | type | fields |
//! |---|---|
//! | `send` | `to`, `text`, `id?`: the message is stored, and delivered as soon as possible; the user's earlier messages count as read. `to` is a user, or `#` and the name of a room, whose messages take no `id` |
//! | `read` | `from`: the messages so far of the user, or of a room as `#lab`, count as read |
//! | `typing` | `to` |
//! | `accept` | `from`: the user's messages are no longer requests; a `send` to the user accepts as well |
//! | `ignore` | `from`: the user is blocked |
//!
//! A name in other letters is taken for the only user whom it can mean. If it may mean several, the command is answered
//! by an `error` that names them.
//!
//! The `id` of a message is 32 hexadecimal digits, made here unless it is given. A client that gives the id may send
//! the same line again if it doesn't know whether the line was read: the message is stored once, and the answer is the
//! same.
//!
//! A line that is no command is answered by an `error`, and the next line is read. The end of the input doesn't end the
//! process: events are still printed. When the node ends, the process uses the next one, or one of its own. Events in
//! between are printed from the history, once, and commands without a reply are done once.

mod command_queue;
mod ndjson_command;

use std::collections::{HashMap, HashSet, VecDeque};

use clap::Args;
use serde_json::{Value, json};
use shared::UserName;
use shared::peer::ChatMessage;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::command_queue::{CommandQueue, SentCommand};
use self::ndjson_command::{NdjsonCommand, PendingCommand};
use super::command_help::CommandHelp;
use super::context::CommandContext;
use super::missed_messages::{MissedMessage, UndeliveredMessages, last_seq};
use super::user_resolution;
use crate::engine::chat::{self, ConversationName, StoredMessage};
use crate::engine::event_json::{message_json, ndjson_event};
use crate::engine::node::NodeLifetime;
use crate::engine::node_connection::{ConnectionEvent, NodeConnection, open_node};
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::RoomPost;
use crate::engine::{Error, ErrorKind, LocalUser};
use crate::profile::Access;
use crate::ui::{InputLine, spawn_line_reader};

/// Commands sent to the node before the first of them is answered.
const MAX_IN_FLIGHT: usize = 64;
/// Names whose resolution is cached; beyond, the cache is emptied.
const MAX_RESOLVED_NAMES: usize = 1024;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer events
  peer events | jq -r 'select(.type == \"message\") | \"\\(.from): \\(.text)\"'
  peer events < commands.ndjson",
    notes: "\
Commands, one object a line on standard input:
  {\"type\":\"send\",\"to\":\"bob\",\"text\":\"…\"}   send a message; its \"id\" may be given: 32 hex digits
  {\"type\":\"send\",\"to\":\"#lab\",\"text\":\"…\"}  write in a room
  {\"type\":\"read\",\"from\":\"bob\"}             mark his messages read
  {\"type\":\"typing\",\"to\":\"bob\"}             show that you are typing
  {\"type\":\"accept\",\"from\":\"mallory\"}       accept a stranger
  {\"type\":\"ignore\",\"from\":\"mallory\"}       block somebody

A \"ref\" in a command comes back in its `done` or `error`. A `send` with an \"id\" can be repeated: it is sent \
once. A bad line is answered by an `error` and changes nothing.

What is printed: `message`, `offer`, `room`, `request`, `guest_message`, `ack`, `presence`, `tracker`, `transfer`, `receipt`, \
`accepted`, `wish`, `wish_fetched`, `account_moved`, `done` and `error` objects. It goes on when `peer serve` starts or ends beside it. All fields are in the documentation of \
peer::commands::events.",
};

/// Print everything that happens as NDJSON, and take commands from standard input.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct EventsArgs {}

pub(super) async fn run(context: &CommandContext) -> Result<(), Error> {
    let me = context.me(Access::Use)?;
    let mut input = spawn_line_reader()?;
    // Everything after this place is printed, even if it arrives before there is a node to report it.
    let last = last_seq(&me.profile)?;
    let node = open_node(&context.cancel, &me, NodeLifetime::View).await?;
    let connection = NodeConnection::begin(&context.cancel, &me, node, None).await?;
    let mut listener = NdjsonSession {
        context,
        me: &me,
        connection,
        in_flight: CommandQueue::default(),
        unsent: VecDeque::new(),
        answers: JoinSet::new(),
        last_seq: last,
        undelivered: UndeliveredMessages::default(),
        reported_requests: HashSet::new(),
        resolved_names: HashMap::new(),
        lookups: JoinSet::new(),
    };
    let ended = listener.run(&mut input).await;
    // If this process ran the node, the node's error is the reason why the listener ended.
    listener.connection.close().await?;
    ended
}

/// The answer to a command; with the id of the message that it created.
type CommandAnswer = Result<Option<String>, Error>;

struct NdjsonSession<'a> {
    context: &'a CommandContext,
    me: &'a LocalUser,
    connection: NodeConnection,
    in_flight: CommandQueue<PendingCommand, CommandAnswer>,
    /// Commands that wait for the next node: no node has done them for certain, or an earlier one.
    unsent: VecDeque<SentCommand<PendingCommand, CommandAnswer>>,
    /// The acts that the node was asked for.
    answers: JoinSet<(u64, CommandAnswer)>,
    /// The place in the history of the last message printed.
    last_seq: i64,
    /// Printed messages of ours whose outcome was not yet printed.
    undelivered: UndeliveredMessages,
    /// Strangers whose request was printed.
    reported_requests: HashSet<UserName>,
    /// Cached resolution of names, from the spelling in a command to the user.
    resolved_names: HashMap<UserName, UserName>,
    /// The command whose name is being looked up. No other line is read meanwhile, so that commands keep their order.
    lookups: JoinSet<(PendingCommand, Result<UserName, Error>)>,
}

impl NdjsonSession<'_> {
    async fn run(&mut self, input: &mut mpsc::Receiver<std::io::Result<InputLine>>) -> Result<(), Error> {
        self.begin_with_node().await?;
        let mut is_open = true;
        loop {
            // One lookup at a time: a line whose name is known would overtake the one that waits.
            let is_free = self.lookups.is_empty() && self.in_flight.len() < MAX_IN_FLIGHT;
            // Without a node no line is read: the sender feels it, and nothing piles up in memory.
            let has_room = self.connection.is_connected() && is_free;
            tokio::select! {
                () = self.context.cancel.cancelled() => return Err(Error::Interrupted),
                line = input.recv(), if is_open && has_room => match line {
                    Some(Ok(line)) if line.has_replacements => {
                        self.print_invalid_line(&Value::Null, &line.text, "it is not UTF-8")?;
                    }
                    Some(Ok(line)) if line.text.trim().is_empty() => {}
                    Some(Ok(line)) => self.handle_line(&line.text)?,
                    Some(Err(why)) => return Err(why.into()),
                    None => is_open = false,
                },
                Some(named) = self.lookups.join_next() => {
                    let (line, meant) = named.map_err(|why| Error::Internal(why.to_string()))?;
                    self.handle_lookup(line, meant)?;
                }
                heard = self.connection.next_event() => self.handle_connection_event(heard?).await?,
                Some(answer) = self.answers.join_next() => {
                    let (number, answer) = answer.map_err(|why| Error::Internal(why.to_string()))?;
                    self.handle_answer(number, answer).await?;
                }
            }
        }
    }

    async fn handle_connection_event(&mut self, event: ConnectionEvent) -> Result<(), Error> {
        match event {
            ConnectionEvent::Event(event) => self.handle_event(&event).await,
            ConnectionEvent::Lost => self.handle_node_lost().await,
            ConnectionEvent::Restored => self.begin_with_node().await,
        }
    }

    /// Prints the events that were missed, and sends the commands that no other node did.
    async fn begin_with_node(&mut self) -> Result<(), Error> {
        // The node is watched already: the history closes the gap before that without losing an event.
        for from in self.me.profile.message_requests()? {
            self.print_request(&NodeEvent::ContactRequest { from })?;
        }
        self.catch_up().await?;
        for line in std::mem::take(&mut self.unsent) {
            self.send(line);
        }
        self.print_answers()
    }

    /// Finds another node; commands without a reply are sent again, and done once.
    async fn handle_node_lost(&mut self) -> Result<(), Error> {
        let asked = self.in_flight.take_all();
        // A typing notice is worthless by the time another node is there.
        let is_late = |line: &SentCommand<PendingCommand, _>| {
            line.answer.is_none() && matches!(line.command.command, NdjsonCommand::Typing { .. })
        };
        self.unsent = asked.filter(|line| !is_late(line)).chain(std::mem::take(&mut self.unsent)).collect();
        self.connection.reconnect(&self.context.cancel, self.me).await
    }

    fn handle_line(&mut self, text: &str) -> Result<(), Error> {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(why) => return Ok(self.print_invalid_line(&Value::Null, text, &why.to_string())?),
        };
        let r#ref = value.get("ref").cloned().unwrap_or_default();
        let command: NdjsonCommand = match serde_json::from_value(value) {
            Ok(command) => command,
            Err(why) => return Ok(self.print_invalid_line(&r#ref, text, &why.to_string())?),
        };
        // Checked here, so that a bad text is answered even while its recipient's name can't be looked up.
        if let NdjsonCommand::Send { text, .. } = &command
            && let Err(error) = chat::compose(text)
        {
            return self.print_error(&r#ref, error.kind(), &error.to_string());
        }
        let mut line = PendingCommand { r#ref, command };
        if let Some(user) = line.command.user_mut() {
            match self.resolved_names.get(user) {
                Some(resolved) => *user = resolved.clone(),
                None => {
                    let (me, name) = (self.me.clone(), user.clone());
                    self.lookups.spawn(async move { (line, user_resolution::resolve_user(&me, name).await) });
                    return Ok(());
                }
            }
        }
        self.send(SentCommand::unanswered(line));
        Ok(())
    }

    /// Goes on with a command whose name was looked up.
    fn handle_lookup(&mut self, mut line: PendingCommand, meant: Result<UserName, Error>) -> Result<(), Error> {
        match meant {
            Ok(user) => {
                let Some(named) = line.command.user_mut() else { return Ok(()) };
                let asked = std::mem::replace(named, user.clone());
                if self.resolved_names.len() >= MAX_RESOLVED_NAMES {
                    self.resolved_names.clear();
                }
                // Don't cache a name that nobody has: an account may be registered under it later.
                if asked != user || self.me.profile.known_people()?.iter().any(|(met, _)| *met == user) {
                    self.resolved_names.insert(asked, user);
                }
            }
            Err(error @ Error::SimilarUsers(_)) => {
                return self.print_error(&line.r#ref, error.kind(), &error.to_string());
            }
            // The node's answer to the command says what is wrong.
            Err(why) => tracing::debug!("a name can't be looked up: {why}"),
        }
        let line = SentCommand::unanswered(line);
        // The node ended during the lookup: keep the command behind those that wait for the next one.
        if !self.connection.is_connected() {
            self.unsent.push_back(line);
        } else {
            self.send(line);
        }
        Ok(())
    }

    /// Sends a command; one that has its answer already only takes its place among the others.
    fn send(&mut self, line: SentCommand<PendingCommand, CommandAnswer>) {
        let Some(node) = self.connection.api() else { return self.unsent.push_back(line) };
        let (is_answered, command) = (line.answer.is_some(), line.command.command.clone());
        let number = self.in_flight.push(line);
        if is_answered {
            return;
        }
        if let NdjsonCommand::Send { to, .. } = &command {
            // An answer shows that the user's earlier messages were read. Beside the message, which must keep its order.
            let (node, to) = (node.clone(), to.clone());
            // 0 is the number of no command, so this answer is nobody's.
            self.answers.spawn(async move { (0, node.mark_read(&to, None).await.map(|()| None)) });
        }
        // Tasks of this runtime begin in the order of their spawning, and with it messages are stored in order.
        self.answers.spawn(async move {
            let done = match command {
                NdjsonCommand::Send { to: ConversationName::Person(to), text, id } => match chat::compose(&text) {
                    Ok(message) => {
                        let stored = node.queue_message(&to, ChatMessage { id, ..message }).await;
                        stored.map(|stored| Some(stored.message.id.to_string()))
                    }
                    Err(error) => Err(error),
                },
                NdjsonCommand::Send { to: ConversationName::Room(room), text, .. } => {
                    let written = node.write_in_room(&room, &text, false).await;
                    written.map(|receipt| Some(receipt.message.id.to_string()))
                }
                NdjsonCommand::Read { from } => node.mark_read(&from, None).await.map(|()| None),
                NdjsonCommand::Typing { to } => node.typing(&to).await.map(|()| None),
                NdjsonCommand::Accept { from } => node.accept(&from).await.map(|_| None),
                NdjsonCommand::Ignore { from } => node.block(&from).await.map(|_| None),
            };
            (number, done)
        });
    }

    async fn handle_answer(&mut self, number: u64, answer: CommandAnswer) -> Result<(), Error> {
        // Events that precede an answer are printed first.
        while let Some(event) = self.connection.buffered_event() {
            self.handle_connection_event(event).await?;
        }
        // Without an answer the command stays: the next node gets it. A message to a room has no id by which it would be
        // stored once.
        let is_to_room = || self.in_flight.command(number).is_some_and(|line| line.command.addressed_room().is_some());
        if matches!(answer, Err(Error::NodeGone { .. })) && !is_to_room() {
            return Ok(());
        }
        self.in_flight.record_answer(number, answer);
        self.print_answers()
    }

    /// Prints the answers to the first commands, up to one that has none yet.
    fn print_answers(&mut self) -> Result<(), Error> {
        while let Some((PendingCommand { r#ref, .. }, answer)) = self.in_flight.pop_answered() {
            match answer {
                Ok(_) if r#ref.is_null() => {}
                Ok(id) => self.context.output.print_object("done", &json!({ "ref": r#ref, "id": id }))?,
                Err(error) => self.print_error(&r#ref, error.kind(), &error.to_string())?,
            }
        }
        Ok(())
    }

    fn print_error(&self, r#ref: &Value, kind: ErrorKind, message: &str) -> Result<(), Error> {
        let error = json!({ "code": kind.as_str(), "message": message, "ref": r#ref });
        Ok(self.context.output.print_object("error", &error)?)
    }

    async fn handle_event(&mut self, event: &NodeEvent) -> Result<(), Error> {
        if let NodeEvent::EventsMissed { .. } = event {
            return self.catch_up().await;
        }
        match event {
            // `catch_up` printed it from the history before its event came.
            NodeEvent::Received { seq, .. }
            | NodeEvent::MessageQueued { seq, .. }
            | NodeEvent::RoomMessage(RoomPost { seq, .. })
                if *seq <= self.last_seq =>
            {
                return Ok(());
            }
            NodeEvent::Received { seq, .. } | NodeEvent::RoomMessage(RoomPost { seq, .. }) => self.last_seq = *seq,
            NodeEvent::MessageQueued { message, seq, .. } => {
                self.last_seq = *seq;
                self.undelivered.add(message.id, *seq);
            }
            NodeEvent::MessageStateChanged { id, state, .. } if !state.is_queued() => {
                self.undelivered.settle(*id);
            }
            NodeEvent::ContactRequest { .. } => return self.print_request(event),
            _ => {}
        }
        self.print_event(event)
    }

    /// Prints a stranger's request, once.
    fn print_request(&mut self, event: &NodeEvent) -> Result<(), Error> {
        let NodeEvent::ContactRequest { from } = event else { return Ok(()) };
        if self.reported_requests.insert(from.clone()) { self.print_event(event) } else { Ok(()) }
    }

    fn print_event(&self, event: &NodeEvent) -> Result<(), Error> {
        if let Some((kind, fields)) = ndjson_event(event, &self.me.user) {
            self.context.output.print_object(kind, &fields)?;
        }
        Ok(())
    }

    /// Prints from the history the messages and outcomes whose events were lost.
    async fn catch_up(&mut self) -> Result<(), Error> {
        for missed in self.undelivered.read_missed(&self.me.profile, None, self.last_seq).await? {
            match missed {
                MissedMessage::New(stored) => {
                    self.last_seq = stored.seq;
                    // The delivery of a room's message has events of its own.
                    if stored.state.is_queued() && stored.room.is_none() {
                        self.undelivered.add(stored.message.id, stored.seq);
                    }
                    let is_offer = stored.message.offer.is_some() || stored.message.send.is_some();
                    let kind = if is_offer { "offer" } else { "message" };
                    self.context.output.print_object(kind, &message_json(&stored, &self.me.user))?;
                }
                MissedMessage::Settled(StoredMessage { peer: to, message, state, .. }) => {
                    let settled = NodeEvent::MessageStateChanged { to, id: message.id, state, why: None, kind: None };
                    self.print_event(&settled)?;
                }
            }
        }
        Ok(())
    }

    fn print_invalid_line(&self, r#ref: &Value, line: &str, why: &str) -> std::io::Result<()> {
        // Enough to find the line; it may have any length.
        let line: String = line.chars().take(200).collect();
        let message = format!("not a command such as {{\"type\":\"send\",\"to\":\"bob\",\"text\":\"hi\"}}: {why}");
        let error = json!({ "code": ErrorKind::Usage.as_str(), "message": message, "ref": r#ref, "line": line });
        self.context.output.print_object("error", &error)
    }
}
