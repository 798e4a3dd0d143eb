//! `peer events`: everything that happens as NDJSON, and commands as NDJSON.
//!
//! Every line that comes out is an object of version 1 with a `type`:
//!
//! | type | fields |
//! |---|---|
//! | `message` | `id`, `peer`, `from`, `ts`, `text`, `state`: `received`, or `waiting` for one of ours |
//! | `offer` | the same, and `offer`: `name`, `size`, `hash` of a file that its receiver may fetch |
//! | `ack` | `peer`, `id`, `state`: what became of a message of ours (`sent`, `stored`, `failed`, `expired`, `dropped`); `why?` |
//! | `presence` | `user`, `online` |
//! | `transfer` | `peer`, `name`, `direction` (`up`, `down`), `bytes`, `size`, `state` (`running`, `done`, `failed`) |
//! | `done` | `ref`: a command with a `ref` was done; `id?` of the message that it made |
//! | `error` | `code`, `message`; `ref?` of the command, or `line` when that could not be read |
//!
//! Every line that goes in is a command; `ref` may be anything and comes back:
//!
//! | type | fields |
//! |---|---|
//! | `send` | `to`, `text`: the message is stored, and delivered as soon as it can be; what they wrote so far counts as read |
//! | `read` | `from`: what they wrote so far counts as read |
//! | `typing` | `to` |
//!
//! A line that is no command is answered by an `error`, and the next one is looked at as if nothing had happened. The end of
//! the input ends nothing: what happens is still told.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use shared::UserName;
use shared::peer::MessageId;
use tokio::sync::mpsc;

use super::Context;
use super::say::stdin_lines;
use super::station::Station;
use crate::engine::chat::{self, HistoryQuery};
use crate::engine::event::Event;
use crate::engine::node::control::{Action, FromNode, NodeClient, Outcome, Reply};
use crate::engine::{Error, ErrorKind, Me};
use crate::ui::{happening_json, message_json};

/// A line of the input.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    r#ref: Value,
    #[serde(flatten)]
    command: Command,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Command {
    Send { to: UserName, text: String },
    Read { from: UserName },
    Typing { to: UserName },
}

pub(super) async fn run(context: &Context) -> Result<(), Error> {
    let me = context.me()?;
    let mut input = stdin_lines()?;
    // What comes from here on is told, even if it comes before there is a node to hear it from.
    let last = last_place(&me)?;
    let mut station = Station::open(context, &me).await?;
    let listened = Listener { context, me: &me, asked: HashMap::new(), last, open: HashMap::new() };
    let ended = listened.run(&mut station.client, &mut input).await;
    station.close().await?;
    ended
}

/// The place of the last message.
fn last_place(me: &Me) -> Result<i64, Error> {
    Ok(me.profile.history(&HistoryQuery::last(1))?.last().map_or(0, |stored| stored.seq))
}

struct Listener<'a> {
    context: &'a Context,
    me: &'a Me,
    /// The `ref`s of commands whose reply is still to come.
    asked: HashMap<u64, Value>,
    /// The place of the last message that was told.
    last: i64,
    /// The places of messages of ours that were told, and not what became of them.
    open: HashMap<MessageId, i64>,
}

impl Listener<'_> {
    async fn run(
        mut self,
        client: &mut NodeClient,
        input: &mut mpsc::Receiver<std::io::Result<String>>,
    ) -> Result<(), Error> {
        client.tell(Action::Watch).await?;
        self.catch_up()?;
        let mut is_open = true;
        loop {
            tokio::select! {
                () = self.context.cancel.cancelled() => return Err(Error::Interrupted),
                line = input.recv(), if is_open => match line {
                    Some(Ok(line)) if line.trim().is_empty() => {}
                    Some(Ok(line)) => self.command(client, &line).await?,
                    // Input that is no text is an error of one line.
                    Some(Err(why)) if why.kind() == std::io::ErrorKind::InvalidData => self.bad("", &why.to_string())?,
                    Some(Err(why)) => return Err(why.into()),
                    None => is_open = false,
                },
                news = client.next() => match news? {
                    FromNode::Event(event) => self.event(&event)?,
                    FromNode::Reply(reply) => self.reply(reply)?,
                },
            }
        }
    }

    async fn command(&mut self, client: &mut NodeClient, line: &str) -> Result<(), Error> {
        let Line { r#ref, command } = match serde_json::from_str(line) {
            Ok(line) => line,
            Err(why) => return Ok(self.bad(line, &why.to_string())?),
        };
        let action = match command {
            Command::Send { to, text } => {
                if let Err(error) = chat::compose(&text) {
                    return self.refuse(&r#ref, error.kind(), &error.to_string());
                }
                client.send(Action::MarkRead { with: to.clone(), up_to: None }).await?;
                Action::Say { to, text, id: None }
            }
            Command::Read { from } => Action::MarkRead { with: from, up_to: None },
            Command::Typing { to } => Action::Typing { to },
        };
        self.asked.insert(client.send(action).await?, r#ref);
        Ok(())
    }

    fn reply(&mut self, reply: Reply) -> Result<(), Error> {
        let Some(r#ref) = self.asked.remove(&reply.id) else { return Ok(()) };
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
            _ => {}
        }
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
                let settled = Event::State { to: stored.peer, id, state, why: None };
                if let Some((kind, fields)) = happening_json(&settled, &self.me.user) {
                    self.context.output.object(kind, &fields)?;
                }
            }
        }
        Ok(())
    }

    fn bad(&self, line: &str, why: &str) -> std::io::Result<()> {
        let line: String = line.chars().take(200).collect();
        let message = format!("not a command: {why}");
        self.context
            .output
            .object("error", &json!({ "code": ErrorKind::Usage.as_str(), "message": message, "line": line }))
    }
}
