//! Candidates for sharing: each name once, with its recorded hash.

use std::collections::HashSet;
use std::path::PathBuf;

use localization::tr;
use shared::FileName;
use shared::limits::{MAX_FILE_SIZE, MAX_FILES_PER_USER};
use shared::safe_text::safe_path;

use super::Error;
use super::folder_walk::{ExplainedOmission, FolderWalker, WalkResult, WalkedFile, omission_of_error};
use super::hash_reuse::{HardLinkHashes, linked_hash, recorded_hash};
use super::hashing::{HashError, hash_file};
use super::key_search::KeySearch;
use super::omissions::{CandidateOrigin, OmissionReason, OmissionReport};
use super::{ShareEvent, ShareEventHandler, hashed_share};
use crate::engine::now_ns;
use crate::engine::private_data::PrivateData;
use crate::profile::{Audience, HashedFile, HashedShare, Profile, ProfileError, ShareRoot};
use crate::sys::{FileVersion, file_version, hard_link, is_executable, mount_points, open_file_version, open_regular};

/// A file that was found and is to be shared.
pub(super) struct ShareCandidate {
    pub(super) name: FileName,
    pub(super) path: PathBuf,
    pub(super) id: FileVersion,
    executable: bool,
    /// Device and inode, if it has several hard links.
    pub(super) link: Option<(u64, u64)>,
    /// The recorded hash, if the file is still the same version.
    pub(super) known: Option<HashedFile>,
    origin: CandidateOrigin,
}

/// The reason why a candidate is not shared after all.
enum CandidateError {
    Refused(ExplainedOmission),
    /// The event handler interrupted the run.
    Interrupted,
}

impl ShareCandidate {
    /// Hashes the file unless its hash is known, under this name or another. Returns the share, with true if it was
    /// hashed; `None` if it can't be shared, which is counted in `left_out`.
    pub(super) fn into_share(
        self,
        audience: &Audience,
        private: &PrivateData,
        links: &mut HardLinkHashes,
        left_out: &mut OmissionReport,
        report: &mut ShareEventHandler<'_>,
    ) -> Option<(HashedShare, bool)> {
        let (path, name, origin) = (self.path.clone(), self.name.clone(), self.origin.clone());
        match self.hash(audience, private, links, report) {
            Ok(shared) => Some(shared),
            Err(CandidateError::Refused((reason, why))) => {
                left_out.add(reason, &origin, &path, &name, why);
                None
            }
            Err(CandidateError::Interrupted) => None,
        }
    }

    fn hash(
        self,
        audience: &Audience,
        private: &PrivateData,
        links: &mut HardLinkHashes,
        report: &mut ShareEventHandler<'_>,
    ) -> Result<(HashedShare, bool), CandidateError> {
        let Self { name, path, id, executable, link, known, .. } = self;
        // Checked again on the open file: between the walk and now, another file may have taken the path.
        let opened = open_regular(&path);
        if let Ok(file) = &opened
            && let Some(reason) = private.reason_of_open(&path, file)
        {
            return Err(CandidateError::Refused((OmissionReason::Private, reason.text())));
        }
        // The privacy check comes first even for a known hash: a file can become private after it was shared.
        if let Some(known) = known.or_else(|| linked_hash(links, link, &id)) {
            return Ok((hashed_share(audience, name, path, executable, known), false));
        }
        if report(ShareEvent::Hashing { name: &name, size: id.size }).is_break() {
            return Err(CandidateError::Interrupted);
        }
        let file = opened.map_err(|why| CandidateError::Refused(omission_of_error(&why)))?;
        // A hash whose times prove nothing would be computed once more the next time.
        if let Some(moment) = open_file_version(&file).ok().flatten().and_then(|id| id.settles_in(now_ns())) {
            std::thread::sleep(moment);
        }
        let key = private.own_key();
        let mut search = KeySearch::new(key.as_deref());
        let hashed = hash_file(&file, &mut search, &mut |bytes| report(ShareEvent::Hashed(bytes)));
        let hash = hashed.map_err(|why| match why {
            HashError::Interrupted => CandidateError::Interrupted,
            HashError::Unreadable(why) => CandidateError::Refused(omission_of_error(&why)),
            HashError::HoldsKey => CandidateError::Refused((OmissionReason::Private, why.to_string())),
            why => CandidateError::Refused((OmissionReason::NotHashed, why.to_string())),
        })?;
        // For the other names of the file that come later in this run.
        if let Some(link) = link {
            links.insert(link, hash.clone());
        }
        Ok((hashed_share(audience, name, path, executable, hash), true))
    }
}

