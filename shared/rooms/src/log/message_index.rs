//! The kept messages, by hash and in the room's order, and which of them name each other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use shared::Fingerprint;
use shared::room::{MessageHash, ShortHash};

use crate::Signature;
use crate::message::{MAX_NAMED, MessageReference, Previous, RoomMessage};

/// Most gaps that are tracked.
const MAX_GAPS: usize = 1024;

/// A message's place in the room's order.
type OrderKey = (u64, u64, Fingerprint, u64, MessageHash);

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
    pub signature: Option<Signature>,
}

impl MessageInfo {
    pub(super) fn new(message: &RoomMessage, signature: Option<Signature>, received: u64) -> Self {
        let content = message.content();
        Self {
            author: message.author(),
            number: content.number,
            epoch: content.epoch,
            previous: content.previous,
            named: content.named.clone(),
            depth: message.depth(),
            time: content.time,
            received,
            bytes: message.signed().len() as u64,
            signature,
        }
    }
}

/// The kept messages of a room.
#[derive(Debug, Clone, Default)]
pub(crate) struct MessageIndex {
    entries: HashMap<MessageHash, MessageInfo>,
    order: BTreeMap<OrderKey, MessageHash>,
    by_short: HashMap<ShortHash, MessageHash>,
    /// Number of kept messages that name this one.
    named_by: HashMap<ShortHash, u32>,
    /// Messages that no kept one names, by depth.
    heads: BTreeSet<(u64, MessageHash)>,
    /// Named messages that are not here.
    gaps: HashSet<ShortHash>,
    bytes: u64,
}

impl MessageIndex {
    /// Adds a message. Returns true if it claims a wrong depth for one that it names.
    pub(crate) fn insert(&mut self, hash: MessageHash, info: MessageInfo) -> bool {
        let mut has_wrong_depth = false;
        for named in &info.named {
            match self.by_short.get(&named.hash).and_then(|hash| self.entries.get(hash)) {
                Some(known) if known.depth == named.depth => {}
                Some(_) => has_wrong_depth = true,
                None if self.gaps.len() < MAX_GAPS => {
                    self.gaps.insert(named.hash);
                }
                // Beyond the bound a message doesn't wait for what it names.
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
        // A message may arrive after those that name it.
        if !self.named_by.contains_key(&hash.short()) {
            self.heads.insert((info.depth, hash));
        }
        self.gaps.remove(&hash.short());
        self.by_short.insert(hash.short(), hash);
        self.order.insert(order_key(&hash, &info), hash);
        self.bytes += info.bytes;
        self.entries.insert(hash, info);
        has_wrong_depth
    }

    /// Removes a message.
    pub(crate) fn remove(&mut self, hash: &MessageHash) -> Option<MessageInfo> {
        let info = self.entries.remove(hash)?;
        self.order.remove(&order_key(hash, &info));
        self.by_short.remove(&hash.short());
        self.heads.remove(&(info.depth, *hash));
        self.bytes -= info.bytes;
        for short in shorts(&info) {
            let Some(count) = self.named_by.get_mut(&short) else { continue };
            *count -= 1;
            if *count > 0 {
                continue;
            }
            self.named_by.remove(&short);
            // Nobody who would wait for it is left.
            self.gaps.remove(&short);
            if let Some(known) = self.by_short.get(&short)
                && let Some(depth) = self.entries.get(known).map(|info| info.depth)
            {
                self.heads.insert((depth, *known));
            }
        }
        Some(info)
    }

    pub(crate) fn get(&self, hash: &MessageHash) -> Option<&MessageInfo> {
        self.entries.get(hash)
    }

    pub(crate) fn get_mut(&mut self, hash: &MessageHash) -> Option<&mut MessageInfo> {
        self.entries.get_mut(hash)
    }

    pub(crate) fn contains(&self, hash: &MessageHash) -> bool {
        self.entries.contains_key(hash)
    }

    /// Returns all messages in the room's order.
    pub(crate) fn ordered(&self) -> impl DoubleEndedIterator<Item = (&MessageHash, &MessageInfo)> {
        self.order.values().filter_map(|hash| Some((hash, self.entries.get(hash)?)))
    }

    /// Returns references to the deepest heads but `previous`, as a message has them.
    pub(crate) fn references(&self, previous: Option<Previous>) -> Vec<MessageReference> {
        let others = self.heads.iter().rev().filter(|(_, hash)| previous.is_none_or(|previous| previous.hash != *hash));
        // The deepest first: beyond the bound, the others stay heads for the next message to name.
        let mut named: Vec<MessageReference> = others
            .take(MAX_NAMED)
            .map(|(depth, hash)| MessageReference { hash: hash.short(), depth: *depth })
            .collect();
        // The format wants strictly ascending hashes, and two messages may have the same first half.
        named.sort_unstable();
        named.dedup_by_key(|named| named.hash);
        named
    }

    /// Returns true if the message of this hash is named and missing.
    pub(crate) fn is_missing(&self, hash: &ShortHash) -> bool {
        self.gaps.contains(hash)
    }

    /// Returns how many named messages are missing.
    pub(crate) fn gaps(&self) -> usize {
        self.gaps.len()
    }

    /// Returns the signed bytes of all messages.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn order_key(hash: &MessageHash, info: &MessageInfo) -> OrderKey {
    (info.depth, info.time, info.author, info.number, *hash)
}

fn shorts(info: &MessageInfo) -> impl Iterator<Item = ShortHash> {
    let previous = info.previous.map(|previous| previous.hash.short());
    info.named.iter().map(|named| named.hash).chain(previous)
}
