//! Links that take uploads.

use serde_json::{Value, json};
use shared::ContentHash;
use tests::files::{self, assert_same};
use tests::{Guest, Lab, Tmpfs, poll_until};

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
    let (host, port) = guest.place();
    let path = format!("/{}", address.splitn(4, '/').nth(3).unwrap());
    for end in [3_000_000_u64, 7_000_000] {
        let start = state()["offset"].as_u64().unwrap();
        let (from, to) = (start.to_string(), end.to_string());
        guest.python(half, &[&host, &port, &path, guest.text("authorization"), &from, &to]).exits(0);
        poll_until(|| (state()["offset"].as_u64()? > start).then_some(()), || "nothing arrives".to_owned());
    }
    assert!(files::names_in(&inbox).iter().any(|name| name.ends_with(".part")), "{:?}", files::names_in(&inbox));
    // The last one may still be at its end: the newest request has the part.
    let rest = |offset: u64| {
        files::write(guest.folder.join("rest"), &content[usize::try_from(offset).unwrap()..]);
        let range = format!("Content-Range: bytes {offset}-8999999/9000000");
        Guest::status(guest.curl().args(["-H", "Upload-Key: k", "-H", &range, "-T", "rest", &address]))
    };
    assert_eq!(rest(8_999_000), "409", "a hole is refused");
    poll_until(|| (rest(state()["offset"].as_u64()?) == "201").then_some(()), || "it never ends".to_owned());
    assert_same(inbox.join("film ç.mkv"), &film);
    assert_eq!(state()["hash"], ContentHash::of(&content).to_string());
    assert_eq!(files::names_in(&inbox).len(), 3, "{:?}", files::names_in(&inbox));
    // Cancelled: the part goes, and whatever is complete stays.
    let other = address.replace("film", "other");
    files::write(guest.folder.join("rest"), &content[..1_000_000]);
    let range = "Content-Range: bytes 0-999999/9000000";
    let part = guest.curl().args(["-H", "Upload-Key: k", "-H", range, "-T", "rest", &other]);
    assert_eq!(Guest::status(part), "202");
    for cancelled in [&other, &other, &address] {
        let query = format!("{cancelled}?size=9000000&key=k");
        assert_eq!(Guest::status(guest.curl().args(["-X", "DELETE", &query])), "204");
    }
    assert_eq!(files::names_in(&inbox).len(), 3, "{:?}", files::names_in(&inbox));
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
    let put = |file: &str, below: &str| Guest::status(guest.curl().args(["-T", file]).arg(guest.address(below)));
    assert_eq!(put("large", "in/large"), "413");
    for name in ["in/..%2Fout", "in/%2Fetc%2Fx", "in/.bashrc", "in/%00", "in/.%2E%2Fx", "in/a%E2%80%AEb"] {
        assert_eq!(put("small", name), "400", "{name}");
    }
    for name in ["in/%1B%5B2J", "in/caf%E9", "in/%3Cimg%20src=x%3E"] {
        assert_eq!(put("small", name), "201", "{name}");
    }
    assert_eq!(Guest::status(guest.bare_curl().args(["-T", "small"]).arg(guest.address("in/x"))), "401");
    let cross = guest.curl().args(["-H", "Origin: https://evil.example", "-T", "small"]).arg(guest.address("in/x"));
    assert_eq!(Guest::status(cross), "403");
    let endless = guest.curl().args(["-H", "Transfer-Encoding: chunked", "-T", "small"]).arg(guest.address("in/x"));
    assert_eq!(Guest::status(endless), "411");
    assert_eq!(files::names_in(&inbox).len(), 3, "{:?}", files::names_in(&inbox));
    // A form, as browsers without scripts send it.
    let refused = ["-F", "file=@small;filename=one.txt", "-F", "file=@small;filename=.hidden"];
    assert_eq!(Guest::status(guest.curl().args(refused).arg(guest.address("in/"))), "400");
    let taken = ["-F", "file=@small;filename=one.txt", "-F", "note=x", "-F", "file=@small;filename=two \"2\".txt"];
    assert_eq!(Guest::status(guest.curl().args(taken).arg(guest.address("in/"))), "201");
    let said = std::fs::read_to_string(guest.folder.join("answer")).unwrap();
    assert!(said.contains("2 files arrived") && said.contains(&ContentHash::of(b"abc").to_string()), "{said}");
    let parts = files::names_in(&inbox).into_iter().filter(|name| name.ends_with(".part")).count();
    assert_eq!((files::names_in(&inbox).len(), parts), (6, 0), "{:?}", files::names_in(&inbox));
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
    assert_eq!(Guest::status(upload), "507", "a gibibyte stays free");
    assert_eq!(files::names_in(&small), [""; 0]);
}
