//! The thread that hashes: what passes it is what the file's hash promised.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use shared::ZeroRuns;
use shared::content::{GroupValue, Manifest};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::{Desk, Group, Job, Order, Outcome};
use crate::engine::fetch::FileNo;
use crate::engine::fetch::plan::SourceNo;
use crate::engine::zeros::zero_values;

/// Claims that are checked between one job and the next.
const CLAIMS_AT_ONCE: usize = 64;

/// What the writing thread is told.
#[derive(Debug)]
pub(super) enum Checked {
    /// Open the partial of a file of several groups.
    Open { file: FileNo, manifest: Arc<Manifest>, zeros: ZeroRuns },
    /// Write a group.
    Group(Right),
    /// These groups of a file are zeros.
    Zeros { file: FileNo, groups: Vec<u32> },
    /// This one isn't, though `source` claims it.
    NotZeros { file: FileNo, group: u32, source: SourceNo },
    /// Give up on a file.
    Abandon { file: FileNo },
}

/// A group that is what its file's hash promised; only this module makes one.
#[derive(Debug)]
pub(super) struct Right(Group);

impl Right {
    /// The group, to look at.
    pub(super) const fn get(&self) -> &Group {
        &self.0
    }

    /// The same, but its room is free for others: the one that they all wait for would find none.
    pub(super) fn without_room(mut self) -> Self {
        self.0.room = None;
        self
    }

    /// The buffer, for reuse.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.0.bytes
    }
}

/// Groups that a source claims to be zeros, as far as that isn't checked yet.
struct Claim {
    file: FileNo,
    source: SourceNo,
    manifest: Arc<Manifest>,
    groups: VecDeque<u32>,
}

struct Checker<'a> {
    desk: &'a Desk,
    checked: &'a mpsc::Sender<Checked>,
    /// Of the files of several groups that are open.
    manifests: HashMap<FileNo, Arc<Manifest>>,
    claims: VecDeque<Claim>,
}

/// The next thread is gone.
struct Gone;

pub(super) fn run(desk: &Desk, jobs: mpsc::Receiver<Job>, checked: &mpsc::Sender<Checked>) {
    // It ends with what it is told by, or what it tells.
    let _: Result<(), Gone> = Checker { desk, checked, manifests: HashMap::new(), claims: VecDeque::new() }.run(jobs);
}

impl Checker<'_> {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) -> Result<(), Gone> {
        loop {
            let job = match jobs.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Disconnected) => return Ok(()),
                // Claims need no network: they are checked while it brings nothing.
                Err(TryRecvError::Empty) if self.check_claims(CLAIMS_AT_ONCE)? => continue,
                Err(TryRecvError::Empty) => match jobs.blocking_recv() {
                    Some(job) => job,
                    None => return Ok(()),
                },
            };
            self.take(job)?;
            // One for each group that comes, so that a fast network doesn't leave them all to the end.
            self.check_claims(1)?;
        }
    }

    fn take(&mut self, job: Job) -> Result<(), Gone> {
        let desk = self.desk;
        match job {
            Job::Open { file, manifest, zeros, source } => self.open(file, manifest, zeros, source),
            Job::Abandon { file } => self.pass(Checked::Abandon { file }),
            Job::Group(group) if desk.is_closed(group.file) => {
                desk.buffers.give_back(group.bytes);
                Ok(())
            }
            Job::Group(came) => {
                let Group { file, group, source, .. } = came;
                let manifest = self.manifests.get(&file).map(Arc::as_ref);
                if desk.orders.get(file).is_some_and(|order| is_right(order, manifest, group, &came.bytes)) {
                    return self.pass(Checked::Group(Right(came)));
                }
                desk.buffers.give_back(came.bytes);
                desk.tell(Outcome::Wrong { file, group, source });
                Ok(())
            }
        }
    }

    fn open(&mut self, file: FileNo, manifest: Manifest, zeros: ZeroRuns, source: SourceNo) -> Result<(), Gone> {
        self.manifests.retain(|file, _| !self.desk.is_closed(*file));
        let manifest = Arc::new(manifest);
        self.manifests.insert(file, manifest.clone());
        self.claims.push_back(Claim { file, source, manifest: manifest.clone(), groups: zeros.groups().collect() });
        self.pass(Checked::Open { file, manifest, zeros })?;
        // What goes to standard output waits in memory for the groups before it: these first.
        while self.desk.orders.get(file).is_some_and(|order| order.spot.is_none())
            && self.check_claims(CLAIMS_AT_ONCE)?
        {}
        Ok(())
    }

    /// Checks up to `count` groups that are claimed to be zeros; false when there are none.
    fn check_claims(&mut self, count: usize) -> Result<bool, Gone> {
        let Some(claim) = self.claims.front_mut() else { return Ok(false) };
        let Claim { file, source, .. } = *claim;
        let some: Vec<u32> = claim.groups.drain(..count.min(claim.groups.len())).collect();
        let manifest = claim.manifest.clone();
        if claim.groups.is_empty() || self.desk.is_closed(file) {
            self.claims.pop_front();
        }
        let Some(order) = self.desk.orders.get(file).filter(|_| !self.desk.is_closed(file)) else { return Ok(true) };
        let values = zero_values(&order.layout, &some);
        let (right, wrong): (Vec<_>, Vec<_>) =
            some.into_iter().zip(values).partition(|(group, value)| manifest.value(*group) == Some(value));
        for (group, _) in wrong {
            self.pass(Checked::NotZeros { file, group, source })?;
        }
        let groups: Vec<u32> = right.into_iter().map(|(group, _)| group).collect();
        if !groups.is_empty() {
            self.pass(Checked::Zeros { file, groups })?;
        }
        Ok(true)
    }

    fn pass(&self, checked: Checked) -> Result<(), Gone> {
        self.checked.blocking_send(checked).map_err(|_| Gone)
    }
}

