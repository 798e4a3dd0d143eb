//! Password hashing with Argon2id, on threads of its own, on all cores but one.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | hashes at a time | one for each core but the last (19 MiB each), at least one | they wait |
//! | waiting hashes | `WAITING_PER_CORE` for each of those cores | the newest of the address that has most waiting is refused: `busy` with a time to come back |
//! | waiting hashes of the local administrator | `ADMINISTRATOR_QUEUE`, besides the others | `busy` |
//!
//! Addresses take turns and the administrator comes first: however many hashes one address requests, a client at
//! another waits for about as many hashes as there are addresses that request some.
//!
//! One core stays free for everything else, however many passwords are guessed: a scheduler may let a computing thread
//! run for milliseconds before a thread with a request gets its turn. For machines with one or two cores, the
//! hashing threads also have the lowest ordinary priority, which still gives logins about a seventieth of a core
//! during a flood of other requests.
//!
//! The permit moves into the blocking task, so that clients that go away can't cause more hashes than cores. An unknown
//! user costs a hash as well, against a dummy: neither answer nor time reveals whether a name exists.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::{Output, PasswordHash, PasswordHasher, PasswordVerifier, Salt, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use shared::UserName;
use shared::tracker::{IdempotencyKey, Password};
use tokio::runtime::{Builder, Runtime};

use crate::fair_semaphore::FairSemaphore;
pub use crate::fair_semaphore::Requester;

/// Waiting hashes for each core.
const WAITING_PER_CORE: usize = 128;
/// Waiting hashes of the local administrator.
const ADMINISTRATOR_QUEUE: usize = 16;
/// Advice to clients when too many wait: about the time in which the queue empties.
const RETRY_AFTER: Duration = Duration::from_millis(2000);

/// The nice value of the hashing threads.
const HASH_THREAD_NICENESS: i32 = 19;

// The parameters that OWASP recommends as a minimum for Argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A pool of threads that hash and check passwords.
#[derive(Debug)]
pub struct PasswordHashPool {
    /// Used for its blocking threads only; `None` while this is dropped.
    threads: Option<Runtime>,
    permits: Arc<FairSemaphore>,
    dummy_hash: Arc<str>,
}

/// The salt of a new hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashSalt([u8; 16]);

impl HashSalt {
    /// Returns a random salt.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Returns the salt of all repetitions of one request about an account: whether they made its hash is seen from that
    /// alone. A random one for a request without a key.
    pub fn of_request(key: Option<IdempotencyKey>, user: &UserName) -> Self {
        key.map_or_else(Self::random, |key| Self(key.derive("salt", user)))
    }

    /// Returns whether a stored hash was made with this salt.
    pub fn is_that_of(self, stored: &str) -> bool {
        let mut buffer = [0; Salt::MAX_LENGTH];
        let stored = PasswordHash::new(stored).ok().and_then(|hash| hash.salt);
        stored.and_then(|salt| salt.decode_b64(&mut buffer).ok()).is_some_and(|salt| *salt == self.0)
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordCheck {
    /// The password is wrong, or there is no such user.
    Wrong,
    /// The password is right.
    Correct,
    /// The password is right, and its hash has outdated parameters: this one should be stored instead.
    CorrectRehashed(String),
}

/// The reason why a password was neither hashed nor checked.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum PasswordError {
    #[error("too many passwords are being checked")]
    Busy {
        /// The time to wait before another attempt.
        retry_after: Duration,
    },
    #[error("a password can't be hashed: {0}")]
    Failed(String),
}

impl PasswordHashPool {
    /// Creates a pool for all cores but one, or for the only one. Fails with [`PasswordError::Failed`] when the dummy
    /// can't be hashed.
    pub fn new() -> Result<Self, PasswordError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let ours = cores.saturating_sub(1).max(1);
        Self::with_bounds(ours, ours * WAITING_PER_CORE)
    }

    /// Hashes a password with a salt; the result is a PHC string. Fails with [`PasswordError::Busy`] when too many wait;
    /// [`PasswordError::Failed`].
    pub async fn hash(
        &self,
        password: &Password,
        salt: HashSalt,
        requester: Requester,
    ) -> Result<String, PasswordError> {
        let password = password.clone();
        self.run_on_hash_thread(requester, move || hash(&password, salt)).await
    }

    /// Checks a password against a stored hash. Without one the check takes as long and fails. Fails with
    /// [`PasswordError::Busy`] when too many wait; [`PasswordError::Failed`].
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

