//! The time in which a peer is at another tracker after its own was killed.

use std::time::{Duration, Instant};

use postgres_server::PostgresServer;
use tests::{Lab, poll_for};

use crate::sites::Site;
use crate::{percentile, verdict};

const MOVES: usize = 10;
/// Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(server: &PostgresServer) {
    let mut cluster = Site::cluster(server, &[]);
    let two = format!("{},{}", cluster.labs[0].address(), cluster.labs[1].address());
    let mut times = Vec::new();
    let third = cluster.labs.pop().unwrap();
    let bob = third.user("bob");
    let node = bob.peer(["serve", "--tracker", &two]).start();
    node.wait_for("online as bob at ");
    let sql = "SELECT name FROM presence JOIN tracker_node USING (node) WHERE user_name = 'bob'";
    let database = cluster.database.clone();
    let holder = || server.administrate(&database, sql).unwrap();
    for _ in 0..MOVES {
        let before = holder();
        // A tracker's name in the database ends in its process and a chance number.
        let is_holder = |lab: &Lab| before.contains(&format!("process {} ", lab.tracker_pid()));
        let at = cluster.labs.iter().position(is_holder).unwrap();
        cluster.labs[at].kill_tracker();
        let killed = Instant::now();
        poll_for(PATIENCE, || (holder() != before).then_some(()), || "bob never moves".to_owned());
        times.push(killed.elapsed());
        cluster.labs[at].start_tracker();
    }
    let told: Vec<String> = times.iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect();
    let median = percentile(&mut times, 50) / 1000.0;
    println!("at another tracker after s: {}; median {median:.2}  ≤ 3: {}", told.join(" "), verdict(median <= 3.0));
}
