//! Trackers that tell of themselves on the local network (mDNS/DNS-SD, `_vizinho._tcp.local.`).
//!
//! Anybody on the network can announce anything, as often as they like, and take back what others announced: what is
//! heard is a hint. Of an announcement its addresses, port, protocol version (TXT `v`) and fingerprint (TXT `fp`) are
//! looked at, and only once they are parsed; its name is text from a stranger. Whoever believes one demands that
//! fingerprint of the tracker's certificate.
//!
//! Listening goes on while the announced addresses are looked at: whether there is one tracker is decided on all keys
//! that were heard until the end, and not on those that answer ([`DiscoveryResult::is_settled`]).
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | keys | 32, and the one that is wanted | left out; the list counts as cut off |
//! | announcements of one key | 32, of 8 addresses each | left out |
//! | names that were heard without a key | 64 | the list counts as cut off |
//! | connections at a time to announced addresses | 64, the keys in turn | they wait |
//! | time for all of these connections | 6 s, and again for keys that are heard meanwhile | the rest counts as silent |

mod announcements;
mod reachability_probe;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mdns_sd::{Receiver, ServiceDaemon, ServiceEvent};
use shared::Fingerprint;

use self::announcements::Announcements;
use self::reachability_probe::probe_candidates;

/// The service's type.
const SERVICE: &str = "_vizinho._tcp.local.";
/// How long is listened before anything is looked at; somebody who answers sooner than all others wins nothing by it.
pub const LISTEN_DURATION: Duration = Duration::from_secs(2);
/// Between two looks of the listener whether it is to end.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// All that tells of itself on the local network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryResult {
    /// Each key once, those that answer before the silent ones, ordered by address.
    pub trackers: Vec<AnnouncedTracker>,
    /// Whether there may be more than is listed.
    pub is_cut_off: bool,
    /// Whether the list was the same when it was made and when all of it had been looked at.
    pub is_settled: bool,
}

/// A tracker as it was announced, and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedTracker {
    /// The key its certificate is said to have.
    pub fingerprint: Fingerprint,
    /// The best of the addresses at which it is said to be.
    pub address: SocketAddr,
    /// What whoever announced that address calls it: any text.
    pub name: String,
    /// What was found there.
    pub reachability: Reachability,
}

/// What is found at an announced address; the better comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reachability {
    /// Somebody who has the key.
    Proved,
    /// Somebody who takes connections and doesn't show the key.
    Unproved,
    /// Nobody.
    Silent,
}

/// Why nothing can be heard.
#[derive(Debug, thiserror::Error)]
#[error("the local network can't be listened to: {0}")]
pub struct DiscoveryError(String);

/// Listens for [`LISTEN_DURATION`], and on while it looks who is there. Where one key is `wanted`, that one is heard whatever
/// else is announced, and nobody else is looked at.
///
/// # Errors
/// [`DiscoveryError`].
pub async fn discover_trackers(expected_key: Option<Fingerprint>) -> Result<DiscoveryResult, DiscoveryError> {
    let listener = AnnouncementListener::start(expected_key)?;
    tokio::time::sleep(LISTEN_DURATION).await;
    let first = listener.announcements().candidates();
    let mut trackers = probe_candidates(&first).await;
    // Who came meanwhile is looked at as well, once: the list is for somebody to choose from.
    let late_candidates = listener.announcements().new_candidates(&first);
    trackers.extend(probe_candidates(&late_candidates).await);
    let announcements = listener.finish().await;
    trackers.sort_by_key(|tracker| (tracker.reachability, tracker.address, tracker.fingerprint));
    let is_settled =
        late_candidates.is_empty() && announcements.candidates().len() == first.len() && !announcements.has_changed();
    Ok(DiscoveryResult { trackers, is_cut_off: announcements.is_cut_off(), is_settled })
}

/// A thread that takes note of announcements until it is told to end.
struct AnnouncementListener {
    announcements: Arc<Mutex<Announcements>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl AnnouncementListener {
    fn start(expected_key: Option<Fingerprint>) -> Result<Self, DiscoveryError> {
        // The library counts milliseconds since 1970, and panics where there are none.
        if SystemTime::now() < UNIX_EPOCH {
            return Err(DiscoveryError("this machine's clock is before 1970".to_owned()));
        }
        let failed = |why: mdns_sd::Error| DiscoveryError(why.to_string());
        let daemon = ServiceDaemon::new().map_err(failed)?;
        let events = daemon.browse(SERVICE).map_err(failed)?;
        let announcements = Arc::new(Mutex::new(Announcements::new(expected_key)));
        let stop = Arc::new(AtomicBool::new(false));
        let (noted, ends) = (Arc::clone(&announcements), Arc::clone(&stop));
        let listen = move || {
            record_announcements(&events, &noted, &ends);
            // It ends by itself when nobody holds it any more; asked, it does so now.
            let _ = daemon.shutdown();
        };
        let thread = std::thread::Builder::new().name("mdns".to_owned()).spawn(listen);
        let thread = thread.map_err(|why| DiscoveryError(why.to_string()))?;
        Ok(Self { announcements, stop, thread: Some(thread) })
    }

    fn announcements(&self) -> MutexGuard<'_, Announcements> {
        self.announcements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn finish(mut self) -> Announcements {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        // What it leaves is complete as soon as it ended; a panic of it is that of its library.
        let _ = tokio::task::spawn_blocking(move || thread.map(std::thread::JoinHandle::join)).await;
        self.announcements().clone()
    }
}

impl Drop for AnnouncementListener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn record_announcements(events: &Receiver<ServiceEvent>, announcements: &Mutex<Announcements>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match events.recv_timeout(STOP_POLL_INTERVAL) {
            Ok(event) => announcements.lock().unwrap_or_else(PoisonError::into_inner).record(event),
            // Nothing within that time, or nothing any more: the pause keeps the latter from spinning.
            Err(_) if events.is_disconnected() => std::thread::sleep(STOP_POLL_INTERVAL),
            Err(_) => {}
        }
    }
}
