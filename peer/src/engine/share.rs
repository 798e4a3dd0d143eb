//! Sharing of files: walks folders, hashes files, and finds out what changed since.

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

use shared::FileName;
use shared::names::matching_key;

use super::Error;
use super::private_data::PrivateData;
use crate::profile::{Audience, HashedFile, HashedShare, PartialShare, Profile, Share};
use crate::sys::{self, VersionChange, file_version, is_executable, open_regular, plain_message};
use hash_reuse::{HardLinkHashes, recorded_hash};
pub use hashing::HashError;
pub(super) use hashing::{HashProgressCallback, hash_file, ignore_progress};
pub(super) use key_search::KeySearch;
pub use omissions::{OmissionExample, OmissionGroup, OmissionReason, OmissionReport};
use share_candidates::{ShareCandidate, find_candidates, find_named_candidates};

/// The most shares written in one transaction.
const TRANSACTION_SHARES: usize = 1000;
/// Bytes hashed between two transactions: the most work that a crash can lose.
const TRANSACTION_BYTES: u64 = 256 << 20;

/// An event while files are shared.
#[derive(Debug)]
pub enum ShareEvent<'a> {
    /// The walk is over.
    Found {
        /// Number of files found.
        files: usize,
        /// Sum of the sizes of files that must be hashed.
        to_hash: u64,
    },
    /// The hashing of a file begins.
    Hashing {
        /// The name under which it will be shared.
        name: &'a FileName,
        /// Its size in bytes.
        size: u64,
    },
    /// More bytes of the current file were hashed.
    Hashed(u64),
    /// The file is ready to be shared; its transaction follows.
    Shared {
        /// The new or updated share.
        share: &'a Share,
        /// True if it had to be hashed.
        hashed: bool,
    },
}

/// Counts of a sharing run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareSummary {
    /// Files that are shared now.
    pub shared: usize,
    /// The files among them whose hash was on record.
    pub unchanged: usize,
    /// Sum of the sizes of the shared files.
    pub bytes: u64,
    /// Files and folders that were named or found and are not shared.
    pub omissions: OmissionReport,
    /// The number of files found, if the run was interrupted before it had looked at all; `None` otherwise.
    pub interrupted_total: Option<usize>,
}

/// A handler of sharing events that can interrupt the run.
pub type ShareEventHandler<'a> = dyn FnMut(ShareEvent<'_>) -> ControlFlow<()> + 'a;

/// The state of a share compared with its file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareFreshness {
    /// Unchanged since it was hashed.
    Fresh,
    /// Only its mode, links or inode changed: its groups are compared with the manifest before they are sent.
    Touched,
    /// Its size or time changed, so its content may have, too.
    Changed {
        /// True if it is longer now: the hashed bytes may still be there.
        grown: bool,
    },
    /// Removed, or no regular file any more.
    Missing,
    /// Present, but the system denies access, with this message.
    Unreadable(String),
}

/// The result of hashing a share again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// Hashed; the record is up to date.
    Done,
    /// The file is gone. The share stays on record, and is offered again when the file is back.
    Gone,
    /// The file changed while it was read.
    Changing,
    /// The file can't be read, with this message.
    Unreadable(String),
    /// The file must never be served, for this reason; the record is removed.
    Private(String),
}

/// Shares files and folders with an audience; blocks. Folders are walked: hidden files are left out unless named, links are followed
/// only if named, and private files are never shared.
///
/// A share of the same name from another path is not replaced. If `report`
/// interrupts the run, the files hashed until then are shared.
///
/// # Errors
/// When the profile can't be read or written. A file that can't be shared is only left out.
pub fn share(
    profile: &Profile,
    audience: &Audience,
    paths: &[PathBuf],
    name: Option<&FileName>,
    report: &mut ShareEventHandler<'_>,
) -> Result<ShareSummary, Error> {
    let (mut summary, private) = (ShareSummary::default(), PrivateData::of(profile));
    let candidates = find_candidates(profile, audience, &private, paths, name, &mut summary.omissions)?;
    hash_and_store(profile, audience, &private, candidates, summary, report)
}

