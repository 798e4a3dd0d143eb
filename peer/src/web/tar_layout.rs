//! The layout of a tar archive: each byte's place is known before the first is sent. No I/O.
//!
//! ```text
//! for each file:  header (512 bytes; before it the name in blocks of its own if it is long) | content | zeros up to 512
//! end:            two blocks of zeros
//! ```
//!
//! (POSIX.1-1988 with GNU's forms of long names and large sizes, which every tar of today reads.)

use super::archive_segment::{ArchiveSegment, segment_of};

const BLOCK: u64 = 512;
const END_BYTES: u64 = 2 * BLOCK;

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TarEntry {
    /// The name, with `/` between components.
    pub(super) name: String,
    /// The number by which the content is asked for.
    pub(super) number: u32,
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) modified: i64,
}

/// The places of everything in an archive.
#[derive(Debug)]
pub(super) struct TarLayout {
    entries: Vec<PlacedMember>,
    end: u64,
}

#[derive(Debug)]
struct PlacedMember {
    entry: TarEntry,
    /// The places of its header and of its content.
    header: u64,
    content: u64,
}

impl TarEntry {
    /// Returns the header, with the name in front if it is long.
    fn header(&self) -> std::io::Result<Vec<u8>> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        // Whose it was here says nothing there.
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(self.size);
        // The header takes no time before 1970.
        header.set_mtime(u64::try_from(self.modified).unwrap_or(0));
        let mut builder = tar::Builder::new(Vec::new());
        // The content follows elsewhere: only what stands before it is taken from here.
        builder.append_data(&mut header, &self.name, std::io::empty())?;
        Ok(std::mem::take(builder.get_mut()))
    }
}

impl TarLayout {
    /// Returns the layout of an archive of these files, in their order.
    ///
    /// # Errors
    /// The reason why a name can't stand in an archive.
    pub(super) fn new(entries: Vec<TarEntry>) -> std::io::Result<Self> {
        let mut end = 0_u64;
        let mut placed = Vec::with_capacity(entries.len());
        for entry in entries {
            let (header, size) = (end, entry.size);
            let content = header + entry.header()?.len() as u64;
            placed.push(PlacedMember { entry, header, content });
            end = content.saturating_add(size).div_ceil(BLOCK).saturating_mul(BLOCK);
        }
        Ok(Self { entries: placed, end })
    }

    /// Returns the length of the archive.
    pub(super) const fn len(&self) -> u64 {
        self.end.saturating_add(END_BYTES)
    }

    /// Returns the number of files.
    pub(super) const fn file_count(&self) -> usize {
        self.entries.len()
    }

    /// Returns the numbers of the files without content.
    pub(super) fn empty_files(&self) -> impl Iterator<Item = u32> {
        self.entries.iter().filter(|one| one.entry.size == 0).map(|one| one.entry.number)
    }

    /// Returns what begins at `position` and ends at `end` at the latest, which lies within the archive and behind the
    /// position.
    pub(super) fn segment_at(&self, position: u64, end: u64) -> ArchiveSegment {
        let zeros_until =
            |stop: u64| ArchiveSegment::Bytes(vec![0; usize::try_from(stop.min(end) - position).unwrap_or(0)]);
        if position >= self.end {
            return zeros_until(self.len());
        }
        let at = self.entries.partition_point(|one| one.header <= position) - 1;
        let PlacedMember { entry, header, content } = &self.entries[at];
        if position < *content {
            // It was made once already, when it was laid out.
            return segment_of(entry.header().unwrap_or_default(), *header, position, end);
        }
        let range = position - content..(end - content).min(entry.size);
        if range.is_empty() {
            return zeros_until((content + entry.size).div_ceil(BLOCK) * BLOCK);
        }
        ArchiveSegment::Content { number: entry.number, size: entry.size, range }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;
    use crate::web::archive_segment::collect_bytes;

    fn entry(number: u32, name: String, size: u64) -> TarEntry {
        TarEntry { name, number, size, modified: 1_700_000_000 }
    }

    fn bytes(layout: &TarLayout, start: u64, end: u64) -> Vec<u8> {
        collect_bytes(|position, end| layout.segment_at(position, end), start, end)
    }

    proptest! {
        #[test]
        fn any_range_is_that_of_the_whole_and_it_unpacks(
            files in proptest::collection::vec((0_u64..1100, 1_usize..300), 0..6),
            cut in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let name = |number: u32, length: usize| format!("é{number}/{}", "n".repeat(length));
            let entries = (0..).zip(&files).map(|(number, (size, length))| entry(number, name(number, *length), *size));
            let layout = TarLayout::new(entries.collect()).unwrap();
            let whole = bytes(&layout, 0, layout.len());
            prop_assert_eq!(whole.len() as u64, layout.len());
            let (one, other) = (cut.0.index(whole.len() + 1), cut.1.index(whole.len() + 1));
            let (start, end) = (one.min(other), one.max(other));
            prop_assert_eq!(&bytes(&layout, start as u64, end as u64)[..], &whole[start..end]);
            let mut archive = tar::Archive::new(&whole[..]);
            let mut number = 0;
            for unpacked in archive.entries().unwrap() {
                let mut unpacked = unpacked.unwrap();
                let (size, length) = files[number as usize];
                let path = unpacked.path().unwrap().to_str().unwrap().to_owned();
                prop_assert_eq!(path, name(number, length));
                prop_assert_eq!(unpacked.header().mtime().unwrap(), 1_700_000_000);
                let mut content = Vec::new();
                unpacked.read_to_end(&mut content).unwrap();
                prop_assert_eq!(content, vec![u8::try_from(number).unwrap(); usize::try_from(size).unwrap()]);
                number += 1;
            }
            prop_assert_eq!(number as usize, files.len());
        }
    }

    #[test]
    fn what_is_larger_than_the_format_once_allowed_has_its_place() {
        let large = 1_u64 << 40;
        let layout = TarLayout::new(vec![entry(0, "a".into(), large), entry(1, "b".into(), 1)]).unwrap();
        assert_eq!(layout.len(), 512 + large + 512 + 512 + 1024);
        let ArchiveSegment::Bytes(header) = layout.segment_at(0, 512) else { panic!() };
        let archive = tar::Header::from_byte_slice(&header);
        assert_eq!(archive.entry_size().unwrap(), large);
        let last = layout.segment_at(512 + large - 1, layout.len());
        assert_eq!(last, ArchiveSegment::Content { number: 0, size: large, range: large - 1..large });
    }
}
