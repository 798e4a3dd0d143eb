//! Event loop of a view: connects the view, the node behind it and the user's commands.
//!
//! Keys come before everything else, and the view is drawn at most sixty times a second. So neither a flood of events
//! nor a node that is slow or gone delays the user.

mod background_jobs;
mod command_dispatch;
mod message_submission;
mod node_observation;
mod path_completion;
mod pending_acts;
mod room_commands;
mod running_uploads;
mod unstored_messages;
mod view_exit;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use localization::tr;
use shared::peer::{ChatMessage, MessageId};
use shared::{FileName, RoomName, UserName};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::background_jobs::JobOutcome;
use self::pending_acts::PendingActs;
use self::running_uploads::RunningUploads;
use self::unstored_messages::UnstoredMessages;
use self::view_exit::ExitReason;
pub(super) use self::view_exit::{ViewExit, report_exit};
use super::bell::MessageBell;
use super::context::CommandContext;
use crate::engine::background_fetches::{BackgroundEvent, BackgroundFetches};
use crate::engine::chat::{self, ConversationName};
use crate::engine::node::{NodeApi, NodeHandle};
use crate::engine::node_connection::{ConnectionEvent, NodeConnection};
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, LocalUser};
use crate::sys::job_control;
use crate::ui::{RequestFailure, TerminalView, ViewInput, ViewUpdate, excerpt};

/// Least time between two drawings.
const FRAME_INTERVAL: Duration = Duration::from_millis(16);
/// Keys taken in one turn before other events are handled; pasted text counts as one key.
const MAX_INPUTS_PER_TURN: usize = 64;
/// Time for the hangup signal to arrive after the terminal closed.
const HANGUP_TIMEOUT: Duration = Duration::from_millis(200);
/// Time for unsent messages to be stored, and for acts to be done, before the view's own node ends.
const EXIT_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A message or an offer that the node has not said to have stored. Lost if this view's own node ends before.
#[derive(Debug)]
enum UnansweredMessage {
    Text { to: UserName, message: ChatMessage },
    Offer { to: UserName, name: FileName },
}

struct ViewSession<'a, V> {
    context: &'a CommandContext,
    me: &'a LocalUser,
    view: V,
    connection: NodeConnection,
    /// In the order in which they were entered.
    unanswered: BTreeMap<u64, UnansweredMessage>,
    submission_count: u64,
    jobs: JoinSet<JobOutcome>,
    fetches: BackgroundFetches,
    /// Messages stored but not yet acked by their recipients.
    undelivered: HashSet<MessageId>,
    unstored: UnstoredMessages,
    /// Messages to rooms that were written while there was no node.
    unsent_posts: VecDeque<(RoomName, String)>,
    /// Acts without an outcome, and messages to rooms that the node has not said to have stored.
    acts: PendingActs,
    /// True while the node has not answered that it looks at the outbox again.
    is_waking: bool,
    /// True while the first of `unstored` is being stored.
    is_storing: bool,
    /// True after the user was told that messages can't be stored.
    has_reported_unstored: bool,
    /// True if the node holds delivery back, so that leaving doesn't wait for it.
    is_delivery_held: bool,
    /// True if the user knows that the node's process is stopped.
    is_node_stopped: bool,
    /// Uploads that end with this view's own node.
    uploads: RunningUploads,
    read_marks: HashMap<ConversationName, i64>,
    /// The open conversation, as last told to the node.
    announced_open: Option<ConversationName>,
    bell: MessageBell,
    /// Descriptions of the offers that are being hashed, by number.
    hashing_offers: HashMap<u64, String>,
    /// Ends their hashing.
    offer_cancel: CancellationToken,
    offer_count: u64,
    /// Lines for the user, printed after the view has closed.
    exit_notes: Vec<String>,
    exit_reason: Option<ExitReason>,
    /// True if the user interrupted the exit: nothing is awaited any more.
    is_exit_forced: bool,
    /// True after the warning that leaving stops transfers: the next Ctrl-C leaves.
    has_warned_busy: bool,
}

/// Rejects a view in the background: the kernel would stop it as soon as it touched the terminal, and its node with it.
/// Fails with [`Error::Usage`] if another process group has the terminal.
pub(super) fn refuse_in_background(command: &str, instead: &str) -> Result<(), Error> {
    if job_control::is_in_background() {
        return Err(Error::Usage(tr!(
            "`peer {command}` needs the terminal and was started in the background: run it in the foreground; {instead}",
            command,
            instead
        )));
    }
    Ok(())
}

