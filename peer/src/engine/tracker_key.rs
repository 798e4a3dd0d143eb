//! Keys of trackers: which key is demanded, and the confirmation that is needed before a password is sent.
//!
//! | on record at the address | demanded | with `--tracker-key K` |
//! |---|---|---|
//! | none | any key, or the announced one; recorded as seen | K |
//! | a seen key S | S, or a key confirmed at another address | K, which replaces S |
//! | a confirmed key C | C | C if equal to K; otherwise no connection |
//!
//! All spellings of an address are one address. A name without a record stands for the address that it resolved to: if
//! another key is on record there, this is no first contact, whatever the policy.
//!
//! A key confirmed at one address is confirmed at all. Another key than demanded is
//! [`super::ErrorKind::IdentityChanged`], before anything was sent. [`TrackerKeyCheck`] is for commands that send a
//! password: it ends with a confirmed key, or with one that the user has to confirm.

use certs::Identity;
use shared::Fingerprint;

use super::{Error, Notice, NoticeHandler};
use crate::net::tracker::{KeyDemand, TrackerAddress, TrackerConnection};
use crate::net::{AvoidedAddresses, TrackerError};
use crate::profile::{KnownTracker, Profile, TrackerKeyTrust};

/// The policy for the key of a tracker that is met for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackerKeyPolicy {
    /// The user is asked before a password is sent.
    Ask,
    /// The first shown key is confirmed without asking.
    AcceptNew,
    /// Only this key is accepted.
    Only(Fingerprint),
}

/// A tracker that a password is to be sent to.
#[derive(Debug)]
pub struct TrackerKeyCheck<'a> {
    /// The profile with the recorded keys.
    pub profile: &'a Profile,
    /// The tracker's address.
    pub address: &'a TrackerAddress,
    /// The key announced for the address on the local network.
    pub announced: Option<Fingerprint>,
    /// The policy for an unknown key.
    pub policy: TrackerKeyPolicy,
}

impl TrackerKeyCheck<'_> {
    /// Returns the key that the user has to confirm; `None` if it is confirmed already. Nothing but the key is asked of
    /// the tracker, and an unconfirmed key is not recorded. Fails with [`Error::Tracker`] if it can't be reached, or
    /// shows another key than recorded; [`Error::FalseAnnouncement`], [`Error::TrackerKeyMismatch`] or
    /// [`Error::TrackerKeyConflict`].
    pub async fn unconfirmed_key(&self, notify: &NoticeHandler) -> Result<Option<Fingerprint>, Error> {
        let Self { profile, address, announced, policy } = *self;
        let known = known_at(profile, address)?;
        // Another given key goes on to `dial`, which reports the conflict.
        if let Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Confirmed }) = known
            && (policy == TrackerKeyPolicy::Only(fingerprint) || !matches!(policy, TrackerKeyPolicy::Only(_)))
        {
            return Ok(None);
        }
        // Without an identity: an unconfirmed tracker need not learn who asks.
        let link = dial(profile, None, address, announced, policy, &AvoidedAddresses::default()).await?;
        let key = link.fingerprint();
        if link.is_confirmed() || policy == TrackerKeyPolicy::AcceptNew {
            self.confirm(key, notify)?;
            return Ok(None);
        }
        Ok(Some(key))
    }

    /// Records the key as confirmed.
    pub fn confirm(&self, key: Fingerprint, notify: &NoticeHandler) -> Result<(), Error> {
        record_key(self.profile, self.address, key, TrackerKeyTrust::Confirmed, notify)
    }
}

/// Returns the confirmed key of the tracker at `address`. Fails with [`Error::Tracker`] if it can't be reached, or its key
/// isn't confirmed.
pub async fn confirmed_key(
    profile: &Profile,
    address: &TrackerAddress,
    policy: TrackerKeyPolicy,
    notify: &NoticeHandler,
) -> Result<Fingerprint, Error> {
    if let Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Confirmed }) = known_at(profile, address)? {
        return Ok(fingerprint);
    }
    let link = dial(profile, None, address, None, policy, &AvoidedAddresses::default()).await?;
    let fingerprint = link.fingerprint();
    if !link.is_confirmed() {
        return Err(TrackerError::Unconfirmed { address: address.to_string(), fingerprint }.into());
    }
    // Confirmed at another address, or given.
    record_key(profile, address, fingerprint, TrackerKeyTrust::Confirmed, notify)?;
    Ok(fingerprint)
}

/// Connects to the tracker at `address`; at the first meeting its key is recorded.
pub(super) async fn connect(
    profile: &Profile,
    identity: &Identity,
    address: &TrackerAddress,
    policy: TrackerKeyPolicy,
    notify: &NoticeHandler,
) -> Result<TrackerConnection, Error> {
    connect_avoiding(profile, identity, address, policy, notify, &AvoidedAddresses::default()).await
}

