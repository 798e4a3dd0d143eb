//! What a peer does: sharing, serving, fetching and talking, free of terminals and arguments.
//!
//! Each part reports what happens as events or notices; a view shows them. [`node`] is the one running process of a
//! profile that is online; [`fetch`] needs none.

pub mod account;
pub mod active_conversations;
pub mod amount;
pub mod browse;
pub mod chat;
pub mod contacts;
mod disk_error;
mod error;
pub mod event;
mod fair_places;
pub mod fair_queue;
pub mod fetch;
pub mod hook;
mod me;
pub mod neighbourhood;
pub mod node;
mod notice;
pub mod offers;
mod part_state;
pub mod private_data;
pub mod rate;
pub mod search;
pub mod serve;
pub mod share;
mod shell_words;
pub mod talk;
pub mod tracker_key;
pub mod transfers;
mod zeros;

pub use disk_error::Shortage;
pub use error::{Error, ErrorKind};
pub use me::Me;
pub use notice::{Notice, Notify};
pub use shell_words::words;

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by this machine's clock.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Nanoseconds since 1970 by this machine's clock.
pub(crate) fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Seconds since 1970 by this machine's clock.
pub fn now_s() -> i64 {
    now_ms() / 1000
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|failure| Err(Error::Internal(failure.to_string())))
}
