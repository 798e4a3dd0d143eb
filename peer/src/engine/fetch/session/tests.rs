//! Tests of the session against simulated sources and a simulated writer, in virtual time.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use shared::peer::FileStat;
use shared::{ContentHash, GroupLayout, GroupSet};

use super::*;
use crate::engine::ErrorKind;
use crate::engine::fetch::FetchDestination;
use crate::engine::fetch::destination::FileTarget;
use crate::engine::fetch::plan::{FetchPlan, WorkItem};
use crate::net::LinkError;

/// The time that one step takes.
const STEP: Duration = Duration::from_millis(100);
/// Steps after which a fetch that hasn't ended hangs.
const MAX_STEPS: u32 = 20_000;

/// The behaviour of one simulated source; the first one owns the names.
#[derive(Debug, Clone)]
struct Behaviour {
    /// Groups per step.
    rate: u32,
    /// The files that it has.
    files: HashSet<FileNo>,
    /// Each so-manieth group is corrupt; 0: none.
    lie_every: u32,
    /// It goes after so many groups, and is back after so many steps, if at all.
    dies_after: Option<u32>,
    back_after: Option<u32>,
}

#[derive(Debug, Clone)]
struct Scene {
    /// Groups of each file.
    sizes: Vec<u64>,
    behaviours: Vec<Behaviour>,
    /// Files whose content changes at the owner after so many groups were delivered in all.
    changes: BTreeMap<FileNo, u32>,
    /// Files that the writer fails to write.
    broken: HashSet<FileNo>,
}

/// A source under way.
#[derive(Debug)]
struct SimulatedSource {
    user: UserName,
    behaviour: Behaviour,
    number: Option<SourceNo>,
    generation: u32,
    is_connected: bool,
    /// The step at which it can be dialled again; `None`: now, unless `is_dead`.
    down_until: Option<u32>,
    is_dead: bool,
    delivered: u32,
}

/// The writer's side of a file.
#[derive(Debug, Default, Clone)]
struct SimulatedFile {
    present: Vec<bool>,
    is_open: bool,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Heard {
    /// The outcome of each file by its number: true for a placed one.
    finished: BTreeMap<FileNo, Vec<(bool, u64)>>,
    banned: HashSet<String>,
}

fn user(index: usize) -> UserName {
    format!("user{index}").parse().unwrap()
}

fn job(file: FileNo, groups: u64, version: u32) -> FileJob {
    // A group less a byte at the end: sizes that are no multiple of a group.
    let layout = GroupLayout::of((groups << 20) - 1).unwrap();
    let stat = FileStat::new(format!("f{file}").parse().unwrap(), content(file, version), &layout);
    FileJob { owner: user(0), stat, layout, target: None, reported_no: file, earlier_rounds: EarlierRounds::default() }
}

fn content(file: FileNo, version: u32) -> ContentHash {
    ContentHash::of(format!("{file} in version {version}").as_bytes())
}

fn request() -> FetchRequest {
    let destination = FetchDestination::Folder("here".into());
    FetchRequest { streams: 1, ..FetchRequest::new(user(0).into(), Vec::new(), destination, Duration::from_secs(10)) }
}

/// Everything around the session.
struct Simulation<'a> {
    scene: &'a Scene,
    session: FetchSession<'a>,
    plan: Arc<SharedPlan>,
    jobs: Arc<Vec<FileJob>>,
    files: Vec<SimulatedFile>,
    sources: Vec<SimulatedSource>,
    excluded: HashSet<UserName>,
    redials: Vec<(SourceNo, UserName, u32)>,
    /// Requests for a search, and the step at which it is completed.
    search: Option<(u64, u32)>,
    begin: Instant,
    step: u32,
    delivered: u32,
}

