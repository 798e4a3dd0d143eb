//! Offering files: walking folders, hashing, and noticing what changed since.

mod folder_walk;
mod hash_reuse;
mod hashing;
mod key_search;
mod omissions;
mod share_candidates;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use shared::names::matching_key;
use shared::{FileName, UserName};

use super::Error;
use super::private_data::PrivateData;
use crate::profile::{HashedFile, HashedShare, Profile, Share};
use crate::sys::{self, VersionChange, file_version, is_executable, open_regular, plain_message};
use hash_reuse::{HardLinkHashes, recorded_hash};
pub use hashing::HashError;
pub(super) use hashing::{HashProgressCallback, hash_file, ignore_progress};
pub(super) use key_search::KeySearch;
pub use omissions::{OmissionExample, OmissionGroup, OmissionReason, OmissionReport};
use share_candidates::{ShareCandidate, find_candidates, find_named_candidates};

/// Shares written in one transaction.
const TRANSACTION_SHARES: usize = 1000;
/// Bytes hashed between two transactions: what an interruption costs.
const TRANSACTION_BYTES: u64 = 256 << 20;

/// What happens while files are offered.
#[derive(Debug)]
pub enum ShareEvent<'a> {
    /// The walk is over: this many files of this many bytes in all will be looked at.
    Found {
        /// How many.
        files: usize,
        /// Bytes of those that must be hashed.
        to_hash: u64,
    },
    /// A file's turn has come.
    Hashing {
        /// The name it will have.
        name: &'a FileName,
        /// Its bytes.
        size: u64,
    },
    /// Bytes of it were hashed.
    Hashed(u64),
    /// It is offered now.
    Shared {
        /// The share.
        share: &'a Share,
        /// Whether it had to be hashed.
        hashed: bool,
    },
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareSummary {
    /// Files that are offered.
    pub shared: usize,
    /// Of them, those whose hash was on record.
    pub unchanged: usize,
    /// Bytes of the files offered.
    pub bytes: u64,
    /// Named or found, and not offered.
    pub omissions: OmissionReport,
    /// Of so many files, when it was broken off: the others were not looked at.
    pub interrupted_total: Option<usize>,
}

/// Whoever follows the sharing of files: told of it, and able to break it off.
pub type ShareEventHandler<'a> = dyn FnMut(ShareEvent<'_>) -> ControlFlow<()> + 'a;

/// How a share compares with the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareFreshness {
    /// As it was hashed.
    Fresh,
    /// Nothing says that its content changed, but its mode, its links or its inode did: what is sent of it is compared.
    Touched,
    /// Its content may be another than the one that was hashed.
    Changed {
        /// Whether it is longer now: what was hashed may still be there.
        grown: bool,
    },
    /// Gone.
    Missing,
    /// There, and the system doesn't let it be looked at, in these words.
    Unreadable(String),
}

/// What came of hashing a share again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// What is recorded is as it was then.
    Done,
    /// It is gone. It stays on record, and is offered again when it is back.
    Gone,
    /// It changed while it was read.
    Changing,
    /// It can't be read, in these words.
    Unreadable(String),
    /// It is never served, for this reason, and no longer on record.
    Private(String),
}

/// Offers files and folders, blocking. Folders are walked, hidden files left out unless named, links followed only if
/// named, private files never taken.
///
/// A file offered before under that name from elsewhere is not replaced. What was hashed before `report` breaks it off is
/// offered.
///
/// # Errors
/// What is wrong with the profile; what is wrong with a file leaves it out.
pub fn share(
    profile: &Profile,
    paths: &[PathBuf],
    name: Option<&FileName>,
    report: &mut ShareEventHandler<'_>,
) -> Result<ShareSummary, Error> {
    let (mut summary, private) = (ShareSummary::default(), PrivateData::of(profile));
    let candidates = find_candidates(profile, &private, paths, name, &mut summary.omissions)?;
    hash_and_store(profile, &private, candidates, summary, report)
}

/// Offers each of these files under the name beside it, blocking.
///
/// A file offered before under that name from elsewhere is not replaced.
///
/// # Errors
/// What is wrong with the profile; what is wrong with a file leaves it out.
pub fn share_files(
    profile: &Profile,
    files: Vec<(PathBuf, FileName)>,
    report: &mut ShareEventHandler<'_>,
) -> Result<ShareSummary, Error> {
    let (mut summary, private) = (ShareSummary::default(), PrivateData::of(profile));
    let candidates = find_named_candidates(profile, &private, files, &mut summary.omissions)?;
    hash_and_store(profile, &private, candidates, summary, report)
}

