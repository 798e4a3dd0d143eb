//! The catalogue: the files that users share, as JSON text that replies hold without copying, searched in short pieces and
//! kept within a quota of memory. Pure.
//!
//! ```text
//! FileList ─ chunks of neighbouring names, each with its text and an index of words; copies share them
//! FileListSnapshot ─ the lists of some users at one moment, for FIND
//! CatalogueQuota ─ memory by user, origin and network; ByteCounter counts the texts that are being sent
//! ```

pub(crate) mod byte_counter;
pub(crate) mod catalogue_quota;
pub(crate) mod file_list;
mod file_search;
pub(crate) mod json_text;

pub use file_list::{FileList, FileListError};
pub use file_search::{FileListSnapshot, SearchBatch, SearchPosition, cursor_after};
