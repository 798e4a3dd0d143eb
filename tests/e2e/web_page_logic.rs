//! The pure modules of the page, run where they run: in a browser.

use serde_json::{Value, json};
use tests::page::Page;
use tests::{Browser, Lab, Process};

/// A browser in which the page's modules can be imported.
fn start(lab: &Lab) -> Option<(Browser, Process)> {
    let alice = lab.user("alice");
    let Some(browser) = Browser::start(&lab.empty_folder("browser"), "en") else {
        println!("skipped: there is no chromium with chromedriver");
        return None;
    };
    let web = alice.peer(["--json", "web", "--no-open"]).start();
    browser.open(&Page::address(&web));
    browser.wait_for("return document.querySelector('.sidebar') !== null");
    Some((browser, web))
}

/// Runs the body of a function to which a module's exports are given.
fn with_module(browser: &Browser, module: &str, body: &str) -> Value {
    browser.run(&format!("return import('/app/{module}').then((its) => {{ {body} }})"))
}

#[test]
fn a_stream_means_the_same_however_it_is_cut() {
    let lab = Lab::start();
    let Some((browser, _web)) = start(&lab) else { return };
    let stream = ": hello\n\nid: 7\ndata: {\"a\":1}\n\nid: 8\r\ndata: {\"b\":\"é 👍\"}\r\n\r\nevent: resync\ndata: {}\n\ndata: x\ndata: y\n\nid: 9\ndata: cut";
    let script = format!(
        "const text = {};
         const read = (parts) => {{
           const parser = new its.EventParser();
           return JSON.stringify(parts.flatMap((part) => parser.push(part)));
         }};
         const whole = read([text]);
         for (let at = 0; at <= text.length; at += 1) {{
           if (read([text.slice(0, at), text.slice(at)]) !== whole) return `cut at ${{at}}`;
         }}
         return read([...text].map((letter) => letter)) === whole ? JSON.parse(whole) : 'cut everywhere';",
        json!(stream)
    );
    let events = with_module(&browser, "event_stream.js", &script);
    assert_eq!(
        events,
        json!([
            { "id": "7", "name": "message", "data": "{\"a\":1}" },
            { "id": "8", "name": "message", "data": "{\"b\":\"é 👍\"}" },
            { "id": null, "name": "resync", "data": "{}" },
            { "id": null, "name": "message", "data": "x\ny" },
        ])
    );
}

#[test]
fn a_list_of_messages_keeps_its_order_and_its_bound() {
    let lab = Lab::start();
    let Some((browser, _web)) = start(&lab) else { return };
    let script = "
        const message = (seq, state = 'received') => ({ id: `m${seq}`, seq, ts: seq, from: 'bob', text: '', state });
        const ids = (list) => list.map(({ id }) => id).join(' ');
        const list = [message(1), message(2), message(3, 'unsent')];
        return [
          ids(its.withMessage(list, message(4))),
          its.withMessage(list, { id: 'm2', state: 'stored' })[1].state,
          ids(its.withOlder(list, [message(0), message(1)], 3).messages),
          its.withOlder(list, [message(0), message(1)], 3).isCut,
          ids(its.withNewer(list, [message(2), message(5)], 3).messages),
          its.edgeSeq(list, 'older'),
          its.withChange(list, 'nobody', { state: 'x' }) === list,
          its.timelineRows([message(1), message(2)], 1, 'me', () => 'day').map(({ kind }) => kind).join(' '),
        ];";
    assert_eq!(
        with_module(&browser, "message_list.js", script),
        json!(["m1 m2 m4 m3", "stored", "m0 m1 m2", true, "m2 m5 m3", 1, true, "day message unread message"])
    );
}

