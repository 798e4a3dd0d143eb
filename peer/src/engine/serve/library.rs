//! The share library: answers requests about shared files, checked at each request against the disk and against the
//! audiences that the requester belongs to. Who may not have a file learns no more than who asks for one that isn't there.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | lookups at once: each takes a thread, and a disk that hangs keeps it | 128, 4 of one user; 32 of one disk ([`super::disk_slots`]) | the request waits |
//! | shares that are checked for one page | 1,000, 200 at a time | the page ends; for a reader that takes no empty page, the walk goes on, and others get the disk in between |
//! | missing folders that are remembered | 64, for 5 s | checked again |

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use shared::limits::MAX_FRAME_BYTES;
use shared::peer::{FileStat, FolderTime, ListEntry, PeerErrorCode, PeerReply};
use shared::{ContentHash, FileName, GroupLayout, GroupSet, Manifest, RoomId, UserName};

use super::copy_search::ContentQuery;
use super::disk_slots::{DiskSlots, DiskVisit};
use super::gone_paths::GonePaths;
use super::offered_partial::OfferedPartial;
use super::range_reader::{OpenShare, ReadFailure};
use super::request_refusal::{RequestRefusal, internal_refusal, not_found_refusal, unauthorised_refusal};
use super::served_versions::ProvedVersions;
use super::share_access::{FileRequester, RoomMembership, ShareAccess};
use super::share_opener::{GroupRequest, OfferedManifest, OpenFailure, ShareOpener};
use super::stale_shares::{StaleAnswer, StaleReason, StaleShares};
use crate::engine::fair_slots::{FairSlotBounds, FairSlots};
use crate::engine::share::{ShareFreshness, freshness, is_gone, is_owner_only};
use crate::engine::{Error, run_blocking};
use crate::profile::{Profile, Share, SharePage};
use crate::sys::{open_regular, plain_message};

