//! Writing thread: writes verified groups to partial files or, in order, to a stream.

use std::collections::HashMap;
use std::time::Instant;

use shared::content::Manifest;
use shared::{GroupSet, ZeroRuns};
use tokio::sync::mpsc;

use super::group_verifier::{VerifiedGroup, WriteCommand};
use super::stream_sink::ReorderBuffer;
use super::{ReceivedGroup, StreamSink, WriterContext, WriterEvent, wait_for_descriptors};
use crate::engine::Error;
use crate::engine::fetch::partial_file::{CompletedFile, PartialFile, WriteOutcome};
use crate::engine::fetch::{FileNo, FileOutcome};

/// Bytes after which the disk is waited for while a chat is active.
const MAX_UNSYNCED_DURING_CHAT: usize = 4 << 20;

pub(super) fn run(
    context: WriterContext,
    sink: StreamSink,
    mut checked: mpsc::Receiver<WriteCommand>,
    to_finish: mpsc::Sender<(FileNo, CompletedFile)>,
) {
    let mut writer = GroupWriter { context, sink, targets: HashMap::new(), finalizer: to_finish, unsynced_bytes: 0 };
    while let Some(command) = checked.blocking_recv() {
        match command {
            // The file may have been settled or given up while the command was on its way.
            WriteCommand::Open { file, .. } if writer.context.is_closed(file) => {}
            WriteCommand::Open { file, manifest, zeros } => writer.open(file, &manifest, &zeros),
            WriteCommand::Zeros { file, .. } if writer.context.is_closed(file) => {}
            WriteCommand::Zeros { file, groups } => writer.write_zero_groups(file, &groups),
            // Sent from here and not by the verifier, so that it follows the event that the file is open.
            WriteCommand::NotZeros { file, group, source } => {
                writer.context.send_event(WriterEvent::GroupCorrupt { file, group, source });
            }
            WriteCommand::Group(right) => {
                if writer.context.is_closed(right.group().file) {
                    writer.context.buffers.recycle(right.into_buffer());
                } else {
                    writer.write_verified_group(right);
                }
            }
            WriteCommand::Abandon { file } => writer.abandon(file),
        }
    }
    // The files left were interrupted: groups that a later attempt can use stay.
    for target in writer.targets.into_values() {
        if let OpenTarget::Disk(partial) = target {
            partial.abandon();
        }
    }
}

struct GroupWriter {
    context: WriterContext,
    sink: StreamSink,
    targets: HashMap<FileNo, OpenTarget>,
    finalizer: mpsc::Sender<(FileNo, CompletedFile)>,
    /// Bytes written since the last sync.
    unsynced_bytes: usize,
}

/// The open target of a file's groups.
enum OpenTarget {
    Disk(Box<PartialFile>),
    /// The destination stream, in order.
    Stream(ReorderBuffer),
}

impl GroupWriter {
    fn open(&mut self, file: FileNo, manifest: &Manifest, zeros: &ZeroRuns) {
        match wait_for_descriptors(|| self.open_target(file, Some((manifest, zeros)))) {
            Ok(target) => {
                let (mut present, bytes, whole, part) = match &target {
                    OpenTarget::Disk(partial) => {
                        let part = Some(partial.partial_path());
                        (partial.present().to_vec(), partial.present_bytes(), partial.is_complete(), part)
                    }
                    OpenTarget::Stream(_) => (Vec::new(), 0, false, None),
                };
                self.targets.insert(file, target);
                if !zeros.is_empty() {
                    // Present for the plan only, which must not request them; they are written when the
                    // verifier has checked the claim.
                    let groups = self.context.job(file).map_or(0, |order| order.layout.group_count());
                    present.resize(usize::try_from(groups).unwrap_or(0), false);
                    (0..).zip(&mut present).for_each(|(group, there)| *there |= zeros.contains(group));
                }
                // Before `finish`: the session takes resumed bytes from this event.
                self.context.send_event(WriterEvent::FileOpened { file, present, bytes, partial_path: part });
                if whole {
                    self.finish(file);
                }
            }
            Err(error) => self.fail(file, error),
        }
    }

    fn open_target(&self, file: FileNo, known: Option<(&Manifest, &ZeroRuns)>) -> Result<OpenTarget, Error> {
        let job = self.context.job(file)?;
        Ok(match &job.target {
            Some(target) => {
                let mut hashed = |bytes| self.context.send_event(WriterEvent::BytesRehashed { file, bytes });
                OpenTarget::Disk(Box::new(PartialFile::open(target, &job.stat, job.layout, known, &mut hashed)?))
            }
            None => {
                let zeros = known.map(|_| (job.layout, GroupSet::empty(job.layout.group_count())));
                OpenTarget::Stream(ReorderBuffer::new(zeros))
            }
        })
    }

