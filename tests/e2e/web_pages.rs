//! The page of `peer web` in a real browser, beside terminals.

use std::time::Duration;

use serde_json::json;
use tests::door::{self, Door};
use tests::files::{self, assert_content, assert_same};
use tests::open_page::OpenPage;
use tests::{Browser, Lab, make_room, poll_until};

#[test]
fn two_pages_and_two_terminals_share_a_conversation() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.accept(["bob"]);
    bob.accept(["alice"]);
    let Some(hers) = OpenPage::open(&lab, &alice, "en") else { return };
    let his = OpenPage::open(&lab, &bob, "pt-BR").expect("there is a browser");
    let her_terminal = alice.peer(["chat", "bob"]).in_terminal(80, 24);
    let mut his_terminal = bob.peer(["chat", "alice"]).in_terminal(80, 24);
    hers.go("chats/bob", ".composer textarea");
    his.go("chats/alice", ".composer textarea");

    hers.write("from her page");
    his.shows(".message", "from her page");
    his_terminal.wait_for("from her page");
    her_terminal.wait_for("from her page");
    hers.shows(".message.mine .message-state", "✓");

    his_terminal.press("from his terminal\r");
    hers.shows(".message", "from his terminal");
    his.shows(".message.mine", "from his terminal");
    her_terminal.wait_for("from his terminal");
    // What is in sight is read, for all views of the account.
    poll_until(
        || alice.peer(["--json", "inbox"]).run().out().trim().is_empty().then_some(()),
        || "it stays unread".to_owned(),
    );
    his.browser.type_into(".composer textarea", "wait");
    hers.shows(".writing", "bob is writing…");
    // Who stops writing isn't shown for long.
    hers.browser.wait_for("return document.querySelector('.writing').innerText === ''");
    assert_eq!(his.browser.run("return document.documentElement.lang"), "pt-BR");
    his.shows(".rail", "Conversas");
}

#[test]
fn a_room_counts_who_has_a_message() {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carol"));
    make_room(&[&alice, &bob, &carol]);
    let his = bob.serve();
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    page.shows(".sidebar .row", "#lab");
    page.go("chats/%23lab", ".composer textarea");
    page.write("who is here?");
    his.wait_for("who is here?");
    page.shows(".message.mine .message-state", "1/2");
    bob.peer(["chat", "#lab", "me, @alice"]).run().exits(0);
    page.shows(".message.calls-me", "me, @alice");
    // The other member comes later, and the mark follows.
    let _hers = carol.serve();
    page.shows(".message.mine .message-state", "✓");
    page.browser.click("[aria-label=Details]");
    page.shows(".details .member", "carol");
    bob.peer(["room", "leave", "lab"]).run().exits(0);
    page.shows(".note", "bob left");
}

#[test]
fn a_stranger_is_accepted_on_the_page() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _his = bob.serve();
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    bob.peer(["chat", "alice", "may I?"]).run().exits(0);
    page.shows(".sidebar .row", "wants to talk");
    page.browser.wait_for("return document.title === '(2) Vizinho' || document.title === '(1) Vizinho'");
    page.go("chats/bob", ".request-bar .primary");
    page.browser.click(".request-bar .primary");
    page.browser.wait_for("return document.querySelector('.request-bar').hidden");
    page.browser.wait_for("return document.title === 'Vizinho'");
    alice.peer(["--json", "inbox"]).run().exits(0).prints_exactly("");
}

#[test]
fn a_file_is_fetched_with_its_bar() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let film = lab.file("film.mkv", 40_000_000);
    bob.share([&film]);
    // Slow enough that the bar is seen on its way.
    let his = bob.peer(["serve", "--limit", "1M"]).start();
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    page.shows(".sidebar .row", "bob");
    page.go("files/bob", ".file-row button");
    page.shows(".list-status", "1 file");
    page.browser.click(".file-row button");
    page.go("transfers", ".transfer");
    page.browser.wait_for(
        "const bar = document.querySelector('.transfer .bar'); return bar?.max > 1 && bar.value > 0 && bar.value < bar.max",
    );
    // It is stopped, and goes on where it was.
    page.browser.click("[aria-label='Stop film.mkv']");
    page.shows(".transfer-state", "stopped");
    his.terminate();
    his.finish().exits(143);
    let _his = bob.serve();
    page.browser.click("[aria-label='Go on with film.mkv']");
    page.shows(".transfer-state", "done");
    assert_same(lab.join("alice-downloads/film.mkv"), &film);
}

