//! A view, the node it shows, and what the user wishes: they meet here.
//!
//! Keys come before everything else, and what happens is drawn at most sixty times a second: a flood of events makes
//! neither wait, nor does a node that is slow, or gone.

mod background_jobs;
mod command_dispatch;
mod message_submission;
mod running_uploads;
mod unstored_messages;
mod view_exit;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use shared::peer::{ChatMessage, MessageId};
use shared::{FileName, UserName};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::background_jobs::JobOutcome;
pub(super) use self::background_jobs::look_up_user;
use self::running_uploads::RunningUploads;
use self::unstored_messages::UnstoredMessages;
use self::view_exit::ExitReason;
pub(super) use self::view_exit::{ViewExit, report_exit};
use super::CommandContext;
use super::background_fetch::{BackgroundEvent, BackgroundFetches};
use super::bell::MessageBell;
use super::node_connection::{ConnectionEvent, NodeConnection};
use super::node_handle::NodeHandle;
use crate::engine::chat::{MessageDirection, StoredMessage};
use crate::engine::node::control::{ControlAction, ControlOutcome, ControlReply, NodeMessage};
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, LocalUser};
use crate::sys::job_control;
use crate::ui::{TerminalView, ViewInput, ViewUpdate};

/// Between two pictures.
const FRAME_INTERVAL: Duration = Duration::from_millis(16);
/// Keys that are taken before something else has its turn; text that came together counts as one.
const MAX_INPUTS_PER_TURN: usize = 64;
/// For the signal of a terminal that is gone.
const HANGUP_TIMEOUT: Duration = Duration::from_millis(200);
/// For what is said to arrive before the node it goes through ends.
const EXIT_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What a reply of the node is to.
#[derive(Debug)]
enum PendingRequest {
    Say {
        to: UserName,
        message: ChatMessage,
    },
    Users,
    History {
        with: UserName,
        before: Option<i64>,
    },
    CatchUp {
        with: UserName,
    },
    Search {
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
    Ignored,
}

struct ViewSession<'a, V> {
    context: &'a CommandContext,
    me: &'a LocalUser,
    view: V,
    connection: NodeConnection,
    pending: HashMap<u64, PendingRequest>,
    jobs: JoinSet<JobOutcome>,
    fetches: BackgroundFetches,
    /// What was said here and is not stored over there.
    undelivered: HashSet<MessageId>,
    unstored: UnstoredMessages,
    /// The first of them is being stored.
    is_storing: bool,
    /// The user knows that it can't be stored.
    has_reported_unstored: bool,
    /// It won't get there before the farewell is over.
    is_delivery_held: bool,
    /// The user knows that the node's process is stopped.
    is_node_stopped: bool,
    /// What ends for others when our own node does.
    uploads: RunningUploads,
    read_marks: HashMap<UserName, i64>,
    /// With whom a conversation is open, as the node was told.
    announced_open: Option<UserName>,
    bell: MessageBell,
    /// What is being hashed to be offered, in words.
    hashing_offers: HashMap<u64, String>,
    offer_count: u64,
    /// What is said when the view is over.
    exit_notes: Vec<String>,
    exit_reason: Option<ExitReason>,
    /// Nothing is waited for any more.
    is_exit_forced: bool,
    /// It was said that leaving stops what is on its way: the next Ctrl-C means it.
    has_warned_busy: bool,
}

