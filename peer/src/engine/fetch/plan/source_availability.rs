//! The sources of a plan: which of them can be asked, and who has which file.

use std::collections::VecDeque;
use std::time::Instant;

use shared::GroupSet;

use super::work_selection::DeliveryRate;
use super::{FetchPlan, FilePhase, MAX_SOURCES, PlannedSource, SourceNo, bit, index};
use crate::engine::fetch::FileNo;

impl FetchPlan {
    /// Adds a source of the files for which `has` is true; `None` if there are too many sources.
    pub(in crate::engine::fetch) fn add_source(
        &mut self,
        has: impl Fn(FileNo) -> bool,
        now: Instant,
    ) -> Option<SourceNo> {
        let source = u32::try_from(self.sources.len()).ok().filter(|source| *source < MAX_SOURCES)?;
        let mut waiting = VecDeque::new();
        for (no, file) in self.files.iter_mut().enumerate().filter(|(no, _)| has(*no)) {
            file.source_bits |= bit(source);
            // Only these are queued: files under way are found among the open ones.
            if file.phase == FilePhase::Waiting {
                waiting.push_back(no);
            }
        }
        self.sources.push(PlannedSource { is_usable: true, is_banned: false, rate: DeliveryRate::new(now), waiting });
        Some(source)
    }

    /// Records the groups that a source has of a file; a full set makes it an ordinary source.
    pub(in crate::engine::fetch) fn set_groups(&mut self, source: SourceNo, no: FileNo, groups: GroupSet) {
        if groups.is_full() {
            self.partial_sources.remove(&(source, no));
        } else {
            self.partial_sources.insert((source, no), groups);
        }
    }

    /// Returns the files that a source has in part.
    pub(in crate::engine::fetch) fn partial_files(&self, source: SourceNo) -> Vec<FileNo> {
        self.partial_sources.keys().filter(|(of, _)| *of == source).map(|(_, no)| *no).collect()
    }

    /// Records that a source has all of a file.
    pub(in crate::engine::fetch) fn add_availability(&mut self, source: SourceNo, no: FileNo) {
        self.files[no].source_bits |= bit(source);
        self.partial_sources.remove(&(source, no));
        if self.files[no].phase == FilePhase::Waiting
            && let Some(state) = self.source_mut(source)
        {
            state.waiting.push_back(no);
        }
    }

    /// Records that a source doesn't have a file. True if no usable source has it.
    pub(in crate::engine::fetch) fn remove_availability(&mut self, source: SourceNo, no: FileNo) -> bool {
        self.files[no].source_bits &= !bit(source);
        self.partial_sources.remove(&(source, no));
        self.files[no].source_bits & self.usable_bits() == 0
    }

    /// Marks a source as lost; it may come back.
    pub(in crate::engine::fetch) fn lose_source(&mut self, source: SourceNo) {
        if let Some(state) = self.source_mut(source) {
            state.is_usable = false;
        }
    }

    /// Marks a source as usable again; false for a banned one, which stays unusable.
    pub(in crate::engine::fetch) fn restore_source(&mut self, source: SourceNo, now: Instant) -> bool {
        self.source_mut(source).is_some_and(|state| {
            state.is_usable = !state.is_banned;
            // The time without a link must not pass for slowness.
            state.rate.restart_clock(now);
            state.is_usable
        })
    }

    /// Bans a source for good. True the first time.
    pub(in crate::engine::fetch) fn ban_source(&mut self, source: SourceNo) -> bool {
        self.source_mut(source).is_some_and(|state| {
            state.is_usable = false;
            !std::mem::replace(&mut state.is_banned, true)
        })
    }

    /// True if the source is connected and not banned.
    pub(in crate::engine::fetch) fn is_usable(&self, source: SourceNo) -> bool {
        self.sources.get(index(source)).is_some_and(|source| source.is_usable)
    }

    /// Returns the files that lack groups and that no usable source
    /// has, nor any of `coming`, which are being redialled.
    pub(in crate::engine::fetch) fn stranded(&self, coming: impl IntoIterator<Item = SourceNo>) -> Vec<FileNo> {
        let hopeful = self.reachable_bits(coming);
        (0..self.files.len()).filter(|no| self.files[*no].is_stranded(hopeful)).collect()
    }

    /// True if [`FetchPlan::stranded`] would return this file.
    pub(in crate::engine::fetch) fn is_stranded(&self, no: FileNo, coming: impl IntoIterator<Item = SourceNo>) -> bool {
        self.files[no].is_stranded(self.reachable_bits(coming))
    }

    fn reachable_bits(&self, coming: impl IntoIterator<Item = SourceNo>) -> u64 {
        coming.into_iter().map(bit).fold(self.usable_bits(), |all, one| all | one)
    }

    pub(super) fn source_mut(&mut self, source: SourceNo) -> Option<&mut PlannedSource> {
        self.sources.get_mut(index(source))
    }

    pub(super) fn usable_bits(&self) -> u64 {
        let bits = (0..).zip(&self.sources).filter(|(_, source)| source.is_usable).map(|(no, _)| bit(no));
        bits.fold(0, |all, one| all | one)
    }
}
