//! The database under load, killed, frozen and taken away.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use shared::UserName;
use shared::account_name::name_claims;
use shared::tracker::TrackerEventKind;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::database_history::EPOCH_GAP;
use super::*;
use crate::registry::ReplicatedChange;
use crate::store::claim_key::claim_key;
use crate::store::{Account, AccountStore};

/// Far longer than anything here takes.
const AT_MOST: Duration = Duration::from_secs(60);
/// Letters of which no sequence looks like another one.
const LETTERS: &[u8; 6] = b"abtkzx";

/// True for a run that takes long.
fn is_long() -> bool {
    std::env::var_os("VIZINHO_LONG").is_some()
}

fn address(server: &PostgresServer, database: &str) -> PostgresAddress {
    PostgresAddress::parse(&server.address(database)).unwrap()
}

async fn open(server: &PostgresServer, database: &str) -> Arc<AccountStore> {
    Arc::new(AccountStore::with_postgres(PostgresStore::connect(&address(server, database)).await.unwrap(), None))
}

fn account(user: &str) -> Account {
    Account { user: user.parse().unwrap(), password_hash: format!("hash of {user}"), binding: None }
}

/// Returns a name that looks like no other one.
fn distinct_name(mut number: usize) -> String {
    let mut name = String::from("u");
    loop {
        name.push(char::from(LETTERS[number % LETTERS.len()]));
        number /= LETTERS.len();
        if number == 0 {
            return name;
        }
    }
}

