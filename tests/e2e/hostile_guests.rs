//! Guests who have no token, guess it, come from another site, or say nothing.

use tests::files;
use tests::{Guest, Invocation, Lab, poll_until};

#[test]
fn the_key_is_pinned_and_nothing_is_had_without_the_token() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let guest = Guest::of(&lab, &alice, &[], &[&lab.file("f.bin", 10)]);
    let other = Guest::of(&lab, &alice, &[], &[&lab.file("g.bin", 10)]);
    let wrong = ["-sSk", "--pinnedpubkey", "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="];
    Invocation::new("curl", &guest.folder).args(wrong).arg(guest.address("")).run().exits(90);
    let file = guest.file("f.bin");
    let url = file["url"].as_str().unwrap();
    let bearer = |code: &str| ["-H".to_owned(), format!("Authorization: Bearer {code}")];
    let answer = |curl: Invocation| (Guest::status(curl), std::fs::read(guest.folder.join("answer")).unwrap());
    // Whatever is wrong, the answer is the same.
    let unknown = answer(guest.bare_curl().args(bearer(guest.code())).arg(url.replace("/l/", "/l/a")));
    assert_eq!(unknown.0, "401");
    assert_eq!(answer(guest.bare_curl().args(bearer(other.code())).arg(url)), unknown);
    assert_eq!(answer(guest.bare_curl().args(bearer("aaaaaaaaaaaaaaaaaaaaaaaaaa")).arg(url)), unknown);
    assert_eq!(answer(guest.bare_curl().arg(url)), unknown);
    let revoked = alice.peer(["--json", "link", "revoke", &guest.address("")]).run();
    revoked.exits(0).object("link_revoked");
    assert_eq!(answer(guest.curl().arg(url)), unknown);
    alice.peer(["link", "revoke", "77"]).run().exits(2).says("there is no link");
    // The last link is gone: nothing listens any more.
    alice.peer(["link", "revoke", "2"]).run().exits(0).says("link 2 has ended");
    other.curl().arg(other.address("")).run().exits(7);
    alice.peer(["link", "list"]).run().exits(0).says("there are no links");
}

#[test]
fn who_guesses_has_to_wait() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let guest = Guest::of(&lab, &alice, &[], &[&lab.file("f.bin", 10)]);
    let enter =
        |code: &str| Guest::status(guest.bare_curl().arg("-d").arg(format!("code={code}")).arg(guest.address("enter")));
    let code = format!("code={}", guest.code());
    assert_eq!(Guest::status(guest.bare_curl().args(["-c", "jar", "-d", &code]).arg(guest.address("enter"))), "303");
    for _ in 0..10 {
        assert_eq!(enter("aaaaaaaaaaaaaaaaaaaaaaaaaa"), "403");
    }
    assert_eq!(enter("aaaaaaaaaaaaaaaaaaaaaaaaaa"), "429");
    assert_eq!(enter(guest.code()), "429", "a right guess tells nothing either");
    assert_eq!(Guest::status(guest.curl().arg(guest.address(""))), "429");
    assert_eq!(
        Guest::status(guest.bare_curl().args(["-b", "jar"]).arg(guest.address(""))),
        "200",
        "who is in stays in"
    );
}

