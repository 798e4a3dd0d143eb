//! The other processes' side of the local socket.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::UserName;
use shared::peer::ChatMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::node_process::NodeProcess;
use super::{
    ControlAction, ControlOutcome, ControlReply, ControlRequest, DeliveryReport, FlushReport, MAX_REQUEST_BYTES,
    NodeStatus, REPLY_BYTES, UserSummary,
};
use crate::engine::Error;
use crate::engine::node_event::NodeEvent;
use crate::engine::tracker_account::PasswordChange;
use crate::profile::{HistoryQuery, Profile, StoredMessage};
use crate::sys;

/// Longer than any command takes: a message is dialled, sent and stored within it.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);
/// Longest time for a node that runs to say its first word, however busy the machine is.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for a node that holds the profile to have its socket, as it begins, ends, or puts it back.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(6);
/// Between two looks for a socket.
const SOCKET_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What may wait to be written.
const MAX_OUTGOING_BYTES: usize = 16 << 20;

/// A connection to the running node of a profile.
#[derive(Debug)]
pub struct NodeClient {
    stream: UnixStream,
    /// Whom to name when nothing comes.
    process: NodeProcess,
    /// What is to be written as soon as there is room.
    outgoing: BytesMut,
    incoming: BytesMut,
    /// Bytes of it in which there is no line end.
    scanned: usize,
    /// Events that came while a reply was awaited.
    pending_events: VecDeque<NodeEvent>,
    next_id: u64,
}

/// Something from the node.
#[derive(Debug)]
pub enum NodeMessage {
    /// The answer to a command.
    Reply(ControlReply),
    /// Something happened.
    Event(NodeEvent),
}

impl NodeClient {
    /// Connects to the running node and hears a first word from it; `None` when none runs.
    ///
    /// # Errors
    /// When one runs and can't be talked to: [`ProfileError::NodeStopped`](crate::profile::ProfileError::NodeStopped) within two seconds.
    pub async fn connect(profile: &Profile) -> Result<Option<Self>, Error> {
        let begun = Instant::now();
        loop {
            if let Some(stream) = dial(profile).await? {
                let mut client = Self::new(stream)?;
                match client.greet().await {
                    Ok(()) => return Ok(Some(client)),
                    // It ended at this moment: there is another one, or none.
                    Err(Error::NodeGone { .. }) if begun.elapsed() < SOCKET_TIMEOUT => {}
                    Err(error) => return Err(error),
                }
            }
            if !profile.is_node_running()? {
                return Ok(None);
            }
            let holder = NodeProcess::new(profile.node_holder().pid);
            if begun.elapsed() >= NodeProcess::FIRST_CHECK_DELAY && holder.is_stopped() {
                return Err(holder.stopped_error());
            }
            if begun.elapsed() >= SOCKET_TIMEOUT {
                return Err(holder.no_socket_error(profile));
            }
            tokio::time::sleep(SOCKET_POLL_INTERVAL).await;
        }
    }

