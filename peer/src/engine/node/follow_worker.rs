//! Follow worker: keeps the copies of followed folders in step as long as the node runs. What it does is in
//! `engine::follow`, which fetches; the node, of which a fetch asks something itself, only begins and ends it.

use tokio_util::sync::CancellationToken;

use crate::engine::event_bus::EventBus;
use crate::engine::follow_news::FollowWaker;
use crate::engine::{Error, LocalUser, run_blocking};

/// Runs until the node stops. A node without follows has no thread for them.
pub(super) async fn run(
    me: LocalUser,
    events: EventBus,
    waker: FollowWaker,
    stop: CancellationToken,
) -> Result<(), Error> {
    loop {
        let profile = me.profile.clone();
        match run_blocking(move || Ok(!profile.follows()?.is_empty())).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => tracing::error!("the follows could not be read: {error}"),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = waker.woken() => {}
        }
    }
    let failed = run_blocking(move || (me.handlers.run_follows)(&me, &events, &waker, &stop)).await;
    if let Err(error) = failed {
        // The rest of the node has nothing to do with it.
        tracing::error!("what is followed is not kept in step: {error}");
    }
    Ok(())
}
