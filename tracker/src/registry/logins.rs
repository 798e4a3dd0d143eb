//! Logins: how users become present. Of several processes with one key, one at a time is.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use shared::tracker::{InstanceId, TrackerEventKind, UserLocation};
use shared::{Fingerprint, UserName};

use super::replicated_change::NodeId;
use super::sessions::KnownToken;
use super::{BindingChanged, LoginTime, PresenceRegistry, PresentUser, SessionId, peer_list};
use crate::catalogue::FileList;
use crate::rate_limits::ClientOrigin;

/// An authenticated login, not yet applied.
#[derive(Debug, Clone)]
pub struct AuthenticatedLogin {
    /// The account.
    pub user: UserName,
    /// The socket's address.
    pub ip: IpAddr,
    /// The origin that the limits count.
    pub from: ClientOrigin,
    /// The port on which the client accepts links; `None` if it accepts none.
    pub port: Option<u16>,
    /// Further addresses at which the client may be reached.
    pub addresses: Vec<SocketAddr>,
    /// A fresh random token.
    pub token: KnownToken,
    /// The binding on which the authentication relied.
    pub binding: Option<Fingerprint>,
    /// The time of the login.
    pub at: LoginTime,
}

impl PresenceRegistry {
    /// Makes the user present; an older presence of the same user is replaced. Fails with [`BindingChanged`] when the
    /// binding changed since the authentication.
    pub fn login(&mut self, arrival: AuthenticatedLogin, now: Instant) -> Result<SessionId, BindingChanged> {
        let AuthenticatedLogin { user, ip, from, port, addresses, token, binding, at } = arrival;
        // First, so that a login with an outdated binding changes nothing.
        let session = self.attach(user.clone(), token, binding)?;
        let head = peer_list::entry_head(&user, ip, port, &addresses, binding);
        // Without an `offline` event: for subscribers the user stays online.
        let old = self.forget_presence(&user);
        let was_present = old.is_some();
        let had_files = old.as_ref().is_some_and(|old| !old.files.is_empty());
        // A login that repeats the last one makes no event, unless the last is long ago or its connection dropped: then
        // subscribers may have found the user unreachable.
        let grace = self.rules.grace;
        let is_as_told =
            |old: &PresentUser| old.head == head && now < old.announced_at + grace && old.deadline > now + grace;
        let told_before = old.filter(is_as_told).map(|old| old.announced_at);
        let deadline = now + self.lease(binding.is_some());
        self.deadlines.insert((deadline, user.clone()));
        let bound = binding.is_some();
        let present = PresentUser {
            session,
            instance: None,
            since: now,
            ip,
            from,
            port,
            at,
            bound,
            deadline,
            node: NodeId::default(),
            queued_deadline: deadline,
            stored_deadline: deadline,
            announced_at: told_before.unwrap_or(now),
            files: FileList::default(),
            head,
        };
        self.present.insert(user.clone(), present);
        self.recent_logins.add(from, session, user.clone());
        self.full_list.user_added(&user, &self.present);
        self.compact_list.user_added(&user, &self.present);
        if !bound {
            self.legacy_at.add(from, 1);
        }
        self.mark_dirty(&user, true);
        if told_before.is_none() {
            let location = UserLocation { user: user.clone(), ip, port, addresses, fingerprint: binding };
            let kind = if was_present { TrackerEventKind::Moved } else { TrackerEventKind::Online };
            self.events.push(Some(from), kind(location));
        }
        // A login begins with an empty list, and subscribers may have seen the old one.
        if had_files {
            self.events.push(Some(from), TrackerEventKind::Files { user, count: 0 });
        }
        Ok(session)
    }

    /// As [`PresenceRegistry::login`], for a process that may send its instance id. Fails as
    /// [`PresenceRegistry::login`].
    pub fn login_instance(
        &mut self,
        arrival: AuthenticatedLogin,
        instance: Option<InstanceId>,
        now: Instant,
    ) -> Result<SessionId, BindingChanged> {
        let user = arrival.user.clone();
        let same = self.present.get(&user).filter(|present| present.instance.is_some() && present.instance == instance);
        // The same process again, after a lost connection: it was there all the time.
        let since = same.map_or(now, |present| present.since);
        let session = self.login(arrival, now)?;
        if let Some(present) = self.present.get_mut(&user) {
            (present.instance, present.since) = (instance, since);
        }
        Ok(session)
    }

    /// Returns the address of another present instance of the user and the time since its first login. `None` when
    /// there is none, or when it sent no id.
    pub fn other_instance(&self, user: &UserName, instance: InstanceId, now: Instant) -> Option<(IpAddr, Duration)> {
        let other = |present: &&PresentUser| present.instance.is_some_and(|other| other != instance);
        let present = self.present.get(user).filter(other)?;
        Some((present.ip, now.saturating_duration_since(present.since)))
    }
}
