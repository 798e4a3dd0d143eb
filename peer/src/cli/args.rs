//! Arguments of the command line, as clap parses them.

mod command_conversion;
mod help_text;
mod value_parsers;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::styling::Styles;
use clap::builder::{FalseyValueParser, OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use shared::limits::MIN_PEER_PORT;
use shared::tracker::HashText;
use shared::{FileName, Fingerprint, NewUserName, UserName};
use tokio_util::sync::CancellationToken;

use crate::commands::{CliCommand, CommandContext};
use crate::engine::Error;
use crate::engine::node::PortForwarding;
use crate::engine::tracker_key::TrackerKeyPolicy;
use crate::net::tracker::TrackerAddress;
use crate::ui::{ColorChoice, CommandOutput, InterruptForwarder, OutputOptions, parse_age};

use help_text::explain_error;
use value_parsers::{
    HistoryRetention, parse_announced_address, parse_file_name, parse_hash, parse_rate, parse_retention,
    parse_share_pattern,
};

/// Chat and file exchange with the people on your local network.
#[derive(Debug, Parser)]
#[command(name = "peer", version, after_help = help_text::PEER.examples, after_long_help = help_text::PEER.long(), styles = Styles::plain(), max_term_width = 100, args_override_self = true)]
pub(super) struct CliArgs {
    #[command(flatten)]
    global: GlobalArgs,
    /// Alone in a terminal, `peer` is `peer ui`.
    #[command(subcommand)]
    command: Option<SubcommandArgs>,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Everywhere")]
struct GlobalArgs {
    /// The tracker; port 8000 unless given [default: the one used last, else one found on this network].
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
    /// Don't look for a tracker on the local network (mDNS) when none is known.
    #[arg(long, global = true)]
    no_mdns: bool,
    /// Never ask anything.
    #[arg(long, global = true)]
    no_input: bool,
    /// Write plain lines and draw nothing again, for screen readers and logs; so do ACCESSIBLE=1 and TERM=dumb.
    #[arg(long, global = true)]
    plain: bool,
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

#[derive(Debug, Subcommand)]
enum SubcommandArgs {
    /// Make an account at the tracker, for this machine.
    #[command(after_help = help_text::REGISTER.examples, after_long_help = help_text::REGISTER.long())]
    Register {
        /// A letter or a digit, then up to 31 of A-Z a-z 0-9 _ . -
        user: NewUserName,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Sign in to an account that exists.
    #[command(after_help = help_text::LOGIN.examples, after_long_help = help_text::LOGIN.long())]
    Login {
        /// The account.
        user: UserName,
        #[command(flatten)]
        password: PasswordArgs,
        /// Move the account to this machine; the one where it was is signed out.
        #[arg(long)]
        rebind: bool,
    },
    /// Change the password; the account stays signed in only here.
    #[command(after_help = help_text::PASSWD.examples, after_long_help = help_text::PASSWD.long())]
    Passwd {
        /// File with two lines, the current password and the new one; `-` is standard input.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Go offline and sign out on this machine; the key and the shares stay.
    #[command(after_help = help_text::LOGOUT.examples, after_long_help = help_text::LOGOUT.long())]
    Logout,
    /// Show the account of this machine, and whether it is online.
    #[command(after_help = help_text::WHOAMI.examples, after_long_help = help_text::WHOAMI.long())]
    Whoami,
    /// Share files and folders with everybody.
    ///
    /// A folder is shared as it is now: files that come later need another `peer share`. Hidden files, links, devices and
    /// the like in a folder are left out and counted, unless you name them; secret keys and the folders of accounts are
    /// never shared. Exit code 12 when something that was asked for, or all of it, can't be shared.
    #[command(after_help = help_text::SHARE.examples, after_long_help = help_text::SHARE.long())]
    Share {
        /// Files and folders.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Share it under another name.
        #[arg(long = "as", value_name = "NAME", value_parser = parse_file_name)]
        name: Option<FileName>,
    },
    /// Stop sharing files or folders.
    #[command(after_help = help_text::UNSHARE.examples, after_long_help = help_text::UNSHARE.long())]
    Unshare {
        /// Names, folders (docs/) or paths.
        #[arg(required = true, value_name = "NAME", value_parser = OsStringValueParser::new().map(parse_share_pattern))]
        names: Vec<String>,
    },
    /// Show what you share.
    #[command(after_help = help_text::SHARES.examples, after_long_help = help_text::SHARES.long())]
    Shares,
    /// Go online: share files and receive messages.
    #[command(after_help = help_text::SERVE.examples, after_long_help = help_text::SERVE.long())]
    Serve {
        /// The UDP port, 1024 or above [default: the one of last time, else any].
        #[arg(long, value_parser = clap::value_parser!(u16).range(i64::from(MIN_PEER_PORT)..))]
        port: Option<u16>,
        /// Where others reach this machine instead of at its own addresses: a port of the router or container host that is
        /// forwarded to --port. An address beyond the local network has to be allowed by the tracker.
        #[arg(long, value_name = "[IP:]PORT", value_parser = parse_announced_address)]
        announce: Option<PortForwarding>,
        /// Send at most this many bytes a second, to all together (10M, 500k, 10 MB/s).
        #[arg(long, value_name = "RATE", value_parser = parse_rate)]
        limit: Option<u64>,
        /// Send at most this many bytes a second to each peer.
        #[arg(long, value_name = "RATE", value_parser = parse_rate)]
        limit_per_peer: Option<u64>,
    },
    /// Show who is online.
    #[command(after_help = help_text::LIST.examples, after_long_help = help_text::LIST.long())]
    List {
        /// Only this user.
        user: Option<UserName>,
        /// Only who shares a file of this name.
        #[arg(long, value_name = "NAME", value_parser = parse_file_name)]
        sharing: Option<FileName>,
        /// Only who shares a file of this hash.
        #[arg(long, value_name = "HASH", value_parser = parse_hash)]
        hash: Option<HashText>,
        /// At most this many.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
    },
    /// Find files of everybody who is online, by words of their names or by hash.
    #[command(after_help = help_text::FIND.examples, after_long_help = help_text::FIND.long())]
    Find {
        /// Words that begin words of the file's name, or one hash of 64 hex digits.
        #[arg(required = true, value_name = "WORDS|HASH")]
        words: Vec<String>,
        /// At most this many.
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show what somebody shares.
    #[command(after_help = help_text::FILES.examples, after_long_help = help_text::FILES.long())]
    Files {
        /// Who.
        user: UserName,
        /// Only names that start with this.
        #[arg(default_value = "", hide_default_value = true, value_parser = OsStringValueParser::new().map(parse_share_pattern))]
        prefix: String,
    },
    /// Download files (verified, parallel, resumable).
    #[command(after_help = help_text::FETCH.examples, after_long_help = help_text::FETCH.long())]
    Fetch {
        /// From whom.
        #[arg(required_unless_present = "retry")]
        user: Option<UserName>,
        /// Names, folders (docs/) and patterns ('*.pdf').
        #[arg(value_name = "NAME", value_parser = OsStringValueParser::new().map(parse_share_pattern))]
        names: Vec<String>,
        /// Fetch what is missing of the last fetch, to the same place; --limit, --patience, -j and --share may differ.
        #[arg(long, conflicts_with_all = ["user", "names", "from", "only", "output", "if_exists"])]
        retry: bool,
        /// Ask these as well, whether or not the tracker says that they have it.
        #[arg(long, value_name = "USER,…", value_delimiter = ',')]
        from: Vec<UserName>,
        /// Ask nobody but the user, and those named with --from.
        #[arg(long)]
        only: bool,
        /// Receive at most this many bytes a second (10M, 500k, 10 MB/s).
        #[arg(long, value_name = "RATE", value_parser = parse_rate)]
        limit: Option<u64>,
        /// Wait this long for people who went offline [default: 90].
        #[arg(long, value_name = "SECONDS")]
        patience: Option<u32>,
        /// Share what is fetched as well.
        #[arg(long)]
        share: bool,
        /// A folder, a file's new name, a pipe or a device, or - for standard output.
        #[arg(short, long, value_name = "DIR|FILE|-", default_value = ".")]
        output: PathBuf,
        /// Streams to each source at once [default: 2].
        #[arg(short = 'j', long = "jobs", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
        jobs: Option<u8>,
        /// What to do where a file exists [default: skip one with the same content, else rename].
        #[arg(long, value_name = "WHAT")]
        if_exists: Option<ExistingFileAction>,
    },
    /// Talk to somebody: one message, standard input line by line, or a conversation in the terminal.
    ///
    /// Of standard input, each line is a message; lines with nothing but blanks are left out, as there is nothing to send.
    #[command(after_help = help_text::CHAT.examples, after_long_help = help_text::CHAT.long())]
    Chat {
        /// To whom.
        user: UserName,
        /// The message; several words are one.
        #[arg(num_args = 1..)]
        text: Option<Vec<String>>,
        /// Fail when the message can't be delivered now, instead of queueing it.
        #[arg(long)]
        now: bool,
    },
    /// Open people, conversations, files and transfers in one view; so does `peer` alone in a terminal.
    #[command(after_help = help_text::UI.examples, after_long_help = help_text::UI.long())]
    Ui,
    /// Show old messages, oldest first, or delete them.
    #[command(after_help = help_text::HISTORY.examples, after_long_help = help_text::HISTORY.long())]
    History {
        /// With whom [default: everybody].
        user: Option<UserName>,
        /// Only messages that are not older (90s, 30m, 12h, 2d, 3w).
        #[arg(long, value_name = "AGE", value_parser = parse_age)]
        since: Option<i64>,
        /// At most this many: the last ones.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        /// Only messages in which each of these begins a word, whatever case and accents.
        #[arg(long, value_name = "WORDS", num_args = 1..)]
        search: Option<Vec<String>>,
        /// Delete all messages with the user, or those of --older, for good; queued messages stay.
        #[arg(long, conflicts_with_all = ["since", "limit", "search"])]
        forget: bool,
        /// Delete only messages that are older (90s, 30m, 12h, 2d, 3w).
        #[arg(long, value_name = "AGE", value_parser = parse_age, requires = "forget")]
        older: Option<i64>,
        /// Delete without a question.
        #[arg(long, requires = "forget")]
        yes: bool,
        /// Delete messages of this age once a day from now on (30d), or never (all).
        #[arg(long, value_name = "AGE|all", value_parser = parse_retention,
              conflicts_with_all = ["user", "since", "limit", "search", "forget"])]
        keep: Option<HistoryRetention>,
    },
    /// Show unread messages and mark them read.
    #[command(after_help = help_text::INBOX.examples, after_long_help = help_text::INBOX.long())]
    Inbox {
        /// Accept this stranger: receive all their messages from now on.
        #[arg(long, value_name = "USER")]
        accept: Option<UserName>,
    },
    /// Show queued messages, or drop one.
    #[command(after_help = help_text::OUTBOX.examples, after_long_help = help_text::OUTBOX.long())]
    Outbox {
        #[command(subcommand)]
        command: Option<OutboxCommand>,
    },
    /// Offer files to one person alone; without files show what is offered.
    #[command(after_help = help_text::OFFER.examples, after_long_help = help_text::OFFER.long())]
    Offer {
        /// To whom.
        user: Option<UserName>,
        /// Files; names with --withdraw.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Offer it under another name.
        #[arg(long = "as", value_name = "NAME", value_parser = parse_file_name, conflicts_with = "withdraw")]
        name: Option<FileName>,
        /// Withdraw what is offered under these names.
        #[arg(long, requires = "files")]
        withdraw: bool,
    },
    /// Block somebody: no messages, offers or downloads; without a name show who is blocked.
    #[command(after_help = help_text::BLOCK.examples, after_long_help = help_text::BLOCK.long())]
    Block {
        /// Who.
        user: Option<UserName>,
    },
    /// Unblock somebody.
    #[command(after_help = help_text::UNBLOCK.examples, after_long_help = help_text::UNBLOCK.long())]
    Unblock {
        /// Who.
        user: UserName,
    },
    /// Set how you are told of messages: the terminal's bell, and a program that runs for each.
    #[command(after_help = help_text::NOTIFY.examples, after_long_help = help_text::NOTIFY.long())]
    Notify {
        /// Whether a terminal rings.
        #[arg(long, value_name = "on|off")]
        bell: Option<OnOff>,
        /// Run no program.
        #[arg(long, conflicts_with = "hook")]
        no_hook: bool,
        /// The program and its arguments, after --. Its environment has VIZINHO_FROM and VIZINHO_TEXT, its standard input
        /// the text.
        #[arg(last = true, value_name = "CMD")]
        hook: Vec<String>,
    },
    /// Print everything that happens as NDJSON, and take commands from standard input.
    #[command(after_help = help_text::EVENTS.examples, after_long_help = help_text::EVENTS.long())]
    Events,
    /// Show the key on record for somebody, or replace it.
    #[command(after_help = help_text::TRUST.examples, after_long_help = help_text::TRUST.long())]
    Trust {
        /// Whose.
        #[arg(required_unless_present = "the_tracker", conflicts_with = "the_tracker")]
        user: Option<UserName>,
        /// The tracker's key, not a user's.
        #[arg(long)]
        the_tracker: bool,
        /// Trust this key from now on.
        #[arg(long, value_name = "FINGERPRINT")]
        replace: Option<Fingerprint>,
        /// Replace it without a question.
        #[arg(long, requires = "replace")]
        yes: bool,
    },
    /// Compare keys with somebody by a number to read aloud.
    #[command(after_help = help_text::VERIFY.examples, after_long_help = help_text::VERIFY.long())]
    Verify {
        /// With whom.
        user: UserName,
        /// The numbers are the same: record it without a question.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
enum OutboxCommand {
    /// Drop a queued message: it is not sent.
    #[command(after_help = help_text::OUTBOX_DROP)]
    Drop {
        /// Its id, or the beginning of it.
        id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnOff {
    On,
    Off,
}

#[derive(Debug, ClapArgs)]
struct PasswordArgs {
    /// Read the password from the first line of a file; - is standard input [default: ask].
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExistingFileAction {
    Skip,
    Rename,
    Overwrite,
    Fail,
}

/// A command with its context, both checked.
#[derive(Debug)]
pub(super) struct ConfiguredCommand {
    pub(super) context: CommandContext,
    pub(super) command: CliCommand,
}

impl CliArgs {
    /// Parses the arguments. With `in_terminal`, the command may be left out.
    ///
    /// # Errors
    /// The error to print, or the help or version that was asked for.
    pub(super) fn read(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
        in_terminal: bool,
    ) -> Result<Self, clap::Error> {
        // `peer` alone opens the full-screen view, which needs a terminal.
        let command = Self::command().subcommand_required(!in_terminal).arg_required_else_help(!in_terminal);
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let matches = command.try_get_matches_from(&args).map_err(|error| explain_error(error, &args))?;
        Self::from_arg_matches(&matches)
    }

    pub(super) const fn verbosity(&self) -> u8 {
        self.global.verbose
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

    /// Checks what clap can't, and builds the command.
    pub(super) fn configure(
        self,
        output: CommandOutput,
        cancel: CancellationToken,
    ) -> Result<ConfiguredCommand, Error> {
        let home = match self.global.home {
            // An empty `--home` comes from an unset shell variable.
            Some(home) if home.as_os_str().is_empty() => return Err(Error::Usage("--home is empty".to_owned())),
            Some(home) => home,
            None => default_home()?,
        };
        let command = self.command.unwrap_or(SubcommandArgs::Ui).into_command()?;
        let GlobalArgs { tracker, tracker_key, accept_new, no_input, no_mdns, .. } = self.global;
        let key_policy = match tracker_key {
            Some(key) => TrackerKeyPolicy::Only(key),
            None if accept_new => TrackerKeyPolicy::AcceptNew,
            None => TrackerKeyPolicy::Ask,
        };
        let interrupts = InterruptForwarder::default();
        let access = command.access();
        let context =
            CommandContext { home, access, tracker, key_policy, output, no_input, no_mdns, cancel, interrupts };
        Ok(ConfiguredCommand { context, command })
    }
}

/// Returns the default folder of the profile. A relative one is rejected: it would differ in each working folder.
fn default_home() -> Result<PathBuf, Error> {
    let usage = |why: String| Error::Usage(format!("{why}: give the account's folder with --home DIR"));
    let folders = directories::ProjectDirs::from("", "", "vizinho");
    let folders = folders.ok_or_else(|| usage("there is no home folder".to_owned()))?;
    let data = folders.data_dir();
    if !data.is_absolute() {
        return Err(usage(format!("the home folder {} is relative", data.to_string_lossy())));
    }
    let home = directories::BaseDirs::new().map(|folders| folders.home_dir().to_owned());
    // A home folder that doesn't exist must not be created on the way to the profile.
    match home.filter(|home| data.starts_with(home)) {
        Some(home) if !home.is_dir() => Err(usage(format!("there is no home folder {}", home.to_string_lossy()))),
        _ => Ok(data.to_owned()),
    }
}
#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::help_text::FOREIGN_COMMANDS;
    use super::*;
    use crate::commands::FetchCommand;
    use crate::engine::fetch::{FetchDestination, SourcePolicy};

    #[test]
    fn the_command_line_is_consistent() {
        CliArgs::command().debug_assert();
    }

    fn command(args: &[&str]) -> CliCommand {
        CliArgs::read(args, false).unwrap().command.unwrap().into_command().unwrap()
    }

    #[test]
    fn fetch_arguments() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().to_str().unwrap();
        let destination = |output: &str| match command(&["peer", "fetch", "bob", "a", "-o", output]) {
            CliCommand::Fetch(FetchCommand::New { request, .. }) => request.destination,
            other => panic!("{other:?}"),
        };
        assert_eq!(destination(folder), FetchDestination::Folder(folder.into()));
        assert_eq!(destination("new/"), FetchDestination::Folder("new/".into()));
        assert_eq!(destination("new"), FetchDestination::FileOrFolder("new".into()));
        assert_eq!(destination("."), FetchDestination::Folder(".".into()));
        assert_eq!(destination(".."), FetchDestination::Folder("..".into()));
    }

    #[test]
    fn alone_in_a_terminal_it_is_the_view_of_everything() {
        assert!(CliArgs::read(["peer"], true).unwrap().command.is_none());
        assert!(CliArgs::read(["peer", "--home", "x"], true).unwrap().command.is_none());
        assert_eq!(CliArgs::read(["peer", "--home", "x"], false).unwrap_err().exit_code(), 2);
        assert!(matches!(command(&["peer", "ui"]), CliCommand::Ui));
    }

    #[test]
    fn the_last_of_several_counts_and_lists_go_on() {
        let read = |args: &[&str]| CliArgs::read(args, false).unwrap();
        let home = |args: &[&str]| read(args).global.home.unwrap();
        assert_eq!(home(&["peer", "--home", "a", "--home", "b", "list"]), PathBuf::from("b"));
        assert_eq!(home(&["peer", "--home", "a", "list", "--home", "b"]), PathBuf::from("b"));
        assert_eq!(home(&["peer", "list", "--home", "a", "--home", "b"]), PathBuf::from("b"));
        read(&["peer", "--json", "--json", "--no-input", "--color", "never", "--color", "auto", "list", "--json"]);
        read(&["peer", "--tracker", "a", "list", "--limit", "1", "--limit", "2", "--tracker", "b"]);
        match command(&[
            "peer", "fetch", "bob", "a", "b", "--from", "carol", "--from", "dave,eve", "-j", "1", "-j", "2",
        ]) {
            CliCommand::Fetch(FetchCommand::New { request, .. }) => {
                assert_eq!((request.names.len(), request.streams), (2, 2));
                assert!(matches!(request.sources, SourcePolicy::Also(also) if also.len() == 3));
            }
            other => panic!("{other:?}"),
        }
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
        let nothing = CliArgs::read(["peer", "fetch", "bob"], false).unwrap().command.unwrap().into_command();
        assert!(matches!(nothing, Err(Error::Usage(_))), "{nothing:?}");
    }
}
