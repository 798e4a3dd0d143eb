//! Send acceptor: fetches what others send, where a rule of the user's accepts it unasked.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | sends that are fetched at once | 2, one of each sender | their senders wait in turn |
//! | attempts to fetch a send that its sender paused, or that failed in passing | one in 2 minutes | |
//! | reports of one send that is held | one | |

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use shared::UserName;
use shared::peer::MessageId;
use shared::safe_text::safe_path;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::delivery::MessageOutbox;
use super::optional_deadline::wait_until;
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::sends::{AutoAcceptOutcome, clear_settled_sends};
use crate::engine::{Error, ErrorKind, LocalUser, run_blocking};
use crate::profile::IncomingSend;
use crate::util::TranslatedText;

/// Sends that are fetched at once.
const MAX_RUNNING: usize = 2;
/// Time for fetches to put away what they have when the node ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The wait until what could not be fetched is tried again: its sender may have paused it.
const RETRY_INTERVAL: Duration = Duration::from_secs(120);

/// The task that accepts sends by the user's rules.
pub(super) struct SendAcceptor {
    me: LocalUser,
    events: EventBus,
    receiver: broadcast::Receiver<NodeEvent>,
    outbox: Arc<MessageOutbox>,
    stop: CancellationToken,
    /// Senders whose sends are to be looked at.
    due: DueSenders,
    running: JoinSet<(IncomingSend, AutoAcceptOutcome)>,
    /// The senders of what is being fetched.
    busy: HashSet<UserName>,
    /// Sends that were tried since their sender came online, so that none is tried over and over.
    tried: HashSet<(UserName, MessageId)>,
    /// The time at which the sends that failed are tried again.
    retry_at: Option<Instant>,
    failed: HashSet<(UserName, MessageId)>,
    /// Sends whose hindrance was reported.
    reported: HashSet<(UserName, MessageId)>,
}

/// A queue of senders, each once.
#[derive(Debug, Default)]
struct DueSenders(VecDeque<UserName>);

impl DueSenders {
    /// Adds a sender behind the others, unless it waits already.
    fn insert(&mut self, user: UserName) {
        if !self.0.contains(&user) {
            self.0.push_back(user);
        }
    }

    /// Removes the first sender of whom nothing is being fetched.
    fn take_next(&mut self, busy: &HashSet<UserName>) -> Option<UserName> {
        let place = self.0.iter().position(|user| !busy.contains(user))?;
        self.0.remove(place)
    }
}

impl SendAcceptor {
    /// Creates the task; it hears the events from now on.
    pub(super) fn new(me: LocalUser, events: EventBus, outbox: Arc<MessageOutbox>, stop: CancellationToken) -> Self {
        let receiver = events.subscribe();
        let (due, running, busy) = (DueSenders::default(), JoinSet::new(), HashSet::new());
        let (tried, failed, reported) = (HashSet::new(), HashSet::new(), HashSet::new());
        Self { me, events, receiver, outbox, stop, due, running, busy, tried, retry_at: None, failed, reported }
    }

