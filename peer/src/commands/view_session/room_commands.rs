//! What a view's user does in rooms: messages through the node, changes through the tracker.

use localization::tr;
use shared::RoomName;
use shared::tracker::room_request::RequestedChange;

use super::ViewSession;
use super::background_jobs::JobOutcome;
use super::pending_acts::entered_change;
use crate::commands::mute::mute_words;
use crate::engine::chat::ConversationName;
use crate::engine::own_rooms::{change_own_room, leave_own_room};
use crate::engine::{Error, chat, run_blocking};
use crate::ui::{TerminalView, ViewUpdate, excerpt};

impl<V: TerminalView> ViewSession<'_, V> {
    /// Sends a text to a room, or keeps it until there is a node.
    pub(super) fn submit_post(&mut self, room: RoomName, text: &str) -> Result<(), Error> {
        // A message of a room is signed, which only a node does; the texts are the same.
        if let Err(error) = chat::compose(text) {
            return self.show_problem(tr!("not sent: {error}", error));
        }
        self.unsent_posts.push_back((room, text.to_owned()));
        self.send_posts();
        Ok(())
    }

    /// Hands the messages that wait for a node to it, in their order.
    pub(super) fn send_posts(&mut self) {
        while self.connection.is_connected()
            && let Some((room, text)) = self.unsent_posts.pop_front()
        {
            let entered = format!("#{room} {}", excerpt(&text));
            // Tasks of this runtime begin in the order of their spawning, and with it messages are stored in order.
            self.act_at_node(entered, |node| async move {
                let failure = node.write_in_room(&room, &text, false).await.err();
                Ok(JobOutcome::PostSubmitted { failure })
            });
        }
    }

    pub(super) fn handle_post_submitted(&mut self, failure: Option<Error>) -> Result<(), Error> {
        match failure {
            Some(error @ Error::NodeGone { .. }) => {
                self.show_problem(tr!("{error}: look whether the last message to the room is there", error))
            }
            Some(error) => self.show_problem(tr!("not sent: {error}", error)),
            None => Ok(()),
        }
    }

    pub(super) fn change_room(&mut self, room: RoomName, change: RequestedChange) {
        let (me, node) = (self.me.clone(), self.connection.api());
        let entered = format!("#{room} {}", entered_change(&change));
        self.act(entered, async move { outcome_of(change_own_room(&me, node, &room, change).await) });
    }

    pub(super) fn leave_room(&mut self, room: RoomName) {
        let (me, node) = (self.me.clone(), self.connection.api());
        let entered = format!("#{room} /leave");
        self.act(entered, async move { outcome_of(leave_own_room(&me, node, &room).await) });
    }

    pub(super) fn mute(&mut self, with: ConversationName, muted: bool) {
        let profile = self.me.profile.clone();
        let entered = format!("{with} {}", if muted { "/mute" } else { "/unmute" });
        self.act(entered, async move {
            let words = mute_words(&with, muted);
            let set = run_blocking(move || Ok(profile.set_muted(&with, muted)?)).await;
            outcome_of(set.map(|_| Some(words)))
        });
    }
}

/// Returns the outcome of a change: words for the user, unless an event tells of it, or the error.
fn outcome_of(done: Result<Option<String>, Error>) -> JobOutcome {
    match done {
        Ok(Some(words)) => JobOutcome::ListsChanged(ViewUpdate::Note(words)),
        Ok(None) => JobOutcome::Nothing,
        Err(error) => JobOutcome::Update(ViewUpdate::Problem(error.to_string())),
    }
}