    /// Who and where the node is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn status(&mut self) -> Result<NodeStatus, Error> {
        self.call(ControlAction::Status).await
    }

    /// Says something to somebody; what becomes of it comes as events.
    ///
    /// # Errors
    /// [`Error::Relayed`] with what the node says.
    pub async fn send_message(&mut self, to: &UserName, text: &str) -> Result<StoredMessage, Error> {
        self.call(ControlAction::Say { to: to.clone(), text: text.to_owned(), message: None }).await
    }

    /// Says something to somebody and waits until it was tried; with `now` it is not kept for later.
    ///
    /// # Errors
    /// [`Error::Relayed`] with what the node says.
    pub async fn deliver(&mut self, to: &UserName, message: &ChatMessage, now: bool) -> Result<DeliveryReport, Error> {
        let (text, message) = (message.text.as_received().to_owned(), Some(message.id));
        self.call(ControlAction::Deliver { to: to.clone(), text, now, message }).await
    }

    /// Tries what waits for somebody, and tells why it did not go if it didn't.
    ///
    /// # Errors
    /// [`Error::Relayed`] when it never will.
    pub async fn flush(&mut self, to: &UserName) -> Result<FlushReport, Error> {
        self.call(ControlAction::Flush { to: to.clone() }).await
    }

    /// Looks back.
    ///
    /// # Errors
    /// [`Error::Relayed`] with what the node says.
    pub async fn history(&mut self, query: HistoryQuery) -> Result<Vec<StoredMessage>, Error> {
        self.call(ControlAction::History(query)).await
    }

    /// Everybody met, online or talked with.
    ///
    /// # Errors
    /// [`Error::Relayed`] with what the node says.
    pub async fn people(&mut self) -> Result<Vec<UserSummary>, Error> {
        self.call(ControlAction::People).await
    }

    /// Does something whose reply says nothing.
    ///
    /// # Errors
    /// [`Error::Relayed`] with what the node says.
    pub async fn perform(&mut self, action: ControlAction) -> Result<(), Error> {
        self.call::<Value>(action).await.map(|_| ())
    }

    /// Changes the account's password.
    ///
    /// # Errors
    /// [`Error::Relayed`] with what the tracker or the node says.
    pub async fn change_password(&mut self, change: &PasswordChange) -> Result<(), Error> {
        self.perform(ControlAction::Passwd { present: (&change.current).into(), new: (&change.new).into() }).await
    }

    /// Tells the node that shares changed.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn shares_changed(&mut self) -> Result<(), Error> {
        self.perform(ControlAction::SharesChanged).await
    }

    /// Ends the node, and waits until it is gone.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stop(mut self) -> Result<(), Error> {
        self.call::<Value>(ControlAction::Stop).await?;
        while self.next_message().await.is_ok() {}
        Ok(())
    }

    /// Sends a command; its reply comes through [`NodeClient::next_message`] with the id returned.
    ///
    /// # Errors
    /// [`Error::Relayed`] when the node is gone.
    pub async fn send(&mut self, action: ControlAction) -> Result<u64, Error> {
        let id = self.queue_request(action)?;
        while !self.outgoing.is_empty() {
            self.transfer_some().await?;
        }
        Ok(id)
    }

    /// The same without waiting: it is sent while [`NodeClient::next_message`] is waited for.
    ///
    /// # Errors
    /// [`Error::Usage`] when it is too much at once, [`Error::Relayed`] when the node takes nothing any more.
    pub fn queue_request(&mut self, action: ControlAction) -> Result<u64, Error> {
        self.next_id += 1;
        let command = ControlRequest { id: self.next_id, action };
        let mut line = serde_json::to_vec(&command).map_err(|why| Error::Internal(why.to_string()))?;
        line.push(b'\n');
        if line.len() > MAX_REQUEST_BYTES {
            return Err(Error::Usage(format!("{} bytes are too much for the running node at once", line.len())));
        }
        if self.outgoing.len() + line.len() > MAX_OUTGOING_BYTES {
            return Err(node_gone("it takes nothing any more"));
        }
        self.outgoing.extend_from_slice(&line);
        Ok(command.id)
    }

    /// What comes next. May be cancelled and called again.
    ///
    /// # Errors
    /// [`Error::Relayed`] when the node is gone.
    pub async fn next_message(&mut self) -> Result<NodeMessage, Error> {
        match self.pending_events.pop_front() {
            Some(event) => Ok(NodeMessage::Event(event)),
            None => self.read_message().await,
        }
    }

    /// Writes some of what is to be written, or takes in some of what comes: a node that waits for us to read reads
    /// nothing itself. May be cancelled.
    async fn transfer_some(&mut self) -> Result<(), Error> {
        let (mut reader, mut writer) = self.stream.split();
        let done = tokio::select! {
            written = writer.write(&self.outgoing), if !self.outgoing.is_empty() => {
                written.map(|len| self.outgoing.advance(len))
            }
            read = reader.read_buf(&mut self.incoming) => match read {
                Ok(0) => return Err(node_gone("it ended")),
                read => read.map(|_| ()),
            },
        };
        done.map_err(|why| node_gone(&why.to_string()))
    }

    async fn read_message(&mut self) -> Result<NodeMessage, Error> {
        loop {
            if let Some(end) = self.incoming[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let line = self.incoming.split_to(self.scanned + end + 1);
                self.scanned = 0;
                let value: Value = serde_json::from_slice(&line).map_err(|why| node_gone(&why.to_string()))?;
                if value.get("event").is_none() {
                    return serde_json::from_value(value)
                        .map(NodeMessage::Reply)
                        .map_err(|why| node_gone(&why.to_string()));
                }
                // An event of a newer node that this version doesn't know is none of its business.
                match serde_json::from_value(value) {
                    Ok(event) => return Ok(NodeMessage::Event(event)),
                    Err(why) => tracing::debug!("an unknown event: {why}"),
                }
                continue;
            }
            self.scanned = self.incoming.len();
            if self.incoming.len() > REPLY_BYTES {
                return Err(node_gone("it sent a line without end"));
            }
            self.transfer_some().await?;
        }
    }

    /// Waits, for however long, until people talk or until they don't, whichever is not `talking`.
    ///
    /// # Errors
    /// [`Error::Relayed`] when the node goes, or doesn't know what is wanted.
    pub async fn watch_chat_activity(&mut self, is_active: bool) -> Result<bool, Error> {
        let id = self.send(ControlAction::WatchChatActivity { talking: is_active }).await?;
        loop {
            match self.next_message().await? {
                NodeMessage::Reply(reply) if reply.id == id => {
                    return reply.outcome.into_result().map(|value| value == true);
                }
                NodeMessage::Reply(_) | NodeMessage::Event(_) => {}
            }
        }
    }

    /// Does something and gives back what the reply says.
    ///
    /// # Errors
    /// [`Error::Relayed`] with what the node says.
    pub async fn call<T: DeserializeOwned>(&mut self, action: ControlAction) -> Result<T, Error> {
        self.call_within(CALL_TIMEOUT, action).await
    }

    /// The node's process.
    pub const fn process(&self) -> &NodeProcess {
        &self.process
    }

    fn new(stream: UnixStream) -> Result<Self, Error> {
        let credentials = stream.peer_cred().map_err(|why| node_gone(&why.to_string()))?;
        if !sys::is_trusted_uid(credentials.uid()) {
            let message = format!("the socket of this profile's node belongs to user {}", credentials.uid());
            return Err(Error::Relayed { kind: crate::engine::ErrorKind::Refused, message });
        }
        let holder =
            NodeProcess::new(credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0));
        let (outgoing, incoming, held) = (BytesMut::new(), BytesMut::new(), VecDeque::new());
        Ok(Self { stream, process: holder, outgoing, incoming, scanned: 0, pending_events: held, next_id: 0 })
    }

    /// Hears a first word: a socket takes connections whatever becomes of the process behind it.
    async fn greet(&mut self) -> Result<(), Error> {
        self.call_within::<NodeStatus>(GREETING_TIMEOUT, ControlAction::Status).await.map(|_| ())
    }

    async fn call_within<T: DeserializeOwned>(&mut self, limit: Duration, action: ControlAction) -> Result<T, Error> {
        let holder = self.process.clone();
        let reply = async {
            let id = self.send(action).await?;
            loop {
                match self.read_message().await? {
                    NodeMessage::Reply(reply) if reply.id == id => return reply.outcome.into_result(),
                    NodeMessage::Reply(_) => {}
                    NodeMessage::Event(event) => self.pending_events.push_back(event),
                }
            }
        };
        let value = holder.wait_for(limit, reply).await?;
        serde_json::from_value(value).map_err(|why| node_gone(&why.to_string()))
    }
}