    /// Runs until the node stops.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        log_failure(self.clear_sends().await);
        log_failure(self.find_all().await);
        loop {
            log_failure(self.start_due().await);
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(ended) = self.running.join_next() => match ended {
                    Ok((send, outcome)) => self.handle_outcome(&send, outcome),
                    Err(failure) => tracing::error!("the fetch of a send failed: {failure}"),
                },
                () = wait_until(self.retry_at) => self.retry_failed(),
                event = self.receiver.recv() => match event {
                    Ok(event) => self.handle_event(event).await,
                    // What was missed may have announced sends of anybody for whom there is a rule.
                    Err(broadcast::error::RecvError::Lagged(_)) => log_failure(self.find_all().await),
                    Err(broadcast::error::RecvError::Closed) => break,
                },
            }
        }
        // Their tokens are children of the node's, so that they end by themselves.
        let ended = async { while self.running.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await;
        Ok(())
    }

    async fn handle_event(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Received { from, message, .. } if message.send.is_some() => self.due.insert(from),
            NodeEvent::Presence { user, online: true } => {
                self.tried.retain(|(from, _)| *from != user);
                self.due.insert(user);
            }
            NodeEvent::Online { .. } => {
                self.tried.clear();
                log_failure(self.find_all().await);
            }
            // A message that is given up is the end of its send.
            NodeEvent::MessageStateChanged { state, .. } if state.is_given_up() => {
                log_failure(self.clear_sends().await);
            }
            _ => {}
        }
    }

    /// Looks at the sends of everybody for whom there is a rule.
    async fn find_all(&mut self) -> Result<(), Error> {
        let profile = self.me.profile.clone();
        let rules = run_blocking(move || Ok(profile.accept_rules()?)).await?;
        rules.into_iter().for_each(|rule| self.due.insert(rule.user));
        Ok(())
    }

    async fn clear_sends(&self) -> Result<(), Error> {
        let profile = self.me.profile.clone();
        run_blocking(move || clear_settled_sends(&profile)).await
    }

    /// Starts the next send of each sender who is due, up to the bounds.
    async fn start_due(&mut self) -> Result<(), Error> {
        while self.running.len() < MAX_RUNNING {
            let Some(user) = self.due.take_next(&self.busy) else { break };
            let (profile, from) = (self.me.profile.clone(), user.clone());
            let waiting = run_blocking(move || match profile.accept_rule(&from)? {
                Some(rule) if !rule.is_paused => Ok(profile.incoming_sends(Some(&from))?),
                _ => Ok(Vec::new()),
            });
            let waiting = waiting.await.inspect_err(|_| self.due.insert(user.clone()))?;
            if let Some(send) = waiting.into_iter().find(|send| !self.tried.contains(&(user.clone(), send.id))) {
                // Behind the others: further sends of the same sender may wait.
                self.due.insert(user);
                self.start(send);
            }
        }
        Ok(())
    }

    fn start(&mut self, send: IncomingSend) {
        self.busy.insert(send.from.clone());
        self.tried.insert((send.from.clone(), send.id));
        let (me, events, cancel) = (self.me.clone(), self.events.clone(), self.stop.child_token());
        self.running.spawn(async move {
            let fetched = send.clone();
            let accepted = run_blocking(move || Ok((me.handlers.accept_send)(&me, &fetched, &events, &cancel)));
            (send, accepted.await.unwrap_or_else(AutoAcceptOutcome::Failed))
        });
    }

    fn handle_outcome(&mut self, waiting: &IncomingSend, outcome: AutoAcceptOutcome) {
        let (from, send) = (waiting.from.clone(), waiting.send.clone());
        self.busy.remove(&from);
        match outcome {
            AutoAcceptOutcome::NoRule => {}
            AutoAcceptOutcome::RuleEnded => self.events.send(NodeEvent::AcceptRuleEnded { user: from }),
            AutoAcceptOutcome::Done(folder) => {
                let folder = safe_path(folder);
                self.events.send(NodeEvent::SendAccepted { from: from.clone(), send, folder });
                // The receipt is queued by now, and goes to the sender at once.
                self.outbox.wake(&from);
            }
            AutoAcceptOutcome::Held(why) => self.report_held(waiting, why),
            // It goes on when the sender is back.
            AutoAcceptOutcome::Failed(error) if is_passing(&error) => {
                tracing::info!("what {from} sends can't be fetched now: {error}");
                self.retry_later(waiting);
            }
            AutoAcceptOutcome::Failed(error) => {
                // Not shared: it may be paused.
                if error.kind() == ErrorKind::NotShared {
                    self.retry_later(waiting);
                }
                self.report_held(waiting, TranslatedText::of(&error));
            }
        }
    }

    /// Has a send tried again later.
    fn retry_later(&mut self, waiting: &IncomingSend) {
        self.failed.insert((waiting.from.clone(), waiting.id));
        // The earliest counts, or each further failure would put off the retry of the others.
        self.retry_at.get_or_insert_with(|| Instant::now() + RETRY_INTERVAL);
    }

    fn retry_failed(&mut self) {
        self.retry_at = None;
        for (from, id) in self.failed.drain() {
            self.due.insert(from.clone());
            self.tried.remove(&(from, id));
        }
    }

    fn report_held(&mut self, waiting: &IncomingSend, why: TranslatedText) {
        let (from, send) = (waiting.from.clone(), waiting.send.clone());
        if self.reported.insert((from.clone(), waiting.id)) {
            self.events.send(NodeEvent::SendHeld { from, send, why });
        }
    }
}

/// True for an error after which the fetch goes on by itself.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Network | ErrorKind::Unavailable | ErrorKind::Interrupted)
}

/// Logs an error of the profile: the next event tries again.
fn log_failure(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        tracing::error!("what is sent could not be looked at: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_wait_in_turn_whatever_their_names() {
        let user = |name: &str| -> UserName { name.parse().unwrap() };
        let mut due = DueSenders::default();
        for name in ["zoe", "alice", "zoe", "bob"] {
            due.insert(user(name));
        }
        let busy = HashSet::from([user("alice")]);
        assert_eq!(due.take_next(&busy), Some(user("zoe")));
        due.insert(user("zoe"));
        assert_eq!(due.take_next(&busy), Some(user("bob")));
        assert_eq!(due.take_next(&busy), Some(user("zoe")));
        assert_eq!(due.take_next(&busy), None);
        assert_eq!(due.take_next(&HashSet::new()), Some(user("alice")));
    }
}
