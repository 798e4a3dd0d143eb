//! One room: its records, its messages, and what is known of the other members. Pure: the caller stores each step.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Instant;

use rooms::{
    Cut, Finding, LogChange, MAX_VECTOR_PAGE, Membership, MessageDraft, MessageRun, RecordEffect, RecordRefusal,
    Retention, RoomChange, RoomLog, RunRefusal, RunReply, RunRequest, SignedRecord, VectorEntry, VerifyingKey,
};
use shared::Fingerprint;
use shared::peer::{MAX_ROOM_RECORDS, RoomSummary};
use shared::room::{MessageHash, RecordHash, RoomDigest};
use shared::tracker::room_reply::ListedRole;

use super::delivery_counts::DeliveryCounts;
use super::display_order::DisplayOrder;
use super::gap_search::GapSearch;
use super::push_limiter::PushLimiter;
use super::room_directory::{RoomEntry, listed_role};
use crate::engine::room_values::{RoomNewsKind, RoomPost};
use crate::profile::LoadedRoom;

/// A room of the profile.
#[derive(Debug)]
pub(super) struct Room {
    me: Fingerprint,
    /// The key that signs the records.
    pub(super) tracker: VerifyingKey,
    members: Membership,
    log: RoomLog,
    /// The digest of the state now, once it was asked for.
    digest: Option<RoomDigest>,
    gap_search: GapSearch,
    delivery: DeliveryCounts,
    limiter: PushLimiter,
    pub(super) display: DisplayOrder,
    /// True once a member was asked for our newest message since the start: this profile may be a backup.
    is_own_chain_known: bool,
    /// True if a member has messages of ours for which others are missing here: this profile is a backup.
    is_own_chain_behind: bool,
}

/// The result of a step, which the caller stores and then tells.
#[derive(Debug, Default)]
pub(super) struct RoomStep {
    /// The runs that were offered to the log.
    pub(super) runs: Vec<MessageRun>,
    /// The changes of the log.
    pub(super) changes: Vec<LogChange>,
    /// Changes of the room to be told.
    pub(super) news: Vec<RoomNewsKind>,
    /// True if there are new records.
    pub(super) has_records: bool,
}

/// The result of offering runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TakenRuns {
    /// Number of messages that were new.
    pub(super) stored: usize,
    /// True if records are missing.
    pub(super) needs_records: bool,
    /// True if earlier messages of the author are missing.
    pub(super) needs_earlier: bool,
}

/// The way on which runs came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunOrigin<'a> {
    /// Asked for, from the earliest that is missing here.
    Pulled {
        /// The member who was asked.
        member: Fingerprint,
        /// The runs lead to a cut that is missing here.
        leads_to_cut: bool,
        /// Members with a link.
        reachable: &'a BTreeSet<Fingerprint>,
        /// The time, by the clock that never goes back.
        at: Instant,
    },
    /// Passed on unasked, or written here.
    Single,
}

impl Room {
    /// Returns a room without records.
    pub(super) fn new(id: shared::RoomId, me: Fingerprint, tracker: VerifyingKey) -> Self {
        Self::loaded(LoadedRoom { members: Membership::new(id), log: RoomLog::new(id) }, me, tracker)
    }

    /// Returns a room as it was stored.
    pub(super) fn loaded(stored: LoadedRoom, me: Fingerprint, tracker: VerifyingKey) -> Self {
        let LoadedRoom { members, log } = stored;
        Self {
            me,
            tracker,
            members,
            log,
            digest: None,
            gap_search: GapSearch::default(),
            delivery: DeliveryCounts::default(),
            limiter: PushLimiter::default(),
            display: DisplayOrder::default(),
            is_own_chain_known: false,
            is_own_chain_behind: false,
        }
    }

    /// Replaces records and messages by those that are stored; what is known of the members stays.
    pub(super) fn replace_stored(&mut self, stored: LoadedRoom) {
        let LoadedRoom { members, log } = stored;
        (self.members, self.log, self.digest) = (members, log, None);
    }

    /// Returns the records.
    pub(super) const fn members(&self) -> &Membership {
        &self.members
    }

    /// Returns the messages.
    pub(super) const fn log(&self) -> &RoomLog {
        &self.log
    }

