//! A stream of a simulated link.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use shared::Fingerprint;
use tokio::sync::{Notify, mpsc};

use crate::engine::rooms::pull_session::PullSession;
use crate::engine::rooms::room_outlets::{RoomOutlet, RoomPush};
use crate::engine::rooms::unanswered_requests::UnansweredRequests;

/// A room's stream from one member to another, and what is on its way over it.
#[derive(Debug)]
pub(super) struct SimulatedStream {
    pub(super) opener: usize,
    pub(super) acceptor: usize,
    pub(super) opener_key: Fingerprint,
    pub(super) acceptor_key: Fingerprint,
    pub(super) delay: Duration,
    pub(super) pushes: mpsc::Receiver<RoomPush>,
    pub(super) unanswered: UnansweredRequests,
    pub(super) pull: Option<PullSession>,
    pub(super) is_comparison_due: bool,
    compare: Arc<Notify>,
}

impl SimulatedStream {
    /// Opens a stream between two members, each by its number and its key. What is new to the opener goes to the outlet.
    pub(super) fn open(
        (opener, opener_key): (usize, Fingerprint),
        (acceptor, acceptor_key): (usize, Fingerprint),
        delay: Duration,
    ) -> (Self, RoomOutlet) {
        let (outlet, pushes) = RoomOutlet::open(acceptor_key);
        let stream = Self {
            opener,
            acceptor,
            opener_key,
            acceptor_key,
            delay,
            pushes,
            unanswered: UnansweredRequests::default(),
            pull: None,
            is_comparison_due: true,
            compare: outlet.compare.clone(),
        };
        (stream, outlet)
    }

    /// Takes the registry's demand for a comparison, if there is one.
    pub(super) fn note_demand(&mut self) {
        let demanded = std::pin::pin!(self.compare.notified());
        if demanded.poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.is_comparison_due = true;
        }
    }
}
