//! The thread that hashes and writes, so that the network never waits for the disk or for a hash.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use shared::Layout;
use shared::content::Manifest;
use shared::peer::FileStat;
use tokio::sync::mpsc;

use super::FileNo;
use super::destination::Spot;
use super::partial::{Partial, Written, is_right};
use super::plan::SourceNo;
use crate::engine::Error;

/// Groups that may wait for the writer.
const QUEUE: usize = 4;
/// Room made for a group before its first byte.
const RESERVED_BYTES: usize = 4 << 20;
/// Emptied buffers that are kept for reuse.
const KEPT_BUFFERS: usize = 8;

/// Where the groups of one file go.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) stat: FileStat,
    pub(super) layout: Layout,
    /// `None` for standard output.
    pub(super) spot: Option<Spot>,
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Job {
    /// Open the partial of a file of several groups.
    Open { file: FileNo, manifest: Manifest },
    /// Check and write a group.
    Group { file: FileNo, group: u32, bytes: Vec<u8>, source: SourceNo },
    /// Give up on a file.
    Abandon { file: FileNo },
}

/// What the writer tells.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The partial is open, with these groups in it.
    Opened { file: FileNo, present: Vec<bool>, bytes: u64 },
    /// A group was right and is written.
    Verified { file: FileNo, bytes: u64, source: SourceNo },
    /// A group was not what it should be.
    Wrong { file: FileNo, group: u32, source: SourceNo },
    /// The file is whole and in place; no path for standard output.
    Finished { file: FileNo, path: Option<PathBuf>, renamed: bool },
    /// The disk or standard output failed.
    Failed { file: FileNo, error: Error },
}

/// The other end of the writer's thread.
#[derive(Debug, Clone)]
pub(super) struct WriterHandle {
    jobs: mpsc::Sender<Job>,
    buffers: Buffers,
}

/// Group buffers that go round between the pullers and the writer.
#[derive(Debug, Clone, Default)]
struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl WriterHandle {
    /// Hands a job over; waits while the writer is behind.
    pub(super) async fn send(&self, job: Job) {
        // The writer ends only when all handles are gone, or by a panic that its thread's end tells.
        let _ = self.jobs.send(job).await;
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

impl Buffers {
    fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_BUFFERS && buffer.capacity() <= RESERVED_BYTES {
            kept.push(buffer);
        }
    }
}

/// Starts the thread. It ends when all handles are dropped.
pub(super) fn start(
    orders: Arc<Vec<Order>>,
) -> std::io::Result<(WriterHandle, mpsc::UnboundedReceiver<Outcome>, std::thread::JoinHandle<()>)> {
    let (jobs, queue) = mpsc::channel(QUEUE);
    let (outcomes, told) = mpsc::unbounded_channel();
    let buffers = Buffers::default();
    let closed = vec![false; orders.len()];
    let writer = Writer { orders, partials: HashMap::new(), closed, outcomes, buffers: buffers.clone() };
    let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || writer.run(queue))?;
    Ok((WriterHandle { jobs, buffers }, told, thread))
}

struct Writer {
    orders: Arc<Vec<Order>>,
    partials: HashMap<FileNo, Target>,
    /// Files that are finished or given up: what still comes of them is nobody's.
    closed: Vec<bool>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    buffers: Buffers,
}