fn hash_and_store(
    profile: &Profile,
    private: &PrivateData,
    candidates: Vec<ShareCandidate>,
    mut summary: ShareSummary,
    report: &mut ShareEventHandler<'_>,
) -> Result<ShareSummary, Error> {
    let (mut links, mut seen) = (HardLinkHashes::new(), HashSet::new());
    let is_new =
        |candidate: &&ShareCandidate| candidate.known.is_none() && candidate.link.is_none_or(|link| seen.insert(link));
    let to_hash = candidates.iter().filter(is_new).map(|candidate| candidate.id.size).sum();
    let found = candidates.len();
    let mut flow = report(ShareEvent::Found { files: found, to_hash });
    let mut batch = Vec::new();
    let mut unsaved = 0;
    for candidate in candidates {
        if flow.is_break() {
            break;
        }
        let mut follow = |event: ShareEvent<'_>| {
            flow = report(event);
            flow
        };
        if let Some((fresh, hashed)) = candidate.into_share(private, &mut links, &mut summary.omissions, &mut follow) {
            summary.shared += 1;
            summary.unchanged += usize::from(!hashed);
            summary.bytes += fresh.share.version.size;
            unsaved += if hashed { fresh.share.version.size } else { 0 };
            flow = report(ShareEvent::Shared { share: &fresh.share, hashed });
            batch.push(fresh);
        }
        if batch.len() == TRANSACTION_SHARES || unsaved >= TRANSACTION_BYTES {
            profile.put_shares(&batch)?;
            batch.clear();
            unsaved = 0;
        }
    }
    profile.put_shares(&batch)?;
    summary.interrupted_total = flow.is_break().then_some(found);
    Ok(summary)
}

/// Stops sharing what these texts name: a name, a folder (`docs/`), or a path that is shared. Tells which names.
///
/// # Errors
/// [`Error::Usage`] when a text names nothing that is shared; then nothing is changed.
pub fn unshare(profile: &Profile, texts: &[String]) -> Result<Vec<FileName>, Error> {
    let mut names = Vec::new();
    let mut folders = BTreeSet::new();
    for text in texts {
        let before = names.len();
        let meant = ShareSelector::new(text);
        for is_meant in [ShareSelector::matches_name, ShareSelector::matches_path, ShareSelector::matches_lookalike] {
            for_each_share(profile, "", |share| {
                if is_meant(&meant, &share) {
                    folders.extend(meant.matching_folder(share.name.as_str()).map(str::to_owned));
                    names.push(share.name);
                }
            })?;
            if names.len() > before {
                break;
            }
        }
        let empty = profile.remove_folders(meant.folder)?;
        let parts = profile.partials()?.into_iter().filter(|part| part.name.as_str() == text);
        for part in parts {
            profile.remove_partial(&part.path)?;
            names.push(part.name);
        }
        if names.len() == before && empty == 0 {
            return Err(Error::Usage(format!("nothing is shared as {text:?}: `peer shares` shows what is")));
        }
    }
    for folder in folders {
        profile.remove_folders(&folder)?;
    }
    profile.remove_shares(&names)?;
    Ok(names)
}

/// A name, a folder or a path that somebody typed.
struct ShareSelector<'a> {
    text: &'a str,
    folder: &'a str,
    path: Option<PathBuf>,
    key: Cow<'a, str>,
}

impl<'a> ShareSelector<'a> {
    fn new(text: &'a str) -> Self {
        let folder = text.trim_end_matches('/');
        Self { text, folder, path: Path::new(text).canonicalize().ok(), key: matching_key(folder) }
    }

    fn matches_name(&self, share: &Share) -> bool {
        share.name.as_str() == self.text || share.name.strip_folder(self.folder).is_some()
    }

    /// By its path, where nothing is shared under such a name.
    fn matches_path(&self, share: &Share) -> bool {
        self.path.as_ref().is_some_and(|path| share.path.starts_with(path))
    }

    /// In another normal form, or as it is shown.
    fn matches_lookalike(&self, share: &Share) -> bool {
        let name = share.name.as_str();
        matching_key(name) == self.key || self.matching_folder(name).is_some()
    }

    /// The folder that is meant, as this name has it.
    fn matching_folder<'b>(&self, name: &'b str) -> Option<&'b str> {
        let (slash, _) = name.match_indices('/').nth(self.folder.matches('/').count())?;
        Some(&name[..slash]).filter(|folder| matching_key(folder) == self.key)
    }
}

/// Calls `each` with every share whose name starts with `prefix`, in order, a page at a time.
///
/// # Errors
/// What is wrong with the profile.
pub fn for_each_share(profile: &Profile, prefix: &str, mut each: impl FnMut(Share)) -> Result<(), Error> {
    let mut after = String::new();
    loop {
        let page = profile.shares_page(prefix, &after, TRANSACTION_SHARES)?;
        if let Some(last) = page.shares.last() {
            last.name.as_str().clone_into(&mut after);
        }
        page.shares.into_iter().for_each(&mut each);
        if !page.more {
            return Ok(());
        }
    }
}

/// How a share compares with the disk now.
pub fn freshness(share: &Share) -> ShareFreshness {
    let metadata = match fs::symlink_metadata(&share.path) {
        Ok(metadata) if metadata.is_file() => metadata,
        Err(why) if !is_gone(&why) => return ShareFreshness::Unreadable(plain_message(&why)),
        _ => return ShareFreshness::Missing,
    };
    let now = file_version(&metadata);
    match share.version.change_to(&now) {
        VersionChange::Unchanged => ShareFreshness::Fresh,
        VersionChange::Attributes => ShareFreshness::Touched,
        VersionChange::Content => ShareFreshness::Changed { grown: now.size > share.version.size },
    }
}

