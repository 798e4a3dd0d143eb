//! The client's side of the local socket, for the other processes of the profile.

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
    ControlAction, ControlOutcome, ControlReply, ControlRequest, FlushReport, MAX_REQUEST_BYTES, NodeStatus,
    REPLY_BYTES, UserSummary,
};
use crate::engine::Error;
use crate::engine::chat::DeliveryReport;
use crate::engine::node_event::NodeEvent;
use crate::engine::tracker_account::PasswordChange;
use crate::profile::{HistoryQuery, Profile, StoredMessage};
use crate::sys;

/// Longer than any request takes, which includes dialing, sending and storing a message.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);
/// Time for a running node to reply for the first time, however busy the machine is.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a node that holds the profile to have its socket: it may be starting, ending, or restoring it.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(6);
/// Interval between attempts to find a socket.
const SOCKET_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes of requests that may wait to be written.
const MAX_OUTGOING_BYTES: usize = 16 << 20;

/// A connection to the running node of a profile.
#[derive(Debug)]
pub struct NodeClient {
    stream: UnixStream,
    /// The process to name in an error when no reply comes.
    process: NodeProcess,
    /// Requests that are not written yet.
    outgoing: BytesMut,
    incoming: BytesMut,
    /// Length of the start of `incoming` that holds no line end.
    scanned: usize,
    /// Events that came while a reply was awaited.
    pending_events: VecDeque<NodeEvent>,
    next_id: u64,
}

/// A line from the node.
#[derive(Debug)]
pub enum NodeMessage {
    /// The reply to a request.
    Reply(ControlReply),
    /// An event, after `watch`.
    Event(NodeEvent),
}

impl NodeClient {
    /// Connects to the running node and waits for its first reply; returns `None` when no node runs.
    ///
    /// # Errors
    /// A node runs and can't be reached: after two seconds with
    /// [`ProfileError::NodeStopped`](crate::profile::ProfileError::NodeStopped) if its process is stopped.
    pub async fn connect(profile: &Profile) -> Result<Option<Self>, Error> {
        let begun = Instant::now();
        loop {
            if let Some(stream) = dial(profile).await? {
                let mut client = Self::new(stream)?;
                match client.greet().await {
                    Ok(()) => return Ok(Some(client)),
                    // That node just ended: another one may have begun.
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

    /// Returns the node's account, address and process.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words, [`Error::NodeGone`] when it ended.
    pub async fn status(&mut self) -> Result<NodeStatus, Error> {
        self.call(ControlAction::Status).await
    }

    /// Queues a message; its delivery is reported by events.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words, [`Error::NodeGone`] when it ended.
    pub async fn send_message(&mut self, to: &UserName, text: &str) -> Result<StoredMessage, Error> {
        self.call(ControlAction::Say { to: to.clone(), text: text.to_owned(), message: None }).await
    }

    /// Queues a message and waits for its first delivery attempt. With `now` it is not kept if that fails.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words, [`Error::NodeGone`] when it ended.
    pub async fn deliver(&mut self, to: &UserName, message: &ChatMessage, now: bool) -> Result<DeliveryReport, Error> {
        let (text, message) = (message.text.as_received().to_owned(), Some(message.id));
        self.call(ControlAction::Deliver { to: to.clone(), text, now, message }).await
    }

    /// Attempts to deliver the messages queued for a user; returns the reason if that failed for now.
    ///
    /// # Errors
    /// [`Error::Relayed`] when the messages will never be delivered.
    pub async fn flush(&mut self, to: &UserName) -> Result<FlushReport, Error> {
        self.call(ControlAction::Flush { to: to.clone() }).await
    }

    /// Returns messages of the history, the oldest first.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words, [`Error::NodeGone`] when it ended.
    pub async fn history(&mut self, query: HistoryQuery) -> Result<Vec<StoredMessage>, Error> {
        self.call(ControlAction::History(query)).await
    }

    /// Returns everybody met, online or written with.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words, [`Error::NodeGone`] when it ended.
    pub async fn people(&mut self) -> Result<Vec<UserSummary>, Error> {
        self.call(ControlAction::People).await
    }

    /// Performs an action whose reply carries no value.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words, [`Error::NodeGone`] when it ended.
    pub async fn perform(&mut self, action: ControlAction) -> Result<(), Error> {
        self.call::<Value>(action).await.map(|_| ())
    }

    /// Changes the account's password.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the words of the tracker or the node.
    pub async fn change_password(&mut self, change: &PasswordChange) -> Result<(), Error> {
        self.perform(ControlAction::Passwd { present: (&change.current).into(), new: (&change.new).into() }).await
    }

    /// Tells the node that shares changed.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words, [`Error::NodeGone`] when it ended.
    pub async fn shares_changed(&mut self) -> Result<(), Error> {
        self.perform(ControlAction::SharesChanged).await
    }

    /// Stops the node, and waits until its connection closes.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words, [`Error::NodeGone`] when it ended.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.call::<Value>(ControlAction::Stop).await?;
        while self.next_message().await.is_ok() {}
        Ok(())
    }

    /// Sends a request. Its reply comes through [`NodeClient::next_message`], with the returned id.
    ///
    /// # Errors
    /// [`Error::NodeGone`] when the node ended.
    pub async fn send(&mut self, action: ControlAction) -> Result<u64, Error> {
        let id = self.queue_request(action)?;
        while !self.outgoing.is_empty() {
            self.transfer_some().await?;
        }
        Ok(id)
    }

    /// Queues a request, which is written while [`NodeClient::next_message`] waits.
    ///
    /// # Errors
    /// [`Error::Usage`] when the request is too large, [`Error::NodeGone`] when the node reads no requests any more.
    pub fn queue_request(&mut self, action: ControlAction) -> Result<u64, Error> {
        self.next_id += 1;
        let command = ControlRequest { id: self.next_id, action };
        let mut line = serde_json::to_vec(&command).map_err(|why| Error::Internal(why.to_string()))?;
        line.push(b'\n');
        if line.len() > MAX_REQUEST_BYTES {
            return Err(Error::Usage(format!("{} bytes are too much at once", line.len())));
        }
        if self.outgoing.len() + line.len() > MAX_OUTGOING_BYTES {
            return Err(node_gone("it takes nothing any more"));
        }
        self.outgoing.extend_from_slice(&line);
        Ok(command.id)
    }

    /// Waits for the next reply or event. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::NodeGone`] when the node ended.
    pub async fn next_message(&mut self) -> Result<NodeMessage, Error> {
        match self.pending_events.pop_front() {
            Some(event) => Ok(NodeMessage::Event(event)),
            None => self.read_message().await,
        }
    }

    /// Writes a part of the queued requests, or reads a part of what comes: waiting for only one of them could deadlock
    /// with a node that waits for this side to read. Cancel-safe.
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
                // A newer node may send events that this version doesn't know.
                match serde_json::from_value(value) {
                    Ok(event) => return Ok(NodeMessage::Event(event)),
                    Err(why) => tracing::debug!("an unknown event: {why}"),
                }
                continue;
            }
            // Bytes without a line end are scanned once, or a long line would cost quadratic time.
            self.scanned = self.incoming.len();
            if self.incoming.len() > REPLY_BYTES {
                return Err(node_gone("it sent a line without end"));
            }
            self.transfer_some().await?;
        }
    }