#[test]
fn an_answer_takes_nothing_back_that_an_event_told() {
    let lab = Lab::start();
    let Some((browser, _web)) = start(&lab) else { return };
    let script = "
        const message = (seq, state) => ({ id: `m${seq}`, seq, ts: seq, from: 'me', peer: 'bob', text: `${seq}`, state });
        const event = (fields) => ({ type: 'event', event: { peer: 'bob', ...fields }, now: 7, attended: null });
        const run = (...actions) => actions.reduce(its.reduce, {
          session: { user: 'me' }, route: {}, users: new Map(), rooms: new Map(), typing: new Map(),
          conversations: new Map([['bob', { messages: [], isStale: false, unseen: 0, unreadAfter: null, hasNewer: false }]]),
        });
        const shown = (...actions) => run(...actions).conversations.get('bob').messages.map(({ id, state }) => `${id} ${state}`).join();
        const local = { type: 'message', name: 'bob', message: { ...message(1, 'sending'), seq: undefined } };
        const delivered = event({ type: 'ack', id: 'm1', state: 'stored' });
        const answered = { type: 'message_stored', name: 'bob', local: 'm1', message: message(1, 'waiting') };
        const came = event({ type: 'message', id: 'm2', seq: 2, ts: 2, from: 'bob', text: 'x', state: 'received' });
        const read = (...messages) => ({ type: 'history', name: 'bob', side: 'newest', messages, more: false });
        return [
          shown(local, event({ type: 'message', ...message(1, 'waiting') }), delivered, answered),
          shown(local, delivered, came, answered),
          shown(local, answered, delivered),
          shown(local, delivered, { type: 'message_unsent', name: 'bob', id: 'm1', why: 'lost' }),
          shown(local, { type: 'message_unsent', name: 'bob', id: 'm1', why: 'lost' }, came),
          shown(answered, delivered, came, read(message(1, 'waiting'))),
          shown(answered, came, read(message(1, 'stored'), message(2, 'received'), message(3, 'received'))),
          run(event({ type: 'typing', from: 'bob' }), { type: 'typing_over', now: 7 + 6000 }).typing.size,
          run(event({ type: 'typing', from: 'bob' }), { type: 'typing_over', now: 7 + 5999 }).typing.size,
        ];";
    assert_eq!(
        with_module(&browser, "reducer.js", script),
        json!([
            "m1 stored",
            "m1 stored,m2 received",
            "m1 stored",
            "m1 stored",
            "m2 received,m1 unsent",
            "m1 stored,m2 received",
            "m1 stored,m2 received,m3 received",
            0,
            1
        ])
    );
}

#[test]
fn texts_of_others_are_shown_for_what_they_are() {
    let lab = Lab::start();
    let Some((browser, _web)) = start(&lab) else { return };
    let shown = |text: &str| with_module(&browser, "format.js", &format!("return its.safeText({})", json!(text)));
    assert_eq!(shown("a\u{202e}b"), json!("a⟨202E⟩b"));
    assert_eq!(shown("bob\u{200b}\u{ad}\u{feff}\u{e0041}"), json!("bob⟨200B⟩⟨00AD⟩⟨FEFF⟩⟨E0041⟩"));
    assert_eq!(shown("\u{1b}[2J\u{7}\u{9b}x\r\ny\tz"), json!("⟨001B⟩[2J⟨0007⟩⟨009B⟩x⟨000D⟩\ny\tz"));
    assert_eq!(shown("👩\u{200d}👩 não — שלום"), json!("👩\u{200d}👩 não — שלום"));
    let times =
        "return [1e300, -1e300, NaN, 0].map((time) => its.whenText(time).length > 0 && its.dayText(time).length > 0)";
    assert_eq!(with_module(&browser, "format.js", times), json!([true, true, true, true]));

    let links = |text: &str| {
        let body = format!(
            "return its.messageNodes({}, {{ me: 'bob' }}).filter((part) => part.tagName === 'A').map((link) => link.textContent)",
            json!(text)
        );
        with_module(&browser, "message_text.js", &body)
    };
    assert_eq!(
        links("see https://a.test/x?y=1. And (http://b.test/z)!"),
        json!(["https://a.test/x?y=1", "http://b.test/z"])
    );
    assert_eq!(links("javascript:alert(1) data:text/html,x file:///etc ftp://c.test //d.test"), json!([]));
    assert_eq!(links("https://a.test/\u{202e}gpj.exe"), json!(["https://a.test/"]));
    let calls = "const nodes = its.messageNodes('@bob, @bobby, me@bob and @BOB.', { me: 'bob' });
        return nodes.filter((part) => part.className?.includes('mention')).map((part) => [part.textContent, part.className])";
    assert_eq!(
        with_module(&browser, "message_text.js", calls),
        json!([["@bob", "mention mention-me"], ["@bobby", "mention"], ["@BOB", "mention mention-me"]])
    );
}

#[test]
fn places_and_folders_have_names() {
    let lab = Lab::start();
    let Some((browser, _web)) = start(&lab) else { return };
    let places =
        "return ['chats', 'files'].flatMap((section) => ['bob', '#lab', 'a/b', '%23', '<b>', 'é'].map((name) => {
        const { name: again, section: there } = its.parseRoute(its.routeHash(section, name));
        return again === name && there === section;
      })).concat([its.parseRoute('#/%E0%A4%A').section, its.parseRoute('#open=1').section, its.parseRoute('').name])";
    let mut wanted = vec![json!(true); 12];
    wanted.extend([json!("chats"), json!("chats"), Value::Null]);
    assert_eq!(with_module(&browser, "router.js", places), Value::Array(wanted));
    let folders = "const files = ['b.txt', 'a/x', 'a/y/z', 'ab'].map((name) => ({ name, size: 2 }));
        const row = ({ kind, shown, size, count }) => [kind, shown, size, count ?? null];
        return [its.folderRows(files, '').map(row), its.folderRows(files, 'a').map(row)]";
    assert_eq!(
        with_module(&browser, "file_tree.js", folders),
        json!([
            [["folder", "a", 4, 2], ["file", "ab", 2, null], ["file", "b.txt", 2, null]],
            [["folder", "y", 2, 1], ["file", "x", 2, null]],
        ])
    );
}

