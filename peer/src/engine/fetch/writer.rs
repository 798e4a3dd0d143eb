//! Writer of a fetch: verifies groups, writes them and finishes files on three threads, so that neither the network nor
//! the threads wait for each other's work.
//!
//! ```text
//! downloaders ──WriterCommand──► check: hash ──WriteCommand──► write: pwrite ──CompletedFile──► finish: sync, rename
//!    ▲                               │                             │                                   │
//!    └─────────── buffers ───────────┴─────────────────────────────┘     WriterEvents of each to the round driver
//! ```
//!
//! Groups that a source claims to be zeros don't come over the network: the first thread checks the claim against the
//! manifest, as it would check their bytes.
//!
//! All queues are bounded: the slowest thread slows the network down.

mod finalizer;
mod group_verifier;
mod group_writer;
mod stream_sink;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use localization::tr;
use parking_lot::Mutex;
use shared::content::Manifest;
use shared::peer::FileStat;
use shared::{GroupLayout, UserName, ZeroRuns};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

pub(super) use self::group_verifier::is_group_valid;
pub(super) use self::stream_sink::StreamSink;
use super::chat_priority::ChatPriority;
use super::destination::FileTarget;
use super::plan::SourceNo;
use super::{FileNo, FileOutcome, SourceReport};
use crate::engine::Error;
use crate::sys::open_files_limit;

/// Commands that may wait before each thread: small groups pass from thread to thread in batches.
const QUEUE_CAPACITY: usize = 64;
/// The memory quota of groups in the writer, in KiB; a larger group goes alone.
const MEMORY_QUOTA_KIB: u32 = 3 * 1024;
/// Whole files that may wait to be made durable together; each holds one or two descriptors.
const FINALIZER_CAPACITY: usize = 64;
/// The longest wait of a file for a descriptor when none is left, and the pause between two attempts.
const DESCRIPTOR_TIMEOUT: Duration = Duration::from_secs(10);
const DESCRIPTOR_RETRY_DELAY: Duration = Duration::from_millis(20);
/// The most memory reserved for a group before its first byte, and the largest buffer that is kept.
const RESERVED_BYTES: usize = 4 << 20;
/// Empty buffers kept for reuse.
const MAX_POOLED_BUFFERS: usize = 8;

/// A file to fetch: its description, layout and target.
#[derive(Debug, Clone)]
pub(super) struct FileJob {
    /// The user under whose name it is shared.
    pub(super) owner: UserName,
    pub(super) stat: FileStat,
    pub(super) layout: GroupLayout,
    /// `None` for a stream destination.
    pub(super) target: Option<FileTarget>,
    /// Its number in the events, the same in all rounds.
    pub(super) reported_no: FileNo,
    /// The bytes from earlier rounds of this fetch.
    pub(super) earlier_rounds: EarlierRounds,
}

/// The report of earlier rounds for a file that is fetched in a further round.
#[derive(Debug, Clone, Default)]
pub(super) struct EarlierRounds {
    /// Verified bytes that came over the network.
    pub(super) fetched: u64,
    /// Bytes of this version present before the fetch; `None` until that is known.
    pub(super) resumed: Option<u64>,
    /// The senders of the fetched bytes.
    pub(super) sources: Vec<SourceReport>,
}

/// A command for the writer.
#[derive(Debug)]
pub(super) enum WriterCommand {
    /// Open the partial file of a file of several groups, some of which `source` claims to be zeros.
    Open { file: FileNo, manifest: Manifest, zeros: ZeroRuns, source: SourceNo },
    /// Verify and write a group.
    Group(ReceivedGroup),
    /// Give up on a file; usable groups stay in its partial file.
    Abandon { file: FileNo },
}

/// A group as it arrived, not verified.
#[derive(Debug)]
pub(super) struct ReceivedGroup {
    pub(super) file: FileNo,
    /// The index of the group in the file.
    pub(super) group: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) source: SourceNo,
    /// Its part of the memory quota, released when the group is dropped. `None` for one that was released early.
    memory_permit: Option<OwnedSemaphorePermit>,
}

/// The part of the memory quota that is reserved for a group.
#[derive(Debug)]
pub(super) struct GroupMemory(Option<OwnedSemaphorePermit>);

