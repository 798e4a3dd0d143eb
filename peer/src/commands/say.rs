//! `peer chat` without a terminal: one message, or a filter of lines.

use std::collections::HashSet;
use std::io::{BufRead, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use serde_json::json;
use shared::UserName;
use shared::peer::ChatMessage;
use tokio::sync::mpsc;

use super::Context;
use super::station::Station;
use crate::engine::chat::{self, Direction, HistoryQuery, MessageState, Prospect, StoredMessage, Visit, prospect};
use crate::engine::event::Event;
use crate::engine::node::control::{Action, Delivery, FromNode, Lifetime, NodeClient, Outcome};
use crate::engine::node::{expire, expired_words};
use crate::engine::{Error, ErrorKind, Me, blocking};
use crate::sys::job;
use crate::ui::message_lines;

/// Lines that are stored before the node has said so of the first of them.
const AHEAD: usize = 64;

/// Says one thing; what can't go now waits, unless it is to go `now` or not at all.
pub(super) async fn one(context: &Context, me: &Me, user: &UserName, text: &str, now: bool) -> Result<(), Error> {
    let delivery = match NodeClient::connect(&me.profile).await? {
        Some(mut node) => node.deliver(user, text, now).await?,
        None => visit(context, me, user, chat::compose(text)?, now).await?,
    };
    tell(context, user, &delivery)
}

pub(super) fn tell(context: &Context, user: &UserName, delivery: &Delivery) -> Result<(), Error> {
    let Delivery { message, state, why } = delivery;
    if context.output.is_json() {
        let ack = json!({ "to": user, "peer": user, "id": message.id, "ts": message.ts, "state": state, "why": why });
        context.output.object("ack", &ack)?;
    }
    if let Some(why) = why {
        say_it_waits(context, user, why);
    }
    Ok(())
}

fn say_it_waits(context: &Context, user: &UserName, why: &str) {
    context.output.note(&format!(
        "{why}: message queued. It goes when {user} can be reached, as long as `peer serve` runs (see `peer outbox`)"
    ));
}

/// Without a node: over a link of our own, together with whatever else waits for them.
pub(super) async fn visit(
    context: &Context,
    me: &Me,
    user: &UserName,
    message: ChatMessage,
    now: bool,
) -> Result<Delivery, Error> {
    for late in expire(me, Duration::ZERO).await? {
        context.output.warning(&format!("a message to {} was given up: {}", late.peer, expired_words(&late)));
    }
    let StoredMessage { message, .. } = chat::store_ours(me, user, message, |_| {}).await?;
    let mut outcome = None;
    let id = message.id;
    let tried = async {
        let mut visit = Visit::open(me, user).await?;
        let flushed = visit
            .flush(&mut |settled| {
                if settled.id == id {
                    outcome = Some(settled);
                }
            })
            .await;
        visit.close().await;
        flushed
    }
    .await;
    match (outcome, tried) {
        (Some(settled), _) if settled.state == MessageState::Stored => {
            Ok(Delivery { message, state: MessageState::Stored, why: None })
        }
        (Some(chat::Settled { refused: Some((_, why)), .. }), _) => {
            let (profile, to) = (me.profile.clone(), user.clone());
            blocking(move || chat::give_up(&profile, &to, vec![message], false)).await?;
            Err(Error::Told { kind: ErrorKind::Refused, message: format!("{user} refused it: {why}") })
        }
        (_, Err(error)) => {
            let met = chat::is_met(me, user).await?;
            if prospect(&error, met) == Prospect::Later && !now && chat::may_wait(error.kind(), met, false) {
                return chat::waits(message, error.kind(), error.to_string());
            }
            let is_nobody = matches!(error, Error::UnknownUser(_)) && !met;
            let (profile, to) = (me.profile.clone(), user.clone());
            blocking(move || chat::give_up(&profile, &to, vec![message], is_nobody)).await?;
            Err(error)
        }
        // Another process of the profile delivered it, or took it out.
        (_, Ok(())) => Ok(Delivery { message, state: MessageState::Stored, why: None }),
    }
}

/// Lines in are messages, lines out are what arrives; ends when the input has ended and was tried.
pub(super) async fn lines(context: &Context, me: &Me, user: &UserName, now: bool) -> Result<(), Error> {
    let mut input = stdin_lines()?;
    // What comes from here on is told, even if it comes before there is a node to hear it from.
    let last = look_back(me, HistoryQuery::with(user, 1)).await?.last().map_or(0, |stored| stored.seq);
    let mut station = Station::open(context, me, Lifetime::Command).await?;
    if std::io::stdin().is_terminal() {
        context.output.note(&format!("talking to {user}: each line is a message, Ctrl-D ends"));
    }
    let filtered = Filter::new(context, me, user, now, last).run(&mut station.client, &mut input).await;
    station.close().await?;
    filtered
}

/// A line of the input; one that is no text is an error of that line alone.
fn as_text(line: std::io::Result<String>) -> std::io::Result<Result<String, Error>> {
    match line {
        Ok(line) => Ok(Ok(line)),
        Err(why) if why.kind() == std::io::ErrorKind::InvalidData => {
            Ok(Err(Error::Usage("a line that is not UTF-8 was not sent".to_owned())))
        }
        Err(why) => Err(why),
    }
}

/// The filter of lines.
struct Filter<'a> {
    context: &'a Context,
    me: &'a Me,
    user: &'a UserName,
    now: bool,
    is_open: bool,
    said: bool,
    /// The place of the last message that was told, or was there before.
    last: i64,
    /// Commands whose reply is still to come.
    under_way: HashSet<u64>,
    flush: Option<u64>,
    failure: Option<Error>,
}

