//! Settings from command line, environment and configuration file.
//!
//! The file's values become options in front of those of the command line, unless the command line or the environment
//! sets them: so one parser validates all values, and every long option is a key.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use arguments::{error_reason, safe_error, with_translated_texts, with_translated_words};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use localization::tr;
use shared::safe_text::{safe_line, safe_path};

use super::TrackerArgs;
use super::translations::translations;
use crate::store::redacted_address;

/// Options that are no keys of the file.
const KEYS_NOT_IN_FILE: [&str; 3] = ["config", "help", "version"];

/// Separates the values of an option that takes several.
const VALUE_SEPARATOR: char = ',';

/// The reason why there are no settings.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum SettingsError {
    /// The command line is wrong or asks for help; the error prints itself.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    #[error("{}", tr!("can't read the configuration file {path}: {why}", path = safe_path(.path), why))]
    Unreadable { path: PathBuf, why: io::Error },
    #[error("{}", tr!("the configuration file {path}: {why}", path = safe_path(.path), why))]
    Wrong { path: PathBuf, why: String },
}

/// The settings in force and their origins.
#[derive(Debug)]
pub struct TrackerSettings {
    /// The options and the command.
    pub args: TrackerArgs,
    origins: Vec<(String, Option<String>, String)>,
}

impl TrackerSettings {
    /// Combines all sources. `command_line` begins with the program's name. Fails with [`SettingsError`] when an option
    /// or the file is wrong.
    pub fn resolve(command_line: &[OsString]) -> Result<Self, SettingsError> {
        Self::combine(command_line).map_err(|error| match error {
            SettingsError::Usage(why) => SettingsError::Usage(safe_error(&mut self::command_line(), why, command_line)),
            other => other,
        })
    }

    fn combine(command_line: &[OsString]) -> Result<Self, SettingsError> {
        let mut command = self::command_line();
        let given = command.try_get_matches_from_mut(command_line)?;
        // Parsed twice: the first pass finds the file, the second validates its values with all others.
        let file = match TrackerArgs::from_arg_matches(&given)?.config_file() {
            Some(path) => read_config_file(path)?,
            None => Vec::new(),
        };
        let mut words: Vec<OsString> = command_line.iter().take(1).cloned().collect();
        let mut from_file = Vec::new();
        for (key, value) in file {
            // clap's ids are the names of the fields.
            let id = key.replace('-', "_");
            if !is_given(&given, &id) {
                words.extend(as_option(&key, &value));
                from_file.push(id);
            }
        }
        // Behind the file's options, which must come before a subcommand.
        words.extend(command_line.iter().skip(1).cloned());
        let matches = command.try_get_matches_from_mut(&words).map_err(|why| match given_config(&given) {
            // The command line alone was accepted before, so a value of the file is wrong.
            Some(path) if !from_file.is_empty() => SettingsError::Wrong { path, why: error_reason(&why) },
            _ => SettingsError::Usage(why),
        })?;
        let origins = command
            .get_arguments()
            .filter(|arg| !KEYS_NOT_IN_FILE.contains(&arg.get_id().as_str()))
            .map(|arg| {
                let id = arg.get_id().as_str();
                let origin = match matches.value_source(id) {
                    // First: the file's values were passed as options, which clap takes for the command line's.
                    _ if from_file.iter().any(|key| key == id) => tr!("configuration file"),
                    Some(ValueSource::CommandLine) => tr!("command line"),
                    Some(ValueSource::EnvVariable) => tr!("environment"),
                    _ => tr!("default"),
                };
                // A password that is there by mistake is refused, and not shown either.
                let value = raw_value(&matches, id).map(|value| redacted_address(&value));
                (id.replace('_', "-"), value, origin)
            })
            .collect();
        Ok(Self { args: TrackerArgs::from_arg_matches(&matches)?, origins })
    }

    /// Returns every key of the file with its value as text.
    pub fn values(&self) -> Vec<(String, Option<String>)> {
        self.origins.iter().map(|(key, value, _)| (key.clone(), value.clone())).collect()
    }

