//! Walk of a named path: finds the files and folders at and below it, and counts those left out.

use std::collections::{HashMap, HashSet};
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use localization::tr;
use shared::FileName;
use shared::safe_text::safe_path;
use walkdir::{DirEntry, WalkDir};

use super::is_gone;
use super::omissions::{CandidateOrigin, OmissionReason, OmissionReport};
use crate::engine::private_data::PrivateData;
use crate::profile::{NameSubtrees, ShareRoot, SharedFolder};
use crate::sys::{device, file_version, is_pseudo_file_system, plain_message};

/// A file found by a walk, with the name for its share.
#[derive(Debug)]
pub(super) struct WalkedFile {
    pub(super) path: PathBuf,
    pub(super) name: FileName,
    pub(super) metadata: Metadata,
    pub(super) origin: CandidateOrigin,
}

/// The files and folders at and below one path.
#[derive(Debug, Default)]
pub(super) struct WalkResult {
    /// The name of the path itself, first component of all names below.
    pub(super) base: String,
    /// The path itself, without symbolic links.
    pub(super) path: PathBuf,
    pub(super) files: Vec<WalkedFile>,
    pub(super) folders: Vec<SharedFolder>,
    /// The paths of the folders, in the same order.
    pub(super) folder_paths: Vec<PathBuf>,
    /// Paths at which the system refused a look, so that nothing is known of what lies there.
    pub(super) unreadable: Vec<PathBuf>,
}

/// The reason of an omission, for programs and in words for the user.
pub(super) type ExplainedOmission = (OmissionReason, String);

/// A walker of named paths.
#[derive(Debug)]
pub(super) struct FolderWalker<'a> {
    private: &'a PrivateData,
    /// By device: true for a pseudo file system.
    pseudo: HashMap<u64, bool>,
}

/// A named path that is being walked.
struct WalkRoot {
    path: PathBuf,
    base: String,
    device: u64,
}

impl<'a> FolderWalker<'a> {
    pub(super) fn new(private: &'a PrivateData) -> Self {
        Self { private, pseudo: HashMap::new() }
    }

    /// Walks a named path. The path itself is taken even if it is hidden, and followed if it is a link; entries below
    /// it that are hidden, links or special files are left out.
    pub(super) fn walk(
        &mut self,
        named: &Path,
        name: Option<&FileName>,
        left_out: &mut OmissionReport,
    ) -> Result<WalkResult, ExplainedOmission> {
        let root = self.inspect_root(named, name)?;
        let path = root.path.clone();
        Ok(self.walk_entries(&root, &path, Some(named), left_out))
    }

    /// Walks what lies at or below `relative` in a shared folder. That entry is treated as any other in the folder: left out
    /// if it is hidden, a link or a special file.
    ///
    /// # Errors
    /// When the shared folder itself can't be looked at.
    pub(super) fn walk_below(
        &mut self,
        root: &ShareRoot,
        relative: &Path,
        left_out: &mut OmissionReport,
    ) -> io::Result<WalkResult> {
        let device = device(&fs::symlink_metadata(&root.path)?);
        let start = if relative.as_os_str().is_empty() { root.path.clone() } else { root.path.join(relative) };
        let root = WalkRoot { path: root.path.clone(), base: root.name.as_str().to_owned(), device };
        Ok(self.walk_entries(&root, &start, None, left_out))
    }

