//! The operations behind the administrator's requests.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use localization::in_english;
use serde_json::{Value, json};
use shared::account_name::{NewUserName, UserNameError};
use shared::names::NameError;
use shared::tracker::Password;
use shared::{RoomName, UserName};
use tracing::info;

use super::{AccountSummary, AdminContext, AdminRequest, TrackerStatus};
use crate::backup;
use crate::service::AccountAdminError;
use crate::store::AccountStoreError;

/// The result of an operation.
pub(super) enum AdminOutput {
    Value(Value),
    /// A file, and its length in bytes.
    Backup(File, u64),
}

type AdminResult = Result<AdminOutput, String>;

impl AdminContext {
    pub(super) async fn execute(&self, command: AdminRequest) -> AdminResult {
        match command {
            AdminRequest::Users {} => self.users().await,
            AdminRequest::AddUser { user, password } => {
                // Stricter than for existing accounts, which may have names from before these rules.
                let (user, password) = (parse_new_user_name(&user)?, parse_password(&password)?);
                self.service.add_account(&user, &password).await.map_err(|why| why.to_string())?;
                info!(%user, "account made by the administrator");
                Ok(Value::Null.into())
            }
            AdminRequest::RemoveUser { user } => {
                let user = parse_user_name(&user)?;
                self.service.remove_account(&user).await.map_err(|why| why.to_string())?;
                info!(%user, "account removed by the administrator");
                Ok(Value::Null.into())
            }
            AdminRequest::ResetPassword { user, password } => {
                let (user, password) = (parse_user_name(&user)?, parse_password(&password)?);
                self.service.reset_password(&user, &password).await.map_err(|why| why.to_string())?;
                info!(%user, "password reset by the administrator");
                Ok(Value::Null.into())
            }
            AdminRequest::Unbind { user } => {
                let user = parse_user_name(&user)?;
                self.service.unbind_account(&user).await.map_err(|why| why.to_string())?;
                info!(%user, "unbound by the administrator");
                Ok(Value::Null.into())
            }
            AdminRequest::Rooms {} => {
                let rooms = self.service.all_rooms().await.map_err(|why| why.to_string())?;
                Ok(json!(rooms).into())
            }
            AdminRequest::DeleteRoom { room } => {
                let room = parse_room_name(&room)?;
                self.service.delete_room(room.clone()).await.map_err(|why| why.to_string())?;
                info!(%room, "room deleted by the administrator");
                Ok(Value::Null.into())
            }
            AdminRequest::Status {} => self.status().await,
            AdminRequest::Backup {} => self.backup().await,
            AdminRequest::ExportUsers {} => {
                let hashes = self.service.password_hashes().await.map_err(|why| why.to_string())?;
                let users: BTreeMap<String, Value> =
                    hashes.into_iter().map(|(user, hash)| (user.to_string(), json!({ "password": hash }))).collect();
                Ok(json!(users).into())
            }
            // As long as the catalogue: `peers_export` writes it instead.
            AdminRequest::ExportPeers {} => Ok(Value::Null.into()),
        }
    }

    async fn users(&self) -> AdminResult {
        let accounts = self.service.all_accounts().await.map_err(|why| why.to_string())?;
        let line = |(user, fingerprint, online): (UserName, Option<shared::Fingerprint>, bool)| AccountSummary {
            user: user.to_string(),
            fingerprint: fingerprint.map(|fingerprint| fingerprint.to_string()),
            online,
        };
        Ok(json!(accounts.into_iter().map(line).collect::<Vec<_>>()).into())
    }

    async fn status(&self) -> AdminResult {
        let (users, failure) = match self.service.all_accounts().await {
            Ok(accounts) => (accounts.len(), None),
            // All else is known nevertheless.
            Err(AccountAdminError::Store(AccountStoreError::Unreachable(why))) => (0, Some(why)),
            Err(why) => return Err(why.to_string()),
        };
        let (store, outage) = self.service.store_condition();
        // The first request that meets an outage knows of it before the watch does.
        let store_outage = outage.or(failure);
        let (now, metrics) = (self.service.snapshot(), self.service.metrics());
        Ok(json!(TrackerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            address: self.addresses.first().map(ToString::to_string).unwrap_or_default(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
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
            rooms: now.rooms,
            store,
            store_outage,
        })
        .into())
    }

    /// Makes a backup, after storing the users who are present now.
    async fn backup(&self) -> AdminResult {
        self.service.store_presence().await;
        let (folder, service) = (self.data_folder.clone(), Arc::clone(&self.service));
        // Databases are copied and hashed, which is too long for a thread that serves clients.
        let made =
            tokio::task::spawn_blocking(move || backup::create_backup(&folder, |draft| service.copy_accounts(draft)))
                .await
                .map_err(|why| why.to_string())?;
        let file = made.map_err(|why| in_english(|| why.to_string()))?;
        let bytes = file.metadata().map_err(|why| why.to_string())?.len();
        info!(bytes, "backup made for the administrator");
        Ok(AdminOutput::Backup(file, bytes))
    }
}

impl From<Value> for AdminOutput {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

fn parse_new_user_name(text: &str) -> Result<UserName, String> {
    text.parse::<NewUserName>().map(UserName::from).map_err(|why| why.to_string())
}

fn parse_user_name(text: &str) -> Result<UserName, String> {
    text.parse().map_err(|why: UserNameError| why.to_string())
}

fn parse_room_name(text: &str) -> Result<RoomName, String> {
    // People write the mark in front of a room's name, which is no part of it.
    let name = text.strip_prefix('#').unwrap_or(text);
    name.parse().map_err(|why: NameError| format!("{text:?} can't be the name of a room: {why}"))
}

fn parse_password(text: &str) -> Result<Password, String> {
    Password::new(text).ok_or_else(|| format!("a password has 1 to {} bytes", shared::limits::MAX_PASSWORD_BYTES))
}
