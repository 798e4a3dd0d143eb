//! Every bound of both protocols, in one place. Sizes are bytes, times are as their names say.

use std::time::Duration;

/// The port a tracker listens on unless told otherwise.
pub const TRACKER_PORT: u16 = 8000;

/// Longest user name.
pub const MAX_USER_NAME_BYTES: usize = 32;
/// Longest password.
pub const MAX_PASSWORD_BYTES: usize = 1024;
/// Longest component of a file name.
pub const MAX_FILE_NAME_COMPONENT_BYTES: usize = 255;
/// Longest file name, all components and slashes.
pub const MAX_FILE_NAME_BYTES: usize = 1024;
/// Longest hash text the tracker's catalogue takes, in characters.
pub const MAX_HASH_TEXT_CHARS: usize = 128;
/// Largest file: what a JSON number holds exactly everywhere, 2^53 - 1.
pub const MAX_FILE_SIZE: u64 = (1 << 53) - 1;
/// Most files a user may share.
pub const MAX_FILES_PER_USER: usize = 100_000;
/// Most words to find a file by.
pub const MAX_FIND_WORDS: usize = 16;
/// Most further addresses a user may announce.
pub const MAX_ADDRESSES_PER_USER: usize = 8;

/// Largest tracker request before a login on that connection.
pub const MAX_REQUEST_BYTES_BEFORE_LOGIN: usize = 16 * 1024;
/// Largest tracker request after a login on that connection.
pub const MAX_REQUEST_BYTES_AFTER_LOGIN: usize = 16 * 1024 * 1024;
/// Longest reply to a client of the exercise, line end included: it reads 4,096 bytes at once.
pub const MAX_PLAIN_REPLY_BYTES: usize = 4095;
/// Deepest nesting of a tracker request.
pub const MAX_REQUEST_DEPTH: usize = 16;
/// Largest line a peer takes from a tracker: every user's full catalogue would be far below it.
pub const MAX_REPLY_BYTES: usize = 256 * 1024 * 1024;

/// First UDP port at which peers are dialled: those below belong to services of their machines.
pub const MIN_PEER_PORT: u16 = 1024;
/// Longest text by which a door calls a person.
pub const MAX_FORWARDED_FOR_BYTES: usize = 128;

/// How often a peer tells the tracker that it is still there.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// How long presence lasts without a word from the peer.
pub const LEASE_DURATION: Duration = Duration::from_secs(90);
/// How long presence outlives a dropped connection.
pub const LEASE_AFTER_DISCONNECT: Duration = Duration::from_secs(10);
/// How long a client of the original exercise stays present without a request.
pub const LEGACY_LEASE_DURATION: Duration = Duration::from_secs(3600);

/// Largest JSON frame between peers.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Longest chat text.
pub const MAX_CHAT_TEXT_BYTES: usize = 16 * 1024;
/// Most messages that wait for one person, and most unread ones from one person.
pub const MAX_MESSAGES_PER_USER: usize = 10_000;
/// Most bytes of text that are unread from one person.
pub const MAX_UNREAD_BYTES_PER_USER: usize = 16 * 1024 * 1024;
/// Most messages that are kept of somebody whom the user neither wrote to nor accepted.
pub const MAX_MESSAGES_PER_STRANGER: usize = 100;
/// Most bytes of them, each with [`MESSAGE_OVERHEAD_BYTES`].
pub const MAX_BYTES_PER_STRANGER: usize = 1024 * 1024;
/// Most bytes that are kept of all such people together.
pub const MAX_BYTES_OF_STRANGERS: usize = 16 * 1024 * 1024;
/// Part of that which is left for those of whom next to nothing is kept.
pub const FIRST_CONTACT_RESERVE_BYTES: usize = 4 * 1024 * 1024;
/// What may be kept of one of these.
pub const MAX_FIRST_CONTACT_BYTES: usize = 4 * 1024;
/// What a message of such a person takes on the disk besides its text and its offer, with its indexes.
pub const MESSAGE_OVERHEAD_BYTES: usize = 1024;
/// Longest agent text in a hello.
pub const MAX_AGENT_BYTES: usize = 128;
/// Most ranges one `get` may ask for.
pub const MAX_RANGES_PER_GET: usize = 256;

/// Most runs of zeros that a file's manifest tells of: about half a frame.
pub const MAX_ZERO_RUNS: usize = 2048;

/// Smallest group of a file.
pub const MIN_GROUP_BYTES: u64 = 1024 * 1024;
/// Most groups of a file: the manifest stays at or under 1 MiB.
pub const MAX_GROUPS_PER_FILE: u64 = 32_768;
