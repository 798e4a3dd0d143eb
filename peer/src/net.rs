//! The network protocols: QUIC to other peers, TLS to the tracker.
//!
//! * [`endpoint`]: the UDP socket, with `udp_batching` and `driver_threads`; `handshake_slots`, `amplification_limit`,
//!   `moved_callers` and `burst_limit` bound what strangers can make it do.
//! * `transport_config`: windows, time-outs, MTU and congestion controller of each kind of path, with [`congestion`] and
//!   `path_mtu`.
//! * [`link`]: an authenticated connection to a peer, after hello and welcome.
//! * [`stream`]: frames and bulk data on a link; [`frame_receiver`]: incoming requests, with bounded memory.
//! * [`tracker`]: the client of the tracker, over TLS; [`discovery`]: trackers announced on the local network (mDNS).
//! * [`port_probe`], [`path_measurement`], [`socket_abilities`]: looks at the way to a machine, for the doctor, by
//!   `datagram_probe`.
//! * [`addresses`]: the addresses to announce, and the order in which a peer's addresses are dialled.
//!
//! Nothing here knows shares, conversations or terminals.

pub mod addresses;
mod amplification_limit;
mod avoided_addresses;
mod burst_limit;
pub mod congestion;
mod datagram_probe;
pub mod discovery;
mod driver_threads;
pub mod endpoint;
pub mod frame_receiver;
mod handshake_slots;
mod happy_eyeballs;
pub mod link;
mod moved_callers;
mod net_error;
pub mod path_measurement;
mod path_mtu;
pub mod port_probe;
pub mod socket_abilities;
pub mod stream;
pub mod tracker;
mod transport_config;
mod udp_batching;

pub use avoided_addresses::AvoidedAddresses;
pub use driver_threads::threads_for_this_machine;
pub use net_error::{LinkError, StreamError, TrackerError};
pub use path_mtu::{PathMtuProblem, is_within_machine, needed_mtu, udp_overhead};
pub use tracker::{TRACKER_WAIT_NOTIFIER, silence_wait_notice};
