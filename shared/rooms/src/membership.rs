//! A room's members at each epoch: the chain of records, and the spans of membership that follow from it.
//!
//! The tracker decides who may do what. Members check that it signed, and show each change; they have no rules of their
//! own by which two of them could come to different members.
//!
//! A record is taken if it is of the room, its previous is a known record (none for the first), and its epoch is greater
//! than the one of its previous, for a restore by at least 2^20. If another record has the same previous, the one with the
//! greater epoch stays; of equal epochs the later time, of equal times the smaller hash. The other one is void with
//! all that follow it.
//!
//! | change | effect |
//! |---|---|
//! | join | begins a *stay* of the key, unless one lasts; the member is the owner if there are no others |
//! | leave, kick | end the stay of the key, if one lasts: it has the epochs from its join on and before this record's |
//! | set cut | sets the cut of the stay of the key that ended at the given epoch, if it is open |
//! | owner | makes a member the owner, and the owner before a moderator |
//! | role | makes a member, except the owner, a moderator or not |
//! | topic | replaces the topic |
//! | delete | ends the room: nobody serves it any more |
//! | restore | nothing; by its epoch it makes void what followed its previous |
//!
//! A change of a key that is no member has no effect. The record stays in the chain all the same.

use std::collections::{BTreeMap, HashMap};

use shared::room::{MessageHash, RecordHash};
use shared::{Fingerprint, RoomId, RoomName, RoomTopic, UserName};

use crate::record::{Cut, HistoryVisibility, RoomChange, SignedRecord};

/// Least distance between the epoch of a restore and the one before it. A tracker restored from a backup is thereby
/// ahead of every record that it signed after that backup.
pub const RESTORE_EPOCH_STEP: u64 = 1 << 20;
/// Most records of a room.
pub const MAX_RECORDS: usize = 65_536;

/// One stay of a key in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipSpan {
    /// Epoch of the join.
    pub from: u64,
    /// Epoch of the leave or kick.
    pub until: Option<u64>,
    /// Its cut; `None` while the member stays, and while the cut is open.
    pub cut: Option<Cut>,
}

/// The rights of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberRole {
    /// Reads and writes.
    Member,
    /// Invites and kicks as well.
    Moderator,
    /// Everything. A room has one owner.
    Owner,
}

/// A present member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomMember {
    /// The name of the account.
    pub user: UserName,
    /// The rights.
    pub role: MemberRole,
    /// Epoch of the join.
    pub since: u64,
}

/// An effect of a record that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordEffect {
    /// The record follows the newest one.
    Appended,
    /// The record was known.
    Known,
    /// The tracker was restored: this many records are void.
    Restored(usize),
    /// The tracker signed two records after the same one: the later one stays, this many are void.
    Contradicted(usize),
}

/// A reason why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordRefusal {
    /// The record belongs to another room.
    #[error("the membership record is of another room")]
    OtherRoom,
    /// Records before it are missing.
    #[error("membership records before this one are missing")]
    NeedsEarlier,
    /// A record that was taken voids this one.
    #[error("a later membership record voids this one")]
    Void,
    /// Its epoch isn't above the one before.
    #[error("the epoch of the membership record is too small")]
    BadEpoch,
    /// The room has as many records as a room may have.
    #[error("the room has too many membership records")]
    Full,
}

/// The members of one room, with all who ever were.
#[derive(Debug, Clone)]
pub struct Membership {
    room: RoomId,
    records: Vec<SignedRecord>,
    positions: HashMap<RecordHash, usize>,
    members: BTreeMap<Fingerprint, RoomMember>,
    users: HashMap<Fingerprint, UserName>,
    spans: HashMap<Fingerprint, Vec<MembershipSpan>>,
    name: Option<RoomName>,
    history: HistoryVisibility,
    topic: RoomTopic,
    is_deleted: bool,
}

impl Membership {
    /// Returns the membership of a room of which no record is known.
    pub fn new(room: RoomId) -> Self {
        Self {
            room,
            records: Vec::new(),
            positions: HashMap::new(),
            members: BTreeMap::new(),
            users: HashMap::new(),
            spans: HashMap::new(),
            name: None,
            history: HistoryVisibility::default(),
            topic: RoomTopic::default(),
            is_deleted: false,
        }
    }

