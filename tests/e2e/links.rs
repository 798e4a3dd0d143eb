//! Links for guests: what a browser and curl get, and what nobody gets.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shared::ContentHash;
use tests::files::{self, assert_content, assert_same};
use tests::{Invocation, Lab, Outcome, Process, Tmpfs, User, poll_until};

/// A link as `peer --json link` prints it, and the folder in which its guest works.
struct Guest {
    link: Value,
    folder: PathBuf,
}

impl Guest {
    /// Makes a link that the user's node serves.
    fn of(lab: &Lab, user: &User<'_>, args: &[&str], paths: &[&Path]) -> Self {
        let made = user.peer(["--json", "link"]).args(args).args(paths).run();
        let guest = format!("guest-{}", made.exits(0).object("link")["url"].as_str().unwrap().rsplit('#').next().unwrap());
        Self { link: made.object("link"), folder: lab.empty_folder(guest) }
    }

    fn text(&self, key: &str) -> &str {
        self.link[key].as_str().expect("it is text")
    }

    /// The address of the link or below it, without the token.
    fn address(&self, below: &str) -> String {
        format!("{}{below}", self.text("url").split('#').next().unwrap())
    }

    fn code(&self) -> &str {
        self.text("url").split('#').nth(1).unwrap()
    }

    /// curl as the link's line has it, without what it does.
    fn bare_curl(&self) -> Invocation {
        let pin = self.text("curl").split_whitespace().nth(3).unwrap();
        Invocation::new("curl", &self.folder).args(["-sS", "-k", "--max-time", "50", "--pinnedpubkey", pin])
    }

    /// The same with the link's authorization.
    fn curl(&self) -> Invocation {
        self.bare_curl().arg("-H").arg(format!("Authorization: {}", self.text("authorization")))
    }

    /// Runs the link's line as a person would paste it.
    fn paste(&self) -> Outcome {
        Invocation::new("sh", &self.folder).args(["-c", self.text("curl")]).run()
    }

    fn file(&self, name: &str) -> Value {
        let files = self.link["files"].as_array().unwrap();
        files.iter().find(|file| file["name"] == name).expect("the link gives it").clone()
    }
}

/// The status of an answer, with `-w`.
fn status(curl: Invocation) -> String {
    let outcome = curl.args(["-o", "answer", "-w", "%{http_code}"]).run();
    outcome.exits(0);
    outcome.out()
}

/// The headers of an answer, in small letters.
fn headers(curl: Invocation) -> String {
    let outcome = curl.args(["-o", "answer", "-D", "-"]).run();
    outcome.exits(0);
    outcome.out().to_lowercase()
}

fn python(folder: &Path, script: &str, args: &[&str]) -> Outcome {
    Invocation::new("python3", folder).args(["-c", script]).args(args).run()
}

fn stop(node: Process) {
    node.terminate();
    node.finish().exits(143);
}

#[test]
fn a_guest_gets_every_file_and_every_range_of_it() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let photos = lab.empty_folder("photos");
    files::write(photos.join("sub/ç ã.bin"), files::noise(1, 3_000_000));
    files::write(photos.join("empty"), "");
    let report = lab.file("relatório \"1\".pdf", 2_000_000);
    let guest = Guest::of(&lab, &alice, &[], &[&report, &photos]);
    let keys: Vec<&String> = guest.link.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["authorization", "curl", "expires", "files", "fingerprint", "type", "url", "v"]);
    guest.paste().exits(0);
    let unzip = "import zipfile, sys; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; z.extractall('out')";
    python(&guest.folder, unzip, &["alice.zip"]).exits(0);
    for (name, original) in [("relatório \"1\".pdf", report.clone()), ("photos/sub/ç ã.bin", photos.join("sub/ç ã.bin"))] {
        assert_same(guest.folder.join("out").join(name), &original);
        let file = guest.file(name);
        let url = file["url"].as_str().unwrap();
        guest.curl().args(["-o", "one", url]).run().exits(0);
        assert_same(guest.folder.join("one"), &original);
        assert_eq!(file["hash"], ContentHash::of(&std::fs::read(&original).unwrap()).to_string());
        let said = headers(guest.curl().args(["-I", url]));
        let tag = format!("etag: \"{}\"", file["hash"].as_str().unwrap());
        for wanted in [&tag, "accept-ranges: bytes", "x-content-type-options: nosniff", "referrer-policy: no-referrer"] {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
        assert!(said.contains(&format!("content-length: {}", file["size"])), "{said}");
    }
    let said = headers(guest.curl().args(["-I", guest.file("relatório \"1\".pdf")["url"].as_str().unwrap()]));
    let name = r#"attachment; filename="relat_rio _1_.pdf"; filename*=utf-8''relat%c3%b3rio%20%221%22.pdf"#;
    assert!(said.contains(name), "{said}");
    // The whole archive again, from its middle and in parts.
    let whole = std::fs::read(guest.folder.join("alice.zip")).unwrap();
    let archive = guest.address("zip/alice.zip");
    for range in ["0-999", "999999-3000001", "-30"] {
        guest.curl().args(["-r", range, "-o", "part", &archive]).run().exits(0);
        let part = std::fs::read(guest.folder.join("part")).unwrap();
        let start = range.split('-').next().unwrap().parse().unwrap_or(whole.len() - 30);
        assert!(part == whole[start..start + part.len()], "{range}");
    }
    std::fs::write(guest.folder.join("resumed"), &whole[..1_234_567]).unwrap();
    guest.curl().args(["-C", "-", "-o", "resumed", &archive]).run().exits(0);
    assert_content(guest.folder.join("resumed"), &whole);
    stop(node);
}

