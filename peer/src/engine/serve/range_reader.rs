//! Reader of the ranges of a file that are sent, which verifies them.
//!
//! While a file has the metadata that were recorded with its hash, nothing is hashed again: that would cost more than
//! sending it. From the first difference on, each group is compared with the manifest before it is sent. Most groups
//! are usually still the same: only the mode changed, or the file only grew.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use localization::in_english;
use shared::content::{ChainingValue, GroupHasher};
use shared::peer::PeerErrorCode;
use shared::{ContentHash, GroupLayout, Manifest};

use super::buffer_pool::BufferPool;
use super::read_faults::ReadFaultLog;
use super::served_versions::{ProvedVersions, ServedVersions, SharedContent};
use crate::profile::Profile;
use crate::sys::{FileVersion, open_file_version, plain_message};

/// A group of so many pieces is in memory as a whole when it is compared. Each of its pieces keeps all of it there.
const WHOLE_GROUP_PIECES: u64 = 4;
/// A group up to this size is compared before any of it is sent; of a larger one, its end is held back until then.
const COMPARED_FIRST_BYTES: u64 = 16 << 20;
/// What is only hashed is read in parts of this size.
const HASHED_AT_ONCE: u64 = 64 << 10;

/// The reason why a piece can't be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadFailure {
    /// The content differs from the one that is offered.
    Changed,
    /// The file can't be read, for this reason of the operating system.
    Unreadable(String),
}

/// A piece, or the reason why there is none.
pub(super) type PieceResult = Result<Bytes, ReadFailure>;

/// The means to prove that the bytes read are those that are offered.
#[derive(Debug)]
pub(super) struct ContentProof {
    pub(super) layout: GroupLayout,
    pub(super) manifest: ManifestSource,
    /// The metadata under which nothing needs to be compared; `None` once they differ.
    pub(super) trusted: Option<FileVersion>,
    /// The place to record groups that match although the file's metadata differ.
    pub(super) proved: Option<ProofNote>,
}

/// A manifest, or the key under which it is read from the database when it is needed.
#[derive(Debug)]
pub(super) enum ManifestSource {
    Known(Arc<Manifest>),
    Recorded { profile: Profile, versions: Arc<ServedVersions>, hash: ContentHash },
}

/// The file for which matching groups are recorded, and the record.
#[derive(Debug)]
pub(super) struct ProofNote {
    pub(super) of: SharedContent,
    pub(super) versions: Arc<ProvedVersions>,
}

/// A reader of byte ranges of an open file, piece by piece.
#[derive(Debug)]
pub(super) struct RangeReader {
    file: File,
    path: PathBuf,
    proof: ContentProof,
    current: CurrentGroup,
    /// All ranges of the request, half-open, in the order in which they are read. Those of peers are of whole groups.
    ranges: Vec<(u64, u64)>,
    /// The ranges that are not read yet, the next one first.
    remaining: VecDeque<(u64, u64)>,
    piece_bytes: u64,
    buffers: BufferPool,
    faults: ReadFaultLog,
}

/// The state of the group that is being compared and sent.
#[derive(Debug)]
enum CurrentGroup {
    Empty,
    /// The whole group is in memory and matches the manifest.
    Verified {
        group: u32,
        bytes: Bytes,
    },
    /// The group is hashed while it is sent; `up_to` is the end of the hashed bytes in the file.
    Hashing {
        group: u32,
        hasher: Box<GroupHasher>,
        up_to: u64,
        /// The file's metadata before any of it was read.
        before: Option<FileVersion>,
    },
}

impl ReadFailure {
    /// Returns the code for the other side.
    pub(super) const fn code(&self) -> PeerErrorCode {
        match self {
            Self::Changed => PeerErrorCode::Stale,
            Self::Unreadable(_) => PeerErrorCode::Internal,
        }
    }

