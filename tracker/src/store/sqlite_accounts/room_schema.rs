//! The tables of rooms.

use rusqlite::Transaction;

/// Creates the tables of schema version 7.
pub(super) fn create_tables(step: &Transaction<'_>) -> rusqlite::Result<()> {
    step.execute_batch(
        "CREATE TABLE room (
            id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
            -- NULL from the room's deletion on.
            name TEXT COLLATE NOCASE UNIQUE,
            topic TEXT NOT NULL,
            creator TEXT NOT NULL,
            created_ms INTEGER NOT NULL,
            password_hash TEXT,
            invite_only INTEGER NOT NULL,
            -- 0: new members see only messages from their join on.
            shares_history INTEGER NOT NULL,
            records INTEGER NOT NULL,
            epoch INTEGER NOT NULL,
            head BLOB NOT NULL CHECK (length(head) = 32),
            deleted_ms INTEGER
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX room_creator ON room (creator, created_ms);
        CREATE TABLE room_member (
            room BLOB NOT NULL,
            user TEXT NOT NULL,
            fingerprint BLOB CHECK (fingerprint IS NULL OR length(fingerprint) = 32),
            -- 0 member, 1 moderator, 2 owner.
            role INTEGER NOT NULL,
            -- The order of the joins.
            position INTEGER NOT NULL,
            PRIMARY KEY (room, user)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX room_member_user ON room_member (user);
        CREATE TABLE room_standing (
            room BLOB NOT NULL,
            user TEXT NOT NULL,
            -- 0 invited, 1 kicked, 2 banned.
            standing INTEGER NOT NULL,
            at_ms INTEGER NOT NULL,
            PRIMARY KEY (room, user)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX room_standing_user ON room_standing (user);
        CREATE TABLE room_record (
            room BLOB NOT NULL,
            epoch INTEGER NOT NULL,
            hash BLOB NOT NULL CHECK (length(hash) = 32),
            signed BLOB NOT NULL,
            signature BLOB NOT NULL CHECK (length(signature) = 64),
            -- The account that caused it; NULL for the tracker itself.
            actor TEXT,
            is_own INTEGER NOT NULL,
            at_ms INTEGER NOT NULL,
            -- The key whose membership it ended.
            ended BLOB,
            PRIMARY KEY (room, epoch)
        ) STRICT, WITHOUT ROWID;
        CREATE UNIQUE INDEX room_record_hash ON room_record (room, hash);
        CREATE INDEX room_record_actor ON room_record (room, actor, is_own, at_ms);
        CREATE INDEX room_record_ended ON room_record (room, ended);
        CREATE TABLE room_open_cut (
            room BLOB NOT NULL,
            fingerprint BLOB NOT NULL,
            ended_at INTEGER NOT NULL,
            PRIMARY KEY (room, fingerprint, ended_at)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE room_setting (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;",
    )
}