#[test]
fn a_file_of_a_taken_name_gets_a_number() {
    let lab = Lab::start();
    let Some((browser, _web)) = start(&lab) else { return };
    let script = "
        const file = (name, text, lastModified = 1) => ({ name, file: new File([text], 'x', { lastModified }) });
        const names = (...drops) => drops.reduce(its.withFiles, []).map(({ name }) => name);
        const shot = (text) => [file('image.png', text)];
        return [
          names(shot('a'), shot('bc'), shot('def'), shot('a')),
          names([file('d.x/a', '1'), file('d.x/a', '22'), file('b.tar.gz', '1'), file('b.tar.gz', '22')]),
          names([file('a. A sentence of its own', '1'), file('a. A sentence of its own', '22')]),
          names(shot('a'), [file('image.png', 'b', 2)]),
          ['.a', 'a/.b/c', 'a.b', 'a/b.c'].map(its.isHidden),
        ];";
    assert_eq!(
        with_module(&browser, "file_names.js", script),
        json!([
            ["image.png", "image (1).png", "image (2).png"],
            ["d.x/a", "d.x/a (1)", "b.tar.gz", "b.tar (1).gz"],
            ["a. A sentence of its own", "a. A sentence of its own (1)"],
            ["image.png", "image (1).png"],
            [true, true, false, false],
        ])
    );
}

#[test]
fn a_row_of_a_list_keeps_the_focus_wherever_it_moves() {
    let lab = Lab::start();
    let Some((browser, _web)) = start(&lab) else { return };
    let script = "
        const list = new its.VirtualList({ label: 'rows', key: (row) => row, update: () => {}, create: (row) => {
          const button = document.createElement('button');
          button.textContent = row;
          return button;
        } });
        list.element.style.height = '400px';
        document.body.prepend(list.element);
        const settled = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 20)));
        const focused = () => document.activeElement.textContent;
        const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
        return settled().then(() => {
          list.set(['a', 'b', 'c', 'd']);
          list.focus(1);
          const seen = [focused()];
          list.set(['d', 'c', 'b', 'a']);
          seen.push(focused());
          press('ArrowDown');
          seen.push(focused());
          return seen;
        });";
    assert_eq!(with_module(&browser, "virtual_list.js", script), json!(["b", "b", "a"]));
}

#[test]
fn transfers_keep_their_buttons_and_show_all_files() {
    let lab = Lab::start();
    let Some((browser, _web)) = start(&lab) else { return };
    let script = "
        return Promise.all(['store', 'state', 'reducer'].map((name) => import(`/app/${name}.js`)))
          .then(async ([{ Store }, { initialState }, { reduce }]) => {
            const store = new Store(reduce, { ...initialState({}, {}), session: { user: 'me', mode: 'door' } });
            const { element } = its.createTransfers({ store, uploads: {} });
            document.body.prepend(element);
            const files = Array.from({ length: 70 }, (_, at) => ({ name: `${at}`, size: 1, state: 'done' }));
            store.dispatch({ type: 'fetches', fetches: [{ number: 1, from: 'bob', name: 'docs/', bytes: 1, size: 1, state: 'done', files }] });
            store.dispatch({ type: 'upload', upload: { key: 'k', drop: 'd', name: 'n', to: null, size: 9, sent: 0, state: 'waiting' } });
            await null;
            const saves = () => element.querySelectorAll('[aria-label^=Save]').length;
            const counts = [saves()];
            for (let more; (more = element.querySelector('.saved-files .link-button'));) {
              counts.push(more.innerText);
              more.click();
              counts.push(saves(), document.activeElement.ariaLabel);
            }
            const cancel = element.querySelector('[aria-label^=Cancel]');
            store.dispatch({ type: 'upload_change', key: 'k', change: { sent: 5, state: 'running' } });
            await null;
            counts.push(cancel.isConnected);
            // What is told of one that was removed brings nothing back.
            store.dispatch({ type: 'upload_gone', key: 'k' });
            store.dispatch({ type: 'upload_change', key: 'k', change: { sent: 6, state: 'running' } });
            counts.push(store.state.uploads.size);
            return counts;
          });";
    assert_eq!(
        with_module(&browser, "transfers_view.js", script),
        json!([30, "Show 40 more files", 60, "Save 30", "Show 10 more files", 70, "Save 60", true, 0])
    );
}
