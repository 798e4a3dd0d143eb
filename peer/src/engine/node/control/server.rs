//! The node's side of the local socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use shared::peer::{ChatMessage, Code, MessageId};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::broadcast;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::reported::Reported;
use super::socket::ControlSocket;
use super::{Action, Command, LINE_BYTES, Lifetime, Outcome, Reply, Status};
use crate::engine::account::{self, PasswordChange};
use crate::engine::active_conversations::OpenConversation;
use crate::engine::chat;
use crate::engine::event::{Event, Events};
use crate::engine::node::guard::Doubt;
use crate::engine::node::keeper::Standing;
use crate::engine::node::{Exchange, people};
use crate::engine::{Error, Me, blocking, now_s, offers};
use crate::profile::{NodeLock, ProfileError};

/// Between two looks whether the socket and the lock are still there.
const LOOK: Duration = Duration::from_secs(2);

/// For clients to be told what was still to be said when the node ends.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Clients at once: views and scripts of one user.
const CLIENTS: usize = 64;

/// The listening socket and what commands act on.
#[derive(Debug)]
pub(in crate::engine::node) struct Server {
    socket: ControlSocket,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    me: Me,
    exchange: Exchange,
    events: Events,
    stop: CancellationToken,
    lifetime: Lifetime,
}

impl Server {
    /// Takes the socket's name.
    ///
    /// # Errors
    /// When there is no place for it.
    pub(in crate::engine::node) fn bind(
        me: Me,
        lock: Arc<NodeLock>,
        exchange: Exchange,
        events: Events,
        stop: CancellationToken,
        lifetime: Lifetime,
    ) -> Result<Self, Error> {
        let socket = ControlSocket::bind(&me.profile, lock)?;
        Ok(Self { socket, shared: Arc::new(Shared { me, exchange, events, stop, lifetime }) })
    }

