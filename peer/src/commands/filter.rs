//! `peer chat` between pipes: lines in are messages, lines out are what arrives.
//!
//! Each line is a message with an id from the start. A node that ends takes nothing with it: what it did not answer is said
//! again to the next one, under the same id, and is stored once.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io::IsTerminal;
use std::time::Duration;

use serde_json::json;
use shared::UserName;
use shared::peer::{ChatMessage, MessageId};
use tokio::sync::mpsc;

use super::say::{MOMENT, say_it_waits, say_what_is_waited_for};
use super::station::Station;
use super::take_back::interrupted;
use super::{Context, connection};
use crate::engine::chat::{self, Direction, HistoryQuery, MessageState, StoredMessage};
use crate::engine::event::Event;
use crate::engine::node::control::{Action, FromNode, Lifetime, NodeClient, Outcome};
use crate::engine::{Error, ErrorKind, Me, blocking};
use crate::ui::{InputLine, excerpt, input_lines, message_lines};

/// Lines that are stored before the node has said so of the first of them.
const AHEAD: usize = 64;

/// Lines that follow each other sooner belong together.
const PAUSE: Duration = Duration::from_secs(1);

/// The lines of standard input, as they come.
type Lines = mpsc::Receiver<std::io::Result<InputLine>>;

/// Filters until the input has ended and was tried.
pub(super) async fn run(context: &Context, me: &Me, user: &UserName, now: bool) -> Result<(), Error> {
    let mut input = input_lines()?;
    // What comes from here on is told, even if it comes before there is a node to hear it from.
    let last = look_back(me, HistoryQuery::with(user, 1)).await?.last().map_or(0, |stored| stored.seq);
    let station = Station::open(context, me, Lifetime::Command).await?;
    if std::io::stdin().is_terminal() {
        context.output.note(&format!("talking to {user}: each line is a message, Ctrl-D ends"));
    }
    Filter::new(context, me, user, now, last).run(station, &mut input).await
}

/// Makes a message of a line.
///
/// # Errors
/// What is wrong with the line alone, and which one it is: the others are sent.
fn message_of(line: &InputLine) -> Result<ChatMessage, Error> {
    let composed = match line.has_marks {
        true => Err(Error::Usage("it is not UTF-8".to_owned())),
        false => chat::compose(&line.text),
    };
    composed.map_err(|why| Error::Usage(format!("a line was not sent ({}): {why}", excerpt(&line.text))))
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
    /// What is to be said before the next line: a node ended that may not have stored it.
    again: VecDeque<ChatMessage>,
    /// Messages by the command whose reply is still to come.
    under_way: BTreeMap<u64, ChatMessage>,
    /// Messages of which it was not told what became of them.
    open: HashSet<MessageId>,
    flush: Option<u64>,
    failure: Option<Error>,
}

impl<'a> Filter<'a> {
    fn new(context: &'a Context, me: &'a Me, user: &'a UserName, now: bool, last: i64) -> Self {
        Self {
            context,
            me,
            user,
            now,
            is_open: true,
            said: false,
            last,
            again: VecDeque::new(),
            under_way: BTreeMap::new(),
            open: HashSet::new(),
            flush: None,
            failure: None,
        }
    }

    async fn run(mut self, mut station: Station, input: &mut Lines) -> Result<(), Error> {
        loop {
            let flushed = match self.filter(&mut station.client, input).await {
                Err(ended @ Error::NodeGone { .. }) => {
                    station = self.another(station, ended, input).await?;
                    continue;
                }
                Err(Error::Interrupted) => Err(self.interrupted().await),
                flushed => flushed,
            };
            station.close().await?;
            return self.end(flushed?);
        }
    }

