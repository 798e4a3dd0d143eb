//! What sources have: their answers about the groups of files. A source that is still fetching a file itself is asked
//! again and again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use localization::tr;
use shared::GroupSet;
use shared::peer::{PeerErrorCode, PeerReply, PeerRequest};
use tokio::time::{Instant, sleep};

use crate::engine::fetch::FileNo;
use crate::engine::fetch::downloader::{DownloadContext, DownloadEvent};
use crate::engine::fetch::plan::SourceNo;
use crate::engine::fetch::writer::FileJob;
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{StreamPriority, with_timeout};
use crate::util::Backoff;

/// Queries in flight at a time.
const QUERIES_IN_FLIGHT: usize = 64;
/// Time for the answers to one batch of queries.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause between two polls of the groups that a source has.
const AVAILABILITY_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Polls that may fail one after another, and the longest pause after one.
const MAX_FAILED_POLLS: u32 = 3;
const MAX_POLL_PAUSE: Duration = Duration::from_secs(4);

/// Asks `link`'s peer which groups it has of each file; `None` for a file that it doesn't have. A peer that doesn't
/// know the request has all groups of each.
pub(super) async fn query_availability(
    link: &Link,
    jobs: &[FileJob],
    files: &[FileNo],
) -> Result<Vec<(FileNo, Option<GroupSet>)>, StreamError> {
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
                let has = match receiver.next_answer().await {
                    Ok(answer) if answer == (PeerReply::Have { hash: job.stat.hash, groups }) => {
                        let bytes = receiver.read_bulk_exact(GroupSet::wire_len(groups)).await?;
                        let set = GroupSet::from_bytes(groups, bytes);
                        Some(set.ok_or(StreamError::Unexpected("a set of groups that the file has"))?)
                    }
                    Ok(_) => return Err(StreamError::Unexpected("what it has was due")),
                    // An older peer refuses the unknown request; such a peer shares complete files only.
                    Err(StreamError::Refused { code: PeerErrorCode::Protocol, .. }) => Some(GroupSet::full(groups)),
                    Err(StreamError::Refused { .. }) => None,
                    Err(error) => return Err(error),
                };
                held.push((file, has));
            }
            Ok(())
        })
        .await?;
    }
    Ok(held)
}

/// Polls the groups of a source until it has all of each file. A file of which it gets no more groups within `timeout`
/// is no longer expected from it. Fails when the link ends, or with the last error of [`MAX_FAILED_POLLS`] polls.
pub(in crate::engine::fetch) async fn watch_availability(
    context: Arc<DownloadContext>,
    link: Link,
    source: SourceNo,
    files: Vec<FileNo>,
    timeout: Duration,
) -> Result<(), StreamError> {
    let now = Instant::now();
    let mut growing: HashMap<FileNo, (u32, Instant)> = files.into_iter().map(|file| (file, (0, now))).collect();
    let mut attempts = PollAttempts::new();
    loop {
        // At each turn: files settle meanwhile, and the task must end with the last of them.
        growing.retain(|file, _| !context.plan.lock().is_settled(*file));
        if growing.is_empty() {
            return Ok(());
        }
        tokio::select! {
            () = sleep(attempts.next_pause()) => {}
            // Without a link there is nothing to try again.
            why = link.closed() => return Err(StreamError::Link(why)),
        }
        let files: Vec<FileNo> = growing.keys().copied().collect();
        let now = Instant::now();
        let polled = query_availability(&link, &context.jobs, &files).await;
        for (file, held) in attempts.take(polled)?.unwrap_or_default() {
            let Some(groups) = held else {
                growing.remove(&file);
                report_unavailable(&context, source, file, tr!("the source no longer has the part of it that it had"));
                continue;
            };
            let (count, is_full) = (groups.len(), groups.is_full());
            let (before, since) = growing.get(&file).copied().unwrap_or((0, now));
            let has_more = is_full || count > before;
            if has_more {
                context.plan.lock().set_groups(source, file, groups);
                context.plan.announce_work();
                growing.insert(file, (count, now));
            }
            if is_full {
                growing.remove(&file);
            } else if !has_more && now.duration_since(since) >= timeout {
                growing.remove(&file);
                report_unavailable(&context, source, file, tr!("the source has only part of it, and gets no more"));
            }
        }
    }
}

/// The polls of a source, of which a few may fail: an answer that comes late is no reason to lose the source.
struct PollAttempts {
    failed: u32,
    pauses: Backoff,
}

impl PollAttempts {
    fn new() -> Self {
        Self { failed: 0, pauses: Backoff::new(AVAILABILITY_POLL_INTERVAL, MAX_POLL_PAUSE) }
    }

    /// Returns the pause before the next poll.
    fn next_pause(&mut self) -> Duration {
        if self.failed == 0 { AVAILABILITY_POLL_INTERVAL } else { self.pauses.next_delay() }
    }

    /// Takes the outcome of a poll; `None` for a failed one that is to be repeated. Fails with the last of too many.
    fn take<T>(&mut self, outcome: Result<T, StreamError>) -> Result<Option<T>, StreamError> {
        match outcome {
            Ok(held) => {
                *self = Self::new();
                Ok(Some(held))
            }
            Err(error) => {
                self.failed += 1;
                if self.failed >= MAX_FAILED_POLLS {
                    return Err(error);
                }
                tracing::debug!("what a source has isn't known: {error}");
                Ok(None)
            }
        }
    }
}

fn report_unavailable(context: &DownloadContext, source: SourceNo, file: FileNo, why: String) {
    context.plan.lock().remove_availability(source, file);
    context.send_event(DownloadEvent::FileUnavailable {
        source,
        file,
        // Not `Stale` or `NotFound`, which would make the session put the file aside, to be resolved again.
        code: PeerErrorCode::Busy,
        message: why.into(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_answers_no_poll_is_lost_after_a_few() {
        let mut attempts = PollAttempts::new();
        let late = || Err::<(), _>(StreamError::Timeout(ANSWER_TIMEOUT));
        for _ in 0..2 {
            for failed in 1..MAX_FAILED_POLLS {
                assert!(matches!(attempts.take(late()), Ok(None)), "{failed}");
            }
            assert!(matches!(attempts.take(Ok(())), Ok(Some(()))));
        }
        assert_eq!(attempts.next_pause(), AVAILABILITY_POLL_INTERVAL);
        for _ in 1..MAX_FAILED_POLLS {
            assert!(attempts.take(late()).is_ok());
            assert!(attempts.next_pause() <= MAX_POLL_PAUSE);
        }
        assert!(matches!(attempts.take(late()), Err(StreamError::Timeout(_))));
    }
}
