//! The address of a database: which servers, which user, which certificates. Never a password.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use localization::tr;
use shared::safe_text::safe_path;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// The beginnings of addresses of databases.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// A database's address that has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresAddress {
    config: Config,
    /// The same for each server alone.
    servers: Vec<Config>,
    /// The file with the certificates that the server's is signed with; `None`: those of the system.
    pub(super) root_certificates: Option<PathBuf>,
    /// The file with passwords that the address names.
    pub(super) password_file: Option<PathBuf>,
    /// The file that remembers which primary is the newest.
    history_file: Option<PathBuf>,
    is_encrypted: bool,
    /// The name by which the server's lists show the sessions of one store.
    session_name: String,
}

/// The reason why a text is no address of a database. None has a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum PostgresAddressError {
    #[error("{}", tr!(
        "the address of a database begins with postgres://, as postgres://tracker@db.example.org/vizinho"
    ))]
    NoScheme,
    #[error("{}", tr!("{why}: write it as postgres://USER@HOST,HOST/DATABASE", why = .0))]
    Malformed(String),
    #[error("{}", tr!(
        "a password in the address is seen by others in the list of processes: put it into ~/.pgpass (chmod 600), \
         into a file named by passfile= in the address, or into PGPASSWORD"
    ))]
    HasPassword,
    #[error("{}", tr!("sslmode={mode}: use verify-full, or disable", mode = .0))]
    UnknownTlsMode(String),
}

impl PostgresAddress {
    /// Returns whether a text is meant as the address of a database.
    pub fn is_meant_by(text: &str) -> bool {
        SCHEMES.iter().any(|scheme| text.starts_with(scheme))
    }

    /// Parses an address. Fails with [`PostgresAddressError`].
    pub fn parse(text: &str) -> Result<Self, PostgresAddressError> {
        if !Self::is_meant_by(text) {
            return Err(PostgresAddressError::NoScheme);
        }
        // Before the parser, whose message may quote what it doesn't understand.
        if redacted_address(text) != text {
            return Err(PostgresAddressError::HasPassword);
        }
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut tls_mode, mut root_certificates, mut password_file, mut rest) = (None, None, None, Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            // Those that the library doesn't know.
            match parameter.split_once('=') {
                Some(("sslmode", mode)) => tls_mode = Some(mode.to_owned()),
                Some(("sslrootcert", path)) => root_certificates = Some(PathBuf::from(decoded(path))),
                Some(("passfile", path)) => password_file = Some(PathBuf::from(decoded(path))),
                _ => rest.push(parameter),
            }
        }
        let malformed =
            |why: tokio_postgres::Error| PostgresAddressError::Malformed(super::statement_failure::with_causes(&why));
        let mut config: Config = format!("{base}?{}", rest.join("&")).parse().map_err(malformed)?;
        // Asked as well: the parser may see a password where a look at the text sees none.
        if config.get_password().is_some() {
            return Err(PostgresAddressError::HasPassword);
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host_path("/var/run/postgresql");
        }
        let is_encrypted = match tls_mode.as_deref() {
            Some("disable") => false,
            // All that encrypt also look who answers: half of it protects from nobody who could listen.
            Some("require" | "verify-ca" | "verify-full") => true,
            Some(other) => return Err(PostgresAddressError::UnknownTlsMode(other.to_owned())),
            None => root_certificates.is_some() || !config.get_hosts().iter().all(is_this_machine),
        };
        config.ssl_mode(if is_encrypted { SslMode::Require } else { SslMode::Disable });
        let servers = each_server(&config);
        let (history_file, session_name) = (None, String::new());
        Ok(Self { config, servers, root_certificates, password_file, history_file, is_encrypted, session_name })
    }

    /// Remembers in a file which primary is the newest, so that a former one is refused after a restart, too.
    #[must_use]
    pub fn with_history_file(self, file: PathBuf) -> Self {
        Self { history_file: Some(file), ..self }
    }

    /// Returns the file that remembers which primary is the newest.
    pub(super) fn history_file(&self) -> Option<&Path> {
        self.history_file.as_deref()
    }

    /// Returns what leads to each of the servers.
    pub(super) fn servers(&self) -> &[Config] {
        &self.servers
    }

    /// Returns the address for one store, whose sessions have a name of their own.
    pub(super) fn for_one_store(&self) -> Self {
        let session_name = format!("vizinho-tracker process {} {:04x}", std::process::id(), rand::random::<u16>());
        Self { session_name, ..self.clone() }
    }

    /// Returns the name by which the server's lists show the sessions.
    pub(super) fn session_name(&self) -> &str {
        &self.session_name
    }

    /// Returns whether the connection is encrypted and the server's certificate checked.
    pub(super) const fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Returns the name of the database.
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().or_else(|| self.config.get_user()).unwrap_or("postgres")
    }
}

impl fmt::Display for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        let host = |(number, host): (usize, &Host)| {
            // One port may be given for all hosts.
            let port = ports.get(number).or_else(|| ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(folder) => safe_path(folder.join(format!(".s.PGSQL.{port}"))),
            }
        };
        let hosts: Vec<String> = self.config.get_hosts().iter().enumerate().map(host).collect();
        write!(f, "{} on {}", self.database(), hosts.join(", "))
    }
}