    /// Returns the words for the other side.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Changed => "the file changed and is being hashed again".to_owned(),
            Self::Unreadable(why) => format!("the file can't be read: {why}"),
        }
    }
}

impl ManifestSource {
    /// Returns the chaining value of a group; `None` if there is no manifest.
    fn group_value(&mut self, group: u32) -> Option<ChainingValue> {
        if let Self::Recorded { profile, versions, hash } = self {
            // Without a manifest the group counts as changed; the database's fault is reported by other
            // queries.
            let known = profile.hashed_file(hash).ok().flatten()?;
            *self = Self::Known(versions.share_manifest(*hash, known.manifest));
        }
        match self {
            Self::Known(manifest) => manifest.chaining_value(group).copied(),
            Self::Recorded { .. } => None,
        }
    }
}

impl RangeReader {
    /// Returns a reader of these ranges of `file`, whose `path` is used for the log only.
    pub(super) fn new(
        file: File,
        path: PathBuf,
        proof: ContentProof,
        remaining: VecDeque<(u64, u64)>,
        piece_bytes: u64,
        buffers: BufferPool,
        faults: ReadFaultLog,
    ) -> Self {
        let ranges = remaining.iter().copied().collect();
        Self { file, path, proof, current: CurrentGroup::Empty, ranges, remaining, piece_bytes, buffers, faults }
    }

    /// Goes back to the position at which `taken` bytes had been read.
    pub(super) fn rewind(&mut self, mut taken: u64) {
        // It belongs to the position that is left.
        self.current = CurrentGroup::Empty;
        let rest = |&(start, end): &(u64, u64)| {
            let skipped = taken.min(end - start);
            taken -= skipped;
            (start + skipped < end).then_some((start + skipped, end))
        };
        self.remaining = self.ranges.iter().filter_map(rest).collect();
    }

    /// True if all ranges were read.
    pub(super) fn is_at_end(&self) -> bool {
        self.remaining.is_empty()
    }

    /// Sets the size of the pieces from here on.
    pub(super) const fn set_piece_bytes(&mut self, bytes: u64) {
        self.piece_bytes = bytes;
    }

    /// Reads the next piece; returns `None` at the end.
    pub(super) fn next_piece(&mut self) -> Option<PieceResult> {
        let (start, end) = *self.remaining.front()?;
        let piece = self.read_piece(start, end);
        match &piece {
            Ok(piece) if start + (piece.len() as u64) < end => {
                self.remaining.front_mut().into_iter().for_each(|range| range.0 += piece.len() as u64);
            }
            _ => drop(self.remaining.pop_front()),
        }
        if let Err(ReadFailure::Unreadable(why)) = &piece {
            self.faults.log(&self.path, why);
        }
        Some(piece)
    }

    fn read_piece(&mut self, start: u64, end: u64) -> PieceResult {
        if let Some(id) = self.proof.trusted {
            let piece = self.bytes(start, self.piece_bytes.min(end - start))?;
            // Checked after the read, so that bytes from after a change are never sent. From the first
            // difference on, metadata are not trusted again.
            if self.id()? == Some(id) {
                return Ok(piece);
            }
            self.proof.trusted = None;
        }
        let layout = self.proof.layout;
        let group = u32::try_from(start / layout.group_bytes()).unwrap_or(u32::MAX);
        let (offset, len) = (layout.offset(group), layout.group_len(group));
        let end = end.min(start + self.piece_bytes).min(offset + len);
        if len <= self.piece_bytes * WHOLE_GROUP_PIECES {
            return self.read_compared(group, start, end);
        }
        if start == offset && len <= COMPARED_FIRST_BYTES {
            let mut hasher = layout.hasher(group);
            self.hash(&mut hasher, offset, offset + len)?;
            self.compare(group, hasher.finish())?;
        }
        self.read_hashed(group, start, end)
    }

