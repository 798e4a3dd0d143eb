//! Group availability of sources that are still fetching a file themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::GroupSet;
use shared::peer::{PeerErrorCode, PeerReply, PeerRequest};
use tokio::time::Instant;

use super::FileNo;
use super::downloader::{DownloadContext, DownloadEvent};
use super::plan::SourceNo;
use super::writer::FileJob;
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{StreamPriority, with_timeout};

/// Queries in flight at a time.
const QUERIES_IN_FLIGHT: usize = 64;
/// Time for the answers to one batch of queries.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause between two polls of a source.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The groups of a file that a source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GroupAvailability {
    All,
    Partial(GroupSet),
    Nothing,
}

/// Asks `link`'s peer which groups it has of each file. A peer that doesn't know the request has all of each.
pub(super) async fn query_availability(
    link: &Link,
    jobs: &[FileJob],
    files: &[FileNo],
) -> Result<Vec<(FileNo, GroupAvailability)>, StreamError> {
    let mut held = Vec::with_capacity(files.len());
    for some in files.chunks(QUERIES_IN_FLIGHT) {
        let known: Vec<(FileNo, &FileJob)> =
            some.iter().filter_map(|file| jobs.get(*file).map(|job| (*file, job))).collect();
        let asks: Vec<PeerRequest> = known.iter().map(|(_, job)| PeerRequest::Have { hash: job.stat.hash }).collect();
        let Some((first, more)) = asks.split_first() else { continue };
        with_timeout(ANSWER_TIMEOUT, async {
            let (mut sender, mut receiver) = link.open_stream(first, StreamPriority::Request).await?;
            sender.send_frames(more).await?;
            sender.finish();
            for (file, job) in known {
                let groups = job.layout.group_count();
                held.push((
                    file,
                    match receiver.next_answer().await {
                        Ok(answer) if answer == (PeerReply::Have { hash: job.stat.hash, groups }) => {
                            let bytes = receiver.read_bulk_exact(GroupSet::wire_len(groups)).await?;
                            let set = GroupSet::from_bytes(groups, bytes);
                            let set = set.ok_or(StreamError::Unexpected("a set of groups that the file has"))?;
                            if set.is_full() { GroupAvailability::All } else { GroupAvailability::Partial(set) }
                        }
                        Ok(_) => return Err(StreamError::Unexpected("what it has was due")),
                        // An older peer refuses the unknown request; such a peer shares complete files only.
                        Err(StreamError::Refused { code: PeerErrorCode::Protocol, .. }) => GroupAvailability::All,
                        Err(StreamError::Refused { .. }) => GroupAvailability::Nothing,
                        Err(error) => return Err(error),
                    },
                ));
            }
            Ok(())
        })
        .await?;
    }
    Ok(held)
}

/// Polls the groups of a source until it has all of each file, or the link ends. A file of which it gets no more groups
/// within `timeout` is no longer expected from it.
pub(super) async fn watch_availability(
    context: Arc<DownloadContext>,
    link: Link,
    source: SourceNo,
    files: Vec<FileNo>,
    timeout: Duration,
) -> Result<(), StreamError> {
    let now = Instant::now();
    let mut growing: HashMap<FileNo, (u32, Instant)> = files.into_iter().map(|file| (file, (0, now))).collect();
    loop {
        // At each turn: files settle meanwhile, and the task must end with the last of them.
        growing.retain(|file, _| !context.plan.lock().is_settled(*file));
        if growing.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        let files: Vec<FileNo> = growing.keys().copied().collect();
        let now = Instant::now();
        for (file, held) in query_availability(&link, &context.jobs, &files).await? {
            let grew = match held {
                GroupAvailability::All => {
                    let groups = context.jobs.get(file).map_or(0, |job| job.layout.group_count());
                    context.plan.lock().set_groups(source, file, GroupSet::full(groups));
                    growing.remove(&file);
                    true
                }
                GroupAvailability::Partial(groups) => {
                    let count = groups.len();
                    let (before, since) = growing.get(&file).copied().unwrap_or((0, now));
                    if count > before {
                        context.plan.lock().set_groups(source, file, groups);
                        growing.insert(file, (count, now));
                    } else if now.duration_since(since) >= timeout {
                        growing.remove(&file);
                        report_unavailable(&context, source, file, "has only part of it, and gets no more");
                    }
                    count > before
                }
                GroupAvailability::Nothing => {
                    growing.remove(&file);
                    report_unavailable(&context, source, file, "no longer has the part of it that it had");
                    false
                }
            };
            if grew {
                context.plan.announce_work();
            }
        }
    }
}

fn report_unavailable(context: &DownloadContext, source: SourceNo, file: FileNo, why: &str) {
    context.plan.lock().remove_availability(source, file);
    context.send_event(DownloadEvent::FileUnavailable {
        source,
        file,
        // Not `Stale` or `NotFound`, which would make the coordinator resolve the file again.
        code: PeerErrorCode::Busy,
        message: format!("the source {why}").into(),
    });
}
