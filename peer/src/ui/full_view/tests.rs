use std::time::Instant;

use ratatui_core::layout::Size;
use shared::peer::{ChatMessage, FileStat, MessageId};
use shared::{ContentHash, Layout, UserName};

use super::draw::draw;
use super::model::{Focus, FullView};
use super::painter::Picture;
use crate::engine::chat::{Direction, MessageState, StoredMessage};
use crate::engine::event::{Course, Event, Transfer, TransferState};
use crate::engine::node::control::Person;
use crate::ui::keys::Press;
use crate::ui::line_editor::Edit;
use crate::ui::look::Look;
use crate::ui::view::{News, Wish};

const LOOK: Look = Look { color: false, unicode: true };

fn name(name: &str) -> UserName {
    name.parse().unwrap()
}

fn person(user: &str, online: bool, unread: usize) -> Person {
    let user = name(user);
    Person { user, online: Some(online), unread, waiting: 0, frozen: false, blocked: false, request: false, last: None }
}

fn stored(seq: i64, text: &str) -> StoredMessage {
    let id = MessageId::from_bytes(i128::from(seq).to_be_bytes());
    let message = ChatMessage { id, ts: seq * 1000, text: text.into(), offer: None, room: None };
    let (direction, state) = (Direction::In, MessageState::Received);
    StoredMessage { seq, peer: name("bob"), direction, message, state, at: seq * 1000 }
}

fn view(columns: u16, rows: u16) -> FullView {
    let people = [person("dave", false, 0), person("carol", true, 12), person("bob", true, 0)];
    let mut view = FullView::new(LOOK, &name("alice"), &people);
    view.fit(Size::new(columns, rows));
    view.begin();
    view
}

fn tell(view: &mut FullView, news: &News) -> Vec<Wish> {
    view.news(news, Instant::now())
}

fn press(view: &mut FullView, press: &Press) -> Vec<Wish> {
    view.press(press, Instant::now())
}

fn insert(text: &str) -> Press {
    Press::Edit(Edit::Insert(text.to_owned()))
}

fn picture(view: &FullView, columns: u16, rows: u16) -> Vec<String> {
    let mut picture = Picture::new(Size::new(columns, rows));
    draw(view, &mut picture);
    let buffer = &picture.cells;
    let row = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..rows).map(row).collect()
}

fn page(view: &mut FullView, seqs: std::ops::Range<i64>) {
    let messages = seqs.map(|seq| stored(seq, &format!("message {seq}"))).collect();
    tell(view, &News::History { with: name("bob"), before: None, messages });
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
    assert_eq!(press(&mut view, &Press::Submit), [Wish::MarkRead { with: name("bob"), up_to: 199 }]);
    assert!(picture(&view, 80, 8)[5].ends_with("bob: message 199"), "{:?}", picture(&view, 80, 8));
    for _ in 0..30 {
        let wishes = press(&mut view, &Press::PageUp);
        if !wishes.is_empty() {
            assert_eq!(wishes, [Wish::History { with: name("bob"), before: Some(100), age: None, limit: 100 }]);
            break;
        }
    }
    assert!(picture(&view, 80, 8)[2].ends_with("bob: message 100"), "{:?}", picture(&view, 80, 8));
    page(&mut view, 90..100);
    for _ in 0..9 {
        assert!(press(&mut view, &Press::PageUp).is_empty(), "there is no more");
    }
    assert!(picture(&view, 80, 8)[2].ends_with("bob: message 90"), "{:?}", picture(&view, 80, 8));
    press(&mut view, &insert("hi"));
    let said = press(&mut view, &Press::Submit);
    let seen = Wish::MarkRead { with: name("bob"), up_to: 199 };
    assert_eq!(said, [seen, Wish::Say { to: name("bob"), text: "hi".to_owned() }]);
    assert!(picture(&view, 80, 8)[5].ends_with("bob: message 199"), "saying something looks at the end again");
}

#[test]
fn an_unread_mark_stays_until_the_conversation_is_entered() {
    let mut view = view(80, 8);
    let message = stored(1, "psst").message;
    tell(&mut view, &News::Event(Event::Received { from: name("dave"), message, seq: 1, at: 0 }));
    assert!(picture(&view, 80, 8)[3].starts_with(" ○ (1) dave"));
    press(&mut view, &Press::Edit(Edit::Newer));
    press(&mut view, &Press::Edit(Edit::Newer));
    assert!(picture(&view, 80, 8)[3].starts_with(">○ (1) dave"), "looking at it is not reading it");
    press(&mut view, &Press::Submit);
    assert!(picture(&view, 80, 8)[3].starts_with(">○ dave"));
}

