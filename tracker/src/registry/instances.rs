//! Instances: several processes with one key. One at a time is present.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use shared::UserName;
use shared::tracker::InstanceId;

use super::{AuthenticatedLogin, BindingChanged, PresenceRegistry, SessionId};

impl PresenceRegistry {
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
        let other = |present: &&super::PresentUser| present.instance.is_some_and(|other| other != instance);
        let present = self.present.get(user).filter(other)?;
        Some((present.ip, now.saturating_duration_since(present.since)))
    }
}