impl<'a> Simulation<'a> {
    fn new(scene: &'a Scene, request: &'a FetchRequest, events: crate::engine::fetch::FetchEventHandler<'a>) -> Self {
        let source = |(index, behaviour): (usize, &Behaviour)| SimulatedSource {
            user: user(index),
            behaviour: behaviour.clone(),
            number: None,
            generation: 0,
            is_connected: false,
            down_until: None,
            is_dead: false,
            delivered: 0,
        };
        Self {
            scene,
            session: FetchSession::new(request, FetchReportBuilder::new(events)),
            plan: Arc::new(SharedPlan::default()),
            jobs: Arc::default(),
            files: Vec::new(),
            sources: scene.behaviours.iter().enumerate().map(source).collect(),
            excluded: HashSet::new(),
            redials: Vec::new(),
            search: None,
            begin: Instant::now(),
            step: 0,
            delivered: 0,
        }
    }

    fn now(&self) -> Instant {
        self.begin + STEP * self.step
    }

    /// Runs all rounds; returns false if the fetch never ends.
    fn run(&mut self) -> bool {
        let mut jobs: Vec<FileJob> =
            self.scene.sizes.iter().enumerate().map(|(file, groups)| job(file, *groups, 0)).collect();
        while !jobs.is_empty() {
            self.begin_round(jobs);
            let end = loop {
                self.perform_actions();
                if let Some(end) = self.session.round_end() {
                    break end;
                }
                self.step += 1;
                if self.step > MAX_STEPS {
                    return false;
                }
                self.answer_dials();
                self.answer_search();
                for index in 0..self.sources.len() {
                    self.serve(index);
                }
            };
            self.session.begin_drain();
            let error = match end {
                RoundEnd::Failed(error) => Some(error),
                RoundEnd::AllSettled | RoundEnd::BrokenStream => None,
            };
            let changed = self.session.end_round(error.as_ref());
            let owner_is_banned = self.session.is_banned(&user(0));
            jobs = Vec::new();
            for ChangedFile { job: old, .. } in changed {
                let file = old.reported_no;
                if owner_is_banned {
                    self.session.report.fail_job(&old, Error::Integrity("the owner told a lie".to_owned()));
                    continue;
                }
                let FileJob { owner, stat, layout, .. } = job(file, self.scene.sizes[file], self.version(file));
                let local = stat.name.clone();
                jobs.extend(self.session.refetch(old, ResolvedFile { owner, stat, layout, local }));
            }
        }
        true
    }

    fn begin_round(&mut self, jobs: Vec<FileJob>) {
        self.jobs = Arc::new(jobs);
        let plan = FetchPlan::new(self.jobs.iter().map(|job| job.layout), 1, false);
        self.plan = Arc::new(SharedPlan::new(plan));
        self.files = vec![SimulatedFile::default(); self.jobs.len()];
        self.excluded.clear();
        self.redials.clear();
        self.search = None;
        for source in &mut self.sources {
            (source.number, source.is_connected) = (None, false);
        }
        let (owner, unreachable) = match self.is_reachable(0) {
            true => (vec![(user(0), self.source_files(0))], None),
            false => (Vec::new(), Some(FailureReason::of(&Error::Offline(user(0))))),
        };
        self.session.begin_round(self.jobs.clone(), self.plan.clone(), owner, unreachable, self.now());
    }

    /// The version of a file that its owner has now.
    fn version(&self, file: FileNo) -> u32 {
        u32::from(self.scene.changes.get(&file).is_some_and(|after| self.delivered >= *after))
    }

    fn is_reachable(&self, index: usize) -> bool {
        let source = &self.sources[index];
        !source.is_dead && source.down_until.is_none_or(|step| self.step >= step)
    }

    fn source_files(&self, index: usize) -> SourceFiles {
        let has = &self.sources[index].behaviour.files;
        let files = (0..self.jobs.len()).filter(|file| index == 0 || has.contains(&self.jobs[*file].reported_no));
        SourceFiles { files: files.collect(), partial_files: Vec::new() }
    }

    fn handle(&mut self, event: SessionEvent) {
        let now = self.now();
        self.session.handle(event, now);
        self.perform_actions();
    }

