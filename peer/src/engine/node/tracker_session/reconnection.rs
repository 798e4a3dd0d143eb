//! Reconnection to the tracker: the pauses between attempts, and the end of work whose network is gone.

use std::time::{Duration, Instant};

use localization::tr;
use rand::Rng;
use tokio::time::{sleep_until, timeout};

use super::presence::PresenceClaim;
use super::{MOVE_TIMEOUT, PresenceState, SessionEnd, TrackerSession, is_fatal};
use crate::engine::Error;
use crate::engine::node::revalidation_trigger::{RevalidationHandle, RevalidationTrigger};
use crate::net::TrackerError;
use crate::net::addresses::outbound_interfaces;
use crate::net::tracker::TrackerConnection;
use crate::sys::{self, NetworkChange, NetworkMonitor};
use crate::util::Backoff;
use crate::util::TranslatedText;

const RECONNECT_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));

/// The end of a pause before the next attempt to connect.
enum ReconnectPauseEnd {
    Elapsed,
    NetworkChanged,
    /// Further places of the tracker are known.
    PlacesFound,
    Leaving,
}

impl TrackerSession {
    /// Reconnects until the node is present again, the first time after a pause or at once; `None` when the node leaves
    /// meanwhile.
    pub(super) async fn reconnect(
        &mut self,
        network: &mut NetworkMonitor,
        mut is_at_once: bool,
    ) -> Result<Option<TrackerConnection>, Error> {
        let mut backoff = RECONNECT_BACKOFF;
        loop {
            // Jittered, so that the clients of a restarted tracker don't all come back at once.
            let pause = if is_at_once { Duration::ZERO } else { backoff.next_jittered(rand::rng().random()) };
            let is_network_new = std::mem::take(&mut is_at_once);
            match self.wait_before_reconnect(network, pause).await {
                ReconnectPauseEnd::Elapsed => {}
                // The failures were those of the old network: back to the shortest pause.
                ReconnectPauseEnd::NetworkChanged => backoff.reset(),
                ReconnectPauseEnd::PlacesFound => backoff.reset(),
                ReconnectPauseEnd::Leaving => return Ok(None),
            }
            let (leaving, claim) = (self.leaving.clone(), self.claim());
            let revalidation = self.revalidation.clone();
            let entered = tokio::select! {
                () = leaving.cancelled() => return Ok(None),
                entered = cancel_on_network_change(network, &revalidation, self.establish(claim)) => entered,
            };
            let Some(entered) = entered else {
                backoff.reset();
                is_at_once = true;
                continue;
            };
            match entered {
                Ok(link) => return Ok(Some(link)),
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    // After SessionEnd::Reconnect nothing was reported yet; later failures in a row are not
                    // reported again. An old address often goes a moment before the new one comes.
                    let is_unreported = matches!(*self.presence_state.borrow(), PresenceState::Present { .. });
                    if is_unreported && !is_network_new {
                        self.report_lost(&TranslatedText::of(&error));
                    }
                    self.place_search.hurry(Instant::now());
                    tracing::debug!("the tracker is still gone: {error}");
                }
            }
        }
    }

    /// Returns the claim of a node that comes back.
    const fn claim(&self) -> PresenceClaim {
        if self.is_takeover_requested { PresenceClaim::TakeOver } else { PresenceClaim::Yield }
    }

    /// Leaves a tracker that can't renew presences, if another one takes this node; otherwise the connection stays.
    pub(super) async fn leave_busy_tracker(&mut self, link: &mut TrackerConnection) -> Result<(), SessionEnd> {
        self.busy.note_attempt(rand::rng().random(), Instant::now());
        if link.is_of_several() {
            // Before the attempt, which would otherwise begin with the same tracker.
            self.avoid(link);
            match timeout(MOVE_TIMEOUT, self.establish(self.claim())).await {
                Ok(Ok(elsewhere)) => {
                    tracing::info!("left the tracker at {} for the one at {}", link.remote(), elsewhere.remote());
                    *link = elsewhere;
                    return Ok(());
                }
                Ok(Err(error)) if is_fatal(&error) => return Err(SessionEnd::Fatal(error)),
                Ok(Err(error)) => tracing::info!("no other tracker takes this node: {error}"),
                Err(_) => tracing::info!("no other tracker takes this node in time"),
            }
            self.local.send_replace(Some(link.local()));
        }
        if let Some(why) = self.busy.take_report() {
            self.report_lost(&why);
        }
        Ok(())
    }

    /// Waits; queries are answered meanwhile with "unreachable" instead of being kept.
    async fn wait_before_reconnect(&mut self, network: &mut NetworkMonitor, time: Duration) -> ReconnectPauseEnd {
        let until = tokio::time::sleep(time);
        tokio::pin!(until);
        loop {
            let search_due = self.place_search.due();
            tokio::select! {
                () = self.leaving.cancelled() => return ReconnectPauseEnd::Leaving,
                () = &mut until => return ReconnectPauseEnd::Elapsed,
                () = sleep_until(search_due.unwrap_or_else(Instant::now).into()), if search_due.is_some() => {
                    self.place_search.start(Instant::now());
                }
                Some(found) = self.place_search.next_result() => {
                    if self.adopt_places(&found) {
                        return ReconnectPauseEnd::PlacesFound;
                    }
                }
                () = self.go_online.notified() => {
                    self.is_takeover_requested = true;
                    return ReconnectPauseEnd::Elapsed;
                }
                _ = network.changed() => {
                    self.revalidation.request(RevalidationTrigger::LocalNetwork);
                    return ReconnectPauseEnd::NetworkChanged;
                }
                Some(question) = async {
                    tokio::select! {
                        question = self.queries.recv() => question,
                        question = self.stranger_queries.recv() => question,
                    }
                } => {
                    let address = self.me.tracker.to_string();
                    let why = TranslatedText::new(|| tr!("the connection was lost"));
                    // The receiver may have given up.
                    let _ = question.reply.send(Err(TrackerError::Unreachable { address, why }));
                }
            }
        }
    }
}

/// Runs `work`, which waits for the tracker; cancels it and returns `None` when this machine's outbound interfaces
/// changed since the start, or the machine slept.
pub(super) async fn cancel_on_network_change<T>(
    network: &mut NetworkMonitor,
    revalidation: &RevalidationHandle,
    work: impl Future<Output = T>,
) -> Option<T> {
    let interfaces = outbound_interfaces(&sys::local_addresses());
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            change = network.changed() => {
                revalidation.request(RevalidationTrigger::LocalNetwork);
                // Monitors also fire for containers' bridges that come and go, which must not break off a
                // working request.
                if change == NetworkChange::Resumed || outbound_interfaces(&sys::local_addresses()) != interfaces {
                    return None;
                }
            }
        }
    }
}
