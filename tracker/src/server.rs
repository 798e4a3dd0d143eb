//! The accept loop, the connections and the periodic tasks.
//!
//! ```text
//! serve ─┬─ accept loop: awaits nothing but the next connection
//!        ├─ connections: a JoinSet; a panic in one is logged and harms no other
//!        └─ once a second: leases that ran out end, and changes are stored; a panic there is the end of the server
//! shutdown ─► stop accepting ─► connections answer what was read and close ─► after 3 s the rest is cut off
//!          ─► changes are stored
//! ```
//!
//! Without its periodic tasks the tracker would go on with leases that never end, or forget at the next start who is
//! present. So the server ends in good order when one of them panics, and the service manager starts the tracker anew.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | kernel memory for one connection | 512 KiB each way | not written, not read on |
//! | connections being told `busy` | `MAX_REFUSALS` | closed |
//! | failed accepts (no descriptors left) | one try each 100 ms | |

use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::net::sockopt;
use rustls::ServerConfig;
use shared::tracker::{TrackerErrorCode, TrackerRefusal, encode_error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::connection::{self, ConnectionContext, ConnectionTimeouts, MemoryQuota};
use crate::connection_slots::{ConnectionSlots, SlotsExhausted};
use crate::service::TrackerService;

/// Refused connections that get the reason reliably; beyond, one attempt to write it is made.
const MAX_REFUSALS: usize = 64;
/// The time for a refused client to read the reason.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The time for connections to end by themselves at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause after an accept that failed for lack of a resource.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// The interval at which leases are checked.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which changes are stored.
const STORE_INTERVAL: Duration = Duration::from_secs(1);
/// The time to store changes at the very end.
const FINAL_STORE_TIMEOUT: Duration = Duration::from_millis(700);
/// Socket buffer of the kernel in each direction; Linux doubles it for its bookkeeping. Enough for any local network,
/// while the default of several MiB would be too much for thousands of clients that don't read.
const KERNEL_BUFFER: usize = 256 * 1024;
/// Advice to refused clients.
const BUSY_RETRY_MS: u64 = 5000;

/// The parts of the tracker that [`serve`] connects.
pub struct ServerContext {
    /// The actions on requests.
    pub service: Arc<TrackerService>,
    /// The tracker's side of TLS.
    pub tls: Arc<ServerConfig>,
    /// The times that clients may take.
    pub timeouts: ConnectionTimeouts,
    /// The memory for long requests.
    pub memory_quota: Arc<MemoryQuota>,
    /// The slots for connections.
    pub slots: Arc<ConnectionSlots>,
}

/// The listening sockets, which take turns.
#[derive(Debug)]
pub struct ListenerSet {
    all: Vec<TcpListener>,
    next: usize,
}

impl From<Vec<TcpListener>> for ListenerSet {
    fn from(all: Vec<TcpListener>) -> Self {
        Self { all, next: 0 }
    }
}

impl From<TcpListener> for ListenerSet {
    fn from(only: TcpListener) -> Self {
        vec![only].into()
    }
}

impl ListenerSet {
    /// Accepts the next connection. Cancel-safe.
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|context| {
            let count = self.all.len();
            // In turn: a flood at one listener must not starve the others.
            for at in (self.next..count).chain(0..self.next) {
                if let Some(Poll::Ready(accepted)) = self.all.get(at).map(|listener| listener.poll_accept(context)) {
                    self.next = (at + 1) % count;
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Serves clients until `shutdown` is ready, then closes all connections in good order. Does so as well when a periodic
/// task panics, and fails with its [`JoinError`].
pub async fn serve(
    mut listeners: ListenerSet,
    tracker: ServerContext,
    shutdown: impl Future<Output = ()>,
) -> Result<(), JoinError> {
    listeners.all.iter().for_each(bound_kernel_buffers);
    let stop = CancellationToken::new();
    let ServerContext { service, tls, timeouts, memory_quota, slots } = tracker;
    let tls = TlsAcceptor::from(tls);
    let context = ConnectionContext { service: Arc::clone(&service), tls, timeouts, memory_quota, stop: stop.clone() };
    let (mut connections, mut refusals, mut maintenance) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    maintenance.spawn(expire_periodically(Arc::clone(&service)));
    maintenance.spawn(store_periodically(Arc::clone(&service)));
    // Apart from the others: connections that end need it to the last.
    let (mut replication, last_change) = (JoinSet::new(), CancellationToken::new());
    replication.spawn(Arc::clone(&service).run_replication(last_change.clone()));
    let mut not_before = None;
    tokio::pin!(shutdown);
    let outcome = loop {
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            // Collected as they end, so that the set stays small and panics are logged at once.
            Some(ended) = connections.join_next(), if !connections.is_empty() => log_panic(ended),
            Some(ended) = refusals.join_next(), if !refusals.is_empty() => log_panic(ended),
            why = first_panic(&mut maintenance) => break Err(why),
            why = first_panic(&mut replication) => break Err(why),
            (stream, remote) = next_connection(&mut listeners, &mut not_before) => {
                let slot = match slots.acquire(remote.ip(), std::time::Instant::now()) {
                    Ok(slot) => slot,
                    Err(full) => {
                        if service.log_throttle().try_admit(remote.ip().to_canonical(), "too many connections") {
                            warn!(%remote, "refused: {full}");
                        }
                        service.metrics().refused_connections.inc();
                        refuse_connection(stream, full, &mut refusals);
                        continue;
                    }
                };
                let context = context.clone();
                let counted = OpenConnectionCount::new(&service);
                connections.spawn(async move {
                    connection::serve_connection(stream, remote, context, slot).await;
                    drop(counted);
                });
            }
        }
    };
    // First of all: clients that come now are refused instead of waiting for nothing.
    drop(listeners);
    // Before connections end, so that their ends don't shorten leases.
    service.begin_stop();
    stop.cancel();
    // Clients that are refused lose nothing: the stop doesn't wait for them.
    refusals.abort_all();
    // Ended before the final store, so that it is the only one.
    maintenance.shutdown().await;
    drain_connections(connections).await;
    // After the connections, whose last changes still go through the log.
    last_change.cancel();
    if timeout(FINAL_STORE_TIMEOUT, replication.join_next()).await.is_err() {
        warn!("other trackers wait until the lease of this one is over");
    }
    if timeout(FINAL_STORE_TIMEOUT, service.store_presence()).await.is_err() {
        warn!("who is present could not be stored in time");
    }
    outcome
}

/// Waits for the first of these tasks that panics, without end if none does. Cancel-safe.
pub(crate) async fn first_panic(tasks: &mut JoinSet<()>) -> JoinError {
    loop {
        match tasks.join_next().await {
            Some(Err(why)) if why.is_panic() => {
                error!(%why, "a task panicked: the tracker ends");
                return why;
            }
            // A task may have nothing more to do.
            Some(_) => {}
            None => return pending().await,
        }
    }
}

/// Bounds the kernel's buffers; accepted connections inherit them from their listener.
fn bound_kernel_buffers(listener: &TcpListener) {
    let bounded = sockopt::set_socket_send_buffer_size(listener, KERNEL_BUFFER)
        .and_then(|()| sockopt::set_socket_recv_buffer_size(listener, KERNEL_BUFFER));
    if let Err(why) = bounded {
        warn!(%why, "the kernel's memory for connections is as the system has it");
    }
}

/// Accepts the next connection, however many accepts fail before it.
async fn next_connection(listeners: &mut ListenerSet, not_before: &mut Option<Instant>) -> (TcpStream, SocketAddr) {
    loop {
        // The time survives cancellation: `select!` drops this future at every other event.
        if let Some(time) = *not_before {
            sleep_until(time).await;
            *not_before = None;
        }
        match listeners.accept().await {
            Ok(accepted) => return accepted,
            Err(why) if is_client_fault(&why) => debug!(%why, "a connection was gone before it was accepted"),
            Err(why) => {
                error!(%why, "can't accept connections");
                *not_before = Some(Instant::now() + ACCEPT_BACKOFF);
            }
        }
    }
}

/// Counts one open connection while it lives.
struct OpenConnectionCount(Arc<TrackerService>);

impl OpenConnectionCount {
    fn new(service: &Arc<TrackerService>) -> Self {
        service.metrics().connections.inc();
        Self(Arc::clone(service))
    }
}

impl Drop for OpenConnectionCount {
    fn drop(&mut self) {
        self.0.metrics().connections.dec();
    }
}

fn is_client_fault(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

fn refuse_connection(mut stream: TcpStream, full: SlotsExhausted, refusals: &mut JoinSet<()>) {
    let line = encode_error(None, &TrackerRefusal::new(TrackerErrorCode::Busy, full.to_string()), Some(BUSY_RETRY_MS));
    // A flood of connections must not hold tasks: most clients get the line from the first write anyway.
    if refusals.len() >= MAX_REFUSALS {
        let _ = stream.try_write(&line);
        return;
    }
    refusals.spawn(async move {
        let refusal = async {
            stream.write_all(&line).await?;
            stream.shutdown().await?;
            let mut rest = [0; 1024];
            // Read to the end: closing a socket with unread bytes sends a reset, which can overtake the line.
            while stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        // A client that doesn't read the line in time is closed without it.
        let _ = timeout(REFUSAL_TIMEOUT, refusal).await;
    });
}

async fn expire_periodically(service: Arc<TrackerService>) {
    let mut ticks = interval(EXPIRE_INTERVAL);
    // After a stall one tick follows, not a burst of them.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due_events = service.watch_due_events();
    loop {
        let due = *due_events.borrow_and_update();
        tokio::select! {
            _ = ticks.tick() => {}
            () = sleep_until(due.unwrap_or_else(std::time::Instant::now).into()), if due.is_some() => {}
            // The sender lives as long as the service, so this never fails.
            Ok(()) = due_events.changed() => continue,
        }
        service.expire();
    }
}

async fn store_periodically(service: Arc<TrackerService>) {
    let mut ticks = interval(STORE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        service.store_presence().await;
    }
}

async fn drain_connections(mut connections: JoinSet<()>) {
    let all = connections.len();
    let gone = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if timeout(SHUTDOWN_TIMEOUT, gone).await.is_err() {
        warn!(cut_off = connections.len(), "some connections did not end in time");
    }
    connections.shutdown().await;
    info!(connections = all, "closed");
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(why) = ended
        && why.is_panic()
    {
        error!(%why, "a task panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_and_one_that_is_done_is_not() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async {});
        let waiting = timeout(Duration::from_millis(1), first_panic(&mut tasks)).await;
        assert!(waiting.is_err() && tasks.is_empty());
        tasks.spawn(async {});
        tasks.spawn(async { panic!("as a bug would") });
        assert!(first_panic(&mut tasks).await.is_panic());
    }
}
