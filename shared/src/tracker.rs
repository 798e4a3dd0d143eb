//! What clients and the tracker say to each other: JSON objects over TCP, or over TLS on the same port.
//!
//! This page is the protocol's specification. It began as a course's exercise, and a client of that exercise must go
//! on working: it opens a TCP connection, sends one JSON object, perhaps with no newline, and reads one JSON reply; it
//! may use a new connection for each request or one for all. The exercise's description says `action` where its
//! programs say `cmd`: both are dialects of this protocol, see [below](#the-cmd-dialect).
//!
//! # One port, three first bytes
//!
//! A client may be silent for 10 min, before its first byte as between requests; where connections run out, one that
//! nobody logged in on and that is silent longest makes way. `0x16` (a TLS record) starts TLS 1.3 with the tracker's
//! self-signed certificate, client certificate optional, then the same JSON; the handshake has 10 s. `{`, white space,
//! NUL or a byte-order mark is plaintext JSON. Anything else gets one JSON error line, and the connection ends.
//!
//! # Certificates
//!
//! Both sides' certificates are self-signed and known by their key alone ([`crate::Fingerprint`]). Nobody looks at
//! names or dates, and nothing is signed by anybody else. A client's certificate is taken when it
//!
//! * is an X.509 version 3 certificate that stands alone: the chain that is sent has no second one;
//! * is signed by its own key, which is Ed25519, ECDSA (P-256, P-384, P-521) or RSA (2,048 to 8,192 bits);
//! * is the end of a chain and no authority: no basic constraints at all, or `CA:FALSE`;
//! * has no critical extension but the usual ones (basic constraints, key usage, names), and, if it has an extended key
//!   usage, one that names server authentication: the same certificate answers calls from other peers.
//!
//! Its dates may be any, from 1970 on and in their order: a known key ends by being replaced, at a first contact as
//! later, and machines with a wrong clock are to be reached all the same. Earlier versions looked at them, so
//! certificates are made for 1970 to 9999.
//!
//! Any other ends the handshake with a TLS alert (`certificate unknown`, `bad certificate`, `unknown CA` or the like).
//! `openssl req -x509` makes an authority unless told otherwise; this makes one that is taken:
//!
//! ```text
//! openssl req -x509 -newkey ed25519 -nodes -keyout key.pem -out cert.pem -days 3650 -subj /CN=vizinho \
//!     -addext basicConstraints=critical,CA:FALSE
//! ```
//!
//! A client knows the tracker by its key as well, which the tracker prints when it starts. Our peers send a password or a
//! token only to a key that somebody confirmed.
//!
//! # Framing
//!
//! Objects one after another, with or without white space between ([`crate::json_scanner`]); NUL and byte-order marks
//! count as white space. A length before an object is an error that ends the connection. Requests may be pipelined;
//! replies come in order, each one line of compact JSON ending in `\n`. In plaintext each reply is written in one piece
//! by itself as far as 64 KiB. When the client ends its side, what is complete is answered and the connection ends.
//!
//! # Requests
//!
//! `{"action": "...", "id": any?, ...}`. `id`, if given, comes back in the reply. Unknown fields are ignored, and so are
//! fields that the action doesn't use; a field that is `null` is a field that isn't there. Names of fields and actions
//! may be in upper or lower case; of several fields of one name the last counts that isn't `null`.
//!
//! | action | fields | what it does | reply has |
//! |---|---|---|---|
//! | `REGISTER` | user, password | makes an account; over TLS with a client certificate also binds it | |
//! | `LOGIN` | user, password; port?, addresses\[\]?, rebind?, features\[\]? | authenticates and makes the user present | token, ttl_s, observed_ip, features\[\]? |
//! | `REGISTER_FILES` | user, files\[{name, size, hash}\]; mode? `replace` (default), `add`, `remove`; token?, password? | what the user shares | count, left_out? |
//! | `LIST_PEERS` | user?, name?, hash?, limit?, cursor?, with_files? | who is present | peers\[{user, ip, port, addresses, fingerprint, files}\], total, next? |
//! | `LOGOUT` | user; token?, password? | ends presence, forgets the session's files | |
//! | `RESUME` | port?, addresses\[\]?, instance?, yields?, features\[\]? | over TLS: logs in by the bound certificate; without port only authenticates | user, token, ttl_s, observed_ip, features\[\], elsewhere? |
//! | `HEARTBEAT` | user?, token? | renews the lease of this connection's user, or of `user` where the connection may speak for it | ttl_s |
//! | `WHOIS` | user, fingerprint, or like; features\[\]? | the binding; with `like`, of the only user whose name differs from it in the case of its letters at most, `bad_request` when it may be one of several (feature `similar_names`); over TLS with a bound certificate; an account without a binding is `not_found` to those who don't list `keyless_users` | user, fingerprint?, online |
//! | `FIND` | hash or name (words, [`SearchWords`], accents and normal forms apart); limit?, cursor? | who shares such files, ordered by user and name; over TLS with a bound certificate | files\[{user, name, size, hash}\], next? |
//! | `SUBSCRIBE` | since?, features\[\]? | events on this connection from here on; over TLS with a bound certificate | seq, features\[\] |
//! | `PASSWD` | user, password, new_password | changes the password; the user's other sessions are over | |
//! | `FORWARDED` | for | from a door: the connection is that person's from here on, see [below](#doors); over TLS with the door's certificate, before anybody logs in on the connection | |
//!
//! `porta` is another name for `port`.
//!
//! # What is taken
//!
//! Requests are read leniently, because clients are written in many languages; replies are strict.
//!
//! * A whole number may be a fraction (`1024.0`, `1e3`) or a text (`"1024"`). Where a text is wanted a number is taken
//!   as it is written: `"password": 12345` is the password `12345`. Yes and no may be texts (`"true"`, `"no"`), or 1 and 0.
//! * `port` may be missing, `null`, `""` or 0: then there is none. `addresses` may be one text, with commas.
//!   An empty text is a field that isn't there, but for `user` and `password` where they are needed, and `hash`.
//! * A file's `hash` may be missing or `null`, which is the empty one. `files` may be one file without a list around it.
//! * Of `files` those are kept that can be. A file that can't (a name that is none, a bare text, no `size`, half of a
//!   surrogate pair) is left out: the reply has `left_out`, how many there are, and names the first of them with the
//!   reasons in `message`. Only when none of several can be kept is it an error, and then nothing changes.
//! * A backslash in a string that begins no escape (`"C:\Users"`), and a control character, stand for themselves. `NaN`,
//!   `Infinity` and `-Infinity` are `null`, as which they count in JSON. A comma before a closing bracket is ignored.
//! * Bytes that are not UTF-8, and text that is not JSON, cost their request and not the connection.
//!
//! # Features
//!
//! The replies to `LOGIN`, `RESUME` and `SUBSCRIBE` carry `features`, a list of the names of what this tracker can do
//! beyond the protocol's first version: always over TLS, in plaintext only when the request has `features`, so that
//! replies to clients of the exercise stay short. The client may send its own `features` with these three requests
//! and with `WHOIS`; the last list that came counts for the connection. Names that a side doesn't know are ignored, a list that is
//! missing is empty, and what the other side doesn't list isn't sent to it.
//!
//! | name | listed by | means |
//! |---|---|---|
//! | `partial_files` | tracker | `REGISTER_FILES` keeps the files that are good, and says in `left_out` how many are not |
//! | `similar_names` | tracker | `WHOIS` takes `like` |
//! | `instances` | tracker | `RESUME` heeds `instance` and `yields`, and answers with `elsewhere` |
//! | `keyless_users` | both | `WHOIS` of an account without a binding is answered, without `fingerprint` |
//!
//! # Lists of peers
//!
//! Over TLS `LIST_PEERS` without fields is complete: everybody, with all files, and every field of every entry.
//!
//! In plaintext entries are compact: no field that is empty or null, no `fingerprint`, no `addresses`. Without fields
//! the list has everybody, and of their files only so many that the reply stays below 4,096 bytes, which is what clients
//! of the exercise read at once. Entries come first; what they leave is shared by the files, one of each user in turn,
//! beginning with the latest login. When entries alone are longer, no files are listed. `"with_files": true`, or any
//! other field, gets all files.
//!
//! With `user`, `name` or `hash` it lists those who match, and of their files those that do, at most 1,000 of each user
//! by name or hash. An entry that doesn't list all files it counts has a `file_count`; one that lists all of them has
//! none. A list that was asked for with any field (over TLS any but `"with_files": true`) may end sooner than `limit`,
//! after about 256 KiB: `next` is there whenever there is more, and is the `cursor` of the page that follows. `total`
//! counts the users on all pages.
//!
//! # The `cmd` dialect
//!
//! The clients that were written for the exercise say `cmd` instead of `action`. A request that has `cmd` is answered in
//! their way, whatever was said before on the connection; one that shows neither word in the way of the request before
//! it. In what can't be read or is not whole, the first of both words that stands between quotes counts. All actions and
//! fields are the same; what differs is the reply:
//!
//! * `{"status": "OK"|"ERROR", "msg": "..."}`, `msg` never empty and in Portuguese; no `code`, `message`,
//!   `retry_after_ms`, nor the fields of `LOGIN`, `RESUME` and `HEARTBEAT`. `REGISTER_FILES` has `count` and `left_out`.
//! * `LIST_PEERS` has no `msg`: `{"status": "OK", "peers": {USER: {"connection": {"ip", "porta", "login_time"}, "files":
//!   [{"name", "size", "hash"}], "file_count"?}}, "total"?}`. `porta` is 0 when there is none; `login_time` is
//!   `2024-05-31T13:05:09` in the tracker's local time; `files` may be `[]`.
//! * Without fields (`"with_files": false` aside) that list is always below 4,096 bytes, also over TLS: beyond what fits
//!   it has those who logged in last, the addresses they come from in turn, and says `total`. Files share what entries leave as they do in plaintext; where
//!   not even counts have room `file_count` is missing. 24 peers always fit: with names of 32 bytes they take 3,842
//!   bytes with the longest IPv6 addresses (where not all counts have room) and 3,266 with IPv4 addresses. A list
//!   that was asked for with any other field has pages.
//! * `HEARTBEAT` with `user` renews the lease of a user for whom the connection may speak.
//! * The exercise's rooms (`CREATE_ROOM`, `JOIN_ROOM`, `LIST_ROOMS`, `GET_ROOM_MEMBERS`, `KICK_MEMBER`) are known by name
//!   and answered with `ERROR`: there are none yet.
//!
//! # Replies
//!
//! `{"status": "ok"|"error", "code": "...", "message": "...", ...}`: all three always, `code` is `"ok"` or an
//! [`TrackerErrorCode`], `message` is for people. `rate_limited` and `busy` carry `retry_after_ms`; `not_logged_in`
//! carries `moved_for_s` where another key took the place of the one shown, so many seconds ago. A long request for which
//! there is no memory is answered with `busy` before all of it has come, without its `id`; the rest of it is skipped.
//!
//! # Who may speak for `user` in `REGISTER_FILES` and `LOGOUT`
//!
//! In this order: this connection logged in as that user; a valid `token`; `password` in the request; and, only for
//! accounts without a bound fingerprint, the same IP that logged in within the lease (a client of the exercise with a
//! connection for each request). A connection on which somebody else ever logged in never speaks by its IP.
//!
//! # Names of users
//!
//! `REGISTER` takes a name that begins with a letter or a digit, has no two dots in a row, and can't be taken for that
//! of another account: not one that differs only by the case of its letters, by dots, dashes and underscores, or by
//! characters that look alike ([`crate::account_name`]). Else it is `invalid_user` or `user_exists`, and the message
//! says what to use instead: a name that is free, as far as the tracker knows when it says so. Older accounts keep their names. Everything but `REGISTER` and `like` takes names as they
//! are, byte by byte.
//!
//! # Doors
//!
//! What is bounded for each address is bounded for everybody behind it together. A *door* is a machine through which
//! many people come and that tells them apart: its key is named by whoever runs the tracker (`--trusted-door`). It
//! proves that key by the certificate it shows in TLS, opens a connection for each person, and sends `FORWARDED` with
//! `for`, what it calls the person (1 to 128 bytes: an account of its own, an address; of an IPv6 address the /64).
//! From there on the connection counts as that person's alone, as if they had an address of their own, and as one that
//! shows no certificate: the door's key is never bound to an account of somebody behind it. The `ip` that is listed
//! stays the door's. Any other key, a second `FORWARDED`, or one after a login is `forbidden`.
//!
//! # Bindings
//!
//! A binding says that an account belongs to a certificate's [`crate::Fingerprint`]. It comes only from the certificate
//! presented in TLS, never from JSON. A bound account is never again reachable in plaintext (`tls_required`). Binding
//! another certificate needs the password and `"rebind": true`, and emits `key_changed`; without, it is `key_mismatch`.
//!
//! # Presence
//!
//! A present peer of ours sends `HEARTBEAT` every 30 s; its lease is 90 s, and 10 s after its connection dropped. A
//! client of the exercise stays present until `LOGOUT` or an hour without a request. A new login replaces the old one.
//! The `ip` listed is the one the socket came from; `addresses` are further candidates, the likeliest first. Some of them
//! are those of other machines as well (every machine with containers has a 172.17.0.1): whoever dials and finds another
//! key at one of `addresses`, or the key of another account at `ip`, found a wrong address and no changed identity. A
//! link-local address (fe80::/10) means something on the network on which the tracker is reached.
//!
//! Whoever dials a user sends packets to what that user names, so that `addresses` lead nowhere but to the local
//! network: private, link-local and carrier-shared addresses (RFC 1918, 4193, 3927, 6598) are passed on, the one the
//! tracker sees, those of its IPv6 network, and what whoever runs the tracker allows (`--allow-announce`). Others are
//! dropped without a word, and so are ports below 1024. Who names one that matters looks with `LIST_PEERS` whether it is
//! listed.
//!
//! A profile that was copied runs twice with one key, and each login replaces the other's. A process names itself by
//! `instance` (32 hexadecimal digits, random, another one at each start). With `"yields": true` it only comes back: if
//! another instance is present, that stays, the reply has `elsewhere` (`ip` and `for_s`, the seconds since when), and
//! the connection is authenticated without being present. Without `yields` it takes the other one's place.
//!
//! When an administrator removes or unbinds an account or resets its password, or another certificate takes the place
//! of its own, its sessions are over and the connections they were made on are closed. `PASSWD` does the same to all
//! sessions of its user but that of the connection it came on, which goes on with its token, if it has one.
//!
//! # Events
//!
//! After `SUBSCRIBE` lines with `event` and `seq` come between the replies, which have `status`; each `seq` is one more
//! than the one before, also across a restart, where it jumps ahead. The reply's `seq` is the number after which events
//! follow. `since` continues after the event with that number as long as the tracker still has what came then (the last
//! 4,096 events); else the first line is a `resync`. Who reads too slowly gets `resync` instead of what was left out.
//! After ten events of one user at once, what follows is put together and told once each 100 ms; a login that changes
//! nothing of what was told within the last 10 s is no event.
//!
//! | event | fields | when |
//! |---|---|---|
//! | `online` | user, ip, port, addresses\[\], fingerprint | a user became present, or present elsewhere |
//! | `offline` | user | a user is no longer present |
//! | `files` | user, count | a user shares other files than before |
//! | `key_changed` | user, fingerprint | an account is bound to another key than before; `null`: to none any more |
//! | `resync` | | events were left out: ask for the whole state |
//!
//! # Limits
//!
//! | what | bound | beyond |
//! |---|---|---|
//! | user | `[A-Za-z0-9_.-]`, 1 to 32 bytes; in `REGISTER` see above | `invalid_user` |
//! | password | 1 byte to 1 KiB | `invalid_password` |
//! | file name | components of 255 bytes, 1,024 bytes in all, see [`crate::FileName`] | the file is left out |
//! | hash | 128 characters, no controls | the file is left out; elsewhere `bad_request` |
//! | size | 0 to 2^53 - 1 | the file is left out |
//! | files of one user | 100,000 | `too_large` |
//! | addresses of one user | 8 | `too_large` |
//! | `for` | 1 to 128 bytes | `bad_request` |
//! | files that are named among those left out | 3, 40 characters each | counted |
//! | a reply to `LIST_PEERS` without fields, in plaintext | 4,095 bytes as long as all entries fit; in the `cmd` dialect always | `file_count`, `total` |
//! | words to find | 16 | `bad_request` |
//! | a request | 16 KiB; 16 MiB once logged in (or where a client of the exercise is logged in from the same address) | `too_large`, closed |
//! | nesting of a request | 16 | `too_large`, closed |
//! | time and memory that a client may take, connections, attempts | the tables in the tracker's modules | `rate_limited` or `busy` with `retry_after_ms`, or closed |

