//! Records of the folders among the shares.

use std::fs;
use std::path::Path;

use super::Error;
use crate::profile::{Profile, ShareRoot, SharedFolder};
use crate::sys::file_version;

/// Brings the records of these folders, relative to the root, up to date: their times, and whether they are empty.
///
/// # Errors
/// When the profile can't be read or written.
pub(super) fn refresh_folders<'a>(
    profile: &Profile,
    root: &ShareRoot,
    folders: impl IntoIterator<Item = &'a Path>,
) -> Result<(), Error> {
    let mut records = Vec::new();
    for relative in folders {
        let path = root.path.join(relative);
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if let Some(name) = root.name_of(relative).filter(|_| metadata.is_dir()) {
            let is_empty = !profile.has_shares_below(&root.audience, name.as_str())?;
            records.push(SharedFolder { name, mtime_ns: file_version(&metadata).mtime_ns, is_empty });
        }
    }
    if records.is_empty() { Ok(()) } else { Ok(profile.put_folders(&root.audience, &records)?) }
}
