//! Finding what is to be offered: walking folders, naming what is found, knowing what was hashed before.

use std::fs;
use std::path::{Path, PathBuf};

use shared::content::Manifest;
use shared::limits::{FILE_SIZE, FILES_PER_USER};
use shared::{ContentHash, FileName};
use walkdir::{DirEntry, WalkDir};

use super::hashing::hash_file;
use super::{Error, ShareEvent, Summary};
use crate::profile::{HashedShare, Profile, Share};
use crate::sys::{FileId, file_id, is_executable, open_regular, plain_message};

/// A file that was found and is to be offered.
pub(super) struct Candidate {
    name: FileName,
    path: PathBuf,
    pub(super) id: FileId,
    executable: bool,
    /// What was hashed before, if it is still the same version.
    pub(super) known: Option<(ContentHash, Manifest)>,
}

impl Candidate {
    /// Hashes it unless that was done before.
    pub(super) fn into_share(self, report: &mut dyn FnMut(ShareEvent<'_>)) -> Result<HashedShare, (PathBuf, String)> {
        let Self { name, path, id, executable, known } = self;
        if let Some((hash, manifest)) = known {
            return Ok(HashedShare { share: Share { name, path, id, executable, hash }, manifest });
        }
        report(ShareEvent::Hashing { name: &name, size: id.size });
        let opened = open_regular(&path).map_err(|why| plain_message(&why));
        let hashed = opened.and_then(|file| hash_file(&file, &mut |bytes| report(ShareEvent::Hashed(bytes))));
        match hashed {
            Ok((id, hash, manifest)) => Ok(HashedShare { share: Share { name, path, id, executable, hash }, manifest }),
            Err(why) => Err((path, why)),
        }
    }
}

/// Everything at or below `paths` that can be offered; the rest is told and counted.
pub(super) fn find_candidates(
    profile: &Profile,
    paths: &[PathBuf],
    name: Option<&FileName>,
    summary: &mut Summary,
    report: &mut dyn FnMut(ShareEvent<'_>),
) -> Result<Vec<Candidate>, Error> {
    let mut desk = Desk::new(profile, summary, report)?;
    let mut empty_folders = Vec::new();
    for root in paths {
        let found = match Found::all(root, name) {
            Ok((base, found)) => {
                // Those of an earlier walk may have got something in them since.
                profile.remove_empty_folders(&base)?;
                found
            }
            Err(why) => {
                desk.skip(root, &why);
                continue;
            }
        };
        for found in found {
            match found {
                Ok(Found { name, is_folder: true, .. }) => empty_folders.push(name),
                found => desk.take(found),
            }
        }
    }
    profile.put_empty_folders(&empty_folders)?;
    Ok(desk.unique())
}

/// These files, each under the name beside it, as far as they can be offered; the rest is told and counted.
pub(super) fn check_files(
    profile: &Profile,
    files: Vec<(PathBuf, FileName)>,
    summary: &mut Summary,
    report: &mut dyn FnMut(ShareEvent<'_>),
) -> Result<Vec<Candidate>, Error> {
    let mut desk = Desk::new(profile, summary, report)?;
    for (path, name) in files {
        let found = path.canonicalize().map(|path| Found { path, name, is_folder: false });
        desk.take(found.map_err(|why| (path, plain_message(&why))));
    }
    Ok(desk.unique())
}

/// Where what was found is checked.
struct Desk<'a> {
    profile: &'a Profile,
    summary: &'a mut Summary,
    report: &'a mut dyn FnMut(ShareEvent<'_>),
    /// For so many more files.
    room: usize,
    candidates: Vec<Candidate>,
}

impl<'a> Desk<'a> {
    fn new(
        profile: &'a Profile,
        summary: &'a mut Summary,
        report: &'a mut dyn FnMut(ShareEvent<'_>),
    ) -> Result<Self, Error> {
        let room = FILES_PER_USER.saturating_sub(profile.share_count()?);
        Ok(Self { profile, summary, report, room, candidates: Vec::new() })
    }

    fn take(&mut self, found: Result<Found, Refused>) {
        match found.and_then(|found| check(self.profile, found)) {
            Ok((candidate, known)) if known || self.room > 0 => {
                self.room -= usize::from(!known);
                self.candidates.push(candidate);
            }
            Ok((candidate, _)) => self.skip(&candidate.path, "100,000 files are shared already"),
            Err((path, why)) => self.skip(&path, &why),
        }
    }

    fn skip(&mut self, path: &Path, why: &str) {
        skip(self.summary, self.report, path, why);
    }

