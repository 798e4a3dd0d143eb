//! Target planning before the first byte: the target of each file, files that exist already, and free space.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use localization::tr;
use shared::FileName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::engine::fetch::destination::{TargetDecision, TargetPlanner, case_folded};
use crate::engine::fetch::name_resolution::{ResolvedFile, ResolvedRequest};
use crate::engine::fetch::partial_file::{allocated_bytes, remove_outdated};
use crate::engine::fetch::report_builder::FetchReportBuilder;
use crate::engine::fetch::writer::{EarlierRounds, FileJob};
use crate::engine::fetch::{FetchEvent, FetchRequest, FileReport, RequestedName};
use crate::engine::{Error, SpaceShortage, run_blocking};
use crate::sys::{FolderHandle, FreeSpace, UnwritableReason};

/// The largest group that a stream destination accepts: it stays in memory until it is verified.
const MAX_STREAMED_GROUP_BYTES: u64 = 64 << 20;
/// Files inspected in one blocking call: bounds the memory of results, and the wait for events and interruption.
const INSPECTION_BATCH: usize = 1024;
/// Smaller existing files are hashed without progress events: they take too little time.
const MIN_REPORTED_BYTES: u64 = 32 << 20;

/// The result of planning; what is settled already is in the report.
#[derive(Default)]
pub(super) struct PlannedJobs {
    pub(super) jobs: Vec<FileJob>,
    /// Files that the owner is hashing again; their targets are planned after that.
    pub(super) stale_files: Vec<ResolvedFile>,
    /// Plans the targets of stale files later; `None` for a stream.
    pub(super) planner: Option<Box<TargetPlanner>>,
    /// The error that keeps the whole fetch from starting.
    pub(super) error: Option<Error>,
    /// Bytes that stay free on each disk.
    kept_free: u64,
}

/// Plans the target of each file. Settles files that exist already or have no possible target.
pub(super) async fn plan_targets(
    request: &FetchRequest,
    resolved: ResolvedRequest,
    report: &mut FetchReportBuilder<'_>,
    cancel: &CancellationToken,
) -> PlannedJobs {
    let (of, looked_at) = (request.clone(), Arc::new(resolved));
    let resolved = looked_at.clone();
    let planner = run_blocking(move || TargetPlanner::prepare(&of, &looked_at)).await;
    // The task is over, and nobody else holds it.
    let resolved = Arc::into_inner(resolved).unwrap_or_default();
    let mut placed = PlannedJobs::new(request);
    let ResolvedRequest { files: wanted, folders, missing, .. } = resolved;
    for (name, error) in missing {
        report.fail(name.clone(), 0, Some(RequestedName::for_text(name)), error);
    }
    match planner {
        Ok(None) => placed.plan_stream(wanted, report),
        Ok(Some(disk)) => {
            report_colliding_names(&wanted, report);
            // The content decides whether a file is skipped, and that of a stale file isn't known yet.
            let (later, files) = wanted.into_iter().partition(|file| file.stat.stale);
            placed.stale_files = later;
            if let Err(error) = placed.plan_on_disk(disk, files, folders, report, cancel).await {
                placed.error.get_or_insert(error);
            }
        }
        Err(error) => {
            for ResolvedFile { stat, local, .. } in wanted {
                let again = RequestedName { text: stat.name.as_str().to_owned(), local: Some(local) };
                report.abort(again.text.clone(), stat.size, Some(again), &error);
            }
            placed.error = Some(error);
        }
    }
    placed
}

impl PlannedJobs {
    /// Returns no jobs yet, for this request.
    pub(super) fn new(request: &FetchRequest) -> Self {
        Self { kept_free: request.kept_free.unwrap_or(0), ..Self::default() }
    }

