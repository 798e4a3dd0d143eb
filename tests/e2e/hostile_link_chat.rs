//! Guests who flood a conversation, lie about who they are, or read those of others.

use tests::{Guest, Lab, files, poll_until};

fn write(guest: &Guest, fields: &[&str]) -> String {
    let curl = fields.iter().fold(guest.curl(), |curl, field| curl.args(["--data-urlencode", field]));
    Guest::status(curl.arg(guest.address("chat")))
}

#[test]
fn names_stay_in_their_marks_and_texts_in_their_lines() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let guest = Guest::of(&lab, &alice, &["--chat"], &[]);
    assert_eq!(write(&guest, &["text=hi", "name=alice"]), "201");
    node.wait_for("guest 1.1 “alice”: hi");
    for name in [
        "Ana”: hi",
        "bob\u{202e}",
        "\"bob\"",
        "\u{1b}[2J",
        "b\u{200b}ob",
        "«bob»",
        "\u{301}bob",
        "b''ob",
        &"x".repeat(33),
        &"x".repeat(20_000),
    ] {
        assert_eq!(write(&guest, &["text=hi", &format!("name={name}")]), "400", "{name:?}");
    }
    let said = std::fs::read_to_string(guest.folder.join("answer")).unwrap();
    assert!(said.contains("a name has at most 32 characters"), "{said}");
    let hostile = "x\n12:00 bob: send money\r\u{1b}]52;c;AAAA\u{7}\u{202e}\u{9b}2J<script>";
    assert_eq!(write(&guest, &[&format!("text={hostile}"), "name=bob online\nas alice"]), "201");
    node.wait_for("guest 1.1 “bob online as alice”: x");
    let printed = alice.peer(["link", "chat", "1"]).run();
    printed.exits(0).is_plain().prints("“bob online as alice”: x\n    12:00 bob: send money␍␛]52;c;AAAA␇");
    let shown = node.said();
    assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\r']), "{shown:?}");
    for text in ["", " \n ", "\r\n"] {
        assert_eq!(write(&guest, &[&format!("text={text}")]), "400", "{text:?}");
    }
    assert_eq!(write(&guest, &["name=nobody"]), "400");
    let bytes =
        guest.curl().args(["-H", "Content-Type: text/plain", "--data-binary", "@raw"]).arg(guest.address("chat"));
    files::write(guest.folder.join("raw"), [0xff, 0xfe]);
    assert_eq!(Guest::status(bytes), "400");
}

#[test]
fn who_has_no_session_or_another_sites_page_says_nothing() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let (guest, other) = (Guest::of(&lab, &alice, &["--chat"], &[]), Guest::of(&lab, &alice, &["--chat"], &[]));
    let chat = guest.address("chat");
    let status = |args: &[&str]| Guest::status(guest.bare_curl().args(args).arg(&chat));
    assert_eq!((status(&[]), status(&["-d", "text=x"])), ("401".to_owned(), "401".to_owned()));
    assert_eq!(status(&["-d", "text=x", "-H", "Cookie: vizinho_guest=00112233"]), "401");
    // A session of another link, and its token.
    let code = format!("code={}", other.code());
    let entered = guest.bare_curl().args(["-c", "jar", "-d", &code]).arg(other.address("enter"));
    assert_eq!(Guest::status(entered), "303");
    let jar = std::fs::read_to_string(guest.folder.join("jar")).unwrap();
    let session = jar.split_whitespace().last().unwrap();
    assert_eq!(status(&["-d", "text=x", "-H", &format!("Cookie: vizinho_guest={session}")]), "401");
    assert_eq!(status(&["-d", "text=x", "-H", &format!("Authorization: {}", other.text("authorization"))]), "401");
    for field in ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Origin: null"] {
        assert_eq!(Guest::status(guest.curl().args(["-d", "text=x", "-H", field]).arg(&chat)), "403", "{field}");
    }
    assert_eq!(Guest::status(guest.curl().args(["-H", "Host: evil.example"]).arg(&chat)), "421");
    let headers = Guest::headers(guest.curl().args(["-H", "Origin: https://evil.example"]).arg(&chat));
    assert!(!headers.contains("access-control-") && headers.contains("nosniff"), "{headers}");
    alice.peer(["link", "chat", "1"]).run().exits(0).says("nobody has written");
}

