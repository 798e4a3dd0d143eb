//! One stream of requests to one source: asks ahead, reads the answers in order, hands groups to the writer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::content::Manifest;
use shared::peer::{GET_NAMES_CAPABILITY, PeerErrorCode, PeerReply, PeerRequest};
use shared::{ContentHash, GroupLayout, UntrustedText, UserName, ZeroRuns};
use tokio::sync::{Notify, mpsc};

use super::FileNo;
use super::chat_priority::ChatPriority;
use super::plan::{FetchPlan, SourceNo, WorkItem};
use super::stall_detector::StallDetector;
use super::writer::{FileJob, WriterCommand, WriterHandle};
use crate::engine::rate_limit::TokenBucket;
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{StreamPriority, StreamReceiver, StreamSender};

/// Requests asked ahead: what keeps small files from waiting for each other.
const MAX_REQUESTS_AHEAD: usize = 64;
/// How often a source that says it is busy is asked again, and after which pause.
const MAX_BUSY_RETRIES: u32 = 20;
const BUSY_RETRY_DELAY: Duration = Duration::from_millis(500);
/// A puller without work looks again after this, for what others have become late with.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The one whose word about names and sizes was taken.
const FIRST_SOURCE: SourceNo = 0;

/// What all pullers share.
#[derive(Debug)]
pub(super) struct DownloadContext {
    /// Whose names the files have.
    pub(super) owner: UserName,
    pub(super) plan: Mutex<FetchPlan>,
    /// Told whenever there may be new work.
    pub(super) work_available: Notify,
    pub(super) jobs: Arc<Vec<FileJob>>,
    pub(super) writer: WriterHandle,
    pub(super) events: mpsc::UnboundedSender<DownloadEvent>,
    pub(super) rate_limit: Option<tokio::sync::Mutex<TokenBucket>>,
    pub(super) chat_priority: Arc<ChatPriority>,
}

/// What a puller tells the coordinator.
#[derive(Debug)]
pub(super) enum DownloadEvent {
    /// A file is being asked for, for the first time.
    FileRequested { file: FileNo },
    /// A source doesn't have the file, or no longer.
    FileUnavailable { source: SourceNo, file: FileNo, code: PeerErrorCode, message: UntrustedText },
    /// The source said something that can't be true; it is asked no more.
    SourceMisbehaved { source: SourceNo, file: FileNo },
}

impl DownloadContext {
    pub(super) fn plan(&self) -> MutexGuard<'_, FetchPlan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn job(&self, file: FileNo) -> Result<&FileJob, StreamError> {
        self.jobs.get(file).ok_or(StreamError::Unexpected("a file that was asked for"))
    }

    pub(super) fn send_event(&self, news: DownloadEvent) {
        // Nobody listens when the fetch is over.
        let _ = self.events.send(news);
    }

    async fn apply_rate_limit(&self, bytes: usize, detector: &StallDetector) {
        if let Some(limit) = &self.rate_limit {
            detector.throttle(limit, bytes).await;
        }
        self.chat_priority.throttle(bytes, detector).await;
    }
}

/// Pulls until the plan is done. What was asked for and did not come goes back into the plan.
pub(super) async fn download(
    pull: Arc<DownloadContext>,
    link: Link,
    detector: Arc<StallDetector>,
    source: SourceNo,
) -> Result<(), StreamError> {
    let (stream, asked) = (None, VecDeque::new());
    let mut downloader = StreamDownloader {
        context: &pull,
        link: &link,
        stall_detector: &detector,
        source,
        stream,
        in_flight: asked,
        busy_answers: 0,
    };
    let outcome = downloader.run().await;
    downloader.return_all_work();
    outcome
}

struct StreamDownloader<'a> {
    context: &'a DownloadContext,
    link: &'a Link,
    stall_detector: &'a StallDetector,
    source: SourceNo,
    /// Without a sender once the source takes no more questions on it.
    stream: Option<(Option<StreamSender>, StreamReceiver)>,
    /// Work that was asked for and not yet answered, the oldest first; of a run, what is still to come.
    in_flight: VecDeque<WorkItem>,
    /// How often the source said one after the other that it is busy.
    busy_answers: u32,
}

