use std::time::Instant;

use ratatui_core::layout::Size;
use shared::peer::{ChatMessage, FileStat, MessageId};
use shared::room::MessageHash;
use shared::tracker::room_reply::ListedRole;
use shared::{ContentHash, GroupLayout, RoomId, RoomName, UserName};

use super::full_view_model::FullViewModel;
use super::pane_layout::FocusedPane;
use super::renderer::draw;
use super::screen_painter::ScreenFrame;
use crate::engine::chat::{ConversationName, MessageDirection, MessageState, StoredMessage};
use crate::engine::node::UserSummary;
use crate::engine::node_event::{FileTransfer, NodeEvent, TransferDirection, TransferState};
use crate::engine::room_values::{RoomMemberStatus, RoomOverview, RoomPost};
use crate::ui::line_editor::EditCommand;
use crate::ui::theme::TerminalTheme;
use crate::ui::view::{ViewCommand, ViewUpdate};
use crate::ui::view_input::InputAction;

pub(super) const LOOK: TerminalTheme = TerminalTheme { color: false, unicode: true };

pub(super) fn name(name: &str) -> UserName {
    name.parse().unwrap()
}

pub(super) fn person(user: &str, online: bool, unread: usize) -> UserSummary {
    UserSummary { online: Some(online), unread, ..UserSummary::of_unknown(name(user)) }
}

pub(super) fn stored(seq: i64, text: &str) -> StoredMessage {
    let id = MessageId::from_bytes(i128::from(seq).to_be_bytes());
    let message = ChatMessage { id, ts: seq * 1000, text: text.into(), offer: None, send: None };
    let (direction, state) = (MessageDirection::In, MessageState::Received);
    StoredMessage { seq, peer: name("bob"), direction, message, state, at: seq * 1000, room: None }
}

pub(super) fn view(columns: u16, rows: u16) -> FullViewModel {
    let people = [person("dave", false, 0), person("carol", true, 12), person("bob", true, 0)];
    let mut view = FullViewModel::new(LOOK, &name("alice"), &people, &[]);
    view.resize(Size::new(columns, rows));
    view.start();
    view
}

pub(super) fn tell(view: &mut FullViewModel, news: &ViewUpdate) -> Vec<ViewCommand> {
    view.handle_update(news, Instant::now())
}

pub(super) fn press(view: &mut FullViewModel, press: &InputAction) -> Vec<ViewCommand> {
    view.handle_input(press, Instant::now())
}

pub(super) fn insert(text: &str) -> InputAction {
    InputAction::Edit(EditCommand::Insert(text.to_owned()))
}

pub(super) fn picture(view: &FullViewModel, columns: u16, rows: u16) -> Vec<String> {
    let mut picture = ScreenFrame::new(Size::new(columns, rows));
    draw(view, &mut picture);
    let buffer = &picture.cells;
    let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..rows).map(row).collect()
}

pub(super) fn history(before: Option<i64>, seqs: std::ops::Range<i64>) -> ViewUpdate {
    let messages = seqs.map(|seq| stored(seq, &format!("message {seq}"))).collect();
    ViewUpdate::History { with: name("bob").into(), before, messages }
}

pub(super) fn page(view: &mut FullViewModel, seqs: std::ops::Range<i64>) {
    tell(view, &history(None, seqs));
}

/// Looks back until a page is requested.
pub(super) fn look_back(view: &mut FullViewModel) -> Vec<ViewCommand> {
    let mut wishes = (0..100).map(|_| press(view, &InputAction::PageUp));
    wishes.find(|wishes| !wishes.is_empty()).unwrap_or_default()
}

#[test]
fn everybody_is_there_those_online_first() {
    let view = view(80, 8);
    let rows = picture(&view, 80, 8);
    assert!(rows[0].starts_with("[People, you: alice]  bob online"), "{rows:?}");
    assert!(rows[1].starts_with(">● bob"), "{rows:?}");
    assert!(rows[2].starts_with(" ● (12) carol"), "{rows:?}");
    assert!(rows[3].starts_with(" ○ dave"), "{rows:?}");
    assert!(rows[7].starts_with("?: help  Enter: talk"), "{rows:?}");
}

