//! Several trackers with one key on a network where nobody names them. Only root can make one.

use postgres_server::PostgresServer;
use tests::{Invocation, Process, binaries};

use crate::discovery::Scene;

/// A network for trackers that share a database.
struct SharedScene {
    scene: Scene,
    address: String,
}

impl SharedScene {
    fn make() -> Option<Self> {
        let Some(server) = PostgresServer::shared() else {
            println!("PostgreSQL is not installed: nothing is tested");
            return None;
        };
        let scene = Scene::make()?;
        Some(Self { scene, address: server.address(&server.create_database().unwrap()) })
    }

    /// Starts a tracker with the key of the tracker `of`, its own if that is itself.
    fn tracker(&mut self, name: &str, of: &str, ip: &str, more: &[&str]) -> Process {
        if name != of {
            let identity = |folder: &str, args: &[&str]| {
                let tracker = Invocation::new(binaries::binary("tracker"), self.scene.lab.path()).arg("identity");
                tracker.args(args).arg("--data-dir").arg(self.scene.lab.join(folder)).run().exits(0);
            };
            let file = format!("{name}.pem");
            identity(of, &["export", &file]);
            identity(name, &["import", &file]);
        }
        let address = self.address.clone();
        self.scene.tracker(name, ip, &[&["--store", &address], more].concat()).0
    }

    /// The places of the account's tracker, in the order of their numbers.
    fn recorded_places(&self, user: &str) -> Vec<String> {
        let who = self.scene.peer(user, &["--json", "whoami"]).on(&self.scene.here).run();
        let mut places: Vec<String> =
            who.exits(0).object("account")["tracker"].as_str().unwrap().split(',').map(str::to_owned).collect();
        places.sort();
        places
    }
}

#[test]
fn trackers_of_one_key_are_taken_for_one() {
    let Some(mut shared) = SharedScene::make() else { return };
    let (_one, _two) = (shared.tracker("one", "one", "10.79.0.2", &[]), shared.tracker("two", "one", "10.79.0.3", &[]));
    // Nobody is asked which.
    let found = shared.scene.register("alice", &[]).run();
    found.exits(0).says("looking for one on this network").is_plain();
    assert_eq!(shared.recorded_places("alice"), ["10.79.0.2:8000", "10.79.0.3:8000"]);
    shared.scene.peer("alice", &["list"]).on(&shared.scene.here).run().exits(0);
    // One with another key is another tracker, as before.
    let (_stranger, other) = shared.scene.tracker("stranger", "10.79.0.4", &[]);
    let undecided = shared.scene.register("bob", &[]).run();
    undecided.exits(2).says("there are 2 trackers on this network");
    let both = ["10.79.0.2:8000,10.79.0.3:8000", "10.79.0.3:8000,10.79.0.2:8000"];
    assert!(
        both.iter().any(|both| undecided.err().contains(&format!("--tracker {both} --tracker-key "))),
        "{undecided}"
    );
    undecided.says(&format!("--tracker 10.79.0.4:8000 --tracker-key {other}\n"));
    // Whoever knows one of the two is not led to it.
    shared.scene.peer("alice", &["list"]).on(&shared.scene.here).run().exits(0);
}

#[test]
fn a_tracker_that_comes_later_is_found_when_the_known_one_is_gone() {
    let Some(mut shared) = SharedScene::make() else { return };
    let one = shared.tracker("one", "one", "10.79.0.2", &[]);
    shared.scene.register("alice", &[]).run().exits(0);
    assert_eq!(shared.recorded_places("alice"), ["10.79.0.2:8000"]);
    let node = shared.scene.peer("alice", &["serve"]).on(&shared.scene.here).start();
    node.wait_for("online as alice at ");
    // Its key is no other's, whatever somebody else announces.
    let (_stranger, _) = shared.scene.tracker("stranger", "10.79.0.4", &[]);
    let _two = shared.tracker("two", "one", "10.79.0.3", &[]);
    one.kill();
    node.wait_for_nth("online as alice at ", 2);
    assert_eq!(shared.recorded_places("alice"), ["10.79.0.2:8000", "10.79.0.3:8000"]);
    // Commands of their own profit from it as well.
    node.interrupt();
    node.finish().exits(130);
    shared.scene.peer("alice", &["list"]).on(&shared.scene.here).run().exits(0);
}