/// Does the same as [`connect`], with those addresses last.
pub(super) async fn connect_avoiding(
    profile: &Profile,
    identity: &Identity,
    address: &TrackerAddress,
    policy: TrackerKeyPolicy,
    notify: &NoticeHandler,
    avoided: &AvoidedAddresses,
) -> Result<TrackerConnection, Error> {
    let link = dial(profile, Some(identity), address, None, policy, avoided).await?;
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
    avoided: &AvoidedAddresses,
) -> Result<TrackerConnection, Error> {
    let text = address.to_string();
    let known = known_at(profile, address)?;
    let demand = key_demand(known, announced, policy).map_err(|(known, given)| Error::TrackerKeyConflict {
        address: text.clone(),
        known,
        given,
    })?;
    let is_confirmed =
        |key: &Fingerprint| profile.tracker_key_trust(key).map(|it| it == Some(TrackerKeyTrust::Confirmed));
    let mut link = match TrackerConnection::connect_avoiding(address, identity, demand, avoided).await {
        Err(TrackerError::IdentityChanged { expected, presented, .. })
            if policy == TrackerKeyPolicy::Only(expected) =>
        {
            return Err(Error::TrackerKeyMismatch { address: text, expected, presented });
        }
        // A key that was only seen or announced yields to one confirmed at another address.
        Err(TrackerError::IdentityChanged { presented, .. })
            if matches!(demand, KeyDemand::Seen(_)) && is_confirmed(&presented)? =>
        {
            // A second connection: the first ended before anything was sent over it.
            TrackerConnection::connect_avoiding(address, identity, KeyDemand::Confirmed(presented), avoided).await?
        }
        Err(TrackerError::IdentityChanged { expected, presented, .. }) if known.is_none() => {
            return Err(Error::FalseAnnouncement { address: text, announced: expected, presented });
        }
        linked => linked?,
    };
    if is_confirmed(&link.fingerprint())? {
        // Also a key that was confirmed at another address.
        link.confirm();
    } else if known.is_none() && !matches!(policy, TrackerKeyPolicy::Only(_)) {
        let there = known_at(profile, &link.remote().into())?;
        let presented = link.fingerprint();
        if let Some(KnownTracker { fingerprint: expected, .. }) = there.filter(|it| it.fingerprint != presented) {
            return Err(TrackerError::IdentityChanged { address: text, expected, presented }.into());
        }
    }
    Ok(link)
}

/// Returns the key on record of the tracker at `address`.
pub(super) fn recorded_key(profile: &Profile, address: &TrackerAddress) -> Result<Option<Fingerprint>, Error> {
    Ok(known_at(profile, address)?.map(|known| known.fingerprint))
}

/// Returns the tracker on record at an address, in whichever spelling it was recorded.
fn known_at(profile: &Profile, address: &TrackerAddress) -> Result<Option<KnownTracker>, Error> {
    if let Some(known) = profile.tracker_at(&address.to_string())? {
        return Ok(Some(known));
    }
    // In another spelling, or as one of several, a known tracker would pass for a first meeting.
    let is_same = |text: &str| text.parse::<TrackerAddress>().is_ok_and(|other| other.overlaps(address));
    Ok(profile.known_trackers()?.into_iter().find(|(text, _)| is_same(text)).map(|(_, known)| known))
}

/// Returns the demanded key; `Err` holds the recorded and the given key if those contradict each other.
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
        // The user gave it, and thereby vouches for it.
        (_, TrackerKeyPolicy::Only(given)) => KeyDemand::Confirmed(given),
        (Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Confirmed }), _) => KeyDemand::Confirmed(fingerprint),
        (Some(KnownTracker { fingerprint, trust: TrackerKeyTrust::Seen }), _) => KeyDemand::Seen(fingerprint),
        // Anybody on the network can announce a key: it is only seen, and no password goes there.
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
    // Most commands change nothing, and a profile on a read-only disk can't be written.
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

    #[test]
    fn what_is_known_is_found_however_it_was_spelled() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        profile.record_tracker("[::ffff:10.0.0.1]:8000", &OTHER).unwrap();
        profile.confirm_tracker("0x0a000001:8000", &ONE).unwrap();
        profile.confirm_tracker("Tracker.Lan:9000", &ONE).unwrap();
        let at = |text: &str| known_at(&profile, &text.parse().unwrap()).unwrap().map(|known| known.fingerprint);
        for text in ["10.0.0.1", "::ffff:10.0.0.1", "10.1", "tracker.LAN:9000"] {
            assert_eq!(at(text), Some(ONE), "{text}");
        }
        assert_eq!((at("10.0.0.1:9000"), at("10.0.0.2")), (None, None));
    }

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
