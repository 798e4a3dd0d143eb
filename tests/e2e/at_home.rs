//! The program at home: ending its node, its configuration file, its words about slips.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tests::{Lab, Outcome, User, files};

#[test]
fn stop_ends_the_node_and_keeps_the_account() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    lab.stranger("nobody").peer(["stop"]).run().exits(3);
    let idle = bob.peer(["stop"]).run();
    idle.exits(0).says("nothing to stop: no `peer serve` runs for this account");
    let node = bob.serve();
    bob.peer(["stop"]).run().exits(0).says("bob is offline; `peer serve` goes online again");
    node.finish().exits(0);
    alice.peer(["list"]).run().exits(0).prints_exactly("");
    // The account is still there.
    let node = bob.serve();
    let stopped = bob.peer(["--json", "stop"]).run().exits(0).object("stopped");
    assert_eq!((&stopped["was_running"], &stopped["user"]), (&Value::from(true), &Value::from("bob")));
    node.finish().exits(0);
    let idle = bob.peer(["--json", "stop"]).run().exits(0).object("stopped");
    assert_eq!((&idle["was_running"], &idle["user"]), (&Value::from(false), &Value::Null));
}

#[test]
fn stop_does_not_take_a_window_away() {
    let lab = Lab::start();
    let (_alice, bob) = (lab.user("alice"), lab.user("bob"));
    let mut view = bob.peer(["chat", "alice"]).in_terminal(80, 20);
    view.wait_for_screen("an empty line", |screen| screen.cursor_line() == ">");
    bob.peer(["stop"]).run().exits(6).says("keeps bob online for a window, which ends with it: close that");
    bob.peer(["whoami"]).run().exits(0).prints("yes, at");
    view.press("\u{4}");
    view.finish().0.exits(0);
}

fn write_config(user: &User<'_>, text: &str) {
    let path = files::write(user.home().join("config.toml"), text);
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// The value and the origin of one key of `peer --json config`.
fn setting(config: &Outcome, key: &str) -> (Value, String) {
    let settings = config.exits(0).json();
    let found = settings.into_iter().find(|object| object["type"] == "setting" && object["key"] == key);
    let found = found.unwrap_or_else(|| panic!("no {key}: {config}"));
    (found["value"].clone(), found["origin"].as_str().unwrap().to_owned())
}

#[test]
fn a_flag_counts_more_than_the_environment_that_more_than_the_file() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    write_config(
        &bob,
        "tracker = \"file.example:1\"\nplain = true\nverbose = 2\n[serve]\nlimit = \"20M\"\nport = 40000\n\
         [fetch]\nfrom = [\"carol\", \"dave\"]\noutput = \"~/Downloads\"\npatience = 5\n",
    );
    let config = bob.peer(["--json", "config"]).run();
    let text = |text: &str| Value::from(text);
    assert_eq!(setting(&config, "tracker"), (text(lab.address()), "environment".into()));
    assert_eq!(setting(&config, "plain"), (true.into(), "file".into()));
    assert_eq!(setting(&config, "verbose"), (2.into(), "file".into()));
    assert_eq!(setting(&config, "json"), (true.into(), "command line".into()));
    assert_eq!(setting(&config, "accept-new"), (true.into(), "environment".into()));
    assert_eq!(setting(&config, "no-mdns"), (false.into(), "default".into()));
    assert_eq!(setting(&config, "serve.limit"), (text("20M"), "file".into()));
    assert_eq!(setting(&config, "serve.port"), (40_000.into(), "file".into()));
    assert_eq!(setting(&config, "serve.announce"), (Value::Null, "default".into()));
    assert_eq!(setting(&config, "fetch.from"), (serde_json::json!(["carol", "dave"]), "file".into()));
    // The tilde is the file's own: no shell has seen it.
    let downloads = lab.join("Downloads");
    assert_eq!(setting(&config, "fetch.output"), (text(downloads.to_str().unwrap()), "file".into()));
    let flagged = bob.peer(["--json", "--tracker", "flag.example:2", "config"]).run();
    assert_eq!(setting(&flagged, "tracker"), (text("flag.example:2"), "command line".into()));
    let unread = bob.peer(["--json", "--no-config", "config"]).run();
    assert_eq!(setting(&unread, "plain"), (false.into(), "default".into()));
    assert_eq!(unread.object("config_file")["read"], false);
    // What people are shown is a file again.
    let shown = bob.peer(["config"]).run();
    shown.exits(0).prints("plain = true  # file").prints("[serve]\nport = 40000  # file\n# announce is not set");
    write_config(&bob, &shown.out());
    bob.peer(["config"]).run().exits(0).prints("port = 40000  # file");
}

