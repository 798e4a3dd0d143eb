//! The command line; everything behind it sees only [`Config`].

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use shared::limits::LEGACY_LEASE;
use tracing::level_filters::LevelFilter;

use super::Config;
use super::data_folder;
use crate::limits::Rates;
use crate::server::PerAddress;
use crate::service::Registration;

/// Connections from one address of the network, unless told otherwise.
const CONNECTIONS_PER_IP: usize = 1024;

/// Keeps track of who is online on this network and what they share.
///
/// Prints `tracker listening on ADDRESS:PORT` and its certificate's fingerprint when it is ready; logs go to standard
/// error. SIGTERM or SIGINT ends it in good order.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    /// Address and port to listen on; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8000")]
    listen: SocketAddr,

    /// Folder for accounts and the tracker's key, made if it isn't there
    /// [default: /var/lib/vizinho-tracker for root, else vizinho-tracker in the XDG state folder]
    #[arg(long, value_name = "DIR", verbatim_doc_comment)]
    data_dir: Option<PathBuf>,

    /// How long a user without a certificate stays listed without a request
    #[arg(long, value_name = "SECONDS", default_value_t = LEGACY_LEASE.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    legacy_ttl: u64,

    /// Don't let the IP address that logged in speak for a user without a certificate
    #[arg(long)]
    no_legacy_auth: bool,

    /// Most connections at a time
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,

    /// Most connections from one IP address at a time
    /// [default: 1024; from this machine itself as many as --max-connections]
    #[arg(long, value_name = "N", verbatim_doc_comment, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections_per_ip: Option<u32>,

    /// Wrong passwords a minute for one user from one IP address, and five times as many for all users from there;
    /// 2.5 times that at once; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    rate_limit_logins: u32,

    /// Registrations a minute from one IP address; five times that at once; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    rate_limit_registrations: u32,

    /// Who may make an account: everybody, or only the administrator with `tracker user add`
    #[arg(long, value_name = "WHO", default_value = "open")]
    registration: RegistrationArg,

    /// Memory that the list of all users' files may take
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    max_catalogue_mib: u32,

    /// How much to log: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value_t = LevelFilter::INFO)]
    log: LevelFilter,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RegistrationArg {
    Open,
    Closed,
}

impl Args {
    /// How much to log.
    pub const fn log_level(&self) -> LevelFilter {
        self.log
    }

    /// What the daemon runs with; `None` when there is no folder to keep anything in.
    pub fn into_config(self) -> Option<Config> {
        let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let max_connections = count(self.max_connections);
        let per_address = match self.max_connections_per_ip.map(count) {
            Some(limit) => PerAddress { elsewhere: limit, loopback: limit },
            None => PerAddress { elsewhere: CONNECTIONS_PER_IP, loopback: max_connections },
        };
        Some(Config {
            listen: self.listen,
            data_folder: self.data_dir.or_else(data_folder::default_folder)?,
            legacy_ttl: Duration::from_secs(self.legacy_ttl),
            legacy_auth: !self.no_legacy_auth,
            max_connections,
            per_address,
            rates: Rates {
                logins: NonZeroU32::new(self.rate_limit_logins),
                registrations: NonZeroU32::new(self.rate_limit_registrations),
            },
            registration: match self.registration {
                RegistrationArg::Open => Registration::Open,
                RegistrationArg::Closed => Registration::Closed,
            },
            catalogue_bytes: count(self.max_catalogue_mib).saturating_mul(1 << 20),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
        let args = Args::parse_from(["tracker", "--data-dir", "x", "--no-legacy-auth", "--legacy-ttl", "2"]);
        let config = args.into_config().unwrap();
        assert_eq!(config.listen, "0.0.0.0:8000".parse().unwrap());
        assert_eq!((config.legacy_auth, config.legacy_ttl), (false, Duration::from_secs(2)));
        assert!(Args::try_parse_from(["tracker", "--legacy-ttl", "0"]).is_err());
        assert!(Args::try_parse_from(["tracker", "--log", "loud"]).is_err());
    }
}
