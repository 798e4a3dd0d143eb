//! A source that lies. Whatever it does, the fetch ends by itself with the right code, nothing wrong gets a name, and
//! nothing of it reaches the terminal as more than text.

use std::path::PathBuf;

use serde_json::{Value, json};
use tests::files::{assert_content, names_in, noise, write};
use tests::hostile::{HostilePeer, Offer, Stage, Trick};
use tests::{Invocation, Lab, Outcome, User};

const NAME: &str = "film.mkv";

/// A lab with alice and one liar, and a folder that must stay empty.
struct Scene<'a> {
    alice: User<'a>,
    here: PathBuf,
    _liar: HostilePeer,
}

fn scene(lab: &Lab, trick: Trick) -> Scene<'_> {
    let offers = vec![Offer::new(NAME, noise(9, 5_000_000)), Offer::new("small.txt", *b"small and right")];
    let liar = HostilePeer::join(lab, "mallory", offers, trick);
    Scene { alice: lab.user("alice"), here: lab.empty_folder("here"), _liar: liar }
}

impl Scene<'_> {
    fn fetch(&self, names: &[&str]) -> Invocation {
        self.alice.peer(["fetch", "--patience", "0", "mallory", "-o"]).arg(&self.here).args(names)
    }

    /// Fetches the file, which must fail in one of these ways and leave nothing with a name.
    #[track_caller]
    fn fails(&self, codes: &[i32]) -> Outcome {
        let outcome = self.fetch(&[NAME]).run();
        assert!(codes.contains(&outcome.code), "one of {codes:?} was due: {outcome}");
        outcome.is_plain().says("error: ");
        let named: Vec<String> = names_in(&self.here).into_iter().filter(|name| !name.starts_with('.')).collect();
        assert!(named.is_empty(), "{named:?}: {outcome}");
        outcome
    }
}

fn each_stage(trick: impl Fn(Stage) -> Trick, codes: &[i32]) {
    for stage in [Stage::Hello, Stage::Stat, Stage::Manifest, Stage::Data] {
        let lab = Lab::start();
        let outcome = scene(&lab, trick(stage)).fails(codes);
        outcome.says("mallory");
    }
}

#[test]
fn an_honest_source_of_this_kind_works() {
    let lab = Lab::start();
    let scene = scene(&lab, Trick::Honest);
    scene.fetch(&[NAME, "small.txt"]).run().exits(0);
    assert_content(scene.here.join(NAME), &noise(9, 5_000_000));
    assert_content(scene.here.join("small.txt"), b"small and right");
}

#[test]
fn rubbish_in_place_of_frames() {
    each_stage(Trick::Rubbish, &[7, 8]);
}

#[test]
fn a_frame_of_four_gigabytes() {
    each_stage(Trick::HugeFrame, &[7, 8]);
}

#[test]
fn streams_that_are_reset() {
    each_stage(Trick::Reset, &[7]);
}

#[test]
fn streams_that_end_too_early() {
    each_stage(Trick::Short, &[7, 8]);
}

#[test]
fn links_that_are_closed() {
    each_stage(Trick::Close, &[7]);
}

#[test]
fn answers_to_other_questions() {
    each_stage(Trick::Another, &[7, 8]);
}

#[test]
fn errors_with_escape_sequences_in_them() {
    let text = "\u{1b}]52;c;cm0gLXJm\u{7}\u{1b}[2Jsorry\r\n\u{202e}ok: 100% \u{9b}31m";
    each_stage(|stage| Trick::Error(stage, text.to_owned()), &[6, 7]);
}

#[test]
fn sources_that_fall_silent_are_given_up() {
    // Side by side: each of them is waited for as long as the product has patience.
    let lab = Lab::start();
    let alice = lab.user("alice");
    let stages = [Stage::Hello, Stage::Stat, Stage::Files, Stage::Manifest, Stage::Data];
    let silent = stages.map(|stage| (format!("silent-{stage:?}"), Trick::Silent(stage)));
    let tricks = silent.into_iter().chain([("trickles".to_owned(), Trick::Trickle)]);
    let running = tricks.zip(0..).map(|((user, trick), seed)| {
        let name = if matches!(trick, Trick::Silent(Stage::Files)) { "*.mkv" } else { "film.mkv" };
        // Not the same file for each: they would be taken for sources of one another's.
        let offers = vec![Offer::new("film.mkv", noise(seed, 5_000_000))];
        let source = HostilePeer::join(&lab, &user, offers, trick);
        let here = lab.empty_folder(&user);
        // A limit that is never reached excuses nobody.
        let fetch = alice.peer(["fetch", "--limit", "10M", "--patience", "0", &user, name, "-o"]).arg(&here);
        (fetch.start(), source, here)
    });
    for (fetching, _source, here) in running.collect::<Vec<_>>() {
        let outcome = fetching.finish();
        outcome.exits(7).is_plain();
        assert!(names_in(&here).iter().all(|name| name.starts_with('.')), "{outcome}");
    }
}

