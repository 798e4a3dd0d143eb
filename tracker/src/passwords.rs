//! Passwords: Argon2id, off the runtime, on all cores but one.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | hashes at a time | one for each core but the last (19 MiB each), at least one | they wait |
//! | hashes that wait | `WAITING_PER_CORE` for each of those cores | the newest of the address that has most waiting gives way: `busy` with a time to come back |
//! | hashes that wait for the local administrator | `ADMINISTRATOR`, beside the others | `busy` |
//!
//! Turns go round by address, and the administrator comes first: however many one address asks for, whoever is at
//! another waits for about as many hashes as there are addresses that ask.
//!
//! One core is left to those who ask for anything else, however many passwords are guessed at: a system's scheduler may
//! let whoever computes go on for milliseconds before somebody who was asked a question has a turn. For machines with
//! one core or two, the threads that hash have the lowest of the usual priorities as well, which still leaves logins a
//! share of a seventieth beside a flood of other requests.
//!
//! The turn moves into the blocking task: a client that goes away can't make room for more hashes than cores. An
//! unknown user costs a hash too, against a dummy, so that neither answer nor time tells whether a name exists.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::{Output, PasswordHash, PasswordHasher, PasswordVerifier, Salt, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use shared::tracker::Password;
use tokio::runtime::{Builder, Runtime};

use crate::fair_semaphore::FairSemaphore;
pub use crate::fair_semaphore::Requester;

/// Hashes that may wait, for each core.
const WAITING_PER_CORE: usize = 128;
/// Hashes that may wait for the local administrator.
const ADMINISTRATOR_QUEUE: usize = 16;
/// When to come back if too many wait; about the time in which the queue empties.
const RETRY_AFTER: Duration = Duration::from_millis(2000);

/// How far the threads that hash stand back (nice).
const HASH_THREAD_NICENESS: i32 = 19;

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Hashes and checks passwords.
#[derive(Debug)]
pub struct PasswordHashPool {
    /// Only for its blocking threads; there until this is dropped.
    threads: Option<Runtime>,
    permits: Arc<FairSemaphore>,
    dummy_hash: Arc<str>,
}

/// What became of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordCheck {
    /// Not the password, or no such user.
    Wrong,
    /// The password.
    Correct,
    /// The password, whose stored hash was made with other parameters: store this one instead.
    CorrectRehashed(String),
}

/// Why there is neither hash nor check.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many wait.
    #[error("too many passwords are being checked")]
    Busy {
        /// When to come back.
        retry_after: Duration,
    },
    /// A fault of this program.
    #[error("a password can't be hashed: {0}")]
    Failed(String),
}

impl PasswordHashPool {
    /// Uses all cores but one, or the only one.
    ///
    /// # Errors
    /// [`PasswordError::Failed`] when not even a dummy can be hashed.
    pub fn new() -> Result<Self, PasswordError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let ours = cores.saturating_sub(1).max(1);
        Self::with_bounds(ours, ours * WAITING_PER_CORE)
    }

    /// Makes the hash to store, as a PHC string.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(&self, password: &Password, requester: Requester) -> Result<String, PasswordError> {
        let password = password.clone();
        self.run_on_hash_thread(requester, move || hash(&password)).await
    }

    /// Whether this is the password of the account with the stored hash. Without an account it takes as long.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn check(
        &self,
        password: &Password,
        stored: Option<&str>,
        requester: Requester,
    ) -> Result<PasswordCheck, PasswordError> {
        let password = password.clone();
        let exists = stored.is_some();
        let stored: Arc<str> = stored.map_or_else(|| Arc::clone(&self.dummy_hash), Arc::from);
        let check = self.run_on_hash_thread(requester, move || check_hash(&password, &stored)).await?;
        Ok(if exists { check } else { PasswordCheck::Wrong })
    }

    /// How many passwords are being hashed or wait for it.
    pub fn pending_count(&self) -> usize {
        self.permits.used_or_awaited()
    }

    fn with_bounds(cores: usize, waiting: usize) -> Result<Self, PasswordError> {
        let nobody = Password::new("nobody").ok_or_else(|| PasswordError::Failed("no dummy".to_owned()))?;
        let threads = Builder::new_current_thread()
            .thread_name("passwords")
            .max_blocking_threads(cores)
            .on_thread_start(lower_thread_priority)
            .build()
            .map_err(|why| hashing_error(&why))?;
        Ok(Self {
            threads: Some(threads),
            permits: Arc::new(FairSemaphore::new(cores, waiting, ADMINISTRATOR_QUEUE)),
            dummy_hash: hash(&nobody)?.into(),
        })
    }

    async fn run_on_hash_thread<T: Send + 'static>(
        &self,
        requester: Requester,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let turn = self.permits.acquire(requester).await.ok_or(PasswordError::Busy { retry_after: RETRY_AFTER })?;
        let threads = self.threads.as_ref().ok_or_else(|| hashing_error(&"it ends"))?;
        let task = threads.spawn_blocking(move || {
            let _held_until_done = turn;
            work()
        });
        task.await.map_err(|why| hashing_error(&why))?
    }
}

impl Drop for PasswordHashPool {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            // A hash that nobody waits for any more is not worth waiting for either.
            threads.shutdown_background();
        }
    }
}

/// Makes this thread stand back; elsewhere than on Linux a thread has no priority of its own.
fn lower_thread_priority() {
    #[cfg(target_os = "linux")]
    if let Err(why) = rustix::process::setpriority_process(None, HASH_THREAD_NICENESS) {
        tracing::debug!(%why, "passwords are hashed at the usual priority");
    }
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|why| hashing_error(&why))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

