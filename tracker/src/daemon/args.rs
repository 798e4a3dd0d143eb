//! The command line; the rest of the tracker sees only [`DaemonConfig`].

mod help_text;
mod identity_args;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use localization::{Language, tr};
use shared::Fingerprint;
use shared::limits::LEGACY_LEASE_DURATION;
use tracing::level_filters::LevelFilter;

pub(super) use identity_args::IdentityCommand;

use super::{DaemonConfig, data_folder, listeners};
use crate::connection_slots::PerAddressLimits;
use crate::rate_limits::RateSettings;
use crate::registry::AddressBlock;
use crate::service::RegistrationMode;
use crate::store::{PostgresAddress, PostgresAddressError};

/// The default limit of connections from one address of the network.
const DEFAULT_CONNECTIONS_PER_IP: usize = 1024;

/// Keeps track of who is online on this network and what they share.
///
/// Without a command it runs the tracker: it prints `tracker listening on ADDRESS:PORT`, its key's fingerprint and
/// the command with which people make their accounts when it is ready; logs go to standard error. SIGTERM or SIGINT
/// shuts it down cleanly, SIGHUP reads the configuration file again. The commands ask the tracker that runs on the same
/// data folder.
#[derive(Debug, Parser)]
#[command(name = "tracker", version = env!("VIZINHO_VERSION"), max_term_width = 100, subcommand_help_heading = "Commands")]
#[command(after_help = help_text::TRACKER.examples, after_long_help = help_text::TRACKER.long())]
pub struct TrackerArgs {
    #[command(flatten)]
    options: TrackerOptions,
    /// The command; `None` runs the tracker.
    #[command(subcommand)]
    pub command: Option<TrackerCommand>,
}

/// The commands, most of them for the running tracker.
#[derive(Debug, Subcommand)]
pub enum TrackerCommand {
    /// List, make, change and remove accounts
    #[command(after_help = help_text::USER.examples, after_long_help = help_text::USER.long())]
    User {
        /// The operation on accounts.
        #[command(subcommand)]
        command: UserCommand,
    },
    /// List and delete rooms
    #[command(after_help = help_text::ROOM.examples, after_long_help = help_text::ROOM.long())]
    Room {
        /// The operation on rooms.
        #[command(subcommand)]
        command: RoomCommand,
    },
    /// Show how the running tracker does
    #[command(after_help = help_text::STATUS.examples, after_long_help = help_text::STATUS.long())]
    Status {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Write everything that the tracker keeps to a new file, while it runs: accounts, rooms, key, who is online
    ///
    /// The file is a tar archive that only its owner may read: it holds the tracker's secret key, with which anybody
    /// can pose as this tracker, everybody's password hashes, and the tokens of their sessions.
    #[command(after_help = help_text::BACKUP.examples, after_long_help = help_text::BACKUP.long())]
    Backup {
        /// The new file
        file: PathBuf,
    },
    /// Put a backup into the data folder, while no tracker runs on it
    ///
    /// The file is checked first, and it is all or nothing. What was there before is kept in the folder
    /// before-restore-N within the data folder. A plain copy of tracker.db is taken, too; then the key stays as it is.
    #[command(after_help = help_text::RESTORE.examples, after_long_help = help_text::RESTORE.long())]
    Restore {
        /// The backup
        file: PathBuf,
    },
    /// Begin anew without the key or the accounts when they are lost for good, while no tracker runs on it
    #[command(after_help = help_text::NEW.examples, after_long_help = help_text::NEW.long())]
    New {
        /// Which
        what: LostPart,
    },
    /// Show the fingerprint of the tracker's key, or carry the key to another tracker of the same database
    #[command(after_help = help_text::IDENTITY.examples, after_long_help = help_text::IDENTITY.long())]
    Identity {
        /// The operation on the key; `None` shows its fingerprint.
        #[command(subcommand)]
        command: Option<IdentityCommand>,
    },
    /// Copy all accounts and rooms from a data folder to an empty PostgreSQL database, or back, while no tracker runs on
    /// either
    ///
    /// It is all or nothing, and what is copied from stays as it is. The tracker's key is not copied: it stays in the data
    /// folder.
    #[command(after_help = help_text::MIGRATE.examples, after_long_help = help_text::MIGRATE.long())]
    Migrate {
        /// Where they are: a data folder, or the address of a database
        #[arg(long, value_name = "DIR|ADDRESS")]
        from: String,
        /// Where they are to be
        #[arg(long, value_name = "DIR|ADDRESS")]
        to: String,
    },
    /// Write users or peers as the JSON files of the original exercise
    #[command(after_help = help_text::EXPORT.examples, after_long_help = help_text::EXPORT.long())]
    Export {
        /// Which
        what: ExportKind,
    },
    /// Print the effective configuration and where each value comes from
    #[command(after_help = help_text::CONFIG.examples, after_long_help = help_text::CONFIG.long())]
    Config,
}

/// The operations on accounts.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Show all accounts, whether they are online, and their keys
    #[command(after_help = help_text::USER_LIST)]
    List {
        /// As one JSON list
        #[arg(long)]
        json: bool,
    },
    /// Make an account; without --password-file its password is made up and printed, to be handed on as an invitation
    #[command(after_help = help_text::USER_ADD)]
    Add {
        /// Its name
        name: String,
        /// File with the password; `-` is standard input
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Remove an account; its sessions end, and it leaves its rooms
    #[command(after_help = help_text::USER_REMOVE)]
    Remove {
        /// Its name
        name: String,
    },
    /// Give an account another password; without --password-file it is made up and printed; its sessions end
    #[command(after_help = help_text::USER_RESET_PASSWORD)]
    ResetPassword {
        /// Its name
        name: String,
        /// File with the password; `-` is standard input
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Release an account from its machine: the next login ties it to another; its sessions end, and it leaves its rooms
    #[command(after_help = help_text::USER_UNBIND)]
    Unbind {
        /// Its name
        name: String,
    },
}

/// The operations on rooms.
#[derive(Debug, Subcommand)]
pub enum RoomCommand {
    /// Show all rooms, their owners, and how many members they have
    #[command(after_help = help_text::ROOM_LIST)]
    List {
        /// As one JSON list
        #[arg(long)]
        json: bool,
    },
    /// End a room: its members are told, and its name is free
    #[command(after_help = help_text::ROOM_DELETE)]
    Delete {
        /// Its name
        name: String,
    },
}

/// The parts that can be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LostPart {
    /// The tracker's key: the accounts stay, and everybody has to trust the tracker again
    Key,
    /// The accounts: the key stays, and everybody has to register again
    Accounts,
}

/// The lists that can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportKind {
    /// Names and password hashes
    Users,
    /// Who is online, where, and with which files
    Peers,
}