/// Returns a text with the passwords of an address replaced.
pub fn redacted_address(text: &str) -> String {
    const HIDDEN: &str = "***";
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (base, query) = rest.split_once('?').map_or((rest, None), |(base, query)| (base, Some(query)));
    // The last @ ends the user and the password; either may have one by mistake.
    let base = match base.rsplit_once('@') {
        Some((login, place)) => match login.split_once(':') {
            Some((user, _)) => format!("{user}:{HIDDEN}@{place}"),
            None => base.to_owned(),
        },
        None => base.to_owned(),
    };
    let hidden = |parameter: &str| match parameter.split_once('=') {
        Some((key, _)) if decoded(key).eq_ignore_ascii_case("password") => format!("{key}={HIDDEN}"),
        _ => parameter.to_owned(),
    };
    let query = query.map(|query| query.split('&').map(hidden).collect::<Vec<_>>().join("&"));
    format!("{scheme}://{base}{}", query.map(|query| format!("?{query}")).unwrap_or_default())
}

/// Returns a configuration for each server of one for several. The library has no way to take servers out of one.
fn each_server(all: &Config) -> Vec<Config> {
    let (hosts, ips, ports) = (all.get_hosts(), all.get_hostaddrs(), all.get_ports());
    let one = |place: usize| {
        let mut one = Config::new();
        match hosts.get(place) {
            Some(Host::Tcp(name)) => drop(one.host(name)),
            Some(Host::Unix(folder)) => drop(one.host_path(folder)),
            None => {}
        }
        ips.get(place).map(|ip| one.hostaddr(*ip));
        ports.get(place).or_else(|| ports.first()).map(|port| one.port(*port));
        all.get_user().map(|user| one.user(user));
        all.get_dbname().map(|name| one.dbname(name));
        all.get_options().map(|options| one.options(options));
        all.get_tcp_user_timeout().map(|limit| one.tcp_user_timeout(*limit));
        one.ssl_mode(all.get_ssl_mode())
            .ssl_negotiation(all.get_ssl_negotiation())
            .channel_binding(all.get_channel_binding())
            .keepalives(all.get_keepalives());
        one
    };
    (0..hosts.len().max(ips.len())).map(one).collect()
}

/// Returns whether nobody can listen between here and the server.
fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
    }
}

/// Decodes `%2F` and its like.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the file of the system's certificates.
pub(super) fn system_certificates() -> &'static Path {
    const FILES: [&str; 3] =
        ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    FILES.iter().map(Path::new).find(|path| path.exists()).unwrap_or(Path::new(FILES[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_where_and_never_a_secret() {
        let several = PostgresAddress::parse(
            "postgres://tracker@a.example,b.example:5433/vizinho?target_session_attrs=read-write&passfile=%2Fx%20y",
        )
        .unwrap();
        assert_eq!(several.password_file, Some("/x y".into()));
        assert!(several.is_encrypted());
        assert_eq!(several.to_string(), "vizinho on a.example:5432, b.example:5433");
        let servers: Vec<_> = several.servers().iter().map(|one| (one.get_hosts(), one.get_ports())).collect();
        let [first, second] = ["a.example", "b.example"].map(|name| [Host::Tcp(name.to_owned())]);
        assert_eq!(servers, [(&first[..], &[5432][..]), (&second[..], &[5433])]);
        assert!(
            several
                .servers()
                .iter()
                .all(|one| one.get_user() == Some("tracker") && one.get_dbname() == Some("vizinho"))
        );
        for near in
            ["postgres://t@localhost/v", "postgres://t@127.0.0.1/v", "postgres:///v?host=/run/x", "postgresql://"]
        {
            assert!(!PostgresAddress::parse(near).unwrap().is_encrypted(), "{near}");
        }
        assert!(PostgresAddress::parse("postgres://t@127.0.0.1/v?sslrootcert=/x").unwrap().is_encrypted());
        assert!(!PostgresAddress::parse("postgres://t@db.example/v?sslmode=disable").unwrap().is_encrypted());
        assert_eq!(PostgresAddress::parse("mysql://x"), Err(PostgresAddressError::NoScheme));
        assert_eq!(
            PostgresAddress::parse("postgres://h/v?sslmode=prefer"),
            Err(PostgresAddressError::UnknownTlsMode("prefer".to_owned()))
        );
        assert!(matches!(PostgresAddress::parse("postgres://h/v?colour=x"), Err(PostgresAddressError::Malformed(_))));
    }

    #[test]
    fn passwords_are_refused_and_never_shown() {
        for (text, shown) in [
            ("postgres://t:s3cret@h/v", "postgres://t:***@h/v"),
            ("postgres://t:s3@cret@h/v?a=b", "postgres://t:***@h/v?a=b"),
            ("postgres://t@h/v?password=s3cret&a=b", "postgres://t@h/v?password=***&a=b"),
            ("postgres://t@h/v?passwor%64=s3cret", "postgres://t@h/v?passwor%64=***"),
        ] {
            assert_eq!(redacted_address(text), shown);
            assert_eq!(PostgresAddress::parse(text), Err(PostgresAddressError::HasPassword), "{text}");
        }
        for text in ["postgres://t@h:5432,i/v?a=b", "/a/folder", "postgres://", "::", "postgres://[::1]:5432/x"] {
            assert_eq!(redacted_address(text), text);
        }
    }
}
