//! The fixed work whose instructions `.ci/instructions` counts: transfers in memory and requests at a tracker.
//!
//!     counted_work large-file | small-files | tracker-requests
//!
//! Only what `run_counted` runs is counted, not what prepares it. No socket, no timer and no thread of ours takes part:
//! counts of two runs differ by the random state of hash maps alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what can't be done must stop a measurement, loudly"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use peer::engine::fetch::transfer_bench::MemoryTransfer;
use shared::Fingerprint;
use shared::json_scanner::JsonScanner;
use shared::limits::{MAX_REQUEST_BYTES_AFTER_LOGIN, MAX_REQUEST_DEPTH};
use tracker::passwords::Requester;
use tracker::rate_limits::RateSettings;
use tracker::registry::PresenceRules;
use tracker::service::{ClientState, EncodedReply, RegistrationMode, ServicePolicy, TrackerService, TransportSecurity};
use tracker::store::{Account, AccountStore, PresenceStore, SqliteAccountStore};

const REQUESTS: usize = 10_000;
/// Bytes that a connection of the tracker reads together.
const READ_BYTES: usize = 16 * 1024;
/// Users who are present, and the files that each shares.
const USERS: u8 = 20;
const FILES_EACH: usize = 50;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("large-file") => transfer(&[8 << 20]),
        Some("small-files") => transfer(&[3_000; 500]),
        Some("tracker-requests") => tracker_requests(),
        other => panic!("no such work: {other:?}"),
    }
}

/// Runs the work that is counted. The counter knows this function by its name and must see each call of it.
#[inline(never)]
fn run_counted<T>(work: impl FnOnce() -> T) -> T {
    work()
}

fn transfer(sizes: &[usize]) {
    let contents = sizes.iter().enumerate().map(|(number, size)| content(number, *size)).collect();
    let transfer = MemoryTransfer::new("bob".parse().unwrap(), contents).unwrap();
    let verified = run_counted(|| transfer.run(Instant::now()));
    assert_eq!(verified, sizes.iter().sum::<usize>() as u64, "every byte is verified");
    println!("{verified} bytes verified");
}

/// Returns bytes that are others in each file and each group, and the same in each run.
fn content(number: usize, size: usize) -> Vec<u8> {
    let mut content = vec![1; size];
    for (group, bytes) in content.chunks_mut(1 << 20).enumerate() {
        bytes[..16].copy_from_slice(&[number.to_le_bytes(), group.to_le_bytes()].concat());
    }
    content
}

fn tracker_requests() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut client = runtime.block_on(async {
        let service = Arc::new(start_tracker(folder.path()).await);
        let mut clients = Vec::new();
        for number in 0..USERS {
            clients.push(go_online(&service, number).await);
        }
        // The others stay present without their connections, until their lease ends.
        clients.swap_remove(0)
    });
    let requests: String = (0..REQUESTS).map(request).collect();
    let mut objects = JsonScanner::new(MAX_REQUEST_BYTES_AFTER_LOGIN, MAX_REQUEST_DEPTH);
    let (mut answered, mut granted, mut bytes) = (0, 0, 0);
    run_counted(|| {
        runtime.block_on(async {
            for part in requests.as_bytes().chunks(READ_BYTES) {
                objects.extend(part);
                while let Some(object) = objects.next_object().unwrap() {
                    let reply = client.answer(object).await;
                    answered += 1;
                    bytes += match reply {
                        EncodedReply::Line(line) => {
                            granted += usize::from(is_granted(&line));
                            line.len()
                        }
                        EncodedReply::List { head, .. } => {
                            granted += 1;
                            head.len()
                        }
                    };
                }
            }
        });
    });
    assert_eq!((answered, granted), (REQUESTS, REQUESTS - REQUESTS / 20), "all but one in 20 are granted");
    println!("{answered} requests answered with {bytes} bytes and lists");
}

fn is_granted(line: &[u8]) -> bool {
    line.strip_prefix(br#"{"id":"7","#)
        .or(line.strip_prefix(b"{"))
        .is_some_and(|rest| rest.starts_with(br#""status":"ok""#))
}

async fn start_tracker(folder: &std::path::Path) -> TrackerService {
    let second = Duration::from_secs(1);
    let rules = PresenceRules {
        lease: 3600 * second,
        grace: 3600 * second,
        legacy_lease: 3600 * second,
        legacy_auth: true,
        catalogue_bytes: 1 << 30,
    };
    let policy = ServicePolicy {
        rules,
        rates: RateSettings { logins: None, registrations: None },
        registration: RegistrationMode::Open,
        trusted_doors: Vec::new(),
        announceable: Vec::new(),
    };
    let accounts = AccountStore::start(SqliteAccountStore::open(&folder.join("accounts.db")).unwrap(), None).unwrap();
    for number in 0..USERS {
        let user = format!("user{number}").parse().unwrap();
        let account = Account { user, password_hash: String::new(), binding: Some(key(number)) };
        accounts.create(Requester::Administrator, account, None).await.unwrap();
    }
    TrackerService::start(policy, accounts, PresenceStore::open(&folder.join("presence.db")).unwrap()).await.unwrap()
}

fn key(number: u8) -> Fingerprint {
    Fingerprint::from_bytes([number; 32])
}

/// Logs a user in, with some shared files. The connection ends when the state is dropped.
async fn go_online(service: &Arc<TrackerService>, number: u8) -> ClientState {
    let transport = TransportSecurity::Certified(key(number));
    let mut client = ClientState::new(Arc::clone(service), [10, 0, 0, number + 1].into(), transport);
    let files: Vec<String> =
        (0..FILES_EACH).map(|file| shared_file(&format!("photos/2024/img_{file:04}.jpg"))).collect();
    let user = format!("user{number}");
    let sharing = format!(r#"{{"action":"REGISTER_FILES","user":"{user}","files":[{}]}}"#, files.join(","));
    for request in [r#"{"action":"RESUME","port":7000}"#, &sharing] {
        let EncodedReply::Line(line) = client.answer(request.as_bytes()).await else { panic!("a list for {request}") };
        assert!(is_granted(&line), "{request}: {}", String::from_utf8_lossy(&line));
    }
    client
}

fn shared_file(name: &str) -> String {
    format!(r#"{{"name":"{name}","size":3456789,"hash":"{}"}}"#, "ab".repeat(32))
}

/// Returns one of the requests, in about the proportions in which peers send them.
fn request(number: usize) -> String {
    let user = number % usize::from(USERS);
    let request = match number % 20 {
        0..8 => r#"{"action":"HEARTBEAT"}"#.to_owned(),
        8..11 => r#"{"action":"LIST_PEERS"}"#.to_owned(),
        11..13 => format!(r#"{{"action":"LIST_PEERS","user":"user{user}","with_files":false}}"#),
        13..15 => format!(r#"{{"action":"WHOIS","user":"user{user}"}}"#),
        15 => format!(r#"{{"action":"WHOIS","fingerprint":"{}"}}"#, key(3)),
        16..18 => r#"{"action":"FIND","name":"img_0042","limit":10}"#.to_owned(),
        // A few of them only: a user may not change the list more often.
        18 if number % 200 == 18 => {
            let file = shared_file(&format!("documents/{number}.pdf"));
            format!(r#"{{"action":"REGISTER_FILES","user":"user0","mode":"add","files":[{file}]}}"#)
        }
        18 => r#"{"id":"7","action":"HEARTBEAT","user":"user0"}"#.to_owned(),
        _ => r#"{"action":"HEARTBEAT","user":"user1","tokken":[1,{"a":"b\n"}]}"#.to_owned(),
    };
    request + "\n"
}
