//! Insertion of runs.

use std::collections::HashSet;

use shared::room::MessageHash;

use super::author_log::{AuthorLog, Floor, Predecessor};
use super::{Finding, LogChange, MessageInfo, RoomLog, RunRefusal};
use crate::VerifyingKey;
use crate::membership::Membership;
use crate::message::RoomMessage;
use crate::run::MessageRun;

/// Most contents of one number of one author.
const MAX_CONTENTS: usize = 2;

impl RoomLog {
    /// Takes the messages of a run, up to the first that doesn't count. Known ones are skipped.
    pub fn insert(&mut self, run: &MessageRun, members: &Membership, now: u64) -> LogChange {
        self.insert_messages(run, members, now, false)
    }

    /// Takes a run of a reply that leads to a cut, as [`RunReply::leads_to_cut`] tells: on the way to a cut that is not
    /// here yet, its messages displace other contents of their numbers.
    ///
    /// Without that, two smaller hashes would keep the way out for ever. A sender who lies makes only an author who
    /// signed three contents lose one of them, until the next member offers it.
    ///
    /// [`RunReply::leads_to_cut`]: crate::RunReply::leads_to_cut
    pub fn insert_toward_cut(&mut self, run: &MessageRun, members: &Membership, now: u64) -> LogChange {
        self.insert_messages(run, members, now, true)
    }

    fn insert_messages(&mut self, run: &MessageRun, members: &Membership, now: u64, leads_to_cut: bool) -> LogChange {
        let mut change = LogChange::default();
        let Some(author) = run.messages().first().map(RoomMessage::author) else { return change };
        let last_cut = run.messages().iter().rposition(|message| members.is_cut(&author, &message.hash()));
        for (position, message) in run.messages().iter().enumerate() {
            let is_last = position + 1 == run.messages().len();
            let signature = is_last.then_some(run.signature());
            if let Some(known) = self.index.get_mut(&message.hash()) {
                // It may have come in the middle of a run, and is proven by itself from now on.
                known.signature = known.signature.or(signature);
                continue;
            }
            // The floor only grows: what was pruned is never taken again.
            if self.authors.get(&author).is_some_and(|log| message.content().number <= log.floor.number) {
                continue;
            }
            let is_before_cut = leads_to_cut || last_cut.is_some_and(|cut| position <= cut);
            let info = MessageInfo::new(message, signature, now);
            if let Err(refusal) = self.insert_one(run.key(), message.hash(), info, members, is_before_cut, &mut change)
            {
                change.refusal = Some(refusal);
                break;
            }
        }
        // Without the run's last message, those before it may lack a proof.
        if change.refusal.is_some() || !change.void.is_empty() {
            self.remove_unproven_ends(&author, &mut change);
        }
        self.forget_void_and_stored(&mut change);
        change
    }

    /// Takes a run whose predecessor nobody reachable has, and gives up what is before it: the author's floor grows to it.
    /// The caller asks all members that it reaches first.
    pub fn insert_after_gap(&mut self, run: &MessageRun, members: &Membership, now: u64) -> LogChange {
        let mut change = LogChange::default();
        if let Some(first) = run.messages().first()
            && let Some(previous) = first.content().previous
            && !self.index.contains(&previous.hash)
            // A run that will be refused must not raise the floor.
            && self.span_of(&first.author(), first.content().epoch, members).is_ok()
        {
            let log = self.authors.entry(first.author()).or_insert_with(|| AuthorLog::new(run.key()));
            // No underflow: a message with a previous one has a number of 2 or more (`RoomMessage::parse`).
            let number = first.content().number - 1;
            let top = log.levels.keys().next_back().copied().unwrap_or(log.floor.number);
            if top < number {
                // A log has no hole, so what lies before this one goes.
                let dropped = std::mem::take(&mut log.levels);
                // The epoch of a message that nobody has is unknown; 0 allows any.
                let floor = Predecessor { hash: previous.hash, depth: previous.depth, epoch: 0 };
                log.floor = Floor { number, contents: vec![floor] };
                for hash in dropped.values().flatten() {
                    self.remove_entry(hash);
                    change.pruned.push(*hash);
                }
            }
        }
        let taken = self.insert(run, members, now);
        change.stored = taken.stored;
        change.void = taken.void;
        change.findings = taken.findings;
        change.refusal = taken.refusal;
        change
    }

    pub(super) fn insert_one(
        &mut self,
        key: VerifyingKey,
        hash: MessageHash,
        info: MessageInfo,
        members: &Membership,
        is_before_cut: bool,
        change: &mut LogChange,
    ) -> Result<(), RunRefusal> {
        let author = info.author;
        let spans = members.spans(&author);
        let span = self.span_of(&author, info.epoch, members)?;
        self.check_predecessor(&info, spans, span)?;
        self.check_cut(&hash, info.number, spans.get(span).and_then(|span| span.cut), None)?;
        let log = self.authors.entry(author).or_insert_with(|| AuthorLog::new(key));
        let contents = log.levels.get(&info.number).map(Vec::as_slice).unwrap_or_default();
        let rival = contents.iter().max().copied();
        let is_full = contents.len() >= MAX_CONTENTS;
        // The two smallest hashes stay, in whatever order they came; the way to a cut comes before them.
        if is_full && !is_before_cut && rival.is_some_and(|rival| rival < hash) {
            return Err(RunRefusal::TooManyContents);
        }
        if rival.is_some() {
            change.findings.push(Finding::Equivocation { author, number: info.number });
        }
        let (number, is_cut) = (info.number, members.is_cut(&author, &hash));
        log.levels.push(number, hash);
        log.bytes += info.bytes;
        if self.index.insert(hash, info) {
            change.findings.push(Finding::WrongDepth { author, message: hash });
        }
        change.stored.push(hash);
        if let Some(rival) = rival.filter(|_| is_full) {
            self.remove_subtree(&author, number, &rival, change);
        }
        if is_cut {
            // From now on the path to the cut is known, and what is beside it doesn't count.
            self.apply_membership_to(&author, members, change);
        }
        Ok(())
    }

    /// Takes out what came and went within one call.
    fn forget_void_and_stored(&self, change: &mut LogChange) {
        let stored: HashSet<MessageHash> = change.stored.iter().copied().collect();
        change.stored.retain(|hash| self.index.contains(hash));
        change.void.retain(|hash| !stored.contains(hash));
    }
}