    /// Takes a record. The result doesn't depend on the order in which chains arrive: at a fork the restore wins, by
    /// its epoch, then the later record, then the smaller hash.
    ///
    /// # Errors
    /// Returns a [`RecordRefusal`], and changes nothing, if the record has no place in the chain.
    pub fn insert(&mut self, record: SignedRecord) -> Result<RecordEffect, RecordRefusal> {
        if record.record().room != self.room {
            return Err(RecordRefusal::OtherRoom);
        }
        if self.positions.contains_key(&record.hash()) {
            return Ok(RecordEffect::Known);
        }
        let kept = match record.record().previous {
            None => 0,
            Some(previous) => self.positions.get(&previous).ok_or(RecordRefusal::NeedsEarlier)? + 1,
        };
        let epoch_before = kept.checked_sub(1).map_or(0, |last| self.records[last].record().epoch);
        let is_restore = matches!(record.record().change, RoomChange::Restore);
        let least_step = if is_restore { RESTORE_EPOCH_STEP } else { 1 };
        if record.record().epoch < epoch_before.saturating_add(least_step) {
            return Err(RecordRefusal::BadEpoch);
        }
        if kept >= MAX_RECORDS {
            return Err(RecordRefusal::Full);
        }
        let Some(rival) = self.records.get(kept) else {
            self.apply(&record);
            self.positions.insert(record.hash(), self.records.len());
            self.records.push(record);
            return Ok(RecordEffect::Appended);
        };
        let rank = |signed: &SignedRecord| {
            let record = signed.record();
            // The second restore of one backup has the epoch of the first, and a later time.
            (record.epoch, record.time, std::cmp::Reverse(signed.hash()))
        };
        if rank(&record) < rank(rival) {
            return Err(RecordRefusal::Void);
        }
        let void = self.records.len() - kept;
        self.records.truncate(kept);
        self.records.push(record);
        // Effects of records can't be taken back one by one.
        self.rebuild();
        Ok(if is_restore { RecordEffect::Restored(void) } else { RecordEffect::Contradicted(void) })
    }

    /// Returns the room.
    pub fn room(&self) -> RoomId {
        self.room
    }

