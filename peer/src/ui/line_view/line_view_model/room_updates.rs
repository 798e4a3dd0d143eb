//! News of the room that is shown, and answers about it, for the line view. Pure.

use localization::tr;
use shared::RoomName;
use shared::safe_text::safe_line;
use shared::tracker::room_reply::ListedRole;

use super::{LineViewModel, ScrollbackItem};
use crate::engine::room_values::{RoomNews, RoomNewsKind};
use crate::ui::chat_model::member_counts;
use crate::ui::conversation_item::ConversationItem;
use crate::ui::event_text::room_news_words;
use crate::ui::member_changes::MemberChanges;
use crate::ui::message_entry::post_id;
use crate::ui::theme::DeliveryMark;

impl LineViewModel {
    /// Tells where the user is, and what the room is about.
    pub(super) fn introduce_room(&mut self, name: &RoomName) {
        let Some(room) = self.chat.room(name).filter(|room| room.role.is_some()) else {
            return self
                .add_problem(tr!("you are no longer in {room}: /history shows what was written", room = self.with));
        };
        let (counts, topic, room) = (member_counts(room), safe_line(room.topic.as_str()), &self.with);
        let note = match topic.is_empty() {
            true => tr!("{room}, {counts}; /help shows what there is, Ctrl-D leaves", room, counts),
            false => tr!("{room}, {counts}: {topic}; /help shows what there is, Ctrl-D leaves", room, counts, topic),
        };
        self.add_note(note);
    }

    pub(super) fn show_room_news(&mut self, news: &RoomNews) {
        match &news.kind {
            RoomNewsKind::Delivered { id, count, of } => {
                let mark = DeliveryMark::of_counts(*count, *of);
                let id = post_id(id);
                let Some(up_to) = self.marked_messages.get(&id).map(|marked| marked.seq) else { return };
                // A member who has a message has all earlier ones of its author.
                let earlier = self.marked_messages.iter().filter(|(_, marked)| marked.seq <= up_to);
                let mut ids: Vec<_> = earlier.map(|(id, marked)| (marked.seq, *id)).collect();
                // The map has no order; in the scrollback marks follow each other as their messages do.
                ids.sort_unstable_by_key(|(seq, _)| *seq);
                ids.into_iter().for_each(|(_, id)| self.show_mark(id, mark, None));
            }
            RoomNewsKind::Void { .. } => {
                self.add_note(tr!("a message above doesn't count: its author was no longer in the room"));
            }
            _ => match MemberChanges::new(news, self.chat.me()) {
                Some(changes) => self.add_member_changes(changes),
                None => room_news_words(news, self.chat.me()).into_iter().for_each(|words| self.add_note(words)),
            },
        }
    }

    /// Prints joins and leaves; those that come before the next drawing share a line.
    fn add_member_changes(&mut self, changes: MemberChanges) {
        match self.pending_items.last_mut() {
            Some(ScrollbackItem::Item(ConversationItem::Members(earlier))) => earlier.extend(changes),
            _ => self.push_item(ScrollbackItem::Item(ConversationItem::Members(changes))),
        }
    }

    pub(super) fn show_members(&mut self) {
        let Some(room) = self.with.room().and_then(|name| self.chat.room(name)) else { return };
        let lines: Vec<String> = room
            .members
            .iter()
            .map(|member| {
                let mut line = format!("{} {}", self.theme.presence(member.online), member.user);
                let role = match member.role {
                    ListedRole::Owner => Some(tr!("role" => "owner")),
                    ListedRole::Moderator => Some(tr!("role" => "moderator")),
                    ListedRole::Member | ListedRole::Unknown => None,
                };
                let me = (member.user == *self.chat.me()).then(|| tr!("(you)"));
                role.iter().chain(&me).for_each(|remark| line.extend([" ", remark]));
                line
            })
            .collect();
        self.add_note(lines.join("\n"));
    }

    pub(super) fn show_topic(&mut self) {
        let Some(room) = self.with.room().and_then(|name| self.chat.room(name)) else { return };
        let text = match room.topic.as_str() {
            "" => tr!("there is no topic: /topic TEXT sets one"),
            topic => safe_line(topic).into_owned(),
        };
        self.add_note(text);
    }
}
