//! The seats of a door: one for each account that is in use, awake while a browser is there and for a while after.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::UserName;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::door_refusal_answer::all_awake;
use crate::engine::door::{AccountTurns, DoorRefusal, download_folder};
use crate::engine::node::{NodeHandle, NodeLifetime, NodeNeed};
use crate::engine::{Error, LocalUser};
use crate::web::account_seat::{AccountSeat, RestRules, SeatActivity, SeatDisk, SeatTask};
use crate::web::api::{ApiContext, ApiError};

/// Accounts that are online at once. A node takes less than 2 MiB, and a descriptor for each of its links.
pub const MAX_AWAKE_SEATS: usize = 256;
/// Time for a seat that was unused longest to make place.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a seat to end whose place another account of its name takes.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time between two looks for seats that nobody needs any more.
const LONGEST_LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes of an account's uploads together.
const UPLOAD_QUOTA: u64 = 10_000_000_000;
/// Bytes of an account's fetched files together.
const DOWNLOAD_QUOTA: u64 = 10_000_000_000;

/// The seats of a door.
pub(super) struct DoorSeats {
    context: Arc<ApiContext>,
    rules: RestRules,
    turns: AccountTurns,
    table: SeatTable,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The seats by their users. Cheap to clone.
#[derive(Clone, Default)]
struct SeatTable(Arc<Mutex<HashMap<UserName, SeatedAccount>>>);

/// An account that has a seat.
#[derive(Clone)]
struct SeatedAccount {
    seat: Arc<AccountSeat>,
    stop: CancellationToken,
    /// Cancelled when its node has ended and no session leads to it.
    ended: CancellationToken,
}

impl DoorSeats {
    /// Returns none yet. A seat rests after nobody was there for `stay`.
    pub(super) fn new(context: Arc<ApiContext>, stay: Duration, stop: CancellationToken) -> Self {
        let (awake, pressure) = (Arc::new(Semaphore::new(MAX_AWAKE_SEATS)), Arc::new(Notify::new()));
        let (rules, table) = (RestRules { after: stay, awake, pressure }, SeatTable::default());
        let tasks = TaskTracker::new();
        // Tokio's intervals panic at zero.
        let look_interval = stay.clamp(Duration::from_secs(1), LONGEST_LOOK_INTERVAL);
        tasks.spawn(tend(table.clone(), context.clone(), rules.pressure.clone(), look_interval, stop.clone()));
        Self { context, rules, turns: AccountTurns::default(), table, tasks, stop }
    }

    /// Opens a session at the account's seat, which is awake. Fails if it can't go online, or everybody's place is in use.
    pub(super) async fn sit_down<T>(
        &self,
        me: LocalUser,
        open_session: impl FnOnce(Arc<AccountSeat>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        // Two browsers of one user: one node is opened.
        let _turn = self.turns.take(&me.user).await;
        let user = me.user.clone();
        let seat = self.seat_of(me).await?;
        let opened = open_session(seat.clone())?;
        // Looked at after that: the sessions of a seat end after it left the table, and this one may have begun later.
        if self.table.find(&user).is_none_or(|seated| seated.seat != seat) {
            self.context.sessions.lock().end_seat(&seat);
            return Err(ApiError::no_node());
        }
        Ok(opened)
    }

    /// Returns the account's seat, awake.
    async fn seat_of(&self, me: LocalUser) -> Result<Arc<AccountSeat>, ApiError> {
        if let Some(seated) = self.table.find(&me.user) {
            // The key was released, and the name is perhaps another person's: the seat may rest for a long time after that.
            if seated.seat.me.identity.fingerprint() == me.identity.fingerprint() {
                let is_awake = seated.seat.activity.call().await;
                match (seated.seat.has_ended(), is_awake) {
                    (true, _) => {}
                    (false, true) => return Ok(seated.seat),
                    (false, false) => return Err(all_awake()),
                }
            }
            seated.stop.cancel();
            // Its node holds the profile until then.
            let ended = tokio::time::timeout(END_TIMEOUT, seated.ended.cancelled()).await;
            ended.map_err(|_| ApiError::no_node())?;
        }
        self.open_seat(me).await
    }

    async fn open_seat(&self, me: LocalUser) -> Result<Arc<AccountSeat>, ApiError> {
        // Before the node opens: the bound counts nodes, and an open one has taken its memory and descriptors.
        let permit = self.place().await.ok_or_else(all_awake)?;
        let activity = SeatActivity::resting(self.rules.clone(), permit);
        let (user, stop) = (me.user.clone(), self.stop.child_token());
        let node = NodeHandle::open(&me, NodeNeed::Online(NodeLifetime::View)).await.map_err(|why| match why {
            // It moved since its password was checked.
            Error::AccountMoved { user, .. } | Error::SignedOut { user, .. } => {
                ApiError::from(DoorRefusal::MoveNeeded { user })
            }
            why => why.into(),
        })?;
        let folder = download_folder(me.profile.home());
        let hidden = self.context.hidden.clone();
        let disk = SeatDisk { folder, quota: UPLOAD_QUOTA, download_quota: DOWNLOAD_QUOTA, hidden };
        let (seat, task) = AccountSeat::take_at_door(me, node, disk, activity, &stop).await?;
        let seated = SeatedAccount { seat: seat.clone(), stop, ended: CancellationToken::new() };
        self.table.insert(user.clone(), seated.clone());
        self.tasks.spawn(run_seat(task, user, seated, self.table.clone(), self.context.clone()));
        Ok(seat)
    }

    /// Ends all seats in order.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Returns a place among the seats that are awake. If all are taken, the seat that was unused longest makes one.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(PLACE_TIMEOUT, self.rules.place()).await.ok()?
    }
}

impl SeatTable {
    fn find(&self, user: &UserName) -> Option<SeatedAccount> {
        self.0.lock().get(user).cloned()
    }