/// An event from the writer.
#[derive(Debug)]
pub(super) enum WriterEvent {
    /// More bytes of an earlier attempt's partial file were hashed.
    BytesRehashed { file: FileNo, bytes: u64 },
    /// The partial file is open with the groups in `present`, `bytes` of them verified on disk. Groups claimed to be
    /// zeros count as present, so that nobody requests them. `partial_path` is `None` for a stream.
    FileOpened { file: FileNo, present: Vec<bool>, bytes: u64, partial_path: Option<PathBuf> },
    /// A group was verified and written.
    GroupVerified { file: FileNo, bytes: u64, source: SourceNo },
    /// Groups of `bytes` in all were claimed to be zeros, and are.
    ZerosVerified { file: FileNo, bytes: u64 },
    /// A group, or the claim that it is zeros, doesn't match the manifest.
    GroupCorrupt { file: FileNo, group: u32, source: SourceNo },
    /// The file is whole, and at its final place if it has one.
    FileFinished { file: FileNo, outcome: FileOutcome },
    /// No process reads from the destination pipe.
    AwaitingReader { path: PathBuf },
    /// The disk or the stream failed; the file is abandoned.
    FileFailed { file: FileNo, error: Error },
}

/// A handle for sending commands and groups to the writer.
#[derive(Debug, Clone)]
pub(super) struct WriterHandle {
    commands: mpsc::Sender<WriterCommand>,
    memory_quota: Arc<Semaphore>,
    buffers: GroupBufferPool,
}

/// The writer's threads. They end when all handles are dropped.
#[derive(Debug)]
pub(super) struct WriterThreads([JoinHandle<()>; 3]);

/// The state that the threads share.
#[derive(Debug, Clone)]
struct WriterContext {
    jobs: Arc<Vec<FileJob>>,
    /// Files that are finished or abandoned, by number: groups that still arrive are dropped.
    closed_files: Arc<[AtomicBool]>,
    events: mpsc::UnboundedSender<WriterEvent>,
    buffers: GroupBufferPool,
    chat_priority: Arc<ChatPriority>,
}

/// A pool of group buffers, shared by the downloaders and the threads.
#[derive(Debug, Clone, Default)]
struct GroupBufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

/// Starts the threads; returns the handle, the events, and the threads to be joined.
pub(super) fn start_writer(
    orders: Arc<Vec<FileJob>>,
    chat_priority: Arc<ChatPriority>,
    sink: StreamSink,
) -> std::io::Result<(WriterHandle, mpsc::UnboundedReceiver<WriterEvent>, WriterThreads)> {
    let (outcomes, told) = mpsc::unbounded_channel();
    let buffers = GroupBufferPool::default();
    let closed = orders.iter().map(|_| AtomicBool::new(false)).collect();
    let context =
        WriterContext { jobs: orders, closed_files: closed, events: outcomes, buffers: buffers.clone(), chat_priority };
    let (jobs, unchecked) = mpsc::channel(QUEUE_CAPACITY);
    let (to_write, checked) = mpsc::channel(QUEUE_CAPACITY);
    // Each waiting file holds descriptors, so a low limit on open files bounds this queue too.
    let (to_finish, whole) = mpsc::channel(FINALIZER_CAPACITY.min(max_waiting_files()));
    let (check, write, finish) = (context.clone(), context.clone(), context);
    let threads = WriterThreads([
        spawn_thread("check", move || group_verifier::run(&check, unchecked, &to_write))?,
        spawn_thread("write", move || group_writer::run(write, sink, checked, to_finish))?,
        spawn_thread("finish", move || finalizer::run(&finish, whole))?,
    ]);
    let room = Arc::new(Semaphore::new(usize::try_from(MEMORY_QUOTA_KIB).unwrap_or(1)));
    Ok((WriterHandle { commands: jobs, memory_quota: room, buffers }, told, threads))
}

