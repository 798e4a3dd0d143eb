//! The events of a fetch, for progress displays.

use std::path::Path;
use std::time::Duration;

use shared::peer::FileStat;
use shared::{FileName, UserName};

use super::fetch_report::FileReport;
use super::slowdown_detector::Slowdown;
use crate::profile::ConversationName;

/// The receiver of a fetch's events.
pub(super) type FetchEventHandler<'a> = &'a mut (dyn FnMut(FetchEvent<'_>) + Send);

/// The number of a file in this fetch, in the order of [`FetchEvent::Resolved`].
pub type FileNo = usize;

/// An event of a fetch, for progress display.
#[derive(Debug)]
pub enum FetchEvent<'a> {
    /// The link to the owner is being opened.
    Connecting {
        /// The user or the room whose names are requested.
        from: &'a ConversationName,
    },
    /// A member of the room is connected who has some of the files.
    SourceConnected {
        /// The member.
        user: &'a UserName,
    },
    /// Members of the room share different files under one name; the newest is fetched.
    VersionChosen {
        /// The name.
        name: &'a FileName,
        /// The member whose file is fetched.
        owner: &'a UserName,
        /// The members who share another file.
        others: &'a [UserName],
    },
    /// Existing local data is being hashed, to be skipped or resumed.
    Checking {
        /// The resumed file; `None` for a file that may be skipped.
        file: Option<FileNo>,
        /// Its name at the source.
        name: &'a FileName,
        /// Its size in bytes.
        size: u64,
        /// Bytes hashed since the previous event of this file.
        bytes: u64,
    },
    /// All names are resolved and the targets planned.
    Resolved {
        /// Number of files that will be fetched.
        files: usize,
        /// Sum of their sizes.
        bytes: u64,
    },
    /// A partial file of an older version of the file was removed.
    OutdatedRemoved {
        /// Its name at the source.
        name: &'a FileName,
    },
    /// The first bytes of a file are being requested.
    Started {
        /// The started file.
        file: FileNo,
        /// The user under whose name it is shared.
        owner: &'a UserName,
        /// Its name at the source.
        name: &'a FileName,
        /// Its size in bytes.
        size: u64,
        /// Bytes kept from an earlier attempt, verified again.
        resumed: u64,
    },
    /// The partial file of a file with several groups is open; its verified groups can be shared from there.
    Opened {
        /// The opened file.
        file: FileNo,
        /// The owner's description.
        stat: &'a FileStat,
        /// Its future name at the destination.
        name: &'a str,
        /// The path of the partial file.
        partial_path: &'a Path,
    },
    /// No source has this version of the file any more. The owner is asked again; then the file restarts or fails. Its
    /// verified bytes don't count until then.
    Paused {
        /// The paused file.
        file: FileNo,
        /// Its verified bytes, which the display takes back.
        bytes: u64,
    },
    /// The owner has other content under this name; the file restarts with that.
    ContentChanged {
        /// Its name at the source.
        name: &'a FileName,
    },
    /// More bytes of a file were verified.
    Verified {
        /// The verified file.
        file: FileNo,
        /// Bytes verified since the previous event of this file.
        bytes: u64,
    },
    /// A file is settled.
    Finished {
        /// The file; `None` for a name that led to no file.
        file: Option<FileNo>,
        /// Its outcome and byte counts.
        report: &'a FileReport,
    },
    /// The fetch waits until the owner has hashed a file again.
    AwaitingRehash {
        /// The requested name.
        name: &'a str,
    },
    /// The fetch waits until a process reads from the destination pipe.
    AwaitingReader {
        /// The path of the pipe.
        path: &'a Path,
    },
    /// Another user has the same content and becomes a source.
    SourceJoined {
        /// The new source.
        user: &'a UserName,
    },
    /// A named user, or one who has the same content, can't be asked.
    SourceUnavailable {
        /// The unavailable user.
        user: &'a UserName,
        /// The reason, in words for the user.
        why: &'a str,
    },
    /// The link to a source is lost; it is dialled again.
    SourceLost {
        /// The lost source.
        user: &'a UserName,
        /// The reason, in words for the user.
        why: &'a str,
    },
    /// A source is there and sends nothing, as when its disk hangs; it is called again.
    Silent {
        /// The silent source.
        user: &'a UserName,
        /// Time in which next to nothing came.
        time: Duration,
    },
    /// A source that was fast sends at a crawl; others are looked for, unless the user named those that may be asked.
    Slow {
        /// The slow source.
        user: &'a UserName,
        /// Its rates.
        slowdown: Slowdown,
        /// True if other sources are looked for.
        seeks: bool,
    },
    /// A source that was gone is back.
    SourceReturned {
        /// The returned source.
        user: &'a UserName,
    },
    /// A source sent something provably false and is not asked again.
    SourceBanned {
        /// The banned source.
        user: &'a UserName,
        /// The misbehaviour, in words for the user.
        why: &'a str,
    },
    /// Two names differ only by case or normal form: some systems can't hold both.
    CollidingNames {
        /// The earlier of the two.
        one: &'a str,
        /// The later one.
        other: &'a str,
    },
}