#[test]
fn ranges_at_their_edges() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let content = files::noise(2, 1000);
    let original = files::write(lab.join("f.bin"), &content);
    let guest = Guest::of(&lab, &alice, &[], &[&original]);
    let file = guest.file("f.bin");
    let url = file["url"].as_str().unwrap();
    let get = |fields: &[&str]| {
        let curl = fields.iter().fold(guest.curl(), |curl, field| curl.args(["-H", field]));
        let status = status(curl.arg(url));
        (status, std::fs::read(guest.folder.join("answer")).unwrap_or_default())
    };
    let tag = format!("\"{}\"", file["hash"].as_str().unwrap());
    let if_range = |tag: &str| format!("If-Range: {tag}");
    for (fields, code, expected) in [
        (vec!["Range: bytes=0-0"], "206", &content[..1]),
        (vec!["Range: bytes=999-999"], "206", &content[999..]),
        (vec!["Range: bytes=990-5000"], "206", &content[990..]),
        (vec!["Range: bytes=-1"], "206", &content[999..]),
        (vec!["Range: bytes=-1000000"], "206", &content[..]),
        (vec!["Range: bytes=5-4"], "200", &content[..]),
        (vec!["Range: bytes=0-1,5-6"], "200", &content[..]),
        (vec!["Range: pages=0-1"], "200", &content[..]),
        (vec!["Range: bytes=1-2", &if_range(&tag)], "206", &content[1..3]),
        (vec!["Range: bytes=1-2", &if_range("\"other\"")], "200", &content[..]),
    ] {
        assert_eq!(get(&fields), (code.to_owned(), expected.to_vec()), "{fields:?}");
    }
    assert_eq!(get(&["Range: bytes=1000-"]).0, "416");
    assert_eq!(get(&["Range: bytes=-0"]).0, "416");
    assert_eq!(get(&[&format!("If-None-Match: {tag}")]).0, "304");
}

#[test]
fn the_key_is_pinned_and_nothing_is_had_without_the_token() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let guest = Guest::of(&lab, &alice, &[], &[&lab.file("f.bin", 10)]);
    let other = Guest::of(&lab, &alice, &[], &[&lab.file("g.bin", 10)]);
    let wrong = ["-sSk", "--pinnedpubkey", "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="];
    Invocation::new("curl", &guest.folder).args(wrong).arg(guest.address("")).run().exits(90);
    let file = guest.file("f.bin");
    let url = file["url"].as_str().unwrap();
    let bearer = |code: &str| ["-H".to_owned(), format!("Authorization: Bearer {code}")];
    let answer = |curl: Invocation| (status(curl), std::fs::read(guest.folder.join("answer")).unwrap());
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
    stop(node);
}