    /// Formats the effective configuration as TOML, each value with its origin.
    pub fn to_toml(&self) -> String {
        let line = |(key, value, origin): &(String, Option<String>, String)| match value {
            Some(value) => format!("{key} = {} # {origin}\n", as_toml(value)),
            None => format!("# {}\n", tr!("{key} is not set", key)),
        };
        self.origins.iter().map(line).collect()
    }
}

/// Returns the command line, with its help in the current language.
fn command_line() -> clap::Command {
    with_translated_words(with_translated_texts(TrackerArgs::command(), translations()), translations())
}

fn given_config(given: &ArgMatches) -> Option<PathBuf> {
    given.get_one::<PathBuf>("config").cloned()
}

/// True if the command line or the environment sets the option; false for unknown keys of the file.
fn is_given(given: &ArgMatches, id: &str) -> bool {
    // Asked first: clap may panic about an id that is none of its own.
    let known = given.ids().any(|known| known.as_str() == id);
    known && matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

fn read_config_file(path: &Path) -> Result<Vec<(String, toml::Value)>, SettingsError> {
    let unreadable = |why| SettingsError::Unreadable { path: path.to_owned(), why };
    let wrong = |why: String| SettingsError::Wrong { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let table: toml::Table = text.parse().map_err(|why: toml::de::Error| wrong(why.to_string().trim().to_owned()))?;
    let command = TrackerArgs::command();
    for (key, value) in &table {
        let known = command.get_arguments().any(|arg| arg.get_long() == Some(key));
        if !known || KEYS_NOT_IN_FILE.contains(&key.as_str()) {
            let key = safe_line(key);
            return Err(wrong(tr!("there is no key \"{key}\": each long option is a key, see tracker --help", key)));
        }
        let takes_several = command
            .get_arguments()
            .any(|arg| arg.get_long() == Some(key) && arg.get_value_delimiter() == Some(VALUE_SEPARATOR));
        match value {
            toml::Value::Array(values) if takes_several && values.iter().all(toml::Value::is_str) => {}
            toml::Value::Array(_) if takes_several => return Err(wrong(tr!("{key}: a list of texts is wanted", key))),
            toml::Value::Array(_) | toml::Value::Table(_) | toml::Value::Datetime(_) => {
                return Err(wrong(tr!("{key}: a text, a number, true or false is wanted", key)));
            }
            _ => {}
        }
    }
    Ok(table.into_iter().collect())
}

fn as_option(key: &str, value: &toml::Value) -> Option<OsString> {
    match value {
        // A flag can only be given or left out.
        toml::Value::Boolean(false) => None,
        toml::Value::Boolean(true) => Some(format!("--{key}").into()),
        // With `=`, since a value may begin with a dash.
        toml::Value::String(text) => Some(format!("--{key}={text}").into()),
        toml::Value::Array(values) => {
            let all: Vec<&str> = values.iter().filter_map(toml::Value::as_str).collect();
            Some(format!("--{key}={}", all.join(&VALUE_SEPARATOR.to_string())).into())
        }
        other => Some(format!("--{key}={other}").into()),
    }
}

fn raw_value(matches: &ArgMatches, id: &str) -> Option<String> {
    // A flag's raw value is "true" or "false".
    let all: Vec<_> = matches.get_raw(id)?.map(|raw| raw.to_string_lossy()).collect();
    Some(all.join(&VALUE_SEPARATOR.to_string()))
}

fn as_toml(value: &str) -> String {
    match value {
        "true" | "false" => value.to_owned(),
        number if number.parse::<u64>().is_ok() => value.to_owned(),
        text => toml::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        std::iter::once("tracker").chain(words.iter().copied()).map(OsString::from).collect()
    }

    fn with_file(content: &str, more: &[&str]) -> Result<TrackerSettings, SettingsError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let mut all = words(&["--config", file.path().to_str().unwrap()]);
        all.extend(more.iter().map(OsString::from));
        TrackerSettings::resolve(&all)
    }

    #[test]
    fn the_command_line_comes_before_the_file_and_that_before_the_defaults() {
        let content =
            "data-dir = \"from file\"\nlegacy-ttl = 7\nno-legacy-auth = true\nno-mdns = false\nlisten = '127.0.0.1:1'";
        let settings = with_file(content, &["--legacy-ttl", "8"]).unwrap();
        let config = settings.args.to_config().unwrap();
        assert_eq!(config.legacy_ttl.as_secs(), 8);
        assert_eq!((config.legacy_auth, config.mdns), (false, true));
        assert_eq!(config.listen, ["127.0.0.1:1".parse().unwrap()]);
        let text = settings.to_toml();
        for line in [
            r#"data-dir = "from file" # configuration file"#,
            "legacy-ttl = 8 # command line",
            "no-legacy-auth = true # configuration file",
            "max-connections = 16384 # default",
            "# metrics is not set",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["legacy-ttl"].as_integer(), Some(8));
    }

    #[test]
    fn several_addresses_may_be_listed() {
        let both = ["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()];
        for content in ["listen = ['127.0.0.1:1', '[::1]:1']", "listen = '127.0.0.1:1,[::1]:1'"] {
            let settings = with_file(&format!("data-dir = 'x'\n{content}"), &[]).unwrap();
            assert_eq!(settings.args.to_config().unwrap().listen, both);
            // What is printed can be put into the file again.
            let again = with_file(&settings.to_toml(), &[]).unwrap();
            assert_eq!(again.args.to_config().unwrap().listen, both);
        }
        let from_the_command_line = with_file("listen = '127.0.0.1:1'", &["--data-dir=x", "--listen=[::1]:1"]).unwrap();
        assert_eq!(from_the_command_line.args.to_config().unwrap().listen, both[1..]);
    }

    #[test]
    fn a_command_may_follow() {
        let settings = with_file("data-dir = 'x'", &["user", "list"]).unwrap();
        assert!(settings.args.command.is_some());
        assert_eq!(settings.args.data_folder(), Some("x".into()));
    }

    #[test]
    fn what_is_wrong_in_the_file_is_said_with_its_name() {
        for (content, part) in [
            ("legacy-ttl = 0", "legacy-ttl"),
            ("legacy-ttl = 'x'", "legacy-ttl"),
            ("listn = 'x'", "listn"),
            ("config = 'x'", "config"),
            ("listen = [1]", "listen"),
            ("listen = ", "1"),
        ] {
            match with_file(content, &[]) {
                Err(SettingsError::Wrong { why, .. }) => assert!(why.contains(part), "{content}: {why}"),
                other => panic!("{content}: {other:?}"),
            }
        }
        let missing = TrackerSettings::resolve(&words(&["--config", "/nowhere/at/all"]));
        assert!(matches!(missing, Err(SettingsError::Unreadable { .. })));
        assert!(matches!(TrackerSettings::resolve(&words(&["--listn"])), Err(SettingsError::Usage(_))));
    }

    #[test]
    fn the_address_of_a_database_is_a_key_and_its_password_is_never_shown() {
        let settings = with_file("store = 'postgres://t:s3cret@h/v'", &[]).unwrap();
        assert!(!settings.to_toml().contains("s3cret") && settings.to_toml().contains("postgres://t:***@h/v"));
        let why = settings.args.store().unwrap_err().to_string();
        assert!(why.contains("PGPASSWORD") && !why.contains("s3cret"), "{why}");
        let settings = with_file("store = 'postgres://t@h/v'", &["user", "list"]).unwrap();
        assert!(settings.args.store().unwrap().is_some());
        assert_eq!(with_file("", &[]).unwrap().args.store(), Ok(None));
    }

    #[test]
    fn a_wrong_argument_is_quoted_without_control_characters() {
        for arg in ["--\u{1b}[2J", "\u{1b}]0;x\u{7}"] {
            match TrackerSettings::resolve(&words(&[arg])) {
                Err(SettingsError::Usage(why)) => {
                    let said = why.to_string();
                    assert!(said.contains('␛') && !said.contains(['\u{1b}', '\u{7}']), "{said:?}");
                }
                other => panic!("{arg:?}: {other:?}"),
            }
        }
    }
}
