use std::time::{Duration, Instant};

use shared::peer::{ChatMessage, MessageId};
use shared::room::MessageHash;
use shared::tracker::room_reply::ListedRole;
use shared::tracker::room_request::RequestedChange;
use shared::{RoomId, RoomName, UserName};

use super::line_view_model::{LineViewModel, ScrollbackItem};
use crate::engine::chat::{ConversationName, MessageDirection, MessageState, StoredMessage};
use crate::engine::node::UserSummary;
use crate::engine::node_event::NodeEvent;
use crate::engine::room_values::{RoomMemberStatus, RoomNews, RoomNewsKind, RoomOverview, RoomPost};
use crate::ui::line_editor::EditCommand;
use crate::ui::theme::{DeliveryMark, TerminalTheme};
use crate::ui::view::{MAX_CATCH_UP_MESSAGES, ViewCommand, ViewUpdate};
use crate::ui::view_input::InputAction;

pub(super) const LOOK: TerminalTheme = TerminalTheme { color: false, unicode: true };

pub(super) fn bob() -> UserName {
    "bob".parse().unwrap()
}

pub(super) fn alice() -> UserName {
    "alice".parse().unwrap()
}

pub(super) fn with_bob() -> ConversationName {
    bob().into()
}

fn message(byte: u8, text: &str) -> ChatMessage {
    ChatMessage { id: MessageId::from_bytes([byte; 16]), ts: 0, text: text.into(), offer: None, send: None }
}

pub(super) fn said(byte: u8, text: &str) -> ViewUpdate {
    ViewUpdate::Event(NodeEvent::MessageQueued { to: bob(), message: message(byte, text), seq: byte.into() })
}

pub(super) fn received(from: &str, byte: u8, text: &str) -> ViewUpdate {
    ViewUpdate::Event(NodeEvent::Received {
        from: from.parse().unwrap(),
        message: message(byte, text),
        seq: byte.into(),
        at: 0,
    })
}

pub(super) fn state(byte: u8, state: MessageState) -> ViewUpdate {
    ViewUpdate::Event(NodeEvent::MessageStateChanged {
        to: bob(),
        id: MessageId::from_bytes([byte; 16]),
        state,
        why: None,
        kind: None,
    })
}

pub(super) fn tell(view: &mut LineViewModel, news: &ViewUpdate) -> Vec<ViewCommand> {
    view.handle_update(news, Instant::now())
}

pub(super) fn above(view: &mut LineViewModel, columns: usize) -> Vec<String> {
    let items = view.take_items();
    items.iter().flat_map(|item| view.rows_of(item, columns)).map(|row| row.line.to_string()).collect()
}

fn below(view: &LineViewModel, columns: usize) -> Vec<String> {
    let (line, below) = view.rows_below(columns, 24);
    let line = format!("> {}{}", line.before, line.after);
    let rows = std::iter::once(line).chain(below.iter().map(ToString::to_string));
    rows.map(|row| row.trim_end().to_owned()).collect()
}

pub(super) fn begun() -> LineViewModel {
    let mut view = LineViewModel::new(LOOK, &alice(), &with_bob(), (&[], &[]), &[], None);
    view.take_items();
    view
}

#[test]
fn a_mark_changes_before_and_after_it_is_drawn() {
    let mut view = begun();
    tell(&mut view, &said(1, "hi"));
    tell(&mut view, &state(1, MessageState::Sent));
    let rows = above(&mut view, 60);
    assert!(rows[1].starts_with('→') && rows[1].ends_with("you: hi"), "{rows:?}");
    assert_eq!(view.chat.undelivered_count(&with_bob()), 1);
    tell(&mut view, &state(1, MessageState::Stored));
    assert!(matches!(view.take_items()[..], [ScrollbackItem::Mark { mark: DeliveryMark::Stored, .. }]));
    assert_eq!(view.chat.undelivered_count(&with_bob()), 0);
}

#[test]
fn the_list_of_users_corrects_the_number_of_queued_messages() {
    let before = [stored(1, MessageDirection::Out, MessageState::Waiting)];
    let people = |waiting| vec![UserSummary { waiting, ..person(0) }];
    let mut view = LineViewModel::new(LOOK, &alice(), &with_bob(), (&people(3), &[]), &before, None);
    assert_eq!(view.chat.undelivered_count(&with_bob()), 3);
    // Two older ones were delivered while events were missed.
    tell(&mut view, &ViewUpdate::Event(NodeEvent::EventsMissed { count: 2 }));
    tell(&mut view, &ViewUpdate::Users(people(1)));
    assert_eq!(view.chat.undelivered_count(&with_bob()), 1);
    tell(&mut view, &state(1, MessageState::Stored));
    assert_eq!(view.chat.undelivered_count(&with_bob()), 0);
}

