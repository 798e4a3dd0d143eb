//! Acts of a view's user that change something elsewhere: leaving waits for them, and names those without an outcome.

use std::collections::BTreeMap;

use localization::tr;
use shared::tracker::room_request::RequestedChange;

use super::ViewSession;
use super::background_jobs::JobOutcome;
use crate::engine::Error;
use crate::engine::node::NodeApi;
use crate::ui::{TerminalView, ViewUpdate};

/// The acts without an outcome, each with the words that the user entered, by number.
#[derive(Debug, Default)]
pub(super) struct PendingActs {
    entered: BTreeMap<u64, String>,
    count: u64,
}

impl PendingActs {
    /// Adds an act that begins, and returns its number.
    fn begin(&mut self, entered: String) -> u64 {
        self.count += 1;
        self.entered.insert(self.count, entered);
        self.count
    }

    /// Removes an act that has its outcome.
    pub(super) fn end(&mut self, number: u64) {
        self.entered.remove(&number);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entered.is_empty()
    }

    /// Returns a line for each act whose outcome nobody will hear of.
    pub(super) fn into_notes(self) -> impl Iterator<Item = String> {
        self.entered.into_values().map(|act| tr!("not certain to be done, there was no answer yet: {act}", act))
    }
}

impl<V: TerminalView> ViewSession<'_, V> {
    /// Does an act beside the event loop.
    pub(super) fn act(&mut self, entered: String, doing: impl Future<Output = JobOutcome> + Send + 'static) {
        let number = self.acts.begin(entered);
        self.jobs.spawn(async move { JobOutcome::ActEnded { number, outcome: Box::new(doing.await) } });
    }

    /// Asks the node for an act; nothing happens without one.
    pub(super) fn act_at_node<F>(&mut self, entered: String, act: impl FnOnce(NodeApi) -> F)
    where
        F: Future<Output = Result<JobOutcome, Error>> + Send + 'static,
    {
        if let Some(node) = self.connection.api() {
            let asked = act(node);
            // The end of the node as well: the act may not have been done.
            let failed = |error: Error| JobOutcome::Update(ViewUpdate::Problem(error.to_string()));
            self.act(entered, async move { asked.await.unwrap_or_else(failed) });
        }
    }
}

/// Returns a change of a room as it is entered.
pub(super) fn entered_change(change: &RequestedChange) -> String {
    match change {
        RequestedChange::Invite { user } => format!("/invite {user}"),
        RequestedChange::Kick { user, .. } => format!("/kick {user}"),
        RequestedChange::SetTopic { topic } => format!("/topic {}", topic.as_str()),
        // No view has commands for the others.
        RequestedChange::Ban { .. }
        | RequestedChange::Unban { .. }
        | RequestedChange::SetCut { .. }
        | RequestedChange::SetRole { .. }
        | RequestedChange::PassOn { .. }
        | RequestedChange::Delete => "/…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_outcome_is_named_at_the_end() {
        let mut acts = PendingActs::default();
        let bob = "bob".parse().unwrap();
        let [kick, ..] = [
            entered_change(&RequestedChange::Kick { user: bob, cut: None }),
            "/mute".to_owned(),
            "/ignore eve".to_owned(),
        ]
        .map(|entered| acts.begin(entered));
        acts.end(kick);
        acts.end(kick);
        assert!(!acts.is_empty());
        let notes: Vec<String> = acts.into_notes().collect();
        assert!(notes.len() == 2 && notes[0].ends_with(": /mute") && notes[1].ends_with(": /ignore eve"), "{notes:?}");
    }
}