    fn perform_actions(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                SessionAction::AbandonFile { file } => self.files[file].is_closed = true,
                SessionAction::StartSource { source, user, generation } => {
                    let known = self.sources.iter_mut().find(|known| known.user == user).unwrap();
                    (known.number, known.generation, known.is_connected) = (Some(source), generation, true);
                }
                SessionAction::RefuseSource { .. } => {}
                SessionAction::CloseLink { source, .. } => {
                    self.sources.iter_mut().filter(|known| known.number == Some(source)).for_each(|known| {
                        known.is_connected = false;
                    });
                }
                SessionAction::Redial { source, user, timeout } => {
                    let steps = u32::try_from(timeout.as_millis() / STEP.as_millis()).unwrap();
                    self.redials.push((source, user, self.step + steps));
                }
                SessionAction::Search { requested } => self.search = Some((requested, self.step + 3)),
                SessionAction::ExcludeUser { user } => drop(self.excluded.insert(user)),
                SessionAction::ReadmitUser { user } => drop(self.excluded.remove(&user)),
                SessionAction::CopyLocally { .. } => panic!("files without a target are not copied"),
            }
        }
    }

    fn answer_dials(&mut self) {
        for (source, user, until) in std::mem::take(&mut self.redials) {
            let index = self.sources.iter().position(|known| known.user == user).unwrap();
            if self.is_reachable(index) {
                self.handle(SessionEvent::Redialled { source });
            } else if self.step >= until {
                self.handle(SessionEvent::RedialFailed { source, error: Error::Offline(user) });
            } else {
                self.redials.push((source, user, until));
            }
        }
    }

    fn answer_search(&mut self) {
        let Some((requested, _)) = self.search.filter(|(_, step)| self.step >= *step) else { return };
        self.search = None;
        for index in 1..self.sources.len() {
            let user = self.sources[index].user.clone();
            if self.excluded.contains(&user) {
                continue;
            }
            let files = self.source_files(index);
            match self.is_reachable(index) {
                true if files.files.is_empty() => {}
                true => self.handle(SessionEvent::SourceFound { user, files }),
                false => {
                    let error = Error::Offline(user.clone());
                    self.handle(SessionEvent::SourceUnavailable { user, is_named: false, error });
                }
            }
        }
        self.handle(SessionEvent::SearchCompleted(requested));
    }

    /// Lets a source answer what it is asked for in one step.
    fn serve(&mut self, index: usize) {
        let mut left = self.sources[index].behaviour.rate;
        while left > 0 {
            let SimulatedSource { number: Some(source), is_connected: true, .. } = self.sources[index] else { return };
            let work = self.plan.lock().next_work(source, self.now());
            let Some(work) = work else { return };
            let (WorkItem::Manifest(file) | WorkItem::Run { file, .. }) = work;
            let no = self.jobs[file].reported_no;
            // Others keep the version that they have.
            if index == 0 && self.jobs[file].stat.hash != content(no, self.version(no)) {
                {
                    let mut plan = self.plan.lock();
                    plan.return_work(source, &work);
                    plan.remove_availability(source, file);
                }
                let (code, message) = (PeerErrorCode::Stale, "it changed".into());
                self.handle(SessionEvent::Download(DownloadEvent::FileUnavailable { source, file, code, message }));
                continue;
            }
            match work {
                WorkItem::Manifest(file) => {
                    left -= 1;
                    self.handle(SessionEvent::Download(DownloadEvent::FileRequested { file }));
                    if self.plan.lock().manifest_arrived(file) {
                        let present = vec![false; self.jobs[file].layout.group_count() as usize];
                        self.files[file] = SimulatedFile { present: present.clone(), is_open: true, is_closed: false };
                        let opened = WriterEvent::FileOpened { file, present, bytes: 0, partial_path: None };
                        self.handle(SessionEvent::Writer(opened));
                    }
                }
                WorkItem::Run { file, start, end } => {
                    if start == 0 {
                        self.handle(SessionEvent::Download(DownloadEvent::FileRequested { file }));
                    }
                    for group in start..end {
                        if self.dies_now(index) {
                            self.plan.lock().return_work(source, &WorkItem::Run { file, start: group, end });
                            let generation = self.sources[index].generation;
                            self.handle(SessionEvent::LinkLost {
                                source,
                                generation,
                                error: StreamError::Link(LinkError::Lost("gone".to_owned())),
                                is_link_open: false,
                            });
                            return;
                        }
                        left = left.saturating_sub(1);
                        self.plan.lock().group_delivered(source, file, group, self.now());
                        self.write(index, source, file, group);
                    }
                }
            }
        }
    }

    fn dies_now(&mut self, index: usize) -> bool {
        let step = self.step;
        let source = &mut self.sources[index];
        let dies = source.behaviour.dies_after.take_if(|groups| source.delivered >= *groups).is_some();
        if dies {
            source.is_connected = false;
            source.down_until = source.behaviour.back_after.map(|steps| step + steps);
            source.is_dead = source.down_until.is_none();
        }
        dies
    }

    /// Verifies a group and writes it.
    fn write(&mut self, index: usize, source: SourceNo, file: FileNo, group: u32) {
        self.delivered += 1;
        self.sources[index].delivered += 1;
        let layout = self.jobs[file].layout;
        let is_small = layout.group_count() == 1;
        let state = &mut self.files[file];
        if is_small && !state.is_open {
            *state = SimulatedFile { present: vec![false], is_open: true, is_closed: state.is_closed };
        }
        if state.is_closed || state.present[group as usize] {
            return;
        }
        let Behaviour { lie_every, .. } = self.sources[index].behaviour;
        if lie_every > 0 && self.sources[index].delivered.is_multiple_of(lie_every) {
            return self.handle(SessionEvent::Writer(WriterEvent::GroupCorrupt { file, group, source }));
        }
        if self.scene.broken.contains(&self.jobs[file].reported_no) {
            state.is_closed = true;
            let error = Error::Internal("a broken disk".to_owned());
            return self.handle(SessionEvent::Writer(WriterEvent::FileFailed { file, error }));
        }
        state.present[group as usize] = true;
        let is_whole = state.present.iter().all(|present| *present);
        state.is_closed = is_whole;
        let bytes = layout.group_len(group);
        self.handle(SessionEvent::Writer(WriterEvent::GroupVerified { file, bytes, source }));
        if is_whole {
            let outcome = FileOutcome::Done(format!("f{file}").into());
            self.handle(SessionEvent::Writer(WriterEvent::FileFinished { file, outcome }));
        }
    }
}

