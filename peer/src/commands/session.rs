//! A view, the node it shows, and what the user wishes: they meet here.
//!
//! Keys come before everything else, and what happens is drawn at most sixty times a second: a flood of events makes
//! neither wait, nor does a node that is slow, or gone.

mod beside;
mod ending;
mod unsaid;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use shared::UserName;
use shared::peer::MessageId;
use shared::safe_text::safe_line;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::beside::Done;
use self::ending::How;
pub(super) use self::ending::{Ended, say_goodbye};
use self::unsaid::Unsaid;
use super::Context;
use super::background_fetch::{BackgroundFetches, FromFetch};
use super::bell::Bell;
use super::connection::{Connection, Heard};
use super::station::Station;
use crate::engine::chat::{Direction, HistoryQuery, StoredMessage};
use crate::engine::event::Event;
use crate::engine::node::control::{Action, FromNode, Outcome, Reply};
use crate::engine::{Error, Me, now_ms};
use crate::sys::job;
use crate::ui::{CAUGHT_UP_AT_ONCE, FOUND_AT_ONCE, Key, News, View, Wish};

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(16);
/// For what is said to arrive before the node it goes through ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Messages among which those are looked for that may have been stored by a node that ended.
const UNSAID_AMONG: usize = 10_000;

/// What a reply of the node is to.
#[derive(Debug)]
enum Asked {
    Say {
        to: UserName,
        text: String,
    },
    People,
    History {
        with: UserName,
        before: Option<i64>,
    },
    CatchUp {
        with: UserName,
    },
    Unsaid,
    Found {
        with: UserName,
        words: String,
    },
    Block {
        user: UserName,
        blocked: bool,
    },
    /// What is lost if our own node ends before.
    Offer,
    Quiet,
}

struct Session<'a, V> {
    context: &'a Context,
    me: &'a Me,
    view: V,
    connection: Connection,
    asked: HashMap<u64, Asked>,
    jobs: JoinSet<Done>,
    fetches: BackgroundFetches,
    /// What was said here and is not stored over there.
    under_way: HashSet<MessageId>,
    unsaid: Unsaid,
    /// It won't get there before the farewell is over.
    is_held: bool,
    seen: HashMap<UserName, i64>,
    bell: Bell,
    /// What is being hashed to be offered, in words.
    offering: HashMap<u64, String>,
    offers: u64,
    /// What is said when the view is over.
    said: Vec<String>,
    leaving: Option<How>,
    /// Nothing is waited for any more.
    at_once: bool,
}

/// Runs a view until its user leaves, then ends what it began: fetches, the terminal, the node if that is ours.
///
/// # Errors
/// [`Error`]: the terminal fails, or the node is gone and no other can be had.
pub(super) async fn attend<V: View>(
    context: &Context,
    me: &Me,
    view: V,
    mut keys: mpsc::Receiver<Key>,
    station: Station,
) -> Result<Ended, Error> {
    let (fetches, mut told) = BackgroundFetches::new(me.clone());
    let mut session = Session {
        context,
        me,
        view,
        connection: Connection::There(station),
        asked: HashMap::new(),
        jobs: JoinSet::new(),
        fetches,
        under_way: HashSet::new(),
        unsaid: Unsaid::default(),
        is_held: false,
        seen: HashMap::new(),
        bell: Bell::default(),
        offering: HashMap::new(),
        offers: 0,
        said: Vec::new(),
        leaving: None,
        at_once: false,
    };
    let how = session.run(&mut keys, &mut told).await;
    let Session { mut view, connection, mut jobs, fetches, mut at_once, mut said, offering, under_way, .. } = session;
    if at_once {
        said.extend(fetches.give_up());
    } else {
        tokio::select! {
            of_fetches = fetches.end(&mut told) => said.extend(of_fetches),
            () = interrupted(&mut keys) => at_once = true,
        }
    }
    said.extend(offering.into_values().map(|what| format!("{what} is not offered: it was still being hashed")));
    jobs.shutdown().await;
    let closed = view.close();
    drop(view);
    let is_last_node = connection.owns_node();
    if !at_once {
        // What a node of our own ended with is why the view did.
        connection.close().await?;
    }
    let how = how?;
    closed?;
    said.extend(if is_last_node { ending::all_that_waits(me) } else { ending::waits(under_way.len(), &[]) });
    Ok(Ended { how, said })
}

