//! Copies of everything that a store holds, between SQLite and PostgreSQL, row by row.
//!
//! A copy is whole or not made: it is one transaction of the target, which must be empty.

mod copied_tables;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::pin::pin;

use localization::tr;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{IsolationLevel, Row, Transaction};

use super::postgres::{PostgresStore, StoreConnectError};
use super::sqlite_accounts::SqliteAccountStore;
use super::{AccountDatabaseError, AccountStoreError};
use copied_tables::{ColumnKind, CopiedTable, TABLES};

/// Rows that are taken from the server at a time.
const ROWS_AT_ONCE: i32 = 500;

/// The reason why a copy is not made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum StoreCopyError {
    #[error("{}", tr!("there are accounts or rooms already: only into an empty one is anything copied"))]
    NotEmpty,
    /// The SQLite file can't be used.
    #[error(transparent)]
    File(#[from] AccountDatabaseError),
    /// The database can't be reached or used.
    #[error(transparent)]
    Database(#[from] StoreConnectError),
    /// A store can't be read or written.
    #[error(transparent)]
    Store(#[from] AccountStoreError),
}

/// The rows that were copied, by what people count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Accounts.
    pub accounts: usize,
    /// Rooms, deleted ones that are remembered included.
    pub rooms: usize,
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
enum CellValue {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Copies a SQLite file into an empty database. Fails with [`StoreCopyError`]; then nothing is copied.
pub async fn copy_to_postgres(from: &SqliteAccountStore, to: &PostgresStore) -> Result<CopyReport, StoreCopyError> {
    let mut session = to.open_session().await?;
    let failed = |why: tokio_postgres::Error| StoreConnectError::from(why);
    let target = session.client.transaction().await.map_err(failed)?;
    // A whole table may take longer than a session allows a statement.
    target.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(failed)?;
    // The other tables are about these two, or the tracker's notes: it makes some at its first start.
    for table in ["account", "room"] {
        if has_rows(&target, table).await? {
            return Err(StoreCopyError::NotEmpty);
        }
    }
    for table in &TABLES {
        target.execute(&format!("DELETE FROM {}", table.name), &[]).await.map_err(failed)?;
    }
    let mut report = CopyReport::default();
    // One moment of the file: nothing else uses it, and its transaction costs nothing.
    let source = from.database().unchecked_transaction().map_err(AccountStoreError::from)?;
    for table in &TABLES {
        report.count(table, copy_table_to_postgres(&source, &target, table).await?);
    }
    target.commit().await.map_err(failed)?;
    Ok(report)
}

/// Copies a database into a new SQLite file, as of one moment, also while trackers use it. Fails with
/// [`StoreCopyError`]; then the file is of no use.
pub async fn copy_to_sqlite(from: &PostgresStore, to: &Path) -> Result<CopyReport, StoreCopyError> {
    let store = SqliteAccountStore::open(to)?;
    if !store.is_empty()? {
        return Err(StoreCopyError::NotEmpty);
    }
    let mut session = from.open_session().await?;
    let failed = |why: tokio_postgres::Error| StoreConnectError::from(why);
    let snapshot = session.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let source = snapshot.start().await.map_err(failed)?;
    source.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(failed)?;
    let target = store.database().unchecked_transaction().map_err(AccountStoreError::from)?;
    let mut report = CopyReport::default();
    for table in &TABLES {
        report.count(table, copy_table_to_sqlite(&source, &target, table).await?);
    }
    target.commit().map_err(AccountStoreError::from)?;
    Ok(report)
}

impl CopyReport {
    fn count(&mut self, table: &CopiedTable, rows: usize) {
        match table.name {
            "account" => self.accounts = rows,
            "room" => self.rooms = rows,
            _ => {}
        }
    }
}

async fn has_rows(target: &Transaction<'_>, table: &str) -> Result<bool, StoreConnectError> {
    Ok(target.query_one(&format!("SELECT EXISTS (SELECT 1 FROM {table})"), &[]).await?.get(0))
}

async fn copy_table_to_postgres(
    source: &Connection,
    target: &Transaction<'_>,
    table: &CopiedTable,
) -> Result<usize, StoreCopyError> {
    let failed = |why: tokio_postgres::Error| StoreConnectError::from(why);
    let columns = table.list(|column| column.postgres.to_owned());
    let sink = target.copy_in(&format!("COPY {} ({columns}) FROM STDIN BINARY", table.name)).await.map_err(failed)?;
    let types: Vec<Type> = table.columns.iter().map(|column| column.kind.postgres_type()).collect();
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    let select = format!("SELECT {} FROM {}", table.list(|column| column.sqlite.to_owned()), table.name);
    let mut query = source.prepare(&select).map_err(AccountStoreError::from)?;
    let mut rows = query.query([]).map_err(AccountStoreError::from)?;
    let mut count = 0;
    while let Some(row) = rows.next().map_err(AccountStoreError::from)? {
        let mut values: Vec<Box<dyn ToSql + Sync>> = Vec::with_capacity(types.len());
        for (number, column) in table.columns.iter().enumerate() {
            let cell = CellValue::from_sqlite(row.get_ref(number).map_err(AccountStoreError::from)?);
            values.push(cell.into_postgres(column.kind).ok_or_else(|| table.strange_value(column.sqlite))?);
        }
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(AsRef::as_ref).collect();
        writer.as_mut().write(&values).await.map_err(failed)?;
        count += 1;
    }
    writer.finish().await.map_err(failed)?;
    Ok(count)
}

async fn copy_table_to_sqlite(
    source: &Transaction<'_>,
    target: &Connection,
    table: &CopiedTable,
) -> Result<usize, StoreCopyError> {
    let failed = |why: tokio_postgres::Error| StoreConnectError::from(why);
    let places = (1..=table.columns.len()).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ");
    let columns = table.list(|column| column.sqlite.to_owned());
    let insert = format!("INSERT INTO {} ({columns}) VALUES ({places})", table.name);
    let mut insert = target.prepare(&insert).map_err(AccountStoreError::from)?;
    let select = format!("SELECT {} FROM {}", table.list(|column| column.kind.selected(column.postgres)), table.name);
    // From a portal the rows come in parts, so that a large table need not fit into memory.
    let portal = source.bind(&source.prepare(&select).await.map_err(failed)?, &[]).await.map_err(failed)?;
    let mut count = 0;
    loop {
        let rows = source.query_portal(&portal, ROWS_AT_ONCE).await.map_err(failed)?;
        if rows.is_empty() {
            return Ok(count);
        }
        for row in &rows {
            let mut values = Vec::with_capacity(table.columns.len());
            for (number, column) in table.columns.iter().enumerate() {
                values.push(CellValue::from_postgres(row, number, column.kind).map_err(failed)?.into_sqlite());
            }
            insert.execute(params_from_iter(values)).map_err(AccountStoreError::from)?;
            count += 1;
        }
    }
}

impl CellValue {
    fn from_sqlite(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Number(number),
            // No table has such a column; as a text it doesn't fit either and is reported.
            ValueRef::Real(number) => Self::Text(number.to_string()),
            ValueRef::Text(text) => Self::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_vec()),
        }
    }

    fn into_sqlite(self) -> rusqlite::types::Value {
        match self {
            Self::Null => rusqlite::types::Value::Null,
            Self::Number(number) => number.into(),
            Self::Text(text) => text.into(),
            Self::Bytes(bytes) => bytes.into(),
        }
    }

    fn from_postgres(row: &Row, number: usize, kind: ColumnKind) -> Result<Self, tokio_postgres::Error> {
        Ok(match kind {
            ColumnKind::Text => row.try_get::<_, Option<String>>(number)?.map_or(Self::Null, Self::Text),
            ColumnKind::Bytes => row.try_get::<_, Option<Vec<u8>>>(number)?.map_or(Self::Null, Self::Bytes),
            ColumnKind::Number | ColumnKind::SmallNumber | ColumnKind::Flag => {
                row.try_get::<_, Option<i64>>(number)?.map_or(Self::Null, Self::Number)
            }
        })
    }

    /// Returns the value for a column; `None` if it isn't of the column's kind.
    fn into_postgres(self, kind: ColumnKind) -> Option<Box<dyn ToSql + Sync>> {
        Some(match (self, kind) {
            (Self::Null, ColumnKind::Text) => Box::new(None::<String>),
            (Self::Null, ColumnKind::Bytes) => Box::new(None::<Vec<u8>>),
            (Self::Null, ColumnKind::Number) => Box::new(None::<i64>),
            (Self::Null, ColumnKind::SmallNumber) => Box::new(None::<i16>),
            (Self::Null, ColumnKind::Flag) => Box::new(None::<bool>),
            (Self::Text(text), ColumnKind::Text) => Box::new(text),
            (Self::Bytes(bytes), ColumnKind::Bytes) => Box::new(bytes),
            (Self::Number(number), ColumnKind::Number) => Box::new(number),
            (Self::Number(number), ColumnKind::SmallNumber) => Box::new(i16::try_from(number).ok()?),
            (Self::Number(number), ColumnKind::Flag) => Box::new(number != 0),
            _ => return None,
        })
    }
}
