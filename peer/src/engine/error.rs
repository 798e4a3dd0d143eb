//! The one error of everything that a command does, and its kinds.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared::account_name::operand;
use shared::names::stand_in;
use shared::peer::Code;
use shared::tracker::{ErrorCode, Refusal};
use shared::{Fingerprint, UntrustedText, UserName};

use super::amount::size;
use super::disk_error::{Shortage, is_of_disk, obstacle_words, shown, stream_words, words};
use super::now_ms;
use crate::net::{LinkError, StreamError, TrackerError};
use crate::profile::ProfileError;
use crate::sys::{FolderObstacle, RoomLimit, is_out_of_descriptors, time_zone};

/// Why something was not done. Every message says what to do next where there is something to be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The words of the command don't make sense together.
    #[error("{0}")]
    Usage(String),
    /// The profile has no account.
    #[error("not logged in: run `peer register NAME` for a new account or `peer login NAME` for one that exists")]
    NotLoggedIn,
    /// The tracker said no, can't be reached, or isn't the one it was.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// The account to be entered has another key than this profile's.
    #[error("the account {user} is tied to another machine; to move it here: `peer login {user} --rebind`")]
    AccountElsewhere {
        /// Whose.
        user: UserName,
    },
    /// This profile's key has another account than the one to be entered.
    #[error("this profile already belongs to {owner}; use --home DIR for a second account")]
    ProfileOf {
        /// Whose it is.
        owner: UserName,
    },
    /// The key in the profile's folder is that of another account than the profile's.
    #[error(
        "the key {} belongs to {owner}, not {user}: put back the key of {user}, or move this one away and give {user} a \
         new one with `peer login {user} --rebind`",
        shown(.path)
    )]
    KeyOfAnotherAccount {
        /// The key's file.
        path: PathBuf,
        /// Whose key it is.
        owner: UserName,
        /// Whose profile it is.
        user: UserName,
    },
    /// The account has another key than this profile's, since some time.
    #[error(
        "the account {user} lives on another machine since {}; `peer login {user} --rebind` moves it back here. If it \
         wasn't you who moved it, somebody knows your password: move it back and change it with `peer passwd`",
        local_time(*.since)
    )]
    AccountMoved {
        /// Whose.
        user: UserName,
        /// When, milliseconds since 1970 by this machine's clock.
        since: i64,
    },
    /// The tracker doesn't know this profile's key any more.
    #[error(
        "this machine was signed out of {user} ({}): `peer login {user} --rebind` brings the account here",
        .why
    )]
    SignedOut {
        /// Of which account.
        user: UserName,
        /// In the tracker's words.
        why: UntrustedText,
    },
    /// No tracker is known, and none was found.
    #[error(
        "no tracker{} was found on this network within {seconds} s, and none runs on this machine: name it with \
         --tracker HOST[:PORT]",
        .key.map_or_else(String::new, |key| format!(" with the key {key}"))
    )]
    NoTracker {
        /// How long it was looked for.
        seconds: u64,
        /// The one key that was looked for.
        key: Option<Fingerprint>,
    },
    /// What was announced as a tracker isn't the one that was announced.
    #[error(
        "the tracker at {address} doesn't have the key that is announced for it\n  announced: {announced}\n  \
         shown:     {presented}\nSomebody may be pretending. Ask whoever runs the tracker for its address and key, and \
         name it with --tracker"
    )]
    FalseAnnouncement {
        /// Where.
        address: String,
        /// The key that was announced.
        announced: Fingerprint,
        /// The key that was shown.
        presented: Fingerprint,
    },
    /// The tracker has another key than the one that was given for it.
    #[error(
        "the tracker {address} doesn't have the key that was given for it\n  given: {expected}\n  shown: {presented}\n\
         Nothing was sent. Somebody may be pretending to be the tracker: look at the line that it printed when it started, \
         or ask whoever runs it"
    )]
    OtherTrackerKey {
        /// Where.
        address: String,
        /// The key that was given.
        expected: Fingerprint,
        /// The key that was shown.
        presented: Fingerprint,
    },
    /// The key that was given for the tracker isn't the one on record.
    #[error(
        "the tracker {address} is on record with another key than --tracker-key says\n  on record: {known}\n  \
         given:     {given}\nNothing was sent. If whoever runs it says that it has a new key, run\n  \
         peer trust --the-tracker --replace {given} --tracker {address}"
    )]
    KeyAgainstRecord {
        /// Where.
        address: String,
        /// The key on record, which was confirmed.
        known: Fingerprint,
        /// The key that was given.
        given: Fingerprint,
    },
    /// Nobody said yet that the tracker's key is the right one, and nobody can be asked.
    #[error(
        "this is the first contact with the tracker {address}, and nobody can be asked here whether its key is right\n  \
         its key: {fingerprint}\nNo password was sent. If that is the key in the line that the tracker printed when it \
         started, run\n  peer {again} --tracker {address} --tracker-key {fingerprint}\n\
         or add --accept-new (VIZINHO_ACCEPT_NEW=1) to take the first key that is shown"
    )]
    KeyToConfirm {
        /// Where.
        address: String,
        /// The key that was shown.
        fingerprint: Fingerprint,
        /// The command, without its options.
        again: String,
    },
    /// Somebody said that the tracker's key is the wrong one.
    #[error(
        "the tracker {address} was not trusted, and no password was sent: ask whoever runs the tracker for the line that it \
         printed when it started"
    )]
    KeyDeclined {
        /// Where.
        address: String,
    },
    /// The tracker has no such account.
    #[error("there is no user \"{0}\": `peer list` shows who is online")]
    UnknownUser(UserName),
    /// Several users may be meant. The text, the tracker's or ours, names them.
    #[error("{0}")]
    SimilarUsers(UntrustedText),
    /// The user isn't there.
    #[error("{0} is offline")]
    Offline(UserName),
    /// The user is there, but not with a peer that can be reached.
    #[error("{0} is logged in with a client that other peers can't connect to")]
    Unreachable(UserName),
    /// The user isn't there, and never was with a peer of ours: nobody could deliver anything to them.
    #[error("{0} has only a client that other peers can't connect to, and is offline")]
    Keyless(UserName),
    /// Too much waits for the user already.
    #[error("{0} messages wait for {1} already: `peer outbox` shows them, `peer outbox drop ID` takes one out")]
    OutboxFull(usize, UserName),
    /// There is no link to the user.
    #[error("{user}: {source}")]
    Link {
        /// Who.
        user: UserName,
        /// Why.
        source: LinkError,
    },
    /// The user's peer did not do what was asked.
    #[error("{user}: {source}")]
    Stream {
        /// Who.
        user: UserName,
        /// Why.
        source: StreamError,
    },
    /// The user's key isn't the one on record.
    #[error(
        "the identity of {user} changed\n  on record: {expected}\n  now:       {presented}\n\
         Somebody may be pretending to be {user}. Ask them by other means whether they have a new key; if so, run\n  \
         {}",
        replace_command(user, presented)
    )]
    PeerChanged {
        /// Who.
        user: UserName,
        /// The key on record.
        expected: Fingerprint,
        /// The key that was shown.
        presented: Fingerprint,
    },
    /// Somebody of whom nobody knows anything answers where the tracker saw the user.
    #[error(
        "somebody else answers at {address}, where {user} was last\n  on record: {expected}\n  there:     {presented}\n\
         Nothing was sent. The tracker knows no such key: the address may have gone to another machine, or somebody may be \
         pretending to be {user}. Try again when `peer list` shows {user} elsewhere"
    )]
    UnknownKey {
        /// Who.
        user: UserName,
        /// Where.
        address: SocketAddr,
        /// The key on record.
        expected: Fingerprint,
        /// The key that was shown.
        presented: Fingerprint,
    },
    /// A key that is said to be the user's is somebody else's.
    #[error("the key {key} is {owner}'s, so it can't be {user}'s: nothing was changed")]
    KeyOfAnother {
        /// Who.
        user: UserName,
        /// Whose it is.
        owner: UserName,
        /// The key.
        key: Fingerprint,
    },
    /// The user offers no such file.
    #[error("{user} doesn't share {}: see `peer files {}`", stand_in::shown(.name), operand(user))]
    NotShared {
        /// Who.
        user: UserName,
        /// What was asked for.
        name: String,
    },
    /// The user offered the file when its fetch began, and doesn't any more.
    #[error("{user} doesn't share {} any more{}", stand_in::shown(.name), kept_words(.kept.as_ref()))]
    NoLongerShared {
        /// Who.
        user: UserName,
        /// What was asked for.
        name: String,
        /// Where the part of it lies that was fetched, and how many bytes of it are right.
        kept: Option<(PathBuf, u64)>,
    },
    /// Nobody who is online offers such a file.
    #[error("nobody who is online shares {}", stand_in::shown(.0))]
    NobodyShares(String),
    /// The file changed at its owner's side and isn't hashed again yet.
    #[error("{} can't be had from {user} now: {}; try again when it is at rest", stand_in::shown(.name), .why)]
    Stale {
        /// Who.
        user: UserName,
        /// What was asked for.
        name: String,
        /// In the owner's words.
        why: UntrustedText,
    },
    /// The file changed again and again while it was fetched.
    #[error("{} changed {times} times at {user}'s side while it was fetched: try again when it is at rest", stand_in::shown(.name))]
    KeepsChanging {
        /// Who.
        user: UserName,
        /// What was asked for.
        name: String,
        /// How often.
        times: u32,
    },
    /// The file changed while it went to standard output, where nothing can be taken back.
    #[error(
        "{} changed at {user}'s side while it was fetched: what was written is of the version before, and not all of \
         it; run the same command again",
        stand_in::shown(.name)
    )]
    ChangedInStream {
        /// Who.
        user: UserName,
        /// What was asked for.
        name: String,
    },
    /// The file can't be read at its owner's side.
    #[error("{user} can't send {}: {}", stand_in::shown(.name), .why)]
    Unreadable {
        /// Who.
        user: UserName,
        /// What was asked for.
        name: String,
        /// In the owner's words.
        why: UntrustedText,
    },
    /// Data is not what it claims to be.
    #[error("{0}")]
    Integrity(String),
    /// The local disk or a local file.
    #[error("{}: {}", shown(.path), words(.path, .source))]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Files can't be put there.
    #[error("{}: {}", shown(.folder), obstacle_words(*.obstacle))]
    Closed {
        /// Where.
        folder: PathBuf,
        /// Why.
        obstacle: FolderObstacle,
    },
    /// There is too little room for them.
    #[error("not enough space in {}: {shortage}; free some space, then run the same command again", shown(.folder))]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// Of bytes or files.
        shortage: Shortage,
    },
    /// The destination is there already.
    #[error("{} exists: give another destination with -o, or --if-exists rename|overwrite|skip", shown(.0))]
    Exists(PathBuf),
    /// A file or a link is where a folder is to be.
    #[error("{} is in the way of a folder of that name: move it away, or give another folder with -o", shown(.0))]
    InTheWay(PathBuf),
    /// Another process writes there.
    #[error("{} is being fetched by another process", shown(.0))]
    InUse(PathBuf),
    /// The profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The profile's node runs and nobody can talk to it.
    #[error(
        "{} holds this profile, and its socket {} is gone: wait some seconds until it is put back, or end the process",
        .pid.map_or_else(|| "a node".to_owned(), |pid| format!("process {pid}")), shown(.socket)
    )]
    NodeWithoutSocket {
        /// Its process.
        pid: Option<u32>,
        /// Where it should listen.
        socket: PathBuf,
    },
    /// The running node ended, or says nothing any more.
    #[error("the running node of this profile: {why}")]
    NodeGone {
        /// What became of it.
        why: String,
    },
    /// Some of several things failed; each was told when it did.
    #[error("{failed} of {total} failed")]
    Partial {
        /// How many failed.
        failed: usize,
        /// Of how many.
        total: usize,
    },
    /// What was told elsewhere: by the running node of this profile, or of several files at once.
    #[error("{message}")]
    Told {
        /// What kind of error it was there.
        kind: ErrorKind,
        /// In its words.
        message: String,
    },
    /// The user ended it.
    #[error("interrupted")]
    Interrupted,
    /// Standard input or output failed.
    #[error("{}", stream_words(.0))]
    Terminal(#[from] io::Error),
    /// A fault of this program.
    #[error("internal fault: {0}")]
    Internal(String),
}

