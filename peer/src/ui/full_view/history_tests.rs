use std::time::{Duration, Instant};

use ratatui_core::layout::Size;
use shared::RoomName;

use super::full_view_model::FullViewModel;
use super::tests::{LOOK, history, insert, look_back, name, page, picture, post, press, room, stored, tell, view};
use crate::engine::chat::ConversationName;
use crate::engine::node_event::NodeEvent;
use crate::ui::view::{RequestFailure, ViewCommand, ViewUpdate};
use crate::ui::view_input::InputAction;

fn load(with: &ConversationName, before: Option<i64>) -> ViewCommand {
    ViewCommand::LoadHistory { with: with.clone(), before, age: None, limit: 100 }
}

fn missed() -> ViewUpdate {
    ViewUpdate::Event(NodeEvent::EventsMissed { count: 1 })
}

/// Returns the rows of the conversation.
fn rows(view: &mut FullViewModel) -> Vec<String> {
    view.resize(Size::new(80, 8));
    picture(view, 80, 8)[1..6].iter().map(|row| row.chars().skip(21).collect()).collect()
}

fn shown(rows: &[String]) -> Vec<&str> {
    rows.iter().filter_map(|row| row.split("bob: message ").nth(1)).collect()
}

#[test]
fn a_page_of_before_is_not_the_newest_one() {
    let (mut view, bob) = (view(80, 8), ConversationName::from(name("bob")));
    page(&mut view, 800..900);
    press(&mut view, &InputAction::Submit);
    assert_eq!(look_back(&mut view), [load(&bob, Some(800))]);
    let before = rows(&mut view);
    assert_eq!(tell(&mut view, &missed()), [ViewCommand::ListUsers], "what is read stays");
    assert_eq!(tell(&mut view, &history(None, 1..3)), [], "nobody asked for it");
    assert_eq!(rows(&mut view), before);
    assert_eq!(tell(&mut view, &history(Some(800), 750..800)), []);
    assert_eq!(rows(&mut view)[1..], before[1..], "in the place of the rule above is an older message");
    press(&mut view, &insert("hi"));
    let send = ViewCommand::Send { to: bob.clone(), text: "hi".to_owned() };
    assert_eq!(press(&mut view, &InputAction::Submit), [load(&bob, None), send], "nothing is read that is not here");
    let end = ViewCommand::MarkRead { with: bob, up_to: 950 };
    assert_eq!(tell(&mut view, &history(None, 851..951)), [end]);
    assert_eq!(tell(&mut view, &history(Some(851), 1..3)), [], "of an earlier request");
    assert_eq!(shown(&rows(&mut view)), ["946", "947", "948", "949", "950"]);
}

#[test]
fn a_page_asked_for_before_events_were_missed_is_asked_for_again() {
    let (mut view, bob) = (view(80, 8), ConversationName::from(name("bob")));
    assert_eq!(tell(&mut view, &missed()), [ViewCommand::ListUsers], "one is under way");
    assert_eq!(tell(&mut view, &history(None, 1..3)), [load(&bob, None)]);
    assert_eq!(tell(&mut view, &history(None, 1..4)), []);
    assert_eq!(shown(&rows(&mut view)), ["1", "2", "3"]);
}

#[test]
fn whoever_looks_back_while_the_end_is_loaded_again_keeps_the_place() {
    let mut view = view(80, 8);
    page(&mut view, 1..50);
    press(&mut view, &InputAction::Submit);
    tell(&mut view, &ViewUpdate::Note("the node has ended".to_owned()));
    tell(&mut view, &missed());
    press(&mut view, &InputAction::PageUp);
    press(&mut view, &InputAction::PageUp);
    let before = rows(&mut view);
    assert_eq!(tell(&mut view, &history(None, 30..130)), [], "the end is not on the screen");
    assert_eq!(rows(&mut view), before);
    for _ in 0..40 {
        press(&mut view, &InputAction::PageUp);
    }
    assert_eq!(shown(&rows(&mut view))[0], "1", "what was loaded is still there");
    press(&mut view, &insert("hi"));
    let bob = ConversationName::from(name("bob"));
    let end = ViewCommand::MarkRead { with: bob, up_to: 129 };
    assert_eq!(press(&mut view, &InputAction::Submit)[0], end);
}