impl<'a> Filter<'a> {
    fn new(context: &'a Context, me: &'a Me, user: &'a UserName, now: bool, last: i64) -> Self {
        let (under_way, flush, failure) = (HashSet::new(), None, None);
        Self { context, me, user, now, is_open: true, said: false, last, under_way, flush, failure }
    }

    async fn run(
        mut self,
        client: &mut NodeClient,
        input: &mut mpsc::Receiver<std::io::Result<String>>,
    ) -> Result<(), Error> {
        client.tell(Action::Watch).await?;
        self.catch_up(client).await?;
        loop {
            if !self.is_open && self.under_way.is_empty() && self.flush.is_none() {
                if !self.said {
                    return Err(Error::Usage("there is nothing to send".to_owned()));
                }
                self.flush = Some(client.send(Action::Flush { to: self.user.clone() }).await?);
            }
            let ahead = if self.now { 1 } else { AHEAD };
            tokio::select! {
                () = self.context.cancel.cancelled() => return Err(Error::Interrupted),
                line = input.recv(), if self.is_open && self.under_way.len() < ahead => match line.map(as_text).transpose()? {
                    Some(Ok(line)) if line.trim().is_empty() => {}
                    Some(text) => {
                        self.said = true;
                        let text = match text.and_then(|text| chat::compose(&text).map(|_| text)) {
                            Ok(text) => text,
                            Err(error) => {
                                // This line is lost, the others are not.
                                self.context.output.warning(&error.to_string());
                                self.failure.get_or_insert(error);
                                continue;
                            }
                        };
                        let to = self.user.clone();
                        let action = if self.now { Action::Deliver { to, text, now: true } } else { Action::Say { to, text, message: None } };
                        self.under_way.insert(client.send(action).await?);
                    }
                    None => self.is_open = false,
                },
                news = client.next() => match news? {
                    FromNode::Reply(reply) if self.flush == Some(reply.id) => return self.end(reply.outcome),
                    FromNode::Reply(reply) => self.reply(reply.id, reply.outcome)?,
                    FromNode::Event(event) => self.event(event, client).await?,
                },
            }
        }
    }

    fn reply(&mut self, id: u64, outcome: Outcome) -> Result<(), Error> {
        if !self.under_way.remove(&id) {
            // Of a command whose outcome says nothing.
            return Ok(());
        }
        outcome.into_result().map(|_| ())
    }

    async fn event(&mut self, event: Event, client: &mut NodeClient) -> Result<(), Error> {
        match event {
            Event::Received { from, message, seq, at } if from == *self.user && seq > self.last => {
                let (direction, state) = (Direction::In, MessageState::Received);
                self.received(StoredMessage { seq, peer: from, direction, message, state, at }, client).await?;
            }
            // The next one that comes says that all before it was read: what came too fast has to be told first.
            Event::Missed { .. } => self.catch_up(client).await?,
            Event::State { to, id, state, why, kind } if to == *self.user && !state.is_open() => {
                if self.context.output.is_json() {
                    self.context
                        .output
                        .object("ack", &json!({ "to": to, "peer": to, "id": id, "state": state, "why": why }))?;
                }
                if let (true, Some(message)) = (state.is_given_up(), why) {
                    self.failure.get_or_insert(Error::Told { kind: kind.unwrap_or(ErrorKind::Refused), message });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells what was not told.
    async fn catch_up(&mut self, client: &mut NodeClient) -> Result<(), Error> {
        let missed = HistoryQuery { after: Some(self.last), ..HistoryQuery::with(self.user, usize::MAX) };
        for stored in look_back(self.me, missed).await? {
            if stored.direction == Direction::In {
                self.received(stored, client).await?;
            }
        }
        Ok(())
    }

    async fn received(&mut self, stored: StoredMessage, client: &mut NodeClient) -> Result<(), Error> {
        self.last = stored.seq;
        if self.context.output.is_json() {
            self.context.output.object("message", &crate::ui::message_json(&stored, self.user))?;
        } else {
            self.context.output.data(&message_lines(&stored.message.text))?;
        }
        client.send(Action::MarkRead { with: stored.peer, up_to: Some(stored.seq) }).await.map(|_| ())
    }

    fn end(self, outcome: Outcome) -> Result<(), Error> {
        let flushed = outcome.into_result()?;
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if let Some(why) = flushed["why"].as_str() {
            say_it_waits(self.context, self.user, why);
        }
        Ok(())
    }
}

async fn look_back(me: &Me, query: HistoryQuery) -> Result<Vec<StoredMessage>, Error> {
    let profile = me.profile.clone();
    blocking(move || Ok(profile.history(&query)?)).await
}

/// The lines of standard input, read where reading may block.
pub(super) fn stdin_lines() -> Result<mpsc::Receiver<std::io::Result<String>>, Error> {
    let (lines, receiver) = mpsc::channel(16);
    let input = std::io::stdin();
    if job::is_others(input.as_fd(), input.is_terminal()) {
        // To read would stop this process, and its node with it: there is no input.
        return Ok(receiver);
    }
    // It ends with the input or with the process: a blocked read can't be called off.
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
