//! The node's side of the local socket: accepts clients and performs their requests.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use localization::{Language, in_language, tr};
use serde::Serialize;
use serde_json::{Value, json};
use shared::peer::{ChatMessage, MessageId};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::broadcast;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::client_transfers::ClientTransfers;
use super::control_socket::ControlSocket;
use super::{ControlAction, ControlOutcome, ControlReply, ControlRequest, MAX_REQUEST_BYTES};
use crate::engine::active_conversations::OpenConversation;
use crate::engine::event_bus::{buffered_event, next_event};
use crate::engine::node::node_core::NodeCore;
use crate::engine::node::node_values::NodeLifetime;
use crate::engine::node_event::NodeEvent;
use crate::engine::tracker_account::PasswordChange;
use crate::engine::{Error, chat};
use crate::profile::{NodeLock, Profile, ProfileError};
use crate::util::json_lines::LineBuffer;

/// Interval between checks that the socket, the lock and the database are still there.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Time for clients to get their last lines when the node ends.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// Clients at once: the views and scripts of one user.
const CLIENTS: usize = 64;

/// The listening socket and the acts of the node that clients ask for.
#[derive(Debug)]
pub(in crate::engine::node) struct ControlServer {
    socket: ControlSocket,
    core: NodeCore,
    stop: CancellationToken,
}

impl ControlServer {
    /// Binds the socket.
    ///
    /// # Errors
    /// [`Error::Disk`] when neither place takes a socket.
    pub(in crate::engine::node) fn bind(profile: &Profile, lock: Arc<NodeLock>, core: NodeCore) -> Result<Self, Error> {
        let stop = core.stop_token();
        Ok(Self { socket: ControlSocket::bind(profile, lock)?, core, stop })
    }

