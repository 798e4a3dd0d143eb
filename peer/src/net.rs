//! The wire: QUIC to other peers, TLS to the tracker.
//!
//! [`endpoint`] owns the UDP socket and the transport's settings; [`link`] is one authenticated connection to a peer,
//! after hello and welcome; [`stream`] carries frames and bulk data on it,
//! [`frame_receiver`] reads what others ask; [`tracker`] is the client of the tracker, and
//! [`discovery`] hears of trackers that nobody named; [`addresses`] puts addresses in the order in which they are tried.
//! Nothing here knows what a file share, a conversation or a terminal is.

pub mod addresses;
mod amplification_limit;
pub mod discovery;
pub mod endpoint;
pub mod frame_receiver;
mod handshake_slots;
mod happy_eyeballs;
pub mod link;
mod net_error;
mod path_mtu;
pub mod stream;
pub mod tracker;
mod tracker_address;
mod udp_batching;

pub use net_error::{LinkError, StreamError, TrackerError};
pub use path_mtu::PathMtuProblem;
