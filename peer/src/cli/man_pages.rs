//! The installed files: man pages and completions match the command line, and the files match each other.

use std::fs::{File, read_to_string};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use arguments::{with_translated_headings, with_translated_texts};
use clap::CommandFactory;
use localization::{Language, in_language, tr};

use super::args::CliArgs;
use super::translations::{TEXTS, use_translations};

fn packaging(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// Returns the last section of every page.
fn files_section() -> String {
    let account = tr!("The account's folder: its key, messages and shares. It is for its owner alone.");
    let configuration = tr!("The configuration, see {page}.", page = r"\fBpeer\-config\fR(1)");
    let folders = [(r"~/.local/share/vizinho", account), (r"~/.config/vizinho/config.toml", configuration)];
    let items = folders.map(|(path, text)| format!(".TP\n\\fI{path}\\fR\n{text}\n"));
    format!(".SH {}\n{}", tr!("FILES"), items.concat())
}

/// Escapes a line of text for troff.
fn troff(line: &str) -> String {
    let line = line.replace('\\', r"\e").replace('-', r"\-");
    if line.starts_with(['.', '\'']) { format!(r"\&{line}") } else { line }
}

/// Formats the texts below the options: a section of examples, then the notes. Indented lines stay lines.
fn help_sections(text: &str) -> String {
    let mut page = String::new();
    let examples = tr!("Examples:") + "\n";
    for (number, paragraph) in text.split("\n\n").enumerate() {
        let mut is_literal = false;
        match (number, paragraph.strip_prefix(&*examples)) {
            (_, Some(_)) => page.push_str(&format!(".SH {}\n", tr!("EXAMPLES"))),
            (1, None) => page.push_str(&format!(".SH {}\n", tr!("NOTES"))),
            _ => page.push_str(".PP\n"),
        }
        for line in paragraph.lines().filter(|line| *line != examples.trim_end()) {
            if line.starts_with("  ") != is_literal {
                is_literal = !is_literal;
                page.push_str(if is_literal { ".nf\n" } else { ".fi\n" });
            }
            page.push_str(&troff(line));
            page.push('\n');
        }
        if is_literal {
            page.push_str(".fi\n");
        }
    }
    page
}

/// Translates the headings of clap's sections.
fn with_translated_sections(page: String) -> String {
    let headings = [("NAME", tr!("NAME")), ("SYNOPSIS", tr!("SYNOPSIS")), ("DESCRIPTION", tr!("DESCRIPTION"))];
    headings.into_iter().fold(page, |page, (heading, translated)| {
        page.replace(&format!(".SH {heading}\n"), &format!(".SH {translated}\n"))
    })
}

/// Returns all pages, the program's own and one for each command, by their files' names.
fn pages() -> Vec<(String, String)> {
    fn add(command: &clap::Command, pages: &mut Vec<(String, String)>) {
        let man = clap_mangen::Man::new(command.clone());
        let mut page = Vec::new();
        man.render_title(&mut page).unwrap();
        man.render_name_section(&mut page).unwrap();
        man.render_synopsis_section(&mut page).unwrap();
        man.render_description_section(&mut page).unwrap();
        man.render_options_section(&mut page).unwrap();
        if command.has_subcommands() {
            man.render_subcommands_section(&mut page).unwrap();
        }
        let help =
            command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string).unwrap_or_default();
        let page = with_translated_sections(String::from_utf8(page).unwrap());
        let page = format!("{page}{}{}", help_sections(&help), files_section());
        pages.push((man.get_filename(), page));
        command.get_subcommands().for_each(|command| add(command, pages));
    }
    fn without_help(command: clap::Command) -> clap::Command {
        command.disable_help_subcommand(true).mut_subcommands(without_help)
    }
    // Of a build, only the version counts.
    let command = without_help(CliArgs::command().version(env!("CARGO_PKG_VERSION")));
    let mut command = with_translated_headings(with_translated_texts(command, &TEXTS), &TEXTS);
    command.build();
    let mut pages = Vec::new();
    add(&command, &mut pages);
    pages
}

