//! The attempts at a job, each in one transaction.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;
use tracing::{info, warn};

use super::database_link::{DatabaseLink, PooledConnection};
use super::database_session::{AwaitInTime, CommitError, DatabaseSession};
use super::postgres_rows::PostgresRows;
use super::statement_failure::{StatementFailure, with_causes};
use super::store_connect_error::StoreConnectError;
use super::{MAX_ATTEMPTS, RESOLUTION_PATIENCE, SHARED_ATTEMPTS, STATEMENT_PATIENCE};
use crate::store::store_rows::StoreRows;
use crate::store::{AccountStoreError, StoreResult};

/// A connection that broke within this time is tried again at once: it may have been one of before an outage.
const QUICK_FAILURE: Duration = Duration::from_secs(1);
/// The time between two attempts to look up a lost COMMIT.
const RESOLUTION_INTERVAL: Duration = Duration::from_millis(50);

/// The kind of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum JobKind {
    /// Reads; each statement by itself.
    Read,
    /// Reads the database as of one moment.
    Snapshot,
    /// Changes something.
    Change,
    /// Changes something that the log tells all trackers.
    LoggedChange,
}

/// The token of a change, by which its COMMIT is found.
struct ChangeToken(String);

impl JobKind {
    /// True for a job that ends with a COMMIT.
    pub(in crate::store) const fn is_change(self) -> bool {
        matches!(self, Self::Change | Self::LoggedChange)
    }
}

/// The reason why an attempt failed.
enum AttemptFailure<T> {
    /// The job's own refusal, or an error that a repetition doesn't mend.
    Refused(AccountStoreError),
    Conflict,
    ConnectionLost(String),
    /// The connection broke during COMMIT.
    CommitLost {
        token: ChangeToken,
        done: T,
        why: String,
    },
}

/// What became of a COMMIT whose answer was lost.
enum CommitFate {
    Done,
    Undone,
    Unknown,
}

/// Runs a job, again if others came in between, in this thread.
pub(super) fn run_job<T>(
    link: &DatabaseLink,
    kind: JobKind,
    job: &dyn Fn(&dyn StoreRows) -> StoreResult<T>,
) -> StoreResult<T> {
    let mut last = AccountStoreError::Busy;
    for attempt in 1..=MAX_ATTEMPTS {
        let began = Instant::now();
        let why = match attempt_job(link, kind, attempt, job) {
            Ok(done) => return Ok(done),
            Err(AttemptFailure::Refused(why)) => return Err(why),
            Err(AttemptFailure::Conflict) => {
                link.health().record_retry();
                pause(attempt);
                continue;
            }
            Err(AttemptFailure::ConnectionLost(why)) => why,
            Err(AttemptFailure::CommitLost { token, done, why }) => {
                link.raise_alarm();
                match find_commit(link, &token) {
                    CommitFate::Done => return Ok(done),
                    CommitFate::Undone => why,
                    CommitFate::Unknown => return Err(AccountStoreError::Unknown(why)),
                }
            }
        };
        link.raise_alarm();
        last = AccountStoreError::Unreachable(why);
        if began.elapsed() > QUICK_FAILURE || link.outage().is_some() {
            break;
        }
        pause(attempt);
    }
    Err(last)
}

fn attempt_job<T>(
    link: &DatabaseLink,
    kind: JobKind,
    attempt: u32,
    job: &dyn Fn(&dyn StoreRows) -> StoreResult<T>,
) -> Result<T, AttemptFailure<T>> {
    let connection = link.connection()?;
    let Some(session) = connection.session() else { return Err(StatementFailure::silence().into()) };
    let token = ChangeToken(format!("{:032x}", rand::random::<u128>()));
    let now = begin(link, session, kind, attempt, &token)?;
    let rows = PostgresRows::new(session, link.runtime(), now, link.node());
    let done = job(&rows);
    match (done, rows.into_failure()) {
        (Ok(done), None) if kind.is_change() => commit(link, connection, token, done),
        (done, None) => {
            roll_back(link, kind, connection);
            done.map_err(AttemptFailure::Refused)
        }
        // Without a rollback: the server ends the transaction of a client that is gone.
        (_, Some(lost @ StatementFailure::ConnectionLost(_))) => Err(lost.into()),
        (done, Some(failure)) => {
            roll_back(link, kind, connection);
            Err(match (failure, done) {
                // A refusal that the failure was translated to.
                (
                    StatementFailure::Exists { .. },
                    Err(why @ (AccountStoreError::NameTaken(_) | AccountStoreError::KeyTaken)),
                ) => AttemptFailure::Refused(why),
                // Another transaction made the row after this one had looked.
                (StatementFailure::Exists { .. }, _) => AttemptFailure::Conflict,
                (failure, _) => failure.into(),
            })
        }
    }
}

