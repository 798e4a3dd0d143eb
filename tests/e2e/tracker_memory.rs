//! The memory that the tracker may take for lists of files is what it takes, whatever the files are called.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use tests::hostile::PlainSession;
use tests::{Lab, LabOptions, poll_until};

/// What `--max-catalogue-mib` says.
const CATALOGUE_MIB: u64 = 48;
/// People who share as much as they may, each at an address of their own.
const USERS: u8 = 4;
/// Beside it: the program, the longest requests on their way, and what the allocator keeps.
const BESIDE_MIB: u64 = 72;
/// What may stay of long requests that were answered.
const KEPT_OF_REQUESTS_MIB: u64 = 16;

/// A name of nearly a kilobyte, of nothing but words of two letters.
fn wordy(number: usize) -> String {
    let letter = |n: usize| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[n % 36]);
    let word =
        |n: usize| format!("{}{}", letter(n.wrapping_mul(2_654_435_761) >> 7), letter(n.wrapping_mul(40_503) >> 3));
    let component = |part: usize| (0..80).map(|i| word(number * 340 + part * 80 + i)).collect::<Vec<_>>().join(" ");
    format!("{number:06}/{}/{}/{}/{}", component(0), component(1), component(2), component(3))
}

/// Mebibytes of the process that are in memory.
fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn a_full_catalogue_takes_the_memory_it_is_allowed_before_and_after_a_kill() {
    let tracker_args = ["--max-catalogue-mib".to_owned(), CATALOGUE_MIB.to_string()].into();
    let mut lab = Lab::with(LabOptions { tracker_args, restarts: true, ..LabOptions::default() });
    let mut shared = Vec::new();
    for user in 0..USERS {
        // One origin alone can't fill it.
        let mut client = PlainSession::open_from(Ipv4Addr::new(127, 0, 0, 2 + user), lab.address());
        let name = format!("bob{user}");
        client.demand(&json!({ "action": "REGISTER", "user": name, "password": "0" }));
        client.demand(&json!({ "action": "LOGIN", "user": name, "password": "0", "port": 1 }));
        let mut count = 0;
        for from in (0..100_000).step_by(1000) {
            let files: Vec<_> =
                (from..from + 1000).map(|i| json!({ "name": wordy(i), "size": 1, "hash": "h" })).collect();
            let reply = client.ask(&json!({ "action": "REGISTER_FILES", "user": name, "mode": "add", "files": files }));
            if reply["code"] == "busy" {
                break;
            }
            count = reply["count"].as_u64().unwrap();
        }
        shared.push((name, count));
    }
    let all: u64 = shared.iter().map(|(_, count)| count).sum();
    assert!((5000..60_000).contains(&all), "{shared:?} fit");
    shared.iter().for_each(|(user, count)| lab.wait_until_remembered(user, *count));
    for killed in [false, true] {
        if killed {
            lab.kill_tracker();
            lab.start_tracker();
        }
        let resident = resident_mib(lab.tracker_pid());
        println!("{shared:?} files, {resident} MiB");
        assert!(resident < CATALOGUE_MIB + BESIDE_MIB, "{resident} MiB, killed: {killed}");
        for (user, count) in &shared {
            let list = json!({ "action": "LIST_PEERS", "user": user, "with_files": false });
            assert_eq!(PlainSession::open(lab.address()).ask(&list)["peers"][0]["file_count"], *count);
        }
    }
}

/// Attack: six clients replace their long lists at once, over and over. Bound: a small multiple of the lists and of the requests
/// under way, and what the requests took comes back.
#[test]
fn long_lists_that_are_replaced_at_once_leave_little_behind() {
    const CLIENTS: u8 = 6;
    let files = if std::env::var_os("VIZINHO_LONG").is_some() { 98_000 } else { 25_000 };
    let lab = Lab::start();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut client = PlainSession::open_from(Ipv4Addr::new(127, 0, 0, 2 + number), lab.address());
            let name = format!("bob{number}");
            client.demand(&json!({ "action": "REGISTER", "user": name, "password": "0" }));
            client.demand(&json!({ "action": "LOGIN", "user": name, "password": "0", "port": 1 }));
            (name, client)
        })
        .collect();
    let list = |name: &str, round: usize| {
        let file = |i| json!({ "name": format!("folder {round}/{}/a file number {i} of {name}", i % 100), "size": i, "hash": format!("{i:064x}") });
        json!({ "action": "REGISTER_FILES", "user": name, "files": (0..files).map(file).collect::<Vec<_>>() })
    };
    // Each request has about as many bytes as the list that is made of it takes.
    let list_mib = (list("bob0", 0).to_string().len() >> 20) as u64;
    let before = resident_mib(lab.tracker_pid());
    let mut peak = 0;
    std::thread::scope(|scope| {
        let senders: Vec<_> = clients
            .into_iter()
            .map(|(name, mut client)| {
                scope.spawn(move || {
                    for round in 0..3 {
                        client.demand(&list(&name, round));
                    }
                })
            })
            .collect();
        while !senders.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            peak = peak.max(resident_mib(lab.tracker_pid()));
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let lists = u64::from(CLIENTS) * list_mib * 2;
    let kept = before + lists + KEPT_OF_REQUESTS_MIB;
    // Replaced lists are freed on a thread of their own.
    poll_until(
        || (resident_mib(lab.tracker_pid()) <= kept).then_some(()),
        || format!("{before} and afterwards {} MiB", resident_mib(lab.tracker_pid())),
    );
    assert!(peak < before + lists * 2 + KEPT_OF_REQUESTS_MIB, "{peak} MiB");
}
