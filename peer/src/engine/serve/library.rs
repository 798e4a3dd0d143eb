//! The share library: answers requests about shared files, checked at each request against the disk and against the
//! audiences that the requester belongs to. Who may not have a file learns no more than who asks for one that isn't there.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | lookups at once: each takes a thread, and a disk that hangs keeps it | 128, 4 of one user; 32 of one disk ([`super::disk_slots`]) | the request waits |
//! | shares that are checked for one page | 1,000, 200 at a time | the page ends; for a reader that takes no empty page, the walk goes on, and others get the disk in between |
//! | missing folders that are remembered | 64, for 5 s | checked again |

mod share_listing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use localization::in_english;
use shared::peer::{FileStat, PeerErrorCode, PeerReply};
use shared::{ContentHash, FileName, GroupLayout, GroupSet, Manifest, RoomId, UserName};

use super::copy_search::ContentQuery;
use super::disk_slots::{DiskSlots, DiskVisit};
use super::gone_paths::GonePaths;
use super::offered_partial::OfferedPartial;
use super::range_reader::ReadFailure;
use super::read_ahead::OpenShare;
use super::request_refusal::{RequestRefusal, internal_refusal, not_found_refusal, unauthorised_refusal};
use super::served_versions::ProvedVersions;
use super::share_access::{FileRequester, RoomMembership, ShareAccess};
use super::share_opener::{GroupRequest, OfferedManifest, OpenFailure, ShareOpener};
use super::stale_shares::{StaleAnswer, StaleReason, StaleShares};
use crate::engine::fair_slots::{FairSlotBounds, FairSlots};
use crate::engine::share::{ShareFreshness, freshness, is_gone, is_owner_only};
use crate::engine::{Error, run_blocking};
use crate::profile::{Profile, Share};
use crate::sys::{open_regular, plain_message};

/// Database and disk accesses at once that peers may cause.
const LOOKUP_SLOTS: FairSlotBounds = FairSlotBounds { total: 128, per_key: 4 };
/// Those that touch one disk.
const DISK_SLOTS: FairSlotBounds = FairSlotBounds { total: 32, per_key: 4 };

/// The result of looking up a name.
enum NameLookup {
    Whole(Share),
    /// Size or time differ from the record, so that the content may be another; `grown`: the file is larger.
    Changed {
        share: Share,
        grown: bool,
    },
    Partial(OfferedPartial),
    Unreadable(String),
    NotShared,
}

/// The wire form of a manifest that others use as well.
struct ManifestBytes(Arc<Manifest>);

impl AsRef<[u8]> for ManifestBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The shares of a profile, checked against the disk and the requester whenever one is requested.
#[derive(Debug)]
pub struct ShareLibrary {
    profile: Profile,
    rooms: Arc<dyn RoomMembership>,
    /// Gets the shares that were found changed, to be hashed again.
    stale: Arc<StaleShares>,
    opener: ShareOpener,
    gone_folders: Arc<GonePaths>,
    lookup_slots: FairSlots<UserName>,
    disk_slots: Arc<DiskSlots>,
}

impl ShareLibrary {
    /// Returns the library of `profile`; changed shares are reported to `stale`.
    pub fn new(profile: Profile, rooms: Arc<dyn RoomMembership>, stale: Arc<StaleShares>) -> Self {
        let opener = ShareOpener::new(profile.clone());
        let (lookup_slots, disk_slots) = (FairSlots::new(LOOKUP_SLOTS), Arc::new(DiskSlots::new(DISK_SLOTS)));
        Self { profile, rooms, stale, opener, gone_folders: Arc::default(), lookup_slots, disk_slots }
    }

    /// Does `work` for a requester on a thread that may block; again when a disk that it needs was full and has room. The
    /// access is that of the moment: to all that the requester may have, or with `room` to that room's files.
    async fn look<T: Send + 'static>(
        &self,
        by: &FileRequester,
        room: Option<RoomId>,
        work: impl Fn(&ShareAccess, &DiskVisit<'_>) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let work = Arc::new(work);
        let mut held = None;
        loop {
            let slot = self.lookup_slots.acquire(&by.user).await;
            let (work, disks, by_whom, disk) = (work.clone(), self.disk_slots.clone(), by.clone(), held.take());
            let (profile, rooms) = (self.profile.clone(), self.rooms.clone());
            let done = run_blocking(move || {
                // Held for as long as the disk takes, whoever still waits for it. Free again before the wait for a disk:
                // whoever waits keeps nothing from others.
                let _slot = slot;
                let access = ShareAccess::of(&profile, &*rooms, &by_whom, room)?;
                let visit = DiskVisit::new(&disks, access.user(), disk);
                let outcome = work(&access, &visit);
                Ok((outcome, visit.into_blocked()))
            });
            let (outcome, blocked) = done.await?;
            match blocked {
                Some(disk) if outcome.is_ok() => held = Some(self.disk_slots.acquire(disk, &by.user).await),
                _ => return outcome,
            }
        }
    }

