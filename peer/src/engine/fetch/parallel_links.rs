//! Further links to the sources of a round, each with a thread of its own for its packets and its streams.
//!
//! The session knows nothing of them: a source is one source, whatever the number of its links. Its first link, the one of
//! the session, stays what counts; when it ends, the further ones end with it. While people chat there is none, since bulk
//! data gets what is left over then.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | further links of a fetch, each with a thread and a socket | `MAX_FURTHER_LINKS` | no more are opened |

mod further_link;
mod link_scaler;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::peer::PeerErrorCode;
use tokio::task::{JoinError, JoinSet};

use self::further_link::FurtherLink;
use self::link_scaler::{LinkScaler, ScalingStep};
use super::FetchRequest;
use super::downloader::{DownloadContext, download};
use super::plan::SourceNo;
use super::stall_detector::StallDetector;
use crate::engine::{Error, LocalUser};
use crate::net::link::Link;
use crate::net::{StreamError, threads_for_this_machine};

/// The pause between two looks at how fast the sources are.
pub(super) const SCALING_INTERVAL: Duration = Duration::from_millis(100);
const MAX_FURTHER_LINKS: usize = 16;

/// The further links of all sources of a round.
#[derive(Debug)]
pub(super) struct ParallelLinks {
    local_user: LocalUser,
    most_per_source: usize,
    is_fixed: bool,
    streams: usize,
    sources: BTreeMap<SourceNo, ScaledSource>,
    /// Links that were closed, until their downloaders have given their work back.
    closing: Vec<RunningLink>,
    dials: JoinSet<DialEnd>,
    downloaders: JoinSet<(LinkId, Result<(), StreamError>)>,
    /// Links without downloaders, until the other side can know that they are closed.
    endings: JoinSet<()>,
    last_id: LinkId,
}

/// The end of a dial: the source, its first link then, and the further one.
type DialEnd = (SourceNo, Link, Result<FurtherLink, Error>);

/// The number of a further link, in the order in which they were opened.
type LinkId = u64;

#[derive(Debug)]
struct ScaledSource {
    first: Link,
    first_detector: Arc<StallDetector>,
    scaler: LinkScaler,
    further: Vec<RunningLink>,
    /// Bytes that came over further links which are gone.
    bytes_of_closed: u64,
}

/// A further link and its downloaders.
#[derive(Debug)]
struct RunningLink {
    id: LinkId,
    link: FurtherLink,
    detector: Arc<StallDetector>,
    downloaders: usize,
}

impl ParallelLinks {
    /// Returns the links of a fetch without a source, each of which gets `streams` streams.
    pub(super) fn new(me: &LocalUser, request: &FetchRequest, streams: usize) -> Self {
        // What comes in order waits for its turn in memory, from however many links it came.
        let is_one_enough = request.destination.is_stream() || request.limit.is_some();
        let by_machine = || if is_one_enough { 1 } else { threads_for_this_machine() };
        Self {
            local_user: me.clone(),
            most_per_source: request.connections.unwrap_or_else(by_machine),
            is_fixed: request.connections.is_some(),
            streams,
            sources: BTreeMap::new(),
            closing: Vec::new(),
            dials: JoinSet::new(),
            downloaders: JoinSet::new(),
            endings: JoinSet::new(),
            last_id: 0,
        }
    }

    /// True if a source may get further links.
    pub(super) const fn is_enabled(&self) -> bool {
        self.most_per_source > 1
    }

    /// Begins anew with a source whose first link this is from now on.
    pub(super) fn start_source(&mut self, source: SourceNo, first: Link, first_detector: Arc<StallDetector>) {
        self.end_source(source);
        if self.is_enabled() {
            let scaler = LinkScaler::new(self.most_per_source, self.is_fixed);
            let (further, bytes_of_closed) = (Vec::new(), 0);
            self.sources.insert(source, ScaledSource { first, first_detector, scaler, further, bytes_of_closed });
        }
    }

    /// Closes the further links of a source whose first one ends.
    pub(super) fn end_source(&mut self, source: SourceNo) {
        if let Some(mut source) = self.sources.remove(&source) {
            source.close_all(&mut self.closing);
        }
    }

    /// Looks at the rates: opens further links and closes those that didn't pay.
    pub(super) fn look(&mut self, is_chat_active: bool, now: Instant) {
        let mut count = self.closing.len() + self.dials.len();
        count += self.sources.values().map(|source| source.further.len()).sum::<usize>();
        for (no, source) in &mut self.sources {
            if is_chat_active {
                source.close_all(&mut self.closing);
                source.scaler = LinkScaler::new(self.most_per_source, self.is_fixed);
                continue;
            }
            match source.scaler.record(source.bytes(), now) {
                Some(ScalingStep::Open) if count < MAX_FURTHER_LINKS => {
                    count += 1;
                    let (no, me, first) = (*no, self.local_user.clone(), source.first.clone());
                    self.dials.spawn(async move {
                        let dialled = FurtherLink::dial(&me, &first).await;
                        (no, first, dialled)
                    });
                }
                Some(ScalingStep::Open) => source.scaler.give_up(),
                Some(ScalingStep::Close) => source.close_newest(&mut self.closing),
                None => {}
            }
        }
    }

