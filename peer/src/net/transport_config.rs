//! The transport settings of QUIC: windows, streams, time-outs, MTU and the congestion controller, for each kind of path.
//!
//! Each setting that differs from quinn's default was measured. Change one only with a new measurement.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::congestion::{LossTolerantCubicConfig, REORDERED_PACKETS, REORDERED_ROUND_TRIPS};
use super::path_mtu::{is_within_machine, udp_overhead};
use crate::sys;

/// Streams that the other side may have open at a time, after and before its identification.
const MAX_STREAMS: u32 = 32;
pub(super) const STRANGER_STREAMS: u32 = 1;
/// Bytes one bulk stream may have in flight towards this side.
pub(super) const STREAM_WINDOW: u32 = 3 << 20;
/// The smallest useful stream window; less starves a stream even on a slow network.
pub(super) const MIN_STREAM_WINDOW: u32 = 64 * 1024;
/// Bytes all streams of a link may have in flight towards this side. More than all bulk streams together, so that a
/// full bulk stream can't block a chat message.
const LINK_WINDOW: u32 = 24 << 20;
/// Bytes in flight towards a node, per stream and per link: a node receives requests and messages, never bulk data.
pub(super) const NODE_STREAM_WINDOW: u32 = 64 * 1024;
pub(super) const NODE_LINK_WINDOW: u32 = 256 * 1024;
/// Bytes in flight towards a node per link, if there are very many links.
const CROWDED_LINK_WINDOW: u32 = 64 * 1024;
/// Bytes in flight from a caller before its identification; enough for a hello.
pub(super) const STRANGER_WINDOW: u32 = 8 * 1024;
/// Bytes kept for retransmission until they are acked.
const SEND_WINDOW: u64 = 8 << 20;
/// The same at first, until something was taken.
pub const FIRST_SEND_WINDOW: u64 = 128 * 1024;
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
pub(super) const DIALER_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// The UDP payload on loopback; two packets make one segmented send of 64 kB.
const LOOPBACK_PAYLOAD: u16 = 32_000;
const INITIAL_WINDOW: u64 = 256 * 1024;

/// The bytes that a link may have in flight, in either direction, while its bulk data is throttled.
#[derive(Debug, Default)]
pub(super) struct BulkWindow(AtomicU32);

impl BulkWindow {
    /// Sets the bytes; with `None` the link isn't throttled.
    pub(super) fn set(&self, window: Option<u32>) {
        // 0 stands for no throttle: a window of nothing would be of no use.
        self.0.store(window.unwrap_or(0), Ordering::Relaxed);
    }

    /// Returns the window towards a side that takes bulk data.
    pub(super) fn receive_window(&self) -> u32 {
        self.get().unwrap_or(LINK_WINDOW)
    }

    /// Returns the bytes that are kept until they are acknowledged.
    pub(super) fn send_window(&self) -> u64 {
        self.get().map_or(SEND_WINDOW, u64::from)
    }

    fn get(&self) -> Option<u32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }
}

/// Raises the limits of an identified caller to those of a link; less if there are very many links.
pub(super) fn raise_caller_limits(connection: &quinn::Connection, is_crowded: bool) {
    let window = if is_crowded { CROWDED_LINK_WINDOW } else { NODE_LINK_WINDOW };
    connection.set_receive_window(window.into());
    connection.set_max_concurrent_bi_streams(MAX_STREAMS.into());
}

/// Returns the settings for a path to `remote`.
pub(super) fn transport_config(remote: Option<SocketAddr>) -> TransportConfig {
    let mut config = TransportConfig::default();
    // Unidirectional streams and datagrams are not part of the protocol, so the other side can't use any.
    config
        .max_concurrent_bidi_streams(MAX_STREAMS.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(LINK_WINDOW.into())
        .send_window(FIRST_SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        // Three keep-alives fit into the idle time-out, so two lost ones end no link.
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL));
    config.congestion_controller_factory(Arc::new(LossTolerantCubicConfig { initial_window: INITIAL_WINDOW }));
    match remote.map(|remote| path_kind(remote.ip())) {
        Some(PathKind::Loopback) => {
            // Loopback takes packets of any size, so nothing needs to be discovered.
            config.initial_mtu(LOOPBACK_PAYLOAD).mtu_discovery_config(None);
            // Nothing is lost by chance, and round trips are too short and uneven for a model of the path.
            let mut cubic = quinn::congestion::CubicConfig::default();
            cubic.initial_window(INITIAL_WINDOW);
            config.congestion_controller_factory(Arc::new(cubic));
        }
        Some(PathKind::Network { udp_payload }) => {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(udp_payload);
            config.mtu_discovery_config(Some(discovery));
            config.packet_threshold(REORDERED_PACKETS).time_threshold(REORDERED_ROUND_TRIPS);
        }
        // The endpoint's default, which `accept` replaces for each caller.
        None => {}
    }
    config
}

enum PathKind {
    Loopback,
    Network { udp_payload: u16 },
}

fn path_kind(ip: IpAddr) -> PathKind {
    const ETHERNET: u32 = 1500;
    let ip = ip.to_canonical();
    let mtu = sys::route_mtu(ip).unwrap_or(ETHERNET);
    if is_within_machine(ip, mtu) {
        return PathKind::Loopback;
    }
    // QUIC requires 1,200 bytes; narrower paths are reported by `path_mtu`.
    PathKind::Network { udp_payload: u16::try_from(mtu.saturating_sub(udp_overhead(ip))).unwrap_or(u16::MAX).max(1200) }
}
