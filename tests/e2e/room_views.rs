//! A room in both views and for programs, as several people use it.

use serde_json::{Value, json};
use tests::files::assert_same;
use tests::{Lab, Screen, Terminal, User, poll_until};

const CTRL_D: &str = "\u{4}";
const UP: &str = "\u{1b}[A";
const DOWN: &str = "\u{1b}[B";
const ENTER: &str = "\r";

/// Makes `#lab` of three: alice owns it.
fn three(lab: &Lab) -> [User<'_>; 3] {
    let users = ["alice", "bob", "carol"].map(|name| lab.user(name));
    users[0].peer(["room", "create", "lab", "--topic", "Fridays"]).run().exits(0);
    for user in &users[1..] {
        user.peer(["room", "join", "lab"]).run().exits(0);
    }
    users
}

fn view(user: &User<'_>, columns: u16) -> Terminal {
    let view = user.peer(["chat", "#LAB"]).env("TERM", "xterm-kitty").in_terminal(columns, 24);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    view
}

/// Waits until a line of the screen has both texts.
fn waits_for_row(view: &Terminal, one: &str, other: &str) -> Screen {
    view.wait_for_screen(&format!("{one:?} and {other:?} in one row"), |screen| {
        screen.visible().lines().any(|line| line.contains(one) && line.contains(other))
    })
}

fn leaves(mut view: Terminal) -> Screen {
    view.press(CTRL_D);
    let (outcome, screen) = view.finish();
    outcome.exits(0);
    screen
}

#[test]
fn three_people_talk_in_their_terminals() {
    let lab = Lab::start();
    let [alice, bob, carol] = three(&lab);
    let (mut hers, his) = (view(&alice, 80), view(&bob, 44));
    hers.wait_for("#lab, ");
    hers.wait_for("Fridays");
    hers.press("lunch, @bob?\r");
    his.wait_for("alice: lunch, @bob?");
    let called = his.process().said();
    assert!(called.contains('\u{7}') && called.contains("38;5;"), "{called:?}");
    waits_for_row(&his, "@ ", "alice: lunch");
    // One of two others has it; then the third comes, and gets it.
    waits_for_row(&hers, "1/2", "you: lunch");
    let third = carol.serve();
    third.wait_for("#lab alice: lunch, @bob?");
    waits_for_row(&hers, "✓", "you: lunch");
    hers.press("just saying\r");
    his.wait_for("alice: just saying");
    assert_eq!(his.process().said().matches('\u{7}').count(), 1, "only the call rings");
    hers.press("/members\r");
    hers.wait_for("● carol");
    hers.press("/topic Mondays\r");
    his.wait_for("the topic is now: Mondays");
    hers.press("/kick carol\r");
    his.wait_for("carol was sent away by alice");
    hers.wait_for("#lab 2 of 2 online");
    hers.press("/invite carol\r");
    hers.wait_for("invited carol: `peer room join lab` there");
    leaves(his);
    // The last moderator goes, too.
    hers.press("/leave\r");
    hers.wait_for("you left #lab; bob owns it now");
    leaves(hers);
}

#[test]
fn without_colours_and_line_by_line() {
    let lab = Lab::start();
    let [alice, bob, carol] = three(&lab);
    let _nodes = [bob.serve(), carol.serve()];
    let mut view = alice.peer(["chat", "#lab"]).env("NO_COLOR", "1").in_terminal(40, 12);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    bob.peer(["chat", "#lab", "olá, lab"]).run().exits(0);
    view.wait_for("olá, lab");
    assert!(!view.process().said().contains("38;5;"));
    view.press("hi\r");
    waits_for_row(&view, "✓", "you: hi");
    leaves(view);
    let mut slow = alice.peer(["--plain", "chat", "#lab"]).in_terminal(60, 24);
    slow.wait_for("#lab, ");
    slow.press("/members\n");
    slow.wait_for("carol");
    slow.press("by lines\n");
    carol.peer(["chat", "#lab", "heard"]).run().exits(0);
    slow.wait_for("carol: heard");
    leaves(slow);
    bob.peer(["history", "#lab"]).run().exits(0).prints("by lines");
}

