//! Error type of all commands, and its texts.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use localization::tr;
use shared::account_name::shell_operand;
use shared::names::name_encoding;
use shared::tracker::TrackerRefusal;
use shared::{Fingerprint, RoomName, UntrustedText, UserName};

use super::disk_error::{SpaceShortage, disk_error_text, obstacle_text, shown_path, stream_error_text};
use super::now_ms;
use super::room_action_error::RoomActionError;
use crate::net::{LinkError, StreamError, TrackerError};
use crate::profile::ProfileError;
use crate::sys::{SpaceLimit, UnwritableReason, is_too_many_open_files};

mod error_kind;
mod error_texts;

use self::error_texts::{
    format_local_time, link_text, missing_socket_text, no_longer_shared_text, no_tracker_text, replace_command,
    tracker_text,
};
pub use error_kind::ErrorKind;

/// The reason why a command failed. Where the user can do something, the text says what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments contradict each other, or a value is not possible.
    #[error("{0}")]
    Usage(String),
    #[error(
        "{}",
        tr!("not logged in: run `peer register NAME` for a new account or `peer login NAME` for one that exists")
    )]
    NotLoggedIn,
    /// The tracker refused a request, can't be reached, or shows another key than before.
    #[error("{}", tracker_text(.0))]
    Tracker(#[from] TrackerError),
    #[error(transparent)]
    Room(#[from] RoomActionError),
    #[error(
        "{}",
        tr!("the account {user} is tied to another machine; to move it here: `peer login {user} --rebind`", user = .user)
    )]
    AccountElsewhere { user: UserName },
    #[error("{}", tr!("this machine's account is {owner} already; use --home DIR for a second account", owner = .owner))]
    ProfileOfAnotherAccount {
        /// The account that the key is bound to.
        owner: UserName,
    },
    /// The key in the profile's folder is bound to another account than the profile's, for instance after a mixed-up
    /// backup.
    #[error(
        "{}",
        tr!(
            "the key {path} belongs to {owner}, not {user}: put back the key of {user}, or move this one away and give \
             {user} a new one with `peer login {user} --rebind`",
            path = shown_path(.path),
            owner = .owner,
            user = .user
        )
    )]
    KeyOfAnotherAccount {
        path: PathBuf,
        /// The account that the key is bound to.
        owner: UserName,
        user: UserName,
    },
    #[error(
        "{}",
        tr!(
            "the account {user} lives on another machine since {time}; `peer login {user} --rebind` moves it back here. \
             If it wasn't you who moved it, somebody knows your password: move it back and change it with `peer passwd`",
            user = .user,
            time = format_local_time(*.since)
        )
    )]
    AccountMoved {
        user: UserName,
        /// The time of that login, in milliseconds since 1970 by this machine's clock.
        since: i64,
    },
    #[error(
        "{}",
        tr!(
            "this machine was signed out of {user} ({why}): `peer login {user} --rebind` brings the account here",
            user = .user,
            why = .why
        )
    )]
    SignedOut { user: UserName, why: UntrustedText },
    #[error("{}", no_tracker_text(*.seconds, .key.as_ref()))]
    NoTracker {
        seconds: u64,
        /// The only key that was looked for, if one was given.
        key: Option<Fingerprint>,
    },
    #[error(
        "{}",
        tr!(
            "the tracker at {address} doesn't have the key that is announced for it\n  announced: {announced}\n  \
             shown:     {presented}\nSomebody may be pretending. Ask whoever runs the tracker for its address and key, \
             and name it with --tracker",
            address = .address,
            announced = .announced,
            presented = .presented
        )
    )]
    FalseAnnouncement { address: String, announced: Fingerprint, presented: Fingerprint },
    #[error(
        "{}",
        tr!(
            "the tracker {address} doesn't have the key that was given for it\n  given: {expected}\n  \
             shown: {presented}\nNothing was sent. Somebody may be pretending to be the tracker: look at the line that it \
             printed when it started, or ask whoever runs it",
            address = .address,
            expected = .expected,
            presented = .presented
        )
    )]
    TrackerKeyMismatch { address: String, expected: Fingerprint, presented: Fingerprint },
    #[error(
        "{}",
        tr!(
            "the tracker {address} is on record with another key than --tracker-key says\n  on record: {known}\n  \
             given:     {given}\nNothing was sent. If whoever runs it says that it has a new key, run\n  \
             peer trust --the-tracker --replace {given} --tracker {address}",
            address = .address,
            known = .known,
            given = .given
        )
    )]
    TrackerKeyConflict { address: String, known: Fingerprint, given: Fingerprint },
    #[error(
        "{}",
        tr!(
            "this is the first contact with the tracker {address}, and nobody can be asked here whether its key is right\n  \
             its key: {fingerprint}\nNo password was sent. If that is the key in the line that the tracker printed when \
             it started, run\n  peer {again} --tracker {address} --tracker-key {fingerprint}\n\
             or add --accept-new (VIZINHO_ACCEPT_NEW=1) to take the first key that is shown",
            address = .address,
            fingerprint = .fingerprint,
            again = .again
        )
    )]
    TrackerKeyUnconfirmed {
        address: String,
        fingerprint: Fingerprint,
        /// The command line without the program's name and options.
        again: String,
    },
    #[error(
        "{}",
        tr!(
            "the tracker {address} was not trusted, and no password was sent: ask whoever runs the tracker for the line \
             that it printed when it started",
            address = .address
        )
    )]
    TrackerKeyDeclined { address: String },
    #[error("{}", tr!("there is no user \"{user}\": `peer list` shows who is online", user = .0))]
    UnknownUser(UserName),
    /// The name may mean several users, which the text names; it comes from the tracker or from this program.
    #[error("{0}")]
    SimilarUsers(UntrustedText),
    #[error("{}", tr!("{user} is offline", user = .0))]
    Offline(UserName),
    #[error("{}", tr!("{user} is logged in with a client that other peers can't connect to", user = .0))]
    Unreachable(UserName),
    #[error("{}", tr!("{user} has only a client that other peers can't connect to, and is offline", user = .0))]
    OfflineWithoutKey(UserName),
    #[error(
        "{}",
        tr!(
            "{count} messages are queued for {user} already: `peer outbox` shows them, `peer outbox drop ID` drops one",
            count = .0,
            user = .1
        )
    )]
    OutboxFull(usize, UserName),
    /// There is no link to the user.
    #[error("{user}: {}", link_text(user, source))]
    Link { user: UserName, source: LinkError },
    /// A request to the user's peer failed.
    #[error("{user}: {source}")]
    Stream { user: UserName, source: StreamError },
    #[error(
        "{}",
        tr!(
            "the identity of {user} changed\n  on record: {expected}\n  now:       {presented}\n\
             Somebody may be pretending to be {user}. Ask them by other means whether they have a new key; if so, \
             run\n  {command}",
            user = .user,
            expected = .expected,
            presented = .presented,
            command = replace_command(.user, .presented)
        )
    )]
    PeerKeyChanged { user: UserName, expected: Fingerprint, presented: Fingerprint },
    #[error(
        "{}",
        tr!(
            "somebody else answers at {address}, where {user} was last\n  on record: {expected}\n  \
             there:     {presented}\nNothing was sent. The tracker knows no such key: the address may have gone to \
             another machine, or somebody may be pretending to be {user}. Try again when `peer list` shows {user} elsewhere",
            address = .address,
            user = .user,
            expected = .expected,
            presented = .presented
        )
    )]
    UnknownPeerKey { user: UserName, address: SocketAddr, expected: Fingerprint, presented: Fingerprint },
    #[error(
        "{}",
        tr!(
            "the key {key} is {owner}'s, so it can't be {user}'s: nothing was changed",
            key = .key,
            owner = .owner,
            user = .user
        )
    )]
    KeyOwnedByOther { user: UserName, owner: UserName, key: Fingerprint },
    #[error(
        "{}",
        tr!(
            "{user} doesn't share {name}: see `peer files {operand}`",
            user = .user,
            name = name_encoding::display_name(.name),
            operand = shell_operand(.user)
        )
    )]
    NotShared { user: UserName, name: String },
    #[error("{}", no_longer_shared_text(.user, .name, .kept.as_ref()))]
    NoLongerShared {
        user: UserName,
        name: String,
        /// The path of the partial file and the number of its verified bytes, if one was kept.
        kept: Option<(PathBuf, u64)>,
    },
    #[error("{}", tr!("{user} has an older client, which knows no files of rooms", user = .0))]
    NoRoomFiles(UserName),
    #[error("{}", tr!("nobody else of #{room} is online: `peer room members {room}` shows who is in it", room = .0))]
    NobodyInRoom(RoomName),
    #[error(
        "{}",
        tr!(
            "nobody of #{room} who is online shares {name} with it: see `peer files '#{room}'`",
            room = .room,
            name = name_encoding::display_name(.name)
        )
    )]
    NotSharedInRoom { room: RoomName, name: String },
    #[error("{}", tr!("nobody who is online shares {name}", name = name_encoding::display_name(.0)))]
    NobodyShares(String),
    #[error(
        "{}",
        tr!(
            "{name} can't be fetched from {user} now: {why}; try again when nobody writes to it",
            name = name_encoding::display_name(.name),
            user = .user,
            why = .why
        )
    )]
    Stale { user: UserName, name: String, why: UntrustedText },
    #[error(
        "{}",
        tr!(
            "{name} changed {times} times at {user}'s side while it was fetched: try again when nobody writes to it",
            name = name_encoding::display_name(.name),
            times = .times,
            user = .user
        )
    )]
    KeepsChanging { user: UserName, name: String, times: u32 },
    #[error(
        "{}",
        tr!(
            "{name} changed at {user}'s side while it was fetched: what was written is of the version before, and not all \
             of it; run the same command again",
            name = name_encoding::display_name(.name),
            user = .user
        )
    )]
    ChangedInStream { user: UserName, name: String },
    #[error(
        "{}",
        tr!("{user} can't send {name}: {why}", user = .user, name = name_encoding::display_name(.name), why = .why)
    )]
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
    #[error(
        "{}",
        tr!(
            "not enough space in {folder}: {shortage}; free some space, then run the same command again",
            folder = shown_path(.folder),
            shortage = .shortage
        )
    )]
    InsufficientSpace { folder: PathBuf, shortage: SpaceShortage },
    #[error(
        "{}",
        tr!(
            "{path} exists: give another destination with -o, or --if-exists rename|overwrite|skip",
            path = shown_path(.0)
        )
    )]
    DestinationExists(PathBuf),
    #[error(
        "{}",
        tr!(
            "{path} is in the way of a folder of that name: move it away, or give another folder with -o",
            path = shown_path(.0)
        )
    )]
    InTheWay(PathBuf),
    #[error("{}", tr!("{path} is being fetched by another process", path = shown_path(.0)))]
    DestinationInUse(PathBuf),
    /// The profile can't be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error("{}", missing_socket_text(*.pid, .socket))]
    NodeWithoutSocket {
        pid: Option<u32>,
        /// The path where the socket should be.
        socket: PathBuf,
    },
    #[error("{}", tr!("lost touch with the `peer` that runs on this machine: {why}", why = .why))]
    NodeGone {
        /// The error of the connection to it.
        why: String,
    },
    #[error("{}", tr!("{failed} of {total} failed", failed = .failed, total = .total))]
    SomeFailed { failed: usize, total: usize },
    /// An error in the words of another process, or a summary of several errors.
    #[error("{message}")]
    Relayed { kind: ErrorKind, message: String },
    #[error("{}", tr!("interrupted"))]
    Interrupted,
    #[error("{}", stream_error_text(.0))]
    StandardIo(#[from] io::Error),
    #[error("{}", tr!("internal fault: {why}", why = .0))]
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
        matches!(self, Self::Disk { source, .. } if SpaceLimit::of(source).is_some())
    }

    /// True if the reader of standard output closed the pipe, which counts as success.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::StandardIo(why) if why.kind() == io::ErrorKind::BrokenPipe)
    }
}
