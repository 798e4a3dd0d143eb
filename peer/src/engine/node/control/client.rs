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

use super::holder::Holder;
use super::{Action, Command, Delivery, Flushed, LINE_BYTES, Outcome, Person, REPLY_BYTES, Reply, Status};
use crate::engine::Error;
use crate::engine::account::PasswordChange;
use crate::engine::event::Event;
use crate::profile::{HistoryQuery, Profile, StoredMessage};
use crate::sys;

/// Longer than any command takes: a message is dialled, sent and stored within it.
const PATIENCE: Duration = Duration::from_secs(45);
/// Longest time for a node that runs to say its first word, however busy the machine is.
const GREETING: Duration = Duration::from_secs(10);
/// Longest time for a node that holds the profile to have its socket, as it begins, ends, or puts it back.
const NO_SOCKET: Duration = Duration::from_secs(6);
/// Between two looks for a socket.
const LOOK: Duration = Duration::from_millis(50);

/// What may wait to be written.
const WAITING_BYTES: usize = 16 << 20;

/// A connection to the running node of a profile.
#[derive(Debug)]
pub struct NodeClient {
    stream: UnixStream,
    /// Whom to name when nothing comes.
    holder: Holder,
    /// What is to be written as soon as there is room.
    outgoing: BytesMut,
    incoming: BytesMut,
    /// Bytes of it in which there is no line end.
    scanned: usize,
    /// Events that came while a reply was awaited.
    held: VecDeque<Event>,
    next_id: u64,
}

