//! Reading what is sent, ahead of the network and off its thread, and making sure that it is what is offered.
//!
//! As long as a file has the metadata that were recorded when it was hashed, nothing is hashed again: that would cost more
//! than sending it. From the first difference on, each group is compared with the manifest before it is sent. Most of them
//! are still the same: only the mode changed, or the file only grew.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | pieces in memory of each file that has a place | 3 read ahead, one that waits behind them, one that is written | the reader waits |
//! | memory of a group that is compared | 4 pieces | the group is read twice, the second time as it is sent |
//! | the same of a file without a place | nothing | |
//! | files that a thread reads, also from a disk that hangs | 128, of them 16 for one user | the next one waits |

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use shared::content::{GroupHasher, GroupValue};
use shared::peer::Code;
use shared::{ContentHash, FileName, Layout, Manifest, UserName, ZeroRuns};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::pieces::Pieces;
use super::read_faults::ReadFaultLog;
use super::versions::ProvedVersions;
use crate::engine::fair_places::{FairPlace, FairPlaces, PlaceBounds};
use crate::profile::Profile;
use crate::sys::{FileId, id_of, plain_message};

/// Pieces read ahead of the network.
const READ_AHEAD: usize = 3;
/// A group of so many pieces is in memory as a whole when it is compared. Each of its pieces keeps all of it there.
const WHOLE_GROUP_PIECES: u64 = 4;
/// A group up to this size is compared before any of it is sent; of a larger one, its end is held back until then.
const COMPARED_FIRST_BYTES: u64 = 16 << 20;
/// What is only hashed is read in parts of this size.
const HASHED_AT_ONCE: u64 = 64 << 10;

/// Threads that read.
pub(super) const READERS: PlaceBounds = PlaceBounds { total: 128, per_key: 16 };

/// Why there is no piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadFailure {
    /// It isn't what is offered any more.
    Changed,
    /// The system doesn't let it be read, in these words.
    Unreadable(String),
}

/// A piece, or why there is none.
pub(super) type Read = Result<Bytes, ReadFailure>;

/// A file that is being sent: some of its groups, in the order asked for.
#[derive(Debug)]
pub(super) struct OpenShare {
    /// The name it is offered under.
    pub(super) name: FileName,
    pub(super) hash: ContentHash,
    /// Whether all of it is here.
    pub(super) is_whole: bool,
    /// How it is cut.
    pub(super) layout: Layout,
    /// Its groups that hold nothing but zeros, as far as they are known.
    pub(super) zeros: ZeroRuns,
    /// The groups that were asked for, as half-open ranges.
    pub(super) groups: Vec<(u32, u32)>,
    /// Bytes that will be sent in all.
    pub(super) bytes: u64,
    pub(super) pieces: ReadAhead,
}

/// The proof that what was read is what is offered.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) layout: Layout,
    pub(super) manifest: ManifestSource,
    /// With exactly these metadata, nothing needs to be compared.
    pub(super) trusted: Option<FileId>,
    /// Where a file is noted whose groups are all the same though its metadata differ.
    pub(super) proved: Option<ProofNote>,
}

/// The manifest of a file, or where it is when it is needed.
#[derive(Debug)]
pub(super) enum ManifestSource {
    Known(Arc<Manifest>),
    Recorded { profile: Profile, to: UserName, hash: ContentHash },
}

/// Whose groups are noted, and where.
#[derive(Debug)]
pub(super) struct ProofNote {
    pub(super) name: FileName,
    pub(super) hash: ContentHash,
    pub(super) versions: Arc<ProvedVersions>,
}

/// Parts of an open file that are still to be read.
#[derive(Debug)]
pub(super) struct Ranges {
    file: File,
    path: PathBuf,
    proof: Proof,
    in_hand: InHand,
    /// Half-open ranges of bytes, each of whole groups, in the order in which they are read.
    all: Vec<(u64, u64)>,
    /// What is left of them, the next one first.
    left: VecDeque<(u64, u64)>,
    piece_bytes: u64,
    buffers: Pieces,
    faults: ReadFaultLog,
}

/// The group that is being compared and sent.
#[derive(Debug)]
enum InHand {
    Nothing,
    /// It is right.
    Right {
        group: u32,
        bytes: Bytes,
    },
    /// It is hashed while it is sent, up to this byte of the file.
    Hashing {
        group: u32,
        hasher: Box<GroupHasher>,
        up_to: u64,
        /// The file's metadata before any of it was read.
        before: Option<FileId>,
    },
}

/// The pieces of an [`OpenShare`] as they are read.
#[derive(Debug)]
pub(super) struct ReadAhead {
    /// Read while the file was being opened: of a small file, that is all.
    first: Option<Read>,
    rest: Rest,
    /// Whether the first piece was all there is.
    is_one_piece: bool,
    /// Bytes of the pieces that were taken.
    taken: u64,
    readers: FairPlaces<UserName>,
    to: UserName,
}