    /// Returns a piece of a group that was compared as a whole.
    fn read_compared(&mut self, group: u32, start: u64, end: u64) -> PieceResult {
        let layout = self.proof.layout;
        let offset = layout.offset(group);
        let part = |bytes: &Bytes| match (usize::try_from(start - offset), usize::try_from(end - offset)) {
            (Ok(start), Ok(end)) => bytes.slice(start..end),
            // Not reached: a buffered group fits the address space.
            _ => Bytes::new(),
        };
        if let CurrentGroup::Verified { group: known, bytes } = &self.current
            && *known == group
        {
            return Ok(part(bytes));
        }
        let before = self.id()?;
        let bytes = self.bytes(offset, layout.group_len(group))?;
        self.compare(group, layout.chaining_value(group, &bytes))?;
        self.note_proved(group, before)?;
        let piece = part(&bytes);
        self.current = CurrentGroup::Verified { group, bytes };
        Ok(piece)
    }

    /// Returns a piece of a group that is too large to buffer. The group's last piece is returned only if all of it
    /// matched.
    fn read_hashed(&mut self, group: u32, start: u64, end: u64) -> PieceResult {
        let layout = self.proof.layout;
        let (mut hasher, up_to, before) = match std::mem::replace(&mut self.current, CurrentGroup::Empty) {
            CurrentGroup::Hashing { group: known, hasher, up_to, before } if known == group && up_to <= start => {
                (hasher, up_to, before)
            }
            // The version of before the first byte: the file may change while it is read.
            _ => (Box::new(layout.hasher(group)), layout.offset(group), self.id()?),
        };
        self.hash(&mut hasher, up_to, start)?;
        let piece = self.bytes(start, end - start)?;
        hasher.update(&piece);
        let group_end = layout.offset(group) + layout.group_len(group);
        let is_last = self.remaining.front().is_some_and(|range| range.1 == end);
        if end == group_end || is_last {
            // A range that a browser asks for may end within a group, whose rest proves its beginning.
            self.hash(&mut hasher, end, group_end)?;
            self.compare(group, (*hasher).finish())?;
            self.note_proved(group, before)?;
        } else {
            self.current = CurrentGroup::Hashing { group, hasher, up_to: end, before };
        }
        Ok(piece)
    }

    /// Hashes these bytes of the file, few of them at a time.
    fn hash(&self, hasher: &mut GroupHasher, mut start: u64, end: u64) -> Result<(), ReadFailure> {
        while start < end {
            let some = self.bytes(start, (end - start).min(HASHED_AT_ONCE))?;
            hasher.update(&some);
            start += some.len() as u64;
        }
        Ok(())
    }

    /// Notes that a group was right, if the file has the same metadata as before it was read.
    fn note_proved(&self, group: u32, before: Option<FileVersion>) -> Result<(), ReadFailure> {
        if let (Some(id), Some(note)) = (before, &self.proof.proved)
            && self.id()? == before
        {
            note.versions.add_group(&note.of, &self.proof.layout, id, group);
        }
        Ok(())
    }

    fn compare(&mut self, group: u32, value: ChainingValue) -> Result<(), ReadFailure> {
        let expected = self.proof.manifest.group_value(group);
        if expected == Some(value) { Ok(()) } else { Err(ReadFailure::Changed) }
    }

    fn bytes(&self, offset: u64, len: u64) -> PieceResult {
        let len = usize::try_from(len).map_err(|_| ReadFailure::Unreadable("it is too large".to_owned()))?;
        self.buffers.fill(len, |buffer| self.file.read_exact_at(buffer, offset)).map_err(|why| read_failure(&why))
    }

    fn id(&self) -> Result<Option<FileVersion>, ReadFailure> {
        open_file_version(&self.file).map_err(|why| read_failure(&why))
    }
}

