//! What peers say to each other over QUIC, ALPN [`ALPN`].
//!
//! Both sides show a certificate of the same kind as to the tracker (see "Certificates" in [`crate::tracker`]: dates are
//! not looked at); each side's fingerprint is checked before anything here is read. Every stream is
//! bidirectional, opened by the side that wants something, which also speaks first. JSON travels in [`crate::frame`]s
//! with the tag `t`; unknown tags and fields are tolerated. Bulk data is raw bytes after a header that says how many.
//! A sender that fails resets its stream with a [`PeerErrorCode`], so a clean end always means complete.
//!
//! ```text
//! dialler                                   acceptor
//!   │  1st stream: hello {user, agent, capabilities} ─────►│ within 5 s; before anything else
//!   │◄───────────────── welcome {user, agent, capabilities}│ or error {code, message}, then close
//!   │                                                      │
//!   │  either side opens, any number of times:             │
//!   │  files {prefix?, cursor?} ──► file_list {files, next?}
//!   │  folders {prefix?, cursor?} ─► folder_list {folders, next?}   the empty ones
//!   │  folder_times {prefix?, cursor?} ─► folder_times {folders, next?}   of all, {name, mtime, mtime_ns?} each
//!   │  stat {name}              ──► stat {name, size, hash, group_size, mtime, mtime_ns?, executable?, owner_only?, partial?, stale?, zero_bytes?}
//!   │  manifest {hash}          ──► manifest {hash, size, group_size, groups, zeros?} + 32 bytes a group
//!   │  have {hash}              ──► have {hash, groups} + a bit a group: 1 where this side has it
//!   │  get {hash, ranges, name?} ─► data {bytes} + that many bytes: the groups, in the order asked for
//!   │  chat {}                  ──► (nothing) then message {id, ts, text, offer?, room?} / typing {} one way,
//!   │                               ack {id} / refused {id, code, message} the other
//! ```
//!
//! A `hello` has at most 1,024 bytes, and its dialler may have no second stream before the `welcome`. The dialler has five
//! seconds in all from its first packet to being identified; the acceptor may let it wait, or refuse it with [`PeerErrorCode::Busy`]
//! in words or by closing the link, which says the same. A link over which nothing is asked may be closed with [`PeerErrorCode::Busy`]
//! when others need its place. A frame that has begun is whole within ten seconds.
//!
//! An `error` to a `hello` says with its code whether the dialler may hope: [`PeerErrorCode::Unauthorised`] means "never" (the dialler is
//! blocked, or nobody's key is theirs); [`PeerErrorCode::Replaced`] (the acceptor knows another key of that user, and doesn't trust this
//! one yet) and all others mean "not now". A link is closed with [`PeerErrorCode::Replaced`] when its key is no longer that of its user.
//!
//! On a stream of `files`, `folders`, `folder_times`, `stat`, `manifest`, `have` and `get`, one request may follow another without waiting; the answers
//! come in that order, and the opener ends its side when it wants no more. Any of them may be answered by
//! `error {code, message}`, and the next request is then answered as if nothing had happened. A failure in the middle
//! of raw bytes resets the stream.
//!
//! Groups are sent as they were hashed or not at all. A file may change while it is fetched: at the first group that did, the
//! `get` is answered by an `error` with [`PeerErrorCode::Stale`], or its stream is reset with it when data went before; groups that are
//! the same are sent all the same, be it that the file only grew. A `stat` is an `error` with [`PeerErrorCode::Stale`] until the file
//! is hashed again; whoever asks again hears of the version that was hashed since the first question, even if it isn't the
//! latest any more. A version that was described can be had after that, too, as long as its bytes are there.
//! [`PeerErrorCode::Internal`] says in the same places that the file can't be read, which is no change of it; [`PeerErrorCode::Busy`] that it
//! can't be opened now.
//!
//! A file that its peer is still fetching may be shared as well: its `stat` says `partial`, `have` tells which groups can be
//! had ([`crate::GroupSet`] is the form of the bits) and grows from one question to the next, a `get` of others is answered by
//! `error` with [`PeerErrorCode::NotFound`]. Whoever doesn't know the question shares only what is whole.
//!
//! A file is asked for by its content, which it may share with others. To a side that lists [`GET_NAMES_CAPABILITY`] among its
//! capabilities, `get` says as well by which of its names the file is wanted: that one is looked at first, and is what its
//! owner is told of. Whether the content can be had doesn't depend on it.
//!
//! A file of a list that changed since it was hashed is listed as it was, with `stale`: it is being hashed again, and its `stat` is
//! an `error` with [`PeerErrorCode::Stale`] until that is done.
//!
//! A page of `file_list` may end before it is full, and `next` is then the name that was looked at last. To whoever says
//! [`EMPTY_PAGES_CAPABILITY`] it may have no files at all: what is shared is gone from the disk there, and there is more behind it.
//!
//! To whoever says [`ZEROS_CAPABILITY`] in its `hello` or `welcome`, `manifest` tells which groups hold nothing but zeros, as half-open
//! ranges in order ([`crate::ZeroRuns`]), and `stat` and `file_list` how many bytes these are. The receiver checks the claim
//! against the manifest ([`GroupLayout::zero_chaining_value`]) and needs not `get` those groups, nor store them. A group that was claimed
//! and doesn't have the value of zeros is a lie like any other.
//!
//! To whoever says [`OWNER_ONLY_CAPABILITY`], `stat` and `file_list` tell by `owner_only` that nobody but its owner may read a file on
//! that machine. The receiver makes it so for the file that it writes, from its first byte on.
//!
//! An entry of a list that its reader can't take for what it should be, such as a name that is none, stands for itself: the
//! others of that page are taken all the same.
//!
//! A side that lists [`RAW_NAMES_CAPABILITY`] among its capabilities gives files whose own names can't travel stand-ins for names
//! ([`crate::names::name_encoding`]), and its reader writes such a file under the bytes that the stand-in stands for, where its
//! file system takes them. To a reader that doesn't know them they are names like all others. The names of a side that
//! doesn't list it are taken as they are, whatever they look like.
//!
//! `ack` is sent after the message was stored. A message may come twice (its sender didn't see the ack); its id tells.
//! Messages may follow each other without waiting for acks. A sender begins every stream with the oldest message that
//! was not acked and leaves none out, so that whatever becomes of streams and links, what is new to the receiver comes in
//! its author's order. `refused` with [`PeerErrorCode::Busy`], [`PeerErrorCode::Internal`] or [`PeerErrorCode::ShuttingDown`] means "not now": the
//! receiver takes nothing more from that stream, and the sender begins again later; any other code means "never".
//!
//! `offer {name, size, hash}` beside a message's text says that the receiver may `get` that file: it is in the answers
//! to their `files`, `stat`, `manifest` and `get`, and in nobody else's. The text says the same in words, for older peers.

