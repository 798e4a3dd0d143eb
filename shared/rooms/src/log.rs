//! The messages of a room that count, and their one order.
//!
//! For each author the log holds a tree: normally a chain, with branches where the author signed two messages under one
//! number. A message is in the log exactly if its epoch lies in a stay of its author, its predecessor is in the log (or
//! is the floor), and no cut excludes it. These rules look at records, the message and its predecessor only. They are
//! applied again to everything when records change, so the order of arrival leaves no trace.
//!
//! The order is (depth, time, author, number, hash). It needs nothing but the message itself, so a message that arrives
//! late goes where everybody else has it.
//!
//! The log holds no bodies: the caller stores signed bytes by hash, and forgets those that a [`LogChange`] names.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use shared::room::{MessageHash, ShortHash};
use shared::{Fingerprint, RoomId};

use crate::membership::{Membership, MembershipSpan};
use crate::message::{MAX_NAMED, MessageDraft, MessageReference, Previous, RoomMessage};
use crate::record::Cut;
use crate::run::MessageRun;
use crate::{Signature, VerifyingKey};

/// Most contents of one number of one author.
const MAX_CONTENTS: usize = 2;
/// Most gaps that are tracked.
const MAX_GAPS: usize = 1024;

/// A message's place in the room's order.
type OrderKey = (u64, u64, Fingerprint, u64, MessageHash);

/// A reason why a run, or its rest, was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RunRefusal {
    /// The author was no member at the message's epoch.
    #[error("the author was not a member then")]
    NotMember,
    /// The message is of an epoch whose record is missing.
    #[error("membership records are missing")]
    NeedsRecords,
    /// Messages of the author before this one are missing.
    #[error("earlier messages of the author are missing")]
    NeedsEarlier,
    /// The author's membership ended before this message, or on another branch.
    #[error("the membership of the author ended before this message")]
    Cut,
    /// The message contradicts its predecessor in depth or epoch.
    #[error("the message contradicts the one before it")]
    Contradiction,
    /// Two other contents of this number are kept.
    #[error("the author signed too many messages under one number")]
    TooManyContents,
}

/// A proof of misbehaviour, or of a node that runs twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The author signed two messages under this number.
    Equivocation {
        /// The author.
        author: Fingerprint,
        /// The number.
        number: u64,
    },
    /// The author claimed a wrong depth for a message that he named.
    WrongDepth {
        /// The author.
        author: Fingerprint,
        /// His message.
        message: MessageHash,
    },
}

/// The effect of a call on the log. The caller stores and forgets bytes by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogChange {
    /// Messages that count from now on, in the order of their chain.
    pub stored: Vec<MessageHash>,
    /// Messages that don't count any more: whoever showed them takes them back.
    pub void: Vec<MessageHash>,
    /// Messages that are no longer kept for others. They may stay in the local history.
    pub pruned: Vec<MessageHash>,
    /// Proofs that came up.
    pub findings: Vec<Finding>,
    /// The reason why the rest of a run was not taken.
    pub refusal: Option<RunRefusal>,
}

/// How much a log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Longest time since the receipt, in milliseconds.
    pub age: u64,
    /// Most signed bytes.
    pub bytes: u64,
}

/// A message in the log, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageInfo {
    /// The author.
    pub author: Fingerprint,
    /// The place in the author's chain, from 1.
    pub number: u64,
    /// The epoch that the author knew.
    pub epoch: u64,
    /// The author's message before.
    pub previous: Option<Previous>,
    /// Messages of others that the author had seen.
    pub named: Vec<MessageReference>,
    /// 1 + the greatest depth that the message names.
    pub depth: u64,
    /// The author's clock, in milliseconds since 1970.
    pub time: u64,
    /// Time of receipt, by the caller's clock in milliseconds.
    pub received: u64,
    /// Length of the signed bytes.
    pub bytes: u64,
    /// The signature, if this message was the last of a run.
    pub(crate) signature: Option<Signature>,
}

/// The last number of an author that isn't kept, with each of its contents. It only grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Floor {
    pub(crate) number: u64,
    pub(crate) contents: Vec<Predecessor>,
}

/// A message by which a successor is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Predecessor {
    pub(crate) hash: MessageHash,
    depth: u64,
    epoch: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct AuthorLog {
    pub(crate) key: VerifyingKey,
    pub(crate) floor: Floor,
    /// The contents of each number above the floor, without a hole.
    pub(crate) levels: BTreeMap<u64, Vec<MessageHash>>,
    bytes: u64,
}

