//! The installed files: the man pages match the command line, and the files match each other.

#![expect(clippy::unwrap_used, reason = "a test says by a panic what is wrong")]

use std::fs::{File, read_to_string};
use std::io::Write;
use std::path::{Path, PathBuf};

use arguments::{with_translated_headings, with_translated_texts};
use clap::CommandFactory;
use clap_complete::Shell;
use localization::{Language, in_language, tr};
use tracker::daemon::{TrackerArgs, TrackerSettings, translations, use_translations};

fn packaging(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// Returns the sections that every page has besides those of the command line.
fn more_sections() -> String {
    let item = |name: &str, text: String| format!(".TP\n{name}\n{text}\n");
    let environment = [
        item(
            r"\fBVIZINHO_TRACKER_LOG\fR",
            tr!("How much to log, as {option}, which comes first.", option = r"\fB\-\-log\fR"),
        ),
        item(
            r"\fBPGPASSWORD\fR, \fBPGPASSFILE\fR",
            tr!(
                "The password of the database that {option} names, before those of {file}.",
                option = r"\fB\-\-store\fR",
                file = r"\fI~/.pgpass\fR"
            ),
        ),
        item(r"\fBNO_COLOR\fR", tr!("Anything but nothing: no colours in the log.")),
        item(
            r"\fBLC_ALL\fR, \fBLC_MESSAGES\fR, \fBLANG\fR, \fBLANGUAGE\fR",
            tr!("The language of messages and help, unless {option} says it.", option = r"\fB\-\-lang\fR"),
        ),
        item(
            r"\fBLISTEN_FDS\fR, \fBLISTEN_PID\fR, \fBNOTIFY_SOCKET\fR, \fBWATCHDOG_USEC\fR",
            tr!(
                "From the service manager: the socket to listen on, and whom to tell that the tracker is ready and well."
            ),
        ),
    ];
    let files = [
        item(r"\fI/etc/vizinho/tracker.toml\fR", tr!("The configuration of the service: each long option is a key.")),
        item(
            r"\fI~/.pgpass\fR",
            tr!(
                "Passwords of databases, as {program} reads them: {line} on each line. Ignored if others may read it.",
                program = r"\fBpsql\fR",
                line = r"\fIHOST:PORT:DATABASE:USER:PASSWORD\fR"
            ),
        ),
        item(r"\fI/var/lib/vizinho\-tracker\fR", tr!("The data folder of the service, and of root.")),
        format!(".PP\n{}\n", tr!("In the data folder, which only its owner may open:")),
        item(
            r"\fItracker.db\fR",
            tr!(
                "Accounts, hashes of their passwords and the keys they are bound to, rooms and their members; with {file}, which belongs to it.",
                file = r"\fItracker.db\-wal\fR"
            ),
        ),
        item(r"\fIpresence.db\fR", tr!("Who is online and the tokens of their sessions, for the next start.")),
        item(
            r"\fIidentity/identity.pem\fR",
            tr!("The tracker's certificate and its secret key. Clients know the tracker by it.").replace('\'', r"\(aq"),
        ),
        item(r"\fIcontrol.sock\fR", tr!("Where the commands ask the running tracker.")),
        item(r"\fIlock\fR", tr!("Held by the tracker that runs on the folder.")),
        item(r"\fIbefore\-restore\-N\fR", tr!("What was there before a backup was restored.")),
    ];
    let status =
        tr!("0: done. 1: not done, standard error says why. 2: the command line or the configuration file is wrong.");
    let sections = [
        (tr!("ENVIRONMENT"), environment.concat()),
        (tr!("FILES"), files.concat()),
        (tr!("EXIT STATUS"), format!("{status}\n")),
    ];
    sections.map(|(heading, text)| format!(".SH {heading}\n{text}")).concat()
}

/// Returns the section about accounts in PostgreSQL.
fn postgres_section() -> String {
    let begin = tr!(
        "With {option} accounts, keys and rooms are in a PostgreSQL database, version 13 or later, instead of {file}. One tracker uses it at a time: a second one is refused. The key, and who is online, stay in the data folder. As Debian installs it:",
        option = r"\fB\-\-store\fR",
        file = r"\fItracker.db\fR"
    );
    let commands = [
        "sudo apt install postgresql",
        r"sudo \-u postgres createuser \-\-pwprompt tracker",
        r"sudo \-u postgres createdb \-E UTF8 \-T template0 \-O tracker vizinho",
        r"tracker migrate \-\-from DIR \-\-to postgres://tracker@db.example.org/vizinho",
        r"tracker \-\-data\-dir DIR \-\-store postgres://tracker@db.example.org/vizinho",
    ];
    let faults = tr!(
        "Every change is one transaction, and is answered when it is committed. A change whose answer the server could not give is looked up; while the database is away, changes are refused with {code} and nothing else ends: who is online stays listed and is found, and keys log in. {command} says which database it is and whether it can be reached, and so do /healthz and the figure {figure}. Without a standby that commits with it ({setting}), a machine that is lost for good takes its last changes with it.",
        code = r"\fBbusy\fR",
        command = r"\fBtracker status\fR",
        figure = r"\fBtracker_store_reachable\fR",
        setting = r"\fBsynchronous_standby_names\fR"
    );
    let schema = tr!(
        "The schema is brought up to date at the start. A tracker of the version before still runs on it; one that is too old says so."
    );
    let heading = tr!("ACCOUNTS IN POSTGRESQL");
    format!(".SH {heading}\n{begin}\n.PP\n.nf\n{}\n.fi\n.PP\n{faults}\n.PP\n{schema}\n", commands.join("\n"))
}

/// Translates the headings of clap's sections.
fn with_translated_sections(page: String) -> String {
    let headings = [
        ("NAME", tr!("NAME")),
        ("SYNOPSIS", tr!("SYNOPSIS")),
        ("DESCRIPTION", tr!("DESCRIPTION")),
        ("VERSION", tr!("VERSION")),
    ];
    headings.into_iter().fold(page, |page, (heading, translated)| {
        page.replace(&format!(".SH {heading}\n"), &format!(".SH {translated}\n"))
    })
}

/// The command line as it is documented: of a build, only the version counts.
fn command() -> clap::Command {
    TrackerArgs::command().version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true)
}