mod dialect;
mod event;
mod feature;
mod file_search;
mod reply;
mod request;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use dialect::{Dialect, encode_cmd_error, encode_cmd_names, encode_cmd_ok};
pub use event::{TrackerEvent, TrackerEventKind};
pub use feature::{Feature, FeatureSet};
pub use file_search::{
    FindCriterion, FindCursor, FindReply, FindRequest, FoundFile, SearchWords, push_folded, push_lower, search_words,
    segment_words,
};
pub use reply::{
    EmptyReply, HeartbeatReply, ListPeersReply, ListedPeer, LoginReply, OtherInstance, RegisterFilesReply, ReplyError,
    SubscribeReply, WhoisReply, encode_error, encode_ok, parse_features, parse_reply,
};
pub use request::{
    AnnouncedPresence, Credentials, FilesMode, ForwardedPerson, ListPeersRequest, ParsedRequest, Password,
    RegisterFilesRequest, RejectedFiles, SharedFile, SpeakerProof, TrackerRefusal, TrackerRequest, UnusableName,
    WhoisRequest, guess_dialect, parse_object, parse_request,
};

use crate::limits::MAX_HASH_TEXT_CHARS;

/// The one namespace of codes on the tracker's wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackerErrorCode {
    /// Not JSON, or not an object.
    BadJson,
    /// A field is missing or wrong.
    BadRequest,
    /// No such action.
    UnknownAction,
    /// Not a user name.
    InvalidUser,
    /// Not a password.
    InvalidPassword,
    /// The name is taken.
    UserExists,
    /// Wrong password, or no such user: which of them is not said.
    AuthFailed,
    /// The request needs a session.
    NotLoggedIn,
    /// The session is somebody else's.
    Forbidden,
    /// The account is bound to a certificate and can't be used in plaintext.
    TlsRequired,
    /// The certificate is not the one the account is bound to.
    KeyMismatch,
    /// Too often; `retry_after_ms` says when.
    RateLimited,
    /// Too much at once; `retry_after_ms` says when.
    Busy,
    /// Longer, deeper or more than allowed.
    TooLarge,
    /// No such thing.
    NotFound,
    /// A fault of the tracker.
    Internal,
    /// A code newer than this version.
    #[serde(other)]
    Unknown,
}

