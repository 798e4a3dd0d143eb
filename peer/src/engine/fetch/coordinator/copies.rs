//! Files of one fetch with the same content: one of them comes over the network, the others are copied from it.
//!
//! A copy goes the way of every file: its groups are verified, it has a part, and it is put in place by itself.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::Layout;
use shared::safe_text::safe_path;

use super::{Reporter, Running};
use crate::engine::fetch::FileNo;
use crate::engine::fetch::plan::SourceNo;
use crate::engine::fetch::puller::Pull;
use crate::engine::fetch::writer::{Job, Order};
use crate::engine::share::{KeySearch, hash_file, unfollowed};
use crate::engine::{Error, blocking};
use crate::profile::FileHash;

/// Stands for a file of this fetch where others name a source.
pub(super) const LOCAL: SourceNo = SourceNo::MAX;
/// Smaller files come as quickly from the network as from the disk.
const WORTH_COPYING: u64 = 64 * 1024;

/// Files that wait for another one with the same content, by that one.
#[derive(Debug, Default)]
pub(super) struct Copies(HashMap<FileNo, VecDeque<FileNo>>);

/// How a copy ended.
#[derive(Debug)]
pub(super) enum Copied {
    /// All of it is with the writer.
    Sent,
    /// Nothing of it is: it can still come over the network.
    NotBegun(Error),
    Failed(Error),
}

impl Copies {
    /// The files that have the content of an earlier one.
    pub(super) fn among(orders: &[Order]) -> Self {
        let (mut first, mut copies) = (HashMap::new(), HashMap::<FileNo, VecDeque<FileNo>>::new());
        for (file, order) in orders.iter().enumerate() {
            if order.spot.is_none() || order.layout.size() < WORTH_COPYING {
                continue;
            }
            let leader = *first.entry(order.stat.hash).or_insert(file);
            if leader != file {
                copies.entry(leader).or_default().push_back(file);
            }
        }
        Self(copies)
    }

    /// All that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = FileNo> + '_ {
        self.0.values().flatten().copied()
    }

    /// Takes those that wait for `file`.
    fn take(&mut self, file: FileNo) -> VecDeque<FileNo> {
        self.0.remove(&file).unwrap_or_default()
    }
}

impl Running<'_> {
    /// A file is settled. Those that wait for it are copied from where it is, or the next of them is fetched instead.
    pub(super) fn pass_on(&mut self, file: FileNo, path: Option<&Path>, report: Reporter<'_>) {
        let mut waiting = self.copies.take(file);
        if let Some(path) = path {
            for copy in waiting {
                if self.shared.orders.get(copy).is_some_and(|order| order.layout.groups() == 1) {
                    self.start(copy, 0, report);
                }
                let (pull, from) = (self.shared.clone(), path.to_owned());
                self.copying.spawn(async move { (copy, self::copy(pull, file, copy, from).await) });
            }
        } else if let Some(next) = waiting.pop_front() {
            if !waiting.is_empty() {
                self.copies.0.insert(next, waiting);
            }
            self.release(next);
        }
    }

    /// A copy ended.
    pub(super) async fn copied(&mut self, file: FileNo, copied: Copied, report: Reporter<'_>) {
        match copied {
            Copied::Sent => {}
            Copied::NotBegun(why) => {
                tracing::info!("{} is fetched, not copied: {why}", self.name(file));
                self.release(file);
            }
            Copied::Failed(error) => self.fail(file, error, report).await,
        }
    }

    fn release(&mut self, file: FileNo) {
        self.shared.plan().release(file);
        self.shared.work.notify_waiters();
        self.released.push(file);
    }

    /// Gives up on those that were released when no source is left.
    pub(super) async fn check_released(&mut self, report: Reporter<'_>) {
        while let Some(file) = self.released.pop() {
            self.fail_if_stranded(file, report).await;
        }
    }
}

/// Sends the groups of `from`, where the file `of` has been put, to the writer as those of `copy`.
async fn copy(pull: Arc<Pull>, of: FileNo, copy: FileNo, from: PathBuf) -> Copied {
    let (orders, path) = (pull.orders.clone(), from.clone());
    let opened = blocking(move || open(orders.get(of), &path)).await;
    let (file, layout, known) = match opened {
        Ok((file, known)) => match Layout::of(known.id.size) {
            Some(layout) => (Arc::new(file), layout, known),
            None => return Copied::NotBegun(Error::Internal("a file that is too large".to_owned())),
        },
        Err(error) => return Copied::NotBegun(error),
    };
    let FileHash { manifest, zeros, .. } = known;
    if layout.groups() > 1 {
        let zeros = zeros.clone();
        pull.writer.send(Job::Open { file: copy, manifest, zeros, source: LOCAL }).await;
    }
    for group in (0..layout.groups()).filter(|group| !zeros.contains(*group)) {
        let (file, from) = (file.clone(), from.clone());
        let len = usize::try_from(layout.len_of(group)).unwrap_or(usize::MAX);
        let mut bytes = pull.writer.buffer(len);
        let read = blocking(move || {
            bytes.resize(len, 0);
            file.read_exact_at(&mut bytes, layout.offset(group)).map_err(Error::disk(&from))?;
            Ok(bytes)
        });
        match read.await {
            Ok(bytes) => pull.writer.send_group(copy, group, bytes, LOCAL).await,
            Err(error) => return Copied::Failed(error),
        }
    }
    Copied::Sent
}

/// Opens a file that was put in place, and makes sure that it is still the one that was fetched.
fn open(order: Option<&Order>, path: &Path) -> Result<(File, FileHash), Error> {
    let gone = || Error::Internal(format!("{} is not where it was put", safe_path(path)));
    let order = order.ok_or_else(gone)?;
    let folder = order.spot.as_ref().ok_or_else(gone)?.place.existing()?.ok_or_else(gone)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(gone)?;
    let file = folder.open_existing(name).map_err(Error::disk(path))?;
    let known =
        hash_file(&file, &mut KeySearch::new(None), &mut unfollowed).map_err(|why| Error::Internal(why.to_string()))?;
    if known.hash == order.stat.hash { Ok((file, known)) } else { Err(gone()) }
}

#[cfg(test)]
mod tests {
    use shared::ContentHash;
    use shared::peer::FileStat;

    use super::*;
    use crate::engine::fetch::destination::Spot;
    use crate::engine::fetch::writer::EarlierRounds;

    #[test]
    fn each_content_is_fetched_once() {
        let home = tempfile::tempdir().unwrap();
        let order = |name: &str, content: &str, size: u64| {
            let layout = Layout::of(size).unwrap();
            let stat = FileStat::new(name.parse().unwrap(), ContentHash::of(content.as_bytes()), &layout);
            let spot = Some(Spot::alone(home.path(), name, "bob".parse().unwrap()));
            Order { stat, layout, spot, told_as: 0, earlier: EarlierRounds::default() }
        };
        let large = 3 << 20;
        let orders = [
            order("a", "one", large),
            order("b", "two", large),
            order("c", "one", large),
            order("d", "one", large),
            order("e", "small", 5),
            order("f", "small", 5),
        ];
        let mut copies = Copies::among(&orders);
        let mut waiting: Vec<FileNo> = copies.waiting().collect();
        waiting.sort_unstable();
        assert_eq!(waiting, [2, 3]);
        assert_eq!(copies.take(0), [2, 3]);
        assert!(copies.take(0).is_empty() && copies.take(1).is_empty());
        let streamed: Vec<Order> = orders.into_iter().map(|order| Order { spot: None, ..order }).collect();
        assert_eq!(Copies::among(&streamed).waiting().count(), 0);
    }
}
