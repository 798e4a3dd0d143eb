//! Offering files: walking folders, hashing, and noticing what changed since.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use shared::content::{GroupValue, Manifest};
use shared::limits::{FILE_SIZE, FILES_PER_USER};
use shared::{ContentHash, FileName, Layout};
use walkdir::{DirEntry, WalkDir};

use super::Error;
use crate::profile::{HashedShare, Profile, Share};
use crate::sys::{FileId, file_id, is_executable, open_regular};

/// Shares written in one transaction.
const BATCH: usize = 1000;
/// Bytes hashed between two transactions: what an interruption costs.
const BATCH_BYTES: u64 = 256 << 20;
const READ_BYTES: usize = 1 << 20;

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
    /// Something is not offered.
    Skipped {
        /// What.
        path: &'a Path,
        /// Why.
        why: &'a str,
    },
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files that are offered.
    pub shared: usize,
    /// Of them, those whose hash was on record.
    pub unchanged: usize,
    /// Named or found, and not offered.
    pub skipped: usize,
    /// Bytes of the files offered.
    pub bytes: u64,
}

/// How a share compares with the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// As it was hashed.
    Fresh,
    /// Another version than the one that was hashed.
    Changed,
    /// Gone, or unreadable.
    Missing,
}

/// Offers files and folders, blocking. Folders are walked, hidden files left out unless named, links never followed.
///
/// A file offered before under that name from elsewhere is not replaced.
///
/// # Errors
/// What is wrong with the profile; what is wrong with a file skips it.
pub fn share(
    profile: &Profile,
    paths: &[PathBuf],
    name: Option<&FileName>,
    report: &mut dyn FnMut(ShareEvent<'_>),
) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let candidates = find_candidates(profile, paths, name, &mut summary, report)?;
    let to_hash = candidates.iter().filter(|c| c.known.is_none()).map(|c| c.id.size).sum();
    report(ShareEvent::Found { files: candidates.len(), to_hash });
    let mut batch = Vec::new();
    let mut unsaved = 0;
    for candidate in candidates {
        let hashed = candidate.known.is_none();
        match candidate.into_share(report) {
            Ok(fresh) => {
                summary.shared += 1;
                summary.unchanged += usize::from(!hashed);
                summary.bytes += fresh.share.id.size;
                unsaved += if hashed { fresh.share.id.size } else { 0 };
                report(ShareEvent::Shared { share: &fresh.share, hashed });
                batch.push(fresh);
            }
            Err((path, why)) => skip(&mut summary, report, &path, &why),
        }
        if batch.len() == BATCH || unsaved >= BATCH_BYTES {
            profile.put_shares(&batch)?;
            batch.clear();
            unsaved = 0;
        }
    }
    profile.put_shares(&batch)?;
    Ok(summary)
}

/// Offers no longer what these texts name: a name, a folder (`docs/`), or a path that is shared. Tells which names.
///
/// # Errors
/// [`Error::Usage`] when a text names nothing that is shared; then nothing is changed.
pub fn unshare(profile: &Profile, texts: &[String]) -> Result<Vec<FileName>, Error> {
    let mut names = Vec::new();
    for text in texts {
        let before = names.len();
        let folder = format!("{}/", text.trim_end_matches('/'));
        for_each_share(profile, "", |share| {
            let below = share.name.as_str().starts_with(&folder);
            let path = || Path::new(text).canonicalize().is_ok_and(|path| share.path.starts_with(path));
            if share.name.as_str() == text || below || path() {
                names.push(share.name);
            }
        })?;
        let folders = profile.remove_empty_folders(text.trim_end_matches('/'))?;
        if names.len() == before && folders == 0 {
            return Err(Error::Usage(format!("nothing is shared as {text:?}: `peer shares` shows what is")));
        }
    }
    profile.remove_shares(&names)?;
    Ok(names)
}

