//! Archives that are made while they are sent, in the form that was asked for.

use super::archive_segment::ArchiveSegment;
use super::tar_layout::{TarEntry, TarLayout};
use super::zip_layout::{ZipEntry, ZipLayout, dos_time};
use crate::engine::guest_links::GuestFile;
use crate::sys::time_zone;

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArchiveFormat {
    /// For browsers: every system opens it by a click.
    Zip,
    /// For terminals: it unpacks while it comes.
    Tar,
}

/// The places of everything in an archive.
#[derive(Debug)]
pub(super) enum ArchiveLayout {
    Zip(ZipLayout),
    Tar(TarLayout),
}

impl ArchiveFormat {
    /// Returns the type of the content.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Zip => "application/zip",
            Self::Tar => "application/x-tar",
        }
    }

    /// Returns the layout of an archive of these files. Names are those on the wire: unique, and without characters that
    /// lead out of a folder.
    ///
    /// # Errors
    /// The reason why a name can't stand in such an archive.
    pub(super) fn layout(self, files: &[&GuestFile]) -> std::io::Result<ArchiveLayout> {
        let name = |file: &GuestFile| file.name.as_str().to_owned();
        let moment = |file: &GuestFile| jiff::Timestamp::from_nanosecond(i128::from(file.mtime_ns)).unwrap_or_default();
        if self == Self::Tar {
            let entry = |file: &&GuestFile| TarEntry {
                name: name(file),
                number: file.number,
                size: file.size,
                modified: moment(file).as_second(),
            };
            return Ok(ArchiveLayout::Tar(TarLayout::new(files.iter().map(entry).collect())?));
        }
        let zone = time_zone();
        let entry = |file: &&GuestFile| {
            let local = moment(file).to_zoned(zone.clone());
            ZipEntry {
                name: name(file),
                number: file.number,
                size: file.size,
                crc: file.crc,
                modified: moment(file).as_second(),
                dos_time: dos_time(
                    local.year(),
                    local.month(),
                    local.day(),
                    local.hour(),
                    local.minute(),
                    local.second(),
                ),
            }
        };
        Ok(ArchiveLayout::Zip(ZipLayout::new(files.iter().map(entry).collect())))
    }

    /// Returns what marks an archive of these files in this form.
    pub(super) fn tag(self, files: &[&GuestFile]) -> String {
        let mut hasher = blake3::Hasher::new();
        if self == Self::Tar {
            hasher.update(b"tar");
        }
        for file in files {
            hasher.update(file.hash.as_bytes());
            // Its length in front, so that no other list of names is hashed alike.
            hasher.update(&(file.name.as_str().len() as u64).to_le_bytes());
            hasher.update(file.name.as_str().as_bytes());
        }
        format!("\"{}\"", hasher.finalize().to_hex())
    }
}

impl ArchiveLayout {
    /// Returns the length of the archive.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Zip(zip) => zip.len(),
            Self::Tar(tar) => tar.len(),
        }
    }

    /// Returns the number of files.
    pub(super) fn file_count(&self) -> usize {
        match self {
            Self::Zip(zip) => zip.file_count(),
            Self::Tar(tar) => tar.file_count(),
        }
    }

    /// Returns the numbers of the files without content.
    pub(super) fn empty_files(&self) -> Vec<u32> {
        match self {
            Self::Zip(zip) => zip.empty_files().collect(),
            Self::Tar(tar) => tar.empty_files().collect(),
        }
    }

    /// Returns what begins at `position` and ends at `end` at the latest, which lies within the archive and behind the
    /// position.
    pub(super) fn segment_at(&self, position: u64, end: u64) -> ArchiveSegment {
        match self {
            Self::Zip(zip) => zip.segment_at(position, end),
            Self::Tar(tar) => tar.segment_at(position, end),
        }
    }
}
