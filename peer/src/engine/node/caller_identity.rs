//! Who is calling: the certificate decides, the tracker gives it a name, the record confirms it.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | questions to the tracker about keys that are on no record | one at a time, and only while nothing else is to be asked | they wait; a caller waits no longer than 2 s |
//! | keys whose users are remembered | 4,096, for 10 s | all are forgotten |
//! | keys that are remembered to be nobody's | 4,096, for 3 s | all are forgotten |

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// For the tracker to say who is calling.
const WHOIS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the tracker's word is taken without asking again, unless it says sooner that a key changed.
const OWNER_TTL: Duration = Duration::from_secs(10);
/// How long a key is taken for nobody's: its owner may register meanwhile.
const UNREGISTERED_TTL: Duration = Duration::from_secs(3);
/// More than this many remembered keys, and all are forgotten.
const MAX_CACHED_KEYS: usize = 4096;

/// Names for keys.
#[derive(Debug)]
pub(super) struct CallerIdentifier {
    me: LocalUser,
    tracker: TrackerHandle,
    owners: Mutex<HashMap<Fingerprint, CachedKeyOwner>>,
    /// Apart from the others: of these there can be any number.
    unregistered_keys: Mutex<HashMap<Fingerprint, Instant>>,
}

/// A caller of whom it is known who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallerIdentity {
    pub(super) user: UserName,
    /// Whether our user ever wrote to them.
    pub(super) is_correspondent: bool,
}

/// Why a caller is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallerRejection {
    pub(super) code: PeerErrorCode,
    /// Told to the caller.
    pub(super) caller_message: String,
    /// Told on this side.
    pub(super) local_reason: String,
}

/// What the tracker said of a key.
#[derive(Debug)]
struct CachedKeyOwner {
    user: UserName,
    since: Instant,
    /// How many changes of keys there had been when it was asked.
    key_epoch: u64,
}

impl CallerRejection {
    fn new(code: PeerErrorCode, to_caller: impl Into<String>, here: impl Into<String>) -> Self {
        Self { code, caller_message: to_caller.into(), local_reason: here.into() }
    }

    /// Of a fault on the side of `me`: the caller learns whose it is, and no paths.
    fn internal_fault(me: &UserName, error: &Error) -> Self {
        let to_caller = match error {
            Error::Profile(ProfileError::DiskFull { .. }) => format!("{me}'s disk is full"),
            _ => format!("a fault on {me}'s side"),
        };
        Self::new(PeerErrorCode::Internal, to_caller, error.to_string())
    }
}

impl CallerIdentifier {
    pub(super) fn new(me: LocalUser, tracker: TrackerHandle) -> Self {
        Self { me, tracker, owners: Mutex::default(), unregistered_keys: Mutex::default() }
    }

    /// The user whose key the caller holds, or why it is turned away.
    pub(super) async fn identify(&self, caller: &UnidentifiedCaller) -> Result<CallerIdentity, CallerRejection> {
        let fingerprint = caller.fingerprint();
        let user = match self.cached_owner(&fingerprint) {
            Some(user) => user,
            None => {
                // Read before asking: a change that comes meanwhile makes the answer one to ask for again.
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
                return Err(CallerRejection::new(PeerErrorCode::Unauthorised, "refused", format!("{user} is blocked")));
            }
            // Until the key is trusted here: what they have to say may wait.
            Err(Error::PeerKeyChanged { .. } | Error::KeyOwnedByOther { .. }) => {
                let to_caller = format!("your key is not the one that {} knows of {user}", self.me.user);
                let here = format!("its key is not the one that is known of {user}");
                return Err(CallerRejection::new(PeerErrorCode::Replaced, to_caller, here));
            }
            Err(error) => return Err(CallerRejection::internal_fault(&self.me.user, &error)),
        };
        if caller.hello().user != user {
            let claimed = safe_line(caller.hello().user.as_str()).into_owned();
            let to_caller = format!("your key belongs to {user}, not to {claimed}");
            let here = format!("its key belongs to {user}, not to {claimed}");
            return Err(CallerRejection::new(PeerErrorCode::Unauthorised, to_caller, here));
        }
        Ok(CallerIdentity { user, is_correspondent: is_written_to })
    }

    async fn look_up_owner(&self, fingerprint: Fingerprint) -> Result<UserName, CallerRejection> {
        let unregistered = || {
            let to_caller = format!("the tracker of {} doesn't know your key: register there first", self.me.user);
            CallerRejection::new(PeerErrorCode::Unauthorised, to_caller, "the tracker doesn't know its key")
        };
        if self.is_unregistered(&fingerprint) {
            return Err(unregistered());
        }
        let profile = self.me.profile.clone();
        let friend =
            run_blocking(move || Ok(profile.known_user_with_key(&fingerprint)?)).await.unwrap_or_else(|error| {
                tracing::error!("{error}");
                None
            });
        let asker = if friend.is_some() { QueryOrigin::KnownKey } else { QueryOrigin::UnknownKey };
        let whois = TrackerRequest::Whois(WhoisRequest::Fingerprint(fingerprint));
        // The caller waits, and not for long; a tracker that hangs is as good as none.
        let answer: Result<WhoisReply, TrackerError> =
            tokio::time::timeout(WHOIS_TIMEOUT, self.tracker.call_for(asker, &whois)).await.unwrap_or_else(|_| {
                let why = format!("no answer within {} s", WHOIS_TIMEOUT.as_secs());
                Err(TrackerError::Unreachable { address: self.me.tracker.to_string(), why })
            });
        match answer {
            Ok(reply) => Ok(reply.user),
            Err(error) if error.code() == Some(TrackerErrorCode::NotFound) => {
                self.cache_unregistered(fingerprint);
                Err(unregistered())
            }
            // Without the tracker, those met before are still known.
            Err(error) => match friend {
                Some(friend) => Ok(friend.user),
                None => {
                    let to_caller = format!("{} can't ask the tracker who you are: try again later", self.me.user);
                    let here = format!("the tracker can't be asked who it is ({error})");
                    Err(CallerRejection::new(PeerErrorCode::Busy, to_caller, here))
                }
            },
        }
    }

    fn cached_owner(&self, fingerprint: &Fingerprint) -> Option<UserName> {
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let key_epoch = self.tracker.key_epoch();
        let holds = |known: &&CachedKeyOwner| known.key_epoch == key_epoch && known.since.elapsed() < OWNER_TTL;
        owners.get(fingerprint).filter(holds).map(|known| known.user.clone())
    }

    fn is_unregistered(&self, fingerprint: &Fingerprint) -> bool {
        let unregistered_keys = self.unregistered_keys.lock().unwrap_or_else(PoisonError::into_inner);
        unregistered_keys.get(fingerprint).is_some_and(|since| since.elapsed() < UNREGISTERED_TTL)
    }

    fn cache_unregistered(&self, fingerprint: Fingerprint) {
        let mut unregistered_keys = self.unregistered_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if unregistered_keys.len() >= MAX_CACHED_KEYS {
            unregistered_keys.clear();
        }
        unregistered_keys.insert(fingerprint, Instant::now());
    }

    fn cache_owner(&self, fingerprint: Fingerprint, owner: CachedKeyOwner) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if owners.len() >= MAX_CACHED_KEYS {
            owners.clear();
        }
        owners.insert(fingerprint, owner);
    }
}
