//! Synchronisation of a folder that is shared as a whole: compares the shares of the folder, or of a part of it, with what
//! is on the disk. Files that are gone are shared no more, files that are known by their inode, size and time get their
//! new names, and the others are handed back to be hashed.
//!
//! A folder that can't be looked at, and one whose disk is away, has not lost its files: their shares are kept.
//!
//! ```text
//! for each part:  watch its folders ─► walk it ─► compare with its shares
//! then, of all parts:  store what is known ─► remove what is gone ─► hand back what must be hashed
//! ```
//!
//! What is gone is removed last, of all parts together: a file that was renamed is found by the share of its old name.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use shared::FileName;

use super::folder_records::refresh_folders;
use super::folder_walk::{FolderWalker, WalkResult, WalkedFile};
use super::hash_jobs::HashJob;
use super::hash_reuse::HardLinkHashes;
use super::omissions::OmissionReport;
use super::share_candidates::{ShareCandidate, find_walked_candidates};
use super::{Error, TRANSACTION_SHARES};
use crate::engine::private_data::PrivateData;
use crate::engine::{now_ms, now_ns};
use crate::profile::{NameSubtrees, Profile, Share, ShareRoot};
use crate::sys::{FileVersion, InodeKey, VersionChange, file_version, inode_key, is_executable};

/// Age of a file's last change from which on nobody is taken to be writing it.
const SETTLED_AFTER_NS: i64 = 150_000_000;
/// Walks of a part in whose course new folders were found, and had to be watched before they were looked into.
const MAX_WALKS: usize = 3;

/// The part of a folder that is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum SyncScope {
    /// All of it.
    Whole,
    /// What lies at and below these paths, relative to the folder.
    Parts(BTreeMap<PathBuf, WritePatience>),
}

/// The treatment of a file that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum WritePatience {
    /// It is left for a later look.
    Wait,
    /// It was waited for long enough, and is hashed as it is.
    Over,
}

/// The result of a comparison.
#[derive(Debug, Default)]
pub(in crate::engine) struct SyncReport {
    /// False if the folder isn't there; its shares are kept.
    pub is_available: bool,
    /// True if shares were stored or removed.
    pub has_changed: bool,
    /// Paths, relative to the folder, that need another look soon: they are being written, or changed meanwhile.
    pub unsettled: Vec<PathBuf>,
    /// Files that are to be hashed.
    pub to_hash: Vec<HashJob>,
    /// Shares whose content is another now, and not only longer.
    pub stale: Vec<FileName>,
}

/// A comparison of a shared folder with the disk.
pub(in crate::engine) struct FolderSync<'a> {
    profile: &'a Profile,
    private: &'a PrivateData,
    root: &'a ShareRoot,
    /// Finds out what is mounted where.
    find_mount_points: &'a dyn Fn() -> HashSet<PathBuf>,
    mount_points: HashSet<PathBuf>,
    excluded: NameSubtrees,
    report: SyncReport,
}

/// A part of the folder as it was found.
struct PartLook {
    relative: PathBuf,
    name: FileName,
    patience: WritePatience,
    walk: WalkResult,
    /// Folders whose shares are kept, because their disk is away.
    away: NameSubtrees,
    mounts: NameSubtrees,
    shares: BTreeMap<FileName, Share>,
}

impl<'a> FolderSync<'a> {
    /// Prepares a comparison.
    ///
    /// # Errors
    /// When the profile can't be read.
    pub(in crate::engine) fn new(
        profile: &'a Profile,
        private: &'a PrivateData,
        root: &'a ShareRoot,
        find_mount_points: &'a dyn Fn() -> HashSet<PathBuf>,
    ) -> Result<Self, Error> {
        let (excluded, mount_points) = (profile.exclusions(root)?, find_mount_points());
        Ok(Self { profile, private, root, find_mount_points, mount_points, excluded, report: SyncReport::default() })
    }