    /// Walks from `start`; `named` is the path that the user typed for it.
    fn walk_entries(
        &mut self,
        root: &WalkRoot,
        start: &Path,
        named: Option<&Path>,
        left_out: &mut OmissionReport,
    ) -> WalkResult {
        // Sorted: which of several files gets a name must not depend on the file system.
        let mut entries = WalkDir::new(start).follow_links(false).sort_by_file_name().into_iter();
        let mut walked = WalkResult { base: root.base.clone(), path: root.path.clone(), ..WalkResult::default() };
        // Depth of the last folder, as long as nothing was found in it.
        let mut last: Option<usize> = None;
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(why) => {
                    walked.record_error(root, &why, named, left_out);
                    continue;
                }
            };
            let (name, metadata) = match self.inspect_entry(root, &entry) {
                Ok(found) => found,
                Err((reason, why)) => {
                    let is_folder = entry.file_type().is_dir();
                    if reason == OmissionReason::Unreadable {
                        walked.unreadable.push(entry.path().to_owned());
                    }
                    let end = if is_folder { "/" } else { "" };
                    match named.filter(|_| entry.depth() == 0) {
                        Some(named) => left_out.add_named(reason, named, why),
                        None => left_out.add_found(reason, || format!("{}{end}", label_of(root, entry.path())), why),
                    }
                    if is_folder {
                        // Its reason holds for everything below, which is then counted as one omission.
                        entries.skip_current_dir();
                    }
                    continue;
                }
            };
            // Entries come depth first: a deeper entry right after a folder lies in that folder.
            if last.take().is_some_and(|above| entry.depth() > above)
                && let Some(above) = walked.folders.last_mut()
            {
                above.is_empty = false;
            }
            if metadata.is_dir() {
                last = Some(entry.depth());
                let mtime_ns = file_version(&metadata).mtime_ns;
                walked.folders.push(SharedFolder { name, mtime_ns, is_empty: true });
                walked.folder_paths.push(entry.into_path());
            } else {
                let typed = named.filter(|_| entry.depth() == 0);
                let origin = typed.map_or(CandidateOrigin::Found, |named| CandidateOrigin::Named(named.to_owned()));
                walked.files.push(WalkedFile { path: entry.into_path(), name, metadata, origin });
            }
        }
        walked
    }

    /// Checks one file that a command selected, to be shared under this name.
    pub(super) fn inspect_file(&self, path: &Path, name: FileName) -> Result<WalkedFile, ExplainedOmission> {
        let metadata = fs::metadata(path).map_err(|why| omission_of_error(&why))?;
        // Without links: `open_regular` refuses paths with links in them when the share is served.
        let path = path.canonicalize().map_err(|why| omission_of_error(&why))?;
        if !metadata.is_file() {
            return Err((OmissionReason::Special, kind_text(metadata.file_type())));
        }
        self.check_private(&path, &metadata)?;
        Ok(WalkedFile { path, name, metadata, origin: CandidateOrigin::Selected })
    }

    fn inspect_root(&self, named: &Path, name: Option<&FileName>) -> Result<WalkRoot, ExplainedOmission> {
        let metadata = fs::metadata(named).map_err(|why| match fs::read_link(named) {
            Ok(to) if why.kind() == io::ErrorKind::NotFound => {
                (OmissionReason::Missing, tr!("it is a link to {path}, which is not there", path = safe_path(&to)))
            }
            Ok(to) => {
                let (path, why_not) = (safe_path(&to), plain_message(&why));
                (omission_of_error(&why).0, tr!("it is a link to {path}: {why}", path, why = why_not))
            }
            // It is no link: the first error says all.
            Err(_) => omission_of_error(&why),
        })?;
        let path = named.canonicalize().map_err(|why| omission_of_error(&why))?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err((OmissionReason::Special, kind_text(metadata.file_type())));
        }
        self.check_private(&path, &metadata)?;
        // The typed name: a link that is followed keeps its name, even with a slash behind it.
        let base = match (name, named.file_name().or_else(|| path.file_name())) {
            (Some(name), _) => name.as_str().to_owned(),
            (None, Some(last)) => {
                // An error here, since it would keep all files of the folder from being shared.
                let unfit = |why| (OmissionReason::Name, tr!("its name can't be shared: {why}: use --as NAME", why));
                FileName::from_raw(last.as_bytes()).map_err(unfit)?.as_str().to_owned()
            }
            (None, None) => return Err((OmissionReason::Name, tr!("it has no name: use --as NAME"))),
        };
        Ok(WalkRoot { path, base, device: device(&metadata) })
    }

    fn inspect_entry(&mut self, root: &WalkRoot, entry: &DirEntry) -> Result<(FileName, Metadata), ExplainedOmission> {
        let kind = entry.file_type();
        if entry.path() != root.path {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                return Err((OmissionReason::Hidden, tr!("it is hidden")));
            }
            if kind.is_symlink() {
                return Err((OmissionReason::Link, tr!("it is a link")));
            }
            if !kind.is_file() && !kind.is_dir() {
                return Err((OmissionReason::Special, kind_text(kind)));
            }
        }
        let unreadable = |why: walkdir::Error| {
            (OmissionReason::Unreadable, why.io_error().map_or_else(|| why.to_string(), plain_message))
        };
        let metadata = entry.metadata().map_err(unreadable)?;
        // Asked only where the device changes: the root itself was named by the user.
        if device(&metadata) != root.device && self.is_pseudo(entry.path(), device(&metadata)) {
            return Err((OmissionReason::PseudoFileSystem, tr!("it holds the kernel's state")));
        }
        self.check_private(entry.path(), &metadata)?;
        Ok((name_below(root, entry.path())?, metadata))
    }

    fn check_private(&self, path: &Path, metadata: &Metadata) -> Result<(), ExplainedOmission> {
        match self.private.reason(path, metadata) {
            Some(reason) => Err((OmissionReason::Private, reason.text())),
            None => Ok(()),
        }
    }

    fn is_pseudo(&mut self, path: &Path, device: u64) -> bool {
        // A file system that can't be asked is taken for an ordinary one.
        *self.pseudo.entry(device).or_insert_with(|| is_pseudo_file_system(path).unwrap_or(false))
    }
}

