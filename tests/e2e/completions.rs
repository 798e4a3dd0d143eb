//! Completion of command lines, in the shells themselves.

use std::path::Path;
use std::time::{Duration, Instant};

use tests::{Invocation, Lab, Screen, Terminal, User, binaries, make_room, poll_until};

/// Time after which a line is typed anew. The node is asked for 50 ms only, which a busy machine may exceed.
const RETYPE_INTERVAL: Duration = Duration::from_secs(3);

/// A shell of its own with the completion of `peer`, for a user's profile.
struct Shell {
    terminal: Terminal,
}

impl Shell {
    /// Starts the shell; `None`, and a word about it, where it isn't installed.
    fn start(lab: &Lab, user: &User<'_>, name: &str) -> Option<Self> {
        if !is_installed(name) {
            println!("skipped: {name} is not installed");
            return None;
        }
        let (args, load): (&[&str], _) = match name {
            "bash" => (&["--norc", "--noprofile", "-i"], "source <(peer completions bash)"),
            "zsh" => (
                &["-f", "-i"],
                "PROMPT='$ '; autoload -U compinit; compinit -D -u; zstyle ':completion:*' list-prompt ''; source <(peer completions zsh)",
            ),
            _ => (&["--no-config", "-i"], "peer completions fish | source"),
        };
        let shell = Invocation::new(name, lab.path())
            .args(args)
            .env("PATH", path_with_binaries())
            .env("PS1", "$ ")
            .env("VIZINHO_HOME", user.home())
            .env("VIZINHO_TRACKER", lab.address())
            .in_terminal(100, 24);
        let mut shell = Self { terminal: shell };
        shell.terminal.wait_for_screen("a prompt", |screen| !screen.visible().trim().is_empty());
        shell.terminal.press(&format!("{load}; echo load''ed\r"));
        shell.terminal.wait_for("loaded");
        Some(shell)
    }

    /// Types this, then a tab, and waits until the line is `wanted`. The line is gone afterwards.
    fn completes(&mut self, typed: &str, wanted: &str) {
        self.types(&format!("{typed}\t"), wanted, |screen| screen.cursor_line().trim_end().ends_with(wanted));
    }

    /// Types this, then tabs, and waits until all of these are offered.
    fn offers(&mut self, typed: &str, wanted: &[&str]) {
        self.types(&format!("{typed}\t\t"), &wanted.join(", "), |screen| {
            wanted.iter().all(|word| screen.visible().contains(word))
        });
    }

    fn types(&mut self, keys: &str, wanted: &str, is_right: impl Fn(&Screen) -> bool) {
        self.terminal.press(keys);
        let mut typed = Instant::now();
        poll_until(
            || {
                if is_right(&self.terminal.screen()) {
                    return Some(());
                }
                if typed.elapsed() > RETYPE_INTERVAL {
                    self.clear();
                    self.terminal.press(keys);
                    typed = Instant::now();
                }
                None
            },
            || format!("{keys:?} did not become {wanted:?}"),
        );
        self.clear();
    }

    /// Removes what was typed: all three take Ctrl-U for that.
    fn clear(&mut self) {
        self.terminal.press("\u{15}");
    }
}

fn is_installed(name: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(name).exists())
}

fn path_with_binaries() -> std::ffi::OsString {
    let program = binaries::binary("peer");
    let own = program.parent().map(Path::to_owned);
    let others = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(own.into_iter().chain(std::env::split_paths(&others))).expect("a path")
}

/// Completes commands, options, people, rooms and shared names in a shell.
fn all_is_completed(name: &str) {
    let lab = Lab::start();
    let (alice, bob, carol) = (lab.user("alice"), lab.user("bob"), lab.user("carolina"));
    lab.file("report of may.pdf", 100);
    lab.file("photos/1.jpg", 100);
    bob.share([lab.join("report of may.pdf"), lab.join("photos")]);
    let (_hers, _his, _carols) = (alice.serve(), bob.serve(), carol.serve());
    make_room(&[&alice, &bob]);
    alice.peer(["send", "bob", "--detach"]).arg(lab.file("budget.ods", 10)).run().exits(0);
    let Some(mut shell) = Shell::start(&lab, &alice, name) else { return };
    shell.completes("peer sends end bu", "peer sends end budget.ods");
    shell.completes("peer fet", "peer fetch");
    shell.completes("peer --no-m", "peer --no-mdns");
    shell.completes("peer --color=alw", "peer --color=always");
    shell.completes("peer fetch --if-exists ov", "peer fetch --if-exists overwrite");
    shell.completes("peer chat car", "peer chat carolina");
    shell.completes("peer room members la", "peer room members lab");
    shell.completes("peer fetch bob ph", "peer fetch bob photos/");
    shell.completes("peer chat '#l", "peer chat '#lab'");
    shell.offers("peer chat ", &["bob", "carolina"]);
    // What a shell would take apart is quoted or escaped.
    shell.types("peer fetch bob rep\t", "a name with blanks", |screen| {
        let line = screen.cursor_line();
        line.contains("'report of may.pdf'") || line.contains(r"report\ of\ may.pdf")
    });
    lab.file("local-file.txt", 1);
    shell.completes("peer share local-f", "peer share local-file.txt");
}

#[test]
fn bash_completes_commands_people_rooms_and_names() {
    all_is_completed("bash");
}

#[test]
fn zsh_completes_commands_people_rooms_and_names() {
    all_is_completed("zsh");
}

#[test]
fn fish_completes_commands_people_rooms_and_names() {
    all_is_completed("fish");
}

#[test]
fn without_a_node_nobody_is_offered_and_nothing_is_said() {
    let lab = Lab::start();
    let bob = lab.user("bob");
    let ask = |line: &str| bob.peer(["completions", "--of", "bash", "--", line]).run();
    assert_eq!(ask("peer chat ").exits(0).prints_exactly("words\n").err(), "");
    assert_eq!(ask("peer share ").exits(0).prints_exactly("files\n").err(), "");
    ask("peer sto").prints_exactly("words\nstop\n");
    // A folder that is no account, and a line that is no command.
    assert_eq!(ask("peer --home /nowhere chat ").exits(0).prints_exactly("words\n").err(), "");
    assert_eq!(ask("peer nonsense x ").exits(0).err(), "");
    bob.peer(["completions", "tcsh"]).run().exits(2).says("[possible values: bash, zsh, fish]");
}

#[test]
fn a_node_that_does_not_answer_holds_no_line_up() {
    let lab = Lab::start();
    let (alice, _bob) = (lab.user("alice"), lab.user("bob"));
    let node = alice.serve();
    node.freeze();
    let begun = Instant::now();
    alice.peer(["completions", "--of", "bash", "--", "peer chat "]).run().exits(0).prints_exactly("words\n");
    // Far more than the 50 ms for a loaded machine, far less than any other command waits.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    node.thaw();
}
