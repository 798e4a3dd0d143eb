//! The placement of complete uploads.
//!
//! The record of the name and the hash comes before the rename: whoever is killed between the two leaves a record beside
//! the part, and the next one who asks for the upload, or ends its link, places the file. The other way round there would be
//! a file without a record, which a guest who didn't hear the answer would send a second time.

use std::io;

use shared::ContentHash;
use shared::names::numbered_component;

use super::GuestLinks;
use super::guest_upload::{GuestUploadError, PlacedUpload, upload_disk_error};
use crate::engine::Error;
use crate::profile::{GuestUpload, Profile};
use crate::sys::{FolderHandle, is_name_refused, sync_all};

/// Names that are tried before an upload gives up.
const MAX_NUMBER: u32 = 10_000;

impl GuestLinks {
    /// Gives a complete upload the first of its own and the numbered names that nothing has.
    pub(super) fn place_upload(
        &self,
        folder: &FolderHandle,
        upload: &GuestUpload,
        hash: ContentHash,
    ) -> Result<PlacedUpload, GuestUploadError> {
        let _one_at_a_time = self.placements.lock();
        place(&self.profile, folder, upload, hash)
    }

    /// Returns the upload with this key. If it is complete, its file has its name.
    pub(super) fn known_upload(
        &self,
        folder: &FolderHandle,
        link: i64,
        key: &[u8],
    ) -> Result<Option<GuestUpload>, GuestUploadError> {
        let find = || self.profile.guest_upload(link, key).map_err(Error::from);
        let known = find()?;
        if !known.as_ref().is_some_and(|known| is_cut_off(folder, known)) {
            return Ok(known);
        }
        let _one_at_a_time = self.placements.lock();
        // Read again: another one may have placed it meanwhile.
        if let Some(known) = find()? {
            finish_placement(&self.profile, folder, &known)?;
        }
        Ok(find()?)
    }
}

/// Places an upload that is on record as complete and still has its part; returns whether it is complete.
pub(super) fn finish_placement(
    profile: &Profile,
    folder: &FolderHandle,
    upload: &GuestUpload,
) -> Result<bool, GuestUploadError> {
    let Some((_, hash)) = &upload.placed else { return Ok(false) };
    if is_cut_off(folder, upload) {
        place(profile, folder, upload, *hash)?;
    }
    Ok(true)
}

fn is_cut_off(folder: &FolderHandle, upload: &GuestUpload) -> bool {
    upload.placed.is_some() && folder.file_identity(&upload.part).is_some()
}

fn place(
    profile: &Profile,
    folder: &FolderHandle,
    upload: &GuestUpload,
    hash: ContentHash,
) -> Result<PlacedUpload, GuestUploadError> {
    let name = take_free_name(profile, folder, upload, &hash)?;
    // A rename is durable only with its folder (fsync(2)). It was made, though: told of a failure, the guest would send the
    // file a second time.
    for outcome in sync_all(&[folder]) {
        if let Err(why) = outcome {
            tracing::warn!("the name of an upload may not outlast a power cut: {why}");
        }
    }
    Ok(PlacedUpload::new(&name, upload.size, hash))
}

fn take_free_name(
    profile: &Profile,
    folder: &FolderHandle,
    upload: &GuestUpload,
    hash: &ContentHash,
) -> Result<String, GuestUploadError> {
    let disk_error = |why| upload_disk_error(upload, why);
    let record_and_rename = |name: &str| {
        if profile.complete_guest_upload(upload, (name, upload.size), hash).map_err(Error::from)? {
            Ok(folder.rename_no_replace(&upload.part, name))
        } else {
            Err(GuestUploadError::Ended)
        }
    };
    for number in 0..MAX_NUMBER {
        let name = if number == 0 { upload.name.clone() } else { numbered_component(&upload.name, number) };
        // Spares the record of a name that is taken; the rename decides.
        if matches!(folder.entry_kind(&name), Ok(Some(_))) {
            continue;
        }
        match record_and_rename(&name)? {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            Err(why) if is_name_refused(&why) => {
                let plain = format!("upload-{}", upload.number);
                record_and_rename(&plain)?.map_err(disk_error)?;
                return Ok(plain);
            }
            renamed => return renamed.map(|()| name).map_err(disk_error),
        }
    }
    Err(disk_error(io::ErrorKind::AlreadyExists.into()))
}
