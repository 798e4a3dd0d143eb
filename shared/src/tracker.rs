//! The protocol between clients and the tracker: JSON objects over TCP, or over TLS on the same port.
//!
//! This page is the protocol's specification. The protocol began as the exercise of a course, and clients of that
//! exercise must keep working. Such a client opens a TCP connection, sends one JSON object, perhaps without a newline,
//! and reads one JSON reply. It may use one connection for each request or one for all. The exercise's description says
//! `action` where its programs say `cmd`: both are dialects of this protocol, see [below](#the-cmd-dialect).
//!
//! # One port, three first bytes
//!
//! A client may be silent for 10 min, before its first byte as well as between requests. When connections run out, the
//! one that has been silent longest without a login is closed. `0x16` (a TLS record) starts TLS 1.3 with the tracker's
//! self-signed certificate and an optional client certificate; the same JSON follows. The handshake must end within 10
//! s. `{`, white space, NUL or a byte-order mark is plaintext JSON. Any other first byte gets one line with a JSON
//! error, and the connection is closed.
//!
//! # Certificates
//!
//! The certificates of both sides are self-signed and identified by their keys alone ([`crate::Fingerprint`]). Names
//! and dates are ignored, and there are no certificate authorities. A client's certificate is accepted if it
//!
//! * is an X.509 version 3 certificate sent alone, without a chain;
//! * is signed by its own key, which is Ed25519, ECDSA (P-256, P-384, P-521) or RSA (2,048 to 8,192 bits);
//! * is no certificate authority: no basic constraints at all, or `CA:FALSE`;
//! * has no critical extensions except the usual ones (basic constraints, key usage, names) and, if it has an extended
//!   key usage, includes server authentication: the same certificate answers links from other peers.
//!
//! Its dates may be any from 1970 on, in order. A known key ends by being replaced and not by a date, and machines with
//! a wrong clock must be reachable. Earlier versions checked dates, so certificates are issued for 1970 to 9999.
//!
//! Any other certificate ends the handshake with a TLS alert (`certificate unknown`, `bad certificate`, `unknown CA` or
//! the like). `openssl req -x509` makes an authority by default; this command makes a certificate that is accepted:
//!
//! ```text
//! openssl req -x509 -newkey ed25519 -nodes -keyout key.pem -out cert.pem -days 3650 -subj /CN=vizinho \
//!     -addext basicConstraints=critical,CA:FALSE
//! ```
//!
//! A client identifies the tracker by its key as well, whose fingerprint the tracker prints when it starts. Our peers
//! send a password or a token only to a key that the user confirmed.
//!
//! # Framing
//!
//! Objects follow each other with or without white space between them ([`crate::json_scanner`]); NUL and byte-order
//! marks count as white space. A length before an object is an error that closes the connection. Requests may be
//! pipelined. Replies come in order, each as one line of compact JSON that ends in `\n`. In plaintext, each reply of up
//! to 64 KiB is written in one piece of its own. When the client ends its side, complete requests are answered and the
//! connection is closed.
//!
//! # Requests
//!
//! `{"action": "...", "id": any?, ...}`. An `id` is repeated in the reply. Unknown fields are ignored, and so are
//! fields that the action doesn't use. A field that is `null` counts as missing. Names of fields and actions may be in
//! any case of letters. Of several fields with one name, the last that isn't `null` counts.
//!
//! | action | fields | effect | reply has |
//! |---|---|---|---|
//! | `REGISTER` | user, password; idempotency_key? | creates an account; over TLS with a client certificate also binds it | |
//! | `LOGIN` | user, password; port?, addresses\[\]?, rebind?, features\[\]? | authenticates and makes the user present | token, ttl_s, observed_ip, features\[\]? |
//! | `REGISTER_FILES` | user, files\[{name, size, hash}\]; mode? `replace` (default), `add`, `remove`; token?, password? | sets the files that the user shares | count, left_out? |
//! | `LIST_PEERS` | user?, name?, hash?, limit?, cursor?, with_files? | lists present users | peers\[{user, ip, port, addresses, fingerprint, files}\], total, next? |
//! | `LOGOUT` | user; token?, password? | ends presence, removes the session's files | |
//! | `RESUME` | port?, addresses\[\]?, instance?, yields?, features\[\]? | over TLS: logs in by the bound certificate; without port only authenticates | user, token, ttl_s, observed_ip, features\[\], elsewhere?; without port now_ms?, version? (the tracker's clock in milliseconds since 1970, and its version) |
//! | `HEARTBEAT` | user?, token? | renews the lease of this connection's user, or of `user` if the connection may speak for it | ttl_s |
//! | `WHOIS` | user, fingerprint, or like; features\[\]? | tells a binding; with `like`, that of the only user whose name is equal apart from the case of letters, or `bad_request` if there may be several (feature `similar_names`); over TLS with a bound certificate; an account without a binding is `not_found` for clients that don't list `keyless_users` | user, fingerprint?, online |
//! | `FIND` | hash or name (words, [`SearchWords`], without regard to accents and normal forms); limit?, cursor? | finds such files of present users, ordered by user and name; over TLS with a bound certificate | files\[{user, name, size, hash}\], next? |
//! | `SUBSCRIBE` | since?, features\[\]? | sends events on this connection from now on; over TLS with a bound certificate | seq, features\[\] |
//! | `ROOM_...` | | act on rooms, see [`room_request`] (feature `rooms`) | |
//! | `PASSWD` | user, password, new_password; idempotency_key? | changes the password and ends the user's other sessions | |
//! | `FORWARDED` | for | from a door: the connection belongs to that person from now on, see [below](#doors); over TLS with the door's certificate, before any login on the connection | |
//!
//! `porta` is another name for `port`.
//!
//! `idempotency_key` is 32 random hexadecimal digits that the client sends with `REGISTER`, `PASSWD` or `ROOM_CREATE`, and
//! again when it repeats the request because the reply got lost or was `busy`. If the first one had succeeded, the
//! repetition gets the same `ok` and changes nothing, at any tracker of the same database. All other actions may be repeated
//! without one: what they ask for is then so, or is refused because it is so already.
//!
//! # Leniency
//!
//! Requests are read leniently, because clients are written in many languages. Replies are strict.
//!
//! * A whole number may be written as a fraction (`1024.0`, `1e3`) or a text (`"1024"`). Where a text is expected, a
//!   number counts as it is written: `"password": 12345` is the password `12345`. Booleans may be texts (`"true"`,
//!   `"no"`), or 1 and 0.
//! * `port` may be missing, `null`, `""` or 0: then there is none. `addresses` may be one text, with commas. An empty
//!   text counts as a missing field, except for `hash` and for required `user` and `password`.
//! * A file's `hash` may be missing or `null`, which is the empty hash. `files` may be one file without a list around
//!   it.
//! * An invalid file in `files` (with an invalid name, a bare text, no `size`, an unpaired surrogate) is left out and
//!   the others are kept. The reply has their number as `left_out`, and `message` names the first of them with the
//!   reasons. It is an error only if none of several can be kept; then nothing changes.
//! * A backslash in a string that begins no escape (`"C:\Users"`), and a control character, stand for themselves.
//!   `NaN`, `Infinity` and `-Infinity` count as `null`. A comma before a closing bracket is ignored.
//! * Bytes that are not UTF-8, and text that is not JSON, fail their request and not the connection.
//!
//! # Features
//!
//! The replies to `LOGIN`, `RESUME` and `SUBSCRIBE` carry `features`, a list of the tracker's features beyond the
//! protocol's first version: always over TLS, in plaintext only if the request has `features`, so that replies to
//! clients of the exercise stay short. A client may send its own `features` with these three requests and with `WHOIS`;
//! the latest list counts for the connection. Unknown names are ignored, a missing list is empty, and nothing is sent
//! that depends on a feature which the other side doesn't list.
//!
//! | name | listed by | meaning |
//! |---|---|---|
//! | `partial_files` | tracker | `REGISTER_FILES` keeps valid files, and gives the number of others as `left_out` |
//! | `similar_names` | tracker | `WHOIS` takes `like` |
//! | `instances` | tracker | `RESUME` uses `instance` and `yields`, and answers with `elsewhere` |
//! | `keyless_users` | both | `WHOIS` of an account without a binding is answered, without `fingerprint` |
//! | `rooms` | both | the actions on rooms ([`room_request`]); to a client that lists it the event `room` is sent |
//!
//! # Lists of peers
//!
//! Over TLS, `LIST_PEERS` without fields is complete: all users with all files, and all fields of each entry.
//!
//! In plaintext, entries are compact: no empty or null fields, no `fingerprint`, no `addresses`. Without fields the
//! list has all users, and as many of their files as keep the reply below 4,096 bytes, which clients of the exercise
//! read at once. Entries come first. Files share the remaining space, one of each user in turn, beginning with the
//! latest login. If the entries alone are longer, no files are listed. `"with_files": true`, or any other field, gets
//! all files.
//!
//! With `user`, `name` or `hash` the list has only users who match and, by name or hash, only their matching files, at
//! most 1,000 of each user. An entry that doesn't list all the files it counts has `file_count`. A list that was
//! requested with any field (over TLS any except `"with_files": true`) may end before `limit`, after about 256 KiB.
//! `next` is present whenever there is more, and is the `cursor` of the following page. `total` counts the users on all
//! pages.
//!
//! # The `cmd` dialect
//!
//! The clients written for the exercise say `cmd` instead of `action`. A request with `cmd` is answered in this
//! dialect, regardless of earlier requests on the connection. A request with neither is answered in the dialect of the
//! request before it. In an object that is incomplete or not JSON, the first of both keys in quotes counts. Actions and
//! fields are the same; only replies differ:
//!
//! * `{"status": "OK"|"ERROR", "msg": "..."}`, with `msg` never empty and in Portuguese; no `code`, `message`,
//!   `retry_after_ms`, nor the fields of `LOGIN`, `RESUME` and `HEARTBEAT`. `REGISTER_FILES` has `count` and
//!   `left_out`.
//! * `LIST_PEERS` has no `msg`: `{"status": "OK", "peers": {USER: {"connection": {"ip", "porta", "login_time"},
//!   "files": [{"name", "size", "hash"}], "file_count"?}}, "total"?}`. `porta` is 0 if there is none; `login_time` is
//!   `2024-05-31T13:05:09` in the tracker's local time; `files` may be `[]`.
//! * Without fields (or only `"with_files": false`) that list is always below 4,096 bytes, over TLS too. If not all
//!   users fit, it has those who logged in last, their addresses in turn, and says `total`. Files share the remaining
//!   space as in plaintext; where not even counts fit, `file_count` is missing. 24 peers always fit: with names of 32
//!   bytes they take 3,842 bytes with the longest IPv6 addresses (without some counts) and 3,266 with IPv4 addresses. A
//!   list that was requested with any other field has pages.
//! * `HEARTBEAT` with `user` renews the lease of a user for whom the connection may speak.
//! * The exercise's rooms (`CREATE_ROOM`, `JOIN_ROOM`, `LIST_ROOMS`, `GET_ROOM_MEMBERS`, `KICK_MEMBER`) are answered with
//!   lists of names, `{"status": "OK", "msg", "rooms"|"members": [...], "total"?}`, always below 4,096 bytes, see
//!   [`room_request`].
//!
//! # Replies
//!
//! `{"status": "ok"|"error", "code": "...", "message": "...", ...}`: always these three. `code` is `"ok"` or a
//! [`TrackerErrorCode`], and `message` is for people. `rate_limited` and `busy` carry `retry_after_ms`. `not_logged_in`
//! carries `moved_for_s`, in seconds, if another key replaced the shown one that long ago. A long request for which
//! there is no memory is answered with `busy` and without its `id` before it is complete; the rest of it is skipped.
//!
//! # The right to speak for `user` in `REGISTER_FILES` and `LOGOUT`
//!
//! In this order: a login as that user on this connection; a valid `token`; `password` in the request; and, only for
//! accounts without a binding, the IP address from which the user logged in, within the lease (for a client of the
//! exercise with one connection per request). A connection on which another user ever logged in never speaks by its IP
//! address.
//!
//! # Names of users
//!
//! `REGISTER` accepts a name that begins with a letter or a digit, has no two dots in a row, and can't be mistaken for
//! that of another account: it must differ by more than the case of letters, dots, dashes and underscores, or
//! characters that look alike ([`crate::account_name`]). Otherwise the error is `invalid_user` or `user_exists`, and
//! the message suggests a name that was free when the tracker answered. Older accounts keep their names. Everything
//! except `REGISTER` and `like` compares names byte by byte.
//!
//! # Doors
//!
//! Limits by address apply to all people behind one address together. A *door* is a trusted machine through which many
//! people connect and which tells them apart; the tracker's operator names its key (`--trusted-door`). The door proves
//! that key by its TLS certificate, opens one connection for each person, and sends `FORWARDED` with `for`, its name
//! for the person (1 to 128 bytes: an account of its own, or an address; of an IPv6 address the /64). From then on the
//! connection counts as that person's, as if the person had an address of their own, and as one without a certificate:
//! the door's key is never bound to an account of a person behind it. The listed `ip` stays the door's. Another key, a
//! second `FORWARDED`, or one after a login is `forbidden`.
//!
//! A person with a key of their own, such as a user of `peer web --accounts`, shows that key by the certificate. The door
//! then proves its own by two more fields: `key`, its Ed25519 key, and `signature`, over the bytes `vizinho 2026 door proof
//! v1`, NUL, 32 bytes exported from the TLS connection (label `EXPORTER-vizinho-door-proof`, no context) and `for`, both
//! in hexadecimal. The certificate stays the person's: it is bound and authenticates as everywhere.
//!
//! # Bindings
//!
//! A binding says that an account belongs to a certificate's [`crate::Fingerprint`]. The fingerprint comes only from
//! the certificate presented in TLS, never from JSON. A bound account can't be used in plaintext any more
//! (`tls_required`). Binding another certificate needs the password and `"rebind": true`, and emits `key_changed`;
//! without `rebind` it is `key_mismatch`.
//!
//! # Presence
//!
//! A node sends `HEARTBEAT` every 30 s. Its lease is 90 s, and 10 s after its connection closed. A client of the
//! exercise stays present until `LOGOUT` or an hour without a request. A new login replaces the old one. The listed
//! `ip` is the address from which the tracker sees the user; `addresses` are further candidates, the likeliest first.
//! Some of them belong to other machines as well (every machine with containers has a 172.17.0.1). A dialer that finds
//! another key at one of `addresses`, or the key of another account at `ip`, has found a wrong address and not a
//! changed identity. A link-local address (fe80::/10) belongs to the network on which the tracker is reached.
//!
//! A dialer sends packets to the addresses that a user announces, so `addresses` must not lead beyond the local
//! network. The tracker passes on private, link-local and carrier-shared addresses (RFC 1918, 4193, 3927, 6598), the
//! observed one, those of its IPv6 network, and those that the operator allows (`--allow-announce`). It drops all
//! others, and ports below 1024, without an error. A client that needs a certain address listed checks it with
//! `LIST_PEERS`.
//!
//! A copied profile runs as two processes with one key, and each login would replace the other's. A process identifies
//! itself by `instance` (32 random hexadecimal digits, new at each start). With `"yields": true`, it doesn't replace
//! another instance that is present: the reply has `elsewhere` (`ip` and `for_s`, the seconds since it became present),
//! and the connection is authenticated without being present. Without `yields`, it replaces the other one.
//!
//! When an administrator removes or unbinds an account or resets its password, or another certificate replaces the
//! account's, its sessions end and their connections are closed. `PASSWD` does the same to all sessions of its user
//! except that of its own connection, which continues with its token, if it has one.
//!
//! # Events
//!
//! After `SUBSCRIBE`, lines with `event` and `seq` come between the replies, which have `status`. Each `seq` is one
//! more than the one before, except that a restart of the tracker jumps ahead. The reply's `seq` is the number after
//! which events follow. `since` continues after the event with that number if the tracker still has the later ones (it
//! keeps the last 4,096 events); otherwise the first line is a `resync`. A subscriber that reads too slowly gets
//! `resync` in place of the dropped events. After ten events of one user in a burst, later ones are merged and sent
//! every 100 ms; after 12 `online`, `moved` and `offline`, or 4 `key_changed`, one every 10 s. The newest state is always sent. A
//! login that changes nothing reported in the last 10 s is no event.
//!
//! | event | fields | cause |
//! |---|---|---|
//! | `online` | user, ip, port, addresses\[\], fingerprint | a user became present |
//! | `moved` | the same | a user who is present logged in again, perhaps at other addresses |
//! | `offline` | user | a user is no longer present |
//! | `files` | user, count | a user's shared files changed |
//! | `key_changed` | user, fingerprint | an account is bound to another key; `null`: to none any more |
//! | `room` | id, epoch, head | one of the subscriber's rooms changed, see [`room_request`]; it has no number of its own |
//! | `resync` | | events were dropped: request the whole state |
//!
//! # Limits
//!
//! | limited | bound | beyond |
//! |---|---|---|
//! | user | `[A-Za-z0-9_.-]`, 1 to 32 bytes; in `REGISTER` see above | `invalid_user` |
//! | password | 1 byte to 1 KiB | `invalid_password` |
//! | file name | components of 255 bytes, 1,024 bytes in all, see [`crate::FileName`] | the file is left out |
//! | hash | 128 characters, no controls | the file is left out; elsewhere `bad_request` |
//! | size | 0 to 2^53 - 1 | the file is left out |
//! | files of one user | 100,000 | `too_large` |
//! | addresses of one user | 8 | `too_large` |
//! | `for` | 1 to 128 bytes | `bad_request` |
//! | left-out files that are named | 3, 40 characters each | counted |
//! | a reply to `LIST_PEERS` without fields, in plaintext | 4,095 bytes if all entries fit; in the `cmd` dialect always | `file_count`, `total` |
//! | a reply that a peer reads | 4 MiB, 10,000 users; 32 MiB for all files of one user | the peer ends the connection |
//! | search words | 16 | `bad_request` |
//! | a request | 16 KiB; 16 MiB after a login (or if a client of the exercise is logged in from the same address) | `too_large`, closed |
//! | nesting of a request | 16 | `too_large`, closed |
//! | time and memory of a client, connections, attempts | the tables in the tracker's modules | `rate_limited` or `busy` with `retry_after_ms`, or closed |

