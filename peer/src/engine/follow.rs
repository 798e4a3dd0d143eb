//! Follows: keep copies of other users' folders in step.
//!
//! ```text
//! follow (profile) ─► FollowRunner: link ─► changes ─► listing ─► FollowPlan ─► fetch ─► FollowedFolder
//!                          ▲                   │
//!                          └───────────────────┘   until it is paused, ended, or the key is another
//! ```
//!
//! The source says what is there and what was removed; the record says what was put here; the disk says what is here now.
//! The pure `follow_plan` decides. What only one of them says is never a reason to remove a file.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | follows of a profile, and of one user | [`MAX_FOLLOWS`], [`MAX_FOLLOWS_OF_USER`] | refused |
//! | files of a follow | 100,000, which is what one user can share | the listing is refused |
//! | comparisons at once | `MAX_COMPARISONS` | they wait |
//! | batches of files of one user that are fetched at once | `MAX_FETCHES_OF_USER` | the follows of that user take turns |
//! | links | one to each followed user | |
//! | what is removed, and for how long it is kept | `follow_plan`, `followed_folder` | |

mod batch_fetch;
mod copy_fault;
mod follow_creation;
mod follow_plan;
mod follow_round;
mod follow_runner;
mod followed_folder;
mod source_links;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::UserName;
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::follow_creation::{FollowOrder, begin_follow, end_follow, resume_follow};
use self::follow_runner::{FollowRunner, FollowSignals};
use self::source_links::SourceLinks;
use super::event_bus::EventBus;
use super::follow_news::{FollowChange, FollowNews, FollowWaker};
use super::node_event::NodeEvent;
use super::{Error, LocalUser, run_blocking};
use crate::profile::{Follow, FollowState};

/// Follows of a profile.
pub const MAX_FOLLOWS: usize = 32;
/// Follows of one user: each keeps a stream open.
pub const MAX_FOLLOWS_OF_USER: usize = 8;
/// Comparisons at once.
const MAX_COMPARISONS: usize = 4;
/// Batches of files of one user that are fetched at once.
const MAX_FETCHES_OF_USER: usize = 2;
/// Time for fetches to put away what they have when the node ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// The wait until a follow is begun again whose task failed.
const RESTART_PAUSE: Duration = Duration::from_secs(60);

/// Runs the follows of the profile until the node stops. Blocking: hashing and disk writes must not delay the node, so that
/// the follows have a thread and a runtime of their own.
pub fn run_follows(
    me: &LocalUser,
    events: &EventBus,
    waker: &FollowWaker,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut supervisor = FollowSupervisor::new(me, events, stop)?;
        supervisor.run(waker).await;
        supervisor.end().await;
        Ok(())
    });
    // Dropped, it would wait without end for a disk that hangs.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    ended
}

/// The owner of the tasks of all follows.
struct FollowSupervisor {
    me: LocalUser,
    events: EventBus,
    stop: CancellationToken,
    links: Arc<SourceLinks>,
    slots: Arc<Semaphore>,
    /// The permits for fetches from each user who was followed since the node began.
    fetch_turns: HashMap<UserName, Arc<Semaphore>>,
    running: HashMap<i64, RunningFollow>,
    tasks: JoinSet<()>,
}

struct RunningFollow {
    follow: Follow,
    signals: FollowSignals,
    cancel: CancellationToken,
    task: tokio::task::Id,
}

impl FollowSupervisor {
    fn new(me: &LocalUser, events: &EventBus, stop: &CancellationToken) -> Result<Self, Error> {
        Ok(Self {
            me: me.clone(),
            events: events.clone(),
            stop: stop.child_token(),
            links: Arc::new(SourceLinks::new(me)?),
            slots: Arc::new(Semaphore::new(MAX_COMPARISONS)),
            fetch_turns: HashMap::new(),
            running: HashMap::new(),
            tasks: JoinSet::new(),
        })
    }

