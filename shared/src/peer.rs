//! The protocol between peers over QUIC, ALPN [`ALPN`].
//!
//! Both sides present a certificate of the kind that the tracker accepts (see "Certificates" in [`crate::tracker`]:
//! dates are ignored). Each side checks the other's fingerprint before it reads anything described here. Every stream
//! is bidirectional and is opened by the side that wants something, which also speaks first. JSON travels in
//! [`crate::frame`]s with the tag `t`; unknown tags and fields are tolerated. Bulk data is raw bytes after a frame that
//! gives their number. A sender that fails resets its stream with a [`PeerErrorCode`], so a clean end always means
//! complete.
//!
//! ```text
//! dialer                                    acceptor
//!   │  1st stream: hello {user, agent, capabilities} ─────►│ within 5 s; before anything else
//!   │◄───────────────── welcome {user, agent, capabilities}│ or error {code, message}, then close
//!   │                                                      │
//!   │  either side opens, any number of times:             │
//!   │  files {prefix?, cursor?, room?} ──► file_list {files, next?}
//!   │  folders {prefix?, cursor?, room?} ─► folder_list {folders, next?}   the empty folders
//!   │  folder_times {prefix?, cursor?, room?} ─► folder_times {folders, next?}   of all folders, {name, mtime, mtime_ns?} each
//!   │  stat {name, room?}       ──► stat {name, size, hash, group_size, mtime, mtime_ns?, executable?, owner_only?, restricted?, partial?, stale?, zero_bytes?}
//!   │  manifest {hash}          ──► manifest {hash, size, group_size, groups, zeros?} + 32 bytes per group
//!   │  have {hash}              ──► have {hash, groups} + one bit per group: 1 if this side has it
//!   │  get {hash, ranges, name?} ─► data {bytes} + that many bytes: the groups, in the order asked for
//!   │  probe {port}             ──► probe {ip, port, answered, ms?}
//!   │  chat {}                  ──► (nothing) then message {id, ts, text, offer?, send?} / typing {} one way,
//!   │                               ack {id} / refused {id, code, message} the other
//!   │  receipt {id?, room?, hash, outcome} ──► receipt_stored {}
//!   │  removed {names}          ──► removed_list {names}   those of them that were shared and removed
//!   │  changes {}               ──► changed {mark}, again at each change
//!   │  room {id}                ──► see [`room_frames`]
//! ```
//!
//! A `hello` has at most 1,024 bytes, and the dialer may have no second stream before the `welcome`. From its first
//! packet the dialer has five seconds to be identified. The acceptor may delay it, or refuse it with
//! [`PeerErrorCode::Busy`], either in an `error` frame or by closing the link: both mean the same. A link without
//! requests may be closed with [`PeerErrorCode::Busy`] when others need its slot. A frame that has begun must be
//! complete within ten seconds.
//!
//! An acceptor opens streams on a link only if the dialer lists [`ANSWERS_CAPABILITY`]: without it the dialer gets no
//! messages, and nobody pulls what it has of a room. Unknown capabilities are ignored. Each side may have 32 streams open
//! at a time. A link over which nothing came for ten seconds is lost, so a side that waits keeps it alive.
//!
//! The code of an `error` to a `hello` tells whether the dialer may try again. [`PeerErrorCode::Unauthorised`] means
//! "never": the dialer is blocked, or its key belongs to no user. [`PeerErrorCode::Replaced`] means "not now": the
//! acceptor knows another key of that user and doesn't trust this one yet. All other codes mean "not now" as well. A
//! link is closed with [`PeerErrorCode::Replaced`] when its key is no longer the key of its user.
//!
//! On a stream of `files`, `folders`, `folder_times`, `stat`, `manifest`, `have`, `get` and `probe`, the opener may send
//! requests without waiting for replies. Replies come in the order of the requests, and the opener finishes its side
//! after the last request. Any request may be answered by `error {code, message}`, which doesn't affect later requests.
//! A failure in the middle of raw bytes resets the stream.
//!
//! A group is sent exactly as it was hashed, or not at all, although a file may change during a fetch. At the first
//! group that changed, the `get` is answered by `error` with [`PeerErrorCode::Stale`], or its stream is reset with that
//! code if data was sent before. Unchanged groups are still sent, for example when the file only grew. A `stat` is
//! answered by `error` with [`PeerErrorCode::Stale`] until the file is hashed again. A repeated `stat` then describes
//! the version that was hashed since the first one, even if a newer one exists. A version that was described stays
//! available as long as its bytes exist. In the same places, [`PeerErrorCode::Internal`] says that the file can't be
//! read, which doesn't mean that it changed, and [`PeerErrorCode::Busy`] that it can't be opened now.
//!
//! A peer may also share a file that it is still fetching. The `stat` of such a file has `partial`, and `have` tells
//! which groups are available (as a [`crate::GroupSet`]). Their number grows from one `have` to the next; a `get` of
//! other groups is answered by `error` with [`PeerErrorCode::NotFound`]. A peer that doesn't know `have` shares
//! complete files only.
//!
//! A file is requested by its content hash, which several files may have. If the other side lists
//! [`GET_NAMES_CAPABILITY`] among its capabilities, `get` also has the name under which the file is wanted. The other
//! side tries that file first and reports that name to its user. The content is available whether or not the name
//! exists.
//!
//! A file that changed since it was hashed is listed as it was, with `stale`. It is being hashed again, and until that
//! is done its `stat` is answered by `error` with [`PeerErrorCode::Stale`].
//!
//! A page of `file_list` may end before it is full; `next` is then the name examined last. To a peer that lists
//! [`EMPTY_PAGES_CAPABILITY`], such a page may have no files: the shared files at this place are gone from the disk,
//! and more follow.
//!
//! To a peer that lists [`ZEROS_CAPABILITY`] in its `hello` or `welcome`, `manifest` tells which groups consist of
//! zeros, as half-open sorted ranges ([`crate::ZeroRuns`]), and `stat` and `file_list` tell how many bytes they have.
//! The receiver verifies the claim against the manifest ([`crate::GroupLayout::zero_chaining_value`]) and needs neither to
//! `get` nor to store these groups. A claimed group without the chaining value of zeros counts as any other false data.
//!
//! To a peer that lists [`OWNER_ONLY_CAPABILITY`], `stat` and `file_list` tell by `owner_only` that on the sharing
//! machine only the owner may read the file. The receiver creates its file with the same restriction before it writes
//! the first byte.
//!
//! An invalid entry of a list, such as one with an invalid name, is invalid by itself: the other entries of the page
//! are used.
//!
//! A peer that lists [`RAW_NAMES_CAPABILITY`] encodes file names that can't be sent as they are
//! ([`crate::names::name_encoding`]). A receiver that knows the encoding writes such a file under the decoded bytes,
//! where its file system accepts them; to any other receiver they are ordinary names. Names from a peer that doesn't
//! list the capability are never decoded.
//!
//! `ack` is sent after the message was stored. A message may arrive twice, if its sender didn't see the ack; the
//! receiver recognizes it by its id. Messages may follow each other without waiting for acks. A sender begins every
//! stream with its oldest message that was not acked and leaves none out, so new messages arrive in their author's
//! order even if streams or links fail. `refused` with [`PeerErrorCode::Busy`], [`PeerErrorCode::Internal`] or
//! [`PeerErrorCode::ShuttingDown`] means "not now": the receiver accepts nothing more on that stream, and the sender
//! tries again later. Any other code means "never".
//!
//! `offer {name, size, hash}` in a message says that its receiver may `get` that file. The file occurs in replies to
//! the receiver's `files`, `stat`, `manifest` and `get`, and in no replies to others. The message's text mentions the
//! file as well, for older peers.
//!
//! `send {name, kind, files, size, hash}` in a message says that its author sends the receiver a file, or all files of a
//! folder, and waits to hear what becomes of it. The receiver may `get` them until then, as with an offer; a sent file is
//! also the message's `offer`, a sent folder never is one. `hash` is the content hash of a file, the [`folder_hash`] of a
//! folder: a receiver that takes a send unasked takes exactly these names with exactly these contents, or nothing. A
//! `send` that is invalid, or of a kind that isn't known, is none: the message remains.
//!
//! To a peer that lists [`RECEIPTS_CAPABILITY`], the receiver tells by `receipt` that it has all of it (`done`) or doesn't
//! want it (`declined`), with the message's id and the hash that the message had. It stores the receipt before, and sends
//! it again until it is answered by `receipt_stored`, which follows after the sender has stored it, or by an `error` that
//! isn't temporary: [`PeerErrorCode::NotFound`] if there is no such send any more. The first receipt counts, and ends the
//! receiver's right to `get` what was sent. What is sent to a room is announced by the text of a room's message; a
//! member's receipt then has the `room` instead of an id.
//!
//! A file may be shared with the members of a room only. It occurs in the replies to a member who lists
//! [`ROOM_FILES_CAPABILITY`], and in no replies to others. The replying side knows members by the room's membership
//! records: a user with the key that joined, at the moment of the request. With `room`, sent only to a peer that lists the
//! capability, `files`, `folders`, `folder_times` and `stat` are about what is shared with that room and nothing else. Who
//! isn't on the replying side's records may have joined a moment ago: [`PeerErrorCode::Busy`] while the tracker is asked.
//! Who isn't a member, and whoever asks for a room in which the replying side isn't, gets [`PeerErrorCode::NotFound`].
//! Without it, a name that is shared with several audiences is that of the most exact one: with the asking user, with a
//! room, with everybody. `manifest`, `have` and `get` go by content, whatever its audiences: one that admits the asking side
//! is enough. To a peer that lists the capability, `stat` and `file_list` tell by `restricted` that a file is not for
//! everybody: the receiver asks the tracker for no other source of it.
//!
//! A peer that lists [`PROBE_CAPABILITY`] looks from outside, for a peer that asks by `probe`, whether a UDP port of the
//! asking machine can be reached. It begins one handshake with that port, from a new socket of its own: a firewall that
//! lets replies through then tells nothing from the packets of a stranger. The handshake goes to the address from which
//! the link comes and to no other, demands the key of the asking peer, and ends before a `hello`. `answered` says whether
//! that key answered within [`PROBE_SECONDS`], `ms` after how many milliseconds, and `ip` to which address the packets went.
//! A port below [`crate::limits::MIN_PEER_PORT`] is refused with [`PeerErrorCode::Limit`]. Each user and each address is
//! probed once a minute; a request before that, or while too many probes are under way, is refused with
//! [`PeerErrorCode::Busy`].
//!
//! A peer that lists [`CHANGES_CAPABILITY`] tells what it shares no more: of the names in a `removed` it returns those that
//! it shared with the asking side and that its user removed, or stopped sharing, while their folder's disk was there. Only
//! who knows a name can ask about it: what was shared by mistake is not told to everybody ever after. A name that is shared
//! again is no longer among them, and the oldest are forgotten, so that the absence of a name says nothing. A file that is
//! merely not listed may be on a disk that isn't there: only `removed_list` is a reason to remove a copy of it.
//!
//! On a stream that begins with `changes`, that peer sends `changed` at once, and again when what it shares with the asking
//! side may be another, at most twice a second. Equal marks mean equal shares; a mark lasts beyond the link. The opener
//! sends nothing more, and ends the stream when it has no use for it.

