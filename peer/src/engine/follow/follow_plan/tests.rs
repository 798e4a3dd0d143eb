//! Properties of the plan over a source and a copy that change at random.

use proptest::prelude::*;

use super::*;

/// A copy in memory: contents and times by name.
#[derive(Debug, Clone, Default)]
struct ModelCopy {
    files: BTreeMap<FileName, (Vec<u8>, i64)>,
    records: BTreeMap<FileName, FollowRecord>,
    trash: Vec<Vec<u8>>,
    clock: i64,
}

impl FollowedDisk for ModelCopy {
    fn look(&mut self, name: &FileName) -> Result<LocalEntry, Error> {
        Ok(self.files.get(name).map_or(LocalEntry::Missing, |(content, mtime_ns)| {
            LocalEntry::File(FileStamp { size: content.len() as u64, mtime_ns: *mtime_ns })
        }))
    }

    fn hash(&mut self, name: &FileName) -> Result<Option<ContentHash>, Error> {
        Ok(self.files.get(name).map(|(content, _)| ContentHash::of(content)))
    }
}

impl ModelCopy {
    fn plan(&self, source: &ListedState, deletes: bool) -> FollowPlan {
        let rules = FollowRules { deletes, recent_removals: 0 };
        plan_follow(source, &self.records, rules, &mut self.clone()).unwrap()
    }

    fn write(&mut self, name: &FileName, content: Vec<u8>) {
        self.clock += 1;
        self.files.insert(name.clone(), (content, self.clock));
    }

    /// Places a content, as the executor does: what may not be replaced is kept under another name.
    fn place(&mut self, PlannedFetch { name, replaces }: &PlannedFetch, content: &[u8]) {
        if let LocalEntry::File(stamp) = self.clone().look(name).unwrap()
            && Some(stamp) != *replaces
        {
            let kept = self.files.remove(name).unwrap();
            let free = (1..).map(|number| name.numbered(number).unwrap());
            let free = free.into_iter().find(|name| !self.files.contains_key(name)).unwrap();
            self.files.insert(free, kept);
        }
        self.write(name, content.to_vec());
        self.record(name, content);
    }

    fn record(&mut self, name: &FileName, content: &[u8]) {
        let (size, mtime_ns) = (content.len() as u64, self.files[name].1);
        let file = RecordedFile { size, mtime_ns, hash: ContentHash::of(content), is_placed: true };
        let record = FollowRecord { file: Some(file), pending: None, consent: RemovalConsent::Unasked };
        self.records.insert(name.clone(), record);
    }

    /// Carries a plan out, up to `steps` steps: a stop in the middle leaves the rest undone.
    fn apply(&mut self, plan: &FollowPlan, contents: &BTreeMap<FileName, Vec<u8>>, steps: usize) {
        for (name, record) in &plan.records {
            match record {
                Some(record) => drop(self.records.insert(name.clone(), record.clone())),
                None => drop(self.records.remove(name)),
            }
        }
        let mut left = steps;
        let mut may = || {
            left = left.saturating_sub(1);
            left > 0
        };
        for (from, to, _) in &plan.moves {
            let hash = ContentHash::of(&self.files[from].0);
            let pending = FollowRecord { file: None, pending: Some(hash), consent: RemovalConsent::Unasked };
            self.records.insert(to.clone(), pending);
            if may() {
                let file = self.files.remove(from).unwrap();
                let content = file.0.clone();
                self.files.insert(to.clone(), file);
                // Else stopped between the move and its record.
                if may() {
                    self.records.remove(from);
                    self.record(to, &content);
                }
            }
        }
        for (name, _) in &plan.removals {
            if may() {
                self.trash.push(self.files.remove(name).unwrap().0);
                self.records.remove(name);
            }
        }
        for fetch in &plan.fetches {
            let content = &contents[&fetch.name];
            let record = FollowRecord {
                pending: Some(ContentHash::of(content)),
                ..self.records.get(&fetch.name).cloned().unwrap_or(FollowRecord {
                    file: None,
                    pending: None,
                    consent: RemovalConsent::Unasked,
                })
            };
            self.records.insert(fetch.name.clone(), record.clone());
            if may() {
                self.place(fetch, content);
                // Stopped between the placing and its record.
                if !may() {
                    self.records.insert(fetch.name.clone(), record);
                }
            }
        }
    }
}

fn name(number: u8) -> FileName {
    format!("dir{}/file{number}.txt", number % 2).parse().unwrap()
}

#[derive(Debug, Clone)]
enum ModelStep {
    Write(u8, u8),
    Remove(u8),
    Rename(u8, u8),
    /// The source's disk is away: nothing is listed, and nothing said to be removed.
    Unplug,
    WriteHere(u8, u8),
    RemoveHere(u8),
    TouchHere(u8),
    /// A comparison that is stopped after so many steps.
    Compare(usize),
}

