//! When the node sends a heartbeat. Pure.
//!
//! One each [`HEARTBEAT_INTERVAL`] keeps the node present. Where another tracker may take its place, a tracker that says
//! nothing is asked sooner whether it still lives: the system answers for a frozen one, and nobody for one whose network is
//! gone. A tracker that tells of others' coming and going is not asked.

use std::time::{Duration, Instant};

use shared::limits::HEARTBEAT_INTERVAL;

use crate::net::tracker::TrackerConnection;

/// Silence of a tracker after which it is asked whether it lives, if there are others.
///
/// With [`REPLY_TIMEOUT_OF_SEVERAL`] and the pause before a new connection it is less than the 15 s within which a node has to
/// be elsewhere. Each connection takes its own part of it: all nodes hear the same event at the same moment.
pub(super) const QUIET_LIMIT: Duration = Duration::from_secs(5);
/// Deadline for the reply to a heartbeat.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// The same if there are other trackers.
const REPLY_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(7);

/// The heartbeats of one connection.
#[derive(Debug)]
pub(super) struct HeartbeatSchedule {
    renewed: Instant,
    /// The silence after which the tracker is asked; `None` if there is no other.
    quiet_limit: Option<Duration>,
}

impl HeartbeatSchedule {
    /// The first one is not due at once: the connection has just shown that it is alive. `jitter` is from 0 to 1.
    pub(super) fn new(is_of_several: bool, jitter: f64, now: Instant) -> Self {
        let quiet_limit = is_of_several.then(|| QUIET_LIMIT.mul_f64(0.5 + jitter / 2.0));
        Self { renewed: now, quiet_limit }
    }

    /// Records a reply to a heartbeat.
    pub(super) const fn note_renewed(&mut self, now: Instant) {
        self.renewed = now;
    }

    /// Returns the time of the next heartbeat to a tracker that said something at `heard`.
    pub(super) fn due(&self, heard: Instant) -> Instant {
        let renewal = self.renewed + HEARTBEAT_INTERVAL;
        self.quiet_limit.map_or(renewal, |limit| renewal.min(heard + limit))
    }
}

/// Returns how long the reply to a heartbeat is waited for.
pub(super) const fn reply_timeout(link: &TrackerConnection) -> Duration {
    if link.is_of_several() { REPLY_TIMEOUT_OF_SEVERAL } else { REPLY_TIMEOUT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_tracker_is_asked_sooner_only_if_there_are_others() {
        let begin = Instant::now();
        let alone = HeartbeatSchedule::new(false, 1.0, begin);
        let mut one_of_two = HeartbeatSchedule::new(true, 1.0, begin);
        assert_eq!((alone.due(begin), one_of_two.due(begin)), (begin + HEARTBEAT_INTERVAL, begin + QUIET_LIMIT));
        assert_eq!(HeartbeatSchedule::new(true, 0.0, begin).due(begin), begin + QUIET_LIMIT / 2);
        // One that tells news all the time is asked as seldom as if it were alone.
        let heard = begin + HEARTBEAT_INTERVAL - Duration::from_secs(1);
        assert_eq!((alone.due(heard), one_of_two.due(heard)), (begin + HEARTBEAT_INTERVAL, begin + HEARTBEAT_INTERVAL));
        let now = begin + HEARTBEAT_INTERVAL;
        one_of_two.note_renewed(now);
        assert_eq!(one_of_two.due(now), now + QUIET_LIMIT);
    }
}
