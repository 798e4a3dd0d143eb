//! Survey of the shared folders: finds what is in them and not shared, and why.

use std::path::Path;

use localization::tr;

use super::Error;
use super::folder_walk::{FolderWalker, WalkedFile, omission_of_error};
use super::omissions::{OmissionReason, OmissionReport};
use crate::engine::private_data::PrivateData;
use crate::profile::{Profile, ShareRoot};
use crate::sys::open_regular;

/// Looks through the folders that are shared as a whole and reports what is left out of them; blocks. A folder that isn't
/// there has nothing to report.
///
/// # Errors
/// When the profile can't be read.
pub fn survey_omissions(profile: &Profile, private: &PrivateData) -> Result<OmissionReport, Error> {
    let mut omissions = OmissionReport::default();
    for root in profile.share_roots()? {
        let excluded = profile.exclusions(&root)?;
        let walked = FolderWalker::new(private).walk_below(&root, Path::new(""), &mut omissions);
        for file in walked.map(|walked| walked.files).unwrap_or_default() {
            if excluded.cover(file.name.as_str()) {
                omissions.add_found(
                    OmissionReason::Unshared,
                    || file.name.as_str().to_owned(),
                    tr!("you stopped sharing it"),
                );
            } else if let Some((reason, why)) = omission_of(profile, private, &root, &file)? {
                omissions.add_found(reason, || file.name.as_str().to_owned(), why);
            }
        }
    }
    Ok(omissions)
}

/// Returns the reason why a file isn't shared; `None` if it is.
fn omission_of(
    profile: &Profile,
    private: &PrivateData,
    root: &ShareRoot,
    file: &WalkedFile,
) -> Result<Option<(OmissionReason, String)>, Error> {
    let taken = match profile.share(&root.audience, &file.name)? {
        Some(share) if share.path == file.path => return Ok(None),
        share => share.is_some_and(|share| share.path.exists()),
    };
    if taken {
        return Ok(Some((OmissionReason::NameTaken, tr!("another file is shared under its name"))));
    }
    let opened = match open_regular(&file.path) {
        Ok(opened) => opened,
        // It went since the walk: that is no omission.
        Err(why) => return Ok(Some(omission_of_error(&why)).filter(|(reason, _)| *reason != OmissionReason::Missing)),
    };
    Ok(Some(match private.reason_of_open(&file.path, &opened) {
        Some(reason) => (OmissionReason::Private, reason.text()),
        None => (OmissionReason::Unhashed, tr!("it is not hashed yet")),
    }))
}
