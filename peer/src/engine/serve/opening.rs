//! Opening shared files by their content.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::limits::RANGES_PER_GET;
use shared::peer::Code;
use shared::{ContentHash, FileName, Layout, Manifest, UserName, ZeroRuns};

use super::copy_search::{CopySearch, PastSearches, RecordedCopy, Wanted};
use super::library::{Refusal, not_found};
use super::part::Part;
use super::pieces::Pieces;
use super::read_faults::ReadFaultLog;
use super::reading::{ManifestSource, OpenShare, Proof, ProofNote, READERS, Ranges, ReadAhead, ReadFailure, failure};
use super::stale::StaleReason;
use super::versions::{ProvedVersions, ServedVersion, ServedVersions};
use crate::engine::Error;
use crate::engine::fair_places::FairPlaces;
use crate::engine::private_data::PrivateData;
use crate::engine::share::{Freshness, freshness, is_gone};
use crate::profile::{FileHash, Profile, ProfileError, Share};
use crate::sys::{FileId, VersionChange, id_of, is_out_of_descriptors, open_files_limit, open_regular};

/// For a descriptor: those that are in use come free when a few groups were sent.
const DESCRIPTOR_PATIENCE: Duration = Duration::from_secs(5);
/// Files with another size or time that are kept open for as long as a better one is looked for.
const DIFFERING: usize = 16;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Between two words about that in the log.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A request for groups of a file.
#[derive(Debug, Clone)]
pub(super) struct Get {
    pub(super) hash: ContentHash,
    /// The name under which it is wanted, if that is known.
    pub(super) name: Option<FileName>,
    /// Half-open ranges.
    pub(super) groups: Vec<(u32, u32)>,
}

impl Get {
    const fn wanted(&self) -> Wanted<'_> {
        Wanted { hash: &self.hash, name: self.name.as_ref() }
    }
}

/// Why no file could be opened.
pub(super) enum Unopened {
    /// None of the shares with that content is as it was hashed.
    Changed(Vec<(FileName, StaleReason)>),
    Refused(Refusal),
    Failed(Error),
}

/// Opens what a profile offers. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Opener {
    profile: Profile,
    versions: Arc<ServedVersions>,
    proved: Arc<ProvedVersions>,
    pieces: Pieces,
    searches: Arc<PastSearches>,
    /// Never served, whatever the catalogue says.
    private: Arc<PrivateData>,
    /// When a lack of descriptors was last told.
    told: Arc<Mutex<Option<Instant>>>,
    faults: ReadFaultLog,
    readers: FairPlaces<UserName>,
}

/// What proves a file that is offered.
#[derive(Debug)]
pub(super) struct OfferedManifest {
    pub(super) layout: Layout,
    pub(super) manifest: Arc<Manifest>,
    pub(super) zeros: ZeroRuns,
}

impl Opener {
    pub(super) fn new(profile: Profile) -> Self {
        let (versions, proved, pieces, searches) = (Arc::default(), Arc::default(), Pieces::default(), Arc::default());
        let private = Arc::new(PrivateData::of(&profile));
        let (faults, readers) = (ReadFaultLog::default(), FairPlaces::new(READERS));
        Self { profile, versions, proved, pieces, searches, private, told: Arc::default(), faults, readers }
    }

    /// Whether a share is never served, whatever the catalogue says.
    pub(super) fn is_private(&self, share: &Share) -> bool {
        self.private.covers(share)
    }

    /// Files that can't be read, as they are told.
    pub(super) const fn faults(&self) -> &ReadFaultLog {
        &self.faults
    }

    /// Files that were found to be the same although their metadata differ.
    pub(super) const fn proved(&self) -> &Arc<ProvedVersions> {
        &self.proved
    }

