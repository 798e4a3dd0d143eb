//! Lifecycle of the files of a round: started, verified, settled, and put aside when they changed at their source.

use localization::tr;
use shared::names::name_encoding;
use shared::peer::PeerErrorCode;
use shared::{UntrustedText, UserName};

use super::source_lifecycle::SourceState;
use super::{ChangedFile, FetchSession, RoundState, SessionAction};
use crate::engine::Error;
use crate::engine::fetch::downloader::DownloadEvent;
use crate::engine::fetch::plan::SourceNo;
use crate::engine::fetch::report_builder::FailureReason;
use crate::engine::fetch::writer::{EarlierRounds, FileJob, WriterEvent};
use crate::engine::fetch::{FetchEvent, FileNo, FileOutcome, SourceReport};
use crate::net::StreamError;

/// Stands for the copied file wherever a source is named.
pub(in crate::engine::fetch) const LOCAL_SOURCE: SourceNo = SourceNo::MAX;

/// The progress of one file in one round.
#[derive(Debug, Default, Clone)]
pub(super) struct FileProgress {
    is_started: bool,
    /// Bytes told to the display: resumed, fetched, copied from another file, and zeros.
    shown: u64,
    fetched: u64,
    resumed: u64,
    /// Verified bytes by source.
    by_source: Vec<(SourceNo, u64)>,
}

