//! News of rooms in the full view. Pure.

use localization::tr;
use shared::safe_text::safe_line;

use super::FullViewModel;
use crate::engine::chat::ConversationName;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::{RoomNews, RoomNewsKind, RoomPost};
use crate::ui::event_text::room_news_words;
use crate::ui::member_changes::MemberChanges;
use crate::ui::message_entry::{MessageEntry, post_id};
use crate::ui::theme::DeliveryMark;
use crate::ui::view::ViewCommand;

impl FullViewModel {
    pub(super) fn receive_post(&mut self, post: &RoomPost) -> Vec<ViewCommand> {
        let with = ConversationName::from(&post.room);
        let entry = MessageEntry::from_post(post, self.chat.me(), self.chat.other_member_count(&post.room));
        let pane = self.pane_mut(&with);
        pane.add(entry);
        if post.late {
            // The history has it in its place; if that is further back than the newest page, it stays where it is.
            pane.mark_stale();
            let is_selected = self.selected.as_ref() == Some(&with);
            return if is_selected { self.request_history(&with, false).into_iter().collect() } else { Vec::new() };
        }
        self.mark_read(&with)
    }

    pub(super) fn show_room_news(&mut self, news: &RoomNews) {
        if news.kind == RoomNewsKind::Invited {
            // The room is in no list yet.
            return self.show_event(&NodeEvent::Room(news.clone()));
        }
        let me = self.chat.me().clone();
        let pane = self.pane_mut(&(&news.room).into());
        match &news.kind {
            RoomNewsKind::Delivered { id, count, of } => {
                pane.set_marks_through(post_id(id), DeliveryMark::of_counts(*count, *of));
            }
            RoomNewsKind::Void { id } => pane.remove(post_id(id)),
            _ => match MemberChanges::new(news, &me) {
                Some(changes) => pane.add_member_changes(changes),
                None => room_news_words(news, &me).into_iter().for_each(|words| pane.add_note(&words)),
            },
        }
    }

    pub(super) fn show_members(&mut self) {
        let Some(room) = self.selected.as_ref().and_then(|with| self.chat.room(with.room()?)) else { return };
        let names: Vec<String> = room
            .members
            .iter()
            .map(|member| format!("{} {}", self.theme.presence(member.online), member.user))
            .collect();
        self.note_here(&names.join("\n"));
    }

    pub(super) fn show_topic(&mut self) {
        let Some(room) = self.selected.as_ref().and_then(|with| self.chat.room(with.room()?)) else { return };
        let text = match room.topic.as_str() {
            "" => tr!("there is no topic: /topic TEXT sets one"),
            topic => safe_line(topic).into_owned(),
        };
        self.note_here(&text);
    }

    fn note_here(&mut self, text: &str) {
        if let Some(with) = self.selected.clone() {
            self.pane_mut(&with).add_note(text);
        }
    }
}