    async fn filter(&mut self, client: &mut NodeClient, input: &mut Lines) -> Result<Outcome, Error> {
        client.tell(Action::Watch { with: Some(self.user.clone()) }).await?;
        self.catch_up(client).await?;
        let mut is_patient = true;
        loop {
            let ahead = if self.now { 1 } else { AHEAD };
            while self.under_way.len() < ahead
                && let Some(message) = self.again.pop_front()
            {
                self.send(client, message)?;
            }
            if !self.is_open && self.under_way.is_empty() && self.flush.is_none() {
                if !self.said {
                    return Err(Error::Usage("there is nothing to send".to_owned()));
                }
                self.flush = Some(client.send(Action::Flush { to: self.user.clone() }).await?);
            }
            let is_waiting = is_patient && !self.is_open;
            tokio::select! {
                () = self.context.cancel.cancelled() => return Err(Error::Interrupted),
                line = input.recv(), if self.is_open && self.under_way.len() < ahead => {
                    match line.transpose()? {
                        Some(line) => self.line(client, &line)?,
                        None => self.is_open = false,
                    }
                }
                news = client.next() => match news? {
                    FromNode::Reply(reply) if self.flush == Some(reply.id) => return Ok(reply.outcome),
                    FromNode::Reply(reply) => self.reply(reply.id, reply.outcome)?,
                    FromNode::Event(event) => self.event(event, client).await?,
                },
                () = tokio::time::sleep(MOMENT), if is_waiting => {
                    is_patient = false;
                    say_what_is_waited_for(self.context, self.user);
                }
            }
        }
    }

    fn line(&mut self, client: &mut NodeClient, line: &InputLine) -> Result<(), Error> {
        if line.text.trim().is_empty() {
            return Ok(());
        }
        self.said = true;
        match message_of(line) {
            Ok(message) => self.send(client, message)?,
            Err(error) => {
                // This line is lost, the others are not.
                self.context.output.warning(&error.to_string());
                self.failure.get_or_insert(error);
            }
        }
        Ok(())
    }

    /// Hands a message to the node, or keeps it for the next one.
    fn send(&mut self, client: &mut NodeClient, message: ChatMessage) -> Result<(), Error> {
        let (to, text, id) = (self.user.clone(), message.text.as_received().to_owned(), Some(message.id));
        let action = match self.now {
            true => Action::Deliver { to, text, now: true, message: id },
            false => Action::Say { to, text, message: id },
        };
        self.open.insert(message.id);
        match client.post(action) {
            Ok(command) => drop(self.under_way.insert(command, message)),
            Err(error) => {
                self.again.push_front(message);
                return Err(error);
            }
        }
        Ok(())
    }

