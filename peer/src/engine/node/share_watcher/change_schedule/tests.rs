//! A disk, a catalogue and a watcher in simulated time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const PLACE: PlaceId = PlaceId(1);
/// As [`crate::engine::share::FolderSync`] has it.
const SETTLED_AFTER: Duration = Duration::from_millis(150);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What happens in a simulation.
#[derive(Debug, Clone)]
enum Happening {
    Write {
        path: u8,
    },
    Remove {
        path: u8,
    },
    Rename {
        from: u8,
        to: u8,
    },
    /// The queue of the system overflows: what happens until the next event is not reported.
    Overflow,
}

fn happenings() -> impl Strategy<Value = Vec<(u64, Happening)>> {
    let path = 0_u8..6;
    let happening = prop_oneof![
        6 => path.clone().prop_map(|path| Happening::Write { path }),
        2 => path.clone().prop_map(|path| Happening::Remove { path }),
        2 => (path.clone(), path).prop_map(|(from, to)| Happening::Rename { from, to }),
        1 => Just(Happening::Overflow),
    ];
    proptest::collection::vec((prop_oneof![0_u64..20, 0_u64..900], happening), 1..60)
}

/// A file on the simulated disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SimulatedFile {
    version: u64,
    written: Instant,
}

#[derive(Debug)]
struct SimulatedLook {
    begun: Instant,
    finish: Instant,
    scope: SyncScope,
    found: BTreeMap<PathBuf, SimulatedFile>,
}

struct Simulation {
    schedule: ChangeSchedule,
    disk: BTreeMap<PathBuf, SimulatedFile>,
    catalogue: BTreeMap<PathBuf, u64>,
    now: Instant,
    /// The look that runs, with the files as it found them at its beginning.
    running: Option<SimulatedLook>,
    looks: usize,
    durations: Vec<u64>,
}

impl Simulation {
    fn new(durations: Vec<u64>) -> Self {
        let now = Instant::now();
        let mut schedule = ChangeSchedule::default();
        schedule.add_place(PLACE, now);
        let (disk, catalogue) = (BTreeMap::new(), BTreeMap::new());
        Self { schedule, disk, catalogue, now, running: None, looks: 0, durations }
    }

    /// Lets time pass until `end`, with all looks that fall into it.
    fn run_until(&mut self, end: Instant) {
        loop {
            let finish = self.running.as_ref().map(|look| look.finish);
            let due = self.schedule.next_due();
            assert!(finish.is_none() || due.is_none(), "no look is due while one runs");
            let Some(next) = finish.or(due).filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            match self.running.take() {
                Some(look) => self.finish(&look),
                None => self.begin(),
            }
        }
        self.now = end;
    }

    fn begin(&mut self) {
        let looks = self.schedule.take_due(self.now, 1);
        assert_eq!(looks.len(), 1, "what is due can be taken, or nothing would ever come of it");
        assert!(self.schedule.take_due(self.now, 9).is_empty(), "one look at once");
        let duration = self.durations[self.looks % self.durations.len()];
        self.looks += 1;
        let scope = looks.into_iter().next().unwrap().scope;
        let finish = self.now + ms(duration);
        self.running = Some(SimulatedLook { begun: self.now, finish, scope, found: self.disk.clone() });
    }

    fn finish(&mut self, SimulatedLook { begun, scope, found, .. }: &SimulatedLook) {
        let mut unsettled = Vec::new();
        let parts: BTreeMap<PathBuf, WritePatience> = match scope {
            SyncScope::Whole => {
                let all = found.keys().chain(self.catalogue.keys()).cloned();
                all.map(|path| (path, WritePatience::Wait)).collect()
            }
            SyncScope::Parts(parts) => parts.clone(),
        };
        for (path, patience) in parts {
            match found.get(&path) {
                None => drop(self.catalogue.remove(&path)),
                Some(file) if self.catalogue.get(&path) == Some(&file.version) => {}
                Some(file) => {
                    let is_young = begun.saturating_duration_since(file.written) < SETTLED_AFTER;
                    if is_young && patience == WritePatience::Wait {
                        unsettled.push(path);
                    } else {
                        self.catalogue.insert(path, file.version);
                    }
                }
            }
        }
        self.schedule.note_outcome(PLACE, LookOutcome { unsettled, has_failed: false }, self.now);
    }

