//! Turns at an account: one change of its profile at a time.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::UserName;
use tokio::sync::OwnedMutexGuard;

type AccountLock = Arc<tokio::sync::Mutex<()>>;

/// The accounts whose profiles are being changed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AccountTurns(Arc<Mutex<HashMap<UserName, AccountLock>>>);

/// The turn at an account, until it is dropped.
#[derive(Debug)]
pub struct AccountTurn {
    turns: AccountTurns,
    user: UserName,
    /// `None` only while it is dropped.
    guard: Option<OwnedMutexGuard<()>>,
}

impl AccountTurns {
    /// Waits for the turn at this account. Cancel-safe.
    pub async fn take(&self, user: &UserName) -> AccountTurn {
        let lock = self.0.lock().entry(user.clone()).or_default().clone();
        // Made first: a caller that stops waiting must remove its entry, too.
        let mut turn = AccountTurn { turns: self.clone(), user: user.clone(), guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for AccountTurn {
    fn drop(&mut self) {
        // Released first, as the guard holds one of the owners that are counted.
        self.guard = None;
        let mut turns = self.turns.0.lock();
        // Under the table's lock nobody can begin to wait: one owner is the table alone.
        if turns.get(&self.user).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            turns.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left() {
        let (turns, bob): (AccountTurns, UserName) = (AccountTurns::default(), "bob".parse().unwrap());
        let first = turns.take(&bob).await;
        let other = turns.take(&"ana".parse().unwrap()).await;
        let mut second = Box::pin(turns.take(&bob));
        assert!(futures_poll(second.as_mut()).is_none());
        // One that stops waiting leaves nothing behind.
        {
            let mut third = Box::pin(turns.take(&bob));
            assert!(futures_poll(third.as_mut()).is_none());
        }
        drop((first, other));
        let second = second.await;
        assert_eq!(turns.0.lock().len(), 1);
        drop(second);
        assert!(turns.0.lock().is_empty());
    }

    fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
