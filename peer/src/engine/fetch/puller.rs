//! One stream of requests to one source: asks ahead, reads the answers in order, hands groups to the writer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::content::Manifest;
use shared::peer::{Answer, Ask, Code, GET_NAMES};
use shared::{ContentHash, Layout, UntrustedText, UserName, ZeroRuns};
use tokio::sync::{Notify, mpsc};

use super::FileNo;
use super::courtesy::Courtesy;
use super::plan::{Plan, SourceNo, Work};
use super::pulse::Pulse;
use super::writer::{Job, Order, WriterHandle};
use crate::engine::rate::Bucket;
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{Priority, Receiver, Sender};

/// Requests asked ahead: what keeps small files from waiting for each other.
const AHEAD_REQUESTS: usize = 64;
/// How often a source that says it is busy is asked again, and after which pause.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// A puller without work looks again after this, for what others have become late with.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The one whose word about names and sizes was taken.
const FIRST_SOURCE: SourceNo = 0;

/// What all pullers share.
#[derive(Debug)]
pub(super) struct Pull {
    /// Whose names the files have.
    pub(super) from: UserName,
    pub(super) plan: Mutex<Plan>,
    /// Told whenever there may be new work.
    pub(super) work: Notify,
    pub(super) orders: Arc<Vec<Order>>,
    pub(super) writer: WriterHandle,
    pub(super) news: mpsc::UnboundedSender<News>,
    pub(super) limit: Option<tokio::sync::Mutex<Bucket>>,
    pub(super) courtesy: Arc<Courtesy>,
}

/// What a puller tells the coordinator.
#[derive(Debug)]
pub(super) enum News {
    /// A file is being asked for, for the first time.
    Asking { file: FileNo },
    /// A source doesn't have the file, or no longer.
    Unavailable { source: SourceNo, file: FileNo, code: Code, message: UntrustedText },
    /// The source said something that can't be true; it is asked no more.
    Lied { source: SourceNo, about: FileNo },
}

impl Pull {
    pub(super) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, file: FileNo) -> Result<&Order, StreamError> {
        self.orders.get(file).ok_or(StreamError::Unexpected("a file that was asked for"))
    }

    pub(super) fn tell(&self, news: News) {
        // Nobody listens when the fetch is over.
        let _ = self.news.send(news);
    }

    async fn pass_limit(&self, bytes: usize, pulse: &Pulse) {
        if let Some(limit) = &self.limit {
            pulse.pass(limit, bytes).await;
        }
        self.courtesy.pass(bytes, pulse).await;
    }
}

/// Pulls until the plan is done. What was asked for and did not come goes back into the plan.
pub(super) async fn pull(pull: Arc<Pull>, link: Link, pulse: Arc<Pulse>, source: SourceNo) -> Result<(), StreamError> {
    let (stream, asked) = (None, VecDeque::new());
    let mut puller = Puller { pull: &pull, link: &link, pulse: &pulse, source, stream, asked, busy: 0 };
    let outcome = puller.run().await;
    puller.give_all_back();
    outcome
}

struct Puller<'a> {
    pull: &'a Pull,
    link: &'a Link,
    pulse: &'a Pulse,
    source: SourceNo,
    /// Without a sender once the source takes no more questions on it.
    stream: Option<(Option<Sender>, Receiver)>,
    /// Work that was asked for and not yet answered, the oldest first; of a run, what is still to come.
    asked: VecDeque<Work>,
    /// How often the source said one after the other that it is busy.
    busy: u32,
}