#[test]
fn what_others_write_is_counted_until_it_is_read() {
    let mut view = begun();
    tell(&mut view, &received("carol", 1, "psst"));
    tell(&mut view, &received("carol", 2, "psst"));
    assert!(above(&mut view, 60).is_empty(), "it belongs to another conversation");
    assert!(below(&view, 60)[1].contains("carol 2 unread"), "{:?}", below(&view, 60));
    tell(&mut view, &ViewUpdate::Event(NodeEvent::Read { with: "carol".parse().unwrap() }));
    assert!(!below(&view, 60)[1].contains("carol"));
    let seen = tell(&mut view, &received("bob", 3, "hi"));
    assert_eq!(seen, [ViewCommand::MarkRead { with: with_bob(), up_to: 3 }]);
}

#[test]
fn nothing_that_was_written_can_pass_for_a_message_or_move_the_cursor() {
    let mut view = begun();
    tell(&mut view, &received("bob", 1, "hi\n  00:00:00 carol: send money\r\u{1b}[2J\u{202e}x"));
    for columns in [20, 39, 40, 80] {
        let mut view = begun();
        tell(&mut view, &received("bob", 1, "hi\n  00:00:00 carol: send money\r\u{1b}[2J\u{202e}x"));
        let rows = above(&mut view, columns);
        let forged =
            |row: &String| row.strip_prefix("  ").is_some_and(|row| row.starts_with(|c: char| c.is_ascii_digit()));
        assert_eq!(rows.iter().filter(|row| forged(row)).count(), 1, "{rows:?}");
        assert!(!rows.concat().chars().any(|c| c.is_control() || c == '\u{202e}'), "{rows:?}");
    }
}

#[test]
fn the_status_fits_and_says_the_most_important() {
    let mut view = begun();
    let carol = UserSummary { user: "carol".parse().unwrap(), ..person(3) };
    tell(&mut view, &ViewUpdate::Users(vec![UserSummary { waiting: 12, ..person(0) }, carol]));
    tell(&mut view, &ViewUpdate::Event(NodeEvent::Typing { from: bob() }));
    assert_eq!(below(&view, 20)[1], "● bob online · …12");
    let wide = &below(&view, 80)[1];
    assert!(wide.starts_with("● bob online · 12 queued · typing… · carol 3 unread"), "{wide}");
    for columns in 2..120 {
        for row in below(&view, columns) {
            assert!(unicode_width::UnicodeWidthStr::width(row.as_str()) <= columns, "{columns}: {row}");
        }
    }
}

#[test]
fn an_offer_can_be_fetched_at_once() {
    let mut view = begun();
    let offer = shared::peer::FileOffer {
        name: "menu.pdf".parse().unwrap(),
        size: 2_100_000,
        hash: shared::ContentHash::of(b""),
    };
    let message = ChatMessage { offer: Some(offer), ..message(1, "menu.pdf (2.10 MB)") };
    tell(&mut view, &ViewUpdate::Event(NodeEvent::Received { from: bob(), message, seq: 1, at: 0 }));
    assert!(above(&mut view, 60).iter().any(|row| row == "  /get 1 fetches menu.pdf (2.10 MB)"));
    let now = Instant::now();
    view.handle_input(&InputAction::Edit(EditCommand::Insert("/get".to_owned())), now);
    assert_eq!(
        view.handle_input(&InputAction::Submit, now),
        [ViewCommand::Fetch { from: bob().into(), name: "menu.pdf".to_owned() }]
    );
}

pub(super) fn stored(byte: u8, direction: MessageDirection, state: MessageState) -> StoredMessage {
    let message = message(byte, &format!("message {byte}"));
    StoredMessage { seq: byte.into(), peer: bob(), direction, message, state, at: 0, room: None }
}

pub(super) fn texts(rows: &[String]) -> Vec<&str> {
    rows.iter().filter_map(|row| row.rsplit_once(": ").map(|(_, text)| text)).collect()
}

