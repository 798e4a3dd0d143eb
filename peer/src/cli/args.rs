//! Arguments of the command line: the command, and the options that all commands have.

use std::ffi::OsString;
use std::path::PathBuf;

use arguments::{with_translated_texts, with_translated_words};
use clap::builder::FalseyValueParser;
use clap::builder::styling::Styles;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, ValueEnum};
use localization::{Language, tr};
use shared::Fingerprint;
use tokio_util::sync::CancellationToken;

use super::argument_error::explain_error;
use super::config_file::{ConfigFile, config_path, report};
use super::help_screens::one_screen_each;
use super::translations::TEXTS;
use crate::commands::CliCommand;
use crate::commands::command_help::CommandHelp;
use crate::commands::context::CommandContext;
use crate::engine::Error;
use crate::engine::tracker_key::TrackerKeyPolicy;
use crate::net::tracker::TrackerAddress;
use crate::ui::{ColorChoice, CommandOutput, InterruptForwarder, OutputOptions};

const HELP: CommandHelp = CommandHelp {
    examples: "\
Examples:
  peer register bob
  peer share report.pdf ~/photos
  peer serve
  peer fetch bob report.pdf
  peer chat bob \"lunch?\"

`peer help COMMAND` has all options, examples and details of a command.

Exit codes:
  0 done            3 not logged in, wrong password   8 the data was wrong
  1 something else  4 user unknown or offline         9 local disk or file
  2 usage           5 that file is not shared        10 the destination exists
                    6 refused by the other side      11 an identity changed
                    7 network, time-out, tracker     12 some of several failed
  129, 130 and 143: the terminal is gone, interrupted, terminated",
    notes: "\
Environment:
  VIZINHO_HOME=DIR                 like --home: another folder is another account
  VIZINHO_TRACKER=HOST[:PORT]      like --tracker
  VIZINHO_TRACKER_KEY=FINGERPRINT  like --tracker-key
  VIZINHO_ACCEPT_NEW=1             like --accept-new
  ACCESSIBLE=1, TERM=dumb          like --plain: nothing is drawn again
  NO_COLOR=1                       like --color never

With --json each line is one object: {\"v\":1,\"type\":\"…\",…}.",
};

/// Chat and file exchange with the people on your local network.
#[derive(Debug, Parser)]
#[command(name = "peer", version = env!("VIZINHO_VERSION"), after_help = HELP.examples, after_long_help = HELP.long(), styles = Styles::plain(), max_term_width = 100, args_override_self = true)]
pub(super) struct CliArgs {
    #[command(flatten)]
    global: GlobalArgs,
    /// Alone in a terminal, `peer` is `peer ui`.
    #[command(subcommand)]
    command: Option<CliCommand>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct GlobalArgs {
    /// The tracker, or several that share their key, as in a,b; port 8000 unless given [default: the one used last, else one
    /// found on this network].
    #[arg(long, global = true, value_name = "HOST[:PORT]", env = "VIZINHO_TRACKER")]
    tracker: Option<TrackerAddress>,
    /// The tracker's key, from the line that it printed when it started: no other tracker is talked to.
    #[arg(long, global = true, value_name = "FINGERPRINT", env = "VIZINHO_TRACKER_KEY")]
    tracker_key: Option<Fingerprint>,
    /// Accept the key that the tracker shows at the first contact, without a question. Anybody on the network can pose as
    /// that tracker: prefer --tracker-key.
    #[arg(long, global = true, env = "VIZINHO_ACCEPT_NEW", value_parser = FalseyValueParser::new())]
    accept_new: bool,
    /// The folder of the account, its key and messages; another folder is another account [default: vizinho in the XDG data
    /// folder].
    #[arg(long, global = true, value_name = "DIR", env = "VIZINHO_HOME")]
    home: Option<PathBuf>,
    /// Print one JSON object a line, for programs.
    #[arg(long, global = true)]
    json: bool,
    /// Print only data and errors.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Log what happens inside; -vv logs more.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Don't look for trackers on the local network (mDNS).
    #[arg(long, global = true)]
    no_mdns: bool,
    /// Never ask anything.
    #[arg(long, global = true)]
    no_input: bool,
    /// Read no configuration file.
    #[arg(long, global = true)]
    no_config: bool,
    /// Write plain lines and draw nothing again, for screen readers and logs; so do ACCESSIBLE=1 and TERM=dumb.
    #[arg(long, global = true)]
    plain: bool,
    /// The language of messages and help, en or pt-BR [default: that of the locale].
    #[arg(long, global = true, value_name = "LANG")]
    lang: Option<Language>,
    /// When to use colour.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorMode,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ColorMode {
    Auto,
    Always,
    Never,
}

/// Returns the command line, with help of one screen for each command.
pub(super) fn command_line() -> clap::Command {
    one_screen_each(with_translated_texts(CliArgs::command(), &TEXTS))
}

impl CliArgs {
    /// Parses the arguments. With `in_terminal`, the command may be left out. Fails with the error to print, or the
    /// help or version that was asked for.
    pub(super) fn read(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
        in_terminal: bool,
    ) -> Result<Self, clap::Error> {
        // `peer` alone opens the full-screen view, which needs a terminal.
        let checked =
            |command: clap::Command| command.subcommand_required(!in_terminal).arg_required_else_help(!in_terminal);
        let labelled = || checked(command_line());
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let parse = |command: clap::Command| {
            let command = with_translated_words(command, &TEXTS);
            command.try_get_matches_from(&args).map_err(|error| explain_error(command_line(), error, &args))
        };
        // Help is for those who see it: to build it takes a third of the time of starting.
        let matches = match checked(Self::command()).try_get_matches_from(&args) {
            Ok(matches) => matches,
            Err(_) => parse(labelled())?,
        };
        let mut read = Self::from_arg_matches(&matches)?;
        // An empty folder is reported where it is used.
        let home = read.global.home.as_deref().filter(|home| !home.as_os_str().is_empty());
        let path = config_path(home);
        let file = if read.global.no_config { None } else { ConfigFile::read(home, labelled)? };
        // Parsed again only where there is a file, whose values are defaults then.
        let matches = match &file {
            Some(file) => {
                let fetch = matches.subcommand_matches("fetch");
                // A retry keeps to the options that the fetch had, whatever the file says by now.
                let command = file.apply(labelled(), !fetch.is_some_and(|fetch| fetch.get_flag("retry")));
                let matches = parse(command)?;
                read = Self::from_arg_matches(&matches)?;
                matches
            }
            None => matches,
        };
        if let Some(CliCommand::Config(config)) = &mut read.command {
            let command = match &file {
                Some(file) => file.apply(labelled(), true),
                None => labelled(),
            };
            config.report = report(&command, &matches, path, file.as_ref());
        }
        Ok(read)
    }

    pub(super) const fn verbosity(&self) -> u8 {
        self.global.verbose
    }

    /// Returns true if everything that is printed is for programs, and English.
    pub(super) const fn is_for_programs(&self) -> bool {
        self.global.json || matches!(self.command, Some(CliCommand::Events(_)))
    }

    pub(super) fn output(&self) -> CommandOutput {
        let color = match self.global.color {
            ColorMode::Auto => ColorChoice::Auto,
            ColorMode::Always => ColorChoice::Always,
            ColorMode::Never => ColorChoice::Never,
        };
        let GlobalArgs { json, quiet, plain, .. } = self.global;
        CommandOutput::new(OutputOptions { json, quiet, plain, color })
    }

    /// Checks what clap can't, and returns the command with its context.
    pub(super) fn configure(
        self,
        output: CommandOutput,
        cancel: CancellationToken,
    ) -> Result<(CommandContext, CliCommand), Error> {
        let home = match self.global.home {
            // An empty `--home` comes from an unset shell variable.
            Some(home) if home.as_os_str().is_empty() => return Err(Error::Usage(tr!("--home is empty"))),
            Some(home) => home,
            None => default_home()?,
        };
        let GlobalArgs { tracker, tracker_key, accept_new, no_input, no_mdns, .. } = self.global;
        let key_policy = match tracker_key {
            Some(key) => TrackerKeyPolicy::Only(key),
            None if accept_new => TrackerKeyPolicy::AcceptNew,
            None => TrackerKeyPolicy::Ask,
        };
        let interrupts = InterruptForwarder::default();
        let context = CommandContext { home, tracker, key_policy, output, no_input, no_mdns, cancel, interrupts };
        Ok((context, self.command.unwrap_or_default()))
    }
}

/// Returns the default folder of the profile. A relative one is rejected: it would differ in each working folder.
pub(super) fn default_home() -> Result<PathBuf, Error> {
    let folders = directories::ProjectDirs::from("", "", "vizinho");
    let folders = folders
        .ok_or_else(|| Error::Usage(tr!("there is no home folder: give the account's folder with --home DIR")))?;
    let data = folders.data_dir();
    if !data.is_absolute() {
        return Err(Error::Usage(tr!(
            "the home folder {path} is relative: give the account's folder with --home DIR",
            path = data.to_string_lossy()
        )));
    }
    let home = directories::BaseDirs::new().map(|folders| folders.home_dir().to_owned());
    // A home folder that doesn't exist must not be created on the way to the profile.
    match home.filter(|home| data.starts_with(home)) {
        Some(home) if !home.is_dir() => Err(Error::Usage(tr!(
            "there is no home folder {path}: give the account's folder with --home DIR",
            path = home.to_string_lossy()
        ))),
        _ => Ok(data.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::super::argument_error::FOREIGN_COMMANDS;
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CliArgs::command().debug_assert();
        command_line().debug_assert();
    }

    #[test]
    fn alone_in_a_terminal_it_is_the_view_of_everything() {
        assert!(CliArgs::read(["peer"], true).unwrap().command.is_none());
        assert!(CliArgs::read(["peer", "--home", "x"], true).unwrap().command.is_none());
        assert_eq!(CliArgs::read(["peer", "--home", "x"], false).unwrap_err().exit_code(), 2);
        assert!(matches!(CliArgs::read(["peer", "ui"], false).unwrap().command, Some(CliCommand::Ui(_))));
    }

    #[test]
    fn the_last_of_several_counts() {
        let read = |args: &[&str]| CliArgs::read(args, false).unwrap();
        let home = |args: &[&str]| read(args).global.home.unwrap();
        assert_eq!(home(&["peer", "--home", "a", "--home", "b", "list"]), PathBuf::from("b"));
        assert_eq!(home(&["peer", "--home", "a", "list", "--home", "b"]), PathBuf::from("b"));
        assert_eq!(home(&["peer", "list", "--home", "a", "--home", "b"]), PathBuf::from("b"));
        read(&["peer", "--json", "--json", "--no-input", "--color", "never", "--color", "auto", "list", "--json"]);
        read(&["peer", "--tracker", "a", "list", "--limit", "1", "--limit", "2", "--tracker", "b"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = CliArgs::read(["peer", "get", "bob", "x"], false).unwrap_err().to_string();
        assert!(error.contains("`peer fetch USER NAME`"), "{error}");
        use std::os::unix::ffi::OsStringExt;
        let args = [b"peer".to_vec(), b"chat".to_vec(), b"bob".to_vec(), b"ol\xe1".to_vec()].map(OsString::from_vec);
        let error = CliArgs::read(args, false).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("argument 3, \"ol\\xe1\""), "{error}");
        for (theirs, _) in FOREIGN_COMMANDS {
            assert_eq!(
                CliArgs::read(["peer", theirs], false).unwrap_err().kind(),
                ErrorKind::InvalidSubcommand,
                "{theirs}"
            );
        }
    }

    #[test]
    fn a_wrong_argument_is_quoted_without_control_characters() {
        for args in [["peer", "\u{1b}[2J"].as_slice(), &["peer", "chat", "bob", "--\u{1b}[2J"]] {
            let said = CliArgs::read(args, false).unwrap_err().render().ansi().to_string();
            assert!(said.contains("␛[2J") && !said.contains("\u{1b}[2J"), "{said:?}");
        }
    }

    #[test]
    fn wrong_words_are_usage_errors() {
        for args in [
            &["peer"] as &[&str],
            &["peer", "register"],
            &["peer", "register", "a b"],
            &["peer", "passwd", "secret"],
            &["peer", "fetch", "bob", "x", "-j", "0"],
            &["peer", "fetch", "--retry", "-o", "x"],
            &["peer", "fetch", "--retry", "--if-exists", "skip"],
            &["peer", "share"],
            &["peer", "trust", "bob", "--replace", "12"],
            &["peer", "--tracker", "a b", "list"],
            &["peer", "serve", "--port", "0"],
            &["peer", "serve", "--port", "1023"],
            &["peer", "serve", "--announce", "0"],
            &["peer", "serve", "--announce", "192.0.2.7:443"],
            &["peer", "serve", "--announce", "host:1"],
            &["peer", "find"],
            &["peer", "list", "--limit", "0"],
            &["peer", "list", "--hash", "nonsense"],
            &["peer", "block", "no such name"],
            &["peer", "serve", "--announce", "0.0.0.0:1"],
            &["peer", "serve", "--limit", "fast"],
        ] {
            assert_eq!(CliArgs::read(args.iter(), false).unwrap_err().exit_code(), 2, "{args:?}");
        }
    }
}