impl Puller<'_> {
    async fn run(&mut self) -> Result<(), StreamError> {
        loop {
            // Registered before the plan is asked: work that appears in between is not missed.
            let more_work = self.pull.work.notified();
            match self.ask_ahead().await {
                // A stream that takes no more questions says nothing about the file that this one was for; and what it
                // says to earlier ones may be there already.
                Err(StreamError::Reset(_)) if self.stream.is_some() => self.take_back_last(),
                Err(StreamError::Reset(code)) if !self.asked.is_empty() => {
                    if let Some(work) = self.asked.front().cloned() {
                        self.reset(&work, code);
                    }
                    continue;
                }
                asked => asked?,
            }
            if let Some(work) = self.asked.front().cloned() {
                match self.take_answer(&work).await {
                    // The file is the trouble, not the link.
                    Err(StreamError::Reset(code)) => self.reset(&work, code),
                    outcome => outcome?,
                }
            } else if self.pull.plan().is_done() {
                if let Some((Some(sender), _)) = self.stream.take() {
                    sender.finish();
                }
                return Ok(());
            } else {
                let _ = tokio::time::timeout(LOOK_AGAIN, more_work).await;
                if self.link.is_closed() {
                    return Err(StreamError::Link(self.link.closed().await));
                }
            }
        }
    }

    fn give_all_back(&mut self) {
        let mut plan = self.pull.plan();
        for work in self.asked.drain(..).rev() {
            plan.give_back(self.source, &work);
        }
        drop(plan);
        self.pull.work.notify_waiters();
    }

    /// The last question didn't reach the source, which takes no more of them on this stream.
    fn take_back_last(&mut self) {
        if let Some((sender, _)) = &mut self.stream {
            *sender = None;
        }
        if let Some(work) = self.asked.pop_back() {
            self.pull.plan().give_back(self.source, &work);
            self.pull.work.notify_waiters();
        }
    }

    async fn ask_ahead(&mut self) -> Result<(), StreamError> {
        if matches!(self.stream, Some((None, _))) {
            if !self.asked.is_empty() {
                return Ok(());
            }
            self.stream = None;
        }
        if self.asked.len() > AHEAD_REQUESTS / 2 {
            // Many small ones are asked for in batches, which the other side then opens in one go.
            return Ok(());
        }
        let mut ahead: u64 = self.asked.iter().map(|work| self.bytes_of(work)).sum();
        let enough = self.pull.plan().ahead(self.source);
        while self.asked.len() < AHEAD_REQUESTS && (ahead < enough || self.asked.is_empty()) {
            let Some(work) = self.pull.plan().next(self.source, Instant::now()) else { return Ok(()) };
            ahead += self.bytes_of(&work);
            let (file, ask) = match work {
                Work::Manifest(file) => (file, Ask::Manifest { hash: self.pull.order(file)?.stat.hash }),
                Work::Run { file, start, end } => {
                    let stat = &self.pull.order(file)?.stat;
                    // To others it may be a secret.
                    let is_theirs = *self.link.user() == self.pull.from && self.link.knows(GET_NAMES);
                    let name = is_theirs.then(|| stat.name.clone());
                    (file, Ask::Get { hash: stat.hash, ranges: vec![(start, end)], name })
                }
            };
            if matches!(work, Work::Manifest(_) | Work::Run { start: 0, .. }) {
                self.pull.tell(News::Asking { file });
            }
            // In the queue before it is sent: what fails to be sent is given back as well.
            self.asked.push_back(work);
            match &mut self.stream {
                Some((Some(sender), _)) => self.pulse.patience().wait(sender.frame(&ask)).await?,
                _ => {
                    let opened = self.pulse.patience().wait(self.link.open(&ask, Priority::Request)).await;
                    let (sender, receiver) = opened?;
                    self.stream = Some((Some(sender), receiver));
                }
            }
        }
        Ok(())
    }

    fn bytes_of(&self, work: &Work) -> u64 {
        match *work {
            Work::Manifest(_) => 0,
            Work::Run { file, start, end } => {
                self.pull.orders.get(file).map_or(0, |order| order.layout.len_of_range(start, end))
            }
        }
    }

    async fn take_answer(&mut self, work: &Work) -> Result<(), StreamError> {
        let Some((_, receiver)) = &mut self.stream else { return Ok(()) };
        let answer = self.pulse.patience().wait(receiver.answer()).await;
        self.pulse.answered();
        let answer = match answer {
            // It is short of something that others give back soon.
            Err(StreamError::Answered { code: Code::Busy, .. }) if self.busy < BUSY_TRIES => {
                self.busy += 1;
                self.asked.pop_front();
                self.pull.plan().give_back(self.source, work);
                self.pulse.pause(tokio::time::sleep(BUSY_PAUSE)).await;
                return Ok(());
            }
            Err(StreamError::Answered { code, message }) => {
                self.asked.pop_front();
                self.pull.plan().give_back(self.source, work);
                self.unavailable(work, code, message);
                return Ok(());
            }
            answer => answer?,
        };
        self.busy = 0;
        match *work {
            Work::Manifest(file) => self.take_manifest(file, &answer).await,
            Work::Run { file, start, end } => self.take_run(file, start, end, &answer).await,
        }
    }

    /// The source gave up in the middle of an answer: the stream is gone, and that file with it.
    fn reset(&mut self, work: &Work, code: Code) {
        self.stream = None;
        // What is left of the work is in the queue, shorter than it was.
        self.give_all_back();
        let message = match code {
            Code::Internal => "reading it failed in the middle".into(),
            code => format!("the source stopped sending ({code})").into(),
        };
        self.unavailable(work, code, message);
    }

    /// The source doesn't have the file after all.
    fn unavailable(&self, work: &Work, code: Code, message: UntrustedText) {
        let (Work::Manifest(file) | Work::Run { file, .. }) = *work;
        self.pull.plan().unavailable(self.source, file);
        self.pull.work.notify_waiters();
        self.pull.tell(News::Unavailable { source: self.source, file, code, message });
    }

    async fn take_manifest(&mut self, file: FileNo, answer: &Answer) -> Result<(), StreamError> {
        let order = self.pull.order(file)?;
        let layout = order.layout;
        let described = manifest_header(answer, &order.stat.hash, &layout);
        if described.is_none() && self.source != FIRST_SOURCE {
            // It may be the first source that described the file wrongly.
            self.asked.pop_front();
            self.pull.plan().give_back(self.source, &Work::Manifest(file));
            self.unavailable(&Work::Manifest(file), Code::Protocol, "the sources disagree about it".into());
            self.stream = None;
            self.give_all_back();
            return Ok(());
        }
        let mut manifest = None;
        if described.is_some() {
            let len = usize::try_from(layout.groups()).unwrap_or(0) * 32;
            let bytes = self.read(Vec::with_capacity(len), len).await?;
            manifest = Manifest::from_bytes(&layout, &bytes).filter(|manifest| manifest.fold() == order.stat.hash);
        }
        let zeros = described.and_then(|zeros| ZeroRuns::checked(&layout, zeros.to_vec()));
        let (Some(manifest), Some(zeros)) = (manifest, zeros) else {
            return Err(self.distrust(file, "a manifest that fits the file's hash"));
        };
        self.asked.pop_front();
        let first = self.pull.plan().manifest_came(file);
        if first {
            let source = self.source;
            self.pulse.pause(self.pull.writer.send(Job::Open { file, manifest, zeros, source })).await;
        }
        Ok(())
    }

    async fn take_run(&mut self, file: FileNo, start: u32, end: u32, answer: &Answer) -> Result<(), StreamError> {
        let layout = self.pull.order(file)?.layout;
        if *answer != (Answer::Data { bytes: layout.len_of_range(start, end) }) {
            return Err(self.distrust(file, "as many bytes as were asked for"));
        }
        for group in start..end {
            let len = usize::try_from(layout.len_of(group)).unwrap_or(usize::MAX);
            let bytes = self.read(self.pull.writer.buffer(len), len).await?;
            self.pull.plan().delivered(self.source, file, group, Instant::now());
            // From here on the group is the writer's; only the rest of the run could still have to be given back.
            match self.asked.front_mut() {
                Some(Work::Run { start, .. }) if group + 1 < end => *start = group + 1,
                _ => {
                    self.asked.pop_front();
                }
            }
            self.pulse.pause(self.pull.writer.send_group(file, group, bytes, self.source)).await;
        }
        Ok(())
    }

    /// Exactly `len` raw bytes of an answer, put into `bytes`, which is empty.
    async fn read(&mut self, mut bytes: Vec<u8>, len: usize) -> Result<Vec<u8>, StreamError> {
        let Some((_, receiver)) = &mut self.stream else { return Err(StreamError::Truncated) };
        let mut patience = self.pulse.patience();
        while bytes.len() < len {
            // A timer only where there is something to wait for.
            let chunk = match receiver.take_ready(len - bytes.len()) {
                Some(chunk) => chunk,
                None => patience.wait(receiver.bulk(len - bytes.len())).await?,
            };
            bytes.extend_from_slice(&chunk);
            self.pulse.beat(chunk.len());
            self.pull.pass_limit(chunk.len(), self.pulse).await;
        }
        Ok(bytes)
    }

    fn distrust(&self, about: FileNo, expected: &'static str) -> StreamError {
        if self.pull.plan().ban_source(self.source) {
            self.pull.tell(News::Lied { source: self.source, about });
        }
        StreamError::Unexpected(expected)
    }
}

/// The groups that a manifest's header claims to be zeros; `None` unless it describes this file.
fn manifest_header<'a>(answer: &'a Answer, of: &ContentHash, layout: &Layout) -> Option<&'a [(u32, u32)]> {
    let Answer::Manifest { hash, size, group_size, groups, zeros } = answer else { return None };
    let fits = hash == of && (*size, *group_size, *groups) == (layout.size(), layout.group_bytes(), layout.groups());
    fits.then_some(zeros)
}