#[test]
fn what_was_missed_is_shown_once_and_in_order_and_nothing_unseen_is_read() {
    let mut view = begun();
    tell(&mut view, &received("bob", 1, "message 1"));
    tell(&mut view, &said(2, "message 2"));
    tell(&mut view, &received("bob", 3, "message 3"));
    above(&mut view, 60);
    let missed = tell(&mut view, &ViewUpdate::Event(NodeEvent::EventsMissed { count: 5 }));
    // Starts before the message that may have been acked meanwhile.
    assert_eq!(missed, [ViewCommand::CatchUp { with: with_bob(), after: 1, before: None }, ViewCommand::ListUsers]);
    assert_eq!(tell(&mut view, &received("bob", 6, "message 6")), [], "five is not shown yet");
    tell(&mut view, &said(7, "message 7"));
    tell(&mut view, &state(7, MessageState::Stored));
    assert!(above(&mut view, 60).is_empty());
    let (theirs, ours) = (MessageDirection::In, MessageDirection::Out);
    let messages = vec![
        stored(2, ours, MessageState::Stored),
        stored(3, theirs, MessageState::Received),
        stored(4, theirs, MessageState::Received),
        stored(5, theirs, MessageState::Received),
        stored(6, theirs, MessageState::Received),
    ];
    let caught_up = ViewUpdate::CaughtUp { with: with_bob(), messages };
    assert_eq!(tell(&mut view, &caught_up), [ViewCommand::MarkRead { with: with_bob(), up_to: 7 }]);
    assert_eq!(view.chat.undelivered_count(&with_bob()), 0, "the second and the seventh are stored over there");
    let rows = above(&mut view, 60);
    assert_eq!(texts(&rows), ["message 4", "message 5", "message 6", "message 7"], "{rows:?}");
    assert!(rows.last().unwrap().starts_with('✓'), "{rows:?}");
    assert_eq!(tell(&mut view, &caught_up), [], "once");
    tell(&mut view, &received("bob", 6, "message 6"));
    assert!(above(&mut view, 60).is_empty());
}

#[test]
fn more_than_a_page_is_caught_up_with_page_by_page() {
    let mut view = begun();
    assert_eq!(view.start(), [ViewCommand::CatchUp { with: with_bob(), after: 0, before: None }]);
    let page = |from: i64, count: usize| {
        let numbers = (from..).take(count);
        let received = |seq| StoredMessage { seq, ..stored(1, MessageDirection::In, MessageState::Received) };
        ViewUpdate::CaughtUp { with: with_bob(), messages: numbers.map(received).collect() }
    };
    let more = tell(&mut view, &page(1, MAX_CATCH_UP_MESSAGES));
    assert_eq!(
        more,
        [ViewCommand::CatchUp { with: with_bob(), after: 500, before: None }],
        "nothing is read before all of it is shown"
    );
    assert_eq!(tell(&mut view, &page(501, 3)), [ViewCommand::MarkRead { with: with_bob(), up_to: 503 }]);
}

pub(super) fn theirs(seq: u8, text: &str) -> StoredMessage {
    let (direction, state) = (MessageDirection::In, MessageState::Received);
    StoredMessage { seq: seq.into(), peer: bob(), direction, message: message(seq, text), state, at: 0, room: None }
}

fn person(unread: usize) -> UserSummary {
    UserSummary { online: Some(true), unread, ..UserSummary::of_unknown(bob()) }
}

fn caught_up(view: &mut LineViewModel) -> Vec<ViewCommand> {
    view.start();
    tell(view, &ViewUpdate::CaughtUp { with: with_bob(), messages: Vec::new() })
}

#[test]
fn what_is_new_is_told_from_what_was_read() {
    let before: Vec<StoredMessage> = (1..=4).map(|seq| theirs(seq, &format!("message {seq}"))).collect();
    let mut view = LineViewModel::new(LOOK, &alice(), &with_bob(), (&[person(2)], &[]), &before, Some(3));
    let rows = above(&mut view, 60);
    assert!(rows[2].ends_with("message 2") && rows[3] == "── 2 new ──" && rows[4].ends_with("message 3"), "{rows:?}");
    assert_eq!(caught_up(&mut view), [ViewCommand::MarkRead { with: with_bob(), up_to: 4 }]);
}

