//! A transfer in memory, whose instructions are counted.
//!
//! Session, plan, report, frames and verification are those of every fetch. Links, tasks and disks are left out, and so
//! is the clock: whatever else the machine does, the same work is done in the same order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::content::Manifest;
use shared::frame::{FrameDecoder, encode};
use shared::peer::{FileStat, PeerReply, PeerRequest};
use shared::{ContentHash, GroupLayout, UserName};

use super::downloader::{DownloadEvent, manifest_header};
use super::plan::{FetchPlan, SharedPlan, SourceNo, WorkItem};
use super::report_builder::FetchReportBuilder;
use super::session::{FetchSession, SessionAction, SessionEvent};
use super::sources::SourceFiles;
use super::writer::{EarlierRounds, FileJob, WriterEvent, is_group_valid};
use super::{FetchDestination, FetchEvent, FetchRequest, FileNo, FileOutcome};

/// Requests that the source has open at a time.
const REQUESTS_AHEAD: usize = 16;
/// Bytes that arrive together, about as many as a datagram of QUIC carries.
const CHUNK_BYTES: usize = 1_400;
/// The time that passes with each answer.
const ANSWER_TIME: Duration = Duration::from_micros(500);

/// The files of one source and the request for all of them.
#[derive(Debug)]
pub struct MemoryTransfer {
    request: FetchRequest,
    owner: UserName,
    jobs: Arc<Vec<FileJob>>,
    sources: Vec<MemoryFile>,
    by_hash: BTreeMap<[u8; 32], FileNo>,
}

/// A file at the source.
#[derive(Debug)]
struct MemoryFile {
    content: Vec<u8>,
    manifest: Manifest,
}

/// The bytes of one direction, in the order in which they were sent.
#[derive(Debug, Default)]
struct MemoryStream {
    decoder: FrameDecoder,
    bytes: Vec<u8>,
    /// Number of bytes that were read.
    read: usize,
}

impl MemoryTransfer {
    /// Prepares the transfer of files of these contents; `None` if one is too large.
    pub fn new(owner: UserName, contents: Vec<Vec<u8>>) -> Option<Self> {
        let (mut jobs, mut sources, mut by_hash) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (reported_no, content) in contents.into_iter().enumerate() {
            let layout = GroupLayout::of(content.len() as u64)?;
            let groups = content.chunks(usize::try_from(layout.group_bytes()).ok()?);
            let values = (0..).zip(groups).map(|(group, bytes)| layout.chaining_value(group, bytes)).collect();
            let name = format!("files/{reported_no}.bin").parse().ok()?;
            let stat = FileStat::new(name, ContentHash::of(&content), &layout);
            by_hash.insert(*stat.hash.as_bytes(), reported_no);
            let (owner, earlier_rounds) = (owner.clone(), EarlierRounds::default());
            jobs.push(FileJob { owner, stat, layout, target: None, reported_no, earlier_rounds });
            sources.push(MemoryFile { content, manifest: Manifest::new(values) });
        }
        let destination = FetchDestination::Folder("memory".into());
        let request = FetchRequest {
            streams: 1,
            ..FetchRequest::new(owner.clone().into(), Vec::new(), destination, Duration::from_secs(10))
        };
        Some(Self { request, owner, jobs: Arc::new(jobs), sources, by_hash })
    }

