//! Links for guests: what a browser and curl get.

use serde_json::{Value, json};
use shared::ContentHash;
use tests::files::{self, assert_content, assert_same};
use tests::{Guest, Invocation, Lab, poll_until};

#[test]
fn a_guest_gets_every_file_and_every_range_of_it() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let photos = lab.empty_folder("photos");
    files::write(photos.join("sub/ç ã.bin"), files::noise(1, 3_000_000));
    files::write(photos.join("empty"), "");
    let report = lab.file("relatório \"1\".pdf", 2_000_000);
    let guest = Guest::of(&lab, &alice, &[], &[&report, &photos]);
    let keys: Vec<&String> = guest.link.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["authorization", "curl", "expires", "files", "fingerprint", "type", "url", "v"]);
    guest.paste().exits(0);
    let unzip =
        "import zipfile, sys; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; z.extractall('out')";
    guest.python(unzip, &["alice.zip"]).exits(0);
    for (name, original) in
        [("relatório \"1\".pdf", report.clone()), ("photos/sub/ç ã.bin", photos.join("sub/ç ã.bin"))]
    {
        assert_same(guest.folder.join("out").join(name), &original);
        let file = guest.file(name);
        let url = file["url"].as_str().unwrap();
        guest.curl().args(["-o", "one", url]).run().exits(0);
        assert_same(guest.folder.join("one"), &original);
        assert_eq!(file["hash"], ContentHash::of(&std::fs::read(&original).unwrap()).to_string());
        let said = Guest::headers(guest.curl().args(["-I", url]));
        let tag = format!("etag: \"{}\"", file["hash"].as_str().unwrap());
        for wanted in [&tag, "accept-ranges: bytes", "x-content-type-options: nosniff", "referrer-policy: no-referrer"]
        {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
        assert!(said.contains(&format!("content-length: {}", file["size"])), "{said}");
    }
    let said = Guest::headers(guest.curl().args(["-I", guest.file("relatório \"1\".pdf")["url"].as_str().unwrap()]));
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
    files::write(guest.folder.join("resumed"), &whole[..1_234_567]);
    guest.curl().args(["-C", "-", "-o", "resumed", &archive]).run().exits(0);
    assert_content(guest.folder.join("resumed"), &whole);
    // The same for terminals, unpacked while it comes.
    let tar = guest.address("tar/alice.tar");
    guest.curl().arg(&tar).through_shell(r#""$@" | tar -x"#).run().exits(0);
    assert_same(guest.folder.join("photos/sub/ç ã.bin"), photos.join("sub/ç ã.bin"));
    assert_same(guest.folder.join("relatório \"1\".pdf"), &report);
    assert_content(guest.folder.join("photos/empty"), b"");
    guest.curl().args(["-o", "chosen.tar"]).arg(format!("{tar}?d=photos")).run().exits(0);
    let listed = Invocation::new("tar", &guest.folder).args(["-tf", "chosen.tar", "--quoting-style=literal"]).run();
    listed.exits(0).prints_exactly("photos/empty\nphotos/sub/ç ã.bin\n");
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
        let status = Guest::status(curl.arg(url));
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
fn a_link_for_one_ends_when_it_has_everything() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let (one, two) = (lab.file("one", 3_000_000), lab.file("two", 0));
    let guest = Guest::of(&lab, &alice, &["--once"], &[&one, &two]);
    let enter = |jar: &str| {
        let code = format!("code={}", guest.code());
        Guest::status(guest.bare_curl().args(["-c", jar, "-d", &code]).arg(guest.address("enter")))
    };
    assert_eq!((enter("first"), enter("second")), ("303".to_owned(), "403".to_owned()));
    assert_eq!(Guest::status(guest.curl().arg(guest.address(""))), "401", "a terminal is another one");
    let get = |args: &[&str]| Guest::status(guest.bare_curl().args(["-b", "first"]).args(args));
    let end = || alice.peer(["--json", "link", "list"]).run().exits(0).object("link")["expires"].as_i64().unwrap();
    let address = guest.file_address("one");
    assert_eq!(get(&["-r", "0-1999999", &address]), "206");
    assert_eq!(end(), guest.link["expires"].as_i64().unwrap());
    assert_eq!(get(&["-r", "1500000-", &address]), "206");
    assert_eq!(get(&[&guest.file_address("two")]), "200");
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
    node.terminate();
    node.finish().exits(143);
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
    let node = alice.peer(["serve", "--limit", "4M"]).start();
    node.wait_for("online as alice");
    let (small, large) = (lab.file("small", 1000), lab.file("large", 40_000_000));
    let guest = Guest::of(&lab, &alice, &[], &[&small, &large]);
    let address = |name: &str| guest.file(name)["url"].as_str().unwrap().to_owned();
    let download = guest.curl().args(["-o", "large", &address("large")]).start();
    let got = guest.folder.join("large");
    poll_until(|| got.metadata().is_ok_and(|got| got.len() > 0).then_some(()), || "nothing comes".to_owned());
    files::write(&large, files::noise(9, 40_000_000));
    download.finish().exits(18);
    files::write(&small, "changed");
    assert_eq!(Guest::status(guest.curl().arg(address("small"))), "410");
    std::fs::remove_file(&small).unwrap();
    assert_eq!(Guest::status(guest.curl().arg(address("small"))), "410");
    let all = guest.curl().args(["-o", "all.zip"]).arg(guest.address("zip/alice.zip")).run();
    assert!([18, 0].contains(&all.code), "{all}");
    let whole = "import zipfile; zipfile.ZipFile('all.zip').testzip()";
    assert!(!guest.python(whole, &[]).is_success(), "no broken archive looks whole");
}

#[test]
fn a_revoked_link_is_cut() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.peer(["serve", "--limit", "2M"]).start();
    node.wait_for("online as alice");
    let guest = Guest::of(&lab, &alice, &[], &[&lab.file("large", 90_000_000)]);
    let download = guest.curl().args(["-o", "large", &guest.file_address("large")]).start();
    node.wait_for("takes large from link 1");
    alice.peer(["link", "revoke", "1"]).run().exits(0);
    download.finish().exits(18);
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
    guest.python(check, &[&count.to_string()]).exits(0);
    let page = guest.curl().args(["-H", "Accept: text/html"]).arg(guest.address("?in=many/07")).run();
    page.exits(0).prints("00007.txt").prints("alice gives you");
}