#[test]
fn what_was_not_shown_is_not_read() {
    let before: Vec<StoredMessage> = (103..=104).map(|seq| theirs(seq, "so on")).collect();
    let mut view = LineViewModel::new(LOOK, &alice(), &with_bob(), (&[person(4)], &[]), &before, Some(101));
    let rows = above(&mut view, 90).join("\n");
    assert!(rows.contains("4 unread, 2 of them not shown: /history goes back to them, or `peer inbox`"), "{rows}");
    assert_eq!(caught_up(&mut view), []);
    assert_eq!(tell(&mut view, &received("bob", 105, "hi")), [], "it would make the others read");
    let wished = view.handle_input(&InputAction::Edit(EditCommand::Insert("/history 1".to_owned())), Instant::now());
    assert_eq!(wished, []);
    let history = |before| ViewCommand::LoadHistory { with: with_bob(), before: Some(before), age: None, limit: 1 };
    assert_eq!(view.handle_input(&InputAction::Submit, Instant::now()), [history(103)]);
    let page = |seq| ViewUpdate::History { with: with_bob(), before: None, messages: vec![theirs(seq, "before")] };
    assert_eq!(tell(&mut view, &page(102)), [], "there is still one");
    view.handle_input(&InputAction::Edit(EditCommand::Older), Instant::now());
    assert_eq!(view.handle_input(&InputAction::Submit, Instant::now()), [history(102)]);
    assert_eq!(tell(&mut view, &page(101)), [ViewCommand::MarkRead { with: with_bob(), up_to: 105 }]);
    let rows = above(&mut view, 90).join("\n");
    assert!(rows.contains("── further back ──") && rows.contains("1 message; /history goes further back"), "{rows}");
}

#[test]
fn what_was_read_elsewhere_needs_no_looking_back() {
    let mut view =
        LineViewModel::new(LOOK, &alice(), &with_bob(), (&[person(4)], &[]), &[theirs(104, "so on")], Some(101));
    assert_eq!(caught_up(&mut view), []);
    tell(&mut view, &ViewUpdate::Event(NodeEvent::Read { with: with_bob() }));
    assert_eq!(tell(&mut view, &received("bob", 105, "hi")), [ViewCommand::MarkRead { with: with_bob(), up_to: 105 }]);
}

#[test]
fn whether_there_is_such_a_user_is_asked_once() {
    let mut view = begun();
    assert_eq!(tell(&mut view, &ViewUpdate::Tick), [ViewCommand::ListUsers]);
    assert_eq!(tell(&mut view, &ViewUpdate::Users(Vec::new())), [ViewCommand::FindAccount { user: bob() }]);
    assert_eq!(tell(&mut view, &ViewUpdate::Users(Vec::new())), []);
    tell(&mut view, &ViewUpdate::Account { user: bob(), exists: false, similar: vec!["bobo".parse().unwrap()] });
    assert!(above(&mut view, 60).concat().contains("there is no user \"bob\"; did you mean bobo?"));
    assert!(below(&view, 60)[1].contains("unknown user"), "{:?}", below(&view, 60));
    // They may register at any time.
    let begun = Instant::now();
    let asked = (0..3600)
        .filter(|second| !view.handle_update(&ViewUpdate::Tick, begun + Duration::from_secs(*second)).is_empty());
    assert!((5..40).contains(&asked.count()));
    tell(&mut view, &ViewUpdate::Event(NodeEvent::Presence { user: bob(), online: true }));
    assert!(below(&view, 60)[1].contains("bob online"));
}

#[test]
fn a_full_disk_is_said_once() {
    let mut view = begun();
    let full = ViewUpdate::Event(NodeEvent::NotStored { from: bob(), why: "no space left on device".into() });
    tell(&mut view, &full);
    tell(&mut view, &full);
    let rows = above(&mut view, 120);
    assert!(rows.len() == 1 && rows[0].contains("could not be stored"), "{rows:?}");
    tell(&mut view, &received("bob", 9, "hi"));
    tell(&mut view, &full);
    assert_eq!(above(&mut view, 120).iter().filter(|row| row.contains("could not be stored")).count(), 1);
}

#[test]
fn of_what_was_found_the_last_are_shown_and_the_rest_counted() {
    let mut view = begun();
    let messages: Vec<StoredMessage> = (1..=25).map(|seq| theirs(seq, &format!("tea {seq}"))).collect();
    tell(&mut view, &ViewUpdate::SearchResults { with: with_bob(), words: "tea".to_owned(), messages });
    let rows = above(&mut view, 90);
    assert!(rows[1].contains("5 more before these: `peer history bob --search WORDS`"), "{rows:?}");
    assert!(rows[3].ends_with("tea 6") && rows[22].ends_with("tea 25"), "{rows:?}");
}

