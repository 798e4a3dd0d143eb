//! Message hook: a program of the user's choice that runs for every received message, and for the first message of a
//! user who is not accepted.
//!
//! It runs without a shell. Its environment has `VIZINHO_EVENT` (`message`, `offer` or `left_out`), `VIZINHO_FROM`,
//! `VIZINHO_TEXT` (made safe for a terminal), `VIZINHO_ID`, `VIZINHO_TS` and `VIZINHO_HOME`; its standard input is the
//! text as received. `left_out` reports once, in words, for how many messages of a user it did not run; it has no id. A
//! message of a room has `VIZINHO_ROOM` as well, the room's name, and `VIZINHO_MENTION=1` if it calls the user by name. It
//! doesn't run for what is muted.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | hooks that run at once | 4, 2 of them for one user; 1 more for all users who are not accepted | they wait, each user in turn |
//! | messages that wait | 100 of one user, 1000 in all | the longest queue loses its last message, which is reported once |
//! | waiting messages of users who are not accepted | the first of each of 100 | dropped |
//! | run time | 30 s | the hook is killed |
//! | output | none is read | |

mod hook_queue;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use shared::UserName;
use shared::peer::ChatMessage;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::broadcast;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::hook_queue::{HookQueue, HookSlot, SenderStanding};
use super::chat::{ConversationName, ConversationStatus, HistoryQuery, MessageDirection};
use super::fair_queue::QueueItem;
use super::node_event::NodeEvent;
use super::room_values::RoomPost;
use super::{Error, LocalUser, run_blocking};

/// Run time of a hook.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for running hooks to end when the node ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the hook, if one is set, for every received message until `stop`.
pub async fn run(
    me: LocalUser,
    mut events: broadcast::Receiver<NodeEvent>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let mut hooks = HookRunner::begin(me).await?;
    loop {
        hooks.start_queued();
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = hooks.running.join_next_with_id() => hooks.handle_exit(ended),
            event = events.recv() => match event {
                Ok(event) => hooks.handle_event(event),
                // The missed messages are all in the history: a flood of one user takes no hook from the others.
                Err(broadcast::error::RecvError::Lagged(_)) => if let Err(why) = hooks.catch_up().await {
                    tracing::error!("the hook doesn't hear what it missed: {why}");
                },
                Err(broadcast::error::RecvError::Closed) => break,
            },
        }
    }
    // Messages received before the end get their hook too, within `SHUTDOWN_TIMEOUT`.
    while let Ok(event) = events.try_recv() {
        hooks.handle_event(event);
    }
    let last = async {
        loop {
            hooks.start_queued();
            match hooks.running.join_next_with_id().await {
                Some(ended) => hooks.handle_exit(ended),
                None => return,
            }
        }
    };
    // What doesn't end in time is ended below: a dropped child is killed.
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, last).await;
    hooks.running.shutdown().await;
    Ok(())
}

/// The running hooks and the messages that wait for one.
struct HookRunner {
    me: LocalUser,
    queue: HookQueue<HookMessage>,
    running: JoinSet<()>,
    /// The slot of each running hook.
    slots: HashMap<Id, HookSlot>,
    /// The place of the last message that was queued for a hook.
    last_seq: i64,
}

/// A message for which the hook runs.
enum HookMessage {
    Private(ChatMessage),
    Room(RoomPost),
}

/// The reason for a run of the hook.
enum HookTrigger {
    Message(HookMessage),
    Dropped(u64),
}

impl HookRunner {
    async fn begin(me: LocalUser) -> Result<Self, Error> {
        let profile = me.profile.clone();
        // The place at the start: older messages had their chance in an earlier node.
        let last = run_blocking(move || Ok(profile.history(&HistoryQuery::last(1))?)).await?;
        let last = last.last().map_or(0, |stored| stored.seq);
        let (queue, running, slots) = (HookQueue::new(), JoinSet::new(), HashMap::new());
        Ok(Self { me, queue, running, slots, last_seq: last })
    }