/// `UPDATE_MAN=1 cargo test -p peer --lib man_pages` writes pages and completions anew.
#[test]
fn the_man_pages_are_current() {
    use_translations();
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
        assert!(current == *page, "{name} is not current: see above how to write it anew");
        // Every page that it refers to exists.
        for word in
            page.replace("\\fR", "").replace('\\', "").split(|c: char| !(c.is_alphanumeric() || "-()".contains(c)))
        {
            if let Some(other) = word.strip_suffix("(1)").map(|other| other.trim_start_matches("fB")) {
                assert!(pages.iter().any(|(name, _)| *name == format!("{other}.1")), "{name} refers to {word}");
            }
        }
    }
    let files = folder.read_dir().unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
    let names = files.map(|entry| entry.file_name().into_string().unwrap());
    let mut old = names.filter(|found| !pages.iter().any(|(name, _)| name == found));
    assert_eq!(old.next(), None, "of no command any more");
}

#[test]
fn the_installed_completions_are_those_of_the_program() {
    for (name, script) in crate::commands::completions::INSTALLED_SCRIPTS {
        let path = packaging("completions").join(name);
        if std::env::var_os("UPDATE_MAN").is_some() {
            File::create(&path).unwrap().write_all(script.as_bytes()).unwrap();
        }
        assert!(read_to_string(&path).unwrap_or_default() == script, "{name} is not current: see above");
    }
}

/// Returns the lines that a checker of this machine has against a file; none where it isn't installed.
fn complaints(checker: &str, args: &[&str], file: &str) -> Vec<String> {
    let session = tempfile::tempdir().unwrap();
    let mut checker = Command::new(checker);
    checker.args(args).arg(packaging(file)).env("XDG_RUNTIME_DIR", session.path()).env("HOME", session.path());
    let Ok(checked) = checker.output() else {
        println!("skipped: {checker:?} can't be run");
        return Vec::new();
    };
    let said = [checked.stdout, checked.stderr].concat();
    String::from_utf8_lossy(&said).lines().map(str::to_owned).collect()
}

#[test]
fn the_unit_is_right_to_systemd() {
    let args = ["--user", "verify", "--man=no", "--recursive-errors=no"];
    let said = complaints("systemd-analyze", &args, "vizinho-peer.service");
    // The program isn't installed here.
    let faults: Vec<&String> = said.iter().filter(|line| !line.contains("/usr/bin/peer is not executable")).collect();
    assert!(faults.is_empty(), "{said:?}");
    let unit = read_to_string(packaging("vizinho-peer.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/")).unwrap();
    CliArgs::read(line.split(' '), false).unwrap();
}

#[test]
fn the_desktop_entry_starts_a_command_and_has_its_icon() {
    let entry = read_to_string(packaging("vizinho-peer.desktop")).unwrap();
    let value =
        |key: &str| entry.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap().to_owned();
    CliArgs::read(value("Exec").split(' '), true).unwrap();
    assert!(packaging(&format!("{}.svg", value("Icon"))).exists());
    assert_eq!(complaints("desktop-file-validate", &[], "vizinho-peer.desktop"), [""; 0]);
}

#[test]
fn what_the_package_installs_is_there() {
    let manifest: toml::Table =
        read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap().parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets = deb["assets"].as_array().unwrap();
    let sources: Vec<&str> = assets.iter().map(|asset| asset[0].as_str().unwrap()).collect();
    for source in &sources {
        let is_there = match source.strip_suffix("/*.1") {
            Some(folder) => packaging("..").join(folder).read_dir().is_ok_and(|mut pages| pages.next().is_some()),
            None => packaging("..").join(source).exists(),
        };
        assert!(source.starts_with("target/") || is_there, "{source}");
    }
    // Nothing is made for the package and then forgotten.
    for entry in packaging("").read_dir().unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        let name = format!("packaging/{}", entry.file_name().to_string_lossy());
        assert!(sources.contains(&&*name), "{name} is not installed");
    }
}