mod chat_frames;
mod error_code;
mod file_description;
mod file_send;
pub mod room_frames;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::content::ContentHash;
use crate::names::{FileName, UserName};
use crate::room::RoomId;
use crate::untrusted_text::UntrustedText;

pub use chat_frames::{ChatFrame, ChatMessage, ChatReply, FileOffer, MessageId};
pub use error_code::PeerErrorCode;
pub use file_description::{FileStat, FolderTime, ListEntry};
pub use file_send::{FileSend, RECEIPTS_CAPABILITY, ReceiptOutcome, SendKind, SendReceipt, folder_hash};
pub use room_frames::{
    MAX_ROOM_LOCATOR, MAX_ROOM_RECORD_BYTES, MAX_ROOM_RECORDS, MAX_ROOM_RUN_BYTES, MAX_ROOM_RUNS,
    MAX_ROOM_SINGLE_RUN_BYTES, MAX_ROOM_VECTOR_PAGE, ROOMS_CAPABILITY, RoomStreamReply, RoomStreamRequest, RoomSummary,
    RoomVectorEntry, SingleRunBytes,
};

/// The protocol's name in TLS (RFC 7301).
pub const ALPN: &[u8] = b"vizinho/1";

/// Capability: answers requests and accepts messages. An acceptor always does; a dialer that doesn't list it only asks.
pub const ANSWERS_CAPABILITY: &str = "answers";

