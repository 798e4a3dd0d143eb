//! What is to be offered: each name once, with what was hashed before.

use std::path::{Path, PathBuf};

use shared::FileName;
use shared::limits::{FILE_SIZE, FILES_PER_USER};
use shared::safe_text::safe_path;

use super::Error;
use super::hashing::{HashError, hash_file};
use super::key_search::KeySearch;
use super::known::{HardLinks, known_hash, linked_hash};
use super::left_out::{LeftOut, Omission};
use super::walk::{Found, Refused, Walked, Walker, refusal};
use super::{Report, ShareEvent, hashed_share};
use crate::engine::now_ns;
use crate::engine::private_data::PrivateData;
use crate::profile::{FileHash, HashedShare, Profile};
use crate::sys::{FileId, file_id, hard_link, id_of, is_executable, open_regular};

/// A file that was found and is to be offered.
pub(super) struct Candidate {
    pub(super) name: FileName,
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    executable: bool,
    /// Device and inode, if it has several names.
    pub(super) link: Option<(u64, u64)>,
    /// What was computed before, if it is still the same version.
    pub(super) known: Option<FileHash>,
    /// It was named by itself.
    is_named: bool,
}

/// Why a file is not offered after all.
enum Unshared {
    Refused(Refused),
    /// Whoever followed broke it off.
    BrokenOff,
}

impl Candidate {
    /// Hashes it unless that was done before, under this name or another, and tells whether it had to be; counts it if it
    /// can't be shared after all.
    pub(super) fn into_share(
        self,
        private: &PrivateData,
        links: &mut HardLinks,
        left_out: &mut LeftOut,
        report: &mut Report<'_>,
    ) -> Option<(HashedShare, bool)> {
        let (path, name, is_named) = (self.path.clone(), self.name.clone(), self.is_named);
        match self.hash(private, links, report) {
            Ok(shared) => Some(shared),
            Err(Unshared::Refused(why)) => {
                skip(left_out, &path, &name, is_named, why);
                None
            }
            Err(Unshared::BrokenOff) => None,
        }
    }

    fn hash(
        self,
        private: &PrivateData,
        links: &mut HardLinks,
        report: &mut Report<'_>,
    ) -> Result<(HashedShare, bool), Unshared> {
        let Self { name, path, id, executable, link, known, .. } = self;
        let opened = open_regular(&path);
        if let Ok(file) = &opened
            && let Some(reason) = private.reason_of_open(&path, file)
        {
            return Err(Unshared::Refused((Omission::Private, reason.as_str().to_owned())));
        }
        if let Some(known) = known.or_else(|| linked_hash(links, link, &id)) {
            return Ok((hashed_share(name, path, executable, known), false));
        }
        if report(ShareEvent::Hashing { name: &name, size: id.size }).is_break() {
            return Err(Unshared::BrokenOff);
        }
        let file = opened.map_err(|why| Unshared::Refused(refusal(&why)))?;
        // A hash whose times prove nothing would be computed once more the next time.
        if let Some(moment) = id_of(&file).ok().flatten().and_then(|id| id.settles_in(now_ns())) {
            std::thread::sleep(moment);
        }
        let key = private.own_key();
        let mut search = KeySearch::new(key.as_deref());
        let hashed = hash_file(&file, &mut search, &mut |bytes| report(ShareEvent::Hashed(bytes)));
        let hash = hashed.map_err(|why| match why {
            HashError::BrokenOff => Unshared::BrokenOff,
            HashError::Unreadable(why) => Unshared::Refused(refusal(&why)),
            HashError::HoldsKey => Unshared::Refused((Omission::Private, why.to_string())),
            why => Unshared::Refused((Omission::NotHashed, why.to_string())),
        })?;
        if let Some(link) = link {
            links.insert(link, hash.clone());
        }
        Ok((hashed_share(name, path, executable, hash), true))
    }
}

/// Finds everything at or below `paths` that can be offered; the rest is counted.
pub(super) fn find_candidates(
    profile: &Profile,
    private: &PrivateData,
    paths: &[PathBuf],
    name: Option<&FileName>,
    left_out: &mut LeftOut,
) -> Result<Vec<Candidate>, Error> {
    let mut walker = Walker::new(private);
    let mut selection = Selection::new(profile, left_out)?;
    for root in paths {
        match walker.walk(root, name, selection.left_out) {
            Ok(Walked { base, files, folders }) => {
                // Those of an earlier walk may be gone since.
                profile.remove_folders(&base)?;
                profile.put_folders(&folders)?;
                files.into_iter().for_each(|file| selection.take(file));
            }
            Err((omission, why)) => selection.left_out.add_named(omission, || root.to_string_lossy().into_owned(), why),
        }
    }
    Ok(selection.unique())
}

