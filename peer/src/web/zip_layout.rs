//! The layout of a zip archive whose files are stored uncompressed: each byte's place is known before the first is sent.
//! No I/O.
//!
//! ```text
//! for each file:  local header (30 bytes, name, time; sizes of 64 bits if needed) | content
//! for each file:  entry of the directory (46 bytes, name, time; numbers of 64 bits if needed)
//! end of the directory (22 bytes), before it the one of 64 bits with its locator (76 bytes) if needed
//! ```
//!
//! (APPNOTE.TXT 6.3.10.) Sizes and checksums are on record, so that they stand in the local headers: the length is exact,
//! any range can be made again, and programs that unpack while they read know where a file ends.

use super::archive_segment::{ArchiveSegment, segment_of};

const LOCAL_BYTES: u64 = 30;
const ENTRY_BYTES: u64 = 46;
/// The extended timestamp: seconds since 1970, for the local time of the format has no zone.
const TIME_EXTRA_BYTES: u64 = 9;
const LARGE_LOCAL_EXTRA_BYTES: u64 = 20;
const END_BYTES: u64 = 22;
const LARGE_END_BYTES: u64 = 56 + 20;
/// The value of a field of 32 bits whose number stands in an extra field of 64.
const IN_EXTRA: u32 = u32::MAX;
const IN_EXTRA_SHORT: u16 = u16::MAX;
/// Names are UTF-8 (bit 11).
const FLAGS: u16 = 1 << 11;
/// Unix, version 4.5 of the format, which has numbers of 64 bits.
const MADE_BY: u16 = 3 << 8 | 45;
/// A regular file that its owner may write.
const ATTRIBUTES: u32 = 0o100_644 << 16;

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ZipEntry {
    /// The name, with `/` between components.
    pub(super) name: String,
    /// The number by which the content is asked for.
    pub(super) number: u32,
    pub(super) size: u64,
    pub(super) crc: u32,
    /// Seconds since 1970.
    pub(super) modified: i64,
    /// The same as local time in the form of MS-DOS: date and time.
    pub(super) dos_time: (u16, u16),
}

/// The places of everything in an archive.
#[derive(Debug)]
pub(super) struct ZipLayout {
    entries: Vec<PlacedEntry>,
    directory_start: u64,
    directory_end: u64,
}

#[derive(Debug)]
struct PlacedEntry {
    entry: ZipEntry,
    /// The place of the local header.
    offset: u64,
    /// The place of the entry of the directory.
    directory_offset: u64,
}

impl ZipEntry {
    const fn is_large(&self) -> bool {
        // `>=`: the largest number of 32 bits is itself the mark.
        self.size >= IN_EXTRA as u64
    }

    fn local_len(&self) -> u64 {
        let large = if self.is_large() { LARGE_LOCAL_EXTRA_BYTES } else { 0 };
        LOCAL_BYTES + self.name.len() as u64 + TIME_EXTRA_BYTES + large
    }

    fn directory_len(&self, offset: u64) -> u64 {
        ENTRY_BYTES + self.name.len() as u64 + TIME_EXTRA_BYTES + self.large_extra(offset).len() as u64
    }

    /// Returns the extra field of the directory with the numbers that don't fit; empty if all do.
    fn large_extra(&self, offset: u64) -> Vec<u8> {
        // Only what doesn't fit stands there, in this order (4.5.3).
        let mut numbers = Vec::new();
        if self.is_large() {
            numbers.extend([self.size, self.size]);
        }
        if offset >= u64::from(IN_EXTRA) {
            numbers.push(offset);
        }
        large_field(&numbers)
    }

    /// The fields that both headers have, from the flags to the length of the name.
    fn common_fields(&self, extra_len: usize) -> Vec<u8> {
        let size = if self.is_large() { IN_EXTRA } else { clamped(self.size) };
        let mut fields = Vec::with_capacity(24);
        fields.extend(FLAGS.to_le_bytes());
        // Method 0: compressed, no byte's place would be known before all bytes are read.
        fields.extend(0_u16.to_le_bytes());
        // The time stands before the date (4.3.7).
        fields.extend(self.dos_time.1.to_le_bytes());
        fields.extend(self.dos_time.0.to_le_bytes());
        fields.extend(self.crc.to_le_bytes());
        fields.extend(size.to_le_bytes());
        fields.extend(size.to_le_bytes());
        fields.extend(short(self.name.len()).to_le_bytes());
        fields.extend(short(extra_len).to_le_bytes());
        fields
    }

    fn time_extra(&self) -> Vec<u8> {
        // Beyond 32 bits no program reads it; the local time is still there.
        let seconds = i32::try_from(self.modified).unwrap_or(if self.modified < 0 { i32::MIN } else { i32::MAX });
        [b"UT".as_slice(), &5_u16.to_le_bytes(), &[1], &seconds.to_le_bytes()].concat()
    }

