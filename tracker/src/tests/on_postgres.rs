//! The whole tracker with its accounts in PostgreSQL: the other tests of this folder, run again.

use std::process::Command;

use postgres_server::PostgresServer;

use super::tracker_harness::POSTGRES_RUN;

/// The modules whose tests are run again: those that are about what is stored, and with `VIZINHO_LONG` the others.
const MODULES: [&str; 4] =
    ["tests::account_lifetime::", "tests::repetitions::", "tests::rooms::", "tests::tls_clients::"];
const OTHER_MODULES: [&str; 8] = [
    "tests::admin_commands::",
    "tests::cmd_dialect::",
    "tests::event_push::",
    "tests::hostile_clients::",
    "tests::legacy_clients::",
    "tests::presence_restart::",
    "tests::rate_limiting::",
    "tests::trusted_doors::",
];

#[test]
fn everything_is_the_same_with_accounts_in_postgresql() {
    if PostgresServer::shared().is_none() {
        println!("PostgreSQL is not installed: nothing is tested");
        return;
    }
    let others: &[&str] = if std::env::var_os("VIZINHO_LONG").is_some() { &OTHER_MODULES } else { &[] };
    let mut again = Command::new(std::env::current_exe().unwrap());
    // The numbers of events go on in a database.
    again.args(["--skip", "subscribers_of_an_earlier_process_are_told_to_begin_anew"]);
    let again = again.args(MODULES).args(others).env(POSTGRES_RUN, "1").output().unwrap();
    let told = String::from_utf8_lossy(&again.stdout);
    let summary = told.lines().find(|line| line.starts_with("test result: ")).unwrap_or_default();
    assert!(again.status.success(), "{told}");
    // The filters found them.
    let passed: usize = summary.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(passed > 15, "{summary}");
}