/// All pages: the tracker's own and one for each command, by their files' names.
fn pages() -> Vec<(String, String)> {
    fn add(command: &clap::Command, pages: &mut Vec<(String, String)>) {
        let man = clap_mangen::Man::new(command.clone());
        let (mut page, mut rest) = (Vec::new(), Vec::new());
        man.render_title(&mut page).unwrap();
        man.render_name_section(&mut page).unwrap();
        man.render_synopsis_section(&mut page).unwrap();
        man.render_description_section(&mut page).unwrap();
        man.render_options_section(&mut page).unwrap();
        if command.has_subcommands() {
            man.render_subcommands_section(&mut page).unwrap();
        }
        if command.get_version().is_some() {
            man.render_version_section(&mut rest).unwrap();
        }
        page.extend_from_slice(more_sections().as_bytes());
        page.extend_from_slice(&rest);
        if command.get_name() == "tracker" {
            page.extend_from_slice(postgres_section().as_bytes());
        }
        pages.push((man.get_filename(), with_translated_sections(String::from_utf8(page).unwrap())));
        command.get_subcommands().for_each(|command| add(command, pages));
    }
    let mut command = with_translated_headings(with_translated_texts(command(), translations()), translations());
    command.build();
    let mut pages = Vec::new();
    add(&command, &mut pages);
    pages
}

/// `UPDATE_MAN=1 cargo test -p tracker --test packaging` writes the pages anew.
#[test]
fn the_man_pages_are_current() {
    use_translations();
    // The texts of this file are in the catalogue of the program.
    localization::use_catalogue!(translations());
    for (language, folder) in [(Language::English, "man"), (Language::Portuguese, "man/pt_BR/man1")] {
        check_pages(&in_language(language, pages), &packaging(folder));
    }
}