    fn plan_stream(&mut self, files: Vec<ResolvedFile>, report: &mut FetchReportBuilder<'_>) {
        for ResolvedFile { owner, stat, layout, .. } in files {
            if layout.group_bytes() <= MAX_STREAMED_GROUP_BYTES {
                let (reported_no, earlier_rounds) = (report.next_number(), EarlierRounds::default());
                self.jobs.push(FileJob { owner, stat, layout, target: None, reported_no, earlier_rounds });
            } else {
                let why = tr!("it is too large to be verified in memory: fetch it to a file");
                report.fail(stat.name.as_str().to_owned(), stat.size, None, Error::Usage(why));
            }
        }
    }

    /// Plans targets below the destination, checks free space, and makes empty folders.
    pub(super) async fn plan_on_disk(
        &mut self,
        disk: Box<TargetPlanner>,
        files: Vec<ResolvedFile>,
        folders: Vec<FileName>,
        report: &mut FetchReportBuilder<'_>,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let disk = self.inspect_targets(disk, files, report, cancel).await?;
        // Before any folder is made: a fetch that doesn't fit leaves nothing behind.
        self.check_free_space().await?;
        // Where nothing is to come nothing is made, not even the destination.
        if self.jobs.is_empty() && folders.is_empty() {
            self.planner = Some(disk);
            return Ok(());
        }
        let count = folders.len();
        // Where names collide, a file placed first would take the folder's path and keep out every file below it.
        let colliding = if self.jobs.is_empty() { Vec::new() } else { disk.colliding_folders() };
        let made = run_blocking(move || {
            let (_, disk) = make_folders(disk, colliding)?;
            make_folders(disk, folders)
        });
        let (failed, disk) = made.await?;
        self.planner = Some(disk);
        report.add_folders(count - failed.len());
        for (name, error) in failed {
            report.fail(name.as_str().to_owned(), 0, None, error);
        }
        Ok(())
    }

    /// Fails if the disks can't hold the files. It looks at the partial file of each.
    async fn check_free_space(&mut self) -> Result<(), Error> {
        let jobs = Arc::new(std::mem::take(&mut self.jobs));
        let looked_at = jobs.clone();
        let kept = self.kept_free;
        let checked = run_blocking(move || check_free_space(&looked_at, kept)).await;
        self.jobs = Arc::unwrap_or_clone(jobs);
        checked
    }