    fn local_header(&self) -> Vec<u8> {
        // Both sizes, though they are equal: the local header has both or none (4.5.3).
        let large = if self.is_large() { large_field(&[self.size, self.size]) } else { Vec::new() };
        let extra = [self.time_extra(), large].concat();
        let mut header = b"PK\x03\x04".to_vec();
        header.extend(version_needed(self.is_large()).to_le_bytes());
        header.extend(self.common_fields(extra.len()));
        header.extend(self.name.as_bytes());
        header.extend(extra);
        header
    }

    fn directory_entry(&self, offset: u64) -> Vec<u8> {
        let large = self.large_extra(offset);
        let needed = version_needed(!large.is_empty());
        let extra = [self.time_extra(), large].concat();
        let mut header = b"PK\x01\x02".to_vec();
        header.extend(MADE_BY.to_le_bytes());
        header.extend(needed.to_le_bytes());
        header.extend(self.common_fields(extra.len()));
        // No comment, the first disk, no internal attributes.
        header.extend([0; 6]);
        header.extend(ATTRIBUTES.to_le_bytes());
        header.extend(clamped(offset).to_le_bytes());
        header.extend(self.name.as_bytes());
        header.extend(extra);
        header
    }
}

impl ZipLayout {
    /// Returns the layout of an archive of these files, in their order.
    pub(super) fn new(entries: Vec<ZipEntry>) -> Self {
        let mut offset = 0_u64;
        let mut placed: Vec<PlacedEntry> = Vec::with_capacity(entries.len());
        for entry in entries {
            let next = offset.saturating_add(entry.local_len()).saturating_add(entry.size);
            placed.push(PlacedEntry { entry, offset, directory_offset: 0 });
            offset = next;
        }
        let directory_start = offset;
        for one in &mut placed {
            one.directory_offset = offset;
            offset = offset.saturating_add(one.entry.directory_len(one.offset));
        }
        Self { entries: placed, directory_start, directory_end: offset }
    }

    /// Returns the length of the archive.
    pub(super) fn len(&self) -> u64 {
        self.directory_end.saturating_add(if self.is_large() { LARGE_END_BYTES + END_BYTES } else { END_BYTES })
    }

    /// Returns the number of files.
    pub(super) fn file_count(&self) -> usize {
        self.entries.len()
    }

    /// Returns the numbers of the files without content.
    pub(super) fn empty_files(&self) -> impl Iterator<Item = u32> {
        self.entries.iter().filter(|one| one.entry.size == 0).map(|one| one.entry.number)
    }

    /// Returns what begins at `position` and ends at `end` at the latest, which lies within the archive and behind the
    /// position.
    pub(super) fn segment_at(&self, position: u64, end: u64) -> ArchiveSegment {
        if position >= self.directory_end {
            return segment_of(self.end_records(), self.directory_end, position, end);
        }
        if position >= self.directory_start {
            let at = self.entries.partition_point(|one| one.directory_offset <= position) - 1;
            let PlacedEntry { entry, offset, directory_offset } = &self.entries[at];
            return segment_of(entry.directory_entry(*offset), *directory_offset, position, end);
        }
        // The first file's header begins at 0, so that one entry at least is not behind the position.
        let at = self.entries.partition_point(|one| one.offset <= position) - 1;
        let PlacedEntry { entry, offset, .. } = &self.entries[at];
        let content = offset + entry.local_len();
        if position < content {
            return segment_of(entry.local_header(), *offset, position, end);
        }
        let range = position - content..(end - content).min(entry.size);
        ArchiveSegment::Content { number: entry.number, size: entry.size, range }
    }

    fn is_large(&self) -> bool {
        self.entries.len() >= usize::from(IN_EXTRA_SHORT)
            || self.directory_start >= u64::from(IN_EXTRA)
            || self.directory_end - self.directory_start >= u64::from(IN_EXTRA)
    }

    fn end_records(&self) -> Vec<u8> {
        let (count, size) = (self.entries.len() as u64, self.directory_end - self.directory_start);
        let mut records = Vec::new();
        if self.is_large() {
            records.extend(b"PK\x06\x06");
            // The length of what follows.
            records.extend(44_u64.to_le_bytes());
            records.extend(MADE_BY.to_le_bytes());
            records.extend(45_u16.to_le_bytes());
            // This disk and the directory's.
            records.extend([0; 8]);
            records.extend([count, count, size, self.directory_start].into_iter().flat_map(u64::to_le_bytes));
            records.extend(b"PK\x06\x07");
            records.extend([0; 4]);
            records.extend(self.directory_end.to_le_bytes());
            // The number of disks.
            records.extend(1_u32.to_le_bytes());
        }
        records.extend(b"PK\x05\x06");
        records.extend([0; 4]);
        let count = u16::try_from(count).unwrap_or(IN_EXTRA_SHORT);
        records.extend([count, count].into_iter().flat_map(u16::to_le_bytes));
        records.extend([clamped(size), clamped(self.directory_start)].into_iter().flat_map(u32::to_le_bytes));
        records.extend([0; 2]);
        records
    }
}

