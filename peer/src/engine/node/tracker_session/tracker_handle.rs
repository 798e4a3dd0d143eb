//! Handle of the tracker session: queries over its connection, and the node's presence.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use localization::tr;
use rooms::VerifyingKey;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use shared::tracker::TrackerRequest;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::presence::PresenceState;
use crate::engine::peer_lookup::TrackerClient;
use crate::net::TrackerError;
use crate::util::TranslatedText;

/// A handle that sends queries to the tracker over the session's connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::engine::node) struct TrackerHandle {
    pub(super) queries: mpsc::Sender<TrackerQuery>,
    /// Queries caused by strangers; served only while `queries` is empty.
    pub(super) stranger_queries: mpsc::Sender<TrackerQuery>,
    pub(super) shares_changed: Arc<Notify>,
    /// Tells other parts of the node of the same changes.
    pub(super) share_changes: watch::Sender<()>,
    pub(super) local: watch::Receiver<Option<SocketAddr>>,
    pub(super) key_epoch: Arc<AtomicU64>,
    pub(super) verifying_key: watch::Receiver<Option<VerifyingKey>>,
    pub(super) presence_state: watch::Receiver<PresenceState>,
    pub(super) go_online: Arc<Notify>,
    pub(super) files_changed: Arc<Notify>,
}

/// The cause of a query, which decides its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::node) enum QueryOrigin {
    /// A caller whose key is on record.
    KnownKey,
    /// A caller with an unknown key; their number is unbounded.
    UnknownKey,
}

/// A request to the tracker, and the way back for its reply.
#[derive(Debug)]
pub(super) struct TrackerQuery {
    pub(super) request: TrackerRequest,
    pub(super) reply: oneshot::Sender<Result<Box<RawValue>, TrackerError>>,
}

impl TrackerClient for TrackerHandle {
    async fn call<T: DeserializeOwned + Send>(&mut self, request: &TrackerRequest) -> Result<T, TrackerError> {
        send_query(&self.queries, request).await
    }

    fn local_address(&self) -> Option<SocketAddr> {
        *self.local.borrow()
    }
}

/// Queues a query for the session and waits for the reply.
async fn send_query<T: DeserializeOwned>(
    queries: &mpsc::Sender<TrackerQuery>,
    request: &TrackerRequest,
) -> Result<T, TrackerError> {
    let gone = |why: TranslatedText| TrackerError::Unreachable { address: tr!("address" => "the tracker"), why };
    let (reply, answered) = oneshot::channel();
    let query = TrackerQuery { request: request.clone(), reply };
    queries.send(query).await.map_err(|_| gone(TranslatedText::new(|| tr!("`peer` is going offline"))))?;
    let text = answered.await.map_err(|_| gone(TranslatedText::new(|| tr!("the connection to it was given up"))))??;
    let malformed = |why: serde_json::Error| TrackerError::NotATracker {
        address: tr!("address" => "the tracker"),
        why: why.to_string().into(),
    };
    // Parsed here: only the caller knows the type.
    serde_json::from_str(text.get()).map_err(malformed)
}

impl TrackerHandle {
    /// Sends a query on behalf of a caller.
    ///
    /// # Errors
    /// As [`TrackerClient::call`].
    pub(in crate::engine::node) async fn call_for<T: DeserializeOwned>(
        &self,
        origin: QueryOrigin,
        request: &TrackerRequest,
    ) -> Result<T, TrackerError> {
        let queue = match origin {
            QueryOrigin::KnownKey => &self.queries,
            QueryOrigin::UnknownKey => &self.stranger_queries,
        };
        send_query(queue, request).await
    }

    /// Makes the session register the shares again.
    pub(in crate::engine::node) fn shares_changed(&self) {
        // `notify_one` leaves a permit: a change in the middle of a registration makes another one.
        self.shares_changed.notify_one();
        self.share_changes.send_replace(());
    }

    /// Returns a receiver of the changes of what is shared.
    pub(in crate::engine::node) fn subscribe_share_changes(&self) -> watch::Receiver<()> {
        self.share_changes.subscribe()
    }

    /// Returns the notice that the tracker told of changed files, or that this node is present again. It has one waiter:
    /// what looks for wishes.
    pub(in crate::engine::node) const fn files_changed(&self) -> &Arc<Notify> {
        &self.files_changed
    }

    /// Returns a number that changes whenever earlier answers about keys may have become wrong.
    pub(in crate::engine::node) fn key_epoch(&self) -> u64 {
        self.key_epoch.load(Ordering::Acquire)
    }

    /// Makes the node present, even if that displaces another node of the account.
    pub(in crate::engine::node) fn go_online(&self) {
        self.go_online.notify_one();
    }

    /// Returns the key with which the tracker signs records of rooms, once it was reached; `None` unless it is Ed25519.
    pub(in crate::engine::node) fn verifying_key(&self) -> Option<VerifyingKey> {
        *self.verifying_key.borrow()
    }

    /// True if the tracker lists this node.
    pub(in crate::engine::node) fn is_present(&self) -> bool {
        matches!(*self.presence_state.borrow(), PresenceState::Present { .. })
    }

    /// True if another node of the account is present.
    pub(in crate::engine::node) fn is_displaced(&self) -> bool {
        matches!(*self.presence_state.borrow(), PresenceState::Displaced(_))
    }

    /// Returns the node's presence at the tracker.
    pub(in crate::engine::node) fn presence_state(&self) -> PresenceState {
        self.presence_state.borrow().clone()
    }
}
