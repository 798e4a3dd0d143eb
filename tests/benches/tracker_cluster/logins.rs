//! Logins a second without passwords: the part of a login that the store and the other trackers have.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use serde_json::Value;
use tokio::task::LocalSet;

use crate::clients::ask;
use crate::crowd::{Person, RESUME};
use crate::sites::Site;
use crate::{TIME, on_one_thread, percentile};

/// People who log in at the same time.
const CLIENTS: [usize; 2] = [8, 96];
/// Logins of one of them at most: so many are allowed at once.
const LOGINS_EACH: usize = 1_800;

pub(crate) fn run(server: &PostgresServer) {
    let people = Person::crowd(96);
    let (embedded, cluster) = (Site::embedded(&people), Site::cluster(server, &people));
    let (alone, all) = (embedded.addresses(), cluster.addresses());
    println!("{:36} {:>8} {:>9} {:>7} {:>9} {:>9}", "logins", "clients", "a second", "ratio", "p50 ms", "p99 ms");
    for keeps in [true, false] {
        for clients in CLIENTS {
            let mut first = None;
            for (name, addresses) in [("embedded", &alone[..]), ("one of three", &all[..1]), ("all three", &all[..])] {
                let (rate, mut times) = on_one_thread(rate(&people[..clients], addresses, keeps));
                let base = *first.get_or_insert(rate);
                println!(
                    "{:36} {clients:>8} {rate:>9.0} {:>7.2} {:>9.1} {:>9.1}",
                    format!("{name}, {}", if keeps { "kept connections" } else { "a connection each" }),
                    rate / base,
                    percentile(&mut times, 50),
                    percentile(&mut times, 99),
                );
            }
        }
    }
}

/// Lets all of these log in again and again. Returns the logins a second, and how long each took.
async fn rate(people: &[Rc<Person>], addresses: &[SocketAddr], keeps: bool) -> (f64, Vec<Duration>) {
    let (times, tasks) = (Rc::new(RefCell::new(Vec::new())), LocalSet::new());
    let mut kept = Vec::new();
    for (number, person) in people.iter().enumerate() {
        let address = addresses[number % addresses.len()];
        let connection = if keeps { Some(person.connect(address).await) } else { None };
        kept.push((Rc::clone(person), address, connection));
    }
    let (began, until) = (Instant::now(), Instant::now() + TIME);
    for (person, address, mut connection) in kept {
        let times = Rc::clone(&times);
        tasks.spawn_local(async move {
            for _ in 0..LOGINS_EACH {
                let began = Instant::now();
                if began >= until {
                    break;
                }
                let mut own = match connection.take() {
                    Some(kept) => kept,
                    None => person.connect(address).await,
                };
                let reply: Value = serde_json::from_slice(&ask(&mut own, RESUME).await).unwrap();
                assert_eq!(reply["code"], "ok", "{reply}");
                times.borrow_mut().push(began.elapsed());
                connection = keeps.then_some(own);
            }
        });
    }
    tasks.await;
    let rate = times.borrow().len() as f64 / began.elapsed().as_secs_f64();
    (rate, times.take())
}
