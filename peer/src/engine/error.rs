//! Error type of all commands, and its texts.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use shared::account_name::shell_operand;
use shared::names::name_encoding;
use shared::tracker::TrackerRefusal;
use shared::{Fingerprint, RoomName, UntrustedText, UserName};

use super::disk_error::{SpaceShortage, disk_error_text, obstacle_text, shown_path, stream_error_text};
use super::now_ms;
use super::room_action_error::RoomActionError;
use super::size_format::format_size;
use crate::net::{LinkError, StreamError, TrackerError};
use crate::profile::ProfileError;
use crate::sys::{RoomLimit, UnwritableReason, is_too_many_open_files, time_zone};

mod error_kind;

pub use error_kind::ErrorKind;

/// The reason why a command failed. Where the user can do something, the text says what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments contradict each other, or a value is not possible.
    #[error("{0}")]
    Usage(String),
    #[error("not logged in: run `peer register NAME` for a new account or `peer login NAME` for one that exists")]
    NotLoggedIn,
    /// The tracker refused a request, can't be reached, or shows another key than before.
    #[error("{}{}", .0, tracker_hint(.0))]
    Tracker(#[from] TrackerError),
    #[error(transparent)]
    Room(#[from] RoomActionError),
    #[error("the account {user} is tied to another machine; to move it here: `peer login {user} --rebind`")]
    AccountElsewhere { user: UserName },
    #[error("this machine's account is {owner} already; use --home DIR for a second account")]
    ProfileOfAnotherAccount {
        /// The account that the key is bound to.
        owner: UserName,
    },
    /// The key in the profile's folder is bound to another account than the profile's, for instance after a mixed-up
    /// backup.
    #[error(
        "the key {} belongs to {owner}, not {user}: put back the key of {user}, or move this one away and give {user} a \
         new one with `peer login {user} --rebind`",
        shown_path(.path)
    )]
    KeyOfAnotherAccount {
        path: PathBuf,
        /// The account that the key is bound to.
        owner: UserName,
        user: UserName,
    },
    #[error(
        "the account {user} lives on another machine since {}; `peer login {user} --rebind` moves it back here. If it \
         wasn't you who moved it, somebody knows your password: move it back and change it with `peer passwd`",
        format_local_time(*.since)
    )]
    AccountMoved {
        user: UserName,
        /// The time of that login, in milliseconds since 1970 by this machine's clock.
        since: i64,
    },
    #[error(
        "this machine was signed out of {user} ({}): `peer login {user} --rebind` brings the account here",
        .why
    )]
    SignedOut { user: UserName, why: UntrustedText },
    #[error(
        "no tracker{} was found on this network within {seconds} s, and none runs on this machine: name it with \
         --tracker HOST[:PORT]",
        .key.map_or_else(String::new, |key| format!(" with the key {key}"))
    )]
    NoTracker {
        seconds: u64,
        /// The only key that was looked for, if one was given.
        key: Option<Fingerprint>,
    },
    #[error(
        "the tracker at {address} doesn't have the key that is announced for it\n  announced: {announced}\n  \
         shown:     {presented}\nSomebody may be pretending. Ask whoever runs the tracker for its address and key, and \
         name it with --tracker"
    )]
    FalseAnnouncement { address: String, announced: Fingerprint, presented: Fingerprint },
    #[error(
        "the tracker {address} doesn't have the key that was given for it\n  given: {expected}\n  shown: {presented}\n\
         Nothing was sent. Somebody may be pretending to be the tracker: look at the line that it printed when it started, \
         or ask whoever runs it"
    )]
    TrackerKeyMismatch { address: String, expected: Fingerprint, presented: Fingerprint },
    #[error(
        "the tracker {address} is on record with another key than --tracker-key says\n  on record: {known}\n  \
         given:     {given}\nNothing was sent. If whoever runs it says that it has a new key, run\n  \
         peer trust --the-tracker --replace {given} --tracker {address}"
    )]
    TrackerKeyConflict { address: String, known: Fingerprint, given: Fingerprint },
    #[error(
        "this is the first contact with the tracker {address}, and nobody can be asked here whether its key is right\n  \
         its key: {fingerprint}\nNo password was sent. If that is the key in the line that the tracker printed when it \
         started, run\n  peer {again} --tracker {address} --tracker-key {fingerprint}\n\
         or add --accept-new (VIZINHO_ACCEPT_NEW=1) to take the first key that is shown"
    )]
    TrackerKeyUnconfirmed {
        address: String,
        fingerprint: Fingerprint,
        /// The command line without the program's name and options.
        again: String,
    },
    #[error(
        "the tracker {address} was not trusted, and no password was sent: ask whoever runs the tracker for the line that it \
         printed when it started"
    )]
    TrackerKeyDeclined { address: String },
    #[error("there is no user \"{0}\": `peer list` shows who is online")]
    UnknownUser(UserName),
    /// The name may mean several users, which the text names; it comes from the tracker or from this program.
    #[error("{0}")]
    SimilarUsers(UntrustedText),
    #[error("{0} is offline")]
    Offline(UserName),
    #[error("{0} is logged in with a client that other peers can't connect to")]
    Unreachable(UserName),
    #[error("{0} has only a client that other peers can't connect to, and is offline")]
    OfflineWithoutKey(UserName),
    #[error("{0} messages are queued for {1} already: `peer outbox` shows them, `peer outbox drop ID` drops one")]
    OutboxFull(usize, UserName),
    /// There is no link to the user.
    #[error("{user}: {source}{}", connection_hint(user, source))]
    Link { user: UserName, source: LinkError },
    /// A request to the user's peer failed.
    #[error("{user}: {source}")]
    Stream { user: UserName, source: StreamError },
    #[error(
        "the identity of {user} changed\n  on record: {expected}\n  now:       {presented}\n\
         Somebody may be pretending to be {user}. Ask them by other means whether they have a new key; if so, run\n  \
         {}",
        replace_command(user, presented)
    )]
    PeerKeyChanged { user: UserName, expected: Fingerprint, presented: Fingerprint },
    #[error(
        "somebody else answers at {address}, where {user} was last\n  on record: {expected}\n  there:     {presented}\n\
         Nothing was sent. The tracker knows no such key: the address may have gone to another machine, or somebody may be \
         pretending to be {user}. Try again when `peer list` shows {user} elsewhere"
    )]
    UnknownPeerKey { user: UserName, address: SocketAddr, expected: Fingerprint, presented: Fingerprint },
    #[error("the key {key} is {owner}'s, so it can't be {user}'s: nothing was changed")]
    KeyOwnedByOther { user: UserName, owner: UserName, key: Fingerprint },
    #[error("{user} doesn't share {}: see `peer files {}`", name_encoding::display_name(.name), shell_operand(user))]
    NotShared { user: UserName, name: String },
    #[error("{user} doesn't share {} any more{}", name_encoding::display_name(.name), kept_text(.kept.as_ref()))]
    NoLongerShared {
        user: UserName,
        name: String,
        /// The path of the partial file and the number of its verified bytes, if one was kept.
        kept: Option<(PathBuf, u64)>,
    },
    #[error("{0} has an older client, which knows no files of rooms")]
    NoRoomFiles(UserName),
    #[error("nobody else of #{0} is online: `peer room members {0}` shows who is in it")]
    NobodyInRoom(RoomName),
    #[error(
        "nobody of #{room} who is online shares {} with it: see `peer files '#{room}'`",
        name_encoding::display_name(.name)
    )]
    NotSharedInRoom { room: RoomName, name: String },
    #[error("nobody who is online shares {}", name_encoding::display_name(.0))]
    NobodyShares(String),
    #[error("{} can't be fetched from {user} now: {}; try again when nobody writes to it", name_encoding::display_name(.name), .why)]
    Stale { user: UserName, name: String, why: UntrustedText },
    #[error("{} changed {times} times at {user}'s side while it was fetched: try again when nobody writes to it", name_encoding::display_name(.name))]
    KeepsChanging { user: UserName, name: String, times: u32 },
    #[error(
        "{} changed at {user}'s side while it was fetched: what was written is of the version before, and not all of \
         it; run the same command again",
        name_encoding::display_name(.name)
    )]
    ChangedInStream { user: UserName, name: String },
    #[error("{user} can't send {}: {}", name_encoding::display_name(.name), .why)]
    Unreadable { user: UserName, name: String, why: UntrustedText },
    /// Data of another peer is wrong: a hash, a name or a size.
    #[error("{0}")]
    Integrity(String),
    /// An I/O error of a local file or folder.
    #[error("{}: {}", shown_path(.path), disk_error_text(.path, .source))]
    Disk { path: PathBuf, source: io::Error },
    /// No files can be created in the destination.
    #[error("{}: {}", shown_path(.folder), obstacle_text(*.obstacle))]
    FolderUnwritable { folder: PathBuf, obstacle: UnwritableReason },
    #[error("not enough space in {}: {shortage}; free some space, then run the same command again", shown_path(.folder))]
    InsufficientSpace { folder: PathBuf, shortage: SpaceShortage },
    #[error("{} exists: give another destination with -o, or --if-exists rename|overwrite|skip", shown_path(.0))]
    DestinationExists(PathBuf),
    #[error("{} is in the way of a folder of that name: move it away, or give another folder with -o", shown_path(.0))]
    InTheWay(PathBuf),
    #[error("{} is being fetched by another process", shown_path(.0))]
    DestinationInUse(PathBuf),
    /// The profile can't be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(
        "{} keeps this account, and its socket {} is gone: wait some seconds until it is put back, or end the process",
        .pid.map_or_else(|| "another `peer`".to_owned(), |pid| format!("process {pid}")), shown_path(.socket)
    )]
    NodeWithoutSocket {
        pid: Option<u32>,
        /// The path where the socket should be.
        socket: PathBuf,
    },
    #[error("lost touch with the `peer` that runs on this machine: {why}")]
    NodeGone {
        /// The error of the connection to it.
        why: String,
    },
    #[error("{failed} of {total} failed")]
    SomeFailed { failed: usize, total: usize },
    /// An error in the words of another process, or a summary of several errors.
    #[error("{message}")]
    Relayed { kind: ErrorKind, message: String },
    #[error("interrupted")]
    Interrupted,
    #[error("{}", stream_error_text(.0))]
    StandardIo(#[from] io::Error),
    #[error("internal fault: {0}")]
    Internal(String),
}

