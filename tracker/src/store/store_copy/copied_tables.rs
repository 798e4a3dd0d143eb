//! The tables that both kinds of database have, and the names of their columns in each.

use tokio_postgres::types::Type;

use crate::store::AccountStoreError;

/// The kind of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Text,
    Bytes,
    Number,
    SmallNumber,
    Flag,
}

/// A column that is copied.
#[derive(Debug)]
pub(super) struct CopiedColumn {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
    pub(super) kind: ColumnKind,
}

/// A table that is copied.
#[derive(Debug)]
pub(super) struct CopiedTable {
    pub(super) name: &'static str,
    pub(super) columns: &'static [CopiedColumn],
}

impl ColumnKind {
    pub(super) const fn postgres_type(self) -> Type {
        match self {
            Self::Text => Type::TEXT,
            Self::Bytes => Type::BYTEA,
            Self::Number => Type::INT8,
            Self::SmallNumber => Type::INT2,
            Self::Flag => Type::BOOL,
        }
    }

    /// Returns the expression that selects a column as a text, bytes or an int8.
    pub(super) fn selected(self, column: &str) -> String {
        match self {
            Self::Text | Self::Bytes | Self::Number => column.to_owned(),
            Self::SmallNumber => format!("{column}::int8"),
            // PostgreSQL casts a flag to no other number than int4.
            Self::Flag => format!("{column}::int4::int8"),
        }
    }
}

impl CopiedTable {
    /// Returns the columns as a list for a statement.
    pub(super) fn list(&self, name: impl Fn(&CopiedColumn) -> String) -> String {
        self.columns.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn strange_value(&self, column: &str) -> AccountStoreError {
        AccountStoreError::Failed(format!("a value of {}.{column} is not of its kind", self.name))
    }
}

const fn same(name: &'static str, kind: ColumnKind) -> CopiedColumn {
    CopiedColumn { sqlite: name, postgres: name, kind }
}

/// A column with an account's name, whose name in SQLite is a key word of PostgreSQL.
const USER: CopiedColumn = CopiedColumn { sqlite: "user", postgres: "user_name", kind: ColumnKind::Text };

/// All tables.
pub(super) const TABLES: [CopiedTable; 10] = [
    CopiedTable {
        name: "account",
        columns: &[USER, same("password_hash", ColumnKind::Text), same("fingerprint", ColumnKind::Bytes)],
    },
    CopiedTable { name: "name_claim", columns: &[same("key", ColumnKind::Number), USER] },
    CopiedTable {
        name: "former_key",
        columns: &[same("fingerprint", ColumnKind::Bytes), USER, same("moved_ms", ColumnKind::Number)],
    },
    CopiedTable { name: "unused_account", columns: &[USER, same("lapses_ms", ColumnKind::Number)] },
    CopiedTable {
        name: "room",
        columns: &[
            same("id", ColumnKind::Bytes),
            same("name", ColumnKind::Text),
            same("topic", ColumnKind::Text),
            same("creator", ColumnKind::Text),
            same("created_ms", ColumnKind::Number),
            same("password_hash", ColumnKind::Text),
            same("invite_only", ColumnKind::Flag),
            same("shares_history", ColumnKind::Flag),
            same("records", ColumnKind::Number),
            same("epoch", ColumnKind::Number),
            same("head", ColumnKind::Bytes),
            same("deleted_ms", ColumnKind::Number),
        ],
    },
    CopiedTable {
        name: "room_member",
        columns: &[
            same("room", ColumnKind::Bytes),
            USER,
            same("fingerprint", ColumnKind::Bytes),
            same("role", ColumnKind::SmallNumber),
            same("position", ColumnKind::Number),
        ],
    },
    CopiedTable {
        name: "room_standing",
        columns: &[
            same("room", ColumnKind::Bytes),
            USER,
            same("standing", ColumnKind::SmallNumber),
            same("at_ms", ColumnKind::Number),
        ],
    },
    CopiedTable {
        name: "room_record",
        columns: &[
            same("room", ColumnKind::Bytes),
            same("epoch", ColumnKind::Number),
            same("hash", ColumnKind::Bytes),
            same("signed", ColumnKind::Bytes),
            same("signature", ColumnKind::Bytes),
            same("actor", ColumnKind::Text),
            same("is_own", ColumnKind::Flag),
            same("at_ms", ColumnKind::Number),
            same("ended", ColumnKind::Bytes),
        ],
    },
    CopiedTable {
        name: "room_open_cut",
        columns: &[
            same("room", ColumnKind::Bytes),
            same("fingerprint", ColumnKind::Bytes),
            same("ended_at", ColumnKind::Number),
        ],
    },
    CopiedTable { name: "room_setting", columns: &[same("name", ColumnKind::Text), same("value", ColumnKind::Bytes)] },
];