/// Begins the transaction of a job, and returns its time by the clock of the database.
fn begin<T>(
    link: &DatabaseLink,
    session: &DatabaseSession,
    kind: JobKind,
    attempt: u32,
    token: &ChangeToken,
) -> Result<SystemTime, AttemptFailure<T>> {
    let lock = if attempt <= SHARED_ATTEMPTS { "ROW SHARE" } else { "EXCLUSIVE" };
    // One message, one answer. The lock comes before the first statement that sees rows: from that on the transaction
    // would not see what those committed for which it waited.
    let batch = match kind {
        // Each statement is a transaction of its own.
        JobKind::Read => return Ok(SystemTime::now()),
        JobKind::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned(),
        JobKind::Change | JobKind::LoggedChange => {
            // The end of the log is locked for the whole change: its number would be given before it is committed, or
            // conflict with those of others.
            let log = if kind == JobKind::LoggedChange { "LOCK TABLE log_counter IN EXCLUSIVE MODE;" } else { "" };
            format!(
                "BEGIN ISOLATION LEVEL SERIALIZABLE; {log} LOCK TABLE write_turn IN {lock} MODE;
                INSERT INTO change_token VALUES ('{}');
                SELECT floor(extract(epoch FROM now()) * 1000)::int8,
                    (SELECT count(*) FROM tracker_node WHERE node = {}),
                    (SELECT count(*) FROM log_counter WHERE (system_id, timeline) = ({}, {}))",
                token.0,
                link.node().0,
                session.history().system,
                session.history().timeline
            )
        }
    };
    let answers = link.runtime().block_on(timeout(STATEMENT_PATIENCE, session.simple_query(&batch)));
    let answers = answers.map_err(|_| StatementFailure::silence())?.map_err(|why| StatementFailure::of(&why))?;
    if kind == JobKind::Snapshot {
        return Ok(SystemTime::now());
    }
    let row = answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let number = |column| row.and_then(|row| row.get(column)?.parse::<i64>().ok());
    let (Some(now_ms), Some(runs), Some(logs)) = (number(0), number(1), number(2)) else {
        return Err(AttemptFailure::Refused(AccountStoreError::Failed("the database lacks its first rows".to_owned())));
    };
    // The watch takes another number: by this one nothing may be changed any more.
    if runs == 0 {
        link.raise_alarm();
        let why = "other trackers took this one for dead".to_owned();
        return Err(AttemptFailure::Refused(AccountStoreError::Unreachable(why)));
    }
    if logs == 0 && kind == JobKind::LoggedChange {
        // A standby was promoted a moment ago: the log's next epoch is about to begin.
        link.raise_alarm();
        return Err(AttemptFailure::Conflict);
    }
    Ok(UNIX_EPOCH + Duration::from_millis(u64::try_from(now_ms).unwrap_or_default()))
}

fn commit<T>(
    link: &DatabaseLink,
    connection: PooledConnection,
    token: ChangeToken,
    done: T,
) -> Result<T, AttemptFailure<T>> {
    let Some(session) = connection.session() else { return Err(StatementFailure::silence().into()) };
    let why = match link.runtime().block_on(session.commit()) {
        Ok(()) => {
            connection.give_back();
            return Ok(done);
        }
        Err(CommitError::Failed(why)) => match StatementFailure::of(&why) {
            StatementFailure::ConnectionLost(_) => with_causes(&why),
            // The server said so itself: it is undone.
            failure => return Err(failure.into()),
        },
        Err(why @ (CommitError::Warned | CommitError::Silent)) => why.to_string(),
    };
    // Closed first: the server ends a transaction whose client is gone.
    drop(connection);
    Err(AttemptFailure::CommitLost { token, done, why })
}

/// Ends a transaction that changed nothing, or must not. A connection on which that fails is closed.
fn roll_back(link: &DatabaseLink, kind: JobKind, connection: PooledConnection) {
    let ended = match (kind, connection.session()) {
        (JobKind::Read, _) => true,
        (_, Some(session)) => {
            let ending = link.runtime().block_on(timeout(STATEMENT_PATIENCE, session.batch_execute("ROLLBACK")));
            matches!(ending, Ok(Ok(())))
        }
        (_, None) => false,
    };
    if ended {
        connection.give_back();
    }
}

/// Finds out what became of a COMMIT.
fn find_commit(link: &DatabaseLink, token: &ChangeToken) -> CommitFate {
    let began = Instant::now();
    loop {
        match link.runtime().block_on(insert_token(link, token)) {
            Ok(true) => {
                info!("a change whose answer was lost is undone");
                return CommitFate::Undone;
            }
            Ok(false) => {
                info!("a change whose answer was lost is done");
                return CommitFate::Done;
            }
            Err(why) if began.elapsed() > RESOLUTION_PATIENCE => {
                warn!(why = %why.to_english(), "it is unknown whether a change is made");
                return CommitFate::Unknown;
            }
            Err(_) => std::thread::sleep(RESOLUTION_INTERVAL),
        }
    }
}

/// Returns whether a change is committed; `None` if that can't be found out.
#[cfg(test)]
pub(super) fn is_committed(link: &DatabaseLink, token: &str) -> Option<bool> {
    match find_commit(link, &ChangeToken(token.to_owned())) {
        CommitFate::Done => Some(true),
        CommitFate::Undone => Some(false),
        CommitFate::Unknown => None,
    }
}

/// Inserts the token of a change and returns true, or false if the change inserted it. Waits for a transaction that is
/// about to; after that one can't be committed any more. Writes in both cases, so that a standby that is waited for has
/// all that came before.
async fn insert_token(link: &DatabaseLink, token: &ChangeToken) -> Result<bool, StoreConnectError> {
    let session = link.connector().open().await?;
    let insert = "INSERT INTO change_token VALUES ($1::text::uuid) ON CONFLICT (token) DO UPDATE SET made = now()
        RETURNING xmax = 0";
    session.client.batch_execute("BEGIN").await_in(STATEMENT_PATIENCE).await??;
    let row = session.client.query_one(insert, &[&token.0]).await_in(STATEMENT_PATIENCE).await??;
    session.commit().await?;
    Ok(row.get(0))
}

/// Waits a moment of no fixed length, so that those that met don't meet again.
fn pause(attempt: u32) {
    std::thread::sleep(Duration::from_micros(rand::random_range(0..2000 << attempt.min(6))));
}

impl<T> From<StatementFailure> for AttemptFailure<T> {
    fn from(failure: StatementFailure) -> Self {
        match failure {
            StatementFailure::Conflict => Self::Conflict,
            StatementFailure::ConnectionLost(why) => Self::ConnectionLost(why),
            other => Self::Refused(other.to_store_error()),
        }
    }
}