/// Whether these bytes are the group that the file's manifest, or of a file of one group its hash, proves.
fn is_right(order: &Order, manifest: Option<&Manifest>, group: u32, bytes: &[u8]) -> bool {
    let layout = &order.layout;
    let whole: &GroupValue = order.stat.hash.as_bytes();
    let expected = if layout.groups() == 1 { Some(whole) } else { manifest.and_then(|known| known.value(group)) };
    let is_complete = group < layout.groups() && bytes.len() as u64 == layout.len_of(group);
    is_complete && expected == Some(&layout.value_of(group, bytes))
}

#[cfg(test)]
mod tests {
    use shared::peer::FileStat;
    use shared::{ContentHash, Layout};

    use super::super::EarlierRounds;
    use super::*;

    fn order(content: &[u8]) -> Order {
        let layout = Layout::of(content.len() as u64).unwrap();
        let stat = FileStat::new("x".parse().unwrap(), ContentHash::of(content), &layout);
        Order { stat, layout, spot: None, told_as: 0, earlier: EarlierRounds::default() }
    }

    #[test]
    fn only_what_the_hash_promised_is_right() {
        let content: Vec<u8> = (0..(3 << 20) + 7).map(|i: u32| u8::try_from(i % 251).unwrap()).collect();
        let order = order(&content);
        let groups: Vec<&[u8]> = content.chunks(1 << 20).collect();
        let values = (0..4).map(|no| order.layout.value_of(no, groups[usize::try_from(no).unwrap()])).collect();
        let manifest = Manifest::new(values);
        assert_eq!(manifest.fold(), order.stat.hash);
        let right = |group, bytes: &[u8]| is_right(&order, Some(&manifest), group, bytes);
        assert!(right(0, groups[0]) && right(3, groups[3]));
        assert!(!right(1, groups[0]), "in another's place");
        assert!(!right(0, &vec![0; 1 << 20]), "other bytes");
        assert!(!right(0, &groups[0][..5]), "too few");
        assert!(!right(4, &[]), "a group that isn't there");
        assert!(!is_right(&order, None, 0, groups[0]), "without a manifest nothing is proven");
    }

    #[test]
    fn a_file_of_one_group_needs_no_manifest() {
        for content in [b"".as_slice(), b"some bytes"] {
            assert!(is_right(&order(content), None, 0, content));
            assert!(!is_right(&order(content), None, 0, b"other bytes"));
            assert!(!is_right(&order(content), None, 1, content));
        }
    }
}