/// Runs a view until its user leaves, then ends what it began: fetches, the terminal, the node if that is ours.
///
/// # Errors
/// [`Error`]: the terminal fails, or the node is gone and no other can be had.
pub(super) async fn run_view<V: TerminalView>(
    context: &CommandContext,
    me: &LocalUser,
    view: V,
    mut keys: mpsc::Receiver<ViewInput>,
    station: NodeHandle,
) -> Result<ViewExit, Error> {
    let (fetches, mut told) = BackgroundFetches::new(me.clone());
    let mut session = ViewSession {
        context,
        me,
        view,
        connection: NodeConnection::Connected(station),
        pending: HashMap::new(),
        jobs: JoinSet::new(),
        fetches,
        undelivered: HashSet::new(),
        unstored: UnstoredMessages::default(),
        is_storing: false,
        has_reported_unstored: false,
        is_delivery_held: false,
        is_node_stopped: false,
        uploads: RunningUploads::default(),
        read_marks: HashMap::new(),
        announced_open: None,
        bell: MessageBell::default(),
        hashing_offers: HashMap::new(),
        offer_count: 0,
        exit_notes: Vec::new(),
        exit_reason: None,
        is_exit_forced: false,
        has_warned_busy: false,
    };
    let how = session.run(&mut keys, &mut told).await;
    let lost = session.store_remaining().await;
    let ViewSession {
        mut view,
        connection,
        mut jobs,
        fetches,
        is_exit_forced: mut at_once,
        exit_notes: mut said,
        hashing_offers: offering,
        undelivered: under_way,
        ..
    } = session;
    if at_once {
        said.extend(fetches.abandon());
    } else {
        tokio::select! {
            of_fetches = fetches.shut_down(&mut told) => said.extend(of_fetches),
            () = await_interrupt(&mut keys) => at_once = true,
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
    said.extend(if is_last_node {
        view_exit::queued_summary(me)
    } else {
        view_exit::queued_words(under_way.len(), &[])
    });
    said.extend(is_last_node.then(|| format!("{} is offline now: `peer serve` stays online", me.user)));
    Ok(ViewExit { reason: how, notes: said })
}

impl<V: TerminalView> ViewSession<'_, V> {
    async fn run(
        &mut self,
        keys: &mut mpsc::Receiver<ViewInput>,
        told: &mut mpsc::UnboundedReceiver<BackgroundEvent>,
    ) -> Result<ExitReason, Error> {
        let mut stop = signal(SignalKind::from_raw(job_control::STOP_SIGNAL))?;
        let mut go_on = signal(SignalKind::from_raw(job_control::CONTINUE_SIGNAL))?;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.watch();
        let wishes = self.view.start();
        self.dispatch(wishes)?;
        let mut changed = self.view.draw()?;
        let mut drawn = tokio::time::Instant::now();
        let mut farewell = None;
        loop {
            if self.is_exit_forced {
                return Ok(ExitReason::Interrupted);
            }
            if let Some(how) = self.exit_reason {
                let by = *farewell.get_or_insert_with(|| tokio::time::Instant::now() + EXIT_FLUSH_TIMEOUT);
                if self.has_flushed() || tokio::time::Instant::now() >= by {
                    return Ok(how);
                }
            }
            tokio::select! {
                biased;
                () = self.context.cancel.cancelled() => return Ok(ExitReason::Interrupted),
                key = keys.recv() => {
                    let Some(key) = key else {
                        // The terminal is gone. The signal that says so tells with which exit code to end.
                        let _ = tokio::time::timeout(HANGUP_TIMEOUT, self.context.cancel.cancelled()).await;
                        return Ok(ExitReason::Interrupted);
                    };
                    if self.exit_reason.is_some() {
                        self.is_exit_forced |= key.is_interrupt();
                        continue;
                    }
                    self.handle_input(&key)?;
                    let mut more = MAX_INPUTS_PER_TURN;
                    while more > 0 && let Ok(key) = keys.try_recv() {
                        self.handle_input(&key)?;
                        more -= 1;
                    }
                    changed = true;
                    // A key is seen at once. Of a flood of them, what is seen is a picture now and then.
                    if drawn.elapsed() >= FRAME_INTERVAL {
                        changed = self.view.draw()?;
                        drawn = tokio::time::Instant::now();
                    }
                }
                _ = stop.recv() => self.suspend()?,
                _ = go_on.recv() => self.update_view(&ViewUpdate::Resumed)?,
                () = tokio::time::sleep_until(drawn + FRAME_INTERVAL), if changed => {
                    self.send_read_marks();
                    changed = self.view.draw()?;
                    drawn = tokio::time::Instant::now();
                }
                Some(from) = told.recv() => {
                    self.handle_background_event(from)?;
                    changed = true;
                }
                Some(done) = self.jobs.join_next() => {
                    let done = done.unwrap_or_else(|failure| JobOutcome::Update(ViewUpdate::Problem(failure.to_string())));
                    self.handle_job_outcome(done)?;
                    changed = true;
                }
                heard = self.connection.next_event() => {
                    match heard? {
                        ConnectionEvent::Message(from) => self.handle_node_message(from)?,
                        ConnectionEvent::Lost(why) => self.handle_node_lost(why).await?,
                        ConnectionEvent::Restored => self.handle_node_restored()?,
                    }
                    changed = true;
                }
                _ = tick.tick() => {
                    self.check_node_stopped()?;
                    self.store_next();
                    self.update_view(&ViewUpdate::Tick)?;
                    changed = true;
                }
                () = sleep_until(farewell), if farewell.is_some() => {}
            }
        }
    }

    fn handle_input(&mut self, key: &ViewInput) -> Result<(), Error> {
        if self.exit_reason.is_some() {
            self.is_exit_forced |= key.is_interrupt();
            return Ok(());
        }
        self.has_warned_busy &= key.is_exit();
        let wishes = self.view.handle_input(key, Instant::now())?;
        self.dispatch(wishes)
    }

    /// Has the node tell what happens, and tells it which conversation is open here.
    fn watch(&mut self) {
        self.announced_open = self.view.open_conversation().cloned();
        self.send_request(ControlAction::Watch { with: self.announced_open.clone() }, PendingRequest::Ignored);
    }

    /// Whether nothing that was said is lost with our own node.
    fn has_flushed(&self) -> bool {
        let is_said =
            |asked: &PendingRequest| matches!(asked, PendingRequest::Say { .. } | PendingRequest::Offer { .. });
        let is_saying = || !self.unstored.is_empty() || self.pending.values().any(is_said);
        self.hashing_offers.is_empty()
            && (self.is_delivery_held || !is_saying())
            && (!self.connection.owns_node() || self.undelivered.is_empty())
    }

    fn update_view(&mut self, news: &ViewUpdate) -> Result<(), Error> {
        let wishes = self.view.handle_update(news, Instant::now())?;
        self.dispatch(wishes)
    }

    /// Tells when another process, which has the node, is stopped, and when it goes on.
    fn check_node_stopped(&mut self) -> Result<(), Error> {
        let stopped = self.connection.stopped_node_error();
        if stopped.is_some() == self.is_node_stopped {
            return Ok(());
        }
        self.is_node_stopped = stopped.is_some();
        match stopped {
            Some(why) => self.update_view(&ViewUpdate::Problem(format!("{why}; until then nothing is sent"))),
            None => self.update_view(&ViewUpdate::Note("the node goes on".to_owned())),
        }
    }

    /// Has the node do something; false when there is none that takes it.
    fn send_request(&mut self, action: ControlAction, asked: PendingRequest) -> bool {
        let id = self.connection.send(action);
        id.is_some_and(|id| self.pending.insert(id, asked).is_none())
    }

    fn show_problem(&mut self, what: String) -> Result<(), Error> {
        self.update_view(&ViewUpdate::Problem(what))
    }

    fn handle_node_message(&mut self, from: NodeMessage) -> Result<(), Error> {
        match from {
            NodeMessage::Event(event) => {
                self.track_event(&event);
                self.bell.handle_event(&self.context.output, self.me, &event)?;
                self.update_view(&ViewUpdate::Event(event))
            }
            NodeMessage::Reply(reply) => self.handle_reply(reply),
        }
    }

    fn handle_reply(&mut self, reply: ControlReply) -> Result<(), Error> {
        let Some(asked) = self.pending.remove(&reply.id) else { return Ok(()) };
        let value = match reply.outcome {
            ControlOutcome::Done(value) => value,
            ControlOutcome::Error { message, .. } => {
                let what = if matches!(asked, PendingRequest::Say { .. }) { "not sent: " } else { "" };
                return self.update_view(&ViewUpdate::Problem(format!("{what}{message}")));
            }
        };
        let wrong = |why: serde_json::Error| Error::Internal(format!("the node's answer: {why}"));
        let news = match asked {
            PendingRequest::Users => ViewUpdate::Users(serde_json::from_value(value).map_err(wrong)?),
            PendingRequest::History { with, before } => {
                let messages = self.track_history(serde_json::from_value(value).map_err(wrong)?);
                ViewUpdate::History { with, before, messages }
            }
            PendingRequest::CatchUp { with } => ViewUpdate::CaughtUp {
                with,
                messages: self.track_history(serde_json::from_value(value).map_err(wrong)?),
            },
            PendingRequest::Search { with, words } => {
                ViewUpdate::SearchResults { with, words, messages: serde_json::from_value(value).map_err(wrong)? }
            }
            PendingRequest::Block { user, blocked } => {
                self.send_request(ControlAction::People, PendingRequest::Users);
                ViewUpdate::Note(match blocked {
                    true => format!("{user} is ignored; /unignore undoes it"),
                    false => format!("{user} is no longer ignored"),
                })
            }
            PendingRequest::Accept { user } => {
                ViewUpdate::Note(format!("{user} is accepted; /ignore takes nothing more from them"))
            }
            PendingRequest::Say { .. } | PendingRequest::Offer { .. } | PendingRequest::Ignored => return Ok(()),
        };
        self.update_view(&news)
    }

    /// What is on its way when the user leaves.
    fn track_event(&mut self, event: &NodeEvent) {
        self.uploads.handle_event(event, Instant::now());
        match event {
            NodeEvent::MessageQueued { message, .. } => {
                self.undelivered.insert(message.id);
            }
            NodeEvent::MessageStateChanged { id, state, .. } if !state.is_queued() => {
                self.undelivered.remove(id);
            }
            NodeEvent::DeliveryHeld { .. } if self.exit_reason.is_some() => self.is_delivery_held = true,
            _ => {}
        }
    }

    /// The same, from the history.
    fn track_history(&mut self, messages: Vec<StoredMessage>) -> Vec<StoredMessage> {
        for stored in &messages {
            if stored.direction == MessageDirection::Out && !stored.state.is_queued() {
                self.undelivered.remove(&stored.message.id);
            }
        }
        messages
    }

    fn handle_job_outcome(&mut self, done: JobOutcome) -> Result<(), Error> {
        match done {
            JobOutcome::Update(news) => self.update_view(&news),
            JobOutcome::OfferHashed { number, to, offered } => {
                self.hashing_offers.remove(&number);
                match offered {
                    Ok(names) => names.iter().try_for_each(|name| self.submit_offer(to.clone(), name)),
                    Err(error) => self.show_problem(error.to_string()),
                }
            }
            JobOutcome::MessageStored { message, stored } => self.handle_stored(&message, stored),
            JobOutcome::Nothing => Ok(()),
        }
    }

    fn handle_background_event(&mut self, from: BackgroundEvent) -> Result<(), Error> {
        match from {
            // It comes back as an event, to all views alike; without a node there is only this one.
            BackgroundEvent::Transfer(transfer) if !self.connection.is_connected() => {
                self.update_view(&ViewUpdate::Event(NodeEvent::Transfer(transfer)))
            }
            BackgroundEvent::Transfer(transfer) => {
                self.connection.send(ControlAction::Transfer(transfer));
                Ok(())
            }
            BackgroundEvent::Note(text) => self.update_view(&ViewUpdate::Note(text)),
            BackgroundEvent::Problem(text) => self.update_view(&ViewUpdate::Problem(text)),
            BackgroundEvent::Hashing(file) => self.update_view(&ViewUpdate::Hashing(file)),
            BackgroundEvent::Interrupted(broken_off) if self.exit_reason.is_some() => {
                self.exit_notes.push(broken_off.exit_notice());
                Ok(())
            }
            BackgroundEvent::Interrupted(broken_off) => self.update_view(&ViewUpdate::Note(broken_off.view_notice())),
            BackgroundEvent::AllFilesReported(number) => {
                self.fetches.mark_reported(number);
                Ok(())
            }
            BackgroundEvent::Ended(number) => {
                self.fetches.remove(number);
                Ok(())
            }
        }
    }

    /// The node has ended: what it didn't answer may be done, or not.
    async fn handle_node_lost(&mut self, why: Error) -> Result<(), Error> {
        tracing::debug!("the node has ended: {why}");
        let catching_up = self.pending.values().filter_map(|asked| match asked {
            PendingRequest::CatchUp { with } => Some(with.clone()),
            _ => None,
        });
        let catching_up: Vec<UserName> = catching_up.collect();
        self.requeue_unanswered();
        self.store_next();
        self.connection.reconnect(self.context, self.me).await?;
        // What is said meanwhile would be held back until that is answered; it is asked for again.
        for with in catching_up {
            self.update_view(&ViewUpdate::CaughtUp { with, messages: Vec::new() })?;
        }
        if self.exit_reason.is_some() {
            return Ok(());
        }
        self.update_view(&ViewUpdate::Note("the node that was running has ended: looking for another one".to_owned()))
    }

    /// There is a node again: what happened meanwhile is in the history.
    fn handle_node_restored(&mut self) -> Result<(), Error> {
        self.watch();
        self.send_request(ControlAction::People, PendingRequest::Users);
        self.store_next();
        // It may have looked through the outbox before the last of what was said was in it.
        self.send_request(ControlAction::Wake { user: None }, PendingRequest::Ignored);
        self.update_view(&ViewUpdate::Event(NodeEvent::EventsMissed { count: 0 }))?;
        let whose = if self.connection.owns_node() { "a node of its own" } else { "the node that runs now" };
        self.update_view(&ViewUpdate::Note(format!("this view goes on with {whose}")))
    }
}

async fn sleep_until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// The user can't wait any longer.
async fn await_interrupt(keys: &mut mpsc::Receiver<ViewInput>) {
    while let Some(key) = keys.recv().await {
        if key.is_interrupt() {
            return;
        }
    }
    std::future::pending::<()>().await;
}
