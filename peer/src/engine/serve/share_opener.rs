//! Opening of shared files by their content.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use shared::limits::MAX_RANGES_PER_GET;
use shared::peer::PeerErrorCode;
use shared::{ContentHash, FileName, GroupLayout, Manifest, ZeroRuns};

use super::buffer_pool::BufferPool;
use super::copy_search::{ContentQuery, CopySearch, PastSearches};
use super::descriptor_wait::DescriptorWait;
use super::disk_slots::{DiskSlots, DiskVisit};
use super::offered_partial::OfferedPartial;
use super::range_reader::{ContentProof, ManifestSource, ProofNote, RangeReader, ReadFailure, read_failure};
use super::read_ahead::{OpenShare, READERS, ReadAhead};
use super::read_faults::ReadFaultLog;
use super::request_refusal::{RequestRefusal, not_found_refusal};
use super::served_versions::{ProvedVersions, ServedVersion, ServedVersions, SharedContent};
use super::share_access::ShareAccess;
use super::stale_shares::StaleReason;
use crate::engine::Error;
use crate::engine::private_data::PrivateData;
use crate::engine::share::{ShareFreshness, freshness, is_gone};
use crate::profile::{HashedFile, Profile, ProfileError, Share};
use crate::sys::{FileVersion, VersionChange, is_too_many_open_files, open_file_version};

/// Files with another size or time that are kept open while a better one is looked for.
const DIFFERING: usize = 16;

/// A request for groups of a file.
#[derive(Debug, Clone)]
pub(super) struct GroupRequest {
    pub(super) hash: ContentHash,
    /// The name under which the file is wanted, if known.
    pub(super) name: Option<FileName>,
    /// The groups, as half-open ranges.
    pub(super) groups: Vec<(u32, u32)>,
}

impl GroupRequest {
    const fn content_query(&self) -> ContentQuery<'_> {
        ContentQuery { hash: &self.hash, name: self.name.as_ref() }
    }
}

/// The reason why no file could be opened.
pub(super) enum OpenFailure {
    /// Shares have this content on record, but their files have changed; they are to be hashed again.
    Changed(Vec<(FileName, StaleReason)>),
    Refused(RequestRefusal),
    Failed(Error),
}

/// Opens the files that a profile shares. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct ShareOpener {
    profile: Profile,
    versions: Arc<ServedVersions>,
    proved: Arc<ProvedVersions>,
    buffers: BufferPool,
    searches: Arc<PastSearches>,
    /// Files that are never served, even if they are on record.
    private: Arc<PrivateData>,
    descriptors: DescriptorWait,
    faults: ReadFaultLog,
    /// The threads that read: those of all users and disks that one hanging disk may keep are a part.
    readers: Arc<DiskSlots>,
}

/// A manifest, with the layout and zero groups of its file.
#[derive(Debug)]
pub(super) struct OfferedManifest {
    pub(super) layout: GroupLayout,
    pub(super) manifest: Arc<Manifest>,
    pub(super) zeros: ZeroRuns,
}

impl ShareOpener {
    pub(super) fn new(profile: Profile) -> Self {
        let (versions, proved, buffers, searches) =
            (Arc::default(), Arc::default(), BufferPool::default(), Arc::default());
        let private = Arc::new(PrivateData::of(&profile));
        let (faults, readers) = (ReadFaultLog::default(), Arc::new(DiskSlots::new(READERS)));
        Self {
            profile,
            versions,
            proved,
            buffers,
            searches,
            private,
            descriptors: DescriptorWait::default(),
            faults,
            readers,
        }
    }

    /// True if a share is never served, even if it is on record.
    pub(super) fn is_private(&self, share: &Share) -> bool {
        self.private.is_private_share(share)
    }

    /// Returns the log of files that can't be read.
    pub(super) const fn faults(&self) -> &ReadFaultLog {
        &self.faults
    }

    /// Returns the files whose content was proved although their metadata differ from the record.
    pub(super) const fn proved(&self) -> &Arc<ProvedVersions> {
        &self.proved
    }