mod bounded_list;
mod dialect;
mod door_proof;
mod event;
mod feature;
mod file_search;
mod reply;
mod request;
pub mod room_reply;
pub mod room_request;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use dialect::{Dialect, encode_cmd_error, encode_cmd_ok, encode_names};
pub use door_proof::{ChannelBinding, DOOR_PROOF_EXPORTER, DoorProof, door_proof_bytes};
pub use event::{TrackerEvent, TrackerEventKind, UserLocation};
pub use feature::{Feature, FeatureSet};
pub use file_search::{
    FindCriterion, FindCursor, FindReply, FindRequest, FoundFile, SearchWords, push_folded, push_lower, search_words,
    segment_words,
};
pub use reply::{
    EmptyReply, HeartbeatReply, ListPeersReply, ListedPeer, LoginReply, OtherInstance, RegisterFilesReply, ReplyError,
    SubscribeReply, UserFilesReply, WhoisReply, encode_error, encode_ok, parse_features, parse_reply,
};
pub use request::{
    AnnouncedPresence, Credentials, FilesMode, ForwardedPerson, ListPeersRequest, ParsedRequest, Password,
    RegisterFilesRequest, RejectedFiles, SharedFile, SpeakerProof, TrackerRefusal, TrackerRequest, UnusableName,
    WhoisRequest, guess_dialect, parse_object, parse_request,
};

