//! Texts and names of others on the page: nothing of them runs, wherever they are shown.

use serde_json::json;
use tests::page::Page;
use tests::{Browser, Lab, files, make_room};

/// What would run if it were read as HTML, and what would turn a line around.
const PAYLOAD: &str = "<img src=x onerror=window.hit=1><script>window.hit=1</script>\"'><svg onload=window.hit=1>";
const FILE: &str = "<img src=x onerror=window.hit=1>.txt";
const LINKS: &str = "javascript:window.hit=1 data:text/html,<script>1</script> https://x.test/\"onmouseover=window.hit=1 \u{202e}gnp.exe";

/// Keeps what the policy refused, and looks at all that is drawn.
const WATCH: &str = "window.refused = [];
    document.addEventListener('securitypolicyviolation', (event) => window.refused.push(event.violatedDirective));";

#[test]
fn nothing_of_others_runs_on_the_page() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    make_room(&[&bob, &alice]);
    bob.peer(["room", "topic", "lab", "<b onclick=window.hit=1>topic</b>"]).run().exits(0);
    alice.accept(["bob"]);
    let folder = lab.empty_folder("given");
    files::write(folder.join(FILE), "x");
    bob.share([folder.join(FILE)]);
    let browser_folder = lab.empty_folder("browser");
    let Some(browser) = Browser::start(&browser_folder, "en") else {
        println!("skipped: there is no chromium with chromedriver");
        return;
    };
    let his = bob.serve();
    let web = alice.peer(["--json", "web", "--no-open", "--folder"]).arg(lab.empty_folder("down")).start();
    browser.open(&Page::address(&web));
    browser.wait_for("return document.querySelector('.sidebar .row') !== null");
    browser.run(WATCH);
    for text in [PAYLOAD, LINKS] {
        bob.peer(["chat", "alice", "--", text]).run().exits(0);
        bob.peer(["chat", "#lab", "--", text]).run().exits(0);
    }
    bob.peer(["send", "--detach", "alice"]).arg(folder.join(FILE)).run().exits(0);
    let visit = |place: &str, words: &str| {
        browser.run(&format!("location.hash = '#/{place}'"));
        browser.wait_for(&format!("return document.body.innerText.includes({})", json!(words)));
        assert_eq!(browser.run("return window.hit ?? null"), json!(null), "{place}");
        assert_eq!(browser.run("return window.refused"), json!([]), "{place}");
        let odd = "return [...document.querySelectorAll('img, script:not([type=module]), iframe, object, embed, [onerror], [onload], \
            [onclick], [style*=expression], a[href^=javascript], a[href^=data]')].map((element) => element.outerHTML)";
        assert_eq!(browser.run(odd), json!([]), "{place}");
    };
    visit("chats/bob", PAYLOAD);
    visit("chats/bob", "⟨202E⟩gnp.exe");
    visit("chats/%23lab", PAYLOAD);
    visit("chats/%23lab", "<b onclick=window.hit=1>topic</b>");
    visit("files/bob", FILE);
    browser.click(".file-row button");
    visit("transfers", FILE);
    visit("files", "Search, or look");
    browser.type_into(".search-bar input", "onerror");
    visit("files", FILE);
    // An address leads to a place of the page or to none, and is shown as text.
    visit("chats/%3Cimg%20src%3Dx%20onerror%3Dwindow.hit%3D1%3E", "<img src=x onerror=window.hit=1>");
    visit("files/%E2%80%AE/%3Cb%3E", "⟨202E⟩");
    browser.run("location.hash = '#/chats/bob'");
    browser.wait_for("return document.querySelector('.message a') !== null");
    let links = browser.run(
        "return [...document.querySelectorAll('.message a')].map((link) => [link.protocol, link.rel, link.target])",
    );
    for link in links.as_array().unwrap() {
        assert_eq!(link, &json!(["https:", "noreferrer noopener", "_blank"]));
    }
    // Found, marked, notified and announced, it is text as well.
    browser.click("[aria-label='Search in this conversation']");
    browser.type_into(".search-box input", "script");
    visit("chats/bob", " found");
    assert_eq!(browser.run("return [...document.querySelectorAll('.found-row mark')].length > 0"), json!(true));
    drop(his);
}