/// What kind of error it is: one exit code each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// None of the others.
    Other,
    /// The command's words.
    Usage,
    /// Not logged in, wrong password.
    NotLoggedIn,
    /// The user is unknown or not there.
    Unavailable,
    /// The file isn't shared.
    NotShared,
    /// The other side doesn't want to.
    Refused,
    /// The network, a time-out, the tracker.
    Network,
    /// Data is not what it claims to be.
    Integrity,
    /// The local disk or a local file.
    Disk,
    /// The destination exists.
    Exists,
    /// Somebody's identity changed.
    IdentityChanged,
    /// Some of several failed.
    Partial,
    /// The user ended it.
    Interrupted,
}

impl ErrorKind {
    /// The kind as programs read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Usage => "usage",
            Self::NotLoggedIn => "not_logged_in",
            Self::Unavailable => "unavailable",
            Self::NotShared => "not_shared",
            Self::Refused => "refused",
            Self::Network => "network",
            Self::Integrity => "integrity",
            Self::Disk => "disk",
            Self::Exists => "exists",
            Self::IdentityChanged => "identity_changed",
            Self::Partial => "partial",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Error {
    /// What it means that the tracker doesn't know this profile's key, which is on record as that of `user`.
    pub fn signed_out(user: UserName, refusal: Refusal) -> Self {
        match refusal.moved_for_s {
            Some(ago) => {
                let ago_ms = i64::try_from(ago).unwrap_or(i64::MAX).saturating_mul(1000);
                Self::AccountMoved { user, since: now_ms().saturating_sub(ago_ms) }
            }
            None => Self::SignedOut { user, why: refusal.message },
        }
    }

    /// An error of a link to `user`.
    pub fn link(user: &UserName, source: LinkError) -> Self {
        match source {
            LinkError::OtherKey { address, expected, presented } => {
                Self::UnknownKey { user: user.clone(), address, expected, presented }
            }
            source => Self::Link { user: user.clone(), source },
        }
    }

    /// An error of a stream to `user`.
    pub fn stream(user: &UserName, source: StreamError) -> Self {
        match source {
            StreamError::Link(source) => Self::link(user, source),
            source => Self::Stream { user: user.clone(), source },
        }
    }

    /// An error of the file or folder at `path`.
    pub fn disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Disk { path: path.to_owned(), source }
    }

