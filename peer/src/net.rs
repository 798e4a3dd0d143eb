//! The wire: QUIC to other peers, TLS to the tracker.
//!
//! [`endpoint`] owns the UDP socket and the transport's settings; [`link`] is one authenticated connection to a peer,
//! after hello and welcome; [`stream`] carries frames and bulk data on it,
//! [`frame_receiver`] reads what others ask; [`tracker`] is the client of the tracker, and
//! [`discovery`] hears of trackers that nobody named; [`addresses`] puts addresses in the order in which they are tried.
//! Nothing here knows what a file share, a conversation or a terminal is.

pub mod addresses;
pub mod discovery;
pub mod endpoint;
mod error;
pub mod frame_receiver;
mod handshake_places;
pub mod link;
mod moved_callers;
mod narrow;
mod race;
mod socket;
pub mod stream;
pub mod tracker;
mod tracker_address;
mod unanswered;
mod waiting;

pub use error::{LinkError, StreamError, TrackerError};
pub use narrow::NarrowPath;
pub use waiting::{tell_no_tracker_waits, tell_tracker_waits_with};
