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

use super::Context;
use super::connection::{Connection, Heard};
use super::station::Station;
use super::user_names;
use crate::engine::chat::{self, HistoryQuery};
use crate::engine::event::Event;
use crate::engine::node::control::{Action, FromNode, Lifetime, Outcome, Reply};
use crate::engine::{Error, ErrorKind, Me};
use crate::ui::{InputLine, happening_json, input_lines, message_json};

/// Commands that are under way before another one is read.
const AHEAD: usize = 64;
/// Names that are remembered with whom they mean; beyond that all are forgotten.
const NAMES: usize = 1024;

/// A command of the input.
#[derive(Debug)]
struct Line {
    r#ref: Value,
    command: Command,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Command {
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

impl Command {
    const fn whom(&mut self) -> &mut UserName {
        match self {
            Self::Send { to, .. } | Self::Typing { to } => to,
            Self::Read { from } | Self::Accept { from } | Self::Ignore { from } => from,
        }
    }
}

fn new_id() -> MessageId {
    MessageId::from_bytes(rand::rng().random())
}

pub(super) async fn run(context: &Context) -> Result<(), Error> {
    let me = context.me()?;
    let mut input = input_lines()?;
    // What comes from here on is told, even if it comes before there is a node to hear it from.
    let last = last_place(&me)?;
    let station = Station::open(context, &me, Lifetime::View).await?;
    let mut listener = Listener {
        context,
        me: &me,
        connection: Connection::There(station),
        asked: BTreeMap::new(),
        unsent: VecDeque::new(),
        watching: None,
        last,
        open: HashMap::new(),
        requests: HashSet::new(),
        names: HashMap::new(),
        asking: JoinSet::new(),
    };
    let ended = listener.run(&mut input).await;
    // What a node of our own ended with is why this did.
    listener.connection.close().await?;
    ended
}

/// The place of the last message.
fn last_place(me: &Me) -> Result<i64, Error> {
    Ok(me.profile.history(&HistoryQuery::last(1))?.last().map_or(0, |stored| stored.seq))
}

struct Listener<'a> {
    context: &'a Context,
    me: &'a Me,
    connection: Connection,
    /// Commands whose reply is still to come, in their order.
    asked: BTreeMap<u64, Line>,
    /// Commands that no node took, or of which it is not known: they go to the next one.
    unsent: VecDeque<Line>,
    /// The question to a node to tell what happens, until it is answered.
    watching: Option<u64>,
    /// The place of the last message that was told.
    last: i64,
    /// The places of messages of ours that were told, and not what became of them.
    open: HashMap<MessageId, i64>,
    /// Those of whom it was told that they want to talk.
    requests: HashSet<UserName>,
    /// Names as commands gave them, and whom they mean.
    names: HashMap<UserName, UserName>,
    /// The command whose name is being looked up. No other is read meanwhile, so that they stay in their order.
    asking: JoinSet<(Line, Result<UserName, Error>)>,
}

impl Listener<'_> {
    async fn run(&mut self, input: &mut mpsc::Receiver<std::io::Result<InputLine>>) -> Result<(), Error> {
        self.begin();
        let mut is_open = true;
        loop {
            let is_free = self.watching.is_none() && self.asking.is_empty() && self.asked.len() < AHEAD;
            let has_room = self.connection.is_there() && is_free;
            tokio::select! {
                () = self.context.cancel.cancelled() => return Err(Error::Interrupted),
                line = input.recv(), if is_open && has_room => match line {
                    Some(Ok(line)) if line.has_marks => {
                        self.bad(&Value::Null, &line.text, "it is not UTF-8")?;
                    }
                    Some(Ok(line)) if line.text.trim().is_empty() => {}
                    Some(Ok(line)) => self.command(&line.text)?,
                    Some(Err(why)) => return Err(why.into()),
                    None => is_open = false,
                },
                Some(named) = self.asking.join_next() => {
                    let (line, meant) = named.map_err(|why| Error::Internal(why.to_string()))?;
                    self.named(line, meant)?;
                }
                heard = self.connection.next() => match heard? {
                    Heard::Node(FromNode::Event(event)) => self.event(&event)?,
                    Heard::Node(FromNode::Reply(reply)) => self.reply(reply)?,
                    Heard::Lost(why) => self.lost(&why).await?,
                    Heard::Found => self.begin(),
                },
            }
        }
    }

