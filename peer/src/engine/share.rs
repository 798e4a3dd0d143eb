//! Sharing of files: walks folders, hashes files, and finds out what changed since.

mod folder_records;
mod folder_sync;
mod folder_walk;
mod hash_jobs;
mod hash_reuse;
mod hashing;
mod key_search;
mod omission_survey;
mod omissions;
mod share_candidates;
mod share_refresh;
#[cfg(test)]
mod sync_tests;
#[cfg(test)]
mod tests;
mod unsharing;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use localization::tr;
use shared::FileName;

use super::Error;
use super::private_data::PrivateData;
use crate::profile::{Audience, HashedFile, HashedShare, Profile, Share};
use crate::sys::{is_executable, open_regular, plain_message};
pub(super) use folder_sync::{FolderSync, SyncReport, SyncScope, WritePatience, folder_inode};
pub(super) use hash_jobs::{HashJob, HashJobOutcome, run_hash_jobs};
use hash_reuse::{HardLinkHashes, recorded_hash};
pub use hashing::HashError;
pub(super) use hashing::{HashProgressCallback, hash_file, ignore_progress};
pub(super) use key_search::KeySearch;
pub use omission_survey::survey_omissions;
pub use omissions::{OmissionExample, OmissionGroup, OmissionReason, OmissionReport};
use share_candidates::{
    FoundCandidates, ShareCandidate, find_candidates, find_loose_candidates, find_named_candidates,
};
use share_refresh::hash_shared;
pub use share_refresh::{RefreshOutcome, ShareFreshness, freshness};
pub(super) use share_refresh::{is_gone, is_owner_only, refresh};
pub use unsharing::unshare;

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

/// Shares files and folders with an audience; blocks. Folders are walked: hidden files are left out unless named, links are followed
/// only if named, and private files are never shared. A running node keeps the folders in step with the disk from then on.
///
/// A share of the same name from another path is not replaced. If `report`
/// interrupts the run, the files hashed until then are shared, and its folders are as they were found.
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
    let found = find_candidates(profile, audience, &private, paths, name, &mut summary.omissions)?;
    let FoundCandidates { candidates, roots } = found;
    let summary = hash_and_store(profile, audience, &private, candidates, summary, report)?;
    // Whoever breaks it off doesn't want a node to go on with it.
    if summary.interrupted_total.is_none() {
        profile.put_share_roots(&roots)?;
    }
    Ok(summary)
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

/// Hashes files and folders without sharing them; blocks. Each file has a name of its own, in their order, and at most
/// `limit` are taken; the omissions count the rest.
///
/// # Errors
/// [`Error::Interrupted`] if `report` interrupts the run.
pub(super) fn hash_unshared(
    profile: &Profile,
    paths: &[PathBuf],
    limit: usize,
    report: &mut ShareEventHandler<'_>,
) -> Result<(Vec<HashedShare>, OmissionReport), Error> {
    let (mut omissions, private) = (OmissionReport::default(), PrivateData::of(profile));
    let candidates = find_loose_candidates(profile, &private, paths, limit, &mut omissions);
    let is_new = |candidate: &&ShareCandidate| candidate.known.is_none();
    let to_hash = candidates.iter().filter(is_new).map(|candidate| candidate.id.size).sum();
    let mut flow = report(ShareEvent::Found { files: candidates.len(), to_hash });
    let (mut links, mut hashed) = (HardLinkHashes::new(), Vec::with_capacity(candidates.len()));
    for candidate in candidates {
        if flow.is_break() {
            return Err(Error::Interrupted);
        }
        let mut follow = |event: ShareEvent<'_>| {
            flow = report(event);
            flow
        };
        // A placeholder: what isn't shared has no audience.
        let share = candidate.into_share(&Audience::Everybody, &private, &mut links, &mut omissions, &mut follow);
        hashed.extend(share.map(|(share, _)| share));
    }
    if flow.is_break() { Err(Error::Interrupted) } else { Ok((hashed, omissions)) }
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
    // Several names of one file are hashed once.
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
            let unfit = |why| tr!("its name can't be shared: {why}: use --as NAME", why);
            FileName::from_raw(own_name).map_err(unfit)?
        }
    };
    let file = open_regular(&path).map_err(|why| plain_message(&why))?;
    let private = PrivateData::of(profile);
    if let Some(reason) = private.reason_of_open(&path, &file) {
        return Err(reason.text());
    }
    let key = private.own_key();
    let mut search = KeySearch::new(key.as_deref());
    // Of the open file, which is the one that is hashed.
    let metadata = file.metadata().map_err(|why| plain_message(&why))?;
    let executable = is_executable(&metadata);
    // The search for the key was part of every hash on record.
    let hash = match recorded_hash(profile, &path, &metadata).map_err(|why| why.to_string())? {
        Some(known) => known,
        None => hash_file(&file, &mut search, progress).map_err(|why| why.to_string())?,
    };
    Ok(hashed_share(audience, name, path, executable, hash))
}
