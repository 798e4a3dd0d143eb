//! Identification of callers: the certificate proves the key, the tracker names its user, the record confirms it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | tracker queries about keys that are not on record | one at a time, and only while no other query waits | they wait; a caller waits at most 2 s |
//! | keys whose users are cached | 4,096, for 10 s | the cache is cleared |
//! | unregistered keys that are cached | 4,096, for 3 s | the cache is cleared |

use std::collections::HashMap;
use std::time::{Duration, Instant};

use localization::tr;
use parking_lot::Mutex;
use shared::peer::PeerErrorCode;
use shared::safe_text::safe_line;
use shared::tracker::{TrackerErrorCode, TrackerRequest, WhoisReply, WhoisRequest};
use shared::{Fingerprint, UserName};

use super::tracker_session::{QueryOrigin, TrackerHandle};
use crate::engine::peer_lookup::check_key;
use crate::engine::{Error, LocalUser, run_blocking};
use crate::net::TrackerError;
use crate::net::link::UnidentifiedCaller;
use crate::profile::ProfileError;
use crate::util::TranslatedText;

/// Deadline for the tracker's answer about a caller, who waits meanwhile.
const WHOIS_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which the tracker's answer about a key is reused, unless a key change is announced sooner.
const OWNER_TTL: Duration = Duration::from_secs(10);
/// Time for which a key counts as unregistered without another query: short, for its owner may register.
const UNREGISTERED_TTL: Duration = Duration::from_secs(3);
/// Entries of each cache; a full one is cleared.
const MAX_CACHED_KEYS: usize = 4096;

/// Identifies callers by their keys.
#[derive(Debug)]
pub(super) struct CallerIdentifier {
    me: LocalUser,
    tracker: TrackerHandle,
    owners: Mutex<HashMap<Fingerprint, CachedKeyOwner>>,
    /// Separate from `owners`, which strangers could otherwise clear: they can have any number of keys.
    unregistered_keys: Mutex<HashMap<Fingerprint, Instant>>,
}

/// An identified caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallerIdentity {
    pub(super) user: UserName,
    /// True if this profile's user has written to the caller.
    pub(super) is_correspondent: bool,
}

/// The reason to turn a caller away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallerRejection {
    pub(super) code: PeerErrorCode,
    /// Sent to the caller: names this side's user, never its paths.
    pub(super) caller_message: String,
    /// Shown to this side's user.
    pub(super) local_reason: TranslatedText,
}

/// A cached answer of the tracker about a key.
#[derive(Debug)]
struct CachedKeyOwner {
    user: UserName,
    since: Instant,
    /// The key epoch that was current before the tracker was asked.
    key_epoch: u64,
}

impl CallerRejection {
    fn new(code: PeerErrorCode, to_caller: impl Into<String>, here: TranslatedText) -> Self {
        Self { code, caller_message: to_caller.into(), local_reason: here }
    }

    /// Returns the rejection for a fault on this side: the caller learns whose side it is, and no paths.
    fn internal_fault(me: &UserName, error: &Error) -> Self {
        let to_caller = match error {
            Error::Profile(ProfileError::DiskFull { .. }) => format!("{me}'s disk is full"),
            _ => format!("a fault on {me}'s side"),
        };
        Self::new(PeerErrorCode::Internal, to_caller, TranslatedText::of(error))
    }
}

impl CallerIdentifier {
    pub(super) fn new(me: LocalUser, tracker: TrackerHandle) -> Self {
        Self { me, tracker, owners: Mutex::default(), unregistered_keys: Mutex::default() }
    }