    fn happen(&mut self, happening: &Happening, version: u64, is_reported: bool) {
        let path = |number: u8| PathBuf::from(format!("folder/{number}"));
        let mut changed = Vec::new();
        match happening {
            Happening::Write { path: number } => {
                self.disk.insert(path(*number), SimulatedFile { version, written: self.now });
                changed.push(path(*number));
            }
            Happening::Remove { path: number } => {
                self.disk.remove(&path(*number));
                changed.push(path(*number));
            }
            Happening::Rename { from, to } => {
                if let Some(file) = self.disk.remove(&path(*from)) {
                    self.disk.insert(path(*to), file);
                    changed.extend([path(*from), path(*to)]);
                }
            }
            Happening::Overflow => self.schedule.request_walk(PLACE, self.now),
        }
        if is_reported {
            changed.iter().for_each(|path| self.schedule.note_change(PLACE, path, self.now));
        }
    }

    fn is_in_step(&self) -> bool {
        self.disk.len() == self.catalogue.len()
            && self.disk.iter().all(|(path, file)| self.catalogue.get(path) == Some(&file.version))
    }
}

proptest! {
    /// Whatever happens in whatever order, and however long each look takes: soon after it ends, all is as it is on the
    /// disk, and the number of looks is bounded by the time that passed.
    #[test]
    fn the_catalogue_follows_the_disk(
        happenings in happenings(),
        durations in proptest::collection::vec(prop_oneof![0_u64..5, 0_u64..2000], 1..5),
    ) {
        let mut simulation = Simulation::new(durations.clone());
        let (begin, mut is_reported) = (simulation.now, true);
        for (version, (pause, happening)) in (1..).zip(&happenings) {
            simulation.run_until(simulation.now + ms(*pause));
            // While the queue is full, nothing is reported; the overflow is reported when it is read, which comes last.
            match happening {
                Happening::Overflow => {
                    is_reported = !is_reported;
                    if is_reported {
                        simulation.happen(happening, version, true);
                    }
                }
                other => simulation.happen(other, version, is_reported),
            }
        }
        if !is_reported {
            simulation.schedule.request_walk(PLACE, simulation.now);
        }
        let slowest = ms(durations.into_iter().max().unwrap_or(0));
        simulation.run_until(simulation.now + ms(4000) + slowest * 6);
        prop_assert!(simulation.is_in_step(), "{:?} is not {:?}", simulation.catalogue, simulation.disk);
        let passed = simulation.now.duration_since(begin);
        prop_assert!(simulation.looks as u128 <= 2 + passed.as_millis() / 50, "{} looks", simulation.looks);
    }

    /// A change that is followed by no other of its path is in the catalogue within two seconds.
    #[test]
    fn a_change_is_followed_within_two_seconds(happenings in happenings()) {
        let mut simulation = Simulation::new(vec![10]);
        simulation.run_until(simulation.now + ms(3000));
        let mut last = BTreeMap::new();
        for (version, (pause, happening)) in (1..).zip(&happenings) {
            let Happening::Write { path } = happening else { continue };
            simulation.run_until(simulation.now + ms(*pause));
            simulation.happen(happening, version, true);
            last.insert(*path, (version, simulation.now));
            for (path, (version, at)) in &last {
                if simulation.now.duration_since(*at) >= ms(2000) {
                    let file = PathBuf::from(format!("folder/{path}"));
                    prop_assert_eq!(simulation.catalogue.get(&file), Some(version));
                }
            }
        }
    }
}

#[test]
fn a_storm_is_one_walk() {
    let mut simulation = Simulation::new(vec![10]);
    simulation.run_until(simulation.now + ms(3000));
    let before = simulation.looks;
    for number in 0..MAX_PENDING * 3 {
        let path = PathBuf::from(format!("new/{number}"));
        simulation.disk.insert(path.clone(), SimulatedFile { version: 1, written: simulation.now });
        simulation.schedule.note_change(PLACE, &path, simulation.now);
    }
    assert!(simulation.schedule.places[&PLACE].pending.is_empty());
    simulation.run_until(simulation.now + ms(2000));
    assert!(simulation.is_in_step());
    assert_eq!(simulation.looks, before + 1);
}

