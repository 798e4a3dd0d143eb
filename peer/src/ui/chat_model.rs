//! Users and rooms, their conversations and all transfers, as both views show them. Pure.
//!
//! ```text
//! NodeEvent ──► ChatModel::handle_event ──► is it news? ──► rows of the scrollback, or of the panes
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use localization::tr;
use shared::peer::{FileStat, MessageId};
use shared::tracker::room_reply::ListedRole;
use shared::{RoomName, UserName};

use super::composer::{ComposerAction, MessageComposer};
use super::message_entry::{MessageEntry, delivery_mark, post_id};
use super::poll_backoff::PollBackoff;
use super::theme::DeliveryMark;
use super::transfer_list::TransferList;
use super::view::ViewCommand;
use super::view_input::InputAction;
use crate::engine::chat::{ConversationName, StoredMessage};
use crate::engine::node::UserSummary;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::{RoomMemberStatus, RoomNews, RoomNewsKind, RoomOverview, RoomPost};

/// Time after which a typing notice counts as outdated.
// Longer than the 4 s between two notices, so that one that comes late doesn't make it flicker.
const TYPING_TIMEOUT: Duration = Duration::from_secs(7);

/// The state that the views share.
#[derive(Debug)]
pub(super) struct ChatModel {
    me: UserName,
    /// Online users first, blocked ones last in each group, then by name.
    users: Vec<UserSummary>,
    /// By name.
    rooms: Vec<RoomOverview>,
    conversations: HashMap<ConversationName, Conversation>,
    pub(super) transfers: TransferList,
    users_poll: PollBackoff,
    /// True if an event named a user or a room that the node's list did not.
    has_unlisted: bool,
    /// True after the first [`NodeEvent::NotStored`] was shown; reset by a received message.
    has_reported_not_stored: bool,
    /// True after the first unreadable input was reported.
    has_reported_unreadable: bool,
}

/// The state of one conversation, its shown messages apart.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) composer: MessageComposer,
    typing_until: Option<Instant>,
    /// The sequence numbers of own messages without an ack.
    undelivered: HashMap<MessageId, i64>,
    /// The number of further ones, which this view has not seen.
    undelivered_before: usize,
}

impl ChatModel {
    /// Creates a model without users. `max_poll_interval` is the longest pause between two polls of the user list.
    pub(super) fn new(me: &UserName, max_poll_interval: Duration) -> Self {
        Self {
            me: me.clone(),
            users: Vec::new(),
            rooms: Vec::new(),
            conversations: HashMap::new(),
            transfers: TransferList::default(),
            users_poll: PollBackoff::new(max_poll_interval),
            has_unlisted: false,
            has_reported_not_stored: false,
            has_reported_unreadable: false,
        }
    }

    pub(super) fn users(&self) -> &[UserSummary] {
        &self.users
    }

    pub(super) const fn me(&self) -> &UserName {
        &self.me
    }

    pub(super) fn rooms(&self) -> &[RoomOverview] {
        &self.rooms
    }

    pub(super) fn room(&self, name: &RoomName) -> Option<&RoomOverview> {
        self.rooms.iter().find(|room| room.room == *name)
    }

    fn room_mut(&mut self, name: &RoomName) -> Option<&mut RoomOverview> {
        let found = self.rooms.iter_mut().find(|room| room.room == *name);
        self.has_unlisted |= found.is_none();
        found
    }

    /// Returns the number of a room's members apart from this profile's user.
    pub(super) fn other_member_count(&self, room: &RoomName) -> usize {
        let others = |room: &RoomOverview| room.members.iter().filter(|member| member.user != self.me).count();
        self.room(room).map_or(0, others)
    }

    /// Returns a stored message for display.
    pub(super) fn entry(&self, stored: &StoredMessage) -> MessageEntry {
        match &stored.room {
            Some(room) => MessageEntry::from_stored_post(stored, room, &self.me, self.other_member_count(&room.name)),
            None => MessageEntry::from_stored(stored),
        }
    }

    /// Returns the number of unread messages.
    pub(super) fn unread_count(&self, with: &ConversationName) -> usize {
        match with {
            ConversationName::Person(user) => self.summary(user).map_or(0, |person| person.unread),
            ConversationName::Room(room) => self.room(room).map_or(0, |room| room.unread),
        }
    }