/// Classifies an error of reading: a file that ends early was changed.
pub(super) fn read_failure(why: &io::Error) -> ReadFailure {
    match why.kind() {
        io::ErrorKind::UnexpectedEof => ReadFailure::Changed,
        _ => ReadFailure::Unreadable(in_english(|| plain_message(why))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::read_ahead::{READERS, ReadAhead};
    use super::*;
    use crate::engine::fair_slots::FairSlots;

    const MIB: u64 = 1 << 20;

    struct Case {
        file: File,
        content: Vec<u8>,
        layout: GroupLayout,
        manifest: Arc<Manifest>,
    }

    fn case(bytes: u64) -> Case {
        let content: Vec<u8> = (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let layout = GroupLayout::of(bytes).unwrap();
        let slice = |group| {
            let start = usize::try_from(layout.offset(group)).unwrap();
            &content[start..start + usize::try_from(layout.group_len(group)).unwrap()]
        };
        let values = (0..layout.group_count()).map(|group| layout.chaining_value(group, slice(group))).collect();
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(&content).unwrap();
        Case { file, layout, manifest: Arc::new(Manifest::new(values)), content }
    }

    impl Case {
        fn ranges(&self, trusted: Option<FileVersion>, left: &[(u64, u64)], piece_bytes: u64) -> RangeReader {
            let manifest = ManifestSource::Known(self.manifest.clone());
            let proof = ContentProof { layout: self.layout, manifest, trusted, proved: None };
            let file = self.file.try_clone().unwrap();
            let (left, faults) = (left.iter().copied().collect(), ReadFaultLog::default());
            RangeReader::new(file, "x".into(), proof, left, piece_bytes, BufferPool::default(), faults)
        }

        fn id(&self) -> Option<FileVersion> {
            open_file_version(&self.file).unwrap()
        }
    }

    /// All that is sent, and how it ended.
    fn all(mut ranges: RangeReader) -> (Vec<u8>, Option<ReadFailure>) {
        let mut sent = Vec::new();
        while let Some(read) = ranges.next_piece() {
            match read {
                Ok(piece) => sent.extend_from_slice(&piece),
                Err(failure) => return (sent, Some(failure)),
            }
        }
        (sent, None)
    }

    #[test]
    fn what_is_sent_is_the_same_whether_it_is_trusted_or_compared() {
        let case = case(3 * MIB + 5);
        let ranges = [(0, MIB), (2 * MIB, 3 * MIB + 5)];
        let expected = [&case.content[..1 << 20], &case.content[2 << 20..]].concat();
        for piece_bytes in [MIB / 4, MIB / 16, 1000, 5 * MIB] {
            for trusted in [case.id(), None] {
                assert_eq!(all(case.ranges(trusted, &ranges, piece_bytes)), (expected.clone(), None));
            }
        }
    }

    #[test]
    fn a_change_of_the_metadata_alone_stops_nothing() {
        let case = case(2 * MIB);
        let mut ranges = case.ranges(case.id(), &[(0, 2 * MIB)], MIB / 4);
        let mut sent = ranges.next_piece().unwrap().unwrap().to_vec();
        case.file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        case.file.set_len(3 * MIB).unwrap();
        while let Some(piece) = ranges.next_piece() {
            sent.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(sent, case.content);
    }

    #[test]
    fn nothing_of_a_group_that_changed_is_sent() {
        for (trusted, piece_bytes) in [(true, MIB / 4), (false, MIB / 4), (true, MIB / 16), (false, MIB / 16)] {
            let case = case(4 * MIB);
            let ranges = case.ranges(case.id().filter(|_| trusted), &[(0, 4 * MIB)], piece_bytes);
            case.file.write_all_at(b"other", 2 * MIB + 700_000).unwrap();
            case.file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(all(ranges), (case.content[..2 << 20].to_vec(), Some(ReadFailure::Changed)));
        }
    }

    #[test]
    fn a_file_that_was_cut_changed_where_it_was_cut() {
        let case = case(4 * MIB);
        let ranges = case.ranges(case.id(), &[(0, 4 * MIB)], MIB / 4);
        case.file.set_len(MIB + 5).unwrap();
        assert_eq!(all(ranges), (case.content[..1 << 20].to_vec(), Some(ReadFailure::Changed)));
    }

    #[test]
    fn the_end_of_a_large_group_comes_only_when_all_of_it_is_right() {
        let case = case(2 * MIB);
        let mut ranges = case.ranges(None, &[], MIB / 4);
        let read = |ranges: &mut RangeReader, quarter: u64| {
            ranges.read_hashed(1, MIB + quarter * MIB / 4, MIB + (quarter + 1) * MIB / 4)
        };
        // From its middle on, as after a change that was noticed there.
        for quarter in [1, 2, 3] {
            assert!(read(&mut ranges, quarter).is_ok());
        }
        case.file.write_all_at(b"other", MIB + 5).unwrap();
        for quarter in [0, 1, 2] {
            assert!(read(&mut ranges, quarter).is_ok());
        }
        assert_eq!(read(&mut ranges, 3), Err(ReadFailure::Changed));
    }

    fn read_ahead(mut ranges: RangeReader) -> ReadAhead {
        let first = ranges.next_piece();
        ReadAhead::new(first, ranges, FairSlots::new(READERS), "alice".parse().unwrap())
    }

    #[tokio::test]
    async fn what_is_parked_goes_on_where_it_was() {
        for (bytes, trusted, piece_bytes) in [
            (5 * MIB + 3, true, MIB / 8),
            (5 * MIB + 3, false, MIB / 8),
            (5 * MIB + 3, false, MIB / 4),
            (4 * MIB + 3, true, 5 * MIB),
        ] {
            let case = case(bytes);
            let left = [(MIB, 3 * MIB), (4 * MIB, bytes)];
            let mut pieces = read_ahead(case.ranges(case.id().filter(|_| trusted), &left, piece_bytes));
            let (mut sent, mut count) = (Vec::new(), 0);
            pieces.pause(0).await;
            while let Some(piece) = pieces.next_piece().await {
                sent.extend_from_slice(&piece.unwrap());
                count += 1;
                if count % 3 == 0 {
                    // The end of it was not sent after all.
                    let bytes = if count % 2 == 0 { 700 } else { 0 };
                    sent.truncate(sent.len() - bytes);
                    pieces.pause(bytes as u64).await;
                    pieces.pause(0).await;
                    pieces.set_piece_bytes(MIB / 16);
                }
            }
            let whole = |at: u64| usize::try_from(at).unwrap();
            let expected: Vec<u8> =
                left.iter().flat_map(|(start, end)| &case.content[whole(*start)..whole(*end)]).copied().collect();
            assert!(sent == expected, "{} of {} bytes", sent.len(), expected.len());
            assert!(pieces.finish().await);
        }
    }

    #[tokio::test]
    async fn a_small_file_is_read_again_if_its_only_piece_is_given_back() {
        let case = case(1000);
        let mut pieces = read_ahead(case.ranges(case.id(), &[(0, 1000)], MIB));
        assert!(pieces.is_one_piece());
        let piece = pieces.next_piece().await.unwrap().unwrap();
        pieces.pause(900).await;
        assert_eq!(
            (piece.len(), pieces.next_piece().await.unwrap().unwrap()),
            (1000, case.content[100..].to_vec().into())
        );
        assert!(pieces.next_piece().await.is_none() && pieces.finish().await);
    }

    /// A piece of a group that is compared keeps little more than itself in memory.
    #[test]
    fn pieces_of_large_groups_that_are_compared_lie_apart() {
        let case = case(4 * MIB);
        let mut ranges = case.ranges(None, &[(0, 4 * MIB)], MIB / 16);
        let pieces: Vec<Bytes> = std::iter::from_fn(|| ranges.next_piece()).map(Result::unwrap).collect();
        assert_eq!(pieces.len(), 64);
        assert!(matches!(ranges.current, CurrentGroup::Empty), "not in one buffer");
    }
}