    /// Inspects the target of every file, in batches, so that the memory for many files stays flat.
    async fn inspect_targets(
        &mut self,
        mut disk: Box<TargetPlanner>,
        files: Vec<ResolvedFile>,
        report: &mut FetchReportBuilder<'_>,
        cancel: &CancellationToken,
    ) -> Result<Box<TargetPlanner>, Error> {
        self.jobs.reserve(files.len());
        let mut closed = Vec::new();
        let mut files = files.into_iter();
        loop {
            let some: Vec<ResolvedFile> = files.by_ref().take(INSPECTION_BATCH).collect();
            if some.is_empty() {
                self.settle_unwritable(closed, report)?;
                return if cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(disk) };
            }
            let (tell, mut hashed) = mpsc::unbounded_channel();
            let cancel = cancel.clone();
            // Pinned outside the loop: each progress event ends a `select!`, and the blocking call must go on.
            let mut looking = std::pin::pin!(run_blocking(move || Ok(inspect_batch(disk, some, &tell, &cancel))));
            let looked;
            (looked, disk) = loop {
                tokio::select! {
                    // In the order of events: behind its result, a file's progress would come too late.
                    biased;
                    Some((name, size, bytes)) = hashed.recv() => {
                        report.tell(FetchEvent::Checking { file: None, name: &name, size, bytes });
                    }
                    looked = &mut looking => break looked?,
                }
            };
            for InspectedTarget { decision, removed_outdated, file: ResolvedFile { owner, stat, layout, local } } in
                looked
            {
                if removed_outdated {
                    report.tell(FetchEvent::OutdatedRemoved { name: &stat.name });
                }
                let (name, size) = (stat.name.as_str().to_owned(), stat.size);
                let again = || Some(RequestedName { text: stat.name.as_str().to_owned(), local: Some(local.clone()) });
                match decision {
                    Ok(TargetDecision::Fetch(target)) => {
                        let (reported_no, earlier_rounds) = (report.next_number(), EarlierRounds::default());
                        let target = Some(target);
                        self.jobs.push(FileJob { owner, stat, layout, target, reported_no, earlier_rounds });
                    }
                    Ok(TargetDecision::Skip(path)) => {
                        // The skipped file counts as placed, so that no colliding file of a retry replaces it.
                        if disk.collides(&local) {
                            report.add_placed(path.clone(), size);
                        }
                        report.settle(None, FileReport::skipped(&stat, path, owner), || None);
                    }
                    Err(Error::FolderUnwritable { folder, obstacle }) => {
                        closed.push((name, size, again(), folder, obstacle));
                    }
                    Err(error @ Error::Interrupted) => report.abort(name, size, again(), &error),
                    Err(error) => report.fail(name, size, again(), error),
                }
            }
        }
    }

    /// Settles the files of unwritable folders: each folder is reported once. Fails if that leaves nothing to fetch.
    fn settle_unwritable(
        &mut self,
        closed: Vec<UnwritableFile>,
        report: &mut FetchReportBuilder<'_>,
    ) -> Result<(), Error> {
        let mut told: HashSet<PathBuf> = HashSet::new();
        let is_one = closed.windows(2).all(|two| two[0].3 == two[1].3);
        let nothing_else = self.jobs.is_empty() && self.stale_files.is_empty() && report.first_error().is_none();
        let all = closed.first().filter(|_| is_one && nothing_else).map(|first| (first.3.clone(), first.4));
        for (name, size, again, folder, obstacle) in closed {
            let error = Error::FolderUnwritable { folder: folder.clone(), obstacle };
            if all.is_none() && told.insert(folder) {
                report.fail(name, size, again, error);
            } else {
                report.abort(name, size, again, &error);
            }
        }
        all.map_or(Ok(()), |(folder, obstacle)| Err(Error::FolderUnwritable { folder, obstacle }))
    }
}

/// A file of an unwritable folder: name, size, retry entry, folder and reason.
type UnwritableFile = (String, u64, Option<RequestedName>, PathBuf, UnwritableReason);

/// Folders that couldn't be made, each with its error.
type FailedFolders = Vec<(FileName, Error)>;

/// A resolved file with the decision about its target.
struct InspectedTarget {
    decision: Result<TargetDecision, Error>,
    /// A partial file of an older version was there and is removed.
    removed_outdated: bool,
    file: ResolvedFile,
}

fn inspect_batch(
    mut disk: Box<TargetPlanner>,
    files: Vec<ResolvedFile>,
    tell: &mpsc::UnboundedSender<(FileName, u64, u64)>,
    cancel: &CancellationToken,
) -> (Vec<InspectedTarget>, Box<TargetPlanner>) {
    let look = |file: ResolvedFile| {
        if cancel.is_cancelled() {
            return InspectedTarget { decision: Err(Error::Interrupted), removed_outdated: false, file };
        }
        let mut hashed = |bytes| {
            if file.stat.size >= MIN_REPORTED_BYTES {
                // The receiver may be gone after an interruption.
                let _ = tell.send((file.stat.name.clone(), file.stat.size, bytes));
            }
            if cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
        };
        let decision = disk.plan_target(&file, &mut hashed);
        let removed_outdated =
            matches!(&decision, Ok(TargetDecision::Fetch(target)) if remove_outdated(target, &file.stat.hash));
        InspectedTarget { decision, removed_outdated, file }
    };
    let looked = files.into_iter().map(look).collect();
    (looked, disk)
}