    /// Returns the room as others in this process see it; `None` before the first record.
    pub(super) fn entry(&self) -> Option<RoomEntry> {
        Some(RoomEntry {
            id: self.members.room(),
            name: self.members.name()?.clone(),
            topic: self.members.topic().clone(),
            members: self.members.members().clone(),
            epoch: self.members.epoch(),
            head: self.members.head(),
            is_active: self.is_active(),
        })
    }

    /// Returns true if the user is a member, and the room isn't deleted.
    pub(super) fn is_active(&self) -> bool {
        !self.members.is_deleted() && self.members.members().contains_key(&self.me)
    }

    /// Returns the state that two members compare first.
    pub(super) fn summary(&mut self) -> RoomSummary {
        let digest = *self.digest.get_or_insert_with(|| self.log.digest(&self.members));
        RoomSummary { digest, head: self.members.head(), epoch: self.members.epoch() }
    }

    /// Returns the records after the newest known one of `locator`, and true if there are more.
    pub(super) fn records_after(&self, locator: &[RecordHash]) -> (&[SignedRecord], bool) {
        // One more than fits tells whether there are more.
        let records = self.members.records_after(locator, MAX_ROOM_RECORDS + 1);
        let has_more = records.len() > MAX_ROOM_RECORDS;
        (&records[..records.len().min(MAX_ROOM_RECORDS)], has_more)
    }

    /// Returns a page of the vector, and true if there are more.
    pub(super) fn vector_page(&self, after: Option<Fingerprint>) -> (Vec<VectorEntry>, bool) {
        let page = self.log.vector_page(after);
        // It may be the last one all the same: the next is empty then.
        let has_more = page.len() == MAX_VECTOR_PAGE;
        (page, has_more)
    }

    /// Returns the messages that `asker`, a member, lacks.
    pub(super) fn runs(
        &self,
        request: &RunRequest,
        asker: &Fingerprint,
        signed: impl Fn(&MessageHash) -> Option<Vec<u8>>,
    ) -> RunReply {
        match self.members.readable_since(asker) {
            Some(since) => self.log.runs(request, since, signed),
            None => RunReply::default(),
        }
    }

    /// Returns the requests for what a member has more, by a page of the member's vector.
    pub(super) fn requests(&self, page: &[VectorEntry]) -> Vec<RunRequest> {
        self.log.requests(page, &self.members)
    }

    /// Returns true if another member has an author's messages as they are here, up to the newest of its vector.
    pub(super) fn has_same(&self, theirs: &VectorEntry) -> bool {
        self.log.has_same(theirs)
    }

    /// Returns the request for messages of one author.
    pub(super) fn request(&self, author: Fingerprint) -> RunRequest {
        self.log.request(author, &self.members)
    }

    /// Takes records, in their order.
    ///
    /// # Errors
    /// The reason why one has no place, unless the records here are simply ahead of it. What came before it is taken.
    pub(super) fn take_records(
        &mut self,
        records: Vec<SignedRecord>,
        step: &mut RoomStep,
    ) -> Result<(), RecordRefusal> {
        let is_first = self.members.head().is_none();
        let was_member = self.members.members().contains_key(&self.me);
        let mut refusal = Ok(());
        for record in records {
            let change = record.record().change.clone();
            match self.members.insert(record) {
                Ok(RecordEffect::Known) => continue,
                Ok(RecordEffect::Appended) => step.news.extend(self.news_of(change)),
                Ok(RecordEffect::Restored(_)) => step.news.push(RoomNewsKind::Restored),
                Ok(RecordEffect::Contradicted(_)) => step.news.push(RoomNewsKind::Contradicted),
                // A rival of what is here, with the lower rank: every member drops it.
                Err(RecordRefusal::Void) => continue,
                Err(why) => {
                    refusal = Err(why);
                    break;
                }
            }
            step.has_records = true;
        }
        if step.has_records {
            self.digest = None;
            // Records decide who could write when, also about messages that came before them.
            let change = self.log.apply_membership(&self.members);
            self.note_change(&change, step);
            step.changes.push(change);
        }
        if is_first && !was_member {
            // The past of a room that was just joined is no news.
            let me = self.members.members().get(&self.me).map(|member| member.user.clone());
            step.news = me.into_iter().map(|user| RoomNewsKind::Joined { user }).collect();
        }
        refusal
    }