/// The result of a search for files to share.
pub(super) struct FoundCandidates {
    /// Each name once, in order.
    pub(super) candidates: Vec<ShareCandidate>,
    /// The folders among the searched paths.
    pub(super) roots: Vec<ShareRoot>,
}

/// Finds all candidates at and below `paths`; counts the rest.
pub(super) fn find_candidates(
    profile: &Profile,
    audience: &Audience,
    private: &PrivateData,
    paths: &[PathBuf],
    name: Option<&FileName>,
    left_out: &mut OmissionReport,
) -> Result<FoundCandidates, Error> {
    let (mut walker, mut roots) = (FolderWalker::new(private), Vec::new());
    let mount_points = mount_points().into_iter().collect();
    let mut selection = CandidateSelection::new(profile, audience, left_out)?;
    for root in paths {
        match walker.walk(root, name, selection.omissions) {
            Ok(walked) => {
                if let Some(top) = walked.folders.first() {
                    let root =
                        ShareRoot { audience: audience.clone(), name: top.name.clone(), path: walked.path.clone() };
                    let before = profile.share_mounts(audience, &walked.base)?;
                    let (_, mounts) = walked.compare_mounts(&root, &before, &mount_points);
                    profile.put_share_mounts(audience, &walked.base, &mounts)?;
                    roots.push(root);
                }
                let WalkResult { base, files, folders, .. } = walked;
                // Folders recorded by an earlier walk may be gone since.
                profile.remove_folders(audience, &base)?;
                profile.put_folders(audience, &folders)?;
                files.into_iter().for_each(|file| selection.add_found(file));
            }
            Err((reason, why)) => selection.omissions.add_named(reason, root, why),
        }
    }
    Ok(FoundCandidates { candidates: selection.into_unique(), roots })
}

/// Finds the candidates among files that a walk found; `freed` of those shared now are gone.
pub(super) fn find_walked_candidates(
    profile: &Profile,
    audience: &Audience,
    files: Vec<WalkedFile>,
    freed: usize,
    left_out: &mut OmissionReport,
) -> Result<Vec<ShareCandidate>, Error> {
    let mut selection = CandidateSelection::new(profile, audience, left_out)?;
    selection.slots_left += freed;
    files.into_iter().for_each(|file| selection.add_found(file));
    Ok(selection.into_unique())
}

/// Finds the candidates among these files, each under the name beside it; counts the rest.
pub(super) fn find_named_candidates(
    profile: &Profile,
    audience: &Audience,
    private: &PrivateData,
    files: Vec<(PathBuf, FileName)>,
    left_out: &mut OmissionReport,
) -> Result<Vec<ShareCandidate>, Error> {
    let walker = FolderWalker::new(private);
    let mut selection = CandidateSelection::new(profile, audience, left_out)?;
    for (path, name) in files {
        match walker.inspect_file(&path, name.clone()) {
            Ok(found) => selection.add_found(found),
            Err((reason, why)) => selection.omissions.add(reason, &CandidateOrigin::Selected, &path, &name, why),
        }
    }
    Ok(selection.into_unique())
}

/// Finds the candidates at and below `paths` for what has names of its own: no share is in their way, and of several files
/// of one name each after the first gets a number. At most `limit`; counts the rest.
pub(super) fn find_loose_candidates(
    profile: &Profile,
    private: &PrivateData,
    paths: &[PathBuf],
    limit: usize,
    left_out: &mut OmissionReport,
) -> Vec<ShareCandidate> {
    let mut walker = FolderWalker::new(private);
    let (mut names, mut seen) = (HashSet::new(), HashSet::new());
    let mut candidates = Vec::new();
    for root in paths {
        let walked = match walker.walk(root, None, left_out) {
            Ok(walked) => walked,
            Err((reason, why)) => {
                left_out.add_named(reason, root, why);
                continue;
            }
        };
        for found in walked.files {
            // A file may be named by itself and with its folder.
            if !seen.insert(found.path.clone()) {
                continue;
            }
            let (path, name, origin) = (found.path.clone(), found.name.clone(), found.origin.clone());
            let free = (1..).map_while(|number| if number == 1 { Some(name.clone()) } else { name.numbered(number) });
            // No more names than that are taken, so that one of so many is free.
            let free = free.take(limit).find(|name| !names.contains(name));
            let (reason, why) = match (loose_candidate(profile, found), free) {
                (Ok(candidate), Some(name)) if candidates.len() < limit => {
                    names.insert(name.clone());
                    candidates.push(ShareCandidate { name, ..candidate });
                    continue;
                }
                (Ok(_), Some(_)) => (OmissionReason::TooMany, tr!("{limit} files are the most", limit)),
                (Ok(_), None) => (OmissionReason::NameTaken, tr!("too many files have its name")),
                (Err(omission), _) => omission,
            };
            left_out.add(reason, &origin, &path, &name, why);
        }
    }
    candidates.sort_by(|a, b| a.name.cmp(&b.name));
    candidates
}

