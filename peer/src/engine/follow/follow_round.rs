//! One comparison of a followed folder with its copy, and the changes that follow from it.
//!
//! ```text
//! listing ─► plan ─► moves, removals, folders ─► batches: pending on record ─► fetched ─► placed ─► on record
//! ```
//!
//! Whatever is interrupted, the record knows what may be in a file's place: a file that was placed a moment before is
//! recognised by the content that was pending.

use std::collections::{BTreeMap, HashSet};

use localization::tr;
use shared::FileName;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::follow_plan::{FollowPlan, FollowRules, FollowedDisk, plan_follow};
use super::followed_folder::{FollowedFolder, today};
use super::source_links::SourceListing;
use crate::engine::event_bus::EventBus;
use crate::engine::follow_news::{FollowChange, FollowNews, FollowTotals};
use crate::engine::node_event::NodeEvent;
use crate::engine::{Error, LocalUser, now_ms, run_blocking};
use crate::profile::{Follow, FollowRecord, Profile, RecordedFile, RemovalConsent};
use crate::sys::LocalEntry;
use crate::util::TranslatedText;

/// The time for which removals count as recent.
const REMOVAL_WINDOW_MS: i64 = 10 * 60 * 1000;
/// Failures that are remembered as told.
const MAX_TOLD_FAILURES: usize = 10_000;

/// The records of the files of a copy.
pub(super) type FollowRecords = BTreeMap<FileName, FollowRecord>;

/// A comparison and its changes.
pub(super) struct FollowRound<'a> {
    pub(super) me: &'a LocalUser,
    pub(super) follow: &'a Follow,
    pub(super) events: &'a EventBus,
    pub(super) cancel: &'a CancellationToken,
    /// The permit for the comparison, given back before the fetch: that takes as long as its source likes.
    pub(super) slot: Option<SemaphorePermit<'a>>,
    /// Permits for fetches from the source.
    pub(super) fetch_turns: &'a Semaphore,
    /// Told with the number of files that are still to come.
    pub(super) progress: &'a mut (dyn FnMut(usize) + Send),
    pub(super) totals: &'a mut FollowTotals,
    /// Failures that the user was told of.
    pub(super) told: &'a mut HashSet<(FileName, TranslatedText)>,
    pub(super) outcome: RoundOutcome,
}

/// The result of a comparison.
#[derive(Debug, Clone, Default)]
pub(super) struct RoundOutcome {
    /// Files that could not be fetched or placed.
    pub(super) failed: usize,
    /// The reason of the first of them.
    pub(super) why: TranslatedText,
    /// Files about whose removal the user is asked.
    pub(super) asked: usize,
    /// True if some files are about to change: another look soon.
    pub(super) is_unsettled: bool,
}

