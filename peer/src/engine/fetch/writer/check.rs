//! The thread that hashes: what passes it is what the file's hash promised.

use std::collections::HashMap;
use std::sync::Arc;

use shared::content::{GroupValue, Manifest};
use tokio::sync::mpsc;

use super::{Desk, Group, Job, Order, Outcome};
use crate::engine::fetch::FileNo;

/// What the writing thread is told.
#[derive(Debug)]
pub(super) enum Checked {
    /// Open the partial of a file of several groups.
    Open { file: FileNo, manifest: Arc<Manifest> },
    /// Write a group.
    Group(Right),
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

pub(super) fn run(desk: &Desk, mut jobs: mpsc::Receiver<Job>, checked: &mpsc::Sender<Checked>) {
    // Of the files of several groups that are open.
    let mut manifests: HashMap<FileNo, Arc<Manifest>> = HashMap::new();
    while let Some(job) = jobs.blocking_recv() {
        let passed = match job {
            Job::Open { file, manifest } => {
                manifests.retain(|file, _| !desk.is_closed(*file));
                let manifest = Arc::new(manifest);
                manifests.insert(file, manifest.clone());
                Checked::Open { file, manifest }
            }
            Job::Abandon { file } => Checked::Abandon { file },
            Job::Group(group) if desk.is_closed(group.file) => {
                desk.buffers.give_back(group.bytes);
                continue;
            }
            Job::Group(came) => {
                let Group { file, group, source, .. } = came;
                let manifest = manifests.get(&file).map(Arc::as_ref);
                if !desk.orders.get(file).is_some_and(|order| is_right(order, manifest, group, &came.bytes)) {
                    desk.buffers.give_back(came.bytes);
                    desk.tell(Outcome::Wrong { file, group, source });
                    continue;
                }
                Checked::Group(Right(came))
            }
        };
        if checked.blocking_send(passed).is_err() {
            return;
        }
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

    use super::*;

    fn order(content: &[u8]) -> Order {
        let layout = Layout::of(content.len() as u64).unwrap();
        let stat = FileStat::new("x".parse().unwrap(), ContentHash::of(content), &layout);
        Order { stat, layout, spot: None, told_as: 0 }
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
