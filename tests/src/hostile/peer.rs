//! Somebody who is online, shares files, and doesn't keep to the protocol.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use certs::Identity;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::wire::{Frames, HUGE_HEAD, frame, rubbish};
use super::{Offer, Session};
use crate::{Lab, PATIENCE};

/// What [`Trick::Gate`] makes of a fast network.
const A_GROUP_TAKES: Duration = Duration::from_millis(15);

/// When it happens: in answer to which request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The welcome.
    Hello,
    /// The list of files.
    Files,
    /// The description of a file.
    Stat,
    /// The manifest.
    Manifest,
    /// The data, after its header and the first half.
    Data,
}

/// What is done wrong.
#[derive(Debug, Clone)]
pub enum Trick {
    /// Nothing.
    Honest,
    /// Nothing more is said; the link stays.
    Silent(Stage),
    /// Bytes that are no frame, or not the data.
    Rubbish(Stage),
    /// A frame of 4 GiB begins.
    HugeFrame(Stage),
    /// The stream is reset.
    Reset(Stage),
    /// The stream ends cleanly without what was due.
    Short(Stage),
    /// The whole link is closed.
    Close(Stage),
    /// A proper answer, to another question.
    Another(Stage),
    /// An error frame with this text.
    Error(Stage, String),
    /// The file is described with these fields in place of the right ones.
    WrongStat(Value),
    /// A bit of the data is another.
    WrongGroup,
    /// A bit of the manifest is another.
    WrongManifest,
    /// The manifest's header tells of another file.
    AnotherManifest,
    /// The header of the data says more than was asked for, and more comes.
    TooMuchData,
    /// The header of the data says less than was asked for, and no more comes.
    TooLittleData,
    /// The data comes a byte a second.
    Trickle,
    /// The list of files, as it is.
    List(Value),
    /// Every message is refused for ever, in these words.
    RefuseMessages(String),
    /// Whoever opens a conversation is told, over the same link, again and again that we are typing.
    Typing,
    /// Everything is right, but it comes slowly, and the last group of the last file not before the gate is opened.
    Gate,
}

/// A registered user whose peer misbehaves; gone when it is dropped.
pub struct HostilePeer {
    runtime: Option<Runtime>,
    address: SocketAddr,
    gate: watch::Sender<bool>,
    shared: Arc<Shared>,
    user: String,
    session: Session,
}

struct Shared {
    offers: Vec<Offer>,
    trick: Trick,
    /// The names of those that are listed; `None`: all.
    listed: Mutex<Option<Vec<String>>>,
    gate: watch::Receiver<bool>,
    stalled: Mutex<usize>,
    changed: Condvar,
    bytes_sent: Mutex<Vec<Arc<AtomicUsize>>>,
}

/// Why a stream is not gone on with.
struct Done;