    /// Waits, without a deadline, until chat activity differs from `is_active`, and returns it.
    ///
    /// # Errors
    /// [`Error::NodeGone`] when the node ends, [`Error::Relayed`] when it doesn't know the action.
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

    /// Performs an action and returns the value of its reply.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words, [`Error::NodeGone`] when it ended.
    pub async fn call<T: DeserializeOwned>(&mut self, action: ControlAction) -> Result<T, Error> {
        self.call_within(CALL_TIMEOUT, action).await
    }

    /// Returns the node's process.
    pub const fn process(&self) -> &NodeProcess {
        &self.process
    }

    fn new(stream: UnixStream) -> Result<Self, Error> {
        let credentials = stream.peer_cred().map_err(|why| node_gone(&why.to_string()))?;
        // Another user's socket in this place must get neither messages nor passwords.
        if !sys::is_trusted_uid(credentials.uid()) {
            let message =
                format!("the socket of the `peer` that keeps this account belongs to user {}", credentials.uid());
            return Err(Error::Relayed { kind: crate::engine::ErrorKind::Refused, message });
        }
        let holder =
        // The kernel says pid 0 for a process outside of this pid namespace.
            NodeProcess::new(credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0));
        let (outgoing, incoming, held) = (BytesMut::new(), BytesMut::new(), VecDeque::new());
        Ok(Self { stream, process: holder, outgoing, incoming, scanned: 0, pending_events: held, next_id: 0 })
    }

    /// Waits for the first reply: the kernel completes connections even while the process behind the socket is stopped.
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

/// Connects to the node's socket in either place; returns `None` when nobody listens.
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
        // A path too long for a socket address is invalid input, and no node can have bound it. The kernel
        // resets connections that a killed node had not accepted, and a busy node's queue may be full. In all
        // these cases the lock says whether a node runs.
        Err(why)
            if matches!(why.kind(), NotFound | ConnectionRefused | ConnectionReset | InvalidInput | WouldBlock) =>
        {
            Ok(None)
        }
        Err(why) => Err(Error::disk(path)(why)),
    }
}

impl ControlOutcome {
    /// Converts the outcome to a result.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words.
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
