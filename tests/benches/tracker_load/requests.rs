//! Requests a second.

use certs::Identity;

use crate::clients::{Secure, ask, ask_well, plain, rate};
use crate::rivals::{Python, Redis};
use crate::world::{PASSWORD, World};
use crate::{TIME, on_one_thread, verdict};

const LIST: &str = r#"{"action":"LIST_PEERS"}"#;
const HEARTBEAT: &str = r#"{"action":"HEARTBEAT"}"#;
/// Connections that ask at the same time, for short replies and for long ones.
const CLIENTS: (usize, usize) = (50, 10);

pub(crate) fn run() {
    println!(
        "{:24} {:>10} {:>9} {:>15} {:>6} {:>15} {:>6} {:>8} {:>7}",
        "request", "reply", "tracker/s", "redis-benchmark", "ratio", "redis, our cl.", "ratio", "python/s", "times"
    );
    for peers in [10, 1_000, 10_000] {
        let world = World::with(peers);
        let redis = Redis::start(world.path());
        let clients = if peers > 100 { CLIENTS.1 } else { CLIENTS.0 };
        let (length, tracker) = on_one_thread(list_rate(&world, clients));
        let python = on_one_thread(python_rate(&world, peers, clients));
        let requests = (4_000_000_000 / length).clamp(200, 200_000);
        let row = Row { name: format!("LIST_PEERS of {peers}"), length, tracker, clients, requests, secure: false };
        row.print(&redis, Some(python));
        if peers == 1_000 {
            let (length, tracker) = on_one_thread(heartbeat_rate(&world));
            let python = on_one_thread(python_heartbeat_rate(&world, peers));
            Row::short("HEARTBEAT", length, tracker, false).print(&redis, Some(python));
            let (length, tracker) = on_one_thread(whois_rate(&world));
            let python = on_one_thread(python_whois_rate(&world, peers, &redis));
            Row::short("WHOIS (all with TLS)", length, tracker, true).print(&redis, Some(python));
        }
    }
}

struct Row {
    name: String,
    length: usize,
    tracker: f64,
    clients: usize,
    requests: usize,
    secure: bool,
}

impl Row {
    fn short(name: &str, length: usize, tracker: f64, secure: bool) -> Self {
        Self { name: name.to_owned(), length, tracker, clients: CLIENTS.0, requests: 200_000, secure }
    }

    fn print(self, redis: &Redis, python: Option<f64>) {
        let Self { name, length, tracker, clients, requests, secure } = self;
        let official = redis.rate(length, clients, requests, secure);
        let ours = if secure { None } else { Some(on_one_thread(redis.rate_with_our_client(length, clients))) };
        let ratio = tracker / official;
        let text = |value: Option<f64>, decimals: usize| value.map_or("-".to_owned(), |it| format!("{it:.decimals$}"));
        println!(
            "{name:24} {length:>10} {tracker:>9.0} {official:>15.0} {ratio:>6.2} {:>15} {:>6} {:>8} {:>7}  ≥ 0.7: {}",
            text(ours, 0),
            text(ours.map(|ours| tracker / ours), 2),
            text(python, 0),
            text(python.map(|python| tracker / python), 1),
            verdict(ratio >= 0.7),
        );
    }
}

async fn list_rate(world: &World, clients: usize) -> (usize, f64) {
    let mut streams = Vec::new();
    for _ in 0..clients {
        streams.push(plain(world.address()).await);
    }
    let length = ask(&mut streams[0], LIST).await.len();
    (length, rate(streams, LIST, length, TIME).await)
}

async fn python_rate(world: &World, peers: usize, clients: usize) -> f64 {
    let python = Python::start(world.path(), peers, None);
    let mut streams = Vec::new();
    for _ in 0..clients {
        streams.push(plain(python.address).await);
    }
    let length = ask(&mut streams[0], LIST).await.len();
    rate(streams, LIST, length, TIME).await
}

async fn heartbeat_rate(world: &World) -> (usize, f64) {
    let mut streams = Vec::new();
    for number in 0..CLIENTS.0 {
        let mut stream = plain(world.address()).await;
        let login = format!(r#"{{"action":"LOGIN","user":"peer{number:05}","password":"{PASSWORD}","port":40000}}"#);
        ask_well(&mut stream, &login).await;
        streams.push(stream);
    }
    let length = ask(&mut streams[0], HEARTBEAT).await.len();
    (length, rate(streams, HEARTBEAT, length, TIME).await)
}

async fn whois_rate(world: &World) -> (usize, f64) {
    let identity = Identity::generate().unwrap();
    let secure = Secure::new(&identity);
    let register = format!(r#"{{"action":"REGISTER","user":"watcher","password":"{PASSWORD}"}}"#);
    ask_well(&mut secure.connect(plain(world.address()).await).await, &register).await;
    let whois = whois("watcher");
    let mut streams = Vec::new();
    for _ in 0..CLIENTS.0 {
        streams.push(secure.connect(plain(world.address()).await).await);
    }
    let length = ask(&mut streams[0], &whois).await.len();
    (length, rate(streams, &whois, length, TIME).await)
}

async fn python_heartbeat_rate(world: &World, peers: usize) -> f64 {
    let python = Python::start(world.path(), peers, None);
    let mut streams = Vec::new();
    for _ in 0..CLIENTS.0 {
        streams.push(plain(python.address).await);
    }
    // It has no sessions: who it is stands in the request.
    let heartbeat = r#"{"action":"HEARTBEAT","user":"peer00001"}"#;
    let length = ask(&mut streams[0], heartbeat).await.len();
    rate(streams, heartbeat, length, TIME).await
}

async fn python_whois_rate(world: &World, peers: usize, redis: &Redis) -> f64 {
    let python = Python::start(world.path(), peers, Some(redis.tls_files()));
    let secure = Secure::new(&Identity::generate().unwrap());
    let mut streams = Vec::new();
    for _ in 0..CLIENTS.0 {
        streams.push(secure.connect(plain(python.address).await).await);
    }
    let whois = whois("peer00001");
    let length = ask(&mut streams[0], &whois).await.len();
    rate(streams, &whois, length, TIME).await
}

fn whois(user: &str) -> String {
    format!(r#"{{"action":"WHOIS","user":"{user}"}}"#)
}