thread_local! {
    /// What the last hash on this thread worked in. To give 19 MiB back to the system and take them again for each hash
    /// would hold up the whole process, whose memory it is.
    static WORKSPACE: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// The hash of `password` with this salt and today's parameters, as long as `out`.
fn hash_into(password: &Password, salt: &[u8], out: &mut [u8]) -> Result<(), PasswordError> {
    let hasher = hasher()?;
    WORKSPACE.with_borrow_mut(|blocks| {
        blocks.resize(hasher.params().block_count(), Block::default());
        let hashed = hasher.hash_password_into_with_memory(password.reveal().as_bytes(), salt, out, &mut *blocks);
        hashed.map_err(|why| hashing_error(&why))
    })
}

fn hash(password: &Password) -> Result<String, PasswordError> {
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(|why| hashing_error(&why))?;
    let hash = hasher()?.hash_password(password.reveal().as_bytes(), &salt).map_err(|why| hashing_error(&why))?;
    Ok(hash.to_string())
}

fn check_hash(password: &Password, stored: &str) -> Result<PasswordCheck, PasswordError> {
    let stored = PasswordHash::new(stored).map_err(|why| hashing_error(&why))?;
    if is_current(&stored)
        && let (Some(salt), Some(right)) = (stored.salt, stored.hash)
    {
        let (mut buffer, mut out) = ([0; Salt::MAX_LENGTH], [0; Output::MAX_LENGTH]);
        let salt = salt.decode_b64(&mut buffer).map_err(|why| hashing_error(&why))?;
        let out = out.get_mut(..right.len()).ok_or_else(|| hashing_error(&"a stored hash is too long"))?;
        hash_into(password, salt, out)?;
        // Outputs are compared in constant time.
        let is_right = Output::new(out).map_err(|why| hashing_error(&why))? == right;
        return Ok(if is_right { PasswordCheck::Correct } else { PasswordCheck::Wrong });
    }
    match hasher()?.verify_password(password.reveal().as_bytes(), &stored) {
        Ok(()) => hash(password).map(PasswordCheck::CorrectRehashed),
        Err(_) => Ok(PasswordCheck::Wrong),
    }
}

fn is_current(stored: &PasswordHash<'_>) -> bool {
    let params = Params::try_from(stored).ok();
    let same = |params: Params| (params.m_cost(), params.t_cost(), params.p_cost()) == (MEMORY_KIB, PASSES, LANES);
    stored.algorithm == Algorithm::Argon2id.ident()
        && stored.version == Some(Version::V0x13.into())
        && params.is_some_and(same)
}

fn hashing_error(why: &dyn std::fmt::Display) -> PasswordError {
    PasswordError::Failed(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limits::ClientOrigin;

    const HERE: Requester = Requester::Administrator;

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    #[test]
    fn a_workspace_used_before_makes_no_other_hashes() {
        for text in ["one", "two", "three"] {
            let password = Password::new(text).unwrap();
            let hashed = hash(&password).unwrap();
            assert!(hasher().unwrap().verify_password(text.as_bytes(), &PasswordHash::new(&hashed).unwrap()).is_ok());
            assert_eq!(check_hash(&password, &hashed).unwrap(), PasswordCheck::Correct);
            assert_eq!(check_hash(&Password::new("other").unwrap(), &hashed).unwrap(), PasswordCheck::Wrong);
        }
    }

    #[tokio::test]
    async fn right_wrong_and_unknown() {
        let passwords = PasswordHashPool::new().unwrap();
        let stored = passwords.hash(&password("s3nha"), HERE).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_eq!(passwords.check(&password("s3nha"), Some(&stored), HERE).await.unwrap(), PasswordCheck::Correct);
        assert_eq!(passwords.check(&password("other"), Some(&stored), HERE).await.unwrap(), PasswordCheck::Wrong);
        assert_eq!(passwords.check(&password("nobody"), None, HERE).await.unwrap(), PasswordCheck::Wrong);
        assert!(passwords.check(&password("x"), Some("not a hash"), HERE).await.is_err());
    }

    #[tokio::test]
    async fn other_parameters_are_replaced() {
        let passwords = PasswordHashPool::new().unwrap();
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
        let salt = SaltString::encode_b64(&[7; 16]).unwrap();
        let stored = weak.hash_password(b"s3nha", &salt).unwrap().to_string();
        let PasswordCheck::CorrectRehashed(new) =
            passwords.check(&password("s3nha"), Some(&stored), HERE).await.unwrap()
        else {
            panic!("not rehashed")
        };
        assert_eq!(passwords.check(&password("s3nha"), Some(&new), HERE).await.unwrap(), PasswordCheck::Correct);
        assert_eq!(passwords.check(&password("other"), Some(&stored), HERE).await.unwrap(), PasswordCheck::Wrong);
    }

    #[tokio::test]
    async fn beyond_the_queue_it_is_busy_at_once_except_for_the_administrator() {
        let passwords = PasswordHashPool::with_bounds(1, 1).unwrap();
        let (secret, there) = (password("x"), Requester::Client(ClientOrigin::of("10.0.0.2".parse().unwrap())));
        let (first, second, third, fourth) = tokio::join!(
            passwords.hash(&secret, there),
            passwords.hash(&secret, there),
            passwords.hash(&secret, there),
            passwords.hash(&secret, Requester::Administrator)
        );
        assert!(first.is_ok() && second.is_ok() && fourth.is_ok());
        assert!(matches!(third, Err(PasswordError::Busy { .. })));
        assert!(passwords.hash(&secret, there).await.is_ok());
        assert_eq!(passwords.pending_count(), 0);
    }
}
