//! Lifecycle of the sources of a round: found, lost and redialled, restored, banned; fails the files that have no
//! source left.

use std::time::Instant;

use localization::tr;
use shared::UserName;
use shared::peer::PeerErrorCode;

use super::{FetchSession, SessionAction};
use crate::engine::fetch::plan::SourceNo;
use crate::engine::fetch::report_builder::FailureReason;
use crate::engine::fetch::slowdown_detector::{SlowdownDetector, TrafficSample};
use crate::engine::fetch::sources::SourceFiles;
use crate::engine::fetch::stall_detector::TrafficReading;
use crate::engine::fetch::{FetchEvent, FileNo, SourcePolicy};
use crate::engine::{Error, ErrorKind};
use crate::net::{LinkError, StreamError};

/// Sources that give more answers between two readings send small files: their rate says nothing about the path.
const FEW_ANSWERS: u64 = 3;

/// The state of one source in a round.
#[derive(Debug)]
pub(super) struct SourceState {
    pub(super) user: UserName,
    /// Number of links so far. Results of downloaders of an earlier link are ignored.
    link_generation: u32,
    /// A redial is under way.
    is_reconnecting: bool,
    /// The traffic of its link at the last look.
    reading: TrafficReading,
    slowdown: SlowdownDetector,
    /// It was reported as silent: its link is open, and nothing came.
    is_silent: bool,
    /// The time of its loss, until a verified group comes: one that comes back only to go again isn't back.
    lost_since: Option<Instant>,
    pub(super) is_banned: bool,
}

