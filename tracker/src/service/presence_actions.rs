//! The actions on presence: LIST_PEERS, LOGOUT, HEARTBEAT, WHOIS, SUBSCRIBE.

use std::time::{Duration, Instant};

use shared::UserName;
use shared::limits::MAX_PLAIN_REPLY_BYTES;
use shared::tracker::{
    Dialect, Feature, HeartbeatReply, ListPeersRequest, SessionToken, SpeakerProof, SubscribeReply, WhoisReply,
    WhoisRequest,
};
use tracing::info;

use super::account_actions::tls_required;
use super::action_reply::list_head;
use super::client_state::ClientState;
use super::speaker_check::{denied, ended_refusal, speaking_session};
use super::{ActionReply, ActionResult, RefusalReason, RequestError, TrackerService, busy};
use crate::fair_semaphore::FairPermit;
use crate::registry::{
    AuthorityDecision, AuthorityDenial, EventBacklog, ListView, LocalDetails, PeerListText, PresenceRegistry,
    ReplicatedChange, SessionEndReason,
};

/// Advice to clients after too many searches waited.
const SEARCH_RETRY_MS: u64 = 1000;
/// Advice to clients after too many long replies were unsent.
const REPLIES_RETRY_MS: u64 = 2000;

impl TrackerService {
    pub(super) async fn list_peers(
        &self,
        client: &ClientState,
        id: Option<&str>,
        wanted: &ListPeersRequest,
    ) -> ActionResult {
        self.ensure_replies_are_read(client)?;
        // The head comes first: in plaintext the list gets the room that the head leaves.
        let head = list_head(client.dialect(), id, self.with_registry(|registry, _| registry.present_count()))?;
        let room = MAX_PLAIN_REPLY_BYTES.saturating_sub(head.len() + super::LIST_END.len());
        let view = match (client.dialect(), client.is_secure()) {
            (Dialect::Cmd, _) => ListView::Cmd,
            (Dialect::Action, false) => ListView::Compact,
            (Dialect::Action, true) => ListView::Full,
        };
        // Most requests are for the plain list, which is ready and needs no permit.
        let fields = self.with_registry(|registry, _| registry.ready_list(view, wanted, room, client.from()));
        let fields = match fields {
            Some(fields) => fields,
            None => self.page(client, view, wanted).await?,
        };
        Ok(ActionReply::Peers { head, fields })
    }

    async fn page(
        &self,
        client: &ClientState,
        view: ListView,
        wanted: &ListPeersRequest,
    ) -> Result<PeerListText, RequestError> {
        let mut page = self.with_registry(|registry, _| registry.page(view, client.from()));
        loop {
            let permit = self.search_permit(client).await?;
            let has_more = self.with_registry(|registry, _| registry.add_to_page(wanted, &mut page));
            // Given back between two pieces, so that origins take turns.
            drop(permit);
            if !has_more {
                return Ok(page.finish());
            }
            // Lets other tasks run between two pieces.
            tokio::task::yield_now().await;
        }
    }

    /// Refuses an origin that reads its long replies slowly, before any work is done for another one.
    pub(super) fn ensure_replies_are_read(&self, client: &ClientState) -> Result<(), RequestError> {
        let may_send = self.with_registry(|registry, _| registry.can_send_reply(client.from()));
        if may_send { Ok(()) } else { Err(too_many_replies_error()) }
    }

    /// Waits for a permit to go through lists; origins take turns.
    pub(super) async fn search_permit(&self, client: &ClientState) -> Result<FairPermit, RequestError> {
        let permit = self.search_permits.acquire(client.from().into()).await;
        permit.ok_or_else(|| busy(RefusalReason::TooManySearches, SEARCH_RETRY_MS))
    }

    pub(super) async fn logout(&self, client: &mut ClientState, user: UserName, proof: SpeakerProof) -> ActionResult {
        self.check_authority(client, &user, &proof).await?;
        self.access_policy().limits.charge_change(&user, client.from(), Instant::now())?;
        let held = client.session_of(&user);
        let is_replicated = self.is_replicated();
        let (was_present, ending) = self.with_registry(|registry, _| {
            // Checked again: hashing the password took a while, and only this check and the change are one step.
            if registry.is_present(&user) {
                speaking_session(registry, &user, &client.claim(&proof))?;
            }
            let ending = registry.presence_token(&user).filter(|_| is_replicated);
            let was_present = if is_replicated { ending.is_some() } else { registry.logout(&user) };
            Ok::<_, RequestError>((was_present, ending))
        })?;
        if let Some(token) = ending {
            let change = ReplicatedChange::End { user: user.clone(), token };
            self.replicate(change, LocalDetails::default()).await?;
        }
        // The session of this connection may only authenticate: the end of the presence doesn't end it.
        self.with_registry(|registry, _| held.into_iter().for_each(|session| registry.detach(session)));
        client.remove_sessions(&user);
        if self.log_throttle().try_admit(client.ip(), "logged out") {
            info!(%user, ip = %client.ip(), was_present, "logged out");
        }
        Ok(ActionReply::LoggedOut { user, was_present })
    }

    /// Renews a lease. A presence that another tracker holds is held here from then on, unless its lease is long enough.
    pub(super) async fn heartbeat(
        &self,
        client: &ClientState,
        user: Option<UserName>,
        token: Option<SessionToken>,
    ) -> ActionResult {
        let mut renewed = self.renew_one(client, user.clone(), token);
        // The login may have been at another tracker a moment ago.
        if renewed.is_err() && self.catch_up().await.unwrap_or_default() {
            renewed = self.renew_one(client, user, token);
        }
        let (lease, taking) = renewed?;
        let ttl_s = match taking {
            // With more than that the next heartbeat comes in time, and the log is spared a change.
            Some((change, full)) if lease < full / 2 => {
                self.replicate(change, LocalDetails::default()).await?;
                full.as_secs()
            }
            _ => lease.as_secs(),
        };
        Ok(ActionReply::Heartbeat(HeartbeatReply { ttl_s }))
    }

