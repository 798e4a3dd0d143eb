//! Engine of a peer: sharing, serving, fetching and chat, independent of terminals and arguments.
//!
//! Each part reports events or notices, which a view shows. [`node`] is the one process of a profile that is online;
//! [`fetch`] works without it.

pub mod active_conversations;
pub mod background_fetches;
mod bulk_rate;
pub mod chat;
pub mod chat_activity;
pub mod desktop_notifier;
mod disk_error;
pub mod doctor;
pub mod door;
pub mod door_pass;
pub mod dropped_files;
mod error;
pub mod event_bus;
pub mod event_json;
pub mod fair_queue;
mod fair_slots;
pub mod fetch;
pub mod file_offers;
pub mod follow;
pub mod follow_news;
pub mod guest_links;
pub mod listed_files;
mod local_user;
pub mod message_attention;
pub mod message_hook;
mod name_pattern;
pub mod node;
pub mod node_connection;
pub mod node_event;
pub mod node_pool;
mod notice;
pub mod own_rooms;
pub mod own_shares;
mod partial_state;
pub mod peer_lookup;
pub mod private_data;
pub mod progress_publisher;
pub mod progress_throttle;
pub mod receipt_delivery;
pub mod remote_files;
mod room_action_error;
pub mod room_actions;
pub mod room_contacts;
pub mod room_values;
pub mod rooms;
pub mod send_announcement;
pub mod send_intake;
pub mod sends;
pub mod serve;
pub mod share;
pub mod size_format;
pub mod source_words;
pub mod tracker_account;
pub mod tracker_discovery;
pub mod tracker_key;
pub mod tracker_search;
mod unattended_fetch;
pub mod user_lookup;
pub mod wish_fetch;
pub mod wishes;
mod zero_groups;

pub use disk_error::SpaceShortage;
pub use error::{Error, ErrorKind};
pub use local_user::{FollowsHandler, LocalUser, NodeHandlers, SendAcceptHandler, WishFetchHandler};
pub use notice::{Notice, NoticeHandler, PollReason};
pub use room_action_error::RoomActionError;

use std::time::{SystemTime, UNIX_EPOCH};

use localization::{current_language, in_language};

/// Returns milliseconds since 1970 by this machine's clock.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Returns nanoseconds since 1970 by this machine's clock.
pub(crate) fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Returns seconds since 1970 by this machine's clock.
pub fn now_s() -> i64 {
    now_ms() / 1000
}

/// Runs `work` on a thread that may block, in the language of this one; a panic in it becomes [`Error::Internal`].
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let language = current_language();
    tokio::task::spawn_blocking(move || in_language(language, work))
        .await
        .unwrap_or_else(|failure| Err(Error::Internal(failure.to_string())))
}
