//! The frames of a `room` stream.
//!
//! A peer that lists [`ROOMS_CAPABILITY`] takes streams that begin with `room {id}`. Each side of a link opens at most one
//! for a room, over which it pulls what it lacks and pushes what is new:
//!
//! ```text
//! opener                                     acceptor
//!   │  summary {digest, head?, epoch}  ──► summary {digest, head?, epoch}
//!   │  records {after}                 ──► records {lengths, more} + each record: that many signed bytes, signature (64)
//!   │  vector {after?}                 ──► vector {entries, more}
//!   │  want {author, locator, above, missing_cuts} ──► runs {lengths, leads_to_cut} + the runs
//!   │  new {run}                       ──► taken {}
//! ```
//!
//! `room {id}` itself has no reply. Requests may have any order, and may be sent without waiting. Each has one reply, and
//! replies come in the order of the requests. Hashes, digests, ids and keys are hexadecimal. The raw bytes of `records` and
//! `runs` follow the frame at once, without padding.
//!
//! `summary` also tells the acceptor that the opener's copy changed: if the digests differ, it compares over a stream of its
//! own. So who wants its messages to be pulled takes streams on the links that it dialed, and lists
//! [`super::ANSWERS_CAPABILITY`] there. Equal digests end a comparison. Otherwise the opener asks for records, with those
//! that it has in `after`, until `more` is false; then for pages of the vector, and for each author that differs it repeats
//! `want`, with what it got in `locator`, until `runs` has no lengths or brought nothing that counts. It compares at the
//! start, when the acceptor's or the own copy changed, and each minute. The formats of records and runs, and the meaning of
//! the fields, are those of the `rooms` crate.
//!
//! `new` carries a message as soon as it is written, as a run of one with its signature, in hexadecimal digits. `taken` says
//! that the acceptor has stored it, now or earlier. In all other cases the reply is [`PeerErrorCode::Busy`], and the
//! acceptor compares by itself: its predecessors or records are missing there, its author writes too fast (20 a second, 200
//! at once), or it doesn't count. Who sent it need not repeat it.
//!
//! A request may be answered by `error {code, message}`: [`PeerErrorCode::Busy`] while the acceptor asks the tracker for
//! records, for the opener is no member of whom it knows; [`PeerErrorCode::Unauthorised`] if it is no member;
//! [`PeerErrorCode::NotFound`] if the acceptor isn't. Membership is checked at each request. The stream goes on after an
//! `error`, and an unknown request is answered by one with [`PeerErrorCode::Protocol`]. When a membership ends, the stream is
//! reset with [`PeerErrorCode::Unauthorised`], as it is at once for a user who is blocked.
//!
//! Whoever sends what no honest member sends breaks the protocol: the stream may be reset with any code, and the link is
//! closed with [`PeerErrorCode::Protocol`]. That is a frame that isn't JSON of this form, a list or a length beyond its
//! bounds, bytes that are no run of this room, a false signature, a reply without a request. A signed message that doesn't
//! count is no such thing. A reply, with its raw bytes, must come, and be read, within 20 seconds.

use std::borrow::Cow;
use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::PeerErrorCode;
use crate::hex;
use crate::room::{MessageHash, RecordHash, RoomDigest};
use crate::{Fingerprint, UntrustedText};

/// Capability: takes streams of rooms.
pub const ROOMS_CAPABILITY: &str = "rooms/1";

/// Most hashes in one list of a request.
pub const MAX_ROOM_LOCATOR: usize = 40;
/// Most authors in a page of a vector.
pub const MAX_ROOM_VECTOR_PAGE: usize = 256;
/// Most records in a reply.
pub const MAX_ROOM_RECORDS: usize = 256;
/// Longest run, as the `rooms` crate encodes it.
pub const MAX_ROOM_RUN_BYTES: usize = 256 * 1024 + 8 * 256;
/// Longest run of one message.
pub const MAX_ROOM_SINGLE_RUN_BYTES: usize = 17 * 1024;
/// Most runs in a reply.
pub const MAX_ROOM_RUNS: usize = 4;
/// Longest signed bytes of a record.
pub const MAX_ROOM_RECORD_BYTES: usize = 1024;

/// The state of a member's copy of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomSummary {
    /// Equal for equal records and messages.
    pub digest: RoomDigest,
    /// The newest record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<RecordHash>,
    /// Its epoch.
    pub epoch: u64,
}

/// One author's messages, in a page of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomVectorEntry {
    /// The author's key.
    pub author: Fingerprint,
    /// The greatest number.
    pub newest: u64,
    /// Equal for equal messages.
    pub digest: RoomDigest,
}