#[test]
fn the_file_is_obeyed() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("a.bin", 1000)]);
    let _his = bob.serve();
    let inbox = lab.empty_folder("inbox");
    write_config(
        &alice,
        &format!("json = true\n[fetch]\noutput = {:?}\nif-exists = \"fail\"\n", inbox.to_str().unwrap()),
    );
    assert_eq!(alice.peer(["fetch", "bob", "a.bin"]).run().file_statuses(), ["done"]);
    files::assert_same(inbox.join("a.bin"), lab.join("a.bin"));
    alice.peer(["fetch", "bob", "a.bin"]).run().exits(10);
    // What was given by hand counts, and a fetch that is repeated conflicts with nothing.
    assert_eq!(alice.peer(["fetch", "bob", "a.bin", "--if-exists", "skip"]).run().file_statuses(), ["skipped"]);
    alice.peer(["fetch", "--retry"]).run();
    assert_eq!(
        alice.peer(["--no-config", "whoami"]).run().exits(0).out().lines().next().unwrap().chars().next(),
        Some('u')
    );
}

#[test]
fn what_is_wrong_in_the_file_is_said() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    for (text, why) in [
        ("plian = true\n", r#"there is no key "plian": did you mean plain? `peer --no-config config` lists them"#),
        ("no_mdns = true\n", "did you mean no-mdns?"),
        ("[serve]\nlimt = \"1M\"\n", r#"there is no key "limt" in [serve]: did you mean limit?"#),
        ("[fetch]\nretry = true\n", r#"there is no key "retry" in [fetch]"#),
        ("home = \"/x\"\n", "can't name one: leave out home"),
        ("plain = 1\n", "plain: true or false is wanted"),
        ("serve = 1\n", "serve is a table"),
        ("[serve]\nlimit = \"fast\"\n", "limit: invalid value 'fast' for '--limit <RATE>'"),
        ("[serve]\nport = 80\n", "port: invalid value '80'"),
        ("plain = \n", "the configuration file"),
        ("\"\\u001b[2J\" = 1\n", "there is no key"),
    ] {
        write_config(&bob, text);
        bob.peer(["whoami"]).run().exits(2).is_plain().says(why).says("config.toml: ");
    }
    bob.peer(["--no-config", "whoami"]).run().exits(0);
    // Who can write the file chooses the tracker.
    write_config(&bob, "plain = true\n");
    std::fs::set_permissions(bob.home().join("config.toml"), Permissions::from_mode(0o666)).unwrap();
    bob.peer(["whoami"]).run().exits(2).says("chmod go-w ");
}

#[test]
fn without_a_named_folder_the_file_is_in_that_of_configurations() {
    let lab = Lab::start();
    files::write(lab.join(".config/vizinho/config.toml"), format!("home = {:?}\n", lab.join("here")));
    let bob = lab.user("bob");
    std::fs::rename(bob.home(), lab.join("here")).unwrap();
    let program = tests::binaries::binary("peer");
    tests::Invocation::new(program, lab.path()).args(["whoami"]).run().exits(0).prints("bob");
}

#[test]
fn names_that_are_nearly_right_are_offered() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    bob.share([lab.file("report of may.pdf", 10), lab.file("photo.jpg", 10)]);
    let _his = bob.serve();
    for (args, meant) in [
        (&["chat", "bbo", "hi"][..], "; did you mean bob?"),
        (&["fetch", "bbo", "x"], "; did you mean bob?"),
        (&["files", "boob"], "; did you mean bob?"),
        (&["trust", "bobb"], "; did you mean bob?"),
        (&["fetch", "bob", "Photo.JPG"], "; did you mean photo.jpg?"),
        (&["fetch", "bob", "phtoo.jpg"], "; did you mean photo.jpg?"),
        // Ready to be pasted.
        (&["fetch", "bob", "report"], "; did you mean 'report of may.pdf'?"),
    ] {
        alice.peer(args).run().is_plain().says(meant);
    }
    let unlike = alice.peer(["fetch", "zoe", "x"]).run();
    assert!(!unlike.exits(4).err().contains("did you mean"), "{unlike}");
    let wrong = alice.peer(["--json", "chat", "bbo", "hi"]).run();
    wrong.exits(4);
    assert_eq!(wrong.object("error")["code"], "unavailable");
    alice.peer(["room", "create", "lab"]).run().exits(0);
    alice.peer(["chat", "#lba", "hi"]).run().says("; did you mean '#lab'?");
    bob.peer(["room", "join", "lbb"]).run().says("; did you mean '#lab'?");
    // Another case is a name already, and told.
    alice.peer(["chat", "BOB", "hi"]).run().exits(0).says("nobody is called BOB: this is for bob");
}

#[test]
fn a_room_that_the_shell_took_for_a_comment_is_explained() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    for line in ["chat #lab", "files #lab", "fetch #lab x", "room join #lab", "share x --room #lab"] {
        let typed = bob.peer([""; 0]).through_shell(&format!("\"$@\" {line}")).run();
        typed.exits(2).says("a shell takes #lab for a comment: quote it, '#lab'");
    }
    // Without a name these list.
    let listed = bob.peer([""; 0]).through_shell("\"$@\" send #lab x").run();
    listed.exits(0).says("a shell takes #lab for a comment: quote it, '#lab'");
    bob.peer([""; 0]).through_shell("\"$@\" mute #lab").run().exits(0).says("'#ROOM'");
}