/// A selection of candidates under the limit of shared files.
struct CandidateSelection<'a> {
    profile: &'a Profile,
    audience: &'a Audience,
    omissions: &'a mut OmissionReport,
    /// Number of files that can still be added.
    slots_left: usize,
    candidates: Vec<ShareCandidate>,
}

impl<'a> CandidateSelection<'a> {
    fn new(profile: &'a Profile, audience: &'a Audience, left_out: &'a mut OmissionReport) -> Result<Self, Error> {
        let room = MAX_FILES_PER_USER.saturating_sub(profile.share_count()?);
        Ok(Self { profile, audience, omissions: left_out, slots_left: room, candidates: Vec::new() })
    }

    fn add_found(&mut self, found: WalkedFile) {
        let (path, name, origin) = (found.path.clone(), found.name.clone(), found.origin.clone());
        let (reason, why) = match check_candidate(self.profile, self.audience, found) {
            // A file that is shared already takes no further slot.
            Ok((candidate, known)) if known || self.slots_left > 0 => {
                self.slots_left -= usize::from(!known);
                self.candidates.push(candidate);
                return;
            }
            Ok(_) => (OmissionReason::TooMany, tr!("100,000 files are shared already")),
            Err(why) => why,
        };
        self.omissions.add(reason, &origin, &path, &name, why);
    }

    /// Returns the candidates in the order of their names, each name once.
    fn into_unique(self) -> Vec<ShareCandidate> {
        let mut candidates = self.candidates;
        candidates.sort_by(|a, b| a.name.cmp(&b.name));
        let mut last: Option<ShareCandidate> = None;
        let mut unique = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            match &last {
                // The same file named twice, for example by itself and with its folder.
                Some(kept) if kept.name == candidate.name && kept.path == candidate.path => {}
                Some(kept) if kept.name == candidate.name => {
                    let why = tr!("another file of that name is being shared: use --as NAME");
                    let ShareCandidate { path, name, origin, .. } = candidate;
                    self.omissions.add(OmissionReason::NameTaken, &origin, &path, &name, why);
                }
                _ => unique.extend(last.replace(candidate)),
            }
        }
        unique.extend(last);
        unique
    }
}

/// Looks up the record of a found file; the flag is true if it is shared already.
fn check_candidate(
    profile: &Profile,
    audience: &Audience,
    found: WalkedFile,
) -> Result<(ShareCandidate, bool), ExplainedOmission> {
    let (path, name) = (&found.path, &found.name);
    let before = profile.share(audience, name).map_err(|why| unreadable_omission(&why))?;
    // A share whose file is gone gives its name to another file.
    if let Some(before) = before.as_ref().filter(|before| before.path != *path && before.path.exists()) {
        let elsewhere = safe_path(&before.path);
        let why = tr!(
            "{name} is shared from {elsewhere} already: use --as NAME, or unshare that first",
            name = name.display(),
            elsewhere
        );
        return Err((OmissionReason::NameTaken, why));
    }
    Ok((loose_candidate(profile, found)?, before.is_some()))
}

/// Looks up the record of a found file, whatever is shared under its name.
fn loose_candidate(profile: &Profile, found: WalkedFile) -> Result<ShareCandidate, ExplainedOmission> {
    let WalkedFile { path, name, metadata, origin } = found;
    let id = file_version(&metadata);
    if id.size > MAX_FILE_SIZE {
        return Err((OmissionReason::TooLarge, tr!("it is too large")));
    }
    let known = recorded_hash(profile, &path, &metadata).map_err(|why| unreadable_omission(&why))?;
    let (executable, link) = (is_executable(&metadata), hard_link(&metadata));
    Ok(ShareCandidate { name, path, id, executable, link, known, origin })
}

fn unreadable_omission(why: &ProfileError) -> ExplainedOmission {
    (OmissionReason::Unreadable, why.to_string())
}
