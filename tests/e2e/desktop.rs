//! What the system around the program gets: notifications, lines for its journal, the version.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::binaries::workspace;
use tests::{Guest, Invocation, Lab, Process, User, files, make_room, poll_until};

/// A folder with a program of this name that writes each of its arguments on a line of `calls`.
fn recorder(lab: &Lab, name: &str) -> PathBuf {
    let script = format!("#!/bin/bash\nprintf '%s\\n' call \"$@\" >> {:?}\n", lab.join("calls"));
    let program = files::write(lab.join("bin").join(name), script);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    lab.join("bin")
}

/// `PATH` with this folder before those of the system.
fn path_with(folder: &Path) -> std::ffi::OsString {
    std::env::join_paths([folder, Path::new("/usr/bin"), Path::new("/bin")]).unwrap()
}

/// Starts `peer serve` in a session of a desktop whose programs are in `folder`.
fn serve_in_session(user: &User<'_>, folder: &Path) -> Process {
    let serve =
        user.peer(["serve"]).env("PATH", path_with(folder)).env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere");
    let node = serve.start();
    node.wait_for("online as ");
    node
}

fn calls(lab: &Lab) -> String {
    std::fs::read_to_string(lab.join("calls")).unwrap_or_default()
}

fn wait_for_call(lab: &Lab, text: &str) {
    poll_until(|| calls(lab).contains(text).then_some(()), || format!("no {text:?} in {:?}", calls(lab)));
}

/// `tput` tells the size of a terminal, which a fetch that draws no bars doesn't need.
#[test]
fn without_a_terminal_no_program_is_started() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("a.txt", 10)]);
    let _node = bob.serve();
    let path = path_with(&recorder(&lab, "tput"));
    let fetch = alice.peer(["fetch", "bob", "a.txt"]).env("PATH", path).through_shell(r#"exec setsid --wait "$@""#);
    fetch.run().exits(0);
    assert_eq!(calls(&lab), "");
}

#[test]
fn the_desktop_tells_of_messages_until_it_is_turned_off() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.accept(["alice"]);
    bob.peer(["notify"]).run().exits(0).prints("desktop  on");
    let node = serve_in_session(&bob, &recorder(&lab, "notify-send"));
    alice.peer(["chat", "bob", "--", "-x <b>lunch</b> & more"]).run().exits(0);
    wait_for_call(
        &lab,
        "call\n--app-name\nVizinho\n--icon\nvizinho\n--\nalice\n-x &lt;b&gt;lunch&lt;/b&gt; &amp; more\n",
    );
    // Many at once are one or two, and none is forgotten.
    for number in 0..10 {
        alice.peer(["chat", "bob", &format!("number {number}")]).run().exits(0);
    }
    wait_for_call(&lab, "number 9");
    let told = calls(&lab);
    assert!(told.matches("call\n").count() < 11 && told.contains(" more: peer inbox)"), "{told}");
    bob.peer(["notify", "--desktop", "off"]).run().exits(0).prints("desktop  off");
    let before = calls(&lab);
    alice.peer(["chat", "bob", "quiet"]).run().exits(0);
    node.wait_for("alice: quiet");
    // On again: what comes now is told, so the one before would have been.
    bob.peer(["notify", "--desktop", "on"]).run().exits(0);
    alice.peer(["chat", "bob", "loud"]).run().exits(0);
    wait_for_call(&lab, "loud");
    let told = calls(&lab).split_off(before.len());
    assert!(!told.contains("\nquiet"), "{told}");
}

#[test]
fn a_program_for_messages_takes_the_place_of_the_desktop() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    bob.peer(["notify", "--", "true"]).run().exits(0).prints("desktop  off");
    bob.peer(["notify", "--desktop", "on"]).run().exits(0).prints("desktop  on");
    let set = bob.peer(["--json", "notify", "--no-hook"]).run().exits(0).object("notify");
    assert_eq!(set["desktop"], true);
}