#[test]
fn who_guesses_has_to_wait() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let guest = Guest::of(&lab, &alice, &[], &[&lab.file("f.bin", 10)]);
    let enter = |code: &str| {
        status(guest.bare_curl().args(["-c", "jar", "-d"]).arg(format!("code={code}")).arg(guest.address("enter")))
    };
    assert_eq!(enter(guest.code()), "303");
    for _ in 0..10 {
        assert_eq!(enter("aaaaaaaaaaaaaaaaaaaaaaaaaa"), "403");
    }
    assert_eq!(enter("aaaaaaaaaaaaaaaaaaaaaaaaaa"), "429");
    assert_eq!(enter(guest.code()), "429", "a right guess tells nothing either");
    assert_eq!(status(guest.curl().arg(guest.address(""))), "429");
    assert_eq!(status(guest.bare_curl().args(["-b", "jar"]).arg(guest.address(""))), "200", "who is in stays in");
}

#[test]
fn a_browser_needs_no_script_and_names_are_text() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let folder = lab.empty_folder("files");
    let hostile = "<img src=x onerror=alert(1)>\"'&.txt";
    files::write(folder.join(hostile), "x");
    files::write(folder.join("line\nbreak\u{1b}[2J"), "y");
    let guest = Guest::of(&lab, &alice, &[], &[&folder]);
    let browser = |jar: bool| {
        let curl = guest.bare_curl().args(["-H", "Accept: text/html", "-H", "Accept-Language: pt-BR", "-H", "Sec-Fetch-Site: same-origin"]);
        if jar { curl.args(["-b", "jar", "-c", "jar"]) } else { curl }
    };
    assert_eq!(status(browser(false).arg(guest.address(""))), "401");
    let form = std::fs::read_to_string(guest.folder.join("answer")).unwrap();
    assert!(form.contains("Digite o código") && form.contains("action=\"enter\""), "{form}");
    let code = format!("code={}", guest.code().to_uppercase());
    let said = headers(browser(true).args(["-d", &code]).arg(guest.address("enter")));
    let path = guest.address("").splitn(4, '/').nth(3).unwrap().to_owned();
    for wanted in ["303", &format!("location: /{path}"), &format!("path=/{path};"), "httponly", "secure", "samesite=strict"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert_eq!(status(browser(true).arg(guest.address("?in=files"))), "200");
    let page = std::fs::read_to_string(guest.folder.join("answer")).unwrap();
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;.txt"), "{page}");
    assert!(!page.contains("<img") && !page.contains('\u{1b}') && page.contains("alice tem 2 arquivos"), "{page}");
    let said = headers(browser(true).arg(guest.address("")));
    let policy = "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'";
    assert!(said.contains(policy) && said.contains("frame-ancestors 'none'"), "{said}");
    // What the page asks for is there.
    for asset in page.split('"').filter(|text| text.starts_with("/assets/")) {
        let address = guest.address("").split("/l/").next().unwrap().to_owned() + asset;
        assert_eq!(status(guest.bare_curl().arg(address)), "200", "{asset}");
    }
    assert_eq!(status(browser(true).arg(guest.address("zip/alice.zip?f=0"))), "200");
    let names = "import zipfile; print(ascii(zipfile.ZipFile('answer').namelist()))";
    python(&guest.folder, names, &[]).exits(0).prints("<img src=x onerror=alert(1)>");
    // Other sites, and names that lead here by rebinding.
    let enter = || guest.bare_curl().args(["-d", &code]).arg(guest.address("enter"));
    for field in ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Origin: null"] {
        assert_eq!(status(enter().args(["-H", field])), "403", "{field}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", ""] {
        let answer = status(guest.curl().arg("-H").arg(format!("Host: {host}")).arg(guest.address("")));
        assert!(["421", "400"].contains(&answer.as_str()), "{host}: {answer}");
    }
    stop(node);
}

