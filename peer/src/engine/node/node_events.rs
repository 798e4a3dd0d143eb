//! The events of a node, as its watchers receive them.

use std::sync::Arc;

use shared::UserName;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::engine::active_conversations::OpenConversation;
use crate::engine::event_bus::{buffered_event, next_event};
use crate::engine::node::control::NodeClient;
use crate::engine::node::node_core::NodeCore;
use crate::engine::node_event::NodeEvent;

/// The events of a node from the time when it was asked for them. The conversation that is open in the watcher's view
/// counts as open until this is dropped.
#[derive(Debug)]
pub struct NodeEvents {
    /// The event that comes before all others.
    first: Option<NodeEvent>,
    receiver: broadcast::Receiver<NodeEvent>,
    ended: CancellationToken,
    source: EventSource,
}

#[derive(Debug)]
enum EventSource {
    Embedded { core: Arc<NodeCore>, open: Option<OpenConversation> },
    Attached(NodeClient),
}

impl NodeEvents {
    /// Subscribes to the events of a node of this process.
    pub(super) fn of_core(core: &Arc<NodeCore>, with: Option<&UserName>) -> Self {
        // Subscribed before the state is read, so that no change falls in between.
        let receiver = core.events().subscribe();
        let source = EventSource::Embedded { core: core.clone(), open: None };
        let mut this = Self { first: core.absence_event(), receiver, ended: core.ended_token(), source };
        this.set_open_conversation(with);
        this
    }

    /// Wraps the events that another process sends.
    pub(super) const fn of_attached(
        node: NodeClient,
        receiver: broadcast::Receiver<NodeEvent>,
        ended: CancellationToken,
    ) -> Self {
        Self { first: None, receiver, ended, source: EventSource::Attached(node) }
    }

    /// Returns the next event; `None` when the node has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<NodeEvent> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            // The last events may tell why the node ended.
            biased;
            event = next_event(&mut self.receiver) => event,
            () = self.ended.cancelled() => None,
        }
    }

    /// Returns the next event that is there already.
    pub fn next_buffered(&mut self) -> Option<NodeEvent> {
        self.first.take().or_else(|| buffered_event(&mut self.receiver))
    }

    /// Sets the conversation that is open in the watcher's view.
    pub fn set_open_conversation(&mut self, with: Option<&UserName>) {
        match &mut self.source {
            EventSource::Embedded { core, open } => {
                *open = with.map(|with| core.events().conversations().open(with));
            }
            EventSource::Attached(node) => node.set_open_conversation(with),
        }
    }
}