    /// Counts the messages of a conversation as read, until the node's next list.
    pub(super) fn clear_unread(&mut self, with: &ConversationName) {
        match with {
            ConversationName::Person(user) => {
                if let Some(person) = self.listed_mut(user) {
                    person.unread = 0;
                }
            }
            ConversationName::Room(room) => {
                if let Some(room) = self.room_mut(room) {
                    room.unread = 0;
                }
            }
        }
    }

    pub(super) fn summary(&self, user: &UserName) -> Option<&UserSummary> {
        self.users.iter().find(|person| person.user == *user)
    }

    /// Returns the summary of a user, who is added if the node's list did not name them.
    pub(super) fn summary_mut(&mut self, user: &UserName) -> &mut UserSummary {
        let index = self.users.iter().position(|person| person.user == *user).unwrap_or_else(|| {
            self.has_unlisted = true;
            self.users.push(UserSummary::of_unknown(user.clone()));
            self.users.len() - 1
        });
        &mut self.users[index]
    }

    fn listed_mut(&mut self, user: &UserName) -> Option<&mut UserSummary> {
        self.users.iter_mut().find(|person| person.user == *user)
    }

    pub(super) fn conversation(&self, with: &ConversationName) -> Option<&Conversation> {
        self.conversations.get(with)
    }

    pub(super) fn conversation_mut(&mut self, with: &ConversationName) -> &mut Conversation {
        self.conversations.entry(with.clone()).or_default()
    }

    /// Returns the number of own messages in a conversation without an ack.
    pub(super) fn undelivered_count(&self, to: &ConversationName) -> usize {
        self.conversations.get(to).map_or(0, |talk| talk.undelivered.len() + talk.undelivered_before)
    }

    pub(super) fn is_typing(&self, user: &UserName) -> bool {
        self.conversations.get(&user.into()).is_some_and(|talk| talk.typing_until.is_some())
    }

    /// Takes the node's list over. `kept` stays, even if the list does not name this user.
    pub(super) fn update_users(&mut self, people: &[UserSummary], kept: Option<&UserName>) {
        let is_missing = |user: &&UserName| people.iter().all(|person| person.user != **user);
        let kept = kept
            .filter(is_missing)
            .map(|user| self.summary(user).cloned().unwrap_or_else(|| UserSummary::of_unknown(user.clone())));
        self.users = people.iter().cloned().chain(kept).collect();
        self.has_unlisted = false;
        // Whoever isn't named below has nothing waiting any more.
        for (_, talk) in self.conversations.iter_mut().filter(|(with, _)| with.person().is_some()) {
            talk.undelivered_before = 0;
        }
        for person in people.iter().filter(|person| person.waiting > 0) {
            let talk = self.conversation_mut(&(&person.user).into());
            // The node counts all of them, the seen ones included.
            talk.undelivered_before = person.waiting.saturating_sub(talk.undelivered.len());
        }
        self.sort_users();
    }

    /// Takes the node's list of rooms over.
    pub(super) fn update_rooms(&mut self, rooms: &[RoomOverview]) {
        self.rooms = rooms.to_vec();
        for room in rooms {
            let names = room.members.iter().filter(|member| member.user != self.me);
            let names = names.map(|member| member.user.to_string()).collect();
            let talk = self.conversation_mut(&(&room.room).into());
            talk.undelivered_before = room.waiting.saturating_sub(talk.undelivered.len());
            talk.composer.set_members(names);
        }
    }

    /// Returns the command that asks for users and rooms, if an event named one that the lists did not.
    pub(super) fn request_unlisted(&mut self) -> Option<ViewCommand> {
        std::mem::take(&mut self.has_unlisted).then_some(ViewCommand::ListUsers)
    }

    /// Returns the command that asks for the users, if a poll is due.
    pub(super) fn poll_users(&mut self, now: Instant) -> Option<ViewCommand> {
        self.users_poll.try_poll(now).then_some(ViewCommand::ListUsers)
    }

    /// Returns true for the first input that is no text.
    pub(super) const fn is_first_unreadable(&mut self) -> bool {
        !std::mem::replace(&mut self.has_reported_unreadable, true)
    }