impl FetchSession<'_> {
    pub(super) fn handle_download_event(&mut self, event: DownloadEvent) {
        match event {
            DownloadEvent::FileRequested { file } => {
                // A file of several groups counts as started when its partial
                // is open: only then its resumed bytes are known.
                if self.is_single_group(file) {
                    self.report_started(file, 0);
                }
            }
            DownloadEvent::FileUnavailable { source, file, code, message } => {
                let is_content_changed = matches!(code, PeerErrorCode::Stale | PeerErrorCode::NotFound);
                let error = self.unavailable_error(source, file, code, message);
                let mut reason = FailureReason::of(&error);
                reason.is_content_changed = is_content_changed;
                // A change is the most useful reason: it leads to a new round instead of a failure.
                if !self.round.refusals.get(&file).is_some_and(|earlier| earlier.is_content_changed) {
                    self.round.refusals.insert(file, reason);
                }
                self.fail_if_stranded(file);
            }
            DownloadEvent::SourceMisbehaved { source, file } => {
                let why = tr!("sent something about {name} that can't be true", name = self.shown_name(file));
                self.ban_source(source, &why);
            }
        }
    }

    pub(super) fn handle_writer_event(&mut self, event: WriterEvent) {
        match event {
            WriterEvent::BytesRehashed { file, bytes } => {
                if let Some(FileJob { stat, reported_no, .. }) = self.round.jobs.get(file) {
                    let (name, size) = (&stat.name, stat.size);
                    self.report.tell(FetchEvent::Checking { file: Some(*reported_no), name, size, bytes });
                }
            }
            WriterEvent::FileOpened { file, present, bytes, partial_path } => {
                self.round.plan.lock().file_opened(file, &present);
                self.round.plan.announce_work();
                if let Some(partial_path) = &partial_path
                    && let Some(FileJob { stat, target: Some(target), reported_no, .. }) = self.round.jobs.get(file)
                {
                    let name = &target.name();
                    self.report.tell(FetchEvent::Opened { file: *reported_no, stat, name, partial_path });
                }
                if let Some(progress) = self.round.progress.get_mut(file) {
                    progress.resumed = bytes;
                }
                self.report_started(file, bytes);
            }
            WriterEvent::GroupVerified { file, bytes, source } => {
                // A copy costs no network bytes, so it counts for the display but not in the report.
                if source != LOCAL_SOURCE {
                    self.note_delivery(source);
                    self.round.add_progress(file, bytes, source);
                }
                self.report_verified(file, bytes);
            }
            WriterEvent::ZerosVerified { file, bytes } => self.report_verified(file, bytes),
            WriterEvent::AwaitingReader { path } => self.report.tell(FetchEvent::AwaitingReader { path: &path }),
            // A local file that changes under the copy is an error of this file, not a lie of a source.
            WriterEvent::GroupCorrupt { file, source: LOCAL_SOURCE, .. } => {
                let name = self.shown_name(file);
                let error = Error::Integrity(tr!("{name} changed here while it was copied", name));
                self.fail(file, error);
            }
            WriterEvent::GroupCorrupt { file, group, source } => {
                let name = self.shown_name(file);
                {
                    // One lock for both: between them, a downloader could ask the same source for the group again.
                    let mut plan = self.round.plan.lock();
                    plan.group_corrupt(file, group);
                    plan.ban_source(source);
                }
                let why = tr!("sent data for {name} (group {group}) that doesn't match its hash", name, group);
                self.ban_source(source, &why);
            }
            // A file that was settled otherwise meanwhile, such as a failed one, is not reported twice.
            WriterEvent::FileFinished { file, .. } if self.is_settled(file) => {}
            WriterEvent::FileFinished { file, outcome } => self.settle(file, outcome),
            WriterEvent::FileFailed { file, error } => self.fail(file, error),
        }
    }

    /// Takes an event that the writer sent while it ended: files that were placed then are not aborted.
    pub(super) fn drain_writer_event(&mut self, event: WriterEvent) {
        match event {
            WriterEvent::GroupVerified { source: LOCAL_SOURCE, .. } => {}
            WriterEvent::GroupVerified { file, bytes, source } => self.round.add_progress(file, bytes, source),
            WriterEvent::FileOpened { file, bytes, .. } => {
                if let Some(progress) = self.round.progress.get_mut(file) {
                    progress.resumed = bytes;
                }
            }
            WriterEvent::FileFinished { file, .. } | WriterEvent::FileFailed { file, .. } if self.is_settled(file) => {}
            WriterEvent::FileFinished { file, outcome } => self.settle(file, outcome),
            // Reported once, as the error of the fetch.
            WriterEvent::FileFailed { file, error } if error.is_disk_full() => {
                self.settle(file, FileOutcome::Aborted(error));
            }
            WriterEvent::FileFailed { file, error } => self.settle(file, FileOutcome::Failed(error)),
            WriterEvent::GroupCorrupt { .. }
            | WriterEvent::BytesRehashed { .. }
            | WriterEvent::ZerosVerified { .. }
            | WriterEvent::AwaitingReader { .. } => {}
        }
    }

    pub(super) fn fail(&mut self, file: FileNo, error: Error) {
        if self.is_settled(file) {
            return;
        }
        // Every other file would fail alike: the round ends once, with one error, instead of once per file.
        if error.is_disk_full() {
            self.round.failure.get_or_insert(error);
            return;
        }
        self.actions.push_back(SessionAction::AbandonFile { file });
        self.settle(file, FileOutcome::Failed(error));
    }

    /// Puts a file that changed at the source aside for the next round.
    pub(super) fn put_aside(&mut self, file: FileNo, reason: FailureReason) {
        let Some(mut job) = self.round.jobs.get(file).cloned() else { return };
        self.actions.push_back(SessionAction::AbandonFile { file });
        // The numbering of sources ends with the round, so their bytes are kept by user name.
        job.earlier_rounds = self.rounds_so_far(file);
        let FileProgress { shown, .. } = self.close_file(file);
        // Those that wait for its content go on without it: the next round may bring another one.
        self.start_copies(file, None);
        self.report.tell(FetchEvent::Paused { file: job.reported_no, bytes: shown });
        self.round.changed_files.push(ChangedFile { job, reason });
    }

    pub(super) fn settle(&mut self, file: FileNo, outcome: FileOutcome) {
        // Read before the file is closed, which takes its progress.
        let so_far = self.rounds_so_far(file);
        let progress = self.close_file(file);
        // While draining, no task is left that could copy.
        if !self.round.is_draining {
            let path = match &outcome {
                FileOutcome::Done(path) | FileOutcome::Renamed(path) => Some(path.clone()),
                _ => None,
            };
            self.start_copies(file, path.as_deref());
        }
        if let Some(job) = self.round.jobs.get(file) {
            let resumed = so_far.resumed.or(Some(progress.resumed));
            self.report.settle_job(job, EarlierRounds { resumed, ..so_far }, outcome);
        }
    }

    /// Settles a file in the plan and takes its progress.
    fn close_file(&mut self, file: FileNo) -> FileProgress {
        self.round.plan.lock().settle(file);
        self.round.plan.announce_work();
        self.round.progress.get_mut(file).map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn is_settled(&self, file: FileNo) -> bool {
        self.round.plan.lock().is_settled(file)
    }

    pub(super) fn is_single_group(&self, file: FileNo) -> bool {
        self.round.jobs.get(file).is_some_and(|job| job.layout.group_count() == 1)
    }

    pub(super) fn report_started(&mut self, file: FileNo, resumed: u64) {
        let (Some(progress), Some(job)) = (self.round.progress.get_mut(file), self.round.jobs.get(file)) else {
            return;
        };
        if !std::mem::replace(&mut progress.is_started, true) {
            progress.shown += resumed;
            let (file, owner, name, size) = (job.reported_no, &job.owner, &job.stat.name, job.layout.size());
            self.report.tell(FetchEvent::Started { file, owner, name, size, resumed });
        }
    }

    fn report_verified(&mut self, file: FileNo, bytes: u64) {
        if let Some(progress) = self.round.progress.get_mut(file) {
            progress.shown = progress.shown.saturating_add(bytes);
        }
        let file = self.round.jobs.get(file).map_or(file, |job| job.reported_no);
        self.report.tell(FetchEvent::Verified { file, bytes });
    }

    /// Sums up the bytes and sources of a file over this round and earlier ones.
    fn rounds_so_far(&self, file: FileNo) -> EarlierRounds {
        let Some(progress) = self.round.progress.get(file) else { return EarlierRounds::default() };
        let earlier = self.round.jobs.get(file).map(|job| job.earlier_rounds.clone()).unwrap_or_default();
        let mut sources = earlier.sources;
        for (no, bytes) in &progress.by_source {
            let Some(SourceState { user, is_banned, .. }) = self.round.source(*no) else { continue };
            let (user, banned) = (user.clone(), *is_banned);
            match sources.iter_mut().find(|known| known.user == user) {
                Some(known) => *known = SourceReport { user, bytes: known.bytes.saturating_add(*bytes), banned },
                None => sources.push(SourceReport { user, bytes: *bytes, banned }),
            }
        }
        // Every report names the banned sources, also those that sent nothing of this file.
        for SourceState { user, is_banned, .. } in &self.round.sources {
            if *is_banned && !sources.iter().any(|known| known.user == *user) {
                sources.push(SourceReport { user: user.clone(), bytes: 0, banned: true });
            }
        }
        // Bytes present at the start of a later round came in an earlier one: the first round's count stays.
        let resumed = earlier.resumed.or(progress.is_started.then_some(progress.resumed));
        EarlierRounds { fetched: earlier.fetched.saturating_add(progress.fetched), resumed, sources }
    }

    fn unavailable_error(&self, source: SourceNo, file: FileNo, code: PeerErrorCode, why: UntrustedText) -> Error {
        let Some(owner) = self.owner_of(file).cloned() else {
            return Error::Internal("a source refused what it was not asked for".to_owned());
        };
        let user = self.round.source(source).map_or_else(|| owner.clone(), |source| source.user.clone());
        let name = self.shown_name(file);
        match code {
            PeerErrorCode::NotFound => Error::NotShared { user: owner, name },
            PeerErrorCode::Stale => Error::Stale { user, name, why },
            PeerErrorCode::Internal => Error::Unreadable { user, name, why },
            code => Error::stream(&user, StreamError::Refused { code, message: why }),
        }
    }

    /// Returns the user under whose name a file is shared.
    pub(super) fn owner_of(&self, file: FileNo) -> Option<&UserName> {
        self.round.jobs.get(file).map(|job| &job.owner)
    }

    pub(super) fn shown_name(&self, file: FileNo) -> String {
        let job = self.round.jobs.get(file);
        job.map(|job| name_encoding::display_name(job.stat.name.as_str()).into_owned()).unwrap_or_default()
    }
}

impl RoundState {
    fn add_progress(&mut self, file: FileNo, bytes: u64, source: SourceNo) {
        let Some(progress) = self.progress.get_mut(file) else { return };
        progress.fetched += bytes;
        match progress.by_source.iter_mut().find(|(by, _)| *by == source) {
            Some((_, sum)) => *sum += bytes,
            None => progress.by_source.push((source, bytes)),
        }
    }
}
