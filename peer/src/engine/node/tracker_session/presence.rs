//! Presence at the tracker: gained with the list of shares, renewed, and lost to another node of the account.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use rand::Rng;
use shared::tracker::{
    AnnouncedPresence, Feature, HeartbeatReply, ListPeersReply, ListPeersRequest, LoginReply, TrackerErrorCode,
    TrackerRequest, WhoisReply, WhoisRequest,
};

use super::{SessionEnd, TrackerSession};
use crate::engine::node::PortForwarding;
use crate::engine::node::revalidation_trigger::RevalidationTrigger;
use crate::engine::node::share_registration::{RegisteredCount, is_list_refusal, refusal_of};
use crate::engine::node_event::{NodeEvent, OtherSession};
use crate::engine::{Error, now_ms};
use crate::net::TrackerError;
use crate::net::addresses::{announced_addresses, reachable_addresses};
use crate::net::tracker::TrackerConnection;
use crate::sys;
use crate::util::TranslatedText;

/// Time without any presence of this user after which a displaced node becomes present again: the other node may only
/// have been restarted, or lost its network for a moment.
const TAKEOVER_DELAY: Duration = Duration::from_secs(120);

/// The node's presence at the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::node) enum PresenceState {
    /// The tracker lists this node.
    Present {
        /// The address that others dial.
        address: SocketAddr,
    },
    /// Another node of the account is present instead.
    Displaced(OtherSession),
    /// The tracker can't be reached; the session keeps trying.
    Offline {
        /// The error, for people.
        why: TranslatedText,
    },
}

/// The state of a displaced node.
#[derive(Debug, Clone, Copy)]
pub(super) struct PresenceDisplacement {
    pub(super) elsewhere: OtherSession,
    /// Start of the time in which no node of the account is present; `None` while one is.
    pub(super) absent_since: Option<Instant>,
}

/// The result of becoming present.
#[derive(Debug)]
pub(super) struct GainedPresence {
    /// The address that others dial.
    address: SocketAddr,
    registration: RegistrationOutcome,
}

/// The tracker's reaction to the list of shares.
#[derive(Debug)]
pub(super) enum RegistrationOutcome {
    /// The files listed.
    Accepted(RegisteredCount),
    /// The tracker refused the list; `RegistrationRetry` says when to try again.
    Refused {
        /// The reason, if the user wasn't told of a refusal yet.
        news: Option<TranslatedText>,
    },
}

/// The treatment of another instance's presence when this one asks for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PresenceClaim {
    /// The other one's presence ends: the user wants to be online here.
    TakeOver,
    /// The other one's presence stays: this node only reconnects.
    Yield,
}

impl TrackerSession {
    /// Becomes present on this connection, or finds another instance present and becomes displaced.
    pub(super) async fn become_present(
        &mut self,
        link: &mut TrackerConnection,
        claim: PresenceClaim,
    ) -> Result<Option<GainedPresence>, Error> {
        let presence = self.presence(link.local().ip().to_canonical());
        self.announced = reachable_addresses(&presence.addresses, &sys::local_addresses());
        let presence = AnnouncedPresence { yields: claim == PresenceClaim::Yield, ..presence };
        let port = presence.port;
        let reply = self.resume(link, presence).await?;
        if let Some(present) = reply.elsewhere {
            // Told as a duration: the tracker's clock may be another one.
            let since = now_ms().saturating_sub(i64::try_from(present.for_s).unwrap_or(0).saturating_mul(1000));
            self.mark_displaced(OtherSession { ip: present.ip, since: Some(since) });
            return Ok(None);
        }
        self.check_announcement(link, reply.observed_ip).await?;
        // The presence may be a new one, without a list.
        self.registration.forget();
        let listing = self.register_shares(link).await?;
        let address = match self.forwarded {
            Some(PortForwarding { ip, port }) => SocketAddr::new(ip.unwrap_or(reply.observed_ip), port.get()),
            None => SocketAddr::new(reply.observed_ip, self.port),
        };
        self.busy.note_granted();
        // Only now: an attempt that is cancelled above must still know that the user asked for a takeover.
        (self.displaced, self.is_takeover_requested, self.observed_at) = (None, false, Some((reply.observed_ip, port)));
        Ok(Some(GainedPresence { address, registration: listing }))
    }