    /// Returns a search for the files on record with this content that `access` allows.
    fn search<'a>(
        &'a self,
        access: &'a ShareAccess,
        visit: &'a DiskVisit<'a>,
        query: ContentQuery<'a>,
    ) -> CopySearch<'a> {
        CopySearch::new(&self.profile, &self.private, &self.searches, access, visit, query)
    }

    /// Returns a file on record with this content: the first that is unchanged on the disk, else the first of all. The
    /// flag is true in the former case.
    pub(super) fn find_copy(
        &self,
        access: &ShareAccess,
        visit: &DiskVisit<'_>,
        query: ContentQuery<'_>,
    ) -> Result<Option<(Share, bool)>, ProfileError> {
        let mut search = self.search(access, visit, query);
        let mut first = None;
        while let Some(share) = search.next()? {
            if matches!(freshness(&share), ShareFreshness::Fresh | ShareFreshness::Touched) {
                search.note_found(&share.name);
                visit.note_found();
                return Ok(Some((share, true)));
            }
            first.get_or_insert(share);
        }
        Ok(first.map(|share| (share, false)))
    }

    /// Returns versions that are no longer on record, of files that `access` still allows.
    pub(super) fn earlier_versions(
        &self,
        access: &ShareAccess,
        visit: &DiskVisit<'_>,
        hash: &ContentHash,
    ) -> Result<Vec<ServedVersion>, ProfileError> {
        let mut served = self.versions.with_hash(access, hash);
        let mut failure = Ok(());
        served.retain(|ServedVersion { share, .. }| {
            // A share that was withdrawn, moved or became private since must not be served any more.
            match self.profile.share(&share.audience, &share.name) {
                Ok(now) => {
                    now.is_some_and(|now| now.path == share.path)
                        && visit.enter(&share.path)
                        && !self.private.is_private_share(share)
                }
                Err(why) => {
                    // Kept for the end: `retain` passes no errors on.
                    failure = Err(why);
                    false
                }
            }
        });
        failure.map(|()| served)
    }

    /// Returns the manifest of a file, and remembers this version: who asks for a manifest asks for its groups next.
    pub(super) fn manifest(
        &self,
        access: &ShareAccess,
        visit: &DiskVisit<'_>,
        query: ContentQuery<'_>,
    ) -> Result<Option<OfferedManifest>, ProfileError> {
        let hash = query.hash;
        if let Some((share, _)) = self.find_copy(access, visit, query)?
            && let Some(layout) = GroupLayout::of(share.version.size)
        {
            let manifest = match self.versions.manifest_of(hash) {
                None => self.recorded_manifest(hash)?,
                known => known,
            };
            if let Some(manifest) = manifest {
                let zeros = share.zeros.clone();
                self.versions.insert(ServedVersion { share, layout, manifest: manifest.clone() });
                return Ok(Some(OfferedManifest { layout, manifest, zeros }));
            }
        }
        // The record has moved on, but somebody may be in the middle of fetching what was there before.
        let served = self.earlier_versions(access, visit, hash)?.into_iter().next();
        Ok(served.map(|ServedVersion { share, layout, manifest, .. }| OfferedManifest {
            layout,
            manifest,
            zeros: share.zeros,
        }))
    }

    /// Reads a manifest of up to 1 MiB from the database.
    fn recorded_manifest(&self, hash: &ContentHash) -> Result<Option<Arc<Manifest>>, ProfileError> {
        let known = self.profile.hashed_file(hash)?;
        Ok(known.map(|HashedFile { manifest, .. }| self.versions.share_manifest(*hash, manifest)))
    }

    /// Returns a partial file of this content, with its manifest as it is served.
    pub(super) fn offered_partial(
        &self,
        access: &ShareAccess,
        visit: &DiskVisit<'_>,
        hash: &ContentHash,
    ) -> Result<Option<OfferedManifest>, ProfileError> {
        Ok(OfferedPartial::find(&self.profile, access, visit, hash)?.map(|part| OfferedManifest {
            layout: part.share.layout,
            manifest: self.versions.share_manifest(*hash, part.state.manifest),
            zeros: ZeroRuns::default(),
        }))
    }

    /// Opens a file and reads its first piece. Files with unchanged metadata come first, then those with changed
    /// metadata and earlier versions, then partial files.
    pub(super) fn open(
        &self,
        access: &ShareAccess,
        visit: &DiskVisit<'_>,
        get: &GroupRequest,
        piece_bytes: u64,
    ) -> Result<OpenShare, OpenFailure> {
        let failed = |error: ProfileError| OpenFailure::Failed(error.into());
        let mut failures = FailureReasons::default();
        let mut differing = Vec::new();
        let mut search = self.search(access, visit, get.content_query());
        while let Some(share) = search.next().map_err(failed)? {
            let Some(attempt) = self.try_file(share, None, true, &mut failures)? else { continue };
            if attempt.reason == Some(StaleReason::Metadata) {
                // Another size or time makes other content likely: a copy without them is tried first.
                // Each attempt holds a descriptor.
                if differing.len() < DIFFERING {
                    differing.push(attempt);
                }
            } else if let Some(open) = self.read_first_piece(access, attempt, get, piece_bytes, &mut failures)? {
                search.note_found(&open.name);
                return Ok(open);
            }
        }
        self.add_earlier_versions(access, visit, get, &mut differing, &mut failures)?;
        for attempt in differing {
            // The visit has gone to other disks since.
            if !visit.enter(&attempt.share.path) {
                continue;
            }
            if let Some(open) = self.read_first_piece(access, attempt, get, piece_bytes, &mut failures)? {
                return Ok(open);
            }
        }
        let FailureReasons { changed, outdated, unreadable } = failures;
        // Changed copies count first: they are hashed again, so that a retry may succeed.
        if !changed.is_empty() {
            return Err(OpenFailure::Changed(changed));
        }
        if let Some((path, why)) = unreadable {
            self.faults.log(&path, &why);
            let failure = ReadFailure::Unreadable(why);
            return Err(OpenFailure::Refused((failure.code(), failure.message())));
        }
        match OfferedPartial::find(&self.profile, access, visit, &get.hash)
            .map_err(failed)?
            .filter(|part| part.has(&get.groups))
        {
            Some(part) => self.open_partial(access, part, get, piece_bytes),
            None if outdated => Err(OpenFailure::Refused((PeerErrorCode::Stale, ReadFailure::Changed.message()))),
            None => Err(OpenFailure::Refused(not_found_refusal())),
        }
    }

    /// Adds attempts with versions that are no longer on record, that of the wanted name first.
    fn add_earlier_versions(
        &self,
        access: &ShareAccess,
        visit: &DiskVisit<'_>,
        get: &GroupRequest,
        attempts: &mut Vec<OpenAttempt>,
        failures: &mut FailureReasons,
    ) -> Result<(), OpenFailure> {
        let mut served =
            self.earlier_versions(access, visit, &get.hash).map_err(|error| OpenFailure::Failed(error.into()))?;
        served.sort_by_key(|version| Some(&version.share.name) != get.name.as_ref());
        for ServedVersion { share, manifest, .. } in served {
            let is_same =
                |attempt: &OpenAttempt| attempt.share.name == share.name && attempt.share.audience == share.audience;
            let is_tried = attempts.iter().any(is_same) || failures.changed.iter().any(|(name, _)| *name == share.name);
            if !is_tried && visit.enter(&share.path) {
                attempts.extend(self.try_file(share, Some(manifest), false, failures)?);
            }
        }
        Ok(())
    }

    /// Opens a file for an attempt; returns `None` for one that is missing, private or unreadable.
    fn try_file(
        &self,
        share: Share,
        manifest: Option<Arc<Manifest>>,
        is_recorded: bool,
        failures: &mut FailureReasons,
    ) -> Result<Option<OpenAttempt>, OpenFailure> {
        let opened = self.descriptors.open(&share.path).and_then(|file| Ok((open_file_version(&file)?, file)));
        // Metadata and privacy are checked on the descriptor: the path may lead elsewhere a moment later.
        let (id, file) = match opened {
            Ok((Some(id), file)) if self.private.reason_of_open(&share.path, &file).is_none() => (id, file),
            Ok(_) => return Ok(None),
            Err(why) if is_gone(&why) => return Ok(None),
            // No fault of the file: the same request may succeed in a moment.
            Err(why) if is_too_many_open_files(&why) => {
                let message = "too many files are open there: try again later".to_owned();
                return Err(OpenFailure::Refused((PeerErrorCode::Busy, message)));
            }
            Err(why) => {
                match read_failure(&why) {
                    ReadFailure::Changed => failures.outdated = true,
                    ReadFailure::Unreadable(why) => drop(failures.unreadable.get_or_insert((share.path, why))),
                }
                return Ok(None);
            }
        };
        let change = share.version.change_to(&id);
        let reason = if change == VersionChange::Content { StaleReason::Metadata } else { StaleReason::Content };
        let trusted = Some(id).filter(|_| is_recorded && change == VersionChange::Unchanged);
        Ok(Some(OpenAttempt { share, file, trusted, manifest, reason: is_recorded.then_some(reason) }))
    }

    /// Reads the first piece of a file. Returns `None` and notes the reason unless the piece is of the wanted content.
    fn read_first_piece(
        &self,
        access: &ShareAccess,
        attempt: OpenAttempt,
        get: &GroupRequest,
        piece_bytes: u64,
        failures: &mut FailureReasons,
    ) -> Result<Option<OpenShare>, OpenFailure> {
        let OpenAttempt { share, file, trusted, manifest, reason } = attempt;
        let layout = GroupLayout::of(share.version.size).ok_or_else(|| OpenFailure::Refused(not_found_refusal()))?;
        let known = match manifest {
            // The hash of a file of one group is its only chaining value.
            None if layout.group_count() == 1 => Some(Arc::new(Manifest::new(vec![*get.hash.as_bytes()]))),
            None => self.versions.manifest_of(&get.hash),
            known => known,
        };
        let recorded = || ManifestSource::Recorded {
            profile: self.profile.clone(),
            versions: self.versions.clone(),
            hash: get.hash,
        };
        // Read from the database only if a group must be compared, which is rare.
        let manifest = known.map_or_else(recorded, ManifestSource::Known);
        let of = SharedContent { audience: share.audience, name: share.name.clone(), hash: get.hash };
        let proved = Some(ProofNote { of, versions: self.proved.clone() });
        let proof = ContentProof { layout, manifest, trusted, proved };
        let (name, path, zeros) = (share.name.clone(), share.path.clone(), share.zeros);
        match self
            .open_ranges(access, share.name, true, share.path, file, proof, get, piece_bytes)
            .map_err(OpenFailure::Refused)?
        {
            Ok(open) => return Ok(Some(OpenShare { zeros, ..open })),
            Err(ReadFailure::Changed) => match reason {
                Some(reason) => failures.changed.push((name, reason)),
                None => failures.outdated = true,
            },
            Err(ReadFailure::Unreadable(why)) => drop(failures.unreadable.get_or_insert((path, why))),
        }
        Ok(None)
    }

    fn open_partial(
        &self,
        access: &ShareAccess,
        part: OfferedPartial,
        get: &GroupRequest,
        piece_bytes: u64,
    ) -> Result<OpenShare, OpenFailure> {
        let OfferedPartial { share, file, state } = part;
        let manifest = ManifestSource::Known(self.versions.share_manifest(get.hash, state.manifest));
        // Compared always: a partial file is being written to.
        let proof = ContentProof { layout: share.layout, manifest, trusted: None, proved: None };
        let opened = self.open_ranges(access, share.name, false, share.path, file, proof, get, piece_bytes);
        let opened = opened.map_err(OpenFailure::Refused)?;
        opened.map_err(|failure| OpenFailure::Refused((failure.code(), failure.message())))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one thing, each of another kind")]
    fn open_ranges(
        &self,
        access: &ShareAccess,
        name: FileName,
        is_whole: bool,
        path: PathBuf,
        file: File,
        proof: ContentProof,
        get: &GroupRequest,
        piece_bytes: u64,
    ) -> Result<Result<OpenShare, ReadFailure>, RequestRefusal> {
        let layout = proof.layout;
        let ranges = byte_ranges(&layout, &get.groups)?;
        let bytes = ranges.iter().map(|(start, end)| end - start).sum();
        let (buffers, faults) = (self.buffers.clone(), self.faults.clone());
        let readers = self.readers.of_path(&path);
        let mut rest = RangeReader::new(file, path, proof, ranges, piece_bytes, buffers, faults);
        // Before anything is answered: another copy can still take its place.
        let first = match rest.next_piece() {
            Some(Err(failure)) => return Ok(Err(failure)),
            first => first,
        };
        let pieces = ReadAhead::new(first, rest, readers, access.user().clone());
        let (zeros, groups) = (ZeroRuns::default(), get.groups.clone());
        Ok(Ok(OpenShare { name, hash: get.hash, is_whole, layout, zeros, groups, bytes, pieces }))
    }
}