/// Shares each of these files with an audience, under the name beside it; blocks.
///
/// A share of the same name from another path is not replaced.
///
/// # Errors
/// When the profile can't be read or written. A file that can't be shared is only left out.
pub fn share_files(
    profile: &Profile,
    audience: &Audience,
    files: Vec<(PathBuf, FileName)>,
    report: &mut ShareEventHandler<'_>,
) -> Result<ShareSummary, Error> {
    let (mut summary, private) = (ShareSummary::default(), PrivateData::of(profile));
    let candidates = find_named_candidates(profile, audience, &private, files, &mut summary.omissions)?;
    hash_and_store(profile, audience, &private, candidates, summary, report)
}

fn hash_and_store(
    profile: &Profile,
    audience: &Audience,
    private: &PrivateData,
    candidates: Vec<ShareCandidate>,
    mut summary: ShareSummary,
    report: &mut ShareEventHandler<'_>,
) -> Result<ShareSummary, Error> {
    // Hard links count once: the second name reuses the hash of the first.
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
        if let Some((fresh, hashed)) =
            candidate.into_share(audience, private, &mut links, &mut summary.omissions, &mut follow)
        {
            summary.shared += 1;
            summary.unchanged += usize::from(!hashed);
            summary.bytes += fresh.share.version.size;
            unsaved += if hashed { fresh.share.version.size } else { 0 };
            flow = report(ShareEvent::Shared { share: &fresh.share, hashed });
            batch.push(fresh);
        }
        // By count and by bytes: many small files need few transactions,
        // and few large ones must not lose hours of hashing.
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

/// Stops sharing with an audience what these texts name: a share's name, a folder (`docs/`), or a shared path. Returns the names.
///
/// # Errors
/// [`Error::Usage`] if a text names nothing that is shared; then no share is removed.
pub fn unshare(profile: &Profile, audience: &Audience, texts: &[String]) -> Result<Vec<FileName>, Error> {
    let (mut names, mut parts) = (Vec::new(), Vec::new());
    let mut folders = BTreeSet::new();
    // Looks first and removes last: a later text that names nothing must leave all as it was.
    for text in texts {
        let before = names.len();
        let meant = ShareSelector::new(text);
        // From the most exact meaning to the vaguest: only the first one with a match counts.
        for is_meant in [ShareSelector::matches_name, ShareSelector::matches_path, ShareSelector::matches_lookalike] {
            for_each_share(profile, audience, "", |share| {
                if is_meant(&meant, &share) {
                    folders.extend(meant.matching_folder(share.name.as_str()).map(str::to_owned));
                    names.push(share.name);
                }
            })?;
            if names.len() > before {
                break;
            }
        }
        let is_meant = |part: &PartialShare| part.audience == *audience && part.name.as_str() == text;
        for part in profile.partials()?.into_iter().filter(is_meant) {
            parts.push(part.path);
            names.push(part.name);
        }
        folders.insert(meant.folder.to_owned());
        // Empty folders have no shares that could match.
        if names.len() == before && !profile.has_empty_folder(audience, meant.folder)? {
            return Err(Error::Usage(format!("nothing is shared as {text:?}: `peer shares` shows what is")));
        }
    }
    for folder in folders {
        profile.remove_folders(audience, &folder)?;
    }
    for part in parts {
        profile.remove_partial(&part)?;
    }
    profile.remove_shares(audience, &names)?;
    Ok(names)
}

/// A parsed text of the user: a name, a folder or a path.
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

    /// True if the share's file lies at or below the path.
    fn matches_path(&self, share: &Share) -> bool {
        self.path.as_ref().is_some_and(|path| share.path.starts_with(path))
    }

    /// True if the share's name, or its folder, is the text in another normal form or as it is displayed.
    fn matches_lookalike(&self, share: &Share) -> bool {
        let name = share.name.as_str();
        matching_key(name) == self.key || self.matching_folder(name).is_some()
    }

    /// Returns the folder of this name that the text means, in the name's own spelling.
    fn matching_folder<'b>(&self, name: &'b str) -> Option<&'b str> {
        let (slash, _) = name.match_indices('/').nth(self.folder.matches('/').count())?;
        Some(&name[..slash]).filter(|folder| matching_key(folder) == self.key)
    }
}

/// Calls `each` with every share of an audience whose name starts with `prefix`, in the order of names, page by page.
///
/// # Errors
/// When the profile can't be read.
pub fn for_each_share(
    profile: &Profile,
    audience: &Audience,
    prefix: &str,
    mut each: impl FnMut(Share),
) -> Result<(), Error> {
    let mut after = String::new();
    loop {
        let page = profile.shares_page(audience, prefix, &after, TRANSACTION_SHARES)?;
        if let Some(last) = page.shares.last() {
            // By name and not by offset, so that shares added or removed between two pages shift nothing.
            last.name.as_str().clone_into(&mut after);
        }
        page.shares.into_iter().for_each(&mut each);
        if !page.more {
            return Ok(());
        }
    }
}