    /// Checks whether the tracker passes on the address that the user named; if not, reports it once.
    async fn check_announcement(&mut self, link: &mut TrackerConnection, observed: IpAddr) -> Result<(), Error> {
        let Some(PortForwarding { ip: Some(ip), port }) = self.forwarded.filter(|_| !self.has_reported_dropped_address)
        else {
            return Ok(());
        };
        let named = SocketAddr::new(ip.to_canonical(), port.get());
        // The tracker drops only named addresses, never the one that it sees itself.
        if observed.to_canonical() == named.ip() {
            return Ok(());
        }
        let only = ListPeersRequest {
            user: Some(self.me.user.clone()),
            with_files: Some(false),
            ..ListPeersRequest::default()
        };
        let listed: ListPeersReply = link.call(&TrackerRequest::ListPeers(only)).await?;
        let is_listed = listed.peers.iter().any(|entry| entry.user == self.me.user && entry.addresses.contains(&named));
        if !is_listed {
            self.has_reported_dropped_address = true;
            self.events.send(NodeEvent::AddressDropped { address: named });
        }
        Ok(())
    }

    /// Registers the shares. A refused list is no error: `list_retry` schedules the next attempt.
    pub(super) async fn register_shares(&mut self, link: &mut TrackerConnection) -> Result<RegistrationOutcome, Error> {
        // Before the list is made: a change after that makes a further one.
        self.is_list_outdated = false;
        match self.registration.register(&self.me, link).await {
            Ok(count) => {
                self.list_retry.note_accepted();
                Ok(RegistrationOutcome::Accepted(count))
            }
            Err(error) if is_list_refusal(&error) => {
                let (why, retry_after) = refusal_of(&error);
                tracing::info!("the tracker refused the list of shares: {why}");
                let is_news = self.list_retry.note_refused(retry_after, Instant::now());
                Ok(RegistrationOutcome::Refused { news: is_news.then_some(why) })
            }
            Err(error) => {
                // The tracker has an earlier list, or a part of this one.
                self.is_list_outdated = true;
                self.registration.postpone(Instant::now());
                Err(error)
            }
        }
    }

    pub(super) fn emit_online(&self, GainedPresence { address, registration: listing }: GainedPresence) {
        let now = PresenceState::Present { address };
        // Presence that was only renewed is no news.
        if self.presence_state.send_replace(now.clone()) != now {
            let shares = if let RegistrationOutcome::Accepted(listed) = &listing { listed.count } else { 0 };
            self.events.send(NodeEvent::Online { user: self.me.user.clone(), address, port: self.port, shares });
            self.files_changed.notify_one();
        }
        self.emit_list_refused(listing);
    }

    pub(super) fn emit_list_refused(&self, listing: RegistrationOutcome) {
        if let RegistrationOutcome::Refused { news: Some(why) } = listing {
            self.events.send(NodeEvent::SharesRefused { why });
        }
    }

    pub(super) async fn resume(
        &mut self,
        link: &mut TrackerConnection,
        presence: AnnouncedPresence,
    ) -> Result<LoginReply, Error> {
        let reply: LoginReply = match link.call(&TrackerRequest::Resume(presence)).await {
            Err(TrackerError::Refused { refusal, .. }) if refusal.code == TrackerErrorCode::NotLoggedIn => {
                return Err(Error::signed_out(self.me.user.clone(), refusal));
            }
            reply => reply?,
        };
        // The tracker goes by the key, which may belong to another account than the one on record here.
        self.me.check_key_owner(&reply.user)?;
        Ok(reply)
    }

    pub(super) fn mark_displaced(&mut self, elsewhere: OtherSession) {
        (self.displaced, self.is_takeover_requested) =
            (Some(PresenceDisplacement { elsewhere, absent_since: None }), false);
        // It sends no heartbeats.
        self.busy.note_granted();
        self.revalidation.request(RevalidationTrigger::OwnDisplacement);
        // The state first: whoever hears the event may ask for it.
        self.presence_state.send_replace(PresenceState::Displaced(elsewhere));
        self.events.send(NodeEvent::Displaced(elsewhere));
    }