#[test]
fn a_conversation_is_looked_at_written_in_and_looked_back() {
    let mut view = view(80, 8);
    page(&mut view, 100..200);
    assert_eq!(
        press(&mut view, &InputAction::Submit),
        [ViewCommand::MarkRead { with: name("bob").into(), up_to: 199 }]
    );
    assert!(picture(&view, 80, 8)[5].ends_with("bob: message 199"), "{:?}", picture(&view, 80, 8));
    assert_eq!(
        look_back(&mut view),
        [ViewCommand::LoadHistory { with: name("bob").into(), before: Some(100), age: None, limit: 100 }]
    );
    assert!(picture(&view, 80, 8)[2].ends_with("bob: message 100"), "{:?}", picture(&view, 80, 8));
    tell(&mut view, &history(Some(100), 90..100));
    for _ in 0..9 {
        assert!(press(&mut view, &InputAction::PageUp).is_empty(), "there is no more");
    }
    assert!(picture(&view, 80, 8)[2].ends_with("bob: message 90"), "{:?}", picture(&view, 80, 8));
    press(&mut view, &insert("hi"));
    let said = press(&mut view, &InputAction::Submit);
    let seen = ViewCommand::MarkRead { with: name("bob").into(), up_to: 199 };
    assert_eq!(said, [seen, ViewCommand::Send { to: name("bob").into(), text: "hi".to_owned() }]);
    assert!(picture(&view, 80, 8)[5].ends_with("bob: message 199"), "saying something looks at the end again");
}

#[test]
fn an_unread_mark_stays_until_the_conversation_is_entered() {
    let mut view = view(80, 8);
    let message = stored(1, "psst").message;
    tell(&mut view, &ViewUpdate::Event(NodeEvent::Received { from: name("dave"), message, seq: 1, at: 0 }));
    assert!(picture(&view, 80, 8)[3].starts_with(" ○ (1) dave"));
    press(&mut view, &InputAction::Edit(EditCommand::Newer));
    press(&mut view, &InputAction::Edit(EditCommand::Newer));
    assert!(picture(&view, 80, 8)[3].starts_with(">○ (1) dave"), "looking at it is not reading it");
    press(&mut view, &InputAction::Submit);
    assert!(picture(&view, 80, 8)[3].starts_with(">○ dave"));
}

#[test]
fn files_are_chosen_and_fetched() {
    let mut view = view(120, 10);
    assert!(view.layout().files.is_some(), "there is room for three");
    let files = vec![file("a.pdf"), file("docs/b.pdf")];
    tell(&mut view, &ViewUpdate::Files { of: name("bob").into(), prefix: String::new(), files });
    press(&mut view, &InputAction::Tab);
    press(&mut view, &InputAction::Tab);
    press(&mut view, &InputAction::Edit(EditCommand::Newer));
    press(&mut view, &InputAction::Edit(EditCommand::Newer));
    view.resize(Size::new(120, 10));
    assert!(picture(&view, 120, 10)[2].contains(">     5 B docs/b.pdf"), "{:?}", picture(&view, 120, 10));
    assert_eq!(
        press(&mut view, &InputAction::Submit),
        [ViewCommand::Fetch { from: name("bob").into(), name: "docs/b.pdf".to_owned() }]
    );
}

#[test]
fn a_narrow_screen_has_one_pane() {
    let mut view = view(20, 6);
    page(&mut view, 1..4);
    let rows = picture(&view, 20, 6);
    assert!(rows[0].starts_with("[People, you: alice]") && rows[1] == ">● bob", "{rows:?}");
    press(&mut view, &InputAction::Submit);
    let rows = picture(&view, 20, 6);
    assert!(rows[0].starts_with("[bob online]") && rows[4] == ">", "{rows:?}");
    press(&mut view, &InputAction::Escape);
    assert_eq!(view.focus, FocusedPane::Users);
}

#[test]
fn what_is_on_its_way_is_seen_below() {
    let mut view = view(80, 12);
    let transfer = FileTransfer {
        peer: name("bob"),
        name: "film.mkv".parse().unwrap(),
        direction: TransferDirection::Down,
        bytes: 50,
        size: 100,
        state: TransferState::Running,
    };
    tell(&mut view, &ViewUpdate::Event(NodeEvent::Transfer(transfer)));
    let rows = picture(&view, 80, 12);
    assert!(rows[10].starts_with("↓ film.mkv from bob") && rows[10].contains("50%"), "{rows:?}");
}

#[test]
fn a_question_mark_helps_but_not_in_the_line() {
    let mut view = view(80, 30);
    press(&mut view, &insert("?"));
    assert!(picture(&view, 80, 30).concat().contains("the next pane, the one before"));
    press(&mut view, &InputAction::Escape);
    press(&mut view, &InputAction::Submit);
    press(&mut view, &insert("?"));
    assert!(picture(&view, 80, 30).iter().any(|row| row.ends_with("> ?")), "{:?}", picture(&view, 80, 30));
}