/// Runs a view until the user leaves, then ends the fetches, the terminal and, if this process started it, the node.
///
/// # Errors
/// An I/O error if the terminal fails, or the reason why no node can be reached or started.
pub(super) async fn run_view<V: TerminalView>(
    context: &CommandContext,
    me: &LocalUser,
    view: V,
    mut keys: mpsc::Receiver<ViewInput>,
    node: NodeHandle,
) -> Result<ViewExit, Error> {
    let announced_open = view.open_conversation().cloned();
    let open_user = announced_open.as_ref().and_then(ConversationName::person);
    let connection = NodeConnection::begin(&context.cancel, me, node, open_user).await?;
    let (fetches, mut told) = BackgroundFetches::new(me.clone(), PathBuf::from("."));
    let mut session = ViewSession {
        context,
        me,
        view,
        connection,
        unanswered: BTreeMap::new(),
        submission_count: 0,
        jobs: JoinSet::new(),
        fetches,
        undelivered: HashSet::new(),
        unstored: UnstoredMessages::default(),
        unsent_posts: VecDeque::new(),
        acts: PendingActs::default(),
        is_waking: false,
        is_storing: false,
        has_reported_unstored: false,
        is_delivery_held: false,
        is_node_stopped: false,
        uploads: RunningUploads::default(),
        read_marks: HashMap::new(),
        announced_open,
        bell: MessageBell::default(),
        hashing_offers: HashMap::new(),
        offer_cancel: CancellationToken::new(),
        offer_count: 0,
        exit_notes: Vec::new(),
        exit_reason: None,
        is_exit_forced: false,
        has_warned_busy: false,
    };
    let how = session.run(&mut keys, &mut told).await;
    // The abort of a job ends no thread: what is said not to be offered is not to be put among the offers later.
    session.offer_cancel.cancel();
    // Before the connection is closed: the node is told to look at the outbox again.
    let lost = session.store_remaining().await;
    let ViewSession {
        mut view,
        connection,
        mut jobs,
        fetches,
        is_exit_forced: mut at_once,
        exit_notes: mut said,
        unsent_posts,
        acts,
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
    said.extend(
        unsent_posts.iter().map(|(room, text)| tr!("message to #{room} not sent: {text}", room, text = excerpt(text))),
    );
    said.extend(acts.into_notes());
    said.extend(offering.into_values().map(|what| tr!("not offered, it was still being hashed: {what}", what)));
    jobs.shutdown().await;
    // The terminal is restored before the node ends: from here on output goes to the user's shell.
    let closed = view.close();
    drop(view);
    let is_last_node = connection.owns_node();
    // If this process ran the node, the node's error is the reason why the view ended.
    // At once means without the farewell of a node: the tracker's lease ends by itself.
    let node_ended = if at_once { Ok(()) } else { connection.close().await };
    let how = match node_ended.and(how).and_then(|how| Ok(closed.map(|()| how)?)) {
        Ok(how) => how,
        // The notes name messages and fetches that are left: print them even if the view failed.
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
    said.extend(is_last_node.then(|| tr!("{user} is offline now: `peer serve` stays online", user = me.user)));
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
        // After a suspension one tick is enough: the default would send one for every second missed.
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let wishes = self.view.start();
        self.dispatch(wishes)?;
        let mut changed = self.view.draw()?;
        let mut drawn = tokio::time::Instant::now();
        let (mut farewell, mut has_input) = (None, true);
        loop {
            if self.is_exit_forced {
                return Ok(ExitReason::Interrupted);
            }
            // Leaving: stay in the loop until all messages are stored, so that events are still handled.
            if let Some(how) = self.exit_reason {
                let by = *farewell.get_or_insert_with(|| tokio::time::Instant::now() + EXIT_FLUSH_TIMEOUT);
                if self.has_flushed() || tokio::time::Instant::now() >= by {
                    return Ok(how);
                }
            }
            tokio::select! {
                // Biased: an interrupt and the keys win over any number of events.
                biased;
                () = self.context.cancel.cancelled() => return Ok(ExitReason::Interrupted),
                key = keys.recv(), if has_input => {
                    let Some(key) = key else {
                        // A view that reads lines has no input left after the end of it, which is why the user leaves.
                        if self.exit_reason.is_some() {
                            has_input = false;
                            continue;
                        }
                        // The terminal is gone. Wait for the hangup signal: it decides the exit code.
                        let _ = tokio::time::timeout(HANGUP_TIMEOUT, self.context.cancel.cancelled()).await;
                        return Ok(ExitReason::Interrupted);
                    };
                    if self.exit_reason.is_some() {
                        self.is_exit_forced |= key.is_interrupt();
                        continue;
                    }
                    self.handle_input(&key)?;
                    // Take the keys that are queued already: a burst is drawn once, not key by key.
                    let mut more = MAX_INPUTS_PER_TURN;
                    while more > 0 && let Ok(key) = keys.try_recv() {
                        self.handle_input(&key)?;
                        more -= 1;
                    }
                    changed = true;
                    // Draw a single key at once; a flood of keys is drawn at the frame rate.
                    if drawn.elapsed() >= FRAME_INTERVAL {
                        changed = self.view.draw()?;
                        drawn = tokio::time::Instant::now();
                    }
                }
                // Handled instead of stopping at once: the terminal has to be restored first.
                _ = stop.recv() => self.suspend()?,
                _ = go_on.recv() => self.update_view(&ViewUpdate::Resumed)?,
                () = tokio::time::sleep_until(drawn + FRAME_INTERVAL), if changed => {
                    // With the frame, so that scrolling doesn't send a mark for each message.
                    self.send_read_marks();
                    changed = self.view.draw()?;
                    drawn = tokio::time::Instant::now();
                }
                Some(from) = told.recv() => {
                    self.handle_background_event(from)?;
                    changed = true;
                }
                // Before the answers: an event that precedes an answer is handled first.
                heard = self.connection.next_event() => {
                    match heard? {
                        ConnectionEvent::Event(event) => self.handle_event(event)?,
                        ConnectionEvent::Lost => self.handle_node_lost().await?,
                        ConnectionEvent::Restored => self.handle_node_restored()?,
                    }
                    changed = true;
                }
                Some(done) = self.jobs.join_next() => {
                    // A join error means that the job panicked: show it and go on.
                    let done = done.unwrap_or_else(|failure| JobOutcome::Update(ViewUpdate::Problem(failure.to_string())));
                    self.handle_job_outcome(done)?;
                    changed = true;
                }
                _ = tick.tick() => {
                    self.check_node_stopped()?;
                    self.store_next();
                    self.update_view(&ViewUpdate::Tick)?;
                    changed = true;
                }
                // Only wakes the loop, which checks the deadline at its top.
                () = sleep_until(farewell), if farewell.is_some() => {}
            }
        }
    }

    fn handle_input(&mut self, key: &ViewInput) -> Result<(), Error> {
        if self.exit_reason.is_some() {
            self.is_exit_forced |= key.is_interrupt();
            return Ok(());
        }
        // Any other key shows that the user stays: the next Ctrl-C warns again.
        self.has_warned_busy &= key.is_exit();
        let wishes = self.view.handle_input(key, Instant::now())?;
        self.dispatch(wishes)
    }

    /// Tells the node which conversation is open.
    fn announce_open_conversation(&mut self) {
        self.announced_open = self.view.open_conversation().cloned();
        self.connection.set_open_conversation(self.announced_open.as_ref().and_then(ConversationName::person));
    }

    /// True if no message, offer or act would be lost by leaving now.
    fn has_flushed(&self) -> bool {
        let is_saying = !self.unstored.is_empty() || !self.unanswered.is_empty() || !self.unsent_posts.is_empty();
        self.hashing_offers.is_empty()
            && self.acts.is_empty()
            && (self.is_delivery_held || !is_saying)
            // Another process's node goes on to deliver without the view.
            && (!self.connection.owns_node() || self.undelivered.is_empty())
    }

    fn update_view(&mut self, news: &ViewUpdate) -> Result<(), Error> {
        let wishes = self.view.handle_update(news, Instant::now())?;
        self.dispatch(wishes)
    }

    /// Asks the node beside the event loop; returns false if there is none.
    fn ask<F>(&mut self, act: impl FnOnce(NodeApi) -> F) -> bool
    where
        F: Future<Output = Result<JobOutcome, Error>> + Send + 'static,
    {
        let Some(node) = self.connection.api() else { return false };
        let asked = act(node);
        self.jobs.spawn(async move {
            match asked.await {
                Ok(outcome) => outcome,
                // The loop learns by itself that the node has ended.
                Err(Error::NodeGone { .. }) => JobOutcome::Nothing,
                Err(error) => JobOutcome::Update(ViewUpdate::Problem(error.to_string())),
            }
        });
        true
    }

    /// Makes the node look at the outbox again.
    fn wake_node(&mut self) {
        self.is_waking = self.ask(|node| async move { node.wake(None).await.map(|()| JobOutcome::NodeWoken) });
    }

    /// Asks the node for the answer to a request of the view. The view waits for it, so that a failure is an answer too.
    fn request<F>(
        &mut self,
        act: impl FnOnce(NodeApi) -> F,
        failed: impl FnOnce(RequestFailure) -> ViewUpdate + Send + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<ViewUpdate, Error>> + Send + 'static,
    {
        let Some(node) = self.connection.api() else { return self.update_view(&failed(RequestFailure::NoNode)) };
        let asked = act(node);
        self.jobs.spawn(async move {
            JobOutcome::Update(match asked.await {
                Ok(answer) => answer,
                Err(Error::NodeGone { .. }) => failed(RequestFailure::NoNode),
                Err(error) => failed(RequestFailure::Error(error.to_string())),
            })
        });
        Ok(())
    }

    fn list_users(&mut self) -> Result<(), Error> {
        self.request(|node| async move { Ok(ViewUpdate::Users(node.users().await?)) }, ViewUpdate::UsersFailed)?;
        self.ask(|node| async move {
            // The node of an earlier release knows no rooms.
            Ok(node.rooms().await.map_or(JobOutcome::Nothing, |rooms| JobOutcome::Update(ViewUpdate::Rooms(rooms))))
        });
        Ok(())
    }

    fn show_problem(&mut self, what: String) -> Result<(), Error> {
        self.update_view(&ViewUpdate::Problem(what))
    }

    fn handle_job_outcome(&mut self, done: JobOutcome) -> Result<(), Error> {
        match done {
            JobOutcome::Update(news) => {
                if let ViewUpdate::History { messages, .. } | ViewUpdate::CaughtUp { messages, .. } = &news {
                    self.track_history(messages);
                }
                self.update_view(&news)
            }
            JobOutcome::ListsChanged(news) => {
                self.list_users()?;
                self.update_view(&news)
            }
            JobOutcome::ActEnded { number, outcome } => {
                self.acts.end(number);
                self.handle_job_outcome(*outcome)
            }
            JobOutcome::NodeWoken => {
                self.is_waking = false;
                Ok(())
            }
            JobOutcome::ReadMarkLost { with, up_to } => {
                self.keep_read_mark(with, up_to);
                Ok(())
            }
            JobOutcome::PostSubmitted { failure } => self.handle_post_submitted(failure),
            JobOutcome::Submitted { number, failure } => self.handle_submitted(number, failure),
            JobOutcome::OfferHashed { number, to, offered } => {
                self.hashing_offers.remove(&number);
                match offered {
                    Ok(offers) => offers.iter().try_for_each(|offer| match &to {
                        ConversationName::Person(user) => self.submit_offer(user.clone(), &offer.name),
                        ConversationName::Room(room) => {
                            self.submit_post(room.clone(), &chat::room_offer_text(room, offer))
                        }
                    }),
                    Err(error) => self.show_problem(error.to_string()),
                }
            }
            JobOutcome::MessageStored { message, stored } => self.handle_stored(&message, *stored),
            JobOutcome::Nothing => Ok(()),
        }
    }

    fn handle_background_event(&mut self, from: BackgroundEvent) -> Result<(), Error> {
        match from {
            // The node sends it back as an event to all views; without a node only this view can show it.
            BackgroundEvent::Transfer(transfer) if !self.connection.is_connected() => {
                self.update_view(&ViewUpdate::Event(NodeEvent::Transfer(transfer)))
            }
            BackgroundEvent::Transfer(transfer) => {
                self.ask(
                    |node| async move { node.report_transfers(vec![transfer]).await.map(|()| JobOutcome::Nothing) },
                );
                Ok(())
            }
            BackgroundEvent::Note(text) | BackgroundEvent::FilePlaced(text) => {
                self.update_view(&ViewUpdate::Note(text.to_string()))
            }
            BackgroundEvent::Problem(text) => self.update_view(&ViewUpdate::Problem(text.to_string())),
            BackgroundEvent::Hashing(file) => self.update_view(&ViewUpdate::Hashing(file)),
            BackgroundEvent::Interrupted(broken_off) if self.exit_reason.is_some() => {
                self.exit_notes.push(broken_off.exit_notice());
                Ok(())
            }
            BackgroundEvent::Interrupted(broken_off) => self.update_view(&ViewUpdate::Note(broken_off.view_notice())),
            // The view shows its own lines of it.
            BackgroundEvent::Progress(_) => Ok(()),
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
}

async fn sleep_until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Waits for the next interrupt key.
async fn await_interrupt(keys: &mut mpsc::Receiver<ViewInput>) {
    while let Some(key) = keys.recv().await {
        if key.is_interrupt() {
            return;
        }
    }
    // The terminal is gone, so no interrupt will come: let the other branch of the select finish.
    std::future::pending::<()>().await;
}
