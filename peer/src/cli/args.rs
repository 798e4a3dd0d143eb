//! The command line.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::Styles;
use clap::{ArgAction, Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use shared::limits::FIND_WORDS;
use shared::tracker::{HashText, ListPeers, Wanted, Words};
use shared::{ContentHash, FileName, Fingerprint, UserName};
use tokio_util::sync::CancellationToken;

use crate::commands::{Command, Context, NotifyChange, PasswordSource, Past, Whose};
use crate::engine::Error;
use crate::engine::fetch::{Destination, IfExists, Request, Sources};
use crate::engine::node::{Forwarded, Place};
use crate::engine::serve::Limits;
use crate::net::tracker::TrackerAddress;
use crate::ui::{ColorChoice, Output, OutputOptions};

const EXIT_CODES: &str = "\
Exit codes:
  0 done            3 not logged in, wrong password   8 data was not what it claimed to be
  1 something else  4 user unknown or offline         9 local disk or file
  2 usage           5 that file is not shared        10 the destination exists
                    6 refused by the other side      11 an identity changed
                    7 network, time-out, tracker     12 some of several failed
  130 and 143: interrupted, terminated";

/// Chat and file exchange with the people on your local network.
#[derive(Debug, Parser)]
#[command(name = "peer", version, after_help = EXIT_CODES, styles = Styles::plain(), max_term_width = 100)]
pub(super) struct Args {
    #[command(flatten)]
    global: Global,
    /// Alone in a terminal, `peer` is `peer ui`.
    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Debug, ClapArgs)]
