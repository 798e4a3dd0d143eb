//! The configuration file: options of the command line as keys of a TOML file.
//!
//! A value becomes the default of its option: so the option on the command line and the environment count more, clap
//! checks them all the same way, and a default conflicts with nothing.

use std::io::{ErrorKind as IoErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use arguments::error_reason;
use clap::error::ErrorKind as ClapErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, ValueHint};
use localization::{Language, tr};
use shared::safe_text::{safe_line, safe_path};

use crate::commands::config::{ConfigReport, EffectiveSetting, SettingOrigin};
use crate::sys::is_trusted_uid;
use crate::util::misspelling::misspelling_distance;

/// The commands that have a table of their own in the file.
const TABLES: [&str; 2] = ["serve", "fetch"];
/// Options that say what one run does: they are no keys.
const KEYS_NOT_IN_FILE: [&str; 6] = ["help", "version", "no-config", "retry", "follow", "delete"];
const FILE_NAME: &str = "config.toml";
/// Bytes of a file at most.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Permission bits by which others could write the file.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The configuration file of one run.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    /// True if the folder of the account was named, so that the file is in it.
    is_in_home: bool,
    values: Vec<FileValue>,
}

/// One value of the file, checked.
#[derive(Debug)]
struct FileValue {
    table: Option<&'static str>,
    key: String,
    /// Several for an option that takes a list.
    texts: Vec<String>,
}

/// Returns where the file is: in the account's folder if that was named, else in the XDG configuration folder.
pub(super) fn config_path(home: Option<&Path>) -> Option<PathBuf> {
    match home {
        Some(home) => Some(home.join(FILE_NAME)),
        None => {
            let folders = directories::ProjectDirs::from("", "", "vizinho")?;
            // A relative one would be another in each working folder, with somebody else's file perhaps.
            Some(folders.config_dir().join(FILE_NAME)).filter(|path| path.is_absolute())
        }
    }
}

/// Returns the language that the file chooses; `None` if it chooses none or can't be read, which is told later.
pub(super) fn configured_language(home: Option<&Path>) -> Option<Language> {
    let text = read_text(&config_path(home)?).ok()??;
    text.parse::<toml::Table>().ok()?.get("lang")?.as_str()?.parse().ok()
}

impl ConfigFile {
    /// Reads and checks the file; `None` if there is none. `command` makes that of the whole command line.
    ///
    /// # Errors
    /// The file can't be read or isn't safe, or a key or value is wrong.
    pub(super) fn read(
        home: Option<&Path>,
        command: impl FnOnce() -> clap::Command,
    ) -> Result<Option<Self>, clap::Error> {
        let Some(path) = config_path(home) else { return Ok(None) };
        let wrong = |why: &str| {
            let text = tr!("the configuration file {path}: {why}", path = safe_path(&path), why);
            clap::Error::raw(ClapErrorKind::ValueValidation, text + "\n")
        };
        let Some(text) = read_text(&path).map_err(|why| wrong(&why))? else { return Ok(None) };
        let command = command();
        let table: toml::Table =
            text.parse().map_err(|why: toml::de::Error| wrong(&safe_lines(why.to_string().trim())))?;
        let mut file = Self { path: path.clone(), is_in_home: home.is_some(), values: Vec::new() };
        for (key, value) in &table {
            match (TABLES.into_iter().find(|table| *table == key.as_str()), value) {
                (Some(table), toml::Value::Table(values)) => {
                    let Some(owner) = command.find_subcommand(table) else { continue };
                    for (key, value) in values {
                        file.add(Some(table), owner, key, value).map_err(|why| wrong(&why))?;
                    }
                }
                (Some(table), _) => {
                    return Err(wrong(&tr!("{table} is a table: its keys follow a line [{table}]", table)));
                }
                (None, _) => file.add(None, &command, key, value).map_err(|why| wrong(&why))?,
            }
        }
        Ok(Some(file))
    }

    /// Checks one key and its value. Fails with what is wrong.
    fn add(
        &mut self,
        table: Option<&'static str>,
        owner: &clap::Command,
        key: &str,
        value: &toml::Value,
    ) -> Result<(), String> {
        let Some(arg) = keys(owner, table).into_iter().find(|arg| arg.get_long() == Some(key)) else {
            return Err(unknown_key(owner, table, key));
        };
        if key == "home" && self.is_in_home {
            return Err(tr!("this file is in the account's folder, so it can't name one: leave out home"));
        }
        let texts = texts_of(arg, value).map_err(|wanted| format!("{key}: {wanted}"))?;
        for text in &texts {
            check_value(arg, key, text).map_err(|why| format!("{key}: {why}"))?;
        }
        self.values.push(FileValue { table, key: key.to_owned(), texts });
        Ok(())
    }

