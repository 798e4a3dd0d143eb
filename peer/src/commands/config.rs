//! The command `peer config`.

use std::path::PathBuf;

use clap::Args;
use localization::tr;
use serde_json::json;
use shared::safe_text::safe_path;

use super::command_help::CommandHelp;
use super::context::CommandContext;
use crate::engine::Error;

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer config
  peer --json config",
    notes: "\
The file is config.toml in the folder of --home (or VIZINHO_HOME) if one is given, else in ~/.config/vizinho (the XDG \
configuration folder). Each option of all commands is a key of that name; those of `peer serve` and `peer fetch` stand \
below [serve] and [fetch]:

  tracker = \"192.0.2.7:8000\"
  no-mdns = true
  [serve]
  limit = \"20M\"
  [fetch]
  output = \"~/Downloads\"

An option on the command line counts more than the environment, that more than the file. A key that there isn't is an \
error. --no-config reads no file; `peer fetch --retry` keeps to the options of the last fetch. A file that others could \
have written is refused.",
};

/// Show the settings in force, and where each comes from.
#[derive(Debug, Args)]
#[command(after_help = HELP.examples, after_long_help = HELP.long())]
pub(crate) struct ConfigArgs {
    /// What the command line, the environment and the file come to.
    #[arg(skip)]
    pub(crate) report: ConfigReport,
}

/// The settings in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigReport {
    /// The configuration file's path; `None` if there is no place for one.
    pub(crate) path: Option<PathBuf>,
    /// True if the file was read.
    pub(crate) is_read: bool,
    pub(crate) settings: Vec<EffectiveSetting>,
}

/// One setting, with its value as text.
#[derive(Debug, Clone)]
pub(crate) struct EffectiveSetting {
    /// The table of the file in which its key stands; `None` at its top.
    pub(crate) table: Option<String>,
    pub(crate) key: String,
    /// `None` if it isn't set.
    pub(crate) value: Option<toml::Value>,
    pub(crate) origin: SettingOrigin,
}

/// The place from which a setting comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettingOrigin {
    CommandLine,
    Environment,
    File,
    Default,
}

impl SettingOrigin {
    const fn as_str(self) -> &'static str {
        match self {
            Self::CommandLine => "command line",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        }
    }

    /// Returns its name for people.
    fn words(self) -> String {
        match self {
            Self::CommandLine => tr!("origin of a setting" => "command line"),
            Self::Environment => tr!("origin of a setting" => "environment"),
            Self::File => tr!("origin of a setting" => "file"),
            Self::Default => tr!("origin of a setting" => "default"),
        }
    }
}

pub(super) fn run(context: &CommandContext, args: &ConfigArgs) -> Result<(), Error> {
    let ConfigReport { path, is_read, settings } = &args.report;
    if context.output.is_json() {
        context.output.print_object("config_file", &json!({ "path": path, "read": is_read }))?;
        for EffectiveSetting { table, key, value, origin } in settings {
            let key = table.as_ref().map_or_else(|| key.clone(), |table| format!("{table}.{key}"));
            let fields = json!({ "key": key, "value": value, "origin": origin.as_str() });
            context.output.print_object("setting", &fields)?;
        }
        return Ok(());
    }
    if let Some(path) = path {
        let state = if *is_read { String::new() } else { format!(" {}", tr!("(not there, or not read)")) };
        context.output.print_data(&format!("# {}{state}", safe_path(path)))?;
    }
    let mut current = None;
    for EffectiveSetting { table, key, value, origin } in settings {
        if table.as_ref() != current {
            context.output.print_data(&format!("\n[{}]", table.as_deref().unwrap_or_default()))?;
            current = table.as_ref();
        }
        context.output.print_data(&match value {
            // The file in a named folder can't name one, and what is printed here is such a file.
            Some(value) if key == "home" && *origin != SettingOrigin::File => {
                format!("# {key} = {value}  # {}", origin.words())
            }
            Some(value) => format!("{key} = {value}  # {}", origin.words()),
            None => format!("# {}", tr!("{key} is not set", key)),
        })?;
    }
    Ok(())
}