#[test]
fn every_size_is_survived() {
    for columns in 1..130 {
        for rows in [1, 2, 3, 5, 9, 30] {
            let mut view = view(columns, rows);
            page(&mut view, 1..50);
            for _ in 0..3 {
                view.resize(Size::new(columns, rows));
                picture(&view, columns, rows);
                press(&mut view, &InputAction::Tab);
                press(&mut view, &InputAction::PageUp);
            }
        }
    }
}

#[test]
fn what_was_missed_is_shown_once_and_in_order_and_nothing_unseen_is_read() {
    let mut view = view(80, 12);
    page(&mut view, 1..4);
    press(&mut view, &InputAction::Submit);
    let received = |seq| {
        let message = stored(seq, &format!("message {seq}")).message;
        ViewUpdate::Event(NodeEvent::Received { from: name("bob"), message, seq, at: 0 })
    };
    let missed = tell(&mut view, &ViewUpdate::Event(NodeEvent::EventsMissed { count: 5 }));
    assert_eq!(
        missed,
        [
            ViewCommand::LoadHistory { with: name("bob").into(), before: None, age: None, limit: 100 },
            ViewCommand::ListUsers
        ]
    );
    assert_eq!(tell(&mut view, &received(6)), [], "what is before it is not here yet");
    let messages = (1..=7).map(|seq| stored(seq, &format!("message {seq}"))).collect();
    let told = tell(&mut view, &ViewUpdate::History { with: name("bob").into(), before: None, messages });
    assert_eq!(told, [ViewCommand::MarkRead { with: name("bob").into(), up_to: 7 }]);
    tell(&mut view, &received(7));
    let rows = picture(&view, 80, 12);
    let shown: Vec<&str> = rows.iter().filter_map(|row| row.split("bob: message ").nth(1)).collect();
    assert_eq!(shown, ["1", "2", "3", "4", "5", "6", "7"], "{rows:?}");
}

#[test]
fn what_comes_while_one_looks_back_is_counted_and_not_read() {
    let mut view = view(80, 8);
    page(&mut view, 1..50);
    press(&mut view, &InputAction::Submit);
    press(&mut view, &InputAction::PageUp);
    let received = |seq| {
        let message = stored(seq, "psst").message;
        ViewUpdate::Event(NodeEvent::Received { from: name("bob"), message, seq, at: 0 })
    };
    assert_eq!(tell(&mut view, &received(50)), []);
    assert!(picture(&view, 80, 8)[0].contains("bob online, ↓ 1 new, looking back"), "{:?}", picture(&view, 80, 8));
    tell(&mut view, &ViewUpdate::Users(vec![person("bob", true, 1)]));
    assert!(picture(&view, 80, 8)[0].contains("↓ 1 new"));
    assert_eq!(press(&mut view, &InputAction::PageDown), [], "there is still a row below");
    assert_eq!(
        press(&mut view, &InputAction::PageDown),
        [ViewCommand::MarkRead { with: name("bob").into(), up_to: 50 }]
    );
    assert!(!picture(&view, 80, 8)[0].contains("new"));
    press(&mut view, &InputAction::Help);
    assert_eq!(tell(&mut view, &received(51)), [], "the help is in front");
    assert_eq!(press(&mut view, &InputAction::Escape), [ViewCommand::MarkRead { with: name("bob").into(), up_to: 51 }]);
}