/// What comes behind the first piece.
#[derive(Debug)]
enum Rest {
    /// The first piece could not be read.
    Nothing,
    /// Nothing that was not read.
    AllRead(Box<Ranges>),
    Unread(Box<Ranges>),
    /// The thread that read has failed.
    Failed,
    /// A thread reads.
    Reading(mpsc::Receiver<Read>, JoinHandle<Box<Ranges>>),
}

impl ReadFailure {
    /// The code for the other side.
    pub(super) const fn code(&self) -> Code {
        match self {
            Self::Changed => Code::Stale,
            Self::Unreadable(_) => Code::Internal,
        }
    }

    /// The words for the other side.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Changed => "the file changed and is being hashed again".to_owned(),
            Self::Unreadable(why) => format!("the file can't be read: {why}"),
        }
    }
}

impl ManifestSource {
    /// The value of a group.
    fn value(&mut self, group: u32) -> Option<GroupValue> {
        if let Self::Recorded { profile, to, hash } = self {
            // A fault of the database is told where it is asked for more than this.
            let shared = profile.manifest(hash).ok().flatten();
            let known = shared.or_else(|| profile.offered_manifest(to, hash).ok().flatten())?;
            *self = Self::Known(Arc::new(known.manifest));
        }
        match self {
            Self::Known(manifest) => manifest.value(group).copied(),
            Self::Recorded { .. } => None,
        }
    }
}

impl Ranges {
    /// These ranges of `file`, which is at `path`, in pieces of `piece_bytes`.
    pub(super) fn new(
        file: File,
        path: PathBuf,
        proof: Proof,
        left: VecDeque<(u64, u64)>,
        piece_bytes: u64,
        buffers: Pieces,
        faults: ReadFaultLog,
    ) -> Self {
        let all = left.iter().copied().collect();
        Self { file, path, proof, in_hand: InHand::Nothing, all, left, piece_bytes, buffers, faults }
    }

    /// Goes back to where `taken` bytes had been read.
    fn go_back(&mut self, mut taken: u64) {
        self.in_hand = InHand::Nothing;
        let rest = |&(start, end): &(u64, u64)| {
            let skipped = taken.min(end - start);
            taken -= skipped;
            (start + skipped < end).then_some((start + skipped, end))
        };
        self.left = self.all.iter().filter_map(rest).collect();
    }

    /// The next bytes.
    pub(super) fn read(&mut self) -> Option<Read> {
        let (start, end) = *self.left.front()?;
        let piece = self.read_piece(start, end);
        match &piece {
            Ok(piece) if start + (piece.len() as u64) < end => {
                self.left.front_mut().into_iter().for_each(|range| range.0 += piece.len() as u64);
            }
            _ => drop(self.left.pop_front()),
        }
        if let Err(ReadFailure::Unreadable(why)) = &piece {
            self.faults.tell(&self.path, why);
        }
        Some(piece)
    }

