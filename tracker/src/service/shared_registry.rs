//! The registry as all connections share it: its lock, and what they wait for.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::catalogue::FileList;
use crate::registry::{PresenceRegistry, SessionId};

/// The registry behind a mutex that is held for microseconds, never across an await.
#[derive(Debug)]
pub(super) struct SharedRegistry {
    registry: Mutex<PresenceRegistry>,
    /// The number of the last event: subscribers wait for it to change.
    last_event: watch::Sender<u64>,
    /// The time at which a coalesced event is due; `None`: no event is held back.
    due_event: watch::Sender<Option<Instant>>,
    /// Changes when a user's sessions are revoked: each connection then looks whether one of them is its own.
    last_revocation: watch::Sender<SessionId>,
    /// Wakes the replicator when there is something for the log.
    log_wake: Arc<Notify>,
}

impl SharedRegistry {
    /// Shares a registry. Its events so far count as earlier ones: nobody waits for them.
    pub(super) fn new(registry: PresenceRegistry) -> Self {
        Self {
            last_event: watch::Sender::new(registry.last_event()),
            due_event: watch::Sender::new(registry.next_event_due()),
            last_revocation: watch::Sender::new(SessionId::default()),
            log_wake: Arc::default(),
            registry: Mutex::new(registry),
        }
    }

    /// Runs `work` with the registry after expiring leases, and wakes subscribers if it made events.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut PresenceRegistry, Instant) -> T) -> T {
        // A panic while the lock is held is a bug that the log shows; refusing everybody afterwards wouldn't mend it.
        let mut registry = self.registry.lock();
        // Read before leases expire: the events of their ends wake subscribers, too.
        let (before, was_due) = (registry.last_event(), registry.next_event_due());
        let rooms_before = registry.last_room_change();
        let now = Instant::now();
        // So that no action sees a presence whose lease has run out.
        registry.expire(now);
        let result = work(&mut registry, now);
        let (last, last_expulsion) = (registry.last_event(), registry.last_revocation());
        let (discarded, due) = (registry.take_discarded(), registry.next_event_due());
        let has_room_changes = registry.last_room_change() != rooms_before;
        let has_work_for_log = registry.has_work_for_log();
        if due != was_due {
            // Under the lock: the time goes forth and back, so that only the order of the changes tells which is the last.
            self.due_event.send_replace(due);
        }
        drop(registry);
        if has_work_for_log {
            self.log_wake.notify_one();
        }
        // Freed outside the lock: a long list takes a while to drop.
        drop_in_background(discarded);
        // Threads leave the lock in one order and arrive here in another: the watched numbers must never go back.
        self.last_revocation.send_if_modified(|watched| {
            let newer = last_expulsion > *watched;
            *watched = last_expulsion.max(*watched);
            newer
        });
        if last != before || has_room_changes {
            self.last_event.send_if_modified(|watched| {
                let newer = last > *watched;
                *watched = last.max(*watched);
                // Changes of rooms have no number, but wake those who wait for one.
                newer || has_room_changes
            });
        }
        result
    }

    /// Returns what is woken when there are changes or events for the log.
    pub(super) fn log_wake(&self) -> Arc<Notify> {
        Arc::clone(&self.log_wake)
    }

    pub(super) fn watch_events(&self) -> watch::Receiver<u64> {
        self.last_event.subscribe()
    }

    pub(super) fn watch_due_events(&self) -> watch::Receiver<Option<Instant>> {
        self.due_event.subscribe()
    }

    pub(super) fn watch_revocations(&self) -> watch::Receiver<SessionId> {
        self.last_revocation.subscribe()
    }
}

/// Drops long lists on the blocking pool.
pub(super) fn drop_in_background(mut files: Vec<FileList>) {
    // Short lists are freed right here, which is cheaper than a task.
    files.retain(FileList::is_long);
    if let (false, Ok(runtime)) = (files.is_empty(), Handle::try_current()) {
        drop(runtime.spawn_blocking(move || drop(files)));
    }
}

/// Returns a number above every number that an earlier process used, unless it made a million events a second.
/// It is below 2^53, so JSON numbers carry it exactly.
pub(super) fn first_event() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}
