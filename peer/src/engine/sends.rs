//! Sends: files that one user wants another, or the members of a room, to have.
//!
//! ```text
//! sender                                        receiver
//! hashed, shared with the receiver alone
//! stored as `waiting` ── message {send} ──────► stored as waiting; told to the user, or accepted by a rule
//!                     ◄── files, get ────────── fetched: exactly what was announced
//! done, shares gone   ◄── receipt {done} ────── receipt stored with the last file in its place, sent until it is taken
//! ```
//!
//! [`accept_policy`] decides, and has no clock, disk or network of its own. The receiver's side is
//! [`send_intake`](super::send_intake).

pub mod accept_policy;
mod auto_accept_outcome;
mod receipts;
mod send_batch;
mod send_creation;

pub use auto_accept_outcome::AutoAcceptOutcome;
pub use receipts::{ReceiptRecord, record_receipt};
pub use send_batch::begin_sends;
pub use send_creation::{BegunSend, SendRequest, begin_send, clear_settled_sends, end_send, send_copy_path};