    /// Renews the lease of the session that a heartbeat names. Returns its rest, and the change by which it would be held
    /// here if it isn't, with the lease that it would have.
    fn renew_one(
        &self,
        client: &ClientState,
        user: Option<UserName>,
        token: Option<SessionToken>,
    ) -> Result<(Duration, Option<(ReplicatedChange, Duration)>), RequestError> {
        let held = match &user {
            Some(user) => client.sessions().iter().find(|(name, _)| name == user),
            None if token.is_none() => client.sessions().last(),
            None => None,
        };
        self.with_registry(|registry, now| {
            let (name, session) = match (held, token.and_then(|token| registry.session_of_token(&token)), &user) {
                (Some((name, session)), _, _) => (name.clone(), *session),
                (None, Some((session, name)), _) => (name.clone(), session),
                // A client of the exercise, which opens a connection for each request.
                (None, None, Some(user)) => match registry.authority(user, &client.claim(&SpeakerProof::default())) {
                    AuthorityDecision::Session(session) => (user.clone(), session),
                    AuthorityDecision::IfPasswordIsRight => return Err(denied(user, AuthorityDenial::NotLoggedIn)),
                    AuthorityDecision::Denied(denial) => return Err(denied(user, denial)),
                },
                (None, None, None) => return Err(RefusalReason::NoSession.into()),
            };
            if user.is_some_and(|user| user != name) {
                return Err(RefusalReason::ForeignToken.into());
            }
            // A bound account is never reachable in plaintext, not even by token.
            if registry.binding(&name).is_some() && !client.is_secure() {
                return Err(tls_required(&name));
            }
            let lease = registry.renew(session, now).map_err(|ended| match ended {
                SessionEndReason::Over => ended_refusal(&name, registry.end_reason(&name)),
                other => ended_refusal(&name, other),
            })?;
            let full = registry.lease(registry.binding(&name).is_some());
            Ok((lease, registry.holding_change(session).map(|change| (change, full))))
        })
    }

    pub(super) async fn whois(&self, client: &ClientState, whois: WhoisRequest) -> ActionResult {
        self.certified_user(client).await?;
        let user = match whois {
            WhoisRequest::User(user) => user,
            WhoisRequest::Like(name) => self.named_like(client, name).await?,
            WhoisRequest::Fingerprint(fingerprint) => {
                let found = self.with_registry(|registry, _| {
                    let user = registry.owner(&fingerprint)?.clone();
                    let online = registry.is_present(&user);
                    Some(WhoisReply { user, fingerprint: Some(fingerprint), online })
                });
                return found.map(ActionReply::Binding).ok_or_else(not_bound);
            }
        };
        let look = |registry: &mut PresenceRegistry, _| (registry.binding(&user), registry.is_present(&user));
        let (fingerprint, online) = self.with_registry(look);
        // Only clients with this feature understand a reply without a fingerprint.
        let understands_none = client.features().has(Feature::KeylessUsers);
        if fingerprint.is_none() && !(understands_none && self.has_account(client, &user).await?) {
            return Err(not_bound());
        }
        Ok(ActionReply::Binding(WhoisReply { user, fingerprint, online }))
    }

    async fn has_account(&self, client: &ClientState, user: &UserName) -> Result<bool, RequestError> {
        Ok(self.accounts.find(client.from().into(), user).await?.is_some())
    }

    /// Returns `name` if an account has it, else the only account whose name differs from it in letter case alone.
    async fn named_like(&self, client: &ClientState, name: UserName) -> Result<UserName, RequestError> {
        let mut all = self.accounts.names_ignoring_case(client.from().into(), &name).await?;
        match all.len() {
            // Names that differ in letter case alone may be older than the rule against them.
            _ if all.contains(&name) => Ok(name),
            0 => Err(RefusalReason::NoSuchName(name).into()),
            1 => Ok(all.swap_remove(0)),
            _ => Err(RefusalReason::AmbiguousName { name, all }.into()),
        }
    }

    pub(super) async fn subscribe(&self, client: &mut ClientState, since: Option<u64>) -> ActionResult {
        let (user, _) = self.certified_user(client).await?;
        // Another tracker may have told of events that this one has not read yet.
        if since.is_some_and(|since| self.with_registry(|registry, _| since > registry.last_event())) {
            let _ = self.catch_up().await;
        }
        let (last, continued, then) = self.with_registry(|registry, _| {
            // A limit of 0 asks only whether the following events are still kept.
            let kept = |seen: &u64| matches!(registry.events_after(*seen, 0), EventBacklog::Lines { .. });
            (registry.last_event(), since.filter(kept), registry.newest_session())
        });
        // A position that can't be continued is none: the first line sent is then a `resync`.
        client.subscribe(if since.is_some() { continued } else { Some(last) }, user, then);
        let seq = continued.unwrap_or(last);
        Ok(ActionReply::Subscribed(SubscribeReply { seq, features: client.offered_features() }))
    }
}

fn not_bound() -> RequestError {
    RefusalReason::NotBound.into()
}

pub(super) const fn too_many_replies_error() -> RequestError {
    busy(RefusalReason::TooManyReplies, REPLIES_RETRY_MS)
}