#[test]
fn a_stranger_wants_to_talk_until_there_is_an_answer() {
    let stranger = UserSummary { request: true, ..person(1) };
    let mut view = LineViewModel::new(
        LOOK,
        &alice(),
        &with_bob(),
        (std::slice::from_ref(&stranger), &[]),
        &[theirs(1, "psst")],
        Some(1),
    );
    let note = "bob wants to talk: /accept, /ignore";
    assert_eq!(above(&mut view, 60).iter().filter(|row| row.contains(note)).count(), 1);
    assert!(below(&view, 80).concat().contains("wants to talk: /accept, /ignore"));
    assert!(below(&view, 30).concat().contains("bob online"), "{:?}", below(&view, 30));
    view.handle_input(&InputAction::Edit(EditCommand::Insert("/accept".to_owned())), Instant::now());
    assert_eq!(view.handle_input(&InputAction::Submit, Instant::now()), [ViewCommand::Accept { user: bob() }]);
    tell(&mut view, &ViewUpdate::Event(NodeEvent::Accepted { user: bob() }));
    assert!(!below(&view, 80).concat().contains("wants to talk"));

    // A request that arrives while the view is open; an answer accepts it.
    let mut view = begun();
    tell(&mut view, &received("bob", 9, "hi"));
    for _ in 0..2 {
        tell(&mut view, &ViewUpdate::Event(NodeEvent::ContactRequest { from: bob() }));
    }
    assert_eq!(above(&mut view, 60).iter().filter(|row| row.contains(note)).count(), 1, "it is said once");
    tell(&mut view, &said(10, "hello"));
    assert!(!below(&view, 80).concat().contains("wants to talk"));
}

pub(super) fn lab() -> RoomName {
    "lab".parse().unwrap()
}

pub(super) fn overview() -> RoomOverview {
    let member = |user: &str, role, online| RoomMemberStatus { user: user.parse().unwrap(), role, online };
    RoomOverview {
        room: lab(),
        room_id: RoomId::from_bytes([1; 16]),
        topic: "Fridays at ten".parse().unwrap(),
        role: Some(ListedRole::Owner),
        members: vec![
            member("alice", ListedRole::Owner, true),
            member("bob", ListedRole::Member, true),
            member("carol", ListedRole::Moderator, false),
        ],
        waiting: 0,
        unread: 0,
        muted: false,
    }
}

fn post(from: &str, byte: u8, text: &str) -> RoomPost {
    RoomPost {
        room: lab(),
        room_id: RoomId::from_bytes([1; 16]),
        from: from.parse().unwrap(),
        id: MessageHash::from_bytes([byte; 32]),
        seq: byte.into(),
        ts: 0,
        at: 0,
        text: text.into(),
        late: false,
        mentions_me: false,
    }
}

fn news(kind: RoomNewsKind) -> ViewUpdate {
    ViewUpdate::Event(NodeEvent::Room(RoomNews { room: lab(), room_id: RoomId::from_bytes([1; 16]), kind }))
}

fn in_lab() -> LineViewModel {
    let mut view = LineViewModel::new(LOOK, &alice(), &lab().into(), (&[], &[overview()]), &[], None);
    let rows = above(&mut view, 60);
    assert_eq!(rows, ["  #lab, 2 of 3 online: Fridays at ten; /help shows what ", "  there is, Ctrl-D leaves"]);
    tell(&mut view, &ViewUpdate::CaughtUp { with: lab().into(), messages: Vec::new() });
    view
}