fn check_pages(pages: &[(String, String)], folder: &Path) {
    if std::env::var_os("UPDATE_MAN").is_some() {
        for (name, page) in pages {
            File::create(folder.join(name)).unwrap().write_all(page.as_bytes()).unwrap();
        }
    }
    for (name, page) in pages {
        let current = read_to_string(folder.join(name)).unwrap_or_default();
        assert_eq!(current, *page, "{name}: see above how to write it anew");
        // Every page that it refers to exists.
        for word in page.replace('\\', "").split(|c: char| !(c.is_alphanumeric() || "-()".contains(c))) {
            if let Some(other) = word.strip_suffix("(1)") {
                assert!(pages.iter().any(|(name, _)| *name == format!("{other}.1")), "{name} refers to {word}");
            }
        }
    }
    let files = folder.read_dir().unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
    let names = files.map(|entry| entry.file_name().into_string().unwrap());
    let mut old = names.filter(|found| !pages.iter().any(|(name, _)| name == found));
    assert_eq!(old.next(), None, "of no command any more");
}

/// `UPDATE_MAN=1` writes these anew as well.
#[test]
fn the_completions_are_current() {
    let mut command = command();
    for (name, shell) in [("tracker.bash", Shell::Bash), ("_tracker", Shell::Zsh), ("tracker.fish", Shell::Fish)] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "tracker", &mut script);
        let path = packaging("completions").join(name);
        if std::env::var_os("UPDATE_MAN").is_some() {
            File::create(&path).unwrap().write_all(&script).unwrap();
        }
        assert!(
            read_to_string(&path).unwrap_or_default().as_bytes() == script,
            "{name}: see above how to write it anew"
        );
    }
}

/// Checks the units with the service manager, where it is installed; elsewhere nothing is tested.
#[test]
fn the_units_are_right_to_systemd() {
    let verify = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args([packaging("units/vizinho-tracker.service"), packaging("vizinho-tracker.socket")])
        .output();
    let Ok(verify) = verify else {
        return;
    };
    let said = String::from_utf8_lossy(&verify.stderr);
    // The program isn't installed here.
    let faults: Vec<&str> =
        said.lines().filter(|line| line.contains("vizinho") && !line.contains("executable")).collect();
    assert!(faults.is_empty(), "{said}");
}

#[test]
fn the_installed_configuration_is_one() {
    let path = packaging("tracker.toml");
    let words = ["tracker".into(), "--config".into(), path.clone().into_os_string()];
    let settings = TrackerSettings::resolve(&words).unwrap();
    assert_eq!(settings.args.data_folder(), Some("/var/lib/vizinho-tracker".into()));
    // Values that are commented out must be valid as well.
    let all: String = read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") && !rest.contains('`') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let table: toml::Table = all.parse().unwrap();
    assert_eq!(table.len(), 5);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.toml");
    File::create(&path).unwrap().write_all(all.as_bytes()).unwrap();
    TrackerSettings::resolve(&["tracker".into(), "--config".into(), path.into_os_string()]).unwrap();
}

#[test]
fn what_the_package_installs_is_there() {
    let manifest: toml::Table =
        read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap().parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    for asset in deb["assets"].as_array().unwrap() {
        let source = asset[0].as_str().unwrap();
        let built = source.starts_with("target/");
        let is_there = match source.strip_suffix("/*.1") {
            Some(folder) => packaging("..").join(folder).read_dir().is_ok_and(|mut pages| pages.next().is_some()),
            None => packaging("..").join(source).exists(),
        };
        assert!(built || is_there, "{source}");
    }
    let unit = read_to_string(packaging("units/vizinho-tracker.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/tracker --config /etc/vizinho/tracker.toml"));
}
