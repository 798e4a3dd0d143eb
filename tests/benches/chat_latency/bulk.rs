//! Files, one after another, from each to the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tests::progress::{verified_bytes, wait_for_bytes};
use tests::{Invocation, Lab, User};

/// Each file: seconds at the bottleneck, so that most of the time is neither a beginning nor an end.
const SIZE: usize = 192 << 20;
const LOOK: Duration = Duration::from_millis(20);

/// Transfers under way.
pub(crate) struct Bulk {
    stop: Arc<AtomicBool>,
    ways: Vec<JoinHandle<u64>>,
}

/// What somebody has for the other.
pub(crate) fn file(lab: &Lab, user: &User<'_>) -> PathBuf {
    lab.file(name(user), SIZE)
}

impl Bulk {
    /// Begins to fetch; when it returns, data flow each way. Each pair: who, from whom.
    pub(crate) fn begin(lab: &Lab, ways: [(&User<'_>, &User<'_>); 2]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ways = ways.map(|(user, from)| {
            let into = lab.empty_folder(format!("of-{}", user.name()));
            let fetch = user.peer(["--json", "fetch", from.name(), &name(from), "-o"]).arg(&into);
            let first = fetch.clone().start();
            wait_for_bytes(&first, 1);
            let stop = stop.clone();
            std::thread::spawn(move || again_and_again(first, &fetch, &into, &stop))
        });
        Self { stop, ways: ways.into() }
    }

    /// Stops; tells how many bytes came.
    pub(crate) fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.ways.into_iter().map(|way| way.join().unwrap()).sum()
    }
}

fn again_and_again(mut fetching: tests::Process, fetch: &Invocation, into: &Path, stop: &AtomicBool) -> u64 {
    let mut bytes = 0;
    loop {
        let is_to_end = stop.load(Ordering::Relaxed);
        if is_to_end {
            fetching.kill();
        }
        if is_to_end || !fetching.is_running() {
            let said = fetching.finish();
            bytes += if said.code == 0 { SIZE as u64 } else { verified_bytes(&said.out()) };
            assert!(is_to_end || said.code == 0, "{said}");
            std::fs::remove_dir_all(into).and_then(|()| std::fs::create_dir(into)).unwrap();
            if is_to_end {
                return bytes;
            }
            fetching = fetch.clone().start();
        }
        // Two ends are waited for at once, the fetch's and the bench's, and neither has an event for the other.
        std::thread::sleep(LOOK);
    }
}

fn name(user: &User<'_>) -> String {
    format!("{}.bin", user.name())
}