    /// Waits for the end of the next task of these links, and takes it into account; returns `None` if there is none. Fails
    /// if the task has panicked.
    pub(super) async fn handle_next(&mut self, context: &Arc<DownloadContext>) -> Option<Result<(), JoinError>> {
        Some(tokio::select! {
            Some(dialled) = self.dials.join_next() => dialled.map(|ended| self.end_dial(ended, context)),
            Some(ended) = self.downloaders.join_next() => ended.map(|(id, ended)| self.end_downloader(id, ended)),
            Some(ended) = self.endings.join_next() => ended,
            else => return None,
        })
    }

    /// Ends all links with `code`, when their downloaders needn't give any work back.
    pub(super) async fn shut_down(mut self, code: PeerErrorCode) {
        self.dials.shutdown().await;
        self.downloaders.shutdown().await;
        let further = self.sources.into_values().flat_map(|source| source.further);
        for RunningLink { link, .. } in self.closing.into_iter().chain(further) {
            self.endings.spawn(link.close(code));
        }
        while self.endings.join_next().await.is_some() {}
    }

    fn end_dial(&mut self, ended: DialEnd, context: &Arc<DownloadContext>) {
        let (source, first, dialled) = ended;
        // A source that was lost and came back during the dial has another first link.
        let state = self.sources.get_mut(&source).filter(|state| state.first.is_same(&first));
        match (dialled, state) {
            (Ok(link), Some(state)) => {
                self.last_id += 1;
                let (id, detector) = (self.last_id, Arc::<StallDetector>::default());
                tracing::debug!("further link {id} to {}", first.user());
                for _ in 0..self.streams {
                    let (context, link_of, detector) = (context.clone(), link.link().clone(), detector.clone());
                    let downloads = async move { (id, download(context, link_of, detector, source).await) };
                    self.downloaders.spawn_on(downloads, link.thread());
                }
                state.further.push(RunningLink { id, link, detector, downloaders: self.streams });
                state.scaler.link_opened();
            }
            (Ok(link), None) => drop(self.endings.spawn(link.close(PeerErrorCode::Cancelled))),
            (Err(error), state) => {
                tracing::debug!("no further link to {}: {error}", first.user());
                state.into_iter().for_each(|state| state.scaler.give_up());
            }
        }
    }

    fn end_downloader(&mut self, id: LinkId, ended: Result<(), StreamError>) {
        if let Err(error) = ended {
            tracing::debug!("a downloader of further link {id} has ended: {error}");
            // The source itself is judged by its first link.
            for source in self.sources.values_mut() {
                source.give_up_link(id, &mut self.closing);
            }
        }
        let further = self.sources.values_mut().flat_map(|source| &mut source.further);
        for link in further.chain(&mut self.closing).filter(|link| link.id == id) {
            link.downloaders -= 1;
        }
        // Not before: with the thread, a downloader would end that still has to give its work back.
        for RunningLink { link, .. } in self.closing.extract_if(.., |link| link.downloaders == 0) {
            self.endings.spawn(link.close(PeerErrorCode::Cancelled));
        }
    }
}

impl ScaledSource {
    fn bytes(&self) -> u64 {
        let further: u64 = self.further.iter().map(|link| link.detector.read().bytes).sum();
        self.first_detector.read().bytes + self.bytes_of_closed + further
    }

    fn close_all(&mut self, closing: &mut Vec<RunningLink>) {
        while !self.further.is_empty() {
            self.close_newest(closing);
        }
    }

    /// Closes the newest further link, if there is one.
    fn close_newest(&mut self, closing: &mut Vec<RunningLink>) {
        let Some(newest) = self.further.pop() else { return };
        self.bytes_of_closed += newest.detector.read().bytes;
        // Its downloaders find it closed, and give back what they were asked to get.
        newest.link.link().close(PeerErrorCode::Cancelled);
        closing.push(newest);
    }

    fn give_up_link(&mut self, id: LinkId, closing: &mut Vec<RunningLink>) {
        if let Some(index) = self.further.iter().position(|link| link.id == id) {
            let last = self.further.len() - 1;
            self.further.swap(index, last);
            self.close_newest(closing);
            self.scaler.give_up();
        }
    }
}
