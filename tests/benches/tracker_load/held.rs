//! What is held: peers, connections, subscribers.

use std::time::Instant;

use certs::Identity;

use crate::clients::{Secure, ask, ask_well, line, plain, send};
use crate::world::{PASSWORD, World};
use crate::{on_one_thread, verdict};

const PLAIN: usize = 10_000;
const SECURE: usize = 5_000;
/// Connections that said much before they were quiet.
const LONG_WINDED: usize = 1_500;
const ROUNDS: usize = 5;

/// Memory of a present peer with ten files.
pub(crate) fn peers() {
    let few = World::with(10).memory();
    let many = World::with(10_010);
    let before = many.memory();
    on_one_thread(async { ask(&mut plain(many.address()).await, r#"{"action":"LIST_PEERS"}"#).await });
    let (a_peer, listed) = ((before - few) / 10_000.0, (many.memory() - few) / 10_000.0);
    println!("a present peer with 10 files: {a_peer:.1} KiB; {listed:.1} KiB once somebody asked for the list");
}

/// Memory of a connection that said something and is quiet now.
pub(crate) fn connections() {
    let world = World::with(10);
    let request = r#"{"action":"LIST_PEERS","user":"peer00001"}"#;
    let before = world.memory();
    let a_plain_one = on_one_thread(async {
        let mut held = Vec::new();
        for _ in 0..PLAIN {
            let mut stream = plain(world.address()).await;
            ask(&mut stream, request).await;
            held.push(stream);
        }
        (world.memory() - before) / PLAIN as f64
    });
    println!("{PLAIN} plaintext connections: {a_plain_one:.1} KiB each  ≤ 20: {}", verdict(a_plain_one <= 20.0));

    let world = World::with(10);
    let before = world.memory();
    let a_long_winded_one = on_one_thread(async {
        let (mut held, space) = (Vec::new(), " ".repeat(512 * 1024));
        for _ in 0..LONG_WINDED {
            let mut stream = plain(world.address()).await;
            send(&mut stream, &space).await;
            ask(&mut stream, request).await;
            held.push(stream);
        }
        (world.memory() - before) / LONG_WINDED as f64
    });
    println!(
        "{LONG_WINDED} plaintext connections after 512 KiB each: {a_long_winded_one:.1} KiB each  ≤ 20: {}",
        verdict(a_long_winded_one <= 20.0)
    );

    let world = World::with(10);
    let before = world.memory();
    let a_secure_one = on_one_thread(async {
        let secure = Secure::new(&Identity::generate().unwrap());
        let mut held = Vec::new();
        for _ in 0..SECURE {
            let mut stream = secure.connect(plain(world.address()).await).await;
            ask(&mut stream, request).await;
            held.push(stream);
        }
        (world.memory() - before) / SECURE as f64
    });
    println!("{SECURE} TLS connections: {a_secure_one:.1} KiB each  ≤ 60: {}", verdict(a_secure_one <= 60.0));
}

/// From the request that causes an event to the last subscriber having read it.
pub(crate) fn fan_out() {
    let world = World::with(10);
    let times = on_one_thread(async {
        let secure = Secure::new(&Identity::generate().unwrap());
        let mut subscribers = Vec::new();
        for number in 0..SECURE {
            let mut stream = secure.connect(plain(world.address()).await).await;
            if number == 0 {
                let register = format!(r#"{{"action":"REGISTER","user":"watcher","password":"{PASSWORD}"}}"#);
                ask_well(&mut stream, &register).await;
            }
            ask_well(&mut stream, r#"{"action":"SUBSCRIBE"}"#).await;
            subscribers.push(stream);
        }
        let mut cause = plain(world.address()).await;
        let login = format!(r#"{{"action":"LOGIN","user":"peer00001","password":"{PASSWORD}","port":40000}}"#);
        ask_well(&mut cause, &login).await;
        for subscriber in &mut subscribers {
            // Their presence begins anew: without files, which is an event of its own.
            while !line(subscriber).await.windows(7).any(|part| part == b"\"files\"") {}
        }
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            let began = Instant::now();
            let files = format!(
                r#"{{"action":"REGISTER_FILES","user":"peer00001","files":[{{"name":"f{round}","size":1,"hash":"h"}}]}}"#
            );
            send(&mut cause, &files).await;
            for subscriber in &mut subscribers {
                line(subscriber).await;
            }
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            line(&mut cause).await;
        }
        times
    });
    let worst = times.iter().copied().fold(0.0, f64::max);
    println!("one event to {SECURE} subscribers over TLS: {times:.0?} ms  ≤ 250: {}", verdict(worst <= 250.0));
}