    /// Returns the user whose key the caller holds, or the reason to turn the caller away.
    pub(super) async fn identify(&self, caller: &UnidentifiedCaller) -> Result<CallerIdentity, CallerRejection> {
        let fingerprint = caller.fingerprint();
        let user = match self.cached_owner(&fingerprint) {
            Some(user) => user,
            None => {
                // Read before the query: a key change that is announced meanwhile makes the cached answer
                // void.
                let key_epoch = self.tracker.key_epoch();
                let user = self.look_up_owner(fingerprint).await?;
                self.cache_owner(fingerprint, CachedKeyOwner { user: user.clone(), since: Instant::now(), key_epoch });
                user
            }
        };
        let (me, whose) = (self.me.clone(), user.clone());
        let record = run_blocking(move || {
            check_key(&me, &whose, fingerprint)?;
            Ok((me.profile.is_blocked(&whose)?, me.profile.has_written_to(&whose)?))
        });
        let is_written_to = match record.await {
            Ok((false, is_written_to)) => is_written_to,
            Ok((true, _)) => {
                let here = TranslatedText::new(|| tr!("{user} is blocked", user));
                return Err(CallerRejection::new(PeerErrorCode::Unauthorised, "refused", here));
            }
            // Unlike `Unauthorised`, `Replaced` lets the caller keep its messages until the key is trusted
            // here.
            Err(Error::PeerKeyChanged { .. } | Error::KeyOwnedByOther { .. }) => {
                let to_caller = format!("your key is not the one that {} knows of {user}", self.me.user);
                let here = TranslatedText::new(|| tr!("its key is not the one that is known of {user}", user));
                return Err(CallerRejection::new(PeerErrorCode::Replaced, to_caller, here));
            }
            Err(error) => return Err(CallerRejection::internal_fault(&self.me.user, &error)),
        };
        if caller.hello().user != user {
            let claimed = safe_line(caller.hello().user.as_str()).into_owned();
            let to_caller = format!("your key belongs to {user}, not to {claimed}");
            let here = TranslatedText::new(|| tr!("its key belongs to {user}, not to {claimed}", user, claimed));
            return Err(CallerRejection::new(PeerErrorCode::Unauthorised, to_caller, here));
        }
        Ok(CallerIdentity { user, is_correspondent: is_written_to })
    }

    async fn look_up_owner(&self, fingerprint: Fingerprint) -> Result<UserName, CallerRejection> {
        let unregistered = || {
            let to_caller = format!("the tracker of {} doesn't know your key: register there first", self.me.user);
            let here = TranslatedText::new(|| tr!("the tracker doesn't know its key"));
            CallerRejection::new(PeerErrorCode::Unauthorised, to_caller, here)
        };
        if self.is_unregistered(&fingerprint) {
            return Err(unregistered());
        }
        let profile = self.me.profile.clone();
        // A profile that can't be read makes the caller a stranger, which only costs it its priority.
        let friend =
            run_blocking(move || Ok(profile.known_user_with_key(&fingerprint)?)).await.unwrap_or_else(|error| {
                tracing::error!("{error}");
                None
            });
        let asker = if friend.is_some() { QueryOrigin::KnownKey } else { QueryOrigin::UnknownKey };
        let whois = TrackerRequest::Whois(WhoisRequest::Fingerprint(fingerprint));
        // Shorter than the caller's own deadline, so that a caller on record is still identified without a
        // tracker.
        let answer: Result<WhoisReply, TrackerError> =
            tokio::time::timeout(WHOIS_TIMEOUT, self.tracker.call_for(asker, &whois)).await.unwrap_or_else(|_| {
                let silent = || tr!("no answer within {seconds} s", seconds = WHOIS_TIMEOUT.as_secs());
                let why = TranslatedText::new(silent);
                Err(TrackerError::Unreachable { address: self.me.tracker.to_string(), why })
            });
        match answer {
            Ok(reply) => Ok(reply.user),
            Err(error) if error.code() == Some(TrackerErrorCode::NotFound) => {
                self.cache_unregistered(fingerprint);
                Err(unregistered())
            }
            // Without the tracker, the record still identifies known users.
            Err(error) => match friend {
                Some(friend) => Ok(friend.user),
                None => {
                    let to_caller = format!("{} can't ask the tracker who you are: try again later", self.me.user);
                    let here = TranslatedText::new(|| tr!("the tracker can't be asked who it is ({error})", error));
                    Err(CallerRejection::new(PeerErrorCode::Busy, to_caller, here))
                }
            },
        }
    }

    fn cached_owner(&self, fingerprint: &Fingerprint) -> Option<UserName> {
        let owners = self.owners.lock();
        let key_epoch = self.tracker.key_epoch();
        let holds = |known: &&CachedKeyOwner| known.key_epoch == key_epoch && known.since.elapsed() < OWNER_TTL;
        owners.get(fingerprint).filter(holds).map(|known| known.user.clone())
    }

    fn is_unregistered(&self, fingerprint: &Fingerprint) -> bool {
        let unregistered_keys = self.unregistered_keys.lock();
        unregistered_keys.get(fingerprint).is_some_and(|since| since.elapsed() < UNREGISTERED_TTL)
    }

    fn cache_unregistered(&self, fingerprint: Fingerprint) {
        let mut unregistered_keys = self.unregistered_keys.lock();
        // At worst the tracker is asked again.
        if unregistered_keys.len() >= MAX_CACHED_KEYS {
            unregistered_keys.clear();
        }
        unregistered_keys.insert(fingerprint, Instant::now());
    }

    fn cache_owner(&self, fingerprint: Fingerprint, owner: CachedKeyOwner) {
        let mut owners = self.owners.lock();
        if owners.len() >= MAX_CACHED_KEYS {
            owners.clear();
        }
        owners.insert(fingerprint, owner);
    }
}
