//! The schema of the database, step by step.
//!
//! A step first adds what the next version needs (expand), so that trackers of the version before run beside it; what
//! only they need goes a release later (contract). `min_reader` is the oldest version that still understands the
//! schema: a tracker that is older refuses to start, one that is only older than `version` uses it as it is.
//!
//! Texts are of the collation "C": names sort as bytes, and no upgrade of the system's locales changes an index. No
//! column takes its values from a sequence: numbers that others read in order would be given before they are committed.

use tokio_postgres::Client;

use super::store_connect_error::StoreConnectError;

/// One step of the schema.
struct SchemaStep {
    sql: &'static str,
    /// The oldest version of the schema whose trackers understand the result.
    min_reader: i32,
}

/// The steps that bring the schema from version `n` to `n + 1`, in order. Released steps never change: append new ones.
const STEPS: [SchemaStep; 3] = [
    SchemaStep { sql: FIRST_STEP, min_reader: 1 },
    // A tracker that knows only the first step takes what it knows for all there is.
    SchemaStep { sql: SECOND_STEP, min_reader: 2 },
    // One that doesn't know epochs begins anew at each.
    SchemaStep { sql: THIRD_STEP, min_reader: 2 },
];

const THIRD_STEP: &str = r#"
    -- The history of the server on which the log was written last.
    ALTER TABLE log_counter ADD COLUMN system_id int8, ADD COLUMN timeline int4;
    -- The entry before the first one of an epoch; NULL elsewhere, where it is the number before.
    ALTER TABLE log_entry ADD COLUMN follows int8;
"#;

const SECOND_STEP: &str = r#"
    -- One row for each run of a tracker that others have to reckon with.
    CREATE TABLE tracker_node (
        node int8 PRIMARY KEY,
        name text COLLATE "C" NOT NULL,
        lease_until timestamptz NOT NULL,
        -- The last entry of the log whose events it sent or holds back.
        settled int8 NOT NULL,
        -- The users whose events it holds back.
        held text[] COLLATE "C" NOT NULL
    );
    -- Locked by whoever adds to the log, so that numbers are in the order of commits.
    CREATE TABLE log_counter (
        number int8 NOT NULL,
        last_event int8 NOT NULL,
        -- The last entry whose changes are no longer kept.
        forgotten int8 NOT NULL
    );
    -- Above all numbers that trackers without a database gave.
    INSERT INTO log_counter SELECT 0, floor(extract(epoch FROM now()) * 1000000)::int8, 0;
    CREATE TABLE log_entry (
        number int8 PRIMARY KEY,
        node int8 NOT NULL,
        event_before int8 NOT NULL,
        changes text[] COLLATE "C" NOT NULL,
        events text[] COLLATE "C" NOT NULL,
        made timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX log_entry_made ON log_entry (made);
    CREATE INDEX log_entry_node ON log_entry (node, number);
    CREATE TABLE presence (
        user_name text COLLATE "C" PRIMARY KEY,
        -- The run that holds its lease.
        node int8 NOT NULL,
        -- The hash of the session's token.
        token bytea NOT NULL CHECK (octet_length(token) = 32),
        login text COLLATE "C" NOT NULL
    );
    CREATE INDEX presence_node ON presence (node);
    -- Lists of files, in pieces of neighbouring names.
    CREATE TABLE catalogue (
        user_name text COLLATE "C" NOT NULL,
        digest bytea NOT NULL,
        files text COLLATE "C" NOT NULL,
        PRIMARY KEY (user_name, digest)
    );
    -- The key that all trackers of the database have.
    CREATE TABLE tracker_identity (fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32));
"#;

