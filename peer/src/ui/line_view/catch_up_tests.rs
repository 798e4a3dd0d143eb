use std::time::{Duration, Instant};

use super::line_view_model::LineViewModel;
use super::tests::{LOOK, above, alice, begun, lab, overview, received, said, stored, tell, texts, theirs, with_bob};
use crate::engine::chat::{ConversationName, MessageDirection, MessageState, StoredMessage};
use crate::engine::node_event::NodeEvent;
use crate::ui::line_editor::EditCommand;
use crate::ui::view::{MAX_CATCH_UP_MESSAGES, RequestFailure, ViewCommand, ViewUpdate};
use crate::ui::view_input::InputAction;

fn catch_up(after: i64) -> ViewCommand {
    ViewCommand::CatchUp { with: with_bob(), after, before: None }
}

fn seen(up_to: i64) -> Vec<ViewCommand> {
    vec![ViewCommand::MarkRead { with: with_bob(), up_to }]
}

fn caught_up(messages: Vec<StoredMessage>) -> ViewUpdate {
    ViewUpdate::CaughtUp { with: with_bob(), messages }
}

fn missed() -> ViewUpdate {
    ViewUpdate::Event(NodeEvent::EventsMissed { count: 1 })
}

/// A message that the view stores itself.
fn stored_here(seq: u8, text: &str) -> ViewUpdate {
    match said(seq, text) {
        ViewUpdate::Event(event) => ViewUpdate::StoredHere(event),
        other => other,
    }
}

fn enter(view: &mut LineViewModel, line: &str) -> Vec<ViewCommand> {
    view.handle_input(&InputAction::Edit(EditCommand::Insert(line.to_owned())), Instant::now());
    view.handle_input(&InputAction::Submit, Instant::now())
}

#[test]
fn a_failed_catch_up_holds_nothing_back_and_is_tried_again() {
    let (mut view, now) = (begun(), Instant::now());
    assert_eq!(view.start(), [catch_up(0)]);
    tell(&mut view, &received("bob", 7, "message 7"));
    let failed = ViewUpdate::CatchUpFailed { with: with_bob(), why: RequestFailure::Error("the disk is full".into()) };
    assert_eq!(tell(&mut view, &failed), [], "what is before it is not shown");
    let rows = above(&mut view, 60);
    assert!(rows.iter().any(|row| row.ends_with("message 7")) && rows.iter().any(|row| row == "  ! the disk is full"));
    let mut tick = |second| view.handle_update(&ViewUpdate::Tick, now + Duration::from_secs(second));
    assert!(tick(0).contains(&catch_up(0)) && !tick(1).contains(&catch_up(0)), "one is under way");
    assert_eq!(tell(&mut view, &failed), []);
    assert_eq!(above(&mut view, 60), Vec::<String>::new(), "said once");
    assert!(view.handle_update(&ViewUpdate::Tick, now + Duration::from_secs(9)).contains(&catch_up(0)));
    let loaded = vec![theirs(6, "message 6"), theirs(7, "message 7")];
    assert_eq!(tell(&mut view, &caught_up(loaded)), seen(7));
    assert_eq!(texts(&above(&mut view, 60)), ["message 6"]);
    assert_eq!(tell(&mut view, &received("bob", 8, "hi")), seen(8));
    assert!(!view.handle_update(&ViewUpdate::Tick, now + Duration::from_secs(99)).contains(&catch_up(8)));
}

#[test]
fn what_the_view_stores_itself_says_nothing_of_what_was_stored_before() {
    let mut view = begun();
    tell(&mut view, &received("bob", 1, "message 1"));
    // The node ends; it has stored the third, and told nobody.
    tell(&mut view, &stored_here(4, "message 4"));
    assert_eq!(texts(&above(&mut view, 60)), ["message 1", "message 4"]);
    assert_eq!(tell(&mut view, &missed())[0], catch_up(1));
    let (direction, state) = (MessageDirection::Out, MessageState::Waiting);
    let loaded = vec![theirs(3, "message 3"), stored(4, direction, state)];
    assert_eq!(tell(&mut view, &caught_up(loaded)), seen(4));
    assert_eq!(texts(&above(&mut view, 60)), ["message 3"]);
    // Stored before the new node stored the fifth, and told after.
    tell(&mut view, &stored_here(6, "message 6"));
    assert_eq!(tell(&mut view, &received("bob", 5, "message 5")), seen(5));
    assert_eq!(texts(&above(&mut view, 60)), ["message 6", "message 5"]);
    assert_eq!(tell(&mut view, &received("bob", 7, "message 7")), seen(7));
}

#[test]
fn a_node_that_ends_during_a_catch_up_leaves_no_gap() {
    let mut view = begun();
    view.start();
    tell(&mut view, &received("bob", 5, "message 5"));
    assert_eq!(tell(&mut view, &ViewUpdate::CatchUpFailed { with: with_bob(), why: RequestFailure::NoNode }), []);
    assert_eq!(texts(&above(&mut view, 60)), ["message 5"]);
    assert_eq!(tell(&mut view, &missed())[0], catch_up(0));
    assert_eq!(tell(&mut view, &caught_up(vec![theirs(4, "message 4"), theirs(5, "message 5")])), seen(5));
    assert_eq!(texts(&above(&mut view, 60)), ["message 4"]);
}