/// Capability: reads zero runs, see [`PeerReply::Manifest`].
pub const ZEROS_CAPABILITY: &str = "zeros/1";

/// Capability: its own names may be encoded, see [`crate::names::name_encoding`].
pub const RAW_NAMES_CAPABILITY: &str = "raw_names/1";

/// Capability: restricts a fetched file to its owner if the source did.
pub const OWNER_ONLY_CAPABILITY: &str = "owner_only/1";

/// Capability: reads the name in a `get`.
pub const GET_NAMES_CAPABILITY: &str = "get_names/1";

/// Capability: continues after a page without files.
pub const EMPTY_PAGES_CAPABILITY: &str = "empty_pages/1";

/// Capability: asks for the files of a room, and tells them from others.
pub const ROOM_FILES_CAPABILITY: &str = "room_files/1";

/// Capability: probes the asking peer's UDP port, see [`PeerRequest::Probe`].
pub const PROBE_CAPABILITY: &str = "probe/1";

/// Capability: tells which names were removed, and when the shares changed, see [`PeerRequest::Changes`].
pub const CHANGES_CAPABILITY: &str = "changes/1";

/// The longest mark of a `changed`, in bytes.
pub const MAX_MARK_BYTES: usize = 64;

/// Seconds for which a probe waits for an answer.
pub const PROBE_SECONDS: u64 = 2;