/// An encoded run of one message, not parsed yet.
#[derive(Clone, PartialEq, Eq)]
pub struct SingleRunBytes(Vec<u8>);

/// A frame from the opener of a room stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum RoomStreamRequest {
    /// Compares all.
    Summary(RoomSummary),
    /// Asks for the records that follow the newest known one of these.
    Records {
        /// At most [`MAX_ROOM_LOCATOR`], newest first.
        after: Vec<RecordHash>,
    },
    /// Asks for a page of the vector.
    Vector {
        /// The last author of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Fingerprint>,
    },
    /// Asks for messages of one author.
    Want {
        /// The author's key.
        author: Fingerprint,
        /// Messages that the opener has; at most [`MAX_ROOM_LOCATOR`].
        locator: Vec<MessageHash>,
        /// Nothing up to this number is wanted.
        above: u64,
        /// Cuts that the opener lacks.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        missing_cuts: Vec<MessageHash>,
    },
    /// Passes on a new message.
    New {
        /// A run of one message.
        run: SingleRunBytes,
    },
    /// A frame newer than this version.
    #[serde(other)]
    Unknown,
}

/// A frame to the opener of a room stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum RoomStreamReply {
    /// The acceptor's state.
    Summary(RoomSummary),
    /// A header that is followed by the records: each its signed bytes and 64 bytes of signature.
    Records {
        /// Lengths of the signed bytes; at most [`MAX_ROOM_RECORDS`].
        lengths: Vec<u32>,
        /// True if more follow.
        more: bool,
    },
    /// A page of the vector.
    Vector {
        /// At most [`MAX_ROOM_VECTOR_PAGE`], by ascending author.
        entries: Vec<RoomVectorEntry>,
        /// True if more follow.
        more: bool,
    },
    /// A header that is followed by the runs.
    Runs {
        /// Lengths of the runs; at most [`MAX_ROOM_RUNS`]. None: there is nothing more.
        lengths: Vec<u32>,
        /// True if the runs are on the way to one of the missing cuts.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        leads_to_cut: bool,
    },
    /// The new message is stored.
    Taken {},
    /// The request failed.
    Error {
        /// The reason, for programs.
        code: PeerErrorCode,
        /// The reason, for people.
        message: UntrustedText,
    },
    /// A frame newer than this version.
    #[serde(other)]
    Unknown,
}

impl RoomStreamRequest {
    /// Returns true if no list is longer and no length greater than allowed. Whoever sends others breaks the protocol.
    pub fn is_within_bounds(&self) -> bool {
        match self {
            Self::Records { after } => after.len() <= MAX_ROOM_LOCATOR,
            Self::Want { locator, missing_cuts, .. } => {
                locator.len() <= MAX_ROOM_LOCATOR && missing_cuts.len() <= MAX_ROOM_LOCATOR
            }
            // The run of `New` has its bound by its type.
            Self::Summary(_) | Self::Vector { .. } | Self::New { .. } | Self::Unknown => true,
        }
    }
}

impl SingleRunBytes {
    /// Wraps an encoded run; `None` if it is longer than [`MAX_ROOM_SINGLE_RUN_BYTES`].
    pub fn new(run: Vec<u8>) -> Option<Self> {
        (run.len() <= MAX_ROOM_SINGLE_RUN_BYTES).then_some(Self(run))
    }

    /// Returns the encoded run.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SingleRunBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the bytes: they hold what somebody wrote, and a `Debug` form may reach a log.
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for SingleRunBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // As digits it fits into a frame, so no request has raw bytes behind it.
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for SingleRunBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A `&str` can't be read from text with escapes.
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let run = hex::decode_all(&text).and_then(Self::new);
        run.ok_or_else(|| D::Error::custom("a run is an even number of hexadecimal digits, at most 34,816"))
    }
}

impl RoomStreamReply {
    /// Returns true if no list is longer and no length greater than allowed. Whoever sends others breaks the protocol.
    pub fn is_within_bounds(&self) -> bool {
        match self {
            Self::Records { lengths, .. } => are_lengths_within(lengths, MAX_ROOM_RECORDS, MAX_ROOM_RECORD_BYTES),
            Self::Vector { entries, .. } => {
                // The last author is the cursor of the next page, so the order matters.
                entries.len() <= MAX_ROOM_VECTOR_PAGE && entries.is_sorted_by(|one, next| one.author < next.author)
            }
            Self::Runs { lengths, .. } => are_lengths_within(lengths, MAX_ROOM_RUNS, MAX_ROOM_RUN_BYTES),
            Self::Summary(_) | Self::Taken {} | Self::Error { .. } | Self::Unknown => true,
        }
    }
}

