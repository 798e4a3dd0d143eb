//! The page when something goes wrong on it, or ends while other things are on their way.

use serde_json::{Value, json};
use tests::door::{self, Door};
use tests::files::{self, assert_content};
use tests::open_page::OpenPage;
use tests::{Browser, Lab, poll_until};

/// A script that holds the calls whose method and address match, until `release()`; and counts the uploads that begin.
fn hold_script(method: &str, part: &str) -> String {
    format!(
        "const open = window.fetch;
         const held = [];
         window.calls = [];
         window.fetch = async (address, options = {{}}) => {{
           const method = options.method ?? 'GET';
           window.calls.push(`${{method}} ${{address}}`);
           if (method === {} && String(address).includes({})) {{
             window.isHeld = true;
             await new Promise((resolve) => held.push(resolve));
           }}
           return open(address, options);
         }};
         window.release = () => held.splice(0).forEach((go) => go());
         window.puts = 0;
         const begin = XMLHttpRequest.prototype.open;
         XMLHttpRequest.prototype.open = function (...how) {{ window.puts += 1; return begin.apply(this, how); }};",
        json!(method),
        json!(part)
    )
}

/// Logs in on the page of a door.
#[track_caller]
fn log_in(browser: &Browser, user: &str) {
    browser.wait_for("return document.querySelector('#login-user')?.offsetParent !== undefined");
    browser.type_into("#login-user", user);
    browser.type_into("#login-password", &door::password_of(user));
    browser.press(&["Enter"]);
    browser.wait_for(&format!("return document.querySelector('.sidebar .own-name')?.innerText === '{user}'"));
}

#[test]
fn nothing_of_a_user_is_left_for_the_next() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let _his = bob.serve();
    let door = Door::open(&lab, &[]);
    for user in ["ana", "eva"] {
        door.new_user(user);
        bob.accept([user]);
    }
    let Some(browser) = Browser::start(&lab.empty_folder("browser"), "en") else {
        println!("skipped: there is no chromium with chromedriver");
        return;
    };
    browser.open(&format!("http://127.0.0.1:{}/", door.port));
    log_in(&browser, "ana");
    let page = OpenPage { browser, web: door.process };
    page.shows(".sidebar .row", "bob");
    page.go("chats/bob", ".composer textarea");
    bob.peer(["chat", "ana", "for ana alone"]).run().exits(0);
    page.shows("#announcer", "for ana alone");
    // One upload is on its way, with words, and others wait.
    page.browser.run(&hold_script("GET", "/uploads/"));
    page.drop_files(".talk", &[("one.txt", "1"), ("two.txt", "2"), ("three.txt", "3")]);
    page.browser.press(&["Enter"]);
    page.browser.wait_for("return window.isHeld");
    page.browser.type_into(".composer textarea", "what ana thinks");
    page.go("settings", ".settings .danger");
    page.browser.click(".settings .danger");
    page.browser.wait_for("return window.release === undefined && document.querySelector('#login-user') !== null");
    log_in(&page.browser, "eva");
    page.go("chats/bob", ".composer textarea");
    assert_eq!(page.value_of(".composer textarea"), "");
    assert_eq!(page.browser.run("return document.querySelector('#announcer').innerText"), "");
    page.go("transfers", ".list-status");
    assert_eq!(page.browser.run("return document.querySelectorAll('.transfer').length"), 0);
    // Each of them has a page that lasts until they leave.
    page.browser.run("location.reload()");
    page.browser.wait_for("return document.querySelector('.sidebar .own-name')?.innerText === 'eva'");
}

#[test]
fn an_address_with_a_token_opens_in_its_tab() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    page.go("settings", ".settings .danger");
    page.browser.click(".settings .danger");
    page.shows(".login", "peer web");
    let other = alice.peer(["--json", "web", "--no-open"]).start();
    let address = tests::page::Page::address(&other);
    let (place, token) = address.split_once('#').expect("a token");
    page.browser.open(place);
    page.shows(".login", "peer web");
    // As somebody does who pastes it: only what follows the mark is another one.
    page.browser.run(&format!("location.hash = '{token}'"));
    page.browser.wait_for("return document.querySelector('.sidebar .own-name')?.innerText === 'alice'");
    assert_eq!(page.browser.run("return location.hash"), "#/");
}

#[test]
fn a_refused_file_takes_nothing_else_along() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.accept(["alice"]);
    let _his = bob.serve();
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    page.go("chats/bob", ".composer textarea");
    let endless = "x".repeat(300);
    page.drop_files(".talk", &[("notes.txt", "what was said"), (".DS_Store", "?"), (&endless, "1")]);
    page.shows(".toast", "A hidden file was left out.");
    page.shows(".staged-sum", "Send 2 files to bob");
    page.browser.type_into(".composer textarea", "the notes");
    page.browser.press(&["Enter"]);
    page.shows(".problem-toast", "can't be sent: ");
    page.shows(".message", "notes.txt");
    page.shows(".message", "the notes");
    let inbox = lab.empty_folder("inbox");
    bob.fetch("alice", ["notes.txt"], &inbox).run().exits(0);
    assert_content(inbox.join("notes.txt"), b"what was said");
    page.go("transfers", ".transfer");
    page.browser.wait_for(
        "const states = [...document.querySelectorAll('[aria-label=Uploads] .transfer-state')];
         return states.map((state) => state.innerText.split(' · ')[0]).sort().join() === 'done,failed'",
    );

    // With nothing to send, the words come back to where they were written.
    page.go("chats/bob", ".composer textarea");
    page.drop_files(".talk", &[(&endless, "1")]);
    page.browser.type_into(".composer textarea", "words of weight");
    page.browser.press(&["Enter"]);
    page.browser.wait_for("return document.querySelector('.composer textarea').value === 'words of weight'");
    assert_eq!(page.browser.run("return document.querySelectorAll('.message').length"), 2);
}

