//! Comparison of local files with the content that is fetched.

use std::fs::File;
use std::io::Read;

use shared::ContentHash;

use crate::engine::Error;
use crate::engine::fetch::name_resolution::ResolvedFile;
use crate::sys::{FolderHandle, make_executable};

/// A callback for the bytes of local files that were hashed; its error stops the hashing.
pub(super) type RehashCallback<'a> = &'a mut dyn FnMut(u64) -> Result<(), Error>;

/// True if the file `name` has the content of the resolved file; makes it executable then, if the source's is.
pub(super) fn is_same(
    folder: &FolderHandle,
    name: &str,
    resolved: &ResolvedFile,
    hashed: RehashCallback<'_>,
) -> Result<bool, Error> {
    let Ok(file) = folder.open_existing(name) else { return Ok(false) };
    let is_same = hash_of(&file, hashed)?.is_some_and(|hash| hash == resolved.stat.hash);
    if is_same && resolved.stat.executable {
        // Fails for another user's file, which stays as it is.
        let _ = make_executable(&file);
    }
    Ok(is_same)
}

/// True if the file `name`, of `there` bytes, has this size and hash.
pub(super) fn is_content(folder: &FolderHandle, name: &str, there: u64, (size, hash): (u64, &ContentHash)) -> bool {
    let read = |file: File| hash_of(&file, &mut |_| Ok(())).ok().flatten();
    there == size && folder.open_existing(name).ok().and_then(read).is_some_and(|found| found == *hash)
}

/// Hashes a file; `None` if it can't be read.
pub(super) fn hash_of(mut file: &File, hashed: RehashCallback<'_>) -> Result<Option<ContentHash>, Error> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(ContentHash::from_bytes(*hasher.finalize().as_bytes()))),
            Ok(len) => {
                hasher.update(&buffer[..len]);
                hashed(len as u64)?;
            }
            // What can't be read is taken for another content, so the file stays.
            Err(_) => return Ok(None),
        }
    }
}
