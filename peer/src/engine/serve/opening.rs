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

use super::library::{Refusal, not_found};
use super::part::Part;
use super::pieces::Pieces;
use super::reading::{ManifestSource, OpenShare, Proof, ProofNote, Ranges, ReadAhead, ReadFailure, failure};
use super::stale::StaleReason;
use super::versions::{ProvedVersions, ServedVersion, ServedVersions};
use crate::engine::Error;
use crate::engine::private_data::PrivateData;
use crate::engine::share::is_gone;
use crate::profile::{FileHash, Profile, ProfileError, Share};
use crate::sys::{FileId, VersionChange, id_of, is_out_of_descriptors, open_files_limit, open_regular};

/// For a descriptor: those that are in use come free when a few groups were sent.
const DESCRIPTOR_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Between two words about that in the log.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A request for groups of a file.
#[derive(Debug, Clone)]
pub(super) struct Get {
    pub(super) hash: ContentHash,
    /// Half-open ranges.
    pub(super) groups: Vec<(u32, u32)>,
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
    /// Never served, whatever the catalogue says.
    private: Arc<PrivateData>,
    /// When a lack of descriptors was last told.
    told: Arc<Mutex<Option<Instant>>>,
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
        let (versions, proved, pieces) = (Arc::default(), Arc::default(), Pieces::default());
        let private = Arc::new(PrivateData::of(&profile));
        Self { profile, versions, proved, pieces, private, told: Arc::default() }
    }

    /// Whether a share is never served, whatever the catalogue says.
    pub(super) fn is_private(&self, share: &Share) -> bool {
        self.private.covers(share)
    }

    /// Files that were found to be the same although their metadata differ.
    pub(super) const fn proved(&self) -> &Arc<ProvedVersions> {
        &self.proved
    }

    /// The shares that are recorded with this content and that `to` may get; whether only they may.
    pub(super) fn recorded(
        &self,
        to: &UserName,
        hash: &ContentHash,
    ) -> Result<Vec<(Share, Option<UserName>)>, ProfileError> {
        let shares = self.profile.shares_with_hash(hash)?.into_iter().map(|share| (share, None));
        let offers = self.profile.offers_with_hash(to, hash)?.into_iter().map(|share| (share, Some(to.clone())));
        Ok(shares.chain(offers).filter(|(share, _)| !self.is_private(share)).collect())
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
    pub(super) fn manifest(&self, to: &UserName, hash: &ContentHash) -> Result<Option<OfferedManifest>, ProfileError> {
        if let Some((share, offered_to)) = self.recorded(to, hash)?.into_iter().next() {
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
        let Found { attempts, mut unreadable } = self.find(to, &get.hash)?;
        let (mut changed, mut outdated) = (Vec::new(), false);
        for attempt in attempts {
            let (name, reason) = (attempt.share.name.clone(), attempt.reason);
            match (self.begin(to, attempt, get, piece_bytes)?, reason) {
                (Ok(open), _) => return Ok(open),
                (Err(ReadFailure::Changed), Some(reason)) => changed.push((name, reason)),
                (Err(ReadFailure::Changed), None) => outdated = true,
                (Err(ReadFailure::Unreadable(why)), _) => unreadable = Some(ReadFailure::Unreadable(why)),
            }
        }
        if !changed.is_empty() {
            return Err(Unopened::Changed(changed));
        }
        if let Some(failure) = unreadable {
            return Err(Unopened::Refused((failure.code(), failure.message())));
        }
        match Part::find(&self.profile, &get.hash).map_err(failed)?.filter(|part| part.has(&get.groups)) {
            Some(part) => self.begin_part(part, get, piece_bytes),
            None if outdated => Err(Unopened::Refused((Code::Stale, ReadFailure::Changed.message()))),
            None => Err(Unopened::Refused(not_found())),
        }
    }

    /// All files that may have this content, the surest first.
    fn find(&self, to: &UserName, hash: &ContentHash) -> Result<Found, Unopened> {
        let failed = |error: ProfileError| Unopened::Failed(error.into());
        let mut found = Found { attempts: Vec::new(), unreadable: None };
        for (share, _) in self.recorded(to, hash).map_err(failed)? {
            self.try_file(share, None, true, &mut found)?;
        }
        if found.attempts.iter().all(|attempt| attempt.trusted.is_none()) {
            for ServedVersion { share, manifest, .. } in self.served(to, hash).map_err(failed)? {
                let known = |attempt: &Attempt| attempt.share.name == share.name && attempt.reason.is_some();
                if !found.attempts.iter().any(known) {
                    self.try_file(share, Some(manifest), false, &mut found)?;
                }
            }
        }
        found.attempts.sort_by_key(|attempt| attempt.trusted.is_none());
        Ok(found)
    }

    /// Opens a file; one that isn't there is passed over.
    fn try_file(
        &self,
        share: Share,
        manifest: Option<Arc<Manifest>>,
        is_recorded: bool,
        found: &mut Found,
    ) -> Result<(), Unopened> {
        let opened = self.open_patiently(&share.path).and_then(|file| Ok((id_of(&file)?, file)));
        let (id, file) = match opened {
            Ok((Some(id), file)) if self.private.reason_of_open(&share.path, &file).is_none() => (id, file),
            Ok(_) => return Ok(()),
            Err(why) if is_gone(&why) => return Ok(()),
            Err(why) if is_out_of_descriptors(&why) => {
                let message = "too many files are open there: try again later".to_owned();
                return Err(Unopened::Refused((Code::Busy, message)));
            }
            Err(why) => {
                tracing::error!("{} can't be read: {why}", share.path.display());
                found.unreadable = Some(failure(&why));
                return Ok(());
            }
        };
        let change = share.id.change_to(&id);
        let reason = if change == VersionChange::Content { StaleReason::Metadata } else { StaleReason::Content };
        let trusted = Some(id).filter(|_| is_recorded && change == VersionChange::None);
        found.attempts.push(Attempt { share, file, trusted, manifest, reason: is_recorded.then_some(reason) });
        Ok(())
    }

    /// Reads the first piece of a file, as far as it is what is offered.
    fn begin(
        &self,
        to: &UserName,
        attempt: Attempt,
        get: &Get,
        piece_bytes: u64,
    ) -> Result<Result<OpenShare, ReadFailure>, Unopened> {
        let Attempt { share, file, trusted, manifest, .. } = attempt;
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
        self.read(share.name, true, share.path, file, proof, get, piece_bytes).map_err(Unopened::Refused)
    }

    fn begin_part(&self, part: Part, get: &Get, piece_bytes: u64) -> Result<OpenShare, Unopened> {
        let Part { share, file, state } = part;
        let manifest = ManifestSource::Known(Arc::new(state.manifest));
        let proof = Proof { layout: share.layout, manifest, trusted: None, proved: None };
        let opened = self.read(share.name, false, share.part, file, proof, get, piece_bytes);
        let opened = opened.map_err(Unopened::Refused)?;
        opened.map_err(|failure| Unopened::Refused((failure.code(), failure.message())))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one thing, each of another kind")]
    fn read(
        &self,
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
        let mut rest = Ranges::new(file, path, proof, ranges, piece_bytes, self.pieces.clone());
        let first = match rest.read() {
            Some(Err(failure)) => return Ok(Err(failure)),
            first => first,
        };
        let pieces = ReadAhead::new(first, rest);
        Ok(Ok(OpenShare { name, hash: get.hash, is_whole, layout, bytes, pieces }))
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

/// Files that may have what is asked for.
struct Found {
    attempts: Vec<Attempt>,
    /// Why another one can't be read.
    unreadable: Option<ReadFailure>,
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