    /// Takes runs.
    pub(super) fn take_runs(
        &mut self,
        runs: Vec<MessageRun>,
        origin: RunOrigin<'_>,
        now: u64,
        step: &mut RoomStep,
    ) -> TakenRuns {
        let mut taken = TakenRuns::default();
        for run in runs {
            let author = run.key().fingerprint();
            let floor = self.log.floor(&author);
            let change = match origin {
                RunOrigin::Pulled { leads_to_cut: true, .. } => self.log.insert_toward_cut(&run, &self.members, now),
                RunOrigin::Pulled { reachable, at, .. } if self.may_skip_gap(&author, reachable, at) => {
                    self.log.insert_after_gap(&run, &self.members, now)
                }
                RunOrigin::Pulled { .. } | RunOrigin::Single => self.log.insert(&run, &self.members, now),
            };
            // Whoever reads only since joining lacks what came before, which is no gap.
            if self.log.floor(&author) > floor && !self.reads_since_join() {
                step.news.extend(self.user(&author).map(|user| RoomNewsKind::Gap { user }));
            }
            match change.refusal {
                Some(RunRefusal::NeedsEarlier) => {
                    taken.needs_earlier = true;
                    // A pushed message doesn't tell what its sender has before it.
                    if let RunOrigin::Pulled { member, at, .. } = origin {
                        self.gap_search.note_missing(author, member, at);
                    }
                }
                Some(RunRefusal::NeedsRecords) => taken.needs_records = true,
                Some(refusal) => tracing::debug!("a message of {author} doesn't count: {refusal}"),
                None => {}
            }
            let is_stored = !change.stored.is_empty();
            if is_stored {
                self.gap_search.note_progress(&author);
            }
            if author == self.me && matches!(origin, RunOrigin::Pulled { .. }) {
                let is_refused = matches!(change.refusal, Some(RunRefusal::NeedsEarlier | RunRefusal::NeedsRecords));
                self.is_own_chain_behind = is_refused || (self.is_own_chain_behind && !is_stored);
            }
            taken.stored += change.stored.len();
            self.note_change(&change, step);
            step.changes.push(change);
            step.runs.push(run);
        }
        taken
    }

    /// Removes what is beyond the bounds.
    pub(super) fn prune(&mut self, retention: Retention, now: u64) -> RoomStep {
        let mut step = RoomStep::default();
        let change = self.log.prune(retention, now);
        self.note_change(&change, &mut step);
        step.changes.push(change);
        step
    }

    /// Takes out the messages that are to be shown now.
    pub(super) fn take_ready(&mut self, now: Instant) -> Vec<RoomPost> {
        self.display.take_ready(&self.log, now)
    }

    /// Returns the user's next message.
    pub(super) fn draft(&self, key: &VerifyingKey, now: u64, body: String) -> MessageDraft {
        self.log.draft(key, &self.members, now, body)
    }

    /// Returns the newest message of a member, as this node knows it.
    pub(super) fn cut(&self, key: &Fingerprint) -> Cut {
        self.log.cut(key)
    }

    /// Returns the open cuts that this node may set, each with the cut that it knows.
    pub(super) fn settable_cuts(&self) -> Vec<(Fingerprint, u64, Cut)> {
        let role = self.members.members().get(&self.me).map(|member| listed_role(member.role));
        if !self.is_active() || role < Some(ListedRole::Moderator) {
            return Vec::new();
        }
        let open = self.members.open_cuts();
        open.into_iter().map(|(key, ended_at)| (key, ended_at, self.last_before(&key, ended_at))).collect()
    }

    /// Returns the newest message that `key` wrote before an epoch. After it, the key may have joined again.
    fn last_before(&self, key: &Fingerprint, epoch: u64) -> Cut {
        let of_key = self.log.ordered().filter(|(_, info)| info.author == *key && info.epoch < epoch);
        // An author may have two messages of one number: everybody takes the one with the lesser hash.
        if let Some((hash, info)) = of_key.max_by_key(|(hash, info)| (info.number, Reverse(**hash))) {
            return Cut { number: info.number, hash: Some(*hash) };
        }
        let floor = self.log.author(key).and_then(|(_, floor)| {
            let last = floor.contents.iter().filter(|last| last.epoch < epoch).min_by_key(|last| last.hash)?;
            Some(Cut { number: floor.number, hash: Some(last.hash) })
        });
        floor.unwrap_or(Cut { number: 0, hash: None })
    }

