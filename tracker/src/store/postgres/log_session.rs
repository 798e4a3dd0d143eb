//! The session through which a tracker writes and reads the log of shared changes.
//!
//! ```text
//! begin ─ locks the counter: everything before is committed and can be read, nothing comes in between
//!       ─ renews the own lease, or finds that another tracker ended it: nothing is written then
//! write ─ rows of presence and of the catalogue, the entry, its events' numbers
//! commit ─ and a notification that carries the entry's number alone
//! ```
//!
//! Numbers are taken from a locked row and not from a sequence: they are in the order of the commits, so whoever has read
//! up to a number has missed nothing before it.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::UserName;
use shared::tracker::TrackerEventKind;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::STATEMENT_PATIENCE;
use super::database_link::DatabaseLink;
use super::database_session::{CommitError, DatabaseConnector, DatabaseSession};
use super::log_epoch::begin_epoch;
use super::node_lease::NODE_LEASE;
use super::statement_failure::with_causes;
use super::store_connect_error::StoreConnectError;
use crate::catalogue::FileList;
use crate::registry::{NodeId, ReplicatedChange, ReplicatedLogin};

/// Bytes of a list that one statement writes.
const BYTES_AT_ONCE: usize = 1 << 20;
/// Entries that are read at once.
const ENTRIES_AT_ONCE: i64 = 64;

/// One transaction's changes and events.
#[derive(Debug)]
pub struct LogEntry {
    /// The number of the entry.
    pub number: i64,
    /// True for the first one after a promotion.
    pub begins_epoch: bool,
    /// The run that wrote it.
    pub node: NodeId,
    /// The number before that of the first event.
    pub event_before: u64,
    /// The changes in order.
    pub changes: Vec<ReplicatedChange>,
    /// The events in order.
    pub events: Vec<TrackerEventKind>,
}

/// The reason why the log can't be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum LogError {
    #[error("the database can't be used: {0}")]
    Lost(String),
    #[error("another tracker took this one for dead")]
    Fenced,
    #[error("the log no longer has what this tracker missed")]
    OutOfDate,
}

/// A lock on the end of the log. Without a commit it ends with the session.
#[derive(Debug, Clone, Copy)]
pub struct LogTurn {
    /// The number of the entry that may be written.
    pub number: i64,
    /// The number of the last event.
    pub last_event: u64,
}

/// What a run that ended owed.
#[derive(Debug)]
pub struct NodeDebt {
    /// The run.
    pub node: NodeId,
    /// Its last entry whose events were all sent or held back.
    pub settled: i64,
    /// The users whose events it held back.
    pub held: Vec<String>,
}

/// The logins of one transaction, column by column.
#[derive(Debug, Default)]
struct LoginColumns<'a> {
    users: Vec<&'a str>,
    tokens: Vec<&'a [u8]>,
    texts: Vec<String>,
}

impl<'a> LoginColumns<'a> {
    fn push(&mut self, login: &'a ReplicatedLogin) -> LogResult {
        self.users.push(login.user.as_str());
        self.tokens.push(login.token.as_bytes().as_slice());
        self.texts.push(text(login)?);
        Ok(())
    }
}

/// The session.
#[derive(Debug)]
pub struct LogSession {
    connector: Arc<DatabaseConnector>,
    session: DatabaseSession,
    node: NodeId,
}