    /// Compares; blocks. `watch` is called with each folder before it is looked into, and returns true if it was not
    /// watched until then.
    ///
    /// # Errors
    /// When the profile can't be read or written.
    pub(in crate::engine) fn run(
        mut self,
        scope: &SyncScope,
        watch: &mut dyn FnMut(&Path) -> bool,
    ) -> Result<SyncReport, Error> {
        let whole = BTreeMap::from([(PathBuf::new(), WritePatience::Wait)]);
        let parts = match scope {
            SyncScope::Whole => &whole,
            SyncScope::Parts(parts) => parts,
        };
        let Some(inode) = folder_inode(&self.root.path) else {
            // Unplugged or renamed: nothing is known of what is in it.
            return Ok(SyncReport::default());
        };
        let mut looks: Vec<PartLook> = Vec::new();
        for (relative, patience) in parts {
            // In order, a part that holds another comes before it.
            let is_covered = |look: &PartLook| relative.starts_with(&look.relative) && look.walk.is_folder();
            if is_hidden(relative) || looks.last().is_some_and(is_covered) {
                continue;
            }
            looks.extend(self.look(relative, *patience, watch)?);
        }
        if folder_inode(&self.root.path) != Some(inode) || (self.find_mount_points)() != self.mount_points {
            // It went, or a disk in it came or went, while it was looked at. That is noticed, and looked at again.
            return Ok(SyncReport::default());
        }
        self.report.is_available = true;
        // Before the files are taken out of the looks, which tell what is there.
        let gone: Vec<FileName> = looks.iter().flat_map(|look| look.gone(self.root)).collect();
        let (mut files, mut patience) = (Vec::new(), HashSet::new());
        for look in &mut looks {
            let changed = self.take_changed_files(look);
            if look.patience == WritePatience::Over {
                patience.extend(changed.iter().map(|file| file.path.clone()));
            }
            files.extend(changed);
        }
        // What is gone goes last: a renamed file takes its hash from the share of its old name.
        self.store_known(files, &patience, gone.len())?;
        self.report.has_changed |= self.profile.remove_gone_shares(&self.root.audience, &gone, now_ms())? > 0;
        self.store_folders(&looks)?;
        Ok(self.report)
    }

    /// Looks at a part; `None` if it can't be shared at all.
    fn look(
        &mut self,
        relative: &Path,
        patience: WritePatience,
        watch: &mut dyn FnMut(&Path) -> bool,
    ) -> Result<Option<PartLook>, Error> {
        let Some(name) = self.root.name_of(relative) else { return Ok(None) };
        let mut walk = WalkResult::default();
        if has_real_folders_above(&self.root.path, relative) {
            for attempt in 1.. {
                let walked = FolderWalker::new(self.private).walk_below(
                    self.root,
                    relative,
                    // The node has nobody to tell: `peer shares` looks for itself.
                    &mut OmissionReport::default(),
                );
                walk = match walked {
                    Ok(walked) => walked,
                    Err(why) => {
                        tracing::debug!("a shared folder can't be looked at: {why}");
                        // As unreadable, so that nothing of it is taken for gone.
                        WalkResult { unreadable: vec![self.root.path.clone()], ..WalkResult::default() }
                    }
                };
                // What came into a folder between the look and the watch would be noticed by neither.
                // Not `any`, which would leave the folders behind the first new one unwatched.
                let is_new = walk.folder_paths.iter().fold(false, |new, folder| watch(folder) | new);
                if !is_new {
                    break;
                }
                if attempt == MAX_WALKS {
                    self.report.unsettled.push(relative.to_owned());
                    break;
                }
            }
        }
        let mounts_before = self.profile.share_mounts(&self.root.audience, name.as_str())?;
        let (away, mounts) = walk.compare_mounts(self.root, &mounts_before, &self.mount_points);
        let shares = self.shares_at(&name)?;
        Ok(Some(PartLook { relative: relative.to_owned(), name, patience, walk, away, mounts, shares }))
    }

    /// Returns the shares at and below a name whose files lie in this folder.
    fn shares_at(&self, name: &FileName) -> Result<BTreeMap<FileName, Share>, Error> {
        let mut shares = BTreeMap::new();
        let mut add = |share: Share| {
            // Another file may have a name of this folder.
            if share.path.starts_with(&self.root.path) {
                shares.insert(share.name.clone(), share);
            }
        };
        self.profile.share(&self.root.audience, name)?.into_iter().for_each(&mut add);
        super::for_each_share(self.profile, &self.root.audience, &format!("{}/", name.as_str()), add)?;
        Ok(shares)
    }

    /// Takes the files out of a look that are new or changed.
    fn take_changed_files(&mut self, look: &mut PartLook) -> Vec<WalkedFile> {
        let files = std::mem::take(&mut look.walk.files);
        let mut changed = Vec::new();
        for file in files {
            if self.excluded.cover(file.name.as_str()) {
                continue;
            }
            if let Some(share) = look.shares.get(&file.name).filter(|share| share.path == file.path) {
                let now = file_version(&file.metadata);
                match share.version.change_to(&now) {
                    // A longer file still has the bytes of the version on record, and serves them to the end.
                    VersionChange::Content if now.size <= share.version.size => {
                        self.report.stale.push(file.name.clone());
                    }
                    VersionChange::Content => {}
                    _ if share.executable != is_executable(&file.metadata) => {}
                    VersionChange::Unchanged | VersionChange::Attributes => continue,
                }
            }
            changed.push(file);
        }
        changed
    }

