//! The thread that writes groups to their partials or, in order, to a stream.

use std::collections::{BTreeMap, HashMap};

use shared::content::Manifest;
use shared::{GroupSet, Layout, ZeroRuns};
use tokio::sync::mpsc;

use super::check::{Checked, Right};
use super::{Desk, FileEnd, Group, Outcome, Sink, with_descriptors};
use crate::engine::Error;
use crate::engine::fetch::FileNo;
use crate::engine::fetch::partial::{Partial, Whole, Written};

/// What is written to the disk at once while people talk.
const SYNCED_AT_ONCE: usize = 4 << 20;

pub(super) fn run(
    desk: Desk,
    sink: Sink,
    mut checked: mpsc::Receiver<Checked>,
    to_finish: mpsc::Sender<(FileNo, Whole)>,
) {
    let mut writer = Writer { desk, sink, targets: HashMap::new(), to_finish, unsynced: 0 };
    while let Some(job) = checked.blocking_recv() {
        match job {
            Checked::Open { file, .. } if writer.desk.is_closed(file) => {}
            Checked::Open { file, manifest, zeros } => writer.open(file, &manifest, &zeros),
            Checked::Zeros { file, .. } if writer.desk.is_closed(file) => {}
            Checked::Zeros { file, groups } => writer.zeros(file, &groups),
            // Told from here, so that it comes after the word that the file is open.
            Checked::NotZeros { file, group, source } => writer.desk.tell(Outcome::Wrong { file, group, source }),
            Checked::Group(right) => {
                if writer.desk.is_closed(right.get().file) {
                    writer.desk.buffers.give_back(right.into_buffer());
                } else {
                    writer.group(right);
                }
            }
            Checked::Abandon { file } => writer.abandon(file),
        }
    }
    // Those left were interrupted: what could serve a later attempt stays.
    for target in writer.targets.into_values() {
        if let Target::Disk(partial) = target {
            partial.abandon();
        }
    }
}

struct Writer {
    desk: Desk,
    sink: Sink,
    targets: HashMap<FileNo, Target>,
    to_finish: mpsc::Sender<(FileNo, Whole)>,
    /// Bytes that were written since the disk was last waited for.
    unsynced: usize,
}

/// Where a file's groups go.
enum Target {
    Disk(Box<Partial>),
    /// In order, and nowhere else.
    Stream(InOrder),
}

/// The groups of a file that goes to a stream.
#[derive(Debug, Default)]
struct InOrder {
    next: u32,
    /// What came before its turn: no more than the plan's window.
    early: BTreeMap<u32, Right>,
    /// Groups that are zeros; `None` for a file of one group.
    zeros: Option<(Layout, GroupSet)>,
}

impl Writer {
    fn open(&mut self, file: FileNo, manifest: &Manifest, zeros: &ZeroRuns) {
        match with_descriptors(|| self.target(file, Some((manifest, zeros)))) {
            Ok(target) => {
                let (mut present, bytes, whole, part) = match &target {
                    Target::Disk(partial) => {
                        let part = Some(partial.part_path());
                        (partial.present().to_vec(), partial.present_bytes(), partial.is_whole(), part)
                    }
                    Target::Stream(_) => (Vec::new(), 0, false, None),
                };
                self.targets.insert(file, target);
                if !zeros.is_empty() {
                    let groups = self.desk.order(file).map_or(0, |order| order.layout.groups());
                    present.resize(usize::try_from(groups).unwrap_or(0), false);
                    (0..).zip(&mut present).for_each(|(group, there)| *there |= zeros.contains(group));
                }
                self.desk.tell(Outcome::Opened { file, present, bytes, part });
                if whole {
                    self.finish(file);
                }
            }
            Err(error) => self.fail(file, error),
        }
    }

    fn target(&self, file: FileNo, known: Option<(&Manifest, &ZeroRuns)>) -> Result<Target, Error> {
        let order = self.desk.order(file)?;
        Ok(match &order.spot {
            Some(spot) => {
                let mut hashed = |bytes| self.desk.tell(Outcome::Hashed { file, bytes });
                Target::Disk(Box::new(Partial::open(spot, &order.stat, order.layout, known, &mut hashed)?))
            }
            None => {
                let zeros = known.map(|_| (order.layout, GroupSet::none(order.layout.groups())));
                Target::Stream(InOrder { zeros, ..InOrder::default() })
            }
        })
    }

    fn group(&mut self, right: Right) {
        let Group { file, source, ref bytes, .. } = *right.get();
        let bytes = bytes.len();
        let written = self.write(file, right);
        if matches!(written, Ok(Written::Some | Written::Last)) {
            self.spread(file, bytes);
            self.desk.tell(Outcome::Verified { file, bytes: bytes as u64, source });
        }
        match written {
            Ok(Written::Last) => self.finish(file),
            Ok(Written::Some | Written::Twice) => {}
            Err(error) => {
                self.abandon(file);
                self.fail(file, error);
            }
        }
    }

