//! The network protocols: QUIC to other peers, TLS to the tracker.
//!
//! * [`endpoint`]: the UDP socket and the transport settings, with `udp_batching` and `path_mtu`; `handshake_slots`,
//!   `amplification_limit`, `moved_callers` and `burst_limit` bound what strangers can make it do.
//! * [`link`]: an authenticated connection to a peer, after hello and welcome.
//! * [`stream`]: frames and bulk data on a link; [`frame_receiver`]: incoming requests, with bounded memory.
//! * [`tracker`]: the client of the tracker; [`discovery`]: trackers announced on the local network (mDNS).
//! * [`addresses`]: the addresses to announce, and the order in which a peer's addresses are dialled.
//!
//! Nothing here knows shares, conversations or terminals.

pub mod addresses;
mod amplification_limit;
mod burst_limit;
pub mod discovery;
pub mod endpoint;
pub mod frame_receiver;
mod handshake_slots;
mod happy_eyeballs;
mod ipv4_number;
pub mod link;
mod moved_callers;
mod net_error;
mod path_mtu;
pub mod stream;
pub mod tracker;
mod tracker_address;
mod tracker_reply_buffer;
mod tracker_wait_notice;
mod udp_batching;

pub use net_error::{LinkError, StreamError, TrackerError};
pub use path_mtu::PathMtuProblem;
pub use tracker_wait_notice::{TRACKER_WAIT_NOTIFIER, silence_wait_notice};
