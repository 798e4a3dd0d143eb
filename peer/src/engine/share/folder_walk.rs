//! Finding files: what lies at and below a path that somebody names, and what of it is left out.

use std::collections::HashMap;
use std::fs::{self, FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use shared::FileName;
use shared::safe_text::safe_path;
use walkdir::{DirEntry, WalkDir};

use super::omissions::{OmissionReason, OmissionReport};
use crate::engine::private_data::PrivateData;
use crate::profile::SharedFolder;
use crate::sys::{device, file_version, is_pseudo_file_system, plain_message};

/// A file, and the name it would have.
#[derive(Debug)]
pub(super) struct WalkedFile {
    pub(super) path: PathBuf,
    pub(super) name: FileName,
    pub(super) metadata: Metadata,
    /// It was named by itself.
    pub(super) is_named: bool,
}

/// What is at or below one path.
#[derive(Debug, Default)]
pub(super) struct WalkResult {
    /// Its own name.
    pub(super) base: String,
    pub(super) files: Vec<WalkedFile>,
    pub(super) folders: Vec<SharedFolder>,
}

/// A reason, and the same for people.
pub(super) type ExplainedOmission = (OmissionReason, String);

/// Walks what was named.
#[derive(Debug)]
pub(super) struct FolderWalker<'a> {
    private: &'a PrivateData,
    /// By device: whether it is a pseudo file system.
    pseudo: HashMap<u64, bool>,
}

/// What was named.
struct WalkRoot {
    path: PathBuf,
    base: String,
    device: u64,
}

impl<'a> FolderWalker<'a> {
    pub(super) fn new(private: &'a PrivateData) -> Self {
        Self { private, pseudo: HashMap::new() }
    }