/// A connection to the node's socket; `None` when nobody listens.
async fn dial(profile: &Profile) -> Result<Option<UnixStream>, Error> {
    let usual = profile.socket_path();
    if let Some(stream) = connect_to(&usual).await? {
        return Ok(Some(stream));
    }
    match profile.node_holder().socket.filter(|elsewhere| *elsewhere != usual) {
        Some(elsewhere) => connect_to(&elsewhere).await,
        None => Ok(None),
    }
}

async fn connect_to(path: &Path) -> Result<Option<UnixStream>, Error> {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, InvalidInput, NotFound, WouldBlock};
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Some(stream)),
        // A path too long for a socket is invalid input: no node can have bound it. A node that is killed resets what it
        // has not accepted yet, and one that is busy has no room for more: whether one runs is asked of the lock.
        Err(why)
            if matches!(why.kind(), NotFound | ConnectionRefused | ConnectionReset | InvalidInput | WouldBlock) =>
        {
            Ok(None)
        }
        Err(why) => Err(Error::disk(path)(why)),
    }
}

impl ControlOutcome {
    /// The outcome as a result.
    ///
    /// # Errors
    /// [`Error::Relayed`] with what the node said.
    pub fn into_result(self) -> Result<Value, Error> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Error { kind, message } => Err(Error::Relayed { kind, message }),
        }
    }
}

fn node_gone(why: &str) -> Error {
    Error::NodeGone { why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than the system keeps for either direction.
    const COMMANDS: u64 = 100;

    #[tokio::test]
    async fn a_node_that_has_much_to_tell_and_reads_nothing_meanwhile_is_heard() {
        let (stream, node) = UnixStream::pair().unwrap();
        let mut client = NodeClient::new(stream).unwrap();
        let (reading, mut writing) = node.into_split();
        let told = async {
            for id in 1..=COMMANDS {
                let reply = ControlReply { id, outcome: ControlOutcome::Done(Value::from("x".repeat(16 << 10))) };
                let line = serde_json::to_string(&reply).unwrap() + "\n";
                writing.write_all(line.as_bytes()).await.unwrap();
            }
            let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(reading));
            for _ in 0..COMMANDS {
                lines.next_line().await.unwrap().unwrap();
            }
        };
        let talk = async {
            for _ in 0..COMMANDS {
                client
                    .send(ControlAction::Say { to: "bob".parse().unwrap(), text: "y".repeat(16 << 10), message: None })
                    .await
                    .unwrap();
            }
            for id in 1..=COMMANDS {
                assert!(matches!(client.next_message().await, Ok(NodeMessage::Reply(reply)) if reply.id == id));
            }
        };
        let both = async { tokio::join!(talk, told) };
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("neither waits for the other");
    }
}
