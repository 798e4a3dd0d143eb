//! Somebody who dials a node and doesn't behave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use certs::{Identity, ServerPin};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, VarInt};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::Session;
use super::wire::{Frames, HUGE_HEAD, begun_frame, frame, open, rubbish};
use crate::{Lab, PATIENCE};

/// A link to a node, below the protocol.
pub struct Caller {
    runtime: Runtime,
    connection: Connection,
    _endpoint: quinn::Endpoint,
}

/// What became of a stream or a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// A frame came.
    Answer(Value),
    /// The other side closed the link with this code.
    Closed(u64),
    /// The link is lost in another way.
    Lost(String),
    /// The stream ended without an answer, the link is still there.
    Nothing,
}

impl Caller {
    /// A new identity with an account at the lab's tracker.
    ///
    /// # Panics
    /// When it can't be registered.
    pub fn register(lab: &Lab, user: &str) -> Identity {
        let identity = Identity::generate().unwrap();
        let mut session = Session::open(lab.address(), &identity);
        session.demand(&json!({ "action": "REGISTER", "user": user, "password": "whatever" }));
        identity
    }

    /// Dials a node, whoever it is. No hello is said.
    ///
    /// # Panics
    /// When there is no handshake.
    pub fn dial(address: SocketAddr, identity: &Identity) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let crypto = certs::peer_client_config(identity, &ServerPin::trust_on_first_use()).unwrap();
        let crypto = Arc::new(QuicClientConfig::try_from(crypto).unwrap());
        let (endpoint, connection) = runtime.block_on(async {
            let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
            let name = certs::placeholder_server_name().to_str().into_owned();
            let connecting = endpoint.connect_with(quinn::ClientConfig::new(crypto), address, &name).unwrap();
            let connection = timeout(PATIENCE, connecting).await.expect("in time").expect("a handshake");
            (endpoint, connection)
        });
        Self { runtime, connection, _endpoint: endpoint }
    }

    /// Says hello as `user` and gives back what comes.
    pub fn hello(&self, user: &str) -> Ending {
        let hello = json!({ "t": "hello", "user": user, "agent": "hostile/1", "capabilities": ["answers"] });
        self.ask(&hello)
    }

    /// Sends any frame on a stream of its own and gives back the first that comes.
    pub fn ask(&self, request: &Value) -> Ending {
        self.send(&frame(request))
    }

    /// Sends frames on a stream of its own and gives back the first that comes.
    pub fn ask_all(&self, requests: &[Value]) -> Ending {
        self.send(&requests.iter().map(frame).collect::<Vec<_>>().concat())
    }

    /// Sends any frame on a stream of its own, ends its side, and gives back every byte that comes until the other side
    /// ends its own: `None` when it gave up on the stream instead.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn exchange(&self, request: &Value) -> Option<Vec<u8>> {
        self.exchange_all(std::slice::from_ref(request))
    }

    /// The same of several frames.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn exchange_all(&self, requests: &[Value]) -> Option<Vec<u8>> {
        let bytes = requests.iter().map(frame).collect::<Vec<_>>().concat();
        self.runtime.block_on(async {
            let (mut send, mut receive) = open(&self.connection, &bytes).await?;
            send.finish().ok()?;
            timeout(PATIENCE, receive.read_to_end(1 << 20)).await.expect("an answer in time").ok()
        })
    }

    /// Sends frames behind `first` on one stream as fast as they are read, and gives back the answer to each.
    ///
    /// # Panics
    /// When the other side gives up on the stream, or takes too long for an answer.
    pub fn answers(&self, first: &Value, requests: &[Value]) -> Vec<Value> {
        self.runtime.block_on(async {
            let (mut send, mut receive) = open(&self.connection, &frame(first)).await.expect("a stream");
            let write = async {
                for request in requests {
                    send.write_all(&frame(request)).await.expect("it reads");
                }
            };
            let read = async {
                let (mut frames, mut answers) = (Frames::default(), Vec::new());
                while answers.len() < requests.len() {
                    answers.push(frames.next(&mut receive).await.expect("an answer to each"));
                }
                answers
            };
            tokio::join!(write, read).1
        })
    }

    /// The same of a request that is sent `count` times without waiting; returns how many bytes come.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn exchange_many(&self, request: &Value, count: usize) -> Option<usize> {
        self.runtime.block_on(async {
            let (mut send, mut receive) = open(&self.connection, &frame(request)).await?;
            let rest = frame(request).repeat(count - 1);
            let ask = async {
                let written = send.write_all(&rest).await;
                written.ok().and_then(|()| send.finish().ok())
            };
            let read = async {
                let mut bytes = 0;
                while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX, true).await {
                    bytes += chunk.bytes.len();
                }
                bytes
            };
            let (asked, bytes) = timeout(PATIENCE, async { tokio::join!(ask, read) }).await.expect("answers in time");
            asked.map(|()| bytes)
        })
    }

    /// Sends bytes that are no frame.
    pub fn send_rubbish(&self) -> Ending {
        self.send(&rubbish())
    }

    /// Begins a frame of 4 GiB.
    pub fn send_huge_frame(&self) -> Ending {
        self.send(&HUGE_HEAD)
    }

    /// Begins a frame on a stream of its own, and gives back what comes of it.
    pub fn begin_frame(&self) -> Ending {
        self.send(&begun_frame(100))
    }

    /// Opens a stream of conversation, says this and gives back what comes.
    pub fn say(&self, message: &Value) -> Ending {
        let bytes = [frame(&json!({ "t": "chat" })), frame(message)].concat();
        self.send(&bytes)
    }

    /// The same, and says before it that we are typing.
    pub fn type_and_say(&self, message: &Value) -> Ending {
        let bytes =
            [json!({ "t": "chat" }), json!({ "t": "typing" }), message.clone()].iter().map(frame).collect::<Vec<_>>();
        self.send(&bytes.concat())
    }

    /// Writes `count` messages into one stream of conversation as fast as they are taken, from a thread of its own, until
    /// all are or the other side has enough; the thread ends with how many were acked.
    pub fn flood(&self, count: u32, message: impl Fn(u32) -> Value + Send + 'static) -> JoinHandle<usize> {
        let (connection, handle) = (self.connection.clone(), self.runtime.handle().clone());
        std::thread::spawn(move || {
            handle.block_on(async {
                let Some((mut send, mut receive)) = open(&connection, &frame(&json!({ "t": "chat" }))).await else {
                    return 0;
                };
                let write = async {
                    for number in 0..count {
                        if send.write_all(&frame(&message(number))).await.is_err() {
                            return;
                        }
                    }
                };
                let read = async {
                    let (mut frames, mut acked) = (Frames::default(), 0);
                    while let Some(answer) = frames.next(&mut receive).await {
                        acked += usize::from(answer["t"] == "ack");
                    }
                    acked
                };
                tokio::join!(write, read).1
            })
        })
    }

    /// Opens `count` streams, each with the beginning of a frame in it, and gives each up at once: more than any node
    /// could serve, and nothing ever comes of them. Tells how many the other side let it open.
    pub fn open_streams(&self, count: usize) -> usize {
        let flood = async {
            for opened in 0..count {
                let Some((mut send, _receive)) = open(&self.connection, &[0]).await else { return opened };
                let _ = send.reset(VarInt::from_u32(6));
            }
            count
        };
        self.runtime.block_on(async { timeout(PATIENCE, flood).await.expect("in time") })
    }

    /// Opens as many streams as the other side allows, up to `most`, and keeps them all open with half a frame in each.
    /// Tells how many those are.
    pub fn hold_streams(&self, most: usize) -> usize {
        let mut held = Vec::new();
        let hold = async {
            while held.len() < most {
                // A second without credit for another one: that was all.
                match timeout(Duration::from_secs(1), open(&self.connection, &[0, 0])).await {
                    Ok(Some(stream)) => held.push(stream),
                    _ => break,
                }
            }
        };
        self.runtime.block_on(hold);
        let count = held.len();
        // Kept for as long as the link is: dropped, they would be given back.
        self.runtime.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        count
    }

    /// Waits for the end of the link, and tells how it came.
    pub fn ending(&self) -> Ending {
        self.runtime.block_on(async {
            timeout(PATIENCE, self.connection.closed()).await.map_or(Ending::Nothing, |error| ending(&error))
        })
    }

    /// Whether the link is still there.
    pub fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    fn send(&self, bytes: &[u8]) -> Ending {
        self.runtime.block_on(async {
            let Some((_send, mut receive)) = open(&self.connection, bytes).await else { return self.closed() };
            match Frames::default().next(&mut receive).await {
                Some(answer) => Ending::Answer(answer),
                None => self.closed(),
            }
        })
    }

    fn closed(&self) -> Ending {
        self.connection.close_reason().as_ref().map_or(Ending::Nothing, ending)
    }
}

pub(super) fn ending(error: &ConnectionError) -> Ending {
    match error {
        ConnectionError::ApplicationClosed(close) => Ending::Closed(close.error_code.into_inner()),
        other => Ending::Lost(other.to_string()),
    }
}