    fn handle_event(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::Received { from, message, seq, .. } => self.enqueue(from, message, seq),
            // The members of a room are known to each other.
            NodeEvent::RoomMessage(post) if post.from != self.me.user && !self.is_muted(&(&post.room).into()) => {
                self.queue.push(post.from.clone(), SenderStanding::Accepted, HookMessage::Room(post));
            }
            _ => {}
        }
    }

    fn enqueue(&mut self, from: UserName, message: ChatMessage, seq: i64) {
        // Events come in the order of places; an earlier place was queued by `catch_up` already.
        if seq > self.last_seq {
            self.last_seq = seq;
            if self.is_muted(&(&from).into()) {
                return;
            }
            match self.standing(&from) {
                SenderStanding::Stranger if !self.is_first(&from, seq) => {}
                standing => self.queue.push(from, standing, HookMessage::Private(message)),
            }
        }
    }

    fn is_muted(&self, with: &ConversationName) -> bool {
        self.me.profile.is_muted(with).unwrap_or_else(|why| {
            // In doubt not: a message that nobody hears of is worse than a run too many.
            tracing::warn!("whether {with} is muted is not known: {why}");
            false
        })
    }

    fn standing(&self, from: &UserName) -> SenderStanding {
        match self.me.profile.conversation_status(from) {
            Ok(ConversationStatus::Accepted) => SenderStanding::Accepted,
            Ok(ConversationStatus::Request(_)) => SenderStanding::Stranger,
            Err(why) => {
                // In doubt a stranger: those have one place, and hold nobody else up.
                tracing::warn!("whether {from} is accepted is not known: {why}");
                SenderStanding::Stranger
            }
        }
    }

    /// Tells whether nothing is kept of `from` that came before this.
    fn is_first(&self, from: &UserName, seq: i64) -> bool {
        let query = HistoryQuery { before: Some(seq), ..HistoryQuery::with(from, 1) };
        self.me.profile.history(&query).is_ok_and(|earlier| earlier.is_empty())
    }

    /// Queues the messages whose events were missed, from the history. Those of rooms are left out: their events don't come
    /// in the order of places, so nothing tells which were missed.
    async fn catch_up(&mut self) -> Result<(), Error> {
        const PAGE: usize = 1000;
        loop {
            let query = HistoryQuery { after: Some(self.last_seq), earliest: true, ..HistoryQuery::last(PAGE) };
            let profile = self.me.profile.clone();
            let page = run_blocking(move || Ok(profile.history(&query)?)).await?;
            let is_all = page.len() < PAGE;
            for stored in page {
                match stored.direction {
                    MessageDirection::In if stored.room.is_none() => {
                        self.enqueue(stored.peer, stored.message, stored.seq);
                    }
                    // What starts no run moves the mark as well, or the next page would be this one.
                    MessageDirection::In | MessageDirection::Out => self.last_seq = self.last_seq.max(stored.seq),
                }
            }
            if is_all {
                return Ok(());
            }
        }
    }

    /// Starts hooks up to the bounds.
    fn start_queued(&mut self) {
        while let Some((item, slot)) = self.queue.start_next() {
            let (from, occasion) = match item {
                QueueItem::Entry(from, message) => (from, HookTrigger::Message(message)),
                QueueItem::Dropped(from, count) => (from, HookTrigger::Dropped(count)),
            };
            // Read for each run: the user may change or remove the hook while the node runs.
            let argv = match self.me.profile.message_hook() {
                Ok(Some(argv)) => argv,
                Ok(None) => {
                    // What waits is dropped: a hook that is set later isn't run for it.
                    self.queue.finish(&slot);
                    self.queue.clear();
                    return;
                }
                Err(why) => {
                    // The message is in the history; only its hook is lost.
                    tracing::error!("the hook can't be read, and isn't run for what {from} wrote: {why}");
                    self.queue.finish(&slot);
                    continue;
                }
            };
            if let HookTrigger::Dropped(count) = &occasion {
                tracing::warn!("{from} writes faster than the hook runs: it was not run for {count} messages");
            }
            let hook = run_hook(argv, self.me.profile.home().to_owned(), from, occasion);
            let running = self.running.spawn(hook);
            self.slots.insert(running.id(), slot);
        }
    }

    fn handle_exit(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(failure) => {
                tracing::error!("a hook's task failed: {failure}");
                failure.id()
            }
        };
        if let Some(slot) = self.slots.remove(&id) {
            self.queue.finish(&slot);
        }
    }
}