    /// Finds what is recorded with this content and `to` may get.
    fn search<'a>(&'a self, to: &'a UserName, wanted: Wanted<'a>) -> CopySearch<'a> {
        CopySearch::new(&self.profile, &self.private, &self.searches, to, wanted)
    }

    /// A file that is recorded with this content: the first that is there as it was hashed, else the first of all; and
    /// whether it is there.
    pub(super) fn likeliest(
        &self,
        to: &UserName,
        wanted: Wanted<'_>,
    ) -> Result<Option<(RecordedCopy, bool)>, ProfileError> {
        let mut search = self.search(to, wanted);
        let mut first = None;
        while let Some(copy) = search.next()? {
            if matches!(freshness(&copy.share), Freshness::Fresh | Freshness::Touched) {
                search.found(&copy.share.name);
                return Ok(Some((copy, true)));
            }
            first.get_or_insert(copy);
        }
        Ok(first.map(|copy| (copy, false)))
    }

    /// Versions that are no longer recorded, of files that are still offered.
    pub(super) fn served(&self, to: &UserName, hash: &ContentHash) -> Result<Vec<ServedVersion>, ProfileError> {
        let mut served = self.versions.with_hash(to, hash);
        let mut failure = Ok(());
        served.retain(|ServedVersion { share, offered_to, .. }| {
            let now = match offered_to {
                Some(user) => self.profile.offer(user, &share.name),
                None => self.profile.share(&share.name),
            };
            match now {
                Ok(now) => now.is_some_and(|now| now.path == share.path) && !self.private.covers(share),
                Err(why) => {
                    failure = Err(why);
                    false
                }
            }
        });
        failure.map(|()| served)
    }

    /// The manifest of a file, which is remembered: whoever asks for it wants the groups next.
    pub(super) fn manifest(&self, to: &UserName, wanted: Wanted<'_>) -> Result<Option<OfferedManifest>, ProfileError> {
        let hash = wanted.hash;
        if let Some((RecordedCopy { share, offered_to }, _)) = self.likeliest(to, wanted)? {
            let known = match &offered_to {
                Some(user) => self.profile.offered_manifest(user, hash)?,
                None => self.profile.manifest(hash)?,
            };
            if let Some(FileHash { id, manifest, zeros, .. }) = known
                && let Some(layout) = Layout::of(id.size)
            {
                let manifest = Arc::new(manifest);
                self.versions.remember(ServedVersion { share, offered_to, layout, manifest: manifest.clone() });
                return Ok(Some(OfferedManifest { layout, manifest, zeros }));
            }
        }
        let served = self.served(to, hash)?.into_iter().next();
        Ok(served.map(|ServedVersion { share, layout, manifest, .. }| OfferedManifest {
            layout,
            manifest,
            zeros: share.zeros,
        }))
    }

    /// Opens a file and reads its first piece.
    pub(super) fn open(&self, to: &UserName, get: &Get, piece_bytes: u64) -> Result<OpenShare, Unopened> {
        let failed = |error: ProfileError| Unopened::Failed(error.into());
        let mut failures = Failures::default();
        let mut differing = Vec::new();
        let mut search = self.search(to, get.wanted());
        while let Some(RecordedCopy { share, .. }) = search.next().map_err(failed)? {
            let Some(attempt) = self.try_file(share, None, true, &mut failures)? else { continue };
            if attempt.reason == Some(StaleReason::Metadata) {
                if differing.len() < DIFFERING {
                    differing.push(attempt);
                }
            } else if let Some(open) = self.begin(to, attempt, get, piece_bytes, &mut failures)? {
                search.found(&open.name);
                return Ok(open);
            }
        }
        self.add_served(to, get, &mut differing, &mut failures)?;
        for attempt in differing {
            if let Some(open) = self.begin(to, attempt, get, piece_bytes, &mut failures)? {
                return Ok(open);
            }
        }
        let Failures { changed, outdated, unreadable } = failures;
        if !changed.is_empty() {
            return Err(Unopened::Changed(changed));
        }
        if let Some((path, why)) = unreadable {
            self.faults.tell(&path, &why);
            let failure = ReadFailure::Unreadable(why);
            return Err(Unopened::Refused((failure.code(), failure.message())));
        }
        match Part::find(&self.profile, &get.hash).map_err(failed)?.filter(|part| part.has(&get.groups)) {
            Some(part) => self.begin_part(to, part, get, piece_bytes),
            None if outdated => Err(Unopened::Refused((Code::Stale, ReadFailure::Changed.message()))),
            None => Err(Unopened::Refused(not_found())),
        }
    }

    /// Adds versions that are no longer recorded, that of the name asked for first.
    fn add_served(
        &self,
        to: &UserName,
        get: &Get,
        attempts: &mut Vec<Attempt>,
        failures: &mut Failures,
    ) -> Result<(), Unopened> {
        let mut served = self.served(to, &get.hash).map_err(|error| Unopened::Failed(error.into()))?;
        served.sort_by_key(|version| Some(&version.share.name) != get.name.as_ref());
        for ServedVersion { share, manifest, .. } in served {
            let is_tried = attempts.iter().any(|attempt| attempt.share.name == share.name)
                || failures.changed.iter().any(|(name, _)| *name == share.name);
            if !is_tried {
                attempts.extend(self.try_file(share, Some(manifest), false, failures)?);
            }
        }
        Ok(())
    }

    /// Opens a file; one that isn't there is passed over.
    fn try_file(
        &self,
        share: Share,
        manifest: Option<Arc<Manifest>>,
        is_recorded: bool,
        failures: &mut Failures,
    ) -> Result<Option<Attempt>, Unopened> {
        let opened = self.open_patiently(&share.path).and_then(|file| Ok((id_of(&file)?, file)));
        let (id, file) = match opened {
            Ok((Some(id), file)) if self.private.reason_of_open(&share.path, &file).is_none() => (id, file),
            Ok(_) => return Ok(None),
            Err(why) if is_gone(&why) => return Ok(None),
            Err(why) if is_out_of_descriptors(&why) => {
                let message = "too many files are open there: try again later".to_owned();
                return Err(Unopened::Refused((Code::Busy, message)));
            }
            Err(why) => {
                match failure(&why) {
                    ReadFailure::Changed => failures.outdated = true,
                    ReadFailure::Unreadable(why) => drop(failures.unreadable.get_or_insert((share.path, why))),
                }
                return Ok(None);
            }
        };
        let change = share.id.change_to(&id);
        let reason = if change == VersionChange::Content { StaleReason::Metadata } else { StaleReason::Content };
        let trusted = Some(id).filter(|_| is_recorded && change == VersionChange::None);
        Ok(Some(Attempt { share, file, trusted, manifest, reason: is_recorded.then_some(reason) }))
    }

    /// Reads the first piece of a file; `None`, with its reason among the failures, unless it is what is offered.
    fn begin(
        &self,
        to: &UserName,
        attempt: Attempt,
        get: &Get,
        piece_bytes: u64,
        failures: &mut Failures,
    ) -> Result<Option<OpenShare>, Unopened> {
        let Attempt { share, file, trusted, manifest, reason } = attempt;
        let layout = Layout::of(share.id.size).ok_or_else(|| Unopened::Refused(not_found()))?;
        let known = match manifest {
            None if layout.groups() == 1 => Some(Arc::new(Manifest::new(vec![*get.hash.as_bytes()]))),
            None => self.versions.with_hash(to, &get.hash).into_iter().next().map(|version| version.manifest),
            known => known,
        };
        let recorded = || ManifestSource::Recorded { profile: self.profile.clone(), to: to.clone(), hash: get.hash };
        let manifest = known.map_or_else(recorded, ManifestSource::Known);
        let proved = Some(ProofNote { name: share.name.clone(), hash: get.hash, versions: self.proved.clone() });
        let proof = Proof { layout, manifest, trusted, proved };
        let (name, path, zeros) = (share.name.clone(), share.path.clone(), share.zeros);
        match self.read(to, share.name, true, share.path, file, proof, get, piece_bytes).map_err(Unopened::Refused)? {
            Ok(open) => return Ok(Some(OpenShare { zeros, ..open })),
            Err(ReadFailure::Changed) => match reason {
                Some(reason) => failures.changed.push((name, reason)),
                None => failures.outdated = true,
            },
            Err(ReadFailure::Unreadable(why)) => drop(failures.unreadable.get_or_insert((path, why))),
        }
        Ok(None)
    }

    fn begin_part(&self, to: &UserName, part: Part, get: &Get, piece_bytes: u64) -> Result<OpenShare, Unopened> {
        let Part { share, file, state } = part;
        let manifest = ManifestSource::Known(Arc::new(state.manifest));
        let proof = Proof { layout: share.layout, manifest, trusted: None, proved: None };
        let opened = self.read(to, share.name, false, share.part, file, proof, get, piece_bytes);
        let opened = opened.map_err(Unopened::Refused)?;
        opened.map_err(|failure| Unopened::Refused((failure.code(), failure.message())))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one thing, each of another kind")]
    fn read(
        &self,
        to: &UserName,
        name: FileName,
        is_whole: bool,
        path: PathBuf,
        file: File,
        proof: Proof,
        get: &Get,
        piece_bytes: u64,
    ) -> Result<Result<OpenShare, ReadFailure>, Refusal> {
        let layout = proof.layout;
        let ranges = byte_ranges(&layout, &get.groups)?;
        let bytes = ranges.iter().map(|(start, end)| end - start).sum();
        let (buffers, faults) = (self.pieces.clone(), self.faults.clone());
        let mut rest = Ranges::new(file, path, proof, ranges, piece_bytes, buffers, faults);
        let first = match rest.read() {
            Some(Err(failure)) => return Ok(Err(failure)),
            first => first,
        };
        let pieces = ReadAhead::new(first, rest, self.readers.clone(), to.clone());
        let (zeros, groups) = (ZeroRuns::default(), get.groups.clone());
        Ok(Ok(OpenShare { name, hash: get.hash, is_whole, layout, zeros, groups, bytes, pieces }))
    }

    /// Opens a file, and waits for a descriptor if there is none.
    fn open_patiently(&self, path: &Path) -> io::Result<File> {
        let until = Instant::now() + DESCRIPTOR_PATIENCE;
        loop {
            match open_regular(path) {
                Err(why) if is_out_of_descriptors(&why) => {
                    self.tell_lack(&why);
                    if Instant::now() >= until {
                        return Err(why);
                    }
                    std::thread::sleep(LOOK_AGAIN);
                }
                opened => return opened,
            }
        }
    }

    fn tell_lack(&self, why: &io::Error) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            *told = Some(Instant::now());
            let limit = open_files_limit().map_or_else(String::new, |limit| format!(" ({limit} at once)"));
            tracing::warn!("no more files can be opened{limit}, those who fetch wait: {why}; `ulimit -n` says more");
        }
    }
}