const FIRST_STEP: &str = r#"
    CREATE TABLE account (
        user_name text COLLATE "C" CONSTRAINT account_pkey PRIMARY KEY,
        password_hash text COLLATE "C" NOT NULL,
        fingerprint bytea CONSTRAINT account_fingerprint_key UNIQUE CHECK (octet_length(fingerprint) = 32)
    );
    CREATE INDEX account_lower ON account (lower(user_name));
    CREATE TABLE name_claim (key int8 PRIMARY KEY, user_name text COLLATE "C" NOT NULL);
    CREATE TABLE former_key (
        fingerprint bytea PRIMARY KEY CHECK (octet_length(fingerprint) = 32),
        user_name text COLLATE "C" NOT NULL,
        -- When another key took its place, milliseconds since 1970.
        moved_ms int8 NOT NULL
    );
    CREATE INDEX former_key_moved ON former_key (moved_ms);
    CREATE TABLE unused_account (
        user_name text COLLATE "C" PRIMARY KEY,
        -- When it is removed unless it is used until then, milliseconds since 1970.
        lapses_ms int8 NOT NULL
    );
    CREATE INDEX unused_account_lapses ON unused_account (lapses_ms, user_name);
    CREATE TABLE room (
        id bytea PRIMARY KEY CHECK (octet_length(id) = 16),
        -- NULL from the room's deletion on.
        name text COLLATE "C",
        topic text COLLATE "C" NOT NULL,
        creator text COLLATE "C" NOT NULL,
        created_ms int8 NOT NULL,
        password_hash text COLLATE "C",
        invite_only bool NOT NULL,
        -- False: new members see only messages from their join on.
        shares_history bool NOT NULL,
        records int8 NOT NULL,
        epoch int8 NOT NULL,
        head bytea NOT NULL CHECK (octet_length(head) = 32),
        deleted_ms int8
    );
    CREATE UNIQUE INDEX room_name ON room (lower(name));
    CREATE INDEX room_creator ON room (creator, created_ms);
    CREATE INDEX room_deleted ON room (deleted_ms) WHERE deleted_ms IS NOT NULL;
    CREATE TABLE room_member (
        room bytea NOT NULL,
        user_name text COLLATE "C" NOT NULL,
        fingerprint bytea CHECK (octet_length(fingerprint) = 32),
        -- 0 member, 1 moderator, 2 owner.
        role int2 NOT NULL,
        -- The order of the joins.
        position int8 NOT NULL,
        PRIMARY KEY (room, user_name)
    );
    CREATE INDEX room_member_user ON room_member (user_name);
    CREATE TABLE room_standing (
        room bytea NOT NULL,
        user_name text COLLATE "C" NOT NULL,
        -- 0 invited, 1 kicked, 2 banned.
        standing int2 NOT NULL,
        at_ms int8 NOT NULL,
        PRIMARY KEY (room, user_name)
    );
    CREATE INDEX room_standing_user ON room_standing (user_name);
    CREATE TABLE room_record (
        room bytea NOT NULL,
        epoch int8 NOT NULL,
        hash bytea NOT NULL CHECK (octet_length(hash) = 32),
        signed bytea NOT NULL,
        signature bytea NOT NULL CHECK (octet_length(signature) = 64),
        -- The account that caused it; NULL for the tracker itself.
        actor text COLLATE "C",
        is_own bool NOT NULL,
        at_ms int8 NOT NULL,
        -- The key whose membership it ended.
        ended bytea,
        PRIMARY KEY (room, epoch)
    );
    CREATE UNIQUE INDEX room_record_hash ON room_record (room, hash);
    CREATE INDEX room_record_actor ON room_record (room, actor, is_own, at_ms);
    CREATE INDEX room_record_ended ON room_record (room, ended);
    CREATE TABLE room_open_cut (
        room bytea NOT NULL,
        fingerprint bytea NOT NULL,
        ended_at int8 NOT NULL,
        PRIMARY KEY (room, fingerprint, ended_at)
    );
    CREATE TABLE room_setting (name text COLLATE "C" PRIMARY KEY, value bytea NOT NULL);

    -- The number of the tracker that may write. A tracker that starts takes the next one.
    CREATE TABLE tracker_instance (incarnation int8 NOT NULL);
    INSERT INTO tracker_instance VALUES (0);
    -- Locked in turn by changes that are repeated, so that the last attempt is alone.
    CREATE TABLE write_turn ();
    -- One row for each change of the last minutes: it tells whether a COMMIT is done whose answer was lost.
    CREATE TABLE change_token (token uuid PRIMARY KEY, made timestamptz NOT NULL DEFAULT now());
    -- Changed to find out whether the database can be written.
    CREATE TABLE write_probe (probes int8 NOT NULL);
    INSERT INTO write_probe VALUES (0);
"#;

/// Held by the tracker that changes the schema: "vizinho" and the number of the use.
const MIGRATION_LOCK: i64 = 0x0076_697a_696e_6801;

/// Brings the schema to the latest version, one tracker after the other. Fails with [`StoreConnectError::TooNew`] when
/// a newer tracker changed it so that this one doesn't understand it.
pub(super) async fn migrate(client: &mut Client) -> Result<(), StoreConnectError> {
    // The lock ends with the transaction, whatever happens to this process.
    let step = client.transaction().await?;
    // Another tracker may be at it, and steps may take long.
    step.batch_execute("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '600s'").await?;
    step.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await?;
    step.batch_execute("CREATE TABLE IF NOT EXISTS store_schema (version int4 NOT NULL, min_reader int4 NOT NULL)")
        .await?;
    let row = step.query_opt("SELECT version, min_reader FROM store_schema", &[]).await?;
    let (version, min_reader): (i32, i32) = row.map_or((0, 0), |row| (row.get(0), row.get(1)));
    let known = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
    if min_reader > known {
        return Err(StoreConnectError::TooNew { found: version, known });
    }
    let missing = STEPS.iter().skip(usize::try_from(version).unwrap_or_default());
    let mut oldest = min_reader;
    for SchemaStep { sql, min_reader } in missing {
        step.batch_execute(sql).await?;
        oldest = *min_reader;
    }
    if version < known {
        let insert = "INSERT INTO store_schema VALUES ($1, $2)";
        step.execute("DELETE FROM store_schema", &[]).await?;
        step.execute(insert, &[&known, &oldest]).await?;
    }
    Ok(step.commit().await?)
}
