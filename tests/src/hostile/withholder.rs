//! A member of `#lab` who is online, takes streams of rooms, and gives no messages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use certs::Identity;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, RecvStream, SendStream};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::Session;
use super::wire::{Frames, frame};
use crate::Lab;

/// What is withheld, and how.
#[derive(Debug, Clone)]
pub enum Withholding {
    /// It claims to have 99 messages of the author with this key, and gives none.
    Claim(String),
    /// It answers no request about a room.
    Silence,
    /// It says that its copy is equal to that of whoever asks.
    Agreement,
}

/// A registered user in `#lab` whose peer withholds messages; gone when it is dropped.
pub struct WithholdingMember {
    runtime: Option<Runtime>,
    links: Arc<AtomicUsize>,
    _session: Session,
}

impl WithholdingMember {
    /// Registers `user` at the lab's tracker, joins `#lab` and goes online.
    ///
    /// # Panics
    /// When that fails.
    pub fn join(lab: &Lab, user: &str, withholding: Withholding) -> Self {
        let identity = Identity::generate().unwrap();
        let mut session = Session::open(lab.address(), &identity);
        session.demand(&json!({ "action": "REGISTER", "user": user, "password": "whatever" }));
        session.demand(&json!({ "action": "ROOM_JOIN", "room": "lab" }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let crypto = QuicServerConfig::try_from(certs::peer_server_config(&identity).unwrap()).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = {
            let _inside = runtime.enter();
            quinn::Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
        };
        session.demand(&json!({ "action": "RESUME", "port": endpoint.local_addr().unwrap().port() }));
        let links = Arc::new(AtomicUsize::new(0));
        runtime.spawn(accept(endpoint, user.to_owned(), withholding, links.clone()));
        Self { runtime: Some(runtime), links, _session: session }
    }

    /// Returns the number of links that others have made to it.
    pub fn links(&self) -> usize {
        self.links.load(Ordering::Relaxed)
    }
}

impl Drop for WithholdingMember {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(endpoint: quinn::Endpoint, user: String, withholding: Withholding, links: Arc<AtomicUsize>) {
    let mut serving = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        let (user, withholding, links) = (user.clone(), withholding.clone(), links.clone());
        serving.spawn(async move {
            if let Ok(connection) = incoming.await {
                links.fetch_add(1, Ordering::Relaxed);
                serve(connection, &user, &withholding).await;
            }
        });
    }
}

async fn serve(connection: Connection, user: &str, withholding: &Withholding) {
    let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
    let Some(_hello) = Frames::default().next(&mut receive).await else { return };
    let welcome = json!({ "t": "welcome", "user": user, "agent": "hostile/1", "capabilities": ["answers", "rooms/1"] });
    if send.write_all(&frame(&welcome)).await.is_err() || send.finish().is_err() {
        return;
    }
    let mut streams = JoinSet::new();
    while let Ok((send, receive)) = connection.accept_bi().await {
        let withholding = withholding.clone();
        streams.spawn(async move { answer(&withholding, send, receive).await });
    }
}

/// Answers the requests of a stream for a room; other streams are ended.
async fn answer(withholding: &Withholding, mut send: SendStream, mut receive: RecvStream) {
    let mut frames = Frames::default();
    // A link may be silent for long: no answer is waited for in time.
    let Ok(Some(first)) = frames.next_unhurried(&mut receive).await else { return };
    if first["t"] != "room" {
        return;
    }
    while let Ok(Some(request)) = frames.next_unhurried(&mut receive).await {
        let reply = match withholding {
            Withholding::Silence => continue,
            Withholding::Claim(author) => reply(&request, &json!("09".repeat(16)), Some(author)),
            Withholding::Agreement => reply(&request, &request["digest"], None),
        };
        if send.write_all(&frame(&reply)).await.is_err() {
            return;
        }
    }
}

fn reply(request: &Value, digest: &Value, author: Option<&String>) -> Value {
    match request["t"].as_str() {
        Some("summary") => json!({ "t": "summary", "digest": digest, "epoch": request["epoch"] }),
        Some("records") => json!({ "t": "records", "lengths": [], "more": false }),
        Some("vector") => {
            let entry = |author| json!({ "author": author, "newest": 99, "digest": digest });
            json!({ "t": "vector", "entries": author.map(entry).into_iter().collect::<Vec<_>>(), "more": false })
        }
        Some("want") => json!({ "t": "runs", "lengths": [], "leads_to_cut": false }),
        _ => json!({ "t": "taken" }),
    }
}
