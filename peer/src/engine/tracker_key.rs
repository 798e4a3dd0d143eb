//! The tracker's key: which one is demanded, and whether it is the right one before a secret goes there.
//!
//! | on record at the address | demanded | with `--tracker-key K` |
//! |---|---|---|
//! | nothing | any key, or the one that was announced; it is recorded as seen | K |
//! | a key S that was seen | S, or one that is confirmed at another address | K, which takes the place of S |
//! | a key C that was confirmed | C | C, where that is K; else nobody is asked |
//!
//! A key that is confirmed at one address is so at all others. Whatever is demanded and not shown is
//! [`super::ErrorKind::IdentityChanged`], before anything was sent. [`TrackerKeyCheck`] is for the commands that send a
//! password: it ends with a key that is confirmed, or with one that somebody has to look at.

use certs::Identity;
use shared::Fingerprint;

use super::{Error, Notice, NoticeHandler};
use crate::net::TrackerError;
use crate::net::tracker::{KeyDemand, TrackerAddress, TrackerConnection};
use crate::profile::{KnownTracker, Profile, TrackerKeyTrust};

/// What was said beforehand of the key of a tracker that is met for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackerKeyPolicy {
    /// Nothing: somebody is asked before a secret goes there.
    Ask,
    /// The first key that is shown is the right one.
    AcceptNew,
    /// This is the right one, and no other.
    Only(Fingerprint),
}

/// A tracker to which a secret is to go.
#[derive(Debug)]
pub struct TrackerKeyCheck<'a> {
    /// Where its key is on record.
    pub profile: &'a Profile,
    /// Where it is.
    pub address: &'a TrackerAddress,
    /// The key that was announced for it on the local network.
    pub announced: Option<Fingerprint>,
    /// What was said of its key.
    pub policy: TrackerKeyPolicy,
}

impl TrackerKeyCheck<'_> {
    /// Returns the key that somebody has to look at; `None` where it is confirmed already. Nothing is asked of the
    /// tracker but its key, and one that has to be looked at goes on no record.
    ///
    /// # Errors
    /// [`Error::Tracker`] when it can't be reached, or is another than on record; [`Error::FalseAnnouncement`],
    /// [`Error::TrackerKeyMismatch`], [`Error::TrackerKeyConflict`].
    pub async fn unconfirmed_key(&self, notify: &NoticeHandler) -> Result<Option<Fingerprint>, Error> {
        let Self { profile, address, announced, policy } = *self;
        let known = profile.tracker_at(&address.to_string())?;
        if let Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Confirmed }) = known
            && (policy == TrackerKeyPolicy::Only(fingerprint) || !matches!(policy, TrackerKeyPolicy::Only(_)))
        {
            return Ok(None);
        }
        let link = dial(profile, None, address, announced, policy).await?;
        let key = link.fingerprint();
        if link.is_confirmed() || policy == TrackerKeyPolicy::AcceptNew {
            self.confirm(key, notify)?;
            return Ok(None);
        }
        Ok(Some(key))
    }

    /// Records that this is the tracker's key.
    ///
    /// # Errors
    /// What is wrong with the profile.
    pub fn confirm(&self, key: Fingerprint, notify: &NoticeHandler) -> Result<(), Error> {
        record_key(self.profile, self.address, key, TrackerKeyTrust::Confirmed, notify)
    }
}

/// Connects to the tracker at `address`; at the first meeting its key goes on record.
pub(super) async fn connect(
    profile: &Profile,
    identity: &Identity,
    address: &TrackerAddress,
    policy: TrackerKeyPolicy,
    notify: &NoticeHandler,
) -> Result<TrackerConnection, Error> {
    let link = dial(profile, Some(identity), address, None, policy).await?;
    let standing = if link.is_confirmed() { TrackerKeyTrust::Confirmed } else { TrackerKeyTrust::Seen };
    record_key(profile, address, link.fingerprint(), standing, notify)?;
    Ok(link)
}