/// Calls `each` with every share whose name starts with `prefix`, in order, a page at a time.
///
/// # Errors
/// What is wrong with the profile.
pub fn for_each_share(profile: &Profile, prefix: &str, mut each: impl FnMut(Share)) -> Result<(), Error> {
    let mut after = String::new();
    loop {
        let page = profile.shares_page(prefix, &after, BATCH)?;
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
pub fn freshness(share: &Share) -> Freshness {
    match fs::symlink_metadata(&share.path) {
        Ok(metadata) if metadata.is_file() && file_id(&metadata) == share.id => Freshness::Fresh,
        Ok(metadata) if metadata.is_file() => Freshness::Changed,
        _ => Freshness::Missing,
    }
}

/// Hashes a share again after it changed; `None` when it is gone or can't be read now: it stays on record, and is
/// offered again when it is back.
///
/// # Errors
/// What is wrong with the profile.
pub fn refresh(profile: &Profile, share: &Share) -> Result<Option<Share>, Error> {
    let fresh = open_regular(&share.path).map_err(|why| readable(&why)).and_then(|file| {
        let (id, hash, manifest) = hash_file(&file, &mut |_| {})?;
        let executable = file.metadata().is_ok_and(|metadata| is_executable(&metadata));
        Ok(HashedShare { share: Share { id, executable, hash, ..share.clone() }, manifest })
    });
    match fresh {
        Ok(hashed) => {
            profile.put_shares(std::slice::from_ref(&hashed))?;
            Ok(Some(hashed.share))
        }
        Err(why) => {
            tracing::info!("{} can't be shared now: {why}", share.name);
            Ok(None)
        }
    }
}

/// A file that was found and is to be offered.
struct Candidate {
    name: FileName,
    path: PathBuf,
    id: FileId,
    executable: bool,
    known: Option<(ContentHash, Manifest)>,
}

impl Candidate {
    fn into_share(self, report: &mut dyn FnMut(ShareEvent<'_>)) -> Result<HashedShare, (PathBuf, String)> {
        let Self { name, path, id, executable, known } = self;
        if let Some((hash, manifest)) = known {
            return Ok(HashedShare { share: Share { name, path, id, executable, hash }, manifest });
        }
        report(ShareEvent::Hashing { name: &name, size: id.size });
        let opened = open_regular(&path).map_err(|why| readable(&why));
        let hashed = opened.and_then(|file| hash_file(&file, &mut |bytes| report(ShareEvent::Hashed(bytes))));
        match hashed {
            Ok((id, hash, manifest)) => Ok(HashedShare { share: Share { name, path, id, executable, hash }, manifest }),
            Err(why) => Err((path, why)),
        }
    }
}

fn find_candidates(
    profile: &Profile,
    paths: &[PathBuf],
    name: Option<&FileName>,
    summary: &mut Summary,
    report: &mut dyn FnMut(ShareEvent<'_>),
) -> Result<Vec<Candidate>, Error> {
    let mut room = FILES_PER_USER.saturating_sub(profile.share_count()?);
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut empty_folders = Vec::new();
    for root in paths {
        let found = match Found::all(root, name) {
            Ok((base, found)) => {
                // Those of an earlier walk may have got something in them since.
                profile.remove_empty_folders(&base)?;
                found
            }
            Err(why) => {
                skip(summary, report, root, &why);
                continue;
            }
        };
        for found in found {
            let found = match found {
                Ok(Found { path, name, is_folder: true }) => {
                    match name.parse::<FileName>() {
                        Ok(name) => empty_folders.push(name),
                        Err(why) => skip(summary, report, &path, &format!("its name can't be shared: {why}")),
                    }
                    continue;
                }
                found => found,
            };
            match found.and_then(|found| check(profile, found)) {
                Ok((candidate, known)) if known || room > 0 => {
                    room -= usize::from(!known);
                    candidates.push(candidate);
                }
                Ok((candidate, _)) => skip(summary, report, &candidate.path, "100,000 files are shared already"),
                Err((path, why)) => skip(summary, report, &path, &why),
            }
        }
    }
    profile.put_empty_folders(&empty_folders)?;
    candidates.sort_by(|a, b| a.name.cmp(&b.name));
    let mut last: Option<Candidate> = None;
    let mut unique = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        match &last {
            Some(kept) if kept.name == candidate.name && kept.path == candidate.path => {}
            Some(kept) if kept.name == candidate.name => {
                skip(summary, report, &candidate.path, "another file of that name is being shared: use --as NAME");
            }
            _ => unique.extend(last.replace(candidate)),
        }
    }
    unique.extend(last);
    Ok(unique)
}

fn skip(summary: &mut Summary, report: &mut dyn FnMut(ShareEvent<'_>), path: &Path, why: &str) {
    summary.skipped += 1;
    report(ShareEvent::Skipped { path, why });
}

/// A file, or a folder with nothing in it, and the name it would have.
struct Found {
    path: PathBuf,
    name: String,
    is_folder: bool,
}

type Refused = (PathBuf, String);

impl Found {
    /// The name of `root` and all that is at or below it. What the user named is taken even if it is hidden, but no link.
    fn all(root: &Path, name: Option<&FileName>) -> Result<(String, Vec<Result<Self, Refused>>), String> {
        let metadata = fs::symlink_metadata(root).map_err(|why| readable(&why))?;
        if metadata.is_symlink() {
            return Err("it is a link, and links are not followed: name what it points to".to_owned());
        }
        let path = root.canonicalize().map_err(|why| readable(&why))?;
        let base = match (name, path.file_name()) {
            (Some(name), _) => name.as_str().to_owned(),
            (None, Some(last)) => last.to_str().ok_or("its name is not UTF-8: use --as NAME")?.to_owned(),
            (None, None) => return Err("it has no name: use --as NAME".to_owned()),
        };
        if metadata.is_file() {
            return Ok((base.clone(), vec![Ok(Self { path, name: base, is_folder: false })]));
        }
        if !metadata.is_dir() {
            return Err("it is neither a file nor a folder".to_owned());
        }
        let visible = |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
        let walk = WalkDir::new(&path).follow_links(false).sort_by_file_name().into_iter().filter_entry(visible);
        let found = walk.filter_map(|entry| match entry {
            Ok(entry) if entry.file_type().is_file() => Some(Self::below(&path, &base, entry.into_path(), false)),
            Ok(entry) if entry.file_type().is_dir() && is_empty(entry.path()) => {
                Some(Self::below(&path, &base, entry.into_path(), true))
            }
            Ok(_) => None,
            Err(why) => Some(Err((why.path().unwrap_or(&path).to_owned(), why.to_string()))),
        });
        let found = found.collect();
        Ok((base, found))
    }

    fn below(root: &Path, base: &str, path: PathBuf, is_folder: bool) -> Result<Self, Refused> {
        let relative = path.strip_prefix(root).ok().and_then(Path::to_str);
        match relative {
            Some("") => Ok(Self { name: base.to_owned(), path, is_folder }),
            Some(relative) => Ok(Self { name: format!("{base}/{relative}"), path, is_folder }),
            None => Err((path, "its name is not UTF-8".to_owned())),
        }
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// What is on record of a found file; the flag tells whether it is shared already.
fn check(profile: &Profile, found: Found) -> Result<(Candidate, bool), Refused> {
    let Found { path, name, .. } = found;
    let refuse = |why: String| (path.clone(), why);
    let name: FileName = name.parse().map_err(|why| refuse(format!("its name can't be shared: {why}")))?;
    let metadata = fs::symlink_metadata(&path).map_err(|why| refuse(readable(&why)))?;
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

/// Hashes a whole file, group by group, and makes sure that it didn't change meanwhile.
fn hash_file(file: &File, progress: &mut dyn FnMut(u64)) -> Result<(FileId, ContentHash, Manifest), String> {
    let id = file_id(&file.metadata().map_err(|why| readable(&why))?);
    let layout = Layout::of(id.size).ok_or("it is too large")?;
    let mut values: Vec<GroupValue> = Vec::new();
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(id.size).unwrap_or(READ_BYTES).max(1))];
    let mut reader = file;
    for group in 0..layout.groups() {
        let mut hasher = layout.hasher(group);
        let mut left = layout.len_of(group);
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = reader.read(&mut buffer[..want]).map_err(|why| readable(&why))?;
            if got == 0 {
                return Err("it became shorter while it was read".to_owned());
            }
            hasher.update(&buffer[..got]);
            left -= got as u64;
            progress(got as u64);
        }
        values.push(hasher.finish());
    }
    if file_id(&file.metadata().map_err(|why| readable(&why))?) != id {
        return Err("it changed while it was read: share it again".to_owned());
    }
    let manifest = Manifest::new(values);
    Ok((id, manifest.fold(), manifest))
}

fn readable(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home {
        _folder: tempfile::TempDir,
        data: PathBuf,
        profile: Profile,
    }

    fn home() -> Home {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("docs/sub")).unwrap();
        let profile = Profile::open(&folder.path().join("profile")).unwrap();
        Home { _folder: folder, data, profile }
    }

    fn put(path: &Path, content: &[u8]) {
        std::io::Write::write_all(&mut File::create(path).unwrap(), content).unwrap();
    }

    fn names(profile: &Profile) -> Vec<String> {
        let mut names = Vec::new();
        for_each_share(profile, "", |share| names.push(share.name.to_string())).unwrap();
        names
    }

    fn quiet(_: ShareEvent<'_>) {}

    #[test]
    fn folders_are_walked_without_hidden_files_and_links() {
        let home = home();
        put(&home.data.join("docs/a.txt"), b"a");
        put(&home.data.join("docs/sub/b.txt"), b"");
        put(&home.data.join("docs/.hidden"), b"x");
        put(&home.data.join("docs/new\nline"), b"x");
        put(&home.data.join(".named"), b"x");
        std::os::unix::fs::symlink("/etc/passwd", home.data.join("docs/link")).unwrap();
        std::os::unix::fs::symlink(&home.data, home.data.join("docs/sub/loop")).unwrap();
        let paths = [home.data.join("docs"), home.data.join(".named"), home.data.join("docs/link")];
        let summary = share(&home.profile, &paths, None, &mut quiet).unwrap();
        assert_eq!(names(&home.profile), [".named", "docs/a.txt", "docs/sub/b.txt"]);
        assert_eq!((summary.shared, summary.skipped, summary.bytes), (3, 2, 2));
    }

    #[test]
    fn what_did_not_change_is_not_hashed_again() {
        let home = home();
        let path = home.data.join("a");
        put(&path, &vec![1; 3 << 20]);
        let hashed_bytes = |profile: &Profile| {
            let mut bytes = 0;
            share(profile, std::slice::from_ref(&path), None, &mut |event| {
                if let ShareEvent::Hashed(some) = event {
                    bytes += some;
                }
            })
            .unwrap();
            bytes
        };
        assert_eq!(hashed_bytes(&home.profile), 3 << 20);
        assert_eq!(hashed_bytes(&home.profile), 0);
        put(&path, b"other");
        assert_eq!(hashed_bytes(&home.profile), 5);
        let stored = home.profile.share(&"a".parse().unwrap()).unwrap().unwrap();
        assert_eq!(stored.hash, ContentHash::of(b"other"));
    }

    #[test]
    fn a_name_is_not_taken_over_by_another_file() {
        let home = home();
        put(&home.data.join("docs/x"), b"one");
        put(&home.data.join("docs/sub/x"), b"two");
        share(&home.profile, &[home.data.join("docs/x")], None, &mut quiet).unwrap();
        let again = share(&home.profile, &[home.data.join("docs/sub/x")], None, &mut quiet).unwrap();
        assert_eq!((again.shared, again.skipped), (0, 1));
        let renamed = "y".parse().unwrap();
        let again = share(&home.profile, &[home.data.join("docs/sub/x")], Some(&renamed), &mut quiet).unwrap();
        assert_eq!((again.shared, names(&home.profile)), (1, vec!["x".to_owned(), "y".to_owned()]));
    }

    #[test]
    fn a_changed_share_is_noticed_and_refreshed() {
        let home = home();
        let path = home.data.join("a");
        put(&path, b"one");
        share(&home.profile, std::slice::from_ref(&path), None, &mut quiet).unwrap();
        let before = home.profile.share(&"a".parse().unwrap()).unwrap().unwrap();
        assert_eq!(freshness(&before), Freshness::Fresh);
        put(&path, b"three");
        assert_eq!(freshness(&before), Freshness::Changed);
        let after = refresh(&home.profile, &before).unwrap().unwrap();
        assert_eq!(after.hash, ContentHash::of(b"three"));
        fs::remove_file(&path).unwrap();
        assert_eq!(freshness(&after), Freshness::Missing);
        assert_eq!(refresh(&home.profile, &after).unwrap(), None);
        assert_eq!(freshness(&after), Freshness::Missing);
        put(&path, b"three");
        assert_eq!(refresh(&home.profile, &after).unwrap().unwrap().hash, after.hash);
    }

    #[test]
    fn unshare_by_name_folder_and_path() {
        let home = home();
        for name in ["docs/a", "docs/b", "docs/sub/c", "docs/sub/d"] {
            put(&home.data.join(name), name.as_bytes());
        }
        share(&home.profile, &[home.data.join("docs")], None, &mut quiet).unwrap();
        unshare(&home.profile, &["docs/a".into(), "docs/sub/".into()]).unwrap();
        assert_eq!(names(&home.profile), ["docs/b"]);
        assert!(unshare(&home.profile, &["nothing".into()]).is_err());
        unshare(&home.profile, &[home.data.join("docs/b").to_string_lossy().into_owned()]).unwrap();
        assert!(names(&home.profile).is_empty());
    }
}