/// Asserts that all claims of each account are its own, so that no two look alike and none is half there.
async fn assert_claims_are_whole(store: &AccountStore) -> Vec<UserName> {
    let bindings = store.bindings(Requester::Administrator).await.unwrap();
    let users: Vec<UserName> = bindings.into_iter().map(|(user, _)| user).collect();
    let mut holders = HashMap::new();
    for user in &users {
        for claim in name_claims(user) {
            let other = holders.insert(claim_key(claim.kind.as_str(), &claim.key), user.clone());
            assert!(other.is_none_or(|other| other == *user), "{user} looks like another one");
        }
    }
    let keys: Vec<i64> = holders.keys().copied().collect();
    let all = holders.clone();
    let read =
        move |rows: &dyn StoreRows| keys.iter().map(|key| rows.claim_holder(&[*key])).collect::<StoreResult<Vec<_>>>();
    let stored = store.backend.read(Requester::Administrator, read).await.unwrap();
    for (user, holder) in all.into_values().zip(stored) {
        assert_eq!(holder, Some(user));
    }
    users
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_register_the_same_and_similar_names_one_gets_each() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let store = open(server, &database).await;
    let names = if is_long() { 150 } else { 20 };
    let (mut attempts, mut won) = (JoinSet::new(), HashMap::new());
    for number in 0..names {
        let name = distinct_name(number);
        // The same name, others that look like it, and some that want the same key.
        for (variant, spelling) in
            [name.clone(), name.clone(), name.to_uppercase(), format!("{name}."), name.clone()].into_iter().enumerate()
        {
            let store = Arc::clone(&store);
            attempts.spawn(async move {
                let account = Account { password_hash: format!("hash {variant}"), ..account(&spelling) };
                loop {
                    match store.create(Requester::Administrator, account.clone(), None).await {
                        // As a client does.
                        Err(AccountStoreError::Busy) => sleep(Duration::from_millis(10)).await,
                        done => return (number, done),
                    }
                }
            });
        }
    }
    while let Some(attempt) = timeout(AT_MOST, attempts.join_next()).await.unwrap() {
        match attempt.unwrap() {
            (number, Ok(())) => assert_eq!(won.insert(number, ()), None, "twice"),
            (_, Err(AccountStoreError::NameTaken(_) | AccountStoreError::NameLike { .. })) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
    assert_eq!(won.len(), names);
    assert_eq!(assert_claims_are_whole(&store).await.len(), names);
}

/// Makes accounts until it is told to stop. Returns those that were acknowledged, and those of which it is unknown.
async fn register_until(
    store: Arc<AccountStore>,
    next: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> (Vec<UserName>, Vec<UserName>) {
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let account = account(&distinct_name(next.fetch_add(1, Ordering::Relaxed)));
        let user = account.user.clone();
        match store.create(Requester::Administrator, account, Some(std::time::SystemTime::now())).await {
            Ok(()) => acknowledged.push(user),
            Err(why) if why.is_undone() => sleep(Duration::from_millis(5)).await,
            Err(_) => unknown.push(user),
        }
    }
    (acknowledged, unknown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_killed_server_and_nothing_else_is_there() {
    let Some(mut server) = PostgresServer::start().unwrap() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let store = open(&server, &database).await;
    let (next, mut expected, mut uncertain) = (Arc::new(AtomicUsize::new(0)), Vec::new(), Vec::new());
    for _ in 0..if is_long() { 20 } else { 2 } {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for _ in 0..12 {
            clients.spawn(register_until(Arc::clone(&store), Arc::clone(&next), Arc::clone(&stop)));
        }
        let before = next.load(Ordering::Relaxed);
        // The moment is what this is about: anywhere in the middle.
        timeout(AT_MOST, until(|| next.load(Ordering::Relaxed) > before + 100 + rand::random_range(0..100)))
            .await
            .unwrap();
        server.kill().unwrap();
        server = spawn_blocking(move || server.restart().map(|()| server)).await.unwrap().unwrap();
        timeout(AT_MOST, until_up(&store)).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        while let Some(client) = timeout(AT_MOST, clients.join_next()).await.unwrap() {
            let (acknowledged, unknown) = client.unwrap();
            expected.extend(acknowledged);
            uncertain.extend(unknown);
        }
    }
    let stored = assert_claims_are_whole(&store).await;
    for user in &expected {
        assert!(stored.contains(user), "{user} was acknowledged");
    }
    for user in &stored {
        assert!(expected.contains(user) || uncertain.contains(user), "{user} was said to be undone");
    }
    let unused = store.unused(Requester::Administrator).await.unwrap();
    assert_eq!(unused, stored, "each has all its rows");
    println!("{} acknowledged, {} unknown", expected.len(), uncertain.len());
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        sleep(Duration::from_millis(2)).await;
    }
}

async fn until_up(store: &AccountStore) {
    while store.probe(Requester::Administrator).await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_database_refuses_soon_and_serves_again_when_it_wakes() {
    let Some(server) = PostgresServer::start().unwrap() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let store = open(&server, &database).await;
    store.create(Requester::Administrator, account("bob"), None).await.unwrap();
    server.freeze().unwrap();
    let began = Instant::now();
    let refused = store.create(Requester::Administrator, account("carol"), None).await;
    assert!(matches!(refused, Err(AccountStoreError::Unreachable(_))), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    timeout(AT_MOST, until(|| store.outage().is_some())).await.unwrap();
    // From here on nobody waits.
    let began = Instant::now();
    for _ in 0..100 {
        assert!(store.find(Requester::Administrator, &"bob".parse().unwrap()).await.is_err());
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(store.last_write_error().unwrap().contains("answer"), "{:?}", store.last_write_error());
    server.thaw().unwrap();
    timeout(AT_MOST, until_up(&store)).await.unwrap();
    assert_eq!((store.outage(), store.last_write_error()), (None, None));
    store.create(Requester::Administrator, account("carol"), None).await.unwrap();
    assert_eq!(store.count(Requester::Administrator).await.unwrap(), 2);
}

#[tokio::test]
async fn trackers_share_a_database_and_one_taken_for_dead_writes_nothing_until_it_knows() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let first = PostgresStore::connect(&address(server, &database)).await.unwrap();
    let second = PostgresStore::connect(&address(server, &database)).await.unwrap();
    let (of_first, of_second) = (first.link.node(), second.link.node());
    assert!(of_first < of_second && first.link.lease().is_held() && second.link.lease().is_held());
    let (key, other) = (Fingerprint::from_bytes([1; 32]), Fingerprint::from_bytes([2; 32]));
    first.claim_identity(key).await.unwrap();
    second.claim_identity(key).await.unwrap();
    let refused = second.claim_identity(other).await;
    assert!(matches!(refused, Err(StoreConnectError::OtherKey)), "{refused:?}");
    let kill = format!("DELETE FROM tracker_node WHERE node = {}", of_first.0);
    server.administrate(&database, &kill).unwrap();
    let changed = first.run(Requester::Administrator, JobKind::Change, |rows| rows.touch()).await;
    assert!(matches!(changed, Err(AccountStoreError::Unreachable(_))), "{changed:?}");
    timeout(AT_MOST, until(|| first.link.node() > of_second && first.link.lease().is_held())).await.unwrap();
    first.run(Requester::Administrator, JobKind::Change, |rows| rows.touch()).await.unwrap();
}

fn registered(user: &str) -> ReplicatedChange {
    ReplicatedChange::Registered { user: user.parse().unwrap(), key: None, lapses: false }
}

async fn write(session: &LogSession, users: &[&str]) -> LogTurn {
    let turn = session.begin().await.unwrap();
    let changes: Vec<_> = users.iter().map(|user| registered(user)).collect();
    let events: Vec<_> = users.iter().map(|user| TrackerEventKind::Offline { user: user.parse().unwrap() }).collect();
    let settled = (turn.number, &HashSet::new());
    session.commit(turn, &changes.iter().collect::<Vec<_>>(), &events, settled).await.unwrap();
    turn
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_in_the_order_of_commits_and_a_dead_tracker_adds_nothing_to_it() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let connect = async || PostgresStore::connect(&address(server, &database)).await.unwrap();
    let (first, second, hint) = (connect().await, connect().await, Arc::new(Notify::new()));
    let one = first.log().open(Arc::default()).await.unwrap();
    let other = second.log().open(Arc::clone(&hint)).await.unwrap();
    let turn = one.begin().await.unwrap();
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { (write(&other, &["bob", "carol"]).await, other) });
    let settled = (turn.number, &HashSet::new());
    one.commit(turn, &[&registered("alice")], &[], settled).await.unwrap();
    let (next, other) = timeout(AT_MOST, waiting.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!((turn.number, next.number, next.last_event), (1, 2, turn.last_event));
    timeout(AT_MOST, hint.notified()).await.unwrap();
    let entries = one.read_after(0).await.unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (entry.number, entry.node, entry.changes.len())).collect();
    assert_eq!(told, [(1, one.node(), 1), (2, other.node(), 2)]);
    assert_eq!((entries[1].event_before, entries[1].events.len()), (turn.last_event, 2));
    let store = AccountStore::with_postgres(first, None);
    store.create(Requester::Administrator, account("dave"), None).await.unwrap();
    let last = one.read_after(2).await.unwrap();
    assert_eq!((last.len(), last[0].number, last[0].event_before), (1, 3, turn.last_event + 2));
    assert_eq!(last[0].changes, [registered("dave")]);
    let shared = store.initial_state(Requester::Administrator).await.unwrap().shared.unwrap();
    assert_eq!((shared.number, shared.last_event, shared.events.len()), (3, turn.last_event + 2, 2));
    // What all have settled is forgotten after a while, and whoever has not read it by then begins anew.
    let age = "UPDATE log_entry SET made = now() - interval '1 day'; UPDATE tracker_node SET settled = 3";
    server.administrate(&database, age).unwrap();
    database_watch::clean(&second.open_session().await.unwrap()).await;
    assert!(matches!(one.read_after(0).await, Err(LogError::OutOfDate)));
    assert!(matches!(one.read_after(1).await, Err(LogError::OutOfDate)));
    assert_eq!(one.read_after(2).await.unwrap().len(), 1);
    assert_eq!(store.initial_state(Requester::Administrator).await.unwrap().shared.unwrap().events.len(), 2);
    // Taken for dead: nothing is written, and its users are another one's.
    assert!(other.dead_nodes(true).await.unwrap().is_empty());
    let lapse =
        format!("UPDATE tracker_node SET lease_until = now() - interval '1 hour' WHERE node = {}", one.node().0);
    server.administrate(&database, &lapse).unwrap();
    let turn = other.begin().await.unwrap();
    if other.lock_dead_node(one.node()).await.unwrap().is_some() {
        let change = ReplicatedChange::Adopted { node: one.node() };
        other.write_changes(&[(&change, None)]).await.unwrap();
        other.commit(turn, &[&change], &[], (turn.number, &HashSet::new())).await.unwrap();
        assert!(matches!(one.begin().await, Err(LogError::Fenced)));
    }
}

#[tokio::test]
async fn a_lost_session_is_opened_again() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let store = open(server, &database).await;
    store.create(Requester::Administrator, account("bob"), None).await.unwrap();
    let end = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{database}'");
    server.administrate("postgres", &end).unwrap();
    timeout(AT_MOST, until_up(&store)).await.unwrap();
    store.create(Requester::Administrator, account("carol"), None).await.unwrap();
}

#[tokio::test]
async fn what_can_t_be_used_says_why() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let connect = async |text: &str| PostgresStore::connect(&PostgresAddress::parse(text).unwrap()).await.unwrap_err();
    let missing = connect(&server.address("nowhere")).await;
    assert!(matches!(missing, StoreConnectError::NoDatabase(_)), "{missing}");
    let refused = connect(&server.address(&database).replace("tracker@", "stranger@")).await;
    assert!(matches!(refused, StoreConnectError::Refused(_)), "{refused}");
    let foreign = server.create_database().unwrap();
    server.administrate("postgres", &format!("ALTER DATABASE {foreign} OWNER TO administrator")).unwrap();
    let foreign = connect(&server.address(&foreign)).await;
    assert!(matches!(foreign, StoreConnectError::NotOwner(_)), "{foreign}");
    let away = connect("postgres://tracker@%2Fnonexistent/x").await;
    assert!(matches!(away, StoreConnectError::Unreachable(_)), "{away}");
    drop(PostgresStore::connect(&address(server, &database)).await.unwrap());
    // A newer tracker's schema that this one still understands, and one that it doesn't.
    server.administrate(&database, "UPDATE store_schema SET version = 99").unwrap();
    drop(PostgresStore::connect(&address(server, &database)).await.unwrap());
    assert_eq!(server.administrate(&database, "SELECT version FROM store_schema").unwrap(), "99");
    server.administrate(&database, "UPDATE store_schema SET min_reader = 99").unwrap();
    let newer = connect(&server.address(&database)).await;
    assert!(matches!(newer, StoreConnectError::TooNew { found: 99, .. }), "{newer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_commit_is_found_or_made_impossible() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let store = PostgresStore::connect(&address(server, &database)).await.unwrap();
    for (ending, is_done) in [("COMMIT", true), ("ROLLBACK", false)] {
        let token = format!("{:032x}", rand::random::<u128>());
        let session = store.open_session().await.unwrap();
        let begin = format!("BEGIN; INSERT INTO change_token VALUES ('{token}')");
        session.client.batch_execute(&begin).await.unwrap();
        let (link, wanted) = (Arc::clone(&store.link), token.clone());
        let search = spawn_blocking(move || job_runner::is_committed(&link, &wanted));
        // It waits for the other transaction: nothing else would be certain.
        let waiting =
            format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'");
        timeout(AT_MOST, async {
            while server.administrate("postgres", &waiting).unwrap() != "1" {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
        session.client.batch_execute(ending).await.unwrap();
        assert_eq!(search.await.unwrap(), Some(is_done), "{ending}");
        let late = session.client.batch_execute(&begin).await;
        assert!(late.is_err(), "the token is taken for ever");
    }
}

async fn connect_to(servers: &[&PostgresServer], database: &str) -> PostgresStore {
    let address = PostgresServer::address_of_all(servers, database);
    PostgresStore::connect(&PostgresAddress::parse(&address).unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_goes_on_with_higher_numbers_and_a_former_primary_is_refused() {
    let Some(mut primary) = PostgresServer::start().unwrap() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let standby = primary.start_standby().unwrap();
    let (database, folder) = (primary.create_database().unwrap(), tempfile::tempdir().unwrap());
    primary.wait_for_standby(true).unwrap();
    let address = |servers: &[&PostgresServer]| {
        let address = PostgresAddress::parse(&PostgresServer::address_of_all(servers, &database)).unwrap();
        address.with_history_file(folder.path().join("history"))
    };
    // A standby takes no changes: it is never taken for the primary.
    let store = PostgresStore::connect(&address(&[&standby, &primary])).await.unwrap();
    let (log, store) = (store.log(), Arc::new(AccountStore::with_postgres(store, None)));
    store.create(Requester::Administrator, account("bob"), None).await.unwrap();
    let session = log.open(Arc::default()).await.unwrap();
    let before = write(&session, &["carol"]).await;
    primary.kill().unwrap();
    standby.promote().unwrap();
    // Repeated as a client does.
    let created = async {
        while let Err(why) = store.create(Requester::Administrator, account("dave"), None).await {
            assert!(matches!(why, AccountStoreError::Unreachable(_) | AccountStoreError::Busy), "{why:?}");
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(AT_MOST, created).await.unwrap();
    assert!(store.find(Requester::Administrator, &"bob".parse().unwrap()).await.unwrap().is_some());
    let session = log.open(Arc::default()).await.unwrap();
    // Nothing was lost: whoever had read all goes on.
    let entries = session.read_after(before.number).await.unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (entry.begins_epoch, entry.changes.len())).collect();
    assert_eq!(told, [(true, 0), (false, 1)]);
    assert!(entries[0].number > before.number + EPOCH_GAP && entries[0].event_before > before.last_event + 1);
    // Back again, it would take changes that nobody else sees.
    primary.restart().unwrap();
    let refused = PostgresStore::connect(&address(&[&primary])).await;
    assert!(matches!(refused, Err(StoreConnectError::FormerPrimary { found: 1, known: 2 })), "{refused:?}");
    let again = PostgresStore::connect(&address(&[&primary, &standby])).await.unwrap();
    assert!(!again.is_empty().await.unwrap());
    store.create(Requester::Administrator, account("erin"), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_read_what_a_promotion_lost_begins_anew() {
    let Some(primary) = PostgresServer::start().unwrap() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = primary.create_database().unwrap();
    let standby = primary.start_standby().unwrap();
    let store = connect_to(&[&primary, &standby], &database).await;
    let session = store.log().open(Arc::default()).await.unwrap();
    primary.wait_for_standby(true).unwrap();
    let kept = write(&session, &["alice"]).await;
    primary.wait_for_standby(false).unwrap();
    standby.detach().unwrap();
    let lost = write(&session, &["bob"]).await;
    primary.kill().unwrap();
    standby.promote().unwrap();
    let reopened = async {
        loop {
            match store.log().open(Arc::default()).await {
                Ok(session) => return session,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let session = timeout(AT_MOST, reopened).await.unwrap();
    assert!(matches!(session.read_after(lost.number).await, Err(LogError::OutOfDate)));
    assert_eq!(session.read_after(kept.number).await.unwrap().len(), 1);
    let next = write(&session, &["carol"]).await;
    assert!(next.number > lost.number && next.last_event > lost.last_event + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_no_standby_confirmed_is_no_success() {
    let Some(server) = PostgresServer::start().unwrap() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let database = server.create_database().unwrap();
    let store = Arc::new(connect_to(&[&server], &database).await);
    server.wait_for_standby(true).unwrap();
    let changing = Arc::clone(&store);
    let mut change = JoinSet::new();
    change.spawn(async move { changing.run(Requester::Administrator, JobKind::Change, |rows| rows.touch()).await });
    // Whoever stops the wait makes the server say that it has committed, with a warning.
    let cancel = format!(
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
            WHERE datname = '{database}' AND wait_event = 'SyncRep' AND query = 'COMMIT'"
    );
    let mut cancelled = 0;
    let done = loop {
        cancelled += server.administrate("postgres", &cancel).unwrap().parse::<u32>().unwrap();
        if let Ok(done) = timeout(Duration::from_millis(20), change.join_next()).await {
            break done.unwrap().unwrap();
        }
    };
    assert!(cancelled > 0);
    assert!(done.as_ref().is_err_and(|why| !why.is_undone()), "{done:?}");
}