    /// Returns the epoch of the newest record; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.records.last().map_or(0, |record| record.record().epoch)
    }

    /// Returns the hash of the newest record.
    pub fn head(&self) -> Option<RecordHash> {
        self.records.last().map(SignedRecord::hash)
    }

    /// Returns the present members, by key.
    pub fn members(&self) -> &BTreeMap<Fingerprint, RoomMember> {
        &self.members
    }

    /// Returns the account that last joined with a key, present or not.
    pub fn user(&self, key: &Fingerprint) -> Option<&UserName> {
        self.users.get(key)
    }

    /// Returns the room's name; `None` before the first record.
    pub fn name(&self) -> Option<&RoomName> {
        self.name.as_ref()
    }

    /// Returns the topic.
    pub fn topic(&self) -> &RoomTopic {
        &self.topic
    }

    /// Returns the messages that a new member may read.
    pub fn history(&self) -> HistoryVisibility {
        self.history
    }

    /// Returns the epoch from which on a present member may read, or `None` for any other key.
    pub fn readable_since(&self, key: &Fingerprint) -> Option<u64> {
        let member = self.members.get(key)?;
        Some(match self.history {
            HistoryVisibility::Shared => 0,
            HistoryVisibility::Joined => member.since,
        })
    }

    /// Returns true if the room was deleted.
    pub fn is_deleted(&self) -> bool {
        self.is_deleted
    }

    /// Returns all stays of a key, oldest first.
    pub fn spans(&self, key: &Fingerprint) -> &[MembershipSpan] {
        self.spans.get(key).map_or(&[], Vec::as_slice)
    }

    /// Returns true if `hash` is the cut of a membership of `key`. That proves no message: who sets a cut could have made
    /// it up.
    pub fn is_cut(&self, key: &Fingerprint, hash: &MessageHash) -> bool {
        self.spans(key).iter().any(|span| span.cut.is_some_and(|cut| cut.hash.as_ref() == Some(hash)))
    }

    /// Returns the memberships that ended without a cut, as key and epoch of the end. A moderator's node sets them.
    pub fn open_cuts(&self) -> Vec<(Fingerprint, u64)> {
        let mut open: Vec<_> = self
            .spans
            .iter()
            .flat_map(|(key, spans)| spans.iter().map(move |span| (*key, *span)))
            .filter_map(|(key, span)| span.until.filter(|_| span.cut.is_none()).map(|until| (key, until)))
            .collect();
        open.sort_unstable();
        open
    }

    /// Returns the member who owns the room when its owner goes: the moderator, or else the member, who is there
    /// longest.
    pub fn successor(&self) -> Option<(&Fingerprint, &RoomMember)> {
        self.members
            .iter()
            .filter(|(_, member)| member.role != MemberRole::Owner)
            .min_by_key(|(key, member)| (std::cmp::Reverse(member.role), member.since, **key))
    }

    /// Returns hashes by which another member finds the newest record that both have: the newest eight, then at
    /// doubling distance, and the first.
    pub fn locator(&self) -> Vec<RecordHash> {
        let mut hashes = Vec::new();
        let mut step = 1;
        let mut rest = self.records.as_slice();
        while let Some(record) = rest.last() {
            hashes.push(record.hash());
            if hashes.len() >= 8 {
                step *= 2;
            }
            // The first record always ends the list, so that two chains of one room have something in common.
            rest = &rest[..if rest.len() == 1 { 0 } else { rest.len().saturating_sub(step).max(1) }];
        }
        hashes
    }

    /// Returns all records, oldest first.
    pub fn records(&self) -> &[SignedRecord] {
        &self.records
    }

    /// Returns the records that follow the newest one of `locator` that is known, at most `limit`.
    pub fn records_after(&self, locator: &[RecordHash], limit: usize) -> &[SignedRecord] {
        let from = locator.iter().filter_map(|hash| self.positions.get(hash)).max().map_or(0, |position| position + 1);
        &self.records[from..self.records.len().min(from.saturating_add(limit))]
    }

    fn rebuild(&mut self) {
        let records = std::mem::take(&mut self.records);
        *self = Self::new(self.room);
        for (position, record) in records.iter().enumerate() {
            self.apply(record);
            self.positions.insert(record.hash(), position);
        }
        self.records = records;
    }

    fn apply(&mut self, record: &SignedRecord) {
        let epoch = record.record().epoch;
        match &record.record().change {
            RoomChange::Create { room_name, history } => {
                self.name = Some(room_name.clone());
                self.history = *history;
            }
            RoomChange::Restore => {}
            RoomChange::Join { user, key } => {
                // A second join of a present member changes nothing, so that its span stays one.
                if self.members.contains_key(key) {
                    return;
                }
                let role = if self.members.is_empty() { MemberRole::Owner } else { MemberRole::Member };
                self.users.insert(*key, user.clone());
                self.members.insert(*key, RoomMember { user: user.clone(), role, since: epoch });
                self.spans.entry(*key).or_default().push(MembershipSpan { from: epoch, until: None, cut: None });
            }
            RoomChange::Leave { key, cut, .. } | RoomChange::Kick { key, cut, .. } => {
                if self.members.remove(key).is_some()
                    && let Some(span) = self.spans.get_mut(key).and_then(|spans| spans.last_mut())
                {
                    span.until = Some(epoch);
                    span.cut = *cut;
                }
            }
            RoomChange::SetCut { key, ended_at, cut } => {
                let spans = self.spans.get_mut(key).into_iter().flatten();
                for span in spans.filter(|span| span.until == Some(*ended_at) && span.cut.is_none()) {
                    span.cut = Some(*cut);
                }
            }
            RoomChange::Owner { key, .. } => {
                // Checked first: else the room would be left without an owner.
                if !self.members.contains_key(key) {
                    return;
                }
                for member in self.members.values_mut().filter(|member| member.role == MemberRole::Owner) {
                    member.role = MemberRole::Moderator;
                }
                if let Some(member) = self.members.get_mut(key) {
                    member.role = MemberRole::Owner;
                }
            }
            RoomChange::SetRole { key, moderator, .. } => {
                if let Some(member) = self.members.get_mut(key).filter(|member| member.role != MemberRole::Owner) {
                    member.role = if *moderator { MemberRole::Moderator } else { MemberRole::Member };
                }
            }
            RoomChange::Topic { topic } => self.topic.clone_from(topic),
            RoomChange::Delete => self.is_deleted = true,
        }
    }
}