    /// Returns the files whose content was proved although their metadata differ from the record.
    pub const fn proved(&self) -> &Arc<ProvedVersions> {
        self.opener.proved()
    }

    /// Returns the description of a share or a partial file; with `room`, of one for that room. Of several audiences that
    /// have the name, the most exact one counts.
    ///
    /// # Errors
    /// The code and words of the error reply: not shared, changed or unreadable.
    pub async fn stat(
        &self,
        by: &FileRequester,
        room: Option<RoomId>,
        name: FileName,
    ) -> Result<PeerReply, RequestRefusal> {
        let (profile, opener) = (self.profile.clone(), self.opener.clone());
        let found = self.look(by, room, move |access, visit| {
            let mut found = None;
            for audience in access.audiences() {
                found = profile.share(audience, &name)?;
                if found.is_some() {
                    break;
                }
            }
            // For a full disk this answer doesn't count: `look` waits for it, and does all again.
            if found.as_ref().is_some_and(|share| !visit.enter(&share.path) || opener.is_private(share)) {
                return Ok((NameLookup::NotShared, false));
            }
            let owner_only = found.as_ref().is_some_and(is_owner_only);
            let named = match found.map(|share| (freshness(&share), share)) {
                Some((ShareFreshness::Fresh | ShareFreshness::Touched, share)) => NameLookup::Whole(share),
                Some((ShareFreshness::Changed { grown }, share)) => match open_regular(&share.path) {
                    // Opened to report an unreadable file at once: its metadata say nothing about that.
                    Err(why) if !is_gone(&why) => {
                        opener.faults().log(&share.path, &why);
                        NameLookup::Unreadable(in_english(|| plain_message(&why)))
                    }
                    _ => NameLookup::Changed { share, grown },
                },
                Some((ShareFreshness::Missing, _)) => NameLookup::NotShared,
                Some((ShareFreshness::Unreadable(why), share)) => {
                    opener.faults().log(&share.path, &why);
                    NameLookup::Unreadable(why)
                }
                None => OfferedPartial::open_first(profile.partials_named(&name)?, access, visit)
                    .map_or(NameLookup::NotShared, NameLookup::Partial),
            };
            Ok((named, owner_only))
        });
        let (found, owner_only) = found.await.map_err(internal_refusal)?;
        let found = match found {
            // Unchanged metadata don't help when a reader found other content.
            NameLookup::Whole(share) if self.stale.is_disproved(&share.name) => {
                NameLookup::Changed { share, grown: false }
            }
            found => found,
        };
        match found {
            NameLookup::Whole(share) => Ok(PeerReply::Stat(stat_of(&share, owner_only))),
            NameLookup::Partial(part) => Ok(PeerReply::Stat(part.stat())),
            NameLookup::Changed { share, grown } => self.answer_changed(by, share, grown, owner_only).await,
            NameLookup::Unreadable(why) => Err(read_refusal(&ReadFailure::Unreadable(why))),
            NameLookup::NotShared => Err(not_found_refusal()),
        }
    }

    /// Answers for a changed share: describes it as it was hashed last if that is no older than the question.
    async fn answer_changed(
        &self,
        by: &FileRequester,
        share: Share,
        grown: bool,
        owner_only: bool,
    ) -> Result<PeerReply, RequestRefusal> {
        match self.stale.answer_for(&by.user, &share.name, grown, Instant::now()) {
            StaleAnswer::Described => {
                // Remembers this version: the file may be hashed again before its manifest is asked for.
                let known = self.manifest(by, share.hash, Some(share.name.clone())).await;
                known.map_err(|_| read_refusal(&ReadFailure::Changed))?;
                Ok(PeerReply::Stat(stat_of(&share, owner_only)))
            }
            StaleAnswer::Unreadable(why) => {
                self.opener.faults().log(&share.path, &why);
                Err(read_refusal(&ReadFailure::Unreadable(why)))
            }
            StaleAnswer::Rehashing => {
                self.stale.add(share.name, StaleReason::Metadata);
                Err(read_refusal(&ReadFailure::Changed))
            }
            // The refresher retries it by itself.
            StaleAnswer::Changing => Err((PeerErrorCode::Stale, "the file changes all the time".to_owned())),
        }
    }

    /// Returns a file's manifest and its bytes; a file called `name` is preferred.
    ///
    /// # Errors
    /// The code and words of the error reply: not shared.
    pub async fn manifest(
        &self,
        by: &FileRequester,
        hash: ContentHash,
        name: Option<FileName>,
    ) -> Result<(PeerReply, Bytes), RequestRefusal> {
        let opener = self.opener.clone();
        let found = self.look(by, None, move |access, visit| {
            match opener.manifest(access, visit, ContentQuery { hash: &hash, name: name.as_ref() })? {
                None => Ok(opener.offered_partial(access, visit, &hash)?),
                offered => Ok(offered),
            }
        });
        let found = found.await.map_err(internal_refusal)?;
        let OfferedManifest { layout, manifest, zeros } = found.ok_or_else(not_found_refusal)?;
        let (size, group_size, groups) = (layout.size(), layout.group_bytes(), layout.group_count());
        // Not copied: however many ask for a large file, its manifest is in memory once.
        let bytes = Bytes::from_owner(ManifestBytes(manifest));
        Ok((PeerReply::Manifest { hash, size, group_size, groups, zeros: zeros.runs().to_vec() }, bytes))
    }