/// Returns the number of files that may be open in each of the writer's stages, by the limit on open files.
pub(super) fn max_waiting_files() -> usize {
    /// Descriptors for everything else: sockets, databases, folders.
    const OTHERS: u64 = 24;
    /// Two descriptors per file that is being fetched, waits to be finished, or is being finished, with some to spare.
    const A_FILE: u64 = 8;
    let limit = open_files_limit().unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(OTHERS) / A_FILE).unwrap_or(usize::MAX).max(1)
}

/// Runs `attempt`, and again after a pause while it fails for lack of descriptors, which other tasks give back.
fn wait_for_descriptors<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let until = Instant::now() + DESCRIPTOR_TIMEOUT;
    loop {
        match attempt() {
            Err(error) if error.is_out_of_descriptors() && Instant::now() < until => {
                // On a thread of the writer's: the runtime's go on.
                std::thread::sleep(DESCRIPTOR_RETRY_DELAY);
            }
            done => return done,
        }
    }
}

fn spawn_thread(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

impl WriterHandle {
    /// Sends a command; waits while the threads are behind.
    pub(super) async fn send(&self, command: WriterCommand) {
        // The threads end only when all handles are gone, or by a panic, which `WriterThreads::join` reports.
        let _ = self.commands.send(command).await;
    }

    /// Sends a group; waits while the memory quota is used up.
    pub(super) async fn send_group(&self, file: FileNo, group: u32, bytes: Vec<u8>, source: SourceNo) {
        let memory = self.reserve_memory(bytes.len()).await;
        self.send_reserved_group(file, group, bytes, source, memory).await;
    }

    /// Waits for the part of the memory quota that a group of `len` bytes takes.
    pub(super) async fn reserve_memory(&self, len: usize) -> GroupMemory {
        // At most the whole quota: a larger group would wait for it for ever.
        let kib = u32::try_from(len / 1024).unwrap_or(MEMORY_QUOTA_KIB).clamp(1, MEMORY_QUOTA_KIB);
        // The semaphore is never closed, so this always returns a permit.
        GroupMemory(self.memory_quota.clone().acquire_many_owned(kib).await.ok())
    }

    /// Sends a group for which memory was reserved.
    pub(super) async fn send_reserved_group(
        &self,
        file: FileNo,
        group: u32,
        bytes: Vec<u8>,
        source: SourceNo,
        GroupMemory(memory_permit): GroupMemory,
    ) {
        self.send(WriterCommand::Group(ReceivedGroup { file, group, bytes, source, memory_permit })).await;
    }

    /// Returns an empty buffer for a group of `len` bytes.
    pub(super) fn buffer(&self, len: usize) -> Vec<u8> {
        let kept = self.buffers.0.lock().pop();
        let mut buffer = kept.unwrap_or_default();
        buffer.clear();
        // A source may claim any file size, and the group size follows from it: memory grows with the bytes that come.
        buffer.reserve_exact(len.min(RESERVED_BYTES));
        buffer
    }
}

impl WriterThreads {
    /// Waits until the threads have finished their work. Fails with [`Error::Internal`] when a thread panicked.
    pub(super) fn join(self) -> Result<(), Error> {
        let ends = self.0.map(|thread| thread.join().is_ok());
        if ends.iter().all(|well| *well) { Ok(()) } else { Err(Error::Internal(tr!("the writer failed"))) }
    }
}

impl WriterContext {
    fn job(&self, file: FileNo) -> Result<&FileJob, Error> {
        self.jobs.get(file).ok_or_else(|| Error::Internal(format!("no file {file}")))
    }

    fn is_closed(&self, file: FileNo) -> bool {
        // Relaxed: a late look costs no more than a group that is verified in vain.
        self.closed_files.get(file).is_none_or(|closed| closed.load(Ordering::Relaxed))
    }

    fn close(&self, file: FileNo) {
        if let Some(closed) = self.closed_files.get(file) {
            closed.store(true, Ordering::Relaxed);
        }
    }

    fn send_event(&self, outcome: WriterEvent) {
        // The receiver may be gone after an interruption.
        let _ = self.events.send(outcome);
    }
}

impl GroupBufferPool {
    fn recycle(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock();
        // One that grew would keep its memory for the rest of the fetch.
        if kept.len() < MAX_POOLED_BUFFERS && buffer.capacity() <= RESERVED_BYTES {
            kept.push(buffer);
        }
    }
}