/// The reasons why the files that were tried could not be sent.
#[derive(Default)]
struct FailureReasons {
    /// Files on record that are to be hashed again.
    changed: Vec<(FileName, StaleReason)>,
    /// True if a version that isn't on record is no longer on the disk.
    outdated: bool,
    /// The first file that can't be read, and the error.
    unreadable: Option<(PathBuf, String)>,
}

/// An open file that may have the wanted content.
struct OpenAttempt {
    share: Share,
    file: File,
    /// Its metadata, if they equal those on record.
    trusted: Option<FileVersion>,
    manifest: Option<Arc<Manifest>>,
    /// The reason to hash it again if its content is another; `None` for a version that isn't on record.
    reason: Option<StaleReason>,
}

fn byte_ranges(layout: &GroupLayout, ranges: &[(u32, u32)]) -> Result<VecDeque<(u64, u64)>, RequestRefusal> {
    let wrong = |message: &str| (PeerErrorCode::Protocol, message.to_owned());
    if ranges.len() > MAX_RANGES_PER_GET {
        return Err(wrong("too many ranges"));
    }
    let bytes = |&(start, end): &(u32, u32)| {
        if start >= end || end > layout.group_count() {
            return Err(wrong("a range is outside the file"));
        }
        Ok((layout.offset(start), layout.offset(start) + layout.range_len(start, end)))
    };
    let ranges: Result<Vec<_>, _> = ranges.iter().map(bytes).collect();
    // An empty file has one group without bytes.
    Ok(ranges?.into_iter().filter(|(start, end)| start < end).collect())
}
