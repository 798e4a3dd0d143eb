//! `peer events`: everything that happens as NDJSON, and commands as NDJSON.
//!
//! Every line that comes out is an object of version 1 with a `type`:
//!
//! | type | fields |
//! |---|---|
//! | `message` | `id`, `peer`, `from`, `ts`, `text`, `state`: `received`, or `waiting` for one of ours |
//! | `offer` | the same, and `offer`: `name`, `size`, `hash` of a file that its receiver may fetch |
//! | `request` | `from`: somebody to whom we never wrote wants to talk; little of theirs is taken until they are accepted. Told at the beginning, and behind the first that they write |
//! | `ack` | `peer`, `id`, `state`: what became of a message of ours (`sent`, `stored`, `failed`, `expired`, `dropped`); `why?` |
//! | `presence` | `user`, `online` |
//! | `tracker` | `reachable`, `why?`: who is online is not known while the tracker is away; told when that changes; `elsewhere?`: `ip`, `since?` of a copy of this profile that is online in our place |
//! | `transfer` | `peer`, `name`, `direction` (`up`, `down`), `bytes`, `size`, `state` (`running`, `done`, `failed`) |
//! | `done` | `ref`: a command with a `ref` was done; `id?` of the message that it made |
//! | `error` | `code`, `message`; `ref?` of the command, and `line` when it is none |
//!
//! Every line that goes in is a command; `ref` may be anything and comes back:
//!
//! | type | fields |
//! |---|---|
//! | `send` | `to`, `text`, `id?`: the message is stored, and delivered as soon as it can be; what they wrote so far counts as read |
//! | `read` | `from`: what they wrote so far counts as read |
//! | `typing` | `to` |
//! | `accept` | `from`: what they write is taken as from anybody else; so it is after a `send` to them |
//! | `ignore` | `from`: they are blocked |
//!
//! A name in other letters is taken for the only user whom it can mean. When it may be one of several, the command is
//! answered by an `error` that names them.
//!
//! The `id` of a message is 32 hexadecimal digits, made up here unless it is given. Whoever gives it may send the same line
//! again when they don't know whether it was heard: a message that is there already is not stored twice, and the answer is
//! the same.
//!
//! A line that is no command is answered by an `error`, and the next one is looked at as if nothing had happened. The end of
//! the input ends nothing: what happens is still told. When the node ends, the one that is there next is listened to, or one
//! of this process's own; what happened in between is told from the history, once, and commands that were not answered are
//! done once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use rand::Rng;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::UserName;
use shared::peer::MessageId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::CommandContext;
use super::node_connection::{ConnectionEvent, NodeConnection};
use super::node_handle::NodeHandle;
use super::user_resolution;
use crate::engine::chat::{self, HistoryQuery};
use crate::engine::node::control::{ControlAction, ControlOutcome, ControlReply, NodeLifetime, NodeMessage};
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, ErrorKind, LocalUser};
use crate::ui::{InputLine, message_json, ndjson_event, spawn_line_reader};

/// Commands that are under way before another one is read.
const MAX_IN_FLIGHT: usize = 64;
/// Names that are remembered with whom they mean; beyond that all are forgotten.
const MAX_RESOLVED_NAMES: usize = 1024;

/// A command of the input.
#[derive(Debug)]
struct PendingCommand {
    r#ref: Value,
    command: NdjsonCommand,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum NdjsonCommand {
    Send {
        to: UserName,
        text: String,
        /// Made here unless it is given: a message that may not have reached the node is said again with the same one.
        #[serde(default = "new_id")]
        id: MessageId,
    },
    Read {
        from: UserName,
    },
    Typing {
        to: UserName,
    },
    Accept {
        from: UserName,
    },
    Ignore {
        from: UserName,
    },
}

impl NdjsonCommand {
    const fn user_mut(&mut self) -> &mut UserName {
        match self {
            Self::Send { to, .. } | Self::Typing { to } => to,
            Self::Read { from } | Self::Accept { from } | Self::Ignore { from } => from,
        }
    }
}

fn new_id() -> MessageId {
    MessageId::from_bytes(rand::rng().random())
}

pub(super) async fn run(context: &CommandContext) -> Result<(), Error> {
    let me = context.me()?;
    let mut input = spawn_line_reader()?;
    // What comes from here on is told, even if it comes before there is a node to hear it from.
    let last = last_seq(&me)?;
    let station = NodeHandle::open(context, &me, NodeLifetime::View).await?;
    let mut listener = NdjsonSession {
        context,
        me: &me,
        connection: NodeConnection::Connected(station),
        in_flight: BTreeMap::new(),
        unsent: VecDeque::new(),
        watch_request: None,
        last_seq: last,
        undelivered: HashMap::new(),
        reported_requests: HashSet::new(),
        resolved_names: HashMap::new(),
        lookups: JoinSet::new(),
    };
    let ended = listener.run(&mut input).await;
    // What a node of our own ended with is why this did.
    listener.connection.close().await?;
    ended
}

/// The place of the last message.
fn last_seq(me: &LocalUser) -> Result<i64, Error> {
    Ok(me.profile.history(&HistoryQuery::last(1))?.last().map_or(0, |stored| stored.seq))
}

struct NdjsonSession<'a> {
    context: &'a CommandContext,
    me: &'a LocalUser,
    connection: NodeConnection,
    /// Commands whose reply is still to come, in their order.
    in_flight: BTreeMap<u64, PendingCommand>,
    /// Commands that no node took, or of which it is not known: they go to the next one.
    unsent: VecDeque<PendingCommand>,
    /// The question to a node to tell what happens, until it is answered.
    watch_request: Option<u64>,
    /// The place of the last message that was told.
    last_seq: i64,
    /// The places of messages of ours that were told, and not what became of them.
    undelivered: HashMap<MessageId, i64>,
    /// Those of whom it was told that they want to talk.
    reported_requests: HashSet<UserName>,
    /// Names as commands gave them, and whom they mean.
    resolved_names: HashMap<UserName, UserName>,
    /// The command whose name is being looked up. No other is read meanwhile, so that they stay in their order.
    lookups: JoinSet<(PendingCommand, Result<UserName, Error>)>,
}