impl WalkResult {
    /// Compares the mount points among the folders with those of `before`. Returns the folders whose disk is away: those that
    /// were mount points, are none any more and have no file; and all that are mount points or were, those included.
    pub(super) fn compare_mounts(
        &self,
        root: &ShareRoot,
        before: &NameSubtrees,
        mount_points: &HashSet<PathBuf>,
    ) -> (NameSubtrees, NameSubtrees) {
        let folders = self.folders.iter().zip(&self.folder_paths);
        let mounted = folders.filter(|(_, path)| mount_points.contains(*path));
        let mut mounts: NameSubtrees = mounted.map(|(folder, _)| folder.name.as_str().to_owned()).collect();
        let mut away = NameSubtrees::default();
        for name in before.names() {
            let path = name.parse().ok().and_then(|name: FileName| root.path_of(&name));
            let Some(path) = path.filter(|path| !mount_points.contains(path)) else { continue };
            if !self.files.iter().any(|file| file.path.starts_with(&path)) {
                away.insert(name.to_owned());
                mounts.insert(name.to_owned());
            }
        }
        (away, mounts)
    }

    fn record_error(
        &mut self,
        root: &WalkRoot,
        why: &walkdir::Error,
        named: Option<&Path>,
        left_out: &mut OmissionReport,
    ) {
        let path = why.path().unwrap_or(&root.path);
        let is_gone = named.is_none() && why.io_error().is_some_and(is_gone);
        // What was to be looked at is gone: its shares may go, so nothing here counts as unreadable.
        if is_gone && why.depth() == 0 && path != root.path {
            return;
        }
        self.unreadable.push(path.to_owned());
        if is_gone {
            // Since its folder was listed: that is no omission, and its end is reported by itself.
            return;
        }
        let message = why.io_error().map_or_else(|| why.to_string(), plain_message);
        match named.filter(|_| path == root.path) {
            Some(named) => left_out.add_named(OmissionReason::Unreadable, named, message),
            None => left_out.add_found(OmissionReason::Unreadable, || label_of(root, path), message),
        }
    }
}

/// Maps a system error to the reason of an omission.
pub(super) fn omission_of_error(why: &io::Error) -> ExplainedOmission {
    let omission =
        if why.kind() == io::ErrorKind::NotFound { OmissionReason::Missing } else { OmissionReason::Unreadable };
    (omission, plain_message(why))
}

/// Returns a label for an entry: its share name, or the closest readable text if it can't have one.
fn label_of(root: &WalkRoot, path: &Path) -> String {
    let below = path.strip_prefix(&root.path).unwrap_or(path);
    Path::new(&root.base).join(below).to_string_lossy().trim_end_matches('/').to_owned()
}

fn name_below(root: &WalkRoot, path: &Path) -> Result<FileName, ExplainedOmission> {
    let unfit = |why| (OmissionReason::Name, tr!("its name can't be shared: {why}", why));
    let relative = path.strip_prefix(&root.path).unwrap_or(path).as_os_str();
    if relative.is_empty() {
        return root.base.parse().map_err(unfit);
    }
    let below = FileName::from_raw(relative.as_bytes()).map_err(unfit)?;
    format!("{}/{}", root.base, below.as_str()).parse().map_err(unfit)
}

fn kind_text(kind: FileType) -> String {
    match kind {
        kind if kind.is_fifo() => tr!("it is a FIFO"),
        kind if kind.is_socket() => tr!("it is a socket"),
        kind if kind.is_block_device() || kind.is_char_device() => tr!("it is a device"),
        _ => tr!("it is neither a file nor a folder"),
    }
}
