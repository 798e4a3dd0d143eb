//! The node's side of the local socket: accepts clients and performs their requests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use shared::peer::{ChatMessage, MessageId, PeerErrorCode};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::broadcast;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::client_transfers::ClientTransfers;
use super::control_socket::ControlSocket;
use super::{ControlAction, ControlOutcome, ControlReply, ControlRequest, MAX_REQUEST_BYTES, NodeLifetime, NodeStatus};
use crate::engine::active_conversations::OpenConversation;
use crate::engine::chat;
use crate::engine::node::revalidation_trigger::RevalidationTrigger;
use crate::engine::node::tracker_session::PresenceState;
use crate::engine::node::{NodeServices, user_list};
use crate::engine::node_event::{EventBus, NodeEvent};
use crate::engine::tracker_account::{self, PasswordChange};
use crate::engine::{Error, LocalUser, file_offers, now_s, run_blocking};
use crate::profile::{NodeLock, ProfileError};

/// Interval between checks that the socket, the lock and the database are still there.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Time for clients to get their last lines when the node ends.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// Clients at once: the views and scripts of one user.
const CLIENTS: usize = 64;

/// The listening socket and the parts of the node that requests act on.
#[derive(Debug)]
pub(in crate::engine::node) struct ControlServer {
    socket: ControlSocket,
    context: Arc<ControlContext>,
}

#[derive(Debug)]
struct ControlContext {
    me: LocalUser,
    services: NodeServices,
    events: EventBus,
    stop: CancellationToken,
    lifetime: NodeLifetime,
}

impl ControlServer {
    /// Binds the socket.
    ///
    /// # Errors
    /// [`Error::Disk`] when neither place takes a socket.
    pub(in crate::engine::node) fn bind(
        me: LocalUser,
        lock: Arc<NodeLock>,
        services: NodeServices,
        events: EventBus,
        stop: CancellationToken,
        lifetime: NodeLifetime,
    ) -> Result<Self, Error> {
        let socket = ControlSocket::bind(&me.profile, lock)?;
        Ok(Self { socket, context: Arc::new(ControlContext { me, services, events, stop, lifetime }) })
    }