    /// Whether a file could not be opened because too many are open.
    pub fn is_for_want_of_descriptors(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if is_out_of_descriptors(source))
    }

    /// Returns whether there is no room for anything else either.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if RoomLimit::of(source).is_some())
    }

    /// Whether whoever read standard output had enough, which is no error to anybody.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Terminal(why) if why.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage(_) | Self::KeyToConfirm { .. } => ErrorKind::Usage,
            Self::NotLoggedIn | Self::AccountMoved { .. } | Self::SignedOut { .. } => ErrorKind::NotLoggedIn,
            Self::Tracker(error) => tracker_kind(error),
            Self::UnknownUser(_)
            | Self::SimilarUsers(_)
            | Self::Offline(_)
            | Self::Unreachable(_)
            | Self::Keyless(_)
            | Self::OutboxFull(..) => ErrorKind::Unavailable,
            Self::Link { source, .. } => link_kind(source),
            Self::Stream { source, .. } => stream_kind(source),
            Self::NoTracker { .. } => ErrorKind::Network,
            Self::PeerChanged { .. }
            | Self::UnknownKey { .. }
            | Self::KeyOfAnother { .. }
            | Self::AccountElsewhere { .. }
            | Self::ProfileOf { .. }
            | Self::KeyOfAnotherAccount { .. }
            | Self::OtherTrackerKey { .. }
            | Self::KeyAgainstRecord { .. }
            | Self::KeyDeclined { .. }
            | Self::FalseAnnouncement { .. } => ErrorKind::IdentityChanged,
            Self::NotShared { .. } | Self::NoLongerShared { .. } | Self::NobodyShares(_) => ErrorKind::NotShared,
            Self::Unreadable { .. } => ErrorKind::Network,
            Self::Integrity(_) | Self::Stale { .. } | Self::KeepsChanging { .. } | Self::ChangedInStream { .. } => {
                ErrorKind::Integrity
            }
            Self::Disk { .. } | Self::Closed { .. } | Self::NoRoom { .. } => ErrorKind::Disk,
            Self::Exists(_) | Self::InTheWay(_) | Self::InUse(_) => ErrorKind::Exists,
            Self::NodeWithoutSocket { .. } | Self::NodeGone { .. } => ErrorKind::Network,
            Self::Profile(ProfileError::NodeStopped { .. }) => ErrorKind::Network,
            Self::Profile(ProfileError::NodeRuns { .. }) | Self::Internal(_) => ErrorKind::Other,
            Self::Profile(_) => ErrorKind::Disk,
            Self::Partial { .. } => ErrorKind::Partial,
            Self::Told { kind, .. } => *kind,
            Self::Interrupted => ErrorKind::Interrupted,
            Self::Terminal(why) if is_of_disk(why) => ErrorKind::Disk,
            Self::Terminal(_) => ErrorKind::Other,
        }
    }
}

