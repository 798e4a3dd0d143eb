//! What heartbeats cost the database: nothing, if leases of clients stay in their tracker's memory.

use std::rc::Rc;
use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use tokio::task::LocalSet;
use tokio::time::{sleep, sleep_until};

use crate::clients::ask_well;
use crate::crowd::{Person, all_come};
use crate::sites::Site;
use crate::{on_one_thread, verdict};

const PEOPLE: usize = 5_000;
/// Heartbeats of each of them while it is measured.
const BEATS: usize = 4;
/// The time in which they are spread.
const WINDOW: Duration = Duration::from_secs(30);
/// The time in which the database's processes report what they did.
const REPORT: Duration = Duration::from_secs(2);

/// What the database did so far.
struct Work {
    commits: f64,
    changed_rows: f64,
    log_bytes: f64,
}

pub(crate) fn run(server: &PostgresServer) {
    let people = Person::crowd(PEOPLE);
    let cluster = Site::cluster(server, &people);
    on_one_thread(async {
        let connections = all_come(&people, &cluster.addresses()).await;
        // Events are behind them.
        sleep(2 * REPORT).await;
        let before = work(server, &cluster).await;
        sleep(WINDOW).await;
        let idle = work(server, &cluster).await;
        let tasks = LocalSet::new();
        let (began, interval) = (tokio::time::Instant::now(), WINDOW / u32::try_from(BEATS).unwrap());
        let beats = Rc::new(std::cell::Cell::new(0_u32));
        for (number, mut connection) in connections.into_iter().enumerate() {
            let first = interval.mul_f64(number as f64 / PEOPLE as f64);
            let beats = Rc::clone(&beats);
            tasks.spawn_local(async move {
                for beat in 0..BEATS {
                    sleep_until(began + first + interval * u32::try_from(beat).unwrap()).await;
                    ask_well(&mut connection, r#"{"action":"HEARTBEAT"}"#).await;
                    beats.set(beats.get() + 1);
                }
                connection
            });
        }
        let busy_from = Instant::now();
        tasks.await;
        sleep(WINDOW.saturating_sub(busy_from.elapsed())).await;
        let after = work(server, &cluster).await;
        let (quiet, busy) = (idle.since(&before), after.since(&idle));
        println!("{:24} {:>9} {:>13} {:>11}", "in 30 s", "commits", "changed rows", "WAL, KiB");
        for (name, Work { commits, changed_rows, log_bytes }) in
            [("no heartbeats", &quiet), (&format!("{} heartbeats", beats.get()), &busy)]
        {
            println!("{name:24} {commits:>9.0} {changed_rows:>13.0} {:>11.0}", log_bytes / 1024.0);
        }
        let more = busy.commits - quiet.commits;
        println!(
            "{:.5} more commits and {:.2} more bytes for each heartbeat; nothing: {}",
            more / f64::from(beats.get()),
            (busy.log_bytes - quiet.log_bytes) / f64::from(beats.get()),
            // The looks at the database have no fixed place in the window.
            verdict(more <= 20.0)
        );
    });
}

async fn work(server: &PostgresServer, site: &Site) -> Work {
    sleep(REPORT).await;
    let sql = "SELECT xact_commit, tup_inserted + tup_updated + tup_deleted, pg_current_wal_lsn() - '0/0'
        FROM pg_stat_database WHERE datname = current_database()";
    let told = server.administrate(&site.database, sql).unwrap();
    let mut figures = told.split('|').map(|figure| figure.parse::<f64>().unwrap());
    let mut next = || figures.next().unwrap();
    Work { commits: next(), changed_rows: next(), log_bytes: next() }
}

impl Work {
    fn since(&self, before: &Self) -> Self {
        Self {
            commits: self.commits - before.commits,
            changed_rows: self.changed_rows - before.changed_rows,
            log_bytes: self.log_bytes - before.log_bytes,
        }
    }
}