    /// Serves clients until the node stops.
    ///
    /// # Errors
    /// Another node has the profile, or its database is gone.
    pub(in crate::engine::node) async fn run(mut self) -> Result<(), Error> {
        let mut clients = JoinSet::new();
        // Not at once: the socket was bound a moment ago.
        let mut health_check =
            tokio::time::interval_at(tokio::time::Instant::now() + HEALTH_CHECK_INTERVAL, HEALTH_CHECK_INTERVAL);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = health_check.tick() => self.socket.check()?,
                // A full server leaves further clients in the kernel's queue.
                accepted = self.socket.listener().accept(), if clients.len() < CLIENTS => match accepted {
                    Ok((stream, _)) => {
                        clients.spawn(serve_client(stream, self.core.clone()));
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
        // Whoever doesn't read the last lines in time loses them: the node must end.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
        clients.shutdown().await;
        Ok(())
    }
}

async fn serve_client(stream: UnixStream, core: NodeCore) -> io::Result<()> {
    let stop = core.stop_token();
    let (mut reader, mut writer) = stream.into_split();
    let mut incoming = LineBuffer::default();
    let mut event_receiver: Option<broadcast::Receiver<NodeEvent>> = None;
    let mut pending = JoinSet::new();
    // Separate from `pending`: they may never finish, and must not outlive the client.
    let mut activity_watches = JoinSet::new();
    // Dropped with the client, which closes the conversation.
    let mut open_conversation: Option<OpenConversation> = None;
    let mut client_transfers = ClientTransfers::new(core.events().clone());
    // That of the client's last request.
    let mut language = Language::English;
    loop {
        tokio::select! {
            line = incoming.read_line(&mut reader, MAX_REQUEST_BYTES) => {
                let Some(line) = line.map_err(io::Error::from)? else { break };
                let command: ControlRequest = serde_json::from_slice(&line)?;
                language = command.language();
                match command.action {
                    ControlAction::Watch { with } => {
                        // The new one is opened before the old one is closed: if they are the same, it stays open
                        // throughout.
                        drop(std::mem::replace(&mut open_conversation, with.map(|with| core.events().conversations().open(&with))));
                        if event_receiver.is_some() {
                            // A second `watch` only changes the open conversation: the events must not come twice.
                            write_line(&mut writer, &done_reply(command.id, Value::Null)).await?;
                            continue;
                        }
                        // Before the reply, which promises all events from then on.
                        event_receiver.get_or_insert_with(|| core.events().subscribe());
                        write_line(&mut writer, &done_reply(command.id, Value::Null)).await?;
                        if let Some(event) = core.absence_event() {
                            write_event(&mut writer, &event, language).await?;
                        }
                    }
                    ControlAction::Stop => {
                        // The answer first: with the token this connection ends as well.
                        write_line(&mut writer, &done_reply(command.id, Value::Null)).await?;
                        stop.cancel();
                    }
                    ControlAction::HandOver if core.lifetime() == NodeLifetime::View => {
                        write_line(&mut writer, &done_reply(command.id, Value::Null)).await?;
                        stop.cancel();
                    }
                    ControlAction::Transfer(transfer) => client_transfers.record(transfer),
                    ControlAction::WaitForChatActivity { .. } => drop(activity_watches.spawn(perform(command, core.clone()))),
                    _ => {
                        pending.spawn(perform(command, core.clone()));
                    }
                }
            }
            done = next_reply(&mut pending, &mut activity_watches) => {
                let reply = done.map_err(|failure| io::Error::other(failure.to_string()))?;
                // Events that precede the outcome are sent before the reply.
                while let Some(event) = event_receiver.as_mut().and_then(buffered_event) {
                    write_event(&mut writer, &event, language).await?;
                }
                write_line(&mut writer, &reply).await?;
            }
            event = next_watched_event(&mut event_receiver) => write_event(&mut writer, &event, language).await?,
            () = stop.cancelled() => {
                // The reason why the node ends may be among them.
                while let Some(event) = event_receiver.as_mut().and_then(buffered_event) {
                    write_event(&mut writer, &event, language).await?;
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
        // Returning would make the caller's loop spin while nothing is asked.
        else => std::future::pending().await,
    }
}

async fn perform(command: ControlRequest, core: NodeCore) -> ControlReply {
    let (id, language) = (command.id, command.language());
    let mut action = pin!(execute(command.action, &core));
    // In the client's language at each step: errors are put into words where they happen.
    let done = poll_fn(|context| in_language(language, || action.as_mut().poll(context))).await;
    match done {
        Ok(value) => done_reply(id, value),
        Err(error) => {
            let message = in_language(language, || error.to_string());
            ControlReply { id, outcome: ControlOutcome::Error { kind: error.kind(), message } }
        }
    }
}

async fn execute(action: ControlAction, core: &NodeCore) -> Result<Value, Error> {
    Ok(match action {
        ControlAction::Status => json!(core.status()),
        ControlAction::QueueMessage { to, text, message } => {
            json!(core.queue_message(&to, compose_message(&text, message)?).await?)
        }
        ControlAction::Cancel { to, message } => json!(core.cancel(&to, message).await?),
        ControlAction::Deliver { to, text, now, message } => {
            json!(core.deliver(&to, compose_message(&text, message)?, now).await?)
        }
        ControlAction::Offer { to, name, wait: true } => json!(core.deliver_offer(&to, &name).await?),
        ControlAction::Offer { to, name, wait: false } => json!(core.queue_offer(&to, &name).await?),
        ControlAction::AnnounceSend { number } => json!(core.announce_send(number).await?),
        ControlAction::Flush { to } => json!(core.flush(&to).await?),
        ControlAction::Typing { to } => json!(core.typing(&to)),
        ControlAction::History(query) => json!(core.history(query).await?),
        ControlAction::MarkRead { with, up_to } => json!(core.mark_read(with, up_to).await?),
        ControlAction::Users => json!(core.users().await?),
        ControlAction::Block { user } => json!(core.block(user).await?),
        ControlAction::Unblock { user } => json!(core.unblock(user).await?),
        ControlAction::Accept { user } => json!(core.accept(user).await?),
        ControlAction::SharedNames { user, prefix } => json!(core.shared_names(user, &prefix).await?),
        ControlAction::Rooms => json!(core.rooms().await?),
        ControlAction::WriteInRoom { room, text, wait } => json!(core.write_in_room(&room, &text, wait).await?),
        ControlAction::RoomCut { room, user } => json!(core.room_cut(&room, &user).await?),
        ControlAction::Wake { user } => json!(core.wake(user).await?),
        ControlAction::WaitForChatActivity { talking } => {
            core.events().chat_activity().wait_for(!talking).await;
            json!(!talking)
        }
        ControlAction::ChangePassword { present, new } => {
            let (Some(current), Some(new)) = (present.password(), new.password()) else {
                return Err(Error::Usage(tr!("that is not a password")));
            };
            json!(core.change_password(PasswordChange { current, new }).await?)
        }
        ControlAction::ServeLinks => json!(core.serve_links().await?),
        ControlAction::AnswerGuest { link, guest, text } => json!(core.answer_guest((link, guest), text).await?),
        ControlAction::SharesChanged => json!(core.shares_changed()),
        ControlAction::FollowsChanged => json!(core.follows_changed()),
        ControlAction::HistoryRemoved => json!(core.history_removed().await?),
        ControlAction::WishesChanged => json!(core.wishes_changed()),
        ControlAction::GoOnline => json!(core.go_online()),
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

const fn done_reply(id: u64, value: Value) -> ControlReply {
    ControlReply { id, outcome: ControlOutcome::Done(value) }
}

async fn next_watched_event(event_receiver: &mut Option<broadcast::Receiver<NodeEvent>>) -> NodeEvent {
    if let Some(events) = event_receiver
        && let Some(event) = next_event(events).await
    {
        return event;
    }
    // Without a subscription, the caller's `select!` must never find this ready.
    std::future::pending().await
}

async fn write_event(writer: &mut OwnedWriteHalf, event: &NodeEvent, language: Language) -> io::Result<()> {
    write_bytes(writer, in_language(language, || serde_json::to_vec(event))?).await
}

async fn write_line<T: Serialize>(writer: &mut OwnedWriteHalf, value: &T) -> io::Result<()> {
    write_bytes(writer, serde_json::to_vec(value)?).await
}

async fn write_bytes(writer: &mut OwnedWriteHalf, mut line: Vec<u8>) -> io::Result<()> {
    line.push(b'\n');
    writer.write_all(&line).await
}
