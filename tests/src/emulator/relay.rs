//! Two paths and the sockets at their ends.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::{Counts, Path, Weather};

/// What a burst of a fast sender needs; the system may give less.
const RECEIVE_BUFFER: usize = 4 << 20;
const LONGEST_DATAGRAM: usize = 65_536;

/// A relay before one peer, reached by any number of others; gone when it is dropped.
pub struct Relay {
    runtime: Option<Runtime>,
    port: u16,
    shared: Arc<Shared>,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the callers to the peer.
    Up,
    /// From the peer to its callers.
    Down,
}

/// A datagram that went to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// When.
    pub at: Instant,
    /// To whom.
    pub to: SocketAddr,
    /// Its length.
    pub bytes: usize,
}

struct Shared {
    front: UdpSocket,
    state: Mutex<State>,
    /// Told when a path's next arrival may be sooner than it was.
    changed: Notify,
}

struct State {
    up: Path<SocketAddr>,
    down: Path<SocketAddr>,
    /// Where the peer is, once that is known.
    peer: Option<SocketAddr>,
    callers: HashMap<SocketAddr, Caller>,
    /// What went to the callers.
    delivered: Vec<Passed>,
}

/// A caller, and the socket from which the peer hears it.
struct Caller {
    socket: Arc<UdpSocket>,
    listener: AbortHandle,
    traffic: Arc<Traffic>,
}

/// Bytes of datagrams that came to a socket, whatever became of them.
#[derive(Default)]
struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
}

/// A datagram that is due, and where it goes out.
struct Due {
    from: Option<Arc<UdpSocket>>,
    to: SocketAddr,
    datagram: Vec<u8>,
}

impl Relay {
    /// Opens a port on loopback with this weather in both directions.
    ///
    /// # Panics
    /// When there is no socket to be had.
    pub fn open(weather: &Weather, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let front = {
            let _inside = runtime.enter();
            open_socket().unwrap()
        };
        let port = front.local_addr().unwrap().port();
        let state = State {
            up: Path::new(weather.clone(), seed),
            down: Path::new(weather.clone(), seed.wrapping_add(1)),
            peer: None,
            callers: HashMap::new(),
            delivered: Vec::new(),
        };
        let shared = Arc::new(Shared { front, state: Mutex::new(state), changed: Notify::new() });
        runtime.spawn(hear_callers(shared.clone()));
        runtime.spawn(keep_time(shared.clone()));
        Self { runtime: Some(runtime), port, shared }
    }

    /// The port that callers dial.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Everything goes to the peer at this port of loopback from now on.
    pub fn lead_to(&self, port: u16) {
        self.shared.state().peer = Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
    }

    /// Changes the weather of one direction.
    pub fn change(&self, way: Way, change: impl FnOnce(&mut Weather)) {
        let mut state = self.shared.state();
        change(match way {
            Way::Up => state.up.weather_mut(),
            Way::Down => state.down.weather_mut(),
        });
    }

    /// Changes the weather of both directions.
    pub fn change_both(&self, change: impl Fn(&mut Weather)) {
        self.change(Way::Up, &change);
        self.change(Way::Down, change);
    }

    /// Gives each caller another port towards the peer, as a router does that forgot them: the peer hears them from
    /// there, and what it still sends to the old ports is lost.
    ///
    /// # Panics
    /// When there is no socket to be had.
    pub fn move_callers(&self) {
        let _inside = self.runtime.as_ref().expect("until it is dropped").enter();
        let mut state = self.shared.state();
        for (address, caller) in &mut state.callers {
            caller.listener.abort();
            *caller = Caller::new(&self.shared, *address).unwrap();
        }
    }

    /// What became of the datagrams of one direction.
    pub fn counts(&self, way: Way) -> Counts {
        let state = self.shared.state();
        match way {
            Way::Up => state.up.counts(),
            Way::Down => state.down.counts(),
        }
    }

    /// How many bytes came from the callers since they have their ports, and how many came for them at these.
    pub fn bytes_at_ports(&self) -> (u64, u64) {
        let state = self.shared.state();
        let of_caller =
            |caller: &Caller| (caller.traffic.up.load(Ordering::Relaxed), caller.traffic.down.load(Ordering::Relaxed));
        state.callers.values().map(of_caller).fold((0, 0), |sum, of_caller| (sum.0 + of_caller.0, sum.1 + of_caller.1))
    }

    /// Everything that went to the callers.
    pub fn delivered(&self) -> Vec<Passed> {
        self.shared.state().delivered.clone()
    }