    /// Handles a key in the line of a conversation.
    pub(super) fn handle_line_input(
        &mut self,
        with: &ConversationName,
        press: &InputAction,
        now: Instant,
    ) -> ComposerAction {
        let is_online =
            with.person().and_then(|user| self.summary(user)).is_some_and(|person| person.online == Some(true));
        self.conversation_mut(with).composer.handle_input(press, with, is_online, now)
    }

    /// Takes a list of files over; returns the fetch that waited for it.
    pub(super) fn handle_files(
        &mut self,
        of: &ConversationName,
        prefix: &str,
        files: &[FileStat],
    ) -> Option<ViewCommand> {
        let composer = &mut self.conversation_mut(of).composer;
        composer.files_mut().add_all(files);
        composer.handle_files_listed(of, prefix.is_empty())
    }

    /// Drops typing notices and transfers that are outdated.
    pub(super) fn expire(&mut self, now: Instant) {
        self.transfers.expire(now);
        for talk in self.conversations.values_mut() {
            talk.typing_until = talk.typing_until.filter(|until| *until > now);
        }
    }

    /// Forgets which messages have no ack, and keeps their number until the users are listed again.
    pub(super) fn forget_undelivered(&mut self) {
        for talk in self.conversations.values_mut() {
            // Their acks may have been among the missed events.
            talk.undelivered_before += talk.undelivered.drain().count();
        }
    }

    /// Counts an own message, or stops counting it, depending on its mark.
    pub(super) fn track(&mut self, with: &ConversationName, entry: &MessageEntry) {
        let talk = self.conversation_mut(with);
        if is_undelivered(entry.mark) {
            talk.undelivered.insert(entry.id, entry.seq);
        } else {
            talk.undelivered.remove(&entry.id);
        }
    }

    /// Takes a new delivery mark over.
    pub(super) fn settle(&mut self, with: &ConversationName, id: MessageId, mark: DeliveryMark) {
        // An ack proves that deliveries to this user work again.
        if mark == DeliveryMark::Stored
            && let Some(person) = with.person().and_then(|user| self.listed_mut(user))
        {
            person.frozen = false;
        }
        let talk = self.conversation_mut(with);
        // An unknown id belongs to a message that is older than the seen ones.
        if !is_undelivered(mark) && talk.undelivered.remove(&id).is_none() {
            talk.undelivered_before = talk.undelivered_before.saturating_sub(1);
        }
    }

    /// Takes an event over. Returns false if it repeats what was known, and nothing of it is to be shown.
    pub(super) fn handle_event(&mut self, event: &NodeEvent, now: Instant) -> bool {
        self.transfers.handle_event(event, now);
        match event {
            NodeEvent::Received { from, .. } => {
                // The message says more than the notice, which would stay for its whole time.
                self.conversation_mut(&from.into()).typing_until = None;
                self.has_reported_not_stored = false;
                self.summary_mut(from).unread += 1;
            }
            NodeEvent::MessageQueued { to, message, seq } => {
                // Whoever writes to a stranger accepts the stranger's request.
                self.clear_request(to);
                self.conversation_mut(&to.into()).undelivered.insert(message.id, *seq);
            }
            NodeEvent::MessageStateChanged { to, id, state, .. } => self.settle(&to.into(), *id, delivery_mark(*state)),
            NodeEvent::Read { with } => self.clear_unread(with),
            NodeEvent::RoomMessage(post) => self.handle_post(post),
            NodeEvent::Room(news) => self.handle_room_news(news),
            NodeEvent::ContactRequest { from } => {
                return !std::mem::replace(&mut self.summary_mut(from).request, true);
            }
            NodeEvent::Accepted { user } => self.clear_request(user),
            NodeEvent::Typing { from } => self.conversation_mut(&from.into()).typing_until = Some(now + TYPING_TIMEOUT),
            NodeEvent::Presence { user, online } => {
                let was_online = self.summary_mut(user).online.replace(*online);
                let members = self.rooms.iter_mut().flat_map(|room| &mut room.members);
                members.filter(|member| member.user == *user).for_each(|member| member.online = *online);
                self.sort_users();
                return was_online != Some(*online);
            }
            NodeEvent::DeliveryHeld { user, frozen, .. } => {
                let was_frozen = self.listed_mut(user).map(|person| std::mem::replace(&mut person.frozen, *frozen));
                return *frozen && was_frozen == Some(false);
            }
            // The sender repeats the message until it can be stored; one report is enough.
            NodeEvent::NotStored { .. } => return !std::mem::replace(&mut self.has_reported_not_stored, true),
            _ => {}
        }
        true
    }

