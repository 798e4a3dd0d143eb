//! The memory of the nodes of a door: accounts are made at a tracker and go online in this process.
//!
//!     VIZINHO_TEST_BIN_DIR=target/release door_nodes 100 [dump]
//!
//! Prints resident memory and threads for each step. With `dump`, the mappings of the process are printed at the end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what can't be done must stop a measurement, loudly"
)]

use std::fs::read_to_string;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::Identity;
use peer::engine::NodeHandlers;
use peer::engine::door::{DoorAccounts, DoorTracker};
use peer::engine::door_pass::DoorPass;
use peer::engine::node::{NodeHandle, NodeLifetime, NodeNeed};
use shared::tracker::Password;
use tests::{Lab, LabOptions};

fn main() {
    let count: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100);
    let door = Identity::generate().unwrap();
    let tracker_args = vec!["--trusted-door".to_owned(), door.fingerprint().to_string()];
    let lab = Lab::with(LabOptions { tracker_args, ..LabOptions::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&lab, DoorPass::new(door), count));
    if std::env::args().nth(2).is_some() {
        println!("{}", read_to_string("/proc/self/smaps").unwrap());
    }
}

async fn measure(lab: &Lab, pass: DoorPass, count: usize) {
    let here = Ipv4Addr::LOCALHOST.into();
    let tracker = DoorTracker { address: lab.address().parse().unwrap(), key: lab.tracker_key().parse().unwrap() };
    let accounts =
        DoorAccounts::open_folder(&lab.join("door"), tracker, pass, NodeHandlers::NONE, Arc::new(|_| {})).unwrap();
    let mut users = Vec::new();
    let began = Instant::now();
    for number in 0..count {
        let password = Password::new("s3nha").unwrap();
        users.push(accounts.register(format!("student{number}x").parse().unwrap(), password, here).await.unwrap());
    }
    println!("{count} accounts made in {} ms", began.elapsed().as_millis());
    let mut before = report("accounts", 0, 0);
    let first = before;
    let mut nodes = Vec::new();
    let began = Instant::now();
    for (number, me) in users.iter().enumerate() {
        nodes.push(NodeHandle::open(me, NodeNeed::Online(NodeLifetime::View)).await.unwrap());
        if [0, 1, 9, 49, 99, 199].contains(&number) {
            before = report(&format!("{} nodes", number + 1), before, 1);
        }
    }
    println!("{count} nodes online in {} ms", began.elapsed().as_millis());
    // What is done after the start: lists of peers, events of the others.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = report("all nodes", first, count);
    println!("{} KiB a node", after.saturating_sub(first) / count.max(1));
}

/// Prints the resident memory in KiB, and returns its anonymous part.
fn report(step: &str, before: usize, nodes: usize) -> usize {
    let status = read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| -> usize {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let (all, anonymous, threads) = (field("VmRSS:"), field("RssAnon:"), field("Threads:"));
    let more = anonymous.saturating_sub(before);
    println!("{step}: {all} KiB resident, {anonymous} KiB anonymous (+{more} for {nodes}), {threads} threads");
    anonymous
}
