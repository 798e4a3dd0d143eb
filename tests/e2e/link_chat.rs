//! Conversations with guests of links: by curl, by a browser, and from the user's side.

use serde_json::{Value, json};
use tests::{Browser, Guest, Invocation, Lab, User, poll_until};

/// What the guest has of its conversation: whose each message is, and its text.
fn conversation(curl: Invocation, guest: &Guest) -> Vec<(bool, String)> {
    let answer: Value = serde_json::from_str(&curl.arg(guest.address("chat")).run().exits(0).out()).unwrap();
    let message = |message: &Value| (message["answer"] == true, message["text"].as_str().unwrap().to_owned());
    answer["messages"].as_array().unwrap().iter().map(message).collect()
}

fn theirs(text: &str) -> (bool, String) {
    (true, text.to_owned())
}

fn ours(text: &str) -> (bool, String) {
    (false, text.to_owned())
}

/// A browser that entered the link with its code: curl with a jar of cookies.
fn browser(guest: &Guest, jar: &str) -> Invocation {
    let code = format!("code={}", guest.code());
    assert_eq!(Guest::status(guest.bare_curl().args(["-c", jar, "-d", &code]).arg(guest.address("enter"))), "303");
    guest.bare_curl().args(["-b", jar])
}

fn again(guest: &Guest, jar: &str) -> Invocation {
    guest.bare_curl().args(["-b", jar])
}

fn write(curl: Invocation, guest: &Guest, text: &str, name: &str) -> String {
    let fields = [format!("text={text}"), format!("name={name}")];
    let curl = fields.iter().fold(curl, |curl, field| curl.args(["--data-urlencode", field]));
    Guest::status(curl.arg(guest.address("chat")))
}

fn listed(user: &User<'_>) -> Value {
    user.peer(["--json", "link", "list"]).run().exits(0).object("link")
}

#[test]
fn guests_write_and_are_answered() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let report = lab.file("report.pdf", 1000);
    let guest = Guest::of(&lab, &alice, &["--chat"], &[&report]);
    assert_eq!(guest.text("chat"), guest.address("chat"));
    alice.peer(["link", "chat", "1"]).run().exits(0).says("nobody has written at link 1 yet");
    alice.peer(["link", "chat", "1", "hello?"]).run().exits(2).says("nobody has written yet");
    let mut events = alice.peer(["events"]).open_stdin().start();
    events.write("{\"type\":\"typing\",\"to\":\"alice\",\"ref\":\"begun\"}\n");
    events.wait_for("begun");
    assert_eq!(write(guest.curl(), &guest, "is this the 2nd draft?", "Ana"), "201");
    node.wait_for("guest 1.1 “Ana”: is this the 2nd draft?");
    node.wait_for("`peer link chat 1.1` answers");
    let event: Value = serde_json::from_str(&events.wait_for("\"type\":\"guest_message\"")).unwrap();
    assert_eq!((&event["link"], &event["guest"], &event["name"]), (&json!(1), &json!(1), &json!("Ana")));
    assert_eq!((&event["text"], &event["answer"]), (&json!("is this the 2nd draft?"), &json!(false)));
    assert_eq!(listed(&alice)["unread"], 1);
    alice.peer(["link", "list"]).run().exits(0).prints("1 unread message: `peer link chat 1`");
    alice.peer(["inbox"]).run().exits(0).says("1 unread message of guests: `peer link list`");
    // Live: a stream has what was, and the answer as it is stored.
    let stream = guest.curl().args(["-N", "-H", "Accept: text/event-stream"]).arg(guest.address("chat")).start();
    stream.wait_for("is this the 2nd draft?");
    alice.peer(["link", "chat", "1", "yes,", "the 2nd"]).run().exits(0).says("stored for guest 1.1 “Ana”");
    let line = stream.wait_for("yes, the 2nd");
    let message: Value = serde_json::from_str(line.trim_start_matches("data: ")).unwrap();
    assert_eq!(message["answer"], true);
    let event: Value = serde_json::from_str(&events.wait_for("yes, the 2nd")).unwrap();
    assert_eq!((&event["type"], &event["answer"]), (&json!("guest_message"), &json!(true)));
    assert_eq!(listed(&alice)["unread"], 0, "whoever answers has read");
    assert_eq!(conversation(guest.curl(), &guest), [ours("is this the 2nd draft?"), theirs("yes, the 2nd")]);
    let plain = guest.curl().args(["-H", "Content-Type: text/plain", "--data-binary", "two\nlines & more\n"]);
    assert_eq!(Guest::status(plain.arg(guest.address("chat"))), "201");
    let printed = alice.peer(["link", "chat", "1.1"]).run();
    printed.exits(0).prints("guest 1.1 “Ana”: is this").prints("to guest 1.1 “Ana”: yes, the 2nd");
    printed.prints("“Ana”: two\n    lines & more");
    let objects = alice.peer(["--json", "link", "chat", "1.1"]).run().exits(0).json();
    assert_eq!((objects.len(), &objects[2]["text"]), (3, &json!("two\nlines & more")));
    alice.peer(["link", "chat", "1.2", "x"]).run().exits(2).says("there is no guest 1.2");
    alice.peer(["link", "chat", "7"]).run().exits(2).says("there is no link 7");
    let without = Guest::of(&lab, &alice, &[], &[&report]);
    assert_eq!(write(without.curl(), &without, "x", ""), "404");
    alice.peer(["link", "chat", "2"]).run().exits(2).says("takes no messages");
    // The end of the link is the end of the conversation.
    alice.peer(["link", "revoke", "1"]).run().exits(0);
    stream.wait_for("event: end");
    stream.finish().exits(0);
    assert_eq!(Guest::status(guest.curl().arg(guest.address("chat"))), "401");
    alice.peer(["link", "chat", "1.1"]).run().exits(2);
}

