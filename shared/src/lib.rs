//! The vocabulary of Vizinho: what a tracker and its peers say to each other, and the types it is said with.
//!
//! Everything here is pure: bytes and values in, values out. No sockets, files, clocks or async runtime, so each
//! wire format stands beside its golden bytes, round trips and hostile-input properties.
//!
//! * [`names`], [`account_name`], [`fingerprint`], [`content`], [`GroupSet`], [`ZeroRuns`]: types whose only constructor checks.
//! * [`json_scanner`] and [`tracker`]: the tracker's protocol, JSON over TCP or TLS.
//! * [`frame`] and [`peer`]: what peers speak over QUIC streams.
//! * [`safe_text`], [`UntrustedText`]: other people's text, made safe for a terminal.
//! * [`limits`]: every bound, in one place.

#![warn(missing_docs)]

pub mod account_name;
pub mod content;
pub mod fingerprint;
pub mod frame;
mod group_set;
pub mod hex;
pub mod json_scanner;
pub mod limits;
pub mod names;
pub mod peer;
pub mod safe_text;
pub mod tracker;
mod untrusted_text;
mod zero_runs;

pub use account_name::NewUserName;
pub use content::{ContentHash, GroupLayout, Manifest};
pub use fingerprint::Fingerprint;
pub use group_set::GroupSet;
pub use names::{FileName, UserName};
pub use untrusted_text::UntrustedText;
pub use zero_runs::ZeroRuns;
