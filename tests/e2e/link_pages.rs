//! The pages of links in a real browser.

use tests::files::{self, assert_same};
use tests::{Browser, Lab, User, poll_until};

fn link(user: &User<'_>, args: &[&str]) -> String {
    let made = user.peer(["--json", "link"]).args(args).run();
    made.exits(0).object("link")["url"].as_str().unwrap().to_owned()
}

#[test]
fn a_guest_downloads_by_the_page() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let folder = lab.empty_folder("given");
    let film = files::write(folder.join("film.mkv"), files::noise(5, 20_000_000));
    files::write(folder.join("<img src=x onerror=window.hit=1>.txt"), "x");
    let (url, downloads) = (link(&alice, &[folder.to_str().unwrap()]), lab.empty_folder("downloads"));
    let Some(browser) = Browser::start(&downloads, "pt-BR") else {
        println!("skipped: there is no chromium with chromedriver");
        return;
    };
    browser.open(&url);
    browser.wait_for("return document.querySelector('h1').innerText === 'alice tem 2 arquivos para você'");
    assert_eq!(browser.run("return location.hash + document.cookie"), "", "neither is to be seen");
    browser.click(".folder .name");
    browser.wait_for("return document.querySelectorAll('.files li').length === 2");
    assert!(browser.run("return window.hit ?? null").is_null());
    assert_eq!(browser.run("return document.querySelectorAll('main img').length"), 0);
    assert_eq!(browser.run("return document.querySelector('form.choice button').disabled"), true);
    browser.click("a[href$='film.mkv']");
    let got = downloads.join("film.mkv");
    poll_until(|| got.exists().then_some(()), || "it never comes".to_owned());
    assert_same(&got, &film);
    // The choice of one file as an archive.
    browser.click("input[name=f]");
    browser.click("form.choice button");
    poll_until(|| downloads.join("alice.zip").exists().then_some(()), || "no archive comes".to_owned());
    // A phone's width needs no scrolling to the side.
    assert_eq!(browser.run("document.body.style.width = '320px'; return document.body.scrollWidth <= 320"), true);
}

#[test]
fn a_guest_uploads_by_the_page_through_a_restart() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let inbox = lab.join("Inbox");
    let (url, downloads) = (link(&alice, &["--receive", inbox.to_str().unwrap()]), lab.empty_folder("downloads"));
    let Some(browser) = Browser::start(&downloads, "en") else {
        println!("skipped: there is no chromium with chromedriver");
        return;
    };
    let (film, note) = (lab.file("film.mkv", 200_000_000), lab.file("note.txt", 0));
    browser.open(&url);
    browser.wait_for("return document.querySelector('h1').innerText === 'Send files to alice'");
    browser.type_into("#chosen", &format!("{}\n{}", film.display(), note.display()));
    let part = || files::names_in(&inbox).into_iter().find(|name| name.ends_with(".part"));
    let grown = || part().and_then(|name| Some(inbox.join(name).metadata().ok()?.len())).filter(|len| *len > 1_000_000);
    poll_until(grown, || "no part grows".to_owned());
    node.kill();
    node.finish().exits(137);
    let _again = alice.serve();
    browser.wait_for(
        "return [...document.querySelectorAll('.uploads .state')].filter((state) => state.innerText.startsWith('arrived')).length === 2",
    );
    assert_same(inbox.join("film.mkv"), &film);
    assert_same(inbox.join("note.txt"), &note);
    assert_eq!(files::names_in(&inbox).len(), 2);
    let shown = browser.run("return document.querySelector('.uploads code').innerText");
    assert!(shown.as_str().unwrap().starts_with("BLAKE3 "), "{shown}");
}

#[test]
fn a_cancelled_upload_ends_and_a_folder_is_refused() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let inbox = lab.join("Inbox");
    let url = link(&alice, &["--receive", inbox.to_str().unwrap()]);
    let Some(browser) = Browser::start(&lab.empty_folder("downloads"), "en") else {
        println!("skipped: there is no chromium with chromedriver");
        return;
    };
    browser.open(&url);
    browser.wait_for("return document.querySelector('h1').innerText === 'Send files to alice'");
    // Cancelled while the page waits to hear how far the file is.
    browser.run(
        "const open = window.fetch;
         window.calls = [];
         window.fetch = async (address, options = {}) => {
           window.calls.push(options.method ?? 'GET');
           if (!options.method && address.includes('film')) await new Promise((resolve) => { window.release = resolve; });
           return open(address, options);
         };
         const begin = XMLHttpRequest.prototype.open;
         XMLHttpRequest.prototype.open = function (...how) { window.calls.push(how[0]); return begin.apply(this, how); };",
    );
    let film = lab.file("film.mkv", 1000);
    browser.type_into("#chosen", film.to_str().unwrap());
    browser.wait_for("return window.release !== undefined");
    browser.click(".uploads button");
    browser.run("window.release()");
    browser.wait_for("return window.calls.includes('DELETE')");
    assert_eq!(browser.run("return window.calls"), serde_json::json!(["GET", "DELETE"]));
    // A folder ends at once, and the files beside it arrive.
    let folder = lab.empty_folder("folder");
    files::write(folder.join("within.txt"), "x");
    let (one, two) = (lab.file("one.txt", 10), lab.file("two.txt", 10));
    browser.drop_paths(".drop", &[&folder, &one, &two]);
    let states = "[...document.querySelectorAll('.uploads .state')].map((state) => state.innerText)";
    browser.wait_for(&format!(
        "const states = {states};
         return states.filter((state) => state.startsWith('arrived')).length === 2
           && states.some((state) => state.includes('is it a folder'))"
    ));
    let mut names = files::names_in(&inbox);
    names.sort();
    assert_eq!(names, ["one.txt", "two.txt"]);
}
