//! Verifying thread: only groups with the hash that the file's content hash promises pass it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use shared::ZeroRuns;
use shared::content::{ChainingValue, Manifest};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::{FileJob, ReceivedGroup, WriterCommand, WriterContext, WriterEvent};
use crate::engine::fetch::FileNo;
use crate::engine::fetch::plan::SourceNo;
use crate::engine::zero_groups::zero_values;

/// Claims checked at a time while no command waits.
const CLAIM_BATCH: usize = 64;

/// A command for the writing thread.
#[derive(Debug)]
pub(super) enum WriteCommand {
    /// Open the partial file of a file of several groups.
    Open { file: FileNo, manifest: Arc<Manifest>, zeros: ZeroRuns },
    /// Write a group.
    Group(VerifiedGroup),
    /// These groups of a file are verified to be zeros.
    Zeros { file: FileNo, groups: Vec<u32> },
    /// This group isn't zeros, though `source` claims it.
    NotZeros { file: FileNo, group: u32, source: SourceNo },
    /// Give up on a file.
    Abandon { file: FileNo },
}

/// A group that matches its file's hash; only this module makes one.
#[derive(Debug)]
pub(super) struct VerifiedGroup(ReceivedGroup);

impl VerifiedGroup {
    /// Returns the group.
    pub(super) const fn group(&self) -> &ReceivedGroup {
        &self.0
    }

    /// Releases the group's part of the memory quota early, for the group that it waits for.
    pub(super) fn release_memory(mut self) -> Self {
        self.0.memory_permit = None;
        self
    }

    /// Returns the buffer, for reuse.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.0.bytes
    }
}

/// Unchecked groups that a source claims to be zeros.
struct ZeroClaim {
    file: FileNo,
    source: SourceNo,
    manifest: Arc<Manifest>,
    groups: VecDeque<u32>,
}

struct GroupVerifier<'a> {
    context: &'a WriterContext,
    write_commands: &'a mpsc::Sender<WriteCommand>,
    /// Manifests of the open files of several groups.
    manifests: HashMap<FileNo, Arc<Manifest>>,
    zero_claims: VecDeque<ZeroClaim>,
}

/// The writing thread is gone.
struct NextThreadGone;

pub(super) fn run(context: &WriterContext, jobs: mpsc::Receiver<WriterCommand>, checked: &mpsc::Sender<WriteCommand>) {
    // Both ends are normal: there are no more commands, or the next thread is gone, whose panic `join` reports.
    let _: Result<(), NextThreadGone> =
        GroupVerifier { context, write_commands: checked, manifests: HashMap::new(), zero_claims: VecDeque::new() }
            .run(jobs);
}

impl GroupVerifier<'_> {
    fn run(mut self, mut jobs: mpsc::Receiver<WriterCommand>) -> Result<(), NextThreadGone> {
        loop {
            let command = match jobs.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Disconnected) => return Ok(()),
                // Claims need no network: they are checked while it brings nothing.
                Err(TryRecvError::Empty) if self.check_claims(CLAIM_BATCH)? => continue,
                Err(TryRecvError::Empty) => match jobs.blocking_recv() {
                    Some(command) => command,
                    None => return Ok(()),
                },
            };
            self.handle_command(command)?;
            // One claim per command, so that a fast network doesn't leave all of them to the end.
            self.check_claims(1)?;
        }
    }

    fn handle_command(&mut self, command: WriterCommand) -> Result<(), NextThreadGone> {
        let context = self.context;
        match command {
            WriterCommand::Open { file, manifest, zeros, source } => self.open(file, manifest, zeros, source),
            WriterCommand::Abandon { file } => self.forward(WriteCommand::Abandon { file }),
            // The file was settled or given up while the group was on its way.
            WriterCommand::Group(group) if context.is_closed(group.file) => {
                context.buffers.recycle(group.bytes);
                Ok(())
            }
            WriterCommand::Group(came) => {
                let ReceivedGroup { file, group, source, .. } = came;
                let manifest = self.manifests.get(&file).map(Arc::as_ref);
                if context.jobs.get(file).is_some_and(|order| is_group_valid(order, manifest, group, &came.bytes)) {
                    return self.forward(WriteCommand::Group(VerifiedGroup(came)));
                }
                context.buffers.recycle(came.bytes);
                context.send_event(WriterEvent::GroupCorrupt { file, group, source });
                Ok(())
            }
        }
    }

    fn open(
        &mut self,
        file: FileNo,
        manifest: Manifest,
        zeros: ZeroRuns,
        source: SourceNo,
    ) -> Result<(), NextThreadGone> {
        // Here and not at each end of a file: the map grows only here.
        self.manifests.retain(|file, _| !self.context.is_closed(*file));
        let manifest = Arc::new(manifest);
        self.manifests.insert(file, manifest.clone());
        self.zero_claims.push_back(ZeroClaim {
            file,
            source,
            manifest: manifest.clone(),
            groups: zeros.groups().collect(),
        });
        self.forward(WriteCommand::Open { file, manifest, zeros })?;
        // In a stream, groups wait in memory for the zeros before them, so the claims are checked first.
        while self.context.jobs.get(file).is_some_and(|job| job.target.is_none()) && self.check_claims(CLAIM_BATCH)? {}
        Ok(())
    }

    /// Checks up to `count` groups that are claimed to be zeros; false if there are no claims.
    fn check_claims(&mut self, count: usize) -> Result<bool, NextThreadGone> {
        let Some(claim) = self.zero_claims.front_mut() else { return Ok(false) };
        let ZeroClaim { file, source, .. } = *claim;
        let some: Vec<u32> = claim.groups.drain(..count.min(claim.groups.len())).collect();
        let manifest = claim.manifest.clone();
        if claim.groups.is_empty() || self.context.is_closed(file) {
            self.zero_claims.pop_front();
        }
        let Some(job) = self.context.jobs.get(file).filter(|_| !self.context.is_closed(file)) else { return Ok(true) };
        let values = zero_values(&job.layout, &some);
        let (right, wrong): (Vec<_>, Vec<_>) =
            some.into_iter().zip(values).partition(|(group, value)| manifest.chaining_value(*group) == Some(value));
        // Through the writing thread, so that the event follows the one that the file is open.
        for (group, _) in wrong {
            self.forward(WriteCommand::NotZeros { file, group, source })?;
        }
        let groups: Vec<u32> = right.into_iter().map(|(group, _)| group).collect();
        if !groups.is_empty() {
            self.forward(WriteCommand::Zeros { file, groups })?;
        }
        Ok(true)
    }

    fn forward(&self, checked: WriteCommand) -> Result<(), NextThreadGone> {
        self.write_commands.blocking_send(checked).map_err(|_| NextThreadGone)
    }
}

