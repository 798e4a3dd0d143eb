//! Bounds of both protocols. Sizes are in bytes unless the name says otherwise.

use std::time::Duration;

/// Port of a tracker, unless configured otherwise.
pub const TRACKER_PORT: u16 = 8000;

/// Longest user name.
pub const MAX_USER_NAME_BYTES: usize = 32;
/// Longest password.
pub const MAX_PASSWORD_BYTES: usize = 1024;
/// Longest component of a file name: the limit of most file systems (`NAME_MAX`).
pub const MAX_FILE_NAME_COMPONENT_BYTES: usize = 255;
/// Longest file name, with all components and slashes.
pub const MAX_FILE_NAME_BYTES: usize = 1024;
/// Longest hash text in the tracker's catalogue, in characters.
pub const MAX_HASH_TEXT_CHARS: usize = 128;
/// Largest file: 2^53 - 1, the largest integer that every JSON reader holds exactly (RFC 8259, section 6).
pub const MAX_FILE_SIZE: u64 = (1 << 53) - 1;
/// Most files that one user may share.
pub const MAX_FILES_PER_USER: usize = 100_000;
/// Most words in one search.
pub const MAX_FIND_WORDS: usize = 16;
/// Most addresses that one user may announce, apart from the observed one.
pub const MAX_ADDRESSES_PER_USER: usize = 8;

/// Largest tracker request before a login on its connection.
pub const MAX_REQUEST_BYTES_BEFORE_LOGIN: usize = 16 * 1024;
/// Largest tracker request after a login on its connection.
pub const MAX_REQUEST_BYTES_AFTER_LOGIN: usize = 16 * 1024 * 1024;
/// Longest reply to a client of the exercise, line end included. Such a client reads at most 4,096 bytes at once.
pub const MAX_PLAIN_REPLY_BYTES: usize = 4095;
/// Deepest nesting of objects and arrays in a tracker request.
pub const MAX_REQUEST_DEPTH: usize = 16;
/// Longest reply that a peer accepts from a tracker: a page of about 256 KiB and one more entry with 1,000 files.
pub const MAX_REPLY_BYTES: usize = 4 * 1024 * 1024;
/// Longest reply with all files of one user, which has no pages.
pub const MAX_CATALOGUE_REPLY_BYTES: usize = 32 * 1024 * 1024;
/// Most users in one reply that a peer accepts.
pub const MAX_USERS_PER_REPLY: usize = 10_000;

/// Lowest UDP port at which peers are dialled. Ports below it belong to system services, which an announced address
/// must not reach.
pub const MIN_PEER_PORT: u16 = 1024;
/// Longest `for` of `FORWARDED`, by which a door names a person.
pub const MAX_FORWARDED_FOR_BYTES: usize = 128;

/// Interval at which a node renews its lease.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// Time for which presence lasts without a heartbeat: three times [`HEARTBEAT_INTERVAL`], so a late one doesn't end it.
pub const LEASE_DURATION: Duration = Duration::from_secs(90);
/// Time for which presence lasts after its connection closed.
pub const LEASE_AFTER_DISCONNECT: Duration = Duration::from_secs(10);
/// Time for which a client of the exercise stays present without a request. Such clients send no heartbeats.
pub const LEGACY_LEASE_DURATION: Duration = Duration::from_secs(3600);

/// Largest JSON frame between peers.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Longest text of a chat message.
pub const MAX_CHAT_TEXT_BYTES: usize = 16 * 1024;
/// Most messages that wait for one recipient, and most unread messages from one sender.
pub const MAX_MESSAGES_PER_USER: usize = 10_000;
/// Most bytes of unread text from one sender.
pub const MAX_UNREAD_BYTES_PER_USER: usize = 16 * 1024 * 1024;
/// Most messages kept from one stranger.
pub const MAX_MESSAGES_PER_STRANGER: usize = 100;
/// Most bytes kept from one stranger, each message counted with [`MESSAGE_OVERHEAD_BYTES`].
pub const MAX_BYTES_PER_STRANGER: usize = 1024 * 1024;
/// Most bytes kept from all strangers together.
pub const MAX_BYTES_OF_STRANGERS: usize = 16 * 1024 * 1024;
/// Part of [`MAX_BYTES_OF_STRANGERS`] that is reserved for strangers with at most [`MAX_FIRST_CONTACT_BYTES`], so that
/// a few others can't keep a new one out.
pub const FIRST_CONTACT_RESERVE_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes kept from one stranger out of [`FIRST_CONTACT_RESERVE_BYTES`].
pub const MAX_FIRST_CONTACT_BYTES: usize = 4 * 1024;
/// Disk space charged for a stranger's message in addition to its text and its offer: the row and its indexes.
pub const MESSAGE_OVERHEAD_BYTES: usize = 1024;
/// Longest topic of a room.
pub const MAX_ROOM_TOPIC_BYTES: usize = 512;
/// Most rooms in one reply of a tracker.
pub const MAX_ROOMS_PER_REPLY: usize = 100;
/// Most membership records in one reply of a tracker.
pub const MAX_ROOM_RECORDS_PER_REPLY: usize = 256;
/// Longest agent text in a hello.
pub const MAX_AGENT_BYTES: usize = 128;
/// Most ranges in one `get`.
pub const MAX_RANGES_PER_GET: usize = 256;

/// Most zero runs in a file's manifest reply: they take about half a frame.
pub const MAX_ZERO_RUNS: usize = 2048;

/// Smallest size of a file's groups, the last one apart.
pub const MIN_GROUP_BYTES: u64 = 1024 * 1024;
/// Most groups of a file. It keeps the manifest within 1 MiB.
pub const MAX_GROUPS_PER_FILE: u64 = 32_768;