/// Whether nobody but its owner may read a share now.
pub(super) fn is_owner_only(share: &Share) -> bool {
    fs::symlink_metadata(&share.path).is_ok_and(|metadata| sys::is_owner_only(&metadata))
}

/// Whether an error of opening a file says that it isn't there, or that something else is by now.
pub(super) fn is_gone(why: &io::Error) -> bool {
    let is_link = why.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    is_link
        || why.raw_os_error().is_none()
        || matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Hashes a share again after it changed.
///
/// # Errors
/// What is wrong with the profile.
pub fn refresh(profile: &Profile, share: &Share) -> Result<RefreshOutcome, Error> {
    match rehash(profile, share) {
        Ok(hashed) => {
            profile.put_shares(std::slice::from_ref(&hashed))?;
            Ok(RefreshOutcome::Done)
        }
        // On record it would be listed, asked for, and refused for ever.
        Err(RefreshOutcome::Private(why)) => {
            profile.remove_shares([&share.name])?;
            tracing::error!("{} is not shared any more: {why}", share.name.display());
            Ok(RefreshOutcome::Private(why))
        }
        Err(outcome) => Ok(outcome),
    }
}

/// The same of what is offered to one person.
///
/// # Errors
/// What is wrong with the profile.
pub fn refresh_offer(profile: &Profile, to: &UserName, share: &Share) -> Result<RefreshOutcome, Error> {
    match rehash(profile, share) {
        Ok(hashed) => {
            profile.put_offer(to, &hashed)?;
            Ok(RefreshOutcome::Done)
        }
        Err(RefreshOutcome::Private(why)) => {
            profile.remove_offer(to, &share.name)?;
            tracing::error!("{} is not offered to {to} any more: {why}", share.name.display());
            Ok(RefreshOutcome::Private(why))
        }
        Err(outcome) => Ok(outcome),
    }
}

fn rehash(profile: &Profile, share: &Share) -> Result<HashedShare, RefreshOutcome> {
    let refused = |why: io::Error| {
        if is_gone(&why) { RefreshOutcome::Gone } else { RefreshOutcome::Unreadable(plain_message(&why)) }
    };
    let file = open_regular(&share.path).map_err(refused)?;
    let private = PrivateData::of(profile);
    if let Some(reason) = private.reason_of_open(&share.path, &file) {
        return Err(RefreshOutcome::Private(reason.as_str().to_owned()));
    }
    let key = private.own_key();
    let hash =
        hash_file(&file, &mut KeySearch::new(key.as_deref()), &mut ignore_progress).map_err(|why| match why {
            HashError::HoldsKey => RefreshOutcome::Private(why.to_string()),
            HashError::Unreadable(why) => refused(why),
            HashError::Changing => RefreshOutcome::Changing,
            why => RefreshOutcome::Unreadable(why.to_string()),
        })?;
    let executable = file.metadata().is_ok_and(|metadata| is_executable(&metadata));
    Ok(hashed_share(share.name.clone(), share.path.clone(), executable, hash))
}

fn hashed_share(name: FileName, path: PathBuf, executable: bool, known: HashedFile) -> HashedShare {
    let HashedFile { version: id, hash, manifest, zeros } = known;
    HashedShare { share: Share { name, path, version: id, executable, hash, zeros }, manifest }
}

/// A file as it would be shared by itself, hashed unless that was done before.
///
/// # Errors
/// Why it can't be.
pub(super) fn hash_path(
    profile: &Profile,
    path: &Path,
    name: Option<&FileName>,
    progress: &mut HashProgressCallback<'_>,
) -> Result<HashedShare, String> {
    // As it was named, also where that is a link.
    let named = path.file_name().map(OsStr::to_owned);
    let path = path.canonicalize().map_err(|why| plain_message(&why))?;
    let own_name = named.or_else(|| path.file_name().map(OsStr::to_owned));
    let own_name = own_name.as_deref().map(OsStrExt::as_bytes).unwrap_or_default();
    let name = match name {
        Some(name) => name.clone(),
        None => {
            let unfit = |why| format!("its name can't be shared: {why}: use --as NAME");
            FileName::from_raw(own_name).map_err(unfit)?
        }
    };
    let file = open_regular(&path).map_err(|why| plain_message(&why))?;
    let private = PrivateData::of(profile);
    if let Some(reason) = private.reason_of_open(&path, &file) {
        return Err(reason.as_str().to_owned());
    }
    let key = private.own_key();
    let mut search = KeySearch::new(key.as_deref());
    let metadata = file.metadata().map_err(|why| plain_message(&why))?;
    let executable = is_executable(&metadata);
    let hash = match recorded_hash(profile, &path, &metadata).map_err(|why| why.to_string())? {
        Some(known) => known,
        None => hash_file(&file, &mut search, progress).map_err(|why| why.to_string())?,
    };
    Ok(hashed_share(name, path, executable, hash))
}
