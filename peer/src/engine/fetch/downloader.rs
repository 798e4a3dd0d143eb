//! Downloader of one stream: sends requests ahead, reads the answers in order, and hands groups to the writer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use localization::tr;
use shared::content::Manifest;
use shared::peer::{GET_NAMES_CAPABILITY, PeerErrorCode, PeerReply, PeerRequest};
use shared::{ContentHash, GroupLayout, UntrustedText, ZeroRuns};
use tokio::sync::mpsc;

use super::FileNo;
use super::chat_priority::ChatPriority;
use super::plan::{SharedPlan, SourceNo, WorkItem};
use super::stall_detector::StallDetector;
use super::writer::{FileJob, WriterCommand, WriterHandle};
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{StreamPriority, StreamReceiver, StreamSender};
use crate::util::rate_limit::TokenBucket;

/// The most requests in flight per stream; without them, small files would each wait for a round trip.
const MAX_REQUESTS_AHEAD: usize = 64;
/// Retries of a source that answers `busy`, and the pause before each.
const MAX_BUSY_RETRIES: u32 = 20;
const BUSY_RETRY_DELAY: Duration = Duration::from_millis(500);
/// A downloader without work asks the plan again after this time, because runs of others become late without an event.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The state that all downloaders of a round share.
#[derive(Debug)]
pub(super) struct DownloadContext {
    pub(super) plan: Arc<SharedPlan>,
    pub(super) jobs: Arc<Vec<FileJob>>,
    pub(super) writer: WriterHandle,
    pub(super) events: mpsc::UnboundedSender<DownloadEvent>,
    pub(super) rate_limit: Option<tokio::sync::Mutex<TokenBucket>>,
    pub(super) chat_priority: Arc<ChatPriority>,
}

/// An event for the session.
#[derive(Debug)]
pub(super) enum DownloadEvent {
    /// The first request of a file is being sent.
    FileRequested { file: FileNo },
    /// The source refuses the file.
    FileUnavailable { source: SourceNo, file: FileNo, code: PeerErrorCode, message: UntrustedText },
    /// The source sent something that can't be true and is banned in the plan.
    SourceMisbehaved { source: SourceNo, file: FileNo },
}

impl DownloadContext {
    fn job(&self, file: FileNo) -> Result<&FileJob, StreamError> {
        self.jobs.get(file).ok_or(StreamError::Unexpected("a file that was asked for"))
    }

    pub(super) fn send_event(&self, news: DownloadEvent) {
        // Fails only when the round driver is gone, and with it the round.
        let _ = self.events.send(news);
    }

    async fn apply_rate_limit(&self, bytes: usize, detector: &StallDetector) {
        if let Some(limit) = &self.rate_limit {
            detector.throttle(limit, bytes).await;
        }
        self.chat_priority.throttle(bytes, detector).await;
    }
}

/// Downloads until the plan is done. Work that was requested and didn't arrive is returned to the plan.
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
    // On every path, errors included: no other source is asked for work that is still booked on this one.
    downloader.return_all_work();
    outcome
}

struct StreamDownloader<'a> {
    context: &'a DownloadContext,
    link: &'a Link,
    stall_detector: &'a StallDetector,
    source: SourceNo,
    /// The stream; its sender is `None` when the source takes no more requests on it.
    stream: Option<(Option<StreamSender>, StreamReceiver)>,
    /// Unanswered requests, oldest first; a run starts at its next missing group.
    in_flight: VecDeque<WorkItem>,
    /// Consecutive `busy` answers.
    busy_answers: u32,
}

