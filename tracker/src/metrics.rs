//! Metrics in the text format of Prometheus (OpenMetrics 1.0).
//!
//! | name | meaning |
//! |---|---|
//! | `tracker_connections`, `tracker_refused_connections_total` | open connections; those refused for lack of a slot |
//! | `tracker_closed_total{reason}` | connections that ended, by reason |
//! | `tracker_requests_total{action,code}` | answered requests, by the reply's code |
//! | `tracker_request_seconds{action}` | time from the complete request to its reply |
//! | `tracker_sessions`, `tracker_present_users`, `tracker_shared_files`, `tracker_catalogue_bytes` | figures of the registry |
//! | `tracker_subscribers`, `tracker_events_total` | subscribed connections; events since the start |
//! | `tracker_resyncs_total`, `tracker_events_dropped_total` | times that a subscriber fell too far behind, and the events it never got |
//! | `tracker_rooms`, `tracker_room_records_total` | rooms; membership records signed since the start |
//! | `tracker_hashes_waiting` | passwords being hashed or waiting for it |
//! | `tracker_store_commit_seconds{store}` | time to store a change of accounts or of presence |
//! | `tracker_store_read_seconds{store}` | time to read from the account store |
//! | `tracker_store_failing{store}` | 1 while the last change could not be stored |
//! | `tracker_store_reachable` | 0 while the database of the accounts can't be reached |
//! | `tracker_store_retries_total` | changes that were repeated because others came in between |
//! | `tracker_lease_seconds` | of several trackers: the time for which this one may still claim its users |
//! | `tracker_log_age_seconds` | of several trackers: the time since all shared changes were known here |
//! | `tracker_changes_waiting` | of several trackers: changes that wait for their transaction |

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The content type of [`TrackerMetrics::to_openmetrics`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type MetricLabel = (&'static str, &'static str);
type HistogramFamily<const N: usize> = Family<[MetricLabel; N], Histogram, fn() -> Histogram>;

/// All metrics. Counting is cheap and possible on any thread.
#[derive(Debug)]
pub struct TrackerMetrics {
    /// Open connections.
    pub connections: Gauge,
    /// Connections refused for lack of a slot.
    pub refused_connections: Counter,
    /// Connections with a subscription.
    pub subscribers: Gauge,
    /// Times that a subscriber fell so far behind that it missed events.
    pub resyncs: Counter,
    /// Events that subscribers missed.
    pub events_dropped: Counter,
    closed: Family<[MetricLabel; 1], Counter>,
    requests: Family<[MetricLabel; 2], Counter>,
    request_seconds: HistogramFamily<1>,
    commit_seconds: HistogramFamily<1>,
    read_seconds: HistogramFamily<1>,
    store_failing: Family<[MetricLabel; 1], Gauge>,
    /// Membership records of rooms that were signed.
    pub room_records: Counter,
    /// Changes of accounts and rooms that were repeated because others came in between.
    pub store_retries: Counter,
    /// 1 while the account store can be reached.
    pub store_reachable: Gauge,
    snapshot: SnapshotGauges,
    registry: Mutex<Registry>,
}

/// The figures that are read only when metrics are requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetricsSnapshot {
    /// Sessions, attached ones included.
    pub sessions: usize,
    /// Present users.
    pub present: usize,
    /// Files that they share.
    pub files: usize,
    /// Memory that those files take, about.
    pub catalogue_bytes: usize,
    /// Events since the start.
    pub events: u64,
    /// Passwords being hashed or waiting for it.
    pub hashes: usize,
    /// Rooms.
    pub rooms: usize,
    /// The state of one of several trackers; zero for the only one.
    pub replication: ReplicationSnapshot,
}

/// The state of one of several trackers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicationSnapshot {
    /// The time for which it may still claim its users.
    pub lease: Duration,
    /// The time since it knew all shared changes.
    pub log_age: Duration,
    /// Changes that wait for their transaction.
    pub waiting: usize,
}

