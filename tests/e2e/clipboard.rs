//! The clipboard: sent to somebody, and filled with what somebody sent. The programs that know it are scripts here.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tests::files::{self, assert_content, names_in};
use tests::{Invocation, Lab, Process, User};

/// A desktop's clipboard, whose content stands in files: `text`, or `image`.
struct FakeClipboard {
    folder: PathBuf,
}

impl FakeClipboard {
    /// Installs the programs of X11 that are named.
    fn install(lab: &Lab, name: &str, scripts: &[(&str, &str)]) -> Self {
        let folder = lab.empty_folder(name);
        for (program, script) in scripts {
            let script = format!("#!/bin/bash\ncd {folder:?}\nprintf '%s ' \"$@\" >> calls\necho >> calls\n{script}\n");
            let program = files::write(folder.join("bin").join(program), script);
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    fn xclip(lab: &Lab, name: &str) -> Self {
        let script = r#"case "$*" in
            *TARGETS*) [ -e text ] && echo UTF8_STRING; [ -e image ] && echo image/png; [ -e text ] || [ -e image ] ;;
            *image/png*) cat image ;;
            *-out*) cat text ;;
            *-in*) cat > text ;;
        esac"#;
        Self::install(lab, name, &[("xclip", script)])
    }

    fn wayland(lab: &Lab, name: &str) -> Self {
        let paste = r#"case "$*" in
            *--list-types*) [ -e text ] && echo 'text/plain;charset=utf-8'; [ -e image ] && echo image/png ;;
            *image/png*) cat image ;;
            *) cat text ;;
        esac"#;
        // What serves the clipboard afterwards keeps the streams open.
        Self::install(lab, name, &[("wl-paste", paste), ("wl-copy", "cat > text\nsleep 60 &")])
    }

    fn path(&self) -> PathBuf {
        self.folder.join("bin")
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        files::write(self.folder.join(name), content);
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.folder.join("text")).unwrap_or_default()
    }

    fn is_in(&self, command: Invocation) -> Invocation {
        in_session(command, &self.path(), "DISPLAY")
    }
}

/// Runs a command in a session whose programs are in `folder`, and those of the system.
fn in_session(command: Invocation, folder: &Path, display: &str) -> Invocation {
    let path = std::env::join_paths([folder, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    command.env("PATH", path).env(display, ":nowhere")
}

/// Lets bob take what alice sends; returns their nodes.
fn meet(lab: &Lab, alice: &User<'_>, bob: &User<'_>) -> (Process, Process) {
    let (hers, his) = (alice.serve(), bob.serve());
    alice.peer(["chat", "bob", "hello"]).run().exits(0);
    bob.peer(["chat", "alice", "hello"]).run().exits(0);
    bob.peer(["accept", "alice", "--into"]).arg(lab.join("from-alice")).run().exits(0);
    (hers, his)
}

#[test]
fn the_clipboard_is_sent_as_a_text_or_an_image() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, _his) = meet(&lab, &alice, &bob);
    let into = lab.join("from-alice");
    let clipboard = FakeClipboard::xclip(&lab, "desktop");
    let send = |args: &[&str]| clipboard.is_in(alice.peer(["send", "bob", "--clipboard"]).args(args)).run();
    send(&[]).exits(5).says("the clipboard is empty, or has neither text nor a PNG image");
    clipboard.put("image", [0x89, b'P', b'N', b'G', 0, 1, 2]);
    send(&[]).exits(0).says("bob has clipboard.png (7 B)");
    assert_content(into.join("clipboard.png"), &[0x89, b'P', b'N', b'G', 0, 1, 2]);
    clipboard.put("text", "ol\u{e1}\n\u{1b}[31m");
    send(&[]).exits(0).says("bob has clipboard.txt");
    // The bytes are the sender's own: what shows them has to be careful.
    assert_content(into.join("clipboard.txt"), "ol\u{e1}\n\u{1b}[31m".as_bytes());
    send(&["--name", "notes.md"]).exits(0).says("bob has notes.md");
    send(&["file"]).exits(2);
    assert!(names_in(alice.home().join("sent")).is_empty(), "the copies are gone");

    // Two that wait have different names.
    bob.peer(["accepts", "pause", "alice"]).run().exits(0);
    for text in ["one", "two"] {
        clipboard.put("text", text);
        send(&["--detach"]).exits(0);
    }
    alice
        .peer(["sends"])
        .run()
        .exits(0)
        .prints("clipboard.txt (3 B)  waiting")
        .prints("clipboard-2.txt (3 B)  waiting");

    let nothing = lab.empty_folder("nothing");
    in_session(alice.peer(["send", "bob", "--clipboard"]), &nothing, "WAYLAND_DISPLAY")
        .env("PATH", &nothing)
        .run()
        .exits(1)
        .says("`sudo apt install wl-clipboard` installs one");
    alice.peer(["send", "bob", "--clipboard"]).run().exits(1).says("neither WAYLAND_DISPLAY nor DISPLAY is set");
}

