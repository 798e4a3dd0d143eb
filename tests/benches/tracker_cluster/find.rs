//! FIND among a million files, which each tracker answers from its own memory.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use serde_json::Value;

use crate::clients::{ask, ask_well};
use crate::crowd::{Connection, Person, all_come};
use crate::sites::Site;
use crate::{on_one_thread, percentile, verdict};

const PEOPLE: usize = 1_000;
const FILES_EACH: usize = 1_000;
/// Questions of each kind.
const QUESTIONS: usize = 300;

/// The request with this number.
type Question = fn(usize) -> String;

/// Where one site's questions go.
struct Asker {
    connection: Connection,
    /// They keep the files there.
    _present: Vec<Connection>,
}

pub(crate) fn run(server: &PostgresServer) {
    let people = Person::crowd(PEOPLE);
    let (embedded, cluster) = (Site::embedded(&people), Site::cluster(server, &people));
    on_one_thread(async {
        let mut alone = fill("embedded", &people, &embedded).await;
        let mut all = fill("three trackers", &people, &cluster).await;
        let kinds: [(&str, Question); 4] = [
            ("one name", |n| name_query(&format!("scan{}", n * 3331 % (PEOPLE * FILES_EACH)))),
            ("a word in all, a page of 100", |n| name_query(["lecture", "pdf"][n % 2])),
            ("two words, one file of each user", |n| name_query(&format!("lecture {}", n % FILES_EACH))),
            ("hash", |n| format!(r#"{{"action":"FIND","hash":"{}"}}"#, hash(n * 3331 % (PEOPLE * FILES_EACH)))),
        ];
        for (kind, question) in kinds {
            let mut before = ask_all(&mut alone.connection, question).await;
            let mut times = ask_all(&mut all.connection, question).await;
            let p99 = percentile(&mut times, 99);
            println!(
                "FIND {kind}: embedded p50 {:.1} p99 {:.1} ms; one of three p50 {:.1} p99 {p99:.1} ms, × {:.2}  ≤ 50 ms: {}",
                percentile(&mut before, 50),
                percentile(&mut before, 99),
                percentile(&mut times, 50),
                p99 / percentile(&mut before, 99),
                verdict(p99 <= 50.0)
            );
        }
    });
}

fn name_query(name: &str) -> String {
    format!(r#"{{"action":"FIND","name":"{name}"}}"#)
}

fn hash(number: usize) -> String {
    format!("{:016x}{number:048x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Lets everybody share their files.
async fn fill(name: &str, people: &[Rc<Person>], site: &Site) -> Asker {
    let addresses: Vec<SocketAddr> = site.addresses();
    let mut present = all_come(people, &addresses).await;
    let (began, mut shared) = (Instant::now(), 0);
    for (user, (person, connection)) in people.iter().zip(&mut present).enumerate() {
        let file = |i: usize| {
            let number = user * FILES_EACH + i;
            let (course, hash) = (i % 40, hash(number));
            format!(r#"{{"name":"course {course}/lecture {i} scan{number}.pdf","size":{number},"hash":"{hash}"}}"#)
        };
        let files: Vec<String> = (0..FILES_EACH).map(file).collect();
        let (user, files) = (&person.name, files.join(","));
        let request = format!(r#"{{"action":"REGISTER_FILES","user":"{user}","files":[{files}]}}"#);
        let reply: Value = serde_json::from_slice(&ask(connection, &request).await).unwrap();
        if reply["code"] != "ok" {
            println!("{name}: after {shared} files: {reply}");
            break;
        }
        shared += FILES_EACH;
    }
    let mut connection = people[0].connect(addresses[0]).await;
    // The last list is everywhere.
    let last = format!(r#"{{"action":"LIST_PEERS","user":"peer{:05}"}}"#, shared / FILES_EACH - 1);
    while ask_well(&mut connection, &last).await["peers"][0]["files"].as_array().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "{name}: {shared} files of {PEOPLE} people in {:.1} s; {} MiB of the catalogue, processes of {:?} MiB",
        began.elapsed().as_secs_f64(),
        site.catalogue(),
        site.memory()
    );
    Asker { connection, _present: present }
}

async fn ask_all(connection: &mut Connection, question: Question) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..QUESTIONS {
        let began = Instant::now();
        let reply = ask_well(connection, &question(number)).await;
        times.push(began.elapsed());
        assert!(!reply["files"].as_array().unwrap().is_empty(), "{}: {reply}", question(number));
    }
    times
}