#[test]
fn a_cancelled_file_is_not_sent_and_the_others_are() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.accept(["alice"]);
    let _his = bob.serve();
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    page.go("chats/bob", ".composer textarea");
    page.browser.run(&hold_script("GET", "/one.txt"));
    page.drop_files(".talk", &[("one.txt", "1"), ("two.txt", "2"), ("three.txt", "3")]);
    page.browser.press(&["Enter"]);
    page.browser.wait_for("return window.isHeld");
    page.go("transfers", "[aria-label='Cancel one.txt']");
    page.browser.wait_for("return window.puts === 2");
    page.browser.click("[aria-label='Cancel one.txt']");
    page.browser.run("window.release()");
    page.browser.wait_for("return window.calls.some((call) => call.startsWith('DELETE') && call.includes('one.txt'))");
    page.go("chats/bob", ".message");
    for name in ["two.txt", "three.txt"] {
        page.shows(".message", name);
    }
    assert_eq!(page.browser.run("return window.puts"), 2);
    page.go("transfers", ".transfer");
    let uploads = page.browser.run("return document.querySelector('[aria-label=Uploads]').innerText");
    let uploads = uploads.as_str().unwrap();
    assert!(uploads.contains("two.txt") && !uploads.contains("one.txt") && !uploads.contains("undefined"), "{uploads}");
}

#[test]
fn a_long_text_is_refused_before_it_is_sent() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.accept(["bob"]);
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    page.go("chats/bob", ".composer textarea");
    let write = |letters: u64| {
        page.browser.run(&format!(
            "const field = document.querySelector('.composer textarea');
             field.value = 'é'.repeat({letters});
             field.dispatchEvent(new Event('input'));
             field.focus()"
        ));
        page.browser.press(&["Enter"]);
    };
    write(8193);
    page.shows(".toast", "too long");
    let length = page.browser.run("return document.querySelector('.composer textarea').value.length");
    assert_eq!(length, json!(8193));
    assert_eq!(page.browser.run("return document.querySelectorAll('.message').length"), 0);
    drop(bob);
    write(8192);
    page.browser.wait_for("return document.querySelector('.message:not(.ended) .message-state')?.innerText === '…'");
}

#[test]
fn what_could_not_be_read_stays_unread_and_is_read_again() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.accept(["bob"]);
    {
        let _hers = alice.serve();
        bob.peer(["chat", "alice", "look"]).run().exits(0);
    }
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    page.shows(".sidebar .row .badge", "1");
    let script = "const open = window.fetch;
        window.isBroken = true;
        window.fetch = (address, options) => (window.isBroken && String(address).includes('/messages')
          ? Promise.reject(new TypeError('cut')) : open(address, options));";
    page.browser.run(script);
    page.go("chats/bob", ".composer textarea");
    page.shows(".timeline-status", "can't be read");
    page.go("settings", ".settings");
    page.shows(".sidebar .row .badge", "1");
    let inbox: Value = alice.peer(["--json", "inbox"]).run().exits(0).out().trim().len().into();
    assert_ne!(inbox, json!(0), "it counts as read");
    page.browser.run("window.isBroken = false");
    page.go("chats/bob", ".composer textarea");
    page.shows(".message", "look");
    poll_until(
        || alice.peer(["--json", "inbox"]).run().out().trim().is_empty().then_some(()),
        || "it stays unread".to_owned(),
    );
}

#[test]
fn a_dropped_folder_is_sent_without_what_is_hidden() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    let folder = lab.empty_folder("trip");
    files::write(folder.join("day 1/sea.txt"), "blue");
    files::write(folder.join("day 1/.notes"), "x");
    files::write(folder.join(".git/config"), "x");
    page.go("shares", ".drop-hint");
    page.browser.drop_paths(".drop-hint", &[&folder]);
    page.shows(".toast", "2 hidden files were left out.");
    page.shows(".file-row", "sea.txt");
    page.shows(".list-status", "1 file");
}

#[test]
fn a_file_that_is_cancelled_on_its_way_leaves_the_others() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let Some(page) = OpenPage::open(&lab, &alice, "en") else { return };
    let film = lab.path().join("film.mkv");
    std::fs::File::create(&film).unwrap().set_len(3_000_000_000).unwrap();
    let (one, two) = (lab.file("one.txt", 10), lab.file("two.txt", 10));
    page.go("shares", ".drop-hint");
    // Neither can the drop be complete before the file is cancelled.
    page.browser.run(&hold_script("GET", "/one.txt"));
    page.browser.drop_paths(".drop-hint", &[&film, &one, &two]);
    page.go("transfers", "[aria-label='Cancel film.mkv']");
    page.browser.wait_for(
        "return [...document.querySelectorAll('.transfer .bar')].some((bar) => bar.max > 1e9 && bar.value > 1e7)",
    );
    page.browser.click("[aria-label='Cancel film.mkv']");
    page.browser.run("window.release()");
    page.shows(".toast", "2 files are shared.");
    page.go("shares", ".file-row");
    page.shows(".list-status", "2 files");
}