impl HostilePeer {
    /// Registers `user` at the lab's tracker and goes online with these files.
    ///
    /// # Panics
    /// When that fails.
    pub fn join(lab: &Lab, user: &str, offers: Vec<Offer>, trick: Trick) -> Self {
        let identity = Identity::generate().unwrap();
        let mut session = Session::open(lab.address(), &identity);
        session.demand(&json!({ "action": "REGISTER", "user": user, "password": "whatever" }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let crypto = QuicServerConfig::try_from(certs::peer_server_config(&identity).unwrap()).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = {
            let _inside = runtime.enter();
            quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let address = endpoint.local_addr().unwrap();
        session.demand(&json!({ "action": "RESUME", "port": address.port() }));
        let entry =
            |offer: &Offer| json!({ "name": offer.name(), "size": offer.layout().size(), "hash": offer.hash() });
        let files: Vec<Value> = offers.iter().map(entry).collect();
        // The tracker refuses names that are no names; what counts is what the peer itself says.
        let _ = session.ask(&json!({ "action": "REGISTER_FILES", "user": user, "files": files }));
        let (gate, is_open) = watch::channel(false);
        let shared = Arc::new(Shared {
            offers,
            trick,
            listed: Mutex::default(),
            gate: is_open,
            stalled: Mutex::new(0),
            changed: Condvar::new(),
            bytes_sent: Mutex::default(),
        });
        runtime.spawn(accept(endpoint, user.to_owned(), shared.clone()));
        Self { runtime: Some(runtime), address, gate, shared, user: user.to_owned(), session }
    }

    /// Lists only these of its files from here on, to others and to the tracker.
    ///
    /// # Panics
    /// When the tracker refuses.
    pub fn list_only(&mut self, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let offers = self.shared.offers.iter().filter(|offer| names.contains(&offer.name().to_owned()));
        let entry =
            |offer: &Offer| json!({ "name": offer.name(), "size": offer.layout().size(), "hash": offer.hash() });
        let files: Vec<Value> = offers.map(entry).collect();
        *self.shared.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(names);
        self.session.demand(&json!({ "action": "REGISTER_FILES", "user": self.user, "files": files }));
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From here on nothing is held back ([`Trick::Gate`]).
    pub fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// Waits until so many streams of data were held back, or fell silent.
    ///
    /// # Panics
    /// When that doesn't come.
    #[track_caller]
    pub fn wait_until_stalled(&self, times: usize) {
        let stalled = self.shared.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.changed.wait_timeout_while(stalled, PATIENCE, |stalled| *stalled < times);
        let (stalled, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timed_out.timed_out(), "{} of {times} streams were held back", *stalled);
    }

    /// How many were held back, or fell silent, until now.
    pub fn stalled(&self) -> usize {
        *self.shared.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of files that were sent over the last of its links.
    pub fn bytes_sent_to_the_last(&self) -> usize {
        let all = self.shared.bytes_sent.lock().unwrap_or_else(PoisonError::into_inner);
        all.last().map_or(0, |sent| sent.load(Ordering::Relaxed))
    }
}

impl Drop for HostilePeer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(endpoint: quinn::Endpoint, user: String, shared: Arc<Shared>) {
    let mut links = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        let (user, shared) = (user.clone(), shared.clone());
        links.spawn(async move {
            if let Ok(connection) = incoming.await {
                serve(connection, &user, &shared).await;
            }
        });
    }
}

async fn serve(connection: Connection, user: &str, shared: &Arc<Shared>) {
    let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
    let Some(_hello) = Frames::default().next(&mut receive).await else { return };
    let welcome =
        json!({ "t": "welcome", "user": user, "agent": "hostile/1", "capabilities": ["answers", "raw_names/1"] });
    let sent = Arc::new(AtomicUsize::new(0));
    shared.bytes_sent.lock().unwrap_or_else(PoisonError::into_inner).push(sent.clone());
    let said = shared.say(Stage::Hello, welcome, &[], &connection, &mut send).await;
    if said.is_ok() {
        let _ = send.finish();
    }
    let mut streams = JoinSet::new();
    while let Ok((send, receive)) = connection.accept_bi().await {
        let (connection, shared, sent) = (connection.clone(), shared.clone(), sent.clone());
        streams.spawn(async move {
            let _ = answer(&connection, &shared, &sent, send, receive).await;
        });
    }
}

async fn answer(
    connection: &Connection,
    shared: &Shared,
    sent: &AtomicUsize,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<(), Done> {
    let mut frames = Frames::default();
    while let Some(ask) = frames.next(&mut receive).await {
        if let Trick::RefuseMessages(words) = &shared.trick
            && matches!(ask["t"].as_str(), Some("chat" | "message"))
        {
            if ask["t"] == "message" {
                let refused = json!({ "t": "refused", "id": ask["id"], "code": 2, "message": words });
                send.write_all(&frame(&refused)).await.map_err(|_| Done)?;
            }
            continue;
        }
        if matches!(shared.trick, Trick::Typing) && ask["t"] == "chat" {
            return type_on(connection, shared).await;
        }
        let of_hash = shared.offers.iter().find(|offer| json!(offer.hash()) == ask["hash"]);
        let (stage, head, body) = match (ask["t"].as_str().unwrap_or_default(), of_hash) {
            ("files", _) => (Stage::Files, shared.list(), Vec::new()),
            ("stat", _) => {
                let found = shared.offers.iter().find(|offer| ask["name"] == offer.name());
                (Stage::Stat, found.map_or_else(not_found, |offer| shared.stat(offer)), Vec::new())
            }
            ("manifest", Some(offer)) => {
                let (head, body) = shared.manifest(offer);
                (Stage::Manifest, head, body)
            }
            ("get", Some(offer)) => {
                let groups = groups_of(&ask["ranges"]);
                sent.fetch_add(offer.bytes_of(&groups).len(), Ordering::Relaxed);
                if matches!(shared.trick, Trick::Gate) {
                    shared.send_slowly(offer, &groups, &mut send).await?;
                    continue;
                }
                let (head, body) = shared.data(offer, &groups);
                if matches!(shared.trick, Trick::Trickle) {
                    return shared.trickle(&head, &body, &mut send).await;
                }
                (Stage::Data, head, body)
            }
            ("manifest" | "get", None) => (Stage::Data, not_found(), Vec::new()),
            _ => (Stage::Stat, json!({ "t": "error", "code": 1, "message": "no chat here" }), Vec::new()),
        };
        shared.say(stage, head, &body, connection, &mut send).await?;
    }
    let _ = send.finish();
    Ok(())
}

impl Shared {
    fn list(&self) -> Value {
        match &self.trick {
            Trick::List(files) => json!({ "t": "file_list", "files": files }),
            _ => {
                let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
                let is_listed =
                    |offer: &&Offer| listed.as_ref().is_none_or(|names| names.iter().any(|name| *name == offer.name()));
                let files: Vec<Value> = self.offers.iter().filter(is_listed).map(Offer::stat).collect();
                json!({ "t": "file_list", "files": files })
            }
        }
    }

    fn stat(&self, offer: &Offer) -> Value {
        let mut stat = offer.stat();
        stat["t"] = "stat".into();
        if let Trick::WrongStat(Value::Object(wrong)) = &self.trick {
            wrong.iter().for_each(|(field, value)| stat[field] = value.clone());
        }
        stat
    }

    fn manifest(&self, offer: &Offer) -> (Value, Vec<u8>) {
        let mut body = offer.manifest().to_vec();
        let mut head = json!({ "t": "manifest", "hash": offer.hash(), "size": offer.layout().size(),
                               "group_size": offer.layout().group_bytes(), "groups": offer.layout().group_count() });
        match self.trick {
            Trick::WrongManifest => body[0] ^= 1,
            Trick::AnotherManifest => head["size"] = 1.into(),
            _ => {}
        }
        (head, body)
    }

    fn data(&self, offer: &Offer, groups: &[u32]) -> (Value, Vec<u8>) {
        let mut body = offer.bytes_of(groups);
        match self.trick {
            Trick::WrongGroup => *body.last_mut().expect("data") ^= 1,
            Trick::TooMuchData => body.extend_from_slice(b"and one more thing"),
            Trick::TooLittleData => drop(body.pop()),
            _ => {}
        }
        (json!({ "t": "data", "bytes": body.len() }), body)
    }

    async fn send_slowly(&self, offer: &Offer, groups: &[u32], send: &mut SendStream) -> Result<(), Done> {
        let bytes = offer.bytes_of(groups).len();
        send.write_all(&frame(&json!({ "t": "data", "bytes": bytes }))).await.map_err(|_| Done)?;
        let is_last = self.offers.last().is_some_and(|last| last.hash() == offer.hash());
        for group in groups {
            if is_last && group + 1 == offer.layout().group_count() && !*self.gate.borrow() {
                self.tell_stalled();
                self.gate.clone().wait_for(|is_open| *is_open).await.map_err(|_| Done)?;
            }
            // What a slow network does: whoever looks at the progress has something to see.
            tokio::time::sleep(A_GROUP_TAKES).await;
            send.write_all(offer.group(*group)).await.map_err(|_| Done)?;
        }
        Ok(())
    }

    async fn trickle(&self, head: &Value, body: &[u8], send: &mut SendStream) -> Result<(), Done> {
        send.write_all(&frame(head)).await.map_err(|_| Done)?;
        self.tell_stalled();
        for byte in body {
            send.write_all(&[*byte]).await.map_err(|_| Done)?;
            // The slowness is the attack.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// Says an answer, unless the trick is for this one.
    async fn say(
        &self,
        stage: Stage,
        head: Value,
        body: &[u8],
        connection: &Connection,
        send: &mut SendStream,
    ) -> Result<(), Done> {
        let in_the_middle = body.len() / 2;
        let mut rest = body;
        let is_now = self.trick.stage() == Some(stage);
        if !is_now || stage == Stage::Data {
            let (first, second) = if is_now { body.split_at(in_the_middle) } else { (body, &[][..]) };
            rest = second;
            let head = if matches!(self.trick, Trick::Error(..) | Trick::Another(_)) && is_now {
                Vec::new()
            } else {
                frame(&head)
            };
            send.write_all(&head).await.map_err(|_| Done)?;
            if !head.is_empty() {
                send.write_all(first).await.map_err(|_| Done)?;
            }
        }
        if is_now { self.play(rest, connection, send).await } else { Ok(()) }
    }

    async fn play(&self, rest: &[u8], connection: &Connection, send: &mut SendStream) -> Result<(), Done> {
        let sent = match &self.trick {
            Trick::Silent(_) => {
                self.tell_stalled();
                std::future::pending().await
            }
            Trick::Rubbish(_) if rest.is_empty() => send.write_all(&rubbish()).await,
            Trick::Rubbish(_) => send.write_all(&vec![0xff; rest.len()]).await,
            Trick::HugeFrame(_) => send.write_all(&HUGE_HEAD).await,
            Trick::Another(_) => {
                let welcome = json!({ "t": "welcome", "user": "nobody", "agent": "", "capabilities": [] });
                let data = json!({ "t": "data", "bytes": 3 });
                let answer = if self.trick.stage() == Some(Stage::Hello) { data } else { welcome };
                send.write_all(&frame(&answer)).await
            }
            Trick::Error(_, message) => {
                let error = json!({ "t": "error", "code": 7, "message": message });
                return send.write_all(&frame(&error)).await.map_err(|_| Done);
            }
            Trick::Reset(_) => {
                let _ = send.reset(VarInt::from_u32(7));
                return Err(Done);
            }
            Trick::Close(_) => {
                connection.close(VarInt::from_u32(9), b"gone");
                return Err(Done);
            }
            _ => Ok(()),
        };
        // What was due never comes: a clean end in its place.
        let _ = send.finish();
        sent.map_err(|_| Done).and(Err(Done))
    }

    fn tell_stalled(&self) {
        *self.stalled.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }
}

impl Trick {
    const fn stage(&self) -> Option<Stage> {
        match self {
            Self::Silent(stage)
            | Self::Rubbish(stage)
            | Self::HugeFrame(stage)
            | Self::Reset(stage)
            | Self::Short(stage)
            | Self::Close(stage)
            | Self::Another(stage)
            | Self::Error(stage, _) => Some(*stage),
            _ => None,
        }
    }
}

/// Types for ever; [`HostilePeer::wait_until_stalled`] hears of the first half second of it.
async fn type_on(connection: &Connection, shared: &Shared) -> Result<(), Done> {
    let (mut send, _receive) = connection.open_bi().await.map_err(|_| Done)?;
    send.write_all(&frame(&json!({ "t": "chat" }))).await.map_err(|_| Done)?;
    for times in 0_u64.. {
        send.write_all(&frame(&json!({ "t": "typing" }))).await.map_err(|_| Done)?;
        if times == 50 {
            shared.tell_stalled();
        }
        // The pace of somebody who types all the time.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn groups_of(ranges: &Value) -> Vec<u32> {
    let bound = |range: &Value, index: usize| u32::try_from(range[index].as_u64().unwrap_or(0)).unwrap_or(0);
    let ranges = ranges.as_array().into_iter().flatten();
    ranges.flat_map(|range| bound(range, 0)..bound(range, 1)).collect()
}

fn not_found() -> Value {
    json!({ "t": "error", "code": 3, "message": "no such file is shared" })
}