#[test]
fn a_link_for_one_ends_when_it_has_everything() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let (one, two) = (lab.file("one", 3_000_000), lab.file("two", 0));
    let guest = Guest::of(&lab, &alice, &["--once"], &[&one, &two]);
    let enter = |jar: &str| {
        let code = format!("code={}", guest.code());
        status(guest.bare_curl().args(["-c", jar, "-d", &code]).arg(guest.address("enter")))
    };
    assert_eq!((enter("first"), enter("second")), ("303".to_owned(), "403".to_owned()));
    assert_eq!(status(guest.curl().arg(guest.address(""))), "401", "a terminal is another one");
    let get = |args: &[&str]| status(guest.bare_curl().args(["-b", "first"]).args(args));
    let end = || alice.peer(["--json", "link", "list"]).run().exits(0).object("link")["expires"].as_i64().unwrap();
    let address = guest.file("one")["url"].as_str().unwrap().to_owned();
    assert_eq!(get(&["-r", "0-1999999", &address]), "206");
    assert_eq!(end(), guest.link["expires"].as_i64().unwrap());
    assert_eq!(get(&["-r", "1500000-", &address]), "206");
    assert_eq!(get(&[guest.file("two")["url"].as_str().unwrap()]), "200");
    assert!(end() <= guest.link["expires"].as_i64().unwrap() - 23 * 3_600_000, "a minute is left");
}

#[test]
fn without_a_node_the_command_serves_until_it_ends() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let report = lab.file("report.pdf", 100_000);
    let command = alice.peer(["--json", "link"]).arg(&report).start();
    let line = command.wait_for("\"type\":\"link\"");
    let guest = Guest { link: serde_json::from_str(&line).unwrap(), folder: lab.empty_folder("guest") };
    guest.paste().exits(0);
    assert_same(guest.folder.join("report.pdf"), &report);
    command.wait_for("link_taken");
    let listed = alice.peer(["--json", "link", "list"]).run().exits(0).object("link");
    assert_eq!((&listed["url"], &listed["served"]), (&guest.link["url"], &json!(true)));
    command.interrupt();
    command.finish().exits(130);
    alice.peer(["link", "list"]).run().exits(0).says("there are no links");
    // One that is killed leaves a row that is nobody's.
    let command = alice.peer(["--json", "link"]).arg(&report).start();
    command.wait_for("\"type\":\"link\"");
    command.kill();
    command.finish().exits(137);
    alice.peer(["link", "list"]).run().exits(0).says("there are no links");
    let command = alice.peer(["--json", "link"]).arg(&report).start();
    let number = serde_json::from_str::<Value>(&command.wait_for("\"type\":\"link\"")).unwrap()["url"].clone();
    alice.peer(["link", "revoke", number.as_str().unwrap()]).run().exits(0);
    command.finish().exits(0).says("the link has ended");
    alice.peer(["link"]).run().exits(2).says("which files?");
    alice.peer(["link", "nothing-there"]).run().exits(2).says("there is nothing to give");
}

#[test]
fn links_outlast_a_restart_of_the_node() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let guest = Guest::of(&lab, &alice, &[], &[&lab.file("f.bin", 10)]);
    stop(node);
    let listed = alice.peer(["--json", "link", "list"]).run().exits(0).object("link");
    assert_eq!((&listed["served"], &listed["url"]), (&json!(false), &guest.link["url"]));
    let _node = alice.serve();
    // It may listen a moment after it is online; at another port where that one went to somebody else meanwhile.
    let listed = poll_until(
        || Some(alice.peer(["--json", "link", "list"]).run().object("link")).filter(|link| link["served"] == true),
        || "it is never served".to_owned(),
    );
    let again = Guest { link: listed, folder: guest.folder.clone() };
    assert_eq!((again.code(), again.text("fingerprint")), (guest.code(), guest.text("fingerprint")));
    again.paste().exits(0);
}

#[test]
fn what_changed_is_not_given() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.peer(["serve", "--limit", "4M"]).start();
    let (small, large) = (lab.file("small", 1000), lab.file("large", 40_000_000));
    alice_is_online(&alice);
    let guest = Guest::of(&lab, &alice, &[], &[&small, &large]);
    let address = |name: &str| guest.file(name)["url"].as_str().unwrap().to_owned();
    let download = guest.curl().args(["-o", "large", &address("large")]).start();
    let got = guest.folder.join("large");
    poll_until(|| got.metadata().is_ok_and(|got| got.len() > 0).then_some(()), || "nothing comes".to_owned());
    files::write(&large, files::noise(9, 40_000_000));
    download.finish().exits(18);
    files::write(&small, "changed");
    assert_eq!(status(guest.curl().arg(address("small"))), "410");
    std::fs::remove_file(&small).unwrap();
    assert_eq!(status(guest.curl().arg(address("small"))), "410");
    let all = guest.curl().args(["-o", "all.zip"]).arg(guest.address("zip/alice.zip")).run();
    assert!([18, 0].contains(&all.code), "{all}");
    let whole = "import zipfile; zipfile.ZipFile('all.zip').testzip()";
    assert!(!python(&guest.folder, whole, &[]).is_success(), "no broken archive looks whole");
}