    /// Returns the number of passwords that are being hashed or wait for it.
    pub fn pending_count(&self) -> usize {
        self.permits.used_or_awaited()
    }

    fn with_bounds(cores: usize, waiting: usize) -> Result<Self, PasswordError> {
        let nobody = Password::new("nobody").ok_or_else(|| PasswordError::Failed("no dummy".to_owned()))?;
        // No task runs on it: all that is used are its blocking threads.
        let threads = Builder::new_current_thread()
            .thread_name("passwords")
            // As many threads as permits: a hash with a permit never waits for a thread.
            .max_blocking_threads(cores)
            .on_thread_start(lower_thread_priority)
            .build()
            .map_err(|why| hashing_error(&why))?;
        Ok(Self {
            threads: Some(threads),
            permits: Arc::new(FairSemaphore::new(cores, waiting, ADMINISTRATOR_QUEUE)),
            dummy_hash: hash(&nobody, HashSalt::random())?.into(),
        })
    }

    async fn run_on_hash_thread<T: Send + 'static>(
        &self,
        requester: Requester,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let permit = self.permits.acquire(requester).await.ok_or(PasswordError::Busy { retry_after: RETRY_AFTER })?;
        let threads = self.threads.as_ref().ok_or_else(|| hashing_error(&"it ends"))?;
        let task = threads.spawn_blocking(move || {
            // The permit lasts as long as the hash, even if the requester goes away.
            let _held_until_done = permit;
            work()
        });
        task.await.map_err(|why| hashing_error(&why))?
    }
}

impl Drop for PasswordHashPool {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            // Not awaited: nobody waits for the results any more.
            threads.shutdown_background();
        }
    }
}

/// Lowers this thread's priority. Only Linux has priorities by thread.
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
    /// The memory of this thread's last hash. Returning 19 MiB to the system and taking them again for each hash would
    /// hold up the whole process: both change the memory map, which all threads share.
    static WORKSPACE: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Hashes `password` with this salt and the current parameters into `out`.
fn hash_into(password: &Password, salt: &[u8], out: &mut [u8]) -> Result<(), PasswordError> {
    let hasher = hasher()?;
    WORKSPACE.with_borrow_mut(|blocks| {
        blocks.resize(hasher.params().block_count(), Block::default());
        let hashed = hasher.hash_password_into_with_memory(password.reveal().as_bytes(), salt, out, &mut *blocks);
        hashed.map_err(|why| hashing_error(&why))
    })
}

fn hash(password: &Password, salt: HashSalt) -> Result<String, PasswordError> {
    let salt = SaltString::encode_b64(&salt.0).map_err(|why| hashing_error(&why))?;
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
        // `Output` compares in constant time.
        let is_right = Output::new(out).map_err(|why| hashing_error(&why))? == right;
        return Ok(if is_right { PasswordCheck::Correct } else { PasswordCheck::Wrong });
    }
    // Hashes with other parameters or algorithms are verified as stored, without the reused memory.
    match hasher()?.verify_password(password.reveal().as_bytes(), &stored) {
        Ok(()) => hash(password, HashSalt::random()).map(PasswordCheck::CorrectRehashed),
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
            let hashed = hash(&password, HashSalt::random()).unwrap();
            assert!(hasher().unwrap().verify_password(text.as_bytes(), &PasswordHash::new(&hashed).unwrap()).is_ok());
            assert_eq!(check_hash(&password, &hashed).unwrap(), PasswordCheck::Correct);
            assert_eq!(check_hash(&Password::new("other").unwrap(), &hashed).unwrap(), PasswordCheck::Wrong);
        }
    }

    #[tokio::test]
    async fn right_wrong_and_unknown() {
        let passwords = PasswordHashPool::new().unwrap();
        let stored = passwords.hash(&password("s3nha"), HashSalt::random(), HERE).await.unwrap();
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
            passwords.hash(&secret, HashSalt::random(), there),
            passwords.hash(&secret, HashSalt::random(), there),
            passwords.hash(&secret, HashSalt::random(), there),
            passwords.hash(&secret, HashSalt::random(), Requester::Administrator)
        );
        assert!(first.is_ok() && second.is_ok() && fourth.is_ok());
        assert!(matches!(third, Err(PasswordError::Busy { .. })));
        assert!(passwords.hash(&secret, HashSalt::random(), there).await.is_ok());
        assert_eq!(passwords.pending_count(), 0);
    }
}