/// Makes the destination and the given folders; returns the folders that failed.
fn make_folders(
    mut disk: Box<TargetPlanner>,
    folders: Vec<FileName>,
) -> Result<(FailedFolders, Box<TargetPlanner>), Error> {
    disk.create_destination()?;
    let make = |name: FileName| disk.create_folder(&name).err().map(|error| (name, error));
    let failed = folders.into_iter().filter_map(make).collect();
    Ok((failed, disk))
}

/// Reports pairs of names that a system without case or normal forms can't tell apart.
fn report_colliding_names(files: &[ResolvedFile], report: &mut FetchReportBuilder<'_>) {
    let mut seen: HashMap<String, &str> = HashMap::with_capacity(files.len());
    for file in files {
        let name = file.local.as_str();
        if let Some(one) = seen.insert(case_folded(name), name)
            && one != name
        {
            report.tell(FetchEvent::CollidingNames { one, other: name });
        }
    }
}

/// Fails if the disks can't hold the files. The destination may span several disks, so needs are summed per device.
fn check_free_space(jobs: &[FileJob], kept: u64) -> Result<(), Error> {
    let mut disks: HashMap<u64, SpaceRequirement> = HashMap::new();
    // One look per folder and not per file: a fetch may have 100,000 files in few folders.
    let mut folders: HashMap<String, Option<u64>> = HashMap::new();
    for job in jobs {
        let Some(target) = &job.target else { continue };
        let known = folders.get(target.folder.relative_path()).copied();
        let device = known.unwrap_or_else(|| {
            let looked = target.folder.free_space();
            let device = looked.as_ref().map(|(room, ..)| room.device);
            if let Some((room, folder, path)) = looked {
                let new = || SpaceRequirement { free: room, folder, path, bytes: 0, bytes_with_holes: 0, files: 0 };
                disks.entry(room.device).or_insert_with(new);
            }
            folders.insert(target.folder.relative_path().to_owned(), device);
            device
        });
        if let Some(needed) = device.and_then(|device| disks.get_mut(&device)) {
            // Blocks of an earlier attempt's partial file are used again, so they are not needed twice.
            let held = if job.layout.group_count() > 1 { allocated_bytes(target, &job.stat.hash) } else { 0 };
            let add = |sum: u64, bytes: u64| sum.saturating_add(needed.free.allocated_size(bytes.saturating_sub(held)));
            needed.bytes = add(needed.bytes, job.stat.data_bytes());
            needed.bytes_with_holes = add(needed.bytes_with_holes, job.stat.size);
            // A replaced file gives its inode back, and a partial file keeps the one it has.
            needed.files += u64::from(held == 0 && !target.can_replace());
        }
    }
    disks.into_values().try_for_each(|disk| disk.check(kept))
}

/// The space that a fetch needs on one disk.
struct SpaceRequirement {
    free: FreeSpace,
    /// A folder on that disk, to try whether it stores holes.
    folder: Arc<FolderHandle>,
    path: PathBuf,
    bytes: u64,
    /// Bytes needed if the file system doesn't store holes.
    bytes_with_holes: u64,
    files: u64,
}

impl SpaceRequirement {
    /// Fails if the disk can't hold the files and have `kept` bytes left.
    fn check(self, kept: u64) -> Result<(), Error> {
        let Self { free: room, folder, path, bytes, bytes_with_holes, files } = self;
        let lacks = |free: u64, bytes: u64| bytes > 0 && free < bytes.saturating_add(kept);
        let shortage = match (room.bytes, room.files) {
            (Some(free), _) if lacks(free, bytes) => SpaceShortage::of_bytes(bytes, free, kept),
            // Tried only if the answer matters: it takes a probe file on the disk.
            (Some(free), _) if lacks(free, bytes_with_holes) && !folder.can_store_holes() => {
                SpaceShortage::of_bytes(bytes_with_holes, free, kept)
            }
            (_, Some(free)) if free < files => SpaceShortage::Files { needed: files, free },
            _ => return Ok(()),
        };
        Err(Error::InsufficientSpace { folder: path, shortage })
    }
}