    async fn run(&mut self, waker: &FollowWaker) {
        let (mut events, mut hints) = (self.events.subscribe(), self.events.subscribe_catalogue());
        let mut restart_at: Option<Instant> = None;
        loop {
            self.load().await;
            loop {
                let restart_due = async {
                    match restart_at {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = waker.woken() => break,
                    Some(ended) = self.tasks.join_next_with_id() => match ended {
                        Ok((task, ())) => {
                            // Read anew: the follow may have been resumed while it ended.
                            self.remove_ended(task);
                            break;
                        }
                        Err(failure) => {
                            tracing::error!("a follow's task failed: {failure}");
                            self.remove_ended(failure.id());
                            restart_at.get_or_insert(Instant::now() + RESTART_PAUSE);
                        }
                    },
                    () = restart_due => {
                        restart_at = None;
                        break;
                    }
                    event = events.recv() => match event {
                        Ok(NodeEvent::Presence { user, online: true }) => self.look(|of| *of == user),
                        Ok(NodeEvent::Online { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => {
                            self.look(|_| true);
                        }
                        Ok(_) => {}
                        Err(broadcast::error::RecvError::Closed) => return,
                    },
                    hint = hints.recv() => {
                        // After missed hints anybody's files may have changed.
                        let user = hint.ok();
                        let meant = self.running.values().filter(|running| {
                            user.as_ref().is_none_or(|user| running.follow.of.user == *user)
                        });
                        meant.for_each(|running| running.signals.hint.notify_one());
                    }
                }
            }
        }
    }

    fn look(&self, is_meant: impl Fn(&UserName) -> bool) {
        let meant = self.running.values().filter(|running| is_meant(&running.follow.of.user));
        meant.for_each(|running| running.signals.look.notify_one());
    }

    /// Begins what is on record and doesn't run, and ends what isn't any more.
    async fn load(&mut self) {
        let profile = self.me.profile.clone();
        let follows = match run_blocking(move || Ok(profile.follows()?)).await {
            Ok(follows) => follows,
            Err(error) => {
                tracing::error!("the follows could not be read: {error}");
                return;
            }
        };
        // One whose source shows another key waits for the user to decide.
        let is_active = |follow: &Follow| !follow.is_paused && follow.status.state != FollowState::KeyChanged;
        for (number, running) in self.running.iter().filter(|(_, running)| !running.cancel.is_cancelled()) {
            let change = match follows.iter().find(|follow| follow.number == *number) {
                Some(now) if is_active(now) => {
                    running.signals.look.notify_one();
                    continue;
                }
                // Its source has another key: the runner ends by itself, and has told so.
                Some(now) if !now.is_paused => continue,
                Some(_) => FollowChange::Paused,
                None => FollowChange::Ended,
            };
            running.cancel.cancel();
            tell(&self.events, &running.follow, change);
        }
        for follow in follows.into_iter().filter(is_active) {
            // One that is ending still is begun again when it has ended.
            if !self.running.contains_key(&follow.number) {
                self.start(follow);
            }
        }
    }

    fn start(&mut self, follow: Follow) {
        let (signals, cancel) = (FollowSignals::default(), self.stop.child_token());
        let new_turns = || Arc::new(Semaphore::new(MAX_FETCHES_OF_USER));
        let fetch_turns = self.fetch_turns.entry(follow.of.user.clone()).or_insert_with(new_turns).clone();
        let runner = FollowRunner {
            me: self.me.clone(),
            number: follow.number,
            events: self.events.clone(),
            links: self.links.clone(),
            slots: self.slots.clone(),
            fetch_turns,
            signals: signals.clone(),
            cancel: cancel.clone(),
        };
        let task = self.tasks.spawn(runner.run()).id();
        self.running.insert(follow.number, RunningFollow { follow, signals, cancel, task });
    }

    /// Forgets the follow of a task that ended, in whichever way.
    fn remove_ended(&mut self, task: tokio::task::Id) {
        self.running.retain(|_, running| running.task != task);
    }

    async fn end(&mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // The rest is aborted with the set: the next round goes by what is on record.
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await;
        self.links.close().await;
    }
}

fn tell(events: &EventBus, follow: &Follow, change: FollowChange) {
    let (number, user, folder) = (follow.number, follow.of.user.clone(), follow.of.folder.clone());
    events.send(NodeEvent::Follow(FollowNews { number, user, folder, change }));
}
