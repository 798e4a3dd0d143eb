//! Somebody who shares as much as is allowed, in the shapes that cost most.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::clients::{ask, ask_well, plain};
use crate::storm::probe;
use crate::world::{PASSWORD, World};
use crate::{on_one_thread, verdict};

const MANY: usize = 90_000;
/// Who shares them: peers of a world that are not probed.
const SHARERS: usize = 4;
/// A list that is small itself, whatever else is shared.
const ONE_PEER: &str = r#"{"action":"LIST_PEERS","user":"peer00009"}"#;

pub(crate) fn run() {
    let long = |number: usize| format!("{}/{number:05}", ["x".repeat(199).as_str(); 4].join("/"));
    memory("names of one to five digits, no hash", MANY, "", |number| number.to_string());
    memory("names of 800 bytes, hashes of 64", 10_000, &"0".repeat(64), long);
    while_somebody_adds();
}

/// What the process grew by, against what it accounts for.
fn memory(shape: &str, count: usize, hash: &str, name: impl Fn(usize) -> String) {
    let world = World::with(10);
    let (before, accounted_before) = (world.memory(), world.catalogue());
    on_one_thread(async {
        for sharer in 0..SHARERS {
            let mut stream = plain(world.address()).await;
            login(&mut stream, sharer).await;
            ask_well(&mut stream, &share(sharer, "replace", (0..count).map(&name), hash)).await;
        }
    });
    let (grown, accounted) = (world.memory() - before, world.catalogue() - accounted_before);
    println!(
        "{SHARERS} lists of {count} files, {shape}: {:.0} MiB more, {:.0} MiB accounted, × {:.2}  ≤ 1.5: {}",
        grown / 1024.0,
        accounted / 1024.0,
        grown / accounted,
        verdict(grown <= 1.5 * accounted)
    );
}

/// How long others wait for a short list meanwhile.
fn while_somebody_adds() {
    let world = World::with(10);
    let idle = probe(world.address(), ONE_PEER);
    let (stop, added) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let adder = {
        let (address, stop, added) = (world.address(), stop.clone(), added.clone());
        std::thread::spawn(move || on_one_thread(add(address, &stop, &added)))
    };
    tests::poll_until(|| (added.load(Ordering::Relaxed) > 0).then_some(()), || "nothing is added".to_owned());
    let busy = probe(world.address(), ONE_PEER);
    stop.store(true, Ordering::Relaxed);
    adder.join().unwrap();
    println!(
        "LIST_PEERS of one: idle p50 {:.2} p99 {:.2} ms; while somebody adds to {MANY} files ({} times) p50 {:.2} p99 {:.2} ms",
        idle.p50,
        idle.p99,
        added.load(Ordering::Relaxed),
        busy.p50,
        busy.p99
    );
}

async fn add(address: SocketAddr, stop: &AtomicBool, added: &AtomicU32) {
    let mut stream = plain(address).await;
    login(&mut stream, 0).await;
    ask_well(&mut stream, &share(0, "replace", (0..MANY).map(|number| number.to_string()), "h")).await;
    while !stop.load(Ordering::Relaxed) {
        let number = added.fetch_add(1, Ordering::Relaxed);
        // Sixteen names that are there again and again: the list doesn't grow over what one user may share.
        let name = format!("one more {}", number % 16);
        let hash = number.to_string();
        let reply = ask(&mut stream, &share(0, "add", std::iter::once(name), &hash)).await;
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        match reply["retry_after_ms"].as_u64() {
            // The pause that the tracker asks for.
            Some(pause) => tokio::time::sleep(Duration::from_millis(pause)).await,
            None => assert_eq!(reply["code"], "ok", "{reply}"),
        }
    }
}

async fn login(stream: &mut tokio::net::TcpStream, sharer: usize) {
    let login = format!(r#"{{"action":"LOGIN","user":"peer{sharer:05}","password":"{PASSWORD}","port":40000}}"#);
    ask_well(stream, &login).await;
}

fn share(sharer: usize, mode: &str, names: impl Iterator<Item = String>, hash: &str) -> String {
    let files: Vec<String> = names.map(|name| format!(r#"{{"name":"{name}","size":0,"hash":"{hash}"}}"#)).collect();
    let files = files.join(",");
    format!(r#"{{"action":"REGISTER_FILES","user":"peer{sharer:05}","mode":"{mode}","files":[{files}]}}"#)
}
