//! Finding what is to be offered: walking folders, naming what is found, knowing what was hashed before.

use std::fs;
use std::path::{Path, PathBuf};

use shared::content::Manifest;
use shared::limits::{FILE_SIZE, FILES_PER_USER};
use shared::{ContentHash, FileName};
use walkdir::{DirEntry, WalkDir};

use super::hashing::hash_file;
use super::{Error, ShareEvent, Summary};
use crate::profile::{HashedShare, Profile, Share, SharedFolder};
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
    for root in paths {
        match Walked::all(root, name) {
            Ok(Walked { base, files, folders }) => {
                // Those of an earlier walk may be gone since.
                profile.remove_folders(&base)?;
                profile.put_folders(&folders)?;
                files.into_iter().for_each(|file| desk.take(file));
            }
            Err(why) => desk.skip(root, &why),
        }
    }
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
        let found = path.canonicalize().map(|path| Found { path, name });
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

/// A file, and the name it would have.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    name: FileName,
}

type Refused = (PathBuf, String);

/// What is at or below one path.
#[derive(Debug)]
struct Walked {
    /// Its own name.
    base: String,
    files: Vec<Result<Found, Refused>>,
    folders: Vec<SharedFolder>,
}

impl Walked {
    /// All of it. What the user named is taken even if it is hidden, but no link.
    fn all(root: &Path, name: Option<&FileName>) -> Result<Self, String> {
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
        let (mut files, mut folders) = (Vec::new(), Vec::<SharedFolder>::new());
        // How deep the last folder lies, as long as nothing was found in it.
        let mut last: Option<usize> = None;
        for entry in walk {
            let entry = match entry {
                Ok(entry) if entry.file_type().is_file() || entry.file_type().is_dir() => entry,
                Ok(_) => continue,
                Err(why) => {
                    files.push(Err((why.path().unwrap_or(&path).to_owned(), why.to_string())));
                    continue;
                }
            };
            let name = match name_below(&path, &base, entry.path()) {
                Ok(name) => name,
                Err(why) => {
                    files.push(Err((entry.into_path(), why)));
                    continue;
                }
            };
            if last.take().is_some_and(|above| entry.depth() > above)
                && let Some(above) = folders.last_mut()
            {
                above.empty = false;
            }
            if entry.file_type().is_dir() {
                last = Some(entry.depth());
                let mtime_ns = entry.metadata().map(|metadata| file_id(&metadata).mtime_ns).unwrap_or_default();
                folders.push(SharedFolder { name, mtime_ns, empty: true });
            } else {
                files.push(Ok(Found { path: entry.into_path(), name }));
            }
        }
        Ok(Self { base, files, folders })
    }
}

fn name_below(root: &Path, base: &str, path: &Path) -> Result<FileName, String> {
    let name = match path.strip_prefix(root).ok().and_then(Path::to_str) {
        Some("") => base.to_owned(),
        Some(relative) => format!("{base}/{relative}"),
        None => return Err("its name is not UTF-8".to_owned()),
    };
    name.parse().map_err(|why| format!("its name can't be shared: {why}"))
}

/// What is on record of a found file; the flag tells whether it is shared already.
fn check(profile: &Profile, found: Found) -> Result<(Candidate, bool), Refused> {
    let Found { path, name } = found;
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
