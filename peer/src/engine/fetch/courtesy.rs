//! Making room for people who talk: the profile's node knows when they do.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::pulse::Pulse;
use super::sources::Caller;
use crate::engine::node::control::NodeClient;
use crate::engine::rate::Bucket;
use crate::engine::talk::BESIDE_TALK;
use crate::engine::{Error, Me};

/// How long until a node is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Whether room is to be made, and how much is left over.
#[derive(Debug)]
pub(super) struct Courtesy {
    talking: AtomicBool,
    pace: tokio::sync::Mutex<Bucket>,
}

impl Courtesy {
    /// Nobody talks yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { talking: AtomicBool::new(false), pace: tokio::sync::Mutex::new(Bucket::smooth(BESIDE_TALK, now)) }
    }

    /// Whether people talk.
    pub(super) fn is_due(&self) -> bool {
        self.talking.load(Ordering::Relaxed)
    }

    /// Room is to be made, or no longer.
    pub(super) fn set(&self, talking: bool) {
        self.talking.store(talking, Ordering::Relaxed);
    }

    /// Waits until so many bytes more may be taken over the link with this pulse.
    pub(super) async fn pass(&self, bytes: usize, pulse: &Pulse) {
        if self.is_due() {
            pulse.pass(&self.pace, bytes).await;
        }
    }
}

/// Hears from the profile's node when people begin and stop to talk, for as long as it is polled.
pub(super) async fn heed(me: &Me, caller: &Caller) -> Infallible {
    loop {
        match NodeClient::connect(&me.profile).await {
            Ok(Some(node)) => {
                let ended = follow(node, caller).await;
                tracing::debug!("whether people talk isn't known any more: {ended}");
                caller.make_room(false);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!("whether people talk isn't known: {error}"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn follow(mut node: NodeClient, caller: &Caller) -> Error {
    let mut talking = false;
    loop {
        match node.heed(talking).await {
            Ok(now) => talking = now,
            Err(error) => return error,
        }
        caller.make_room(talking);
    }
}