    fn write_verified_group(&mut self, right: VerifiedGroup) {
        let ReceivedGroup { file, source, ref bytes, .. } = *right.group();
        let bytes = bytes.len();
        let written = self.write(file, right);
        if matches!(written, Ok(WriteOutcome::Incomplete | WriteOutcome::Completed)) {
            self.sync_during_chat(file, bytes);
            self.context.send_event(WriterEvent::GroupVerified { file, bytes: bytes as u64, source });
        }
        self.settle_write(file, written);
    }

    /// Writes groups that are known to be zeros.
    fn write_zero_groups(&mut self, file: FileNo, groups: &[u32]) {
        for group in groups {
            let Ok(bytes) = self.context.job(file).map(|order| order.layout.group_len(*group)) else { return };
            let written = match self.targets.get_mut(&file) {
                Some(OpenTarget::Disk(partial)) => partial.write_zeros(*group),
                Some(OpenTarget::Stream(stream)) => stream.push_zeros(*group, &self.context, &mut self.sink),
                None => Ok(WriteOutcome::Duplicate),
            };
            if matches!(written, Ok(WriteOutcome::Incomplete | WriteOutcome::Completed)) {
                self.context.send_event(WriterEvent::ZerosVerified { file, bytes });
            }
            // A file that is given up has no target any more, so nothing more is written.
            self.settle_write(file, written);
        }
    }

    /// Finishes a file with its last group, and gives up one that can't be written.
    fn settle_write(&mut self, file: FileNo, written: Result<WriteOutcome, Error>) {
        match written {
            Ok(WriteOutcome::Completed) => self.finish(file),
            Ok(WriteOutcome::Incomplete | WriteOutcome::Duplicate) => {}
            Err(error) => {
                // Given up first: a retry that the event leads to then finds the partial file unlocked.
                self.abandon(file);
                self.fail(file, error);
            }
        }
    }

    fn write(&mut self, file: FileNo, right: VerifiedGroup) -> Result<WriteOutcome, Error> {
        let groups = self.context.job(file)?.layout.group_count();
        // A file of one group has no manifest, so no `Open` came before it.
        if groups == 1 && !self.targets.contains_key(&file) {
            let target = wait_for_descriptors(|| self.open_target(file, None))?;
            self.targets.insert(file, target);
        }
        let ReceivedGroup { group, ref bytes, .. } = *right.group();
        let written = match self.targets.get_mut(&file) {
            Some(OpenTarget::Disk(partial)) => partial.write(group, bytes),
            Some(OpenTarget::Stream(stream)) => return stream.push(right, groups, &self.context, &mut self.sink),
            None => Ok(WriteOutcome::Duplicate),
        };
        self.context.buffers.recycle(right.into_buffer());
        written
    }

    /// Syncs now and then while a chat is active. Each chat message
    /// waits for the disk, so it must not have much to write.
    fn sync_during_chat(&mut self, file: FileNo, bytes: usize) {
        self.unsynced_bytes += bytes;
        if self.unsynced_bytes < MAX_UNSYNCED_DURING_CHAT || !self.context.chat_priority.is_active() {
            return;
        }
        let bytes = std::mem::take(&mut self.unsynced_bytes);
        if let Some(OpenTarget::Disk(partial)) = self.targets.get(&file) {
            let begun = Instant::now();
            partial.sync();
            self.context.chat_priority.record_sync(bytes, begun.elapsed());
        }
    }

    fn close(&mut self, file: FileNo) -> Option<OpenTarget> {
        self.context.close(file);
        self.targets.remove(&file)
    }

    fn abandon(&mut self, file: FileNo) {
        if let Some(OpenTarget::Disk(partial)) = self.close(file) {
            partial.abandon();
        }
    }

    fn finish(&mut self, file: FileNo) {
        match self.close(file) {
            // Fails only if the finishing thread panicked, which `WriterThreads::join` reports.
            Some(OpenTarget::Disk(partial)) => drop(self.finalizer.blocking_send((file, partial.into_completed()))),
            Some(OpenTarget::Stream(_)) => {
                self.context.send_event(WriterEvent::FileFinished { file, outcome: FileOutcome::Streamed });
            }
            None => {}
        }
    }

    fn fail(&self, file: FileNo, error: Error) {
        self.context.send_event(WriterEvent::FileFailed { file, error });
    }
}