type LogResult<T = ()> = Result<T, LogError>;
type SqlValues<'a> = &'a [&'a (dyn ToSql + Sync)];

impl LogSession {
    /// Connects, and wakes `hint` at each entry from now on. Fails with [`LogError::Lost`].
    pub(super) async fn open(link: &DatabaseLink, hint: Arc<Notify>) -> LogResult<Self> {
        let session = link.connector().open_listening(hint).await?;
        // Before anything is read: an entry that comes in between is announced.
        let listening = timeout(STATEMENT_PATIENCE, session.client.batch_execute("LISTEN tracker_log")).await;
        listening.map_err(|_| silence())??;
        begin_epoch(&session, link.node()).await?;
        Ok(Self { connector: Arc::clone(link.connector()), session, node: link.node() })
    }

    /// Returns the run for which it writes.
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Reads some of the entries after this one. Fails with [`LogError::OutOfDate`] when they are no longer kept.
    pub async fn read_after(&self, applied: i64) -> LogResult<Vec<LogEntry>> {
        let select =
            "SELECT log_entry.number, node, event_before, changes, events, forgotten, follows FROM log_entry, log_counter
            WHERE log_entry.number > $1 ORDER BY log_entry.number LIMIT $2";
        let rows = self.query(select, &[&applied, &ENTRIES_AT_ONCE]).await?;
        // Entries lose their changes before they are deleted: one that is there may say nothing any more.
        if rows.first().is_some_and(|first| first.get::<_, i64>(5) > applied) {
            return Err(LogError::OutOfDate);
        }
        let mut before = applied;
        rows.iter()
            .map(|row| {
                let (number, begins_after): (i64, Option<i64>) = (row.get(0), row.get(6));
                // What was applied and isn't there was lost in a promotion.
                if begins_after.unwrap_or(number - 1) != before {
                    return Err(LogError::OutOfDate);
                }
                before = number;
                Ok(LogEntry {
                    number,
                    begins_epoch: begins_after.is_some(),
                    node: NodeId(row.get(1)),
                    event_before: row.get::<_, i64>(2).cast_unsigned(),
                    changes: parse_all(row.get(3))?,
                    events: parse_all(row.get(4))?,
                })
            })
            .collect()
    }

    /// Locks the end of the log. Fails with [`LogError::Fenced`] when another tracker ended this run.
    pub async fn begin(&self) -> LogResult<LogTurn> {
        self.connector.ensure_primary(&self.session)?;
        let lock = "UPDATE log_counter SET number = number + 1 RETURNING number, last_event";
        let fence = "UPDATE tracker_node SET lease_until = now() + make_interval(secs => $2) WHERE node = $1";
        let lease = NODE_LEASE.as_secs_f64();
        let values: SqlValues<'_> = &[&self.node.0, &lease];
        // Sent one behind the other, without a wait for each answer.
        let (begun, rows, renewed) =
            tokio::join!(self.begin_transaction(), self.query(lock, &[]), self.execute(fence, values));
        begun?;
        let rows = rows?;
        let row = rows.first().ok_or_else(|| LogError::Lost("the database lacks its first rows".to_owned()))?;
        let turn = LogTurn { number: row.get(0), last_event: row.get::<_, i64>(1).cast_unsigned() };
        // Whoever took the users over has deleted the row.
        if renewed? == 0 {
            self.roll_back().await?;
            return Err(LogError::Fenced);
        }
        Ok(turn)
    }

    async fn begin_transaction(&self) -> LogResult {
        let begin = timeout(STATEMENT_PATIENCE, self.session.client.batch_execute("BEGIN")).await;
        Ok(begin.map_err(|_| silence())??)
    }

    /// Ends a turn without an entry, and makes sure that all entries before it are kept for good.
    pub async fn confirm(&self) -> LogResult {
        // Something that is committed: only that is waited for until the standby has it.
        self.execute("UPDATE log_counter SET number = number - 1", &[]).await?;
        Ok(self.session.commit().await?)
    }

    /// Ends a turn without an entry.
    pub async fn roll_back(&self) -> LogResult {
        let ending = timeout(STATEMENT_PATIENCE, self.session.client.batch_execute("ROLLBACK")).await;
        Ok(ending.map_err(|_| silence())??)
    }

    /// Writes the rows of changes of presence, at most one of each user.
    pub async fn write_changes(&self, changes: &[(&ReplicatedChange, Option<&FileList>)]) -> LogResult {
        let (mut logins, mut ended, mut held) = (LoginColumns::default(), Vec::new(), Vec::new());
        for (change, files) in changes {
            match change {
                ReplicatedChange::Login(login) => logins.push(login)?,
                ReplicatedChange::End { user, .. } => ended.push(user.as_str()),
                ReplicatedChange::Held { user, .. } => held.push(user.as_str()),
                ReplicatedChange::Files { user, .. } => {
                    if let Some(files) = files {
                        self.write_list(user, files).await?;
                    }
                }
                ReplicatedChange::Adopted { node } => {
                    // A run that is alive after all finds at its next turn that it was ended.
                    self.execute("DELETE FROM tracker_node WHERE node = $1", &[&node.0]).await?;
                    self.execute("UPDATE presence SET node = $2 WHERE node = $1", &[&node.0, &self.node.0]).await?;
                }
                // Written with the accounts and rooms themselves.
                ReplicatedChange::Registered { .. }
                | ReplicatedChange::Bound { .. }
                | ReplicatedChange::Unbound { .. }
                | ReplicatedChange::Revoked { .. }
                | ReplicatedChange::Room(_) => {}
            }
        }
        // A login begins with an empty list, whatever the user shared before.
        let without_list: Vec<&str> = logins.users.iter().chain(&ended).copied().collect();
        if !without_list.is_empty() {
            self.execute("DELETE FROM catalogue WHERE user_name = ANY ($1)", &[&without_list]).await?;
        }
        if !ended.is_empty() {
            self.execute("DELETE FROM presence WHERE user_name = ANY ($1)", &[&ended]).await?;
        }
        if !logins.users.is_empty() {
            let LoginColumns { users, tokens, texts } = &logins;
            let upsert = "INSERT INTO presence (user_name, node, token, login)
                SELECT one.name, $1, one.token, one.login
                FROM unnest($2::text[], $3::bytea[], $4::text[]) AS one (name, token, login)
                ON CONFLICT (user_name) DO UPDATE
                SET node = excluded.node, token = excluded.token, login = excluded.login";
            self.execute(upsert, &[&self.node.0, users, tokens, texts]).await?;
        }
        if !held.is_empty() {
            let take = "UPDATE presence SET node = $1 WHERE user_name = ANY ($2)";
            self.execute(take, &[&self.node.0, &held]).await?;
        }
        Ok(())
    }

    /// Writes the chunks of a list that are not there yet, and deletes outdated ones.
    async fn write_list(&self, user: &UserName, files: &FileList) -> LogResult {
        let user = user.as_str();
        let known = self.query("SELECT digest FROM catalogue WHERE user_name = $1", &[&user]).await?;
        let mut outdated: HashSet<Vec<u8>> = known.iter().map(|row| row.get(0)).collect();
        let (mut digests, mut texts, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (digest, piece) in files.pieces() {
            if outdated.remove(digest.as_bytes().as_slice()) {
                continue;
            }
            bytes += piece.len();
            digests.push(digest.as_bytes().to_vec());
            texts.push(String::from_utf8(piece.to_vec()).map_err(|why| LogError::Lost(why.to_string()))?);
            if bytes >= BYTES_AT_ONCE {
                self.write_pieces(user, &std::mem::take(&mut digests), &std::mem::take(&mut texts)).await?;
                bytes = 0;
            }
        }
        if !digests.is_empty() {
            self.write_pieces(user, &digests, &texts).await?;
        }
        let outdated: Vec<Vec<u8>> = outdated.into_iter().collect();
        if !outdated.is_empty() {
            let delete = "DELETE FROM catalogue WHERE user_name = $1 AND digest = ANY ($2)";
            self.execute(delete, &[&user, &outdated]).await?;
        }
        Ok(())
    }

    async fn write_pieces(&self, user: &str, digests: &[Vec<u8>], texts: &[String]) -> LogResult {
        let insert = "INSERT INTO catalogue (user_name, digest, files)
            SELECT $1, one.digest, one.files FROM unnest($2::bytea[], $3::text[]) AS one (digest, files)";
        self.execute(insert, &[&user, &digests, &texts]).await.map(drop)
    }

    /// Writes the entry, and that this tracker owes no events of the entries up to `settled` but those of the users
    /// `held`. Commits. After an error it is unknown whether the entry is there: whoever has the next turn finds out by
    /// reading.
    pub async fn commit(
        &self,
        turn: LogTurn,
        changes: &[&ReplicatedChange],
        events: &[TrackerEventKind],
        (settled, held): (i64, &HashSet<UserName>),
    ) -> LogResult {
        let LogTurn { number, last_event } = turn;
        let held: Vec<&str> = held.iter().map(UserName::as_str).collect();
        let changes = changes.iter().map(text).collect::<LogResult<Vec<_>>>()?;
        let lines = events.iter().map(text).collect::<LogResult<Vec<_>>>()?;
        let insert = "INSERT INTO log_entry (number, node, event_before, changes, events) VALUES ($1, $2, $3, $4, $5)";
        let settle = "UPDATE tracker_node SET settled = $2, held = $3 WHERE node = $1";
        let (before, count) = (last_event.cast_signed(), i64::try_from(lines.len()).unwrap_or(i64::MAX));
        let entry: SqlValues<'_> = &[&number, &self.node.0, &before, &changes, &lines];
        let debt: SqlValues<'_> = &[&self.node.0, &settled, &held];
        let (count, hint): (SqlValues<'_>, SqlValues<'_>) = (&[&count], &[&number]);
        // Sent one behind the other. The COMMIT is not: it would follow a failure.
        tokio::try_join!(
            self.execute(insert, entry),
            self.execute(settle, debt),
            self.execute("UPDATE log_counter SET last_event = last_event + $1", count),
            self.query("SELECT pg_notify('tracker_log', $1::int8::text)", hint),
        )?;
        Ok(self.session.commit().await?)
    }

    /// Returns the runs that gave their lease up, and those whose lease is over if `with_lapsed`.
    pub async fn dead_nodes(&self, with_lapsed: bool) -> LogResult<Vec<NodeDebt>> {
        let select = "SELECT node, settled, held FROM tracker_node
            WHERE node <> $1 AND (lease_until = '-infinity' OR $2 AND lease_until < now())";
        Ok(self.query(select, &[&self.node.0, &with_lapsed]).await?.iter().map(debt).collect())
    }

    /// Returns the run if its lease is over, and keeps others from it until the turn ends.
    pub async fn lock_dead_node(&self, node: NodeId) -> LogResult<Option<NodeDebt>> {
        // `SKIP LOCKED`: a row that somebody holds at this moment is perhaps being renewed.
        let select = "SELECT node, settled, held FROM tracker_node WHERE node = $1 AND lease_until < now()
            FOR UPDATE SKIP LOCKED";
        Ok(self.query(select, &[&node.0]).await?.first().map(debt))
    }

    /// Returns the changes that the run wrote after an entry.
    pub async fn changes_of(&self, node: NodeId, after: i64) -> LogResult<Vec<ReplicatedChange>> {
        let select = "SELECT changes FROM log_entry WHERE number > $2 AND node = $1 ORDER BY number";
        let mut changes = Vec::new();
        for row in self.query(select, &[&node.0, &after]).await? {
            changes.extend(parse_all(row.get(0))?);
        }
        Ok(changes)
    }

    /// Gives the own lease up: another tracker, or this one's next run, takes the users over at once.
    pub async fn give_up_lease(&self) -> LogResult {
        let end = "UPDATE tracker_node SET lease_until = '-infinity' WHERE node = $1";
        self.execute(end, &[&self.node.0]).await.map(drop)
    }

    async fn query(&self, sql: &'static str, values: SqlValues<'_>) -> LogResult<Vec<Row>> {
        let query = async {
            let statement = self.session.client.prepare_cached(sql).await?;
            Ok::<_, LogError>(self.session.client.query(&statement, values).await?)
        };
        timeout(STATEMENT_PATIENCE, query).await.map_err(|_| silence())?
    }

    async fn execute(&self, sql: &'static str, values: SqlValues<'_>) -> LogResult<u64> {
        let execute = async {
            let statement = self.session.client.prepare_cached(sql).await?;
            Ok::<_, LogError>(self.session.client.execute(&statement, values).await?)
        };
        timeout(STATEMENT_PATIENCE, execute).await.map_err(|_| silence())?
    }
}

fn debt(row: &Row) -> NodeDebt {
    NodeDebt { node: NodeId(row.get(0)), settled: row.get(1), held: row.get(2) }
}

fn silence() -> LogError {
    LogError::Lost("the database doesn't answer".to_owned())
}

pub(super) fn text(value: &impl Serialize) -> LogResult<String> {
    serde_json::to_string(value).map_err(|why| LogError::Lost(why.to_string()))
}

fn parse_all<T: DeserializeOwned>(texts: Vec<String>) -> LogResult<Vec<T>> {
    let parse = |text: String| serde_json::from_str(&text).map_err(|why| LogError::Lost(format!("an entry: {why}")));
    texts.into_iter().map(parse).collect()
}

impl From<tokio_postgres::Error> for LogError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Lost(with_causes(&error))
    }
}

impl From<CommitError> for LogError {
    fn from(error: CommitError) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<StoreConnectError> for LogError {
    fn from(error: StoreConnectError) -> Self {
        Self::Lost(error.to_english())
    }
}