#[test]
fn a_late_message_moves_nobody_who_looks_back() {
    let mut view = FullViewModel::new(LOOK, &name("alice"), &[], &[room("lab", 0)]);
    view.resize(Size::new(80, 8));
    let lab = ConversationName::from("lab".parse::<RoomName>().unwrap());
    let page = |seqs: std::ops::Range<i64>| {
        let messages = seqs.map(|seq| stored(seq, &format!("message {seq}"))).collect();
        ViewUpdate::History { with: lab.clone(), before: None, messages }
    };
    view.start();
    tell(&mut view, &page(1..50));
    press(&mut view, &InputAction::Submit);
    tell(&mut view, &ViewUpdate::Note("a note".to_owned()));
    press(&mut view, &InputAction::PageUp);
    let before = rows(&mut view);
    assert_eq!(tell(&mut view, &post(60, true)), []);
    assert_eq!(rows(&mut view), before);
    let mut down = (0..9).map(|_| press(&mut view, &InputAction::PageDown));
    let wishes = down.find(|wishes| !wishes.is_empty()).unwrap();
    assert_eq!(wishes, [load(&lab, None)], "nothing is read before it is in its place");
    assert_eq!(tell(&mut view, &page(1..61)), [ViewCommand::MarkRead { with: lab, up_to: 60 }]);
    view.resize(Size::new(80, 30));
    assert!(picture(&view, 80, 30).concat().contains("a note"));
}

#[test]
fn what_could_not_be_loaded_is_asked_for_again() {
    let (mut view, now, bob) = (view(80, 8), Instant::now(), ConversationName::from(name("bob")));
    let failed =
        |before, why: &RequestFailure| ViewUpdate::HistoryFailed { with: bob.clone(), before, why: why.clone() };
    let error = RequestFailure::Error("the disk is full".to_owned());
    assert_eq!(tell(&mut view, &failed(None, &error)), []);
    assert!(rows(&mut view).concat().contains("the disk is full"));
    let tick =
        |view: &mut FullViewModel, second| view.handle_update(&ViewUpdate::Tick, now + Duration::from_secs(second));
    assert_eq!(tick(&mut view, 0), [load(&bob, None)]);
    assert_eq!(tick(&mut view, 9), [], "one is under way");
    tell(&mut view, &failed(None, &RequestFailure::NoNode));
    assert_eq!(tick(&mut view, 20), [load(&bob, None)]);
    page(&mut view, 100..200);
    press(&mut view, &InputAction::Submit);
    assert_eq!(look_back(&mut view), [load(&bob, Some(100))]);
    tell(&mut view, &failed(Some(100), &RequestFailure::NoNode));
    assert!(picture(&view, 80, 8)[7].contains("this window is reconnecting"));
    assert_eq!(press(&mut view, &InputAction::PageUp), [load(&bob, Some(100))]);
    tell(&mut view, &history(Some(100), 1..100));
    assert_eq!(tick(&mut view, 99), []);
}

#[test]
fn what_the_view_stores_itself_reads_nothing_before_it() {
    let (mut view, bob) = (view(80, 8), name("bob"));
    page(&mut view, 1..4);
    let end = |up_to| vec![ViewCommand::MarkRead { with: name("bob").into(), up_to }];
    assert_eq!(press(&mut view, &InputAction::Submit), end(3));
    let message = stored(6, "hi").message;
    tell(&mut view, &ViewUpdate::StoredHere(NodeEvent::MessageQueued { to: bob.clone(), message, seq: 6 }));
    assert!(rows(&mut view).concat().contains("you: hi"));
    press(&mut view, &InputAction::Escape);
    assert_eq!(press(&mut view, &InputAction::Submit), end(3));
    let message = stored(5, "message 5").message;
    assert_eq!(tell(&mut view, &ViewUpdate::Event(NodeEvent::Received { from: bob, message, seq: 5, at: 0 })), end(5));
}

#[test]
fn nothing_is_read_while_the_shell_has_the_terminal() {
    let mut view = view(80, 8);
    page(&mut view, 1..4);
    press(&mut view, &InputAction::Submit);
    view.suspend();
    assert_eq!(view.open_conversation(), None);
    let (from, message) = (name("bob"), stored(4, "message 4").message);
    assert_eq!(tell(&mut view, &ViewUpdate::Event(NodeEvent::Received { from, message, seq: 4, at: 0 })), []);
    assert_eq!(view.resume(), [ViewCommand::MarkRead { with: name("bob").into(), up_to: 4 }]);
}