/// Something from the node.
#[derive(Debug)]
pub enum FromNode {
    /// The answer to a command.
    Reply(Reply),
    /// Something happened.
    Event(Event),
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
                    Err(Error::NodeGone { .. }) if begun.elapsed() < NO_SOCKET => {}
                    Err(error) => return Err(error),
                }
            }
            if !profile.is_node_running()? {
                return Ok(None);
            }
            let holder = Holder::of(profile.node_holder().pid);
            if begun.elapsed() >= Holder::PATIENCE && holder.is_stopped() {
                return Err(holder.stopped());
            }
            if begun.elapsed() >= NO_SOCKET {
                return Err(holder.without_socket(profile));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Who and where the node is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn status(&mut self) -> Result<Status, Error> {
        self.call(Action::Status).await
    }

    /// Says something to somebody; what becomes of it comes as events.
    ///
    /// # Errors
    /// [`Error::Told`] with what the node says.
    pub async fn say(&mut self, to: &UserName, text: &str) -> Result<StoredMessage, Error> {
        self.call(Action::Say { to: to.clone(), text: text.to_owned(), message: None }).await
    }

    /// Says something to somebody and waits until it was tried; with `now` it is not kept for later.
    ///
    /// # Errors
    /// [`Error::Told`] with what the node says.
    pub async fn deliver(&mut self, to: &UserName, message: &ChatMessage, now: bool) -> Result<Delivery, Error> {
        let (text, message) = (message.text.as_received().to_owned(), Some(message.id));
        self.call(Action::Deliver { to: to.clone(), text, now, message }).await
    }

    /// Tries what waits for somebody, and tells why it did not go if it didn't.
    ///
    /// # Errors
    /// [`Error::Told`] when it never will.
    pub async fn flush(&mut self, to: &UserName) -> Result<Flushed, Error> {
        self.call(Action::Flush { to: to.clone() }).await
    }

    /// Looks back.
    ///
    /// # Errors
    /// [`Error::Told`] with what the node says.
    pub async fn history(&mut self, query: HistoryQuery) -> Result<Vec<StoredMessage>, Error> {
        self.call(Action::History(query)).await
    }

    /// Everybody met, online or talked with.
    ///
    /// # Errors
    /// [`Error::Told`] with what the node says.
    pub async fn people(&mut self) -> Result<Vec<Person>, Error> {
        self.call(Action::People).await
    }

    /// Does something whose reply says nothing.
    ///
    /// # Errors
    /// [`Error::Told`] with what the node says.
    pub async fn tell(&mut self, action: Action) -> Result<(), Error> {
        self.call::<Value>(action).await.map(|_| ())
    }

    /// Changes the account's password.
    ///
    /// # Errors
    /// [`Error::Told`] with what the tracker or the node says.
    pub async fn passwd(&mut self, change: &PasswordChange) -> Result<(), Error> {
        self.tell(Action::Passwd { present: (&change.present).into(), new: (&change.new).into() }).await
    }

    /// Tells the node that shares changed.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn shares_changed(&mut self) -> Result<(), Error> {
        self.tell(Action::SharesChanged).await
    }

    /// Ends the node, and waits until it is gone.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stop(mut self) -> Result<(), Error> {
        self.call::<Value>(Action::Stop).await?;
        while self.next().await.is_ok() {}
        Ok(())
    }

    /// Sends a command; its reply comes through [`NodeClient::next`] with the id returned.
    ///
    /// # Errors
    /// [`Error::Told`] when the node is gone.
    pub async fn send(&mut self, action: Action) -> Result<u64, Error> {
        let id = self.post(action)?;
        while !self.outgoing.is_empty() {
            self.exchange().await?;
        }
        Ok(id)
    }

    /// The same without waiting: it is sent while [`NodeClient::next`] is waited for.
    ///
    /// # Errors
    /// [`Error::Usage`] when it is too much at once, [`Error::Told`] when the node takes nothing any more.
    pub fn post(&mut self, action: Action) -> Result<u64, Error> {
        self.next_id += 1;
        let command = Command { id: self.next_id, action };
        let mut line = serde_json::to_vec(&command).map_err(|why| Error::Internal(why.to_string()))?;
        line.push(b'\n');
        if line.len() > LINE_BYTES {
            return Err(Error::Usage(format!("{} bytes are too much for the running node at once", line.len())));
        }
        if self.outgoing.len() + line.len() > WAITING_BYTES {
            return Err(gone("it takes nothing any more"));
        }
        self.outgoing.extend_from_slice(&line);
        Ok(command.id)
    }

    /// What comes next. May be cancelled and called again.
    ///
    /// # Errors
    /// [`Error::Told`] when the node is gone.
    pub async fn next(&mut self) -> Result<FromNode, Error> {
        match self.held.pop_front() {
            Some(event) => Ok(FromNode::Event(event)),
            None => self.read().await,
        }
    }

    /// Writes some of what is to be written, or takes in some of what comes: a node that waits for us to read reads
    /// nothing itself. May be cancelled.
    async fn exchange(&mut self) -> Result<(), Error> {
        let (mut reader, mut writer) = self.stream.split();
        let done = tokio::select! {
            written = writer.write(&self.outgoing), if !self.outgoing.is_empty() => {
                written.map(|len| self.outgoing.advance(len))
            }
            read = reader.read_buf(&mut self.incoming) => match read {
                Ok(0) => return Err(gone("it ended")),
                read => read.map(|_| ()),
            },
        };
        done.map_err(|why| gone(&why.to_string()))
    }

    async fn read(&mut self) -> Result<FromNode, Error> {
        loop {
            if let Some(end) = self.incoming[self.scanned..].iter().position(|byte| *byte == b'\n') {
                let line = self.incoming.split_to(self.scanned + end + 1);
                self.scanned = 0;
                let value: Value = serde_json::from_slice(&line).map_err(|why| gone(&why.to_string()))?;
                if value.get("event").is_none() {
                    return serde_json::from_value(value).map(FromNode::Reply).map_err(|why| gone(&why.to_string()));
                }
                // An event of a newer node that this version doesn't know is none of its business.
                match serde_json::from_value(value) {
                    Ok(event) => return Ok(FromNode::Event(event)),
                    Err(why) => tracing::debug!("an unknown event: {why}"),
                }
                continue;
            }
            self.scanned = self.incoming.len();
            if self.incoming.len() > REPLY_BYTES {
                return Err(gone("it sent a line without end"));
            }
            self.exchange().await?;
        }
    }

    /// Waits, for however long, until people talk or until they don't, whichever is not `talking`.
    ///
    /// # Errors
    /// [`Error::Told`] when the node goes, or doesn't know what is wanted.
    pub async fn heed(&mut self, talking: bool) -> Result<bool, Error> {
        let id = self.send(Action::Heed { talking }).await?;
        loop {
            match self.next().await? {
                FromNode::Reply(reply) if reply.id == id => {
                    return reply.outcome.into_result().map(|value| value == true);
                }
                FromNode::Reply(_) | FromNode::Event(_) => {}
            }
        }
    }

    /// Does something and gives back what the reply says.
    ///
    /// # Errors
    /// [`Error::Told`] with what the node says.
    pub async fn call<T: DeserializeOwned>(&mut self, action: Action) -> Result<T, Error> {
        self.call_within(PATIENCE, action).await
    }

    /// The node's process.
    pub const fn holder(&self) -> &Holder {
        &self.holder
    }

    fn new(stream: UnixStream) -> Result<Self, Error> {
        let credentials = stream.peer_cred().map_err(|why| gone(&why.to_string()))?;
        if !sys::is_this_user(credentials.uid()) {
            let message = format!("the socket of this profile's node belongs to user {}", credentials.uid());
            return Err(Error::Told { kind: crate::engine::ErrorKind::Refused, message });
        }
        let holder = Holder::of(credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0));
        let (outgoing, incoming, held) = (BytesMut::new(), BytesMut::new(), VecDeque::new());
        Ok(Self { stream, holder, outgoing, incoming, scanned: 0, held, next_id: 0 })
    }

    /// Hears a first word: a socket takes connections whatever becomes of the process behind it.
    async fn greet(&mut self) -> Result<(), Error> {
        self.call_within::<Status>(GREETING, Action::Status).await.map(|_| ())
    }

    async fn call_within<T: DeserializeOwned>(&mut self, patience: Duration, action: Action) -> Result<T, Error> {
        let holder = self.holder.clone();
        let reply = async {
            let id = self.send(action).await?;
            loop {
                match self.read().await? {
                    FromNode::Reply(reply) if reply.id == id => return reply.outcome.into_result(),
                    FromNode::Reply(_) => {}
                    FromNode::Event(event) => self.held.push_back(event),
                }
            }
        };
        let value = holder.attend(patience, reply).await?;
        serde_json::from_value(value).map_err(|why| gone(&why.to_string()))
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

impl Outcome {
    /// The outcome as a result.
    ///
    /// # Errors
    /// [`Error::Told`] with what the node said.
    pub fn into_result(self) -> Result<Value, Error> {
        match self {
            Self::Ok(value) => Ok(value),
            Self::Error { kind, message } => Err(Error::Told { kind, message }),
        }
    }
}

fn gone(why: &str) -> Error {
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
                let reply = Reply { id, outcome: Outcome::Ok(Value::from("x".repeat(16 << 10))) };
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
                    .send(Action::Say { to: "bob".parse().unwrap(), text: "y".repeat(16 << 10), message: None })
                    .await
                    .unwrap();
            }
            for id in 1..=COMMANDS {
                assert!(matches!(client.next().await, Ok(FromNode::Reply(reply)) if reply.id == id));
            }
        };
        let both = async { tokio::join!(talk, told) };
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("neither waits for the other");
    }
}
