//! The one key of several trackers, and how it gets from one to the others.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use postgres_server::PostgresServer;
use tests::files::write;
use tests::{Invocation, Lab, Outcome, binaries};

/// `tracker identity` on a data folder.
fn identity(lab: &Lab, folder: &Path, args: &[&str]) -> Outcome {
    let tracker = Invocation::new(binaries::binary("tracker"), lab.path()).arg("identity").args(args);
    tracker.arg("--data-dir").arg(folder).run()
}

#[test]
fn a_key_goes_to_another_tracker_and_replaces_none_unasked() {
    let lab = Lab::start();
    let (here, there) = (lab.join("tracker"), lab.join("there"));
    let fingerprint = lab.tracker_key();
    // It is shown and written while the tracker runs.
    identity(&lab, &here, &[]).exits(0).prints_exactly(&format!("{fingerprint}\n"));
    identity(&lab, &here, &["export", "key.pem"]).exits(0).prints_exactly("");
    assert_eq!(lab.join("key.pem").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    identity(&lab, &here, &["export", "key.pem"]).exits(1).says("exists: move it away");
    identity(&lab, &there, &["import", "key.pem"]).exits(0).prints(&fingerprint).prints("--store");
    identity(&lab, &there, &[]).exits(0).prints_exactly(&format!("{fingerprint}\n"));
    // Without a copy on a disk, from one program to another.
    let stream = identity(&lab, &here, &["export", "-"]);
    let third = lab.join("third");
    let import =
        Invocation::new(binaries::binary("tracker"), lab.path()).args(["identity", "import", "-", "--data-dir"]);
    import.arg(&third).stdin(&stream.exits(0).stdout).run().exits(0).prints(&fingerprint);
    identity(&lab, &third, &["import", "key.pem"]).exits(0).prints("there already");
    // A folder with another key, and one on which a tracker runs.
    let other = Lab::start();
    let key = lab.join("key.pem");
    let of_other = other.join("tracker");
    let import = |args: &[&str]| identity(&other, &of_other, &[&["import", key.to_str().unwrap()], args].concat());
    import(&["--replace"]).exits(1).says("a tracker runs on the data folder");
    let before = other.tracker_key();
    let process = other.take_tracker();
    process.terminate();
    process.finish().exits(0);
    import(&[]).exits(1).says(&before).says(&fingerprint).says("--replace");
    identity(&other, &of_other, &[]).prints(&before);
    import(&["--replace"]).exits(0).prints("kept as").prints("identity.pem.replaced-1");
    identity(&other, &of_other, &[]).prints(&fingerprint);
    // What is no key, and one that others may read.
    write(lab.join("rubbish"), "rubbish");
    std::fs::set_permissions(lab.join("rubbish"), PermissionsExt::from_mode(0o600)).unwrap();
    identity(&lab, &there, &["import", "rubbish"]).exits(1).says("is no tracker's key").says("identity export");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    identity(&lab, &there, &["import", "key.pem"]).exits(1).says("chmod 600");
    identity(&lab, &lab.join("nowhere"), &["export", "no.pem"]).exits(1).says("there is no key");
}

#[test]
fn a_tracker_with_another_key_is_told_how_it_gets_that_of_the_others() {
    let Some(server) = PostgresServer::shared() else {
        return println!("PostgreSQL is not installed: nothing is tested");
    };
    let address = server.address(&server.create_database().unwrap());
    let lab = crate::tracker_cluster::trackers_at(&address, 1).remove(0);
    let second = lab.join("second");
    let start = || {
        let tracker = Invocation::new(binaries::binary("tracker"), lab.path());
        tracker.args(["--listen", "127.0.0.1:0", "--no-mdns", "--store", &address, "--data-dir"]).arg(&second)
    };
    // It makes no key of its own where accounts belong to one.
    assert!(lab.stranger("alice").registered().home().exists());
    start().run().exits(1).says("is missing");
    identity(&lab, &second, &[]).exits(1).says("there is no key");
    certs::Identity::load_or_create(&second.join("identity")).unwrap();
    start().run().exits(1).says("tracker identity export FILE").says("tracker identity import FILE --replace");
    identity(&lab, &lab.join("tracker"), &["export", "key.pem"]).exits(0);
    identity(&lab, &second, &["import", "key.pem", "--replace"]).exits(0);
    let process = start().start();
    process.wait_for("tracker listening on ");
    assert!(process.wait_for("fingerprint ").ends_with(&lab.tracker_key()));
}