impl HookTrigger {
    /// Sets the environment of the hook; returns its standard input.
    fn set_environment(self, from: &UserName, command: &mut Command) -> String {
        match self {
            Self::Message(HookMessage::Room(post)) => {
                command
                    .env("VIZINHO_EVENT", "message")
                    .env("VIZINHO_ROOM", post.room.as_str())
                    .env("VIZINHO_MENTION", if post.mentions_me { "1" } else { "" })
                    // Filtered, because scripts echo their variables; standard input has the text as it was received.
                    .env("VIZINHO_TEXT", &*post.text.safe_block())
                    .env("VIZINHO_ID", post.id.to_string())
                    .env("VIZINHO_TS", post.ts.to_string());
                post.text.into_received()
            }
            Self::Message(HookMessage::Private(message)) => {
                command
                    .env(
                        "VIZINHO_EVENT",
                        if message.offer.is_some() || message.send.is_some() { "offer" } else { "message" },
                    )
                    .env("VIZINHO_TEXT", &*message.text.safe_block())
                    .env("VIZINHO_ID", message.id.to_string())
                    .env("VIZINHO_TS", message.ts.to_string());
                message.text.into_received()
            }
            Self::Dropped(count) => {
                let messages = if count == 1 { "message" } else { "messages" };
                let text = format!("{count} more {messages} from {from}: peer inbox");
                command.env("VIZINHO_EVENT", "left_out").env("VIZINHO_TEXT", &text);
                text
            }
        }
    }
}

async fn run_hook(argv: Vec<String>, home: PathBuf, from: UserName, occasion: HookTrigger) {
    let Some((program, args)) = argv.split_first() else { return };
    let mut command = Command::new(program);
    let text = occasion.set_environment(&from, &mut command);
    let child = command
        .args(args)
        .env("VIZINHO_FROM", from.as_str())
        .env("VIZINHO_HOME", home)
        .stdin(Stdio::piped())
        // Unread output in a pipe would block the hook; on the node's terminal it would mix with the node's lines.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(why) => return tracing::error!("the hook {program} can't be run: {why}"),
    };
    // Taken out, so that it is closed behind the text: a hook that reads to the end would wait.
    let stdin = child.stdin.take();
    let finished = tokio::time::timeout(RUN_TIMEOUT, async {
        if let Some(mut stdin) = stdin {
            // A hook that doesn't read its input gets a broken pipe, which is no error.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
        child.wait().await
    });
    match finished.await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::warn!("the hook {program}: {status}"),
        Ok(Err(why)) => tracing::warn!("the hook {program}: {why}"),
        // The future is dropped, and the child with it, which kills the hook.
        Err(_) => tracing::warn!("the hook {program} ran for more than {} s and was ended", RUN_TIMEOUT.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use certs::Identity;

    use super::*;
    use crate::engine::chat;
    use crate::profile::Profile;

    #[tokio::test]
    async fn a_hook_that_cannot_be_read_takes_no_place_and_ends_nothing() {
        let home = tempfile::tempdir().unwrap();
        let (profile, identity) = (Profile::open(home.path()).unwrap(), Identity::generate().unwrap());
        let me = LocalUser::without_tracker(profile, identity.into(), "bob".parse().unwrap());
        let mut hooks = HookRunner::begin(me.clone()).await.unwrap();
        me.profile.set_message_hook(Some(&["true".to_owned()])).unwrap();
        let damage = |value: &str| {
            let database = rusqlite::Connection::open(home.path().join("profile.db")).unwrap();
            assert_eq!(database.execute("UPDATE setting SET value = ?1 WHERE key = 'hook'", [value]).unwrap(), 1);
        };
        let hear = |hooks: &mut HookRunner| {
            let message = HookMessage::Private(chat::compose("hello").unwrap());
            hooks.queue.push("alice".parse().unwrap(), SenderStanding::Accepted, message);
            hooks.start_queued();
        };
        damage("{");
        // More than run at once.
        (0..5).for_each(|_| hear(&mut hooks));
        assert!(hooks.running.is_empty());
        damage(r#"["true"]"#);
        hear(&mut hooks);
        assert_eq!(hooks.running.len(), 1);
    }
}