#[test]
fn a_room_s_messages_have_authors_and_counts() {
    let mut view = in_lab();
    tell(&mut view, &ViewUpdate::Event(NodeEvent::RoomMessage(post("alice", 1, "one"))));
    tell(&mut view, &ViewUpdate::Event(NodeEvent::RoomMessage(post("alice", 2, "two"))));
    tell(&mut view, &ViewUpdate::Event(NodeEvent::RoomMessage(post("bob", 3, "hi"))));
    let called = RoomPost { late: true, mentions_me: true, ..post("carol", 4, "@alice?") };
    tell(&mut view, &ViewUpdate::Event(NodeEvent::RoomMessage(called)));
    let rows = above(&mut view, 60);
    let ends = ["you: one", "you: two", "bob: hi", "late, carol: @alice?"];
    assert!(rows[1..].iter().zip(ends).all(|(row, end)| row.ends_with(end)), "{rows:?}");
    assert!(rows[1].starts_with("…   ") && rows[3].starts_with("    ") && rows[4].starts_with("@   "), "{rows:?}");
    // A member who has the second has the first.
    tell(&mut view, &news(RoomNewsKind::Delivered { id: MessageHash::from_bytes([2; 32]), count: 1, of: 2 }));
    let partly = DeliveryMark::Partly { count: 1, of: 2 };
    let is_partly =
        |item: &ScrollbackItem| matches!(item, ScrollbackItem::Mark { mark, cells: 3, .. } if *mark == partly);
    let items = view.take_items();
    assert!(items.len() == 2 && items.iter().all(is_partly), "{items:?}");
    tell(&mut view, &news(RoomNewsKind::Delivered { id: MessageHash::from_bytes([2; 32]), count: 2, of: 2 }));
    assert!(matches!(view.take_items()[..], [ScrollbackItem::Mark { mark: DeliveryMark::Stored, .. }, _]));
    tell(&mut view, &news(RoomNewsKind::Delivered { id: MessageHash::from_bytes([1; 32]), count: 2, of: 2 }));
    assert!(view.take_items().is_empty());
}

#[test]
fn a_room_tells_of_its_members_in_one_line_each() {
    let mut view = in_lab();
    let dave: UserName = "dave".parse().unwrap();
    tell(&mut view, &news(RoomNewsKind::Joined { user: dave.clone() }));
    assert_eq!(above(&mut view, 60), ["  dave joined"]);
    assert!(below(&view, 60)[1].starts_with("#lab 2 of 4 online"), "{:?}", below(&view, 60));
    tell(&mut view, &ViewUpdate::Event(NodeEvent::Presence { user: dave, online: true }));
    assert!(below(&view, 60)[1].starts_with("#lab 3 of 4 online"), "{:?}", below(&view, 60));
    let mut typed = |text: &str| {
        view.handle_input(&InputAction::Edit(EditCommand::Insert(text.to_owned())), Instant::now());
        let wishes = view.handle_input(&InputAction::Submit, Instant::now());
        (wishes, above(&mut view, 60))
    };
    let members = ["  ● alice owner (you)", "  ● bob", "  ○ carol moderator", "  ● dave"].map(str::to_owned);
    assert_eq!(typed("/members"), (Vec::new(), members.to_vec()));
    let kick = RequestedChange::Kick { user: bob(), cut: None };
    assert_eq!(typed("/kick bob").0, [ViewCommand::ChangeRoom { room: lab(), change: kick }]);
    assert_eq!(typed("/leave").0, [ViewCommand::LeaveRoom { room: lab() }]);
    assert_eq!(typed("/mute").0, [ViewCommand::Mute { with: lab().into(), muted: true }]);
    assert_eq!(typed("/topic").1, ["  Fridays at ten"]);
    let offer = ViewCommand::Offer { to: lab().into(), paths: vec!["x".into()] };
    assert_eq!(typed("/offer x").0, [offer]);
    assert_eq!(typed("/get x").0, [ViewCommand::Fetch { from: lab().into(), name: "x".to_owned() }]);
    assert_eq!(typed("/files").0, [ViewCommand::ListFiles { of: lab().into(), prefix: String::new() }]);
    assert!(typed("/accept").1[0].contains("with one person"));
    assert_eq!(typed("hi").0, [ViewCommand::Send { to: lab().into(), text: "hi".to_owned() }]);
}

#[test]
fn many_who_come_and_go_at_once_share_a_line() {
    let mut view = in_lab();
    for number in 0..30 {
        let user: UserName = format!("user{number}").parse().unwrap();
        tell(&mut view, &news(RoomNewsKind::Joined { user }));
    }
    tell(&mut view, &news(RoomNewsKind::Left { user: bob() }));
    tell(&mut view, &ViewUpdate::Event(NodeEvent::RoomMessage(post("carol", 1, "welcome"))));
    tell(&mut view, &news(RoomNewsKind::Kicked { user: "carol".parse().unwrap(), by: alice() }));
    tell(&mut view, &news(RoomNewsKind::Kicked { user: alice(), by: "dave".parse().unwrap() }));
    let rows = above(&mut view, 100);
    assert_eq!(rows[0], "  user0, user1, user2, user3, user4 and 25 more joined; bob left");
    let rest = ["  carol was sent away by you", "  you were sent away by dave: coming back takes an invitation"];
    assert!(rows[2].ends_with("carol: welcome") && rows[3..] == rest, "{rows:?}");
}