impl<V: View> Session<'_, V> {
    async fn run(
        &mut self,
        keys: &mut mpsc::Receiver<Key>,
        told: &mut mpsc::UnboundedReceiver<FromFetch>,
    ) -> Result<How, Error> {
        let mut stop = signal(SignalKind::from_raw(job::STOP))?;
        let mut go_on = signal(SignalKind::from_raw(job::GO_ON))?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.ask(Action::Watch, Asked::Quiet);
        let wishes = self.view.begin();
        self.see_to(wishes)?;
        let mut changed = self.view.draw()?;
        let mut drawn = tokio::time::Instant::now();
        let mut farewell = None;
        loop {
            if self.at_once {
                return Ok(How::Interrupted);
            }
            if let Some(how) = self.leaving {
                let by = *farewell.get_or_insert_with(|| tokio::time::Instant::now() + FAREWELL);
                if self.has_said_all() || tokio::time::Instant::now() >= by {
                    return Ok(how);
                }
            }
            tokio::select! {
                biased;
                () = self.context.cancel.cancelled() => return Ok(How::Interrupted),
                _ = hang_up.recv() => return Ok(How::Interrupted),
                key = keys.recv() => {
                    let Some(key) = key else { return Ok(How::Interrupted) };
                    if self.leaving.is_some() {
                        self.at_once |= key.is_interrupt();
                        continue;
                    }
                    let mut wishes = self.view.key(&key, Instant::now())?;
                    while let Ok(key) = keys.try_recv() {
                        wishes.extend(self.view.key(&key, Instant::now())?);
                    }
                    self.see_to(wishes)?;
                    changed = self.view.draw()?;
                    drawn = tokio::time::Instant::now();
                }
                _ = stop.recv() => self.view.suspend()?,
                _ = go_on.recv() => self.news(&News::Resumed)?,
                () = tokio::time::sleep_until(drawn + FRAME), if changed => {
                    self.tell_what_was_seen();
                    changed = self.view.draw()?;
                    drawn = tokio::time::Instant::now();
                }
                Some(from) = told.recv() => {
                    self.take_from_fetch(from)?;
                    changed = true;
                }
                Some(done) = self.jobs.join_next() => {
                    let done = done.unwrap_or_else(|failure| Done::News(News::Problem(failure.to_string())));
                    self.take_done(done)?;
                    changed = true;
                }
                heard = self.connection.next() => {
                    match heard? {
                        Heard::Node(from) => self.take_from_node(from)?,
                        Heard::Lost(why) => self.lost(why)?,
                        Heard::Found => self.found()?,
                    }
                    changed = true;
                }
                _ = tick.tick() => {
                    self.news(&News::Tick)?;
                    changed = true;
                }
                () = until(farewell), if farewell.is_some() => {}
            }
        }
    }

    /// Whether nothing that was said is lost with our own node.
    fn has_said_all(&self) -> bool {
        let is_said = |asked: &Asked| matches!(asked, Asked::Say { .. } | Asked::Offer);
        let is_saying = || !self.unsaid.is_empty() || self.asked.values().any(is_said);
        self.offering.is_empty()
            && (self.is_held || !is_saying())
            && (!self.connection.owns_node() || self.under_way.is_empty())
    }

    fn news(&mut self, news: &News) -> Result<(), Error> {
        let wishes = self.view.news(news, Instant::now())?;
        self.see_to(wishes)
    }

    fn see_to(&mut self, wishes: Vec<Wish>) -> Result<(), Error> {
        for wish in wishes {
            match wish {
                Wish::Say { to, text } => self.say(to, text),
                Wish::Typing { to } => self.ask(Action::Typing { to }, Asked::Quiet),
                Wish::People => self.ask(Action::People, Asked::People),
                Wish::History { with, before, age, limit } => {
                    let since = age.map(|age| now_ms().saturating_sub(age));
                    let query = HistoryQuery { before, since, ..HistoryQuery::with(&with, limit) };
                    self.ask(Action::History(query), Asked::History { with, before });
                }
                Wish::CatchUp { with, after } => {
                    let query = HistoryQuery {
                        after: Some(after),
                        earliest: true,
                        ..HistoryQuery::with(&with, CAUGHT_UP_AT_ONCE)
                    };
                    self.ask(Action::History(query), Asked::CatchUp { with });
                }
                Wish::Block { .. } | Wish::Search { .. } if !self.connection.is_there() => {
                    let what = "there is no node at the moment: try again when there is".to_owned();
                    self.view.news(&News::Problem(what), Instant::now())?;
                }
                Wish::Search { with, words } => {
                    let query =
                        HistoryQuery { search: Some(words.clone()), ..HistoryQuery::with(&with, FOUND_AT_ONCE) };
                    self.ask(Action::History(query), Asked::Found { with, words });
                }
                Wish::MarkRead { with, up_to } => {
                    let seen = self.seen.entry(with).or_insert(up_to);
                    *seen = up_to.max(*seen);
                }
                Wish::Block { user, blocked } => {
                    let asked = Asked::Block { user: user.clone(), blocked };
                    let action = if blocked { Action::Block { user } } else { Action::Unblock { user } };
                    self.ask(action, asked);
                }
                Wish::Get { from, name } => {
                    let begun = self.fetches.start(&from, &name);
                    self.complain(begun)?;
                }
                Wish::Stop { from, name } => {
                    let stopped = self.fetches.stop(&from, name.as_deref());
                    self.complain(stopped)?;
                }
                Wish::Offer { to, paths } => self.offer(to, paths),
                Wish::Account { of } => drop(self.jobs.spawn(beside::account(self.me.clone(), of))),
                Wish::Files { of, start } => drop(self.jobs.spawn(beside::files(self.me.clone(), of, start))),
                Wish::Paths { start } => drop(self.jobs.spawn(beside::paths(start))),
                Wish::Suspend => self.view.suspend()?,
                Wish::Leave => self.leave(How::Left),
                // The second one.
                Wish::Interrupt if self.leaving.is_some() => self.at_once = true,
                Wish::Interrupt => self.leave(How::Interrupted),
            }
        }
        self.tell_what_was_seen();
        Ok(())
    }

    fn say(&mut self, to: UserName, text: String) {
        #[cfg(debug_assertions)]
        panic_if_told(&text);
        // What was said before comes before.
        if self.connection.is_there() && self.unsaid.is_empty() {
            self.ask(Action::Say { to: to.clone(), text: text.clone(), message: None }, Asked::Say { to, text });
        } else {
            self.unsaid.push(to, text);
        }
    }

    fn ask(&mut self, action: Action, asked: Asked) {
        if let Some(id) = self.connection.send(action) {
            self.asked.insert(id, asked);
        }
    }

    fn tell_what_was_seen(&mut self) {
        if self.connection.is_there() {
            for (with, up_to) in std::mem::take(&mut self.seen) {
                self.ask(Action::MarkRead { with, up_to: Some(up_to) }, Asked::Quiet);
            }
        }
    }

    fn take_from_node(&mut self, from: FromNode) -> Result<(), Error> {
        match from {
            FromNode::Event(event) => {
                self.follow(&event);
                self.bell.hear(self.context, self.me, &event)?;
                self.news(&News::Event(event))
            }
            FromNode::Reply(reply) => self.take_reply(reply),
        }
    }

    fn take_reply(&mut self, reply: Reply) -> Result<(), Error> {
        let Some(asked) = self.asked.remove(&reply.id) else { return Ok(()) };
        let value = match reply.outcome {
            Outcome::Ok(value) => value,
            Outcome::Error { message, .. } => {
                let what = if matches!(asked, Asked::Say { .. }) { "not sent: " } else { "" };
                return self.news(&News::Problem(format!("{what}{message}")));
            }
        };
        let wrong = |why: serde_json::Error| Error::Internal(format!("the node's answer: {why}"));
        let news = match asked {
            Asked::People => News::People(serde_json::from_value(value).map_err(wrong)?),
            Asked::History { with, before } => {
                let messages = self.look_at(serde_json::from_value(value).map_err(wrong)?);
                News::History { with, before, messages }
            }
            Asked::CatchUp { with } => {
                News::CaughtUp { with, messages: self.look_at(serde_json::from_value(value).map_err(wrong)?) }
            }
            Asked::Unsaid => {
                let messages: Vec<StoredMessage> = serde_json::from_value(value).map_err(wrong)?;
                let again = self.unsaid.take(&messages);
                again.into_iter().for_each(|(to, text)| self.say(to, text));
                return Ok(());
            }
            Asked::Found { with, words } => {
                News::Found { with, words, messages: serde_json::from_value(value).map_err(wrong)? }
            }
            Asked::Block { user, blocked } => {
                self.ask(Action::People, Asked::People);
                News::Note(match blocked {
                    true => format!("nothing more is taken from {user}; /unignore takes it back"),
                    false => format!("{user} is heard again"),
                })
            }
            Asked::Say { .. } | Asked::Offer | Asked::Quiet => return Ok(()),
        };
        self.news(&news)
    }

    /// What is on its way when the user leaves.
    fn follow(&mut self, event: &Event) {
        match event {
            Event::Said { message, seq, .. } => {
                self.unsaid.stored(*seq);
                self.under_way.insert(message.id);
            }
            Event::Received { seq, .. } => self.unsaid.stored(*seq),
            Event::State { id, state, .. } if !state.is_open() => {
                self.under_way.remove(id);
            }
            Event::Held { .. } if self.leaving.is_some() => self.is_held = true,
            _ => {}
        }
    }

    /// The same, from the history.
    fn look_at(&mut self, messages: Vec<StoredMessage>) -> Vec<StoredMessage> {
        for stored in &messages {
            self.unsaid.stored(stored.seq);
            if stored.direction == Direction::Out && !stored.state.is_open() {
                self.under_way.remove(&stored.message.id);
            }
        }
        messages
    }

    fn leave(&mut self, how: How) {
        self.fetches.cancel();
        self.leaving = Some(how);
    }

    fn complain(&mut self, done: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = done {
            self.view.news(&News::Problem(error.to_string()), Instant::now())?;
        }
        Ok(())
    }

    fn offer(&mut self, to: UserName, paths: Vec<PathBuf>) {
        self.offers += 1;
        let what = paths.iter().map(|path| safe_line(&path.to_string_lossy()).into_owned()).collect::<Vec<_>>();
        self.offering.insert(self.offers, what.join(", "));
        self.jobs.spawn(beside::offer(self.me.clone(), self.offers, to, paths, self.fetches.teller()));
    }

    fn take_done(&mut self, done: Done) -> Result<(), Error> {
        match done {
            Done::News(news) => self.news(&news),
            Done::Offered { number, to, offered } => {
                self.offering.remove(&number);
                match offered {
                    Ok(names) => names.into_iter().for_each(|name| {
                        self.ask(Action::Offer { to: to.clone(), name, wait: false }, Asked::Offer);
                    }),
                    Err(error) => return self.news(&News::Problem(error.to_string())),
                }
                Ok(())
            }
            Done::Nothing => Ok(()),
        }
    }

    fn take_from_fetch(&mut self, from: FromFetch) -> Result<(), Error> {
        match from {
            // It comes back as an event, to all views alike; without a node there is only this one.
            FromFetch::Transfer(transfer) if !self.connection.is_there() => {
                self.news(&News::Event(Event::Transfer(transfer)))
            }
            FromFetch::Transfer(transfer) => {
                self.connection.send(Action::Transfer(transfer));
                Ok(())
            }
            FromFetch::Note(text) => self.news(&News::Note(text)),
            FromFetch::Problem(text) => self.news(&News::Problem(text)),
            FromFetch::Hashing(file) => self.news(&News::Hashing(file)),
            FromFetch::BrokenOff(broken_off) if self.leaving.is_some() => {
                self.said.push(broken_off.afterwards());
                Ok(())
            }
            FromFetch::BrokenOff(broken_off) => self.news(&News::Note(broken_off.in_view())),
            FromFetch::Ended(number) => {
                self.fetches.ended(number);
                Ok(())
            }
        }
    }

    /// The node has ended: what it didn't answer may be done, or not.
    fn lost(&mut self, why: Error) -> Result<(), Error> {
        if self.connection.owns_node() || self.leaving.is_some() {
            return Err(why);
        }
        self.connection.seek(self.context, self.me);
        let mut asked: Vec<(u64, Asked)> = self.asked.drain().collect();
        asked.sort_unstable_by_key(|(id, _)| *id);
        for (_, asked) in asked {
            if let Asked::Say { to, text } = asked {
                self.unsaid.push(to, text);
            }
        }
        self.news(&News::Note("the node that was running has ended: looking for another one".to_owned()))
    }

    /// There is a node again: what happened meanwhile is in the history.
    fn found(&mut self) -> Result<(), Error> {
        self.ask(Action::Watch, Asked::Quiet);
        self.ask(Action::People, Asked::People);
        if !self.unsaid.is_empty() {
            let query = HistoryQuery { after: Some(self.unsaid.since()), ..HistoryQuery::last(UNSAID_AMONG) };
            self.ask(Action::History(query), Asked::Unsaid);
        }
        self.news(&News::Event(Event::Missed { count: 0 }))?;
        let whose = if self.connection.owns_node() { "a node of its own" } else { "the node that runs now" };
        self.news(&News::Note(format!("this view goes on with {whose}")))
    }
}

async fn until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// The user can't wait any longer.
async fn interrupted(keys: &mut mpsc::Receiver<Key>) {
    while let Some(key) = keys.recv().await {
        if key.is_interrupt() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// For the test of what becomes of the terminal; not in what people get.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "it is what it is for")]
fn panic_if_told(text: &str) {
    if std::env::var_os("VIZINHO_TEST_PANIC").is_some_and(|word| word == text) {
        panic!("this was asked for");
    }
}