    fn insert(&self, user: UserName, seated: SeatedAccount) {
        self.0.lock().insert(user, seated);
    }

    /// Takes a seat out, unless another one is in its place.
    fn remove(&self, user: &UserName, seat: &Arc<AccountSeat>) {
        let mut seats = self.0.lock();
        if seats.get(user).is_some_and(|seated| Arc::ptr_eq(&seated.seat, seat)) {
            seats.remove(user);
        }
    }

    /// Has the seat rest that nobody has used for the longest time and that has nothing to do.
    fn evict_longest_unused(&self) {
        let seats = self.0.lock();
        let idle = seats.values().filter(|seated| !seated.seat.is_working());
        let unused = idle.filter_map(|seated| Some((seated.seat.activity.idle_time()?, seated)));
        if let Some((_, seated)) = unused.max_by_key(|(time, _)| *time) {
            seated.seat.activity.evict();
        }
    }

    /// Ends the seats that rest and to which no session leads.
    fn end_abandoned(&self, context: &ApiContext) {
        // Copied, so that the lock of the seats is never held together with that of the sessions.
        let resting: Vec<(UserName, SeatedAccount)> = {
            let seats = self.0.lock();
            let resting = seats.iter().filter(|(_, seated)| seated.seat.activity.is_resting());
            resting.map(|(user, seated)| (user.clone(), seated.clone())).collect()
        };
        for (user, SeatedAccount { stop, .. }) in resting {
            if context.sessions.lock().count_of(&user, Instant::now()) == 0 {
                stop.cancel();
            }
        }
    }
}

async fn run_seat(task: SeatTask, user: UserName, seated: SeatedAccount, table: SeatTable, context: Arc<ApiContext>) {
    let SeatedAccount { seat, ended, .. } = seated;
    let _ended = ended.drop_guard();
    if let Err(why) = task.run().await {
        tracing::info!(%user, "a seat ended: {why}");
    }
    table.remove(&user, &seat);
    // A session without its seat leads nowhere: the account moved, or its node failed.
    context.sessions.lock().end_seat(&seat);
}

/// Makes place when it is needed, and ends seats that nobody needs any more.
async fn tend(
    table: SeatTable,
    context: Arc<ApiContext>,
    pressure: Arc<Notify>,
    look_interval: Duration,
    stop: CancellationToken,
) {
    let mut looks = tokio::time::interval(look_interval);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = pressure.notified() => table.evict_longest_unused(),
            _ = looks.tick() => table.end_abandoned(&context),
        }
    }
}