#[test]
fn what_comes_while_one_looks_back_moves_nothing() {
    let mut view = view(80, 8);
    page(&mut view, 1..50);
    press(&mut view, &InputAction::Submit);
    press(&mut view, &InputAction::PageUp);
    view.resize(Size::new(80, 8));
    let shown = |view: &FullViewModel| {
        let rows = picture(view, 80, 8);
        rows[1..6].iter().map(|row| row.split_once("bob: ").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let before = shown(&view);
    // Many rows long, and on another day.
    let long = StoredMessage { at: 500_000_000, ..stored(50, &"so on and so on ".repeat(30)) };
    let (from, at) = (name("bob"), long.at);
    tell(&mut view, &ViewUpdate::Event(NodeEvent::Received { from, message: long.message, seq: 50, at }));
    tell(&mut view, &ViewUpdate::Note("a line of several\nrows".to_owned()));
    view.resize(Size::new(80, 8));
    assert_eq!(shown(&view), before);
}

#[test]
fn what_is_typed_goes_into_the_line() {
    let mut view = view(80, 8);
    page(&mut view, 1..3);
    for key in ["q", "u", "i"] {
        press(&mut view, &insert(key));
    }
    assert_eq!(
        press(&mut view, &InputAction::Submit),
        [ViewCommand::Send { to: name("bob").into(), text: "qui".to_owned() }].to_vec()
    );
    press(&mut view, &InputAction::Escape);
    press(&mut view, &InputAction::Paste("ck".to_owned()));
    assert!(picture(&view, 80, 8)[6].ends_with("> ck"), "{:?}", picture(&view, 80, 8));
}

#[test]
fn some_of_the_files_are_not_all_of_them() {
    let mut view = view(80, 8);
    let files = |start: &str, names: &[&str]| ViewUpdate::Files {
        of: name("bob").into(),
        prefix: start.to_owned(),
        files: names.iter().map(|name| file(name)).collect(),
    };
    tell(&mut view, &files("", &["a.pdf", "docs/b.pdf"]));
    press(&mut view, &insert("/files docs/"));
    press(&mut view, &InputAction::Submit);
    tell(&mut view, &files("docs/", &["docs/b.pdf"]));
    let rows = picture(&view, 80, 8);
    assert!(rows[0].contains("[bob's files: docs/]") && !rows.concat().contains("a.pdf"), "{rows:?}");
    assert!(rows[7].contains("Backspace: all files"), "{rows:?}");
    let all = ViewCommand::ListFiles { of: name("bob").into(), prefix: String::new() };
    assert_eq!(press(&mut view, &InputAction::Edit(EditCommand::Backspace)), [all]);
    tell(&mut view, &files("", &["a.pdf", "docs/b.pdf"]));
    assert!(picture(&view, 80, 8)[1].contains("a.pdf"));
}

#[test]
fn all_of_the_help_can_be_seen_on_a_small_screen() {
    let mut view = view(20, 12);
    press(&mut view, &InputAction::Help);
    let mut seen = String::new();
    for _ in 0..100 {
        view.resize(Size::new(20, 12));
        seen.push_str(&picture(&view, 20, 12).join("\n"));
        assert_eq!(picture(&view, 20, 12)[11], "any other key: back");
        press(&mut view, &InputAction::Edit(EditCommand::Newer));
    }
    assert!(seen.contains("/quit") && seen.contains("/unignore") && seen.contains("Shift-Tab"), "{seen}");
    press(&mut view, &InputAction::PageUp);
    press(&mut view, &insert("x"));
    assert!(view.overlay.is_none());
}

#[test]
fn what_is_further_back_than_what_is_here_is_not_read() {
    let mut view = view(80, 8);
    tell(&mut view, &ViewUpdate::Users(vec![person("bob", true, 150)]));
    page(&mut view, 100..200);
    assert_eq!(press(&mut view, &InputAction::Submit), []);
    assert!(picture(&view, 80, 8)[0].contains("bob online, 150 unread: PgUp"), "{:?}", picture(&view, 80, 8));
    look_back(&mut view);
    assert_eq!(tell(&mut view, &history(Some(100), 1..100)), [], "the end is not on the screen");
    press(&mut view, &insert("hi"));
    let seen = press(&mut view, &InputAction::Submit);
    assert_eq!(seen[..1], [ViewCommand::MarkRead { with: name("bob").into(), up_to: 199 }]);
    assert!(!picture(&view, 80, 8)[0].contains("unread"));
}

#[test]
fn a_rule_shows_where_what_is_new_begins() {
    let mut view = view(80, 12);
    tell(&mut view, &ViewUpdate::Users(vec![person("bob", true, 2)]));
    press(&mut view, &InputAction::Submit);
    page(&mut view, 1..6);
    let rows = picture(&view, 80, 12);
    let at = rows.iter().position(|row| row.ends_with("── 2 new ──")).unwrap();
    assert!(rows[at + 1].ends_with("message 4"), "{rows:?}");
    tell(
        &mut view,
        &ViewUpdate::Event(NodeEvent::Received { from: name("bob"), message: stored(6, "x").message, seq: 6, at: 0 }),
    );
    assert_eq!(picture(&view, 80, 12).iter().filter(|row| row.ends_with("new ──")).count(), 1);
}

fn file(name: &str) -> FileStat {
    FileStat::new(name.parse().unwrap(), ContentHash::of(b"12345"), &GroupLayout::of(5).unwrap())
}

#[test]
fn the_selected_file_is_one_of_the_list_on_a_narrow_screen_as_well() {
    let mut view = view(80, 8);
    let files = vec![file("a.pdf"), file("docs/b.pdf")];
    tell(&mut view, &ViewUpdate::Files { of: name("bob").into(), prefix: String::new(), files });
    view.focus = FocusedPane::Files;
    press(&mut view, &InputAction::PageDown);
    view.resize(Size::new(80, 8));
    let fetch = ViewCommand::Fetch { from: name("bob").into(), name: "docs/b.pdf".to_owned() };
    assert_eq!(press(&mut view, &InputAction::Submit), [fetch]);
}

#[test]
fn an_answer_goes_to_the_conversation_that_asked() {
    let mut view = view(120, 10);
    let list = |of: &str| ViewCommand::ListFiles { of: name(of).into(), prefix: String::new() };
    assert!(tell(&mut view, &ViewUpdate::Tick).is_empty(), "the list of bob's files is under way");
    assert!(press(&mut view, &InputAction::Edit(EditCommand::Newer)).contains(&list("carol")));
    let (of, why) = (name("bob").into(), "bob is busy".to_owned());
    tell(&mut view, &ViewUpdate::FilesFailed { of, prefix: String::new(), why });
    assert!(picture(&view, 120, 10).concat().contains("asking"), "carol's is still under way");
    press(&mut view, &InputAction::Edit(EditCommand::Older));
    assert!(picture(&view, 120, 10).concat().contains("the list could not be loaded"));
    let messages = vec![stored(1, "tea")];
    tell(&mut view, &ViewUpdate::SearchResults { with: name("carol").into(), words: "tea".to_owned(), messages });
    assert!(view.overlay.is_none());
}

#[test]
fn an_older_page_has_no_latest_offer() {
    let offered = |seq: i64, name: &str, direction| {
        let stored = stored(seq, name);
        let hash = ContentHash::of(b"");
        let offer = shared::peer::FileOffer { name: name.parse().unwrap(), size: 5, hash };
        StoredMessage { direction, message: ChatMessage { offer: Some(offer), ..stored.message }, ..stored }
    };
    let mut view = view(80, 8);
    let mut messages: Vec<StoredMessage> = (100..200).map(|seq| stored(seq, "so on")).collect();
    messages[97] = offered(197, "new.pdf", MessageDirection::In);
    messages[98] = offered(198, "mine.pdf", MessageDirection::Out);
    let bob = ConversationName::from(name("bob"));
    tell(&mut view, &ViewUpdate::History { with: bob.clone(), before: None, messages });
    press(&mut view, &InputAction::Submit);
    look_back(&mut view);
    let messages = vec![offered(99, "old.pdf", MessageDirection::In)];
    tell(&mut view, &ViewUpdate::History { with: bob.clone(), before: Some(100), messages });
    press(&mut view, &insert("/get"));
    let fetch = ViewCommand::Fetch { from: bob, name: "new.pdf".to_owned() };
    assert_eq!(press(&mut view, &InputAction::Submit).last(), Some(&fetch));
}

#[test]
fn the_marked_file_is_fetched_whatever_the_list_becomes() {
    let mut view = view(80, 8);
    let listed = |names: &[&str]| ViewUpdate::Files {
        of: name("bob").into(),
        prefix: String::new(),
        files: names.iter().map(|name| file(name)).collect(),
    };
    tell(&mut view, &listed(&["b", "d"]));
    view.focus = FocusedPane::Files;
    view.resize(Size::new(80, 8));
    let fetch = |name: &str| vec![ViewCommand::Fetch { from: self::name("bob").into(), name: name.to_owned() }];
    tell(&mut view, &listed(&["a", "b", "d"]));
    assert_eq!(press(&mut view, &InputAction::Submit), fetch("b"));
    tell(&mut view, &listed(&["a", "d"]));
    assert_eq!(press(&mut view, &InputAction::Submit), [], "another one has its place");
    view.resize(Size::new(80, 8));
    assert_eq!(press(&mut view, &InputAction::Submit), fetch("d"));
}

#[test]
fn an_overlay_scrolls_no_further_than_its_rows() {
    let mut view = FullViewModel::new(LOOK, &name("alice"), &[], &[]);
    view.resize(Size::new(60, 12));
    press(&mut view, &InputAction::Help);
    let mut top = None;
    for step in [InputAction::PageUp, InputAction::PageDown] {
        for _ in 0..50 {
            press(&mut view, &step);
        }
        let shown = picture(&view, 60, 12);
        assert_ne!(top.replace(shown.clone()), Some(shown));
    }
    press(&mut view, &InputAction::Edit(EditCommand::Older));
    assert_ne!(top, Some(picture(&view, 60, 12)), "the first key back moves the page");
    let mut view = self::view(60, 12);
    let messages = (1..30).map(|seq| stored(seq, &format!("tea {seq}"))).collect();
    tell(&mut view, &ViewUpdate::SearchResults { with: name("bob").into(), words: "tea".to_owned(), messages });
    for _ in 0..50 {
        press(&mut view, &InputAction::PageUp);
    }
    let first = picture(&view, 60, 12);
    assert!(first[2].ends_with("tea 1"), "{first:?}");
    press(&mut view, &InputAction::Edit(EditCommand::Newer));
    assert_ne!(first, picture(&view, 60, 12));
}

#[test]
fn a_stranger_wants_to_talk_until_there_is_an_answer() {
    let mut view = view(80, 12);
    let stranger = UserSummary { request: true, ..person("bob", true, 1) };
    tell(&mut view, &ViewUpdate::Users(vec![stranger, person("carol", true, 0)]));
    let rows = picture(&view, 80, 12);
    assert!(rows.concat().contains("wants to talk: /accept, /ignore"), "{rows:?}");
    tell(&mut view, &ViewUpdate::Event(NodeEvent::Accepted { user: name("bob") }));
    assert!(!picture(&view, 80, 12).concat().contains("wants to talk"));

    tell(&mut view, &ViewUpdate::Event(NodeEvent::ContactRequest { from: name("bob") }));
    assert!(picture(&view, 80, 12).concat().contains("bob wants to talk: /accept, /ignore"), "in the conversation");
    press(&mut view, &InputAction::Submit);
    press(&mut view, &insert("/accept"));
    assert_eq!(press(&mut view, &InputAction::Submit), [ViewCommand::Accept { user: name("bob") }]);
    for (columns, rows) in [(40, 10), (20, 6), (10, 4)] {
        view.resize(Size::new(columns, rows));
        picture(&view, columns, rows);
    }
}

pub(super) fn room(name: &str, unread: usize) -> RoomOverview {
    let me = RoomMemberStatus { user: self::name("alice"), role: ListedRole::Owner, online: true };
    RoomOverview {
        room: name.parse().unwrap(),
        room_id: RoomId::from_bytes([1; 16]),
        topic: "Fridays".parse().unwrap(),
        role: Some(ListedRole::Owner),
        members: vec![me],
        waiting: 0,
        unread,
        muted: false,
    }
}

pub(super) fn post(byte: u8, late: bool) -> ViewUpdate {
    ViewUpdate::Event(NodeEvent::RoomMessage(RoomPost {
        room: "lab".parse().unwrap(),
        room_id: RoomId::from_bytes([1; 16]),
        from: name("bob"),
        id: MessageHash::from_bytes([byte; 32]),
        seq: byte.into(),
        ts: 0,
        at: 0,
        text: "hello lab".into(),
        late,
        mentions_me: false,
    }))
}

#[test]
fn rooms_are_among_the_people_and_late_messages_in_their_place() {
    let people = [person("bob", true, 0)];
    let mut view = FullViewModel::new(LOOK, &name("alice"), &people, &[room("lab", 0), room("office", 4)]);
    view.resize(Size::new(80, 12));
    let lab = ConversationName::from("lab".parse::<RoomName>().unwrap());
    let load = ViewCommand::LoadHistory { with: lab.clone(), before: None, age: None, limit: 100 };
    assert_eq!(view.start(), std::slice::from_ref(&load));
    let rows = picture(&view, 80, 12);
    assert!(rows[1].starts_with(">#") && rows[1].contains("lab"), "{rows:#?}");
    assert!(rows[2].starts_with(" # (4) office") && rows[3].contains("● bob"), "{rows:#?}");
    assert!(rows[0].contains("#lab 1 of 1 online: Fridays"), "{rows:#?}");
    tell(&mut view, &ViewUpdate::History { with: lab.clone(), before: None, messages: Vec::new() });
    assert_eq!(tell(&mut view, &post(1, false)), []);
    assert!(picture(&view, 80, 12).iter().any(|row| row.contains("bob: hello lab")));
    // The history knows where it belongs.
    assert_eq!(tell(&mut view, &post(2, true)), [load]);
}
