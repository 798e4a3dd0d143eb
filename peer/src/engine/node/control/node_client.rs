//! The client's side of the local socket: the running node of another process.
//!
//! One task per connection writes requests and reads lines, both at the same time: waiting for only one of them could
//! deadlock with a node that waits for this side to read. Replies go to those who wait for them, events to the watchers.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use localization::{Language, current_language, tr};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::UserName;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::node_process::NodeProcess;
use super::{ControlAction, ControlReply, ControlRequest, MAX_REQUEST_BYTES, REPLY_BYTES};
use crate::engine::node::node_values::NodeStatus;
use crate::engine::node_event::{FileTransfer, NodeEvent};
use crate::engine::{Error, ErrorKind};
use crate::profile::Profile;
use crate::sys;
use crate::util::json_lines::{LineBuffer, LineError};

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
/// Events buffered for a slow watcher.
const MAX_BUFFERED_EVENTS: usize = 4096;

/// A connection to the running node of a profile. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NodeClient {
    /// The process to name in an error when no reply comes.
    process: NodeProcess,
    /// Time limit of a call; `None` waits until the node replies or ends.
    timeout: Option<Duration>,
    connection: Arc<NodeConnectionState>,
}

#[derive(Debug)]
struct NodeConnectionState {
    requests: mpsc::UnboundedSender<OutgoingRequest>,
    last_id: AtomicU64,
    /// Bytes in `requests` and in the driver's buffer.
    unwritten: Arc<AtomicUsize>,
    events: broadcast::Sender<NodeEvent>,
    end: Arc<ConnectionEnd>,
    /// Owns the driver, which ends with the last clone.
    _driver: JoinSet<()>,
}

/// The end of a connection and its reason.
#[derive(Debug, Default)]
struct ConnectionEnd {
    why: OnceLock<String>,
    token: CancellationToken,
}