/// The reasons why files that may have what is asked for weren't sent.
#[derive(Default)]
struct Failures {
    /// Recorded ones that are to be hashed again.
    changed: Vec<(FileName, StaleReason)>,
    /// Another version than the recorded one isn't there any more.
    outdated: bool,
    /// The first that can't be read, and why.
    unreadable: Option<(PathBuf, String)>,
}

/// A file that may have what is asked for.
struct Attempt {
    share: Share,
    file: File,
    /// Its metadata, if they are those that were recorded.
    trusted: Option<FileId>,
    manifest: Option<Arc<Manifest>>,
    /// Why it is to be hashed again if it hasn't; `None` for a version that isn't the recorded one.
    reason: Option<StaleReason>,
}

fn byte_ranges(layout: &Layout, ranges: &[(u32, u32)]) -> Result<VecDeque<(u64, u64)>, Refusal> {
    let wrong = |message: &str| (Code::Protocol, message.to_owned());
    if ranges.len() > RANGES_PER_GET {
        return Err(wrong("too many ranges"));
    }
    let bytes = |&(start, end): &(u32, u32)| {
        if start >= end || end > layout.groups() {
            return Err(wrong("a range is outside the file"));
        }
        Ok((layout.offset(start), layout.offset(start) + layout.len_of_range(start, end)))
    };
    let ranges: Result<Vec<_>, _> = ranges.iter().map(bytes).collect();
    Ok(ranges?.into_iter().filter(|(start, end)| start < end).collect())
}
