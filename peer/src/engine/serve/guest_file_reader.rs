//! Readers of files for guests: any range of bytes, proved as the groups that peers get are.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use shared::GroupLayout;

use super::buffer_pool::BufferPool;
use super::range_reader::{ContentProof, ManifestSource, RangeReader, ReadFailure, read_failure};
use super::read_faults::ReadFaultLog;
use crate::engine::private_data::PrivateData;
use crate::profile::{Profile, StoredGuestFile};
use crate::sys::{open_file_version, open_regular, plain_message};

/// The reason why a guest doesn't get a file, or its rest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestFileFault {
    /// It isn't there any more, or became private.
    #[error("the file isn't there any more")]
    Gone,
    /// Its content isn't the one that the link gives.
    #[error("the file changed since the link was made")]
    Changed,
    /// It can't be read, for this reason of the operating system.
    #[error("the file can't be read: {0}")]
    Unreadable(String),
}

/// An opener of the files of links. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GuestFileOpener {
    buffers: BufferPool,
    faults: ReadFaultLog,
    /// Files that are never given away, even if they are on record.
    private: Arc<PrivateData>,
}

/// A reader of a range of a file.
#[derive(Debug)]
pub struct GuestFileReader(RangeReader);

impl GuestFileOpener {
    /// Returns an opener of files that are on record in this profile.
    pub fn new(profile: &Profile) -> Self {
        let private = Arc::new(PrivateData::of(profile));
        Self { buffers: BufferPool::default(), faults: ReadFaultLog::default(), private }
    }

    /// Opens a file for a range within its size; blocks.
    ///
    /// # Errors
    /// [`GuestFileFault`] if the file isn't the one on record as far as a look tells.
    pub fn open(
        &self,
        stored: StoredGuestFile,
        range: Range<u64>,
        piece_bytes: u64,
    ) -> Result<GuestFileReader, GuestFileFault> {
        let StoredGuestFile { file: known, path, version, manifest } = stored;
        let file = open_regular(&path).map_err(|why| self.open_fault(&path, &why))?;
        // It may have become private since the link was made.
        if self.private.reason_of_open(&path, &file).is_some() {
            return Err(GuestFileFault::Gone);
        }
        let now = open_file_version(&file).map_err(|why| self.open_fault(&path, &why))?;
        let layout = GroupLayout::of(known.size).ok_or(GuestFileFault::Changed)?;
        // A longer file is no other yet: what was appended leaves its groups as they are.
        if now.is_none_or(|now| now.size < known.size) {
            return Err(GuestFileFault::Changed);
        }
        let trusted = now.filter(|now| version.is_unwritten_at(now));
        let proof = ContentProof { layout, manifest: ManifestSource::Known(Arc::new(manifest)), trusted, proved: None };
        // A range of nothing has no piece, rather than an empty one.
        let ranges = if range.is_empty() { Vec::new() } else { vec![(range.start, range.end)] };
        let (buffers, faults) = (self.buffers.clone(), self.faults.clone());
        Ok(GuestFileReader(RangeReader::new(file, path, proof, ranges.into(), piece_bytes, buffers, faults)))
    }

    fn open_fault(&self, path: &Path, why: &io::Error) -> GuestFileFault {
        if why.kind() == io::ErrorKind::NotFound {
            return GuestFileFault::Gone;
        }
        self.faults.log(path, plain_message(why));
        guest_fault(read_failure(why))
    }
}

impl GuestFileReader {
    /// Reads the next piece; `None` at the end. Blocks.
    pub fn next_piece(&mut self) -> Option<Result<Bytes, GuestFileFault>> {
        self.0.next_piece().map(|piece| piece.map_err(guest_fault))
    }
}

fn guest_fault(failure: ReadFailure) -> GuestFileFault {
    match failure {
        ReadFailure::Changed => GuestFileFault::Changed,
        ReadFailure::Unreadable(why) => GuestFileFault::Unreadable(why),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;

    use super::*;
    use crate::engine::share::hash_unshared;
    use crate::profile::GuestFile;

    const SIZE: u64 = 40 << 20;

    struct Case {
        home: tempfile::TempDir,
        opener: GuestFileOpener,
        stored: StoredGuestFile,
        content: Vec<u8>,
    }

    fn case() -> Case {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("profile")).unwrap();
        let path = home.path().join("file");
        let content: Vec<u8> = (0..SIZE / 8).flat_map(|number| (number * 7).to_le_bytes()).collect();
        File::create(&path).unwrap().write_all(&content).unwrap();
        let report = &mut |_: crate::engine::share::ShareEvent<'_>| std::ops::ControlFlow::Continue(());
        let (mut hashed, _) = hash_unshared(&profile, &[path], 10, report).unwrap();
        let hashed = hashed.pop().unwrap();
        let share = hashed.share;
        let file = GuestFile {
            number: 0,
            name: share.name,
            size: SIZE,
            mtime_ns: share.version.mtime_ns,
            crc: 0,
            hash: share.hash,
            is_delivered: false,
        };
        let stored = StoredGuestFile { file, path: share.path, version: share.version, manifest: hashed.manifest };
        Case { home, opener: GuestFileOpener::new(&profile), stored, content }
    }

    impl Case {
        fn read(&self, range: Range<u64>) -> Result<Vec<u8>, GuestFileFault> {
            let mut reader = self.opener.open(self.stored.clone(), range, 64 << 10)?;
            let mut read = Vec::new();
            while let Some(piece) = reader.next_piece() {
                read.extend_from_slice(&piece?);
            }
            Ok(read)
        }

        fn expected(&self, range: Range<u64>) -> &[u8] {
            &self.content[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
        }
    }

    #[test]
    fn any_range_is_read_and_proved_even_after_a_touch() {
        let case = case();
        let ranges = [0..0, 0..1, 5..5_000_000, 17_000_001..17_000_002, 3..SIZE, SIZE - 1..SIZE, 0..SIZE];
        for touched in [false, true] {
            if touched {
                File::options()
                    .write(true)
                    .open(&case.stored.path)
                    .unwrap()
                    .set_modified(std::time::UNIX_EPOCH)
                    .unwrap();
            }
            for range in ranges.clone() {
                assert!(case.read(range.clone()).unwrap() == case.expected(range.clone()), "{touched} {range:?}");
            }
        }
    }

    #[test]
    fn changed_bytes_are_never_read_to_the_end() {
        let case = case();
        let mut changed = case.content.clone();
        changed[20_000_000] ^= 1;
        File::create(&case.stored.path).unwrap().write_all(&changed).unwrap();
        assert_eq!(case.read(0..SIZE), Err(GuestFileFault::Changed));
        assert_eq!(case.read(19_999_990..20_000_010), Err(GuestFileFault::Changed));
        // A group that is as it was may still be had.
        assert!(case.read(1..100).unwrap() == case.expected(1..100));
        File::create(&case.stored.path).unwrap().write_all(&changed[1..]).unwrap();
        assert_eq!(case.read(0..1), Err(GuestFileFault::Changed));
        fs::remove_file(&case.stored.path).unwrap();
        assert_eq!(case.read(0..1), Err(GuestFileFault::Gone));
        fs::create_dir(&case.stored.path).unwrap();
        assert!(matches!(case.read(0..1), Err(GuestFileFault::Unreadable(_))), "{:?}", case.home);
    }
}
