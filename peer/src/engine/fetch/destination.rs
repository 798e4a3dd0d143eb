//! Destination of a fetch: the target of each file, by what exists there.
//!
//! Planning makes nothing on disk: folders are made when it is decided that a file goes into them.

use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use localization::tr;
use shared::FileName;
use shared::names::name_encoding::encode_component;
use shared::peer::FolderTime;
use shared::safe_text::safe_path;

use self::content_comparison::RehashCallback;
use self::file_target::{NameAvailability, PreferredName};
use self::folder_tree::{DestinationFolder, DestinationTree};
use self::local_names::{NameAllocator, NameCollisions};
use super::name_resolution::{ResolvedFile, ResolvedRequest};
use super::{FetchDestination, FetchRequest, IfExists};
use crate::engine::Error;
use crate::sys::{FolderHandle, OutputTarget, classify_output};

mod content_comparison;
mod file_target;
mod folder_tree;
mod local_names;
mod placed_files;

pub(super) use self::file_target::FileTarget;
pub(super) use self::local_names::{PartialTag, case_folded};

/// The planner of a destination on disk: a folder for all files, or the folder of one file with a chosen name.
#[derive(Debug)]
pub(super) struct TargetPlanner {
    tree: Arc<DestinationTree>,
    name: Option<String>,
    if_exists: IfExists,
    name_allocator: NameAllocator,
    collisions: NameCollisions,
    /// Interned paths of folders below the destination: the files of one folder share the text.
    folders: HashSet<Arc<str>>,
}

/// The planned target of a file.
#[derive(Debug)]
pub(super) enum TargetDecision {
    /// Fetch the file to this target.
    Fetch(FileTarget),
    /// Don't fetch it: this path holds the same content, or something that must stay.
    Skip(PathBuf),
}

/// A folder of the destination and its modification time at the source.
#[derive(Debug)]
pub(super) struct FolderTimestamp {
    folder: DestinationFolder,
    time: FolderTime,
}

impl TargetPlanner {
    /// Opens the destination of a request and finds colliding names, without making anything; `None` for a stream.
    pub(super) fn prepare(request: &FetchRequest, resolved: &ResolvedRequest) -> Result<Option<Box<Self>>, Error> {
        let (folder, name) = match &request.destination {
            FetchDestination::Stream(_) | FetchDestination::Stdout => return Ok(None),
            FetchDestination::FileOrFolder(path) if resolved.is_one_file => {
                if classify_output(path) != OutputTarget::Files {
                    let why = tr!("it is neither a file nor a folder: give another path with -o");
                    return Err(Error::disk(path)(io::Error::other(why)));
                }
                // Encoded if need be, so that the file gets exactly this name even if it looks like a stand-in.
                let name = path.file_name().and_then(|name| {
                    encode_component(name.as_bytes())
                        .map_or_else(|| name.to_str().map(str::to_owned), |name| Some(name.into_owned()))
                });
                let name =
                    name.ok_or_else(|| Error::Usage(tr!("{path} can't be a file's name", path = safe_path(path))))?;
                // The parent of a bare name is the empty path, which can't be opened.
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                (parent.unwrap_or(Path::new(".")), Some(name))
            }
            FetchDestination::Folder(path) | FetchDestination::FileOrFolder(path) => (path.as_path(), None),
        };
        let tree = Arc::new(DestinationTree::open(folder.to_owned())?);
        let name_allocator = NameAllocator::new(resolved.files.iter().map(|wanted| &wanted.local));
        tree.restore_placed(&request.arrived);
        let collisions = NameCollisions::find(&resolved.files);
        let (if_exists, folders) = (request.if_exists, HashSet::new());
        Ok(Some(Box::new(Self { tree, name, if_exists, name_allocator, collisions, folders })))
    }