    fn read_piece(&mut self, start: u64, end: u64) -> Read {
        if let Some(id) = self.proof.trusted {
            let piece = self.bytes(start, self.piece_bytes.min(end - start))?;
            // Looked at after the read: what was read before a change was noticed is never sent.
            if self.id()? == Some(id) {
                return Ok(piece);
            }
            self.proof.trusted = None;
        }
        let layout = self.proof.layout;
        let group = u32::try_from(start / layout.group_bytes()).unwrap_or(u32::MAX);
        let (offset, len) = (layout.offset(group), layout.len_of(group));
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

    /// A piece of a group that was compared as a whole.
    fn read_compared(&mut self, group: u32, start: u64, end: u64) -> Read {
        let layout = self.proof.layout;
        let offset = layout.offset(group);
        let part = |bytes: &Bytes| match (usize::try_from(start - offset), usize::try_from(end - offset)) {
            (Ok(start), Ok(end)) => bytes.slice(start..end),
            // No larger than what is in memory.
            _ => Bytes::new(),
        };
        if let InHand::Right { group: known, bytes } = &self.in_hand
            && *known == group
        {
            return Ok(part(bytes));
        }
        let before = self.id()?;
        let bytes = self.bytes(offset, layout.len_of(group))?;
        self.compare(group, layout.value_of(group, &bytes))?;
        self.note_proved(group, before)?;
        let piece = part(&bytes);
        self.in_hand = InHand::Right { group, bytes };
        Ok(piece)
    }

    /// A piece of a group that is too large for that: its last piece comes only when all of what was sent was right.
    fn read_hashed(&mut self, group: u32, start: u64, end: u64) -> Read {
        let layout = self.proof.layout;
        let (mut hasher, up_to, before) = match std::mem::replace(&mut self.in_hand, InHand::Nothing) {
            InHand::Hashing { group: known, hasher, up_to, before } if known == group && up_to <= start => {
                (hasher, up_to, before)
            }
            _ => (Box::new(layout.hasher(group)), layout.offset(group), self.id()?),
        };
        self.hash(&mut hasher, up_to, start)?;
        let piece = self.bytes(start, end - start)?;
        hasher.update(&piece);
        if end == layout.offset(group) + layout.len_of(group) {
            self.compare(group, (*hasher).finish())?;
            self.note_proved(group, before)?;
        } else {
            self.in_hand = InHand::Hashing { group, hasher, up_to: end, before };
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
    fn note_proved(&self, group: u32, before: Option<FileId>) -> Result<(), ReadFailure> {
        if let (Some(id), Some(note)) = (before, &self.proof.proved)
            && self.id()? == before
        {
            note.versions.add(&note.name, &note.hash, &self.proof.layout, id, group);
        }
        Ok(())
    }

    fn compare(&mut self, group: u32, value: GroupValue) -> Result<(), ReadFailure> {
        let expected = self.proof.manifest.value(group);
        if expected == Some(value) { Ok(()) } else { Err(ReadFailure::Changed) }
    }

    fn bytes(&self, offset: u64, len: u64) -> Read {
        let len = usize::try_from(len).map_err(|_| ReadFailure::Unreadable("it is too large".to_owned()))?;
        self.buffers.fill(len, |buffer| self.file.read_exact_at(buffer, offset)).map_err(|why| failure(&why))
    }

    fn id(&self) -> Result<Option<FileId>, ReadFailure> {
        id_of(&self.file).map_err(|why| failure(&why))
    }
}

/// What an error of reading means.
pub(super) fn failure(why: &io::Error) -> ReadFailure {
    match why.kind() {
        io::ErrorKind::UnexpectedEof => ReadFailure::Changed,
        _ => ReadFailure::Unreadable(plain_message(why)),
    }
}

impl ReadAhead {
    /// `first` and then what is left of `rest`; a thread reads only while it has one of `readers`, where `to` has a part.
    pub(super) fn new(first: Option<Read>, rest: Ranges, readers: FairPlaces<UserName>, to: UserName) -> Self {
        let is_readable = !matches!(first, Some(Err(_)));
        let is_one_piece = rest.left.is_empty();
        let rest = if is_readable { Rest::of(Box::new(rest)) } else { Rest::Nothing };
        Self { first, rest, is_one_piece, taken: 0, readers, to }
    }

    /// Takes back the last `bytes` of what was taken, and keeps neither a thread nor memory until the next piece is asked for.
    pub(super) async fn park(&mut self, bytes: u64) {
        self.first = None;
        self.taken -= bytes;
        let ranges = match std::mem::replace(&mut self.rest, Rest::Failed) {
            Rest::Reading(ready, reader) => {
                drop(ready);
                reader.await.ok()
            }
            Rest::AllRead(ranges) | Rest::Unread(ranges) => Some(ranges),
            Rest::Nothing | Rest::Failed => None,
        };
        if let Some(mut ranges) = ranges {
            ranges.go_back(self.taken);
            self.rest = Rest::of(ranges);
        }
    }

    /// From here on, reads in pieces of this size, unless a thread reads already.
    pub(super) fn set_piece_bytes(&mut self, bytes: u64) {
        if let Rest::Unread(ranges) = &mut self.rest {
            ranges.piece_bytes = bytes;
        }
    }

    /// Whether the first piece was all there is.
    pub(super) const fn is_one_piece(&self) -> bool {
        self.is_one_piece
    }

    /// The next piece; `None` behind the last. A thread reads the further ones from the first call on. May be cancelled and
    /// called again.
    pub(super) async fn next(&mut self) -> Option<Read> {
        if matches!(self.rest, Rest::Unread(_)) {
            let place = self.readers.take(&self.to).await;
            self.rest = match std::mem::replace(&mut self.rest, Rest::Failed) {
                Rest::Unread(ranges) => read_on(*ranges, place),
                other => other,
            };
        }
        let piece = match (self.first.take(), &mut self.rest) {
            (None, Rest::Reading(ready, _)) => ready.recv().await,
            (first, _) => first,
        };
        if let Some(Ok(piece)) = &piece {
            self.taken += piece.len() as u64;
        }
        piece
    }

    /// Waits until nothing is read any more; false when the reader failed.
    pub(super) async fn end(self) -> bool {
        match self.rest {
            Rest::Reading(ready, reader) => {
                drop(ready);
                reader.await.is_ok()
            }
            Rest::Nothing | Rest::AllRead(_) | Rest::Unread(_) => true,
            Rest::Failed => false,
        }
    }
}

impl Rest {
    fn of(ranges: Box<Ranges>) -> Self {
        if ranges.left.is_empty() { Self::AllRead(ranges) } else { Self::Unread(ranges) }
    }
}

fn read_on(mut ranges: Ranges, place: FairPlace<UserName>) -> Rest {
    let (pieces, ready) = mpsc::channel(READ_AHEAD);
    let reader = tokio::task::spawn_blocking(move || {
        // Held for as long as the disk takes, whoever still waits for it.
        let _place = place;
        while let Some(piece) = ranges.read() {
            let last = piece.is_err();
            if pieces.blocking_send(piece).is_err() || last {
                break;
            }
        }
        Box::new(ranges)
    });
    Rest::Reading(ready, reader)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const MIB: u64 = 1 << 20;

    struct Case {
        file: File,
        content: Vec<u8>,
        layout: Layout,
        manifest: Arc<Manifest>,
    }

    fn case(bytes: u64) -> Case {
        let content: Vec<u8> = (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let layout = Layout::of(bytes).unwrap();
        let slice = |group| {
            let start = usize::try_from(layout.offset(group)).unwrap();
            &content[start..start + usize::try_from(layout.len_of(group)).unwrap()]
        };
        let values = (0..layout.groups()).map(|group| layout.value_of(group, slice(group))).collect();
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(&content).unwrap();
        Case { file, layout, manifest: Arc::new(Manifest::new(values)), content }
    }

    impl Case {
        fn ranges(&self, trusted: Option<FileId>, left: &[(u64, u64)], piece_bytes: u64) -> Ranges {
            let manifest = ManifestSource::Known(self.manifest.clone());
            let proof = Proof { layout: self.layout, manifest, trusted, proved: None };
            let file = self.file.try_clone().unwrap();
            let (left, faults) = (left.iter().copied().collect(), ReadFaultLog::default());
            Ranges::new(file, "x".into(), proof, left, piece_bytes, Pieces::default(), faults)
        }

        fn id(&self) -> Option<FileId> {
            id_of(&self.file).unwrap()
        }
    }

    /// All that is sent, and how it ended.
    fn all(mut ranges: Ranges) -> (Vec<u8>, Option<ReadFailure>) {
        let mut sent = Vec::new();
        while let Some(read) = ranges.read() {
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
        let mut sent = ranges.read().unwrap().unwrap().to_vec();
        case.file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        case.file.set_len(3 * MIB).unwrap();
        while let Some(piece) = ranges.read() {
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
        let read = |ranges: &mut Ranges, quarter: u64| {
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

    fn read_ahead(mut ranges: Ranges) -> ReadAhead {
        let first = ranges.read();
        ReadAhead::new(first, ranges, FairPlaces::new(READERS), "alice".parse().unwrap())
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
            pieces.park(0).await;
            while let Some(piece) = pieces.next().await {
                sent.extend_from_slice(&piece.unwrap());
                count += 1;
                if count % 3 == 0 {
                    // The end of it was not sent after all.
                    let bytes = if count % 2 == 0 { 700 } else { 0 };
                    sent.truncate(sent.len() - bytes);
                    pieces.park(bytes as u64).await;
                    pieces.park(0).await;
                    pieces.set_piece_bytes(MIB / 16);
                }
            }
            let whole = |at: u64| usize::try_from(at).unwrap();
            let expected: Vec<u8> =
                left.iter().flat_map(|(start, end)| &case.content[whole(*start)..whole(*end)]).copied().collect();
            assert!(sent == expected, "{} of {} bytes", sent.len(), expected.len());
            assert!(pieces.end().await);
        }
    }

    #[tokio::test]
    async fn a_small_file_is_read_again_if_its_only_piece_is_given_back() {
        let case = case(1000);
        let mut pieces = read_ahead(case.ranges(case.id(), &[(0, 1000)], MIB));
        assert!(pieces.is_one_piece());
        let piece = pieces.next().await.unwrap().unwrap();
        pieces.park(900).await;
        assert_eq!((piece.len(), pieces.next().await.unwrap().unwrap()), (1000, case.content[100..].to_vec().into()));
        assert!(pieces.next().await.is_none() && pieces.end().await);
    }

    /// A piece of a group that is compared keeps little more than itself in memory.
    #[test]
    fn pieces_of_large_groups_that_are_compared_lie_apart() {
        let case = case(4 * MIB);
        let mut ranges = case.ranges(None, &[(0, 4 * MIB)], MIB / 16);
        let pieces: Vec<Bytes> = std::iter::from_fn(|| ranges.read()).map(Result::unwrap).collect();
        assert_eq!(pieces.len(), 64);
        assert!(matches!(ranges.in_hand, InHand::Nothing), "not in one buffer");
    }
}