/// The formats of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Clone, clap::Args)]
struct TrackerOptions {
    /// Read options from this TOML file; each long option is a key there, the command line comes first
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Address and port to listen on, or several; port 0 takes any free one; sockets that systemd hands over come first
    ///
    /// Of 0.0.0.0 and [::] with one port, one is enough where the machine has no addresses of the other family.
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', default_values = ["0.0.0.0:8000", "[::]:8000"],
          value_parser = listeners::address)]
    listen: Vec<SocketAddr>,

    /// Folder for accounts and the tracker's key, made if it isn't there
    /// [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]
    #[arg(long, value_name = "DIR", verbatim_doc_comment, global = true)]
    data_dir: Option<PathBuf>,

    /// Keep accounts and rooms in this PostgreSQL database instead, as postgres://USER@HOST,HOST/DATABASE
    ///
    /// Its password is in PGPASSWORD, in ~/.pgpass, or in the file that ?passfile=FILE names, which only the tracker's user
    /// may read. The tracker's key stays in the data folder; several trackers that share a database have the same one.
    #[arg(long, value_name = "ADDRESS", global = true)]
    store: Option<String>,

    /// How long a user of the exercise's clients stays listed without a request
    #[arg(long, value_name = "SECONDS", default_value_t = LEGACY_LEASE_DURATION.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    legacy_ttl: u64,

    /// Don't let the IP address that logged in speak for a user of the exercise's clients
    #[arg(long)]
    no_legacy_auth: bool,

    /// Most connections at a time
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,

    /// Most connections from one IP address at a time
    /// [default: 1024; from this machine itself as many as --max-connections]
    #[arg(long, value_name = "N", verbatim_doc_comment, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections_per_ip: Option<u32>,

    /// Wrong passwords a minute for one user from one IP address, and fifty times as many for all users from there;
    /// 2.5 times that at once; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    rate_limit_logins: u32,

    /// Registrations a minute from one IP address; five times that at once, and twenty times that a day; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    rate_limit_registrations: u32,

    /// Who may make an account: everybody, or only the administrator with `tracker user add`
    #[arg(long, value_name = "WHO", default_value = "open")]
    registration: RegistrationArg,

    /// Key of a machine through which many people come, or of several: the people behind it are counted each for themselves
    ///
    /// `peer web --accounts` prints its key at the start. It names each person with FORWARDED, and proves the key by its
    /// certificate in TLS or by a signature.
    #[arg(long, value_name = "FINGERPRINT", value_delimiter = ',')]
    trusted_door: Vec<Fingerprint>,

    /// Addresses beyond the local network at which peers may be found, or several: `peer serve --announce` names them
    #[arg(long, value_name = "NET", value_delimiter = ',')]
    allow_announce: Vec<AddressBlock>,

    /// Memory that the list of all users' files may take; the fuller it is, the less one user or address may have of it
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    max_catalogue_mib: u32,

    /// Serve /metrics (Prometheus) and /healthz over HTTP there; a port alone is on 127.0.0.1
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = metrics_address)]
    metrics: Option<SocketAddr>,

    /// Don't announce the tracker on the local network (mDNS)
    #[arg(long)]
    no_mdns: bool,

    /// The language of messages and help, en or pt-BR; logs are always English [default: that of the locale]
    #[arg(long, value_name = "LANG", global = true)]
    lang: Option<Language>,

    /// How much to log: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value_t = LevelFilter::INFO, env = "VIZINHO_TRACKER_LOG", global = true)]
    log: LevelFilter,

    /// In what form to log
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RegistrationArg {
    Open,
    Closed,
}