#[test]
fn a_source_that_always_comes_back_only_to_leave_is_given_up() {
    let lab = Lab::start();
    let scene = scene(&lab, Trick::Close(Stage::Data));
    let fetch = scene.alice.peer(["fetch", "--patience", "5", "mallory", NAME, "-o"]).arg(&scene.here);
    fetch.run().exits(7).is_plain();
}

#[test]
fn descriptions_that_cannot_be_true() {
    for (wrong, codes) in [
        (json!({ "size": 5_000_001 }), &[8][..]),
        (json!({ "size": 4_999_999 }), &[8]),
        (json!({ "size": 0 }), &[8]),
        (json!({ "size": -1 }), &[7, 8]),
        (json!({ "size": 1_u64 << 53 }), &[7, 8]),
        (json!({ "size": u64::MAX }), &[7, 8]),
        (json!({ "group_size": 0 }), &[8]),
        (json!({ "group_size": 1 << 21 }), &[8]),
        (json!({ "group_size": 1_000_000 }), &[8]),
        (json!({ "hash": "00".repeat(32) }), &[5, 7, 8]),
        (json!({ "hash": "00" }), &[7, 8]),
        (json!({ "hash": null }), &[7, 8]),
        (json!({ "name": "small.txt" }), &[7, 8]),
        (json!({ "name": "../film.mkv" }), &[7, 8]),
        (json!({ "mtime": "yesterday" }), &[7, 8]),
        (json!({ "executable": 7 }), &[7, 8]),
    ] {
        let lab = Lab::start();
        let scene = scene(&lab, Trick::WrongStat(wrong.clone()));
        let outcome = scene.fails(codes);
        assert!(outcome.err().contains("mallory"), "{wrong}: {outcome}");
    }
}

#[test]
fn times_that_cannot_be_kept_spoil_nothing() {
    for mtime in [i64::MIN, -1, 0, i64::MAX] {
        let lab = Lab::start();
        let scene = scene(&lab, Trick::WrongStat(json!({ "mtime": mtime })));
        scene.fetch(&[NAME]).run().exits(0);
        assert_content(scene.here.join(NAME), &noise(9, 5_000_000));
    }
}

#[test]
fn a_wrong_group() {
    let lab = Lab::start();
    let scene = scene(&lab, Trick::WrongGroup);
    scene.fails(&[8]).says("mallory").says(NAME);
    scene.fetch(&["small.txt"]).run().exits(8);
    let outcome = scene.alice.peer(["fetch", "mallory", "small.txt", "-o", "-"]).run();
    outcome.exits(8).prints_exactly("");
    assert!(names_in(&scene.here).iter().all(|name| name.starts_with('.')));
}

#[test]
fn a_wrong_manifest() {
    let lab = Lab::start();
    scene(&lab, Trick::WrongManifest).fails(&[8]);
}

#[test]
fn the_manifest_of_another_file() {
    let lab = Lab::start();
    scene(&lab, Trick::AnotherManifest).fails(&[8]);
}

#[test]
fn more_data_than_was_asked_for() {
    let lab = Lab::start();
    scene(&lab, Trick::TooMuchData).fails(&[8]);
}

#[test]
fn less_data_than_was_asked_for() {
    let lab = Lab::start();
    scene(&lab, Trick::TooLittleData).fails(&[8]);
}

#[test]
fn a_liar_does_not_spoil_what_it_was_honest_about() {
    let lab = Lab::start();
    let scene = scene(&lab, Trick::WrongManifest);
    // Only files of several groups have a manifest.
    let outcome = scene.fetch(&["small.txt", NAME]).run();
    outcome.exits(12).says("error: ");
    assert!(!scene.here.join(NAME).exists());
}