/// Waits until the node of a user answers.
fn alice_is_online(user: &User<'_>) {
    poll_until(|| user.peer(["whoami"]).run().out().contains("online").then_some(()), || "never online".to_owned());
}

#[test]
fn a_revoked_link_is_cut() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.peer(["serve", "--limit", "2M"]).start();
    node.wait_for("online as alice");
    let guest = Guest::of(&lab, &alice, &[], &[&lab.file("large", 90_000_000)]);
    let download = guest.curl().args(["-o", "large", guest.file("large")["url"].as_str().unwrap()]).start();
    node.wait_for("takes large from link 1");
    alice.peer(["link", "revoke", "1"]).run().exits(0);
    download.finish().exits(18);
}

#[test]
fn uploads_go_on_where_they_were_and_replace_nothing() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let inbox = lab.join("Inbox");
    let guest = Guest::of(&lab, &alice, &["--receive", inbox.to_str().unwrap(), "--max", "30M"], &[]);
    assert_eq!(guest.link["files"], json!([]));
    let report = files::write(guest.folder.join("FILE"), files::noise(3, 2_000_000));
    guest.paste().exits(0).prints(&ContentHash::of(&std::fs::read(&report).unwrap()).to_string());
    node.wait_for("sent FILE (2.00 MB) to link 1");
    guest.paste().exits(0).prints("FILE (1)");
    assert_same(inbox.join("FILE"), &report);
    assert_same(inbox.join("FILE (1)"), &report);
    // Cut twice, by a guest who is gone in the middle.
    let content = files::noise(4, 9_000_000);
    let film = files::write(guest.folder.join("film"), &content);
    let address = guest.address("in/film%20%C3%A7.mkv");
    let state = || {
        let query = format!("{address}?size=9000000&key=k");
        serde_json::from_str::<Value>(&guest.curl().arg(query).run().exits(0).out()).unwrap()
    };
    let half = "
import socket, ssl, sys
host, port, path, authorization, start, end = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
tls = context.wrap_socket(socket.create_connection((host, int(port))))
start, end = int(start), int(end)
tls.sendall(f'PUT {path} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\nAuthorization: {authorization}\\r\\nUpload-Key: k\\r\\n'
            f'Content-Length: {9000000 - start}\\r\\nContent-Range: bytes {start}-8999999/9000000\\r\\n\\r\\n'.encode())
tls.sendall(open('film', 'rb').read()[start:end])
# Gone without a word, as a phone that sleeps.
tls.close()
";
    let place: Vec<&str> = address.split('/').nth(2).unwrap().rsplitn(2, ':').collect();
    let path = format!("/{}", address.splitn(4, '/').nth(3).unwrap());
    for end in [3_000_000_u64, 7_000_000] {
        let start = state()["offset"].as_u64().unwrap();
        let (from, to) = (start.to_string(), end.to_string());
        python(&guest.folder, half, &[place[1], place[0], &path, guest.text("authorization"), &from, &to]).exits(0);
        poll_until(|| (state()["offset"].as_u64()? > start).then_some(()), || "nothing arrives".to_owned());
    }
    assert!(files::names_in(&inbox).iter().any(|name| name.ends_with(".part")), "{:?}", files::names_in(&inbox));
    // The last one may still be at its end: the newest request has the part.
    let rest = |offset: u64| {
        files::write(guest.folder.join("rest"), &content[usize::try_from(offset).unwrap()..]);
        let range = format!("Content-Range: bytes {offset}-8999999/9000000");
        status(guest.curl().args(["-H", "Upload-Key: k", "-H", &range, "-T", "rest", &address]))
    };
    assert_eq!(rest(8_999_000), "409", "a hole is refused");
    poll_until(|| (rest(state()["offset"].as_u64()?) == "201").then_some(()), || "it never ends".to_owned());
    assert_same(inbox.join("film ç.mkv"), &film);
    assert_eq!(state()["hash"], ContentHash::of(&content).to_string());
    assert_eq!(files::names_in(&inbox).len(), 3, "{:?}", files::names_in(&inbox));
    stop(node);
}