    /// Returns true if one more pushed message of `author` may be taken now.
    pub(super) fn allow_push(&mut self, author: &Fingerprint, now: Instant) -> bool {
        self.limiter.allow(author, now)
    }

    /// Returns true if messages are missing that other members may have.
    pub(super) fn is_searching(&self) -> bool {
        self.gap_search.is_searching()
    }

    /// Returns true if all of `reachable` are to be compared with anew, for messages that are missing.
    pub(super) fn begin_search_round(&mut self, reachable: &BTreeSet<Fingerprint>, now: Instant) -> bool {
        self.gap_search.begin_round(reachable, now)
    }

    /// Notes that `member` was asked for all that it has.
    pub(super) fn note_asked(&mut self, member: Fingerprint) {
        self.gap_search.note_asked(member);
    }

    /// Notes that a turn of `member` ended with nothing new, and before it had nothing more.
    pub(super) fn note_unfinished(&mut self, member: Fingerprint) {
        self.gap_search.note_unfinished(member);
    }

    /// Notes that `member` has our messages up to `number`. Returns true if that was not known.
    pub(super) fn note_delivered(&mut self, member: Fingerprint, number: u64) -> bool {
        member != self.me && self.delivery.note(member, number)
    }

    /// Returns the number of other members who have our message of this number, and of all other members.
    pub(super) fn delivery_of(&self, number: u64) -> (usize, usize) {
        let others = || self.members.members().keys().filter(|key| **key != self.me);
        (self.delivery.count(number, others()), others().count())
    }

    /// Returns the number of our messages that no other member has, as far as it is known.
    pub(super) fn waiting(&self) -> u64 {
        let others = self.members.members().keys().filter(|key| **key != self.me);
        self.log.cut(&self.me).number.saturating_sub(self.delivery.newest(others))
    }

    /// Returns true once a member was asked for our newest message.
    pub(super) const fn is_own_chain_known(&self) -> bool {
        self.is_own_chain_known
    }

    /// Returns true if a member has later messages of ours that can't be taken yet.
    pub(super) const fn is_own_chain_behind(&self) -> bool {
        self.is_own_chain_behind
    }

    /// Notes that a member was asked for our newest message, or that nobody can be.
    pub(super) const fn note_own_chain_known(&mut self) {
        (self.is_own_chain_known, self.is_own_chain_behind) = (true, false);
    }

    fn may_skip_gap(&self, author: &Fingerprint, reachable: &BTreeSet<Fingerprint>, now: Instant) -> bool {
        let has_none = || self.log.cut(author).number == 0;
        // A member who may not read what is older begins in the middle of every chain.
        (self.reads_since_join() && has_none()) || self.gap_search.is_exhausted(author, reachable, now)
    }

    fn reads_since_join(&self) -> bool {
        self.members.readable_since(&self.me).is_some_and(|since| since > 0)
    }

    fn user(&self, key: &Fingerprint) -> Option<shared::UserName> {
        self.members.user(key).cloned()
    }

    fn note_change(&mut self, change: &LogChange, step: &mut RoomStep) {
        if change.stored.is_empty() && change.void.is_empty() && change.pruned.is_empty() {
            return;
        }
        self.digest = None;
        step.news.extend(change.void.iter().map(|id| RoomNewsKind::Void { id: *id }));
        for finding in &change.findings {
            match finding {
                Finding::Equivocation { author, number } => {
                    let news = |user| RoomNewsKind::Equivocation { user, number: *number };
                    step.news.extend(self.user(author).map(news));
                }
                Finding::WrongDepth { author, message } => {
                    tracing::info!("{message} of {author} names a message with a wrong depth");
                }
            }
        }
    }

