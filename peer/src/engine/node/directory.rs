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

use shared::peer::Code;
use shared::safe_text::safe_line;
use shared::tracker::{ErrorCode, Request, Whois, WhoisReply};
use shared::{Fingerprint, UserName};

use super::keeper::{Asker, TrackerHandle};
use crate::engine::contacts::check_key;
use crate::engine::{Error, Me, blocking};
use crate::net::TrackerError;
use crate::net::link::Caller;
use crate::profile::ProfileError;

/// For the tracker to say who is calling.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the tracker's word is taken without asking again, unless it says sooner that a key changed.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// How long a key is taken for nobody's: its owner may register meanwhile.
const NOBODY_FOR: Duration = Duration::from_secs(3);
/// More than this many remembered keys, and all are forgotten.
const MAX_KNOWN: usize = 4096;

/// Names for keys.
#[derive(Debug)]
pub(super) struct Directory {
    me: Me,
    tracker: TrackerHandle,
    known: Mutex<HashMap<Fingerprint, Known>>,
    /// Apart from the others: of these there can be any number.
    nobodys: Mutex<HashMap<Fingerprint, Instant>>,
}

/// A caller of whom it is known who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownCaller {
    pub(super) user: UserName,
    /// Whether our user ever wrote to them.
    pub(super) is_written_to: bool,
}

/// Why a caller is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) code: Code,
    /// Told to the caller.
    pub(super) to_caller: String,
    /// Told on this side.
    pub(super) here: String,
}

/// What the tracker said of a key.
#[derive(Debug)]
struct Known {
    user: UserName,
    since: Instant,
    /// How many changes of keys there had been when it was asked.
    changes: u64,
}

impl Rejection {
    fn new(code: Code, to_caller: impl Into<String>, here: impl Into<String>) -> Self {
        Self { code, to_caller: to_caller.into(), here: here.into() }
    }

    /// Of a fault on the side of `me`: the caller learns whose it is, and no paths.
    fn of_fault(me: &UserName, error: &Error) -> Self {
        let to_caller = match error {
            Error::Profile(ProfileError::DiskFull { .. }) => format!("{me}'s disk is full"),
            _ => format!("a fault on {me}'s side"),
        };
        Self::new(Code::Internal, to_caller, error.to_string())
    }
}

impl Directory {
    pub(super) fn new(me: Me, tracker: TrackerHandle) -> Self {
        Self { me, tracker, known: Mutex::default(), nobodys: Mutex::default() }
    }

    /// The user whose key the caller holds, or why it is turned away.
    pub(super) async fn identify(&self, caller: &Caller) -> Result<KnownCaller, Rejection> {
        let fingerprint = caller.fingerprint();
        let user = match self.remembered(&fingerprint) {
            Some(user) => user,
            None => {
                // Read before asking: a change that comes meanwhile makes the answer one to ask for again.
                let changes = self.tracker.key_changes();
                let user = self.look_up(fingerprint).await?;
                self.remember(fingerprint, Known { user: user.clone(), since: Instant::now(), changes });
                user
            }
        };
        let (me, whose) = (self.me.clone(), user.clone());
        let standing = blocking(move || {
            check_key(&me, &whose, fingerprint)?;
            Ok((me.profile.is_blocked(&whose)?, me.profile.has_written_to(&whose)?))
        });
        let is_written_to = match standing.await {
            Ok((false, is_written_to)) => is_written_to,
            Ok((true, _)) => return Err(Rejection::new(Code::Unauthorised, "refused", format!("{user} is blocked"))),
            // Until the key is trusted here: what they have to say may wait.
            Err(Error::PeerChanged { .. } | Error::KeyOfAnother { .. }) => {
                let to_caller = format!("your key is not the one that {} knows of {user}", self.me.user);
                let here = format!("its key is not the one that is known of {user}");
                return Err(Rejection::new(Code::Replaced, to_caller, here));
            }
            Err(error) => return Err(Rejection::of_fault(&self.me.user, &error)),
        };
        if caller.hello().user != user {
            let claimed = safe_line(caller.hello().user.as_str()).into_owned();
            let to_caller = format!("your key belongs to {user}, not to {claimed}");
            let here = format!("its key belongs to {user}, not to {claimed}");
            return Err(Rejection::new(Code::Unauthorised, to_caller, here));
        }
        Ok(KnownCaller { user, is_written_to })
    }

    async fn look_up(&self, fingerprint: Fingerprint) -> Result<UserName, Rejection> {
        let nobodys = || {
            let to_caller = format!("the tracker of {} doesn't know your key: register there first", self.me.user);
            Rejection::new(Code::Unauthorised, to_caller, "the tracker doesn't know its key")
        };
        if self.is_nobodys(&fingerprint) {
            return Err(nobodys());
        }
        let profile = self.me.profile.clone();
        let friend = blocking(move || Ok(profile.friend_with_key(&fingerprint)?)).await.unwrap_or_else(|error| {
            tracing::error!("{error}");
            None
        });
        let asker = if friend.is_some() { Asker::KnownCaller } else { Asker::Stranger };
        let whois = Request::Whois(Whois::Fingerprint(fingerprint));
        // The caller waits, and not for long; a tracker that hangs is as good as none.
        let answer: Result<WhoisReply, TrackerError> =
            tokio::time::timeout(PATIENCE, self.tracker.call_for(asker, &whois)).await.unwrap_or_else(|_| {
                let why = format!("no answer within {} s", PATIENCE.as_secs());
                Err(TrackerError::Unreachable { address: self.me.tracker.to_string(), why })
            });
        match answer {
            Ok(reply) => Ok(reply.user),
            Err(error) if error.code() == Some(ErrorCode::NotFound) => {
                self.remember_nobodys(fingerprint);
                Err(nobodys())
            }
            // Without the tracker, those met before are still known.
            Err(error) => match friend {
                Some(friend) => Ok(friend.user),
                None => {
                    let to_caller = format!("{} can't ask the tracker who you are: try again later", self.me.user);
                    let here = format!("the tracker can't be asked who it is ({error})");
                    Err(Rejection::new(Code::Busy, to_caller, here))
                }
            },
        }
    }

    fn remembered(&self, fingerprint: &Fingerprint) -> Option<UserName> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.tracker.key_changes();
        let holds = |known: &&Known| known.changes == changes && known.since.elapsed() < KNOWN_FOR;
        known.get(fingerprint).filter(holds).map(|known| known.user.clone())
    }

    fn is_nobodys(&self, fingerprint: &Fingerprint) -> bool {
        let nobodys = self.nobodys.lock().unwrap_or_else(PoisonError::into_inner);
        nobodys.get(fingerprint).is_some_and(|since| since.elapsed() < NOBODY_FOR)
    }

    fn remember_nobodys(&self, fingerprint: Fingerprint) {
        let mut nobodys = self.nobodys.lock().unwrap_or_else(PoisonError::into_inner);
        if nobodys.len() >= MAX_KNOWN {
            nobodys.clear();
        }
        nobodys.insert(fingerprint, Instant::now());
    }

    fn remember(&self, fingerprint: Fingerprint, what: Known) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(fingerprint, what);
    }
}
