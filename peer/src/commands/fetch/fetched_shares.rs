//! Shares of fetched files (`--share`): partial files during the fetch, whole files after it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::{FileName, GroupLayout};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::engine::fetch::{FetchDestination, FetchEvent, FetchRequest, FileNo, FileOutcome, IfExists};
use crate::profile::{Audience, PartialShare, Profile};
use crate::sys::disk_name;

/// A change of the partial shares, to be written.
#[derive(Debug)]
enum PartialShareChange {
    Put(PartialShare),
    Remove(PathBuf),
}

#[derive(Debug)]
pub(super) struct FetchedShares {
    /// To the writer, which ends without it; at most two for each file of the fetch.
    changes: Option<mpsc::UnboundedSender<PartialShareChange>>,
    /// A thread that may wait for the disk, as the fetch must not.
    writer: JoinHandle<()>,
    /// The users with whom the files are shared.
    audience: Audience,
    /// The folder that shared names are relative to; empty for a stream.
    root: PathBuf,
    /// True if a skipped file has the wanted content, so that it is shared as well.
    skipped_is_same: bool,
    parts: HashMap<FileNo, PathBuf>,
    arrived: Vec<(PathBuf, FileName)>,
    /// Names of files that their owner doesn't share with everybody, and that are therefore not shared here.
    withheld: Vec<String>,
    /// Notified after each new or failed partial share.
    changed: Arc<Notify>,
}

impl FetchedShares {
    /// Starts without shares. Needs a runtime.
    pub(super) fn new(profile: &Profile, request: &FetchRequest, audience: Audience) -> Self {
        let root = match &request.destination {
            FetchDestination::Folder(path) | FetchDestination::FileOrFolder(path) => path.clone(),
            FetchDestination::Stream(_) | FetchDestination::Stdout => PathBuf::new(),
        };
        let skipped_is_same = request.if_exists == IfExists::SkipSame;
        let (changes, received) = mpsc::unbounded_channel();
        let changed = Arc::<Notify>::default();
        let (profile, notified) = (profile.clone(), changed.clone());
        let writer = tokio::task::spawn_blocking(move || write_changes(&profile, received, &notified));
        Self {
            changes: Some(changes),
            writer,
            audience,
            root,
            skipped_is_same,
            parts: HashMap::new(),
            arrived: Vec::new(),
            withheld: Vec::new(),
            changed,
        }
    }

    /// Returns the notification of further partial shares.
    pub(super) fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Returns the names of complete files that are not shared, for their owner doesn't share them with everybody.
    pub(super) fn withheld(&self) -> &[String] {
        &self.withheld
    }

    /// Returns the complete files with the names that they are shared under.
    pub(super) fn into_arrived(self) -> Vec<(PathBuf, FileName)> {
        self.arrived
    }

    /// Waits until all changes are on the disk; there are none afterwards.
    pub(super) async fn finish_writes(&mut self) {
        if self.changes.take().is_some()
            && let Err(why) = (&mut self.writer).await
        {
            tracing::warn!("what is being fetched is not all shared: {why}");
        }
    }

    pub(super) fn handle_event(&mut self, event: &FetchEvent<'_>) {
        match event {
            FetchEvent::Opened { stat, .. } if self.is_withheld(stat.restricted) => {}
            FetchEvent::Opened { file, stat, name, partial_path: part } => {
                let name = offered_name(&self.root, &part.with_file_name(&*disk_name(name)));
                // The node serves the file from another working folder: the path must be absolute.
                let (Some(name), Some(layout), Ok(part)) = (name, GroupLayout::of(stat.size), part.canonicalize())
                else {
                    return;
                };
                let audience = self.audience.clone();
                let (mtime, executable, hash) = (stat.mtime, stat.executable, stat.hash);
                let partial = PartialShare { audience, name, path: part.clone(), layout, mtime, executable, hash };
                self.parts.insert(*file, part);
                self.write(PartialShareChange::Put(partial));
            }
            // The content is outdated at its source: nobody should get more of it from here.
            FetchEvent::Paused { file, .. } => {
                if let Some(part) = self.parts.remove(file) {
                    self.write(PartialShareChange::Remove(part));
                }
            }
            FetchEvent::Finished { report, .. } if self.is_withheld(report.restricted) => match &report.outcome {
                FileOutcome::Done(_) | FileOutcome::Renamed(_) => self.withheld.push(report.name.clone()),
                FileOutcome::Skipped(_) if self.skipped_is_same => self.withheld.push(report.name.clone()),
                _ => {}
            },
            FetchEvent::Finished { file, report } => match &report.outcome {
                FileOutcome::Done(path) | FileOutcome::Renamed(path) => {
                    self.arrived.extend(offered_name(&self.root, path).map(|name| (path.clone(), name)));
                    if let Some(part) = file.and_then(|file| self.parts.remove(&file)) {
                        self.write(PartialShareChange::Remove(part));
                    }
                }
                FileOutcome::Skipped(path) if self.skipped_is_same => {
                    self.arrived.extend(offered_name(&self.root, path).map(|name| (path.clone(), name)));
                }
                FileOutcome::Skipped(_) | FileOutcome::Streamed | FileOutcome::Failed(_) | FileOutcome::Aborted(_) => {}
            },
            _ => {}
        }
    }