/// Compares a share with its file on disk.
pub fn freshness(share: &Share) -> ShareFreshness {
    let metadata = match fs::symlink_metadata(&share.path) {
        // `symlink_metadata`: a link that replaced the file is not followed, and the share counts as missing.
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

/// True if only its owner may read the share's file now.
pub(super) fn is_owner_only(share: &Share) -> bool {
    fs::symlink_metadata(&share.path).is_ok_and(|metadata| sys::is_owner_only(&metadata))
}

/// True if an error of opening a file means that the file is gone or something else took its place.
pub(super) fn is_gone(why: &io::Error) -> bool {
    // `open_regular` follows no links: ELOOP means that a link took the place. An error without a code is its
    // own, for something that is no regular file.
    let is_link = why.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    is_link
        || why.raw_os_error().is_none()
        || matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Hashes a changed share again and updates its record. `progress` can interrupt it.
pub(in crate::engine) fn refresh(
    profile: &Profile,
    share: &Share,
    progress: &mut HashProgressCallback<'_>,
) -> Result<RefreshOutcome, Error> {
    match rehash(profile, share, progress) {
        Ok(hashed) => {
            profile.put_shares(std::slice::from_ref(&hashed))?;
            Ok(RefreshOutcome::Done)
        }
        // On record, it would be listed, requested and refused for ever.
        Err(RefreshOutcome::Private(why)) => {
            profile.remove_shares(&share.audience, [&share.name])?;
            tracing::error!("{} is not shared any more: {why}", share.name.display());
            Ok(RefreshOutcome::Private(why))
        }
        Err(outcome) => Ok(outcome),
    }
}

fn rehash(
    profile: &Profile,
    share: &Share,
    progress: &mut HashProgressCallback<'_>,
) -> Result<HashedShare, RefreshOutcome> {
    let refused = |why: io::Error| {
        if is_gone(&why) { RefreshOutcome::Gone } else { RefreshOutcome::Unreadable(plain_message(&why)) }
    };
    let file = open_regular(&share.path).map_err(refused)?;
    let private = PrivateData::of(profile);
    // The open file and not the path: what is checked is what is hashed.
    if let Some(reason) = private.reason_of_open(&share.path, &file) {
        return Err(RefreshOutcome::Private(reason.as_str().to_owned()));
    }
    let key = private.own_key();
    let hash = hash_file(&file, &mut KeySearch::new(key.as_deref()), progress).map_err(|why| match why {
        HashError::HoldsKey => RefreshOutcome::Private(why.to_string()),
        HashError::Unreadable(why) => refused(why),
        HashError::Changing => RefreshOutcome::Changing,
        why => RefreshOutcome::Unreadable(why.to_string()),
    })?;
    let executable = file.metadata().is_ok_and(|metadata| is_executable(&metadata));
    Ok(hashed_share(&share.audience, share.name.clone(), share.path.clone(), executable, hash))
}

fn hashed_share(
    audience: &Audience,
    name: FileName,
    path: PathBuf,
    executable: bool,
    known: HashedFile,
) -> HashedShare {
    let HashedFile { version, hash, manifest, zeros } = known;
    HashedShare { share: Share { audience: audience.clone(), name, path, version, executable, hash, zeros }, manifest }
}

/// Builds the share of a single file with an audience, hashed unless its hash is on record.
///
/// # Errors
/// The reason why the file can't be shared, in words for the user.
pub(super) fn hash_path(
    profile: &Profile,
    audience: &Audience,
    path: &Path,
    name: Option<&FileName>,
    progress: &mut HashProgressCallback<'_>,
) -> Result<HashedShare, String> {
    // The typed name counts, even if it is a link that `canonicalize` resolves.
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
    // The search for the key was part of every hash on record.
    let hash = match recorded_hash(profile, &path, &metadata).map_err(|why| why.to_string())? {
        Some(known) => known,
        None => hash_file(&file, &mut search, progress).map_err(|why| why.to_string())?,
    };
    Ok(hashed_share(audience, name, path, executable, hash))
}