#[test]
fn dropped_files_arrive_at_a_terminal() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.accept(["alice"]);
    let _his = bob.serve();
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    page.go("chats/bob", ".composer textarea");
    let dropped = [("notes.txt", "what was said"), ("empty", "")];
    page.drop_files(".talk", &dropped);
    page.shows(".staged-sum", "Send 2 files to bob");
    page.browser.type_into(".composer textarea", "the notes");
    page.browser.press(&["Enter"]);
    page.shows(".message", "notes.txt");
    page.shows(".message", "the notes");
    let inbox = lab.empty_folder("inbox");
    bob.fetch("alice", ["notes.txt"], &inbox).run().exits(0);
    assert_content(inbox.join("notes.txt"), b"what was said");

    // On the share pane they are for everybody.
    page.go("shares", ".drop-hint");
    page.drop_files(".pane", &[("film.srt", "1")]);
    page.shows(".file-row", "film.srt");
    bob.fetch("alice", ["film.srt"], &inbox).run().exits(0);
    page.browser.click("[aria-label='Stop sharing film.srt']");
    page.browser.click("dialog .danger");
    page.browser.wait_for(
        "return ![...document.querySelectorAll('.file-row')].some((row) => row.innerText.includes('film.srt'))",
    );
    assert!(!files::names_in(&inbox).is_empty());
}

#[test]
fn a_session_outlives_a_reload_and_ends_by_logout() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    assert_eq!(page.browser.run("return location.hash"), "#/", "the token is not to be seen");
    page.go("settings", ".settings");
    page.browser.run("location.reload()");
    page.browser.wait_for("return document.querySelector('.settings .facts-list')?.innerText.includes('alice')");
    page.browser.run("document.querySelector('.segment input[value=dark]').click()");
    assert_eq!(page.browser.run("return document.documentElement.dataset.theme"), "dark");
    page.browser.click(".settings .danger");
    page.shows(".login", "peer web");
    page.browser.run("location.reload()");
    page.shows(".login", "peer web");
    assert_eq!(page.browser.run("return sessionStorage.length"), 0);
}

#[test]
fn a_page_says_that_its_server_is_gone() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.accept(["alice"]);
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    page.go("chats/bob", ".composer textarea");
    page.web.kill();
    page.shows(".banner", "Vizinho doesn't answer.");
    // What is written stays on the page, and says that it isn't sent.
    page.write("are you there?");
    page.shows(".message.ended .message-actions", "Send again");
}

#[test]
fn the_keyboard_reaches_everything() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.accept(["bob"]);
    bob.accept(["alice"]);
    let his = bob.serve();
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    page.shows(".sidebar .row", "bob");
    let keys = &page.browser;
    keys.press(&["Control", "k"]);
    keys.wait_for("return document.activeElement.matches('dialog .switcher-field')");
    keys.type_text("bo");
    keys.press(&["Enter"]);
    keys.wait_for("return document.activeElement.matches('.composer textarea')");
    keys.type_text("by keys alone");
    keys.press(&["Enter"]);
    his.wait_for("by keys alone");

    // By Tab through everything: each stop is visible and has a name.
    let look = "const element = document.activeElement;
        const name = element.getAttribute('aria-label') ?? element.labels?.[0]?.innerText ?? element.innerText;
        const style = getComputedStyle(element);
        const isMarked = style.outlineStyle !== 'none' || element.closest('.composer-line') !== null;
        return [element.tagName, element.className, name, isMarked, element.getClientRects().length > 0]";
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        keys.press(&["Tab"]);
        let stop = keys.run(look);
        if stop[0] == "BODY" {
            continue;
        }
        assert_ne!(stop[2].as_str().unwrap_or_default().trim(), "", "{stop}");
        assert_eq!((&stop[3], &stop[4]), (&json!(true), &json!(true)), "{stop}");
        seen.insert(format!("{} {}", stop[0].as_str().unwrap_or_default(), stop[1].as_str().unwrap_or_default()));
    }
    for wanted in ["A rail-link", "INPUT filter", "A row", "BUTTON icon-button", "DIV timeline", "TEXTAREA field"] {
        assert!(seen.iter().any(|stop| stop.starts_with(wanted)), "no Tab reaches {wanted}: {seen:?}");
    }
    // The arrows go through a list, and Escape closes what is open.
    keys.run("document.querySelector('.sidebar .filter').focus()");
    keys.press(&["ArrowDown"]);
    keys.wait_for("return document.activeElement.matches('.sidebar .row')");
    keys.press(&["Enter"]);
    keys.wait_for("return document.activeElement.matches('.composer textarea')");
    keys.press(&["Control", "f"]);
    keys.wait_for("return document.activeElement.matches('.search-box input')");
    keys.type_text("keys");
    page.shows(".found-row", "by keys alone");
    keys.press(&["Escape"]);
    keys.wait_for("return document.activeElement.matches('.composer textarea')");
    // The first stop of the page leads past the lists, and nowhere else.
    keys.run("document.querySelector('#skip').focus()");
    keys.press(&["Enter"]);
    keys.wait_for("return document.activeElement.matches('main')");
    assert_eq!(keys.run("return location.hash"), "#/chats/bob");
}