fn fetch(scene: &Scene) -> (bool, Heard, FetchReportSummary) {
    let mut heard = Heard::default();
    let request = request();
    let mut events = |event: FetchEvent<'_>| match event {
        FetchEvent::Finished { file: Some(file), report } => {
            let outcome = (matches!(report.outcome, FileOutcome::Done(_)), report.bytes_fetched);
            heard.finished.entry(file).or_default().push(outcome);
        }
        FetchEvent::SourceBanned { user, .. } => drop(heard.banned.insert(user.to_string())),
        _ => {}
    };
    let mut simulation = Simulation::new(scene, &request, &mut events);
    let ended = simulation.run();
    let report = simulation.session.report.build(&request, request.destination.clone(), None);
    let summary = FetchReportSummary { done: report.summary.done, failed: report.summary.failed };
    (ended, heard, summary)
}

#[derive(Debug, PartialEq, Eq)]
struct FetchReportSummary {
    done: usize,
    failed: usize,
}

fn honest(rate: u32, files: usize) -> Behaviour {
    Behaviour { rate, files: (0..files).collect(), lie_every: 0, dies_after: None, back_after: None }
}

fn scene(sizes: &[u64], behaviours: Vec<Behaviour>) -> Scene {
    Scene { sizes: sizes.to_vec(), behaviours, changes: BTreeMap::new(), broken: HashSet::new() }
}

#[test]
fn what_a_dead_owner_began_comes_from_another() {
    let owner = Behaviour { dies_after: Some(7), ..honest(2, 3) };
    let (ended, heard, summary) = fetch(&scene(&[1, 20, 3], vec![owner, honest(1, 3)]));
    assert!(ended && summary == FetchReportSummary { done: 3, failed: 0 }, "{heard:?}");
}