#[test]
fn uploads_keep_to_the_folder_the_quota_and_the_disk() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let inbox = lab.empty_folder("in");
    let guest = Guest::of(&lab, &alice, &["--receive", inbox.to_str().unwrap(), "--max", "1M"], &[]);
    files::write(guest.folder.join("small"), "abc");
    files::write(guest.folder.join("large"), files::noise(1, 1_000_001));
    let put = |file: &str, below: &str| status(guest.curl().args(["-T", file]).arg(guest.address(below)));
    assert_eq!(put("large", "in/large"), "413");
    for name in ["in/..%2Fout", "in/%2Fetc%2Fx", "in/.bashrc", "in/%00", "in/.%2E%2Fx", "in/a%E2%80%AEb"] {
        assert_eq!(put("small", name), "400", "{name}");
    }
    for name in ["in/%1B%5B2J", "in/caf%E9", "in/%3Cimg%20src=x%3E"] {
        assert_eq!(put("small", name), "201", "{name}");
    }
    assert_eq!(status(guest.bare_curl().args(["-T", "small"]).arg(guest.address("in/x"))), "401");
    let cross = guest.curl().args(["-H", "Origin: https://evil.example", "-T", "small"]).arg(guest.address("in/x"));
    assert_eq!(status(cross), "403");
    let endless = guest.curl().args(["-H", "Transfer-Encoding: chunked", "-T", "small"]).arg(guest.address("in/x"));
    assert_eq!(status(endless), "411");
    assert_eq!(files::names_in(&inbox).len(), 3, "{:?}", files::names_in(&inbox));
    assert_eq!(files::names_in(lab.path()).iter().filter(|name| *name == "out").count(), 0);
    let page = guest.bare_curl().args(["-H", "Accept: text/html"]).arg("-H");
    let page = page.arg(format!("Authorization: {}", guest.text("authorization"))).arg(guest.address("")).run();
    page.exits(0).prints("Send files to alice").prints("up to 1.00 MB in all");
    let small = lab.empty_folder("tmpfs");
    let Some(_disk) = Tmpfs::mount(&small, "size=20m") else {
        println!("skipped: a small disk, which only root may mount");
        return;
    };
    let full = Guest::of(&lab, &alice, &["--receive", small.to_str().unwrap()], &[]);
    let upload = full.curl().arg("-T").arg(guest.folder.join("small")).arg(full.address("in/x"));
    assert_eq!(status(upload), "507", "a gibibyte stays free");
    assert_eq!(files::names_in(&small), [""; 0]);
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
    let address = guest.address("");
    let place: Vec<&str> = address.split('/').nth(2).unwrap().rsplitn(2, ':').collect();
    let slow = Invocation::new("python3", &guest.folder).args(["-c", script, place[1], place[0]]).start();
    // Meanwhile others are served.
    poll_until(|| (status(guest.curl().arg(guest.address(""))) == "200").then_some(()), || "nobody is served".to_owned());
    slow.finish().exits(0).prints("all closed");
}

#[test]
fn an_archive_of_many_files_takes_little_memory() {
    let count = if std::env::var_os("VIZINHO_LONG").is_some() { 20_000 } else { 3_000 };
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let folder = lab.empty_folder("many");
    for number in 0..count {
        files::write(folder.join(format!("{:02}/{number:05}.txt", number % 50)), format!("file {number}\n").repeat(20));
    }
    let guest = Guest::of(&lab, &alice, &[], &[&folder]);
    assert_eq!(guest.link["files"].as_array().unwrap().len(), count);
    let before = node.resident_mib();
    guest.paste().exits(0);
    let after = node.resident_mib();
    assert!(after <= before + 48, "{before} MiB before, {after} MiB after");
    let check = "
import sys, zipfile
archive = zipfile.ZipFile('alice.zip')
assert archive.testzip() is None
assert len(archive.namelist()) == int(sys.argv[1])
";
    python(&guest.folder, check, &[&count.to_string()]).exits(0);
    let page = guest.curl().args(["-H", "Accept: text/html"]).arg(guest.address("?in=many/07")).run();
    page.exits(0).prints("00007.txt").prints("alice gives you");
}
