//! Rooms as conversations: history, unread counts, search, blocks and removal.

use rooms::RoomChange;

use super::{Fixture, ROOM, lab};
use crate::profile::{ConversationName, ForgetQuery, HistoryQuery, MessageState, Profile};

fn room_name() -> ConversationName {
    ConversationName::Room(lab())
}

fn texts(profile: &Profile, query: &HistoryQuery) -> Vec<String> {
    profile.history(query).unwrap().into_iter().map(|stored| stored.message.text.into_received()).collect()
}

/// A room in which the third message to arrive comes first in the room's order.
fn room_with_a_late_one() -> Fixture {
    let mut room = Fixture::new();
    let members = room.members.clone();
    let late = room.others[1].write(&members, "late");
    let one = room.others[0].write(&members, "one");
    room.take(one);
    room.write("two");
    room.take(late);
    room
}

#[test]
fn history_is_in_the_room_s_order_and_paged_by_it() {
    let room = room_with_a_late_one();
    let all = room.profile.history(&HistoryQuery::with(room_name(), 9)).unwrap();
    let (late, one) = (texts(&room.profile, &HistoryQuery::with(room_name(), 9)), all.len());
    assert_eq!((late.last().map(String::as_str), one), (Some("two"), 3), "what names the others comes last: {late:?}");
    assert_eq!(all.iter().map(|stored| stored.seq).max(), Some(3));
    // The three pages of one message each are the whole.
    let (mut before, mut pages) = (None, Vec::new());
    for _ in 0..3 {
        let page = HistoryQuery { before, ..HistoryQuery::with(room_name(), 1) };
        let stored = room.profile.history(&page).unwrap().remove(0);
        before = Some(stored.seq);
        pages.insert(0, stored.message.text.into_received());
    }
    assert_eq!(pages, late);
    assert!(texts(&room.profile, &HistoryQuery { before, ..HistoryQuery::with(room_name(), 1) }).is_empty());
    // What came after a place, and everything, is by arrival.
    let since = HistoryQuery { after: Some(2), ..HistoryQuery::with(room_name(), 9) };
    assert_eq!(texts(&room.profile, &since), ["late"]);
    assert_eq!(texts(&room.profile, &HistoryQuery::last(9)), ["one", "two", "late"]);
    let details = all.iter().find(|stored| stored.message.text.as_received() == "late").unwrap();
    let found = details.room.as_ref().unwrap();
    assert_eq!((found.is_late, found.id, &found.name, found.delivery), (true, ROOM, &lab(), None));
    assert_eq!(details.conversation(), room_name());
    assert_eq!(details.peer, room.others[1].user);
}

#[test]
fn unread_messages_are_those_of_others_until_they_are_read() {
    let mut room = room_with_a_late_one();
    let unread = |room: &Fixture| {
        let counts = room.profile.unread_counts().unwrap();
        counts.into_iter().map(|unread| (unread.with.to_string(), unread.count, unread.is_muted)).collect::<Vec<_>>()
    };
    assert_eq!(unread(&room), [("#lab".to_owned(), 2, false)]);
    let query = HistoryQuery { unread: true, ..HistoryQuery::with(room_name(), 9) };
    assert_eq!(texts(&room.profile, &query).len(), 2);
    assert!(room.profile.mark_read(room_name(), Some(1)).unwrap());
    assert_eq!(unread(&room), [("#lab".to_owned(), 1, false)]);
    assert!(room.profile.mark_read(room_name(), None).unwrap());
    assert!(!room.profile.mark_read(room_name(), None).unwrap() && unread(&room).is_empty());
    let (user, members) = (room.others[0].user.clone(), room.members.clone());
    room.write("three");
    let next = room.others[0].write(&members, "next");
    assert!(room.take(next)[0].is_late, "it names nothing of what was read");
    room.profile.set_muted(&lab().into(), true).unwrap();
    assert_eq!(unread(&room), [("#lab".to_owned(), 1, true)]);
    room.profile.block(&user, 1).unwrap();
    assert!(unread(&room).is_empty());
    room.profile.unblock(&user).unwrap();
    assert_eq!(unread(&room).len(), 1);
    assert!(room.profile.known_people().unwrap().is_empty(), "a room is no person");
}

#[test]
fn what_is_blocked_is_hidden_and_passed_on() {
    let mut room = room_with_a_late_one();
    room.profile.block(&room.others[0].user, 1).unwrap();
    assert_eq!(texts(&room.profile, &HistoryQuery::with(room_name(), 9)), ["late", "two"]);
    let one = HistoryQuery { search: Some("one".to_owned()), ..HistoryQuery::last(9) };
    assert!(texts(&room.profile, &one).is_empty());
    room.check();
    assert_eq!(room.log.ordered().count(), 3);
    room.profile.unblock(&room.others[0].user).unwrap();
    assert_eq!(texts(&room.profile, &one), ["one"]);
}