#[test]
fn the_full_view_has_rooms_among_the_people() {
    let lab = Lab::start();
    let [alice, bob, _carol] = three(&lab);
    let his = bob.serve();
    let mut view = alice.peer(["ui"]).in_terminal(110, 20);
    view.wait_for("[People, you: alice]");
    view.wait_for("# lab");
    view.wait_for("● bob");
    // Rooms stand above the people, and may come after them.
    view.press(UP);
    view.wait_for("#lab ");
    bob.peer(["chat", "#lab", "psst"]).run().exits(0);
    view.wait_for("# (1) lab");
    view.wait_for("bob: psst");
    view.press(ENTER);
    view.wait_for_screen("nothing unread", |screen| !screen.visible().contains("(1)"));
    view.press("what is it?\r");
    his.wait_for("#lab alice: what is it?");
    waits_for_row(&view, "1/2", "you: what is it?");
    view.press("\u{1b}");
    view.wait_for("[People, you: alice]");
    view.press(DOWN);
    view.wait_for("bob online");
    leaves(view);
}

#[test]
fn files_come_and_go_in_a_conversation() {
    let lab = Lab::start();
    let [alice, bob, _carol] = three(&lab);
    let slides = lab.file("slides.pdf", 300_000);
    bob.peer(["share", "--room", "lab"]).arg(&slides).run().exits(0);
    let _his = bob.serve();
    let here = lab.empty_folder("here");
    let mut hers = alice.peer(["chat", "#lab"]).folder(&here).in_terminal(100, 24);
    hers.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    hers.press("/get 1\r");
    hers.wait_for("slides.pdf: 300 kB fetched and verified");
    assert_same(here.join("slides.pdf"), &slides);
    let notes = lab.file("notes.txt", 2000);
    hers.press(&format!("/offer {}\r", notes.display()));
    waits_for_row(&hers, "you:", "offers notes.txt (2.00 kB): peer fetch '#lab' notes.txt");
    hers.press("/files\r");
    hers.wait_for("slides.pdf");
    hers.press("/stop\r");
    hers.wait_for("nothing is being downloaded from #lab here");
    let there = lab.empty_folder("there");
    bob.fetch("#lab", ["notes.txt"], &there).run().exits(0);
    assert_same(there.join("notes.txt"), &notes);
    leaves(hers);
    alice.peer(["shares"]).run().exits(0).prints("notes.txt  (#lab only)");
}

#[test]
fn what_is_muted_does_not_ring() {
    let lab = Lab::start();
    let [alice, bob, _carol] = three(&lab);
    let heard = lab.join("heard");
    let script = format!("printf '%s\\n' \"$VIZINHO_TEXT\" >> {}", heard.display());
    alice.peer(["notify", "--", "bash", "-c", &script]).run().exits(0);
    let his = bob.serve();
    alice.peer(["mute"]).run().exits(0).says("nothing is muted");
    alice.peer(["mute", "#LAB"]).run().exits(0).says("muted #lab: not even a message that calls you rings");
    alice.peer(["mute", "#nowhere"]).run().exits(4);
    alice.peer(["mute"]).run().exits(0).prints_exactly("#lab\n");
    alice.peer(["rooms"]).run().exits(0).prints("(muted)");
    assert_eq!(alice.peer(["--json", "rooms"]).run().exits(0).object("listed_room")["muted"], true);
    let mut hers = view(&alice, 80);
    hers.wait_for("muted");
    bob.peer(["chat", "#lab", "@alice one"]).run().exits(0);
    hers.wait_for("alice one");
    assert!(!hers.process().said().contains('\u{7}'));
    hers.press("/unmute\r");
    hers.wait_for("#lab rings again");
    bob.peer(["chat", "#lab", "@alice two"]).run().exits(0);
    hers.wait_for("alice two");
    hers.press("/members\r");
    hers.wait_for("carol");
    assert!(hers.process().said().contains('\u{7}'));
    let read = || std::fs::read_to_string(&heard).unwrap_or_default();
    poll_until(|| (read() == "@alice two\n").then_some(()), || format!("the program heard {:?}", read()));
    leaves(hers);
    alice.peer(["unmute", "#lab"]).run().exits(2).says("#lab is not muted: `peer mute` shows what is");
    // A person as well.
    alice.accept(["bob"]);
    let node = alice.serve();
    bob.peer(["chat", "alice", "from me"]).run().exits(0);
    node.wait_for("from me");
    alice.peer(["mute", "bob"]).run().exits(0).says("muted bob");
    bob.peer(["chat", "alice", "not heard"]).run().exits(0);
    node.wait_for("not heard");
    alice.peer(["unmute", "bob"]).run().exits(0).says("bob rings again");
    bob.peer(["chat", "alice", "heard again"]).run().exits(0);
    poll_until(|| read().contains("heard again").then_some(()), || format!("the program heard {:?}", read()));
    assert!(!read().contains("not heard"), "{}", read());
    drop(his);
}

