//! A newcomer to a room in which much was said.

use std::path::Path;
use std::time::{Duration, Instant};

use peer::profile::{Profile, RoomUpdate};
use rooms::{LogChange, MessageDraft, MessageRun};
use rusqlite::{Connection, OpenFlags};
use tests::{Lab, User, make_room, poll_until};

use super::printed_lines::PrintingNodes;
use super::process_usage::{cpu_time, peak_kib, reset_peak, resident_kib};
use super::{median, verdict};

const MESSAGES: usize = 20_000;
/// Messages that are stored at a time.
const BATCH: usize = 500;
const ROUNDS: usize = 3;
const MAX_TIME: Duration = Duration::from_secs(3);
const MAX_KIB: u64 = 64 * 1024;
const LOOK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run() {
    let lab = Lab::start();
    let authors: Vec<User<'_>> = ["alice", "bob", "carol", "dave"].map(|name| lab.user(name)).into();
    make_room(&authors.iter().collect::<Vec<_>>());
    let sharer = &authors[0];
    fetch_records(sharer, authors.len());
    write_messages(sharer, &authors);
    let mut times = Vec::new();
    let mut most_kib = 0;
    for round in 0..ROUNDS {
        let newcomer = lab.user(&format!("newcomer{round}"));
        newcomer.peer(["room", "join", "lab"]).run().exits(0);
        let (time, kib) = measure(sharer, &newcomer);
        times.push(time);
        most_kib = most_kib.max(kib);
    }
    let time = median(&mut times);
    println!(
        "{MESSAGES} messages of {} authors: median {:.2} s, worst {:.2} s (at most {} s: {}); memory: {:.1} MiB more (at most {} MiB: {})",
        authors.len(),
        time.as_secs_f64(),
        times[ROUNDS - 1].as_secs_f64(),
        MAX_TIME.as_secs(),
        verdict(time <= MAX_TIME),
        mib(most_kib),
        MAX_KIB / 1024,
        verdict(most_kib <= MAX_KIB)
    );
}

/// Keeps a node running until all of the room's records are in its profile.
fn fetch_records(user: &User<'_>, members: usize) {
    let mut nodes = PrintingNodes::new();
    nodes.start(user);
    let profile = Profile::open(user.home()).unwrap();
    let known = || {
        let room = profile.rooms().unwrap().pop()?;
        Some(profile.load_room(room.id).unwrap()?.members.members().len())
    };
    poll_until(|| known().filter(|known| *known == members), || format!("{members} members, not {:?}", known()));
}

/// Returns the time from the sharer's coming online until all messages are in the newcomer's database, and the growth
/// of the newcomer's node, in KiB.
fn measure(sharer: &User<'_>, newcomer: &User<'_>) -> (Duration, u64) {
    let mut nodes = PrintingNodes::new();
    let newcomers = nodes.start(newcomer);
    let database = newcomer.home().join("profile.db");
    let before = resident_kib(nodes.pid(newcomers));
    let cpu_before = cpu_time(nodes.pid(newcomers));
    reset_peak(nodes.pid(newcomers));
    let sharers = nodes.start(sharer);
    let begin = Instant::now();
    let shared_before = resident_kib(nodes.pid(sharers));
    reset_peak(nodes.pid(sharers));
    while count_messages(&database) < MESSAGES {
        assert!(begin.elapsed() < PATIENCE, "{} of {MESSAGES}", count_messages(&database));
        // Another process's database has no event for this one.
        std::thread::sleep(LOOK);
    }
    let time = begin.elapsed();
    let growth = peak_kib(nodes.pid(newcomers)).saturating_sub(before);
    println!(
        "{:.2} s; newcomer: {:.1} MiB before, {:.1} more, {:.2} s of processor; sharer: {:.1} MiB before, {:.1} more, {:.2} s in all",
        time.as_secs_f64(),
        mib(before),
        mib(growth),
        (cpu_time(nodes.pid(newcomers)) - cpu_before).as_secs_f64(),
        mib(shared_before),
        mib(peak_kib(nodes.pid(sharers)).saturating_sub(shared_before)),
        cpu_time(nodes.pid(sharers)).as_secs_f64()
    );
    (time, growth)
}

fn count_messages(database: &Path) -> usize {
    let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let count = database.query_row("SELECT count(*) FROM room_message", [], |row| row.get::<_, i64>(0));
    usize::try_from(count.unwrap_or(0)).unwrap()
}

/// Writes messages of all authors, who take turns, into the profile of one of them: as if each had come by itself.
fn write_messages(sharer: &User<'_>, authors: &[User<'_>]) {
    let profile = Profile::open(sharer.home()).unwrap();
    let room = profile.rooms().unwrap().pop().unwrap();
    let mut loaded = profile.load_room(room.id).unwrap().unwrap();
    let keys: Vec<_> = authors
        .iter()
        .map(|author| {
            let identity = Profile::open(author.home()).unwrap().identity().unwrap();
            let keys = identity.ed25519_key_pair().unwrap();
            // Only a signed message tells the key in this form.
            let draft = MessageDraft {
                room: room.id,
                epoch: 1,
                number: 1,
                previous: None,
                named: Vec::new(),
                time: 0,
                body: String::new(),
            };
            let key = draft.sign(&keys).unwrap().key();
            (key, keys)
        })
        .collect();
    let me = profile.identity().unwrap().fingerprint();
    let (mut runs, mut changes): (Vec<MessageRun>, Vec<LogChange>) = (Vec::new(), Vec::new());
    let start = 1_700_000_000_000_u64;
    for number in 0..MESSAGES {
        let (key, keys) = &keys[number * 7 / 3 % keys.len()];
        let text = format!("message {number}: as long as what people say to each other on a usual day");
        let time = start + number as u64 * 1000;
        let run = loaded.log.draft(key, &loaded.members, time, text).sign(keys).unwrap();
        changes.push(loaded.log.insert(&run, &loaded.members, time));
        runs.push(run);
        if runs.len() == BATCH || number + 1 == MESSAGES {
            let update = RoomUpdate { members: &loaded.members, log: &loaded.log, me, runs: &runs, changes: &changes };
            let now = peer_now();
            assert_eq!(profile.store_room_update(&update, now).unwrap().len(), runs.len());
            runs.clear();
            changes.clear();
        }
    }
}

/// Returns the time of receipt: now, for what is old isn't kept.
fn peer_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
