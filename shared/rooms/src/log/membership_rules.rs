//! The rules by which a message counts: its author's stay, its predecessor and the cuts.

use std::collections::HashSet;

use shared::Fingerprint;
use shared::room::MessageHash;

use super::author_log::Predecessor;
use super::{LogChange, MessageInfo, RoomLog, RunRefusal};
use crate::membership::{Membership, MembershipSpan};
use crate::record::Cut;

impl RoomLog {
    /// Applies changed records to all messages.
    pub fn apply_membership(&mut self, members: &Membership) -> LogChange {
        let mut change = LogChange::default();
        let authors: Vec<Fingerprint> = self.authors.keys().copied().collect();
        for author in authors {
            self.apply_membership_to(&author, members, &mut change);
            self.remove_unproven_ends(&author, &mut change);
        }
        change
    }

    pub(super) fn apply_membership_to(&mut self, author: &Fingerprint, members: &Membership, change: &mut LogChange) {
        let spans = members.spans(author);
        let paths = self.cut_paths(spans);
        let Some(log) = self.authors.get(author) else { return };
        let messages: Vec<MessageHash> = log.levels.values().flatten().copied().collect();
        for hash in messages {
            // Predecessors come first, and what they drag along is gone already.
            let Some(info) = self.index.get(&hash) else { continue };
            let counts = self.span_of(author, info.epoch, members).and_then(|span| {
                self.check_predecessor(info, spans, span)?;
                self.check_cut(&hash, info.number, spans.get(span).and_then(|span| span.cut), paths.get(span))
            });
            if counts.is_err() {
                let number = info.number;
                self.remove_subtree(author, number, &hash, change);
            }
        }
    }

    /// Returns for each stay the messages that lead to its cut, as far as they are of that stay. The path to the cut of
    /// another stay says nothing about this one: a moderator may have set it without knowing this stay's cut.
    fn cut_paths(&self, spans: &[MembershipSpan]) -> Vec<HashSet<MessageHash>> {
        let path = |span: &MembershipSpan| {
            let cut = span.cut.and_then(|cut| self.index.get(&cut.hash?));
            std::iter::successors(cut, |info| self.index.get(&info.previous?.hash))
                .take_while(|info| info.epoch >= span.from)
                .filter_map(|info| Some(info.previous?.hash))
                .collect()
        };
        spans.iter().map(path).collect()
    }

    /// Returns the index of the stay in which `author` wrote at `epoch`.
    pub(super) fn span_of(&self, author: &Fingerprint, epoch: u64, members: &Membership) -> Result<usize, RunRefusal> {
        if epoch > members.epoch() {
            return Err(RunRefusal::NeedsRecords);
        }
        span_index(members.spans(author), epoch).ok_or(RunRefusal::NotMember)
    }

    pub(super) fn check_predecessor(
        &self,
        info: &MessageInfo,
        spans: &[MembershipSpan],
        span: usize,
    ) -> Result<(), RunRefusal> {
        let predecessor = match info.previous {
            None => None,
            Some(previous) => {
                let known = self.predecessor(&info.author, info.number - 1, &previous.hash);
                let known = known.ok_or(RunRefusal::NeedsEarlier)?;
                if known.depth != previous.depth || known.epoch > info.epoch {
                    return Err(RunRefusal::Contradiction);
                }
                Some(known)
            }
        };
        // A chain goes on from the cut of each stay between the predecessor's and this one, and from nowhere else.
        let first = match predecessor {
            None => 0,
            // After a gap the predecessor's epoch is unknown: it counts as one of the stay before.
            Some(known) if known.epoch == 0 => span.saturating_sub(1),
            Some(known) => span_index(spans, known.epoch).unwrap_or(span),
        };
        let hash = predecessor.map(|known| known.hash);
        let ended = spans.get(first..span).unwrap_or_default();
        if ended.iter().filter_map(|span| span.cut).any(|cut| cut.hash != hash) {
            return Err(RunRefusal::Cut);
        }
        Ok(())
    }