impl Error {
    /// Returns the error for a tracker that doesn't know this profile's key, which was bound to `user`.
    pub fn signed_out(user: UserName, refusal: TrackerRefusal) -> Self {
        match refusal.moved_for_s {
            Some(ago) => {
                // The tracker sends a duration, because its clock may differ from ours.
                let ago_ms = i64::try_from(ago).unwrap_or(i64::MAX).saturating_mul(1000);
                Self::AccountMoved { user, since: now_ms().saturating_sub(ago_ms) }
            }
            None => Self::SignedOut { user, why: refusal.message },
        }
    }

    /// Wraps an error of a link to `user`.
    pub fn link(user: &UserName, source: LinkError) -> Self {
        match source {
            // A wrong key needs the user's name in its text, which the link doesn't know.
            LinkError::OtherKey { address, expected, presented } => {
                Self::UnknownPeerKey { user: user.clone(), address, expected, presented }
            }
            source => Self::Link { user: user.clone(), source },
        }
    }

    /// Wraps an error of a stream to `user`.
    pub fn stream(user: &UserName, source: StreamError) -> Self {
        match source {
            StreamError::Link(source) => Self::link(user, source),
            source => Self::Stream { user: user.clone(), source },
        }
    }

    /// Returns a function that wraps an I/O error of the file or folder at `path`.
    pub fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Disk { path: path.to_owned(), source }
    }

    /// True if a file can't be opened because too many are open.
    pub fn is_out_of_descriptors(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if is_too_many_open_files(source))
    }

    /// True if the disk has no room for any other file either.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if RoomLimit::of(source).is_some())
    }

    /// True if the reader of standard output closed the pipe, which counts as success.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::StandardIo(why) if why.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn kept_text(kept: Option<&(PathBuf, u64)>) -> String {
    kept.map_or_else(String::new, |(part, bytes)| {
        format!("; {} are kept in {}: delete it if you don't want to go on", format_size(*bytes), shown_path(part))
    })
}

/// Returns the command that finds out why the tracker isn't reached.
const fn tracker_hint(error: &TrackerError) -> &'static str {
    match error {
        TrackerError::Unreachable { .. } => "; `peer doctor` looks into it",
        _ => "",
    }
}

/// Returns the command that finds out why a user isn't reached.
fn connection_hint(user: &UserName, source: &LinkError) -> String {
    match source {
        LinkError::NoAnswer { .. } | LinkError::MtuTooSmall(_) | LinkError::Lost(_) => {
            format!("; `peer doctor {}` looks into it", shell_operand(user))
        }
        _ => String::new(),
    }
}

/// Returns the command that replaces a user's pinned key, ready to be pasted.
fn replace_command(user: &UserName, key: &Fingerprint) -> String {
    // A name with a leading dash has to be the last operand, behind `--`.
    if user.as_str().starts_with('-') {
        format!("peer trust --replace {key} {}", shell_operand(user))
    } else {
        format!("peer trust {user} --replace {key}")
    }
}

/// Formats a time in this machine's time zone.
fn format_local_time(ms: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    moment.to_zoned(time_zone()).strftime("%Y-%m-%d %H:%M").to_string()
}
