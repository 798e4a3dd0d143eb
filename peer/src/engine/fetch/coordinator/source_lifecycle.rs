//! Lifecycle of the sources of a round: joined, lost and redialled,
//! restored, banned; fails the files that have no source left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{FEW_ANSWERS, FailureReason, FetchEventHandler, FetchRound, RoundEnd, SourceState};
use crate::engine::fetch::downloader::download;
use crate::engine::fetch::group_availability::watch_availability;
use crate::engine::fetch::plan::SourceNo;
use crate::engine::fetch::slowdown::{Look, SlowdownDetector};
use crate::engine::fetch::source_dialer::{ConnectedSource, is_retryable};
use crate::engine::fetch::source_finder::{SearchEvent, SourceFinder};
use crate::engine::fetch::stall_detector::{PulseReading, StallDetector};
use crate::engine::fetch::{FetchEvent, FileNo, SourcePolicy};
use crate::engine::{Error, ErrorKind};
use crate::net::link::Link;
use crate::net::{LinkError, StreamError};
use shared::peer::PeerErrorCode;

/// The longest wait for named sources after all files are settled.
const NAMED_SOURCE_TIMEOUT: Duration = Duration::from_secs(3);

impl FetchRound<'_> {
    /// Builds the task that looks for other sources.
    pub(super) fn source_finder(&self, told: mpsc::UnboundedSender<SearchEvent>) -> SourceFinder {
        SourceFinder {
            dialer: self.dialer.clone(),
            context: self.context.clone(),
            policy: self.request.sources.clone(),
            excluded_users: self.excluded_users.clone(),
            searches_requested: self.searches_requested.subscribe(),
            events: told,
        }
    }

    /// Handles an event of the source finder; returns the end of the round if the event ends it.
    pub(super) async fn handle_search_event(
        &mut self,
        search_event: SearchEvent,
        report: FetchEventHandler<'_>,
    ) -> Option<RoundEnd> {
        match search_event {
            SearchEvent::Found(found) => {
                if !self.readmit_source(&found, report).await {
                    report(FetchEvent::SourceJoined { user: found.link.user() });
                    self.add_source(&found);
                }
            }
            // Only for a named user: the key decides whether it is
            // the user who was meant. Others are optional.
            SearchEvent::Unavailable {
                is_named: true,
                error: error @ (Error::PeerKeyChanged { .. } | Error::KeyOwnedByOther { .. }),
                ..
            } => {
                return Some(RoundEnd::IdentityChanged(error));
            }
            SearchEvent::Unavailable { user, is_named: named, error } => {
                if named || error.kind() == ErrorKind::IdentityChanged {
                    report(FetchEvent::SourceUnavailable { user: &user, why: &error.to_string() });
                } else {
                    tracing::info!("{user} has the same and can't be asked: {error}");
                }
            }
            SearchEvent::Completed(times) => {
                self.searches_completed = times;
                self.fail_stranded(report).await;
            }
        }
        None
    }

    /// Waits a little for the outcome of the named users, so that an unreachable one is reported even if other sources
    /// had everything quickly.
    pub(super) async fn await_named_sources(
        &mut self,
        mut others: mpsc::UnboundedReceiver<SearchEvent>,
        report: FetchEventHandler<'_>,
        cancel: &CancellationToken,
    ) {
        let names_some = !matches!(self.request.sources, SourcePolicy::Everybody);
        let hearing = async {
            while names_some && self.searches_completed == 0 {
                match others.recv().await {
                    Some(SearchEvent::Unavailable { user, is_named: true, error }) => {
                        report(FetchEvent::SourceUnavailable { user: &user, why: &error.to_string() });
                    }
                    Some(SearchEvent::Completed(times)) => self.searches_completed = times,
                    Some(SearchEvent::Found(_) | SearchEvent::Unavailable { .. }) => {}
                    None => return,
                }
            }
        };
        tokio::select! {
            () = hearing => {}
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(NAMED_SOURCE_TIMEOUT) => {}
        }
    }

    /// Restores a source that was given up and is found again; false for a user who is no source yet.
    async fn readmit_source(&mut self, found: &ConnectedSource, report: FetchEventHandler<'_>) -> bool {
        let known = self.sources.iter().position(|source| source.user == *found.link.user());
        let Some(source) = known.and_then(|known| SourceNo::try_from(known).ok()) else { return false };
        for file in &found.files {
            self.context.plan().add_availability(source, *file);
        }
        self.restore_source(source, &found.link, report).await;
        true
    }

    /// Adds a source and starts its downloaders.
    pub(super) fn add_source(&mut self, found: &ConnectedSource) {
        self.excluded_users.add(found.link.user().clone());
        let added = self.context.plan().add_source(|file| found.files.contains(&file), Instant::now());
        let Some(source) = added else { return };
        let user = found.link.user().clone();
        self.sources.push(SourceState {
            user,
            link: found.link.clone(),
            link_generation: 0,
            is_reconnecting: false,
            pulse: Arc::default(),
            reading: PulseReading::default(),
            slowdown: SlowdownDetector::default(),
            silent: false,
            lost_since: None,
            is_banned: false,
        });
        // Before the downloaders start: the plan takes a source
        // without a group set for one that has the whole file.
        for (file, groups) in &found.partial_files {
            self.context.plan().set_groups(source, *file, groups.clone());
        }
        self.start_downloaders(source, &found.link);
    }

    pub(super) fn start_downloaders(&mut self, source: SourceNo, link: &Link) {
        let Some(state) = self.source_mut(source) else { return };
        // Results of downloaders of the previous link, which may
        // still be on their way, don't match from here on.
        state.link_generation += 1;
        state.link = link.clone();
        state.is_reconnecting = false;
        // One detector for all streams of a link: they share its queues, so silence is judged per link.
        let (link_no, detector) = (state.link_generation, Arc::new(StallDetector::default()));
        (state.pulse, state.reading) = (detector.clone(), PulseReading::default());
        state.slowdown.begin_again();
        for _ in 0..self.streams_per_source {
            let (shared, link, detector) = (self.context.clone(), link.clone(), detector.clone());
            self.downloaders.spawn(async move { (source, link_no, download(shared, link, detector, source).await) });
        }
        let partly = self.context.plan().partial_files(source);
        if !partly.is_empty() {
            self.availability_watches.spawn(watch_availability(
                self.context.clone(),
                link.clone(),
                source,
                partly,
                self.request.source_timeout,
            ));
        }
    }

    /// Bans a source: the plan asks it no more, and its link is closed so that nothing else is read.
    pub(super) async fn ban_source(&mut self, source: SourceNo, why: &str, report: FetchEventHandler<'_>) {
        let Some(state) = self.source_mut(source) else { return };
        let user = state.user.clone();
        state.is_reconnecting = false;
        if !std::mem::replace(&mut state.is_banned, true) {
            state.link.close(PeerErrorCode::Protocol);
            self.banned_users.push(user.clone());
            report(FetchEvent::SourceBanned { user: &user, why });
        }
        self.last_failure = Some(FailureReason::of(&Error::Integrity(format!("{user} {why}"))));
        self.searches_requested.send_modify(|times| *times += 1);
        self.context.work_available.notify_waiters();
        self.fail_stranded(report).await;
    }

    /// Handles a downloader that failed: closes its link and redials the source if that may help.
    pub(super) async fn handle_lost_link(
        &mut self,
        source: SourceNo,
        link_no: u32,
        error: StreamError,
        report: FetchEventHandler<'_>,
    ) {
        let all_patience = self.request.source_timeout;
        let Some(state) = self.source_mut(source) else { return };
        // All streams of a link fail together: the first failure is handled, the others are echoes.
        if state.link_generation != link_no || state.is_reconnecting {
            return;
        }
        // One that is gone would have been noticed by the link itself.
        let silence = match &error {
            StreamError::Timeout(time) if !state.link.is_closed() => Some(*time),
            _ => None,
        };
        // Its other pullers must not go on beside those of a new link.
        state.link.close(PeerErrorCode::Cancelled);
        let user = state.user.clone();
        let comes_back = match &error {
            StreamError::Link(error) => is_retryable(error),
            StreamError::Timeout(_) => true,
            _ => false,
        };
        // The timeout runs from the first loss, whatever number of redials succeeded without a delivery.
        let gone_for = state.lost_since.get_or_insert_with(Instant::now).elapsed();
        let timeout = all_patience.saturating_sub(gone_for);
        state.is_reconnecting = !state.is_banned && comes_back && !timeout.is_zero();
        let (coming, banned) = (state.is_reconnecting, state.is_banned);
        let is_silent = std::mem::replace(&mut state.silent, silence.is_some());
        self.context.plan().lose_source(source);
        let why = error.to_string();
        // The ban is the reason; the closed link is only its consequence.
        if !banned {
            self.last_failure = Some(FailureReason::of(&Error::stream(&user, error)));
        }
        self.searches_requested.send_modify(|times| *times += 1);
        if coming {
            match silence {
                Some(time) if !is_silent => report(FetchEvent::Silent { user: &user, time }),
                Some(_) => {}
                None => report(FetchEvent::SourceLost { user: &user, why: &why }),
            }
            let dialer = self.dialer.clone();
            self.redials.spawn(async move { (source, dialer.reconnect(&user, timeout).await) });
        }
        self.fail_stranded(report).await;
    }

    pub(super) async fn restore_source(&mut self, source: SourceNo, link: &Link, report: FetchEventHandler<'_>) {
        if self.context.plan().restore_source(source, Instant::now()) {
            // One that was silent isn't back before something comes.
            if self.source_mut(source).is_some_and(|state| !state.silent) {
                report(FetchEvent::SourceReturned { user: link.user() });
            }
            self.start_downloaders(source, link);
        } else {
            link.close(PeerErrorCode::Cancelled);
            self.fail_stranded(report).await;
        }
    }

    pub(super) async fn abandon_source(&mut self, source: SourceNo, error: &Error, report: FetchEventHandler<'_>) {
        let Some(state) = self.source_mut(source) else { return };
        state.is_reconnecting = false;
        let user = state.user.clone();
        // If the user comes online again, the source finder treats it like any other.
        self.excluded_users.remove(&user);
        self.last_failure = Some(FailureReason::of(error));
        self.fail_stranded(report).await;
    }

    /// Looks how fast the sources are, and tells of one that became slow.
    pub(super) fn look_at_rates(&mut self, report: FetchEventHandler<'_>) {
        let seeks = !matches!(self.request.sources, SourcePolicy::Only(_));
        for state in self.sources.iter_mut().filter(|state| !state.is_reconnecting && !state.is_banned) {
            let (reading, before) = (state.pulse.read(), state.reading);
            state.reading = reading;
            let is_of_large = reading.answers.saturating_sub(before.answers) <= FEW_ANSWERS;
            let waits = reading.waits_since(&before) && is_of_large;
            let look = Look { at: Instant::now(), bytes: reading.bytes, waits };
            if let Some(slowdown) = state.slowdown.take(look) {
                report(FetchEvent::Slow { user: &state.user, slowdown, seeks });
                if seeks {
                    self.searches_requested.send_modify(|times| *times += 1);
                }
            }
        }
    }

    /// Whether others may still be found.
    fn is_search_pending(&self) -> bool {
        self.searches_completed < *self.searches_requested.borrow()
    }

    /// Fails the files that no source has: none connected, none being redialled, and no search pending.
    pub(super) async fn fail_stranded(&mut self, report: FetchEventHandler<'_>) {
        if self.is_search_pending() {
            return;
        }
        let stranded = self.context.plan().stranded(self.reconnecting_sources());
        for file in stranded {
            self.fail_stranded_file(file, report).await;
        }
    }

    /// Fails one file if no source is left for it, as [`Self::fail_stranded`].
    pub(super) async fn fail_if_stranded(&mut self, file: FileNo, report: FetchEventHandler<'_>) {
        let stranded = !self.is_search_pending() && self.context.plan().is_stranded(file, self.reconnecting_sources());
        if stranded {
            self.fail_stranded_file(file, report).await;
        }
    }

    async fn fail_stranded_file(&mut self, file: FileNo, report: FetchEventHandler<'_>) {
        let refusal = self.refusals.remove(&file);
        // Bytes in a stream can't be taken back, so only files on
        // disk are fetched again in their new version.
        if let Some(trouble) = refusal.clone().filter(|trouble| trouble.is_content_changed && !self.in_order) {
            return self.defer_changed_file(file, trouble, report).await;
        }
        if refusal.as_ref().is_some_and(|trouble| trouble.is_content_changed && trouble.kind == ErrorKind::Integrity) {
            let (name, user) = (self.shown_name(file), self.request.from.clone());
            let error = Error::ChangedInStream { user, name };
            return self.fail(file, error, report).await;
        }
        let trouble = refusal.or_else(|| self.last_failure.clone());
        let error = trouble.map_or_else(
            || Error::link(&self.request.from, LinkError::Lost("no source of this file is left".to_owned())),
            FailureReason::into_error,
        );
        self.fail(file, error, report).await;
    }

    fn reconnecting_sources(&self) -> impl Iterator<Item = SourceNo> {
        (0..).zip(&self.sources).filter(|(_, source)| source.is_reconnecting).map(|(no, _)| no)
    }

    pub(super) fn source_mut(&mut self, source: SourceNo) -> Option<&mut SourceState> {
        usize::try_from(source).ok().and_then(|index| self.sources.get_mut(index))
    }
}
