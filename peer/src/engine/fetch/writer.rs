//! The way of a group from the network to the disk: three threads, so that neither the network nor each other waits for
//! what the others do.
//!
//! ```text
//! pullers ──Job──► check: hash ──Checked──► write: pwrite ──Whole──► finish: sync, rename
//!    ▲                 │                        │                        │
//!    └── buffers ──────┴────────────────────────┘          Outcome of each to the coordinator
//! ```
//!
//! Groups that a source claims to be zeros don't come over the network: the first thread checks the claim against the
//! manifest, as it would their bytes.
//!
//! The queues between them are bounded: whoever is slowest slows the network down.

mod finalizer;
mod group_verifier;
mod group_writer;
mod stream_sink;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shared::content::Manifest;
use shared::peer::FileStat;
use shared::{GroupLayout, ZeroRuns};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

pub(super) use self::stream_sink::StreamSink;
use super::FileNo;
use super::SourceReport;
use super::chat_priority::ChatPriority;
use super::file_target::{AssignedName, FileTarget};
use super::plan::SourceNo;
use crate::engine::Error;
use crate::sys::{disk_name, open_files_limit};

/// Jobs that may wait before each thread: small groups go from thread to thread in batches.
const QUEUE_CAPACITY: usize = 64;
/// KiB of groups that may be with the threads; one that is larger goes alone.
const MEMORY_QUOTA_KIB: u32 = 3 * 1024;
/// Whole files that may wait for being made durable together; each holds a descriptor or two.
const FINALIZER_CAPACITY: usize = 64;
/// How long a file waits for a descriptor where none is left, and between two tries.
const DESCRIPTOR_TIMEOUT: Duration = Duration::from_secs(10);
const DESCRIPTOR_RETRY_DELAY: Duration = Duration::from_millis(20);
/// Room made for a group before its first byte.
const RESERVED_BYTES: usize = 4 << 20;
/// Emptied buffers that are kept for reuse.
const MAX_POOLED_BUFFERS: usize = 8;

/// Where the groups of one file go.
#[derive(Debug, Clone)]
pub(super) struct FileJob {
    pub(super) stat: FileStat,
    pub(super) layout: GroupLayout,
    /// `None` for a stream.
    pub(super) target: Option<FileTarget>,
    /// Its number in what is reported.
    pub(super) reported_no: FileNo,
    /// Bytes of it that earlier rounds of this fetch brought.
    pub(super) earlier_rounds: EarlierRounds,
}

/// Bytes of a file that changed at its source and is fetched in a further round.
#[derive(Debug, Clone, Default)]
pub(super) struct EarlierRounds {
    /// Bytes that came over the network and were right.
    pub(super) fetched: u64,
    /// Bytes of this version that were there before the fetch; `None` until that is known.
    pub(super) resumed: Option<u64>,
    /// Their senders.
    pub(super) sources: Vec<SourceReport>,
}

/// What the threads are told.
#[derive(Debug)]
pub(super) enum WriterCommand {
    /// Open the partial of a file of several groups, some of which `source` claims to be zeros.
    Open { file: FileNo, manifest: Manifest, zeros: ZeroRuns, source: SourceNo },
    /// Check and write a group.
    Group(ReceivedGroup),
    /// Give up on a file.
    Abandon { file: FileNo },
}

/// A group as it came.
#[derive(Debug)]
pub(super) struct ReceivedGroup {
    pub(super) file: FileNo,
    /// Its number in the file.
    pub(super) group: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) source: SourceNo,
    /// Its share of the room; given back with it.
    memory_permit: Option<OwnedSemaphorePermit>,
}

/// What they tell.
#[derive(Debug)]
pub(super) enum WriterEvent {
    /// Further bytes of what an earlier attempt left were hashed.
    BytesRehashed { file: FileNo, bytes: u64 },
    /// The partial is open at this path, with these groups in it; those that are claimed to be zeros need not be asked for
    /// as well.
    FileOpened { file: FileNo, present: Vec<bool>, bytes: u64, partial_path: Option<PathBuf> },
    /// A group was right and is written.
    GroupVerified { file: FileNo, bytes: u64, source: SourceNo },
    /// So many bytes were claimed to be zeros, and are.
    ZerosVerified { file: FileNo, bytes: u64 },
    /// A group was not what it should be, or was claimed to be.
    GroupCorrupt { file: FileNo, group: u32, source: SourceNo },
    /// The file is whole and where it should go.
    FileFinished { file: FileNo, disposition: FileDisposition },
    /// Nobody reads from the pipe that all of it goes to.
    AwaitingReader { path: PathBuf },
    /// The disk or the stream failed.
    FileFailed { file: FileNo, error: Error },
}

/// The end of a whole file.
#[derive(Debug)]
pub(super) enum FileDisposition {
    /// To this path, which is the one that it should have.
    Placed(PathBuf),
    /// To another.
    Renamed(PathBuf),
    /// Nowhere: something that is to be left took the place meanwhile.
    Discarded(PathBuf),
    /// Into a stream.
    Streamed,
}