fn model_step() -> impl Strategy<Value = ModelStep> {
    prop_oneof![
        (0..8_u8, 0..4_u8).prop_map(|(name, content)| ModelStep::Write(name, content)),
        (0..8_u8).prop_map(ModelStep::Remove),
        (0..8_u8, 0..8_u8).prop_map(|(from, to)| ModelStep::Rename(from, to)),
        Just(ModelStep::Unplug),
        (0..8_u8, 0..2_u8).prop_map(|(name, content)| ModelStep::WriteHere(name, content)),
        (0..8_u8).prop_map(ModelStep::RemoveHere),
        (0..8_u8).prop_map(ModelStep::TouchHere),
        (0..12_usize).prop_map(ModelStep::Compare),
    ]
}

/// A source in memory, which says what was removed.
#[derive(Debug, Default)]
struct ModelSource {
    files: BTreeMap<FileName, Vec<u8>>,
    removed: BTreeSet<FileName>,
}

impl ModelSource {
    fn state(&self) -> ListedState {
        let files = self.files.iter().map(|(name, content)| (name.clone(), ContentHash::of(content))).collect();
        ListedState { files, removed: self.removed.clone() }
    }

    fn write(&mut self, name: &FileName, content: Vec<u8>) {
        self.removed.remove(name);
        self.files.insert(name.clone(), content);
    }

    fn remove(&mut self, name: &FileName) -> Option<Vec<u8>> {
        let content = self.files.remove(name)?;
        self.removed.insert(name.clone());
        Some(content)
    }
}

proptest! {
    /// Whatever happens on both sides, and wherever a comparison is stopped: what was written here is never lost, what the
    /// source did not remove is never removed, and in the end the copy is in step.
    #[test]
    fn nothing_is_lost_and_the_copy_ends_in_step(steps in proptest::collection::vec(model_step(), 0..60), deletes: bool) {
        let (mut source, mut copy) = (ModelSource::default(), ModelCopy::default());
        let mut own: Vec<Vec<u8>> = Vec::new();
        let mut unique = 0_u32;
        for step in steps {
            match step {
                ModelStep::Write(number, content) => source.write(&name(number), vec![content; 3]),
                ModelStep::Remove(number) => drop(source.remove(&name(number))),
                ModelStep::Rename(from, to) => {
                    if let Some(content) = source.remove(&name(from)) {
                        source.write(&name(to), content);
                    }
                }
                ModelStep::Unplug => {
                    let before = copy.files.clone();
                    let away = ListedState::default();
                    let plan = copy.plan(&away, deletes);
                    copy.apply(&plan, &source.files, usize::MAX);
                    prop_assert_eq!(&before, &copy.files, "absence removes nothing");
                }
                ModelStep::WriteHere(number, content) => {
                    unique += 1;
                    // Its own content, or now and then the source's.
                    let content = if content == 0 { vec![1; 3] } else { format!("own {unique}").into_bytes() };
                    let before = copy.files.get(&name(number)).map(|(content, _)| content.clone());
                    own.retain(|own| Some(own) != before.as_ref());
                    own.push(content.clone());
                    copy.write(&name(number), content);
                }
                ModelStep::RemoveHere(number) => {
                    if let Some((content, _)) = copy.files.remove(&name(number)) {
                        own.retain(|own| *own != content);
                    }
                }
                ModelStep::TouchHere(number) => {
                    copy.clock += 1;
                    let now = copy.clock;
                    if let Some((_, mtime_ns)) = copy.files.get_mut(&name(number)) {
                        *mtime_ns = now;
                    }
                }
                ModelStep::Compare(stop) => {
                    let plan = copy.plan(&source.state(), deletes);
                    prop_assert!(deletes || plan.removals.is_empty() && plan.moves.is_empty() && plan.asked == 0);
                    let gone = plan.removals.iter().map(|(name, file)| (name, file));
                    for (name, file) in gone.chain(plan.moves.iter().map(|(from, _, file)| (from, file))) {
                        prop_assert!(source.removed.contains(name) && file.is_placed);
                        let (content, mtime_ns) = &copy.files[name];
                        prop_assert_eq!((file.mtime_ns, file.hash), (*mtime_ns, ContentHash::of(content)));
                    }
                    copy.apply(&plan, &source.files, stop);
                    for content in own.iter().filter(|content| content.starts_with(b"own")) {
                        prop_assert!(copy.files.values().any(|(there, _)| there == content), "{content:?} is lost");
                    }
                }
            }
        }
        for _ in 0..3 {
            let plan = copy.plan(&source.state(), deletes);
            copy.apply(&plan, &source.files, usize::MAX);
            copy.records.values_mut().for_each(|record| {
                if record.consent == RemovalConsent::Asked {
                    record.consent = RemovalConsent::Given;
                }
            });
        }
        let last = copy.plan(&source.state(), deletes);
        prop_assert_eq!(last, FollowPlan::default(), "in step");
        for (name, content) in &source.files {
            let record = copy.records[name].file.unwrap();
            prop_assert_eq!(record.hash, ContentHash::of(content));
        }
        if deletes {
            let placed = copy.records.iter().filter(|(_, record)| record.file.is_some_and(|file| file.is_placed));
            for (name, _) in placed {
                prop_assert!(!source.removed.contains(name) || source.files.contains_key(name));
            }
        }
    }
}

