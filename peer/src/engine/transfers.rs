//! What is worth telling of the files of a fetch, and how often. Pure.
//!
//! A file that was told of as being on its way is always told of again when it ends. One that comes and goes between two
//! tellings is told of once, and of thousands of them only some: nobody reads a line a file.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::{FileName, UserName};

use super::event::{Course, Transfer, TransferState};
use super::fetch::{FetchEvent, FileNo, Report, Status};

/// Files that are followed at once; the others are told of when they end.
const FOLLOWED: usize = 32;
/// Files that are told of as they come.
const BURST: f64 = 200.0;
/// Files that are told of in a second, once that is used up.
const A_SECOND: f64 = 20.0;

/// The files of one fetch.
#[derive(Debug)]
pub struct Transfers {
    from: UserName,
    running: HashMap<FileNo, Running>,
    ended: Vec<Transfer>,
    followed: usize,
    allowance: f64,
    counted: Instant,
}

#[derive(Debug)]
struct Running {
    name: FileName,
    size: u64,
    bytes: u64,
    /// How many bytes it had when it was told of, if it was.
    told: Option<u64>,
}

impl Transfers {
    /// Of a fetch that begins.
    pub fn new(from: &UserName, now: Instant) -> Self {
        let (running, ended) = (HashMap::new(), Vec::new());
        Self { from: from.clone(), running, ended, followed: 0, allowance: BURST, counted: now }
    }

    /// Takes what the fetch reports; true when something may have to be told.
    pub fn take(&mut self, event: &FetchEvent<'_>, now: Instant) -> bool {
        match event {
            FetchEvent::Started { file, name, size, resumed } => {
                let running = Running { name: (*name).clone(), size: *size, bytes: *resumed, told: None };
                self.running.insert(*file, running);
                true
            }
            FetchEvent::Verified { file, bytes } => match self.running.get_mut(file) {
                Some(running) => {
                    running.bytes = running.bytes.saturating_add(*bytes).min(running.size);
                    running.told.is_some()
                }
                None => false,
            },
            FetchEvent::Paused { file, .. } => {
                if let Some(running) = self.running.remove(file).filter(|running| running.told.is_some()) {
                    self.followed -= 1;
                    self.ended.push(transfer(&self.from, &running, TransferState::Failed));
                }
                true
            }
            FetchEvent::Finished { file: Some(file), report } => self.finished(*file, report, now),
            _ => false,
        }
    }

    /// What is to be told now.
    pub fn due(&mut self, now: Instant) -> Vec<Transfer> {
        let mut due = std::mem::take(&mut self.ended);
        let mut fresh: Vec<FileNo> = Vec::new();
        for (no, running) in &mut self.running {
            match running.told {
                Some(told) if told != running.bytes => {
                    running.told = Some(running.bytes);
                    due.push(transfer(&self.from, running, TransferState::Running));
                }
                Some(_) => {}
                None => fresh.push(*no),
            }
        }
        fresh.sort_unstable();
        for no in fresh {
            if self.followed >= FOLLOWED || !self.is_allowed(now) {
                break;
            }
            if let Some(running) = self.running.get_mut(&no) {
                running.told = Some(running.bytes);
                due.push(transfer(&self.from, running, TransferState::Running));
                self.followed += 1;
            }
        }
        due
    }

    /// What is to be told at the end: what was on its way isn't any more.
    pub fn close(mut self) -> Vec<Transfer> {
        let told = self.running.values().filter(|running| running.told.is_some());
        self.ended.extend(told.map(|running| transfer(&self.from, running, TransferState::Failed)));
        self.ended
    }

    fn finished(&mut self, file: FileNo, report: &Report, now: Instant) -> bool {
        let Some(mut running) = self.running.remove(&file) else { return false };
        let is_told = running.told.is_some();
        self.followed -= usize::from(is_told);
        if !is_told && !self.is_allowed(now) {
            return false;
        }
        let state = match report.status {
            Status::Failed(_) | Status::BrokenOff(_) => TransferState::Failed,
            Status::Done(_) | Status::Renamed(_) | Status::Skipped(_) | Status::Streamed => TransferState::Done,
        };
        if state == TransferState::Done {
            running.bytes = running.size;
        }
        self.ended.push(transfer(&self.from, &running, state));
        true
    }

