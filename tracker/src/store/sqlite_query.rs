//! Queries of the account database, by cached statements.

use std::fmt::Display;
use std::str::FromStr;

use rusqlite::types::{FromSql, Type};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::StoreResult;

/// Runs a change, and returns the number of rows that it changed.
pub(super) fn execute(db: &Connection, sql: &str, params: impl Params) -> StoreResult<usize> {
    Ok(db.prepare_cached(sql)?.execute(params)?)
}

pub(super) fn query_all<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> StoreResult<Vec<T>> {
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map(params, read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns the first row; `None` if there is none.
pub(super) fn query_optional<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> StoreResult<Option<T>> {
    Ok(db.prepare_cached(sql)?.query_row(params, read).optional()?)
}

/// Returns the first column of the first row.
pub(super) fn query_value<T: FromSql>(db: &Connection, sql: &str, params: impl Params) -> StoreResult<T> {
    Ok(db.prepare_cached(sql)?.query_row(params, |row| row.get(0))?)
}

/// Parses a stored text.
pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T::Err: Display,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|why: T::Err| {
        let why = format!("the stored text {text:?}: {why}");
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why.into())
    })
}