    fn write(&self, change: PartialShareChange) {
        if let Some(changes) = &self.changes {
            // Fails only after a panic of the writer, which `finish_writes` tells.
            let _ = changes.send(change);
        }
    }

    /// Returns true for a file that one person or a room shares, and that would be everybody's here.
    const fn is_withheld(&self, restricted: bool) -> bool {
        restricted && self.audience.is_public()
    }
}

/// Writes the changes in their order, until there can be no more. Blocking.
fn write_changes(profile: &Profile, mut changes: mpsc::UnboundedReceiver<PartialShareChange>, changed: &Notify) {
    while let Some(change) = changes.blocking_recv() {
        match change {
            PartialShareChange::Put(partial) => {
                // Sharing is a courtesy: the fetch goes on without it.
                if let Err(why) = profile.put_partial(&partial) {
                    tracing::warn!("{} is offered only when it is whole: {why}", partial.name.display());
                }
                // Keeps a permit while the announcer is busy, so that no part is missed.
                changed.notify_one();
            }
            PartialShareChange::Remove(part) => {
                if let Err(why) = profile.remove_partial(&part) {
                    tracing::warn!("{why}");
                }
            }
        }
    }
}

/// Returns the path relative to the destination, or the file name alone if the destination is the file itself.
fn offered_name(root: &Path, path: &Path) -> Option<FileName> {
    let below = path.strip_prefix(root).ok().filter(|below| !below.as_os_str().is_empty());
    let name = below.or_else(|| path.file_name().map(Path::new))?;
    FileName::from_raw(name.as_os_str().as_encoded_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_keeps_its_folders_and_a_new_name_is_the_name() {
        let name = |root: &str, path: &str| offered_name(Path::new(root), Path::new(path)).unwrap().as_str().to_owned();
        assert_eq!(name("here", "here/tree/sub/a.txt"), "tree/sub/a.txt");
        assert_eq!(name(".", "./tree/a.txt"), "tree/a.txt");
        assert_eq!(name("/x/new.txt", "/x/new.txt"), "new.txt");
        assert_eq!(name("new.txt", "./new.txt"), "new.txt");
        assert_eq!(name("a:b", "./a_b"), "a_b");
    }

    #[tokio::test]
    async fn changes_are_on_the_disk_when_they_are_finished() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(home.path()).unwrap();
        let destination = FetchDestination::Folder(home.path().to_owned());
        let request = FetchRequest::new("bob".parse().unwrap(), Vec::new(), destination, std::time::Duration::ZERO);
        let mut shares = FetchedShares::new(&profile, &request, Audience::Everybody);
        for name in ["a", "b"] {
            shares.write(PartialShareChange::Put(PartialShare {
                audience: Audience::Everybody,
                name: name.parse().unwrap(),
                path: home.path().join(name),
                layout: GroupLayout::of(1).unwrap(),
                mtime: 0,
                executable: false,
                hash: shared::ContentHash::of(b"x"),
            }));
        }
        shares.write(PartialShareChange::Remove(home.path().join("a")));
        shares.finish_writes().await;
        let left: Vec<_> = profile.partials().unwrap().into_iter().map(|partial| partial.path).collect();
        assert_eq!(left, [home.path().join("b")]);
    }
}
