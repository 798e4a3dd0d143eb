//! A whole connection to a tracker on loopback: first byte, TLS or plaintext, requests. Whatever comes, the tracker
//! answers with whole lines of JSON that have what their dialect demands, or with TLS records, and closes.

#![no_main]

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracker::connection::{ConnectionContext, ConnectionTimeouts, MemoryQuota, serve_connection};
use tracker::connection_slots::{ConnectionSlots, PerAddressLimits};
use tracker::membership::RecordSigner;
use tracker::rate_limits::RateSettings;
use tracker::registry::PresenceRules;
use tracker::service::{RegistrationMode, ServicePolicy, TrackerService};
use tracker::store::{AccountStore, PresenceStore, SqliteAccountStore};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static CONTEXT: LazyLock<ConnectionContext> = LazyLock::new(|| RUNTIME.block_on(context()));

async fn context() -> ConnectionContext {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let identity = certs::Identity::generate().expect("an identity");
    let accounts = SqliteAccountStore::open(&folder.join("db")).expect("a store");
    let accounts = AccountStore::start(accounts, RecordSigner::new(&identity)).expect("a thread");
    let presence_store = PresenceStore::open(&folder.join("presence.db")).expect("a store");
    let second = Duration::from_secs(1);
    let rules = PresenceRules {
        lease: 90 * second,
        grace: 10 * second,
        legacy_lease: 3600 * second,
        legacy_auth: true,
        catalogue_bytes: 1 << 24,
    };
    // A few hashes only: they are not worth the time here.
    let policy = ServicePolicy {
        rules,
        rates: RateSettings { logins: NonZeroU32::new(1), registrations: NonZeroU32::new(1) },
        registration: RegistrationMode::Closed,
        trusted_doors: Vec::new(),
        announceable: Vec::new(),
    };
    let tls = TlsAcceptor::from(Arc::new(certs::tracker_server_config(&identity).expect("TLS")));
    let service = Arc::new(TrackerService::start(policy, accounts, presence_store).await.expect("a service"));
    let soon = Duration::from_millis(5);
    let timeouts = ConnectionTimeouts {
        idle: soon,
        handshake: soon,
        request: soon,
        linger: soon,
        ..ConnectionTimeouts::default()
    };
    ConnectionContext {
        service,
        tls,
        timeouts,
        memory_quota: Arc::new(MemoryQuota::new()),
        stop: CancellationToken::new(),
    }
}

async fn converse(bytes: &[u8], context: ConnectionContext) -> Vec<u8> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
    let mut client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
    let (stream, remote) = listener.accept().await.expect("the same connection");
    let mut replies = Vec::new();
    let ask = async {
        // The tracker may have closed before all was said.
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut replies).await;
    };
    let slots = ConnectionSlots::new(1, PerAddressLimits { remote: 1, loopback: 1 });
    let slot = slots.acquire(remote.ip(), Instant::now()).expect("nobody else has it");
    tokio::join!(serve_connection(stream, remote, context, slot), ask);
    replies
}

fuzz_target!(|bytes: &[u8]| {
    let context = CONTEXT.clone();
    let replies = RUNTIME.block_on(converse(bytes, context));
    if bytes.first() == Some(&0x16) {
        return;
    }
    for line in replies.split_inclusive(|byte| *byte == b'\n') {
        let reply: serde_json::Value = serde_json::from_slice(line).expect("a line of JSON");
        assert!(line.ends_with(b"\n"));
        let has = |field: &str| reply[field].is_string();
        let is_cmd = has("msg") || reply["peers"].is_object();
        assert!(has("status") && (is_cmd || has("code") && has("message")), "{reply}");
    }
});
