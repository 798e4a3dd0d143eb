//! The memory that the tracker may take for lists of files is what it takes, whatever the files are called.

use std::net::Ipv4Addr;

use serde_json::json;
use tests::hostile::PlainSession;
use tests::{Lab, LabOptions};

/// What `--max-catalogue-mib` says.
const CATALOGUE_MIB: u64 = 48;
/// People who share as much as they may, each at an address of their own.
const USERS: u8 = 4;
/// Beside it: the program, the longest requests on their way, and what the allocator keeps.
const BESIDE_MIB: u64 = 72;

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
