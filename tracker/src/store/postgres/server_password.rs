//! The password for a server: from the environment or a file, as other clients of PostgreSQL look for it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tracing::warn;

use super::postgres_address::PostgresAddress;

/// Returns the password for one server of an address: PGPASSWORD, else that of the file. Read anew for each session, so
/// that a change counts.
pub(super) fn find_password(address: &PostgresAddress, server: &Config) -> Option<String> {
    let from_environment = std::env::var("PGPASSWORD").ok().filter(|password| !password.is_empty());
    from_environment.or_else(|| {
        let named = address.password_file.clone().or_else(|| std::env::var_os("PGPASSFILE").map(PathBuf::from));
        let file = named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pgpass")))?;
        let text = read_private(&file)?;
        let ports = server.get_ports();
        let user = server.get_user().map_or_else(|| std::env::var("USER").unwrap_or_default(), str::to_owned);
        server.get_hosts().iter().find_map(|host| {
            let port = ports.first().copied().unwrap_or(5432).to_string();
            let host = match host {
                Host::Tcp(name) => name.clone(),
                // Files of passwords have this name for a local socket (PostgreSQL, "The Password File").
                Host::Unix(_) => "localhost".to_owned(),
            };
            find_in(&text, [&host, &port, address.database(), &user])
        })
    })
}

/// Reads a file that nobody else may read; others are left alone, as `psql` does.
fn read_private(file: &Path) -> Option<String> {
    let mode = file.metadata().ok()?.permissions().mode();
    if mode & 0o077 != 0 {
        warn!(file = %shared::safe_text::safe_path(file), "others may read this file of passwords: it is ignored (chmod 600)");
        return None;
    }
    std::fs::read_to_string(file).inspect_err(|why| warn!(%why, "the file of passwords can't be read")).ok()
}

/// Returns the password of the first line whose host, port, database and user fit; `*` fits all.
fn find_in(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [host, port, database, user, password] = fields.as_slice() else { return None };
        let fits =
            [host, port, database, user].iter().zip(wanted).all(|(field, wanted)| *field == "*" || *field == wanted);
        fits.then(|| password.clone())
    })
}

/// Splits a line at its colons; a backslash takes the next character as it is. The fifth field is the rest.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut letters) = (vec![String::new()], line.chars());
    while let Some(letter) = letters.next() {
        let count = fields.len();
        let Some(field) = fields.last_mut() else { break };
        match letter {
            '\\' => field.extend(letters.next()),
            ':' if count < 5 => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::fs::{File, Permissions};
    use std::io::Write;

    use super::*;

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let text = "# comment\nbroken\ndb:5432:vizinho:other:no\ndb:*:vizinho:tracker:s3:c\\\\r\\:et\n*:*:*:*:any\n";
        assert_eq!(find_in(text, ["db", "5432", "vizinho", "tracker"]).as_deref(), Some("s3:c\\r:et"));
        assert_eq!(find_in(text, ["db2", "5432", "vizinho", "tracker"]).as_deref(), Some("any"));
        assert_eq!(find_in("db:1:v:t:x", ["db", "2", "v", "t"]), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pass");
        File::create(&path).unwrap().write_all(b"localhost:*:v:t:s3cret").unwrap();
        let text = format!("postgres://t@127.0.0.1/v?host=/run/x&passfile={}", path.to_str().unwrap());
        let address = PostgresAddress::parse(&text).unwrap();
        for (mode, found) in [(0o640, None), (0o600, Some("s3cret"))] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let server = address.servers().last().unwrap();
            assert_eq!(find_password(&address, server).as_deref(), found);
        }
    }
}