fn kept_words(kept: Option<&(PathBuf, u64)>) -> String {
    kept.map_or_else(String::new, |(part, bytes)| {
        format!("; {} are kept in {}: delete it if you don't want to go on", size(*bytes), shown(part))
    })
}

fn tracker_kind(error: &TrackerError) -> ErrorKind {
    match error {
        TrackerError::Unreachable { .. } | TrackerError::NotATracker { .. } => ErrorKind::Network,
        TrackerError::IdentityChanged { .. } => ErrorKind::IdentityChanged,
        TrackerError::Unconfirmed { .. } => ErrorKind::Usage,
        TrackerError::Refused { refusal, .. } => match refusal.code {
            ErrorCode::AuthFailed | ErrorCode::NotLoggedIn | ErrorCode::TlsRequired => ErrorKind::NotLoggedIn,
            ErrorCode::KeyMismatch => ErrorKind::IdentityChanged,
            ErrorCode::InvalidUser | ErrorCode::InvalidPassword => ErrorKind::Usage,
            ErrorCode::NotFound => ErrorKind::Unavailable,
            ErrorCode::RateLimited | ErrorCode::Busy => ErrorKind::Network,
            _ => ErrorKind::Refused,
        },
    }
}

fn link_kind(error: &LinkError) -> ErrorKind {
    match error {
        LinkError::OtherKey { .. } => ErrorKind::IdentityChanged,
        LinkError::Refused {
            code: Code::Unauthorised | Code::Limit | Code::Busy | Code::Protocol | Code::Replaced,
            ..
        } => ErrorKind::Refused,
        LinkError::NoAnswer { .. }
        | LinkError::TooNarrow(_)
        | LinkError::Lost(_)
        | LinkError::Protocol(_)
        | LinkError::Refused { .. } => ErrorKind::Network,
        LinkError::Local(_) => ErrorKind::Other,
    }
}

fn stream_kind(error: &StreamError) -> ErrorKind {
    match error {
        StreamError::Link(error) => link_kind(error),
        StreamError::Reset(code) | StreamError::Answered { code, .. } => match code {
            Code::NotFound => ErrorKind::NotShared,
            Code::Stale => ErrorKind::Integrity,
            Code::ShuttingDown | Code::Replaced | Code::Internal => ErrorKind::Network,
            _ => ErrorKind::Refused,
        },
        _ => ErrorKind::Network,
    }
}

/// The command that takes another key for a user, to be pasted as it is.
fn replace_command(user: &UserName, key: &Fingerprint) -> String {
    if user.as_str().starts_with('-') {
        format!("peer trust --replace {key} {}", operand(user))
    } else {
        format!("peer trust {user} --replace {key}")
    }
}

/// A moment by this machine's clock and time zone.
fn local_time(ms: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    moment.to_zoned(time_zone()).strftime("%Y-%m-%d %H:%M").to_string()
}