/// A source with these files, and its copy in step.
fn in_step(count: u8) -> (ModelSource, ModelCopy) {
    let (mut source, mut copy) = (ModelSource::default(), ModelCopy::default());
    (0..count).for_each(|number| source.write(&name(number), vec![number; 5]));
    let plan = copy.plan(&source.state(), true);
    copy.apply(&plan, &source.files, usize::MAX);
    (source, copy)
}

#[test]
fn a_rename_is_a_move_however_many_files_it_concerns() {
    let (mut source, mut copy) = in_step(200);
    for number in 0..200 {
        let content = source.remove(&name(number)).unwrap();
        source.write(&format!("new/{number}").parse().unwrap(), content);
    }
    let plan = copy.plan(&source.state(), true);
    assert_eq!((plan.moves.len(), plan.removals.len(), plan.asked, plan.fetches.len()), (200, 0, 0, 0));
    copy.apply(&plan, &source.files, usize::MAX);
    assert!(source.files.iter().all(|(name, content)| copy.files[name].0 == *content));
}

#[test]
fn a_move_that_was_not_recorded_is_recognised() {
    let (mut source, mut copy) = in_step(1);
    let (from, to) = (name(0), name(9));
    let content = source.remove(&from).unwrap();
    source.write(&to, content.clone());
    let plan = copy.plan(&source.state(), true);
    assert_eq!(plan.moves.len(), 1);
    copy.apply(&plan, &source.files, 2);
    assert!(copy.files.contains_key(&to) && copy.records.contains_key(&from), "it was stopped behind the move");
    let again = copy.plan(&source.state(), true);
    assert_eq!((again.moves.len(), again.removals.len(), again.fetches.len()), (0, 0, 0));
    copy.apply(&again, &source.files, 9);
    let file = copy.records[&to].file.unwrap();
    assert!(file.is_placed && file.hash == ContentHash::of(&content), "the follow put it there");
    assert!(!copy.records.contains_key(&from));
}

#[test]
fn many_removals_are_asked_about_and_done_when_they_are_confirmed() {
    let (mut source, mut copy) = in_step(250);
    (0..101).for_each(|number| drop(source.remove(&name(number))));
    let plan = copy.plan(&source.state(), true);
    assert_eq!((plan.removals.len(), plan.asked), (0, 101));
    copy.apply(&plan, &source.files, usize::MAX);
    // What comes back is asked about no more; what goes besides is.
    source.write(&name(0), vec![0; 5]);
    let plan = copy.plan(&source.state(), true);
    assert_eq!((plan.removals.len(), plan.asked), (100, 0), "100 need no question");
    let (mut source, mut copy) = in_step(10);
    (0..5).for_each(|number| drop(source.remove(&name(number))));
    assert_eq!(copy.plan(&source.state(), true).removals.len(), 5, "half");
    source.remove(&name(5));
    let plan = copy.plan(&source.state(), true);
    assert_eq!((plan.removals.len(), plan.asked), (0, 6));
    copy.apply(&plan, &source.files, usize::MAX);
    copy.records.values_mut().filter(|record| record.consent == RemovalConsent::Asked).for_each(|record| {
        record.consent = RemovalConsent::Given;
    });
    source.remove(&name(6));
    let plan = copy.plan(&source.state(), true);
    assert_eq!((plan.removals.len(), plan.confirmed, plan.asked), (7, 6, 0), "one more of ten needs no question");
}

#[test]
fn many_small_removals_count_as_a_large_one() {
    let (mut source, copy) = in_step(200);
    (0..60).for_each(|number| drop(source.remove(&name(number))));
    let plan = |recent_removals| {
        let rules = FollowRules { deletes: true, recent_removals };
        plan_follow(&source.state(), &copy.records, rules, &mut copy.clone()).unwrap()
    };
    assert_eq!((plan(40).removals.len(), plan(40).asked), (60, 0));
    assert_eq!((plan(41).removals.len(), plan(41).asked), (0, 60));
}