#[test]
fn what_is_sent_calls_once_and_not_in_the_words_of_its_sender() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _hers = alice.serve();
    bob.accept(["alice"]);
    let _node = serve_in_session(&bob, &recorder(&lab, "notify-send"));
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("plan.pdf", 1000)).run().exits(0);
    wait_for_call(&lab, "--\nalice\nsends plan.pdf (1.00 kB)\n");
    alice.peer(["chat", "bob", "and that was it"]).run().exits(0);
    wait_for_call(&lab, "and that was it");
    assert_eq!(calls(&lab).matches("plan.pdf").count(), 1, "{}", calls(&lab));
}

#[test]
fn a_guest_of_a_link_calls_once_until_it_is_answered() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = serve_in_session(&alice, &recorder(&lab, "notify-send"));
    let guest = Guest::of(&lab, &alice, &["--chat"], &[]);
    let write = |text: &str| {
        let curl = guest.curl().args(["--data-urlencode", &format!("text={text}"), "-d", "name=bob"]);
        curl.arg(guest.address("chat")).run().exits(0);
        node.wait_for(text);
    };
    write("<b>first</b>");
    wait_for_call(&lab, "\n--\nguest 1.1 “bob”\n&lt;b&gt;first&lt;/b&gt;\n");
    write("second");
    alice.peer(["link", "chat", "1", "yes?"]).run().exits(0);
    write("third");
    wait_for_call(&lab, "guest 1.1 “bob”\nthird\n");
    assert!(!calls(&lab).contains("second"), "{}", calls(&lab));
}

#[test]
fn strangers_and_rooms_call_as_the_bell_does() {
    let lab = Lab::start();
    let (alice, bob, mallory) = (lab.user("alice"), lab.user("bob"), lab.user("mallory"));
    let node = serve_in_session(&bob, &recorder(&lab, "busctl"));
    let _hers = alice.serve();
    mallory.peer(["chat", "bob", "buy this"]).run().exits(0);
    // Only that there is somebody.
    wait_for_call(&lab, "\nmallory\nwants to talk\n0\n0\n-1\n");
    assert!(calls(&lab).contains("--user\n--\ncall\norg.freedesktop.Notifications\n"), "{}", calls(&lab));
    make_room(&[&alice, &bob]);
    alice.peer(["chat", "#lab", "nobody in particular"]).run().exits(0);
    node.wait_for("nobody in particular");
    alice.peer(["chat", "#lab", "but @bob"]).run().exits(0);
    wait_for_call(&lab, "\nalice in #lab\nbut @bob\n");
    let told = calls(&lab);
    assert!(!told.contains("in particular") && !told.contains("buy this"), "{told}");
}

/// Runs `peer` with standard error in a file that it is told to be the journal, and returns what it wrote there.
fn journal_of(lab: &Lab, user: &User<'_>, args: &[&str], is_it: bool) -> String {
    let file = std::fs::File::create(lab.join("journal")).unwrap();
    let facts = file.metadata().unwrap();
    let named = format!("{}:{}", facts.dev(), if is_it { facts.ino() } else { 1 });
    let mut command = user.peer(args).env("JOURNAL_STREAM", named).command();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).status().unwrap();
    std::fs::read_to_string(lab.join("journal")).unwrap()
}

#[test]
fn lines_for_the_journal_have_their_priority() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let said = journal_of(&lab, &bob, &["fetch", "nobody", "x"], true);
    assert!(said.starts_with("<3>error: "), "{said}");
    let said = journal_of(&lab, &bob, &["stop"], true);
    assert_eq!(said, "<6>nothing to stop: no `peer serve` runs for this account\n");
    let said = journal_of(&lab, &bob, &["-vv", "list"], true);
    assert!(!said.is_empty() && said.lines().all(|line| line.starts_with('<')), "{said}");
    assert!(said.contains("<7>") || said.contains("<6>"), "{said}");
    // The variable is inherited by whatever a service runs with its own standard error.
    let said = journal_of(&lab, &bob, &["stop"], false);
    assert_eq!(said, "nothing to stop: no `peer serve` runs for this account\n");
}

