//! Numbers as SQLite keeps them.

/// Returns a count, size or limit for SQLite, whose integers have a sign: the largest one stands for all beyond.
pub(super) fn sql_integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