use serde::{Deserialize, Serialize};

use crate::content::{ContentHash, GroupLayout};
use crate::hex::hex_text;
use crate::names::{FileName, UserName};
use crate::untrusted_text::UntrustedText;

/// The protocol's name in the TLS handshake.
pub const ALPN: &[u8] = b"vizinho/1";

/// The capability of a side that wants to be told which groups of files are zeros.
pub const ZEROS_CAPABILITY: &str = "zeros/1";

/// The capability of a side whose names may be stand-ins.
pub const RAW_NAMES_CAPABILITY: &str = "raw_names/1";

/// The capability of a side that keeps files from others as their owners do.
pub const OWNER_ONLY_CAPABILITY: &str = "owner_only/1";

/// The capability of a side that reads the name in a `get`.
pub const GET_NAMES_CAPABILITY: &str = "get_names/1";

/// The capability of a side that goes on behind a page of files that has none.
pub const EMPTY_PAGES_CAPABILITY: &str = "empty_pages/1";

/// What the opener of a stream says first, and on request streams again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum PeerRequest {
    /// Who calls; on the first stream only.
    Hello(Hello),
    /// From here on the stream carries [`ChatFrame`]s from the opener and [`ChatReply`]s back.
    Chat {},
    /// What is shared.
    Files {
        /// Only names that start with this text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// `next` of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    },
    /// The shared folders that have nothing in them, which no file's name tells of.
    Folders {
        /// Only names that start with this text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// `next` of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    },
    /// When the shared folders were last modified.
    FolderTimes {
        /// Only names that start with this text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        /// `next` of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    },
    /// One file, as it is now.
    Stat {
        /// The name it is shared under.
        name: FileName,
    },
    /// The chaining values of a file's groups.
    Manifest {
        /// Which file.
        hash: ContentHash,
    },
    /// Which groups of a file can be had.
    Have {
        /// Which file.
        hash: ContentHash,
    },
    /// Groups of a file.
    Get {
        /// Which file.
        hash: ContentHash,
        /// Half-open ranges of group indices, sent in this order.
        ranges: Vec<(u32, u32)>,
        /// The name by which the other side described it; said to those who know [`GET_NAMES_CAPABILITY`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<FileName>,
    },
    /// Something newer than this version.
    #[serde(other)]
    Unknown,
}

/// What comes back on a stream of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum PeerReply {
    /// The caller is known and may go on.
    Welcome(Hello),
    /// The request can't be answered.
    Error {
        /// Why, for programs.
        code: PeerErrorCode,
        /// Why, for people.
        message: UntrustedText,
    },
    /// A page of what is shared, ordered by name.
    FileList {
        /// The files of this page.
        files: Vec<ListEntry<FileStat>>,
        /// The cursor of the next page, when there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// A page of empty folders, ordered by name.
    FolderList {
        /// The folders of this page.
        folders: Vec<ListEntry<FileName>>,
        /// The cursor of the next page, when there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// A page of folders and their times, ordered by name.
    FolderTimes {
        /// The folders of this page.
        folders: Vec<ListEntry<FolderTime>>,
        /// The cursor of the next page, when there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// One file.
    Stat(FileStat),
    /// 32 raw bytes a group follow.
    Manifest {
        /// The file.
        hash: ContentHash,
        /// Its size in bytes.
        size: u64,
        /// Bytes of a group.
        group_size: u64,
        /// How many groups.
        groups: u32,
        /// Half-open ranges of groups that hold nothing but zeros; see [`crate::ZeroRuns::from_untrusted`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        zeros: Vec<(u32, u32)>,
    },
    /// The wire form of a [`crate::GroupSet`] follows.
    Have {
        /// The file.
        hash: ContentHash,
        /// How many groups it has.
        groups: u32,
    },
    /// `bytes` raw bytes follow.
    Data {
        /// How many.
        bytes: u64,
    },
    /// Something newer than this version.
    #[serde(other)]
    Unknown,
}

/// Who speaks, in hello and welcome. The name is a claim: the certificate decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The account's name.
    pub user: UserName,
    /// Program and version, for people.
    #[serde(default)]
    pub agent: UntrustedText,
    /// What this side can do beyond the first version.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// One of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ListEntry<T> {
    /// What it should be.
    Valid(T),
    /// Something else.
    Invalid(serde_json::Value),
}

/// A shared file as its owner describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// The name it is shared under.
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the content.
    pub hash: ContentHash,
    /// Bytes of a group, a power of two.
    pub group_size: u64,
    /// Last modification, seconds since 1970.
    #[serde(default)]
    pub mtime: i64,
    /// What of the last modification is beyond those seconds, 0 to 999,999,999 nanoseconds.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub mtime_ns: u32,
    /// Whether its owner may execute it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
    /// Whether nobody but its owner may read it there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owner_only: bool,
    /// Whether its owner is still fetching it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Whether it changed since all this was known; only in lists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// Bytes of it in groups that hold nothing but zeros, which its manifest tells of.
    #[serde(default, skip_serializing_if = "is_no_bytes")]
    pub zero_bytes: u64,
}

/// A shared folder as its owner describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderTime {
    /// The name it is shared under.
    pub name: FileName,
    /// Last modification, seconds since 1970.
    pub mtime: i64,
    /// What of it is beyond those seconds, 0 to 999,999,999 nanoseconds.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub mtime_ns: u32,
}

impl FileStat {
    /// A file of which nothing is known but its content: of no time, not executable, whole.
    pub const fn new(name: FileName, hash: ContentHash, layout: &GroupLayout) -> Self {
        Self {
            name,
            size: layout.size(),
            hash,
            group_size: layout.group_bytes(),
            mtime: 0,
            mtime_ns: 0,
            executable: false,
            owner_only: false,
            partial: false,
            stale: false,
            zero_bytes: 0,
        }
    }

    /// Bytes that are sent and stored of it, as far as its description is right.
    pub const fn data_bytes(&self) -> u64 {
        self.size.saturating_sub(self.zero_bytes)
    }
}

impl PeerReply {
    /// As it is said to somebody who doesn't know [`OWNER_ONLY_CAPABILITY`].
    #[must_use]
    pub fn without_owner_only(mut self) -> Self {
        match &mut self {
            Self::Stat(stat) => stat.owner_only = false,
            Self::FileList { files, .. } => files.iter_mut().for_each(|file| {
                if let ListEntry::Valid(stat) = file {
                    stat.owner_only = false;
                }
            }),
            _ => {}
        }
        self
    }

    /// As it is said to somebody who doesn't know [`ZEROS_CAPABILITY`].
    #[must_use]
    pub fn without_zeros(mut self) -> Self {
        match &mut self {
            Self::Manifest { zeros, .. } => zeros.clear(),
            Self::Stat(stat) => stat.zero_bytes = 0,
            Self::FileList { files, .. } => files.iter_mut().for_each(|file| {
                if let ListEntry::Valid(stat) = file {
                    stat.zero_bytes = 0;
                }
            }),
            _ => {}
        }
        self
    }
}

impl<T> ListEntry<T> {
    /// What it should be, or what it calls itself, if it does.
    pub fn into_result(self) -> Result<T, UntrustedText> {
        match self {
            Self::Valid(entry) => Ok(entry),
            Self::Invalid(serde_json::Value::String(name)) => Err(name.into()),
            Self::Invalid(entry) => Err(entry["name"].as_str().unwrap_or_default().into()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_nothing(ns: &u32) -> bool {
    *ns == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_no_bytes(bytes: &u64) -> bool {
    *bytes == 0
}

/// From the opener of a chat stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ChatFrame {
    /// A message to be stored and acked.
    Message(ChatMessage),
    /// The other one is writing.
    Typing {},
    /// Something newer than this version.
    #[serde(other)]
    Unknown,
}

/// To the opener of a chat stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ChatReply {
    /// The message is stored.
    Ack {
        /// Which one.
        id: MessageId,
    },
    /// The message is not stored: not now or never, as the code says.
    Refused {
        /// Which one.
        id: MessageId,
        /// Why, for programs.
        code: PeerErrorCode,
        /// Why, for people.
        message: UntrustedText,
    },
    /// Something newer than this version.
    #[serde(other)]
    Unknown,
}

/// One chat message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Made by the author, unique for that author.
    pub id: MessageId,
    /// When it was written by the author's clock, milliseconds since 1970.
    pub ts: i64,
    /// At most [`crate::limits::MAX_CHAT_TEXT_BYTES`].
    pub text: UntrustedText,
    /// A file that the receiver may get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<FileOffer>,
    /// Reserved for conversations of more than two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<UntrustedText>,
}

/// A file that its owner offers to one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOffer {
    /// The name it is offered under.
    pub name: FileName,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the content.
    pub hash: ContentHash,
}

/// 16 random bytes that name a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId([u8; 16]);

hex_text!(MessageId, 16);

/// The one namespace of codes between peers: in `error` frames, stream resets and connection closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub enum PeerErrorCode {
    /// Finished, nothing is wrong.
    Done,
    /// The other side broke the protocol.
    Protocol,
    /// The caller is not known or not allowed.
    Unauthorised,
    /// No such file.
    NotFound,
    /// The file changed since it was shared.
    Stale,
    /// Too much at once; later it may work.
    Busy,
    /// Whoever wanted it doesn't any more.
    Cancelled,
    /// A fault on the sending side.
    Internal,
    /// A limit was passed.
    Limit,
    /// The other side is going.
    ShuttingDown,
    /// Another connection of the same peer took this one's place.
    Replaced,
    /// A code newer than this version.
    Other(u64),
}

const KNOWN_CODES: [PeerErrorCode; 11] = [
    PeerErrorCode::Done,
    PeerErrorCode::Protocol,
    PeerErrorCode::Unauthorised,
    PeerErrorCode::NotFound,
    PeerErrorCode::Stale,
    PeerErrorCode::Busy,
    PeerErrorCode::Cancelled,
    PeerErrorCode::Internal,
    PeerErrorCode::Limit,
    PeerErrorCode::ShuttingDown,
    PeerErrorCode::Replaced,
];

impl From<u64> for PeerErrorCode {
    fn from(value: u64) -> Self {
        usize::try_from(value).ok().and_then(|index| KNOWN_CODES.get(index).copied()).unwrap_or(Self::Other(value))
    }
}

impl From<PeerErrorCode> for u64 {
    fn from(code: PeerErrorCode) -> Self {
        match code {
            PeerErrorCode::Done => 0,
            PeerErrorCode::Protocol => 1,
            PeerErrorCode::Unauthorised => 2,
            PeerErrorCode::NotFound => 3,
            PeerErrorCode::Stale => 4,
            PeerErrorCode::Busy => 5,
            PeerErrorCode::Cancelled => 6,
            PeerErrorCode::Internal => 7,
            PeerErrorCode::Limit => 8,
            PeerErrorCode::ShuttingDown => 9,
            PeerErrorCode::Replaced => 10,
            PeerErrorCode::Other(value) => value,
        }
    }
}

impl PeerErrorCode {
    /// Whether a message that was refused with it may be sent again later.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Busy | Self::Internal | Self::ShuttingDown)
    }
}

impl From<PeerErrorCode> for u32 {
    fn from(code: PeerErrorCode) -> Self {
        Self::try_from(u64::from(code)).unwrap_or(Self::MAX)
    }
}

impl std::fmt::Display for PeerErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Protocol => "protocol",
            Self::Unauthorised => "unauthorised",
            Self::NotFound => "not_found",
            Self::Stale => "stale",
            Self::Busy => "busy",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
            Self::Limit => "limit",
            Self::ShuttingDown => "shutting_down",
            Self::Replaced => "replaced",
            Self::Other(value) => return write!(f, "code {value}"),
        })
    }
}

#[cfg(test)]
mod tests;