    /// Plans the target of a file by what exists there.
    pub(super) fn plan_target(
        &mut self,
        resolved: &ResolvedFile,
        hashed: RehashCallback<'_>,
    ) -> Result<TargetDecision, Error> {
        let (below, name, claimed) = match &self.name {
            Some(name) => ("", PreferredName::Chosen(name.as_str().into()), None),
            None => {
                let local = &resolved.local;
                let folder = local.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
                (folder, PreferredName::LastComponent(local.clone()), Some(local))
            }
        };
        let if_exists = self.if_exists;
        let collision = claimed.and_then(|local| self.collisions.of(local)).cloned();
        let contested = collision.is_some() || claimed.is_some_and(|local| self.name_allocator.is_contested(local));
        let mut target =
            FileTarget::new(self.destination_folder(below), resolved.owner.clone(), name, collision, if_exists);
        // Opened, not made: nothing is created for a file that may be skipped.
        let folder = target.folder.open_existing()?;
        // Before a number is allocated: the content may exist under any number.
        if let Some(folder) = &folder
            && if_exists == IfExists::SkipSame
            && let Some(path) = target.find_same_content(folder, resolved, contested, hashed)?
        {
            return Ok(TargetDecision::Skip(path));
        }
        target.first_number = claimed.map_or(0, |local| self.name_allocator.allocate_number(local));
        if let Some(folder) = &folder {
            match target.check_first_name(folder, resolved, hashed)? {
                NameAvailability::Keep => return Ok(TargetDecision::Skip(target.path())),
                // Remembered: at the end of the download, the same entry
                // would be taken for one that appeared meanwhile.
                NameAvailability::UseAnother => target.skips_first_name = true,
                NameAvailability::Free => {}
            }
            // An earlier fetch may have placed the content under another name, for want of its own.
            if matches!(if_exists, IfExists::Skip | IfExists::Fail)
                && let Some(path) = target.find_same_content(folder, resolved, contested, hashed)?
            {
                return if if_exists == IfExists::Skip {
                    Ok(TargetDecision::Skip(path))
                } else {
                    Err(Error::DestinationExists(path))
                };
            }
        }
        // Known before the first byte: a download into a folder that takes no files would fail only at its end.
        target.folder.find_obstacle().map_or(Ok(TargetDecision::Fetch(target)), |obstacle| Err(obstacle.into()))
    }

    /// True if other files of this fetch have that path on some file systems.
    pub(super) fn collides(&self, local: &FileName) -> bool {
        self.collisions.of(local).is_some()
    }

    /// Makes the destination if it doesn't exist.
    pub(super) fn create_destination(&self) -> Result<(), Error> {
        self.tree.create_root().map(|_| ())
    }

    /// Returns the folders that must exist before a file takes their path.
    pub(super) fn colliding_folders(&self) -> Vec<FileName> {
        self.collisions.folders().to_vec()
    }

    /// Makes the folder at this path below the destination.
    pub(super) fn create_folder(&mut self, local: &FileName) -> Result<(), Error> {
        self.destination_folder(local.as_str()).open_or_create().map(|_| ())
    }

    /// Builds the setter of a folder's time, applied when nothing changes in it any more.
    pub(super) fn folder_timestamp(&mut self, time: FolderTime) -> FolderTimestamp {
        FolderTimestamp { folder: self.destination_folder(time.name.as_str()), time }
    }

    fn destination_folder(&mut self, below: &str) -> DestinationFolder {
        let known = self.folders.get(below).cloned();
        let below = known.unwrap_or_else(|| {
            let below: Arc<str> = below.into();
            self.folders.insert(below.clone());
            below
        });
        DestinationFolder::new(self.tree.clone(), below)
    }
}

impl FolderTimestamp {
    /// Sets the time of the folder if it exists; a failure is only logged.
    pub(super) fn apply(self) {
        let Self { folder, time } = self;
        // The source's nanoseconds aren't checked yet, and utimensat(2) refuses a second or more of them.
        let set = |handle: Arc<FolderHandle>| handle.set_modified(time.mtime, time.mtime_ns.min(999_999_999));
        if let Ok(Some(Err(why))) = folder.open_existing().map(|handle| handle.map(set)) {
            tracing::debug!("the time of {} can't be set: {why}", safe_path(folder.path()));
        }
    }
}
