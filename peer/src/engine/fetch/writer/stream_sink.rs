//! Stream destination, which gets files in order and keeps none: standard output, a pipe, a device.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use localization::tr;
use shared::{GroupLayout, GroupSet};
use tokio::sync::mpsc;

use super::group_verifier::VerifiedGroup;
use super::{WriterContext, WriterEvent};
use crate::engine::Error;
use crate::engine::fetch::FetchDestination;
use crate::engine::fetch::partial_file::WriteOutcome;
use crate::sys::open_stream;

/// A pipe without a reader is reported after this time.
const NO_READER_NOTICE_DELAY: Duration = Duration::from_secs(1);
/// The pause between two attempts to open a pipe.
const READER_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The stream that receives all files of a fetch, one after another.
#[derive(Debug)]
pub(in crate::engine::fetch) enum StreamSink {
    /// Standard output.
    Stdout,
    /// A path; opened at the first write, because that may wait for a reader.
    Path(PathBuf, Option<File>),
}

/// A buffer that puts the groups of a file for a stream in order.
#[derive(Debug, Default)]
pub(super) struct ReorderBuffer {
    next_group: u32,
    /// Groups that arrived before their turn; the plan's window bounds them.
    early_groups: BTreeMap<u32, VerifiedGroup>,
    /// Groups known to be zeros; `None` for a file of one group.
    zeros: Option<(GroupLayout, GroupSet)>,
}

impl StreamSink {
    /// Returns the sink of a destination; nothing is ever written to that of a destination on disk.
    pub(in crate::engine::fetch) fn of(destination: &FetchDestination) -> Self {
        match destination {
            FetchDestination::Stream(path) => Self::Path(path.clone(), None),
            _ => Self::Stdout,
        }
    }

    /// Writes all bytes; reports a pipe without a reader to `outcomes`.
    pub(super) fn write(&mut self, bytes: &[u8], outcomes: &mpsc::UnboundedSender<WriterEvent>) -> Result<(), Error> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                // Flushed each time: `Stdout` buffers lines, and an error must fail the group that caused it.
                let written = out.write_all(bytes).and_then(|()| out.flush());
                written.map_err(|why| stream_write_error(Path::new(&tr!("standard output")), why))
            }
            Self::Path(path, file) => {
                let written = match file {
                    Some(file) => file.write_all(bytes),
                    None => open_with_reader(path, outcomes).and_then(|opened| file.insert(opened).write_all(bytes)),
                };
                written.map_err(|why| stream_write_error(path, why))
            }
        }
    }

    /// Writes `bytes` zeros.
    pub(super) fn write_zeros(
        &mut self,
        bytes: u64,
        outcomes: &mpsc::UnboundedSender<WriterEvent>,
    ) -> Result<(), Error> {
        static ZEROS: [u8; 65_536] = [0; 65_536];
        let mut left = bytes;
        while left > 0 {
            let some = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write(&ZEROS[..some], outcomes)?;
            left -= some as u64;
        }
        Ok(())
    }
}

impl ReorderBuffer {
    pub(super) fn new(zeros: Option<(GroupLayout, GroupSet)>) -> Self {
        Self { zeros, ..Self::default() }
    }

    pub(super) fn push(
        &mut self,
        right: VerifiedGroup,
        groups: u32,
        context: &WriterContext,
        sink: &mut StreamSink,
    ) -> Result<WriteOutcome, Error> {
        let group = right.group().group;
        // In the end game two sources may deliver the same group.
        if group < self.next_group || self.early_groups.contains_key(&group) {
            context.buffers.recycle(right.into_buffer());
            return Ok(WriteOutcome::Duplicate);
        }
        // Without its part of the quota: early groups could hold all of it, and the group they wait for would get none.
        self.early_groups.insert(group, right.release_memory());
        self.drain_ready(groups, context, sink)
    }

    pub(super) fn push_zeros(
        &mut self,
        group: u32,
        context: &WriterContext,
        sink: &mut StreamSink,
    ) -> Result<WriteOutcome, Error> {
        let Some((layout, zeros)) = &mut self.zeros else { return Ok(WriteOutcome::Duplicate) };
        if group < self.next_group || zeros.contains(group) {
            return Ok(WriteOutcome::Duplicate);
        }
        zeros.insert(group);
        let groups = layout.group_count();
        self.drain_ready(groups, context, sink)
    }

    /// Writes the groups whose turn has come.
    fn drain_ready(
        &mut self,
        groups: u32,
        context: &WriterContext,
        sink: &mut StreamSink,
    ) -> Result<WriteOutcome, Error> {
        loop {
            if let Some(right) = self.early_groups.remove(&self.next_group) {
                sink.write(&right.group().bytes, &context.events)?;
                context.buffers.recycle(right.into_buffer());
            } else if let Some((layout, _)) = self.zeros.as_ref().filter(|(_, zeros)| zeros.contains(self.next_group)) {
                sink.write_zeros(layout.group_len(self.next_group), &context.events)?;
            } else {
                break;
            }
            self.next_group += 1;
        }
        Ok(if self.next_group == groups { WriteOutcome::Completed } else { WriteOutcome::Incomplete })
    }
}

/// Opens a stream; waits at a pipe until a process reads from it, or the fetch is over.
fn open_with_reader(path: &Path, outcomes: &mpsc::UnboundedSender<WriterEvent>) -> io::Result<File> {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        if let Some(file) = open_stream(path)? {
            return Ok(file);
        }
        // The receiver goes with the fetch: nobody would end this wait any more.
        if outcomes.is_closed() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if !is_told && begun.elapsed() >= NO_READER_NOTICE_DELAY {
            is_told = outcomes.send(WriterEvent::AwaitingReader { path: path.to_owned() }).is_ok();
        }
        // The kernel signals a reader only to an `open` that blocks, which couldn't be interrupted.
        std::thread::sleep(READER_POLL_INTERVAL);
    }
}

/// Builds the error of a failed write: a closed pipe means that the reader has enough, anything else is a disk error.
fn stream_write_error(path: &Path, why: io::Error) -> Error {
    match why.kind() {
        io::ErrorKind::BrokenPipe => why.into(),
        _ => Error::disk(path)(why),
    }
}
