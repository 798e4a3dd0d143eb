//! Hashing a file once, group by group.

use std::fs::File;
use std::io::Read;

use shared::content::{GroupValue, Manifest};
use shared::{ContentHash, Layout};

use crate::sys::{FileId, file_id, plain_message};

const READ_BYTES: usize = 1 << 20;

/// Hashes a whole file, group by group, and makes sure that it didn't change meanwhile.
pub(super) fn hash_file(file: &File, progress: &mut dyn FnMut(u64)) -> Result<(FileId, ContentHash, Manifest), String> {
    let id = file_id(&file.metadata().map_err(|why| plain_message(&why))?);
    let layout = Layout::of(id.size).ok_or("it is too large")?;
    let mut values: Vec<GroupValue> = Vec::new();
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(id.size).unwrap_or(READ_BYTES).max(1))];
    let mut reader = file;
    for group in 0..layout.groups() {
        let mut hasher = layout.hasher(group);
        let mut left = layout.len_of(group);
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = reader.read(&mut buffer[..want]).map_err(|why| plain_message(&why))?;
            if got == 0 {
                return Err("it became shorter while it was read".to_owned());
            }
            hasher.update(&buffer[..got]);
            left -= got as u64;
            progress(got as u64);
        }
        values.push(hasher.finish());
    }
    if file_id(&file.metadata().map_err(|why| plain_message(&why))?) != id {
        return Err("it changed while it was read: share it again".to_owned());
    }
    let manifest = Manifest::new(values);
    Ok((id, manifest.fold(), manifest))
}