    /// Serves clients until the node stops.
    ///
    /// # Errors
    /// When another node has the profile.
    pub(in crate::engine::node) async fn run(mut self) -> Result<(), Error> {
        let mut clients = JoinSet::new();
        let mut look = tokio::time::interval_at(tokio::time::Instant::now() + LOOK, LOOK);
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => break,
                _ = look.tick() => self.socket.look()?,
                accepted = self.socket.listener().accept(), if clients.len() < CLIENTS => match accepted {
                    Ok((stream, _)) => {
                        clients.spawn(serve_client(stream, self.shared.clone()));
                    }
                    Err(why) => {
                        // Out of descriptors, most likely: spinning would not bring any back.
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
        let told = async { while clients.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_WORDS, told).await;
        clients.shutdown().await;
        Ok(())
    }
}

async fn serve_client(stream: UnixStream, shared: Arc<Shared>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).take(LINE_BYTES as u64);
    let mut line = Vec::new();
    let mut watching: Option<broadcast::Receiver<Event>> = None;
    let mut pending = JoinSet::new();
    // These may go on for ever, and are of no use to a client that is gone.
    let mut heeding = JoinSet::new();
    // Given up with the client.
    let mut open: Option<OpenConversation> = None;
    let mut reported = Reported::new(shared.events.clone());
    loop {
        tokio::select! {
            // read_until keeps what it read so far in `line` when it is cancelled here.
            read = lines.read_until(b'\n', &mut line) => {
                if read? == 0 && line.is_empty() {
                    break;
                }
                if line.last() != Some(&b'\n') {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end"));
                }
                lines.set_limit(LINE_BYTES as u64);
                let command: Command = serde_json::from_slice(&line)?;
                line.clear();
                match command.action {
                    Action::Watch { with } => {
                        drop(std::mem::replace(&mut open, with.map(|with| shared.events.conversations().open(&with))));
                        if watching.is_some() {
                            write_line(&mut writer, &ok(command.id, Value::Null)).await?;
                            continue;
                        }
                        watching.get_or_insert_with(|| shared.events.subscribe());
                        write_line(&mut writer, &ok(command.id, Value::Null)).await?;
                        match shared.exchange.tracker.standing() {
                            Standing::Away { why } => {
                                write_line(&mut writer, &Event::TrackerLost { why }).await?;
                            }
                            Standing::Displaced(elsewhere) => {
                                write_line(&mut writer, &Event::Displaced(elsewhere)).await?;
                            }
                            Standing::Present { .. } => {}
                        }
                    }
                    Action::Stop => {
                        write_line(&mut writer, &ok(command.id, Value::Null)).await?;
                        shared.stop.cancel();
                    }
                    Action::HandOver if shared.lifetime == Lifetime::View => {
                        write_line(&mut writer, &ok(command.id, Value::Null)).await?;
                        shared.stop.cancel();
                    }
                    Action::Transfer(transfer) => reported.take(transfer),
                    Action::Heed { .. } => drop(heeding.spawn(perform(command, shared.clone()))),
                    _ => {
                        pending.spawn(perform(command, shared.clone()));
                    }
                }
            }
            done = next_done(&mut pending, &mut heeding) => {
                let reply = done.map_err(|failure| io::Error::other(failure.to_string()))?;
                // What happened before it was done is told before it is.
                while let Some(event) = watching.as_mut().and_then(event_here) {
                    write_line(&mut writer, &event).await?;
                }
                write_line(&mut writer, &reply).await?;
            }
            event = next_event(&mut watching) => write_line(&mut writer, &event).await?,
            () = shared.stop.cancelled() => {
                // Why the node ends may be among them.
                while let Some(event) = watching.as_mut().and_then(event_here) {
                    write_line(&mut writer, &event).await?;
                }
                return Ok(());
            }
        }
    }
    // The client said all it had to say; it still gets its answers.
    while let Some(Ok(reply)) = pending.join_next().await {
        write_line(&mut writer, &reply).await?;
    }
    Ok(())
}

/// The next answer, whenever that comes.
async fn next_done(pending: &mut JoinSet<Reply>, heeding: &mut JoinSet<Reply>) -> Result<Reply, JoinError> {
    tokio::select! {
        Some(done) = pending.join_next() => done,
        Some(done) = heeding.join_next() => done,
        else => std::future::pending().await,
    }
}

async fn perform(command: Command, shared: Arc<Shared>) -> Reply {
    let id = command.id;
    match act(command.action, &shared).await {
        Ok(value) => ok(id, value),
        Err(error) => Reply { id, outcome: Outcome::Error { kind: error.kind(), message: error.to_string() } },
    }
}

async fn act(action: Action, shared: &Shared) -> Result<Value, Error> {
    let (me, post) = (&shared.me, &shared.exchange.post);
    Ok(match action {
        Action::Status => json!(status(shared)),
        Action::Say { to, text, message } => json!(post.say(&to, composed(&text, message)?).await?),
        Action::Drop { to, message } => json!(post.drop_waiting(&to, message).await?),
        Action::Deliver { to, text, now, message } => {
            json!(post.deliver(&to, composed(&text, message)?, now).await?)
        }
        Action::Offer { to, name, wait } => {
            let message = chat::compose_offer(&me.user, offers::find(me, &to, &name)?);
            if wait { json!(post.deliver(&to, message, false).await?) } else { json!(post.say(&to, message).await?) }
        }
        Action::Flush { to } => json!(post.flush(&to).await?),
        Action::Typing { to } => {
            // A message comes soon, and finds room.
            shared.events.take_part(&to);
            post.typing(&to);
            Value::Null
        }
        Action::History(query) => {
            let profile = me.profile.clone();
            json!(blocking(move || Ok(profile.history(&query)?)).await?)
        }
        Action::MarkRead { with, up_to } => {
            let (profile, user) = (me.profile.clone(), with.clone());
            if blocking(move || Ok(profile.mark_read(&user, up_to)?)).await? {
                shared.events.send(Event::Read { with });
            }
            Value::Null
        }
        Action::People => json!(people::everybody(me, shared.exchange.tracker.clone()).await?),
        Action::Block { user } => {
            let (profile, blocked) = (me.profile.clone(), user.clone());
            let changed = blocking(move || Ok(profile.block(&blocked, now_s())?)).await?;
            shared.exchange.switchboard.hang_up(&user, Code::Unauthorised);
            json!(changed)
        }
        Action::Unblock { user } => {
            let profile = me.profile.clone();
            json!(blocking(move || Ok(profile.unblock(&user)?)).await?)
        }
        Action::Accept { user } => {
            let (profile, accepted) = (me.profile.clone(), user.clone());
            let changed = blocking(move || Ok(profile.accept(&accepted)?)).await?;
            shared.events.send(Event::Accepted { user });
            json!(changed)
        }
        Action::Wake { user: Some(user) } => {
            // Another key may be trusted since.
            shared.exchange.suspicion.tell(Doubt::Of(user.clone()));
            post.wake(&user);
            Value::Null
        }
        Action::Wake { user: None } => {
            post.wake_all().await?;
            Value::Null
        }
        Action::Heed { talking } => {
            shared.events.talk().wait_until(!talking).await;
            json!(!talking)
        }
        Action::Passwd { present, new } => {
            let (Some(present), Some(new)) = (present.password(), new.password()) else {
                return Err(Error::Usage("that is not a password".to_owned()));
            };
            account::passwd(&mut shared.exchange.tracker.clone(), me.user.clone(), PasswordChange { present, new })
                .await?;
            Value::Null
        }
        Action::SharesChanged => {
            shared.exchange.tracker.shares_changed();
            Value::Null
        }
        Action::GoOnline => {
            shared.exchange.tracker.go_online();
            Value::Null
        }
        Action::HandOver => return Err(ProfileError::NodeRuns { pid: Some(std::process::id()) }.into()),
        Action::Watch { .. } | Action::Transfer(_) | Action::Stop => Value::Null,
    })
}

/// Makes a message of a text, with that id if one is given.
fn composed(text: &str, id: Option<MessageId>) -> Result<ChatMessage, Error> {
    let message = chat::compose(text)?;
    Ok(ChatMessage { id: id.unwrap_or(message.id), ..message })
}

fn status(shared: &Shared) -> Status {
    let (address, elsewhere) = match shared.exchange.tracker.standing() {
        Standing::Present { address } => (Some(address), None),
        Standing::Displaced(elsewhere) => (None, Some(elsewhere)),
        Standing::Away { .. } => (None, None),
    };
    let (user, lifetime) = (shared.me.user.clone(), shared.lifetime);
    Status { user, address, pid: std::process::id(), lifetime, elsewhere }
}

const fn ok(id: u64, value: Value) -> Reply {
    Reply { id, outcome: Outcome::Ok(value) }
}

fn event_here(events: &mut broadcast::Receiver<Event>) -> Option<Event> {
    match events.try_recv() {
        Ok(event) => Some(event),
        Err(broadcast::error::TryRecvError::Lagged(count)) => Some(Event::Missed { count }),
        Err(_) => None,
    }
}

async fn next_event(watching: &mut Option<broadcast::Receiver<Event>>) -> Event {
    if let Some(events) = watching {
        match events.recv().await {
            Ok(event) => return event,
            Err(broadcast::error::RecvError::Lagged(count)) => return Event::Missed { count },
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