#[test]
fn a_fetch_ends_when_nobody_is_left() {
    let owner = Behaviour { dies_after: Some(7), ..honest(2, 2) };
    let (ended, heard, summary) = fetch(&scene(&[1, 20], vec![owner]));
    assert!(ended && summary == FetchReportSummary { done: 1, failed: 1 }, "{heard:?}");
}

#[test]
fn a_source_that_comes_back_in_time_goes_on() {
    let owner = Behaviour { dies_after: Some(7), back_after: Some(30), ..honest(2, 1) };
    let (ended, heard, summary) = fetch(&scene(&[20], vec![owner]));
    assert!(ended && summary == FetchReportSummary { done: 1, failed: 0 }, "{heard:?}");
}

#[test]
fn a_file_that_changes_once_comes_in_its_new_version() {
    let mut scene = scene(&[20, 1], vec![honest(2, 2)]);
    scene.changes.insert(0, 5);
    let (ended, heard, summary) = fetch(&scene);
    assert!(ended && summary == FetchReportSummary { done: 2, failed: 0 }, "{heard:?}");
    assert!(heard.finished[&0][0].1 > 20 << 20, "the bytes of the first version came as well: {heard:?}");
}

#[test]
fn a_file_that_is_put_aside_takes_back_all_that_was_shown_of_it() {
    let (request, now, group) = (request(), Instant::now(), 1 << 20);
    let (mut shown, mut taken_back) = (0, None);
    let mut events = |event: FetchEvent<'_>| match event {
        FetchEvent::Started { resumed: bytes, .. } | FetchEvent::Verified { bytes, .. } => shown += bytes,
        FetchEvent::Paused { bytes, .. } => taken_back = Some(bytes),
        _ => {}
    };
    let mut session = FetchSession::new(&request, FetchReportBuilder::new(&mut events));
    let jobs = Arc::new(vec![job(0, 10, 0)]);
    let plan = Arc::new(SharedPlan::new(FetchPlan::new([jobs[0].layout], 1, false)));
    let files = SourceFiles { files: HashSet::from([0]), partial_files: Vec::new() };
    session.begin_round(jobs, plan.clone(), vec![(user(0), files)], None, now);
    session.handle(SessionEvent::SearchCompleted(1), now);
    let opened = WriterEvent::FileOpened { file: 0, present: vec![false; 10], bytes: group, partial_path: None };
    let zeros = WriterEvent::ZerosVerified { file: 0, bytes: 2 * group };
    let copied = WriterEvent::GroupVerified { file: 0, bytes: 3 * group, source: LOCAL_SOURCE };
    let fetched = WriterEvent::GroupVerified { file: 0, bytes: group, source: 0 };
    for event in [opened, zeros, copied, fetched] {
        session.handle(SessionEvent::Writer(event), now);
    }
    plan.lock().remove_availability(0, 0);
    let (source, file, code, message) = (0, 0, PeerErrorCode::Stale, "it changed".into());
    session.handle(SessionEvent::Download(DownloadEvent::FileUnavailable { source, file, code, message }), now);
    drop(session);
    assert_eq!((shown, taken_back), (7 * group, Some(7 * group)));
}

/// A session in the middle of a round, with its plan, and one source of a file of ten groups.
fn session_of_one<'a>(
    request: &'a FetchRequest,
    report: FetchReportBuilder<'a>,
) -> (FetchSession<'a>, Arc<SharedPlan>) {
    let mut session = FetchSession::new(request, report);
    let jobs = Arc::new(vec![job(0, 10, 0)]);
    let plan = Arc::new(SharedPlan::new(FetchPlan::new([jobs[0].layout], 1, false)));
    let files = SourceFiles { files: HashSet::from([0]), partial_files: Vec::new() };
    session.begin_round(jobs, plan.clone(), vec![(user(0), files)], None, Instant::now());
    (session, plan)
}