    fn handle_post(&mut self, post: &RoomPost) {
        self.has_reported_not_stored = false;
        // Own posts come as events as well, and are never unread.
        if post.from != self.me {
            if let Some(room) = self.room_mut(&post.room) {
                room.unread += 1;
            }
            return;
        }
        let is_alone = self.other_member_count(&post.room) == 0;
        let talk = self.conversation_mut(&(&post.room).into());
        if !is_alone {
            talk.undelivered.insert(post_id(&post.id), post.seq);
        }
    }

    fn handle_room_news(&mut self, news: &RoomNews) {
        if let RoomNewsKind::Delivered { id, count, of } = news.kind {
            let with = (&news.room).into();
            let id = post_id(&id);
            // A member who has a message has all earlier ones of its author.
            if let Some(up_to) = self.conversation(&with).and_then(|talk| talk.undelivered.get(&id)).copied() {
                self.conversation_mut(&with).undelivered.retain(|_, seq| *seq > up_to);
            } else {
                self.settle(&with, id, DeliveryMark::of_counts(count, of));
            }
            return;
        }
        // It is in no list yet: the look-up below would ask for the lists in vain.
        if news.kind == RoomNewsKind::Invited {
            return;
        }
        let me = self.me.clone();
        // Collected first: the room below borrows the whole model.
        let presence: Vec<(UserName, bool)> =
            self.users.iter().map(|person| (person.user.clone(), person.online == Some(true))).collect();
        let Some(room) = self.room_mut(&news.room) else { return };
        match &news.kind {
            // The members are known by the list only.
            RoomNewsKind::Joined { user } if *user == me => self.has_unlisted = true,
            RoomNewsKind::Joined { user } => {
                room.members.retain(|member| member.user != *user);
                let online = presence.iter().any(|(person, online)| person == user && *online);
                room.members.push(RoomMemberStatus { user: user.clone(), role: ListedRole::Member, online });
            }
            RoomNewsKind::Left { user } | RoomNewsKind::Kicked { user, .. } => {
                room.members.retain(|member| member.user != *user);
                if *user == me {
                    room.role = None;
                }
            }
            RoomNewsKind::Role { user, role } => {
                if *user == me {
                    room.role = Some(*role);
                }
                room.members.iter_mut().filter(|member| member.user == *user).for_each(|member| member.role = *role);
            }
            RoomNewsKind::Topic { topic } => room.topic = topic.clone(),
            RoomNewsKind::Deleted => room.role = None,
            RoomNewsKind::Restored | RoomNewsKind::Contradicted => self.has_unlisted = true,
            RoomNewsKind::Invited
            | RoomNewsKind::Equivocation { .. }
            | RoomNewsKind::Gap { .. }
            | RoomNewsKind::Void { .. }
            | RoomNewsKind::Delivered { .. } => {}
        }
    }

    fn clear_request(&mut self, user: &UserName) {
        if let Some(person) = self.listed_mut(user) {
            person.request = false;
        }
    }

    fn sort_users(&mut self) {
        self.users.sort_by(|one, other| {
            let key = |person: &UserSummary| (person.online != Some(true), person.blocked);
            key(one).cmp(&key(other)).then_with(|| one.user.as_str().cmp(other.user.as_str()))
        });
    }
}

impl Conversation {
    /// Returns the oldest sequence number of an own message without an ack.
    pub(super) fn first_undelivered(&self) -> Option<i64> {
        self.undelivered.values().copied().min()
    }
}

/// Returns `3 of 5 online`.
pub(super) fn member_counts(room: &RoomOverview) -> String {
    let online = room.members.iter().filter(|member| member.online).count();
    tr!("{online} of {members} online", online, members = room.members.len())
}

/// True if a message with this mark has no ack yet.
pub(super) const fn is_undelivered(mark: DeliveryMark) -> bool {
    matches!(mark, DeliveryMark::Waiting | DeliveryMark::Sent)
}

#[cfg(test)]
mod tests {
    use shared::peer::ChatMessage;

    use super::*;
    use crate::engine::chat::MessageState;