#[derive(Debug, Default)]
struct SnapshotGauges {
    sessions: Gauge,
    present: Gauge,
    files: Gauge,
    catalogue_bytes: Gauge,
    events: Counter,
    hashes: Gauge,
    rooms: Gauge,
    lease: Gauge<f64, AtomicU64>,
    log_age: Gauge<f64, AtomicU64>,
    changes: Gauge,
}

/// The two stores.
#[derive(Debug, Clone, Copy)]
pub enum StoreKind {
    /// Accounts and bindings.
    Accounts,
    /// Presence.
    Presence,
}

impl StoreKind {
    const fn label(self) -> [MetricLabel; 1] {
        [(
            "store",
            match self {
                Self::Accounts => "accounts",
                Self::Presence => "presence",
            },
        )]
    }
}

impl TrackerMetrics {
    /// Creates all metrics at zero.
    pub fn new() -> Self {
        // From 0.1 ms to 6.5 s: a reply from memory at one end, a disk in trouble at the other.
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_1, 4.0, 9));
        let metrics = Self {
            connections: Gauge::default(),
            refused_connections: Counter::default(),
            subscribers: Gauge::default(),
            resyncs: Counter::default(),
            events_dropped: Counter::default(),
            closed: Family::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            commit_seconds: Family::new_with_constructor(seconds),
            read_seconds: Family::new_with_constructor(seconds),
            store_failing: Family::default(),
            room_records: Counter::default(),
            store_retries: Counter::default(),
            store_reachable: Gauge::default(),
            snapshot: SnapshotGauges::default(),
            registry: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    /// Records one answered request. `action` is `None` for a request without a known action.
    pub fn record_request(&self, action: Option<&'static str>, code: &'static str, took: Duration) {
        // One label for all unknown actions: clients must not be able to create series.
        let action = ("action", action.unwrap_or("other"));
        self.requests.get_or_create(&[action, ("code", code)]).inc();
        self.request_seconds.get_or_create(&[action]).observe(took.as_secs_f64());
    }

    /// Records the end of a connection.
    pub fn record_close(&self, reason: &'static str) {
        self.closed.get_or_create(&[("reason", reason)]).inc();
    }

    /// Records an attempt to store a change.
    pub fn record_commit(&self, store: StoreKind, took: Duration, is_stored: bool) {
        self.commit_seconds.get_or_create(&store.label()).observe(took.as_secs_f64());
        self.store_failing.get_or_create(&store.label()).set(i64::from(!is_stored));
    }

    /// Records a read from a store.
    pub fn record_read(&self, store: StoreKind, took: Duration) {
        self.read_seconds.get_or_create(&store.label()).observe(took.as_secs_f64());
    }

    /// Encodes all metrics as text.
    pub fn to_openmetrics(&self, now: MetricsSnapshot) -> String {
        let SnapshotGauges { sessions, present, files, catalogue_bytes, events, hashes, rooms, .. } = &self.snapshot;
        let SnapshotGauges { lease, log_age, changes, .. } = &self.snapshot;
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        sessions.set(count(now.sessions));
        present.set(count(now.present));
        files.set(count(now.files));
        catalogue_bytes.set(count(now.catalogue_bytes));
        hashes.set(count(now.hashes));
        rooms.set(count(now.rooms));
        lease.set(now.replication.lease.as_secs_f64());
        log_age.set(now.replication.log_age.as_secs_f64());
        changes.set(count(now.replication.waiting));
        // A counter can't be set: it advances by the difference.
        events.inc_by(now.events.saturating_sub(events.get()));
        let mut text = String::new();
        // Writing into a string can't fail.
        let _ = encode(&mut text, &self.registry.lock());
        text
    }

    fn register(&self) {
        let mut registry = Registry::with_prefix("tracker");
        let SnapshotGauges { sessions, present, files, catalogue_bytes, events, hashes, rooms, .. } = &self.snapshot;
        let SnapshotGauges { lease, log_age, changes, .. } = &self.snapshot;
        registry.register("lease_seconds", "How long this tracker may still claim its users", lease.clone());
        registry.register("log_age_seconds", "Time since all shared changes were known here", log_age.clone());
        registry.register("changes_waiting", "Changes that wait for their transaction", changes.clone());
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register("refused_connections", "Connections turned away", self.refused_connections.clone());
        registry.register("closed", "Connections that ended, by why", self.closed.clone());
        registry.register("requests", "Requests answered, by action and code", self.requests.clone());
        registry.register("request_seconds", "Time to answer a request", self.request_seconds.clone());
        registry.register("sessions", "Sessions, present or only authenticated", sessions.clone());
        registry.register("present_users", "Users that are present", present.clone());
        registry.register("shared_files", "Files that present users share", files.clone());
        registry.register("catalogue_bytes", "About the memory those files take", catalogue_bytes.clone());
        registry.register("subscribers", "Connections that events go out on", self.subscribers.clone());
        registry.register("events", "Events since the start", events.clone());
        registry.register("resyncs", "Times a subscriber missed events", self.resyncs.clone());
        registry.register("hashes_waiting", "Passwords being hashed or waiting for it", hashes.clone());
        registry.register("rooms", "Rooms", rooms.clone());
        registry.register("room_records", "Membership records signed since the start", self.room_records.clone());
        registry.register("events_dropped", "Events that subscribers missed", self.events_dropped.clone());
        registry.register("store_commit_seconds", "Time to store a change", self.commit_seconds.clone());
        registry.register("store_read_seconds", "Time to look something up", self.read_seconds.clone());
        registry.register("store_failing", "Whether the last change could not be stored", self.store_failing.clone());
        registry.register(
            "store_retries",
            "Changes repeated because others came in between",
            self.store_retries.clone(),
        );
        registry.register("store_reachable", "Whether the account store can be reached", self.store_reachable.clone());
        // An embedded store is never away, and nothing else sets this for it.
        self.store_reachable.set(1);
        // Created now, so that both series exist before the first failure.
        for store in [StoreKind::Accounts, StoreKind::Presence] {
            self.store_failing.get_or_create(&store.label()).set(0);
        }
        *self.registry.lock() = registry;
    }
}