use crate::limits::MAX_HASH_TEXT_CHARS;
use crate::text_enum;

text_enum! {
    /// The codes of the tracker's protocol.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum TrackerErrorCode {
        /// The request is not JSON, or not an object.
        BadJson = "bad_json",
        /// A field is missing or invalid.
        BadRequest = "bad_request",
        /// The action is unknown.
        UnknownAction = "unknown_action",
        /// The user name is invalid.
        InvalidUser = "invalid_user",
        /// The new password is invalid.
        InvalidPassword = "invalid_password",
        /// The name is taken, or looks like one that is.
        UserExists = "user_exists",
        /// Wrong password or unknown user; the code doesn't tell which.
        AuthFailed = "auth_failed",
        /// The request needs a session.
        NotLoggedIn = "not_logged_in",
        /// The sender is known but may not do this: the session is another user's, for example.
        Forbidden = "forbidden",
        /// The account is bound to a certificate and can't be used in plaintext.
        TlsRequired = "tls_required",
        /// The account is bound to another certificate.
        KeyMismatch = "key_mismatch",
        /// Too many attempts; `retry_after_ms` tells when to try again.
        RateLimited = "rate_limited",
        /// Too much load; `retry_after_ms` tells when to try again.
        Busy = "busy",
        /// The request is too long, too deep, or has too many items.
        TooLarge = "too_large",
        /// The user, binding, file or room doesn't exist.
        NotFound = "not_found",
        /// It was done already, perhaps by somebody else and otherwise.
        Stale = "stale",
        /// The tracker failed.
        Internal = "internal",
        /// A code newer than this version.
        #[serde(other)]
        Unknown = "unknown",
    }
}

