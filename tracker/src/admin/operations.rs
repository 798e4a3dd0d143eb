//! What each request does.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};
use shared::UserName;
use shared::tracker::Password;
use tracing::info;

use super::{Command, Control, Status, UserLine};

type Done = Result<Value, String>;

impl Control {
    pub(super) async fn act(&self, command: Command) -> Done {
        match command {
            Command::Users {} => self.users().await,
            Command::AddUser { user, password } => {
                let (user, password) = (name(&user)?, secret(&password)?);
                self.service.add_account(&user, &password).await.map_err(|why| why.to_string())?;
                info!(%user, "account made by the administrator");
                Ok(Value::Null)
            }
            Command::RemoveUser { user } => {
                let user = name(&user)?;
                self.service.remove_account(&user).await.map_err(|why| why.to_string())?;
                info!(%user, "account removed by the administrator");
                Ok(Value::Null)
            }
            Command::ResetPassword { user, password } => {
                let (user, password) = (name(&user)?, secret(&password)?);
                self.service.reset_password(&user, &password).await.map_err(|why| why.to_string())?;
                info!(%user, "password reset by the administrator");
                Ok(Value::Null)
            }
            Command::Unbind { user } => {
                let user = name(&user)?;
                self.service.unbind_account(&user).await.map_err(|why| why.to_string())?;
                info!(%user, "unbound by the administrator");
                Ok(Value::Null)
            }
            Command::Status {} => self.status().await,
            Command::Backup {} => self.backup().await,
            Command::ExportUsers {} => {
                let hashes = self.service.account_hashes().await.map_err(|why| why.to_string())?;
                let users: BTreeMap<String, Value> =
                    hashes.into_iter().map(|(user, hash)| (user.to_string(), json!({ "password": hash }))).collect();
                Ok(json!(users))
            }
            // As long as the catalogue: written by [`super::export`].
            Command::ExportPeers {} => Ok(Value::Null),
        }
    }

    async fn users(&self) -> Done {
        let accounts = self.service.all_accounts().await.map_err(|why| why.to_string())?;
        let line = |(user, fingerprint, online): (UserName, Option<shared::Fingerprint>, bool)| UserLine {
            user: user.to_string(),
            fingerprint: fingerprint.map(|fingerprint| fingerprint.to_string()),
            online,
        };
        Ok(json!(accounts.into_iter().map(line).collect::<Vec<_>>()))
    }

    async fn status(&self) -> Done {
        let users = self.service.all_accounts().await.map_err(|why| why.to_string())?.len();
        let (now, metrics) = (self.service.snapshot(), self.service.metrics());
        Ok(json!(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            address: self.address.to_string(),
            fingerprint: self.fingerprint.to_string(),
            uptime_s: self.service.uptime().as_secs(),
            connections: metrics.connections.get(),
            refused_connections: metrics.refused_connections.get(),
            subscribers: metrics.subscribers.get(),
            users,
            online: now.present,
            sessions: now.sessions,
            files: now.files,
            catalogue_bytes: now.catalogue_bytes,
            events: now.events,
        }))
    }

    /// The copy is made where the tracker may write; who asked may read there, and moves it where it should be.
    async fn backup(&self) -> Done {
        let path: PathBuf = self.data_folder.join(format!("backup-{:016x}.tmp", rand::random::<u64>()));
        let path = std::path::absolute(&path).map_err(|why| why.to_string())?;
        // Made here, so that nobody else can read it; SQLite fills an empty file.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.map_err(|why| format!("can't make {}: {why}", path.display()))?;
        if let Err(why) = self.service.back_up(path.clone()).await {
            // Half a copy is no use; if it can't be removed either, the administrator sees why the copy failed.
            let _ = std::fs::remove_file(&path);
            return Err(why.to_string());
        }
        info!("accounts copied for the administrator");
        Ok(json!({ "path": path }))
    }
}

fn name(text: &str) -> Result<UserName, String> {
    text.parse().map_err(|why| format!("the user name {text:?} can't be used: {why}"))
}

fn secret(text: &str) -> Result<Password, String> {
    Password::new(text).ok_or_else(|| format!("a password has 1 to {} bytes", shared::limits::PASSWORD_BYTES))
}