/// Takes what the session asks for until it asks for nothing.
fn actions_of(session: &mut FetchSession<'_>) -> Vec<SessionAction> {
    std::iter::from_fn(|| session.poll_action()).collect()
}

fn lost_link() -> SessionEvent {
    let error = StreamError::Link(LinkError::Lost("gone".to_owned()));
    SessionEvent::LinkLost { source: 0, generation: 1, error, is_link_open: false }
}

#[test]
fn a_source_found_again_with_a_part_is_asked_for_no_more_than_that() {
    let (request, now) = (request(), Instant::now());
    let mut ignore = |_: FetchEvent<'_>| {};
    let (mut session, plan) = session_of_one(&request, FetchReportBuilder::new(&mut ignore));
    session.handle(lost_link(), now);
    session.handle(SessionEvent::RedialFailed { source: 0, error: Error::Offline(user(0)) }, now);
    let mut groups = GroupSet::empty(10);
    groups.insert(3);
    let files = SourceFiles { files: HashSet::from([0]), partial_files: vec![(0, groups)] };
    session.handle(SessionEvent::SourceFound { user: user(0), files }, now);
    assert_eq!(plan.lock().partial_files(0), [0], "nobody would look at which groups it gets");
    assert_eq!(plan.lock().next_work(0, now), Some(WorkItem::Manifest(0)));
    plan.lock().manifest_arrived(0);
    plan.lock().file_opened(0, &[false; 10]);
    assert_eq!(plan.lock().next_work(0, now), Some(WorkItem::Run { file: 0, start: 3, end: 4 }));
    assert_eq!(plan.lock().next_work(0, now), None);
    // Found once more, with all of it.
    session.handle(
        SessionEvent::LinkLost { source: 0, generation: 2, error: StreamError::Truncated, is_link_open: false },
        now,
    );
    let files = SourceFiles { files: HashSet::from([0]), partial_files: Vec::new() };
    session.handle(SessionEvent::SourceFound { user: user(0), files }, now);
    assert!(plan.lock().partial_files(0).is_empty());
}

#[test]
fn whoever_is_banned_while_being_redialled_stays_excluded() {
    let (request, now) = (request(), Instant::now());
    let mut ignore = |_: FetchEvent<'_>| {};
    let (mut session, _plan) = session_of_one(&request, FetchReportBuilder::new(&mut ignore));
    session.handle(lost_link(), now);
    session.handle(SessionEvent::Writer(WriterEvent::GroupCorrupt { file: 0, group: 1, source: 0 }), now);
    actions_of(&mut session);
    session.handle(SessionEvent::RedialFailed { source: 0, error: Error::Offline(user(0)) }, now);
    assert_eq!(actions_of(&mut session), []);
    session.handle(SessionEvent::SearchCompleted(100), now);
    let error = session.report.first_error().unwrap();
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
}

#[test]
fn few_copies_go_on_at_a_time_whatever_number_of_names_a_content_has() {
    let (request, now, home) = (request(), Instant::now(), tempfile::tempdir().unwrap());
    let mut ignore = |_: FetchEvent<'_>| {};
    let mut session = FetchSession::new(&request, FetchReportBuilder::new(&mut ignore));
    let same = |file: FileNo| {
        let target = Some(FileTarget::alone(home.path(), &format!("f{file}"), user(0)));
        let FileJob { stat: FileStat { hash, .. }, .. } = job(0, 2, 0);
        let named = job(file, 2, 0);
        FileJob { stat: FileStat { hash, ..named.stat }, target, ..named }
    };
    let jobs = Arc::new((0..5).map(same).collect::<Vec<_>>());
    let plan = Arc::new(SharedPlan::new(FetchPlan::new(jobs.iter().map(|job| job.layout), 1, false)));
    let files = SourceFiles { files: (0..5).collect(), partial_files: Vec::new() };
    session.begin_round(jobs, plan, vec![(user(0), files)], None, now);
    actions_of(&mut session);
    let mut copies_after = |event: SessionEvent| -> Vec<FileNo> {
        session.handle(event, now);
        let copied = |action| match action {
            SessionAction::CopyLocally { of: 0, copy, .. } => copy,
            action => panic!("{action:?}"),
        };
        actions_of(&mut session).into_iter().map(copied).collect()
    };
    let placed = |file: FileNo| {
        let outcome = FileOutcome::Done(format!("f{file}").into());
        SessionEvent::Writer(WriterEvent::FileFinished { file, outcome })
    };
    assert_eq!(copies_after(placed(0)), [1, 2]);
    assert_eq!(copies_after(SessionEvent::CopyEnded { file: 1, outcome: CopyOutcome::Sent }), [3]);
    assert!(copies_after(placed(1)).is_empty());
    let outcome = CopyOutcome::NotBegun(Error::Internal("gone".to_owned()));
    assert_eq!(copies_after(SessionEvent::CopyEnded { file: 2, outcome }), [4]);
    assert!(copies_after(SessionEvent::CopyEnded { file: 3, outcome: CopyOutcome::Sent }).is_empty());
}