/// Where a file's groups go.
enum Target {
    Disk(Box<Partial>),
    /// In order, and nowhere else.
    Stream {
        manifest: Manifest,
        next: u32,
    },
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.blocking_recv() {
            match job {
                Job::Open { file, .. } if self.is_closed(file) => {}
                Job::Open { file, manifest } => self.open(file, manifest),
                Job::Group { file, group, bytes, source } => {
                    if !self.is_closed(file) {
                        self.group(file, group, &bytes, source);
                    }
                    self.buffers.give_back(bytes);
                }
                Job::Abandon { file } => self.abandon(file),
            }
        }
        // Those left were interrupted: what could serve a later attempt stays.
        for target in self.partials.into_values() {
            if let Target::Disk(partial) = target {
                partial.abandon();
            }
        }
    }

    fn open(&mut self, file: FileNo, manifest: Manifest) {
        match self.target(file, manifest) {
            Ok(target) => {
                let (present, bytes, whole) = match &target {
                    Target::Disk(partial) => (partial.present().to_vec(), partial.present_bytes(), partial.is_whole()),
                    Target::Stream { .. } => (Vec::new(), 0, false),
                };
                self.partials.insert(file, target);
                self.tell(Outcome::Opened { file, present, bytes });
                if whole {
                    self.finish(file);
                }
            }
            Err(error) => self.tell(Outcome::Failed { file, error }),
        }
    }

    fn target(&self, file: FileNo, manifest: Manifest) -> Result<Target, Error> {
        let order = self.orders.get(file).ok_or_else(|| Error::Internal(format!("no file {file}")))?;
        Ok(match &order.spot {
            Some(spot) => Target::Disk(Box::new(Partial::open(spot, &order.stat, order.layout, manifest)?)),
            None => Target::Stream { manifest, next: 0 },
        })
    }

    fn group(&mut self, file: FileNo, group: u32, bytes: &[u8], source: SourceNo) {
        let orders = self.orders.clone();
        let Some(order) = orders.get(file) else { return };
        if order.layout.groups() == 1 && !self.partials.contains_key(&file) {
            // No manifest was needed: the content hash is the only value.
            match self.target(file, Manifest::new(vec![*order.stat.hash.as_bytes()])) {
                Ok(target) => self.partials.insert(file, target),
                Err(error) => return self.tell(Outcome::Failed { file, error }),
            };
        }
        let Some(target) = self.partials.get_mut(&file) else { return };
        let written = match target {
            Target::Disk(partial) => partial.write(group, bytes),
            Target::Stream { manifest, next } => stream_out(&order.layout, manifest, next, group, bytes),
        };
        match written {
            Ok(Written::Wrong) => self.tell(Outcome::Wrong { file, group, source }),
            Ok(Written::Twice) => {}
            Ok(Written::Right) => self.tell(Outcome::Verified { file, bytes: bytes.len() as u64, source }),
            Ok(Written::Whole) => {
                self.tell(Outcome::Verified { file, bytes: bytes.len() as u64, source });
                self.finish(file);
            }
            Err(error) => {
                self.abandon(file);
                self.tell(Outcome::Failed { file, error });
            }
        }
    }

    fn is_closed(&self, file: FileNo) -> bool {
        self.closed.get(file).copied().unwrap_or(true)
    }

    fn close(&mut self, file: FileNo) -> Option<Target> {
        if let Some(closed) = self.closed.get_mut(file) {
            *closed = true;
        }
        self.partials.remove(&file)
    }

    fn abandon(&mut self, file: FileNo) {
        if let Some(Target::Disk(partial)) = self.close(file) {
            partial.abandon();
        }
    }

    fn finish(&mut self, file: FileNo) {
        let outcome = match self.close(file) {
            Some(Target::Disk(partial)) => match partial.finish() {
                Ok((path, renamed)) => Outcome::Finished { file, path: Some(path), renamed },
                Err(error) => Outcome::Failed { file, error },
            },
            _ => Outcome::Finished { file, path: None, renamed: false },
        };
        self.tell(outcome);
    }

    fn tell(&self, outcome: Outcome) {
        // Nobody listens any more after an interruption.
        let _ = self.outcomes.send(outcome);
    }
}

fn stream_out(
    layout: &Layout,
    manifest: &Manifest,
    next: &mut u32,
    group: u32,
    bytes: &[u8],
) -> Result<Written, Error> {
    if !is_right(layout, manifest, group, bytes) {
        return Ok(Written::Wrong);
    }
    if group != *next {
        return Err(Error::Internal("groups for standard output out of order".to_owned()));
    }
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    *next += 1;
    Ok(if *next == layout.groups() { Written::Whole } else { Written::Right })
}