#[test]
fn the_last_text_of_somebody_goes_into_the_clipboard() {
    let lab = Lab::start();
    let [alice, bob, mallory] = ["alice", "bob", "mallory"].map(|name| lab.user(name));
    let (_hers, his) = meet(&lab, &alice, &bob);
    let clipboard = FakeClipboard::wayland(&lab, "desktop");
    let home = lab.empty_folder("home");
    let clip = |args: &[&str]| {
        in_session(bob.peer(["clip"]).args(args), &clipboard.path(), "WAYLAND_DISPLAY").env("HOME", &home).run()
    };
    alice.peer(["chat", "bob", "two\nlines\tand a tab"]).run().exits(0);
    clip(&["alice"]).exits(0).says("the text of alice of ").says("is in the clipboard (19 bytes)");
    assert_eq!(clipboard.text(), "two\nlines\tand a tab");
    // A stranger's doesn't count unless the name is given.
    mallory.peer(["chat", "bob", "paste this"]).run().exits(0);
    clip(&[]).exits(0).says("alice");
    clip(&["mallory"]).exits(0);
    assert_eq!(clipboard.text(), "paste this");
    clip(&["carol"]).exits(5).says("carol sent no text");

    // A clipboard that she sent: accepted already, then one that waits.
    let hers = FakeClipboard::xclip(&lab, "hers");
    hers.put("text", "from her clipboard\r\n");
    hers.is_in(alice.peer(["send", "bob", "--clipboard"])).run().exits(0);
    clip(&["alice"]).exits(0);
    assert_eq!(clipboard.text(), "from her clipboard");
    bob.peer(["accepts", "end", "alice"]).run().exits(0);
    hers.put("text", "one more");
    let send = hers.is_in(alice.peer(["send", "bob", "--clipboard"])).start();
    his.wait_for_nth("wants to send you clipboard.txt", 2);
    let told = in_session(bob.peer(["--json", "clip", "alice"]), &clipboard.path(), "WAYLAND_DISPLAY");
    let told = told.env("HOME", &home).run();
    let told = told.exits(0).object("clip");
    assert_eq!((&told["from"], &told["bytes"], &told["way"]), (&"alice".into(), &8.into(), &"desktop".into()));
    assert_eq!(clipboard.text(), "one more");
    send.finish().exits(0).says("bob has clipboard.txt");
    assert_content(home.join("From-alice/clipboard.txt"), b"one more");

    // A file that isn't text is passed over, and so is nothing hostile.
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("film.mkv", 10)).run().exits(0);
    his.wait_for("wants to send you film.mkv");
    clip(&["alice"]).exits(0);
    assert_eq!(clipboard.text(), "one more");
    hers.put("text", "\u{1b}[201~rm -rf ~");
    let send = hers.is_in(alice.peer(["send", "bob", "--clipboard"])).start();
    his.wait_for_nth("wants to send you clipboard.txt", 3);
    clip(&["alice"]).exits(6).says("could run something where it is pasted").says("`peer history alice` shows it");
    assert_eq!(clipboard.text(), "one more");
    send.finish().exits(0);
    // What it has is kept.
    assert_content(home.join("From-alice/clipboard (1).txt"), b"\x1b[201~rm -rf ~");
}

#[test]
fn a_terminal_takes_the_text_where_there_is_no_desktop() {
    let lab = Lab::start();
    let (alice, bob) = (lab.user("alice"), lab.user("bob"));
    let (_hers, _his) = meet(&lab, &alice, &bob);
    alice.peer(["chat", "bob", "ol\u{e1}"]).run().exits(0);
    bob.peer(["clip", "alice"]).run().exits(1).says("neither WAYLAND_DISPLAY nor DISPLAY is set");
    let terminal = bob.peer(["clip", "alice"]).in_terminal(80, 24);
    let (ended, screen) = terminal.finish();
    ended.exits(0);
    assert!(screen.text().contains("the terminal was asked to take the text of alice"), "{}", screen.text());
    assert!(ended.out().contains("\u{1b}]52;c;b2zDoQ==\u{1b}\\"), "{:?}", ended.out());
}