    /// Returns the presence to announce; `local` is the local address of the connection to the tracker.
    pub(super) fn presence(&self, local: IpAddr) -> AnnouncedPresence {
        let (port, addresses) = match self.forwarded {
            // Own addresses can't be reached from outside the forwarding: a dialer would only time out on
            // them.
            Some(PortForwarding { ip, port }) => {
                (Some(port), ip.map(|ip| SocketAddr::new(ip, port.get())).into_iter().collect())
            }
            None => {
                let addresses = announced_addresses(&sys::local_addresses(), local, self.port);
                (NonZeroU16::new(self.port), addresses)
            }
        };
        AnnouncedPresence { port, addresses, instance: Some(self.instance), yields: false }
    }

    /// Sends a heartbeat; a displaced node checks instead whether the other node is still present.
    pub(super) async fn renew_presence(
        &mut self,
        link: &mut TrackerConnection,
        limit: Duration,
    ) -> Result<(), SessionEnd> {
        if let Some(displaced) = self.displaced {
            let whois = TrackerRequest::Whois(WhoisRequest::User(self.me.user.clone()));
            let WhoisReply { online, .. } = link.call_within(limit, &whois).await?;
            let gone = if online { None } else { Some(displaced.absent_since.unwrap_or_else(Instant::now)) };
            self.displaced = Some(PresenceDisplacement { absent_since: gone, ..displaced });
            return match gone {
                Some(gone) if gone.elapsed() >= TAKEOVER_DELAY => {
                    self.restore_presence(link, PresenceClaim::Yield).await
                }
                _ => Ok(()),
            };
        }
        let heartbeat = TrackerRequest::Heartbeat { user: None, token: None };
        match link.call_within::<HeartbeatReply>(limit, &heartbeat).await {
            Ok(HeartbeatReply { .. }) if self.busy.note_granted() => {
                // The user was told that the tracker is out of reach.
                self.restore_presence(link, PresenceClaim::Yield).await
            }
            Ok(HeartbeatReply { .. }) => Ok(()),
            Err(TrackerError::Refused { refusal, retry_after }) if refusal.code == TrackerErrorCode::Busy => {
                let why = TrackerError::Refused { refusal, retry_after };
                self.busy.note_refused(TranslatedText::of(&why), retry_after, rand::rng().random(), Instant::now());
                Ok(())
            }
            // The session is gone: displaced, expired or ended by an administrator.
            Err(error) if error.code() == Some(TrackerErrorCode::NotLoggedIn) => self.check_elsewhere(link).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Finds out why the session ended: the account may be present elsewhere.
    async fn check_elsewhere(&mut self, link: &mut TrackerConnection) -> Result<(), SessionEnd> {
        if link.features().has(Feature::Instances) {
            // RESUME itself tells an instance that yields who is present.
            return self.restore_presence(link, PresenceClaim::Yield).await;
        }
        // Trackers without `instances` don't tell who is present: an entry that isn't this node's own is
        // another node.
        let only = ListPeersRequest {
            user: Some(self.me.user.clone()),
            with_files: Some(false),
            ..ListPeersRequest::default()
        };
        let listed: ListPeersReply = link.call(&TrackerRequest::ListPeers(only)).await?;
        let other = listed.peers.into_iter().find(|entry| {
            let seen_at = Some((entry.ip, entry.port.and_then(NonZeroU16::new)));
            entry.user == self.me.user && seen_at != self.observed_at
        });
        match other {
            Some(entry) => {
                let _: LoginReply =
                    // Without a presence of its own, so that the other node's stays.
                    self.resume(link, AnnouncedPresence::default()).await.map_err(SessionEnd::from_error)?;
                self.mark_displaced(OtherSession { ip: entry.ip, since: None });
                Ok(())
            }
            // Nobody else is present: the lease ran out, as after a machine's sleep.
            None => Err(SessionEnd::Reconnect),
        }
    }

    pub(super) async fn restore_presence(
        &mut self,
        link: &mut TrackerConnection,
        claim: PresenceClaim,
    ) -> Result<(), SessionEnd> {
        let gained = self.become_present(link, claim).await.map_err(SessionEnd::from_error)?;
        gained.into_iter().for_each(|appeared| self.emit_online(appeared));
        Ok(())
    }
}
