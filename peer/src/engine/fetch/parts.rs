//! What sources have that are still fetching a file themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::GroupSet;
use shared::peer::{Answer, Ask, Code};
use tokio::time::Instant;

use super::FileNo;
use super::plan::SourceNo;
use super::puller::{News, Pull};
use super::writer::Order;
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{Priority, within};

/// Questions on their way at once.
const AT_ONCE: usize = 64;
/// For the answers to them.
const ANSWER: Duration = Duration::from_secs(15);
/// Between two looks at what a source has by now.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a source has of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    All,
    Some(GroupSet),
    Nothing,
}

/// Asks what `link`'s peer has of each of these files. One that doesn't know the question has all of each.
pub(super) async fn ask(link: &Link, orders: &[Order], files: &[FileNo]) -> Result<Vec<(FileNo, Held)>, StreamError> {
    let mut held = Vec::with_capacity(files.len());
    for some in files.chunks(AT_ONCE) {
        let known: Vec<(FileNo, &Order)> =
            some.iter().filter_map(|file| orders.get(*file).map(|order| (*file, order))).collect();
        let asks: Vec<Ask> = known.iter().map(|(_, order)| Ask::Have { hash: order.stat.hash }).collect();
        let Some((first, more)) = asks.split_first() else { continue };
        within(ANSWER, async {
            let (mut sender, mut receiver) = link.open(first, Priority::Request).await?;
            sender.frames(more).await?;
            sender.finish();
            for (file, order) in known {
                let groups = order.layout.groups();
                held.push((
                    file,
                    match receiver.answer().await {
                        Ok(answer) if answer == (Answer::Have { hash: order.stat.hash, groups }) => {
                            let bytes = receiver.bulk_exact(GroupSet::wire_len(groups)).await?;
                            let set = GroupSet::from_bytes(groups, bytes);
                            let set = set.ok_or(StreamError::Unexpected("a set of groups that the file has"))?;
                            if set.is_all() { Held::All } else { Held::Some(set) }
                        }
                        Ok(_) => return Err(StreamError::Unexpected("what it has was due")),
                        Err(StreamError::Answered { code: Code::Protocol, .. }) => Held::All,
                        Err(StreamError::Answered { .. }) => Held::Nothing,
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

/// Looks again and again what a source has by now of these files, until it has all of each, or the link ends. A file of
/// which it gets nothing more for as long as `patience` is no longer expected of it.
pub(super) async fn watch(
    pull: Arc<Pull>,
    link: Link,
    source: SourceNo,
    files: Vec<FileNo>,
    patience: Duration,
) -> Result<(), StreamError> {
    let now = Instant::now();
    let mut growing: HashMap<FileNo, (u32, Instant)> = files.into_iter().map(|file| (file, (0, now))).collect();
    loop {
        growing.retain(|file, _| !pull.plan().is_settled(*file));
        if growing.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let files: Vec<FileNo> = growing.keys().copied().collect();
        let now = Instant::now();
        for (file, held) in ask(&link, &pull.orders, &files).await? {
            let grew = match held {
                Held::All => {
                    let groups = pull.orders.get(file).map_or(0, |order| order.layout.groups());
                    pull.plan().has_groups(source, file, GroupSet::all(groups));
                    growing.remove(&file);
                    true
                }
                Held::Some(groups) => {
                    let count = groups.len();
                    let (before, since) = growing.get(&file).copied().unwrap_or((0, now));
                    if count > before {
                        pull.plan().has_groups(source, file, groups);
                        growing.insert(file, (count, now));
                    } else if now.duration_since(since) >= patience {
                        growing.remove(&file);
                        give_up(&pull, source, file, "has only part of it, and gets no more");
                    }
                    count > before
                }
                Held::Nothing => {
                    growing.remove(&file);
                    give_up(&pull, source, file, "no longer has the part of it that it had");
                    false
                }
            };
            if grew {
                pull.work.notify_waiters();
            }
        }
    }
}

fn give_up(pull: &Pull, source: SourceNo, file: FileNo, why: &str) {
    pull.plan().unavailable(source, file);
    pull.tell(News::Unavailable { source, file, code: Code::Busy, message: format!("the source {why}").into() });
}