    /// Makes the file's values the defaults of their options; those of `peer fetch` only `with_fetch`.
    pub(super) fn apply(&self, command: clap::Command, with_fetch: bool) -> clap::Command {
        self.values.iter().fold(command, |command, value| {
            // Not `mut_arg`, which moves the argument behind the others.
            let set = |command: clap::Command| {
                command.mut_args(|arg| match arg.get_long() == Some(value.key.as_str()) {
                    true => arg.default_values(value.texts.clone()),
                    false => arg,
                })
            };
            match value.table {
                None => set(command),
                Some("fetch") if !with_fetch => command,
                Some(table) => command.mut_subcommand(table, set),
            }
        })
    }

    fn has(&self, table: Option<&str>, key: &str) -> bool {
        self.values.iter().any(|value| value.table == table && value.key == key)
    }
}

/// Describes the settings in force. `command` has the file's values as its defaults.
pub(super) fn report(
    command: &clap::Command,
    matches: &ArgMatches,
    path: Option<PathBuf>,
    file: Option<&ConfigFile>,
) -> ConfigReport {
    let mut settings = Vec::new();
    for table in std::iter::once(None).chain(TABLES.map(Some)) {
        let Some(owner) = table.map_or(Some(command), |table| command.find_subcommand(table)) else { continue };
        for arg in keys(owner, table) {
            let key = arg.get_long().unwrap_or_default().to_owned();
            let id = arg.get_id().as_str();
            let defaults =
                || arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
            let given = table.is_none().then(|| matches.value_source(id)).flatten();
            let (texts, origin) = match given {
                Some(ValueSource::CommandLine) => (raw_texts(matches, id), SettingOrigin::CommandLine),
                Some(ValueSource::EnvVariable) => (raw_texts(matches, id), SettingOrigin::Environment),
                _ if file.is_some_and(|file| file.has(table, &key)) => (defaults(), SettingOrigin::File),
                _ => (defaults(), SettingOrigin::Default),
            };
            let value = as_toml(arg, &texts, matches);
            settings.push(EffectiveSetting { table: table.map(str::to_owned), key, value, origin });
        }
    }
    ConfigReport { path: file.map(|file| file.path.clone()).or(path), is_read: file.is_some(), settings }
}

/// Returns the options that are keys of a table.
fn keys<'a>(owner: &'a clap::Command, table: Option<&str>) -> Vec<&'a Arg> {
    // A subcommand that is built has the options of all commands as well.
    let is_key = |arg: &&Arg| {
        arg.get_long().is_some_and(|long| !KEYS_NOT_IN_FILE.contains(&long)) && arg.is_global_set() == table.is_none()
    };
    owner.get_arguments().filter(is_key).collect()
}

fn raw_texts(matches: &ArgMatches, id: &str) -> Vec<String> {
    let raw = matches.get_raw(id).into_iter().flatten();
    raw.map(|value| value.to_string_lossy().into_owned()).collect()
}

/// Returns a setting as the file would have it.
fn as_toml(arg: &Arg, texts: &[String], matches: &ArgMatches) -> Option<toml::Value> {
    match arg.get_action() {
        // Of a flag in the environment, only clap knows what its text means.
        ArgAction::SetTrue if arg.is_global_set() => Some(matches.get_flag(arg.get_id().as_str()).into()),
        ArgAction::SetTrue => Some(texts.iter().any(|text| text == "true").into()),
        ArgAction::Count => Some(i64::from(matches.get_count(arg.get_id().as_str())).into()),
        _ if texts.is_empty() => None,
        _ if arg.get_value_delimiter().is_some() => Some(toml::Value::from(texts.to_vec())),
        _ => {
            let text = texts.last()?;
            Some(text.parse::<i64>().map_or_else(|_| toml::Value::from(text.clone()), toml::Value::from))
        }
    }
}