/// Returns date and time in the form of MS-DOS, which begins in 1980 and counts in steps of two seconds.
pub(super) fn dos_time(year: i16, month: i8, day: i8, hour: i8, minute: i8, second: i8) -> (u16, u16) {
    let field = |value: i8| u16::from(value.unsigned_abs());
    if year < 1980 {
        return (1 << 5 | 1, 0);
    }
    // The format has seven bits for the years.
    let years = u16::try_from(year - 1980).unwrap_or(0).min(127);
    let date = years << 9 | field(month) << 5 | field(day);
    (date, (field(hour) << 11) | (field(minute) << 5) | (field(second) / 2))
}

/// Returns the extra field with numbers of 64 bits; empty without any.
fn large_field(numbers: &[u64]) -> Vec<u8> {
    if numbers.is_empty() {
        return Vec::new();
    }
    let mut field = 1_u16.to_le_bytes().to_vec();
    field.extend(short(numbers.len() * 8).to_le_bytes());
    field.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    field
}

const fn version_needed(is_large: bool) -> u16 {
    // Folders in names need 2.0, numbers of 64 bits 4.5 (4.4.3.2).
    if is_large { 45 } else { 20 }
}

fn clamped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(IN_EXTRA)
}

fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(IN_EXTRA_SHORT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::web::archive_segment::collect_bytes;

    fn entry(number: u32, name: &str, size: u64) -> ZipEntry {
        ZipEntry {
            name: name.to_owned(),
            number,
            size,
            crc: 7,
            modified: 1_700_000_000,
            dos_time: dos_time(2026, 11, 27, 16, 30, 58),
        }
    }

    fn bytes(layout: &ZipLayout, start: u64, end: u64) -> Vec<u8> {
        collect_bytes(|position, end| layout.segment_at(position, end), start, end)
    }

    proptest! {
        #[test]
        fn any_range_is_that_of_the_whole(
            sizes in proptest::collection::vec(0_u64..40, 0..8),
            cut in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let entries = (0..).zip(&sizes).map(|(number, size)| entry(number, &format!("é{number}"), *size)).collect();
            let layout = ZipLayout::new(entries);
            let whole = bytes(&layout, 0, layout.len());
            prop_assert_eq!(whole.len() as u64, layout.len());
            let (one, other) = (cut.0.index(whole.len() + 1), cut.1.index(whole.len() + 1));
            let (start, end) = (one.min(other), one.max(other));
            prop_assert_eq!(&bytes(&layout, start as u64, end as u64)[..], &whole[start..end]);
        }

        /// Lengths agree with what is written, wherever numbers of 64 bits are needed.
        #[test]
        fn lengths_are_exact(sizes in proptest::collection::vec(prop_oneof![0_u64..10, 4_294_967_290_u64..4_294_967_300, 1_u64 << 40..1 << 41], 1..5)) {
            let layout = ZipLayout::new((0..).zip(&sizes).map(|(number, size)| entry(number, "n", *size)).collect());
            for one in &layout.entries {
                prop_assert_eq!(one.entry.local_header().len() as u64, one.entry.local_len());
                prop_assert_eq!(one.entry.directory_entry(one.offset).len() as u64, one.entry.directory_len(one.offset));
            }
            let end = layout.end_records();
            prop_assert_eq!(layout.directory_end + end.len() as u64, layout.len());
            let last = layout.segment_at(layout.len() - 1, layout.len());
            prop_assert_eq!(last, ArchiveSegment::Bytes(vec![0]));
        }
    }

    #[test]
    fn golden_bytes() {
        let layout = ZipLayout::new(vec![entry(1, "a", 2)]);
        let expected = "504b0304140000080000dd837b5d07000000020000000200000001000900\
                        615554050001 00f15365 0101\
                        504b01022d03140000080000dd837b5d0700000002000000020000000100090000000000000000 00a48100000000\
                        615554050001 00f15365\
                        504b0506000000000100010038000000 2a000000 0000";
        assert_eq!(shared::hex::encode(&bytes(&layout, 0, layout.len())), expected.replace([' ', '\n'], ""));
    }

    #[test]
    fn large_archives_have_their_numbers_in_extra_fields() {
        let large = 5_000_000_000;
        let layout = ZipLayout::new(vec![entry(0, "a", large), entry(1, "b", 1)]);
        let header = layout.entries[0].entry.local_header();
        assert_eq!(&header[18..26], [0xff; 8]);
        assert!(header.ends_with(&[&[1, 0, 16, 0], &large.to_le_bytes()[..], &large.to_le_bytes()].concat()));
        let second = layout.entries[1].entry.directory_entry(layout.entries[1].offset);
        assert!(second.ends_with(&[&[1, 0, 8, 0], &layout.entries[1].offset.to_le_bytes()[..]].concat()));
        assert_eq!(layout.end_records().len(), 98);
        let many = ZipLayout::new((0..70_000).map(|number| entry(number, "n", 0)).collect());
        assert_eq!(many.end_records().len(), 98);
        assert_eq!(many.file_count(), 70_000);
    }

    #[test]
    fn times_before_the_format_began() {
        assert_eq!(dos_time(1970, 1, 1, 0, 0, 0), (33, 0));
        assert_eq!(dos_time(2026, 11, 27, 16, 30, 58), (0x5d7b, 0x83dd));
    }
}