impl fmt::Display for TrackerErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A file's hash in the catalogue: a [`crate::ContentHash`] from our peers, any short text from other clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct HashText(Box<str>);

impl HashText {
    /// Returns the text as a hash, or `None` if it has more than [`MAX_HASH_TEXT_CHARS`] characters or a control
    /// character.
    pub fn new(text: &str) -> Option<Self> {
        // Other clients choose the hash function, so only length and control characters are checked.
        let fits = text.chars().count() <= MAX_HASH_TEXT_CHARS && !text.chars().any(char::is_control);
        fits.then(|| Self(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for HashText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A `&str` can't be read from text with escapes.
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| serde::de::Error::custom("a hash has at most 128 characters and no controls"))
    }
}

impl From<crate::ContentHash> for HashText {
    fn from(hash: crate::ContentHash) -> Self {
        Self(hash.to_string().into())
    }
}

/// The token of a session: 32 random bytes, hexadecimal on the wire.
///
/// Its `Debug` form shows the token: keep it out of logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionToken([u8; 32]);

crate::hex::hex_text!(SessionToken, 32);

/// A random number that distinguishes the processes using one key, new at each start.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceId([u8; 16]);

crate::hex::hex_text!(InstanceId, 16);

/// A random number that a client chooses for one change, and sends again with each repetition after a lost reply
/// (as the HTTP header of draft-ietf-httpapi-idempotency-key-header).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey([u8; 16]);

crate::hex::hex_text!(IdempotencyKey, 16);

impl IdempotencyKey {
    /// Derives what all repetitions of a user's request have in common, for one purpose, and no other request has.
    pub fn derive(&self, purpose: &str, user: &crate::UserName) -> [u8; 16] {
        // With the user, since clients choose the keys: one that two of them chose derives something for each.
        // NUL ends the purpose and the key has a fixed length, so no other parts give the same bytes.
        let mut hasher = blake3::Hasher::new_derive_key("vizinho idempotency key 1");
        for part in [purpose.as_bytes(), &[0], &self.0, user.as_str().as_bytes()] {
            hasher.update(part);
        }
        let mut derived = [0; 16];
        hasher.finalize_xof().fill(&mut derived);
        derived
    }
}