struct Global {
    /// The tracker; port 8000 unless given [default: the one used last, else one found on this network].
    #[arg(long, global = true, value_name = "HOST[:PORT]", env = "VIZINHO_TRACKER")]
    tracker: Option<TrackerAddress>,
    /// The profile's folder [default: vizinho in the XDG data folder].
    #[arg(long, global = true, value_name = "DIR", env = "VIZINHO_HOME")]
    home: Option<PathBuf>,
    /// Print NDJSON for programs.
    #[arg(long, global = true)]
    json: bool,
    /// Print only data and errors.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Log what happens inside; again for more.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Don't look for a tracker on the local network (mDNS) when none is known.
    #[arg(long, global = true)]
    no_mdns: bool,
    /// Never ask anything.
    #[arg(long, global = true)]
    no_input: bool,
    /// When to use colour.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: When,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Make an account at the tracker, bound to this machine's key.
    Register {
        /// 1 to 32 of A-Z a-z 0-9 _ . -
        user: UserName,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Enter an account that exists, from this machine.
    Login {
        /// The account.
        user: UserName,
        #[command(flatten)]
        password: PasswordArgs,
        /// The account has another machine's key: put this one's in its place.
        #[arg(long)]
        rebind: bool,
    },
    /// Stop the node and forget the account on this machine; the key and the shares stay.
    Logout,
    /// Show who this profile is.
    Whoami,
    /// Offer files and folders; links are not followed, hidden files only if named.
    Share {
        /// Files and folders.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Offer it under another name.
        #[arg(long = "as", value_name = "NAME")]
        name: Option<FileName>,
    },
    /// Offer no longer.
    Unshare {
        /// Names, folders (docs/) or paths.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show what is offered.
    Shares,
    /// Be online: serve the shares, take messages, show both.
    Serve {
        /// The UDP port [default: the one of last time, else any].
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
        /// Where others find this node instead of at its own addresses: a port of the router or container host that
        /// is forwarded to --port.
        #[arg(long, value_name = "[IP:]PORT", value_parser = forwarded)]
        announce: Option<Forwarded>,
        /// Send at most this many bytes a second, to all together (10M, 500k).
        #[arg(long, value_name = "RATE", value_parser = rate)]
        limit: Option<u64>,
        /// Send at most this many bytes a second to each peer.
        #[arg(long, value_name = "RATE", value_parser = rate)]
        limit_per_peer: Option<u64>,
    },
    /// Show who is online.
    List {
        /// Only this user.
        user: Option<UserName>,
        /// Only who shares a file of this name.
        #[arg(long, value_name = "NAME")]
        sharing: Option<FileName>,
        /// Only who shares a file of this hash.
        #[arg(long, value_name = "HASH", value_parser = hash_text)]
        hash: Option<HashText>,
        /// At most this many.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
    },
    /// Find files of everybody who is online, by words of their names or by hash.
    Find {
        /// Words that begin words of the file's name, or one hash of 64 hex digits.
        #[arg(required = true, value_name = "WORDS|HASH")]
        words: Vec<String>,
        /// At most this many.
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show what somebody shares.
    Files {
        /// Who.
        user: UserName,
        /// Only names that start with this.
        #[arg(default_value = "", hide_default_value = true)]
        prefix: String,
    },
    /// Get files: verified, several at once, resumed where they were left.
    Fetch {
        /// From whom.
        #[arg(required_unless_present = "retry")]
        user: Option<UserName>,
        /// Names, folders (docs/) and patterns ('*.pdf').
        #[arg(required_unless_present = "retry", value_name = "NAME")]
        names: Vec<String>,
        /// Fetch again what failed the last time.
        #[arg(long, conflicts_with_all = ["user", "names", "from", "only", "if_exists"])]
        retry: bool,
        /// Ask these as well, whether or not the tracker says that they have it.
        #[arg(long, value_name = "USER,…", value_delimiter = ',')]
        from: Vec<UserName>,
        /// Ask nobody but the user, and those named with --from.
        #[arg(long)]
        only: bool,
        /// Receive at most this many bytes a second (10M, 500k).
        #[arg(long, value_name = "RATE", value_parser = rate)]
        limit: Option<u64>,
        /// Wait this long for sources that are gone.
        #[arg(long, value_name = "SECONDS", default_value_t = 90)]
        patience: u32,
        /// Offer what was fetched as well.
        #[arg(long)]
        share: bool,
        /// A folder, a file's new name, or - for standard output.
        #[arg(short, long, value_name = "DIR|FILE|-", default_value = ".")]
        output: PathBuf,
        /// Streams that pull at once.
        #[arg(short = 'j', long = "jobs", value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
        jobs: u8,
        /// What to do where a file exists [default: skip one with the same content, else rename].
        #[arg(long, value_name = "WHAT")]
        if_exists: Option<Existing>,
    },
    /// Talk to somebody: one message, standard input line by line, or a conversation in the terminal.
    Chat {
        /// To whom.
        user: UserName,
        /// The message.
        text: Option<String>,
        /// Fail when it can't be delivered now, instead of keeping it for later.
        #[arg(long)]
        now: bool,
    },
    /// See people, conversations, files and transfers in one view; `peer` alone in a terminal does the same.
    Ui,
    /// Show what was said, oldest first.
    History {
        /// With whom [default: everybody].
        user: Option<UserName>,
        /// Only what is not older (90s, 30m, 12h, 2d, 3w).
        #[arg(long, value_name = "AGE", value_parser = age)]
        since: Option<i64>,
        /// At most this many: the last ones.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        /// Only what has words in it that begin with each of these, whatever their case and accents.
        #[arg(long, value_name = "WORDS", num_args = 1..)]
        search: Option<Vec<String>>,
    },
    /// Show what is unread; it is read then.
    Inbox,
    /// Show what waits to be delivered.
    Outbox {
        #[command(subcommand)]
        command: Option<OutboxCommand>,
    },
    /// Offer files to one person alone, and tell them; without files show what is offered.
    Offer {
        /// To whom.
        user: Option<UserName>,
        /// Files; names with --withdraw.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Offer it under another name.
        #[arg(long = "as", value_name = "NAME", conflicts_with = "withdraw")]
        name: Option<FileName>,
        /// Take back what is offered under these names.
        #[arg(long, requires = "files")]
        withdraw: bool,
    },
    /// Refuse messages, offers and fetches of somebody; without a name show who is blocked.
    Block {
        /// Who.
        user: Option<UserName>,
    },
    /// Refuse them no longer.
    Unblock {
        /// Who.
        user: UserName,
    },
    /// Show or set how you are told of messages: the terminal's bell, and a program that is run for each.
    Notify {
        /// Whether a terminal rings.
        #[arg(long, value_name = "on|off")]
        bell: Option<Switch>,
        /// Run no program.
        #[arg(long, conflicts_with = "hook")]
        no_hook: bool,
        /// The program and its arguments, after --; it is run without a shell.
        #[arg(last = true, value_name = "CMD")]
        hook: Vec<String>,
    },
    /// Tell everything that happens as NDJSON, and take commands as NDJSON from standard input.
    Events,
    /// Show the key on record of somebody, or replace it.
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
    },
    /// Show a number that both can read aloud, to be sure of each other's keys.
    Verify {
        /// With whom.
        user: UserName,
        /// They are the same: don't ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
enum OutboxCommand {
    /// Take a message out.
    Drop {
        /// Its id, or how that begins.
        id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Switch {
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
enum Existing {
    Skip,
    Rename,
    Overwrite,
    Fail,
}

/// What the arguments come to.
#[derive(Debug)]
pub(super) struct Configured {
    pub(super) context: Context,
    pub(super) command: Command,
}

impl Args {
    /// Reads the arguments; `in_terminal`, the command may be left out.
    ///
    /// # Errors
    /// What is wrong with them, or what they ask to be shown.
    pub(super) fn read(
        args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
        in_terminal: bool,
    ) -> Result<Self, clap::Error> {
        let command = Self::command().subcommand_required(!in_terminal).arg_required_else_help(!in_terminal);
        Self::from_arg_matches(&command.try_get_matches_from(args)?)
    }

    pub(super) const fn verbosity(&self) -> u8 {
        self.global.verbose
    }

    pub(super) fn output(&self) -> Output {
        let color = match self.global.color {
            When::Auto => ColorChoice::Auto,
            When::Always => ColorChoice::Always,
            When::Never => ColorChoice::Never,
        };
        Output::new(OutputOptions { json: self.global.json, quiet: self.global.quiet, color })
    }

    /// Checks what clap can't.
    pub(super) fn configure(self, output: Output, cancel: CancellationToken) -> Result<Configured, Error> {
        let home = match self.global.home {
            Some(home) if home.as_os_str().is_empty() => return Err(Error::Usage("--home is empty".to_owned())),
            Some(home) => home,
            None => default_home()?,
        };
        let command = self.command.unwrap_or(Subcommands::Ui).into_command()?;
        if self.global.json
            && let Command::Fetch { request: Some(Request { destination: Destination::Stdout, .. }), .. } = &command
        {
            return Err(Error::Usage("-o - and --json both want standard output".to_owned()));
        }
        let Global { tracker, no_input, no_mdns, .. } = self.global;
        Ok(Configured { context: Context { home, tracker, output, no_input, no_mdns, cancel }, command })
    }
}

impl Subcommands {
    fn into_command(self) -> Result<Command, Error> {
        Ok(match self {
            Self::Register { user, password } => Command::Register { user, password: password.source() },
            Self::Login { user, password, rebind } => Command::Login { user, password: password.source(), rebind },
            Self::Logout => Command::Logout,
            Self::Whoami => Command::Whoami,
            Self::Share { paths, name } => Command::Share { paths, name },
            Self::Unshare { names } => Command::Unshare { names },
            Self::Shares => Command::Shares,
            Self::Serve { port, announce: forwarded, limit, limit_per_peer } => Command::Serve {
                place: Place { port, forwarded },
                limits: Limits { total: limit, per_peer: limit_per_peer },
            },
            Self::List { user, sharing: name, hash, limit } => {
                let wanted = ListPeers { user, name, hash, with_files: Some(false), ..ListPeers::default() };
                Command::List { wanted, most: limit.map_or(usize::MAX, count) }
            }
            Self::Find { words, limit } => Command::Find { wanted: wanted(&words)?, most: count(limit) },
            Self::Files { user, prefix } => Command::Files { user, prefix },
            Self::Fetch { user: None, share, .. } => Command::Fetch { request: None, share },
            Self::Fetch {
                user: Some(user),
                names,
                from,
                only,
                limit,
                patience,
                share,
                output,
                jobs,
                if_exists,
                ..
            } => {
                let sources = match (only, from.is_empty()) {
                    (true, _) => Sources::Only(from),
                    (false, true) => Sources::Everybody,
                    (false, false) => Sources::Also(from),
                };
                let request = Request {
                    from: user,
                    names,
                    destination: destination(output)?,
                    if_exists: if_exists.map_or(IfExists::SkipSame, Existing::policy),
                    streams: usize::from(jobs),
                    sources,
                    limit,
                    patience: Duration::from_secs(patience.into()),
                };
                Command::Fetch { request: Some(request), share }
            }
            Self::Chat { user, text, now } => Command::Chat { user, text, now },
            Self::Ui => Command::Ui,
            Self::History { user, since, limit, search } => Command::History(Past {
                with: user,
                search: search.map(|words| words.join(" ")),
                since_ms: since,
                limit: limit.and_then(|limit| usize::try_from(limit).ok()),
            }),
            Self::Inbox => Command::Inbox,
            Self::Outbox { command: None } => Command::Outbox,
            Self::Outbox { command: Some(OutboxCommand::Drop { id }) } => Command::OutboxDrop { id },
            Self::Offer { user: Some(to), files, withdraw: true, .. } => {
                Command::Withdraw { to, names: files.iter().map(|file| offered_name(file)).collect::<Result<_, _>>()? }
            }
            Self::Offer { user: Some(to), files, name, .. } if !files.is_empty() => {
                Command::Offer { to, paths: files, name }
            }
            Self::Offer { user, .. } => Command::Offers { to: user },
            Self::Block { user: Some(user) } => Command::Block { user },
            Self::Block { user: None } => Command::Blocked,
            Self::Unblock { user } => Command::Unblock { user },
            Self::Notify { bell, no_hook, hook } => Command::Notify(NotifyChange {
                rings: bell.map(|bell| matches!(bell, Switch::On)),
                hook: Some(hook).filter(|hook| no_hook || !hook.is_empty()),
            }),
            Self::Events => Command::Events,
            Self::Trust { user: Some(user), replace, .. } => Command::Trust { of: Whose::User(user), replace },
            Self::Trust { user: None, replace, .. } => Command::Trust { of: Whose::Tracker, replace },
            Self::Verify { user, yes } => Command::Verify { user, yes },
        })
    }
}

impl PasswordArgs {
    fn source(self) -> PasswordSource {
        self.password_file.map_or(PasswordSource::Prompt, PasswordSource::File)
    }
}

impl Existing {
    const fn policy(self) -> IfExists {
        match self {
            Self::Skip => IfExists::Skip,
            Self::Rename => IfExists::Rename,
            Self::Overwrite => IfExists::Overwrite,
            Self::Fail => IfExists::Fail,
        }
    }
}

/// A folder if it is one or ends like one, `-` for standard output, else what is fetched decides.
fn destination(path: PathBuf) -> Result<Destination, Error> {
    if path.as_os_str() == "-" {
        if std::io::stdout().is_terminal() {
            return Err(Error::Usage("standard output is a terminal: -o - wants a pipe or a file".to_owned()));
        }
        return Ok(Destination::Stdout);
    }
    let ends_like_a_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let is_folder = ends_like_a_folder || path.is_dir() || path.file_name().is_none();
    Ok(if is_folder { Destination::Folder(path) } else { Destination::FileOrFolder(path) })
}

/// `40000`, `192.0.2.7:40000` or `[2001:db8::7]:40000`.
fn forwarded(text: &str) -> Result<Forwarded, String> {
    let wrong = || format!("{text:?} is neither PORT nor IP:PORT");
    let (ip, port) = match text.parse::<SocketAddr>() {
        Ok(address) => (Some(address.ip()), address.port()),
        Err(_) => (None, text.parse().map_err(|_| wrong())?),
    };
    Ok(Forwarded { ip, port: NonZeroU16::new(port).ok_or_else(wrong)? })
}

/// By what to find files: one hash, or words.
fn wanted(words: &[String]) -> Result<Wanted, Error> {
    if let [only] = words
        && let Ok(hash) = only.parse::<ContentHash>()
    {
        return Ok(Wanted::Hash(hash.into()));
    }
    let none =
        || Error::Usage(format!("give 1 to {FIND_WORDS} words of letters and digits, or one hash of 64 hex digits"));
    Words::new(&words.join(" ")).map(Wanted::Words).ok_or_else(none)
}

fn hash_text(text: &str) -> Result<HashText, String> {
    HashText::new(text).ok_or_else(|| "a hash has at most 128 characters".to_owned())
}

fn count(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// `500k`, `10M`, `1G`: bytes a second, in powers of ten as networks count.
fn rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a rate: say 500k, 10M or 1G bytes a second");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let rate = number * scale;
    if !(1000.0..=1e12).contains(&rate) {
        return Err(format!("{text} is out of range: at least 1k bytes a second"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, as just checked")]
    Ok(rate as u64)
}

/// The name of an offer.
fn offered_name(text: &std::path::Path) -> Result<FileName, Error> {
    let text = text.to_string_lossy();
    text.parse().map_err(|why| Error::Usage(format!("{text}: {why}")))
}

/// `90s`, `30m`, `12h`, `2d`, `3w`: milliseconds.
fn age(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is not an age: say 30m, 12h, 2d or 3w");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds: i64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        'w' => 7 * 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    Ok(i64::from(number) * seconds * 1000)
}

fn default_home() -> Result<PathBuf, Error> {
    let folders = directories::ProjectDirs::from("", "", "vizinho");
    let folders = folders
        .ok_or_else(|| Error::Usage("there is no home folder: give the profile's with --home DIR".to_owned()))?;
    Ok(folders.data_dir().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    fn command(args: &[&str]) -> Command {
        Args::read(args, false).unwrap().command.unwrap().into_command().unwrap()
    }

    #[test]
    fn fetch_arguments() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().to_str().unwrap();
        let destination = |output: &str| match command(&["peer", "fetch", "bob", "a", "-o", output]) {
            Command::Fetch { request: Some(request), .. } => request.destination,
            other => panic!("{other:?}"),
        };
        assert_eq!(destination(folder), Destination::Folder(folder.into()));
        assert_eq!(destination("new/"), Destination::Folder("new/".into()));
        assert_eq!(destination("new"), Destination::FileOrFolder("new".into()));
        assert_eq!(destination("."), Destination::Folder(".".into()));
        assert_eq!(destination(".."), Destination::Folder("..".into()));
    }

    #[test]
    fn forwardings() {
        let port = NonZeroU16::new(40_000).unwrap();
        for (text, ip) in
            [("40000", None), ("192.0.2.7:40000", Some("192.0.2.7")), ("[2001:db8::7]:40000", Some("2001:db8::7"))]
        {
            assert_eq!(forwarded(text), Ok(Forwarded { ip: ip.map(|ip| ip.parse().unwrap()), port }), "{text}");
        }
        for wrong in ["", "0", "65536", "192.0.2.7", "192.0.2.7:0", "host:1", "1:2:3"] {
            assert!(forwarded(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn alone_in_a_terminal_it_is_the_view_of_everything() {
        assert!(Args::read(["peer"], true).unwrap().command.is_none());
        assert!(Args::read(["peer", "--home", "x"], true).unwrap().command.is_none());
        assert_eq!(Args::read(["peer", "--home", "x"], false).unwrap_err().exit_code(), 2);
        assert!(matches!(command(&["peer", "ui"]), Command::Ui));
    }

    #[test]
    fn ages() {
        assert_eq!((age("2d"), age("90s")), (Ok(172_800_000), Ok(90_000)));
        for wrong in ["", "d", "2", "-1d", "2é", "1.5h", "99999999999w"] {
            assert!(age(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(rate("10M"), Ok(10_000_000));
        assert_eq!(rate("1.5k"), Ok(1500));
        for wrong in ["", "M", "10X", "-1k", "0", "1", "NaN", "1e99G"] {
            assert!(rate(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn wrong_words_are_usage_errors() {
        for args in [
            &["peer"] as &[&str],
            &["peer", "register"],
            &["peer", "register", "a b"],
            &["peer", "fetch", "bob"],
            &["peer", "fetch", "bob", "x", "-j", "0"],
            &["peer", "share"],
            &["peer", "trust", "bob", "--replace", "12"],
            &["peer", "--tracker", "a b", "list"],
            &["peer", "serve", "--port", "0"],
            &["peer", "serve", "--announce", "0"],
            &["peer", "serve", "--announce", "host:1"],
            &["peer", "find"],
            &["peer", "list", "--limit", "0"],
        ] {
            assert_eq!(Args::read(args.iter(), false).unwrap_err().exit_code(), 2, "{args:?}");
        }
    }
}
