//! Links through connections that break, and on disks that are full.

use std::net::SocketAddr;

use shared::ContentHash;
use tests::files::{self, assert_same};
use tests::{Browser, CuttingProxy, Guest, Lab, Tmpfs, poll_for, poll_until};

const BYTES: usize = 200_000_000;
const CUTS: [u64; 2] = [70_000_000, 140_000_000];

/// A proxy that leads to the server of a link.
fn proxy_to(guest: &Guest) -> CuttingProxy {
    let port = guest.place().1.parse().unwrap();
    CuttingProxy::start(SocketAddr::from(([127, 0, 0, 1], port)), CUTS.to_vec())
}

#[test]
fn a_download_that_is_cut_twice_is_whole() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let film = lab.file("film.mkv", BYTES);
    let guest = Guest::of(&lab, &alice, &[], &[&film]);
    let proxy = proxy_to(&guest);
    let (host, port) = guest.place();
    let through = format!("{host}:{port}:127.0.0.1:{}", proxy.port());
    let address = guest.file_address("film.mkv");
    let part = || guest.curl().args(["-C", "-", "-o", "got", "--connect-to", &through, &address]).run().code;
    let codes: Vec<i32> = (0..3).map(|_| part()).collect();
    // 18: less came than was announced; 56: the connection was reset.
    assert!([18, 56].contains(&codes[0]) && [18, 56].contains(&codes[1]) && codes[2] == 0, "{codes:?}");
    assert_eq!(proxy.cuts_left(), 0);
    assert_same(guest.folder.join("got"), &film);
    let hash = ContentHash::of(&std::fs::read(guest.folder.join("got")).unwrap()).to_string();
    assert_eq!(guest.file("film.mkv")["hash"], hash);
}

#[test]
fn an_upload_that_is_cut_twice_is_whole() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let inbox = lab.join("Inbox");
    let guest = Guest::of(&lab, &alice, &["--receive", inbox.to_str().unwrap()], &[]);
    let proxy = proxy_to(&guest);
    let Some(browser) = Browser::start(&lab.empty_folder("downloads"), "en") else {
        println!("skipped: there is no chromium with chromedriver");
        return;
    };
    let film = lab.file("film.mkv", BYTES);
    let path = guest.address("").splitn(4, '/').nth(3).unwrap().to_owned();
    browser.open(&format!("https://127.0.0.1:{}/{path}#{}", proxy.port(), guest.code()));
    browser.wait_for("return document.querySelector('h1').innerText === 'Send files to alice'");
    browser.type_into("#chosen", film.to_str().unwrap());
    let said = || browser.run("return document.querySelector('.uploads .state')?.innerText ?? ''").to_string();
    let patience = tests::PATIENCE * 2;
    poll_for(patience, || said().contains("arrived").then_some(()), || format!("it never ends: {}", said()));
    assert_eq!(proxy.cuts_left(), 0);
    assert_same(inbox.join("film.mkv"), &film);
    assert_eq!(files::names_in(&inbox), ["film.mkv"]);
    let shown = browser.run("return document.querySelector('.uploads code').innerText");
    assert_eq!(shown, format!("BLAKE3 {}", ContentHash::of(&std::fs::read(&film).unwrap())));
}

#[test]
fn a_full_disk_loses_no_message_and_no_download() {
    let lab = Lab::start();
    let home = lab.empty_folder("alice");
    let Some(_disk) = Tmpfs::mount(&home, "size=12m,mode=0700") else {
        println!("skipped: a small disk, which only root may mount");
        return;
    };
    let alice = lab.user("alice");
    let _node = alice.serve();
    let report = lab.file("report.pdf", 1_000_000);
    let guest = Guest::of(&lab, &alice, &["--chat"], &[&report]);
    let write = |text: &str| {
        Guest::status(guest.curl().args(["--data-urlencode", &format!("text={text}")]).arg(guest.address("chat")))
    };
    assert_eq!(write("before"), "201");
    // To the last byte.
    let filler = home.join("filler");
    let filled = std::fs::File::create(&filler).and_then(|mut file| std::io::copy(&mut std::io::repeat(7), &mut file));
    assert!(filled.is_err(), "the disk is never full");
    // What room the log of the database has left is used up.
    let long = "x".repeat(15 << 10);
    let refused = poll_until(
        || Some(write(&long)).filter(|status| status != "201" && status != "429"),
        || "it always fits".to_owned(),
    );
    assert_eq!(refused, "500");
    let said = std::fs::read_to_string(guest.folder.join("answer")).unwrap();
    assert_eq!(said.trim(), "that failed on the other side: try again later", "guests learn no paths");
    guest.curl().args(["-o", "got", &guest.file_address("report.pdf")]).run().exits(0);
    assert_same(guest.folder.join("got"), &report);
    std::fs::remove_file(&filler).unwrap();
    poll_until(|| (write("after") == "201").then_some(()), || "it never goes on".to_owned());
    let printed = alice.peer(["link", "chat", "1"]).run();
    printed.exits(0).prints(": before").prints(": after");
}