/// Where jobs go.
#[derive(Debug, Clone)]
pub(super) struct WriterHandle {
    commands: mpsc::Sender<WriterCommand>,
    memory_quota: Arc<Semaphore>,
    buffers: GroupBufferPool,
}

/// The threads. They end when all handles are dropped.
#[derive(Debug)]
pub(super) struct WriterThreads([JoinHandle<()>; 3]);

/// What the threads share.
#[derive(Debug, Clone)]
struct WriterContext {
    jobs: Arc<Vec<FileJob>>,
    /// Files that are finished or given up: what still comes of them is nobody's.
    closed_files: Arc<[AtomicBool]>,
    events: mpsc::UnboundedSender<WriterEvent>,
    buffers: GroupBufferPool,
    chat_priority: Arc<ChatPriority>,
}

/// Group buffers that go round between the pullers and the threads.
#[derive(Debug, Clone, Default)]
struct GroupBufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

/// Starts the threads.
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

/// Returns how many files may wait open at each place where they do, by the limit on open files.
pub(super) fn max_waiting_files() -> usize {
    /// For everything else: sockets, databases, folders.
    const OTHERS: u64 = 24;
    /// Two descriptors a file; files are being fetched, wait to be finished, and are finished.
    const A_FILE: u64 = 8;
    let limit = open_files_limit().unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(OTHERS) / A_FILE).unwrap_or(usize::MAX).max(1)
}

/// Does something that needs descriptors. Where none is left it waits for those that others give back.
fn wait_for_descriptors<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let until = Instant::now() + DESCRIPTOR_TIMEOUT;
    loop {
        match attempt() {
            Err(error) if error.is_out_of_descriptors() && Instant::now() < until => {
                std::thread::sleep(DESCRIPTOR_RETRY_DELAY);
            }
            done => return done,
        }
    }
}

fn spawn_thread(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

impl FileDisposition {
    fn of(folder: &Path, landing: AssignedName) -> Self {
        match landing {
            AssignedName::Own(name) => Self::Placed(folder.join(&*disk_name(&name))),
            AssignedName::Alternative(name) => Self::Renamed(folder.join(&*disk_name(&name))),
            AssignedName::Taken(name) => Self::Discarded(folder.join(&*disk_name(&name))),
        }
    }
}

impl WriterHandle {
    /// Hands a job over; waits while the threads are behind.
    pub(super) async fn send(&self, command: WriterCommand) {
        // The threads end only when all handles are gone, or by a panic that their end tells.
        let _ = self.commands.send(command).await;
    }

    /// Hands a group over; waits while there is no room for it.
    pub(super) async fn send_group(&self, file: FileNo, group: u32, bytes: Vec<u8>, source: SourceNo) {
        let kib = u32::try_from(bytes.len() / 1024).unwrap_or(MEMORY_QUOTA_KIB).clamp(1, MEMORY_QUOTA_KIB);
        // Never closed.
        let room = self.memory_quota.clone().acquire_many_owned(kib).await.ok();
        self.send(WriterCommand::Group(ReceivedGroup { file, group, bytes, source, memory_permit: room })).await;
    }

    /// An empty buffer for a group of `len` bytes.
    pub(super) fn buffer(&self, len: usize) -> Vec<u8> {
        let kept = self.buffers.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = kept.unwrap_or_default();
        buffer.clear();
        // Groups are as large as a size that somebody claims makes them: room is made for what really comes.
        buffer.reserve_exact(len.min(RESERVED_BYTES));
        buffer
    }
}

impl WriterThreads {
    /// Waits until they have finished what they were given.
    ///
    /// # Errors
    /// [`Error::Internal`] when one failed.
    pub(super) fn join(self) -> Result<(), Error> {
        let ends = self.0.map(|thread| thread.join().is_ok());
        if ends.iter().all(|well| *well) { Ok(()) } else { Err(Error::Internal("the writer failed".to_owned())) }
    }
}

impl WriterContext {
    fn job(&self, file: FileNo) -> Result<&FileJob, Error> {
        self.jobs.get(file).ok_or_else(|| Error::Internal(format!("no file {file}")))
    }

    fn is_closed(&self, file: FileNo) -> bool {
        self.closed_files.get(file).is_none_or(|closed| closed.load(Ordering::Relaxed))
    }

    fn close(&self, file: FileNo) {
        if let Some(closed) = self.closed_files.get(file) {
            closed.store(true, Ordering::Relaxed);
        }
    }

    fn send_event(&self, outcome: WriterEvent) {
        // Nobody listens any more after an interruption.
        let _ = self.events.send(outcome);
    }
}

impl GroupBufferPool {
    fn recycle(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_POOLED_BUFFERS && buffer.capacity() <= RESERVED_BYTES {
            kept.push(buffer);
        }
    }
}