#[derive(Debug)]
struct OutgoingRequest {
    id: u64,
    line: Vec<u8>,
    /// `None` for a request whose reply nobody waits for.
    reply: Option<oneshot::Sender<ControlReply>>,
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
                let node = Self::new(stream)?;
                match node.greet().await {
                    Ok(()) => return Ok(Some(node)),
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

    /// Returns a clone whose calls have no time limit: a view keeps its requests while the node's process is stopped.
    pub fn without_timeout(&self) -> Self {
        Self { timeout: None, ..self.clone() }
    }

    /// Returns the node's process.
    pub const fn process(&self) -> &NodeProcess {
        &self.process
    }

    /// Returns the node's account, address and process.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words, [`Error::NodeGone`] when it ended.
    pub async fn status(&self) -> Result<NodeStatus, Error> {
        self.call(ControlAction::Status).await
    }

    /// Stops the node, and waits until its connection closes.
    ///
    /// # Errors
    /// [`Error::Relayed`] with the node's words, [`Error::NodeGone`] when it ended.
    pub async fn stop(&self) -> Result<(), Error> {
        self.perform(ControlAction::Stop).await?;
        self.connection.end.token.cancelled().await;
        Ok(())
    }

    /// Has a node that belongs to a view end, so that a lasting one can take its place.
    ///
    /// # Errors
    /// [`Error::Relayed`] if the node belongs to no view, [`Error::NodeGone`] when it ended.
    pub async fn hand_over(&self) -> Result<(), Error> {
        self.perform(ControlAction::HandOver).await
    }

    /// Has the node become present, in place of any other node of the account.
    ///
    /// # Errors
    /// [`Error::NodeGone`] when it ended.
    pub async fn go_online(&self) -> Result<(), Error> {
        self.perform(ControlAction::GoOnline).await
    }

    /// Asks for events and returns their receiver, and the token that is cancelled when the node has ended.
    pub(in crate::engine::node) async fn watch(
        &self,
        with: Option<&UserName>,
    ) -> Result<(broadcast::Receiver<NodeEvent>, CancellationToken), Error> {
        // Subscribed first: events may come in the same moment as the reply.
        let receiver = self.connection.events.subscribe();
        self.perform(ControlAction::Watch { with: with.cloned() }).await?;
        Ok((receiver, self.connection.end.token.clone()))
    }

    /// Sets the conversation that is open in this client's view.
    pub(in crate::engine::node) fn set_open_conversation(&self, with: Option<&UserName>) {
        // A connection that has ended shows at the next event.
        let _ = self.queue(ControlAction::Watch { with: with.cloned() }, None);
    }

    /// Reports transfers, which the node passes on as events, and waits until it has taken them.
    pub(in crate::engine::node) async fn report_transfers(&self, transfers: Vec<FileTransfer>) -> Result<(), Error> {
        for transfer in transfers {
            self.queue(ControlAction::Transfer(transfer), None)?;
        }
        // Reports have no replies: the one to this request shows that they were read.
        self.status().await.map(|_| ())
    }

    /// Waits, without a time limit, until a chat is active, or until none is.
    pub(in crate::engine::node) async fn wait_for_chat_activity(&self, is_active: bool) -> Result<(), Error> {
        // The action names the state that the client knows.
        let action = ControlAction::WaitForChatActivity { talking: !is_active };
        self.call_within::<bool>(None, action).await.map(|_| ())
    }

    /// Performs an action whose reply carries no value.
    pub(in crate::engine::node) async fn perform(&self, action: ControlAction) -> Result<(), Error> {
        self.call::<Value>(action).await.map(|_| ())
    }

    /// Performs an action and returns the value of its reply.
    pub(in crate::engine::node) async fn call<T: DeserializeOwned>(&self, action: ControlAction) -> Result<T, Error> {
        self.call_within(self.timeout, action).await
    }

    fn new(stream: UnixStream) -> Result<Self, Error> {
        let credentials = stream.peer_cred().map_err(|why| node_gone(&why.to_string()))?;
        // Another user's socket in this place must get neither messages nor passwords.
        if !sys::is_trusted_uid(credentials.uid()) {
            let uid = credentials.uid();
            let message = tr!("the socket of the `peer` that keeps this account belongs to user {uid}", uid);
            return Err(Error::Relayed { kind: ErrorKind::Refused, message });
        }
        // The kernel says pid 0 for a process outside of this pid namespace.
        let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        Ok(Self::over(stream, NodeProcess::new(pid)))
    }

    fn over(stream: UnixStream, process: NodeProcess) -> Self {
        let (requests, queued) = mpsc::unbounded_channel();
        let (events, end) = (broadcast::channel(MAX_BUFFERED_EVENTS).0, Arc::new(ConnectionEnd::default()));
        let unwritten = Arc::new(AtomicUsize::new(0));
        let driver = ConnectionDriver {
            stream,
            requests: queued,
            unwritten: unwritten.clone(),
            events: events.clone(),
            waiting: HashMap::new(),
            outgoing: BytesMut::new(),
            incoming: LineBuffer::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run(end.clone()));
        let last_id = AtomicU64::new(0);
        let connection = Arc::new(NodeConnectionState { requests, last_id, unwritten, events, end, _driver: tasks });
        Self { process, timeout: Some(CALL_TIMEOUT), connection }
    }

    /// Waits for the first reply: the kernel completes connections even while the process behind the socket is stopped.
    async fn greet(&self) -> Result<(), Error> {
        self.call_within::<NodeStatus>(Some(GREETING_TIMEOUT), ControlAction::Status).await.map(|_| ())
    }

    async fn call_within<T: DeserializeOwned>(
        &self,
        timeout: Option<Duration>,
        action: ControlAction,
    ) -> Result<T, Error> {
        let (sender, reply) = oneshot::channel();
        self.queue(action, Some(sender))?;
        let reply = async {
            match reply.await {
                Ok(reply) => reply.outcome.into_result(),
                Err(_) => Err(self.gone_error()),
            }
        };
        let value = match timeout {
            Some(timeout) => self.process.wait_for(timeout, reply).await?,
            None => reply.await?,
        };
        serde_json::from_value(value).map_err(|why| node_gone(&why.to_string()))
    }

    /// Gives a request to the driver; it is written even if nobody waits for its reply any more.
    fn queue(&self, action: ControlAction, reply: Option<oneshot::Sender<ControlReply>>) -> Result<(), Error> {
        let id = self.connection.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let language = current_language();
        let lang = (language != Language::English).then(|| language.tag().to_owned());
        let request = ControlRequest { id, lang, action };
        let mut line = serde_json::to_vec(&request).map_err(|why| Error::Internal(why.to_string()))?;
        line.push(b'\n');
        // The node ends the connection at a longer line, and with it all other requests.
        if line.len() > MAX_REQUEST_BYTES {
            return Err(Error::Usage(tr!("{n} bytes are too much at once", n = line.len())));
        }
        let len = line.len();
        // A node that hangs reads nothing, and requests would gather here without end.
        if self.connection.unwritten.fetch_add(len, Ordering::Relaxed) + len > MAX_OUTGOING_BYTES {
            self.connection.unwritten.fetch_sub(len, Ordering::Relaxed);
            return Err(node_gone(&tr!("it takes nothing any more")));
        }
        self.connection.requests.send(OutgoingRequest { id, line, reply }).map_err(|_| self.gone_error())
    }

    fn gone_error(&self) -> Error {
        node_gone(&self.connection.end.why.get().cloned().unwrap_or_else(|| tr!("it ended")))
    }
}

/// The task that reads and writes a connection.
struct ConnectionDriver {
    stream: UnixStream,
    requests: mpsc::UnboundedReceiver<OutgoingRequest>,
    unwritten: Arc<AtomicUsize>,
    events: broadcast::Sender<NodeEvent>,
    /// Those who wait for a reply, by the id of the request.
    waiting: HashMap<u64, oneshot::Sender<ControlReply>>,
    outgoing: BytesMut,
    incoming: LineBuffer,
}

impl ConnectionDriver {
    async fn run(mut self, end: Arc<ConnectionEnd>) {
        let why = loop {
            if let Err(why) = self.step().await {
                break why;
            }
        };
        // Before `self` is dropped, and with it the senders of those who wait.
        let _ = end.why.set(why);
        drop(self);
        // Last: whoever it wakes finds the reason.
        end.token.cancel();
    }