/// Files of one page. A description usually takes at most 300 bytes.
const PAGE: usize = 200;
/// Shares that are checked for one answer, however few of them are on the disk.
const MAX_EXAMINED: usize = 1000;
/// Folders of one page.
const FOLDERS: usize = 500;
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
            let look = self.lookup_slots.acquire(&by.user).await;
            let (work, disks, by_whom, disk) = (work.clone(), self.disk_slots.clone(), by.clone(), held.take());
            let (profile, rooms) = (self.profile.clone(), self.rooms.clone());
            let done = run_blocking(move || {
                let access = ShareAccess::of(&profile, &*rooms, &by_whom, room)?;
                let visit = DiskVisit::new(&disks, access.user(), disk);
                let outcome = work(&access, &visit);
                Ok((outcome, visit.into_blocked()))
            });
            let (outcome, blocked) = done.await?;
            // Free again before the wait for a disk: whoever waits keeps nothing from others.
            drop(look);
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

    /// Returns a page of shares as they are on the disk now; with `room`, of those for that room. The page may be empty, with a cursor for the next one,
    /// only for a reader that announced `reads_empty_pages`.
    pub async fn list(
        &self,
        by: &FileRequester,
        room: Option<RoomId>,
        prefix: String,
        cursor: String,
        reads_empty_pages: bool,
    ) -> Result<PeerReply, RequestRefusal> {
        let (mut after, mut looked_at) = (cursor, 0);
        let page = loop {
            let look = (self.profile.clone(), self.opener.clone(), self.gone_folders.clone());
            let (prefix, cursor) = (prefix.clone(), after);
            // One blocking task for each step: other requests wait for one step only, not for the whole walk.
            let page =
                self.look(by, room, move |access, visit| live_page(&look, access, visit, &prefix, &cursor)).await;
            let page = page.map_err(internal_refusal)?;
            looked_at += PAGE;
            let ends = !page.more || !page.shares.is_empty() || (reads_empty_pages && looked_at >= MAX_EXAMINED);
            if ends {
                break page;
            }
            after = page.last;
        };
        let mut files = Vec::with_capacity(page.shares.len());
        let (mut last, mut more) = (page.last, page.more);
        // Room for the fields around the list.
        let mut bytes = 64;
        for LiveShare { share, stale, owner_only } in page.shares {
            let stat = FileStat { stale, ..stat_of(&share, owner_only) };
            // An upper bound: names may be long, and full of characters that JSON escapes.
            bytes += 224 + stat.name.as_str().len() * 2;
            if bytes > MAX_FRAME_BYTES {
                // This share begins the next page, so the cursor is the one before it.
                more = true;
                last = files.last().map_or(last, |last: &FileStat| last.name.as_str().to_owned());
                break;
            }
            files.push(stat);
            if stale {
                self.stale.add(share.name, StaleReason::Metadata);
            }
        }
        let next = more.then_some(last);
        Ok(PeerReply::FileList { files: files.into_iter().map(ListEntry::Valid).collect(), next })
    }

    /// Returns a page of the empty folders; with `room`, of those for that room.
    pub async fn folders(
        &self,
        by: &FileRequester,
        room: Option<RoomId>,
        prefix: String,
        cursor: String,
    ) -> Result<PeerReply, RequestRefusal> {
        let profile = self.profile.clone();
        let found = self.look(by, room, move |access, _| {
            Ok(profile.empty_folders_page(access.audiences(), &prefix, &cursor, FOLDERS)?)
        });
        let found = found.await;
        let (folders, next) = fit_page(found.map_err(internal_refusal)?, |name| name);
        Ok(PeerReply::FolderList { folders, next })
    }

    /// Returns a page of all folders with their times; with `room`, of those for that room.
    pub async fn folder_times(
        &self,
        by: &FileRequester,
        room: Option<RoomId>,
        prefix: String,
        cursor: String,
    ) -> Result<PeerReply, RequestRefusal> {
        let profile = self.profile.clone();
        let found = self.look(by, room, move |access, _| {
            Ok(profile.folder_times_page(access.audiences(), &prefix, &cursor, FOLDERS)?)
        });
        let described = |(name, mtime_ns)| {
            let (mtime, mtime_ns) = split_seconds(mtime_ns);
            FolderTime { name, mtime, mtime_ns }
        };
        let found = found.await.map_err(internal_refusal)?.into_iter().map(described).collect();
        let (folders, next) = fit_page(found, |time: &FolderTime| &time.name);
        Ok(PeerReply::FolderTimes { folders, next })
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
                        NameLookup::Unreadable(plain_message(&why))
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

    /// Opens files to send some of their groups in pieces of `piece_bytes`: the first, and further ones while all their
    /// bytes fit a piece. Each result is an open file or an error reply: not shared, changed, or invalid ranges. The
    /// second value holds the requests that were not reached.
    ///
    /// # Errors
    /// [`PeerErrorCode::Internal`] when nothing can be said about any of them.
    pub(super) async fn open(
        &self,
        by: &FileRequester,
        gets: VecDeque<GroupRequest>,
        piece_bytes: u64,
    ) -> Result<(Vec<Result<OpenShare, RequestRefusal>>, VecDeque<GroupRequest>), PeerErrorCode> {
        let (profile, opener) = (self.profile.clone(), self.opener.clone());
        let opened = self.look(by, None, move |access, visit| {
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
            while read < piece_bytes
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

/// A page of shares as they are on the disk now.
struct LivePage {
    shares: Vec<LiveShare>,
    /// The last name that was checked, the cursor of the next page.
    last: String,
    /// True if more names follow.
    more: bool,
}

struct LiveShare {
    share: Share,
    /// True if it changed since it was hashed.
    stale: bool,
    /// True if only its owner may read it here, so that a copy must not be more readable.
    owner_only: bool,
}

/// Returns those of the next shares that are on the disk. Blocking.
fn live_page(
    (profile, opener, gone): &(Profile, ShareOpener, Arc<GonePaths>),
    access: &ShareAccess,
    visit: &DiskVisit<'_>,
    prefix: &str,
    after: &str,
) -> Result<LivePage, Error> {
    let SharePage { shares, more } = profile.shares_page_of(access.audiences(), prefix, after, PAGE)?;
    let last = shares.last().map_or(after, |last| last.name.as_str()).to_owned();
    let live = |share: Share| {
        // The whole page is done again when the disk has room.
        if visit.is_blocked() || gone.covers(&share.path, Instant::now()) || !visit.enter(&share.path) {
            return None;
        }
        let stale = match freshness(&share) {
            ShareFreshness::Missing => {
                gone.note_missing(&share.path, Instant::now());
                return None;
            }
            _ if opener.is_private(&share) => return None,
            // An unreadable file is listed: who requests it learns the reason.
            ShareFreshness::Fresh | ShareFreshness::Touched | ShareFreshness::Unreadable(_) => false,
            ShareFreshness::Changed { .. } => true,
        };
        // As it is now, not as recorded: a change of mode alone causes no new hash.
        let owner_only = is_owner_only(&share);
        Some(LiveShare { share, stale, owner_only })
    };
    Ok(LivePage { shares: shares.into_iter().filter_map(live).collect(), last, more })
}

/// Returns as many folders of a page as fit a frame, and the cursor of the next page if there is one.
fn fit_page<T>(found: Vec<T>, name: impl Fn(&T) -> &FileName) -> (Vec<ListEntry<T>>, Option<String>) {
    // An upper bound: names may be full of characters that JSON escapes.
    let bytes = |folder: &T| 96 + name(folder).as_str().len() * 2;
    let sums = found.iter().scan(64, |sum, folder| {
        *sum += bytes(folder);
        Some(*sum)
    });
    let count = sums.take_while(|sum| *sum <= MAX_FRAME_BYTES).count();
    let more = count < found.len() || found.len() == FOLDERS;
    let next = found.get(..count).and_then(<[T]>::last).filter(|_| more).map(|last| name(last).as_str().to_owned());
    (found.into_iter().take(count).map(ListEntry::Valid).collect(), next)
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
        partial: false,
        stale: false,
        zero_bytes: GroupLayout::of(share.version.size).map_or(0, |layout| share.zeros.byte_len(&layout)),
    }
}

fn read_refusal(failure: &ReadFailure) -> RequestRefusal {
    (failure.code(), failure.message())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::ops::ControlFlow;
    use std::path::{Path, PathBuf};

    use tokio::task::JoinSet;

    use super::super::share_access::NoRooms;
    use super::super::share_access::tests::{NamedMembers, requester};
    use super::*;
    use crate::engine::share::{RefreshOutcome, refresh, share};
    use crate::profile::Audience;

    fn put(path: &Path, content: &[u8]) {
        File::create(path).unwrap().write_all(content).unwrap();
    }

    fn library_of(profile: Profile) -> ShareLibrary {
        ShareLibrary::new(profile, Arc::new(NoRooms), Arc::default())
    }

    #[tokio::test]
    async fn who_may_not_have_a_file_learns_no_more_than_of_one_that_is_not_there() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("home")).unwrap();
        let (lab, rooms) = (RoomId::from_bytes([1; 16]), Arc::new(NamedMembers::default()));
        let file = home.path().join("slides");
        put(&file, &vec![7; 3 << 20]);
        std::fs::create_dir_all(home.path().join("docs/empty")).unwrap();
        let share_with = |audience: &Audience, paths: &[PathBuf]| {
            share(&profile, audience, paths, None, &mut |_| ControlFlow::Continue(())).unwrap();
        };
        let for_lab = Audience::Room(lab);
        share_with(&for_lab, &[file.clone(), home.path().join("docs")]);
        let name: FileName = "slides".parse().unwrap();
        let hash = profile.share(&for_lab, &name).unwrap().unwrap().hash;
        let library = ShareLibrary::new(profile.clone(), rooms.clone(), Arc::default());
        let (bob, mallory) = (requester("bob"), requester("mallory"));
        let answers = async |by: &FileRequester, room, hash: ContentHash, name: &FileName| {
            let get = GroupRequest { hash, name: Some(name.clone()), groups: vec![(0, 1)] };
            let opened = library.open(by, [get].into(), 1 << 20).await.unwrap().0.remove(0);
            [
                format!("{:?}", library.stat(by, room, name.clone()).await.map(|_| ())),
                format!("{:?}", library.list(by, room, String::new(), String::new(), true).await.unwrap()),
                format!("{:?}", library.folders(by, room, String::new(), String::new()).await.unwrap()),
                format!("{:?}", library.folder_times(by, room, String::new(), String::new()).await.unwrap()),
                format!("{:?}", library.manifest(by, hash, None).await.map(|_| ())),
                format!("{:?}", library.have(by, hash, Some(name.clone())).await.map(|_| ())),
                format!("{:?}", opened.map(|_| ())),
            ]
        };
        let (nothing, nowhere) = (ContentHash::of(b"nothing"), "nowhere".parse().unwrap());
        let unknown = answers(&mallory, None, nothing, &nowhere).await;
        let told = |answers: &[String; 7]| answers.iter().zip(&unknown).filter(|(one, other)| one != other).count();
        rooms.join(lab, &bob);
        for room in [None, Some(lab)] {
            assert_eq!(told(&answers(&bob, room, hash, &name).await), 7);
            assert_eq!(answers(&mallory, room, hash, &name).await, unknown);
        }
        assert_eq!(told(&answers(&bob, Some(RoomId::from_bytes([2; 16])), hash, &name).await), 3, "by the hash alone");
        // Nor has the key of another, or a client that knows no rooms.
        for other in
            [FileRequester { key: mallory.key, ..bob.clone() }, FileRequester { knows_rooms: false, ..bob.clone() }]
        {
            assert_eq!(answers(&other, None, hash, &name).await, unknown);
        }
        // A version that he was told of is not his for ever.
        rooms.leave(lab, &bob);
        assert_eq!(answers(&bob, None, hash, &name).await, unknown);
        // What everybody may have as well stays open to everybody.
        share_with(&Audience::Everybody, std::slice::from_ref(&file));
        assert_eq!(told(&answers(&mallory, None, hash, &name).await), 5, "not the folders");
        assert_eq!(told(&answers(&mallory, Some(lab), hash, &name).await), 3);
    }

    #[tokio::test]
    async fn many_who_ask_for_a_manifest_share_one() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("home")).unwrap();
        let file = home.path().join("film");
        put(&file, &vec![7; 3 << 20]);
        share(&profile, &Audience::Everybody, &[file], None, &mut |_| ControlFlow::Continue(())).unwrap();
        let hash = profile.share(&Audience::Everybody, &"film".parse().unwrap()).unwrap().unwrap().hash;
        let library = library_of(profile);
        let mut answers = Vec::new();
        for user in ["alice", "bob"] {
            answers.push(library.manifest(&requester(user), hash, None).await.unwrap().1);
        }
        assert_eq!(answers[0].len(), 3 * 32);
        assert_eq!(answers[0].as_ptr(), answers[1].as_ptr());
    }

    #[tokio::test]
    async fn what_was_described_of_a_log_can_be_had_after_it_was_hashed_again() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("home")).unwrap();
        let (file, name, alice) = (home.path().join("log"), "log".parse().unwrap(), requester("alice"));
        put(&file, &vec![7; 3 << 20]);
        share(&profile, &Audience::Everybody, std::slice::from_ref(&file), None, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        let (stale, recorded) =
            (Arc::new(StaleShares::default()), profile.share(&Audience::Everybody, &name).unwrap().unwrap());
        let library = ShareLibrary::new(profile.clone(), Arc::new(NoRooms), stale.clone());
        File::options().append(true).open(&file).unwrap().write_all(b"more").unwrap();
        assert_eq!(library.stat(&alice, None, name.clone()).await.unwrap_err().0, PeerErrorCode::Stale);
        stale.note_refreshed(&name, Instant::now(), RefreshOutcome::Done);
        let described = library.stat(&alice, None, name.clone()).await.unwrap();
        assert!(matches!(described, PeerReply::Stat(stat) if stat.hash == recorded.hash));
        refresh(&profile, &recorded, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_ne!(profile.share(&Audience::Everybody, &name).unwrap().unwrap().hash, recorded.hash);
        assert_eq!(library.manifest(&alice, recorded.hash, None).await.unwrap().1.len(), 3 * 32);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_keeps_nobody_from_another() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("home")).unwrap();
        let disks = ["a", "b"].map(|name| home.path().join(name));
        for disk in &disks {
            std::fs::create_dir(disk).unwrap();
            put(&disk.join("film"), b"film");
        }
        share(&profile, &Audience::Everybody, &disks, None, &mut |_| ControlFlow::Continue(())).unwrap();
        let slots = Arc::new(DiskSlots::with_disks(DISK_SLOTS, disks.to_vec()));
        let library = ShareLibrary { disk_slots: slots.clone(), ..library_of(profile) };
        let library = Arc::new(library);
        let user = |number: usize| -> UserName { format!("user{number}").parse().unwrap() };
        let at_a = slots.of_path(&disks[0].join("film"));
        let hanging: Vec<_> =
            (0..DISK_SLOTS.total).map(|number| at_a.try_acquire(&user(number / 4)).unwrap()).collect();
        let ask = |number: usize, name: &'static str| {
            let library = library.clone();
            async move { library.stat(&requester(user(number).as_str()), None, name.parse().unwrap()).await }
        };
        // As many as there are slots of all disks, twice.
        let mut waiting: JoinSet<_> = (0..2 * LOOKUP_SLOTS.total).map(|number| ask(number / 2, "a/film")).collect();
        assert!(ask(1000, "b/film").await.is_ok());
        assert!(ask(0, "b/film").await.is_ok(), "nor those who wait");
        assert!(waiting.try_join_next().is_none());
        drop(hanging);
        assert!(waiting.join_all().await.iter().all(Result::is_ok));
    }
}