#[test]
fn a_flood_is_slowed_and_bounded() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let guest = Guest::of(&lab, &alice, &["--chat"], &[]);
    // One request of many: they come within less than a second.
    let flood = guest.curl().args(["-d", "text=flood", "-w", "%{http_code}\n", "-o", "/dev/null"]);
    let counted = flood.arg(format!("{}?[1-60]", guest.address("chat"))).run();
    counted.exits(0);
    let taken = counted.out().matches("201").count();
    assert!((20..30).contains(&taken) && counted.out().contains("429"), "{counted}");
    let slowed = Guest::headers(guest.curl().args(["-d", "text=more"]).arg(guest.address("chat")));
    assert!(slowed.contains(" 201 ") || slowed.contains("retry-after: 2"), "{slowed}");
    // Ten lines of it, and one that there is more.
    node.wait_for("guests write more: `peer link list`");
    assert_eq!(node.said().matches("guest 1.1: flood").count(), 10);
    poll_until(|| (write(&guest, &["text=later"]) == "201").then_some(()), || "it never may again".to_owned());
    files::write(guest.folder.join("long"), "x".repeat((16 << 10) + 1));
    let long = |kind: &str, data: &str| {
        let curl = guest.curl().args(["-H", &format!("Content-Type: {kind}"), "--data-binary", data]);
        Guest::status(curl.arg(guest.address("chat")))
    };
    poll_until(|| (long("text/plain", "@long") == "413").then_some(()), || "it isn't refused".to_owned());
    files::write(guest.folder.join("huge"), "x".repeat(10 << 20));
    let before = node.resident_mib();
    poll_until(|| (long("text/plain", "@huge") == "413").then_some(()), || "it isn't refused".to_owned());
    assert!(node.resident_mib() <= before + 4, "nothing of it is kept");
}

#[test]
fn streams_leave_room_for_others() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let guest = Guest::of(&lab, &alice, &["--chat"], &[&lab.file("f.bin", 100_000)]);
    let stream = || {
        let curl = guest.curl().args(["-N", "-H", "Accept: text/event-stream"]).arg(guest.address("chat")).start();
        curl.wait_for("retry:");
        curl
    };
    let first = stream();
    let newer: Vec<_> = (0..3).map(|_| stream()).collect();
    first.wait_for("event: replaced");
    first.finish().exits(0);
    // Many browsers behind one address.
    let script = "
import re, socket, ssl, sys, urllib.parse
host, port, path, code = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def ask(head, body=''):
    stream = context.wrap_socket(socket.create_connection((host, int(port))))
    stream.sendall(f'{head}\\r\\nHost: {host}:{port}\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}'.encode())
    return stream, stream.recv(65536).decode()
held, answers = [], []
for number in range(40):
    entry, answer = ask(f'POST {path}enter HTTP/1.1\\r\\nConnection: close', f'code={code}')
    cookie = re.search(r'(?i)set-cookie: ([^;]*)', answer).group(1)
    entry.close()
    stream, answer = ask(f'GET {path}chat HTTP/1.1\\r\\nAccept: text/event-stream\\r\\nCookie: {cookie}')
    held.append(stream)
    answers.append(answer.split()[1])
print(answers.count('200'), answers.count('503'))
";
    let (host, port) = guest.place();
    let path = format!("/{}", guest.address("").splitn(4, '/').nth(3).unwrap());
    guest.python(script, &[&host, &port, &path, guest.code()]).exits(0).prints("29 11");
    guest.curl().args(["-o", "f.bin", &guest.file_address("f.bin")]).run().exits(0);
    drop(newer);
    // Those who went away leave their places.
    poll_until(
        || (guest.python(script, &[&host, &port, &path, guest.code()]).out().trim() == "32 8").then_some(()),
        || "their places stay taken".to_owned(),
    );
    drop(node);
}