    fn reply(&mut self, id: u64, outcome: Outcome) -> Result<(), Error> {
        // Of a command whose outcome says nothing, there is no message.
        let Some(message) = self.under_way.remove(&id) else { return Ok(()) };
        let told = outcome.into_result().map(|_| ());
        if told.is_err() {
            self.open.remove(&message.id);
        }
        told
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
                self.settled(id, state, why, kind)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn settled(
        &mut self,
        id: MessageId,
        state: MessageState,
        why: Option<String>,
        kind: Option<ErrorKind>,
    ) -> Result<(), Error> {
        self.open.remove(&id);
        if self.context.output.is_json() {
            let ack = json!({ "to": self.user, "peer": self.user, "id": id, "state": state, "why": why });
            self.context.output.object("ack", &ack)?;
        }
        if let (true, Some(message)) = (state.is_given_up(), why) {
            self.failure.get_or_insert(Error::Told { kind: kind.unwrap_or(ErrorKind::Refused), message });
        }
        Ok(())
    }

    /// Tells what was not told: what came, and what became of what was said.
    async fn catch_up(&mut self, client: &mut NodeClient) -> Result<(), Error> {
        let missed = HistoryQuery { after: Some(self.last), ..HistoryQuery::with(self.user, usize::MAX) };
        for stored in look_back(self.me, missed).await? {
            match stored.direction {
                Direction::In => self.received(stored, client).await?,
                Direction::Out if !stored.state.is_open() && self.open.contains(&stored.message.id) => {
                    self.settled(stored.message.id, stored.state, None, None)?;
                }
                Direction::Out => {}
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

    /// Finds another node when the one in use has ended, and goes on with that; when none is to be had, stores what was said
    /// and names the first line that is lost.
    async fn another(&mut self, station: Station, ended: Error, input: &mut Lines) -> Result<Station, Error> {
        let unanswered = std::mem::take(&mut self.under_way);
        unanswered.into_values().rev().for_each(|message| self.again.push_front(message));
        self.flush = None;
        let found = async {
            // What a node of our own ended with is why it ended.
            match station.own_ending().await {
                Some(own) => own.and(Err(ended)),
                None => connection::another(self.context, self.me, Lifetime::Command).await,
            }
        };
        match found.await {
            Ok(station) => {
                self.context.output.note("the node that was running has ended: going on with another one");
                Ok(station)
            }
            Err(Error::Interrupted) => Err(self.interrupted().await),
            Err(error) => Err(self.without_node(&error, input).await),
        }
    }

    /// Stores what was said, and what comes without a pause; tells of it, and of the first line that was not sent.
    async fn without_node(&mut self, error: &Error, input: &mut Lines) -> Error {
        let unsent = match self.now {
            true => match self.again.pop_front() {
                Some(message) => Some(message.text.into_received()),
                None => input.try_recv().ok().and_then(Result::ok).map(|line| line.text),
            },
            false => self.store_lines(input).await,
        };
        let queued = match self.queued().await {
            0 => String::new(),
            1 => "; 1 message is queued (`peer outbox`)".to_owned(),
            count => format!("; {count} messages are queued (`peer outbox`)"),
        };
        let rest = match unsent {
            Some(text) => format!("; the first line that was not sent: {}", excerpt(&text)),
            None if self.is_open => "; no further line was read".to_owned(),
            None => String::new(),
        };
        Error::Told { kind: error.kind(), message: format!("{error}{queued}{rest}") }
    }

    /// Stores what was said, and the lines that come without a pause; the first that can't be stored ends it.
    async fn store_lines(&mut self, input: &mut Lines) -> Option<String> {
        loop {
            let message = match self.again.pop_front() {
                Some(message) => message,
                None => match tokio::time::timeout(PAUSE, input.recv()).await {
                    Ok(Some(Ok(line))) => match message_of(&line) {
                        Ok(message) => message,
                        Err(_) if line.text.trim().is_empty() => continue,
                        Err(_) => return Some(line.text),
                    },
                    Ok(Some(Err(_))) | Err(_) => return None,
                    Ok(None) => {
                        self.is_open = false;
                        return None;
                    }
                },
            };
            let text = message.text.clone();
            if let Err(why) = chat::store_ours(self.me, self.user, message, |_| {}).await {
                self.context.output.warning(&why.to_string());
                return Some(text.into_received());
            }
        }
    }

    /// Tells what becomes of what was said, at Ctrl-C.
    async fn interrupted(&mut self) -> Error {
        if self.now {
            let last = self.under_way.pop_first().map(|(_, message)| message).or_else(|| self.again.pop_front());
            return match last {
                Some(message) => interrupted(self.context, self.me, self.user, message.id, true).await,
                None => Error::Interrupted,
            };
        }
        let unanswered = std::mem::take(&mut self.under_way).into_values().chain(std::mem::take(&mut self.again));
        for message in unanswered {
            let text = message.text.clone();
            if let Err(why) = chat::store_ours(self.me, self.user, message, |_| {}).await {
                self.context.output.warning(&format!("not sent: {} ({why})", excerpt(text.as_received())));
            }
        }
        let user = self.user;
        match self.queued().await {
            0 => {}
            1 => self.context.output.note(&format!("interrupted: 1 message for {user} stays queued (`peer outbox`)")),
            count => {
                self.context
                    .output
                    .note(&format!("interrupted: {count} messages for {user} stay queued (`peer outbox`)"));
            }
        }
        Error::Interrupted
    }

    /// Counts what waits for the other one.
    async fn queued(&self) -> usize {
        let (profile, user) = (self.me.profile.clone(), self.user.clone());
        blocking(move || Ok(profile.outbox_of(&user, 0, usize::MAX)?.len())).await.unwrap_or_default()
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