    /// Fetches all files. Returns the number of verified bytes: fewer than there are if the fetch got stuck.
    pub fn run(&self, start: Instant) -> u64 {
        let mut verified = 0;
        let mut count = |event: FetchEvent<'_>| {
            if let FetchEvent::Verified { bytes, .. } = event {
                verified += bytes;
            }
        };
        let report = FetchReportBuilder::new(&mut count);
        let _ = MemoryDownload::begin(self, report, start).and_then(MemoryDownload::run);
        verified
    }

    /// Answers the next request, as a source does.
    fn answer(&self, requests: &mut MemoryStream, answers: &mut MemoryStream) -> Option<()> {
        match requests.next_frame()? {
            PeerRequest::Manifest { hash } => {
                let file = *self.by_hash.get(hash.as_bytes())?;
                let (layout, manifest) = (&self.jobs[file].layout, &self.sources[file].manifest);
                let (size, group_size, groups) = (layout.size(), layout.group_bytes(), layout.group_count());
                answers.send(&PeerReply::Manifest { hash, size, group_size, groups, zeros: Vec::new() })?;
                answers.bytes.extend_from_slice(manifest.as_bytes());
            }
            PeerRequest::Get { hash, ranges, .. } => {
                let file = *self.by_hash.get(hash.as_bytes())?;
                let layout = &self.jobs[file].layout;
                for (start, end) in ranges {
                    let (from, bytes) = (layout.offset(start), layout.range_len(start, end));
                    let (from, len) = (usize::try_from(from).ok()?, usize::try_from(bytes).ok()?);
                    answers.send(&PeerReply::Data { bytes })?;
                    answers.bytes.extend_from_slice(self.sources[file].content.get(from..from + len)?);
                }
            }
            _ => return None,
        }
        Some(())
    }
}

/// The fetching side of a transfer.
struct MemoryDownload<'a> {
    transfer: &'a MemoryTransfer,
    session: FetchSession<'a>,
    plan: Arc<SharedPlan>,
    source: SourceNo,
    now: Instant,
    in_flight: VecDeque<WorkItem>,
    requests: MemoryStream,
    answers: MemoryStream,
    manifests: Vec<Option<Manifest>>,
    /// Groups of each file that are still missing.
    missing: Vec<u32>,
}

impl<'a> MemoryDownload<'a> {
    fn begin(transfer: &'a MemoryTransfer, report: FetchReportBuilder<'a>, now: Instant) -> Option<Self> {
        let jobs = &transfer.jobs;
        let plan = Arc::new(SharedPlan::new(FetchPlan::new(jobs.iter().map(|job| job.layout), 1, false)));
        let mut session = FetchSession::new(&transfer.request, report);
        let files = SourceFiles { files: (0..jobs.len()).collect(), partial_files: Vec::new() };
        let owner = vec![(transfer.owner.clone(), files)];
        session.begin_round(Arc::clone(jobs), Arc::clone(&plan), owner, None, now);
        let mut source = None;
        while let Some(action) = session.poll_action() {
            if let SessionAction::StartSource { source: started, .. } = action {
                source = Some(started);
            }
        }
        Some(Self {
            transfer,
            session,
            plan,
            source: source?,
            now,
            in_flight: VecDeque::new(),
            requests: MemoryStream::default(),
            answers: MemoryStream::default(),
            manifests: vec![None; jobs.len()],
            missing: jobs.iter().map(|job| job.layout.group_count()).collect(),
        })
    }

    fn run(mut self) -> Option<()> {
        self.handle(SessionEvent::SearchCompleted(1));
        while self.session.round_end().is_none() {
            self.request_ahead()?;
            let work = self.in_flight.pop_front()?;
            self.transfer.answer(&mut self.requests, &mut self.answers)?;
            self.now += ANSWER_TIME;
            match work {
                WorkItem::Manifest(file) => self.read_manifest(file)?,
                WorkItem::Run { file, start, end } => self.read_run(file, start, end)?,
            }
        }
        Some(())
    }

    fn handle(&mut self, event: SessionEvent) {
        self.session.handle(event, self.now);
        // One honest source leaves the driver nothing to do.
        while self.session.poll_action().is_some() {}
    }

    fn request_ahead(&mut self) -> Option<()> {
        while self.in_flight.len() < REQUESTS_AHEAD {
            let Some(work) = self.plan.lock().next_work(self.source, self.now) else { break };
            let stat = |file: FileNo| &self.transfer.jobs[file].stat;
            let (file, request) = match work {
                WorkItem::Manifest(file) => (file, PeerRequest::Manifest { hash: stat(file).hash }),
                WorkItem::Run { file, start, end } => {
                    let FileStat { hash, name, .. } = stat(file);
                    (file, PeerRequest::Get { hash: *hash, ranges: vec![(start, end)], name: Some(name.clone()) })
                }
            };
            self.requests.send(&request)?;
            if matches!(work, WorkItem::Manifest(_) | WorkItem::Run { start: 0, .. }) {
                self.handle(SessionEvent::Download(DownloadEvent::FileRequested { file }));
            }
            self.in_flight.push_back(work);
        }
        Some(())
    }

