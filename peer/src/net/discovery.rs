//! Discovery of trackers announced on the local network (mDNS/DNS-SD, `_vizinho._tcp.local.`).
//!
//! Anybody on the network can announce anything, at any rate, and withdraw the announcements of others: an
//! announcement is a hint. Only its addresses, port, protocol version (TXT `v`) and fingerprint (TXT `fp`) are used,
//! after they were parsed; its name is untrusted text. A client that uses an announcement pins its fingerprint.
//!
//! Listening continues while the announced addresses are probed. Whether there is exactly one tracker is decided by
//! all keys heard until the end, not only by those that answer ([`DiscoveryResult::is_settled`]).
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | keys | 32, and the expected one | dropped; the result counts as cut off |
//! | announcements of one key, also under one name | 32, of 8 new addresses each | dropped |
//! | names heard without a key | 64 | the result counts as cut off |
//! | parallel connections to announced addresses | 64, the keys in turn | the others wait |
//! | time for all these connections | 6 s, and again for keys heard meanwhile | the rest counts as silent |
//! | packets | none is kept: [`mdns`] has no cache | |

mod announcements;
mod reachability_probe;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use localization::tr;
use mdns::{Browser, StopHandle, stop_pair};
use parking_lot::{Mutex, MutexGuard};
use shared::Fingerprint;

use self::announcements::Announcements;
use self::reachability_probe::probe_candidates;
use super::tracker::TrackerAddress;

/// Time of listening before the first probe: answering first gives no advantage.
pub const LISTEN_DURATION: Duration = Duration::from_secs(2);

/// The trackers announced on the local network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryResult {
    /// One entry per key; those that answer come first, then ordered by address.
    pub trackers: Vec<AnnouncedTracker>,
    /// True if entries were dropped, so that there may be more trackers.
    pub is_cut_off: bool,
    /// True if nothing was announced or withdrawn while the addresses were probed.
    pub is_settled: bool,
}

/// An announced tracker and the result of its probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedTracker {
    /// The announced fingerprint.
    pub fingerprint: Fingerprint,
    /// The best of its addresses.
    pub address: SocketAddr,
    /// The address of each announcement at which the key was proved: several trackers may share their users and a key.
    pub places: Vec<SocketAddr>,
    /// The announced name: untrusted text.
    pub name: String,
    /// The best result of all its addresses.
    pub reachability: Reachability,
}

impl AnnouncedTracker {
    /// Returns the address with all places, the best first.
    pub fn tracker_address(&self) -> TrackerAddress {
        let best = TrackerAddress::from(self.address);
        best.with_places(&self.places).unwrap_or(best)
    }
}

/// The result of probing an announced address, ordered from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reachability {
    /// A server presented the announced key.
    Proved,
    /// A server accepted the connection and didn't present the key.
    Unproved,
    /// Nothing answered.
    Silent,
}

/// The reason why discovery isn't possible.
#[derive(Debug, thiserror::Error)]
#[error("{}", tr!("the local network can't be listened to: {why}", why = .0))]
pub struct DiscoveryError(#[from] std::io::Error);

/// Listens for [`LISTEN_DURATION`] and probes the announced trackers, still listening. With an `expected_key`, that key
/// is always heard, however many others are announced, and only its addresses are probed. Fails with [`DiscoveryError`]
/// if mDNS can't be started.
pub async fn discover_trackers(expected_key: Option<Fingerprint>) -> Result<DiscoveryResult, DiscoveryError> {
    let listener = AnnouncementListener::start(expected_key)?;
    tokio::time::sleep(LISTEN_DURATION).await;
    let first = listener.announcements().candidates();
    let mut trackers = probe_candidates(&first).await;
    // Keys heard meanwhile are probed once: the user chooses from this list, so it should be complete.
    let late_candidates = listener.announcements().new_candidates(&first);
    trackers.extend(probe_candidates(&late_candidates).await);
    let announcements = listener.finish().await;
    trackers.sort_by_key(|tracker| (tracker.reachability, tracker.address, tracker.fingerprint));
    // A tracker is chosen without asking only if nothing changed meanwhile: an impostor can crowd out or
    // withdraw the announcements of others.
    let is_settled =
        late_candidates.is_empty() && announcements.candidates().len() == first.len() && !announcements.has_changed();
    Ok(DiscoveryResult { trackers, is_cut_off: announcements.is_cut_off(), is_settled })
}

/// A thread that records announcements until it is stopped.
struct AnnouncementListener {
    announcements: Arc<Mutex<Announcements>>,
    stop: StopHandle,
    thread: std::thread::JoinHandle<()>,
}

impl AnnouncementListener {
    fn start(expected_key: Option<Fingerprint>) -> Result<Self, DiscoveryError> {
        let browser = Browser::open()?;
        let (stop, signal) = stop_pair()?;
        let announcements = Arc::new(Mutex::new(Announcements::new(expected_key)));
        let noted = Arc::clone(&announcements);
        let listen = move || {
            browser.run(&signal, |event| noted.lock().record(event));
        };
        let thread = std::thread::Builder::new().name("mdns".to_owned()).spawn(listen)?;
        Ok(Self { announcements, stop, thread })
    }

    fn announcements(&self) -> MutexGuard<'_, Announcements> {
        self.announcements.lock()
    }

    async fn finish(self) -> Announcements {
        let Self { announcements, stop, thread } = self;
        drop(stop);
        // The record is complete once the thread has ended.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        announcements.lock().clone()
    }
}