impl TrackerErrorCode {
    /// The code as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadRequest => "bad_request",
            Self::UnknownAction => "unknown_action",
            Self::InvalidUser => "invalid_user",
            Self::InvalidPassword => "invalid_password",
            Self::UserExists => "user_exists",
            Self::AuthFailed => "auth_failed",
            Self::NotLoggedIn => "not_logged_in",
            Self::Forbidden => "forbidden",
            Self::TlsRequired => "tls_required",
            Self::KeyMismatch => "key_mismatch",
            Self::RateLimited => "rate_limited",
            Self::Busy => "busy",
            Self::TooLarge => "too_large",
            Self::NotFound => "not_found",
            Self::Internal => "internal",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for TrackerErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A file's hash as the catalogue holds it: our peers put a [`crate::ContentHash`] there, others what they like.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct HashText(Box<str>);

impl HashText {
    /// Takes any text of at most [`MAX_HASH_TEXT_CHARS`] characters, none of them a control.
    pub fn new(text: &str) -> Option<Self> {
        let fits = text.chars().count() <= MAX_HASH_TEXT_CHARS && !text.chars().any(char::is_control);
        fits.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for HashText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| serde::de::Error::custom("a hash has at most 128 characters and no controls"))
    }
}

impl From<crate::ContentHash> for HashText {
    fn from(hash: crate::ContentHash) -> Self {
        Self(hash.to_string().into())
    }
}

/// What a session's token looks like on the wire: 32 random bytes.
///
/// Its `Debug` form is the token itself: keep it out of logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionToken([u8; 32]);

crate::hex::hex_text!(SessionToken, 32);

/// A number that tells one process of a peer from another with the same key, made anew whenever one starts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceId([u8; 16]);

crate::hex::hex_text!(InstanceId, 16);
