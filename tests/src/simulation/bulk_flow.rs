//! One connection that sends without end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::{Identity, ServerPin};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event, ServerConfig,
    StreamEvent, StreamId, TransportConfig, VarInt,
};

use super::FlowPlan;

/// The payload of a packet on an Ethernet, over IPv6.
const PACKET_BYTES: u16 = 1452;
/// As peers send files. A stream may also have only so many gaps.
const STREAM_BYTES: usize = 1 << 20;
/// Packets that are sent in one go, at most.
const MAX_BATCH: usize = 10;

/// An end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FlowEnd {
    Client,
    Server,
}

/// An endpoint with at most one connection.
struct Host {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    peer_address: SocketAddr,
}

/// A client that sends to its server.
pub(super) struct BulkFlow {
    client: Host,
    server: Host,
    /// Taken when the client dials.
    config: Option<ClientConfig>,
    begin: Instant,
    is_connected: bool,
    sending: Option<StreamId>,
    /// Bytes written to `sending`.
    written: usize,
    receiving: Vec<StreamId>,
    received: u64,
}

impl BulkFlow {
    pub(super) fn new(plan: &FlowPlan, number: u8, now: Instant) -> Self {
        let identity = Identity::generate().expect("a key");
        let pin = ServerPin::expecting(identity.fingerprint());
        let server = QuicServerConfig::try_from(certs::peer_server_config(&identity).expect("TLS")).expect("QUIC");
        let client =
            QuicClientConfig::try_from(certs::peer_client_config(&identity, &pin).expect("TLS")).expect("QUIC");
        let transport = Arc::new(transport(plan));
        let (mut server, mut client) =
            (ServerConfig::with_crypto(Arc::new(server)), ClientConfig::new(Arc::new(client)));
        server.transport_config(transport.clone());
        client.transport_config(transport);
        let host = |server, seed, port| Host {
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), server, true, Some([seed; 32])),
            connection: None,
            peer_address: SocketAddr::from(([10, 0, 0, number], port)),
        };
        Self {
            client: host(None, number, 2),
            server: host(Some(Arc::new(server)), number + 128, 1),
            config: Some(client),
            begin: now + plan.begin,
            is_connected: false,
            sending: None,
            written: 0,
            receiving: Vec::new(),
            received: 0,
        }
    }

    /// Returns the bytes that have arrived.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Takes a packet that arrived at one end.
    pub(super) fn receive(&mut self, end: FlowEnd, packet: &[u8], now: Instant) {
        let host = match end {
            FlowEnd::Client => &mut self.client,
            FlowEnd::Server => &mut self.server,
        };
        let mut answer = Vec::new();
        match host.endpoint.handle(now, host.peer_address, None, None, packet.into(), &mut answer) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut host.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                host.connection = host.endpoint.accept(incoming, now, &mut answer, None).ok();
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
    }

    /// Does what is to be done at `now`, and hands over the packets of both ends.
    pub(super) fn work(&mut self, now: Instant, send: &mut impl FnMut(FlowEnd, Vec<u8>)) {
        if now < self.begin {
            return;
        }
        if let Some(config) = self.config.take() {
            let dialled = self.client.endpoint.connect(now, config, self.client.peer_address, "peer");
            self.client.connection = Some(dialled.expect("it dials"));
        }
        self.client.handle_timeout(now);
        self.server.handle_timeout(now);
        self.write();
        self.read();
        self.client.transmit(now, &mut |packet| send(FlowEnd::Client, packet));
        self.server.transmit(now, &mut |packet| send(FlowEnd::Server, packet));
    }

    /// Returns the time at which there is something to do if nothing arrives.
    pub(super) fn next_timeout(&mut self) -> Option<Instant> {
        if self.config.is_some() {
            return Some(self.begin);
        }
        let timeouts = [&mut self.client, &mut self.server].into_iter().filter_map(|host| host.connection.as_mut());
        timeouts.filter_map(|(_, connection)| connection.poll_timeout()).min()
    }

    fn write(&mut self) {
        let Some((_, connection)) = &mut self.client.connection else { return };
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => self.is_connected = true,
                Event::ConnectionLost { reason } => panic!("the connection ended: {reason}"),
                _ => {}
            }
        }
        while self.is_connected {
            let Some(stream) = self.sending.or_else(|| connection.streams().open(Dir::Uni)) else { return };
            self.sending = Some(stream);
            let Ok(count) =
                connection.send_stream(stream).write(&[0; 65_536][..65_536.min(STREAM_BYTES - self.written)])
            else {
                return;
            };
            self.written += count;
            if self.written == STREAM_BYTES {
                connection.send_stream(stream).finish().expect("it is open");
                (self.sending, self.written) = (None, 0);
            }
        }
    }

    fn read(&mut self) {
        let Some((_, connection)) = &mut self.server.connection else { return };
        while let Some(event) = connection.poll() {
            if let Event::Stream(StreamEvent::Opened { .. }) = event {
                self.receiving.extend(std::iter::from_fn(|| connection.streams().accept(Dir::Uni)));
            }
        }
        let received = &mut self.received;
        self.receiving.retain(|stream| {
            let mut stream = connection.recv_stream(*stream);
            let Ok(mut chunks) = stream.read(true) else { return false };
            let is_open = loop {
                match chunks.next(usize::MAX) {
                    Ok(Some(chunk)) => *received += chunk.bytes.len() as u64,
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            // The packets that it asks for are sent with the others.
            let _ = chunks.finalize();
            is_open
        });
    }
}

impl Host {
    fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, connection)) = &mut self.connection
            && connection.poll_timeout().is_some_and(|due| due <= now)
        {
            connection.handle_timeout(now);
        }
    }

    fn transmit(&mut self, now: Instant, send: &mut impl FnMut(Vec<u8>)) {
        let Some((handle, connection)) = &mut self.connection else { return };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        let mut buffer = Vec::new();
        while let Some(transmit) = connection.poll_transmit(now, MAX_BATCH, &mut buffer) {
            let packets = buffer[..transmit.size].chunks(transmit.segment_size.unwrap_or(transmit.size));
            packets.for_each(|packet| send(packet.to_vec()));
            buffer.clear();
        }
    }
}

fn transport(plan: &FlowPlan) -> TransportConfig {
    let mut config = TransportConfig::default();
    let window = VarInt::from_u32(64 << 20);
    config
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(32 << 20)
        .max_concurrent_uni_streams(VarInt::from_u32(256))
        .initial_mtu(PACKET_BYTES)
        .mtu_discovery_config(None)
        .max_idle_timeout(Some(Duration::from_secs(30).try_into().expect("it fits")))
        .packet_threshold(plan.thresholds.0)
        .time_threshold(plan.thresholds.1)
        .congestion_controller_factory(plan.congestion.clone());
    config
}