/// What the build script says in a package's folder.
fn version_in(script: &Path, package: &Path) -> String {
    let built = Command::new(script)
        .env("CARGO_PKG_VERSION", "1.2.3")
        .env("CARGO_MANIFEST_DIR", package)
        .env("PROFILE", "release")
        .output()
        .unwrap();
    let said = String::from_utf8(built.stdout).unwrap();
    assert!(built.status.success(), "{said}");
    let version = said.lines().find_map(|line| line.strip_prefix("cargo::rustc-env=VIZINHO_VERSION="));
    version.unwrap_or_else(|| panic!("no version: {said}")).to_owned()
}

#[test]
fn the_version_names_the_commit_only_of_its_own_repository() {
    let lab = Lab::without_tracker();
    let script = lab.join("script");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc)
        .args(["--edition", "2024", "-o"])
        .arg(&script)
        .arg(workspace().join("shared/commit_version.rs"))
        .status();
    if !built.is_ok_and(|status| status.success()) {
        println!("skipped: rustc can't be run from here");
        return;
    }
    let package = lab.empty_folder("source/peer");
    assert_eq!(version_in(&script, &package), "1.2.3");
    let git = |folder: &Path, args: &[&str]| {
        let run = Invocation::new("git", folder).env("GIT_CONFIG_NOSYSTEM", "1");
        run.args(["-c", "user.name=x", "-c", "user.email=x@example.org"]).args(args).run().exits(0).out()
    };
    // An archive that was unpacked in somebody else's repository.
    git(lab.path(), &["init", "-q"]);
    git(lab.path(), &["commit", "-q", "--allow-empty", "-m", "theirs"]);
    assert_eq!(version_in(&script, &package), "1.2.3");
    let own = lab.join("source");
    git(&own, &["init", "-q"]);
    assert_eq!(version_in(&script, &package), "1.2.3", "nothing is committed");
    git(&own, &["commit", "-q", "--allow-empty", "-m", "ours"]);
    let commit = git(&own, &["rev-parse", "--short=10", "HEAD"]);
    let version = version_in(&script, &package);
    assert!(version.starts_with(&format!("1.2.3 ({} ", commit.trim())) && version.ends_with(')'), "{version}");
}

#[test]
fn records_of_the_tracker_have_their_priority() {
    use std::io::{BufRead, BufReader};
    let lab = Lab::without_tracker();
    let file = std::fs::File::create(lab.join("journal")).unwrap();
    let facts = file.metadata().unwrap();
    let tracker = lab.tracker_invocation("127.0.0.1:0").args(["--log", "debug"]);
    let mut command = tracker.env("JOURNAL_STREAM", format!("{}:{}", facts.dev(), facts.ino())).command();
    let mut tracker = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).spawn().unwrap();
    let mut lines = BufReader::new(tracker.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("tracker listening on ")));
    let said = || std::fs::read_to_string(lab.join("journal")).unwrap();
    let has_records = || said().ends_with('\n').then_some(());
    poll_until(has_records, || "no record".to_owned());
    tracker.kill().unwrap();
    tracker.wait().unwrap();
    assert!(said().lines().all(|line| line.starts_with("<6>") || line.starts_with("<7>")), "{}", said());
}

#[test]
fn a_wish_calls_when_somebody_shares_it() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let _node = serve_in_session(&bob, &recorder(&lab, "notify-send"));
    bob.peer(["wish", "debian*.iso"]).run().exits(0);
    alice.share([lab.file("debian <13>.iso", 1000)]);
    let _hers = alice.serve();
    wait_for_call(&lab, "--\nalice\nshares debian &lt;13&gt;.iso (1.00 kB), for which you wait\n");
    // One that is fetched calls when it is there.
    bob.peer(["wish", "film*", "--fetch", "-o"]).arg(lab.join("in")).run().exits(0);
    alice.share([lab.file("film.mkv", 1000)]);
    wait_for_call(&lab, &format!("--\nalice\nfilm.mkv is in {}\n", lab.join("in").display()));
    assert_eq!(calls(&lab).matches("film.mkv").count(), 1, "{}", calls(&lab));
}