impl FollowRound<'_> {
    /// Compares and changes.
    ///
    /// # Errors
    /// What keeps the whole copy from being in step; what was done until then is on record.
    pub(super) async fn run(
        mut self,
        mut listing: SourceListing,
        records: FollowRecords,
    ) -> Result<RoundOutcome, Error> {
        let (folder, mut plan, records) = self.prepare(&mut listing, records).await?;
        self.outcome.asked = plan.asked;
        for name in &plan.obstructed {
            self.fail(name, TranslatedText::new(|| tr!("something else of that name is in its place")));
        }
        for name in std::mem::take(&mut listing.invalid) {
            tracing::debug!("{} lists what can't be a file: {name}", self.follow.of.user);
            self.outcome.failed += 1;
            let user = &self.follow.of.user;
            self.note_reason(|| tr!("{user} lists what can't be a file", user));
        }
        let folder = self.rearrange(folder, &mut plan, std::mem::take(&mut listing.folders), &records).await?;
        self.slot = None;
        // What is kept meanwhile is only what the fetch needs, as any number of follows may fetch.
        listing.keep_files(plan.fetches.iter().map(|fetch| &fetch.name));
        self.fetch_all(folder, plan.fetches, records, listing).await?;
        Ok(self.outcome)
    }

    async fn prepare(
        &mut self,
        listing: &mut SourceListing,
        records: FollowRecords,
    ) -> Result<(FollowedFolder, FollowPlan, FollowRecords), Error> {
        let (profile, number) = (self.me.profile.clone(), self.follow.number);
        let (root, state) = (self.follow.of.root.clone(), std::mem::take(&mut listing.state));
        // By the wall clock, as it has to outlast a restart.
        let is_recent = now_ms().saturating_sub(self.follow.removals_since) < REMOVAL_WINDOW_MS;
        let recent_removals = if is_recent { self.follow.removals } else { 0 };
        let rules = FollowRules { deletes: self.follow.of.deletes, recent_removals };
        run_blocking(move || {
            let mut folder = FollowedFolder::open(&root)?;
            let plan = plan_follow(&state, &records, rules, &mut folder)?;
            profile.put_follow_records(number, plan.records.iter().map(|(name, record)| (name, record.as_ref())))?;
            Ok((folder, plan, records))
        })
        .await
    }

    /// Moves and removes files, and makes empty folders.
    async fn rearrange(
        &mut self,
        mut folder: FollowedFolder,
        plan: &mut FollowPlan,
        folders: Vec<FileName>,
        records: &FollowRecords,
    ) -> Result<FollowedFolder, Error> {
        let (moves, removals) = (std::mem::take(&mut plan.moves), std::mem::take(&mut plan.removals));
        let (profile, follow, confirmed) = (self.me.profile.clone(), self.follow.clone(), plan.confirmed);
        let before: Vec<Option<FollowRecord>> = moves.iter().map(|(_, to, _)| records.get(to).cloned()).collect();
        let (folder, changes, failures) = run_blocking(move || {
            let (mut changes, mut failures) = (Vec::new(), Vec::new());
            folder.clear_trash(today());
            // On record before the moves: a file that a stop leaves without a record would pass for the user's own.
            let pending: Vec<(&FileName, FollowRecord)> =
                moves.iter().map(|(_, to, file)| (to, pending_record(file))).collect();
            profile.put_follow_records(follow.number, pending.iter().map(|(to, record)| (*to, Some(record))))?;
            for ((from, to, file), before) in moves.into_iter().zip(before) {
                match folder.rename(&from, &to, &file) {
                    Ok(true) => changes.push((FollowChange::Moved { from, name: to }, file)),
                    // Something changed since the plan: the next comparison decides again. What is there is no move's.
                    Ok(false) => profile.put_follow_records(follow.number, [(&to, before.as_ref())])?,
                    Err(error) => {
                        // Else the user's own file of this name would pass for one that was put there.
                        if matches!(folder.look(&to), Ok(LocalEntry::Missing)) {
                            profile.put_follow_records(follow.number, [(&to, before.as_ref())])?;
                        }
                        failures.push((to, TranslatedText::of(&error)));
                    }
                }
            }
            let day = today().to_string();
            for (name, file) in removals {
                match folder.remove(&name, &file, &day) {
                    Ok(true) => changes.push((FollowChange::Removed { name }, file)),
                    // Changed, whatever its time says: it is the user's own from now on.
                    Ok(false) => profile.put_follow_records(follow.number, [(&name, None)])?,
                    Err(error) => failures.push((name, TranslatedText::of(&error))),
                }
            }
            for name in folders {
                if let Err(error) = folder.make_folder(&name) {
                    failures.push((name, TranslatedText::of(&error)));
                }
            }
            if !changes.is_empty() {
                // On the disk first: after a power cut the records would be of files that aren't there.
                folder.sync()?;
                record_changes(&profile, &follow, &changes, confirmed)?;
            }
            Ok((folder, changes, failures))
        })
        .await?;
        for (change, _) in changes {
            match &change {
                FollowChange::Moved { .. } => self.totals.moved += 1,
                _ => self.totals.removed += 1,
            }
            self.tell(change);
        }
        for (name, why) in failures {
            self.fail(&name, why);
        }
        Ok(folder)
    }

    pub(super) fn fail(&mut self, name: &FileName, why: TranslatedText) {
        self.outcome.failed += 1;
        self.note_reason(|| format!("{}: {why}", name.display()));
        // All at once: at worst a failure is told once more.
        if self.told.len() >= MAX_TOLD_FAILURES {
            self.told.clear();
        }
        if self.told.insert((name.clone(), why.clone())) {
            self.tell(FollowChange::Failed { name: name.clone(), why });
        }
    }

    fn note_reason(&mut self, why: impl Fn() -> String) {
        if self.outcome.why.is_empty() {
            self.outcome.why = TranslatedText::new(why);
        }
    }

    pub(super) fn tell(&self, change: FollowChange) {
        let (number, user, folder) = (self.follow.number, self.follow.of.user.clone(), self.follow.of.folder.clone());
        self.events.send(NodeEvent::Follow(FollowNews { number, user, folder, change }));
    }
}

/// Returns the record of a name that a placed file is about to get.
const fn pending_record(file: &RecordedFile) -> FollowRecord {
    FollowRecord { file: None, pending: Some(file.hash), consent: RemovalConsent::Unasked }
}

/// Puts moves and removals on record.
fn record_changes(
    profile: &Profile,
    follow: &Follow,
    changes: &[(FollowChange, RecordedFile)],
    confirmed: usize,
) -> Result<(), Error> {
    let mut records: Vec<(&FileName, Option<FollowRecord>)> = Vec::new();
    let mut removed = 0_usize;
    for (change, file) in changes {
        match change {
            FollowChange::Moved { from, name } => {
                let record = FollowRecord { file: Some(*file), pending: None, consent: RemovalConsent::Unasked };
                records.extend([(from, None), (name, Some(record))]);
            }
            FollowChange::Removed { name } => {
                removed += 1;
                records.push((name, None));
            }
            _ => {}
        }
    }
    profile.put_follow_records(follow.number, records.iter().map(|(name, record)| (*name, record.as_ref())))?;
    // What the user agreed to doesn't count towards the next question.
    let unasked = removed.saturating_sub(confirmed);
    if unasked > 0 {
        let now = now_ms();
        let is_recent = now.saturating_sub(follow.removals_since) < REMOVAL_WINDOW_MS;
        let (since, before) = if is_recent { (follow.removals_since, follow.removals) } else { (now, 0) };
        profile.set_follow_removals(follow.number, since, before + unasked)?;
    }
    Ok(())
}
