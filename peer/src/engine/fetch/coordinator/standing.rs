//! Where the sources stand: joined, lost and called again, back, banned; and what is given up for want of any.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Ending, FEW_ANSWERS, Reporter, Running, Source, Trouble};
use crate::engine::fetch::parts::watch;
use crate::engine::fetch::plan::SourceNo;
use crate::engine::fetch::puller::pull;
use crate::engine::fetch::pulse::{Pulse, PulseReading};
use crate::engine::fetch::seeker::{Seeker, Sought};
use crate::engine::fetch::slowdown::{Look, SlowdownDetector};
use crate::engine::fetch::sources::{Found, may_come_back};
use crate::engine::fetch::{FetchEvent, FileNo, Sources};
use crate::engine::{Error, ErrorKind};
use crate::net::link::Link;
use crate::net::{LinkError, StreamError};
use shared::peer::Code;

/// For word of somebody who was named, when nothing is missing any more.
const NAMED_PATIENCE: Duration = Duration::from_secs(3);

impl Running<'_> {
    /// Looks for others.
    pub(super) fn seeker(&self, told: mpsc::UnboundedSender<Sought>) -> Seeker {
        Seeker {
            caller: self.caller.clone(),
            pull: self.shared.clone(),
            policy: self.request.sources.clone(),
            taken: self.taken.clone(),
            wanted: self.wanted.subscribe(),
            told,
        }
    }

    /// Takes what came of looking for others; tells when the fetch ends by it.
    pub(super) async fn meet(&mut self, sought: Sought, report: Reporter<'_>) -> Option<Ending> {
        match sought {
            Sought::Found(found) => {
                if !self.rejoin(&found, report).await {
                    report(FetchEvent::Joined { user: found.link.user() });
                    self.join(&found);
                }
            }
            // A key that changed stops everything, if it was that one that was wanted.
            Sought::Missed {
                named: true,
                error: error @ (Error::PeerChanged { .. } | Error::KeyOfAnother { .. }),
                ..
            } => {
                return Some(Ending::Changed(error));
            }
            Sought::Missed { user, named, error } => {
                if named || error.kind() == ErrorKind::IdentityChanged {
                    report(FetchEvent::NotAsked { user: &user, why: &error.to_string() });
                } else {
                    tracing::info!("{user} has the same and can't be asked: {error}");
                }
            }
            Sought::Over(times) => {
                self.sought = times;
                self.fail_stranded(report).await;
            }
        }
        None
    }

    /// Waits a little for word of those whom the user named: that one of them isn't there is said, however quickly others
    /// had everything.
    pub(super) async fn hear_of_named(
        &mut self,
        mut others: mpsc::UnboundedReceiver<Sought>,
        report: Reporter<'_>,
        cancel: &CancellationToken,
    ) {
        let names_some = !matches!(self.request.sources, Sources::Everybody);
        let hearing = async {
            while names_some && self.sought == 0 {
                match others.recv().await {
                    Some(Sought::Missed { user, named: true, error }) => {
                        report(FetchEvent::NotAsked { user: &user, why: &error.to_string() });
                    }
                    Some(Sought::Over(times)) => self.sought = times,
                    Some(Sought::Found(_) | Sought::Missed { .. }) => {}
                    None => return,
                }
            }
        };
        tokio::select! {
            () = hearing => {}
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(NAMED_PATIENCE) => {}
        }
    }

    /// Somebody who was given up is there again.
    async fn rejoin(&mut self, found: &Found, report: Reporter<'_>) -> bool {
        let known = self.sources.iter().position(|source| source.user == *found.link.user());
        let Some(source) = known.and_then(|known| SourceNo::try_from(known).ok()) else { return false };
        for file in &found.has {
            self.shared.plan().available(source, *file);
        }
        self.welcome_back(source, &found.link, report).await;
        true
    }

    /// A source with a link starts to be pulled from.
    pub(super) fn join(&mut self, found: &Found) {
        self.taken.add(found.link.user().clone());
        let added = self.shared.plan().add_source(|file| found.has.contains(&file), Instant::now());
        let Some(source) = added else { return };
        let user = found.link.user().clone();
        self.sources.push(Source {
            user,
            link: found.link.clone(),
            link_no: 0,
            coming: false,
            pulse: Arc::default(),
            reading: PulseReading::default(),
            slowdown: SlowdownDetector::default(),
            silent: false,
            gone_since: None,
            banned: false,
        });
        for (file, groups) in &found.partly {
            self.shared.plan().has_groups(source, *file, groups.clone());
        }
        self.start_pullers(source, &found.link);
    }

    pub(super) fn start_pullers(&mut self, source: SourceNo, link: &Link) {
        let Some(state) = self.source_mut(source) else { return };
        state.link_no += 1;
        state.link = link.clone();
        state.coming = false;
        let (link_no, pulse) = (state.link_no, Arc::new(Pulse::default()));
        (state.pulse, state.reading) = (pulse.clone(), PulseReading::default());
        state.slowdown.begin_again();
        for _ in 0..self.streams {
            let (shared, link, pulse) = (self.shared.clone(), link.clone(), pulse.clone());
            self.pullers.spawn(async move { (source, link_no, pull(shared, link, pulse, source).await) });
        }
        let partly = self.shared.plan().has_partly(source);
        if !partly.is_empty() {
            self.watches.spawn(watch(self.shared.clone(), link.clone(), source, partly, self.request.patience));
        }
    }

    /// A source told a lie; the plan asks it no more, and nothing that it still sends is read.
    pub(super) async fn ban(&mut self, source: SourceNo, why: &str, report: Reporter<'_>) {
        let Some(state) = self.source_mut(source) else { return };
        let user = state.user.clone();
        state.coming = false;
        if !std::mem::replace(&mut state.banned, true) {
            state.link.close(Code::Protocol);
            self.liars.push(user.clone());
            report(FetchEvent::Banned { user: &user, why });
        }
        self.trouble = Some(Trouble::of(&Error::Integrity(format!("{user} {why}"))));
        self.wanted.send_modify(|times| *times += 1);
        self.shared.work.notify_waiters();
        self.fail_stranded(report).await;
    }

    /// A puller's stream ended badly: the source is called again where that may help.
    pub(super) async fn lose(&mut self, source: SourceNo, link_no: u32, error: StreamError, report: Reporter<'_>) {
        let all_patience = self.request.patience;
        let Some(state) = self.source_mut(source) else { return };
        if state.link_no != link_no || state.coming {
            return;
        }
        // One that is gone would have been noticed by the link itself.
        let silence = match &error {
            StreamError::Timeout(time) if !state.link.is_closed() => Some(*time),
            _ => None,
        };
        // Its other pullers must not go on beside those of a new link.
        state.link.close(Code::Cancelled);
        let user = state.user.clone();
        let comes_back = match &error {
            StreamError::Link(error) => may_come_back(error),
            StreamError::Timeout(_) => true,
            _ => false,
        };
        let gone_for = state.gone_since.get_or_insert_with(Instant::now).elapsed();
        let patience = all_patience.saturating_sub(gone_for);
        state.coming = !state.banned && comes_back && !patience.is_zero();
        let (coming, banned) = (state.coming, state.banned);
        let is_silent = std::mem::replace(&mut state.silent, silence.is_some());
        self.shared.plan().lose_source(source);
        let why = error.to_string();
        if !banned {
            self.trouble = Some(Trouble::of(&Error::stream(&user, error)));
        }
        self.wanted.send_modify(|times| *times += 1);
        if coming {
            match silence {
                Some(time) if !is_silent => report(FetchEvent::Silent { user: &user, time }),
                Some(_) => {}
                None => report(FetchEvent::Lost { user: &user, why: &why }),
            }
            let caller = self.caller.clone();
            self.calls.spawn(async move { (source, caller.call_again(&user, patience).await) });
        }
        self.fail_stranded(report).await;
    }

    pub(super) async fn welcome_back(&mut self, source: SourceNo, link: &Link, report: Reporter<'_>) {
        if self.shared.plan().restore_source(source, Instant::now()) {
            // One that was silent isn't back before something comes.
            if self.source_mut(source).is_some_and(|state| !state.silent) {
                report(FetchEvent::Back { user: link.user() });
            }
            self.start_pullers(source, link);
        } else {
            link.close(Code::Cancelled);
            self.fail_stranded(report).await;
        }
    }

    pub(super) async fn give_up(&mut self, source: SourceNo, error: &Error, report: Reporter<'_>) {
        let Some(state) = self.source_mut(source) else { return };
        state.coming = false;
        let user = state.user.clone();
        // Should it come back later, it is found as anybody else.
        self.taken.remove(&user);
        self.trouble = Some(Trouble::of(error));
        self.fail_stranded(report).await;
    }

    /// Looks how fast the sources are, and tells of one that became slow.
    pub(super) fn look_at_rates(&mut self, report: Reporter<'_>) {
        let seeks = !matches!(self.request.sources, Sources::Only(_));
        for state in self.sources.iter_mut().filter(|state| !state.coming && !state.banned) {
            let (reading, before) = (state.pulse.read(), state.reading);
            state.reading = reading;
            let is_of_large = reading.answers.saturating_sub(before.answers) <= FEW_ANSWERS;
            let waits = reading.waits_since(&before) && is_of_large;
            let look = Look { at: Instant::now(), bytes: reading.bytes, waits };
            if let Some(slowdown) = state.slowdown.take(look) {
                report(FetchEvent::Slow { user: &state.user, slowdown, seeks });
                if seeks {
                    self.wanted.send_modify(|times| *times += 1);
                }
            }
        }
    }

    /// Whether others may still be found.
    fn is_seeking(&self) -> bool {
        self.sought < *self.wanted.borrow()
    }

    /// Gives up on what nobody has who is there, is being called, or may still be found.
    pub(super) async fn fail_stranded(&mut self, report: Reporter<'_>) {
        if self.is_seeking() {
            return;
        }
        let stranded = self.shared.plan().stranded(self.coming());
        for file in stranded {
            self.strand(file, report).await;
        }
    }

    /// Does so for one file.
    pub(super) async fn fail_if_stranded(&mut self, file: FileNo, report: Reporter<'_>) {
        let stranded = !self.is_seeking() && self.shared.plan().is_stranded(file, self.coming());
        if stranded {
            self.strand(file, report).await;
        }
    }

    async fn strand(&mut self, file: FileNo, report: Reporter<'_>) {
        let refusal = self.refusals.remove(&file);
        if let Some(trouble) = refusal.clone().filter(|trouble| trouble.changed && !self.in_order) {
            return self.set_aside(file, trouble, report).await;
        }
        if refusal.as_ref().is_some_and(|trouble| trouble.changed && trouble.kind == ErrorKind::Integrity) {
            let (name, user) = (self.name(file), self.request.from.clone());
            let error = Error::ChangedInStream { user, name };
            return self.fail(file, error, report).await;
        }
        let trouble = refusal.or_else(|| self.trouble.clone());
        let error = trouble.map_or_else(
            || Error::link(&self.request.from, LinkError::Lost("no source of this file is left".to_owned())),
            Trouble::into_error,
        );
        self.fail(file, error, report).await;
    }

    fn coming(&self) -> impl Iterator<Item = SourceNo> {
        (0..).zip(&self.sources).filter(|(_, source)| source.coming).map(|(no, _)| no)
    }

    pub(super) fn source_mut(&mut self, source: SourceNo) -> Option<&mut Source> {
        usize::try_from(source).ok().and_then(|index| self.sources.get_mut(index))
    }
}