#[test]
fn files_are_chosen_and_fetched() {
    let mut view = view(120, 10);
    assert!(view.layout().files.is_some(), "there is room for three");
    let files = vec![file("a.pdf"), file("docs/b.pdf")];
    tell(&mut view, &News::Files { of: name("bob"), start: String::new(), files });
    press(&mut view, &Press::Tab);
    press(&mut view, &Press::Tab);
    press(&mut view, &Press::Edit(Edit::Newer));
    press(&mut view, &Press::Edit(Edit::Newer));
    view.fit(Size::new(120, 10));
    assert!(picture(&view, 120, 10)[2].contains(">     5 B docs/b.pdf"), "{:?}", picture(&view, 120, 10));
    assert_eq!(press(&mut view, &Press::Submit), [Wish::Get { from: name("bob"), name: "docs/b.pdf".to_owned() }]);
}

#[test]
fn a_narrow_screen_has_one_pane() {
    let mut view = view(20, 6);
    page(&mut view, 1..4);
    let rows = picture(&view, 20, 6);
    assert!(rows[0].starts_with("[People, you: alice]") && rows[1] == ">● bob", "{rows:?}");
    press(&mut view, &Press::Submit);
    let rows = picture(&view, 20, 6);
    assert!(rows[0].starts_with("[bob online]") && rows[4] == ">", "{rows:?}");
    press(&mut view, &Press::Escape);
    assert_eq!(view.focus, Focus::People);
}

#[test]
fn what_is_on_its_way_is_seen_below() {
    let mut view = view(80, 12);
    let transfer = Transfer {
        peer: name("bob"),
        name: "film.mkv".parse().unwrap(),
        direction: Course::Down,
        bytes: 50,
        size: 100,
        state: TransferState::Running,
    };
    tell(&mut view, &News::Event(Event::Transfer(transfer)));
    let rows = picture(&view, 80, 12);
    assert!(rows[10].starts_with("↓ film.mkv from bob") && rows[10].contains("50%"), "{rows:?}");
}

#[test]
fn a_question_mark_helps_but_not_in_the_line() {
    let mut view = view(80, 30);
    press(&mut view, &insert("?"));
    assert!(picture(&view, 80, 30).concat().contains("the next pane, the one before"));
    press(&mut view, &Press::Escape);
    press(&mut view, &Press::Submit);
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
                view.fit(Size::new(columns, rows));
                picture(&view, columns, rows);
                press(&mut view, &Press::Tab);
                press(&mut view, &Press::PageUp);
            }
        }
    }
}

#[test]
fn what_was_missed_is_shown_once_and_in_order_and_nothing_unseen_is_read() {
    let mut view = view(80, 12);
    page(&mut view, 1..4);
    press(&mut view, &Press::Submit);
    let received = |seq| {
        let message = stored(seq, &format!("message {seq}")).message;
        News::Event(Event::Received { from: name("bob"), message, seq, at: 0 })
    };
    let missed = tell(&mut view, &News::Event(Event::Missed { count: 5 }));
    assert_eq!(missed, [Wish::History { with: name("bob"), before: None, age: None, limit: 100 }, Wish::People]);
    assert_eq!(tell(&mut view, &received(6)), [], "what is before it is not here yet");
    let messages = (1..=7).map(|seq| stored(seq, &format!("message {seq}"))).collect();
    let told = tell(&mut view, &News::History { with: name("bob"), before: None, messages });
    assert_eq!(told, [Wish::MarkRead { with: name("bob"), up_to: 7 }]);
    tell(&mut view, &received(7));
    let rows = picture(&view, 80, 12);
    let shown: Vec<&str> = rows.iter().filter_map(|row| row.split("bob: message ").nth(1)).collect();
    assert_eq!(shown, ["1", "2", "3", "4", "5", "6", "7"], "{rows:?}");
}

#[test]
fn what_comes_while_one_looks_back_is_counted_and_not_read() {
    let mut view = view(80, 8);
    page(&mut view, 1..50);
    press(&mut view, &Press::Submit);
    press(&mut view, &Press::PageUp);
    let received = |seq| {
        let message = stored(seq, "psst").message;
        News::Event(Event::Received { from: name("bob"), message, seq, at: 0 })
    };
    assert_eq!(tell(&mut view, &received(50)), []);
    assert!(picture(&view, 80, 8)[0].contains("bob online, ↓ 1 new, looking back"), "{:?}", picture(&view, 80, 8));
    tell(&mut view, &News::People(vec![person("bob", true, 1)]));
    assert!(picture(&view, 80, 8)[0].contains("↓ 1 new"));
    assert_eq!(press(&mut view, &Press::PageDown), [], "there is still a row below");
    assert_eq!(press(&mut view, &Press::PageDown), [Wish::MarkRead { with: name("bob"), up_to: 50 }]);
    assert!(!picture(&view, 80, 8)[0].contains("new"));
    press(&mut view, &Press::Help);
    assert_eq!(tell(&mut view, &received(51)), [], "the help is in front");
    assert_eq!(press(&mut view, &Press::Escape), [Wish::MarkRead { with: name("bob"), up_to: 51 }]);
}