/// The messages of one room.
#[derive(Debug, Clone)]
pub struct RoomLog {
    room: RoomId,
    pub(crate) entries: HashMap<MessageHash, MessageInfo>,
    pub(crate) authors: BTreeMap<Fingerprint, AuthorLog>,
    order: BTreeMap<OrderKey, MessageHash>,
    by_short: HashMap<ShortHash, MessageHash>,
    /// Number of kept messages that name this one.
    named_by: HashMap<ShortHash, u32>,
    /// Messages that no kept one names, by depth.
    heads: BTreeSet<(u64, MessageHash)>,
    /// Named messages that are not here, with the time since when.
    gaps: HashMap<ShortHash, u64>,
    bytes: u64,
}

impl RoomLog {
    /// Returns an empty log.
    pub fn new(room: RoomId) -> Self {
        Self {
            room,
            entries: HashMap::new(),
            authors: BTreeMap::new(),
            order: BTreeMap::new(),
            by_short: HashMap::new(),
            named_by: HashMap::new(),
            heads: BTreeSet::new(),
            gaps: HashMap::new(),
            bytes: 0,
        }
    }

    /// Takes the messages of a run, up to the first that doesn't count. Known ones are skipped.
    pub fn insert(&mut self, run: &MessageRun, members: &Membership, now: u64) -> LogChange {
        let mut change = LogChange::default();
        let Some(author) = run.messages().first().map(RoomMessage::author) else { return change };
        let last_cut = run.messages().iter().rposition(|message| members.is_cut(&author, &message.hash()));
        for (position, message) in run.messages().iter().enumerate() {
            let is_last = position + 1 == run.messages().len();
            let signature = run.signature().filter(|_| is_last);
            if let Some(known) = self.entries.get_mut(&message.hash()) {
                known.signature = known.signature.or(signature);
                continue;
            }
            if self.authors.get(&author).is_some_and(|log| message.content().number <= log.floor.number) {
                continue;
            }
            let is_before_cut = last_cut.is_some_and(|cut| position <= cut);
            let info = MessageInfo {
                author,
                number: message.content().number,
                epoch: message.content().epoch,
                previous: message.content().previous,
                named: message.content().named.clone(),
                depth: message.depth(),
                time: message.content().time,
                received: now,
                bytes: message.signed().len() as u64,
                signature,
            };
            if let Err(refusal) = self.insert_one(run.key(), message.hash(), info, members, is_before_cut, &mut change)
            {
                change.refusal = Some(refusal);
                break;
            }
        }
        if change.refusal.is_some() || !change.void.is_empty() {
            self.remove_unproven_ends(&author, members, &mut change);
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
            && !self.entries.contains_key(&previous.hash)
            && self.span_of(&first.author(), first.content().epoch, members).is_ok()
        {
            let log = self.authors.entry(first.author()).or_insert_with(|| AuthorLog::new(run.key()));
            let number = first.content().number - 1;
            let top = log.levels.keys().next_back().copied().unwrap_or(log.floor.number);
            if top < number {
                let dropped = std::mem::take(&mut log.levels);
                // The epoch of a message that nobody has is unknown; 0 allows any.
                let floor = Predecessor { hash: previous.hash, depth: previous.depth, epoch: 0 };
                log.floor = Floor { number, contents: vec![floor] };
                for hash in dropped.into_values().flatten() {
                    self.unlink(&hash);
                    change.pruned.push(hash);
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

    /// Applies changed records to all messages.
    pub fn apply_membership(&mut self, members: &Membership) -> LogChange {
        let mut change = LogChange::default();
        let authors: Vec<Fingerprint> = self.authors.keys().copied().collect();
        for author in authors {
            self.apply_membership_to(&author, members, &mut change);
            self.remove_unproven_ends(&author, members, &mut change);
        }
        change
    }

    /// Removes what is beyond `retention`. The floors grow; what is below them is never taken again.
    pub fn prune(&mut self, retention: Retention, now: u64) -> LogChange {
        let mut change = LogChange::default();
        let authors: Vec<Fingerprint> = self.authors.keys().copied().collect();
        for author in authors {
            while self.first_level(&author).is_some_and(|level| {
                level.iter().all(|hash| {
                    self.entries.get(hash).is_none_or(|info| now.saturating_sub(info.received) > retention.age)
                })
            }) {
                self.raise_floor(&author, &mut change);
            }
        }
        while self.bytes > retention.bytes {
            // The author with most bytes pays, so a flood costs the flooder his own messages.
            let Some(author) = self.authors.iter().max_by_key(|(_, log)| log.bytes).map(|(author, _)| *author) else {
                break;
            };
            if self.first_level(&author).is_none() {
                break;
            }
            self.raise_floor(&author, &mut change);
        }
        change
    }

    /// Returns the next message of `key`, after everything that is here.
    pub fn draft(&self, key: &VerifyingKey, members: &Membership, time: u64, body: String) -> MessageDraft {
        let log = self.authors.get(&key.fingerprint());
        let top = log.and_then(|log| {
            let (number, contents) = log.levels.last_key_value()?;
            let hash = contents.iter().min()?;
            Some((*number, Previous { hash: *hash, depth: self.entries.get(hash)?.depth }))
        });
        let top = top.or_else(|| {
            let floor = &log?.floor;
            let last = floor.contents.iter().min_by_key(|last| last.hash)?;
            Some((floor.number, Previous { hash: last.hash, depth: last.depth }))
        });
        let (number, previous) = top.map_or((1, None), |(number, previous)| (number.saturating_add(1), Some(previous)));
        let mut named: Vec<MessageReference> = self
            .heads
            .iter()
            .rev()
            .filter(|(_, hash)| previous.is_none_or(|previous| previous.hash != *hash))
            .take(MAX_NAMED)
            .map(|(depth, hash)| MessageReference { hash: hash.short(), depth: *depth })
            .collect();
        named.sort_unstable();
        named.dedup_by_key(|named| named.hash);
        MessageDraft { room: self.room, epoch: members.epoch(), number, previous, named, time, body }
    }

    /// Returns the cut that this log knows for `key`: its newest message, of the smaller hash if it has two contents.
    pub fn cut(&self, key: &Fingerprint) -> Cut {
        let Some(log) = self.authors.get(key) else { return Cut { number: 0, hash: None } };
        if let Some((number, contents)) = log.levels.last_key_value() {
            return Cut { number: *number, hash: contents.iter().min().copied() };
        }
        let hash = log.floor.contents.iter().map(|last| last.hash).min();
        Cut { number: if hash.is_some() { log.floor.number } else { 0 }, hash }
    }

    /// Returns all messages in the room's order.
    pub fn ordered(&self) -> impl DoubleEndedIterator<Item = (&MessageHash, &MessageInfo)> {
        self.order.values().filter_map(|hash| Some((hash, self.entries.get(hash)?)))
    }

    /// Returns a message.
    pub fn info(&self, hash: &MessageHash) -> Option<&MessageInfo> {
        self.entries.get(hash)
    }

    /// Tells if no message comes after this one; otherwise it is shown as late.
    pub fn is_newest(&self, hash: &MessageHash) -> bool {
        self.order.last_key_value().is_some_and(|(_, last)| last == hash)
    }

    /// Tells if a message names one that is missing, and that for less than `patience` milliseconds. It is shown
    /// afterwards, with the gap.
    pub fn is_waiting(&self, hash: &MessageHash, patience: u64, now: u64) -> bool {
        self.entries.get(hash).is_some_and(|info| {
            info.named
                .iter()
                .any(|named| self.gaps.get(&named.hash).is_some_and(|since| now.saturating_sub(*since) < patience))
        })
    }

    /// Returns how many named messages are missing.
    pub fn gaps(&self) -> usize {
        self.gaps.len()
    }

    /// Returns the number up to which the messages of an author aren't kept.
    pub fn floor(&self, author: &Fingerprint) -> u64 {
        self.authors.get(author).map_or(0, |log| log.floor.number)
    }

    /// Returns the signed bytes of all kept messages.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn insert_one(
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
        let contents = log.levels.entry(info.number).or_default();
        let rival = contents.iter().max().copied();
        let is_full = contents.len() >= MAX_CONTENTS;
        if is_full && !is_before_cut && rival.is_some_and(|rival| rival < hash) {
            return Err(RunRefusal::TooManyContents);
        }
        if rival.is_some() {
            change.findings.push(Finding::Equivocation { author, number: info.number });
        }
        let (number, is_cut) = (info.number, members.is_cut(&author, &hash));
        contents.push(hash);
        log.bytes += info.bytes;
        self.link(hash, info, change);
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

    /// Returns the index of the stay in which `author` wrote at `epoch`.
    fn span_of(&self, author: &Fingerprint, epoch: u64, members: &Membership) -> Result<usize, RunRefusal> {
        if epoch > members.epoch() {
            return Err(RunRefusal::NeedsRecords);
        }
        span_index(members.spans(author), epoch).ok_or(RunRefusal::NotMember)
    }

    fn check_predecessor(&self, info: &MessageInfo, spans: &[MembershipSpan], span: usize) -> Result<(), RunRefusal> {
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
    fn check_cut(
        &self,
        hash: &MessageHash,
        number: u64,
        cut: Option<Cut>,
        path: Option<&HashSet<MessageHash>>,
    ) -> Result<(), RunRefusal> {
        let Some(cut) = cut else { return Ok(()) };
        let counts = if number < cut.number {
            // If the cut is here, so is all that leads to it: another message is beside it.
            let is_cut_here = cut.hash.is_some_and(|cut| self.entries.contains_key(&cut));
            !is_cut_here || path.is_some_and(|path| path.contains(hash))
        } else {
            cut.hash == Some(*hash)
        };
        if counts { Ok(()) } else { Err(RunRefusal::Cut) }
    }

    fn predecessor(&self, author: &Fingerprint, number: u64, hash: &MessageHash) -> Option<Predecessor> {
        if let Some(info) = self.entries.get(hash) {
            let fits = info.author == *author && info.number == number;
            return fits.then_some(Predecessor { hash: *hash, depth: info.depth, epoch: info.epoch });
        }
        let floor = &self.authors.get(author)?.floor;
        floor.contents.iter().find(|last| floor.number == number && last.hash == *hash).copied()
    }

    fn apply_membership_to(&mut self, author: &Fingerprint, members: &Membership, change: &mut LogChange) {
        let spans = members.spans(author);
        let path = self.cut_ancestors(spans);
        let Some(log) = self.authors.get(author) else { return };
        let messages: Vec<MessageHash> = log.levels.values().flatten().copied().collect();
        for hash in messages {
            // Predecessors come first, and what they drag along is gone already.
            let Some(info) = self.entries.get(&hash) else { continue };
            let counts = self.span_of(author, info.epoch, members).and_then(|span| {
                self.check_predecessor(info, spans, span)?;
                self.check_cut(&hash, info.number, spans.get(span).and_then(|span| span.cut), Some(&path))
            });
            if counts.is_err() {
                let number = info.number;
                self.remove_subtree(author, number, &hash, change);
            }
        }
    }

    fn cut_ancestors(&self, spans: &[MembershipSpan]) -> HashSet<MessageHash> {
        let mut path = HashSet::new();
        for cut in spans.iter().filter_map(|span| span.cut?.hash) {
            let mut next = Some(cut);
            while let Some(info) = next.and_then(|hash| self.entries.get(&hash)) {
                next = info.previous.map(|previous| previous.hash).filter(|previous| path.insert(*previous));
            }
        }
        path
    }

    /// Removes a message and all that follows it in its author's tree.
    fn remove_subtree(&mut self, author: &Fingerprint, number: u64, root: &MessageHash, change: &mut LogChange) {
        let Some(log) = self.authors.get_mut(author) else { return };
        let mut removed = vec![*root];
        let mut parents = HashSet::from([*root]);
        for contents in log.levels.range(number.saturating_add(1)..).map(|(_, contents)| contents) {
            let children: HashSet<MessageHash> = contents
                .iter()
                .filter(|hash| {
                    let previous = self.entries.get(hash).and_then(|info| info.previous);
                    previous.is_some_and(|previous| parents.contains(&previous.hash))
                })
                .copied()
                .collect();
            if children.is_empty() {
                break;
            }
            removed.extend(&children);
            parents = children;
        }
        let gone: HashSet<MessageHash> = removed.iter().copied().collect();
        let touched: Vec<u64> = log.levels.range(number..).take(removed.len()).map(|(number, _)| *number).collect();
        for number in touched {
            if let Some(contents) = log.levels.get_mut(&number) {
                contents.retain(|hash| !gone.contains(hash));
                if contents.is_empty() {
                    log.levels.remove(&number);
                }
            }
        }
        for hash in removed {
            self.unlink(&hash);
            change.void.push(hash);
        }
    }

    /// Removes ends of branches that are neither signed nor a cut. They lost the message that proved them, so they could
    /// not be passed on, and members would differ for good. Whoever can prove them sends them again.
    fn remove_unproven_ends(&mut self, author: &Fingerprint, members: &Membership, change: &mut LogChange) {
        while let Some(log) = self.authors.get(author) {
            let is_unproven = |hash: &MessageHash| {
                !members.is_cut(author, hash) && self.entries.get(hash).is_some_and(|info| info.signature.is_none())
            };
            let Some(end) = self.ends(log).into_iter().rfind(is_unproven) else { break };
            let Some(number) = self.entries.get(&end).map(|info| info.number) else { break };
            self.remove_subtree(author, number, &end, change);
        }
    }

    fn first_level(&self, author: &Fingerprint) -> Option<&Vec<MessageHash>> {
        self.authors.get(author)?.levels.first_key_value().map(|(_, contents)| contents)
    }

    fn raise_floor(&mut self, author: &Fingerprint, change: &mut LogChange) {
        let Some(log) = self.authors.get_mut(author) else { return };
        let Some((number, contents)) = log.levels.pop_first() else { return };
        let last = contents.iter().filter_map(|hash| {
            let info = self.entries.get(hash)?;
            Some(Predecessor { hash: *hash, depth: info.depth, epoch: info.epoch })
        });
        log.floor = Floor { number, contents: last.collect() };
        for hash in contents {
            self.unlink(&hash);
            change.pruned.push(hash);
        }
    }

    fn link(&mut self, hash: MessageHash, info: MessageInfo, change: &mut LogChange) {
        for named in &info.named {
            match self.by_short.get(&named.hash).and_then(|hash| self.entries.get(hash)) {
                Some(known) if known.depth == named.depth => {}
                Some(_) => change.findings.push(Finding::WrongDepth { author: info.author, message: hash }),
                None if self.gaps.len() < MAX_GAPS => {
                    self.gaps.entry(named.hash).or_insert(info.received);
                }
                None => {}
            }
        }
        for short in shorts(&info) {
            *self.named_by.entry(short).or_default() += 1;
            if let Some(known) = self.by_short.get(&short)
                && let Some(depth) = self.entries.get(known).map(|info| info.depth)
            {
                self.heads.remove(&(depth, *known));
            }
        }
        if !self.named_by.contains_key(&hash.short()) {
            self.heads.insert((info.depth, hash));
        }
        self.gaps.remove(&hash.short());
        self.by_short.insert(hash.short(), hash);
        self.order.insert(order_key(&hash, &info), hash);
        self.bytes += info.bytes;
        self.entries.insert(hash, info);
    }

    fn unlink(&mut self, hash: &MessageHash) {
        let Some(info) = self.entries.remove(hash) else { return };
        self.order.remove(&order_key(hash, &info));
        self.by_short.remove(&hash.short());
        self.heads.remove(&(info.depth, *hash));
        self.bytes -= info.bytes;
        if let Some(log) = self.authors.get_mut(&info.author) {
            log.bytes -= info.bytes;
        }
        for short in shorts(&info) {
            let Some(count) = self.named_by.get_mut(&short) else { continue };
            *count -= 1;
            if *count > 0 {
                continue;
            }
            self.named_by.remove(&short);
            self.gaps.remove(&short);
            if let Some(known) = self.by_short.get(&short)
                && let Some(depth) = self.entries.get(known).map(|info| info.depth)
            {
                self.heads.insert((depth, *known));
            }
        }
    }

    /// Takes out what came and went within one call.
    fn forget_void_and_stored(&self, change: &mut LogChange) {
        let stored: HashSet<MessageHash> = change.stored.iter().copied().collect();
        change.stored.retain(|hash| self.entries.contains_key(hash));
        change.void.retain(|hash| !stored.contains(hash));
    }
}

impl AuthorLog {
    fn new(key: VerifyingKey) -> Self {
        Self { key, floor: Floor::default(), levels: BTreeMap::new(), bytes: 0 }
    }

    /// Tells if some number has two contents.
    pub(crate) fn is_forked(&self) -> bool {
        self.floor.contents.len() > 1 || self.levels.values().any(|contents| contents.len() > 1)
    }
}

fn span_index(spans: &[MembershipSpan], epoch: u64) -> Option<usize> {
    spans.iter().position(|span| span.from <= epoch && span.until.is_none_or(|until| epoch < until))
}

fn order_key(hash: &MessageHash, info: &MessageInfo) -> OrderKey {
    (info.depth, info.time, info.author, info.number, *hash)
}

fn shorts(info: &MessageInfo) -> impl Iterator<Item = ShortHash> {
    let previous = info.previous.map(|previous| previous.hash.short());
    info.named.iter().map(|named| named.hash).chain(previous)
}