    /// Stores the shares of files whose hash is on record, and hands the others back.
    fn store_known(&mut self, files: Vec<WalkedFile>, impatient: &HashSet<PathBuf>, freed: usize) -> Result<(), Error> {
        if files.is_empty() {
            return Ok(());
        }
        let (mut omissions, mut links, now) = (OmissionReport::default(), HardLinkHashes::new(), now_ns());
        let candidates = find_walked_candidates(self.profile, &self.root.audience, files, freed, &mut omissions)?;
        let (mut batch, mut unsettled) = (Vec::new(), HashSet::new());
        for candidate in candidates {
            if candidate.known.is_none() {
                self.hand_back(candidate, impatient, now, &mut unsettled);
                continue;
            }
            // Nothing is hashed here: what has no known hash was handed back.
            let never = &mut |_: super::ShareEvent<'_>| ControlFlow::Break(());
            let shared = candidate.into_share(&self.root.audience, self.private, &mut links, &mut omissions, never);
            batch.extend(shared.map(|(share, _)| share));
            if batch.len() == TRANSACTION_SHARES {
                self.report.has_changed |= self.profile.put_root_shares(self.root, &batch)? > 0;
                batch.clear();
            }
        }
        if !batch.is_empty() {
            self.report.has_changed |= self.profile.put_root_shares(self.root, &batch)? > 0;
        }
        // What isn't hashed yet isn't stale yet either.
        self.report.stale.retain(|name| !unsettled.contains(name));
        Ok(())
    }

    fn hand_back(
        &mut self,
        candidate: ShareCandidate,
        impatient: &HashSet<PathBuf>,
        now: i64,
        unsettled: &mut HashSet<FileName>,
    ) {
        let Ok(relative) = candidate.path.strip_prefix(&self.root.path).map(Path::to_owned) else { return };
        if is_being_written(&candidate.id, now) && !impatient.contains(&candidate.path) {
            unsettled.insert(candidate.name);
            self.report.unsettled.push(relative);
            return;
        }
        let (name, path, version) = (candidate.name, candidate.path, candidate.id);
        self.report.to_hash.push(HashJob { name, path, relative, version });
    }

    /// Stores the folders of the parts, and those right above them.
    fn store_folders(&self, looks: &[PartLook]) -> Result<(), Error> {
        let audience = &self.root.audience;
        let (mut names, mut folders, mut above) = (Vec::new(), Vec::new(), BTreeSet::new());
        for look in looks {
            if look.away.cover(look.name.as_str()) {
                // Of a disk that is away nothing is known: its folders stay on record.
                continue;
            }
            names.push(look.name.as_str());
            let kept = look.walk.folders.iter().filter(|folder| !self.excluded.cover(folder.name.as_str()));
            folders.extend(kept.cloned());
            above.extend(look.relative.parent());
            self.profile.put_share_mounts(audience, look.name.as_str(), &look.mounts)?;
        }
        self.profile.replace_folders(audience, names, &folders)?;
        refresh_folders(self.profile, self.root, above)
    }
}

impl PartLook {
    /// Returns the names of the shares whose files are gone.
    fn gone(&self, root: &ShareRoot) -> Vec<FileName> {
        let there: HashSet<&Path> = self.walk.files.iter().map(|file| file.path.as_path()).collect();
        let is_unknown = |path: &Path| self.walk.unreadable.iter().any(|unreadable| path.starts_with(unreadable));
        let shares = self.shares.values().filter(|share| {
            !there.contains(share.path.as_path())
                && !is_unknown(&share.path)
                && !self.away.cover(share.name.as_str())
                // Of a name in another normal form, as they come from other systems.
                && share.path.starts_with(&root.path)
        });
        shares.map(|share| share.name.clone()).collect()
    }
}

impl WalkResult {
    /// True if a folder was walked and not a file.
    fn is_folder(&self) -> bool {
        !self.folders.is_empty()
    }
}

/// True if the file was changed a moment ago. A time in the future is one that somebody set.
fn is_being_written(version: &FileVersion, now_ns: i64) -> bool {
    (0..SETTLED_AFTER_NS).contains(&now_ns.saturating_sub(version.mtime_ns))
}

/// Returns the inode of a folder; `None` if none is there.
pub(in crate::engine) fn folder_inode(path: &Path) -> Option<InodeKey> {
    fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir).map(|found| inode_key(&found))
}

/// True if a component of the path is hidden, so that all below it is left out.
fn is_hidden(relative: &Path) -> bool {
    relative.iter().any(|component| component.as_bytes().starts_with(b"."))
}

/// True if all folders above the path are real ones: a link that took the place of one is not followed.
fn has_real_folders_above(root: &Path, relative: &Path) -> bool {
    relative.ancestors().skip(1).all(|above| above.as_os_str().is_empty() || folder_inode(&root.join(above)).is_some())
}