    /// Returns the set of groups that are here of a file; a file called `name` is preferred.
    ///
    /// # Errors
    /// The code and words of the error reply: not shared.
    pub async fn have(
        &self,
        by: &FileRequester,
        hash: ContentHash,
        name: Option<FileName>,
    ) -> Result<(PeerReply, Bytes), RequestRefusal> {
        let (profile, opener) = (self.profile.clone(), self.opener.clone());
        let found = self.look(by, None, move |access, visit| {
            let query = ContentQuery { hash: &hash, name: name.as_ref() };
            if let Some((share, true)) = opener.find_copy(access, visit, query)? {
                return Ok(GroupLayout::of(share.version.size)
                    .map(|layout| (layout.group_count(), GroupSet::full(layout.group_count()))));
            }
            Ok(OfferedPartial::find(&profile, access, visit, &hash)?
                .map(|part| (part.share.layout.group_count(), part.state.present)))
        });
        let (groups, set) = found.await.map_err(internal_refusal)?.ok_or_else(not_found_refusal)?;
        Ok((PeerReply::Have { hash, groups }, Bytes::copy_from_slice(set.as_bytes())))
    }

    /// Opens files to send some of their groups in pieces of `piece_bytes`: the first, and further ones while the
    /// bytes of all are fewer than `batch_bytes`. Each result is an open file or an error reply: not shared, changed, or invalid ranges. The
    /// second value holds the requests that were not reached.
    ///
    /// # Errors
    /// [`PeerErrorCode::Internal`] when nothing can be said about any of them.
    pub(super) async fn open(
        &self,
        by: &FileRequester,
        gets: VecDeque<GroupRequest>,
        piece_bytes: u64,
        batch_bytes: u64,
    ) -> Result<(Vec<Result<OpenShare, RequestRefusal>>, VecDeque<GroupRequest>), PeerErrorCode> {
        let (profile, opener) = (self.profile.clone(), self.opener.clone());
        let opened = self.look(by, None, move |access, visit| {
            // Kept, as `look` may do all of this again.
            let mut gets = gets.clone();
            // An error refuses as well, but not for good.
            if profile.is_blocked(access.user())? {
                return Ok((
                    gets.iter().map(|_| Err(OpenFailure::Refused(unauthorised_refusal()))).collect(),
                    VecDeque::new(),
                ));
            }
            let mut opened = Vec::with_capacity(gets.len());
            let mut read = 0;
            while read < batch_bytes
                && let Some(get) = gets.pop_front()
            {
                let open = opener.open(access, visit, &get, piece_bytes);
                if open.is_ok() {
                    visit.note_found();
                } else if visit.is_blocked() && !opened.is_empty() {
                    // What is open goes out first, and this one is asked for again.
                    gets.push_front(get);
                    visit.note_found();
                    break;
                }
                read += open.as_ref().map_or(0, |open| open.bytes);
                opened.push(open);
            }
            Ok((opened, gets))
        });
        let (opened, rest) = opened.await.map_err(|error| internal_refusal(error).0)?;
        let opened = opened.into_iter().map(|opened| opened.map_err(|unopened| self.refusal_of(unopened))).collect();
        Ok((opened, rest))
    }

    fn refusal_of(&self, unopened: OpenFailure) -> RequestRefusal {
        match unopened {
            OpenFailure::Changed(shares) => {
                shares.into_iter().for_each(|(name, reason)| self.stale.add(name, reason));
                read_refusal(&ReadFailure::Changed)
            }
            OpenFailure::Refused(refusal) => refusal,
            OpenFailure::Failed(error) => internal_refusal(error),
        }
    }

    /// Records that a share has other content than the one on record, as its sender found.
    pub fn report_changed(&self, name: FileName) {
        self.stale.add(name, StaleReason::Content);
    }
}

/// Splits nanoseconds since 1970 into whole seconds and the rest.
fn split_seconds(ns: i64) -> (i64, u32) {
    // Rounded down, so that times before 1970 have a positive rest too.
    (ns.div_euclid(1_000_000_000), u32::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or(0))
}

fn stat_of(share: &Share, owner_only: bool) -> FileStat {
    let (mtime, mtime_ns) = split_seconds(share.version.mtime_ns);
    FileStat {
        name: share.name.clone(),
        size: share.version.size,
        hash: share.hash,
        group_size: GroupLayout::of(share.version.size).map_or(0, |layout| layout.group_bytes()),
        mtime,
        mtime_ns,
        executable: share.executable,
        owner_only,
        restricted: !share.audience.is_public(),
        partial: false,
        stale: false,
        zero_bytes: GroupLayout::of(share.version.size).map_or(0, |layout| share.zeros.byte_len(&layout)),
    }
}

fn read_refusal(failure: &ReadFailure) -> RequestRefusal {
    (failure.code(), failure.message())
}