    /// There is a node, which is to tell what happens.
    fn begin(&mut self) {
        self.watching = self.connection.send(Action::Watch { with: None });
    }

    /// It does from here on: tells what happened before, and has done what no other node did.
    fn begun(&mut self) -> Result<(), Error> {
        self.watching = None;
        for from in self.me.profile.requests()? {
            self.request(&Event::Request { from })?;
        }
        self.catch_up()?;
        for line in std::mem::take(&mut self.unsent) {
            self.send(line);
        }
        Ok(())
    }

    /// The node has ended: what it didn't answer may be done, or not, and is done once if it is asked for again.
    async fn lost(&mut self, why: &Error) -> Result<(), Error> {
        tracing::debug!("another node is looked for: {why}");
        let asked = std::mem::take(&mut self.asked).into_values();
        let is_late = |line: &Line| matches!(line.command, Command::Typing { .. });
        self.unsent = asked.filter(|line| !is_late(line)).chain(std::mem::take(&mut self.unsent)).collect();
        self.connection.lose(self.context, self.me).await
    }

    fn command(&mut self, text: &str) -> Result<(), Error> {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(why) => return Ok(self.bad(&Value::Null, text, &why.to_string())?),
        };
        let r#ref = value.get("ref").cloned().unwrap_or_default();
        let command: Command = match serde_json::from_value(value) {
            Ok(command) => command,
            Err(why) => return Ok(self.bad(&r#ref, text, &why.to_string())?),
        };
        if let Command::Send { text, .. } = &command
            && let Err(error) = chat::compose(text)
        {
            return self.refuse(&r#ref, error.kind(), &error.to_string());
        }
        let mut line = Line { r#ref, command };
        let name = line.command.whom().clone();
        match self.names.get(&name) {
            Some(user) => *line.command.whom() = user.clone(),
            None => {
                let me = self.me.clone();
                self.asking.spawn(async move { (line, user_names::meant(&me, name).await) });
                return Ok(());
            }
        }
        self.send(line);
        Ok(())
    }

    /// Goes on with a command whose name was looked up.
    fn named(&mut self, mut line: Line, meant: Result<UserName, Error>) -> Result<(), Error> {
        match meant {
            Ok(user) => {
                let asked = std::mem::replace(line.command.whom(), user.clone());
                if self.names.len() >= NAMES {
                    self.names.clear();
                }
                // A name that nobody has may be somebody's later.
                if asked != user || self.me.profile.acquaintances()?.iter().any(|(met, _)| *met == user) {
                    self.names.insert(asked, user);
                }
            }
            Err(error @ Error::SimilarUsers(_)) => return self.refuse(&line.r#ref, error.kind(), &error.to_string()),
            // Sending it says what is wrong.
            Err(why) => tracing::debug!("a name can't be looked up: {why}"),
        }
        if self.watching.is_some() {
            self.unsent.push_back(line);
        } else {
            self.send(line);
        }
        Ok(())
    }

    fn send(&mut self, line: Line) {
        let action = match &line.command {
            Command::Send { to, text, id } => {
                self.connection.send(Action::MarkRead { with: to.clone(), up_to: None });
                Action::Say { to: to.clone(), text: text.clone(), message: Some(*id) }
            }
            Command::Read { from } => Action::MarkRead { with: from.clone(), up_to: None },
            Command::Typing { to } => Action::Typing { to: to.clone() },
            Command::Accept { from } => Action::Accept { user: from.clone() },
            Command::Ignore { from } => Action::Block { user: from.clone() },
        };
        match self.connection.send(action) {
            Some(number) => drop(self.asked.insert(number, line)),
            None => self.unsent.push_back(line),
        }
    }

    fn reply(&mut self, reply: Reply) -> Result<(), Error> {
        if self.watching == Some(reply.id) {
            return self.begun();
        }
        let Some(Line { r#ref, .. }) = self.asked.remove(&reply.id) else { return Ok(()) };
        match reply.outcome {
            Outcome::Ok(_) if r#ref.is_null() => {}
            Outcome::Ok(value) => {
                let done = json!({ "ref": r#ref, "id": value.pointer("/message/id") });
                self.context.output.object("done", &done)?;
            }
            Outcome::Error { kind, message } => self.refuse(&r#ref, kind, &message)?,
        }
        Ok(())
    }

    fn refuse(&self, r#ref: &Value, kind: ErrorKind, message: &str) -> Result<(), Error> {
        let error = json!({ "code": kind.as_str(), "message": message, "ref": r#ref });
        Ok(self.context.output.object("error", &error)?)
    }

    fn event(&mut self, event: &Event) -> Result<(), Error> {
        if let Event::Missed { .. } = event {
            return self.catch_up();
        }
        match event {
            Event::Received { seq, .. } | Event::Said { seq, .. } if *seq <= self.last => return Ok(()),
            Event::Received { seq, .. } => self.last = *seq,
            Event::Said { message, seq, .. } => {
                self.last = *seq;
                self.open.insert(message.id, *seq);
            }
            Event::State { id, state, .. } if !state.is_open() => drop(self.open.remove(id)),
            Event::Request { .. } => return self.request(event),
            _ => {}
        }
        self.tell(event)
    }

    /// Tells of somebody who wants to talk, once.
    fn request(&mut self, event: &Event) -> Result<(), Error> {
        let Event::Request { from } = event else { return Ok(()) };
        if self.requests.insert(from.clone()) { self.tell(event) } else { Ok(()) }
    }

    fn tell(&self, event: &Event) -> Result<(), Error> {
        if let Some((kind, fields)) = happening_json(event, &self.me.user) {
            self.context.output.object(kind, &fields)?;
        }
        Ok(())
    }

    /// Tells from the history what came too fast: messages, and what became of ours.
    fn catch_up(&mut self) -> Result<(), Error> {
        let first_open = self.open.values().map(|seq| seq - 1).min();
        let after = first_open.map_or(self.last, |first| first.min(self.last));
        let missed = HistoryQuery { after: Some(after), ..HistoryQuery::last(usize::MAX) };
        for stored in self.me.profile.history(&missed)? {
            let (id, state) = (stored.message.id, stored.state);
            if stored.seq > self.last {
                self.last = stored.seq;
                if state.is_open() {
                    self.open.insert(id, stored.seq);
                }
                let kind = if stored.message.offer.is_some() { "offer" } else { "message" };
                self.context.output.object(kind, &message_json(&stored, &self.me.user))?;
            } else if !state.is_open() && self.open.remove(&id).is_some() {
                let settled = Event::State { to: stored.peer, id, state, why: None, kind: None };
                if let Some((kind, fields)) = happening_json(&settled, &self.me.user) {
                    self.context.output.object(kind, &fields)?;
                }
            }
        }
        Ok(())
    }

    fn bad(&self, r#ref: &Value, line: &str, why: &str) -> std::io::Result<()> {
        let line: String = line.chars().take(200).collect();
        let message = format!("not a command such as {{\"type\":\"send\",\"to\":\"bob\",\"text\":\"hi\"}}: {why}");
        let error = json!({ "code": ErrorKind::Usage.as_str(), "message": message, "ref": r#ref, "line": line });
        self.context.output.object("error", &error)
    }
}