impl FetchSession<'_> {
    /// Takes a user as a source: a new one, or one that was given up and is found again.
    pub(super) fn handle_found_source(&mut self, user: UserName, files: SourceFiles, now: Instant) {
        let known = self.round.sources.iter().position(|source| source.user == user);
        if let Some(source) = known.and_then(|known| SourceNo::try_from(known).ok()) {
            self.record_files(source, files);
            return self.restore_source(source, now);
        }
        self.report.tell(FetchEvent::SourceJoined { user: &user });
        self.add_source(user, files, now);
    }

    pub(super) fn add_source(&mut self, user: UserName, files: SourceFiles, now: Instant) {
        // Also if the plan refuses it: searches would find and dial it again and again.
        self.actions.push_back(SessionAction::ExcludeUser { user: user.clone() });
        let added = self.round.plan.lock().add_source(|_| false, now);
        match added {
            Some(source) => {
                self.record_files(source, files);
                self.round.sources.push(SourceState::new(user));
                self.start_source(source);
            }
            None => self.actions.push_back(SessionAction::RefuseSource { user }),
        }
    }

    /// Records in the plan the files that a source has. Before its downloaders start: the plan takes a source without a
    /// group set for one that has the whole file.
    fn record_files(&self, source: SourceNo, SourceFiles { files, partial_files }: SourceFiles) {
        let mut plan = self.round.plan.lock();
        let all = 0..self.round.jobs.len();
        all.filter(|file| files.contains(file)).for_each(|file| plan.add_availability(source, file));
        partial_files.into_iter().for_each(|(file, groups)| plan.set_groups(source, file, groups));
    }

    pub(super) fn handle_unavailable_source(&mut self, user: &UserName, is_named: bool, error: Error) {
        let is_other_identity = matches!(error, Error::PeerKeyChanged { .. } | Error::KeyOwnedByOther { .. });
        // Only for a named user: the key decides whether it is the user who was meant. Others are optional.
        if is_named && is_other_identity && !self.round.plan.lock().is_done() {
            self.round.failure.get_or_insert(error);
        } else if is_named || error.kind() == ErrorKind::IdentityChanged {
            self.report.tell(FetchEvent::SourceUnavailable { user, why: &error.to_string() });
        } else {
            tracing::info!("{user} has the same and can't be asked: {error}");
        }
    }

    /// Bans a source: the plan asks it no more, and its link is closed so that nothing else is read.
    pub(super) fn ban_source(&mut self, source: SourceNo, why: &str) {
        let Some(state) = self.round.source_mut(source) else { return };
        let user = state.user.clone();
        // A redial that succeeds after all is refused by `restore_source`.
        state.is_reconnecting = false;
        if !std::mem::replace(&mut state.is_banned, true) {
            self.actions.push_back(SessionAction::CloseLink { source, code: PeerErrorCode::Protocol });
            self.banned_users.push(user.clone());
            self.report.tell(FetchEvent::SourceBanned { user: &user, why });
        }
        self.round.last_failure = Some(FailureReason::of(&Error::Integrity(tr!("{user} {why}", user, why))));
        self.request_search();
        self.round.plan.announce_work();
        self.fail_stranded();
    }

    /// Handles a downloader that failed: closes its link and redials the source if that may help.
    pub(super) fn handle_lost_link(
        &mut self,
        source: SourceNo,
        generation: u32,
        error: StreamError,
        is_link_open: bool,
        now: Instant,
    ) {
        let source_timeout = self.request.source_timeout;
        let Some(state) = self.round.source_mut(source) else { return };
        // All streams of a link fail together: the first failure is handled, the others are echoes.
        if state.link_generation != generation || state.is_reconnecting {
            return;
        }
        // One that is gone would have been noticed by the link itself.
        let silence = match &error {
            StreamError::Timeout(time) if is_link_open => Some(*time),
            _ => None,
        };
        let can_retry = match &error {
            StreamError::Link(error) => is_retryable(error),
            StreamError::Timeout(_) => true,
            _ => false,
        };
        // The timeout runs from the first loss, whatever number of redials succeeded without a delivery.
        let gone_for = now.saturating_duration_since(*state.lost_since.get_or_insert(now));
        let timeout = source_timeout.saturating_sub(gone_for);
        state.is_reconnecting = !state.is_banned && can_retry && !timeout.is_zero();
        let (user, is_reconnecting, is_banned) = (state.user.clone(), state.is_reconnecting, state.is_banned);
        let was_silent = std::mem::replace(&mut state.is_silent, silence.is_some());
        // Its other downloaders must not go on beside those of a new link.
        self.actions.push_back(SessionAction::CloseLink { source, code: PeerErrorCode::Cancelled });
        self.round.plan.lock().lose_source(source);
        let why = error.to_string();
        // The ban is the reason; the closed link is only its consequence.
        if !is_banned {
            self.round.last_failure = Some(FailureReason::of(&Error::stream(&user, error)));
        }
        self.request_search();
        if is_reconnecting {
            match silence {
                Some(time) if !was_silent => self.report.tell(FetchEvent::Silent { user: &user, time }),
                Some(_) => {}
                None => self.report.tell(FetchEvent::SourceLost { user: &user, why: &why }),
            }
            self.actions.push_back(SessionAction::Redial { source, user, timeout });
        }
        self.fail_stranded();
    }

    /// Takes a source back over a new link.
    pub(super) fn restore_source(&mut self, source: SourceNo, now: Instant) {
        let Some(SourceState { user, is_silent, .. }) = self.round.source(source) else { return };
        let (user, is_silent) = (user.clone(), *is_silent);
        if self.round.plan.lock().restore_source(source, now) {
            // One that was silent isn't back before something comes.
            if !is_silent {
                self.report.tell(FetchEvent::SourceReturned { user: &user });
            }
            self.start_source(source);
        } else {
            self.actions.push_back(SessionAction::RefuseSource { user });
            self.fail_stranded();
        }
    }

    /// Gives up a source that didn't answer in time.
    pub(super) fn abandon_source(&mut self, source: SourceNo, error: &Error) {
        let Some(state) = self.round.source_mut(source) else { return };
        // Banned during the redial: searches go on skipping it, and the lie stays the reason.
        if state.is_banned {
            return;
        }
        state.is_reconnecting = false;
        // If the user comes online again, the search treats it like any other.
        let user = state.user.clone();
        self.actions.push_back(SessionAction::ReadmitUser { user });
        self.round.last_failure = Some(FailureReason::of(error));
        self.fail_stranded();
    }

    /// Notes that a verified group came from a source.
    pub(super) fn note_delivery(&mut self, source: SourceNo) {
        let Some(state) = self.round.source_mut(source) else { return };
        state.lost_since = None;
        if std::mem::take(&mut state.is_silent) {
            let user = state.user.clone();
            self.report.tell(FetchEvent::SourceReturned { user: &user });
        }
    }

    /// Compares the rates of the sources with earlier ones, and tells of a source that became slow.
    pub(super) fn look_at_rates(&mut self, readings: &[TrafficReading], now: Instant) {
        let seeks = !matches!(self.request.sources, SourcePolicy::Only(_));
        let mut slow = false;
        // Both are in the order in which the sources were started.
        for (state, reading) in self.round.sources.iter_mut().zip(readings) {
            if state.is_reconnecting || state.is_banned {
                continue;
            }
            let before = std::mem::replace(&mut state.reading, *reading);
            let is_of_large = reading.answers.saturating_sub(before.answers) <= FEW_ANSWERS;
            let waits = reading.waits_since(&before) && is_of_large;
            if let Some(slowdown) = state.slowdown.record(TrafficSample { at: now, bytes: reading.bytes, waits }) {
                self.report.tell(FetchEvent::Slow { user: &state.user, slowdown, seeks });
                slow = true;
            }
        }
        if slow && seeks {
            self.request_search();
        }
    }

    /// Fails the files that no source has: none connected, none being redialled, and no search pending.
    pub(super) fn fail_stranded(&mut self) {
        if self.is_search_pending() {
            return;
        }
        let stranded = self.round.plan.lock().stranded(self.reconnecting_sources());
        for file in stranded {
            self.fail_stranded_file(file);
        }
    }

    /// Fails one file if no source is left for it, as [`Self::fail_stranded`].
    pub(super) fn fail_if_stranded(&mut self, file: FileNo) {
        if !self.is_search_pending() && self.round.plan.lock().is_stranded(file, self.reconnecting_sources()) {
            self.fail_stranded_file(file);
        }
    }

    fn fail_stranded_file(&mut self, file: FileNo) {
        let Some(owner) = self.owner_of(file).cloned() else { return };
        let refusal = self.round.refusals.remove(&file);
        // Bytes in a stream can't be taken back, so only files on disk are fetched again in their new version.
        if let Some(reason) = refusal.clone().filter(|reason| reason.is_content_changed && !self.in_order) {
            return self.put_aside(file, reason);
        }
        if refusal.as_ref().is_some_and(|reason| reason.is_content_changed && reason.kind == ErrorKind::Integrity) {
            let name = self.shown_name(file);
            return self.fail(file, Error::ChangedInStream { user: owner, name });
        }
        let reason = refusal.or_else(|| self.round.last_failure.clone());
        let error = reason.map_or_else(
            || Error::link(&owner, LinkError::Lost(tr!("no source of this file is left"))),
            FailureReason::into_error,
        );
        self.fail(file, error);
    }

    /// Has the downloaders of a source started over its newest link.
    fn start_source(&mut self, source: SourceNo) {
        let Some(state) = self.round.source_mut(source) else { return };
        // Results of downloaders of the previous link, which may still be on their way, don't match from here on.
        state.link_generation += 1;
        state.is_reconnecting = false;
        state.reading = TrafficReading::default();
        state.slowdown.restart();
        let (user, generation) = (state.user.clone(), state.link_generation);
        self.actions.push_back(SessionAction::StartSource { source, user, generation });
    }

    fn request_search(&mut self) {
        self.round.searches_requested += 1;
        self.actions.push_back(SessionAction::Search { requested: self.round.searches_requested });
    }

    /// Tells whether other sources may still be found.
    const fn is_search_pending(&self) -> bool {
        self.round.searches_completed < self.round.searches_requested
    }

    fn reconnecting_sources(&self) -> impl Iterator<Item = SourceNo> {
        (0..).zip(&self.round.sources).filter(|(_, source)| source.is_reconnecting).map(|(no, _)| no)
    }
}

impl SourceState {
    fn new(user: UserName) -> Self {
        Self {
            user,
            link_generation: 0,
            is_reconnecting: false,
            reading: TrafficReading::default(),
            slowdown: SlowdownDetector::default(),
            is_silent: false,
            lost_since: None,
            is_banned: false,
        }
    }
}

/// True if a redial may succeed where this error occurred.
const fn is_retryable(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::NoAnswer { .. } | LinkError::MtuTooSmall(_) | LinkError::Lost(_) | LinkError::Refused { .. }
    )
}