#[test]
fn each_browser_has_a_conversation_of_its_own_that_outlasts_the_node() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    // A link without files is a conversation alone.
    let guest = Guest::of(&lab, &alice, &["--chat"], &[]);
    assert_eq!(
        (
            write(browser(&guest, "one"), &guest, "I am one", "Ana"),
            write(browser(&guest, "two"), &guest, "I am two", "Ana")
        ),
        ("201".to_owned(), "201".to_owned())
    );
    guest.paste().exits(0).prints("\"text\":\"TEXT\"");
    assert_eq!(conversation(again(&guest, "one"), &guest), [ours("I am one")]);
    let several = alice.peer(["link", "chat", "1"]).run();
    several.exits(0).prints("guest 1.1 “Ana”").prints("guest 1.2 “Ana”").prints("guest 1.3 (").prints("1 unread");
    alice.peer(["link", "chat", "1", "to whom?"]).run().exits(2).says("which guest?");
    alice.peer(["link", "chat", "1.2", "to two"]).run().exits(0);
    node.terminate();
    node.finish().exits(143);
    // Without a node as well; the browser sees it when there is one.
    alice.peer(["link", "chat", "1.1", "to one"]).run().exits(0);
    let _node = alice.serve();
    let link = poll_until(|| Some(listed(&alice)).filter(|link| link["served"] == true), || "never served".to_owned());
    let guest = Guest { link, folder: guest.folder.clone() };
    assert_eq!(conversation(again(&guest, "one"), &guest), [ours("I am one"), theirs("to one")]);
    assert_eq!(conversation(again(&guest, "two"), &guest), [ours("I am two"), theirs("to two")]);
    assert_eq!(conversation(guest.curl(), &guest), [ours("TEXT")]);
}

#[test]
fn a_link_for_one_is_a_conversation_with_one() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let guest = Guest::of(&lab, &alice, &["--chat", "--once"], &[&lab.file("f.bin", 10)]);
    assert_eq!(write(browser(&guest, "one"), &guest, "mine", ""), "201");
    let code = format!("code={}", guest.code());
    assert_eq!(Guest::status(guest.bare_curl().args(["-c", "two", "-d", &code]).arg(guest.address("enter"))), "403");
    assert_eq!(write(guest.curl(), &guest, "a terminal is another", ""), "401");
    assert_eq!(conversation(again(&guest, "one"), &guest), [ours("mine")]);
}

#[test]
fn a_browser_talks_live() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let guest = Guest::of(&lab, &alice, &["--chat"], &[&lab.file("f.bin", 10)]);
    let Some(browser) = Browser::start(&lab.empty_folder("downloads"), "pt-BR") else {
        println!("skipped: there is no chromium with chromedriver");
        return;
    };
    browser.open(guest.text("url"));
    browser.wait_for("return document.querySelector('#talk h2')?.innerText === 'Escreva para alice'");
    let hostile = "<img src=x onerror=window.hit=1><script>window.hit=1</script>";
    browser.type_into("input[name=name]", "<b>Ana</b>");
    browser.type_into("textarea", hostile);
    browser.click(".write button");
    node.wait_for(&format!("guest 1.1 “<b>Ana</b>”: {hostile}"));
    let said = |class: &str| {
        format!("return [...document.querySelectorAll('.said .{class} .text')].map((said) => said.innerText)")
    };
    browser.wait_for("return document.querySelectorAll('.said .ours').length === 1");
    assert_eq!(browser.run(&said("ours")), json!([hostile]));
    alice.peer(["link", "chat", "1", &format!("olá {hostile}")]).run().exits(0);
    browser.wait_for("return document.querySelectorAll('.said .theirs').length === 1");
    assert_eq!(browser.run(&said("theirs")), json!([format!("olá {hostile}")]));
    // As the page has it after a reload, too.
    browser.open(&guest.address(""));
    browser.wait_for("return document.querySelectorAll('.said li').length === 2");
    assert_eq!(
        (browser.run(&said("ours")), browser.run(&said("theirs"))),
        (json!([hostile]), json!([format!("olá {hostile}")]))
    );
    assert_eq!(browser.run("return document.querySelector('input[name=name]').value"), "<b>Ana</b>");
    assert!(browser.run("return window.hit ?? null").is_null());
    assert_eq!(browser.run("return document.querySelectorAll('#talk img, #talk script, #talk b b').length"), 0);
    assert_eq!(browser.run("document.body.style.width = '320px'; return document.body.scrollWidth <= 320"), true);
    // What is typed while a message is on its way is the next one.
    browser.run(
        "const open = window.fetch;
         window.fetch = async (...call) => {
           window.fetch = open;
           await new Promise((resolve) => { window.release = resolve; });
           return open(...call);
         };",
    );
    browser.type_into("textarea", "one");
    browser.click(".write button");
    browser.wait_for("return window.release !== undefined");
    browser.type_into("textarea", " and two");
    browser.run("window.release()");
    browser.wait_for("return document.querySelectorAll('.said .ours').length === 2");
    browser.wait_for("return document.querySelector('textarea').value === 'and two'");
    browser.run("document.querySelector('textarea').value = ''");
    // A text that is refused stays in its field.
    browser.run("document.querySelector('input[name=name]').value = 'a”b'");
    browser.type_into("textarea", "kept");
    browser.click(".write button");
    browser.wait_for("return document.querySelector('.talk .state').innerText.includes('um nome tem letras')");
    assert_eq!(browser.run("return document.querySelector('textarea').value"), "kept");
    alice.peer(["link", "revoke", "1"]).run().exits(0);
    browser.wait_for("return document.querySelector('.talk .state').innerText === 'O link terminou.'");
    assert_eq!(browser.run("return document.querySelector('textarea').disabled"), true);
}

