//! A tracker on 127.0.0.1 and clients that speak lines of JSON to it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use certs::{Identity, ServerPin};
use postgres_server::PostgresServer;
use serde_json::{Value, json};
use shared::tracker::{DOOR_PROOF_EXPORTER, ForwardedPerson};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::connection::{ConnectionTimeouts, MemoryQuota};
use crate::connection_slots::{ConnectionSlots, PerAddressLimits};
use crate::membership::RecordSigner;
use crate::rate_limits::RateSettings;
use crate::registry::PresenceRules;
use crate::server::{ServerContext, serve};
use crate::service::{RegistrationMode, ServicePolicy, TrackerService};
use crate::store::{AccountStore, PostgresAddress, PostgresStore, PresenceStore, SqliteAccountStore};

pub(super) const RULES: PresenceRules = PresenceRules {
    lease: Duration::from_secs(90),
    grace: Duration::from_secs(10),
    legacy_lease: Duration::from_secs(3600),
    legacy_auth: true,
    catalogue_bytes: 1 << 30,
};

pub(crate) const POLICY: ServicePolicy = ServicePolicy {
    rules: RULES,
    rates: RateSettings { logins: NonZeroU32::new(20), registrations: NonZeroU32::new(100) },
    registration: RegistrationMode::Open,
    trusted_doors: Vec::new(),
    announceable: Vec::new(),
};

const PER_ADDRESS: PerAddressLimits = PerAddressLimits { remote: 100, loopback: usize::MAX };

/// Far longer than any test needs, and short enough to wait for one that hangs.
const AT_MOST: Duration = Duration::from_secs(20);

pub(super) struct World {
    pub(super) address: SocketAddr,
    pub(super) service: Arc<TrackerService>,
    identity: Identity,
    policy: ServicePolicy,
    stop: Option<oneshot::Sender<()>>,
    server: JoinSet<()>,
    folder: Arc<TempDir>,
    database: Option<PostgresAddress>,
}

/// Set for a run in which the accounts are in PostgreSQL.
pub(super) const POSTGRES_RUN: &str = "VIZINHO_TEST_POSTGRES";

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(super) struct Conn(BufReader<Box<dyn Stream>>);

impl World {
    pub(super) async fn new() -> Self {
        Self::with(RULES, ConnectionTimeouts::default(), 100).await
    }

    pub(super) async fn with(rules: PresenceRules, patience: ConnectionTimeouts, max_connections: usize) -> Self {
        let policy = ServicePolicy { rules, ..POLICY };
        Self::with_policy(policy, patience, max_connections).await
    }