impl NdjsonSession<'_> {
    async fn run(&mut self, input: &mut mpsc::Receiver<std::io::Result<InputLine>>) -> Result<(), Error> {
        self.watch();
        let mut is_open = true;
        loop {
            let is_free =
                self.watch_request.is_none() && self.lookups.is_empty() && self.in_flight.len() < MAX_IN_FLIGHT;
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
                heard = self.connection.next_event() => match heard? {
                    ConnectionEvent::Message(NodeMessage::Event(event)) => self.handle_event(&event)?,
                    ConnectionEvent::Message(NodeMessage::Reply(reply)) => self.handle_reply(reply)?,
                    ConnectionEvent::Lost(why) => self.handle_node_lost(&why).await?,
                    ConnectionEvent::Restored => self.watch(),
                },
            }
        }
    }

    /// There is a node, which is to tell what happens.
    fn watch(&mut self) {
        self.watch_request = self.connection.send(ControlAction::Watch { with: None });
    }

    /// It does from here on: tells what happened before, and has done what no other node did.
    fn handle_watching(&mut self) -> Result<(), Error> {
        self.watch_request = None;
        for from in self.me.profile.message_requests()? {
            self.print_request(&NodeEvent::ContactRequest { from })?;
        }
        self.catch_up()?;
        for line in std::mem::take(&mut self.unsent) {
            self.send(line);
        }
        Ok(())
    }

    /// The node has ended: what it didn't answer may be done, or not, and is done once if it is asked for again.
    async fn handle_node_lost(&mut self, why: &Error) -> Result<(), Error> {
        tracing::debug!("another node is looked for: {why}");
        let asked = std::mem::take(&mut self.in_flight).into_values();
        let is_late = |line: &PendingCommand| matches!(line.command, NdjsonCommand::Typing { .. });
        self.unsent = asked.filter(|line| !is_late(line)).chain(std::mem::take(&mut self.unsent)).collect();
        self.connection.reconnect(self.context, self.me).await
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
        if let NdjsonCommand::Send { text, .. } = &command
            && let Err(error) = chat::compose(text)
        {
            return self.print_error(&r#ref, error.kind(), &error.to_string());
        }
        let mut line = PendingCommand { r#ref, command };
        let name = line.command.user_mut().clone();
        match self.resolved_names.get(&name) {
            Some(user) => *line.command.user_mut() = user.clone(),
            None => {
                let me = self.me.clone();
                self.lookups.spawn(async move { (line, user_resolution::resolve_user(&me, name).await) });
                return Ok(());
            }
        }
        self.send(line);
        Ok(())
    }

    /// Goes on with a command whose name was looked up.
    fn handle_lookup(&mut self, mut line: PendingCommand, meant: Result<UserName, Error>) -> Result<(), Error> {
        match meant {
            Ok(user) => {
                let asked = std::mem::replace(line.command.user_mut(), user.clone());
                if self.resolved_names.len() >= MAX_RESOLVED_NAMES {
                    self.resolved_names.clear();
                }
                // A name that nobody has may be somebody's later.
                if asked != user || self.me.profile.known_people()?.iter().any(|(met, _)| *met == user) {
                    self.resolved_names.insert(asked, user);
                }
            }
            Err(error @ Error::SimilarUsers(_)) => {
                return self.print_error(&line.r#ref, error.kind(), &error.to_string());
            }
            // Sending it says what is wrong.
            Err(why) => tracing::debug!("a name can't be looked up: {why}"),
        }
        if self.watch_request.is_some() {
            self.unsent.push_back(line);
        } else {
            self.send(line);
        }
        Ok(())
    }

    fn send(&mut self, line: PendingCommand) {
        let action = match &line.command {
            NdjsonCommand::Send { to, text, id } => {
                self.connection.send(ControlAction::MarkRead { with: to.clone(), up_to: None });
                ControlAction::Say { to: to.clone(), text: text.clone(), message: Some(*id) }
            }
            NdjsonCommand::Read { from } => ControlAction::MarkRead { with: from.clone(), up_to: None },
            NdjsonCommand::Typing { to } => ControlAction::Typing { to: to.clone() },
            NdjsonCommand::Accept { from } => ControlAction::Accept { user: from.clone() },
            NdjsonCommand::Ignore { from } => ControlAction::Block { user: from.clone() },
        };
        match self.connection.send(action) {
            Some(number) => drop(self.in_flight.insert(number, line)),
            None => self.unsent.push_back(line),
        }
    }

    fn handle_reply(&mut self, reply: ControlReply) -> Result<(), Error> {
        if self.watch_request == Some(reply.id) {
            return self.handle_watching();
        }
        let Some(PendingCommand { r#ref, .. }) = self.in_flight.remove(&reply.id) else { return Ok(()) };
        match reply.outcome {
            ControlOutcome::Done(_) if r#ref.is_null() => {}
            ControlOutcome::Done(value) => {
                let done = json!({ "ref": r#ref, "id": value.pointer("/message/id") });
                self.context.output.print_object("done", &done)?;
            }
            ControlOutcome::Error { kind, message } => self.print_error(&r#ref, kind, &message)?,
        }
        Ok(())
    }

    fn print_error(&self, r#ref: &Value, kind: ErrorKind, message: &str) -> Result<(), Error> {
        let error = json!({ "code": kind.as_str(), "message": message, "ref": r#ref });
        Ok(self.context.output.print_object("error", &error)?)
    }

    fn handle_event(&mut self, event: &NodeEvent) -> Result<(), Error> {
        if let NodeEvent::EventsMissed { .. } = event {
            return self.catch_up();
        }
        match event {
            NodeEvent::Received { seq, .. } | NodeEvent::MessageQueued { seq, .. } if *seq <= self.last_seq => {
                return Ok(());
            }
            NodeEvent::Received { seq, .. } => self.last_seq = *seq,
            NodeEvent::MessageQueued { message, seq, .. } => {
                self.last_seq = *seq;
                self.undelivered.insert(message.id, *seq);
            }
            NodeEvent::MessageStateChanged { id, state, .. } if !state.is_queued() => drop(self.undelivered.remove(id)),
            NodeEvent::ContactRequest { .. } => return self.print_request(event),
            _ => {}
        }
        self.print_event(event)
    }

    /// Tells of somebody who wants to talk, once.
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

    /// Tells from the history what came too fast: messages, and what became of ours.
    fn catch_up(&mut self) -> Result<(), Error> {
        let first_open = self.undelivered.values().map(|seq| seq - 1).min();
        let after = first_open.map_or(self.last_seq, |first| first.min(self.last_seq));
        let missed = HistoryQuery { after: Some(after), ..HistoryQuery::last(usize::MAX) };
        for stored in self.me.profile.history(&missed)? {
            let (id, state) = (stored.message.id, stored.state);
            if stored.seq > self.last_seq {
                self.last_seq = stored.seq;
                if state.is_queued() {
                    self.undelivered.insert(id, stored.seq);
                }
                let kind = if stored.message.offer.is_some() { "offer" } else { "message" };
                self.context.output.print_object(kind, &message_json(&stored, &self.me.user))?;
            } else if !state.is_queued() && self.undelivered.remove(&id).is_some() {
                let settled = NodeEvent::MessageStateChanged { to: stored.peer, id, state, why: None, kind: None };
                if let Some((kind, fields)) = ndjson_event(&settled, &self.me.user) {
                    self.context.output.print_object(kind, &fields)?;
                }
            }
        }
        Ok(())
    }

    fn print_invalid_line(&self, r#ref: &Value, line: &str, why: &str) -> std::io::Result<()> {
        let line: String = line.chars().take(200).collect();
        let message = format!("not a command such as {{\"type\":\"send\",\"to\":\"bob\",\"text\":\"hi\"}}: {why}");
        let error = json!({ "code": ErrorKind::Usage.as_str(), "message": message, "ref": r#ref, "line": line });
        self.context.output.print_object("error", &error)
    }
}
