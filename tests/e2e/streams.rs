//! What is fetched into something that keeps no file: pipes, devices, standard output by any of its names.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use tests::files::{assert_content, names_in, write};
use tests::{Lab, Process, User};

fn bob_is_there(lab: &Lab) -> (User<'_>, Process) {
    let bob = lab.user("bob");
    bob.share(["a.txt", "b.txt"].map(|name| write(lab.join("of bob").join(name), format!("this is {name}"))));
    // Larger than any pipe.
    bob.share([lab.file("of bob/film.mkv", 3_000_000)]);
    let node = bob.serve();
    (bob, node)
}

#[test]
fn devices_and_pipes_get_the_bytes_whatever_is_said_of_files() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    let devices = names_in("/dev");
    let film = fs::read(lab.join("of bob/film.mkv")).unwrap();
    let pipe = lab.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for how in [&[][..], &["overwrite"], &["rename"], &["skip"], &["fail"]] {
        let how: Vec<&str> = how.iter().flat_map(|how| ["--if-exists", how]).collect();
        let to = |output: &Path, names: &[&str]| alice.peer(["fetch", "bob", "-o"]).arg(output).args(&how).args(names);
        to(Path::new("/dev/null"), &["film.mkv"]).run().exits(0).says("1 file fetched").is_plain();
        to(Path::new("/dev/null"), &["a.txt", "film.mkv"]).run().exits(0).says("2 files fetched");
        let fetching = to(&pipe, &["film.mkv"]).start();
        assert_eq!(fs::read(&pipe).unwrap(), film, "{how:?}");
        fetching.finish().exits(0);
        to(Path::new("/dev/full"), &["a.txt"]).run().exits(9).says("/dev/full: the disk is full").is_plain();
    }
    assert_eq!(names_in("/dev"), devices, "nothing was made there");
    assert_eq!(names_in(lab.path()).iter().filter(|name| name.starts_with("pipe")).count(), 1);
    alice.peer(["fetch", "bob", "a.txt", "--share", "-o", "/dev/null"]).run().exits(2).says("--share");
}

#[test]
fn standard_output_has_many_names() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    for output in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        alice
            .peer(["fetch", "bob", "a.txt", "b.txt", "-o", output])
            .run()
            .exits(0)
            .prints_exactly("this is a.txtthis is b.txt");
        let skips = alice.peer(["fetch", "bob", "a.txt", "--if-exists", "skip", "-o", output]).run();
        skips.exits(2).says("--if-exists is about files, and standard output is none");
        assert!(!skips.err().contains("-o -"), "nobody typed that: {skips}");
        let into_file = format!(r#"echo before > "$0.out"; "$@" -o {output} >> "$0.out""#)
            .replace("$0", &lab.join("x").to_string_lossy());
        alice.peer(["fetch", "bob", "a.txt"]).through_shell(&into_file).run().exits(0);
        assert_content(lab.join("x.out"), b"before\nthis is a.txt");
    }
    let substituted = r#""$@" -o >(tr a-z A-Z >upper); code=$?; wait $!; exit $code"#;
    alice.peer(["fetch", "bob", "a.txt"]).folder(lab.path()).through_shell(substituted).run().exits(0);
    assert_content(lab.join("upper"), b"THIS IS A.TXT");
    let descriptor = r#"exec 7>seven; echo -n "0 " >&7; exec "$@" -o /dev/fd/7"#;
    alice.peer(["fetch", "bob", "a.txt"]).folder(lab.path()).through_shell(descriptor).run().exits(0);
    assert_content(lab.join("seven"), b"0 this is a.txt");
}

#[test]
fn a_descriptor_is_shared_with_whoever_has_it() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    let script = |script: &str| {
        let fetch = alice.peer(["-q", "fetch", "bob", "a.txt"]).folder(lab.path()).through_shell(script).run();
        fetch.exits(0);
    };
    script(r#"exec 3>three; echo first >&3; "$@" -o /dev/fd/3; code=$?; echo second >&3; exit $code"#);
    assert_content(lab.join("three"), b"first\nthis is a.txtsecond\n");
    script(r#"exec 2>err; echo first >&2; "$@" -o /dev/stderr; code=$?; echo second >&2; exit $code"#);
    assert_content(lab.join("err"), b"first\nthis is a.txtsecond\n");
    let read_only = r#"exec 3<three; exec "$@" -o /dev/fd/3"#;
    let refused = alice.peer(["fetch", "bob", "a.txt"]).folder(lab.path()).through_shell(read_only).run();
    refused.exits(9).says("for reading only").is_plain();
    assert_content(lab.join("three"), b"first\nthis is a.txtsecond\n");
}

#[test]
fn a_pipe_that_nobody_reads_is_named() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _bob = bob_is_there(&lab);
    let pipe = lab.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let fetch = || alice.peer(["fetch", "bob", "a.txt", "-o"]).arg(&pipe).start();
    let told = format!("waiting for a reader of {}", pipe.display());
    let fetching = fetch();
    fetching.wait_for(&told);
    assert_content(&pipe, b"this is a.txt");
    fetching.finish().exits(0);
    let interrupted = fetch();
    interrupted.wait_for(&told);
    interrupted.interrupt();
    interrupted.finish().exits(130);
}

#[test]
fn what_takes_no_bytes_is_refused_before_anything_is_fetched() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let (_bob, node) = bob_is_there(&lab);
    // Nobody is asked for anything.
    node.terminate();
    node.finish();
    let socket = lab.join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let refused = |output: &Path, why: &str| {
        alice.peer(["fetch", "bob", "a.txt", "-o"]).arg(output).run().exits(9).says(why).is_plain();
    };
    refused(&socket, "it is a socket");
    refused(Path::new("/proc/self/fd/99"), "isn't open");
    if Path::new("/dev/loop0").exists() {
        refused(Path::new("/dev/loop0"), "it is a disk");
    }
    let without_terminal = alice.peer(["fetch", "bob", "a.txt", "-o", "/dev/tty"]).through_shell(r#"exec setsid "$@""#);
    without_terminal.run().exits(9).says("this process has no terminal").is_plain();
    let closed = r#"exec "$@" >&-"#;
    let outcome = alice.peer(["fetch", "bob", "a.txt", "-o", "-"]).through_shell(closed).run();
    outcome.exits(9).says("standard output: it is closed");
}
