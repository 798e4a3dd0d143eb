//! The pure core of rooms: who is a member, which messages count, in which order, and what a member lacks.
//!
//! No sockets, files or clocks. Times are milliseconds that the caller passes. A room is two sets, and everything else
//! is a function of them: the [`Membership`], a chain of records signed by the tracker, and the [`RoomLog`], a tree of
//! messages for each author, signed by the author. Two members with the same sets show the same conversation.
//!
//! The formats and rules are specified in [`message`], [`run`], [`record`], [`membership`], [`log`] and
//! [`reconciliation`], and how they travel in [`shared::peer::room_frames`]. [Test vectors](#test-vectors) are at the end.
//!
//! * [`VerifyingKey`]: the public key of an author or a tracker. Ids and hashes are those of [`shared::room`].
//! * [`MembershipRecord`], [`SignedRecord`], [`Membership`]: members, roles and the cuts of those who went.
//! * [`RoomMessage`], [`MessageDraft`]: one message as its author signed it.
//! * [`UnverifiedRun`], [`MessageRun`]: consecutive messages of one author, proven by one signature.
//! * [`RoomLog`], [`LogLoader`]: the messages that count, their order, gaps, floors and bounds; the same from a disk.
//! * [`VectorEntry`], [`RunRequest`], [`RunReply`]: the comparison of two logs.
//!
//! Each message that was taken was proven by its author's signature: neither a moderator nor the tracker writes for a member.
//! Each end of a branch in a log is signed, so whoever has a message can prove it to others.
//!
//! All integers are big-endian. All encodings are canonical: a value has one encoding, and other bytes are refused.
//!
//! | resource | bound | beyond it |
//! |---|---|---|
//! | body of a message | 16 KiB of UTF-8 | refused by the parser |
//! | messages named by one | 16 and its previous | the deepest are named |
//! | a run | 256 messages, 256 KiB | the next run |
//! | contents of one author's number | 2 | the two smallest hashes stay, the rest goes with its successors |
//! | records of a room | 65,536 | the tracker refuses further joins |
//! | members of a room | 500 | the tracker refuses further joins |
//! | messages of a room | the caller's bytes and age | the oldest of the author with most bytes go |
//! | gaps of a log | 1,024 | a message that names a further one is shown at once |
//! | a vector page | 256 authors | the next page |
//! | hashes in a request | 40 | the older ones are left out |
//! | missing cuts in a request | 4 | the older ones are left out |
//! | runs in a reply | 4 | the next request |
//!
#![doc = include_str!("test_vectors.md")]
#![warn(missing_docs)]

mod byte_reader;
pub mod log;
pub mod membership;
pub mod message;
pub mod reconciliation;
pub mod record;
pub mod run;
#[cfg(test)]
mod test_vectors;
mod verifying_key;

pub use log::{Finding, Floor, LogChange, LogLoader, MessageInfo, Predecessor, Retention, RoomLog, RunRefusal};
pub use membership::{
    MAX_RECORDS, MemberRole, Membership, MembershipSpan, RESTORE_EPOCH_STEP, RecordEffect, RecordRefusal, RoomMember,
};
pub use message::{MAX_BODY_BYTES, MAX_NAMED, MessageDraft, MessageFault, MessageReference, Previous, RoomMessage};
pub use reconciliation::{MAX_LOCATOR, MAX_MISSING_CUTS, MAX_RUNS, MAX_VECTOR_PAGE, RunReply, RunRequest, VectorEntry};
pub use record::{Cut, HistoryVisibility, MembershipRecord, RecordFault, RoomChange, SignedRecord};
pub use run::{MAX_RUN_BYTES, MAX_RUN_MESSAGES, MessageRun, RunFault, UnverifiedRun};
pub use verifying_key::{Signature, VerifyingKey, sign};