    /// Serves clients until the node stops.
    ///
    /// # Errors
    /// Another node has the profile, or its database is gone.
    pub(in crate::engine::node) async fn run(mut self) -> Result<(), Error> {
        let mut clients = JoinSet::new();
        let mut health_check =
            tokio::time::interval_at(tokio::time::Instant::now() + HEALTH_CHECK_INTERVAL, HEALTH_CHECK_INTERVAL);
        loop {
            tokio::select! {
                () = self.context.stop.cancelled() => break,
                _ = health_check.tick() => self.socket.check()?,
                // A full server leaves further clients in the kernel's queue.
                accepted = self.socket.listener().accept(), if clients.len() < CLIENTS => match accepted {
                    Ok((stream, _)) => {
                        clients.spawn(serve_client(stream, self.context.clone()));
                    }
                    Err(why) => {
                        // Most likely out of descriptors, which a retry at once would not bring back.
                        tracing::warn!("the local socket: {why}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(ended) = clients.join_next() => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => tracing::debug!("a local client: {why}"),
                    Err(failure) => tracing::error!("a local client's task failed: {failure}"),
                },
            }
        }
        let drained = async { while clients.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
        clients.shutdown().await;
        Ok(())
    }
}

async fn serve_client(stream: UnixStream, context: Arc<ControlContext>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).take(MAX_REQUEST_BYTES as u64);
    let mut line = Vec::new();
    let mut event_receiver: Option<broadcast::Receiver<NodeEvent>> = None;
    let mut pending = JoinSet::new();
    // Separate from `pending`: they may never finish, and must not outlive the client.
    let mut activity_watches = JoinSet::new();
    // Dropped with the client, which closes the conversation.
    let mut open_conversation: Option<OpenConversation> = None;
    let mut client_transfers = ClientTransfers::new(context.events.clone());
    loop {
        tokio::select! {
            // Cancel-safe: read_until keeps its partial line in `line`.
            read = lines.read_until(b'\n', &mut line) => {
                if read? == 0 && line.is_empty() {
                    break;
                }
                if line.last() != Some(&b'\n') {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end"));
                }
                lines.set_limit(MAX_REQUEST_BYTES as u64);
                let command: ControlRequest = serde_json::from_slice(&line)?;
                line.clear();
                match command.action {
                    ControlAction::Watch { with } => {
                        drop(std::mem::replace(&mut open_conversation, with.map(|with| context.events.conversations().open(&with))));
                        if event_receiver.is_some() {
                        // A second `watch` only changes the open conversation: the events must not come
                        // twice.
                            write_line(&mut writer, &done_reply(command.id, Value::Null)).await?;
                            continue;
                        }
                        event_receiver.get_or_insert_with(|| context.events.subscribe());
                        write_line(&mut writer, &done_reply(command.id, Value::Null)).await?;
                        match context.services.tracker.presence_state() {
                            PresenceState::Offline { why } => {
                                write_line(&mut writer, &NodeEvent::TrackerLost { why }).await?;
                            }
                            PresenceState::Displaced(elsewhere) => {
                                write_line(&mut writer, &NodeEvent::Displaced(elsewhere)).await?;
                            }
                            PresenceState::Present { .. } => {}
                        }
                    }
                    ControlAction::Stop => {
                        write_line(&mut writer, &done_reply(command.id, Value::Null)).await?;
                        context.stop.cancel();
                    }
                    ControlAction::HandOver if context.lifetime == NodeLifetime::View => {
                        write_line(&mut writer, &done_reply(command.id, Value::Null)).await?;
                        context.stop.cancel();
                    }
                    ControlAction::Transfer(transfer) => client_transfers.record(transfer),
                    ControlAction::WatchChatActivity { .. } => drop(activity_watches.spawn(perform(command, context.clone()))),
                    _ => {
                        pending.spawn(perform(command, context.clone()));
                    }
                }
            }
            done = next_reply(&mut pending, &mut activity_watches) => {
                let reply = done.map_err(|failure| io::Error::other(failure.to_string()))?;
                // Events that precede the outcome are sent before the reply.
                while let Some(event) = event_receiver.as_mut().and_then(buffered_event) {
                    write_line(&mut writer, &event).await?;
                }
                write_line(&mut writer, &reply).await?;
            }
            event = next_event(&mut event_receiver) => write_line(&mut writer, &event).await?,
            () = context.stop.cancelled() => {
                // The reason why the node ends may be among them.
                while let Some(event) = event_receiver.as_mut().and_then(buffered_event) {
                    write_line(&mut writer, &event).await?;
                }
                return Ok(());
            }
        }
    }
    // The client closed its sending half only: requests that it made are still answered.
    while let Some(Ok(reply)) = pending.join_next().await {
        write_line(&mut writer, &reply).await?;
    }
    Ok(())
}

/// Waits for the next reply; forever while nothing is pending.
async fn next_reply(
    pending: &mut JoinSet<ControlReply>,
    activity_watches: &mut JoinSet<ControlReply>,
) -> Result<ControlReply, JoinError> {
    tokio::select! {
        Some(done) = pending.join_next() => done,
        Some(done) = activity_watches.join_next() => done,
        else => std::future::pending().await,
    }
}

async fn perform(command: ControlRequest, context: Arc<ControlContext>) -> ControlReply {
    let id = command.id;
    match execute(command.action, &context).await {
        Ok(value) => done_reply(id, value),
        Err(error) => {
            ControlReply { id, outcome: ControlOutcome::Error { kind: error.kind(), message: error.to_string() } }
        }
    }
}

async fn execute(action: ControlAction, context: &ControlContext) -> Result<Value, Error> {
    let (me, outbox) = (&context.me, &context.services.outbox);
    Ok(match action {
        ControlAction::Status => json!(node_status(context)),
        ControlAction::Say { to, text, message } => json!(outbox.enqueue(&to, compose_message(&text, message)?).await?),
        ControlAction::Drop { to, message } => json!(outbox.cancel_queued(&to, message).await?),
        ControlAction::Deliver { to, text, now, message } => {
            json!(outbox.deliver(&to, compose_message(&text, message)?, now).await?)
        }
        ControlAction::Offer { to, name, wait } => {
            // As stored, not as the client says: the recipient must be able to fetch exactly this file.
            let message = chat::compose_offer(&me.user, file_offers::find_offer(me, &to, &name)?);
            if wait {
                json!(outbox.deliver(&to, message, false).await?)
            } else {
                json!(outbox.enqueue(&to, message).await?)
            }
        }
        ControlAction::Flush { to } => json!(outbox.flush(&to).await?),
        ControlAction::Typing { to } => {
            // Throttle transfers already now: a message follows soon.
            context.events.record_own_writing(&to);
            outbox.notify_typing(&to);
            Value::Null
        }
        ControlAction::History(query) => {
            let profile = me.profile.clone();
            json!(run_blocking(move || Ok(profile.history(&query)?)).await?)
        }
        ControlAction::MarkRead { with, up_to } => {
            let (profile, user) = (me.profile.clone(), with.clone());
            if run_blocking(move || Ok(profile.mark_read(&user, up_to)?)).await? {
                context.events.send(NodeEvent::Read { with });
            }
            Value::Null
        }
        ControlAction::People => json!(user_list::list_users(me, context.services.tracker.clone()).await?),
        ControlAction::Block { user } => {
            let (profile, blocked) = (me.profile.clone(), user.clone());
            let changed = run_blocking(move || Ok(profile.block(&blocked, now_s())?)).await?;
            // The block is on record before the links close, or the user could call again in between.
            context.services.link_pool.close_links(&user, PeerErrorCode::Unauthorised);
            json!(changed)
        }
        ControlAction::Unblock { user } => {
            let profile = me.profile.clone();
            json!(run_blocking(move || Ok(profile.unblock(&user)?)).await?)
        }
        ControlAction::Accept { user } => {
            let (profile, accepted) = (me.profile.clone(), user.clone());
            let changed = run_blocking(move || Ok(profile.accept(&accepted)?)).await?;
            context.events.send(NodeEvent::Accepted { user });
            json!(changed)
        }
        ControlAction::Wake { user: Some(user) } => {
            // `peer trust` sends this: another key may be on record by now.
            context.services.revalidation.request(RevalidationTrigger::UserKey(user.clone()));
            outbox.wake(&user);
            Value::Null
        }
        ControlAction::Wake { user: None } => {
            outbox.wake_all().await?;
            Value::Null
        }
        ControlAction::WatchChatActivity { talking } => {
            context.events.chat_activity().wait_for(!talking).await;
            json!(!talking)
        }
        ControlAction::Passwd { present, new } => {
            let (Some(present), Some(new)) = (present.password(), new.password()) else {
                return Err(Error::Usage("that is not a password".to_owned()));
            };
            tracker_account::change_password(
                &mut context.services.tracker.clone(),
                me.user.clone(),
                PasswordChange { current: present, new },
            )
            .await?;
            Value::Null
        }
        ControlAction::SharesChanged => {
            context.services.tracker.shares_changed();
            Value::Null
        }
        ControlAction::GoOnline => {
            context.services.tracker.go_online();
            Value::Null
        }
        ControlAction::HandOver => return Err(ProfileError::NodeRuns { pid: Some(std::process::id()) }.into()),
        // Handled by serve_client, which has the connection.
        ControlAction::Watch { .. } | ControlAction::Transfer(_) | ControlAction::Stop => Value::Null,
    })
}

/// Returns a message of this text, with `id` if one is given.
fn compose_message(text: &str, id: Option<MessageId>) -> Result<ChatMessage, Error> {
    let message = chat::compose(text)?;
    Ok(ChatMessage { id: id.unwrap_or(message.id), ..message })
}

fn node_status(context: &ControlContext) -> NodeStatus {
    let (address, elsewhere) = match context.services.tracker.presence_state() {
        PresenceState::Present { address } => (Some(address), None),
        PresenceState::Displaced(elsewhere) => (None, Some(elsewhere)),
        PresenceState::Offline { .. } => (None, None),
    };
    let (user, lifetime) = (context.me.user.clone(), context.lifetime);
    NodeStatus { user, address, pid: std::process::id(), lifetime, elsewhere }
}

const fn done_reply(id: u64, value: Value) -> ControlReply {
    ControlReply { id, outcome: ControlOutcome::Done(value) }
}

fn buffered_event(events: &mut broadcast::Receiver<NodeEvent>) -> Option<NodeEvent> {
    match events.try_recv() {
        Ok(event) => Some(event),
        // The client learns that it missed events, and can reload.
        Err(broadcast::error::TryRecvError::Lagged(count)) => Some(NodeEvent::EventsMissed { count }),
        Err(_) => None,
    }
}

async fn next_event(event_receiver: &mut Option<broadcast::Receiver<NodeEvent>>) -> NodeEvent {
    if let Some(events) = event_receiver {
        match events.recv().await {
            Ok(event) => return event,
            Err(broadcast::error::RecvError::Lagged(count)) => return NodeEvent::EventsMissed { count },
            Err(broadcast::error::RecvError::Closed) => {}
        }
    }
    std::future::pending().await
}

async fn write_line<T: Serialize>(writer: &mut OwnedWriteHalf, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    writer.write_all(&line).await
}
