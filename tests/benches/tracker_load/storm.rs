//! Latency of LIST_PEERS while a hundred clients guess passwords as fast as they are answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::clients::{ask, plain_from};
use crate::world::World;
use crate::{on_one_thread, verdict};

const LIST: &str = r#"{"action":"LIST_PEERS"}"#;
const GUESSERS: u8 = 100;
const PROBES: usize = 1000;
/// Probes that only open the connection's windows.
const WARM_UP: usize = 100;
/// Between two probes: what is measured is the wait of somebody who asks now and then.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) fn run() {
    for peers in [10, 1_000] {
        let world = World::with(peers);
        let (stop, guesses) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let idle = probe(world.address(), LIST);
        let storm = {
            let (address, stop, guesses) = (world.address(), stop.clone(), guesses.clone());
            std::thread::spawn(move || on_one_thread(guess(address, &stop, &guesses)))
        };
        tests::poll_until(
            || (guesses.load(Ordering::Relaxed) >= 1000).then_some(()),
            || "there are few guesses".to_owned(),
        );
        let (began, before) = (Instant::now(), guesses.load(Ordering::Relaxed));
        let busy = probe(world.address(), LIST);
        let answered = f64::from(guesses.load(Ordering::Relaxed) - before) / began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        storm.join().unwrap();
        let ratio = busy.p99 / idle.p99;
        println!(
            "LIST_PEERS of {peers}: idle p50 {:.2} p99 {:.2} ms; with {answered:.0} guesses/s p50 {:.2} p99 {:.2} ms; \
             p99 × {ratio:.2}  ≤ 3: {}",
            idle.p50,
            idle.p99,
            busy.p50,
            busy.p99,
            verdict(ratio <= 3.0)
        );
    }
}

pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// How long one client waits for the reply to this request.
pub(crate) fn probe(address: SocketAddr, request: &str) -> Latency {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let mut times: Vec<f64> = (0..WARM_UP + PROBES)
        .map(|_| {
            // One request at a time, as one client asks: the pause is no part of the latency.
            std::thread::sleep(PAUSE);
            let began = Instant::now();
            stream.write_all(request.as_bytes()).unwrap();
            loop {
                let count = stream.read(&mut buffer).unwrap();
                assert!(count > 0, "it closed the connection");
                if buffer[count - 1] == b'\n' {
                    break;
                }
            }
            began.elapsed().as_secs_f64() * 1000.0
        })
        .skip(WARM_UP)
        .collect();
    times.sort_by(f64::total_cmp);
    Latency { p50: times[PROBES / 2], p99: times[PROBES * 99 / 100] }
}

async fn guess(address: SocketAddr, stop: &Arc<AtomicBool>, guesses: &Arc<AtomicU32>) {
    let tasks = LocalSet::new();
    for guesser in 0..GUESSERS {
        let (stop, guesses) = (stop.clone(), guesses.clone());
        tasks.spawn_local(async move {
            // Each from an address of its own, or the limit for one address would soon be all there is.
            let mut stream = plain_from(address, [127, 0, 1, guesser + 1]).await;
            let mut number = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let user = format!("peer{:05}", (number + u32::from(guesser) * 97) % 1000);
                ask(&mut stream, &format!(r#"{{"action":"LOGIN","user":"{user}","password":"guess {number}"}}"#)).await;
                number += 1;
                guesses.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.await;
}