#[test]
fn a_file_that_is_written_without_a_pause_is_hashed_ever_more_rarely() {
    let mut simulation = Simulation::new(vec![5]);
    let begin = simulation.now;
    let (mut hashed, mut known) = (Vec::new(), None);
    for version in 0..20 * 1000 {
        simulation.run_until(simulation.now + ms(100));
        simulation.happen(&Happening::Write { path: 1 }, version, true);
        let now = simulation.catalogue.values().next().copied();
        if now != known {
            known = now;
            hashed.push(simulation.now.duration_since(begin).as_secs());
        }
    }
    let pauses: Vec<u64> = hashed.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((30..33).contains(&hashed[0]), "{hashed:?}");
    assert!(pauses.windows(2).all(|pair| pair[1] + 2 >= pair[0]), "{pauses:?}");
    assert!(pauses.last().is_some_and(|pause| *pause >= 400), "{pauses:?}");
    // When it rests, it is hashed once more at once, and its patience is forgotten.
    simulation.run_until(simulation.now + ms(2000));
    assert!(simulation.is_in_step());
    assert!(simulation.schedule.places[&PLACE].writers.is_empty());
}

#[test]
fn a_place_without_complete_reports_is_walked_at_intervals() {
    for (reports, walks) in [(ChangeReports::Complete, 1), (ChangeReports::Partial, 120)] {
        let mut simulation = Simulation::new(vec![10]);
        simulation.schedule.set_reports(PLACE, reports, simulation.now);
        simulation.run_until(simulation.now + Duration::from_secs(600));
        assert!(simulation.looks.abs_diff(walks) <= 2, "{reports:?}: {}", simulation.looks);
    }
    // A large one costs no more than a part of the time.
    let mut simulation = Simulation::new(vec![4000]);
    simulation.schedule.set_reports(PLACE, ChangeReports::Partial, simulation.now);
    simulation.run_until(simulation.now + Duration::from_secs(3600));
    assert!((15..20).contains(&simulation.looks), "{}", simulation.looks);
}

#[test]
fn what_no_report_told_of_is_found_soon_after_other_changes() {
    for (duration, found_after) in [(10, 30), (2000, 100)] {
        let mut simulation = Simulation::new(vec![duration]);
        simulation.run_until(simulation.now + ms(10_000));
        simulation.happen(&Happening::Write { path: 1 }, 1, true);
        simulation.happen(&Happening::Write { path: 2 }, 2, false);
        simulation.run_until(simulation.now + Duration::from_secs(found_after - 1));
        assert!(!simulation.is_in_step(), "a walk that takes {duration} ms comes too soon");
        let before = simulation.looks;
        simulation.run_until(simulation.now + Duration::from_secs(8));
        assert!(simulation.is_in_step());
        // One walk is enough: it leaves nothing to be checked.
        simulation.run_until(simulation.now + Duration::from_secs(600));
        assert_eq!(simulation.looks, before + 1);
    }
}

#[test]
fn changes_without_an_end_do_not_put_off_the_walk_that_checks_them() {
    let mut simulation = Simulation::new(vec![10]);
    simulation.run_until(simulation.now + ms(3000));
    simulation.happen(&Happening::Write { path: 2 }, 1, false);
    for version in 2..400 {
        simulation.happen(&Happening::Write { path: 1 }, version, true);
        simulation.run_until(simulation.now + ms(100));
    }
    assert!(simulation.catalogue.contains_key(Path::new("folder/2")));
}

#[test]
fn a_look_that_fails_is_repeated_ever_more_rarely() {
    let now = Instant::now();
    let mut schedule = ChangeSchedule::default();
    schedule.add_place(PLACE, now);
    let mut at = now;
    let mut pauses = Vec::new();
    for _ in 0..12 {
        assert_eq!(schedule.take_due(at, 1).len(), 1);
        schedule.note_outcome(PLACE, LookOutcome { has_failed: true, ..LookOutcome::default() }, at);
        let next = schedule.next_due().unwrap();
        pauses.push(next.duration_since(at).as_secs());
        at = next;
    }
    assert_eq!((pauses[0], pauses[11]), (1, 300));
    schedule.remove_place(PLACE);
    assert_eq!(schedule.next_due(), None);
}
