//! Accounts in SQLite beside accounts in PostgreSQL, both synced at each commit: what REGISTER, LOGIN and PASSWD cost
//! without the hash of the password, and how long a commit takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tracker::passwords::Requester;
use tracker::store::{Account, AccountStore, AccountStoreError, PostgresAddress, PostgresStore, SqliteAccountStore};

use crate::TIME;

/// Requests at the same time.
const CLIENTS: [usize; 3] = [1, 8, 64];
/// Letters of which no sequence looks like another one.
const LETTERS: &[u8; 6] = b"abtkzx";

pub(crate) fn run() {
    println!(
        "{:12} {:>8} {:>12} {:>12} {:>12} {:>12} {:>12} {:>7}",
        "store", "clients", "REGISTER/s", "LOGIN/s", "PASSWD/s", "commit p50", "commit p99", "busy"
    );
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteAccountStore::open(&folder.path().join("tracker.db")).unwrap();
    let sqlite = Arc::new(AccountStore::start(sqlite, None).unwrap());
    measure_all(&runtime, "SQLite", &sqlite);
    let Some(server) = PostgresServer::start_synced().unwrap() else {
        return println!("PostgreSQL is not installed");
    };
    let address = PostgresAddress::parse(&server.address(&server.create_database().unwrap())).unwrap();
    let postgres = runtime.block_on(PostgresStore::connect(&address)).unwrap();
    let postgres = Arc::new(AccountStore::with_postgres(postgres, None));
    measure_all(&runtime, "PostgreSQL", &postgres);
}

fn measure_all(runtime: &tokio::runtime::Runtime, name: &str, store: &Arc<AccountStore>) {
    let next = Arc::new(AtomicUsize::new(0));
    for clients in CLIENTS {
        let (registered, _, busy) = runtime.block_on(rate(clients, |_| {
            let (store, number) = (Arc::clone(store), next.fetch_add(1, Ordering::Relaxed));
            async move {
                let account = account(number);
                store.ensure_name_free(Requester::Administrator, &account.user).await?;
                store.count(Requester::Administrator).await?;
                store.create(Requester::Administrator, account, None).await
            }
        }));
        let known = next.load(Ordering::Relaxed);
        let (logins, ..) = runtime.block_on(rate(clients, |number| {
            let store = Arc::clone(store);
            async move {
                let found = store.find(Requester::Administrator, &account(number % known).user).await;
                found.map(drop)
            }
        }));
        let (changes, mut times, _) = runtime.block_on(rate(clients, |number| {
            let store = Arc::clone(store);
            async move {
                let user = account(number % known).user;
                store.reset_password(Requester::Administrator, &user, format!("hash {number}")).await
            }
        }));
        times.sort_unstable();
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
        println!(
            "{name:12} {clients:>8} {registered:>12.0} {logins:>12.0} {changes:>12.0} {:>12} {:>12} {busy:>7}",
            format!("{:.2?}", at(50)),
            format!("{:.2?}", at(99)),
        );
    }
}

/// Runs work by so many clients at a time. Returns how often it was done a second, how long each took, and how often it
/// was refused as busy.
async fn rate<F>(clients: usize, work: impl Fn(usize) -> F) -> (f64, Vec<Duration>, usize)
where
    F: Future<Output = Result<(), AccountStoreError>> + Send + 'static,
{
    let (mut running, mut times, mut busy, began) = (JoinSet::new(), Vec::new(), 0, Instant::now());
    let timed = |work: F| async move {
        let began = Instant::now();
        (work.await, began.elapsed())
    };
    let mut begun = 0;
    while begun < clients {
        running.spawn(timed(work(begun)));
        begun += 1;
    }
    while let Some(done) = running.join_next().await {
        match done.unwrap() {
            (Ok(()), took) => times.push(took),
            (Err(AccountStoreError::Busy), _) => busy += 1,
            // One that was refused as busy left its number unused.
            (Err(AccountStoreError::NoAccount), _) => {}
            (Err(why), _) => panic!("{why}"),
        }
        if began.elapsed() < TIME {
            running.spawn(timed(work(begun)));
            begun += 1;
        }
    }
    (times.len() as f64 / began.elapsed().as_secs_f64(), times, busy)
}

fn account(mut number: usize) -> Account {
    let mut name = String::from("u");
    loop {
        name.push(char::from(LETTERS[number % LETTERS.len()]));
        number /= LETTERS.len();
        if number == 0 {
            return Account { user: name.parse().unwrap(), password_hash: "h".repeat(97), binding: None };
        }
    }
}
