//! The whole tracker with its accounts in PostgreSQL: the other tests of this folder, run again.

use std::process::Command;

use postgres_server::PostgresServer;

use super::tracker_harness::POSTGRES_RUN;

/// The modules whose tests are run again.
const MODULES: [&str; 11] = [
    "tests::account_lifetime::",
    "tests::admin_commands::",
    "tests::cmd_dialect::",
    "tests::event_push::",
    "tests::hostile_clients::",
    "tests::legacy_clients::",
    "tests::presence_restart::",
    "tests::rate_limiting::",
    "tests::rooms::",
    "tests::tls_clients::",
    "tests::trusted_doors::",
];

#[test]
fn everything_is_the_same_with_accounts_in_postgresql() {
    if PostgresServer::shared().is_none() {
        println!("PostgreSQL is not installed: nothing is tested");
        return;
    }
    let again = Command::new(std::env::current_exe().unwrap()).args(MODULES).env(POSTGRES_RUN, "1").output().unwrap();
    let told = String::from_utf8_lossy(&again.stdout);
    let summary = told.lines().find(|line| line.starts_with("test result: ")).unwrap_or_default();
    assert!(again.status.success(), "{told}");
    // The filters found them.
    let passed: usize = summary.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(passed > 60, "{summary}");
}
