//! The making of a link: its files are hashed, and recorded with what proves their content.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use certs::Identity;
use localization::tr;

use super::link_token::{LinkSecrets, LinkToken, base32};
use super::remove_ended_links;
use crate::engine::share::{OmissionReport, ShareEventHandler, hash_unshared};
use crate::engine::{Error, now_ms};
use crate::profile::{GuestLink, HashedShare, NewGuestFile, NewGuestLink, Profile};
use crate::sys::{FolderHandle, VersionChange, open_file_version, open_regular};

const MAX_FILES: usize = 20_000;
const READ_BYTES: usize = 1 << 20;
/// Enough that links of a profile never meet; the token is what is secret.
const ID_BYTES: usize = 5;

/// What a new link gives or takes.
#[derive(Debug, Clone)]
pub struct LinkRequest {
    /// The files and folders that it gives.
    pub paths: Vec<PathBuf>,
    /// The folder that takes uploads, in place of files.
    pub folder: Option<PathBuf>,
    /// The bytes that it takes in all.
    pub max_bytes: u64,
    /// True if it is for one browser.
    pub is_once: bool,
    /// True if guests can talk with the user; then there need be no files.
    pub has_chat: bool,
    /// Its life.
    pub lifetime: Duration,
    /// The process that serves it alone; `None` if the node does.
    pub pid: Option<u32>,
}

/// A link that was made.
#[derive(Debug, Clone)]
pub struct MadeLink {
    /// The link on record.
    pub link: GuestLink,
    /// Its token.
    pub token: LinkToken,
    /// Files that were named or found and are not given.
    pub omissions: OmissionReport,
}

/// Makes a link; blocks while files are hashed.
///
/// # Errors
/// [`Error::Usage`] if there is nothing to give, or there are too many links; [`Error::Disk`] if the folder for uploads
/// can't be made; [`Error::Interrupted`].
pub fn make_link(
    profile: &Profile,
    identity: &Identity,
    request: &LinkRequest,
    report: &mut ShareEventHandler<'_>,
) -> Result<MadeLink, Error> {
    // The ended ones first, as they take places within the bound.
    remove_ended_links(profile)?;
    let (folder, mut omissions, mut files) = match &request.folder {
        Some(folder) => (Some(usable_folder(folder)?), OmissionReport::default(), Vec::new()),
        None if request.paths.is_empty() && request.has_chat => (None, OmissionReport::default(), Vec::new()),
        None => {
            let (hashed, omissions) = hash_unshared(profile, &request.paths, MAX_FILES, report)?;
            (None, omissions, hashed.into_iter().map(checked_file).collect())
        }
    };
    let mut given = Vec::with_capacity(files.len());
    for file in files.drain(..) {
        match file {
            Ok(file) => given.push(file),
            Err((path, why)) => omissions.add_named(crate::engine::share::OmissionReason::NotHashed, &path, why),
        }
    }
    if given.is_empty() && folder.is_none() && !request.paths.is_empty() {
        let failure = omissions.named().chain(omissions.failures().flat_map(|(_, group)| &group.examples)).next();
        let why = failure.map_or_else(|| tr!("no file is there"), |one| format!("{}: {}", one.name, one.why));
        return Err(Error::Usage(tr!("there is nothing to give: {why}", why)));
    }
    let nonce: [u8; 16] = rand::random();
    let token = LinkSecrets::of(identity).token(&nonce);
    let id = base32(&rand::random::<[u8; ID_BYTES]>());
    let made_at = now_ms();
    let new = NewGuestLink {
        id: &id,
        nonce: &nonce,
        token_hash: &token.hash(),
        folder: folder.as_deref(),
        max_bytes: request.max_bytes,
        is_once: request.is_once,
        has_chat: request.has_chat,
        made_at,
        expires_at: made_at.saturating_add(i64::try_from(request.lifetime.as_millis()).unwrap_or(i64::MAX)),
        pid: request.pid,
    };
    let too_many =
        || Error::Usage(tr!("there are 100 links: `peer link list` shows them, `peer link revoke N` ends one"));
    profile.add_guest_link(new, &given)?.ok_or_else(too_many)?;
    let stored = profile.guest_link_by_id(&id)?;
    let link = stored.ok_or_else(|| Error::Internal("a link is not on record".to_owned()))?;
    Ok(MadeLink { link, token, omissions })
}

/// Returns the absolute path of a folder that takes files; it is made if it isn't there.
fn usable_folder(path: &std::path::Path) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(path).map_err(Error::disk(path))?;
    let path = path.canonicalize().map_err(Error::disk(path))?;
    let folder = FolderHandle::open(&path).map_err(Error::disk(&path))?;
    match folder.unwritable_reason() {
        Some(obstacle) => Err(Error::FolderUnwritable { folder: path, obstacle }),
        None => Ok(path),
    }
}

/// Reads a hashed file once more for its checksum; from the system's cache, as a rule. Fails with its path and the reason.
fn checked_file(hashed: HashedShare) -> Result<NewGuestFile, (PathBuf, String)> {
    let HashedShare { share, manifest } = hashed;
    let failed = |why: String| (share.path.clone(), why);
    let changed = || failed(tr!("it changes while it is read: try again when nobody writes to it"));
    let file = open_regular(&share.path).map_err(|why| failed(crate::sys::plain_message(&why)))?;
    let crc = checksum(&file, share.version.size).map_err(|why| failed(crate::sys::plain_message(&why)))?;
    // Behind the checksum, which must be that of the version that was hashed.
    let after = open_file_version(&file).ok().flatten().ok_or_else(changed)?;
    if share.version.change_to(&after) == VersionChange::Content {
        return Err(changed());
    }
    let (version, hash) = (share.version, share.hash);
    Ok(NewGuestFile { name: share.name, path: share.path, version, crc, hash, manifest })
}

fn checksum(file: &File, size: u64) -> std::io::Result<u32> {
    // Only as much as was hashed: the end of a file that grows might never come.
    let (mut hasher, mut buffer, mut rest) = (crc32fast::Hasher::new(), vec![0; READ_BYTES], file.take(size));
    loop {
        match rest.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
