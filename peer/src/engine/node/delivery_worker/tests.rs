//! Tests of a worker whose recipient can't be reached.

use std::pin::pin;

use certs::Identity;

use super::*;
use crate::engine::{chat, now_ms};
use crate::profile::Profile;

#[tokio::test]
async fn who_watches_since_an_attempt_began_gets_the_outcome_of_the_next() {
    let home = tempfile::tempdir().unwrap();
    let profile = Profile::open(home.path()).unwrap();
    let identity = Arc::new(Identity::generate().unwrap());
    let me = LocalUser::without_tracker(profile, identity, "alice".parse().unwrap());
    let (early, late) = (chat::compose("early").unwrap(), chat::compose("late").unwrap());
    let mailbox = Arc::new(Mailbox::new("bob".parse().unwrap()));
    me.profile.store_outgoing(&mailbox.user, &early, now_ms()).unwrap();
    let pool = Arc::new(LinkPool::on_demand(me.clone()));
    let worker = DeliveryWorker::new(me, EventBus::new(), pool, mailbox.clone(), CancellationToken::new());
    let (mut running, mut first) = (pin!(worker.run()), mailbox.watch_message(early.id));
    tokio::select! {
        biased;
        () = &mut running => panic!("the worker has ended"),
        () = std::future::ready(()) => {}
    }
    let mut second = mailbox.watch_message(late.id);
    for (watcher, is_other_waiting) in [(&mut first, true), (&mut second, false)] {
        let outcome = tokio::select! {
            biased;
            outcome = watcher => outcome,
            () = &mut running => panic!("the worker has ended"),
        };
        assert!(matches!(outcome, Ok(DeliveryOutcome::Queued { .. })), "{outcome:?}");
        assert_eq!(mailbox.watched_messages().contains(&late.id), is_other_waiting);
    }
}