#[test]
fn a_name_that_begins_with_a_dash_is_explained_whole() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    bob.peer(["fetch", "alice", "-dash.txt"]).run().exits(2).says("follows --: `-- -dash.txt`");
}

#[test]
fn a_profile_moves_to_another_machine() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    alice.peer(["room", "create", "lab"]).run().exits(0);
    bob.peer(["room", "join", "lab"]).run().exits(0);
    let key = bob.fingerprint();
    let node = bob.serve();
    alice.peer(["chat", "bob", "before the move"]).run().exits(0);
    node.wait_for("before the move");
    let file = lab.join("bob.vizinho");
    let export = || bob.peer(["profile", "export"]).arg(&file);
    export().run().exits(1).says("`peer stop` ends it");
    assert!(!file.exists());
    bob.peer(["stop"]).run().exits(0);
    node.finish().exits(0);
    export().run().exits(0).says("goes online here no more");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for args in [&["serve"][..], &["chat", "alice", "from the old place"], &["list"]] {
        bob.peer(args).run().exits(3).says("moved away with ").says("`peer profile export --cancel` keeps it here");
    }
    let moved = lab.join("moved");
    let elsewhere = |args: &[&str]| bob.peer(args).env("VIZINHO_HOME", &moved);
    elsewhere(&["profile", "import"]).arg(&file).run().exits(0).says("bob is here now");
    elsewhere(&["profile", "import"]).arg(&file).run().exits(10).says("there is a profile in ");
    let account = elsewhere(&["--json", "whoami"]).run().exits(0).object("account");
    assert_eq!(account["fingerprint"], key);
    let node = elsewhere(&["serve"]).start();
    node.wait_for("online as bob at ");
    elsewhere(&["history", "alice"]).run().exits(0).prints("before the move");
    alice.peer(["chat", "bob", "after the move"]).run().exits(0);
    node.wait_for("after the move");
    let _hers = alice.serve();
    elsewhere(&["chat", "#lab", "in the room as well"]).run().exits(0);
    alice.peer(["history", "#lab"]).run().exits(0).prints("in the room as well");
}

#[test]
fn an_export_that_nobody_imported_can_be_taken_back() {
    let lab = Lab::start();
    let (_alice, bob) = (lab.user("alice"), lab.user("bob"));
    let file = lab.join("bob.vizinho");
    bob.peer(["send", "alice", "-", "--name", "notes.txt", "--detach"]).stdin("text\n").run().exits(0);
    let exported = bob.peer(["profile", "export"]).arg(&file).run();
    exported.exits(0).says("not moved, because it came from standard input or the clipboard").says(": notes.txt.");
    bob.peer(["profile", "export", "--cancel"]).run().exits(0).says("bob stays here");
    bob.peer(["profile", "export", "--cancel"]).run().exits(0).says("bob never moved");
    bob.serve();
    let other = lab.stranger("other");
    other
        .peer(["profile", "import"])
        .arg(other.password_file())
        .run()
        .exits(2)
        .says("is no file of `peer profile export`");
    assert!(!other.home().exists());
}
