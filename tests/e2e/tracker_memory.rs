//! The memory that the tracker may take for lists of files is what it takes, whatever the files are called.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use tests::{Lab, LabOptions, PATIENCE};

/// What `--max-catalogue-mib` says.
const CATALOGUE_MIB: u64 = 48;
/// Beside it: the program, the longest requests on their way, and what the allocator keeps.
const BESIDE_MIB: u64 = 72;

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.0.get_mut().write_all(request.to_string().as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

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
    let mut client = Client::connect(lab.address());
    assert_eq!(client.ask(&json!({ "action": "REGISTER", "user": "bob", "password": "0" }))["code"], "ok");
    assert_eq!(client.ask(&json!({ "action": "LOGIN", "user": "bob", "password": "0", "port": 1 }))["code"], "ok");
    let mut shared = 0;
    for from in (0..100_000).step_by(2000) {
        let files: Vec<_> = (from..from + 2000).map(|i| json!({ "name": wordy(i), "size": 1, "hash": "h" })).collect();
        let reply = client.ask(&json!({ "action": "REGISTER_FILES", "user": "bob", "mode": "add", "files": files }));
        if reply["code"] == "busy" {
            break;
        }
        shared = reply["count"].as_u64().unwrap();
    }
    assert!((6000..60_000).contains(&shared), "{shared} files fit");
    // So long may presence take to be remembered.
    std::thread::sleep(std::time::Duration::from_secs(2));
    for killed in [false, true] {
        if killed {
            lab.kill_tracker();
            lab.start_tracker();
        }
        let resident = resident_mib(lab.tracker_pid());
        println!("{shared} files, {resident} MiB");
        assert!(resident < CATALOGUE_MIB + BESIDE_MIB, "{resident} MiB, killed: {killed}");
        let list = json!({ "action": "LIST_PEERS", "user": "bob", "with_files": false });
        assert_eq!(Client::connect(lab.address()).ask(&list)["peers"][0]["file_count"], shared);
    }
}
