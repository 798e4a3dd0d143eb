//! The request of a fetch: the names, the destination and the rules.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::peer::{FileSend, FolderTime};
use shared::{FileName, UserName};

use crate::profile::ConversationName;
use crate::sys::path_text;

/// The names to fetch, their owner, and the destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRequest {
    /// The user, or the room, whose shared names these are.
    pub from: ConversationName,
    /// Names, folders and patterns, as the user asked for them.
    pub names: Vec<RequestedName>,
    /// The folder, file or stream that receives the content.
    pub destination: FetchDestination,
    /// The rule for names that exist at the destination.
    pub if_exists: IfExists,
    /// Parallel streams per source.
    pub streams: usize,
    /// Links to each source; `None`: as many as measurement says pay, on a machine with the cores for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
    /// The users who are asked for the same content besides the owner.
    pub sources: SourcePolicy,
    /// Bytes per second, over all sources; `None`: unlimited.
    pub limit: Option<u64>,
    /// The longest wait for a lost source before it is given up.
    #[serde(rename = "patience")]
    pub source_timeout: Duration,
    /// Modification times of folders that an earlier attempt made, by path below the destination; set at the end.
    #[serde(default)]
    pub folder_times: Vec<FolderTime>,
    /// Files that an earlier attempt put in place and whose paths some
    /// file systems confuse with missing ones: never replaced.
    #[serde(default)]
    pub arrived: Vec<PlacedFile>,
    /// The names must lead to exactly this, and nothing of it may be hidden or executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<FileSend>,
    /// Bytes that stay free on each disk; `None`: it may be filled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_free: Option<u64>,
}

impl FetchRequest {
    /// Parallel streams per source, if nobody asks for another number.
    pub const DEFAULT_STREAMS: u8 = 2;

    /// Returns a request as it is without options: everybody who has the same content is asked, at full speed, and what
    /// is there already is kept.
    pub fn new(
        from: ConversationName,
        names: Vec<RequestedName>,
        destination: FetchDestination,
        source_timeout: Duration,
    ) -> Self {
        Self {
            from,
            names,
            destination,
            if_exists: IfExists::SkipSame,
            streams: usize::from(Self::DEFAULT_STREAMS),
            connections: None,
            sources: SourcePolicy::Everybody,
            limit: None,
            source_timeout,
            folder_times: Vec::new(),
            arrived: Vec::new(),
            expected: None,
            kept_free: None,
        }
    }
}

/// A file that a fetch put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedFile {
    /// Its path below the destination.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// One entry of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedName {
    /// A name, a folder (`docs/`) or a pattern (`*.pdf`).
    pub text: String,
    /// Target path, relative to the destination. `None`: derived from `text`.
    pub local: Option<FileName>,
}

/// The users besides the owner that a fetch may use as sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourcePolicy {
    /// Everybody who shares the same content, found through the tracker.
    Everybody,
    /// Everybody, and these users whatever the tracker knows of them.
    Also(Vec<UserName>),
    /// These users and nobody else.
    Only(Vec<UserName>),
}

/// The destination of fetched files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchDestination {
    /// Files go into this folder.
    Folder(#[serde(with = "path_text")] PathBuf),
    /// A single file goes to exactly this path; several names, a pattern or a folder go into a folder of that path.
    FileOrFolder(#[serde(with = "path_text")] PathBuf),
    /// Files are written one after another to this pipe or device.
    Stream(#[serde(with = "path_text")] PathBuf),
    /// Files are written one after another to standard output.
    Stdout,
}

/// The rule for a file whose name exists at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum IfExists {
    /// Keep the existing file if it has the same content, else use another name.
    #[default]
    SkipSame,
    /// Keep whatever exists and don't fetch the file.
    Skip,
    /// Use another name.
    Rename,
    /// Replace an existing file.
    Overwrite,
    /// Fail the file.
    Fail,
}

impl FetchDestination {
    /// True if bytes go there in order and no file is kept.
    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Stdout)
    }
}

impl RequestedName {
    /// Builds an entry from the text that the user typed, without a target path of its own.
    pub fn for_text(text: impl Into<String>) -> Self {
        Self { text: text.into(), local: None }
    }
}
