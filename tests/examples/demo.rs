//! The main job, shown with real processes on this machine: `cargo run --release --example demo`.
//!
//! Starts a tracker and two peers in a temporary folder, lets them find each other, talk and hand over files, verifies
//! what came, and leaves nothing behind. Needs no terminal, and no other folder than this repository.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "an example: it talks to whoever started it, and what fails must stop it"
)]

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use tests::files::{assert_same, names_in, noise, write};
use tests::{Lab, User};

const HOLIDAY_BYTES: usize = 200_000_000;

fn main() -> ExitCode {
    say(
        "Building and starting a tracker and two peers, as real processes in a temporary folder. The first time, that takes minutes.",
    );
    let lab = Lab::start();
    shown(&format!("tracker listening on {}", lab.address()));

    say(
        "Alice and Bob each make an account: one command, with the tracker's key from the line that it printed, and a password.",
    );
    let tracker_key = lab.tracker_key();
    let (alice, bob) = (lab.stranger("alice"), lab.stranger("bob"));
    for user in [&alice, &bob] {
        let password = user.password_file();
        let register = ["register", user.name(), "--tracker-key", &tracker_key, "--password-file", text(&password)];
        run(user, &register);
    }

    say("Bob shares a document, a film of 200 MB and a folder of pictures; each is hashed once.");
    let of_bob = lab.join("of bob");
    make_files(&of_bob);
    let shared = ["report.pdf", "holiday.mkv", "pictures"].map(|name| of_bob.join(name));
    run(&bob, &["share", text(&shared[0]), text(&shared[1]), text(&shared[2])]);

    say("Bob goes online: from here on his peer serves, and shows who comes.");
    let bobs_node = bob.serve();
    shown(&bobs_node.wait_for("online as bob"));

    say("Alice looks who is there, and what Bob has.");
    run(&alice, &["list"]);
    run(&alice, &["files", "bob"]);

    say("She fetches all of it at once, straight from Bob, each piece verified as it comes.");
    let here = lab.empty_folder("here");
    run(&alice, &["fetch", "bob", "report.pdf", "holiday.mkv", "pictures/", "-o", text(&here)]);

    say("The same again costs nothing: what is there already is not fetched twice.");
    run(&alice, &["fetch", "bob", "report.pdf", "holiday.mkv", "-o", text(&here)]);

    say("She writes to him; the command returns when his peer has stored the message.");
    run(&alice, &["chat", "bob", "Got it all, thank you!"]);
    shown(&bobs_node.wait_for("alice: Got it all"));

    say("Alice goes online too, and Bob answers.");
    let alices_node = alice.serve();
    run(&bob, &["chat", "alice", "That was quick. Lunch at one?"]);
    shown(&alices_node.wait_for("bob: That was quick"));

    say("Both want to be sure that nobody is in between: the number is the same on both sides.");
    run(&alice, &["verify", "bob", "--yes"]);
    let numbers = [(&alice, "bob"), (&bob, "alice")].map(|(user, other)| user.peer(["verify", other]).run().out());
    assert_eq!(numbers[0], numbers[1], "both see the same number");

    say("Bob leaves, and nobody but Alice is online any more.");
    bobs_node.interrupt();
    bobs_node.finish().exits(130);
    alices_node.wait_for("bob went offline");
    run(&alice, &["list"]);
    alices_node.interrupt();
    alices_node.finish().exits(130);

    say("What came is compared with what was shared, byte by byte.");
    let files = compare(&of_bob, &here);
    shown(&format!("{files} files are the same on both sides"));
    let tracker = lab.take_tracker();
    tracker.terminate();
    tracker.finish().exits(0);
    drop((alice, bob));
    let folder = lab.path().to_owned();
    drop(lab);
    assert!(!folder.exists(), "nothing is left behind");
    say("All processes have ended and the temporary folder is gone.");
    ExitCode::SUCCESS
}

fn make_files(folder: &Path) {
    write(folder.join("report.pdf"), noise(1, 1_400_000));
    write(folder.join("holiday.mkv"), noise(2, HOLIDAY_BYTES));
    for number in 1..=24 {
        let month = if number <= 12 { "may" } else { "june" };
        write(folder.join(format!("pictures/{month}/{number:02}.jpg")), noise(100 + number, 350_000));
    }
}

/// Compares two folders in both directions, and tells how many files there are.
fn compare(shared: &Path, fetched: &Path) -> usize {
    assert_eq!(names_in(shared), names_in(fetched), "the same names in both folders");
    let both = names_in(shared).into_iter().map(|name| (shared.join(&name), fetched.join(&name)));
    let count = |(one, other): (std::path::PathBuf, std::path::PathBuf)| {
        if one.is_dir() {
            return compare(&one, &other);
        }
        assert_same(&other, &one);
        1
    };
    both.map(count).sum()
}

/// Runs a command as a person would, on this terminal if it is one.
fn run(user: &User<'_>, args: &[&str]) {
    let shell_words: Vec<String> = args.iter().map(|arg| quoted(arg)).collect();
    println!("  {}$ peer {}", user.name(), shell_words.join(" "));
    let mut command: Command = user.peer(args).command();
    let status = command.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::inherit()).status();
    assert!(status.expect("peer runs").success(), "peer {} must work", args[0]);
}

fn quoted(arg: &str) -> String {
    let name =
        Path::new(arg).file_name().and_then(|name| name.to_str()).filter(|_| arg.starts_with('/')).unwrap_or(arg);
    if name.contains([' ', '!', '?']) { format!("\"{name}\"") } else { name.to_owned() }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}

fn say(sentence: &str) {
    println!("\n{sentence}");
}

fn shown(line: &str) {
    println!("  {line}");
}