impl Default for TrackerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_what_was_counted() {
        let metrics = TrackerMetrics::new();
        metrics.connections.inc();
        metrics.record_request(Some("LOGIN"), "ok", Duration::from_millis(3));
        metrics.record_request(None, "bad_json", Duration::ZERO);
        metrics.record_commit(StoreKind::Accounts, Duration::from_millis(1), false);
        metrics.record_read(StoreKind::Accounts, Duration::from_millis(1));
        metrics.record_close("unread");
        let replication =
            ReplicationSnapshot { lease: Duration::from_secs(6), log_age: Duration::from_millis(500), waiting: 4 };
        let snapshot = MetricsSnapshot { present: 3, events: 7, rooms: 2, replication, ..MetricsSnapshot::default() };
        let text = metrics.to_openmetrics(snapshot);
        for line in [
            "tracker_connections 1",
            r#"tracker_closed_total{reason="unread"} 1"#,
            r#"tracker_requests_total{action="LOGIN",code="ok"} 1"#,
            r#"tracker_requests_total{action="other",code="bad_json"} 1"#,
            r#"tracker_request_seconds_count{action="LOGIN"} 1"#,
            r#"tracker_store_commit_seconds_count{store="accounts"} 1"#,
            r#"tracker_store_read_seconds_count{store="accounts"} 1"#,
            r#"tracker_store_failing{store="accounts"} 1"#,
            r#"tracker_store_failing{store="presence"} 0"#,
            "tracker_events_dropped_total 0",
            "tracker_present_users 3",
            "tracker_events_total 7",
            "tracker_rooms 2",
            "tracker_room_records_total 0",
            "tracker_store_reachable 1",
            "tracker_store_retries_total 0",
            "tracker_lease_seconds 6.0",
            "tracker_log_age_seconds 0.5",
            "tracker_changes_waiting 4",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