#[test]
fn a_browser_needs_no_script_and_names_are_text() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let folder = lab.empty_folder("files");
    let hostile = "<img src=x onerror=alert(1)>\"'&.txt";
    files::write(folder.join(hostile), "x");
    files::write(folder.join("line\nbreak\u{1b}[2J"), "y");
    let guest = Guest::of(&lab, &alice, &[], &[&folder]);
    let browser = |jar: bool| {
        let curl = guest.bare_curl().args([
            "-H",
            "Accept: text/html",
            "-H",
            "Accept-Language: pt-BR",
            "-H",
            "Sec-Fetch-Site: same-origin",
        ]);
        if jar { curl.args(["-b", "jar", "-c", "jar"]) } else { curl }
    };
    assert_eq!(Guest::status(browser(false).arg(guest.address(""))), "401");
    let form = std::fs::read_to_string(guest.folder.join("answer")).unwrap();
    assert!(form.contains("Digite o código") && form.contains("action=\"enter\""), "{form}");
    let code = format!("code={}", guest.code().to_uppercase());
    let said = Guest::headers(browser(true).args(["-d", &code]).arg(guest.address("enter")));
    let path = guest.address("").splitn(4, '/').nth(3).unwrap().to_owned();
    for wanted in
        ["303", &format!("location: /{path}"), &format!("path=/{path};"), "httponly", "secure", "samesite=strict"]
    {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert_eq!(Guest::status(browser(true).arg(guest.address("?in=files"))), "200");
    let page = std::fs::read_to_string(guest.folder.join("answer")).unwrap();
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;.txt"), "{page}");
    assert!(!page.contains("<img") && !page.contains('\u{1b}') && page.contains("alice tem 2 arquivos"), "{page}");
    let said = Guest::headers(browser(true).arg(guest.address("")));
    let policy = "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'";
    assert!(said.contains(policy) && said.contains("frame-ancestors 'none'"), "{said}");
    // What the page asks for is there.
    for asset in page.split('"').filter(|text| text.starts_with("/assets/")) {
        let address = guest.address("").split("/l/").next().unwrap().to_owned() + asset;
        assert_eq!(Guest::status(guest.bare_curl().arg(address)), "200", "{asset}");
    }
    assert_eq!(Guest::status(browser(true).arg(guest.address("zip/alice.zip?f=0"))), "200");
    let names = "import zipfile; print(ascii(zipfile.ZipFile('answer').namelist()))";
    guest.python(names, &[]).exits(0).prints("<img src=x onerror=alert(1)>");
    // Other sites, and names that lead here by rebinding.
    let enter = || guest.bare_curl().args(["-d", &code]).arg(guest.address("enter"));
    for field in ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Origin: null"] {
        assert_eq!(Guest::status(enter().args(["-H", field])), "403", "{field}");
    }
    let foreign = browser(true).args(["-H", "Origin: https://evil.example", "-d", &code]).arg(guest.address("enter"));
    assert_eq!(Guest::status(foreign), "403");
    let said = std::fs::read_to_string(guest.folder.join("answer")).unwrap();
    assert!(said.contains("uma página de outro site não pode fazer isso"), "{said}");
    for host in ["evil.example", "127.0.0.1.evil.example", ""] {
        let answer = Guest::status(guest.curl().arg("-H").arg(format!("Host: {host}")).arg(guest.address("")));
        assert!(["421", "400"].contains(&answer.as_str()), "{host}: {answer}");
    }
}

#[test]
fn who_says_nothing_or_little_is_not_waited_for() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let guest = Guest::of(&lab, &alice, &[], &[&lab.file("f.bin", 10)]);
    // Some say nothing, some begin a request and never end it, and one has a header without end.
    let script = "
import socket, ssl, sys, threading
host, port = sys.argv[1], int(sys.argv[2])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def until_closed(stream):
    stream.settimeout(40)
    try:
        while stream.recv(4096):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
def tls():
    return context.wrap_socket(socket.create_connection((host, port)))
mute = [socket.create_connection((host, port)) for _ in range(20)]
slow = [tls() for _ in range(20)]
for stream in slow:
    stream.sendall(b'GET / HTTP/1.1\\r\\nHost: ')
endless = tls()
try:
    endless.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n' + b'a: b\\r\\n' * 100000)
except (ConnectionError, ssl.SSLError):
    pass
for stream in mute + slow + [endless]:
    until_closed(stream)
print('all closed')
";
    let (host, port) = guest.place();
    let slow = Invocation::new("python3", &guest.folder).args(["-c", script, &host, &port]).start();
    // Meanwhile others are served.
    poll_until(
        || (Guest::status(guest.curl().arg(guest.address(""))) == "200").then_some(()),
        || "nobody is served".to_owned(),
    );
    slow.finish().exits(0).prints("all closed");
}