    fn name(name: &str) -> UserName {
        name.parse().unwrap()
    }

    fn message(byte: u8) -> ChatMessage {
        ChatMessage { id: MessageId::from_bytes([byte; 16]), ts: 0, text: "hi".into(), offer: None, send: None }
    }

    fn queued(byte: u8) -> NodeEvent {
        NodeEvent::MessageQueued { to: name("bob"), message: message(byte), seq: byte.into() }
    }

    fn received(from: &str, byte: u8) -> NodeEvent {
        NodeEvent::Received { from: name(from), message: message(byte), seq: byte.into(), at: 0 }
    }

    fn state(byte: u8, state: MessageState) -> NodeEvent {
        NodeEvent::MessageStateChanged { to: name("bob"), id: message(byte).id, state, why: None, kind: None }
    }

    fn waiting(count: usize) -> Vec<UserSummary> {
        vec![UserSummary { waiting: count, ..UserSummary::of_unknown(name("bob")) }]
    }

    fn model() -> ChatModel {
        ChatModel::new(&name("alice"), Duration::from_secs(60))
    }

    fn tell(chat: &mut ChatModel, event: &NodeEvent) {
        chat.handle_event(event, Instant::now());
    }

    #[test]
    fn what_is_sent_is_counted_until_it_has_arrived() {
        let (mut chat, bob) = (model(), name("bob"));
        chat.update_users(&waiting(2), None);
        tell(&mut chat, &queued(3));
        tell(&mut chat, &state(3, MessageState::Sent));
        assert_eq!(chat.undelivered_count(&(&bob).into()), 3);
        tell(&mut chat, &state(3, MessageState::Stored));
        tell(&mut chat, &state(1, MessageState::Stored));
        assert_eq!(chat.undelivered_count(&(&bob).into()), 1, "one of those before");
        tell(&mut chat, &queued(4));
        chat.update_users(&waiting(1), None);
        assert_eq!(chat.undelivered_count(&(&bob).into()), 1, "the list counts the fourth, too");
        chat.forget_undelivered();
        assert_eq!(chat.undelivered_count(&(&bob).into()), 1);
        chat.update_users(&waiting(0), None);
        assert_eq!(chat.undelivered_count(&(&bob).into()), 0);
    }

    #[test]
    fn who_is_not_listed_is_asked_for_once() {
        let mut chat = model();
        tell(&mut chat, &received("carol", 1));
        tell(&mut chat, &received("carol", 2));
        assert_eq!(chat.summary(&name("carol")).unwrap().unread, 2);
        assert_eq!(chat.request_unlisted(), Some(ViewCommand::ListUsers));
        assert_eq!(chat.request_unlisted(), None);
        chat.update_users(&waiting(0), Some(&name("carol")));
        assert_eq!(chat.summary(&name("carol")).unwrap().unread, 2, "kept though the list doesn't name her");
        chat.update_users(&waiting(0), None);
        assert!(chat.summary(&name("carol")).is_none());
    }

    #[test]
    fn typing_ends_with_the_message_or_by_itself() {
        let (mut chat, bob, now) = (model(), name("bob"), Instant::now());
        chat.handle_event(&NodeEvent::Typing { from: bob.clone() }, now);
        chat.expire(now + TYPING_TIMEOUT - Duration::from_millis(1));
        assert!(chat.is_typing(&bob));
        chat.expire(now + TYPING_TIMEOUT);
        assert!(!chat.is_typing(&bob));
        chat.handle_event(&NodeEvent::Typing { from: bob.clone() }, now);
        chat.handle_event(&received("bob", 1), now);
        assert!(!chat.is_typing(&bob));
    }

    #[test]
    fn a_changed_key_is_told_once_until_it_is_trusted() {
        let mut chat = model();
        chat.update_users(&waiting(1), None);
        let held = |frozen| NodeEvent::DeliveryHeld { user: name("bob"), why: "another key".into(), frozen };
        let mut is_told = |event| chat.handle_event(&event, Instant::now());
        assert_eq!([is_told(held(true)), is_told(held(true))], [true, false]);
        assert_eq!([is_told(held(false)), is_told(held(true))], [false, true]);
        is_told(state(1, MessageState::Stored));
        assert!(is_told(held(true)), "what was delivered proves that the key is right again");
    }
}
