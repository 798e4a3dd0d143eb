//! What became of the fetch of a wished file.

use std::path::PathBuf;

use crate::engine::Error;
use crate::util::TranslatedText;

/// What became of the fetch of a wished file.
#[derive(Debug)]
pub enum WishFetchOutcome {
    /// It is in this folder.
    Done(PathBuf),
    /// It could not be fetched now, and is tried again.
    Failed(Error),
    /// It isn't fetched, for this reason.
    Held(TranslatedText),
}