    /// Finds all of it. What is named is taken even if it is hidden, and a link that is named is followed; what is found
    /// below is left out if it is hidden, a link, or no file.
    pub(super) fn walk(
        &mut self,
        named: &Path,
        name: Option<&FileName>,
        left_out: &mut OmissionReport,
    ) -> Result<WalkResult, ExplainedOmission> {
        let root = self.inspect_root(named, name)?;
        let mut entries = WalkDir::new(&root.path).follow_links(false).sort_by_file_name().into_iter();
        let mut walked = WalkResult { base: root.base.clone(), ..WalkResult::default() };
        // How deep the last folder lies, as long as nothing was found in it.
        let mut last: Option<usize> = None;
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(why) => {
                    let label = || label_of(&root, why.path().unwrap_or(&root.path));
                    let message = why.io_error().map_or_else(|| why.to_string(), plain_message);
                    left_out.add_found(OmissionReason::Unreadable, label, message);
                    continue;
                }
            };
            let (name, metadata) = match self.inspect_entry(&root, &entry) {
                Ok(found) => found,
                Err((omission, why)) => {
                    let is_folder = entry.file_type().is_dir();
                    let end = if is_folder { "/" } else { "" };
                    left_out.add_found(omission, || format!("{}{end}", label_of(&root, entry.path())), why);
                    if is_folder {
                        entries.skip_current_dir();
                    }
                    continue;
                }
            };
            if last.take().is_some_and(|above| entry.depth() > above)
                && let Some(above) = walked.folders.last_mut()
            {
                above.is_empty = false;
            }
            if metadata.is_dir() {
                last = Some(entry.depth());
                let mtime_ns = file_version(&metadata).mtime_ns;
                walked.folders.push(SharedFolder { name, mtime_ns, is_empty: true });
            } else {
                let is_named = entry.depth() == 0;
                walked.files.push(WalkedFile { path: entry.into_path(), name, metadata, is_named });
            }
        }
        Ok(walked)
    }

    /// Looks at one file that is to have this name.
    pub(super) fn inspect_file(&self, path: &Path, name: FileName) -> Result<WalkedFile, ExplainedOmission> {
        let metadata = fs::metadata(path).map_err(|why| omission_of_error(&why))?;
        let path = path.canonicalize().map_err(|why| omission_of_error(&why))?;
        if !metadata.is_file() {
            return Err((OmissionReason::Special, kind_text(metadata.file_type())));
        }
        self.check_private(&path, &metadata)?;
        Ok(WalkedFile { path, name, metadata, is_named: true })
    }

    fn inspect_root(&self, named: &Path, name: Option<&FileName>) -> Result<WalkRoot, ExplainedOmission> {
        let metadata = fs::metadata(named).map_err(|why| match fs::read_link(named) {
            Ok(to) if why.kind() == io::ErrorKind::NotFound => {
                (OmissionReason::Missing, format!("it is a link to {}, which is not there", safe_path(&to)))
            }
            Ok(to) => {
                (omission_of_error(&why).0, format!("it is a link to {}: {}", safe_path(&to), plain_message(&why)))
            }
            Err(_) => omission_of_error(&why),
        })?;
        let path = named.canonicalize().map_err(|why| omission_of_error(&why))?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err((OmissionReason::Special, kind_text(metadata.file_type())));
        }
        self.check_private(&path, &metadata)?;
        // As it was named: a link that is followed keeps its name, with a slash behind it as well.
        let base = match (name, named.file_name().or_else(|| path.file_name())) {
            (Some(name), _) => name.as_str().to_owned(),
            (None, Some(last)) => {
                // A folder's name may be all that keeps thousands of files from being shared.
                let unfit = |why| (OmissionReason::Name, format!("its name can't be shared: {why}: use --as NAME"));
                FileName::from_raw(last.as_bytes()).map_err(unfit)?.as_str().to_owned()
            }
            (None, None) => return Err((OmissionReason::Name, "it has no name: use --as NAME".to_owned())),
        };
        Ok(WalkRoot { path, base, device: device(&metadata) })
    }

    fn inspect_entry(&mut self, root: &WalkRoot, entry: &DirEntry) -> Result<(FileName, Metadata), ExplainedOmission> {
        let kind = entry.file_type();
        if entry.depth() > 0 {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                return Err((OmissionReason::Hidden, "it is hidden".to_owned()));
            }
            if kind.is_symlink() {
                return Err((OmissionReason::Link, "it is a link".to_owned()));
            }
            if !kind.is_file() && !kind.is_dir() {
                return Err((OmissionReason::Special, kind_text(kind)));
            }
        }
        let unreadable = |why: walkdir::Error| {
            (OmissionReason::Unreadable, why.io_error().map_or_else(|| why.to_string(), plain_message))
        };
        let metadata = entry.metadata().map_err(unreadable)?;
        if device(&metadata) != root.device && self.is_pseudo(entry.path(), device(&metadata)) {
            return Err((OmissionReason::PseudoFileSystem, "it holds the kernel's state".to_owned()));
        }
        self.check_private(entry.path(), &metadata)?;
        Ok((name_below(root, entry.path())?, metadata))
    }

    fn check_private(&self, path: &Path, metadata: &Metadata) -> Result<(), ExplainedOmission> {
        match self.private.reason(path, metadata) {
            Some(reason) => Err((OmissionReason::Private, reason.as_str().to_owned())),
            None => Ok(()),
        }
    }

    fn is_pseudo(&mut self, path: &Path, device: u64) -> bool {
        *self.pseudo.entry(device).or_insert_with(|| is_pseudo_file_system(path).unwrap_or(false))
    }
}

/// The reason for an error of the system.
pub(super) fn omission_of_error(why: &io::Error) -> ExplainedOmission {
    let omission =
        if why.kind() == io::ErrorKind::NotFound { OmissionReason::Missing } else { OmissionReason::Unreadable };
    (omission, plain_message(why))
}

/// What it would be called, or at least what it is called.
fn label_of(root: &WalkRoot, path: &Path) -> String {
    let below = path.strip_prefix(&root.path).unwrap_or(path);
    Path::new(&root.base).join(below).to_string_lossy().trim_end_matches('/').to_owned()
}

fn name_below(root: &WalkRoot, path: &Path) -> Result<FileName, ExplainedOmission> {
    let unfit = |why| (OmissionReason::Name, format!("its name can't be shared: {why}"));
    let relative = path.strip_prefix(&root.path).unwrap_or(path).as_os_str();
    if relative.is_empty() {
        return root.base.parse().map_err(unfit);
    }
    let below = FileName::from_raw(relative.as_bytes()).map_err(unfit)?;
    format!("{}/{}", root.base, below.as_str()).parse().map_err(unfit)
}

fn kind_text(kind: FileType) -> String {
    let what = match kind {
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => "neither a file nor a folder",
    };
    format!("it is {what}")
}