#[test]
fn what_is_typed_goes_into_the_line() {
    let mut view = view(80, 8);
    page(&mut view, 1..3);
    for key in ["q", "u", "i"] {
        press(&mut view, &insert(key));
    }
    assert_eq!(press(&mut view, &Press::Submit), [Wish::Say { to: name("bob"), text: "qui".to_owned() }].to_vec());
    press(&mut view, &Press::Escape);
    press(&mut view, &Press::Paste("ck".to_owned()));
    assert!(picture(&view, 80, 8)[6].ends_with("> ck"), "{:?}", picture(&view, 80, 8));
}

#[test]
fn some_of_the_files_are_not_all_of_them() {
    let mut view = view(80, 8);
    let files = |start: &str, names: &[&str]| News::Files {
        of: name("bob"),
        start: start.to_owned(),
        files: names.iter().map(|name| file(name)).collect(),
    };
    tell(&mut view, &files("", &["a.pdf", "docs/b.pdf"]));
    press(&mut view, &insert("/files docs/"));
    press(&mut view, &Press::Submit);
    tell(&mut view, &files("docs/", &["docs/b.pdf"]));
    let rows = picture(&view, 80, 8);
    assert!(rows[0].contains("[bob's files: docs/]") && !rows.concat().contains("a.pdf"), "{rows:?}");
    assert!(rows[7].contains("Backspace: all files"), "{rows:?}");
    let all = Wish::Files { of: name("bob"), start: String::new() };
    assert_eq!(press(&mut view, &Press::Edit(Edit::Backspace)), [all]);
    tell(&mut view, &files("", &["a.pdf", "docs/b.pdf"]));
    assert!(picture(&view, 80, 8)[1].contains("a.pdf"));
}

#[test]
fn all_of_the_help_can_be_seen_on_a_small_screen() {
    let mut view = view(20, 12);
    press(&mut view, &Press::Help);
    let mut seen = String::new();
    for _ in 0..100 {
        view.fit(Size::new(20, 12));
        seen.push_str(&picture(&view, 20, 12).join("\n"));
        assert_eq!(picture(&view, 20, 12)[11], "any other key: back");
        press(&mut view, &Press::Edit(Edit::Newer));
    }
    assert!(seen.contains("/quit") && seen.contains("/unignore") && seen.contains("Shift-Tab"), "{seen}");
    press(&mut view, &Press::PageUp);
    press(&mut view, &insert("x"));
    assert!(view.overlay.is_none());
}

#[test]
fn what_is_further_back_than_what_is_here_is_not_read() {
    let mut view = view(80, 8);
    tell(&mut view, &News::People(vec![person("bob", true, 150)]));
    page(&mut view, 100..200);
    assert_eq!(press(&mut view, &Press::Submit), []);
    assert!(picture(&view, 80, 8)[0].contains("bob online, 150 unread: PgUp"), "{:?}", picture(&view, 80, 8));
    let more = (1..100).map(|seq| stored(seq, "before")).collect();
    let seen = tell(&mut view, &News::History { with: name("bob"), before: Some(100), messages: more });
    assert_eq!(seen, [Wish::MarkRead { with: name("bob"), up_to: 199 }]);
    assert!(!picture(&view, 80, 8)[0].contains("unread"));
}

#[test]
fn a_rule_shows_where_what_is_new_begins() {
    let mut view = view(80, 12);
    tell(&mut view, &News::People(vec![person("bob", true, 2)]));
    press(&mut view, &Press::Submit);
    page(&mut view, 1..6);
    let rows = picture(&view, 80, 12);
    let at = rows.iter().position(|row| row.ends_with("── 2 new ──")).unwrap();
    assert!(rows[at + 1].ends_with("message 4"), "{rows:?}");
    tell(
        &mut view,
        &News::Event(Event::Received { from: name("bob"), message: stored(6, "x").message, seq: 6, at: 0 }),
    );
    assert_eq!(picture(&view, 80, 12).iter().filter(|row| row.ends_with("new ──")).count(), 1);
}

fn file(name: &str) -> FileStat {
    FileStat::new(name.parse().unwrap(), ContentHash::of(b"12345"), &Layout::of(5).unwrap())
}

#[test]
fn a_stranger_wants_to_talk_until_there_is_an_answer() {
    let mut view = view(80, 12);
    let stranger = Person { request: true, ..person("bob", true, 1) };
    tell(&mut view, &News::People(vec![stranger, person("carol", true, 0)]));
    let rows = picture(&view, 80, 12);
    assert!(rows.concat().contains("wants to talk: /accept, /ignore"), "{rows:?}");
    tell(&mut view, &News::Event(Event::Accepted { user: name("bob") }));
    assert!(!picture(&view, 80, 12).concat().contains("wants to talk"));

    tell(&mut view, &News::Event(Event::Request { from: name("bob") }));
    assert!(picture(&view, 80, 12).concat().contains("bob wants to talk: /accept, /ignore"), "in the conversation");
    press(&mut view, &Press::Submit);
    press(&mut view, &insert("/accept"));
    assert_eq!(press(&mut view, &Press::Submit), [Wish::Accept { user: name("bob") }]);
    for (columns, rows) in [(40, 10), (20, 6), (10, 4)] {
        view.fit(Size::new(columns, rows));
        picture(&view, columns, rows);
    }
}