#[test]
fn a_mark_tells_how_many_members_have_a_message() {
    let mut room = Fixture::new();
    room.write("hello");
    let hello = |room: &Fixture| room.profile.history(&HistoryQuery::with(room_name(), 1)).unwrap().remove(0);
    assert_eq!(hello(&room).state, MessageState::Waiting);
    assert_eq!(room.profile.undelivered_room_messages().unwrap(), [hello(&room)]);
    let (me, bob) = (room.me.id(), room.others[0].id());
    room.profile.record_room_delivery(ROOM, &me, &bob, 1).unwrap();
    let delivery = hello(&room).room.unwrap().delivery.unwrap();
    assert_eq!((hello(&room).state, delivery.count, delivery.of), (MessageState::Stored, 1, 2));
    assert!(!delivery.is_complete() && room.profile.undelivered_room_messages().unwrap().is_empty());
    room.write("nobody has this");
    let (user, by) = (room.others[1].user.clone(), room.me.user.clone());
    let key = room.others[1].id();
    room.change(RoomChange::Kick { user, key, by, cut: None });
    let stored = room.profile.history(&HistoryQuery::with(room_name(), 2)).unwrap().remove(0);
    assert!(stored.room.unwrap().delivery.unwrap().is_complete());
}

#[test]
fn what_is_forgotten_does_not_come_back() {
    let mut room = room_with_a_late_one();
    let runs = room.others[0].write(&room.members.clone(), "later");
    room.take(runs.clone());
    let forget = |before| ForgetQuery { with: Some(room_name()), before };
    assert_eq!(room.profile.forget(&forget(Some(4)), 9).unwrap().messages, 1, "by the time of receipt");
    assert_eq!(room.profile.count_forgettable(&forget(None)).unwrap(), 2, "nobody has the own one");
    assert_eq!(room.profile.forget(&forget(None), 9).unwrap().messages, 2);
    assert_eq!(texts(&room.profile, &HistoryQuery::with(room_name(), 9)), ["two"]);
    let loaded = room.profile.load_room(ROOM).unwrap().unwrap();
    (room.members, room.log) = (loaded.members, loaded.log);
    assert_eq!(room.log.floor(&room.others[0].id()), 2);
    room.check();
    room.pull(0);
    room.pull(1);
    assert_eq!(texts(&room.profile, &HistoryQuery::with(room_name(), 9)), ["two"]);
    // Their authors go on from the floors.
    let next = room.others[0].write(&room.members.clone(), "next");
    assert_eq!(room.take(next).len(), 1);
    room.check();
    assert!(room.profile.room_named(&lab()).unwrap().is_some());
}

#[test]
fn a_room_that_was_left_is_forgotten_whole() {
    let mut room = room_with_a_late_one();
    room.profile.set_muted(&lab().into(), true).unwrap();
    let (user, key) = (room.me.user.clone(), room.me.id());
    room.change(RoomChange::Leave { user, key, cut: Some(room.log.cut(&key)) });
    let whole = ForgetQuery { with: Some(room_name()), before: None };
    assert_eq!(room.profile.forget(&whole, 9).unwrap().messages, 3, "the own one can't be delivered any more");
    assert!(room.profile.rooms().unwrap().is_empty());
    for table in ["message", "room_message", "room_author", "room_record", "conversation"] {
        assert_eq!(room.number(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    assert!(room.profile.load_room(ROOM).unwrap().is_none());
}

#[test]
fn void_messages_raise_no_floor() {
    let mut room = Fixture::new();
    let (members, id) = (room.members.clone(), room.others[0].id());
    let (user, by) = (room.others[0].user.clone(), room.me.user.clone());
    for body in ["one", "two", "three"] {
        let run = room.others[0].write(&members, body);
        room.take(run);
        if body == "one" {
            // The cut that a moderator will set who knows no more than this.
            room.others[0].backup = Some(room.others[0].log.clone());
        }
    }
    let cut = room.others[0].backup.as_ref().map(|log| log.cut(&id));
    room.change(RoomChange::Kick { user: user.clone(), key: id, by, cut });
    assert_eq!(texts(&room.profile, &HistoryQuery::with(room_name(), 9)), ["one"]);
    room.profile.forget(&ForgetQuery { with: Some(room_name()), before: None }, 9).unwrap();
    let loaded = room.profile.load_room(ROOM).unwrap().unwrap();
    (room.members, room.log) = (loaded.members, loaded.log);
    assert_eq!(room.log.floor(&id), 1);
    room.change(RoomChange::Join { user, key: id });
    let again = room.others[0].write(&room.members.clone(), "again");
    assert_eq!(again.messages()[0].content().number, 2);
    assert_eq!(room.take(again).len(), 1);
    room.check();
}