#[test]
fn programs_hear_and_speak_in_rooms() {
    let lab = Lab::start();
    let [alice, bob, _carol] = three(&lab);
    let mut hers = alice.peer(["events"]).open_stdin().start();
    let his = bob.peer(["events"]).open_stdin().start();
    let line = |said: &str, is_it: &dyn Fn(&Value) -> bool| {
        said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|line| is_it(line))
    };
    hers.write("{\"type\":\"send\",\"to\":\"#lab\",\"text\":\"hi @bob\",\"ref\":7}\n");
    let done = hers.wait_until("an answer", |said| line(said, &|line| line["type"] == "done"));
    let heard = his.wait_until("a message", |said| line(said, &|line| line["type"] == "message"));
    let fields = ["room", "peer", "from", "text", "state", "mentions_me"].map(|field| heard[field].clone());
    assert_eq!(json!(fields), json!(["lab", "#lab", "alice", "hi @bob", "received", true]));
    assert_eq!((&done["ref"], &done["id"]), (&json!(7), &heard["id"]));
    let delivered = hers
        .wait_until("its delivery", |said| line(said, &|line| line["type"] == "room" && line["kind"] == "delivered"));
    assert_eq!((&delivered["id"], &delivered["count"], &delivered["of"]), (&heard["id"], &json!(1), &json!(2)));
    alice.peer(["room", "topic", "lab", "new"]).run().exits(0);
    let topic = his.wait_until("the topic", |said| line(said, &|line| line["kind"] == "topic"));
    assert_eq!((&topic["type"], &topic["room"], &topic["topic"]), (&json!("room"), &json!("lab"), &json!("new")));
    hers.write("{\"type\":\"send\",\"to\":\"#nowhere\",\"text\":\"x\",\"ref\":8}\n");
    hers.wait_until("a refusal", |said| line(said, &|line| line["type"] == "error" && line["ref"] == 8));
    let listed = bob.peer(["--json", "rooms"]).run();
    assert_eq!(listed.exits(0).object("listed_room")["unread"], 1);
    // Every command has a room's message in the same fields.
    let mut chat = bob.peer(["--json", "chat", "#lab"]).open_stdin().start();
    chat.write("ready\n");
    chat.wait_until("its own", |said| line(said, &|line| line["type"] == "ack"));
    hers.write("{\"type\":\"send\",\"to\":\"#lab\",\"text\":\"again, @bob\"}\n");
    let printed = chat.wait_until("a message", |said| line(said, &|line| line["type"] == "message"));
    let heard = his.wait_until("the same", |said| line(said, &|line| line["id"] == printed["id"]));
    assert_eq!(printed, heard);
    let stored = bob.peer(["--json", "history", "#lab", "--limit", "1"]).run().exits(0).object("message");
    assert_eq!(stored, heard);
    chat.close_stdin();
    chat.finish().exits(0);
}