#[test]
fn an_answer_from_before_events_were_missed_is_not_the_last() {
    let mut view = begun();
    view.start();
    assert_eq!(tell(&mut view, &missed()), [ViewCommand::ListUsers], "one is under way");
    tell(&mut view, &received("bob", 3, "message 3"));
    assert_eq!(tell(&mut view, &caught_up(vec![theirs(1, "message 1")])), [catch_up(1)]);
    assert_eq!(tell(&mut view, &caught_up(vec![theirs(2, "message 2")])), seen(3));
    assert_eq!(texts(&above(&mut view, 60)), ["message 1", "message 2", "message 3"]);
}

#[test]
fn a_room_is_caught_up_with_in_its_order() {
    let with = ConversationName::from(lab());
    let mut view = LineViewModel::new(LOOK, &alice(), &with, (&[], &[overview()]), &[], None);
    above(&mut view, 60);
    view.start();
    let page = |seqs: &[i64]| {
        let message = |seq: &i64| StoredMessage { seq: *seq, ..theirs(1, &format!("message {seq}")) };
        ViewUpdate::CaughtUp { with: with.clone(), messages: seqs.iter().map(message).collect() }
    };
    let last: Vec<i64> = (501..).take(MAX_CATCH_UP_MESSAGES).collect();
    let earlier = ViewCommand::CatchUp { with: with.clone(), after: 0, before: Some(501) };
    assert_eq!(tell(&mut view, &page(&last)), [earlier]);
    assert!(above(&mut view, 60).is_empty());
    let end = ViewCommand::MarkRead { with: with.clone(), up_to: 1001 };
    assert_eq!(tell(&mut view, &page(&[1, 1001, 2])), [end]);
    let rows = above(&mut view, 60);
    assert_eq!(texts(&rows)[..4], ["message 1", "message 1001", "message 2", "message 501"]);
}

#[test]
fn a_second_look_back_goes_on_where_the_first_one_ended() {
    let mut view = LineViewModel::new(LOOK, &alice(), &with_bob(), (&[], &[]), &[theirs(99, "x")], Some(50));
    let history = |before, limit| ViewCommand::LoadHistory { with: with_bob(), before: Some(before), age: None, limit };
    let page = |seqs: std::ops::Range<u8>| ViewUpdate::History {
        with: with_bob(),
        before: None,
        messages: seqs.map(|seq| theirs(seq, "x")).collect(),
    };
    assert_eq!(enter(&mut view, "/history 2"), [history(99, 2)]);
    assert_eq!(enter(&mut view, "/history 30"), []);
    assert_eq!(tell(&mut view, &page(97..99)), [history(97, 30)]);
    assert_eq!(tell(&mut view, &page(67..97)), [], "the first unread one is further back");
    assert!(!above(&mut view, 90).concat().contains("beginning of the conversation"));
    assert_eq!(enter(&mut view, "/history 5"), [history(67, 5)]);
    let why = RequestFailure::NoNode;
    tell(&mut view, &ViewUpdate::HistoryFailed { with: with_bob(), before: Some(67), why: why.clone() });
    assert!(above(&mut view, 90).concat().contains("this window is reconnecting"));
    assert_eq!(enter(&mut view, "/history 5"), [history(67, 5)]);
    assert_eq!(enter(&mut view, "/who"), [ViewCommand::ListUsers]);
    tell(&mut view, &ViewUpdate::UsersFailed(why.clone()));
    assert!(above(&mut view, 90).concat().contains("this window is reconnecting"));
    tell(&mut view, &ViewUpdate::UsersFailed(why));
    assert!(above(&mut view, 90).is_empty(), "the view lists by itself as well");
}

#[test]
fn what_comes_while_the_shell_has_the_terminal_is_loaded_after_it() {
    let mut view = begun();
    assert_eq!(tell(&mut view, &received("bob", 1, "message 1")), seen(1));
    above(&mut view, 60);
    view.suspend();
    assert_eq!(view.open_conversation(), None);
    assert_eq!(tell(&mut view, &received("bob", 2, "message 2")), []);
    assert_eq!(tell(&mut view, &missed()), [ViewCommand::ListUsers]);
    for number in 0..2000 {
        tell(&mut view, &ViewUpdate::Note(format!("note {number}")));
    }
    let wishes = view.resume();
    assert_eq!(wishes, [seen(1), vec![catch_up(1)]].concat());
    assert_eq!(view.open_conversation(), Some(&with_bob()));
    assert_eq!(tell(&mut view, &received("bob", 3, "message 3")), []);
    assert_eq!(tell(&mut view, &caught_up(vec![theirs(2, "message 2"), theirs(3, "message 3")])), seen(3));
    let rows = above(&mut view, 60);
    assert!(rows.len() < 600 && rows.iter().any(|row| row == "  note 1999"), "{}", rows.len());
    assert_eq!(texts(&rows), ["message 2", "message 3"]);
    assert_eq!(view.resume(), []);
}

#[test]
fn an_answer_that_comes_while_the_shell_has_the_terminal_is_asked_for_again() {
    let mut view = begun();
    view.start();
    tell(&mut view, &received("bob", 2, "message 2"));
    view.suspend();
    assert_eq!(tell(&mut view, &caught_up(vec![theirs(1, "message 1")])), []);
    assert!(view.resume().contains(&catch_up(0)));
    tell(&mut view, &caught_up(vec![theirs(1, "message 1"), theirs(2, "message 2")]));
    assert_eq!(texts(&above(&mut view, 60)), ["message 1", "message 2"]);
}
