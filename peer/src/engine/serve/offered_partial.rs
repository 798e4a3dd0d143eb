//! Partial files that are offered while they are still being fetched.

use std::fs::File;

use shared::ContentHash;
use shared::peer::FileStat;

use super::disk_slots::DiskVisit;
use super::share_access::ShareAccess;
use crate::engine::partial_state::{PartialState, state_path};
use crate::profile::{PartialShare, Profile, ProfileError};
use crate::sys::{is_owner_only, open_regular};

/// Largest group that is sent of a partial file: each one is hashed in memory first.
const GROUP_BYTES: u64 = 16 << 20;

/// A partial file and its present state.
#[derive(Debug)]
pub(super) struct OfferedPartial {
    pub(super) share: PartialShare,
    pub(super) file: File,
    pub(super) state: PartialState,
}

impl OfferedPartial {
    /// Returns a partial file with this content that `access` allows, if one can be opened.
    pub(super) fn find(
        profile: &Profile,
        access: &ShareAccess,
        visit: &DiskVisit<'_>,
        hash: &ContentHash,
    ) -> Result<Option<Self>, ProfileError> {
        Ok(Self::open_first(profile.partials_with_hash(hash)?, access, visit))
    }

    /// Opens the first of these partial files that `access` allows and that can be opened.
    pub(super) fn open_first(parts: Vec<PartialShare>, access: &ShareAccess, visit: &DiskVisit<'_>) -> Option<Self> {
        let allowed = parts.into_iter().filter(|part| access.allows(&part.audience));
        allowed.filter(|part| visit.enter(&part.path)).find_map(Self::open)
    }

    /// Opens a partial file; returns `None` when it is complete by now, or was given up.
    fn open(share: PartialShare) -> Option<Self> {
        if share.layout.group_bytes() > GROUP_BYTES {
            return None;
        }
        // The state may be older than the file, which does no harm: each group is verified before it is sent.
        let state = open_regular(&state_path(&share.path)?).ok()?;
        let state = PartialState::read(&state, &share.hash, &share.layout)?;
        let file = open_regular(&share.path).ok()?;
        Some(Self { share, file, state })
    }

    /// True if all groups in these half-open ranges are there.
    pub(super) fn has(&self, ranges: &[(u32, u32)]) -> bool {
        let groups = self.share.layout.group_count();
        ranges
            .iter()
            .all(|(start, end)| *end <= groups && (*start..*end).all(|group| self.state.present.contains(group)))
    }

    /// Returns the description that peers get.
    pub(super) fn stat(&self) -> FileStat {
        let PartialShare { audience, name, layout, mtime, executable, hash, .. } = self.share.clone();
        let restricted = !audience.is_public();
        let owner_only = self.file.metadata().is_ok_and(|metadata| is_owner_only(&metadata));
        FileStat { mtime, executable, owner_only, restricted, partial: true, ..FileStat::new(name, hash, &layout) }
    }
}