/// Looks at these files, each under the name beside it, as far as they can be offered; the rest is counted.
pub(super) fn check_files(
    profile: &Profile,
    private: &PrivateData,
    files: Vec<(PathBuf, FileName)>,
    left_out: &mut LeftOut,
) -> Result<Vec<Candidate>, Error> {
    let walker = Walker::new(private);
    let mut selection = Selection::new(profile, left_out)?;
    for (path, name) in files {
        match walker.file(&path, name) {
            Ok(found) => selection.take(found),
            Err((omission, why)) => selection.left_out.add_named(omission, || path.to_string_lossy().into_owned(), why),
        }
    }
    Ok(selection.unique())
}

/// What is chosen of what was found.
struct Selection<'a> {
    profile: &'a Profile,
    left_out: &'a mut LeftOut,
    /// For so many more files.
    room: usize,
    candidates: Vec<Candidate>,
}

impl<'a> Selection<'a> {
    fn new(profile: &'a Profile, left_out: &'a mut LeftOut) -> Result<Self, Error> {
        let room = FILES_PER_USER.saturating_sub(profile.share_count()?);
        Ok(Self { profile, left_out, room, candidates: Vec::new() })
    }

    fn take(&mut self, found: Found) {
        let (path, name, is_named) = (found.path.clone(), found.name.clone(), found.is_named);
        let refused = match check(self.profile, found) {
            Ok((candidate, known)) if known || self.room > 0 => {
                self.room -= usize::from(!known);
                self.candidates.push(candidate);
                return;
            }
            Ok(_) => (Omission::TooMany, "100,000 files are shared already".to_owned()),
            Err(why) => why,
        };
        skip(self.left_out, &path, &name, is_named, refused);
    }

    /// In the order of their names, each name once.
    fn unique(self) -> Vec<Candidate> {
        let mut candidates = self.candidates;
        candidates.sort_by(|a, b| a.name.cmp(&b.name));
        let mut last: Option<Candidate> = None;
        let mut unique = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            match &last {
                Some(kept) if kept.name == candidate.name && kept.path == candidate.path => {}
                Some(kept) if kept.name == candidate.name => {
                    let why = "another file of that name is being shared: use --as NAME".to_owned();
                    let Candidate { path, name, is_named, .. } = candidate;
                    skip(self.left_out, &path, &name, is_named, (Omission::NameTaken, why));
                }
                _ => unique.extend(last.replace(candidate)),
            }
        }
        unique.extend(last);
        unique
    }
}

fn skip(left_out: &mut LeftOut, path: &Path, name: &FileName, is_named: bool, (omission, why): Refused) {
    if is_named {
        left_out.add_named(omission, || path.to_string_lossy().into_owned(), why);
    } else {
        left_out.add_found(omission, || name.as_str().to_owned(), why);
    }
}

/// Looks up what is on record of a found file; the flag tells whether it is shared already.
fn check(profile: &Profile, found: Found) -> Result<(Candidate, bool), Refused> {
    let Found { path, name, metadata, is_named } = found;
    let broken = |why: crate::profile::ProfileError| (Omission::Unreadable, why.to_string());
    let id = file_id(&metadata);
    if id.size > FILE_SIZE {
        return Err((Omission::TooLarge, "it is too large".to_owned()));
    }
    let before = profile.share(&name).map_err(broken)?;
    if let Some(before) = before.as_ref().filter(|before| before.path != path && before.path.exists()) {
        let elsewhere = safe_path(&before.path);
        let why = format!("{} is shared from {elsewhere} already: use --as NAME, or unshare that first", name.shown());
        return Err((Omission::NameTaken, why));
    }
    let known = known_hash(profile, &path, &metadata).map_err(broken)?;
    let (executable, link) = (is_executable(&metadata), hard_link(&metadata));
    Ok((Candidate { name, path, id, executable, link, known, is_named }, before.is_some()))
}
