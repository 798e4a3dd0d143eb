//! Pages of the shares and folders that a requester may see.

use std::sync::Arc;
use std::time::Instant;

use shared::limits::MAX_FRAME_BYTES;
use shared::peer::{FileStat, FolderTime, ListEntry, PeerReply};
use shared::{FileName, RoomId};

use super::{ShareLibrary, split_seconds, stat_of};
use crate::engine::Error;
use crate::engine::serve::disk_slots::DiskVisit;
use crate::engine::serve::gone_paths::GonePaths;
use crate::engine::serve::request_refusal::{RequestRefusal, internal_refusal};
use crate::engine::serve::share_access::{FileRequester, ShareAccess};
use crate::engine::serve::share_opener::ShareOpener;
use crate::engine::serve::stale_shares::StaleReason;
use crate::engine::share::{ShareFreshness, freshness, is_owner_only};
use crate::profile::{Profile, Share, SharePage};

/// Files of one page. A description usually takes at most 300 bytes.
const PAGE: usize = 200;
/// Shares that are checked for one answer, however few of them are on the disk.
const MAX_EXAMINED: usize = 1000;
/// Folders of one page.
const FOLDERS: usize = 500;

impl ShareLibrary {
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
            bytes += 272 + stat.name.as_str().len() * 2;
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

    /// Returns those of the names that were shared with the requester and removed.
    pub async fn removed(&self, by: &FileRequester, names: Vec<FileName>) -> Result<PeerReply, RequestRefusal> {
        let profile = self.profile.clone();
        let found = self.look(by, None, move |access, _| Ok(profile.removed_shares(access.audiences(), &names)?));
        Ok(PeerReply::RemovedList { names: found.await.map_err(internal_refusal)? })
    }

    /// Returns a text that differs whenever what is shared with the requester, or was removed from it, differs. `None` for
    /// somebody who is blocked.
    pub(in crate::engine::serve) async fn change_mark(
        &self,
        by: &FileRequester,
    ) -> Result<Option<String>, RequestRefusal> {
        let profile = self.profile.clone();
        let mark = self.look(by, None, move |access, _| {
            if profile.is_blocked(access.user())? {
                return Ok(None);
            }
            Ok(Some(profile.share_mark(access.audiences())?))
        });
        mark.await.map_err(internal_refusal)
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