    /// Whether one more file may be told of.
    fn is_allowed(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.counted).min(Duration::from_secs(60));
        self.counted = now;
        self.allowance = since.as_secs_f64().mul_add(A_SECOND, self.allowance).min(BURST);
        let allowed = self.allowance >= 1.0;
        if allowed {
            self.allowance -= 1.0;
        }
        allowed
    }
}

fn transfer(from: &UserName, running: &Running, state: TransferState) -> Transfer {
    Transfer {
        peer: from.clone(),
        name: running.name.clone(),
        direction: Course::Down,
        bytes: running.bytes,
        size: running.size,
        state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Error;

    fn start(transfers: &mut Transfers, file: FileNo, size: u64, now: Instant) {
        let name = format!("file {file}").parse().unwrap();
        transfers.take(&FetchEvent::Started { file, name: &name, size, resumed: 0 }, now);
    }

    fn finish(transfers: &mut Transfers, file: FileNo, status: Status, now: Instant) {
        let (name, sources) = (format!("file {file}"), Vec::new());
        let report = Report { name, size: 10, status, bytes_fetched: 10, bytes_resumed: 0, sources };
        transfers.take(&FetchEvent::Finished { file: Some(file), report: &report }, now);
    }

    fn told(transfers: Vec<Transfer>) -> Vec<(u64, TransferState)> {
        transfers.into_iter().map(|transfer| (transfer.bytes, transfer.state)).collect()
    }

    #[test]
    fn a_file_is_told_of_when_it_begins_moves_and_ends() {
        let now = Instant::now();
        let mut transfers = Transfers::new(&"bob".parse().unwrap(), now);
        start(&mut transfers, 0, 10, now);
        assert_eq!(told(transfers.due(now)), [(0, TransferState::Running)]);
        assert_eq!(told(transfers.due(now)), [], "nothing is new");
        transfers.take(&FetchEvent::Verified { file: 0, bytes: 4 }, now);
        transfers.take(&FetchEvent::Verified { file: 0, bytes: 3 }, now);
        assert_eq!(told(transfers.due(now)), [(7, TransferState::Running)]);
        transfers.take(&FetchEvent::Verified { file: 0, bytes: 3 }, now);
        finish(&mut transfers, 0, Status::Streamed, now);
        assert_eq!(told(transfers.due(now)), [(10, TransferState::Done)], "the end is all that is left to tell");
        finish(&mut transfers, 1, Status::Streamed, now);
        assert_eq!(told(transfers.close()), [], "it never began");
    }

    #[test]
    fn what_is_broken_off_has_an_end_as_well() {
        let now = Instant::now();
        let mut transfers = Transfers::new(&"bob".parse().unwrap(), now);
        for file in 0..3 {
            start(&mut transfers, file, 10, now);
        }
        assert_eq!(transfers.due(now).len(), 3);
        finish(&mut transfers, 0, Status::Failed(Error::Interrupted), now);
        start(&mut transfers, 3, 10, now);
        assert_eq!(told(transfers.close()), [(0, TransferState::Failed); 3], "not the one that nobody heard of");
    }

    #[test]
    fn of_a_hundred_thousand_small_files_only_some_are_told_of() {
        let begun = Instant::now();
        let mut transfers = Transfers::new(&"bob".parse().unwrap(), begun);
        let mut lines: HashMap<FileName, Vec<TransferState>> = HashMap::new();
        let mut hear = |transfers: Vec<Transfer>| {
            transfers.into_iter().for_each(|told| lines.entry(told.name).or_default().push(told.state));
        };
        let mut now = begun;
        for file in 0..100_000 {
            start(&mut transfers, file, 10, now);
            if file >= 500 {
                finish(&mut transfers, file - 500, Status::Streamed, now);
            }
            if file % 400 == 0 {
                now += Duration::from_millis(100);
                hear(transfers.due(now));
            }
        }
        hear(transfers.close());
        let all: usize = lines.values().map(Vec::len).sum();
        assert!((400..2000).contains(&all), "{all} lines");
        for (name, states) in lines {
            assert_ne!(states.last(), Some(&TransferState::Running), "{name:?} never ends");
        }
    }
}
