//! A tracker that can't renew the node's presence for now: its database is away. Pure.
//!
//! It still answers from what it knows, so that the node stays and asks again. A short time after the first refusal the
//! node tries to be taken by another tracker, and leaves only if that succeeds; otherwise it tries again after a pause that
//! doubles, so that an outage of the one database makes no crowd run from tracker to tracker. The pause begins anew when the
//! last attempt is [`CALM`] ago.

use std::time::{Duration, Instant};

use crate::util::{Backoff, TranslatedText};

/// Pauses before attempts to move. The lease of a tracker without a database ends after 8 s, and 10 s later its users are gone
/// for the others: the first attempt has to be soon.
const MOVE_PAUSES: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(120));
/// Time without an attempt after which the shortest pause is right again.
const CALM: Duration = Duration::from_secs(300);
/// Bounds of the pause before the tracker is asked again.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The state of the tracker's refusals.
#[derive(Debug)]
pub(super) struct BusyTracker {
    refusals: Option<RefusalSpell>,
    pauses: Backoff,
    last_attempt: Option<Instant>,
}

/// Refusals in a row.
#[derive(Debug)]
struct RefusalSpell {
    /// The tracker's words.
    why: TranslatedText,
    retry_at: Instant,
    move_at: Instant,
    is_reported: bool,
}

impl Default for BusyTracker {
    fn default() -> Self {
        Self { refusals: None, pauses: MOVE_PAUSES, last_attempt: None }
    }
}

impl BusyTracker {
    /// Records a refusal. `jitter` is from 0 to 1.
    pub(super) fn note_refused(
        &mut self,
        why: TranslatedText,
        retry_after: Option<Duration>,
        jitter: f64,
        now: Instant,
    ) {
        // A hint only: whatever the tracker names, it is neither flooded nor left alone until the presence is lost.
        let retry_at = now + retry_after.unwrap_or_default().clamp(MIN_RETRY_DELAY, MAX_RETRY_DELAY);
        if let Some(refusals) = &mut self.refusals {
            // The time to move stays, or refusals in a row would put it off for ever.
            (refusals.why, refusals.retry_at) = (why, retry_at);
            return;
        }
        if self.last_attempt.is_none_or(|last| last + CALM < now) {
            self.pauses.reset();
        }
        let move_at = now + self.pauses.next_jittered(jitter);
        self.refusals = Some(RefusalSpell { why, retry_at, move_at, is_reported: false });
    }

    /// Ends the refusals. Returns true if the user was told of them.
    pub(super) fn note_granted(&mut self) -> bool {
        self.refusals.take().is_some_and(|refusals| refusals.is_reported)
    }

    /// Returns the time at which the tracker is asked again; `None` if it doesn't refuse.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.refusals.as_ref().map(|refusals| refusals.retry_at)
    }

    /// True if the node should try to move.
    pub(super) fn is_move_due(&self, now: Instant) -> bool {
        self.refusals.as_ref().is_some_and(|refusals| refusals.move_at <= now)
    }

    /// Records an attempt to move, before it is made.
    pub(super) fn note_attempt(&mut self, jitter: f64, now: Instant) {
        self.last_attempt = Some(now);
        if let Some(refusals) = &mut self.refusals {
            refusals.move_at = now + self.pauses.next_jittered(jitter);
        }
    }

    /// Returns the tracker's words if the user is to hear of them: once, until it grants a heartbeat.
    pub(super) fn take_report(&mut self) -> Option<TranslatedText> {
        let refusals = self.refusals.as_mut().filter(|refusals| !refusals.is_reported)?;
        refusals.is_reported = true;
        Some(refusals.why.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_move_is_tried_soon_and_then_less_and_less() {
        let (mut busy, begin) = (BusyTracker::default(), Instant::now());
        let (mut now, mut attempts) = (begin, Vec::new());
        while now < begin + 400 * SECOND {
            busy.note_refused("away".into(), Some(2 * SECOND), 1.0, now);
            if busy.is_move_due(now) {
                attempts.push((now - begin).as_secs());
                busy.note_attempt(1.0, now);
            }
            now = busy.retry_at().unwrap();
        }
        assert_eq!(attempts, [2, 6, 14, 30, 62, 126, 246, 366]);
        assert!(!busy.note_granted() && busy.retry_at().is_none());
        // A database that comes and goes makes nobody run, either.
        busy.note_refused("away".into(), None, 1.0, now);
        assert!(!busy.is_move_due(now + 100 * SECOND));
        busy.note_granted();
        now += CALM + 100 * SECOND;
        busy.note_refused("away".into(), None, 1.0, now);
        assert!(busy.is_move_due(now + 2 * SECOND));
    }

    #[test]
    fn refusals_are_told_once() {
        let (mut busy, now) = (BusyTracker::default(), Instant::now());
        assert!(busy.take_report().is_none());
        busy.note_refused("away".into(), None, 0.0, now);
        assert_eq!(busy.take_report(), Some("away".into()));
        assert!(busy.take_report().is_none());
        assert!(busy.note_granted() && !busy.note_granted());
    }
}