    fn read_manifest(&mut self, file: FileNo) -> Option<()> {
        let FileJob { stat, layout, .. } = &self.transfer.jobs[file];
        let answer = self.answers.next_frame()?;
        manifest_header(&answer, &stat.hash, layout)?;
        let groups = usize::try_from(layout.group_count()).ok()?;
        let bytes = self.answers.take(groups * 32)?;
        let manifest = Manifest::from_bytes(layout, &bytes).filter(|manifest| manifest.content_hash() == stat.hash)?;
        self.manifests[file] = Some(manifest);
        if self.plan.lock().manifest_arrived(file) {
            let present = vec![false; groups];
            self.handle(SessionEvent::Writer(WriterEvent::FileOpened { file, present, bytes: 0, partial_path: None }));
        }
        Some(())
    }

    fn read_run(&mut self, file: FileNo, start: u32, end: u32) -> Option<()> {
        let job = &self.transfer.jobs[file];
        let expected = PeerReply::Data { bytes: job.layout.range_len(start, end) };
        if self.answers.next_frame::<PeerReply>()? != expected {
            return None;
        }
        for group in start..end {
            let bytes = job.layout.group_len(group);
            let received = self.answers.take(usize::try_from(bytes).ok()?)?;
            self.plan.lock().group_delivered(self.source, file, group, self.now);
            if !is_group_valid(job, self.manifests[file].as_ref(), group, &received) {
                return None;
            }
            self.handle(SessionEvent::Writer(WriterEvent::GroupVerified { file, bytes, source: self.source }));
            self.missing[file] -= 1;
        }
        if self.missing[file] == 0 {
            let outcome = FileOutcome::Done("memory".into());
            self.handle(SessionEvent::Writer(WriterEvent::FileFinished { file, outcome }));
        }
        Some(())
    }
}

impl MemoryStream {
    fn send(&mut self, frame: &impl Serialize) -> Option<()> {
        encode(frame, &mut self.bytes).ok()
    }

    /// Reads the next frame, and nothing behind it; `None` if the stream ends before.
    fn next_frame<T: DeserializeOwned>(&mut self) -> Option<T> {
        loop {
            if let Some(frame) = self.decoder.next_frame().ok()? {
                return Some(frame);
            }
            let chunk = self.decoder.bytes_needed().min(CHUNK_BYTES);
            self.decoder.extend(self.bytes.get(self.read..self.read + chunk)?);
            self.read += chunk;
        }
    }

    /// Reads exactly `len` bytes, as they arrive; `None` if the stream ends before.
    fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut taken = Vec::with_capacity(len);
        while taken.len() < len {
            let chunk = CHUNK_BYTES.min(len - taken.len());
            taken.extend_from_slice(self.bytes.get(self.read..self.read + chunk)?);
            self.read += chunk;
        }
        // What both sides are done with goes, so that a long transfer needs no more memory than a short one.
        if self.read == self.bytes.len() {
            self.bytes.clear();
            self.read = 0;
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_verified() {
        let contents = vec![vec![1; 3 << 20], vec![2; 7], vec![3; (2 << 20) + 1]];
        let bytes: usize = contents.iter().map(Vec::len).sum();
        let transfer = MemoryTransfer::new("bob".parse().unwrap(), contents).unwrap();
        assert_eq!(transfer.run(Instant::now()), bytes as u64);
    }

    #[test]
    fn a_lie_is_no_transfer() {
        let mut transfer = MemoryTransfer::new("bob".parse().unwrap(), vec![vec![1; 3 << 20]]).unwrap();
        transfer.sources[0].content[2 << 20] ^= 1;
        assert_eq!(transfer.run(Instant::now()), 2 << 20);
    }
}