impl StreamDownloader<'_> {
    async fn run(&mut self) -> Result<(), StreamError> {
        loop {
            // Registered before the plan is asked, so that work which appears in between is not missed.
            let more_work = self.context.plan.work_announced();
            match self.request_ahead().await {
                // The reset hit a request that the source never read. It says nothing about that file, and
                // answers to earlier requests may have arrived already.
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
                    // The source failed at this file, not the link: only the file is given back.
                    Err(StreamError::Reset(code)) => self.handle_reset(&work, code),
                    outcome => outcome?,
                }
            } else if self.context.plan.lock().is_done() {
                if let Some((Some(sender), _)) = self.stream.take() {
                    sender.finish();
                }
                return Ok(());
            } else {
                // An idle stream has no read that could fail, so the link is looked at here.
                let _ = tokio::time::timeout(IDLE_POLL_INTERVAL, more_work).await;
                if self.link.is_closed() {
                    return Err(StreamError::Link(self.link.closed().await));
                }
            }
        }
    }

    fn return_all_work(&mut self) {
        let mut plan = self.context.plan.lock();
        // From the last one: each goes to the front, so that the order stays.
        for work in self.in_flight.drain(..).rev() {
            plan.return_work(self.source, &work);
        }
        drop(plan);
        self.context.plan.announce_work();
    }

    /// Returns the last request, which the source didn't read; it takes no more requests on this stream.
    fn return_last_work(&mut self) {
        if let Some((sender, _)) = &mut self.stream {
            *sender = None;
        }
        if let Some(work) = self.in_flight.pop_back() {
            self.context.plan.lock().return_work(self.source, &work);
            self.context.plan.announce_work();
        }
    }

    async fn request_ahead(&mut self) -> Result<(), StreamError> {
        if matches!(self.stream, Some((None, _))) {
            // Earlier requests can still be answered on the old stream; a new one is opened when they are.
            if !self.in_flight.is_empty() {
                return Ok(());
            }
            self.stream = None;
        }
        if self.in_flight.len() > MAX_REQUESTS_AHEAD / 2 {
            // Refilled at half, so that many small files are requested in batches, which the source opens in one go.
            return Ok(());
        }
        let mut ahead: u64 = self.in_flight.iter().map(|work| self.bytes_of(work)).sum();
        let enough = self.context.plan.lock().bytes_ahead(self.source);
        while self.in_flight.len() < MAX_REQUESTS_AHEAD && (ahead < enough || self.in_flight.is_empty()) {
            let Some(work) = self.context.plan.lock().next_work(self.source, Instant::now()) else { return Ok(()) };
            ahead += self.bytes_of(&work);
            let (file, ask) = match work {
                WorkItem::Manifest(file) => (file, PeerRequest::Manifest { hash: self.context.job(file)?.stat.hash }),
                WorkItem::Run { file, start, end } => {
                    let FileJob { owner, stat, .. } = self.context.job(file)?;
                    // Only the owner is told the name: for other sources, the
                    // name of a privately offered file may be a secret.
                    let is_theirs = self.link.user() == owner && self.link.has_capability(GET_NAMES_CAPABILITY);
                    let name = is_theirs.then(|| stat.name.clone());
                    (file, PeerRequest::Get { hash: stat.hash, ranges: vec![(start, end)], name })
                }
            };
            // A file of one group is asked for without a manifest.
            if matches!(work, WorkItem::Manifest(_) | WorkItem::Run { start: 0, .. }) {
                self.context.send_event(DownloadEvent::FileRequested { file });
            }
            // Queued before it is sent, so that a request that fails to be sent is returned as well.
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
        self.stall_detector.record_answer();
        let answer = match answer {
            // The source lacks a slot or a descriptor for the moment: the same request may succeed soon.
            Err(StreamError::Refused { code: PeerErrorCode::Busy, .. }) if self.busy_answers < MAX_BUSY_RETRIES => {
                self.busy_answers += 1;
                // Returned before the pause, so that another source can take it meanwhile.
                self.in_flight.pop_front();
                self.context.plan.lock().return_work(self.source, work);
                self.stall_detector.pause_during(tokio::time::sleep(BUSY_RETRY_DELAY)).await;
                return Ok(());
            }
            // A refusal ends this answer and not the stream; the next answers follow it.
            Err(StreamError::Refused { code, message }) => {
                self.in_flight.pop_front();
                self.context.plan.lock().return_work(self.source, work);
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

    /// Handles a reset in the middle of an answer: the stream is gone, and the source loses the file.
    fn handle_reset(&mut self, work: &WorkItem, code: PeerErrorCode) {
        self.stream = None;
        // The queue holds the rest of the work: each group that arrived has shortened it.
        self.return_all_work();
        let message = match code {
            PeerErrorCode::Internal => tr!("reading it failed in the middle").into(),
            code => tr!("the source stopped sending ({code})", code).into(),
        };
        self.report_unavailable(work, code, message);
    }

    /// Records in the plan that the source doesn't have the file, and tells the session why.
    fn report_unavailable(&self, work: &WorkItem, code: PeerErrorCode, message: UntrustedText) {
        let (WorkItem::Manifest(file) | WorkItem::Run { file, .. }) = *work;
        self.context.plan.lock().remove_availability(self.source, file);
        self.context.plan.announce_work();
        self.context.send_event(DownloadEvent::FileUnavailable { source: self.source, file, code, message });
    }

    async fn read_manifest(&mut self, file: FileNo, answer: &PeerReply) -> Result<(), StreamError> {
        let job = self.context.job(file)?;
        let layout = job.layout;
        let described = manifest_header(answer, &job.stat.hash, &layout);
        if described.is_none() && *self.link.user() != job.owner {
            // Not a proof against this source: the owner's description, which every job rests on, may be the wrong one.
            self.in_flight.pop_front();
            self.context.plan.lock().return_work(self.source, &WorkItem::Manifest(file));
            self.report_unavailable(
                &WorkItem::Manifest(file),
                PeerErrorCode::Protocol,
                tr!("the sources disagree about it").into(),
            );
            // What follows on the stream describes another file: its length isn't known.
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
        // In the end game two sources send the same manifest; the writer opens the file only once.
        let first = self.context.plan.lock().manifest_arrived(file);
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
        // The length was agreed by the layout: an answer of another length can't be aligned to groups.
        if *answer != (PeerReply::Data { bytes: layout.range_len(start, end) }) {
            return Err(self.ban_source(file, "as many bytes as were asked for"));
        }
        for group in start..end {
            let len = usize::try_from(layout.group_len(group)).unwrap_or(usize::MAX);
            let bytes = self.read_bytes(self.context.writer.buffer(len), len).await?;
            self.context.plan.lock().group_delivered(self.source, file, group, Instant::now());
            // From here on the group is the writer's; only the rest of the run could still have to be returned.
            match self.in_flight.front_mut() {
                Some(WorkItem::Run { start, .. }) if group + 1 < end => *start = group + 1,
                _ => {
                    self.in_flight.pop_front();
                }
            }
            // The wait is this side's: a full writer must not pass for a silent source.
            self.stall_detector.pause_during(self.context.writer.send_group(file, group, bytes, self.source)).await;
        }
        Ok(())
    }

    /// Reads exactly `len` raw bytes of an answer into `bytes`, which is empty.
    async fn read_bytes(&mut self, mut bytes: Vec<u8>, len: usize) -> Result<Vec<u8>, StreamError> {
        let Some((_, receiver)) = &mut self.stream else { return Err(StreamError::Truncated) };
        let mut timer = self.stall_detector.start_timer();
        while bytes.len() < len {
            // Data that is here already needs no timer: most chunks arrive many at a time.
            let chunk = match receiver.take_buffered(len - bytes.len()) {
                Some(chunk) => chunk,
                None => timer.wait(receiver.next_bulk(len - bytes.len())).await?,
            };
            bytes.extend_from_slice(&chunk);
            self.stall_detector.record_progress(chunk.len());
            // After the bytes are here: a bucket in debt delays the next read, and flow control delays the source.
            self.context.apply_rate_limit(chunk.len(), self.stall_detector).await;
        }
        Ok(bytes)
    }

    fn ban_source(&self, about: FileNo, expected: &'static str) -> StreamError {
        // Several streams may find the same lie; it is told once.
        if self.context.plan.lock().ban_source(self.source) {
            self.context.send_event(DownloadEvent::SourceMisbehaved { source: self.source, file: about });
        }
        StreamError::Unexpected(expected)
    }
}

/// Returns the groups that a manifest's header claims to be zeros; `None` if it describes another file.
pub(super) fn manifest_header<'a>(
    answer: &'a PeerReply,
    of: &ContentHash,
    layout: &GroupLayout,
) -> Option<&'a [(u32, u32)]> {
    let PeerReply::Manifest { hash, size, group_size, groups, zeros } = answer else { return None };
    let fits =
        hash == of && (*size, *group_size, *groups) == (layout.size(), layout.group_bytes(), layout.group_count());
    fits.then_some(zeros)
}