    fn news_of(&self, change: RoomChange) -> Option<RoomNewsKind> {
        Some(match change {
            RoomChange::Join { user, .. } => RoomNewsKind::Joined { user },
            RoomChange::Leave { user, .. } => RoomNewsKind::Left { user },
            RoomChange::Kick { user, by, .. } => RoomNewsKind::Kicked { user, by },
            RoomChange::Owner { user, .. } => RoomNewsKind::Role { user, role: ListedRole::Owner },
            RoomChange::SetRole { user, moderator, .. } => {
                let role = if moderator { ListedRole::Moderator } else { ListedRole::Member };
                RoomNewsKind::Role { user, role }
            }
            RoomChange::Topic { topic } => RoomNewsKind::Topic { topic },
            RoomChange::Delete => RoomNewsKind::Deleted,
            RoomChange::Create { .. } | RoomChange::SetCut { .. } | RoomChange::Restore => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use rooms::{HistoryVisibility, MembershipRecord};
    use shared::RoomId;

    use super::*;

    const ROOM: RoomId = RoomId::from_bytes([7; 16]);

    fn keys(seed: u8) -> (Ed25519KeyPair, VerifyingKey) {
        let keys = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = VerifyingKey::from_raw(keys.public_key().as_ref().try_into().unwrap());
        (keys, key)
    }

    /// Returns the records of a room whose members have the keys 1 to `members`.
    fn records(members: u8) -> Vec<SignedRecord> {
        let (tracker, _) = keys(99);
        let mut records: Vec<SignedRecord> = Vec::new();
        let join =
            |seed: u8| RoomChange::Join { user: format!("u{seed}").parse().unwrap(), key: keys(seed).1.fingerprint() };
        let create = RoomChange::Create { room_name: "lab".parse().unwrap(), history: HistoryVisibility::Shared };
        for change in std::iter::once(create).chain((1..=members).map(join)) {
            let (epoch, previous) = (records.len() as u64 + 1, records.last().map(SignedRecord::hash));
            records.push(MembershipRecord { room: ROOM, epoch, previous, time: 0, change }.sign(&tracker));
        }
        records
    }

    fn room(seed: u8) -> Room {
        let mut room = Room::new(ROOM, keys(seed).1.fingerprint(), keys(99).1);
        room.take_records(records(3), &mut RoomStep::default()).unwrap();
        room
    }

    #[test]
    fn what_nobody_has_is_given_up_and_told() {
        let (signer, author) = keys(1);
        let (mut writer, mut reader) = (room(1), room(2));
        let mut runs = Vec::new();
        for body in ["one", "two", "three"] {
            let run = writer.draft(&author, 0, body.to_owned()).sign(&signer).unwrap();
            writer.take_runs(vec![run.clone()], RunOrigin::Single, 0, &mut RoomStep::default());
            runs.push(run);
        }
        let [bob, carol] = [2, 3].map(|seed| keys(seed).1.fingerprint());
        let reachable = BTreeSet::from([bob, carol]);
        let start = Instant::now();
        let mut offer = |run: &MessageRun, member, now| {
            let mut step = RoomStep::default();
            let at = start + Duration::from_millis(now);
            let origin = RunOrigin::Pulled { member, leads_to_cut: false, reachable: &reachable, at };
            (reader.take_runs(vec![run.clone()], origin, now, &mut step), step.news)
        };
        // Whoever withholds the beginning is not the only one to be asked, and not for ever.
        for (member, now) in [(bob, 1_000), (carol, 2_000), (bob, 10_000)] {
            let (taken, news) = offer(&runs[2], member, now);
            assert!(taken.needs_earlier && taken.stored == 0 && news.is_empty());
        }
        let (taken, news) = offer(&runs[2], carol, 11_000);
        assert_eq!((taken.stored, news), (1, vec![RoomNewsKind::Gap { user: "u1".parse().unwrap() }]));
        assert_eq!(offer(&runs[1], carol, 12_000).0.stored, 0, "what was given up stays so");
    }

    #[test]
    fn a_new_member_hears_of_its_own_joining_only() {
        let mut room = Room::new(ROOM, keys(2).1.fingerprint(), keys(99).1);
        let mut step = RoomStep::default();
        room.take_records(records(2), &mut step).unwrap();
        assert_eq!(step.news, [RoomNewsKind::Joined { user: "u2".parse().unwrap() }]);
        let mut step = RoomStep::default();
        room.take_records(records(3), &mut step).unwrap();
        assert_eq!(step.news, [RoomNewsKind::Joined { user: "u3".parse().unwrap() }]);
        assert!(room.is_active() && room.entry().is_some_and(|entry| entry.members.len() == 3));
    }
}