    /// Takes groups that are zeros.
    fn zeros(&mut self, file: FileNo, groups: &[u32]) {
        for group in groups {
            let Ok(bytes) = self.desk.order(file).map(|order| order.layout.len_of(*group)) else { return };
            let written = match self.targets.get_mut(&file) {
                Some(Target::Disk(partial)) => partial.write_zeros(*group),
                Some(Target::Stream(stream)) => stream.take_zeros(*group, &self.desk, &mut self.sink),
                None => Ok(Written::Twice),
            };
            if matches!(written, Ok(Written::Some | Written::Last)) {
                self.desk.tell(Outcome::Zeros { file, bytes });
            }
            match written {
                Ok(Written::Last) => self.finish(file),
                Ok(Written::Some | Written::Twice) => {}
                Err(error) => {
                    self.abandon(file);
                    return self.fail(file, error);
                }
            }
        }
    }

    fn write(&mut self, file: FileNo, right: Right) -> Result<Written, Error> {
        let groups = self.desk.order(file)?.layout.groups();
        if groups == 1 && !self.targets.contains_key(&file) {
            let target = with_descriptors(|| self.target(file, None))?;
            self.targets.insert(file, target);
        }
        let Group { group, ref bytes, .. } = *right.get();
        let written = match self.targets.get_mut(&file) {
            Some(Target::Disk(partial)) => partial.write(group, bytes),
            Some(Target::Stream(stream)) => return stream.take(right, groups, &self.desk, &mut self.sink),
            None => Ok(Written::Twice),
        };
        self.desk.buffers.give_back(right.into_buffer());
        written
    }

    /// While people talk, each of whose messages waits for the disk, it never has much to write at once.
    fn spread(&mut self, file: FileNo, bytes: usize) {
        self.unsynced += bytes;
        if self.unsynced < SYNCED_AT_ONCE || !self.desk.courtesy.is_due() {
            return;
        }
        self.unsynced = 0;
        if let Some(Target::Disk(partial)) = self.targets.get(&file) {
            partial.sync();
        }
    }

    fn close(&mut self, file: FileNo) -> Option<Target> {
        self.desk.close(file);
        self.targets.remove(&file)
    }

    fn abandon(&mut self, file: FileNo) {
        if let Some(Target::Disk(partial)) = self.close(file) {
            partial.abandon();
        }
    }

    fn finish(&mut self, file: FileNo) {
        match self.close(file) {
            // Fails only when that thread did, which its end tells.
            Some(Target::Disk(partial)) => drop(self.to_finish.blocking_send((file, partial.into_whole()))),
            Some(Target::Stream(_)) => self.desk.tell(Outcome::Finished { file, end: FileEnd::Streamed }),
            None => {}
        }
    }

    fn fail(&self, file: FileNo, error: Error) {
        self.desk.tell(Outcome::Failed { file, error });
    }
}

impl InOrder {
    fn take(&mut self, right: Right, groups: u32, desk: &Desk, sink: &mut Sink) -> Result<Written, Error> {
        let group = right.get().group;
        if group < self.next || self.early.contains_key(&group) {
            desk.buffers.give_back(right.into_buffer());
            return Ok(Written::Twice);
        }
        self.early.insert(group, right.without_room());
        self.write_out(groups, desk, sink)
    }

    fn take_zeros(&mut self, group: u32, desk: &Desk, sink: &mut Sink) -> Result<Written, Error> {
        let Some((layout, zeros)) = &mut self.zeros else { return Ok(Written::Twice) };
        if group < self.next || zeros.contains(group) {
            return Ok(Written::Twice);
        }
        zeros.insert(group);
        let groups = layout.groups();
        self.write_out(groups, desk, sink)
    }

    /// Writes what has its turn.
    fn write_out(&mut self, groups: u32, desk: &Desk, sink: &mut Sink) -> Result<Written, Error> {
        loop {
            if let Some(right) = self.early.remove(&self.next) {
                sink.write(&right.get().bytes, &desk.outcomes)?;
                desk.buffers.give_back(right.into_buffer());
            } else if let Some((layout, _)) = self.zeros.as_ref().filter(|(_, zeros)| zeros.contains(self.next)) {
                sink.write_zeros(layout.len_of(self.next), &desk.outcomes)?;
            } else {
                break;
            }
            self.next += 1;
        }
        Ok(if self.next == groups { Written::Last } else { Written::Some })
    }
}
