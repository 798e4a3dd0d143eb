//! Clocks that are wrong: before 1970, at its beginning as on machines without a battery, and far ahead.

use tests::files::assert_same;
use tests::{Invocation, Lab, User};

const TIMES: [&str; 4] = ["1969-12-31 23:00:00", "1970-01-01 00:00:10", "2050-01-01 00:00:00", "2201-01-01 00:00:00"];

/// Everything that somebody does in a day, with the clock of `run` and the right one on the other side.
fn a_day(lab: &Lab, alice: &User<'_>, bob: &User<'_>, run: impl Fn(&User<'_>, &[&str]) -> Option<Invocation>) {
    let film = lab.file("film.mkv", 300_000);
    let register = |user: &User<'_>| {
        let file = user.password_file();
        run(user, &["register", user.name(), "--password-file", file.to_str().unwrap()])
    };
    let Some(registered) = register(alice) else { return };
    registered.run().exits(0);
    register(bob).unwrap().run().exits(0);
    bob.share([&film]);
    let node = run(bob, &["serve"]).unwrap().start();
    node.wait_for("online as bob at ");
    run(alice, &["list"]).unwrap().run().exits(0).prints("bob");
    run(alice, &["chat", "bob", "what time is it?"]).unwrap().run().exits(0);
    node.wait_for("alice: what time is it?");
    let here = lab.empty_folder("here");
    run(alice, &["fetch", "bob", "film.mkv", "-o", here.to_str().unwrap()]).unwrap().run().exits(0);
    assert_same(here.join("film.mkv"), &film);
    node.interrupt();
    let ended = node.finish();
    assert!(!ended.err().contains("panicked"), "{ended}");
}

#[test]
fn a_wrong_clock_on_one_side() {
    for time in TIMES {
        let lab = Lab::start();
        let (alice, bob) = (lab.stranger("alice"), lab.stranger("bob"));
        // Alice's machine is right: keys are looked at on both sides.
        a_day(&lab, &alice, &bob, |user, args| {
            let run = user.peer(args);
            if user.name() == "bob" { run.at_time(time) } else { Some(run) }
        });
    }
}

#[test]
fn a_wrong_clock_at_the_tracker() {
    for time in TIMES {
        let lab = Lab::with_restarts();
        lab.take_tracker().kill();
        let Some(tracker) = lab.tracker_invocation(lab.address()).at_time(time) else { return };
        let tracker = tracker.start();
        tracker.wait_for("tracker listening on ");
        let (alice, bob) = (lab.stranger("alice"), lab.stranger("bob"));
        a_day(&lab, &alice, &bob, |user, args| Some(user.peer(args)));
        // A key made at that time is as good as any.
        tracker.interrupt();
        let ended = tracker.finish();
        assert!(!ended.err().contains("panicked"), "{ended}");
    }
}