    pub(super) async fn with_policy(
        policy: ServicePolicy,
        patience: ConnectionTimeouts,
        max_connections: usize,
    ) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::in_folder(folder, new_database(), policy, patience, MemoryQuota::new(), max_connections).await
    }

    pub(super) async fn with_quota(quota: MemoryQuota, patience: ConnectionTimeouts) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::in_folder(folder, new_database(), POLICY, patience, quota, 100).await
    }

    async fn in_folder(
        folder: Arc<TempDir>,
        database: Option<PostgresAddress>,
        policy: ServicePolicy,
        patience: ConnectionTimeouts,
        quota: MemoryQuota,
        max_connections: usize,
    ) -> Self {
        let memory = PresenceStore::open(&folder.path().join("presence.db")).unwrap();
        let identity = Identity::generate().unwrap();
        let accounts = match &database {
            None => {
                let store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
                AccountStore::start(store, RecordSigner::new(&identity)).unwrap()
            }
            Some(address) => {
                let store = PostgresStore::connect(address).await.unwrap();
                AccountStore::with_postgres(store, RecordSigner::new(&identity))
            }
        };
        let service = Arc::new(TrackerService::start(policy.clone(), accounts, memory).await.unwrap());
        let tls = Arc::new(certs::tracker_server_config(&identity).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let slots = Arc::new(ConnectionSlots::new(max_connections, PER_ADDRESS));
        let quota = Arc::new(quota);
        let tracker =
            ServerContext { service: Arc::clone(&service), tls, timeouts: patience, memory_quota: quota, slots };
        let mut server = JoinSet::new();
        server.spawn(async move {
            serve(listener.into(), tracker, async move { drop(stopped.await) }).await.unwrap();
        });
        Self { address, service, identity, policy, stop: Some(stop), server, folder, database }
    }

    /// Starts the next process on the same folder, after an ordered end or as after a kill.
    pub(super) async fn restarted(mut self, killed: bool) -> Self {
        if killed {
            self.server.shutdown().await;
        } else {
            self.begin_stop();
            self.stopped().await;
        }
        let Self { folder, database, policy, service, .. } = self;
        // The next process may not have the database before.
        drop(service);
        Self::in_folder(folder, database, policy, ConnectionTimeouts::default(), MemoryQuota::new(), 100).await
    }

    /// The tracker's key.
    pub(super) const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A plaintext connection from another address of the loopback network.
    pub(super) async fn plain_from(&self, address: [u8; 4]) -> Conn {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        Conn::new(socket.connect(self.address).await.unwrap())
    }

    pub(super) async fn plain(&self) -> Conn {
        Conn::new(TcpStream::connect(self.address).await.unwrap())
    }

    pub(super) async fn tls(&self, identity: Option<&Identity>) -> Conn {
        let config =
            certs::tracker_client_config(identity, &ServerPin::expecting(self.identity.fingerprint())).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Conn::new(TlsConnector::from(Arc::new(config)).connect(certs::placeholder_server_name(), stream).await.unwrap())
    }

    /// One request on a plaintext connection of its own.
    /// Connects with the person's own identity, through a door that signs for another name if one is given.
    pub(super) async fn tls_with_proof(
        &self,
        person: &str,
        identity: &Identity,
        door: &Identity,
        signed: &str,
    ) -> Conn {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let pin = ServerPin::expecting(self.identity.fingerprint());
        let config = Arc::new(certs::tracker_client_config(Some(identity), &pin).unwrap());
        let stream = TlsConnector::from(config).connect(certs::placeholder_server_name(), tcp).await.unwrap();
        let channel = stream.get_ref().1.export_keying_material([0; 32], DOOR_PROOF_EXPORTER, None).unwrap();
        let proof = certs::sign_door_proof(door, &channel, &ForwardedPerson::new(signed).unwrap()).unwrap();
        let (key, signature) = (shared::hex::encode(&proof.key), shared::hex::encode(&proof.signature));
        let mut conn = Conn(BufReader::new(Box::new(stream)));
        conn.send(json!({ "action": "FORWARDED", "for": person, "key": key, "signature": signature }).to_string())
            .await;
        conn
    }

    pub(super) async fn once(&self, request: &str) -> Value {
        self.plain().await.ask(request).await
    }

    pub(super) fn begin_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(super) async fn stopped(&mut self) {
        timeout(AT_MOST, self.server.join_next()).await.unwrap().unwrap().unwrap();
    }

    pub(super) async fn users(&self) -> Vec<String> {
        let reply = self.once(r#"{"action":"LIST_PEERS"}"#).await;
        reply["peers"].as_array().unwrap().iter().map(|peer| peer["user"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until exactly these users are listed.
    pub(super) async fn until_users(&self, expected: &[&str]) {
        let wait = async {
            while self.users().await != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(AT_MOST, wait).await.unwrap();
    }
}

/// Makes a database for the accounts, in a run in which they are in PostgreSQL.
fn new_database() -> Option<PostgresAddress> {
    std::env::var_os(POSTGRES_RUN)?;
    let server = PostgresServer::shared().unwrap();
    let database = server.create_database().unwrap();
    Some(PostgresAddress::parse(&server.address(&database)).unwrap())
}

impl Conn {
    fn new(stream: impl Stream + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).await.unwrap();
        self.0.get_mut().flush().await.unwrap();
    }

    pub(super) async fn end(&mut self) {
        self.0.get_mut().shutdown().await.unwrap();
    }

    pub(super) async fn line(&mut self) -> Value {
        let mut line = String::new();
        timeout(AT_MOST, self.0.read_line(&mut line)).await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"))
    }

    pub(super) async fn ask(&mut self, request: &str) -> Value {
        self.send(request).await;
        self.line().await
    }

    /// The code of the reply.
    pub(super) async fn code(&mut self, request: &str) -> String {
        self.ask(request).await["code"].as_str().unwrap().to_owned()
    }

    /// All lines until the tracker closes.
    pub(super) async fn rest(&mut self) -> Vec<Value> {
        let mut text = String::new();
        timeout(AT_MOST, self.0.read_to_string(&mut text)).await.unwrap().unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(super) fn codes(replies: &[Value]) -> Vec<&str> {
    replies.iter().map(|reply| reply["code"].as_str().unwrap()).collect()
}

pub(super) fn register(user: &str) -> String {
    format!(r#"{{"action":"REGISTER","user":"{user}","password":"s3nha"}}"#)
}

pub(super) fn login(user: &str) -> String {
    format!(r#"{{"action":"LOGIN","user":"{user}","password":"s3nha","port":6000}}"#)
}

pub(super) fn logout(user: &str) -> String {
    format!(r#"{{"action":"LOGOUT","user":"{user}"}}"#)
}

pub(super) fn files(user: &str, count: usize) -> String {
    let files: Vec<String> =
        (0..count).map(|i| format!(r#"{{"name":"file {i}.txt","size":{i},"hash":"abc"}}"#)).collect();
    format!(r#"{{"action":"REGISTER_FILES","user":"{user}","files":[{}]}}"#, files.join(","))
}
