//! A view, the node it shows, and what the user wishes: they meet here.
//!
//! Keys come before everything else, and what happens is drawn at most sixty times a second: a flood of events makes
//! neither wait, nor does a node that is slow, or gone.

mod beside;
mod ending;
mod saying;
mod unsaid;
mod uploads;
mod wishes;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use shared::peer::{ChatMessage, MessageId};
use shared::{FileName, UserName};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::beside::Done;
pub(super) use self::beside::look_up;
use self::ending::How;
pub(super) use self::ending::{Ended, say_goodbye};
use self::unsaid::UnsaidMessages;
use self::uploads::RunningUploads;
use super::Context;
use super::background_fetch::{BackgroundFetches, FromFetch};
use super::bell::Bell;
use super::connection::{Connection, Heard};
use super::station::Station;
use crate::engine::chat::{Direction, StoredMessage};
use crate::engine::event::Event;
use crate::engine::node::control::{Action, FromNode, Outcome, Reply};
use crate::engine::{Error, Me};
use crate::sys::job;
use crate::ui::{Key, News, View};

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(16);
/// Keys that are taken before something else has its turn; text that came together counts as one.
const KEYS_AT_ONCE: usize = 64;
/// For the signal of a terminal that is gone.
const HANGS_UP: Duration = Duration::from_millis(200);
/// For what is said to arrive before the node it goes through ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a reply of the node is to.
#[derive(Debug)]
enum Asked {
    Say {
        to: UserName,
        message: ChatMessage,
    },
    People,
    History {
        with: UserName,
        before: Option<i64>,
    },
    CatchUp {
        with: UserName,
    },
    Found {
        with: UserName,
        words: String,
    },
    Block {
        user: UserName,
        blocked: bool,
    },
    Accept {
        user: UserName,
    },
    /// What is lost if our own node ends before.
    Offer {
        to: UserName,
        name: FileName,
    },
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
    unsaid: UnsaidMessages,
    /// The first of them is being stored.
    is_storing: bool,
    /// The user knows that it can't be stored.
    is_unstored_told: bool,
    /// It won't get there before the farewell is over.
    is_held: bool,
    /// The user knows that the node's process is stopped.
    is_node_stopped: bool,
    /// What ends for others when our own node does.
    uploads: RunningUploads,
    seen: HashMap<UserName, i64>,
    /// With whom a conversation is open, as the node was told.
    open: Option<UserName>,
    bell: Bell,
    /// What is being hashed to be offered, in words.
    offering: HashMap<u64, String>,
    offers: u64,
    /// What is said when the view is over.
    said: Vec<String>,
    leaving: Option<How>,
    /// Nothing is waited for any more.
    at_once: bool,
    /// It was said that leaving stops what is on its way: the next Ctrl-C means it.
    is_warned: bool,
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
        unsaid: UnsaidMessages::default(),
        is_storing: false,
        is_unstored_told: false,
        is_held: false,
        is_node_stopped: false,
        uploads: RunningUploads::default(),
        seen: HashMap::new(),
        open: None,
        bell: Bell::default(),
        offering: HashMap::new(),
        offers: 0,
        said: Vec::new(),
        leaving: None,
        at_once: false,
        is_warned: false,
    };
    let how = session.run(&mut keys, &mut told).await;
    let lost = session.store_rest().await;
    let Session { mut view, connection, mut jobs, fetches, mut at_once, mut said, offering, under_way, .. } = session;
    if at_once {
        said.extend(fetches.give_up());
    } else {
        tokio::select! {
            of_fetches = fetches.end(&mut told) => said.extend(of_fetches),
            () = interrupted(&mut keys) => at_once = true,
        }
    }
    said.extend(lost);
    said.extend(offering.into_values().map(|what| format!("not offered, it was still being hashed: {what}")));
    jobs.shutdown().await;
    let closed = view.close();
    drop(view);
    let is_last_node = connection.owns_node();
    // What a node of our own ended with is why the view did.
    let node_ended = if at_once { Ok(()) } else { connection.close().await };
    let how = match node_ended.and(how).and_then(|how| Ok(closed.map(|()| how)?)) {
        Ok(how) => how,
        Err(error) => {
            said.iter().for_each(|line| context.output.note(line));
            return Err(error);
        }
    };
    said.extend(if is_last_node { ending::all_that_waits(me) } else { ending::waits(under_way.len(), &[]) });
    said.extend(is_last_node.then(|| format!("{} is offline now: `peer serve` stays online", me.user)));
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
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.watch();
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
                key = keys.recv() => {
                    let Some(key) = key else {
                        // The terminal is gone. The signal that says so tells with which exit code to end.
                        let _ = tokio::time::timeout(HANGS_UP, self.context.cancel.cancelled()).await;
                        return Ok(How::Interrupted);
                    };
                    if self.leaving.is_some() {
                        self.at_once |= key.is_interrupt();
                        continue;
                    }
                    self.press(&key)?;
                    let mut more = KEYS_AT_ONCE;
                    while more > 0 && let Ok(key) = keys.try_recv() {
                        self.press(&key)?;
                        more -= 1;
                    }
                    changed = true;
                    // A key is seen at once. Of a flood of them, what is seen is a picture now and then.
                    if drawn.elapsed() >= FRAME {
                        changed = self.view.draw()?;
                        drawn = tokio::time::Instant::now();
                    }
                }
                _ = stop.recv() => self.suspend()?,
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
                        Heard::Lost(why) => self.lost(why).await?,
                        Heard::Found => self.found()?,
                    }
                    changed = true;
                }
                _ = tick.tick() => {
                    self.look_at_node()?;
                    self.store_next();
                    self.news(&News::Tick)?;
                    changed = true;
                }
                () = until(farewell), if farewell.is_some() => {}
            }
        }
    }

    fn press(&mut self, key: &Key) -> Result<(), Error> {
        if self.leaving.is_some() {
            self.at_once |= key.is_interrupt();
            return Ok(());
        }
        self.is_warned &= key.leaves();
        let wishes = self.view.key(key, Instant::now())?;
        self.see_to(wishes)
    }

    /// Has the node tell what happens, and tells it which conversation is open here.
    fn watch(&mut self) {
        self.open = self.view.open().cloned();
        self.ask(Action::Watch { with: self.open.clone() }, Asked::Quiet);
    }

    /// Whether nothing that was said is lost with our own node.
    fn has_said_all(&self) -> bool {
        let is_said = |asked: &Asked| matches!(asked, Asked::Say { .. } | Asked::Offer { .. });
        let is_saying = || !self.unsaid.is_empty() || self.asked.values().any(is_said);
        self.offering.is_empty()
            && (self.is_held || !is_saying())
            && (!self.connection.owns_node() || self.under_way.is_empty())
    }

    fn news(&mut self, news: &News) -> Result<(), Error> {
        let wishes = self.view.news(news, Instant::now())?;
        self.see_to(wishes)
    }

    /// Tells when another process, which has the node, is stopped, and when it goes on.
    fn look_at_node(&mut self) -> Result<(), Error> {
        let stopped = self.connection.stopped_node();
        if stopped.is_some() == self.is_node_stopped {
            return Ok(());
        }
        self.is_node_stopped = stopped.is_some();
        match stopped {
            Some(why) => self.news(&News::Problem(format!("{why}; until then nothing is sent"))),
            None => self.news(&News::Note("the node goes on".to_owned())),
        }
    }

    /// Has the node do something; false when there is none that takes it.
    fn ask(&mut self, action: Action, asked: Asked) -> bool {
        let id = self.connection.send(action);
        id.is_some_and(|id| self.asked.insert(id, asked).is_none())
    }

    fn problem(&mut self, what: String) -> Result<(), Error> {
        self.news(&News::Problem(what))
    }

    fn take_from_node(&mut self, from: FromNode) -> Result<(), Error> {
        match from {
            FromNode::Event(event) => {
                self.follow(&event);
                self.bell.hear(&self.context.output, self.me, &event)?;
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
            Asked::Found { with, words } => {
                News::Found { with, words, messages: serde_json::from_value(value).map_err(wrong)? }
            }
            Asked::Block { user, blocked } => {
                self.ask(Action::People, Asked::People);
                News::Note(match blocked {
                    true => format!("{user} is ignored; /unignore undoes it"),
                    false => format!("{user} is no longer ignored"),
                })
            }
            Asked::Accept { user } => News::Note(format!("{user} is accepted; /ignore takes nothing more from them")),
            Asked::Say { .. } | Asked::Offer { .. } | Asked::Quiet => return Ok(()),
        };
        self.news(&news)
    }

    /// What is on its way when the user leaves.
    fn follow(&mut self, event: &Event) {
        self.uploads.hear(event, Instant::now());
        match event {
            Event::Said { message, .. } => {
                self.under_way.insert(message.id);
            }
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
            if stored.direction == Direction::Out && !stored.state.is_open() {
                self.under_way.remove(&stored.message.id);
            }
        }
        messages
    }

    fn take_done(&mut self, done: Done) -> Result<(), Error> {
        match done {
            Done::News(news) => self.news(&news),
            Done::Offered { number, to, offered } => {
                self.offering.remove(&number);
                match offered {
                    Ok(names) => names.iter().try_for_each(|name| self.say_offer(to.clone(), name)),
                    Err(error) => self.problem(error.to_string()),
                }
            }
            Done::Stored { message, stored } => self.stored(&message, stored),
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
            FromFetch::AllTold(number) => {
                self.fetches.all_told(number);
                Ok(())
            }
            FromFetch::Ended(number) => {
                self.fetches.ended(number);
                Ok(())
            }
        }
    }

    /// The node has ended: what it didn't answer may be done, or not.
    async fn lost(&mut self, why: Error) -> Result<(), Error> {
        tracing::debug!("the node has ended: {why}");
        let catching_up = self.asked.values().filter_map(|asked| match asked {
            Asked::CatchUp { with } => Some(with.clone()),
            _ => None,
        });
        let catching_up: Vec<UserName> = catching_up.collect();
        self.take_back_unanswered();
        self.store_next();
        self.connection.lose(self.context, self.me).await?;
        // What is said meanwhile would be held back until that is answered; it is asked for again.
        for with in catching_up {
            self.news(&News::CaughtUp { with, messages: Vec::new() })?;
        }
        if self.leaving.is_some() {
            return Ok(());
        }
        self.news(&News::Note("the node that was running has ended: looking for another one".to_owned()))
    }

    /// There is a node again: what happened meanwhile is in the history.
    fn found(&mut self) -> Result<(), Error> {
        self.watch();
        self.ask(Action::People, Asked::People);
        self.store_next();
        // It may have looked through the outbox before the last of what was said was in it.
        self.ask(Action::Wake { user: None }, Asked::Quiet);
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
