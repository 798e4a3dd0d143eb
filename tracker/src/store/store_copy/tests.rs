use std::collections::BTreeSet;

use postgres_server::PostgresServer;
use rusqlite::types::Value;

use super::super::postgres::PostgresAddress;
use super::*;

/// Accounts and rooms with every column in use, and names that look alike from before there were claims.
const ROWS: &str = "
    INSERT INTO account VALUES ('Bob', 'hash 1', NULL), ('bob', 'hash 2', x'0101010101010101010101010101010101010101010101010101010101010101');
    INSERT INTO name_claim VALUES (-9223372036854775808, 'Bob'), (9223372036854775807, 'bob');
    INSERT INTO former_key VALUES (x'0202020202020202020202020202020202020202020202020202020202020202', 'bob', 1700000000000);
    INSERT INTO unused_account VALUES ('Bob', 1800000000000);
    INSERT INTO room VALUES (x'00112233445566778899aabbccddeeff', 'Lab', 'téma 🦀 \\N \t', 'bob', 1, 'hash', 1, 0, 2, 7,
        x'0303030303030303030303030303030303030303030303030303030303030303', NULL);
    INSERT INTO room VALUES (x'ff112233445566778899aabbccddeeff', NULL, '', 'Bob', 1, NULL, 0, 1, 0, 0,
        x'0000000000000000000000000000000000000000000000000000000000000000', 5);
    INSERT INTO room_member VALUES (x'00112233445566778899aabbccddeeff', 'bob', NULL, 2, 1),
        (x'00112233445566778899aabbccddeeff', 'Bob', x'0101010101010101010101010101010101010101010101010101010101010101', 0, 2);
    INSERT INTO room_standing VALUES (x'00112233445566778899aabbccddeeff', 'eve', 2, 9);
    INSERT INTO room_record VALUES (x'00112233445566778899aabbccddeeff', 7,
        x'0303030303030303030303030303030303030303030303030303030303030303', x'', zeroblob(64), 'bob', 1, 9, NULL),
        (x'00112233445566778899aabbccddeeff', 9223372036854775807,
        x'0404040404040404040404040404040404040404040404040404040404040404', x'00ff', zeroblob(64), NULL, 0, 9, x'05');
    INSERT INTO room_open_cut VALUES (x'00112233445566778899aabbccddeeff', x'05', 7);
    INSERT INTO room_setting VALUES ('signer', x'06'), ('restored', x'01');";

fn all_rows(store: &SqliteAccountStore) -> Vec<(String, Vec<Vec<Value>>)> {
    let rows_of = |table: &CopiedTable| {
        let columns = table.list(|column| column.sqlite.to_owned());
        let mut query =
            store.database().prepare(&format!("SELECT {columns} FROM {} ORDER BY 1, 2", table.name)).unwrap();
        let count = table.columns.len();
        let rows = query.query_map([], |row| (0..count).map(|number| row.get(number)).collect()).unwrap();
        (table.name.to_owned(), rows.map(Result::unwrap).collect())
    };
    TABLES.iter().map(rows_of).collect()
}

async fn empty_database(server: &PostgresServer) -> (PostgresStore, String) {
    let name = server.create_database().unwrap();
    let address = PostgresAddress::parse(&server.address(&name)).unwrap();
    (PostgresStore::connect(&address).await.unwrap(), name)
}

#[tokio::test]
async fn everything_comes_back_as_it_was_and_only_into_empty_places() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let store = SqliteAccountStore::open(&first).unwrap();
    store.database().execute_batch(ROWS).unwrap();
    let (database, _) = empty_database(server).await;
    let copied = CopyReport { accounts: 2, rooms: 2 };
    assert_eq!(copy_to_postgres(&store, &database).await.unwrap(), copied);
    assert!(matches!(copy_to_postgres(&store, &database).await, Err(StoreCopyError::NotEmpty)));
    assert_eq!(copy_to_sqlite(&database, &second).await.unwrap(), copied);
    assert!(matches!(copy_to_sqlite(&database, &second).await, Err(StoreCopyError::NotEmpty)));
    let rows = all_rows(&store);
    assert!(rows.iter().all(|(_, rows)| !rows.is_empty()), "{rows:?}");
    assert_eq!(all_rows(&SqliteAccountStore::open(&second).unwrap()), rows);
    assert!(!folder.path().join("second-wal").exists(), "the file alone is whole");
}

#[tokio::test]
async fn a_copy_that_fails_leaves_nothing_behind() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
    store.database().execute_batch(ROWS).unwrap();
    let (database, name) = empty_database(server).await;
    // The last table but one refuses.
    server.administrate(&name, "ALTER TABLE room_open_cut ADD CHECK (ended_at = 0)").unwrap();
    assert!(matches!(copy_to_postgres(&store, &database).await, Err(StoreCopyError::Database(_))));
    assert!(database.is_empty().await.unwrap());
    assert_eq!(server.administrate(&name, "SELECT count(*) FROM room").unwrap(), "0");
}

#[tokio::test]
async fn a_database_that_a_tracker_merely_started_with_is_empty() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
    store.database().execute_batch(ROWS).unwrap();
    let (database, name) = empty_database(server).await;
    server.administrate(&name, "INSERT INTO room_setting VALUES ('signer', '\\x07')").unwrap();
    assert_eq!(copy_to_postgres(&store, &database).await.unwrap(), CopyReport { accounts: 2, rooms: 2 });
    let signer = "SELECT encode(value, 'hex') FROM room_setting WHERE name = 'signer'";
    assert_eq!(server.administrate(&name, signer).unwrap(), "06", "the one of the rooms that were copied");
}

#[tokio::test]
async fn no_table_and_no_column_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
    let columns = |name: fn(&copied_tables::CopiedColumn) -> &'static str| -> BTreeSet<String> {
        let of_table =
            |table: &'static CopiedTable| table.columns.iter().map(move |it| format!("{}.{}", table.name, name(it)));
        TABLES.iter().flat_map(of_table).collect()
    };
    let sqlite =
        "SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'";
    let mut query = store.database().prepare(sqlite).unwrap();
    let there: BTreeSet<String> = query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(there, columns(|column| column.sqlite));
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: only SQLite is tested");
    };
    let (_database, name) = empty_database(server).await;
    // All others belong to the database itself, or are about who is present.
    let postgres =
        "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'
        AND table_name NOT IN ('store_schema', 'tracker_instance', 'write_turn', 'write_probe', 'change_token',
            'catalogue', 'log_counter', 'log_entry', 'presence', 'tracker_identity', 'tracker_node')";
    let there: BTreeSet<String> = server.administrate(&name, postgres).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(there, columns(|column| column.postgres));
}