fn are_lengths_within(lengths: &[u32], most: usize, longest: usize) -> bool {
    // No record and no run is empty.
    let fits = |length: &u32| usize::try_from(*length).is_ok_and(|length| (1..=longest).contains(&length));
    lengths.len() <= most && lengths.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame;
    use crate::limits::MAX_FRAME_BYTES;

    #[test]
    fn golden() {
        let request = RoomStreamRequest::Want {
            author: Fingerprint::from_bytes([1; 32]),
            locator: vec![MessageHash::from_bytes([2; 32])],
            above: 3,
            missing_cuts: Vec::new(),
        };
        let (author, hash) = ("01".repeat(32), "02".repeat(32));
        let text = format!(r#"{{"t":"want","author":"{author}","locator":["{hash}"],"above":3}}"#);
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(serde_json::from_str::<RoomStreamRequest>(&text).unwrap(), request);
        let run = SingleRunBytes::new(vec![0x00, 0xab]).unwrap();
        let text = r#"{"t":"new","run":"00ab"}"#;
        assert_eq!(serde_json::to_string(&RoomStreamRequest::New { run: run.clone() }).unwrap(), text);
        assert_eq!(serde_json::from_str::<RoomStreamRequest>(text).unwrap(), RoomStreamRequest::New { run });
        assert_eq!(serde_json::to_string(&RoomStreamReply::Taken {}).unwrap(), r#"{"t":"taken"}"#);
        let reply = RoomStreamReply::Runs { lengths: vec![7], leads_to_cut: false };
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"t":"runs","lengths":[7]}"#);
        assert_eq!(serde_json::from_str::<RoomStreamReply>(r#"{"t":"later"}"#).unwrap(), RoomStreamReply::Unknown);
    }

    #[test]
    fn the_longest_frames_fit() {
        let entry = |number: u32| {
            let mut author = [0xff; 32];
            author[..4].copy_from_slice(&number.to_be_bytes());
            RoomVectorEntry {
                author: Fingerprint::from_bytes(author),
                newest: u64::MAX,
                digest: RoomDigest::from_bytes([0xff; 16]),
            }
        };
        let page = |count: u32| RoomStreamReply::Vector { entries: (0..count).map(entry).collect(), more: true };
        assert!(page(256).is_within_bounds() && !page(257).is_within_bounds());
        let run = SingleRunBytes::new(vec![0xff; MAX_ROOM_SINGLE_RUN_BYTES]).unwrap();
        let mut out = Vec::new();
        frame::encode(&page(256), &mut out).unwrap();
        frame::encode(&RoomStreamRequest::New { run }, &mut Vec::new()).unwrap();
        assert!(out.len() < MAX_FRAME_BYTES);
    }

    #[test]
    fn lists_and_lengths_have_bounds() {
        let hash = MessageHash::from_bytes([2; 32]);
        let want = |count| RoomStreamRequest::Want {
            author: Fingerprint::from_bytes([1; 32]),
            locator: vec![hash; count],
            above: 0,
            missing_cuts: Vec::new(),
        };
        assert!(want(40).is_within_bounds() && !want(41).is_within_bounds());
        for (length, allowed) in [(0, false), (1, true), (264_192, true), (264_193, false), (u32::MAX, false)] {
            let reply = RoomStreamReply::Runs { lengths: vec![length], leads_to_cut: false };
            assert_eq!(reply.is_within_bounds(), allowed, "{length}");
        }
        assert!(
            SingleRunBytes::new(vec![0; 17 * 1024]).is_some() && SingleRunBytes::new(vec![0; 17 * 1024 + 1]).is_none()
        );
        assert!(!RoomStreamReply::Runs { lengths: vec![1; 5], leads_to_cut: false }.is_within_bounds());
        assert!(!RoomStreamReply::Records { lengths: vec![1025], more: false }.is_within_bounds());
    }

    proptest! {
        #[test]
        fn hostile_json_never_panics(text: String, number: u64) {
            let new = format!(r#"{{"t":"new","run":"{text}"}}"#);
            for json in [text.clone(), format!(r#"{{"t":"runs","lengths":[{number}]}}"#), format!(r#"{{"t":{text:?}}}"#), new] {
                if let Ok(request) = serde_json::from_str::<RoomStreamRequest>(&json) {
                    let _ = request.is_within_bounds();
                }
                if let Ok(reply) = serde_json::from_str::<RoomStreamReply>(&json) {
                    let _ = reply.is_within_bounds();
                }
            }
        }
    }
}
