//! The tracker with all that it keeps in PostgreSQL: tests of other modules, run again.

use std::process::Command;

use postgres_server::PostgresServer;
use tests::POSTGRES_RUN;

/// The modules whose tests say something about the tracker.
const MODULES: [&str; 24] = [
    "at_home::",
    "certificates::",
    "cloned_profiles::",
    "colliding_names::",
    "door::",
    "events::",
    "exercise::",
    "first_contact::",
    "hostile_door::",
    "hostile_lines::",
    "hostile_members::",
    "hostile_names::",
    "identity::",
    "looking_around::",
    "names::",
    "passwords::",
    "restart::",
    "resume::",
    "room_",
    "rooms::",
    "seeking::",
    "silent_tracker::",
    "tracker_memory::",
    "watching::",
];

/// Tests of what only the files of a data folder have: they read or exchange them, or begin anew with another key.
const OF_FILES: [&str; 4] = [
    "a_tracker_that_adds_a_member_by_itself_is_seen",
    "a_new_key_of_the_tracker_stops_no_room",
    "a_restored_tracker_says_so_in_every_room",
    "rooms_survive_a_kill_and_old_data_gets_them",
];

/// `VIZINHO_LONG=1`: it takes as long as they do.
#[test]
fn everything_about_the_tracker_is_the_same_on_postgresql() {
    if std::env::var_os("VIZINHO_LONG").is_none() {
        return println!("skipped: only under VIZINHO_LONG=1");
    }
    if PostgresServer::shared().is_none() {
        return println!("PostgreSQL is not installed: nothing is tested");
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    for name in OF_FILES {
        again.args(["--skip", name]);
    }
    let again = again.args(MODULES).env(POSTGRES_RUN, "1").env_remove("VIZINHO_LONG").output().unwrap();
    let told = String::from_utf8_lossy(&again.stdout);
    let summary = told.lines().find(|line| line.starts_with("test result: ")).unwrap_or_default();
    assert!(again.status.success(), "{told}");
    println!("{summary}");
    // The filters found them.
    let passed: usize = summary.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(passed > 100, "{summary}");
}
