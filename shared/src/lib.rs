//! The vocabulary of Vizinho: the wire formats of tracker and peers, and the checked types they consist of.
//!
//! Everything here is pure: bytes and values in, values out. No sockets, files, clocks or async runtime, so each
//! wire format stands beside its golden bytes, round trips and hostile-input properties.
//!
//! * [`names`], [`account_name`], [`fingerprint`], [`content`], [`room`], [`GroupSet`], [`ZeroRuns`]: types whose only constructor checks.
//! * [`json_scanner`] and [`tracker`]: the protocol of the tracker, JSON over TCP or TLS.
//! * [`frame`] and [`peer`]: the protocol between peers, over QUIC streams: requests, chat, rooms, error codes.
//! * [`safe_text`], [`UntrustedText`]: text from other machines, made safe for a terminal.
//! * [`text_enum!`]: enums made with their texts from one table.
//! * [`limits`]: every bound, in one place.
//!
//! # Words
//!
//! One word for one thing, in code, documentation and messages.
//!
//! | word | meaning |
//! |---|---|
//! | user | a person, known by a user name (`[A-Za-z0-9_.-]`, 1 to 32 bytes) |
//! | account | a user name with a password hash, kept by a tracker |
//! | identity | an Ed25519 key with its self-signed certificate; a profile and a tracker have one each |
//! | fingerprint | the SHA-256 of a certificate's public key; peers and trackers are known by it, never by address or certificate dates |
//! | pin | the fingerprint that the other side of a connection must show; learnt at the first contact (trust on first use) or given by the user |
//! | binding | the tracker's record that an account belongs to a fingerprint; a *rebind* replaces it and needs the password |
//! | profile | a user's state on one machine, in one folder: identity, settings, shares, history, outbox, pinned keys |
//! | node | the one process of a profile that is online: it keeps the tracker session, accepts links, serves shares and delivers messages |
//! | tracker | the daemon of the local network that keeps accounts, presence and the catalogue; files and chat never pass through it |
//! | session | an authenticated relation between a client and the tracker; a login's session is the user's presence, others only authenticate |
//! | presence | a user's state of being online at the tracker: begun by a login, kept by its lease |
//! | lease | the time after which presence ends unless it is renewed; a node sends a heartbeat every 30 s for 90 s of lease |
//! | catalogue | the tracker's list of names, sizes and hashes of the files that present users share |
//! | feature, capability | a named extension of the protocol that one side announces: a feature at the tracker, a capability between peers |
//! | origin | the client as the tracker's limits count it: its address (an IPv6 network, /64, counts as well), or a person behind a door |
//! | door | a trusted gateway through which many people reach the tracker; it names the person of each connection (`FORWARDED`) |
//! | link | an authenticated QUIC connection between two peers, after hello and welcome; its *dialer* opens it, its *acceptor* takes it; requests and messages travel on its *streams* |
//! | hello, welcome | the first message on a link and its reply: user, agent, capabilities; before them nothing else is answered |
//! | share | a file that a profile shows to everybody under a name; a folder is shared as the files that are in it at the time |
//! | offer | a file that a profile shows to one user only, announced by a chat message |
//! | send, receipt | files that a user wants another, or a room, to have, announced as an offer is; the receiver's word that they are there, or declined |
//! | content hash | the BLAKE3 hash of a whole file; the file's id, whatever its names |
//! | group | a slice of a file (1 MiB, doubled until there are at most 32,768) that is verified by itself |
//! | manifest | the hashes (chaining values) of all groups of a file; merged they give the content hash, so anybody may send it |
//! | source | a peer from which a fetch gets groups of a file |
//! | partial file | the unfinished local file of a fetch (`.NAME.HASH8.part`); its verified groups can be shared and a later fetch resumes from it |
//! | message, ack | a chat text with a random id; it is stored before it is sent, and acked by the receiver after it is stored there |
//! | outbox | the messages of a profile that wait for delivery, in order for each recipient; they expire after 14 days |
//! | history | all stored messages of a profile, until they are deleted by hand or by the retention time |
//! | message request | messages of a stranger, a user whom the profile's owner neither wrote to nor accepted; little is kept of them |
//! | block | the profile's record that a user gets nothing and sends nothing: links, requests and messages of that user are refused |
//! | room | a conversation of many users, `#lab`, without a server: its tracker signs who is a member, the members keep and pass on its messages |
//! | record, epoch | one change of a room's membership, signed by its tracker, and the record's number, which only grows |
//! | cut | the last message that counts of a member who left or was kicked |
//! | slot, permit | the right to be one of a bounded number: a slot is held by a connection or an upload, a permit by a task |
//! | quota, rate limit | a quota bounds how much memory, disk or how many places one user, origin or link takes; a rate limit bounds how often it may ask |

#![warn(missing_docs)]

pub mod content;
pub mod fingerprint;
pub mod frame;
mod group_set;
pub mod hex;
mod ip_network;
pub mod json_scanner;
pub mod limits;
pub mod names;
pub mod peer;
pub mod room;
pub mod safe_text;
mod text_enum;
mod text_serde;
pub mod tracker;
mod untrusted_text;
mod zero_runs;

pub use content::{ContentHash, GroupLayout, Manifest};
pub use fingerprint::Fingerprint;
pub use group_set::GroupSet;
pub use ip_network::Ipv6Network;
pub use names::account_name::{self, NewUserName};
pub use names::{FileName, UserName};
pub use room::{RoomId, RoomName, RoomTopic};
pub use untrusted_text::UntrustedText;
pub use zero_runs::ZeroRuns;

/// Lets the texts of this crate find their translations.
pub fn use_translations() {
    localization::use_catalogue!(&localization::LIBRARY_TEXTS);
}
