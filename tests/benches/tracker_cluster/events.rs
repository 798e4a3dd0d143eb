//! From the request that causes an event to each subscriber having read it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use serde_json::Value;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::clients::{ask_well, line, send};
use crate::crowd::{Connection, Person, all_come};
use crate::sites::Site;
use crate::{on_one_thread, percentile, verdict};

const SUBSCRIBERS: usize = 5_000;
const ROUNDS: usize = 22;
/// Rounds that only open the connections' windows.
const WARM_UP: usize = 2;
/// Between two events, so that one user's pace allows them.
const PAUSE: Duration = Duration::from_millis(250);

/// People who all change something at once, and the number of their files by which these events are known.
const BURST: usize = 100;
const FILES_IN_BURST: usize = 40;

/// When each round's event was caused, and when each subscriber had it.
#[derive(Default)]
struct Record {
    caused: Vec<Instant>,
    read: Vec<Vec<Instant>>,
    /// Lines of the burst that were read.
    in_burst: usize,
    /// The time from the burst until all subscribers had read all of it.
    burst: Duration,
}

pub(crate) fn run(server: &PostgresServer) {
    let people = Person::crowd(SUBSCRIBERS + BURST);
    let mut p99 = Vec::new();
    for (name, site) in [("embedded", Site::embedded(&people)), ("three trackers", Site::cluster(server, &people))] {
        let record = on_one_thread(measure(&people, &site.addresses()));
        let mut each = Vec::new();
        let mut last = Vec::new();
        for (caused, read) in record.caused.iter().zip(&record.read).skip(WARM_UP) {
            let times = read.iter().map(|at| at.duration_since(*caused));
            last.extend(times.clone().max());
            each.extend(times);
        }
        println!(
            "{name:15} p50 {:.1} ms, p99 {:.1} ms; the last of {SUBSCRIBERS}: p50 {:.1} ms, worst {:.1} ms",
            percentile(&mut each, 50),
            percentile(&mut each, 99),
            percentile(&mut last, 50),
            percentile(&mut last, 100),
        );
        let (lines, burst) = (SUBSCRIBERS * BURST, record.burst.as_secs_f64());
        println!(
            "{name:15} {BURST} events at once: all read in {burst:.2} s, {:.0} lines a second",
            lines as f64 / burst
        );
        p99.push(percentile(&mut each, 99));
    }
    println!("p99 × {:.2} of embedded; ≤ 250 ms: {}", p99[1] / p99[0], verdict(p99[1] <= 250.0));
}

async fn measure(people: &[Rc<Person>], addresses: &[SocketAddr]) -> Record {
    let mut connections = all_come(people, addresses).await;
    let causes = connections.split_off(SUBSCRIBERS);
    let mut causes: Vec<(&str, Connection)> =
        people[SUBSCRIBERS..].iter().map(|person| person.name.as_str()).zip(causes).collect();
    let user = causes[0].0.to_owned();
    for connection in &mut connections {
        ask_well(connection, r#"{"action":"SUBSCRIBE"}"#).await;
    }
    let record = Rc::new(RefCell::new(Record::default()));
    let tasks = LocalSet::new();
    for connection in connections {
        tasks.spawn_local(listen(connection, user.clone(), Rc::clone(&record)));
    }
    tasks
        .run_until(async {
            for round in 0..ROUNDS {
                let request = register(&user, round + 1);
                {
                    let mut record = record.borrow_mut();
                    record.caused.push(Instant::now());
                    record.read.push(Vec::new());
                }
                ask_well(&mut causes[0].1, &request).await;
                while record.borrow().read[round].len() < SUBSCRIBERS {
                    sleep(Duration::from_millis(1)).await;
                }
                sleep(PAUSE).await;
            }
            let began = Instant::now();
            for (user, cause) in &mut causes {
                send(cause, &register(user, FILES_IN_BURST)).await;
            }
            while record.borrow().in_burst < SUBSCRIBERS * BURST {
                sleep(Duration::from_millis(1)).await;
            }
            record.borrow_mut().burst = began.elapsed();
        })
        .await;
    // The listeners end with their tasks.
    drop(tasks);
    record.take()
}

fn register(user: &str, count: usize) -> String {
    let files: Vec<String> =
        (0..count).map(|number| format!(r#"{{"name":"f{number}","size":1,"hash":"h"}}"#)).collect();
    format!(r#"{{"action":"REGISTER_FILES","user":"{user}","files":[{}]}}"#, files.join(","))
}

async fn listen(mut connection: Connection, user: String, record: Rc<RefCell<Record>>) {
    loop {
        let events = events(&mut connection).await;
        let now = Instant::now();
        let mut record = record.borrow_mut();
        for event in events.iter().filter(|event| event["event"] == "files") {
            match usize::try_from(event["count"].as_u64().unwrap()).unwrap() {
                FILES_IN_BURST => record.in_burst += 1,
                count if event["user"] == user.as_str() => record.read[count - 1].push(now),
                _ => {}
            }
        }
    }
}

/// Reads the next event, and those that came with it.
pub(crate) async fn events(connection: &mut Connection) -> Vec<Value> {
    let lines = line(connection).await;
    lines.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}
