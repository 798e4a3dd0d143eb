//! LIST_PEERS, which each tracker answers from its own memory.

use std::net::SocketAddr;
use std::rc::Rc;

use postgres_server::PostgresServer;

use crate::clients::{ask, ask_well, plain, rate};
use crate::crowd::{Person, all_come};
use crate::sites::Site;
use crate::{TIME, on_one_thread, verdict};

const PEERS: usize = 1_000;
const CLIENTS: usize = 10;
/// Both take turns, so that a machine that grows slower doesn't look like a difference.
const TURNS: usize = 3;
const LIST: &str = r#"{"action":"LIST_PEERS"}"#;

pub(crate) fn run(server: &PostgresServer) {
    let people = Person::crowd(PEERS);
    let (embedded, cluster) = (Site::embedded(&people), Site::cluster(server, &people));
    on_one_thread(async {
        let (alone, all) = (embedded.addresses(), cluster.addresses());
        // They stay present with their connections.
        let _present = (fill(&people, &alone).await, fill(&people, &all).await);
        for is_secure in [false, true] {
            let (mut sums, mut length) = ([0.0; 2], 0);
            for _ in 0..TURNS {
                for (sum, address) in sums.iter_mut().zip([alone[0], all[0]]) {
                    let measured = list_rate(&people, address, is_secure).await;
                    *sum += measured.1;
                    length = measured.0;
                }
            }
            let [alone, one] = sums.map(|sum| sum / TURNS as f64);
            println!(
                "{} LIST_PEERS of {PEERS}, {length} bytes: embedded {alone:.0}/s, one of three {one:.0}/s: × {:.2}  ≥ 0.8: {}",
                if is_secure { "TLS" } else { "plaintext" },
                one / alone,
                verdict(one >= 0.8 * alone)
            );
        }
    });
}

async fn fill(people: &[Rc<Person>], addresses: &[SocketAddr]) -> Vec<crate::crowd::Connection> {
    let mut connections = all_come(people, addresses).await;
    for (number, (person, connection)) in people.iter().zip(&mut connections).enumerate() {
        let file = |i: usize| {
            let hash = format!("{number:032x}{i:032x}");
            format!(r#"{{"name":"folder {number}/file {i}.dat","size":{},"hash":"{hash}"}}"#, 1000 * i)
        };
        let files: Vec<String> = (0..10).map(file).collect();
        let (user, files) = (&person.name, files.join(","));
        ask_well(connection, &format!(r#"{{"action":"REGISTER_FILES","user":"{user}","files":[{files}]}}"#)).await;
    }
    connections
}

/// Returns the reply's length, and how many a second there are.
async fn list_rate(people: &[Rc<Person>], address: SocketAddr, is_secure: bool) -> (usize, f64) {
    if is_secure {
        let mut streams = Vec::new();
        for person in &people[..CLIENTS] {
            streams.push(person.connect(address).await);
        }
        let length = ask(&mut streams[0], LIST).await.len();
        return (length, rate(streams, LIST, length, TIME).await);
    }
    let mut streams = Vec::new();
    for _ in 0..CLIENTS {
        streams.push(plain(address).await);
    }
    let length = ask(&mut streams[0], LIST).await.len();
    (length, rate(streams, LIST, length, TIME).await)
}