/// A request: the first frame of a stream, and every further frame of its opener unless the stream is for chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum PeerRequest {
    /// The dialer's introduction; on the first stream only.
    Hello(Hello),
    /// From here on the stream carries [`ChatFrame`]s from the opener and [`ChatReply`]s back.
    Chat {},
    /// Asks for a page of shared files.
    Files {
        /// Only names that start with this text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// `next` of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        /// Only what is shared with this room; sent only to peers with [`ROOM_FILES_CAPABILITY`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<RoomId>,
    },
    /// Asks for a page of shared folders that are empty, which no file's name shows.
    Folders {
        /// Only names that start with this text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// `next` of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        /// Only what is shared with this room; sent only to peers with [`ROOM_FILES_CAPABILITY`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<RoomId>,
    },
    /// Asks for a page of the modification times of shared folders.
    FolderTimes {
        /// Only names that start with this text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// `next` of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        /// Only what is shared with this room; sent only to peers with [`ROOM_FILES_CAPABILITY`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<RoomId>,
    },
    /// Asks for the current state of one file.
    Stat {
        /// The name under which it is shared.
        name: FileName,
        /// Only if it is shared with this room; sent only to peers with [`ROOM_FILES_CAPABILITY`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<RoomId>,
    },
    /// Asks for the chaining values of a file's groups.
    Manifest {
        /// The file's content hash.
        hash: ContentHash,
    },
    /// Asks which groups of a file the other side has.
    Have {
        /// The file's content hash.
        hash: ContentHash,
    },
    /// Asks for the bytes of some groups of a file.
    Get {
        /// The file's content hash.
        hash: ContentHash,
        /// Half-open ranges of group indices. Their groups are sent in this order.
        ranges: Vec<(u32, u32)>,
        /// The name under which the other side shares the file; sent only to peers with [`GET_NAMES_CAPABILITY`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<FileName>,
    },
    /// Asks whether this side's UDP port can be reached from outside; sent only to peers with [`PROBE_CAPABILITY`].
    Probe {
        /// The port, on the address from which the link comes.
        port: u16,
    },
    /// From here on the stream carries [`RoomStreamRequest`]s from the opener and [`RoomStreamReply`]s back.
    Room {
        /// The room.
        id: RoomId,
    },
    /// Tells what became of a send; sent only to peers with [`RECEIPTS_CAPABILITY`].
    Receipt(SendReceipt),
    /// Asks which of these names were shared and removed; sent only to peers with [`CHANGES_CAPABILITY`].
    Removed {
        /// The names, as many as a frame holds.
        names: Vec<FileName>,
    },
    /// From here on the stream carries a [`PeerReply::Changed`] at each change; sent only to peers with
    /// [`CHANGES_CAPABILITY`].
    Changes {},
    /// A request newer than this version.
    #[serde(other)]
    Unknown,
}