/// Everything that a source can get wrong about what others have as well.
fn wrong_about_content() -> Vec<Trick> {
    let at = |stage| {
        let error = Trick::Error(stage, "\u{1b}[2Jno".to_owned());
        let rest = [Trick::Rubbish, Trick::HugeFrame, Trick::Reset, Trick::Short, Trick::Close, Trick::Another];
        rest.into_iter().chain([Trick::Silent as fn(Stage) -> Trick]).map(move |trick| trick(stage)).chain([error])
    };
    let lies = [
        Trick::WrongGroup,
        Trick::WrongManifest,
        Trick::AnotherManifest,
        Trick::TooMuchData,
        Trick::TooLittleData,
        Trick::Trickle,
    ];
    at(Stage::Manifest).chain(at(Stage::Data)).chain(lies).collect()
}

/// Alice takes from both; the file is right, and whatever is said of bob, it isn't that he lied.
#[track_caller]
fn both_together(lab: &Lab, trick: &Trick, order: [&str; 2]) {
    let scene = scene(lab, trick.clone());
    let bob = lab.user("bob");
    bob.share([write(lab.join(NAME), noise(9, 5_000_000))]);
    let _node = bob.serve();
    let [first, second] = order;
    // Who sends what is a matter of luck, what arrives is not.
    let fetched = scene.alice.peer(["fetch", "--from", second, first, NAME, "-o"]).arg(&scene.here).run();
    assert_eq!(fetched.code, 0, "{trick:?}: {fetched}");
    fetched.is_plain();
    assert!(!fetched.err().contains("fetching nothing more from bob"), "{trick:?}: {fetched}");
    assert_content(scene.here.join(NAME), &noise(9, 5_000_000));
    assert_eq!(names_in(&scene.here), [NAME], "{trick:?}");
}

#[test]
fn whatever_a_second_source_does_wrong_spoils_nothing() {
    let hellos = [Trick::Silent(Stage::Hello), Trick::Rubbish(Stage::Hello), Trick::Close(Stage::Hello)];
    for trick in wrong_about_content().into_iter().chain(hellos) {
        both_together(&Lab::start(), &trick, ["bob", "mallory"]);
    }
}

#[test]
fn whatever_the_first_source_does_wrong_with_the_content_spoils_nothing() {
    for trick in wrong_about_content() {
        both_together(&Lab::start(), &trick, ["mallory", "bob"]);
    }
}

fn list_with(name: &str) -> Value {
    let offer =
        |name: &str| json!({ "name": name, "size": 1, "hash": "00".repeat(32), "group_size": 1 << 20, "mtime": 0 });
    json!([offer(name)])
}

#[test]
fn names_that_lead_elsewhere_are_never_followed() {
    let long = "x".repeat(300);
    let names = [
        "../escaped",
        "docs/../../escaped",
        "/tmp/escaped",
        "docs//escaped",
        "docs/./escaped",
        "back\\..\\escaped",
        "nul\u{0}escaped",
        "\u{202e}escaped",
        "\u{1b}[2Jescaped",
        "new\nline-escaped",
        "",
        &long,
    ];
    for name in names {
        let lab = Lab::start();
        let scene = scene(&lab, Trick::List(list_with(name)));
        let listing = scene.alice.peer(["files", "mallory"]).run();
        listing.exits(8).prints_exactly("").is_plain();
        let fetched = scene.fetch(&["*"]).run();
        assert!(matches!(fetched.code, 5 | 8), "{name:?}: {fetched}");
        fetched.is_plain();
        assert!(names_in(&scene.here).is_empty(), "{name:?}");
        let around: Vec<String> = names_in(lab.path()).into_iter().filter(|name| name.contains("escaped")).collect();
        assert!(around.is_empty(), "{around:?}");
    }
}

#[test]
fn lists_that_are_not_lists() {
    let twice = json!([list_with("a")[0], list_with("a")[0]]);
    let unordered = json!([list_with("b")[0], list_with("a")[0]]);
    let negative = json!([{ "name": "a", "size": -1, "hash": "00".repeat(32), "group_size": 1, "mtime": 0 }]);
    let huge = json!([{ "name": "a", "size": u64::MAX, "hash": "00".repeat(32), "group_size": 1 << 20, "mtime": 0 }]);
    for (list, codes) in [
        (twice, &[7][..]),
        (unordered, &[7]),
        (negative, &[8]),
        (json!({ "not": "a list" }), &[7]),
        (json!([1, 2, 3]), &[12]),
        (huge, &[8]),
    ] {
        let lab = Lab::start();
        let scene = scene(&lab, Trick::List(list.clone()));
        let fetched = scene.fetch(&["*"]).run();
        assert!(codes.contains(&fetched.code), "{list}: {fetched}");
        assert!(names_in(&scene.here).is_empty());
    }
}