    /// How many bytes went to the callers.
    pub fn bytes_delivered(&self) -> usize {
        self.shared.state().delivered.iter().map(|passed| passed.bytes).sum()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_due(&self, now: Instant) -> (Vec<Due>, Option<Instant>) {
        let mut state = self.state();
        let mut due = Vec::new();
        while let Some((from, datagram)) = state.up.arrived(now) {
            if let (Some(caller), Some(to)) = (state.callers.get(&from), state.peer) {
                due.push(Due { from: Some(caller.socket.clone()), to, datagram });
            }
        }
        while let Some((to, datagram)) = state.down.arrived(now) {
            state.delivered.push(Passed { at: now, to, bytes: datagram.len() });
            due.push(Due { from: None, to, datagram });
        }
        let next = [state.up.next_arrival(), state.down.next_arrival()].into_iter().flatten().min();
        (due, next)
    }
}

impl Caller {
    fn new(shared: &Arc<Shared>, address: SocketAddr) -> std::io::Result<Self> {
        let socket = Arc::new(open_socket()?);
        let traffic = Arc::<Traffic>::default();
        let hearing = hear_peer(shared.clone(), socket.clone(), address, traffic.clone());
        let listener = tokio::runtime::Handle::current().spawn(hearing).abort_handle();
        Ok(Self { socket, listener, traffic })
    }
}

async fn hear_callers(shared: Arc<Shared>) {
    let mut buffer = vec![0; LONGEST_DATAGRAM];
    loop {
        // What the system tells of ports that are closed is nobody's business here.
        let Ok((len, from)) = shared.front.recv_from(&mut buffer).await else { continue };
        {
            let mut state = shared.state();
            if let Entry::Vacant(place) = state.callers.entry(from) {
                let Ok(caller) = Caller::new(&shared, from) else { continue };
                place.insert(caller);
            }
            if let Some(caller) = state.callers.get(&from) {
                caller.traffic.up.fetch_add(len as u64, Ordering::Relaxed);
            }
            state.up.send(Instant::now(), from, buffer[..len].to_vec());
        }
        shared.changed.notify_one();
    }
}

async fn hear_peer(shared: Arc<Shared>, socket: Arc<UdpSocket>, caller: SocketAddr, traffic: Arc<Traffic>) {
    let mut buffer = vec![0; LONGEST_DATAGRAM];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
        {
            let mut state = shared.state();
            if state.peer != Some(from) {
                continue;
            }
            traffic.down.fetch_add(len as u64, Ordering::Relaxed);
            state.down.send(Instant::now(), caller, buffer[..len].to_vec());
        }
        shared.changed.notify_one();
    }
}

async fn keep_time(shared: Arc<Shared>) {
    loop {
        let (due, next) = shared.take_due(Instant::now());
        for Due { from, to, datagram } in due {
            // A datagram that can't be sent is one more that is lost.
            let _ = from.as_deref().unwrap_or(&shared.front).send_to(&datagram, to).await;
        }
        match next {
            Some(next) => tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = shared.changed.notified() => {}
            },
            None => shared.changed.notified().await,
        }
    }
}

fn open_socket() -> std::io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0))?;
    socket.set_nonblocking(true)?;
    set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
    UdpSocket::from_std(socket)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as StdSocket;
    use std::time::Duration;

    use super::*;

    fn socket() -> StdSocket {
        let socket = StdSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(crate::PATIENCE)).unwrap();
        socket
    }

    fn receive(socket: &StdSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 100];
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        (buffer[..len].to_vec(), from)
    }

    #[test]
    fn callers_are_told_apart_and_answered() {
        let (peer, alice, carol) = (socket(), socket(), socket());
        let relay = Relay::open(&Weather::delayed(Duration::from_millis(5)), 1);
        relay.lead_to(peer.local_addr().unwrap().port());
        let front = ("127.0.0.1", relay.port());
        let begun = Instant::now();
        alice.send_to(b"from alice", front).unwrap();
        let (said, alices) = receive(&peer);
        assert_eq!(said, b"from alice");
        carol.send_to(b"from carol", front).unwrap();
        let (said, carols) = receive(&peer);
        assert_eq!(said, b"from carol");
        assert_ne!(alices, carols);
        peer.send_to(b"to alice", alices).unwrap();
        peer.send_to(b"to carol", carols).unwrap();
        assert_eq!(receive(&alice).0, b"to alice");
        assert_eq!(receive(&carol).0, b"to carol");
        assert!(begun.elapsed() >= Duration::from_millis(15));
        assert_eq!((relay.counts(Way::Up).delivered, relay.bytes_delivered()), (2, 16));
    }

    #[test]
    fn moved_callers_come_from_elsewhere() {
        let (peer, alice) = (socket(), socket());
        let relay = Relay::open(&Weather::default(), 1);
        relay.lead_to(peer.local_addr().unwrap().port());
        let front = ("127.0.0.1", relay.port());
        alice.send_to(b"one", front).unwrap();
        let (_, before) = receive(&peer);
        relay.move_callers();
        alice.send_to(b"two", front).unwrap();
        let (said, after) = receive(&peer);
        assert_eq!(said, b"two");
        assert_ne!(before, after);
        peer.send_to(b"lost", before).unwrap();
        peer.send_to(b"heard", after).unwrap();
        assert_eq!(receive(&alice).0, b"heard");
    }
}