#[test]
fn a_long_history_is_drawn_in_part() {
    const MESSAGES: usize = 700;
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.accept(["bob"]);
    let his = bob.serve();
    {
        let _hers = alice.serve();
        let mut writer = tests::EventProgram::start(&bob);
        writer.drop_output();
        (0..MESSAGES).for_each(|number| writer.send("alice", &format!("line {number}.")));
        let all_there = || {
            let history = alice.peer(["--json", "history", "bob", "--limit", "1"]).run();
            history.out().contains(&format!("line {}.", MESSAGES - 1)).then_some(())
        };
        tests::poll_for(Duration::from_secs(60), all_there, || "they never come".to_owned());
    }
    drop(his);
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    page.go("chats/bob", ".message");
    page.shows(".message", &format!("line {}.", MESSAGES - 1));
    let up = "const timeline = document.querySelector('.timeline'); timeline.scrollTop = 0;
              return [...document.querySelectorAll('.message')][0].innerText.includes('line 0.')";
    page.browser.wait_for(up);
    let rows = page.browser.run("return document.querySelectorAll('.timeline .message').length").as_u64().unwrap();
    assert!((100..=300).contains(&rows), "{rows}");
    page.browser.click(".latest");
    page.shows(".message", &format!("line {}.", MESSAGES - 1));
    page.browser.click("[aria-label='Search in this conversation']");
    page.browser.type_into(".search-box input", "line 42");
    page.browser.wait_for("return document.querySelector('.found-row') !== null");
    page.browser.click(".found-row");
    page.browser.wait_for("return document.querySelector('.message.pointed')?.innerText.includes('line 42')");
}

#[test]
fn somebody_with_only_a_browser_talks_and_fetches_through_the_door() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let film = lab.file("film.mkv", 3_000_000);
    bob.share([&film]);
    let his = bob.serve();
    let door = Door::open(&lab, &[]);
    door.new_user("ana");
    bob.accept(["ana"]);
    let folder = lab.empty_folder("ana-browser");
    let Some(browser) = Browser::start(&folder, "en") else {
        println!("skipped: there is no chromium with chromedriver");
        return;
    };
    browser.open(&format!("http://127.0.0.1:{}/", door.port));
    browser.wait_for("return document.querySelector('#login-user')?.offsetParent !== null");
    browser.type_into("#login-user", "ana");
    browser.type_into("#login-password", "a wrong one");
    browser.press(&["Enter"]);
    browser.wait_for("return document.querySelector('form [role=alert]')?.innerText.length > 0");
    browser.run("document.querySelector('#login-password').value = ''");
    browser.type_into("#login-password", &door::password_of("ana"));
    browser.press(&["Enter"]);
    browser.wait_for("return document.querySelector('.sidebar .own-name')?.innerText === 'ana'");
    browser.wait_for(
        "return [...document.querySelectorAll('.sidebar .row')].some((row) => row.innerText.includes('bob'))",
    );

    let page = OpenPage { browser, web: door.process };
    page.go("chats/bob", ".composer textarea");
    page.write("from the door");
    his.wait_for("from the door");
    bob.peer(["chat", "ana", "welcome"]).run().exits(0);
    page.shows(".message", "welcome");
    page.go("files/bob", ".file-row button");
    page.browser.click(".file-row button");
    poll_until(
        || {
            std::fs::read(folder.join("film.mkv"))
                .ok()
                .filter(|saved| *saved == std::fs::read(&film).unwrap())
                .map(drop)
        },
        || "the browser saves nothing".to_owned(),
    );
}