#[test]
fn without_a_script_the_page_is_loaded_again() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let guest = Guest::of(&lab, &alice, &["--chat", "--receive", lab.join("in").to_str().unwrap()], &[]);
    let _ = browser(&guest, "jar");
    let html = |curl: Invocation| {
        curl.args(["-H", "Accept: text/html", "-H", "Sec-Fetch-Site: same-origin", "-H", "Origin: null"])
    };
    let page = || html(again(&guest, "jar")).arg(guest.address("")).run().exits(0).out();
    let id = page().split("name=\"id\" value=\"").nth(1).unwrap()[..32].to_owned();
    let send = || {
        let fields = [format!("id={id}"), "text=one%0D%0Atwo".to_owned(), "name=Ana".to_owned()];
        let curl = fields.iter().fold(html(again(&guest, "jar")), |curl, field| curl.args(["-d", field]));
        Guest::headers(curl.arg(guest.address("chat")))
    };
    let path = format!("location: /{}#talk", guest.address("").splitn(4, '/').nth(3).unwrap());
    assert!(send().contains(&path) && send().contains(" 303 "), "a form that is sent twice");
    alice.peer(["link", "chat", "1", "<b>three</b>"]).run().exits(0);
    let said = page();
    assert_eq!((said.matches("one\ntwo").count(), said.matches("&lt;b&gt;three&lt;/b&gt;").count()), (1, 1), "{said}");
    assert!(said.contains("value=\"Ana\"") && said.contains("<noscript><p><a href=\"./#talk\">"), "{said}");
    assert_eq!(
        Guest::status(html(again(&guest, "jar")).arg(guest.address("chat"))),
        "303",
        "who loads the form's address"
    );
}

#[test]
fn without_a_node_the_terminal_answers() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let report = lab.file("report.pdf", 1000);
    let mut terminal = alice.peer(["link", "--chat"]).arg(&report).env("COLUMNS", "200").in_terminal(200, 60);
    terminal.wait_for("it is served by this command");
    let guest = Guest { link: listed(&alice), folder: lab.empty_folder("guest") };
    terminal.press("too early\r");
    terminal.wait_for("nobody has written yet");
    assert_eq!(write(browser(&guest, "one"), &guest, "anybody there?", "Ana"), "201");
    terminal.wait_for("guest 1.1 “Ana”: anybody there?");
    terminal.press("sure\r");
    let answered = |jar: &str, text: &str| {
        let last = || conversation(again(&guest, jar), &guest).pop();
        poll_until(|| (last() == Some(theirs(text))).then_some(()), || format!("{:?}", last()));
    };
    answered("one", "sure");
    assert_eq!(write(browser(&guest, "two"), &guest, "me too", ""), "201");
    terminal.wait_for("guest 1.2: me too");
    terminal.press("to whom?\r");
    terminal.wait_for("which guest?");
    terminal.press("2: you\r");
    answered("two", "you");
    // Another process answers, and has its own view of it.
    let stream =
        again(&guest, "one").args(["-N", "-H", "Accept: text/event-stream"]).arg(guest.address("chat")).start();
    stream.wait_for("sure");
    let mut other = alice.peer(["link", "chat", "1.1"]).in_terminal(100, 20);
    other.wait_for("to guest 1.1 “Ana”: sure");
    other.press("from elsewhere\r");
    stream.wait_for("from elsewhere");
    assert_eq!(write(again(&guest, "one"), &guest, "hm", ""), "201");
    other.wait_for("guest 1.1 “Ana”: hm");
    other.press("\u{4}");
    other.finish().0.exits(0);
    terminal.press("\u{3}");
    terminal.finish().0.exits(130);
    alice.peer(["link", "list"]).run().exits(0).says("there are no links");
}