    /// Checks a message against the cut of its stay. `path` has the cut's ancestors if they were collected.
    pub(super) fn check_cut(
        &self,
        hash: &MessageHash,
        number: u64,
        cut: Option<Cut>,
        path: Option<&HashSet<MessageHash>>,
    ) -> Result<(), RunRefusal> {
        let Some(cut) = cut else { return Ok(()) };
        let counts = if number < cut.number {
            // If the cut is here, so is all that leads to it: another message is beside it.
            let is_cut_here = cut.hash.is_some_and(|cut| self.index.contains(&cut));
            !is_cut_here || path.is_some_and(|path| path.contains(hash))
        } else {
            cut.hash == Some(*hash)
        };
        if counts { Ok(()) } else { Err(RunRefusal::Cut) }
    }

    fn predecessor(&self, author: &Fingerprint, number: u64, hash: &MessageHash) -> Option<Predecessor> {
        if let Some(info) = self.index.get(hash) {
            let fits = info.author == *author && info.number == number;
            return fits.then_some(Predecessor { hash: *hash, depth: info.depth, epoch: info.epoch });
        }
        let floor = &self.authors.get(author)?.floor;
        floor.contents.iter().find(|last| floor.number == number && last.hash == *hash).copied()
    }

    /// Removes a message and all that follows it in its author's tree.
    pub(super) fn remove_subtree(
        &mut self,
        author: &Fingerprint,
        number: u64,
        root: &MessageHash,
        change: &mut LogChange,
    ) {
        let Some(log) = self.authors.get_mut(author) else { return };
        let mut removed = vec![*root];
        let mut parents = HashSet::from([*root]);
        for contents in log.levels.range(number.saturating_add(1)..).map(|(_, contents)| contents) {
            let children: HashSet<MessageHash> = contents
                .iter()
                .filter(|hash| {
                    let previous = self.index.get(hash).and_then(|info| info.previous);
                    previous.is_some_and(|previous| parents.contains(&previous.hash))
                })
                .copied()
                .collect();
            // Numbers have no hole, so one without a child ends the subtree.
            if children.is_empty() {
                break;
            }
            removed.extend(&children);
            parents = children;
        }
        let gone: HashSet<MessageHash> = removed.iter().copied().collect();
        // A subtree has at least one message of each number that it reaches.
        let touched: Vec<u64> = log.levels.range(number..).take(removed.len()).map(|(number, _)| *number).collect();
        for number in touched {
            log.levels.remove(number, &gone);
        }
        for hash in removed {
            self.remove_entry(&hash);
            change.void.push(hash);
        }
    }

    /// Removes ends of branches without a signature. They lost the message that proved them, so they could not be passed
    /// on, and members would differ for good. Whoever can prove them sends them again: a moderator's node has the
    /// signature of a cut that it sets.
    pub(super) fn remove_unproven_ends(&mut self, author: &Fingerprint, change: &mut LogChange) {
        while let Some(log) = self.authors.get(author) {
            // Each removal may leave another end, so the ends are looked for anew.
            let is_unproven = |hash: &MessageHash| self.index.get(hash).is_some_and(|info| info.signature.is_none());
            let Some(end) = self.ends(log).into_iter().rfind(is_unproven) else { break };
            let Some(number) = self.index.get(&end).map(|info| info.number) else { break };
            self.remove_subtree(author, number, &end, change);
        }
    }

    /// Removes a message that no level names any more.
    pub(super) fn remove_entry(&mut self, hash: &MessageHash) {
        let Some(info) = self.index.remove(hash) else { return };
        if let Some(log) = self.authors.get_mut(&info.author) {
            log.bytes -= info.bytes;
        }
    }
}

fn span_index(spans: &[MembershipSpan], epoch: u64) -> Option<usize> {
    spans.iter().position(|span| span.from <= epoch && span.until.is_none_or(|until| epoch < until))
}