/// Returns the text of a file that nobody else could have written; `None` if there is no file.
fn read_text(path: &Path) -> Result<Option<String>, String> {
    let unreadable = |why: std::io::Error| tr!("it can't be read: {why}", why = crate::sys::plain_message(&why));
    // Looked at first: opening a pipe would wait for its writer.
    let is_file = match std::fs::metadata(path) {
        Ok(facts) => facts.is_file(),
        Err(why) if matches!(why.kind(), IoErrorKind::NotFound | IoErrorKind::NotADirectory) => return Ok(None),
        Err(why) => return Err(unreadable(why)),
    };
    if !is_file {
        return Err(tr!("it is no file"));
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // Of what was opened: another file may stand at the path by now.
    let facts = file.metadata().map_err(unreadable)?;
    if !is_trusted_uid(facts.uid()) {
        return Err(tr!("it belongs to somebody else"));
    }
    if facts.mode() & WRITABLE_BY_OTHERS != 0 {
        let path = crate::util::shell_words::shell_quote(&[&path.to_string_lossy()]);
        return Err(tr!("others can write it: look at it, then run `chmod go-w {path}`", path));
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(tr!("it has more than {limit} bytes", limit = MAX_FILE_BYTES));
    }
    Ok(Some(text))
}

/// Converts a value to the texts that its option would have. Fails with what is wanted instead.
fn texts_of(arg: &Arg, value: &toml::Value) -> Result<Vec<String>, String> {
    let takes_list = arg.get_value_delimiter().is_some();
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, toml::Value::Boolean(value)) => Ok(vec![value.to_string()]),
        (ArgAction::SetTrue, _) => Err(tr!("true or false is wanted")),
        (ArgAction::Count, toml::Value::Integer(count)) => Ok(vec![count.to_string()]),
        (ArgAction::Count, _) => Err(tr!("a number is wanted")),
        (_, toml::Value::Array(values)) if takes_list => {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(|| tr!("a list of texts is wanted"))
        }
        (_, toml::Value::String(text)) if takes_list => Ok(text.split(',').map(str::to_owned).collect()),
        _ if takes_list => Err(tr!("a list of texts is wanted")),
        (_, toml::Value::String(text)) if is_path(arg) => Ok(vec![expand_home(text)]),
        (_, toml::Value::String(text)) => Ok(vec![text.clone()]),
        (_, toml::Value::Integer(number)) => Ok(vec![number.to_string()]),
        _ => Err(tr!("a text or a number is wanted")),
    }
}

/// Checks a value as its option would. Fails with the option's words.
fn check_value(arg: &Arg, key: &str, text: &str) -> Result<(), String> {
    if !arg.get_action().takes_values() {
        return Ok(());
    }
    // An option of its own, which conflicts with none.
    let mut alone = Arg::new(arg.get_id().clone()).long(key.to_owned()).value_parser(arg.get_value_parser().clone());
    if let Some(names) = arg.get_value_names() {
        alone = alone.value_names(names.to_vec());
    }
    let command = clap::Command::new("peer").arg(alone);
    // With `=`, since a value may begin with a dash.
    let checked = command.try_get_matches_from(["peer".to_owned(), format!("--{key}={text}")]);
    checked.map(drop).map_err(|why| first_paragraph(&why))
}

fn is_path(arg: &Arg) -> bool {
    matches!(arg.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath)
}

/// Puts the home folder in place of `~/`, as the shell does on a command line.
fn expand_home(text: &str) -> String {
    let expanded = text.strip_prefix("~/").and_then(|rest| Some(std::env::home_dir()?.join(rest)));
    expanded.and_then(|path| path.into_os_string().into_string().ok()).unwrap_or_else(|| text.to_owned())
}

fn unknown_key(owner: &clap::Command, table: Option<&str>, key: &str) -> String {
    // Underscores are the likeliest slip of all.
    let like = key.replace('_', "-");
    let known = keys(owner, table);
    let names =
        known.iter().filter_map(|arg| arg.get_long()).chain(table.is_none().then_some(TABLES).into_iter().flatten());
    let meant =
        names.filter_map(|name| Some((misspelling_distance(&like, name)?, name))).min_by_key(|(edits, _)| *edits);
    let (key, meant) = (safe_line(key), meant.map(|(_, name)| name));
    match (table, meant) {
        (None, None) => tr!("there is no key \"{key}\": `peer --no-config config` lists them", key),
        (None, Some(name)) => {
            tr!("there is no key \"{key}\": did you mean {name}? `peer --no-config config` lists them", key, name)
        }
        (Some(table), None) => {
            tr!("there is no key \"{key}\" in [{table}]: `peer --no-config config` lists them", key, table)
        }
        (Some(table), Some(name)) => tr!(
            "there is no key \"{key}\" in [{table}]: did you mean {name}? `peer --no-config config` lists them",
            key,
            table,
            name
        ),
    }
}

fn first_paragraph(why: &clap::Error) -> String {
    safe_lines(&error_reason(why))
}

fn safe_lines(text: &str) -> String {
    text.lines().map(|line| safe_line(line).into_owned()).collect::<Vec<_>>().join("\n")
}