impl TrackerArgs {
    /// Returns the log's level.
    pub const fn log_level(&self) -> LevelFilter {
        self.options.log
    }

    /// Returns the log's format.
    pub const fn log_format(&self) -> LogFormat {
        self.options.log_format
    }

    /// Returns the path of the configuration file.
    pub const fn config_file(&self) -> Option<&PathBuf> {
        self.options.config.as_ref()
    }

    /// Returns the data folder; `None` for a user without a home.
    pub fn data_folder(&self) -> Option<PathBuf> {
        self.options.data_dir.clone().or_else(data_folder::default_folder)
    }

    /// Returns the database of accounts and rooms; `None` if the data folder has them. Fails with
    /// [`PostgresAddressError`].
    pub fn store(&self) -> Result<Option<PostgresAddress>, PostgresAddressError> {
        self.options.store.as_deref().map(PostgresAddress::parse).transpose()
    }

    /// Returns the daemon's configuration; `None` when there is no data folder.
    pub fn to_config(&self) -> Option<DaemonConfig> {
        let options = &self.options;
        let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let max_connections = count(options.max_connections);
        let per_address = match options.max_connections_per_ip.map(count) {
            // One number given for all addresses includes loopback; by default proxies there get everything.
            Some(limit) => PerAddressLimits { remote: limit, loopback: limit },
            None => PerAddressLimits { remote: DEFAULT_CONNECTIONS_PER_IP, loopback: max_connections },
        };
        Some(DaemonConfig {
            listen: options.listen.clone(),
            data_folder: self.data_folder()?,
            legacy_ttl: Duration::from_secs(options.legacy_ttl),
            legacy_auth: !options.no_legacy_auth,
            max_connections,
            per_address,
            rates: RateSettings {
                logins: NonZeroU32::new(options.rate_limit_logins),
                registrations: NonZeroU32::new(options.rate_limit_registrations),
            },
            registration: match options.registration {
                RegistrationArg::Open => RegistrationMode::Open,
                RegistrationArg::Closed => RegistrationMode::Closed,
            },
            trusted_doors: options.trusted_door.clone(),
            announceable: options.allow_announce.clone(),
            catalogue_bytes: count(options.max_catalogue_mib).saturating_mul(1 << 20),
            metrics: options.metrics,
            mdns: !options.no_mdns,
        })
    }
}

fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
        Err(_) => text.parse().map_err(|_| tr!("not PORT or ADDR:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        TrackerArgs::command().debug_assert();
        let args = TrackerArgs::parse_from(["tracker", "--data-dir", "x", "--no-legacy-auth", "--legacy-ttl", "2"]);
        let config = args.to_config().unwrap();
        let both: [SocketAddr; 2] = ["0.0.0.0:8000".parse().unwrap(), "[::]:8000".parse().unwrap()];
        assert_eq!(config.listen, both);
        for words in [&["--listen", "0.0.0.0:8000,[::]:8000"][..], &["--listen", "0.0.0.0:8000", "--listen=[::]:8000"]]
        {
            let args = TrackerArgs::parse_from(["tracker", "--data-dir", "x"].iter().chain(words));
            assert_eq!(args.to_config().unwrap().listen, both);
        }
        assert_eq!((config.legacy_auth, config.legacy_ttl), (false, Duration::from_secs(2)));
        assert_eq!((config.metrics, config.mdns), (None, true));
        assert!(TrackerArgs::try_parse_from(["tracker", "--legacy-ttl", "0"]).is_err());
        assert!(TrackerArgs::try_parse_from(["tracker", "--log", "loud"]).is_err());
        let args = TrackerArgs::parse_from([
            "tracker",
            "--metrics",
            "9100",
            "--data-dir",
            "x",
            "--max-connections-per-ip",
            "5",
        ]);
        let config = args.to_config().unwrap();
        assert_eq!(config.metrics, Some("127.0.0.1:9100".parse().unwrap()));
        assert_eq!((config.per_address.remote, config.per_address.loopback), (5, 5));
        let args = TrackerArgs::parse_from(["tracker", "user", "list", "--data-dir", "x"]);
        assert_eq!(args.data_folder(), Some("x".into()));
    }
}