fn behaviour(files: usize) -> impl Strategy<Value = Behaviour> {
    let has = proptest::collection::hash_set(0..files, 0..=files);
    let lies = prop_oneof![3 => Just(0), 1 => 1..20_u32];
    let dies = proptest::option::weighted(0.4, 0..60_u32);
    let back = proptest::option::weighted(0.5, 1..200_u32);
    (1..8_u32, has, lies, dies, back).prop_map(|(rate, files, lie_every, dies_after, back_after)| Behaviour {
        rate,
        files,
        lie_every,
        dies_after,
        back_after,
    })
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let sizes = proptest::collection::vec(prop_oneof![Just(1), 2..30_u64], 1..8);
    sizes.prop_flat_map(|sizes| {
        let count = sizes.len();
        let behaviours = proptest::collection::vec(behaviour(count), 1..5);
        let changes = proptest::collection::btree_map(0..count, 0..60_u32, 0..2);
        let broken = proptest::collection::hash_set(0..count, 0..2);
        (Just(sizes), behaviours, changes, broken).prop_map(|(sizes, behaviours, changes, broken)| Scene {
            sizes,
            behaviours,
            changes,
            broken,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 256 } else { 4096 }))]

    /// Whatever the sources and the disk do, the fetch ends and accounts for each file once.
    #[test]
    fn every_fetch_ends_with_one_account_of_each_file(scene in any_scene()) {
        let (ended, heard, summary) = fetch(&scene);
        prop_assert!(ended, "it hangs");
        prop_assert_eq!(heard.finished.len(), scene.sizes.len(), "{:?}", heard);
        for (file, outcomes) in &heard.finished {
            prop_assert_eq!(outcomes.len(), 1, "file {} is settled more than once: {:?}", file, outcomes);
            let size = (scene.sizes[*file] << 20) - 1;
            let (is_done, bytes) = outcomes[0];
            prop_assert!(!is_done || bytes >= size, "file {} has {} of {} bytes", file, bytes, size);
            prop_assert!(!is_done || scene.changes.contains_key(file) || bytes == size, "file {}: {}", file, bytes);
            prop_assert!(!(is_done && scene.broken.contains(file)));
        }
        prop_assert_eq!(summary.done + summary.failed, scene.sizes.len());
        // Nobody honest is banned.
        for banned in &heard.banned {
            let index: usize = banned.trim_start_matches("user").parse().unwrap();
            prop_assert!(scene.behaviours[index].lie_every > 0, "{} is honest", banned);
        }
    }

    /// An honest owner who stays is enough, whatever the others do.
    #[test]
    fn an_honest_owner_who_stays_is_enough(mut scene in any_scene()) {
        let count = scene.sizes.len();
        scene.behaviours[0] = honest(scene.behaviours[0].rate, count);
        let (ended, heard, _) = fetch(&scene);
        prop_assert!(ended, "it hangs");
        for (file, outcomes) in &heard.finished {
            prop_assert_eq!(outcomes[0].0, !scene.broken.contains(file), "file {}: {:?}", file, heard);
        }
    }
}
