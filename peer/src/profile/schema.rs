//! Schema of the database, and its migrations.

use rusqlite::{Connection, TransactionBehavior};

/// Entry N takes the schema from version N to N + 1; a released entry is never changed.
const MIGRATIONS: [&str; 17] = [V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12, V13, V14, V15, V16, V17];

/// The version of the schema that this release reads and writes.
pub(super) const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

const V1: &str = "
    CREATE TABLE setting (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE friend (
        user TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        first_seen INTEGER NOT NULL,
        verified INTEGER NOT NULL DEFAULT 0,
        addresses TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX friend_by_fingerprint ON friend (fingerprint);

    CREATE TABLE share (
        name TEXT PRIMARY KEY,
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        executable INTEGER NOT NULL,
        hash BLOB NOT NULL,
        manifest BLOB NOT NULL
    ) STRICT;
    CREATE INDEX share_by_hash ON share (hash);
    CREATE INDEX share_by_path ON share (path);

    CREATE TABLE empty_folder (
        name TEXT PRIMARY KEY
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE message (
        seq INTEGER PRIMARY KEY,
        peer TEXT NOT NULL,
        direction TEXT NOT NULL CHECK (direction IN ('in', 'out')),
        id TEXT NOT NULL,
        ts INTEGER NOT NULL,
        text TEXT NOT NULL,
        state TEXT NOT NULL,
        UNIQUE (peer, direction, id)
    ) STRICT;
";

/// Conversations with read markers, the outbox, the full-text index, offers, blocked users.
const V2: &str = r#"
    ALTER TABLE message ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN offer TEXT;
    UPDATE message SET at = ts;
    CREATE INDEX message_by_peer ON message (peer, seq);
    -- Unread messages are counted without a look at what the user wrote.
    CREATE INDEX message_received ON message (peer, seq) WHERE direction = 'in';

    CREATE TABLE conversation (
        peer TEXT PRIMARY KEY,
        read_up_to INTEGER NOT NULL DEFAULT 0,
        unread INTEGER NOT NULL DEFAULT 0,
        unread_bytes INTEGER NOT NULL DEFAULT 0,
        frozen INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    -- What there is was shown when it came.
    INSERT INTO conversation (peer, read_up_to) SELECT peer, max(seq) FROM message GROUP BY peer;

    CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY REFERENCES message (seq),
        peer TEXT NOT NULL,
        since INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX outbox_by_peer ON outbox (peer, seq);
    INSERT INTO outbox (seq, peer, since) SELECT seq, peer, ts FROM message WHERE state = 'waiting';

    CREATE VIRTUAL TABLE message_words USING fts5 (
        text, content = 'message', content_rowid = 'seq', tokenize = 'unicode61 remove_diacritics 2'
    );
    INSERT INTO message_words (rowid, text) SELECT seq, text FROM message;
    CREATE TRIGGER message_added AFTER INSERT ON message BEGIN
        INSERT INTO message_words (rowid, text) VALUES (new.seq, new.text);
    END;

    CREATE TABLE blocked (
        user TEXT PRIMARY KEY,
        since INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE offer (
        peer TEXT NOT NULL,
        name TEXT NOT NULL,
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        executable INTEGER NOT NULL,
        hash BLOB NOT NULL,
        manifest BLOB NOT NULL,
        PRIMARY KEY (peer, name)
    ) STRICT;
    CREATE INDEX offer_by_hash ON offer (hash);
"#;

/// Partial files that are shared while they are fetched; the change time as part of a file's version.
const V3: &str = "
    CREATE TABLE partial (
        part BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        mtime INTEGER NOT NULL,
        executable INTEGER NOT NULL,
        hash BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX partial_by_hash ON partial (hash);

    -- No file has this one: what was hashed before is hashed once more.
    ALTER TABLE share ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE offer ADD COLUMN ctime_ns INTEGER NOT NULL DEFAULT 0;
";

/// All folders of the shares with their times; those without files are marked as empty.
const V4: &str = "
    CREATE TABLE folder (
        name TEXT PRIMARY KEY,
        -- NULL: as long as it isn't shared again.
        mtime_ns INTEGER,
        empty INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO folder (name, empty) SELECT name, 1 FROM empty_folder;
    DROP TABLE empty_folder;
";

/// Runs of zero groups, which are neither read nor sent; an index to find moved files by their inode.
const V5: &str = "
    ALTER TABLE share ADD COLUMN zeros BLOB;
    ALTER TABLE offer ADD COLUMN zeros BLOB;
    CREATE INDEX share_by_inode ON share (inode);
";

/// The mark in the header that identifies a copy of the database under any name ([`APPLICATION_ID`]).
const V6: &str = "PRAGMA application_id = 1449753198;";

/// The bytes that V6 writes at offset 68 (<https://www.sqlite.org/fileformat2.html#application_id>): `Vizn`.
pub const APPLICATION_ID: [u8; 4] = 1_449_753_198_u32.to_be_bytes();

/// Trackers by their keys. The key of the account's tracker counts as confirmed, because the password went there; the
/// others were only seen.
const V7: &str = "
    CREATE TABLE tracker_key (
        fingerprint TEXT PRIMARY KEY,
        confirmed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tracker_address (
        address TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL REFERENCES tracker_key (fingerprint)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO tracker_key (fingerprint, confirmed)
        SELECT value, max(key = 'tracker_pin ' || coalesce((SELECT value FROM setting WHERE key = 'tracker'), ''))
        FROM setting WHERE key GLOB 'tracker_pin *' GROUP BY value;
    INSERT INTO tracker_address (address, fingerprint)
        SELECT substr(key, length('tracker_pin ') + 1), value FROM setting WHERE key GLOB 'tracker_pin *';
    DELETE FROM setting WHERE key GLOB 'tracker_pin *';
";

/// Message requests of strangers, and ids of forgotten messages.
const V8: &str = "
    ALTER TABLE conversation ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN request_count INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN request_bytes INTEGER NOT NULL DEFAULT 0;
    -- With whom there is a conversation, one goes on.
    UPDATE conversation SET accepted = 1;
    CREATE INDEX conversation_request ON conversation (peer, request_count, request_bytes) WHERE accepted = 0;

    -- One that is delivered again is not new.
    CREATE TABLE forgotten (
        peer TEXT NOT NULL,
        direction TEXT NOT NULL,
        id TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (peer, direction, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX forgotten_by_time ON forgotten (at);
";

/// Shares, folders and partial files by audience: `''` for everybody, `@USER` for one person (before: the offers), `#ID` for
/// a room.
const V9: &str = "
    -- A new table, because SQLite can't change the primary key of one.
    CREATE TABLE share_by_audience (
        audience TEXT NOT NULL,
        name TEXT NOT NULL,
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        executable INTEGER NOT NULL,
        hash BLOB NOT NULL,
        manifest BLOB NOT NULL,
        ctime_ns INTEGER NOT NULL,
        zeros BLOB,
        PRIMARY KEY (audience, name)
    ) STRICT;
    INSERT INTO share_by_audience
        SELECT '', name, path, size, mtime_ns, inode, executable, hash, manifest, ctime_ns, zeros FROM share;
    INSERT INTO share_by_audience
        SELECT '@' || peer, name, path, size, mtime_ns, inode, executable, hash, manifest, ctime_ns, zeros FROM offer;
    DROP TABLE share;
    DROP TABLE offer;
    ALTER TABLE share_by_audience RENAME TO share;
    CREATE INDEX share_by_hash ON share (hash, audience);
    CREATE INDEX share_by_path ON share (path);
    CREATE INDEX share_by_inode ON share (inode);
    -- A share for everybody is found by the primary key.
    CREATE INDEX restricted_share_by_name ON share (name) WHERE audience <> '';

    CREATE TABLE folder_by_audience (
        audience TEXT NOT NULL,
        name TEXT NOT NULL,
        -- NULL: as long as it isn't shared again.
        mtime_ns INTEGER,
        empty INTEGER NOT NULL,
        PRIMARY KEY (audience, name)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO folder_by_audience SELECT '', name, mtime_ns, empty FROM folder;
    DROP TABLE folder;
    ALTER TABLE folder_by_audience RENAME TO folder;

    ALTER TABLE partial ADD COLUMN audience TEXT NOT NULL DEFAULT '';
    CREATE INDEX partial_by_audience ON partial (audience);
";

/// Rooms. Their messages stand among all others, in conversations whose name begins with `#`. Numbers that others choose
/// are big-endian blobs, so that all 64 bits compare as they should.
const V10: &str = "
    CREATE TABLE room (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        tracker BLOB NOT NULL,
        joined INTEGER NOT NULL,
        others INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX room_by_name ON room (name);

    CREATE TABLE room_record (
        room INTEGER NOT NULL,
        position INTEGER NOT NULL,
        hash BLOB NOT NULL,
        signed BLOB NOT NULL,
        signature BLOB NOT NULL,
        PRIMARY KEY (room, position)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE room_author (
        room INTEGER NOT NULL,
        author BLOB NOT NULL,
        key BLOB NOT NULL,
        floor BLOB NOT NULL,
        floor_contents BLOB NOT NULL,
        bytes INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (room, author)
    ) STRICT, WITHOUT ROWID;

    -- NULL for messages between two users, which are in the order of their arrival.
    ALTER TABLE message ADD COLUMN place BLOB;
    ALTER TABLE message ADD COLUMN void INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX message_by_place ON message (peer, place) WHERE place IS NOT NULL;

    CREATE TABLE room_message (
        seq INTEGER PRIMARY KEY REFERENCES message (seq),
        room INTEGER NOT NULL,
        hash BLOB NOT NULL,
        author BLOB NOT NULL,
        user TEXT NOT NULL,
        number BLOB NOT NULL,
        bytes INTEGER NOT NULL,
        late INTEGER NOT NULL,
        -- The signed bytes before the text, which ends them; NULL: not kept for others.
        head BLOB,
        signature BLOB
    ) STRICT;
    CREATE UNIQUE INDEX room_message_by_hash ON room_message (room, hash);
    CREATE INDEX room_message_by_author ON room_message (room, author, number);
    -- Sums that change with each message: adding up anew would get slower with every one.
    CREATE TRIGGER room_message_added AFTER INSERT ON room_message BEGIN
        UPDATE room SET bytes = bytes + new.bytes WHERE number = new.room;
        UPDATE room_author SET bytes = bytes + new.bytes WHERE room = new.room AND author = new.author;
    END;
    CREATE TRIGGER room_message_removed AFTER DELETE ON room_message BEGIN
        UPDATE room SET bytes = bytes - old.bytes WHERE number = old.room;
        UPDATE room_author SET bytes = bytes - old.bytes WHERE room = old.room AND author = old.author;
    END;

    CREATE TABLE room_delivery (
        room INTEGER NOT NULL,
        author BLOB NOT NULL,
        member BLOB NOT NULL,
        number BLOB NOT NULL,
        PRIMARY KEY (room, author, member)
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE conversation ADD COLUMN muted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE conversation ADD COLUMN read_place BLOB;
";

/// Folders that are shared as a whole; earlier ones were shared as they were, so nobody is taken to have wanted more. What
/// was taken out of them, and which of their folders are mount points: one that is empty because its disk is away has not
/// lost its files.
const V11: &str = "
    CREATE TABLE share_root (
        audience TEXT NOT NULL,
        name TEXT NOT NULL,
        path BLOB NOT NULL,
        PRIMARY KEY (audience, name, path)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE share_exclusion (
        audience TEXT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (audience, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE share_mount (
        audience TEXT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (audience, name)
    ) STRICT, WITHOUT ROWID;
";

/// Sends of files in both directions, their receipts, and the rules by which sends of others are accepted unasked.
const V12: &str = "
    ALTER TABLE message ADD COLUMN send TEXT;

    -- AUTOINCREMENT: a number that somebody noted never comes to mean another send.
    CREATE TABLE outgoing_send (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        audience TEXT NOT NULL,
        -- The message that announces it; NULL: a room's message does.
        id TEXT,
        send TEXT NOT NULL,
        path BLOB NOT NULL,
        -- The path is a copy of a stream, which goes when the send has ended.
        is_copy INTEGER NOT NULL,
        -- Shares that were there before it stay after it.
        keeps_shares INTEGER NOT NULL,
        at INTEGER NOT NULL,
        state TEXT NOT NULL,
        is_cleared INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    -- What the members of a room made of a send to it.
    CREATE TABLE room_receipt (
        number INTEGER NOT NULL,
        user TEXT NOT NULL,
        outcome TEXT NOT NULL,
        PRIMARY KEY (number, user)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE incoming_send (
        peer TEXT NOT NULL,
        id TEXT NOT NULL,
        send TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (peer, id)
    ) STRICT, WITHOUT ROWID;

    -- Receipts on their way.
    CREATE TABLE receipt (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        peer TEXT NOT NULL,
        receipt TEXT NOT NULL,
        at INTEGER NOT NULL,
        UNIQUE (peer, receipt)
    ) STRICT;

    CREATE TABLE accept_rule (
        user TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        folder BLOB NOT NULL,
        max_bytes INTEGER NOT NULL,
        since INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- What was accepted unasked lately.
    CREATE TABLE accepted_send (
        user TEXT NOT NULL,
        id TEXT NOT NULL,
        at INTEGER NOT NULL,
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (user, id)
    ) STRICT, WITHOUT ROWID;
";

/// Folders of others of which copies are kept in step, with the files of each copy; the names that were shared and
/// removed, for those who keep copies of our folders; and a number for each audience that grows with every change of its
/// shares.
const V13: &str = "
    CREATE TABLE follow (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        user TEXT NOT NULL,
        -- NULL until the user was reached.
        fingerprint TEXT,
        -- The shared name; '' for all that the user shares.
        folder TEXT NOT NULL,
        root BLOB NOT NULL,
        deletes INTEGER NOT NULL,
        is_paused INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL,
        count INTEGER NOT NULL DEFAULT 0,
        why TEXT NOT NULL DEFAULT '',
        in_step_at INTEGER,
        -- Removals lately, so that many small ones are noticed as a large one.
        removals_since INTEGER NOT NULL DEFAULT 0,
        removals INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    CREATE TABLE follow_file (
        follow INTEGER NOT NULL,
        name TEXT NOT NULL,
        -- The file as it was put there, or found; NULL: none was yet.
        size INTEGER,
        mtime_ns INTEGER,
        hash BLOB,
        is_placed INTEGER NOT NULL,
        -- What is about to take its place.
        pending BLOB,
        consent TEXT NOT NULL,
        PRIMARY KEY (follow, name)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE removed_share (
        audience TEXT NOT NULL,
        name TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (audience, name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX removed_share_by_time ON removed_share (at);

    CREATE TABLE share_change (
        audience TEXT PRIMARY KEY,
        number INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER share_added AFTER INSERT ON share BEGIN
        DELETE FROM removed_share WHERE audience = new.audience AND name = new.name;
        INSERT INTO share_change VALUES (new.audience, 1) ON CONFLICT (audience) DO UPDATE SET number = number + 1;
    END;
    CREATE TRIGGER share_removed AFTER DELETE ON share BEGIN
        INSERT INTO share_change VALUES (old.audience, 1) ON CONFLICT (audience) DO UPDATE SET number = number + 1;
    END;
";

/// Wishes: searches that wait, and the files of which they told. Pauses of sends and of the rules by which sends of others
/// are accepted.
const V14: &str = "
    CREATE TABLE wish (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        query TEXT NOT NULL,
        -- The only user whose files count; NULL: everybody's.
        user TEXT,
        -- The folder that takes the file; NULL: it is only told.
        folder BLOB,
        max_bytes INTEGER NOT NULL,
        at INTEGER NOT NULL,
        state TEXT NOT NULL,
        -- What fulfilled it.
        found TEXT
    ) STRICT;
    CREATE TABLE wish_match (
        wish INTEGER NOT NULL,
        user TEXT NOT NULL,
        name TEXT NOT NULL,
        hash BLOB NOT NULL,
        PRIMARY KEY (wish, user, name, hash)
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE outgoing_send ADD COLUMN is_paused INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE accept_rule ADD COLUMN is_paused INTEGER NOT NULL DEFAULT 0;
";

/// Links for guests: what each gives or takes.
const V15: &str = "
    CREATE TABLE guest_link (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        -- The token follows from this and the profile's key; only its hash is kept.
        nonce BLOB NOT NULL,
        token_hash BLOB NOT NULL UNIQUE,
        -- The folder that takes uploads; NULL: the link gives files.
        folder BLOB,
        max_bytes INTEGER NOT NULL,
        is_once INTEGER NOT NULL,
        -- The one browser of a link for one.
        claimed_by BLOB,
        made_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        address TEXT NOT NULL DEFAULT '',
        -- The process that serves it alone; NULL: the node does.
        pid INTEGER
    ) STRICT;

    CREATE TABLE guest_file (
        link INTEGER NOT NULL,
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        hash BLOB NOT NULL,
        is_delivered INTEGER NOT NULL DEFAULT 0,
        manifest BLOB NOT NULL,
        PRIMARY KEY (link, number)
    ) STRICT;

    CREATE TABLE guest_upload (
        number INTEGER PRIMARY KEY,
        link INTEGER NOT NULL,
        -- NULL: it can't be resumed any more.
        key BLOB,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        part TEXT NOT NULL,
        -- The name that it got, and its hash; NULL: it is not complete.
        placed TEXT,
        hash BLOB
    ) STRICT;
    -- NULLs are distinct in an index, so any number of uploads may be without a key.
    CREATE UNIQUE INDEX guest_upload_by_key ON guest_upload (link, key);
";

const V16: &str = "
    -- 1: guests can talk with the user.
    ALTER TABLE guest_link ADD COLUMN has_chat INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE guest_conversation (
        link INTEGER NOT NULL,
        -- From 1 within the link.
        guest INTEGER NOT NULL,
        -- The guest's session, hashed.
        session BLOB NOT NULL,
        network TEXT NOT NULL,
        name TEXT,
        is_answered INTEGER NOT NULL DEFAULT 0,
        read_up_to INTEGER NOT NULL DEFAULT 0,
        -- Those of the guest, and what they count for its bounds.
        messages INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (link, guest)
    ) STRICT;
    CREATE UNIQUE INDEX guest_conversation_by_session ON guest_conversation (link, session);

    CREATE TABLE guest_message (
        -- Never given twice: guests ask for what is after one.
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        link INTEGER NOT NULL,
        guest INTEGER NOT NULL,
        id TEXT,
        is_answer INTEGER NOT NULL,
        at INTEGER NOT NULL,
        text TEXT NOT NULL
    ) STRICT;
    CREATE INDEX guest_message_by_guest ON guest_message (link, guest, seq);
    CREATE UNIQUE INDEX guest_message_by_id ON guest_message (link, guest, id);
";

/// Whether a room was told of a send, and changes of the shares that a pause moves to another audience.
const V17: &str = "
    -- When the room was told; NULL: it wasn't yet, or the send is to one person, whose message has an id.
    ALTER TABLE outgoing_send ADD COLUMN announced_at INTEGER;
    -- Taken to have been told: to tell a room again of everything would be worse than to miss a send.
    UPDATE outgoing_send SET announced_at = at WHERE id IS NULL;

    CREATE TRIGGER share_moved AFTER UPDATE OF audience ON share BEGIN
        DELETE FROM removed_share WHERE audience = new.audience AND name = new.name;
        INSERT INTO share_change VALUES (old.audience, 1) ON CONFLICT (audience) DO UPDATE SET number = number + 1;
        INSERT INTO share_change VALUES (new.audience, 1) ON CONFLICT (audience) DO UPDATE SET number = number + 1;
    END;
";

/// Returns the version of the schema; 0 for an empty database.
pub(super) fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the schema up to date; returns its version, which is a later one if a newer release was faster.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<i64> {
    migrate_to(connection, MIGRATIONS.len())
}

fn migrate_to(connection: &mut Connection, to: usize) -> rusqlite::Result<i64> {
    // Immediate: a read lock that is upgraded later fails at once, without the busy handler, when both
    // migrate.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have migrated while this one waited for the lock.
    let found = schema_version(&transaction)?;
    let from = usize::try_from(found).unwrap_or(0);
    if from >= to {
        return Ok(found);
    }
    for migration in MIGRATIONS.iter().take(to).skip(from) {
        transaction.execute_batch(migration)?;
    }
    // In the same transaction: a crash leaves the old version with the old tables.
    transaction.pragma_update(None, "user_version", to)?;
    transaction.commit()?;
    schema_version(connection)
}

#[cfg(test)]
mod tests {
    use super::super::database_opening::open;
    use super::*;

    #[test]
    fn a_profile_of_the_first_version_keeps_its_messages() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("profile.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(V1).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute_batch(
            "INSERT INTO message (peer, direction, id, ts, text, state) VALUES
             ('bob', 'in', '00000000000000000000000000000001', 5, 'o orçamento', 'received'),
             ('bob', 'out', '00000000000000000000000000000002', 6, 'obrigada', 'stored'),
             ('bob', 'out', '00000000000000000000000000000003', 7, 'até logo', 'waiting');
             INSERT INTO empty_folder VALUES ('docs/empty')",
        )
        .unwrap();
        drop(old);
        let new = open(&path).unwrap();
        assert_eq!(schema_version(&new).unwrap(), SCHEMA_VERSION);
        let one = |query: &str| new.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(one("SELECT count(*) FROM message WHERE at = ts"), 3);
        assert_eq!(one("SELECT count(*) FROM folder WHERE name = 'docs/empty' AND empty AND mtime_ns IS NULL"), 1);
        assert_eq!(one("SELECT rowid FROM message_words WHERE message_words MATCH 'orcamento'"), 1);
        assert_eq!(one("SELECT seq FROM outbox WHERE peer = 'bob' AND since = 7"), 3);
        assert_eq!(one("SELECT read_up_to FROM conversation WHERE peer = 'bob' AND unread = 0"), 3);
        assert_eq!(one("SELECT accepted FROM conversation WHERE peer = 'bob'"), 1);
    }

    #[test]
    fn the_version_is_never_lowered() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("profile.db");
        let mut newer = open(&path).unwrap();
        newer.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
        // As if it had been migrated after an older release looked and before that one got the lock.
        assert_eq!(migrate(&mut newer).unwrap(), SCHEMA_VERSION + 1);
        assert_eq!(schema_version(&newer).unwrap(), SCHEMA_VERSION + 1);
    }

    #[test]
    fn the_trackers_of_earlier_versions_are_kept_by_key() {
        let pins = "INSERT INTO setting VALUES
            ('tracker_pin 10.0.0.1:8000', 'aa'), ('tracker_pin tracker.lan:8000', 'aa'),
            ('tracker_pin 10.0.0.66:8000', 'bb'), ('bell', 'off');";
        let account = "INSERT INTO setting VALUES ('tracker', '10.0.0.1:8000'), ('user', 'alice');";
        // The tracker's setting stays after `peer logout`: the password went to that tracker all the same.
        let logged_out = "INSERT INTO setting VALUES ('tracker', '10.0.0.1:8000');";
        let elsewhere = "INSERT INTO setting VALUES ('tracker', '10.0.0.9:8000'), ('user', 'alice');";
        for (settings, confirmed) in [(account, 1), (logged_out, 1), (elsewhere, 0), ("", 0)] {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("profile.db");
            let mut old = Connection::open(&path).unwrap();
            migrate_to(&mut old, 6).unwrap();
            old.execute_batch(pins).unwrap();
            old.execute_batch(settings).unwrap();
            drop(old);
            let new = open(&path).unwrap();
            let rows = |query: &str| {
                let mut query = new.prepare(query).unwrap();
                let rows =
                    query.query_map([], |row| Ok(format!("{} {}", row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
                rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
            };
            let keys = rows("SELECT fingerprint, CAST(confirmed AS TEXT) FROM tracker_key ORDER BY 1");
            assert_eq!(keys, [format!("aa {confirmed}"), "bb 0".to_owned()], "{settings}");
            let addresses = rows("SELECT address, fingerprint FROM tracker_address ORDER BY 1");
            assert_eq!(addresses, ["10.0.0.1:8000 aa", "10.0.0.66:8000 bb", "tracker.lan:8000 aa"]);
            assert!(rows("SELECT key, value FROM setting WHERE key LIKE '%pin%'").is_empty());
        }
    }

    #[test]
    fn shares_and_offers_of_earlier_versions_get_their_audiences() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("profile.db");
        let mut old = Connection::open(&path).unwrap();
        migrate_to(&mut old, 8).unwrap();
        let file = "path, size, mtime_ns, inode, executable, hash, manifest, ctime_ns, zeros";
        let values = "x'2f61', 3, 1, 2, 0, x'aa', x'bb', 4, NULL";
        old.execute_batch(&format!(
            "INSERT INTO share (name, {file}) VALUES ('a', {values}), ('b', {values});
             INSERT INTO offer (peer, name, {file}) VALUES ('bob', 'b', {values}), ('carol', 'c', {values});
             INSERT INTO folder VALUES ('docs', 5, 1);
             INSERT INTO partial (part, name, size, mtime, executable, hash) VALUES (x'2f62', 'd', 9, 8, 0, x'cc')"
        ))
        .unwrap();
        drop(old);
        let new = open(&path).unwrap();
        let one = |query: &str| new.query_row(query, [], |row| row.get::<_, String>(0)).unwrap();
        let shares = "SELECT group_concat(audience || ' ' || name, ', ' ORDER BY audience, name) FROM share
                      WHERE path = x'2f61' AND size = 3 AND ctime_ns = 4 AND hash = x'aa' AND manifest = x'bb'";
        assert_eq!(one(shares), " a,  b, @bob b, @carol c");
        assert_eq!(one("SELECT name FROM folder WHERE audience = '' AND mtime_ns = 5 AND empty"), "docs");
        assert_eq!(one("SELECT name FROM partial WHERE audience = ''"), "d");
    }

    #[test]
    fn the_rooms_of_earlier_sends_count_as_told() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("profile.db");
        let mut old = Connection::open(&path).unwrap();
        migrate_to(&mut old, 16).unwrap();
        old.execute_batch(
            "INSERT INTO outgoing_send (audience, id, send, path, is_copy, keeps_shares, at, state) VALUES
             ('#0101', NULL, '{}', x'2f61', 0, 0, 7, 'waiting'), ('@bob', '01', '{}', x'2f61', 0, 0, 8, 'waiting')",
        )
        .unwrap();
        drop(old);
        let new = open(&path).unwrap();
        let told = "SELECT group_concat(coalesce(announced_at, 'never'), ' ' ORDER BY number) FROM outgoing_send";
        assert_eq!(new.query_row(told, [], |row| row.get::<_, String>(0)).unwrap(), "7 never");
    }
}