impl StreamDownloader<'_> {
    async fn run(&mut self) -> Result<(), StreamError> {
        loop {
            // Registered before the plan is asked: work that appears in between is not missed.
            let more_work = self.context.work_available.notified();
            match self.request_ahead().await {
                // A stream that takes no more questions says nothing about the file that this one was for; and what it
                // says to earlier ones may be there already.
                Err(StreamError::Reset(_)) if self.stream.is_some() => self.return_last_work(),
                Err(StreamError::Reset(code)) if !self.in_flight.is_empty() => {
                    if let Some(work) = self.in_flight.front().cloned() {
                        self.handle_reset(&work, code);
                    }
                    continue;
                }
                asked => asked?,
            }
            if let Some(work) = self.in_flight.front().cloned() {
                match self.read_answer(&work).await {
                    // The file is the trouble, not the link.
                    Err(StreamError::Reset(code)) => self.handle_reset(&work, code),
                    outcome => outcome?,
                }
            } else if self.context.plan().is_done() {
                if let Some((Some(sender), _)) = self.stream.take() {
                    sender.finish();
                }
                return Ok(());
            } else {
                let _ = tokio::time::timeout(IDLE_POLL_INTERVAL, more_work).await;
                if self.link.is_closed() {
                    return Err(StreamError::Link(self.link.closed().await));
                }
            }
        }
    }

    fn return_all_work(&mut self) {
        let mut plan = self.context.plan();
        for work in self.in_flight.drain(..).rev() {
            plan.return_work(self.source, &work);
        }
        drop(plan);
        self.context.work_available.notify_waiters();
    }

    /// The last question didn't reach the source, which takes no more of them on this stream.
    fn return_last_work(&mut self) {
        if let Some((sender, _)) = &mut self.stream {
            *sender = None;
        }
        if let Some(work) = self.in_flight.pop_back() {
            self.context.plan().return_work(self.source, &work);
            self.context.work_available.notify_waiters();
        }
    }

    async fn request_ahead(&mut self) -> Result<(), StreamError> {
        if matches!(self.stream, Some((None, _))) {
            if !self.in_flight.is_empty() {
                return Ok(());
            }
            self.stream = None;
        }
        if self.in_flight.len() > MAX_REQUESTS_AHEAD / 2 {
            // Many small ones are asked for in batches, which the other side then opens in one go.
            return Ok(());
        }
        let mut ahead: u64 = self.in_flight.iter().map(|work| self.bytes_of(work)).sum();
        let enough = self.context.plan().bytes_ahead(self.source);
        while self.in_flight.len() < MAX_REQUESTS_AHEAD && (ahead < enough || self.in_flight.is_empty()) {
            let Some(work) = self.context.plan().next_work(self.source, Instant::now()) else { return Ok(()) };
            ahead += self.bytes_of(&work);
            let (file, ask) = match work {
                WorkItem::Manifest(file) => (file, PeerRequest::Manifest { hash: self.context.job(file)?.stat.hash }),
                WorkItem::Run { file, start, end } => {
                    let stat = &self.context.job(file)?.stat;
                    // To others it may be a secret.
                    let is_theirs =
                        *self.link.user() == self.context.owner && self.link.has_capability(GET_NAMES_CAPABILITY);
                    let name = is_theirs.then(|| stat.name.clone());
                    (file, PeerRequest::Get { hash: stat.hash, ranges: vec![(start, end)], name })
                }
            };
            if matches!(work, WorkItem::Manifest(_) | WorkItem::Run { start: 0, .. }) {
                self.context.send_event(DownloadEvent::FileRequested { file });
            }
            // In the queue before it is sent: what fails to be sent is given back as well.
            self.in_flight.push_back(work);
            match &mut self.stream {
                Some((Some(sender), _)) => self.stall_detector.start_timer().wait(sender.send_frame(&ask)).await?,
                _ => {
                    let opened = self
                        .stall_detector
                        .start_timer()
                        .wait(self.link.open_stream(&ask, StreamPriority::Request))
                        .await;
                    let (sender, receiver) = opened?;
                    self.stream = Some((Some(sender), receiver));
                }
            }
        }
        Ok(())
    }

    fn bytes_of(&self, work: &WorkItem) -> u64 {
        match *work {
            WorkItem::Manifest(_) => 0,
            WorkItem::Run { file, start, end } => {
                self.context.jobs.get(file).map_or(0, |job| job.layout.range_len(start, end))
            }
        }
    }

    async fn read_answer(&mut self, work: &WorkItem) -> Result<(), StreamError> {
        let Some((_, receiver)) = &mut self.stream else { return Ok(()) };
        let answer = self.stall_detector.start_timer().wait(receiver.next_answer()).await;
        self.stall_detector.record_progress(0);
        let answer = match answer {
            // It is short of something that others give back soon.
            Err(StreamError::Refused { code: PeerErrorCode::Busy, .. }) if self.busy_answers < MAX_BUSY_RETRIES => {
                self.busy_answers += 1;
                self.in_flight.pop_front();
                self.context.plan().return_work(self.source, work);
                self.stall_detector.pause_during(tokio::time::sleep(BUSY_RETRY_DELAY)).await;
                return Ok(());
            }
            Err(StreamError::Refused { code, message }) => {
                self.in_flight.pop_front();
                self.context.plan().return_work(self.source, work);
                self.report_unavailable(work, code, message);
                return Ok(());
            }
            answer => answer?,
        };
        self.busy_answers = 0;
        match *work {
            WorkItem::Manifest(file) => self.read_manifest(file, &answer).await,
            WorkItem::Run { file, start, end } => self.read_run(file, start, end, &answer).await,
        }
    }

    /// The source gave up in the middle of an answer: the stream is gone, and that file with it.
    fn handle_reset(&mut self, work: &WorkItem, code: PeerErrorCode) {
        self.stream = None;
        // What is left of the work is in the queue, shorter than it was.
        self.return_all_work();
        let message = match code {
            PeerErrorCode::Internal => "reading it failed in the middle".into(),
            code => format!("the source stopped sending ({code})").into(),
        };
        self.report_unavailable(work, code, message);
    }

    /// The source doesn't have the file after all.
    fn report_unavailable(&self, work: &WorkItem, code: PeerErrorCode, message: UntrustedText) {
        let (WorkItem::Manifest(file) | WorkItem::Run { file, .. }) = *work;
        self.context.plan().remove_availability(self.source, file);
        self.context.work_available.notify_waiters();
        self.context.send_event(DownloadEvent::FileUnavailable { source: self.source, file, code, message });
    }

    async fn read_manifest(&mut self, file: FileNo, answer: &PeerReply) -> Result<(), StreamError> {
        let job = self.context.job(file)?;
        let layout = job.layout;
        let described = manifest_header(answer, &job.stat.hash, &layout);
        if described.is_none() && self.source != FIRST_SOURCE {
            // It may be the first source that described the file wrongly.
            self.in_flight.pop_front();
            self.context.plan().return_work(self.source, &WorkItem::Manifest(file));
            self.report_unavailable(
                &WorkItem::Manifest(file),
                PeerErrorCode::Protocol,
                "the sources disagree about it".into(),
            );
            self.stream = None;
            self.return_all_work();
            return Ok(());
        }
        let mut manifest = None;
        if described.is_some() {
            let len = usize::try_from(layout.group_count()).unwrap_or(0) * 32;
            let bytes = self.read_bytes(Vec::with_capacity(len), len).await?;
            manifest =
                Manifest::from_bytes(&layout, &bytes).filter(|manifest| manifest.content_hash() == job.stat.hash);
        }
        let zeros = described.and_then(|zeros| ZeroRuns::from_untrusted(&layout, zeros.to_vec()));
        let (Some(manifest), Some(zeros)) = (manifest, zeros) else {
            return Err(self.ban_source(file, "a manifest that fits the file's hash"));
        };
        self.in_flight.pop_front();
        let first = self.context.plan().manifest_arrived(file);
        if first {
            let source = self.source;
            self.stall_detector
                .pause_during(self.context.writer.send(WriterCommand::Open { file, manifest, zeros, source }))
                .await;
        }
        Ok(())
    }

    async fn read_run(&mut self, file: FileNo, start: u32, end: u32, answer: &PeerReply) -> Result<(), StreamError> {
        let layout = self.context.job(file)?.layout;
        if *answer != (PeerReply::Data { bytes: layout.range_len(start, end) }) {
            return Err(self.ban_source(file, "as many bytes as were asked for"));
        }
        for group in start..end {
            let len = usize::try_from(layout.group_len(group)).unwrap_or(usize::MAX);
            let bytes = self.read_bytes(self.context.writer.buffer(len), len).await?;
            self.context.plan().group_delivered(self.source, file, group, Instant::now());
            // From here on the group is the writer's; only the rest of the run could still have to be given back.
            match self.in_flight.front_mut() {
                Some(WorkItem::Run { start, .. }) if group + 1 < end => *start = group + 1,
                _ => {
                    self.in_flight.pop_front();
                }
            }
            self.stall_detector.pause_during(self.context.writer.send_group(file, group, bytes, self.source)).await;
        }
        Ok(())
    }

    /// Exactly `len` raw bytes of an answer, put into `bytes`, which is empty.
    async fn read_bytes(&mut self, mut bytes: Vec<u8>, len: usize) -> Result<Vec<u8>, StreamError> {
        let Some((_, receiver)) = &mut self.stream else { return Err(StreamError::Truncated) };
        let mut timer = self.stall_detector.start_timer();
        while bytes.len() < len {
            // A timer only where there is something to wait for.
            let chunk = match receiver.take_buffered(len - bytes.len()) {
                Some(chunk) => chunk,
                None => timer.wait(receiver.next_bulk(len - bytes.len())).await?,
            };
            bytes.extend_from_slice(&chunk);
            self.stall_detector.record_progress(chunk.len());
            self.context.apply_rate_limit(chunk.len(), self.stall_detector).await;
        }
        Ok(bytes)
    }

    fn ban_source(&self, about: FileNo, expected: &'static str) -> StreamError {
        if self.context.plan().ban_source(self.source) {
            self.context.send_event(DownloadEvent::SourceMisbehaved { source: self.source, file: about });
        }
        StreamError::Unexpected(expected)
    }
}

/// The groups that a manifest's header claims to be zeros; `None` unless it describes this file.
fn manifest_header<'a>(answer: &'a PeerReply, of: &ContentHash, layout: &GroupLayout) -> Option<&'a [(u32, u32)]> {
    let PeerReply::Manifest { hash, size, group_size, groups, zeros } = answer else { return None };
    let fits =
        hash == of && (*size, *group_size, *groups) == (layout.size(), layout.group_bytes(), layout.group_count());
    fits.then_some(zeros)
}