async fn dial(
    profile: &Profile,
    identity: Option<&Identity>,
    address: &TrackerAddress,
    announced: Option<Fingerprint>,
    policy: TrackerKeyPolicy,
) -> Result<TrackerConnection, Error> {
    let text = address.to_string();
    let known = profile.tracker_at(&text)?;
    let demand = key_demand(known, announced, policy).map_err(|(known, given)| Error::TrackerKeyConflict {
        address: text.clone(),
        known,
        given,
    })?;
    let is_confirmed =
        |key: &Fingerprint| profile.tracker_key_trust(key).map(|it| it == Some(TrackerKeyTrust::Confirmed));
    let mut link = match TrackerConnection::connect(address, identity, demand).await {
        Err(TrackerError::IdentityChanged { expected, presented, .. })
            if policy == TrackerKeyPolicy::Only(expected) =>
        {
            return Err(Error::TrackerKeyMismatch { address: text, expected, presented });
        }
        // What was only seen or announced yields to a tracker that is known from elsewhere.
        Err(TrackerError::IdentityChanged { presented, .. })
            if matches!(demand, KeyDemand::Seen(_)) && is_confirmed(&presented)? =>
        {
            TrackerConnection::connect(address, identity, KeyDemand::Confirmed(presented)).await?
        }
        Err(TrackerError::IdentityChanged { expected, presented, .. }) if known.is_none() => {
            return Err(Error::FalseAnnouncement { address: text, announced: expected, presented });
        }
        linked => linked?,
    };
    if is_confirmed(&link.fingerprint())? {
        link.confirm();
    }
    Ok(link)
}

/// What is demanded of the tracker's key; `Err` with the key on record and the one that was given where those differ.
fn key_demand(
    known: Option<KnownTracker>,
    announced: Option<Fingerprint>,
    policy: TrackerKeyPolicy,
) -> Result<KeyDemand, (Fingerprint, Fingerprint)> {
    Ok(match (known, policy) {
        (Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Confirmed }), TrackerKeyPolicy::Only(given))
            if fingerprint != given =>
        {
            return Err((fingerprint, given));
        }
        (_, TrackerKeyPolicy::Only(given)) => KeyDemand::Confirmed(given),
        (Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Confirmed }), _) => KeyDemand::Confirmed(fingerprint),
        (Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Seen }), _) => KeyDemand::Seen(fingerprint),
        (None, _) => announced.map_or(KeyDemand::Nothing, KeyDemand::Seen),
    })
}

fn record_key(
    profile: &Profile,
    address: &TrackerAddress,
    key: Fingerprint,
    standing: TrackerKeyTrust,
    notify: &NoticeHandler,
) -> Result<(), Error> {
    let text = address.to_string();
    // Most commands change nothing, and a profile may lie where nothing can be written.
    if profile.tracker_at(&text)? == Some(KnownTracker { fingerprint: key, trust: standing }) {
        return Ok(());
    }
    let is_new = profile.tracker_key_trust(&key)?.is_none();
    match standing {
        TrackerKeyTrust::Seen => profile.record_tracker(&text, &key)?,
        TrackerKeyTrust::Confirmed => profile.confirm_tracker(&text, &key)?,
    }
    if is_new {
        notify(Notice::NewTracker { address: text, fingerprint: key });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Fingerprint = Fingerprint::from_bytes([1; 32]);
    const OTHER: Fingerprint = Fingerprint::from_bytes([2; 32]);

    fn known(standing: TrackerKeyTrust) -> Option<KnownTracker> {
        Some(KnownTracker { fingerprint: ONE, trust: standing })
    }

    #[test]
    fn what_is_demanded() {
        use KeyDemand::{Confirmed, Nothing, Seen};
        use TrackerKeyPolicy::{AcceptNew, Ask, Only};
        let (seen, confirmed) = (known(TrackerKeyTrust::Seen), known(TrackerKeyTrust::Confirmed));
        for policy in [Ask, AcceptNew] {
            assert_eq!(key_demand(None, None, policy), Ok(Nothing));
            assert_eq!(key_demand(None, Some(OTHER), policy), Ok(Seen(OTHER)));
            assert_eq!(key_demand(seen, Some(OTHER), policy), Ok(Seen(ONE)));
            assert_eq!(key_demand(confirmed, Some(OTHER), policy), Ok(Confirmed(ONE)));
        }
        assert_eq!(key_demand(None, Some(ONE), Only(OTHER)), Ok(Confirmed(OTHER)));
        assert_eq!(key_demand(seen, None, Only(OTHER)), Ok(Confirmed(OTHER)));
        assert_eq!(key_demand(confirmed, None, Only(ONE)), Ok(Confirmed(ONE)));
        assert_eq!(key_demand(confirmed, None, Only(OTHER)), Err((ONE, OTHER)));
    }
}