/// True if these bytes match the manifest or, for a file of one group, its content hash.
pub(in crate::engine::fetch) fn is_group_valid(
    job: &FileJob,
    manifest: Option<&Manifest>,
    group: u32,
    bytes: &[u8],
) -> bool {
    let layout = &job.layout;
    let whole: &ChainingValue = job.stat.hash.as_bytes();
    let expected =
        if layout.group_count() == 1 { Some(whole) } else { manifest.and_then(|known| known.chaining_value(group)) };
    // Position and length first: only a group that fits the layout may be hashed as one.
    let is_complete = group < layout.group_count() && bytes.len() as u64 == layout.group_len(group);
    is_complete && expected == Some(&layout.chaining_value(group, bytes))
}

#[cfg(test)]
mod tests {
    use shared::peer::FileStat;
    use shared::{ContentHash, GroupLayout};

    use super::super::EarlierRounds;
    use super::*;

    fn order(content: &[u8]) -> FileJob {
        let layout = GroupLayout::of(content.len() as u64).unwrap();
        let stat = FileStat::new("x".parse().unwrap(), ContentHash::of(content), &layout);
        FileJob {
            owner: "bob".parse().unwrap(),
            stat,
            layout,
            target: None,
            reported_no: 0,
            earlier_rounds: EarlierRounds::default(),
        }
    }

    #[test]
    fn only_what_the_hash_promised_is_right() {
        let content: Vec<u8> = (0..(3 << 20) + 7).map(|i: u32| u8::try_from(i % 251).unwrap()).collect();
        let job = order(&content);
        let groups: Vec<&[u8]> = content.chunks(1 << 20).collect();
        let values = (0..4).map(|no| job.layout.chaining_value(no, groups[usize::try_from(no).unwrap()])).collect();
        let manifest = Manifest::new(values);
        assert_eq!(manifest.content_hash(), job.stat.hash);
        let right = |group, bytes: &[u8]| is_group_valid(&job, Some(&manifest), group, bytes);
        assert!(right(0, groups[0]) && right(3, groups[3]));
        assert!(!right(1, groups[0]), "in another's place");
        assert!(!right(0, &vec![0; 1 << 20]), "other bytes");
        assert!(!right(0, &groups[0][..5]), "too few");
        assert!(!right(4, &[]), "a group that isn't there");
        assert!(!is_group_valid(&job, None, 0, groups[0]), "without a manifest nothing is proven");
    }

    #[test]
    fn a_file_of_one_group_needs_no_manifest() {
        for content in [b"".as_slice(), b"some bytes"] {
            assert!(is_group_valid(&order(content), None, 0, content));
            assert!(!is_group_valid(&order(content), None, 0, b"other bytes"));
            assert!(!is_group_valid(&order(content), None, 1, content));
        }
    }
}
