//! A notice that a command waits for the tracker, for commands that have nothing else to say meanwhile.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use localization::tr;
use tokio::time::timeout;

use crate::sys::UserNotifier;

/// A wait that is no longer needs no word.
///
/// A little longer than those who know another way wait for the tracker: they say so themselves.
const MOMENT: Duration = Duration::from_millis(2200);

/// Tells the user, once, that the tracker is waited for.
pub static TRACKER_WAIT_NOTIFIER: UserNotifier = UserNotifier::new();
static IS_TOLD: AtomicBool = AtomicBool::new(false);

/// Tells nobody from now on: there is something else to see.
pub fn silence_wait_notice() {
    IS_TOLD.store(true, Ordering::Relaxed);
}

/// Does `work`, which waits for the tracker at `address`, and says so when that takes longer than a moment.
pub(super) async fn notify_if_slow<T>(address: &str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    // Borrowed, so that the work goes on behind the notice.
    if let Ok(done) = timeout(MOMENT, &mut work).await {
        return done;
    }
    if !IS_TOLD.swap(true, Ordering::Relaxed) {
        TRACKER_WAIT_NOTIFIER.tell(&tr!("waiting for the tracker {address} to answer", address));
    }
    work.await
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_told_once() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        TRACKER_WAIT_NOTIFIER.set(move |words| heard.lock().unwrap().push(words.to_owned()));
        notify_if_slow("t:1", sleep(MOMENT / 2)).await;
        assert!(told.lock().unwrap().is_empty());
        for _ in 0..2 {
            notify_if_slow("t:1", sleep(MOMENT * 2)).await;
        }
        assert_eq!(*told.lock().unwrap(), ["waiting for the tracker t:1 to answer"]);
    }
}