    /// In the order of their names, each name once.
    fn unique(mut self) -> Vec<Candidate> {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort_by(|a, b| a.name.cmp(&b.name));
        let mut last: Option<Candidate> = None;
        let mut unique = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            match &last {
                Some(kept) if kept.name == candidate.name && kept.path == candidate.path => {}
                Some(kept) if kept.name == candidate.name => {
                    self.skip(&candidate.path, "another file of that name is being shared: use --as NAME");
                }
                _ => unique.extend(last.replace(candidate)),
            }
        }
        unique.extend(last);
        unique
    }
}

pub(super) fn skip(summary: &mut Summary, report: &mut dyn FnMut(ShareEvent<'_>), path: &Path, why: &str) {
    summary.skipped += 1;
    report(ShareEvent::Skipped { path, why });
}

/// A file, or a folder of which nothing else is offered, and the name it would have.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    name: FileName,
    is_folder: bool,
}

type Refused = (PathBuf, String);

impl Found {
    /// The name of `root` and all that is at or below it. What the user named is taken even if it is hidden, but no link.
    fn all(root: &Path, name: Option<&FileName>) -> Result<(String, Vec<Result<Self, Refused>>), String> {
        let metadata = fs::symlink_metadata(root).map_err(|why| plain_message(&why))?;
        if metadata.is_symlink() {
            return Err("it is a link, and links are not followed: name what it points to".to_owned());
        }
        let path = root.canonicalize().map_err(|why| plain_message(&why))?;
        let base = match (name, path.file_name()) {
            (Some(name), _) => name.as_str().to_owned(),
            (None, Some(last)) => last.to_str().ok_or("its name is not UTF-8: use --as NAME")?.to_owned(),
            (None, None) => return Err("it has no name: use --as NAME".to_owned()),
        };
        if !metadata.is_file() && !metadata.is_dir() {
            return Err("it is neither a file nor a folder".to_owned());
        }
        let visible = |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
        let walk = WalkDir::new(&path).follow_links(false).sort_by_file_name().into_iter().filter_entry(visible);
        let mut found = Vec::new();
        // The last folder, if nothing was found in it yet; and how deep it lies.
        let mut empty: Option<(usize, Self)> = None;
        for entry in walk {
            let (depth, one) = match entry {
                Ok(entry) if entry.file_type().is_file() || entry.file_type().is_dir() => {
                    let (depth, is_folder) = (entry.depth(), entry.file_type().is_dir());
                    (depth, Self::below(&path, &base, entry.into_path(), is_folder))
                }
                Ok(_) => continue,
                Err(why) => (0, Err((why.path().unwrap_or(&path).to_owned(), why.to_string()))),
            };
            if one.is_ok()
                && let Some((above, folder)) = empty.take()
                && depth <= above
            {
                found.push(Ok(folder));
            }
            match one {
                Ok(folder @ Self { is_folder: true, .. }) => empty = Some((depth, folder)),
                file => found.push(file),
            }
        }
        found.extend(empty.map(|(_, folder)| Ok(folder)));
        Ok((base, found))
    }

    fn below(root: &Path, base: &str, path: PathBuf, is_folder: bool) -> Result<Self, Refused> {
        let relative = path.strip_prefix(root).ok().and_then(Path::to_str);
        let name = match relative {
            Some("") => base.to_owned(),
            Some(relative) => format!("{base}/{relative}"),
            None => return Err((path, "its name is not UTF-8".to_owned())),
        };
        match name.parse() {
            Ok(name) => Ok(Self { path, name, is_folder }),
            Err(why) => Err((path, format!("its name can't be shared: {why}"))),
        }
    }
}

/// What is on record of a found file; the flag tells whether it is shared already.
fn check(profile: &Profile, found: Found) -> Result<(Candidate, bool), Refused> {
    let Found { path, name, .. } = found;
    let refuse = |why: String| (path.clone(), why);
    let metadata = fs::symlink_metadata(&path).map_err(|why| refuse(plain_message(&why)))?;
    let id = file_id(&metadata);
    if id.size > FILE_SIZE {
        return Err(refuse("it is too large".to_owned()));
    }
    let before = profile.share(&name).map_err(|why| refuse(why.to_string()))?;
    if let Some(before) = before.as_ref().filter(|before| before.path != path && before.path.exists()) {
        let elsewhere = before.path.display();
        return Err(refuse(format!("{name} is shared from {elsewhere} already: use --as NAME, or unshare that first")));
    }
    let known = profile.hashed_before(&path, id).map_err(|why| refuse(why.to_string()))?;
    let executable = is_executable(&metadata);
    Ok((Candidate { name, id, executable, known, path }, before.is_some()))
}