    /// Takes a request, writes a part of those taken, or reads a line. Fails with the reason of the end.
    async fn step(&mut self) -> Result<(), String> {
        let (mut reader, mut writer) = self.stream.split();
        tokio::select! {
            // A request is known before its reply is read.
            biased;
            request = self.requests.recv() => {
                let OutgoingRequest { id, line, reply } = request.ok_or_else(|| tr!("nobody asks any more"))?;
                self.outgoing.extend_from_slice(&line);
                reply.map(|reply| self.waiting.insert(id, reply));
            }
            // `write`, not `write_all`: the branch may be cancelled, and what was written so far must be known.
            written = writer.write(&self.outgoing), if !self.outgoing.is_empty() => {
                let len = written.map_err(|why| why.to_string())?;
                self.outgoing.advance(len);
                self.unwritten.fetch_sub(len, Ordering::Relaxed);
            }
            read = self.incoming.read_line(&mut reader, REPLY_BYTES) => match read {
                Ok(Some(line)) => self.handle_line(&line)?,
                Ok(None) => return Err(tr!("it ended")),
                Err(LineError::TooLong) => return Err(tr!("it sent a line without end")),
                Err(LineError::Io(why)) => return Err(why.to_string()),
            }
        }
        Ok(())
    }

    fn handle_line(&mut self, line: &[u8]) -> Result<(), String> {
        let value: Value = serde_json::from_slice(line).map_err(|why| why.to_string())?;
        if value.get("event").is_none() {
            let reply: ControlReply = serde_json::from_value(value).map_err(|why| why.to_string())?;
            if let Some(waiting) = self.waiting.remove(&reply.id) {
                // Fails when the caller waits no longer.
                let _ = waiting.send(reply);
            }
            return Ok(());
        }
        match serde_json::from_value(value) {
            // Fails when nobody watches.
            Ok(event) => drop(self.events.send(event)),
            // A newer node may send events that this version doesn't know.
            Err(why) => tracing::debug!("an unknown event: {why}"),
        }
        Ok(())
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

fn node_gone(why: &str) -> Error {
    Error::NodeGone { why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::ControlOutcome;
    use super::*;

    /// Far more than the system keeps for either direction.
    const REQUESTS: u64 = 100;

    #[tokio::test]
    async fn a_node_that_has_much_to_tell_and_reads_nothing_meanwhile_is_heard() {
        let (stream, node) = UnixStream::pair().unwrap();
        let client = NodeClient::over(stream, NodeProcess::new(None));
        let (reading, mut writing) = node.into_split();
        let told = async {
            for id in 1..=REQUESTS {
                let reply = ControlReply { id, outcome: ControlOutcome::Done(Value::from("x".repeat(16 << 10))) };
                let line = serde_json::to_string(&reply).unwrap() + "\n";
                writing.write_all(line.as_bytes()).await.unwrap();
            }
            let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(reading));
            for _ in 0..REQUESTS {
                lines.next_line().await.unwrap().unwrap();
            }
        };
        let mut asked = JoinSet::new();
        for _ in 0..REQUESTS {
            let (sender, reply) = oneshot::channel();
            let action =
                ControlAction::QueueMessage { to: "bob".parse().unwrap(), text: "y".repeat(16 << 10), message: None };
            client.queue(action, Some(sender)).unwrap();
            asked.spawn(reply);
        }
        let replies = async {
            while let Some(reply) = asked.join_next().await {
                reply.unwrap().unwrap();
            }
        };
        let both = async { tokio::join!(replies, told) };
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("neither waits for the other");
    }

    #[tokio::test]
    async fn whoever_waits_learns_that_the_node_has_ended() {
        let (stream, node) = UnixStream::pair().unwrap();
        let client = NodeClient::over(stream, NodeProcess::new(None)).without_timeout();
        let call = client.perform(ControlAction::Users);
        let ending = async {
            tokio::task::yield_now().await;
            drop(node);
        };
        let (called, ()) = tokio::join!(call, ending);
        assert!(matches!(called, Err(Error::NodeGone { .. })), "{called:?}");
        assert!(matches!(client.perform(ControlAction::Users).await, Err(Error::NodeGone { .. })));
    }
}