/// A reply to a [`PeerRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum PeerReply {
    /// The dialer is accepted and may use the link.
    Welcome(Hello),
    /// The request failed.
    Error {
        /// The reason, for programs.
        code: PeerErrorCode,
        /// The reason, for people.
        message: UntrustedText,
    },
    /// A page of shared files, ordered by name.
    FileList {
        /// The files of this page.
        files: Vec<ListEntry<FileStat>>,
        /// The cursor of the next page; `None` on the last one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// A page of empty folders, ordered by name.
    FolderList {
        /// The folders of this page.
        folders: Vec<ListEntry<FileName>>,
        /// The cursor of the next page; `None` on the last one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// A page of folders and their modification times, ordered by name.
    FolderTimes {
        /// The folders of this page.
        folders: Vec<ListEntry<FolderTime>>,
        /// The cursor of the next page; `None` on the last one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// The current state of one file.
    Stat(FileStat),
    /// A header that is followed by 32 raw bytes per group.
    Manifest {
        /// The file's content hash.
        hash: ContentHash,
        /// Its size in bytes.
        size: u64,
        /// Size of a group in bytes.
        group_size: u64,
        /// Number of groups.
        groups: u32,
        /// Half-open ranges of groups that hold nothing but zeros; see [`crate::ZeroRuns::from_untrusted`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        zeros: Vec<(u32, u32)>,
    },
    /// A header that is followed by the wire form of a [`crate::GroupSet`].
    Have {
        /// The file's content hash.
        hash: ContentHash,
        /// Number of groups of the whole file.
        groups: u32,
    },
    /// The result of a probe.
    Probe {
        /// The address that was probed.
        ip: IpAddr,
        /// The port that was probed.
        port: u16,
        /// True if the peer that asked answered there.
        answered: bool,
        /// Milliseconds until it answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ms: Option<u64>,
    },
    /// A header that is followed by raw bytes.
    Data {
        /// Number of bytes.
        bytes: u64,
    },
    /// The receipt is stored.
    ReceiptStored {},
    /// Those of the names in question that were shared and removed.
    RemovedList {
        /// The names.
        names: Vec<FileName>,
    },
    /// What is shared with the asking side may be another.
    Changed {
        /// A text of at most [`MAX_MARK_BYTES`] that differs whenever the shares differ.
        mark: String,
    },
    /// A reply newer than this version.
    #[serde(other)]
    Unknown,
}

/// The introduction of one side in hello and welcome. The user name is a claim: the certificate decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The name of the sender's account.
    pub user: UserName,
    /// Program and version, for people.
    #[serde(default)]
    pub agent: UntrustedText,
    /// Extensions beyond the protocol's first version.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

impl PeerReply {
    /// Removes the fields that are sent only to peers with [`OWNER_ONLY_CAPABILITY`].
    #[must_use]
    pub fn without_owner_only(mut self) -> Self {
        // Default values are not written, so an older peer reads the JSON of its own version.
        self.stats_mut().for_each(|stat| stat.owner_only = false);
        self
    }

    /// Removes the fields that are sent only to peers with [`ROOM_FILES_CAPABILITY`].
    #[must_use]
    pub fn without_restricted(mut self) -> Self {
        self.stats_mut().for_each(|stat| stat.restricted = false);
        self
    }

    /// Removes the fields that are sent only to peers with [`ZEROS_CAPABILITY`].
    #[must_use]
    pub fn without_zeros(mut self) -> Self {
        if let Self::Manifest { zeros, .. } = &mut self {
            zeros.clear();
        }
        // Without the runs the receiver fetches and stores these bytes as well, so they must count as data.
        self.stats_mut().for_each(|stat| stat.zero_bytes = 0);
        self
    }

    /// Returns the descriptions of files in the reply.
    fn stats_mut(&mut self) -> impl Iterator<Item = &mut FileStat> {
        // An option and a list for both shapes: their chain is one type of iterator, without a box.
        let (one, several) = match self {
            Self::Stat(stat) => (Some(stat), Default::default()),
            Self::FileList { files, .. } => (None, files.iter_mut()),
            _ => (None, Default::default()),
        };
        let listed = several.filter_map(|file| match file {
            ListEntry::Valid(stat) => Some(stat),
            ListEntry::Invalid(_) => None,
        });
        one.into_iter().chain(listed)
    }
}

#[cfg(test)]
mod tests;
